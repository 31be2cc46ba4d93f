"""Kinds of difficult images and common answers against loops over images."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special, stats

from manyhot.core.difficulty import DIFFICULTIES, CommonAnswers, difficulty_of, hardness, typical_images
from manyhot.core.sets import Case, LabelSets


def test_hardness_is_the_entropy_and_the_margin_of_the_label():
    """SciPy's entropy; and cleanlab's normalized margin, (1 + margin) / 2, where it is installed."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 7)).astype(np.float32) * 3
    p, label = special.softmax(logits.astype(float), axis=1), rng.integers(-1, 7, 50)
    sets = LabelSets.from_lists([[0]] * 50, 7, label=label)
    others = [np.delete(row, y).max() for row, y in zip(p, label, strict=True)]
    margin = np.where(label < 0, np.nan, p[np.arange(50), label] - others)
    for scores, kind in ((logits, "logit"), (p.astype(np.float32), "probability")):
        found = hardness(Case.from_scores(sets, scores, kind=kind))
        np.testing.assert_allclose(found[:, 0], stats.entropy(p, axis=1), atol=2e-5)
        np.testing.assert_allclose(found[:, 1], margin, atol=2e-6)
    sigmoids = Case.from_scores(sets, special.expit(logits), kind="probability")
    assert np.isnan(hardness(sigmoids)).all()
    assert np.isnan(hardness(Case(sets, sigmoids.top))).all()
    known = label >= 0
    rank = pytest.importorskip("cleanlab.rank")
    normalized = rank.get_label_quality_scores(label[known], p[known], method="normalized_margin")
    np.testing.assert_allclose(
        (1 + hardness(Case.from_scores(sets, p, kind="probability"))[known, 1]) / 2, normalized, atol=2e-6
    )


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
