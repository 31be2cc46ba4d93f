"""A run's predictions beside the true label sets, judged by manyhot's metrics on images and on redraws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from networks import engine_of
from scipy.special import softmax
from seeing import seen

from manyhot import Predictions, read_labels
from manyhot.core.estimates import Estimate, Ratio
from manyhot.core.resampling import draw_counts
from manyhot.core.sets import Case, LabelSets
from manyhot.registry import get
from manyhot.study import Measurement, StudyRun
from manyhot.tables import frames
from manyhot.tables.arrays import label_sets

RESAMPLES = 100
"""A standard deviation of so many is known to 7 %."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Judged:
    """Scores of n images over C classes, and what is there.

    Attributes
    ----------
    labels : LabelSets
    scores : ndarray of float32, shape (n, C)
    kind : str
        ``logit`` of a softmax, or ``probability`` of sigmoids.
    """

    labels: LabelSets
    scores: npt.NDArray[np.float32]
    kind: str

    @classmethod
    def of(cls, run: StudyRun) -> Judged:
        """Predict the test images with the network of a run; rows are in the order of the labels."""
        return cls.matched(run.labels("test"), predictions(run))

    @classmethod
    def of_val(cls, run: StudyRun) -> Judged:
        """Predict the images that a network may be fitted to in some other way, ``val``."""
        found = seen(run.model, run.images("val"), run.folder / "predictions" / "val", engine_of(run))
        return cls.matched(run.labels("val"), found)

    @classmethod
    def matched(cls, file: Path, found: Predictions) -> Judged:
        """Put predictions beside the label sets of a file, which are of some of the images or of all."""
        labels = read_labels(file)
        at = frames.align(labels.image_id, found.image_id, left_name="the labels", right_name="the images")
        assert not at.left_only
        return cls(label_sets(labels).take(at.left), scores_of(found)[at.right], found.score_kind)

    @cached_property
    def case(self) -> Case:
        """What metrics see."""
        return Case.from_scores(self.labels, self.scores, k=self.scores.shape[1], kind=self.kind)

    def measured(self, metrics: Sequence[str], where: str = "all") -> Iterator[Measurement]:
        """Yield registered metrics, called as here."""
        for name in metrics:
            yield estimated(name, get("metric", name)(self.case), where)

    @cached_property
    def probabilities(self) -> Floats:
        """Of each class, shape (n, C)."""
        return probabilities(self.scores, self.kind)

    def take(self, images: npt.NDArray[np.intp]) -> Judged:
        """Return some of the images."""
        return Judged(self.labels.take(images), self.scores[images], self.kind)


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
    if kind == "probability":
        return found
    return np.asarray(softmax(found, axis=1))


def counts(n: int) -> npt.NDArray[np.uint8]:
    """Return how often each of n images is drawn in each resample, shape (R, n): always the same."""
    return draw_counts(n, RESAMPLES, np.random.default_rng([0, n]))


def estimated(name: str, estimate: Estimate, where: str = "all") -> Measurement:
    """Return an estimate's value on the images and on redraws of them."""
    drawn = counts(len(estimate.scored)).astype(np.float64)
    if isinstance(estimate, Ratio) and estimate.stratum is None:
        with np.errstate(invalid="ignore", divide="ignore"):
            replicates = (drawn @ estimate.num) / (drawn @ estimate.den)
    else:
        replicates = np.array([estimate.value(row) for row in drawn])
    return Measurement(name, estimate.value(None), int(estimate.scored.sum()), where, replicates)
