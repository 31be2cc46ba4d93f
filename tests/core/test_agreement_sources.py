"""What sources say about the same pairs: shares, conflicts and held-out measures, by plain loops."""

import math

import numpy as np
import pytest
from scipy.special import stdtrit
from scipy.stats import binomtest, norm
from sklearn.metrics import cohen_kappa_score, precision_score, recall_score

from manyhot.core.agreement import conflicting, held_out_measures, source_shares
from manyhot.core.answers import MAYBE, NO, SILENT, YES


def draw(seed, n=600, sources=3, images=80):
    """Return answers of sources that mostly agree, some maybe and some not asked, and the images."""
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.4
    flipped = rng.random((n, sources)) < 0.2
    said = np.where(truth[:, None] ^ flipped, YES, NO).astype(np.int8)
    said[rng.random(said.shape) < 0.1] = MAYBE
    said[rng.random(said.shape) < 0.3] = SILENT
    return said, rng.integers(0, images, n)


@pytest.mark.parametrize("seed", range(3))
def test_shares_and_conflicts_are_those_of_a_loop(seed):
    said, _ = draw(seed)
    for answers, share, conflict in zip(said.tolist(), source_shares(said), conflicting(said), strict=True):
        asked = [a for a in answers if a != SILENT]
        wanted = sum({YES: 1, MAYBE: 0.5, NO: 0}[a] for a in asked) / len(asked) if asked else math.nan
        assert share == pytest.approx(wanted, nan_ok=True)
        assert conflict == (YES in asked and NO in asked)


def pairs_that_count(said, source, others):
    """Return the answers of the source, those predicted, the rows, and the number that both sides answer."""
    own, predicted, rows, shared = [], [], [], 0
    for row, answers in enumerate(said.tolist()):
        votes = [{YES: 1, MAYBE: 0.5, NO: 0}[answers[o]] for o in others if answers[o] != SILENT]
        if not votes or answers[source] == SILENT:
            continue
        shared += 1
        if answers[source] != MAYBE and 2 * sum(votes) != len(votes):
            own.append(answers[source] == YES)
            predicted.append(2 * sum(votes) > len(votes))
            rows.append(row)
    return np.array(own), np.array(predicted), np.array(rows), shared


@pytest.mark.parametrize("others", [[1], [1, 2]])
def test_held_out_measures_are_those_of_scikit_learn(others):
    said, image = draw(7)
    own, predicted, rows, shared = pairs_that_count(said, 0, others)
    found = {m.name: m for m in held_out_measures(said, image, 0, np.array(others))}
    assert found["precision"].value == pytest.approx(precision_score(own, predicted))
    assert found["recall"].value == pytest.approx(recall_score(own, predicted))
    assert found["specificity"].value == pytest.approx(recall_score(~own, ~predicted))
    assert found["kappa"].value == pytest.approx(cohen_kappa_score(own, predicted))
    counted = {"precision": predicted, "recall": own, "specificity": ~own, "kappa": np.ones(len(own), bool)}
    for name, where in counted.items():
        assert found[name].n == where.sum()
        assert found[name].n + found[name].n_skipped == shared
        assert found[name].n_images == len(set(image[rows[where]].tolist()))


def leave_out_images(statistic, images):
    return np.array([statistic(images != left) for left in np.unique(images)])


def half_width(statistic, images):
    """Return half of the interval by the jackknife, with Satterthwaite's degrees of freedom."""
    squares = leave_out_images(statistic, images)
    squares = (squares - squares.mean()) ** 2
    n = len(squares)
    df = min(2 * squares.sum() ** 2 / (squares**2).sum(), n - 1)
    return stdtrit(df, 0.975) * math.sqrt((n - 1) / n * squares.sum())


def test_kappa_leaves_out_one_image_after_the_other():
    said, image = draw(11, n=400, images=60)
    own, predicted, rows, _ = pairs_that_count(said, 0, [1, 2])
    kappa = {m.name: m for m in held_out_measures(said, image, 0, np.array([1, 2]))}["kappa"]
    half = half_width(lambda left: cohen_kappa_score(own[left], predicted[left]), image[rows])
    ends = np.tanh(np.arctanh(kappa.value) + np.array([-1, 1]) * half / (1 - kappa.value**2))
    assert (kappa.lo, kappa.hi) == pytest.approx(tuple(ends))


def wilson_over_images(right, images):
    """Return Wilson's interval by Korn and Graubard 1998, with the variance between images."""
    n, p, names = len(right), right.mean(), np.unique(images)
    m = len(names)
    apart = [(right[images == name] - p).sum() for name in names]
    effect = max(sum(a * a for a in apart) * m / (m - 1) / n**2 / (p * (1 - p) / n), 1)
    z = norm.ppf(0.975)
    n /= effect * (stdtrit(m - 1, 0.975) / z) ** 2
    ends = np.roots([1 + z**2 / n, -2 * p - z**2 / n, p**2])  # (p - x)^2 = z^2 x (1 - x) / n
    return tuple(sorted(ends))


def test_shares_have_wilsons_interval_over_images():
    said, image = draw(11, n=400, images=60)
    own, predicted, rows, _ = pairs_that_count(said, 0, [1, 2])
    found = {m.name: m for m in held_out_measures(said, image, 0, np.array([1, 2]))}
    for name, right, counted in (
        ("recall", predicted, own),
        ("precision", own, predicted),
        ("specificity", ~predicted, ~own),
    ):
        ends = wilson_over_images(right[counted], image[rows][counted])
        assert (found[name].lo, found[name].hi) == pytest.approx(ends)


def test_one_error_does_not_make_an_interval_wide():
    """A jackknife interval reached from 0.44 to 1.00, and one on golden questions from 0.90 to 1.00."""
    said = np.full((54, 2), YES, np.int8)
    said[0, 1] = said[53] = NO  # one error among 53, and an answer no, which both give
    image = np.r_[np.arange(49), np.arange(5)]
    recall = {m.name: m for m in held_out_measures(said, image, 0, np.array([1]))}["recall"]
    assert (recall.value, recall.n, recall.n_images) == (52 / 53, 53, 49)
    expected = binomtest(52, 53).proportion_ci(method="wilson")
    assert (recall.lo, recall.hi) == pytest.approx(tuple(expected), abs=0.01)


def test_a_side_with_one_answer_cannot_contradict():
    said, image = draw(17)
    only_yes = said.copy()
    only_yes[:, 0] = np.where(said[:, 0] == YES, YES, SILENT)
    values = {m.name: m.value for m in held_out_measures(only_yes, image, 0, np.array([1, 2]))}
    assert not math.isnan(values["recall"])
    assert all(math.isnan(values[name]) for name in ("precision", "specificity", "kappa"))
    values = {m.name: m.value for m in held_out_measures(only_yes, image, 1, np.array([0]))}
    assert not math.isnan(values["precision"])
    assert all(math.isnan(values[name]) for name in ("recall", "specificity", "kappa"))


def test_sources_without_shared_pairs_have_no_measures():
    said = np.array([[YES, SILENT], [SILENT, NO]], np.int8)
    for measure in held_out_measures(said, np.array([0, 1]), 0, np.array([1])):
        assert (measure.n, measure.n_skipped, measure.n_images) == (0, 0, 0)
        assert math.isnan(measure.value)
        assert math.isnan(measure.lo)
