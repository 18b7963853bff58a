// Trainings as they go: a curve for each figure over what was trained on, a slider over the logged steps. Asks again while a training has not ended.
"use strict";
{
  const place = document.querySelector("#trainings");
  // A plot in units of its view box: the curve is drawn between L and W, 4 and H; numbers stand to its left and beneath it.
  const W = 300, H = 96, L = 40, BELOW = 16;
  // What a figure of the log is called and counted in. The loss of an SAE is in the units of its recipe, which no other recipe shares.
  const known = {
    loss: (log) => ["loss", log.name.startsWith("lm") ? "nats per token" : "squared error per row and penalties, in the recipe's units"],
    held_out_loss: () => ["held-out loss", "nats per token"],
    fvu: () => ["fvu", "share of the variance that is not explained"],
    l0: () => ["l0", "latents per token"],
    dead_frac: () => ["dead", "share of latents"],
    grad_norm: () => ["gradient", "norm over all weights"],
    lr: () => ["learning rate", "of Adam"],
    tokens_per_s: () => ["speed", "tokens per second"],
    rows_per_s: () => ["speed", "rows per second"],
  };
  const text = (x) => x === null || x === undefined ? "-" : Number(x.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });
  // Steps and tokens are counted, and written to the last digit.
  const count = (x) => x === null || x === undefined ? "-" : x.toLocaleString("en");
  const brief = (x) => Math.abs(x) >= 1e4 || (x !== 0 && Math.abs(x) < 1e-3) ? x.toLocaleString("en", { notation: Math.abs(x) < 1 ? "scientific" : "compact", maximumSignificantDigits: 3 }) : String(Number(x.toPrecision(3)));
  const sections = new Map();

  function make(log, open) {
    const section = document.createElement("details");
    section.className = "group training";
    section.open = open;
    const name = Object.assign(document.createElement("h2"), { textContent: log.name });
    const said = Object.assign(document.createElement("small"), { className: "num" });
    const summary = document.createElement("summary");
    summary.append(name, " ", said);
    const slider = Object.assign(document.createElement("input"), { type: "range", min: 0, value: 0 });
    slider.setAttribute("aria-label", "Step of " + log.name);
    const plots = document.createElement("div");
    plots.className = "plots";
    section.append(summary, slider, plots);
    place.append(section);
    const made = { section, log, said, slider, plots, follows: true };
    slider.addEventListener("input", () => { made.follows = Number(slider.value) === Number(slider.max); mark(made); });
    section.addEventListener("toggle", () => { if (section.open && !plots.children.length) { draw(made); mark(made); } });
    sections.set(log.name, made);
    return made;
  }

  const svg = (tag, attributes, said) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (said !== undefined) node.textContent = said;
    return node;
  };

  function draw(made) {
    const { section, log, plots } = made;
    plots.replaceChildren();
    // What is closed is drawn when it is opened.
    if (!section.open) return;
    const counted = ["tokens", "rows", "step"].find((field) => log.fields.includes(field)), along = log.columns[log.fields.indexOf(counted)];
    const end = along[along.length - 1] || 1;
    for (const field in known) {
      const column = log.columns[log.fields.indexOf(field)];
      if (!column || !column.some((v) => v !== null)) continue;
      const [title, unit] = known[field](log);
      const values = column.filter((v) => v !== null);
      const low = Math.min(...values), high = Math.max(...values);
      const x = (i) => L + (W - L - 4) * along[i] / end, y = (v) => H - 4 - (H - 12) * (high > low ? (v - low) / (high - low) : 0.5);
      const points = column.map((v, i) => v === null ? null : x(i).toFixed(1) + "," + y(v).toFixed(1)).filter(Boolean);
      const figure = document.createElement("figure");
      const plot = svg("svg", { viewBox: `0 0 ${W} ${H + BELOW}`, role: "img", "aria-label": `${title}, ${unit}: ${text(low)} to ${text(high)} over ${count(end)} ${counted}` });
      for (const value of high > low ? [low, high] : [low]) {
        plot.append(svg("line", { x1: L, x2: W - 4, y1: y(value), y2: y(value), class: "grid" }), svg("text", { x: L - 4, y: y(value) + 3, "text-anchor": "end" }, brief(value)));
      }
      plot.append(svg("text", { x: L, y: H + 11 }, "0"), svg("text", { x: (L + W) / 2, y: H + 11, "text-anchor": "middle" }, counted === "step" ? "steps" : counted + " trained on"), svg("text", { x: W - 4, y: H + 11, "text-anchor": "end" }, brief(end)));
      const line = svg("line", { y1: 0, y2: H, class: "at" }), dot = svg("circle", { r: 3 });
      plot.append(svg("polyline", { points: points.join(" ") }), line, dot);
      const caption = document.createElement("figcaption");
      const value = Object.assign(document.createElement("b"), { className: "num" });
      caption.append(title + " ", value, " ", Object.assign(document.createElement("small"), { textContent: unit }));
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
    said.textContent = "step " + count(column("step")) + (counted ? ", " + count(column(counted)) + " " + counted : "") + (log.finished ? "; finished" : log.running ? "; not finished" : "; interrupted");
    for (const figure of plots.children) figure.at(i);
  }

  async function look() {
    let page;
    try { page = await (await fetch("/training/data")).json(); } catch { return setTimeout(look, 5000); }
    document.dispatchEvent(new CustomEvent("trainings", { detail: page }));
    // What took the place of another is no longer beside it.
    for (const [name, made] of sections) if (!page.logs.some((log) => log.name === name)) { made.section.remove(); sections.delete(name); }
    // Open from the start: the model, the first SAE, and what is not finished.
    const first = page.logs.find((log) => log.columns.length && log.name.startsWith("sae "));
    for (const log of page.logs) {
      if (!log.columns.length) continue;
      const made = sections.get(log.name) || make(log, log.name === "lm" || log === first || !log.finished), now = JSON.stringify(log);
      if (made.drawn === now) continue;
      made.drawn = now;
      made.log = log;
      made.slider.max = log.columns[0].length - 1;
      if (made.follows) made.slider.value = made.slider.max;
      draw(made);
      mark(made);
    }
    // Another may begin.
    setTimeout(look, page.logs.some((log) => !log.finished) || !page.logs.length ? 2000 : 10000);
  }
  look();
}
