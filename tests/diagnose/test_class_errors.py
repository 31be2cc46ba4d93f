"""What diagnose errors says about the classes of multi-label data."""

import json

import numpy as np
import pytest

from manyhot import Reading, diagnose_classes, diagnose_errors, tables
from manyhot.run import Run

NAMES = ["atelectasis", "edema", "pneumonia"]
READING = Reading(scores="probability", classes=NAMES, dataset="rays")


@pytest.fixture(scope="module")
def rays():
    rng = np.random.default_rng(0)
    p = rng.beta(0.4, 1.6, (500, 3)).astype(np.float32)
    return (rng.random(p.shape) < p).astype(int), p


@pytest.fixture(scope="module")
def found(rays):
    valid, p = rays
    return diagnose_errors(valid, {"net": p}, event="set", reading=READING)


def test_errors_of_each_class_are_those_of_diagnose_classes(rays, found):
    valid, p = rays
    errors = tables.check(found.class_errors, "class_errors").to_pylist()
    for row in diagnose_classes(valid, {"net": p}, reading=READING).class_results.to_pylist():
        own = [r["error"] for r in errors if r["name"] == row["name"]]
        assert own.count("false positive") == row["n_predicted"] - row["n_right"]
        assert own.count("miss") == row["n_positives"] - row["n_right"]
    for r in errors:
        i, c = int(r["image_id"]), NAMES.index(r["name"])
        assert valid[i, c] == (r["error"] == "miss")
        assert r["probability"] == pytest.approx(p[i, c])
        assert (r["probability"] < r["threshold"]) == (r["error"] == "miss")


def test_the_first_sentence_counts_pairs_on_all_images(rays, found):
    valid, _ = rays
    kinds = found.class_errors["error"].to_pylist()
    lines = list(found.lines())
    wrong, missed = kinds.count("false positive"), kinds.count("miss")
    absent, present, empty = np.sum(valid == 0), valid.sum(), np.sum(~valid.any(axis=1))
    assert lines[0].startswith(
        f"net makes {wrong:,} of the {absent:,} possible false positives, and misses {missed:,} of the "
        f"{present:,} valid classes, on 500 images of rays, of which {empty:,} have no valid class. "
    )
    assert f"first 10 of {len(kinds):,} false positives and misses, the most confident of each first" in lines
    head = next(line for line in lines if "confidence" in line and line.startswith("image"))
    assert head.split() == ["image", "predicted", "kind", "confidence"]  # and no column of dashes
    assert found.to_json()["class_errors"][0]["n"] == 500


def test_files_and_page(found, tmp_path):
    written = {path.name for path in found.write(tmp_path, run=Run())}
    assert {"class_errors.parquet", "class_errors.csv"} <= written
    page = (tmp_path / "report" / "index.html").read_text()
    assert "False positives and misses" in page
    assert "Errors by class" in page
    assert json.loads(
        tables.metadata(tables.read(tmp_path / "class_errors.parquet", "class_errors"))["counts"]
    )
    assert {path.name for path in found.write(tmp_path / "one.csv")} == {
        "one.csv",
        "one-counts.csv",
        "one-class-errors.csv",
    }


def test_original_labels_have_no_errors_of_classes(rays, tmp_path):
    valid, p = rays
    reading = Reading(scores="probability", classes=NAMES, label=valid.argmax(axis=1))
    found = diagnose_errors(valid, {"net": p}, event="set", reading=reading)
    assert found.class_errors.num_rows == 0
    assert "class_errors" not in found.to_json()
    assert "class_errors.csv" not in {path.name for path in found.write(tmp_path)}
    assert not [line for line in found.lines() if "false positive" in line]
