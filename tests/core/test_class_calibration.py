"""Calibration by class, compared with plain loops, scikit-learn and simulated probabilities."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from answered_sets import sets_of
from manyhot.core.class_calibration import class_calibration
from manyhot.core.clusters import Clusters
from manyhot.core.confidence_metrics import classwise_ece, classwise_ece_asked, classwise_ece_set
from manyhot.core.sets import NO, NOT_ASKED, UNCLEAR, YES, Case, LabelSets


def case_of(sets, p):
    return Case.from_scores(sets, p.astype(np.float32), k=1, kind="probability")


def found_of(state, p, usable=None):
    return class_calibration(case_of(sets_of(state, usable), p), rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def answers():
    rng = np.random.default_rng(1)
    p = rng.beta(0.4, 1.2, (700, 4))
    state = np.where(rng.random(p.shape) < p**1.5, YES, NO)
    state[rng.random(p.shape) < 0.1] = UNCLEAR
    state[rng.random(p.shape) < 0.2] = NOT_ASKED
    return state, p.astype(np.float32), rng.random(len(p)) < 0.9


def test_numbers_of_each_class_are_those_of_scikit_learn(answers):
    state, p, usable = answers
    found = found_of(state, p, usable)
    for c in range(p.shape[1]):
        own = usable & np.isin(state[:, c], (NO, YES))
        y, q = state[own, c] == YES, p[own, c].astype(float)
        share, mean = calibration_curve(y, q, n_bins=15)
        counts = np.bincount(np.minimum((q * 15).astype(int), 14), minlength=15)
        counts = counts[counts > 0]
        assert found.ece[c] == pytest.approx(counts @ np.abs(share - mean) / len(y))
        assert found.brier[0][c] == pytest.approx(brier_score_loss(y, q))
        assert found.predicted[c] == pytest.approx(q.mean())
        assert found.prevalence[0][c] == pytest.approx(y.mean())
        assert found.excess[0][c] == pytest.approx(q.mean() - y.mean())
        assert (found.n[c], found.n_positives[c]) == (len(y), y.sum())
        assert found.n_unclear[c] == np.count_nonzero(state[usable, c] == UNCLEAR)
        assert found.n_unasked[c] == np.count_nonzero(state[usable, c] == NOT_ASKED)
        for values in (found.prevalence, found.excess, found.brier):
            assert values[1][c] < values[0][c] < values[2][c]


def test_a_class_that_is_never_absent_is_left_out(answers):
    """Unless it is present on all images: its answers alone say nothing about the other images."""
    state, p, _ = answers
    state = state.copy()
    state[:, 3] = np.where(state[:, 3] == YES, YES, NOT_ASKED)
    found, others = found_of(state, p), found_of(state[:, :3], p[:, :3])
    assert np.isnan([found.ece[3], found.predicted[3], found.prevalence[0][3], found.brier[0][3]]).all()
    assert (found.n[3], found.n_positives[3]) == (np.count_nonzero(state[:, 3] == YES),) * 2
    for name in ("weight", "confidence", "right"):
        np.testing.assert_allclose(getattr(found.bins, name), getattr(others.bins, name))
    weights = np.random.default_rng(0).integers(0, 3, len(p)).astype(float)
    for w in (None, weights):
        one, other = (
            classwise_ece_asked(case_of(sets_of(s), q)) for s, q in ((state, p), (state[:, :3], p[:, :3]))
        )
        assert one.value(w) == pytest.approx(other.value(w))
    state[:, 3] = YES
    assert found_of(state, p).ece[3] == pytest.approx(1 - p[:, 3].mean(), abs=1e-6)
    expected = np.mean([*found_of(state, p).ece])
    assert classwise_ece_asked(case_of(sets_of(state), p)).value(None) == pytest.approx(expected)


def test_intervals_over_clusters_are_those_of_a_bootstrap_of_clusters():
    """Five images of a camera share labels and most of their scores; whole cameras are drawn by hand."""
    rng, n = np.random.default_rng(3), 300
    camera = np.repeat(np.arange(n), 5)
    p = np.clip(rng.beta(1, 2, (n, 2))[camera] + rng.normal(0, 0.02, (5 * n, 2)), 0.001, 0.999)
    p = p.astype(np.float32)
    yes = (rng.random((n, 2)) < p[::5] ** 0.8)[camera]
    case = case_of(sets_of(np.where(yes, YES, NO), None), p)
    clusters = Clusters.of(camera)
    found = class_calibration(case, rng=np.random.default_rng(0), clusters=clusters)
    narrow = class_calibration(case, rng=np.random.default_rng(0))
    drawn = rng.integers(n, size=(3000, n))
    for c in range(2):
        q, y = (values[:, c].reshape(n, 5).astype(float) for values in (p, yes))
        for name, each in (("prevalence", y), ("excess", q - y), ("brier", (q - y) ** 2)):
            ends = np.quantile(each.mean(axis=1)[drawn].mean(axis=1), [0.025, 0.975])
            (_, *own), (_, *images) = ([end[c] for end in getattr(f, name)] for f in (found, narrow))
            assert own == pytest.approx(ends, abs=0.012)
            assert own[1] - own[0] > 1.7 * (images[1] - images[0])
    assert (found.ece == narrow.ece).all()
    assert (found.hi - found.lo)[5] > 1.5 * (narrow.hi - narrow.lo)[5]


def test_bins_of_all_classes_are_those_of_scikit_learn(answers):
    state, p, usable = answers
    found = found_of(state, p, usable)
    own = usable[:, None] & np.isin(state, (NO, YES))
    share, mean = calibration_curve(state[own] == YES, p[own].astype(float), n_bins=15)
    filled = found.bins.weight > 0
    assert found.bins.weight.sum() == np.count_nonzero(own)
    assert (found.bins.right / found.bins.weight)[filled] == pytest.approx(share)
    assert (found.bins.confidence / found.bins.weight)[filled] == pytest.approx(mean)
    assert (found.lo[filled] <= share).all()
    assert (share <= found.hi[filled]).all()


def test_calibrated_sigmoids_are_calibrated_although_images_have_no_class():
    # The simulation of a reader: 35 % of 20,000 images have none of eight findings.
    rng = np.random.default_rng(0)
    p = rng.beta(0.25, 1.8, (20_000, 8))
    yes = rng.random(p.shape) < p
    case = case_of(LabelSets.from_lists([np.flatnonzero(row) for row in yes], 8), p)
    assert np.mean(~yes.any(axis=1)) == pytest.approx(0.35, abs=0.01)
    assert classwise_ece_asked(case).value(None) == pytest.approx(0.0051, abs=5e-5)
    assert classwise_ece_set(case).value(None) == pytest.approx(0.0444, abs=5e-5)
    assert np.count_nonzero(classwise_ece_asked(case).scored) == len(p)


def test_the_metric_is_the_mean_of_the_classes_that_were_asked(answers):
    state, p, usable = answers
    state = state.copy()
    state[:, 2] = NOT_ASKED
    found = found_of(state, p, usable)
    value = classwise_ece_asked(case_of(sets_of(state, usable), p)).value(None)
    assert value == pytest.approx(found.ece[[0, 1, 3]].mean())
    assert np.isnan(found.ece[2])
    assert found.n[2] == 0


def test_with_one_label_on_each_image_it_is_that_of_labels():
    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.ones(5), 300)
    label = rng.integers(0, 5, 300)
    case = case_of(LabelSets.from_lists([[y] for y in label], 5, label=label), p)
    assert classwise_ece_asked(case).value(None) == pytest.approx(classwise_ece(case).value(None))


def test_chance_and_intervals_hold_in_simulated_data():
    # Binomial 95 % ranges of 400 data sets: 2.9 to 7.1 % above chance, and 92.9 to 97.1 % covered.
    above, covered = np.zeros(2), np.zeros(2)
    for seed in range(400):
        rng = np.random.default_rng(seed)
        p = rng.beta(0.5, [1.5, 9.5], (200, 2))
        calibrated, low = (np.where(rng.random(p.shape) < q, YES, NO) for q in (p, 0.8 * p))
        found = class_calibration(case_of(sets_of(calibrated), p), rng=rng)
        above += found.ece > found.chance_hi
        _, lo, hi = class_calibration(case_of(sets_of(low), p), rng=rng).excess
        true = 0.2 * np.array([0.25, 0.05])
        covered += (lo <= true) & (true <= hi)
    assert (above / 400 < 0.071).all()
    assert (covered / 400 > 0.929).all()


def test_chance_allows_for_clusters_in_simulated_data():
    # One draw of the labels of each claim with eight images: 150 independent cases, not 1,200. By images, all
    # classes are above chance; the binomial 99 % range of 5 % of 300 classes is 2 to 8.3 %.
    above, too_high, ratio, claim = 0, 0, [], np.repeat(np.arange(150), 8)
    for seed in range(150):
        rng = np.random.default_rng(seed)
        p = rng.beta(0.6, 1.5, (150, 2))
        calibrated, high = (np.where(rng.random(p.shape) < q, YES, NO) for q in (p, p**2))
        found, other = (
            class_calibration(
                case_of(sets_of(state[claim]), p[claim]), rng=rng, clusters=Clusters(claim, len(p))
            )
            for state in (calibrated, high)
        )
        above += np.count_nonzero(found.ece > found.chance_hi)
        too_high += np.count_nonzero(other.ece > other.chance_hi)
        one = class_calibration(case_of(sets_of(calibrated), p), rng=rng)
        ratio.append(found.chance_hi / one.chance_hi)
    assert 0.02 < above / 300 < 0.083
    assert too_high / 300 > 0.7
    assert np.mean(ratio) == pytest.approx(1, abs=0.03)


def test_a_class_without_positives_has_an_interval_that_allows_some():
    p = np.full((100, 1), 0.02)
    found = found_of(np.full((100, 1), NO), p)
    assert found.excess[0][0] == pytest.approx(0.02)
    assert found.excess[1][0] < 0
    assert np.isnan(found.brier[1][0])
