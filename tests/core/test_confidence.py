"""Uncertainty metrics against their definitions, written out image by image."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import log_softmax

from confidence_cases import OURS, two_classes
from manyhot.core.sets import NO_LABEL, Case, LabelSets
from manyhot.core.top_classes import top_k
from manyhot.errors import InputError
from manyhot.registry import get
from manyhot.testing import random_case

N, C, BINS = 300, 8, 15


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    logits = (2 * rng.normal(size=(N, C))).astype(np.float32)
    p = np.exp(log_softmax(logits / 2, axis=1))
    sets = [np.flatnonzero(rng.random(C) < row) for row in p]  # half of them empty, some of several classes
    label = np.array([rng.choice(s) if len(s) else rng.integers(C) for s in sets])
    label[:20] = NO_LABEL
    labels = LabelSets.from_lists(sets, C, label=label, usable=np.arange(N) % 30 != 7)
    return Case.from_scores(labels, logits, kind="logit")


def value(name, case, weights=None):
    return get("metric", name)(case).value(weights)


def judged(case, on_sets):
    """Return confidence and whether it is right, of the images that count, in float64 from the logits."""
    p = np.exp(log_softmax(case.scores.astype(np.float64), axis=1))
    best, labels = p.argmax(1), case.labels
    yes = labels.yes_matrix()
    counts = labels.usable & (yes.any(1) if on_sets else labels.label != NO_LABEL)
    right = yes[np.arange(len(best)), best] if on_sets else best == labels.label
    return p.max(1)[counts], right[counts]


def first(case, on_sets, n):
    """Return the same of the first n images that count, and the weights that leave them."""
    counts = np.flatnonzero(get("metric", "ece_set" if on_sets else "ece")(case).scored)
    confidence, right = judged(case, on_sets)
    assert len(counts) == len(confidence) > n
    return confidence[:n], right[:n], np.bincount(counts[:n], minlength=N)


def ece_of(groups):
    n = sum(len(c) for c, _ in groups)
    return sum(len(c) / n * abs(c.mean() - r.mean()) for c, r in groups if len(c))


def equal_width(confidence, right, bins=BINS):
    edges = np.linspace(0, 1, bins + 1)
    inside = [(confidence >= lo) & (confidence < hi) for lo, hi in itertools.pairwise(edges)]
    return [(confidence[i], right[i]) for i in inside]


def equal_mass(confidence, right, bins):
    order = np.argsort(confidence)
    return list(zip(np.array_split(confidence[order], bins), np.array_split(right[order], bins), strict=True))


@pytest.mark.parametrize("on_sets", [False, True])
class TestAgainstDefinitions:
    def name(self, base, on_sets):
        return f"{base}_set" if on_sets else base

    def test_ece_and_mce(self, case, on_sets):
        groups = equal_width(*judged(case, on_sets))
        assert value(self.name("ece", on_sets), case) == pytest.approx(ece_of(groups), abs=1e-7)
        largest = max(abs(c.mean() - r.mean()) for c, r in groups if len(c))
        assert value(self.name("mce", on_sets), case) == pytest.approx(largest, abs=1e-6)

    def test_ece_in_bins_of_equal_mass(self, case, on_sets):
        confidence, right, weights = first(case, on_sets, 7 * BINS)
        expected = ece_of(equal_mass(confidence, right, BINS))
        assert value(self.name("ece_mass", on_sets), case, weights) == pytest.approx(expected, abs=1e-7)

    def test_debiased(self, case, on_sets):
        confidence, right, weights = first(case, on_sets, 20 * 5)
        square = 0.0
        for c, r in equal_mass(confidence, right, 5):
            chance = r.mean() * (1 - r.mean()) / (len(r) - 1)
            square += len(c) / len(confidence) * ((c.mean() - r.mean()) ** 2 - chance)
        assert on_sets or square > 0  # of sets chance explains more than all
        name = f"{self.name('ece_debiased', on_sets)}(bins=5)"
        assert value(name, case, weights) == pytest.approx(np.sqrt(max(0, square)), rel=1e-5)

    def test_brier(self, case, on_sets):
        confidence, right = judged(case, on_sets)
        expected = np.mean([(c - float(r)) ** 2 for c, r in zip(confidence, right, strict=True)])
        assert value(self.name("brier", on_sets), case) == pytest.approx(expected, abs=1e-7)

    def test_risk_and_coverage(self, case, on_sets):
        confidence, right = judged(case, on_sets)
        risks = [np.mean(~right[confidence >= threshold]) for threshold in confidence]
        assert value(self.name("aurc", on_sets), case) == pytest.approx(np.mean(risks), abs=1e-12)
        accuracy = right.mean()
        best, _ = quad(lambda c: max(0.0, (c - accuracy) / c), 0, 1, points=[accuracy])
        expected = np.mean(risks) - best
        assert value(self.name("eaurc", on_sets), case) == pytest.approx(expected, abs=1e-9)
        surest = right[np.argsort(-confidence)]
        for kept in (1, 50, len(right)):
            name = f"{self.name('accuracy_at_coverage', on_sets)}(coverage={kept / len(right)})"
            assert value(name, case) == pytest.approx(surest[:kept].mean(), abs=1e-9)

    def test_error_detection(self, case, on_sets):
        confidence, right = judged(case, on_sets)
        pairs = [(c > d) + (c == d) / 2 for c in confidence[right] for d in confidence[~right]]
        assert value(self.name("error_auroc", on_sets), case) == pytest.approx(np.mean(pairs), abs=1e-12)

    def test_classwise(self, case, on_sets):
        p = np.exp(log_softmax(case.scores.astype(np.float64), axis=1))
        labels = case.labels
        yes = labels.yes_matrix() if on_sets else labels.label[:, None] == np.arange(C)
        counts = labels.usable & (yes.any(1) if on_sets else labels.label != NO_LABEL)
        expected = np.mean([ece_of(equal_width(p[counts, c], yes[counts, c])) for c in range(C)])
        assert value(self.name("classwise_ece", on_sets), case) == pytest.approx(expected, abs=1e-7)


def test_likelihoods(case):
    log_p = log_softmax(case.scores.astype(np.float64), axis=1)
    labels = case.labels
    single, mass, best = [], [], []
    for i in np.flatnonzero(labels.usable):
        if labels.label[i] != NO_LABEL:
            single.append(-log_p[i, labels.label[i]])
        classes = labels.classes[labels.indptr[i] : labels.indptr[i + 1]]
        if len(classes):
            mass.append(-np.log(np.exp(log_p[i, classes]).sum()))
            best.append(min(-log_p[i, classes]))
    assert value("nll", case) == pytest.approx(np.mean(single), rel=1e-6)
    assert value("nll_mass", case) == pytest.approx(np.mean(mass), rel=1e-6)
    assert value("nll_best", case) == pytest.approx(np.mean(best), rel=1e-6)
    assert get("metric", "nll_mass")(case).scored.sum() == len(mass)


def test_a_missing_label_is_no_overconfidence():
    """Ten images at 0.9, nine valid, of which only six are the original label."""
    sets = [[0]] * 6 + [[0, 1]] * 3 + [[1]]
    label = [0] * 6 + [1] * 4
    p = np.tile(np.array([[0.9, 0.1]], np.float32), (10, 1))
    case = Case.from_scores(LabelSets.from_lists(sets, 2, label=label), p, kind="probability")
    assert value("ece", case) == pytest.approx(0.3, abs=1e-6)
    assert value("ece_set", case) == pytest.approx(0.0, abs=1e-6)
    assert value("brier", case) == pytest.approx(0.6 * 0.01 + 0.4 * 0.81, abs=1e-6)
    assert value("nll_mass", case) == pytest.approx(-(6 * np.log(0.9) + np.log(0.1)) / 10, abs=1e-6)
    assert value("nll_best", case) == pytest.approx(-(9 * np.log(0.9) + np.log(0.1)) / 10, abs=1e-6)
    assert value("error_auroc", case) == 0.5
    assert value("accuracy_at_coverage(coverage=0.25)", case) == pytest.approx(0.6)


@pytest.mark.parametrize("kind", ["logit", "probability"])
@pytest.mark.parametrize("name", [n for n in OURS if get("metric", n).about["needs"] == "confidence"])
def test_a_list_is_as_good_as_all_scores(case, name, kind):
    p = np.exp(log_softmax(case.scores, axis=1))
    dense = case if kind == "logit" else Case.from_scores(case.labels, p, kind=kind)
    lists = Case(case.labels, case.top[:, :3], listed=np.take_along_axis(p, case.top[:, :3], 1))
    spec = f"{name}(coverage=0.7)" if "coverage" in name else name
    assert value(spec, lists) == pytest.approx(value(spec, dense), abs=1e-6)
    assert (get("metric", spec)(lists).scored == get("metric", spec)(dense).scored).all()


def test_what_needs_all_probabilities_is_undefined_of_lists(case):
    lists = Case(case.labels, case.top[:, :3], listed=np.full((N, 3), 0.3))
    for name in ("nll", "nll_mass", "nll_best", "classwise_ece", "classwise_ece_set"):
        estimate = get("metric", name)(lists)
        assert np.isnan(estimate.value(None))
        assert not estimate.scored.any()


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("kind", ["score", "none"])
def test_scores_that_only_rank_say_nothing(case, name, kind):
    spec = f"{name}(coverage=0.7)" if "coverage" in name else name
    estimate = get("metric", spec)(replace(case, kind=kind))
    assert np.isnan(estimate.value(None))
    assert not estimate.scored.any()


def test_half_precision_and_no_class_at_all(case):
    half = replace(case, scores=case.scores.astype(np.float16))
    for name in OURS:
        spec = f"{name}(coverage=0.7)" if "coverage" in name else name
        # A confidence may change its bin.
        assert value(spec, half) == pytest.approx(value(spec, case), abs=0.02)
    empty = Case(case.labels, np.full((N, 1), -1), listed=np.full((N, 1), -np.inf, np.float32))
    assert not get("metric", "ece")(empty).scored.any()


def test_without_errors_nothing_is_detected():
    labels = LabelSets.from_lists([[0], [1]], 2, label=[0, 1])
    case = Case.from_scores(labels, np.eye(2, dtype=np.float32), kind="probability")
    estimate = get("metric", "error_auroc")(case)
    assert np.isnan(estimate.value(None))
    assert estimate.scored.sum() == 2
    assert value("aurc", case) == 0
    assert value("eaurc", case) == 0
    assert value("nll", case) == 0
    assert value("ece", case) == 0  # a confidence of 1 is in the last bin


def test_everything_wrong():
    labels = LabelSets.from_lists([[1], [0]], 2, label=[1, 0])
    case = Case.from_scores(labels, np.array([[0.75, 0.25], [0.5, 0.5]], np.float32), kind="probability")
    wrong = replace(case, labels=LabelSets.from_lists([[1], [1]], 2, label=[1, 1]))
    assert value("aurc", wrong) == 1
    assert value("eaurc", wrong) == 0
    assert np.isnan(value("error_auroc", wrong))
    assert value("ece", wrong) == pytest.approx(0.625)
    assert value("mce", wrong) == pytest.approx(0.75)


def test_equals_stay_together_in_bins_of_equal_mass():
    """Four equals and four others in two bins: none of the equals goes to the bin of the others."""
    labels = LabelSets.from_lists([[0]] * 8, 2, label=[0, 0, 0, 1, 0, 1, 1, 0])
    first = np.array([0.9, 0.9, 0.9, 0.9, 0.8, 0.7, 0.6, 0.55], np.float32)
    case = Case.from_scores(labels, np.stack([first, 1 - first], axis=1), kind="probability")
    expected = (abs(0.9 - 0.75) + abs((0.8 + 0.7 + 0.6 + 0.55) / 4 - 0.5)) / 2
    assert value("ece_mass(bins=2)", case) == pytest.approx(expected, abs=1e-6)


def test_a_group_of_equals_goes_to_the_bin_of_its_middle():
    """One, two equals and one in two bins: the middle of the equals is where the second bin starts."""
    case = two_classes([0.9, 0.8, 0.8, 0.7], [0, 0, 1, 1])
    expected = (abs(0.9 - 1) + abs(0.8 + 0.8 + 0.7 - 1)) / 4
    assert value("ece_mass(bins=2)", case) == pytest.approx(expected, abs=1e-6)


def test_the_lower_end_belongs_to_a_bin():
    case = two_classes([0.75, 0.625], [1, 0])
    assert value("ece(bins=4)", case) == pytest.approx((0.75 + 0.375) / 2)
    assert value("mce(bins=4)", case) == pytest.approx(0.75)


def test_what_rounding_takes_above_1_is_1():
    labels = LabelSets.from_lists([[0], [1]], 3, label=[0, 1])
    case = Case(labels, np.array([[0], [1]]), listed=np.array([[1.01], [1.0]], np.float32))
    assert value("brier", case) == 0
    assert value("ece", case) == 0


def test_best_classes_that_are_not_the_best_do_no_harm():
    """The softmax does not rest on their order: exponentials of 200 would overflow."""
    labels = LabelSets.from_lists([[0], [1]], 2, label=[0, 1])
    logits = np.array([[0, 200], [1, 1]], np.float32)
    case = Case(labels, np.array([[0], [1]]), logits, "logit")
    assert value("brier", case) == pytest.approx((1 + 0.25) / 2)
    assert value("nll", case) == pytest.approx((200 + np.log(2)) / 2)


def test_classes_at_the_edge_of_the_lowest_bin():
    """In float32 the product of bins and probability is 1; below it in float64."""
    bins = 25
    p = np.float32(1 / bins)
    assert p * np.float32(bins) >= 1 > float(p) * bins
    case = two_classes([p, 0.5], [0, 1])
    seen = np.stack([[p, 0.5], [1 - p, 0.5]]).astype(np.float32).astype(float)
    groups = [[(seen[0, :1], np.array([True])), (seen[0, 1:], np.array([False]))]]
    groups.append([(seen[1, :1], np.array([False])), (seen[1, 1:], np.array([True]))])
    expected = np.mean([ece_of(g) for g in groups])
    assert value(f"classwise_ece(bins={bins})", case) == pytest.approx(expected, rel=1e-6)


def test_debiasing_takes_off_what_chance_adds():
    """Of calibrated confidences the plain error is far from 0 in small samples, the debiased one is not."""
    rng = np.random.default_rng(0)
    plain, debiased = [], []
    for _ in range(200):
        p = rng.uniform(0.5, 1, 150).astype(np.float32)
        label = (rng.random(150) > p).astype(int)
        labels = LabelSets.from_lists(label[:, None], 2, label=label)
        case = Case.from_scores(labels, np.stack([p, 1 - p], 1), kind="probability")
        plain.append(value("ece_mass", case))
        debiased.append(value("ece_debiased", case))
    assert np.mean(plain) > 0.09
    assert np.median(debiased) < 0.03


@pytest.mark.parametrize(("kind", "expected"), [(np.float16, 24), (np.float32, 126)])
def test_a_stored_zero_is_what_rounding_left(kind, expected):
    labels = LabelSets.from_lists([[1]], 2, label=[1])
    case = Case.from_scores(labels, np.array([[1, 0]], kind), kind="probability")
    for name in ("nll", "nll_mass", "nll_best"):
        assert value(name, case) == pytest.approx(expected * np.log(2))


def test_sigmoids_stand_for_each_class_alone():
    labels = LabelSets.from_lists([[0, 1], [0], [1]], 2, label=[0, 0, 1])
    scores = np.array([[1, 1], [1, 0], [0, 1]], np.float32)
    case = Case.from_scores(labels, scores, kind="probability")
    assert value("classwise_ece_set", case) == 0
    assert value("classwise_ece", case) == pytest.approx((0 + 1 / 3) / 2)
    assert value("ece_set", case) == 0
    with pytest.raises(InputError) as error:
        value("nll_mass", replace(case, name="a.parquet, image {}".format))
    assert str(error.value) == (
        "The probabilities of an image do not add up to 1.\n"
        "  where:   a.parquet, image 0\n"
        "  got:     2; 1 of 3 images are affected\n"
        "  allowed: 1 ± 0.02\n"
        "  do:      for scores of independent classes, such as sigmoids, use ece_set, brier_set or "
        "classwise_ece_set, or recalibrate each class with manyhot calibrate"
    )


def test_probabilities_that_leave_something_out():
    labels = LabelSets.from_lists([[0], [0]], 2, label=[0, 0])
    case = Case.from_scores(labels, np.array([[0.9, 0.1], [0.4, 0.1]], np.float32), kind="probability")
    lines = refused("nll", case).splitlines()
    assert lines[0] == "The probabilities of an image do not add up to 1."
    assert lines[1:3] == ["  where:   row 1", "  got:     0.5; 1 of 2 images are affected"]


def refused(name, case):
    with pytest.raises(InputError) as error:
        value(name, case)
    return str(error.value)


@pytest.mark.parametrize(("bad", "got"), [(12.3, "12.3"), (-0.5, "-0.5"), (np.nan, "nan"), (np.inf, "inf")])
@pytest.mark.parametrize("name", ["ece", "brier_set", "classwise_ece"])
def test_scores_that_are_no_probabilities(bad, got, name):
    labels = LabelSets.from_lists([[0], [0], [1]], 2, label=[0, 0, 1])
    scores = np.array([[0.9, 0.1], [bad, 0.5], [0.2, 0.8]], np.float32)
    case = Case(labels, np.array([[0], [0], [1]]), scores, "probability")
    text = (
        "A probability is not between 0 and 1.\n"
        "  where:   row 1\n"
        f"  got:     {got}\n"
        "  allowed: 0 to 1\n"
        "  do:      divide percentages by 100, or "
        "declare the kind with `scores`: logit, probability or none; a list of logits needs "
        "logsumexp over all classes"
    )
    assert refused(name, case) == text
    if name != "classwise_ece":
        assert refused(name, Case(labels, case.top, listed=scores)) == text


@pytest.mark.parametrize("row", [[np.inf, 0], [np.nan, 0], [-np.inf, -np.inf]])
@pytest.mark.parametrize("name", ["ece", "nll", "classwise_ece_set"])
def test_infinite_logits(row, name):
    labels = LabelSets.from_lists([[0], [0]], 2, label=[0, 0])
    case = Case(labels, np.array([[0], [0]]), np.array([[1, 0], row], np.float32), "logit")
    assert refused(name, case) == (
        "The softmax of the logits is undefined: a row contains NaN, infinity, or only minus infinity.\n"
        "  where:   row 1\n"
        "  got:     1 of 2 rows\n"
        "  allowed: finite logits; minus infinity for a class that is ruled out\n"
        "  do:      run predict on these images again; half precision overflows in some models"
    )


def test_a_class_that_is_ruled_out():
    labels = LabelSets.from_lists([[0], [1]], 3, label=[0, 1])
    logits = np.array([[1, 0, -np.inf], [1, 0, -np.inf]], np.float32)
    case = Case.from_scores(labels, logits, kind="logit")
    p = 1 / (1 + np.exp(-1))
    assert value("nll", case) == pytest.approx((-np.log(p) - np.log(1 - p)) / 2)
    assert value("ece", case) == pytest.approx(p - 0.5)
    case = replace(case, labels=LabelSets.from_lists([[0], [2]], 3, label=[0, 2]))
    assert refused("nll_mass", case) == (
        "A class in the labels has a logit of minus infinity, so its likelihood is 0.\n"
        "  where:   row 1, class 2\n"
        "  got:     1 such (image, class) pairs\n"
        "  allowed: finite logits of the classes in the labels\n"
        "  do:      predict over all classes of the labels"
    )


def test_bins_and_coverage_that_are_none(case):
    assert refused("ece(bins=0)", case) == (
        "This is not a number of bins.\n  got:     bins=0\n  allowed: 1 or more; 15 is usual"
    )
    for coverage in (0, 1.1, "'half'"):
        assert refused(f"accuracy_at_coverage_set(coverage={coverage})", case) == (
            "Coverage is not a share of the images.\n"
            f"  got:     coverage={coverage}\n"
            "  allowed: above 0, up to 1"
        )


def test_classwise_under_weights_is_that_of_the_images_repeated():
    case = random_case(np.random.default_rng(3), n=600, c=30)  # more than a block
    weights = np.random.default_rng(4).integers(0, 3, 600)
    rows = np.repeat(np.arange(600), weights)
    repeated = Case(case.labels.take(rows), case.top[rows], case.scores[rows], "logit")
    for name in ("classwise_ece", "classwise_ece_set"):
        assert value(name, case, weights) == pytest.approx(value(name, repeated), rel=1e-9)


def test_the_best_class_alone():
    scores = np.random.default_rng(0).normal(size=(3000, 7)).round(1).astype(np.float32)
    assert (top_k(scores, 1)[:, 0] == scores.argmax(1)).all()
    assert (top_k(scores, 1) == top_k(scores, 3)[:, :1]).all()
    assert (top_k(scores.astype(np.float16), 1) == top_k(scores.astype(np.float16), 3)[:, :1]).all()
