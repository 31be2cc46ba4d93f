"""Precision and recall of aggregated probabilities at every threshold, against golden questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from manyhot.core.array_types import AnyFloats, Bools, Floats, Floats32, Ints, Ints64, Positions
from manyhot.core.share_intervals import clustered_interval, effective_interval
from manyhot.errors import InputError
from manyhot.parameters import check_share

MAX_THRESHOLDS = 1000
"""Maximum number of thresholds of a curve, apart from those passed to it; more are thinned by rank."""

GOLDEN_PARTS = 10
"""Parts of the golden images, each of which is evaluated at a threshold chosen on the others."""

GoldenGoal = Literal["precision", "recall"]
GOLDEN_GOALS: tuple[GoldenGoal, ...] = get_args(GoldenGoal)
"""The goals for which a threshold is chosen."""

_CHUNK = 200
"""Number of thresholds at once: 8 MB for 10,000 images."""

FEWEST_ERRORS = 3
"""Minimum number of errors to expect at a threshold that reaches its goal, for an interval of the goal."""

_MOST_RESAMPLES = 200
"""Maximum number of resamples of a cross-fitted threshold, whose standard deviation they give to 5 %."""


@dataclass(frozen=True)
class Curve:
    """Precision and recall at T ascending thresholds. Each array has shape (T,).

    Attributes
    ----------
    threshold : ndarray of float64
        A class counts as valid if its probability is at least this threshold.
    precision, recall : ndarray of float64
        NaN if undefined.
    precision_lo, precision_hi, recall_lo, recall_hi : ndarray of float64
        Ends of 95 % intervals over images; see `curve`.
    n_above, n_right : ndarray of int64
        Number of golden questions at or above the threshold, and number of these questions whose truth is
        yes.
    n_yes, n_questions, n_images : int
        Number of golden questions whose truth is yes, number of all golden questions, and number of their
        images.
    """

    threshold: Floats
    precision: Floats
    precision_lo: Floats
    precision_hi: Floats
    recall: Floats
    recall_lo: Floats
    recall_hi: Floats
    n_above: Ints64
    n_right: Ints64
    n_yes: int
    n_questions: int
    n_images: int

    def at(self, threshold: float) -> int | None:
        """Return the first row whose threshold is at least `threshold`; None if there is none."""
        row = int(np.searchsorted(self.threshold, threshold))
        return row if row < len(self.threshold) else None

    def for_precision(self, least: float) -> float:
        """Return the lowest threshold with at least this precision, and therefore the highest recall.

        Raises
        ------
        InputError
            If no threshold has this precision.
        """
        check_share(least, "The precision is not a share.")
        with np.errstate(invalid="ignore"):
            good = np.flatnonzero(self.precision >= least)
        if not len(good):
            raise self._unreachable("precision", least, self.precision)
        return float(self.threshold[good[0]])

    def for_recall(self, least: float) -> float:
        """Return the highest threshold with at least this recall, and therefore the fewest valid classes.

        Raises
        ------
        InputError
            If no threshold has this recall because no golden question has the truth yes.
        """
        check_share(least, "The recall is not a share.")
        with np.errstate(invalid="ignore"):
            good = np.flatnonzero(self.recall >= least)
        if not len(good):
            raise self._unreachable("recall", least, self.recall)
        return float(self.threshold[good[-1]])

    def _unreachable(self, what: str, least: float, values: Floats) -> InputError:
        defined = values[~np.isnan(values)]
        return InputError(
            f"No threshold reaches this {what} on the golden questions.",
            got=f"{least:g}",
            allowed=f"up to {defined.max():.4f}" if len(defined) else None,
            do=None
            if len(defined)
            else f"add golden questions with the truth yes; none of the {self.n_questions} has it",
        )


def curve(
    p: Floats, truth: Bools, image: Ints, *, intervals: bool = True, thresholds: Sequence[float] = ()
) -> Curve:
    """Return precision and recall, with the probability of each golden question as a threshold.

    Parameters
    ----------
    p : ndarray of float64, shape (G,)
    truth : ndarray of bool, shape (G,)
    image : ndarray of int, shape (G,)
        The image of each question. Questions about the same image are correlated.
    intervals : bool
        Whether to compute intervals. If false, the ends are NaN.
    thresholds : sequence of float
        Thresholds at which the curve is exact, even if there are more than `MAX_THRESHOLDS` distinct
        probabilities.

    Notes
    -----
    Intervals are computed by `manyhot.core.share_intervals.clustered_interval`. If the precision is based on
    few questions, percentile intervals over resampled images contain it in only 50 to 90 % of simulated data
    sets.
    """
    threshold = _grid(p, thresholds)
    images, row = np.unique(image, return_inverse=True)
    n_above, n_right = (len(q) - np.searchsorted(np.sort(q), threshold) for q in (p, p[truth]))
    n_yes = int(np.count_nonzero(truth))
    ends = np.full((4, len(threshold)), np.nan)
    for start in range(0, len(threshold) if intervals else 0, _CHUNK):
        part = slice(start, start + _CHUNK)
        above, right = (
            count_reached(row[flags], p[flags], len(images), threshold[part]).astype(np.float32)
            for flags in (np.full(len(p), True), truth)
        )
        yes = np.bincount(row[truth], minlength=len(images)).astype(np.float32)[:, None]
        ends[:, part] = *clustered_interval(right, above, _total), *clustered_interval(right, yes, _total)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = n_right / n_above, n_right / np.float64(n_yes)
    return Curve(
        threshold, precision, ends[0], ends[1], recall, ends[2], ends[3],
        n_above, n_right, n_yes, len(p), len(images),
    )  # fmt: skip


def _grid(p: Floats, thresholds: Sequence[float] = ()) -> Floats:
    """Return the distinct probabilities, thinned by rank to `MAX_THRESHOLDS` and those of `thresholds`."""
    threshold = np.unique(p)
    if len(threshold) <= MAX_THRESHOLDS:
        return threshold
    ranks = np.linspace(0, len(threshold) - 1, MAX_THRESHOLDS).round().astype(int)
    exact = np.searchsorted(threshold, thresholds)
    return np.asarray(threshold[np.union1d(ranks, exact[exact < len(threshold)])])


def _total(values: Floats) -> Floats:
    return np.asarray(values.sum(axis=0, dtype=np.float64))


@dataclass(frozen=True)
class CrossFitted:
    """Precision and recall at thresholds chosen on other golden images, each with its 95 % interval.

    Attributes
    ----------
    precision, recall : tuple of float
        The value, and the ends of its interval; NaN if undefined.
    """

    precision: tuple[float, float, float]
    recall: tuple[float, float, float]
    n_images: int


def cross_fit(
    p: Floats,
    truth: Bools,
    image: Ints,
    goal: GoldenGoal,
    least: float,
    *,
    resamples: int,
    rng: np.random.Generator,
    folds: int = GOLDEN_PARTS,
) -> CrossFitted:
    """Return the precision and recall of the rule that chooses the threshold.

    Parameters
    ----------
    p, truth, image
        As in `curve`.
    goal, least
        ``Curve.for_precision(least)`` or ``Curve.for_recall(least)`` chooses the threshold.
    resamples : int
        Number of resamples, of which at most 200 are used. With 0, there are no intervals.
    rng : numpy.random.Generator
        Splits the images into folds, and draws the resamples.
    folds : int
        Number of folds. Each fold is evaluated at a threshold chosen on the other folds.

    Notes
    -----
    The threshold of a fold is one of the probabilities of the other folds or, if there are more than
    `MAX_THRESHOLDS` distinct probabilities, next to one of them. Intervals are computed as in `curve`, but
    with the variance of the difference from the actual precision or recall of the chosen threshold. This
    variance is estimated from resamples of the images of each fold, each with its own thresholds. The actual
    precision and recall at these thresholds are computed on all golden questions. The variance therefore
    accounts for the fact that the images of one fold determine the thresholds of the other folds.

    If the goal is a precision or recall at which fewer than `FEWEST_ERRORS` errors are expected, that value
    has no interval, because thresholds chosen on golden questions would vary too much. For example, a
    precision of 0.95 means 2 errors among 40 questions above the threshold.
    """
    images, row = np.unique(image, return_inverse=True)
    n, threshold = len(images), _grid(p)
    fold = rng.permutation(np.arange(n) % folds)
    above, right = (
        count_reached(row[flags], p[flags], n, threshold).astype(np.float32)
        for flags in (np.full(len(p), True), truth)
    )
    yes = np.bincount(row[truth], minlength=n).astype(np.float32)
    questions = _Questions(above, right, yes, fold, min(folds, n), goal, least)
    k, of, _ = questions.cross_fitted(np.ones((1, n), np.float32))
    ends = np.full((2, 2), np.nan)
    if resamples:
        drawn = rng.poisson(1, (min(resamples, _MOST_RESAMPLES), n)).astype(np.float32)
        errors = questions.errors(drawn)
        errors = errors[:, ~np.isnan(errors).any(axis=0)]
        variance = errors.var(axis=1, ddof=1) if errors.shape[1] > 1 else np.full(2, np.nan)
        alike = [own @ own / max(own.sum(), 1) for own in (above[:, 0], yes)]
        ends = np.stack(effective_interval(np.repeat(k, 2), of[:, 0], variance, np.full(2, n), alike), 1)
        if of[GOLDEN_GOALS.index(goal), 0] * (1 - least) < FEWEST_ERRORS:
            ends[GOLDEN_GOALS.index(goal)] = np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        values = k[0] / of[:, 0]
    precision, recall = ((float(v), float(lo), float(hi)) for v, (lo, hi) in zip(values, ends, strict=True))
    return CrossFitted(precision, recall, n)


@dataclass(frozen=True)
class _Questions:
    """Golden questions of n images in K folds, and the goal for which a threshold is chosen.

    Attributes
    ----------
    above, right : ndarray of float32, shape (n, T)
        Number of questions at or above each threshold, and of these the number whose truth is yes.
    yes : ndarray of float32, shape (n,)
    fold : ndarray of int, shape (n,)
    """

    above: Floats32
    right: Floats32
    yes: Floats32
    fold: Ints
    folds: int
    goal: GoldenGoal
    least: float

    def cross_fitted(self, weights: Floats32) -> tuple[Floats, Floats, Positions]:
        """Return the counts at thresholds chosen on the other folds, under weights of images, shape (R, n).

        Returns
        -------
        right : ndarray of float64, shape (R,)
        of : ndarray of float64, shape (2, R)
            The number of questions above the thresholds, and the number of questions whose truth is yes.
        chosen : ndarray of int, shape (R,)
            The position of the threshold chosen on all folds; -1 if there is none.
        """
        inside = [self.fold == k for k in range(self.folds)]
        above, right = (np.stack([weights[:, i] @ n[i] for i in inside]) for n in (self.above, self.right))
        yes = np.stack([weights[:, i] @ self.yes[i] for i in inside])
        rest = (n.sum(axis=0) - n for n in (above, right, yes))
        place = self._choose(*rest)
        counts = (
            np.where(place < 0, 0, np.take_along_axis(n, np.maximum(place, 0)[..., None], 2)[..., 0]).sum(0)
            for n in (right, above)
        )
        hits, n_above = (np.asarray(c, np.float64) for c in counts)
        return (
            hits,
            np.stack([n_above, yes.sum(axis=0)]),
            self._choose(above.sum(0), right.sum(0), yes.sum(0)),
        )

    def errors(self, weights: Floats32) -> Floats:
        """Return how much precision and recall under weights differ from the actual values, shape (2, R)."""
        right, of, chosen = self.cross_fitted(weights)
        total = np.stack([self.above.sum(axis=0), np.full(self.above.shape[1], self.yes.sum())])
        with np.errstate(invalid="ignore", divide="ignore"):
            actual = self.right.sum(axis=0)[chosen] / total[:, chosen]
            return np.where(chosen < 0, np.nan, right / of - actual)

    def _choose(self, above: Floats, right: Floats, yes: Floats) -> Positions:
        """Return the place of the threshold for the goal, shape (…); -1 if none reaches it."""
        there = -np.diff(above, axis=-1, append=0) > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            share = right / (above if self.goal == "precision" else yes[..., None])
            reached = there & (share >= self.least)
        last = reached.shape[-1] - 1
        if self.goal == "precision":
            place = reached.argmax(axis=-1)
        else:
            place = last - reached[..., ::-1].argmax(axis=-1)
        return np.where(reached.any(axis=-1), place, -1)


def count_reached(rows: Ints, p: AnyFloats, n: int, thresholds: Floats) -> Ints64:
    """Return for each row how many of its values are at least each threshold, shape (n, T)."""
    size = len(thresholds) + 1
    level = np.searchsorted(thresholds, p, side="right")
    counts = np.bincount(rows * size + level, minlength=n * size).reshape(n, size)
    # A value at level l reaches the first l thresholds.
    return counts[:, :0:-1].cumsum(axis=1)[:, ::-1]
