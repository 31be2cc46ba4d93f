"""What adaptive asking saves: simulated raters of ReaL's measured quality, and ReaL's own answers replayed.

    python benchmarks/asking.py [--repeat 10] [--questions 0] [--seed 0]

**Simulated.** The questions are ReaL's 184,962; the truth of each is drawn from ReaL's released score, its
raters from all with golden answers, as likely as each answered. An answer is drawn from the rater's matrix,
(k + 1) / (N + 3) over golden questions. Who aggregates does not know these matrices: golden answers are drawn
anew from them in each repetition, and counted anew. The prior, with the original label as a rater for the
animals, is that of golden-bayes. So raters are independent given the truth, as golden-bayes takes them to be;
real ones are not.

**Replayed.** Each question's five real answers, in an order drawn anew in each repetition, and the matrices
of golden-bayes. There is no truth: what counts is how far label sets are from those of all five answers.

Questions are ranked anew after every 5 % of them; a question gets at most five answers, or eight in the rows
that say so. Equal questions are asked in the order of the file. "wrong" are (image, class) states that differ
from the truth, "images" those whose label set does. The intervals are 95 % of the mean over repetitions, by
Student's t. "visits" are those of raters to images: one visit answers one question each of those of the image
that are still asked, which is the least there can be.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from common import quiet
from scipy.special import logit
from scipy.stats import t as student

from manyhot.core.aggregation import golden_bayes, golden_matrices
from manyhot.core.answers import Answers, GoldenAnswers
from manyhot.core.next_questions import (
    average_rater,
    choose_questions,
    disagreement,
    entropy,
    expected_change,
    log_ratios,
    settled,
)

THRESHOLD = 0.8
ANIMALS = range(398)
FIVE, MORE = 5, 8
STEP = 0.05
"""Share of the questions asked between two rankings."""

SHARES = (0.25, 0.4, 0.5, 0.6, 0.8)
"""Of the answers that five raters on everything take, at which errors are shown."""


@dataclass(frozen=True, eq=False)
class Real:
    """ReaL's questions, answers and golden answers."""

    image: np.ndarray
    answers: Answers
    golden: GoldenAnswers
    score: np.ndarray


@dataclass(frozen=True, eq=False)
class Draw:
    """One repetition: the log odds of each question after 0, 1, … answers, and what is right.

    `average` is the quality that the next rater is taken to have, `counts` the answers of each kind so far.
    """

    image: np.ndarray
    odds: np.ndarray
    answer: np.ndarray
    truth: np.ndarray
    average: np.ndarray


def real(most: int) -> Real:
    """Read ReaL's files; with `most`, the first so many questions."""
    from manyhot.data import catalog
    from manyhot.formats import read_golden, read_images, read_votes
    from manyhot.reassess.answers import golden_of
    from manyhot.tables.vote_labels import answers_of

    files = catalog.fetch("imagenet-real")
    rows = read_images(catalog.fetch_file("imagenet-val-predictions", "imagenet-validation-original.json"))
    votes, experts = read_votes(files["raters.npz"]), read_golden(files["golden.npz"])
    answers, golden = answers_of(votes, rows, ANIMALS), golden_of(experts, votes, rows)
    score = golden_bayes(answers, golden).p
    released = np.load(files["scores.npz"])["tensor"]
    assert np.abs(score - released).max() < 1e-12
    n = most or votes.n_questions
    kept = answers.question < n
    part = replace(
        answers,
        question=answers.question[kept],
        rater=answers.rater[kept],
        answer=answers.answer[kept],
        n_questions=n,
        original=answers.original[:n],
    )
    return Real(votes.image[:n], part, golden, score[:n])


def prior_odds(data: Real, golden: GoldenAnswers) -> np.ndarray:
    """Return the log odds before any answer, the original label's word included."""
    none = np.empty(0, np.int64)
    nobody = replace(data.answers, question=none, rater=none, answer=none.astype(np.int8))
    return logit(golden_bayes(nobody, golden).p)


def simulated(data: Real, rng: np.random.Generator) -> Draw:
    """Draw truth, raters and answers, and golden answers by which the raters are judged."""
    weight = np.bincount(data.answers.rater, minlength=data.answers.n_raters)
    known = np.intersect1d(data.golden.answers.rater, np.flatnonzero(weight))
    truth_golden = data.golden.truth()
    matrices = golden_matrices(data.golden.answers, truth_golden, 1.0)[known]
    counts = np.stack([rng.multinomial(np.sum(truth_golden == z), matrices[:, z]) for z in (0, 1)], 1)
    judged = (counts + 1) / (counts.sum(2, keepdims=True) + 3)
    weight = weight[known]
    truth = rng.random(len(data.score)) < data.score
    rater = distinct_raters(weight, len(truth), rng)
    cumulative = matrices.cumsum(2)[rater, truth[:, None].astype(int)]
    answer = (rng.random(rater.shape)[:, :, None] > cumulative[:, :, :2]).sum(2).astype(np.int8)
    added = log_ratios(judged)[rater, answer]
    return Draw(
        data.image,
        running(prior_odds(data, data.golden), added),
        answer,
        truth,
        average_rater(judged, weight),
    )


def distinct_raters(weight: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return `MORE` different raters for each of n questions, as likely as `weight` says."""
    chosen = np.empty((n, MORE), np.int64)
    for rows in np.array_split(np.arange(n), max(n // 20_000, 1)):
        # The largest keys after Gumbel noise are a weighted draw without replacement.
        keys = np.log(weight) + rng.gumbel(size=(len(rows), len(weight)))
        chosen[rows] = np.argsort(-keys, axis=1)[:, :MORE]
    return chosen


def replayed(data: Real, rng: np.random.Generator) -> Draw:
    """Shuffle the real answers of each question; what is right is what all five say."""
    answers = data.answers
    order = np.lexsort((rng.random(len(answers)), answers.question))
    rater, answer = (a[order].reshape(-1, FIVE) for a in (answers.rater, answers.answer))
    matrices = golden_matrices(data.golden.answers, data.golden.truth(), 1.0)
    odds = running(prior_odds(data, data.golden), log_ratios(matrices)[rater, answer])
    weight = np.bincount(answers.rater, minlength=answers.n_raters)
    truth = odds[:, FIVE] >= logit(THRESHOLD)
    return Draw(data.image, odds, answer, truth, average_rater(matrices, weight))


def running(prior: np.ndarray, added: np.ndarray) -> np.ndarray:
    return np.concatenate([prior[:, None], prior[:, None] + added.cumsum(1)], axis=1)


Score = Callable[[Draw, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Of a draw, the log odds now, the answers each question has, and those that it may still get."""


def by_count(draw: Draw, odds: np.ndarray, n: np.ndarray, left: np.ndarray) -> np.ndarray:
    return -n.astype(np.float64)


def by_entropy(draw: Draw, odds: np.ndarray, n: np.ndarray, left: np.ndarray) -> np.ndarray:
    return entropy(odds)


def by_disagreement(draw: Draw, odds: np.ndarray, n: np.ndarray, left: np.ndarray) -> np.ndarray:
    given = np.arange(draw.answer.shape[1]) < n[:, None]
    return disagreement(np.stack([((draw.answer == a) & given).sum(1) for a in range(3)], 1))


def by_change(draw: Draw, odds: np.ndarray, n: np.ndarray, left: np.ndarray) -> np.ndarray:
    return expected_change(odds, draw.average, ahead=left, threshold=THRESHOLD)


def by_next_change(draw: Draw, odds: np.ndarray, n: np.ndarray, left: np.ndarray) -> np.ndarray:
    return expected_change(odds, draw.average, ahead=1, threshold=THRESHOLD)


STRATEGIES: dict[str, tuple[Score, int, float]] = {
    "all alike": (by_count, FIVE, -1.0),
    "expected-change": (by_change, FIVE, -1.0),
    "expected-change, one step": (by_next_change, FIVE, -1.0),
    "entropy": (by_entropy, FIVE, -1.0),
    "disagreement": (by_disagreement, FIVE, -1.0),
    "expected-change, up to 8": (by_change, MORE, -1.0),
    "entropy, up to 8": (by_entropy, MORE, -1.0),
    "stop when settled (0)": (by_count, FIVE, 0.0),
    "stop when settled (1 %)": (by_count, FIVE, 0.01),
    "stop when settled (5 %)": (by_count, FIVE, 0.05),
}
"""The ranking, the answers that a question gets at most, and when it is settled; -1 for never before that."""


def ask(draw: Draw, score: Score, most: int, at_most: float) -> np.ndarray:
    """Ask until nothing is left; return answers, wrong states, wrong images and visits after each step."""
    n_questions, n_images = len(draw.odds), int(draw.image.max()) + 1
    step = max(int(n_questions * STEP), 1)
    n, rows = np.zeros(n_questions, np.int64), np.arange(n_questions)
    course = []
    while True:
        odds = draw.odds[rows, n]
        wrong = (odds >= logit(THRESHOLD)) != draw.truth
        visits = np.zeros(n_images, np.int64)
        np.maximum.at(visits, draw.image, n)
        images = np.count_nonzero(np.bincount(draw.image, wrong))
        course.append((n.sum(), np.count_nonzero(wrong), images, visits.sum()))
        left = most - n
        open_ = left > 0
        if at_most >= 0:
            open_ &= ~settled(odds, draw.average, left, threshold=THRESHOLD, at_most=at_most)
        chosen = choose_questions(score(draw, odds, n, left), step, open_)
        if not len(chosen):
            return np.array(course, np.float64)
        n[chosen] += 1


def at(course: np.ndarray, answers: float, column: int) -> float:
    """Return a column of a course at a number of answers, between two steps by the straight line."""
    return float(np.interp(answers, course[:, 0], course[:, column]))


def answers_for(course: np.ndarray, wrong: float) -> float:
    """Return the answers after which the wrong images are no more than `wrong`; NaN if never."""
    below = np.flatnonzero(course[:, 2] <= wrong)
    if not len(below):
        return float("nan")
    i = below[0]
    if i == 0:
        return float(course[0, 0])
    (x0, y0), (x1, y1) = course[i - 1, [0, 2]], course[i, [0, 2]]
    return float(x0 + (x1 - x0) * (y0 - wrong) / (y0 - y1))


def mean(values: list[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % interval; NaN where a value is missing."""
    v = np.array(values)
    half = student.ppf(0.975, len(v) - 1) * v.std(ddof=1) / np.sqrt(len(v)) if len(v) > 1 else np.nan
    return float(v.mean()), float(half)


def cell(values: list[float], share: bool = False) -> str:
    value, half = mean(values)
    if np.isnan(value):
        return "–"
    return f"{value:.1%} ± {half:.1%}" if share else f"{value:,.0f} ± {half:,.0f}"


def report(name: str, courses: dict[str, list[np.ndarray]], full: int) -> None:
    """Print the errors at shares of the full number of answers, and what is saved."""
    goal = [at(c, full, 2) for c in courses["all alike"]]
    print(f"\n{name}: images whose label set differs; five raters on everything: {cell(goal)}\n")
    head = ["asked by", *(f"{s:.0%} of the answers" for s in SHARES), "all"]
    head += ["answers for the error of three raters on everything", "of five"]
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for strategy, runs in courses.items():
        if strategy.startswith("stop"):
            continue
        cells = [cell([at(c, s * full, 2) for c in runs]) for s in (*SHARES, 1.0)]
        for raters in (3, FIVE):
            goals = [at(c, full * raters / FIVE, 2) for c in courses["all alike"]]
            same = [answers_for(c, g) / full for c, g in zip(runs, goals, strict=True)]
            cells.append(cell(same, True))
        print(f"| {strategy} | {' | '.join(cells)} |")
    head = [
        "stopped",
        "answers",
        "of five on all",
        "visits of five on all",
        "wrong states",
        "images that differ",
    ]
    print(f"\n| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    visits = [at(c, full, 3) for c in courses["all alike"]]
    for strategy in ("all alike", *(s for s in courses if s.startswith("stop"))):
        last = [c[-1] for c in courses[strategy]]
        cells = [
            cell([r[0] for r in last]),
            cell([r[0] / full for r in last], True),
            cell([r[3] / v for r, v in zip(last, visits, strict=True)], True),
            cell([r[1] for r in last]),
            cell([r[2] for r in last]),
        ]
        print(f"| {strategy} | {' | '.join(cells)} |", flush=True)


def report_settled(draw: Draw, at_most: float = 0.01) -> None:
    """Print how many questions are settled after some answers of at most five, and open after all five."""
    done = np.zeros(len(draw.odds), bool)
    for n in range(1, FIVE):
        done |= settled(draw.odds[:, n], draw.average, FIVE - n, threshold=THRESHOLD, at_most=at_most)
        print(f"settled ({at_most:.0%}) after {n} of at most five answers: {done.mean():.1%}")
    more = settled(draw.odds[:, FIVE], draw.average, MORE - FIVE, threshold=THRESHOLD, at_most=at_most)
    print(f"not settled after five of at most eight answers: {1 - more.mean():.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--questions", type=int, default=0, help="the first so many; 0 for all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    quiet()
    data = real(options.questions)
    full = FIVE * len(data.score)
    print(f"{len(data.score):,} questions, {full:,} answers of five raters, {options.repeat} repetitions")
    for name, draw, most in (("Simulated", simulated, MORE), ("Replayed", replayed, FIVE)):
        begun = time.process_time()
        courses: dict[str, list[np.ndarray]] = {}
        for r in range(options.repeat):
            drawn = draw(data, np.random.default_rng([options.seed, r]))
            for strategy, (score, limit, at_most) in STRATEGIES.items():
                if limit <= most:
                    courses.setdefault(strategy, []).append(ask(drawn, score, limit, at_most))
        report(name, courses, full)
        if most == FIVE:
            report_settled(drawn)
        print(f"\n{time.process_time() - begun:.0f} s of CPU")


if __name__ == "__main__":
    main()
