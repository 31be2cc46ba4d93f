from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from manyhot.classes import class_list, from_keys
from manyhot.errors import InputError, MatchError
from manyhot.tables import Images, Labels, Predictions, align, check_same_classes, predictions_from_table
from manyhot.tables.labels import class_list_from_metadata
from manyhot.tables.predictions import check_class_list


def ids(*names):
    return pa.array(names, pa.string())


def labels(**changes):
    columns = {
        "image_id": ["a", "b"],
        "label": pa.array([0, None], pa.int32()),
        "usable": [True, True],
        "classes": [[0, 2], []],
        "state": pa.array([["yes", "no"], []], pa.list_(pa.string())),
    } | changes
    return Labels(pa.table(columns), 3, "hash", True, "L")


def message(kind, make):
    with pytest.raises(kind) as error:
        make()
    return str(error.value)


def test_class_out_of_range():
    assert message(InputError, lambda: labels(classes=[[0, 3], []])) == (
        "A class is out of range.\n"
        "  where:   L, image a\n"
        "  got:     3\n"
        "  allowed: 0 to 2\n"
        "  do:      correct it, or pass the list of all classes as `classes`"
    )


@pytest.mark.parametrize(
    "damage",
    [{"keys": "[]", "names": "[]"}, {"names": '["x"]'}, {"keys": '["b", "a"]'}, {"keys": "{"}],
)
def test_a_damaged_class_list_is_refused(damage):
    about = {"keys": '["a", "b"]', "names": '["x", "y"]', "classes": from_keys(["a", "b"]).hash}
    assert class_list_from_metadata(about, "L").names == ("x", "y")
    assert message(InputError, lambda: class_list_from_metadata(about | damage, "L")) == (
        "The class list in the metadata of the file is damaged.\n"
        "  where:   L\n"
        "  do:      create or download it again"
    )


def test_indices_that_start_at_1_are_recognised():
    made = lambda: labels(classes=[[1, 3], [2]], state=[["yes", "no"], ["yes"]])  # noqa: E731
    assert message(InputError, made) == (
        "A class is out of range.\n"
        "  where:   L, image a\n"
        "  got:     3\n"
        "  allowed: 0 to 2\n"
        "  do:      subtract 1: these indices start at 1"
    )


def test_label_out_of_range():
    assert message(InputError, lambda: labels(label=pa.array([None, -4], pa.int32()))) == (
        "A class is out of range.\n"
        "  where:   L, image b\n"
        "  got:     -4\n"
        "  allowed: 0 to 2\n"
        "  do:      correct it, or pass the list of all classes as `classes`"
    )


def test_duplicate_ids():
    assert message(MatchError, lambda: labels(image_id=["a", "a"])) == (
        "An image is listed more than once.\n"
        "  where:   L\n"
        "  got:     1 id, such as a\n"
        "  allowed: each image_id once\n"
        "  do:      retain one row per image"
    )


def test_a_class_twice():
    assert message(InputError, lambda: labels(classes=[[2, 2], []])) == (
        "An image lists a class twice.\n  where:   L, image a\n  got:     class 2"
    )


def test_lists_of_different_lengths():
    assert message(InputError, lambda: labels(classes=[[2], []])) == (
        "The lists `classes` and 'state' of an image differ in length.\n"
        "  where:   L, image a\n"
        "  got:     1 and 2"
    )


def test_original_labels_are_filled_in_where_unknown():
    images = Images(pa.table({"image_id": ["b", "z", "a"], "label": pa.array([2, 1, 0], pa.int32())}))
    assert labels().with_labels(images).table["label"].to_pylist() == [0, 2]


def test_contradicting_original_labels():
    images = Images(pa.table({"image_id": ["a"], "label": pa.array([1], pa.int32())}))
    assert message(InputError, lambda: labels().with_labels(images)) == (
        "Two files have different original labels for an image.\n"
        "  where:   L, image a\n"
        "  got:     0 and 1\n"
        "  do:      check that both files have the same class list and data set"
    )


def test_nan_scores():
    scores = np.zeros((3, 4), np.float32)
    scores[1, 2] = scores[2, 0] = np.nan
    made = lambda: Predictions(ids("a", "b", "c"), "m", scores=scores)  # noqa: E731
    assert message(InputError, made) == (
        "Scores are not a number (NaN).\n"
        "  where:   m, image b\n"
        "  got:     2 of 12\n"
        "  allowed: finite numbers\n"
        "  do:      run predict on these images again (half precision overflows to NaN in some models), or "
        "leave images without scores out of the predictions"
    )


def test_infinite_scores_are_ranks_too():
    scores = np.array([[np.inf, 0], [-np.inf, 1]], np.float32)
    made = Predictions(ids("a", "b"), "m", scores=scores)
    note = "1 of 4 scores are infinite, and rank first: half precision may overflow"
    assert made.notes == (note,) == replace(made, model="n").notes
    assert Predictions(ids("a"), "m", scores=scores[1:]).notes == ()  # the logarithm of 0


def test_number_of_columns():
    made = lambda: Predictions(ids("a"), "m", scores=np.zeros((1, 4), np.float32), n_classes=5)  # noqa: E731
    assert message(InputError, made) == (
        "The scores and the class list have different numbers of classes.\n"
        "  where:   m\n"
        "  got:     4 columns\n"
        "  allowed: 5\n"
        "  do:      pass the class list of the model as `classes`"
    )


def test_a_class_predicted_twice():
    made = lambda: Predictions(ids("a", "b"), "m", np.array([[1, 2, 0], [2, 0, 2]], np.int32))  # noqa: E731
    assert message(InputError, made) == (
        "A class is predicted twice for one image.\n"
        "  where:   m, image b\n"
        "  got:     [2, 0, 2]\n"
        "  allowed: each class once\n"
        "  do:      integers are classes, best first; if these are scores, pass floats"
    )


def test_a_class_with_several_scores():
    made = lambda: Predictions(ids("a"), "m", np.array([[1, 1]]), np.array([[0.9, 0.4]], np.float32))  # noqa: E731
    assert message(InputError, made).endswith(
        "  do:      if these are several boxes of a class, keep the highest score of each image and class; "
        "if rows or entries are repeated, drop the repeated ones"
    )


def test_scores_that_contradict_the_order():
    made = lambda: Predictions(ids("a"), "m", np.array([[1, 2]]), np.array([[0.25, 0.5]], np.float32))  # noqa: E731
    assert message(InputError, made) == (
        "Predicted classes are not in the order of their scores.\n"
        "  where:   m, image a\n"
        "  got:     classes [1, 2] with scores [0.25, 0.5]\n"
        "  allowed: best first"
    )


def test_gap_in_a_ragged_list():
    made = lambda: Predictions(ids("a"), "m", np.array([[1, -1, 2]], np.int32))  # noqa: E731
    assert message(InputError, made) == (
        "A class is out of range.\n"
        "  where:   m, image a\n"
        "  got:     [1, -1, 2]\n"
        "  allowed: 0 or more; -1 only after the last class of a short list"
    )


def test_ids_may_be_a_column_of_a_table():
    column = pa.chunked_array([["a"], ["b"]])
    p = Predictions(column, "m", np.array([[1], [0]], np.int32))
    assert p.image_id.equals(pa.array(["a", "b"]))


def test_ragged_lists_survive_the_table():
    p = Predictions(ids("a", "b"), "m", np.array([[1, 2], [0, -1]], np.int32), n_classes=3)
    again = predictions_from_table(p.to_table(), model="m")
    assert again.classes.tolist() == [[1, 2], [0, -1]]


def test_confidence_of_a_short_list_comes_from_logsumexp():
    logits = np.array([[2.0, 1.0, -3.0, 0.5]], np.float32)
    total = np.log(np.exp(logits).sum(1)).astype(np.float32)
    top = Predictions(ids("a"), "m", np.array([[0, 1]], np.int32), logits[:, :2], total, "logit")
    dense = Predictions(ids("a"), "m", scores=logits, score_kind="logit")
    softmax = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(dense.confidence(), softmax, rtol=1e-6)
    np.testing.assert_allclose(top.confidence(), softmax[:, :2], rtol=1e-6)
    assert Predictions(ids("a"), "m", scores=logits, score_kind="score").confidence() is None
    sigmoid = replace(dense, link="sigmoid").confidence()
    np.testing.assert_allclose(sigmoid, 1 / (1 + np.exp(-logits.astype(float))), rtol=1e-6)
    listed = replace(top, link="sigmoid", logsumexp=None).confidence()
    np.testing.assert_allclose(listed, sigmoid[:, :2], rtol=1e-6)


def test_align_reports_what_did_not_match():
    found = align(ids("a", "b", "c"), ids("c", "x", "a"), left_name="L", right_name="m")
    assert (found.left.tolist(), found.right.tolist()) == ([0, 2], [2, 0])
    assert (found.left_only, found.right_only) == (1, 1)


def test_no_overlap():
    assert message(MatchError, lambda: align(ids("a", "b"), ids("x"), left_name="L", right_name="m")) == (
        "No images are in both L and m.\n"
        "  got:     ids such as x\n"
        "  allowed: ids such as a, b\n"
        "  do:      pass the file with the images of each row, or labels of the same data set"
    )


@pytest.mark.parametrize(
    ("n", "key", "text"),
    [
        (
            4,
            "",
            "m has a different number of classes from L.\n"
            "  where:   m.npy\n"
            "  got:     4 classes\n"
            "  allowed: 3 classes\n"
            "  do:      predict again with the same class list, or convert the file",
        ),
        (
            3,
            "other",
            "m has a different class list from L.\n"
            "  where:   m.npy\n"
            "  got:     class list other\n"
            "  allowed: class list hash\n"
            "  do:      predict again with the same class list, or convert the file",
        ),
    ],
)
def test_another_class_list(n, key, text):
    p = Predictions(ids("a"), "m", np.array([[0]], np.int32), n_classes=n, class_hash=key, source="m.npy")
    assert message(MatchError, lambda: check_same_classes(labels(), p)) == text


def test_names_that_are_not_imagenets_are_named():
    own = from_keys(["tench", "sunny day", "goldfish, Carassius auratus"], "m")
    p = Predictions(ids("a"), "m", np.array([[1, 0]], np.int32), n_classes=3, class_list=own, source="m.csv")
    imagenet = class_list()
    with pytest.raises(MatchError) as error:
        check_class_list(p, 1000, imagenet.hash, "ReaL")
    assert str(error.value) == (
        "m predicts classes that are not in the class list of ReaL.\n"
        "  where:   m.csv\n"
        "  got:     sunny day (1 of 3 names)\n"
        "  allowed: keys, names and descriptions of the 1,000 classes of imagenet1k\n"
        "  do:      rename these classes, or leave them out of the predictions"
    )
