"""Lists of what is registered: the same from Python, as text and as JSON."""

import json

from typer.testing import CliRunner

from manyhot import cli, list_losses, list_metrics, list_proposers, registry


def run(*words):
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_lists_hold_everything_that_is_registered():
    for kind, listed in (("metric", list_metrics()), ("loss", list_losses()), ("proposer", list_proposers())):
        assert [row["name"] for row in listed.to_json()] == registry.names(kind)
        assert listed._repr_html_().startswith(
            '<div style="overflow-x: auto"><table><thead><tr><th style="text-align: left">name'
        )


def test_text_and_json():
    rows = json.loads(run("metrics", "--json"))
    (jaccard,) = (row for row in rows if row["name"] == "jaccard")
    assert jaccard["better"] == "higher"
    assert "threshold" in jaccard["options"]
    lines = run("metrics").splitlines()
    assert lines[0].split() == ["name", "better", "options", "what", "it", "is"]
    assert len(lines) == len(rows) + 1
    assert json.loads(run("proposers", "--json"))[0].keys() == {"name", "options", "summary"}
    assert {row["ends"] for row in json.loads(run("losses", "--json"))} == {"softmax", "sigmoid"}
