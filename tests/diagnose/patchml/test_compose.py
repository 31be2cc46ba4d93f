"""Patches: what is cut out, that layouts are what was asked for, and pictures what the layout says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhot.diagnose.patchml.compose import (
    GREY,
    Patch,
    blurred,
    cut,
    fits_always,
    free_crop,
    lay_out,
    noise,
    paint,
    plain_background,
    square,
)
from manyhot.diagnose.pixels.regions import Region, Regions

SIZE = 96


def rng(seed=0):
    return np.random.default_rng(seed)


def region(class_id, box, mask=None, shape=(100, 120), ignore=False):
    drawn = np.zeros(shape, bool)
    left, top, right, bottom = box
    drawn[top:bottom, left:right] = True
    return Region(
        class_id, ignore, box, drawn if mask is None else mask, "box" if mask is None else "mask", 7
    )


def photograph():
    return rng().integers(0, 256, (100, 120, 3), dtype=np.uint8)


def cut_first(*regions, by="box", least=10):
    return cut(photograph(), Regions((100, 120), regions), regions[0], by=by, least=least)


def disc(shape, centre, radius):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def test_a_box_is_cut_out_as_it_is():
    patch = cut_first(region(3, (10, 20, 50, 60)), region(3, (40, 20, 90, 60)), region(1, (60, 70, 90, 90)))
    assert (patch.pixels == photograph()[20:60, 10:50]).all()
    assert patch.mask.all()
    assert patch.class_id == 3


def test_a_mask_is_cut_out_in_its_bounds():
    mask = disc((100, 120), (50, 60), 20)
    patch = cut_first(region(3, (0, 0, 120, 100), mask), by="mask")
    assert patch.mask.shape == (41, 41)
    assert (patch.pixels == photograph()[30:71, 40:81]).all()
    assert patch.mask.sum() == mask.sum()


@pytest.mark.parametrize(
    ("regions", "options", "reason"),
    [
        ([region(0, (10, 10, 19, 60))], {}, "smaller than 10 pixels"),
        ([region(0, (0, 0, 120, 99))], {}, "it fills the image"),
        ([region(0, (10, 10, 50, 50))], {"by": "mask"}, "only its box is known"),
        ([region(0, (10, 10, 50, 50)), region(1, (45, 45, 60, 60))], {}, "another class in it"),
        ([region(0, (10, 10, 50, 50)), region(1, (45, 45, 60, 60), ignore=True)], {}, "another class in it"),
    ],
)
def test_what_cannot_be_cut_out(regions, options, reason):
    assert cut_first(*regions, **options) == reason


def test_a_corner_of_another_class_is_not_seen():
    assert isinstance(cut_first(region(0, (10, 10, 50, 50)), region(1, (47, 47, 60, 60))), Patch)


def test_a_hole_where_another_class_stood_is_seen():
    around, inside = disc((100, 120), (50, 60), 30), disc((100, 120), (50, 60), 12)
    ring = region(0, (30, 20, 91, 81), around & ~inside)
    other = region(1, (48, 38, 73, 63), inside)
    assert cut_first(ring, other, by="mask") == "another class in front of it"
    assert isinstance(cut_first(ring, by="mask"), Patch)  # a ring of one class may be one
    beside = region(1, (5, 5, 20, 20), disc((100, 120), (12, 12), 7))
    assert isinstance(cut_first(ring, beside, by="mask"), Patch)


shapes = st.tuples(st.integers(8, 60), st.integers(8, 60), st.booleans())


def patch_of(number, height, width, round_):
    mask = disc((height, width), (height / 2, width / 2), min(height, width) / 2) if round_ else np.True_
    return Patch(
        np.full((height, width, 3), 10 * number + 10, np.uint8),
        np.broadcast_to(mask, (height, width)).copy(),
        number,
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(shapes, min_size=1, max_size=6),
    st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)).map(sorted),
    st.tuples(st.floats(0.1, 0.6), st.floats(0.1, 0.6)).map(sorted),
    st.integers(0, 1000),
)
def test_layouts_are_what_was_asked_for(shaped, overlap, scale, seed):
    patches = [patch_of(i, *s) for i, s in enumerate(shaped)]
    layout = lay_out(patches, SIZE, tuple(scale), tuple(overlap), rng(seed))
    if layout is None:
        # A grid takes them all where nothing must be covered.
        assert overlap[0] > 0 or scale[0] > fits_always(len(patches)) - 2 / SIZE
        return
    assert sorted(p.class_id for p in layout.patches) == list(range(len(patches)))
    owner = np.full((SIZE, SIZE), -1)
    for i, (patch, (left, top)) in enumerate(zip(layout.patches, layout.places, strict=True)):
        height, width = patch.mask.shape
        assert left >= 0 <= top
        assert left + width <= SIZE >= top + height
        assert scale[0] * SIZE - 1 <= max(height, width) <= scale[1] * SIZE + 1
        owner[top : top + height, left : left + width][patch.mask] = i
    assert (owner == layout.owner).all()
    covered = [1 - (owner == i).sum() / p.mask.sum() for i, p in enumerate(layout.patches)]
    assert layout.covered == pytest.approx(covered)
    assert max(covered) <= overlap[1] + 1e-9
    assert len(patches) == 1 or max(covered) >= overlap[0] - 1e-9


@pytest.mark.parametrize("overlap", [(0.0, 0.0), (0.2, 0.25), (0.45, 0.5)])
def test_usual_layouts_are_found(overlap):
    patches = [patch_of(i, 40, 50 - 7 * i, i % 2) for i in range(4)]
    for seed in range(20):
        assert lay_out(patches, SIZE, (0.3, 0.5), overlap, rng(seed)) is not None


def test_a_grid_takes_what_chance_does_not():
    patches = [patch_of(i, 40, 40, False) for i in range(9)]
    for seed in range(5):
        layout = lay_out(patches, 99, (1 / 3, 0.5), (0, 0), rng(seed))
        assert layout.covered.max() == 0
        assert (layout.owner >= 0).all()


def test_no_layout_ends():
    assert lay_out([patch_of(i, 40, 40, False) for i in range(6)], SIZE, (0.6, 0.6), (0, 0), rng()) is None
    assert lay_out([patch_of(i, 40, 40, False) for i in range(2)], SIZE, (1, 1), (0.1, 0.2), rng()) is None


@pytest.mark.parametrize("soft", [0, 1.5])
def test_pictures_are_what_the_layout_says(soft):
    patches = [patch_of(i, 30, 40, i % 2) for i in range(4)]
    layout = lay_out(patches, SIZE, (0.4, 0.5), (0.1, 0.3), rng(3))
    background = plain_background(SIZE, (200, 0, 255))
    picture = paint(layout, background, soft=soft)
    assert (picture[layout.owner == -1] == (200, 0, 255)).all()
    assert (background == (200, 0, 255)).all()
    for i, patch in enumerate(layout.patches):
        own = picture[layout.owner == i]
        flat = (own == 10 * patch.class_id + 10).all(axis=1).mean()
        assert flat == 1 if not soft else 0.3 < flat < 1


def test_backgrounds():
    assert (plain_background(8, GREY) == (124, 116, 104)).all()
    drawn = noise(64, rng())
    assert drawn.std() > 40
    assert drawn.mean(axis=(0, 1)) == pytest.approx(GREY, abs=5)
    half = np.zeros((100, 120, 3), np.uint8)
    half[:, 60:] = 255
    assert square(half, 50).shape == (50, 50, 3)
    assert square(half, 50)[0, 0, 0] == 0
    for axis, picture in ((1, half), (0, half.swapaxes(0, 1))):
        steps = np.abs(np.diff(blurred(picture, 50).astype(int), axis=axis))
        assert steps.max() < 30 < np.abs(np.diff(square(picture, 50).astype(int), axis=axis)).max()


def test_crops_hold_no_object():
    pixels = np.zeros((100, 120, 3), np.uint8)
    pixels[20:60, 10:50] = 255
    there = Regions((100, 120), (region(0, (10, 20, 50, 60)),))
    for seed in range(20):
        found = free_crop(pixels, there, 32, 20, rng(seed))
        assert found.shape == (32, 32, 3)
        assert found.max() == 0
    assert free_crop(pixels, Regions((100, 120), (region(0, (0, 0, 115, 95)),)), 32, 20, rng()) is None
    assert free_crop(pixels[:10], Regions((10, 120), ()), 32, 20, rng()) is None
