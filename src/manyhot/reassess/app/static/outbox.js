// What was answered waits here under a key of its own until the server says that it is kept. It lies in the
// browser's storage: a lost connection, a closed tab or a crash loses nothing. All tabs of a rater share it and
// send what waits from the oldest on, so that a change of mind never overtakes what it changes. What two tabs
// send at once, the server stores once.

import { ask, kindOf, newKey } from "./server.js";

const BATCH = 100;
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 15_000;
const REFUSING = new Set([400, 405, 409, 413, 415, 422]);
const DOCUMENT = newKey();
const DEVICE = "manyhot-device";
const CLOSED = "the campaign is closed"; // it may be opened again

export class Outbox {
  #name; #on; #memory = new Map(); #last = 0; #wait = FIRST_WAIT_MS; #timer = 0; #sending = null; #blocked = false;

  // on: waiting(count), trouble(kind), refused(item, why), fragile()
  constructor(name, on) {
    this.#name = `manyhot-outbox:${name}:`;
    this.#on = on;
  }

  // Keep an item and send it.
  put(item) {
    const at = this.#now();
    item.key = `${device()}-${item.key}`;
    const kept = { ...item, at: Date.now(), since: performance.now(), document: DOCUMENT };
    this.#write(`${this.#name}${String(at).padStart(15, "0")}-${item.key}`, JSON.stringify(kept));
    this.#on.waiting(this.size); // what is sent just now may take its time
    this.send();
  }

  // What waits, in the order in which it was made.
  items() {
    return this.#names().map((name) => this.#read(name)).filter(Boolean);
  }

  get size() { return this.#names().length; }

  // Whether something waits that is lost when this tab is closed.
  get fragile() { return this.#memory.size > 0; }

  // Send all that waits; true where nothing is left.
  send() {
    clearTimeout(this.#timer);
    this.#sending ??= this.#sendAll().finally(() => {
      this.#sending = null;
      this.#on.waiting(this.size);
    });
    return this.#sending;
  }

  // There is a session again.
  unblock() {
    this.#blocked = false;
    return this.send();
  }

  async #sendAll() {
    let most = BATCH;
    while (!this.#blocked) {
      const names = this.#names().slice(0, most);
      this.#on.waiting(this.size);
      if (!names.length) return true;
      try {
        await this.#sendSome(names);
        this.#on.trouble("");
        most = BATCH;
        this.#wait = FIRST_WAIT_MS;
      } catch (error) {
        if (REFUSING.has(error.status)) most = this.#halve(names, error);
        else return this.#later(error);
      }
    }
    return false;
  }

  async #sendSome(names) {
    const items = new Map();
    for (const name of names) {
      const item = this.#read(name);
      if (item) items.set(item.key, [name, item]);
      else this.#remove(name); // not ours, or broken by another program
    }
    if (!items.size) return;
    const answer = await ask("/api/answers", { items: [...items.values()].map(([, item]) => wire(item)) });
    const refused = Object.entries(answer?.refused ?? {});
    const ended = refused.filter(([, why]) => why !== CLOSED).map(([key]) => key);
    const settled = [...(answer?.kept ?? []), ...ended].filter((key) => items.has(key));
    if (!settled.length && !refused.length) throw Object.assign(new Error("nothing was said about what was sent"), { status: 500 });
    for (const key of settled) this.#remove(items.get(key)[0]);
    for (const [key, why] of refused) if (settled.includes(key)) this.#on.refused(items.get(key)[1], why);
    if (refused.some(([, why]) => why === CLOSED)) throw Object.assign(new Error(CLOSED), { status: 423 });
  }

  // The server does not take these together: find the one that it does not take at all, and go on without it.
  #halve(names, error) {
    if (names.length > 1) return Math.ceil(names.length / 2);
    const item = this.#read(names[0]);
    this.#remove(names[0]);
    if (item) this.#on.refused(item, error.message);
    return BATCH;
  }

  #later(error) {
    const kind = kindOf(error);
    this.#blocked = kind === "session" || kind === "elsewhere";
    this.#on.trouble(kind);
    if (!this.#blocked) {
      this.#timer = setTimeout(() => this.send(), error.wait || this.#wait);
      this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT_MS);
    }
    return false;
  }

  // A number that grows, over all tabs and even where the clock is set back.
  #now() {
    const name = this.#name.replace("outbox", "last");
    let last = this.#last;
    try { last = Math.max(last, Number(localStorage.getItem(name)) || 0); } catch { /* forbidden */ }
    this.#last = Math.max(Date.now(), last + 1);
    try { localStorage.setItem(name, String(this.#last)); } catch { /* full or forbidden */ }
    return this.#last;
  }

  #names() {
    let names = [];
    try { names = Object.keys(localStorage).filter((name) => name.startsWith(this.#name)); } catch { /* forbidden */ }
    return [...names, ...this.#memory.keys()].sort();
  }

  #read(name) {
    try { return JSON.parse(this.#memory.get(name) ?? localStorage.getItem(name)); } catch { return null; }
  }

  #write(name, text) {
    try {
      localStorage.setItem(name, text);
    } catch {
      this.#memory.set(name, text);
      this.#on.fragile();
    }
  }

  #remove(name) {
    this.#memory.delete(name);
    try { localStorage.removeItem(name); } catch { /* forbidden */ }
  }
}

// Names this browser in keys: the server then knows whether the order in which answers come is that in which they
// were given.
function device() {
  try {
    const known = localStorage.getItem(DEVICE) ?? newKey().slice(0, 10);
    localStorage.setItem(DEVICE, known);
    return known;
  } catch {
    return DOCUMENT.slice(0, 10);
  }
}

// As the server wants it: how long ago it was, since nobody knows what a rater's clock says. That of a page stands
// still while a laptop sleeps, and the other may be set back: the one that says more is taken. Where it was set
// forward, the server lets nothing be older than the page.
function wire({ at, since, document, ...item }) {
  const age = Math.max(Date.now() - at, document === DOCUMENT ? performance.now() - since : 0);
  return { ...item, age_ms: Math.min(Math.max(0, Math.round(age || 0)), 2 ** 39) };
}
