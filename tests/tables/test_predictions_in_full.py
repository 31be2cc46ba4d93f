"""Lists of top classes that contain all classes are dense scores."""

import numpy as np
import pyarrow as pa
import pytest

from manyhot import Predictions, Reading, evaluate
from manyhot.tables.predictions import Predictions as Stored

N, C = 40, 4
LOGITS = np.random.default_rng(0).normal(size=(N, C)).astype(np.float32)
IDS = pa.array([str(i) for i in range(N)])
LABEL = np.random.default_rng(1).integers(C, size=N)


def listed(k):
    best = np.argsort(-LOGITS, axis=1)[:, :k]
    scores = np.take_along_axis(LOGITS, best, axis=1)
    total = np.logaddexp.reduce(LOGITS, axis=1)
    return Stored(IDS, "net", best, scores, total, score_kind="logit", n_classes=C)


def test_scores_are_in_the_order_of_the_classes():
    full = listed(C).in_full()
    assert full.is_dense
    np.testing.assert_array_equal(full.scores, LOGITS)
    assert listed(C - 1).in_full().classes is not None


@pytest.mark.parametrize("metric", ["nll", "classwise_ece", "top1", "ece"])
def test_metrics_are_those_of_dense_scores(metric):
    reading = Reading(label=LABEL.tolist(), n_classes=C)
    dense = Predictions(IDS, "net", scores=LOGITS, score_kind="logit", n_classes=C)
    values = [
        evaluate(
            [[c] for c in LABEL.tolist()], [p], metrics=[metric], resamples=0, reading=reading
        ).results.to_pylist()[0]["value"]
        for p in (dense, listed(C))
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    assert np.isfinite(values).all()
