"""Flips, gaps, balanced precision and controls, against scikit-learn, published intervals and brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score

from manyhot.core import companion_effects
from manyhot.core.companion_effects import (
    BOTH,
    COMPANION_ONLY,
    MAIN_ONLY,
    NEITHER,
    NO_SPLIT,
    Resampled,
    balancing,
    gap,
    moved,
    paired_difference,
    place_control,
    rank,
    share_with_interval,
    split_by_pair,
    weighted_average_precision,
)
from manyhot.core.sets import NO, NOT_ASKED, UNCLEAR, YES


def test_split():
    main = np.array([YES, YES, NO, NO, YES, UNCLEAR, NOT_ASKED, NO])
    companion = np.array([YES, NO, YES, NO, UNCLEAR, YES, NO, NOT_ASKED])
    assert split_by_pair(main, companion).tolist() == [
        BOTH,
        MAIN_ONLY,
        COMPANION_ONLY,
        NEITHER,
        NO_SPLIT,
        NO_SPLIT,
        NO_SPLIT,
        NO_SPLIT,
    ]


def pairs(both, one, other, neither):
    """Return two rows of answers from the four counts of a 2 x 2 table."""
    counts = [both, one, other, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        # Cavo et al. 2012, in Fagerland, Lydersen & Laake 2017, Statistical Analysis of Contingency Tables,
        # chapter 8, and in the tests of its R package contingencytables.
        ((59, 6, 16, 80), (-0.0621, -0.1186, -0.0046)),
        # Bentur et al. 2009, there too.
        ((1, 1, 7, 12), (-0.286, -0.507, -0.026)),
    ],
)
def test_paired_difference_is_the_published_one(cells, expected):
    found = paired_difference(*pairs(*cells))
    digits = 4 if cells[0] > 1 else 3
    assert [round(x, digits) for x in (found.value, found.lo, found.hi)] == [*expected]
    assert found.n == sum(cells)


@settings(max_examples=200, deadline=None)
@given(arrays(bool, st.tuples(st.just(2), st.integers(1, 40))))
def test_paired_difference_holds_its_value_and_is_antisymmetric(rows):
    found, turned = paired_difference(*rows), paired_difference(*rows[::-1])
    assert -1 <= found.lo <= found.value <= found.hi <= 1
    assert (turned.lo, turned.hi) == pytest.approx((-found.hi, -found.lo))


def test_paired_difference_covers():
    """95 % intervals of shares that are correlated hold the truth about as often."""
    rng = np.random.default_rng(0)
    cells = np.array([0.15, 0.2, 0.05, 0.6])
    held = 0
    for counts in rng.multinomial(60, cells, 2000):
        found = paired_difference(*pairs(*counts))
        held += found.lo <= cells[1] - cells[2] <= found.hi
    assert held / 2000 == pytest.approx(0.95, abs=0.02)


def test_nothing_to_share():
    for found in (share_with_interval(np.zeros(0, bool)), paired_difference(*np.zeros((2, 0), bool))):
        assert found.n == 0
        assert np.isnan([found.value, found.lo, found.hi]).all()


def test_share_has_wilsons_interval():
    found = share_with_interval(np.repeat([True, False], [63, 37]))
    # Newcombe 1998, Stat Med 17, 857-872, gives 15 of 148 as 0.0624 to 0.1605.
    assert (found.value, found.n) == (0.63, 100)
    found = share_with_interval(np.repeat([True, False], [15, 133]))
    assert (round(found.lo, 4), round(found.hi, 4)) == (0.0624, 0.1605)


def test_gaps_by_hand():
    splits = np.repeat([BOTH, MAIN_ONLY, COMPANION_ONLY, NEITHER, NO_SPLIT], [4, 5, 10, 20, 3])
    found = np.zeros(42, bool)
    found[:3] = True  # 3 of 4
    found[4:5] = True  # 1 of 5
    found[9:13] = True  # 4 of 10
    found[19] = True  # 1 of 20
    found[39:] = True
    recall, hallucinated = gap(found, splits, BOTH, MAIN_ONLY), gap(found, splits, COMPANION_ONLY, NEITHER)
    assert (recall.value, recall.n) == (pytest.approx(0.55), 9)
    assert (hallucinated.value, hallucinated.n) == (pytest.approx(0.35), 30)
    assert recall.lo < 0.55 < recall.hi
    assert np.isnan(gap(found, np.maximum(splits, MAIN_ONLY), BOTH, MAIN_ONLY).value)


SPLITS = np.repeat([BOTH, MAIN_ONLY, COMPANION_ONLY, NEITHER, NO_SPLIT], [30, 10, 20, 140, 5])


def test_balanced_weights_by_hand():
    (weights,) = balancing(SPLITS, np.ones((1, len(SPLITS))))
    sums = [weights[which == SPLITS].sum() for which in (BOTH, MAIN_ONLY, COMPANION_ONLY, NEITHER, NO_SPLIT)]
    assert sums == pytest.approx([20, 20, 80, 80, 0])
    empty = np.ones((2, len(SPLITS)))
    empty[1, SPLITS == MAIN_ONLY] = 0
    assert np.isnan(balancing(SPLITS, empty)).any(axis=1).tolist() == [False, True]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(2, 12))
def test_average_precision_is_scikit_learns(seed, n, levels):
    rng = np.random.default_rng(seed)
    score = rng.integers(0, levels, n) / levels  # ties
    positive = rng.random(n) < 0.4
    positive[0] = True
    weights = rng.integers(0, 4, (3, n)).astype(float)
    weights[:, 0] = 1
    expected = [average_precision_score(positive, score, sample_weight=w) for w in weights]
    assert weighted_average_precision(score, positive, weights) == pytest.approx(expected)


def test_average_precision_of_nothing():
    assert np.isnan(weighted_average_precision(np.ones(3), np.zeros(3, bool), np.ones((1, 3)))).all()


def test_precision_of_a_shortcut_falls_where_the_companion_is_balanced():
    """A model that knows the companion alone, which is mostly beside the class."""
    rng = np.random.default_rng(0)
    splits = np.tile(SPLITS, 3)
    score = np.isin(splits, (BOTH, COMPANION_ONLY)) + 0.1 * rng.random(len(splits))
    found = Resampled.of(len(splits), 500, 0).precision(score, splits)
    inside = splits >= 0
    positive, at = splits[inside] <= MAIN_ONLY, score[inside]
    weight = np.array([20 / 30, 2, 4, 80 / 140])[splits[inside]]
    assert found.as_is.value == pytest.approx(average_precision_score(positive, at))
    assert found.balanced.value == pytest.approx(average_precision_score(positive, at, sample_weight=weight))
    assert found.balanced.hi < found.as_is.lo
    for one in (found.as_is, found.balanced):
        assert one.lo < one.value < one.hi
        assert one.n == 600


def test_precision_without_resamples_and_without_a_split():
    splits = np.where(SPLITS == MAIN_ONLY, NO_SPLIT, SPLITS)
    found = Resampled.of(len(splits), 0, 0).precision(np.arange(205.0), splits)
    assert np.isnan([found.as_is.lo, found.as_is.hi, found.balanced.value]).all()
    assert found.as_is.value == pytest.approx(
        average_precision_score(splits[splits >= 0] == BOTH, np.arange(205)[splits >= 0])
    )


def test_resamples_are_seeded():
    one, same, other = (Resampled.of(50, 20, seed).counts for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()
    assert (one.sum(1) == 50).all()


def box(shape, top, left, bottom, right):
    found = np.zeros(shape, bool)
    found[top:bottom, left:right] = True
    return found


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000))
def test_control_covers_as_little_as_can_be(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(8, 24, 2))
    top, left = rng.integers(0, 4, 2)
    region = box(shape, top, left, top + rng.integers(1, 5), left + rng.integers(1, 5))
    region &= rng.random(shape) < 0.9
    region[top, left] = True
    taken = region | box(shape, *rng.integers(0, 5, 2), *rng.integers(5, 24, 2))
    (rows, columns) = np.nonzero(region)
    covered = {}
    for down in range(-rows.min(), shape[0] - rows.max()):
        for aside in range(-columns.min(), shape[1] - columns.max()):
            covered[down, aside] = int(taken[rows + down, columns + aside].sum())
    least, size = min(covered.values()), len(rows)
    place = place_control(region, taken, np.random.default_rng(seed))
    assert place == place_control(region, taken, np.random.default_rng(seed))
    if least > size / 2:
        assert place is None
    else:
        assert covered[place] <= least + 0.02 * size
        assert moved(region, *place).sum() == size


def test_control_in_a_large_photograph_stays_inside():
    region = box((1500, 1001), 700, 3, 1500, 400)
    rng = np.random.default_rng(0)
    for _ in range(20):
        place = place_control(region, region, rng)
        there = moved(region, *place)
        assert there.sum() == region.sum()
        assert (there & region).sum() < 0.05 * region.sum()
    line = box((2000, 50), 0, 1, 2000, 2)  # thinner than the grid
    assert moved(line, *place_control(line, line, rng)).sum() == 2000


def test_no_room_for_a_control():
    region = box((10, 10), 0, 0, 10, 8)
    assert place_control(region, region, np.random.default_rng(0)) is None


def test_moved_beyond_the_edge():
    region = box((4, 5), 1, 1, 3, 4)
    assert (moved(region, 2, -2) == box((4, 5), 3, 0, 4, 2)).all()


def test_rank_puts_sure_ones_first():
    lo, value = np.array([0.1, np.nan, 0.3, 0.1]), np.array([0.9, 0.9, 0.4, 1.0])
    assert rank(lo, value).tolist() == [2, 3, 0, 1]


@pytest.mark.parametrize("side", [1, 9, 40, 128, 150])
def test_taken_pixels_are_counted_as_by_a_plain_loop(side):
    rng = np.random.default_rng(side)
    taken = rng.random((side, side + 3)) < 0.6
    shape = rng.random((max(side // 3, 1), side // 2 + 1)) < 0.8
    covered = companion_effects._covered(taken, shape)
    high, wide = shape.shape
    places = np.lib.stride_tricks.sliding_window_view(taken, (high, wide))
    assert (covered == (places & shape).sum(axis=(2, 3))).all()
