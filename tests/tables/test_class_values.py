"""Rows of 0 and 1 in lists and tensors, images without an answer, and what cannot be told apart."""

import numpy as np
import pytest

import manyhot as mh
from manyhot.errors import InputError

pd = pytest.importorskip("pandas")
average_precision_score = pytest.importorskip("sklearn.metrics").average_precision_score

RNG = np.random.default_rng(2)
TRUTH = (RNG.random((40, 4)) < 0.4).astype(int)
SCORES = RNG.normal(size=(40, 4)) + TRUTH
MAP = average_precision_score(TRUTH, SCORES, average="macro")
TWO = np.eye(2, dtype=int)[RNG.integers(2, size=30)]
SCORES_OF_TWO = RNG.normal(size=(30, 2))


def map_macro(labels, scores=SCORES, **options):
    found = mh.evaluate(labels, {"m": scores}, metrics=["map_macro"], resamples=0, **options)
    return found.value("map_macro")


def streamed(labels, scores):
    evaluator = mh.Evaluator(n_classes=scores.shape[1], metrics=["map_macro"])
    for rows in np.array_split(np.arange(len(scores)), 3):
        evaluator.update(scores[rows], [labels[i] for i in rows])
    return evaluator.compute().value("map_macro")


@pytest.mark.parametrize("kind", [int, bool, float])
@pytest.mark.parametrize("call", [map_macro, streamed])
def test_rows_in_lists(kind, call):
    rows = TRUTH.astype(kind)
    for labels in (rows.tolist(), list(rows), [tuple(row) for row in rows.tolist()]):
        assert call(labels, SCORES) == pytest.approx(MAP)


def test_a_list_of_tensors():
    torch = pytest.importorskip("torch")
    for rows in (torch.tensor(TRUTH), torch.tensor(TRUTH).bool(), torch.tensor(TRUTH).bfloat16()):
        assert map_macro(list(rows)) == streamed(list(rows), SCORES) == pytest.approx(MAP)


@pytest.mark.parametrize("kind", [int, bool, float])
def test_rows_in_a_column(kind, tmp_path):
    frame = pd.DataFrame({"image_id": [f"{i}.jpg" for i in range(40)], "labels": TRUTH.astype(kind).tolist()})
    frame.to_parquet(tmp_path / "labels.parquet")
    for labels in (frame, tmp_path / "labels.parquet"):
        read = mh.evaluate(labels, {"m": SCORES}, rows=list(frame["image_id"]), metrics=["map_macro"])
        assert read.value("map_macro") == pytest.approx(MAP)


@pytest.mark.parametrize("call", [map_macro, streamed])
def test_two_classes_have_two_meanings(call):
    expected = average_precision_score(TWO, SCORES_OF_TWO, average="macro")
    with pytest.raises(InputError) as error:
        call(TWO.tolist(), SCORES_OF_TWO)
    assert str(error.value) == (
        "The rows may be lists of classes, or 0 and 1 for each class.\n  where:   labels\n"
        f"  got:     {TWO[0].tolist()}, with 2 classes\n"
        "  do:      if they are 0 and 1, pass an array, such as np.array(rows); if they are lists of "
        "classes, write the names of the classes"
    )
    assert map_macro(TWO, SCORES_OF_TWO) == call(TWO.astype(bool).tolist(), SCORES_OF_TWO) == expected
    both = np.concatenate([TWO, [[1, 1], [0, 0]]])  # no lists of different classes
    scores = RNG.normal(size=(32, 2))
    assert map_macro(both.tolist(), scores) == average_precision_score(both, scores, average="macro")


def test_lists_of_classes_are_still_lists():
    lists = [np.flatnonzero(row).tolist() for row in TRUTH]
    assert map_macro(lists) == streamed(lists, SCORES) == pytest.approx(MAP)


@pytest.mark.parametrize("as_labels", ["array", "frame", "csv"])
def test_images_without_an_answer(as_labels, tmp_path):
    cells = TRUTH.astype(float)
    cells[7], cells[3, 1] = np.nan, np.nan
    ids = [f"{i}.jpg" for i in range(40)]
    names = ["cat", "cow", "dog", "owl"]
    frame = pd.DataFrame(cells, ids, names)
    frame.to_csv(tmp_path / "labels.csv", index_label="image_id")
    labels = {"array": cells, "frame": frame, "csv": tmp_path / "labels.csv"}[as_labels]
    scores = SCORES if as_labels == "array" else pd.DataFrame(SCORES, ids, names)
    found = mh.evaluate(labels, {"m": scores}, metrics=["map_macro"], resamples=0)
    row = found.to_pandas().query("slice == 'all'").iloc[0]
    assert (row["n"], row["n_skipped"]) == (39, 1)
    kept = np.arange(40) != 7
    truth = np.nan_to_num(cells)[kept]
    assert row["value"] == pytest.approx(average_precision_score(truth, SCORES[kept], average="macro"))
    notes = [note["text"] for note in found.to_json()["notes"] if note["kind"] == "not asked"]
    assert notes == [
        "1 pair of an image and a class (0.6%) is without an answer and counts as not valid in map_macro; to "
        "leave it out, pass `metrics`, such as 'map_macro(masked=True)'"
    ]
