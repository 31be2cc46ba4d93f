"""An exchanged companion: versions of an image that differ in nothing but the companion."""

import numpy as np
import pyarrow as pa
import pytest

from manyhot.classes import from_keys
from manyhot.diagnose.pixels.removal import OTHER, OWN, PATCH, Exchange, cuttings
from manyhot.tables import Objects, schema

CLASSES = from_keys(("dog", "tag"))
DOG, TAG = range(2)
GREEN, RED, GREY, WHITE = ((0, 200, 0), (220, 0, 0), (90, 90, 90), (255, 255, 255))


def objects(*rows):
    columns = dict(
        zip(("image_id", "class_id", "x1", "y1", "x2", "y2", "ignore"), zip(*rows, strict=True), strict=True)
    )
    fields = schema("objects")
    return Objects(
        pa.table({k: pa.array(v, fields.field(k).type) for k, v in columns.items()}),
        CLASSES.keys,
        CLASSES.hash,
    )


def picture(*boxes):
    """A white photograph of 20 by 10 pixels with boxes of a colour."""
    pixels = np.full((10, 20, 3), WHITE, np.uint8)
    for (left, top, right, bottom), colour in boxes:
        pixels[top:bottom, left:right] = colour
    return pixels


KNOWN = objects(
    ("shown", TAG, 0.0, 0.0, 0.2, 0.2, False),  # 4 by 2 pixels, upper left
    ("donor", TAG, 0.5, 0.5, 0.7, 0.7, False),  # 4 by 2 pixels, from (10, 5)
    ("dog", DOG, 0.5, 0.5, 0.65, 0.7, False),
)
SHOWN = picture(((0, 0, 4, 2), GREEN))
DONOR = picture(((10, 5, 14, 7), RED))
PATCHES = [np.full((5, 5, 3), GREY, np.uint8)]


def exchanged(image_id, pixels, shown, donors=("donor",)):
    own = {"donor": DONOR, "shown": SHOWN}
    cut = [c for name in donors for c in cuttings(KNOWN, TAG, name, own[name])]
    return Exchange(KNOWN, cut, frozenset([image_id]), TAG, PATCHES, shown)(image_id, pixels)


@pytest.mark.parametrize(
    ("shown", "own", "there"), [(OWN, GREEN, GREY), (OTHER, GREY, RED), (PATCH, GREY, GREY)]
)
def test_the_three_versions_differ_only_where_a_companion_is(shown, own, there):
    found = exchanged("shown", SHOWN, shown)
    assert (found == picture(((0, 0, 4, 2), own), ((10, 5, 14, 7), there))).all()


def test_an_image_without_the_companion_gets_that_of_the_donor_or_a_patch():
    other, patch = (exchanged("empty", picture(), shown) for shown in (OTHER, PATCH))
    assert (other == DONOR).all()
    assert (patch == picture(((10, 5, 14, 7), GREY))).all()


def test_no_image_is_its_own_donor():
    assert exchanged("shown", SHOWN, OTHER, ("shown",)) == "no other image shows the companion"
    found = exchanged("shown", SHOWN, OTHER, ("shown", "donor"))
    assert (found[5:7, 10:14] == RED).all()


def test_no_other_object_is_covered():
    assert exchanged("dog", picture(), PATCH) == "it would cover another object"


def test_other_donors_patches_or_versions_are_other_pixels():
    cut, others = cuttings(KNOWN, TAG, "donor", DONOR), [DONOR]
    versions = ((PATCHES, OWN, 0), (PATCHES, PATCH, 0), (PATCHES, OWN, 1), (others, OWN, 0))
    made = [
        Exchange(KNOWN, cut, frozenset("b"), TAG, patches, shown, seed) for patches, shown, seed in versions
    ]
    assert len({one.key for one in made}) == len(made)
