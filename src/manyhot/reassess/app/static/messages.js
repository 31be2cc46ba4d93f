// Messages to the rater: progress, pace, what is saved, and what went wrong.

const $ = (id) => document.getElementById(id);
const SHORTLY_MS = 2500;
const HINT = "manyhot-hint";

const TROUBLES = {
  offline: "No connection. Your answers are kept in this browser and will be sent when the connection is restored.",
  server: "The server is not working properly. Your answers are kept in this browser and will be sent later.",
  busy: "The server is busy. Your answers are kept in this browser and will be sent shortly.",
  shut: "The campaign is closed. Answers that have not been sent yet are kept in this browser, and will be sent if the campaign is reopened.",
  session: "Your session has ended. To continue, open your invitation link again in this browser. Answers that have not been sent yet are kept, and will be sent when you open the link.",
  elsewhere: "An invitation link was opened in another tab. Reload this page to continue. Answers that have not been sent yet are kept.",
};

const EMPTY = {
  finished: ["All done", "You have answered everything. Thank you."],
  taken: ["Nothing to do right now", "Other raters have the remaining images open. If they do not answer, this page will continue automatically with these images. You can also come back later."],
  paused: ["Paused", "The campaign is paused. This page will continue automatically when the campaign is resumed."],
  closed: ["Closed", "The campaign is closed. Thank you for your answers."],
  limit: ["All done", "You have rated all the images assigned to you. Thank you."],
  stopped: ["Stopped", "The owner of the campaign has ended your participation. Your answers so far are kept. If you have questions, write to the person who sent you your link."],
  "not qualified": ["Stopped", "Your answers to the first test images differ too much from the experts' answers. Your answers so far are kept. To ask whether you can continue, write to the person who sent you your link."],
  "golden pages": ["Stopped", "Your answers to the latest test images differ too much from the experts' answers. Your answers so far are kept. To ask whether you can continue, write to the person who sent you your link."],
  "too fast": ["Stopped", "You answered faster than this campaign allows. Your answers so far are kept. To ask whether you can continue, write to the person who sent you your link."],
  offline: ["No connection", "More images will load when the connection is restored."],
  server: ["The server is not responding", "More images will load when the server responds again."],
  busy: ["The server is busy", "More images will load shortly."],
  session: ["Your session has ended", "Open your invitation link again in this browser to continue."],
  elsewhere: ["Opened in another tab", "Reload this page to continue."],
};

// After these, no more images come, whatever was expected before.
const ENDS = new Set(["finished", "closed", "limit", "stopped", "not qualified", "golden pages", "too fast"]);

// For screen readers.
export function announce(text) { $("say").textContent = text; }

export class Messages {
  left = 0;
  #done = 0; #uncounted = new Set(); #counted = new Set(); #pace; #kind = ""; #refused = new Map(); #timer = 0;

  constructor(describePace) {
    this.#pace = describePace;
    let seen = null;
    try { seen = localStorage.getItem(HINT); } catch { /* forbidden: tell again */ }
    $("hint").hidden = seen !== null;
  }

  endHint() {
    if ($("hint").hidden) return;
    $("hint").hidden = true;
    try { localStorage.setItem(HINT, "seen"); } catch { /* full or forbidden */ }
  }

  // A page was finished here or in another tab; the server may not know yet.
  finished(page) {
    if (this.#counted.has(page)) return;
    this.#counted.add(page);
    this.#uncounted.add(page);
    this.left = Math.max(0, this.left - 1);
  }

  isCounted(page) { return this.#counted.has(page); }

  // The finished pages of which nothing waits: the server counts them from now on.
  uncounted(waiting) {
    const pages = new Set(waiting.map((item) => item.page));
    return [...this.#uncounted].filter((page) => !pages.has(page));
  }

  count(queue, sent) {
    for (const page of sent) this.#uncounted.delete(page);
    this.#done = queue.done;
    this.left = Math.max(0, queue.left - this.#uncounted.size);
    this.progress();
  }

  progress() {
    const done = this.#done + this.#uncounted.size;
    const [have, all] = [done.toLocaleString(), (done + this.left).toLocaleString()];
    $("progress-text").textContent = `${have} of ${all}`;
    $("progress").max = Math.max(1, done + this.left);
    $("progress").value = done;
    $("pace").textContent = this.#pace();
  }

  waiting(count) {
    $("saved").textContent = count ? `${count} not sent yet` : "All sent";
    $("saved").classList.toggle("waits", count > 0);
  }

  trouble(kind) {
    if (kind === this.#kind) return;
    this.#kind = kind;
    $("trouble").hidden = !kind;
    $("trouble-text").textContent = kind ? TROUBLES[kind] : "";
    $("reload").hidden = kind !== "elsewhere";
  }

  refused(item, why) {
    this.#refused.set(why, (this.#refused.get(why) ?? 0) + 1);
    $("refused").replaceChildren(...[...this.#refused].map(([reason, count]) => {
      const line = document.createElement("p"), close = document.createElement("button");
      line.append(`${count === 1 ? "An answer was" : `${count} answers were`} not stored: ${reason}. `);
      close.textContent = "Dismiss";
      close.addEventListener("click", () => {
        this.#refused.delete(reason);
        line.remove();
        ($("page").hidden ? $("empty") : $("questions")).focus({ preventScroll: true }); // it went with the button
      });
      line.append(close);
      return line;
    }));
  }

  fragile() {
    $("fragile").hidden = false;
  }

  // Say something for a moment.
  toast(text) {
    announce(text);
    $("toast").textContent = text;
    $("toast").hidden = false;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => { $("toast").hidden = true; }, SHORTLY_MS);
  }

  // What was said of an image is not said of the next.
  hideToast() { $("toast").hidden = true; }

  // What a rater of a crowd gets at the end; null for others.
  completion(what) {
    const { code, address } = what ?? {};
    $("completion").hidden = !code && !address;
    $("completion-code").textContent = code || "none is needed";
    $("completion-address").hidden = !address;
    if (address) $("completion-address").href = address;
  }

  empty(reason) {
    const [title, text] = EMPTY[reason] ?? ["", reason];
    if (ENDS.has(reason)) {
      this.left = 0;
      this.progress();
    }
    if ($("reason").textContent === text) return;
    $("empty-title").textContent = title;
    $("reason").textContent = text;
    $("empty-back").hidden = reason in TROUBLES || !this.#done;
    $("empty-owner")?.toggleAttribute("hidden", reason !== "finished");
    announce(`${title}. ${text}`);
  }
}
