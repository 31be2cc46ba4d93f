"""How well models of raters who chose one class predict the choices on an image, from one fit to all images.

The choices on an image are predicted together, as if the model had been fitted without this image: it is
taken out of the counts of each rater, of all raters and of classes. What they contributed to the posteriors
of other images remains, so that no further fit is needed, and the result does not depend on the names or the
order of images and votes.

References
----------
Vehtari et al. 2016, Bayesian leave-one-out cross-validation approximations for Gaussian latent variable
models, JMLR 17(103), who approximate the distribution without an observation in the same way.
"""

from __future__ import annotations

import numpy as np

from manyhot.core.aggregation import TINY, normalise_logs, vote_blocks
from manyhot.core.array_types import Floats, Ints
from manyhot.core.choice_candidates import (
    Candidates,
    Fitted,
    candidate_posteriors,
    count_sorted,
    outside_candidates,
    pooled_accuracy,
)
from manyhot.core.rater_prior import RaterPrior

_EQUAL = 1e-9
"""Log-likelihoods of an image that differ by less, in nats, may differ by rounding alone."""


def predicts_better(first: Floats, second: Floats) -> bool:
    """Return whether a model predicts images better than a simpler model by more than a standard error.

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
        Expected number of images of each class, including the images of the prior.
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
