// The selection: images that are picked, kept by this browser, and saved as a table of images.
"use strict";

(() => {
  const { page, $, detail, change, update } = manyhotGallery;
  const KEY = `manyhot-gallery:${location.pathname}`;
  const COLUMNS = ["image_id", "uri", "label", "selection"];

  function begin() {
    try {
      for (const id of JSON.parse(localStorage.getItem(KEY) ?? "[]")) if (page.data.place.has(id)) page.picked.add(id);
    } catch { /* a browser that keeps nothing for files */ }
    told();
  }

  function kept() {
    try {
      localStorage.setItem(KEY, JSON.stringify([...page.picked]));
    } catch { /* as above */ }
    told();
  }

  function told() {
    const n = page.picked.size, images = `${n.toLocaleString("en")} image${n === 1 ? "" : "s"}`;
    $("picked").textContent = n ? `Selection (${n.toLocaleString("en")})` : "Selection";
    $("picks-said").textContent = n ? `${images} selected` : "No image is selected";
    $("picks-save").disabled = $("picks-drop").disabled = !n;
    $("by-pick").hidden = !n && !page.state.pick;
  }

  function pick(id, on) {
    if (on) page.picked.add(id);
    else page.picked.delete(id);
    kept();
  }

  // A cell of CSV: quoted where it must be.
  const quoted = (value) => (/[",\r\n]/.test(value) || value !== value.trim() ? `"${value.replaceAll('"', '""')}"` : value);

  async function save() {
    const name = $("picks-name").value.trim() || "selected";
    const rows = [...page.picked].map((id) => page.data.place.get(id)).sort((a, b) => a - b);
    const lines = await Promise.all(rows.map(async (i) => {
      const label = page.data.labels[i];
      return [page.data.ids[i], (await detail(i)).uri ?? "", label === null ? "" : String(label), name];
    }));
    const used = COLUMNS.map((_, k) => k).filter((k) => k === 0 || lines.some((line) => line[k] !== ""));
    const text = [COLUMNS, ...lines].map((line) => used.map((k) => quoted(line[k])).join(",")).join("\n");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${text}\n`], { type: "text/csv" }));
    link.download = `${name.replace(/[^\p{L}\p{N}_-]+/gu, "-")}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    $("picks-result").textContent = `${rows.length.toLocaleString("en")} images in ${link.download}.`;
  }

  // The rows of a CSV file, quotes undone.
  function parsed(text) {
    const rows = [[]];
    for (const [, comma, plain, inQuotes] of text.matchAll(/(^|,|\r?\n)(?:"((?:[^"]|"")*)"|([^,\r\n]*))/g)) {
      if (comma.endsWith("\n")) rows.push([]);
      rows.at(-1).push(plain === undefined ? inQuotes : plain.replaceAll('""', '"'));
    }
    return rows;
  }

  async function open(file) {
    const [head, ...rows] = parsed((await file.text()).replace(/^\ufeff/, ""));
    const at = head.indexOf("image_id");
    if (at < 0) {
      $("picks-result").textContent = `${file.name} has no column image_id.`;
      return;
    }
    const ids = rows.map((row) => row[at]).filter((id) => id), there = ids.filter((id) => page.data.place.has(id));
    there.forEach((id) => page.picked.add(id));
    const name = rows.map((row) => row[head.indexOf("selection")]).find(Boolean);
    if (name) $("picks-name").value = name;
    kept();
    update();
    const missing = ids.length - there.length;
    $("picks-result").textContent = `${there.length.toLocaleString("en")} images of ${file.name} are selected${missing ? `; ${missing.toLocaleString("en")} are not in this gallery` : ""}.`;
  }

  $("pick-one").addEventListener("click", () => {
    const id = page.state.image;
    pick(id, !page.picked.has(id));
    update();
  });
  $("picked").addEventListener("click", () => {
    $("picks-result").textContent = "";
    $("picks-add").textContent = `Add the ${page.fitting.length.toLocaleString("en")} shown`;
    $("picks").showModal();
  });
  $("picks-save").addEventListener("click", save);
  $("picks-add").addEventListener("click", () => {
    page.fitting.forEach((i) => page.picked.add(page.data.ids[i]));
    kept();
    update();
  });
  $("picks-drop").addEventListener("click", () => {
    page.picked.clear();
    $("pick").value = "";
    kept();
    change({ pick: "" });
  });
  $("picks-open").addEventListener("change", async () => {
    const [file] = $("picks-open").files;
    if (file) await open(file);
    $("picks-open").value = "";
  });
  $("picks-name").placeholder = "selected";
  manyhotGallery.pick = pick;
  manyhotGallery.begins.push(begin);
})();
