"""What leaving out each image changes, against evaluating without it. Values: test_confidence.py."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhot.core.sets import Case, LabelSets
from manyhot.registry import get

METRICS = [
    name.format(end)
    for end in ("", "_set")
    for name in ("aurc{}", "eaurc{}", "accuracy_at_coverage{}(coverage=0.3)", "error_auroc{}")
]


def case_of(n, levels, rng):
    """Return a case of three classes, with confidences that are tied if there are few levels."""
    first = rng.integers(0, 3, n)
    confidence = 0.4 + 0.59 * rng.integers(0, levels, n) / levels
    scores = np.repeat(((1 - confidence) / 2)[:, None], 3, 1).astype(np.float32)
    scores[np.arange(n), first] = confidence
    label = np.where(rng.random(n) < confidence, first, (first + 1) % 3)
    label[rng.random(n) < 0.1] = -1
    lists = [np.unique(c[c >= 0]) for c in np.stack([label, rng.integers(-1, 3, n)], 1)]
    return Case.from_scores(LabelSets.from_lists(lists, 3, label=label), scores, k=3, kind="probability")


@pytest.mark.parametrize("name", METRICS)
@given(st.integers(2, 25), st.sampled_from([2, 5, 1000]), st.integers(0, 2**32 - 1))
def test_leaving_out_each_image_is_exact(name, n, levels, seed):
    rng = np.random.default_rng(seed)
    estimate = get("metric", name)(case_of(n, levels, rng))
    inside = rng.random(n) < 0.9
    changes = estimate.left_out(inside)
    value = estimate.value(inside)
    for i in np.flatnonzero(inside & estimate.scored):
        rest = inside.copy()
        rest[i] = False
        if (rest & estimate.scored).any():
            np.testing.assert_allclose(changes[i], estimate.value(rest) - value, atol=1e-12)
    assert not changes[~estimate.scored].any()
