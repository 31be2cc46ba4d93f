"""Choices of one class of K by raters with an accuracy: the right class is one that was chosen, or another.

The probability of a wrong choice is the same for all wrong classes (one-coin), or it is that of all raters (a
pooled matrix, of which only cells with choices are stored). All classes that no rater chose for an image are
one candidate together, so that time and memory do not depend on K.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import typing as npt

from manyhot.core.aggregation import TINY
from manyhot.core.array_types import Floats, Ints
from manyhot.core.rater_prior import shrunk_rows

_RIGHT, _WRONG = 4.0, 1.0
"""Choices of all raters together before any vote: they are better than chance."""

_POOLED = 10.0
"""Wrong choices, distributed as with all right classes, that are added to each row of the pooled matrix."""


@dataclass(frozen=True)
class Candidates:
    """The classes that raters chose for each image.

    Attributes
    ----------
    image, class_id : ndarray of int64, shape (c,)
        Image and class of each candidate, sorted.
    n : ndarray of float64, shape (c,)
        Number of votes for it.
    own : ndarray of int, shape (m,)
        The candidate that each vote chose.
    n_images, n_classes : int
    """

    image: npt.NDArray[np.int64]
    class_id: npt.NDArray[np.int64]
    n: Floats
    own: npt.NDArray[np.intp]
    n_images: int
    n_classes: int


@dataclass(frozen=True)
class Fitted:
    """Result of `fit_candidates`.

    Attributes
    ----------
    p : ndarray of float64, shape (c,)
        Probability of each candidate; what is missing to 1 in an image is that of all other classes.
    accuracy : ndarray of float64, shape (R,)
    prior : ndarray of float64, shape (K,)
    iterations : int
    converged : bool
    log_likelihood : float
    """

    p: Floats
    accuracy: Floats
    prior: Floats
    iterations: int
    converged: bool
    log_likelihood: float


def candidates_of(image: Ints, chosen: Ints, n_images: int, n_classes: int) -> Candidates:
    """Return the candidates of each image."""
    cells = image.astype(np.int64) * n_classes + chosen
    unique, own, n = np.unique(cells, return_inverse=True, return_counts=True)
    return Candidates(unique // n_classes, unique % n_classes, n.astype(np.float64), own, n_images, n_classes)


def fit_candidates(
    of: Candidates,
    rater: Ints,
    *,
    before: Floats,
    first: Floats | None,
    smoothing: float | None,
    iterations: int,
    tolerance: float,
    pooled: bool,
) -> Fitted:
    """Fit accuracies, the pooled matrix and the share of each class by expectation maximisation.

    Parameters
    ----------
    of : Candidates
    rater : ndarray of int, shape (m,)
    before : ndarray of float64, shape (R, 2)
        Earlier right and wrong choices of each rater, which are added to those expected.
    first : ndarray of float64, shape (R, 2), optional
        Right and wrong choices from which the first accuracies are computed; by default, those of the shares
        of votes.
    smoothing, iterations, tolerance
        As in `manyhot.core.choices.choice_dawid_skene`.
    pooled : bool
        Whether wrong choices have the distribution of all raters, given the right class.
    """
    errors = _Errors(of, smoothing) if pooled else None
    n_votes = np.bincount(of.image, of.n, of.n_images).astype(np.float64)
    p, rest = of.n / n_votes[of.image], np.zeros(of.n_images)
    prior = np.full(of.n_classes, 1 / of.n_classes)
    last, converged, done, outside = -np.inf, False, 0, np.ones(of.n_images)
    while not converged and done < iterations:
        done += 1
        counts = before + _right_wrong(p[of.own], rater, len(before))
        accuracy = _accuracies(counts if done > 1 or first is None else first + before, smoothing)
        prior = _prior(of, p, rest, outside, prior, n_votes > 0, float(smoothing != 0))
        outside = np.maximum(1 - np.bincount(of.image, prior[of.class_id], of.n_images), 0)
        chosen, other = errors.logs(p) if errors else _alike(of, n_votes)
        p, rest, likelihood = _posterior(of, rater, accuracy, prior, outside, chosen, other)
        converged = bool(abs(likelihood - last) <= tolerance * len(of.own))
        last = likelihood
    return Fitted(p, accuracy, prior, done, converged, last)


def _right_wrong(right: Floats, rater: Ints, n_raters: int) -> Floats:
    n_right = np.bincount(rater, right, n_raters)
    return np.stack([n_right, np.maximum(np.bincount(rater, minlength=n_raters) - n_right, 0)], 1)


def _accuracies(counts: Floats, smoothing: float | None) -> Floats:
    """Return the probability that each rater is right, from expected numbers of right and wrong choices."""
    pooled = counts.sum(0) + np.array([_RIGHT, _WRONG])
    pooled /= pooled.sum()
    if smoothing is None:
        return shrunk_rows(counts[:, None], pooled[None])[:, 0, 0]
    rows = counts + smoothing * pooled
    total = rows.sum(1)
    return np.where(total > 0, rows[:, 0] / np.maximum(total, TINY), 0.5)


def _prior(
    of: Candidates,
    p: Floats,
    rest: Floats,
    outside: Floats,
    prior: Floats,
    voted: npt.NDArray[np.bool_],
    added: float,
) -> Floats:
    """Return the share of each class; `added` images have all classes alike."""
    # A class that nobody chose for an image gets its share, by the last prior, of what is left.
    per_share = rest / np.maximum(outside, TINY)
    among = np.bincount(of.class_id, per_share[of.image], of.n_classes)
    counts = np.bincount(of.class_id, p, of.n_classes)
    counts += prior * np.maximum(per_share[voted].sum() - among, 0) + added / of.n_classes
    return np.asarray(counts / counts.sum())


def _alike(of: Candidates, n_votes: Floats) -> tuple[Floats, Floats]:
    """Return the logarithm of the probability of wrong choices if all wrong classes are alike."""
    log = np.log(max(of.n_classes - 1, 1))
    return -(n_votes[of.image] - of.n) * log, -n_votes * log


def _posterior(
    of: Candidates,
    rater: Ints,
    accuracy: Floats,
    prior: Floats,
    outside: Floats,
    chosen: Floats,
    other: Floats,
) -> tuple[Floats, Floats, float]:
    """Return the probability of each candidate and of all other classes of each image, and the likelihood."""
    right, wrong = np.log(np.maximum(accuracy, TINY)), np.log(np.maximum(1 - accuracy, TINY))
    all_wrong = np.bincount(of.image, np.bincount(of.own, wrong[rater], len(of.n)), of.n_images)
    gain = np.bincount(of.own, (right - wrong)[rater], len(of.n))
    scores = np.log(np.maximum(prior[of.class_id], TINY)) + gain + chosen
    rest = np.log(np.maximum(outside, TINY)) + other
    most = rest.copy()
    np.maximum.at(most, of.image, scores)
    p, rest = np.exp(scores - most[of.image]), np.exp(rest - most)
    total = np.bincount(of.image, p, of.n_images) + rest
    likelihood = float(
        (most + all_wrong + np.log(total))[np.bincount(of.image, minlength=of.n_images) > 0].sum()
    )
    return p / total[of.image], rest / total, likelihood


class _Errors:
    """The pooled matrix of wrong choices, of which only cells with choices are stored."""

    def __init__(self, of: Candidates, smoothing: float | None) -> None:
        self._of = of
        self._added = 0.0 if smoothing == 0 else _POOLED
        starts = np.searchsorted(of.image, np.arange(of.n_images + 1))
        n = np.diff(starts)[of.image]
        truth = np.repeat(np.arange(len(of.n)), n)
        chosen = np.arange(len(truth)) + np.repeat(starts[of.image] - np.cumsum(n) + n, n)
        differ = truth != chosen
        self._truth, self._chosen = truth[differ], chosen[differ]
        cells = of.class_id[self._truth] * of.n_classes + of.class_id[self._chosen]
        self._cells, self._cell = np.unique(cells, return_inverse=True)

    def logs(self, p: Floats) -> tuple[Floats, Floats]:
        """Return the log-probability of wrong choices if each candidate is right, and if none is."""
        of, k = self._of, self._of.n_classes
        wrong = np.bincount(of.class_id, of.n * (1 - p), k) + self._added / k
        share = wrong / max(wrong.sum(), TINY)
        n = np.bincount(self._cell, p[self._truth] * of.n[self._chosen], len(self._cells))
        row, column = np.divmod(self._cells, k)
        expected = share[column] / np.maximum(1 - share[row], TINY)
        matrix = (n + self._added * expected) / np.maximum(np.bincount(row, n, k) + self._added, TINY)[row]
        logs = np.log(np.maximum(matrix, TINY))[self._cell]
        if_right = np.bincount(self._truth, logs * of.n[self._chosen], len(of.n))
        of_chosen = np.log(np.maximum(share, TINY))[of.class_id]
        other = np.bincount(of.image, of.n * of_chosen, of.n_images)
        return if_right.astype(np.float64), other.astype(np.float64)
