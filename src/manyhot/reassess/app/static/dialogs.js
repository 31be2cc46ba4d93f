// What opens over the page: keys, a comment, and the search for a class that is missing.

import { ask } from "./server.js";

const $ = (id) => document.getElementById(id);
const PAUSE_MS = 60;
const MOST_FOUND = 20; // the server names no more

export const isOpen = () => document.querySelector("dialog[open]") !== null;

export function prepareDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.querySelector(".close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); }); // beside it
  }
}

// Ask for a comment and hand it over. A text that was not saved is there again the next time.
export function comment(page, save) {
  const dialog = $("comment-dialog"), text = $("comment-text");
  text.value = page.draft ?? "";
  text.oninput = () => { page.draft = text.value; };
  text.onkeydown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    done();
  };
  $("comment-save").onclick = done;
  dialog.showModal();

  function done() {
    const said = text.value.trim();
    page.draft = "";
    dialog.close();
    if (said) save(said);
  }
}

let asked = 0, timer = 0; // the searches of all openings: one that was left must not answer the next

// Search for a class: onChosen(class, number on the page or -1), or onUnlisted(text) where no class fits.
export function missing(page, onChosen, onUnlisted) {
  const dialog = $("missing-dialog"), input = $("missing-input"), list = $("missing-list");
  let options = [], at = 0;
  end();
  input.value = "";
  list.replaceChildren();
  showStatus("");
  input.oninput = () => { clearTimeout(timer); timer = setTimeout(search, PAUSE_MS); };
  input.onkeydown = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) mark(Math.min(Math.max(at + step, 0), options.length - 1));
    else if (event.key === "Enter" && !event.isComposing) options[at]?.click();
    else return;
    event.preventDefault();
  };
  dialog.onclose = () => { if (!dialog.open) end(); }; // it comes late: the dialog may be open again
  dialog.showModal();

  function end() { clearTimeout(timer); asked += 1; }

  async function search() {
    const text = input.value.trim(), mine = (asked += 1);
    let answer = [], trouble = "";
    if (text) {
      try {
        answer = await ask(`/api/classes?q=${encodeURIComponent(text)}&page=${page.page}`);
      } catch (error) {
        trouble = error.status ? "The search is not available right now." : "No connection: the search is not available.";
      }
    }
    if (mine !== asked) return; // a later one is on its way
    options = answer.map((one) => option(one, page.classes.findIndex((c) => c.class_id === one.class_id)));
    if (text) options.push(other(text));
    list.replaceChildren(...options);
    showStatus(trouble || (text ? howMany(answer.length) : ""));
    mark(0);
  }

  function howMany(n) {
    if (n >= MOST_FOUND) return `The first ${n} classes are shown. Type more to narrow the search.`;
    return `${n || "No"} ${n === 1 ? "class" : "classes"} found.`;
  }

  function option(one, shown) {
    const item = document.importNode($("class-match").content, true).firstElementChild;
    item.querySelector("b").textContent = one.name;
    item.querySelector(".also").textContent = shown >= 0 ? `already on this page: number ${shown + 1}` : one.synonyms.join(", ");
    item.querySelector("p").textContent = one.definition;
    item.querySelector(".pictures").append(...one.examples.map((address) => {
      const image = new Image();
      image.alt = "";
      image.src = `${address}/small`;
      image.addEventListener("error", () => image.remove());
      return image;
    }));
    return choice(item, () => onChosen(one, shown));
  }

  function other(text) {
    const item = document.importNode($("class-match").content, true).firstElementChild;
    item.querySelector("b").textContent = "None of these";
    item.querySelector("p").textContent = `Add a comment that “${text}” is in the image but was not found among the classes.`;
    return choice(item, () => onUnlisted(text));
  }

  function choice(item, chosen) {
    item.addEventListener("click", () => { dialog.close(); chosen(); });
    item.addEventListener("pointermove", () => mark(options.indexOf(item), false));
    return item;
  }

  function mark(index, scroll = true) {
    at = Math.max(index, 0);
    options.forEach((item, i) => {
      item.id = `missing-${i}`;
      item.setAttribute("aria-selected", String(i === at));
    });
    if (options.length) input.setAttribute("aria-activedescendant", `missing-${at}`);
    else input.removeAttribute("aria-activedescendant");
    input.setAttribute("aria-expanded", String(options.length > 0));
    if (scroll) options[at]?.scrollIntoView({ block: "nearest" });
  }

  function showStatus(text) { $("missing-status").textContent = text; }
}
