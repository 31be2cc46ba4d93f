"""Objects are taken out of images, others stay; controls lie elsewhere; what cannot be done is said."""

import importlib.util
import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from manyhot.diagnose.pixels.regions import write_picture
from manyhot.diagnose.pixels.removal import GREY, Removal, filled, fingerprint
from manyhot.tables import Objects, schema

H, W = 20, 30
PERSON, HORSE, CAR = range(3)
GREEN = (10, 200, 30)


def made(*rows, **more):
    """Return objects; a row is image, class, and left, top, right, bottom in pixels."""
    columns = zip(*rows, strict=True)
    image, classes, x1, y1, x2, y2 = ([*c] for c in columns)
    table = {"image_id": image, "class_id": classes, "ignore": [False] * len(rows)}
    for name, values, size in (("x1", x1, W), ("y1", y1, H), ("x2", x2, W), ("y2", y2, H)):
        table[name] = [v / size for v in values]
    columns = [pa.array(table[f.name], f.type) for f in schema("objects") if f.name in table]
    names = [f.name for f in schema("objects") if f.name in table]
    return Objects(pa.table(columns, names=names), ("person", "horse", "car"), "abc", **more)


def png(numbers):
    file = io.BytesIO()
    Image.fromarray(numbers.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def pixels():
    return np.full((H, W, 3), GREEN, np.uint8)


def changed(objects, pixels, companion=PERSON, **options):
    """Return where an image was made grey, or why it was not."""
    options = {"fill": "grey", "control": False, "images": frozenset("a")} | options
    before = pixels.copy()
    found = Removal(objects, companion, **options)("a", pixels)
    assert (pixels == before).all()
    if isinstance(found, str):
        return found
    grey = (found == GREY).all(2)
    assert (found[~grey] == GREEN).all()
    return grey


def area(left, top, right, bottom):
    found = np.zeros((H, W), bool)
    found[top:bottom, left:right] = True
    return found


def test_every_box_of_the_class_is_filled_and_other_objects_stay(pixels):
    objects = made(
        ("a", PERSON, 2, 3, 8, 12),
        ("a", PERSON, 20, 0, 24, 4),
        ("a", HORSE, 6, 8, 16, 18),
        ("b", CAR, 0, 0, 30, 20),
    )
    people = area(2, 3, 8, 12) | area(20, 0, 24, 4)
    assert (changed(objects, pixels) == people & ~area(6, 8, 16, 18)).all()
    assert (changed(objects, pixels, HORSE) == area(6, 8, 16, 18) & ~people).all()


def test_of_masks_the_pixels_of_others_stay_and_the_box_goes(pixels):
    mask = np.zeros((H, W))
    mask[4:10, 4:7] = PERSON + 1
    mask[8:16, 7:15] = HORSE + 1
    objects = made(("a", PERSON, 3, 3, 9, 12), ("a", HORSE, 3, 6, 16, 17), semantic={"a": png(mask)})
    expected = area(3, 3, 9, 12) & ~area(7, 8, 15, 16)
    assert (changed(objects, pixels) == expected).all()


def test_a_box_of_another_does_not_keep_what_a_mask_tells_of_the_class(pixels):
    mask = np.zeros((H, W))
    mask[4:10, 4:8] = PERSON + 1  # and nothing of the car, as VOC leaves out some
    objects = made(("a", PERSON, 3, 3, 9, 12), ("a", CAR, 0, 0, 20, 20), semantic={"a": png(mask)})
    assert (changed(objects, pixels) == area(4, 4, 8, 10)).all()


def test_what_cannot_be_removed(pixels):
    covered = made(("a", PERSON, 2, 2, 12, 12), ("a", HORSE, 0, 4, 30, 20))
    assert changed(covered, pixels) == "hidden by other objects: 80% of the object would remain"
    whole = made(("a", PERSON, 0, 0, 30, 20), ("a", HORSE, 0, 0, 4, 3))
    assert changed(whole, pixels) == "it fills the image: 98% of the image would be covered"
    outside = made(("a", PERSON, 40, 2, 50, 12), ("a", HORSE, 0, 4, 8, 9))
    assert changed(outside, pixels) == (
        "no box in the image: person: the box 1.33, 0.1, 1.67, 0.6 is outside the image"
    )
    assert changed(outside, pixels, CAR) == "no box in the image: car has no object"
    assert changed(made(("b", CAR, 0, 0, 2, 2)), pixels, CAR) == ("no box in the image: car has no object")
    small = made(("a", PERSON, 2, 2, 9, 9), semantic={"a": png(np.zeros((8, 9)))})
    assert changed(small, pixels) == ("masks that do not fit: the mask has 9 × 8 pixels, the image 30 × 20")


def test_half_of_an_object_is_enough(pixels):
    objects = made(("a", PERSON, 0, 0, 10, 10), ("a", HORSE, 0, 5, 10, 20))
    assert (changed(objects, pixels) == area(0, 0, 10, 5)).all()


def test_a_box_that_reaches_beyond_is_cut(pixels):
    assert (changed(made(("a", PERSON, -5, 12, 6, 40)), pixels) == area(0, 12, 6, 20)).all()


def test_a_control_is_as_large_and_lies_beside_objects(pixels):
    objects = made(("a", PERSON, 2, 3, 8, 9), ("a", HORSE, 8, 3, 20, 14))
    for seed in range(20):
        grey = changed(objects, pixels, control=True, seed=seed)
        assert grey.sum() == 36
        assert not (grey & (area(2, 3, 8, 9) | area(8, 3, 20, 14))).any()
    places = {changed(objects, pixels, control=True, seed=seed).tobytes() for seed in range(20)}
    assert len(places) > 5


def test_a_control_is_the_same_each_time_whatever_the_fill(pixels):
    objects = made(("a", PERSON, 2, 3, 8, 9))
    one, same = (changed(objects, pixels, control=True, seed=3) for _ in range(2))
    assert (one == same).all()
    grey = area(0, 0, W, H) & (filled(pixels, one, "grey", ~one) == GREY).all(2)
    assert (grey == one).all()


def test_a_control_that_has_to_touch_another_object_leaves_it(pixels):
    objects = made(("a", PERSON, 0, 0, 30, 8), ("a", HORSE, 0, 16, 30, 20))
    grey = changed(objects, pixels, control=True)
    assert not (grey & area(0, 16, 30, 20)).any()
    assert (grey & ~area(0, 0, 30, 8)).sum() == 240


def test_no_room_for_a_control(pixels):
    objects = made(("a", PERSON, 0, 0, 30, 15))
    assert changed(objects, pixels, control=True) == "no room for a control: objects are everywhere"


def test_inpainting_takes_the_surroundings(pixels, require):
    require(importlib.util.find_spec("cv2"), "OpenCV, of the extra diagnose")
    pixels[5:9, 5:9] = (250, 0, 0)
    objects = made(("a", PERSON, 5, 5, 9, 9))
    found = Removal(objects, PERSON, "inpaint", False, frozenset("a"))("a", pixels)
    assert np.abs(found.astype(int) - GREEN).max() <= 2
    assert (pixels[5:9, 5:9] == (250, 0, 0)).all()


def test_colours_of_objects_do_not_run_into_what_is_inpainted(pixels, require):
    require(importlib.util.find_spec("cv2"), "OpenCV, of the extra diagnose")
    pixels[5:9, 5:9] = (250, 0, 0)
    pixels[5:15, 9:20] = (0, 0, 250)
    before = pixels.copy()
    objects = made(("a", PERSON, 5, 5, 9, 9), ("a", HORSE, 9, 5, 20, 15))
    for control in (False, True):
        found = Removal(objects, PERSON, "inpaint", control, frozenset("a"))("a", pixels)
        assert (found[5:15, 9:20] == before[5:15, 9:20]).all()
        around = np.abs(found.astype(int) - GREEN).max(2)
        around[5:15, 9:20] = 0
        if control:
            around[5:9, 5:9] = 0
        assert around.max() <= 2


def test_only_images_that_are_wanted():
    removal = Removal(made(("a", PERSON, 5, 5, 9, 9)), PERSON, "grey", False, frozenset("a"))
    assert (removal.wants("a"), removal.wants("b")) == (True, False)


def test_keys_differ_where_pixels_do():
    objects = made(("a", PERSON, 5, 5, 9, 9))
    other = made(("a", PERSON, 5, 5, 9, 8))
    masked = made(("a", PERSON, 5, 5, 9, 9), semantic={"a": png(np.zeros((H, W)))})
    known = [fingerprint(o) for o in (objects, other, masked)]
    assert len(set(known)) == 3
    assert fingerprint(made(("a", PERSON, 5, 5, 9, 9))) == known[0]
    options = {"companion": PERSON, "fill": "grey", "control": True, "images": frozenset("ab"), "seed": 0}

    def key(objects_hash=known[0], **changed):
        return Removal(objects, **(options | changed), objects_hash=objects_hash).key

    different = [
        {"companion": HORSE},
        {"fill": "inpaint"},
        {"control": False},
        {"images": frozenset("a")},
        {"seed": 1},
        {"objects_hash": known[1]},
    ]
    assert len({key(), *(key(**d) for d in different)}) == 7
    assert key(control=False, seed=1) == key(control=False, seed=2)  # of removals nothing is drawn


def test_pictures_are_small(tmp_path):
    path = write_picture(tmp_path / "new" / "a.jpg", np.full((400, 800, 3), GREEN, np.uint8))
    with Image.open(path) as image:
        assert (image.format, image.size) == ("JPEG", (320, 160))
        assert np.abs(np.asarray(image, int) - GREEN).max() <= 3
