import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhot.core.sets import Case, LabelSets
from manyhot.core.top_classes import top_k


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


def test_unfilled_places_are_never_the_label():
    case = Case(LabelSets.from_lists([[1]], 3, label=[-1]), np.array([[2, -1]]))
    assert case.is_label.tolist() == [[False, False]]
