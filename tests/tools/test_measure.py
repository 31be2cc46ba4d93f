"""The measures of the structure, on packages that are small enough to count by hand."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from scripts import load

REPO = Path(__file__).resolve().parents[2]

Measured = dict[str, tuple[float | None, list[str]]]
Measure = Callable[[str, dict[str, str]], Measured]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load(REPO / "tools" / "measure.py")


@pytest.fixture
def checkout(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that writes files into a checkout that the tool measures."""
    monkeypatch.setattr(tool, "REPO", tmp_path)

    def write(files: dict[str, str], at: str = "src/manyhot") -> Path:
        for name, text in files.items():
            path = tmp_path / at / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
        return tmp_path / "src" / "manyhot"

    return write


@pytest.fixture
def measure(tool: ModuleType, checkout: Callable[..., Path]) -> Measure:
    """Return a function that gives the figures of a row, and their places, for a package of these files."""

    def rows(row: str, files: dict[str, str]) -> Measured:
        code = tool.read_code(checkout(files))
        return {label: (n, list(places)) for label, n, places in tool.ROWS[row](code)}

    return rows


def figures(measured: Measured, *labels: str) -> list[float | None]:
    return [measured[label][0] for label in labels]


# size


def test_each_line_is_code_or_doc_or_comment_or_blank(measure: Measure) -> None:
    text = '''
    """A module.

    Two words.
    """
    # why
    LIMIT = 3
    """Of something."""

    TEXT = """no doc

    """
    '''
    measured = measure("size", {"a.py": text, "room/__init__.py": "def f(): ..."})
    kinds = [f"{kind}, % of lines" for kind in ("doc", "comment", "blank", "code")]
    # 5 of 12 lines are docs, with the blank one inside; of the text, which is no doc, one is blank.
    assert figures(measured, "files", "lines", *kinds) == [2, 12, 41.7, 8.3, 16.7, 33.3]


def test_a_function_is_as_long_as_its_lines_without_its_docstring(measure: Measure) -> None:
    text = '''
    def one():
        """A doc.

        More of it.
        """
        return 1

    class Holder:
        def two(self):
            def inner(): return 2

            return inner
    '''
    measured = measure("size", {"a.py": text})
    # one 2, two 4, inner 1
    labels = "lines of a function, median", "lines of a function, 90 % have at most"
    assert figures(measured, *labels, "functions of at most 25 lines, %") == [2, 4, 100]


@pytest.mark.parametrize(("lines", "over"), [(80, []), (81, ["a.py:1 long 81"])])
def test_long_functions_are_named(measure: Measure, lines: int, over: list[str]) -> None:
    text = "def long():\n" + "    x = 1\n" * (lines - 1)
    assert measure("size", {"a.py": text})["functions over 80 lines"] == (len(over), over)


def test_nine_of_ten_functions(measure: Measure) -> None:
    sizes = [*range(2, 11), 30]
    text = "".join(f"def f{n}():\n" + "    x = 1\n" * (n - 1) for n in sizes)
    measured = measure("size", {"a.py": text})
    assert figures(measured, "lines of a function, 90 % have at most") == [10]
    assert figures(measured, "functions of at most 25 lines, %") == [90]


def test_long_files_are_named(measure: Measure) -> None:
    files = {
        "a.py": "x = 1\n" * 500,
        "b.py": "x = 1\n" * 501,
        "c.py": "x = 1\n" * 801,
        "d.py": "def f(): ...",
    }
    measured = measure("size", files)
    assert measured["files over 500 lines"] == (2, ["b.py 501", "c.py 801"])
    assert measured["files over 800 lines"] == (1, ["c.py 801"])


# words


def test_words_in_errors(measure: Measure) -> None:
    text = """
    def check(n, log):
        if n < 0:
            raise ValueError(f"{n:,.2f} is below zero", "no more")
        log("not counted")
        error = InputError("It's odd.", do="take an even-numbered one" if n else "leave")
        raise error
    """
    assert figures(measure("words", {"a.py": text}), "words in errors") == [3 + 2 + 2 + 4 + 1]


def test_words_in_public_docstrings(measure: Measure) -> None:
    text = '''
    """One module."""
    LIMIT = 3
    """Most of them."""
    _HIDDEN = 3
    """Not counted."""

    def shown():
        """Do this.

        Do this.
        """
        def inner():
            """Not counted."""

    def _hidden():
        """Not counted."""

    class Shown:
        """A class."""
        size: int
        """In pixels."""

        def act(self):
            """Do that."""

        def _act(self):
            """Not counted."""

    class _Hidden:
        def act(self):
            """Not counted."""
    '''
    measured = measure("words", {"a.py": text})
    labels = "words in public docstrings", "words in public docstrings, each line once"
    assert figures(measured, *labels) == [2 + 3 + 4 + 2 + 2 + 2, 2 + 3 + 2 + 2 + 2 + 2]


# repeats

LAYERS = {
    "cli/app.py": """
        from manyhot.cli.judging import evaluate, status
        for command in (evaluate, status):
            app.command(cls=None)(command)
        """,
    "cli/judging.py": """
        def evaluate(
            labels, predictions, rows=None,
            resamples=1000, seed=0, as_json=False,
        ):
            from manyhot import pipeline
            return pipeline.evaluate_files(labels, predictions, rows, resamples, seed)

        def status(campaign):
            return campaign
        """,
    "pipeline/__init__.py": """
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from manyhot.pipeline.evaluate import evaluate_files
        """,
    "pipeline/evaluate.py": '''
        from manyhot.steps import evaluate as step

        def evaluate_files(labels, predictions, rows=None, resamples=1000, seed=0):
            """Judge files.

            Parameters
            ----------
            labels : Labels
                What is valid.

            resamples, seed
                As elsewhere.

            Returns
            -------
            None
            """
            return _read(labels, predictions, rows, resamples)

        def _read(labels, predictions, rows, resamples):
            return step.Judge(labels, predictions, rows, resamples, 0), other(labels, rows, resamples, 1)

        def other(labels, rows, resamples, seed): ...
        ''',
    "steps/evaluate.py": """
        from dataclasses import dataclass

        @dataclass
        class Judge:
            labels: object
            predictions: object
            rows: object
            resamples: int = 1000
            seed: int = 0
            _notes: object = None
        """,
    "api.py": """
        def evaluate(
            labels, predictions, *, rows=None, resamples=500, seed=0
        ): ...
        """,
    "far.py": """
        def unrelated(labels, predictions, rows, resamples, seed): ...
        """,
}


def test_parameters_of_a_command_that_are_listed_again(measure: Measure) -> None:
    measured = measure("repeats", LAYERS)
    again = "evaluate: evaluate 4, evaluate 2, evaluate_files 5, Judge 5"
    assert figures(measured, "commands") == [2]
    assert measured["commands whose parameters are listed again"] == (1, [again])
    # Two of the twin, one and four of Parameters, five fields. Four names in common are too few.
    assert figures(measured, "lists beyond the commands' own") == [3]
    assert figures(measured, "lines of these lists and their docs", "of these, of public definitions") == [
        12,
        12,
    ]


def test_a_command_that_is_declared_once(measure: Measure) -> None:
    files = {
        "diagnose/companions.py": '''
            from manyhot.command import command
            from manyhot.core.cooccurrence import pairs

            @command("diagnose companions", example="")
            def diagnose_companions(labels, predictions, k, least, probability, *, seed=0):
                """Measure.

                Parameters
                ----------
                k
                    Depth.
                """
                return pairs(labels, k, least)
            ''',
        "diagnose/errors.py": """
            from manyhot.diagnose.companions import diagnose_companions
            from manyhot.registry import register

            @register("command", "diagnose errors")
            def diagnose_errors(labels, predictions, k, least, probability, *, seed=0):
                return diagnose_companions(labels, predictions, k, least, probability)
            """,
        "core/cooccurrence.py": "def pairs(labels, k, least): ...",
    }
    measured = measure("repeats", files)
    labels = "commands", "commands whose parameters are listed again", "lines of these lists and their docs"
    assert figures(measured, *labels) == [2, 0, 0]


def test_a_list_that_two_commands_share_counts_once(measure: Measure) -> None:
    text = """
    @app.command()
    def one(a, b, c, d, e): shared(a, b, c, d, e)

    @group.command("two")
    def second(a, b, c, d, e): shared(a, b, c, d, e)

    def shared(a, b, c, d, e): ...
    """
    measured = measure("repeats", {"a.py": text})
    again = ["one: one 1, shared 1", "group two: second 1, shared 1"]
    assert measured["commands whose parameters are listed again"] == (2, again)
    assert figures(measured, "lines of these lists and their docs") == [1]


def test_a_chain_goes_on_from_the_last_list(measure: Measure) -> None:
    text = """
    @app.command()
    def one(a, b, c, d, e): second(a, b, c, d, e, 1, 2)

    def second(a, b, c, d, e, f, g): third(c, d, e, f, g)

    def third(c, d, e, f, g): ...
    """
    listed = measure("repeats", {"a.py": text})["commands whose parameters are listed again"]
    assert listed == (1, ["one: one 1, second 1, third 1"])


def test_twins_and_defaults(measure: Measure) -> None:
    measured = measure("repeats", LAYERS | {"files.py": "_SEED = 0\ndef list_files(*, name='', k=True): ..."})
    files = ["manyhot.files.list_files", "manyhot.pipeline.evaluate.evaluate_files"]
    assert measured["functions *_files"] == (2, files)
    assert measured["of these, twins"] == (1, files[1:])
    resamples = ["resamples=1000 ×3", "resamples=500 ×1"]
    assert measured["places with a default of resamples"] == (4, resamples)
    assert measured["defaults in several places"] == (2, ["seed=0 ×5", *resamples])


# imports


def test_circles(measure: Measure) -> None:
    files = {
        "a.py": "from manyhot import b",
        "b.py": "def late():\n    from manyhot.room.c import f",
        "room/c.py": "import manyhot.a\ndef f(): ...",
        "room/__init__.py": "from manyhot.room.c import f",
        "d.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from manyhot.e import g\n",
        "e.py": "from manyhot import d\nimport os\ndef g(): ...",
    }
    measured = measure("imports", files)
    assert measured["circles"] == (1, ["a.py ↔ b.py ↔ room/c.py"])
    assert measured["circles, with imports for types"] == (2, ["a.py ↔ b.py ↔ room/c.py", "d.py ↔ e.py"])
    assert figures(measured, "imports between rooms") == [5]


def test_imports_against_the_order(measure: Measure) -> None:
    files = {
        "__init__.py": "from manyhot.evaluate.judge import Judge",
        "_version.py": "",
        "errors.py": "from manyhot import _version",
        "core/a.py": "from manyhot.errors import E\nfrom manyhot.core import b",
        "core/b.py": """
            from typing import TYPE_CHECKING
            if TYPE_CHECKING:
                from manyhot.evaluate.judge import Judge
            """,
        "formats/csv.py": "from manyhot.report import page",
        "report/page.py": "from manyhot.core.a import f",
        "evaluate/judge.py": """
            from manyhot import Judge
            from manyhot.core import a
            from manyhot.steps import x
            """,
        "steps/x.py": "from manyhot.evaluate import judge",
    }
    measured = measure("imports", files)
    against = [
        "core/b.py → evaluate/judge.py",
        "evaluate/judge.py → __init__.py",
        "formats/csv.py → report/page.py",
    ]
    assert measured["imports against the order"] == (3, against)
    assert figures(measured, "of these, for types alone") == [1]
    assert measured["files in no room of the order"] == (1, ["steps ×1"])


@pytest.mark.parametrize(
    "order", ['"evaluate < core"', '("evaluate", "core")', '(("evaluate",), ("core", "data"))']
)
def test_the_order_of_the_order_test_comes_first(
    measure: Measure, checkout: Callable[..., Path], order: str
) -> None:
    checkout({"test_architecture.py": f"ORDER = {order}\n"}, at="tests")
    files = {"core/a.py": "from manyhot.evaluate import b", "evaluate/b.py": "from manyhot.core import a"}
    against = measure("imports", files)["imports against the order"]
    assert against == (1, ["evaluate/b.py → core/a.py"])


# touched, path

EVALUATE = {
    "command.py": "def command(name): ...",
    "cli/judging.py": """
        from manyhot import pipeline
        from manyhot.command import command

        @command("evaluate")
        def judging(labels, resamples: int = 1000, slice_=()):
            options = pipeline.Options(resamples, slice_)
            return pipeline.evaluate_files(labels, options)
        """,
    "pipeline/__init__.py": """
        from manyhot.pipeline.evaluate import evaluate_files
        from manyhot.pipeline.options import Options
        """,
    "pipeline/options.py": """
        from dataclasses import dataclass

        @dataclass
        class Options:
            resamples: int
            slices: tuple
            seed: int = 0
        """,
    "pipeline/evaluate.py": """
        from manyhot.core.resampling import draw
        from manyhot.pipeline.options import Options
        from manyhot.steps.evaluate import evaluate

        def evaluate_files(labels, options: Options):
            draw(resamples=3, seed=options.seed)
            return evaluate(labels, resamples=options.resamples, slices=options.slices)
        """,
    "steps/evaluate.py": '''
        from functools import partial
        from manyhot.core.resampling import draw

        def evaluate(labels, *, resamples=1000, slices=()):
            """Judge.

            Parameters
            ----------
            labels : Labels
                Not of resamples.
            resamples, slices
                As usual.
            """
            return Judge(labels, resamples, slices).finish()

        class Judge:
            def __init__(self, labels, resamples, slices):
                self.resamples = resamples

            def finish(self):
                return partial(draw, resamples=self.resamples)
        ''',
    "core/resampling.py": """
        def draw(resamples, seed=0):
            return inner(resamples)

        def inner(resamples): ...
        """,
    "api.py": """
        from manyhot.steps import evaluate as step

        def evaluate(labels, resamples=1000):
            return step.evaluate(labels, resamples=resamples)
        """,
}


def test_places_of_an_option(measure: Measure) -> None:
    measured = measure("touched", EVALUATE)
    places = [
        "cli/judging.py judging parameter",
        "cli/judging.py judging call of Options",
        "pipeline/options.py Options parameter",
        "pipeline/evaluate.py evaluate_files call of evaluate",
        "steps/evaluate.py evaluate parameter",
        "steps/evaluate.py evaluate doc",
        "steps/evaluate.py evaluate call of Judge",
        "steps/evaluate.py Judge parameter",
        "steps/evaluate.py Judge call of draw",
        "api.py evaluate parameter",
        "api.py evaluate call of evaluate",
    ]
    assert measured["places of evaluate --resamples"] == (11, places)
    assert figures(measured, "files of evaluate --resamples") == [5]
    assert figures(measured, "places of evaluate --slice", "files of evaluate --slice") == [8, 4]


NESTED = {
    "command.py": "def command(name): ...",
    "evaluate.py": """
        from dataclasses import dataclass
        from manyhot.command import command
        from manyhot.core.resampling import draw

        @dataclass
        class Resampling:
            resamples: int = 1000

        @dataclass
        class Options:
            resampling: Resampling
            before: Options | None = None

        @command("evaluate")
        def evaluate(labels, resamples: int = 1000):
            options = Options(Resampling(resamples))
            return judge(labels, options)

        def judge(labels, options: Options):
            return draw(options.resampling.resamples)
        """,
    "core/resampling.py": "def draw(resamples): ...",
}


def test_the_way_of_an_object_in_an_object(measure: Measure) -> None:
    stops = ["evaluate.evaluate", "evaluate.judge", "core.resampling.draw", "evaluate.Options"]
    measured = measure("path", NESTED)["definitions on the way of evaluate --resamples"]
    assert measured == (4, [f"manyhot.{stop}" for stop in stops])


INHERITED = {
    "command.py": "def command(name): ...",
    "evaluate.py": """
        from dataclasses import dataclass
        from manyhot.command import command
        from manyhot.core.resampling import draw

        @dataclass
        class Options:
            resamples: int = 1000

        @dataclass
        class Call(Options):
            labels: object

        @command("evaluate")
        def evaluate(call: Call):
            return judge(call)

        def judge(options: Options):
            return draw(options.resamples)
        """,
    "core/resampling.py": "def draw(resamples): ...",
}


def test_places_of_an_option_that_a_call_inherits(measure: Measure) -> None:
    measured = measure("touched", INHERITED)["places of evaluate --resamples"]
    assert measured == (2, ["evaluate.py Options parameter", "evaluate.py judge call of draw"])


def test_the_way_of_resamples(measure: Measure) -> None:
    measured = measure("path", EVALUATE)
    stops = [
        "manyhot.cli.judging.judging",
        "manyhot.pipeline.evaluate.evaluate_files",
        "manyhot.steps.evaluate.evaluate",
        "manyhot.steps.evaluate.Judge",
        "manyhot.core.resampling.draw",
        "manyhot.pipeline.options.Options",
    ]
    assert measured["definitions on the way of evaluate --resamples"] == (6, stops)
    files = [
        "cli/judging.py",
        "core/resampling.py",
        "pipeline/__init__.py",
        "pipeline/evaluate.py",
        "pipeline/options.py",
        "steps/evaluate.py",
    ]
    assert measured["files on the way of evaluate --resamples"] == (6, files)
    assert measured["folders on the way of evaluate --resamples"] == (4, ["cli", "core", "pipeline", "steps"])


def test_a_short_way(measure: Measure) -> None:
    files = {
        "evaluate/evaluate.py": """
            from manyhot.evaluate.judge import judge

            @command("evaluate")
            def evaluate(labels, *, resamples: int = RESAMPLES, slices=()):
                return judge(labels, resamples)
            """,
        "evaluate/judge.py": """
            from manyhot.core import resampling

            def judge(labels, resamples):
                return resampling.draw(resamples)
            """,
        "core/resampling.py": "def draw(resamples): ...",
    }
    measured = measure("path", files)
    labels = [f"{what} on the way of evaluate --resamples" for what in ("definitions", "files", "folders")]
    assert figures(measured, *labels) == [3, 3, 2]
    assert figures(measure("touched", files), "places of evaluate --slice") == [1]


def test_no_evaluate_no_figure(measure: Measure) -> None:
    files = {"a.py": "def evaluate(resamples): ..."}
    assert figures(measure("path", files), "files on the way of evaluate --resamples") == [None]
    touched = measure("touched", files)
    assert figures(touched, "places of evaluate --slice", "files with a metric's name, median") == [
        None,
        None,
    ]


def test_files_that_mention_the_feature(measure: Measure) -> None:
    files = {
        "a.py": "from manyhot.core.companions import f",
        "b.py": "TABLES = {'companions': 1}",
        "c.py": "def diagnose_companions_files(): ...",
        "d.py": "COMMANDS = [('diagnose companions', 'manyhot.diagnose.companions:diagnose')]",
        "e.py": "class Companions: ...",
        "no.py": '"""Which companions a class has."""\n# companions\nx = "A class and its companions."',
    }
    mentioned = measure("touched", files)["files that mention companions"]
    assert mentioned == (5, ["a.py", "b.py", "c.py", "d.py", "e.py"])


def test_files_with_the_name_of_a_metric(measure: Measure) -> None:
    files = {
        "core/accuracy.py": """
            @register("metric", "top1", better="higher")
            def top1(case): ...

            @register("metric", "top5")
            def top5(case):
                '''Not "top1" again.'''

            @register("loss", "other")
            def other(): ...
            """,
        "report/text.py": "LABELS = {'top1': 'Top-1'}",
        "evaluate.py": "DEFAULT = ('top1',)\ntop5 = 1",
    }
    of = ["top1: core/accuracy.py, evaluate.py, report/text.py", "top5: core/accuracy.py"]
    assert measure("touched", files)["files with a metric's name, median"] == (2, of)


# meanings


def test_names_with_two_meanings(measure: Measure) -> None:
    files = {
        "a.py": """
            class Run: ...
            class Table: ...
            class _Judge: ...
            Rows = dict[str, int]
            Progress = dict[str, int]
            def judge(): ...
            def read(): ...
            """,
        "b.py": """
            from manyhot import a
            from manyhot.a import Run as Other
            class Run: ...
            class Table(a.Table): ...
            class _Judge: ...
            Rows = dict[str, int]
            Progress = dict[int, str]
            def judge(): return a.judge()
            def read(): ...
            """,
        "c.py": "class Run: ...",
        "room/a.py": "from manyhot import a",
        "room/b.py": "",
    }
    measured = measure("meanings", files)
    assert measured["public classes with two meanings"] == (1, ["Run ×3: manyhot.a, manyhot.b, manyhot.c"])
    assert measured["public constants with two meanings"] == (1, ["Progress ×2: manyhot.a, manyhot.b"])
    assert measured["public functions with two meanings"] == (1, ["read ×2: manyhot.a, manyhot.b"])
    assert measured["public files with two meanings"] == (1, ["b ×2: manyhot.b, manyhot.room.b"])


def test_three_definitions_of_two_meanings(measure: Measure) -> None:
    files = {
        "a.py": "def f(): ...",
        "b.py": "from manyhot import a\ndef f(): a.f()",
        "c.py": "from manyhot import b\ndef f(): b.f()",
        "d.py": "def f(): ...",
    }
    listed = measure("meanings", files)["public functions with two meanings"]
    assert listed == (1, ["f ×2: manyhot.a, manyhot.b, manyhot.c, manyhot.d"])


# empty


def test_names_that_say_nothing(measure: Measure) -> None:
    files = {
        "words.py": """
            class Told:
                _known: int
                asked: int

                def _found(self, given, *, wanted_class): ...

            def read(kept_, path):
                found = kept_
                return found
            """,
        "room/numbers/__init__.py": "",
    }
    measured = measure("empty", files)
    assert measured["names that say nothing"][0] == 7
    assert measured["of these, modules"] == (2, ["room/numbers/__init__.py:1 numbers", "words.py:1 words"])
    assert measured["of these, classes"] == (1, ["words.py:1 Told"])
    assert measured["of these, functions"] == (1, ["words.py:5 _found"])
    assert measured["of these, parameters"] == (2, ["words.py:7 kept_", "words.py:5 given"])
    assert measured["of these, fields"] == (1, ["words.py:2 _known"])


# time


def test_cpu_is_the_median_of_ten_processes_after_one_that_compiles(
    tool: ModuleType, measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    clock = itertools.accumulate([50, *range(1, 11)] * 4)

    def run(command: list[str], *, env: dict[str, str], check: bool, stdout: int) -> None:
        assert env["PYTHONPATH"].endswith("src")
        assert (check, stdout) == (True, subprocess.DEVNULL)
        calls.append(command[1:])

    def getrusage(who: int) -> tuple[float, float, int]:
        return next(clock), 0.5, 99

    monkeypatch.setattr(tool, "subprocess", SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL))
    monkeypatch.setattr(tool, "resource", SimpleNamespace(getrusage=getrusage, RUSAGE_CHILDREN=-1))
    measured = measure("time", {"__init__.py": ""})
    assert [n for n, _ in measured.values()] == [5.5] * 4
    assert [calls[i] for i in range(0, 44, 11)] == [
        ["-c", ""],
        ["-c", "import manyhot"],
        ["-m", "manyhot", "--version"],
        ["-m", "manyhot", "--help"],
    ]
    assert len(calls) == 44


# the program


def test_table_and_json(
    tool: ModuleType, checkout: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    checkout({"told.py": "def f(): ...\n"})
    assert tool.main(["--only", "empty", "path", "--json", str(tmp_path / "measured.json")]) == 0
    assert capsys.readouterr().out.splitlines()[:5] == [
        "empty",
        f"  names that say nothing{'1':>34}",
        "      told ×1",
        f"  of these, modules{'1':>39}",
        "      told.py:1 told",
    ]
    measured: dict[str, Any] = json.loads((tmp_path / "measured.json").read_text(encoding="utf-8"))
    assert list(measured) == ["empty", "path"]
    assert measured["empty"]["of these, modules"] == {"value": 1, "places": ["told.py:1 told"]}
    assert measured["path"]["files on the way of evaluate --resamples"] == {"value": None, "places": []}


def test_timing_is_asked_for(
    tool: ModuleType, checkout: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout({"a.py": "def f(): ...\n"})
    timed: list[str] = []

    def measure_time(code: Any) -> Any:
        timed.append(code.root)
        return iter(())

    monkeypatch.setitem(tool.ROWS, "time", measure_time)
    tool.main([])
    assert timed == []
    tool.main(["--time"])
    assert timed == ["manyhot"]


@pytest.mark.slow
def test_what_the_measures_begin_with_is_there(tool: ModuleType) -> None:
    """A zero would be no success if commands, or the way of an option, were no longer recognised."""
    code = tool.read_code(REPO / "src" / "manyhot")
    assert {"evaluate", "predict", "diagnose companions"} <= set(tool.commands(code))
    assert all(n for _, n, _ in tool.measure_path(code))
