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
    counts : ndarray of float64, shape (R, 2)
        Expected right and wrong choices of each rater, with earlier ones.
    rest : ndarray of float64, shape (N,)
        Probability of all other classes of each image.
    prior_images : float
        Number of images from which `prior` is estimated, with those of the prior.
    errors : SameErrors or PooledErrors
        How wrong choices are distributed.
    """

    p: Floats
    accuracy: Floats
    prior: Floats
    iterations: int
    converged: bool
    log_likelihood: float
    counts: Floats
    rest: Floats
    prior_images: float
    errors: SameErrors | PooledErrors


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
    errors = PooledErrors(of, smoothing) if pooled else SameErrors(of)
    n_votes = np.bincount(of.image, of.n, of.n_images).astype(np.float64)
    p, rest = of.n / n_votes[of.image], np.zeros(of.n_images)
    prior = np.full(of.n_classes, 1 / of.n_classes)
    last, converged, done, outside = -np.inf, False, 0, np.ones(of.n_images)
    while not converged and done < iterations:
        done += 1
        counts = before + _right_wrong(p[of.own], rater, len(before))
        accuracy = _accuracies(counts if done > 1 or first is None else first + before, smoothing)
        prior = _prior(of, p, rest, outside, prior, n_votes > 0, float(smoothing != 0))
        outside = outside_candidates(of, prior)
        chances, wrong = prior[of.class_id], errors.logs(p)
        rates = _log(accuracy)[rater], _log(1 - accuracy)[rater]
        p, rest, likelihoods = candidate_posteriors(of, *rates, chances, outside, *wrong)
        likelihood = float(likelihoods.sum())
        converged = bool(abs(likelihood - last) <= tolerance * len(of.own))
        last = likelihood
    counts = before + _right_wrong(p[of.own], rater, len(before))
    n_images = np.count_nonzero(n_votes) + float(smoothing != 0)
    return Fitted(p, accuracy, prior, done, converged, last, counts, rest, n_images, errors)


def _right_wrong(right: Floats, rater: Ints, n_raters: int) -> Floats:
    n_right = np.bincount(rater, right, n_raters)
    return np.stack([n_right, np.maximum(np.bincount(rater, minlength=n_raters) - n_right, 0)], 1)


def pooled_accuracy(counts: Floats) -> Floats:
    """Return right and wrong choices of all raters together, shape (2,), with those of the prior."""
    return np.asarray(counts.sum(0) + np.array([_RIGHT, _WRONG]))


def _accuracies(counts: Floats, smoothing: float | None) -> Floats:
    """Return the probability that each rater is right, from expected numbers of right and wrong choices."""
    pooled = pooled_accuracy(counts)
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


def outside_candidates(of: Candidates, prior: Floats) -> Floats:
    """Return the probability, before any vote, that no candidate of an image is right, shape (N,)."""
    return np.maximum(1 - np.bincount(of.image, prior[of.class_id], of.n_images), 0)


def _log(probability: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(probability, TINY)))


def candidate_posteriors(
    of: Candidates,
    right: Floats,
    wrong: Floats,
    prior: Floats,
    outside: Floats,
    chosen: Floats,
    other: Floats,
) -> tuple[Floats, Floats, Floats]:
    """Return the probability of each candidate, and of all other classes of each image, and log-likelihoods.

    Parameters
    ----------
    of : Candidates
    right, wrong : ndarray of float64, shape (m,)
        Log-probability that each vote is right, and that it is wrong.
    prior, outside : ndarray of float64, shapes (c,) and (N,)
        Probability, before any vote, that the candidate is right, and that none of the image is.
    chosen, other : ndarray of float64, shapes (c,) and (N,)
        Log-probability of the wrong choices on the image if the candidate is right, and if none is.

    Returns
    -------
    p : ndarray of float64, shape (c,)
    rest, likelihood : ndarray of float64, shape (N,)
        The likelihood is 0 without votes.
    """
    all_wrong = np.bincount(of.image, np.bincount(of.own, wrong, len(of.n)), of.n_images)
    gain = np.bincount(of.own, right - wrong, len(of.n))
    scores = _log(prior) + gain + chosen
    rest = _log(outside) + other
    most = rest.copy()
    np.maximum.at(most, of.image, scores)
    p, rest = np.exp(scores - most[of.image]), np.exp(rest - most)
    total = np.bincount(of.image, p, of.n_images) + rest
    voted = np.bincount(of.image, minlength=of.n_images) > 0
    return p / total[of.image], rest / total, np.where(voted, most + all_wrong + np.log(total), 0)


class SameErrors:
    """All wrong classes are chosen alike."""

    def __init__(self, of: Candidates) -> None:
        n_votes, log = np.bincount(of.image, of.n, of.n_images), np.log(max(of.n_classes - 1, 1))
        self._logs = -(n_votes[of.image] - of.n) * log, -n_votes * log

    def logs(self, p: Floats, *, left_out: bool = False) -> tuple[Floats, Floats]:
        """Return the log-probability of wrong choices if each candidate is right, and if none is."""
        return self._logs


class PooledErrors:
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

    def logs(self, p: Floats, *, left_out: bool = False) -> tuple[Floats, Floats]:
        """Return the log-probability of wrong choices if each candidate is right, and if none is.

        Parameters
        ----------
        p : ndarray of float64, shape (c,)
        left_out : bool
            Whether the choices on an image are not counted for this image.
        """
        of, k = self._of, self._of.n_classes
        wrong = np.bincount(of.class_id, of.n * (1 - p), k) + self._added / k
        share = wrong / max(wrong.sum(), TINY)
        here = p[self._truth] * of.n[self._chosen]
        n = np.bincount(self._cell, here, len(self._cells))
        row, column = np.divmod(self._cells, k)
        expected = share[column] / np.maximum(1 - share[row], TINY)
        in_row = np.bincount(row, n, k)
        if left_out:
            of_image = np.bincount(self._truth, here, len(of.n))[self._truth]
            added = self._added * expected[self._cell]
            cells = (np.maximum(n[self._cell] - here, 0) + added) / np.maximum(
                in_row[row][self._cell] - of_image + self._added, TINY
            )
        else:
            matrix = (n + self._added * expected) / np.maximum(in_row + self._added, TINY)[row]
            cells = matrix[self._cell]
        if_right = np.bincount(self._truth, np.log(np.maximum(cells, TINY)) * of.n[self._chosen], len(of.n))
        of_chosen = np.log(np.maximum(share, TINY))[of.class_id]
        other = np.bincount(of.image, of.n * of_chosen, of.n_images)
        return if_right.astype(np.float64), other.astype(np.float64)
