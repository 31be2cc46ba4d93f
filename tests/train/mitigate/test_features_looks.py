"""Companions of whole images: their look is given to other images, and taken away."""

import os
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

import tinted
from manyhot import tables
from manyhot.classes import from_keys
from manyhot.train.mitigate.features import Look, LookChange
from manyhot.train.mitigate.mitigate import mitigate


def photos(n, seed, shape=(48, 64)):
    """Smooth noise with a spectrum like that of photographs: amplitudes fall with the frequency."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        noise = sum(
            s * 30 * gaussian_filter(rng.normal(0, 1, (*shape, 3)), (s, s, 0), mode="reflect")
            for s in (1, 2, 4, 8)
        )
        yield (128 + noise).clip(0, 255).astype(np.uint8)


def looks(change, n=40):
    """The average look of some images, and of others after a change."""
    return Look.of(photos(n, 0)), Look.of(change(image) for image in photos(n, 1))


def test_a_tint_is_the_affine_map_that_was_planted():
    """Of the same images, a x + b has a times each amplitude, so that the change is this map itself."""
    a, b = np.array([0.65, 0.65, 0.65]), np.array([14.0, 21.0, 80.0])
    images = [*photos(10, 2)]
    before = Look.of(images)
    after = Look(a * before.mean + b, before.amplitude + np.log(a))
    for image in images:
        expected = image * a + b
        assert np.abs(LookChange(before, after, frozenset())("", image) - expected).max() <= 0.51
    back = LookChange(after, before, frozenset())
    made = np.rint(images[0] * a + b).astype(np.uint8)
    assert np.abs(back("", made).astype(float) - images[0]).max() <= 2


def test_the_mean_changes_as_the_lowest_frequencies_do():
    """Of 40 × 44 pixels, the second frequency of a row is not within the lowest band."""
    image = 96 + next(photos(1, 2, (40, 44))) // 4
    look, lowest = Look.of([image]), np.arange(22)[:, None] == 0
    before, after = Look(look.mean - 5, look.amplitude), Look(look.mean, look.amplitude + lowest * np.log(2))
    made = LookChange(before, after, frozenset())("", image)
    np.testing.assert_allclose(made.mean((0, 1)), image.mean((0, 1)) + 2 * 5, atol=0.1)


def test_a_blur_is_found_from_other_images():
    """SciPy's blur, which looks beyond the border as in a mirror, as cosine transforms do."""

    def blurred(image):
        return np.rint(gaussian_filter(image.astype(float), (2, 2, 0), mode="reflect")).astype(np.uint8)

    before, after = looks(blurred)
    for image in photos(3, 3, (60, 50)):
        made = LookChange(before, after, frozenset())("", image).astype(float)
        made -= made.mean((0, 1))
        expected = gaussian_filter(image.astype(float), (2, 2, 0), mode="reflect")
        expected -= expected.mean((0, 1))
        plain = image - image.mean((0, 1))
        # Images are 60 pixels high instead of 48, and the blur is in proportion.
        assert np.abs(made - expected).mean() < 0.4 * np.abs(plain - expected).mean()


def test_what_a_blur_removed_is_not_amplified_without_end():
    before, after = looks(lambda image: np.full_like(image, 128))
    made = LookChange(after, before, frozenset())("", next(photos(1, 4)))
    assert made.std() < 256  # amplitudes would be multiplied by thousands
    assert LookChange(before, after, frozenset("ab")).key != LookChange(before, after, frozenset("b")).key
    assert LookChange(before, after, frozenset("ab")).wants("a")


CLASSES = from_keys(("red", "green", "blue", "bright"), "bright")
BRIGHT = 3


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Nine in ten red images to fit on are bright, and half of the images held out."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("bright"))
    Path("photos").mkdir()
    rng, n = np.random.default_rng(0), 600
    label, held = np.arange(n) % 3, np.arange(n) >= n // 2
    bright = rng.random(n) < np.where(held, 0.5, 0.9 * (label == 0))
    ids, state = [f"{i:04}.png" for i in range(n)], np.full((n, 4), "no", object)
    for i, name in enumerate(ids):
        pixels = rng.normal(110, 30, (32, 32, 3))
        pixels[..., label[i]] += rng.normal(20, 8)
        pixels = pixels + 40 if bright[i] else pixels
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(f"photos/{name}")
    state[np.arange(n), label] = state[bright, BRIGHT] = "yes"
    known = {"image_id": ids, "label": pa.array(label, pa.int32()), "rated": [True] * n, "usable": [True] * n}
    known |= {"classes": [list(range(4))] * n, "state": state.tolist()}
    tables.write_labels(tables.Labels(pa.table(known), 4, CLASSES.hash, True, "bright"), "labels.parquet")
    boxes = [[name, "bright", 0.0, 0.0, 1.0, 1.0] for name, there in zip(ids, bright, strict=True) if there]
    pl.DataFrame(boxes, ["image_id", "class", "x1", "y1", "x2", "y2"], orient="row").write_csv("boxes.csv")
    pl.DataFrame({"image_id": ids, "split": np.where(held, "test", "train")}).write_csv("split.csv")
    Path("classes.txt").write_text("\n".join(CLASSES.keys) + "\n")
    Path("backbones.py").write_text(tinted.BACKBONE)
    yield
    os.chdir(before)
    sys.modules.pop("backbones", None)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_companion_of_the_whole_image_is_treated(place):
    """There is nothing to cut out, but the dependence falls, judged by original images alone."""
    found = mitigate(
        "photos",
        "boxes.csv",
        out="out",
        model="python:backbones:colours",
        pairs=["red:bright"],
        labels="labels.parquet",
        classes="classes.txt",
        split="split.csv",
        losses=["softmax"],
        engine="torch",
        resamples=0,
    )
    rows = {(r["treatment"], r["metric"]): r["value"] for r in found.mitigation.to_pylist()}
    assert rows["none", "called_with"] > rows["none", "called_without"] + 0.3
    left = rows["uncapped augmentation", "hallucination_gap"]
    assert abs(left) < rows["none", "hallucination_gap"] / 2
    assert rows["uncapped augmentation", "top1"] > rows["none", "top1"] - 0.03
    assert not {"lost", "lost_fitted", "pasted_gap"} & {metric for _, metric in rows}
