"""``cifar-sets``: compositions of CIFAR-10, with a pair of classes that training images show together."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from PIL import Image

from data_sets.compositions import Composition, Pair, Pixels, compose, generated, states
from data_sets.written import Split, shared, write_seen, write_split
from manyhot.classes import from_keys

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

KNOWN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "horse", "ship")
"""The classes of the data set."""

OTHERS = ("frog", "truck")
"""Pictures of these are in no composition but in those of unknown classes."""

MAIN, COMPANION = "horse", "ship"
"""In training images a horse is seldom without a ship."""

OFTEN = {"train": 0.9, "val": 0.9, "test": 0.5}
"""The share of images with a horse that show a ship, too."""

N = {"train": 4000, "val": 500, "test": 1000, "unknown": 500}
"""Compositions, ``unknown`` of the unknown classes. A tenth of the training pictures is for ``val`` alone."""

_SMOKE = {"train": 48, "val": 24, "test": 48, "unknown": 24}
_SEED = 20_260


CLASSES = from_keys(KNOWN, "cifar-sets")


def make(folder: Path, smoke: bool) -> None:
    """Write the compositions of all splits, and what networks are judged on."""
    for split in ("train", "val", "test"):
        write_split(folder, split, *compositions(split, smoke), CLASSES)
    pictures, label = _pictures("test", smoke)
    others = np.array([CIFAR10.index(key) for key in OTHERS])
    made = _composed(pictures, label, others, "unknown", smoke)
    unknown = {name: m.pixels for name, m in made.items()}
    write_seen(folder, compositions("test", smoke)[0], unknown, smoke)


def compositions(split: str, smoke: bool) -> Split:
    """Return compositions, their labels and what is known of each class."""
    number = np.array([CIFAR10.index(key) for key in KNOWN])
    pair = Pair(CIFAR10.index(MAIN), CIFAR10.index(COMPANION), OFTEN[split])
    made = _composed(*_pictures(split, smoke), number, split, smoke, pair)
    sets = [tuple(int(np.flatnonzero(number == c)[0]) for c in m.classes) for m in made.values()]
    return {name: m.pixels for name, m in made.items()}, [s[0] for s in sets], states(sets, len(KNOWN))


def _composed(
    pictures: Pixels,
    label: npt.NDArray[np.integer],
    classes: npt.NDArray[np.integer],
    split: str,
    smoke: bool,
    pair: Pair | None = None,
) -> dict[str, Composition]:
    n = (_SMOKE if smoke else N)[split]
    rng = np.random.default_rng([_SEED, list(N).index(split)])
    made = compose(pictures, label, classes, n, rng, pair)
    return {f"cifar-{split}-{i:05}": m for i, m in enumerate(made)}


def _pictures(split: str, smoke: bool) -> tuple[Pixels, npt.NDArray[np.integer]]:
    """Return the pictures that a split is composed of, and their classes of CIFAR-10."""
    if smoke:
        return generated(len(CIFAR10), 8, np.random.default_rng(list(N).index(split)))
    table = pq.read_table(shared("cifar10/cifar10_subset.parquet", "12,000 pictures of CIFAR-10"))
    of_test = np.array(table["split"].to_pylist()) == "test"
    tenth = np.cumsum(~of_test) % 10 == 0
    inside = {"train": ~of_test & ~tenth, "val": ~of_test & tenth, "test": of_test}[split]
    rows = np.flatnonzero(inside)
    data = table["jpeg"].take(rows).to_pylist()
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(d)).convert("RGB")) for d in data])
    return pixels, table["label"].to_numpy()[rows]
