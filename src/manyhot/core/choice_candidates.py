"""Choices of one of K classes by raters with an accuracy. The correct class is a chosen class or another one.

The probability of a wrong choice is the same for all wrong classes (one-coin), or it is that of all raters (a
pooled matrix, of which only cells with choices are stored). All classes that no rater chose for an image form
a single candidate, so that time and memory do not depend on K. Votes are processed in blocks of images.

A single fit to all images also shows how well such a model predicts the choices on an image. They are
predicted jointly, as if the model had been fitted without this image: the image is removed from the counts of
each rater, of all raters and of classes. The contributions of its choices to the posteriors of other images
remain, so no further fit is needed, and the result does not depend on the names or the order of images and
votes.

References
----------
Vehtari et al. 2016, Bayesian leave-one-out cross-validation approximations for Gaussian latent variable
models, JMLR 17(103), who approximate the distribution without an observation in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from manyhot.core.aggregation import TINY, normalise_logs, vote_blocks
from manyhot.core.array_types import Bools, Floats, Ints, Ints64, Positions
from manyhot.core.dirichlet_priors import RaterPrior
from manyhot.core.distinct import distinct_keys

_RIGHT, _WRONG = 4.0, 1.0
"""Prior choices of all raters together, before any vote: raters are better than chance."""

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
        Number of votes for each candidate. Votes are in the order of candidates.
    """

    image: Ints64
    class_id: Ints64
    n: Floats
    n_images: int
    n_classes: int

    @cached_property
    def _slices(self) -> list[tuple[slice, slice, slice]]:
        edges = vote_blocks(np.bincount(self.image, self.n, self.n_images))
        at = np.searchsorted(self.image, [images.start for images, _ in edges] + [self.n_images])
        return [(images, slice(*at[i : i + 2]), votes) for i, (images, votes) in enumerate(edges)]

    def blocks(self) -> Iterator[CandidateBlock]:
        """Yield the candidates in blocks of images."""
        for images, at, votes in self._slices:
            image, n_images = self.image[at] - images.start, images.stop - images.start
            part = Candidates(image, self.class_id[at], self.n[at], n_images, self.n_classes)
            yield CandidateBlock(images, at, votes, part)

    def of_votes(self) -> Positions:
        """Return the candidate that each vote chose, shape (m,)."""
        return np.repeat(np.arange(len(self.n)), self.n.astype(np.intp))


@dataclass(frozen=True)
class CandidateBlock:
    """Candidates of consecutive images.

    Attributes
    ----------
    images, at, votes : slice
        Positions of the images, of their candidates and of their votes.
    of : Candidates
        The candidates, with images numbered from 0.
    """

    images: slice
    at: slice
    votes: slice
    of: Candidates


@dataclass(frozen=True)
class Fitted:
    """Result of `fit_candidates`.

    Attributes
    ----------
    p : ndarray of float64, shape (c,)
        Probability of each candidate. For each image, 1 minus the sum over its candidates is the total
        probability of all other classes.
    accuracy : ndarray of float64, shape (R,)
    prior : ndarray of float64, shape (K,)
    counts : ndarray of float64, shape (R, 2)
        Expected number of right and wrong choices of each rater, including earlier choices.
    rest : ndarray of float64, shape (N,)
        Total probability, for each image, of the classes that are not candidates.
    prior_images : float
        Number of images from which `prior` is estimated, including pseudo-images of the prior.
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


def run_starts(*columns: Ints) -> Positions:
    """Return the positions of the rows in sorted columns that differ from the previous row."""
    differs = np.zeros(len(columns[0]), bool)
    differs[:1] = True
    for column in columns:
        differs[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(differs)


def count_sorted(values: Ints, n: int) -> Ints64:
    """Return how often each integer below n occurs in sorted values; uses less memory than `bincount`."""
    first, counts = run_starts(values), np.zeros(n, np.int64)
    counts[values[first]] = np.diff(first, append=len(values))
    return counts


def candidates_of(image: Ints, chosen: Ints, n_images: int, n_classes: int) -> Candidates:
    """Return the candidates of each image from votes that are sorted by image and class."""
    first = run_starts(image, chosen)
    n = np.diff(first, append=len(image)).astype(np.float64)
    return Candidates(image[first].astype(np.int64), chosen[first].astype(np.int64), n, n_images, n_classes)


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
    """Fit the accuracies, the pooled matrix and the share of each class by expectation maximisation.

    Parameters
    ----------
    rater : ndarray of int, shape (m,)
    before : ndarray of float64, shape (R, 2)
        Each rater's earlier right and wrong choices, which are added to the expected choices.
    first : ndarray of float64, shape (R, 2), optional
        Right and wrong choices from which the initial accuracies are computed. By default, these follow from
        the shares of votes.
    smoothing, iterations, tolerance
        As in `manyhot.core.choices.choice_dawid_skene`.
    pooled : bool
        Whether wrong choices, given the correct class, have the same distribution for all raters.
    """
    errors = PooledErrors(of, smoothing) if pooled else SameErrors(of)
    n_votes = np.bincount(of.image, of.n, of.n_images).astype(np.float64)
    p, rest = of.n / n_votes[of.image], np.zeros(of.n_images)
    prior = np.full(of.n_classes, 1 / of.n_classes)
    last, converged, done, outside = -np.inf, False, 0, np.ones(of.n_images)
    while not converged and done < iterations:
        done += 1
        counts = before + _right_wrong(of, p, rater, len(before))
        accuracy = _accuracies(counts if done > 1 or first is None else first + before, smoothing)
        prior = _prior(of, p, rest, outside, prior, n_votes > 0, float(smoothing != 0))
        outside = outside_candidates(of, prior)
        right, wrong, likelihood = _log(accuracy), _log(1 - accuracy), 0.0
        for block, of_wrong in zip(of.blocks(), errors.logs(p), strict=True):
            by, chances = rater[block.votes], prior[block.of.class_id]
            p[block.at], rest[block.images], likelihoods = candidate_posteriors(
                block.of, right[by], wrong[by], chances, outside[block.images], *of_wrong
            )
            likelihood += float(likelihoods.sum())
        converged = bool(abs(likelihood - last) <= tolerance * len(rater))
        last = likelihood
    counts = before + _right_wrong(of, p, rater, len(before))
    n_images = np.count_nonzero(n_votes) + float(smoothing != 0)
    return Fitted(p, accuracy, prior, done, converged, last, counts, rest, n_images, errors)


def _right_wrong(of: Candidates, p: Floats, rater: Ints, n_raters: int) -> Floats:
    n_right, n = np.zeros((2, n_raters))
    for block in of.blocks():
        by = rater[block.votes]
        n_right += np.bincount(by, p[block.at][block.of.of_votes()], n_raters)
        n += np.bincount(by, minlength=n_raters)
    return np.stack([n_right, np.maximum(n - n_right, 0)], 1)


def pooled_accuracy(counts: Floats) -> Floats:
    """Return the numbers of right and wrong choices of all raters, plus those of the prior, shape (2,)."""
    return np.asarray(counts.sum(0) + np.array([_RIGHT, _WRONG]))


def _accuracies(counts: Floats, smoothing: float | None) -> Floats:
    """Return the probability that each rater is right, from expected numbers of right and wrong choices."""
    pooled = pooled_accuracy(counts)
    pooled /= pooled.sum()
    if smoothing is None:
        return RaterPrior.of(counts[:, None], pooled[None]).matrices(counts[:, None])[:, 0, 0]
    rows = counts + smoothing * pooled
    total = rows.sum(1)
    return np.where(total > 0, rows[:, 0] / np.maximum(total, TINY), 0.5)


def _prior(
    of: Candidates, p: Floats, rest: Floats, outside: Floats, prior: Floats, voted: Bools, added: float
) -> Floats:
    """Return the share of each class; `added` images have all classes alike."""
    # A class that nobody chose for an image gets its share, by the last prior, of what is left.
    per_share = rest / np.maximum(outside, TINY)
    among = np.bincount(of.class_id, per_share[of.image], of.n_classes)
    counts = np.bincount(of.class_id, p, of.n_classes)
    counts += prior * np.maximum(per_share[voted].sum() - among, 0) + added / of.n_classes
    return np.asarray(counts / counts.sum())


def outside_candidates(of: Candidates, prior: Floats) -> Floats:
    """Return the prior probability that no candidate of an image is right, shape (N,)."""
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
    """Return the probabilities of each candidate and of each image's other classes, and log-likelihoods.

    Parameters
    ----------
    right, wrong : ndarray of float64, shape (m,)
        Log-probability that each vote is right, and that each vote is wrong.
    prior, outside : ndarray of float64, shapes (c,) and (N,)
        Prior probability that the candidate is right, and that no candidate of the image is right.
    chosen, other : ndarray of float64, shapes (c,) and (N,)
        Log-probability of the wrong choices on the image if the candidate is right, and if no candidate is
        right.

    Returns
    -------
    p : ndarray of float64, shape (c,)
    rest, likelihood : ndarray of float64, shape (N,)
        The likelihood is 0 without votes.
    """
    own = of.of_votes()
    all_wrong = np.bincount(of.image, np.bincount(own, wrong, len(of.n)), of.n_images)
    gain = np.bincount(own, right - wrong, len(of.n))
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
        self._of = of

    def logs(self, p: Floats, *, left_out: bool = False) -> Iterator[tuple[Floats, Floats]]:
        """Yield the log-probability of wrong choices in each block; see `PooledErrors.logs`."""
        log = np.log(max(self._of.n_classes - 1, 1))
        for block in self._of.blocks():
            n_votes = np.bincount(block.of.image, block.of.n, block.of.n_images)
            yield -(n_votes[block.of.image] - block.of.n) * log, -n_votes * log


class PooledErrors:
    """The pooled matrix of wrong choices. Only cells with choices are stored."""

    def __init__(self, of: Candidates, smoothing: float | None) -> None:
        self._of = of
        self._added = 0.0 if smoothing == 0 else _POOLED
        unique = [distinct_keys(_confusions(block.of)[2]) for block in of.blocks()]
        self._cells = distinct_keys(np.concatenate(unique))
        self._pairs = [self._pairs_of(block.of) for block in of.blocks()]

    def _pairs_of(self, of: Candidates) -> tuple[Ints, Ints, Ints]:
        """Return the right and the wrong candidate of each pair in an image, and the cell of the matrix."""
        truth, chosen, cells = _confusions(of)
        # Half the memory of positions as NumPy returns them.
        return (
            truth.astype(np.int32),
            chosen.astype(np.int32),
            np.searchsorted(self._cells, cells).astype(np.int32),
        )

    def logs(self, p: Floats, *, left_out: bool = False) -> Iterator[tuple[Floats, Floats]]:
        """Yield each block's log-probability of wrong choices if a candidate is right, and if none is.

        Parameters
        ----------
        p : ndarray of float64, shape (c,)
            Probabilities from which the matrix is computed before the first block is yielded.
        left_out : bool
            Whether the choices on an image are excluded from the matrix that is used for this image.
        """
        of, k = self._of, self._of.n_classes
        wrong = np.bincount(of.class_id, of.n * (1 - p), k) + self._added / k
        share = wrong / max(wrong.sum(), TINY)
        n = np.zeros(len(self._cells))
        for block, (truth, chosen, cell) in zip(of.blocks(), self._pairs, strict=True):
            n += np.bincount(cell, p[block.at][truth] * block.of.n[chosen], len(n))
        row, column = np.divmod(self._cells, k)
        added = self._added * (share[column] / np.maximum(1 - share[row], TINY))
        in_row = np.bincount(row, n, k)[row]
        logs = np.log(np.maximum((n + added) / np.maximum(in_row + self._added, TINY), TINY))
        of_chosen = np.log(np.maximum(share, TINY))
        for block, (truth, chosen, cell) in zip(of.blocks(), self._pairs, strict=True):
            part, times = block.of, block.of.n[chosen]
            if left_out:
                here = p[block.at][truth] * times
                of_image = np.bincount(truth, here, len(part.n))[truth]
                total = np.maximum(in_row[cell] - of_image + self._added, TINY)
                each = np.log(np.maximum((np.maximum(n[cell] - here, 0) + added[cell]) / total, TINY))
            else:
                each = logs[cell]
            if_right = np.bincount(truth, each * times, len(part.n))
            other = np.bincount(part.image, part.n * of_chosen[part.class_id], part.n_images)
            yield if_right.astype(np.float64), other.astype(np.float64)


def _confusions(of: Candidates) -> tuple[Ints, Ints, Ints]:
    """Return each pair of candidates of an image, and the cell of the second if the first is right."""
    starts = np.searchsorted(of.image, np.arange(of.n_images + 1))
    n = np.diff(starts)[of.image]
    truth = np.repeat(np.arange(len(of.n)), n)
    chosen = np.arange(len(truth)) + np.repeat(starts[of.image] - np.cumsum(n) + n, n)
    differ = truth != chosen
    truth, chosen = truth[differ], chosen[differ]
    return truth, chosen, of.class_id[truth] * of.n_classes + of.class_id[chosen]


_EQUAL = 1e-9
"""Log-likelihoods of an image that differ by less than this, in nats, may differ only by rounding."""


def predicts_better(first: Floats, second: Floats) -> bool:
    """Return whether a model predicts the votes better than a simpler one by more than a standard error.

    Parameters
    ----------
    first, second : ndarray of float64, shape (N,)
        The log-likelihood of each image under the model and under the simpler model.

    References
    ----------
    Breiman et al. 1984, Classification and Regression Trees, section 3.4.3: the one-standard-error rule.
    """
    change = first - second
    return bool(change.sum() > np.sqrt(len(change)) * change.std() + _EQUAL * len(change))


def held_out_by_matrices(
    votes: tuple[Ints, Ints, Ints], posterior: Floats, shares: Floats, counts: Floats, pooled: Floats
) -> Floats:
    """Return the held-out log-likelihood of the choices on each image under raters' matrices.

    Parameters
    ----------
    votes : tuple of ndarray of int, shape (m,)
        Image, rater and chosen class, sorted by image.
    posterior : ndarray of float64, shape (K, N)
    shares : ndarray of float64, shape (K,)
        Expected number of images in each class, including the images of the prior.
    counts : ndarray of float64, shape (R, K, K)
        Expected choices of each rater, including earlier choices.
    pooled : ndarray of float64, shape (K, K)
        Choices of all raters, including the choices of the prior.

    Returns
    -------
    ndarray of float64, shape (N,)
        0 without votes.
    """
    of_raters = RaterPrior.of(counts, pooled / pooled.sum(1, keepdims=True))
    (n_classes, n_images), totals = posterior.shape, counts.sum(2)
    found = np.zeros(n_images)
    for _, block in vote_blocks(count_sorted(votes[0], n_images), n_classes):
        image, rater, chosen = (column[block] for column in votes)
        logs = _logs(of_raters, posterior[:, image].T, rater, chosen, (counts, totals), pooled)
        images, first = np.unique(image, return_index=True)
        if len(images):
            prior = np.maximum(shares[:, None] - posterior[:, images], TINY)
            scores = np.add.reduceat(logs, first).T + np.log(prior / (shares.sum() - 1))
            found[images] = normalise_logs(scores)[1]
    return found


def _logs(
    prior: RaterPrior,
    p: Floats,
    rater: Ints,
    chosen: Ints,
    counts_and_totals: tuple[Floats, Floats],
    pooled: Floats,
) -> Floats:
    """Return the log-probability of m choices under each class, without their images, shape (m, K)."""
    (counts, totals), n_classes = counts_and_totals, p.shape[1]
    strength = float(prior.cells[0].sum(1)[0])
    n = np.maximum(counts[rater, :, chosen] - p, 0)
    total = np.maximum(totals[rater] - p, 0)
    mean = (pooled[:, chosen].T - p) / (pooled.sum(1) - p)
    # Raters like the others, and raters who answer in any way.
    of_kinds = np.stack([(n + strength * mean) / (total + strength), (n + 1) / (total + n_classes)])
    kind = _kinds(prior, rater, (p * np.log(np.maximum(of_kinds, TINY))).sum(2))
    return np.asarray(np.log(np.maximum((kind[..., None] * of_kinds).sum(0), TINY)))


def _kinds(prior: RaterPrior, rater: Ints, likelihood: Floats) -> Floats:
    """Return the probability of each kind of rater without one choice, which made a kind more probable."""
    kind = prior.kind[rater].T / np.exp(likelihood)
    return np.asarray(kind / kind.sum(0))


def held_out_by_accuracy(of: Candidates, rater: Ints, fit: Fitted) -> Floats:
    """Return the held-out log-likelihood of the choices on each image under raters' accuracies.

    Parameters
    ----------
    rater : ndarray of int, shape (m,)

    Returns
    -------
    ndarray of float64, shape (N,)
        0 without votes.
    """
    pooled = pooled_accuracy(fit.counts)
    prior = RaterPrior.of(fit.counts[:, None], (pooled / pooled.sum())[None])
    n_images, found = fit.prior_images - 1, np.zeros(of.n_images)
    for block, wrong in zip(of.blocks(), fit.errors.logs(fit.p, left_out=True), strict=True):
        part, p, by = block.of, fit.p[block.at], rater[block.votes]
        accuracy = _accuracy(prior, p[part.of_votes()], by, fit.counts, pooled)
        rates = np.log(np.maximum(accuracy, TINY)), np.log(np.maximum(1 - accuracy, TINY))
        chances = (fit.prior[part.class_id] * fit.prior_images - p) / n_images
        none_right = outside_candidates(part, fit.prior) * fit.prior_images - fit.rest[block.images]
        found[block.images] = candidate_posteriors(part, *rates, chances, none_right / n_images, *wrong)[2]
    return found


def _accuracy(prior: RaterPrior, right: Floats, rater: Ints, counts: Floats, pooled: Floats) -> Floats:
    """Return the probability that each of m votes is right, without their images."""
    n_right, n_wrong = np.maximum(counts[rater] - np.stack([right, 1 - right], 1), 0).T
    strength, n = float(prior.cells[0].sum()), n_right + n_wrong
    mean = (pooled[0] - right) / (pooled.sum() - 1)
    of_kinds = np.stack([(n_right + strength * mean) / (n + strength), (n_right + 1) / (n + 2)])
    kind = _kinds(prior, rater, right * np.log(of_kinds) + (1 - right) * np.log1p(-of_kinds))
    return np.asarray((kind * of_kinds).sum(0))
