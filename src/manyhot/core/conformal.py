"""Split-conformal prediction sets: classes above a probability, chosen so that they cover what is there.

What a set must cover: the original label (``label``), at least one class of the label set (``one``), or all
of them (``all``). A threshold from n images that were not trained on covers the next image of the same kind
with a chance of at least 1 - alpha, on average over such draws; nothing is promised for a class, or for other
data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manyhot.core.sets import NO_LABEL, YES, Case
from manyhot.core.softmax import check_lists
from manyhot.errors import InputError

COVER = ("label", "one", "all")
"""What prediction sets may have to cover."""


@dataclass(frozen=True)
class Covered:
    """What prediction sets did on some images.

    Attributes
    ----------
    covered : ndarray of bool, shape (m,)
    size : ndarray of int, shape (m,)
        Classes in each set; 0 for an empty one.
    """

    covered: npt.NDArray[np.bool_]
    size: npt.NDArray[np.int64]


def countable(case: Case, cover: str) -> npt.NDArray[np.bool_]:
    """Return the images that have what is to be covered, shape (n,)."""
    if cover not in COVER:
        raise InputError("This is nothing to cover.", got=cover, allowed=", ".join(COVER))
    return case.labels.labelled if cover == "label" else case.labels.scored


def check_alpha(alpha: float) -> None:
    """Refuse a share that may be missed that is none.

    Raises
    ------
    InputError
    """
    if not 0 < alpha < 1:
        raise InputError("Alpha is the share that may be missed.", got=alpha, allowed="above 0, below 1")


def fit_threshold(case: Case, images: npt.NDArray[np.integer], *, cover: str, alpha: float) -> float:
    """Return the probability from which classes are in the prediction set.

    It is the k-th smallest of the probabilities that would just have covered each image, k being the whole
    part of alpha (n + 1): with k = 0, too few images for this alpha, the set is all classes.

    Parameters
    ----------
    case : Case
    images : ndarray of int
        To fit on; those without what is to be covered are left out.
    cover : str
        One of `COVER`.
    alpha : float
        The share that may be missed, above 0 and below 1.

    Raises
    ------
    InputError
        If there is no probability, or if lists of the best classes end above the threshold.

    References
    ----------
    Vovk et al. 2005; Sadinle, Lei and Wasserman 2019, doi 10.1080/01621459.2017.1395341, for thresholds of
    probability.
    """
    check_alpha(alpha)
    check_listed(case)
    images = images[countable(case, cover)[images]]
    if not len(images):
        raise InputError("There is nothing to fit to.", got="no image", allowed="images with labels")
    k = int(np.floor(alpha * (len(images) + 1) + 1e-9))
    threshold = float(np.partition(_needed(case, cover)[images], k - 1)[k - 1]) if k else 0.0
    if case.listed is not None:
        _check_ends(case, threshold)
    return threshold


def predict_sets(case: Case, images: npt.NDArray[np.integer], *, cover: str, threshold: float) -> Covered:
    """Return whether the sets of some images, which all must count, cover what is there, and their sizes."""
    if case.listed is not None:
        size = ((case.listed >= threshold) & (case.top != NO_LABEL))[images].sum(axis=1)
    else:
        size = np.empty(len(case.labels), np.int64)
        for start, block in case.probability_blocks():
            size[start : start + len(block)] = (block >= threshold).sum(axis=1)
        size = size[images]
    return Covered(_needed(case, cover)[images] >= threshold, size.astype(np.int64))


def _needed(case: Case, cover: str) -> npt.NDArray[np.float64]:
    """Return the highest threshold that covers each image, shape (n,); 0 where its class is not listed."""
    labels = case.labels
    if cover == "label":
        image = np.flatnonzero(labels.labelled)
        classes = labels.label[image]
    else:
        chosen = labels.state == YES
        image, classes = labels.rows[chosen], labels.classes[chosen]
    p = case.probability_of(image, classes)
    found = np.full(len(labels), np.inf if cover == "all" else 0.0)
    (np.minimum if cover == "all" else np.maximum).at(found, image, p)
    return found


def check_listed(case: Case) -> None:
    """Refuse lists whose probabilities are none, or add up to more than 1.

    Raises
    ------
    InputError
    """
    if case.listed is not None:
        check_lists(_listed(case), case.name)


def _listed(case: Case) -> npt.NDArray[np.floating]:
    """Return the probabilities of the listed classes, 0 where a short list has none, shape (n, k)."""
    assert case.listed is not None  # for the type checker
    return np.where(case.top != NO_LABEL, case.listed, 0)


def _check_ends(case: Case, threshold: float) -> None:
    """Refuse a threshold that classes outside the lists may reach."""
    listed, there = _listed(case), case.top != NO_LABEL
    ends = np.where(there, listed, np.inf).min(axis=1)
    # What is left of the whole bounds each class that is not listed, too.
    bound = np.minimum(ends, 1 - listed.sum(axis=1))[there.sum(axis=1) < case.labels.n_classes]
    if len(bound) and threshold <= (longest := float(max(bound.max(), 0))):
        raise InputError(
            "These prediction sets may hold classes that are not in the lists of the best ones.",
            got=f"a threshold of {threshold:.3g}; classes outside the lists have up to {longest:.3g}",
            allowed="a threshold above what classes outside the lists may have",
            do="give scores of all classes or longer lists, or a larger alpha",
        )
