"""Label issues against plain loops, and what must hold of any of them."""

import itertools

import numpy as np
import pytest

from made_up_models import ensemble
from manyhot.core.confused_classes import find_merges
from manyhot.core.ensembles import Ensemble
from manyhot.core.label_issues import find_issues, ties_broken
from manyhot.core.rater_weights import within_unit
from manyhot.core.sets import NO, NO_LABEL, UNCLEAR, YES, LabelSets
from manyhot.core.top_classes import top_k
from manyhot.errors import InputError

N, C = 300, 7


def probabilities(rng, truth, sharp=3.0):
    p = np.exp(rng.normal(size=(len(truth), C)) + sharp * np.eye(C)[truth])
    return (p / p.sum(1, keepdims=True)).astype(np.float32)


@pytest.fixture
def made():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, C, N)
    label = np.where(rng.random(N) < 0.8, truth, rng.integers(0, C, N)).astype(np.int32)
    label[::17] = NO_LABEL
    near = np.where(rng.random((N, 5)) < 0.7, truth[:, None], rng.integers(0, C, (N, 5)))
    near[rng.random((N, 5)) < 0.1] = NO_LABEL
    near[::11] = NO_LABEL
    return rng, truth, label, [probabilities(rng, truth) for _ in range(3)], near


def said(given, ranks, i):
    """Return what models think of image i, class by class."""
    if not ranks:
        return [sum(float(p[i, c]) for p in given) / len(given) for c in range(C)]
    return [sum(int(p[i].argmax()) == c for p in given) / len(given) for c in range(C)]


@pytest.mark.parametrize(("ranks", "looks"), [*itertools.product((False, True), (False, True))])
def test_scores_are_those_of_a_plain_loop(made, ranks, looks):
    _, _, label, given, near = made
    found = find_issues(
        ensemble(label, *given, ranks=ranks), near if looks else None, doubtful=0.0, missing=0.05
    )
    doubts, absent = {}, {}
    for i in range(N):
        mean = said(given, ranks, i)
        others = [c for c in range(C) if c != label[i]]
        if label[i] != NO_LABEL:
            j = max(others, key=lambda c: mean[c])
            doubts[i] = (j, 1 - mean[label[i]])
        absent |= {(i, c): mean[c] for c in others if mean[c] >= 0.05}
    assert (found.n, found.n_skipped) == (len(doubts), N - len(doubts))
    rows = zip(found.doubtful.image, found.doubtful.class_id, found.doubtful.score, strict=True)
    ours = {int(i): (int(c), s) for i, c, s in rows}
    assert ours.keys() == doubts.keys()
    for i, (_, score) in doubts.items():
        assert ours[i][1] == pytest.approx(score, abs=1e-6)
        if not ranks:  # of equal shares either class may speak
            assert ours[i][0] == doubts[i][0]
    rows = zip(found.missing.image, found.missing.class_id, found.missing.score, strict=True)
    missing = {(int(i), int(c)): s for i, c, s in rows}
    assert missing == pytest.approx(absent, abs=1e-6)
    for issues in (found.doubtful, found.missing):
        assert (np.diff(issues.score) <= 0).all()
        around = [[c for c in near[i] if c != NO_LABEL] if looks else [] for i in issues.image]
        asked = issues.class_id if issues is found.missing else label[issues.image]
        share = [a.count(c) / len(a) if a else np.nan for a, c in zip(around, asked, strict=True)]
        share = np.array(share) if issues is found.missing else 1 - np.array(share)
        assert np.array_equal(issues.neighbours, share, equal_nan=True)
        # Neighbours order what models find equal.
        equal = np.diff(issues.models) == 0
        assert (np.diff(np.nan_to_num(share, nan=-1))[equal] <= 0).all()
        best = [
            sum(int(p[i].argmax()) == c for p in given)
            for i, c in zip(issues.image, issues.class_id, strict=True)
        ]
        assert issues.n_models.tolist() == best


def test_people_and_models_count_alike_where_answers_are_not_counted(made):
    _, _, label, given, _ = made
    i, j, k = (int(x) for x in np.flatnonzero(label != NO_LABEL)[:3])
    other = [(int(label[x]) + 1) % C for x in (i, j, k)]
    lists = [[] for _ in range(N)]
    # Of i the label is rejected and another class accepted; of j it is confirmed; of k nobody agrees.
    lists[i] = [(label[i], NO), (other[0], YES)]
    lists[j] = [(label[j], YES), (other[1], NO)]
    lists[k] = [(label[k], UNCLEAR), (other[2], UNCLEAR)]
    indptr = np.concatenate([[0], np.cumsum([len(x) for x in lists])]).astype(np.int64)
    flat = [pair for x in lists for pair in x]
    usable = np.zeros(N, bool)
    usable[[i, j, k]] = True
    known = LabelSets(
        C,
        indptr,
        np.array([c for c, _ in flat], np.int32),
        np.array([s for _, s in flat], np.uint8),
        label,
        usable,
    )
    found = find_issues(ensemble(label, *given, known=known), doubtful=0.0, missing=0.0)
    alone = find_issues(ensemble(label, *given), doubtful=0.0, missing=0.0)

    def by_image(issues):
        return dict(zip(issues.image.tolist(), issues.score.tolist(), strict=True))

    def by_pair(issues):
        pairs = zip(issues.image.tolist(), issues.class_id.tolist(), strict=True)
        return dict(zip(pairs, issues.score.tolist(), strict=True))

    # The three labels that raters saw have the mean of people and of 1 minus the normalized margin.
    score, likely = (
        by_image(found.doubtful),
        dict(zip(found.doubtful.image, found.doubtful.likely, strict=True)),
    )
    margin = {x: (value + likely[x]) / 2 for x, value in by_image(alone.doubtful).items()}
    people = {i: 1, j: 0, k: 0.5}
    assert [score[x] for x in people] == pytest.approx([(people[x] + margin[x]) / 2 for x in people])
    # All others stay in their order, with the margins of all others.
    order = [x for x in found.doubtful.image.tolist() if x not in people]
    assert order == [x for x in alone.doubtful.image.tolist() if x not in people]
    others = sorted((margin[x] for x in order), reverse=True)
    assert [score[x] for x in order] == pytest.approx(within_unit(np.array(others)).tolist(), abs=1e-7)
    score, models = by_pair(found.missing), by_pair(alone.missing)
    people = {(i, other[0]): 1, (j, other[1]): 0, (k, other[2]): 0.5}
    assert score == pytest.approx(models | people)
    asked = np.isin(found.missing.image, [i, j, k]) & ~np.isnan(found.missing.people)
    assert np.count_nonzero(asked) == np.count_nonzero(~np.isnan(found.missing.people)) == 3
    # What people confirmed is listed no more, whatever confident learning thinks of it.
    usual = find_issues(ensemble(label, *given, known=known))
    assert i in usual.doubtful.image
    assert j not in usual.doubtful.image
    assert (j, other[1]) not in set(
        zip(usual.missing.image.tolist(), usual.missing.class_id.tolist(), strict=True)
    )


def test_images_without_numbers_are_skipped_and_said(made):
    _, _, label, given, _ = made
    broken = given[0].copy()
    broken[:4] = np.nan
    whole = find_issues(ensemble(label, *given), doubtful=0)
    found = find_issues(ensemble(label, broken, *given[1:]), doubtful=0)
    lost = np.count_nonzero(label[:4] != NO_LABEL)
    assert (found.n, found.n_skipped) == (whole.n - lost, whole.n_skipped + lost)
    assert not np.isin(found.doubtful.image, range(4)).any()
    assert np.isfinite(found.doubtful.score).all()
    # Neighbours still speak for them.
    near = np.tile((label + 1) % C, (3, 1)).T
    found = find_issues(ensemble(label, broken, *given[1:]), near, doubtful=0.9)
    (row,) = np.flatnonzero(found.doubtful.image == 1)
    assert (found.doubtful.score[row], found.doubtful.neighbours[row]) == (1, 1)
    assert np.isnan(found.doubtful.models[row])


def test_of_a_label_that_no_other_image_has_neighbours_say_nothing(made):
    _, _, label, given, near = made
    alone = np.zeros(N, bool)
    alone[[2, 5]] = True
    whole = find_issues(ensemble(label, *given), near, doubtful=0)
    found = find_issues(ensemble(label, *given), near, alone, doubtful=0)
    assert len(found.doubtful) == len(whole.doubtful) == np.count_nonzero(label != NO_LABEL)
    for image, models, neighbours, score in zip(
        found.doubtful.image,
        found.doubtful.models,
        found.doubtful.neighbours,
        found.doubtful.score,
        strict=True,
    ):
        if alone[image]:
            assert np.isnan(neighbours)
            assert score == models
        else:
            assert score == whole.doubtful.score[whole.doubtful.image == image]
    assert (found.n, found.missing.score.tolist()) == (whole.n, whole.missing.score.tolist())


def test_the_order_of_images_does_not_matter(made):
    rng, _, label, given, near = made
    order = rng.permutation(N)
    one = find_issues(ensemble(label, *given), near)
    two = find_issues(ensemble(label[order], *(p[order] for p in given)), near[order])
    for a, b in ((one.doubtful, two.doubtful), (one.missing, two.missing)):
        assert len(a) > 10
        ours = {(i, c): s for i, c, s in zip(a.image, a.class_id, a.score, strict=True)}
        theirs = {(i, c): s for i, c, s in zip(order[b.image], b.class_id, b.score, strict=True)}
        assert ours == pytest.approx(theirs)


def test_perfect_models_find_nothing():
    label = np.arange(70) % C
    found = find_issues(ensemble(label, np.eye(C, dtype=np.float32)[label]))
    assert (len(found.doubtful), len(found.missing), found.n) == (0, 0, 70)
    assert len(find_merges(ensemble(label, np.eye(C, dtype=np.float32)[label]))) == 0


def test_classes_that_are_one_against_counts(made):
    rng, truth, label, _, _ = made
    # Two names for one thing: whoever sees 0 or 1 guesses; and 3 is never seen without 4.
    guess = np.where(truth <= 1, rng.integers(0, 2, N), truth)
    sets = [sorted({int(t), 4} if t == 3 else {int(t)}) for t in truth]
    sets = [s if 4 not in s else [3, 4] for s in sets]
    known = LabelSets.from_lists(sets, C, label=label)
    given = [np.eye(C, dtype=np.float32)[guess], np.eye(C, dtype=np.float32)[truth]]
    found = find_merges(ensemble(truth, *given, known=known), confused=0.15)
    assert list(zip(found.a, found.b, strict=True)) == [(3, 4), (0, 1)]
    forth = np.mean(guess[truth == 0] == 1) / 2
    back = np.mean(guess[truth == 1] == 0) / 2
    both = np.count_nonzero((truth == 3) | (truth == 4))
    assert found.together.tolist() == [1, 0]
    assert found.n_together.tolist() == [both, 0]
    assert (found.a_as_b[1], found.b_as_a[1]) == pytest.approx((forth, back))
    assert found.score.tolist() == pytest.approx([1, 2 * min(forth, back)])
    assert found.n_a.tolist() == [np.count_nonzero(truth == 3), np.count_nonzero(truth == 0)]
    # Confused in one direction only is no reason to merge.
    one_way = np.where(truth == 0, 1, truth)
    assert len(find_merges(ensemble(truth, np.eye(C, dtype=np.float32)[one_way]))) == 0


def test_probabilities_that_rounding_took_above_1_are_cut(made):
    # A logit of 16.004 is 16 in half precision, and exp(16.004 - 16) is above 1.
    _, _, label, given, _ = made
    p = np.where(given[0] == given[0].max(1, keepdims=True), np.float32(1.004), np.float32(0))
    found, cut = (find_issues(ensemble(label, q), doubtful=0, missing=0) for q in (p, np.minimum(p, 1)))
    for a, b in ((found.doubtful, cut.doubtful), (found.missing, cut.missing)):
        assert a.score.tolist() == b.score.tolist()
        assert a.confident.tolist() == b.confident.tolist()


def test_what_is_no_probability_is_refused(made):
    _, _, label, given, _ = made
    logits = given[0].copy()
    logits[5, 2] = 3.5
    with pytest.raises(InputError) as error:
        find_issues(ensemble(label, logits))
    assert str(error.value) == (
        "A probability is not between 0 and 1.\n"
        "  where:   m0, row 5\n"
        "  got:     3.5\n"
        "  allowed: 0 to 1\n"
        "  do:      divide percentages by 100, or "
        "declare the kind with `scores`: logit, probability or none; a list of logits needs "
        "logsumexp over all classes"
    )


@pytest.mark.parametrize(
    ("find", "name"),
    [
        (find_issues, "doubtful"),
        (find_issues, "missing"),
        (find_merges, "together"),
        (find_merges, "confused"),
    ],
)
def test_what_is_no_share_is_refused(made, find, name):
    _, _, label, given, _ = made
    with pytest.raises(InputError) as error:
        find(ensemble(label, *given), **{name: float("nan")})
    assert str(error.value) == (
        f"This is not a score or share.\n  where:   {name}\n  got:     nan\n  allowed: 0 to 1"
    )


def test_sigmoids_stay_what_they_are():
    """They do not add up to 1: two classes that a model is sure of are both sure."""
    p = np.array([[0.9, 0.95, 0.1], [0.2, 0.1, 0.3]], np.float32)
    tops = top_k(p, 3)
    values = np.take_along_axis(p, tops.astype(int), 1)
    found = find_issues(
        Ensemble(3, ("sigmoids",), (tops,), (values,), (values,), np.array([0, 2], np.int32)),
        doubtful=0,
        missing=0,
    )
    doubts = dict(zip(found.doubtful.image.tolist(), found.doubtful.score.tolist(), strict=True))
    assert doubts == pytest.approx({0: 0.1, 1: 0.7}, abs=1e-6)
    listed = zip(found.missing.image.tolist(), found.missing.class_id.tolist(), strict=True)
    missing = dict(zip(listed, found.missing.score.tolist(), strict=True))
    assert missing == pytest.approx({(0, 1): 0.95, (1, 0): 0.2, (0, 2): 0.1, (1, 1): 0.1}, abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_the_score_orders_as_the_table_does(made, seed):
    _, _, label, given, near = made
    rng = np.random.default_rng(seed)
    rows, classes = np.nonzero(rng.random((N, C)) < 0.3)
    p = rng.random(len(rows)).astype(np.float32).round(1)
    known = LabelSets(
        C,
        np.searchsorted(rows, np.arange(N + 1)),
        classes.astype(np.int32),
        np.where(p > 0.5, YES, NO).astype(np.uint8),
        label,
        rng.random(N) < 0.7,
        p=p,
        n_votes=rng.integers(0, 6, len(rows)).astype(np.float32),
    )
    models = ensemble(label, *given, ranks=seed % 2 == 0, known=known if seed > 1 else None)
    found = find_issues(models, near if seed % 3 else None, doubtful=0, missing=0)
    for issues in (found.doubtful, found.missing):
        assert len(issues) > 100
        order = np.lexsort((issues.class_id, issues.image, -issues.score))
        assert order.tolist() == list(range(len(issues)))
        assert ((issues.score >= 0) & (issues.score <= 1)).all()


def test_ties_are_broken_in_the_last_digits():
    rng = np.random.default_rng(0)
    evidence = rng.integers(0, 4, 500) / 3
    evidence[:7] = np.nan
    first, second = rng.integers(0, 5, 500).astype(float), rng.integers(0, 5, 500).astype(float)
    score = ties_broken(evidence, first, second)
    np.testing.assert_allclose(score, evidence, rtol=0, atol=1e-13)
    rows = np.arange(7, 500)
    keys = list(zip(evidence, first, second, strict=True))
    rank = {key: i for i, key in enumerate(sorted({keys[r] for r in rows}))}
    ranks = np.array([rank[keys[r]] for r in rows])
    assert np.array_equal(np.unique(score[rows], return_inverse=True)[1], ranks)
    assert score[rows].min() == 0
    assert score[rows].max() == 1
    # Without ties, nothing moves; neighbouring floating-point numbers stay in order.
    alone = rng.random(100)
    assert ties_broken(alone, np.ones(100)).tolist() == alone.tolist()
    near = np.array([0.5, np.nextafter(0.5, 1), 0.5, 0.5])
    assert np.argsort(ties_broken(near, np.array([2.0, 0, 1, 3]))).tolist() == [2, 0, 3, 1]
