"""Designs of audits based on predictions: on numbers of proposed classes, confidence, and disagreement.

Where models agree, people rarely disagree with them, so answers about other images are more informative. No
design leaves out an image entirely.

For macro average precision, a positive of a rare class counts more than one of a frequent class. A uniform
sample of 400 of 3,000 photographs of VOC misses one of the 20 classes and contains fewer than three positives
of four others. If image i has class c with the probability p, people's answer changes the value of model m by
``p (1 - p) h_m**2`` on average, squared, with the derivative h_m of average precision by the label
(`manyhot.core.audit_average_precision`). Images are drawn with probabilities proportional to the root of the
sum of this over classes, and of the same for the differences of models.

People cannot be asked about all classes, and cannot be asked about the probable ones alone: positives with
low scores make up most of the error of a model. If people are not asked about them, macro average precision
on VOC is 4 to 27 points too high. Each class of an image is therefore also asked about with a probability q
of its own. With the probability π of the image, the answer has the weight 1 / (π q). π q is therefore
proportional to the root of what the answer changes, with the same minimum for all pairs of an image and a
class: if 412 of 3,000 images are audited, the largest weight is 66 instead of 141 with the same least q for
all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from manyhot.core.array_types import AnyFloats, Bools, Floats, Floats32, Ints
from manyhot.core.audit_average_precision import Ranking
from manyhot.core.audit_samples import AuditDesign, active_design, stratified_design, uniform_design
from manyhot.errors import InputError
from manyhot.parameters import check_one_of

Preference = Literal["uniform", "size", "confidence", "active", "differences", "classes"]
"""What a design prefers: nothing; images with more proposed classes; less confident ones; images on which
models may be wrong; images on which models differ; images that change macro average precision."""

PREFERENCES: tuple[Preference, ...] = tuple(p for p in get_args(Preference) if p != "classes")
"""The designs based on top classes. `class_design` is based on the scores of all classes."""

N_ASKED = 5
"""Top classes of each model to ask about. With one, ``real1`` is 4 to 10 points too high on ReaL, because
images drop out if none of the classes asked about is valid, and metrics over five classes have no value."""

MOST_CANDIDATES = 4
"""Images with this many proposed classes or more are one stratum."""

N_CONFIDENCE = 10
"""Strata of equal size by confidence."""

PAIR = 2
"""Models of a pair."""

FEW_MODELS = 2
"""Up to this number of models, confidence says more than the number of models with the same top class."""

UNIFORM_SHARE = 0.5
"""Share of a sample that is uniform if the design is active or by confidence: models may be too confident."""

SAFETY, MOST_SAME = 4.5, 2.0
"""How many images on which the two models of a pair agree are audited; see `count_apart`."""


@dataclass(frozen=True)
class ModelDesign:
    """A design, and what its strata are called.

    Attributes
    ----------
    kind : str
        ``uniform``, ``stratified`` or ``active``.
    strata : tuple of str
        The names of the strata, in the order of their numbers; empty if there are no strata.
    """

    design: AuditDesign
    kind: str
    strata: tuple[str, ...] = ()

    def names(self) -> npt.NDArray[np.str_] | None:
        """Return the name of the stratum of each image, shape (N,); None if there are no strata."""
        return np.array(self.strata)[self.design.places] if self.strata else None


def design_by_models(
    prefer: Preference, best: Ints, n: int, confidence: AnyFloats | None = None
) -> ModelDesign:
    """Return the design of an audit of n images.

    Parameters
    ----------
    prefer : str
        One of `PREFERENCES`.
    best : ndarray of int, shape (N, M)
        The top class of each model for each image.
    n : int
        Number of audited images.
    confidence : ndarray of float, shape (N, M), optional
        The probability of each top class.

    Raises
    ------
    InputError
        If there is no such design, if it needs confidences or more models, or if n is out of range.
    """
    check_one_of(prefer, PREFERENCES, "There is no such audit design.", where="`design`")
    if prefer == "uniform":
        return ModelDesign(uniform_design(len(best), n), "uniform")
    if prefer == "confidence":
        return _by_confidence(best, n, confidence)
    if prefer == "differences":
        return _by_differences(best, n)
    squares = expected_squares(best, confidence)
    if prefer == "active":
        return ModelDesign(active_design(squares, n, uniform=UNIFORM_SHARE), "active")
    size = np.minimum(count_candidates(best), MOST_CANDIDATES)
    names = tuple(str(k) if k < MOST_CANDIDATES else f"{k} or more" for k in np.unique(size))
    return ModelDesign(stratified_design(size, n, np.sqrt(squares.mean(axis=1))), "stratified", names)


@dataclass(frozen=True)
class SmallDesign:
    """The probabilities of a small sample by a design.

    Parameters
    ----------
    relative : ndarray of float64, shape (n,)
        The probability of each image, divided by its probability in a uniform sample. For a pair of models,
        the sample is drawn from the images on which they differ. The value is infinite for images on which
        they agree: these images are also audited, but add no variance.
    stratum : ndarray of int, shape (n,), optional
    same : float
        For a pair of models, the number of images on which they agree, divided by the number on which they
        differ.
    """

    relative: Floats
    stratum: Ints | None = None
    same: float = 0.0


def small_design(
    prefer: Preference, best: Ints, weights: Floats | None = None, confidence: AnyFloats | None = None
) -> SmallDesign:
    """Return the probabilities of a small sample under a design.

    Parameters
    ----------
    prefer : {"uniform", "active", "differences"}
    best, confidence
        As in `design_by_models`, for all images or for a random sample of them.
    weights : ndarray of float64, shape (n,), optional
        The weights of a sample.
    """
    check_one_of(prefer, ("uniform", "active", "differences"), "There is no plan for this design.")
    w = np.full(len(best), 1 / len(best)) if weights is None else weights / weights.sum()
    if prefer == "differences" and best.shape[1] == PAIR:
        differ = best[:, 0] != best[:, 1]
        share = float(w @ differ)
        if 0 < share < 1:
            return SmallDesign(np.where(differ, 1 / share, np.inf), differ.astype(int), (1 - share) / share)
        prefer = "uniform"
    if prefer == "uniform":
        return SmallDesign(np.ones(len(best)))
    squares = expected_squares(best, confidence).mean(1) if prefer == "active" else expected_differences(best)
    size = np.sqrt(squares)
    return SmallDesign((1 - UNIFORM_SHARE) * size / (w @ size) + UNIFORM_SHARE)


def count_apart(n: Floats | float, same: float) -> Floats:
    """Return the number of audited images, among n, on which the two models of a pair differ.

    Where the models agree, their difference is 0, but `manyhot.core.audited` does not use this fact. It gives
    no interval if a single image could double the variance, which would happen if a few audited images on
    which the models agree represented most of the data set. The number of audited images on which they agree
    is therefore ``4.5 same n_apart**0.5``, and at most twice the number on which they differ. With 3 instead
    of 4.5, and ReaL's original labels as proposals, 35 % of the differences had no interval.

    Parameters
    ----------
    same : float
        Number of images on which the two models agree, divided by the number on which they differ.
    """
    root = (np.sqrt((SAFETY * same) ** 2 + 4 * n) - SAFETY * same) / 2
    return np.maximum(root**2, n / (1 + MOST_SAME))


def count_audited(n_apart: Floats, same: float) -> Floats:
    """Return the total number of audited images if models differ on `n_apart` of them; see `count_apart`."""
    return np.asarray(n_apart + np.minimum(SAFETY * same * np.sqrt(n_apart), MOST_SAME * n_apart), np.float64)


def share_of_others(best: Ints) -> Floats32:
    """Return the share of other models with the same top class, shape (N, M), for two or more models."""
    return (_count_same(best) - 1) / np.float32(best.shape[1] - 1)


def chosen_by_others(best: Ints) -> Bools:
    """Return whether the other models together propose each model's top class, shape (N, M).

    The other models propose a class if it is the top class of at least half of them, or of more of them than
    any other class. Ties go to the first class. If the other models propose the label sets, the result says
    whether each model's top class is valid.
    """
    same = _count_same(best)
    found = np.zeros(best.shape, bool)
    for m, (column, count) in enumerate(zip(best.T, same.T, strict=True)):
        rival = np.where(best == column[:, None], 0, same)
        most = rival.max(axis=1)
        first = np.where((rival == most[:, None]) & (rival > 0), best, np.iinfo(best.dtype).max).min(axis=1)
        others = count - 1
        wins = (others > most) | ((others == most) & (column < first))
        found[:, m] = (others > 0) & (wins | (2 * others >= best.shape[1] - 1))
    return found


def _count_same(best: Ints) -> Floats32:
    same = np.zeros(best.shape, np.float32)
    for column in best.T:
        same += best == column[:, None]
    return same


def expected_squares(best: Ints, confidence: AnyFloats | None = None) -> Floats:
    """Return the expected square of each residual under people's answers, shape (N, M).

    The expected square is p (1 - p), where p is the share of other models with the same top class. Because a
    few models that agree may all be wrong, half a model is added in favour of the class and half a model
    against it. With one or two models, this share is uninformative, so p is the confidence.

    Raises
    ------
    InputError
        If there is only one model, and it has no confidences.
    """
    m = best.shape[1]
    if m <= FEW_MODELS and confidence is not None and np.isfinite(confidence).all():
        p = np.clip(confidence, 0, 1)
    elif m > 1:
        p = (share_of_others(best) * (m - 1) + 0.5) / m
    else:
        raise InputError(
            "The design needs several models, or one with probabilities.",
            got="one model without probabilities",
            do="predict with more models, or set `design` to uniform",
        )
    return np.asarray(p * (1 - p), np.float64)


def expected_differences(best: Ints) -> Floats:
    """Return the expected squared residual of the difference between two of the models, shape (N,).

    The probability that two models differ is assumed to be the share of other models with a different top
    class.
    """
    apart = expected_squares(best) * (1 - share_of_others(best))
    return np.asarray(apart.mean(axis=1), np.float64)


def count_candidates(best: Ints) -> Ints:
    """Return, per image, how many classes are the top class of at least a tenth of the models, shape (N,)."""
    n_models = best.shape[1]
    ordered = np.sort(best, axis=1)
    starts = np.diff(ordered, axis=1, prepend=ordered[:, :1] - 1) != 0
    rows, at = np.nonzero(starts)
    last = np.append(np.diff(rows) != 0, True)
    ends = np.where(last, n_models, np.append(at[1:], n_models))
    often = (ends - at) * 10 >= n_models
    return np.bincount(rows[often], minlength=len(best))


def _by_confidence(best: Ints, n: int, confidence: AnyFloats | None) -> ModelDesign:
    if confidence is None or not np.isfinite(confidence).all():
        raise InputError(
            "The design needs probabilities of all models.",
            got="a model without probabilities",
            do="set `design` to size or uniform",
        )
    mean = confidence.mean(axis=1, dtype=np.float64)
    rank = np.argsort(np.argsort(mean, kind="stable"), kind="stable")
    tenth = rank * N_CONFIDENCE // len(mean)
    squares = expected_squares(best, confidence)
    names = tuple(f"tenth {k + 1:02} by confidence" for k in np.unique(tenth))
    made = stratified_design(tenth, n, np.sqrt(squares.mean(axis=1)), uniform=UNIFORM_SHARE)
    return ModelDesign(made, "stratified", names)


def _by_differences(best: Ints, n: int) -> ModelDesign:
    n_models = best.shape[1]
    if n_models < 2:
        raise InputError(
            "The design needs models to compare.",
            got="one model",
            allowed="two models or more",
            do="pass another model, or set `design` to uniform",
        )
    if n_models > PAIR:
        apart = expected_differences(best)
        return ModelDesign(active_design(apart, n, uniform=UNIFORM_SHARE), "active")
    differ = best[:, 0] != best[:, 1]
    if differ.all() or not differ.any():
        return ModelDesign(uniform_design(len(best), n), "uniform")
    return ModelDesign(_pair_design(differ, n), "stratified", ("same top class", "two top classes"))


def _pair_design(differ: Bools, n: int) -> AuditDesign:
    """Return the design for the difference of two models, most of it where their top classes differ."""
    n_apart = int(np.count_nonzero(differ))
    n_same = len(differ) - n_apart
    apart = min(round(float(count_apart(n, n_same / n_apart))), n_apart)
    apart = max(apart, n - n_same)
    counts = np.array([n - apart, apart])
    stratum = differ.astype(np.intp)
    if n > len(differ) or counts.min() < 2:
        return uniform_design(len(differ), n)
    return AuditDesign((counts / np.array([n_same, n_apart]))[stratum], stratum)


_UNIFORM_SHARE = 0.3
"""Share of the sample that is uniform."""

QUESTIONS_PER_IMAGE = 4.4
"""Default number of questions about an image. 412 images take five hours if each question gets two answers of
five seconds."""

_MOST = 0.9
"""Largest probability of an image, unless more than this share of all images is audited."""

_EVEN_SHARE = 0.5
"""Share of the questions that is the same for each class of all images."""

_FIRST, _AMONG = 3, 20
"""The image at rank r of a class has the class with a probability of at least ``3 / (20 + r)``, because
models may rank the images of a rare class well without knowing how probable it is."""


@dataclass(frozen=True)
class ClassDesign:
    """The probability that each image is audited, and the probability of asking about each of its classes.

    Attributes
    ----------
    asked : ndarray of float32, shape (N, C)
        The probability that people are asked about a class of an audited image.
    """

    design: AuditDesign
    asked: Floats32


def class_design(
    scores: Sequence[AnyFloats],
    n: int,
    *,
    certain: Bools,
    probability: AnyFloats | None = None,
    questions: float = QUESTIONS_PER_IMAGE,
) -> ClassDesign:
    """Return the design of an audit of n images for macro average precision.

    Parameters
    ----------
    scores : sequence of M ndarray of float, shape (N, C)
        The scores of each model. Only their order matters.
    n : int
        Number of audited images.
    certain : ndarray of bool, shape (N, C)
        Classes that people are always asked about, such as the top class of each model.
    probability : ndarray of float, shape (N, C), optional
        The mean of the models' probabilities. By default, probabilities are estimated from ranks alone.
    questions : float
        Mean number of questions about an audited image.
    """
    squares = _expected_squares(scores, np.zeros(certain.shape, bool) if probability is None else probability)
    most = max(_MOST, n / len(squares))  # the variance has no part for the questions about certain images
    drawn = active_design(squares.sum(axis=1, dtype=np.float64), n / most, uniform=_UNIFORM_SHARE)
    design = AuditDesign(most * drawn.probability)
    return ClassDesign(design, _asked(np.sqrt(squares), design.probability, certain, questions))


def _expected_squares(scores: Sequence[AnyFloats], probability: AnyFloats) -> Floats32:
    """Return by how much answers change values and differences, squared and relative to their means."""
    of_values, of_pairs = np.zeros((2, *probability.shape), np.float32)
    for c in range(probability.shape[1]):
        rankings = [Ranking.of(s[:, c]) for s in scores]
        rank = np.min([r.depth for r in rankings], axis=0)
        p = np.maximum(probability[:, c], np.minimum(_FIRST / (_AMONG + rank), 0.5))
        curves = [r.curve(p) for r in rankings]
        changes = np.stack([(x.slope - x.precision) / x.total for x in curves])
        of_values[:, c] = p * (1 - p) * np.square(changes).mean(axis=0)
        of_pairs[:, c] = p * (1 - p) * changes.var(axis=0)
    means = [x.sum(dtype=np.float64) / len(x) or 1.0 for x in (of_values, of_pairs)]
    return np.asarray(of_values / means[0] + of_pairs / means[1], np.float32)


def _asked(size: Floats32, audited: Floats, certain: Bools, questions: float) -> Floats32:
    """Return probabilities of questions with the requested mean number; times `audited`, they follow size."""
    least, total = float(np.count_nonzero(certain, axis=1) @ audited), questions * audited.sum()
    if total < least:
        raise InputError(
            "There are fewer questions per image than classes that people are always asked about.",
            got=f"{questions:g} questions per image",
            allowed=f"at least {least / audited.sum():.2f}",
        )
    even = np.minimum(_EVEN_SHARE * total / size.size / audited, 1.0).astype(np.float32)[:, None]
    relative = size / audited[:, None].astype(np.float32)

    def asked(factor: float) -> Floats32:
        return np.maximum(np.clip(factor * relative, even, 1), certain, dtype=np.float32)

    low, high = 0.0, 1 / max(float(relative[relative > 0].min(initial=1)), 1e-30)
    for _ in range(60):  # bisection of the factor; the sum grows with it
        middle = (low + high) / 2
        enough = audited @ asked(middle).sum(axis=1, dtype=np.float64) >= total
        low, high = (low, middle) if enough else (middle, high)
    return asked(low)
