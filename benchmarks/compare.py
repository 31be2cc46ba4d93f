"""Comparing and showing: `manyhot compare timm-results`, and the report of 67, of 1,556 and of more models.

    python benchmarks/compare.py [--models 5000]

--models evaluates so many models on 500 images instead, and shows what it takes to judge them, to write the
results and to open the report, once, in CPU seconds and peak memory of this process.

Wall seconds of whole processes and of drawing alone, on all cores; the report is opened in Chromium where
there is one: seconds to its load event and to the first text, from its own clock, and the longest task that
kept the page from answering. No peer draws such a report; the bars are those of the issue.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import RUNS, quiet

BAR_COMPARE_S, BAR_REPORT_S, BAR_OPEN_S, BAR_MB = 3, 5, 1, 6

_LONGEST = """() => new Promise(done => {
  new PerformanceObserver(list => {}).observe({type: 'longtask', buffered: true});
  const seen = [];
  new PerformanceObserver(list => seen.push(...list.getEntries().map(e => e.duration)))
    .observe({type: 'longtask', buffered: true});
  setTimeout(() => done(Math.max(0, ...seen)), 1500);
})"""

_TIMES = """() => {
  const page = performance.getEntriesByType('navigation')[0];
  const paint = performance.getEntriesByName('first-contentful-paint')[0];
  return {load: page.loadEventEnd, paint: paint ? paint.startTime : NaN};
}"""


def command(*arguments):
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", "manyhot", *arguments], check=True, capture_output=True)
    return time.perf_counter() - begun


def computing():
    """Return seconds of reading, joining and comparing alone, in this process."""
    from manyhot import compare, read_results
    from manyhot.data import catalog

    files = [p for n, p in catalog.fetch("timm-results").items() if n.startswith("results")]
    begun = time.perf_counter()
    compare([read_results(p) for p in files])
    return time.perf_counter() - begun


def drawing(folder):
    from manyhot import report_folder

    begun = time.perf_counter()
    report_folder(folder)
    return time.perf_counter() - begun


def many_models(n_models, folder, *, n=500, n_classes=10):
    """Evaluate models that are right on 30 to 90 % of the images, and write their report."""
    import manyhot

    rng = np.random.default_rng(0)
    label = rng.integers(0, n_classes, n)
    models = {}
    for i in range(n_models):
        best = np.where(rng.random(n) < rng.uniform(0.3, 0.9), label, (label + 1) % n_classes)
        models[f"model{i:04d}"] = np.stack([(best + k) % n_classes for k in (0, 1, 2, 3, 5)], axis=1)
    reading = manyhot.Reading(label=label.tolist(), n_classes=n_classes, dataset="drawn", trust_order=True)
    sets = [[k] for k in label.tolist()]
    evaluation, spent = timed(lambda: manyhot.evaluate(sets, models, reading=reading))
    show(f"{n_models:,} models × {n} images, judged", spent, "s")
    _, spent = timed(lambda: evaluation.write(folder))
    show("  written, with the report", spent, "s")
    show("  peak memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, "GB")


def timed(work):
    begun = time.process_time()
    made = work()
    return made, time.process_time() - begun


def opened(path):
    """Return load, first paint and longest task in milliseconds, medians over fresh pages."""
    from playwright.sync_api import sync_playwright

    times = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--disable-gpu"])
        for _ in range(RUNS):
            page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            page.goto(path.as_uri())
            longest = page.evaluate(_LONGEST)
            times.append((*page.evaluate(_TIMES).values(), longest))
            page.context.close()
        browser.close()
    return [statistics.median(column) for column in zip(*times, strict=True)]


def show(what, value, unit, bar=None):
    print(f"{what:44} {value:8.2f} {unit:4}" + (f" wanted: under {bar} {unit}" if bar else ""))


def show_page(page, what):
    """Print the size of a page and how soon a browser shows it."""
    show(f"report of {what}, size", page.stat().st_size / 1e6, "MB", BAR_MB)
    if shutil.which("chromium"):
        load, paint, longest = opened(page)
        show("  load event in Chromium", load / 1000, "s", BAR_OPEN_S)
        show("  first text", paint / 1000, "s", BAR_OPEN_S)
        show("  longest task in the first 1.5 s", longest / 1000, "s", BAR_OPEN_S)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int)
    n_models = parser.parse_args().models
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if n_models:
            many_models(n_models, folder)
            show_page(folder / "report" / "index.html", f"{n_models:,} models")
            return
        command("compare", "timm-results", "--out", str(folder / "timm"))
        walls = [command("compare", "timm-results", "--out", str(folder / "timm")) for _ in range(RUNS)]
        command("evaluate", "imagenet", "--out", str(folder / "imagenet"))
        computing()
        show(
            "compare timm-results: the numbers alone",
            statistics.median(computing() for _ in range(RUNS)),
            "s",
            BAR_COMPARE_S,
        )
        show("manyhot compare timm-results, all of it", statistics.median(walls), "s", BAR_COMPARE_S)
        for run, what, bar in (
            ("imagenet", "67 models × 2 data sets", BAR_REPORT_S),
            ("timm", "1,556 models × 7 data sets", None),
        ):
            drawing(folder / run)
            taken = statistics.median(drawing(folder / run) for _ in range(RUNS))
            show(f"report of {what}", taken, "s", bar)
        show_page(folder / "timm" / "report" / "index.html", "1,556 models")


if __name__ == "__main__":
    quiet(threads=os.cpu_count() or 1)
    main()
