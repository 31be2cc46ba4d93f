"""A metric of a model as one number an image: what slices, intervals and pairs are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from manyhot.core.cells import Cells
from manyhot.core.estimates import Ratio
from manyhot.core.resampling import wilson_interval
from manyhot.core.sets import NO_LABEL, LabelSets
from manyhot.steps.results import Number
from manyhot.steps.slices import Slices

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
        full = [np.zeros(n, a.dtype) for a in arrays]
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
