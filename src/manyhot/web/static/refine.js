// Keys for decisions: the number of a class says yes, again no, and with shift maybe; Enter decides.

const form = document.getElementById("decisions");
const asked = [...form.querySelectorAll("fieldset")];

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Enter" && !event.target.closest("a, button")) {
    event.preventDefault();
    form.querySelector("button")?.click();
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
