"""Factors as slices of any label sets of ImageNet's validation images."""

import numpy as np
import pyarrow as pa
import pytest

from imagenet_x_package import install, write_annotations
from manyhot import Images, Labels, Predictions, evaluate
from manyhot.data.inputs import Reading
from manyhot.errors import InputError, MatchError, MissingExtraError

NAMES = [f"ILSVRC2012_val_{i:08}.JPEG" for i in range(1, 5)]
ROWS = [(NAMES[0], 1, ["pose"]), (NAMES[1], 2, ["pose"]), (NAMES[2], 3, ["color"])]


@pytest.fixture
def installed(monkeypatch, tmp_path):
    install(monkeypatch, tmp_path / "site", ROWS)


def judged(names=NAMES, slices=("factor=pose",), images=None):
    ids = pa.array(names)
    table = {"image_id": ids, "label": [1, 2, 3, 4], "classes": [[1], [9], [3], [4]]} | {
        "usable": [True] * 4,
        "state": [["yes"]] * 4,
    }
    labels = Labels(pa.table(table), 1000, name="mine")
    model = Predictions(ids, "m", classes=np.array([[1], [2], [3], [4]]))
    reading = Reading(images=images)
    return evaluate(labels, [model], metrics=["top1", "real1"], slices=slices, resamples=0, reading=reading)


def values(found, metric):
    rows = (r for r in found.results.to_pylist() if r["metric"] == metric and r["slice"].startswith("factor"))
    return {r["slice"]: (r["value"], r["n"]) for r in rows}


def test_the_factors_of_ones_own_label_sets(installed):
    found = judged(slices=["factor"])
    assert values(found, "top1") == {"factor=average": (1, 3), "factor=color": (1, 1), "factor=pose": (1, 2)}
    assert values(found, "real1")["factor=pose"] == (0.5, 2)
    assert found.notes == (
        "mine: the column 'factor' is that of imagenet-x (licence CC-BY-NC-4.0)",
        "mine: 1 of 4 images have no value of factor, and are in none of its slices: to evaluate them, too, "
        "add factor= to `slices`",
    )
    assert [name for name in found.inputs if "imagenet-x" in name] == [
        "imagenet-x/imagenet_x_val_top_factor.jsonl",
        "imagenet-x/prototypical_paths.csv",
    ]


def test_ids_may_have_folders(installed):
    found = judged([f"val/n01440764/{name}" for name in NAMES])
    assert values(found, "real1") == {"factor=pose": (0.5, 2)}


def test_a_column_of_ones_own_comes_first(installed):
    images = Images(pa.table({"image_id": NAMES, "factor": ["a", "a", "a", "b"]}))
    assert values(judged(slices=["factor"], images=images), "top1") == {
        "factor=a": (1, 3),
        "factor=b": (1, 1),
    }


def test_beside_other_columns(installed):
    images = Images(pa.table({"image_id": NAMES, "camera": ["x", "x", "y", "y"]}))
    found = judged(slices=["factor=pose", "camera=x"], images=images)
    assert values(found, "top1") == {"factor=pose": (1, 2)}
    assert found.value("real1", slice="camera=x") == 0.5


def test_an_unknown_factor(installed):
    with pytest.raises(InputError) as caught:
        judged(slices=["factor=poses"])
    assert str(caught.value) == ("No image is in the slice 'factor=poses'.\n  allowed: pose, average, color")


def test_images_of_another_data_set(installed):
    with pytest.raises(MatchError) as caught:
        judged(["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    assert str(caught.value) == (
        "imagenet-x has the column 'factor', but not for these images.\n"
        "  got:     ids such as a.jpg, b.jpg\n"
        "  allowed: ids such as ILSVRC2012_val_00000001.JPEG, ILSVRC2012_val_00000002.JPEG\n"
        "  do:      pass an images table that has the column 'factor' as `images`"
    )


def test_factors_of_training_images(tmp_path):
    rows = [("n01440764_10026.JPEG", 0, ["pose"]), ("n01440764_10027.JPEG", 0, ["color"])]
    path = write_annotations(tmp_path, rows) / "imagenet_x_val_top_factor.jsonl"
    with pytest.raises(MatchError) as caught:
        judged(images=path)
    assert str(caught.value) == (
        "No images are in both mine and ImageNet-X.\n"
        "  got:     ids such as n01440764_10026.JPEG, n01440764_10027.JPEG\n"
        "  allowed: ids such as ILSVRC2012_val_00000001.JPEG, ILSVRC2012_val_00000002.JPEG\n"
        "  do:      pass the file with the images of each row, or labels of the same data set"
    )


def test_without_the_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "imagenet-x==0\.0\.7"'):
        judged()


def test_published_images_of_another_data_set_leave_the_slice_out(installed, mirror, monkeypatch):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    found = evaluate(
        "imagenetv2-matched-frequency",
        models=["alexnet"],
        metrics=["top1"],
        slices=["factor=pose", "class=n01440764"],
        resamples=0,
    )
    slices = found.results["slice"].unique().to_pylist()
    assert "class=n01440764" in slices
    assert "factor=pose" not in slices
    assert found.notes == (
        "imagenetv2-matched-frequency: factor=pose left out: imagenet-x has the column 'factor', but not "
        "for these images",
    )
