"""What the terminal and ``--json`` say about how each file was read."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from forking import commands
from manyhot import describe, evaluate
from manyhot.run import FilesRead


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Write labels with further columns, two models, and votes, and change to their folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.csv").write_text(
        "image,cat,dog,site,day\na.jpg,1,0,x,2026-11-01\nb.jpg,1,1,y,2026-11-02\nc.jpg,0,1,y,2026-11-03\n"
    )
    (tmp_path / "models").mkdir()
    for name in ("one", "two", "three", "four"):
        (tmp_path / "models" / f"{name}.csv").write_text(
            "image,cat,dog\na.jpg,0.9,0.25\nb.jpg,0.5,0.75\nc.jpg,0.125,0.8\n"
        )
    (tmp_path / "votes.csv").write_text(
        "image_id,rater_id,label,answer\na.jpg,ann,dog,no\na.jpg,bob,cat,yes\nb.jpg,cem,cat,yes\n"
    )
    return tmp_path


def read(*arguments):
    """Return the lines that say how files were read, and those that JSON has."""
    shown = commands.run(*arguments).stderr.splitlines()
    lines = [line.removeprefix("Read ").removesuffix(".") for line in shown if line.startswith("Read ")]
    assert json.loads(commands.run(*arguments, "--json").stdout).get("read", []) == lines
    return lines


def test_labels(folder):
    line = "labels.csv as labels (indicator): 3 images, 2 classes (cat, dog); a.jpg: cat; "
    assert read("describe", "labels.csv") == [line + "ignored columns: site, day"]


def test_predictions_beyond_two_are_counted(folder):
    labels, four, one, rest = read(
        "evaluate", "labels.csv", "--predictions", "models", "--scores", "probability", "--out", "out"
    )
    assert labels.startswith("labels.csv as labels")
    # In the order of their names.
    assert four == (
        "four.csv as predictions (score-columns): 3 images, 2 classes (cat, dog); scores: probability; "
        "a.jpg: cat (0.9), dog (0.25)"
    )
    assert one.startswith("one.csv as predictions (score-columns)")
    assert rest == "2 more as predictions (score-columns)"


def test_votes(folder):
    assert read("aggregate", "votes.csv", "--out", "sets") == [
        "votes.csv as votes (votes-table): 3 answers, 3 raters (ann, bob, cem); bob on a.jpg: cat yes"
    ]


def test_ranks_have_no_scores(folder):
    np.save("model.npy", np.array([[1, 0], [0, 1], [1, 0]]))
    lines = read(
        "evaluate", "labels.csv", "--predictions", "model.npy", "--rows", "labels.csv", "--trust-order",
        "--out", "out",
    )  # fmt: skip
    line = "model.npy as predictions (npy): 3 images, the best 2 classes as numbers; no scores; "
    assert line + "a.jpg: class 1, class 0" in lines


def test_a_file_that_manyhot_wrote_is_not_described(folder):
    commands.run("convert", "labels.csv", "labels.parquet")
    assert read("describe", "labels.parquet") == []


def test_frames(folder):
    """A result from Python has and prints the lines, too. A call inside another one adds to the outer one."""
    names = {"image_id": ["a", "a", "b"], "label": ["cat", "dog", "dog"]}
    found = describe(pl.DataFrame({**names, "decision": ["reject", "approve", "approve"]}))
    assert found.read == (
        "labels as labels (label-lists): 2 images, 2 classes (cat, dog); a: cat, dog; "
        "ignored columns: decision",
    )
    assert f"Read {found.read[0]}." in str(found).splitlines()
    with FilesRead().recording() as every:
        assert describe("labels.csv").read == ()
    assert [line.partition(" as ")[0] for line in every.lines()] == ["labels.csv"]


def test_frames_of_numbers_arrays_and_lists():
    scores = pd.DataFrame({"cat": [0.9, 0.25], "dog": [0.1, 0.5]}, ["a.jpg", "b.jpg"])
    truth = pd.DataFrame({"cat": [1, 0], "dog": [0, 1]}, ["a.jpg", "b.jpg"])
    options = {"metrics": ["map_macro"], "resamples": 0}
    model = "2 images, 2 classes (cat, dog); scores: probability; a.jpg: cat (0.9), dog (0.1)"
    assert evaluate(truth, {"net": scores}, scores="probability", **options).read == (
        "labels as labels (in memory): 2 images, 2 classes (cat, dog); a.jpg: cat",
        f"net as predictions (in memory): {model}",
    )
    found = evaluate([["cat"], ["dog"]], [["dog", "cat"]] * 2, classes=["cat", "dog"], metrics=["real1"])
    assert found.read == (
        "labels as labels (in memory): 2 images, 2 classes (cat, dog); 0: cat",
        "model as predictions (in memory): 2 images, the best 2 of 2 classes (cat, dog); no scores; "
        "0: dog, cat",
    )


def test_votes_for_one_class_are_counted_once(folder):
    """Three clicks are three votes, not yes and no answers about each class that somebody chose."""
    Path("clicks.csv").write_text("image_id,rater,label\na,u1,cat\na,u2,dog\nb,u1,dog\n")
    Path("counts.csv").write_text("image_id,cat,dog\na,1,1\nb,0,1\n")
    assert read("aggregate", "clicks.csv", "--out", "sets") == [
        "clicks.csv as votes (choices): 3 votes, 2 raters (u1, u2); u1 on a: cat"
    ]
    assert read("aggregate", "counts.csv", "--format", "counts", "--out", "counted") == [
        "counts.csv as votes (counts): 3 votes of unknown raters; a: cat"
    ]
