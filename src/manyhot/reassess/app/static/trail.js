// The image that is looked at, those before it and those after it, and what was answered to each.
//
// What the server says of a page may be older than what was answered here or in another tab: answers on their
// way are laid over it, and a page all of whose questions are answered does not come again.

const MOST_PAST = 60;

export class Trail {
  #past = []; #at = -1; #ahead = []; #answers = new Map(); #skipped = new Set();

  get current() { return this.#past[this.#at] ?? null; }
  get ahead() { return this.#ahead; }
  get first() { return this.#past[0] ?? null; }

  // Whether the image that is looked at is one of those before.
  get looksBack() { return this.#at >= 0 && this.#at < this.#past.length - 1; }

  // Note an answer that was given here, in another tab, or before a reload.
  note(page, classId, answer, main) {
    this.#answers.set(`${page}/${classId}`, { answer, main });
    for (const known of [...this.#past, ...this.#ahead]) if (known.page === page) this.#lay(known);
  }

  // A page whose image cannot be shown.
  skip(page) { this.#skipped.add(page); }

  // Take pages from the server: those it does not name any more are not this rater's any more.
  receive(pages) {
    const open = new Set(pages.map((p) => p.page));
    const known = new Set([...this.#past, ...this.#ahead].map((p) => p.page));
    this.#ahead.push(...pages.filter((p) => !known.has(p.page)).map((p) => this.#lay(p)));
    this.#ahead = this.#ahead.filter((p) => open.has(p.page) && !isAnswered(p) && !this.#skipped.has(p.page));
  }

  forward() {
    if (!this.looksBack) {
      while (this.#ahead.length && isAnswered(this.#ahead[0])) this.#ahead.shift(); // in another tab
      if (!this.#ahead.length) return false;
      this.#past.push(this.#ahead.shift());
      if (this.#past.length > MOST_PAST) this.#past.shift();
      this.#at = this.#past.length - 1;
    } else {
      this.#at += 1;
    }
    return true;
  }

  backward() {
    if (this.#at < 1) return false;
    this.#at -= 1;
    return true;
  }

  // There is no next page yet.
  leave() { this.#at = this.#past.length; }

  // Go to an earlier page that the server remembers.
  recall(page) {
    this.#past.unshift(this.#lay(page));
    this.#at = 0;
  }

  // Go to a page that was looked at.
  goTo(page) {
    const at = this.#past.indexOf(page);
    if (at >= 0) this.#at = at;
    return at >= 0;
  }

  #lay(page) {
    for (const shown of page.classes) {
      const answer = this.#answers.get(`${page.page}/${shown.class_id}`);
      if (answer) Object.assign(shown, answer);
      shown.stored = shown.answer === null ? null : { answer: shown.answer, main: shown.main };
    }
    return page;
  }
}

export const isAnswered = (page) => page.classes.every((shown) => shown.answer !== null);
