// Steering: several features in one form, texts that appear while they are written, a sweep over strengths. The address always says the edit.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const form = document.querySelector("#steer"), edits = document.querySelector("#edits");
  if (!form) return;
  const part = (name, within = form) => within.querySelector(`[data-part=${name}]`);
  const rows = () => [...edits.querySelectorAll(".edit")];

  // Rules whose number is a factor, and those without one.
  const FACTOR = ["scale", "project"], NONE = ["zero", "mean"];
  function one(row) {
    const rule = part("rule", row).value;
    const edit = { latent: Number(row.querySelector("[name=feature]").value), rule };
    if (!NONE.includes(rule)) edit.value = Number(row.querySelector("[name=strength]").dataset.exact ?? row.querySelector("[name=strength]").value);
    if (part("only", row).checked) edit.only_active = true;
    const unit = part("unit", row).value, has = !NONE.includes(rule) && !FACTOR.includes(rule);
    if (has && unit !== "max") edit.unit = unit;
    // What an address wrote down, so that it says the same again.
    if (has && unit === "max" && row.dataset.max) edit.max_act = Number(row.dataset.max);
    return edit;
  }
  // One feature held at a multiple of its maximum, everywhere: what an address says without an edit, and whose strength can be found.
  function plain() {
    const all = rows().map(one);
    return all.length === 1 && all[0].rule === "set" && !all[0].unit && !all[0].only_active && part("scope").value === "all" && !part("drop").checked && !rested();
  }
  // The tokens that an edit in the address rests after; none where the edit is to find them, or not to rest.
  const rested = () => form.elements.rests.checked && form.dataset.rest;
  function query() {
    const asked = new URLSearchParams(), all = rows().map(one);
    const drop = part("drop").checked, from = part("scope").value === "from";
    const scope = from ? { from: Number(form.dataset.from) } : part("scope").value;
    if (plain()) {
      asked.set("feature", all[0].latent);
      asked.set("strength", all[0].value);
      if (all[0].max_act) asked.set("max_act", all[0].max_act);
      if (form.dataset.hash) asked.set("weights_hash", form.dataset.hash);
      if (form.elements.auto.checked) asked.set("auto", "true");
    } else {
      const edit = { scope, keep_error: !drop, edits: all };
      if (form.dataset.hash) edit.weights_hash = form.dataset.hash;
      if (rested()) edit.rest_after = JSON.parse(form.dataset.rest);
      asked.set("edit", JSON.stringify(edit));
    }
    if (form.elements.rests.checked && !form.dataset.rest) asked.set("rests", "true");
    for (const name of ["prompt", "tokens", "temperature", "seed"]) asked.set(name, form.elements[name].value);
    for (const name of ["stop", "top_k", "top_p"]) if (form.elements[name]?.value) asked.set(name, form.elements[name].value);
    return asked.toString();
  }

  function show() {
    const several = rows().length > 1;
    form.elements.auto.disabled = !plain();
    const found = form.elements.auto.checked && plain();
    for (const row of rows()) {
      const rule = part("rule", row).value, slider = row.querySelector("[name=strength]");
      const number = slider.dataset.exact ?? slider.value;
      slider.disabled = NONE.includes(rule);
      part("unit", row).disabled = NONE.includes(rule) || FACTOR.includes(rule);
      const unit = { act: "", norm: " × the usual length" }[part("unit", row).value] ?? " × its maximum" + (rule === "set" ? " (0 removes the feature)" : "");
      row.querySelector(".strength").textContent = found ? "to be found" : NONE.includes(rule) ? "none" : FACTOR.includes(rule) ? "factor " + number : number + unit;
      slider.style.opacity = slider.disabled || found ? 0.35 : 1;
      part("remove", row).hidden = !several;
    }
  }
  // An address may ask for more than the slider reaches: what it says stands until the slider is moved.
  for (const row of rows()) {
    const slider = row.querySelector("[name=strength]"), said = slider.dataset.said;
    if (Number(said) !== Number(slider.value)) slider.dataset.exact = said;
  }
  form.addEventListener("input", (event) => {
    if (event.target.name === "strength") delete event.target.dataset.exact;
    // Another feature promotes other tokens.
    if (event.target.name === "feature") {
      delete form.dataset.rest;
      delete event.target.closest(".edit").dataset.max;
    }
    show();
  });
  document.querySelector("#more").addEventListener("click", () => {
    const last = rows().at(-1), row = last.cloneNode(true);
    for (const name of ["rule", "unit"]) part(name, row).value = part(name, last).value;
    delete row.dataset.max;
    row.querySelector("[name=feature]").value = "";
    edits.append(row);
    show();
    row.querySelector("[name=feature]").focus();
  });
  edits.addEventListener("click", (event) => {
    if (!event.target.matches("[data-part=remove]") || rows().length < 2) return;
    event.target.closest(".edit").remove();
    show();
  });
  show();

  // What the edit does to the next token, while it is set: the last answer that was asked for is the one that stands.
  const next = document.querySelector("#next");
  let asked = 0, waits = 0;
  async function look() {
    const own = ++asked;
    try {
      const answer = await fetch(form.dataset.next + "?" + query(), { headers: { "X-Fragment": "1" } });
      const html = answer.ok ? await answer.text() : "";
      if (own === asked) next.innerHTML = html;
    } catch {
      if (own === asked) next.replaceChildren();
    }
  }
  form.addEventListener("input", () => {
    clearTimeout(waits);
    if (!form.checkValidity()) return;
    waits = setTimeout(look, 60);
  });

  // The texts, token by token; then the whole result.
  const result = document.querySelector("#result"), swept = document.querySelector("#swept");
  let source = null;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const asked = query();
    history.replaceState(null, "", form.getAttribute("action") + "?" + asked);
    if (source) source.close();
    const side = (name) => {
      const said = document.createElement("p");
      said.className = "said";
      said.dir = "auto";
      const prompt = document.createElement("span");
      prompt.className = "prompt";
      prompt.textContent = form.elements.prompt.value;
      said.append(prompt);
      const card = document.createElement("section");
      card.className = "card";
      const head = document.createElement("header"), title = document.createElement("h2");
      title.textContent = name;
      head.append(title);
      card.append(head, said);
      return card;
    };
    const two = document.createElement("div"), sides = { unedited: side("Unedited"), edited: side("Edited") };
    two.className = "two writing";
    two.append(sides.unedited, sides.edited);
    result.replaceChildren(two);
    swept.replaceChildren();
    const own = source = new EventSource(form.dataset.stream + "?" + asked);
    own.addEventListener("token", (message) => {
      const { side, text } = JSON.parse(message.data);
      sides[side].querySelector(".said").append(text);
    });
    const end = (html) => { own.close(); if (own === source) result.innerHTML = html; };
    own.addEventListener("done", (message) => end(message.data));
    own.onerror = () => { if (own === source) end("<p class=\"note\">The server does not answer. Is monosem explore still running?</p>"); };
  });

  const sweep = document.querySelector("#sweep");
  sweep.addEventListener("click", async () => {
    if (!form.reportValidity()) return;
    sweep.disabled = true;
    swept.innerHTML = "<p class=\"faint\">Writing texts at several strengths …</p>";
    try {
      const answer = await fetch(form.dataset.sweep + "?" + query() + "&count=" + encodeURIComponent(part("count").value), { headers: { "X-Fragment": "1" } });
      swept.innerHTML = await answer.text();
    } catch {
      swept.innerHTML = "<p class=\"note\">The server does not answer. Is monosem explore still running?</p>";
    }
    sweep.disabled = false;
  });
});
