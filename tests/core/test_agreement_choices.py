"""Agreement of choices, against the package krippendorff, loops and published values."""

import numpy as np
import pytest

from manyhot.core.agreement import measure_choices
from manyhot.core.choices import Choices

# Krippendorff's example of three raters and 15 units (Content Analysis, 2004; 0 is no answer).
EXAMPLE = """
0 0 0 0 0 3 4 1 2 1 1 3 3 0 3
1 0 2 1 3 3 4 3 0 0 0 0 0 0 0
0 0 2 1 3 4 4 0 2 1 1 3 3 0 4
"""


def choices_of(matrix, k):
    """Return choices from a matrix with one row per rater, -1 for no answer."""
    rater, image = np.nonzero(matrix >= 0)
    return Choices(image, rater, matrix[rater, image], matrix.shape[1], len(matrix), k)


def by_name(choices, **options):
    return {m.name: m for m in measure_choices(choices, **options)}


def drawn(seed, raters=6, images=60, k=5):
    rng = np.random.default_rng(seed)
    truth = rng.choice(k, images, p=rng.dirichlet(np.ones(k)))
    matrix = np.where(rng.random((raters, images)) < 0.6, truth, rng.integers(0, k, (raters, images)))
    return np.where(rng.random(matrix.shape) < 0.4, -1, matrix)


def test_published_example():
    matrix = np.array([line.split() for line in EXAMPLE.strip().splitlines()], int) - 1
    found = by_name(choices_of(matrix, 4))
    assert found["alpha_nominal"].value == pytest.approx(0.691, abs=5e-4)
    assert (found["alpha_nominal"].n, found["alpha_nominal"].n_skipped) == (12, 1)
    assert np.isnan(found["alpha_ordinal"].value)


@pytest.mark.parametrize("seed", range(6))
def test_alpha_is_that_of_the_package_krippendorff(seed):
    krippendorff = pytest.importorskip("krippendorff")
    matrix = drawn(seed)
    data = np.where(matrix < 0, np.nan, matrix)
    expected = krippendorff.alpha(data, level_of_measurement="nominal", value_domain=range(5))
    found = by_name(choices_of(matrix, 5))
    assert found["alpha_nominal"].value == pytest.approx(expected, abs=1e-12)
    # Classes that nobody chose change nothing.
    wide = by_name(choices_of(matrix, 1_000))
    assert [m.value for m in wide.values()] == pytest.approx([m.value for m in found.values()], nan_ok=True)


def test_pairs_and_kappa_by_loops():
    matrix = drawn(7)
    equal, kappas, votes = [], [], []
    for column in matrix.T:
        chosen = column[column >= 0]
        if len(chosen) < 2:
            continue
        pairs = [a == b for i, a in enumerate(chosen) for b in chosen[:i]]
        equal += pairs
        kappas.append(np.mean(pairs))
        votes += chosen.tolist()
    chance = sum((votes.count(c) / len(votes)) ** 2 for c in range(5))
    found = by_name(choices_of(matrix, 5))
    assert found["pairwise"].value == pytest.approx(np.mean(equal))
    assert found["fleiss_kappa"].value == pytest.approx((np.mean(kappas) - chance) / (1 - chance))


def test_intervals_leave_out_each_image():
    from scipy.stats import t

    matrix = drawn(3)
    found = by_name(choices_of(matrix, 5))
    names = ("pairwise", "fleiss_kappa", "alpha_nominal")
    several = np.flatnonzero((matrix >= 0).sum(0) > 1)
    without = [by_name(choices_of(np.delete(matrix, i, 1), 5), intervals=False) for i in several]
    n = len(several)
    for name in names:
        values = np.array([w[name].value for w in without])
        error = np.sqrt((n - 1) / n * ((values - values.mean()) ** 2).sum())
        half = t.ppf(0.975, n - 1) * error
        assert found[name].lo == pytest.approx(found[name].value - half)
        assert found[name].hi == pytest.approx(min(found[name].value + half, 1))
    few = by_name(choices_of(matrix[:, several[:9]], 5))
    assert all(np.isnan(m.lo) for m in few.values())


def test_without_agreement_to_measure_values_are_nan():
    nothing = by_name(choices_of(np.array([[0, 1, -1]]), 2))
    assert all(np.isnan(m.value) and m.n == 0 for m in nothing.values())
    alike = by_name(choices_of(np.zeros((3, 12), int), 2))
    assert alike["pairwise"].value == 1
    assert np.isnan(alike["alpha_nominal"].value)
