"use strict";
{
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);
  const root = document.documentElement;
  const { format: count } = new Intl.NumberFormat("en");
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const button = (text, act, attributes = {}) => {
    const element = make("button", { type: "button", ...attributes }, text);
    element.addEventListener("click", act);
    return element;
  };
  const said = byId("said");

  // The first rows of each table stand in the page. All numbers are here, and read when a reader first needs them.
  let parsed = null;
  const data = () => (parsed ??= JSON.parse(byId("data").textContent));
  const at = (values, i) => (Array.isArray(values) ? values[i] : values);
  const FIRST = 100;
  const sections = all(".dataset");
  const found = [];
  const sets = () => {
    if (!found.length) found.push(...data().sets.map((packed, i) => open(packed, sections[i])));
    return found;
  };
  const open = (packed, section) => {
    const table = section.querySelector("table");
    const names = packed.models.map((i) => data().names[i]);
    const set = {
      ...packed, section, table, names,
      lower: names.map((name) => name.toLowerCase()),
      looks: new Map(packed.looks.map(([i, ...look]) => [i, look])),
      rows: new Map(all("tbody tr", table).map((row) => [Number(row.dataset.i), row])),
      by: packed.columns.find(({ key }) => key === packed.sorted),
      up: false, limit: FIRST, status: section.querySelector(".compare"), more: section.querySelector(".more"),
      untouched: true,
    };
    set.up = Boolean(set.by?.lower);
    set.order = names.map((_, i) => i);
    return set;
  };

  // Rows and heads from data; they look as those that came with the page.
  const rounded = [];
  const text = ({ decimals: digits }, value) => {
    rounded[digits] ??= new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
    return rounded[digits].format(value);
  };
  const numbers = (column, i) => ({
    value: column.value[i], lo: at(column.lo, i), hi: at(column.hi, i), n: at(column.n, i), skipped: at(column.skipped, i),
  });
  const cell = (column, i) => {
    const { value, lo, hi, n, skipped } = numbers(column, i);
    const td = make("td");
    td.textContent = value === null ? "–" : text(column, value);
    if (value === null) {
      td.title = n === null ? "not evaluated" : `undefined: n ${count(n)}, ${count(skipped)} skipped`;
      return td;
    }
    const [start, stop] = column.axis;
    const place = (v) => Number((((v - start) / (stop - start)) * 100).toPrecision(3));
    if (value < start) td.className = "below";
    if (value > stop) td.className = "above";
    const ends = lo === null || hi === null ? "" : `;--l:${place(lo)};--h:${place(hi)}`;
    if (!td.className) td.setAttribute("style", `--v:${place(value)}${ends}`);
    td.title = `${lo === null || hi === null ? "no interval" : `${text(column, lo)} to ${text(column, hi)}`}, n ${count(n)}`;
    return td;
  };
  const build = (set, i) => {
    const [look, own, anchor] = set.looks.get(i) ?? [null, false, ""];
    const name = make("b");
    name.textContent = set.names[i];
    const head = make("th", { scope: "row" }, make("i"), " ", name);
    if (own) {
      const mark = make("a", { class: "mark", href: `#${anchor}`, "aria-label": "Link to this row" }, "#");
      head.append(" ", make("em", {}, "yours"), " ", mark);
    }
    const row = make("tr", { "data-i": i, class: look === null ? null : `${own ? "mine" : "look"} m${look}`, id: anchor || null }, head);
    for (const column of set.columns) if (column.shown) row.append(cell(column, i));
    row.append(make("td", {}, count(at(set.images, i))));
    press(name);
    return row;
  };
  const row = (set, i) => {
    if (!set.rows.has(i)) set.rows.set(i, build(set, i));
    return set.rows.get(i);
  };
  const head = (column) => {
    const [lo, hi] = column.ends;
    const ends = make("span", { class: "ends" }, make("i", { "aria-hidden": "true" }, lo), " ", make("i", { "aria-hidden": "true" }, hi), " ", make("i", {}, `n ${column.counted}`));
    return make("th", { scope: "col", "data-k": column.key, title: column.title }, make("span", { class: "head" }, `${column.label}${column.unit}`), " ", ends);
  };

  // Which rows a table shows: those that fit the filter, in its order, the first of many; pinned and own ones always.
  let words = [];
  let pins = [];
  const fits = (set, i) => words.every((word) => set.lower[i].includes(word));
  const fitting = (set) => (words.length ? set.order.filter((i) => fits(set, i)) : set.order);
  const show = (set) => {
    const fit = fitting(set);
    const pinned = new Set(pins);
    const shown = fit.filter((i, rank) => rank < set.limit || set.looks.get(i)?.[1] || pinned.has(set.names[i]));
    const rows = shown.map((i) => row(set, i));
    rows.forEach((tr, at) => {
      const i = shown[at];
      tr.querySelector("i").textContent = (set.by ?? set.columns[0])?.place[i] ?? "";
      tr.classList.toggle("far", fit[at] !== i && (at === 0 || fit[at - 1] === shown[at - 1]));
    });
    set.table.tBodies[0].replaceChildren(...rows);
    set.section.querySelector(".box").classList.toggle("tall", rows.length > 24);
    tellMore(set, shown.length, fit.length);
    mark(set);
  };
  const tellMore = (set, shown, fit) => {
    const total = set.names.length;
    const rest = fit - shown;
    const parts = [];
    const own = rest ? `${count(shown)} shown of ` : "";
    if (words.length) parts.push(fit ? `${own}${count(fit)} found, of ${count(total)} models ` : "No model found ");
    else if (rest) parts.push(`${count(shown)} of ${count(total)} models `);
    if (rest > FIRST) parts.push(button(`${FIRST} more`, () => extend(set, set.limit + FIRST)), " ");
    if (rest) parts.push(button(`All ${count(fit)}`, () => extend(set, Infinity)));
    set.more.replaceChildren(...parts);
  };
  const extend = (set, limit) => {
    const last = set.table.tBodies[0].rows.length;
    set.limit = limit;
    show(set);
    set.table.tBodies[0].rows[Math.min(last, set.table.tBodies[0].rows.length - 1)]?.querySelector("b").focus({ preventScroll: true });
    said.textContent = `${set.table.tBodies[0].rows.length} models shown`;
  };

  // Links must not lead beneath the bar, which grows with the pins.
  new ResizeObserver(([{ target }]) => {
    root.style.scrollPaddingTop = `${target.offsetHeight + 12}px`;
  }).observe(byId("bar"));

  // A table wider than its box fades at the right until its last column is in sight.
  const fade = (box) => box.classList.toggle("cut", box.scrollLeft + box.clientWidth < box.scrollWidth - 2);
  const fading = new ResizeObserver((entries) => {
    for (const { target } of entries) fade(target.closest(".box"));
  });
  for (const box of all(".box")) {
    for (const element of [box, box.firstElementChild]) fading.observe(element);
    box.addEventListener("scroll", () => fade(box), { passive: true });
  }

  // Theme.
  const theme = byId("theme");
  const themes = ["auto", "light", "dark"];
  const showTheme = (name) => {
    if (name === "auto") delete root.dataset.theme;
    else root.dataset.theme = name;
    theme.textContent = `Theme: ${name}`;
  };
  const store = (name) => {
    // Some browsers keep no storage for local files.
    try {
      if (name) localStorage.setItem("manyhot-theme", name);
      return localStorage.getItem("manyhot-theme");
    } catch {
      return null;
    }
  };
  showTheme(themes.includes(store()) ? store() : "auto");
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme ?? "auto") + 1) % themes.length];
    store(next);
    showTheme(next);
  });

  // Sorting. Places are those of the column, however it is sorted.
  const sort = (set, th) => {
    const column = set.columns.find(({ key }) => key === th.dataset.k) ?? null;
    const last = !th.nextElementSibling;
    const first = last ? false : column ? column.lower : true;
    const up = th.hasAttribute("aria-sort") ? th.getAttribute("aria-sort") !== "ascending" : first;
    for (const other of set.table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", up ? "ascending" : "descending");
    if (column) set.by = column;
    const sign = up ? 1 : -1;
    const by = column
      ? (i) => (column.place[i] === null ? null : column.place[i] * (column.lower ? 1 : -1))
      : last ? (i) => at(set.images, i) : null;
    const compare = by
      ? (i, j) => (by(i) === null || by(j) === null ? (by(i) === null) - (by(j) === null) : sign * (by(i) - by(j)))
      : (i, j) => sign * set.names[i].localeCompare(set.names[j], "en", { numeric: true });
    set.order = set.names.map((_, i) => i).sort((i, j) => compare(i, j) || i - j);
    show(set);
  };
  const setOf = (element) => sets()[sections.indexOf(element.closest(".dataset"))];
  const sortable = (label) => {
    // No <button>: Chromium leaves those out where print repeats the head of a table.
    label.setAttribute("role", "button");
    label.tabIndex = 0;
  };
  for (const label of all(".models .head")) sortable(label);
  const sortBy = (event) => {
    const label = event.target.closest?.(".models .head");
    if (label) sort(setOf(label), label.closest("th"));
    return Boolean(label);
  };

  // Filter.
  const total = byId("found");
  const filter = (value) => {
    words = value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const set of sets()) show(set);
    // As the head of the page counts: the models of the largest table, not of all, where another may lack some.
    const kept = Math.max(...sets().map((set) => fitting(set).length));
    const most = Math.max(...sets().map(({ names }) => names.length));
    total.textContent = !words.length ? "" : kept ? `${count(kept)} of ${count(most)} models` : "no model found";
    document.dispatchEvent(new CustomEvent("manyhot:find", { detail: words.join(" ") }));
  };
  byId("filter").addEventListener("input", (event) => filter(event.target.value));
  // Few models are found by looking.
  document.querySelector(".find").hidden = data().names.length < 5;

  // Columns.
  const menu = byId("menu");
  menu.hidden = false;
  menu.addEventListener("change", ({ target }) => {
    for (const set of sets()) {
      if (target.id === "texts") set.table.classList.toggle("texts", target.checked);
      const column = set.columns.find(({ key }) => key === target.dataset.k);
      if (!column || column.shown === target.checked) continue;
      column.shown = target.checked;
      rebuild(set);
    }
  });
  const rebuild = (set) => {
    const { cells } = set.table.tHead.rows[0];
    const sorted = [...cells].find((th) => th.ariaSort);
    const heads = set.columns.filter(({ shown }) => shown).map((column) => {
      const th = head(column);
      if (sorted && sorted.dataset.k === column.key) th.setAttribute("aria-sort", sorted.getAttribute("aria-sort"));
      sortable(th.querySelector(".head"));
      return th;
    });
    set.table.tHead.rows[0].replaceChildren(cells[0], ...heads, cells[cells.length - 1]);
    set.rows.clear();
    show(set);
  };

  // Which models differ beyond noise from a chosen one.
  const states = ({ order, runs }, model) => {
    const place = order.indexOf(model);
    const spread = (run) => [...run.matchAll(/(\d+)(.)/g)].flatMap(([, n, sign]) => Array(Number(n)).fill(sign));
    if (place < 0) return new Map();
    const worse = spread(runs[place]).map((sign, i) => [order[place + 1 + i], sign === "!" ? "down" : sign]);
    const better = order.slice(0, place).map((other, i) => {
      const sign = spread(runs[i])[place - i - 1];
      return [other, sign === "!" ? "up" : sign];
    });
    return new Map([...better, ...worse]);
  };
  const classes = { up: "up", down: "down", "=": "eq", "?": "un" };
  const compared = ({ table, compare }) => {
    const sorted = table.querySelector("[aria-sort]")?.dataset.k;
    return [sorted, "real1", ...Object.keys(compare)].find((key) => key in compare);
  };
  const mark = (set) => {
    const model = set.names.indexOf(pins.at(-1));
    const key = compared(set);
    const signs = key !== undefined && model >= 0 ? states(set.compare[key], model) : new Map();
    for (const tr of set.table.tBodies[0].rows) {
      const i = Number(tr.dataset.i);
      const pinned = pins.includes(set.names[i]);
      tr.classList.remove("eq", "up", "down", "un");
      tr.classList.toggle("sel", pinned);
      if (signs.has(i) && i !== model) tr.classList.add(classes[signs.get(i)]);
      tr.querySelector("b").setAttribute("aria-pressed", pinned);
    }
    if (set.status) tellCompared(set, model, key, signs);
    stops(set.table);
  };
  const invitation = "Click a model to pin it and to see which other models differ from it beyond noise.";
  const tellCompared = (set, model, key, signs) => {
    if (model < 0) {
      set.status.textContent = invitation;
      return;
    }
    const n = { up: 0, down: 0, "=": 0, "?": 0 };
    for (const sign of signs.values()) n[sign] += 1;
    const unknown = n["?"] ? `, ? ${n["?"]} not compared` : "";
    const { label } = set.columns.find((column) => column.key === key);
    set.status.replaceChildren(
      make("b", {}, set.names[model]),
      ` by ${label}: ≈ ${n["="]} not different beyond noise, ▲ ${n.up} better, ▽ ${n.down} worse${unknown}.`,
    );
  };
  for (const status of all(".compare")) status.textContent = invitation;

  // Pins: one list for the tables and the figures; whoever changes it tells the others by an event.
  const dispatch = (detail) => document.dispatchEvent(new CustomEvent("manyhot:pins", { detail }));
  const toggle = (name) => dispatch(pins.includes(name) ? pins.filter((other) => other !== name) : [...pins, name]);
  document.addEventListener("manyhot:pins", ({ detail }) => {
    pins = [...detail];
    const box = byId("pins");
    box.hidden = !pins.length;
    const chips = pins.map((name, i) => {
      const chip = button(name, () => toggle(name), { "aria-label": `Unpin ${name}` });
      // The number that its marks wear in the figures.
      if (document.querySelector(".fig")) chip.prepend(make("i", { class: `pin pin-${i % 4}`, "aria-hidden": "true" }, i + 1), " ");
      return chip;
    });
    box.replaceChildren("Pinned ", ...chips, button("Clear", () => dispatch([]), { class: "clear" }));
    for (const set of sets()) show(set);
  });
  document.addEventListener("click", (event) => {
    const { target } = event;
    if (!menu.contains(target)) menu.open = false;
    if (sortBy(event) || target.closest("a, button")) return;
    const tr = target.closest(".models tbody tr");
    if (tr && !String(getSelection())) toggle(setOf(tr).names[tr.dataset.i]);
  });

  // Keyboard: a table is one stop, arrows lead through its models.
  const press = (name) => {
    name.setAttribute("role", "button");
    name.setAttribute("aria-pressed", "false");
    name.tabIndex = -1;
  };
  const stops = (table, current = table.querySelector("tbody b")) => {
    for (const name of all("tbody b[tabindex='0']", table)) name.tabIndex = -1;
    if (current) current.tabIndex = 0;
  };
  for (const name of all(".models tbody b")) press(name);
  for (const table of all(".models")) stops(table);
  document.addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (key === "Escape") {
      if (menu.open) menu.open = false;
      else if (pins.length) dispatch([]);
      return;
    }
    const enter = key === "Enter" || key === " ";
    if (enter && sortBy(event)) return event.preventDefault();
    if (!target.matches?.(".models tbody b")) return;
    const tr = target.closest("tr");
    if (enter) {
      event.preventDefault();
      const { table, names, rows } = setOf(tr);
      const i = Number(tr.dataset.i);
      toggle(names[i]);
      stops(table, rows.get(i).querySelector("b"));
      rows.get(i).querySelector("b").focus();
      return;
    }
    const { rows } = tr.parentElement;
    const place = [...rows].indexOf(tr);
    const to = rows[{ ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: rows.length - 1 }[key]];
    if (!to) return;
    event.preventDefault();
    stops(tr.closest("table"), to.querySelector("b"));
    to.querySelector("b").focus();
  });

  // A link into a closed table opens it.
  const reveal = () => {
    const target = location.hash.length > 1 && byId(decodeURIComponent(location.hash.slice(1)));
    const details = target && target.closest("details.listing");
    if (details) details.open = true;
  };
  addEventListener("hashchange", reveal);
  reveal();

  // Tables to take away.
  const clean = (element) => {
    const copy = element.cloneNode(true);
    for (const extra of all(".mark, em", copy)) extra.remove();
    return copy.textContent.trim().replace(/\s+/g, " ");
  };
  const sheetOfPlain = (table) => ({
    heads: [...table.tHead.rows[0].cells].map(clean),
    right: [...table.tHead.rows[0].cells].map((th) => th.classList.contains("num")),
    rows: [...table.tBodies[0].rows].map((tr) => [...tr.cells].map(clean)),
  });
  const sheetOfModels = (set, csv) => {
    const columns = set.columns.filter(({ shown }) => shown);
    const shown = (column, value) => (value === null || value === undefined ? "" : csv ? value.toFixed(column.decimals) : text(column, value));
    const cells = (column, i) => {
      const { value, lo, hi, n } = numbers(column, i);
      if (csv) return [shown(column, value), shown(column, lo), shown(column, hi), String(n ?? "")];
      const interval = lo === null || hi === null ? "" : ` (${shown(column, lo)}–${shown(column, hi)})`;
      return [value === null ? "–" : shown(column, value) + interval];
    };
    const headed = ({ key, label, unit, counted }) =>
      csv ? [key, `${key}_lo`, `${key}_hi`, `${key}_n`] : [`${label}${unit} (n ${counted})`];
    const heads = [csv ? "model" : "Model", ...columns.flatMap(headed)];
    return {
      heads, right: heads.map((_, i) => i > 0),
      rows: fitting(set).map((i) => [set.names[i], ...columns.flatMap((column) => cells(column, i))]),
    };
  };
  const quoted = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const special = {
    "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "→": "$\\to$", "−": "$-$", "–": "--",
    "τ": "$\\tau$", "²": "$^2$", "≥": "$\\geq$", "×": "$\\times$",
  };
  const tex = (value) => value.replace(/[\\&%$#_{}~^→−–τ²≥×]/g, (sign) => special[sign] ?? `\\${sign}`);
  const plain = (value, right) => (right ? value.replace(/(\d),(?=\d{3})/g, "$1").replaceAll("−", "-") : value);
  const formats = {
    CSV: ({ heads, rows, right }) =>
      [heads, ...rows.map((cells) => cells.map((value, i) => plain(value, right[i])))].map((cells) => cells.map(quoted).join(",")).join("\n"),
    Markdown: ({ heads, rows, right }) => {
      const line = (cells) => `| ${cells.map((value) => value.replaceAll("|", "\\|")).join(" | ")} |`;
      return [line(heads), `|${right.map((r) => (r ? "---:" : "---")).join("|")}|`, ...rows.map(line)].join("\n");
    },
    LaTeX: ({ heads, rows, right }) => {
      const line = (cells) => `${cells.map(tex).join(" & ")} \\\\`;
      const columns = right.map((r) => (r ? "r" : "l")).join("");
      return [`\\begin{tabular}{${columns}}`, "\\toprule", line(heads), "\\midrule", ...rows.map(line), "\\bottomrule", "\\end{tabular}"].join("\n");
    },
  };
  const clipboard = async (value) => {
    try {
      await navigator.clipboard.writeText(value);
      return true;
    } catch {
      // Pages from a file may be refused.
      const area = make("textarea", { class: "sr", "aria-hidden": "true" });
      area.value = value;
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    }
  };
  const copy = async (element, name) => {
    const table = element.closest(".under").previousElementSibling.querySelector("table");
    const sheet = table.matches(".models") ? sheetOfModels(setOf(table), name === "CSV") : sheetOfPlain(table);
    const done = await clipboard(`${formats[name](sheet)}\n`);
    element.textContent = done ? "Copied" : "Not allowed";
    said.textContent = done ? `Copied ${count(sheet.rows.length)} rows as ${name}` : "The browser does not allow copying";
    setTimeout(() => (element.textContent = name), 1500);
  };
  for (const place of all(".copy")) {
    const buttons = Object.keys(formats).map((name) =>
      button(name, ({ currentTarget }) => copy(currentTarget, name), { "aria-label": `Copy ${place.dataset.of} as ${name}` }),
    );
    place.replaceChildren("Copy as ", ...buttons);
  }

  // Buttons for further rows, where there are more than the page holds.
  for (const more of all(".dataset .more"))
    if (more.textContent.trim()) {
      const set = () => setOf(more);
      more.append(" ", button("Show more", () => extend(set(), set().limit + FIRST)));
    }
}
