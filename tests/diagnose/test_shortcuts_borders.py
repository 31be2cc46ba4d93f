"""Companions that leave no room for a control, or are several objects: frames, bands, backgrounds, flocks."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from manyhot.diagnose.shortcuts import diagnose_shortcuts

SIZE, GREEN, RED = 24, (20, 230, 20), (230, 20, 20)

MODEL = """
import numpy as np
from manyhot.classes import from_keys
from manyhot.predict.network import Network, Preprocessing

def lazy():
    "Calls a dog what has any green."
    seen = Preprocessing((24, 24), (24, 24), mean=(0.0,) * 3, std=(1.0,) * 3)
    def forward(images):
        green = ((images[:, 1] > 180) & (images[:, 0] < 90)).any((1, 2))
        return np.stack([green, ~green], 1) * 0.8 + np.float32(0.1)
    return Network("lazy", from_keys(("dog", "cat")), seen, forward=forward, score_kind="probability")
"""

KINDS = {
    "frame": [(0, 0, 24, 3), (0, 21, 24, 24), (0, 0, 3, 24), (21, 0, 24, 24)],
    "border": [(0, 0, 24, 4)],
    "band": [(0, 18, 24, 22)],
    "background": [(0, 0, 24, 24)],
    "flock": [(0, 0, 4, 4), (20, 0, 24, 4), (0, 20, 4, 24)],
}
MARKS = {
    # There is room for a second border or band. Objects in three corners are shifted together, if at all.
    "frame": "lost, no control possible",
    "border": "lost",
    "band": "lost",
    "background": "lost, no control possible",
    "flock": "lost, no control possible",
}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("model_of_borders.py").write_text(MODEL)


def draw(boxes):
    """Draw 15 dogs with the companion, 15 without, 15 cats with it and 15 without."""
    Path("photos").mkdir()
    rows, rng = [], np.random.default_rng(0)
    for i in range(60):
        pixels = rng.integers(90, 120, (SIZE, SIZE, 3)).astype(np.uint8)
        name = f"{i:02}.png"
        if i % 30 < 15:
            for left, top, right, bottom in boxes:
                pixels[top:bottom, left:right] = GREEN
                rows.append([name, "companion", *(v / SIZE for v in (left, top, right, bottom))])
        pixels[9:15, 9:15] = RED
        rows.append([name, "dog" if i < 30 else "cat", *[v / SIZE for v in (9, 9, 15, 15)]])
        Image.fromarray(pixels).save(Path("photos") / name)
    columns = ["image_id", "class", "x1", "y1", "x2", "y2"]
    pl.DataFrame(rows, columns, orient="row").write_csv("objects.csv")


def diagnose(**options):
    found = diagnose_shortcuts(
        "photos",
        objects="objects.csv",
        model="python:model_of_borders:lazy",
        engine="torch",
        resamples=0,
        min_images=10,
        **options,
    )
    return found, {
        (r["main_name"], r["fill"]): r
        for r in found.shortcuts.to_pylist()
        if r["companion_name"] == "companion"
    }


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_marked(kind):
    draw(KINDS[kind])
    found, rows = diagnose(fill=["grey"])
    dog = rows["dog", "grey"]
    assert (dog["n"], dog["lost"], dog["mark"]) == (15, 1.0, MARKS[kind])
    assert (dog["recall_gap"], dog["hallucination_gap"]) == (1.0, 1.0)
    assert next(found.lines()) == "Marked as shortcuts: 1 of 2 pairs."
    assert rows["cat", "grey"]["mark"] is None
    assert not any("cannot be tested" in line for line in found.lines())


def test_one_that_cannot_be_removed_is_marked_by_its_gaps():
    """Without boxes of the classes, a companion of the whole image would take all of it away."""
    draw(KINDS["background"])
    objects = pl.read_csv("objects.csv")
    whole = objects.with_columns(x1=0.0, y1=0.0, x2=1.0, y2=1.0)
    whole.write_csv("objects.csv")
    found, rows = diagnose(fill=["grey"])
    dog = rows["dog", "grey"]
    assert dog["skipped"] == "fewer than 10 images could be altered"
    assert (dog["lost"], dog["mark"]) == (None, "both gaps")
    assert list(found.lines())[1].startswith("dog and companion: recall is 100 points (")
