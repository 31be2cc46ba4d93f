"""Studies: arms × seeds × measures in one grid of runs, effects with intervals, verdicts by a rule.

A study is a Python file that ends in ``study = Study(...)``, of the parts of `plan`. `files` reads it,
`running` does its grid, `tabled` compares, `page` tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyhot.extras import lazily

if TYPE_CHECKING:
    from manyhot.study.files import Opening, read_study
    from manyhot.study.plan import (
        Across,
        Arm,
        Claim,
        DataSet,
        Grid,
        Measure,
        Measured,
        Metric,
        Net,
        Row,
        Run,
        Study,
    )
    from manyhot.study.run import Answer, keep_answer, run_study

_PARTS = ("Across", "Arm", "Claim", "DataSet", "Grid", "Measure", "Measured", "Metric", "Net", "Row", "Run")
_HOME = {
    **dict.fromkeys((*_PARTS, "Study"), "manyhot.study.plan"),
    **dict.fromkeys(("Answer", "keep_answer", "run_study"), "manyhot.study.run"),
    **dict.fromkeys(("Opening", "read_study"), "manyhot.study.files"),
}

__all__ = [
    "Across",
    "Answer",
    "Arm",
    "Claim",
    "DataSet",
    "Grid",
    "Measure",
    "Measured",
    "Metric",
    "Net",
    "Opening",
    "Row",
    "Run",
    "Study",
    "keep_answer",
    "read_study",
    "run_study",
]

__getattr__, __dir__ = lazily(__name__, _HOME)
