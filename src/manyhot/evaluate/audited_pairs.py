"""Differences between models, and resampled values of models, on people's label sets, from an audit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from scipy.special import stdtr

from manyhot.core.array_types import Bools, Floats, Floats32, Ints
from manyhot.core.audit_sequence import sequence_p
from manyhot.core.audited import AuditedEstimate, LinearisedValues, side_by_side
from manyhot.core.model_pairs import PairTable, holm, pairs_of
from manyhot.core.posterior import combined, resampled_draws
from manyhot.core.resampling import QUANTILE
from manyhot.evaluate.audited import AuditedImages
from manyhot.evaluate.compared_pairs import NO_PAIRS, ComparedPairs
from manyhot.evaluate.result_rows import Number, pair_rows
from manyhot.evaluate.sampled_pairs import CountedImages, Key, samples_table
from manyhot.evaluate.slices import ALL
from manyhot.tables.result_tables import accuracies

BY_TOP_CLASS = ("real1", "mla")
"""Metrics that judge an image by its top class alone: an image on which models agree is no
evidence of a difference."""

_BLOCK = 4_000_000
"""Values of pairs of models in memory at once: 32 MB, several times."""


class AuditedPairs:
    """The values of many models, for comparisons between models and between data sets.

    Parameters
    ----------
    image_id : pyarrow.Array
        The ids of all images.
    resamples, seed : int
        As in `manyhot.evaluate.audited_values.Auditor`.

    Attributes
    ----------
    doubts : dict of str to list of str
        Metrics that have no interval, grouped by the reason. The caller clears this mapping.
    """

    def __init__(self, images: AuditedImages, image_id: pa.Array, resamples: int, seed: int) -> None:
        self._images, self._resamples, self._seed = images, resamples, seed
        self.doubts: dict[str, list[str]] = {}
        self._compared = frozenset(accuracies())
        self._counted = CountedImages(image_id)
        self._values: dict[Key, list[LinearisedValues]] = {}
        self._power: dict[Key, float] = {}
        self._doubtful = set[Key]()
        self._top: dict[str, Ints] = {}

    def count(self, model: str, metric: str, scored: Bools, top: Ints | None = None) -> None:
        """Add the images that may be counted for a model, shape (N,), and its top classes on audited ones."""
        self._counted.add(model, metric, scored)
        if top is not None and len(top) == len(self._images.sample):
            self._top[model] = np.array(top)

    def add(
        self, key: Key, draws: Sequence[LinearisedValues], estimated: AuditedEstimate, doubt: str, i: int = 0
    ) -> None:
        """Add value i of an estimate. `doubt` is the reason why it has no interval; empty if it has one.

        `draws` contains the contributions of images on each draw of people's label sets.
        """
        one = slice(i, i + 1)
        self._values[key] = [
            LinearisedValues(
                values.audited[:, one].astype(np.float32),
                values.proposed[:, one].astype(np.float32),
                values.mean[one],
                values.base[one],
                values.alone[one],
                np.asarray(values.parts[-1][:, one], np.float64),
            )
            for values in draws
        ]
        if doubt and not estimated.doubts()[i]:  # it is also that of a difference
            self._doubtful.add(key)
        self._power[key] = np.nan if doubt else float(estimated.power[i])
        if key[2] == ALL and doubt and self._resamples and not self._images.is_whole:
            self.doubts.setdefault(doubt, []).append(key[1])

    def samples(self, dataset: str, rows: Sequence[Number]) -> pa.Table:
        """Return the samples table. A value that does not depend on answers is the same in all resamples.

        Parameters
        ----------
        rows : sequence of Number
            All values.
        """
        keys = [k for k, power in self._power.items() if k[1] in self._compared and not np.isnan(power)]
        drawn: dict[Key, Floats32] = {}
        if keys and self._resamples:
            found = resampled_draws(
                self._drawn(keys),
                self._images.sample,
                np.array([self._power[k] for k in keys]),
                rng=np.random.default_rng([self._seed, len(self._images.sample.design)]),
                resamples=self._resamples,
                population=self._images.audit.population,
            )
            if self._images.quantile is not None:  # their percentiles hold at all numbers of answers, too
                middle = found.mean(axis=0)
                found = middle + (found - middle) * (self._images.quantile / QUANTILE)
            drawn = dict(zip(keys, found.T.astype(np.float32), strict=True))
            if not self._images.audit.population:
                drawn |= {
                    (r.model, r.metric, r.slice): np.full(self._resamples, r.value, np.float32)
                    for r in rows
                    if r.estimator is None and r.metric in self._compared and (r.slice == ALL)
                }
        return samples_table(dataset, drawn, self._counted)

    def rows(self, dataset: str, models: Sequence[str], compared: ComparedPairs) -> Iterator[dict[str, Any]]:
        """Yield the columns of the pairs table for each metric on all images."""
        is_compared = self._resamples and compared.pairs != NO_PAIRS
        for metric in dict.fromkeys(metric for _, metric, _ in self._values) if is_compared else ():
            listed = [m for m in models if (m, metric, ALL) in self._values]
            if compared.reference and compared.reference not in listed:
                continue
            group = self._counted.groups(metric, listed)
            if len(set(group.tolist())) == len(listed):
                continue
            a, b = pairs_of(len(listed), compared.index_in(listed))
            table, alone = self._pairs(metric, listed, group, a, b)
            shared = self._counted.n_shared(metric, listed, a, b, self._images.weights)
            columns = pair_rows(dataset, metric, ALL, listed, table, shared)
            m = len(table.a)
            yield columns | {
                "estimator": pa.repeat(pa.scalar(self._images.audit.estimator), m),
                "n_audited": np.full(m, len(self._images.sample)),
                "alone": alone,
            }

    def _pairs(
        self,
        metric: str,
        models: Sequence[str],
        group: Ints,
        a: npt.NDArray[np.intp],
        b: npt.NDArray[np.intp],
    ) -> tuple[PairTable, Floats]:
        """Return the differences of pairs of models, and those on the proposed label sets alone."""
        draws = self._drawn([(m, metric, ALL) for m in models])
        columns = np.full((6, len(a)), np.nan)
        for start in range(0, len(a), size := max(1, _BLOCK // len(self._images.sample))):
            block = slice(start, start + size)
            same = self._same(metric, models, a[block], b[block])
            differences = (values.differences(b[block], a[block]) for values in draws)
            found = combined([self._images.estimate(values, metric, same) for values in differences])
            lo, hi = found.interval(quantile=self._images.quantile)
            columns[:, block] = found.value, lo, hi, found.error, found.df, found.alone
        columns[:, group[a] != group[b]] = np.nan
        difference, lo, hi, error, df, alone = columns
        without = np.array([(m, metric, ALL) in self._doubtful for m in models])
        lo[without[a] | without[b]] = hi[without[a] | without[b]] = np.nan
        with np.errstate(invalid="ignore", divide="ignore"):
            z = difference / error
        planned = self._images.planned
        p = 2 * stdtr(df, -np.abs(z)) if planned is None else sequence_p(z, len(self._images.sample), planned)
        p = np.where(np.isnan(lo), np.nan, p)
        return PairTable(a, b, difference, lo, hi, p, holm(p)), alone

    def _drawn(self, keys: Sequence[Key]) -> list[LinearisedValues]:
        """Return several values together, on each draw."""
        return [side_by_side(values) for values in zip(*(self._values[k] for k in keys), strict=True)]

    def _same(self, metric: str, models: Sequence[str], a: Ints, b: Ints) -> Bools | None:
        """Return the audited images on which the models of a pair do not differ, shape (n, P)."""
        if metric not in BY_TOP_CLASS or any(m not in self._top for m in models):
            return None
        top = np.stack([self._top[m] for m in models], axis=1)
        return np.asarray(top[:, a] == top[:, b])
