"""What ``manyhot detect`` writes, on made-up detectors whose boxes are known."""

import numpy as np
import polars as pl
import pytest
from PIL import Image

import manyhot
from manyhot import registry
from manyhot.classes import from_keys
from manyhot.errors import InputError, MatchError, UnknownNameError
from manyhot.formats import read_labels, read_objects, read_predictions
from manyhot.predict.detector import Detections, ObjectDetector
from manyhot.predict.matched_classes import match_classes

pytest.importorskip("torch")
pytest.importorskip("torchvision")

CLASSES = from_keys(["Cat", "Dog", "Kitten", "Sun"], "toy")

BOXES = {
    "red": [(0, 0.9, (0, 0, 0.5, 1)), (1, 0.3, (0.5, 0, 1, 1))],
    "green": [(0, 0.6, (0, 0, 1, 1)), (1, 0.55, (0, 0, 1, 0.9)), (1, 0.5, (0, 0, 0.2, 0.2))],
    "blue": [(2, 0.8, (0, 0, 1, 1)), (0, 0.7, (0, 0, 1, 0.95)), (3, 0.1, (0, 0, 1, 1))],
}
"""Class, score and box of what the detector finds in an image of a colour."""

calls = []


def look(pixels):
    calls.append(pixels.shape)
    colour = list(BOXES)[int(pixels.float().mean(dim=(1, 2)).argmax())]
    classes, scores, boxes = zip(*BOXES[colour], strict=True)
    presence = np.full(len(CLASSES), 0.02, np.float32)
    np.maximum.at(presence, list(classes), np.array(scores, np.float32))
    return Detections(np.array(boxes, float), np.array(classes), np.array(scores), presence)


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    registry.load_kind("detector")
    entry = registry.Entry("detector", "toy", lambda: ObjectDetector("toy", CLASSES, look, threads=2))
    monkeypatch.setitem(registry._entries, ("detector", "toy"), entry)
    calls.clear()


def rows(table):
    columns = ["image_id", "class", "x1", "y1", "x2", "y2", "score"]
    return [
        tuple(np.round(v, 3) if isinstance(v, float) else v for v in row)
        for row in pl.DataFrame(table).select(columns).iter_rows()
    ]


def states(path):
    table = pl.read_parquet(path).sort("image_id")
    return {
        row["image_id"]: dict(zip(row["classes"], row["state"], strict=True))
        for row in table.iter_rows(named=True)
    }


def test_the_tables(folder, tmp_path):
    found = manyhot.find_objects(folder, "toy", out=tmp_path / "out")
    assert (found.n, found.n_skipped) == (3, 1)
    # A box at the place of a surer one of another class is not an object.
    assert sorted(rows(found.objects)) == [
        ("b.png", "Kitten", 0.0, 0.0, 1.0, 1.0, 0.8),
        ("g.png", "Cat", 0.0, 0.0, 1.0, 1.0, 0.6),
        ("g.png", "Dog", 0.0, 0.0, 0.2, 0.2, 0.5),
        ("r.png", "Cat", 0.0, 0.0, 0.5, 1.0, 0.9),
    ]
    assert states(tmp_path / "out" / "labels.parquet") == {
        "b.png": {0: "unclear", 1: "no", 2: "yes", 3: "no"},
        "g.png": {0: "yes", 1: "yes", 2: "no", 3: "no"},
        "r.png": {0: "yes", 1: "unclear", 2: "no", 3: "no"},
    }
    predictions = read_predictions(tmp_path / "out" / "predictions" / "toy.parquet")
    assert predictions.score_kind == "probability"
    np.testing.assert_allclose(
        predictions.scores[predictions.image_id.to_pylist().index("r.png")], [0.9, 0.3, 0.02, 0.02], rtol=1e-3
    )
    skipped = (tmp_path / "out" / "skipped.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in skipped] == ["image_id", "e.jpg"]
    assert skipped[1].endswith(",the file is empty,toy")
    assert found.notes == ()


def test_the_terminal(folder, tmp_path):
    found = manyhot.find_objects(folder, "toy", out=tmp_path / "out")
    assert list(manyhot.find_objects(folder, "toy", out=tmp_path / "out").lines()) == [
        "toy: 3 images, already done; skipped 1",
        "class   objects  images with it  unclear  without",
        "Cat           2               2        1        0",
        "Dog           1               1        1        1",
        "Kitten        1               1        0        2",
        "Sun           0               0        0        3",
    ]
    assert found.to_json()["classes"][1] == {"class": "Dog", "yes": 1, "unclear": 1, "no": 1}


def test_tables_keep_the_class_list(folder, tmp_path):
    manyhot.find_objects(folder, "toy", out=tmp_path / "out")
    assert read_objects(tmp_path / "out" / "objects.parquet").keys == CLASSES.keys
    assert read_labels(tmp_path / "out" / "labels.parquet").class_list.keys == CLASSES.keys


def test_classes_of_a_data_set(folder, tmp_path):
    """Two classes of the detector are one of the data set; their boxes are suppressed together."""
    (tmp_path / "classes.txt").write_text("dog\nhorse\ncat\n")
    (tmp_path / "map.csv").write_text("detector_class,class\nKitten,cat\nSun,\n")
    found = manyhot.find_objects(
        folder,
        "toy",
        out=tmp_path / "out",
        classes=tmp_path / "classes.txt",
        class_map=tmp_path / "map.csv",
    )
    assert [row for row in rows(found.objects) if row[0] == "b.png"] == [("b.png", "cat", 0, 0, 1, 1, 0.8)]
    assert states(tmp_path / "out" / "labels.parquet")["b.png"] == {0: "no", 2: "yes"}
    predictions = read_predictions(tmp_path / "out" / "predictions" / "toy.parquet")
    row = predictions.image_id.to_pylist().index("b.png")
    assert predictions.classes[row].tolist() == [2, 0]
    assert predictions.n_classes == 3
    assert found.notes == (
        "classes of the detector with a different name in the data set: Kitten as cat",
        "1 of 3 classes of the data set are not classes of the detector, so they are not in the label sets: "
        "horse",
        "1 classes of the detector are not used: Sun",
    )
    assert set(found.inputs) == {"classes.txt", "map.csv"}


def test_names_are_matched_without_case_spaces_and_hyphens():
    own = from_keys(["Dining table", "potted-plant", "TV"], "own")
    matched = match_classes(own, from_keys(["diningtable", "tv", "potted plant"], "theirs"))
    assert matched.class_of.tolist() == [0, 2, 1]
    assert list(matched.notes()) == []


def test_a_killed_run_is_resumed(many, tmp_path, monkeypatch):
    whole = manyhot.find_objects(many, "toy", out=tmp_path / "whole")
    calls.clear()

    def fail(pixels):
        if len(calls) >= 700:
            raise KeyboardInterrupt
        return look(pixels)

    entry = registry.Entry("detector", "toy", lambda: ObjectDetector("toy", CLASSES, fail))
    monkeypatch.setitem(registry._entries, ("detector", "toy"), entry)
    with pytest.raises(KeyboardInterrupt):
        manyhot.find_objects(many, "toy", out=tmp_path / "out")
    assert not (tmp_path / "out" / "objects.parquet").exists()
    calls.clear()
    entry = registry.Entry("detector", "toy", lambda: ObjectDetector("toy", CLASSES, look))
    monkeypatch.setitem(registry._entries, ("detector", "toy"), entry)
    again = manyhot.find_objects(many, "toy", out=tmp_path / "out")
    assert len(calls) == 1100 - 512
    assert again.objects.equals(whole.objects)
    assert again.labels.equals(whole.labels)


def test_a_folder_of_another_run(folder, tmp_path):
    manyhot.find_objects(folder, "toy", out=tmp_path / "out")
    with pytest.raises(
        MatchError, match=r"^The folder contains predictions from another run, which differs in"
    ):
        manyhot.find_objects(folder, "toy", out=tmp_path / "out", min_score=0.5)


def message(error, call):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


def test_mistakes(folder, tmp_path):
    out = tmp_path / "out"
    assert message(InputError, lambda: manyhot.find_objects(folder, "toy", out=out, min_unclear=0.5)) == (
        "`min_unclear` is out of range.\n  got:     0.5\n  allowed: 0.01 to `min_score`, 0.4"
    )
    assert message(InputError, lambda: manyhot.find_objects(folder, "toy", out=out, class_map="m.csv")) == (
        "`class_map` needs the class list of the data set.\n  do:      also pass `classes`"
    )
    assert message(
        MatchError, lambda: manyhot.find_objects(folder, "toy", out=out, classes=from_keys(["a", "b"], "own"))
    ) == (
        "The detector has none of the classes of the data set.\n"
        "  where:   toy\n"
        "  got:     a, b\n"
        "  allowed: names such as Cat, Dog, Kitten, Sun\n"
        "  do:      pass `class_map`, a table with the columns 'detector_class' and 'class'"
    )
    assert message(UnknownNameError, lambda: manyhot.find_objects(folder, "objectron", out=out)).endswith(
        "\n  do:      did you mean 'objectron-ssd'?"
    )
    (tmp_path / "map.csv").write_text("from,to\nCat,a\n")
    own = from_keys(["a", "b"], "own")
    assert message(InputError, lambda: match_classes(CLASSES, own, tmp_path / "map.csv")) == (
        "The table of classes lacks a column.\n"
        f"  where:   {tmp_path / 'map.csv'}\n"
        "  got:     from, to\n"
        "  allowed: detector_class and class"
    )
    (tmp_path / "map.csv").write_text("detector_class,class\nCat,a\ncat,b\n")
    assert message(InputError, lambda: match_classes(CLASSES, own, tmp_path / "map.csv")) == (
        f"The table of classes lists a class twice.\n  where:   {tmp_path / 'map.csv'}, row 1\n  got:     cat"
    )


def test_a_folder_without_images_that_can_be_decoded(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"^None of the images could be decoded\."):
        manyhot.find_objects(tmp_path / "in", "toy", out=tmp_path / "out")


def test_images_without_objects(tmp_path, monkeypatch):
    Image.new("RGB", (9, 9), (0, 0, 255)).save(tmp_path / "a.png")
    monkeypatch.setitem(BOXES, "blue", [(3, 0.1, (0, 0, 1, 1))])
    found = manyhot.find_objects(tmp_path, "toy", out=tmp_path / "out")
    assert (len(found.objects), found.n) == (0, 1)
    assert states(tmp_path / "out" / "labels.parquet") == {"a.png": dict.fromkeys(range(4), "no")}
