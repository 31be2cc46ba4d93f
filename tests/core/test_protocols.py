"""Comparison of protocols against Python sets, loops over images, and closed forms."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau, norm

from manyhot.core.agreement import measure_answers
from manyhot.core.protocols import (
    OTHER_STATES,
    RELATIONS,
    RightBy,
    SetOverlap,
    SharedAnswers,
    missed_beside,
    records_noes,
    states_by_other,
    swaps_between,
    variance_components,
    without_noise,
)
from manyhot.core.resampling import draw_counts
from manyhot.core.sets import NO, UNCLEAR, YES, LabelSets

C = 5
STATES = {"no": NO, "unclear": UNCLEAR, "yes": YES}


def sets_of(images, *, asked_known=True, complete=False):
    """Return label sets from a mapping of classes to states for each image."""
    lists = [sorted(one.items()) for one in images]
    indptr = np.cumsum([0, *map(len, lists)])
    flat = [pair for one in lists for pair in one]
    return LabelSets(
        C,
        indptr,
        np.array([c for c, _ in flat], np.int32),
        np.array([STATES[s] for _, s in flat], np.uint8),
        np.zeros(len(lists), np.int32),
        np.ones(len(lists), bool),
        asked_known,
        complete=complete,
    )


image = st.dictionaries(st.integers(0, C - 1), st.sampled_from(list(STATES)), max_size=C)
two = st.lists(st.tuples(image, image), min_size=1, max_size=12)


def yes(one):
    return {c for c, state in one.items() if state == "yes"}


def relation(a, b):
    if a == b:
        return "equal"
    if not a or not b:
        return "b_empty" if a else "a_empty"
    if not a & b:
        return "disjoint"
    return "a_in_b" if a < b else "b_in_a" if b < a else "overlapping"


@given(two)
def test_relations_and_jaccard_are_those_of_sets(images):
    pairs = [(yes(a), yes(b)) for a, b in images]
    found = SetOverlap.of(*(sets_of([pair[i] for pair in images]) for i in range(2)))
    assert [tuple(RELATIONS)[k] for k in found.relation] == [relation(a, b) for a, b in pairs]
    assert found.jaccard.tolist() == [len(a & b) / len(a | b) if a | b else 1 for a, b in pairs]


@given(two, st.booleans())
def test_what_another_protocol_says_about_labels(images, recorded):
    a, b = (sets_of([pair[i] for pair in images], asked_known=recorded) for i in range(2))
    other = "not asked" if recorded else "not recorded"
    for row, (first, second) in zip(states_by_other(a, b), images, strict=True):
        counts = Counter(second.get(c, other) for c in yes(first))
        assert dict(zip(OTHER_STATES, row.tolist(), strict=True)) == {s: counts[s] for s in OTHER_STATES}


def test_of_complete_label_sets_what_is_not_listed_is_no():
    a, b = sets_of([{0: "yes", 1: "yes"}]), sets_of([{1: "yes"}], complete=True)
    assert states_by_other(a, b).tolist() == [[1, 0, 1, 0, 0]]


def test_only_chosen_labels_count():
    a, b = sets_of([{0: "yes", 1: "yes"}]), sets_of([{0: "yes", 1: "no"}])
    assert states_by_other(a, b, a.classes == 1).tolist() == [[0, 0, 1, 0, 0]]


@given(two)
def test_missed_labels_beside_those_of_the_other(images):
    missed, beside, counts = missed_beside(*(sets_of([pair[i] for pair in images]) for i in range(2)))
    expected = Counter((m, b) for x, y in images for m in yes(x) - yes(y) for b in yes(y))
    assert dict(zip(zip(missed, beside, strict=True), counts, strict=True)) == expected
    assert counts.tolist() == sorted(counts.tolist(), reverse=True)


@given(two)
def test_agreement_on_what_both_asked_is_scotts_pi(images):
    """Fleiss' kappa of two raters is Scott's pi (1955), here from the answers themselves."""
    sets = [sets_of([pair[i] for pair in images]) for i in range(2)]
    shared = SharedAnswers.of(sets, [np.ones(len(images), bool)] * 2)
    both = [(x[c], y[c]) for x, y in images for c in x.keys() & y.keys()]
    found = {m.name: m for m in measure_answers(shared.answers, shared.image, intervals=False)}
    assert found["pairwise"].n == len(both)
    assert found["pairwise"].n_skipped == sum(len(x.keys() ^ y.keys()) for x, y in images)
    if not both:
        return
    agreed = np.mean([x == y for x, y in both])
    shares = np.array([sum((x == s) + (y == s) for x, y in both) for s in STATES]) / (2 * len(both))
    chance = (shares**2).sum()
    if chance < 1:
        assert found["fleiss_kappa"].value == pytest.approx((agreed - chance) / (1 - chance))
    assert found["pairwise"].value == pytest.approx(agreed)


def test_images_that_nobody_saw_have_no_answers():
    sets = [sets_of([{0: "yes"}, {1: "no"}])] * 2
    shared = SharedAnswers.of(sets, [np.array([True, False]), np.array([True, True])])
    assert sorted(zip(shared.answers.question, shared.answers.rater, strict=True)) == [(0, 0), (0, 1), (1, 1)]


def test_complete_label_sets_answer_what_others_asked():
    listed, complete = sets_of([{0: "yes", 2: "no"}]), sets_of([{1: "yes"}], complete=True)
    shared = SharedAnswers.of([listed, complete], [np.ones(1, bool)] * 2)
    answers = {
        (int(shared.class_id[q]), int(r)): int(a)
        for q, r, a in zip(shared.answers.question, shared.answers.rater, shared.answers.answer, strict=True)
    }
    # 0 is no and 2 is yes, as answers.
    assert answers == {(0, 0): 2, (2, 0): 0, (1, 1): 2, (0, 1): 0, (2, 1): 0}


def test_noes_are_recorded_if_any_is():
    assert records_noes(sets_of([{0: "no"}]))
    assert not records_noes(sets_of([{0: "yes", 1: "unclear"}]))
    assert records_noes(sets_of([{0: "yes"}], complete=True))


@pytest.fixture(scope="module")
def right():
    rng = np.random.default_rng(3)
    hard = rng.random((400, 1, 1))
    chance = np.array([[0.0, 0.1, 0.2, 0.3], [0.4, 0.2, 0.3, 0.1]])
    return rng.random((400, 2, 4)) < hard + chance


def test_resampled_accuracies_and_errors_are_those_of_drawn_images(right):
    found = RightBy(right, 20, 7)
    counts = draw_counts(400, 20, np.random.default_rng([7, 400]))
    shares, samples = found.errors_right_by(0, 1)
    for m in range(4):
        assert found.values[1, m] == right[:, 1, m].mean()
        wrong = ~right[:, 0, m]
        assert shares[m] == pytest.approx(right[wrong, 1, m].mean())
        for r, count in enumerate(counts):
            drawn = np.repeat(np.arange(400), count)
            assert found.samples[1, m, r] == pytest.approx(right[drawn, 1, m].mean(), rel=1e-6)
            again = right[drawn[wrong[drawn]], 1, m]
            assert samples[m, r] == pytest.approx(again.mean(), rel=1e-6)


def test_swaps_are_pairs_in_opposite_order_with_the_larger_p_of_two_mcnemar_tests(right):
    found, n = RightBy(right, 0, 0), len(right)
    swaps = swaps_between(found, 0, 1)
    expected = {}
    for i, j in combinations(range(4), 2):
        z = []
        for p in range(2):
            only_j = np.count_nonzero(right[:, p, j] & ~right[:, p, i])
            only_i = np.count_nonzero(right[:, p, i] & ~right[:, p, j])
            d = (only_j - only_i) / n
            z.append(d / np.sqrt(((only_j + only_i) / n - d**2) / n))
        if z[0] * z[1] < 0:
            pair = (i, j) if z[1] > 0 else (j, i)
            expected[pair] = norm.sf(min(abs(z[0]), abs(z[1])))
    made = dict(zip(zip(swaps.a.tolist(), swaps.b.tolist(), strict=True), swaps.p_adjusted, strict=True))
    assert made.keys() == expected.keys()
    assert len(made) >= 3
    # Holm 1979, with 1 as the p of the other pairs.
    ordered = sorted([*expected.values(), *[1.0] * (6 - len(expected))])
    adjusted = np.minimum(np.maximum.accumulate([(6 - i) * p for i, p in enumerate(ordered)]), 1)
    assert swaps.p_adjusted == pytest.approx(adjusted[: len(expected)])
    assert (swaps.difference_a < 0).all()
    assert (swaps.difference_b > 0).all()
    tau = kendalltau(*found.values).statistic
    assert len(made) == round((1 - tau) / 2 * 6)  # without ties


def test_a_sure_swap_survives_holms_correction():
    n = 400
    first, second = np.arange(n) < 200, np.arange(n) < 100
    right = np.stack([np.stack([first, second], 1), np.stack([second, first], 1)], 1)
    swaps = swaps_between(RightBy(right, 0, 0), 0, 1)
    assert (swaps.a.tolist(), swaps.b.tolist()) == ([0], [1])
    d = 100 / n
    assert swaps.p_adjusted[0] == pytest.approx(norm.sf(d / np.sqrt((d - d**2) / n)))


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 100))
def test_the_three_variances_add_up_to_that_of_the_table(p, m, seed):
    values = np.random.default_rng(seed).random((p, m))
    assert variance_components(values).sum() == pytest.approx(values.var())


def test_an_additive_table_has_no_variance_of_both():
    values = np.array([[0.1], [0.3]]) + np.array([0.2, 0.4, 0.6])
    models, protocols, both = variance_components(values)
    assert (models, protocols) == (pytest.approx(0.08 / 3), pytest.approx(0.01))
    assert both == pytest.approx(0, abs=1e-12)


def test_noise_of_the_images_is_taken_off():
    """Models and protocols do not differ, so that all variance is noise: on average, none is left."""
    rng, left, plain = np.random.default_rng(0), [], []
    for _ in range(60):
        found = RightBy(rng.random((200, 3, 5)) < 0.7, 200, int(rng.integers(2**31)))
        value, samples = variance_components(found.values), variance_components(found.samples)
        added = samples.mean(axis=1) - value
        plain.append(value)
        left.append(value - added)
        assert without_noise(value, samples)[0] == pytest.approx(np.maximum(value - added, 0))
    # p (1 - p) / n = 0.00105: of each cell; 8 of 15 degrees of freedom are of both.
    assert np.mean(plain, axis=0)[2] == pytest.approx(0.00105 * 8 / 15, rel=0.1)
    assert abs(np.mean(left, axis=0)[2]) < 0.1 * 0.00105 * 8 / 15
