import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit, softmax
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    fbeta_score,
    hamming_loss,
    jaccard_score,
    precision_score,
    recall_score,
)

from manyhot.core.estimates import Estimate, Ratio
from manyhot.core.macro_metrics import f1_macro, f1_of_averages, precision_macro, recall_macro
from manyhot.core.set_metrics import (
    f1_micro,
    f1_samples,
    hamming,
    jaccard,
    precision_micro,
    recall_micro,
    subset_accuracy,
)
from manyhot.core.sets import NO, NO_LABEL, NOT_ASKED, YES, Case, LabelSets
from manyhot.errors import InputError
from manyhot.registry import get, options_of

Array = npt.NDArray[Any]
Problem = tuple[Array, Array, Array, Array]
METRICS: dict[str, Callable[..., Estimate]] = {
    f.__name__: f
    for f in (
        *(subset_accuracy, jaccard, f1_samples, hamming, f1_micro, precision_micro, recall_micro),
        *(f1_macro, precision_macro, recall_macro, f1_of_averages),
    )
}
each_metric = pytest.mark.parametrize("name", METRICS)
each_mask = pytest.mark.parametrize("masked", [False, True])
few = settings(max_examples=15)


def case_of(state: Array, scores: Array, usable: Array | None = None) -> Case:
    """Build a case from a matrix of states; its arrays are read-only, so that a metric cannot change them."""
    n, n_classes = state.shape
    rows, classes = np.nonzero(state != NOT_ASKED)
    arrays = [
        np.append(0, np.cumsum(np.bincount(rows, minlength=n))).astype(np.int64),
        classes.astype(np.int32),
        state[rows, classes].astype(np.uint8),
        np.full(n, NO_LABEL, np.int32),
        np.ones(n, bool) if usable is None else usable.copy(),
        np.zeros((n, 1), np.int32),
        scores.copy(),
    ]
    for array in arrays:
        array.flags.writeable = False
    return Case(LabelSets(n_classes, *arrays[:5], asked_known=True), *arrays[5:])


def counts(yes: Array, said: Array, weight: Array) -> tuple[float, float, float]:
    """Count true positives, false positives and false negatives, cell by cell."""
    tp = fp = fn = 0.0
    for y, p, w in zip(yes.tolist(), said.tolist(), weight.tolist(), strict=True):
        tp, fp, fn = tp + w * (y and p), fp + w * (p and not y), fn + w * (y and not p)
    return tp, fp, fn


def f1(tp: float, fp: float, fn: float) -> float:
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn > 0 else np.nan


def share(name: str, tp: float, fp: float, fn: float) -> float:
    """Return F1, precision or recall by counts; NaN of a class that does not count."""
    kind, _, average = name.partition("_")
    if kind == "f1":
        return f1(tp, fp, fn)
    counted, whole = {"precision": (tp + fp + fn, tp + fp), "recall": (tp + fn, tp + fn)}[kind]
    if whole == 0:
        return 0.0 if average == "macro" and counted > 0 else np.nan
    return tp / whole


def of_image(name: str, yes: Array, said: Array) -> float:
    if name == "subset_accuracy":
        return float(yes.tolist() == said.tolist()) if len(yes) else np.nan
    either = set(np.flatnonzero(yes)) | set(np.flatnonzero(said))
    if not either:
        return 1.0 if len(yes) else np.nan
    both = len(set(np.flatnonzero(yes)) & set(np.flatnonzero(said)))
    return both / len(either) if name == "jaccard" else 2 * both / (yes.sum() + said.sum())


def brute_force(name: str, problem: Problem, threshold: float, masked: bool) -> float:
    state, scores, usable, weights = problem
    yes, said, w = state == YES, scores.astype(float) >= threshold, weights * usable
    account = (state == YES) | (state == NO) if masked else np.ones(state.shape, bool)
    if name in ("subset_accuracy", "jaccard", "f1_samples"):
        values = np.array([of_image(name, y[a], p[a]) for a, y, p in zip(account, yes, said, strict=True)])
        kept = ~np.isnan(values) & (w > 0)
        return float(np.average(values[kept], weights=w[kept])) if kept.any() else np.nan
    cells = np.broadcast_to(w[:, None], state.shape)
    tp, fp, fn = counts(yes[account], said[account], cells[account])
    if name.endswith("_micro"):
        return share(name, tp, fp, fn)
    if name == "hamming":
        return float((fp + fn) / cells[account].sum()) if cells[account].sum() > 0 else np.nan
    if name == "f1_of_averages":
        names = ("precision_macro", "recall_macro")
        precision, recall = (brute_force(part, problem, threshold, masked) for part in names)
        return 2 * precision * recall / (precision + recall) if precision + recall != 0 else 0.0
    columns = [(y[a], p[a], w[a]) for a, y, p in zip(account.T, yes.T, said.T, strict=True)]
    if masked and name != "recall_macro":  # a class counts only if an image is known to be without it
        columns = [c for c in columns if c[2][~c[0]].sum() > 0]
    values = np.array([share(name, *counts(*c)) for c in columns])
    return float(np.mean(values[~np.isnan(values)])) if not np.isnan(values).all() else np.nan


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Draw states, scores of which many equal the threshold of 0.25, usable images and integer weights."""
    n, n_classes = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    state = draw(hnp.arrays(np.uint8, (n, n_classes), elements=st.integers(0, 3)))
    dtype = draw(st.sampled_from([np.float16, np.float32]))
    scores = draw(
        hnp.arrays(dtype, (n, n_classes), elements=st.sampled_from([-np.inf, -1.5, 0.0, 0.25, 3.0]))
    )
    usable = draw(hnp.arrays(bool, n, elements=st.sampled_from([True, True, True, False])))
    return state, scores, usable, draw(hnp.arrays(np.int64, n, elements=st.integers(0, 3)))


def value(name: str, case: Case, weights: Array | None = None, *, masked: bool = False) -> float:
    return METRICS[name](case, threshold=0.25, link="identity", masked=masked).value(weights)


def same(a: float, b: float) -> bool:
    return bool(np.isclose(a, b, rtol=1e-12, atol=1e-12, equal_nan=True))


def cf1(yes: Array, said: Array, **options: Any) -> float:
    options |= {"average": "macro", "zero_division": np.nan}
    precision, recall = (score(yes, said, **options) for score in (precision_score, recall_score))
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("name", "reference", "options"),
    [
        ("subset_accuracy", accuracy_score, {}),
        ("jaccard", jaccard_score, {"average": "samples", "zero_division": 1}),
        ("jaccard", jaccard_score, {"average": "samples", "zero_division": 0}),
        ("f1_samples", f1_score, {"average": "samples", "zero_division": 1}),
        ("f1_samples", f1_score, {"average": "samples", "zero_division": 0}),
        ("f1_samples", fbeta_score, {"average": "samples", "zero_division": 1, "beta": 2}),
        ("f1_samples", fbeta_score, {"average": "samples", "zero_division": 0, "beta": 0.5}),
        ("hamming", hamming_loss, {}),
        ("f1_micro", f1_score, {"average": "micro"}),
        ("f1_micro", fbeta_score, {"average": "micro", "beta": 2}),
        ("f1_micro", fbeta_score, {"average": "micro", "beta": 0.5}),
        ("f1_macro", fbeta_score, {"average": "macro", "zero_division": np.nan, "beta": 2}),
        ("f1_macro", fbeta_score, {"average": "macro", "zero_division": np.nan, "beta": 0.5}),
        ("f1_macro", f1_score, {"average": "macro", "zero_division": np.nan}),
        ("precision_micro", precision_score, {"average": "micro"}),
        ("recall_micro", recall_score, {"average": "micro"}),
        ("precision_macro", precision_score, {"average": "macro", "zero_division": np.nan}),
        ("recall_macro", recall_score, {"average": "macro", "zero_division": np.nan}),
        ("f1_of_averages", cf1, {}),
    ],
)
def test_equals_scikit_learn(
    name: str, reference: Callable[..., float], options: dict[str, Any], weighted: bool, dtype: npt.DTypeLike
) -> None:
    rng = np.random.default_rng(1)
    yes = rng.random((700, 40)) < 0.08
    scores = (rng.normal(size=yes.shape) + 1.5 * yes).astype(dtype)
    yes[:7], yes[7:12] = False, True
    yes[:, 3], scores[:, 3] = False, -9  # neither positive nor predicted
    scores[0] = np.where(np.arange(40) == 3, -9, 2)
    scores[1:4] = -9  # nothing predicted, and nothing positive
    said = scores >= np.asarray(0.7, dtype)
    weights = rng.multinomial(700, np.full(700, 1 / 700)).astype(float) if weighted else np.ones(700)
    assert not (yes | said).any(1).all()
    expected = reference(yes, said, sample_weight=weights, **options)
    own = {"zero_division": options["zero_division"]} if name in ("jaccard", "f1_samples") else {}
    own |= {"beta": options["beta"]} if "beta" in options else {}
    case = case_of(np.where(yes, YES, NOT_ASKED), scores)
    estimate = METRICS[name](case, threshold=0.7, link="identity", **own)
    assert estimate.value(weights if weighted else None) == pytest.approx(expected, abs=1e-12)


@each_metric
@each_mask
@given(problem=problems())
@settings(max_examples=40)
def test_equals_brute_force(name: str, masked: bool, problem: Problem) -> None:
    state, scores, usable, weights = problem
    estimate = METRICS[name](case_of(state, scores, usable), threshold=0.25, link="identity", masked=masked)
    once = (state, scores, usable, np.ones(len(usable)))
    assert same(estimate.value(None), brute_force(name, once, 0.25, masked))
    assert same(estimate.value(weights), brute_force(name, problem, 0.25, masked))
    assert not (estimate.scored & ~usable).any()
    if isinstance(estimate, Ratio):
        assert not estimate.num[~estimate.scored].any()
        assert not estimate.den[~estimate.scored].any()


@each_metric
@each_mask
@given(problem=problems(), seed=st.integers(0, 2**32 - 1))
@few
def test_order_of_images_and_classes_does_not_count(
    name: str, masked: bool, problem: Problem, seed: int
) -> None:
    state, scores, usable, weights = problem
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(state.shape[0]), rng.permutation(state.shape[1])
    before = value(name, case_of(state, scores, usable), weights, masked=masked)
    moved = case_of(state[rows][:, columns], scores[rows][:, columns], usable[rows])
    assert same(value(name, moved, weights[rows], masked=masked), before)


@each_metric
@each_mask
@given(problem=problems())
@few
def test_weights_are_repetition_removal_and_have_no_scale(name: str, masked: bool, problem: Problem) -> None:
    state, scores, usable, weights = problem
    estimate = METRICS[name](case_of(state, scores, usable), threshold=0.25, link="identity", masked=masked)
    again, kept = np.repeat(np.arange(len(weights)), weights), weights > 0
    repeated = value(name, case_of(state[again], scores[again], usable[again]), masked=masked)
    removed = value(name, case_of(state[kept], scores[kept], usable[kept]), masked=masked)
    assert same(estimate.value(weights), repeated)
    assert same(estimate.value(weights * 0.3), repeated)
    assert same(estimate.value(kept), removed)


@each_metric
@given(problem=problems(), data=st.data())
@few
def test_masked_cells_are_inert(name: str, problem: Problem, data: st.DataObject) -> None:
    state, scores, usable, weights = problem
    other = data.draw(hnp.arrays(scores.dtype, scores.shape, elements=st.sampled_from([-4.0, 0.25, np.nan])))
    changed = np.where((state == YES) | (state == NO), scores, other)
    before = value(name, case_of(state, scores, usable), weights, masked=True)
    assert same(value(name, case_of(state, changed, usable), weights, masked=True), before)


@each_metric
@each_mask
@given(problem=problems())
@few
def test_perfect_scores_give_the_best_value(name: str, masked: bool, problem: Problem) -> None:
    state, _, usable, _ = problem
    result = value(name, case_of(state, (state == YES).astype(np.float32), usable), masked=masked)
    assert np.isnan(result) or same(result, 0.0 if name == "hamming" else 1.0)


def test_by_hand() -> None:
    state = np.array([[YES, NO, NO], [NO, NO, NO], [YES, YES, NO]], np.uint8)
    case = case_of(state, np.array([[9, 9, 0], [0, 0, 0], [9, 0, 0]], np.float32))
    at = {name: metric(case, threshold=1, link="identity") for name, metric in METRICS.items()}
    assert at["subset_accuracy"].value(None) == 1 / 3  # the empty set is predicted rightly
    assert at["jaccard"].value(None) == (1 / 2 + 1 + 1 / 2) / 3
    assert jaccard(case, threshold=1, link="identity", zero_division=0).value(None) == (1 / 2 + 0 + 1 / 2) / 3
    assert at["hamming"].value(None) == 2 / 9
    assert at["f1_micro"].value(None) == 4 / 6
    assert at["f1_macro"].value(None) == (1 + 0) / 2  # the third class is neither positive nor predicted
    assert at["precision_micro"].value(None) == 2 / 3
    assert at["recall_micro"].value(None) == 2 / 3
    assert at["precision_macro"].value(None) == (1 + 0) / 2
    assert at["recall_macro"].value(None) == (1 + 0) / 2
    assert at["f1_of_averages"].value(None) == 1 / 2
    never = case_of(np.array([[YES, YES, NO]], np.uint8), np.array([[9, 0, 0]], np.float32))
    assert precision_macro(never, threshold=1, link="identity").value(None) == (1 + 0) / 2  # never predicted
    assert isinstance(at["subset_accuracy"], Ratio)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@each_metric
def test_the_threshold_has_the_precision_of_the_scores(name: str, dtype: npt.DTypeLike) -> None:
    case = case_of(np.array([[YES, NO]]), np.array([[0.7, 0.1]], dtype))
    assert METRICS[name](case, threshold=0.7, link="identity").value(None) == (
        0.0 if name == "hamming" else 1.0
    )


def test_a_threshold_beyond_float16_predicts_nothing() -> None:
    case = case_of(np.array([[NO, NO]]), np.array([[6e4, -6e4]], np.float16))
    assert subset_accuracy(case, threshold=1e6, link="identity").value(None) == 1


@each_metric
@each_mask
def test_rank_only_predictions_are_undefined(name: str, masked: bool) -> None:
    case = case_of(np.full((3, 2), YES), np.zeros((3, 2), np.float32))
    estimate = METRICS[name](Case(case.labels, case.top), threshold=0.5, masked=masked)
    assert np.isnan(estimate.value(None))
    assert np.isnan(estimate.value(np.ones(3)))
    assert estimate.scored.sum() == 0


@each_metric
def test_a_mask_needs_recorded_noes(name: str) -> None:
    labels = LabelSets.from_lists([[0], [1, 2]], 3)
    case = Case(labels, np.zeros((2, 1), np.int32), np.eye(2, 3, dtype=np.float32))
    estimate = METRICS[name](case, threshold=0.5, masked=True)
    assert np.isnan(estimate.value(None))
    assert estimate.scored.sum() == 0


@each_metric
@each_mask
def test_no_images(name: str, masked: bool) -> None:
    assert np.isnan(
        value(name, case_of(np.zeros((0, 3), np.uint8), np.zeros((0, 3), np.float32)), masked=masked)
    )


@each_metric
@pytest.mark.parametrize("threshold", [np.nan, "0.5", None])
def test_a_threshold_that_is_no_number(name: str, threshold: Any) -> None:
    case = case_of(np.array([[YES, NO]]), np.zeros((1, 2), np.float32))
    with pytest.raises(InputError) as error:
        METRICS[name](case, threshold=threshold)
    assert str(error.value) == (
        "The threshold is not a number.\n"
        f"  got:     {threshold!r}\n"
        "  allowed: a probability, 0 to 1, also for logits; with link='identity', a score as it is stored"
    )


@each_metric
def test_registered(name: str) -> None:
    entry = get("metric", f"{name}(threshold=0.5)")
    assert entry.about["better"] == ("lower" if name == "hamming" else "higher")
    assert entry.about["needs"] == "scores"
    more = ["zero_division"] if name in ("jaccard", "f1_samples") else []
    more += ["beta"] if name in ("f1_samples", "f1_micro", "f1_macro") else []
    assert options_of(entry) == ["threshold", "link", "masked", *more]
    assert entry.summary
    case = replace(case_of(np.array([[YES, NO]]), np.array([[0.5, 0.4]], np.float32)), kind="probability")
    assert entry(case).value(None) == (0.0 if name == "hamming" else 1.0)


@each_metric
@pytest.mark.parametrize("link", ["sigmoid", "softmax"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_threshold_on_logits_is_one_on_their_probabilities(
    name: str, link: str, dtype: npt.DTypeLike
) -> None:
    rng = np.random.default_rng(5)
    state = rng.choice([YES, NO], (700, 4), p=[0.4, 0.6])
    logits = rng.normal(0, 2, (700, 4)).astype(dtype)
    p = (expit if link == "sigmoid" else functools.partial(softmax, axis=1))(logits.astype(np.float64))
    of_logits = METRICS[name](replace(case_of(state, logits), kind="logit"), threshold=0.3, link=link)
    of_p = METRICS[name](replace(case_of(state, p), kind="probability"), threshold=0.3)
    assert same(of_logits.value(None), of_p.value(None))


@each_metric
@pytest.mark.parametrize("kind", ["cosine", "score", "none"])
def test_without_a_known_link_a_threshold_on_probabilities_is_undefined(name: str, kind: str) -> None:
    case = replace(case_of(np.array([[YES, NO]]), np.array([[0.5, 0.4]], np.float32)), kind=kind)
    assert np.isnan(METRICS[name](case).value(None))
    assert np.isfinite(METRICS[name](case, link="identity").value(None))


def test_jaccard_counts_the_same_images_for_every_model() -> None:
    """Two models that differ on images without valid classes are compared, on all images."""
    rng = np.random.default_rng(2)
    yes = rng.random((300, 4)) < 0.15
    found = []
    for shift in (0.0, 0.8):
        scores = (rng.normal(size=yes.shape) + 2 * yes - shift).astype(np.float32)
        assert not ((scores >= 0.5) | yes).any(1).all()
        found.append(jaccard(case_of(np.where(yes, YES, NO), scores), link="identity"))
    assert found[0].scored.all()
    assert found[1].scored.all()


def test_zero_division_is_0_or_1() -> None:
    case = case_of(np.array([[YES]], np.uint8), np.ones((1, 1), np.float32))
    with pytest.raises(InputError) as error:
        jaccard(case, link="identity", zero_division=0.5)
    assert str(error.value) == (
        "The value of two empty sets must be 0 or 1.\n"
        "  where:   `zero_division`\n  got:     0.5\n  allowed: 0, 1"
    )


@pytest.mark.parametrize("name", ["f1_samples", "f1_micro", "f1_macro"])
@pytest.mark.parametrize("beta", [0, -1, float("nan"), "2"])
def test_beta_is_a_positive_number(name: str, beta: object) -> None:
    case = case_of(np.array([[YES, NO]]), np.array([[0.5, 0.4]], np.float32))
    with pytest.raises(InputError, match="importance of recall") as error:
        METRICS[name](case, link="identity", beta=beta)
    assert "pass 1 for F1 or 2 for F2" in str(error.value)


@pytest.mark.parametrize("name", ["f1_micro", "f1_macro"])
def test_what_an_image_adds_to_f2_is_its_change_if_it_is_left_out(name: str) -> None:
    rng = np.random.default_rng(5)
    yes = rng.random((60, 6)) < 0.3
    scores = (rng.normal(size=yes.shape) + yes).astype(np.float32)
    average = name.partition("_")[2]
    estimate = METRICS[name](case_of(np.where(yes, YES, NO), scores), threshold=0.7, link="identity", beta=2)
    whole = fbeta_score(yes, scores >= np.float32(0.7), beta=2, average=average)
    for i in range(0, 60, 7):
        kept = np.arange(60) != i
        without = fbeta_score(yes[kept], scores[kept] >= np.float32(0.7), beta=2, average=average)
        changed = estimate.value(kept.astype(float)) - estimate.value(None)
        assert changed == pytest.approx(without - whole, abs=1e-12)
        if name == "f1_macro":
            assert estimate.left_out(None)[i] == pytest.approx(without - whole, abs=1e-12)
