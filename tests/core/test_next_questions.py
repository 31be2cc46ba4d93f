"""What to ask next, against all sequences of answers written out, and numbers worked out by hand."""

import itertools
import math
import time

import numpy as np
import pytest

from manyhot.core.next_questions import (
    AnswerOutcomes,
    average_rater,
    choose_questions,
    disagreement,
    entropy,
    expected_change,
    flip_probability,
    log_ratios,
    settled,
)
from manyhot.errors import InputError

# P(no, maybe, yes) where the class is not in the image, and where it is: near ReaL's average rater.
RATER = np.array([[0.90, 0.06, 0.04], [0.30, 0.20, 0.50]])
P = np.array([0.001, 0.05, 0.22, 0.5, 0.79, 0.8, 0.81, 0.97, 0.9999])
ODDS = np.log(P / (1 - P))


def posterior(p, answers, rater=RATER):
    """Return p after some answers, by Bayes' rule."""
    there, absent = p, 1 - p
    for a in answers:
        there, absent = there * rater[1, a], absent * rater[0, a]
    return there / (there + absent)


def flipped(p, ahead, threshold, rater=RATER):
    """Return the chance of another state, over all sequences of `ahead` answers."""
    total = 0.0
    for answers in itertools.product(range(rater.shape[1]), repeat=ahead):
        chance = sum(
            prior * math.prod(row[a] for a in answers) for prior, row in zip((1 - p, p), rater, strict=True)
        )
        total += chance * ((posterior(p, answers, rater) >= threshold) != (p >= threshold))
    return total


def test_average_rater():
    quality = np.array([RATER, RATER[::-1]])
    assert average_rater(quality) == pytest.approx(np.full((2, 1), 0.5) * (RATER[0] + RATER[1]))
    assert average_rater(quality, np.array([3, 1]))[0] == pytest.approx([0.75, 0.095, 0.155])


@pytest.mark.parametrize("threshold", [0.5, 0.8])
@pytest.mark.parametrize("ahead", [0, 1, 2, 3, 5])
def test_flips_over_all_sequences(ahead, threshold):
    expected = [flipped(p, ahead, threshold) for p in 1 / (1 + np.exp(-ODDS))]
    assert flip_probability(ODDS, RATER, ahead=ahead, threshold=threshold) == pytest.approx(
        expected, abs=1e-14
    )


def test_flips_of_raters_with_two_answers():
    rater = np.array([[0.9, 0.1], [0.2, 0.8]])
    expected = [flipped(p, 4, 0.8, rater) for p in 1 / (1 + np.exp(-ODDS))]
    assert flip_probability(ODDS, rater, ahead=4) == pytest.approx(expected, abs=1e-14)


def test_what_cannot_happen_has_no_probability_at_all():
    # One answer multiplies the odds by 1/3 to 12.5: from 0.001 and 0.9999 the threshold is out of reach.
    assert flip_probability(ODDS[[0, -1]], RATER, ahead=1).tolist() == [0, 0]


def test_outcomes_are_all_that_can_happen():
    outcomes = AnswerOutcomes.of(RATER, 5)
    assert len(outcomes.added) == 21
    assert outcomes.below[:, -1] == pytest.approx([1, 1])
    assert outcomes.above[:, 0] == pytest.approx([1, 1])
    assert (np.diff(outcomes.added) >= 0).all()


def test_one_step_sees_nothing_in_a_new_question_and_several_do():
    # 0.2 lifted by a yes is 0.758: below 0.8. Two lift it to 0.975.
    new = np.log(np.array([0.2]) / 0.8)
    assert posterior(0.2, [2]) == pytest.approx(0.7576, abs=1e-4)
    assert expected_change(new, RATER).tolist() == [0]
    assert expected_change(new, RATER, ahead=2)[0] == pytest.approx(flipped(0.2, 2, 0.8) / 2)
    assert flipped(0.2, 2, 0.8) > 0.05


def test_expected_change_is_the_best_rate():
    expected = [max(flipped(p, n, 0.8) / n for n in (1, 2, 3)) for p in 1 / (1 + np.exp(-ODDS))]
    assert expected_change(ODDS, RATER, ahead=3) == pytest.approx(expected, abs=1e-14)


def test_expected_change_with_as_many_steps_as_each_may_get():
    steps = np.array([0, 1, 2, 3, 4, 0, 1, 2, 3])
    expected = [
        max((flipped(p, k, 0.8) / k for k in range(1, n + 1)), default=0)
        for p, n in zip(1 / (1 + np.exp(-ODDS)), steps, strict=True)
    ]
    assert expected_change(ODDS, RATER, ahead=steps) == pytest.approx(expected, abs=1e-14)


def test_entropy():
    assert entropy(np.array([0.0])).tolist() == [1.0]
    assert entropy(np.log(np.array([1 / 3]))) == pytest.approx([0.811278], abs=1e-6)
    assert entropy(np.array([-800.0, 800.0])) == pytest.approx([0, 0])


def test_disagreement():
    # None; one yes; three yes; yes, no; yes, yes, no, no.
    found = disagreement(np.array([[0, 0, 0], [0, 0, 1], [0, 0, 3], [1, 0, 1], [2, 0, 2]]))

    def bits(*counts):
        return -sum(c / sum(counts) * math.log2(c / sum(counts)) for c in counts)

    expected = [bits(1, 1, 1), bits(1, 1, 2), bits(1, 1, 4), bits(2, 1, 2), bits(3, 1, 3)]
    assert found == pytest.approx(expected)
    assert np.argsort(-found).tolist() == [0, 3, 1, 4, 2]


def test_settled_when_no_sequence_changes_the_state():
    for left in range(6):
        expected = [flipped(p, left, 0.8) <= 0 for p in 1 / (1 + np.exp(-ODDS))]
        assert settled(ODDS, RATER, left).tolist() == expected
    assert settled(ODDS, RATER, 0).all()


def test_settled_with_as_many_answers_left_as_each_has():
    left = np.array([0, 1, 2, 3, 4, 5, 0, 1, 2])
    expected = [flipped(p, n, 0.8) <= 0.05 for p, n in zip(1 / (1 + np.exp(-ODDS)), left, strict=True)]
    assert settled(ODDS, RATER, left, at_most=0.05).tolist() == expected


def test_settled_beyond_a_probability():
    assert settled(ODDS, RATER, 5, sure=0.96).tolist() == [True, False, False, False, False, False, False,
                                                           True, True]  # fmt: skip


def test_choice_is_by_score_and_then_by_order():
    score = np.array([0.5, 0.9, 0.5, 0.0, 0.9])
    assert choose_questions(score, 3).tolist() == [1, 4, 0]
    assert choose_questions(score, 9).tolist() == [1, 4, 0, 2, 3]
    assert choose_questions(score, 3, np.array([True, False, True, True, True])).tolist() == [4, 0, 2]
    assert choose_questions(score, 0).tolist() == []


def test_inputs_stay_as_they_are():
    odds, rater = ODDS.copy(), RATER.copy()
    for array in (odds, rater):
        array.setflags(write=False)
    expected_change(odds, rater, ahead=3)
    settled(odds, rater, 3, at_most=0.1, sure=0.9)
    entropy(odds)


def test_as_many_questions_as_real_has_take_well_under_a_second():
    odds = np.random.default_rng(0).normal(-2, 3, 184_962)
    begun = time.process_time()
    chosen = choose_questions(
        expected_change(odds, RATER, ahead=5), 10_000, ~settled(odds, RATER, 5, at_most=0.01)
    )
    assert len(chosen) == 10_000
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: log_ratios(np.array([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5]])),
            "The quality of a rater is not a matrix of probabilities above 0.\n  got:     0 to 0.9\n"
            "  allowed: above 0, at most 1\n  do:      smooth the counts: for k of N answers, use (k + 1) / "
            "(N + 3)",
        ),
        (
            lambda: flip_probability(ODDS, RATER, ahead=51),
            "The number of further answers is out of range.\n  got:     51\n  allowed: 0 to 50",
        ),
        (
            lambda: settled(ODDS, RATER, -1),
            "The number of further answers is out of range.\n  got:     -1\n  allowed: 0 to 50",
        ),
        (
            lambda: expected_change(ODDS, RATER, threshold=1.0),
            "The threshold is not a probability.\n  got:     1.0\n  allowed: between 0 and 1",
        ),
        (lambda: choose_questions(ODDS, -1), "The budget is negative.\n  got:     -1\n  allowed: 0 or more"),
    ],
)
def test_errors(call, message):
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value) == message
