"""Split-conformal prediction sets: the classes whose probability is at least a threshold.

Sets cover the original label (``label``), at least one class of the label set (``one``), or all of its
classes (``all``). With a threshold from n images that the model was not trained on, the set of the next image
of the same distribution covers with a probability of at least 1 - alpha, on average over such draws. There is
no guarantee for a single class, or for other data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import AnyFloats, Bools, Floats, Ints
from manyhot.core.sets import NO_LABEL, YES, Case
from manyhot.core.softmax import check_lists
from manyhot.errors import InputError
from manyhot.parameters import check_one_of, check_share

COVERS = ("label", "one", "all")
"""What prediction sets can cover."""


@dataclass(frozen=True)
class Covered:
    """The coverage and the sizes of prediction sets.

    Attributes
    ----------
    covered : ndarray of bool, shape (m,)
    size : ndarray of int, shape (m,)
        Number of classes in each set; 0 for an empty one.
    """

    covered: Bools
    size: npt.NDArray[np.int64]


def countable(case: Case, cover: str) -> Bools:
    """Return which images have labels to cover, shape (n,)."""
    check_one_of(cover, COVERS, "Prediction sets cannot cover this.")
    return case.labels.labelled if cover == "label" else case.labels.scored


def check_alpha(alpha: float) -> None:
    """Check a miscoverage rate.

    Raises
    ------
    InputError
        If `alpha` is not above 0 and below 1.
    """
    check_share(alpha, "Alpha is not a miscoverage rate.", one=False, allowed="above 0, below 1")


def fit_threshold(case: Case, images: Ints, *, cover: str, alpha: float) -> float:
    """Return the minimum probability of classes in the prediction set.

    For each of the n images, take the highest threshold at which its prediction set covers its labels. The
    result is the k-th smallest of these thresholds, where k is the integer part of alpha (n + 1). If k is 0,
    there are too few images for this alpha, and prediction sets contain all classes.

    Parameters
    ----------
    case : Case
    images : ndarray of int
        Images to fit on. Images without labels to cover are left out.
    cover : str
        One of `COVERS`.
    alpha : float
        The miscoverage rate, above 0 and below 1.

    Raises
    ------
    InputError
        If there are no probabilities, or if lists of top classes end above the threshold.

    References
    ----------
    Vovk et al. 2005; Sadinle, Lei and Wasserman 2019, doi 10.1080/01621459.2017.1395341, for thresholds of
    probability.
    """
    check_alpha(alpha)
    check_listed(case)
    images = images[countable(case, cover)[images]]
    if not len(images):
        raise InputError("No image has labels to fit to.", got="no image", allowed="images with labels")
    k = int(np.floor(alpha * (len(images) + 1) + 1e-9))
    threshold = float(np.partition(_needed(case, cover)[images], k - 1)[k - 1]) if k else 0.0
    if case.listed is not None:
        _check_ends(case, threshold)
    return threshold


def predict_sets(case: Case, images: Ints, *, cover: str, threshold: float) -> Covered:
    """Return, for each image, whether the prediction set covers the labels, and the size of the set.

    All `images` must be `countable`.
    """
    if case.listed is not None:
        size = ((case.listed >= threshold) & (case.top != NO_LABEL))[images].sum(axis=1)
    else:
        size = np.empty(len(case.labels), np.int64)
        for start, block in case.probability_blocks():
            size[start : start + len(block)] = (block >= threshold).sum(axis=1)
        size = size[images]
    return Covered(_needed(case, cover)[images] >= threshold, size.astype(np.int64))


def _needed(case: Case, cover: str) -> Floats:
    """Return the highest threshold that covers each image, shape (n,); 0 if its class is not listed."""
    labels = case.labels
    if cover == "label":
        image = np.flatnonzero(labels.labelled)
        classes = labels.label[image]
    else:
        chosen = labels.state == YES
        image, classes = labels.rows[chosen], labels.classes[chosen]
    p = case.probability_of(image, classes)
    highest = np.full(len(labels), np.inf if cover == "all" else 0.0)
    (np.minimum if cover == "all" else np.maximum).at(highest, image, p)
    return highest


def check_listed(case: Case) -> None:
    """Check the probabilities of lists.

    Raises
    ------
    InputError
        If a number is not a probability, or the probabilities of an image add up to more than 1.
    """
    if case.listed is not None:
        check_lists(_listed(case), case.name)


def _listed(case: Case) -> AnyFloats:
    """Return the probabilities of the listed classes, shape (n, k); 0 after the end of a short list."""
    assert case.listed is not None  # for the type checker
    return np.where(case.top != NO_LABEL, case.listed, 0)


def _check_ends(case: Case, threshold: float) -> None:
    """Check that classes outside the lists are below the threshold."""
    listed, there = _listed(case), case.top != NO_LABEL
    ends = np.where(there, listed, np.inf).min(axis=1)
    # The remaining probability is also a bound for each class that is not listed.
    bound = np.minimum(ends, 1 - listed.sum(axis=1))[there.sum(axis=1) < case.labels.n_classes]
    if len(bound) and threshold <= (longest := float(max(bound.max(), 0))):
        raise InputError(
            "These prediction sets may contain classes that are not in the lists of top classes.",
            got=f"a threshold of {threshold:.3g}; probabilities of up to {longest:.3g} outside the lists",
            allowed="a threshold above the probabilities of classes outside the lists",
            do="use scores of all classes or longer lists, or a larger alpha",
        )
