"""Aggregation of simulated votes in thirteen regimes: manyhot beside crowd-kit (group bench).

    python benchmarks/simulated_raters.py [--draws 40] [--regimes "clean,hard items"] [--cells FILE]

A regime is a kind of raters and questions, with 400 questions, five votes each, and 30 raters unless it
says otherwise. All methods get the same draws. A cell is a method in a draw of a regime; each finished cell
is a line of FILE, and cells that are there already are not computed again; with --draws 0, they are only
shown. Two more methods of crowd-kit, GLAD and ZeroBasedSkill, are slow and get five draws. The table shows
the mean accuracy (classes count from 0.5 on; 0.5 itself is half right) and the mean log loss, with
probabilities clipped at 1e-4.

The last column says whether `auto` holds the criterion: in each regime, its accuracy is at most 0.005 below
the best of crowd-kit's methods and majority on the same draws, and its log loss at most 0.01 above the best.
The last lines are means over all regimes in which a method runs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from manyhot.core.answers import MAYBE, YES, Answers
from manyhot.registry import get

OURS = ("majority", "one-coin", "dawid-skene", "dawid-skene(hard=True)", "auto")
THEIRS = ("MajorityVote", "DawidSkene", "OneCoinDawidSkene", "KOS", "Wawa", "MMSR")
SLOW, SLOWEST, SLOWEST_DRAWS = ("MACE",), ("GLAD", "ZeroBasedSkill"), 5
MARGIN_ACCURACY, MARGIN_LOSS = 0.005, 0.01

Draw = tuple[Answers, np.ndarray]
Rates = tuple[np.ndarray, np.ndarray]


def usual(rng: np.random.Generator, n: int) -> Rates:
    """Return sensitivity and specificity of n raters."""
    return tuple(np.clip(rng.normal(0.8, 0.08, n), 0.55, 0.97) for _ in range(2))


def spammers(rng: np.random.Generator, n: int) -> Rates:
    """Half of the raters toss a coin."""
    rates = usual(rng, n)
    for rate in rates:
        rate[: n // 2] = 0.5
    return rates


def shy(rng: np.random.Generator, n: int) -> Rates:
    """Raters like ReaL's, who miss half of the classes and seldom see too many."""
    return rng.uniform(0.35, 0.65, n), rng.uniform(0.93, 0.995, n)


def adversaries(rng: np.random.Generator, n: int) -> Rates:
    """Of the raters, 30 % mean the opposite."""
    rates = usual(rng, n)
    for rate in rates:
        rate[: int(0.3 * n)] = 1 - rate[: int(0.3 * n)]
    return rates


@dataclass(frozen=True)
class Regime:
    """How raters answer, and what they are asked."""

    rates: Callable[[np.random.Generator, int], Rates] = usual
    questions: int = 400
    raters: int = 30
    votes: int = 5
    prior: float = 0.3
    maybe: float = 0.0
    hard: float = 0.0
    """Share of questions to which answers are right with a probability of 0.52."""
    copies: float = 0.0
    """Probability with which 60 % of the raters give the answer of one of five others."""
    long_tail: bool = False
    """Whether the k-th rater answers as often as 1 / k."""


REGIMES = {
    "clean": Regime(),
    "spammers 50 %": Regime(spammers),
    "imbalance 90 %": Regime(prior=0.9),
    "yes-shy raters": Regime(shy),
    "correlated raters": Regime(copies=0.6),
    "hard items": Regime(hard=0.5),
    "adversarial 30 %": Regime(adversaries),
    "imbalance 3 %": Regime(prior=0.03),
    "two votes": Regime(votes=2),
    "maybe 30 %": Regime(maybe=0.3),
    "one vote a rater": Regime(raters=2000),
    "long tail of activity": Regime(long_tail=True),
    "20 questions by 5 raters": Regime(questions=20, raters=5),
}


def draw(regime: Regime, rng: np.random.Generator) -> Draw:
    """Return votes, and the truth of each question, which is not the same for all questions."""
    n, raters, votes = regime.questions, regime.raters, regime.votes
    right = np.stack(regime.rates(rng, raters)[::-1], 1)
    truth = rng.random(n) < regime.prior
    while truth.all() or not truth.any():
        truth = rng.random(n) < regime.prior
    share = 1 / np.arange(1, raters + 1) if regime.long_tail else np.ones(raters)
    if raters == n * votes:
        rater = rng.permutation(raters)
    else:
        # The largest of exponential times: draws without replacement in proportion to the share.
        rater = (rng.exponential(size=(n, raters)) / share).argsort(1)[:, :votes].ravel()
    question = np.repeat(np.arange(n), votes)
    hard = rng.random(n) < regime.hard
    chance = np.where(hard[question], 0.52, right[rater, truth[question].astype(int)])
    yes = truth[question] == (rng.random(len(question)) < chance)
    if regime.copies:
        first = truth == (rng.random((5, n)) < right[:5, truth.astype(int)])
        copied = (rater >= 0.4 * raters) & (rng.random(len(rater)) < regime.copies)
        yes = np.where(copied, first[rater % 5, question], yes)
    answer = np.where(rng.random(len(yes)) < regime.maybe, MAYBE, YES * yes).astype(np.int8)
    return Answers(question, rater, answer, n, raters), truth


def of_crowd_kit(name: str, answers: Answers) -> np.ndarray:
    """Return the probability of yes by a method of crowd-kit, with half of that of maybe."""
    import pandas as pd
    from crowdkit import aggregation

    if name == "KOS" and (answers.answer == MAYBE).any():
        raise ValueError("KOS needs two kinds of answers")
    votes = pd.DataFrame({"task": answers.question, "worker": answers.rater, "label": answers.answer})
    model = getattr(aggregation, name)()
    questions = range(answers.n_questions)
    if hasattr(model, "fit_predict_proba"):
        p = model.fit_predict_proba(votes).reindex(index=questions, columns=range(3)).fillna(0)
        return (p[YES] + p[MAYBE] / 2).to_numpy()
    return (model.fit_predict(votes).reindex(questions).to_numpy() == YES).astype(float)


def quality(p: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return accuracy and log loss."""
    right = np.where(p == 0.5, 0.5, (p > 0.5) == truth)
    of_truth = np.clip(np.where(truth, p, 1 - p), 1e-4, 1 - 1e-4)
    return float(right.mean()), float(-np.log(of_truth).mean())


def cells(file: Path) -> dict[tuple[str, int, str], tuple[float, float] | None]:
    """Return what earlier runs computed: accuracy and log loss, or None if the method does not run."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    rows = (json.loads(line) for line in lines)
    return {(regime, seed, method): value for regime, seed, method, value in rows}


def compute(names: list[str], draws: int, file: Path) -> None:
    """Add the cells that are missing to the file."""
    done = cells(file)
    for methods, n in (((*OURS, *THEIRS), draws), (SLOWEST, min(draws, SLOWEST_DRAWS)), (SLOW, draws)):
        for seed, name, method in itertools.product(range(n), names, methods):
            if (name, seed, method) in done:
                continue
            answers, truth = draw(REGIMES[name], np.random.default_rng([seed, list(REGIMES).index(name)]))
            try:
                ours = method in OURS
                p = get("aggregator", method)(answers).p if ours else of_crowd_kit(method, answers)
                value = quality(p, truth)
            except (AttributeError, ImportError, KeyError, ValueError):
                value = None
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps([name, seed, method, value]) + "\n")


def show(names: list[str], file: Path) -> None:
    """Print the table and whether the criterion is fulfilled."""
    values = defaultdict(dict)
    for (regime, seed, method), value in cells(file).items():
        if value is not None and regime in names:
            values[regime, method][seed] = value
    means = {key: np.mean(list(of_draws.values()), 0) for key, of_draws in values.items()}
    methods = [m for m in (*OURS, *THEIRS, *SLOW, *SLOWEST) if any(method == m for _, method in means)]
    print(f"{'regime':25}draws  {'best of the others':44}{'majority':>13}{'auto':>14}  behind the best")
    for regime in names:
        row = {m: means[regime, m] for m in methods if (regime, m) in means}
        print(line_of(regime, row, values))
    print()
    for method in methods:
        whole = [means[r, method] for r in names if (r, method) in means]
        accuracy, loss = np.mean(whole, 0)
        print(f"{method:24}{accuracy:.4f}/{loss:.4f}  in {len(whole)} regimes")


def line_of(regime: str, row: dict[str, np.ndarray], values: dict) -> str:
    """Return a line of the table; methods with fewer draws are compared on their own draws."""
    gaps = {}
    for method in row:
        if method in OURS and method != "majority":
            continue
        seeds = values[regime, method].keys() & values[regime, "auto"].keys()
        ours = np.mean([values[regime, "auto"][s] for s in seeds], 0)
        gaps[method] = np.mean([values[regime, method][s] for s in seeds], 0) - ours
    accurate, likely = max(gaps, key=lambda m: gaps[m][0]), min(gaps, key=lambda m: gaps[m][1])
    behind = gaps[accurate][0], -gaps[likely][1]
    holds = behind[0] <= MARGIN_ACCURACY and behind[1] <= MARGIN_LOSS
    holds &= gaps["majority"][0] <= MARGIN_ACCURACY
    best = f"{row[accurate][0]:.3f} {accurate}; {row[likely][1]:.3f} {likely}"
    ours = "".join(f"{row[m][0]:>8.3f}/{row[m][1]:.3f}" for m in ("majority", "auto"))
    n = len(values[regime, "auto"])
    verdict = f"{behind[0]:+.3f}/{behind[1]:+.3f} {'holds' if holds else 'FAILS'}"
    return f"{regime:25}{n:>5}  {best:44}{ours}  {verdict}"


def main(names: list[str], draws: int, file: Path) -> None:
    warnings.filterwarnings("ignore")
    compute(names, draws, file)
    show(names, file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--regimes", default=",".join(REGIMES))
    parser.add_argument("--cells", type=Path, default=Path(__file__).with_suffix(".jsonl"))
    arguments = parser.parse_args()
    main(arguments.regimes.split(","), arguments.draws, arguments.cells)
