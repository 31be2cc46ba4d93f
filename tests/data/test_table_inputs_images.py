"""Columns beside the classes of a table of 0 and 1: conditions, slices and clusters."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import average_precision_score

from manyhot import evaluate, read_images, read_labels
from manyhot.errors import InputError

RNG = np.random.default_rng(5)
TRUTH, SCORES = (RNG.random((60, 2)) < 0.4).astype(int), RNG.random((60, 2)).round(3)
TEST = np.arange(60) % 2 == 0


@pytest.mark.parametrize("ids", ["image_id", "filename", "path", "Path", "Image Index"])
def test_a_table_of_labels_is_an_images_table(tmp_path, ids):
    frame = pd.DataFrame({ids: [f"{i}.jpg" for i in range(60)], "cat": TRUTH[:, 0], "dog": TRUTH[:, 1]})
    scores = pd.DataFrame({ids: frame[ids], "cat": SCORES[:, 0], "dog": SCORES[:, 1]})
    frame["split"], frame["patient"] = np.where(TEST, "test", "val"), np.arange(60) // 5
    labels = tmp_path / "labels.csv"
    frame.to_csv(labels, index=False)
    scores.to_csv(tmp_path / "net.csv", index=False)
    about = {"scores": "probability", "metrics": ["map_macro"]}
    expected = average_precision_score(TRUTH[TEST], SCORES[TEST], average="macro")
    found = evaluate(labels, tmp_path / "net.csv", where="split=test", **about)
    assert found.value("map_macro") == pytest.approx(expected, abs=1e-7)
    found = evaluate(
        labels, tmp_path / "net.csv", images=labels, slices=["split"], clusters="patient", **about
    )
    assert found.value("map_macro", slice="split=test") == pytest.approx(expected, abs=1e-7)
    assert found.value("map_macro") == pytest.approx(average_precision_score(TRUTH, SCORES), abs=1e-7)


FRAMES = {
    "a column of ids": lambda frame: frame,
    "an index of ids": lambda frame: frame.set_index("filename"),
    "polars": pl.from_pandas,
    "Arrow": lambda frame: pl.from_pandas(frame).to_arrow(),
    "categories": lambda frame: frame.astype({"split": "category"}),
    "times": lambda frame: frame.assign(split=frame["split"], seen=pd.Timestamp("2026-01-01")),
}


@pytest.mark.parametrize("frame_of", FRAMES.values(), ids=FRAMES)
def test_frames_with_texts_are_read_as_files_are(tmp_path, frame_of):
    truth = np.where(RNG.random((60, 2)) < 0.1, np.nan, TRUTH)
    frame = pd.DataFrame({"filename": [f"{i}.jpg" for i in range(60)], "site": "x", "age": 7, "codes": 2})
    frame = frame.assign(cat=truth[:, 0], dog=truth[:, 1], split=np.where(TEST, "test", "val"))
    frame.to_csv(tmp_path / "labels.csv", index=False)
    scores = pd.DataFrame(SCORES, frame["filename"], ["cat", "dog"])
    about = {"scores": "probability", "metrics": ["map_macro(masked=True)", "f1_macro"]}
    for where in ((), "split=test"):
        of_file = evaluate(tmp_path / "labels.csv", scores, where=where, **about)
        found = evaluate(frame_of(frame), scores, where=where, **about)
        columns = ["metric", "value", "lo", "hi", "n", "n_skipped"]
        pd.testing.assert_frame_equal(found.to_pandas()[columns], of_file.to_pandas()[columns])
        assert sorted(found.notes) == sorted(of_file.notes)


def test_a_table_of_images_may_have_measurements(tmp_path):
    path = tmp_path / "images.csv"
    path.write_text("image,lat,lon,plot\na.jpg,52.5,13.1,P1\nb.jpg,52.6,13.2,P2\n")
    images = read_images(path)
    assert images.image_id.to_pylist() == ["a.jpg", "b.jpg"]
    assert images.table["lat"].to_pylist() == [52.5, 52.6]


def test_a_class_list_tells_classes_from_measurements(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("image,area,depth,cat,dog\na.jpg,0.5,1.5,1,0\nb.jpg,0.7,1.9,1,1\n")
    labels = read_labels(path, classes=("cat", "dog"))
    assert labels.table["classes"].to_pylist() == [[0], [0, 1]]
    with pytest.raises(InputError, match="pass it as predictions"):
        read_labels(path)
    with pytest.raises(InputError, match="pass it as predictions"):
        read_labels(path, classes=("area", "depth"))
    with pytest.raises(InputError, match="save the sheet as CSV in UTF-8"):
        read_labels(path.rename(tmp_path / "labels.xlsx"))
