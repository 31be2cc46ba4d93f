"""What leaving out each image changes, against evaluating without it. Values: test_confidence.py."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhot.core.jackknife import jackknife_error, jackknife_interval
from manyhot.core.sets import Case, LabelSets
from manyhot.registry import get

METRICS = [
    name.format(end)
    for end in ("", "_set")
    for name in ("aurc{}", "eaurc{}", "accuracy_at_coverage{}(coverage=1)", "error_auroc{}")
]


def case_of(n, levels, rng):
    """Return a case of three classes, with confidences that are tied if there are few levels."""
    first = rng.integers(0, 3, n)
    confidence = 0.4 + 0.59 * rng.integers(0, levels, n) / levels
    scores = np.repeat(((1 - confidence) / 2)[:, None], 3, 1).astype(np.float32)
    scores[np.arange(n), first] = confidence
    label = np.where(rng.random(n) < confidence, first, (first + 1) % 3)
    label[rng.random(n) < 0.1] = -1
    lists = [np.unique(c[c >= 0]) for c in np.stack([label, rng.integers(-1, 3, n)], 1)]
    return Case.from_scores(LabelSets.from_lists(lists, 3, label=label), scores, k=3, kind="probability")


@pytest.mark.parametrize("name", METRICS)
@given(st.integers(2, 25), st.sampled_from([2, 5, 1000]), st.integers(0, 2**32 - 1))
def test_leaving_out_each_image_is_exact(name, n, levels, seed):
    rng = np.random.default_rng(seed)
    estimate = get("metric", name)(case_of(n, levels, rng))
    inside = rng.random(n) < 0.9
    changes = estimate.left_out(inside)
    value = estimate.value(inside)
    for i in np.flatnonzero(inside & estimate.scored):
        rest = inside.copy()
        rest[i] = False
        if (rest & estimate.scored).any():
            np.testing.assert_allclose(changes[i], estimate.value(rest) - value, atol=1e-12)
    assert not changes[~estimate.scored].any()


def binary_case(confidence, right):
    """Return a case of two classes, in which the first is valid if the prediction is right."""
    label = np.where(right, 0, 1)
    scores = np.stack([confidence, 1 - confidence], 1)
    sets = LabelSets.from_lists([[c] for c in label], 2, label=label)
    return Case.from_scores(sets, scores, k=2, kind="probability")


def accuracy_of_first(right, order, coverage):
    """Return the accuracy of the first images in an order, of which the last counts in part."""
    limit = coverage * len(right)
    return float(np.clip(limit - np.arange(len(right)), 0, 1) @ right[order] / limit)


@pytest.mark.parametrize("coverage", [0.2, 0.5, 0.9])
@pytest.mark.parametrize(("n", "levels"), [(300, None), (1500, None), (1500, 7)])
def test_error_of_the_accuracy_at_a_coverage_is_that_of_the_bootstrap(n, levels, coverage):
    rng = np.random.default_rng(n)
    confidence = 0.5 + (rng.random(n) if levels is None else rng.integers(0, levels, n) / levels) / 2.01
    right = rng.random(n) < confidence
    estimate = get("metric", f"accuracy_at_coverage(coverage={coverage})")(binary_case(confidence, right))
    error, _ = jackknife_error(estimate.left_out(None))
    values = []
    for _ in range(2000):
        drawn = rng.integers(0, n, n)
        # Ties in random order, whose mean is that of images that count in part.
        order = np.lexsort((rng.random(n), -confidence[drawn]))
        values.append(accuracy_of_first(right[drawn], order, coverage))
    # Random ties add a little to the error.
    assert error == pytest.approx(np.std(values), rel=0.1 if levels is None else 0.15)


def test_an_error_at_the_boundary_of_the_coverage_does_not_widen_the_interval():
    n = 1501
    wrong = np.zeros(n, bool)
    wrong[[200, 700, -40]] = True
    wrong[-40:] = True
    confidence, drawn = np.linspace(0.999, 0.55, n), np.random.default_rng(0).integers(0, n, (4000, n))
    widths = []
    for boundary in (1340, 1350, 1360):
        right = ~wrong
        right[boundary] = False
        estimate = get("metric", "accuracy_at_coverage(coverage=0.9)")(binary_case(confidence, right))
        value = estimate.value(None)
        lo, hi = jackknife_interval(value, estimate.left_out(None))
        bootstrap = [accuracy_of_first(right, np.sort(images), 0.9) for images in drawn]
        least, most = np.percentile(bootstrap, [2.5, 97.5])
        assert lo < least < value < most
        assert hi - lo < 3 * (most - least)  # with 3 errors, it is wider on the logit scale
        widths.append(hi - lo)
    assert max(widths) < 1.6 * min(widths)
