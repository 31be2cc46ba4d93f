"""Recalibration of probabilities, and prediction sets with a promised coverage.

Fit on one split, judge on another: what is fitted on an image looks calibrated there.

*Temperatures of lists.* A list of the best k of C classes gives their probabilities and, since all add up to
one, what is left to the other C - k. How that is spread among them is not in the file; it is taken as equal
shares. With dense scores of all C classes nothing is left, and the temperature is the usual one.

*Split-conformal prediction sets* hold the classes above a threshold of probability. They cover the original
label (``label``), at least one class of the label set (``one``), or all of them (``all``). A threshold from n
images that were not trained on covers the next image of the same kind with a chance of at least 1 - alpha, on
average over such draws; nothing is promised for a class, or for other data.

*Recalibration* of dense scores: scaled logits and isotonic confidences, fitted to single labels or to label
sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy import typing as npt
from scipy.optimize import brentq, isotonic_regression, minimize

from manyhot.checks import check_one_of, check_share
from manyhot.core.array_types import AnyFloats, Bools, Floats, Floats32, Ints
from manyhot.core.sets import NO_LABEL, YES, Case, LabelSets
from manyhot.core.softmax import ROWS, check_lists, check_possible, check_sums, log_probability
from manyhot.errors import InputError

RANGE = (0.05, 20.0)
"""Temperatures that are looked through."""

COVERS = ("label", "one", "all")
"""What prediction sets may have to cover."""

_LEAST = 1e-12
"""Least probability; half precision makes zeros of what is under 6e-8."""

Target = Floats | Callable[[float], Floats]


@dataclass(frozen=True)
class Tail:
    """The log probabilities of listed classes, and of one class outside the list.

    Attributes
    ----------
    listed : ndarray of float64, shape (n, k)
        -inf where a ragged list has no class.
    other : ndarray of float64, shape (n, 1)
        Log probability of each class that is not listed.
    n_other : ndarray of int64, shape (n, 1)
        How many these are.
    """

    listed: Floats
    other: Floats
    n_other: npt.NDArray[np.int64]

    @classmethod
    def of(cls, top: Ints, probability: AnyFloats, n_classes: int) -> Tail:
        """Take logs; `top` and `probability` have shape (n, k)."""
        there = top != NO_LABEL
        p = np.where(there, probability, 0).astype(np.float64)
        n_other = n_classes - there.sum(1, keepdims=True)
        left = np.maximum(1 - p.sum(1, keepdims=True), _LEAST) / np.maximum(n_other, 1)
        logs = np.log(np.maximum(p, _LEAST))
        return cls(np.where(there, logs, -np.inf), np.log(left), n_other)

    def __len__(self) -> int:
        return len(self.other)

    def take(self, images: Ints) -> Tail:
        """Return the given images."""
        return Tail(self.listed[images], self.other[images], self.n_other[images])


def calibrated(tail: Tail, temperature: float) -> tuple[Floats, Floats]:
    """Return the probabilities at a temperature: of listed classes (n, k), and of each other class (n, 1).

    At temperature 1 they are what they were: sigmoids, which do not add up to 1, stay so.
    """
    listed, other = np.exp(tail.listed / temperature), np.exp(tail.other / temperature)
    if temperature == 1:
        return listed, other
    total = listed.sum(1, keepdims=True) + tail.n_other * other
    return listed / total, other / total


def fit_temperature(tail: Tail, target: Target) -> float:
    """Return the temperature of the highest likelihood, at an end of `RANGE` if it lies beyond.

    Parameters
    ----------
    tail : Tail
        Of n images.
    target : ndarray of float64, shape (n,), or callable
        The mean log probability of each image's right classes at temperature 1, as `set_target` gives it; or
        a function of 1 / T that gives it where its weights depend on that, as `mass_target` does.

    Notes
    -----
    With b = 1 / T the negative log likelihood of an image is ``-b * target + log(sum(exp(b * log p)))``. It
    is convex in b: its slope has one root, which Brent's method finds in about ten passes. With a function
    it need not be; where the slope has several roots, the likelihood has a peak at the one that is found.

    References
    ----------
    Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv 1706.04599.
    """

    def slope(b: float) -> float:
        p, share = calibrated(tail, 1 / b)
        logs = np.where(np.isfinite(tail.listed), tail.listed, 0)
        mean = (p * logs).sum(1) + (tail.n_other * share * tail.other)[:, 0]
        return float((mean - (target(b) if callable(target) else target)).mean())

    return 1 / sloping_root(slope, 1 / RANGE[1], 1 / RANGE[0])


def sloping_root(slope: Callable[[float], float], low: float, high: float) -> float:
    """Return where a rising function is 0, or the end that is nearest to it."""
    if slope(low) >= 0:
        return low
    if slope(high) <= 0:
        return high
    return float(brentq(slope, low, high, xtol=1e-6))


def set_target(tail: Tail, top: Ints, sets: LabelSets) -> Floats:
    """Return the mean log probability of the classes of each label set, shape (n,); sets are not empty.

    One class of the set, drawn at random, stands for the single label of the usual definition.
    """
    hit = sets.hits(top)
    listed = np.where(hit, tail.listed, 0).sum(1)
    outside = (sets.size - hit.sum(1)) * tail.other[:, 0]
    return np.asarray((listed + outside) / sets.size)


def mass_target(tail: Tail, top: Ints, sets: LabelSets) -> Callable[[float], Floats]:
    """Return the function of 1 / T that raises the summed probability of each label set, none empty.

    The slope of its logarithm is the mean log probability of the set's classes at temperature 1, each counted
    by its share of the set at temperature T.
    """
    hit = sets.hits(top)
    outside = (sets.size - hit.sum(1))[:, None]
    logs = np.column_stack([np.where(hit, tail.listed, -np.inf), np.where(outside > 0, tail.other, -np.inf)])
    count = np.column_stack([np.ones(hit.shape), outside])
    best = logs.max(1, keepdims=True)

    def target(b: float) -> Floats:
        share = count * np.exp(b * (logs - best))
        found = (share * np.where(share > 0, logs, 0)).sum(1) / share.sum(1)
        return np.asarray(found)

    return target


@dataclass(frozen=True)
class Covered:
    """What prediction sets did on some images.

    Attributes
    ----------
    covered : ndarray of bool, shape (m,)
    size : ndarray of int, shape (m,)
        Classes in each set; 0 for an empty one.
    """

    covered: Bools
    size: npt.NDArray[np.int64]


def countable(case: Case, cover: str) -> Bools:
    """Return the images that have what is to be covered, shape (n,)."""
    check_one_of(cover, COVERS, "This is nothing to cover.")
    return case.labels.labelled if cover == "label" else case.labels.scored


def check_alpha(alpha: float) -> None:
    """Refuse a share that may be missed that is none.

    Raises
    ------
    InputError
    """
    check_share(alpha, "Alpha is the share that may be missed.", one=False, allowed="above 0, below 1")


def fit_threshold(case: Case, images: Ints, *, cover: str, alpha: float) -> float:
    """Return the probability from which classes are in the prediction set.

    It is the k-th smallest of the probabilities that would just have covered each image, k being the whole
    part of alpha (n + 1): with k = 0, too few images for this alpha, the set is all classes.

    Parameters
    ----------
    case : Case
    images : ndarray of int
        To fit on; those without what is to be covered are left out.
    cover : str
        One of `COVERS`.
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


def predict_sets(case: Case, images: Ints, *, cover: str, threshold: float) -> Covered:
    """Return whether the sets of some images, which all must count, cover what is there, and their sizes."""
    if case.listed is not None:
        size = ((case.listed >= threshold) & (case.top != NO_LABEL))[images].sum(axis=1)
    else:
        size = np.empty(len(case.labels), np.int64)
        for start, block in case.probability_blocks():
            size[start : start + len(block)] = (block >= threshold).sum(axis=1)
        size = size[images]
    return Covered(_needed(case, cover)[images] >= threshold, size.astype(np.int64))


def _needed(case: Case, cover: str) -> Floats:
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


def _listed(case: Case) -> AnyFloats:
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


@dataclass(frozen=True)
class FitLabels:
    """The classes whose summed probability is to be high, image by image.

    Attributes
    ----------
    image, classes : ndarray of int, shape (m,)
        `image` ascends.
    """

    image: Ints
    classes: Ints

    @classmethod
    def of_labels(cls, labels: LabelSets) -> FitLabels:
        """Return the original labels of images that have one."""
        image = np.flatnonzero(labels.labelled)
        return cls._checked(image, labels.label[image], "an original label")

    @classmethod
    def of_sets(cls, labels: LabelSets) -> FitLabels:
        """Return the classes of each label set."""
        chosen = (labels.state == YES) & labels.scored[labels.rows]
        return cls._checked(labels.rows[chosen], labels.classes[chosen], "a label set")

    @classmethod
    def _checked(cls, image: Ints, classes: Ints, what: str) -> FitLabels:
        if not len(image):
            raise nothing_to_fit(what)
        return cls(image, classes)

    @cached_property
    def images(self) -> Ints:
        """Each image once, shape (n,)."""
        return self.image[self._start]

    @cached_property
    def _start(self) -> npt.NDArray[np.intp]:
        return np.flatnonzero(np.diff(self.image, prepend=-1))

    def shares(self, logits: Floats) -> tuple[Floats, float]:
        """Return the share of each class in its image's softmax over these alone, and the summed log totals.

        Parameters
        ----------
        logits : ndarray of float64, shape (m,)
        """
        size = np.diff(self._start, append=len(logits))
        best = np.maximum.reduceat(logits, self._start)
        share = np.exp(logits - np.repeat(best, size))
        total = np.add.reduceat(share, self._start)
        return share / np.repeat(total, size), float((best + np.log(total)).sum())


def nothing_to_fit(what: str) -> InputError:
    """Return the error for a part to fit on in which no image has what is fitted to."""
    return InputError(
        "There is nothing to fit to.",
        got=f"no image with {what}",
        allowed="images of the split that is fitted on, with labels",
    )


@dataclass(frozen=True)
class Scaling:
    """Logits are multiplied and shifted: by one number for all classes, or by two for each.

    Attributes
    ----------
    weight, bias : ndarray of float64, shape (C,)
        One temperature T is a weight of 1 / T and no bias.
    """

    weight: Floats
    bias: Floats

    @property
    def temperature(self) -> float:
        """One over the mean weight."""
        return float(1 / self.weight.mean())

    def apply(self, case: Case) -> Case:
        """Return the case with scaled logits; with a bias its best classes may be others."""
        check_softmax(case)
        parts = [block.copy() for block in _logits(case, np.arange(len(case.top)))]
        logits = np.concatenate([np.empty((0, len(self.weight)), np.float32), *parts])
        logits *= self.weight.astype(np.float32)
        logits += self.bias.astype(np.float32)
        return Case.from_scores(case.labels, logits, k=case.top.shape[1], kind="logit")


def fit_temperature_of_all(case: Case, fit_labels: FitLabels) -> Scaling:
    """Return one temperature for logits or probabilities of all classes, of the highest likelihood.

    That of a set is the summed probability of its classes: what `nll_mass` measures.

    References
    ----------
    Guo et al. 2017, arXiv 1706.04599. The likelihood of single labels is convex in 1 / T; its slope has one
    root. Of sets it is a difference of two such functions: the root that is found is a peak of it.
    """
    known, n = _cells(case, fit_labels), len(fit_labels.images)

    def slope(b: float) -> float:
        share, _ = fit_labels.shares(b * known)
        total = -float(share @ known)
        for logits in _logits(case, fit_labels.images):
            total += float((_softmax(logits * np.float32(b)) * logits).sum(dtype=np.float64))
        return total / n

    b = sloping_root(slope, 1 / RANGE[1], 1 / RANGE[0])
    c = case.labels.n_classes
    return Scaling(np.full(c, b), np.zeros(c))


def fit_vector(case: Case, fit_labels: FitLabels, *, iterations: int = 200) -> Scaling:
    """Return a weight and a bias for each class, of the highest likelihood.

    2 C numbers are fitted: with fewer images than that, expect to do worse than one temperature.

    References
    ----------
    Guo et al. 2017, arXiv 1706.04599, section 4.2. Fitted by L-BFGS from one temperature on.
    """
    start = fit_temperature_of_all(case, fit_labels)
    c, n = case.labels.n_classes, len(fit_labels.images)
    # What all logits have in common changes no probability, but would keep the weights from being found.
    centre = np.float32(np.median(next(_logits(case, fit_labels.images))))
    known = _cells(case, fit_labels) - centre

    def loss(parameters: Floats) -> tuple[float, Floats]:
        weight, bias = parameters.reshape(2, c)
        share, held = fit_labels.shares(weight[fit_labels.classes] * known + bias[fit_labels.classes])
        gradient = -np.concatenate([np.bincount(fit_labels.classes, v, c) for v in (share * known, share)])
        total = -held
        weight, bias = weight.astype(np.float32), bias.astype(np.float32)
        for logits in _logits(case, fit_labels.images):
            logits -= centre
            p = logits * weight
            p += bias
            best = p.max(axis=1)
            p -= best[:, None]
            z = np.exp(p, out=p).sum(axis=1)
            total += float((best + np.log(z)).sum(dtype=np.float64))
            gradient[c:] += (1 / z) @ p
            p *= logits
            gradient[:c] += (1 / z) @ p
        return total / n, gradient / n

    found = minimize(
        loss,
        np.concatenate([start.weight, start.bias]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": iterations},
    )
    weight, bias = found.x.reshape(2, c)
    return Scaling(weight, bias - weight * centre)


@dataclass(frozen=True)
class Isotonic:
    """Confidence to the share that is right, never falling: steps joined by straight lines.

    Attributes
    ----------
    x, y : ndarray of float64, shape (s,)
    """

    x: Floats
    y: Floats

    def apply(self, confidence: Floats) -> Floats:
        """Return recalibrated confidences."""
        return np.asarray(np.interp(confidence, self.x, self.y))


def fit_isotonic(confidence: Floats, right: Bools) -> Isotonic:
    """Return the never falling function of confidence that is nearest to being right, in squares.

    Parameters
    ----------
    confidence : ndarray of float64, shape (m,)
    right : ndarray of bool, shape (m,)

    References
    ----------
    Zadrozny and Elkan 2002, doi 10.1145/775047.775151; ``sklearn.isotonic.IsotonicRegression``.
    """
    if not len(confidence):
        raise InputError("There is nothing to fit to.", got="no image", allowed="images that count")
    x, at = np.unique(confidence, return_inverse=True)
    n = np.bincount(at)
    found = isotonic_regression(np.bincount(at, right) / n, weights=n)
    return Isotonic(x, np.clip(found.x, 0, 1))


def _logits(case: Case, images: Ints) -> Iterator[Floats32]:
    """Yield the logits of images in blocks: the stored ones, or the logarithms of probabilities."""
    scores = _scores(case)
    for start in range(0, len(images), ROWS):
        stored = scores[images[start : start + ROWS]]
        logs = log_probability(stored) if case.kind == "probability" else stored
        block = logs.astype(np.float32)
        # 0 times minus infinity is no number: what is ruled out stays out.
        yield np.maximum(block, np.float32(-1e30), out=block)


def _cells(case: Case, fit_labels: FitLabels) -> Floats:
    """Return the logits of the classes that are fitted to."""
    check_softmax(case)
    found = _scores(case)[fit_labels.image, fit_labels.classes]
    if case.kind == "probability":
        return log_probability(found)
    check_possible(found, fit_labels.image, fit_labels.classes, case.name)
    return found.astype(np.float64)


def check_softmax(case: Case) -> None:
    """Refuse scores that no softmax gives: scaling would make something of sigmoids, too.

    Raises
    ------
    InputError
    """
    if case.kind == "probability":
        check_sums(_scores(case), case.name)
    else:
        _ = _scores(case), case.log_total


def _scores(case: Case) -> AnyFloats:
    if case.scores is None or not case.has_probabilities:
        raise InputError(
            "Scaling needs logits or probabilities of all classes.",
            got="lists of the best classes" if case.scores is None else f"scores of kind {case.kind}",
            allowed="dense predictions whose scores are called logit or probability",
            do="give scores of all classes, or use isotonic, which needs the best class alone",
        )
    return case.scores


def _softmax(logits: Floats32) -> Floats32:
    p: Floats32 = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p
