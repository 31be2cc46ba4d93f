"""Mutants of a package of one file, whose tests are strong in one place and weak in another."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

from scripts import load

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
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


def test_a_mutant_is_killed_by_the_tests_of_its_module_by_others_or_survives(tool, repository, tmp_path):
    drawn = sorted(repository.draw(["order.py"], 10, 0), key=lambda m: m.line)
    assert [m.kind for m in drawn] == ["bound", "bound"]
    first, second = drawn
    trial = tool.Trial(repository, tmp_path / "copies")
    assert trial.fate(second).what == "killed by tests that name it"
    assert trial.fate(first).what == "survived"  # equal numbers give the same
    reversed_ = tool.Mutant("order.py", 3, "bound", "a < b", "(a > b)", first.start, first.stop)
    assert trial.fate(reversed_).what == "killed by its own tests"
    known = tool.Trial(repository, tmp_path / "known", known=frozenset({("order.py", "a < b", "(a <= b)")}))
    assert known.fate(first).what == "equivalent"
    source = (repository.root / "src/small/order.py").read_bytes()
    assert (tmp_path / "copies/0/src/small/order.py").read_bytes() == source


def test_mutants_are_not_tried_with_tests_that_fail_without_them(tool, repository, tmp_path):
    (repository.root / "tests/test_order.py").write_text("def test_nothing():\n    assert False\n")
    fate = tool.Trial(repository, tmp_path / "copies").fate(repository.draw(["."], 1, 0)[0])
    assert fate.what == "not tried, because tests fail without it (tests/test_order.py)"
    assert tool.summarise([fate]) == 1


def test_the_seed_decides_what_is_drawn(tool, repository):
    assert repository.draw(["."], 1, 1) == repository.draw(["."], 1, 1)
    with pytest.raises(SystemExit, match="no such file or folder"):
        repository.draw(["absent"], 1, 1)
