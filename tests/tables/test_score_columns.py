"""Whole numbers in frames whose columns are named after classes are scores, as in a CSV file."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import manyhot as mh
from manyhot.errors import InputError, MatchError

pd = pytest.importorskip("pandas")

NAMES = ["cat", "cow", "dog", "owl", "pig"]
RNG = np.random.default_rng(5)
TRUTH = (RNG.random((60, 5)) < 0.4).astype(int)
TRUTH[TRUTH.sum(1) == 0, 2] = 1
SCORES = (10 * TRUTH + RNG.normal(0, 8, TRUTH.shape)).argsort(1).argsort(1)  # 0 to 4, the best is 4
IDS = [f"{i}.jpg" for i in range(60)]
FIRST = TRUTH[np.arange(60), SCORES.argmax(1)].mean()

LABELS = pd.DataFrame(TRUTH, IDS, NAMES)
FRAME = pd.DataFrame(SCORES, IDS, NAMES)


def real1(labels, predictions, **options):
    return mh.evaluate(labels, {"m": predictions}, metrics=["real1"], resamples=0, **options).value("real1")


def as_columns(frame):
    return frame.reset_index(names="image_id")


LONG = as_columns(LABELS).melt("image_id", var_name="label").query("value == 1").drop(columns="value")
COLUMNS = as_columns(FRAME)
FRAMES = [
    FRAME,
    FRAME.astype(np.int8),
    FRAME.astype(float),
    FRAME[NAMES[::-1]],
    pl.from_pandas(COLUMNS),
    pa.Table.from_pandas(COLUMNS, preserve_index=False),
]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("labels", [LABELS, LONG])
def test_whole_scores_of_named_classes(frame, labels, tmp_path):
    COLUMNS.to_csv(tmp_path / "m.csv", index=False)
    from_file = mh.read_predictions(tmp_path / "m.csv", format="score-columns")
    assert real1(labels, frame) == real1(labels, from_file) == pytest.approx(FIRST)


@pytest.mark.parametrize("kind", [int, float])
def test_names_written_in_another_way_are_no_ranks(kind):
    """They are scores whose names differ, and not five ranked classes."""
    frame = FRAME.astype(kind).rename(columns=str.upper)
    with pytest.raises(MatchError, match="The columns of two frames differ"):
        real1(LABELS, frame)


def test_zeros_and_ones_are_scores(tmp_path):
    chosen = FRAME == 4
    for frame in (chosen, chosen.astype(int)):
        assert real1(LABELS, frame) == pytest.approx(FIRST)


def test_an_evaluator_reads_whole_scores():
    evaluator = mh.Evaluator(classes=NAMES, metrics=["real1"])
    evaluator.update(FRAME, LABELS)
    assert evaluator.compute().value("real1") == pytest.approx(FIRST)


def test_ranks_in_other_columns_are_classes():
    best = np.argsort(-SCORES, axis=1)[:, :3]
    for columns in (["top1", "top2", "top3"], ["first", "second", "third"], range(3)):
        assert real1(LABELS, pd.DataFrame(best, IDS, columns)) == pytest.approx(FIRST)
    assert real1(TRUTH, pd.DataFrame(best, columns=["top1", "top2", "top3"])) == pytest.approx(FIRST)


def test_whole_numbers_of_unknown_columns_are_refused():
    frame = pd.DataFrame(SCORES, columns=NAMES)
    with pytest.raises(InputError) as error:
        real1(TRUTH, frame)
    assert str(error.value) == (
        "The whole numbers in named columns may be scores of these classes, or classes, best first.\n"
        "  where:   m\n  got:     the columns cat, cow, dog, owl, pig\n"
        "  do:      if they are scores, pass `classes` or floats (frame.astype(float)); if they are "
        "classes, pass frame.to_numpy()"
    )
    assert real1(TRUTH, frame, classes=NAMES) == real1(TRUTH, frame.astype(float)) == pytest.approx(FIRST)
