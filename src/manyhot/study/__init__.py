"""Studies: arms × seeds × measures in one grid of runs, effects with intervals, verdicts by a rule.

A study is a Python file that ends in ``study = Study(...)``, of the parts of `plan`. `study_file` reads it,
`runner` trains and measures its grid, `tables` compares, `page` shows the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyhot.extras import lazily

if TYPE_CHECKING:
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
    from manyhot.study.study import StudyAnswer, StudyAnswers, run_studies
    from manyhot.study.study_file import Opening, read_study

__all__ = [
    "Across",
    "Arm",
    "Claim",
    "Grid",
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
    "read_study",
    "run_studies",
]

_HOME = {
    **dict.fromkeys(__all__, "manyhot.study.plan"),
    **dict.fromkeys(("StudyAnswer", "StudyAnswers", "run_studies"), "manyhot.study.study"),
    **dict.fromkeys(("Opening", "read_study"), "manyhot.study.study_file"),
}

__getattr__, __dir__ = lazily(__name__, _HOME)
