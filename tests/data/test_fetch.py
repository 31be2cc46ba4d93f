"""Published data by name: listed, and fetched."""

import json

import pytest
from typer.testing import CliRunner

from manyhot import cli, fetch_published
from manyhot.data.catalog import catalog_names
from manyhot.errors import UnknownNameError


def run(*words):
    done = CliRunner().invoke(cli.app, ["fetch", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_without_names_what_there_is():
    assert [entry.name for entry in fetch_published().entries] == catalog_names()
    assert run().splitlines()[0].split() == ["name", "size", "licence", "cached", "what"]
    rows = json.loads(run("--list", "--json"))
    assert [row["name"] for row in rows] == catalog_names()
    assert rows[0].keys() == {"name", "title", "home", "licence", "citation", "notes", "size", "files"}


def test_files_of_names(mirror, monkeypatch):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    found = fetch_published(["imagenet-real"])
    assert {path.name for path in found.written} >= {"real.json", "scores.npz"}
    assert list(found.lines()) == []
    assert json.loads(run("imagenet-real", "--json"))["written"] == [str(path) for path in found.written]


def test_nothing_is_fetched_for_a_name_that_is_none(monkeypatch):
    monkeypatch.setattr("manyhot.data.catalog.fetch", pytest.fail)
    with pytest.raises(UnknownNameError, match="imagenet-rael"):
        fetch_published(["imagenet-real", "imagenet-rael"])
