"""Evaluators with a class list give what `evaluate` gives for the same images, however classes are named."""

import copy
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

import manyhot as mh
from manyhot.classes import ClassList, class_list, from_keys
from manyhot.errors import InputError, MatchError
from manyhot.tables.frames import FramePart
from manyhot.tables.label_arrays import labels_as_table

RNG = np.random.default_rng(11)
N, NAMES = 40, ["zebra", "ant", "cow", "dog", "bee"]
HOT = RNG.random((N, 5)) < 0.4
SCORES = (HOT + RNG.normal(size=(N, 5))).astype(np.float32)
LISTS = [[NAMES[j] for j in np.flatnonzero(row)] for row in HOT]
METRICS = ["map_macro", "lrap", "real1"]
IDS = [f"{i:02}.jpg" for i in range(N)]
BATCHES = np.array_split(np.arange(N), 4)


def message(make, kind=InputError):
    with pytest.raises(kind) as error:
        make()
    return str(error.value)


def streamed(batch, **options):
    """An evaluator with the batches that a function returns for rows."""
    evaluator = mh.Evaluator(**{"classes": NAMES, "metrics": METRICS, "resamples": 20, **options})
    for rows in BATCHES:
        evaluator.update(*batch(rows))
    return evaluator


def numbers(found):
    return found.results.drop_columns("model").to_pylist()


EXPECTED = numbers(mh.evaluate(LISTS, SCORES, classes=NAMES, metrics=METRICS, resamples=20))


def table(rows, keys=tuple(NAMES)):
    classes = from_keys(list(keys))
    hot = HOT[rows][:, [NAMES.index(key) for key in keys]]
    return labels_as_table(FramePart(hot, "labels"), FramePart(None, "label"), 5, classes)


def lists_of(rows):
    return SCORES[rows], [LISTS[i] for i in rows]


def frames_of(rows):
    pd = pytest.importorskip("pandas")
    order = np.random.default_rng(rows[0]).permutation(5)
    labels = pd.DataFrame(HOT[rows], columns=NAMES).iloc[:, order]
    return pd.DataFrame(SCORES[rows], columns=NAMES).iloc[:, order[::-1]], labels


def column_of(rows):
    pd = pytest.importorskip("pandas")
    lists = pd.DataFrame({"image_id": [IDS[i] for i in rows], "labels": [LISTS[i] for i in rows]})
    scores = pd.DataFrame(SCORES[rows], index=lists["image_id"], columns=NAMES)
    return scores.iloc[::-1], lists


FORMS = {
    "matrix": lambda rows: (SCORES[rows], HOT[rows]),
    "names": lists_of,
    "names in sets": lambda rows: (SCORES[rows], [set(LISTS[i]) for i in rows]),
    "frames": frames_of,
    "a column of names": column_of,
    "tables": lambda rows: (SCORES[rows], table(rows)),
    "tables in another order": lambda rows: (SCORES[rows], table(rows, sorted(NAMES))),
}


@pytest.mark.parametrize("form", FORMS)
def test_batches_give_what_evaluate_gives_to_the_last_digit(form):
    found = streamed(FORMS[form]).compute()
    np.testing.assert_equal(numbers(found), EXPECTED)
    expected = average_precision_score(HOT, SCORES, average="macro")
    assert found.value("map_macro") == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("kind", ["path", "ClassList", "tuple"])
def test_classes_are_a_path_a_list_or_names(kind, tmp_path):
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    classes = {"path": tmp_path / "classes.txt", "ClassList": from_keys(NAMES), "tuple": tuple(NAMES)}[kind]
    np.testing.assert_equal(numbers(streamed(lists_of, classes=classes).compute()), EXPECTED)
    assert mh.Evaluator(classes="imagenet1k").n_classes == 1000


def test_readable_names_and_original_labels_by_name():
    readable = replace(from_keys(NAMES), names=tuple(name.title() for name in NAMES))
    evaluator = mh.Evaluator(classes=readable, metrics=["top1"])
    evaluator.update(SCORES, [["Ant"]] * N, label=["Ant"] * N)
    assert evaluator.compute().value("top1") == (SCORES.argmax(1) == 1).mean()


def test_the_class_list_of_a_table_is_kept():
    evaluator = streamed(FORMS["tables"], classes=None, n_classes=5)
    np.testing.assert_equal(numbers(evaluator.compute()), EXPECTED)
    assert evaluator.compute().metadata["classes"] == from_keys(NAMES).hash
    np.testing.assert_equal(
        numbers(streamed(FORMS["tables in another order"], classes=None, n_classes=5).compute())[0]["value"],
        numbers(mh.evaluate(HOT[:, np.argsort(NAMES)], SCORES, metrics=METRICS, resamples=0))[0]["value"],
    )
    evaluator.update(SCORES[:2], table([0, 1], sorted(NAMES)))  # joined by name
    assert evaluator.compute().results["n"][0].as_py() > EXPECTED[0]["n"]
    again = mh.Evaluator(n_classes=5, metrics=METRICS, resamples=0)
    again.load_state_dict(evaluator.state_dict())
    kept, expected = again.compute().metadata, evaluator.compute().metadata
    without = {
        m: {k: v for k, v in a.items() if k != "interval"} for m, a in json.loads(expected["metrics"]).items()
    }
    assert json.loads(kept["metrics"]) == without  # without resamples, there are no intervals
    no_pairs = {"compared_pairs": '{"labels": {"pairs": "none", "reference": ""}}'}
    del expected["drawn_images"], expected["sampled_images"]  # of resamples
    judged = json.loads(expected["judged_on"])
    judged["labels"]["resamples"] = "0"
    expected["judged_on"] = json.dumps(judged)
    np.testing.assert_equal({**kept, "metrics": ""}, {**expected, "metrics": "", "resamples": "0"} | no_pairs)


def test_the_keys_of_imagenet_are_its_list():
    classes = class_list()
    evaluator = mh.Evaluator(n_classes=1000, metrics=["real1"])
    hot = np.eye(1000, dtype=bool)[[3, 5]]
    evaluator.update(
        np.eye(1000)[[3, 4]], labels_as_table(FramePart(hot, "a"), FramePart(None, ""), 1000, classes)
    )
    assert evaluator.compute().metadata["classes"] == classes.hash
    assert evaluator.compute().value("real1") == 0.5


def test_metrics_of_torchmetrics_have_the_class_list():
    pytest.importorskip("torchmetrics")
    metric = mh.Evaluator(classes=NAMES, metrics=METRICS).as_torch_metric()
    for rows in BATCHES:
        metric.update(*frames_of(rows))
    whole = mh.evaluate(LISTS, SCORES, classes=NAMES, metrics=METRICS, resamples=0)
    assert {m: v.item() for m, v in metric.compute().items()} == {m: whole.value(m) for m in METRICS}
    other = mh.Evaluator(classes=sorted(NAMES), metrics=METRICS).as_torch_metric()
    metric.persistent(True)
    other.load_state_dict(metric.state_dict())
    with pytest.warns(UserWarning, match="before the ``update``"):
        text = message(other.compute)
    assert text == (
        "The images of the state have a different class list from the evaluator.\n"
        f"  got:     class list {from_keys(NAMES).hash}\n"
        f"  allowed: class list {from_keys(sorted(NAMES)).hash}: ant, bee, cow, dog, zebra\n"
        "  do:      create all evaluators with the same classes, metrics and scores"
    )


def test_evaluators_with_one_list_are_merged_and_those_with_two_are_refused():
    parts = [mh.Evaluator(classes=NAMES, metrics=METRICS) for _ in range(2)]
    for evaluator, rows in zip(parts, np.array_split(np.arange(N), 2), strict=True):
        evaluator.update(*frames_of(rows))
    whole = mh.evaluate(LISTS, SCORES, classes=NAMES, metrics=METRICS, resamples=0)
    for metric in METRICS:
        assert (parts[0] + parts[1]).compute().value(metric) == pytest.approx(whole.value(metric), abs=1e-12)
    other = mh.Evaluator(classes=sorted(NAMES), metrics=METRICS)
    for change in (lambda: parts[0] + other, lambda: other.merge(parts[0])):
        assert "  where:   classes\n  got:     " in message(change)
    assert message(lambda: parts[0] + other) == (
        "Evaluators with different settings cannot be merged.\n"
        "  where:   classes\n"
        "  got:     ant, bee, cow, dog, zebra\n"
        "  allowed: zebra, ant, cow, dog, bee\n"
        "  do:      create all evaluators with the same classes, metrics and scores"
    )
    named, numbered = (mh.Evaluator(n_classes=5, metrics=METRICS) for _ in range(2))
    named.update(*FORMS["tables"](range(4)))
    numbered.update(SCORES[:4], table(range(4), sorted(NAMES)))
    assert message(lambda: named + numbered, MatchError) == (
        "The columns do not match the class list.\n"
        "  where:   evaluator 1\n"
        "  got:     ant, bee, cow, dog, zebra\n"
        "  allowed: zebra, ant, cow, dog, bee\n"
        "  do:      give the frames of all batches the same columns in the same order, or pass `classes`"
    )


def test_states_have_the_class_list():
    torch = pytest.importorskip("torch")
    evaluator = streamed(lists_of)
    file = io.BytesIO()
    torch.save(evaluator.state_dict(), file)
    file.seek(0)
    again = mh.Evaluator(classes=NAMES, metrics=METRICS, resamples=20)
    again.load_state_dict(torch.load(file, weights_only=True))
    np.testing.assert_equal(numbers(again.compute()), EXPECTED)
    np.testing.assert_equal(numbers(copy.deepcopy(again).compute()), EXPECTED)
    plain = mh.Evaluator(n_classes=5, metrics=METRICS)
    state = {**evaluator.state_dict(), "classes": None}
    assert message(lambda: plain.load_state_dict(state)) == (
        "The images of the state have a different class list from the evaluator.\n"
        f"  got:     class list {from_keys(NAMES).hash}\n"
        "  allowed: no class list\n"
        "  do:      create all evaluators with the same classes, metrics and scores"
    )


def test_what_has_no_place_in_the_list_is_refused():
    evaluator = mh.Evaluator(classes=NAMES, metrics=["real1"])
    assert message(lambda: evaluator.update(SCORES[:1], [["horse"]])) == (
        "A class is not in the class list.\n"
        "  where:   labels\n"
        "  got:     horse\n"
        "  allowed: a key or name of the 5 classes of own classes\n"
        "  do:      pass the list of all classes as `classes`"
    )
    other = labels_as_table(
        FramePart(HOT[:2, :2], "labels"), FramePart(None, "label"), 2, from_keys(["cow", "horse"])
    )
    assert message(lambda: evaluator.update(SCORES[:2], other), MatchError) == (
        "The labels have classes that are not in the class list.\n"
        "  where:   labels\n"
        "  got:     horse\n"
        "  allowed: the 5 classes of own classes\n"
        "  do:      pass the list of all classes as `classes`"
    )
    numbered = mh.Evaluator(n_classes=5, metrics=["real1"])
    assert message(lambda: numbered.update(SCORES[:2], [["cow", "dog"], ["ant"]])) == (
        "The classes are names, but the evaluator has no class list.\n"
        "  got:     ant, cow, dog\n"
        "  do:      create the evaluator with `classes`, the list of all classes"
    )
    assert message(lambda: numbered.update(SCORES[:2], other)) == (
        "The labels and the evaluator have different numbers of classes.\n"
        "  where:   labels\n"
        "  got:     2: cow, horse\n"
        "  allowed: 5\n"
        "  do:      create the evaluator with `classes`, the list of all classes"
    )
    assert message(evaluator.compute).startswith("There are no batches")


def test_classes_or_their_number_is_needed():
    assert message(mh.Evaluator) == (
        "The number of classes is unknown.\n  do:      pass `classes` or `n_classes`"
    )
    assert message(lambda: mh.Evaluator(classes=NAMES, n_classes=4)) == (
        "The class list does not have `n_classes` classes.\n"
        "  where:   own classes\n"
        "  got:     5 classes\n"
        "  allowed: 4\n"
        "  do:      leave out `n_classes`"
    )
    assert isinstance(mh.Evaluator(classes=NAMES, n_classes=5).classes, ClassList)
