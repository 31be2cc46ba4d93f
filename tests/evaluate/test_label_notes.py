"""Notes on unclear classes, and on metrics that label sets would have with scores of all classes."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import average_precision_score

from manyhot import evaluate
from manyhot.classes import from_keys
from manyhot.tables import Labels, Predictions

CLASSES = from_keys(["cat", "dog", "cup"])
IDS = [f"{i}.jpg" for i in range(40)]
TRUTH = (np.random.default_rng(3).random((40, 3)) < 0.4).astype(np.int8)
UNCLEAR = [(0, 1), (4, 0), (9, 2)]
SCORES = np.random.default_rng(4).random((40, 3)).astype(np.float32)


def labels(unclear=UNCLEAR, **columns):
    words = np.where(TRUTH, "yes", "no").astype(object)
    for row, column in unclear:
        words[row, column] = "unclear"
    table = {"image_id": IDS, "usable": [True] * 40, "classes": [[0, 1, 2]] * 40, "state": words.tolist()}
    return Labels(pa.table(table | columns), 3, CLASSES.hash, True, name="mine", class_list=CLASSES)


def model(top=None):
    known = {"n_classes": 3, "class_hash": CLASSES.hash, "class_list": CLASSES, "score_kind": "probability"}
    if top is None:
        return Predictions(pa.array(IDS), "m", scores=SCORES, **known)
    order = np.argsort(-SCORES, axis=1)[:, :top].astype(np.int32)
    return Predictions(pa.array(IDS), "m", order, np.take_along_axis(SCORES, order, axis=1), **known)


def run(sets, predictions, **options):
    return evaluate(sets, [predictions], resamples=0, trust_order=True, **options)


def notes_of(result, kind):
    return [note["text"] for note in result.to_json()["notes"] if note["kind"] == kind]


def test_unclear_pairs_count_as_not_valid_and_a_note_says_so():
    result = run(labels(), model())
    (text,) = notes_of(result, "unclear")
    assert text.startswith(
        "3 pairs of an image and a class are unclear and count as not valid in map_macro, "
    )
    assert text.endswith("; to leave them out, pass `metrics`, such as 'map_macro(masked=True)'")
    clear = np.ones_like(TRUTH, bool)
    for row, column in UNCLEAR:
        clear[row, column] = False
    as_no = [average_precision_score(TRUTH[:, c] * clear[:, c], SCORES[:, c]) for c in range(3)]
    without = [average_precision_score(TRUTH[clear[:, c], c], SCORES[clear[:, c], c]) for c in range(3)]
    assert result.value("map_macro") == pytest.approx(np.mean(as_no), abs=1e-7)
    masked = run(labels(), model(), metrics=["map_macro(masked=True)"])
    assert masked.value("map_macro(masked=True)") == pytest.approx(np.mean(without), abs=1e-7)
    assert not notes_of(masked, "unclear")


def test_one_pair_and_none():
    (text,) = notes_of(run(labels(UNCLEAR[:1]), model()), "unclear")
    assert text.startswith("1 pair of an image and a class is unclear and counts as not valid in ")
    assert not notes_of(run(labels(()), model()), "unclear")


def test_lists_of_the_best_classes_say_why_there_is_no_map():
    assert notes_of(run(labels(), model(top=2)), "needs_scores") == [
        "mAP and F1 are left out, because they need scores of all classes, and the predictions contain only "
        "the best classes of each image; predict or export the scores of all classes"
    ]
    chosen = run(labels(), model(top=2), metrics=["real1"])
    original = run(labels(label=pa.array([0] * 40, pa.int32())), model(top=2))
    for other in (chosen, original, run(labels(), model())):
        assert not notes_of(other, "needs_scores")
