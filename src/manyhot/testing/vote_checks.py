"""The check that every aggregator must pass, exported by `manyhot.testing`."""

from __future__ import annotations

import numpy as np

from manyhot.core.aggregation import Aggregate
from manyhot.core.answers import MAYBE, Answers, GoldenAnswers
from manyhot.core.answers import NO as NO_ANSWER
from manyhot.core.answers import YES as YES_ANSWER
from manyhot.core.array_types import Bools, Ints8
from manyhot.errors import InputError
from manyhot.registry import Entry, get


def random_votes(
    rng: np.random.Generator, *, n: int = 150, raters: int = 9, votes: int = 5, skill: float = 0.8
) -> tuple[Answers, GoldenAnswers, Bools]:
    """Return answers, golden questions answered by the same raters, and the true answers.

    Parameters
    ----------
    rng : numpy.random.Generator
    n, raters, votes : int
        Number of questions, of raters, and of raters who answer each question.
    skill : float
        Probability of a correct answer. Half of the wrong answers are *maybe*. With a skill of 1, raters are
        always right.
    """
    truth = rng.random(n) < 0.3
    rater = np.concatenate([rng.choice(raters, votes, replace=False) for _ in range(n)])
    question = np.repeat(np.arange(n), votes)
    answers = Answers(question, rater, _draw_answers(truth[question], skill, rng), n, raters)
    known = np.arange(40) < 13
    question = np.repeat(np.arange(40), raters)
    said = _draw_answers(known[question], skill, rng)
    golden = Answers(question, np.tile(np.arange(raters), 40), said, 40, raters)
    return answers, GoldenAnswers(golden, known * 5, np.full(40, 5), np.full(40, -1)), truth


def check_aggregator(aggregator: str | Entry, *, seed: int = 0) -> None:
    """Check the common properties of aggregators; raise an AssertionError that names a violated property.

    The order of votes and the numbering of questions and raters do not matter. Inputs are not changed.
    Probabilities are between 0 and 1, or NaN without votes. If raters are always right, the result is the
    true answers. With one rater, the probability after a yes answer is at least as high as after a no answer.
    Raters' confusion matrices contain probabilities.

    Parameters
    ----------
    aggregator : str or Entry
        A registered name, a call string or an entry.
    seed : int
    """
    entry = get("aggregator", aggregator) if isinstance(aggregator, str) else aggregator
    rng = np.random.default_rng(seed)
    answers, golden, _ = random_votes(rng)
    before = [a.copy() for a in (answers.question, answers.rater, answers.answer)]
    result = entry(answers, golden)
    assert isinstance(result, Aggregate), f"{entry.name} returns no Aggregate"
    assert 0 < entry.about["threshold"] <= 1, f"{entry.name} registers no threshold between 0 and 1"
    after = (answers.question, answers.rater, answers.answer)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True)), "inputs were changed"
    assert result.p.shape == (answers.n_questions,), f"{entry.name}: `p` is not one number per question"
    assert ((result.p >= 0) & (result.p <= 1)).all(), f"{entry.name}: `p` is not a probability"
    _check_matrices(entry, result, answers)
    _check_numbering(entry, result, answers, golden, rng)
    _check_never_wrong(entry, rng)
    _check_one_rater(entry, rng)
    _check_without_votes(entry, answers, golden)


def _draw_answers(truth: Bools, skill: float, rng: np.random.Generator) -> Ints8:
    u = rng.random(len(truth))
    right, wrong = np.where(truth, YES_ANSWER, NO_ANSWER), np.where(truth, NO_ANSWER, YES_ANSWER)
    return np.select([u < skill, u < (1 + skill) / 2], [right, MAYBE], wrong).astype(np.int8)


def _check_matrices(entry: Entry, result: Aggregate, answers: Answers) -> None:
    if result.matrices is None:
        return
    assert len(result.matrices) == answers.n_raters, f"{entry.name}: not one matrix per rater"
    assert np.allclose(result.matrices.sum(-1), 1), f"{entry.name}: a rater's answers do not sum to 1"
    assert result.prior is not None, f"{entry.name}: matrices without a prior"
    assert np.isclose(result.prior.sum(), 1), f"{entry.name}: the prior does not sum to 1"
    assert np.isfinite(result.log_likelihood), f"{entry.name}: matrices without a likelihood"


def _check_numbering(
    entry: Entry, result: Aggregate, answers: Answers, golden: GoldenAnswers, rng: np.random.Generator
) -> None:
    votes = rng.permutation(len(answers))
    question, rater = rng.permutation(answers.n_questions), rng.permutation(answers.n_raters)
    sizes = (answers.n_questions, answers.n_raters)
    shuffled = Answers(
        question[answers.question[votes]], rater[answers.rater[votes]], answers.answer[votes], *sizes
    )
    told = golden.answers
    asked = Answers(told.question, rater[told.rater], told.answer, told.n_questions, told.n_raters)
    other = entry(shuffled, GoldenAnswers(asked, golden.yes, golden.experts, golden.asked))
    assert np.allclose(other.p[question], result.p, atol=1e-6), (
        f"{entry.name}: the result depends on the order of votes, or on the numbering of questions or raters"
    )


def _check_never_wrong(entry: Entry, rng: np.random.Generator) -> None:
    answers, golden, truth = random_votes(rng, skill=1.0)
    sure = entry(answers, golden).p >= entry.about["threshold"]
    assert np.array_equal(sure, truth), (
        f"{entry.name}: raters who are always right do not give the true answers"
    )


def _check_one_rater(entry: Entry, rng: np.random.Generator) -> None:
    answers, golden, _ = random_votes(rng, raters=1, votes=1)
    p = entry(answers, golden).p
    assert p[answers.answer == YES_ANSWER].min() >= p[answers.answer == NO_ANSWER].max(), (
        f"{entry.name}: with one rater, a no answer gives a higher probability than a yes answer"
    )


def _check_without_votes(entry: Entry, answers: Answers, golden: GoldenAnswers) -> None:
    more = Answers(answers.question, answers.rater, answers.answer, answers.n_questions + 1, answers.n_raters)
    p = entry(more, golden).p[-1]
    assert np.isnan(p) or 0 <= p <= 1, f"{entry.name}: a question without votes has {p}"
    nothing = np.empty(0, np.int64)
    try:
        p = entry(Answers(nothing, nothing, nothing.astype(np.int8), 1, 1), None).p[0]
    except InputError:
        return
    assert np.isnan(p), f"{entry.name}: without any votes p is {p}"
