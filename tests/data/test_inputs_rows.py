"""The images of the rows of arrays, as ids in Python or in a file."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from scipy import sparse
from sklearn.metrics import average_precision_score

import manyhot as mh

N, CLASSES = 30, ["car", "cat", "dog"]
RNG = np.random.default_rng(0)
IDS = [f"{i:02d}.jpg" for i in range(N)]
HOT = (RNG.random((N, 3)) < 0.4).astype(int)
SCORES = (HOT + RNG.normal(0, 0.8, HOT.shape)).astype(np.float32)
ORDER = RNG.permutation(N)
ROWS = [IDS[i] for i in ORDER]
OPTIONS = {"classes": CLASSES, "metrics": ["map_macro"], "resamples": 0, "scores": "logit"}
EXPECTED = average_precision_score(HOT, SCORES, average="macro")

FORMS = {
    "list": ROWS,
    "tuple": tuple(ROWS),
    "iterator": lambda: iter(ROWS),
    "array": np.array(ROWS),
    "objects": np.array(ROWS, object),
    "index": pd.Index(ROWS),
    "series": pd.Series(ROWS, index=range(5, 5 + N)),
    "polars": pl.Series(ROWS),
    "arrow": pa.array(ROWS),
    "chunked": pa.chunked_array([ROWS]),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pd.DataFrame(HOT, IDS, CLASSES).to_csv("labels.csv", index_label="image_id")
    np.save("net.npy", SCORES[ORDER])
    (tmp_path / "rows.txt").write_text("\n".join(ROWS))
    return tmp_path


def value(labels, predictions, rows):
    return mh.evaluate(labels, predictions, rows=rows, **OPTIONS).value("map_macro")


@pytest.mark.parametrize("form", FORMS)
def test_ids_of_the_rows_of_a_file(folder, form):
    rows = FORMS[form]
    assert value("labels.csv", "net.npy", rows() if callable(rows) else rows) == pytest.approx(EXPECTED)


FRAME = pd.DataFrame(HOT, IDS, CLASSES)
LABELS = {
    "frame": FRAME,
    "array": HOT[ORDER],
    "sparse": sparse.csr_matrix(HOT[ORDER]),
    "tensor": torch.tensor(HOT[ORDER]),
    "lists": [np.flatnonzero(row).tolist() for row in HOT[ORDER]],
}


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("rows", [ROWS, "rows.txt"], ids=["ids", "file"])
def test_ids_of_the_rows_of_arrays_in_memory(folder, labels, rows):
    """Arrays are in the order of `rows`, frames and files with ids in their own."""
    for scores in (
        SCORES[ORDER],
        torch.tensor(SCORES[ORDER]),
        pd.DataFrame(SCORES, IDS, CLASSES),
        pd.DataFrame(SCORES[ORDER], columns=CLASSES),
    ):
        assert value(LABELS[labels], {"net": scores}, rows) == pytest.approx(EXPECTED)
    assert value(LABELS[labels], "net.npy", rows) == pytest.approx(EXPECTED)
    assert value("labels.csv", {"net": SCORES[ORDER]}, rows) == pytest.approx(EXPECTED)


def test_whole_numbers_are_ids(folder):
    numbered = pd.DataFrame(HOT, range(100, 100 + N), CLASSES)
    assert value(numbered, "net.npy", pd.Index(100 + ORDER)) == pytest.approx(EXPECTED)


def test_original_labels_of_images_table_in_another_order(folder):
    pd.DataFrame({"image_id": IDS, "label": HOT.argmax(1)}).to_csv("images.csv", index=False)
    found = mh.evaluate("images.csv", {"net": SCORES[ORDER]}, rows=ROWS, classes=CLASSES, metrics=["top1"])
    assert found.value("top1") == (SCORES.argmax(1) == HOT.argmax(1)).mean()


ALLOWED = (
    "\n  allowed: one id for each row (text or a whole number), as a list, an array or an index; or a file "
    "of them"
)
NO_IDS = "These are not the ids of rows.\n  where:   `rows`"
TWICE = (
    "An image is listed more than once.\n  where:   `rows`\n  got:     1 id, such as {}\n"
    "  allowed: each image_id once\n  do:      retain one row per image"
)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (3, f"{NO_IDS}\n  got:     an object of type int{ALLOWED}"),
        ([], f"{NO_IDS}\n  got:     none{ALLOWED}"),
        ([[i] for i in ROWS], f"{NO_IDS}, position 0\n  got:     {[ROWS[0]]!r}{ALLOWED}"),
        ([*ROWS[:-1], None], f"{NO_IDS}, position 29\n  got:     None{ALLOWED}"),
        ([*ROWS[:-1], 1.5], f"{NO_IDS}, position 29\n  got:     1.5{ALLOWED}"),
        (
            pd.DataFrame({"image_id": ROWS}),
            f"{NO_IDS}\n  got:     a table of type DataFrame{ALLOWED}\n"
            "  do:      pass its column or index with the ids",
        ),
        ([*ROWS[:-1], ROWS[0]], TWICE.format(ROWS[0])),
        (
            ROWS[:-1],
            "The predictions and the row order have different numbers of rows.\n  where:   net.npy\n"
            "  got:     30 rows\n  allowed: 29\n  do:      pass the row order of this file",
        ),
    ],
)
def test_other_rows(folder, rows, message):
    with pytest.raises(mh.ManyhotError) as error:
        value("labels.csv", "net.npy", rows)
    assert str(error.value) == message


@pytest.mark.parametrize("labels", ["labels.csv", FRAME], ids=["file", "frame"])
def test_another_number_of_rows_than_the_array(folder, labels):
    with pytest.raises(mh.ManyhotError) as error:
        value(labels, {"net": SCORES}, ROWS[:-1])
    assert str(error.value) == (
        "An array and the row order have different numbers of rows.\n"
        "  where:   net\n"
        "  got:     30 rows\n"
        "  allowed: 29, as in `rows`\n"
        "  do:      pass the row order of this array"
    )


def test_an_array_without_rows(folder):
    with pytest.raises(mh.ManyhotError) as error:
        value("labels.csv", "net.npy", None)
    assert str(error.value) == (
        "The file does not contain the image of each row.\n"
        "  where:   net.npy\n"
        "  do:      pass the row order as `rows`: ids (in a file: one per line), a CSV with image_id, "
        "the label sets if they are in the same order, or a data-set JSON"
    )
    with pytest.raises(mh.ManyhotError) as error:
        value("labels.csv", {"net": SCORES}, None)
    assert str(error.value) == (
        "The labels have image ids, but the rows of an array have none.\n"
        "  where:   net, compared with labels\n"
        "  got:     30 rows\n"
        "  allowed: ids such as 00.jpg, 01.jpg\n"
        "  do:      pass the ids of the rows as `rows`, or a frame with these ids as its index, or labels "
        "as an array in the same order"
    )


def test_ids_that_only_look_like_positions(folder):
    """Of the ids 000 to 199, 100 to 199 are equal to positions; half of the images would count."""
    rng = np.random.default_rng(0)
    valid, scores = (rng.random((200, 2)) < 0.4).astype(int), rng.random((200, 2))
    ids = [f"{i:03}" for i in range(200)]
    pl.DataFrame({"image_id": ids, "cat": valid[:, 0], "dog": valid[:, 1]}).write_csv("numbered.csv")
    with pytest.raises(mh.ManyhotError, match="rows of an array have none"):
        mh.evaluate("numbered.csv", {"net": scores}, scores="probability", metrics=["map_macro"])
