"""Class lists of users' own data, joined by name."""

import itertools
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from manyhot import convert
from manyhot.classes import class_list, classes_seen, from_keys
from manyhot.data.inputs import Reading, open_inputs
from manyhot.errors import MatchError
from manyhot.run import QUIET
from manyhot.tables import Images, Labels, Predictions
from manyhot.tables.joined_classes import join_classes
from manyhot.tables.own_classes import list_of_names

IDS = pa.array(["a", "b"])


def labels(sets, classes, **more):
    table = pa.table(
        {
            "image_id": IDS[: len(sets)],
            "usable": [True] * len(sets),
            "classes": pa.array(sets, pa.list_(pa.int32())),
            "state": [["yes"] * len(s) for s in sets],
        }
    )
    return Labels(table, len(classes), classes.hash, class_list=classes, **more)


def scores(values, classes=None):
    array = np.array(values, np.float32)
    known = {} if classes is None else {"class_list": classes, "class_hash": classes.hash}
    return Predictions(IDS[: len(array)], "net", scores=array, n_classes=array.shape[1], **known)


def names_of(table, classes):
    return [[classes.keys[c] for c in row] for row in table.table["classes"].to_pylist()]


@pytest.mark.parametrize("order", list(itertools.permutations(["bird", "car", "dog"])))
def test_the_order_of_columns_changes_nothing(order):
    own = classes_seen(["dog", "car"])  # car, dog
    column = {"bird": 0.1, "car": 0.2, "dog": 0.3}
    joined = join_classes(labels([[0, 1], [1]], own), None, scores([[0, 0, 0]], from_keys(order)))
    model = joined.of_predictions(scores([[column[name] for name in order]], from_keys(order)))
    by_name = dict(zip(joined.classes.keys, model.scores[0].tolist(), strict=True))
    assert by_name == pytest.approx(column)
    assert names_of(joined.of_labels(labels([[0, 1], [1]], own)), joined.classes) == [["car", "dog"], ["dog"]]


def test_names_are_joined_whatever_their_case():
    own = classes_seen(["Dog", "traffic light"])
    theirs = from_keys(["traffic_light", "dog"])
    joined = join_classes(labels([[0], [1]], own), None, scores([[1, 2]], theirs))
    assert joined.classes.keys == ("dog", "traffic_light")
    assert names_of(joined.of_labels(labels([[0], [1]], own)), joined.classes) == [["dog"], ["traffic_light"]]


def test_columns_without_names_are_in_the_sorted_order_of_seen_names_which_is_noted():
    joined = join_classes(labels([[0], [1]], classes_seen(["dog", "car"])), None, scores([[1, 2]]))
    assert joined.classes.keys == ("car", "dog")
    assert joined.note_on(scores([[1, 2]])) == (
        "the columns of scores have no names, so they are assumed to be in the sorted order of their "
        "names: car, dog; pass `classes` if the columns are in a different order"
    )
    assert joined.note_on(scores([[1, 2]], from_keys(["car", "dog"]))) == ""


def test_columns_without_names_are_in_the_order_of_a_complete_list_beside_a_model_with_names():
    own = from_keys(["dog", "car"])
    joined = join_classes(labels([[0], [1]], own), None, scores([[1, 2]], from_keys(["car", "dog"])))
    assert joined.classes.keys == ("dog", "car")
    assert joined.of_predictions(scores([[1, 2]])).scores.tolist() == [[1, 2]]
    assert joined.of_predictions(scores([[1, 2]], from_keys(["car", "dog"]))).scores.tolist() == [[2, 1]]
    top = Predictions(IDS, "net", np.array([[0, 1], [1, -1]]))
    assert joined.of_predictions(top).classes.tolist() == [[0, 1], [1, -1]]
    assert joined.note_on(top) == (
        "the columns of scores have no names, so they are assumed to be in the order of the labels' "
        "classes: dog, car; pass `classes` if the columns are in a different order"
    )


def test_as_many_columns_as_names_are_needed():
    joined = join_classes(labels([[0], [1]], classes_seen(["dog", "car"])), None, scores([[1, 2, 3]]))
    with pytest.raises(MatchError) as error:
        joined.of_predictions(scores([[1, 2, 3]]))
    assert str(error.value) == (
        "net has more columns than the labels have classes, and its columns have no names.\n"
        "  got:     3 columns\n"
        "  allowed: 2, one for each of car, dog\n"
        "  do:      pass the classes in the order of the columns as `classes`"
    )


def test_classes_that_only_the_model_has_are_not_counted_as_those_of_the_labels():
    own, model = classes_seen(["dog", "car"]), from_keys(["dog", "cat", "cow"])
    joined = join_classes(labels([[0], [1]], own), None, scores([[1, 2, 3]], model))
    with pytest.raises(MatchError, match="allowed: scores for the 2 classes of own classes"):
        joined.of_predictions(scores([[1, 2, 3]], model))


def test_scores_for_all_classes_are_needed():
    own = classes_seen(["dog", "car"])
    model = scores([[1, 2]], from_keys(["dog", "automobile"]))
    joined = join_classes(labels([[0], [1]], own), None, model)
    with pytest.raises(MatchError) as error:
        joined.of_predictions(model)
    assert str(error.value) == (
        "net has no scores for some classes.\n"
        "  got:     car; and scores for automobile, which the labels do not have\n"
        "  allowed: scores for the 2 classes of own classes\n"
        "  do:      if these are other names of the same classes, pass a class list with `synonyms` as "
        "`classes`; otherwise, predict these classes, too, or evaluate all models on the classes that this "
        "one predicts: pass their list as `classes`, which leaves all other classes out of the labels"
    )


def test_other_names_of_classes_are_named_with_a_way_out():
    own, theirs = from_keys(["cat", "aeroplane"]), from_keys(["cat", "airplane"])
    joined = join_classes(labels([[0], [1]], own), None, scores([[1, 2]], theirs))
    with pytest.raises(MatchError) as error:
        joined.of_predictions(scores([[1, 2]], theirs))
    assert str(error.value) == (
        "net has no scores for some classes.\n"
        "  got:     aeroplane; and scores for airplane, which the labels do not have\n"
        "  allowed: scores for the 2 classes of own classes\n"
        "  do:      if these are other names of the same classes, pass a class list with `synonyms` as "
        "`classes`; otherwise, predict these classes, too, or evaluate all models on the classes that this "
        "one predicts: pass their list as `classes`, which leaves all other classes out of the labels"
    )


def test_a_later_model_with_other_classes_is_refused():
    own = from_keys(["car", "dog"])
    joined = join_classes(labels([[0], [1]], own), None, scores([[1, 2]], own))
    with pytest.raises(MatchError) as error:
        joined.of_predictions(scores([[1, 2, 3]], from_keys(["car", "dog", "ufo"])))
    assert str(error.value) == (
        "net predicts classes that are not in the class list.\n"
        "  got:     ufo\n"
        "  allowed: the 2 classes of own classes\n"
        "  do:      pass the list of all classes as `classes`, or leave these out of the predictions"
    )


def test_classes_that_are_passed_select_scores_in_any_file(tmp_path):
    """A CSV with a further class was read without a note, and the same Parquet was refused."""
    frame = pl.DataFrame({"image_id": ["a", "b"], "dog": [0.3, 0.2], "ufo": [0.6, 0.1], "car": [0.1, 0.7]})
    frame.write_csv(tmp_path / "net.csv")
    convert(tmp_path / "net.csv", tmp_path / "net.parquet", scores="probability")
    (tmp_path / "labels.csv").write_text("image_id,labels\na,dog\nb,dog|car\n")
    (tmp_path / "classes.txt").write_text("car\ndog\n")
    for file in ("net.csv", "net.parquet"):
        reading = Reading(scores="probability", classes=tmp_path / "classes.txt")
        source = next(open_inputs(tmp_path / "labels.csv", [tmp_path / file], reading=reading, run=QUIET))
        (model,) = source.models()
        np.testing.assert_array_equal(model.scores, frame.select("car", "dog").to_numpy().astype(np.float32))
        assert source.misfits.remarks == [
            "net: the scores of ufo were left out, because these classes are not in the class list; the "
            "other scores are unchanged, so probabilities may not add up to 1"
        ]


def test_ranks_are_joined_by_name_too():
    theirs = from_keys(["dog", "car"])
    joined = join_classes(labels([[0], [1]], from_keys(["car", "dog"])), None, None)
    top = Predictions(
        IDS, "net", np.array([[0, 1], [1, -1]]), n_classes=2, class_list=theirs, class_hash=theirs.hash
    )
    assert joined.of_predictions(top).classes.tolist() == [[1, 0], [0, -1]]


def test_original_labels_of_images_and_label_sets_have_one_list():
    sets = labels([[0], [0]], classes_seen(["dog"]))
    shown = classes_seen(["car"])
    images = Images(pa.table({"image_id": IDS, "label": pa.array([0, None], pa.int32())}), class_list=shown)
    joined = join_classes(sets, images, None)
    assert joined.classes.keys == ("car", "dog")
    assert joined.of_images(images).label.to_pylist() == [0, None]
    assert joined.of_labels(sets).table["classes"].to_pylist() == [[1], [1]]


def test_imagenet_is_assumed_only_if_the_predictions_do_not_say_otherwise():
    imagenet = class_list()
    fruit = [imagenet.index("banana"), imagenet.index("umbrella")]
    assumed = Labels(labels([[fruit[0]], fruit], imagenet).table, 1000, imagenet.hash, assumed=True)
    assert join_classes(assumed, None, scores(np.zeros((2, 1000)))) is None
    assert join_classes(assumed, None, None) is None
    joined = join_classes(assumed, None, scores([[1, 2]]))
    assert joined.classes.keys == ("banana", "umbrella")
    assert names_of(joined.of_labels(assumed), joined.classes) == [["banana"], ["banana", "umbrella"]]
    named = join_classes(assumed, None, scores([[1, 2]], from_keys(["umbrella", "banana"])))
    assert names_of(named.of_labels(assumed), named.classes) == [["banana"], ["banana", "umbrella"]]


def test_numbers_take_the_classes_of_the_predictions():
    numbers = Labels(labels([[0], [2]], class_list()).table, 1000, assumed=True)
    assert join_classes(numbers, None, scores(np.zeros((2, 1000)))) is None
    joined = join_classes(numbers, None, scores([[1, 2, 3]]))
    assert (joined.n_classes, joined.of_labels(numbers).n_classes) == (3, 3)
    theirs = from_keys(["x", "y", "z"])
    assert join_classes(numbers, None, scores([[1, 2, 3]], theirs)).classes is theirs


@pytest.mark.parametrize(
    ("names", "expected", "assumed"),
    [
        (["n01440764", "n01443537"], "imagenet1k", False),
        (["tench", "n01443537", "3"], "imagenet1k", True),
        (["tench", "my dog"], "mine", False),
    ],
)
def test_a_list_of_names(names, expected, assumed):
    classes, is_assumed = list_of_names(names, "mine")
    assert (classes.name, is_assumed) == (expected, assumed)


@pytest.mark.parametrize("keys", [["0", "1"], ["bus", "cow"]])
def test_predictions_without_a_class_of_the_labels_are_named(keys):
    """Not joined to four classes, of which every image would be wrong."""
    model = replace(scores([[1, 2], [2, 1]], from_keys(keys)), source="net.parquet")
    with pytest.raises(MatchError) as error:
        join_classes(labels([[0], [1]], classes_seen(["dog", "car"])), None, model)
    do = {
        "0": "the file lacks the names of its classes: predict again with manyhot predict --classes FILE, in "
        "the order of the model's outputs",
        "bus": "pass predictions of these classes",
    }[keys[0]]
    own = ", ".join(classes_seen(["dog", "car"]).keys)
    assert str(error.value) == (
        f"{model.model} has no class in common with the labels.\n"
        "  where:   net.parquet\n"
        f"  got:     {', '.join(keys)}\n"
        f"  allowed: {own}, as in {classes_seen(['dog', 'car']).name or 'the labels'}\n"
        f"  do:      {do}"
    )


def test_a_single_synonym_of_imagenet_is_a_class_of_its_own():
    """WordNet's n03065424 is coil, spiral, volute, …; a question about galaxies is none of them."""
    for name in ("spiral", "Spiral"):
        classes, is_assumed = list_of_names([name], "votes")
        assert (classes.keys, is_assumed) == ((name,), False)
    for names in (["coil"], ["n03065424"], ["spiral", "tench"]):
        assert len(list_of_names(names, "votes")[0]) == 1000
