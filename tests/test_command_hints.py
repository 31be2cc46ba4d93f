"""Errors on the terminal name only options of the command that runs, or of `convert`."""

import importlib
import re
from dataclasses import fields

import numpy as np
import pytest
from typer.testing import CliRunner

import manyhot as mh
from manyhot import cli, command
from manyhot.cli.build import on_terminal
from manyhot.commands import COMMANDS
from manyhot.errors import InputError

READ = ["predictions", "format", *(f.name for f in fields(mh.Reading))]
"""Parameters that the code of all commands that read files may name."""


def options_of(name):
    module, _, function = COMMANDS[name].address.partition(":")
    parameters = command.parameters_of(getattr(importlib.import_module(module), function))
    return {p.name: "--" + p.name.replace("_", "-") for p in parameters}


@pytest.mark.parametrize("name", [n for n in COMMANDS if not COMMANDS[n].address.startswith("manyhot.cli.")])
def test_advice_names_only_options_of_the_command_or_of_convert(name):
    options, of_convert = options_of(name), options_of("convert").values()
    do = "; ".join(f"pass it as `{parameter}`" for parameter in READ)
    shown = on_terminal(InputError("It is not known.", do=do), options).details["do"] or ""
    assert "`" not in shown
    for whose, option in re.findall(r"as (.*?)(--[\w-]+)", shown):
        assert option in (of_convert if whose == "manyhot convert's " else options.values())
        assert whose in ("", "manyhot convert's ")
    assert {options[p] for p in READ if p in options} <= {*re.findall(r"as (--[\w-]+)", shown)}


def test_advice_without_options_is_unchanged():
    error = InputError("It is not known.", got="`here`", do="see `counts`; rename it")
    assert str(on_terminal(error, {})) == str(error)
    only = InputError("It is not known.", do="pass `match`")
    assert str(on_terminal(only, {})) == "It is not known."
    assert str(on_terminal(only, {"match": "--match"})).endswith("do:      pass --match")


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "counts.csv").write_text("image_id,spiral,no\na,23,4\nb,2,5\nc,0,3\n")
    (tmp_path / "preds").mkdir()
    (tmp_path / "preds" / "m.csv").write_text("image_id,spiral,no\na,.9,.1\nb,.2,.8\nc,.6,.4\n")
    np.save(tmp_path / "states.npy", np.eye(3)[[0, 1, 2, 0]])
    return tmp_path


def run(*arguments):
    done = CliRunner().invoke(cli.app, [*map(str, arguments)])
    return done if done.exception is None else str(done.exception)


def test_plan_does_not_ask_for_an_option_that_it_lacks(work):
    assert run("plan", "preds", "--width", "0.05").endswith(
        "  do:      pass a campaign or a folder that manyhot predict wrote"
    )
    assert run("evaluate", "preds").endswith(
        "  do:      pass a campaign or a folder that manyhot predict wrote; or pass them as --predictions"
    )


def test_what_a_card_advises_works(work):
    mh.aggregate("counts.csv", format="counts").write("labels.parquet")
    text = run("card", "labels.parquet", "--votes", "counts.csv", "--out", "card.md")
    assert text.endswith("do:      pass the format `rater-columns` or `counts` as manyhot convert's --format")
    run("convert", "counts.csv", "votes.parquet", "--format", "counts")
    run("card", "labels.parquet", "--votes", "votes.parquet", "--out", "card.md")
    assert "37 votes" in (work / "card.md").read_text()


def test_the_command_line_for_states_in_an_array_works(work):
    text = run("card", "states.npy")
    assert "pass manyhot convert's --label-values=states, or convert the file: " in text
    line = text.rpartition("convert the file: manyhot ")[2]
    run(*line.split())
    assert mh.describe("labels.parquet").to_json()["datasets"][0]["labels"] == 4
