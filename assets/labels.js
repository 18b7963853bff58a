// Labels: who writes is remembered; in a list a label is written in its place (the pencil or the key e), on a page any label can be taken up.
"use strict";
{
  const remembered = () => { try { return localStorage.getItem("author") || ""; } catch { return ""; } };
  const remember = (name) => { try { localStorage.setItem("author", name); } catch { /* private window: asked for again */ } };

  const author = document.querySelector("#author");
  if (author) {
    author.value = author.value || remembered();
    author.form.addEventListener("submit", () => remember(author.value));
  }
  document.querySelectorAll(".whoami").forEach((field) => { field.value = remembered(); });

  // in a list
  const write = (row) => {
    const cell = row.querySelector(".name");
    if (!cell || cell.querySelector("form")) return;
    const old = [...cell.childNodes];
    const form = document.createElement("form");
    form.className = "inplace";
    const text = Object.assign(document.createElement("input"), { value: row.dataset.label, maxLength: 500, placeholder: "what it answers to" });
    text.setAttribute("aria-label", "Label");
    const who = Object.assign(document.createElement("input"), { value: remembered(), maxLength: 80, required: true, placeholder: "your name", size: 9 });
    who.setAttribute("aria-label", "Author");
    form.append(text, who, Object.assign(document.createElement("button"), { textContent: "Save" }));
    const leave = () => { cell.replaceChildren(...old); row.querySelector("a").focus(); };
    form.addEventListener("keydown", (event) => { event.stopPropagation(); if (event.key === "Escape") leave(); });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      remember(who.value);
      const answer = await fetch("/api" + row.dataset.href + "/label", {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ text: text.value, author: who.value }),
      }).catch(() => null);
      if (!answer || !answer.ok) { form.append(Object.assign(document.createElement("small"), { textContent: "It could not be kept.", className: "bad" })); return; }
      const labels = await answer.json();
      row.dataset.label = labels.current;
      leave();
      const shown = document.createElement(labels.current ? "a" : "span");
      if (labels.current) shown.href = row.dataset.href; else shown.className = "none";
      shown.textContent = labels.current || "no label";
      cell.replaceChildren(shown, " ", ...old.filter((node) => node.nodeType === 1 && node.matches("button")));
    });
    cell.replaceChildren(form);
    (who.value ? text : who).focus();
  };
  document.addEventListener("click", (event) => {
    const pencil = event.target.closest("button.edit");
    if (!pencil) return;
    const row = pencil.closest("tr[data-href]");
    if (row) { event.preventDefault(); write(row); return; }
    document.querySelector("#text").value = pencil.dataset.text;
    author.value = pencil.dataset.author;
    document.querySelector("#text").focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    const row = document.querySelector(".list tr.here");
    const star = document.querySelector(".star button");
    if (event.key === "e" && row) { event.preventDefault(); write(row); }
    else if (event.key === "e" && document.querySelector(".labelform")) { event.preventDefault(); document.querySelector("#text").focus(); }
    else if (event.key === "b" && star) star.click();
  });
}
