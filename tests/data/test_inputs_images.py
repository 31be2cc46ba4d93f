"""Original labels in one table, and the places of the photographs in another."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import csv
from sklearn.metrics import average_precision_score

import manyhot as mh
from manyhot.data.inputs import Reading, open_inputs, open_labels
from manyhot.errors import InputError
from manyhot.formats import read_labels_or_originals
from manyhot.tables.arrays import label_sets


@pytest.fixture
def files(tmp_path):
    labels = pa.table({"image_id": ["b.jpg", "a.jpg"], "label": ["dog", "cat"]})
    images = pa.table({"image_id": ["a.jpg", "b.jpg"], "uri": ["photos/a.jpg", "photos/b.jpg"]})
    for name, table in (("labels", labels), ("images", images)):
        csv.write_csv(table, tmp_path / f"{name}.csv")
    return tmp_path / "labels.csv", tmp_path / "images.csv"


def check_joined(source):
    images = source.images
    label = dict(zip(images.image_id.to_pylist(), images.label.to_pylist(), strict=True))
    names = source.classes.keys
    assert {name: names[c] for name, c in label.items()} == {"a.jpg": "cat", "b.jpg": "dog"}
    uris = dict(zip(images.image_id.to_pylist(), images.table["uri"].to_pylist(), strict=True))
    assert {name: uri.rpartition("/")[2] for name, uri in uris.items()} == {n: n for n in ("a.jpg", "b.jpg")}


def test_labels_alone(files):
    labels, images = files
    (source,) = open_labels(labels, reading=Reading(images=images))
    check_joined(source)


def test_labels_beside_predictions_in_memory(files):
    labels, images = files
    scores = np.array([[0.9, 0.1], [0.2, 0.8]])
    (source,) = open_inputs(labels, {"net": scores}, reading=Reading(images=images, scores="probability"))
    check_joined(source)


def test_images_that_the_labels_lack_are_no_images_of_the_data_set(files):
    """An images table of all splits, and labels of one: no label is missing, and arrays have its rows."""
    labels, images = files
    more = {"image_id": ["x.jpg", "a.jpg", "b.jpg"], "uri": ["p/x.jpg", "photos/a.jpg", "photos/b.jpg"]}
    csv.write_csv(pa.table(more), images)
    (source,) = open_labels(labels, reading=Reading(images=images))
    assert source.images.image_id.to_pylist() == ["a.jpg", "b.jpg"]
    check_joined(source)
    scores = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])  # right on a.jpg (cat) and b.jpg (dog)
    found = mh.evaluate(
        labels, {"net": scores}, images=images, scores="probability", metrics=["top1"], resamples=0
    )
    (row,) = (r for r in found.results.to_pylist() if r["slice"] == "all")
    assert (row["value"], row["n"]) == (1.0, 2)
    assert not any("empty cell" in note["text"] for note in found.to_json()["notes"])
    with pytest.raises(InputError):  # rows of arrays are never guessed from the labels
        mh.evaluate(labels, {"net": scores[1:]}, images=images, scores="probability", resamples=0)


@pytest.mark.parametrize("in_memory", [False, True])
def test_classes_are_selected_in_labels_that_are_also_the_images(tmp_path, in_memory):
    """The list selects two of three classes, and the same table has the column of the slices."""
    table = pa.table(
        {
            "image_id": ["a.jpg", "b.jpg", "c.jpg", "d.jpg"],
            "label": ["cat", "dog", "fox", "dog"],
            "place": ["in", "in", "out", "out"],
        }
    )
    csv.write_csv(table, tmp_path / "labels.csv")
    scores = {"image_id": table["image_id"], "cat": [0.9, 0.8, 0.1, 0.2], "dog": [0.1, 0.2, 0.9, 0.8]}
    labels = table if in_memory else tmp_path / "labels.csv"
    found = mh.evaluate(
        labels,
        {"net": pa.table(scores).to_pandas().set_index("image_id")},
        images=labels,
        classes=["cat", "dog"],
        slices=["place"],
        scores="probability",
        metrics=["top1", "real1"],
        resamples=0,
    )
    values = {(r["slice"], r["metric"]): (r["value"], r["n"]) for r in found.results.to_pylist()}
    for metric in ("top1", "real1"):  # b is called cat; no class of c is in the list
        assert values["all", metric] == (pytest.approx(2 / 3), 3)
        assert [values[f"place={place}", metric] for place in ("in", "out")] == [(0.5, 2), (1.0, 1)]
    assert any("is left out: fox" in note["text"] for note in found.to_json()["notes"])


def test_original_labels_are_label_sets_that_nobody_rated(files):
    labels = read_labels_or_originals(files[0])
    names = dict(zip(labels.image_id.to_pylist(), label_sets(labels).label.tolist(), strict=True))
    assert {name: labels.class_list.keys[c] for name, c in names.items()} == {"a.jpg": "cat", "b.jpg": "dog"}
    assert labels.table["rated"].to_pylist() == [False, False]


def test_images_without_labels_are_refused_as_before(files):
    with pytest.raises(InputError, match="The file does not contain labels"):
        read_labels_or_originals(files[1])


def test_ids_in_the_index_and_models_of_several_forms():
    """Labels accept ids in the index; images and mixed models do, too, with the results of separate files."""
    ids = pd.Index([f"{i}.jpg" for i in range(6)], name="datei")
    labels = pd.DataFrame({"cat": [1, 0, 1, 0, 1, 1], "dog": [0, 1, 1, 1, 0, 0]}, ids)
    scores = pd.DataFrame({"dog": [0.1, 0.8, 0.3, 0.2, 0.6, 0.1], "cat": [0.9, 0.3, 0.2, 0.7, 0.5, 0.4]}, ids)
    images = pd.DataFrame({"label": ["cat", "dog", "dog", "dog", "cat", "cat"], "time": list("aabbab")}, ids)
    rows = [(i, c, scores.loc[i, c]) for i in ids for c in scores]
    long = pd.DataFrame(rows, columns=["image", "class", "score"])

    def values(predictions, images):
        found = mh.evaluate(labels, predictions, images=images, resamples=0, metrics=["top1", "real1"])
        return {
            (r["model"], r["metric"]): r["value"] for r in found.results.to_pylist() if r["slice"] == "all"
        }

    reading = images.reset_index(names="image_id")
    alone = values({"wide": scores}, reading)
    assert alone["wide", "top1"] == pytest.approx(np.mean([1, 1, 1, 0, 0, 1]))
    assert values({"wide": scores}, images) == alone
    both = values({"wide": scores, "long": long}, images)
    for metric in ("top1", "real1"):
        assert both["long", metric] == both["wide", metric] == alone["wide", metric]
    with pytest.raises(InputError, match="others are arrays without image ids"):
        values({"long": long, "array": scores.to_numpy()}, images)


NAMES = [f"{i}.jpg" for i in range(60)]
COLUMNS = ["cat", "dog"]


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    index = pd.Index(NAMES, name="image_id")
    truth, scores = rng.integers(0, 2, (60, 2)), rng.random((60, 2)).round(3)
    frame = pd.DataFrame(truth, index, COLUMNS)
    frame.to_csv("labels.csv")
    frame.assign(split=["val", "test"] * 30).to_csv("split.csv")
    pd.DataFrame(scores, index, COLUMNS).to_csv("scores.csv")
    return truth, scores


def macro(labels, images, **options):
    options = {"scores": "probability", "metrics": ["map_macro"], "resamples": 0} | options
    found = mh.evaluate(labels, "scores.csv", images=images, **options)
    notes = [note["text"] for note in found.to_json()["notes"] if note["kind"] in ("classes", "matched")]
    (row,) = (r for r in found.results.to_pylist() if r["slice"] == "all")
    return row["value"], row["n"], notes


@pytest.mark.parametrize("form", ["text", "stems", "csv", "frame"])
def test_a_list_of_images_selects_them(form, data):
    truth, scores = data
    chosen = [f"{i}.jpg" for i in range(20)]
    if form == "text":
        pd.Series(chosen).to_csv(data_file := "list.txt", header=False, index=False)
    elif form == "stems":
        pd.Series(range(20)).to_csv(data_file := "list.txt", header=False, index=False)
    elif form == "csv":
        pd.DataFrame({"image_id": chosen}).to_csv(data_file := "list.csv", index=False)
    else:
        data_file = pd.DataFrame({"image_id": chosen})
    value, n, notes = macro("labels.csv", data_file)
    assert (value, n) == (
        pytest.approx(average_precision_score(truth[:20], scores[:20], average="macro")),
        20,
    )
    name = "images" if form == "frame" else "list"
    assert f"20 of 60 images are included: those listed in {name}" in notes


def test_a_list_and_conditions_both_select(data):
    truth, scores = data
    pd.Series([*NAMES[:20], "other.jpg"]).to_csv("list.txt", header=False, index=False)
    value, n, notes = macro("split.csv", "list.txt", where=["split=test"])
    expected = average_precision_score(truth[1:20:2], scores[1:20:2], average="macro")
    assert (value, n) == (pytest.approx(expected), 10)
    assert notes == [
        "listed images without labels: 1 of 21",
        "10 of 60 images are included: those listed in list and split=test",
    ]


def test_a_list_of_other_images_is_refused(data, tmp_path):
    (tmp_path / "others.txt").write_text("x1.jpg\nx2.jpg\n")
    with pytest.raises(InputError) as error:
        macro("labels.csv", "others.txt")
    assert str(error.value) == (
        "None of the listed images has labels.\n  where:   others\n  got:     x1.jpg, x2.jpg\n"
        "  allowed: images of labels, such as 0.jpg, 1.jpg\n"
        "  do:      pass a file with the name of one image on each line"
    )


def test_a_table_of_images_with_columns_selects_none(data):
    pd.DataFrame({"image_id": NAMES[:20], "camera": ["x", "y"] * 10}).to_csv("images.csv", index=False)
    value, n, _ = macro("labels.csv", "images.csv")
    assert (value, n) == (pytest.approx(average_precision_score(*data, average="macro")), 60)
