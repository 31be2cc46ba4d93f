"""The design of audits for macro average precision: which images are audited, and about which classes.

Macro average precision is a mean over classes, so a positive of a rare class counts more than one of a
frequent class. A uniform sample of 400 of 3,000 photographs of VOC misses one of its 20 classes, and has
fewer than three positives of four others. If image i has class c with the probability p, people's answer
changes the value of model m by ``p (1 - p) h_m**2`` on average, squared, with the derivative h_m of average
precision by the label (`manyhot.core.audit_average_precision`). Images are drawn with probabilities
proportional to the root of the sum of this over classes, and of the same for the differences of models.

People cannot be asked about all classes, and cannot be asked about the probable ones alone: positives with
low scores make up most of the error of a model. If nobody asks about them, macro average precision on VOC is
4 to 27 points too high. So each class of an image is asked about with a probability q of its own, too. With
the probability π of the image, the answer has the weight 1 / (π q). So π q is proportional to the root of
what the answer changes, and at least the same for all pairs of an image and a class: if 412 of 3,000 images
are audited, the largest weight is 66 instead of 141 with the same least q for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from manyhot.core.array_types import AnyFloats, Bools, Floats, Floats32
from manyhot.core.audit_average_precision import Ranking
from manyhot.core.audit_samples import AuditDesign, active_design
from manyhot.errors import InputError

_UNIFORM_SHARE = 0.3
"""Share of the sample that is uniform."""

QUESTIONS_PER_IMAGE = 4.4
"""Questions about an image by default: 412 images, with two answers of five seconds, take five hours."""

_MOST = 0.9
"""Largest probability of an image, unless more than this share of all images is audited."""

_EVEN_SHARE = 0.5
"""Share of the questions that is the same for each class of all images."""

_FIRST, _AMONG = 3, 20
"""The image at rank r of a class has it with a probability of at least ``3 / (20 + r)``: models may not know
how probable a rare class is, but rank its images."""


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
            "There are too few questions per image for the classes that people are always asked about.",
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
