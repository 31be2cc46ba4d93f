"""Studies: arms × seeds × measures in one grid of runs, effects with intervals, verdicts by a rule.

A study is a Python file that ends in ``study = Study(...)``, of the parts of `plan`. `files` reads it,
`running` does its grid, `tabled` compares, `page` tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyhot.lazy import lazily

if TYPE_CHECKING:
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

_HOME = dict.fromkeys(
    (
        "Across",
        "Arm",
        "Claim",
        "DataSet",
        "Grid",
        "Measure",
        "Measured",
        "Metric",
        "Net",
        "Row",
        "Run",
        "Study",
    ),
    "manyhot.study.plan",
)

__all__ = [
    "Across",
    "Arm",
    "Claim",
    "DataSet",
    "Grid",
    "Measure",
    "Measured",
    "Metric",
    "Net",
    "Row",
    "Run",
    "Study",
]

__getattr__, __dir__ = lazily(__name__, _HOME)
