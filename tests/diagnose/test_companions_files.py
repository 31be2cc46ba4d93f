"""Recall beside companions from files to files, and what the command prints of it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest
from typer.testing import CliRunner

from manyhot import cli, diagnose_companions, read_labels, read_predictions, tables
from manyhot.data.inputs import Reading
from manyhot.tables.array_inputs import as_labels


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """Write label sets, and a model that finds the cat beside each sofa, and in half of the other images."""
    monkeypatch.chdir(tmp_path)
    Path("classes.txt").write_text("cat\nsofa\ndog")
    labels = as_labels([[0, 1]] * 30 + [[0]] * 40, n_classes=3, label=[0] * 70)
    tables.write_labels(labels, "labels.parquet")
    best = np.array([[0]] * 50 + [[2]] * 20)
    tables.write_predictions(tables.Predictions(labels.image_id, "net", best, n_classes=3), "net.parquet")


def run(*words):
    given = ["labels.parquet", "--predictions", "net.parquet", "--k", "1"]
    return CliRunner().invoke(cli.app, ["diagnose", "companions", *given, *words])


def test_the_command_prints_and_writes():
    done = run("--classes", "classes.txt", "--out", "out")
    assert done.exit_code == 0, done.output
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert lines == [
        "labels, 1 model: 1 pair of classes, 1 on 25 images or more",
        "tested pairs: 1; with the companion, the class is found more often in 1 and less often in 0 of "
        "these pairs, with an adjusted p below 0.05",
        # Of sofas the only label is cat, so that with k = 1 none is ever looked for.
        "pairs that cannot be tested: 1, because there are no images with the companion or none without it",
        "",
        "class  companion  lift  with  without  difference        adjusted p  images",
        "cat    sofa       1 ±0  100%      50%  +50 (+31 to +63)  < 0.0001    30 and 40",
        "",
        "wrote out/companions.parquet",
        "wrote out/companions.csv",
        "wrote out/report/index.html",
    ]
    table = tables.read("out/companions.parquet", "companions")
    assert pl.read_csv("out/companions.csv").height == table.num_rows == 4
    about = tables.metadata(table)
    said = {key: about[key] for key in ("least", "found", "labelled", "unasked")}
    assert said == {"least": "25", "found": "among the best 1", "labelled": "false", "unasked": "false"}
    assert set(json.loads(about["inputs"])) == {"labels.parquet", "net.parquet", "classes.txt"}
    first = Path("out/companions.parquet").read_bytes()
    assert run("--classes", "classes.txt", "--out", "out").exit_code == 0
    assert Path("out/companions.parquet").read_bytes() == first


def test_recalls_have_intervals():
    """Of 30 images with the companion, all are found, and of 40 without it, a half."""
    assert run("--out", "out").exit_code == 0
    (row,) = pl.read_parquet("out/companions.parquet").filter(main=0, companion=1, model="net").to_dicts()
    for side, k, n in (("with", 30, 30), ("without", 20, 40)):
        ends = binomtest(k, n).proportion_ci(method="wilson")
        assert (row[f"recall_{side}_lo"], row[f"recall_{side}_hi"]) == pytest.approx((ends.low, ends.high))
    (other,) = pl.read_parquet("out/companions.parquet").filter(main=1, companion=0, model="net").to_dicts()
    assert (other["n_without"], other["recall_without_lo"]) == (0, None)
    page = Path("out/report/index.html").read_text()
    assert "100 % (89 to 100)" in page
    assert "50 % (35 to 65)" in page


def test_images_without_a_prediction_are_counted():
    net = read_predictions("net.parquet")
    short = replace(net, image_id=net.image_id[:68], classes=net.classes[:68])
    tables.write_predictions(short, "net.parquet")
    lines = run().stdout.splitlines()
    assert lines[1] == "left out: 2 of 70 images, because a model has no prediction for them"


def test_options_and_json():
    done = run("--min-images", "20", "--labelled", "--unasked", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [(r["main_name"], r["companion_name"], r["n_with"]) for r in told["tested"]] == [
        ("0", "1", 30),
        ("1", "0", 0),
    ]
    assert told["tested"][1]["difference"] is None
    assert told["written"] == [
        "companions/companions.parquet",
        "companions/companions.csv",
        "companions/report/index.html",
    ]
    none = run("--least", "31")  # as it was called
    assert none.stderr.startswith("Note: --least is called --min-images now.\n")
    assert none.stdout.splitlines()[0] == "labels, 1 model: 1 pair of classes, 0 on 31 images or more"


def test_the_page_shows_pairs_that_were_tested():
    assert run("--classes", "classes.txt", "--out", "out").exit_code == 0
    page = Path("out/report/index.html").read_text()
    assert ">sofa<" in page
    assert "50 (31 to 63)" in page
    assert "A class is found if it is the top class: only one of two" in page
    assert run("--min-images", "31", "--out", "out").exit_code == 0
    assert "50 (31 to 63)" not in Path("out/report/index.html").read_text()


def test_what_is_not_overwritten():
    Path("net.parquet").rename("companions.parquet")
    words = ["labels.parquet", "--predictions", "companions.parquet", "--k", "1", "--out", "."]
    done = CliRunner().invoke(cli.app, ["diagnose", "companions", *words])
    assert str(done.exception) == (
        "The output would overwrite an input.\n"
        "  where:   .\n"
        "  got:     companions.parquet\n"
        "  do:      choose another path for the output"
    )


def rows_of(found):
    return str(found.table.to_pylist())  # NaN is not itself


def test_the_same_from_files_tables_and_arrays():
    reading = Reading(classes="classes.txt")
    files = diagnose_companions("labels.parquet", "net.parquet", k=1, reading=reading)
    labels, net = read_labels("labels.parquet"), read_predictions("net.parquet")
    assert rows_of(diagnose_companions(labels, net, k=1, reading=reading)) == rows_of(files)
    sets = tables.read("labels.parquet", "labels")["classes"].to_pylist()
    arrays = diagnose_companions(sets, {"net": net.classes}, k=1, reading=replace(reading, dataset="labels"))
    assert rows_of(arrays) == rows_of(files)
    assert set(files.inputs) == {"labels.parquet", "net.parquet", "classes.txt"}
    assert str(files).startswith("labels, 1 model: 1 pair of classes")
    assert [p.name for p in files.write("mine")] == ["companions.parquet", "companions.csv", "index.html"]


def test_a_file_is_written_without_a_page():
    done = run("--classes", "classes.txt", "--out", "pairs.csv")
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith("wrote pairs.csv\n")
    assert pl.read_csv("pairs.csv").height == 4


def test_label_sets_without_any_valid_class_have_no_pairs():
    tables.write_labels(as_labels([[]] * 70, n_classes=3, label=[0] * 70), "labels.parquet")
    done = run("--classes", "classes.txt", "--out", "none")
    assert done.exit_code == 0, done.output
    assert pl.read_parquet("none/companions.parquet").height == 0
    page = Path("none/report/index.html").read_text(encoding="utf-8")
    assert "Nothing was found: companions.csv has no rows that this page could show." in page
