"""Scores in all types of numbers of pandas, and classes that are categories."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

import manyhot as mh
from manyhot.errors import InputError

RNG = np.random.default_rng(0)
IDS = pd.Index([f"i{k}" for k in range(60)], name="image_id")
LABELS = pd.DataFrame((RNG.random((60, 2)) < 0.4).astype(int), IDS, ["a", "b"])
SCORES = pd.DataFrame(RNG.random((60, 2)).round(3), IDS, ["a", "b"])
MAP = np.mean([average_precision_score(LABELS[c], SCORES[c]) for c in LABELS])
LONG = SCORES.reset_index().melt("image_id", var_name="label", value_name="score")


def map_macro(scores):
    options = {"scores": "probability", "metrics": ["map_macro"], "resamples": 0}
    return mh.evaluate(LABELS, {"m": scores}, **options).value("map_macro")


@pytest.mark.parametrize(
    "scores",
    [
        *(SCORES.astype(kind) for kind in ("Float64", "Float32", "double[pyarrow]", object)),
        SCORES.map(lambda score: Decimal(str(score))),
        SCORES.assign(a=SCORES.a.astype("Float64")),
        LONG.astype({"label": "category"}),
        LONG.assign(score=LONG.score.map(lambda score: Decimal(str(score)))),
    ],
)
def test_scores_in_any_type_of_numbers(scores):
    assert map_macro(scores) == pytest.approx(MAP, abs=1e-6)


def test_nullable_whole_numbers_are_classes():
    ranks = pd.DataFrame(np.argsort(-SCORES.to_numpy(), axis=1), IDS).astype("Int64")
    labels = LABELS[LABELS.any(axis=1)]
    best = SCORES.loc[labels.index].to_numpy().argmax(1)
    expected = labels.to_numpy()[np.arange(len(labels)), best].mean()
    found = mh.evaluate(labels, {"m": ranks.loc[labels.index]}, metrics=["real1"], resamples=0)
    assert found.value("real1") == pytest.approx(expected)


def test_objects_that_are_not_all_numbers_are_refused():
    with pytest.raises(InputError, match="of object"):
        map_macro(SCORES.astype(object).mask(SCORES > 0.9, None))
