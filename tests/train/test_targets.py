"""What images are taught, held against loops over cells."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from manyhot.core.sets import NO, NO_LABEL, UNCLEAR, YES, LabelSets  # noqa: E402
from manyhot.errors import InputError  # noqa: E402
from manyhot.train.targets import teacher  # noqa: E402

SETS = [{0: YES, 2: NO}, {1: YES, 3: YES, 0: UNCLEAR}, {}, {2: NO, 1: UNCLEAR}, {4: YES, 0: YES, 1: YES}]
LABEL = [0, 3, NO_LABEL, 2, 4]


def label_sets(p=None):
    classes = [np.array(list(s), np.int32) for s in SETS]
    state = [np.array(list(s.values()), np.uint8) for s in SETS]
    return LabelSets(
        5,
        np.concatenate([[0], np.cumsum([len(s) for s in SETS])]).astype(np.int64),
        np.concatenate(classes),
        np.concatenate(state),
        np.array(LABEL, np.int32),
        np.ones(5, bool),
        True,
        p,
    )


@pytest.mark.parametrize("not_asked", ["no", "mask"])
@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [4, 1, 1], [2], [3, 0]])
def test_label_sets(rows, not_asked):
    targets = teacher(label_sets(), "sets", not_asked=not_asked).batch(torch.tensor(rows))
    for i, row in enumerate(rows):
        for c in range(5):
            state = SETS[row].get(c, NO if not_asked == "no" else None)
            assert targets.p[i, c] == (state == YES)
            assert targets.weight[i, c] == (state in (YES, NO))
    assert targets.rows.tolist() == rows


def test_what_is_all_known_needs_no_weights():
    labels = LabelSets.from_lists([[0], [1, 2], []], 3)
    assert teacher(labels, "sets").batch(torch.arange(3)).weight is None


@pytest.mark.parametrize("ends", ["softmax", "sigmoid"])
def test_single_labels(ends):
    targets = teacher(label_sets(), "label", ends=ends).batch(torch.arange(5))
    expected = np.zeros((5, 5))
    for row, label in enumerate(LABEL):
        if label != NO_LABEL:
            expected[row, label] = 1
    assert np.array_equal(targets.p, expected)
    assert targets.weight is None


def test_classes_of_a_set_share_one_under_a_softmax():
    targets = teacher(label_sets(), "sets", ends="softmax").batch(torch.arange(5))
    for row, states in enumerate(SETS):
        yes = [c for c, state in states.items() if state == YES]
        expected = [1 / len(yes) if c in yes else 0 for c in range(5)]
        np.testing.assert_allclose(targets.p[row], expected, rtol=1e-6)


def test_soft_labels():
    p = np.float32([0.9, 0.2, 0.5, 0.5, 0.25, 0.1, 0.3, 0.6, 0.6, 0.8])
    as_they_are = teacher(label_sets(p), "soft").batch(torch.arange(5)).p
    shares = teacher(label_sets(p), "soft", ends="softmax").batch(torch.arange(5)).p
    entries = iter(p)
    for row, states in enumerate(SETS):
        told = {c: next(entries) for c in states}
        np.testing.assert_allclose(as_they_are[row], [told.get(c, 0) for c in range(5)])
        total = sum(told.values()) or 1
        np.testing.assert_allclose(shares[row], [told.get(c, 0) / total for c in range(5)], rtol=1e-6)


@pytest.mark.parametrize("not_asked", ["no", "mask"])
def test_mixed_images_lose_what_both_would_lose(not_asked):
    """λ L(logits, own) + (1 - λ) L(logits, other), cells that are not known left out of either."""
    targets = teacher(label_sets(), "sets", not_asked=not_asked).batch(torch.arange(5))
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    order = torch.tensor([3, 0, 4, 1, 2])
    share = torch.rand(5, generator=generator)
    mixed = targets.mixed(order, share)

    def losses(p, weight):
        z, w = p.double(), 1 if weight is None else weight.double()
        return -w * (z * torch.sigmoid(logits).log() + (1 - z) * torch.sigmoid(-logits).log())

    own = losses(targets.p, targets.weight)
    other = losses(targets.p[order], None if targets.weight is None else targets.weight[order])
    expected = share[:, None] * own + (1 - share[:, None]) * other
    np.testing.assert_allclose(losses(mixed.p, mixed.weight), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (
            label_sets(),
            {"teach": "set"},
            "There is no way to teach 'set'.\n  allowed: label, sets, soft",
        ),
        (
            label_sets(),
            {"teach": "sets", "not_asked": "yes"},
            "There is no not_asked 'yes'.\n  allowed: no, mask",
        ),
        (
            label_sets(),
            {"teach": "soft"},
            "The labels have no probabilities of classes.\n  got:     no p\n"
            "  do:      teach label sets: pass teach=sets as `settings`",
        ),
        (
            label_sets(np.full(10, np.nan, np.float32)),
            {"teach": "soft"},
            "The labels have no probabilities of classes.\n  got:     some p are missing\n"
            "  do:      teach label sets: pass teach=sets as `settings`",
        ),
        (
            LabelSets.from_lists([[0], [1]], 2),
            {"teach": "label"},
            "The labels contain no original label.\n"
            "  do:      teach label sets: pass teach=sets as `settings`",
        ),
        (
            LabelSets.from_lists([[0], [1]], 2),
            {"teach": "sets", "not_asked": "mask"},
            "If classes that were not asked about are masked, no image has an absent class.\n"
            "  got:     label sets without a class in state no\n"
            "  do:      count classes that were not asked about as absent: pass not_asked=no as `settings`",
        ),
    ],
)
def test_bad_input(labels, options, message):
    with pytest.raises(InputError) as error:
        teacher(labels, **options)
    assert str(error.value) == message
