"""A study of one's own files: the data set, the ready-made measures, and the example of the documentation."""

import csv
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

from manyhot import as_labels, read_labels
from manyhot.errors import InputError, UnknownNameError
from manyhot.study import (
    JudgedRun,
    accuracy_measure,
    corruption_measure,
    own_data,
    replicate_counts,
    run_studies,
)
from manyhot.study.ready_measures import _losses
from manyhot.tables import write_labels
from manyhot.tables.arrays import label_sets

pytest.importorskip("torch")

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
COLOURS = ("blue", "green", "red")


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch):
    """Write images with two coloured squares in the folder of the larger one, and their label sets."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for split, file, n in (("train", "sets.csv", 24), ("test", "test_sets.csv", 12)):
        rows = [["file", *COLOURS]]
        for i in range(n):
            first, second = (int(c) for c in rng.permutation(3)[:2])
            pixels = rng.integers(0, 250, (32, 32, 3), np.uint8)
            pixels[2:18, 2:18, 2 - first] = 255
            pixels[20:30, 20:30, 2 - second] = 255
            path = Path(f"photos/{split}/{COLOURS[first]}/{split}{i:02}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
            rows.append(
                [f"{split}/{COLOURS[first]}/{path.name}", *(int(c in (first, second)) for c in range(3))]
            )
        with Path(file).open("w", newline="") as opened:
            csv.writer(opened).writerows(rows)


def made(smoke=False, **options):
    Path("made").mkdir()
    splits = {"train": ("photos/train", "sets.csv"), "test": ("photos/test", "test_sets.csv")}
    own_data("mine", "Mine.", **{**splits, **options}).make(Path("made"), smoke)


def test_label_sets_and_class_folders_are_joined():
    made(more_labels={"soft": "sets.csv"}, val="photos/test")
    assert Path("made/classes.txt").read_text().split() == list(COLOURS)
    for split, n in (("train", 24), ("test", 12), ("val", 12)):
        labels = read_labels(f"made/labels-{split}.parquet")
        images = pq.read_table(f"made/images-{split}.parquet")
        assert set(images["image_id"].to_pylist()) == set(labels.image_id.to_pylist())
        assert len(labels) == n
        folder = {p.name: p.parent.name for p in Path("photos").rglob("*.png")}
        original = [COLOURS[label] for label in labels.table["label"].to_pylist()]
        assert original == [folder[name] for name in labels.image_id.to_pylist()]
        assert (label_sets(labels).size == (1 if split == "val" else 2)).all()
    first = pq.read_table("made/images-train.parquet").to_pylist()[0]
    (file,) = Path("photos").rglob(first["image_id"])
    assert first["image"] == file.read_bytes()
    soft = read_labels("made/labels-soft.parquet")
    assert {p for row in soft.table["p"].to_pylist() for p in row} == {0.0, 1.0}


@pytest.mark.parametrize("form", ["shares", "counts", "table"])
def test_soft_labels_are_read_in_each_form(form):
    with Path("sets.csv").open(newline="") as opened:
        names = [row[0] for row in csv.reader(opened)][1:]
    counts = np.random.default_rng(2).multinomial(10, [0.5, 0.3, 0.2], len(names))
    values = counts if form == "counts" else counts / 10
    with Path("soft.csv").open("w", newline="") as opened:
        csv.writer(opened).writerows(
            [["file", *COLOURS], *([n, *v] for n, v in zip(names, values, strict=True))]
        )
    file = "soft.csv"
    if form == "table":
        file = write_labels(read_labels("soft.csv", label_values="shares"), "soft.parquet")
    made(more_labels={"soft": file})
    soft = read_labels("made/labels-soft.parquet")
    found = {
        name: dict(zip(classes, p, strict=True))
        for name, classes, p in zip(
            soft.image_id.to_pylist(),
            soft.table["classes"].to_pylist(),
            soft.table["p"].to_pylist(),
            strict=True,
        )
    }
    for name, row in zip(names, counts / 10, strict=True):
        p = found[Path(name).name]
        assert [p.get(c, 0) for c in range(3)] == pytest.approx(row.tolist())


def test_labels_of_images_that_are_not_there():
    next(Path("photos/test").rglob("*.png")).unlink()
    with pytest.raises(InputError, match="Some labelled images are not in the source"):
        made()


def test_replicates_are_the_metric_on_resamples_of_the_images():
    rng = np.random.default_rng(1)
    scores, hot = rng.random((40, 3)).astype(np.float32), rng.random((40, 3)) < 0.5
    hot[:, 0] |= ~hot.any(axis=1)
    labels = as_labels(hot.astype(int), n_classes=3)
    judged = JudgedRun(label_sets(labels), scores, "probability")
    (found,) = judged.measured(["map_macro"])
    assert found.value == pytest.approx(average_precision_score(hot, scores))
    for counts, value in list(zip(replicate_counts(40), found.replicates, strict=True))[:5]:
        rows = np.repeat(np.arange(40), counts)
        assert value == pytest.approx(average_precision_score(hot[rows], scores[rows]))
    worse = [*JudgedRun(label_sets(labels), 1 - scores, "probability").measured(["map_macro"])]
    corrupted, lost = _losses([found], [worse, worse])
    assert (corrupted.metric, lost.metric) == ("corrupted_map_macro", "lost_map_macro")
    assert lost.value == pytest.approx(found.value - average_precision_score(hot, 1 - scores))
    np.testing.assert_allclose(lost.replicates, found.replicates - worse[0].replicates)


def test_metrics_of_measures():
    measure = corruption_measure("real1", "ece")
    assert [(m.name, m.better) for m in measure.metrics] == [
        ("corrupted_real1", "higher"),
        ("corrupted_ece", "lower"),
        ("lost_real1", "lower"),
        ("lost_ece", "higher"),
    ]
    with pytest.raises(UnknownNameError, match="map_macr"):
        accuracy_measure("map_macr")


def test_the_example_of_the_documentation():
    pytest.importorskip("timm")
    page = (DOCS / "guides/train/studies.md").read_text()
    fences = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    text = next(body for body in fences if "own_data(" in body)
    small = '{"model": "timm/test_resnet", "weights": "none", "size": 32, "epochs": 1, "batch": 12}'
    text = re.sub(r"^head = .*$", f"head = {small}", text, flags=re.MULTILINE).replace("(0, 1, 2)", "(0, 1)")
    further = (
        "corruption_measure('real1', corruptions=('fog',)), transfer_measure('photos/test', 'photos/test'), "
    )
    text = text.replace("(accuracy_measure(), ", f"(accuracy_measure(), {further}")
    text = text.replace("accuracy_measure, ", "accuracy_measure, corruption_measure, transfer_measure, ", 1)
    Path("own.py").write_text(text)
    (answer,) = run_studies("own.py", out="study", smoke=True).answers
    assert (answer.failed, len(answer.sentences)) == (0, 6)
    rows = [row for row in answer.effects.to_pylist() if row["dataset"] is None]
    assert {row["metric"] for row in rows} == {"real1", "map_macro", "ece_set"}
    assert not answer.doubts
    (runs,) = Path("study").rglob("runs.parquet")
    found = [row for row in pq.read_table(runs).to_pylist() if row["metric"] == "transfer_top1"]
    assert len(found) == 6
    assert all(row["n"] > 0 and 0 <= row["value"] <= 1 and row["error"] is not None for row in found)
    assert all(row["error_images"] is not None for row in rows)  # intervals are over images, too
