"""Is it sure where it is right once its confidences are set right on other images? By label, or label set.

Confidences are recalibrated by isotonic regression on the images of ``val``, which means the same for a
softmax and for sigmoids; which class is best does not change. Intervals take what was fitted as given.
"""

from __future__ import annotations

from collections.abc import Iterator

from manyhot.core.calibration import fit_isotonic
from manyhot.core.reliability import against_label, against_set
from manyhot.core.sets import Case
from manyhot.registry import get
from manyhot.study import Measurement, RunMeasure, StudyMetric, StudyRun, estimated
from measuring.judged import judged_test, judged_val

_RIGHT = {"label": ("label", against_label), "set": ("label set", against_set)}
"""What counts as right, in words, and how it is found."""

_BY = {"ece": "label", "ece_set": "label set"}

METRICS = tuple(
    StudyMetric(
        f"{name}_to_{to}", f"calibration error by {by}, recalibrated by {words}", "lower", percent=True
    )
    for to, (words, _) in _RIGHT.items()
    for name, by in _BY.items()
)


def take(run: StudyRun) -> Iterator[Measurement]:
    """Recalibrate on ``val``, judge on the test images."""
    fitted, judged = judged_val(run).case, judged_test(run).case
    for to, (_, right) in _RIGHT.items():
        outcomes = right(fitted)
        assert outcomes is not None
        assert judged.confidence is not None
        sure = fit_isotonic(outcomes.confidence, outcomes.right).apply(judged.confidence)
        case = Case(judged.labels, judged.top[:, :1], listed=sure[:, None])
        for name in _BY:
            yield estimated(f"{name}_to_{to}", get("metric", name)(case))


RECALIBRATION = RunMeasure(
    "recalibration",
    "Calibration after isotonic regression on the images of val, by label and by label set.",
    take,
    METRICS,
)
