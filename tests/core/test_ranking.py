from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import (
    average_precision_score,
    coverage_error,
    label_ranking_average_precision_score,
    label_ranking_loss,
    roc_auc_score,
)

from manyhot.core.estimates import Estimate, Ratio
from manyhot.core.jackknife import jackknife_interval
from manyhot.core.ranking import (
    class_differences,
    class_precision,
    coverage,
    curve_means,
    lrap,
    map_11point,
    map_image,
    map_macro,
    map_micro,
    ranking_loss,
)
from manyhot.core.sets import NO, NO_LABEL, NOT_ASKED, YES, Case, LabelSets
from manyhot.errors import InputError
from manyhot.registry import get, options_of

Array = npt.NDArray[Any]
Problem = tuple[Array, Array, Array, Array]
METRICS: dict[str, Callable[..., Estimate]] = {
    f.__name__: f for f in (map_macro, map_11point, map_micro, map_image, lrap, coverage, ranking_loss)
}
MASKABLE = [name for name in METRICS if name != "coverage"]
VARIANTS = [(name, {}) for name in METRICS] + [(name, {"masked": True}) for name in MASKABLE]
variants = pytest.mark.parametrize(("name", "options"), VARIANTS)


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


def average_precision(yes: Array, score: Array, weight: Array) -> float:
    """Sum (R_i - R_{i-1}) P_i over the distinct scores, highest first; NaN without a positive that weighs."""
    total, result, recall = weight[yes].sum(), 0.0, 0.0
    if not total > 0:
        return np.nan
    for threshold in sorted(set(score.tolist()), reverse=True):
        reached = score >= threshold
        hits = weight[reached & yes].sum()
        if hits:
            result += (hits / total - recall) * hits / weight[reached].sum()
            recall = hits / total
    return float(result)


def interpolated_precision(yes: Array, score: Array, weight: Array) -> float:
    """Average, over 11 recalls, the highest precision at this recall or more; NaN without a positive."""
    total = weight[yes].sum()
    if not total > 0:
        return np.nan
    reached = [score >= s for s in set(score[yes & (weight > 0)].tolist())]
    points = [(weight[r & yes].sum() / total, weight[r & yes].sum() / weight[r].sum()) for r in reached]
    return float(
        np.mean([max(p for recall, p in points if recall >= tenth / 10 - 1e-9) for tenth in range(11)])
    )


def of_image(name: str, yes: Array, score: Array) -> float:
    """Return the metric of one image by loops over its classes in account; NaN where undefined."""
    good, bad = score[yes], score[~yes]
    if not len(good) or (not len(bad) and name in ("lrap", "ranking_loss")):
        return np.nan
    if name == "map_image":
        return average_precision(yes, score, np.ones(len(score)))
    if name == "coverage":
        return float(sum(s >= min(good) for s in score))
    if name == "ranking_loss":
        return float(np.mean([g <= b for g in good for b in bad]))
    return float(np.mean([sum(good >= g) / sum(score >= g) for g in good]))


def brute_force(
    name: str, state: Array, scores: Array, usable: Array, weights: Array, masked: bool = False
) -> float:
    yes, scores, w = state == YES, scores.astype(np.float64), weights * usable
    account = (state == YES) | (state == NO) if masked else np.ones(state.shape, bool)
    if name in ("map_macro", "map_11point"):
        of_class = average_precision if name == "map_macro" else interpolated_precision
        columns = [(y[a], s[a], w[a]) for a, y, s in zip(account.T, yes.T, scores.T, strict=True)]
        # Masked, a class counts only if an image is known to be without it.
        values = np.array([of_class(*c) for c in columns if not masked or c[2][~c[0]].sum() > 0])
        return float(np.mean(values[~np.isnan(values)])) if not np.isnan(values).all() else np.nan
    if name == "map_micro":
        if masked and not (w[:, None] * (state == NO)).any():
            return np.nan
        return average_precision(yes[account], scores[account], np.repeat(w, state.shape[1])[account.ravel()])
    rows = zip(account, yes, scores, strict=True)
    values = np.array([of_image(name, y[a], s[a]) for a, y, s in rows])
    counts = ~np.isnan(values) & (w > 0)
    return float(np.average(values[counts], weights=w[counts])) if counts.any() else np.nan


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Draw states, scores with many ties, usable images and integer weights."""
    n, n_classes = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    state = draw(hnp.arrays(np.uint8, (n, n_classes), elements=st.integers(0, 3)))
    dtype = draw(st.sampled_from([np.float16, np.float32]))
    scores = draw(
        hnp.arrays(dtype, (n, n_classes), elements=st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 0.25, 3.0]))
    )
    usable = draw(hnp.arrays(bool, n, elements=st.sampled_from([True, True, True, False])))
    return state, scores, usable, draw(hnp.arrays(np.int64, n, elements=st.integers(0, 3)))


def value(name: str, case: Case, weights: Array | None = None, **options: bool) -> float:
    return METRICS[name](case, **options).value(weights)


def same(a: float, b: float) -> bool:
    return bool(np.isclose(a, b, rtol=1e-12, atol=1e-12, equal_nan=True))


def large(
    seed: int, dtype: npt.DTypeLike, n: int = 700, n_classes: int = 40
) -> tuple[Case, Array, Array, Array]:
    """Return a case of several blocks of images and classes, its label sets, its scores and weights.

    Scores are rounded so that they tie; there are empty and full label sets, and a class without positives.
    """
    rng = np.random.default_rng(seed)
    yes = rng.random((n, n_classes)) < 0.08
    yes[:7], yes[7:12], yes[12:, 3] = False, True, False
    scores = ((rng.normal(size=yes.shape) + 1.5 * yes) * 4).round() / 4
    scores = scores.astype(dtype)
    weights = rng.multinomial(n, np.full(n, 1 / n)).astype(float)
    return case_of(np.where(yes, YES, NOT_ASKED), scores), yes, scores.astype(np.float64), weights


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
class TestAgainstScikitLearn:
    def test_map_macro(self, dtype: npt.DTypeLike, weighted: bool) -> None:
        case, yes, scores, w = large(1, dtype)
        w = w if weighted else np.ones(len(w))
        keep = (yes.T @ w) > 0
        expected = average_precision_score(yes[:, keep], scores[:, keep], sample_weight=w)
        assert value("map_macro", case, w if weighted else None) == pytest.approx(expected, abs=1e-12)

    def test_map_micro(self, dtype: npt.DTypeLike, weighted: bool) -> None:
        case, yes, scores, w = large(2, dtype)
        w = w if weighted else np.ones(len(w))
        expected = average_precision_score(
            yes.ravel(), scores.ravel(), sample_weight=np.repeat(w, yes.shape[1])
        )
        assert value("map_micro", case, w if weighted else None) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize(
        ("name", "reference"),
        [
            ("lrap", label_ranking_average_precision_score),
            ("map_image", label_ranking_average_precision_score),
            ("coverage", coverage_error),
            ("ranking_loss", label_ranking_loss),
        ],
    )
    def test_image_metrics(
        self, dtype: npt.DTypeLike, weighted: bool, name: str, reference: Callable[..., float]
    ) -> None:
        case, yes, scores, w = large(3, dtype)
        w = w if weighted else np.ones(len(w))
        full_counts = name in ("map_image", "coverage")
        keep = yes.any(1) & (full_counts | ~yes.all(1))
        estimate = METRICS[name](case)
        expected = reference(yes[keep], scores[keep], sample_weight=w[keep])
        assert estimate.value(w if weighted else None) == pytest.approx(expected, abs=1e-12)
        assert (estimate.scored == keep).all()

    def test_map_image_as_samples_average(self, dtype: npt.DTypeLike, weighted: bool) -> None:
        case, yes, scores, w = large(4, dtype, n=90)
        w, keep = w if weighted else np.ones(len(w)), yes.any(1)
        each = [average_precision_score(y, s) for y, s in zip(yes[keep], scores[keep], strict=True)]
        expected = np.average(each, weights=w[keep])
        assert value("map_image", case, w if weighted else None) == pytest.approx(expected, abs=1e-12)


def test_more_distinct_scores_than_two_bytes_number() -> None:
    rng = np.random.default_rng(0)
    yes = rng.random((300, 256)) < 0.9
    scores, w = rng.random(yes.shape, np.float32), rng.integers(0, 4, 300)
    expected = average_precision_score(yes.ravel(), scores.ravel(), sample_weight=np.repeat(w, 256))
    assert value("map_micro", case_of(np.where(yes, YES, NO), scores), w) == pytest.approx(
        expected, abs=1e-12
    )


def test_more_images_than_two_bytes_number() -> None:
    rng = np.random.default_rng(0)
    yes = rng.random((70_000, 2)) < 0.1
    scores, w = rng.random(yes.shape, np.float32), rng.integers(0, 4, len(yes))
    expected = average_precision_score(yes, scores, sample_weight=w)
    assert value("map_macro", case_of(np.where(yes, YES, NO), scores), w) == pytest.approx(
        expected, abs=1e-12
    )


@variants
@given(problem=problems())
@settings(max_examples=40)
def test_equals_brute_force(name: str, options: dict[str, bool], problem: Problem) -> None:
    state, scores, usable, weights = problem
    estimate = METRICS[name](case_of(state, scores, usable), **options)
    ones = np.ones(len(usable))
    assert same(estimate.value(None), brute_force(name, state, scores, usable, ones, **options))
    assert same(estimate.value(ones), brute_force(name, state, scores, usable, ones, **options))
    assert same(estimate.value(weights), brute_force(name, state, scores, usable, weights, **options))
    assert not (estimate.scored & ~usable).any()


@variants
@given(problem=problems(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_order_of_images_and_classes_does_not_count(
    name: str, options: dict[str, bool], problem: Problem, seed: int
) -> None:
    state, scores, usable, weights = problem
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(state.shape[0]), rng.permutation(state.shape[1])
    before = value(name, case_of(state, scores, usable), weights, **options)
    moved = case_of(state[rows][:, columns], scores[rows][:, columns], usable[rows])
    assert same(value(name, moved, weights[rows], **options), before)


@variants
@given(problem=problems())
@settings(max_examples=15)
def test_weights_are_repetition_removal_and_have_no_scale(
    name: str, options: dict[str, bool], problem: Problem
) -> None:
    state, scores, usable, weights = problem
    estimate = METRICS[name](case_of(state, scores, usable), **options)
    again = np.repeat(np.arange(len(weights)), weights)
    repeated = (
        value(name, case_of(state[again], scores[again], usable[again]), **options) if len(again) else np.nan
    )
    assert same(estimate.value(weights), repeated)
    assert same(estimate.value(weights * 0.3), repeated)
    kept = weights > 0
    removed = (
        value(name, case_of(state[kept], scores[kept], usable[kept]), **options) if kept.any() else np.nan
    )
    assert same(estimate.value(kept), removed)


@pytest.mark.parametrize("name", MASKABLE)
@given(problem=problems(), data=st.data())
@settings(max_examples=15)
def test_masked_cells_are_inert(name: str, problem: Problem, data: st.DataObject) -> None:
    state, scores, usable, weights = problem
    other = data.draw(
        hnp.arrays(scores.dtype, scores.shape, elements=st.sampled_from([-4.0, 0.0, 9.0, np.nan]))
    )
    changed = np.where((state == YES) | (state == NO), scores, other)
    before = value(name, case_of(state, scores, usable), weights, masked=True)
    assert same(value(name, case_of(state, changed, usable), weights, masked=True), before)


@variants
@given(problem=problems())
@settings(max_examples=15)
def test_only_the_order_of_scores_counts(name: str, options: dict[str, bool], problem: Problem) -> None:
    state, scores, usable, weights = problem
    monotone = np.exp(scores.astype(np.float32) / 7)
    before = value(name, case_of(state, scores, usable), weights, **options)
    assert same(value(name, case_of(state, monotone, usable), weights, **options), before)


@variants
@given(problem=problems())
@settings(max_examples=15)
def test_perfect_scores_give_the_best_value(name: str, options: dict[str, bool], problem: Problem) -> None:
    state, _, usable, _ = problem
    estimate = METRICS[name](case_of(state, (state == YES).astype(np.float32), usable), **options)
    size = (state == YES).sum(1)[estimate.scored]
    best = {"ranking_loss": 0.0, "coverage": size.mean() if size.size else np.nan}.get(name, 1.0)
    assert np.isnan(estimate.value(None)) or same(estimate.value(None), best)


@given(problem=problems())
@settings(max_examples=40)
def test_map_image_is_lrap_where_there_is_a_negative(problem: Problem) -> None:
    state, scores, usable, _ = problem
    case = case_of(state, scores, usable)
    precision, ranking = map_image(case), lrap(case)
    full = (state == YES).all(1) & usable
    assert isinstance(precision, Ratio)
    assert isinstance(ranking, Ratio)
    assert (precision.scored == (ranking.scored | full)).all()
    assert np.array_equal(precision.num[~full], ranking.num[~full])
    assert (precision.num[full] == 1).all()


def test_map_image_is_the_published_code_without_ties() -> None:
    rng = np.random.default_rng(5)
    yes = rng.random((50, 30)) < 0.1
    scores = rng.permuted(np.tile(np.arange(30, dtype=np.float32), (50, 1)), axis=1)
    published = []
    for row, score in zip(yes[yes.any(1)], scores[yes.any(1)], strict=True):
        right = row[np.argsort(score)[::-1]]
        published.append(np.mean([right[: i + 1].sum() / (i + 1) for i in np.flatnonzero(right)]))
    assert value("map_image", case_of(np.where(yes, YES, NOT_ASKED), scores)) == pytest.approx(
        np.mean(published)
    )


def test_ties_by_hand() -> None:
    state = np.array([[YES, NO, NO, YES]], np.uint8)
    case = case_of(state, np.array([[2, 2, 1, 1]], np.float32))
    assert value("lrap", case) == value("map_image", case) == (1 / 2 + 2 / 4) / 2
    assert value("coverage", case) == 4
    assert value("ranking_loss", case) == 3 / 4
    assert value("map_macro", case) == 1
    assert value("map_micro", case) == (1 / 2 + 2 / 4) / 2


@variants
def test_rank_only_predictions_are_undefined(name: str, options: dict[str, bool]) -> None:
    case = case_of(np.full((3, 2), YES), np.zeros((3, 2), np.float32))
    estimate = METRICS[name](Case(case.labels, case.top), **options)
    assert np.isnan(estimate.value(None))
    assert np.isnan(estimate.value(np.ones(3)))
    assert estimate.scored.sum() == 0


@pytest.mark.parametrize("name", MASKABLE)
def test_a_mask_needs_recorded_noes(name: str) -> None:
    labels = LabelSets.from_lists([[0], [1, 2]], 3)
    estimate = METRICS[name](
        Case(labels, np.zeros((2, 1), np.int32), np.eye(2, 3, dtype=np.float32)), masked=True
    )
    assert np.isnan(estimate.value(None))
    assert estimate.scored.sum() == 0


@variants
@pytest.mark.parametrize("n", [0, 2])
def test_without_a_positive_undefined(name: str, options: dict[str, bool], n: int) -> None:
    estimate = METRICS[name](case_of(np.full((n, 3), NO), np.zeros((n, 3), np.float32)), **options)
    assert np.isnan(estimate.value(None))
    assert estimate.scored.sum() == 0


@variants
def test_weights_that_leave_nothing_give_nan(name: str, options: dict[str, bool]) -> None:
    estimate = METRICS[name](case_of(np.array([[YES, NO]]), np.zeros((1, 2), np.float32)), **options)
    assert np.isnan(estimate.value(np.zeros(1)))


@variants
def test_scores_of_another_shape(name: str, options: dict[str, bool]) -> None:
    case = case_of(np.array([[YES, NO]]), np.zeros((1, 3), np.float32))
    with pytest.raises(InputError) as error:
        METRICS[name](case, **options)
    assert str(error.value) == (
        "The scores do not fit the label sets.\n"
        "  got:     scores of shape (1, 3)\n"
        "  allowed: shape (1, 2): one row per image, one column per class"
    )


@variants
def test_nan_scores(name: str, options: dict[str, bool]) -> None:
    case = case_of(np.array([[YES, NO], [NO, YES]]), np.array([[1, 2], [np.nan, np.nan]], np.float16))
    with pytest.raises(InputError) as error:
        METRICS[name](case, **options)
    assert str(error.value) == (
        "The scores of 2 answered cells are NaN.\n"
        "  where:   first in row 1, class 0\n"
        "  allowed: any number except NaN\n"
        "  do:      fix the overflow in the model, or exclude these images by setting usable to False"
    )


@pytest.mark.parametrize("name", METRICS)
def test_registered(name: str) -> None:
    entry = get("metric", name)
    assert entry.function is METRICS[name]
    assert entry.about["better"] == ("lower" if name in ("coverage", "ranking_loss") else "higher")
    assert entry.about["needs"] == "scores"
    assert entry.about.get("unit", "share") == ("classes" if name == "coverage" else "share")
    assert options_of(entry) == ([] if name == "coverage" else ["masked"])
    assert entry.summary


class TestClassPrecision:
    @pytest.mark.parametrize("masked", [False, True])
    def test_values_are_those_of_scikit_learn(self, masked: bool) -> None:
        case, yes, scores, _ = large(8, np.float32)
        state = np.where(yes, YES, np.random.default_rng(0).choice([NOT_ASKED, NO], yes.shape))
        precision = class_precision(case_of(state, scores) if masked else case, masked)
        counts = (state != NOT_ASKED) | (not masked)
        for c in range(40):
            cells = counts[:, c]
            expected = average_precision_score(yes[cells, c], scores[cells, c])
            assert precision.value[c] == pytest.approx(expected, abs=1e-12)
        assert (precision.n_positives == yes.sum(0)).all()

    def test_errors_are_those_of_the_plain_jackknife(self) -> None:
        rng = np.random.default_rng(0)
        yes = rng.random((50, 4)) < 0.3
        scores = (rng.normal(size=yes.shape) + yes).round(1).astype(np.float32)
        precision = class_precision(case_of(np.where(yes, YES, NO), scores))
        for c in range(4):
            rest = [np.arange(50) != i for i in range(50)]
            values = np.array([average_precision_score(yes[r, c], scores[r, c]) for r in rest])
            assert precision.error[c] == pytest.approx(
                np.sqrt(49 / 50 * ((values - values.mean()) ** 2).sum())
            )

    def test_intervals_of_auroc_are_those_of_the_plain_jackknife(self) -> None:
        rng = np.random.default_rng(0)
        yes = np.arange(80)[:, None] < [29, 40, 51]
        scores = (rng.normal(size=yes.shape) + yes).round(1).astype(np.float32)
        precision = class_precision(case_of(np.where(yes, YES, NO), scores))
        rest = [np.arange(80) != i for i in range(80)]
        value = roc_auc_score(yes[:, 1], scores[:, 1])
        changes = [roc_auc_score(yes[r, 1], scores[r, 1]) - value for r in rest]
        expected = jackknife_interval(value, np.array(changes))
        assert (precision.auroc_lo[1], precision.auroc_hi[1]) == pytest.approx(expected)
        assert np.isnan(precision.auroc_lo).tolist() == [True, False, True]  # too few positives, or negatives

    @pytest.mark.parametrize("masked", [False, True])
    def test_means_are_the_metrics(self, masked: bool) -> None:
        _, yes, scores, _ = large(8, np.float32)
        state = np.where(yes, YES, np.random.default_rng(0).choice([NOT_ASKED, NO], yes.shape))
        case = case_of(state, scores)
        for name, estimate in curve_means(case, masked=masked).items():
            metric = get("metric", name).function(case, masked=masked)
            assert estimate.value() == pytest.approx(metric.value(), abs=1e-12)
            assert estimate.left_out(None) == pytest.approx(metric.left_out(None), abs=1e-12)
        assert np.isnan([e.value() for e in curve_means(Case(case.labels, case.top)).values()]).all()

    def test_few_positives_have_no_interval_and_none_no_value(self) -> None:
        yes = np.arange(200)[:, None] < np.array([0, 1, 29, 30])
        scores = np.random.default_rng(0).normal(size=yes.shape) + yes
        precision = class_precision(case_of(np.where(yes, YES, NO), scores.astype(np.float32)))
        assert np.isnan(precision.value).tolist() == [True, False, False, False]
        assert np.isnan(precision.error).tolist() == [True, True, False, False]
        assert np.isnan(precision.lo).tolist() == np.isnan(precision.hi).tolist() == [True, True, True, False]
        assert 0 < precision.lo[3] < precision.value[3] < precision.hi[3] < 1

    def test_without_scores_nothing_is_defined(self) -> None:
        case = case_of(np.full((3, 2), YES), np.zeros((3, 2), np.float32))
        precision = class_precision(Case(case.labels, case.top))
        assert np.isnan([precision.value, precision.error, precision.lo, precision.hi]).all()
        assert precision.n_positives.tolist() == [0, 0]


class TestClassDifferences:
    def test_they_are_those_of_the_plain_paired_jackknife(self) -> None:
        rng = np.random.default_rng(1)
        yes = rng.random((80, 3)) < 0.5
        scores = [(rng.normal(size=yes.shape) + shift * yes).astype(np.float32) for shift in (0.5, 1.0)]
        state = np.where(yes, YES, NO)
        found = class_differences(*(case_of(state, s) for s in scores))
        for c in range(3):
            values = [average_precision_score(yes[:, c], s[:, c]) for s in scores]
            assert found.values[:, c] == pytest.approx(values, abs=1e-12)
            rest = [np.arange(80) != i for i in range(80)]
            one, two = (np.array([average_precision_score(yes[r, c], s[r, c]) for r in rest]) for s in scores)
            change = two - one
            error = np.sqrt(79 / 80 * ((change - change.mean()) ** 2).sum())
            half = (found.hi[c] - found.lo[c]) / 2
            # The quantile of Student's t is somewhat larger than that of the normal distribution.
            assert 1.96 * error <= half <= 2.6 * error
            assert (found.hi[c] + found.lo[c]) / 2 == pytest.approx(values[1] - values[0])
            assert (found.p[c] < 0.05) == (found.lo[c] > 0 or found.hi[c] < 0)
        assert found.n_positives.tolist() == yes.sum(0).tolist()

    def test_masked_differences_are_those_on_the_answered_images(self) -> None:
        rng = np.random.default_rng(2)
        yes, asked = rng.random((150, 3)) < 0.5, rng.random((150, 3)) < 0.8
        scores = [(rng.normal(size=yes.shape) + shift * yes).astype(np.float32) for shift in (0.5, 1.0)]
        state = np.where(asked, np.where(yes, YES, NO), NOT_ASKED)
        found = class_differences(*(case_of(state, s) for s in scores), masked=True)
        for c, rows in enumerate(asked.T):
            alone = class_differences(*(case_of(state[rows][:, [c]], s[rows][:, [c]]) for s in scores))
            values = [average_precision_score(yes[rows, c], s[rows, c]) for s in scores]
            assert found.values[:, c] == pytest.approx(values, abs=1e-12)
            for name in ("n_positives", "lo", "hi", "p"):
                assert getattr(found, name)[c] == pytest.approx(getattr(alone, name)[0]), name

    def test_few_positives_and_equal_models_are_not_tested(self) -> None:
        yes = np.arange(200)[:, None] < np.array([0, 29, 60])
        scores = (np.random.default_rng(0).normal(size=yes.shape) + yes).astype(np.float32)
        case = case_of(np.where(yes, YES, NO), scores)
        found = class_differences(case, case_of(np.where(yes, YES, NO), scores + yes))
        assert np.isnan(found.p).tolist() == [True, True, False]
        assert np.isnan(class_differences(case, case).p).all()
