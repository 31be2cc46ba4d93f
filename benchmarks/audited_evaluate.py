"""How fast `evaluate` is with an audit of ReaL, and how often its intervals contain the values.

    python benchmarks/audited_evaluate.py [--draws 120] [--sizes 250 1000] [--models 9]

The values to estimate are those of the plain evaluation on ReaL's label sets of all 50,000 images, of which
3,163 have no valid class. Proposals are the single original labels (``labels``), or what most of the other
models predict (``models``). `--models` are simulated; the speed is that of all 67.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow.compute as pc
from common import models, quiet, validation

KEYS = ["model", "metric", "slice"]


def main() -> None:
    """Run the benchmark."""
    from manyhot.tables.arrays import single_labels

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=120)
    parser.add_argument("--sizes", nargs="+", type=int, default=(250, 1000))
    parser.add_argument("--models", type=int, default=9)
    options = parser.parse_args()
    labels, rows = validation()
    predictions = [p for _, p in models(rows)]
    single = single_labels(rows, labels.n_classes, labels.class_hash)
    speed(labels, single, predictions)
    some = predictions[:: len(predictions) // options.models]
    for by in ("labels", "models"):
        for n in options.sizes:
            coverage(labels, single, some, by, n, options.draws)


def audit_of(labels, n, seed):
    """Return a uniform sample of n images, and people's label sets of them."""
    from manyhot.tables.audit_samples import draw_sample

    share = np.full(len(labels), n / len(labels))
    sample = draw_sample(labels.image_id, share, "uniform", seed)
    return sample, replace(labels, table=labels.table.filter(pc.is_in(labels.image_id, sample.drawn)))


def speed(labels, single, predictions):
    """Print the CPU seconds of an evaluation of all models, with and without an audit."""
    from manyhot import evaluate

    seconds = defaultdict(list)
    for _ in range(3):
        for n in (0, 1000, 2000):
            sample, people = audit_of(labels, n, 0) if n else (None, None)
            begun = time.process_time()
            evaluate(single if n else labels, predictions, audited=people, sample=sample)
            seconds[n].append(time.process_time() - begun)
    plain = np.median(seconds[0])
    print(f"{len(predictions)} models, {len(labels):,} images: {plain:.1f} CPU seconds")
    for n in (1000, 2000):
        took = np.median(seconds[n])
        print(f"  with {n:,} audited images: {took:.1f} CPU seconds, {took / plain:.2f} times as long")


def coverage(labels, single, predictions, by, n, draws):
    """Print how often intervals contain the values on all answers, by metric and slice."""
    from manyhot import evaluate

    true = evaluate(labels, predictions, resamples=0).to_polars().select(*KEYS, true="value")
    parts = []
    for draw in range(draws):
        sample, people = audit_of(labels, n, draw)
        found = evaluate(single, predictions, audited=people, sample=sample, resamples=1, proposed_by=by)
        table = found.to_polars().filter(pl.col("estimator").is_not_null())
        parts.append(table.join(true, on=KEYS).filter(pl.col("true").is_not_nan()))
    held = pl.col("true").is_between("lo", "hi")
    error, ends = pl.col("value").fill_nan(None) - pl.col("true"), pl.col("hi") - pl.col("lo")
    rows = (
        pl.concat(parts)
        .group_by("metric", "slice", maintain_order=True)
        .agg(
            held=held.mean(),
            none=pl.col("lo").is_null().mean(),
            half=50 * ends.median(),
            bias=100 * error.mean(),
            spread=100 * error.std(),
            alone=100 * (pl.col("alone") - pl.col("true")).mean(),
        )
    )
    print(f"\nproposed by {by}, {n:,} audited images, {draws:,} draws, {len(predictions)} models")
    print(f"{'metric, slice':34} coverage | no interval | width ± points | bias ± deviation | alone")
    for r in rows.to_dicts():
        cells = [_cell(r[name], form) for name, form in FORMS.items()]
        print(f"{r['metric'] + ', ' + r['slice']:34} {' | '.join(cells)}")


FORMS = {
    "held": "{:.1%}",
    "none": "{:.1%}",
    "half": "{:.2f}",
    "bias": "{:+.2f}",
    "spread": "{:.2f}",
    "alone": "{:+.2f}",
}


def _cell(value, form):
    return "–" if value is None else form.format(value)


if __name__ == "__main__":
    quiet()
    main()
