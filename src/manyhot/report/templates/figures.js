// Figures are drawn already. When a reader begins to move, those that come near are drawn again, alive: they name
// the model pointed at, and pin one that is clicked, in all figures and tables.
(() => {
  "use strict";
  const plots = [...document.querySelectorAll(".fig .plot")];
  const store = document.getElementById("figure-data");
  if (!plots.length || !store || !window.IntersectionObserver) return;

  // The data, by columns: words by their place in a list, columns by theirs in a pool.
  let data = null;
  const read = () => (data ??= JSON.parse(store.textContent));
  const unpack = (place) => {
    const column = read().pool[place];
    if ("c" in column) return Array(column.n).fill(column.c);
    return column.w ? column.w.map((i) => (i === null ? null : read().words[i])) : column;
  };
  const rows = (columns) => {
    const found = Object.entries(columns).map(([name, place]) => [name, unpack(place)]);
    const n = found.length ? found[0][1].length : 0;
    return Array.from({ length: n }, (_, i) => Object.fromEntries(found.map(([name, values]) => [name, values[i]])));
  };

  // What is set off, in all figures.
  const state = { pins: [], find: "" };
  const live = new Map(); // plot -> { views, models }
  const set = (names) => Object.fromEntries(names.map((name) => [name, 1]));
  const matching = (models) => {
    const words = state.find.split(/\s+/).filter(Boolean);
    return words.length ? models.filter((m) => words.every((word) => m.toLowerCase().includes(word))) : [];
  };
  const show = (plot, { views, models, figure }) => {
    const found = matching(models);
    const busy = found.length > 0 || state.pins.some((name) => models.includes(name));
    const pins = Object.fromEntries(state.pins.map((name, i) => [name, i + 1]));
    for (const view of views)
      view.signal("pins", pins).signal("found", set(found)).signal("busy", busy).runAsync();
    if (models.length) list(plot, models, figure.spec.usermeta.beyond ?? []);
  };
  const showAll = () => {
    for (const [plot, entry] of live) show(plot, entry);
  };

  // The names of pinned models stand below the figure, with the numbers that their marks wear.
  const list = (plot, models, beyond) => {
    const old = plot.parentElement.querySelector(".pinned");
    const names = document.createElement("ul");
    names.className = "pinned";
    names.append(...state.pins.map((name, i) => {
      const item = document.createElement("li");
      const number = Object.assign(document.createElement("i"), { className: `pin pin-${i % 4}`, textContent: i + 1 });
      item.append(number, " ", name);
      const absent = beyond.includes(name) ? "beyond the axes" : models.includes(name) ? "" : "not in this figure";
      if (absent) item.append(" ", Object.assign(document.createElement("span"), { textContent: `(${absent})` }));
      return item;
    }));
    old?.remove();
    if (state.pins.length) plot.after(names);
  };
  document.addEventListener("manyhot:pins", ({ detail }) => {
    state.pins = [...detail];
    begin();
    showAll();
  });
  document.addEventListener("manyhot:find", ({ detail }) => {
    state.find = String(detail).toLowerCase();
    begin();
    showAll();
  });
  const pin = (model) => {
    const detail = state.pins.includes(model) ? state.pins.filter((name) => name !== model) : [...state.pins, model];
    document.dispatchEvent(new CustomEvent("manyhot:pins", { detail }));
  };

  // What a mark tells.
  const number = (value, digits) =>
    value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const line = (datum, [label, field, digits, unit, lo, hi]) => {
    const value = datum[field];
    if (value === null || value === undefined) return null;
    if (typeof value === "string") return `${label}: ${value}`;
    const ends = lo && typeof datum[lo] === "number" ? ` (${number(datum[lo], +digits)} to ${number(datum[hi], +digits)})` : "";
    return `${label}: ${number(value, +digits)}${unit}${ends}`;
  };
  const lines = (datum, tips) => tips.map((tip) => line(datum, tip)).filter(Boolean);
  const tip = document.createElement("div");
  tip.className = "fig-tip";
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true");
  document.body.append(tip);
  const tell = (datum, tips, x, y) => {
    const name = document.createElement("b");
    name.textContent = datum.model ?? "";
    const parts = lines(datum, tips).map((text) => Object.assign(document.createElement("span"), { textContent: text }));
    tip.replaceChildren(...(datum.model ? [name] : []), ...parts);
    tip.hidden = !tip.childElementCount;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 8))}px`;
    tip.style.top = `${y + 18 + height > innerHeight ? y - height - 12 : y + 18}px`;
  };

  // Texts are as wide as the drawing took them to be, in any font: so a figure that comes alive keeps its layout.
  const widths = () => {
    widths.known ??= read().letters.map((table) =>
      new Map(Object.entries(table).flatMap(([width, letters]) => [...letters].map((letter) => [letter, +width]))),
    );
    return widths.known;
  };
  const wide = (text, size, bold) => {
    const known = widths()[+bold];
    let sum = 0;
    for (const letter of text) sum += known.get(letter) ?? NaN;
    return (sum * size) / 1000;
  };
  const measureByTable = () => {
    // Vega measures texts on a canvas; nothing else of the page has one.
    const { prototype } = CanvasRenderingContext2D;
    const measure = prototype.measureText;
    prototype.measureText = function (text) {
      const [, bold, size] = this.font.match(/^(bold|[6-9]00)?.*?([\d.]+)px/) ?? [];
      const width = wide(String(text), +size, Boolean(bold));
      return Number.isNaN(width) ? measure.call(this, text) : { width };
    };
  };
  const fit = (svg) => {
    for (const text of svg.querySelectorAll("text")) {
      const size = parseFloat(text.getAttribute("font-size"));
      for (const line of text.childElementCount ? text.children : [text]) {
        const width = wide(line.textContent, size, text.getAttribute("font-weight") === "bold");
        if (width > 0) {
          line.setAttribute("textLength", width.toPrecision(4));
          line.setAttribute("lengthAdjust", "spacingAndGlyphs");
        } else line.removeAttribute("textLength");
      }
    }
  };

  // Drawing alive.
  const embed = async (plot, figure, panel, i) => {
    const { spec, data: sheets } = figure;
    const used = Object.fromEntries(Object.entries(sheets).map(([name, columns]) => [name, rows(columns)]));
    const whole = { ...spec.concat[i], params: spec.params, config: read().config, datasets: used };
    const box = document.createElement("div");
    box.className = "live";
    const options = { renderer: "svg", actions: false, ast: true, tooltip: false, mode: "vega-lite" };
    const { view } = await window.vegaEmbed(box, whole, options);
    const drawn = panel.querySelector("svg");
    const svg = box.querySelector("svg");
    for (const name of ["role", "aria-label", "aria-hidden", "width", "height", "viewBox"])
      if (drawn.hasAttribute(name)) svg.setAttribute(name, drawn.getAttribute(name));
    // The groups within have roles, but no names; the text alternative tells all of them.
    svg.firstElementChild.setAttribute("aria-hidden", "true");
    fit(svg);
    new MutationObserver(() => fit(svg)).observe(svg, { subtree: true, childList: true });
    panel.replaceChildren(box);
    return view;
  };
  const point = (entry, model) => {
    if (entry.hover === model) return;
    entry.hover = model;
    for (const view of entry.views) view.signal("hover", model).runAsync();
  };
  const hide = () => {
    if (tip.hidden) return; // what the keyboard points at stays
    tip.hidden = true;
    for (const entry of live.values()) point(entry, "");
  };
  // After a tap no pointer leaves.
  addEventListener("scroll", hide, { capture: true, passive: true });
  addEventListener("pointerdown", ({ target }) => target.closest?.(".fig .live") || hide(), { passive: true });
  const listen = (entry, view, tips) => {
    view.addEventListener("mousemove", (event, item) => {
      const datum = item?.datum;
      if (!datum || item.mark.role !== "mark") {
        tip.hidden = true;
        return point(entry, "");
      }
      tell(datum, tips, event.clientX, event.clientY);
      point(entry, datum.model ?? "");
    });
    // Not mouseout, which also comes when the mark pointed at is covered by itself, set off.
    view.container().addEventListener("pointerleave", () => {
      tip.hidden = true;
      point(entry, "");
    });
    view.addEventListener("click", (event, item) => {
      // A mark set off between press and release covers the one pressed; the click then is on neither.
      const model = item?.datum?.model || entry.hover;
      if (model) pin(model);
    });
  };
  const begun = new Set();
  const awaken = async (plot) => {
    if (begun.has(plot)) return;
    begun.add(plot);
    if (!window.vegaEmbed) {
      manyhotVega();
      measureByTable();
    }
    const figure = read().figures[plot.closest(".fig").dataset.figure];
    const panels = [...plot.querySelectorAll(".panel")];
    const entry = { views: [], models: [], hover: "" };
    for (const [i, panel] of panels.entries()) {
      const view = await embed(plot, figure, panel, i);
      entry.views.push(view);
      listen(entry, view, figure.spec.usermeta.tips[i]);
      await new Promise((resolve) => setTimeout(resolve));
    }
    const names = Object.values(figure.data).flatMap((columns) => ("model" in columns ? unpack(columns.model) : []));
    entry.models = [...new Set(names)];
    entry.figure = figure;
    live.set(plot, entry);
    show(plot, entry);
    plot.dataset.live = "";
  };

  // Keyboard: arrows go from model to model, Enter pins.
  const described = (entry, model) => {
    for (const [name, columns] of Object.entries(entry.figure.data)) {
      if (!("model" in columns)) continue;
      const at = unpack(columns.model).indexOf(model);
      if (at < 0) continue;
      const datum = Object.fromEntries(Object.entries(columns).map(([field, place]) => [field, unpack(place)[at]]));
      const i = entry.figure.spec.concat.findIndex((panel) => JSON.stringify(panel).includes(`"${name}"`));
      return [model, ...lines(datum, entry.figure.spec.usermeta.tips[Math.max(i, 0)])].join(", ");
    }
    return model;
  };
  const step = (entry, key) => {
    const { models, hover } = entry;
    const at = models.indexOf(hover);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: models.length - 1 }[key];
    return to === undefined ? undefined : models[(to + models.length) % models.length];
  };
  const hint = "use the arrow keys to move between models, and Enter to pin a model";
  for (const plot of plots) {
    const figure = plot.closest(".fig");
    if (figure.hasAttribute("data-models")) {
      plot.tabIndex = 0;
      plot.setAttribute("role", "group");
      plot.setAttribute("aria-label", `${figure.querySelector(".fig-title").textContent}: ${hint}`);
    }
    plot.addEventListener("keydown", (event) => {
      const entry = live.get(plot);
      if (!entry?.models.length) return;
      const model = step(entry, event.key);
      if (model !== undefined) {
        point(entry, model);
        plot.parentElement.querySelector(".readout").textContent = described(entry, model);
      } else if ((event.key === "Enter" || event.key === " ") && entry.hover) pin(entry.hover);
      else if (event.key === "Escape") point(entry, "");
      else return;
      event.preventDefault();
    });
    for (const kind of ["pointerenter", "focusin"]) plot.addEventListener(kind, () => awaken(plot), { once: true });
  }

  // Nothing is drawn again before the reader moves: until then the page is complete as it stands.
  const queue = [];
  let working = false;
  const work = async () => {
    if (working) return;
    working = true;
    try {
      for (let plot = queue.shift(); plot; plot = queue.shift()) {
        // A busy page may have no idle time for long; without a limit figures never came alive in 1 of 12 loads.
        await new Promise((resolve) => (window.requestIdleCallback ? requestIdleCallback(resolve, { timeout: 200 }) : setTimeout(resolve)));
        await awaken(plot);
      }
    } finally {
      working = false;
    }
  };
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        watcher.unobserve(target);
        queue.push(target);
      }
      work();
    },
    { rootMargin: "300px" },
  );
  const begin = () => {
    for (const kind of moves) removeEventListener(kind, begin);
    for (const plot of plots) watcher.observe(plot);
  };
  const moves = ["pointermove", "touchstart", "scroll", "keydown"];
  for (const kind of moves) addEventListener(kind, begin, { passive: true });
})();
