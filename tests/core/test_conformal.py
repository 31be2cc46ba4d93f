"""Prediction sets against their definition, and their promise over many draws."""

import numpy as np
import pytest
from scipy.special import softmax

from manyhot.core.conformal import COVERS, countable, fit_threshold, predict_sets
from manyhot.core.sets import NO_LABEL, Case, LabelSets
from manyhot.errors import InputError

C = 6


def drawn(rng, n):
    p = softmax(2 * rng.normal(size=(n, C)), axis=1).astype(np.float32)
    sets = [np.unique(rng.choice(C, 2, p=row / row.sum())) for row in p.astype(float)]
    label = np.array([rng.choice(s) for s in sets])
    return Case.from_scores(LabelSets.from_lists(sets, C, label=label), p, kind="probability"), sets, label


def needed(p, sets, label, cover):
    if cover == "label":
        return p[np.arange(len(p)), label]
    return np.array([(max if cover == "one" else min)(p[i, s]) for i, s in enumerate(sets)])


@pytest.mark.parametrize("cover", COVERS)
def test_threshold_is_the_quantile_of_what_is_missed(cover):
    case, sets, label = drawn(np.random.default_rng(0), 400)
    fitted, rest = np.arange(149), np.arange(149, 400)
    alpha = 0.1
    misses = np.sort(1 - needed(case.scores, sets, label, cover)[fitted].astype(float))
    quantile = misses[int(np.ceil((len(fitted) + 1) * (1 - alpha))) - 1]
    threshold = fit_threshold(case, fitted, cover=cover, alpha=alpha)
    assert threshold == pytest.approx(1 - quantile, abs=1e-7)
    found = predict_sets(case, rest, cover=cover, threshold=threshold)
    for i, row in enumerate(rest):
        kept = set(np.flatnonzero(case.scores[row] >= threshold))
        wanted = {label[row]} if cover == "label" else set(sets[row])
        covered = bool(wanted & kept) if cover == "one" else wanted <= kept
        assert found.covered[i] == covered
        assert found.size[i] == len(kept)


@pytest.mark.parametrize("cover", COVERS)
def test_coverage_over_draws_is_as_promised(cover):
    rng, alpha, n = np.random.default_rng(1), 0.2, 50
    case, _, _ = drawn(rng, 5000)
    rates = []
    for _ in range(300):
        rows = rng.permutation(5000)
        threshold = fit_threshold(case, rows[:n], cover=cover, alpha=alpha)
        rates.append(predict_sets(case, rows[n:400], cover=cover, threshold=threshold).covered.mean())
    assert 1 - alpha - 0.01 <= np.mean(rates) <= 1 - alpha + 1 / (n + 1) + 0.01


def test_logits_and_long_lists_give_the_same():
    case, _, _ = drawn(np.random.default_rng(2), 300)
    logits = Case.from_scores(case.labels, np.log(case.scores) + 3, kind="logit")
    order = np.argsort(-case.scores, axis=1)[:, :5]
    lists = Case(case.labels, order, listed=np.take_along_axis(case.scores, order, 1))
    fitted, rest = np.arange(100), np.arange(100, 300)
    expected = fit_threshold(case, fitted, cover="one", alpha=0.2)
    for other in (logits, lists):
        threshold = fit_threshold(other, fitted, cover="one", alpha=0.2)
        assert threshold == pytest.approx(expected, rel=1e-5)
        found = predict_sets(other, rest, cover="one", threshold=threshold * (1 - 1e-5))
        same = predict_sets(case, rest, cover="one", threshold=expected * (1 - 1e-5))
        assert (found.covered == same.covered).all()
        assert (found.size == same.size).all()


def test_what_a_list_leaves_bounds_what_is_not_listed():
    """All lists end at 0.3, but hold the whole: a threshold of 0.2 lets in nothing that is not listed."""
    labels = LabelSets.from_lists([[1]] * 9, C)
    listed = np.tile(np.array([[0.7, 0.3]], np.float32), (9, 1))
    lists = Case(labels, np.tile([0, 1], (9, 1)), listed=listed)
    assert fit_threshold(lists, np.arange(9), cover="one", alpha=0.5) == pytest.approx(0.3)
    shorter = Case(labels, np.tile([0, 1], (9, 1)), listed=listed / 2)
    assert "probabilities of up to 0.15 outside the lists" in refused(
        lambda: fit_threshold(shorter, np.arange(9), cover="one", alpha=0.5)
    )


def refused(make):
    with pytest.raises(InputError) as error:
        make()
    return str(error.value)


def test_lists_that_end_too_early():
    case, _, _ = drawn(np.random.default_rng(2), 300)
    lists = Case(case.labels, case.top[:, :2], listed=np.take_along_axis(case.scores, case.top[:, :2], 1))
    text = refused(lambda: fit_threshold(lists, np.arange(300), cover="all", alpha=0.01))
    assert text.splitlines()[0] == (
        "These prediction sets may contain classes that are not in the lists of top classes."
    )
    assert text.splitlines()[1].startswith("  got:     a threshold of 0; probabilities of up to 0.")
    assert text.splitlines()[2:] == [
        "  allowed: a threshold above the probabilities of classes outside the lists",
        "  do:      use scores of all classes or longer lists, or a larger alpha",
    ]


def test_short_lists_leave_classes_out_however_long_the_others_are():
    """The second image lists one class of three: the others have up to 0.4."""
    labels = LabelSets.from_lists([[0], [0]], 3)
    top = np.array([[0, 1, 2], [0, NO_LABEL, NO_LABEL]])
    lists = Case(labels, top, listed=np.array([[0.3, 0.3, 0.3], [0.6, -np.inf, -np.inf]]))
    assert "probabilities of up to 0.4 outside the lists" in refused(
        lambda: fit_threshold(lists, np.arange(2), cover="one", alpha=0.4)
    )
    whole = Case(labels, top, listed=np.array([[0.4, 0.3, 0.3], [1.0, 0, 0]]))
    threshold = fit_threshold(whole, np.arange(2), cover="one", alpha=0.4)
    assert threshold == pytest.approx(0.4)
    assert predict_sets(whole, np.arange(2), cover="one", threshold=threshold).size.tolist() == [1, 1]


def test_lists_of_what_is_no_probability():
    labels = LabelSets.from_lists([[0], [0]], 3)
    for bad, what in (
        ([1.5, 0.1], "A probability is not between 0 and 1."),
        ([np.nan, 0.1], "A probability is not between 0 and 1."),
        ([0.9, 0.8], "The probabilities of an image add up to more than 1."),
    ):
        lists = Case(labels, np.array([[0, 1], [0, 1]]), listed=np.array([[0.6, 0.3], bad]))
        lines = refused(lambda c=lists: fit_threshold(c, np.arange(2), cover="one", alpha=0.4)).splitlines()
        assert lines[:2] == [what, "  where:   row 1"]


def test_too_few_images_give_all_classes():
    case, _, _ = drawn(np.random.default_rng(3), 20)
    threshold = fit_threshold(case, np.arange(8), cover="one", alpha=0.1)
    found = predict_sets(case, np.arange(8, 20), cover="one", threshold=threshold)
    assert found.covered.all()
    assert (found.size == C).all()


def test_what_is_no_question():
    case, _, _ = drawn(np.random.default_rng(3), 20)
    assert refused(lambda: countable(case, "some")) == (
        "Prediction sets cannot cover this.\n  got:     some\n  allowed: label, one, all, drawn, drawn_all"
    )
    assert refused(lambda: fit_threshold(case, np.arange(8), cover="one", alpha=1)) == (
        "Alpha is not a miscoverage rate.\n  got:     1\n  allowed: above 0, below 1"
    )
    labels = LabelSets.from_lists([[]] * 20, C, label=np.full(20, NO_LABEL))
    empty = Case.from_scores(labels, case.scores, kind="probability")
    for cover in COVERS:
        assert refused(lambda c=cover: fit_threshold(empty, np.arange(8), cover=c, alpha=0.1)) == (
            "No image has labels to fit to.\n  got:     no image\n  allowed: images with labels"
        )
