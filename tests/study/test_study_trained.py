"""Studies from the command line: one that trains networks, tiny ones, and what is printed."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

import toys
from manyhot import Labels, cli, read_predictions, write_labels
from manyhot.formats import read_classes
from manyhot.predict.predict import predict
from manyhot.study import Arm, Measurement, Net, RunMeasure, StudyDataSet, StudyMetric

SMALL = {
    "model": "timm/test_resnet",
    "weights": "none",
    "size": 32,
    "epochs": 1,
    "batch": 8,
    "augment": "none",
}


def make(folder, smoke):
    """Write 24 grey pictures, dark ones with a cat and bright ones with a dog; 16 are to train on."""
    rng = np.random.default_rng(0)
    names = [f"{i:02}.png" for i in range(24)]
    pictures = [
        rng.normal(60 + 120 * (i % 2), 20, (32, 32, 3)).clip(0, 255).astype(np.uint8) for i in range(24)
    ]
    table = {"image_id": names, "image": [encoded(p) for p in pictures]}
    pq.write_table(pa.table(table), folder / "images.parquet")
    (folder / "classes.txt").write_text("cat\ndog\n")
    classes = read_classes(folder / "classes.txt")
    for split, rows in {"train": range(16), "val": range(16, 20), "test": range(16, 24)}.items():
        states = [["no", "yes"] if i % 2 else ["yes", "no"] for i in rows]
        table = {
            "image_id": [names[i] for i in rows],
            "label": pa.array([i % 2 for i in rows], pa.int32()),
            "usable": [True] * len(rows),
            "classes": [[0, 1]] * len(rows),
            "state": states,
        }
        labels = Labels(pa.table(table), 2, classes.hash, asked_known=True)
        write_labels(labels, folder / f"labels-{split}.parquet")


def encoded(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def take(run):
    out = run.folder / "predictions"
    predict(run.images("test"), f"trained:{run.model}", out=out, engine="torch", classes=run.classes)
    found = read_predictions(next(p for p in out.glob("*.parquet") if p.name != "images.parquet"))
    return [Measurement("n", len(found.image_id), 24)]


def study():
    return toys.study(
        data_sets=(StudyDataSet("grey", "Grey pictures.", make),),
        networks=(Net("small", "Small.", SMALL),),
        arms=(
            Arm("label", "", toys.truth, {"teach": "label"}),
            Arm("sets", "", toys.truth, {"teach": "sets"}),
        ),
        seeds=(0, 1),
        measures=(RunMeasure("counted", "Counted.", take, (StudyMetric("n", "images"),)),),
        claims=(toys.claim(metric="n"),),
    )


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command on a file beside which the studies of these tests lie."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), str(Path(__file__).parent), *sys.path])

    def run(*words, made="study()", source="test_study_trained", text=toys.DOC):
        (tmp_path / "toy.py").write_text(f"{text}import {source} as made\nstudy = made.{made}\n")
        return CliRunner().invoke(cli.app, ["study", "toy.py", *words])

    return run


def test_tiny_networks_are_trained_predict_and_are_compared(run, tmp_path):
    done = run("--out", "out", "--answers", "answers")
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Read ")]
    assert lines[0].startswith("grey: data set in ") or lines[0].startswith("[1/4] grey: data set in ")
    assert [line.split("] ")[1].rpartition(" in ")[0] for line in lines[1:]] == [
        f"grey/small/{arm}/seed-{seed}: {step}"
        for arm in ("label", "sets")
        for seed in (0, 1)
        for step in ("training", "counted")
    ]
    assert (
        "- Undecided: sets against label in images (24.000 against 24.000: 0.000, no interval" in done.stdout
    )
    assert "Intervals over 2 seeds are rough." in done.stdout
    assert (tmp_path / "answers/toy/index.html").is_file()
    told = json.loads((tmp_path / "out/runs/grey/small/sets/seed-1/run.json").read_text())["training"]
    assert (told["parts"]["settings"]["seed"], told["machine"] != "") == (1, True)
    again = run("--out", "out")
    assert (again.exit_code, again.stderr) == (0, "")


def test_files_are_listed_without_being_run(run):
    done = run("--list", made="nothing")
    assert done.stdout == (
        "toy.py\n  question: Do sets help?\n  command:  manyhot study toy.py\n  time:     a second.\n"
        "  result:   they do.\n"
    )


def test_a_failure_is_told_at_the_end_by_the_exit_code(run, trainer, monkeypatch):
    def fail(run):
        raise OSError("no pictures")

    monkeypatch.setattr(toys, "take", fail)
    done = run("--out", "out", source="toys")
    assert done.exit_code == 1
    assert "[18/18] cifar/small/sets/seed-2: judged failed: OSError: no pictures\n" in done.stderr
    assert done.stderr.endswith(
        "Note: the study is incomplete: 18 failed (their folders contain failed.txt, with the whole error); "
        "run the same command again to repeat them.\n"
    )
