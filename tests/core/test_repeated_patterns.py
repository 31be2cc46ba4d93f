"""Patterns that recur, planted on random pictures."""

import numpy as np
import pytest
from PIL import Image

from manyhot.core.repeated_patterns import (
    THUMBNAIL_SIDE,
    FixedPattern,
    Patches,
    find_fixed_pattern,
    find_repeated_patch,
)

N = 160


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (2 * N, 8, 8, 3), dtype=np.uint8)
    return np.stack(
        [
            np.array(Image.fromarray(s).resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BICUBIC))
            for s in small
        ]
    )


def _halves():
    return np.arange(N), np.arange(N, 2 * N)


def test_nothing_recurs_in_random_pictures(pictures):
    group, elsewhere = _halves()
    assert find_fixed_pattern(pictures, group, elsewhere) is None
    patches = Patches.of(pictures, np.random.default_rng(0))
    assert find_repeated_patch(patches, group, elsewhere, np.random.default_rng(0)) is None


def test_a_square_at_one_place_is_found_where_it_is(pictures):
    made = pictures.copy()
    has = np.zeros(2 * N, bool)
    has[: int(0.8 * N)] = True
    made[has, 2:12, 30:46] = (200, 30, 30)
    found = find_fixed_pattern(made, *_halves())
    where = np.zeros((THUMBNAIL_SIDE, THUMBNAIL_SIDE), bool)
    where[2:12, 30:46] = True
    assert (found.where & where).sum() >= 0.9 * where.sum()
    assert (found.where & ~where).sum() <= 60  # its edges
    assert found.is_flat
    assert found.colour == pytest.approx([200, 30, 30], abs=2)
    assert ((found.score >= 0.5) == has).mean() > 0.98


@pytest.mark.parametrize(
    ("drawn", "boxes"),
    [
        ((np.s_[2:12, 30:46],), [(30, 2, 46, 12)]),
        ((np.s_[36:44],), [(0, 36, 48, 44)]),
        (
            (np.s_[:5], np.s_[-5:], np.s_[:, :5], np.s_[:, -5:]),
            [(0, 0, 48, 5), (0, 43, 48, 48), (0, 5, 5, 43), (43, 5, 48, 43)],
        ),
    ],
    ids=["tag", "band", "frame"],
)
def test_boxes_are_around_what_was_drawn(pictures, drawn, boxes):
    """They contain it, and are up to two pixels of a thumbnail larger on each side."""
    made = pictures.copy()
    for part in drawn:
        for picture in made[: int(0.8 * N)]:
            picture[part] = (200, 30, 30)
    found = find_fixed_pattern(made, *_halves())
    assert found.is_frame == (len(boxes) == 4)
    side, expected = THUMBNAIL_SIDE, np.array(boxes)
    np.testing.assert_allclose(found.boxes * side, expected, atol=2.01)
    covered, wanted = np.zeros((2, side, side), bool)
    for x1, y1, x2, y2 in (found.boxes * side).round().astype(int):
        covered[y1:y2, x1:x2] = True
    for part in drawn:
        wanted[part] = True
    assert covered[wanted].all()


def test_boxes_of_a_frame_of_two_lines_are_around_both():
    where = np.ones((THUMBNAIL_SIDE, THUMBNAIL_SIDE), bool)
    where[1:-1, 1:-1] = False
    where[2:-2, 2:-2] = True
    where[3:-3, 3:-3] = False
    found = FixedPattern(where, np.zeros(3), True, np.ones(2), np.ones((2, 2)))
    assert found.is_frame
    covered = np.zeros_like(where)
    for x1, y1, x2, y2 in (found.boxes * THUMBNAIL_SIDE).round().astype(int):
        covered[y1:y2, x1:x2] = True
    assert covered[where].all()
    assert not covered[5:-5, 5:-5].any()


def test_a_frame_ends_at_the_ring_of_which_less_than_half_belongs_to_it():
    where = np.ones((THUMBNAIL_SIDE, THUMBNAIL_SIDE), bool)
    where[3:-3, 3:-3] = False
    where[3:-3, 3] = where[3, 3:8] = True  # a side and a part of the next: 28 % of the fourth ring
    found = FixedPattern(where, np.zeros(3), True, np.ones(2), np.ones((2, 2)))
    expected = [(0, 0, 48, 4), (0, 44, 48, 48), (0, 4, 4, 44), (44, 4, 48, 44)]
    assert found.boxes * THUMBNAIL_SIDE == pytest.approx(np.array(expected))


def test_a_translucent_band_is_found_by_its_edge(pictures):
    made = pictures.astype(float)
    made[:N, 40:] = 0.5 * made[:N, 40:] + 127
    found = find_fixed_pattern(made.astype(np.uint8), *_halves())
    rows = np.flatnonzero(found.where.any(axis=1))
    assert rows.min() in (38, 39, 40)
    assert ((found.score >= 0.5) == (np.arange(2 * N) < N)).mean() > 0.9


def test_an_object_at_changing_places_is_found(pictures):
    rng = np.random.default_rng(1)
    thing = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    made, has = pictures.copy(), np.zeros(2 * N, bool)
    has[: int(0.9 * N)] = True
    for i in np.flatnonzero(has):
        top, left = rng.integers(0, THUMBNAIL_SIDE - 16, 2)
        made[i, top : top + 16, left : left + 16] = thing
    assert find_fixed_pattern(made, *_halves()) is None
    patches = Patches.of(made, np.random.default_rng(0))
    found = find_repeated_patch(patches, *_halves(), np.random.default_rng(0))
    assert found.excess > 0.7
    assert ((found.distance <= found.threshold) == has).mean() > 0.95


def test_too_few_images_are_no_group(pictures):
    patches = Patches.of(pictures, np.random.default_rng(0))
    assert find_repeated_patch(patches, np.arange(6), np.arange(N, 2 * N), np.random.default_rng(0)) is None
