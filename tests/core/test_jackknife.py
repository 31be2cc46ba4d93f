import numpy as np
import pytest
from scipy import stats

from manyhot.core.jackknife import (
    effective_positives,
    jackknife_error,
    jackknife_interval,
    rarest_classes,
    resampled_interval,
)


def test_the_interval_is_that_of_students_t_on_the_logit_scale() -> None:
    changes = np.random.default_rng(4).normal(0, 0.002, 60)
    error = np.sqrt(59 * changes.var())
    moments = (changes - changes.mean()) ** 2
    df = 2 * moments.sum() ** 2 / (moments**2).sum()
    half = stats.t.ppf(0.975, df) * error / (0.8 * 0.2)
    expected = 1 / (1 + np.exp(-(np.log(4) + np.array([-half, half]))))
    assert jackknife_interval(0.8, changes) == pytest.approx(expected)
    plain = stats.t.ppf(0.975, df) * error
    assert jackknife_interval(5.0, changes, scale="plain") == pytest.approx((5 - plain, 5 + plain))
    assert np.isnan(jackknife_interval(1.0, np.zeros(60))).all()
    assert np.isnan(jackknife_interval(0.8, np.zeros(60))).all()
    assert np.isnan(jackknife_interval(0.8, np.zeros(1))).all()


def test_the_error_of_a_mean_is_that_of_scipy() -> None:
    """Without a value, the mean of n moves by (mean - value) / (n - 1)."""
    values = np.random.default_rng(5).normal(size=40)
    error, df = jackknife_error((values.mean() - values) / 39)
    assert error == pytest.approx(stats.sem(values))
    assert df == pytest.approx(80 / (stats.kurtosis(values, fisher=False)))


def test_counts_are_repetitions() -> None:
    changes, counts = np.array([0.3, -0.1, 0.0, 9.0]), np.array([3, 5, 2, 0])
    expected = jackknife_error(np.repeat(changes, counts))
    assert jackknife_error(changes, counts.astype(float)) == pytest.approx(expected)


def test_effective_positives() -> None:
    assert effective_positives(np.array([17.0])) == pytest.approx(17)
    assert effective_positives(np.full(4, 5.0)) == pytest.approx(20)
    assert effective_positives(np.array([4.0, 1e6, 1e6])) == pytest.approx(4, rel=1e-4)
    assert effective_positives(np.array([1.0, 2.0, 3.0])) == pytest.approx(9)
    assert effective_positives(np.array([])) == 0


def test_few_resamples_give_students_interval_of_their_deviation_on_the_logit_scale():
    samples = np.array([0.6, 0.7, 0.8, np.nan])
    half = stats.t.ppf(0.975, 2) * 0.1 / (0.7 * 0.3)
    expected = 1 / (1 + np.exp(-(np.log(7 / 3) + np.array([-half, half]))))
    assert resampled_interval(0.7, samples) == pytest.approx(tuple(expected))
    assert resampled_interval(0.7, samples, scale="plain") == pytest.approx(
        (0.7 - stats.t.ppf(0.975, 2) * 0.1, 0.7 + stats.t.ppf(0.975, 2) * 0.1)
    )
    assert np.isnan(resampled_interval(0.7, samples[:1])).all()
    assert np.isnan(resampled_interval(0.7, np.full(9, 0.7))).all()


def test_the_rarest_classes_are_the_fewest_without_which_a_mean_has_an_interval() -> None:
    def effective(counts: list[int]) -> float:
        inverse = [1 / max(count, 3) for count in counts]
        return sum(inverse) ** 2 / sum(i**3 for i in inverse) if counts else 0.0

    rng = np.random.default_rng(6)
    for _ in range(200):
        counts = rng.choice([0, 1, 2, 5, 12, 29, 40, 300], rng.integers(1, 12))
        there = sorted((int(count), i) for i, count in enumerate(counts) if count)
        enough = [n for n in range(len(there) // 2 + 1) if effective([c for c, _ in there[n:]]) >= 30]
        expected = [i for _, i in there[: min(enough)]] if enough else []
        assert rarest_classes(counts).tolist() == expected
