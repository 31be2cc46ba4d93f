"""Prediction sets with a guarantee: the classes whose probability is at least a threshold.

Split-conformal sets cover the original label (``label``), at least one class of the label set (``one``), or
all of its classes (``all``). If the threshold is computed from n images that the model was not trained on,
the set of a further image from the same distribution covers its labels with a probability of at least 1 -
alpha, on average over draws of all these images. There is no guarantee for single classes or for other data.

If labels have probabilities, sets can cover what raters might have answered: a class drawn with these
probabilities (``drawn``), or all classes of a drawn label set (``drawn_all``).

Sets with guaranteed precision contain valid classes: the expected share of valid classes in a set is at least
the precision, with a confidence of 1 - delta over draws of the images that the threshold is chosen on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import typing as npt
from scipy.special import bdtr, expit, xlogy

from manyhot.core.array_types import AnyFloats, Bools, Floats, Ints, Ints64
from manyhot.core.sets import NO_LABEL, YES, Case, LabelSets
from manyhot.core.softmax import check_lists
from manyhot.core.threshold_curve import count_reached
from manyhot.errors import InputError
from manyhot.parameters import check_count, check_one_of, check_share

COVERS = ("label", "one", "all")
"""What prediction sets can cover if there are labels."""

DRAWN = ("drawn", "drawn_all")
"""What prediction sets can cover if labels have probabilities."""

DRAWS = 10
"""Labels drawn for each image."""

THRESHOLDS = expit(np.arange(-12, 12.25, 0.25))
"""Thresholds that are tested for a guaranteed precision, ascending. They must not depend on the labels."""

_PILOT = 4
"""One in this many images is used to decide at which threshold the tests begin, and is not tested on."""


@dataclass(frozen=True)
class Covered:
    """The coverage and the sizes of prediction sets.

    Attributes
    ----------
    covered : ndarray, shape (m,)
        Whether each set covers the labels; for labels drawn at random, the probability that the set covers
        them.
    size : ndarray of int, shape (m,)
        Number of classes in each set; 0 for an empty set.
    """

    covered: Bools | Floats
    size: Ints64


def countable(case: Case, cover: str) -> Bools:
    """Return which images have labels to cover, shape (n,)."""
    check_one_of(cover, (*COVERS, *DRAWN), "Prediction sets cannot cover this.")
    if cover in DRAWN:
        return _Plausible.of(case.labels).countable
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

    Each of the n images has a highest threshold at which its prediction set covers its labels. The result is
    the k-th smallest of these thresholds, where k is the integer part of alpha (n + 1). If k is 0, there are
    too few images for this alpha, and prediction sets contain all classes.

    Parameters
    ----------
    images : ndarray of int
        Images used for fitting. Images without labels to cover are left out.
    cover : str
        One of `COVERS`.
    alpha : float
        The miscoverage rate, above 0 and below 1.

    Raises
    ------
    InputError
        If there are no probabilities, or if lists of top classes end before the threshold is reached.

    References
    ----------
    Vovk et al. 2005; Sadinle, Lei and Wasserman 2019, doi 10.1080/01621459.2017.1395341, for probability
    thresholds.
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
    if cover in DRAWN:
        covered = expected_coverage(case, images, cover=cover, threshold=threshold)
        return Covered(covered, size.astype(np.int64))
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
        If a number is not a probability, or if the probabilities of an image add up to more than 1.
    """
    if case.listed is not None:
        check_lists(_listed(case), case.name)


def _listed(case: Case) -> AnyFloats:
    """Return the probabilities of the listed classes, shape (n, k); 0 after the end of a short list."""
    assert case.listed is not None  # for the type checker
    return np.where(case.top != NO_LABEL, case.listed, 0)


def _not_listed(case: Case) -> float:
    """Return the highest probability that a class outside the lists may have; -1 if all are listed."""
    listed, there = _listed(case), case.top != NO_LABEL
    ends = np.where(there, listed, np.inf).min(axis=1)
    # The remaining probability is also a bound for each class that is not listed.
    bound = np.minimum(ends, 1 - listed.sum(axis=1))[there.sum(axis=1) < case.labels.n_classes]
    return float(max(bound.max(), 0)) if len(bound) else -1.0


def _check_ends(case: Case, threshold: float) -> None:
    """Check that classes outside the lists are below the threshold."""
    if threshold <= (longest := _not_listed(case)):
        raise InputError(
            "These prediction sets may contain classes that are not in the lists of top classes.",
            got=f"a threshold of {threshold:.3g}; probabilities of up to {longest:.3g} outside the lists",
            allowed="a threshold above the probabilities of classes outside the lists",
            do="use scores of all classes or longer lists, or a larger alpha",
        )


@dataclass(frozen=True)
class Certified:
    """A threshold whose prediction sets have a guaranteed precision.

    Attributes
    ----------
    threshold : float
        The lowest certified threshold; NaN if none was certified.
    n_tested : int
        Number of images, each with a known label set and a non-empty prediction set, on which the threshold
        was tested. If no threshold was certified, this is the number for the first threshold.
    n_needed : int or None
        Number of images for fitting that would suffice to certify a threshold at the measured precisions.
        None if the measured precision is too low at every threshold.
    """

    threshold: float
    n_tested: int
    n_needed: int | None


def hoeffding_bentkus(risk: npt.ArrayLike, n: npt.ArrayLike, alpha: float) -> Floats:
    """Return the p-value of the hypothesis that the expectation of losses between 0 and 1 is above alpha.

    Parameters
    ----------
    risk, n : array-like
        The mean of n independent losses, and n. If n is 0, the p-value is 1.
    alpha : float
        Above 0 and below 1.

    References
    ----------
    Bates et al. 2021, doi 10.1145/3478535, Theorem 3; Angelopoulos et al. 2021, arXiv 2110.01052, Proposition
    1: the smaller of Hoeffding's bound, in the form of a Kullback-Leibler divergence, and Bentkus's bound.
    """
    risk, n = np.asarray(risk, np.float64), np.asarray(n, np.float64)
    hoeffding = np.exp(-n * _divergence(np.minimum(risk, alpha), alpha))
    # Rounding must not push a whole number of losses to the next one.
    bentkus = np.e * bdtr(np.ceil(n * risk - 1e-9), np.maximum(n, 1).astype(np.int64), alpha)
    return np.where(n > 0, np.minimum(np.minimum(hoeffding, bentkus), 1.0), 1.0)


def _divergence(risk: Floats, alpha: float) -> Floats:
    found: Floats = xlogy(risk, risk / alpha) + xlogy(1 - risk, (1 - risk) / (1 - alpha))
    return found


def certify_precision(
    case: Case, images: Ints, *, precision: float, delta: float, rng: np.random.Generator
) -> Certified:
    """Return the lowest threshold at which prediction sets reach a precision, with a confidence of 1 - delta.

    The precision is the expected share of valid classes in a non-empty prediction set, over images whose
    label set is not empty or is known to be empty (see `LabelSets.empty`), where the share is 0. Unclear
    classes, and classes that no rater was asked about, count as not valid.

    Thresholds are tested in a fixed sequence, from high to low, until one is not certified. A random quarter
    of the images determines the start of the sequence. The tests use the other images.

    Parameters
    ----------
    images : ndarray of int
        Images used for fitting. Images for which it is unknown whether a class is valid are left out.
    precision, delta : float
        Above 0 and below 1.
    rng : numpy.random.Generator
        Draws the quarter.

    Raises
    ------
    InputError
        If an option is out of range, or if no image has a label set.

    References
    ----------
    Angelopoulos et al. 2021, Learn then Test, arXiv 2110.01052: fixed-sequence testing on split data.
    Deviation: the false discovery proportion of empty sets is undefined instead of 0, so that an empty set
    does not count as precise. Conditional on the number of non-empty sets, these sets are independent.
    """
    check_precision(precision, delta)
    check_listed(case)
    images = images[judgeable(case.labels)[images]]
    if not len(images):
        raise InputError("No image has labels to fit to.", got="no image", allowed="images with labels")
    thresholds = THRESHOLDS if case.listed is None else THRESHOLDS[_not_listed(case) < THRESHOLDS]
    if not len(thresholds):
        return Certified(float("nan"), 0, None)
    size, valid = count_in_sets(case, thresholds)
    order = rng.permutation(images)
    pilot, rest = (_precisions(size[part], valid[part]) for part in np.split(order, [len(order) // _PILOT]))
    p = hoeffding_bentkus(1 - pilot[0], pilot[1], 1 - precision)
    first = len(p) - 1 - int(np.argmin(p[::-1]))  # the highest of those that tie
    p = hoeffding_bentkus(1 - rest[0], rest[1], 1 - precision)[first::-1]
    passed = int(np.argmax(np.append(p > delta, True)))  # before the first that is not certified
    at = first - max(passed - 1, 0)
    if passed:
        return Certified(float(thresholds[at]), int(rest[1][at]), None)
    every = _precisions(size[images], valid[images])
    return Certified(float("nan"), int(rest[1][at]), _needed_images(*every, len(images), precision, delta))


def judgeable(labels: LabelSets) -> Bools:
    """Return the images on which the precision of a prediction set is known, shape (n,)."""
    return labels.scored | labels.empty


def count_in_sets(case: Case, thresholds: Floats) -> tuple[Ints, Ints]:
    """Return the number of classes and of valid classes in each prediction set, as two arrays (n, T).

    Parameters
    ----------
    thresholds : ndarray of float, shape (T,)
        In ascending order.
    """
    n, sets = len(case.labels), case.labels
    yes = sets.state == YES
    rows, p = sets.rows[yes], case.probability_of(sets.rows[yes], sets.classes[yes])
    valid = count_reached(rows, p, n, thresholds)
    if case.listed is not None:
        row, place = np.nonzero(case.top != NO_LABEL)
        return count_reached(row, case.listed[row, place], n, thresholds), valid
    size = np.empty_like(valid)
    for start, block in case.probability_blocks():
        row, place = np.nonzero(block >= thresholds[0])
        size[start : start + len(block)] = count_reached(row, block[row, place], len(block), thresholds)
    return size, valid


def _precisions(size: Ints, valid: Ints) -> tuple[Floats, Ints]:
    """Return the mean precision of the sets at each threshold, 0 without sets, and their number."""
    n = np.count_nonzero(size, axis=0)
    return (valid / np.maximum(size, 1)).sum(axis=0) / np.maximum(n, 1), n


def _needed_images(precisions: Floats, n_sets: Ints, n: int, precision: float, delta: float) -> int | None:
    """Return how many images to fit on certify a threshold if the precisions are the measured ones."""
    enough = (precisions > precision) & (n_sets > 0)
    if not enough.any():
        return None
    tested = np.log(1 / delta) / _divergence(1 - precisions[enough], 1 - precision)
    return int(np.ceil((tested * n / n_sets[enough]).min() * _PILOT / (_PILOT - 1)))


def check_precision(precision: float, delta: float) -> None:
    """Check a precision and the probability of not reaching it.

    Raises
    ------
    InputError
        If one of the values is not above 0 and below 1.
    """
    for what, value in (("precision", precision), ("delta", delta)):
        message = f"The `{what}` of prediction sets is out of range."
        check_share(value, message, one=False, allowed="above 0, below 1")


@dataclass(frozen=True)
class _Plausible:
    """The classes of each image with a probability above 0: entries of ascending images.

    `countable` has shape (n,); an image counts if all its probabilities are there and one is above 0.
    """

    rows: Ints
    classes: Ints
    p: Floats
    countable: Bools

    @classmethod
    def of(cls, sets: LabelSets) -> _Plausible:
        if sets.p is None:
            raise InputError(
                "Drawing labels requires labels with probabilities, which these labels do not have.",
                allowed="a labels table with the column 'p'",
            )
        p = np.minimum(sets.p.astype(np.float64), 1 - 1e-12)  # so that logarithms are finite
        unknown = np.bincount(sets.rows[np.isnan(p)], minlength=len(sets)) > 0
        some = np.bincount(sets.rows[p > 0], minlength=len(sets)) > 0
        countable = sets.counted & some & ~unknown
        entries = np.flatnonzero((p > 0) & countable[sets.rows])
        return cls(sets.rows[entries], sets.classes[entries], p[entries], countable)

    def only(self, images: Ints, n: int) -> _Plausible:
        """Return the entries of some images. Images are numbered in the order of `images`."""
        place = np.full(n, -1)
        place[images] = np.arange(len(images))
        entries = np.flatnonzero(place[self.rows] >= 0)
        entries = entries[np.argsort(place[self.rows[entries]], kind="stable")]
        return _Plausible(place[self.rows[entries]], self.classes[entries], self.p[entries], self.countable)


def fit_threshold_to_draws(
    case: Case, images: Ints, *, cover: str, alpha: float, draws: int, rng: np.random.Generator
) -> float:
    """Return the minimum probability of classes in a prediction set, from labels drawn for each image.

    Each of the m draws for each of the n images has a highest threshold at which the prediction set covers
    the draw. The result is the k-th smallest of these m n thresholds, where k is the integer part of alpha m
    (n + 1), minus m - 1. If k is below 1, prediction sets contain all classes.

    Parameters
    ----------
    case : Case
        A case whose labels have probabilities. For ``drawn``, the probabilities of an image are shares, and a
        class is drawn in proportion to them. For ``drawn_all``, they are independent, and a non-empty label
        set is drawn.
    images : ndarray of int
        Images used for fitting. Images without probabilities are left out.
    cover : str
        One of `DRAWN`.
    alpha : float
        The miscoverage rate, above 0 and below 1.
    draws : int
        Number m of draws for each image, at least 1.

    Raises
    ------
    InputError
        As in `fit_threshold`, or if the labels have no probabilities.

    References
    ----------
    Stutz et al. 2023, TMLR, arXiv 2307.09302: Algorithm 1 and, for label sets, its multi-label variant. With
    one draw, the sets have the guarantee of split-conformal sets. Several draws make the threshold less
    random. The proven coverage is then 1 - 2 alpha, but the measured coverage is 1 - alpha.
    """
    check_alpha(alpha)
    check_count(draws, "This is not a number of draws.", got=f"draws={draws}", allowed="1 or more")
    check_listed(case)
    plausible = _Plausible.of(case.labels)
    images = images[plausible.countable[images]]
    if not len(images):
        raise InputError("No image has labels to fit to.", got="no image", allowed="images with labels")
    entries = plausible.only(images, len(case.labels))
    p = case.probability_of(images[entries.rows], entries.classes)
    sample = _draw_classes if cover == "drawn" else _draw_sets
    needed = np.concatenate([sample(entries, p, len(images), rng) for _ in range(draws)])
    k = int(np.floor(alpha * draws * (len(images) + 1) + 1e-9)) - draws + 1
    threshold = float(np.partition(needed, k - 1)[k - 1]) if k >= 1 else 0.0
    if case.listed is not None:
        _check_ends(case, threshold)
    return threshold


def _draw_classes(entries: _Plausible, p: Floats, n: int, rng: np.random.Generator) -> Floats:
    """Return the predicted probability of a class drawn for each of n images, shape (n,)."""
    total = np.cumsum(entries.p)
    first = np.searchsorted(entries.rows, np.arange(n))
    last = np.append(first[1:], len(total)) - 1
    before = total[first] - entries.p[first]
    drawn = np.searchsorted(total, before + rng.random(n) * (total[last] - before), side="right")
    found: Floats = p[np.clip(drawn, first, last)]
    return found


def _draw_sets(entries: _Plausible, p: Floats, n: int, rng: np.random.Generator) -> Floats:
    """Return the lowest predicted probability in a label set drawn for each of n images, shape (n,).

    The first class of a set is drawn given that there is one, and each later class independently.
    """
    absent = np.cumsum(-np.log1p(-entries.p))
    first = np.searchsorted(entries.rows, np.arange(n))
    last = np.append(first[1:], len(absent)) - 1
    before = absent[first] + np.log1p(-entries.p[first])
    some = -np.expm1(before - absent[last])
    head = np.searchsorted(absent, before - np.log1p(-rng.random(n) * some))
    head = np.clip(head, first, last)[entries.rows]
    entry = np.arange(len(p))
    present = (entry == head) | ((entry > head) & (rng.random(len(p)) < entries.p))
    found: Floats = np.minimum.reduceat(np.where(present, p, np.inf), first)
    return found


def expected_coverage(case: Case, images: Ints, *, cover: str, threshold: float) -> Floats:
    """Return the probability that the prediction set of each image covers its drawn labels, shape (m,).

    All `images` must be `countable`. Nothing is drawn, because this probability can be computed from the
    probabilities of the labels.
    """
    entries, m = _Plausible.of(case.labels).only(images, len(case.labels)), len(images)
    missed = case.probability_of(images[entries.rows], entries.classes) < threshold
    if cover == "drawn":
        share = np.bincount(entries.rows, entries.p * missed, m) / np.bincount(entries.rows, entries.p, m)
        return 1 - share
    absent = np.log1p(-entries.p)
    none, gone = (np.expm1(np.bincount(entries.rows, weights, m)) for weights in (absent, absent * missed))
    found: Floats = 1 - gone / none  # given that the drawn set is not empty
    return found
