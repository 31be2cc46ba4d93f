"""Studies: arms × seeds × measures in one grid of runs, effects with intervals, verdicts by a rule.

A study is a Python file that ends in ``study = Study(...)``, of the parts of `plan`. `study_file` reads it,
`runner` trains and measures its grid, `tables` compares, `page` shows the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyhot.extras import lazily

if TYPE_CHECKING:
    from manyhot.study.own_data import own_data
    from manyhot.study.plan import (
        Across,
        Arm,
        Claim,
        Grid,
        Measurement,
        Net,
        RunMeasure,
        RunMeasurement,
        Study,
        StudyDataSet,
        StudyMetric,
        StudyRun,
    )
    from manyhot.study.ready_measures import (
        JudgedRun,
        accuracy_measure,
        calibration_measure,
        corruption_measure,
        estimated,
        replicate_counts,
        study_metric,
        transfer_measure,
    )
    from manyhot.study.study import StudyAnswer, StudyAnswers, run_studies
    from manyhot.study.study_file import Opening, read_study

__all__ = [
    "Across",
    "Arm",
    "Claim",
    "Grid",
    "JudgedRun",
    "Measurement",
    "Net",
    "Opening",
    "RunMeasure",
    "RunMeasurement",
    "Study",
    "StudyAnswer",
    "StudyAnswers",
    "StudyDataSet",
    "StudyMetric",
    "StudyRun",
    "accuracy_measure",
    "calibration_measure",
    "corruption_measure",
    "estimated",
    "own_data",
    "read_study",
    "replicate_counts",
    "run_studies",
    "study_metric",
    "transfer_measure",
]

_HOME = {
    **dict.fromkeys(__all__, "manyhot.study.plan"),
    **dict.fromkeys(("JudgedRun", "estimated", "replicate_counts"), "manyhot.study.ready_measures"),
    **dict.fromkeys(
        (
            "accuracy_measure",
            "calibration_measure",
            "corruption_measure",
            "study_metric",
            "transfer_measure",
        ),
        "manyhot.study.ready_measures",
    ),
    "own_data": "manyhot.study.own_data",
    **dict.fromkeys(("StudyAnswer", "StudyAnswers", "run_studies"), "manyhot.study.study"),
    **dict.fromkeys(("Opening", "read_study"), "manyhot.study.study_file"),
}

__getattr__, __dir__ = lazily(__name__, _HOME)
