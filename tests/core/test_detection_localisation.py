"""Does a map point at an object: by hand, by brute force, and against scikit-learn and SciPy."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from manyhot.core.detection import by_chance, centre, localise, near, rank_correlation

MAP = np.array([[0, 1, 2, 3], [0, 5, 4, -1], [0, 0, -2, 0]], float)


def box(left, top, right, bottom, shape=(3, 4)):
    region = np.zeros(shape, bool)
    region[top:bottom, left:right] = True
    return region


def test_the_pointing_game_by_hand():
    assert localise(MAP, box(1, 1, 2, 2)).pointing == 1
    assert localise(MAP, box(2, 1, 3, 2)).pointing == 0
    tied = np.where(MAP >= 4, 5.0, MAP)  # two highest points, one of them on the object
    assert localise(tied, box(2, 1, 3, 2)).pointing == 0.5


def test_a_tolerance_counts_what_is_near():
    found = np.zeros((100, 50))
    found[40, 10] = 1
    for column, hit in ((13, 1), (14, 0)):  # 3 % of the long side are 3 pixels
        assert localise(found, box(column, 40, 50, 60, found.shape)).pointing_near == hit
    assert near(box(10, 40, 11, 41, found.shape), 0.05).sum() == 81  # grid points of a disc of radius 5


def test_energy_and_overlap_by_hand():
    found = localise(MAP, box(1, 0, 3, 2))
    assert found.energy == 12 / 15  # what is negative does not count
    assert found.overlap == 3 / 4  # 5, 4, 3, 2 are the highest; 3 is outside
    assert localise(-np.abs(MAP) - 1, box(1, 0, 3, 2)).energy == 0


def test_overlap_of_equal_values_is_the_mean_over_their_orders():
    rng = np.random.default_rng(0)
    values, region = rng.integers(0, 3, 7), np.array([1, 0, 1, 0, 0, 1, 0], bool)
    shares = []
    for order in itertools.permutations(range(7)):
        ranked = sorted(order, key=lambda i: -values[i])
        shares.append(region[ranked[:3]].mean())
    found = localise(values[None].astype(float), region[None])
    assert found.overlap == pytest.approx(np.mean(shares), abs=1e-12)


def test_auroc_and_rank_correlation_are_those_of_the_libraries():
    rng = np.random.default_rng(1)
    one = rng.integers(0, 9, (20, 30)).astype(float)
    other = one + rng.normal(size=one.shape) * 3
    region = rng.random(one.shape) < 0.2
    assert localise(one, region).auroc == pytest.approx(roc_auc_score(region.ravel(), one.ravel()))
    one[:, :4] = np.nan
    expected = spearmanr(one[:, 4:].ravel(), other[:, 4:].ravel()).statistic
    assert rank_correlation(one, other) == pytest.approx(expected)


def test_pixels_that_nobody_saw_count_nowhere():
    found, region = np.pad(MAP, 2, constant_values=np.nan), np.pad(box(1, 0, 3, 2), 2, constant_values=True)
    assert localise(found, region) == localise(MAP, box(1, 0, 3, 2))
    assert by_chance(region, ~np.isnan(found)).energy == 4 / 12


def test_chance_is_what_random_maps_reach():
    rng = np.random.default_rng(2)
    region = box(6, 5, 14, 17, (20, 30))
    found = [localise(rng.random(region.shape), region) for _ in range(2000)]
    chance = by_chance(region, np.ones_like(region))
    for name in ("pointing", "pointing_near", "energy", "overlap", "auroc"):
        values = [getattr(one, name) for one in found]
        error = 4 * np.std(values) / math.sqrt(len(values))
        assert np.mean(values) == pytest.approx(getattr(chance, name), abs=error), name


def test_what_cannot_be_measured_is_not_a_number():
    for found, region in (
        (np.ones((3, 4)), box(1, 1, 2, 2)),  # the same everywhere
        (MAP, np.zeros((3, 4), bool)),
        (MAP, np.ones((3, 4), bool)),
        (np.full((3, 4), np.nan), box(1, 1, 2, 2)),
    ):
        assert math.isnan(localise(found, region).pointing)
        assert math.isnan(localise(found, region).auroc)
    assert math.isnan(rank_correlation(MAP, np.ones_like(MAP)))
    assert math.isnan(rank_correlation(MAP, np.full_like(MAP, np.nan)))


def test_the_centre_is_highest_in_the_middle_and_falls_as_a_gaussian():
    found = centre(101, 201)
    assert np.unravel_index(found.argmax(), found.shape) == (50, 100)
    quarter = found[50, 100 - 50] / found[50, 100]  # a standard deviation is a quarter of the side
    assert quarter == pytest.approx(math.exp(-0.5), abs=0.01)
    assert localise(found, box(90, 40, 110, 60, found.shape)).pointing == 1
