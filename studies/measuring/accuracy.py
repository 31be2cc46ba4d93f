"""How good are the predictions? By the label, and by the label set."""

from __future__ import annotations

from collections.abc import Iterator

from manyhot.study import Measure, Measured, Metric, Run
from measuring.judged import Judged

METRICS = (
    Metric("top1", "accuracy by label", percent=True),
    Metric("real1", "accuracy by label set", percent=True),
    Metric("map_macro", "mean average precision", percent=True),
    Metric("variable_topk", "share of the label set in as many best classes", percent=True),
    Metric("asma", "the same averaged over sizes of sets", percent=True),
)


def take(run: Run) -> Iterator[Measured]:
    """Judge the test images."""
    yield from Judged.of(run).measured([m.name for m in METRICS])


ACCURACY = Measure("accuracy", "Accuracy on the test images, by label and by label set.", take, METRICS)
