"""Where objects are: masks, else polygons, else boxes; and what is wrong with them."""

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from manyhot.diagnose.pixels.regions import find_regions
from manyhot.tables import Objects, check

WIDTH, HEIGHT = 8, 4


def png(values, mode=None):
    out = io.BytesIO()
    Image.fromarray(np.asarray(values, np.uint8), mode).save(out, "png")
    return out.getvalue()


def objects(*rows, semantic=None):
    """Rows: class, box in pixels, and more columns."""
    table = pa.table(
        {
            "image_id": pa.array(["a"] * len(rows)),
            "class_id": pa.array([r[0] for r in rows], pa.int32()),
            **{
                name: pa.array([r[1][i] / (WIDTH, HEIGHT)[i % 2] for r in rows], pa.float32())
                for i, name in enumerate(("x1", "y1", "x2", "y2"))
            },
            "ignore": [bool(r[2].get("ignore")) for r in rows],
            "polygons": pa.array([r[2].get("polygons") for r in rows], pa.list_(pa.list_(pa.float32()))),
            "mask": pa.array([r[2].get("mask") for r in rows], pa.binary()),
        }
    )
    return Objects(
        check(table, "objects"), ("dog", "sofa"), semantic={} if semantic is None else {"a": semantic}
    )


def found(*rows, semantic=None):
    return find_regions(objects(*rows, semantic=semantic), "a", WIDTH, HEIGHT)


def picture(mask):
    return ["".join(".#"[v] for v in row) for row in mask.astype(int)]


def test_boxes():
    regions = found((0, (1, 1, 3, 3), {}), (1, (2, 0, 8, 4), {"ignore": True}))
    assert picture(regions.of(0)) == ["........", ".##.....", ".##.....", "........"]
    assert picture(regions.beside(0)) == ["..######"] * 4
    assert [(r.box, r.known_by, r.ignore) for r in regions.objects] == [
        ((1, 1, 3, 3), "box", False),
        ((2, 0, 8, 4), "box", True),
    ]


def test_polygons_cover_what_lies_at_least_half_within():
    square = [x / s for x, s in zip((1, 1, 3, 1, 3, 3, 1, 3), (WIDTH, HEIGHT) * 4, strict=True)]
    regions = found((0, (1, 1, 3, 3), {"polygons": [square]}))
    assert picture(regions.of(0)) == ["........", ".##.....", ".##.....", "........"]
    assert regions.objects[0].known_by == "polygons"
    triangle = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    area = found((0, (0, 0, 8, 4), {"polygons": [triangle]})).of(0).sum()
    assert abs(area - WIDTH * HEIGHT / 2) <= 4


def test_masks_of_objects_and_of_classes():
    own = np.zeros((HEIGHT, WIDTH))
    own[0, :2] = 255
    regions = found((0, (0, 0, 2, 2), {"mask": png(own)}))
    assert picture(regions.of(0)) == ["##......", "........", "........", "........"]
    semantic = np.zeros((HEIGHT, WIDTH))
    semantic[:, 4:] = 1  # dog
    semantic[:, :4] = 2  # sofa
    semantic[3] = 255
    regions = found((0, (3, 0, 6, 4), {}), (1, (0, 0, 2, 4), {}), semantic=png(semantic))
    assert picture(regions.of(0)) == ["....##..", "....##..", "....##..", "........"]
    assert picture(regions.boxes_of(0)) == ["...###.."] * 4
    assert picture(regions.of(1)) == ["##......", "##......", "##......", "........"]


def test_numbers_of_a_palette_count_and_not_its_colours():
    image = Image.fromarray(np.ones((HEIGHT, WIDTH), np.uint8))
    image.putpalette([0, 0, 0, 200, 100, 50] + [0] * 762)
    out = io.BytesIO()
    image.save(out, "png")
    assert found((0, (0, 0, 8, 4), {}), semantic=out.getvalue()).of(0).all()


def test_an_object_that_the_mask_leaves_out_is_its_box():
    regions = found((0, (1, 1, 3, 3), {}), semantic=png(np.zeros((HEIGHT, WIDTH))))
    assert [(r.known_by, int(r.mask.sum())) for r in regions.objects] == [("box", 4)]


def test_boxes_beyond_the_image_are_cut_or_skipped():
    regions = found(
        (0, (-4, -4, 2, 2), {}),
        (0, (9, 0, 12, 4), {}),
        (1, (3, 2, 3, 4), {}),
        (1, (float("nan"), 0, 3, 4), {}),
    )
    assert [r.box for r in regions.objects] == [(0, 0, 2, 2)]
    assert regions.skipped == (
        "dog: the box 1.12, 0, 1.5, 1 is outside the image",
        "sofa: the box 0.375, 0.5, 0.375, 1 is empty",
        "sofa: the box nan, 0, 0.375, 1 is empty",
    )


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (png(np.zeros((3, 8))), "the mask has 8 × 3 pixels, the image 8 × 4"),
        (png(np.zeros((4, 8, 3))), "the mask contains colours instead of class numbers"),
        (b"no picture", "the mask cannot be decoded"),
        (png(np.zeros((HEIGHT, WIDTH)))[:40], "the mask cannot be decoded"),
    ],
)
def test_masks_that_do_not_fit(mask, reason):
    assert found((0, (0, 0, 2, 2), {}), semantic=mask) == reason
    assert found((0, (0, 0, 2, 2), {"mask": mask})) == reason


def test_a_mask_that_is_gone(tmp_path):
    assert found((0, (0, 0, 2, 2), {}), semantic=tmp_path / "x.png") == (
        "the mask cannot be read: No such file or directory"
    )


def test_an_image_without_objects():
    assert find_regions(objects((0, (0, 0, 1, 1), {})), "b", WIDTH, HEIGHT).objects == ()
