"""Tables in, proposals out: matched by id, with what they cost and find, and errors with their whole text."""

import math

import numpy as np
import pyarrow as pa
import pytest

from manyhot.data.inputs import Reading
from manyhot.errors import InputError, MatchError
from manyhot.reassess.ensemble import DEPTH, golden_labels
from manyhot.reassess.propose import propose
from manyhot.tables import Images, Labels, Predictions, check

IDS = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


def images(ids=IDS, label=(0, 1, 2, 3)):
    columns = {"image_id": pa.array(ids)}
    if label is not None:
        columns["label"] = pa.array(label, pa.int32())
    return Images(pa.table(columns), "photos")


def model(name="one", classes=((0, 1), (2, 1), (2, 4), (3, 0)), ids=IDS, **more):
    more = {"n_classes": 5, "source": f"{name}.parquet"} | more
    return Predictions(pa.array(ids), name, np.array(classes, np.int32), **more)


def labels(sets, ids=IDS, rated=None, usable=None, **more):
    columns = {
        "image_id": ids,
        "usable": [True] * len(ids) if usable is None else usable,
        "classes": pa.array(sets, pa.list_(pa.int32())),
        "state": [["yes"] * len(s) for s in sets],
    }
    if rated is not None:
        columns["rated"] = rated
    return Labels(pa.table(columns), more.pop("n_classes", 5), name="known", **more)


def rows(found):
    return [tuple(r.values()) for r in found.table.to_pylist()]


def test_by_hand():
    found = propose(images(), [model(), model("two", ((0, 1), (1, 2), (4, 2), (3, 1)))])
    assert rows(found) == [
        ("b.jpg", 1, 0.5, 1, "union"),
        ("b.jpg", 2, 0.5, 1, "union"),
        ("c.jpg", 2, 0.5, 1, "union"),
        ("c.jpg", 4, 0.5, 1, "union"),
    ]
    assert check(found.table, "proposals").num_rows == 4
    assert (found.n_images, found.n_left_out, found.n_asked, found.models) == (4, 2, 2, ("one", "two"))
    assert found.hours == 4 * 5 * 5 / 3600
    assert found.expected is None
    assert repr(found) == "Proposals('union', 4 questions about 2 images)"


def test_original_labels_that_no_model_proposes_say_so():
    found = propose(images(label=(4, 1, 2, 3)), [model()], "top-k(k=1)")
    assert rows(found)[:2] == [("a.jpg", 0, 1.0, 1, "top-k(k=1)"), ("a.jpg", 4, 0.0, 0, "label")]


def test_rows_are_matched_by_id():
    order = [2, 0, 3, 1]
    shuffled = model(classes=np.array([(0, 1), (2, 1), (2, 4), (3, 0)])[order], ids=[IDS[i] for i in order])
    more = model("two", ((0, 1), (1, 2), (4, 2), (3, 1), (0, 1)), ids=[*IDS, "e.jpg"])
    plain = propose(images(), [model(), model("two", ((0, 1), (1, 2), (4, 2), (3, 1)))])
    assert propose(images(), [shuffled, more]).table.equals(plain.table)


def test_dense_scores():
    scores = np.zeros((4, 30), np.float32)
    scores[np.arange(4), [0, 2, 2, 3]] = 9
    scores[1, 1] = 8
    dense = Predictions(pa.array(IDS), "dense", scores=scores, score_kind="logit", n_classes=30)
    found = propose(images(), [dense], "union(threshold=0.2)")
    assert [r[:2] for r in rows(found)] == [("b.jpg", 1), ("b.jpg", 2)]
    deepest = propose(images(), [dense], f"top-k(k={DEPTH})", leave_out="nothing")
    assert len(deepest) == 4 * DEPTH


def test_recall_and_precision_by_hand():
    known = labels([[0, 4], [1], [2], []])
    found = propose(images(), [model()], known_labels=known)
    # Asked: both classes of b; the label of a stands, its class 4 is missed. d's set is empty: 3 stands.
    assert [r[:2] for r in rows(found)] == [("b.jpg", 1), ("b.jpg", 2)]
    expected = found.expected
    assert (expected.recall.value, expected.precision.value) == (3 / 4, 1 / 2)
    counts = (expected.n_images, expected.n_labels, expected.n_questions, expected.n_unasked)
    assert counts == (4, 4, 2, 0)
    assert not expected.held_out


def test_intervals_are_those_of_a_plain_bootstrap():
    rng = np.random.default_rng(0)
    ids = [f"{i}.jpg" for i in range(200)]
    label = rng.integers(0, 5, 200)
    top = np.argsort(rng.random((200, 5)), axis=1)[:, :2]
    sets = [
        sorted({int(label[i]), int(top[i, 0])} if rng.random() < 0.5 else {int(label[i])}) for i in range(200)
    ]
    found = propose(images(ids, label), [model(classes=top, ids=ids)], known_labels=labels(sets, ids))
    asked = [{int(top[i, 0]), int(label[i])} if top[i, 0] != label[i] else set() for i in range(200)]
    hit = np.array([len(a & set(s)) for a, s in zip(asked, sets, strict=True)])
    of = np.array([len(a) for a in asked])
    assert found.expected.precision.value == pytest.approx(hit.sum() / of.sum())
    drawn = rng.integers(0, 200, (4000, 200))
    low, high = np.quantile(hit[drawn].sum(1) / of[drawn].sum(1), [0.025, 0.975])
    assert found.expected.precision.lo == pytest.approx(low, abs=0.012)
    assert found.expected.precision.hi == pytest.approx(high, abs=0.012)


def test_without_intervals():
    expected = propose(images(), [model()], known_labels=labels([[0], [1], [2], [3]]), resamples=0).expected
    assert math.isnan(expected.recall.lo)
    assert expected.recall.value == 1


def test_images_that_nobody_looked_at_are_not_known():
    known = labels([[0], [1], [2], [3]], rated=[False, True, None, True], usable=[True, True, True, False])
    expected = propose(images(), [model()], known_labels=known).expected
    assert (expected.n_images, expected.n_labels) == (2, 2)


def test_a_rule_that_learns_is_judged_on_images_that_it_has_not_seen():
    rng = np.random.default_rng(0)
    ids = [f"{i}.jpg" for i in range(60)]
    label = rng.integers(0, 5, 60)
    tops = [np.argsort(rng.random((60, 5)) - 0.5 * np.eye(5)[label], axis=1) for _ in range(3)]
    sets = [sorted({int(label[i]), int(tops[i % 3][i, i % 4])}) for i in range(60)]
    models = [model(f"m{m}", top[:, :3], ids) for m, top in enumerate(tops)]
    known = labels(sets, ids)
    found = propose(images(ids, label), models, "real-search(by='rank', recall=0.9)", known_labels=known)
    assert found.expected.held_out
    assert found.about["searched_recall"] >= 0.9 > found.expected.recall.value
    assert found.expected.n_images == 60


def test_golden_answers():
    answers = [("a.jpg", 0, "yes yes no"), ("a.jpg", 4, "yes maybe no"), ("b.jpg", 1, "no no no")]
    table = pa.Table.from_pylist(
        [
            {"image_id": i, "class_id": c, "expert_id": str(e), "answer": a}
            for i, c, given in answers
            for e, a in enumerate(given.split())
        ],
        schema=pa.schema(
            [
                ("image_id", pa.string()),
                ("class_id", pa.int32()),
                ("expert_id", pa.string()),
                ("answer", pa.string()),
            ]
        ),
    )
    known = golden_labels(table, 5, "", "golden.parquet")
    assert known.table.select(["image_id", "classes", "state", "rated"]).to_pylist() == [
        {"image_id": "a.jpg", "classes": [0, 4], "state": ["yes", "no"], "rated": True},
        {"image_id": "b.jpg", "classes": [1], "state": ["no"], "rated": True},
    ]
    assert known.asked_known
    expected = propose(images(), [model()], known_labels=known).expected
    # Class 2 of b was asked of no expert.
    assert (expected.n_images, expected.n_questions, expected.n_unasked) == (2, 2, 1)


def error_of(*arguments, kind=InputError, **more):
    with pytest.raises(kind) as error:
        propose(*arguments, **more)
    return str(error.value)


@pytest.mark.parametrize("label", [None, [None] * 4])
def test_no_original_labels(label):
    top = [[1, 0], [2, 0], [3, 0], [0, 1]]
    found = propose(images(label=label), [model(classes=np.array(top))], rule="union(k=1)")
    assert rows(found) == [(i, c[0], 1.0, 1, "union(k=1)") for i, c in zip(IDS, top, strict=True)]


def test_some_images_without_an_original_label():
    found = propose(images(label=(None, 1, 2, 3)), [model()])
    assert rows(found)[0] == ("a.jpg", 0, 1.0, 1, "union")


def test_a_label_that_does_not_exist():
    assert error_of(images(label=(0, 7, 2, 3)), [model()]) == (
        "An original label is out of range.\n"
        "  where:   photos, image b.jpg\n"
        "  got:     7\n"
        "  allowed: 0 to 4\n"
        "  do:      check which class list the labels of the images use"
    )


def test_no_predictions():
    assert error_of(images(), []) == (
        "There are no predictions from which to propose labels.\n"
        "  do:      run manyhot predict with at least one model, or use the `rule` all-classes"
    )


def test_an_unknown_number_of_classes():
    assert error_of(images(), [model(n_classes=0)]) == (
        "The number of classes is not known.\n  do:      pass the class list"
    )


def test_predicted_classes_that_do_not_exist():
    strange = model(classes=((0, 1), (2, 9), (2, 4), (3, 0)), n_classes=0)
    assert error_of(images(), [strange], reading=Reading(n_classes=5)) == (
        "A class is out of range.\n"
        "  where:   one.parquet, image b.jpg\n"
        "  got:     9\n"
        "  allowed: 0 to 4\n"
        "  do:      correct it, or pass the list of all classes as `classes`"
    )


def test_models_of_other_class_lists():
    assert error_of(
        images(), [model(), model("two", n_classes=6)], reading=Reading(n_classes=5), kind=MatchError
    ) == (
        "two has a different number of classes from photos.\n"
        "  where:   two.parquet\n"
        "  got:     6 classes\n"
        "  allowed: 5 classes\n"
        "  do:      predict again with the same class list, or convert the file"
    )
    pair = [model(class_hash="aaaa"), model("two", class_hash="bbbb")]
    assert error_of(images(), pair, kind=MatchError) == (
        "two has a different class list from photos.\n"
        "  where:   two.parquet\n"
        "  got:     class list bbbb\n"
        "  allowed: class list aaaa\n"
        "  do:      predict again with the same class list, or convert the file"
    )


def test_images_without_predictions_of_a_model():
    part = model("two", ((0, 1), (1, 2)), ids=["d.jpg", "b.jpg"])
    assert error_of(images(), [model(), part], kind=MatchError) == (
        "Predictions of two are missing for some images.\n"
        "  where:   two.parquet\n"
        "  got:     no prediction for 2 of 4 images, such as a.jpg\n"
        "  allowed: predictions of every model for every image\n"
        "  do:      run predict on the other images, or leave out the model or these images"
    )


def test_predictions_of_other_images():
    other = model(ids=["w.jpg", "x.jpg", "y.jpg", "z.jpg"])
    assert error_of(images(), [other], kind=MatchError) == (
        "No images are in both photos and one.parquet.\n"
        "  got:     ids such as w.jpg, x.jpg\n"
        "  allowed: ids such as a.jpg, b.jpg\n"
        "  do:      pass the file with the images of each row, or labels of the same data set"
    )


def test_two_predictions_of_a_model():
    assert error_of(images(), [model(source="x.csv"), model(source="y.csv")]) == (
        "There are two sets of predictions of one.\n  where:   x.csv and y.csv\n  do:      remove one of them"
    )


def test_known_sets_of_other_images():
    known = labels([[0]], ids=["z.jpg"])
    assert error_of(images(), [model()], known_labels=known, kind=MatchError) == (
        "No images are in both photos and known.\n"
        "  got:     ids such as z.jpg\n"
        "  allowed: ids such as a.jpg, b.jpg\n"
        "  do:      pass the file with the images of each row, or labels of the same data set"
    )


def test_known_sets_that_nobody_looked_at():
    known = labels([[0], [1], [2], [3]], rated=[False] * 4)
    assert error_of(images(), [model()], known_labels=known, kind=MatchError) == (
        "None of the images with a known label set was rated.\n"
        "  where:   known\n"
        "  got:     4 images, none of them usable and rated\n"
        "  allowed: label sets confirmed by raters"
    )


def test_known_sets_of_another_class_list():
    known = labels([[0], [1], [2], [3]], n_classes=6, class_hash="bbbb")
    assert error_of(images(), [model()], known_labels=known, kind=MatchError) == (
        "The known label sets have a different class list.\n"
        "  where:   known\n"
        "  got:     6 classes, class list bbbb\n"
        "  allowed: 5 classes, class list unknown"
    )


def test_rates():
    assert error_of(images(), [model()], seconds=0) == (
        "`seconds` is out of range.\n  got:     0\n  allowed: above 0"
    )
    assert error_of(images(), [model()], raters=0) == (
        "`raters` is out of range.\n  got:     0\n  allowed: 1 or more"
    )


def test_some_classes_of_all_images():
    """Original labels are not asked about in addition, and no image is left out."""
    source = images()
    for given in (2, [2], [2, 2]):
        found = propose(source, rule=f"all-classes(classes={given})", reading=Reading(n_classes=5))
        assert [row[:2] for row in rows(found)] == [(image_id, 2) for image_id in IDS]
        assert (found.n_left_out, found.rule) == (0, f"all-classes(classes={given})")
    both = propose(source, rule="all-classes(classes=[4, 0])", reading=Reading(n_classes=5))
    assert [row[:2] for row in rows(both)] == [(image_id, c) for image_id in IDS for c in (0, 4)]
    for given, got in (("5", "5"), ("'sofa'", "'sofa'"), ("[]", "none")):
        with pytest.raises(InputError) as raised:
            propose(source, rule=f"all-classes(classes={given})", reading=Reading(n_classes=5))
        assert str(raised.value) == (
            "The rule all-classes cannot ask about these classes.\n"
            f"  got:     {got}\n"
            "  allowed: class ids from 0 to 4"
        )


@pytest.mark.parametrize(("n", "text"), [(1, "1 model"), (2, "2 models")])
def test_the_number_of_models_is_in_words(n, text):
    found = propose(images(), [model(f"m{i}") for i in range(n)])
    assert next(found.lines()) == f"union, {text}"
