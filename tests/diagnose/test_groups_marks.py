"""Tags that go with a class, on photographs of two shapes: what is found, and what a model makes of them."""

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from manyhot import Predictions, Reading, diagnose_groups
from manyhot.tables import Images

N, CLASSES = 420, ("cat", "dog", "cow")
IDS = [f"{i:03}.png" for i in range(N)]
LABEL = np.arange(N) % 3
PORTRAIT = np.random.default_rng(3).random(N) < 0.35
DRAW = np.random.default_rng(4).random(N)
RIGHT, BOTTOM, WIDE, HIGH = 6, 5, 30, 22
"""Pixels between a tag and the sides, and its size, in all photographs."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Return photographs of 120 by 90 or 90 by 120 pixels, without tags."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (N, 5, 6, 3), dtype=np.uint8)
    shapes = [(90, 120) if tall else (120, 90) for tall in PORTRAIT]
    made = []
    for picture, shape in zip(small, shapes, strict=True):
        pixels = np.array(Image.fromarray(picture).resize(shape, Image.Resampling.BICUBIC))
        noise = rng.uniform(3, 40) * rng.standard_normal(pixels.shape)  # else all with a tag are less sharp
        made.append((pixels + noise).clip(0, 255).astype(np.uint8))
    return made


def images_with(tagged, pictures, folder):
    for name, pixels, has in zip(IDS, pictures, tagged, strict=True):
        made = pixels.copy()
        if has:
            made[-BOTTOM - HIGH : -BOTTOM, -RIGHT - WIDE : -RIGHT] = (250, 210, 0)
        Image.fromarray(made).save(folder / name)
    uris = [str(folder / name) for name in IDS]
    return Images(pa.table({"image_id": IDS, "uri": uris, "label": pa.array(LABEL, pa.int32())}))


def ask(images, predicted=None):
    reading = Reading(images=images, classes=CLASSES)
    if predicted is None:
        return diagnose_groups(images, reading=reading, permutations=200)
    scores = np.full((N, 3), 0.02, np.float32)
    scores[np.arange(N), predicted] = 0.96
    given = Predictions(pa.array(IDS), "net", scores=scores, score_kind="probability", n_classes=3)
    return diagnose_groups(images, [given], reading=reading, permutations=200)


def tagged_with(share_of_others):
    return np.where(LABEL == 1, 0.9, share_of_others) > DRAW


def test_a_tag_at_a_distance_in_pixels_is_found_on_photographs_of_both_shapes(pictures, tmp_path):
    tagged = tagged_with(0.1)
    found = ask(images_with(tagged, pictures, tmp_path))
    name = "yellow tag in the bottom right corner"
    (first,) = [r for r in found.groups.to_pylist() if (r["name"], r["class_name"]) == (name, "dog")]
    assert first["n_other"] == (tagged & (LABEL != 1)).sum()
    has = np.array([name in groups for groups in found.images["groups"].to_pylist()])
    np.testing.assert_array_equal(has, tagged)
    n, events = first["n"], first["events"]
    assert first["sentence"].startswith(
        f"A {name} was found on {events} of the {n} images of dog that were counted ("
    )
    boxes = found.marks.objects.table.to_pylist()
    for at, box in zip(np.flatnonzero(tagged), boxes, strict=True):
        width, height = (90, 120) if PORTRAIT[at] else (120, 90)
        pixels = [box["x1"] * width, box["y1"] * height, box["x2"] * width, box["y2"] * height]
        drawn = [width - RIGHT - WIDE, height - BOTTOM - HIGH, width - RIGHT, height - BOTTOM]
        np.testing.assert_allclose(pixels, drawn, atol=2 * 120 / 48)


def test_where_half_of_the_photographs_have_each_shape_the_corner_is_aligned(pictures, tmp_path):
    """At the same part of the image, too few photographs agree."""
    tagged = tagged_with(0.1)
    tagged &= ~((LABEL == 1) & ~PORTRAIT) | (np.arange(N) % 2 == 0)  # as many tall dogs as wide ones
    found = ask(images_with(tagged, pictures, tmp_path))
    names = {row["name"] for row in found.groups.to_pylist()}
    assert any(name.endswith("tag in the bottom right corner") for name in names)


def test_what_images_of_other_classes_with_the_tag_are_called_comes_first(pictures, tmp_path):
    """49 of them have the tag, too few in the half that is not searched; none need to be dogs without it."""
    tagged = tagged_with(0.15)
    others = LABEL != 1
    called = others & (np.random.default_rng(5).random(N) < np.where(tagged, 0.3, 0.01))
    predicted = np.where(called, 1, LABEL)
    found = ask(images_with(tagged, pictures, tmp_path), predicted)
    first = found.groups.to_pylist()[0]
    n, n_outside = int((tagged & others).sum()), int((~tagged & others).sum())
    assert n < 50
    assert (first["outcome"], first["class_name"], first["kind"]) == ("called", "dog", "mark")
    assert (first["n"], first["events"]) == (n, (called & tagged).sum())
    assert (first["n_outside"], first["events_outside"]) == (n_outside, (called & ~tagged).sum())
    share, outside = (100 * called[others & g].mean() for g in (tagged, ~tagged))
    assert next(found.lines()).startswith(
        f"Images of other classes with a yellow tag in the bottom right corner: {share:.0f} % of {n} are "
        f"predicted as dog, compared with {outside:.0f} % of the rest."
    )
    examples = [r for r in found.group_examples.to_pylist() if r["group"] == 1]
    assert [r["event"] for r in examples] == [called[IDS.index(r["image_id"])] for r in examples]
    assert not any("cannot be tested" in line for line in found.lines())


def test_a_model_that_ignores_the_tag_is_not_blamed(pictures, tmp_path):
    tagged = tagged_with(0.15)
    images = images_with(tagged, pictures, tmp_path)
    for seed in range(10, 18):
        called = (LABEL != 1) & (np.random.default_rng(seed).random(N) < 0.1)
        found = ask(images, np.where(called, 1, LABEL))
        assert not [r for r in found.groups.to_pylist() if r["model"] and r["kind"] == "mark"]


def test_too_few_images_of_other_classes_are_counted_and_the_way_out_is_named(pictures, tmp_path):
    tagged = tagged_with(0.05)
    n = int((tagged & (LABEL != 1)).sum())
    assert n < 25
    found = ask(images_with(tagged, pictures, tmp_path), LABEL)
    (line,) = [line for line in found.lines() if "cannot be tested" in line]
    assert line.startswith("For ")
    assert " of these properties, it cannot be tested whether a model predicts the class because of" in line
    assert ", since fewer than 25 images of other classes have it: " in line
    assert f"yellow tag in the bottom right corner (dog, {n})" in line
    assert line.endswith(
        ". Add such images, or paste the mark into images with manyhot mitigate, as in the command below."
    )


def test_a_tag_comes_before_the_contrast_that_it_causes(tmp_path):
    """The tag is tested on half of the images, its contrast on all."""
    rng, n, side = np.random.default_rng(3), 400, 64
    valid = rng.random(n) < 0.3
    tagged = rng.random(n) < np.where(valid, 0.9, 0.1)
    for i in range(n):
        pixels = rng.normal(90, 12, (side, side))
        if tagged[i]:
            pixels[2:9, 2:9] = 250
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{i}.png")
    ids = [f"{i}.png" for i in range(n)]
    images = Images(pa.table({"image_id": ids, "uri": [str(tmp_path / name) for name in ids]}))
    rows = [f"{name},{int(v)},{int(rng.random() < 0.5)}" for name, v in zip(ids, valid, strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(["image_id,nodule,mass", *rows]))
    found = diagnose_groups(tmp_path / "labels.csv", reading=Reading(images=images), permutations=200)
    first, *_ = found.groups.to_pylist()
    assert (first["kind"], first["name"]) == ("mark", "tag in the top left corner")
    assert "contrast" in " ".join(first["also"])
    boxes = found.marks.objects.table.to_pylist()
    assert [box["image_id"] for box in boxes] == [ids[i] for i in np.flatnonzero(tagged)]
    edges = np.array([[box[name] for name in ("x1", "y1", "x2", "y2")] for box in boxes])
    np.testing.assert_allclose(edges * side, [[2, 2, 9, 9]] * len(boxes), atol=2 * side / 48)
    assert any("manyhot mitigate" in line and "nodule:tag" in line for line in found.lines())
