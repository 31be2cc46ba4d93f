"""Recalibration: scaled logits and isotonic confidences, fitted to single labels or to label sets.

Fit on one split, judge on another: what is fitted on an image looks calibrated there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression, minimize

from manyhot.core.calibration import RANGE, sloping_root
from manyhot.core.sets import YES, Case, LabelSets
from manyhot.core.softmax import ROWS, check_possible, check_sums, log_probability
from manyhot.errors import InputError

_Reals = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Wanted:
    """The classes whose summed probability is to be high, image by image.

    Attributes
    ----------
    image, classes : ndarray of int, shape (m,)
        `image` ascends.
    """

    image: _Ints
    classes: _Ints

    @classmethod
    def of_labels(cls, labels: LabelSets) -> Wanted:
        """Return the original labels of images that have one."""
        image = np.flatnonzero(labels.labelled)
        return cls._checked(image, labels.label[image], "an original label")

    @classmethod
    def of_sets(cls, labels: LabelSets) -> Wanted:
        """Return the classes of each label set."""
        chosen = (labels.state == YES) & labels.scored[labels.rows]
        return cls._checked(labels.rows[chosen], labels.classes[chosen], "a label set")

    @classmethod
    def _checked(cls, image: _Ints, classes: _Ints, what: str) -> Wanted:
        if not len(image):
            raise nothing_to_fit(what)
        return cls(image, classes)

    @cached_property
    def images(self) -> _Ints:
        """Each image once, shape (n,)."""
        return self.image[self._start]

    @cached_property
    def _start(self) -> npt.NDArray[np.intp]:
        return np.flatnonzero(np.diff(self.image, prepend=-1))

    def shares(self, logits: _Reals) -> tuple[_Reals, float]:
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

    weight: _Reals
    bias: _Reals

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


def fit_temperature_of_all(case: Case, wanted: Wanted) -> Scaling:
    """Return one temperature for logits or probabilities of all classes, of the highest likelihood.

    That of a set is the summed probability of its classes: what `nll_mass` measures.

    References
    ----------
    Guo et al. 2017, arXiv 1706.04599. The likelihood of single labels is convex in 1 / T; its slope has one
    root. Of sets it is a difference of two such functions: the root that is found is a peak of it.
    """
    known, n = _cells(case, wanted), len(wanted.images)

    def slope(b: float) -> float:
        share, _ = wanted.shares(b * known)
        total = -float(share @ known)
        for logits in _logits(case, wanted.images):
            total += float((_softmax(logits * np.float32(b)) * logits).sum(dtype=np.float64))
        return total / n

    b = sloping_root(slope, 1 / RANGE[1], 1 / RANGE[0])
    c = case.labels.n_classes
    return Scaling(np.full(c, b), np.zeros(c))


def fit_vector(case: Case, wanted: Wanted, *, iterations: int = 200) -> Scaling:
    """Return a weight and a bias for each class, of the highest likelihood.

    2 C numbers are fitted: with fewer images than that, expect to do worse than one temperature.

    References
    ----------
    Guo et al. 2017, arXiv 1706.04599, section 4.2. Fitted by L-BFGS from one temperature on.
    """
    start = fit_temperature_of_all(case, wanted)
    c, n = case.labels.n_classes, len(wanted.images)
    # What all logits have in common changes no probability, but would keep the weights from being found.
    centre = np.float32(np.median(next(_logits(case, wanted.images))))
    known = _cells(case, wanted) - centre

    def loss(parameters: _Reals) -> tuple[float, _Reals]:
        weight, bias = parameters.reshape(2, c)
        share, held = wanted.shares(weight[wanted.classes] * known + bias[wanted.classes])
        gradient = -np.concatenate([np.bincount(wanted.classes, v, c) for v in (share * known, share)])
        total = -held
        weight, bias = weight.astype(np.float32), bias.astype(np.float32)
        for logits in _logits(case, wanted.images):
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

    x: _Reals
    y: _Reals

    def apply(self, confidence: _Reals) -> _Reals:
        """Return recalibrated confidences."""
        return np.asarray(np.interp(confidence, self.x, self.y))


def fit_isotonic(confidence: _Reals, right: npt.NDArray[np.bool_]) -> Isotonic:
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


def _logits(case: Case, images: _Ints) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the logits of images in blocks: the stored ones, or the logarithms of probabilities."""
    scores = _scores(case)
    for start in range(0, len(images), ROWS):
        stored = scores[images[start : start + ROWS]]
        logs = log_probability(stored) if case.kind == "probability" else stored
        block = logs.astype(np.float32)
        # 0 times minus infinity is no number: what is ruled out stays out.
        yield np.maximum(block, np.float32(-1e30), out=block)


def _cells(case: Case, wanted: Wanted) -> _Reals:
    """Return the logits of the classes that are fitted to."""
    check_softmax(case)
    found = _scores(case)[wanted.image, wanted.classes]
    if case.kind == "probability":
        return log_probability(found)
    check_possible(found, wanted.image, wanted.classes, case.name)
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


def _scores(case: Case) -> npt.NDArray[np.floating]:
    if case.scores is None or not case.has_probabilities:
        raise InputError(
            "Scaling needs logits or probabilities of all classes.",
            got="lists of the best classes" if case.scores is None else f"scores of kind {case.kind}",
            allowed="dense predictions whose scores are called logit or probability",
            do="give scores of all classes, or use isotonic, which needs the best class alone",
        )
    return case.scores


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    p: npt.NDArray[np.float32] = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p
