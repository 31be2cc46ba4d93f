// Many images at once: the grid, and two models image by image. Only the lines in sight are in the page, so
// that 10,000 images open as fast as ten.
"use strict";

(() => {
  const { page, $, VERDICT, names, verdict, fits, change, make, sign, thumb, percent, spoken, pairsOf, hasPairs, labelled } = manyhotGallery;
  const CELL = { grid: [168, 224], pair: [430, 172] }; // least width and height of a cell, in pixels of 16 to the rem
  const GAP = 12, AHEAD = 2; // pixels between cells; lines beyond the window on either side
  const PRINTED = 240; // images of a printed grid
  const GOOD = new Set(["right", "valid"]), BAD = new Set(["wrong", "refuted"]);
  const box = $("grid"), list = make("ul");
  let shown = new Map(), drawn = "", printing = false; // cells by image; what was drawn last
  box.append(list);

  // Which of two models is right.

  function two() {
    const at = (name, other) => (page.data.models.includes(name) ? page.data.models.indexOf(name) : other);
    return [at(page.state.a, 0), at(page.state.b, Math.min(1, page.data.models.length - 1))];
  }

  function outcome(i) {
    const [a, b] = two().map((m) => verdict(i, m));
    if (![a, b].every((v) => GOOD.has(v) || BAD.has(v))) return "open";
    return GOOD.has(a) ? (GOOD.has(b) ? "both" : "a") : GOOD.has(b) ? "b" : "neither";
  }

  function outcomes() {
    const [a, b] = two().map((m) => page.data.models[m]);
    return { both: "both right", a: `only ${a} right`, b: `only ${b} right`, neither: "both wrong", open: "unknown" };
  }

  function begin() {
    for (const id of ["a", "b"]) {
      page.data.models.forEach((m) => $(id).append(new Option(m, m)));
      $(id).addEventListener("change", () => change({ [id]: $(id).value }));
    }
    $("by-outcome").hidden = page.data.models.length < 2;
  }

  function drawPair(found) {
    const counts = { both: 0, a: 0, b: 0, neither: 0, open: 0 };
    for (const i of found) counts[outcome(i)] += 1;
    const told = outcomes(), [a, b] = two(), judged = found.length - counts.open;
    [$("a").value, $("b").value] = [page.data.models[a], page.data.models[b]];
    const n = (count) => count.toLocaleString("en");
    const rated = judgedBy(found);
    $("pair-said").replaceChildren(judged
      ? `On ${n(judged)} image${judged === 1 ? "" : "s"}, ${page.data.models[a]} is right on ${n(counts.both + counts.a)} and ${page.data.models[b]} on ${n(counts.both + counts.b)}. `
      : "It is unknown whether these models are right on these images. ", make("small", { textContent: rated }));
    $("pair-counts").replaceChildren(...Object.entries(told).filter(([key]) => counts[key] || key !== "open").map(([key, text]) => {
      const button = make("button", { type: "button" }, `${text} `, make("b", { textContent: n(counts[key]) }));
      button.ariaPressed = String(page.state.outcome === key);
      button.addEventListener("click", () => change({ outcome: page.state.outcome === key ? "" : key }));
      return button;
    }));
  }

  // What right means on these images.
  function judgedBy(found) {
    const rated = found.filter((i) => page.data.known[i]).length;
    if (!rated) return "A prediction is right if it is the original label.";
    if (rated === found.length) return "A prediction is right if it is in the label set.";
    return "A prediction is right if it is in the label set. On images that no rater has seen, it is right if it is the original label.";
  }

  // Drawing of what is in sight.

  function show() {
    $("pair").hidden = page.state.view !== "pair";
    box.hidden = !page.fitting.length;
    document.title = `${page.data.title}: gallery`;
    if (page.state.view === "pair") drawPair(page.everyOutcome);
    shown = new Map();
    drawn = "";
    list.replaceChildren();
    if (box.hidden) return;
    reveal();
    layout();
  }

  function hide() {
    $("pair").hidden = box.hidden = true;
  }

  function measure() {
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
    const [width, height] = CELL[page.state.view].map((pixels) => pixels * rem);
    const across = Math.max(1, Math.floor((box.clientWidth + GAP) / (width + GAP)));
    return { across, height: height + GAP, lines: Math.ceil(page.fitting.length / across) };
  }

  // The image that was open last comes into sight.
  function reveal() {
    const { across, height, lines } = measure();
    box.style.height = `${lines * height}px`;
    const top = box.getBoundingClientRect().top + scrollY, line = Math.floor(Math.max(0, page.at) / across);
    const to = top + line * height;
    if (line === 0) scrollTo(0, 0);
    else if (to < scrollY || to + height > scrollY + innerHeight) scrollTo(0, to - innerHeight / 3);
  }

  function layout() {
    if (box.hidden || printing) return;
    const { across, height, lines } = measure(), above = -box.getBoundingClientRect().top;
    const from = Math.max(0, Math.floor(above / height) - AHEAD);
    const to = Math.min(lines, Math.ceil((above + innerHeight) / height) + AHEAD);
    const now = [from, to, across].join();
    if (now === drawn) return;
    drawn = now;
    box.style.height = `${lines * height}px`;
    list.className = page.state.view;
    list.style.setProperty("--across", across);
    list.style.setProperty("--cell", `${height - GAP}px`);
    list.style.transform = `translateY(${from * height}px)`;
    fill(from * across, to * across);
  }

  function fill(from, to) {
    const inSight = page.fitting.slice(from, to);
    shown = new Map(inSight.map((i, k) => [i, shown.get(i) ?? cell(i, from + k)]));
    list.replaceChildren(...shown.values());
  }

  // On paper nothing scrolls: the first images are all there, and a line says how many there are.
  function print() {
    if (box.hidden) return;
    printing = true;
    fill(0, PRINTED);
    list.querySelectorAll("img").forEach((img) => { img.loading = "eager"; });
    const n = page.fitting.length, images = `${n.toLocaleString("en")} image${n === 1 ? "" : "s"}`;
    $("printed").textContent = n > PRINTED ? `The first ${PRINTED} of ${images} that match the filters.` : `${images} that ${n === 1 ? "matches" : "match"} the filters.`;
  }

  function printed() {
    [printing, drawn] = [false, ""];
    layout();
  }

  function cell(i, place) {
    const { data, picked } = page, id = data.ids[i];
    const box = make("input", { type: "checkbox", checked: picked.has(id), title: "select" });
    box.ariaLabel = `Select ${id}`;
    box.addEventListener("change", () => manyhotGallery.pick(id, box.checked));
    const link = thumb(i, id);
    const made = make("li", {}, link, box, ...(page.state.view === "pair" ? pairText(i) : gridText(i)));
    made.ariaPosInSet = String(place + 1);
    made.ariaSetSize = String(page.fitting.length);
    if (place === page.at) made.className = "at";
    return made;
  }

  // What the surest model that fits says; where the label is said, the label suffices.
  function gridText(i) {
    const { data } = page, c = spoken(i);
    const [pair] = pairsOf(i);
    const models = pair ? [pair.m] : data.models.map((_, m) => m).filter((m) => data.top[i][m] === c);
    const m = models.filter((m) => fits(i, m)).concat(models)[0];
    return [make("b", { className: "name", textContent: labelled(i), title: labelled(i) }), c === null ? make("span", { textContent: "not predicted" }) : guess(i, m)];
  }

  function pairText(i) {
    const lines = two().map((m, k) => make("div", { className: "of" }, make("span", { className: "which", textContent: "AB"[k], title: page.data.models[m] }), guess(i, m)));
    return [make("div", { className: "texts" }, make("b", { className: "name", textContent: labelled(i), title: labelled(i) }), ...lines)];
  }

  function guess(i, m) {
    const { data } = page, [pair] = pairsOf(i, [m]), c = pair ? pair.c : data.top[i][m];
    const said = verdict(i, m), [mark, words] = VERDICT[said], share = pair ? pair.sure : data.sure[i][m];
    const sure = share === null ? "" : ` ${percent(share / data.whole)}`;
    const text = c === null ? "not predicted" : !pair && hasPairs(m) ? "no error" : `${pair?.missed ? "missed: " : ""}${names(c)}${sure}`;
    return make("span", { className: `guess ${said}`, title: `${data.models[m]}: ${text} (${words})` }, sign(said, mark), make("span", { textContent: text }));
  }

  addEventListener("scroll", () => layout(), { passive: true });
  addEventListener("resize", () => layout());
  addEventListener("beforeprint", print);
  addEventListener("afterprint", printed);
  manyhotGallery.outcome = outcome;
  manyhotGallery.outcomes = outcomes;
  manyhotGallery.two = two;
  manyhotGallery.begins.push(begin);
  manyhotGallery.view("grid", { show, hide });
  manyhotGallery.view("pair", { show, hide });
})();
