"""Kinds of difficult images and common answers against loops over images."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from manyhot.core.difficulty import DIFFICULTIES, CommonAnswers, difficulty_of, typical_images


def kind(right):
    n, m = sum(right), len(right)
    if n in (0, m):
        return "all" if n else "none"
    return "few" if 4 * n < m else "split" if 4 * n <= 3 * m else "most"


@given(hnp.arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 9))))
def test_each_image_has_the_kind_of_its_share(right):
    assert [tuple(DIFFICULTIES)[k] for k in difficulty_of(right)] == [kind(list(row)) for row in right]


def test_a_quarter_and_three_quarters_divide_the_models():
    right = np.arange(4) < np.array([[0], [1], [2], [3], [4]])
    assert [tuple(DIFFICULTIES)[k] for k in difficulty_of(right)] == [
        "none",
        "split",
        "split",
        "split",
        "all",
    ]


@given(
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from([0.25, 0.5, 1.0])), max_size=40), st.integers(1, 5)
)
def test_typical_images_are_the_clearest_of_their_kind(images, most):
    right, agreed = np.array([r for r, _ in images], int), np.array([a for _, a in images], float)
    found = typical_images(right, 8, agreed, most)
    none = sorted((i for i, r in enumerate(right) if r == 0), key=lambda i: -agreed[i])
    split = sorted((i for i, r in enumerate(right) if 2 <= r <= 6), key=lambda i: abs(right[i] - 4))
    assert found["none"].tolist() == none[:most]
    assert found["split"].tolist() == split[:most]
    every = [i for i, r in enumerate(right) if r == 8]
    assert len(found["all"]) == min(most, len(every))
    assert set(found["all"].tolist()) <= set(every)


def test_images_that_all_get_right_are_spread_over_the_data_set():
    found = typical_images(np.full(12, 3), 3, np.ones(12), 4)
    assert found["all"].tolist() == [0, 3, 6, 9]


@given(hnp.arrays(np.int32, st.tuples(st.integers(1, 20), st.integers(1, 9)), elements=st.integers(-1, 4)))
def test_the_common_answer_is_the_most_frequent_class(top):
    found = CommonAnswers.of(top)
    for row, answer, share in zip(top.tolist(), found.classes, found.share, strict=True):
        counts = Counter(c for c in row if c >= 0)
        most = max(counts.values(), default=0)
        assert answer == min((c for c, n in counts.items() if n == most), default=-1)
        assert share == most / len(row)
