"""Files that made readers crash, hang or take all memory: each is refused, with the whole message."""

import json
import os
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manyhot import tables
from manyhot.formats import read_images, read_labels, read_objects, read_predictions, read_votes
from manyhot.predict.sources import open_source
from manyhot.tables import predictions

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


@pytest.mark.parametrize("nested", [False, True])
def test_parquet_that_polars_cannot_hold(tmp_path, message, nested):
    path = tmp_path / "x.parquet"
    columns = {"image_id": ["a"], "class_id": [1], "score": [0.5]}
    pq.write_table(pa.table(columns | {"no\0te": [1]}), path)
    found = message(lambda: read_predictions(path))
    assert found == f"The name of a column contains a NUL.\n  where:   {path}\n  got:     'no\\x00te'"
    large = pa.array([Decimal(1)], pa.decimal256(50, 0))
    column = pa.ListArray.from_arrays([0, 1], large) if nested else large
    pq.write_table(pa.table(columns | {"x": column}), path)
    assert message(lambda: read_predictions(path)) == (
        f"A number is too large.\n  where:   {path}\n  got:     decimal256(50, 0)\n  allowed: 128-bit numbers"
    )


@pytest.mark.parametrize("columns", ["image_id,label,label", "image_id,image_id,label"])
def test_a_column_of_text_twice(tmp_path, message, columns):
    """The first of the two was read, without a word."""
    path = tmp_path / "x.csv"
    path.write_text(f"{columns}\na,1,2\n")
    name = "label" if columns.endswith("label,label") else "image_id"
    assert message(lambda: read_images(path)) == TWICE.format(path, name)
    assert message(lambda: open_source(path)) == TWICE.format(path, name)
    path.write_text("image_id,label,,\na,1,,\n")  # as spreadsheets write empty columns
    assert len(read_images(path)) == 1


@pytest.mark.parametrize("columns", [["filename", {}, "prob"], ["filename", 1]])
def test_columns_that_are_not_texts(tmp_path, message, columns):
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"columns": columns, "data": [["a", 1, 0.5]]}))
    assert message(lambda: read_predictions(path)) == (
        f"The columns of the table do not contain text.\n  where:   {path}\n  got:     {columns!r}\n"
        "  do:      create or download it again"
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


@pytest.mark.parametrize("width", [0, -4, 1e400])
def test_sizes_of_images_in_coco(tmp_path, message, width):
    path = tmp_path / "c.json"
    parts = {"images": [IMAGE | {"width": width}], "categories": [{"id": 5, "name": "x"}]}
    path.write_text(json.dumps(parts | {"annotations": [BOX]}))
    assert message(lambda: read_objects(path)) == (
        f"An entry is not in COCO's format.\n  where:   {path}\n"
        f"  got:     ValueError: an image of {width} x 3 pixels"
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


@pytest.mark.parametrize("far", [2**32, -(2**32)])
def test_a_number_far_out_of_range_is_no_class(far, tmp_path, message):
    """Of 32 bits, both would be 0."""
    np.save(tmp_path / "m.npy", np.array([[1, far]]))
    (tmp_path / "rows.txt").write_text("a\n")
    text = message(lambda: read_predictions(tmp_path / "m.npy", rows=tmp_path / "rows.txt"))
    assert text.startswith("A class is out of range.\n")


def test_full_rankings_take_linear_time(tmp_path, message):
    """All pairs of 1,000 columns were compared, which took longer than anything else of `evaluate`."""
    path = tmp_path / "m.npy"
    ranking = np.argsort(-np.random.default_rng(0).random((2_000, 1_000)))
    rows = tmp_path / "rows.txt"
    rows.write_text("".join(f"{i}\n" for i in range(len(ranking))))
    np.save(path, ranking)
    assert len(read_predictions(path, rows=read_images(rows))) == 2_000
    assert len(list(predictions._repeated(ranking))) == 2  # passes over the places, not 499,500
    ranking[1_999, 700] = ranking[1_999, 3]
    np.save(path, ranking)
    found = message(lambda: read_predictions(path, rows=read_images(rows)))
    assert found.startswith(f"A class is predicted twice for one image.\n  where:   {path}, image 1999\n")


@pytest.mark.parametrize("number", [1000, 9223372036854775808])
def test_a_number_beside_names_of_imagenet_that_is_no_class(tmp_path, message, number):
    path = tmp_path / "sets.json"
    path.write_text(json.dumps({"a.jpg": ["tench"], "b.jpg": [number]}))
    assert message(lambda: read_labels(path)) == (
        f"A class is not in the class list.\n  where:   {path}\n  got:     {number}\n"
        "  allowed: 0 to 999, or a key or name of imagenet1k\n"
        "  do:      pass a list with this class as `classes`, or remove the value if it is not a class"
    )


@pytest.mark.parametrize("number", ["inf", "1e400", "1e16"])
def test_infinite_classes_in_a_matrix_of_answers(tmp_path, message, number):
    path = tmp_path / "answers.txt"
    path.write_text(f"0 1 -1\n1 {number} 0\n")
    shown = "1e+16" if number == "1e16" else "inf"
    assert message(lambda: read_votes(path)) == (
        f"The file is not a matrix of whole numbers.\n  where:   {path}\n"
        f"  got:     could not read {shown} as a whole number\n"
        "  allowed: one row per image, one column per rater, -1 for no answer"
    )


def test_dates_as_counts(tmp_path, message):
    path = tmp_path / "counts.parquet"
    days = pa.array([1, 2], pa.int32()).cast(pa.date32())
    pq.write_table(pa.table({"image_id": ["a", "b"], "cat": [1, 2], "dog": days}), path)
    assert message(lambda: read_votes(path, format="counts")) == (
        f"A column does not contain counts.\n  where:   {path}, column dog\n  got:     Date\n"
        "  allowed: one number per image and class"
    )


def test_types_of_fiftyone_that_are_lists(tmp_path, message):
    path = tmp_path / "samples.json"
    path.write_text(json.dumps({"samples": [{"filepath": "a.jpg", "ground_truth": {"_cls": ["x"]}}]}))
    assert message(lambda: read_labels(path, format="fiftyone-samples")).startswith(
        f"The field with the labels is ambiguous.\n  where:   {path}\n"
    )


def parquet(path, zeros):
    pq.write_table(pa.table({"image_id": ["a"] * len(zeros), "label": zeros}), path)


def own_table(path, zeros):
    table = pa.table({"image_id": [f"{i}" for i in range(len(zeros))], "label": pa.array(zeros)})
    tables.write(table, path, "images")


@pytest.mark.parametrize(
    ("name", "write", "read", "megabytes"),
    [
        ("p.npz", lambda path, zeros: np.savez_compressed(path, scores=zeros), read_predictions, 4.0),
        ("l.npz", lambda path, zeros: np.savez_compressed(path, labels=zeros), read_labels, 4.0),
        ("i.parquet", parquet, read_images, 8.0),
        ("own.parquet", own_table, lambda path: tables.read(path, "images"), 8.0),
    ],
)
def test_files_that_unpack_to_more_than_the_memory(
    tmp_path, monkeypatch, message, name, write, read, megabytes
):
    """A million zeros, of four bytes each; ids take as much at least."""
    path = tmp_path / name
    write(path, np.zeros(1_000_000, np.int32))
    pages = {"SC_PAGE_SIZE": 1000, "SC_PHYS_PAGES": 1000 * megabytes - 1}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    allocated = pa.total_allocated_bytes()
    lines = message(lambda: read(path)).splitlines()
    assert pa.total_allocated_bytes() - allocated < 1e6
    assert lines[:2] == [
        "The file unpacks to more than the memory of this machine.",
        f"  where:   {path}",
    ]
    assert lines[2].startswith(f"  got:     {path.stat().st_size / 1e6:.1f} MB, which unpack to ")
    assert lines[3:] == ["  allowed: at most 0 GB", "  do:      check where the file is from, or divide it"]


READ_ALL = """
import sys
from manyhot.errors import ManyhotError
from manyhot.formats import read_labels, read_predictions
outcomes = []
for path in sys.argv[1:]:
    try:
        (read_predictions if "scores" in path else read_labels)(path)
        outcomes.append("read")
    except ManyhotError as error:
        outcomes.append(str(error).splitlines()[0])
print(*outcomes, sep="\\n")
"""


def test_columns_whose_description_contradicts_the_schema(tmp_path):
    """Each optional field is made one that is always there, whose levels are then one too many."""
    lists = pa.array([[0.5, 0.25], [0.5, 0.125]])
    own = pa.table({"image_id": ["a", "b"], "label": pa.array([0, 1], pa.int32()), "classes": [[0], [0, 1]]})
    for name, table in (("own", own), ("scores", pa.table({"image_id": ["a", "b"], "scores": lists}))):
        pq.write_table(table, tmp_path / f"{name}.parquet")
    broken = []
    for path in (tmp_path / "own.parquet", tmp_path / "scores.parquet"):
        content = path.read_bytes()
        footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
        for at in range(footer, len(content)):
            if content[at - 1 : at + 1] == b"\x25\x02":  # repetition: optional
                broken.append(path.with_stem(f"{path.stem}{at}"))
                broken[-1].write_bytes(content[:at] + b"\x00" + content[at + 1 :])
    assert len(broken) >= 5
    # In a process of its own, which pyarrow would end.
    run = subprocess.run([sys.executable, "-c", READ_ALL, *broken], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-300:]
    outcomes = run.stdout.splitlines()
    assert len(outcomes) == len(broken)
    assert set(outcomes) <= {"read", "The file is not a complete Parquet file."}
