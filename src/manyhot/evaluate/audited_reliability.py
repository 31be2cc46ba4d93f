"""The reliability table of an audit: calibration on people's label sets, in bins of confidence.

A model's confidence in an image does not depend on people's answers. So each bin of confidence is a slice of
all images, and its accuracy is a ratio of sums over images, which is estimated as the value of any other
slice (`manyhot.core.audited`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Floats
from manyhot.core.audited import FEWEST_LEFT, AuditedEstimate, linearised_slices, reserve_of
from manyhot.core.cells import Cells
from manyhot.core.estimates import Ratio, mean_over
from manyhot.core.posterior import combined
from manyhot.core.ratio_intervals import FEWEST_CASES
from manyhot.core.reliability import BINS, bin_of
from manyhot.core.sets import Case
from manyhot.evaluate.audited import AuditedImages
from manyhot.evaluate.audited_case import AuditedCase
from manyhot.evaluate.confidence import Row, both_events, events_of

_EDGES = np.array([(0.0, 1.0), *((b / BINS, (b + 1) / BINS) for b in range(BINS))])


def audited_reliability(images: AuditedImages, dataset: str, model: str, case: AuditedCase) -> Iterator[Row]:
    """Yield rows of the reliability table: all images, then each bin of confidence.

    A bin is left out if fewer than `FEWEST_CASES` audited images count in it, unless all images were audited.
    In the remaining bins, accuracies on label sets have an interval even if people and proposals hardly ever
    disagree (`reserve` of `manyhot.core.audited.estimate`). The exception is a bin in which fewer than
    `FEWEST_LEFT` images were not audited, because its estimates are not nearly normal. If all images were
    audited, accuracies are exact and have no interval. For original labels, the only uncertainty is which
    images count, so accuracies often have no interval.

    Parameters
    ----------
    images : AuditedImages
    dataset, model : str
    case : AuditedCase
        The predictions of a model with confidences.
    """
    bins = _Bins(images, case)
    for event in events_of(case.all_images):
        counts = bins.inside & bins.ratios(case.audited, event, case.rows)[0].scored
        n_audited = np.count_nonzero(counts, axis=1)
        n = np.rint(counts @ images.sample.weights * len(images.sample.design)).astype(int)
        confidence, right = bins.estimates(event)
        lo, hi = right.interval("logit" if right.checked else "plain", quantile=images.quantile)
        few = (n_audited < FEWEST_CASES) | bins.almost_whole
        lo, hi = (np.where(few, np.nan, np.clip(end, 0, 1)) for end in (lo, hi))
        shown = (n_audited > 0) & (~few | images.is_whole | (np.arange(len(n)) == 0))
        for i in np.flatnonzero(shown):
            yield {
                "dataset": dataset,
                "model": model,
                "event": event,
                "from": _EDGES[i, 0],
                "to": _EDGES[i, 1],
                "confidence": float(np.clip(confidence.value[i], *_EDGES[i])),
                "right": float(np.clip(right.value[i], 0, 1)),
                "lo": _or_none(lo[i]),
                "hi": _or_none(hi[i]),
                "n": int(n[i]),
                "estimator": images.audit.estimator,
                "n_audited": int(n_audited[i]),
                "alone": _or_none(right.alone[i]),
            }


class _Bins:
    """Bins of confidence as slices of all images, and of the audited ones.

    Attributes
    ----------
    inside : ndarray of bool, shape (1 + B, n)
        The audited images in each bin; the first bin has all.
    almost_whole : ndarray of bool, shape (1 + B,)
        Whether a few images of a bin were not audited, which alone are uncertain.
    """

    def __init__(self, images: AuditedImages, case: AuditedCase) -> None:
        confidence = case.all_images.confidence
        assert confidence is not None
        self._images, self._case = images, case
        at = np.full(len(images.sample.design), -1)
        at[case.all_rows] = bin_of(confidence, BINS)
        masks = np.vstack([at >= 0, at == np.arange(BINS)[:, None]])
        self.inside, self._cells, self._masks = masks[:, images.sample.images], Cells.of(masks), masks
        left = np.count_nonzero(masks, axis=1) - np.count_nonzero(self.inside, axis=1)
        self.almost_whole = (left > 0) & (left < FEWEST_LEFT) & (not images.audit.population)

    def ratios(self, case: Case, event: str, rows: npt.NDArray[np.int64]) -> list[Ratio]:
        """Return two estimates: the mean confidence, and the share of images with a correct top class."""
        n = self.inside.shape[1] if case is not self._case.all_images else len(self._images.sample.design)
        outcomes = both_events(case).get(event)
        counts, confidence, right = np.zeros(n, bool), np.zeros(n), np.zeros(n, bool)
        if outcomes is not None:
            at = rows[outcomes.image]
            counts[at], confidence[at], right[at] = True, outcomes.confidence, outcomes.right
        return [mean_over(confidence, counts), mean_over(right, counts)]

    def estimates(self, event: str) -> list[AuditedEstimate]:
        """Return the estimates of confidence and accuracy in each bin."""
        proposed = self.ratios(self._case.all_images, event, self._case.all_rows)
        draws = [self.ratios(case, event, self._case.rows) for case in self._case.drawn]
        return [
            self._estimate([d[i] for d in draws], ratio, is_open=event == "set" and i > 0)
            for i, ratio in enumerate(proposed)
        ]

    def _estimate(self, audited: list[Ratio], proposed: Ratio, *, is_open: bool) -> AuditedEstimate:
        """Return the estimate; of a value that is open, people may say something else than proposals."""
        sample = self._images.sample
        return combined(
            [
                self._images.estimate(
                    linearised_slices(a, proposed, sample, self.inside, self._cells, own_centre=True),
                    "reliability",
                    reserve=self._reserve(a) if is_open else None,
                )
                for a in audited
            ]
        )

    def _reserve(self, audited: Ratio) -> Floats:
        """Return the variances that one more image adds on which people and proposals disagree."""
        sample = self._images.sample
        total = (self.inside & audited.scored) @ sample.weights
        size = 1 / np.where(total > 0, total, np.inf)
        return reserve_of(size, self._masks, sample, population=self._images.audit.population)


def _or_none(x: float) -> float | None:
    return None if np.isnan(x) else float(x)
