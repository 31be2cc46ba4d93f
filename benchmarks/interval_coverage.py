"""How often 95 % intervals contain the true value: of every interval that manyhot prints.

    python benchmarks/interval_coverage.py [--only metrics raters …] [--data-sets 2000] [--least 500]
        [--minutes 300] [--out FILE] [--table FILE] [--small]

Each subject of ``coverage_subjects.py`` is simulated at several sizes; a subject at a size is a cell. With
`--out`, a cell is a line that is appended to the file when it is done, and a later call continues there. With
`--minutes`, cells share that CPU time: slow cells have fewer data sets than `--data-sets`, but at least
`--least`, and the table says how many. `--table` writes the table of docs/explanation/intervals.md. `--small`
is the version that is a test: few cells, with bounds from the binomial distribution.

What an interval should contain is the true value, if the simulation fixes it; otherwise the expectation of
the value over data sets of this size, which is the mean over the simulated ones. The two differ where a value
is biased: average precision of a class with few positives is biased upwards, as each positive counts among
the cells at or above it. That bias says nothing about how the value would vary with other images.

Where there is no interval, for example for too few positives, the data set does not count; "none" is the
share of these. An interval holds if it contains the true value in at least 93.5 % of the data sets, and the
99 % interval of this share (Clopper and Pearson) is not wholly below 95 %. "width" is the mean width, divided
by that of the exact normal interval (2 × 1.96 standard deviations of the values).
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from coverage_subjects import NOT_SIMULATED, RESAMPLES, SLOW_RESAMPLES, SUBJECTS
from scipy.stats import beta, binom

WANTED, NOMINAL = 0.935, 0.95
FEWEST_INTERVALS = 0.1
"""Minimum share of data sets with an interval for a row: those of fewer are the ones with a lucky draw."""


def simulate(subject, n, data_sets, seed, seconds=float("inf"), least=0):
    """Return the intervals of each key, shape (data sets, 4): value, lo, hi, true."""
    found, start = defaultdict(list), time.process_time()
    for number in range(data_sets):
        if number >= least and time.process_time() - start > seconds:
            break
        # hash() of a text differs between processes.
        stream = np.random.default_rng([seed, n, number, *subject.name.encode()])
        for f in subject.draw(n, stream):
            true = np.nan if f.true is None else f.true
            found[f.key].append((f.value, f.lo, f.hi, true))
    return {key: np.array(rows, np.float64) for key, rows in found.items()}


def summary(rows, sets=None):
    """Return how often the intervals contain the true value, with the counts.

    `sets` is the number of data sets, if some have no such row: two models that skip different images have no
    pair.
    """
    value, lo, hi, true = rows.T
    expected = np.where(np.isnan(true), np.nanmean(value), true)
    some = ~np.isnan(lo) & ~np.isnan(hi)
    held = int(np.count_nonzero((lo <= expected) & (expected <= hi) & some))
    n, spread = int(some.sum()), float(np.nanstd(value))
    width = float((hi - lo)[some].mean() / (2 * 1.96 * spread)) if n and spread > 0 else None
    return {"sets": sets or len(rows), "intervals": n, "held": held, "width": width}


def limits(held, n):
    """Return the 99 % interval of a share by Clopper and Pearson."""
    return (
        float(beta.ppf(0.005, held, n - held + 1)) if held else 0.0,
        float(beta.ppf(0.995, held + 1, n - held)) if held < n else 1.0,
    )


def holds(row):
    """Return whether the intervals of a row hold; None if too few data sets have one."""
    n, held = row["intervals"], row["held"]
    if n < FEWEST_INTERVALS * row["sets"]:
        return None
    return held >= WANTED * n and limits(held, n)[1] >= NOMINAL


def cells(only):
    for name, subject in SUBJECTS.items():
        if not only or name in only:
            for n in subject.sizes:
                yield subject, n


def run(options):
    """Return the rows of all cells by subject, size and key; resume from the file of results."""
    out = Path(options.out) if options.out else None
    lines = out.read_text(encoding="utf-8").splitlines() if out and out.is_file() else []
    done = {(r["subject"], r["n"], r["seed"]): r for r in map(json.loads, lines)}
    every = list(cells(options.only))
    if options.finished:
        every = [(s, n) for s, n in every if (s.name, n, options.seed) in done]
    left = sum((s.name, n, options.seed) not in done for s, n in every)
    seconds = 60 * options.minutes
    for subject, n in every:
        at = (subject.name, n, options.seed)
        if at not in done:
            start = time.process_time()
            least = min(options.data_sets, options.least)
            share = seconds / max(left, 1)
            found = simulate(subject, n, options.data_sets, options.seed, share, least)
            used = time.process_time() - start
            seconds, left = max(seconds - used, 0), left - 1
            sets = max(map(len, found.values()), default=0)
            rows = {key: summary(values, sets) for key, values in found.items()}
            done[at] = {"subject": at[0], "n": n, "seed": at[2], "seconds": round(used, 1), "rows": rows}
            if out:
                with out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(done[at]) + "\n")
        show(done[at])
    return [done[subject.name, n, options.seed] for subject, n in every]


def show(cell):
    sets = max((r["sets"] for r in cell["rows"].values()), default=0)
    unit = SUBJECTS[cell["subject"]].unit
    print(f"{cell['subject']}, {cell['n']:,} {unit}: {sets:,} data sets, {cell['seconds']:.0f} s", flush=True)
    for key, row in cell["rows"].items():
        share, none = row["held"] / max(row["intervals"], 1), 1 - row["intervals"] / row["sets"]
        mark = {True: "", False: "  DOES NOT HOLD", None: "  too few intervals"}[holds(row)]
        width = "" if row["width"] is None else f"  width {row['width']:.2f}"
        print(f"  {key:<44}{100 * share:>6.1f} %  none {100 * none:>5.1f} %{width}{mark}")


def markdown(found):
    """Return the table of the docs: a row for each interval, a column for each size.

    Shares whose 99 % interval is below 95 % are bold, and others below 93.5 % are in italics.
    """
    parts = []
    by_subject = defaultdict(dict)
    for cell in found:
        by_subject[cell["subject"]][cell["n"]] = cell
    for name, at in by_subject.items():
        subject = SUBJECTS[name]
        keys = dict.fromkeys(key for cell in at.values() for key in cell["rows"])
        sets = [max((r["sets"] for r in cell["rows"].values()), default=0) for cell in at.values()]
        parts += ["", f"| `{name}`, {subject.unit}: | " + " | ".join(f"{n:,}" for n in at) + " |"]
        parts += ["| --- |" + " ---: |" * len(at)]
        parts += ["| data sets | " + " | ".join(f"{s:,}" for s in sets) + " |"]
        for key in keys:
            cells_of = [_cell(cell["rows"].get(key)) for cell in at.values()]
            parts.append(f"| {key} | " + " | ".join(cells_of) + " |")
    return "\n".join(parts).strip() + "\n"


def _cell(row):
    if row is None or row["intervals"] < FEWEST_INTERVALS * row["sets"]:
        return "none"
    share = f"{100 * row['held'] / row['intervals']:.1f}"
    if limits(row["held"], row["intervals"])[1] < NOMINAL:
        return f"**{share}**"
    return share if holds(row) else f"*{share}*"


SMALL = {
    "metrics": (40, 6),
    "metrics_of_votes": (40, 12),
    "shares": (20, 400),
    "classes": (200, 60),
    "ood": (60, 40),
    "companions": (80, 150),
    "families": (10, 150),
    "raters": (30, 40),
    "golden": (60, 12),
    "transfer": (60, 5),
}
"""Size and number of data sets of the cells of the small version."""


def small(seed=0):
    """Return what does not hold in a few small cells, as text: fewer intervals hold than would by chance.

    An interval with a coverage of 93.5 % fails with a probability of 1e-5 a row.
    """
    failed = []
    for name, (n, data_sets) in SMALL.items():
        for key, rows in simulate(SUBJECTS[name], n, data_sets, seed).items():
            row = summary(rows)
            least = binom.ppf(1e-5, row["intervals"], WANTED)
            if row["held"] < least:
                failed.append(f"{name}, {key}: {row['held']} of {row['intervals']}, at least {least:.0f}")
    return failed


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(SUBJECTS), default=[])
    parser.add_argument("--data-sets", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=300, help="CPU minutes shared by all cells")
    parser.add_argument("--least", type=int, default=500, help="minimum number of data sets of a cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="file to which each cell is appended, and from which a call continues")
    parser.add_argument("--table", help="file to write the table of the docs to")
    parser.add_argument("--finished", action="store_true", help="show the cells that the file has, run none")
    parser.add_argument("--small", action="store_true", help="few cells and data sets, as in the tests")
    options = parser.parse_args()
    if options.small:
        failed = small(options.seed)
        print("\n".join(failed) or f"{len(SMALL)} cells hold")
        raise SystemExit(bool(failed))
    print(f"{RESAMPLES:,} resamples; {SLOW_RESAMPLES} of metrics that are evaluated again on each")
    found = run(options)
    if options.table:
        Path(options.table).write_text(markdown(found), encoding="utf-8")
    print("not simulated:")
    for column, reason in NOT_SIMULATED.items():
        print(f"  {column}: {reason}")


if __name__ == "__main__":
    main()
