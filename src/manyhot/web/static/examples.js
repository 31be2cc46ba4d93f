// Example images, larger: one beside the pointer, or all of a class in place of the questions.

const $ = (id) => document.getElementById(id);
const GAP = 8;

// Show the example that the pointer is on; null hides it.
export function preview(small) {
  const box = $("preview");
  box.hidden = !small;
  if (!small) return;
  const image = box.firstElementChild;
  image.src = small.dataset.small;
  image.dataset.wanted = small.dataset.large;
  const large = new Image();
  large.src = small.dataset.large;
  large.decode().then(() => { if (image.dataset.wanted === small.dataset.large) image.src = large.src; }, () => {});
  const strip = small.parentElement.getBoundingClientRect();
  const [width, height] = [box.offsetWidth, box.offsetHeight];
  const left = small.getBoundingClientRect().left + small.offsetWidth / 2 - width / 2;
  const below = strip.bottom + GAP + height <= innerHeight;
  box.style.left = `${Math.min(Math.max(left, $("questions").getBoundingClientRect().left), innerWidth - width - GAP)}px`;
  box.style.top = `${below ? strip.bottom + GAP : Math.max(GAP, strip.top - GAP - height)}px`;
}

// Show all examples of a class beside the image.
export function enlarge(shown, number) {
  preview(null);
  $("enlarged-title").textContent = `${number} ${shown.name}`;
  $("enlarged-also").textContent = shown.synonyms.filter((s) => s !== shown.name).join(", ");
  $("enlarged-definition").textContent = shown.definition;
  $("enlarged-none").hidden = shown.examples.length > 0;
  $("enlarged-images").replaceChildren(...shown.examples.map((address, index) => {
    const image = new Image();
    image.alt = `Example ${index + 1} of ${shown.name}`;
    image.src = `${address}/small`;
    const large = new Image();
    large.src = `${address}/large`;
    large.decode().then(() => { image.src = large.src; }, () => {});
    const item = document.createElement("li");
    item.append(image);
    return item;
  }));
  $("enlarged").hidden = false;
}

export const isEnlarged = () => !$("enlarged").hidden;

export function shrink() {
  const was = isEnlarged();
  $("enlarged").hidden = true;
  return was;
}
