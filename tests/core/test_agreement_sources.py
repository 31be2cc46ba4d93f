"""What sources say about the same pairs: shares, conflicts and held-out measures, by plain loops."""

import math

import numpy as np
import pytest
from scipy.special import expit, logit, stdtrit
from sklearn.metrics import cohen_kappa_score, precision_score, recall_score

from manyhot.core.agreement import conflicting, held_out_measures, source_shares
from manyhot.core.answers import MAYBE, NO, SILENT, YES
from manyhot.core.share_intervals import proportion_interval


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


def test_intervals_leave_out_one_image_after_the_other():
    said, image = draw(11, n=400, images=60)
    own, predicted, rows, _ = pairs_that_count(said, 0, [1, 2])
    found = {m.name: m for m in held_out_measures(said, image, 0, np.array([1, 2]))}
    kappa, recall = found["kappa"], found["recall"]
    # Kappa is on the scale of Fisher's z, a share on that of the logit.
    half = half_width(lambda left: cohen_kappa_score(own[left], predicted[left]), image[rows])
    ends = np.tanh(np.arctanh(kappa.value) + np.array([-1, 1]) * half / (1 - kappa.value**2))
    assert (kappa.lo, kappa.hi) == pytest.approx(tuple(ends))
    half = half_width(lambda left: predicted[own][left].mean(), image[rows][own])
    ends = expit(logit(recall.value) + np.array([-1, 1]) * half / (recall.value * (1 - recall.value)))
    assert (recall.lo, recall.hi) == pytest.approx(tuple(ends))


def test_shares_of_images_have_wilsons_interval():
    said, _ = draw(13, n=100)
    own, predicted, _, _ = pairs_that_count(said, 0, [1])
    found = {m.name: m for m in held_out_measures(said, np.arange(100), 0, np.array([1]))}
    lo, hi = proportion_interval(int((own & predicted).sum()), int(own.sum()))
    assert (found["recall"].lo, found["recall"].hi) == pytest.approx((lo, hi))


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
