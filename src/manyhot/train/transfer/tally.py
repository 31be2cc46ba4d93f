"""Results of transfer: values, intervals and pairs of backbones on the test images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot import tables
from manyhot.console import table_lines
from manyhot.core.array_types import Floats
from manyhot.core.detection import Boxes, box_average_precision, class_overlaps, match
from manyhot.core.estimates import Estimate, Ratio
from manyhot.core.jackknife import jackknife_ends, jackknife_interval
from manyhot.core.model_pairs import compare_pairs
from manyhot.core.posterior import weighted_values
from manyhot.core.ratio_intervals import ratio_interval, with_none_apart
from manyhot.core.resampling import draw_counts
from manyhot.core.sets import NO_LABEL, NOT_ASKED, YES, Case, LabelSets
from manyhot.errors import InputError, first_names
from manyhot.evaluate.result_rows import Note, Number, pair_rows, pairs_table
from manyhot.formats.writing import PathLike
from manyhot.parameters import check_draws
from manyhot.registry import get
from manyhot.result import Result
from manyhot.run import QUIET, Run
from manyhot.tables import Row, results_digest
from manyhot.tables.arrays import States
from manyhot.tables.result_tables import describe_metric
from manyhot.train.order import SplitLabels

ALL = "all"

DEFINITIONS = {
    "ap": ("AP", "COCO average precision: mean over classes and over IoU thresholds from 0.5 to 0.95"),
    "ap50": ("AP50", "Average precision at an IoU of 0.5, mean over classes"),
    "ap75": ("AP75", "Average precision at an IoU of 0.75, mean over classes"),
    "ar100": ("AR100", "COCO average recall with 100 boxes per image"),
    "miou": ("mIoU", "Intersection over union of masks, mean over classes and background"),
    "iou": ("IoU", "Intersection over union of the masks of a class"),
}
"""Metrics that are not registered: those of boxes and masks."""


@dataclass(frozen=True, eq=False)
class ResampledMetric:
    """A metric on the test images, and its value in each resample of these images.

    Attributes
    ----------
    samples : ndarray of float, shape (R,)
        Values in the resamples. Empty if none were drawn, or if the metric has no resamples.
    n : int
        Images that count.
    ends : tuple of float, optional
        The jackknife interval, for metrics that have one; NaN if it is undefined. By default, the interval
        uses Student's t, with the standard deviation of the samples as the standard error.
    draws : ndarray of float, shape (k,)
        The value for each draw of images to fit on, if there are several. Their mean is `value`.
    """

    value: float
    samples: Floats
    n: int
    ends: tuple[float, float] | None = None
    draws: Floats = field(default_factory=lambda: np.empty(0))

    @property
    def is_doubtful(self) -> bool:
        """Whether the jackknife gives no interval, because there are too few images or positives."""
        return self.ends is not None and bool(np.isnan(self.ends[0]))

    @property
    def interval(self) -> tuple[float | None, float | None]:
        """The ends of the 95 % interval, or None if there is no interval."""
        if not len(self.samples) or np.isnan(self.value):
            return None, None
        ends = jackknife_ends(self.value, *_error(self.samples, self.draws, self.n))
        lo, hi = ends if self.ends is None else self.ends
        return (None, None) if np.isnan(lo) else (lo, hi)


@dataclass(frozen=True, eq=False)
class TransferLabels(SplitLabels):
    """Labels of the images, in the order of their ids. The held-out images are evaluated."""

    @classmethod
    def of(
        cls, states: States, label: npt.NDArray[np.integer], names: Sequence[str], held: Any
    ) -> TransferLabels:
        """Return the labels of some images."""
        row = {name: i for i, name in enumerate(states.image_id.to_pylist())}
        rows = np.array([row[name] for name in names], np.intp)
        state, own = states.state[rows], label[rows]
        unusable = (state == NOT_ASKED).all(1)
        return cls(names, state, np.where(unusable, NO_LABEL, own), np.asarray(held, bool), states.classes)

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """Images with an original label, shape (n,)."""
        return np.asarray(self.label != NO_LABEL)

    @property
    def judged(self) -> LabelSets:
        """The label sets of the held-out images, on which models are evaluated."""
        state, label = self.state[self.held], self.label[self.held]
        rows, classes = np.nonzero(state != NOT_ASKED)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(state)))]).astype(np.int64)
        return LabelSets(
            len(self.classes),
            indptr,
            classes.astype(np.int32),
            state[rows, classes],
            label.astype(np.int32),
            np.ones(len(label), bool),
            asked_known=True,
        )

    def counts(self, by_label: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the number of images in each class for fitting and for evaluation, both of shape (C,)."""
        there = self.shown(by_label)
        return there[~self.held].sum(0), there[self.held].sum(0)

    def shown(self, by_label: bool) -> npt.NDArray[np.bool_]:
        """Return which images show which classes, or have them as original labels, shape (n, C)."""
        classes = np.arange(len(self.classes))
        return np.asarray(self.label[:, None] == classes if by_label else self.state == YES)


def check_classes(fitted: npt.NDArray[np.int64], judged: npt.NDArray[np.int64], keys: Sequence[str]) -> None:
    """Raise an error if a class occurs in held-out images but in none of the images to fit on.

    Parameters
    ----------
    fitted, judged : ndarray of int, shape (C,)
        Number of images or objects of each class, for fitting and for evaluation.

    Raises
    ------
    InputError
    """
    for what, counts in (("to fit on", fitted), ("held out", judged)):
        if not counts.any():
            raise InputError(f"No image {what} shows any of the classes.", do="choose another split")
    missing = [key for key, f, j in zip(keys, fitted, judged, strict=True) if j and not f]
    if missing:
        raise InputError(
            "Some classes of the test images are in none of the images to fit on.",
            got=first_names(missing),
            do="remove them from the labels, or choose another split",
        )


MetricSlice = tuple[str, str]
"""A metric and a slice."""


@dataclass(frozen=True)
class Draws:
    """Resamples of n images, which are the same for all models and calls."""

    n: int
    resamples: int
    seed: int

    def __post_init__(self) -> None:
        check_draws(self.resamples, self.seed)

    @cached_property
    def counts(self) -> npt.NDArray[np.uint8]:
        """How often each image was drawn, shape (R, n)."""
        return draw_counts(self.n, self.resamples, np.random.default_rng([self.seed, self.n]))

    def classified(
        self, sets: LabelSets, scores: npt.NDArray[np.floating], metrics: Sequence[str]
    ) -> dict[MetricSlice, ResampledMetric]:
        """Return registered metrics of scores over all classes, except metrics that count no images."""
        case = Case.from_scores(sets, scores, k=max(5, int(sets.size.max(initial=1))))
        values = {}
        for name in metrics:
            entry = get("metric", name)
            estimate = entry(case)
            n = int(np.count_nonzero(estimate.scored))
            if n:
                samples = weighted_values(estimate, self.counts.astype(np.float64))
                values[entry.name, ALL] = ResampledMetric(estimate.value(), samples, n, _ends(estimate))
        return values

    def detected(
        self,
        there: Sequence[Boxes],
        detected: Sequence[Boxes],
        keys: Sequence[str],
        values: Mapping[str, float],
        by_class: Floats,
    ) -> dict[MetricSlice, ResampledMetric]:
        """Return the metrics of boxes, with resamples of average precision."""
        matched = [match(there, detected, c) for c in range(len(keys))]
        drawn = np.stack([box_average_precision(m, self.counts) for m in matched])
        with np.errstate(invalid="ignore"):
            samples = {
                "ap": _mean(drawn.mean(2)),
                "ap50": _mean(drawn[:, :, 0]),
                "ap75": _mean(drawn[:, :, 5]),
            }
        metrics = {
            (m, ALL): ResampledMetric(v, samples.get(m, np.empty(0)), self.n) for m, v in values.items()
        }
        for key, value, own in zip(keys, by_class, drawn.mean(2), strict=True):
            if not np.isnan(value):
                metrics["ap", f"class={key}"] = ResampledMetric(float(value), own, self.n)
        return metrics

    def segmented(
        self, counts: npt.NDArray[np.int64], keys: Sequence[str]
    ) -> dict[MetricSlice, ResampledMetric]:
        """Return the overlaps of masks. The first of the classes is the background."""
        values, drawn = class_overlaps(counts)[0], class_overlaps(counts, self.counts)
        metrics = {("miou", ALL): ResampledMetric(float(np.nanmean(values)), _mean(drawn.T), self.n)}
        for key, value, own in zip(keys, values, drawn.T, strict=True):
            if not np.isnan(value):
                metrics["iou", f"class={key}"] = ResampledMetric(float(value), own, self.n)
        return metrics


def _ends(estimate: Estimate) -> tuple[float, float] | None:
    """Return the interval of a metric without resamples; None if only resamples give one."""
    if isinstance(estimate, Ratio):
        return ratio_interval(estimate)
    if estimate.left_out is None:
        return None
    if estimate.doubt(None):
        return float("nan"), float("nan")
    return jackknife_interval(estimate.value(None), estimate.left_out(None)[estimate.scored])


def _mean(samples: Floats) -> Floats:
    """Return the mean over classes, shape (R,), of samples of shape (C, R), of those that are not NaN."""
    there = ~np.isnan(samples)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(there, samples, 0).sum(0) / there.sum(0), np.float64)


def mean_of_draws(draws: Sequence[ResampledMetric], seed: int) -> ResampledMetric:
    """Return the mean of a metric over draws of fitting images, with resamples of draws and test images.

    Parameters
    ----------
    draws : sequence of ResampledMetric
        The metric of each draw, on the same images and resamples.
    seed : int
        Seed for the resampled draws, the same for all models.
    """
    samples, values = np.stack([d.samples for d in draws]), np.array([d.value for d in draws])
    k, r = samples.shape
    counts = draw_counts(k, r, np.random.default_rng([seed, k])).T.astype(np.float64)
    # Resamples of k draws vary less than draws by (k - 1) / k.
    weights = (1 + (counts - 1) * np.sqrt(k / (k - 1))) / k
    return ResampledMetric(float(values.mean()), (samples * weights).sum(0), draws[0].n, draws=values)


def _error(samples: Floats, draws: Floats, n: int) -> tuple[float, float]:
    """Return the standard error of a value over n images and k draws, and its degrees of freedom.

    References
    ----------
    Satterthwaite 1946, doi 10.2307/3002019.
    """
    samples, k = samples[~np.isnan(samples)], len(draws)
    if len(samples) < 2 or n < 2:
        return float("nan"), float("nan")
    total = float(samples.var(ddof=1)) / (1 - 1 / n)
    between = float(draws.var(ddof=1)) / k if k > 1 else 0.0
    total = max(total, between)
    spread = (total - between) ** 2 / (n - 1) + between**2 / max(k - 1, 1)
    df = total**2 / spread if spread > 0 else n - 1
    return float(np.sqrt(total)), min(df, len(samples) - 1)


@dataclass(frozen=True, eq=False)
class TransferResult(Result):
    """Results of the transfer of backbones to another data set.

    Attributes
    ----------
    results, pairs, samples : pyarrow.Table
        The tables with these names. Metrics are named ``METHOD/NAME``, such as ``knn/top1``.
    model_notes : tuple of Note
        The notes, each with the model to which it refers.
    heads : tuple of str
        The heads that were written, as in ``manyhot predict --model``.
    notes, metadata, inputs, written
        As in `Result`.
    """

    NAMES = ("results", "pairs", "samples")

    results: pa.Table
    pairs: pa.Table
    samples: pa.Table
    model_notes: tuple[Note, ...] = ()
    heads: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        values: Sequence[Number],
        pairs: Sequence[Mapping[str, Any]],
        samples: pa.Table,
        notes: Sequence[Note],
        metadata: Mapping[str, str],
    ) -> TransferResult:
        """Build the tables from rows."""
        columns = {f.name: [getattr(n, f.name) for n in values] for f in fields(Number)}
        return cls(
            pa.table(columns, schema=tables.schema("results")),
            pairs_table(pairs, audited=False),
            tables.check(samples, "samples"),
            tuple(notes),
            notes=tuple(f"{n.model}: {n.text}" if n.model else n.text for n in notes),
            metadata=metadata,
        )

    def value(self, metric: str, *, model: str = "", slice: str = ALL) -> float:
        """Return one number.

        Raises
        ------
        InputError
            If none or several rows match.
        """
        rows = [r for r in self.results.to_pylist() if (r["metric"], r["slice"]) == (metric, slice)]
        rows = [r for r in rows if model in ("", r["model"])]
        if len(rows) != 1:
            names = (", ".join(self.results[c].unique().to_pylist()) for c in ("metric", "model"))
            raise InputError(
                f"{len(rows) or 'No'} numbers match.",
                got=f"{metric}, {slice}{model and f', {model}'}",
                allowed="; ".join(names),
                do="name the model" if rows else None,
            )
        return float(rows[0]["value"])

    def lines(self) -> Iterator[str]:
        """Yield a table with a column for each model, and the differences between pairs of models."""
        rows = self.results.to_pylist()
        models = list(dict.fromkeys(row["model"] for row in rows))
        cells = {(_shown(row), row["model"]): _cell(row) for row in rows}
        n = {_shown(row): f"{row['n']:,}" for row in rows}
        table = [(name, *(cells.get((name, m), "–") for m in models), n[name]) for name in n]
        yield from table_lines(("", *models, "images"), table)
        for pair in self.pairs.to_pylist():
            ends = [100 * pair[name] for name in ("lo", "hi")]
            shown = "" if np.isnan(ends[0]) else f" ({ends[0]:+.1f} to {ends[1]:+.1f})"
            difference = f"{100 * pair['difference']:+.1f}{shown} points"
            yield f"{pair['metric']}: {pair['model_b']} minus {pair['model_a']}: {difference}"
        for head in self.heads:
            yield f"the head is a model: manyhot predict IMAGES --model {head}"

    def to_json(self) -> dict[str, Any]:
        """Return the rows of results and pairs, and the notes."""
        names = ("results", "pairs")
        rows = {name: getattr(self, name).to_pylist() for name in names}
        return rows | {"notes": self.notes} | ({"heads": self.heads} if self.heads else {})

    def write(self, out: PathLike, *, run: Run = QUIET) -> list[Path]:
        """Write the results as Parquet and CSV, the pairs and the samples, and return the paths."""
        from manyhot.formats.csv_tables import write_csv

        about = {**self.metadata, "notes": json.dumps([asdict(note) for note in self.model_notes])}
        digest = {"results": results_digest(self.results)}
        written = []
        for name, table in self.tables.items():
            path, metadata = Path(out) / f"{name}.parquet", about if name == "results" else digest
            written.append(tables.write(table, path, name, call=run.call, inputs=self.inputs, about=metadata))
            if name == "results":
                written.append(write_csv(table, path.with_suffix(".csv")))
        return written


def _shown(row: Row) -> str:
    metric = str(row["metric"]).partition("/")[2]
    return metric if row["slice"] == ALL else f"{metric}, {row['slice'].partition('=')[2]}"


def _cell(row: Row) -> str:
    if row["value"] != row["value"]:
        return "–"
    ends = "" if row["lo"] is None else f" ({100 * row['lo']:.1f} to {100 * row['hi']:.1f})"
    return f"{100 * row['value']:.1f}%{ends}"


@dataclass
class TransferTally:
    """Collects the results of models on a data set.

    Parameters
    ----------
    n : int
        Number of images held out.
    draws : Draws
        Resamples of the test images.
    """

    dataset: str
    method: str
    n: int
    draws: Draws
    results: dict[str, Mapping[MetricSlice, ResampledMetric]] = field(default_factory=dict)

    def finish(self, notes: Sequence[Note]) -> TransferResult:
        """Return all results, and comparisons of pairs of models on the same resamples."""
        numbers = [
            Number(self.dataset, model, self._named(m), where, x.value, *x.interval, x.n, self.n - x.n)
            for model, values in self.results.items()
            for (m, where), x in values.items()
        ]
        names = list(dict.fromkeys(m for values in self.results.values() for m, _ in values))
        about = {
            "metrics": json.dumps({self._named(m): self._described(m) for m in names}),
            "resamples": str(self.draws.resamples),
            "seed": str(self.draws.seed),
        }
        pairs = [pair for m in names if (pair := self._pairs(m))]
        return TransferResult.of(numbers, pairs, self._samples(), notes, about)

    def _named(self, metric: str) -> str:
        return f"{self.method}/{metric}"

    def _described(self, metric: str) -> dict[str, str]:
        name, _, options = metric.partition("(shots=")
        shots = f", {options.removesuffix(')')} shots" if options else ""
        if name in DEFINITIONS:
            label, definition = DEFINITIONS[name]
            about = {"label": label, "definition": definition, "better": "higher", "unit": "share"}
        else:
            about = describe_metric(name)
        return about | {"label": f"{about['label']} ({self.method}{shots})"}

    def _sampled(self, metric: str) -> dict[str, ResampledMetric]:
        results = {model: values.get((metric, ALL)) for model, values in self.results.items()}
        return {model: x for model, x in results.items() if x is not None and len(x.samples)}

    def _pairs(self, metric: str) -> dict[str, Any] | None:
        results = self._sampled(metric)
        if len(results) < 2:
            return None
        of = list(results.values())
        pairs = list(combinations(of, 2))
        errors, df = np.full((2, len(pairs)), np.nan)
        for i, (a, b) in enumerate(pairs):
            if a.is_doubtful or b.is_doubtful:
                continue  # too few positives for an interval of a value are too few for one of a difference
            errors[i], df[i] = _error(b.samples - a.samples, b.draws - a.draws, a.n)
        table = compare_pairs(np.array([x.value for x in of]), errors=errors, df=df)
        shared = np.full(len(pairs), of[0].n)
        table = with_none_apart(table, shared)
        return pair_rows(self.dataset, self._named(metric), ALL, list(results), table, shared)

    def _samples(self) -> pa.Table:
        names = dict.fromkeys(m for values in self.results.values() for m, _ in values)
        rows = [(model, m, x.samples) for m in names for model, x in self._sampled(m).items()]
        return pa.table(
            {
                "dataset": pa.array([self.dataset] * len(rows), pa.string()),
                "model": pa.array([model for model, _, _ in rows], pa.string()),
                "metric": pa.array([self._named(m) for _, m, _ in rows], pa.string()),
                "slice": pa.array([ALL] * len(rows), pa.string()),
                "values": pa.array([s.astype(np.float32) for _, _, s in rows], pa.list_(pa.float32())),
            }
        )
