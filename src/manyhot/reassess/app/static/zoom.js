// Looking closer: wheel, pinch, double click and keys. The image never leaves its frame.

const MOST = 12;
const CLOSER = 2.5;
const STEP = 1.4;

export class Zoom {
  #frame; #image = null; #scale = 1; #x = 0; #y = 0; #fingers = new Map(); #changed;

  // changed: is told the scale
  constructor(frame, changed) {
    this.#frame = frame;
    this.#changed = changed;
    frame.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    frame.addEventListener("dblclick", (event) => {
      if (!event.target.closest("button")) this.toggle(this.#point(event));
    });
    frame.addEventListener("pointerdown", (event) => this.#down(event));
    frame.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      frame.addEventListener(name, (event) => this.#fingers.delete(event.pointerId));
    }
  }

  // Show another image, as a whole.
  show(image) {
    this.#image = image;
    this.#fingers.clear();
    this.reset();
  }

  reset() {
    this.#scale = 1;
    this.#x = this.#y = 0;
    this.#draw();
  }

  in() { this.#by(STEP, { x: 0, y: 0 }); }
  out() { this.#by(1 / STEP, { x: 0, y: 0 }); }
  pan(x, y) { this.#x -= x * this.#frame.clientWidth; this.#y -= y * this.#frame.clientHeight; this.#draw(); }
  toggle(point = { x: 0, y: 0 }) { this.#scale > 1 ? this.reset() : this.#by(CLOSER, point); }
  get zoomed() { return this.#scale > 1; }

  // Points are counted from the middle of the frame.
  #point(event) {
    const box = this.#frame.getBoundingClientRect();
    return { x: event.clientX - box.left - box.width / 2, y: event.clientY - box.top - box.height / 2 };
  }

  // What lies under a point stays under it.
  #by(factor, point) {
    const scale = Math.min(Math.max(this.#scale * factor, 1), MOST);
    const grown = scale / this.#scale;
    this.#x = point.x - (point.x - this.#x) * grown;
    this.#y = point.y - (point.y - this.#y) * grown;
    this.#scale = scale;
    this.#draw();
  }

  #draw() {
    const most = (length) => (length * (this.#scale - 1)) / 2;
    const within = (value, limit) => Math.min(Math.max(value, -limit), limit);
    this.#x = within(this.#x, most(this.#frame.clientWidth));
    this.#y = within(this.#y, most(this.#frame.clientHeight));
    if (this.#image) {
      this.#image.style.transform = this.zoomed ? `translate(${this.#x}px, ${this.#y}px) scale(${this.#scale})` : "";
    }
    this.#frame.classList.toggle("zoomed", this.zoomed);
    this.#changed(this.#scale);
  }

  #wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    this.#by(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002)), this.#point(event));
  }

  #down(event) {
    if (event.target.closest("button") || event.button > 0) return;
    this.#frame.setPointerCapture(event.pointerId);
    this.#fingers.set(event.pointerId, this.#point(event));
  }

  #move(event) {
    const before = this.#fingers.get(event.pointerId);
    if (!before) return;
    const now = this.#point(event);
    const other = [...this.#fingers].find(([id]) => id !== event.pointerId)?.[1];
    this.#fingers.set(event.pointerId, now);
    if (other) {
      const apart = (a) => Math.hypot(a.x - other.x, a.y - other.y) || 1;
      this.#by(apart(now) / apart(before), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
    } else {
      this.#x += now.x - before.x;
      this.#y += now.y - before.y;
      this.#draw();
    }
  }
}
