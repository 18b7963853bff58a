// Draws the map of features: points from one array, moved and zoomed by pointer, wheel, pinch and keys. A point is found by looking at all.
"use strict";
{
  const canvas = document.querySelector("#map");
  const said = document.querySelector("#map-said");
  const tip = document.querySelector("#map-tip");
  if (canvas) start();

  async function start() {
    for (;;) {
      let state;
      try { state = await (await fetch("/map/state")).json(); } catch { said.textContent = "The server does not answer."; return; }
      if (state.ready !== undefined) break;
      if (state.failed || state.error) { said.textContent = state.failed || state.error.message; return; }
      const { what, done, total } = state.working;
      said.textContent = "The map is being made, once: " + (what || "beginning") + (total ? " " + Math.round(100 * done / total) + " %" : "");
      await new Promise((go) => setTimeout(go, 300));
    }
    const [buffer, labels] = await Promise.all([fetch("/map/points").then((a) => a.arrayBuffer()), fetch("/map/labels").then((a) => a.json())]);
    draw(buffer, new Map(labels));
  }

  function draw(buffer, labels) {
    const n = new DataView(buffer).getUint32(0, true);
    const array = (i) => new Float32Array(buffer, 4 + 4 * n * i, n);
    const latent = new Uint32Array(buffer, 4, n), x = array(1), y = array(2);
    const values = { density: array(3), polysemantic: array(4), label: new Uint8Array(buffer, 4 + 20 * n, n) };
    const N_COLOURS = 12, MANY = 20000;
    let colours = [], order = new Uint32Array(n), bin = new Uint8Array(n), found = new Set(), view, here = -1, queued = false;

    const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const mix = (a, b, t) => "rgb(" + a.map((v, i) => Math.round(v + (b[i] - v) * t)).join(" ") + ")";
    function paint() {
      const kind = document.querySelector("#map-colour").value, value = values[kind];
      const rgb = (name) => style(name).split(" ").map(Number);
      const low = rgb("--cool"), high = rgb("--fire");
      // Values by rank: a few large ones do not push all others into one colour.
      const rank = Uint32Array.from({ length: n }, (_, i) => i).sort((a, b) => value[a] - value[b] || a - b);
      rank.forEach((point, i) => { bin[point] = kind === "label" ? (value[point] ? N_COLOURS - 1 : 0) : Math.min(N_COLOURS - 1, Math.floor(N_COLOURS * i / n)); });
      order = rank;
      colours = Array.from({ length: N_COLOURS }, (_, i) => mix(low, high, i / (N_COLOURS - 1)));
      if (kind === "label") colours[0] = style("--mark");
      key(kind, value, rank);
      again();
    }

    // What the colours mean: of a number its value at the ends and in the middle, since colours go by rank.
    function key(kind, value, rank) {
      const legend = document.querySelector("#map-key");
      const percent = (log) => { const p = 100 * Math.pow(10, log); return (p < 0.001 ? p.toExponential(1) : String(Number(p.toPrecision(2)))) + " %"; };
      const swatch = (colour) => { const box = document.createElement("i"); box.style.background = colour; return box; };
      if (kind === "label") {
        const labelled = value.reduce((sum, v) => sum + v, 0);
        legend.replaceChildren(swatch(colours[0]), " " + (n - labelled) + " without a label ", swatch(colours[N_COLOURS - 1]), " " + labelled + " with one");
        return;
      }
      const at = (share) => value[rank[Math.min(n - 1, Math.round(share * (n - 1)))]];
      const said = kind === "density" ? percent : (v) => String(Number(v.toPrecision(2)));
      const bar = document.createElement("span");
      bar.className = "ramp";
      bar.append(...colours.map(swatch));
      const what = kind === "density" ? "fires on so much of the text, by rank: " : "groups of alike contexts, effectively, by rank: ";
      legend.replaceChildren(what, said(at(0)) + " ", bar, " " + said(at(1)) + "; half of them at most " + said(at(0.5)));
    }

    function whole() {
      let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
      for (let i = 0; i < n; i++) { x0 = Math.min(x0, x[i]); x1 = Math.max(x1, x[i]); y0 = Math.min(y0, y[i]); y1 = Math.max(y1, y[i]); }
      const scale = 0.92 * Math.min(canvas.clientWidth / (x1 - x0 || 1), canvas.clientHeight / (y1 - y0 || 1));
      view = { scale, first: scale, cx: (x0 + x1) / 2, cy: (y0 + y1) / 2 };
      again();
    }
    // The middle of the canvas, asked of the page once for all points.
    let midX = 0, midY = 0;
    const measure = () => { midX = canvas.clientWidth / 2; midY = canvas.clientHeight / 2; };
    const px = (i) => (x[i] - view.cx) * view.scale + midX;
    const py = (i) => (y[i] - view.cy) * view.scale + midY;
    function zoom(by, atX = canvas.clientWidth / 2, atY = canvas.clientHeight / 2) {
      const dx = (atX - canvas.clientWidth / 2) / view.scale, dy = (atY - canvas.clientHeight / 2) / view.scale;
      const scale = Math.max(view.first / 2, Math.min(view.first * 4000, view.scale * by));
      view.cx += dx * (1 - view.scale / scale);
      view.cy += dy * (1 - view.scale / scale);
      view.scale = scale;
      again();
    }
    const move = (dx, dy) => { view.cx -= dx / view.scale; view.cy -= dy / view.scale; again(); };

    function again() { if (!queued) { queued = true; requestAnimationFrame(frame); } }
    function frame() {
      queued = false;
      measure();
      const ratio = devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
      if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) { canvas.width = Math.round(w * ratio); canvas.height = Math.round(h * ratio); }
      const g = canvas.getContext("2d");
      g.setTransform(ratio, 0, 0, ratio, 0, 0);
      g.clearRect(0, 0, w, h);
      const size = Math.max(1.3, Math.min(8, 1.7 * Math.pow(view.scale / view.first, 0.35) * (n > MANY ? 1 : 2)));
      const dim = found.size > 0;
      if (n > MANY && size * ratio < 4) dust(g, Math.max(1, Math.round(size * ratio)), ratio, dim ? 64 : 217);
      else {
        g.globalAlpha = dim ? 0.25 : 0.85;
        let colour = -1;
        for (const i of order) {
          const a = px(i), b = py(i);
          if (a < -8 || b < -8 || a > w + 8 || b > h + 8) continue;
          if (bin[i] !== colour) { colour = bin[i]; g.fillStyle = colours[colour]; }
          g.fillRect(a - size / 2, b - size / 2, size, size);
        }
        g.globalAlpha = 1;
      }
      g.fillStyle = style("--accent");
      for (let i = 0; dim && i < n; i++) if (found.has(latent[i])) { g.beginPath(); g.arc(px(i), py(i), size + 1.5, 0, 7); g.fill(); }
      if (here >= 0) { g.strokeStyle = style("--strong"); g.lineWidth = 1.5; g.beginPath(); g.arc(px(here), py(here), size + 3, 0, 7); g.stroke(); }
      // Names stand where they do not cover one another.
      g.font = "12px " + style("--sans");
      g.fillStyle = style("--strong");
      const taken = [];
      for (let i = 0; labels.size && i < n && taken.length < 60; i++) {
        const label = labels.get(latent[i]);
        if (!label) continue;
        const a = px(i) + size, b = py(i) + 4, long = Math.min(160, 7 * label.length);
        if (a < 0 || b < 10 || a > w || b > h || taken.some(([c, d, e]) => Math.abs(d - b) < 14 && a < c + e && c < a + long)) continue;
        taken.push([a, b, long]);
        g.fillText(label.length > 24 ? label.slice(0, 23) + "…" : label, a, b);
      }
    }

    // Many small points, written as pixels: a hundred thousand rectangles would take a quarter of a second.
    function dust(g, size, ratio, alpha) {
      const w = canvas.width, h = canvas.height, image = g.createImageData(w, h), pixels = new Uint32Array(image.data.buffer);
      // Red is the lowest byte; the canvas says every colour as #rrggbb.
      const words = colours.map((colour) => {
        g.fillStyle = colour;
        const rgb = parseInt(g.fillStyle.slice(1), 16);
        return ((alpha << 24) | ((rgb & 255) << 16) | (rgb & 0xff00) | (rgb >> 16)) >>> 0;
      });
      for (const i of order) {
        const a = Math.round(px(i) * ratio - size / 2), b = Math.round(py(i) * ratio - size / 2);
        if (a < 0 || b < 0 || a + size > w || b + size > h) continue;
        const word = words[bin[i]];
        for (let row = b * w + a, end = row + size * w; row < end; row += w) for (let at = row; at < row + size; at++) pixels[at] = word;
      }
      g.putImageData(image, 0, 0);
    }

    function nearest(atX, atY, within) {
      measure();
      let best = -1, least = within * within;
      for (let i = 0; i < n; i++) {
        const dx = px(i) - atX, dy = py(i) - atY, d = dx * dx + dy * dy;
        if (d < least) { least = d; best = i; }
      }
      return best;
    }
    const open = (i) => { if (i >= 0) location.href = "/features/" + latent[i]; };
    let asked = 0, waiting;
    function point(i) {
      if (i === here) return;
      here = i;
      again();
      tip.hidden = true;
      clearTimeout(waiting);
      const mine = ++asked;
      if (i >= 0) waiting = setTimeout(async () => {
        const html = await fetch("/map/tip?id=" + latent[i]).then((a) => a.text()).catch(() => "");
        if (mine !== asked || !html) return;
        tip.innerHTML = html;
        tip.hidden = false;
        tip.style.left = Math.max(0, Math.min(px(i) + 12, canvas.clientWidth - tip.offsetWidth)) + "px";
        tip.style.top = Math.max(0, Math.min(py(i) + 12, canvas.clientHeight - tip.offsetHeight)) + "px";
      }, 60);
    }

    const held = new Map();
    let travelled = 0;
    const place = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
    canvas.addEventListener("pointerdown", (event) => { held.set(event.pointerId, place(event)); canvas.setPointerCapture(event.pointerId); if (held.size === 1) travelled = 0; });
    canvas.addEventListener("pointermove", (event) => {
      const to = place(event), from = held.get(event.pointerId);
      if (!from) return point(nearest(...to, 12));
      if (held.size === 1) { move(to[0] - from[0], to[1] - from[1]); travelled += Math.hypot(to[0] - from[0], to[1] - from[1]); }
      else {
        const other = [...held].find(([id]) => id !== event.pointerId)[1];
        const spread = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
        if (spread(from) > 0) zoom(spread(to) / spread(from), (to[0] + other[0]) / 2, (to[1] + other[1]) / 2);
        travelled = 99;
      }
      held.set(event.pointerId, to);
    });
    canvas.addEventListener("pointerup", (event) => { const at = place(event); held.delete(event.pointerId); if (!held.size && travelled < 5) open(nearest(...at, event.pointerType === "touch" ? 22 : 12)); });
    canvas.addEventListener("pointercancel", (event) => held.delete(event.pointerId));
    canvas.addEventListener("pointerleave", () => point(-1));
    canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...place(event)); }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const step = 60, moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
      if (moves[event.key]) move(...moves[event.key]);
      else if (event.key === "+" || event.key === "=") zoom(1.5);
      else if (event.key === "-") zoom(1 / 1.5);
      else if (event.key === "0") whole();
      else if (event.key === "Enter") open(nearest(canvas.clientWidth / 2, canvas.clientHeight / 2, 1e9));
      else return;
      event.preventDefault();
      point(nearest(canvas.clientWidth / 2, canvas.clientHeight / 2, 40));
    });
    document.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", () => { const by = Number(button.dataset.zoom); by ? zoom(by) : whole(); }));
    document.querySelector("#map-colour").addEventListener("change", paint);
    document.querySelector("#theme").addEventListener("click", () => setTimeout(paint));
    addEventListener("resize", again);
    let newest = 0, timer;
    const find = async () => {
      const mine = ++newest, text = document.querySelector("#map-find").value;
      const ids = text.trim() ? await fetch("/map/find?q=" + encodeURIComponent(text)).then((a) => a.json()).catch(() => []) : [];
      if (mine !== newest) return;
      found = new Set(Array.isArray(ids) ? ids : []);
      let shown = 0;
      for (let i = 0; i < n; i++) if (found.has(latent[i])) shown++;
      said.textContent = text.trim() ? shown + " of " + n + " lit up" : n + " features";
      canvas.dataset.lit = shown;
      if (text.trim() && !shown) found = new Set();
      again();
    };
    document.querySelector("#map-find").addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(find, 120); });
    document.querySelector("#mapform").addEventListener("submit", (event) => event.preventDefault());

    said.textContent = n + " features";
    whole();
    paint();
    // What a test may ask for: where a feature stands on the canvas.
    canvas.dataset.ready = n;
    canvas.placeOf = (id) => { measure(); const i = latent.indexOf(id); return i < 0 ? null : [px(i), py(i)]; };
  }
}
