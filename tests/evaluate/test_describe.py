"""What labels tables hold: published counts, and a small table worked out by hand."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from manyhot import describe, read_images, read_labels
from manyhot.classes import class_list, from_keys
from manyhot.errors import InputError
from manyhot.evaluate.describe import describe_tables
from manyhot.tables import Labels, write
from manyhot.tables.arrays import at_threshold, label_sets
from proportions import proportion_ends

STATES = [["yes", "yes"], ["yes", "no"], ["no"], ["yes", "yes", "yes"], ["unclear"], ["yes"]]
CLASSES = [[0, 1], [1, 2], [3], [0, 1, 4], [2], [4]]
LABEL = [0, 2, 3, 4, None, 4]


@pytest.fixture
def labels():
    table = pa.table(
        {
            "image_id": [f"{i}.jpg" for i in range(6)],
            "label": pa.array(LABEL, pa.int32()),
            "rated": [True] * 5 + [False],
            "usable": [True] * 6,
            "classes": CLASSES,
            "state": STATES,
            "p": [[0.9, 0.8], [0.95, 0.1], [0.3], [0.9, 0.9, 0.9], [0.5], None],
            "method": ["votes"] * 6,
        }
    )
    return Labels(table, 5, asked_known=True, name="mine")


def test_a_class_without_votes_was_not_asked_about(labels):
    """As an original label that no source of merged label sets was asked about."""
    votes = pa.array([[3, 3], [3, 0], [2], [3, 3, 0], [2], [0]], pa.list_(pa.int32()))
    merged = Labels(labels.table.append_column("n_votes", votes), 5, asked_known=True, name="mine")
    (card,) = describe_tables(merged).datasets.to_pylist()
    assert (card["asked"], card["confirmed"], card["unclear"]) == (7, 5, 1)


def test_original_labels_without_answers_are_left_out(labels):
    """Image 0 lists its label with 0 answers, image 1 does not list it: neither is confirmed or refuted."""
    table = labels.table.set_column(1, "label", pa.array([0, 0, 3, 4, None, 4], pa.int32()))
    table = table.append_column("n_votes", pa.array([[0, 3], [3, 3], [2], [3, 3, 3], [2], [0]]))
    found = describe_tables(Labels(table, 5, asked_known=True, name="mine"))
    (card,) = found.datasets.to_pylist()
    assert (card["labelled"], card["label_unasked"], card["rejected"]) == (5, 2, 1)
    assert (card["original_valid_n"], card["original_valid"]) == (2, 1)  # images 3 and 5; 2 is empty
    assert found.rejected["image_id"].to_pylist() == ["2.jpg"]
    told = "\n".join(found.lines())
    assert "original label not valid" in told
    assert "of 3 (33.3%" in told
    seen = "images that raters have seen but that have no answer about the original label"
    assert any(line.split() == ["left", "out", "of", "both", "2", *seen.split()] for line in found.lines())


def test_images_without_answers_about_all_classes_may_have_a_valid_class():
    """Against a loop over a table with empty cells: a cell that nobody was asked about is not a no."""
    rng = np.random.default_rng(0)
    cells = (rng.random((200, 3)) < 0.3).astype(float)
    cells[rng.random(cells.shape) < 0.3] = np.nan
    frame = pd.DataFrame(cells, columns=list("abc")).assign(image_id=[f"{i}.png" for i in range(200)])
    none = sum(all(cell == 0 for cell in row) for row in cells)
    unknown = sum(1 not in row and 0 in row and np.isnan(row).any() for row in cells)
    usable = sum(not np.isnan(row).all() for row in cells)
    assert min(none, unknown) > 10
    found = describe(frame)
    (card,) = found.datasets.to_pylist()
    assert (card["empty"], card["empty_unasked"]) == (none + unknown, unknown)
    lines = [line.split() for line in found.lines()]
    lo, hi = proportion_ends(unknown, usable)
    share = f"{unknown / usable:.1%}, 95 % interval {lo:.1%} to {hi:.1%}"
    assert f"no valid class {none} of {usable}".split() in lines
    assert f"none found valid {unknown} of {usable} ({share}), not asked about all classes".split() in lines
    (several,) = (line for line in found.lines() if line.startswith("two or more labels"))
    assert several.endswith(", or more: not asked about all classes")
    assert "or more" not in "".join(describe(frame.fillna(0)).lines()).replace("two or more", "")
    (card,) = describe(frame.fillna(0)).datasets.to_pylist()
    assert (card["empty"], card["empty_unasked"]) == (sum(1 not in row for row in cells), 0)


@pytest.mark.parametrize(
    ("text", "is_noted"),
    [
        ("image,tags\na,cat|dog\nb,cat\n", True),
        ("image,tags\na,dog\nb,cat\n", False),
        ("image,cat,dog\na,1,1\nb,1,0\n", False),
    ],
)
def test_lists_do_not_record_which_classes_were_asked_about(text, is_noted, tmp_path):
    """Single labels list all that is valid, and a table of zeros and ones answers each class."""
    (tmp_path / "labels.csv").write_text(text)
    line = "–  not recorded: in metrics, classes that an image does not list count as not valid"
    assert (line in "\n".join(describe(tmp_path / "labels.csv").lines())) is is_noted


def test_a_data_card_by_hand(labels):
    (card,) = describe_tables(labels, licence="CC0").datasets.to_pylist()
    ends = card.pop("original_valid_lo"), card.pop("original_valid_hi")
    assert ends == pytest.approx(proportion_ends(3, 4))
    assert card == {
        "dataset": "mine",
        "images": 6,
        "unusable": 0,
        "undecided": 0,
        "rated": 5,
        "asked": 9,  # of the rated images; the other has its label unasked
        "confirmed": 6,
        "unclear": 1,
        "labels": 7,
        "empty": 2,
        "empty_unasked": 2,  # raters were asked about one of five classes
        "multi": 2,
        "labelled": 5,
        "rejected": 2,  # image 1, and image 2 of which nothing is valid
        "label_unasked": 0,
        "original_valid": 0.75,  # images 0, 3 and 5, but not 1
        "original_valid_n": 4,
        "method": "votes",
        "licence": "CC0",
        "citation": None,
        "home": None,
    }


def test_sizes_pairs_and_rejected_by_hand(labels):
    found = describe_tables(labels, classes=from_keys("abcde"))
    assert [(r["size"], r["images"]) for r in found.set_sizes.to_pylist()] == [(0, 2), (1, 2), (2, 1), (3, 1)]
    assert found.set_sizes["share"].to_pylist() == pytest.approx([2 / 6, 2 / 6, 1 / 6, 1 / 6])
    pairs = [
        (r["name_a"], r["name_b"], r["images"], r["images_a"], r["images_b"])
        for r in found.class_pairs.to_pylist()
    ]
    assert pairs == [("a", "b", 2, 2, 3), ("a", "e", 1, 2, 2), ("b", "e", 1, 3, 2)]
    rejected = [(r["image_id"], r["label_name"], r["names"]) for r in found.rejected.to_pylist()]
    assert rejected == [("1.jpg", "c", ["b"]), ("2.jpg", "d", [])]


def test_unusable_images_do_not_count(labels):
    table = labels.table.set_column(
        labels.table.column_names.index("usable"), "usable", pa.array([True, False, True, False, True, True])
    )
    found = describe_tables(Labels(table, 5, asked_known=True, name="mine"))
    assert [r["images"] for r in found.set_sizes.to_pylist()] == [2, 1, 1]
    (card,) = found.datasets.to_pylist()
    assert (card["unusable"], card["labels"], card["rejected"]) == (2, 3, 1)
    assert found.class_pairs.num_rows == 1


def test_published_counts_of_real(published):
    rows = read_images(published("imagenet-validation-original.json"))
    labels = read_labels(published("real.json")).with_labels(rows)
    found = describe_tables(labels)
    sizes = {r["size"]: r["images"] for r in found.set_sizes.to_pylist()}
    assert sizes == {0: 3163, 1: 39394, 2: 5408, 3: 1319, 4: 411, 5: 161, 6: 88, 7: 41, 8: 13, 9: 2}
    (card,) = found.datasets.to_pylist()
    assert (card["images"], card["labels"], card["empty"], card["multi"]) == (50_000, 57_553, 3_163, 7_443)
    assert (card["rated"], card["asked"]) == (None, None)  # real.json does not tell
    # Counted in plain Python.
    kept = labels.table.select(["label", "classes"]).to_pylist()
    assert card["rejected"] == sum(r["label"] not in r["classes"] for r in kept)
    assert found.rejected.num_rows == card["rejected"]
    # The ReaL accuracy of the original labels themselves, Beyer et al. 2020.
    assert round(card["original_valid"], 5) == 0.90023
    assert card["original_valid_n"] == 50_000 - 3_163


def test_no_original_labels_have_no_share_that_is_valid():
    found = describe([[0, 1], [2]], classes=from_keys("abc"), dataset="arrays")
    assert found.to_json()["datasets"][0]["original_valid"] is None
    assert found.datasets["original_valid_n"].to_pylist() == [0]
    assert "original label" not in str(found)


def test_original_labels_of_empty_sets_have_no_share_that_is_valid(labels):
    unclear = labels.table.slice(4, 1).set_column(1, "label", pa.array([2], pa.int32()))
    found = describe(Labels(unclear, 5, name="mine")).lines()
    (line,) = [line for line in found if line.startswith("original label valid")]
    assert line == "original label valid      –  of 0 images with any"


def test_published_counts_of_multilabelfy(published):
    labels = read_labels(published("imagenetv2_refined_labels.json"))
    found = describe_tables(labels.with_labels(read_images(published("imagenetv2-b-33.json"))))
    (card,) = found.datasets.to_pylist()
    assert round(card["multi"] / card["images"], 4) == 0.4788
    # 8,797 lists hold the original label.
    assert card["rejected"] == 10_000 - 8_797


def test_labels_without_a_name_are_refused(labels):
    with pytest.raises(InputError) as error:
        describe_tables(Labels(labels.table, 5))
    assert str(error.value) == "The name of the data set is unknown.\n  do:      pass a name as `dataset`"


def test_several_data_sets_and_none(labels):
    arrays = describe([[0, 1], [2]], classes=from_keys("abc"), dataset="arrays")
    assert arrays.set_sizes["images"].to_pylist() == [0, 1, 1]
    both = describe(labels, Labels(labels.table, 5, name="theirs"))
    assert both.datasets["dataset"].to_pylist() == ["mine", "theirs"]
    assert str(both).startswith("mine: 6 images, 7 labels\n")
    with pytest.raises(InputError, match="There are no label sets to describe"):
        describe()


def test_other_thresholds(labels):
    assert label_sets(at_threshold(labels, 0.9)).size.tolist() == [1, 1, 0, 3, 0, 1]
    assert label_sets(at_threshold(labels, 0.3)).size.tolist() == [2, 1, 1, 3, 1, 1]
    table = at_threshold(labels, 0.3).table
    assert table["state"].to_pylist()[4:] == [["yes"], ["yes"]]  # without p a class keeps its state
    with pytest.raises(InputError) as error:
        at_threshold(Labels(labels.table.drop(["p"]), 5, name="mine"), 0.5)
    assert str(error.value) == (
        "A threshold requires labels with probabilities, but these labels have none.\n"
        "  where:   mine\n"
        "  allowed: a labels table with the column 'p'"
    )


@pytest.mark.parametrize("class_hash", [class_list("imagenet1k").hash, "0123456789abcdef"])
def test_a_folder_that_predict_wrote_needs_no_predictions(tmp_path, class_hash):
    """Its images table names the class list of the labels; a list that is not built in has to be passed."""
    table = pa.table({"image_id": ["a", "b"], "label": pa.array([3, 999], pa.int32())})
    write(table, tmp_path / "images.parquet", "images", about={"classes": class_hash})
    options = {}
    if class_hash != class_list("imagenet1k").hash:
        with pytest.raises(InputError, match="The number of classes is not known"):
            describe(tmp_path)
        options["classes"] = tmp_path / "keys.txt"
        options["classes"].write_text("".join(f"k{i}\n" for i in range(1000)))
    assert next(describe(tmp_path, **options).lines()).endswith(": 2 images, 2 labels")


def test_numbers_may_be_declared_as_probabilities(tmp_path):
    p = np.random.default_rng(0).random((40, 3)).round(2)
    frame = pd.DataFrame(p, columns=["cat", "dog", "cup"]).assign(image_id=[f"{i}.jpg" for i in range(40)])
    frame.to_csv(tmp_path / "labels.csv", index=False)
    (row,) = describe(tmp_path / "labels.csv", label_values="p").datasets.to_pylist()
    assert (row["labels"], row["multi"]) == ((p >= 0.5).sum(), ((p >= 0.5).sum(1) > 1).sum())
