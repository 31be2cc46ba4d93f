"""What altered images show, and what heads are worth."""

import numpy as np
import pytest

from manyhot.classes import from_keys
from manyhot.core.companion_effects import BOTH, NEITHER, BalancePlan, Estimated, Resampled
from manyhot.core.sets import NO, NO_LABEL, UNCLEAR, YES
from manyhot.diagnose.pixels.removal import OTHER, OWN, PATCH
from manyhot.train.mitigate.fitting import treatment_note
from manyhot.train.mitigate.held_out import (
    Added,
    AlteredScores,
    HeldOutImages,
    HeldOutMetric,
    MitigationLabels,
    _predicted,
)

HORSE, PERSON, DOG = range(3)
PAIR = (HORSE, PERSON)


@pytest.fixture
def labels():
    """Three horses with a person, labelled as either or as a dog beside; a dog; a horse held out."""
    state = np.array(
        [[YES, YES, NO], [YES, YES, NO], [YES, YES, YES], [NO, NO, YES], [YES, YES, NO]], np.uint8
    )
    label = np.array([HORSE, PERSON, DOG, NO_LABEL, HORSE])
    held = np.array([False, False, False, False, True])
    return MitigationLabels(list("abcde"), state, label, held, from_keys(("horse", "person", "dog")))


def added(main, gone):
    return Added(np.arange(4), np.zeros((4, 1)), 1.0, main, gone != PERSON, gone)


def test_where_the_labelled_class_is_gone_the_other_of_the_pair_is_left(labels):
    assert labels.relabelled(added(True, PERSON), PAIR).tolist() == [HORSE, HORSE, DOG, NO_LABEL]
    assert labels.relabelled(added(False, HORSE), PAIR).tolist() == [PERSON, PERSON, DOG, NO_LABEL]
    assert labels.relabelled(added(True, NO_LABEL), PAIR).tolist() == [HORSE, PERSON, DOG, NO_LABEL]


def test_the_states_of_altered_images(labels):
    without = [added(True, PERSON), added(False, HORSE)]
    groups = [(PAIR, a) for a in without]
    sets = labels.states(groups, sets=True)
    assert sets[:, HORSE].tolist() == [YES, YES, YES, NO] + [YES] * 4 + [NO] * 4
    assert sets[:, PERSON].tolist() == [YES, YES, YES, NO] + [NO] * 4 + [YES] * 4
    assert sets[:, DOG].tolist() == [NO, NO, YES, YES] * 3  # other classes are as they were
    single = labels.states(groups, sets=False)
    assert single[:, HORSE].tolist() == [YES, NO, NO, UNCLEAR, YES, YES, NO, UNCLEAR, NO, NO, NO, UNCLEAR]


def test_images_that_are_held_out_are_not_counted(labels):
    assert labels.plan(PAIR, capped=True).before == 1.0
    assert labels.both(PAIR).tolist() == [True, True, True, False, True]
    assert labels.neither(PAIR).tolist() == [False, False, False, True, False]
    assert len(labels.held_out(0, 0).label) == 1


def test_what_is_told():
    names, plan = ("horse", "person"), BalancePlan(False, 20.0, 0.25, 0.125)
    assert (
        treatment_note(names, plan, [])
        == "horse:person: the frequency of the companion with the class minus its frequency without the "
        "class is +0.250, "
        "and no images were added"
    )
    assert treatment_note(names, plan, [added(True, PERSON)]) == (
        "horse:person: the frequency of the companion with the class minus its frequency without the "
        "class is +0.250; "
        "4 altered images with the class count as 4, and no other altered images can be made"
    )
    assert treatment_note(names, plan, [added(True, PERSON), added(False, HORSE)]) == (
        "horse:person: the frequency of the companion with the class minus its frequency without the "
        "class is +0.250; "
        "4 altered images with the class count as 4, 4 altered images without the class count as 4"
    )


def test_where_no_image_changes_the_change_has_an_interval_all_the_same():
    """Newcombe's for 0 of 10 and 0 of 10 is Wilson's upper end of 0 of 10 on either side: 0.278."""
    hits = np.zeros(10, bool)
    one = HeldOutMetric(Estimated(0.0, 0.0, 0.28, 10), np.zeros(5), hits)
    assert one.less(one) == pytest.approx((0, -0.2775, 0.2775), abs=1e-4)


def test_what_changes_where_the_companion_is_removed():
    """Of four horses, two are no longer recognised, one is now, and one stays as it was."""
    state = np.full((4, 3), YES, np.uint8)
    classes = from_keys(("horse", "person", "dog"))
    known = MitigationLabels(list("abcd"), state, np.zeros(4, int), np.ones(4, bool), classes)
    before, after = ([[p, 0, 0] for p in horse] for horse in ((0.9, 0.9, 0.9, 0.1), (0.1, 0.9, 0.1, 0.9)))
    nothing = AlteredScores(np.zeros((0, 3)), np.zeros(0, np.intp))
    names = ("fitted", "pasted", "pasted on the class", "filled on the class")
    judged = dict.fromkeys(names, nothing) | {"other": AlteredScores(np.array(after), np.arange(4))}
    found = known.held_out(0, 10).measure(np.array(before), judged, False, PAIR)
    assert {name: found[name].estimated.value for name in ("lost", "flips")} == {"lost": 0.5, "flips": 0.75}


def test_half_a_probability_predicts_a_class_and_so_does_the_top_class():
    """As the guide to mitigation says; 0.5 and its neighbours are exact."""
    p = np.array([[0.5, 0.6, 0], [np.nextafter(0.5, 0), 0.1, 0], [np.nextafter(0.5, 1), 0, 0]])
    assert _predicted(p, HORSE, best=False).tolist() == [True, False, True]
    assert _predicted(p, HORSE, best=True).tolist() == [False, True, True]


def test_what_exchanged_companions_show():
    """Four dogs with a tag and four other images: logits are given, and what is called a dog counted by hand.

    On the dogs, a pasted tag acts one logit less than their own. With it, two of the four others are dogs.
    """
    dog = [-0.5, 0.5, 1.5, 2.5]
    shown = {
        (BOTH, OWN): np.array(dog),
        (BOTH, OTHER): np.array(dog) - 1,
        (BOTH, PATCH): np.array([-1.0, -1.0, 1.0, 1.0]),
        (NEITHER, OTHER): np.array([-3.0, -2.0, -0.5, 0.5]),
        (NEITHER, PATCH): np.array([-3.0, -3.0, -3.0, 0.5]),
    }
    state = np.array([[YES, YES, NO]] * 4 + [[NO, NO, YES]] * 4, np.uint8)
    held_out = HeldOutImages(state, np.repeat([0, 2], 4), Resampled.of(8, 0, 0))

    def scores(logits, start):
        own = 1 / (1 + np.exp(-logits))
        order = np.array([2, 0, 3, 1])  # in any order
        return AlteredScores(np.stack([own, 0 * own, 1 - own], 1)[order], start + order)

    given = {key: scores(logits, 0 if key[0] == BOTH else 4) for key, logits in shown.items()}
    p = np.tile([0.1, 0.0, 0.9], (8, 1))
    told = held_out.exchanged(p, given, False, (0, 1))
    assert {name: m.estimated.value for name, m in told.items()} == {
        "called_pasted": 0.5,
        "called_patched": 0.25,
        "patched_gap": 0.25,
        "patched_recall_gap": 0.25,
        "copied_logit": pytest.approx(1.0),
        "accuracy_patched": 6 / 8,
    }
    # Copies that act 0 and 2 logits less: the upper end, 1 + 3.182 * 1.155 / 2, counts, not the mean.
    uneven = given | {(BOTH, OTHER): scores(np.array(dog) - [0, 0, 2, 2], 0)}
    found = held_out.exchanged(p, uneven, False, (0, 1))
    assert found["copied_logit"].estimated.hi == pytest.approx(2.84, abs=5e-3)
    assert found["called_pasted"].estimated.value == 0.75
    faithful = given | {(BOTH, OTHER): given[BOTH, OWN]}
    assert held_out.exchanged(p, faithful, False, (0, 1))["called_pasted"].estimated.value == 0.25
    best = held_out.exchanged(p, given, True, (0, 1))  # the top class has a probability of a half, too
    assert best["called_pasted"].estimated.value == 0.5
