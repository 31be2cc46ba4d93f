import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhot.core.sets import Case, LabelSets
from manyhot.core.top_classes import top_k
from manyhot.registry import get


def by_sorting(scores, k):
    """Among equal scores, the lower class comes first."""
    classes = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return np.lexsort((classes, -scores.astype(np.float64)))[:, :k]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("k", [1, 2, 6, 7, 30])
@pytest.mark.parametrize("infinite", [0, 0.1, 0.9, 1])
def test_top_classes_are_those_of_a_sort(dtype, k, infinite):
    rng = np.random.default_rng(k)
    scores = rng.normal(size=(300, 30)).round(1).astype(dtype)
    scores[rng.random(scores.shape) < infinite] = -np.inf
    scores[rng.random(scores.shape) < 0.1] = -0.0
    np.testing.assert_array_equal(top_k(scores, k, block=64), by_sorting(scores, k))


@settings(deadline=None)
@given(
    st.integers(1, 12).flatmap(
        lambda c: st.lists(
            st.lists(st.sampled_from([-2.5, -0.0, 0.0, 1.0, 3.0, np.inf, -np.inf]), min_size=c, max_size=c),
            min_size=1,
            max_size=8,
        )
    ),
    st.integers(1, 14),
)
def test_top_k_is_a_stable_sort(rows, k):
    scores = np.array(rows, np.float32)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert top_k(scores, k, block=3).tolist() == expected.tolist()


def test_top_k_of_half_precision():
    scores = np.random.default_rng(0).normal(size=(40, 300)).astype(np.float16)
    expected = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :20]
    assert top_k(scores, 20).tolist() == expected.tolist()


@pytest.mark.parametrize(
    "name", ["top1", "top5", "real1", "real5", "mla", "variable_topk", "asma", "valid_errors"]
)
def test_metrics_of_long_lists_are_those_of_short_ones(name):
    rng = np.random.default_rng(0)
    sets = [rng.choice(60, rng.integers(1, 6), replace=False) for _ in range(200)]
    labels = LabelSets.from_lists(sets, 60, label=[s[0] for s in sets])
    ranked = np.argsort(rng.random((200, 60)), axis=1).astype(np.int16)
    ranked[:100, 0] = labels.label[:100]
    found = [get("metric", name)(Case(labels, np.asfortranarray(ranked[:, :k]))).value() for k in (60, 12)]
    assert found[0] == found[1]
