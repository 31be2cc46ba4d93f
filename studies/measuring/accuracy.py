"""How good are the predictions? By the label, and by the label set."""

from __future__ import annotations

from collections.abc import Iterator

from manyhot.study import Measurement, RunMeasure, StudyMetric, StudyRun
from measuring.judged import judged_test

METRICS = (
    StudyMetric("top1", "accuracy by label", percent=True),
    StudyMetric("real1", "accuracy by label set", percent=True),
    StudyMetric("map_macro", "mean average precision", percent=True),
    StudyMetric("variable_topk", "share of the label set in as many best classes", percent=True),
    StudyMetric("asma", "the same averaged over sizes of sets", percent=True),
)


def take(run: StudyRun) -> Iterator[Measurement]:
    """Judge the test images."""
    yield from judged_test(run).measured([m.name for m in METRICS])


ACCURACY = RunMeasure("accuracy", "Accuracy on the test images, by label and by label set.", take, METRICS)
