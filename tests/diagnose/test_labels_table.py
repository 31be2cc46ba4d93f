"""Label issues as tables: what is said of each, what is not known, and bad input."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import manyhot
from manyhot.data.inputs import Reading
from manyhot.diagnose.label_issues_table import ISSUES, LabelIssues
from manyhot.errors import InputError, MatchError
from manyhot.predict.embeddings import Embedded
from manyhot.predict.similar import similar
from manyhot.tables import Images, Predictions
from manyhot.tables.array_inputs import as_labels

IDS = pa.array([f"{x}.jpg" for x in "abcdef"])
LABEL = [0, 0, 1, 1, 2, 2]
P = np.array(
    [
        [0.9, 0.05, 0.05],
        [0.1, 0.8, 0.1],  # labelled 0, looks like 1
        [0.0, 0.9, 0.1],
        [0.05, 0.55, 0.4],  # 2 may be there, too
        [0.0, 0.0, 1.0],
        [0.1, 0.1, 0.8],
    ],
    np.float32,
)


@pytest.fixture
def images():
    return Images(pa.table({"image_id": IDS, "label": pa.array(LABEL, pa.int32())}), "six")


def dense(scores=P, kind="probability", model="net", ids=IDS):
    return Predictions(ids, model, scores=scores, score_kind=kind, n_classes=scores.shape[1])


def ranks(*best, model="ranks", ids=IDS):
    return Predictions(ids, model, np.array(best)[:, None], n_classes=3)


def find(images, predictions, *, dataset="", **options):
    return manyhot.find_label_issues(images, predictions, reading=Reading(dataset=dataset), **options)


def message(kind, make):
    with pytest.raises(kind) as error:
        make()
    return str(error.value)


def told(table, *names):
    return list(zip(*(table[n].to_pylist() for n in names), strict=True))


def test_each_kind(images):
    found = find(images, [dense()], dataset="six")
    doubtful = found.of_kind("doubtful-label")
    names = ("image_id", "class_a", "class_b", "rank", "n_models", "confident_class", "dataset")
    assert told(doubtful, *names) == [("b.jpg", 0, 1, 1, 1, 1, "six")]
    assert doubtful["score"][0].as_py() == pytest.approx(0.9)
    assert doubtful["neighbours"].null_count == doubtful["people"].null_count == 1
    missing = found.of_kind("missing-label")
    assert told(missing, "image_id", "class_a", "class_b", "rank") == [("b.jpg", 0, 1, 1), ("d.jpg", 1, 2, 2)]
    assert missing["score"].to_pylist() == pytest.approx([0.8, 0.4])
    assert found.table.column_names == [
        "kind",
        "image_id",
        "class_a",
        "class_b",
        "dataset",
        "rank",
        "score",
        "models",
        "neighbours",
        "people",
        "n_models",
        "confident_class",
        "together",
        "a_as_b",
        "b_as_a",
        "n_together",
        "n_a",
        "n_b",
        "answer",
        "name_a",
        "name_b",
    ]
    assert repr(found) == "LabelIssues(1 doubtful-label, 2 missing-label, 0 merge-classes; 6 images)"
    assert (found.n, found.n_skipped, found.notes, found.models, found.kinds) == (
        6,
        0,
        (),
        ("net",),
        tuple(ISSUES),
    )
    assert found.to_polars().height == 3


def test_ranks_speak_alone_where_a_model_has_nothing_more(images):
    found = find(images, [dense(), ranks(0, 1, 1, 2, 2, 2)])
    assert found.notes == (
        "ranks has no probabilities, so only the top class of each model is used, and confident learning is "
        "skipped",
    )
    assert told(found.of_kind("doubtful-label"), "image_id", "score", "confident_class") == [
        ("b.jpg", 1.0, None),
        ("d.jpg", 0.5, None),
    ]
    many = find(images, [ranks(*LABEL, model=f"m{i}") for i in range(5)])
    assert many.notes[0].startswith("m0, m1, m2 and 2 more have no probabilities, so only ")
    three = find(images, [ranks(*LABEL, model=f"m{i}") for i in range(3)])
    assert three.notes[0].startswith("m0, m1, m2 have no probabilities, so only ")


def test_scores_of_unknown_kind_are_no_probabilities_until_declared(images):
    found = find(images, [dense(kind="score")])
    assert found.notes[0].endswith(
        "; if the scores are probabilities or logits, declare their kind with `scores`"
    )


def test_logits_and_short_lists(images):
    with np.errstate(divide="ignore"):
        logits = np.log(np.maximum(P, 1e-30))
    one = find(images, [dense(logits, "logit")])
    whole = find(images, [dense()])
    assert one.table["score"].to_pylist() == pytest.approx(whole.table["score"].to_pylist(), abs=1e-6)
    classes = np.array([[0, -1], [1, 0], [1, -1], [1, 2], [2, -1], [2, -1]])
    p = np.array([[0.9, -np.inf], [0.8, 0.1], [0.9, -np.inf], [0.55, 0.4], [1, -np.inf], [0.8, -np.inf]])
    short = Predictions(IDS, "net", classes, p.astype(np.float32), score_kind="probability", n_classes=3)
    found = find(images, [short])
    assert told(found.of_kind("missing-label"), "image_id", "class_b") == [("b.jpg", 1), ("d.jpg", 2)]
    assert found.n == 6


def test_infinite_logits_and_absent_labels_are_skipped_and_said():
    table = pa.table({"image_id": IDS, "label": pa.array([None, *LABEL[1:]], pa.int32())})
    logits = np.log(np.maximum(P, 1e-30))
    logits[1, 1] = np.inf
    with np.errstate(invalid="ignore"):
        found = find(Images(table, "six"), [dense(logits, "logit")])
    assert (found.n, found.n_skipped) == (4, 2)
    assert found.notes == (
        "net: 1 of 18 scores are infinite, and rank first: half precision may overflow",
        "2 of 6 images have no original label or have non-finite scores, so no doubtful label is reported "
        "for them",
    )
    assert "b.jpg" not in found.table["image_id"].to_pylist()
    # An image without a label may lack any.
    assert told(found.of_kind("missing-label"), "image_id", "class_a", "class_b")[0] == ("a.jpg", None, 0)


def test_votes_decide(images):
    votes = as_labels([[0], [1, 0], [1], [1, 2], [2], [2]], n_classes=3).table
    votes = manyhot.Labels(votes.set_column(0, "image_id", IDS), 3, name="votes")
    found = find(images, [dense()], confirmed_labels=votes)
    assert found.count("doubtful-label") == 0
    assert told(found.of_kind("missing-label"), "image_id", "class_b", "score", "people") == [
        ("b.jpg", 1, 1.0, 1.0),
        ("d.jpg", 2, 1.0, 1.0),
    ]


def test_similar_images_speak(images):
    # b lies beside c and d; with them two of its three neighbours are of class 1.
    vectors = np.array([[1, 0], [0, 1], [0.1, 1], [0, 1], [1, 0.1], [1, 0.2]], np.float32)
    embedded = Embedded(dense(), vectors, images)
    table = similar(embedded, neighbours=2, among="any").table
    found = find(images, [dense()], similar=table, neighbours=images)
    (row,) = (
        found.of_kind("doubtful-label")
        .filter(pa.compute.equal(found.of_kind("doubtful-label")["image_id"], "b.jpg"))
        .to_pylist()
    )
    assert row["neighbours"] == 1
    assert row["score"] == row["models"] == pytest.approx(0.9)


def test_neighbours_say_nothing_of_a_label_that_none_of_them_can_have():
    label = [0, 1, 1, 2, None, 2]
    images = Images(pa.table({"image_id": IDS, "label": pa.array(label, pa.int32())}), "six")
    vectors = np.eye(6, dtype=np.float32) + 0.5
    table = similar(Embedded(dense(), vectors, images), neighbours=5, among="any").table
    found = find(images, [dense()], similar=table, min_doubtful=0).of_kind("doubtful-label")
    by = dict(told(found, "image_id", "neighbours"))
    # Of a.jpg no other image has the label; each other label is one of four that neighbours have.
    assert by == {"a.jpg": None, **dict.fromkeys(("b.jpg", "c.jpg", "d.jpg", "f.jpg"), 0.75)}
    note = (
        "1 of 6 images have a label that no other searched image has, so neighbours provide no evidence "
        "about this label"
    )
    assert note in find(images, [dense()], similar=table).notes
    # In an index of others, each image may have neighbours with its label.
    other = Images(pa.table({"image_id": ["x", "y"], "label": pa.array([0, 1], pa.int32())}), "index")
    there = pa.table(
        {
            "image_id": IDS,
            "class_id": pa.nulls(6, pa.int32()),
            "neighbours": [["x", "y"]] * 6,
            "similarity": pa.array([[0.9, 0.8]] * 6, pa.list_(pa.float32())),
        }
    )
    found = find(images, [dense()], similar=there, neighbours=other, min_doubtful=0)
    by = dict(told(found.of_kind("doubtful-label"), "image_id", "neighbours"))
    assert by == {**dict.fromkeys(("a.jpg", "b.jpg", "c.jpg"), 0.5), "d.jpg": None, "f.jpg": None}
    assert any("no other searched image" in note for note in found.notes)
    every = Images(pa.table({"image_id": ["x", "y", "z"], "label": pa.array([0, 1, 2], pa.int32())}), "index")
    found = find(images, [dense()], similar=there, neighbours=every, min_doubtful=0)
    assert not any("no other searched image" in note for note in found.notes)


def test_arrays_are_enough():
    found = manyhot.find_label_issues(LABEL, {"net": P}, reading=Reading(scores="probability"))
    assert found.of_kind("doubtful-label")["image_id"].to_pylist() == ["1"]
    assert manyhot.find_label_issues(LABEL, P).notes[0].startswith("model has no probabilities")
    some = manyhot.find_label_issues([0, -1, 1, 1, 2, 2], P, reading=Reading(scores="probability"))
    assert (some.n, some.n_skipped) == (5, 1)


def test_data_sets_are_joined(images):
    parts = [find(images, [ranks(0, 1, 1, 2, 2, 2)], dataset=d) for d in ("x", "y")]
    both = LabelIssues.concat(parts, {})
    assert len(both) == 2 * len(parts[0])
    assert (both.n, both.models) == (12, ("ranks",))
    assert [note.partition(":")[0] for note in both.notes] == ["x", "y"]
    assert LabelIssues.concat(parts[:1], {}).notes == parts[0].notes


def test_images_without_predictions_are_left_out(images):
    """As if the table did not contain them, and as `evaluate` does, with the same note."""
    part = find(images, [dense(P[1:5], ids=IDS[1:5])])
    of_part = Images(images.table.slice(1, 4), "six")
    whole = find(of_part, [dense(P[1:5], ids=IDS[1:5])])
    assert part.table.equals(whole.table)
    assert told(part.of_kind("doubtful-label"), "image_id", "class_a", "class_b") == [("b.jpg", 0, 1)]
    note = "2 of 6 labelled images have no prediction and were left out"
    assert (part.notes[0], whole.notes) == (note, part.notes[1:])
    evaluated = manyhot.evaluate(images, dense(P[1:5], ids=IDS[1:5]), resamples=0)
    assert note in {n.text for n in evaluated.model_notes}


def test_label_sets_without_predictions_are_left_out():
    given = as_labels([[0], [0, 1], [1], [1, 2], [2], [0, 2]], n_classes=3)
    ids = given.image_id.take(pa.array([0, 1, 3, 5]))
    p = np.array([[0.9, 0.1, 0.1], [0.9, 0.9, 0.1], [0.9, 0.9, 0.9], [0.1, 0.1, 0.9]], np.float32)
    found = find(given, [dense(p, ids=ids)], min_doubtful=0.5)
    pairs = ("image_id", "class_a", "class_b")
    # By hand: class 0 of the last image has 0.1, and class 0 is missing in the one before with 0.9.
    assert told(found.of_kind("doubtful-label"), *pairs) == [("5", 0, None)]
    assert told(found.of_kind("missing-label"), *pairs) == [("3", None, 0)]
    assert found.notes[0] == "2 of 6 labelled images have no prediction and were left out"


def test_bad_input(images):
    assert message(InputError, lambda: find(images, [])) == (
        "Finding label issues needs predictions, and there are none.\n  do:      run manyhot predict on the "
        "images"
    )
    blank = Predictions(IDS, "net", np.array(LABEL)[:, None])
    assert message(InputError, lambda: find(images, [blank])) == (
        "The number of classes is not known.\n  do:      pass the class list"
    )
    bare = Images(pa.table({"image_id": IDS}), "six")
    assert message(InputError, lambda: find(bare, [dense()])).splitlines()[0] == (
        "The images have no original labels."
    )
    assert message(InputError, lambda: find(images, [dense(P * 30)])) == (
        "A probability is not between 0 and 1.\n"
        "  where:   net, image a.jpg\n"
        "  got:     27\n"
        "  allowed: 0 to 1\n"
        "  do:      divide percentages by 100, or "
        "declare the kind with `scores`: logit, probability or none; a list of logits needs "
        "logsumexp over all classes"
    )
    assert message(MatchError, lambda: find(images, [dense(), ranks(1, 1, 1, 1, ids=IDS[:4])])) == (
        "Predictions of ranks are missing for some images.\n"
        "  got:     no prediction for 2 of 6 images, such as e.jpg\n"
        "  allowed: predictions of every model for every image\n"
        "  do:      run predict on the other images, or leave out the model or these images"
    )
    other = as_labels([[0]] * 6, n_classes=9)
    assert message(MatchError, lambda: find(images, [dense()], confirmed_labels=other)).splitlines()[0] == (
        "The known label sets have a different class list."
    )
    assert message(InputError, lambda: find(images, [dense()]).of_kind("wrong")) == (
        "There is no such kind of issue.\n"
        "  got:     wrong\n"
        "  allowed: doubtful-label, missing-label, merge-classes"
    )
    assert message(
        InputError, lambda: manyhot.find_label_issues(LABEL, P, reading=Reading(scores="odds"))
    ) == (
        "There is no such kind of scores.\n"
        "  where:   model\n"
        "  got:     odds\n"
        "  allowed: logit, probability, cosine, none"
    )


SETS = [[0], [0], [1], [1, 2], [2], [0, 2]]
SIGMOIDS = np.array(
    [[0.9, 0.2, 0.1], [0.1, 0.8, 0.1], [0.0, 0.9, 0.1], [0.1, 0.7, 0.8], [0.1, 0.0, 0.9], [0.8, 0.7, 0.1]],
    np.float32,
)
ONLY_SETS = (
    "there are no original labels, so each class of the label sets is checked, with the same minimum score "
    "for wrong and missing classes"
)


def test_label_sets_without_original_labels():
    reading = Reading(scores="probability")
    found = manyhot.find_label_issues(SETS, {"net": SIGMOIDS}, min_doubtful=0.5, reading=reading)
    names = ("image_id", "class_a", "class_b", "rank", "confident_class")
    assert told(found.of_kind("doubtful-label"), *names) == [
        ("1", 0, None, 1, None),
        ("5", 2, None, 2, 2),
    ]
    assert found.of_kind("doubtful-label")["score"].to_pylist() == pytest.approx([0.9, 0.9])
    assert told(found.of_kind("missing-label"), *names) == [("1", None, 1, 1, 1), ("5", None, 1, 2, None)]
    assert found.of_kind("missing-label")["score"].to_pylist() == pytest.approx([0.8, 0.7])
    assert found.of_kind("missing-label")["people"].null_count == 2
    assert (found.n, found.n_skipped, found.notes) == (6, 0, (ONLY_SETS,))
    matrix = np.zeros((6, 3), int)
    for row, classes in enumerate(SETS):
        matrix[row, classes] = 1
    same = manyhot.find_label_issues(matrix, {"net": SIGMOIDS}, min_doubtful=0.5, reading=reading)
    assert told(same.table, "kind", *names) == told(found.table, "kind", *names)


def test_by_default_what_confident_learning_suspects_in_label_sets():
    """Models that are not confident made 987 of 1,561 labels doubtful, of which 60 were wrong."""
    reading, names = Reading(scores="probability"), ("kind", "image_id", "confident_class")
    found = manyhot.find_label_issues(SETS, {"net": SIGMOIDS}, reading=reading)
    every = manyhot.find_label_issues(SETS, {"net": SIGMOIDS}, min_doubtful=0, reading=reading)
    issues = [row for row in told(every.table, *names) if row[2] is not None]
    assert told(found.table, *names) == issues
    assert len(issues) == 2
    assert found.notes[1] == (
        "only the labels suspected by confident learning are listed; to list all labels with at least a "
        "given score, pass `min_doubtful`, such as 0.5"
    )


def test_given_label_sets_are_checked_beside_original_labels():
    """A column of labels made it propose classes that were in the label sets."""
    images = Images(
        pa.table({"image_id": list("012345"), "label": pa.array([s[0] for s in SETS], pa.int32())})
    )
    reading = Reading(scores="probability")
    alone = manyhot.find_label_issues(SETS, {"net": SIGMOIDS}, reading=reading)
    beside = manyhot.find_label_issues(SETS, {"net": SIGMOIDS}, reading=replace(reading, images=images))
    assert beside.table.to_pylist() == alone.table.to_pylist()
    assert beside.notes[0].startswith(
        "each class of the label sets is checked instead of the original labels"
    )


def test_label_sets_with_several_raters():
    """The probability of a class and the number of answers count beside the models."""
    p = [[1.0], [0.0], [1.0], [1.0, 0.6], [1.0], [1.0, 1.0]]
    table = pa.table(
        {
            "image_id": IDS,
            "rated": [True] * 6,
            "usable": [True] * 6,
            "classes": pa.array(SETS, pa.list_(pa.int32())),
            "state": [["yes"] * len(s) for s in SETS],
            "p": pa.array(p, pa.list_(pa.float32())),
            "n_votes": pa.array([[4] * len(s) for s in SETS], pa.list_(pa.int32())),
        }
    )
    labels = manyhot.Labels(table, 3, name="sets", asked_known=True)
    found = find(labels, [dense(SIGMOIDS)], min_doubtful=0).of_kind("doubtful-label")
    by = {(r["image_id"], r["class_a"]): r for r in found.to_pylist()}
    # Four answers weigh as much as models, which are worth four if there are too few answers to fit it.
    assert by["b.jpg", 0]["people"] == 1
    assert by["b.jpg", 0]["score"] == pytest.approx((1 + 0.9) / 2)
    assert by["f.jpg", 2]["score"] == pytest.approx((0 + 0.9) / 2)
    alone = find(labels, [dense(SIGMOIDS)], min_doubtful=0, no_confirmed_labels=True)
    assert alone.of_kind("doubtful-label")["people"].null_count == len(found)
    reviewed = as_labels([[1], [1], [1], [1, 2], [2], [0, 1]], n_classes=3).table
    reviewed = manyhot.Labels(reviewed.set_column(0, "image_id", IDS), 3, name="reviewed")
    other = find(labels, [dense(SIGMOIDS)], confirmed_labels=reviewed)
    (row,) = [r for r in other.of_kind("missing-label").to_pylist() if r["image_id"] == "f.jpg"]
    assert (row["class_b"], row["people"]) == (1, 1)
    assert row["score"] == pytest.approx((1 + 0.7) / 2)


def test_label_sets_with_several_classes_need_probabilities():
    labels = as_labels(SETS, n_classes=3).table
    labels = manyhot.Labels(labels.set_column(0, "image_id", IDS), 3, name="sets")
    cosines = dense(SIGMOIDS, kind="cosine", model="clip")
    assert message(InputError, lambda: find(labels, [cosines])) == (
        "Label sets with several classes can be checked only with probabilities of the classes.\n"
        "  where:   sets\n  got:     no probabilities of clip\n"
        "  allowed: logits or probabilities of all models\n"
        "  do:      declare the kind of the scores with `scores`; pass cosines, such as those of CLIP, "
        "multiplied by 100 as logits, with `links` softmax"
    )
    one = manyhot.Labels(labels.table.slice(0, 3), 3, name="sets")  # one class each
    assert len(find(one, [cosines]).table)


def test_images_without_confirmed_labels_are_checked_as_without_any():
    labels = as_labels(SETS, n_classes=3).table
    labels = manyhot.Labels(labels.set_column(0, "image_id", IDS), 3, name="sets")
    confirmed = manyhot.Labels(labels.table.slice(0, 2), 3, name="confirmed")
    columns = ("kind", "image_id", "class_a", "class_b", "score", "confident_class")
    alone, found = (
        find(labels, [dense(SIGMOIDS)]),
        find(labels, [dense(SIGMOIDS)], confirmed_labels=confirmed),
    )
    rows = [
        [row for row in told(issues.table, *columns) if row[1] not in ("a.jpg", "b.jpg")]
        for issues in (alone, found)
    ]
    assert rows[0] == rows[1] != []


@pytest.mark.parametrize(
    "name", ["find_label_issues", "diagnose_classes", "diagnose_groups", "diagnose_calibration"]
)
def test_probabilities_that_are_declared_as_logits_are_noted(name):
    rng = np.random.default_rng(0)
    valid = rng.random((200, 3)) < 0.3
    scores = np.clip(0.7 * valid + 0.3 * rng.random(valid.shape), 0.01, 0.99).astype(np.float32)
    for kind, n_notes in (("logit", 1), ("probability", 0)):
        diagnose = getattr(manyhot, name)
        notes = diagnose(valid.astype(int), scores, reading=Reading(scores=kind)).notes
        assert sum("all are between 0 and 1, as probabilities are" in note for note in notes) == n_notes
        assert not any("softmax, pass" in note or "cosines" in note for note in notes)


def test_missing_labels_with_the_answer_no_are_told_apart():
    """By the cells of the table: nobody was asked about empty cells."""
    rng = np.random.default_rng(0)
    valid, names = rng.random((200, 3)) < 0.3, ["a", "b", "c"]
    cells = np.where(rng.random(valid.shape) < 0.5, valid & (rng.random(valid.shape) < 0.8), np.nan)
    scores = 1 / (1 + np.exp(3 - 6 * valid - rng.normal(0, 1, valid.shape)))
    ids = [f"{i}.jpg" for i in range(200)]

    def found(labels):
        frames = pd.DataFrame(labels, ids, names), {"net": pd.DataFrame(scores, ids, names)}
        return manyhot.find_label_issues(*frames, scores="probability", min_doubtful=0.5)

    issues = found(cells)
    missing = issues.of_kind("missing-label")
    rows = told(missing, "image_id", "class_b", "answer")
    expected = ["no" if cells[ids.index(image), c] == 0 else None for image, c, _ in rows]
    assert [answer for *_, answer in rows] == expected
    n_no = expected.count("no")
    assert 0 < n_no < len(rows)
    assert (
        f"{n_no} of {len(rows)} missing labels are pairs with the answer no (column 'answer')" in issues.notes
    )
    # A table without empty cells answers no about every missing class.
    assert found(np.nan_to_num(cells)).table["answer"].null_count == len(found(np.nan_to_num(cells)).table)
