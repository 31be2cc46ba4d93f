"""What ``benchmarks/interval_coverage.py`` simulates: data sets whose true value is fixed.

A subject yields, for one simulated data set of n images, `Found` intervals. If `true` is None, the interval
should contain the expectation of the value over data sets of this size, which is the mean over the simulated
ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from unittest import mock

import numpy as np
from scipy.special import expit, ndtr, ndtri, softmax

SIZES = (20, 50, 100, 500, 2000)
"""Numbers of images."""

RESAMPLES = 1000
"""Resamples of the bootstrap of ratios, as by default."""

SLOW_RESAMPLES = 50
"""Resamples of metrics that are evaluated again on each; users may have 200."""


@dataclass(frozen=True)
class Found:
    """The interval of one simulated data set."""

    key: str
    value: float
    lo: float
    hi: float
    true: float | None = None


@dataclass(frozen=True)
class Subject:
    """A kind of interval.

    `columns` are the columns of tables that contain such intervals, named by their lower ends; `unit` is what
    n counts.
    """

    name: str
    draw: Callable[[int, np.random.Generator], Iterator[Found]]
    columns: tuple[str, ...]
    sizes: tuple[int, ...]
    unit: str


SUBJECTS: dict[str, Subject] = {}


def subject(*columns, sizes=SIZES, unit="images"):
    def add(draw):
        SUBJECTS[draw.__name__] = Subject(draw.__name__, draw, columns, sizes, unit)
        return draw

    return add


NOT_SIMULATED = {
    "benchmarks.lo": "Wilson's interval of a share of images, as the shares in metrics",
    "calibration_bins.lo": "as reliability.lo, on held-out images",
    "class_agreement.ac1_lo": "tests/core/test_class_agreement.py simulates it",
    "class_calibration.prevalence_lo": "Wilson's interval of a share of images, as the shares in metrics",
    "class_calibration.excess_lo": "tests/core/test_class_calibration.py simulates it",
    "class_calibration.brier_lo": "as results.lo of a mean over images; t instead of the bootstrap",
    "protocol_sets.several_lo": "Wilson's interval of a share of images, as the shares in metrics",
    "difficulty_groups.lo": "Wilson's interval of a share of images, as the shares in metrics",
    "groups.lo": "Wilson's interval of a share of images, as the shares in metrics",
    "group_rates.lo": "Wilson's interval with a design effect, as in difficulty and reliability",
    "groups.lo_outside": "Wilson's interval of a share of images, as the shares in metrics",
    "groups.difference_lo": "Newcombe's interval of two shares, as in companions; the group was chosen",
    "duplicate_accuracy.value_lo": "Wilson's interval of a share of images, as the shares in metrics",
    "duplicate_accuracy.value_without_lo": "Wilson's interval of a share of images, as the shares in metrics",
    "duplicate_accuracy.lo": "a fixed share of the images times a difference of shares, as companions.lo",
    "companions.recall_with_lo": "Wilson's interval of a share of images, as the shares in metrics",
    "companions.recall_without_lo": "Wilson's interval of a share of images, as the shares in metrics",
    "effects.lo": "benchmarks/effects.py simulates studies",
    "means.lo": "benchmarks/effects.py simulates studies",
    "worst_slices.value_lo": "tests/evaluate/test_worst_slices.py simulates it",
    "precise_sets.mean_size_lo": "as prediction_sets.mean_size_lo",
    "posterior.lo": "over raters and images together: the truth is a distribution, given the votes",
    "posterior.lo_raters": "over draws of the posterior, which has no frequency over data sets",
    "posterior_pairs.lo": "as posterior.lo",
}
"""Columns of intervals without a subject, and the reason."""


# Metrics.

CLASSES = 8
PREVALENCE = np.geomspace(0.3, 0.04, CLASSES)


def labelled(n, rng):
    """Return original labels, states of classes (n, C) as 0 no, 1 unclear, 2 yes, 3 not asked, and scores."""
    tendency = 0.5 * rng.standard_normal((n, 1)) + np.sqrt(0.75) * rng.standard_normal((n, CLASSES))
    yes = tendency < ndtri(PREVALENCE)
    yes[np.arange(n), tendency.argmin(1)] |= rng.random(n) < 0.95
    first = np.where(yes, tendency, np.inf).argmin(1)
    label = np.where(rng.random(n) < 0.9, first, rng.integers(0, CLASSES, n)).astype(np.int32)
    state = np.select([yes, rng.random(yes.shape) < 0.05, rng.random(yes.shape) < 0.4], [2, 1, 3], 0)
    shared, image = rng.standard_normal(yes.shape), 0.3 * rng.standard_normal((n, 1))
    scores = []
    for gain in (2.0, 2.5):
        noise = 0.7 * (shared + rng.standard_normal(yes.shape)) + image
        # Confident, as networks are, and not calibrated.
        scores.append(softmax(1.5 * (noise + gain * yes), axis=1).astype(np.float32))
    return label, state, scores


def tables_of(label, state, scores):
    import pyarrow as pa

    from manyhot.tables import Labels

    n = len(label)
    names = np.array(["no", "unclear", "yes"])
    rows, classes = np.nonzero(state < 3)
    offsets = np.append(0, np.cumsum(np.bincount(rows, minlength=n))).astype(np.int32)
    ids = pa.array([f"{i:06}" for i in range(n)])
    labels = Labels(
        pa.table(
            {
                "image_id": ids,
                "label": label,
                "usable": [True] * n,
                "classes": pa.ListArray.from_arrays(offsets, classes.astype(np.int32)),
                "state": pa.ListArray.from_arrays(offsets, pa.array(names[state[rows, classes]])),
            }
        ),
        CLASSES,
        name="simulated",
    )
    return labels, predictions_of(ids, scores)


def predictions_of(ids, scores):
    from manyhot.tables import Predictions

    names = "ab"[: len(scores)]
    return [
        Predictions(ids, name, scores=s, score_kind="probability")
        for name, s in zip(names, scores, strict=True)
    ]


def judged(labels, predictions, metrics, seed, resamples=RESAMPLES, slices=None, **options):
    """Return the evaluation of models on all images and on `slices`, but without those of evaluate."""
    from manyhot.data.data_sets import Source
    from manyhot.evaluate.judge import Judge
    from manyhot.evaluate.judge_options import JudgeOptions
    from manyhot.evaluate.slices import Slices

    options = JudgeOptions(metrics=metrics, resamples=resamples, seed=seed, trust_order=True, **options)
    slices = slices or Slices(("all",), np.ones((1, len(labels)), bool))
    with mock.patch("manyhot.evaluate.judge.make_slices", return_value=slices):
        judge = Judge(Source(labels.name, labels), options)
    for model in predictions:
        judge.add(model, *judge.fit(model))
    return judge.finish()


def intervals_of(evaluation, slice="all") -> Iterator[Found]:
    """Yield the intervals of the first model and of the difference of both."""
    nan = float("nan")
    for r in evaluation.results.to_pylist():
        if r["model"] == "a" and r["slice"] == slice and r["n"]:
            lo, hi = (nan if r[e] is None else r[e] for e in ("lo", "hi"))
            yield Found(r["metric"].partition("(")[0], r["value"], lo, hi)
    for r in evaluation.pairs.to_pylist() if slice == "all" else ():
        lo, hi = (nan if r[e] is None else r[e] for e in ("lo", "hi"))
        yield Found(f"{r['metric'].partition('(')[0]}, pair", r["difference"], lo, hi)


def call_of(name):
    if name.startswith("accuracy_at_coverage"):
        return f"{name}(coverage=0.5)"
    if name == "recall_at_fpr":
        return f"{name}(fpr=0.1)"
    return name.replace("@k", "@3")


@functools.cache
def metric_calls():
    """Return the metrics of the registry in three groups: of label sets, of votes, and without interval."""
    from manyhot.core.estimates import Pooled
    from manyhot.registry import get, names

    label, state, scores = labelled(60, np.random.default_rng(0))
    case = _case(label, state, scores[0])
    groups = {"sets": [], "votes": [], "none": []}
    for name in names("metric"):
        entry = get("metric", call_of(name))
        estimate = entry(case)
        if entry.about.get("votes"):
            group = "none" if name == "ece_votes" else "votes"
        else:
            group = "none" if isinstance(estimate, Pooled) and estimate.biased else "sets"
        groups[group].append(call_of(name))
    return groups


@subject("results.lo", "pairs.lo", "calibration.lo", "class_means.value_lo")
def metrics(n, rng):
    labels, predictions = tables_of(*labelled(n, rng))
    yield from intervals_of(judged(labels, predictions, metric_calls()["sets"], int(rng.integers(2**31))))


@subject("results.lo")
def resampled_metrics(n, rng):
    """Yield intervals of metrics that are evaluated again on each resample, as with ``--map-resamples``."""
    labels, predictions = tables_of(*labelled(n, rng))
    options = {"resamples": 0, "map_resamples": SLOW_RESAMPLES}
    yield from intervals_of(judged(labels, predictions[:1], ("map_macro", "error_auroc"), 0, **options))


@subject("results.lo", "pairs.lo")
def metrics_of_votes(n, rng):
    from manyhot.tables.array_inputs import as_labels

    _, state, scores = labelled(n, rng)
    p = softmax(2.0 * (state == 2) + rng.standard_normal(state.shape), axis=1)
    counts = rng.multinomial(10, p)
    labels = as_labels(counts, n_classes=CLASSES, label_values="counts")
    predictions = predictions_of(labels.image_id, scores)
    yield from intervals_of(judged(labels, predictions, metric_calls()["votes"], int(rng.integers(2**31))))


@subject("results.lo", "reliability.lo", "datasets.original_valid_lo", "robustness.lo")
def shares(n, rng):
    from manyhot.core.share_intervals import proportion_interval

    # A range of shares: for a single one, the coverage oscillates with n, as counts are whole numbers.
    for least, most in ((0.7, 0.9), (0.95, 0.99)):
        p = rng.uniform(least, most)
        k = rng.binomial(n, p)
        lo, hi = proportion_interval(k, n)
        yield Found(f"share, {least} to {most}", k / n, float(lo), float(hi), p)


@subject("drops.lo", "losses.lo", "robustness.lo")
def drops(n, rng):
    """Yield drops within one data set, and between two of n images."""
    from manyhot.evaluate.compared_results import compare_results, join_results
    from manyhot.tables import Results

    found = []
    for name in ("x", "y"):
        label, state, scores = labelled(n, rng)
        if name == "y":  # a harder data set
            scores = [softmax(0.7 * np.log(s) + rng.gumbel(size=s.shape), axis=1) for s in scores]
            scores = [s.astype(np.float32) for s in scores]
        labels, predictions = tables_of(label, state, scores)
        labels = replace(labels, name=name)
        evaluation = judged(labels, predictions, ("top1", "real1", "mla"), 0)
        found.append(Results(evaluation.results, evaluation.pairs, evaluation.samples, name=name))
    nan = float("nan")
    for r in compare_results(join_results(found)).drops.to_pylist():
        if r["model"] in ("a", None):
            lo, hi = (nan if r[e] is None else r[e] for e in ("lo", "hi"))
            place = "within" if r["dataset_x"] == r["dataset_y"] else "between"
            if place == "within" and r["dataset_x"] == "y":
                continue
            what = f"{r['metric_x']} - {r['metric_y']}, {place}" + ("" if r["model"] else ", mean of models")
            yield Found(what, r["drop"], lo, hi)


def draws(n, resamples, rng):
    """Return how often each of n images is in each resample, shape (resamples, n)."""
    from manyhot.core.resampling import draw_counts

    return draw_counts(n, resamples, rng).astype(np.float32)


# Classes.


@subject("class_results.ap_lo", "class_results.auroc_lo", "class_differences.difference_lo")
def classes(n, rng):
    from manyhot.core.ranking import class_differences, class_precision
    from manyhot.core.sets import Case, LabelSets

    yes = rng.random((n, 2)) < [0.3, 0.1]
    shared = rng.standard_normal(yes.shape)
    labels = LabelSets.from_lists([np.flatnonzero(row) for row in yes], 2)
    cases = [
        Case.from_scores(
            labels, (shared + rng.standard_normal(yes.shape) + gain * yes).astype(np.float32), k=1
        )
        for gain in (1.5, 2.0)
    ]
    own, pair = class_precision(cases[0]), class_differences(*cases)
    for c, share in enumerate(("30 %", "10 %")):
        yield Found(f"AP, {share}", own.value[c], own.lo[c], own.hi[c])
        area = float(ndtr(1.5 / 2))
        yield Found(f"AUROC, {share}", area, own.auroc_lo[c], own.auroc_hi[c], area)
        yield Found(f"AP, pair, {share}", pair.values[1, c] - pair.values[0, c], pair.lo[c], pair.hi[c])


@subject("class_results.precision_lo", "class_results.recall_lo", "class_results.f1_lo")
def operating_points(n, rng):
    from manyhot.core.operating_points import operating_points as points_of
    from manyhot.core.sets import Case, LabelSets

    yes = rng.random((n, 1)) < 0.3
    labels = LabelSets.from_lists([np.flatnonzero(row) for row in yes], 1)
    scores = (rng.standard_normal(yes.shape) + 2 * yes).astype(np.float32)
    found = points_of(Case.from_scores(labels, scores, k=1), goal="f1", at=None, n_folds=5, rng=rng)
    # On other images, under the thresholds of the folds.
    folds = found.fold_threshold[:, 0]
    right, wrong = (
        share * ndtr(mean - folds[~np.isnan(folds)]).sum() / 5 for share, mean in ((0.3, 2), (0.7, 0))
    )
    truths = right / (right + wrong), right / 0.3, 2 * right / (right + wrong + 0.3)
    for name, true in zip(("precision", "recall", "f1"), truths, strict=True):
        value, lo, hi = (float(v[0]) for v in getattr(found, name)())
        yield Found(f"{name} at thresholds for F1", value, lo, hi, float(true))


# Uncertainty.


@functools.cache
def _others(cover):
    """Return, of 200,000 images, the thresholds that cover each, and all probabilities, both ascending."""
    from manyhot.core.conformal import countable

    label, state, scores = labelled(200_000, np.random.default_rng(7))
    p, valid = scores[0], state == 2
    case = _case(label, state, p)
    inside = countable(case, cover)
    needed = {
        "label": p[np.arange(len(p)), label],
        "one": np.where(valid, p, 0).max(1),
        "all": np.where(valid, p, 1).min(1),
    }
    return np.sort(needed[cover][inside]), np.sort(p[inside].ravel())


def _at_least(ascending, threshold):
    return len(ascending) - np.searchsorted(ascending, np.float32(threshold))


def _case(label, state, scores):
    from manyhot.core.sets import Case
    from manyhot.tables.arrays import label_sets

    labels, _ = tables_of(label, state, [scores, scores])
    return Case.from_scores(label_sets(labels), scores, k=CLASSES, kind="probability")


@subject("prediction_sets.lo", "prediction_sets.mean_size_lo", "prediction_sets.share_empty_lo")
def prediction_sets(n, rng):
    """Yield coverage, size and share of empty sets on n images, given a threshold from 100 others."""
    from manyhot.core.conformal import countable, fit_threshold, predict_sets
    from manyhot.core.resampling import student_interval
    from manyhot.core.share_intervals import proportion_interval

    label, state, scores = labelled(n + 100, rng)
    case = _case(label, state, scores[0])
    for cover in ("label", "one", "all"):
        threshold = fit_threshold(case, np.arange(100), cover=cover, alpha=0.1)
        rest = np.flatnonzero(countable(case, cover) & (np.arange(n + 100) >= 100))
        found = predict_sets(case, rest, cover=cover, threshold=threshold)
        needed, every = _others(cover)
        covered, size = (_at_least(values, threshold) / len(needed) for values in (needed, every))
        lo, hi = proportion_interval(found.covered.sum(), len(rest))
        yield Found(f"coverage of {cover}", 0, float(lo), float(hi), covered)
        yield Found(f"mean size, {cover}", *student_interval(found.size), size)


@subject("precise_sets.lo", "precise_sets.recall_lo", "prediction_sets.lo")
def shares_of_sets(n, rng):
    """Yield the mean of shares of valid classes in sets, as of sets with a guaranteed precision."""
    from manyhot.evaluate.confidence import drawn_share

    x = np.array([0, 1 / 3, 0.5, 2 / 3, 1])[rng.choice(5, n, p=[0.02, 0.03, 0.1, 0.1, 0.75])]
    yield Found("mean of shares", *drawn_share(x), 0.01 + 0.05 + 0.2 / 3 + 0.75)


@subject("ood.lo")
def ood(n, rng):
    from manyhot.core.ood import auroc, fpr_at_tpr

    for gain in (1.0, 3.0):
        inside, outside = rng.standard_normal(n) + gain, rng.standard_normal(n)
        found = auroc(inside, outside)
        yield Found(f"AUROC, {ndtr(gain / 2**0.5):.2f}", found.value, found.lo, found.hi, ndtr(gain / 2**0.5))
        found, true = fpr_at_tpr(inside, outside, rng), float(ndtr(-(gain - 1.6448536)))
        yield Found(f"FPR at 95 % TPR, {true:.2f}", found.value, found.lo, found.hi, true)


# Companions and shortcuts.


@subject("companions.lift_lo", "companions.odds_ratio_lo", "companions.lo")
def companions(n, rng):
    from manyhot.core.cooccurrence import ClassPairs
    from manyhot.core.sets import LabelSets
    from manyhot.core.share_intervals import difference_of_shares

    cell = rng.choice(4, n, p=[0.2, 0.2, 0.15, 0.45])
    yes = np.stack([cell < 2, (cell == 0) | (cell == 2), cell == 3], 1)
    pairs = ClassPairs.of(LabelSets.from_lists([np.flatnonzero(row) for row in yes], 3))
    for name, found, true in (
        ("lift", pairs.lift(), 0.2 / (0.4 * 0.35)),
        ("odds ratio", pairs.odds_ratio(), 0.2 * 0.45 / (0.2 * 0.15)),
    ):
        value, lo, hi = (v[0] if len(v) else np.nan for v in found)
        yield Found(name, value, lo, hi, true)
    hits = np.where(cell < 2, rng.random(n) < np.where(cell == 0, 0.9, 0.7), False)
    k, of = ([int(v[cell == c].sum()) for c in (0, 1)] for v in (hits, cell < 2))
    value, lo, hi = difference_of_shares(np.array(k)[:, None], np.array(of)[:, None])
    yield Found("recall with - without", value[0], lo[0], hi[0], 0.2)


@subject(
    "shortcuts.flips_lo",
    "shortcuts.lost_lo",
    "shortcuts.control_lo",
    "shortcuts.control_lost_lo",
    "shortcuts.lo",
    "shortcuts.recall_gap_lo",
    "shortcuts.hallucination_gap_lo",
    "shortcuts.ap_lo",
    "shortcuts.ap_balanced_lo",
    "mitigation.lo",
    "mitigation.change_lo",
)
def shortcuts(n, rng):
    from manyhot.core.companion_effects import Resampled, gap, paired_difference, share_with_interval

    # A range of shares, as in `shares`.
    lost, both = rng.uniform(0.15, 0.35), rng.random(n)
    one, other = both < lost, (both > lost - 0.05) & (both < lost + 0.05)
    found = share_with_interval(one)
    yield Found("share lost", found.value, found.lo, found.hi, lost)
    found = paired_difference(one, other)
    yield Found("lost minus control", found.value, found.lo, found.hi, lost - 0.1)
    splits = rng.choice(4, n, p=[0.25, 0.15, 0.2, 0.4]).astype(np.int8)
    score = (rng.standard_normal(n) + 1.5 * (splits <= 1) + 0.5 * (splits == 0)).astype(np.float32)
    found = gap(score > 1, splits, 0, 1)
    yield Found("gap of recall", found.value, found.lo, found.hi, float(ndtr(1.0) - ndtr(0.5)))
    if n <= 500:
        precision = Resampled.of(n, SLOW_RESAMPLES * 4, int(rng.integers(2**31))).precision(score, splits)
        for name, found in (("AP", precision.as_is), ("AP, balanced", precision.balanced)):
            yield Found(name, found.value, found.lo, found.hi)


@subject("localisation.lo", "localisation.excess_lo", "sanity.lo")
def localisation(n, rng):
    """Yield means over images, some with several rows."""
    from manyhot.diagnose.localisation import mean_over_images

    image = np.repeat(np.arange(n), rng.integers(1, 4, n))
    values = expit(1 + rng.standard_normal(n)[image] + rng.standard_normal(len(image)))[:, None]
    value, lo, hi = mean_over_images(values, image, RESAMPLES, 0)
    yield Found("mean of shares over images", value[0], lo[0], hi[0])


# Robustness.


@subject("losses.share_lo", sizes=(500, 2000))
def missing_labels(n, rng):
    """Yield the share of a loss that is due to missing labels; with fewer images, it is not computed."""
    from manyhot.core.corruption_errors import missing_share

    shares = {"single": (0.8, 0.6), "multi": (0.9, 0.78)}
    values, samples = {}, {}
    uniform = [rng.random(n) for _ in range(2)]
    counts = [draws(n, 500, rng) for _ in range(2)]
    for name, ends in shares.items():
        right = [u < p for u, p in zip(uniform, ends, strict=True)]
        values[name] = right[0].mean() - right[1].mean()
        samples[name] = (counts[0] @ right[0] - counts[1] @ right[1]) / n
    found = missing_share(
        [values["single"]], [values["multi"]], samples["single"][None], samples["multi"][None]
    )
    value, lo, hi = (float(v[0]) for v in found)
    yield Found("share due to missing labels", value, lo, hi, 1 - 0.12 / 0.2)


@subject("corruption_errors.error_lo", "corruption_errors.ce_lo", "corruption_errors.relative_lo")
def corruptions(n, rng):
    from manyhot.diagnose.corruption_losses import interval_of_draws

    clean, wrong, base = rng.random(n) < 0.1, rng.random(n) < 0.4, 0.6
    both = np.stack([clean, wrong], 1).astype(float)
    both[:, 1] = np.maximum(both[:, 0], both[:, 1])
    sums = np.concatenate([both.sum(0)[None], draws(n, RESAMPLES, rng) @ both]) / n
    for name, drawn, true in (
        ("error", sums[:, 1], 0.46),
        ("corruption error", sums[:, 1] / base, 0.46 / base),
        ("relative error", (sums[:, 1] - sums[:, 0]) / (base - 0.2), 0.36 / (base - 0.2)),
    ):
        lo, hi = interval_of_draws(drawn, n)
        yield Found(name, drawn[0], lo, hi, true)


@subject(
    "error_ratios.accuracy_difference_lo",
    "error_ratios.error_ratio_x_lo",
    "error_ratios.error_ratio_y_lo",
    "error_ratios.error_ratio_difference_lo",
    sizes=(40, 150, 200, 600),
)
def error_ratios(n, rng):
    """Yield error ratios of n images, on which models are less certain, among five times as many."""
    from manyhot.evaluate.error_ratios import error_ratios
    from manyhot.evaluate.slices import Slices

    label, state, scores = labelled(5 * n, rng)
    hard = np.arange(5 * n) < n
    flat = (
        np.where(hard[:, None], softmax(0.6 * np.log(s) + 0.4 * rng.gumbel(size=s.shape), 1), s)
        for s in scores
    )
    labels, predictions = tables_of(label, state, [s.astype(np.float32) for s in flat])
    slices = Slices(("all", "part=whole", "part=hard"), np.stack([~hard | hard, ~hard | hard, hard]))
    evaluation = judged(labels, predictions, ("top1", "real1"), 0, slices=slices)
    nan = float("nan")
    for r in error_ratios(evaluation.as_results(), "part=whole").to_pylist():
        if r["slice"] == "part=hard" and r["model"] in ("a", None):
            for name in ("accuracy_difference", "error_ratio_x", "error_ratio_y", "error_ratio_difference"):
                lo, hi = (nan if r[f"{name}_{e}"] is None else r[f"{name}_{e}"] for e in ("lo", "hi"))
                yield Found(f"{name}{'' if r['model'] else ', mean of models'}", r[name], lo, hi)


# Models in general.


@subject(
    "drops.lo_models",
    "error_ratios.lo_models",
    "fits.slope_lo",
    "fits.intercept_lo",
    "ranks.lo_models",
    "sensitivity.lo_models",
    sizes=(5, 10, 20),
    unit="families",
)
def families(n, rng):
    """Yield mean drop, line and tau over families of equal and of different sizes."""
    from manyhot.core.comparison import Families, compare_orders, fit_line

    for name, sizes in (("equal", (6,) * n), ("different", FAMILY_SIZES[n])):
        of = Families.of([str(f) for f, size in enumerate(sizes) for _ in range(size)])
        common = rng.standard_normal((2, len(sizes)))[:, of.index]
        own = rng.standard_normal(common.shape)
        x = 0.7 + 0.02 * (common[0] + own[0])
        y = 0.9 * x + 0.02 * (common[1] + own[1])
        line, order = fit_line(x, y, of), compare_orders(x, y, of)
        yield Found(f"mean, {name}", 0, *of.mean_interval(y - 0.9 * x), 0.0)
        yield Found(f"slope, {name}", line.slope, *line.slope_interval, 0.9)
        yield Found(f"intercept, {name}", line.intercept, *line.intercept_interval, 0.0)
        yield Found(f"tau, {name}", order.tau, *order.models)


@subject("equal_accuracy.difference_lo", sizes=(5, 10, 20), unit="families")
def equal_accuracy(n, rng):
    """Yield what the second of two groups of n families has more at equal accuracy, 0.05 on average.

    Families of a group have the same number of models, or different ones, and differ in what they have more.
    The relation of the groups is a curve, so that the logit line is biased, and is not simulated.
    """
    from manyhot.core.comparison import Families
    from manyhot.core.equal_accuracy import ModelGroup, at_equal_accuracy

    for name, sizes in (("equal", (6,) * n), ("different", FAMILY_SIZES[n])):
        groups = []
        for low, gain in ((0.55, 0.0), (0.5, 0.05)):
            of = Families.of([str(f) for f, size in enumerate(sizes) for _ in range(size)])
            x = low + 0.25 * rng.random(len(of.index))
            common, own = rng.standard_normal(n)[of.index], rng.standard_normal(len(x))
            groups.append(ModelGroup(x, x**1.5 + gain + 0.01 * (common + own), of))
        found = list(at_equal_accuracy(*groups))
        for d in found[:1]:
            yield Found(f"mean difference, {name}", d.b - d.a, *d.interval, 0.05)
        for d in found[2:]:
            if d.at == 0.7:
                yield Found(f"difference at 0.7, {name}", d.b - d.a, *d.interval, 0.05)


FAMILY_SIZES = {
    5: (12, 6, 4, 2, 1),
    10: (21, 12, 9, 6, 5, 4, 4, 3, 2, 1),
    20: (21, 12, 9, 6, 5, 4, 4, 3, 2, 1) * 2,
}
"""Families of different sizes; those of ten are like the 67 published networks."""


@subject("ranks.lo")
def orders(n, rng):
    """Yield tau over images, of ten models on two data sets of n images.

    The expectation is lower than the tau of infinitely many images, 0.82: noise makes orders differ.
    """
    from manyhot.core.comparison import Families, compare_orders

    p = np.linspace(0.6, 0.8, 10), np.linspace(0.5, 0.75, 10)[[1, 0, 2, 4, 3, 5, 6, 8, 7, 9]]
    values, samples = [], []
    for ends in p:
        right = (rng.standard_normal((n, 1)) + rng.standard_normal((n, 10)) < 2**0.5 * ndtri(ends)).astype(
            float
        )
        values.append(right.mean(0))
        samples.append((draws(n, 200, rng) @ right / n).T)
    order = compare_orders(*values, Families.of(list("abcdefghij")), *samples, n=n)
    yield Found("tau over images", order.tau, *order.images)


# Raters.


@subject("agreement.lo", "raters.informedness_lo")
def raters(n, rng):
    """Yield agreement of the same six raters on three questions of each of n images, and their quality.

    The mean quality is that of six other raters each time: its interval is over raters, too.
    """
    from manyhot.core.agreement import measure_answers, measure_sets
    from manyhot.core.raters import golden_measures, golden_quality

    image, truth = _asked(n, rng)
    answers = _answered(truth, np.linspace(0.5, 1.5, 6), rng)
    for m in measure_answers(answers, image):
        yield Found(m.name, m.value, m.lo, m.hi)
    for m in measure_sets(answers, image, np.tile(np.arange(3), n)) if n <= 500 else ():
        yield Found(m.name, m.value, m.lo, m.hi)

    value, lo, hi = (v[2] for v in golden_quality(_golden(answers, truth, image)).informedness())
    yield Found("informedness", value, lo, hi)
    others = _golden(_answered(truth, rng.normal(1.0, 0.3, 6), rng), truth, image)
    for m in golden_measures(others, resamples=500, rng=rng):
        yield Found(m.name, m.value, m.lo, m.hi)


@subject(
    "raters.agreement_lo",
    "raters.golden_accuracy_lo",
    "raters.golden_sensitivity_lo",
    "raters.golden_specificity_lo",
)
def shares_of_raters(n, rng):
    """Yield shares of the answers of one rater of six to three questions of each of n images."""
    from manyhot.core.raters import agreement_with_others, golden_quality

    image, truth = _asked(n, rng)
    answers = _answered(truth, np.linspace(0.5, 1.5, 6), rng)
    yield Found("agreement with others", *(v[2] for v in agreement_with_others(answers, image)[0]))
    quality = golden_quality(_golden(answers, truth, image))
    for name, truths in (("accuracy", [0, 1]), ("sensitivity", [1]), ("specificity", [0])):
        yield Found(f"{name} of a rater", *(v[2] for v in quality.share(truths)))


@subject("held_out.lo")
def held_out_sources(n, rng):
    """Yield how well two sources predict a third, on three questions of each of n images, not all asked."""
    from manyhot.core.agreement import held_out_measures
    from manyhot.core.answers import SILENT

    image, truth = _asked(n, rng)
    answers = _answered(truth, np.array([1.5, 1.0, 0.7]), rng)
    by_source = answers.answer.reshape(3, -1).T.copy()
    by_source[rng.random(by_source.shape) < 0.2] = SILENT
    for m in held_out_measures(by_source, image, 0, np.array([1, 2])):
        yield Found(f"{m.name} of a source by others", m.value, m.lo, m.hi)


def _asked(n, rng):
    """Return the image and the truth of three questions of each of n images."""
    image = np.repeat(np.arange(n), 3)
    return image, rng.standard_normal(n)[image] + rng.standard_normal(3 * n) > 0.5


def _answered(truth, ability, rng):
    """Return the answers of raters, of whom all find the same questions hard."""
    from manyhot.core.answers import Answers

    q, r = len(truth), len(ability)
    rater, question = np.divmod(np.arange(r * q), q)
    z = ability[:, None] * (2 * truth - 1) + rng.standard_normal((r, q)) + 0.5 * rng.standard_normal(q)
    answer = np.select([z < -0.2, z < 0.3], [0, 1], 2).astype(np.int8)
    return Answers(question, rater, answer.ravel(), q, r)


def _golden(answers, truth, image):
    from manyhot.core.answers import GoldenAnswers

    q = len(truth)
    return GoldenAnswers(answers, np.where(truth, 3, 0), np.full(q, 3), np.arange(q), image)


def question_data(n, rng):
    """Return p, truth and image of three questions of each of n images."""
    image = np.repeat(np.arange(n), 3)
    p = expit(1.5 * (0.7 * rng.standard_normal(n)[image] + rng.standard_normal(3 * n)) - 0.3)
    return p, rng.random(3 * n) < expit(1.3 * np.log(p / (1 - p))), image


@functools.cache
def _questions():
    """Return p of 900,000 questions, highest first, and how many of the first are valid."""
    p, truth, _ = question_data(300_000, np.random.default_rng(11))
    order = np.argsort(-p)
    return -p[order], np.append(0, np.cumsum(truth[order]))


@subject("curve.precision_lo", "curve.recall_lo")
def golden(n, rng):
    """Yield precision and recall at 0.8, and those of thresholds chosen on the golden questions."""
    from manyhot.core.threshold_curve import cross_fit, curve
    from manyhot.errors import InputError

    p, truth, image = question_data(n, rng)
    every, valid = _questions()

    def real(threshold):
        above = int(np.searchsorted(every, -threshold, side="right"))
        return valid[above] / above, valid[above] / valid[-1]

    found = curve(p, truth, image, thresholds=[0.8])
    row, actual = found.at(0.8), real(0.8)
    if row is not None:
        for name, true in zip(("precision", "recall"), actual, strict=True):
            lo, hi = (getattr(found, f"{name}_{end}")[row] for end in ("lo", "hi"))
            yield Found(f"{name} at 0.8", getattr(found, name)[row], lo, hi, true)
    for goal, least in (*(("precision", at) for at in (0.8, 0.9, 0.95)), ("recall", 0.8), ("recall", 0.95)):
        try:
            chosen = (found.for_precision if goal == "precision" else found.for_recall)(least)
        except InputError:
            continue
        crossed, actual = cross_fit(p, truth, image, goal, least, resamples=50, rng=rng), real(chosen)
        for name, true in zip(("precision", "recall"), actual, strict=True):
            yield Found(f"{name} of a threshold for {goal} {least}", *getattr(crossed, name), true)


@subject("proposals: recall and precision")
def proposals(n, rng):
    """Yield recall and precision of proposals."""
    from manyhot.reassess.propose import share_interval

    labels, asked = rng.integers(1, 4, n), rng.integers(2, 9, n)
    hits = rng.binomial(labels, 0.95)
    for name, num, den, true in (("recall", hits, labels, 0.95), ("precision", hits, asked, None)):
        ratio = np.stack([num, den], 1).astype(np.float32)
        samples = draws(n, RESAMPLES, rng) @ ratio
        found = share_interval(*ratio.T, samples[:, 0] / samples[:, 1])
        yield Found(f"{name} of proposals", found.value, found.lo, found.hi, true)


# Transfer.


@subject("results.lo", "pairs.lo", sizes=(20, 50, 100, 500))
def transfer(n, rng):
    from manyhot.core.sets import LabelSets
    from manyhot.train.transfer.tally import Draws, TransferTally, mean_of_draws

    if n > 500:
        return
    _, state, scores = labelled(n, rng)
    sets = LabelSets.from_lists([np.flatnonzero(row) for row in state == 2], CLASSES)
    drawn = Draws(n, 200, int(rng.integers(2**31)))
    names = ["real1", "map_macro"]
    tally = TransferTally("d", "knn", n, drawn)
    tally.results |= {m: drawn.classified(sets, s, names) for m, s in zip("ab", scores, strict=True)}
    counts = np.stack([overlap_counts(n, rng, quality) for quality in (1, 2)])
    for name, own in zip("ab", counts, strict=True):
        tally.results[name] = {
            **tally.results[name],
            **drawn.segmented(own, ["background", "thing", "other"]),
        }
    # Four draws of fitting images, of which each moves the scores.
    moved = rng.standard_normal((2, 4, 1, CLASSES))
    for name, own, moves in zip("ab", scores, moved, strict=True):
        of = [drawn.classified(sets, own * np.exp(0.3 * m), ["real1"])["real1", "all"] for m in moves]
        of = mean_of_draws([replace(d, ends=None) for d in of], 0)
        tally.results[name] = {**tally.results[name], ("real1(shots=5)", "all"): of}
    result = tally.finish([])
    nan = float("nan")
    for r in result.results.to_pylist():
        if r["model"] == "a":
            lo, hi = (nan if r[e] is None else r[e] for e in ("lo", "hi"))
            yield Found(f"{r['metric']}, {r['slice']}", r["value"], lo, hi)
    for r in result.pairs.to_pylist():
        yield Found(f"{r['metric']}, pair", r["difference"], r["lo"], r["hi"])


def overlap_counts(n, rng, quality):
    """Return the pixels of each image in both masks, labelled and predicted, by class; shape (n, 3, 3)."""
    share = rng.dirichlet([6, 2, 1], n)
    labelled = np.array([rng.multinomial(400, s) for s in share])
    right = expit(quality + 0.5 * rng.standard_normal((n, 3)))
    hit = rng.binomial(labelled, right)
    # Missed pixels are predicted as the next class.
    return np.stack([hit, labelled, hit + np.roll(labelled - hit, 1, axis=1)], axis=1)


# Errors of several models.


def _protocols(n, rng, resamples):
    """Return the rows of `diagnose protocols` about two protocols and five models on simulated images."""
    import pyarrow as pa

    from manyhot.core.sets import NO, YES, LabelSets
    from manyhot.diagnose.protocol_groups import ProtocolGroup, TopClasses
    from manyhot.diagnose.protocol_rows import ProtocolTables

    truth = rng.random((n, 4)) < [0.9, 0.3, 0.15, 0.05]
    sets, asked = [], np.tile(np.arange(4, dtype=np.int32), n)
    # The first protocol misses more, and the second says yes more often.
    for miss, add in ((0.15, 0.02), (0.05, 0.08)):
        yes = np.where(truth, rng.random(truth.shape) > miss, rng.random(truth.shape) < add)
        state = np.where(yes.ravel(), YES, NO).astype(np.uint8)
        label, usable = np.zeros(n, np.int32), np.ones(n, bool)
        sets.append(LabelSets(4, np.arange(n + 1) * 4, asked, state, label, usable, asked_known=True))
    hard = rng.standard_normal((n, 1))
    right = 0.7 * hard + 0.7 * rng.standard_normal((n, 5)) < [1.2, 0.9, 0.6, 0.3, -0.2]
    # Models differ in what they answer if they are wrong: classes of which some are valid more often.
    other = np.column_stack(
        [rng.choice([1, 2, 3], n, p=[a, 1 - a - 0.1, 0.1]) for a in (0.1, 0.25, 0.45, 0.65, 0.8)]
    )
    top = np.where(right, 0, other).astype(np.int32)
    ids = pa.array(np.arange(n).astype(str))
    rated = (np.ones(n, bool),) * 2
    tables = ProtocolTables(resamples, int(rng.integers(2**31)), None)
    group = ProtocolGroup("a, b", ("a", "b"), ids, tuple(sets), rated)
    tables.add_agreement(group)
    tables.add_models(group, TopClasses(tuple("vwxyz"), ids, top))
    return tables.rows


_PROTOCOL_VALUES = {
    "protocol_agreement": ("measure", ""),
    "protocol_missing": ("which", "share"),
    "protocol_accuracy": ("by", ""),
    "protocol_errors": ("by_b", "difference"),
    "protocol_ranks": ("by_b", "tau"),
    "protocol_variance": ("component", "sd"),
}


def _protocol_found(rows):
    """Yield the key, value and ends of an interval of each kind."""
    for table, (what, value) in _PROTOCOL_VALUES.items():
        for row in rows[table]:
            is_mean = row.get("model") is None and (row.get("by_a", "a"), row.get("state", "no")) == (
                "a",
                "no",
            )
            if is_mean and row.get("labels_a", "a") == "a":
                ends = (row[f"{value}_{end}" if value else end] for end in ("lo", "hi"))
                shown = (np.nan if end is None else end for end in ends)
                yield f"{value or table.partition('_')[2]}: {row[what]}", row[value or "value"], *shown
    for row in rows["protocol_errors"]:
        if row["model"] == "v" and row["by_a"] == "a" and row["right_lo"] is not None:
            yield f"errors right by {row['by_b']}", row["right"], row["right_lo"], row["right_hi"]


@functools.cache
def _protocol_truth():
    rows = _protocols(400_000, np.random.default_rng(0), 0)
    return {row["component"]: row["sd"] for row in rows["protocol_variance"]}


@subject(
    "protocol_agreement.lo",
    "protocol_missing.share_lo",
    "protocol_accuracy.lo",
    "protocol_errors.difference_lo",
    "protocol_errors.right_lo",
    "protocol_ranks.tau_lo",
    "protocol_variance.sd_lo",
    sizes=(100, 500, 2000),
)
def protocols(n, rng):
    for key, value, lo, hi in _protocol_found(_protocols(n, rng, RESAMPLES)):
        true = _protocol_truth()[key.removeprefix("sd: ")] if key.startswith("sd: ") else None
        yield Found(key, value, lo, hi, true)


@subject(
    "error_consistency.kappa_lo",
    "consistency_means.kappa_lo",
    "consistency_means.difference_lo",
    "majority_votes.gain_lo",
)
def error_consistency(n, rng):
    from manyhot.core.error_consistency import ErrorConsistency, best_votes

    # Images are hard for all models, and label sets forgive errors that the models share.
    hard, own = rng.standard_normal((n, 1)), rng.standard_normal((n, 4))
    top1 = 0.8 * hard + 0.6 * own < [0.9, 0.8, 0.6, 0.2]
    real1 = top1 | (hard > 1) & (rng.random((n, 1)) < 0.3)
    found = [ErrorConsistency(top1), ErrorConsistency(real1)]
    lo, hi = found[0].intervals(RESAMPLES, int(rng.integers(2**31)))
    for i, name in ((0, "of similar accuracy"), (2, "of different accuracy")):
        yield Found(f"kappa of two models {name}", found[0].kappa[i], lo[i], hi[i])
    yield Found("mean kappa", found[0].mean, *found[0].mean_interval)
    yield Found("mean kappa, label sets minus labels", *found[1].difference_from(found[0]))
    top = np.where(top1, 0, 1 + rng.integers(0, 2, top1.shape))
    votes = [v for v in best_votes(top, top1, 0) if v.models == (0, 1, 2)]
    gain = votes[0] if votes else None
    yield Found("gain of a vote", *((gain.gain, *gain.interval) if gain else [float("nan")] * 3))
