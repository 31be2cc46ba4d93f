"""How many labels of known label sets a rule proposes, for each image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from manyhot.core.array_types import Ints, Ints64
from manyhot.core.ensembles import Ensemble
from manyhot.core.proposals import Proposed, Rule, apply_rule, label_is_valid, states
from manyhot.core.sets import NOT_ASKED, YES

FOLDS = 5
"""Number of folds of cross-validation: a rule that learns from four folds is evaluated on the fifth."""


@dataclass(frozen=True)
class Coverage:
    """Counts for each image with a known label set: labels, proposed labels, questions, and valid questions.

    All arrays are of int64, shape (q,). `unasked` is the number of questions that the known label sets leave
    unanswered. They count as not valid.
    """

    labels: Ints64
    proposed: Ints64
    questions: Ints64
    valid: Ints64
    unasked: Ints64


def count_coverage(ensemble: Ensemble, proposed: Proposed, images: Ints | None = None) -> Coverage:
    """Count how many known labels are proposed, for `images` or for all images with a known label set.

    For images that are left out, the original label counts as proposed, because it is kept without asking
    raters.
    """
    images = ensemble.known_images if images is None else images
    assert ensemble.label_sets is not None
    keys = proposed.pairs.keys(ensemble.n_classes)
    state = states(ensemble.label_sets, keys)
    sums = [
        np.bincount(proposed.pairs.image, weights, len(ensemble)).astype(np.int64)[images]
        for weights in (None, state == YES, state == NOT_ASKED)
    ]
    questions, valid, unasked = sums
    label_remains = proposed.left_out & label_is_valid(ensemble)
    return Coverage(
        ensemble.label_sets.size[images], valid + label_remains[images], questions, valid, unasked
    )


def held_out(ensemble: Ensemble, rule: Rule, *, leave_out: str = "proposals", folds: int = FOLDS) -> Coverage:
    """Return the cross-validated coverage: each known image is counted with a rule fitted without it.

    Cross-validation is needed because a rule chosen for its precision on some images is less precise on
    others. The known images are assigned to `folds` folds in turn.
    """
    images = ensemble.known_images
    folds = min(folds, len(images))
    if folds < 2:
        return count_coverage(ensemble, apply_rule(ensemble, rule, leave_out=leave_out))
    counts = np.zeros((5, len(images)), np.int64)
    for fold in range(folds):
        held = np.arange(len(images)) % folds == fold
        proposed = apply_rule(ensemble.knowing(images[~held]), rule, leave_out=leave_out)
        c = count_coverage(ensemble, proposed, images[held])
        counts[:, held] = (c.labels, c.proposed, c.questions, c.valid, c.unasked)
    return Coverage(*counts)
