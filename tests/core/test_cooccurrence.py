import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import contingency, poisson

from manyhot.core.cooccurrence import ClassPairs, CompanionImages, difference_of_means, permutation_p
from manyhot.core.sets import NO, UNCLEAR, YES, LabelSets

C = 6


def drawn(seed, n=400):
    """Label sets with every state, and images that are left out."""
    rng = np.random.default_rng(seed)
    lists = [rng.permutation(C)[: rng.integers(0, C)] for _ in range(n)]
    sets = LabelSets.from_lists(lists, C, usable=rng.random(n) < 0.9)
    state = rng.choice([NO, UNCLEAR, YES], len(sets.classes), p=[0.2, 0.1, 0.7]).astype(np.uint8)
    return LabelSets(C, sets.indptr, sets.classes, state, sets.label, sets.usable)


def valid(sets):
    """Return the label sets that count, as sets."""
    found = []
    for i in np.flatnonzero(sets.usable):
        at = slice(*sets.indptr[i : i + 2])
        found.append({int(c) for c, s in zip(sets.classes[at], sets.state[at], strict=True) if s == YES})
    return [f for f in found if f]


def test_pairs_are_counted():
    sets = drawn(0)
    there = valid(sets)
    pairs = ClassPairs.of(sets)
    assert pairs.n == len(there)
    assert pairs.images.tolist() == [sum(c in s for s in there) for c in range(C)]
    counted = {(a, b): sum({a, b} <= s for s in there) for a, b in itertools.combinations(range(C), 2)}
    assert dict(zip(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True), pairs.both, strict=True)) == {
        pair: n for pair, n in counted.items() if n
    }


def tables(pairs):
    """Return the four cells of each pair: both, a alone, b alone, neither."""
    a, b = pairs.images[pairs.a], pairs.images[pairs.b]
    return np.stack([pairs.both, a - pairs.both, b - pairs.both, pairs.n - a - b + pairs.both], axis=1)


def test_lift_and_odds_ratio_of_many_images_are_scipys():
    pairs = ClassPairs.of(drawn(1, 20_000))
    lift, odds = pairs.lift()[0], pairs.odds_ratio()
    for i, cells in enumerate(tables(pairs)):
        table = cells.reshape(2, 2)
        expected = contingency.expected_freq(table)
        assert lift[i] == pytest.approx(table[0, 0] / expected[0, 0])
        theirs = contingency.odds_ratio(table, kind="sample")
        ends = theirs.confidence_interval()
        # Half an image in each cell is little among thousands.
        assert [end[i] for end in odds] == pytest.approx([theirs.statistic, *ends], rel=2e-3)


@pytest.mark.parametrize("n", [20, 400, 4000])
def test_rare_pairs_are_those_of_scipys_poisson(n):
    """Also pairs without an image, which are not among the counted pairs."""
    rng = np.random.default_rng(n)
    there = rng.random((n, C)) < (0.5, 0.4, 0.3, 0.1, 0.05, 0)
    there[:, 1] &= ~there[:, 0]
    there[:, 2] &= ~there[:, 0] | (rng.random(n) < 0.5)
    sets = LabelSets.from_lists([np.flatnonzero(row) for row in there], C)
    there = there[there.any(axis=1)]
    expected = [
        a * C + b
        for a, b in itertools.combinations(range(C), 2)
        if poisson.cdf((there[:, a] & there[:, b]).sum(), there[:, a].sum() * there[:, b].sum() / len(there))
        <= 0.025
    ]
    assert ClassPairs.of(sets).rare.tolist() == expected
    assert bool(expected) == (n > 20)


@pytest.mark.parametrize("n", [60, 600])
@pytest.mark.parametrize("cells", [(0.1, 0.2, 0.1, 0.6), (0.3, 0.05, 0.05, 0.6)])
def test_intervals_cover_as_often_as_they_say(n, cells):
    rng = np.random.default_rng(2)
    both, a, b, neither = cells
    lift, odds = both / ((both + a) * (both + b)), both * neither / (a * b)
    covered = np.zeros(2)
    draws = rng.multinomial(n, cells, 2000)
    draws = draws[draws[:, 0] > 0]
    for ab, only_a, only_b, _ in draws:
        images = np.array([ab + only_a, ab + only_b])
        pairs = ClassPairs(np.array([0]), np.array([1]), np.array([ab]), images, n)
        for k, (truth, (_, lo, hi)) in enumerate([(lift, pairs.lift()), (odds, pairs.odds_ratio())]):
            covered[k] += lo[0] <= truth <= hi[0]
    # 95 % nominal; few images make normal approximations rough.
    assert (covered / len(draws) > (0.92 if n == 60 else 0.935)).all()
    assert (covered / len(draws) < 0.985).all()


def test_classes_that_are_always_together():
    pairs = ClassPairs.of(LabelSets.from_lists([[0, 1]] * 5, C))
    assert [end.tolist() for end in pairs.lift()] == [[1], [1], [1]]
    value, lo, hi = (end[0] for end in pairs.odds_ratio())
    assert 0 < lo < value < hi < np.inf


def test_no_pair_at_all():
    pairs = ClassPairs.of(LabelSets.from_lists([[0], [], [2]], C))
    assert (len(pairs.a), pairs.n) == (0, 2)
    assert [len(end) for end in (*pairs.lift(), *pairs.odds_ratio())] == [0] * 6


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize(("asked", "rest"), [(False, False), (True, False), (True, True)])
def test_images_with_a_companion_and_without(labelled, asked, rest):
    """What is unclear is neither; where noes are recorded, nor is what nobody was asked about."""
    drawn_sets = drawn(3)
    label = np.random.default_rng(5).integers(-1, C, len(drawn_sets)).astype(np.int32)
    sets = replace(drawn_sets, label=label, asked_known=asked)
    values = np.random.default_rng(4).random((len(sets), C))
    ordered = list(itertools.permutations(range(C), 2))
    main, companion = np.array([*reversed(ordered), ordered[0]]).T
    beside = CompanionImages.of(sets, main, companion, labelled=labelled, rest=rest)
    sums = beside.sums(values[beside.rows, beside.classes])
    counts = beside.sums(np.ones(len(beside.rows)))
    for p, (a, b) in enumerate(zip(main, companion, strict=True)):
        groups = [[], []]
        for i in np.flatnonzero(sets.usable):
            at = slice(*sets.indptr[i : i + 2])
            state = dict(zip(sets.classes[at].tolist(), sets.state[at].tolist(), strict=True))
            if state.get(a) != YES or (labelled and label[i] != a):
                continue
            without = (NO,) if asked and not rest else (NO, None)
            if state.get(b) == YES:
                groups[0].append(values[i, a])
            elif state.get(b) in without:
                groups[1].append(values[i, a])
        assert counts[:, p].tolist() == [len(g) for g in groups]
        assert sums[:, p] == pytest.approx([sum(g) for g in groups])


def test_intervals_of_differences_of_shares_are_agrestis_and_caffos():
    """The formula of their page 281, by hand: 56 of 70 and 48 of 80; nothing; all alike."""
    hits, images = np.array([[56, 0, 9], [48, 0, 0]]), np.array([[70, 0, 9], [80, 3, 5]])
    value, lo, hi = difference_of_means(images, hits, hits)
    a, b = 57 / 72, 49 / 82
    error = math.sqrt(a * (1 - a) / 72 + b * (1 - b) / 82)
    assert value[0] == pytest.approx(56 / 70 - 48 / 80)
    assert (lo[0], hi[0]) == pytest.approx((a - b - 1.959964 * error, a - b + 1.959964 * error))
    assert np.isnan([value[1], lo[1], hi[1]]).all()
    assert lo[2] < value[2] == 1 == hi[2]


@pytest.mark.parametrize("sizes", [(25, 200), (40, 40), (200, 6), (25, 5)])
@pytest.mark.parametrize("kind", ["shares", "means", "alike"])
def test_p_is_that_of_permutations(sizes, kind):
    rng = np.random.default_rng(7)
    n = np.array(sizes, float)[:, None]
    values = {"shares": rng.random(sum(sizes)) < 0.8, "means": rng.beta(0.8, 0.2, sum(sizes))}
    values = np.asarray(values.get(kind, np.full(sum(sizes), 0.1)), float)
    drawn = np.array([rng.permutation(values)[: sizes[0]].sum() for _ in range(20_000)])
    for quantile in (0.0005, 0.01, 0.2, 0.5, 0.97, 0.999):
        first = np.quantile(drawn, quantile, method="nearest")
        sums = np.array([first, values.sum() - first])[:, None]
        (p,) = permutation_p(n, sums, np.array([(values**2).sum(), (values**3).sum()])[:, None])
        low, high = np.mean(drawn <= first + 1e-9), np.mean(drawn >= first - 1e-9)
        # Between the p that counts ties and the one that does not, but for noise and a curve that is close;
        # of few values it errs towards 1.
        at_most, at_least = 2 * min(low, high), 2 * min(1 - low, 1 - high)
        most = min(1.3 * at_most + (4e-4 if min(sizes) >= 25 else 0.06), 1)
        assert p == 1 if kind == "alike" else 0.7 * at_least - 4e-4 <= p <= most


def test_p_of_nothing_and_of_one():
    n, sums = np.array([[0, 1, 1], [4, 0, 1]], float), np.array([[0, 1, 1], [2, 0, 0]], float)
    p = permutation_p(n, sums, np.stack([sums.sum(axis=0)] * 2))
    assert np.isnan(p[:2]).all()
    assert 0.05 < p[2] <= 1


@pytest.mark.parametrize("n", [(25, 200), (40, 40), (200, 6)])
@pytest.mark.parametrize("of", ["shares", "means"])
def test_differences_of_means_cover_and_reject_as_often_as_they_say(n, of):
    """`means` are over 20 models that mostly agree about an image: as good as one, not as twenty."""
    rng = np.random.default_rng(6)
    sums, squares, cubes = np.empty((3, 2, 4000))
    for row, images in enumerate(n):
        easy = rng.beta(0.8, 0.2, (images, 4000))
        found = rng.random((images, 4000)) < easy if of == "shares" else rng.binomial(20, easy) / 20
        for power, into in enumerate((sums, squares, cubes), 1):
            into[row] = (found.astype(float) ** power).sum(axis=0)
    images = np.repeat(np.array(n, float)[:, None], 4000, 1)
    _, lo, hi = difference_of_means(images, sums, squares)
    assert 0.93 < np.mean((lo <= 0) & (hi >= 0)) < 0.99
    p = permutation_p(images, sums, np.stack([squares.sum(axis=0), cubes.sum(axis=0)]))
    assert np.mean(p < 0.05) < 0.06
    assert np.mean(p < 0.001) <= 0.002
