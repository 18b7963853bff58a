// The search box of the frame: what is found appears beneath it while one types; arrows choose, Enter opens, Escape closes.
"use strict";
{
  const box = document.querySelector("#search");
  const found = document.querySelector("#found");
  let newest = 0, timer, here = -1;

  const options = () => [...found.querySelectorAll("[role=option]")];
  const close = () => { found.hidden = true; here = -1; box.setAttribute("aria-expanded", "false"); box.removeAttribute("aria-activedescendant"); };
  const choose = (to) => {
    const all = options();
    if (!all.length) return;
    here = (to + all.length + 1) % (all.length + 1);
    all.forEach((option, i) => option.classList.toggle("here", i === here));
    const option = all[here];
    // One past the last is the box itself: Enter then opens the list.
    if (option) { box.setAttribute("aria-activedescendant", option.id); option.scrollIntoView({ block: "nearest" }); }
    else box.removeAttribute("aria-activedescendant");
  };
  const look = async () => {
    const mine = ++newest;
    if (!box.value.trim()) return close();
    let html;
    try { html = await (await fetch("/search?q=" + encodeURIComponent(box.value), { headers: { "X-Fragment": "1" } })).text(); } catch { return close(); }
    if (mine !== newest || document.activeElement !== box) return;
    found.innerHTML = html;
    here = -1;
    found.hidden = false;
    box.setAttribute("aria-expanded", "true");
  };
  box.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(look, 70); });
  box.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" && found.hidden) look();
    else if (event.key === "ArrowDown") choose(here < 0 ? 0 : here + 1);
    else if (event.key === "ArrowUp") choose(here < 0 ? options().length - 1 : here - 1);
    else if (event.key === "Escape" && !found.hidden) { close(); event.stopPropagation(); }
    else if (event.key === "Enter" && options()[here]) location.href = options()[here].href;
    else return;
    event.preventDefault();
  });
  box.addEventListener("blur", () => setTimeout(() => { const at = document.activeElement; if (at !== box && !found.contains(at)) close(); }, 150));
}
