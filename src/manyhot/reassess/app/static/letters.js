// Whether single characters act as shortcuts. Who speaks to the computer, or uses its letters otherwise, can switch
// them off in this browser: WCAG 2.1.4.

const OFF = "manyhot-letters-off";

export function areOn() {
  try { return localStorage.getItem(OFF) === null; } catch { return true; } // forbidden
}

// Whether a key that was pressed is one of those that are switched off.
export const isOff = (event) => event.key.length === 1 && event.key !== " " && !event.ctrlKey && !event.metaKey && !areOn();

export function prepareSwitch(box) {
  if (!box) return;
  box.checked = areOn();
  box.addEventListener("change", () => {
    try {
      if (box.checked) localStorage.removeItem(OFF);
      else localStorage.setItem(OFF, "");
    } catch { /* full or forbidden: they stay on */ }
    box.checked = areOn();
  });
}
