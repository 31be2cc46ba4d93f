"""Metrics of heads with and without treatment of a shortcut, on images that they were not fitted on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Bools, Floats
from manyhot.core.companion_effects import (
    BOTH,
    COMPANION_ONLY,
    MAIN_ONLY,
    NEITHER,
    NO_SPLIT,
    Estimated,
    Resampled,
    balancing,
    gap,
    paired_difference,
    share_with_interval,
    split_by_pair,
    weighted_average_precision,
)
from manyhot.core.resampling import percentile_interval
from manyhot.core.sets import NO, NO_LABEL, YES
from manyhot.tables import Row

_THRESHOLD = 0.5
"""Probability from which sigmoids predict a class; a softmax predicts the top class."""

_CHUNK = 125  # Resamples at once.


@dataclass(frozen=True)
class HeldOutMetric:
    """A number, and its value in each resample of the images held out, shape (R,).

    For a share, `hits` are the images that count towards it.
    """

    estimated: Estimated
    samples: Floats
    hits: Bools | None = None

    def less(self, other: HeldOutMetric) -> tuple[float, float, float]:
        """Return the difference from another number of the same images, and the ends of its 95 % interval.

        For shares, the interval is Newcombe's: if no image changes, a bootstrap would have no width.
        """
        if self.hits is not None and other.hits is not None:
            found = paired_difference(self.hits, other.hits)
            return found.value, found.lo, found.hi
        value = self.estimated.value - other.estimated.value
        return value, *_ends(self.samples - other.samples)


@dataclass(frozen=True, eq=False)
class HeldOutImages:
    """Images that heads are evaluated on.

    Attributes
    ----------
    state : ndarray of uint8, shape (n, C)
        State of each class.
    label : ndarray of int, shape (n,)
        The original label; `NO_LABEL` if there is none.
    drawn : Resampled
        Resamples of these images, the same for all heads.
    """

    state: npt.NDArray[np.uint8]
    label: npt.NDArray[np.integer]
    drawn: Resampled

    def measure(
        self, p: Floats, gone: Floats, altered: npt.NDArray[np.intp], best: bool, pair: tuple[int, int]
    ) -> dict[str, HeldOutMetric]:
        """Return the metrics of a head.

        Parameters
        ----------
        p : ndarray of float, shape (n, C)
            Its probabilities.
        gone : ndarray of float, shape (k, C)
            Its probabilities of images with both classes, after the companion was removed.
        altered : ndarray of int, shape (k,)
            Which images these are.
        best : bool
            Whether only the top class is predicted, not each class with a probability of at least 0.5.
        pair : (int, int)
            Main class and companion.

        Returns
        -------
        dict of str to HeldOutMetric
            ``lost``, ``flips``, ``recall_gap``, ``hallucination_gap``, ``ap``, ``ap_balanced``, ``top1``,
            ``real1`` and ``map``, as far as there are images for them.
        """
        main = pair[0]
        predicted, after = (_predicted(x, main, best) for x in (p, gone))
        splits = split_by_pair(*self.state[:, list(pair)].T)
        metrics = {
            "lost": self._share(predicted[altered] & ~after, altered),
            "flips": self._share(predicted[altered] != after, altered),
        }
        for name, (one, other) in {
            "recall_gap": (BOTH, MAIN_ONLY),
            "hallucination_gap": (COMPANION_ONLY, NEITHER),
        }.items():
            samples = self._shares(predicted, splits == one) - self._shares(predicted, splits == other)
            metrics[name] = HeldOutMetric(gap(predicted, splits, one, other), samples)
        metrics |= self._precisions(p[:, main], splits)
        rows = np.flatnonzero(self.label != NO_LABEL)
        metrics["top1"] = self._share(p.argmax(1)[rows] == self.label[rows], rows)
        scored = np.flatnonzero((self.state == YES).any(1))
        metrics["real1"] = self._share(self.state[scored, p.argmax(1)[scored]] == YES, scored)
        metrics["map"] = self._map(p)
        return {name: m for name, m in metrics.items() if not np.isnan(m.estimated.value)}

    def _share(self, hits: Bools, rows: npt.NDArray[np.intp]) -> HeldOutMetric:
        wide = np.zeros(len(self.label), bool)
        inside = wide.copy()
        wide[rows], inside[rows] = hits, True
        return HeldOutMetric(share_with_interval(hits), self._shares(wide, inside), hits)

    def _shares(self, hits: Bools, inside: Bools) -> Floats:
        weights = self._counts
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((weights @ (hits & inside)) / (weights @ inside), np.float64)

    def _precisions(self, score: Floats, splits: npt.NDArray[np.int8]) -> dict[str, HeldOutMetric]:
        inside = np.flatnonzero(splits != NO_SPLIT)
        of, score = splits[inside], score[inside]
        positive = of <= MAIN_ONLY
        metrics = {}
        for name, weigh in (("ap", lambda w: w), ("ap_balanced", lambda w: balancing(of, w))):

            def measure(w: Any, weigh: Callable[[Any], Any] = weigh) -> Floats:
                return weighted_average_precision(score, positive, weigh(w[:, inside]))

            value = float(measure(np.ones((1, len(splits)), np.float32))[0])
            samples = self._chunked(measure)
            metrics[name] = HeldOutMetric(Estimated(value, *_ends(samples), len(inside)), samples)
        return metrics

    def _map(self, p: Floats) -> HeldOutMetric:
        values, samples = [], []
        for c in np.flatnonzero((self.state == YES).any(0)):
            measure = self._precision_of(p, int(c))
            values.append(measure(np.ones((1, len(p)), np.float32))[0])
            samples.append(self._chunked(measure))
        if not values:
            return HeldOutMetric(Estimated(np.nan, np.nan, np.nan, 0), np.empty(0))
        drawn = np.nanmean(samples, axis=0)
        return HeldOutMetric(Estimated(float(np.mean(values)), *_ends(drawn), len(p)), drawn)

    def _precision_of(self, p: Floats, c: int) -> Callable[[Any], Floats]:
        known = np.flatnonzero(np.isin(self.state[:, c], (NO, YES)))
        positive, score = self.state[known, c] == YES, p[known, c]
        return lambda w: weighted_average_precision(score, positive, w[:, known])

    def _chunked(self, of: Callable[[Any], Floats]) -> Floats:
        starts = range(0, len(self._counts), _CHUNK)
        return np.concatenate([np.empty(0), *(of(self._counts[i : i + _CHUNK]) for i in starts)])

    @cached_property
    def _counts(self) -> npt.NDArray[np.float32]:
        return self.drawn.counts.astype(np.float32)


def _predicted(p: Floats, main: int, best: bool) -> Bools:
    return np.asarray(p.argmax(1) == main if best else p[:, main] >= _THRESHOLD)


def _ends(samples: Floats) -> tuple[float, float]:
    samples = samples[~np.isnan(samples)]
    if not len(samples):
        return np.nan, np.nan
    lo, hi = percentile_interval(samples[None])
    return float(lo[0]), float(hi[0])


@dataclass
class MitigationRows:
    """Collects the rows of a data set."""

    about: dict[str, Any]
    n: int
    rows: list[Row] = field(default_factory=list)

    def add(
        self,
        columns: dict[str, Any],
        measured: Mapping[str, HeldOutMetric],
        untreated: Mapping[str, HeldOutMetric] | None,
    ) -> None:
        """Add the metrics of a head, and their difference from those of the untreated one."""
        for metric, m in measured.items():
            row = self.about | columns | {"metric": metric, "n": m.estimated.n}
            row |= {"value": m.estimated.value, "lo": m.estimated.lo, "hi": m.estimated.hi}
            row["n_skipped"] = self.n - m.estimated.n
            if untreated is not None and metric in untreated:
                row["change"], row["change_lo"], row["change_hi"] = m.less(untreated[metric])
            self.rows.append({k: None if v != v else v for k, v in row.items()})
