"""Recall at a fixed false positive rate: against scikit-learn's ROC curve and the bootstrap."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import norm
from sklearn.metrics import roc_curve

from manyhot.core.estimates import Pooled
from manyhot.core.jackknife import jackknife_error, jackknife_interval
from manyhot.core.recall_at_fpr import recall_at_fpr
from manyhot.core.sets import NO, NO_LABEL, NOT_ASKED, YES, Case, LabelSets
from manyhot.errors import InputError

Array = npt.NDArray[Any]


def case_of(state: Array, scores: Array) -> Case:
    n, n_classes = state.shape
    rows, classes = np.nonzero(state != NOT_ASKED)
    labels = LabelSets(
        n_classes,
        np.append(0, np.cumsum(np.bincount(rows, minlength=n))).astype(np.int64),
        classes.astype(np.int32),
        state[rows, classes].astype(np.uint8),
        np.full(n, NO_LABEL, np.int32),
        np.ones(n, bool),
        asked_known=True,
    )
    return Case(labels, np.zeros((n, 1), np.int32), scores)


def pooled(state: Array, scores: Array, fpr: float) -> Pooled:
    estimate = recall_at_fpr(case_of(state, scores), fpr=fpr)
    assert isinstance(estimate, Pooled)
    return estimate


def one_class(positive: Array, negative: Array) -> tuple[Array, Array]:
    yes = np.arange(len(positive) + len(negative)) < len(positive)
    return np.where(yes, YES, NO)[:, None], np.append(positive, negative)[:, None]


def of_scikit_learn(state: Array, scores: Array, fpr: float, w: Array, masked: bool) -> float:
    counts = (state == YES) | (state == NO) if masked else np.ones(state.shape, bool)
    values = []
    for c in range(state.shape[1]):
        used = counts[:, c] & (w > 0)
        yes, score, weight = state[used, c] == YES, scores[used, c], w[used]
        if len(set(yes)) == 2:
            x, y, _ = roc_curve(yes, score, sample_weight=weight, drop_intermediate=False)
            values.append(y[x <= fpr + 1e-9].max())
    return float(np.mean(values)) if values else np.nan


@pytest.mark.parametrize("masked", [False, True])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_it_is_the_point_of_scikit_learns_roc_curve(masked: bool, data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 3)))
    state = data.draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 3)))
    scores = data.draw(hnp.arrays(np.float32, shape, elements=st.sampled_from([-1.5, 0.0, 0.25, 3.0])))
    w = data.draw(hnp.arrays(np.int64, shape[0], elements=st.integers(0, 3)))
    fpr = data.draw(st.sampled_from([0.01, 0.1, 0.25, 0.5, 1.0]))
    estimate = recall_at_fpr(case_of(state, scores), fpr=fpr, masked=masked)
    for weights in (None, w, w * 0.3):
        own = np.ones(len(w)) if weights is None else weights
        expected = of_scikit_learn(state, scores, fpr, own, masked)
        assert estimate.value(weights) == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_an_allowed_share_of_whole_images_is_not_lost_to_rounding() -> None:
    # 0.1 * 30 is a little more than 3, and 0.07 * 100 a little more than 7: both allow as many.
    for fpr, n, allowed in ((0.1, 30, 3), (0.07, 100, 7), (0.29, 100, 29)):
        state, scores = one_class(np.array([n - allowed - 0.5, 0.0]), np.arange(n, dtype=float))
        assert recall_at_fpr(case_of(state, scores), fpr=fpr).value() == 0.5


@pytest.mark.parametrize(("fpr", "shift"), [(0.02, 2.0), (0.05, 1.0), (0.2, 1.5)])
def test_the_standard_error_is_that_of_the_bootstrap_and_of_linnet(fpr: float, shift: float) -> None:
    rng = np.random.default_rng(2)
    n, n_positives = 3000, 400
    state, scores = one_class(rng.normal(shift, 1, n_positives), rng.normal(size=n))
    estimate = pooled(state, scores, fpr)
    assert estimate.left_out is not None
    error, _ = jackknife_error(estimate.left_out(None))
    resampled = [
        estimate.value(rng.multinomial(len(state), np.full(len(state), 1 / len(state)))) for _ in range(400)
    ]
    assert error == pytest.approx(np.std(resampled), rel=0.15)
    # Linnet 1987, with the true densities: recall at a fixed threshold, and the quantile that it is.
    threshold = norm.isf(fpr)
    recall, slope = norm.sf(threshold - shift), norm.pdf(threshold - shift) / norm.pdf(threshold)
    exact = np.sqrt(recall * (1 - recall) / n_positives + slope**2 * fpr * (1 - fpr) / n)
    assert error == pytest.approx(exact, rel=0.15)


def test_intervals_contain_the_recall() -> None:
    held = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        estimate = pooled(*one_class(rng.normal(2, 1, 100), rng.normal(size=1000)), 0.01)
        assert estimate.left_out is not None
        lo, hi = jackknife_interval(estimate.value(None), estimate.left_out(None))
        held += lo <= norm.sf(norm.isf(0.01) - 2) <= hi
    assert 0.92 <= held / 300 <= 0.98


@pytest.mark.parametrize(
    ("n_positives", "n", "fpr", "reason"),
    [
        (40, 1000, 0.01, ""),
        (29, 1000, 0.01, "there are fewer than 30 positives or allowed false positives"),
        (40, 900, 0.01, "there are fewer than 30 positives or allowed false positives"),
    ],
)
def test_it_needs_positives_and_allowed_false_positives(
    n_positives: int, n: int, fpr: float, reason: str
) -> None:
    rng = np.random.default_rng(0)
    state, scores = one_class(rng.normal(2, 1, n_positives), rng.normal(size=n))
    assert pooled(state, scores, fpr).doubt(None) == reason


@pytest.mark.parametrize("fpr", [0, -0.1, 1.5, np.nan])
def test_the_rate_is_a_share(fpr: float) -> None:
    with pytest.raises(InputError, match="The false positive rate is not a share of the negatives"):
        recall_at_fpr(case_of(*one_class(np.ones(2), np.zeros(2))), fpr=fpr)
