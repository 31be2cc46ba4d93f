"""Which tests are left out of `make test` because of what they cost."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType

import pytest

from scripts import load

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load(TESTS.parent / "tools" / "slow_tests.py")


def test_the_costliest_cases_are_left_out_until_the_others_fit(tool):
    costs = [("a::one", 3.0), *[("b::many", 0.5)] * 10, ("c::x", 0.5), ("c::x", 2.5), ("d::cheap", 1.0)]
    assert tool.costliest(costs, 12) == []
    assert tool.costliest(costs, 9) == ["a::one"]
    assert tool.costliest(costs, 8.9) == ["a::one", "c::x"]  # 1.5 each
    assert tool.costliest(costs, 0) == ["a::one", "c::x", "d::cheap", "b::many"]


def test_each_listed_test_exists_once(tool):
    listed = (TESTS / "slow.txt").read_text().split()
    assert listed == sorted(set(listed))
    assert [name for name in listed if not tool.is_there(name)] == []


def test_most_tests_of_each_room_are_not_listed():
    """Otherwise `make test` would say little of it."""
    listed = [name.split("::")[0] for name in (TESTS / "slow.txt").read_text().split()]
    for room in ("core", "tables", "formats", "data", "predict", "evaluate", "reassess", "diagnose", "train"):
        n = sum(
            node.name.startswith("test_")
            for file in (TESTS / room).rglob("test_*.py")
            for node in ast.parse(file.read_text()).body
            if isinstance(node, ast.FunctionDef)
        )
        assert sum(name.startswith(f"{room}/") for name in listed) < n / 2, room
