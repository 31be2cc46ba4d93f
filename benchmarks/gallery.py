"""A gallery of 10,000 images: until it is built, and until its first view is there in Chromium.

    python benchmarks/gallery.py [--images 10000] [--models 4] [--opened 9] [--photos FOLDER] [--check]

Photographs are those of FOLDER over and over, each decoded anew; by default 500 × 375 pixels of blurred
noise, as large as ImageNet's. Predictions are drawn: 1,000 classes, the top 5 of each model, and embeddings
of 1,280 numbers. --check ends with 1 if a median is above its target: 1 s for a first view, 0.2 s for a
filter.

built
    seconds of the command's work: similar images, photographs in two sizes, data
first page, first grid
    milliseconds from the navigation's begin, in a fresh window from file://, to the paint with the
    photograph, or with all photographs of the grid in sight
next image
    from the key to the paint of the next photograph; the median of 30
filter
    from the choice to the paint of the first image that fits, or of all images of the grid in sight: by
    verdict, by text, and by which of two models is right
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from common import quiet
from PIL import Image, ImageFilter

CLASSES = 1000
PAINTED = """
window.painted = (id) => new Promise((done) => {
  const inSight = () => [...document.querySelectorAll("#grid img")].filter((i) => {
    const box = i.getBoundingClientRect();
    return box.bottom > 0 && box.top < innerHeight;
  });
  const loaded = (i) => i?.complete && i.naturalWidth;
  const look = () => {
    const empty = document.getElementById("empty")?.hidden === false;
    if (empty) return requestAnimationFrame(() => setTimeout(() => done(performance.now())));
    if (document.getElementById("grid")?.hidden === false) {
      const images = inSight();
      if (!images.length || !images.every(loaded)) return requestAnimationFrame(look);
      return requestAnimationFrame(() => setTimeout(() => done(performance.now())));
    }
    const shot = document.getElementById("shot"), photo = document.querySelector("#photo img");
    const drawn = shot?.dataset.image && (!id || shot.dataset.image !== id);
    const asked = new URLSearchParams(location.hash.slice(1)).get("image");
    const there = drawn && loaded(photo) && shot.dataset.image === asked;
    if (!there) return requestAnimationFrame(look);
    requestAnimationFrame(() => setTimeout(() => done(performance.now())));
  };
  look();
});
window.first = window.painted();
"""


def photographs(folder: Path, n: int) -> list[str]:
    """Write 200 photographs, and return a place for each image."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(min(n, 200)):
        noise = Image.fromarray(rng.integers(0, 255, (375, 500, 3), np.uint8))
        noise.filter(ImageFilter.GaussianBlur(1.2)).save(folder / f"{i}.jpg", quality=90)
    return [str(folder / f"{i % 200}.jpg") for i in range(n)]


def write_inputs(folder: Path, places: list[str], models: int) -> Path:
    """Write what predict would leave."""
    from manyhot.tables import Predictions, write, write_predictions

    rng = np.random.default_rng(1)
    n, ids = len(places), [f"{i:05}.jpg" for i in range(len(places))]
    label = rng.integers(0, CLASSES, n).astype(np.int32)
    out = folder / "predictions"
    (out / "embeddings").mkdir(parents=True)
    write(pa.table({"image_id": ids, "uri": places, "label": label}), out / "images.parquet", "images")
    for m in range(models):
        classes = np.stack([rng.choice(CLASSES, 5, replace=False) for _ in range(n)])
        right = rng.random(n) < 0.7
        classes[right & ~(classes == label[:, None]).any(1), 0] = label[
            right & ~(classes == label[:, None]).any(1)
        ]
        scores = -np.sort(-rng.dirichlet(np.full(5, 0.5), n).astype(np.float32), axis=1)
        made = Predictions(pa.array(ids), f"model{m}", classes, scores, None, "probability", CLASSES)
        write_predictions(made, out / f"model{m}.parquet")
    np.save(out / "embeddings" / "model0.npy", rng.standard_normal((n, 1280)).astype(np.float16))
    return out


FILTERS = (
    ("show", ("disagree", "wrong", "")),
    ("text", ("0042", "class 7", "")),
    ("outcome", ("a", "neither", "")),
)
"""Filters and the values that they are set to, one after the other."""


def opened(folder: Path, times: int) -> dict[str, list[float]]:
    """Return milliseconds by what they are of."""
    from playwright.sync_api import sync_playwright

    spent: dict[str, list[float]] = {}
    address = (folder / "index.html").as_uri()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        for what, fragment in (
            ("first page", ""),
            ("first grid", "#view=grid"),
            ("first pair", "#view=pair"),
        ):
            for _ in range(times):
                with _page(browser, address + fragment) as page:
                    spent.setdefault(what, []).append(page.evaluate("window.first"))
        with _page(browser, address) as page:
            page.evaluate("window.first")
            for _ in range(30):
                page.wait_for_timeout(300)
                spent.setdefault("next image", []).append(page.evaluate(KEY))
        for view, fragment in (("image", ""), ("grid", "#view=grid")):
            with _page(browser, address + fragment) as page:
                page.evaluate("window.first")
                for name, values in FILTERS:
                    for value in values * 3:
                        spent.setdefault(f"{name}, {view}", []).append(page.evaluate(FILTER, [name, value]))
        browser.close()
    return spent


@contextmanager
def _page(browser: Any, address: str) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.add_init_script(PAINTED)
    page = context.new_page()
    page.goto(address)
    yield page
    context.close()


KEY = """async () => {
  const begun = performance.now(), id = document.getElementById("shot").dataset.image;
  document.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
  return (await window.painted(id)) - begun;
}"""
FILTER = """async ([name, value]) => {
  const begun = performance.now(), box = document.getElementById(name);
  box.value = value;
  box.dispatchEvent(new Event(name === "text" ? "input" : "change"));
  return (await window.painted()) - begun;
}"""


def over(what: str, spent: list[float]) -> bool:
    """Return whether a median is above its target."""
    target = {"first": 1000.0, "next": math.inf}.get(what.partition(" ")[0], 200.0)
    return statistics.median(spent) > target


def main() -> None:
    """Build a gallery, open it, and print what that took."""
    from manyhot.evaluate.gallery import build_gallery

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--opened", type=int, default=9)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if asked.photos:
            own = sorted(map(str, asked.photos.iterdir()))
            places = [own[i % len(own)] for i in range(asked.images)]
        else:
            places = photographs(folder / "photos", asked.images)
        predictions = write_inputs(folder, places, asked.models)
        begun = time.perf_counter()
        build_gallery(predictions, out=folder / "gallery")
        print(f"built          {time.perf_counter() - begun:8.1f} s")
        files = [p for p in (folder / "gallery").rglob("*") if p.is_file()]
        print(f"size           {sum(p.stat().st_size for p in files) / 1e6:8.1f} MB")
        index = (folder / "gallery" / "data" / "index.js").stat().st_size
        print(f"index          {index / 1e3:8.1f} kB")
        times = opened(folder / "gallery", asked.opened)
        for what, spent in times.items():
            print(f"{what:15}{statistics.median(spent):8.1f} ms, at most {max(spent):.1f}, n {len(spent)}")
        print(f"load           {os.getloadavg()[0]:8.1f} on {os.cpu_count()} cores")
    slow = [what for what, spent in times.items() if over(what, spent)]
    if slow and asked.check:
        raise SystemExit(f"above the target: {', '.join(slow)}")


if __name__ == "__main__":
    quiet()
    main()
