// The rater's page: which image is shown, and what keys and buttons do.

import * as dialogs from "./dialogs.js";
import { enlarge, isEnlarged, preview, shrink } from "./examples.js";
import { Outbox } from "./outbox.js";
import { Pace } from "./pace.js";
import * as letters from "./letters.js";
import { ask, CAMPAIGN, kindOf, newKey, RATER, session, useSession } from "./server.js";
import { announce, Messages } from "./messages.js";
import { isAnswered, Trail } from "./trail.js";
import { View } from "./view.js";
import { Zoom } from "./zoom.js";

const $ = (id) => document.getElementById(id);
const BOUNCE_MS = 250; // a second Enter that comes sooner was not meant for the next image
const SOON_MS = 300;
const RETRY_MS = 3000;
const POLL_MS = 15_000;
const AWAY_MS = 10 * 60_000;

const trail = new Trail();
const pace = new Pace();
const messages = new Messages(() => pace.describe(messages.left));
const zoom = new Zoom($("frame"), (scale) => { $("zoom-reset").hidden = scale === 1; });
const tabs = "BroadcastChannel" in window ? new BroadcastChannel(`manyhot:${CAMPAIGN}:${RATER}`) : null;
const outbox = new Outbox(`${CAMPAIGN}:${RATER}`, {
  waiting: (count) => messages.waiting(count),
  trouble: (kind) => messages.trouble(kind),
  refused: (item, why) => messages.refused(item, why),
  fragile: () => messages.fragile(),
});
const actions = []; // what can be undone: [page, [[shown, answer, main], …] before it]

let marked = 0; // the row that Y, M, N and E are about
let subject = 0; // the row that S is about: the one that was answered or gone to last
let shownAt = 0;
let refreshing = null;
let preparing = null;
let timer = 0;
let hiddenAt = 0;

// ── Pages ──

function refresh() {
  clearTimeout(timer);
  refreshing ??= fetchPages().finally(() => { refreshing = null; });
  return refreshing;
}

async function fetchPages() {
  await outbox.send();
  const sent = messages.uncounted(outbox.items());
  let queue;
  try {
    queue = await ask("/api/queue", {});
    keep(queue);
  } catch (error) {
    const kind = kindOf(error);
    messages.trouble(kind);
    if (!trail.current && kind === "offline") goOnWithKept();
    if (!trail.current) empty(kind);
    if (kind !== "session" && kind !== "elsewhere") later(error.wait || RETRY_MS);
    return;
  }
  if (!outbox.size) messages.trouble("");
  messages.count(queue, sent);
  trail.receive(queue.pages);
  askAgain();
  prepare();
  if (trail.current) return;
  if (trail.forward()) show();
  else if (!queue.reason) later(SOON_MS); // what closes its pages is on the way
  else {
    empty(queue.stopped_for || queue.reason);
    messages.completion(queue.completion);
    later(POLL_MS);
  }
}

// The pages that a reload without a connection goes on with.
const QUEUE = `manyhot-queue:${CAMPAIGN}:${RATER}`;

function keep(queue) {
  try { localStorage.setItem(QUEUE, JSON.stringify(queue)); } catch { /* full or forbidden */ }
}

function goOnWithKept() {
  let queue = null;
  try { queue = JSON.parse(localStorage.getItem(QUEUE)); } catch { /* forbidden, or not ours */ }
  if (!queue?.pages?.length) return;
  messages.count(queue, []);
  trail.receive(queue.pages);
  if (trail.forward()) show();
}

function later(ms) {
  clearTimeout(timer);
  timer = setTimeout(refresh, ms);
}

function viewOf(page) {
  page.view ??= new View(page, {
    answer: (shown, value) => answer(shown, value),
    main: (shown) => toggleMain(shown),
    mark: (index) => mark(index, false),
    enlarge: (index) => { mark(index); toggleExamples(); },
    point: (image) => preview(image),
    loaded: (view) => { if (trail.current?.view === view) drawImage(); },
  });
  return page.view;
}

// Load and decode what is shown, then what comes next, one page after the other.
function prepare() {
  preparing ??= (async () => {
    const unprepared = () => [trail.current, ...trail.ahead].find((page) => page && !viewOf(page).prepared);
    for (let page = unprepared(); page; page = unprepared()) await page.view.prepare();
  })().finally(() => { preparing = null; });
}

// The server answers: pictures that did not come while it was away are worth another try.
function askAgain() {
  for (const page of [trail.current, ...trail.ahead]) if (page?.view?.lacks) page.view.prepared = false;
}

function show() {
  const page = trail.current, view = viewOf(page);
  shrink();
  preview(null);
  $("waiting").hidden = true;
  $("empty").hidden = true;
  $("page").hidden = false;
  $("classes").replaceChildren(...view.rows);
  $("classes").style.setProperty("--rows", page.classes.length);
  $("classes").scrollTop = 0;
  $("frame").querySelector("img")?.remove();
  $("frame").prepend(view.image);
  zoom.show(view.image);
  view.draw();
  drawImage();
  drawAbove(page);
  if (page.classes.some((shown) => shown.examples.length)) $("page").classList.add("with-examples");
  messages.hideToast();
  mark(0);
  if (!dialogs.isOpen()) $("questions").focus({ preventScroll: true });
  scrollTo(0, 0);
  shownAt = performance.now();
  pace.start();
  messages.progress();
  announce(`${page.label ? `Original label ${page.label}. ` : ""}Classes: ${page.classes.map((c) => c.name).join(", ")}.`);
  prepare();
}

function drawAbove(page) {
  $("label").hidden = !page.label;
  $("label").textContent = page.label ? `Original label: ${page.label}` : "";
  $("earlier").hidden = !(trail.looksBack || page.done);
  $("missing").dataset.count = page.missing?.length || "";
  $("comment").dataset.count = page.comments?.length || "";
}

function drawImage() {
  const { loaded, failed } = trail.current.view;
  $("image-loading").hidden = loaded || failed;
  $("image-failed").hidden = !failed;
}

// Everything not answered is no, and the next image comes.
function next() {
  const page = trail.current;
  if (!page) return;
  if (!isAnswered(page)) {
    if (performance.now() - shownAt < BOUNCE_MS) return;
    if (!page.view.loaded) {
      announce(page.view.failed ? "The image cannot be shown." : "The image is still loading.");
      return;
    }
  }
  const first = !page.done && !messages.isCounted(page.page);
  change(page, page.classes.filter((c) => c.answer === null).map((c) => [c, "no", false]));
  messages.endHint();
  if (first) {
    pace.finish();
    messages.finished(page.page);
    tabs?.postMessage({ left: page.page });
  }
  goOn();
}

function goOn() {
  performance.mark("next");
  if (trail.forward()) {
    show();
    afterPaint(() => performance.measure("next image", "next"));
  } else {
    trail.leave();
    $("page").hidden = true;
    $("waiting").hidden = false;
  }
  refresh();
}

function none() {
  const page = trail.current;
  if (!page || performance.now() - shownAt < BOUNCE_MS || !page.view.loaded) return;
  change(page, page.classes.map((c) => [c, "no", false]));
  next();
}

async function back() {
  if (trail.backward()) {
    show();
    return;
  }
  try {
    const before = trail.first ? `?before=${trail.first.page}` : "";
    trail.recall(await ask(`/api/back${before}`));
    show();
  } catch (error) {
    messages.toast(error.status === 404 ? "There is no earlier image." : "Earlier images are not available without a connection.");
  }
}

function empty(reason) {
  $("waiting").hidden = true;
  $("page").hidden = true;
  $("empty").hidden = false;
  messages.empty(reason);
  if (document.activeElement === document.body) $("empty").focus();
}

function afterPaint(done) {
  requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = done;
    channel.port2.postMessage(null);
  });
}

// ── Answers ──

function answer(shown, value, main = shown.main) {
  const page = trail.current;
  if (!page) return;
  const kept = main && value !== "no";
  const changes = [[shown, value, kept]];
  // One main object at most: the one before is sent again without.
  if (kept) for (const other of page.classes) if (other !== shown && other.main) changes.unshift([other, other.answer, false]);
  change(page, changes);
  mark(page.classes.indexOf(shown));
  announce(`${shown.name}: ${value}${kept ? ", the main object" : ""}.`);
}

function toggleMain(shown) {
  if (shown.main) answer(shown, shown.answer, false);
  else answer(shown, shown.answer === "maybe" ? "maybe" : "yes", true);
}

function change(page, changes) {
  const news = changes.filter(([shown, value, main]) => shown.answer !== value || shown.main !== main);
  if (!news.length) return;
  actions.push([page, news.map(([shown]) => [shown, shown.answer, shown.main])]);
  for (const [shown, value, main] of news) put(page, shown, value, main);
  page.view.draw();
}

function put(page, shown, value, main) {
  Object.assign(shown, { answer: value, main });
  // A first answer that is taken back is a no for the server, unless the rater answers again.
  const said = { answer: value ?? "no", main };
  if (shown.stored?.answer === said.answer && shown.stored.main === main) return;
  shown.stored = said;
  const seen_ms = Math.round(pace.sinceStart);
  outbox.put({ key: newKey(), page: page.page, class_id: shown.class_id, ...said, seen_ms });
  tabs?.postMessage({ page: page.page, class_id: shown.class_id, ...said });
}

function undo() {
  if (!actions.length) {
    back();
    return;
  }
  const [page, before] = actions.at(-1);
  if (page !== trail.current) {
    if (trail.goTo(page)) show();
    else actions.length = 0;
    return;
  }
  actions.pop();
  for (const [shown, value, main] of before.reverse()) put(page, shown, value, main);
  page.view.draw();
  mark(page.classes.indexOf(before[0][0]));
  const open = before.some(([, value]) => value === null);
  messages.toast(open ? "Undone. Classes without an answer count as no." : "Undone.");
}

function remark(page, what) {
  outbox.put({ key: newKey(), page: page.page, ...what });
}

// The image cannot be shown: nobody can answer.
function skip() {
  const page = trail.current;
  remark(page, { text: "The image cannot be shown.", skips: true });
  trail.skip(page.page);
  messages.finished(page.page);
  goOn();
}

function openMissing() {
  const page = trail.current;
  dialogs.missing(page, (match, shown) => {
    if (shown >= 0) {
      mark(shown);
      return;
    }
    remark(page, { missing_class_id: match.class_id });
    page.missing = [...(page.missing ?? []), match.name];
    drawAbove(page);
    messages.toast(`Noted: ${match.name} is missing.`);
  }, (text) => saveComment(page, `Missing: ${text}`));
}

function saveComment(page, text) {
  remark(page, { text });
  page.comments = [...(page.comments ?? []), text];
  drawAbove(page);
  messages.toast("Comment saved.");
}

// ── Rows ──

// What a finger has come down on must not move away from under it: then only keys scroll.
function mark(index, scroll = true) {
  const rows = $("classes").children;
  if (!rows.length) return;
  rows[marked]?.classList.remove("marked");
  marked = subject = Math.min(Math.max(index, 0), rows.length - 1);
  rows[marked].classList.add("marked");
  if (scroll) rows[marked].scrollIntoView({ block: "nearest" });
  if (isEnlarged()) enlarge(trail.current.classes[marked], marked + 1);
}

function move(step) {
  mark(marked + step);
  if (document.activeElement?.type === "radio") {
    const row = $("classes").children[marked];
    (row.querySelector("input:checked") ?? row.querySelector("input")).focus();
  }
  announce(trail.current.classes[marked].name);
}

function answerMarked(value) {
  const answered = marked;
  answer(trail.current.classes[answered], value);
  mark(answered + 1);
  subject = answered;
}

function toggleExamples() {
  if (!shrink()) enlarge(trail.current.classes[marked], marked + 1);
}

// ── Keys ──

const KEYS = {
  Enter: next, ArrowDown: () => move(1), ArrowUp: () => move(-1), j: () => move(1), k: () => move(-1),
  y: () => answerMarked("yes"), m: () => answerMarked("maybe"), n: () => answerMarked("no"),
  s: () => toggleMain(trail.current.classes[subject]), e: toggleExamples, 0: none, x: none,
  u: undo, z: undo, b: back, Backspace: back, PageUp: back,
  a: openMissing, "/": openMissing, c: () => dialogs.comment(trail.current, (text) => saveComment(trail.current, text)),
  "+": () => zoom.in(), "=": () => zoom.in(), "-": () => zoom.out(), f: () => zoom.toggle(),
  Escape: () => { if (!shrink()) zoom.reset(); },
};
const PANS = { ArrowLeft: [-0.2, 0], ArrowRight: [0.2, 0], ArrowUp: [0, -0.2], ArrowDown: [0, 0.2] };

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || dialogs.isOpen() || event.isComposing || event.altKey || letters.isOff(event)) return;
  const action = keyed(event);
  if (!action) return;
  event.preventDefault();
  action();
});

function keyed(event) {
  if (event.key === "?") return () => $("help").showModal();
  if (!trail.current) return !$("empty").hidden && ["b", "Backspace", "u", "z"].includes(event.key) ? back : null;
  if (event.ctrlKey || event.metaKey) return event.key === "z" && !event.shiftKey ? undo : null;
  const onButton = event.target.matches?.("button:focus-visible, a:focus-visible");
  if (onButton && (event.key === "Enter" || event.key === " ")) return null;
  if (event.shiftKey && PANS[event.key]) return () => zoom.pan(...PANS[event.key]);
  const name = nameOf(event);
  const shown = /^[1-8]$/.test(name) && trail.current.classes[name - 1];
  if (/^[1-8]$/.test(name)) return event.repeat || !shown ? () => {} : () => answer(shown, valueOf(event, shown));
  const action = KEYS[name];
  const repeats = /^(Arrow|[-+=jk]$)/.test(event.key);
  return event.repeat && !repeats ? action && (() => {}) : action;
}

// What a key is called here, whatever the keyboard: digits need Shift on some, and others have no Latin letters.
function nameOf({ code, key, shiftKey }) {
  const [, pad, digit] = /^(Digit|Numpad)([0-8])$/.exec(code) ?? [];
  if (pad === "Numpad" && key !== digit) return key; // without NumLock it has arrows
  if (digit > 0 || (digit && !shiftKey)) return digit;
  if (key.length !== 1) return key;
  return /[^ -~]/.test(key) && code.startsWith("Key") ? code.slice(3).toLowerCase() : key.toLowerCase();
}

function valueOf(event, shown) {
  if (event.shiftKey) return shown.answer === "maybe" ? "no" : "maybe";
  return shown.answer === "yes" ? "no" : "yes";
}

// ── Buttons, other tabs, coming and going ──

function onClick(id, action) {
  $(id).addEventListener("click", (event) => {
    if (event.detail > 1) return; // the second of a double click
    action();
  });
}

for (const [id, action] of Object.entries({
  next, none, back, undo, missing: openMissing, comment: KEYS.c,
  "zoom-in": () => zoom.in(), "zoom-out": () => zoom.out(), "zoom-reset": () => zoom.reset(),
  "help-button": () => $("help").showModal(), "enlarged-close": shrink, "image-again": () => trail.current.view.retry(),
  "image-skip": skip,
  "empty-back": back, reload: () => location.reload(), leave,
})) onClick(id, action);

async function leave() {
  const count = outbox.size;
  if (count && !confirm(`Answers that have not been sent yet: ${count}. This browser keeps them and will send them when you return. Log out anyway?`)) return;
  try { localStorage.removeItem(QUEUE); } catch { /* forbidden */ }
  await ask("/leave", {}).catch(() => {});
  location.assign("/");
}

if (tabs) {
  tabs.onmessage = ({ data }) => {
    if (data.session) {
      useSession(data.session);
      outbox.unblock().then(refresh);
    } else if (data.left) {
      messages.finished(data.left);
      if (trail.current?.page === data.left && !document.hasFocus() && isAnswered(trail.current)) goOn();
    } else {
      trail.note(data.page, data.class_id, data.answer, data.main);
      if (trail.current?.page === data.page) trail.current.view.draw();
    }
  };
  tabs.postMessage({ session: session() });
}

addEventListener("online", refresh);
addEventListener("offline", () => messages.trouble("offline"));
addEventListener("pagehide", () => { if (outbox.size) outbox.send(); });
addEventListener("beforeunload", (event) => { if (outbox.fragile) event.preventDefault(); });
document.addEventListener("visibilitychange", () => {
  if (document.hidden) hiddenAt = Date.now(); // goes on while a laptop sleeps
  else if (Date.now() - hiddenAt > AWAY_MS) refresh();
});
addEventListener("resize", () => zoom.reset());

// Without HTTPS there is none, but on this machine.
navigator.serviceWorker?.register("/offline.js").catch(() => {});
dialogs.prepareDialogs();
letters.prepareSwitch($("letters"));
for (const item of outbox.items()) {
  if (item.skips) trail.skip(item.page);
  else if (item.class_id !== undefined) trail.note(item.page, item.class_id, item.answer, item.main);
}
refresh();
