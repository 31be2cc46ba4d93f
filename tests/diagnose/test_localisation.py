"""Maps against objects, also where only those of other classes are known."""

import numpy as np

from manyhot.diagnose.localisation import measure


def box(left, top, right, bottom):
    region = np.zeros((8, 8), bool)
    region[top:bottom, left:right] = True
    return region


def test_an_object_of_another_class_is_pointed_at_though_its_own_has_none():
    found = np.zeros((8, 8))
    found[1, 1] = 1
    none, square = box(0, 0, 0, 0), box(0, 0, 2, 4)
    assert measure(found, none, none, square) == {
        "area": 0.0,
        "pointing_other": 1.0,
        "pointing_other_by_chance": 8 / 64,
        "pointing_other_centre": 0.0,
        "skipped": "no object of the class",
    }
    alone = measure(found, square, square, none)
    assert alone["pointing"] == 1
    assert "pointing_other" not in alone
    assert alone["difficult"] is False
    assert measure(np.zeros((8, 8)), square, square, box(4, 4, 8, 8)) == {
        "area": 8 / 64,
        "skipped": "the map is the same everywhere",
    }


def test_what_is_both_counts_as_its_own():
    found = np.zeros((8, 8))
    found[1, 1] = 1
    told = measure(found, box(0, 0, 2, 2), box(0, 0, 2, 2), box(1, 1, 5, 5))
    assert (told["pointing"], told["pointing_other"]) == (1, 0)
    assert told["pointing_other_by_chance"] == 15 / 64
    assert told["difficult"] is True
