"""What leaving out an image changes, against computing without it; intervals, against resampling."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit, logit

from manyhot.core.estimates import Pooled
from manyhot.core.jackknife import jackknife_interval
from manyhot.core.sets import NO, NO_LABEL, NOT_ASKED, YES, Case, LabelSets
from manyhot.registry import get

Array = npt.NDArray[Any]
EXACT = [
    *("map_macro", "map_11point", "auroc_macro"),
    *(f"{name}_macro(threshold=0.25, link='identity')" for name in ("f1", "precision", "recall")),
]
FIRST_ORDER = ["map_micro", "auroc_micro"]


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


def draw(n: int, n_classes: int, rng: np.random.Generator, share: float = 0.3) -> tuple[Array, Array]:
    """Return label sets and scores of images some of which are harder than others."""
    yes = rng.random((n, n_classes)) < share * rng.random((n, 1)) * 2
    return yes, (rng.normal(size=yes.shape) + 1.5 * yes + 0.3 * rng.normal(size=(n, 1))).astype(np.float32)


def estimate_of(spec: str, case: Case, masked: bool = False) -> Pooled:
    estimate = get("metric", spec)(case, masked=masked)
    assert isinstance(estimate, Pooled)
    return estimate


def without_each(estimate: Pooled, inside: Array) -> Array:
    """Return the value without each image, minus the value, by computing it anew."""
    weights = np.where(np.eye(len(inside), dtype=bool), 0, inside[None])
    return np.array([estimate.value(w) for w in weights]) - estimate.value(inside)


@pytest.mark.parametrize("spec", EXACT)
@pytest.mark.parametrize("masked", [False, True])
@given(data=st.data())
@settings(max_examples=25)
def test_it_is_exact_for_means_over_classes(spec: str, masked: bool, data: st.DataObject) -> None:
    """With ties, infinite scores, unusable images, slices, and classes that vanish with an image."""
    shape = data.draw(st.tuples(st.integers(2, 8), st.integers(1, 4)))
    state = data.draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 3)))
    values = st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 0.25, 3.0, np.inf])
    scores = data.draw(hnp.arrays(np.float32, shape, elements=values))
    usable, inside = (
        data.draw(hnp.arrays(bool, shape[0], elements=st.sampled_from([True, True, False]))) for _ in "ab"
    )
    estimate = get("metric", spec)(case_of(state, scores, usable), masked=masked)
    counts = inside & estimate.scored
    if np.isnan(estimate.value(inside)):
        return
    changes = estimate.left_out(inside)[counts]
    np.testing.assert_allclose(changes, without_each(estimate, inside)[counts], atol=1e-12)


@pytest.mark.parametrize("spec", FIRST_ORDER)
@pytest.mark.parametrize("masked", [False, True])
def test_it_is_correct_to_first_order_for_one_ranking(spec: str, masked: bool) -> None:
    rng = np.random.default_rng(0)
    yes, scores = draw(150, 6, rng)
    state = np.where(yes, YES, rng.choice([NO, NOT_ASKED], yes.shape, p=[0.8, 0.2]))
    estimate, inside = estimate_of(spec, case_of(state, scores), masked), rng.random(150) < 0.9
    assert estimate.left_out is not None
    changes, exact = estimate.left_out(inside)[inside], without_each(estimate, inside)[inside]
    assert np.linalg.norm(changes - exact) < 0.03 * np.linalg.norm(exact)


@pytest.mark.parametrize("spec", EXACT[:1] + EXACT[2:] + FIRST_ORDER)
def test_it_is_minus_the_derivative_with_many_images(spec: str) -> None:
    """The influence function: the derivative by an image's weight; its sum is 0."""
    yes, scores = draw(1500, 3, np.random.default_rng(1))
    estimate = estimate_of(spec, case_of(np.where(yes, YES, NO), scores))
    assert estimate.left_out is not None
    changes, some = estimate.left_out(None), np.arange(0, 1500, 10)
    steps = np.where(np.arange(1500) == some[:, None], 1e-4, 0.0)
    slopes = np.array([estimate.value(1 + s) - estimate.value(1 - s) for s in steps]) / 2e-4
    assert np.linalg.norm(changes[some] + slopes) < 0.02 * np.linalg.norm(slopes)
    assert abs(changes.sum()) < 0.02 * np.abs(changes).sum()


@pytest.mark.parametrize("spec", EXACT + FIRST_ORDER)
def test_intervals_are_those_of_2000_plain_resamples(spec: str) -> None:
    """The bootstrap with the standard deviation on the logit scale, around the value."""
    rng = np.random.default_rng(2)
    yes, scores = draw(250, 3, rng)
    estimate = estimate_of(spec, case_of(np.where(yes, YES, NO), scores))
    assert estimate.left_out is not None
    assert estimate.doubt(None) == ""
    lo, hi = jackknife_interval(estimate.value(None), estimate.left_out(None))
    drawn = rng.multinomial(250, np.full(250, 1 / 250), 2000)
    logits = logit([estimate.value(w) for w in drawn])
    ends = expit(logit(estimate.value(None)) + np.array([-1.96, 1.96]) * logits.std())
    assert [lo, hi] == pytest.approx(ends, abs=(0.12 if "11point" in spec else 0.05) * (hi - lo))


def test_of_one_class_the_variance_of_auroc_is_that_of_delong() -> None:
    """The variance of its structural components, each with a divisor of the number less one."""
    rng = np.random.default_rng(3)
    yes = np.arange(400) < 150
    score = (rng.normal(size=400) + yes).astype(np.float32)
    estimate = estimate_of("auroc_macro", case_of(np.where(yes, YES, NO)[:, None], score[:, None]))
    assert estimate.left_out is not None
    higher = score[yes][:, None] > score[~yes]
    delong = higher.mean(1).var(ddof=1) / 150 + higher.mean(0).var(ddof=1) / 250
    changes = estimate.left_out(None)
    assert 399 / 400 * ((changes - changes.mean()) ** 2).sum() == pytest.approx(delong, rel=0.01)


@pytest.mark.parametrize("spec", ["map_macro", "f1_macro(threshold=0.25, link='identity')"])
def test_few_positives_have_no_interval_for_a_reason(spec: str) -> None:
    def doubt(*positives: int) -> str:
        yes = np.arange(400)[:, None] < np.array(positives)
        return estimate_of(spec, case_of(np.where(yes, YES, NO), yes.astype(np.float32))).doubt(None)

    assert doubt(30) == doubt(8, 9, 10, 11) == doubt(*[2] * 12) == doubt(10, 40, 40, 40, 40) == ""
    assert doubt(29) == "there are fewer than 30 positives"
    assert doubt(3, 40, 40) == "too few positives (4 effective, at least 30 needed)"


def test_auroc_needs_negatives_as_well() -> None:
    no = np.arange(400)[:, None] < 29
    estimate = estimate_of("auroc_macro", case_of(np.where(no, NO, YES), no.astype(np.float32)))
    assert estimate.doubt(None) == "there are fewer than 30 positives or negatives"
