"""Class lists whose keys are numbers, but not those of their places: 1, 2 and 3, say."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from manyhot import convert, read_labels, read_predictions
from manyhot.classes import from_keys
from manyhot.errors import InputError
from manyhot.formats import read_images, read_labels_or_originals, read_objects, read_votes
from manyhot.formats.class_names import class_indices
from manyhot.formats.class_numbers import keys_of_numbers

KEYS = from_keys(("1", "2", "3"), "own")


@pytest.mark.parametrize("quoted", [True, False])
def test_labels(tmp_path, quoted):
    path = tmp_path / "labels.csv"
    frame = pl.DataFrame({"image_id": ["a", "b"], "label": ["1", "3"]})
    frame.write_csv(path, quote_style="always" if quoted else "necessary")
    assert read_images(path, classes=KEYS).label.tolist() == [0, 2]
    # In the list of ImageNet, whose keys are WordNet's, and in 0, 1, 2, … a number is a place.
    assert read_images(path).label.tolist() == [1, 3]
    assert read_images(path, classes=from_keys([str(i) for i in range(4)], "own")).label.tolist() == [1, 3]


def test_label_sets(tmp_path):
    pl.DataFrame({"image_id": ["a", "b"], "classes": [["1", "2"], ["3"]]}).write_parquet(
        tmp_path / "l.parquet"
    )
    labels = read_labels_or_originals(tmp_path / "l.parquet", classes=KEYS)
    assert labels.table["classes"].to_pylist() == [[0, 1], [2]]


def test_choices(tmp_path):
    frame = pl.DataFrame({"task": ["a", "b"], "worker": ["x", "x"], "label": [1, 3]})
    frame.write_csv(tmp_path / "c.csv")
    votes = read_votes(tmp_path / "c.csv", classes=KEYS)
    yes = [(r["image_id"], r["class_id"]) for r in votes.to_table().to_pylist() if r["answer"] == "yes"]
    assert yes == [("a", 0), ("b", 2)]


def test_a_class_id_is_a_place(tmp_path):
    box = {"image_id": ["a"], "x1": [0.0], "y1": [0.0], "x2": [1.0], "y2": [1.0]}
    pl.DataFrame(box | {"class_id": [1]}).write_csv(tmp_path / "ids.csv")
    pl.DataFrame(box | {"class": [1]}).write_csv(tmp_path / "keys.csv")
    assert read_objects(tmp_path / "ids.csv", classes=KEYS).table["class_id"].to_pylist() == [1]
    assert read_objects(tmp_path / "keys.csv", classes=KEYS).table["class_id"].to_pylist() == [0]


def test_numbers_and_texts_of_numbers(tmp_path):
    assert class_indices(pl.Series(["2", "1"]), KEYS, tmp_path).to_list() == [1, 0]
    assert class_indices(pl.Series(["2", "1"]), KEYS, tmp_path, ids=True).to_list() == [2, 1]
    for numbers, kind in (([1, 3], pl.String), ([0, 2], pl.Int64), ([5], pl.Int64), ([], pl.Int64)):
        values = pl.Series(numbers, dtype=pl.Int64)
        assert keys_of_numbers(values, KEYS, tmp_path).dtype == kind, numbers
        assert keys_of_numbers(values, None, tmp_path).dtype == pl.Int64
        zeroed = from_keys(("0", "1", "2", "3"), "own")
        assert keys_of_numbers(values, zeroed, tmp_path).dtype == pl.Int64


def test_what_was_written_as_places_comes_back(tmp_path):
    frame = pl.DataFrame({"image_id": ["a", "b", "c"], "label": [1, 3, 2]})
    frame.write_csv(tmp_path / "labels.csv")
    labels = read_labels_or_originals(tmp_path / "labels.csv", classes=KEYS)
    (tmp_path / "classes.txt").write_text("1\n2\n3\n")
    convert(tmp_path / "labels.csv", tmp_path / "written.csv", classes=tmp_path / "classes.txt")
    again = read_labels_or_originals(tmp_path / "written.csv", classes=KEYS)
    assert again.table["label"].to_pylist() == labels.table["label"].to_pylist() == [0, 2, 1]


def test_numbers_that_may_be_both(tmp_path):
    pl.DataFrame({"image_id": ["a", "b"], "label": [1, 2]}).write_csv(tmp_path / "labels.csv")
    with pytest.raises(InputError) as error:
        read_images(tmp_path / "labels.csv", classes=KEYS)
    assert str(error.value) == (
        "The numbers may be keys of classes or positions in the class list.\n"
        f"  where:   {tmp_path / 'labels.csv'}, column label\n"
        "  got:     1, for example, which is the key of one class and the position of another\n"
        "  do:      write the names of the classes instead; if the numbers are the names of the columns of "
        "scores, leave out `classes`"
    )


@pytest.mark.parametrize(
    ("cells", "expected", "noted"),
    [
        (["2", "1 3"], [[1], [0, 2]], False),  # each is a key
        (["0", "1 3", "2"], [[0], [1, 3], [2]], True),  # 0 is none, so that all are positions
        (["4", "1 3"], [[3], [0, 2]], False),  # 4 is no position
    ],
)
def test_a_column_of_label_sets_has_either_keys_or_positions(tmp_path, cells, expected, noted):
    """Never both: 1 and 0 were the same class in a column with a 0 for *no class*."""
    frame = pl.DataFrame({"id": [f"i{i}" for i in range(len(cells))], "labels": cells})
    frame.write_csv(tmp_path / "l.csv")
    four = from_keys(("1", "2", "3", "4"), "own")
    labels = read_labels(tmp_path / "l.csv", classes=four)
    assert labels.table["classes"].to_pylist() == expected
    assert any("positions in the class list" in note for note in labels.notes) == noted
    format = "tag-lists(sets=True)"
    tags = read_predictions(tmp_path / "l.csv", classes=four, format=format)
    assert [np.flatnonzero(row).tolist() for row in tags.scores] == expected
    assert any("positions in the class list" in note for note in tags.notes) == noted


@pytest.mark.parametrize("odd", ["0", "3", "999"])
def test_a_number_that_is_no_key_beside_one_that_is_no_position_is_unknown(tmp_path, odd):
    """Never the class at that position: with 52 in the column, all numbers are keys."""
    frame = pl.DataFrame({"id": ["a", "b"], "labels": [f"5 {odd}", "9 52"]})
    frame.write_csv(tmp_path / "l.csv")
    own = from_keys(("1", "5", "9", "10", "52"), "own")
    with pytest.raises(InputError) as error:
        read_labels(tmp_path / "l.csv", classes=own)
    assert f"got:     {odd}\n  allowed: a key or name of own" in str(error.value)
    tags = read_predictions(tmp_path / "l.csv", classes=own, format="tag-lists(sets=True)")
    assert [np.flatnonzero(row).tolist() for row in tags.scores] == [[1], [2, 4]]
    assert tags.unlisted == (odd,)
    selected = replace(own, is_complete=False)
    found = class_indices(pl.Series(["5", odd, "52"]), selected, tmp_path, absent=True)
    assert found.to_list() == [1, None, 4]
