// How many images per hour, over the last of them. Breaks do not count.

const BREAK_MS = 60_000;
const LAST = 40;
const FEWEST = 3;

export class Pace {
  #spent = []; #began = performance.now(); #all = 0;

  start() { this.#began = performance.now(); }

  // Milliseconds since the page came into view.
  get sinceStart() { return performance.now() - this.#began; }

  finish() {
    const spent = Math.min(this.sinceStart, BREAK_MS);
    this.#all += spent;
    this.#spent.push(spent);
    this.#spent = this.#spent.slice(-LAST);
  }

  // In words; empty until there is something to tell.
  describe(left) {
    if (this.#spent.length < FEWEST) return "";
    const each = this.#spent.reduce((a, b) => a + b) / this.#spent.length;
    const hourly = 3_600_000 / Math.max(each, 1);
    const rest = left ? `, about ${duration(left * each)} left` : "";
    return `${round(hourly).toLocaleString()} images per hour, ${duration(this.#all)} so far${rest}`;
  }
}

const round = (value) => (value < 100 ? Math.round(value) : Math.round(value / 10) * 10);

export function duration(ms) {
  const minutes = Math.ceil(ms / 60_000);
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
