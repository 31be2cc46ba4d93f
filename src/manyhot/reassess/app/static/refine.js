// Keys for decisions: the number of a class says yes, again no, and with shift maybe; Enter decides, and what is
// open is no then, as on the rater's page. Enter alone decides nothing: that none is there is said by 0.

import { isOff, prepareSwitch } from "./letters.js";

prepareSwitch(document.getElementById("letters"));
const form = document.getElementById("decisions");
const asked = [...form.querySelectorAll("fieldset")];

function decide(all = false) {
  const boxes = asked.filter((box) => box.querySelector("input"));
  const open = boxes.filter((box) => all || !box.querySelector(":checked"));
  if (all || open.length < boxes.length) for (const box of open) box.querySelector("input").checked = true; // no
  form.querySelector("button")?.click();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isOff(event)) return;
  if (event.key === "Enter" && !event.target.closest("a, button")) {
    event.preventDefault();
    decide();
    return;
  }
  if (event.key === "0" && !event.repeat) {
    event.preventDefault();
    decide(true);
    return;
  }
  if (event.repeat) return;
  const choices = asked[Number(event.code.replace(/^(Digit|Numpad)/, "")) - 1]?.querySelectorAll("input[type=radio]");
  if (!choices?.length) return;
  const [no, maybe, yes] = choices;
  const chosen = event.shiftKey ? maybe : yes.checked ? no : yes;
  chosen.checked = true;
  chosen.focus();
  event.preventDefault();
});
