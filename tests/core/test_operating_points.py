"""Thresholds, counts and curves against scikit-learn and loops over folds, classes and thresholds."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import hypergeom, kstest, norm
from sklearn.metrics import (
    auc,
    average_precision_score,
    confusion_matrix,
    f1_score,
    multilabel_confusion_matrix,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

import manyhot.core.operating_points as module
from answered_sets import sets_of
from manyhot.core.class_counts import class_curves
from manyhot.core.clusters import Clusters
from manyhot.core.confused_classes import confused_classes
from manyhot.core.operating_points import REASONS, operating_points, unanswered_predictions
from manyhot.core.ranking import class_precision
from manyhot.core.sets import NO, NOT_ASKED, YES, Case, LabelSets
from manyhot.errors import InputError
from scored_states import case_of, draw

AT = {"f1": None, "f2": None, "precision": 0.6, "recall": 0.8, "fpr": 0.15}
GOALS = tuple(AT)
problems = pytest.mark.parametrize(
    ("seed", "dtype", "masked"), [(0, np.float32, False), (1, np.float16, True), (2, np.float16, False)]
)


def points_of(case, goal="f1", masked=False, seed=0, n_folds=4, at=None):
    rng = np.random.default_rng(seed)
    return operating_points(case, goal=goal, at=at or AT[goal], n_folds=n_folds, rng=rng, masked=masked)


def cells_of(state, usable, c, masked):
    """Return which images count for a class, and where it is valid."""
    counts = usable & np.isin(state[:, c], (NO, YES)) if masked else usable
    return counts, state[:, c] == YES


def chosen_by_loop(yes, scores, goal, at):
    """Return the best threshold among the scores, or those of positives; None if none reaches the goal."""
    best, best_f1 = None, -1.0
    if not yes.any():
        return None
    for threshold in sorted({*(scores if goal == "fpr" else scores[yes]).tolist()}, reverse=True):
        reached = scores >= threshold
        hits = np.sum(reached & yes)
        precision, recall, f1 = hits / reached.sum(), hits / yes.sum(), 2 * hits / (reached.sum() + yes.sum())
        f2 = 5 * hits / (reached.sum() + 4 * yes.sum())
        if goal == "f2" and f2 > best_f1:
            best, best_f1 = threshold, f2
        if goal == "f1" and f1 > best_f1:
            best, best_f1 = threshold, f1
        if goal == "precision" and precision >= at:
            best = threshold
        if goal == "fpr" and np.sum(reached & ~yes) <= at * np.sum(~yes) + 1e-9:
            best = threshold
        if goal == "recall" and recall >= at and best is None:
            best = threshold
    return best


@problems
def test_areas_are_those_of_scikit_learn(seed, dtype, masked):
    state, scores, usable = draw(seed, dtype=dtype)
    points = points_of(case_of(state, scores, usable), masked=masked)
    for c in range(state.shape[1]):
        counts, yes = cells_of(state, usable, c, masked)
        assert points.n_positives[c] == yes[counts].sum()
        assert points.n_negatives[c] == (~yes)[counts].sum()
        if not yes[counts].any():
            assert np.isnan([points.ap[c], points.auroc[c]]).all()
            continue
        own, truth = scores[counts, c].astype(float), yes[counts]
        assert points.ap[c] == pytest.approx(average_precision_score(truth, own), rel=1e-12)
        assert points.auroc[c] == pytest.approx(roc_auc_score(truth, own), rel=1e-12)


@problems
@pytest.mark.parametrize("goal", GOALS)
def test_thresholds_of_a_fold_come_from_the_others(seed, dtype, masked, goal):
    state, scores, usable = draw(seed, dtype=dtype)
    points = points_of(case_of(state, scores, usable), goal, masked)
    assert sorted(np.bincount(points.fold[usable])) == sorted(np.bincount(np.arange(usable.sum()) % 4))
    assert (points.fold[~usable] == -1).all()
    n_fitted = 0
    for c in range(state.shape[1]):
        counts, yes = cells_of(state, usable, c, masked)
        choose = [(counts & (points.fold != f), counts & (points.fold == f)) for f in range(4)]
        everywhere = chosen_by_loop(yes[counts], scores[counts, c], goal, AT[goal])
        few = yes[counts].sum() < 4 or not all(yes[others].any() for others, _ in choose)
        if few or everywhere is None:
            assert np.isnan([points.threshold[c], *points.fold_threshold[:, c]]).all()
            assert np.isnan(np.concatenate([points.f1(), points.precision(), points.recall()])[:, c]).all()
            continue
        n_fitted += 1
        assert points.threshold[c] == everywhere
        n_predicted = n_right = 0
        for f, (others, own) in enumerate(choose):
            threshold = chosen_by_loop(yes[others], scores[others, c], goal, AT[goal])
            assert points.fold_threshold[f, c] == threshold or (
                threshold is None and np.isnan(points.fold_threshold[f, c])
            )
            if threshold is not None:
                n_predicted += np.sum(scores[own, c] >= threshold)
                n_right += np.sum((scores[own, c] >= threshold) & yes[own])
        assert (points.n_predicted[c], points.n_right[c]) == (n_predicted, n_right)
    assert n_fitted > 5
    assert (points.fitted == np.flatnonzero(~np.isnan(points.threshold))).all()


def test_any_rate_of_false_positives_allows_the_lowest_score():
    state, scores, usable = draw(0)
    points = points_of(case_of(state, scores, usable), "fpr", at=1.0)
    fitted = points.fitted
    assert len(fitted) > 5
    np.testing.assert_array_equal(points.threshold[fitted], scores[usable][:, fitted].min(axis=0))


def test_counts_are_those_of_a_confusion_matrix():
    state, scores, _ = draw(3)
    points = points_of(case_of(state, scores))
    yes, fitted = (state == YES)[:, points.fitted], points.fitted
    predicted = scores[:, fitted] >= points.fold_threshold[points.fold][:, fitted]
    matrix = multilabel_confusion_matrix(yes, predicted)
    assert (matrix[:, 1, 1] == points.n_right[fitted]).all()
    assert (matrix[:, :, 1].sum(axis=1) == points.n_predicted[fitted]).all()
    assert points.f1()[0][fitted] == pytest.approx(f1_score(yes, predicted, average=None))


@pytest.mark.parametrize("kind", ["probability", "logit"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_softmax_predicts_its_top_class(kind, masked):
    """A class was predicted on 84 % of a stranger's images, of which it was the top class on none."""
    rng, n, n_classes = np.random.default_rng(6), 200, 5
    truth = rng.integers(n_classes, size=n)
    logits = rng.normal(size=(n, n_classes)) + 1.5 * np.eye(n_classes)[truth]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scores = (p if kind == "probability" else logits).astype(np.float32)
    top = scores.argmax(axis=1)
    state = np.where(np.eye(n_classes)[truth] == 1, YES, NO)
    case = replace(case_of(state, scores), top=top[:, None].astype(np.int32), kind=kind, link="softmax")
    points = operating_points(case, rng=rng, masked=masked)
    matrix = confusion_matrix(truth, top)
    assert points.n_right.tolist() == np.diag(matrix).tolist()
    assert points.n_predicted.tolist() == matrix.sum(axis=0).tolist()
    assert points.f1()[0] == pytest.approx(f1_score(truth, top, average=None))
    assert np.isnan(points.threshold).all()
    found = confused_classes(case, points)
    pairs = zip(found.predicted, found.present, found.n, found.n_instead, strict=True)
    off = matrix - np.diag(np.diag(matrix))
    assert {(a, b, m, k) for a, b, m, k in pairs} == {
        (a, b, off[b, a], off[b, a]) for b, a in zip(*np.nonzero(off), strict=True)
    }
    as_sigmoids = replace(case, scores=(p / 2).astype(np.float32), kind="probability")
    assert (points.goal, operating_points(as_sigmoids, rng=rng).goal) == ("top", "f1")


@pytest.mark.parametrize("masked", [False, True])
def test_intervals_over_clusters_are_those_of_a_bootstrap_of_clusters(masked):
    """Four images of a camera are alike; a bootstrap by hand draws whole cameras."""
    rng, n, n_classes = np.random.default_rng(7), 1200, 3
    camera = np.repeat(np.arange(n // 4), 4)
    truth = rng.integers(n_classes, size=n // 4)[camera]
    shift = rng.normal(size=(n // 4, n_classes))[camera]
    logits = shift + 0.3 * rng.normal(size=(n, n_classes)) + 1.2 * np.eye(n_classes)[truth]
    top = logits.argmax(axis=1)
    case = case_of(np.where(np.eye(n_classes)[truth] == 1, YES, NO), logits.astype(np.float32))
    case = replace(case, top=top[:, None].astype(np.int32), kind="logit", link="softmax")
    clusters = Clusters.of(camera)
    points = operating_points(case, rng=rng, masked=masked, clusters=clusters)
    narrow = operating_points(case, rng=rng, masked=masked)
    for c in range(n_classes):
        counts = np.stack([(truth == c) & (top == c), top == c, truth == c]).reshape(3, -1, 4).sum(axis=2)
        drawn = counts[:, rng.integers(n // 4, size=(4000, n // 4))].sum(axis=2)
        right, predicted, positives = drawn
        values = right / predicted, right / positives, 2 * right / (predicted + positives)
        for value, name in zip(values, ("precision", "recall", "f1"), strict=True):
            (_, *ends), (_, *before) = (tuple(end[c] for end in getattr(p, name)()) for p in (points, narrow))
            assert ends == pytest.approx(np.quantile(value, [0.025, 0.975]), abs=0.02)
            assert ends[1] - ends[0] > 1.5 * (before[1] - before[0])


def test_the_threshold_of_all_images_is_the_best_of_scikit_learns_curve():
    state, scores, _ = draw(4)
    found = {goal: points_of(case_of(state, scores), goal) for goal in GOALS}
    for c in found["f1"].fitted:
        yes, own = state[:, c] == YES, scores[:, c].astype(float)
        precision, recall, thresholds = precision_recall_curve(yes, own)
        precision, recall = precision[:-1], recall[:-1]
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
        at = {goal: np.searchsorted(thresholds, points.threshold[c]) for goal, points in found.items()}
        assert f1[at["f1"]] == pytest.approx(f1.max())
        f2 = 5 * precision * recall / np.maximum(4 * precision + recall, 1e-300)
        assert f2[at["f2"]] == pytest.approx(f2.max())
        assert recall[at["recall"]] >= 0.8
        assert (recall[at["recall"] + 1 :] < 0.8).all()
        reached = precision >= 0.6
        fpr, _, at_fpr = roc_curve(yes, own, drop_intermediate=False)
        allowed = (fpr <= 0.15 + 1e-9) & np.isfinite(at_fpr)  # its first threshold predicts nothing
        assert np.isnan(found["fpr"].threshold[c]) == (not allowed.any())
        if allowed.any():
            assert found["fpr"].threshold[c] == at_fpr[allowed].min()
        assert np.isnan(found["precision"].threshold[c]) == (not reached.any())
        if reached.any():
            assert precision[at["precision"]] >= 0.6
            assert recall[at["precision"]] == recall[reached].max()


def wilson(right, n):
    """Return Wilson's interval, for any counts: the roots of (p - x)² = z² x (1 - x) / n."""
    z2, p = norm.ppf(0.975) ** 2, right / n
    return np.sort(np.roots([1 + z2 / n, -2 * p - z2 / n, p**2]).real)


def test_intervals_are_those_of_proportions_with_a_design_effect():
    points = points_of(case_of(*draw(5)[:2]))
    assert len(points.fitted) > 10
    assert points.effect.min() >= 1
    for c in points.fitted:
        right, n = points.n_right[c], np.array([points.n_predicted[c], points.n_positives[c], 0])
        n[2] = n[0] + n[1] - right
        for share, of, effect in zip(
            (points.precision(), points.recall()), n, points.effect[:2, c], strict=False
        ):
            value, lo, hi = (end[c] for end in share)
            assert value == pytest.approx(right / of)
            assert (lo, hi) == pytest.approx(wilson(right / effect, of / effect), abs=1e-9)
        value, lo, hi = (end[c] for end in points.f1())
        ends = wilson(right / points.effect[2, c], n[2] / points.effect[2, c])
        assert (lo / (2 - lo), hi / (2 - hi)) == pytest.approx(ends, abs=1e-9)
        assert value == pytest.approx(2 * right / (n[0] + n[1]))


@pytest.mark.parametrize("goal", GOALS)
def test_the_design_effect_is_that_of_resampled_images(goal, monkeypatch):
    """Images are resampled one by one within their folds, and thresholds chosen by a loop."""
    monkeypatch.setattr(module, "EFFECT_RESAMPLES", 4000)
    rng = np.random.default_rng(3)
    yes = np.arange(60) < 24
    scores = np.round(rng.standard_normal(60) + 1.5 * yes, 1)
    points = points_of(case_of(np.where(yes, YES, NO)[:, None], scores[:, None].astype(np.float32)), goal)
    differences = []
    for _ in range(1000):
        folds = [np.flatnonzero(points.fold == f) for f in range(4)]
        drawn = [np.repeat(images, rng.poisson(1, len(images))) for images in folds]
        right = predicted = under_right = under_predicted = 0
        for f in range(4):
            others = np.concatenate(drawn[:f] + drawn[f + 1 :])
            threshold = chosen_by_loop(yes[others], scores[others], goal, AT[goal])
            if threshold is None:
                continue
            own = scores[drawn[f]] >= threshold
            right, predicted = right + np.sum(own & yes[drawn[f]]), predicted + own.sum()
            under_right += np.sum((scores >= threshold) & yes)
            under_predicted += np.sum(scores >= threshold)
        positives = sum(yes[d].sum() for d in drawn)
        differences.append(
            [
                right / max(predicted, 1) - under_right / max(under_predicted, 1),
                right / positives - under_right / 96,
                right / (positives + predicted - right)
                - under_right / (4 * 24 + under_predicted - under_right),
            ]
        )
    right, predicted = points.n_right[0], points.n_predicted[0]
    n = np.array([predicted, 24, 24 + predicted - right])
    p = right / n
    expected = np.maximum(np.var(differences, axis=0) / (p * (1 - p) / n), 1)
    np.testing.assert_allclose(points.effect[:, 0], expected, rtol=0.2)


def test_the_interval_of_f1_covers_it():
    """At a fixed threshold, 95 % of the intervals of samples of images contain the F1 of their population."""
    rng = np.random.default_rng(0)
    shares = np.array([0.06, 0.03, 0.04])  # right, wrong and missed; the other images are neither
    truth = 2 * shares[0] / (2 * shares[0] + shares[1] + shares[2])
    counts = rng.multinomial(400, [*shares, 1 - shares.sum()], 4000)
    right, either = counts[:, 0], counts[:, :3].sum(axis=1)
    points = points_of(case_of(*draw(0)[:2]))
    for name, values in (("n_right", right), ("n_positives", either), ("n_predicted", right)):
        object.__setattr__(points, name, values)
    object.__setattr__(points, "is_certain", np.zeros(len(right), bool))
    object.__setattr__(points, "threshold", np.zeros(len(right)))
    object.__setattr__(points, "effect", np.ones((3, len(right))))
    _, lo, hi = points.f1()
    assert np.mean((lo <= truth) & (truth <= hi)) == pytest.approx(0.95, abs=0.015)


def test_thresholds_fitted_on_the_same_images_flatter():
    """Scores are noise, so no threshold is better than predicting a class everywhere."""
    rng = np.random.default_rng(6)
    yes = rng.random((2000, 40)) < 0.01
    scores = rng.random((2000, 40), np.float32)
    points = points_of(case_of(np.where(yes, YES, NO), scores), n_folds=5)
    everywhere = 2 * yes.mean(axis=0) / (1 + yes.mean(axis=0))
    at_threshold = f1_score(yes, scores >= points.threshold, average=None)
    assert len(points.fitted) == 40
    assert np.mean(at_threshold - everywhere) > 0.015
    assert np.mean(points.f1()[0] - everywhere) < 0.005


def test_why_numbers_are_undefined():
    n = 12
    state = np.full((n, 5), NO, np.uint8)
    state[:, 1] = YES
    state[:3, 2] = YES
    state[:6, 3] = YES
    state[:6, 4] = YES
    scores = np.tile(np.arange(n, dtype=np.float32)[:, None], (1, 5))  # positives have the lowest scores
    scores[:, 4] = -scores[:, 4]
    points = points_of(case_of(state, scores), "precision", at=0.95)
    reasons = [None if r < 0 else REASONS[r] for r in points.reason]
    assert reasons == ["no positives", "no negatives", "too few positives", "not reached", None]
    assert np.isnan(points.ap).tolist() == [True, False, False, False, False]
    assert np.isnan(points.auroc).tolist() == [True, True, False, False, False]
    assert np.isnan(points.threshold).tolist() == [True, False, True, True, False]
    assert points.ap[1] == 1.0
    assert np.isnan(points.recall()[0]).tolist() == [True, False, True, True, False]


def test_all_positives_in_one_fold_are_too_few():
    state = np.full((8, 1), NO, np.uint8)
    scores = np.arange(8, dtype=np.float32)[:, None]
    fold = points_of(case_of(state, scores), n_folds=2).fold
    state[fold == 1] = YES
    points = points_of(case_of(state, scores), n_folds=2)
    assert (points.fold == fold).all()
    assert REASONS[points.reason[0]] == "too few positives"


def test_nothing_is_chosen_without_scores_or_without_recorded_answers():
    state, scores, _ = draw(0)
    case = case_of(state, scores)
    ranks = Case(case.labels, case.top)
    assert points_of(ranks) is None
    sets = LabelSets.from_lists([[0], [1]], 2)
    only_valid = Case(sets, np.zeros((2, 1), np.int32), np.zeros((2, 2), np.float32))
    assert points_of(only_valid, masked=True) is None
    assert points_of(only_valid).n_negatives.tolist() == [1, 1]


def test_the_same_seed_gives_the_same_folds():
    case = case_of(*draw(0)[:2])
    first, same, other = (points_of(case, seed=seed) for seed in (1, 1, 2))
    assert (first.fold == same.fold).all()
    assert (first.fold != other.fold).any()
    assert np.array_equal(first.threshold, other.threshold, equal_nan=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"goal": "recall"},
            "The recall that a threshold must reach is missing.\n  allowed: above 0, up to 1\n"
            "  do:      pass `at`, such as 0.9",
        ),
        (
            {"goal": "fpr"},
            "The false positive rate that a threshold must reach is missing.\n  allowed: above 0, up to 1\n"
            "  do:      pass `at`, such as 0.01",
        ),
        (
            {"goal": "precision", "at": 90},
            "The precision to reach is not a share.\n  got:     90\n  allowed: above 0, up to 1",
        ),
        (
            {"at": 0.5},
            "The goal f1 has no minimum precision or recall.\n  got:     0.5\n"
            "  do:      leave out `at`, or set `goal` to precision, recall or fpr",
        ),
        (
            {"goal": "accuracy"},
            "There is no such goal of a threshold.\n  got:     accuracy\n"
            "  allowed: f1, f2, precision, recall, fpr, top",
        ),
        ({"n_folds": 1}, "There are too few folds.\n  got:     1\n  allowed: 2 and up"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(InputError) as error:
        operating_points(case_of(*draw(0)[:2]), rng=np.random.default_rng(0), **options)
    assert str(error.value) == message


@problems
def test_curves_are_those_of_scikit_learn(seed, dtype, masked):
    state, scores, usable = draw(seed, dtype=dtype)
    classes = np.array([0, 3, 7, 19])
    found = {c: curves for c, *curves in class_curves(case_of(state, scores, usable), classes, masked=masked)}
    assert [*found] == [0, 3, 7]  # there are no positives of the last
    for c, (recall_curve, roc) in found.items():
        counts, yes = cells_of(state, usable, c, masked)
        own, truth = scores[counts, c].astype(float), yes[counts]
        precision, recall, thresholds = precision_recall_curve(truth, own)
        at = np.searchsorted(thresholds, recall_curve.threshold[1:])
        assert recall_curve.x[1:] == pytest.approx(recall[at])
        assert recall_curve.y[1:] == pytest.approx(precision[at])
        assert {*recall} == {*recall_curve.x}
        area = np.sum(np.diff(recall_curve.x) * recall_curve.y[1:])
        assert area == pytest.approx(average_precision_score(truth, own))
        x, y, at = roc_curve(truth, own, drop_intermediate=False)
        of_positives = np.isin(at, own[truth])
        corners = ~np.isnan(roc.threshold)
        assert (roc.threshold[corners] == at[of_positives]).all()
        assert roc.x[corners] == pytest.approx(x[of_positives])
        assert roc.y[corners] == pytest.approx(y[of_positives])
        assert auc(roc.x, roc.y) == pytest.approx(roc_auc_score(truth, own))
        assert (roc.x[0], roc.y[0], roc.x[-1], roc.y[-1]) == (0, 0, 1, 1)


def test_thinned_curves_stay_close():
    state, scores, _ = draw(7, n=20_000, n_classes=2, decimals=4)
    case = case_of(state, scores)
    ((_, *full), (_, *none)) = [*class_curves(case, np.array([0]), most=10**6), (1, None, None)]
    assert none == [None, None]
    ((_, *thin),) = class_curves(case, np.array([0]))
    for long, short in zip(full, thin, strict=True):
        assert len(long.x) > 5000
        assert 150 < len(short.x) <= 200
        assert (short.x[0], short.y[0], short.x[-1], short.y[-1]) == (
            long.x[0],
            long.y[0],
            long.x[-1],
            long.y[-1],
        )
        length = np.abs(np.diff(long.x)).sum() + np.abs(np.diff(long.y)).sum()
        apart = np.abs(long.x[:, None] - short.x) + np.abs(long.y[:, None] - short.y)
        assert apart.min(axis=1).max() <= length / 199
    ap = average_precision_score(state[:, 0] == YES, scores[:, 0])
    assert np.sum(np.diff(thin[0].x) * thin[0].y[1:]) == pytest.approx(ap, abs=0.005)


def test_a_class_in_one_cluster_has_no_interval_over_clusters():
    """All images with the class are of one camera, which says nothing of others."""
    rng = np.random.default_rng(4)
    n, camera = 800, np.repeat(np.arange(40), 20)
    hot = np.stack([rng.random(n) < 0.5, camera // 2 == 3], axis=1)  # 40 images of two cameras
    scores = (hot + rng.normal(0, 1, (n, 2))).astype(np.float32)
    labels = LabelSets.from_lists([np.flatnonzero(row).tolist() for row in hot], 2)
    many = np.repeat(np.arange(20), 40)  # cameras of 40 images: 40 positives of one, or of two
    for clusters, has_interval in ((camera, True), (many, False)):
        case = Case.from_scores(labels, scores, kind="none")
        found = class_precision(case, clusters=Clusters.of(clusters))
        assert np.isfinite(found.lo[0])
        assert np.isfinite(found.lo[1]) == has_interval
        thresholds = replace(case, thresholds=np.full(2, 0.5))
        points = operating_points(thresholds, rng=rng, clusters=Clusters.of(clusters))
        value, lo, _ = points.recall()
        assert value[1] == pytest.approx(np.mean(scores[hot[:, 1], 1] >= 0.5))
        assert np.isfinite(lo[1]) == has_interval


def test_predictions_without_an_answer():
    """By SciPy's hypergeometric distribution of each class, whose threshold may be undefined."""
    rng = np.random.default_rng(7)
    state, scores = rng.choice([NO, YES, NOT_ASKED], (200, 3)), rng.random((200, 3))
    usable, threshold = rng.random(200) < 0.9, np.array([0.3, np.nan, 0.8])
    case = Case.from_scores(sets_of(state, usable), scores, kind="none")
    predicted, answered = scores[usable] >= threshold, state[usable] != NOT_ASKED
    tables = [hypergeom(usable.sum(), answered[:, c].sum(), predicted[:, c].sum()) for c in (0, 2)]
    n_both = (predicted & answered).sum()
    z = (n_both - sum(t.mean() for t in tables)) / np.sqrt(sum(t.var() for t in tables))
    n, without = predicted.sum(), (predicted & ~answered).sum()
    assert unanswered_predictions(case, threshold) == pytest.approx((n, without, z))


def test_answers_at_random_are_independent_of_predictions():
    """Also if classes are answered about, and predicted, at different rates."""
    rng, values = np.random.default_rng(8), []
    for _ in range(400):
        asked = rng.random((150, 3)) < [0.2, 0.5, 0.9]
        state = np.where(asked, rng.choice([NO, YES], (150, 3)), NOT_ASKED)
        scores = np.array([0, 0.3, 0.6]) + rng.random((150, 3))
        case = Case.from_scores(sets_of(state), scores, kind="none")
        values.append(unanswered_predictions(case, np.full(3, 0.7))[2])
    assert kstest(values, "norm").pvalue > 0.01
