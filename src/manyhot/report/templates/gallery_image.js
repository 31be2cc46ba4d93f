// One image: the sentence, the photograph, and each class with its images.
"use strict";

(() => {
  const { page, $, VERDICT, names, detail, verdict, go, make, sign, thumb, finer, percent, breakable, spoken, worst, pairsOf, hasPairs } = manyhotGallery;
  const BARS = 4; // models that have room for bars; more have numbers on a ground
  const NEAR = 8; // images in the strip on either side
  const ENOUGH = 3; // images of a class that need no remark
  let data;

  async function show() {
    data = page.data;
    const { fitting, at } = page;
    $("shot").hidden = $("strip").parentElement.hidden = at < 0;
    strip();
    if (at < 0) return;
    const i = fitting[at];
    const told = await detail(i);
    if (page.state.view || page.fitting[page.at] !== i) return; // paged on meanwhile
    draw(i, told);
    $("shot").dataset.image = data.ids[i];
    for (const near of [fitting[at + 1], fitting[at - 1]]) {
      if (near === undefined) continue;
      void detail(near);
      if (!data.absent.has(near)) new Image().src = `photos/${near}.jpg`;
    }
  }

  function hide() {
    $("shot").hidden = $("strip").parentElement.hidden = true;
  }

  // The models whose columns are shown: all, or the two that are compared.
  const shownModels = () => (page.state.outcome ? manyhotGallery.two() : data.models.map((_, m) => m));

  // What is to be said of a class on an image: its tone, sign and words.
  function standing(i, told, c) {
    const label = c === data.labels[i], known = data.known[i];
    const said = data.states[told.states[c]] ?? (data.sets[i].includes(c) ? "yes" : told.unclear.includes(c) ? "unclear" : "");
    if (!known && !label) return data.labels[i] === null ? ["plain", "", ""] : ["plain", "✕", "not the original label"];
    if (said === "yes" || !known) {
      if (data.labels[i] === null) return ["right", "✓", "valid"];
      return label ? ["right", "✓", "original label"] : ["valid", "◆", "valid, not the original label"];
    }
    if (said === "unclear") return ["unclear", "?", label ? "original label, unclear" : "unclear"];
    if (label) return said === "not asked" ? ["right", "✓", "original label"] : ["refuted", "!", "original label, not valid"];
    if (said === "no") return ["wrong", "✕", "not valid"];
    if (said === "unrecorded") return ["wrong", "✕", "not in the label set"];
    return ["plain", "○", "not asked"];
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
    const asked = data.known[i] && told.rejected ? `${told.rejected} more ${told.rejected === 1 ? "class was" : "classes were"} asked about and found not valid.` : "";
    $("remark").textContent = [data.known[i] && told.remark, asked].filter(Boolean).join(" ");
    $("remark").hidden = !$("remark").textContent;
    $("findings").replaceChildren(...(data.found[i] ?? []).map((f) => make("li", { textContent: data.findings[f] })));
    $("findings").hidden = !$("findings").childElementCount;
    $("name").textContent = data.ids[i];
    $("pick-one").ariaPressed = String(page.picked.has(data.ids[i]));
    $("pick-one").textContent = page.picked.has(data.ids[i]) ? "★ Selected" : "☆ Select";
    drawModels(i);
    $("guesses").replaceChildren(...rows(i, told).map((c) => drawRow(i, told, c)));
    drawBeside(told);
  }

  function drawBeside(told) {
    const alone = !Object.values(told.similar).flat().some((row) => !data.absent.has(row));
    $("shot").classList.toggle("alone", alone);
    $("beside").textContent = alone
      ? "The gallery contains no other images of these classes."
      : data.similarBy
        ? `Each row shows the images of its class that are most similar to the photograph, according to the embeddings of ${data.similarBy}.`
        : "Each row shows examples of its class.";
  }

  // The poster's one look: what the label says, what models say, and how that may be.
  function sentence(i, told) {
    const label = data.labels[i], c = spoken(i);
    const name = (k, id = "") => {
      const [tone, mark] = standing(i, told, k);
      return make("b", { id, className: tone }, ...(mark ? [sign(tone, mark), "\u00a0"] : []), make("span", { id: id && "label", textContent: names(k) }));
    };
    const [pair] = pairsOf(i, shownModels());
    if (pair) return [...breakable(data.models[pair.m]), pair.missed ? " misses " : " predicts ", name(pair.c), `${shareOf(pair.sure)}. `, make("small", { textContent: afterPair(i, told, pair) })];
    if (judgedByPairs(i)) return ["No false positive or miss."];
    // Images of multi-label data have no single label, which need not be said.
    const single = !data.known[i] || data.labels.some((c) => c !== null);
    const start = label !== null ? ["The label says ", name(label, "labelled")] : single ? ["No label"] : [];
    const found = (data.found[i] ?? []).map((f) => data.findings[f]).join(", ");
    if (found && !start.length) start.push(make("b", { textContent: found[0].toUpperCase() + found.slice(1) }));
    if (c === null) return start.length ? [...start, ". No model has a prediction for this image."] : ["No model has a prediction for this image."];
    const said = shownModels().filter((m) => data.top[i][m] === c);
    const who = said.map((m) => data.models[m]), n = shownModels().length;
    const models = who.length === 1 ? who[0] : who.length === n ? `${n === 2 ? "both" : `all ${n}`} models` : `${who.length}\u00a0of\u00a0${n} models`;
    const most = Math.max(...said.map((m) => data.sure[i][m] ?? -1));
    const sure = most < 0 ? "" : `, ${who.length > 1 ? "up to " : ""}${finer(most / data.whole).replaceAll(" ", "\u00a0")}`;
    const verb = who.length === 1 ? " says " : " say ";
    const what = c === label ? ["so"] : [name(c)];
    const after = [c === label || label === null ? "" : labelPlace(told, said), closing(i, told, c)].filter(Boolean).join(" ");
    return [...start, ...(start.length ? ["; "] : []), ...breakable(models), verb, ...what, `${sure}. `, make("small", { textContent: after })];
  }

  // Whether an image is right because none of the classes is an error.
  const judgedByPairs = (i) => data.pairs.length > 0 && shownModels().every((m) => verdict(i, m) === "right" && hasPairs(m));

  const shareOf = (sure) => (sure === null ? "" : `, ${finer(sure / data.whole).replaceAll(" ", "\u00a0")}`);

  // Why this is an error, and how many more errors there are on the image.
  function afterPair(i, told, { c, missed, threshold }) {
    const from = threshold === null ? "" : ` (predicted from ${finer(threshold / data.whole).replaceAll(" ", "\u00a0")})`;
    const more = pairsOf(i, shownModels()).length - 1;
    const others = more ? ` ${more} more error${more === 1 ? "" : "s"} on this image.` : "";
    return `${missed ? "It is valid" : invalid(told, c)}${from}.${others}`;
  }

  // A class may be absent from a label set although nobody found it not valid.
  const invalid = (told, c) => (data.states[told.states[c]] === "unrecorded" ? "It is not in the label set" : "It is not valid");

  // Where these models put the label: its best rank among them.
  function labelPlace(told, models) {
    const places = models.map((m) => told.places[m]).filter(Boolean);
    const [best] = places.filter(([rank]) => rank !== null).sort(([a, , x], [b, , y]) => a - b || y - x);
    if (best) return `The label comes ${ordinal(best[0])}${places.length > 1 ? " at best" : ""}${best[2] === null ? "" : `, ${percent(best[2] / data.whole).replaceAll(" ", "\u00a0")}`}.`;
    return places.length ? `The label is not among the top ${Math.max(...places.map(([, n]) => n))}.` : "";
  }

  function ordinal(n) {
    const ending = n % 100 > 10 && n % 100 < 14 ? "th" : ["th", "st", "nd", "rd"][n % 10] ?? "th";
    return `${n.toLocaleString("en")}${ending}`;
  }

  function closing(i, told, c) {
    const label = data.labels[i];
    if (!data.known[i] && label === null) return told.remark || "No rater has seen this image.";
    if (!data.known[i]) return told.remark || (c === label ? "" : "No rater looked for other classes.");
    return {
      valid: data.sets[i].includes(label) ? "Both are valid." : "It is valid; the label is not.",
      refuted: "Raters found it not valid.",
      unclear: data.voted ? "Raters disagree about it." : "The label is uncertain.",
      unasked: "No rater was asked about it.",
      wrong: `${invalid(told, c)}.`,
    }[verdict(i, data.top[i].indexOf(c))] ?? "";
  }

  function drawPhoto(i, told) {
    const missing = typeof told.photo === "string";
    const [width, height] = missing ? [4, 3] : told.photo;
    $("shot").style.setProperty("--ratio", width / height);
    $("shot").style.setProperty("--most", `${8 * width}px`); // eight times its pixels at most
    $("shot").style.setProperty("--span", width / height < 0.95 ? 3 : 2); // lines of cards beside it
    if (missing) {
      $("photo").replaceChildren(make("p", { className: "absent", textContent: `No picture: ${told.photo}.` }));
      return;
    }
    const alt = data.labels[i] === null ? data.ids[i] : `Labelled ${names(data.labels[i])}`;
    $("photo").replaceChildren(make("img", { src: `photos/${i}.jpg`, width, height, alt }));
  }

  function drawModels(i) {
    const heads = shownModels().map((m) => {
      const said = verdict(i, m), kind = data.errors[i]?.[m] ?? -1;
      let [mark, words] = VERDICT[said];
      if (said === "wrong" && !data.known[i]) words = "not the label"; // which is all that is known
      const badge = make("span", { className: `verdict ${said}`, title: words }, sign(said, mark), make("span", { textContent: words }));
      const more = kind >= 0 ? [make("div", { className: "kind", textContent: data.kinds[kind] })] : [];
      return make("th", { scope: "col" }, make("div", {}, ...breakable(data.models[m])), badge, ...more);
    });
    const row = make("tr", {}, make("th", { scope: "col", className: "class" }, make("span", { className: "sr", textContent: "Class" })), ...heads, make("th", { scope: "col", className: "similar", textContent: "Images of this class" }));
    $("models").replaceChildren(row);
    $("shot").classList.toggle("one", heads.length === 1);
    const heat = heads.length > BARS;
    $("shot").classList.toggle("heat", heat);
    if (heat) $("seen").tabIndex = 0; // what scrolls must be reached by keys
    $("shot").style.setProperty("--models", heads.length);
  }

  // The classes that any model predicts, the surest first, without confidences by their best rank. Where no
  // model has the label among its top classes, it stands beside the first: these two are to be compared.
  // False positives and misses come first.
  function rows(i, told) {
    const best = new Map();
    shownModels().forEach((m) => told.seen[m].forEach(([c, sure], rank) => {
      const score = (sure ?? 0) - rank / 1e3 + (sure === null ? 10 - rank : 0);
      best.set(c, Math.max(best.get(c) ?? -Infinity, score));
    }));
    const sorted = [...best.keys()].sort((a, b) => best.get(b) - best.get(a));
    const label = data.labels[i];
    const errors = new Set(pairsOf(i, shownModels()).map(({ c }) => c));
    if (errors.size) return [...new Set([...errors, ...sorted])];
    return label === null || best.has(label) ? sorted : sorted.toSpliced(1, 0, label);
  }

  function drawRow(i, told, c) {
    const [tone, mark, words] = standing(i, told, c);
    // What is known of no class but the label is not said in each row.
    const quiet = tone === "plain" && !data.known[i];
    const said = make("span", {}, make("b", { textContent: names(c) }), make("small", { className: quiet ? "sr" : "", textContent: words }));
    const head = make("th", { scope: "row" }, make("div", { className: "named" }, sign(tone, mark), said));
    const cells = shownModels().map((m) => make("td", {}, drawCell(i, told, c, m)));
    return make("tr", { className: `${tone}${c === data.labels[i] ? " label" : ""}` }, head, ...cells, make("td", { className: "similar" }, ...likeness(i, told, c)));
  }

  // The rank and the confidence of a class, as far as the model's predictions tell them.
  function placeOf(i, told, c, m) {
    const rank = told.seen[m].findIndex(([other]) => other === c);
    if (rank >= 0) return [rank + 1, told.seen[m][rank][1]];
    const pair = pairsOf(i, [m]).find((of) => of.c === c);
    if (pair) return [told.seen[m].length + 1, pair.sure];
    const place = c === data.labels[i] ? told.places[m] : null;
    return place ? [place[0] ?? -place[1], place[2]] : null;
  }

  function drawCell(i, told, c, m) {
    const place = placeOf(i, told, c, m);
    if (!place) return make("span", { className: "off", textContent: "–" });
    const [rank, sure] = place, who = make("span", { className: "who", textContent: data.models[m] });
    if (rank < 0) return make("div", { className: "bar-cell" }, who, make("span", { className: "beyond", textContent: `not in its top ${-rank}` }));
    const fill = make("i");
    fill.style.width = `${sure === null ? 0 : (100 * sure) / data.whole}%`;
    const bar = make("span", { className: "track" }, fill);
    bar.hidden = sure === null;
    const text = sure === null ? `${rank}.` : percent(sure / data.whole);
    const isLabel = c === data.labels[i] && rank > 1 && sure !== null;
    const number = make("span", { className: "n", textContent: text, title: `rank ${rank}` });
    const behind = isLabel ? [make("small", { className: "rank", textContent: ordinal(rank) })] : [];
    const pair = pairsOf(i, [m]).find((of) => of.c === c);
    const error = pair ? [make("small", { className: "pair-error", textContent: pair.missed ? "missed" : "false positive" })] : [];
    const cell = make("div", { className: `bar-cell${rank > 1 ? "" : " best"}` }, who, bar, make("span", { className: "numbers" }, number, ...behind), ...error);
    cell.style.setProperty("--ground", `${Math.round((sure ?? 0) / data.whole * 60)}%`);
    return cell;
  }

  // Images of a class, and what is to be said where there are few.
  function likeness(i, told, c) {
    const label = data.labels[i] === null ? data.sets[i].includes(c) : c === data.labels[i], rows = told.similar[c] ?? [], there = rows.filter((row) => !data.absent.has(row));
    const others = (data.members[c] ?? 0) - label;
    const itself = !others && label && !data.absent.has(i);
    const thumbs = make("div", { className: "thumbs" }, ...(itself ? [i] : there).map((row) => thumb(row, `${names(c)}: ${data.ids[row]}`)));
    const remark = make("small", { className: "few", textContent: few(label, others, rows.length, there.length) });
    return [...(thumbs.childElementCount ? [thumbs] : []), ...(remark.textContent ? [remark] : [])];
  }

  function few(label, others, n, there) {
    if (there >= ENOUGH) return "";
    if (!others) return label ? "this is the only image of the class" : "no image of the class";
    const images = `${others.toLocaleString("en")} ${label ? "other " : ""}image${others === 1 ? "" : "s"}`;
    if (there < n) return `no picture of ${n - there} of the class’s ${images}`;
    return n < others ? `${n} of the class’s ${images}` : `the class has only ${images}`;
  }

  function strip() {
    const { fitting, at } = page;
    const near = Math.max(2, Math.min(NEAR, Math.floor((innerWidth - 144) / 128))); // whole pictures of 64 pixels
    const first = Math.max(0, Math.min(at - near, fitting.length - 2 * near - 1));
    const shown = at < 0 ? [] : fitting.slice(first, first + 2 * near + 1);
    $("strip").replaceChildren(...shown.map((row, k) => {
      const link = thumb(row, data.ids[row], "#");
      link.title = data.ids[row];
      link.tabIndex = -1; // the arrow keys do the same
      link.addEventListener("click", (event) => { event.preventDefault(); go(first + k); });
      if (first + k === at) link.ariaCurrent = "true";
      const bad = worst(row);
      if (bad) link.append(sign(bad, VERDICT[bad][0]));
      return link;
    }));
  }

  manyhotGallery.view("", { show, hide });
})();
