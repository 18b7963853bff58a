// Superposition live: sliders, and a picture that moves while the model trains. The address always says what is shown.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const form = document.querySelector("#toy"), result = document.querySelector("#result");
  if (!form) return;
  const { n, m, p } = form.elements, button = form.querySelector("button.main");
  const sparsity = form.querySelector("[data-part=sparsity]");

  // From p = 1 at 0 to the least that is allowed at 100, on a logarithmic scale, in two digits.
  const least = Number(p.min), most = Number(m.max);
  const position = () => Math.round(100 * Math.log(Number(p.value)) / Math.log(least));
  sparsity.value = position();
  function show() {
    // The browser moves a slider that stands beyond its new end.
    m.max = Math.min(most, n.value - 1);
    for (const output of form.querySelectorAll("output")) output.textContent = form.elements[output.dataset.of].value;
    sparsity.setAttribute("aria-valuetext", "p = " + p.value);
  }

  let source = null;
  function stop() {
    if (source) source.close();
    source = null;
    button.textContent = "Train";
    result.removeAttribute("aria-busy");
  }
  function train() {
    stop();
    if (!form.reportValidity()) return;
    const asked = new URLSearchParams(new FormData(form)).toString();
    history.replaceState(null, "", form.getAttribute("action") + "?" + asked);
    const own = source = new EventSource(form.dataset.stream + "?" + asked);
    button.textContent = "Stop";
    // A screen reader says the last picture's figures alone.
    result.setAttribute("aria-busy", "true");
    own.addEventListener("frame", (message) => { if (own === source) result.innerHTML = message.data; });
    const end = (html) => {
      if (own !== source) return;
      if (html) result.innerHTML = html;
      stop();
    };
    own.addEventListener("done", () => end(""));
    own.addEventListener("problem", (message) => end(message.data));
    own.onerror = () => end("<p class=\"note\">The server does not answer. Is monosem explore still running?</p>");
  }

  let timer;
  form.addEventListener("input", (event) => {
    if (event.target === sparsity) p.value = Math.max(least, Number((least ** (sparsity.value / 100)).toPrecision(2)));
    show();
    clearTimeout(timer);
    timer = setTimeout(train, 150);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    if (source) stop(); else train();
  });
  addEventListener("pagehide", stop);
  show();
  // A page without a picture begins with one, unless its reader wants nothing to move by itself.
  if ("begin" in form.dataset && !matchMedia("(prefers-reduced-motion: reduce)").matches) train();
});
