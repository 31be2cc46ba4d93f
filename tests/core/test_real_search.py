"""ReaL's search, against loops over Python sets that try everything."""

import itertools

import numpy as np
import pytest

from manyhot.core.real_search import BUDGET, Proposing, search

PAIRS, IMAGES = 40, 12


def random_problem(rng, n_models=4, levels=3):
    """Return nested sets of (image, class) pairs for each model and level, the valid pairs and labels."""
    pairs = [(i % IMAGES, i) for i in range(PAIRS)]
    valid = {p for p in pairs if rng.random() < 0.4}
    labels = {i for i in range(IMAGES) if rng.random() < 0.7}  # images whose original label is valid
    sets = []
    for _ in range(n_models):
        order = sorted(pairs, key=lambda p: rng.random() - 0.6 * (p in valid))
        ends = np.sort(rng.integers(0, PAIRS, levels))
        sets.append([set(order[:e]) for e in ends])
    return pairs, valid, labels, sets


def packed(pairs, valid, labels, sets):
    levels = len(sets[0])
    flags = np.array([[[p in s for p in pairs] for s in model] for model in sets])
    asked = np.array([[[any(p[0] == i for p in s) for i in range(IMAGES)] for s in model] for model in sets])
    right = np.array([p in valid for p in pairs])
    fine = np.array([i in labels for i in range(IMAGES)])
    assert flags.shape[1] == levels
    models = [(f[:, right], a[:, fine], f[:, ~right], a[:, ~fine]) for f, a in zip(flags, asked, strict=True)]
    return Proposing.of(models, n_labels=len(valid) + len(labels), n_given=len(labels))


def measured(valid, labels, sets, codes):
    """Return recall and precision of a choice, by sets."""
    union = set().union(*(sets[m][c - 1] for m, c in enumerate(codes) if c))
    images = {i for i, _ in union}
    asked = len(union) + len(images)
    hits = len(union & valid) + len(images & labels)
    recall = (len(union & valid) + len(labels)) / (len(valid) + len(labels))
    return recall, hits / asked if asked else 1.0


def best_by_loops(valid, labels, sets, recall, choices):
    fine = []
    for codes in choices:
        r, p = measured(valid, labels, sets, codes)
        if r >= recall:
            fine.append((p, -sum(c > 0 for c in codes)))
    return max(fine, default=None)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("recall", [0.6, 0.8, 0.9])
def test_everything_is_looked_through(seed, recall):
    problem = random_problem(np.random.default_rng(seed))
    expected = best_by_loops(*problem[1:], recall, itertools.product(range(4), repeat=4))
    choice = search(packed(*problem), recall)
    if expected is None:
        assert choice is None
        return
    assert choice.how == "all"
    assert (choice.recall, choice.precision) == pytest.approx(measured(*problem[1:], choice.codes))
    assert (choice.precision, -int((choice.codes > 0).sum())) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(8))
def test_sets_of_models_at_one_level_then_one_model_at_a_time(seed):
    problem = random_problem(np.random.default_rng(seed), n_models=6)
    p = packed(*problem)
    shared = (
        tuple(level if m in chosen else 0 for m in range(6))
        for level in (1, 2, 3)
        for size in range(7)
        for chosen in itertools.combinations(range(6), size)
    )
    expected = best_by_loops(*problem[1:], 0.7, shared)
    # Enough for 3 * 2**6 combinations and not for 4**6.
    choice = search(p, 0.7, budget=2**6 * 3 * (p.bits.shape[2] + 16))
    if expected is None:  # No set at one level reaches the recall; then all models at the loosest do not.
        assert choice is None
        return
    assert choice.how == "sets"
    assert choice.recall >= 0.7
    assert choice.precision >= expected[0]
    best = best_by_loops(*problem[1:], 0.7, itertools.product(range(4), repeat=6))
    assert choice.precision <= best[0]


@pytest.mark.parametrize("seed", range(8))
def test_steps_end_where_no_single_change_helps(seed):
    problem = random_problem(np.random.default_rng(seed), n_models=6)
    choice = search(packed(*problem), 0.7, budget=0)
    if choice is None:
        assert measured(*problem[1:], [3] * 6)[0] < 0.7
        return
    assert choice.how == "steps"
    assert choice.recall >= 0.7
    changed = ((*choice.codes[:m], c, *choice.codes[m + 1 :]) for m in range(6) for c in range(4))
    assert best_by_loops(*problem[1:], 0.7, changed)[0] <= choice.precision


@pytest.mark.parametrize("budget", [BUDGET, 0])  # by steps, each of which keeps a recall of just 1
def test_fewer_models_win_a_tie(budget):
    pairs, valid = [(0, 0), (1, 1)], {(0, 0), (1, 1)}
    sets = [[{(0, 0)}], [{(1, 1)}], [{(0, 0), (1, 1)}]]
    choice = search(packed(pairs, valid, set(range(IMAGES)), sets), 1.0, budget=budget)
    assert choice.codes.tolist() == [0, 0, 1]


def test_by_hand():
    # One label beside the original ones of 12 images. The first model finds it, with a wrong class on another
    # image, the second without: 2 questions about its image, both right.
    pairs, valid = [(0, 0), (1, 1)], {(0, 0)}
    sets = [[{(0, 0), (1, 1)}], [{(0, 0)}]]
    p = packed(pairs, valid, set(range(IMAGES)), sets)
    choice = search(p, 1.0)
    assert (choice.codes.tolist(), choice.recall, choice.precision) == ([0, 1], 1.0, 1.0)
    first = p.measure(p.bits[0, 1][:, None])
    assert (first.asked[0], first.valid[0], first.precision[0]) == (4, 3, 0.75)


def test_nothing_reaches_the_recall():
    problem = random_problem(np.random.default_rng(0))
    assert search(packed(*problem), 1.01) is None


def test_the_search_of_the_paper_is_within_the_budget():
    # 19 models, 8 thresholds, and some 13 proposals of 256 images.
    assert BUDGET >= 2**19 * 8 * (-(-256 * 14 // 64) + 16)
