// A page asks for pages and sends answers. Each answer waits in the browser's storage, under a key of its own,
// until the server says that it is kept: a lost connection, a closed tab or a crash loses none of them.

const CSRF = document.querySelector('meta[name="csrf"]').content;
const OUTBOX = "manyhot-outbox:" + document.querySelector('meta[name="rater"]').content + ":";
const $ = (id) => document.getElementById(id);

let pages = [];
let current = null;

const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");

async function ask(path, body) {
  const response = await fetch(path, body === undefined ? {} : {
    method: "POST",
    headers: { "content-type": "application/json", "x-csrf": CSRF },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw Object.assign(new Error((await response.json()).detail), { status: response.status });
  return response.json();
}

// ── Sending ──

let number = 0;
let sending = null;

function keep(item) {
  // Time first: they are sent in the order in which they were made, whichever tab sends them.
  const at = Date.now().toString().padStart(15, "0") + "-" + (number++).toString().padStart(6, "0");
  localStorage.setItem(OUTBOX + at + "-" + item.key, JSON.stringify(item));
  send();
}

const waiting = () => Object.keys(localStorage).filter((k) => k.startsWith(OUTBOX)).sort();

function send() {
  sending ??= sendAll().finally(() => { sending = null; });
  return sending;
}

async function sendAll() {
  for (let names = waiting(); names.length; names = waiting()) {
    const batch = names.slice(0, 100);
    const items = batch.map((name) => JSON.parse(localStorage.getItem(name)));
    try {
      const { refused } = await ask("/api/answers", { items });
      batch.forEach((name) => localStorage.removeItem(name));
      const why = Object.values(refused)[0];
      tell(why ? `Not stored: ${why}.` : "");
    } catch (error) {
      tell(`${names.length} answers wait for the connection.`);
      setTimeout(send, 2000);
      return;
    }
  }
}

function tell(text) { $("connection").textContent = text; }

// ── Pages ──

async function fetchPages() {
  await send();
  const queue = await ask("/api/queue", {});
  pages = queue.pages;
  $("progress").textContent = `${queue.done} done, ${queue.left} left`;
  for (const page of pages) preload(page);
  return queue;
}

function preload(page) {
  for (const address of [page.image, ...page.classes.flatMap((c) => c.examples.map((e) => e + "/small"))]) {
    new Image().src = address;
  }
}

async function next() {
  if (current) {
    for (const shown of current.classes) if (!shown.answer) answer(shown, "no");
    pages = pages.filter((p) => p.page !== current.page);
  }
  if (pages.length) {
    show(pages[0]);
    fetchPages();
    return;
  }
  const queue = await fetchPages();
  if (pages.length) show(pages[0]);
  else finish(queue.reason);
}

function show(page) {
  current = page;
  $("page").hidden = false;
  $("empty").hidden = true;
  $("image").src = page.image;
  $("label").hidden = !page.label;
  $("label").textContent = page.label ? `Original label: ${page.label}` : "";
  $("classes").replaceChildren(...page.classes.map(row));
}

function row(shown, index) {
  const item = $("class").content.cloneNode(true).firstElementChild;
  item.querySelector("kbd").textContent = index + 1;
  item.querySelector("b").textContent = shown.name;
  item.querySelector("span").textContent = shown.synonyms.filter((s) => s !== shown.name).join(", ");
  item.querySelector("p").textContent = shown.definition;
  item.querySelector(".examples").append(...shown.examples.map((address) => {
    const image = new Image();
    image.src = address + "/small";
    image.alt = "";
    return image;
  }));
  for (const button of item.querySelectorAll(".answers button")) {
    button.addEventListener("click", () => answer(shown, button.dataset.answer));
  }
  mark(item, shown);
  return item;
}

function mark(item, shown) {
  for (const button of item.querySelectorAll(".answers button")) {
    button.setAttribute("aria-checked", String(button.dataset.answer === shown.answer));
  }
}

function answer(shown, value) {
  shown.answer = value;
  keep({ key: newKey(), page: current.page, class_id: shown.class_id, answer: value, main: shown.main });
  mark($("classes").children[current.classes.indexOf(shown)], shown);
}

function finish(reason) {
  current = null;
  $("page").hidden = true;
  $("empty").hidden = false;
  $("reason").textContent = {
    finished: "Done: there is nothing left for you to answer. Thank you.",
    paused: "The campaign is paused.",
    closed: "The campaign is closed.",
    limit: "You have done all pages that you were asked for. Thank you.",
    stopped: "Please ask the owner of the campaign how to go on.",
  }[reason] ?? reason;
}

document.addEventListener("keydown", (event) => {
  if (!current || event.ctrlKey || event.metaKey || event.altKey) return;
  const shown = current.classes[Number(event.code.replace("Digit", "")) - 1];
  if (shown) answer(shown, event.shiftKey ? "maybe" : shown.answer === "yes" ? "no" : "yes");
  else if (event.key === "Enter") next();
  else return;
  event.preventDefault();
});
$("next").addEventListener("click", next);
$("none").addEventListener("click", () => { current.classes.forEach((c) => answer(c, "no")); next(); });
window.addEventListener("online", send);
next();
