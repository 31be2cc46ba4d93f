// The page of a gallery. A classic script, and data that call it: from file:// browsers load no modules and
// fetch nothing. All text of the data set is set as text, never as markup.
"use strict";

const manyhotGallery = (() => {
  const $ = (id) => document.getElementById(id);
  const FILTERS = { show: "", above: "0", model: "", size: "", kind: "", class: "" };
  const BARS = 4; // models that have room for bars; more have numbers on a ground
  const NEAR = 8; // images in the strip on either side
  const VERDICT = {
    right: ["✓", "right"],
    valid: ["◆", "“wrong” but valid"],
    refuted: ["!", "label, but not valid"],
    unclear: ["?", "unclear"],
    unasked: ["○", "not asked"],
    wrong: ["✕", "wrong"],
    unknown: ["–", "no labels"],
    none: ["–", "not predicted"],
  };
  const JUDGED = ["wrong", "valid", "refuted", "unclear", "unasked", "right"]; // filters by what a model says first
  const SIGNS = [
    ["right", "✓", "the original label, valid"],
    ["valid", "◆", "valid, but not the original label, so it counts as wrong under original labels"],
    ["refuted", "!", "the original label, which raters found not to be valid"],
    ["unclear", "?", "raters disagree"],
    ["wrong", "✕", "not valid"],
    ["plain", "○", "no rater was asked about it"],
  ];
  const parts = new Map(); // number → promise of its images
  const waiting = new Map();
  let data, names, fitting = [], at = -1, state = { image: "", ...FILTERS };

  // Data.

  function index(given) {
    data = given;
    names = (c) => data.names[c] ?? `class ${c}`;
    data.absent = new Set(data.absent);
    data.place = new Map(data.ids.map((id, i) => [id, i]));
    fillFilters();
    read();
    addEventListener("hashchange", read);
    performance.mark("manyhot-ready");
  }

  function part(given) {
    waiting.get(given.number)?.(given.images);
    waiting.delete(given.number);
  }

  function load(number) {
    if (!parts.has(number)) {
      parts.set(number, new Promise((done, fail) => {
        waiting.set(number, done);
        const script = document.createElement("script");
        script.src = `data/${number}.js`;
        script.onerror = () => { parts.delete(number); fail(new Error(script.src)); };
        document.head.append(script);
      }));
    }
    return parts.get(number);
  }

  const detail = async (i) => (await load(Math.floor(i / data.part)))[i % data.part];
  const verdict = (i, m) => data.verdicts[data.judged[i][m]];

  // Filters.

  function fillFilters() {
    const add = (id, value, text) => $(id).append(new Option(text, value));
    data.models.forEach((m) => add("model", m, m));
    $("by-model").hidden = data.models.length < 2;
    [...$("show").options].find((o) => o.value === "disagree").hidden = data.models.length < 2;
    const sizes = new Set(data.sets.map((s, i) => (data.known[i] ? Math.min(s.length, 4) : -1)));
    [0, 1, 2, 3, 4].filter((n) => sizes.has(n)).forEach((n) => add("size", String(n), ["empty", "1 class", "2 classes", "3 classes", "4 and more"][n]));
    $("size").parentElement.hidden = ![0, 1, 2, 3, 4].some((n) => sizes.has(n));
    for (const option of $("show").options) {
      if (["valid", "refuted", "unclear", "unasked"].includes(option.value)) option.hidden = !data.known.some(Boolean);
    }
    data.kinds.forEach((k) => add("kind", k, k));
    $("by-kind").hidden = !data.kinds.length;
    $("above").parentElement.hidden = !data.sure.some((s) => s.some((v) => v !== null));
    $("classes").append(...Object.values(data.names).map((n) => new Option("", n)));
    for (const id of Object.keys(FILTERS)) {
      $(id).addEventListener(id === "class" ? "input" : "change", () => change({ [id]: $(id).value }));
    }
  }

  let fits = () => true; // whether a model fits the filters on an image

  function choose() {
    const models = data.models.map((_, m) => m).filter((m) => !state.model || data.models[m] === state.model);
    const above = Number(state.above) * data.whole;
    const sure = (i, m) => above === 0 || (data.sure[i][m] !== null && data.sure[i][m] > above);
    const kind = data.kinds.indexOf(state.kind);
    const words = state.class.trim().toLowerCase();
    const wanted = new Set(Object.keys(data.names).filter((c) => words && data.names[c].toLowerCase().includes(words)).map(Number));
    const exact = Object.keys(data.names).filter((c) => data.names[c].toLowerCase() === words).map(Number);
    if (exact.length) { wanted.clear(); exact.forEach((c) => wanted.add(c)); }
    const one = (i, m) =>
      data.top[i][m] !== null && sure(i, m) &&
      (!JUDGED.includes(state.show) || verdict(i, m) === state.show) &&
      (!state.kind || data.errors[i][m] === kind);
    const asked = (state.show && state.show !== "disagree") || above || state.kind || state.model;
    fits = (i, m) => models.includes(m) && one(i, m);
    const shows = (i) => {
      if (state.size && !(data.known[i] && Math.min(data.sets[i].length, 4) === Number(state.size))) return false;
      if (words && ![data.labels[i], ...data.sets[i], ...data.top[i]].some((c) => wanted.has(c))) return false;
      if (state.show === "disagree" && new Set(data.top[i].filter((c) => c !== null)).size < 2) return false;
      return !asked || models.some((m) => one(i, m));
    };
    return data.ids.map((_, i) => i).filter(shows);
  }

  // The address: what is shown, to be shared.

  function read() {
    const told = new URLSearchParams(location.hash.slice(1));
    state = { image: told.get("image") ?? "" };
    for (const [key, usual] of Object.entries(FILTERS)) {
      $(key).value = told.get(key) ?? usual;
      if ($(key).value !== (told.get(key) ?? usual)) $(key).value = usual; // an option that is not there
      state[key] = $(key).value;
    }
    update();
  }

  function write() {
    const told = new URLSearchParams();
    for (const [key, usual] of Object.entries(FILTERS)) if (state[key] !== usual) told.set(key, state[key]);
    if (at >= 0) told.set("image", state.image);
    // replaceState: each image would else be a step back; file:// allows it for a fragment.
    history.replaceState(null, "", `#${told}`);
  }

  function change(some) {
    Object.assign(state, some);
    update();
  }

  function update() {
    fitting = choose();
    const here = fitting.indexOf(data.place.get(state.image));
    at = fitting.length ? Math.max(0, here) : -1;
    for (const [key, usual] of Object.entries(FILTERS)) $(key).classList.toggle("on", state[key] !== usual);
    $("clear").hidden = Object.entries(FILTERS).every(([key, usual]) => state[key] === usual);
    show();
  }

  function go(to) {
    if (to < 0 || to >= fitting.length || to === at) return;
    at = to;
    show();
  }

  function clear() {
    for (const [key, usual] of Object.entries(FILTERS)) $(key).value = usual;
    change({ ...FILTERS });
  }

  // Drawing.

  function make(tag, about = {}, ...inside) {
    const made = Object.assign(document.createElement(tag), about);
    made.append(...inside);
    return made;
  }

  function sign(tone, text) {
    const made = make("span", { className: `sign ${tone}`, textContent: text });
    made.ariaHidden = "true";
    return made;
  }

  async function show() {
    const place = at;
    $("position").textContent = at < 0 ? "0 images" : `${(at + 1).toLocaleString("en")} of ${fitting.length.toLocaleString("en")}`;
    $("prev").disabled = at <= 0;
    $("next").disabled = at < 0 || at >= fitting.length - 1;
    $("empty").hidden = at >= 0;
    $("shot").hidden = $("strip").parentElement.hidden = at < 0;
    if (at < 0) { write(); strip(); return; }
    const i = fitting[at];
    state.image = data.ids[i];
    write();
    strip();
    const told = await detail(i);
    if (place !== at || fitting[at] !== i) return; // paged on meanwhile
    draw(i, told);
    $("shot").dataset.image = data.ids[i];
    for (const near of [fitting[at + 1], fitting[at - 1]]) {
      if (near === undefined) continue;
      void detail(near);
      if (!data.absent.has(near)) new Image().src = `photos/${near}.jpg`;
    }
  }

  // What is to be said of a class on an image: its tone, sign and words.
  function standing(i, told, c) {
    const label = c === data.labels[i], known = data.known[i];
    const said = data.states[told.states[c]] ?? (data.sets[i].includes(c) ? "yes" : told.unclear.includes(c) ? "unclear" : "");
    if (said === "yes" || (label && !known)) {
      return label ? ["right", "✓", "original label"] : ["valid", "◆", "valid, not the original label"];
    }
    if (said === "unclear") return ["unclear", "?", label ? "original label, unclear" : "unclear"];
    if (label) return said === "not asked" ? ["right", "✓", "original label"] : ["refuted", "!", "original label, not valid"];
    if (said === "no") return ["wrong", "✕", "not valid"];
    if (said === "unrecorded" && known) return ["wrong", "✕", "not in the label set"];
    return known ? ["plain", "○", "not asked"] : ["plain", "✕", "not the original label"];
  }

  function draw(i, told) {
    drawPhoto(i, told);
    $("told").replaceChildren(...sentence(i, told));
    document.title = `${data.ids[i]} · ${data.title}`;
    const set = [...data.sets[i], ...told.unclear].map((c) => {
      const [tone, mark, words] = standing(i, told, c);
      return make("span", { className: `chip ${tone}`, title: words }, sign(tone, mark), names(c));
    });
    $("set").parentElement.hidden = !data.known[i];
    $("set").replaceChildren(...(set.length ? set : [make("span", { className: "off", textContent: "empty" })]));
    const asked = told.rejected ? `${told.rejected} more ${told.rejected === 1 ? "class was" : "classes were"} asked about and found not valid.` : "";
    $("remark").textContent = [data.known[i] && told.remark, asked].filter(Boolean).join(" ");
    $("remark").hidden = !$("remark").textContent;
    $("name").textContent = data.ids[i];
    drawModels(i);
    $("shot").classList.toggle("alone", !Object.values(told.similar).flat().some((row) => !data.absent.has(row)));
    $("guesses").replaceChildren(...rows(told).map((c) => drawRow(i, told, c)));
  }

  // The poster's one look: what the label says, what models say, and how that may be.
  function sentence(i, told) {
    const label = data.labels[i], c = spoken(i);
    const name = (k, id = "") => {
      const [tone, mark] = standing(i, told, k);
      return make("b", { id, className: tone }, sign(tone, mark), "\u00a0", make("span", { id: id && "label", textContent: names(k) }));
    };
    const start = label === null ? ["No label"] : ["The label says ", name(label, "labelled")];
    if (c === null) return [...start, ". No model predicted it."];
    const who = data.models.filter((_, m) => data.top[i][m] === c), n = data.models.length;
    const models = who.length === 1 ? who[0] : who.length === n ? `${n === 2 ? "both" : `all ${n}`} models` : `${who.length}\u00a0of\u00a0${n} models`;
    const most = Math.max(...data.models.map((_, m) => (data.top[i][m] === c ? data.sure[i][m] ?? -1 : -1)));
    const sure = most < 0 ? "" : `, ${who.length > 1 ? "up to " : ""}${finer(most / data.whole).replaceAll(" ", "\u00a0")}`;
    const verb = who.length === 1 ? " says " : " say ";
    const what = c === label ? ["so"] : [name(c)];
    return [...start, "; ", ...breakable(models), verb, ...what, `${sure}. `, make("small", { textContent: closing(i, told, c) })];
  }

  const finer = (share) => (share > 0.99 ? `${Math.min(99.9, Math.floor(1000 * share) / 10).toFixed(1)} %` : percent(share));

  // The class that is spoken of: the surest first one of the models that the filters mean.
  function spoken(i) {
    const all = data.models.map((_, m) => m).filter((m) => data.top[i][m] !== null);
    const meant = all.filter((m) => fits(i, m));
    // Where models disagree the label is one side already.
    const other = (m) => state.show === "disagree" && data.top[i][m] !== data.labels[i];
    const sure = (m) => other(m) * data.whole + (data.sure[i][m] ?? 0);
    const [first] = (meant.length ? meant : all).sort((a, b) => sure(b) - sure(a));
    return first === undefined ? null : data.top[i][first];
  }

  function closing(i, told, c) {
    const label = data.labels[i];
    if (!data.known[i]) return told.remark || (c === label ? "" : "No rater looked for other classes.");
    return {
      valid: data.sets[i].includes(label) ? "Both are valid." : "It is valid, the label is not.",
      refuted: "Raters found it not valid.",
      unclear: "Raters disagree about it.",
      unasked: "No rater was asked about it.",
      wrong: "It is not valid.",
    }[verdict(i, data.top[i].indexOf(c))] ?? "";
  }

  function drawPhoto(i, told) {
    if (typeof told.photo === "string") {
      $("photo").replaceChildren(make("p", { className: "absent", textContent: `No picture: ${told.photo}.` }));
      return;
    }
    const [width, height] = told.photo;
    const alt = data.labels[i] === null ? data.ids[i] : `Labelled ${names(data.labels[i])}`;
    const img = make("img", { src: `photos/${i}.jpg`, width, height, alt });
    img.style.setProperty("--ratio", width / height);
    img.style.setProperty("--most", `${8 * width}px`);
    $("photo").replaceChildren(img);
  }

  function drawModels(i) {
    const heads = data.models.map((model, m) => {
      const said = verdict(i, m), kind = data.errors[i]?.[m] ?? -1;
      let [mark, words] = VERDICT[said];
      if (said === "wrong" && !data.known[i]) words = "not the label"; // which is all that is known
      const badge = make("span", { className: `verdict ${said}`, title: words }, sign(said, mark), make("span", { textContent: words }));
      const more = kind >= 0 ? [make("div", { className: "kind", textContent: data.kinds[kind] })] : [];
      return make("th", { scope: "col" }, make("div", {}, ...breakable(model)), badge, ...more);
    });
    const row = make("tr", {}, make("th", { scope: "col", className: "class" }, make("span", { className: "sr", textContent: "Class" })), ...heads, make("th", { scope: "col", className: "similar", textContent: "Images of this class" }));
    $("models").replaceChildren(row);
    $("shot").classList.toggle("many", data.models.length > 2);
    const heat = data.models.length > BARS;
    $("shot").classList.toggle("heat", heat);
    if (heat) $("seen").tabIndex = 0; // what scrolls must be reached by keys
    $("shot").style.setProperty("--models", data.models.length);
    $("beside").textContent = data.similarBy ? `Next to each class are the images of this class that are most similar to the photograph, according to the embeddings of ${data.similarBy}.` : "Next to each class are some images of this class.";
  }

  // Names of models are long and without spaces: they may break after what joins their parts.
  const breakable = (name) => name.split(/(?<=[-_/.])/).flatMap((piece) => [piece, make("wbr")]);

  // The classes that any model predicts, the surest first; without confidences by their best rank.
  function rows(told) {
    const best = new Map();
    told.seen.forEach((of) => of.forEach(([c, sure], rank) => {
      const score = (sure ?? 0) - rank / 1e3 + (sure === null ? 10 - rank : 0);
      best.set(c, Math.max(best.get(c) ?? -Infinity, score));
    }));
    return [...best.keys()].sort((a, b) => best.get(b) - best.get(a));
  }

  function drawRow(i, told, c) {
    const [tone, mark, words] = standing(i, told, c);
    // What is known of no class but the label is not said in each row.
    const quiet = tone === "plain" && !data.known[i];
    const said = make("span", {}, make("b", { textContent: names(c) }), make("small", { className: quiet ? "sr" : "", textContent: words }));
    const head = make("th", { scope: "row" }, make("div", { className: "named" }, sign(tone, mark), said));
    const cells = told.seen.map((of, m) => {
      const rank = of.findIndex(([other]) => other === c);
      if (rank < 0) return make("td", {}, make("span", { className: "off", textContent: "–" }));
      const sure = of[rank][1];
      const text = sure === null ? `${rank + 1}.` : percent(sure / data.whole);
      const fill = make("i");
      fill.style.width = `${sure === null ? 0 : (100 * sure) / data.whole}%`;
      const bar = make("span", { className: "track" }, fill);
      bar.hidden = sure === null;
      const ground = `${Math.round((sure ?? 0) / data.whole * 60)}%`;
      const number = make("span", { className: "n", textContent: text, title: `rank ${rank + 1}` });
      const cell = make("div", { className: `bar-cell${rank ? "" : " best"}` }, make("span", { className: "who", textContent: data.models[m] }), bar, number);
      cell.style.setProperty("--ground", ground);
      return make("td", {}, cell);
    });
    return make("tr", { className: tone }, head, ...cells, make("td", { className: "similar" }, thumbs(told.similar[c] ?? [], c)));
  }

  function percent(share) {
    const value = 100 * share;
    return value < 1 ? "< 1 %" : value > 99 && value < 100 ? "> 99 %" : `${Math.round(value)} %`;
  }

  function thumbs(rows, c) {
    const there = rows.filter((row) => !data.absent.has(row));
    if (!there.length) return make("div", { className: "thumbs" }, make("span", { className: "none", textContent: "no other image" }));
    return make("div", { className: "thumbs" }, ...there.map((row) => thumb(row, `${names(c)}: ${data.ids[row]}`)));
  }

  function thumb(row, title) {
    const img = make("img", { src: `thumbs/${row}.jpg`, width: 128, height: 128, alt: title, title, loading: "lazy", decoding: "async" });
    return make("a", { href: `#${new URLSearchParams({ image: data.ids[row] })}` }, img);
  }

  function strip() {
    const near = Math.min(NEAR, Math.floor(innerWidth / 128));
    const first = Math.max(0, Math.min(at - near, fitting.length - 2 * near - 1));
    const shown = at < 0 ? [] : fitting.slice(first, first + 2 * near + 1);
    $("strip").replaceChildren(...shown.map((row, k) => {
      const link = data.absent.has(row) ? make("a", {}, make("span", { className: "gap" })) : thumb(row, data.ids[row]);
      link.href = "#";
      link.title = data.ids[row];
      link.tabIndex = -1; // the arrow keys do the same
      link.addEventListener("click", (event) => { event.preventDefault(); go(first + k); });
      if (first + k === at) link.ariaCurrent = "true";
      const worst = ["valid", "wrong", "refuted", "unclear", "unasked"].find((v) => data.models.some((_, m) => verdict(row, m) === v));
      if (worst) link.append(sign(worst, VERDICT[worst][0]));
      return link;
    }));
  }

  // Keys.

  function press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
    const writes = event.target.closest?.("input, select");
    if (event.key === "Escape") { clear(); event.target.blur?.(); return; }
    if (writes || event.target === $("seen")) return;
    const does = {
      ArrowRight: () => go(at + 1),
      ArrowLeft: () => go(at - 1),
      Home: () => go(0),
      End: () => go(fitting.length - 1),
      "/": () => $("class").focus(),
      "?": () => $("keys").showModal(),
    }[event.key];
    if (does) { event.preventDefault(); does(); }
  }

  document.addEventListener("keydown", press);
  $("prev").addEventListener("click", () => go(at - 1));
  $("next").addEventListener("click", () => go(at + 1));
  $("help").addEventListener("click", () => $("keys").showModal());
  $("clear").addEventListener("click", clear);
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("signs").append(...SIGNS.flatMap(([tone, mark, words]) => [make("dt", {}, sign(tone, mark)), make("dd", { textContent: words })]));
  return { index, part };
})();
