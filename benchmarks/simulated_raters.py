"""Aggregation of simulated votes in thirteen regimes: manyhot beside crowd-kit (group bench).

    python benchmarks/simulated_raters.py [--draws 40] [--first 0] [--regimes "clean,hard items"]
        [--cells FILE]

A regime is a kind of raters and questions, with 400 questions, five votes each, and 30 raters unless it
says otherwise. All methods get the same draws. A cell is a method in a draw of a regime; each finished cell
is a line of FILE, and cells that are there already are not computed again; with --draws 0, they are only
shown. All methods get five draws; after these, a method of crowd-kit goes on in a regime only where its mean
accuracy is within 0.01, or its mean log loss within 0.03, of the best of crowd-kit's there, because another
one is unlikely to become the best. GLAD and ZeroBasedSkill are slow and get no more than five, except with 20
questions. Wawa and ZeroBasedSkill need scikit-learn below 1.6: install it with `pip install --no-deps
--target FOLDER scikit-learn==1.5.2` and put FOLDER on PYTHONPATH.

Values are the mean accuracy (classes count from 0.5 on; 0.5 itself is half right) and the mean log loss,
with probabilities clipped at 1e-4. The last columns are the largest differences by which another method is
better than `auto` on the same draws, with the standard error over draws, and the number of draws in
parentheses where they are only the first five. `auto` holds the criterion if in each regime its accuracy is
at most 0.005 below, and its log loss at most 0.01 above, that of each of crowd-kit's methods and of majority;
what exceeds this by less than two standard errors is noise. The last lines are means over all regimes to
which a method applies.
"""

from __future__ import annotations

import argparse
import itertools
import json
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from manyhot.core.aggregation import expected_answers
from manyhot.core.answers import MAYBE, YES, Answers
from manyhot.registry import get

OURS = ("majority", "one-coin", "dawid-skene", "dawid-skene(hard=True)", "auto")
THEIRS = ("MajorityVote", "DawidSkene", "OneCoinDawidSkene", "Wawa", "KOS")
SLOW = ("GLAD", "ZeroBasedSkill", "MMSR", "MACE")
PILOT_ONLY, PILOT, NEAR = ("GLAD", "ZeroBasedSkill"), 5, (0.01, 0.03)
SMALL = 20
"""Number of questions up to which the methods of the pilot have all draws, too."""
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


def compute(names: list[str], methods: list[str], draws: int, file: Path, first: int) -> None:
    """Add the cells that are missing to the file: the pilot, then ours and theirs that may be best."""
    chosen = [method for method in (*OURS, *THEIRS, *SLOW) if method in methods]
    done = cells(file)
    for method in chosen:
        for seed, regime in itertools.product(range(first, first + min(draws, PILOT)), names):
            add(done, regime, seed, method, file)
    for method, regime in itertools.product(chosen, names):
        if method in OURS or may_be_best(done, regime, method, first):
            for seed in range(first + PILOT, first + draws):
                add(done, regime, seed, method, file)


def add(done: dict, regime: str, seed: int, method: str, file: Path) -> None:
    """Add a cell to the file, unless it is there."""
    if (regime, seed, method) in done:
        return
    answers, truth = draw(REGIMES[regime], np.random.default_rng([seed, list(REGIMES).index(regime)]))
    try:
        ours = method in OURS
        p = get("aggregator", method)(answers).p if ours else of_crowd_kit(method, answers)
        value = quality(p, truth)
    except (AttributeError, ImportError):
        return  # crowd-kit is missing, or scikit-learn is too new for the method
    except (KeyError, ValueError):
        value = None  # the method does not apply to these votes
    done[regime, seed, method] = value
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps([regime, seed, method, value]) + "\n")


def may_be_best(done: dict, regime: str, method: str, first: int) -> bool:
    """Return whether a method of crowd-kit comes near the best of crowd-kit's in the pilot."""
    pilot = defaultdict(list)
    for (of_regime, seed, each), value in done.items():
        if of_regime == regime and seed < first + PILOT and each in (*THEIRS, *SLOW) and value is not None:
            pilot[each].append(value)
    if method not in pilot or (method in PILOT_ONLY and REGIMES[regime].questions > SMALL):
        return False
    means = {each: np.mean(values, 0) for each, values in pilot.items()}
    best = max(mean[0] for mean in means.values()), min(mean[1] for mean in means.values())
    accuracy, loss = means[method]
    return best[0] - accuracy < NEAR[0] or loss - best[1] < NEAR[1]


def show(names: list[str], file: Path) -> None:
    """Print the table and whether the criterion is fulfilled."""
    values = defaultdict(dict)
    for (regime, seed, method), value in cells(file).items():
        if value is not None and regime in names:
            values[regime, method][seed] = value
    print(f"{'regime':24}draws{'majority':>13}{'auto':>13}   behind in accuracy, and in log loss")
    for regime in names:
        if values[regime, "auto"]:
            print(line_of(regime, values))
    print()
    print(f"{'':24}regimes  draws       method, and auto on the same draws")
    for method in (*OURS, *THEIRS, *SLOW):
        pairs = [paired(values, regime, method) for regime in names if values[regime, method]]
        if pairs:
            theirs, ours = (np.mean([pair[i].mean(0) for pair in pairs], 0) for i in range(2))
            sizes = [len(pair[0]) for pair in pairs]
            draws = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
            print(f"{method:24}{len(pairs):>7}  {draws:8}{cell(theirs):>15}{cell(ours):>15}")


def paired(values: dict, regime: str, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Return accuracy and log loss of a method, and those of `auto` on the same draws."""
    seeds = sorted(values[regime, method].keys() & values[regime, "auto"].keys())
    return tuple(np.array([values[regime, each][seed] for seed in seeds]) for each in (method, "auto"))


def cell(pair: np.ndarray) -> str:
    return f"{pair[0]:.3f}/{pair[1]:.3f}"


def line_of(regime: str, values: dict) -> str:
    """Return a line of the table: the largest difference to another method, over draws of both."""
    behind = {}
    for method in ("majority", *THEIRS, *SLOW):
        if values[regime, method]:
            theirs, ours = paired(values, regime, method)
            change = (theirs - ours) * (1, -1)
            error = change.std(0, ddof=1) / np.sqrt(len(change)) if len(change) > 1 else np.full(2, np.nan)
            behind[method] = change.mean(0), error, len(change)
    texts, verdict = [], "holds"
    for i, margin in enumerate((MARGIN_ACCURACY, MARGIN_LOSS)):
        method = max(behind, key=lambda name: behind[name][0][i])
        change, error, n = behind[method]
        texts.append(f"{change[i]:+.3f} \u00b1 {error[i]:.3f} {method}" + f" ({n})" * (n <= PILOT))
        if change[i] > margin + 1e-9 and verdict != "FAILS":
            verdict = "FAILS" if change[i] - 2 * error[i] > margin else "noise"
    majority, auto = (np.mean(list(values[regime, method].values()), 0) for method in ("majority", "auto"))
    n = len(values[regime, "auto"])
    return f"{regime:24}{n:>5}{cell(majority):>13}{cell(auto):>13}   {texts[0]:34}{texts[1]:34}{verdict}"


def answered(rates: Rates, questions: int, rng: np.random.Generator) -> Draw:
    """Return votes of all raters, with these rates, on each question, and the truth."""
    truth = rng.random(questions) < 0.3
    right = np.stack(rates[::-1])[truth.astype(int)]
    yes = truth[:, None] == (rng.random(right.shape) < right)
    question, rater = np.divmod(np.arange(yes.size), yes.shape[1])
    return Answers(question, rater, YES * yes.ravel().astype(np.int8), *yes.shape), truth


def with_history(draws: int) -> None:
    """Print what a history of 500 questions changes on twenty questions by the same five raters."""
    print("| raters | method | majority | without history | with history | difference |")
    print("| --- | --- | --- | --- | --- | --- |")
    kinds = {
        "usual": usual,
        "two of five toss a coin": spammers,
        "one of five means the opposite": adversaries,
    }
    for (kind, rates), method in itertools.product(
        (kinds | {"yes-shy": shy}).items(), ("auto", "dawid-skene")
    ):
        entry, found = get("aggregator", method), []
        for seed in range(draws):
            rng = np.random.default_rng([seed, 20])
            five = rates(rng, 5)
            (before, _), (now, truth) = (answered(five, n, rng) for n in (500, 20))
            history = expected_answers(before, entry(before))
            counted = get("aggregator", "majority")(now)
            results = (counted, entry(now), entry(replace(now, history=history)))
            found.append([quality(result.p, truth) for result in results])
        means, change = np.mean(found, 0), np.diff(np.array(found)[:, 1:], axis=1)[:, 0]
        error = change.std(0, ddof=1) / np.sqrt(draws)
        texts = " / ".join(f"{d:+.3f} \u00b1 {e:.3f}" for d, e in zip(change.mean(0), error, strict=True))
        print("|", kind, "|", f"`{method}`", "|", *(f"{cell(m)} |" for m in means), texts, "|", flush=True)


EDGES = (0.2, 0.5, 0.8, 0.95)


def print_reliability(draws: int) -> None:
    """Print, by posterior, its mean and the share of yes among the truths; raters are right in 60 to 95 %."""
    for questions, raters, prior in itertools.product((200, 2000), (3, 5, 7), (0.3, 0.8)):

        def rates(rng: np.random.Generator, n: int) -> Rates:
            accuracy = rng.uniform(0.6, 0.95, n)
            return accuracy, accuracy

        regime = Regime(rates, questions=questions, raters=raters, votes=raters, prior=prior)
        drawn = [draw(regime, np.random.default_rng([d, questions, raters])) for d in range(draws)]
        truth = np.concatenate([of_draw for _, of_draw in drawn])
        for method in ("auto", "one-coin"):
            p = np.concatenate([get("aggregator", method)(answers).p for answers, _ in drawn])
            bins = (np.digitize(p, EDGES) == b for b in range(len(EDGES) + 1))
            cells = (f"{p[b].mean():.3f}/{truth[b].mean():.3f} ({b.sum():,})" for b in bins)
            print(f"{questions:<6}{raters:<3}{prior:<5}{method:<10}{'  '.join(cells)}", flush=True)


def main(names: list[str], methods: list[str], draws: int, file: Path, first: int = 0) -> None:
    warnings.filterwarnings("ignore")
    compute(names, methods, draws, file, first)
    show(names, file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--first", type=int, default=0, help="seed of the first draw; with other --cells")
    parser.add_argument("--regimes", default=",".join(REGIMES))
    parser.add_argument("--methods", default=",".join((*OURS, *THEIRS, *SLOW)))
    parser.add_argument("--cells", type=Path, default=Path(__file__).with_suffix(".jsonl"))
    parser.add_argument("--history", action="store_true")
    parser.add_argument("--reliability", action="store_true")
    arguments = parser.parse_args()
    if arguments.reliability:
        print_reliability(arguments.draws)
        raise SystemExit
    if arguments.history:
        with_history(arguments.draws)
        raise SystemExit
    main(
        arguments.regimes.split(","),
        arguments.methods.split(","),
        arguments.draws,
        arguments.cells,
        arguments.first,
    )
