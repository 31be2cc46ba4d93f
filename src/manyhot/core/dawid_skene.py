"""Aggregators that learn how good each rater is from the answers alone: Dawid and Skene's model and one-coin.

A rater has one confusion matrix for all classes, because with 1,000 classes no rater answers enough questions
about each. Matrices are shrunk towards that of all raters, and the share of questions with the truth yes in
each class is shrunk towards that in all classes, by an amount that is estimated from the answers
(`manyhot.core.expectation_maximisation`). Options of the same name are those of `dawid_skene`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.special import expit, logsumexp, softmax

from manyhot.core.aggregation import Aggregate
from manyhot.core.answers import MAYBE, N_ANSWERS, Answers, GoldenAnswers
from manyhot.core.array_types import Floats
from manyhot.core.expectation_maximisation import Fit, check_fitting
from manyhot.core.rater_models import RaterModel, chance, history_gain
from manyhot.errors import InputError
from manyhot.parameters import check_one_of
from manyhot.registry import register

MOST_COMPARED = 50_000
"""Number of questions on which `auto` compares models. More questions would only take more time."""

_Build = Callable[[Answers], RaterModel]

CANDIDATES: dict[str, _Build] = {
    "dawid-skene(hard=True)": lambda answers: RaterModel.dawid_skene(answers, hard=True),
    "one-coin(hard=True)": lambda answers: RaterModel.one_coin(answers, hard=True),
    "one-coin": RaterModel.one_coin,
}
"""The models of which `auto` is the mean, by the call strings of their aggregators."""

CHANCE = "chance"
"""Name of the model in which answers do not depend on the truth."""

USELESS, EVIDENCE, PER_ANSWER = 1 / 100, 10.0, 1 / 20
"""Odds that answers do not depend on the truth: before any can be compared, at most, and the rise of their
logarithm with each answer to a question that has another one.

Useful answers raise it as well, but lower it by more: with an informedness of 0.6, the second answer to a
question is 0.05 nats more probable than by chance. The highest odds require strong evidence on the scale of
Jeffreys (Kass & Raftery 1995, doi 10.1080/01621459.1995.10476572).
"""

HARD, UNTIED, FEW = 1 / 8, 2.0, 20
"""Prior odds of a model with hard questions, `HARD`, and of one with a row for each truth: (`FEW` / n) to the
power of `UNTIED` with n questions, and 1 with at most `FEW`.

By chance, Dawid-Skene is often more likely on a few hundred questions of which half are hard, as if raters
missed many classes. Where they do, its evidence grows in proportion to n and outweighs the odds.
"""

FEWEST_RATERS = 3
"""Minimum number of raters whose quality `auto` learns.

The answers of two have fewer patterns than their qualities and the share of yes have values: two raters of
whom one guesses look like two who agree by chance (Hui & Walter 1980, doi 10.2307/2530508).
"""

FACE_VALUE = 0.9
"""Probability that an answer is right if there are only one or two raters, for `auto`; a single yes makes a
class valid."""

NEGLIGIBLE = 0.01
"""`auto` leaves out a model with a smaller weight."""


@register("aggregator", "dawid-skene", threshold=0.8, history=True)
def dawid_skene(
    answers: Answers,
    golden: GoldenAnswers | None = None,
    *,
    truth: str = "binary",
    hard: bool = False,
    smoothing: float | None = None,
    iterations: int = 1000,
    tolerance: float = 1e-7,
) -> Aggregate:
    """Dawid-Skene: truths and one confusion matrix per rater, estimated by expectation maximisation.

    Parameters
    ----------
    truth : {"binary", "answers"}
        ``binary``: there are two truths (the class is in the image or not), and each of the three answers has
        a probability under each truth. ``answers``: there is one truth for each answer, as in Dawid and
        Skene, and `p` is the probability of the truth yes.
    hard : bool
        Whether to model hard questions, for which answers do not depend on the truth. If false, disagreement
        on hard questions lowers the estimated quality of raters on all other questions. Modelling hard
        questions requires binary truths.
    smoothing : float, optional
        Number of pseudo-answers, distributed like the answers of all raters, that are added for each rater
        and truth. A rater with few answers is therefore treated as an average rater. By default, the number
        is estimated from how much raters differ, and the model allows for raters who are unlike all others.
        With 0, the algorithm is the original one by Dawid and Skene, in which an answer that a rater never
        gave has probability 0.
    iterations : int
        Maximum number of iterations.
    tolerance : float
        Iterations stop when an iteration changes the log-likelihood by at most this much per vote.

    Raises
    ------
    InputError
        If an option is out of range, or if there are no votes.

    References
    ----------
    Dawid & Skene 1979, doi 10.2307/2346806. This method deviates from the paper in three ways: two truths
    with three answers, the prior, and the share of yes in each class. The pooled matrix is updated in each
    iteration, so it is an empirical prior.
    """
    check_one_of(truth, ("binary", "answers"), "There is no such truth.")
    if hard and truth != "binary":
        raise InputError(
            "Modelling hard questions requires binary truths.",
            got=f"hard=True and truth={truth!r}",
            allowed="truth='binary'",
        )
    if answers.history is not None and truth != "binary":
        raise InputError(
            "Using raters' history requires binary truths.",
            got=f"history and truth={truth!r}",
            allowed="truth='binary'",
        )
    _check_options(answers, smoothing, iterations)
    model = RaterModel.dawid_skene(answers, truth=truth, hard=hard)
    return model.aggregate(model.fit(smoothing, iterations, tolerance))


@register("aggregator", "one-coin", threshold=0.8, history=True)
def one_coin(
    answers: Answers,
    golden: GoldenAnswers | None = None,
    *,
    maybe: str = "own",
    hard: bool = False,
    smoothing: float | None = None,
    iterations: int = 1000,
    tolerance: float = 1e-7,
) -> Aggregate:
    """One-coin model: Dawid-Skene in which each rater is equally likely to be right under both truths.

    If raters miss valid classes more often than they accept invalid ones, this model has its highest
    likelihood when nearly all truths are no. The accuracy of raters is therefore measured against a weighted
    mean of the truths that this model and Dawid-Skene estimate. As in `auto`, each model is weighted by how
    well it predicts held-out answers.

    Parameters
    ----------
    maybe : {"own", "no", "yes"}
        ``own``: a maybe is a separate answer, with the same probability under both truths. Otherwise, a maybe
        counts as a no or a yes.
    hard, smoothing, iterations, tolerance
        As in `dawid_skene`, with two exceptions. A quarter of the answers to hard questions are guesses,
        equally likely to be yes or no. `smoothing` is the number of answers that are added for each rater; if
        it is set, only this model is fitted.

    Raises
    ------
    InputError
        As in `dawid_skene`.
    """
    check_one_of(maybe, ("own", "no", "yes"), "There is no such reading of maybe.")
    _check_options(answers, smoothing, iterations)
    model = RaterModel.one_coin(answers, maybe=maybe, hard=hard)
    if smoothing is not None:
        return model.aggregate(model.fit(smoothing, iterations, tolerance))
    alone = partial(RaterModel.one_coin, maybe=maybe, hard=hard)
    builds: dict[str, _Build] = {"one-coin": alone, "dawid-skene": lambda some: alone(some).untied()}
    compared = _Compared.of(answers, builds, iterations, tolerance)
    fits = compared.fits()
    result = model.aggregate(model.refit(np.asarray(sum(weight * fit.posterior for weight, _, fit in fits))))
    return replace(
        result,
        iterations=max(fit.iterations for _, _, fit in fits),
        converged=all(fit.converged for _, _, fit in fits),
        weights=compared.weights,
    )


@register("aggregator", "auto", threshold=0.8, history=True)
def auto(
    answers: Answers, golden: GoldenAnswers | None = None, *, iterations: int = 1000, tolerance: float = 1e-7
) -> Aggregate:
    """Mean of three models, weighted by evidence: one-coin, and Dawid-Skene and one-coin with hard questions.

    This is the default method. One-coin needs fewer answers, but unlike Dawid-Skene, it cannot model raters
    who miss many classes and rarely accept invalid ones. Models are compared by the held-out likelihood: the
    likelihood of the answers to each question as if the models had been fitted without the question. If there
    are more than 50,000 questions, models are compared on an evenly spaced subset.

    The quality of raters cannot be learnt from their answers if there are only one or two of them, or if no
    question was answered twice. Without the raters' history, such answers are taken at face value: each yes
    or no is right with a probability of `FACE_VALUE`, and the result is 0.5 if raters disagree.

    The mean is compared with a model named chance, in which answers do not depend on the truth. If the mean
    does not predict held-out answers better than chance, probabilities are shrunk towards 0.5.

    Raises
    ------
    InputError
        As in `dawid_skene`.

    References
    ----------
    Yao et al. 2018, doi 10.1214/17-BA1091, equation 8: pseudo-Bayesian averaging without the bootstrap.
    Because parameters that all raters share are fitted to all questions, models have prior odds: `HARD` with
    hard questions and, with one row per truth, odds that decrease with the number of questions (`UNTIED`), as
    in the criterion of Schwarz 1978, doi 10.1214/aos/1176344136. The weight of chance also follows equation
    8, with the prior odds of `USELESS` to `EVIDENCE`.
    """
    _check_options(answers, None, iterations)
    if answers.history is None and not _comparable(answers):
        return _at_face_value(answers)
    compared = _Compared.of(answers, CANDIDATES, iterations, tolerance)
    by_chance, at_chance = chance(compared.some)
    gain = compared.stands_for * float((compared.mixed() - at_chance).sum()) + history_gain(answers)
    result = _mean([(weight, model.aggregate(fit)) for weight, model, fit in compared.fits()])
    return _with_chance(result, compared.weights, by_chance, answers, float(expit(_log_odds(answers) - gain)))


def _comparable(answers: Answers) -> bool:
    """Return whether the quality of raters can be learnt from the answers of others to the same questions."""
    return len(np.unique(answers.rater)) >= FEWEST_RATERS and answers.counts().sum(1).max() > 1


def _at_face_value(answers: Answers) -> Aggregate:
    """Return probabilities for raters of equal quality, and for as many yes as no."""
    of_answer = answers.of_raters().sum(0) + 1.0
    maybe = of_answer[MAYBE] / of_answer.sum()
    row = np.array([1 - FACE_VALUE, 0.0, FACE_VALUE]) * (1 - maybe)
    row[MAYBE] = maybe
    matrix = np.stack([row[::-1], row])
    logs = answers.counts() @ np.log(matrix).T
    posterior = softmax(logs, axis=1)
    likelihood = float((logsumexp(logs, axis=1) - np.log(2)).sum())
    counts = np.zeros((answers.n_raters, 2, N_ANSWERS))
    np.add.at(counts.transpose(0, 2, 1), (answers.rater, answers.answer), posterior[answers.question])
    matrices, prior = np.broadcast_to(matrix, counts.shape).copy(), np.full(2, 0.5)
    return Aggregate(posterior[:, 1], matrices, prior, log_likelihood=likelihood, counts=counts)


@dataclass(frozen=True, eq=False)
class _Compared:
    """Models, compared by how well they predict the answers to a question without having seen them.

    Attributes
    ----------
    answers, some : Answers
        All answers, and those to the questions on which the models are compared.
    builds : dict of str to callable
        Return the models of answers, by name.
    fitted : dict of str to (RaterModel, Fit)
        The models of `some`, fitted.
    held_out : ndarray of float64, shape (M, Q)
        The log-likelihood of the answers to each question of `some` under each model, as if it had been
        fitted without them.
    stands_for : float
        Number of questions with answers for which each of `some` stands.
    options : tuple of (int, float)
        Maximum number of iterations, and tolerance.
    """

    answers: Answers
    some: Answers
    builds: dict[str, _Build]
    fitted: dict[str, tuple[RaterModel, Fit]]
    held_out: Floats
    weights: dict[str, float]
    stands_for: float
    options: tuple[int, float]

    @classmethod
    def of(cls, answers: Answers, builds: dict[str, _Build], iterations: int, tolerance: float) -> _Compared:
        """Fit and compare models."""
        some = _spaced(answers)
        n = answers.n_answered()
        stands_for = n / some.n_answered()
        models = {name: build(some) for name, build in builds.items()}
        fitted = {name: (model, model.fit(None, iterations, tolerance)) for name, model in models.items()}
        held_out = np.stack([model.held_out(fit) for model, fit in fitted.values()])
        odds = np.array([model_log_odds(model, n) for model in models.values()])
        weight = softmax(stands_for * held_out.sum(1) + odds)
        weight[weight < NEGLIGIBLE] = 0.0
        weights = dict(zip(builds, (weight / weight.sum()).tolist(), strict=True))
        return cls(answers, some, builds, fitted, held_out, weights, stands_for, (iterations, tolerance))

    def mixed(self) -> Floats:
        """Return the log-likelihood of the answers to each compared question under the mean of the models."""
        share = np.array(list(self.weights.values()))[:, None]
        return np.asarray(logsumexp(self.held_out, axis=0, b=share))

    def fits(self) -> list[tuple[float, RaterModel, Fit]]:
        """Return the weight, the model and its fit to all answers, for each model with a positive weight."""
        found = []
        for name, weight in self.weights.items():
            if weight and self.some is self.answers:
                found.append((weight, *self.fitted[name]))
            elif weight:
                model = self.builds[name](self.answers)
                found.append((weight, model, model.fit(None, *self.options, guess=self.fitted[name][1])))
        return found


def _mean(results: list[tuple[float, Aggregate]]) -> Aggregate:
    """Return the weighted mean of results."""

    def mean(name: str) -> Floats:
        return np.asarray(sum(w * np.asarray(getattr(result, name)) for w, result in results))

    return Aggregate(
        mean("p"),
        mean("matrices"),
        mean("prior"),
        max(result.iterations for _, result in results),
        all(result.converged for _, result in results),
        float(mean("log_likelihood")),
        counts=mean("counts"),
    )


def model_log_odds(model: RaterModel, n_questions: int) -> float:
    """Return the logarithm of the prior odds of a model."""
    odds = 0.0 if model.hard is None else np.log(HARD)
    return float(odds if model.tied else odds - UNTIED * np.log(max(n_questions / FEW, 1.0)))


def _log_odds(answers: Answers) -> float:
    """Return the logarithm of the prior odds that answers do not depend on the truth."""
    comparable = len(answers) - answers.n_answered()
    return float(min(np.log(USELESS) + PER_ANSWER * comparable, np.log(EVIDENCE)))


def _with_chance(
    result: Aggregate, weights: dict[str, float], by_chance: Floats, answers: Answers, weight: float
) -> Aggregate:
    """Return a result in which answers may, with this probability, not depend on the truth."""
    assert result.matrices is not None
    assert result.prior is not None
    assert result.counts is not None
    return replace(
        result,
        p=result.p + weight * (0.5 - result.p),
        matrices=result.matrices + weight * (by_chance[:, None] - result.matrices),
        prior=result.prior + weight * (0.5 - result.prior),
        weights={name: w * (1 - weight) for name, w in weights.items()} | {CHANCE: weight},
        counts=result.counts + weight * (answers.of_raters()[:, None] / 2 - result.counts),
    )


def _spaced(answers: Answers) -> Answers:
    """Return the answers to at most `MOST_COMPARED` questions."""
    if answers.n_questions <= MOST_COMPARED:
        return answers
    step = -(-answers.n_questions // MOST_COMPARED)
    inside = answers.question % step == 0
    return replace(
        answers,
        question=answers.question[inside] // step,
        rater=answers.rater[inside],
        answer=answers.answer[inside],
        n_questions=-(-answers.n_questions // step),
        original=None,
        group=None if answers.group is None else answers.group[::step],
    )


def _check_options(answers: Answers, smoothing: float | None, iterations: int) -> None:
    if not len(answers):
        raise InputError("There are no votes.")
    check_fitting(smoothing, iterations)
