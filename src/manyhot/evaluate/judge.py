"""Judge models on label sets: labels and predictions to results and pairs.

A metric of a model as one number an image: what slices, intervals and pairs are made of.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot.checks import check_draws
from manyhot.classes import CLASS_ORDERS, ClassList, class_list_of
from manyhot.core.estimates import Estimate, Pooled, Ratio
from manyhot.core.model_pairs import compare_pairs, paired_errors
from manyhot.core.order_check import explain_order
from manyhot.core.resampling import (
    Bootstrap,
    Cells,
    centred_interval,
    draw_counts,
    percentile_interval,
    wilson_interval,
)
from manyhot.core.sets import NO_LABEL, Case, LabelSets
from manyhot.errors import InputError, OrderError
from manyhot.evaluate.confidence import Pictured
from manyhot.evaluate.results import Evaluation, Note, Number, pair_rows
from manyhot.evaluate.slices import ALL, Slices, ascends, case_of, make_slices, unmet
from manyhot.registry import Entry, get, missing_options
from manyhot.tables import Alignment, Images, Labels, Predictions, align, check_same_classes
from manyhot.tables.metrics import accuracies, default_metrics, describe_metric
from manyhot.tables.sets import label_sets
from manyhot.tables.skipped_files import SkippedFiles, fitting_models

MAX_MAP_RESAMPLES = 200
"""Bound on `map_resamples`: each sorts all scores anew."""


_BATCH = 64
"""Models resampled together: 180 MB of numerators for 50,000 images and the rank metrics."""


ModelProgress = Callable[[int, str], None]


def evaluate(
    labels: Labels,
    predictions: Iterable[Predictions],
    *,
    metrics: Sequence[str] | None = None,
    slices: Sequence[str] = (),
    images: Images | None = None,
    classes: ClassList | None = None,
    resamples: int = 1000,
    seed: int = 0,
    map_resamples: int = 0,
    trust_order: bool = False,
    dataset: str = "",
    misfits: SkippedFiles | None = None,
    progress: ModelProgress | None = None,
) -> Evaluation:
    """Judge models on label sets.

    Predictions are consumed one model at a time, joined to the labels by image id.

    Parameters
    ----------
    labels : Labels
    predictions : iterable of Predictions
    metrics : sequence of str, optional
        Registered names or call strings; by default all rank metrics, and the dense ones where a model has
        scores over all classes.
    slices : sequence of str
        Beside the standing ones: ``class=KEY``, ``class`` for all; ``COLUMN``, ``COLUMN=VALUE`` of `images`.
    images : Images, optional
        Original labels where `labels` has none, and columns to slice by.
    classes : ClassList, optional
        Gives superclasses and keys; by default ``imagenet1k`` where the labels are over it.
    resamples : int
        Of the bootstrap; 0 for no intervals and no pairs.
    seed : int
    map_resamples : int
        For intervals of metrics that are no ratio of sums over images, such as ``map_macro``, in slice
        ``all``; at most `MAX_MAP_RESAMPLES`.
    trust_order : bool
        Judge predictions even if their rows or classes look to be in another order than claimed.
    dataset : str
        What the data set is called in the results; the labels' name by default.
    misfits : Misfits, optional
        Where models that do not fit are skipped, with a note; without it the first ends in its error.
    progress : callable, optional
        Called with the number of models done and the name of the last, and once more at the end.

    Returns
    -------
    Evaluation

    Raises
    ------
    MatchError
        If labels and a model share no image, or are over different class lists.
    OrderError
        If rows or classes look to be in another order than claimed.
    UnknownNameError
        If a metric is not registered.
    """
    judge = Judge(
        labels if images is None else labels.with_labels(images),
        metrics=metrics,
        slices=slices,
        images=images,
        classes=classes or class_list_of(labels.class_hash),
        resamples=resamples,
        seed=seed,
        map_resamples=map_resamples,
        trust_order=trust_order,
        dataset=dataset or labels.name,
    )
    misfits = misfits or SkippedFiles()
    for done, (model, fitted) in enumerate(fitting_models(predictions, judge.fit, misfits), 1):
        judge.add(model, *fitted)
        if progress:
            progress(done, model.model)
    evaluation = judge.finish()
    if progress:
        progress(len(judge) + 1, "intervals and pairs")
    skipped = [Note(judge.dataset, name, "skipped", 0, text) for name, text in misfits.new()]
    return replace(evaluation, notes=(*evaluation.notes, *skipped))


@dataclass
class Judge:
    """Judges models one by one and keeps what intervals and pairs need.

    The parameters are those of `evaluate`.
    """

    labels: Labels
    metrics: Sequence[str] | None
    slices: Sequence[str]
    images: Images | None
    classes: ClassList | None
    resamples: int
    seed: int
    map_resamples: int
    trust_order: bool
    dataset: str
    _numbers: list[Number] = field(default_factory=list)
    _notes: list[Note] = field(default_factory=list)
    _models: list[str] = field(default_factory=list)
    _waiting: list[Column] = field(default_factory=list)
    _samples: dict[tuple[str, str, str], npt.NDArray[np.float32]] = field(default_factory=dict)
    _bits: dict[tuple[str, str], npt.NDArray[np.uint8]] = field(default_factory=dict)
    _scored: dict[tuple[str, str], bytes] = field(default_factory=dict)
    _masks: dict[bytes, npt.NDArray[np.bool_]] = field(default_factory=dict)
    _last: tuple[pa.Array, Alignment, LabelSets] | None = None

    def __post_init__(self) -> None:
        _check_counts(self.resamples, self.map_resamples, self.seed)
        by_default = self.metrics is None
        self._requested = _metrics(default_metrics(dense=False) if self.metrics is None else self.metrics)
        self._compared = frozenset(accuracies())
        self._dense = _metrics(default_metrics(dense=True)) if by_default else []
        self._pictured = Pictured(self.dataset)
        self._sets = label_sets(self.labels)
        self._slices = make_slices(
            self.labels,
            self._sets,
            images=self.images,
            classes=self.classes,
            requested=[self.slices] if isinstance(self.slices, str) else self.slices,
        )

    def __len__(self) -> int:
        return len(self._models)

    def fit(self, predictions: Predictions) -> tuple[Case, Alignment]:
        """Return a model beside the labels.

        Raises
        ------
        MatchError, OrderError
            As in `evaluate`.
        """
        check_same_classes(self.labels, predictions)
        alignment, sets = self._align(predictions)
        depth = max(depth_of(self._requested), int(sets.size.max(initial=1)))
        case = case_of(sets, predictions, alignment, depth)
        if not self.trust_order:
            check_order(case, predictions, alignment)
        return case, alignment

    def add(self, predictions: Predictions, case: Case, alignment: Alignment) -> None:
        """Judge one model that fits."""
        self._note_unmatched(predictions.model, alignment)
        self._models.append(predictions.model)
        for kind, n, text in unmet(self._requested, case, predictions):
            self._notes.append(Note(self.dataset, predictions.model, kind, n, text))
        for metric in self._requested + (self._dense if case.scores is not None else []):
            self._judge(predictions.model, metric, metric(case), alignment.left)
        wrong = self._pictured.add(predictions.model, case)
        if wrong:
            self._notes.append(Note(self.dataset, predictions.model, "confidence", len(case.labels), wrong))
        if len({c.model for c in self._waiting}) >= _BATCH:
            self._resample()

    def finish(self) -> Evaluation:
        """Return the numbers of all models added, with intervals and pairs."""
        if not self._models:
            raise InputError("There are no predictions to judge.", do="give at least one model")
        self._resample()
        metrics = {m.name: describe_metric(m.name) for m in self._requested + self._dense}
        about = {"metrics": json.dumps(metrics), "resamples": str(self.resamples), "seed": str(self.seed)}
        about["classes"] = self.labels.class_hash
        evaluation = Evaluation.of(self._numbers, self._pairs(), self._sampled(), self._notes, about)
        return replace(evaluation, confidence=self._pictured.tables())

    def _sampled(self) -> pa.Table:
        """Return the samples table."""
        kept = [(*key, values) for key, values in self._samples.items() if key[0] in self._compared]
        metrics, models, slices, values = zip(*kept, strict=True) if kept else ((), (), (), ())
        offsets = np.arange(len(kept) + 1, dtype=np.int32) * self.resamples
        flat = np.concatenate([np.empty(0, np.float32), *values])
        return pa.table(
            {
                "dataset": pa.repeat(pa.scalar(self.dataset, pa.string()), len(kept)),
                "model": pa.array(models, pa.string()),
                "metric": pa.array(metrics, pa.string()),
                "slice": pa.array(slices, pa.string()),
                "values": pa.ListArray.from_arrays(offsets, flat),
            }
        )

    def _align(self, predictions: Predictions) -> tuple[Alignment, LabelSets]:
        # Models of one data set usually list the same images in the same order.
        if self._last is not None and self._last[0].equals(predictions.image_id):
            alignment, sets = self._last[1:]
        else:
            name = self.labels.name or "the labels"
            alignment = align(
                self.labels.image_id, predictions.image_id, left_name=name, right_name=predictions.model
            )
            sets = self._sets if not alignment.left_only else self._sets.take(alignment.left)
            self._last = (predictions.image_id, alignment, sets)
        return alignment, sets

    def _note_unmatched(self, model: str, alignment: Alignment) -> None:
        matched = len(alignment.right)
        for kind, n, text in (
            ("predictions_unmatched", alignment.right_only, "predicted images have no labels"),
            ("labels_unmatched", alignment.left_only, "labelled images have no prediction"),
        ):
            if n:
                said = f"{n:,} of {n + matched:,} {text} and were left out"
                self._notes.append(Note(self.dataset, model, kind, n, said))

    def _judge(self, model: str, metric: Entry, estimate: Estimate, rows: npt.NDArray[np.int64]) -> None:
        if isinstance(estimate, Pooled):
            self._numbers += self._pooled(model, metric, estimate, rows)
            return
        by_wilson = bool(self.resamples) and metric.about.get("interval") == "wilson"
        column = Column.spread(model, metric.name, estimate, rows, len(self._sets), by_wilson)
        self._numbers += column.numbers(self.dataset, self._slices, self._bootstrap.cells, self._sets, rows)
        if self.resamples:
            key = self._remember(column.scored)
            self._scored[metric.name, model] = key
            if column.scored.any() and not by_wilson:
                self._waiting.append(column)
            if column.is_share:
                self._bits[metric.name, model] = np.packbits(column.num)

    def _remember(self, mask: npt.NDArray[np.bool_]) -> bytes:
        key = hashlib.blake2b(np.packbits(mask).tobytes(), digest_size=16).digest()
        self._masks.setdefault(key, mask)
        return key

    def _pooled(
        self, model: str, metric: Entry, estimate: Pooled, rows: npt.NDArray[np.int64]
    ) -> Iterable[Number]:
        for name, mask in zip(self._slices.names, self._slices.masks, strict=True):
            inside = mask[rows]
            n = int(np.count_nonzero(estimate.scored & inside))
            value = estimate.value(inside) if n else float("nan")
            lo, hi = None, None
            if name == ALL and self.map_resamples:
                counts = draw_counts(len(rows), self.map_resamples, np.random.default_rng(self.seed))
                lo, hi = centred_interval(np.array([estimate.value(c) for c in counts]), value)
            skipped = int(np.count_nonzero(inside)) - n
            yield Number(self.dataset, model, metric.name, name, value, lo, hi, n, skipped)

    @cached_property
    def _bootstrap(self) -> Bootstrap:
        return Bootstrap(self._slices.masks, self.resamples, self.seed)

    def _resample(self) -> None:
        """Draw the intervals of the waiting columns and keep the samples that pairs and comparisons need."""
        plain = [c for c in self._waiting if c.stratum is None]
        if plain:
            self._keep(plain, self._bootstrap.ratios(*stack(plain)))
        few = [c for c in self._waiting if c.has_few_strata]
        for group in grouped(few, by_den=False):
            assert group[0].stratum is not None
            self._keep(group, self._bootstrap.means_over_few_strata(*stack(group), group[0].stratum))
        many = [c for c in self._waiting if c.stratum is not None and not c.has_few_strata]
        for group in grouped(many, by_den=True):
            num = np.stack([c.num for c in group], axis=1, dtype=np.float32)
            assert group[0].stratum is not None
            den = group[0].den.astype(np.float32)
            self._keep(group, self._bootstrap.means_over_strata(num, den, group[0].stratum))
        self._waiting = []

    def _keep(self, columns: Sequence[Column], samples: npt.NDArray[np.float32]) -> None:
        by_column = np.ascontiguousarray(samples.transpose(0, 2, 1))
        lo, hi = percentile_interval(by_column)
        intervals = {}
        for c, column in enumerate(columns):
            for s, name in enumerate(self._slices.names):
                if name == ALL or (s >= self._slices.standing and column.metric in self._compared):
                    self._samples[column.metric, column.model, name] = by_column[s, c].copy()
                intervals[column.model, column.metric, name] = (float(lo[s, c]), float(hi[s, c]))
        for i, number in enumerate(self._numbers):
            found = intervals.get((number.model, number.metric, number.slice))
            if found and number.n and not np.isnan(found).any():
                self._numbers[i] = replace(number, lo=found[0], hi=found[1])

    def _pairs(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        values = {(n.metric, n.model): n.value for n in self._numbers if n.slice == ALL}
        for metric in dict.fromkeys(metric for metric, *_ in self._samples):
            models = [m for m in self._models if (metric, m, ALL) in self._samples]
            # Where all models count other images, such as their own errors, no two can be compared.
            if len({self._scored[metric, m] for m in models}) == len(models):
                continue
            table = compare_pairs(
                np.array([values[metric, m] for m in models]),
                np.stack([self._samples[metric, m, ALL] for m in models]),
                group=np.unique([self._scored[metric, m] for m in models], return_inverse=True)[1],
                errors=self._errors(metric, models),
            )
            rows.append(pair_rows(self.dataset, metric, ALL, models, table, self._n_shared(metric, models)))
        return rows

    def _errors(self, metric: str, models: Sequence[str]) -> npt.NDArray[np.float64] | None:
        """Return the standard errors of differences, of a share of the same images; None of other metrics."""
        keys = {self._scored[metric, m] for m in models}
        if len(keys) > 1 or not all((metric, m) in self._bits for m in models):
            return None
        n = int(np.count_nonzero(self._masks[keys.pop()]))
        return paired_errors(np.stack([self._bits[metric, m] for m in models]), n)

    def _n_shared(self, metric: str, models: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return how many images count for both models of each pair, shape (M, M)."""
        keys = [self._scored[metric, m] for m in models]
        distinct = list(dict.fromkeys(keys))
        masks = np.stack([self._masks[k] for k in distinct]).astype(np.float64)
        shared = (masks @ masks.T).astype(np.int64)
        at = np.array([distinct.index(k) for k in keys])
        result: npt.NDArray[np.int64] = shared[np.ix_(at, at)]
        return result


def check_order(case: Case, predictions: Predictions, alignment: Alignment) -> None:
    """Refuse predictions whose rows or classes look to be in another order than claimed.

    Raises
    ------
    OrderError
    """
    orders = {name: order(case.labels.n_classes) for name, order in CLASS_ORDERS.items()}
    # Rows as they lie in the predictions' file: a wrong row order is an order of that file.
    rows = slice(None) if ascends(alignment.right) else np.argsort(alignment.right, kind="stable")
    found = explain_order(
        case.top[rows],
        _any_label(case.labels)[rows],
        n_classes=case.labels.n_classes,
        by_name=lambda: _by_name(predictions.image_id, np.sort(alignment.right)),
        class_orders={name: order for name, order in orders.items() if order is not None},
    )
    if found:
        raise OrderError(
            f"The predictions of {predictions.model} do not fit the labels as they lie; "
            f"it looks like {found}.",
            where=predictions.source or None,
            got=f"top-1 accuracy {_share_right(case):.4f}",
            do="give the row order or class order that the file is in; if this is it, --trust-order",
        )


def _metrics(specs: Sequence[str]) -> list[Entry]:
    if not specs:
        raise InputError("No metric was asked for.", do="leave metrics out for the usual ones")
    listed = [specs] if isinstance(specs, str) else specs
    entries = list({spec.strip(): get("metric", spec) for spec in listed}.values())
    for entry in entries:
        needed = missing_options(entry)
        if needed:
            example = (
                f"{entry.name.removesuffix('k')}5" if needed == ["k"] else f"{entry.name}({needed[0]}=0.5)"
            )
            raise InputError(
                f"The metric {entry.name!r} needs its option {needed[0]!r}.",
                got=entry.name,
                do=f"such as {example}",
            )
    return entries


def depth_of(metrics: Sequence[Entry]) -> int:
    """Return how many best classes the metrics look at, beside the size of the label sets."""
    return max([5, *(int(getattr(m.function, "keywords", {}).get("k", 0)) for m in metrics)])


def _any_label(sets: LabelSets) -> npt.NDArray[np.int32]:
    """Return a right class of each image, the original label where known; negative where there is none."""
    return np.where(sets.label == NO_LABEL, sets.first, sets.label)


def _by_name(ids: pa.Array, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    order: npt.NDArray[np.intp] = pc.sort_indices(pc.take(ids, pa.array(rows))).to_numpy().astype(np.intp)
    return order


def _share_right(case: Case) -> float:
    return float(np.mean(case.top[:, 0] == _any_label(case.labels)))


def _check_counts(resamples: int, map_resamples: int, seed: int) -> None:
    check_draws(resamples, seed)
    if not 0 <= map_resamples <= MAX_MAP_RESAMPLES:
        raise InputError(
            "The number of resamples for mAP is out of range.",
            got=map_resamples,
            allowed=f"0 (no interval) to {MAX_MAP_RESAMPLES}",
        )


FEW_STRATA = 8
"""Strata up to which each is resampled on its own: set sizes, not classes."""


@dataclass(frozen=True)
class Column:
    """One metric of one model, per image of the labels table.

    A share of a model's own images, such as its errors, has its interval `by_wilson`: no other model counts
    the same images, so that nothing is gained from resamples that all share.
    """

    model: str
    metric: str
    num: npt.NDArray[Any]
    den: npt.NDArray[Any]
    scored: npt.NDArray[np.bool_]
    stratum: npt.NDArray[np.integer] | None
    by_wilson: bool = False

    @classmethod
    def spread(
        cls,
        model: str,
        metric: str,
        e: Ratio,
        rows: npt.NDArray[np.int64],
        n: int,
        by_wilson: bool = False,
    ) -> Column:
        """Put an estimate over the aligned images at their rows of the labels table."""
        if len(rows) == n:
            return cls(model, metric, e.num, e.den, e.scored, e.stratum, by_wilson)
        arrays = [e.num, e.den, e.scored] + ([] if e.stratum is None else [e.stratum])
        full: list[npt.NDArray[Any]] = [np.zeros(n, a.dtype) for a in arrays]
        for target, array in zip(full, arrays, strict=True):
            target[rows] = array
        stratum = full[3] if len(full) == 4 else None
        return cls(model, metric, full[0], full[1], full[2], stratum, by_wilson)

    def numbers(
        self, dataset: str, slices: Slices, cells: Cells, sets: LabelSets, rows: npt.NDArray[np.int64]
    ) -> Iterable[Number]:
        """Yield the metric's value in every slice; `rows` are the aligned images."""
        values = cells.value(Ratio(self.num, self.den, self.scored, self.stratum))
        n = cells.count(self.scored)
        ends = iter(_wilson_ends(values, n) if self.by_wilson else [(None, None)] * len(n))
        aligned = cells.count(np.bincount(rows, minlength=len(sets)) > 0)
        for name, value, counted, of in zip(slices.names, values, n, aligned, strict=True):
            low, high = next(ends)
            counts = (int(counted), int(of - counted))
            yield Number(dataset, self.model, self.metric, name, float(value), low, high, *counts)
        if slices.classes:
            yield from self._class_numbers(dataset, slices, sets, rows)

    @property
    def is_share(self) -> bool:
        """Whether it is a plain share of the images scored."""
        return self.num.dtype == bool and self.den.dtype == bool and self.stratum is None

    @property
    def has_few_strata(self) -> bool:
        """Whether each stratum can be resampled on its own."""
        return self.stratum is not None and int(self.stratum.max(initial=0)) < FEW_STRATA

    def stratum_is_class(self, label: npt.NDArray[np.integer]) -> bool:
        """Whether the metric within a class is a plain proportion: it has no strata but the classes."""
        return self.stratum is None or bool((self.stratum == label)[self.scored].all())

    def _class_numbers(
        self, dataset: str, slices: Slices, sets: LabelSets, rows: npt.NDArray[np.int64]
    ) -> Iterable[Number]:
        label = np.where(sets.label == NO_LABEL, sets.n_classes, sets.label)
        c = sets.n_classes + 1
        value = _means_by_class(Ratio(self.num, self.den, self.scored, self.stratum), label, c)
        n = np.bincount(label, self.scored, c)
        skipped = np.bincount(label[rows], minlength=c) - n
        lo = hi = np.full(c, np.nan)
        if self.num.dtype == bool and self.stratum_is_class(label):
            lo, hi = wilson_interval(np.bincount(label, self.num, c), np.bincount(label, self.den, c))
        for i, name in zip(slices.classes, slices.class_names, strict=True):
            low, high = (float(e) if np.isfinite(e) else None for e in (lo[i], hi[i]))
            counts = (int(n[i]), int(skipped[i]))
            yield Number(dataset, self.model, self.metric, name, float(value[i]), low, high, *counts)


def _wilson_ends(
    values: npt.NDArray[np.float64], n: npt.NDArray[np.int64]
) -> list[tuple[float | None, float | None]]:
    lo, hi = wilson_interval(values * n, n)
    known = n > 0
    return [(float(a), float(b)) if k else (None, None) for a, b, k in zip(lo, hi, known, strict=True)]


def _means_by_class(ratio: Ratio, label: npt.NDArray[np.integer], c: int) -> npt.NDArray[np.float64]:
    """Return the metric's value within each class of the original label, shape (c,); NaN where undefined."""
    stratum = (
        np.zeros(len(label), np.intp) if ratio.stratum is None else np.where(ratio.scored, ratio.stratum, 0)
    )
    g = int(stratum.max(initial=0)) + 1
    at = label * g + stratum
    num = np.bincount(at, ratio.num, c * g).reshape(c, g)
    den = np.bincount(at, ratio.den, c * g).reshape(c, g)
    filled = den > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        value: npt.NDArray[np.float64] = np.where(filled, num / den, 0).sum(1) / filled.sum(1)
    return value


def stack(
    columns: Sequence[Column],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """Return numerators, the distinct denominators, and which belongs to which."""
    keys: dict[bytes, int] = {}
    dens: list[npt.NDArray[Any]] = []
    den_of = np.empty(len(columns), np.intp)
    for i, column in enumerate(columns):
        key = _digest(column.den)
        if key not in keys:
            keys[key] = len(dens)
            dens.append(column.den)
        den_of[i] = keys[key]
    num = np.stack([c.num for c in columns], axis=1, dtype=np.float32, casting="unsafe")
    return num, np.stack(dens, axis=1, dtype=np.float32, casting="unsafe"), den_of


def grouped(columns: Iterable[Column], *, by_den: bool) -> list[list[Column]]:
    """Group columns that share strata, and denominators if so wanted, so that they share resamples."""
    groups: dict[tuple[bytes, bytes], list[Column]] = {}
    for column in columns:
        assert column.stratum is not None
        den = _digest(column.den) if by_den else b""
        groups.setdefault((den, _digest(column.stratum)), []).append(column)
    return list(groups.values())


def _digest(array: npt.NDArray[Any]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).digest()
