"""Recalibration of probabilities: temperatures, scaled logits and isotonic regression.

Fit on one split and evaluate on another, because a model always looks calibrated on the images that it was
fitted to.

*Temperatures of lists.* A list of the top k of C classes gives their probabilities and, because all add up to
one, the remaining probability of the other C - k classes. The distribution of this remainder is not in the
file and is assumed to be uniform. With dense scores of all C classes, there is no remainder, and the
temperature is the usual one.

*Recalibration of dense scores.* Logits are scaled, or confidences are mapped by isotonic regression, fitted
to single labels or to label sets.

`scipy.optimize` is imported only where something is fitted, because importing it takes longer than all other
imports of this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from manyhot.core.array_types import AnyFloats, Bools, Floats, Floats32, Ints, Ints64, Positions
from manyhot.core.sets import NO_LABEL, YES, Case, LabelSets
from manyhot.core.softmax import ROWS, check_possible, check_sums, log_probability
from manyhot.errors import InputError

RANGE = (0.05, 20.0)
"""Range of temperatures."""


def is_at_end(temperature: float) -> bool:
    """Return whether a temperature is as good as an end of `RANGE`."""
    return not RANGE[0] * 1.001 < temperature < RANGE[1] * 0.999


_LEAST = 1e-12
"""Minimum probability; in half precision, probabilities below 6e-8 are 0."""

Target = Floats | Callable[[float], Floats]


@dataclass(frozen=True)
class Tail:
    """The log probabilities of the listed classes, and the log probability of every other class.

    Attributes
    ----------
    listed : ndarray of float64, shape (n, k)
        Log probability of each listed class. Lists shorter than k are padded with -inf.
    other : ndarray of float64, shape (n, 1)
        Log probability of each class that is not listed, which is the same for all such classes.
    n_other : ndarray of int64, shape (n, 1)
        Number of classes that are not listed.
    """

    listed: Floats
    other: Floats
    n_other: Ints64

    @classmethod
    def of(cls, top: Ints, probability: AnyFloats, n_classes: int) -> Tail:
        """Return the tail of lists of top classes; `top` and `probability` have shape (n, k)."""
        there = top != NO_LABEL
        p = np.where(there, probability, 0).astype(np.float64)
        n_other = n_classes - there.sum(1, keepdims=True)
        left = np.maximum(1 - p.sum(1, keepdims=True), _LEAST) / np.maximum(n_other, 1)
        logs = np.log(np.maximum(p, _LEAST))
        return cls(np.where(there, logs, -np.inf), np.log(left), n_other)

    def __len__(self) -> int:
        return len(self.other)


def calibrated(tail: Tail, temperature: float) -> tuple[Floats, Floats]:
    """Return the probability at T of each listed class, shape (n, k), and of each other class, shape (n, 1).

    At temperature 1, all probabilities are unchanged, even sigmoid outputs, which do not add up to 1.
    """
    listed, other = np.exp(tail.listed / temperature), np.exp(tail.other / temperature)
    if temperature == 1:
        return listed, other
    total = listed.sum(1, keepdims=True) + tail.n_other * other
    return listed / total, other / total


def fit_temperature(tail: Tail, target: Target) -> float:
    """Return the temperature with the highest likelihood, clipped to `RANGE`.

    Parameters
    ----------
    tail : Tail
        The tail of n images.
    target : ndarray of float64, shape (n,), or callable
        The mean log probability of each image's correct classes at temperature 1, for example from
        `set_target`. If the weights in this mean depend on 1 / T, `target` is a function of 1 / T, for
        example from `mass_target`.

    Notes
    -----
    With b = 1 / T, the negative log likelihood of an image is ``-b * target + log(sum(exp(b * log p)))``. It
    is convex in b, so its derivative has one root, which Brent's method finds in about ten passes. If
    `target` is a function, the negative log likelihood may not be convex. If its derivative has several
    roots, the result is a local maximum of the likelihood.

    References
    ----------
    Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv 1706.04599.
    """
    return fit_in_blocks(lambda: [tail], target)


def fit_in_blocks(tails: Callable[[], Iterable[Tail]], target: Target) -> float:
    """Return the temperature as `fit_temperature` does, for tails that are too large to be kept.

    Parameters
    ----------
    tails : callable
        Returns the tails of consecutive images. It is called about ten times.
    target : ndarray of float64, shape (n,), or callable
        For all images.
    """

    def slope(b: float) -> float:
        means = []
        for tail in tails():
            p, share = calibrated(tail, 1 / b)
            logs = np.where(np.isfinite(tail.listed), tail.listed, 0)
            means.append((p * logs).sum(1) + (tail.n_other * share * tail.other)[:, 0])
        return float((np.concatenate(means) - (target(b) if callable(target) else target)).mean())

    return 1 / sloping_root(slope, 1 / RANGE[1], 1 / RANGE[0])


def sloping_root(slope: Callable[[float], float], low: float, high: float) -> float:
    """Return the root of an increasing function, or the end of the range that is closer to the root."""
    if slope(low) >= 0:
        return low
    if slope(high) <= 0:
        return high
    from scipy.optimize import brentq

    return float(brentq(slope, low, high, xtol=1e-6))


def set_target(tail: Tail, top: Ints, sets: LabelSets) -> Floats:
    """Return the mean log probability of the classes of each label set, shape (n,). Sets must not be empty.

    The mean is the expected log probability of a single label that is drawn at random from the set.
    """
    hit = sets.hits(top)
    listed = np.where(hit, tail.listed, 0).sum(1)
    outside = (sets.size - hit.sum(1)) * tail.other[:, 0]
    return np.asarray((listed + outside) / sets.size)


def mass_target(tail: Tail, top: Ints, sets: LabelSets) -> Callable[[float], Floats]:
    """Return the target that maximises the total probability of each label set. Sets must not be empty.

    The target is the mean log probability of the set's classes at temperature 1, weighted by their shares of
    the set's probability at temperature T. With b = 1 / T, the target is the derivative with respect to b of
    ``log(sum(exp(b * log p)))`` over the set.
    """
    hit = sets.hits(top)
    outside = (sets.size - hit.sum(1))[:, None]
    logs = np.column_stack([np.where(hit, tail.listed, -np.inf), np.where(outside > 0, tail.other, -np.inf)])
    count = np.column_stack([np.ones(hit.shape), outside])
    best = logs.max(1, keepdims=True)

    def target(b: float) -> Floats:
        share = count * np.exp(b * (logs - best))
        return np.asarray((share * np.where(share > 0, logs, 0)).sum(1) / share.sum(1))

    return target


def votes_target(tail: Tail, top: Ints, sets: LabelSets) -> Floats:
    """Return the expected log probability of a randomly drawn vote, shape (n,). Each image needs votes."""
    votes = np.nan_to_num(np.column_stack([sets.p_of(top[:, place]) for place in range(top.shape[1])]))
    p: Floats = votes / np.bincount(sets.rows, sets.p, len(sets)).astype(np.float64)[:, None]
    rest = 1 - p.sum(1)  # which rounding may make different from 0
    of_rest = np.multiply(rest, tail.other[:, 0], out=np.zeros(len(p)), where=rest > 1e-6)
    return np.asarray((p * np.maximum(tail.listed, -1e30)).sum(1) + of_rest)


@dataclass(frozen=True)
class FitLabels:
    """The classes to fit to, for each image.

    Fitting maximises their total probability or, with `p`, the likelihood of votes.

    Attributes
    ----------
    image, classes : ndarray of int, shape (m,)
        `image` ascends.
    p : ndarray of float64, shape (m,), optional
        The share of votes for each class.
    """

    image: Ints
    classes: Ints
    p: Floats | None = None

    @classmethod
    def of_labels(cls, labels: LabelSets) -> FitLabels:
        """Return the original labels of all images that have one."""
        image = np.flatnonzero(labels.labelled)
        return cls._checked(image, labels.label[image], "an original label")

    @classmethod
    def of_sets(cls, labels: LabelSets) -> FitLabels:
        """Return the classes of each label set."""
        chosen = (labels.state == YES) & labels.scored[labels.rows]
        return cls._checked(labels.rows[chosen], labels.classes[chosen], "a label set")

    @classmethod
    def of_votes(cls, labels: LabelSets) -> FitLabels:
        """Return the classes with votes, of labels whose classes are exclusive."""
        p: Floats = np.nan_to_num(np.zeros(len(labels.rows)) if labels.p is None else labels.p)
        chosen: Bools = (p > 0) & labels.voted[labels.rows]
        found = cls._checked(labels.rows[chosen], labels.classes[chosen], "votes for one class")
        total = np.bincount(labels.rows, p, len(labels))
        return cls(found.image, found.classes, p[chosen] / total[found.image])

    @classmethod
    def _checked(cls, image: Ints, classes: Ints, what: str) -> FitLabels:
        if not len(image):
            raise nothing_to_fit(what)
        return cls(image, classes)

    @cached_property
    def images(self) -> Ints:
        """The unique images, shape (n,)."""
        return self.image[self._start]

    @cached_property
    def _start(self) -> Positions:
        return np.flatnonzero(np.diff(self.image, prepend=-1))

    def shares(self, logits: Floats) -> tuple[Floats, float]:
        """Return the softmax over the classes of each image, and the sum over images of the log normalisers.

        With `p`, these are `p` and the sum of the expected logits of a vote.

        Parameters
        ----------
        logits : ndarray of float64, shape (m,)
        """
        if self.p is not None:
            return self.p, float(self.p @ logits)
        size = np.diff(self._start, append=len(logits))
        best = np.maximum.reduceat(logits, self._start)
        share = np.exp(logits - np.repeat(best, size))
        total = np.add.reduceat(share, self._start)
        return share / np.repeat(total, size), float((best + np.log(total)).sum())


def nothing_to_fit(what: str) -> InputError:
    """Return the error to raise if a split has no labelled images to fit on."""
    return InputError(
        "No image has labels to fit to.",
        got=f"no image with {what}",
        allowed="images with labels in the split used for fitting",
    )


@dataclass(frozen=True)
class Scaling:
    """Scaling of logits: a weight and a bias for each class.

    Attributes
    ----------
    weight, bias : ndarray of float64, shape (C,)
        With a single temperature T, all weights are 1 / T and all biases are 0.
    """

    weight: Floats
    bias: Floats

    @property
    def temperature(self) -> float:
        """One over the mean weight."""
        return float(1 / self.weight.mean())

    def apply(self, case: Case) -> Case:
        """Return the case with scaled logits. Unequal weights or unequal biases may change top classes."""
        check_softmax(case)
        parts = [block.copy() for block in _logits(case, np.arange(len(case.top)))]
        logits = np.concatenate([np.empty((0, len(self.weight)), np.float32), *parts])
        logits *= self.weight.astype(np.float32)
        logits += self.bias.astype(np.float32)
        return Case.from_scores(case.labels, logits, k=case.top.shape[1], kind="logit")


def fit_temperature_of_all(case: Case, fit_labels: FitLabels) -> Scaling:
    """Return the temperature with the highest likelihood, for logits or probabilities of all classes.

    The likelihood of a label set is the total probability of its classes, as in `nll_mass`.

    References
    ----------
    Guo et al. 2017, arXiv 1706.04599. For single labels, the negative log-likelihood is convex in 1 / T, so
    its derivative has one root. For label sets, it is a difference of two convex functions, so the result is
    a local optimum.
    """
    fitted, n = _cells(case, fit_labels), len(fit_labels.images)

    def slope(b: float) -> float:
        share, _ = fit_labels.shares(b * fitted)
        total = -float(share @ fitted)
        for logits in _logits(case, fit_labels.images):
            total += float((_softmax(logits * np.float32(b)) * logits).sum(dtype=np.float64))
        return total / n

    b = sloping_root(slope, 1 / RANGE[1], 1 / RANGE[0])
    c = case.labels.n_classes
    return Scaling(np.full(c, b), np.zeros(c))


def fit_vector(case: Case, fit_labels: FitLabels, *, iterations: int = 200) -> Scaling:
    """Return the weight and the bias of each class with the highest likelihood.

    There are 2 C parameters, where C is the number of classes. With fewer images than parameters, expect
    worse results than with a single temperature.

    References
    ----------
    Guo et al. 2017, arXiv 1706.04599, section 4.2. The parameters are fitted by L-BFGS, starting from a
    single temperature.
    """
    start = fit_temperature_of_all(case, fit_labels)
    c, n = case.labels.n_classes, len(fit_labels.images)
    # A constant in all logits changes no probability, but makes the optimisation ill-conditioned.
    centre = np.float32(np.median(next(_logits(case, fit_labels.images))))
    fitted = _cells(case, fit_labels) - centre

    def loss(parameters: Floats) -> tuple[float, Floats]:
        weight, bias = parameters.reshape(2, c)
        share, log_totals = fit_labels.shares(weight[fit_labels.classes] * fitted + bias[fit_labels.classes])
        gradient = -np.concatenate([np.bincount(fit_labels.classes, v, c) for v in (share * fitted, share)])
        total = -log_totals
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

    from scipy.optimize import minimize

    optimum = minimize(
        loss,
        np.concatenate([start.weight, start.bias]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": iterations},
    )
    weight, bias = optimum.x.reshape(2, c)
    return Scaling(weight, bias - weight * centre)


@dataclass(frozen=True)
class Isotonic:
    """A non-decreasing, piecewise linear function that maps confidence to the share of correct predictions.

    Attributes
    ----------
    x, y : ndarray of float64, shape (s,)
    """

    x: Floats
    y: Floats

    def apply(self, confidence: Floats) -> Floats:
        """Return recalibrated confidences."""
        return np.asarray(np.interp(confidence, self.x, self.y))


def fit_isotonic(confidence: Floats, right: Bools | Floats) -> Isotonic:
    """Return the isotonic (non-decreasing) least-squares regression of correctness on confidence.

    Parameters
    ----------
    confidence : ndarray of float64, shape (m,)
    right : ndarray of bool or float64, shape (m,)
        Whether the top class is right, or the share of votes for it.

    References
    ----------
    Zadrozny and Elkan 2002, doi 10.1145/775047.775151; ``sklearn.isotonic.IsotonicRegression``.
    """
    if not len(confidence):
        raise InputError("No image has labels to fit to.", got="no image", allowed="at least one image")
    from scipy.optimize import isotonic_regression

    x, at = np.unique(confidence, return_inverse=True)
    n = np.bincount(at)
    fitted = isotonic_regression(np.bincount(at, right) / n, weights=n)
    return Isotonic(x, np.clip(fitted.x, 0, 1))


def _logits(case: Case, images: Ints) -> Iterator[Floats32]:
    """Yield the logits of images in blocks: as stored, or the logarithms of probabilities."""
    scores = _scores(case)
    for start in range(0, len(images), ROWS):
        stored = scores[images[start : start + ROWS]]
        logs = log_probability(stored) if case.kind == "probability" else stored
        block = logs.astype(np.float32)
        # 0 times minus infinity is NaN; a very low logit has the same effect.
        yield np.maximum(block, np.float32(-1e30), out=block)


def _cells(case: Case, fit_labels: FitLabels) -> Floats:
    """Return the logits of the classes to fit to."""
    check_softmax(case)
    scores = _scores(case)[fit_labels.image, fit_labels.classes]
    if case.kind == "probability":
        return log_probability(scores)
    check_possible(scores, fit_labels.image, fit_labels.classes, case.name)
    return scores.astype(np.float64)


def check_softmax(case: Case) -> None:
    """Check that scores are logits or softmax probabilities. Scaling is not defined for sigmoid outputs.

    Raises
    ------
    InputError
        If the probabilities of an image do not add up to 1.
    """
    if case.kind == "probability":
        check_sums(_scores(case), case.name)
    else:
        _ = _scores(case), case.log_total


def _scores(case: Case) -> AnyFloats:
    if case.scores is None or not case.has_probabilities:
        raise InputError(
            "Scaling needs logits or probabilities of all classes.",
            got="lists of top classes" if case.scores is None else f"scores of kind {case.kind}",
            allowed="dense predictions whose scores are declared as logit or probability",
            do="use scores of all classes, or isotonic, which needs only the top class",
        )
    return case.scores


def _softmax(logits: Floats32) -> Floats32:
    p: Floats32 = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p
