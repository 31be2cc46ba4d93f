"""A metric of a model as one value per image: the basis of slices, intervals and pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.core.comparison import PairTable, compare_pairs, jackknife_errors, only_right, paired_errors
from manyhot.core.estimates import Ratio
from manyhot.core.jackknife import Scale
from manyhot.core.ratio_intervals import (
    changes_without,
    have_percentiles,
    ratio_intervals,
    with_few_apart,
    with_none_apart,
)
from manyhot.core.resampling import Bootstrap, Cells, percentile_interval
from manyhot.core.sets import NO_LABEL, LabelSets
from manyhot.core.share_intervals import proportion_interval
from manyhot.evaluate.results import Number, pair_rows
from manyhot.evaluate.slices import ALL, Slices
from manyhot.tables.result_tables import accuracies, describe_metric

FEW_STRATA = 8
"""Strata up to which each is resampled on its own: set sizes, not classes."""


@dataclass(frozen=True)
class ImageValues:
    """The values of one metric of one model, for each image of the labels table.

    For a share of a set of images that differs between models, such as their errors, the interval is computed
    `by_wilson`, because sharing resamples with other models would gain nothing. `scale` is that of other
    intervals without resamples.
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

    @property
    def has_few_strata(self) -> bool:
        """Whether there are so few strata that each can be resampled separately."""
        return self.stratum is not None and int(self.stratum.max(initial=0)) < FEW_STRATA

    def stratum_is_class(self, label: npt.NDArray[np.integer]) -> bool:
        """Whether the metric is a plain proportion within a class, because it has no other strata."""
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


def stack(
    columns: Sequence[ImageValues],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """Return the numerators, the distinct denominators, and the denominator of each numerator."""
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


def grouped(columns: Iterable[ImageValues], *, by_den: bool) -> list[list[ImageValues]]:
    """Group columns that share resamples, with the same strata and, if `by_den`, the same denominators."""
    groups: dict[tuple[bytes, bytes], list[ImageValues]] = {}
    for column in columns:
        assert column.stratum is not None
        den = _digest(column.den) if by_den else b""
        groups.setdefault((den, _digest(column.stratum)), []).append(column)
    return list(groups.values())


def _digest(array: npt.NDArray[Any]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).digest()


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
        """Return a number for each model, the same for models that count the same images, shape (M,)."""
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
        """Return how many images count for both models of each pair, shape (M, M).

        With weights of the images, shape (n,), it is the rounded sum of the weights.
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
    """A bootstrap of the metrics of many models together, with the values that pairs of models need.

    Parameters
    ----------
    slices : Slices
    bootstrap : Bootstrap
    """

    def __init__(self, slices: Slices, bootstrap: Bootstrap) -> None:
        self._slices, self._bootstrap = slices, bootstrap
        self._compared = frozenset(accuracies())
        self._waiting: list[ImageValues] = []
        self._samples: dict[Key, npt.NDArray[np.float32]] = {}
        self._bits: dict[tuple[str, str], npt.NDArray[np.uint8]] = {}
        self._changes: dict[tuple[str, str], npt.NDArray[np.float32]] = {}
        self._counted = CountedImages()

    @property
    def n_waiting(self) -> int:
        """Number of models without intervals so far."""
        return len({c.model for c in self._waiting})

    def add(self, column: ImageValues) -> str:
        """Add a metric of a model, to be resampled together with others.

        Returns
        -------
        str
            How the interval on all images is computed, a key of `INTERVALS`.
        """
        at = (column.metric, column.model)
        self._counted.add(column.model, column.metric, column.scored)
        if column.scored.any() and not column.by_wilson:
            self._waiting.append(column)
        if column.is_share:
            self._bits[at] = np.packbits(column.num)
        if column.by_wilson or have_percentiles(column.ratio, self._bootstrap.cells, column.scale)[0]:
            return "wilson" if column.by_wilson else "bootstrap"
        if column.is_share:
            return "score"
        if column.scored.any():
            self._changes[at] = changes_without(column.ratio).astype(np.float32)
        return "jackknife"

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
            What leaving out each scored image changes; NaN if the metric has no interval.
        rows : ndarray of int64, shape (m,)
            The rows of these images in the labels table.
        """
        scored = np.bincount(rows, minlength=self._slices.masks.shape[1]) > 0
        self._counted.add(model, metric, scored)
        # In the order of the labels, which is the same for all models.
        self._changes[metric, model] = changes[np.argsort(rows, kind="stable")].astype(np.float32)

    def intervals(self) -> dict[Key, tuple[float, float]]:
        """Resample the metrics added since the last call, and return intervals by model, metric and slice."""
        plain = [c for c in self._waiting if c.stratum is None]
        intervals = self._ends(plain, self._bootstrap.ratios(*stack(plain))) if plain else {}
        few = [c for c in self._waiting if c.has_few_strata]
        for group in grouped(few, by_den=False):
            assert group[0].stratum is not None
            samples = self._bootstrap.means_over_few_strata(*stack(group), group[0].stratum)
            intervals |= self._ends(group, samples)
        many = [c for c in self._waiting if c.stratum is not None and not c.has_few_strata]
        for group in grouped(many, by_den=True):
            num = np.stack([c.num for c in group], axis=1, dtype=np.float32)
            assert group[0].stratum is not None
            den = group[0].den.astype(np.float32)
            kept = [s for s in range(len(self._slices.names)) if any(self._keeps(s, c.metric) for c in group)]
            samples = self._bootstrap.means_over_strata(num, den, group[0].stratum, kept)
            intervals |= self._ends(group, samples)
        self._waiting = []
        return intervals

    def _ends(
        self, columns: Sequence[ImageValues], samples: npt.NDArray[np.float32]
    ) -> dict[Key, tuple[float, float]]:
        """Return the intervals of resampled columns, and keep the samples that comparisons need."""
        by_column = np.ascontiguousarray(samples.transpose(0, 2, 1))
        percentiles = [have_percentiles(c.ratio, self._bootstrap.cells, c.scale) for c in columns]
        lo, hi = np.full((2, *by_column.shape[:2]), np.nan)
        if np.any(percentiles):
            lo, hi = percentile_interval(by_column)
        intervals = {}
        for c, column in enumerate(columns):
            other = ~percentiles[c]
            lo[other, c], hi[other, c] = ratio_intervals(
                column.ratio, self._slices.masks[other], scale=column.scale
            )
            for s, name in enumerate(self._slices.names):
                key = (column.model, column.metric, name)
                intervals[key] = (float(lo[s, c]), float(hi[s, c]))
                if self._keeps(s, column.metric):
                    self._samples[key] = by_column[s, c].copy()
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
            The value of each model, metric and slice, in the order of the models.
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
