"""Choices of one class of K: against loops, crowd-kit and simulated truths."""

import tracemalloc

import numpy as np
import pytest

from manyhot.core import aggregation
from manyhot.core import choices as methods
from manyhot.core.answers import History
from manyhot.core.choices import Choices, expected_choices
from manyhot.core.choices import choice_auto as auto
from manyhot.core.choices import choice_dawid_skene as dawid_skene
from manyhot.core.choices import choice_majority as majority
from manyhot.core.choices import choice_one_coin as one_coin
from manyhot.errors import InputError
from manyhot.registry import get, names

METHODS = names("choice-aggregator")


def draw(seed, images=150, raters=8, k=4, votes=5, skill=(0.5, 0.95)):
    """Return the right classes, and choices in which raters err towards any class."""
    rng = np.random.default_rng(seed)
    truth, accuracy = rng.integers(0, k, images), rng.uniform(*skill, raters)
    image = np.repeat(np.arange(images), votes)
    rater = np.concatenate([rng.choice(raters, votes, replace=False) for _ in range(images)])
    right = rng.random(len(image)) < accuracy[rater]
    chosen = np.where(right, truth[image], (truth[image] + rng.integers(1, k, len(image))) % k)
    return truth, Choices(image, rater, chosen, images, raters, k)


def dense(result, choices):
    p = np.zeros((choices.n_images, choices.n_classes))
    p[result.image, result.class_id] = result.p
    return p


def by_loops(choices, iterations, tied):
    """Dawid and Skene's algorithm, and the one-coin model, without a prior."""
    n, k = choices.n_raters, choices.n_classes
    votes = list(zip(choices.image, choices.rater, choices.chosen, strict=True))
    p = np.zeros((choices.n_images, k))
    for i, _, c in votes:
        p[i, c] += 1
    p /= p.sum(1, keepdims=True)
    for _ in range(iterations):
        matrices = np.zeros((n, k, k))
        for i, r, c in votes:
            matrices[r, :, c] += p[i]
        if tied:
            right = np.array([np.trace(m) / m.sum() for m in matrices])
            matrices = np.where(
                np.eye(k, dtype=bool), right[:, None, None], (1 - right[:, None, None]) / (k - 1)
            )
        else:
            matrices /= matrices.sum(2, keepdims=True)
        scores = np.tile(np.log(p.mean(0)), (len(p), 1))
        with np.errstate(divide="ignore"):
            for i, r, c in votes:
                scores[i] += np.log(matrices[r, :, c])
        likelihood = np.logaddexp.reduce(scores, 1)
        p = np.exp(scores - likelihood[:, None])
    return p, float(likelihood.sum())


@pytest.mark.parametrize("block", [aggregation.BLOCK_SIZE, 7], ids=["one block", "blocks of seven votes"])
@pytest.mark.parametrize(("method", "tied"), [(dawid_skene, False), (one_coin, True)])
@pytest.mark.parametrize("seed", range(3))
def test_without_smoothing_they_are_the_plain_algorithms(method, tied, seed, block, monkeypatch):
    monkeypatch.setattr(aggregation, "BLOCK_SIZE", block)
    _, choices = draw(seed)
    result = method(choices, smoothing=0, iterations=20, tolerance=0)
    expected, likelihood = by_loops(choices, result.iterations, tied)
    # Classes that nobody chose are listed only with p of at least 0.005.
    np.testing.assert_allclose(result.p, expected[result.image, result.class_id], atol=1e-7)
    assert result.log_likelihood == pytest.approx(likelihood, abs=1e-7)


def test_a_rater_of_one_vote_has_an_accuracy():
    _, few = draw(0)
    votes = (np.append(old, new) for old, new in ((few.image, 0), (few.rater, few.n_raters), (few.chosen, 1)))
    choices = Choices(*votes, few.n_images, few.n_raters + 1, few.n_classes)
    result = one_coin(choices, smoothing=0, iterations=20, tolerance=0)
    expected, _ = by_loops(choices, result.iterations, tied=True)
    np.testing.assert_allclose(result.p, expected[result.image, result.class_id], atol=1e-7)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["DawidSkene", "OneCoinDawidSkene"])
def test_crowd_kit(method):
    pytest.importorskip("crowdkit")
    import pandas as pd
    from crowdkit import aggregation

    _, choices = draw(3)
    frame = pd.DataFrame({"task": choices.image, "worker": choices.rater, "label": choices.chosen})
    theirs = getattr(aggregation, method)(n_iter=20, tol=-1e9).fit_predict_proba(frame)
    ours = {"DawidSkene": dawid_skene, "OneCoinDawidSkene": one_coin}[method]
    result = ours(choices, smoothing=0, iterations=20, tolerance=0)
    expected = theirs.sort_index()[range(4)].to_numpy()
    np.testing.assert_allclose(result.p, expected[result.image, result.class_id], atol=1e-6)


def test_majority_and_shares_count():
    image, chosen = np.array([0, 0, 0, 1, 1, 2, 2, 2]), np.array([2, 1, 2, 0, 3, 1, 1, 1])
    rater = np.array([0, 1, 2, 0, 1, 0, 1, 2])
    choices = Choices(image, rater, chosen, 4, 3, 5)
    result = majority(choices)
    assert list(zip(result.image, result.class_id, result.p, strict=True)) == [
        (0, 1, 0),
        (0, 2, 1),
        (1, 0, 0.5),
        (1, 3, 0.5),
        (2, 1, 1),
    ]
    np.testing.assert_allclose(methods.vote_share(choices).p, [1 / 3, 2 / 3, 0.5, 0.5, 1])


@pytest.mark.parametrize("spec", [*METHODS, "dawid-skene(matrices='pooled')"])
def test_properties(spec):
    truth, choices = draw(5, skill=(0.7, 0.95))
    entry, rng = get("choice-aggregator", spec), np.random.default_rng(0)
    result = entry(choices)
    sums = np.bincount(result.image, result.p, choices.n_images)
    assert ((result.p >= 0) & (sums[result.image] <= 1 + 1e-9)).all()
    assert (dense(result, choices).argmax(1) == truth).mean() > 0.9
    order, image, rater = rng.permutation(len(choices)), rng.permutation(150), rng.permutation(8)
    classes = rng.permutation(4)
    shuffled = Choices(
        image[choices.image[order]], rater[choices.rater[order]], classes[choices.chosen[order]], 150, 8, 4
    )
    again = entry(shuffled)
    assert again.weights == result.weights
    np.testing.assert_allclose(dense(again, shuffled)[image][:, classes], dense(result, choices), atol=0.006)


@pytest.mark.parametrize("spec", [*METHODS, "dawid-skene(matrices='pooled')", "dawid-skene(smoothing=0)"])
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_votes_changes_no_digit(spec, seed):
    _, choices = draw(seed, skill=(0.6, 0.9))
    method = get("choice-aggregator", spec)
    result = method(choices)
    order = np.random.default_rng(seed).permutation(len(choices))
    columns = (choices.image[order], choices.rater[order], choices.chosen[order])
    shuffled = method(Choices(*columns, 150, 8, 4))
    for name in ("image", "class_id", "p", "accuracy", "matrices", "prior", "iterations", "log_likelihood"):
        np.testing.assert_array_equal(getattr(shuffled, name), getattr(result, name))
    assert shuffled.weights == result.weights


@pytest.mark.parametrize("spec", [*METHODS, "dawid-skene(matrices='pooled')"])
@pytest.mark.parametrize("most", [methods.MOST_CELLS, 0], ids=["matrices", "pooled"])
def test_blocks_of_votes_change_nothing(spec, most, monkeypatch):
    """Blocks of three votes, of which some images have more, and some have none."""
    monkeypatch.setattr(methods, "MOST_CELLS", most)
    _, drawn = draw(2, images=60, votes=4)
    rows = np.random.default_rng(0).random(len(drawn)) < 0.7
    choices = Choices(drawn.image[rows] * 2, drawn.rater[rows], drawn.chosen[rows], 121, 8, 4)
    found = []
    for block in (aggregation.BLOCK_SIZE, 3):
        monkeypatch.setattr(aggregation, "BLOCK_SIZE", block)
        result = get("choice-aggregator", spec)(choices)
        found.append((result, expected_choices(choices, result)))
    (whole, counts), (parts, counts_of_parts) = found
    for name in ("image", "class_id", "iterations", "weights"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    for name in ("p", "accuracy", "matrices", "prior", "log_likelihood", "held_out"):
        if getattr(whole, name) is not None:
            np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-12)
    np.testing.assert_allclose(counts_of_parts.matrices(8, 4), counts.matrices(8, 4), rtol=1e-12, atol=1e-12)


def test_memory_grows_with_the_votes_alone(monkeypatch):
    """In one block, 100,000 votes for one class of ten take 830 bytes each."""
    monkeypatch.setattr(aggregation, "BLOCK_SIZE", 1 << 12)
    _, choices = draw(0, images=20_000, raters=50, k=10)
    tracemalloc.start()
    auto(choices)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 120 * len(choices)


def test_without_images_nothing_is_expected():
    none = Choices(*np.zeros((3, 0), int), 0, 1, 2)
    assert len(expected_choices(none, majority(none)).n) == 0


@pytest.mark.parametrize("method", [dawid_skene, one_coin, auto])
@pytest.mark.parametrize("votes", [1, 2])
def test_with_few_votes_nothing_collapses(method, votes):
    truth, choices = draw(1, images=300, votes=votes, skill=(0.6, 0.9))
    result = method(choices)
    best = dense(majority(choices), choices).argmax(1)
    right = (dense(result, choices).argmax(1) == truth).mean()
    assert right >= (best == truth).mean() - 0.01
    if votes == 1:
        assert 0.4 < result.p.max() < 0.995  # a vote that no other confirms settles nothing


def test_each_rater_has_a_matrix_where_raters_confuse_classes():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 400)
    image, rater = np.repeat(np.arange(400), 4), np.tile(np.arange(4), 400)
    # Raters 0 to 2 take class 2 for class 1 in six of ten images, rater 3 never does.
    swapped = (truth[image] == 2) & (rater < 3) & (rng.random(1600) < 0.6)
    noise = rng.random(1600) < 0.05
    chosen = np.where(swapped, 1, np.where(noise, rng.integers(0, 3, 1600), truth[image]))
    choices = Choices(image, rater, chosen, 400, 4, 3)
    right = {
        m: (dense(get("choice-aggregator", m)(choices), choices).argmax(1) == truth).mean() for m in METHODS
    }
    assert right["dawid-skene"] > right["majority"] + 0.03
    assert auto(choices).weights == {"dawid-skene": 1.0, "one-coin": 0.0}


def test_a_thousand_classes_take_one_accuracy_per_rater():
    truth, choices = draw(2, images=2000, raters=30, k=1000, votes=3, skill=(0.6, 0.9))
    result = dawid_skene(choices)
    assert result.matrices is None
    assert (dense(result, choices).argmax(1) == truth).mean() >= 0.9


def test_an_earlier_campaign_tells_good_raters_from_bad_ones():
    rng = np.random.default_rng(1)
    accuracy = np.array([0.95, 0.4, 0.4])

    def campaign(n):
        truth = rng.integers(0, 5, n)
        image, rater = np.repeat(np.arange(n), 3), np.tile(np.arange(3), n)
        right = rng.random(3 * n) < accuracy[rater]
        chosen = np.where(right, truth[image], rng.integers(0, 5, 3 * n))
        return truth, Choices(image, rater, chosen, n, 3, 5)

    _, before = campaign(2000)
    truth, now = campaign(15)
    history = expected_choices(before, one_coin(before))
    counts = history.right_wrong(3)
    assert history.n.sum() == pytest.approx(6000, rel=0.02)
    np.testing.assert_allclose(counts[:, 0] / counts.sum(1), [0.96, 0.52, 0.52], atol=0.04)
    for method in (one_coin, dawid_skene):
        with_history = (dense(method(now, history), now).argmax(1) == truth).mean()
        assert with_history >= (dense(majority(now), now).argmax(1) == truth).mean()
        np.testing.assert_allclose(method(now, history).accuracy, counts[:, 0] / counts.sum(1), atol=0.05)


@pytest.mark.parametrize("spec", ["one-coin", "dawid-skene", "dawid-skene(matrices='pooled')"])
def test_an_update_equals_the_fit_to_all_votes(spec):
    _, choices = draw(4, images=400)
    method = get("choice-aggregator", spec)
    first = choices.image < 320
    before = Choices(
        choices.image[first], choices.rater[first], choices.chosen[first], 320, choices.n_raters, 4
    )
    start = expected_choices(before, method(before))
    exact = {"tolerance": 1e-12, "iterations": 10_000}
    whole, update = method(choices, **exact), method(choices, None, start, **exact)
    np.testing.assert_allclose(dense(update, choices), dense(whole, choices), atol=1e-3)
    # New votes on other images alone, with the earlier votes as history.
    late = Choices(
        choices.image[~first] - 320, choices.rater[~first], choices.chosen[~first], 80, choices.n_raters, 4
    )
    new = dense(method(late, start), late)
    assert np.abs(new - dense(whole, choices)[320:]).mean() < 0.02


def test_history_is_counted():
    history = History(
        np.array([0, 0, 1]), np.array([0, 1, 2]), np.array([0, 2, 2]), np.array([3.0, 1.0, 2.0])
    )
    assert history.right_wrong(2).tolist() == [[3, 1], [2, 0]]
    assert history.matrices(2, 3)[0].tolist() == [[3, 0, 0], [0, 0, 1], [0, 0, 0]]


ONE = np.zeros(1, int)
BAD = {
    "lengths": (
        lambda: Choices(ONE, ONE, np.zeros(2, int), 1, 1, 2),
        "The arrays of votes differ in length.\n  got:     1 images, 1 raters and 2 classes\n"
        "  allowed: three arrays of the same length",
    ),
    "a class that is not in the list": (
        lambda: Choices(ONE, ONE, ONE + 7, 1, 1, 2),
        "The class of a vote does not exist.\n  got:     7\n  allowed: 0 to 1",
    ),
    "two classes": (
        lambda: Choices(np.zeros(2, int), np.zeros(2, int), np.arange(2), 1, 1, 2),
        "A rater chose more than one class for an image.\n  got:     rater 0, image 0\n"
        "  allowed: one class per rater and image",
    ),
    "no votes": (lambda: one_coin(Choices(*np.zeros((3, 0), int), 1, 1, 2)), "There are no votes."),
    "unknown raters": (
        lambda: dawid_skene(Choices(ONE, ONE, ONE, 1, 1, 2, are_raters_known=False)),
        "dawid-skene estimates the quality of each rater, but the raters of these votes are unknown.\n"
        "  got:     counts of votes, or votes without raters\n"
        "  do:      use vote-share or majority, or pass votes with their raters",
    ),
    "smoothing": (
        lambda: one_coin(Choices(ONE, ONE, ONE, 1, 1, 2), smoothing=-1),
        "Smoothing is negative or not a number.\n  got:     -1\n  allowed: 0 or more",
    ),
    "iterations": (
        lambda: auto(Choices(ONE, ONE, ONE, 1, 1, 2), iterations=0),
        "There are no iterations.\n  got:     0\n  allowed: 1 or more",
    ),
    "matrices": (
        lambda: dawid_skene(Choices(ONE, ONE, ONE, 1, 1, 2), matrices="some"),
        "There are no such matrices.\n  got:     some\n  allowed: auto, each, pooled",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    work, message = BAD[case]
    with pytest.raises(InputError) as error:
        work()
    assert str(error.value) == message
