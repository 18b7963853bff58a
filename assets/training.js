// Trainings as they go: a curve for each figure, a slider over the logged steps. Asks again while a training has not ended.
"use strict";
{
  const place = document.querySelector("#trainings");
  const W = 300, H = 90;
  const shown = ["loss", "held_out_loss", "fvu", "l0", "dead_frac", "grad_norm", "lr", "tokens_per_s", "rows_per_s"];
  const text = (x) => x === null || x === undefined ? "-" : Number(x.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });
  const sections = new Map();

  function make(log) {
    const section = document.createElement("section");
    section.className = "group training";
    const name = Object.assign(document.createElement("h2"), { textContent: log.name });
    const said = Object.assign(document.createElement("small"), { className: "num" });
    const header = document.createElement("header");
    header.append(name, said);
    const slider = Object.assign(document.createElement("input"), { type: "range", min: 0, value: 0 });
    slider.setAttribute("aria-label", "Step of " + log.name);
    const plots = document.createElement("div");
    plots.className = "plots";
    section.append(header, slider, plots);
    place.append(section);
    const made = { log, said, slider, plots, follows: true };
    slider.addEventListener("input", () => { made.follows = Number(slider.value) === Number(slider.max); mark(made); });
    sections.set(log.name, made);
    return made;
  }

  function draw(made) {
    const { log, plots } = made;
    plots.replaceChildren();
    for (const field of shown) {
      const column = log.columns[log.fields.indexOf(field)];
      if (!column || !column.some((v) => v !== null)) continue;
      const values = column.filter((v) => v !== null);
      const low = Math.min(...values), high = Math.max(...values), n = column.length;
      const x = (i) => (n > 1 ? W * i / (n - 1) : 0), y = (v) => H - 4 - (H - 8) * (high > low ? (v - low) / (high - low) : 0.5);
      const points = column.map((v, i) => v === null ? null : x(i).toFixed(1) + "," + y(v).toFixed(1)).filter(Boolean);
      const figure = document.createElement("figure");
      const svg = (tag, attributes) => { const node = document.createElementNS("http://www.w3.org/2000/svg", tag); for (const key in attributes) node.setAttribute(key, attributes[key]); return node; };
      const plot = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": field + " over steps" });
      const line = svg("line", { y1: 0, y2: H, class: "at" }), dot = svg("circle", { r: 3 });
      plot.append(svg("polyline", { points: points.join(" ") }), line, dot);
      const caption = document.createElement("figcaption");
      const value = Object.assign(document.createElement("b"), { className: "num" });
      caption.append(field + " ", value);
      figure.append(caption, plot);
      figure.at = (i) => {
        const v = column[i];
        value.textContent = text(v);
        line.setAttribute("x1", x(i)); line.setAttribute("x2", x(i));
        dot.setAttribute("cx", x(i)); dot.setAttribute("cy", v === null ? -9 : y(v));
      };
      plots.append(figure);
    }
  }

  function mark(made) {
    const { log, slider, said, plots } = made, i = Number(slider.value);
    const column = (field) => { const c = log.columns[log.fields.indexOf(field)]; return c ? c[i] : null; };
    const counted = ["tokens", "rows"].find((field) => log.fields.includes(field));
    said.textContent = "step " + text(column("step")) + (counted ? ", " + text(column(counted)) + " " + counted : "") + (log.finished ? "; finished" : "; training, or interrupted");
    for (const figure of plots.children) figure.at(i);
  }

  async function look() {
    let page;
    try { page = await (await fetch("/training/data")).json(); } catch { return setTimeout(look, 5000); }
    document.dispatchEvent(new CustomEvent("trainings", { detail: page }));
    for (const log of page.logs) {
      if (!log.columns.length) continue;
      const known = sections.get(log.name), grown = !known || known.log.n_lines !== log.n_lines || known.log.finished !== log.finished;
      const made = known || make(log);
      if (!grown) continue;
      made.log = log;
      made.slider.max = log.columns[0].length - 1;
      if (made.follows) made.slider.value = made.slider.max;
      draw(made);
      mark(made);
    }
    if (page.logs.some((log) => !log.finished) || !page.logs.length) setTimeout(look, 2000);
  }
  look();
}
