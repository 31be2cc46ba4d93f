"""How many times altered images count, against a plain minimiser of the same loss."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from manyhot.classes import from_keys
from manyhot.core.sets import NO, NO_LABEL, YES
from manyhot.train.mitigate.features import Altered
from manyhot.train.mitigate.fitting import (
    STRENGTH,
    SURPLUS_FOLDS,
    UNCAPPED,
    HeadFitter,
    _Group,
    folds,
    smallest_surplus,
    surplus_notes,
)
from manyhot.train.mitigate.held_out import MitigationLabels

PAIR = DOG, TAG = 0, 1
PENALTY = 0.05


@pytest.fixture(scope="module")
def fitter():
    """60 dogs with a tag, and 90 others; the tag moves the second feature, a pasted one by a tenth less."""
    rng = np.random.default_rng(0)
    dog = np.arange(150) < 60
    x = rng.normal(size=(150, 4)) + np.outer(dog, [1.0, 0, 0, 0])
    tagged = x + np.outer(dog, [0, 2.0, 0, 0])
    state = np.stack([dog, dog], axis=1)
    label = np.full(150, NO_LABEL)
    known = MitigationLabels(
        [f"{i}" for i in range(150)],
        np.where(state, YES, NO).astype(np.uint8),
        label,
        np.zeros(150, bool),
        from_keys(("dog", "tag")),
    )
    fitter = HeadFitter(SimpleNamespace(labels=known, features=tagged, whole=frozenset()), "b", True)
    own, other = np.flatnonzero(dog), np.flatnonzero(~dog)
    pasted = tagged[other] + [0, 1.8, 0, 0] + rng.normal(0, 0.3, (90, 4))
    nothing = Altered(np.empty(0, np.intp), np.empty((0, 4)))
    fitter._made[PAIR, "without"] = _Group("without", Altered(own, x[own]), True, False, TAG)
    fitter._made[PAIR, "alone"] = _Group("alone", nothing, False, True, DOG)
    fitter._made[PAIR, "pasted"] = _Group("pasted", Altered(other, pasted), False, True)
    fitter._made[PAIR, "filled"] = _Group("filled", nothing, False, False)
    fitter.__dict__["_sigmoids"] = {
        "label sets": SimpleNamespace(penalty=PENALTY, weight=np.zeros((2, 4)), bias=np.zeros(2))
    }
    return fitter


def minimised(x, y, weight, moved):
    """Return the logistic regression that minimises the loss as it is written, of standardised features."""
    mean = np.average(x, axis=0, weights=weight)
    scale = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weight))
    seen, moved = (x - mean) / scale, moved / scale

    def loss(layer):
        w, logit = layer[:-1], seen @ layer[:-1] + layer[-1]
        each = np.logaddexp(0, np.where(y, -logit, logit))
        return (
            np.average(each, weights=weight) + PENALTY / 2 * w @ w + STRENGTH / 2 * np.mean((moved @ w) ** 2)
        )

    best = minimize(loss, np.zeros(5), tol=1e-12).x
    return lambda new: expit((new - mean) / scale @ best[:-1] + best[-1])


def gap_by_hand(fitter, surplus):
    """Fit each half and judge the other: 60 dogs without the tag (balance), and 60 surplus tagged others."""
    x, made = fitter.images.features, fitter._made
    without, pasted = (made[PAIR, kind].altered for kind in ("without", "pasted"))
    changes = []
    for own in folds(fitter.images.labels.splits(PAIR)):
        a, b = ~own[without.rows], ~own[pasted.rows]
        n_without, n_pasted = 60 / len(without.rows), surplus * 90 / len(pasted.rows)
        head = minimised(
            np.concatenate([x[~own], without.features[a], pasted.features[b]]),
            np.concatenate([np.arange(150)[~own] < 60, np.ones(a.sum(), bool), np.zeros(b.sum(), bool)]),
            np.concatenate([np.ones((~own).sum()), np.full(a.sum(), n_without), np.full(b.sum(), n_pasted)]),
            (pasted.features - x[pasted.rows])[b],
        )
        changes.append(head(pasted.features[~b]) - head(x[pasted.rows[~b]]))
    return np.concatenate(changes).mean()


def test_the_smallest_surplus_at_which_images_not_fitted_on_do_not_depend_on_the_companion(fitter):
    treatment = fitter.treatments([PAIR], PAIR)[UNCAPPED]
    gaps = {}

    def fit(surplus):
        gaps[surplus] = gap_by_hand(fitter, surplus)
        return gaps[surplus]

    expected = smallest_surplus(fit)
    head = fitter._treated_sigmoids(treatment, True)
    assert fitter.surpluses == {"dog:tag, label sets": expected}
    assert len(gaps) > 1 or expected == 1
    reference = minimised(*_all_images(fitter, expected))
    x = fitter.images.features
    np.testing.assert_allclose(head.probabilities(x)[:, DOG], reference(x), atol=2e-3)


def _all_images(fitter, surplus):
    x, made = fitter.images.features, fitter._made
    without, pasted = (made[PAIR, kind].altered for kind in ("without", "pasted"))
    weight = [np.ones(150), np.full(60, 1.0), np.full(90, surplus)]
    return (
        np.concatenate([x, without.features, pasted.features]),
        np.concatenate([np.arange(150) < 60, np.ones(60, bool), np.zeros(90, bool)]),
        np.concatenate(weight),
        pasted.features - x[pasted.rows],
    )


def test_surpluses_are_tried_in_order_until_one_is_enough():
    assert smallest_surplus(lambda s: 2.5 - s) == 3
    assert smallest_surplus(lambda s: -1.0) == 1
    assert smallest_surplus(lambda s: 1.0) is None


def test_folds_divide_each_split():
    splits = np.array([0] * 10 + [3] * 31 + [-1] * 5, np.int8)
    parts = list(folds(splits))
    assert len(parts) == SURPLUS_FOLDS
    assert (np.sum(parts, axis=0) == 1).all()
    for which in (-1, 0, 3):
        counts = [np.count_nonzero(splits[own] == which) for own in parts]
        assert max(counts) - min(counts) <= 1


def test_the_note_says_what_was_chosen():
    one, other = surplus_notes({"dog:tag, softmax": 1.5, "dog:tag, label sets": None})
    assert one == (
        "dog:tag, softmax, without caps: altered images with the companion alone count 1.5 times as often "
        "as balance requires, the smallest factor that suffices on images to which no head was fitted"
    )
    assert other == (
        "dog:tag, label sets, without caps: altered images with the companion alone count as often as "
        "balance requires, because even 6 times as often would not suffice on images to which no head was "
        "fitted"
    )


def test_images_with_a_companion_of_the_whole_image_are_replaced(fitter):
    """60 dogs have it: copies without it take their place, and of the others, as many get it."""
    whole = HeadFitter(SimpleNamespace(**vars(fitter.images) | {"whole": frozenset([TAG])}), "b", True)
    whole._made.update(fitter._made)
    treatment = whole.treatments([PAIR], PAIR)[UNCAPPED]
    weights = whole.weights(treatment)
    parts = np.split(weights, [60, 150, 210])
    assert [part.sum() for part in parts] == pytest.approx([0, 90, 60, 60])
    assert [np.ptp(part) for part in parts] == [0, 0, 0, 0]
    assert not whole.invariances(treatment)
