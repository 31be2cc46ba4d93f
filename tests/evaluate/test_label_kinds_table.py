"""Kinds of several labels as a table: what is known where, and what is refused."""

import numpy as np
import pyarrow as pa
import pytest

from manyhot import Images, Labels, Predictions, class_list, evaluate
from manyhot.data.inputs import Reading
from manyhot.errors import InputError, MatchError
from manyhot.evaluate.label_kinds import find_label_kinds

CLASSES = class_list()
DESK, LAPTOP, NOTEBOOK, TABBY, TIGER = (
    CLASSES.index(n) for n in ("desk", "laptop", "notebook (computer)", "tabby", "tiger cat")
)


def labels_of(*sets):
    names = [f"{i}.jpg" for i in range(len(sets))]
    table = {"image_id": names, "usable": [True] * len(sets), "classes": pa.array(sets, pa.list_(pa.int32()))}
    state = pa.array([["yes"] * len(s) for s in sets], pa.list_(pa.string()))
    return Labels(pa.table(table | {"state": state}), 1000, CLASSES.hash, asked_known=True, name="made up")


def model_of(rows, name="model", key=CLASSES.hash, n_classes=1000):
    ids = pa.array([f"{i}.jpg" for i in range(len(rows))])
    return Predictions(ids, name, np.array(rows, np.int32), n_classes=n_classes, class_hash=key)


LABELS = labels_of([TABBY], [TABBY, TIGER], [TABBY, DESK], [], *[[LAPTOP, NOTEBOOK]] * 10)
MODEL = model_of([[TABBY, DESK], [TIGER, DESK], *[[LAPTOP, NOTEBOOK], [NOTEBOOK, LAPTOP]] * 6])


def test_table():
    found = find_label_kinds(LABELS, [MODEL])
    # Tabby and tiger cat are siblings; cat and desk nothing to each other.
    assert found.table["kind"].to_pylist()[:4] == ["one", "ambiguous", "several-objects", None]
    assert found.table["kind"].to_pylist()[4:] == ["near-synonyms"] * 10
    assert found.table["n_labels"].to_pylist()[:5] == [1, 2, 2, 0, 2]
    assert found.table["n_apart"].to_pylist()[:5] == [1, 1, 2, 0, 1]
    assert found.table["n_objects"].null_count == 14
    assert not any(found.table["counted"].to_pylist())
    assert found.counts == {"one": 1, "several-objects": 1, "ambiguous": 1, "near-synonyms": 10}
    assert (found.annotated, found.several_counted, found.check.sum()) == (0, 0, 0)
    assert found.synonyms == [("laptop", "notebook (computer)", 10, 10)]


def test_counted_objects():
    columns = {"image_id": ["1.jpg", "2.jpg", "3.jpg", "4.jpg", "elsewhere.jpg", "0.jpg"]}
    images = Images(pa.table(columns | {"n_objects": [2, 1, 3, None, 2, 1], "label": [TABBY] * 6}))
    found = find_label_kinds(LABELS, [MODEL], reading=Reading(images=images))
    assert found.table["kind"].to_pylist()[:5] == [
        "one", "several-objects", "ambiguous", "several-objects", "near-synonyms"
    ]  # fmt: skip
    assert found.table["counted"].to_pylist()[:5] == [True, True, True, True, False]
    assert found.table["label"].to_pylist()[:6] == [TABBY] * 5 + [None]
    # Image 1 has two objects and labels of one, image 2 one object and labels of two.
    assert (found.annotated, found.several_counted) == (5, 2)
    assert found.check.tolist() == [[0, 1], [1, 0]]


def test_kinds_are_slices():
    images = Images(find_label_kinds(LABELS, [MODEL]).table)
    results = evaluate(
        LABELS, MODEL, slices=["kind"], metrics=["real1"], resamples=0, reading=Reading(images=images)
    )
    rows = {r["slice"]: (r["value"], r["n"]) for r in results.results.to_pylist()}
    assert (rows["kind=ambiguous"], rows["kind=near-synonyms"]) == ((1.0, 1), (1.0, 10))


def counted(value):
    """Return how to read an images table in which raters counted so many objects."""
    return Reading(images=Images(pa.table({"image_id": ["0.jpg"], "n_objects": [value]}), name="counts"))


def test_without_hierarchy_confusion_alone_joins_labels():
    table = LABELS.table.slice(0, 3)
    labels = Labels(table, 1000, name="own classes")
    found = find_label_kinds(labels, [model_of([[TABBY, TIGER], [TIGER, TABBY], [DESK, TABBY]], key="")])
    assert found.table["kind"].to_pylist() == ["one", "ambiguous", "several-objects"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: find_label_kinds(LABELS, []),
            InputError,
            "Finding confused classes requires predictions, but there are none.\n  do:      pass "
            "predictions of at least one model",
        ),
        (
            lambda: find_label_kinds(LABELS, [model_of([[1], [2]])]),
            InputError,
            "Confusion of classes is measured between a model's top two classes.\n  where: "
            "  model\n"
            "  got:     one class per image\n  allowed: at least the top two classes",
        ),
        (
            lambda: find_label_kinds(
                LABELS,
                [MODEL],
                reading=Reading(
                    images=Images(pa.table({"image_id": ["0.jpg"], "n_objects": ["two"]}), name="counts")
                ),
            ),
            InputError,
            "The column 'n_objects' does not contain counts of objects.\n  where:   counts\n  got:     "
            "string\n"
            "  allowed: integers from 0, or null if no rater counted",
        ),
        (
            lambda: find_label_kinds(
                LABELS,
                [MODEL],
                reading=Reading(
                    images=Images(pa.table({"image_id": ["0.jpg"], "n_objects": [-1]}), name="counts")
                ),
            ),
            InputError,
            "The column 'n_objects' does not contain counts of objects.\n  where:   counts\n  got:     -1\n"
            "  allowed: integers from 0, or null if no rater counted",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message


def test_other_class_list():
    with pytest.raises(MatchError) as raised:
        find_label_kinds(LABELS, [model_of([[0, 1], [1, 0]], key="another")])
    assert str(raised.value) == (
        "model has a different class list from made up.\n"
        "  got:     class list another\n"
        "  allowed: class list 385e0240499426c0\n"
        "  do:      predict again with the same class list, or convert the file"
    )


def test_out_is_a_file_or_a_folder(tmp_path):
    found = find_label_kinds(LABELS, [MODEL])
    folder = tmp_path / "new"
    find_kinds = type(found)
    find_kinds.check_out(folder, [])
    assert found.write(folder) == found.write(folder) == [folder / "kinds.parquet"]
    assert found.write(tmp_path / "own.csv") == [tmp_path / "own.csv"]
    with pytest.raises(InputError, match="Cannot write this kind of file"):
        find_kinds.check_out(tmp_path / "kinds.txt", [])
