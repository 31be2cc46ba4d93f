// Example images, larger: one beside the pointer, or all of a class in place of the questions.

const $ = (id) => document.getElementById(id);
const GAP = 8;

let opener = null; // what had the focus

// Show the example that the pointer is on; null hides it.
export function preview(small) {
  const box = $("preview");
  box.hidden = !small;
  if (!small) return;
  const image = box.firstElementChild;
  image.src = small.dataset.small;
  image.dataset.source = small.dataset.large;
  const large = new Image();
  large.src = small.dataset.large;
  large.decode().then(() => { if (image.dataset.source === small.dataset.large) image.src = large.src; }, () => {});
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
  if (isEnlarged()) return;
  const active = document.activeElement;
  opener = active?.matches("#classes :focus-visible") ? active : $("questions");
  $("enlarged").hidden = false;
  $("classes").inert = true; // nobody tabs through what is covered
  $("enlarged").focus({ preventScroll: true });
}

export const isEnlarged = () => !$("enlarged").hidden;

export function shrink() {
  if (!isEnlarged()) return false;
  const inside = $("enlarged").contains(document.activeElement);
  $("enlarged").hidden = true;
  $("classes").inert = false;
  if (inside) opener.focus({ preventScroll: true });
  return true;
}
