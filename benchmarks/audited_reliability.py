"""How often intervals of an audit's reliability table contain the accuracy in a bin of confidence.

    python benchmarks/audited_reliability.py [--data cifar10h voc] [--sizes 250 1000] [--draws 1000]
        [--design uniform …] [--estimator ppi++ …] [--features FOLDER]

People's label sets of the data sets of `audited_data.py` with confidences are hidden but for those of a
random sample. The accuracies to estimate are those of the plain evaluation on all of them. For one sample of
each size, the table must be that of `evaluate`. `audited_reliability.csv` has a row for each bin of a model;
audited-proofs.md shows them.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from pathlib import Path
from unittest import mock

import common
import numpy as np
import polars as pl
from audited_data import FEATURES, open_data
from audited_evaluate import Cell, Simulation
from polars.testing import assert_frame_equal

from manyhot.evaluate.audited import Audit, AuditedImages
from manyhot.evaluate.audited_values import Auditor
from manyhot.evaluate.reliability import AuditedCase, audited_reliability

OUT = Path(__file__).with_suffix(".csv")
ARM = ["data", "design", "estimator", "n"]
KEYS = ["model", "event", "from", "to"]
SEED = 404
"""Of draws that nothing was chosen on."""


class ReliabilitySimulation(Simulation):
    """Draws audits of one cell, for their reliability tables alone."""

    def _record(self) -> None:
        calls, estimated = [], Auditor.reliability

        def recorded(auditor, dataset, model, case, rows):
            calls.append((dataset, model, case, rows))
            return estimated(auditor, dataset, model, case, rows)

        with mock.patch.object(Auditor, "reliability", recorded):
            super()._record()
        self._inputs = calls

    def __init__(self, data, cell) -> None:
        from manyhot import evaluate

        super().__init__(data, cell, ["real1"])
        plain = evaluate(data.labels, self.data.models, resamples=1, metrics=["real1"])
        table = pl.from_arrow(plain.confidence["reliability"])
        self.truth = table.select(*KEYS, true="right", images="n")

    def table(self, sample):
        """Return the reliability table of one sample."""
        audit = Audit(estimator=self.cell.estimator, blind_stop=True)
        images = AuditedImages(self._people.take(sample.images), sample, audit, None)
        rows = []
        for _, model, case, at in self._inputs:
            rows += audited_reliability(images, "", model, AuditedCase.of(case, at, images))
        return pl.DataFrame(rows, infer_schema_length=None)

    def check(self, planned, seed) -> None:
        """Raise an error if the table of a sample is not that of `evaluate`."""
        from manyhot import evaluate

        drawn, people = self._drawn_by(planned, seed)
        audit = Audit(people, drawn, proposed_by="labels", estimator=self.cell.estimator)
        found = evaluate(self.proposals, self.data.models, audit=audit, resamples=1, metrics=["real1"])
        of_evaluate = pl.from_arrow(found.confidence["reliability"]).drop("dataset")
        table = self.table(drawn.sample_for(self.proposals.image_id)).drop("dataset")
        assert_frame_equal(table, of_evaluate.select(table.columns), check_dtypes=False, abs_tol=1e-12)

    def rows(self, n, draws):
        """Yield a row for each bin of each model and event."""
        (planned, design), found = self._designs(n), defaultdict(list)
        self.check(planned, n)
        for draw in range(draws):
            for row in self.table(design.draw(np.random.default_rng([SEED, n, draw]))).iter_rows(named=True):
                found[tuple(row[k] for k in KEYS)].append(row)
        for of in self.truth.iter_rows(named=True):
            rows = found[tuple(of[k] for k in KEYS)]
            ends = [(r["lo"], r["hi"]) for r in rows if r["lo"] is not None]
            held = sum(lo - 1e-9 <= of["true"] <= hi + 1e-9 for lo, hi in ends)
            yield {
                "data": self.data.name,
                "design": self.cell.design,
                "estimator": self.cell.estimator,
                "n": n,
                **{k: of[k] if isinstance(of[k], str) else round(of[k], 4) for k in KEYS},
                "images": of["images"],
                "draws": draws,
                "shown": len(rows),
                "intervals": len(ends),
                "held": held,
                "half_width": _mean([50 * (hi - lo) for lo, hi in ends]),
                "bias": _mean([100 * (r["right"] - of["true"]) for r in rows]),
                "alone": _mean([100 * (r["alone"] - of["true"]) for r in rows]),
            }


def _mean(values):
    return round(float(np.mean(values)), 3) if values else None


def main() -> None:
    """Simulate, and write the rows in place of the old ones of the same data, estimator and size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=("cifar10h", "voc"))
    parser.add_argument("--sizes", nargs="+", type=int, default=(250, 1000))
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--design", nargs="+", default=("uniform",))
    parser.add_argument("--estimator", nargs="+", default=("ppi++",))
    parser.add_argument("--features", type=Path, default=FEATURES)
    options = parser.parse_args()
    for name, design, estimator in itertools.product(options.data, options.design, options.estimator):
        cell = Cell(name, design, estimator)
        simulation = ReliabilitySimulation(open_data(name, options.features), cell)
        for n in options.sizes:
            table = pl.DataFrame([*simulation.rows(n, options.draws)], infer_schema_length=None)
            if OUT.is_file():
                old = pl.read_csv(OUT, schema_overrides=table.schema)
                table = pl.concat([old.join(table, on=ARM, how="anti"), table])
            table.sort(ARM, maintain_order=True).write_csv(OUT)
            print(name, design, estimator, f"{n:,} images", flush=True)


if __name__ == "__main__":
    common.quiet()
    main()
