"""From which probability on a class counts: precision and recall against golden questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manyhot.core.resampling import draw_counts, percentile_interval
from manyhot.errors import InputError

MOST = 1000
"""Thresholds of a curve at most, beside those asked for; where more probabilities differ, so many by rank."""

_CHUNK = 200
"""Thresholds resampled at once: 8 MB for 10,000 images."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Precision and recall at T thresholds, ascending; each array has shape (T,).

    Attributes
    ----------
    threshold : ndarray of float64
        A class counts if its probability is no lower.
    precision, recall : ndarray of float64
        NaN where there is nothing to count.
    precision_lo, precision_hi, recall_lo, recall_hi : ndarray of float64
        Ends of 95 % intervals over images.
    kept, right : ndarray of int64
        Golden questions at or above the threshold, and those of them whose truth is yes.
    n_yes, n_questions, n_images : int
        Golden questions whose truth is yes, all of them, and their images.
    """

    threshold: Floats
    precision: Floats
    precision_lo: Floats
    precision_hi: Floats
    recall: Floats
    recall_lo: Floats
    recall_hi: Floats
    kept: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    n_yes: int
    n_questions: int
    n_images: int

    def at(self, threshold: float) -> int | None:
        """Return the row of a threshold: that of the lowest probability which counts; None above all."""
        row = int(np.searchsorted(self.threshold, threshold))
        return row if row < len(self.threshold) else None

    def for_precision(self, wanted: float) -> float:
        """Return the lowest threshold with a precision of at least `wanted`: that of the best recall.

        Raises
        ------
        InputError
            No threshold has it.
        """
        _check_share("precision", wanted)
        with np.errstate(invalid="ignore"):
            good = np.flatnonzero(self.precision >= wanted)
        if not len(good):
            raise self._unreachable("precision", wanted, self.precision)
        return float(self.threshold[good[0]])

    def for_recall(self, wanted: float) -> float:
        """Return the highest threshold with a recall of at least `wanted`: the fewest classes that do.

        Raises
        ------
        InputError
            No threshold has it, for no golden question has the truth yes.
        """
        _check_share("recall", wanted)
        with np.errstate(invalid="ignore"):
            good = np.flatnonzero(self.recall >= wanted)
        if not len(good):
            raise self._unreachable("recall", wanted, self.recall)
        return float(self.threshold[good[-1]])

    def _unreachable(self, what: str, wanted: float, values: Floats) -> InputError:
        known = values[~np.isnan(values)]
        return InputError(
            f"No threshold has the {what} that is wanted on the golden questions.",
            got=f"{wanted:g}",
            allowed=f"up to {known.max():.4f}" if len(known) else None,
            do=None
            if len(known)
            else f"add golden questions with the truth yes: of {self.n_questions} none has",
        )


def curve(
    p: Floats,
    truth: npt.NDArray[np.bool_],
    image: npt.NDArray[np.integer],
    *,
    resamples: int,
    rng: np.random.Generator,
    wanted: Sequence[float] = (),
) -> Curve:
    """Return precision and recall at every probability that a golden question has.

    Parameters
    ----------
    p : ndarray of float64, shape (G,)
    truth : ndarray of bool, shape (G,)
    image : ndarray of int, shape (G,)
        The image of each question: images are resampled, for the questions of one are alike.
    resamples : int
        0 for no intervals.
    rng : numpy.random.Generator
    wanted : sequence of float
        Thresholds at which the curve is exact, however many probabilities differ.
    """
    threshold = np.unique(p)
    if len(threshold) > MOST:
        ranks = np.linspace(0, len(threshold) - 1, MOST).round().astype(int)
        exact = np.searchsorted(threshold, wanted)
        threshold = threshold[np.union1d(ranks, exact[exact < len(threshold)])]
    images, row = np.unique(image, return_inverse=True)
    kept, right = (_at_or_above(p[flags], threshold) for flags in (np.full(len(p), True), truth))
    n_yes = int(np.count_nonzero(truth))
    drawn = draw_counts(max(len(images), 1), resamples, rng).astype(np.float32)
    ends = [
        _intervals(p, truth, row, threshold[i : i + _CHUNK], drawn) for i in range(0, len(threshold), _CHUNK)
    ]
    precision_lo, precision_hi, recall_lo, recall_hi = (
        (np.concatenate([np.empty(0), *column]) for column in zip(*ends, strict=True))
        if ends
        else (np.empty(0) for _ in range(4))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = right / kept, right / np.float64(n_yes)
    return Curve(
        threshold, precision, precision_lo, precision_hi, recall, recall_lo, recall_hi,
        kept, right, n_yes, len(p), len(images),
    )  # fmt: skip


def _at_or_above(p: Floats, threshold: Floats) -> npt.NDArray[np.int64]:
    return len(p) - np.searchsorted(np.sort(p), threshold)


def _intervals(
    p: Floats,
    truth: npt.NDArray[np.bool_],
    row: npt.NDArray[np.intp],
    threshold: Floats,
    drawn: npt.NDArray[np.float32],
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the ends of the intervals of precision and of recall at some thresholds."""
    if not len(drawn):
        nothing = np.full(len(threshold), np.nan)
        return nothing, nothing, nothing, nothing
    n = drawn.shape[1]
    kept = drawn @ _by_image(p, row, threshold, n)
    right = drawn @ _by_image(p[truth], row[truth], threshold, n)
    n_yes = drawn @ np.bincount(row[truth], minlength=n).astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = right / kept, right / n_yes[:, None]
    return (*percentile_interval(precision.T), *percentile_interval(recall.T))


def _by_image(p: Floats, row: npt.NDArray[np.intp], threshold: Floats, n: int) -> npt.NDArray[np.float32]:
    """Return how many questions of each image are at or above each threshold, shape (n, T)."""
    size = len(threshold) + 1
    level = np.searchsorted(threshold, p, side="right")
    counts = np.bincount(row * size + level, minlength=n * size).reshape(n, size)
    # A question at level l is at or above the first l thresholds.
    above = counts[:, ::-1].cumsum(1)[:, ::-1][:, 1:]
    return np.asarray(above, np.float32)


def _check_share(what: str, wanted: float) -> None:
    if not 0 < wanted <= 1:
        raise InputError(f"A {what} is a share.", got=wanted, allowed="above 0, up to 1")
