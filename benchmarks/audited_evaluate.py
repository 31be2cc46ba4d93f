"""How often intervals of `evaluate --audited` contain the values on all answers, and how fast it is.

    python benchmarks/audited_evaluate.py speed
    python benchmarks/audited_evaluate.py coverage [--data real voc …] [--sizes 250 1000] [--draws 1000]
        [--after 0] [--estimator ppi++ …] [--proposed-by labels models] [--metric map_macro …] [--minutes 60]
        [--out RAW] [--features FOLDER]
    python benchmarks/audited_evaluate.py summary [--out RAW]

The data sets are those of `audited_data.py`, and `CELLS` lists what is simulated on each: the design, the
estimator, and who proposes label sets. People's label sets are hidden but for those of a sample, and the
values to estimate are those of the plain evaluation on all of them. The models are evenly spread over the
alphabet. What does not depend on the draw, the values of all images on proposed label sets, is recorded in
one call; then each draw is what `evaluate` does with people's label sets, and for one sample in each block,
both must agree. Each block of 50 draws is a line of RAW, and a later call continues there. ``summary``
replaces the rows of `audited_evaluate.csv` that RAW has; audited-proofs.md shows them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import common
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from audited_data import DATA, FEATURES, DataSet, as_arrays, open_data
from polars.testing import assert_frame_equal

from manyhot.core.audit_designs import design_by_models
from manyhot.core.audit_samples import AuditDesign, uniform_design
from manyhot.core.resampling import Bootstrap
from manyhot.evaluate.audited import Audit, AuditedImages
from manyhot.evaluate.audited_values import Auditor
from manyhot.evaluate.compared_pairs import ComparedPairs
from manyhot.evaluate.slices import ALL, Slices
from manyhot.tables.arrays import label_sets

BLOCK = 50
RAW = Path("audited_evaluate.jsonl")
SUMMARY = Path(__file__).with_suffix(".csv")
KEYS = ["model", "metric", "slice"]
PAIR = ["model_a", "model_b", "metric"]
OF_VALUE = ("value", "lo", "hi", "estimator", "alone")
OF_PAIR = ("difference", "lo", "hi", "p_adjusted", "alone")
COLUMNS = ("data", "design", "estimator", "proposed_by", "n", "metric", "slice")


RANKED = (
    *("real1", "real5", "mla", "variable_topk", "asma", "valid_errors"),
    *("precision@5", "recall@5", "f1@5"),
)
THRESHOLD = tuple(f"{metric}(threshold=0.5)" for metric in ("jaccard", "f1_micro"))
SCORED = {
    "cifar10h": ("map_macro", *THRESHOLD, "brier_set", "nll_mass", "kl_votes", "brier_votes"),
    "voc": ("map_macro", *THRESHOLD, "brier_set"),
}
"""Metrics of models with scores of all classes. Calibration errors cannot be audited: they are no sums."""

OF_LABELS = ("mla", "valid_errors")
"""Metrics that need original labels."""


@dataclass(frozen=True)
class Cell:
    """What is simulated: design, estimator, who proposes label sets, and how many models.

    With `by_slice`, also on the default slices.
    """

    data: str
    design: str = "uniform"
    estimator: str = "ppi++"
    proposed_by: str = "labels"
    models: int = 5
    by_slice: bool = False

    @property
    def has_labels(self) -> bool:
        """Whether there are original labels; VOC's models propose label sets as if there were none."""
        return (self.data, self.proposed_by) != ("voc", "models")

    @property
    def metrics(self) -> list[str]:
        """The metrics that are simulated."""
        every = (*RANKED, *SCORED.get(self.data, ()))
        return [m for m in every if self.has_labels or m not in OF_LABELS]


CELLS = (
    Cell("real", by_slice=True),
    Cell("multilabelfy"),
    Cell("cifar10h", by_slice=True),
    Cell("voc", models=2),
    Cell("voc", proposed_by="models", models=2),
    Cell("multilabelfy", proposed_by="models", models=2),
    *(Cell("multilabelfy", estimator=estimator, models=2) for estimator in ("difference", "sample")),
    Cell("real", proposed_by="models", models=2),
    *(Cell("cifar10h", estimator=estimator, by_slice=True) for estimator in ("difference", "sample")),
    Cell("multilabelfy", "active", proposed_by="models"),
)
"""In the order in which they are simulated. The committed results have only some of them."""


def sample_of(data: DataSet, design: AuditDesign, kind: str, seed: int, strata=None):
    """Return a sample, and people's label sets of it."""
    from manyhot.tables.audit_samples import draw_sample

    ids = data.labels.image_id
    sample = draw_sample(ids, design.probability, kind, seed, strata)
    return sample, replace(data.labels, table=data.labels.table.filter(pc.is_in(ids, sample.drawn)))


class Simulation:
    """Draws audits of one cell."""

    def __init__(self, data: DataSet, cell: Cell, metrics: list[str] | None = None) -> None:
        from manyhot import evaluate

        self.metrics = cell.metrics if metrics is None else metrics
        step = max(1, len(data.models) // cell.models)
        self.cell, self.data = cell, replace(data, models=data.models[::step][: cell.models])
        self.proposals = data.single if cell.has_labels else data.unlabelled
        arrays = as_arrays(self.data, 1)
        self.best, self.confidence = arrays.top[:, :, 0], arrays.confidence
        plain = evaluate(data.labels, self.data.models, resamples=1, metrics=self.metrics)
        self.true = plain.to_polars().select(*KEYS, true="value").filter(pl.col("true").is_not_nan())
        pairs = pl.from_arrow(plain.pairs).filter(pl.col("slice") == "all")
        self.true_pairs = pairs.select(*PAIR, true="difference")
        self._record()

    def _record(self) -> None:
        """Keep what `evaluate` passes to the estimation of each metric of each model."""
        calls, auditors = [], []

        class Recorder(Auditor):
            def estimates(self, column, metric, case, rows, proposed):
                auditors.append(self)
                calls.append(("estimates", (column, metric, case, rows, list(proposed))))
                return super().estimates(*calls[-1][1])

            def average_precision(self, *inputs):
                auditors.append(self)
                calls.append(("average_precision", inputs))
                return super().average_precision(*inputs)

        with mock.patch("manyhot.evaluate.judge.Auditor", Recorder):
            self._evaluated(
                *sample_of(self.data, uniform_design(len(self.best), len(self.best)), "uniform", 0)
            )
        recorded, self._calls = auditors[0], calls
        self._models = recorded.images.models
        self._slices, self._bootstrap = recorded._slices, recorded._bootstrap
        if not self.cell.by_slice:
            self._slices = Slices(self._slices.names[:1], self._slices.masks[:1])
            self._bootstrap = Bootstrap(self._slices.masks, 1, 0)
            self._calls = [(name, _on_all(inputs)) for name, inputs in calls]
        label = recorded.images.people.label[np.argsort(recorded.images.sample.images)]
        place = pc.index_in(self.proposals.image_id, self.data.labels.image_id).to_numpy()
        self._people, self._drawn = replace(label_sets(self.data.labels).take(place), label=label), None
        self._place = place

    def _evaluated(self, sample, people):
        from manyhot import evaluate

        audit = Audit(people, sample, proposed_by=self.cell.proposed_by, estimator=self.cell.estimator)
        of = self.proposals, self.data.models
        found = evaluate(*of, audit=audit, resamples=1, metrics=self.metrics)
        pairs = pl.from_arrow(found.pairs).select(*PAIR, "slice", *OF_PAIR)
        return found.to_polars().select(*KEYS, *OF_VALUE), pairs

    def _estimated(self, sample):
        """Return the tables of results and pairs for one sample."""
        audit = Audit(proposed_by=self.cell.proposed_by, estimator=self.cell.estimator, blind_stop=True)
        people = self._people.take(sample.images)
        images = AuditedImages(people, sample, audit, self._drawn, models=self._models)
        auditor, rows = Auditor(images, self._slices, self.proposals.image_id, self._bootstrap), []
        for name, inputs in self._calls:
            found = getattr(auditor, name)(*inputs)
            rows += [found] if name == "average_precision" else found
        values = pl.DataFrame(
            {name: [getattr(row, name) for row in rows] for name in (*KEYS, *OF_VALUE)},
            infer_schema_length=None,
        )
        models = list(dict.fromkeys(row.model for row in rows))
        pairs = [*auditor.pairs.rows("", models, ComparedPairs())]
        if not pairs:
            return values, pl.DataFrame()
        columns = (*PAIR, "slice", *OF_PAIR)
        return values, pl.concat([pl.from_arrow(pa.table({k: c[k] for k in columns})) for c in pairs])

    def block(self, n: int, block: int):
        """Return the sums over one block of draws, of values and of pairs."""
        planned, design = self._designs(n)
        values, pairs = [], []
        for draw in range(block * BLOCK, (block + 1) * BLOCK):
            found, of_pairs = self._estimated(design.draw(np.random.default_rng([n, draw])))
            values.append(found.filter(pl.col("estimator").is_not_null()))
            pairs.append(of_pairs)
        self._check(planned, block)
        values = pl.concat(values, how="vertical_relaxed").join(self.true, on=KEYS)
        of_pairs = pl.concat(pairs, how="vertical_relaxed")
        return _sums(values), _sums(of_pairs.join(self.true_pairs, on=PAIR)) if len(of_pairs) else []

    def _designs(self, n: int):
        """Return the design for a sample of n images, and the same in the order of the proposals."""
        planned = design_by_models(self.cell.design, self.best, n, self.confidence)
        strata = None if planned.design.stratum is None else planned.design.stratum[self._place]
        return planned, AuditDesign(planned.design.probability[self._place], strata)

    def _drawn_by(self, planned, seed: int):
        """Return a sample as `audit` records it, and people's label sets of it."""
        names = planned.names()
        strata = None if names is None else pa.array(names.tolist())
        return sample_of(self.data, planned.design, planned.kind, seed, strata)

    def _check(self, planned, seed: int) -> None:
        """Raise an error if the estimates of a sample are not those of `evaluate`."""
        drawn, people = self._drawn_by(planned, seed)
        estimated = self._estimated(drawn.sample_for(self.proposals.image_id))
        for found, of_evaluate in zip(estimated, self._evaluated(drawn, people), strict=True):
            if len(found):
                same = of_evaluate.filter(pl.col("slice").is_in(found["slice"].implode()))
                options = {"check_row_order": False, "check_dtypes": False, "abs_tol": 1e-12}
                assert_frame_equal(found, same.select(found.columns), **options)


def _on_all(inputs):
    """Return what the estimation of a metric is passed, on all images alone."""
    *rest, proposed = inputs
    return (*rest, [p for p in proposed if p.slice == ALL]) if isinstance(proposed, list) else inputs


def _sums(table):
    """Return sums over draws, by model or pair, metric and slice."""
    is_pair = "model_a" in table.columns
    value = pl.col("difference" if is_pair else "value").fill_nan(None)
    lo, hi, true = pl.col("lo").fill_nan(None), pl.col("hi").fill_nan(None), pl.col("true")
    error = value - true
    keys = PAIR if is_pair else KEYS
    columns = {
        "draws": pl.len(),
        "intervals": lo.is_not_null().sum(),
        "held": ((lo <= true + 1e-9) & (true - 1e-9 <= hi)).sum(),
        "width": (hi - lo).sum(),
        "error": error.sum(),
        "squared": (error**2).sum(),
        "alone": (pl.col("alone") - true).sum(),
    }
    if is_pair:  # as the report says: decided if p with Holm's correction is below 0.05
        sure = (pl.col("p_adjusted") < 0.05) & lo.is_not_null()
        columns["right"] = (sure & (value * true > 0)).sum()
        columns["wrong"] = (sure & (value * true < 0)).sum()
        columns["equal"] = (true == 0).sum()
    found = table.group_by(keys, maintain_order=True).agg(**columns)
    return [[round(x, 9) if isinstance(x, float) else x for x in row] for row in found.iter_rows()]


def simulate(options) -> None:
    """Simulate what is not in the file, one cell after the other."""
    done = set()
    if options.out.is_file():
        lines = map(json.loads, options.out.read_text(encoding="utf-8").splitlines())
        done = {(*r["cell"], r["n"], r["block"]) for r in lines}
    stop = time.time() + 60 * options.minutes
    cells = [c for c in CELLS if c.data in options.data]
    cells = [c for c in cells if c.proposed_by in options.proposed_by and c.estimator in options.estimator]
    data, opened = None, None
    blocks = range(options.after // BLOCK, options.draws // BLOCK)
    for cell, n, block in itertools.product(cells, options.sizes, blocks):
        key = cell.data, cell.design, cell.estimator, cell.proposed_by
        if (*key, n, block) in done or time.time() > stop:
            continue
        if data is None or data.name != cell.data:
            data = open_data(cell.data, options.features)
        if opened is None or opened.cell != cell:
            opened = Simulation(data, cell, options.metric)
        begun = time.process_time()
        values, pairs = opened.block(n, block)
        seconds = round(time.process_time() - begun, 1)
        line = {"cell": key, "n": n, "block": block, "seconds": seconds}
        with options.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line | {"values": values, "pairs": pairs}) + "\n")
        print(*key, f"{n:,} images, block {block}: {seconds} s", flush=True)


def summarise(out: Path) -> None:
    """Write a row of means over models or pairs for each cell, metric and slice, in place of the old one."""
    sums = defaultdict(lambda: defaultdict(list))
    for line in map(json.loads, out.read_text(encoding="utf-8").splitlines()):
        key = (*line["cell"], line["n"])
        for row in line["values"]:
            sums[(*key, row[1], row[2])][row[0]].append(row[3:])
        for row in line["pairs"]:
            sums[(*key, row[2], "pairs")][row[0], row[1]].append(row[3:])
    rows = [_summary(key, by_model) for key, by_model in sums.items()]
    table = pl.DataFrame(rows, infer_schema_length=None)
    if SUMMARY.is_file():
        old = pl.read_csv(SUMMARY, infer_schema_length=None, schema_overrides=table.schema)
        table = pl.concat([table, old.join(table, on=COLUMNS, how="anti")])
    table = table.sort("data", "design", "estimator", "proposed_by", "n", maintain_order=True)
    table.write_csv(SUMMARY)
    print(f"{len(table):,} rows in {SUMMARY}")


def _summary(key, by_model):
    from audited_tables import count_below

    found = np.array([np.sum(np.array(rows, float), axis=0) for rows in by_model.values()])
    n, intervals, held, width, error, squared, alone = found[:, :7].T
    most = intervals >= n / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        coverage = held[most] / intervals[most]
        row = dict(zip(COLUMNS, key, strict=True))
        row |= {
            "draws": int(n.max()),
            "models": len(found),
            "with_interval": int(most.sum()),
            "coverage": _round(coverage.mean() if most.any() else None),
            "least": _round(coverage.min() if most.any() else None),
            "below": count_below(held[most], intervals[most]),
            "none": _round(1 - intervals.sum() / n.sum()),
            "half_width": _round(50 * np.median(width[most] / intervals[most]) if most.any() else None, 3),
            "bias": _round(100 * np.mean(error / n), 3),
            "deviation": _round(100 * np.median(np.sqrt(squared / n)), 3),
            "alone": _round(100 * np.mean(alone / n), 2),
        }
        right, wrong, equal = found[:, 7:].sum(0) / n.sum() if found.shape[1] > 7 else (None, None, None)
    return row | {"right": _round(right), "wrong": _round(wrong, 5), "equal": _round(equal)}


def _round(x, digits=4):
    return None if x is None else round(float(x), digits)


def speed() -> None:
    """Print the CPU seconds of an evaluation of all models on ReaL, with and without an audit."""
    from manyhot import evaluate

    data, seconds = open_data("real"), defaultdict(list)
    for _ in range(3):
        for n in (0, 1000, 2000):
            design = uniform_design(len(data.labels), n or len(data.labels))
            sample, people = sample_of(data, design, "uniform", 0)
            begun = time.process_time()
            if n:
                evaluate(data.single, data.models, audit=Audit(people, sample))
            else:
                evaluate(data.labels, data.models)
            seconds[n].append(time.process_time() - begun)
    plain = np.median(seconds[0])
    print(f"{len(data.models)} models, {len(data.labels):,} images: {plain:.1f} CPU seconds")
    for n in (1000, 2000):
        took = np.median(seconds[n])
        print(f"  with {n:,} audited images: {took:.1f} CPU seconds, {took / plain:.2f} times as long")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "coverage", "summary"))
    parser.add_argument("--data", nargs="+", choices=DATA, default=DATA)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--after", type=int, default=0, help="draws to leave out: later ones are independent")
    parser.add_argument("--sizes", nargs="+", type=int, default=(250, 1000))
    parser.add_argument("--estimator", nargs="+", default=("ppi++", "difference", "sample"))
    parser.add_argument("--proposed-by", nargs="+", default=("labels", "models"))
    parser.add_argument("--metric", nargs="+", help="only these, such as map_macro")
    parser.add_argument("--minutes", type=float, default=600)
    parser.add_argument("--out", type=Path, default=RAW)
    parser.add_argument("--features", type=Path, default=FEATURES)
    options = parser.parse_args()
    if options.what == "speed":
        speed()
    elif options.what == "coverage":
        simulate(options)
    else:
        summarise(options.out)


if __name__ == "__main__":
    common.quiet()
    main()
