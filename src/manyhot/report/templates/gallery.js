// The page of a gallery: its data, filters, address and keys. Classic scripts, and data that call this one:
// from file:// browsers load no modules and fetch nothing. All text of the data set is set as text, never as
// markup. Each view is a script of its own, which registers itself with `view`.
"use strict";

const manyhotGallery = (() => {
  const $ = (id) => document.getElementById(id);
  const FILTERS = { show: "", above: "0", model: "", size: "", kind: "", finding: "", outcome: "", pick: "", class: "", text: "" };
  const PAIR = { a: "", b: "" }; // the two models that are compared
  const VERDICT = {
    right: ["✓", "right"],
    valid: ["◆", "“wrong” but valid"],
    refuted: ["!", "label, but not valid"],
    unclear: ["?", "unclear"],
    unasked: ["○", "not asked"],
    wrong: ["✕", "wrong"],
    unknown: ["", "no labels"],
    none: ["–", "not predicted"],
  };
  const JUDGED = ["wrong", "valid", "refuted", "unclear", "unasked", "right"]; // filters by what a model says first
  const SIGNS = [
    ["right", "✓", "the original label, valid"],
    ["valid", "◆", "valid, but wrong according to the original label"],
    ["refuted", "!", "the original label, which raters rejected"],
    ["unclear", "?", "uncertain, or raters disagree"],
    ["wrong", "✕", "not valid"],
    ["plain", "○", "no rater was asked about it"],
  ];
  const parts = new Map(); // number → promise of its images
  const waiting = new Map();
  const views = new Map(); // name → { show, hide }
  const begins = []; // what scripts do once the data are there
  const page = { data: null, fitting: [], at: -1, state: { view: "", image: "", ...FILTERS, ...PAIR }, picked: new Set() };
  let data, state = page.state;

  // Data.

  function index(given) {
    page.data = data = given;
    data.absent = new Set(data.absent);
    data.place = new Map(data.ids.map((id, i) => [id, i]));
    fillFilters();
    begins.forEach((begin) => begin());
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

  const names = (c) => data.names[c] ?? `class ${c}`;
  const detail = async (i) => (await load(Math.floor(i / data.part)))[i % data.part];
  const verdict = (i, m) => data.verdicts[data.judged[i][m]];

  // Filters.

  function fillFilters() {
    const add = (id, value, text) => $(id).append(new Option(text, value));
    data.models.forEach((m) => add("model", m, m));
    $("by-model").hidden = data.models.length < 2;
    [...$("show").options].find((o) => o.value === "disagree").hidden = data.models.length < 2;
    const sizes = new Set(data.sets.slice(0, data.shown).map((s, i) => (data.known[i] ? Math.min(s.length, 4) : -1)));
    [0, 1, 2, 3, 4].filter((n) => sizes.has(n)).forEach((n) => add("size", String(n), ["empty", "1 class", "2 classes", "3 classes", "4 and more"][n]));
    $("size").parentElement.hidden = ![0, 1, 2, 3, 4].some((n) => sizes.has(n));
    for (const option of $("show").options) {
      if (JUDGED.includes(option.value)) option.hidden = !possible(option.value);
    }
    data.kinds.forEach((k) => add("kind", k, k));
    $("by-kind").hidden = !data.kinds.length;
    data.findings.forEach((f) => add("finding", f, f));
    $("by-finding").hidden = !data.findings.length;
    $("above").parentElement.hidden = !data.sure.some((s) => s.some((v) => v !== null));
    $("classes").append(...Object.values(data.names).map((n) => new Option("", n)));
    for (const id of Object.keys(FILTERS)) {
      $(id).addEventListener(["class", "text"].includes(id) ? "input" : "change", () => change({ [id]: $(id).value }));
    }
  }

  // Whether an image can have a verdict: raters give all of them, an original label only two.
  const possible = (said) => data.known.some(Boolean) || (["right", "wrong"].includes(said) && data.labels.some((c) => c !== null));

  let fits = () => true; // whether a model fits the filters on an image

  function choose() {
    const models = data.models.map((_, m) => m).filter((m) => !state.model || data.models[m] === state.model);
    const above = Number(state.above) * data.whole;
    const sure = (i, m) => above === 0 || (data.sure[i][m] !== null && data.sure[i][m] > above);
    const kind = data.kinds.indexOf(state.kind), finding = data.findings.indexOf(state.finding);
    const words = state.class.trim().toLowerCase();
    const wanted = named(words);
    const text = state.text.trim().toLowerCase();
    const one = (i, m) =>
      data.top[i][m] !== null && sure(i, m) &&
      (!JUDGED.includes(state.show) || verdict(i, m) === state.show) &&
      (!state.kind || data.errors[i][m] === kind);
    const asked = (state.show && state.show !== "disagree") || above || state.kind || state.model;
    fits = (i, m) => models.includes(m) && one(i, m);
    const shows = (i) => {
      // What is there only as an example of its class is shown alone, if it is asked for.
      if (i >= data.shown && (state.view || data.ids[i] !== state.image)) return false;
      if (state.size && !(data.known[i] && Math.min(data.sets[i].length, 4) === Number(state.size))) return false;
      if (state.finding && !data.found[i].includes(finding)) return false;
      if (state.pick && page.picked.has(data.ids[i]) !== (state.pick === "in")) return false;
      if (words && ![data.labels[i], ...data.sets[i], ...data.top[i]].some((c) => wanted.has(c))) return false;
      if (text && !haystack(i).includes(text)) return false;
      if (state.show === "disagree" && new Set(data.top[i].filter((c) => c !== null)).size < 2) return false;
      return !asked || models.some((m) => one(i, m));
    };
    const found = [];
    for (let i = 0; i < data.ids.length; i++) if (shows(i)) found.push(i);
    page.everyOutcome = found;
    return state.outcome ? found.filter((i) => manyhotGallery.outcome(i) === state.outcome) : found;
  }

  // Outcomes are named after the two models, which may change.
  function nameOutcomes() {
    const told = manyhotGallery.outcomes(), chosen = $("outcome").value;
    $("outcome").replaceChildren(new Option("any", ""), ...Object.entries(told).map(([key, text]) => new Option(text, key)));
    $("outcome").value = chosen;
  }

  // Classes with a part of a name; only that class where the whole name is given.
  function named(words) {
    const entries = words ? Object.entries(data.names).map(([c, name]) => [Number(c), name.toLowerCase()]) : [];
    const exact = entries.filter(([, name]) => name === words);
    return new Set((exact.length ? exact : entries.filter(([, name]) => name.includes(words))).map(([c]) => c));
  }

  const haystacks = [];
  function haystack(i) {
    const about = [...new Set([data.labels[i], ...data.sets[i], ...data.top[i]])].filter((c) => c !== null).map(names);
    const found = (data.found[i] ?? []).map((f) => data.findings[f]), kinds = (data.errors[i] ?? []).map((k) => data.kinds[k] ?? "");
    return (haystacks[i] ??= [data.ids[i], ...about, ...found, ...kinds].join("\n").toLowerCase());
  }

  // The address: what is shown, to be shared.

  function read() {
    const told = new URLSearchParams(location.hash.slice(1));
    const view = told.get("view") ?? "";
    Object.assign(state, { image: told.get("image") ?? "", view: views.has(view) && usable(view) ? view : "" });
    for (const key of Object.keys(PAIR)) state[key] = told.get(key) ?? "";
    nameOutcomes();
    for (const [key, usual] of Object.entries(FILTERS)) {
      $(key).value = told.get(key) ?? usual;
      if ($(key).value !== (told.get(key) ?? usual)) $(key).value = usual; // an option that is not there
      state[key] = $(key).value;
    }
    update();
  }

  const usable = (view) => view !== "pair" || data.models.length > 1;

  // What stands behind # for what is shown, with some of it otherwise.
  function address(other = {}) {
    const all = { ...state, ...other }, told = new URLSearchParams();
    for (const [key, usual] of Object.entries({ view: "", ...FILTERS, ...PAIR })) if (all[key] !== usual) told.set(key, all[key]);
    if (all.image) told.set("image", all.image);
    return `#${told}`;
  }

  function write() {
    // replaceState: each image would else be a step back; file:// allows it for a fragment.
    history.replaceState(null, "", address(page.at < 0 ? { image: "" } : {}));
  }

  function change(some) {
    Object.assign(state, some);
    if ("a" in some || "b" in some) nameOutcomes();
    if ("outcome" in some) $("outcome").value = some.outcome;
    update();
  }

  function update() {
    page.fitting = choose();
    const here = page.fitting.indexOf(data.place.get(state.image));
    page.at = page.fitting.length ? Math.max(0, here) : -1;
    const set = Object.entries(FILTERS).filter(([key, usual]) => state[key] !== usual).map(([key]) => key);
    for (const key of Object.keys(FILTERS)) $(key).classList.toggle("on", set.includes(key));
    $("clear").hidden = !set.length;
    $("more").textContent = set.length ? `Filters (${set.length})` : "Filters";
    for (const button of $("views").children) {
      button.ariaPressed = String(button.dataset.view === state.view);
      button.hidden = !usable(button.dataset.view);
    }
    $("empty").hidden = page.at >= 0;
    views.forEach((view, name) => name === state.view || view.hide());
    show();
  }

  function show() {
    state.image = page.at < 0 ? state.image : data.ids[page.fitting[page.at]];
    write();
    const n = page.fitting.length, images = `${n.toLocaleString("en")} image${n === 1 ? "" : "s"}`;
    $("position").textContent = state.view || page.at < 0 ? images : `${(page.at + 1).toLocaleString("en")} of ${n.toLocaleString("en")}`;
    $("prev").hidden = $("next").hidden = Boolean(state.view);
    $("prev").disabled = page.at <= 0;
    $("next").disabled = page.at < 0 || page.at >= n - 1;
    views.get(state.view).show();
  }

  function go(to) {
    if (to < 0 || to >= page.fitting.length || to === page.at) return;
    page.at = to;
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

  function thumb(row, title, href = address({ view: "", image: data.ids[row] })) {
    const about = { src: `thumbs/${row}.jpg`, width: 160, height: 160, alt: title, title, loading: "lazy", decoding: "async" };
    return make("a", { href }, data.absent.has(row) ? make("span", { className: "gap", textContent: "no picture" }) : make("img", about));
  }

  const finer = (share) => (share > 0.99 ? `${Math.min(99.9, Math.floor(1000 * share) / 10).toFixed(1)} %` : percent(share));

  function percent(share) {
    const value = 100 * share;
    if (value < 1) return value < 0.05 ? "< 0.1 %" : `${value.toFixed(1)} %`;
    return value > 99 && value < 100 ? "> 99 %" : `${Math.round(value)} %`;
  }

  // Names of models are long and without spaces: they may break after what joins their parts.
  const breakable = (name) => name.split(/(?<=[-_/.])/).flatMap((piece) => [piece, make("wbr")]);

  // The class that is spoken of: the surest first one of the models that the filters mean.
  function spoken(i) {
    const all = (state.outcome ? manyhotGallery.two() : data.models.map((_, m) => m)).filter((m) => data.top[i][m] !== null);
    const meant = all.filter((m) => fits(i, m));
    // Where models disagree the label is one side already.
    const other = (m) => state.show === "disagree" && data.top[i][m] !== data.labels[i];
    const sure = (m) => other(m) * data.whole + (data.sure[i][m] ?? 0);
    const [first] = (meant.length ? meant : all).sort((a, b) => sure(b) - sure(a));
    return first === undefined ? null : data.top[i][first];
  }

  // The false positives and misses of some models on an image, the most confident first.
  const pairsOf = (i, models = data.models.map((_, m) => m)) => (data.pairs[i] ?? [])
    .filter(([m]) => models.includes(m))
    .map(([m, c, missed, sure, threshold]) => ({ m, c, missed, sure, threshold }));

  const judged = new Map(); // model → whether its false positives and misses are known
  const hasPairs = (m) => judged.get(m) ?? judged.set(m, data.pairs.some((of) => of.some(([k]) => k === m))).get(m);

  // What an image shows: its label or, without one, its label set.
  const labelled = (i) => {
    if (data.labels[i] !== null) return names(data.labels[i]);
    return data.known[i] ? data.sets[i].map(names).join(", ") || "empty label set" : "no label";
  };

  // The sign of the worst verdict of some models on an image; none where all are right.
  const worst = (row, models = data.models.map((_, m) => m)) =>
    ["valid", "wrong", "refuted", "unclear", "unasked"].find((v) => models.some((m) => verdict(row, m) === v));

  // Keys.

  const toggleGrid = () => change({ view: state.view ? "" : "grid" });

  function press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const writes = event.target.closest?.("input, select");
    if (event.key === "Escape") { clear(); event.target.blur?.(); return; }
    if (writes || event.target === $("seen")) return;
    const paging = state.view ? {} : {
      ArrowRight: () => go(page.at + 1),
      ArrowLeft: () => go(page.at - 1),
      Home: () => go(0),
      End: () => go(page.fitting.length - 1),
      s: () => $("pick-one").click(),
    };
    const does = {
      ...paging,
      g: toggleGrid,
      "/": () => { $("filters").classList.add("open"); $("class").focus(); },
      "?": () => $("keys").showModal(),
    }[event.key];
    if (does) { event.preventDefault(); does(); }
  }

  document.addEventListener("keydown", press);
  $("prev").addEventListener("click", () => go(page.at - 1));
  $("next").addEventListener("click", () => go(page.at + 1));
  $("help").addEventListener("click", () => $("keys").showModal());
  $("clear").addEventListener("click", clear);
  $("more").addEventListener("click", () => { $("more").ariaExpanded = String($("filters").classList.toggle("open")); });
  $("views").addEventListener("click", (event) => event.target.dataset.view !== undefined && change({ view: event.target.dataset.view }));
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("signs").append(...SIGNS.flatMap(([tone, mark, words]) => [make("dt", {}, sign(tone, mark)), make("dd", { textContent: words })]));
  const view = (name, parts) => { views.set(name, parts); };
  return { index, part, view, begins, page, $, VERDICT, names, detail, verdict, fits: (i, m) => fits(i, m), address, change, update, go, make, sign, thumb, finer, percent, breakable, spoken, worst, pairsOf, hasPairs, labelled };
})();
