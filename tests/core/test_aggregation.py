"""Aggregators against plain loops, worked examples, and raters whose quality is known."""

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from manyhot.core.aggregation import (
    Aggregate,
    expected_answers,
    golden_bayes,
    golden_matrices,
    majority,
    yes_share,
)
from manyhot.core.answers import MAYBE, NO, SILENT, YES, Answers, GoldenAnswers, History
from manyhot.core.dawid_skene import auto, dawid_skene, model_log_odds, one_coin
from manyhot.core.rater_models import RaterModel
from manyhot.errors import InputError
from manyhot.registry import get, names
from manyhot.testing import check_aggregator, random_votes

SPECS = [
    *names("aggregator"),
    "majority(maybe='half')",
    "majority(maybe='yes')",
    "yes-share(maybe='half')",
    "dawid-skene(truth='answers')",
    "dawid-skene(smoothing=0)",
    "dawid-skene(smoothing=10)",
    "dawid-skene(hard=True)",
    "one-coin(maybe='yes')",
    "one-coin(smoothing=0)",
    "one-coin(smoothing=10)",
    "one-coin(maybe='no')",
    "one-coin(hard=True)",
    "one-coin(maybe='no', hard=True)",
    "golden-bayes(original=False)",
]


def votes(rows, n_raters=None):
    """Return answers of rows of (question, rater, answer)."""
    question, rater, answer = map(np.array, zip(*rows, strict=True))
    return Answers(question, rater, answer.astype(np.int8), question.max() + 1, n_raters or rater.max() + 1)


def test_auto_takes_the_answers_of_two_raters_at_face_value():
    """By Bayes' rule, with answers that are right in nine of ten cases, and as many yes as no."""
    agreed, split = [(0, 0, YES), (0, 1, YES)], [(1, 0, YES), (1, 1, NO)]
    done = auto(votes([*agreed, *split, (2, 0, YES), (3, 0, MAYBE), (3, 1, NO)]))
    np.testing.assert_allclose(done.p, [0.81 / (0.81 + 0.01), 0.5, 0.9, 0.1])


@pytest.mark.parametrize("seed", range(5))
def test_one_of_two_raters_guesses(seed):
    """The labels are as good as the share of yes says, and no label contradicts both raters."""
    rng = np.random.default_rng(seed)
    truth, question, rater = rng.random(300) < 0.4, np.repeat(np.arange(300), 2), np.tile([0, 1], 300)
    yes = np.where(rater == 0, truth[question] ^ (rng.random(600) < 0.03), rng.random(600) < 0.3)
    answers = Answers(question, rater, np.where(yes, YES, NO).astype(np.int8), 300, 2)
    valid, share = auto(answers).p >= 0.8, yes_share(answers).p
    np.testing.assert_array_equal(valid, share == 1)
    assert (valid == truth).mean() > 0.65
    third = Answers(
        np.append(question, np.arange(300)),
        np.append(rater, np.full(300, 2)),
        np.append(answers.answer, np.where(truth, YES, NO)).astype(np.int8),
        300,
        3,
    )
    assert ((auto(third).p >= 0.8) == truth).mean() > 0.95  # with a third, the guesser is found out


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spec", SPECS)
def test_aggregator(spec, seed):
    check_aggregator(spec, seed=seed)


# Question 0: yes yes no; 1: yes maybe no; 2: yes no; 3: maybe maybe yes.
BY_HAND = [(0, 0, 2), (0, 1, 2), (0, 2, 0), (1, 0, 2), (1, 1, 1), (1, 2, 0), (2, 0, 2), (2, 1, 0)]
BY_HAND += [(3, 0, 1), (3, 1, 1), (3, 2, 2)]


@pytest.mark.parametrize(
    ("maybe", "shares", "decided"),
    [
        ("no", [2 / 3, 1 / 3, 1 / 2, 1 / 3], [1, 0, 0.5, 0]),
        ("half", [2 / 3, 1 / 2, 1 / 2, 2 / 3], [1, 0.5, 0.5, 1]),
        ("yes", [2 / 3, 2 / 3, 1 / 2, 1], [1, 1, 0.5, 1]),
    ],
)
def test_majority_and_shares_by_hand(maybe, shares, decided):
    assert yes_share(votes(BY_HAND), maybe=maybe).p == pytest.approx(shares)
    assert majority(votes(BY_HAND), maybe=maybe).p.tolist() == decided


def slow_dawid_skene(answers, n_truths, smoothing, iterations, earlier=0):
    """Dawid and Skene's algorithm as their paper has it, in loops over votes; the prior is manyhot's."""
    pooled = smoothing > 0
    by_question = [[] for _ in range(answers.n_questions)]
    for q, r, a in zip(answers.question, answers.rater, answers.answer, strict=True):
        by_question[q].append((r, a))
    posterior = []
    for cell in by_question:
        share = [sum(a == k for _, a in cell) for k in range(3)]
        share = share if n_truths == 3 else [share[0] + share[1] / 2, share[2] + share[1] / 2]
        posterior.append([s / sum(share) for s in share])
    for _ in range(iterations):
        # One question of each truth, and six answers, four of which are right, before any is counted.
        prior = (np.sum(posterior, 0) + pooled) / (answers.n_questions + n_truths * pooled)
        counts = np.zeros((answers.n_raters, n_truths, 3))
        pool = np.ones((n_truths, 3)) + 3 * (np.eye(3) if n_truths == 3 else np.eye(3)[[0, 2]])
        for cell, p in zip(by_question, posterior, strict=True):
            for (r, a), k in itertools.product(cell, range(n_truths)):
                counts[r, k, a] += p[k]
                pool[k, a] += p[k]
        counts, pool = counts + earlier, pool + np.sum(earlier, 0)
        counts += smoothing * pool / pool.sum(1, keepdims=True)
        matrices = counts / counts.sum(2, keepdims=True)
        likelihood, posterior = 0.0, []
        for cell in by_question:
            joint = [prior[k] * np.prod([matrices[r, k, a] for r, a in cell]) for k in range(n_truths)]
            likelihood += np.log(sum(joint))
            posterior.append([j / sum(joint) for j in joint])
    return np.array(posterior)[:, -1], matrices, prior, likelihood


@pytest.mark.parametrize(("truth", "n_truths"), [("binary", 2), ("answers", 3)])
@pytest.mark.parametrize("smoothing", [0.0, 3.0, 10.0])
def test_dawid_skene_against_loops(truth, n_truths, smoothing):
    answers, _, _ = random_votes(np.random.default_rng(1), n=60, skill=0.6)
    p, matrices, prior, likelihood = slow_dawid_skene(answers, n_truths, smoothing, 12)
    found = dawid_skene(answers, truth=truth, smoothing=smoothing, iterations=12, tolerance=-1.0)
    assert found.iterations == 12
    assert not found.converged
    assert found.p == pytest.approx(p, abs=1e-9)
    assert found.matrices == pytest.approx(matrices, abs=1e-9)
    assert found.prior == pytest.approx(prior, abs=1e-9)
    assert found.log_likelihood == pytest.approx(likelihood, abs=1e-8)


@pytest.mark.parametrize("method", [dawid_skene, one_coin])
def test_likelihood_never_falls_and_the_fit_stops_on_it(method):
    answers, _, _ = random_votes(np.random.default_rng(2), skill=0.6)
    course = [
        method(answers, smoothing=0.0, iterations=i, tolerance=-1.0).log_likelihood for i in range(1, 40)
    ]
    rises = np.diff(course)
    assert (rises >= -1e-9).all()
    done = method(answers, smoothing=0.0, tolerance=1e-4)
    assert done.converged
    # It stops at the first rise of no more than 1e-4 a vote.
    assert done.iterations == int(np.argmax(rises <= 1e-4 * len(answers))) + 2


@pytest.mark.parametrize("smoothing", [1, 10])
def test_one_coin_against_loops(smoothing):
    answers, _, _ = random_votes(np.random.default_rng(3), n=60, skill=0.6)
    said = answers.answer == 2
    p = np.array([said[answers.question == q].mean() for q in range(60)])
    for _ in range(8):
        prior = (p.sum() + 1) / 62
        right = np.zeros(answers.n_raters)
        for q, r, yes in zip(answers.question, answers.rater, said, strict=True):
            right[r] += p[q] if yes else 1 - p[q]
        of_pool = (right.sum() + 4) / (len(answers) + 5)
        n = np.bincount(answers.rater, minlength=answers.n_raters)
        share = (right + smoothing * of_pool) / (n + smoothing)
        odds = np.full(60, prior / (1 - prior))
        for q, r, yes in zip(answers.question, answers.rater, said, strict=True):
            odds[q] *= share[r] / (1 - share[r]) if yes else (1 - share[r]) / share[r]
        p = odds / (1 + odds)
    found = one_coin(answers, maybe="no", smoothing=smoothing, iterations=8, tolerance=-1.0)
    assert found.p == pytest.approx(p, abs=1e-9)
    assert found.matrices[:, 1, 1] == pytest.approx(share)
    assert found.matrices[:, 0, 0] == pytest.approx(share)


# Few answers: each of these was all "no" while raters were drawn towards equal shares.

LEARNT = [dawid_skene, one_coin, auto]


@pytest.mark.parametrize("method", LEARNT)
def test_five_yes_of_five_is_a_yes(method):
    # The toy example of crowd-kit's tests: five questions, five raters, 24 answers.
    said = ["ny yn", "yyynn", "ynnyn", "yyyyy", "ynnnn"]
    rows = [(q, r, "n y".index(a)) for q, row in enumerate(said) for r, a in enumerate(row) if a != " "]
    found = method(votes(rows))
    assert found.p[3] > 0.9
    assert found.p[3] == found.p.max()
    assert found.p[4] == found.p.min() < 0.15
    assert 0.1 < found.prior[1] < 0.9
    if method is not auto:
        # Without smoothing it is what crowd-kit's classes of both names say: yes, yes, no, yes, no.
        assert method(votes(rows), smoothing=0).p.round().tolist() == [1, 1, 0, 1, 0]


def campaigns(n, raters, votes, sensitivity=(0.68, 0.95), specificity=(0.68, 0.95), repeats=8):
    """Yield answers of raters to questions, and the truth."""
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        right = np.stack([rng.uniform(*specificity, raters), rng.uniform(*sensitivity, raters)], 1)
        truth = rng.random(n) < 0.3
        question = np.repeat(np.arange(n), votes)
        if raters == n * votes:
            rater = rng.permutation(raters)
        else:
            rater = rng.random((n, raters)).argsort(1)[:, :votes].ravel()
        there = truth[question]
        yes = there == (rng.random(n * votes) < right[rater, there.astype(int)])
        yield Answers(question, rater, 2 * yes.astype(np.int8), n, raters), truth


def quality(p, truth):
    """Return the share that is right at 0.5, and the log loss."""
    right = np.where(p == 0.5, 0.5, (p > 0.5) == truth).mean()
    return right, -np.log(np.clip(np.where(truth, p, 1 - p), 1e-4, 1)).mean()


@pytest.mark.parametrize("method", LEARNT)
@pytest.mark.parametrize(
    ("options", "margin"),
    [
        ({"n": 400, "raters": 2000, "votes": 5}, 0.02),  # one answer a rater
        ({"n": 400, "raters": 400, "votes": 5}, 0.01),
        ({"n": 400, "raters": 30, "votes": 2}, 0.01),
        ({"n": 20, "raters": 5, "votes": 5, "repeats": 40}, 0.03),
        ({"n": 400, "raters": 30, "votes": 5}, 0.01),
    ],
    ids=["one answer a rater", "five answers a rater", "two votes", "20 questions", "usual"],
)
def test_few_answers_are_no_worse_than_a_majority(method, options, margin):
    scores = []
    for answers, truth in campaigns(**options):
        found, counted = method(answers), majority(answers)
        assert found.converged
        scores.append([quality(found.p, truth), quality(counted.p, truth)])
    (right, loss), (right_of_majority, loss_of_majority) = np.mean(scores, 0)
    assert right > right_of_majority - margin
    assert loss < loss_of_majority


def test_raters_who_miss_half_are_understood():
    options = {"n": 400, "raters": 30, "votes": 5, "sensitivity": (0.35, 0.65), "specificity": (0.93, 0.995)}
    scores = [
        [quality(find(answers).p, truth)[0] for find in (dawid_skene, majority)]
        for answers, truth in campaigns(**options)
    ]
    found, counted = np.mean(scores, 0)
    assert found > counted + 0.05


def test_one_coin_is_not_misled_by_raters_who_miss_half():
    options = {"n": 400, "raters": 30, "votes": 5, "sensitivity": (0.35, 0.65), "specificity": (0.93, 0.995)}
    for answers, truth in campaigns(**options, repeats=4):
        found = one_coin(answers)
        assert 0.15 < found.prior[1] < 0.45  # 0.3; by its own likelihood, it is below 0.1
        assert quality(found.p, truth)[0] > quality(majority(answers).p, truth)[0] - 0.02
        assert found.weights["one-coin"] < 0.2
        assert found.weights["one-coin"] + found.weights["dawid-skene"] == pytest.approx(1)


MODELS = {
    "dawid-skene": RaterModel.dawid_skene,
    "dawid-skene(hard=True)": partial(RaterModel.dawid_skene, hard=True),
    "one-coin": RaterModel.one_coin,
    "one-coin(hard=True)": partial(RaterModel.one_coin, hard=True),
}


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_the_closed_form_is_close_to_fits_without_a_question(build):
    """Only what its answers contributed to other questions and to what raters share remains."""
    answers, _ = next(campaigns(n=120, raters=6, votes=3, repeats=1))
    model, found = build(answers), []
    fit = model.fit(tolerance=1e-11)
    closed = model.held_out(fit)
    for q in range(0, 120, 3):
        inside = answers.question == q
        others = {name: getattr(answers, name)[~inside] for name in ("question", "rater", "answer")}
        without = build(replace(answers, **others)).fit(tolerance=1e-11)
        votes = answers.rater[inside], slice(None), answers.answer[inside]
        logs = [np.log(f.prior @ f.matrices[votes].prod(0)) for f in (without, fit)]
        found.append((closed[q], *logs))
    closed, without, whole = np.transpose(found)
    assert np.corrcoef(closed, without)[0, 1] > 0.99
    # A third at least of what a question adds to its own likelihood is taken out.
    assert 0 < np.mean(closed - without) < np.mean(whole - without) * 2 / 3


@pytest.mark.parametrize(("maybe", "half"), [(0, 0.5), (20, 0.45)])
def test_one_coin_raters_guess_at_some_hard_questions(maybe, half):
    """A quarter of the answers is yes as often as no; Dawid-Skene's raters answer as they usually do."""
    answer = np.repeat([YES, NO, MAYBE], [48 - maybe, 147, 1 + maybe]).astype(np.int8)
    answers = Answers(np.arange(196) // 4, np.arange(196) % 4, answer, 49, 4)
    # With one more of each, 199 answers.
    usual = RaterModel.dawid_skene(answers, hard=True).hard
    assert usual == pytest.approx(np.array([148, 2 + maybe, 49 - maybe]) / 199)
    hard = RaterModel.one_coin(answers, hard=True).hard
    guesses = np.array([(197 - maybe) / 2, 2 + maybe, (197 - maybe) / 2]) / 199
    assert hard == pytest.approx(0.75 * usual + 0.25 * guesses)
    assert guesses[0] == pytest.approx(half, abs=0.01)


@pytest.mark.parametrize(
    ("n", "odds"),
    [(5, [1, 1 / 8, 1, 1 / 8]), (20, [1, 1 / 8, 1, 1 / 8]), (500, [1 / 625, 1 / 5000, 1, 1 / 8])],
)
def test_prior_odds_of_models(n, odds):
    answers, _ = next(campaigns(n=20, raters=3, votes=3, repeats=1))
    found = [np.exp(model_log_odds(build(answers), n)) for build in MODELS.values()]
    assert found == pytest.approx(odds)


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_raters_judged_by_the_truths_of_their_own_fit_change_nothing(build):
    answers, _, _ = random_votes(np.random.default_rng(6), n=200, skill=0.6)
    model = build(answers)
    fit = model.fit(tolerance=1e-13)
    again = model.refit(fit.posterior)
    assert again.posterior == pytest.approx(fit.posterior, abs=1e-5)
    assert again.matrices == pytest.approx(fit.matrices, abs=1e-5)
    assert again.prior == pytest.approx(fit.prior, abs=1e-6)


@pytest.mark.parametrize("method", [auto, one_coin])
def test_models_that_are_compared_on_some_questions_are_fitted_to_all(method, monkeypatch):
    answers, truth = next(campaigns(n=3_000, raters=30, votes=5))
    exact = method(answers, tolerance=1e-12)
    monkeypatch.setattr("manyhot.core.dawid_skene.MOST_COMPARED", 1_000)
    found = method(answers, tolerance=1e-12)
    assert found.weights == pytest.approx(exact.weights, abs=0.2)
    assert found.p == pytest.approx(exact.p, abs=0.02)
    assert quality(found.p, truth) == pytest.approx(quality(exact.p, truth), abs=0.002)


@pytest.mark.parametrize("hard", [False, True])
def test_a_fit_that_starts_from_one_to_fewer_questions_is_the_same_sooner(hard):
    answers, _ = next(campaigns(n=2_000, raters=30, votes=5))
    some = answers.question < 1_000
    part = Answers(answers.question[some], answers.rater[some], answers.answer[some], 1_000, 30)
    guess = RaterModel.dawid_skene(part, hard=hard).fit()
    model = RaterModel.dawid_skene(answers, hard=hard)
    without, found = (model.fit(tolerance=1e-11, guess=each) for each in (None, guess))
    assert found.iterations < without.iterations
    assert found.log_likelihood == pytest.approx(without.log_likelihood, abs=1e-3)
    assert found.posterior == pytest.approx(without.posterior, abs=1e-3)


# Raters' history: rater 0 gave 30 answers when the truth was no and 10 when it was yes, rater 1 none.
EARLIER = np.zeros((3, 3, 3))
EARLIER[0, 0], EARLIER[0, 2] = [24, 3, 3], [1, 0, 9]


@pytest.mark.parametrize(
    ("method", "options", "rows"),
    [
        (dawid_skene, {}, lambda no, yes: (no, yes)),
        (dawid_skene, {"hard": True}, lambda no, yes: (no, yes)),
        (one_coin, {"maybe": "own"}, lambda no, yes: (no + yes[::-1], no[::-1] + yes)),
        (one_coin, {"maybe": "no"}, lambda no, yes: (no + yes[::-1], no[::-1] + yes)),
        (one_coin, {"maybe": "yes"}, lambda no, yes: (no + yes[::-1], no[::-1] + yes)),
    ],
    ids=["dawid-skene", "hard", "one-coin", "maybe is no", "maybe is yes"],
)
def test_a_rater_without_votes_has_the_posterior_mean_of_the_history(method, options, rows):
    """The mean of a Dirichlet distribution: counts and prior, divided by their sum."""
    answered = votes([(q, r, a) for q, r, a in BY_HAND if r], n_raters=4)  # neither rater 0 nor 3
    history = History.of_matrices(np.concatenate([EARLIER, np.zeros((1, 3, 3))]))
    found = method(replace(answered, history=history), smoothing=4, **options)
    no, yes = EARLIER[0, 0], EARLIER[0, 2]
    if options.get("maybe") == "no":
        no, yes = (np.array([row[0] + row[1], row[2]]) for row in (no, yes))
    elif options.get("maybe") == "yes":
        no, yes = (np.array([row[0], row[1] + row[2]]) for row in (no, yes))
    pooled = found.matrices[3]  # a rater without answers, too
    counts = np.stack(rows(no, yes))
    assert found.matrices[0] == pytest.approx((counts + 4 * pooled) / (counts.sum(1, keepdims=True) + 4))


def test_history_counts_like_answers_to_questions_of_known_truth():
    """By loops: in each step, the history is added to the expected counts, and to nothing else."""
    answers, _, _ = random_votes(np.random.default_rng(4), n=40, skill=0.6)
    rng = np.random.default_rng(5)
    earlier = np.zeros((answers.n_raters, 3, 3))
    earlier[:, [0, 2]] = rng.integers(0, 30, (answers.n_raters, 2, 3))
    found = dawid_skene(
        replace(answers, history=History.of_matrices(earlier)), smoothing=3.0, iterations=6, tolerance=-1.0
    )
    p, matrices, prior, _ = slow_dawid_skene(answers, 2, 3.0, 6, earlier[:, [0, 2]])
    assert found.p == pytest.approx(p, abs=1e-9)
    assert found.matrices == pytest.approx(matrices, abs=1e-9)
    assert found.prior == pytest.approx(prior, abs=1e-9)


@pytest.mark.parametrize("method", [dawid_skene, one_coin, auto])
def test_a_history_without_answers_changes_nothing(method):
    answers, _, _ = random_votes(np.random.default_rng(7), n=60, skill=0.6)
    nothing = History.of_matrices(np.zeros((answers.n_raters, 3, 3)))
    assert method(replace(answers, history=nothing)).p == pytest.approx(method(answers).p, abs=1e-12)


def test_a_history_settles_that_answers_are_not_random():
    """Answers at chance are drawn towards 0.5, but not if raters were good before."""
    rng = np.random.default_rng(0)
    question, rater = np.repeat(np.arange(40), 3), np.tile(np.arange(3), 40)
    answers = Answers(question, rater, np.where(rng.random(120) < 0.5, 2, 0).astype(np.int8), 40, 3)
    good, bad = np.zeros((3, 3, 3)), np.zeros((3, 3, 3))
    good[:, 0, 0] = good[:, 2, 2] = 90
    good[:, 0, 2] = good[:, 2, 0] = 10
    bad[:, [0, 0, 2, 2], [0, 2, 0, 2]] = 50
    alone, after_good, after_bad = (
        auto(a).weights["chance"]
        for a in (answers, *(replace(answers, history=History.of_matrices(h)) for h in (good, bad)))
    )
    assert after_good < 0.01
    assert after_bad >= alone > 0.2


def test_answers_at_chance_tell_little_of_how_often_classes_are_valid():
    rng = np.random.default_rng(0)
    question, rater = np.repeat(np.arange(40), 3), np.tile(np.arange(3), 40)
    answers = Answers(question, rater, np.where(rng.random(120) < 0.15, 2, 0).astype(np.int8), 40, 3)
    found = auto(answers)
    assert found.weights["chance"] > 0.2
    assert (abs(found.prior - 0.5) <= (1 - found.weights["chance"]) / 2).all()  # 1/2, as far as at chance


def test_expected_answers_are_those_of_the_truths_of_the_fit():
    answers, _ = next(campaigns(n=400, raters=10, votes=5))
    found = dawid_skene(answers, tolerance=1e-10)
    by_model, by_p = (expected_answers(answers, a).matrices(10, 3) for a in (found, Aggregate(found.p)))
    assert by_model == pytest.approx(by_p, abs=1e-4)
    assert (by_p[:, 1] == 0).all()  # the truth is no or yes
    for method, options in ((dawid_skene, {}), (one_coin, {"maybe": "no"}), (auto, {})):
        counts = expected_answers(answers, method(answers, **options)).matrices(10, 3)
        n = counts.sum((1, 2))
        # Answers to hard questions are left out.
        assert (n <= np.bincount(answers.rater) + 1e-6).all()
        assert n.sum() > 0.8 * len(answers)
        assert counts.argmax(2)[:, [0, 2]].tolist() == [[0, 2]] * 10


@pytest.mark.parametrize("spec", ["dawid-skene", "dawid-skene(truth='answers', smoothing=0)", "one-coin"])
def test_questions_without_votes_change_nothing(spec):
    answers, _, _ = random_votes(np.random.default_rng(5), n=60, skill=0.6)
    more = Answers(answers.question, answers.rater, answers.answer, 5_000, answers.n_raters)
    few, many = (get("aggregator", spec)(a) for a in (answers, more))
    assert many.iterations == few.iterations
    assert many.p[:60] == pytest.approx(few.p)
    assert many.p[60:] == pytest.approx(np.full(4_940, few.prior[-1]), abs=1e-4)
    assert many.prior == pytest.approx(few.prior)
    assert many.log_likelihood == pytest.approx(few.log_likelihood)


def golden_questions(yes, rows, original=None, n_raters=3):
    answers = votes(rows, n_raters)
    yes = np.array(yes)
    answers = Answers(answers.question, answers.rater, answers.answer, len(yes), n_raters, original)
    return GoldenAnswers(answers, yes, np.full(len(yes), 5), np.full(len(yes), -1))


# Two golden questions with the truth no, two with yes; raters 0 and 1 answer them all, rater 2 none.
GOLDEN = [(0, 0, 0), (1, 0, 1), (2, 0, 2), (3, 0, 2), (0, 1, 2), (1, 1, 0), (2, 1, 2), (3, 1, 0)]


def test_the_share_of_yes_is_that_of_golden_questions_that_raters_answered():
    """Experts answered 1,000 further questions, which nobody proposes, with no: they change nothing."""
    asked = votes([(0, 0, 2), (0, 1, 2), (1, 2, 0)], 3)
    few, many = (golden_questions([0, 2, 3, 5, *[0] * n], GOLDEN) for n in (0, 1000))
    assert golden_bayes(asked, many).p.tolist() == golden_bayes(asked, few).p.tolist()
    assert golden_bayes(asked, many).prior.tolist() == [0.5, 0.5]


def test_golden_bayes_by_hand():
    golden = golden_questions([0, 2, 3, 5], GOLDEN)
    matrices = golden_matrices(golden.answers, golden.truth(), 1.0)
    assert matrices[0].tolist() == [[2 / 5, 2 / 5, 1 / 5], [1 / 5, 1 / 5, 3 / 5]]
    assert matrices[1].tolist() == [[2 / 5, 1 / 5, 2 / 5], [2 / 5, 1 / 5, 2 / 5]]
    assert matrices[2] == pytest.approx((matrices[0] + matrices[1]) / 2)
    found = golden_bayes(votes([(0, 0, 2), (0, 1, 2), (1, 2, 0)], 3), golden)
    # Prior 1/2. Question 0: odds 3/5 : 1/5 of rater 0, 1 of rater 1. Question 1: 3/10 : 4/10.
    assert found.p == pytest.approx([3 / 4, 3 / 7])
    assert found.log_likelihood == pytest.approx(np.log(0.5 * 2 / 5 * (3 / 5 + 1 / 5)) + np.log(0.5 * 0.7))
    assert (found.iterations, found.converged) == (0, True)


def test_the_original_label_is_one_more_rater():
    # Its truth is yes for two of five experts: three questions, of which it says yes to two.
    golden = golden_questions([0, 2, 3, 5], GOLDEN, np.array([1, 1, 1, 0], np.int8))
    asked = votes([(0, 0, 2), (1, 0, 2), (2, 0, 2)], 3)
    original = np.array([1, 0, SILENT], np.int8)
    asked = Answers(asked.question, asked.rater, asked.answer, 3, 3, original)
    # (k + 1) / (N + 3): under yes 3/6 and, for no, 2/6; under no 2/4 and 1/4.
    assert golden_bayes(asked, golden).p == pytest.approx([3 / 4, 4 / (4 + 1), 3 / 4])
    assert golden_bayes(asked, golden, original=False).p == pytest.approx([3 / 4] * 3)


# Bad input.


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (
            lambda: votes([(0, 0, 2), (1, 0, 2), (0, 0, 0)]),
            "A rater answered a question twice.\n  got:     rater 0, question 0\n"
            "  allowed: at most one answer per rater and question",
        ),
        (
            lambda: votes([(0, 0, 3)]),
            "The answer of a vote does not exist.\n  got:     3\n  allowed: 0 to 2",
        ),
        (
            lambda: Answers(np.array([0, 1]), np.array([0]), np.array([0], np.int8), 2, 1),
            "The arrays of votes differ in length.\n"
            "  got:     2 questions, 1 raters and 1 answers\n  allowed: three arrays of the same length",
        ),
        (
            lambda: golden_bayes(votes(BY_HAND)),
            "This method needs golden answers: experts' answers to questions that raters also answered.\n"
            "  got:     none\n"
            "  do:      pass golden answers as `golden`, or use dawid-skene, which needs no golden answers",
        ),
        (
            lambda: golden_bayes(votes(BY_HAND), golden_questions([0, 1, 2, 0], GOLDEN)),
            "All golden questions have the same truth, so nothing can be estimated for the other truth.\n"
            "  got:     no in all 4\n"
            "  allowed: some golden questions with the truth yes and some with the truth no\n"
            "  do:      add questions with the other truth, or use dawid-skene, which needs no golden "
            "answers",
        ),
        (
            lambda: golden_bayes(votes(BY_HAND), golden_questions([0, 0, 0, 0, 5], GOLDEN)),
            "No rater answered a golden question with the truth yes.\n"
            "  got:     8 answers, all to golden questions with the other truth\n"
            "  allowed: raters' answers to golden questions with the truth yes and to others with the truth "
            "no\n"
            "  do:      ask raters golden questions with the truth yes, too, or use dawid-skene, which "
            "needs no golden answers",
        ),
        (
            lambda: majority(votes(BY_HAND), maybe="perhaps"),
            "There is no such reading of maybe.\n  got:     perhaps\n  allowed: no, half, yes",
        ),
        (
            lambda: one_coin(votes(BY_HAND), maybe="half"),
            "There is no such reading of maybe.\n  got:     half\n  allowed: own, no, yes",
        ),
        (
            lambda: dawid_skene(votes(BY_HAND), truth="three"),
            "There is no such truth.\n  got:     three\n  allowed: binary, answers",
        ),
        (
            lambda: dawid_skene(votes(BY_HAND), smoothing=-1),
            "Smoothing is negative or not a number.\n  got:     -1\n  allowed: 0 or more",
        ),
        (
            lambda: dawid_skene(votes(BY_HAND), iterations=0),
            "There are no iterations.\n  got:     0\n  allowed: 1 or more",
        ),
    ],
)
def test_bad_input(work, message):
    with pytest.raises(InputError) as error:
        work()
    assert str(error.value) == message


def test_golden_questions_that_no_rater_answered():
    nothing = np.empty(0, np.int64)
    golden = GoldenAnswers(
        Answers(nothing, nothing, nothing.astype(np.int8), 2, 3), np.array([5, 0]), np.array([5, 5]), nothing
    )
    with pytest.raises(InputError) as error:
        golden_bayes(votes(BY_HAND), golden)
    assert str(error.value) == (
        "This method needs golden answers: experts' answers to questions that raters also answered.\n"
        "  got:     2, which no rater answered\n"
        "  do:      pass golden answers as `golden`, or use dawid-skene, which needs no golden answers"
    )


def test_every_aggregator_registers_a_threshold():
    assert {name: get("aggregator", name).about["threshold"] for name in names("aggregator")} == {
        "majority": 0.5,
        "yes-share": 0.5,
        "source-share": 0.501,
        "dawid-skene": 0.8,
        "one-coin": 0.8,
        "golden-bayes": 0.8,
        "auto": 0.8,
    }


def test_a_rater_without_votes_gives_any_answer_without_smoothing():
    answers, _, _ = random_votes(np.random.default_rng(1), n=60)
    found = dawid_skene(replace(answers, n_raters=10), smoothing=0.0, iterations=3)  # the tenth is silent
    assert found.matrices[9] == pytest.approx(np.full((2, 3), 1 / 3))
