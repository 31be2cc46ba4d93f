"""Frames are matched by their index and the names of their columns, arrays by position."""

from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score

from manyhot import Evaluator, as_labels, diagnose_errors, evaluate, find_label_issues
from manyhot.classes import class_list, from_keys
from manyhot.data.inputs import Reading
from manyhot.errors import MatchError, OrderError
from manyhot.tables import Images, Labels, Predictions, write_predictions
from manyhot.tables.array_inputs import as_predictions

RNG = np.random.default_rng(0)
N, CLASSES = 40, ["boat", "car", "dog", "cat", "cow"]
IDS = [f"{i:02d}.jpg" for i in RNG.permutation(N)]
HOT = RNG.random((N, 5)) < 0.4
SCORES = (HOT + RNG.normal(size=(N, 5))).astype(np.float32)
LABEL = RNG.integers(0, 5, N)
ROWS, COLUMNS = RNG.permutation(N), RNG.permutation(5)

LABELS = pd.DataFrame(HOT, index=IDS, columns=CLASSES)
FRAME = pd.DataFrame(SCORES, index=IDS, columns=CLASSES)
METRICS = ["real1", "map_macro", "lrap"]


def judged(labels, predictions, **options):
    found = evaluate(labels, predictions, metrics=METRICS, resamples=0, **options)
    return {metric: found.value(metric, model="model") for metric in METRICS}


# In the order of arrays; ReaL's accuracy by hand.
BEST = SCORES.argmax(axis=1)
EXPECTED = {
    "real1": HOT[np.arange(N), BEST][HOT.any(axis=1)].mean(),
    "map_macro": average_precision_score(HOT, SCORES, average="macro"),
    "lrap": label_ranking_average_precision_score(HOT[HOT.any(axis=1)], SCORES[HOT.any(axis=1)]),
}


def message(make, kind=MatchError):
    with pytest.raises(kind) as error:
        make()
    return str(error.value)


@pytest.mark.parametrize(
    ("labels", "scores"),
    [
        (HOT, SCORES),
        (LABELS, FRAME),
        (LABELS, FRAME.iloc[ROWS]),
        (LABELS, FRAME.iloc[:, COLUMNS]),
        (LABELS, FRAME.iloc[ROWS, COLUMNS]),
        (LABELS.iloc[ROWS, COLUMNS].astype(int), FRAME.iloc[ROWS, COLUMNS]),
        (LABELS, FRAME.iloc[ROWS].reset_index(names="image_id")),
        (
            pl.DataFrame(HOT, CLASSES).with_columns(image_id=pl.Series(IDS)),
            pl.from_pandas(FRAME.iloc[ROWS, COLUMNS].reset_index(names="image_id")),
        ),
        (LABELS, pa.Table.from_pandas(FRAME.iloc[ROWS, COLUMNS].reset_index(names="image_id"))),
        (pl.DataFrame(HOT, CLASSES), pl.DataFrame(SCORES, CLASSES).select(sorted(CLASSES))),
        (pl.DataFrame(HOT, CLASSES), pa.table(dict(zip(CLASSES[::-1], SCORES.T[::-1], strict=True)))),
        (LABELS, SCORES),
        (HOT, FRAME),
        (LABELS.reset_index(drop=True), FRAME),
        (HOT, pd.DataFrame(SCORES).iloc[:, COLUMNS]),
        (HOT, pl.DataFrame(SCORES)[:, COLUMNS.tolist()]),
        ([np.flatnonzero(row) for row in HOT], FRAME),
        (pd.Series([np.flatnonzero(row) for row in HOT], IDS), FRAME.iloc[ROWS]),
    ],
    ids=lambda value: type(value).__module__.partition(".")[0],
)
def test_shuffled_frames_give_what_straight_ones_give(labels, scores):
    assert judged(labels, scores) == pytest.approx(EXPECTED, abs=1e-6)


def test_several_frames_each_in_an_order_of_its_own():
    wrong = FRAME.iloc[ROWS[::-1]] * -1
    frames = {"model": FRAME.iloc[ROWS, COLUMNS], "wrong": wrong, "array": SCORES}
    assert judged(LABELS, frames) == pytest.approx(EXPECTED, abs=1e-6)
    found = evaluate(LABELS, frames, metrics=METRICS, resamples=0)
    negated = evaluate(HOT, {"wrong": -SCORES}, metrics=METRICS, resamples=0)
    for metric in METRICS:
        assert found.value(metric, model="array") == found.value(metric, model="model")
        assert found.value(metric, model="wrong") == negated.value(metric)
    assert judged(LABELS.iloc[ROWS, COLUMNS], {"model": FRAME, "other": wrong}) == pytest.approx(
        EXPECTED, abs=1e-6
    )


def test_original_labels_are_matched_by_their_index():
    top1 = np.mean(BEST == LABEL)
    for label in (pd.Series(LABEL, IDS).iloc[ROWS], LABEL, pd.Series(LABEL)):
        found = evaluate(
            LABELS, FRAME.iloc[ROWS, COLUMNS], metrics=["top1"], resamples=0, reading=Reading(label=label)
        )
        assert found.value("top1") == pytest.approx(top1)
    single = pd.Series(LABEL, IDS).iloc[ROWS]
    assert evaluate(single, FRAME, metrics=["top1"], resamples=0).value("top1") == pytest.approx(top1)


def test_ranks_are_matched_by_their_index_and_their_columns_are_no_classes():
    ranks = pd.DataFrame(np.argsort(-SCORES, axis=1), IDS, ["first", "second", "third", "fourth", "fifth"])
    found = evaluate(LABELS, ranks.iloc[ROWS], metrics=["real1"], resamples=0)
    assert found.value("real1") == pytest.approx(EXPECTED["real1"])


def test_ids_of_frames_are_ids_of_images():
    labels = as_labels(LABELS, n_classes=5, label=pd.Series(LABEL, IDS).iloc[ROWS])
    assert labels.image_id.to_pylist() == IDS
    assert labels.table["label"].to_pylist() == LABEL.tolist()
    (model,) = as_predictions(FRAME.iloc[ROWS])
    assert model.image_id.to_pylist() == [IDS[row] for row in ROWS]
    (model,) = as_predictions(FRAME.iloc[ROWS], ids=pa.array(IDS))
    np.testing.assert_array_equal(model.scores, SCORES)
    assert judged(labels, FRAME.iloc[ROWS]) == pytest.approx(EXPECTED, abs=1e-6)
    assert judged(LABELS, Predictions(pa.array(IDS), "model", scores=SCORES)) == pytest.approx(
        EXPECTED, abs=1e-6
    )
    found = diagnose_errors(LABELS, FRAME.iloc[ROWS], reading=Reading(label=pd.Series(LABEL, IDS)))
    wrong = {image for image, best, label in zip(IDS, BEST, LABEL, strict=True) if best != label}
    assert set(found.table["image_id"].to_pylist()) == wrong


def test_columns_are_put_into_the_order_of_the_class_list_of_a_table():
    classes = class_list()
    order = np.random.default_rng(1).permutation(1000)
    scores = np.eye(1000, dtype=np.float32)[:3]
    frame = pd.DataFrame(scores, IDS[:3], classes.names).iloc[:, order]
    labels = as_labels(pd.Series([0, 1, 2], IDS[:3]), n_classes=1000)
    table = Labels(labels.table, 1000, classes.hash, name="labels")
    assert evaluate(table, frame, metrics=["top1"], resamples=0).value("top1") == 1
    assert diagnose_errors(labels, frame, reading=Reading(classes=classes)).count("model-failure") == 0
    renamed = frame.rename(columns={"goldfish": "gold fish"})
    assert message(lambda: evaluate(table, renamed)) == (
        "The columns are not the classes.\n"
        "  where:   model, compared with the class list imagenet1k\n"
        "  got:     1 name not in the class list imagenet1k, such as gold fish; "
        "1 name of the class list imagenet1k missing, such as n01443537\n"
        "  allowed: the 1,000 names of the class list imagenet1k, in any order\n"
        "  do:      rename or select columns; arrays, for example from .to_numpy(), are matched by position"
    )


def test_columns_beside_a_table_over_a_class_list_of_which_the_hash_alone_is_known():
    classes = from_keys(CLASSES)
    named = as_labels(LABELS)
    assert judged(named, FRAME.iloc[:, COLUMNS]) == pytest.approx(EXPECTED, abs=1e-6)
    labels = replace(named, class_list=None)
    assert labels.class_hash == classes.hash
    assert judged(labels, FRAME) == pytest.approx(EXPECTED, abs=1e-6)
    assert message(lambda: evaluate(labels, FRAME.iloc[:, COLUMNS])) == (
        "The columns are not the keys of the labels' class list in the same order.\n"
        "  where:   model, compared with labels\n"
        f"  got:     columns such as {CLASSES[COLUMNS[0]]}, {CLASSES[COLUMNS[1]]}\n"
        f"  allowed: the 5 keys of class list {classes.hash}\n"
        "  do:      name the columns after the keys and sort them in their order; "
        "arrays, for example from .to_numpy(), are matched by position"
    )


def test_batches_of_frames():
    evaluator = Evaluator(n_classes=5, metrics=METRICS)
    for start in range(0, N, 10):
        part = slice(start, start + 10)
        order = np.random.default_rng(start).permutation(10)
        columns = np.random.default_rng(start).permutation(5) if start else np.arange(5)
        evaluator.update(FRAME.iloc[part].iloc[order], LABELS.iloc[part, columns])
    assert {m: evaluator.compute().value(m) for m in METRICS} == pytest.approx(EXPECTED, abs=1e-6)
    other = FRAME.rename(columns={"cow": "horse"})
    assert message(lambda: evaluator.update(other, LABELS)) == (
        "The columns are not the classes.\n"
        "  where:   model, compared with earlier batches\n"
        "  got:     1 name not in earlier batches, such as horse; "
        "1 name of earlier batches missing, such as cow\n"
        "  allowed: the 5 names of earlier batches, in any order\n"
        "  do:      rename or select columns; arrays, for example from .to_numpy(), are matched by position"
    )
    evaluator.reset()
    evaluator.update(other, HOT)
    assert evaluator.compute().value("real1") == pytest.approx(EXPECTED["real1"])


def test_label_issues_of_series_and_frames():
    def issues(label, scores):
        found = find_label_issues(label, scores, reading=Reading(scores="probability")).of_kind(
            "doubtful-label"
        )
        return {(r["image_id"], r["class_a"]): r["score"] for r in found.to_pylist()}

    p = np.exp(SCORES * 3) / np.exp(SCORES * 3).sum(axis=1, keepdims=True)
    frame = pd.DataFrame(p, IDS, CLASSES)
    straight = {(IDS[int(i)], c): s for (i, c), s in issues(LABEL, p).items()}
    assert straight
    assert issues(pd.Series(LABEL, IDS), frame.iloc[ROWS]) == straight
    images = Images(pa.table({"image_id": IDS, "label": pa.array(LABEL, pa.int32())}))
    assert issues(images, frame.iloc[ROWS]) == straight
    assert message(lambda: issues(LABEL, {"a": frame, "b": frame.iloc[:, COLUMNS]})) == (
        "Two frames have columns in different orders, and labels may have either order.\n"
        "  where:   b, compared with a\n"
        "  got:     labels without names of classes\n"
        "  allowed: frames in one order, or labels as a frame, too\n"
        "  do:      sort the columns of all frames in the order of labels"
    )


FORMS = {
    "index": lambda frame: frame,
    "column": lambda frame: frame.rename_axis("image_id").reset_index(),
    "polars": lambda frame: pl.from_pandas(FORMS["column"](frame)),
    "arrow": lambda frame: FORMS["polars"](frame).to_arrow(),
}
"""A frame with ids, in each form."""


@pytest.mark.parametrize("of_labels", [*FORMS, "lists"])
@pytest.mark.parametrize("of_scores", FORMS)
def test_images_that_only_one_frame_has_are_left_out_and_counted(of_labels, of_scores):
    """In whatever form labels and scores come: the common rows, selected by hand, give the same numbers."""
    lists = pl.DataFrame({"image_id": IDS, "classes": [[CLASSES[c] for c in np.flatnonzero(r)] for r in HOT]})
    labels = lists if of_labels == "lists" else FORMS[of_labels](LABELS)
    scores = FRAME.iloc[ROWS].drop(IDS[:3]).rename({IDS[5]: "new.jpg"})
    found = evaluate(labels, {"net": FORMS[of_scores](scores)}, metrics=["map_macro", "lrap"], resamples=0)
    common = [i for i in range(N) if i not in (0, 1, 2, 5)]
    by_hand = evaluate(HOT[common], SCORES[common], metrics=["map_macro", "lrap"], resamples=0)
    assert found.value("map_macro") == by_hand.value("map_macro")
    assert found.value("lrap") == pytest.approx(by_hand.value("lrap"), abs=1e-15)
    assert found.notes[:2] == (
        "labels, net: 1 of 37 predicted images have no labels and were left out",
        "labels, net: 4 of 40 labelled images have no prediction and were left out",
    )


def test_frames_without_a_common_image_are_refused():
    assert message(lambda: evaluate(LABELS, {"net": FRAME.rename(lambda name: f"x{name}")})) == (
        "No images are in both labels and net.\n"
        "  got:     ids such as x11.jpg, x27.jpg\n"
        "  allowed: ids such as 00.jpg, 01.jpg\n"
        "  do:      pass the file with the images of each row, or labels of the same data set"
    )


def test_other_original_labels_are_refused():
    assert message(
        lambda: evaluate(LABELS, SCORES, reading=Reading(label=pd.Series(LABEL, IDS).iloc[1:]))
    ).startswith(
        "Two frames have different images.\n"
        "  where:   label, compared with labels\n"
        f"  got:     1 id of labels missing, such as {IDS[0]}\n"
    )


def test_other_classes_are_refused():
    assert message(lambda: evaluate(LABELS, FRAME.rename(columns={"cow": "horse"}))) == (
        "The columns of two frames differ.\n"
        "  where:   model, compared with labels\n"
        "  got:     1 name not in labels, such as horse; 1 name of labels missing, such as cow\n"
        "  allowed: the 5 names of labels, in any order\n"
        "  do:      rename or select columns; arrays, for example from .to_numpy(), are matched by position"
    )
    assert message(
        lambda: evaluate([[0]] * N, {"a": FRAME, "b": FRAME.iloc[:, :4]}, reading=Reading(n_classes=5))
    ).startswith("The columns of two frames differ.\n  where:   b, compared with a\n")


def test_what_is_there_twice_is_refused():
    assert message(lambda: evaluate(LABELS, pd.concat([FRAME, FRAME.iloc[:1]]))) == (
        "An image has more than one row.\n"
        "  where:   model\n"
        f"  got:     {IDS[0]}\n"
        "  allowed: each id once\n"
        "  do:      retain one row per image, or number the rows with .reset_index(drop=True)"
    )
    assert message(lambda: evaluate(LABELS, FRAME.rename(columns={"cow": "cat"}))) == (
        "A class has more than one column.\n"
        "  where:   model\n"
        "  got:     cat\n"
        "  allowed: each class once\n"
        "  do:      drop or rename a column"
    )


def test_an_order_that_is_not_clear_is_refused():
    labels, scores = pd.DataFrame(HOT), pd.DataFrame(SCORES)
    shuffled = scores.iloc[ROWS]
    first = ", ".join(map(str, ROWS[:2]))
    assert message(lambda: evaluate(labels, shuffled)) == (
        "One frame has the default index, and another has the same numbers in a different order.\n"
        "  where:   labels, compared with model\n"
        f"  got:     model begins with rows {first}\n"
        "  allowed: the same index, or ids of images\n"
        "  do:      set the index of both to the ids of their rows; "
        "arrays, for example from .to_numpy(), are matched by position"
    )
    assert judged(labels.iloc[ROWS[::-1]], shuffled) == pytest.approx(EXPECTED, abs=1e-6)
    assert message(lambda: evaluate(HOT, {"a": FRAME, "b": FRAME.iloc[ROWS]})) == (
        "Two frames have rows in different orders, and labels may have either order.\n"
        "  where:   b, compared with a\n"
        "  got:     labels without an index\n"
        "  allowed: frames in one order, or labels as a frame, too\n"
        "  do:      sort the rows of all frames in the order of labels"
    )


def test_names_of_columns_decide_even_if_another_order_fits_better(tmp_path):
    """Each class is taken for the next one: arrays in this order are refused, names are not."""
    classes = np.random.default_rng(1).integers(0, 5, 200)
    scores = np.eye(5)[(classes + 1) % 5] + np.random.default_rng(2).normal(scale=0.3, size=(200, 5))
    ids = [f"{i:03d}.jpg" for i in range(200)]
    labels = pd.DataFrame(np.eye(5, dtype=int)[classes], index=ids, columns=CLASSES)
    frame = pd.DataFrame(scores, index=ids, columns=CLASSES).iloc[:, COLUMNS]
    expected = np.mean(scores.argmax(1) == classes)
    labels.rename_axis("image_id").to_csv(tmp_path / "labels.csv")
    frame.rename_axis("image_id").to_csv(tmp_path / "scores.csv")
    np.savez(tmp_path / "scores.npz", scores=frame.to_numpy(), ids=ids, classes=np.array(frame.columns, str))
    own = as_predictions({"model": frame}, score_kind="logit")[0]
    write_predictions(own, tmp_path / "scores.parquet")  # as predict writes them, with its classes
    files = [str(tmp_path / name) for name in ("labels.csv", "scores.csv", "scores.npz", "scores.parquet")]
    lists = pd.DataFrame({"image_id": ids, "labels": [[CLASSES[c]] for c in classes]})
    for sets, model in (
        (labels, {"model": frame}),
        (files[0], {"model": frame}),
        *[(files[0], [f]) for f in files[1:]],
        *[(of, files[3]) for of in (labels, lists)],
    ):
        found = evaluate(sets, model, metrics=["real1"], resamples=0, reading=Reading(scores="logit"))
        assert found.value("real1") == pytest.approx(expected)
    unnamed = labels.to_numpy()
    for sets, model in ((labels, {"model": scores}), (unnamed, {"model": frame}), (unnamed, files[3])):
        with pytest.raises(OrderError, match="order"):
            evaluate(sets, model, metrics=["real1"], resamples=0)
