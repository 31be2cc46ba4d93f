"""Draws of label sets, compared with exact expectations and Rubin's rule for multiple imputation."""

import numpy as np
import pytest
from scipy.stats import chisquare

from manyhot.core.accuracy import real1
from manyhot.core.estimates import Ratio
from manyhot.core.posterior import draw_sets, share_above, weighted_values
from manyhot.core.sets import NO, UNCLEAR, YES, Case, LabelSets
from manyhot.registry import get
from manyhot.tables.array_inputs import as_labels
from manyhot.tables.arrays import label_sets
from manyhot.testing import random_case


def test_classes_are_drawn_independently():
    rng = np.random.default_rng(0)
    p = np.array([[0.2, 0.9, np.nan], [1.0, 0.0, 0.5]], np.float32)
    sets = label_sets(as_labels(p, n_classes=3, label_values="p"))
    drawn = np.array([draw_sets(sets, rng).state == YES for _ in range(4000)])
    assert drawn.mean(0) == pytest.approx([0.2, 0.9, 1, 0, 0.5], abs=0.03)
    assert np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1] == pytest.approx(0, abs=0.05)


def test_one_class_is_drawn_per_image():
    counts = np.array([[3, 1, 0, 0], [0, 0, 0, 0], [0, 0, 2, 2]])
    sets = label_sets(as_labels(counts, n_classes=4, label_values="counts"))
    rng = np.random.default_rng(1)
    drawn = [draw_sets(sets, rng) for _ in range(2000)]
    assert {tuple(d.size.tolist()) for d in drawn} == {(1, 0, 1)}
    first = np.bincount([d.first[0] for d in drawn], minlength=4)
    assert first[2:].sum() == 0
    assert chisquare(first[:2], [1500, 500]).pvalue > 0.001


def test_classes_without_probability_keep_their_state():
    states = np.array([YES, UNCLEAR, NO], np.uint8)
    sets = LabelSets(
        3,
        np.array([0, 3]),
        np.arange(3, dtype=np.int32),
        states,
        np.array([-1], np.int32),
        np.ones(1, bool),
        p=np.array([np.nan, np.nan, 1], np.float32),
    )
    assert draw_sets(sets, np.random.default_rng(0)).state.tolist() == [YES, UNCLEAR, YES]


def test_weights():
    rng = np.random.default_rng(2)
    case = random_case(rng)
    weights = rng.integers(0, 3, (4, len(case.labels))).astype(float)
    weights[0] = 0
    for name in ("real1", "mla", "map_macro", "jaccard(threshold=0.5)"):
        estimate = get("metric", name)(case)
        expected = [estimate.value(w) for w in weights]
        assert weighted_values(estimate, weights) == pytest.approx(expected, nan_ok=True)


def test_variances_add_up():
    """The variance over raters and images is W + B, as in Rubin's rule (doi 10.1002/9780470316696)."""
    rng = np.random.default_rng(3)
    n, draws = 400, 2000
    p = rng.beta(0.6, 0.4, n)
    joint, raters = [], []
    everyone = np.ones(n, bool)
    for _ in range(draws):
        right = Ratio((rng.random(n) < p), everyone, everyone)
        weights = np.bincount(rng.integers(0, n, n), minlength=n).astype(float)
        joint.append(weighted_values(right, weights[None])[0])
        raters.append(right.value())
    between = (p * (1 - p)).sum() / n**2
    within = p.mean() * (1 - p.mean()) / n
    assert np.var(raters) == pytest.approx(between, rel=0.1)
    assert np.var(joint) == pytest.approx(within + between, rel=0.1)


def test_share_above():
    a, b = np.array([0.1, 0.5, 0.5, np.nan]), np.array([0.2, 0.4, 0.5, 1])
    assert share_above(a, b) == 0.5
    assert np.isnan(share_above(a[3:], b[3:]))


def exact(p, best, exclusive):
    """Return numerator and denominator of the expected accuracy, and the variance of the mean of one draw.

    A drawn image counts if its set is not empty; given p, images are independent.
    """
    n = np.arange(len(p))
    hit = p[n, best] / p.sum(1) if exclusive else p[n, best]
    some = np.ones(len(p)) if exclusive else 1 - np.prod(1 - p, axis=1)
    share = hit.sum() / some.sum()
    # By the delta method; exact if all images count.
    variance = (hit * (1 - share) ** 2 + (some - hit) * share**2 - (hit - share * some) ** 2).sum()
    return hit.sum(), some.sum(), variance / some.sum() ** 2


@pytest.mark.parametrize("kind", ["shares", "p"])
def test_monte_carlo_means_agree_with_exact_expectations(kind):
    rng = np.random.default_rng(5)
    n, c, draws = 400, 5, 300
    p = rng.dirichlet(np.full(c, 0.4), n) if kind == "shares" else rng.beta(0.3, 0.6, (n, c))
    p = p.astype(np.float32).astype(float)
    scores = (p + rng.normal(0, 0.3, p.shape)).astype(np.float32)
    best = scores.argmax(1)
    sets = label_sets(as_labels(p, n_classes=c, label_values=kind))
    case = Case.from_scores(sets, scores)
    hits, some, variance = exact(p, best, kind == "shares")
    found = [real1(case.with_labels(draw_sets(sets, np.random.default_rng(s)))) for s in range(draws)]
    values = np.array([estimate.value() for estimate in found])
    assert values.mean() == pytest.approx(hits / some, abs=4 * np.sqrt(variance / draws))
    assert values.std(ddof=1) == pytest.approx(np.sqrt(variance), rel=0.15)
    # Numerator and denominator have exact expectations also where their ratio has none.
    for part, mean in (("num", hits), ("den", some)):
        sums = np.array([getattr(estimate, part).sum() for estimate in found], float)
        assert sums.mean() == pytest.approx(mean, abs=4 * np.sqrt(n / 4 / draws) + 1e-3)


@pytest.mark.parametrize("kind", ["shares", "p"])
def test_shares_and_sizes_of_draws_have_exact_expectations(kind):
    rng = np.random.default_rng(6)
    n, c, draws = 300, 4, 400
    p = rng.dirichlet(np.ones(c), n) if kind == "shares" else rng.beta(0.5, 0.5, (n, c))
    sets = label_sets(as_labels(p, n_classes=c, label_values=kind))
    drawn = [draw_sets(sets, np.random.default_rng(s)) for s in range(draws)]
    size = np.mean([d.size for d in drawn], axis=0)
    q = p / p.sum(1, keepdims=True) if kind == "shares" else p
    spread = np.zeros(n) if kind == "shares" else (q * (1 - q)).sum(1)
    assert (np.abs(size - q.sum(1)) <= 5 * np.sqrt(spread / draws) + 1e-6).all()
    share = np.mean([np.bincount(d.classes[d.state == YES], minlength=c) / n for d in drawn], axis=0)
    assert share == pytest.approx(q.mean(0), abs=5 * np.sqrt((q * (1 - q)).sum(0).max() / n**2 / draws))
