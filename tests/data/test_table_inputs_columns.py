"""Columns of frames, ids that pandas made floats, and objects that are no files."""

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score

import manyhot as mh
from manyhot.errors import InputError

NAMES = ["car", "cat", "dog"]
RNG = np.random.default_rng(8)
TRUTH = (RNG.random((30, 3)) < 0.5).astype(int)
TRUTH[0] = 1
SCORES = RNG.normal(size=(30, 3)) + TRUTH
IDS = [f"{i}.jpg" for i in range(30)]
LISTS = [[NAMES[c] for c in np.flatnonzero(row)] for row in TRUTH]
FRAME = pd.DataFrame(SCORES, IDS, NAMES)
MAP = average_precision_score(TRUTH, SCORES, average="macro")


def map_macro(labels, scores=FRAME, **options):
    found = mh.evaluate(labels, {"m": scores}, metrics=["map_macro"], resamples=0, **options)
    return found.value("map_macro")


def test_conditions_on_columns_of_the_labels():
    columns = {"image_id": IDS, "labels": LISTS, "split": ["train", "test"] * 15}
    expected = average_precision_score(TRUTH[1::2], SCORES[1::2], average="macro")
    for labels in (pd.DataFrame(columns), datasets.Dataset.from_dict(columns)):
        assert map_macro(labels, where=["split=test"]) == pytest.approx(expected)
    with pytest.raises(InputError, match="There is no condition 'fold=1' on images"):
        map_macro(pd.DataFrame(columns), where=["fold=1"])


def test_ids_that_pandas_made_floats():
    numbers = np.arange(1000, 1030)
    labels, scores = pd.DataFrame({"image_id": numbers, "labels": LISTS}), FRAME.set_axis(numbers)
    floats = labels.assign(image_id=numbers.astype(float)), FRAME.set_axis(numbers.astype(float))
    for pair in ((labels, scores), (floats[0], scores), (labels, floats[1]), floats):
        assert map_macro(*pair) == pytest.approx(MAP)


def test_answers_that_pandas_made_floats(tmp_path):
    rows = {"image_id": [7.0, 7.0, 8.0], "class_id": [0, 1, 1], "rater_id": [1.0, 1.0, 1.0]}
    frame = pd.DataFrame({**rows, "answer": [1.0, 0.0, 1.0]})
    expected = [("7", 0, "1", "yes"), ("7", 1, "1", "no"), ("8", 1, "1", "yes")]
    votes = mh.aggregate(frame, classes=NAMES, method="majority").votes
    frame.astype({"image_id": int, "rater_id": int}).to_csv(tmp_path / "votes.csv", index=False)
    for read in (votes, mh.read_votes(tmp_path / "votes.csv")):
        assert [tuple(row.values()) for row in read.to_table().to_pylist()] == expected


def test_golden_answers_in_a_data_set():
    votes = pd.DataFrame([(i, c, r, "yes") for i in "ab" for c in (0, 1) for r in "xy"])
    votes.columns = ["image_id", "class_id", "rater_id", "answer"]
    golden = {"image_id": ["a", "a"], "class_id": [0, 1], "expert_id": ["e", "e"], "answer": ["yes", "no"]}
    frame = mh.agreement(votes, pd.DataFrame(golden), classes=NAMES)
    hub = mh.agreement(votes, datasets.Dataset.from_dict(golden), classes=NAMES)
    assert hub.raters.equals(frame.raters)


def test_labels_as_objects_of_json():
    assert map_macro(dict(zip(IDS, LISTS, strict=True))) == pytest.approx(MAP)
    assert map_macro({i: set(names) for i, names in zip(IDS, LISTS, strict=True)}) == pytest.approx(MAP)


def test_sparse_tensors():
    sparse = torch.tensor(TRUTH).to_sparse()
    assert map_macro(sparse, SCORES) == pytest.approx(MAP)
    evaluator = mh.Evaluator(n_classes=3, metrics=["map_macro"])
    evaluator.update(SCORES, sparse)
    assert evaluator.compute().value("map_macro") == pytest.approx(MAP)


@pytest.mark.parametrize("holds", ["labels", "images", "predictions", "votes"])
def test_objects_in_memory_are_no_files(holds):
    with pytest.raises(InputError) as error:
        getattr(mh, f"read_{holds}")(FRAME)
    assert str(error.value) == (
        f"This is not a file.\n  where:   `read_{holds}`\n  got:     DataFrame\n"
        "  allowed: the path of a file or folder\n"
        "  do:      pass what is in memory directly to functions such as `evaluate` or `aggregate`"
    )


def test_other_forms_that_are_refused():
    evaluator = mh.Evaluator(n_classes=3, metrics=["map_macro"])
    with pytest.raises(InputError) as error:
        evaluator.update(SCORES, TRUTH, np.eye(3, dtype=int)[TRUTH.argmax(1)])
    assert str(error.value) == (
        "Original labels are not one class per image.\n  where:   `label`\n  got:     shape (30, 3)\n"
        "  allowed: shape (30,)\n"
        "  do:      pass one class per image, such as one_hot.argmax(1), or pass the matrix as `labels`"
    )
    evaluator.update(SCORES[:0], TRUTH[:0])
    with pytest.raises(InputError, match="There are no batches to compute results from"):
        evaluator.compute()
    with pytest.raises(InputError, match=r"pass several models by name: \{name: array\}"):
        mh.evaluate(TRUTH, [torch.tensor(SCORES), torch.tensor(SCORES)])
    with pytest.raises(InputError, match=r"call the method: \.thresholds\(\)"):
        mh.evaluate(TRUTH, SCORES, scores="logit", metrics=["f1_micro"], thresholds=evaluator.compute)
