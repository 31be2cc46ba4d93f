"""Columns of numbers and words beside the names of classes, in tables with one row per image and class."""

import json

import polars as pl
import pytest

from manyhot import describe, read_labels, read_predictions
from manyhot.errors import InputError

ROWS = pl.DataFrame({"image": ["a", "a", "b", "b", "c"], "class": ["dog", "cat", "dog", "cat", "cat"]})
VALUES = [1, 0, 0, 1, 0]


def written(frame, path):
    (frame.write_csv if path.suffix == ".csv" else frame.write_parquet)(path)
    return path


def states(labels):
    keys = labels.class_list.keys
    rows = zip(labels.table["classes"].to_pylist(), labels.table["state"].to_pylist(), strict=True)
    return [{keys[c]: s for c, s in zip(*row, strict=True)} for row in rows]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("name", ["present", "Is Present", "valid", "value"])
@pytest.mark.parametrize("kind", [pl.Int64, pl.Float64, pl.Boolean])
def test_zeros_and_ones_are_the_states(tmp_path, suffix, name, kind):
    path = written(ROWS.with_columns(pl.Series(name, VALUES).cast(kind)), tmp_path / f"l{suffix}")
    assert states(read_labels(path)) == [
        {"dog": "yes", "cat": "no"},
        {"dog": "no", "cat": "yes"},
        {"cat": "no"},
    ]


def test_words_and_gaps(tmp_path):
    path = written(ROWS.with_columns(present=pl.Series(["yes", "maybe", "", "no", None])), tmp_path / "l.csv")
    assert states(read_labels(path)) == [{"dog": "yes", "cat": "unclear"}, {"cat": "no"}, {}]


def test_a_flag_of_the_image_is_no_state(tmp_path):
    flags = ROWS.with_columns(valid=pl.Series([1, 1, 0, 0, 1]), age=pl.Series([3, 3, 4, 4, 5]))
    labels = read_labels(written(flags, tmp_path / "l.csv"))
    assert states(labels) == [dict.fromkeys(("dog", "cat"), "yes")] * 2 + [{"cat": "yes"}]
    assert labels.notes == ()


def test_fractions_in_a_column_of_states(tmp_path, message):
    path = written(ROWS.with_columns(present=pl.Series([0.93, 0.02, 0.01, 0.88, 1])), tmp_path / "l.csv")
    assert message(lambda: read_labels(path)) == (
        "A column that states which classes of an image are valid contains numbers other than 0 and 1.\n"
        f"  where:   {path}, column present\n"
        "  got:     0.93 in 4 of 5 cells\n"
        "  allowed: 1 or yes, 0 or no, -1 or maybe, or nothing\n"
        "  do:      if the numbers are scores, rename the column to score and pass the file as predictions"
    )
    with pytest.raises(InputError, match="if the file contains scores, rename their column or key to score"):
        read_predictions(path)


def test_other_numbers_that_differ_are_noted(tmp_path):
    labels = read_labels(written(ROWS.with_columns(area=pl.Series(range(5))), tmp_path / "l.csv"))
    (note,) = labels.notes
    assert note.startswith("the values in area differ between the classes of an image and are not read")


@pytest.mark.parametrize("name", ["present", "value"])
def test_other_words_than_yes_and_no_in_a_column_of_states(tmp_path, message, name):
    words = ["reject", "approve", "no", "approve", "yes"]
    path = written(ROWS.with_columns(pl.Series(name, words)), tmp_path / "l.csv")
    assert message(lambda: read_labels(path)) == (
        "A column that states which classes of an image are valid contains words other than yes and no.\n"
        f"  where:   {path}, column {name}\n"
        "  got:     approve in 2, reject in 1 of 5 cells\n"
        "  allowed: 1 or yes, 0 or no, -1 or maybe, or nothing\n"
        "  do:      use these words, or rename the column if it states something else"
    )


def test_booleans_of_postgres_are_states(tmp_path):
    path = written(ROWS.with_columns(present=pl.Series(["t", "f", "f", "t", "f"])), tmp_path / "l.csv")
    assert states(read_labels(path)) == [
        {"dog": "yes", "cat": "no"},
        {"dog": "no", "cat": "yes"},
        {"cat": "no"},
    ]


def test_words_that_differ_between_the_classes_of_an_image_are_noted(tmp_path):
    words = ["reject", "approve", "approve", "reject", "approve"]
    labels = read_labels(written(ROWS.with_columns(decision=pl.Series(words)), tmp_path / "l.csv"))
    (note,) = labels.notes
    assert note.startswith("the values in decision differ between the classes of an image and are not read")
    assert states(labels)[0] == {"dog": "yes", "cat": "yes"}


def test_a_label_of_each_image_may_be_not_valid(tmp_path):
    rows = {"image_id": ["a", "b", "c"], "label": ["dog", "cat", "dog"], "present": [1, 0, 0]}
    labels = read_labels(written(pl.DataFrame(rows), tmp_path / "l.csv"))
    assert states(labels) == [{"dog": "yes"}, {"cat": "no"}, {"dog": "no"}]


def test_columns_of_zeros_and_ones_beside_a_category_are_noted(tmp_path):
    rows = {
        **{"image_id": ["a", "b", "c"], "weapon": [0, 1, 0], "blood": [1, 0, 0], "fold": [0, 0, 1]},
        "category": ["shoes", "toys", "shoes"],
    }
    path = written(pl.DataFrame(rows), tmp_path / "l.csv")
    labels = read_labels(path)
    assert labels.class_list.keys == ("shoes", "toys")
    (note,) = labels.notes
    assert note == (
        "the classes are the names in the column 'category', so columns of zeros and ones are not read as "
        "classes: weapon, blood; if they are the classes, drop or rename 'category'"
    )
    found = describe(path)
    assert found.notes == (f"l: {note}",)
    assert found.to_json()["notes"] == (f"l: {note}",)


def test_words_on_a_class_or_an_image_are_not_noted(tmp_path):
    about = {
        "kind": ["canine", "feline", "canine", "feline", "feline"],
        "market": ["DE", "DE", "FR", "FR", "DE"],
    }
    assert read_labels(written(ROWS.hstack(pl.DataFrame(about)), tmp_path / "l.csv")).notes == ()


def test_images_that_list_all_classes_are_noted(tmp_path):
    rows = [(f"{i}.jpg", name, f"a comment on {name} {i}") for i in range(6) for name in ("dog", "cat")]
    full = pl.DataFrame(rows, schema=["image", "class", "comment"], orient="row")
    (note,) = read_labels(written(full, tmp_path / "l.csv")).notes
    assert note.startswith("each of the 6 images lists all 2 classes, so every class is valid on every image")


@pytest.mark.parametrize("name", ["p", "p_yes", "similarity", "cosine", "logprob"])
def test_scores_are_predictions_and_no_labels(tmp_path, name):
    values = [0.93, 0.02, 0.01, 0.88, 0.5]
    path = written(ROWS.with_columns(pl.Series(name, values)), tmp_path / "m.csv")
    predictions = read_predictions(path)
    first = [predictions.class_list.keys[row[0]] for row in predictions.classes]
    assert first == ["dog", "cat", "cat"]
    with pytest.raises(InputError, match="pass it as predictions"):
        read_labels(path)


def test_lists_with_scores_in_json_are_no_labels(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps({"image": "a", "tags": ["dog", "cat"], "scores": [0.93, 0.02]}) + "\n")
    with pytest.raises(InputError, match="pass it as predictions"):
        read_labels(path)


def test_all_classes_on_each_image_beside_a_column_that_differs_are_refused(tmp_path, message):
    path = tmp_path / "labels.csv"
    rows = [
        f"{i}.jpg;{name};{'ja' if (i + j) % 2 else 'nein'}" for i in range(3) for j, name in enumerate("ab")
    ]
    path.write_text("\n".join(["image_id;class;vorhanden", *rows]))
    assert message(lambda: read_labels(path)) == (
        "Each image lists all classes, and a column that is not read differs between them.\n"
        f"  where:   {path}, column vorhanden\n"
        "  got:     2 classes on each of 3 images\n"
        "  allowed: rows of valid classes only, or a column present with 1 or yes for valid and 0 or no for "
        "not valid\n"
        "  do:      rename the column to present if it states which classes are valid, or to score if it "
        "contains scores, and pass the file as predictions; remove it if it states neither"
    )
    path.write_text("\n".join(["image_id;class;present", *rows]).replace("ja", "yes").replace("nein", "no"))
    assert read_labels(path).table["classes"].to_pylist() == [[0, 1]] * 3  # with their states
