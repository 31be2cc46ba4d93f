"""Files that made readers crash, hang or take all memory: each is refused, with the whole message."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manyhot.formats import read_images, read_labels, read_objects, read_predictions

TWICE = (
    "Two columns of the table have the same name.\n  where:   {}\n  got:     {!r}\n"
    "  allowed: each name once\n  do:      rename or remove one of them"
)
LABEL = {"names": ["x", "y"], "_type": "ClassLabel"}


def with_twin(path, columns, twin, features=None):
    """Write a Parquet file with a column that occurs twice."""
    names = [*columns, twin]
    table = pa.Table.from_arrays([pa.array(columns[name]) for name in names], names=names)
    info = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    pq.write_table(table.replace_schema_metadata(info), path)
    return path


def test_a_column_twice(tmp_path, message):
    path = tmp_path / "x.parquet"
    rows = {"file_name": ["a"], "correct_multi_labels": [[1]], "wrong_multi_labels": [[2]]}
    rows |= {"unclear_multi_labels": [[3]], "is_problematic": [False]}
    with_twin(path, rows, "is_problematic")
    assert message(lambda: read_labels(path)) == TWICE.format(path, "is_problematic")
    features = {"image": {"_type": "Image"}, "labels": [LABEL], "label": LABEL}
    images = {"image": [{"bytes": b"x", "path": "a.jpg"}], "labels": [[1]], "label": [1]}
    with_twin(path, images, "label", features)
    assert message(lambda: read_labels(path)) == TWICE.format(path, "label")
    with_twin(path, {"image_id": ["a"], "label": [1]}, "label")
    assert message(lambda: read_images(path)) == TWICE.format(path, "label")


@pytest.mark.parametrize("columns", [["filename", {}, "prob"], ["filename", 1]])
def test_columns_that_are_not_texts(tmp_path, message, columns):
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"columns": columns, "data": [["a", 1, 0.5]]}))
    assert message(lambda: read_predictions(path)) == (
        f"The columns of the table are not texts.\n  where:   {path}\n  got:     {columns!r}\n"
        "  do:      make or fetch it again"
    )


IMAGE = {"id": 1, "file_name": "a.jpg", "width": 4, "height": 3}
BOX = {"image_id": 1, "category_id": 5, "bbox": [0, 0, 2, 2]}


@pytest.mark.parametrize(
    ("images", "categories", "annotations"),
    [
        ({"id": 1e400}, {}, {}),
        ({}, {"id": 1e400}, {}),
        ({}, {}, {"image_id": 1e400}),
        ({}, {}, {"category_id": 1e400}),
    ],
)
@pytest.mark.parametrize("read", [read_objects, read_labels])
def test_infinite_numbers_in_coco(tmp_path, message, read, images, categories, annotations):
    path = tmp_path / "c.json"
    parts = {"images": [IMAGE | images], "categories": [{"id": 5, "name": "x"} | categories]}
    path.write_text(json.dumps(parts | {"annotations": [BOX | annotations]}))
    assert message(lambda: read(path)) == (
        f"An entry is not in COCO's format.\n  where:   {path}\n"
        "  got:     OverflowError: cannot convert float infinity to integer"
    )


@pytest.mark.parametrize("name", ["labels.csv", "labels.json", "labels.parquet", "labels.npy"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_files_without_an_end(tmp_path, message, name, kind):
    path = tmp_path / name
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    assert message(lambda: read_labels(path)) == (
        f"This is not a regular file.\n  where:   {path}\n  got:     a pipe, socket or device\n"
        "  do:      write its content to a file"
    )


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_annotations_without_an_end(tmp_path, message, kind):
    path = tmp_path / "Annotations" / "a.xml"
    path.parent.mkdir()
    {"pipe": os.mkfifo, "device": lambda p: p.symlink_to("/dev/zero"), "folder": os.mkdir}[kind](path)
    assert message(lambda: read_objects(tmp_path)) == (
        f"The annotation is not in VOC's format.\n  where:   {path}\n  got:     not a regular file"
    )


def test_full_rankings_take_linear_time(tmp_path, message):
    """All pairs of 1,000 columns were compared, which took longer than anything else of `evaluate`."""
    path = tmp_path / "m.npy"
    ranking = np.argsort(-np.random.default_rng(0).random((2_000, 1_000)))
    rows = tmp_path / "rows.txt"
    rows.write_text("".join(f"{i}\n" for i in range(len(ranking))))
    np.save(path, ranking)
    assert len(read_predictions(path, rows=read_images(rows))) == 2_000
    ranking[1_999, 700] = ranking[1_999, 3]
    np.save(path, ranking)
    found = message(lambda: read_predictions(path, rows=read_images(rows)))
    assert found.startswith(f"A class is predicted twice for one image.\n  where:   {path}, image 1999\n")
