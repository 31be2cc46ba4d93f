"""A metric of a model as one value per image: the basis of slices, intervals and pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.core.cells import Cells
from manyhot.core.comparison import PairTable, compare_pairs, jackknife_errors, only_right, paired_errors
from manyhot.core.distinct_values import Coded, compact
from manyhot.core.estimates import Ratio
from manyhot.core.jackknife import Scale
from manyhot.core.ratio_intervals import (
    changes_without,
    have_percentiles,
    intervals_in_cells,
    with_few_apart,
    with_none_apart,
)
from manyhot.core.resampled_statistics import MeansOverFewStrata, MeansOverStrata, Ratios, ValueColumns
from manyhot.core.resampling import Bootstrap, percentile_interval
from manyhot.core.sets import NO_LABEL, LabelSets
from manyhot.core.share_intervals import proportion_interval
from manyhot.evaluate.results import Number, pair_rows
from manyhot.evaluate.slices import ALL, Slices
from manyhot.tables.result_tables import accuracies, describe_metric

_BATCH, _BATCH_BYTES = 64, 100_000_000
"""Fewest models resampled together, and fewest bytes of their values and resampled values."""

FEW_STRATA = 8
"""Strata up to which each is resampled on its own: set sizes, not classes."""


@dataclass(frozen=True)
class ImageValues:
    """The values of one metric of one model, for each image of the labels table.

    If a metric is a share of images that differ between models, such as each model's errors, its interval is
    computed `by_wilson`, because sharing resamples with other models would gain nothing. `scale` is the scale
    of all other intervals that use no resamples.
    """

    model: str
    metric: str
    num: npt.NDArray[Any]
    den: npt.NDArray[Any]
    scored: npt.NDArray[np.bool_]
    stratum: npt.NDArray[np.integer] | None
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
        if len(rows) == n:
            return cls(model, metric, e.num, e.den, e.scored, e.stratum, by_wilson, scale)
        arrays = [e.num, e.den, e.scored] + ([] if e.stratum is None else [e.stratum])
        full: list[npt.NDArray[Any]] = [np.zeros(n, a.dtype) for a in arrays]
        for target, array in zip(full, arrays, strict=True):
            target[rows] = array
        stratum = full[3] if len(full) == 4 else None
        return cls(model, metric, full[0], full[1], full[2], stratum, by_wilson, scale)

    def in_slices(
        self, dataset: str, slices: Slices, cells: Cells, sets: LabelSets, rows: npt.NDArray[np.int64]
    ) -> Iterable[Number]:
        """Yield the metric's value in every slice; `rows` are the aligned images."""
        values = cells.value(self.ratio)
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
    def ratio(self) -> Ratio:
        """The values as an estimate."""
        return Ratio(self.num, self.den, self.scored, self.stratum)

    @property
    def is_share(self) -> bool:
        """Whether the metric is a plain share of the scored images."""
        return self.num.dtype == bool and self.den.dtype == bool and self.stratum is None

    def stratum_is_class(self, label: npt.NDArray[np.integer]) -> bool:
        """Whether the metric is a plain proportion within each class, because its only strata are classes."""
        return self.stratum is None or bool((self.stratum == label)[self.scored].all())

    def _class_numbers(
        self, dataset: str, slices: Slices, sets: LabelSets, rows: npt.NDArray[np.int64]
    ) -> Iterable[Number]:
        label = np.where(sets.label == NO_LABEL, sets.n_classes, sets.label)
        c = sets.n_classes + 1
        value = _means_by_class(self.ratio, label, c)
        n = np.bincount(label, self.scored, c)
        skipped = np.bincount(label[rows], minlength=c) - n
        lo = hi = np.full(c, np.nan)
        if self.num.dtype == bool and self.stratum_is_class(label):
            lo, hi = proportion_interval(np.bincount(label, self.num, c), np.bincount(label, self.den, c))
        for i, name in zip(slices.classes, slices.class_names, strict=True):
            low, high = (float(e) if np.isfinite(e) else None for e in (lo[i], hi[i]))
            counts = (int(n[i]), int(skipped[i]))
            yield Number(dataset, self.model, self.metric, name, float(value[i]), low, high, *counts)


def has_few_strata(stratum: npt.NDArray[np.integer]) -> bool:
    """Return whether strata are so few that each can be resampled separately."""
    return int(stratum.max(initial=0)) < FEW_STRATA


def _wilson_ends(
    values: npt.NDArray[np.float64], n: npt.NDArray[np.int64]
) -> list[tuple[float | None, float | None]]:
    lo, hi = proportion_interval(values * n, n)
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


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A metric of a model that waits to be resampled together with others.

    `percentiles` says in which slices its interval is by resamples; `ends`, shape (2, S), are the others.
    """

    model: str
    metric: str
    num: npt.NDArray[Any] | Coded
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


def stack(waiting: Sequence[_Waiting]) -> tuple[ValueColumns, ValueColumns, npt.NDArray[np.intp]]:
    """Return numerators, distinct denominators, and the denominator of each numerator."""
    dens = {id(w.den): w.den for w in waiting}
    places = {key: place for place, key in enumerate(dens)}
    den_of = np.array([places[id(w.den)] for w in waiting], np.intp)
    return (
        ValueColumns([w.num for w in waiting]),
        ValueColumns([compact(den) for den in dens.values()]),
        den_of,
    )


def grouped(waiting: Iterable[_Waiting], *, by_den: bool) -> list[list[_Waiting]]:
    """Group metrics that share resamples: same strata and, if `by_den`, same denominators."""
    groups: dict[tuple[int, int], list[_Waiting]] = {}
    for one in waiting:
        groups.setdefault((id(one.den) if by_den else 0, id(one.stratum)), []).append(one)
    return list(groups.values())


Key = tuple[str, str, str]
"""Model, metric and slice."""


class CountedImages:
    """The images that count for each metric of each model; many of these sets are equal."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], bytes] = {}
        self._masks: dict[bytes, npt.NDArray[np.bool_]] = {}

    def add(self, model: str, metric: str, scored: npt.NDArray[np.bool_]) -> None:
        """Add the images that count, shape (n,)."""
        key = hashlib.blake2b(np.packbits(scored).tobytes(), digest_size=16).digest()
        self._masks.setdefault(key, scored)
        self._keys[metric, model] = key

    def groups(self, metric: str, models: Sequence[str]) -> npt.NDArray[np.intp]:
        """Return group numbers of models, shape (M,). Models that count the same images share a number."""
        groups: npt.NDArray[np.intp] = np.unique(
            [self._keys[metric, m] for m in models], return_inverse=True
        )[1]
        return groups

    def n_counted(self, metric: str, model: str) -> int:
        """Return how many images count."""
        return int(np.count_nonzero(self._masks[self._keys[metric, model]]))

    def n_shared(
        self, metric: str, models: Sequence[str], weights: npt.NDArray[np.float64] | None = None
    ) -> npt.NDArray[np.int64]:
        """Return the number of images that count for both models of each pair, shape (M, M).

        With weights of the images, shape (n,), return the rounded sum of the weights of these images instead.
        """
        keys = [self._keys[metric, m] for m in models]
        distinct = list(dict.fromkeys(keys))
        masks = np.stack([self._masks[k] for k in distinct]).astype(np.float64)
        shared = np.rint((masks if weights is None else masks * weights) @ masks.T).astype(np.int64)
        at = np.array([distinct.index(k) for k in keys])
        result: npt.NDArray[np.int64] = shared[np.ix_(at, at)]
        return result


def samples_table(dataset: str, samples: Mapping[Key, npt.NDArray[np.float32]], resamples: int) -> pa.Table:
    """Return the samples table of resampled values by model, metric and slice."""
    models, metrics, slices = zip(*samples, strict=True) if samples else ((), (), ())
    offsets = np.arange(len(samples) + 1, dtype=np.int32) * resamples
    flat = np.concatenate([np.empty(0, np.float32), *samples.values()])
    return pa.table(
        {
            "dataset": pa.repeat(pa.scalar(dataset, pa.string()), len(samples)),
            "model": pa.array(models, pa.string()),
            "metric": pa.array(metrics, pa.string()),
            "slice": pa.array(slices, pa.string()),
            "values": pa.ListArray.from_arrays(offsets, flat),
        }
    )


class Sampler:
    """A joint bootstrap of the metrics of many models, which keeps the values for comparing pairs of models.

    Parameters
    ----------
    slices : Slices
    bootstrap : Bootstrap
    """

    def __init__(self, slices: Slices, bootstrap: Bootstrap) -> None:
        self._slices, self._bootstrap = slices, bootstrap
        self._compared = frozenset(accuracies())
        self._waiting: list[_Waiting] = []
        self._models, self._bytes = set[str](), 0
        self._shared, self._strata = _Shared(), _Shared()
        self._samples: dict[Key, npt.NDArray[np.float32]] = {}
        self._bits: dict[tuple[str, str], npt.NDArray[np.uint8]] = {}
        self._changes: dict[tuple[str, str], npt.NDArray[np.float32]] = {}
        self._counted = CountedImages()

    @property
    def is_full(self) -> bool:
        """Whether the waiting metrics should be resampled now, because more would take much memory."""
        return len(self._models) >= _BATCH and self._bytes >= _BATCH_BYTES

    def add(self, column: ImageValues) -> str:
        """Add a metric of a model, to be resampled together with other metrics.

        Returns
        -------
        str
            How the interval on all images is computed, a key of `INTERVALS`.
        """
        at = (column.metric, column.model)
        self._counted.add(column.model, column.metric, column.scored)
        percentiles = have_percentiles(column.ratio, self._bootstrap.cells, column.scale)
        if column.scored.any() and not column.by_wilson:
            self._wait(self._to_resample(column, percentiles))
        if column.is_share:
            self._bits[at] = np.packbits(column.num)
        if column.by_wilson or percentiles[0]:
            return "wilson" if column.by_wilson else "bootstrap"
        if column.is_share:
            return "score"
        if column.scored.any():
            self._changes[at] = changes_without(column.ratio).astype(np.float32)
        return "jackknife"

    def _wait(self, column: _Waiting) -> None:
        self._waiting.append(column)
        self._models.add(column.model)
        resampled = len(self._slices.names) * self._bootstrap.resamples * np.float32().nbytes
        self._bytes += column.num.nbytes + resampled

    def _to_resample(self, column: ImageValues, percentiles: npt.NDArray[np.bool_]) -> _Waiting:
        ends = intervals_in_cells(
            column.ratio, self._slices.masks, self._bootstrap.cells, ~percentiles, scale=column.scale
        )
        return _Waiting(
            column.model,
            column.metric,
            compact(column.num),
            self._shared(column.den),
            None if column.stratum is None else self._strata(column.stratum),
            np.array(ends),
            percentiles,
        )

    def add_changes(
        self,
        model: str,
        metric: str,
        changes: npt.NDArray[np.float64],
        rows: npt.NDArray[np.int64],
    ) -> None:
        """Add a metric of a model that is compared by the jackknife.

        Parameters
        ----------
        model, metric : str
        changes : ndarray of float64, shape (m,)
            For each scored image, the change of the value if the image is left out; NaN if the metric has no
            interval.
        rows : ndarray of int64, shape (m,)
            The rows of these images in the labels table.
        """
        scored = np.bincount(rows, minlength=self._slices.masks.shape[1]) > 0
        self._counted.add(model, metric, scored)
        # In the order of the labels, which is the same for all models.
        self._changes[metric, model] = changes[np.argsort(rows, kind="stable")].astype(np.float32)

    def intervals(self) -> dict[Key, tuple[float, float]]:
        """Resample the metrics added since the last call, and return intervals by model, metric and slice."""
        drawn = list(self._statistics())
        self._bootstrap.resample(*(statistic for _, statistic in drawn))
        self._waiting, self._models, self._bytes = [], set(), 0
        intervals: dict[Key, tuple[float, float]] = {}
        for columns, statistic in drawn:
            intervals |= self._ends(columns, statistic.samples)
        return intervals

    def _statistics(
        self,
    ) -> Iterator[tuple[list[_Waiting], Ratios | MeansOverFewStrata | MeansOverStrata]]:
        """Yield groups of metrics with what is computed from their resamples."""
        cells, masks, r = self._bootstrap.cells, self._slices.masks, self._bootstrap.resamples
        if plain := [w for w in self._waiting if w.stratum is None]:
            yield plain, Ratios.of(cells, r, *stack(plain))
        few = [w for w in self._waiting if w.stratum is not None and has_few_strata(w.stratum)]
        for group in grouped(few, by_den=False):
            assert group[0].stratum is not None
            yield (
                group,
                MeansOverFewStrata.of(masks, r, *stack(group), group[0].stratum, self._resampled(group)),
            )
        many = [w for w in self._waiting if w.stratum is not None and not has_few_strata(w.stratum)]
        for group in grouped(many, by_den=True):
            num, stratum = ValueColumns([w.num for w in group]), group[0].stratum
            assert stratum is not None
            yield (
                group,
                MeansOverStrata.of(masks, cells, r, num, group[0].den, stratum, self._resampled(group)),
            )

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
                    self._samples[key] = samples[s, :, c].copy()
        return intervals

    def _keeps(self, s: int, metric: str) -> bool:
        """Return whether comparisons need the resampled values of a metric on slice s."""
        standing = s >= self._slices.standing and metric in self._compared
        return standing or self._slices.names[s] == ALL

    def samples(self, dataset: str) -> pa.Table:
        """Return the samples table."""
        compared = {key: values for key, values in self._samples.items() if key[1] in self._compared}
        return samples_table(dataset, compared, self._bootstrap.resamples)

    def pairs(self, dataset: str, values: Mapping[Key, float]) -> Iterator[dict[str, Any]]:
        """Yield the columns of the pairs table for each metric on all images.

        Parameters
        ----------
        dataset : str
        values : Mapping
            The value for each model, metric and slice, in the order of the models.
        """
        judged = dict.fromkeys(model for model, *_ in values)
        sampled = (metric for _, metric, _ in self._samples)
        for metric in dict.fromkeys([*sampled, *(metric for metric, _ in self._changes)]):
            models = [m for m in judged if self._is_compared(metric, m)]
            # Where all models count other images, such as their own errors, no two can be compared.
            group = self._counted.groups(metric, models)
            if len(np.unique(group)) == len(models):
                continue
            point = np.array([values[m, metric, ALL] for m in models])
            if all((metric, m) in self._changes for m in models):
                errors, df = self._change_errors(metric, models, group)
                table = compare_pairs(point, group=group, errors=errors, df=df)
            else:
                table = self._sampled_pairs(metric, models, point, group)
            n = self._counted.n_shared(metric, models)
            if describe_metric(metric).get("unit") == "share":
                table = with_none_apart(table, n)
            yield pair_rows(dataset, metric, ALL, models, table, n)

    def _is_compared(self, metric: str, model: str) -> bool:
        return (model, metric, ALL) in self._samples or (metric, model) in self._changes

    def _change_errors(
        self, metric: str, models: Sequence[str], group: npt.NDArray[np.integer]
    ) -> npt.NDArray[np.float64]:
        """Return standard errors of differences, and their df; NaN between models that count other images."""
        found = np.full((2, len(models), len(models)), np.nan)
        for number in np.unique(group):
            inside = np.flatnonzero(group == number)
            changes = np.stack([self._changes[metric, m] for m in np.array(models)[inside].tolist()])
            found[:, inside[:, None], inside] = jackknife_errors(changes)
        return found

    def _sampled_pairs(
        self,
        metric: str,
        models: Sequence[str],
        point: npt.NDArray[np.float64],
        group: npt.NDArray[np.integer],
    ) -> PairTable:
        """Compare models by resamples; shares of the same images also by the images that tell them apart."""
        samples = np.stack([self._samples[m, metric, ALL] for m in models])
        if len(np.unique(group)) > 1 or not all((metric, m) in self._bits for m in models):
            return compare_pairs(point, samples, group=group)
        n = self._counted.n_counted(metric, models[0])
        only = only_right(np.stack([self._bits[metric, m] for m in models]))
        table = compare_pairs(point, samples, group=group, errors=paired_errors(only, n))
        return with_few_apart(table, only, n)
