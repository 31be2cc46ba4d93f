import itertools

import numpy as np
import pytest
from scipy.stats import contingency

from manyhot.core.cooccur import Pairs, difference_of_shares, recall_with_and_without
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
    pairs = Pairs.of(sets)
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
    pairs = Pairs.of(drawn(1, 20_000))
    lift, odds = pairs.lift()[0], pairs.odds_ratio()
    for i, cells in enumerate(tables(pairs)):
        table = cells.reshape(2, 2)
        expected = contingency.expected_freq(table)
        assert lift[i] == pytest.approx(table[0, 0] / expected[0, 0])
        theirs = contingency.odds_ratio(table, kind="sample")
        ends = theirs.confidence_interval()
        # Half an image in each cell is little among thousands.
        assert [end[i] for end in odds] == pytest.approx([theirs.statistic, *ends], rel=2e-3)


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
        pairs = Pairs(np.array([0]), np.array([1]), np.array([ab]), images, n)
        for k, (truth, (_, lo, hi)) in enumerate([(lift, pairs.lift()), (odds, pairs.odds_ratio())]):
            covered[k] += lo[0] <= truth <= hi[0]
    # 95 % nominal; few images make normal approximations rough.
    assert (covered / len(draws) > (0.92 if n == 60 else 0.935)).all()
    assert (covered / len(draws) < 0.985).all()


def test_classes_that_are_always_together():
    pairs = Pairs.of(LabelSets.from_lists([[0, 1]] * 5, C))
    assert [end.tolist() for end in pairs.lift()] == [[1], [1], [1]]
    value, lo, hi = (end[0] for end in pairs.odds_ratio())
    assert 0 < lo < value < hi < np.inf


def test_no_pair_at_all():
    pairs = Pairs.of(LabelSets.from_lists([[0], [], [2]], C))
    assert (len(pairs.a), pairs.n) == (0, 2)
    assert [len(end) for end in (*pairs.lift(), *pairs.odds_ratio())] == [0] * 6


def test_recall_with_and_without_a_companion():
    sets = drawn(3)
    found = np.random.default_rng(4).random(len(sets.classes)) < 0.6
    ordered = list(itertools.permutations(range(C), 2))
    main, companion = np.array([*reversed(ordered), ordered[0]]).T
    hits, images = recall_with_and_without(sets, found, main, companion)
    for p, (a, b) in enumerate(zip(main, companion, strict=True)):
        expected = np.zeros((2, 2), int)
        for i in np.flatnonzero(sets.usable):
            entries = range(*sets.indptr[i : i + 2])
            there = {sets.classes[e]: e for e in entries if sets.state[e] == YES}
            if a in there:
                expected[int(b not in there)] += (found[there[a]], 1)
        assert np.stack([hits[:, p], images[:, p]], axis=1).tolist() == expected.tolist()


def test_differences_are_newcombes():
    """The examples of his table II, method 10: Statistics in Medicine 17, 873-890 (1998)."""
    hits = np.array([[56, 9, 6, 5, 0, 0], [48, 3, 2, 0, 0, 0]])
    images = np.array([[70, 10, 7, 56, 10, 0], [80, 10, 7, 29, 20, 4]])
    value, lo, hi = difference_of_shares(hits, images)
    assert value[:5] == pytest.approx([0.2, 0.6, 0.5714, 0.0893, 0], abs=5e-5)
    assert lo[:5] == pytest.approx([0.0524, 0.1705, 0.0582, -0.0381, -0.1611], abs=5e-5)
    assert hi[:5] == pytest.approx([0.3339, 0.8090, 0.8062, 0.1926, 0.2775], abs=5e-5)
    assert np.isnan([value[5], lo[5], hi[5]]).all()
