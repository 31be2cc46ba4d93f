"""Errors sorted by what they are: choices, what is not known, and bad input."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

import manyhot
from manyhot import diagnose_errors
from manyhot.classes import ClassList, class_list, from_keys
from manyhot.data.inputs import Reading
from manyhot.diagnose.evidence import COLLAPSED
from manyhot.errors import InputError, MatchError, OrderError, UnknownNameError
from manyhot.tables import Images, Predictions, check
from manyhot.tables.array_inputs import as_labels

PETS = ClassList(
    "pets",
    ("pug", "husky", "eskimo", "tabby", "car"),
    ("pug", "husky", "eskimo", "tabby", "car"),
    ((),) * 5,
    ("",) * 5,
    (
        ("n1 dog", "n0 animal", "n9 thing"),
        ("n1 dog", "n0 animal", "n9 thing"),
        ("n1 dog", "n0 animal", "n9 thing"),
        ("n2 cat", "n0 animal", "n9 thing"),
        ("n9 thing",),
    ),
)
SETS = [[0], [1], [1], [3, 4], [3], [], [0, 1]]
LABEL = [0, 1, 1, 3, 3, 0, 0]
NO_SUPERCLASSES = (
    "no hierarchy, no superclasses are given, and no classes are confused clearly more often than others"
)
IDS = pa.array([f"{i}.jpg" for i in range(len(SETS))])


@pytest.fixture
def labels():
    table = as_labels(SETS, n_classes=5, label=LABEL).table
    table = table.set_column(0, "image_id", IDS)
    return manyhot.Labels(table, 5, PETS.hash, name="pets")


def ranks(*best, model="m", **options):
    return Predictions(IDS[: len(best)], model, np.array(best)[:, None], n_classes=5, **options)


def message(kind, make):
    with pytest.raises(kind) as error:
        make()
    return str(error.value)


def sort(labels, predictions, *, trust_order=False, classes=None, **options):
    reading = Reading(classes=classes, trust_order=trust_order)
    return diagnose_errors(labels, predictions, reading=reading, **options)


def told(found, *names):
    return list(zip(*(found.table[n].to_pylist() for n in names), strict=True))


def test_each_kind(labels):
    # Right; an Eskimo dog for a husky; a pug for a husky; the car beside the cat; a car for a cat, which are
    # together on one image only; a pug, on an image with nothing; a second label.
    found = sort(
        labels,
        [ranks(0, 2, 0, 4, 4, 1, 1)],
        classes=PETS,
        rules=(
            "valid-label",
            "collapsed-pair",
            "fine-grained(largest=0.6)",
            "co-occurrence(images=1, lift=0, related=0)",
            "model-failure",
        ),
        collapsed_pairs=[(1, 2)],
    )
    assert told(found, "image_id", "kind", "class_a", "class_b", "label", "n_labels") == [
        ("1.jpg", "collapsed-pair", 1, 2, 1, 1),
        ("2.jpg", "fine-grained", 1, 0, 1, 1),
        ("3.jpg", "valid-label", None, 4, 3, 2),
        ("4.jpg", "co-occurrence", 3, 4, 3, 1),
        ("5.jpg", "fine-grained", 0, 1, 0, 0),
        ("6.jpg", "valid-label", None, 1, 0, 2),
    ]
    (model,) = found.models
    assert (model.n, model.n_skipped, model.n_errors, model.n_sorted) == (7, 0, 6, 6)
    assert model.shares["valid-label"] == 2 / 6
    assert found.notes == (
        "the labels do not record which classes raters were asked about, so errors of any kind except "
        "valid-label may be due to missing labels",
        "1 of 6 errors are on images with an empty label set; they are compared with the original label",
    )
    assert repr(found) == "SortedErrors(6 errors of 1 models, 0 rules skipped)"


def test_against_the_label_set(labels):
    found = sort(labels, [ranks(0, 2, 0, 4, 4, 1, 1)], classes=PETS, event="set")
    assert found.table["image_id"].to_pylist() == ["1.jpg", "2.jpg", "4.jpg"]
    assert found.count("valid-label") == 0
    assert (found.models[0].n, found.models[0].n_skipped) == (6, 1)


def test_what_people_said_is_told(labels):
    table = labels.table.set_column(
        labels.table.column_names.index("classes"),
        "classes",
        pa.array([[0], [1, 2], [1, 0], [3], [3], [], [0]]),
    )
    table = table.set_column(
        table.column_names.index("state"),
        "state",
        pa.array([["yes"], ["yes", "unclear"], ["yes", "no"], ["yes"], ["yes"], [], ["yes"]]),
    )
    given = replace(labels, table=table)
    found = sort(given, [ranks(0, 2, 0, 4)], classes=PETS)
    assert told(found, "image_id", "state") == [("1.jpg", "unclear"), ("2.jpg", "no"), ("3.jpg", None)]
    asked = sort(replace(given, asked_known=True), [ranks(0, 2, 0, 4)], classes=PETS)
    assert asked.notes == (
        "m: 3 labelled images have no prediction and were left out",
        "in 1 of 3 errors, no rater was asked about the predicted class, so the label may be missing",
    )
    unclear = sort(
        given, [ranks(0, 2, 0, 4)], classes=PETS, rules=("valid-label(unclear=True)", "model-failure")
    )
    assert unclear.table["kind"].to_pylist() == ["valid-label", "model-failure", "model-failure"]


def test_findings_are_checked(labels):
    table = sort(labels, [ranks(4, 4, 0)], classes=PETS).table
    assert check(table, "findings").equals(table)
    at = table.column_names.index("state")
    other = table.set_column(at, "state", pa.array([None, "perhaps", None][: len(table)]))
    assert message(InputError, lambda: check(other, "findings")) == (
        "The column 'state' of the findings table contains a value that is not allowed.\n"
        "  got:     perhaps\n"
        "  allowed: no, unclear, yes"
    )


def test_rules_that_rest_say_why_and_count_nothing(labels):
    found = sort(labels, [ranks(1, 1)])
    assert found.skipped_rules == {
        "collapsed-pair": "no collapsed pairs are known",
        "fine-grained": f"without a class list there is {NO_SUPERCLASSES}",
        "out-of-vocabulary": f"without a class list there is {NO_SUPERCLASSES}; no embeddings are given",
        "non-prototypical": "no list of non-prototypical images is given",
    }
    assert list(found.models[0].counts) == ["valid-label", "unclear", "co-occurrence", "model-failure"]
    assert message(InputError, lambda: found.count("fine-grained")) == (
        "There is no such kind of error.\n"
        "  got:     fine-grained\n"
        "  allowed: valid-label, unclear, co-occurrence, model-failure"
    )


def test_a_class_list_without_hierarchy(labels):
    flat = from_keys(["a", "b", "c", "d", "e"], "flat")
    found = sort(labels, [ranks(1, 1)], classes=flat)
    assert found.skipped_rules["fine-grained"] == f"the classes have {NO_SUPERCLASSES}"
    assert found.skipped_rules["collapsed-pair"] == "no collapsed pairs are known for these classes"
    given = sort(labels, [ranks(1, 0)], classes=flat, superclasses={"dogs": [0, 1, 2]})
    assert given.table["kind"].to_pylist() == ["fine-grained", "fine-grained"]
    assert "fine-grained" not in given.skipped_rules


def test_nothing_is_together():
    found = diagnose_errors([[0], [1]], [[1], [1]], reading=Reading(label=[0, 1], n_classes=3))
    assert found.skipped_rules["co-occurrence"] == "no image has two labels"
    # Where nobody looked for other labels, that none is missing would be a silent zero.
    assert found.skipped_rules["valid-label"] == (
        "no rater was asked about a class other than the original labels"
    )
    assert (
        "an error may be due to a wrong or missing label, whatever its kind: the kinds cannot show this, "
        "because only the original labels are known. To list the labels that may be wrong or missing: "
        "manyhot diagnose "
        "labels DATASET --predictions FOLDER"
    ) in found.notes
    assert list(found.models[0].counts) == ["model-failure"]


def test_without_the_last_rule_what_is_left_is_unsorted(labels):
    found = sort(labels, [ranks(1, 1, 1, 4)], rules=["valid-label"])
    assert found.models[0].counts == {"valid-label": 1, "unsorted": 1}
    assert found.table["kind"].to_pylist() == ["unsorted", "valid-label"]


def test_a_model_without_errors_has_shares_that_are_no_numbers(labels):
    found = sort(labels, [ranks(*LABEL)], classes=PETS)
    (model,) = found.models
    assert (model.n, model.n_errors, model.n_sorted, len(found)) == (7, 0, 0, 0)
    assert all(np.isnan(share) for share in model.shares.values())
    assert found.table.schema.field("class_a").type == pa.int32()


def test_the_first_listed_rule_decides(labels):
    first = sort(labels, [ranks(*[4] * 7)], rules=("model-failure", "valid-label"))
    assert first.count("model-failure") == 7
    assert first.count("valid-label") == 0


def test_non_prototypical(labels):
    found = sort(labels, [ranks(4, 4)], non_prototypical=["1.jpg", "else.jpg"])
    assert found.table["kind"].to_pylist() == ["model-failure", "non-prototypical"]
    none = sort(labels, [ranks(4, 4)], non_prototypical=["else.jpg"])
    assert none.notes[0] == "none of the 1 images listed as non-prototypical is in the labels"


def test_collapsed_pairs_of_imagenet_are_of_its_classes():
    known = class_list()
    names = {(known.names[known.index(a)], known.names[known.index(b)]) for a, b in COLLAPSED}
    assert len(names) == len(COLLAPSED) == 29
    assert ("coffee mug", "cup") in names
    assert ("cup", "coffee mug") not in names
    assert {("laptop", "notebook (computer)"), ("notebook (computer)", "laptop")} <= names


# Similar images.


def similar_table(neighbours, similarity, classes=None):
    return pa.table(
        {
            "image_id": IDS,
            "class_id": pa.nulls(len(IDS), pa.int32()) if classes is None else pa.array(classes, pa.int32()),
            "neighbours": pa.array(neighbours, pa.list_(pa.string())),
            "similarity": pa.array(similarity, pa.list_(pa.float32())),
        }
    )


def test_out_of_vocabulary(labels):
    # Images 0 and 1 are far from their nearest, which are a pug and a tabby; 2 is near a pug.
    near = similar_table(
        [["a"], ["b"], ["a"], [], ["a"], ["a"], ["unknown", "a"]],
        [[0.1], [0.2], [0.9], [], [0.9], [0.8], [0.7, 0.6]],
    )
    index = Images(pa.table({"image_id": ["a", "b"], "label": pa.array([0, 3], pa.int32())}))
    found = sort(
        labels,
        [ranks(1, 0, 0, 0, 4, 1, 4)],
        classes=PETS,
        rules=("out-of-vocabulary(rarity=0.5, largest=0.6)", "model-failure"),
        similar=near,
        neighbours=index,
    )
    assert told(found, "image_id", "kind", "class_a") == [
        ("0.jpg", "out-of-vocabulary", 0),
        ("1.jpg", "model-failure", None),
        ("2.jpg", "model-failure", None),
        ("3.jpg", "model-failure", None),
        ("4.jpg", "model-failure", None),
        ("5.jpg", "model-failure", None),
        ("6.jpg", "model-failure", None),
    ]
    caution = (
        "out-of-vocabulary finds unusual images; objects that belong to no class are hardly more frequent in "
        "them than in others"
    )
    assert caution in found.notes
    none = sort(labels, [ranks(1)], classes=PETS, similar=near, neighbours=index, min_confidence=None)
    assert none.count("out-of-vocabulary") == 0
    assert caution not in none.notes


def test_similar_images_of_one_class_tell_nothing_of_others(labels):
    near = similar_table([["a"]] * 7, [[0.1]] * 7, classes=[0] * 7)
    assert message(InputError, lambda: sort(labels, [ranks(1)], similar=near)) == (
        "The similar images were searched separately for each class.\n"
        "  got:     7 rows with a class\n"
        "  allowed: one row per image, with the nearest images of any class\n"
        "  do:      search again with manyhot similar --among any"
    )


def test_similar_images_without_labels_tell_nothing(labels):
    near = similar_table([["unknown"]] * 7, [[0.1]] * 7)
    found = sort(labels, [ranks(4)], classes=PETS, similar=near)
    assert found.skipped_rules["out-of-vocabulary"] == "none of the similar images has an original label"
    index = Images(pa.table({"image_id": ["unknown"]}), name="index")
    assert message(InputError, lambda: sort(labels, [ranks(4)], similar=near, neighbours=index)) == (
        "The similar images have no original labels.\n  where:   index\n  allowed: a column label"
    )


def test_images_without_similar_ones_are_counted(labels):
    near = similar_table([["0.jpg"]] * 7, [[0.1]] * 7).slice(0, 5)
    found = sort(labels, [ranks(4)], classes=PETS, similar=near)
    assert "out-of-vocabulary" not in found.skipped_rules
    assert "2 of 7 images have no similar images" in found.notes


def test_similar_images_of_other_images(labels):
    near = similar_table([["a"]] * 7, [[0.1]] * 7)
    near = near.set_column(0, "image_id", pa.array([f"x{i}" for i in range(7)]))
    assert message(MatchError, lambda: sort(labels, [ranks(1)], similar=near)) == (
        "None of the images is in the table of similar images.\n  got:     ids such as x0\n  allowed: ids "
        "such as 0.jpg"
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"superclasses": {}},
            "`superclasses` is empty.\n  do:      leave out `superclasses` to use the hierarchy",
        ),
        (
            {"superclasses": {"dogs": ["0", 1]}},
            "A class is not a number.\n"
            "  where:   superclass dogs\n"
            "  got:     ['0', 1]\n"
            "  allowed: ids of classes",
        ),
        (
            {"superclasses": {"dogs": [0.5]}},
            "A class is not a number.\n"
            "  where:   superclass dogs\n"
            "  got:     [0.5]\n"
            "  allowed: ids of classes",
        ),
        (
            {"collapsed_pairs": [(0, 1), (0, 1, 2)]},
            "A collapsed pair must consist of two classes.\n  got:     (0, 1, 2)\n  allowed: (valid, "
            "predicted)",
        ),
        (
            {"collapsed_pairs": [(0, 5)]},
            "A class is out of range.\n  where:   collapsed pairs\n  got:     5\n  allowed: 0 to 4",
        ),
        (
            {"rules": ["co-occurrence(images=0)"]},
            "An option of a rule is out of range.\n  where:   images\n  got:     0\n  allowed: 1 and up",
        ),
        (
            {"rules": ["fine-grained(largest=12)"], "superclasses": {"dogs": [0, 1]}},
            "An option of a rule is out of range.\n  where:   largest\n  got:     12\n  allowed: 0 to 1",
        ),
    ],
)
def test_bad_evidence_and_options(labels, given, said):
    assert message(InputError, lambda: sort(labels, [ranks(1)], **given)) == said


# Confidence.


def test_confidence_is_the_softmax_however_it_is_given():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(50, 12)).astype(np.float32) * 5
    scores[0, 1:4] = -np.inf
    e = np.exp(scores.astype(float))
    p = e / e.sum(1, keepdims=True)
    ids = pa.array([str(i) for i in range(50)])
    top = np.argsort(-scores, axis=1)[:, :3]
    best = np.take_along_axis(scores, top, 1)
    total = np.log(e.sum(1)).astype(np.float32)
    # A label that no model finds: each image is an error.
    label = (top[:, 0] + 1) % 12
    labels = as_labels(label[:, None].tolist(), n_classes=12, label=label)
    labels = replace(labels, table=labels.table.set_column(0, "image_id", ids))
    for known, given in (
        (True, Predictions(ids, "m", scores=scores, score_kind="logit")),
        (True, Predictions(ids, "m", top, best, total, "logit", n_classes=12)),
        (True, Predictions(ids, "m", scores=p.astype(np.float32), score_kind="probability")),
        (False, Predictions(ids, "m", top, best, None, "logit", n_classes=12)),
        (False, Predictions(ids, "m", scores=scores, score_kind="score")),
    ):
        confidence = sort(labels, [given], trust_order=True).table["confidence"]
        assert confidence.null_count == (0 if known else 50)
        if known:
            assert np.allclose(confidence.to_numpy(), p.max(1), rtol=1e-5)


def test_the_confidence_of_a_network_with_sigmoids(labels):
    """With a softmax, the first would have 0.5, and no error would be confident."""
    logits = np.full((2, 5), -3.0, np.float32)
    logits[0, 1:3], logits[1, 3:] = (4.0, 3.9), 1.0
    given = Predictions(IDS[:2], "m", scores=logits, score_kind="logit")
    softmax = sort(labels, [given], min_confidence=0.9)
    assert len(softmax) == 0
    declared = diagnose_errors(labels, [given], min_confidence=0.9, reading=Reading(links="sigmoid"))
    assert told(declared, "image_id", "confidence") == [("0.jpg", pytest.approx(1 / (1 + np.exp(-4))))]
    assert not [note for note in declared.notes if "sigmoid" in note]
    unlabelled = replace(labels, table=labels.table.drop_columns(["label"]))
    found = sort(unlabelled, [given], event="set", min_confidence=0.9)
    assert told(found, "image_id", "confidence") == told(declared, "image_id", "confidence")
    assert (
        "m: the confidence is the sigmoid of the top logit; if the network was trained with a softmax, pass "
        "`links`"
    ) in found.notes


def with_confidence(best, confidence, **options):
    classes = np.stack([best, (np.array(best) + 1) % 5], axis=1)
    p = np.stack([confidence, 1 - np.array(confidence)], axis=1).astype(np.float32)
    return Predictions(IDS[: len(best)], "m", classes, p, score_kind="probability", n_classes=5, **options)


def test_only_errors_above_a_confidence(labels):
    found = sort(labels, [with_confidence([1, 0, 0], [0.95, 0.9, 0.6])], min_confidence=0.9)
    assert told(found, "image_id", "confidence") == [("0.jpg", pytest.approx(0.95))]
    assert (found.models[0].n_errors, found.models[0].n_sorted) == (3, 1)
    every = sort(labels, [with_confidence([1, 0, 0], [0.95, 0.9, 0.6])])
    assert len(every) == 3
    assert every.table["confidence"].null_count == 0
    assert sort(labels, [ranks(1, 1)]).table["confidence"].null_count == 1


def test_infinite_logits_are_refused(labels):
    scores = np.zeros((3, 5), np.float32)
    scores[:, 4] = [3, np.inf, 9]
    dense = Predictions(IDS[:3], "m", scores=scores, score_kind="logit")
    assert message(InputError, lambda: sort(labels, [dense])) == (
        "The softmax of the logits is undefined: a row contains NaN, infinity, or only minus infinity.\n"
        "  where:   m, image 1.jpg\n"
        "  got:     1 of 3 rows\n"
        "  allowed: finite logits; minus infinity for a class that is ruled out\n"
        "  do:      run predict on these images again; half precision overflows in some models"
    )


@pytest.mark.parametrize(
    ("predictions", "got"),
    [
        (ranks(1), "classes without scores"),
        (
            ranks(1, scores=np.ones((1, 1), np.float32), score_kind="logit"),
            "logits of the top classes alone, without logsumexp",
        ),
        (
            ranks(1, scores=np.ones((1, 1), np.float32), score_kind="score"),
            "scores that are declared as neither logits nor probabilities",
        ),
    ],
)
def test_no_confidence_to_be_above(labels, predictions, got):
    assert message(InputError, lambda: sort(labels, [predictions], min_confidence=0.9)) == (
        "m has no confidence to compare with the minimum.\n"
        f"  got:     {got}\n"
        "  allowed: logits or probabilities of all classes, or logits of the top classes with logsumexp\n"
        "  do:      leave out the minimum to sort errors of any confidence, or predict with scores"
    )


def test_probabilities_that_are_none():
    """Refused where they are declared, before any errors are sorted."""
    columns = np.array([[1, 2]]), np.array([[7, 2]], np.float32)
    assert message(InputError, lambda: Predictions(IDS[:1], "m", *columns, score_kind="probability")) == (
        "A probability is not between 0 and 1.\n"
        "  where:   m, image 0.jpg\n"
        "  got:     7\n"
        "  allowed: 0 to 1\n"
        "  do:      divide percentages by 100, or "
        "declare the kind with `scores`: logit, probability or none; a list of logits needs "
        "logsumexp over all classes"
    )


# What is refused.


def test_choices_that_do_not_exist(labels):
    assert message(InputError, lambda: sort(labels, [], event="top1")) == (
        "There is no such event.\n  got:     top1\n  allowed: label, set"
    )
    assert message(InputError, lambda: sort(labels, [], min_confidence=90)) == (
        "`min_confidence` is out of range.\n  got:     90\n  allowed: 0 to below 1"
    )
    assert message(InputError, lambda: sort(labels, [], rules=[])) == (
        "The list of rules is empty.\n  do:      leave out `rules` to apply the default rules"
    )
    assert message(InputError, lambda: sort(labels, [], rules=["valid-label"] * 2)) == (
        "A rule is listed twice.\n  got:     valid-label\n  allowed: each rule once, with its options"
    )
    assert message(InputError, lambda: sort(labels, [])) == (
        "Sorting errors needs predictions, and there are none.\n  do:      pass predictions of at least one "
        "model"
    )
    assert message(UnknownNameError, lambda: sort(labels, [], rules=["fine-grain"])) == (
        "There is no rule 'fine-grain'.\n"
        "  allowed: valid-label, unclear, collapsed-pair, fine-grained, out-of-vocabulary, co-occurrence, "
        "non-prototypical, model-failure\n"
        "  do:      did you mean 'fine-grained'?"
    )


def test_nothing_to_judge():
    sets = as_labels([[0], [1]], n_classes=3)
    given = Predictions(sets.image_id, "m", np.array([[0], [0]]))
    assert message(InputError, lambda: sort(sets, [given], event="label")) == (
        "No usable image has an original label.\n"
        "  where:   labels\n"
        "  got:     2 images\n"
        "  do:      give original labels, or sort errors against the label sets: event set"
    )
    empty = as_labels([[], []], n_classes=3, label=[0, 1])
    assert message(InputError, lambda: sort(empty, [given], event="set")) == (
        "No usable image has a label set that is not empty.\n"
        "  where:   labels\n"
        "  got:     2 images\n"
        "  do:      sort errors against the original label: event label"
    )


def test_what_does_not_belong_together(labels):
    assert message(MatchError, lambda: sort(labels, [ranks(1), ranks(1)])) == (
        "Two models have the same name.\n"
        "  got:     m\n"
        "  do:      rename the file; if the file itself names its model: manyhot convert FILE NEW.parquet "
        "--model NAME"
    )
    assert message(MatchError, lambda: sort(labels, [ranks(1)], classes=class_list())) == (
        "The class list does not match the labels.\n"
        "  where:   imagenet1k\n"
        "  got:     1,000 classes\n"
        "  allowed: 5 classes\n"
        "  do:      pass the class list of the labels"
    )
    other = as_labels([[0, 5]], n_classes=6)
    assert message(MatchError, lambda: sort(labels, [ranks(1)], cooccurrence_labels=other)) == (
        "The label sets used to count which classes occur together have a different class list.\n"
        "  where:   labels\n"
        "  got:     6 classes\n"
        "  allowed: 5 classes"
    )
    assert message(InputError, lambda: sort(labels, [ranks(1)], superclasses={"a": [0, 5]})) == (
        "A class is out of range.\n  where:   superclass a\n  got:     5\n  allowed: 0 to 4"
    )
    twice = {"a": [0], "b": [1, 0]}
    assert message(InputError, lambda: sort(labels, [ranks(1)], superclasses=twice)) == (
        "A class belongs to two superclasses.\n  where:   superclass b\n  got:     class 0"
    )


def test_rows_in_a_wrong_order():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 50, 2000)
    sets = as_labels(label, n_classes=50)
    shifted = Predictions(sets.image_id, "m", (label[:, None] + 1) % 50, n_classes=50)
    with pytest.raises(OrderError):
        sort(sets, [shifted])
    assert len(sort(sets, [shifted], trust_order=True)) == 2000


def test_lists_and_arrays():
    found = diagnose_errors(
        [[0, 1], [2]], {"a": [[1], [0]], "b": [[0], [2]]}, reading=Reading(label=[0, 2], n_classes=3)
    )
    assert found.count("valid-label") == 1
    assert found.count("model-failure", model="a") == 1
    assert found.count("model-failure", model="b") == 0
    assert message(InputError, lambda: found.count("model-failure", model="c")) == (
        "There is no such model.\n  got:     c\n  allowed: a, b"
    )
    assert found.to_polars()["model"].to_list() == ["a", "a"]


def test_images_without_a_prediction_or_a_label_are_skipped():
    labels = as_labels([[0], [1], [1], [2]], n_classes=3, label=[0, None, 1, 2])
    given = Predictions(labels.image_id[1:], "m", np.array([[0], [-1], [0]]), n_classes=3)
    found = sort(labels, [given])
    (model,) = found.models
    assert (model.n, model.n_skipped, model.n_errors) == (1, 2, 1)
    assert found.notes[:3] == (
        "labels: m lists no class for 1 of 3 images; metrics of the top class count an empty list as a "
        "wrong answer",
        "m: 1 labelled images have no prediction and were left out",
        "m: 1 images have no predicted class to sort by, because it lists no class for them",
    )


BLOCKS = [[0, 1, 2], [3, 4], [5, 6, 7, 8]]


def confusing(rng, n=4000, c=16):
    """Return labels and a model that confuses the classes of `BLOCKS`; other classes are in none of them."""
    label = rng.integers(0, c, n)
    group = {i: block for block in BLOCKS for i in block}
    top = label.copy()
    wrong = np.flatnonzero(rng.random(n) < 0.3)
    top[wrong] = [rng.choice(group.get(label[i], [label[i]])) for i in wrong]
    stray = np.flatnonzero(rng.random(n) < 0.02)
    top[stray] = rng.integers(0, c, len(stray))
    return label, top


def test_superclasses_by_confusions():
    """Names that WordNet lacks, and no table: classes that are confused with one another."""
    label, top = confusing(np.random.default_rng(0))
    names = [f"part {i}" for i in range(16)]
    reading = Reading(label=label.tolist(), classes=names)
    found = diagnose_errors([[i] for i in label], top[:, None], reading=reading)
    errors = found.table.to_pylist()
    inside = {(a, b) for block in BLOCKS for a in block for b in block}
    assert {e["kind"] for e in errors} == {"fine-grained", "model-failure"}
    for e in errors:
        assert (e["kind"] == "fine-grained") == ((e["label"], e["class_b"]) in inside)
    assert found.superclasses == "confusions"
    assert found.metadata["superclasses"] == "confusions"
    assert found.to_json()["superclasses"] == "confusions"
    assert [note for note in found.notes if note.startswith("superclasses")] == [
        "superclasses are clusters of classes that these models confuse at least 2 times as often as an "
        f"average pair of classes, in {len(errors)} wrong predictions: part 0, part 1, part 2; part 3, part "
        "4; "
        "part 5, part 6, part 7, part 8. Such classes need not be related; if you have superclasses, pass "
        "`superclasses`"
    ]


def test_known_superclasses_come_before_confusions(labels):
    label, top = confusing(np.random.default_rng(1))
    parts = [f"part {i}" for i in range(16)]
    voc = ["aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", *parts[9:]]
    sources = {}
    for classes, superclasses in ((voc, {"x": [0, 9]}), (voc, None), (parts, None)):
        reading = Reading(label=label.tolist(), classes=classes)
        found = diagnose_errors(
            [[i] for i in label], top[:, None], superclasses=superclasses, reading=reading
        )
        clustered = [note for note in found.notes if note.startswith("superclasses are clusters")]
        sources[found.superclasses] = bool(clustered)
    assert sources == {"given": False, "WordNet": False, "confusions": True}
    assert sort(labels, [ranks(1, 1)], classes=PETS).superclasses == "class list"
    assert sort(labels, [ranks(1, 1)]).superclasses == "none"


def test_clusters_count_all_errors_and_all_models():
    """Also those below the minimum confidence, and the same for each model and order of models."""
    label, top = confusing(np.random.default_rng(2))
    scores = np.full((len(label), 16), 0.03)
    scores[np.arange(len(label)), top] = 0.55
    ids = pa.array([str(i) for i in range(len(label))])
    models = [Predictions(ids, name, scores=scores, score_kind="probability", n_classes=16) for name in "ab"]
    options = {"min_confidence": 0.9, "reading": Reading(label=label.tolist(), n_classes=16)}
    few = diagnose_errors([[i] for i in label], models, **options)
    assert len(few) == 0
    assert few.superclasses == "confusions"
    assert few.models[0].counts["fine-grained"] == 0
