import math

import numpy as np
import pytest
from scipy import integrate, optimize, stats
from scipy.special import lambertw

from audits import linearised_means
from manyhot.core.audit_samples import active_design
from manyhot.core.audit_sequence import sequence_p, sequence_quantile
from manyhot.core.audited import estimate
from manyhot.errors import InputError


def narrowest_at(n, alpha=0.05):
    """Return the ρ with the narrowest boundary after n images."""

    def width(rho):
        times = n * rho**2
        return (times + 1) / times * math.log(math.sqrt(times + 1) / alpha)

    return optimize.minimize_scalar(width, bounds=(0.01, 1), method="bounded", options={"xatol": 1e-12}).x


@pytest.mark.parametrize("n", [20, 300, 1000, 8000])
@pytest.mark.parametrize("n_values", [1, 6])
def test_the_boundary_is_where_robbins_mixture_is_20_for_each_value(n, n_values):
    """Robbins 1970, doi 10.1214/aoms/1177696786: a sum of n standard normal values leaves it in 5 %."""
    rho = narrowest_at(1000, 0.05 / n_values)
    total = sequence_quantile(n, 1000, n_values) * math.sqrt(n)

    def likelihood(slope):
        return math.exp(slope * total - n * slope**2 / 2) * stats.norm.pdf(slope, scale=rho)

    peak = total / (n + 1 / rho**2)
    mixture, _ = integrate.quad(likelihood, peak - 12 / math.sqrt(n), peak + 12 / math.sqrt(n), points=[peak])
    assert mixture == pytest.approx(20 * n_values, rel=1e-5)


def test_it_is_narrowest_near_the_planned_number():
    quantiles = np.array([sequence_quantile(n, 1000) for n in range(100, 4000, 10)])
    assert quantiles.min() == pytest.approx(3.03, abs=0.01)
    assert 700 < 100 + 10 * quantiles.argmin() < 1400


@pytest.mark.slow
def test_intervals_hold_at_all_sizes_together():
    rng = np.random.default_rng(0)
    f = rng.beta(2, 0.7, (5000, 1))
    y = (rng.random((5000, 1)) < 0.1 + 0.8 * f).astype(float)
    design, sizes = active_design(f * (1 - f), 1000), range(50, 1001, 50)
    left = np.zeros(2)
    for _ in range(300):
        sample = design.draw(rng)
        outside = np.zeros(2, bool)
        for n in sizes:
            first = sample.first(n)
            found = estimate(linearised_means(y[first.images], f, first), first, power=1.0)
            for kind, quantile in enumerate((None, sequence_quantile(n, 500))):
                lo, hi = found.interval(quantile=quantile)
                outside[kind] |= y.mean() < lo[0] or hi[0] < y.mean()
        left += outside
    assert left[0] / 300 > 0.2  # ordinary intervals
    assert left[1] / 300 < 0.05


def test_no_difference_of_four_equal_models_is_decided():
    """At all sizes, and for all six differences, together. With intervals one by one, too many are."""
    rng, sizes = np.random.default_rng(0), np.arange(50, 1001)
    first, second = np.triu_indices(4, 1)
    limits = [np.array([sequence_quantile(n, 1000, k) for n in sizes])[:, None] for k in (1, 6)]
    decided = np.zeros(2)
    for _ in range(1000):
        right = rng.random((1000, 4)) < np.where(rng.random((1000, 1)) < 0.3, 0.4, 0.8)
        pairs = right[:, first].astype(float) - right[:, second]
        mean, square = (np.cumsum(x, axis=0)[sizes - 1] / sizes[:, None] for x in (pairs, pairs**2))
        error = np.sqrt((square - mean**2) / (sizes[:, None] - 1))
        decided += [(np.abs(mean) > limit * error).any() for limit in limits]
    assert decided[0] / 1000 > 0.07
    assert decided[1] / 1000 < 0.03


def test_impossible_numbers_are_refused():
    with pytest.raises(InputError) as error:
        sequence_quantile(0, 100)
    assert str(error.value) == "The number of audited images is not positive.\n  got:     0"


@pytest.mark.parametrize("n", [50, 400, 1000])
def test_a_p_value_is_the_level_at_which_the_interval_ends_at_0(n):
    """With the equation of the interval at the level 1 - p, and the ρ of the level 95 %."""
    rho = np.sqrt((-lambertw(-(0.05**2) / math.e, -1).real - 1) / 1000)
    for z in (2.5, 3.5, 5.0):
        p = float(sequence_p(np.array([z, -z]), n, 1000)[1])
        times = n * rho**2
        assert math.sqrt(2 * (times + 1) / times * math.log(math.sqrt(times + 1) / p)) == pytest.approx(z)
    edge = sequence_quantile(n, 1000)
    assert sequence_p(np.array([edge]), n, 1000)[0] == pytest.approx(0.05)
    assert sequence_p(np.zeros(1), n, 1000)[0] == 1
