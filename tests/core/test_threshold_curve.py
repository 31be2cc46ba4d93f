"""Precision and recall against scikit-learn, their intervals against plain resampling, and the choice."""

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import precision_recall_curve

from manyhot.core.threshold_curve import MAX_THRESHOLDS, cross_fit, curve
from manyhot.errors import InputError


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(60), 5)
    truth = rng.random(300) < 0.3
    p = np.clip(truth * 0.4 + rng.random(300) * 0.6, 0, 1).round(2)
    return p, truth, image


def made(p, truth, image, resamples=0, seed=1):
    return curve(p, truth, image, resamples=resamples, rng=np.random.default_rng(seed))


def test_curve_is_that_of_scikit_learn(data):
    p, truth, image = data
    precision, recall, threshold = precision_recall_curve(truth, p)
    found = made(p, truth, image)
    assert found.threshold.tolist() == threshold.tolist()
    assert found.precision == pytest.approx(precision[:-1])
    assert found.recall == pytest.approx(recall[:-1])
    assert (found.n_yes, found.n_questions, found.n_images) == (truth.sum(), 300, 60)
    assert np.isnan(found.precision_lo).all()


def test_intervals_are_those_of_redrawn_images(data):
    p, truth, image = data
    found = made(p, truth, image, resamples=2000)
    row = found.at(0.5)
    rng, drawn = np.random.default_rng(7), []
    for _ in range(2000):
        rows = np.concatenate([np.flatnonzero(image == i) for i in rng.integers(0, 60, 60)])
        kept = p[rows] >= found.threshold[row]
        drawn.append((truth[rows][kept].mean(), kept[truth[rows]].mean()))
    (p_lo, r_lo), (p_hi, r_hi) = np.quantile(drawn, [0.025, 0.975], axis=0)
    ends = found.precision_lo, found.precision_hi, found.recall_lo, found.recall_hi
    assert [e[row] for e in ends] == pytest.approx([p_lo, p_hi, r_lo, r_hi], abs=0.01)


def test_choice_by_hand():
    found = made(np.array([0.1, 0.4, 0.6, 0.9]), np.array([False, True, False, True]), np.arange(4))
    # From each threshold on: precision 1/2, 2/3, 1/2, 1; recall 1, 1, 1/2, 1/2.
    assert found.for_precision(0.6) == 0.4
    assert found.for_precision(0.9) == 0.9
    assert found.for_recall(0.9) == 0.4
    assert found.for_recall(0.5) == 0.9
    assert found.at(0.61) == 3
    assert found.at(0.95) is None


def test_many_probabilities_make_a_curve_of_a_thousand():
    rng = np.random.default_rng(0)
    p = rng.random(5000)
    found = made(p, rng.random(5000) < p, np.arange(5000))
    assert len(found.threshold) == MAX_THRESHOLDS
    assert (found.threshold[0], found.threshold[-1]) == (p.min(), p.max())
    assert found.n_above[0] == 5000
    # Where the labels are cut it is exact: between two of a thousand lie about five questions.
    exact = curve(p, p > 0.5, np.arange(5000), resamples=0, rng=rng, thresholds=[0.8, 0.123, 1.5])
    assert MAX_THRESHOLDS <= len(exact.threshold) <= MAX_THRESHOLDS + 2
    for threshold in (0.8, 0.123):
        assert exact.n_above[exact.at(threshold)] == np.count_nonzero(p >= threshold)


def test_golden_questions_that_are_all_no(data):
    p, _, image = data
    found = made(p, np.zeros(300, bool), image, resamples=10)
    assert (found.precision == 0).all()
    assert np.isnan(found.recall).all()
    assert np.isnan(found.recall_lo).all()
    with pytest.raises(InputError) as error:
        found.for_recall(0.9)
    assert str(error.value) == (
        "No threshold reaches this recall on the golden questions.\n  got:     0.9\n"
        "  do:      add golden questions with the truth yes; none of the 300 has it"
    )


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (
            lambda found: found.for_precision(0.99),
            "No threshold reaches this precision on the golden questions.\n  got:     0.99\n"
            "  allowed: up to 0.5000",
        ),
        (
            lambda found: found.for_precision(90),
            "The precision is not a share.\n  got:     90\n  allowed: above 0, up to 1",
        ),
        (
            lambda found: found.for_recall(0),
            "The recall is not a share.\n  got:     0\n  allowed: above 0, up to 1",
        ),
    ],
)
def test_bad_input(work, message):
    found = made(np.array([0.2, 0.8]), np.array([True, False]), np.arange(2))
    with pytest.raises(InputError) as error:
        work(found)
    assert str(error.value) == message


def test_no_golden_question_at_all():
    nothing = np.empty(0)
    found = made(nothing, nothing.astype(bool), nothing.astype(int), resamples=10)
    assert (len(found.threshold), found.n_questions, found.at(0.5)) == (0, 0, None)


def test_cross_fitted_values_are_those_of_thresholds_chosen_on_other_images(data):
    p, truth, image = data
    found = cross_fit(p, truth, image, lambda c: c.for_precision(0.8), rng=np.random.default_rng(3), folds=60)
    above = np.zeros(300, bool)
    for i in range(60):  # one image a fold, so that the order of the images does not matter
        rest = image != i
        precision, _, threshold = precision_recall_curve(truth[rest], p[rest])
        above[~rest] = p[~rest] >= threshold[precision[:-1] >= 0.8].min()
    assert found.precision[0] == pytest.approx(truth[above].mean())
    assert found.recall[0] == pytest.approx(above[truth].mean())
    assert 0 <= found.precision[1] < found.precision[0] < found.precision[2] <= 1
    assert found.n_images == 60


@pytest.mark.parametrize("n", [40, 155])
def test_cross_fitted_intervals_hold(n):
    """200 data sets of seven questions an image, by the binomial's bound of 99.9 %."""
    rng = np.random.default_rng(n)

    def drawn(n):
        truth, image = rng.random(7 * n) < 0.22, np.repeat(np.arange(n), 7)
        noise = 1.2 * rng.standard_normal(7 * n) + 0.5 * rng.standard_normal(n)[image]
        return 1 / (1 + np.exp(-np.where(truth, 1.2, -2.0) - noise)), truth, image

    p, truth, _ = drawn(30_000)
    held, used = np.zeros(2), 0
    for _ in range(200):
        sample = drawn(n)
        try:
            threshold = made(*sample).for_precision(0.9)
        except InputError:
            continue
        found = cross_fit(*sample, lambda c: c.for_precision(0.9), rng=rng)
        true = truth[p >= threshold].mean(), (p[truth] >= threshold).mean()
        held += [lo <= t <= hi for (_, lo, hi), t in zip((found.precision, found.recall), true, strict=True)]
        used += 1
    assert (held >= binom.ppf(0.001, used, 0.935)).all()
