// What the pages do beyond links and forms: theme, keys, tooltips, search and live text without a reload. Every page works without it.
"use strict";
const root = document.documentElement;
root.classList.add("js");
const stored = (() => { try { return localStorage.getItem("theme"); } catch { return null; } })();
if (stored === "light" || stored === "dark") root.dataset.theme = stored;

document.addEventListener("DOMContentLoaded", () => {
  const $ = (selector) => document.querySelector(selector);

  $("#theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* private window: the choice lasts for this page */ }
  });

  // Fetches an HTML fragment of this server into `target`; only the newest request may write.
  let newest = 0;
  async function load(url, target) {
    const mine = ++newest;
    target.classList.add("busy");
    let html;
    try {
      const answer = await fetch(url, { headers: { "X-Fragment": "1" } });
      html = await answer.text();
    } catch {
      html = "<p class=\"note\">The server does not answer. Is monosem explore still running?</p>";
    }
    if (mine !== newest) return;
    target.innerHTML = html;
    target.classList.remove("busy");
  }
  const soon = (wait, work) => { let timer; return () => { clearTimeout(timer); timer = setTimeout(work, wait); }; };
  const query = (form) => new URLSearchParams(new FormData(form)).toString();
  const address = (form) => { history.replaceState(null, "", form.getAttribute("action") + "?" + query(form)); };

  // lists
  const filter = $("#filter");
  if (filter) {
    const refresh = () => { address(filter); load(filter.dataset.rows + "?" + query(filter), $("#rows")); };
    const later = soon(120, refresh);
    // Links beside the rows (flags, sorting, pages) carry the filter the rows were made with: until the new rows are there they would bring the old filter back.
    const changed = () => {
      for (const part of $("#rows").querySelectorAll(".chips, thead, .pages")) part.inert = true;
      later();
    };
    filter.addEventListener("input", changed);
    // Of choices alone: a field of text says it again when it is left, which a click on such a link does.
    filter.addEventListener("change", (event) => { if (event.target.matches("select, [type=checkbox]")) changed(); });
    filter.addEventListener("submit", (event) => { event.preventDefault(); refresh(); });
  }

  // live text
  const live = $("#live");
  if (live) {
    let at = "";
    // At once, one request at a time: what is typed meanwhile is asked for as soon as the answer is there.
    let asking = false, again = false;
    const refresh = async () => {
      address(live);
      again = true;
      if (asking) return;
      for (asking = true; again;) {
        again = false;
        await load(live.dataset.fragment + "?" + query(live) + (at && "&at=" + at), $("#result"));
      }
      asking = false;
    };
    live.addEventListener("input", () => { at = ""; refresh(); });
    live.addEventListener("submit", (event) => { event.preventDefault(); refresh(); });
    $("#result").addEventListener("click", (event) => {
      const token = event.target.closest("button.t");
      if (!token) return;
      at = token.getAttribute("aria-pressed") === "true" ? "" : token.dataset.at;
      refresh();
    });
  }

  // While the pointer or the focus is on a feature of a table, the text above it is shaded by that feature alone.
  let shaded = null;
  const shade = (event) => {
    const row = event.target.closest && event.target.closest("tr[data-shades]");
    const text = row && row.closest(".list").parentElement.querySelector(".livetext");
    const paint = (text, shades) => {
      text.classList.toggle("all", !shades);
      text.querySelectorAll(".t[data-at]").forEach((token) => {
        token.dataset.class ||= token.className;
        token.className = shades ? "t a" + (shades.get(token.dataset.at) || 0) : token.dataset.class;
      });
    };
    if (shaded && shaded !== text) paint(shaded, null);
    if (text) paint(text, new Map(row.dataset.shades.split(" ").map((pair) => pair.split(":"))));
    shaded = text;
  };
  document.addEventListener("pointerover", shade);
  document.addEventListener("focusin", shade);
  root.addEventListener("pointerleave", shade);

  // why it fires: a click on a token offers to swap it
  const swapped = $("#result");
  if ($("#swap")) {
    swapped.addEventListener("click", (event) => {
      const token = event.target.closest(".sources button.t");
      if (!token) return;
      $("#swap-at").value = token.dataset.at;
      $("#with").value = token.textContent;
      $("#with").focus();
      $("#with").select();
    });
    swapped.addEventListener("submit", (event) => {
      event.preventDefault();
      const form = $("#swap");
      address(form);
      load(form.dataset.fragment + "?" + query(form), swapped);
    });
  }

  // contexts: one line, all that is kept, or the whole window that the model read
  const sizes = [...document.querySelectorAll("[data-size]")];
  const full = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach(async ({ target }) => {
    full.unobserve(target);
    const html = await fetch(target.dataset.at.replace("/corpus?", "/corpus/window?")).then((answer) => answer.ok ? answer.text() : "").catch(() => "");
    if (html && root.dataset.size === "full") { target.shortened ||= target.querySelector(".line"); const made = document.createElement("template"); made.innerHTML = html; target.querySelector(".line").replaceWith(made.content.firstElementChild); }
  }), { rootMargin: "300px" });
  const resize = (size) => {
    root.dataset.size = size;
    sizes.forEach((button) => button.setAttribute("aria-pressed", button.dataset.size === size));
    document.querySelectorAll(".group .ctx").forEach((context) => {
      context.classList.toggle("open", size !== "short");
      full.unobserve(context);
      if (context.shortened) { context.querySelector(".line").replaceWith(context.shortened); context.shortened = null; }
      if (size === "full" && context.dataset.at) full.observe(context);
    });
  };
  if (sizes.length) {
    resize("short");
    sizes.forEach((button) => button.addEventListener("click", () => resize(button.dataset.size)));
  }

  // lines open on a click, rows lead to their page
  document.addEventListener("click", (event) => {
    const line = event.target.closest(".ctx .line");
    if (line && !String(getSelection())) line.parentElement.classList.toggle("open");
    const row = event.target.closest("tr[data-href]");
    if (row && !event.target.closest("a, button") && !String(getSelection())) location.href = row.dataset.href;
  });

  // tooltips of tokens
  const tip = document.body.appendChild(Object.assign(document.createElement("div"), { id: "tip", hidden: true }));
  tip.setAttribute("role", "tooltip");
  const point = (event) => {
    const token = event.target.closest && event.target.closest("[data-t]");
    tip.hidden = !token;
    if (!token) return;
    const d = token.dataset;
    tip.textContent = (d.part ? "gives " + d.part : d.n ? d.n + " features, strongest at " + Math.round(100 * (d.v || 0)) + " % of its maximum" : d.v ? "activation " + d.v : "silent") + (d.l ? "\nwithout the feature before it, its loss: " + d.l + " nat" : "") + "\ntoken " + d.t + "\nbytes " + d.b;
    const box = token.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(box.left, innerWidth - tip.offsetWidth - 4)) + scrollX + "px";
    const below = box.bottom + 6 + tip.offsetHeight < innerHeight;
    tip.style.top = (below ? box.bottom + 6 : box.top - tip.offsetHeight - 6) + scrollY + "px";
  };
  document.addEventListener("pointerover", point);
  document.addEventListener("focusin", point);

  // keys
  const follow = (rel) => { const link = $("a[rel=" + rel + "]"); if (link) location.href = link.href; };
  const step = (by) => {
    const rows = [...document.querySelectorAll(".list tr[data-href]:not([hidden])")];
    if (!rows.length) return follow(by > 0 ? "next" : "prev");
    const at = rows.findIndex((row) => row.classList.contains("here"));
    const to = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.max(0, Math.min(rows.length - 1, at + by));
    rows.forEach((row, i) => row.classList.toggle("here", i === to));
    rows[to].scrollIntoView({ block: "nearest" });
    const link = rows[to].querySelector("a");
    if (link) link.focus({ preventScroll: true });
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { tip.hidden = true; if (event.target.blur) event.target.blur(); return; }
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    const unit = document.body.dataset.kind === "unit";
    if (event.key === "/") { event.preventDefault(); const box = $("#q") || $("#search");  box.focus(); box.select(); }
    else if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (unit && event.key === "ArrowRight") follow("next");
    else if (unit && event.key === "ArrowLeft") follow("prev");
  });
});
