"""Matrices of 0 and 1 and of scores in ``.npz`` files, with the names of their columns."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.preprocessing import MultiLabelBinarizer

from manyhot import read_labels, read_predictions
from manyhot.classes import from_keys
from manyhot.errors import InputError
from manyhot.formats import detect
from manyhot.tables import Images
from manyhot.tables.labels import with_zeros


def rows_of(ids):
    return Images(pa.table({"image_id": [*ids]}))


IDS = np.array(["a.jpg", "b.jpg"])
SETS = [("dog", "cat"), ("horse",)]


@pytest.mark.parametrize("name", ["labels", "y", "y_true"])
@pytest.mark.parametrize("kind", [bool, int, np.float32])
def test_output_of_scikit_learn(tmp_path, name, kind):
    binarizer = MultiLabelBinarizer(classes=["horse", "dog", "cat"])
    matrix = binarizer.fit_transform(SETS).astype(kind)
    path = tmp_path / "l.npz"
    np.savez(path, **{name: matrix}, classes=binarizer.classes_.astype(str), ids=IDS)
    labels = read_labels(path)
    assert detect(path).name == "npz-labels"
    assert labels.class_list.keys == ("horse", "dog", "cat")  # as they are in the file
    assert with_zeros(labels).table["state"].to_pylist() == [["no", "yes", "yes"], ["yes", "no", "no"]]
    assert labels.asked_known
    own = from_keys(("cat", "dog", "horse"))
    assert with_zeros(read_labels(path, classes=own)).table["state"].to_pylist() == [
        ["yes", "yes", "no"],
        ["no", "no", "yes"],
    ]


def test_states(tmp_path):
    np.savez(tmp_path / "l.npz", y=np.array([[1, -1], [0, np.nan]]), ids=IDS)
    labels = read_labels(tmp_path / "l.npz")
    assert labels.table["classes"].to_pylist() == [[0, 1], [0]]
    assert labels.table["state"].to_pylist() == [["yes", "unclear"], ["no"]]
    assert (labels.n_classes, labels.class_hash, labels.class_list) == (2, "", None)


def test_scores_with_names(tmp_path):
    path = tmp_path / "m.npz"
    np.savez(
        path, labels=np.eye(2), probabilities=np.array([[0.25, 1], [0.5, 0]]), ids=IDS, classes=["dog", "cat"]
    )
    found = read_predictions(path)  # labels in the same file are not scores
    assert (found.class_list.keys, found.scores.tolist()) == (("dog", "cat"), [[0.25, 1], [0.5, 0]])
    own = from_keys(("cat", "dog"))
    over = read_predictions(path, classes=own)
    assert (over.class_hash, over.scores.tolist()) == (own.hash, [[1, 0.25], [0, 0.5]])
    assert len(read_labels(path)) == 2


@pytest.mark.parametrize("name", ["predictions", "preds", "logits"])
@pytest.mark.parametrize("ids", ["patch_id", "patch_ids", "filename"])
def test_what_a_test_loop_dumps(tmp_path, name, ids):
    path, scores = tmp_path / "m.npz", np.array([[0.25, 1], [-0.5, 0]], np.float32)
    np.savez(path, **{name: scores, ids: IDS, "labels": np.eye(2)})
    found = read_predictions(path, scores="logit")
    assert (found.image_id.to_pylist(), found.scores.tolist()) == (list(IDS), scores.tolist())
    assert read_labels(path).table["classes"].to_pylist() == [[0], [1]]


@pytest.mark.parametrize(
    ("arrays", "classes", "said"),
    [
        (
            {"y": np.array([[0.5, 1], [0, 0]])},
            None,
            "The labels are not a matrix of zeros and ones, and the meaning of their numbers is unclear.\n"
            "  where:   {}, array y\n"
            "  got:     1 numbers other than 0, 1 and -1, such as 0.5\n"
            "  allowed: 0, 1 and -1; or counts of votes\n"
            "  do:      pass `label_values`: counts (each rater chose one class per image), yes-of-5 (5 "
            "raters answered yes or no to each class), shares or p; if the numbers count objects, write 1 in "
            "place of each number above 0; if they are scores, pass them as predictions",
        ),
        (
            {"y": np.eye(2, dtype=int), "classes": np.array(["cat"])},
            None,
            "The numbers of class names and of columns differ.\n  where:   {}\n"
            "  got:     1 names\n  allowed: 2",
        ),
        (
            {"y": np.eye(2, dtype=int), "classes": np.array(["cat", "dog"])},
            ("cat", "horse"),
            "The columns are not the classes of the class list.\n  where:   {}\n"
            "  got:     no column 'horse'\n  allowed: one column for each of the 2 classes",
        ),
        (
            {"y": np.eye(2, dtype=int)},
            ("cat", "horse", "dog"),
            "The matrix and the class list have different numbers of classes.\n  where:   {}\n"
            "  got:     2 columns\n  allowed: 3",
        ),
    ],
)
def test_matrices_that_are_refused(tmp_path, message, arrays, classes, said):
    path = tmp_path / "l.npz"
    np.savez(path, ids=IDS, **arrays)
    assert message(lambda: read_labels(path, classes=classes and from_keys(classes))) == said.format(path)


def test_a_matrix_of_states_without_its_meaning_is_refused_with_the_way_out(tmp_path, message):
    path = tmp_path / "observed.npy"
    np.save(path, np.eye(3)[[0, 1, 2, 0]])
    text = message(lambda: read_labels(path))
    assert text.endswith(
        "  do:      pass it as predictions; if 0 and 1 are the states of each class, pass "
        "`label_values`=states, or convert the file: manyhot convert observed.npy labels.parquet "
        "--label-values states"
    )
    for options in ({"label_values": "states"}, {"format": "npy-labels(label_values='states')"}):
        assert read_labels(path, **options).table["classes"].to_pylist() == [[0], [1], [2], [0]]
    np.save(path, np.full((4, 3), 0.5))
    assert message(lambda: read_labels(path)).endswith(
        "pass it as predictions; if the numbers are the share of raters who chose a class, or its "
        "probability, pass `label_values`=shares or p"
    )


@pytest.mark.parametrize("name", ["l.npy", "l.npz"])
def test_one_class_per_image(tmp_path, name):
    """What a test loop saves: the labels of a data set, of which torchvision's -1 is missing."""
    path, rows = tmp_path / name, rows_of("abc")
    y = np.array([2, -1, 0])
    np.save(path, y) if path.suffix == ".npy" else np.savez(path, labels=y, logits=np.zeros((3, 3)))
    labels = read_labels(path, rows=rows)
    assert labels.table["label"].to_pylist() == [2, None, 0]
    assert labels.table["classes"].to_pylist() == [[2], [], [0]]
    assert labels.are_original
    with pytest.raises(InputError, match="different numbers of rows"):
        read_labels(path, rows=rows_of("ab"))


def test_one_class_name_per_image(tmp_path):
    path = tmp_path / "l.npz"
    np.savez(path, y=np.array(["dog", ""]), ids=IDS, classes=["dog", "cat", "horse"])
    labels = read_labels(path)
    assert (labels.table["label"].to_pylist(), labels.class_list.keys) == ([0, None], ("dog", "cat", "horse"))
    np.save(tmp_path / "l.npy", np.array(["dog", "cat"]))
    over = read_labels(tmp_path / "l.npy", classes=from_keys(["cat", "dog"]))
    assert over.table["label"].to_pylist() == [1, 0]


def test_class_numbers_beyond_the_list_are_refused(tmp_path):
    np.savez(tmp_path / "l.npz", y=np.array([0, 3]), ids=IDS, classes=["dog", "cat"])
    with pytest.raises(InputError, match=r"got: *3"):
        read_labels(tmp_path / "l.npz")


@pytest.mark.parametrize("is_passed", [False, True])
def test_numbers_are_positions_also_among_keys_that_are_numbers(tmp_path, is_passed):
    """As in predictions and in Python: 1 is the second of the classes 1, 2 and 3."""
    keys, y = ["1", "2", "3"], np.array([1, 2])
    named = {} if is_passed else {"classes": keys}
    np.savez(tmp_path / "l.npz", y=y, ids=IDS, **named)
    classes = from_keys(keys) if is_passed else None
    assert read_labels(tmp_path / "l.npz", classes=classes).table["label"].to_pylist() == [1, 2]
    np.savez(tmp_path / "l.npz", y=y + 1, ids=IDS, **named)
    with pytest.raises(InputError, match="out of range"):
        read_labels(tmp_path / "l.npz", classes=classes)
    np.savez(tmp_path / "l.npz", y=y.astype(str), ids=IDS, **named)  # as names, they are keys
    assert read_labels(tmp_path / "l.npz", classes=classes).table["label"].to_pylist() == [0, 1]
