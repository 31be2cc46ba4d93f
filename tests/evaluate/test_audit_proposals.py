"""What a model proposes for the images of an audit."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from manyhot.core.sets import NO_LABEL
from manyhot.evaluate.audit_proposals import _chosen
from manyhot.tables import Predictions

P = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]], np.float32)


@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 0, 1], [0, 1]], ids=["in order", "in another", "in part"])
def test_odds_are_those_of_models_with_all_images(rows):
    ids = pa.array(["a", "b", "c"])
    model = Predictions(ids.take(pa.array(rows)), "m", scores=P[rows], score_kind="probability")
    pairs, odds = _chosen(model, ids, np.full(3, NO_LABEL, np.int32), 3)
    assert pairs.tolist() == sorted(3 * i + P[i].argmax() for i in rows)
    assert (odds is None) == (len(rows) < 3)
    if odds is not None:
        assert np.corrcoef(odds.ravel(), np.log(P / (1 - P)).ravel())[0, 1] > 0.99


@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 0, 1]], ids=["in order", "in another"])
def test_logits_of_a_declared_softmax_choose_as_its_probabilities(rows):
    """The sigmoid of all these logits is above 0.5; one probability of each image is."""
    ids = pa.array(["a", "b", "c"])
    model = Predictions(
        ids.take(pa.array(rows)), "m", scores=np.log(P[rows]) + 9, score_kind="logit", link="softmax"
    )
    pairs, _ = _chosen(model, ids, np.full(3, NO_LABEL, np.int32), 3)
    assert pairs.tolist() == sorted(3 * i + P[i].argmax() for i in rows)
    pairs, _ = _chosen(replace(model, link=""), ids, np.full(3, NO_LABEL, np.int32), 3)
    assert len(pairs) == 9
