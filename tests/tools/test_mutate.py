"""Mutants of a package of one file, whose tests are strong in one place and weak in another."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

from scripts import load

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(REPO / "tools")
        return load(REPO / "tools" / "mutate.py")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x = a < b", ["bound: a < b -> (a <= b)"]),
        ("x = a != b", ["equality: a != b -> (a == b)"]),
        ("x = a and b or c", ["and/or: a and b or c -> ((a and b) and c)", "and/or: a and b -> (a or b)"]),
        ("x = not a", ["not removed: not a -> bool(a)"]),
        ("x = ä * b  # ö", ["arithmetic: ä * b -> (ä / b)"]),
        ("x = 'a' + b", []),
        ("x = f'{a + 1}'", []),
        ("x = True", ["truth: True -> False"]),
        ("x = 2", ["number: 2 -> (3)"]),
        ("check(a)", ["call removed: check(a) -> pass"]),
        ("x = check(a)", []),
        ("@mark(1)\n    def g(a: int = 0) -> 'A or 1': ...", ["number: 0 -> (1)"]),
    ],
)
def test_the_mutants_of_a_line(tool, code, expected):
    source = f"LIMIT = 3\ndef f(a, b, c):\n    {code}\n".encode()
    found = list(tool.mutants_of("m.py", source))
    assert [str(m).partition(" ")[2] for m in found] == expected
    for mutant in found:
        changed = mutant.apply(source)
        assert changed.startswith(b"LIMIT = 3\ndef f(a, b, c):\n")
        assert mutant.after.encode() in changed
        compile(changed, "m.py", "exec")


@pytest.fixture
def repository(tool, tmp_path):
    """Return a repository in which the order of two numbers is tested, but not what equal ones give."""
    files = {
        "src/small/__init__.py": "",
        "src/small/order.py": """
            def smaller(a, b):
                if a < b:
                    return a
                return b

            def has_room(n, most):
                return n < most
            """,
        "tests/test_order.py": """
            from small.order import smaller

            def test_smaller():
                assert smaller(1, 2) == smaller(2, 1) == 1
            """,
        "tests/test_room.py": """
            from small import order

            def test_there_is_room():
                assert order.has_room(1, 2) and not order.has_room(2, 2)
            """,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(dedent(text), encoding="utf-8")
    return tool.Repository(tmp_path, "src/small")


@pytest.fixture
def trial(tool, repository, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["warm_tests"], "PACKAGES", ())
    with closing(tool.Trial(repository, tmp_path / "copies")) as trial:
        yield trial


@pytest.fixture
def drawn(repository):
    """Return the two mutants: of the order, and of the room."""
    return sorted(repository.draw(["order.py"], 10, 0), key=lambda m: m.line)


KILLERS = "tests/test_order.py::test_smaller", "tests/test_room.py::test_there_is_room"


def test_a_mutant_is_killed_by_the_tests_of_its_module_by_others_or_survives(tool, tmp_path, drawn, trial):
    first, second = drawn
    assert trial.fate(second) == tool.Fate(second, "killed by other tests", KILLERS[1])
    assert trial.fate(first) == tool.Fate(first, "survived (2)")  # equal numbers give the same
    reversed_ = replace(first, after="(a > b)")
    assert trial.fate(reversed_) == tool.Fate(reversed_, "killed by its own tests", KILLERS[0])
    assert (tmp_path / "copies/src/small/order.py").read_bytes().count(b"<") == 2


@pytest.mark.parametrize(
    "after",
    [
        "__import__('os')._exit(3)",
        "__import__('os').abort()",
        pytest.param("__import__('time').sleep(60)", marks=pytest.mark.slow),
    ],
)
def test_a_mutant_is_killed_if_a_test_never_ends_or_the_process_dies(tool, monkeypatch, drawn, trial, after):
    monkeypatch.setattr(sys.modules["warm_tests"], "SILENCE", 10.0)
    mutant = replace(drawn[0], after=after)
    assert trial.fate(mutant) == tool.Fate(mutant, "killed by its own tests", KILLERS[0])


def test_a_mutant_without_which_its_tests_fail_is_tried_with_others(tool, repository, drawn, trial):
    (repository.root / "tests/test_order.py").write_text("def test_nothing():\n    assert False\n")
    assert [trial.fate(m).what for m in drawn] == ["survived (1)", "killed by other tests"]
    assert tool.summarise([tool.Fate(drawn[0], "survived")]) == 1


def test_an_equivalent_mutant_and_one_with_known_results_are_not_tried(
    tool, repository, trial, tmp_path, drawn
):
    trial._known = frozenset({("order.py", "smaller", "a < b", "(a <= b)")})
    assert trial.fate(drawn[0]).what == "equivalent"
    fate = tool.Results(tmp_path / "results", repository).fate(drawn[1], trial)
    assert fate.killer == KILLERS[1]
    assert tool.Results(tmp_path / "results", repository).fate(drawn[1], None) == fate


def test_a_result_of_other_code_is_tried_with_the_test_that_killed_it(tool, repository, tmp_path, drawn):
    class Tried:
        def fate(self, mutant, killer):
            return tool.Fate(mutant, "killed by other tests", killer or KILLERS[1])

    tool.Results(tmp_path / "results", repository).fate(drawn[1], Tried())
    source = repository.root / "src/small/order.py"
    source.write_text("import math\n" + source.read_text())
    moved = max(repository.draw(["order.py"], 10, 0), key=lambda m: m.line)
    tried = []
    Tried.fate = lambda self, mutant, killer: tried.append(killer) or tool.Fate(mutant, "survived")
    tool.Results(tmp_path / "results", repository).fate(moved, Tried())
    assert tried == [KILLERS[1]]


def test_seed_and_code_decide_what_is_drawn(tool, repository):
    (first,) = repository.draw(["."], 1, 1)
    both = repository.draw(["."], 2, 1)
    assert both[0] == first
    assert Counter(repository.draw(["."], 1, seed)[0].line for seed in range(40)).keys() == {
        m.line for m in both
    }
    path = repository.root / "src/small/order.py"
    path.write_text("def other(a):\n    return not a\n" + path.read_text())
    moved = [m for m in repository.draw(["."], 3, 1) if m.within != ("other",)]
    assert [m.key for m in moved] == [m.key for m in both]
    with pytest.raises(SystemExit, match="no such file or folder"):
        repository.draw(["absent"], 1, 1)


def test_tests_of_callers_are_more_likely_to_notice_the_closer_they_are(tool, repository, drawn):
    (repository.root / "src/small/tables.py").write_text(
        "def table(n):\n    return has_room(n, 3)\n\nPAGES = (table,)\n\ndef apart(): ...\n"
    )
    assert repository.words(drawn[1]) == {"has_room": 1, "table": 1 / 4, "PAGES": 1 / 16}
    tests = repository.root / "tests"
    (tests / "test_pages.py").write_text("from small.tables import PAGES\n")
    (tests / "test_tables.py").write_text("from small.tables import PAGES, table\n")
    (tests / "test_apart.py").write_text("from small.tables import apart\n")
    assert repository.likely_tests(drawn[1], repository.words(drawn[1])) == [
        f"tests/test_{name}.py" for name in ("room", "order", "tables", "pages", "apart")
    ]
