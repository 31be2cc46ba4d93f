"""Intervals of shares of questions, several of which are about one image."""

import numpy as np
import pytest
from scipy import stats

from manyhot.core.answers import Answers, GoldenAnswers
from manyhot.core.raters import agreement_with_others, golden_quality
from manyhot.core.share_intervals import clustered_interval, totals

R, N = 4, 25
RNG = np.random.default_rng(3)
IMAGE = np.repeat(np.arange(N), RNG.integers(1, 5, N))
TRUTH = RNG.random(len(IMAGE)) < 0.4
EASY = RNG.random(N)[IMAGE]
RIGHT = RNG.random((R, len(IMAGE))) < 0.4 + 0.6 * EASY
ANSWER = np.where(RIGHT == TRUTH, 2, RNG.integers(0, 2, RIGHT.shape)).astype(np.int8)
RATER, QUESTION = np.divmod(np.arange(R * len(IMAGE)), len(IMAGE))
ANSWERS = Answers(QUESTION, RATER, ANSWER.ravel(), len(IMAGE), R)


def wilson(k, n, z):
    """Return the two shares whose score test of k of n is at z: the roots of a quadratic."""
    return sorted(np.roots([n + z**2, -2 * k - z**2, k**2 / n]).real)


def by_hand(num, den):
    """Return the interval of a ratio of sums over images from the residuals of the images, one by one."""
    counted = [(a, b) for a, b in zip(num, den, strict=True) if b]
    k, n, m = sum(a for a, _ in counted), sum(b for _, b in counted), len(counted)
    p = k / n
    variance = m / (m - 1) * sum(((a - p * b) / n) ** 2 for a, b in counted)
    effect = max(variance / (p * (1 - p) / n), 1)
    t, z = stats.t.ppf(0.975, m - 1), stats.norm.ppf(0.975)
    effect *= (t / z) ** 2
    return wilson(k / effect, n / effect, z)


def of_images(values, questions):
    return [values[questions & (i == IMAGE)].sum() for i in range(N)]


@pytest.mark.parametrize(("truths", "of"), [((0, 1), TRUTH | True), ((1,), TRUTH), ((0,), ~TRUTH)])
def test_shares_of_golden_questions(truths, of):
    golden = GoldenAnswers(ANSWERS, TRUTH * 3, np.full(len(IMAGE), 3), np.arange(len(IMAGE)), IMAGE)
    value, lo, hi = golden_quality(golden).share(truths)
    for rater in range(R):
        right = (ANSWER[rater] == 2) == TRUTH
        assert value[rater] == pytest.approx(right[of].mean())
        expected = by_hand(of_images(right, of), of_images(np.ones(len(IMAGE)), of))
        assert [lo[rater], hi[rater]] == pytest.approx(expected)


def test_agreement_with_others():
    (share, lo, hi), n = agreement_with_others(ANSWERS, IMAGE)
    every = np.ones(len(IMAGE), bool)
    for rater in range(R):
        alike = (np.delete(ANSWER, rater, 0) == ANSWER[rater]).sum(0)
        assert (share[rater], n[rater]) == (alike.sum() / (3 * len(IMAGE)), 3 * len(IMAGE))
        expected = by_hand(of_images(alike, every), of_images(np.full(len(IMAGE), 3), every))
        assert [lo[rater], hi[rater]] == pytest.approx(expected)


def test_equal_cases():
    """If all are right, the questions of an image are as one: of ten images with three each, ten cases."""
    lo, hi = clustered_interval(np.full(10, 3), np.full(10, 3), totals(np.zeros(10, int), 1))
    t, z = stats.t.ppf(0.975, 9), stats.norm.ppf(0.975)
    n = 10 * (z / t) ** 2
    assert (lo[0], hi[0]) == pytest.approx((n / (n + z**2), 1))


def test_one_image_has_no_interval():
    ends = clustered_interval([2, 0], [3, 0], totals(np.zeros(2, int), 1))
    assert np.isnan(ends).all()
