"""A run's predictions beside the true label sets; each image is predicted once for all measures."""

from __future__ import annotations

import numpy as np
from networks import engine_of
from numpy import typing as npt
from scipy.special import softmax
from seeing import seen

from manyhot import Predictions
from manyhot.study import JudgedRun, StudyRun

Floats = npt.NDArray[np.float64]


def judged_test(run: StudyRun) -> JudgedRun:
    """Return the scores of the test images."""
    return JudgedRun.matched(run.labels("test"), predictions(run))


def judged_val(run: StudyRun) -> JudgedRun:
    """Return those of the images that a network may be fitted to in some other way, ``val``."""
    found = seen(run.model, run.images("val"), run.folder / "predictions" / "val", engine_of(run))
    return JudgedRun.matched(run.labels("val"), found)


def predictions(run: StudyRun) -> Predictions:
    """Return what a run's network says of all images that it is judged on, ``images-seen.parquet``."""
    return seen(run.model, run.images("seen"), run.folder / "predictions" / "seen", engine_of(run))


def scores_of(found: Predictions) -> npt.NDArray[np.float32]:
    """Return the scores of all classes, shape (n, C)."""
    assert found.scores is not None
    return found.scores.astype(np.float32)


def probabilities(scores: npt.NDArray[np.float32], kind: str) -> Floats:
    """Return probabilities of scores that are logits of a softmax, or probabilities already."""
    found = scores.astype(np.float64)
    return found if kind == "probability" else np.asarray(softmax(found, axis=1))
