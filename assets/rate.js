// Rating by keyboard: digits answer the marked question and mark the next, Backspace goes back, Enter keeps.
"use strict";
{
  const form = document.querySelector("#rate");
  if (form) {
    const questions = [...form.querySelectorAll("fieldset")];
    let at = 0;
    const mark = () => questions.forEach((question, i) => question.classList.toggle("here", i === at));
    mark();
    questions.forEach((question, i) => question.addEventListener("change", () => { at = Math.min(i + 1, questions.length - 1); mark(); }));
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target.id === "said") { if (event.key === "Escape") event.target.blur(); return; }
      if (/^[0-9]$/.test(event.key)) {
        const choice = questions[at].querySelector("input[value='" + event.key + "']");
        if (choice) { choice.checked = true; at = Math.min(at + 1, questions.length - 1); mark(); }
      } else if (event.key === "Backspace") { at = Math.max(0, at - 1); mark(); }
      else if (event.key === "w") form.elements.said.focus();
      else if (event.key === "Enter" && event.target.tagName !== "BUTTON" && event.target.tagName !== "A") form.requestSubmit();
      else return;
      event.preventDefault();
    });
  }
}
