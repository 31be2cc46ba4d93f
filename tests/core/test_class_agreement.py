"""Agreement by class, against formulas written as loops and by hand."""

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest, t

from manyhot.core.agreement import measure_answers
from manyhot.core.answers import Answers
from manyhot.core.class_agreement import agreement_by_class


def answers_of_matrix(matrix):
    """Return answers of a matrix of raters and questions, -1 where there is none."""
    rater, question = np.nonzero(matrix >= 0)
    return Answers(question, rater, matrix[rater, question].astype(np.int8), matrix.shape[1], len(matrix))


def ac1_of(columns, answers):
    """Return AC1 of questions, each a list of answers, as in Gwet 2008, by pairs of raters."""
    observed = np.mean([np.mean([a == b for a, b in itertools.combinations(c, 2)]) for c in columns])
    shares = [np.mean([np.mean([a == k for a in c]) for c in columns]) for k in answers]
    expected = sum(p * (1 - p) for p in shares) / (len(answers) - 1)
    return (observed - expected) / (1 - expected)


def votes(seed=0, raters=5, questions=120, classes=4, answers=(0, 1, 2), gaps=0.3):
    rng = np.random.default_rng(seed)
    truth = rng.choice(answers, questions, p=[0.8, *[0.2 / (len(answers) - 1)] * (len(answers) - 1)])
    drawn = rng.choice(answers, (raters, questions))
    matrix = np.where(rng.random((raters, questions)) < 0.7, truth, drawn)
    return np.where(rng.random(matrix.shape) < gaps, -1, matrix), rng.integers(0, classes - 1, questions)


@pytest.mark.parametrize("answers", [(0, 1, 2), (0, 2)])
def test_each_class_is_measured_by_its_own_questions(answers):
    matrix, class_id = votes(answers=answers)
    found = agreement_by_class(answers_of_matrix(matrix), class_id, 4)
    for c in range(3):
        columns = [[a for a in column if a >= 0] for column in matrix[:, class_id == c].T]
        several = [column for column in columns if len(column) > 1]
        assert (found.n[c], found.n_skipped[c]) == (len(several), sum(len(column) == 1 for column in columns))
        assert found.ac1[c] == pytest.approx(ac1_of(several, answers), abs=1e-12)
        own = answers_of_matrix(matrix[:, class_id == c])
        alone = {m.name: m.value for m in measure_answers(own, np.arange(own.n_questions), intervals=False)}
        assert found.pairwise[c] == pytest.approx(alone["pairwise"], abs=1e-12)
        assert found.fleiss_kappa[c] == pytest.approx(alone["fleiss_kappa"], abs=1e-12)
        assert found.yes[c] == pytest.approx(np.mean([np.mean([a == 2 for a in s]) for s in several]))
        without = [ac1_of(several[:i] + several[i + 1 :], answers) for i in range(len(several))]
        n = len(several)
        error = np.sqrt((n - 1) / n * np.sum((without - np.mean(without)) ** 2))
        half = t.ppf(0.975, n - 1) * error
        assert (found.lo[c], found.hi[c]) == pytest.approx(
            (found.ac1[c] - half, min(found.ac1[c] + half, 1)), abs=1e-12
        )
    assert found.n[3] == 0
    assert np.isnan([found.ac1[3], found.fleiss_kappa[3], found.pairwise[3], found.lo[3]]).all()


def test_two_raters_whose_kappa_is_paradoxical():
    """118 of 125 answers are equal, nearly all yes; the formula of Gwet 2008 for two raters and answers."""
    matrix = np.array([[2] * 118 + [2] * 5 + [0] * 2, [2] * 118 + [0] * 5 + [2] * 2])
    found = agreement_by_class(answers_of_matrix(matrix), np.zeros(125, int), 1)
    yes = (123 + 120) / 250
    by_chance = 2 * yes * (1 - yes)
    assert found.pairwise[0] == pytest.approx(118 / 125)
    assert found.ac1[0] == pytest.approx((118 / 125 - by_chance) / (1 - by_chance))
    assert found.ac1[0] == pytest.approx(0.9408, abs=5e-4)
    assert found.fleiss_kappa[0] < 0


def test_a_class_with_one_answer_has_no_kappa():
    found = agreement_by_class(answers_of_matrix(np.full((2, 12), 2)), np.zeros(12, int), 1)
    assert (found.pairwise[0], found.ac1[0]) == (1, 1)
    assert np.isnan(found.fleiss_kappa[0])
    assert np.isnan(found.lo[0])


def test_intervals_contain_the_expected_ac1():
    """Five raters, right in 90 % of cases, on 40 images, of which 90 % show the class."""
    rng, held, times = np.random.default_rng(1), 0, 600
    equal, yes = 0.9**2 + 0.1**2, 0.9 * 0.9 + 0.1 * 0.1
    by_chance = 2 * yes * (1 - yes)
    expected = (equal - by_chance) / (1 - by_chance)
    for _ in range(times):
        truth, right = rng.random(40) < 0.9, rng.random((5, 40)) < 0.9
        matrix = np.where(truth == right, 2, 0)
        found = agreement_by_class(answers_of_matrix(matrix), np.zeros(40, int), 1)
        held += found.lo[0] <= expected <= found.hi[0]
    assert binomtest(held, times, 0.95).pvalue > 0.01
