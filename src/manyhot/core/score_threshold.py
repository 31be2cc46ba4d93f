"""The minimum score of a predicted class, from a threshold on its probability.

A threshold on probabilities becomes a threshold on scores through the inverse of the function that turns
scores into probabilities, the *link*. This inverse is the logit for the sigmoids of classes that are not
mutually exclusive, and the logarithm plus the logsumexp of the image for the softmax of classes that are.
"""

from __future__ import annotations

import math
import numbers

import numpy as np
from scipy.special import expit, logit, logsumexp

from manyhot.core.array_types import AnyFloats, Floats, Ints
from manyhot.core.ranked_positives import scores_of
from manyhot.core.sets import Case
from manyhot.core.softmax import SLACK, row_sums
from manyhot.errors import InputError
from manyhot.parameters import check_one_of

LINKS = ("auto", "sigmoid", "softmax", "identity")
"""How logits become probabilities; ``identity`` for a threshold on the scores as they are stored."""


def link_of(case: Case, link: str = "auto") -> str:
    """Return the link that converts the scores of a case into probabilities; empty if the link is unknown.

    Parameters
    ----------
    link : str
        One of `LINKS`. It applies only to logits, because the link of other scores is fixed. With ``auto``,
        the link that was declared for the predictions is used. If no link was declared, the softmax is used
        if raters chose one class per image, and sigmoids are used if there are only label sets. If images
        have an original label, the softmax is used unless sigmoids fit the logits (see `sigmoids_fit`).

    Raises
    ------
    InputError
        If `link` is not one of `LINKS`.
    """
    check_one_of(link, LINKS, "There is no such link between scores and probabilities.")
    if case.scores is None or (link != "identity" and not case.has_probabilities):
        return ""
    if link != "auto" and case.kind == "logit":
        return link
    if case.kind != "logit":
        return "identity"
    if case.link:
        return case.link
    if case.labels.exclusive:
        return "softmax"
    return "softmax" if case.labels.labelled.any() and not case.once(sigmoids_fit) else "sigmoid"


_ROUNDED = 0.0005
"""Maximum rounding error of a probability that is written with three decimals."""

_OTHERS = 0.01
"""Maximum share of images whose probabilities do not add up to 1, such as images that could not be read."""


def adds_up_to_one(case: Case) -> bool:
    """Return whether the scores of all classes of an image add up to 1, as the probabilities of a softmax do.

    If scores of unknown kind add up to 1, they are treated as such probabilities. Probabilities may be
    rounded to three decimals, and up to 1 % of the images may have a different sum.
    """
    if case.scores is None or not len(case.scores):
        return False
    if case.kind == "logit":
        return link_of(case) == "softmax"
    try:
        sums = row_sums(case.scores, case.name)
    except InputError:
        return False
    off = np.abs(sums - 1) > max(SLACK, _ROUNDED * case.scores.shape[1])
    return bool(np.mean(off) <= _OTHERS)


def linked(case: Case) -> Case:
    """Return the case with the probabilities of its link (see `link_of`); the case itself has a softmax."""
    return case.independent if case.kind == "logit" and link_of(case) == "sigmoid" else case


def confidence_of(case: Case) -> Floats | None:
    """Return the probability of the top class by the link of the case, shape (n,); None if it is unknown."""
    if case.scores is None or case.kind != "logit" or link_of(case) != "sigmoid":
        return case.confidence
    best = case.top[:, 0]
    found = expit(case.scores[np.arange(len(best)), np.maximum(best, 0)].astype(np.float64))
    return np.where(best >= 0, found, 0.0)


def sigmoids_fit(case: Case) -> bool:
    """Return whether the logits look like those of a network that was trained with sigmoids.

    If a network was trained with sigmoids, the sigmoids of an image add up to about its number of valid
    classes, because the loss makes the mean of each sigmoid equal the mean of its targets. In contrast, a
    softmax does not change if all logits of an image are shifted, so nothing keeps them low: their mean is
    near 0, and their sigmoids add up to a large share of the classes. Sigmoids fit if they add up to at most
    `MOST_SIGMOIDS` times the mean number of valid classes, and to at most an eighth of all classes: with
    fewer than about twenty classes, the evidence is too weak. Sigmoids do not fit if no label set has more
    than one class, or if the logits are the logarithms of probabilities that add up to 1, as those of a
    softmax do.
    """
    sets = case.labels
    if case.scores is None or not (sets.size[sets.usable] > 1).any():
        return False
    fit = sum_of_sigmoids(case) <= min(_most_sigmoids(case), sets.n_classes / 8)
    return fit and not np.allclose(logsumexp(_seen(case).astype(np.float64), axis=1), 0, atol=1e-3)


def sum_of_sigmoids(case: Case) -> float:
    """Return the mean over images of the sum of the sigmoids of all scores."""
    return float(expit(_seen(case), dtype=np.float32).sum(axis=1, dtype=np.float64).mean())


def sigmoids_are_unlikely(case: Case) -> bool:
    """Return whether the sigmoids of an image add up to more than both limits in `sigmoids_fit`."""
    if case.scores is None or case.kind != "logit" or not case.labels.usable.any():
        return False
    return sum_of_sigmoids(case) > max(_most_sigmoids(case), case.labels.n_classes / 8)


def _seen(case: Case) -> AnyFloats:
    scores = scores_of(case)
    return scores[:: max(1, len(scores) // IMAGES_SEEN)]


def _most_sigmoids(case: Case) -> float:
    return MOST_SIGMOIDS * float(case.labels.size[case.labels.usable].mean())


MOST_SIGMOIDS = 3
"""Sigmoids fit if their sum is at most this multiple of the number of valid classes of an image. The multiple
was 0.7 to 2.4 for seven sigmoid networks with 40 classes, some of them badly calibrated. For six softmax
networks, with 8 to 1,000 classes, the sum was 0.23 to 0.94 of all classes."""

IMAGES_SEEN = 1024
"""Number of images on which sigmoids are added up. Their mean does not require all images."""


def least_score(case: Case, threshold: float, link: str = "auto") -> AnyFloats | None:
    """Return the minimum score of a predicted class, in the precision of the scores.

    Parameters
    ----------
    threshold : float
        A probability; with the link ``identity``, a score.
    link : str
        As in `link_of`.

    Returns
    -------
    ndarray of float, shape (), (n,) or (1, C), or None
        One number; one number per image with a softmax; or one number per class if the case has thresholds of
        classes, which then replace `threshold`. None if it is unknown how to convert scores into
        probabilities.

    Raises
    ------
    InputError
        If the threshold is not a number or not a probability. See also `link_of`.

    Notes
    -----
    The threshold is rounded like the scores, so that a stored score of 0.7 reaches a threshold of 0.7.
    """
    if case.thresholds is not None and case.scores is not None:
        return np.asarray(case.thresholds[None], scores_of(case).dtype)
    _check(threshold, is_probability=link != "identity")
    found, dtype = link_of(case, link), scores_of(case).dtype if case.scores is not None else None
    if not found:
        return None
    # A score above all float16 correctly becomes infinite.
    with np.errstate(over="ignore", divide="ignore"):
        if found == "sigmoid":
            return np.asarray(logit(float(threshold))).astype(dtype)
        if found == "softmax":
            return np.asarray((np.log(threshold) + case.log_total).astype(np.float32))
        return np.asarray(threshold).astype(dtype)


def in_double_precision(threshold: Floats) -> Floats:
    """Return the lowest float64 numbers that round to thresholds on float32 scores.

    A score reaches them in float64 if and only if its float32 value reaches the threshold: 0.573 is below the
    float32 value 0.5730000138.
    """
    single = threshold.astype(np.float32)
    with np.errstate(invalid="ignore"):  # infinities
        middle = (np.nextafter(single, np.float32(-np.inf)).astype(np.float64) + single) / 2
    lowest = np.where(middle.astype(np.float32) == single, middle, np.nextafter(middle, np.inf))
    return np.where(np.isfinite(threshold) & (threshold != 0), lowest, threshold)


def least_of(least: AnyFloats, images: Ints, classes: Ints) -> AnyFloats:
    """Return the minimum score of each (image, class) cell, or a single minimum for all cells."""
    if least.ndim == 2:
        return np.asarray(least[0, classes])
    return least[images] if least.ndim else least


def least_of_rows(least: AnyFloats, rows: slice) -> AnyFloats:
    """Return the minimum scores of all classes of some images, which broadcast to shape (m, C)."""
    return least if least.ndim == 2 else np.reshape(least[rows] if least.ndim else least, (-1, 1))


def _check(threshold: float, *, is_probability: bool) -> None:
    """Raise an error if a threshold is not a number, or not a probability."""
    is_number = isinstance(threshold, numbers.Real) and not math.isnan(threshold)
    if is_number and (not is_probability or 0 <= threshold <= 1):
        return
    raise InputError(
        "The threshold is not a probability." if is_number else "The threshold is not a number.",
        got=threshold if is_number else repr(threshold),
        allowed="a probability, 0 to 1, also for logits; with link='identity', a score as it is stored",
    )
