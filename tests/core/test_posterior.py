"""Draws of label sets, compared with exact expectations and Rubin's rule for multiple imputation."""

import numpy as np
import pytest
from scipy.stats import chisquare

from manyhot.core.estimates import Ratio
from manyhot.core.posterior import draw_sets, share_above, weighted_values
from manyhot.core.sets import NO, UNCLEAR, YES, LabelSets
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
