"""The commands around campaigns: what is printed, and exit codes."""

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from manyhot import Reading, cli, propose, read_images, read_predictions
from manyhot.errors import ManyhotError
from manyhot.formats import read_classes


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs a command line beside four photos, five classes and two models."""
    monkeypatch.chdir(tmp_path)
    Path("photos.csv").write_text("image_id,label\na.jpg,0\nb.jpg,1\nc.jpg,2\nd.jpg,3\n")
    Path("classes.txt").write_text("cat\ndog\ncow\nhen\nowl\n")
    Path("known.csv").write_text(
        "image_id,class_id,state\na.jpg,0,yes\nb.jpg,1,yes\nb.jpg,2,no\nc.jpg,2,yes\n"
    )
    Path("models").mkdir()
    for name, top in (("one", ("01", "21", "24", "30")), ("two", ("01", "12", "42", "31"))):
        lines = [f"{i}.jpg,{' '.join(t)}" for i, t in zip("abcd", top, strict=True)]
        Path(f"models/{name}.csv").write_text("\n".join(["image_id,classes", *lines]) + "\n")

    def go(line):
        done = CliRunner().invoke(cli.app, shlex.split(line))
        if isinstance(done.exception, ManyhotError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    return go


INIT = "init camp --images photos.csv --classes classes.txt --predictions models/one.csv models/two.csv"


def test_init_says_what_is_there_and_what_comes_next(run):
    assert run(INIT).splitlines() == [
        "made the campaign camp, over the 5 classes of classes",
        "table              what",
        "images       done  4 images",
        "predictions  done  2 models",
        "proposals    –     none yet",
        "votes        –     none yet",
        "labels       –     none yet",
        "next: propose the classes to ask about",
        "  manyhot propose camp",
        "wrote camp",
    ]
    again = "nothing to do, this is the campaign camp, over the 5 classes of classes"
    assert run(INIT).splitlines()[0] == again
    assert json.loads(run(f"{INIT} --json"))["written"] == []


def test_propose_says_what_it_costs_and_finds(run):
    run(INIT)
    assert run("propose camp --known-labels known.csv --resamples 0").splitlines() == [
        "union, 2 models",
        "questions        4  about 2 images, 2.00 an image",
        "left out         2  of 4 images, which need no question",
        "hours          0.0  5 answers each, 5 seconds an answer",
        "recall      100.0%  of 3 known labels of 3 images",
        "precision    50.0%  of 4 questions of 3 images",
        "unanswered       1  questions that the known label sets do not answer, counted as no",
        "wrote camp/proposals.parquet",
    ]
    shown = run("propose camp --known-labels known.csv --rule \"real-search(by='rank')\"").splitlines()
    # Every known label is an original label: no question is needed.
    assert shown[1:7] == [
        "questions       0  about 0 images",
        "left out        4  of 4 images, which need no question",
        "hours         0.0  5 answers each, 5 seconds an answer",
        # Of 3 images without a miss: Wilson's interval with t of 2 degrees of freedom, 3 / (3 + t**2).
        "recall     100.0%  13.9% to 100.0%, of 3 known labels of 3 images",
        "precision       –  of 0 questions of 3 images",
        "                   each image is evaluated with a rule that was fitted without it",
    ]
    assert "search: all" in shown
    assert any(line.startswith("on the images of the search: recall 100.0%") for line in shown)


def test_without_known_sets(run):
    run(INIT)
    shown = run("propose camp --models one --seconds 3 --raters 2").splitlines()
    assert [line.split()[0] for line in shown] == ["union,", "questions", "left", "hours", "recall", "wrote"]


def test_status_says_how_to_ask(run):
    run(INIT)
    run("propose camp")
    assert run("status camp").splitlines()[-2:] == [
        "next: ask raters the questions, or put answers into camp/votes.parquet",
        "  manyhot annotate camp",
    ]


def test_propose_as_json(run):
    run(INIT)
    told = json.loads(run("propose camp --known-labels known.csv --resamples 0 --out more.parquet --json"))
    assert told["expected"]["recall"] == {"value": 1.0, "lo": None, "hi": None}
    assert {k: told[k] for k in ("images", "left_out", "questions", "per_image", "written")} == {
        "images": 4,
        "left_out": 2,
        "questions": 4,
        "per_image": 2.0,
        "written": ["more.parquet"],
    }


def test_status_as_json(run):
    run(INIT)
    told = json.loads(run("status camp --json"))
    assert told["stages"]["predictions"] == {"done": True, "count": 2, "what": "models"}
    assert told["stages"]["votes"] == {"done": False, "count": None, "what": "none yet"}
    assert told["command"] == "manyhot propose camp"


def test_rules_are_listed(run):
    names = [r["name"] for r in json.loads(run("proposers --json"))]
    assert names == ["union", "all-classes", "top-k", "real-search", "mean-probability", "label-errors"]
    assert "real-search" in run("proposers")


def test_lists_without_probabilities(run):
    run(INIT)
    with pytest.raises(ManyhotError) as error:
        run("propose camp --rule label-errors")
    assert error.value.exit_code == 3
    assert str(error.value).startswith("The predictions of one have no probabilities.\n")


def test_proposals_are_the_same_from_a_campaign_files_and_tables(run):
    run(INIT)
    campaign = propose("camp")
    reading = Reading(classes="classes.txt")
    files = propose("photos.csv", ["models/one.csv", "models/two.csv"], reading=reading)
    classes = read_classes("classes.txt")
    models = [read_predictions(f"models/{n}.csv", classes=classes) for n in ("one", "two")]
    tables = propose(read_images("photos.csv"), models, reading=reading)
    assert files.table.equals(campaign.table)
    assert tables.table.equals(campaign.table)
    assert set(files.inputs) == {"photos.csv", "classes.txt", "one.csv", "two.csv"}
    run("propose photos.csv --predictions models --classes classes.txt --out mine.csv")
    header = Path("mine.csv").read_text().splitlines()[0]
    assert header == "image_id,class_id,score,n_models,source,class_name"
