"""How many altered images make a companion independent of a class."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhot.core.companion_effects import CAP, balanced_amounts, dependence, independent, plan

counts = st.integers(1, 10_000)


def published(b, m, s, n):
    """As in 0-FindAugs.py: shares, the roots of a polynomial, and its caps in its order."""
    total = b + m + s + n
    b, m, s, n = (x / total for x in (b, m, s, n))
    if b / (b + m) - (b + s) >= 0:
        d = min(max(np.roots([1, m + s, m * s - b * n]).real), b)
        d = min(d, CAP * min(m, s))
    else:
        d = min((b * n - m * s) / (m - n), m)
        d = min(d, CAP * min(b, s))
    return total * d


@given(counts, counts, counts, counts)
def test_amounts_are_those_of_the_published_code(b, m, s, n):
    found = plan(b, m, s, n)
    if found.adds and m >= n:  # there the published formula divides by zero, or gives a negative number
        assert found.amount <= m
        return
    # What is put into images without the class is bounded by these, too; the published code leaves that open.
    bound = n if found.adds else math.inf
    assert found.amount == pytest.approx(min(published(b, m, s, n), bound), rel=1e-6, abs=1e-6)


@given(counts, counts, counts, counts)
def test_without_caps_the_companion_is_independent_of_the_class(b, m, s, n):
    found = plan(b, m, s, n, capped=False)
    assert found.before == pytest.approx(b / (b + m) - s / (s + n))
    assert found.adds is (found.before < 0 and b * n < m * s)
    if found.adds and m >= n:
        assert found.amount == 0
    else:
        assert found.after == pytest.approx(0, abs=1e-6)
    assert abs(found.after) <= abs(found.before) + 1e-9


def test_an_example():
    """60 of 100 with both: d solves d² + 20 d - 1100 = 0, the positive root of which is 24.64."""
    found = plan(60, 10, 10, 20)
    assert found.amount == pytest.approx(-10 + math.sqrt(1200))
    assert dependence((60, 10 + found.amount, 10 + found.amount, 20)) == pytest.approx(0)


def test_more_than_there_are_to_alter():
    """The rare pair: to be independent it takes more counterfactuals than images, a probability over 1."""
    found = plan(50, 50, 10, 900)
    assert plan(50, 50, 10, 900, capped=False).amount > 50
    assert (found.amount, found.after > 0) == (50, True)


def test_a_companion_that_is_nowhere_else():
    """The cap of 19 times the smaller split would be 0; the published code divides by zero before."""
    assert plan(500, 500, 0, 9000).amount == 500


@pytest.mark.parametrize(
    ("counts", "amount"), [((10, 10, 10, 10), 0), ((0, 10, 10, 0), 0), ((0, 0, 5, 5), 0)]
)
def test_nothing_to_do(counts, amount):
    assert plan(*counts).amount == amount


def test_dependence_of_nothing():
    assert math.isnan(dependence((0, 0, 3, 3)))


@given(counts, counts, counts, counts, st.booleans())
def test_balanced_amounts_leave_the_class_as_frequent_as_it_is(b, m, s, n, filled):
    """With and without the companion, the odds of the class are those in all images."""
    if b * n < m * s:
        return
    without, pasted = balanced_amounts(b, m, s, n, filled)
    odds = (b + m) / (s + n)
    assert b / (s + pasted) == pytest.approx(odds)
    assert (m + without) / (n + pasted * filled) == pytest.approx(odds)


def test_a_companion_on_all_images_of_a_class_and_nowhere_else():
    """200 of 2,000: each other image is needed with the companion, and twice as many of the class without."""
    assert balanced_amounts(200, 0, 0, 1800, filled=False) == pytest.approx((200, 1800))
    assert balanced_amounts(200, 0, 0, 1800, filled=True) == pytest.approx((400, 1800))


def test_weights_make_several_companions_independent():
    """Odds ratios become 1; of one pair, cell by cell as computed by hand, with the same margins."""
    one = np.array([0, 0, 0, 1, 2, 3, 3, 3, -1], np.int8)
    weights = independent([one], np.ones(9))
    # Of 8 images, 4 with the class and 4 with the companion: each cell holds 2.
    assert weights.tolist() == pytest.approx([2 / 3] * 3 + [2, 2] + [2 / 3] * 3 + [1])
    rng = np.random.default_rng(0)
    states = rng.random((500, 3)) < 0.3
    states[:, 1] |= states[:, 0] & (rng.random(500) < 0.5)
    states[:, 2] |= states[:, 1] & (rng.random(500) < 0.5)
    pairs = [(0, 1), (0, 2), (1, 2)]
    splits = [(2 * ~states[:, m] + ~states[:, c]).astype(np.int8) for m, c in pairs]
    weights = independent(splits, np.ones(500))
    for own in splits:
        b, m_only, c_only, neither = np.bincount(own, weights)
        assert b * neither == pytest.approx(m_only * c_only, rel=1e-4)
    empty = np.array([0, 0, 3], np.int8)  # nothing makes this pair independent
    assert independent([empty], np.ones(3)).tolist() == [1, 1, 1]
