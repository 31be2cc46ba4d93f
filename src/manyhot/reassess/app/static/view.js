// A page as nodes, made before it is shown, with its pictures loaded and decoded.

const $ = (id) => document.getElementById(id);
const ANSWERS = ["no", "maybe", "yes"];
const TILES = 9; // squares of a strip, one for each example image of a class

export class View {
  prepared = false; // whether its pictures were asked for
  lacks = false; // whether some did not come
  #page; #retries = 0;

  // on: answer(shown, value), main(shown), mark(index), enlarge(index), point(image or null), loaded(view)
  constructor(page, on) {
    this.#page = page;
    this.rows = page.classes.map((shown, index) => makeRow(page, shown, index, on));
    this.image = new Image();
    this.image.alt = "The image to rate";
    this.image.draggable = false;
    this.image.fetchPriority = "high";
    this.image.decoding = "sync"; // the picture and its questions appear together
    this.failed = false;
    this.image.addEventListener("load", () => { this.failed = false; on.loaded(this); });
    this.image.addEventListener("error", () => { this.failed = true; on.loaded(this); });
    this.image.src = page.image;
    this.draw();
  }

  get loaded() { return this.image.complete && this.image.naturalWidth > 0; }

  retry() { this.image.src = `${this.#page.image}?again=${(this.#retries += 1)}`; }

  // Resolves when all that can be loaded is there. What could not be loaded before is tried again.
  async prepare() {
    this.prepared = true;
    this.lacks = false;
    if (this.failed) this.retry();
    const examples = this.rows.flatMap((row) => [...row.querySelectorAll(".examples img")]);
    const there = await Promise.all([arrival(this.image), ...examples.map((image) => {
      if (!image.naturalWidth) image.src = image.dataset.src;
      return arrival(image).then((fine) => !(image.hidden = !fine));
    })]);
    this.lacks = there.includes(false);
  }

  draw() {
    this.#page.classes.forEach((shown, index) => {
      const row = this.rows[index];
      row.dataset.answer = shown.answer ?? "";
      for (const input of row.querySelectorAll("input")) input.checked = input.value === shown.answer;
      row.querySelector(".main").setAttribute("aria-pressed", String(shown.main));
    });
  }
}

// Whether an image comes. It is decoded as soon as it is there; nothing waits for that.
async function arrival(image) {
  if (!image.complete) {
    await new Promise((done) => {
      for (const event of ["load", "error"]) image.addEventListener(event, done, { once: true });
    });
  }
  if (!image.naturalWidth) return false;
  image.decode().catch(() => {});
  return true;
}

function makeRow(page, shown, index, on) {
  // Imported, not cloned: in the template's own document no image would ever be loaded.
  const item = document.importNode($("class").content, true).firstElementChild;
  const find = (selector) => item.querySelector(selector);
  const id = `${page.page}-${shown.class_id}`;
  item.id = `row-${id}`;
  find(".number").textContent = index + 1;
  const name = find(".name");
  name.textContent = shown.name;
  name.id = `name-${id}`;
  const also = shown.synonyms.filter((s) => s !== shown.name).join(", ");
  find(".also").textContent = also;
  find(".definition").textContent = shown.definition;
  find(".definition").addEventListener("click", () => on.enlarge(index)); // where it is cut
  find(".text").title = [shown.name + (also ? ` (${also})` : ""), shown.definition].filter(Boolean).join(": ");
  find(".answers").setAttribute("aria-labelledby", name.id);
  for (const [at, input] of [...item.querySelectorAll("input")].entries()) {
    input.name = `answer-${id}`;
    input.value = ANSWERS[at];
    input.addEventListener("change", () => on.answer(shown, input.value));
  }
  find(".text").addEventListener("click", () => on.answer(shown, shown.answer === "yes" ? "no" : "yes"));
  find(".main").setAttribute("aria-label", `${shown.name} is the main object`);
  find(".main").addEventListener("click", () => on.main(shown));
  for (const name of ["pointerdown", "focusin"]) item.addEventListener(name, () => on.mark(index));
  fillExamples(find(".examples"), shown, index, on);
  return item;
}

function fillExamples(strip, shown, index, on) {
  strip.hidden = !shown.examples.length;
  strip.style.setProperty("--count", shown.examples.length);
  strip.style.setProperty("--half", Math.max(4, Math.ceil(shown.examples.length / 2)));
  strip.setAttribute("aria-label", `Enlarge the examples of ${shown.name}`);
  strip.addEventListener("click", () => on.enlarge(index));
  strip.addEventListener("pointerleave", () => on.point(null));
  strip.append(...shown.examples.map((address, at) => {
    const image = new Image();
    image.alt = "";
    image.decoding = "sync";
    image.draggable = false;
    image.dataset.src = shown.strip; // loaded by `prepare`, after the image itself
    image.style.objectPosition = `${(shown.tiles[at] / (TILES - 1)) * 100}% 0`; // "cover" shows one square of it
    image.dataset.small = `${address}/small`;
    image.dataset.large = `${address}/large`;
    image.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") on.point(image); });
    return image;
  }));
}
