"""A run's predictions beside the label sets of its images, and metrics of them with replicates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from manyhot.core.array_types import Bytes, Floats, Floats32
from manyhot.core.estimates import Estimate, Ratio
from manyhot.core.resampling import draw_counts
from manyhot.core.sets import Case, LabelSets
from manyhot.errors import InputError
from manyhot.formats import read_classes, read_labels
from manyhot.predict.in_memory import predict_in_memory
from manyhot.registry import get
from manyhot.study.plan import ALL, Measurement, StudyRun
from manyhot.tables import Labels, Predictions
from manyhot.tables.arrays import label_sets
from manyhot.tables.frames import align

REPLICATES = 100
"""Resamples of the images. The standard deviation of so many values is known to 7 %."""


@dataclass(frozen=True, eq=False)
class JudgedRun:
    """Scores of n images over C classes, and their label sets.

    Attributes
    ----------
    labels : LabelSets
    scores : numpy.ndarray of float32, shape (n, C)
    kind : str
        ``logit`` of a softmax, or ``probability`` of sigmoids.
    """

    labels: LabelSets
    scores: Floats32
    kind: str

    @classmethod
    def of(cls, run: StudyRun, split: str = "test", engine: str = "torch") -> JudgedRun:
        """Predict the images of a split with the network of a run."""
        found = predict_in_memory(
            run.images(split),
            f"trained:{run.model}",
            top=None,
            classes=read_classes(run.classes),
            engine=engine,
        )
        return cls.matched(run.labels(split), found.predictions)

    @classmethod
    def matched(cls, labels: Path | Labels, predictions: Predictions) -> JudgedRun:
        """Join dense predictions with label sets, in the order of the labels.

        Raises
        ------
        InputError
            If the predictions have only the scores of top classes, or if an image was not predicted.
        """
        found = labels if isinstance(labels, Labels) else read_labels(labels)
        if predictions.scores is None or not predictions.is_dense:
            raise InputError("The predictions lack scores of all classes.", where=predictions.model)
        at = align(found.image_id, predictions.image_id, left_name="the labels", right_name="the images")
        if at.left_only:
            raise InputError(
                "Labelled images were not predicted.",
                got=f"{at.left_only:,} of {len(found):,}",
                do="leave images that cannot be decoded out of the labels",
            )
        scores = predictions.scores.astype(np.float32)[at.right]
        return cls(label_sets(found).take(at.left), scores, predictions.score_kind)

    @cached_property
    def case(self) -> Case:
        """The predictions and label sets as metrics take them."""
        return Case.from_scores(self.labels, self.scores, k=self.scores.shape[1], kind=self.kind)

    def measured(self, metrics: Iterable[str], where: str = ALL) -> Iterator[Measurement]:
        """Yield the values of registered metrics, with replicates."""
        for name in metrics:
            yield estimated(name, get("metric", name)(self.case), where)


def replicate_counts(n: int) -> Bytes:
    """Return how often each of n images is drawn in each replicate, shape (R, n).

    The counts depend on n alone, so all runs of a data set and all metrics have the same resamples.
    """
    return draw_counts(n, REPLICATES, np.random.default_rng([0, n]))


def estimated(name: str, estimate: Estimate, where: str = ALL) -> Measurement:
    """Return the value of an estimate, and its values on resamples of the images."""
    drawn: Floats = replicate_counts(len(estimate.scored)).astype(np.float64)
    if isinstance(estimate, Ratio) and estimate.stratum is None:
        with np.errstate(invalid="ignore", divide="ignore"):
            replicates = (drawn @ estimate.num) / (drawn @ estimate.den)
    else:
        replicates = np.array([estimate.value(row) for row in drawn])
    return Measurement(name, estimate.value(None), int(estimate.scored.sum()), where, replicates)
