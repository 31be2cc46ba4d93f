"""Error consistency against scikit-learn's kappa, the bootstrap over images and Fleiss' standard error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import pdist
from sklearn.metrics import cohen_kappa_score

from manyhot.core.error_consistency import (
    FEWEST_APART,
    FEWEST_OF_EACH,
    ErrorConsistency,
    kappa_of,
    map_of_models,
)


def made(n, accuracies, seed=0):
    """Return whether models are right: a common difficulty of the images and noise of their own."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 1)) + rng.normal(size=(n, len(accuracies))) < np.array(accuracies)


@given(hnp.arrays(bool, st.tuples(st.integers(1, 40), st.integers(2, 5))))
def test_kappa_is_that_of_scikit_learn(right):
    consistency = ErrorConsistency(right)
    for a, b, kappa in zip(*consistency.pairs, consistency.kappa, strict=True):
        if len({*right[:, a], *right[:, b]}) == 1:
            assert np.isnan(kappa)
        else:
            assert kappa == pytest.approx(cohen_kappa_score(right[:, a], right[:, b]), abs=1e-12)
    assert consistency.counts.sum(axis=1).tolist() == [len(right)] * len(consistency.kappa)


def test_the_definition_of_geirhos_and_others():
    """Of 100 images, both are right on 60, one on 10 + 10, none on 20: c_obs = .8, c_exp = .7² + .3²."""
    assert kappa_of(np.array([60, 10, 10, 20])) == pytest.approx((0.8 - 0.58) / (1 - 0.58))


def test_intervals_are_those_of_the_bootstrap_over_images():
    right = made(400, [0.8, 0.2, 1.2])
    consistency, rng = ErrorConsistency(right), np.random.default_rng(1)
    lo, hi = consistency.intervals(20_000, 3)
    drawn = [ErrorConsistency(right[rng.integers(0, 400, 400)]).kappa for _ in range(4_000)]
    assert np.quantile(drawn, [0.025, 0.975], axis=0) == pytest.approx(np.array([lo, hi]), abs=0.008)


def test_the_error_of_one_kappa_is_fleiss():
    """Fleiss, Cohen & Everitt 1969, equation 9, for two ratings, https://doi.org/10.1037/h0028106."""
    right = made(3_000, [0.9, 0.3])
    consistency = ErrorConsistency(right)
    table = consistency.counts[0].reshape(2, 2) / 3_000
    rows, columns, kappa = table.sum(axis=1), table.sum(axis=0), consistency.kappa[0]
    chance = rows @ columns
    first = sum(table[i, i] * (1 - (rows[i] + columns[i]) * (1 - kappa)) ** 2 for i in (0, 1))
    second = (1 - kappa) ** 2 * sum(table[i, j] * (columns[i] + rows[j]) ** 2 for i, j in ((0, 1), (1, 0)))
    third = (kappa - chance * (1 - kappa)) ** 2
    error = np.sqrt((first + second - third) / 3_000) / (1 - chance)
    lo, hi = consistency.mean_interval
    assert (hi - lo) / 2 / 1.959964 == pytest.approx(error, rel=1e-6)


def test_the_error_of_the_mean_is_that_of_the_jackknife():
    right = made(300, [0.9, 0.3, 0.5, -0.2])
    consistency = ErrorConsistency(right)
    left_out = [ErrorConsistency(np.delete(right, i, axis=0)).mean for i in range(300)]
    jackknife = np.sqrt(299 / 300 * ((left_out - np.mean(left_out)) ** 2).sum())
    assert np.sqrt((consistency.influence**2).sum()) / 300 == pytest.approx(jackknife, rel=0.01)
    assert consistency.influence.sum() == pytest.approx(0, abs=1e-9)


def test_few_images_of_a_kind_have_no_interval():
    n = 500
    right = np.ones((n, 4), bool)
    right[:FEWEST_OF_EACH, 0] = right[: FEWEST_OF_EACH - 1, 1] = False
    right[FEWEST_OF_EACH // 2 : FEWEST_OF_EACH // 2 + FEWEST_OF_EACH, 2] = False
    right[:FEWEST_OF_EACH, 3] = False
    right[:1, 3], right[n - 1, 3] = True, False
    lo, hi = ErrorConsistency(right).intervals(100, 0)
    kappa = ErrorConsistency(right).kappa
    has = dict(zip([(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)], ~np.isnan(lo), strict=True))
    assert has == {(0, 1): False, (0, 2): True, (0, 3): False, (1, 2): False, (1, 3): False, (2, 3): True}
    assert FEWEST_APART > 2  # models 0 and 3 differ on two images
    assert (np.nan_to_num(lo, nan=-2) <= kappa).all()
    assert (kappa <= np.nan_to_num(hi, nan=2)).all()
    assert np.isnan(ErrorConsistency(right).intervals(0, 0)).all()


def test_a_map_of_distances_in_the_plane_is_that_plane():
    rng = np.random.default_rng(2)
    points = rng.random((7, 2))
    found = map_of_models(1 - pdist(points) ** 2, 7)
    assert pdist(found) == pytest.approx(pdist(points))
    assert (found[0] >= 0).all()


@pytest.mark.parametrize(("n_models", "kappa"), [(2, [0.3]), (2, [np.nan]), (3, [0.5, np.nan, 1.0])])
def test_a_map_of_few_models_is_finite(n_models, kappa):
    assert np.isfinite(map_of_models(np.array(kappa), n_models)).all()


def test_a_mean_has_an_interval_from_images_enough_of_each_kind():
    n = 400
    right = made(n, [0.9, 0.3, 0.5])
    other = right.copy()
    other[: FEWEST_OF_EACH - 1] = ~right[: FEWEST_OF_EACH - 1]
    consistency = ErrorConsistency(right)
    assert np.isfinite(consistency.mean_interval).all()
    assert np.isnan(ErrorConsistency(other).difference_from(consistency)[1:]).all()
    other[FEWEST_OF_EACH - 1] = ~right[FEWEST_OF_EACH - 1]
    value, lo, hi = ErrorConsistency(other).difference_from(consistency)
    assert value == ErrorConsistency(other).mean - consistency.mean
    assert lo < value < hi
    right[: n - FEWEST_OF_EACH + 1, 0], right[n - FEWEST_OF_EACH + 1 :, 0] = True, False
    assert np.isnan(ErrorConsistency(right).mean_interval).all()
