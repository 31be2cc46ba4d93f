"""Aggregators that learn how good each rater is from the answers alone: Dawid and Skene's model and one-coin.

A rater has one confusion matrix for all classes, because with 1,000 classes no rater answers enough
questions about each. Matrices are drawn towards that of all raters, and the share of questions with the
truth yes in each class towards that in all classes, as strongly as the answers say
(`manyhot.core.rater_prior`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

from manyhot.core.aggregation import Aggregate
from manyhot.core.answers import Answers, GoldenAnswers
from manyhot.core.array_types import Floats
from manyhot.core.expectation_maximisation import Fit
from manyhot.core.rater_models import RaterModel, chance, history_gain
from manyhot.errors import InputError
from manyhot.parameters import check_one_of
from manyhot.registry import register

MOST_COMPARED = 50_000
"""Number of questions on which `auto` compares models; more would change nothing but the time."""

_Build = Callable[[Answers], RaterModel]

CANDIDATES: dict[str, _Build] = {
    "dawid-skene(hard=True)": lambda answers: RaterModel.dawid_skene(answers, hard=True),
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
        ``binary``: there are two truths, class in the image or not, and each of the three answers has a
        probability under both. ``answers``: there is one truth for each answer, as in Dawid and Skene, and
        `p` is the probability of yes.
    hard : bool
        Whether some questions are too hard, so that answers to them do not depend on the truth. Without it,
        the disagreement of raters on such questions makes raters look worse on all others. Only with two
        truths.
    smoothing : float, optional
        Number of answers, distributed like those of all raters, that are added for each rater and truth, so
        that a rater with few answers is treated as an average rater. By default, the number is estimated from
        how much raters differ, and a rater may be unlike all others. 0 gives Dawid and Skene's own algorithm,
        in which an answer that a rater never gave has probability 0.
    iterations : int
        Maximum number of iterations.
    tolerance : float
        Iterations stop when an iteration changes the log-likelihood by at most this much per vote.

    Raises
    ------
    InputError
        If an option is out of range, or there are no votes.

    References
    ----------
    Dawid & Skene 1979, doi 10.2307/2346806. Deviations from the paper are two truths with three answers, the
    prior, and the share of yes in each class. The pooled matrix is updated in each iteration, so it is an
    empirical prior.
    """
    check_one_of(truth, ("binary", "answers"), "There is no such truth.")
    if hard and truth != "binary":
        raise InputError(
            "Hard questions need two truths.", got=f"hard=True and truth={truth!r}", allowed="truth='binary'"
        )
    if answers.history is not None and truth != "binary":
        raise InputError(
            "Raters' history needs two truths.", got=f"history and truth={truth!r}", allowed="truth='binary'"
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
    smoothing: float | None = None,
    iterations: int = 1000,
    tolerance: float = 1e-7,
) -> Aggregate:
    """One-coin model: Dawid-Skene in which a rater's probability of being right does not depend on the truth.

    Where raters miss a class more often than they see one too many, the likelihood of this model is highest
    if nearly all truths are no. The accuracy of raters is therefore measured against the mean of the truths
    that this model and Dawid-Skene estimate, weighted by how well each predicts answers that it has not seen,
    as in `auto`.

    Parameters
    ----------
    maybe : {"own", "no", "yes"}
        ``own``: a maybe is an answer of its own, with the same probability under both truths. Otherwise, it
        is counted as a no or a yes.
    smoothing, iterations, tolerance
        As in `dawid_skene`; `smoothing` is the number of answers added for each rater. With a number, this
        model is fitted alone.

    Raises
    ------
    InputError
        As in `dawid_skene`.
    """
    check_one_of(maybe, ("own", "no", "yes"), "There is no such reading of maybe.")
    _check_options(answers, smoothing, iterations)
    model = RaterModel.one_coin(answers, maybe=maybe)
    if smoothing is not None:
        return model.aggregate(model.fit(smoothing, iterations, tolerance))
    builds = [lambda some: RaterModel.one_coin(some, maybe=maybe)]
    builds.append(lambda some: RaterModel.one_coin(some, maybe=maybe).untied())
    pair = _Pair.of(answers, builds, iterations, tolerance)
    fits = pair.fits()
    result = model.aggregate(model.refit(np.asarray(sum(weight * fit.posterior for weight, _, fit in fits))))
    return replace(
        result,
        iterations=max(fit.iterations for _, _, fit in fits),
        converged=all(fit.converged for _, _, fit in fits),
        weights={"one-coin": pair.share, "dawid-skene": 1 - pair.share},
    )


@register("aggregator", "auto", threshold=0.8, history=True)
def auto(
    answers: Answers,
    golden: GoldenAnswers | None = None,
    *,
    iterations: int = 1000,
    tolerance: float = 1e-7,
) -> Aggregate:
    """Mean of Dawid-Skene with hard questions and one-coin, weighted by how well they predict answers.

    The default method. One-coin needs fewer answers, but it does not understand raters who miss many classes
    and seldom see too many; Dawid-Skene does. Models are compared on answers that they have not seen. With
    more than 50,000 questions, they are compared on evenly spaced ones.

    If the mean does not predict such answers better than the model in which answers do not depend on the
    truth, called chance, the answers cannot decide, and probabilities are drawn towards 0.5.

    Parameters
    ----------
    iterations, tolerance
        As in `dawid_skene`.

    Raises
    ------
    InputError
        As in `dawid_skene`.

    References
    ----------
    Yao et al. 2018, doi 10.1214/17-BA1091. The weight of a model is the mean of its weights by equations 2
    and 8: stacking of predictive distributions, with one answer added for each model, which hedges where
    both are wrong; and pseudo-Bayesian averaging without the bootstrap, which decides as soon as the
    answers do. The weight of chance is that of equation 8, with the prior odds of `USELESS` to `EVIDENCE`.
    """
    _check_options(answers, None, iterations)
    pair = _Pair.of(answers, CANDIDATES.values(), iterations, tolerance)
    by_chance, at_chance = chance(pair.compared)
    gain = pair.questions * float((_mixed(*pair.held_out, pair.share) - at_chance).sum())
    gain += history_gain(answers)
    result = _mean([(weight, model.aggregate(fit)) for weight, model, fit in pair.fits()])
    weights = dict(zip(CANDIDATES, (pair.share, 1 - pair.share), strict=True))
    return _with_chance(result, weights, by_chance, answers, float(expit(_log_odds(answers) - gain)))


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two models, compared by the likelihood of held-out answers.

    Attributes
    ----------
    answers, compared : Answers
        All answers, and those to the questions on which the models are compared.
    builds : tuple of callable
        Return the models of answers.
    compared_fits : tuple of (RaterModel, Fit)
        The models of `compared`, fitted.
    held_out : tuple of ndarray of float64
        The log-likelihood of each answer of `compared`, as if it had not been seen.
    share : float
        The weight of the first model.
    options : tuple of (int, float)
        Maximum number of iterations, and tolerance.
    """

    answers: Answers
    compared: Answers
    builds: tuple[_Build, _Build]
    compared_fits: tuple[tuple[RaterModel, Fit], tuple[RaterModel, Fit]]
    held_out: tuple[Floats, Floats]
    share: float
    options: tuple[int, float]

    @classmethod
    def of(cls, answers: Answers, builds: Iterable[_Build], iterations: int, tolerance: float) -> _Pair:
        """Fit and compare two models."""
        compared = _spaced(answers)
        first, second = builds
        one, other = first(compared), second(compared)
        fits = one.fit(None, iterations, tolerance), other.fit(None, iterations, tolerance)
        held_out = one.held_out(fits[0]), other.held_out(fits[1])
        share = _share_of_first(*held_out, answers.n_questions / compared.n_questions)
        return cls(
            answers,
            compared,
            (first, second),
            ((one, fits[0]), (other, fits[1])),
            held_out,
            share,
            (iterations, tolerance),
        )

    @property
    def questions(self) -> float:
        """Number of questions for which each compared one stands."""
        return self.answers.n_questions / self.compared.n_questions

    def fits(self) -> list[tuple[float, RaterModel, Fit]]:
        """Return weight, model and fit to all answers of each model, but without those of no weight."""
        found = []
        for weight, build, fitted in zip(
            (self.share, 1 - self.share), self.builds, self.compared_fits, strict=True
        ):
            if weight and self.compared is self.answers:
                found.append((weight, *fitted))
            elif weight:
                model = build(self.answers)
                found.append((weight, model, model.fit(None, *self.options, guess=fitted[1])))
        return found


def _share_of_first(first: Floats, second: Floats, questions: float = 1.0) -> float:
    """Return the weight of the first of two models, from the log-likelihoods of held-out answers."""

    def loss(w: float) -> float:
        return -float(_mixed(first, second, w).sum() + np.log(w) + np.log1p(-w))

    stacked = float(minimize_scalar(loss, bounds=(1e-6, 1 - 1e-6), method="bounded").x)
    averaged = float(expit(questions * (first - second).sum()))
    w = (stacked + averaged) / 2
    return 0.0 if w < NEGLIGIBLE else 1.0 if w > 1 - NEGLIGIBLE else w


def _mixed(first: Floats, second: Floats, share: float) -> Floats:
    """Return the log-likelihoods under the mean of two models."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.logaddexp(first + np.log(share), second + np.log1p(-share)))


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


def _log_odds(answers: Answers) -> float:
    """Return the logarithm of the prior odds that answers do not depend on the truth."""
    comparable = len(answers) - len(np.unique(answers.question))
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
    if smoothing is not None and not 0 <= smoothing < np.inf:
        raise InputError("Smoothing is negative or not a number.", got=smoothing, allowed="0 or more")
    if iterations < 1:
        raise InputError("There are no iterations.", got=iterations, allowed="1 or more")
