"""Pictures composed of several small ones, so that the label set of each is exactly known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

SIDE = 64
"""Of a composition, in pixels."""

SIZES = {1: 5083, 2: 2385, 3: 1306, 4: 1097}
"""Images of ImageNetV2 with one label, two, three, and four or more (Multilabelfy, Anzaku et al. 2024)."""

_ALONE = (28, 60)
_MAIN = (26, 33)
_OTHERS = (14, 26)
# Pixels of an object that is alone, of the largest, and of others; each has a quarter of the canvas.


@dataclass(frozen=True)
class Pair:
    """A class that comes with a companion more often than chance.

    Attributes
    ----------
    main, companion : int
    often : float
        The share of images with the main class that the companion is in.
    """

    main: int
    companion: int
    often: float


@dataclass(frozen=True, eq=False)
class Composition:
    """A picture and what was pasted.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (64, 64, 3)
    classes : tuple of int
        The classes of the pasted pictures, that of the largest first; all differ.
    used : tuple of int
        The pictures themselves, by their number.
    """

    pixels: Pixels
    classes: tuple[int, ...]
    used: tuple[int, ...]


def compose(
    pictures: Pixels,
    label: npt.NDArray[np.integer],
    classes: npt.NDArray[np.integer],
    n: int,
    rng: np.random.Generator,
    pair: Pair | None = None,
) -> Iterator[Composition]:
    """Yield n compositions.

    How many objects there are is drawn from `SIZES`; which classes, without repetition, from `classes`. The
    pictures of a class come in an order drawn by chance, and begin anew when all were used.

    Parameters
    ----------
    pictures : ndarray of uint8, shape (m, 32, 32, 3)
    label : ndarray of int, shape (m,)
    classes : ndarray of int
        Those that are pasted.
    n : int
    rng : Generator
    pair : Pair, optional
    """
    next_of = {c: _cycle(np.flatnonzero(label == c), rng) for c in classes.tolist()}
    for _ in range(n):
        chosen = _classes(classes, rng, pair)
        used = tuple(next(next_of[c]) for c in chosen)
        yield Composition(_canvas(pictures[list(used)], rng), chosen, used)


def _cycle(rows: npt.NDArray[np.intp], rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from rng.permutation(rows).tolist()


def _classes(
    classes: npt.NDArray[np.integer], rng: np.random.Generator, pair: Pair | None
) -> tuple[int, ...]:
    """Draw the classes of an image, in the order of the size that they will have."""
    counts = np.array(list(SIZES.values()))
    k = int(rng.choice(list(SIZES), p=counts / counts.sum()))
    drawn = rng.choice(classes, min(k, len(classes)), replace=False).tolist()
    if pair is not None and pair.main in drawn:
        others = [c for c in drawn if c not in (pair.main, pair.companion)]
        if rng.random() < pair.often:
            drawn = [pair.main, pair.companion, *others[: max(k - 2, 0)]]
        else:
            drawn = [pair.main, *others]
        drawn = rng.permutation(drawn).tolist()
    return tuple(drawn)


def _canvas(objects: Pixels, rng: np.random.Generator) -> Pixels:
    """Paste objects of falling size onto a noisy background, none over another."""
    canvas = rng.normal(rng.uniform(40, 215, 3), 12, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
    if len(objects) == 1:
        side = int(rng.integers(*_ALONE))
        x, y = rng.integers(0, SIDE - side + 1, 2)
        canvas[y : y + side, x : x + side] = _scaled(objects[0], side)
        return canvas
    half = SIDE // 2
    quarters = rng.permutation(4)[: len(objects)]
    # Sizes are distinct, so that one object is the largest.
    smaller = rng.choice(np.arange(*_OTHERS), len(objects) - 1, replace=False)
    sides = [int(rng.integers(*_MAIN)), *sorted(smaller.tolist(), reverse=True)]
    for pixels, side, quarter in zip(objects, sides, quarters.tolist(), strict=True):
        x, y = rng.integers(0, half - side + 1, 2) + half * np.array([quarter % 2, quarter // 2])
        canvas[y : y + side, x : x + side] = _scaled(pixels, side)
    return canvas


def _scaled(pixels: Pixels, side: int) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))


def states(sets: list[tuple[int, ...]], n_classes: int) -> list[list[str]]:
    """Return what is known of each class of each image."""
    return [["yes" if c in s else "no" for c in range(n_classes)] for s in sets]


def generated(n_classes: int, each: int, rng: np.random.Generator) -> tuple[Pixels, npt.NDArray[np.integer]]:
    """Return small pictures that a machine without any can learn: a colour and a stripe a class.

    Returns
    -------
    ndarray of uint8, shape (n_classes * each, 32, 32, 3)
    ndarray of int, shape (n_classes * each,)
    """
    label = np.repeat(np.arange(n_classes), each)
    colour = np.random.default_rng(0).uniform(0, 255, (n_classes, 3))
    pixels = colour[label][:, None, None] + rng.normal(0, 20, (len(label), 32, 32, 3))
    for row, c in enumerate(label):
        pixels[row, 2 + 3 * (c % 9)] = 255 - colour[c]
    return pixels.clip(0, 255).astype(np.uint8), label
