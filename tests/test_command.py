"""Commands are declared once: the index, the help and the parsing follow from signature and docstring."""

import importlib
import inspect
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import polars as pl
import pyarrow as pa
import pytest
import typer.testing
from typer.testing import CliRunner

import manyhot as mh
from manyhot import cli, command, registry
from manyhot.cli.application import group
from manyhot.cli.build import _show, build
from manyhot.commands import COMMANDS
from manyhot.console import table_lines
from manyhot.errors import InputError
from manyhot.parameters import (
    NO_SETTINGS,
    Address,
    AtLeast,
    Between,
    Count,
    Flattened,
    FromEnvironment,
    InCampaign,
    Positional,
    PythonOnly,
    Settings,
    Shown,
    Was,
)
from manyhot.result import Result
from manyhot.run import QUIET, Run
from scripts import load

TOOL = Path(__file__).parents[1] / "tools" / "index_commands.py"


def takes_reading(function):
    return inspect.isfunction(function) and mh.Reading in command.hints_of(function).values()


def declared():
    return [name for name in COMMANDS if not COMMANDS[name].address.startswith("manyhot.cli.")]


@dataclass(frozen=True, repr=False)
class How(Flattened):
    """How.

    Attributes
    ----------
    rows
        The rows.
    loud
        Whether to shout.
    array
        What a command line cannot name.
    """

    rows: str | None = None
    loud: bool = False
    array: Annotated[object, PythonOnly()] = None


@dataclass(frozen=True, eq=False)
class Sum(Result):
    """A sum."""

    value: float
    how: How = How()

    @property
    def tables(self):
        return {}

    def lines(self):
        yield f"{self.value:g}{'!' if self.how.loud else ''} of {self.how.rows}"

    def to_json(self):
        return {"value": self.value, "notes": self.notes}


@pytest.fixture
def add(monkeypatch):
    """Return a declared function, whose name is free again afterwards."""
    registry.names("command")  # loads them for good
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))

    @command.command("add", examples=("manyhot add 1",))
    def add(
        first: float,
        others: tuple[float, ...] = (),
        *,
        times: Annotated[int, AtLeast(1), Was("--by")] = 1,
        share: Annotated[float, Between(0, 1, "(")] = 1.0,
        sign: Literal["plus", "minus"] = "plus",
        how: How = How(),
        run: Run = QUIET,
    ) -> Sum:
        """Add numbers.

        They are added up.

        Parameters
        ----------
        first, others
            Numbers.
        times
            How often each counts.
        share
            How much of it.
        sign
            Which sign.
        how
            See `How`.

        Raises
        ------
        InputError
            Never.
        """
        total = (first + sum(others)) * times * share
        return Sum(total if sign == "plus" else -total, how, notes=("a note",))

    return add


@pytest.fixture
def run(add, monkeypatch):
    """Return a function that runs the command."""
    made = build("add", add)
    monkeypatch.setattr(typer.testing, "_get_command", lambda _: made)
    return lambda *words: CliRunner().invoke(cli.app, [*map(str, words)])


def test_values_arrive_typed_and_results_are_shown(run):
    done = run(2, "--others", 3, "--others", 4, "--times", 2, "--sign", "minus", "--rows", "x", "--loud")
    assert done.exit_code == 0, done.output
    assert done.stdout == "-18! of x\n"
    assert done.stderr == "Note: a note.\n"


def test_json(run):
    assert json.loads(run(2, "--json").stdout) == {"value": 2.0, "notes": ["a note"], "written": []}


def test_a_former_name_is_understood_and_says_the_new_one(run):
    done = run(2, "--by", 3)
    assert done.stdout == "6 of None\n"
    assert done.stderr.startswith("Note: --by is called --times now.\n")


def test_help_says_what_the_docstring_says(run):
    text = " ".join(run("--help").output.replace("│", " ").split())
    for words in (
        "Add numbers. They are added up. Example: manyhot add 1",
        "--times N How often each counts. Allowed: 1 or more. [default: 1]",
        "--share NUMBER How much of it. Allowed: above 0 to 1. [default: 1.0]",
        "Numbers. Repeat for more.",
        "--loud Whether to shout.",
        "plus|minus",
    ):
        assert words in text, text
    for words in ("--by", "--run", "--array", "<str>", "bool", "Never", "x>=1"):
        assert words not in text, text


@pytest.mark.parametrize("name", COMMANDS)
def test_no_help_shows_types_of_a_programming_language(name):
    shown = CliRunner().invoke(cli.app, [*name.split(), "--help"], env={"COLUMNS": "250"})
    assert shown.exit_code == 0
    assert re.findall(r"<[\w\[\]|,. -]+>|\b(?:list|int|str|float|bool|tuple|dict)\b[\[>]", shown.output) == []


def test_ranges_hold_in_python_and_on_the_command_line(add, run):
    for bad in (0, -1):
        with pytest.raises(InputError) as error:
            add(1.0, times=bad)
        assert str(error.value) == f"`times` is out of range.\n  got:     {bad}\n  allowed: 1 or more"
    with pytest.raises(InputError, match="allowed: above 0 to 1"):
        add(1.0, share=0.0)
    refused = run(1, "--times", 0).exception
    assert str(refused) == "--times is out of range.\n  got:     0\n  allowed: 1 or more"
    assert refused.exit_code == 2
    # What the declaration of the option lets through, its function refuses by the name of the option.
    assert str(run(1, "--share", 0).exception).startswith("--share is out of range.\n")
    assert str(inspect.signature(add).parameters["times"].default) == "1"


@pytest.mark.skipif(not Path(sys.executable).with_name("ruff").exists(), reason="needs ruff")
def test_the_index_is_that_of_the_functions():
    tool = load(TOOL)
    for file, made in ((tool.FILE, tool.text()), (tool.NAMES, tool.names())):
        assert made == file.read_text(encoding="utf-8"), "python tools/index_commands.py"


@pytest.mark.skipif(not Path(sys.executable).with_name("ruff").exists(), reason="needs ruff")
def test_the_tool_adds_the_function_of_a_command_to_the_public_names(tmp_path, monkeypatch):
    tool, line = load(TOOL), "from manyhot.diagnose.sets import diagnose_sets as diagnose_sets\n"
    whole = tool.NAMES.read_text(encoding="utf-8")
    assert line in whole
    monkeypatch.setattr(tool, "NAMES", tmp_path / "__init__.pyi")
    tool.NAMES.write_text(whole.replace(line, ""), encoding="utf-8")
    assert tool.names() == whole


def test_every_declared_command_is_in_the_index():
    commands, index = set(registry.names("command")), set(declared())
    assert commands <= index, "src/manyhot/commands.py: add a line to COMMANDS"
    assert index <= commands, "src/manyhot/commands.py: drop the line from COMMANDS"


@pytest.mark.parametrize("name", [n for n in declared() if n != "study"])  # which is in manyhot.study
def test_the_function_of_every_command_is_in_the_package(name):
    function = COMMANDS[name].address.partition(":")[2]
    assert function in mh.__all__, f"src/manyhot/__init__.pyi: add {function}"


@pytest.mark.parametrize("name", declared())
def test_every_parameter_has_words_a_type_and_examples(name):
    module, _, function = COMMANDS[name].address.partition(":")
    found = getattr(importlib.import_module(module), function)
    for parameter in command.parameters_of(found):
        assert parameter.text.endswith("."), f"{name}: say what {parameter.name} is, in a sentence"
    assert all(e.startswith(f"manyhot {name}") for e in found.declaration.examples)


def test_groups_load_nothing_for_help():
    listed = group().commands
    assert list(listed) == list(dict.fromkeys(name.split()[0] for name in COMMANDS))
    assert "nothing" not in listed
    with pytest.raises(KeyError):
        listed["nothing"]


def test_a_result_writes_its_tables(tmp_path):
    @dataclass(frozen=True, eq=False)
    class Proposed(Result):
        NAMES = ("proposals",)
        proposals: pa.Table

        def lines(self):
            yield "one"

    columns = {"image_id": ["a"], "class_id": [1], "score": [0.5], "n_models": [1], "source": ["x"]}
    schema = pa.schema(
        [
            ("image_id", pa.string()),
            ("class_id", pa.int32()),
            ("score", pa.float32()),
            ("n_models", pa.int32()),
            ("source", pa.string()),
        ]
    )
    found = Proposed(pa.table(columns, schema=schema), notes=("n",))
    assert [p.name for p in found.write(tmp_path)] == ["proposals.parquet", "proposals.csv"]
    assert (tmp_path / "proposals.csv").read_text().startswith("image_id,class_id")
    assert str(found) == "one\nNote: n."
    assert found._repr_html_() == "<pre>one\nNote: n.</pre>"
    assert found.to_json()["notes"] == ("n",)


def test_a_notebook_shows_tables_and_wraps_sentences():
    @dataclass(frozen=True, eq=False)
    class Shown(Result):
        NAMES = ()

        def lines(self):
            yield "two <models>"
            yield ""
            yield from table_lines(("model", "images"), [("<a>", "1,000"), ("b", "20")])
            yield ""
            yield "a long sentence " * 20

    shown = Shown(notes=("n",))._repr_html_()
    parts = re.findall(r"<(pre|p|table)\b[^>]*>", shown)
    assert parts == ["pre", "table", "p", "pre"]
    assert "<pre>two &lt;models&gt;</pre>" in shown
    cells = re.findall(r"<t[hd] style=\"text-align: (\w+)\">(.*?)</t[hd]>", shown)
    assert cells == [
        ("left", "model"),
        ("right", "images"),
        ("left", "&lt;a&gt;"),
        ("right", "1,000"),
        ("left", "b"),
        ("right", "20"),
    ]
    assert shown.endswith("<pre>Note: n.</pre>")
    lines = str(Shown()).splitlines()[2:5]  # how far apart columns are differs between versions of Rich
    assert [line.split() for line in lines] == [["model", "images"], ["<a>", "1,000"], ["b", "20"]]
    assert len({len(line) for line in lines}) == 1


def test_a_result_of_one_table_is_also_a_file(tmp_path):
    table = pa.table({"class_id": pa.array([0], pa.int32()), "key": ["a"], "name": ["a"]})

    @dataclass(frozen=True, eq=False)
    class Listed(Result):
        NAMES = ("classes",)
        classes: pa.Table

    assert Listed(table).write(tmp_path / "mine.csv") == [tmp_path / "mine.csv"]
    assert Listed(table).write(tmp_path / "mine.parquet") == [tmp_path / "mine.parquet"]
    assert [p.name for p in Listed(table).write(tmp_path / "mine")] == ["classes.parquet", "classes.csv"]


@pytest.fixture
def echo(monkeypatch):
    """Return a function that runs a command with a folder of its own."""
    registry.names("command")
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))

    @dataclass(frozen=True, eq=False)
    class Echoed(Result):
        exit_code = 5
        text: str

        def lines(self):
            yield self.text

    @command.command("echo", examples=("manyhot echo a b",))
    def echo(
        sources: Annotated[tuple[str, ...], Positional(), Was("--sources")] = ("all",),
        *,
        out: Annotated[Path, Shown("FOLDER")] = Path("there"),
        secret: Annotated[str, FromEnvironment("ECHO_SECRET")] = "",
    ) -> Echoed:
        """Say it again.

        Parameters
        ----------
        sources
            What to say.
        out
            Where.
        secret
            Behind the hand.
        """
        return Echoed(f"{'+'.join(sources)} {out} {secret}".strip(), written=(out,))

    # `Echoed` is local, so that its name cannot be looked up.
    echo.__wrapped__.__annotations__["return"] = Echoed  # type: ignore[attr-defined]
    made = build("echo", echo)
    monkeypatch.setattr(typer.testing, "_get_command", lambda _: made)
    return lambda *args, **more: CliRunner().invoke(cli.app, args, **more)


def test_arguments_with_defaults_and_folders_of_their_own(echo):
    found = echo("a", "b", "--out", "here")
    assert (found.exit_code, found.stdout) == (5, "a+b here\nwrote here\n")
    assert echo().stdout == "all there\nwrote there\n"
    assert echo(env={"ECHO_SECRET": "s"}).stdout.startswith("all there s\n")
    former = echo("--sources", "c", "--sources", "d")
    assert former.stdout.startswith("c+d there\n")
    assert former.stderr == "Note: --sources is called the argument SOURCES now.\n"


@pytest.fixture
def join(monkeypatch):
    """Return a function that runs a command of any number of values, whose result is a file."""
    registry.names("command")
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))

    @dataclass(frozen=True, eq=False)
    class Joined(Result):
        TARGET = ("FILE", "Text to write.")
        DRAWS = True
        text: str

        def lines(self):
            yield self.text

        def write(self, out, *, run=QUIET):
            Path(out).write_text(self.text)
            return [Path(out)]

    @command.command("join", moved={"--card": "manyhot card"})
    def join(*words: Annotated[str, Shown("WORD")], by: str = "+") -> Joined:
        """Join words.

        Parameters
        ----------
        *words
            What to join.
        by
            What stands between them.
        """
        return Joined(by.join(words))

    join.__wrapped__.__annotations__["return"] = Joined  # type: ignore[attr-defined]
    assert join("a", "b", by="-").text == "a-b"
    made = build("join", join)
    monkeypatch.setattr(typer.testing, "_get_command", lambda _: made)
    return lambda *args: CliRunner().invoke(cli.app, args)


def test_any_number_of_values_and_a_result_that_is_a_file(join, tmp_path, monkeypatch):
    from manyhot.report import export

    out = tmp_path / "out.txt"
    out.write_text("old")
    done = join("a", "b", "--out", str(out))
    assert (done.exit_code, done.stdout) == (0, f"a+b\nwrote {out}\n")
    assert out.read_text() == "a+b"
    assert "Text to write." in join("--help").stdout
    assert "WORD" in join("--help").stdout
    monkeypatch.setattr(export, "undrawn", lambda: "altair missing")
    assert join("a", "--out", str(out)).stderr == "Note: there are no figures: altair missing.\n"
    assert join("a").stderr == ""


def test_an_option_that_went_to_another_command(join):
    done = join("a", "--card=x", "--never")
    assert done.exit_code == 2
    assert "--card is a command of its own now: manyhot card" in " ".join(done.stderr.split())


def test_an_option_with_one_value_is_passed_once(join):
    """The last of several values would count, and the others would be ignored without a note."""
    done = join("a", "--by", "-", "--by=+")
    assert done.exit_code == 2
    assert "--by was passed 2 times; pass it only once" in " ".join(done.stderr.split())
    assert join("--by", "-", "--", "a", "--by").exit_code == 0


def test_count_is_a_whole_number_from_one():
    assert command.metadata_of(Count, AtLeast) == (AtLeast(1),)


@pytest.fixture
def work(monkeypatch):
    """Return a function that runs a command that streams events."""
    registry.names("command")
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))

    @dataclass(frozen=True, eq=False)
    class Done(Result):
        def lines(self):
            yield "never shown"

    @command.command("work", examples=("manyhot work a --model m",), streams=True)
    def work(
        images: Annotated[str | os.PathLike[str], Address(), Shown("IMAGES")],
        *,
        model: Sequence[str],
        settings: Settings = NO_SETTINGS,
        out: Annotated[Path, Shown("FOLDER")] = Path("there"),
        run: Run = QUIET,
    ) -> Done:
        """Work.

        Parameters
        ----------
        images
            Images.
        model
            Models.
        settings
            Settings.
        out
            Where.
        """
        run.event("note", {"model": model[0], "text": f"{images} {'+'.join(model)} {settings}"})
        return Done(written=(out,))

    work.__wrapped__.__annotations__["return"] = Done  # type: ignore[attr-defined]
    made = build("work", work)
    monkeypatch.setattr(typer.testing, "_get_command", lambda _: made)
    return lambda *args: CliRunner().invoke(cli.app, args)


def test_events_are_shown_as_they_come(work):
    given = ("s3://a/b", "--model", "x", "--model", "y", "--set", "epochs=3", "--set", "loss=bce")
    text = "s3://a/b x+y {'epochs': 3, 'loss': 'bce'}"
    assert work(*given).stdout == f"{text}\nwrote there\n"
    event = {"event": "note", "model": "x", "text": text}
    assert json.loads(work(*given, "--json").stdout) == event


def test_what_is_given_by_name_is_an_option_that_may_be_required(work):
    done = work("a")
    assert (done.exit_code, "Missing option '--model'" in done.stderr) == (2, True)
    assert "--set is NAME=VALUE; got epochs" in work("a", "--model", "m", "--set", "epochs").stderr


def test_a_listing_is_a_list_for_programs(capsys):
    class Listed(Result):
        def to_json(self):
            return ["a"]

    _show(Listed(), (), True, {}, streamed=False)
    assert capsys.readouterr().out == '["a"]\n'


@pytest.fixture
def count(monkeypatch):
    """Return a function that runs a command of a campaign, with an option that must be given."""
    registry.names("command")
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))

    @dataclass(frozen=True, eq=False)
    class Counted(Result):
        NAMES = ("classes",)
        n: int

        @property
        def tables(self):
            return {
                "classes": pa.table({"class_id": pa.array([self.n], pa.int32()), "key": ["a"], "name": ["a"]})
            }

        def lines(self):
            yield str(self.n)

    @command.command("count", out=InCampaign("place", "classes.csv"))
    def count(place: Annotated[str, Shown("DIR")], *, n: Count) -> Counted:
        """Count.

        Parameters
        ----------
        place
            Where.
        n
            How many.
        """
        return Counted(n)

    count.__wrapped__.__annotations__["return"] = Counted  # type: ignore[attr-defined]
    made = build("count", count)
    monkeypatch.setattr(typer.testing, "_get_command", lambda _: made)
    return lambda *args: CliRunner().invoke(cli.app, args)


def test_results_of_a_campaign_are_written_into_it(count, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("camp").mkdir()
    assert count("camp", "--n", "3").stdout == "3\nwrote classes.csv\n"
    Path("camp/campaign.json").touch()
    assert count("camp", "--n", "3").stdout == "3\nwrote camp/classes.csv\n"
    assert count("camp", "--n", "3", "--out", "mine.csv").stdout == "3\nwrote mine.csv\n"
    assert "--n" in count("camp").output


def test_an_option_without_a_default_is_required(count):
    done = count("camp")
    assert done.exit_code == 2
    assert "Missing option '--n'" in done.output


def test_the_name_of_a_data_set_is_no_file_that_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = {"image_id": ["a", "b"], "classes": ["0", "1"]}
    pl.DataFrame(labels).write_csv("labels.csv")
    pl.DataFrame({"image_id": ["a", "b"], "class_id": [0, 0], "rank": [1, 1]}).write_csv("net.csv")
    Path("mine").mkdir()
    words = ["evaluate", "labels.csv", "--predictions", "net.csv", "--dataset", "mine", "--out", "mine"]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output


def test_help_shows_plain_types_and_the_fields_of_a_flattened_parameter(add):
    signature = inspect.signature(add)
    assert str(signature).partition(", run")[0].replace(f"{__name__}.", "") == (
        "(first: float, others: tuple[float, ...] = (), *, times: int = 1, share: float = 1.0, "
        "sign: Literal['plus', 'minus'] = 'plus', how: How = How(), rows: str | None = None, "
        "loud: bool = False, array: object = None"
    )
    assert add.__annotations__ == {p.name: p.annotation for p in signature.parameters.values()} | {
        "return": Sum
    }
    assert (
        "how\n    See `How`.\n    The fields of `how` can also be passed as keywords:\n"
        "rows\n    The rows.\nloud\n    Whether to shout.\narray\n    What a command line cannot name.\nrun\n"
        "    Command line of the call, and callbacks for its progress.\n"
    ) in inspect.getdoc(add)
    assert add(1, rows="x").how == How(rows="x")
    assert repr(How(loud=True)) == "How(loud=True)"


@pytest.mark.parametrize("name", [n for n in mh.__all__ if takes_reading(getattr(mh, n))])
def test_public_functions_document_what_they_take_as_keywords(name):
    """One entry for each parameter, those of `Reading` among them; its former name is not shown."""
    function = getattr(mh, name)
    parameters = inspect.signature(function).parameters
    names = {f.name for f in fields(mh.Reading)} - {"score_kind"}
    assert names <= set(parameters)
    assert {n.lstrip("*") for n in command.words_of(function)} == set(parameters)
    assert "Annotated" not in str(inspect.signature(function))
    for field in names:
        own = command.words_of(inspect.unwrap(function))
        assert command.words_of(function)[field] == own.get(field, command.words_of(mh.Reading)[field])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            {"metric": ["real1"]},
            "evaluate() got an unexpected keyword argument 'metric'; did you mean 'metrics'",
        ),
        (
            {"resample": 5},
            "evaluate() got an unexpected keyword argument 'resample'; did you mean 'resamples'",
        ),
        ({"qq": 1}, "evaluate() got an unexpected keyword argument 'qq'"),
    ],
)
def test_a_misspelt_parameter_in_python_is_told_with_the_function_and_the_right_one(arguments, expected):
    with pytest.raises(TypeError) as error:
        mh.evaluate("labels.csv", **arguments)
    assert str(error.value).startswith(expected)
