"""A metric of a model as one value per image: the basis of slices, intervals and pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import typing as npt

from manyhot.core.clusters import Clusters, pooled_changes
from manyhot.core.estimates import Pooled, Ratio
from manyhot.core.jackknife import UNVARYING, Scale, jackknife_interval, resampled_interval
from manyhot.core.ratio_intervals import (
    changes_without,
    changes_without_clusters,
    cluster_intervals,
    have_cluster_percentiles,
    have_percentiles,
    intervals_in_cells,
    is_share,
)
from manyhot.core.resampled_statistics import (
    FixedPoint,
    MeansOf,
    MeansOverStrata,
    Ratios,
    Statistic,
    ValueColumns,
    compact,
)
from manyhot.core.resampling import Bootstrap, draw_counts, percentile_interval
from manyhot.core.sets import NO_LABEL, LabelSets
from manyhot.core.share_intervals import proportion_interval
from manyhot.evaluate.options import EvaluateOptions
from manyhot.evaluate.result_rows import Number
from manyhot.evaluate.sampled_pairs import Key, SampledPairs
from manyhot.evaluate.slices import ALL, Slices
from manyhot.tables.result_tables import accuracies

_BATCH, _BATCH_BYTES = 80, 100_000_000
"""Fewest models resampled together, and fewest bytes of their values and resampled values."""


def models_at_once() -> int:
    """Return the minimum number of models that are resampled together."""
    return _BATCH


FEW_STRATA = 8
"""Number of strata up to which each is resampled on its own: enough for set sizes, but not for classes."""


@dataclass(frozen=True)
class ImageValues:
    """The values of one metric of one model, for each image of the labels table.

    If a metric is a share of images and these images differ between models (such as the errors of each
    model), its interval is computed `by_wilson`, because sharing resamples with other models would gain
    nothing. `scale` is the scale of all other intervals that use no resamples.
    """

    model: str
    metric: str
    ratio: Ratio
    by_wilson: bool = False
    scale: Scale = "logit"

    @classmethod
    def spread(
        cls,
        model: str,
        metric: str,
        e: Ratio,
        rows: npt.NDArray[np.int64],
        n: int,
        by_wilson: bool = False,
        scale: Scale = "logit",
    ) -> ImageValues:
        """Spread an estimate on the aligned images over the rows of the labels table."""
        if len(rows) < n:
            arrays = [e.num, e.den, e.scored] + ([] if e.stratum is None else [e.stratum])
            full: list[npt.NDArray[Any]] = [np.zeros(n, a.dtype) for a in arrays]
            for target, array in zip(full, arrays, strict=True):
                target[rows] = array
            e = Ratio(*full)
        return cls(model, metric, e, by_wilson, scale)

    def in_slices(
        self, dataset: str, slices: Slices, bootstrap: Bootstrap, sets: LabelSets, rows: npt.NDArray[np.int64]
    ) -> Iterable[Number]:
        """Yield the metric's value in every slice; `rows` are the aligned images."""
        cells, clusters = bootstrap.cells, bootstrap.clusters
        values = cells.value(self.ratio)
        n = cells.count(self.ratio.scored)
        ends: list[tuple[float | None, float | None]] = [(None, None)] * len(n)
        if self.by_wilson and clusters is None:
            ends = _known_ends(*proportion_interval(values * n, n), n)
        elif self.by_wilson and clusters is not None:
            ends = _known_ends(*cluster_intervals(self.ratio, slices.masks, clusters, n > 0), n)
        is_whole = len(rows) == len(sets)
        aligned = cells.sizes if is_whole else cells.count(np.bincount(rows, minlength=len(sets)) > 0)
        columns = (slices.names, values.tolist(), ends, n.tolist(), (aligned - n).tolist())
        for name, value, (low, high), counted, skipped in zip(*columns, strict=True):
            yield Number(dataset, self.model, self.metric, name, value, low, high, counted, skipped)
        if slices.classes:
            yield from self._class_numbers(dataset, slices, sets, rows)

    def _class_numbers(
        self, dataset: str, slices: Slices, sets: LabelSets, rows: npt.NDArray[np.int64]
    ) -> Iterable[Number]:
        label = np.where(sets.label == NO_LABEL, sets.n_classes, sets.label)
        c = sets.n_classes + 1
        value = _means_by_class(self.ratio, label, c)
        n = np.bincount(label, self.ratio.scored, c)
        skipped = np.bincount(label[rows], minlength=c) - n
        lo = hi = np.full(c, np.nan)
        num, den, stratum = self.ratio.num, self.ratio.den, self.ratio.stratum
        is_by_class = stratum is None or bool((stratum == label)[self.ratio.scored].all())
        if num.dtype == bool and is_by_class:  # a plain proportion within each class
            lo, hi = proportion_interval(np.bincount(label, num, c), np.bincount(label, den, c))
        for i, name in zip(slices.classes, slices.class_names, strict=True):
            low, high = (float(e) if np.isfinite(e) else None for e in (lo[i], hi[i]))
            counts = (int(n[i]), int(skipped[i]))
            yield Number(dataset, self.model, self.metric, name, float(value[i]), low, high, *counts)


@dataclass(frozen=True)
class PooledValue:
    """The value, on some images, of a metric that is not a ratio of sums over images.

    Attributes
    ----------
    lo, hi : float, optional
        The ends of its interval, if it has one.
    n : int
        Number of images that count.
    changes : ndarray of float64
        For each image that is counted, or each cluster with such images, the change in `compared` if it is
        left out; NaN if this gives no interval, and empty if there are no changes.
    compared : float
        The value that is compared between models.
    interval : str
        How the interval is computed; empty if there is none.
    doubts : tuple of str
        The reasons why there is no interval.
    """

    value: float
    lo: float | None
    hi: float | None
    n: int
    changes: npt.NDArray[np.float64]
    compared: float
    interval: str
    doubts: tuple[str, ...]

    @classmethod
    def of(
        cls,
        estimate: Pooled,
        inside: npt.NDArray[np.bool_],
        options: EvaluateOptions,
        scale: Scale,
        *,
        may_draw: bool,
        clusters: Clusters | None = None,
    ) -> PooledValue:
        """Return the value on the images `inside`; without `may_draw`, its interval uses no resamples."""
        n = int(np.count_nonzero(estimate.scored & inside))
        value, r = estimate.value(inside) if n else float("nan"), options.map_resamples if may_draw else 0
        changes, reason = _left_out(estimate, inside, value, clusters, options)
        ends = jackknife_interval(value, changes, scale=scale)
        doubts = [reason or UNVARYING] if len(changes) and np.isnan(ends[0]) else []
        interval = "" if np.isnan(ends[0]) else "jackknife"
        if r and estimate.biased:
            doubts.append(estimate.biased)
            interval = ""
        elif r:
            counts, units = _drawn(estimate.scored & inside, clusters, r, options.seed)
            drawn = np.array([estimate.value(c) for c in counts])
            ends, interval = resampled_interval(value, drawn, n=units, scale=scale), "resampled"
            doubts += [UNVARYING] if n and np.isnan(ends[0]) and not len(changes) else []
        lo, hi = (None, None) if np.isnan(ends[0]) else ends
        other, compared = estimate.compared, value
        if other is not None:
            compared = other.value(inside) if n else value
            changes, _ = _left_out(other, inside, compared, clusters, options)
        return cls(value, lo, hi, n, changes, compared, interval, tuple(doubts))


def _drawn(
    inside: npt.NDArray[np.bool_], clusters: Clusters | None, resamples: int, seed: int
) -> tuple[npt.NDArray[np.uint8], int]:
    """Return how often each image is drawn, shape (R, n), and how many images or clusters are inside."""
    rng = np.random.default_rng(seed)
    if clusters is None:
        return draw_counts(len(inside), resamples, rng), int(np.count_nonzero(inside))
    return draw_counts(clusters.n, resamples, rng)[:, clusters.number], clusters.count(inside)


def _left_out(
    estimate: Pooled,
    inside: npt.NDArray[np.bool_],
    value: float,
    clusters: Clusters | None,
    options: EvaluateOptions,
) -> tuple[npt.NDArray[np.float64], str]:
    """Return the change without each scored image or cluster; without interval, NaN and why, or empty."""
    if estimate.left_out is None or np.isnan(value) or not options.resamples:
        return np.empty(0), ""
    scored, reason = estimate.scored & inside, estimate.doubt(inside)
    if reason:
        return np.full(scored.sum() if clusters is None else clusters.count(scored), np.nan), reason
    changes = estimate.left_out(inside)[scored]
    if clusters is not None:
        changes = pooled_changes(estimate, inside, value, changes, clusters)
    return changes, ""


def has_few_strata(stratum: npt.NDArray[np.integer]) -> bool:
    """Return whether there are so few strata that each can be resampled separately."""
    return int(stratum.max(initial=0)) < FEW_STRATA


def _known_ends(
    lo: npt.NDArray[np.float64], hi: npt.NDArray[np.float64], n: npt.NDArray[np.int64]
) -> list[tuple[float | None, float | None]]:
    known = (n > 0) & ~np.isnan(lo)
    return [(float(a), float(b)) if k else (None, None) for a, b, k in zip(lo, hi, known, strict=True)]


def _means_by_class(ratio: Ratio, label: npt.NDArray[np.integer], c: int) -> npt.NDArray[np.float64]:
    """Return the metric's value within each class of the original label, shape (c,); NaN where undefined."""
    g = int(ratio.strata.max(initial=0)) + 1
    at = label * g + ratio.strata
    num = np.bincount(at, ratio.num, c * g).reshape(c, g)
    den = np.bincount(at, ratio.den, c * g).reshape(c, g)
    filled = den > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        value: npt.NDArray[np.float64] = np.where(filled, num / den, 0).sum(1) / filled.sum(1)
    return value


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A metric of a model that waits to be resampled together with others.

    `percentiles` says in which slices its interval is by resamples; `ends`, shape (2, S), are the others.
    """

    model: str
    metric: str
    num: npt.NDArray[Any] | FixedPoint
    den: npt.NDArray[Any]
    stratum: npt.NDArray[np.integer] | None
    ends: npt.NDArray[np.float64]
    percentiles: npt.NDArray[np.bool_]


class _Shared:
    """Arrays that metrics and models have in common, such as the images that count: each is kept once."""

    def __init__(self) -> None:
        self._recent: list[npt.NDArray[Any]] = []

    def __call__(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        for same in self._recent:
            if same is array or (same.dtype == array.dtype and np.array_equal(same, array)):
                array = same
                break
        # The last one used comes first, so that those of single models drop out.
        self._recent = [array, *(a for a in self._recent if a is not array)][:16]
        return array


def by_stratum(waiting: Iterable[_Waiting], *, by_den: bool = False) -> list[list[_Waiting]]:
    """Group metrics with the same strata and, if `by_den`, the same denominators."""
    groups: dict[tuple[int, int], list[_Waiting]] = {}
    for one in waiting:
        groups.setdefault((id(one.den) if by_den else 0, id(one.stratum)), []).append(one)
    return list(groups.values())


class Sampler:
    """A joint bootstrap of the metrics of many models.

    Parameters
    ----------
    pairs : SampledPairs
        Collects the values for comparing pairs of models.
    """

    def __init__(self, slices: Slices, bootstrap: Bootstrap, pairs: SampledPairs) -> None:
        self._slices, self._bootstrap, self._pairs = slices, bootstrap, pairs
        self._compared = frozenset(accuracies())
        self._waiting: list[_Waiting] = []
        self._models, self._bytes = set[str](), 0
        self._shared, self._strata = _Shared(), _Shared()
        self._last: tuple[npt.NDArray[Any], npt.NDArray[Any] | FixedPoint] = (np.empty(0), np.empty(0))

    @property
    def is_full(self) -> bool:
        """Whether the waiting metrics should be resampled now, because more would take too much memory."""
        return len(self._models) >= _BATCH and self._bytes >= _BATCH_BYTES

    def add(self, column: ImageValues) -> str:
        """Add a metric of a model, to be resampled together with other metrics.

        Returns
        -------
        str
            How the interval on all images is computed: a key of `INTERVALS` without the prefix ``cluster_``.
        """
        if column.by_wilson:
            return "wilson"
        model, metric, ratio = column.model, column.metric, column.ratio
        self._pairs.counted.add(model, metric, ratio.scored)
        clusters = self._bootstrap.clusters
        if clusters is None:
            percentiles = have_percentiles(ratio, self._bootstrap.cells, column.scale)
        else:
            percentiles = have_cluster_percentiles(ratio, self._slices.masks, clusters, column.scale)
        if ratio.scored.any():
            self._wait(self._to_resample(column, percentiles))
        if clusters is not None:
            return self._add_clustered(column, percentiles, clusters)
        if is_share(ratio):
            self._pairs.add_right(model, metric, ratio.num.astype(bool, copy=False))
        if percentiles[0]:
            return "bootstrap"
        if is_share(ratio):
            return "score"
        if ratio.scored.any() and self._pairs.is_collecting:
            self._pairs.add_changes(model, metric, changes_without(ratio))
        return "jackknife"

    def _add_clustered(
        self, column: ImageValues, percentiles: npt.NDArray[np.bool_], clusters: Clusters
    ) -> str:
        """Add what leaving out each cluster changes: pairs of models are compared by it alone.

        McNemar's errors of shares assume independent images.
        """
        ratio = column.ratio
        if ratio.scored.any() and self._pairs.is_collecting:
            changes = changes_without_clusters(ratio, clusters)
            self._pairs.add_changes(column.model, column.metric, changes)
        if percentiles[0]:
            return "bootstrap"
        return "score" if is_share(ratio) else "jackknife"

    def _wait(self, column: _Waiting) -> None:
        self._waiting.append(column)
        self._models.add(column.model)
        resampled = len(self._slices.names) * self._bootstrap.resamples * np.float32().nbytes
        self._bytes += column.num.nbytes + resampled

    def _to_resample(self, column: ImageValues, percentiles: npt.NDArray[np.bool_]) -> _Waiting:
        ratio, masks, cells = column.ratio, self._slices.masks, self._bootstrap.cells
        if (clusters := self._bootstrap.clusters) is None:
            ends = intervals_in_cells(ratio, masks, cells, ~percentiles, scale=column.scale)
        else:
            ends = cluster_intervals(ratio, masks, clusters, ~percentiles, scale=column.scale)
        return _Waiting(
            column.model,
            column.metric,
            self._compacted(ratio.num),
            self._shared(ratio.den),
            None if ratio.stratum is None else self._strata(ratio.stratum),
            np.array(ends),
            percentiles,
        )

    def _compacted(self, values: npt.NDArray[Any]) -> npt.NDArray[Any] | FixedPoint:
        """Return compact values; metrics in succession, such as ASMA, may share them."""
        if values is not self._last[0]:
            self._last = (values, compact(values))
        return self._last[1]

    def add_changes(
        self, model: str, metric: str, changes: npt.NDArray[np.float64], rows: npt.NDArray[np.int64]
    ) -> None:
        """Add a metric of a model that is compared by the jackknife.

        Parameters
        ----------
        changes : ndarray of float64, shape (m,)
            For each scored image, the change in the value if the image is left out; NaN if the metric has no
            interval. With clusters, there is one change per cluster, in the order of cluster numbers.
        rows : ndarray of int64, shape (m,)
            The rows of these images in the labels table.
        """
        scored = np.bincount(rows, minlength=self._slices.masks.shape[1]) > 0
        self._pairs.counted.add(model, metric, scored)
        if self._bootstrap.clusters is None:
            # In the order of the labels, which is the same for all models.
            changes = changes[np.argsort(rows, kind="stable")]
        self._pairs.add_changes(model, metric, changes)

    def intervals(self) -> dict[Key, tuple[float, float]]:
        """Resample the metrics added since the last call, and return intervals by model, metric and slice."""
        if not self._waiting:  # resamples of many images would be drawn for nothing
            return {}
        statistics, drawn = list[Statistic](), list[tuple[list[_Waiting], npt.NDArray[np.float32]]]()
        if few := by_stratum(w for w in self._waiting if w.stratum is None or has_few_strata(w.stratum)):
            ratios = self._ratios(few)
            statistics.append(ratios)
            drawn += zip(few, (means.samples for means in ratios.means), strict=True)
        many = (w for w in self._waiting if w.stratum is not None and not has_few_strata(w.stratum))
        for group in by_stratum(many, by_den=True):
            means = self._over_strata(group)
            statistics.append(means)
            drawn.append((group, means.samples))
        self._bootstrap.resample(*statistics)
        self._waiting, self._models, self._bytes = [], set(), 0
        intervals: dict[Key, tuple[float, float]] = {}
        for columns, samples in drawn:
            intervals |= self._ends(columns, samples)
        return intervals

    def _ratios(self, groups: Sequence[list[_Waiting]]) -> Ratios:
        """Return what resamples groups without strata, or with few; values that they share stand once."""
        nums = {id(w.num): w.num for group in groups for w in group}
        dens = {id(w.den): w.den for group in groups for w in group}
        num_at, den_at = ({key: place for place, key in enumerate(values)} for values in (nums, dens))
        means_of = [
            MeansOf(
                np.array([num_at[id(w.num)] for w in group]),
                np.array([den_at[id(w.den)] for w in group]),
                group[0].stratum,
                None if group[0].stratum is None else self._resampled(group),
            )
            for group in groups
        ]
        num, den = ValueColumns([*nums.values()]), ValueColumns([compact(values) for values in dens.values()])
        return Ratios.of(self._bootstrap.cells, self._bootstrap.resamples, num, den, means_of)

    def _over_strata(self, group: Sequence[_Waiting]) -> MeansOverStrata:
        """Return what resamples metrics with the same strata, of which there are many."""
        num, (first, *_) = ValueColumns([w.num for w in group]), group
        assert first.stratum is not None
        masks, r = self._slices.masks, self._bootstrap.resamples
        return MeansOverStrata.of(masks, r, num, first.den, first.stratum, self._resampled(group))

    def _resampled(self, columns: Sequence[_Waiting]) -> list[int]:
        """Return the slices of which comparisons need resamples; intervals of means over strata do not."""
        return [s for s in range(len(self._slices.names)) if any(self._keeps(s, c.metric) for c in columns)]

    def _ends(
        self, columns: Sequence[_Waiting], samples: npt.NDArray[np.float32]
    ) -> dict[Key, tuple[float, float]]:
        """Return the intervals of resampled columns, and keep the samples that comparisons need."""
        lo, hi = np.stack([c.ends for c in columns], axis=-1)
        by_resamples = np.stack([c.percentiles for c in columns], axis=-1)
        if by_resamples.any():
            by_column = samples.transpose(0, 2, 1)[by_resamples]
            lo[by_resamples], hi[by_resamples] = percentile_interval(by_column)
        intervals = {}
        for c, column in enumerate(columns):
            for s, name in enumerate(self._slices.names):
                key = (column.model, column.metric, name)
                intervals[key] = (float(lo[s, c]), float(hi[s, c]))
                if self._keeps(s, column.metric):
                    self._pairs.add_samples(key, samples[s, :, c].copy())
        return intervals

    def _keeps(self, s: int, metric: str) -> bool:
        """Return whether comparisons need the resampled values of a metric on slice s."""
        standing = s >= self._slices.standing and metric in self._compared
        return standing or self._slices.names[s] == ALL
