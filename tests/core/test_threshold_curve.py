"""Precision and recall against scikit-learn, their intervals against plain resampling, and the choice."""

import numpy as np
import pytest
from scipy.stats import binom, norm, t
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


def made(p, truth, image, intervals=False):
    return curve(p, truth, image, intervals=intervals)


def test_curve_is_that_of_scikit_learn(data):
    p, truth, image = data
    precision, recall, threshold = precision_recall_curve(truth, p)
    found = made(p, truth, image)
    assert found.threshold.tolist() == threshold.tolist()
    assert found.precision == pytest.approx(precision[:-1])
    assert found.recall == pytest.approx(recall[:-1])
    assert (found.n_yes, found.n_questions, found.n_images) == (truth.sum(), 300, 60)
    assert np.isnan(found.precision_lo).all()


def wilson(share, n):
    """Return Wilson's interval, for any n: the roots of (p - x)² = z² x (1 - x) / n."""
    z2 = norm.ppf(0.975) ** 2
    return np.sort(np.roots([1 + z2 / n, -2 * share - z2 / n, share**2]).real)


def test_intervals_are_those_of_wilson_with_a_design_effect(data):
    p, truth, image = data
    found = made(p, truth, image, intervals=True)
    row = found.at(0.5)
    above = p >= found.threshold[row]
    for name, den in (("precision", above), ("recall", truth)):
        value, n = getattr(found, name)[row], den.sum()
        # The variance of a ratio over clusters, by linearisation (Cochran 1977, section 6.4).
        rest = np.array([np.sum(((above & truth) - value * den)[image == i]) for i in range(60)])
        m = len({*image[den].tolist()})
        effect = np.sum(rest**2) * m / (m - 1) / n**2 / (value * (1 - value) / n)
        effect = max(effect, 1) * (t.ppf(0.975, m - 1) / norm.ppf(0.975)) ** 2
        ends = getattr(found, f"{name}_lo")[row], getattr(found, f"{name}_hi")[row]
        assert ends == pytest.approx(wilson(value, n / effect), abs=1e-6)


def test_an_interval_of_questions_with_the_same_truth_is_that_of_images():
    image = np.repeat(np.arange(12), 3)
    found = made(np.full(36, 0.9), np.full(36, True), image, intervals=True)
    n = 12 * (norm.ppf(0.975) / t.ppf(0.975, 11)) ** 2
    assert (found.precision_lo[0], found.precision_hi[0]) == pytest.approx(wilson(1.0, n))


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
    exact = curve(p, p > 0.5, np.arange(5000), intervals=False, thresholds=[0.8, 0.123, 1.5])
    assert MAX_THRESHOLDS <= len(exact.threshold) <= MAX_THRESHOLDS + 2
    for threshold in (0.8, 0.123):
        assert exact.n_above[exact.at(threshold)] == np.count_nonzero(p >= threshold)


def test_golden_questions_that_are_all_no(data):
    p, _, image = data
    found = made(p, np.zeros(300, bool), image, intervals=True)
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
    found = made(nothing, nothing.astype(bool), nothing.astype(int), intervals=True)
    assert (len(found.threshold), found.n_questions, found.at(0.5)) == (0, 0, None)


def test_cross_fitted_values_are_those_of_thresholds_chosen_on_other_images(data):
    p, truth, image = data
    found = cross_fit(
        p, truth, image, "precision", 0.8, resamples=100, rng=np.random.default_rng(3), folds=60
    )
    above = np.zeros(300, bool)
    for i in range(60):  # one image a fold, so that the order of the images does not matter
        rest = image != i
        precision, _, threshold = precision_recall_curve(truth[rest], p[rest])
        above[~rest] = p[~rest] >= threshold[precision[:-1] >= 0.8].min()
    assert found.precision[0] == pytest.approx(truth[above].mean())
    assert found.recall[0] == pytest.approx(above[truth].mean())
    assert 0 <= found.precision[1] < found.precision[0] < found.precision[2] <= 1
    assert found.n_images == 60


def test_a_goal_with_few_expected_errors_has_no_interval(data):
    """Of some 80 questions above the threshold of a precision of 0.98, 1.6 would be errors."""
    _, truth, image = data
    p = np.where(truth, 0.8, 0.2) + np.random.default_rng(1).normal(0, 0.12, 300)
    found = cross_fit(p, truth, image, "precision", 0.98, resamples=100, rng=np.random.default_rng(3))
    assert np.isnan(found.precision[1:]).all()
    assert found.recall[1] < found.recall[0] < found.recall[2]


@pytest.mark.parametrize("n", [40, 155])
def test_cross_fitted_intervals_hold(n):
    """200 data sets of seven questions an image, by the binomial's bound of 99.9 %."""
    rng = np.random.default_rng(n)

    def drawn(n):
        truth, image = rng.random(7 * n) < 0.22, np.repeat(np.arange(n), 7)
        noise = 1.2 * rng.standard_normal(7 * n) + 0.5 * rng.standard_normal(n)[image]
        return 1 / (1 + np.exp(-np.where(truth, 1.2, -2.0) - noise)), truth, image

    p, truth, _ = drawn(30_000)
    held, used = np.zeros(2), np.zeros(2)
    for _ in range(200):
        sample = drawn(n)
        try:
            threshold = made(*sample).for_precision(0.9)
        except InputError:
            continue
        found = cross_fit(*sample, "precision", 0.9, resamples=50, rng=rng)
        true = truth[p >= threshold].mean(), (p[truth] >= threshold).mean()
        ends = np.array([found.precision[1:], found.recall[1:]])
        held += (ends[:, 0] <= true) & (true <= ends[:, 1])
        used += ~np.isnan(ends[:, 0])
    assert used[1] > 150
    assert (held >= binom.ppf(0.001, used, 0.935)).all()
