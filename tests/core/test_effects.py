"""Effects: the paired t test where it is one, and coverage by simulation."""

import numpy as np
import pytest
from scipy import stats

from manyhot.core.effects import (
    Effect,
    SeedValues,
    Variance,
    contradict,
    effect_of,
    heterogeneity,
    images_variance,
    verdict_of,
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_one_cell_without_replicates_is_the_paired_t_test():
    a, b = normal(5), normal(5, seed=1) + 0.7
    found = effect_of([SeedValues(a - b)])
    wanted = stats.ttest_rel(a, b)
    interval = wanted.confidence_interval(0.95)
    assert found.p == pytest.approx(wanted.pvalue)
    assert (found.lo, found.hi) == pytest.approx(tuple(interval))
    assert (found.df, found.n_seeds) == (pytest.approx(4), 5)
    assert found.error_seeds == pytest.approx(stats.sem(a - b))
    assert found.error_images == 0


def test_two_cells_have_welchs_degrees_of_freedom():
    """The mean of two cells is half the difference of one and the other's negative: Welch's test."""
    a, b = normal(4), 3 * normal(7, seed=1) + 1
    found = effect_of([SeedValues(a), SeedValues(b)])
    wanted = stats.ttest_ind(a, -b, equal_var=False)
    assert found.df == pytest.approx(wanted.df)
    assert found.p == pytest.approx(wanted.pvalue)
    lo, hi = wanted.confidence_interval(0.95)
    assert (found.lo, found.hi) == pytest.approx((lo / 2, hi / 2))


def test_with_seeds_that_agree_only_images_are_left():
    replicates = np.tile(normal(1000), (3, 1))
    found = effect_of([SeedValues(np.full(3, 0.2), 0.2 + replicates)])
    error = replicates[0].std(ddof=1)
    t = stats.t(999)
    assert found.error_images == pytest.approx(error)
    assert found.hi == pytest.approx(0.2 + t.ppf(0.975) * error)
    assert found.p == pytest.approx(2 * t.sf(0.2 / error))
    assert np.isnan(found.d)


def test_cells_of_the_same_images_share_their_chance():
    """Two networks that go up and down with the images together are no two witnesses."""
    rows = np.tile(normal(500), (2, 1))
    same = effect_of([SeedValues(np.zeros(2), rows, "voc"), SeedValues(np.zeros(2), rows, "voc")])
    apart = effect_of([SeedValues(np.zeros(2), rows, "voc"), SeedValues(np.zeros(2), rows, "coco")])
    assert same.error_images == pytest.approx(rows[0].std(ddof=1))
    assert apart.error_images == pytest.approx(rows[0].std(ddof=1) / np.sqrt(2))
    opposed = effect_of([SeedValues(np.zeros(2), rows, "voc"), SeedValues(np.zeros(2), -rows, "voc")])
    assert opposed.error_images == 0


def test_standardised_and_wins_by_hand():
    found = effect_of([SeedValues(np.array([1.0, 2.0, 3.0])), SeedValues(np.array([0.0, 0.0, -3.0]))])
    # Means 2 and -1; sums of squares 2 and 6 with 2 degrees of freedom each: a variance of 2.
    exact = 0.7978845608  # Hedges' correction for 4: gamma(2) / (sqrt(2) gamma(1.5))
    assert found.value == pytest.approx(0.5)
    assert found.d == pytest.approx(0.5 / np.sqrt(2) * exact)
    assert found.wins == pytest.approx((3 + 0.5 + 0.5) / 6)


def test_a_single_seed_has_no_interval():
    found = effect_of([SeedValues(np.array([0.3])), SeedValues(np.array([0.1, 0.2]))])
    assert found.value == pytest.approx(0.225)
    assert np.isnan([found.lo, found.hi, found.p, found.df]).all()
    assert verdict_of(found, 1.0) == "undecided"


@pytest.mark.parametrize("value", [0.0, 0.5, 0.1 + 0.2 - 0.3])
def test_what_does_not_vary_is_not_certain(value):
    """Three networks that are right on each of 40 images may be wrong on others."""
    found = effect_of([SeedValues(np.full(3, value), np.full((3, 20), value))])
    assert found.value == pytest.approx(value)
    assert np.isnan([found.lo, found.hi, found.p, found.df, found.d]).all()
    assert verdict_of(found, 1.0) == "undecided"


def test_resamples_on_which_a_metric_is_undefined_are_left_out():
    rows = np.tile(np.append(normal(50), np.nan), (2, 1))
    found = effect_of([SeedValues(np.array([0.1, 0.2]), rows)])
    assert found.error_images == pytest.approx(rows[0, :50].std(ddof=1))
    unknown = effect_of([SeedValues(np.array([0.1, 0.2]), np.full((2, 5), np.nan))])
    assert np.isnan([unknown.lo, unknown.p, unknown.error_images]).all()


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="there is no cell"):
        effect_of([])
    cells = [SeedValues(np.zeros(2), np.zeros((2, r)), "voc") for r in (10, 20)]
    with pytest.raises(ValueError, match="10 and 20 resamples of the images of voc"):
        effect_of(cells)


def effect(lo, hi, **given):
    values = {
        "value": (lo + hi) / 2,
        "lo": lo,
        "hi": hi,
        "p": 1,
        "d": 0,
        "wins": 0,
        "error_images": 0,
        "df": 4,
    }
    return Effect(**{**values, "error_seeds": 1, "n_seeds": 3, **given})


LITTLE = ", perhaps by less than matters"


@pytest.mark.parametrize(
    ("lo", "hi", "said"),
    [
        (-0.4, 0.5, "same"),
        (0.1, 0.5, "same"),
        (0.1, 0.6, "better" + LITTLE),
        (0.5, 0.6, "better"),
        (-0.6, -0.1, "worse" + LITTLE),
        (-0.7, -0.5, "worse"),
        (-0.1, 0.6, "undecided"),
        (0.0, 0.6, "undecided"),
        (np.nan, np.nan, "undecided"),
    ],
)
def test_verdicts_by_the_rule(lo, hi, said):
    assert verdict_of(effect(lo, hi), 0.5) == said


@pytest.mark.parametrize(("p", "said"), [(0.049, "better"), (0.05, "undecided"), (np.nan, "undecided")])
def test_the_adjusted_p_decides(p, said):
    assert verdict_of(effect(0.6, 0.9), 0.5, p) == said
    assert verdict_of(effect(-0.2, 0.2), 0.5, p) == "same"


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        # Intervals on both sides of 0, though Q is small.
        ([(0.1, 9), (-9, -0.1)], True),
        # Q: four cells with a variance of 1.
        ([(4, 6), (3, 5), (-1.5, 0.5), (4, 6)], True),
        # The same Q, with all values on one side.
        ([(14, 16), (13, 15), (8.5, 10.5), (14, 16)], False),
        ([(-1, 2), (-2, 1)], False),
        ([(0.1, 9)], False),
        ([], False),
    ],
)
def test_cells_that_contradict_each_other(cells, said):
    effects = [effect(lo, hi, df=1e9) for lo, hi in cells]
    assert contradict(effects) == said
    assert verdict_of(effect(0.6, 0.9), 0.5, 0.01, effects) == ("goes both ways" if said else "better")


def test_heterogeneity_takes_the_variances_over_seeds_and_images():
    replicates = np.tile(normal(2000), (3, 1))
    cells = [SeedValues(normal(3, seed=1), replicates), SeedValues(normal(3, seed=2) + 4, 2 * replicates)]
    q, p = heterogeneity([effect_of([cell]) for cell in cells])
    v = [c.values.var(ddof=1) / 3 + c.replicates[0].var(ddof=1) for c in cells]
    assert q == pytest.approx((cells[1].values.mean() - cells[0].values.mean()) ** 2 / sum(v))
    assert 0 < p < 1
    assert np.isnan(heterogeneity([])).all()


def test_the_variance_over_images_may_come_from_a_table():
    cells = [SeedValues(normal(3, seed=k), normal(3, 40, seed=9 + k), f"{k}") for k in range(2)]
    whole, images = effect_of(cells), images_variance(cells)
    again = effect_of([SeedValues(cell.values) for cell in cells], images)
    assert vars(again) == pytest.approx(vars(whole))
    total = [cell.replicates.mean(0).var(ddof=1) / 4 for cell in cells]
    assert images == pytest.approx((sum(total), sum(total) ** 2 / sum(v**2 / 39 for v in total)))
    assert np.isnan(images_variance([SeedValues(np.zeros(2))]).df)
    assert effect_of(cells, Variance(0.0, np.nan)).error_images == 0


def crossed(rng, seeds, images, resamples):
    """Return what a study measures where seeds, images and both together each add their chance to 0."""
    table = 0.03 * rng.normal(size=(seeds, 1)) + 0.3 * rng.normal(size=(1, images))
    table = table + 0.3 * rng.normal(size=(seeds, images))
    drawn = rng.multinomial(images, np.full(images, 1 / images), size=resamples)
    return SeedValues(table.mean(1), table @ drawn.T / images)


def test_intervals_cover_the_truth():
    """At 95 % of 800 studies of three seeds and 100 images; the error of a share is 0.8 points."""
    rng = np.random.default_rng(5)
    found = [effect_of([crossed(rng, 3, 100, 100)]) for _ in range(800)]
    covered = np.mean([e.lo <= 0 <= e.hi for e in found])
    assert 0.93 <= covered <= 0.99


def test_a_seed_without_a_value_is_refused():
    with pytest.raises(ValueError, match="the value of a seed is NaN: leave the seed out"):
        effect_of([SeedValues(np.array([0.1, np.nan, 0.2]))])
