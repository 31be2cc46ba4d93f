"use strict";
{
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);
  const root = document.documentElement;
  const comparisons = JSON.parse(byId("compare").textContent);

  // Rows of a table keep the index of their model in `data-i`; so do points and lines of the figures.
  const sets = all(".dataset").map((section, at) => {
    const table = section.querySelector("table");
    const rows = all("tbody tr", table).sort((a, b) => a.dataset.i - b.dataset.i);
    const names = rows.map((row) => row.querySelector("b").textContent);
    return { section, table, rows, names, comparisons: comparisons[at], status: section.querySelector(".compare") };
  });

  // A model is drawn in several places and on several data sets; its name is what ties them together.
  let index = null;
  const drawn = (name) => {
    if (!index) {
      index = new Map();
      for (const { section, names } of sets)
        for (const element of all("[data-i]", section)) {
          const key = names[element.dataset.i];
          if (!index.has(key)) index.set(key, []);
          index.get(key).push(element);
        }
    }
    return index.get(name) ?? [];
  };
  const nameOf = (target) => {
    const element = target.closest?.("[data-i]");
    const set = element && sets.find(({ section }) => section.contains(element));
    return set ? set.names[element.dataset.i] : null;
  };

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

  // Sorting.
  const key = (row, column) => {
    const cell = row.cells[column];
    const place = cell.style.getPropertyValue("--v");
    if (column === 0) return cell.querySelector("b").textContent;
    if (column === row.cells.length - 1) return Number(cell.textContent.replaceAll(",", ""));
    return place === "" ? null : Number(place);
  };
  const sort = (set, head) => {
    const { table, rows } = set;
    const column = head.cellIndex;
    const first = head.dataset.first;
    const other = first === "ascending" ? "descending" : "ascending";
    const direction = head.getAttribute("aria-sort") === first ? other : first;
    const sign = direction === "ascending" ? 1 : -1;
    const keys = new Map(rows.map((row) => [row, key(row, column)]));
    const compare = (a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return sign * (column ? x - y : x.localeCompare(y, "en", { numeric: true }));
    };
    for (const th of table.tHead.rows[0].cells) th.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", direction);
    const ordered = [...rows].sort(compare);
    if (head.dataset.k) place(direction === first ? ordered : [...ordered].reverse(), keys);
    table.tBodies[0].append(...ordered);
    mark();
  };
  const place = (bestFirst, keys) => {
    let rank = 0;
    let last;
    const known = bestFirst.filter((row) => keys.get(row) !== null);
    for (const row of bestFirst) row.querySelector("i").textContent = "";
    known.forEach((row, i) => {
      if (keys.get(row) !== last) rank = i + 1;
      last = keys.get(row);
      row.querySelector("i").textContent = rank;
    });
  };
  for (const set of sets)
    for (const head of set.table.tHead.rows[0].cells) {
      // No <button>: Chromium leaves those out where print repeats the head of a table.
      const label = head.querySelector(".head");
      label.setAttribute("role", "button");
      label.tabIndex = 0;
      label.addEventListener("click", () => sort(set, head));
      label.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        sort(set, head);
      });
    }

  // Filter.
  const found = byId("found");
  const distinct = new Set(sets.flatMap(({ names }) => names));
  const filter = (text) => {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (name) => words.every((word) => name.toLowerCase().includes(word));
    const kept = new Set([...distinct].filter(fits));
    for (const { section, rows, names } of sets) {
      rows.forEach((row, i) => (row.hidden = !kept.has(names[i])));
      for (const element of all("svg [data-i]", section))
        element.classList.toggle("off", !kept.has(names[element.dataset.i]));
    }
    const count = (n) => n.toLocaleString("en");
    const total = `${count(distinct.size)} model${distinct.size === 1 ? "" : "s"}`;
    found.textContent = words.length ? `${count(kept.size)} of ${total}` : total;
    enter();
  };
  byId("filter").addEventListener("input", (event) => filter(event.target.value));
  byId("bar").hidden = false;

  // Columns.
  const menu = byId("menu");
  menu.addEventListener("change", ({ target }) => {
    for (const { table } of sets) {
      if (target.id === "texts") table.classList.toggle("texts", target.checked);
      const head = [...table.tHead.rows[0].cells].find((th) => th.dataset.k === target.dataset.k);
      if (head?.dataset.k)
        for (const row of table.rows) row.cells[head.cellIndex].hidden = !target.checked;
    }
  });
  document.addEventListener("click", ({ target }) => {
    if (!menu.contains(target)) menu.open = false;
  });

  // Which models differ beyond noise from a chosen one.
  const states = ({ order, runs }, model) => {
    const at = order.indexOf(model);
    const spread = (text) => [...text.matchAll(/(\d+)(.)/g)].flatMap(([, n, sign]) => Array(Number(n)).fill(sign));
    if (at < 0) return new Map();
    const worse = spread(runs[at]).map((sign, i) => [order[at + 1 + i], sign === "!" ? "down" : sign]);
    const better = order.slice(0, at).map((other, i) => {
      const sign = spread(runs[i])[at - i - 1];
      return [other, sign === "!" ? "up" : sign];
    });
    return new Map([...better, ...worse]);
  };
  const classes = { up: "up", down: "down", "=": "eq", "?": "un" };
  let chosen = null;
  const chooseComparison = ({ table, comparisons }) => {
    const sorted = table.querySelector("[aria-sort]")?.dataset.k;
    return comparisons[sorted] ?? comparisons.real1 ?? Object.values(comparisons)[0];
  };
  const mark = () => {
    for (const element of all(".sel, .eq, .up, .down, .un")) element.classList.remove("sel", "eq", "up", "down", "un");
    for (const button of all("[aria-pressed=true]")) button.setAttribute("aria-pressed", "false");
    for (const element of chosen ? drawn(chosen) : []) {
      element.classList.add("sel");
      element.querySelector("b")?.setAttribute("aria-pressed", "true");
    }
    for (const set of sets) if (set.status) markSet(set);
  };
  const markSet = (set) => {
    const { section, names, status } = set;
    const model = names.indexOf(chosen);
    const comparison = chooseComparison(set);
    status.textContent = "Click a model to see which others it differs from beyond noise.";
    if (model < 0) return;
    const found = states(comparison, model);
    const count = { up: 0, down: 0, "=": 0, "?": 0 };
    for (const sign of found.values()) count[sign] += 1;
    for (const element of all("[data-i]", section)) {
      const sign = found.get(Number(element.dataset.i));
      if (sign) element.classList.add(classes[sign]);
    }
    const name = document.createElement("b");
    name.textContent = names[model];
    const unknown = count["?"] ? `, ? ${count["?"]} not compared` : "";
    status.replaceChildren(
      name,
      ` by ${comparison.label}: ≈ ${count["="]} not different beyond noise, ▲ ${count.up} better, ▽ ${count.down} worse${unknown}. Esc clears.`,
    );
  };
  const choose = (name) => {
    chosen = name === chosen ? null : name;
    mark();
  };
  for (const { status } of sets) if (status) status.hidden = false;
  document.addEventListener("click", ({ target }) => {
    const name = nameOf(target);
    if (name !== null && !String(getSelection())) choose(name);
  });

  // Pointing at a model sets it off everywhere.
  let hot = null;
  const point = (name) => {
    if (name === hot) return;
    for (const element of hot === null ? [] : drawn(hot)) element.classList.remove("hot");
    for (const text of all(".readout")) text.textContent = "";
    hot = name;
    for (const element of name === null ? [] : drawn(name)) {
      element.classList.add("hot");
      const plot = element.closest(".panel, .scatter");
      if (plot) plot.querySelector(".readout").textContent = element.querySelector("title")?.textContent ?? name;
    }
  };
  document.addEventListener("mouseover", ({ target }) => point(nameOf(target)));
  document.addEventListener("focusin", ({ target }) => point(nameOf(target)));

  // Keyboard: one stop a table and a figure, arrows within.
  const groups = () =>
    sets.flatMap(({ section, table }) => [
      [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.querySelector("b")),
      all(".pt:not(.off)", section),
    ]);
  const enter = () => {
    for (const element of all("tbody b, .pt[tabindex]")) element.tabIndex = -1;
    for (const group of groups()) if (group.length && (group[0].localName === "b" || group[0].hasAttribute("tabindex"))) group[0].tabIndex = 0;
  };
  for (const name of all("tbody b")) {
    name.setAttribute("role", "button");
    name.setAttribute("aria-pressed", "false");
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      if (menu.open) menu.open = false;
      else if (chosen) choose(chosen);
      return;
    }
    const target = event.target;
    if (!target.matches?.("tbody b, .pt")) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      choose(nameOf(target));
      return;
    }
    const group = groups().find((elements) => elements.includes(target));
    const at = group.indexOf(target);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: group.length - 1 }[event.key];
    if (to === undefined || !group[to]) return;
    event.preventDefault();
    target.tabIndex = -1;
    group[to].tabIndex = 0;
    group[to].focus();
  });

  filter("");
  mark();
}
