"""Where each way to aggregate votes wins and fails: raters whose quality is known.

    python benchmarks/simulated_raters.py [--repeats 20]

A row is a crowd, a number the mean F1 of the labels found over all repeats, with a class counted from 0.5 on,
and half its 95 % interval by Student's t. Methods get the same crowds, so that they are compared in pairs:
the best is marked, and all that are not worse than it at 5 %. F1 is the harmonic mean of precision and
recall: somebody who always says no has 0, whatever their accuracy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from manyhot.core.answers import Answers, GoldenAnswers
from manyhot.registry import get

METHODS = ("majority", "yes-share", "one-coin", "dawid-skene", "golden-bayes")
THRESHOLD = 0.5

Matrices = Callable[[np.random.Generator, int], np.ndarray]


def matrices(rng, sensitivity, specificity, maybe=0.1):
    """Return raters' probabilities of no, maybe and yes under both truths, shape (R, 2, 3)."""
    yes = np.stack([1 - specificity, sensitivity], 1)
    doubt = np.minimum(maybe, 1 - yes)
    return np.stack([1 - yes - doubt, doubt, yes], 2)


def good(rng, n):
    return matrices(rng, np.full(n, 0.8), np.full(n, 0.95))


def as_real(rng, n):
    """As ReaL's 78 raters on golden questions: sensitivity 0.51, specificity 0.96, and far apart."""
    return matrices(rng, rng.beta(4, 3.8, n), rng.beta(40, 1.7, n))


def with_spammers(rng, n):
    """A third always say yes, or no, or what comes to mind."""
    found = as_real(rng, n)
    kinds = np.array([[0, 0, 1], [1, 0, 0], [1 / 3, 1 / 3, 1 / 3]])
    found[: n // 3] = kinds[np.arange(n // 3) % 3][:, None]
    return found


@dataclass(frozen=True)
class Crowd:
    """What is asked, of whom, and what is known."""

    name: str
    raters: Matrices = as_real
    n_raters: int = 30
    votes: int = 5
    questions: int = 2000
    prior: float = 0.2
    golden: int = 200
    copies: float = 0.0
    """Share of raters who give the answers of the first instead of their own."""
    hard: float = 0.0
    """Share of questions that look like the opposite of what they are, to all raters but not to experts."""


CROWDS = (
    Crowd("good raters, all alike", good),
    Crowd("raters as ReaL's"),
    Crowd("as ReaL's, two votes each", votes=2),
    Crowd("as ReaL's, 1 in 50 is yes", prior=0.02),
    Crowd("a third are spammers", with_spammers),
    Crowd("a third copy one rater", copies=1 / 3),
    Crowd("60 questions in all", questions=60),
    Crowd("20 questions, five raters", questions=20, n_raters=5),
    Crowd("five answers of each rater", questions=400, n_raters=400),
    Crowd("about one of each rater", questions=400, n_raters=2000),
    Crowd("ten golden questions", golden=10),
    Crowd("one question in ten misleads all", hard=0.1),
)


def said(rng, shares, question, rater, seen, copier):
    """Draw an answer for each vote; who copies says what the first rater says to a question."""
    u = rng.random(len(question))
    first = rng.random(int(question.max()) + 1)
    who, u = np.where(copier[rater], 0, rater), np.where(copier[rater] | (rater == 0), first[question], u)
    up_to = np.cumsum(shares[who, seen[question].astype(int)], axis=1)
    return (u[:, None] > up_to[:, :2]).sum(1).astype(np.int8)


def simulate(crowd: Crowd, rng: np.random.Generator) -> tuple[Answers, GoldenAnswers, np.ndarray]:
    """Return votes, golden questions that all raters answered, and the truth."""
    shares = crowd.raters(rng, crowd.n_raters)
    copier = np.arange(crowd.n_raters) < crowd.copies * crowd.n_raters
    truth = rng.random(crowd.questions) < crowd.prior
    question = np.repeat(np.arange(crowd.questions), crowd.votes)
    order = rng.random((crowd.questions, crowd.n_raters)).argsort(1)
    rater = order[:, : crowd.votes].ravel()
    seen = truth ^ (rng.random(crowd.questions) < crowd.hard)
    answer = said(rng, shares, question, rater, seen, copier)
    answers = Answers(question, rater, answer, crowd.questions, crowd.n_raters)
    # Half of the golden questions are yes, or else rare classes would be in none.
    known = np.arange(crowd.golden) % 2 == 0
    question = np.repeat(np.arange(crowd.golden), crowd.n_raters)
    rater = np.tile(np.arange(crowd.n_raters), crowd.golden)
    seen = known ^ (rng.random(crowd.golden) < crowd.hard)
    told = Answers(
        question, rater, said(rng, shares, question, rater, seen, copier), crowd.golden, crowd.n_raters
    )
    return answers, GoldenAnswers(told, known * 5, np.full(crowd.golden, 5), np.full(crowd.golden, -1)), truth


def f1(found: np.ndarray, truth: np.ndarray) -> float:
    right = np.count_nonzero(found & truth)
    return 2 * right / max(np.count_nonzero(found) + np.count_nonzero(truth), 1)


def compare(crowd: Crowd, repeats: int) -> np.ndarray:
    """Return the F1 of each method in each repeat, shape (repeats, methods)."""
    scores = np.zeros((repeats, len(METHODS)))
    for seed in range(repeats):
        answers, golden, truth = simulate(crowd, np.random.default_rng(seed))
        for i, method in enumerate(METHODS):
            scores[seed, i] = f1(get("aggregator", method)(answers, golden).p >= THRESHOLD, truth)
    return scores


def half_width(values: np.ndarray) -> np.ndarray:
    """Return half the 95 % interval of the mean over repeats."""
    n = len(values)
    return student.ppf(0.975, n - 1) * values.std(0, ddof=1) / np.sqrt(n)


def main(repeats: int) -> None:
    # Narrow enough for a page of the docs.
    widths = [max(len(m), 11) + 1 for m in METHODS]
    print(f"{'':32}" + "".join(f"{m:>{w}}" for m, w in zip(METHODS, widths, strict=True)))
    for crowd in CROWDS:
        scores = compare(crowd, repeats)
        mean, half = scores.mean(0), half_width(scores)
        behind = scores[:, [int(mean.argmax())]] - scores
        best = behind.mean(0) <= half_width(behind)
        around = [f"{m:.3f}±{f'{h:.3f}'[1:]}" for m, h in zip(mean, half, strict=True)]
        cells = (f"{a}{'*' if b else ' '}" for a, b in zip(around, best, strict=True))
        line = f"{crowd.name:32}" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))
        print(line.rstrip())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=20)
    main(parser.parse_args().repeats)
