// An SAE at a chosen moment of its training: the slider and the text ask for what fires then. Told by training.js what there is; at its right
// end the slider follows the training.
"use strict";
{
  const place = document.querySelector("#learning"), blank = document.querySelector("#learning-blank");
  const sections = new Map();
  const soon = (wait, work) => { let timer; return () => { clearTimeout(timer); timer = setTimeout(work, wait); }; };

  // The first is open, and what is not finished; what is closed asks for nothing until it is opened.
  function make(name, points) {
    let section = [...place.children].find((one) => one.dataset.sae === name);
    if (!section) {
      section = blank.content.firstElementChild.cloneNode(true);
      section.open = !place.children.length || !points[points.length - 1].finished;
      section.dataset.sae = name;
      section.querySelector(".which").textContent = name;
      section.querySelector("[name=sae]").value = name;
      place.append(section);
    }
    const form = section.querySelector("form"), slider = form.elements.at;
    const made = { section, form, slider, points: [], newest: 0, stale: false, follows: slider.value === slider.max };
    const slid = soon(60, () => show(made)), typed = soon(200, () => show(made));
    slider.addEventListener("input", () => { made.follows = slider.value === slider.max; say(made); slid(); });
    form.elements.text.addEventListener("input", typed);
    form.addEventListener("submit", (event) => { event.preventDefault(); show(made); });
    section.addEventListener("toggle", () => { if (section.open && made.stale) show(made); });
    sections.set(name, made);
    return made;
  }

  function say({ section, slider, points }) {
    const { when } = points[Number(slider.value)];
    section.querySelector(".when").textContent = when;
    slider.setAttribute("aria-valuetext", when);
  }

  // Only the newest question may write.
  async function show(made) {
    made.stale = false;
    const mine = ++made.newest, target = made.section.querySelector(".then");
    target.classList.add("busy");
    let html;
    try {
      html = await (await fetch(made.form.dataset.fragment + "?" + new URLSearchParams(new FormData(made.form)))).text();
    } catch {
      html = "<p class=\"note\">The server does not answer. Is monosem explore still running?</p>";
    }
    if (mine !== made.newest) return;
    target.innerHTML = html;
    target.classList.remove("busy");
  }

  document.addEventListener("trainings", ({ detail }) => {
    for (const [name, made] of sections) {
      // Its training begins anew: there is nothing of it until the first snapshot.
      if (!detail.learning.some((one) => one.sae === name)) { made.section.remove(); sections.delete(name); }
    }
    for (const { sae, points } of detail.learning) {
      const made = sections.get(sae) || make(sae, points);
      const whens = (list) => list.map((point) => point.when).join();
      if (whens(made.points) === whens(points)) continue;
      made.points = points;
      made.slider.max = points.length - 1;
      if (made.follows) made.slider.value = made.slider.max;
      say(made);
      made.stale = true;
      if (made.section.open) show(made);
    }
  });
}
