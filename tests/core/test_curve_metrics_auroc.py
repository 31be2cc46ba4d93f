from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_auc_score

from manyhot.core.curve_metrics import auroc_macro, auroc_micro
from manyhot.core.estimates import Estimate
from manyhot.core.sets import NO, NO_LABEL, NOT_ASKED, YES, Case, LabelSets

Array = npt.NDArray[Any]
METRICS: dict[str, Callable[..., Estimate]] = {f.__name__: f for f in (auroc_macro, auroc_micro)}
names = pytest.mark.parametrize("name", METRICS)
masks = pytest.mark.parametrize("masked", [False, True])


def case_of(state: Array, scores: Array, usable: Array | None = None) -> Case:
    n, n_classes = state.shape
    rows, classes = np.nonzero(state != NOT_ASKED)
    labels = LabelSets(
        n_classes,
        np.append(0, np.cumsum(np.bincount(rows, minlength=n))).astype(np.int64),
        classes.astype(np.int32),
        state[rows, classes].astype(np.uint8),
        np.full(n, NO_LABEL, np.int32),
        np.ones(n, bool) if usable is None else usable,
        asked_known=True,
    )
    return Case(labels, np.zeros((n, 1), np.int32), scores)


def brute_force(name: str, state: Array, scores: Array, w: Array, masked: bool) -> float:
    """Compare each positive with each negative of its class, or of all classes; a tie counts half."""
    counts = (state == YES) | (state == NO) if masked else np.ones(state.shape, bool)
    weight = np.broadcast_to(w[:, None], state.shape) * counts
    columns = [*zip((state == YES).T, scores.T, weight.T, strict=True)]
    if name == "auroc_micro":
        columns = [tuple(np.concatenate(parts) for parts in zip(*columns, strict=True))]
    values = []
    for yes, score, v in columns:
        pairs = np.outer(v[yes], v[~yes])
        right = np.greater.outer(score[yes], score[~yes]) + np.equal.outer(score[yes], score[~yes]) / 2
        if pairs.sum() > 0:
            values.append((pairs * right).sum() / pairs.sum())
    return float(np.mean(values)) if values else np.nan


def large(dtype: npt.DTypeLike) -> tuple[Case, Array, Array, Array]:
    """Return a case of several blocks of images and classes with many ties, labels, scores and weights."""
    rng = np.random.default_rng(1)
    yes = rng.random((700, 40)) < 0.08
    scores = (((rng.normal(size=yes.shape) + 1.5 * yes) * 4).round() / 4).astype(dtype)
    weights = rng.multinomial(700, np.full(700, 1 / 700)).astype(float)
    return case_of(np.where(yes, YES, NOT_ASKED), scores), yes, scores.astype(np.float64), weights


@names
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_that_of_scikit_learn(name: str, dtype: npt.DTypeLike, weighted: bool) -> None:
    case, yes, scores, w = large(dtype)
    w = w if weighted else np.ones(len(w))
    found = METRICS[name](case).value(w if weighted else None)
    if name == "auroc_macro":
        expected = roc_auc_score(yes, scores, sample_weight=w)
    else:
        expected = roc_auc_score(yes.ravel(), scores.ravel(), sample_weight=np.repeat(w, 40))
    assert found == pytest.approx(expected, abs=1e-10)


@names
@masks
@given(data=st.data())
@settings(max_examples=30)
def test_equals_brute_force(name: str, masked: bool, data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 4)))
    state = data.draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 3)))
    dtype = data.draw(st.sampled_from([np.float16, np.float32, np.float64]))
    values = st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 0.25, 3.0, float(np.finfo(np.float16).max), np.inf])
    scores = data.draw(hnp.arrays(dtype, shape, elements=values))
    usable = data.draw(hnp.arrays(bool, shape[0], elements=st.sampled_from([True, True, False])))
    w = data.draw(hnp.arrays(np.int64, shape[0], elements=st.integers(0, 3)))
    estimate = METRICS[name](case_of(state, scores, usable), masked=masked)
    wide = scores.astype(np.float64)
    for weights in (None, w, w * 0.3):
        expected = brute_force(name, state, wide, usable * (1 if weights is None else weights), masked)
        assert estimate.value(weights) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_ties_by_hand() -> None:
    case = case_of(np.array([[YES], [NO], [NO]]), np.array([[1], [1], [0]], np.float32))
    assert auroc_macro(case).value() == auroc_micro(case).value() == (1 / 2 + 1) / 2


@names
def test_scores_without_information_give_one_half(name: str) -> None:
    state = np.where(np.arange(40).reshape(20, 2) % 3 == 0, YES, NO)
    assert METRICS[name](case_of(state, np.zeros((20, 2), np.float32))).value() == 0.5


def test_a_class_without_positives_or_negatives_does_not_count() -> None:
    state = np.array([[YES, YES, NO], [NO, YES, NO]])
    scores = np.array([[0, 0, 0], [1, 1, 1]], np.float32)
    assert auroc_macro(case_of(state, scores)).value() == 0
    assert np.isnan(auroc_macro(case_of(state[:, 1:], scores[:, 1:])).value())


@names
def test_a_mask_needs_recorded_noes(name: str) -> None:
    labels = LabelSets.from_lists([[0], [1, 2]], 3)
    case = Case(labels, np.zeros((2, 1), np.int32), np.zeros((2, 3), np.float32))
    assert np.isnan(METRICS[name](case, masked=True).value())
