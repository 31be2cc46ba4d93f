"""Two groups of models at equal accuracy: closed forms, and a plain loop over models."""

import numpy as np
import pytest
from scipy.stats import t as student

from manyhot.core.comparison import Families
from manyhot.core.equal_accuracy import ModelGroup, _values_at, at_equal_accuracy, count_swaps

RNG = np.random.default_rng(0)


def group(x, y, families):
    return ModelGroup(np.array(x, float), np.array(y, float), Families.of([str(f) for f in families]))


def drawn(n, lo, hi, gain):
    """Models of eight families of different sizes, on a curved relation."""
    x = RNG.uniform(lo, hi, n)
    families = RNG.integers(0, 8, n) * RNG.integers(0, 2, n)
    own = RNG.normal(0, 0.01, 8)[families]
    return x, x**1.5 + gain + own + RNG.normal(0, 0.005, n), families


def loop(a, b, half=0.05):
    """The average difference and its interval, model by model and family by family."""

    def value_at(x, y, at):
        apart = np.abs(x - at) / half
        weights = np.where(apart < 1, (1 - apart**3) ** 3, 0)
        rows = weights > 0
        if np.ptp(x[rows]) == 0:
            return y[rows].mean()
        slope, intercept = np.polyfit(x[rows], y[rows], 1, w=np.sqrt(weights[rows]))
        return intercept + slope * at

    (ax, ay, af), (bx, by, bf) = a, b

    def enough(at):
        for x, families in ((ax, af), (bx, bf)):
            near = np.abs(x - at) < half
            if not (x.min() <= at <= x.max() and near.sum() >= 5 and len(set(families[near])) >= 2):
                return False
        return True

    shared = np.array([enough(v) for v in bx])

    def average(in_a, in_b):
        rows = np.flatnonzero(shared & in_b)
        return np.mean([by[i] - value_at(ax[in_a], ay[in_a], bx[i]) for i in rows])

    everyone = np.ones(len(ax), bool), np.ones(len(bx), bool)
    full = average(*everyone)
    weights = np.zeros(len(ax))
    for v in bx[shared]:
        own = np.clip(1 - (np.abs(ax - v) / half) ** 3, 0, None) ** 3
        weights += own / own.sum()
    variances, freedom = [], []
    for side, families, part in ((0, af, weights), (1, bf, shared.astype(float))):
        names = [f for f in np.unique(families) if part[families == f].sum() > 0]
        without = []
        for name in names:
            inside = list(everyone)
            inside[side] = families != name
            without.append(average(*inside))
        variances.append((len(names) - 1) / len(names) * sum((w - full) ** 2 for w in without))
        shares = np.array([part[families == f].sum() for f in names]) / part.sum()
        freedom.append(1 / (shares**2).sum() - 1)
    df = sum(variances) ** 2 / sum(v**2 / f for v, f in zip(variances, freedom, strict=True))
    half_length = student.ppf(0.975, df) * np.sqrt(sum(variances))
    return full, (full - half_length, full + half_length), int(shared.sum())


def test_the_average_is_that_of_a_plain_loop():
    a, b = drawn(150, 0.4, 0.9, 0.0), drawn(40, 0.3, 0.8, 0.05)
    local, *_ = at_equal_accuracy(group(*a), group(*b))
    value, interval, n = loop(a, b)
    assert local.b - local.a == pytest.approx(value, abs=1e-12)
    assert local.interval == pytest.approx(interval, abs=1e-9)
    assert (local.method, local.at, local.n_b) == ("local regression", None, n)
    assert n < 40


def test_groups_on_lines_differ_by_what_is_between_the_lines():
    x = np.linspace(0.5, 0.7, 21)
    families = np.arange(21) % 7
    a, b = group(x, x - 0.1, families), group(x + 0.02, (x + 0.02) - 0.06, families)
    local, _, *along = at_equal_accuracy(a, b)
    assert local.b - local.a == pytest.approx(0.04)
    assert [d.at for d in along] == pytest.approx(np.arange(0.52, 0.705, 0.01))
    np.testing.assert_allclose([d.b - d.a for d in along], 0.04, atol=1e-12)
    np.testing.assert_allclose([d.a for d in along], [d.x - 0.1 for d in along], atol=1e-12)


def test_effective_robustness_is_relative_to_the_logit_line_of_the_first_group():
    """Taori et al. 2020: y minus the value of the baseline's line, here one that is exact."""
    x = np.linspace(0.5, 0.8, 30)
    odds = x / (1 - x)
    y = odds**0.9 / (1 + odds**0.9)  # slope 0.9 on the logit scale
    families = np.arange(30) % 6
    _, line, *_ = at_equal_accuracy(group(x, y, families), group(x, y + 0.03, families))
    assert (line.method, line.n_a) == ("logit line", 30)
    assert line.b - line.a == pytest.approx(0.03, abs=1e-9)


@pytest.mark.parametrize("start", [0.8, 0.95])
def test_nothing_without_accuracies_in_common(start):
    """One model at the end of the other group's range is not enough either."""
    x = np.linspace(0.5, 0.8, 30)
    families = np.arange(30) % 6
    assert list(at_equal_accuracy(group(x, x, families), group(x + start - 0.5, x, families))) == []


def test_one_family_near_is_not_enough():
    """Unless the group is one family."""
    x = np.linspace(0.5, 0.8, 30)
    first, far = np.arange(30) % 6, [0] * 29 + [1]
    assert next(at_equal_accuracy(group(x, x, first), group(x, x, far))).n_b < 10
    assert next(at_equal_accuracy(group(x, x, first), group(x, x, [0] * 30))).n_b == 30


def test_few_families_give_no_interval():
    x = np.linspace(0.5, 0.8, 30)
    a, b = group(x, x, np.arange(30) % 6), group(x, x + RNG.normal(0, 0.01, 30), np.arange(30) % 4)
    for found in at_equal_accuracy(a, b):
        assert np.isnan(found.interval).all()


def test_swaps_are_pairs_of_both_groups():
    a, b = group([0.5, 0.7], [0.5, 0.6], [0, 1]), group([0.6, 0.4, 0.7], [0.4, 0.45, 0.9], [0, 1, 2])
    # 0.5 against 0.6 is the better at y; 0.7 is better than 0.6 and 0.4 at both; a tie is no swap.
    assert count_swaps(a, b) == 1


def test_models_of_one_accuracy_have_their_mean_there():
    """A line through them would have any slope; without the family of the last two, the first is left."""
    same = group([0.7, 0.7, 0.7], [0.2, 0.4, 0.9], [0, 1, 1])
    assert _values_at(same, np.array([0.7]))[0] == pytest.approx([0.5, 0.65, 0.2])
