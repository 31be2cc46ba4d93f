"""Every interval that is printed has a simulation, and a small version of the simulations holds."""

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest
from scipy.stats import binomtest

from manyhot.registry import names
from manyhot.tables import TABLES

REPO = Path(__file__).parents[1]
sys.path.insert(0, str(REPO / "benchmarks"))
coverage, subjects = import_module("interval_coverage"), import_module("coverage_subjects")


def lower_ends():
    """Return the lower ends of intervals in all tables that the package declares."""
    columns = ((table, column.name) for table, of in TABLES.items() for column in of)
    return {f"{t}.{c}" for t, c in columns if c == "lo" or c.startswith("lo_") or c.endswith("_lo")}


def test_each_interval_of_a_table_is_simulated_or_has_a_reason():
    simulated = {column for s in subjects.SUBJECTS.values() for column in s.columns if ":" not in column}
    assert not simulated & set(subjects.NOT_SIMULATED)
    accounted = simulated | set(subjects.NOT_SIMULATED)
    assert not lower_ends() - accounted, (
        "benchmarks/coverage_subjects.py: simulate these intervals, or say in NOT_SIMULATED why not"
    )
    assert not accounted - lower_ends(), "benchmarks/coverage_subjects.py: no table has these columns"


def test_each_metric_of_the_registry_is_simulated():
    groups = subjects.metric_calls()
    calls = [call for group in groups.values() for call in group]
    assert sorted(calls) == sorted(map(subjects.call_of, names("metric")))
    # Without an interval are calibration errors only, with their reason.
    assert {name.partition("_")[0] for name in groups["none"]} <= {"ece", "mce", "classwise"}


def test_the_small_version_holds():
    assert coverage.small() == []


def test_a_row_holds_from_a_share_and_its_limits():
    def row(held, n, sets=None):
        return {"held": held, "intervals": n, "sets": sets or n}

    assert coverage.holds(row(1900, 2000))
    assert coverage.holds(row(936, 1000))  # 99 % interval of Clopper and Pearson: 91.3 to 95.4 %
    assert coverage.holds(row(1875, 2000))  # 93.75 %, up to 95.1 %
    assert not coverage.holds(row(18750, 20000))  # up to 94.2 %
    assert not coverage.holds(row(187, 201))  # 93.0 %
    assert coverage.holds(row(9, 10, 200)) is None
    assert coverage.limits(936, 1000) == pytest.approx(tuple(binomtest(936, 1000).proportion_ci(0.99)))


def test_the_table_of_the_docs_is_that_of_the_committed_cells():
    lines = (REPO / "benchmarks" / "interval_coverage.jsonl").read_text(encoding="utf-8").splitlines()
    cells = [json.loads(line) for line in lines]
    text = (REPO / "docs" / "explanation" / "intervals.md").read_text(encoding="utf-8")
    assert f"\n{coverage.markdown(cells)}" in text
    assert {c["subject"] for c in cells} <= set(subjects.SUBJECTS)
