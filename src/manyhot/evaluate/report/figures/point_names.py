"""Names of points in a panel: as many as there is room for, none on a mark or on another name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy import typing as npt

from manyhot.evaluate.report.figures.panel import shortened
from manyhot.report.svg import width

NAME_SIZE = 11
"""Size of the letters, in pixels."""


MOST_NAMES = 16
"""Names in a panel; further ones appear on pointing."""


_LETTER = 0.6 * NAME_SIZE
"""Width of a letter that the font's table lacks."""


_LONGEST = 30
"""Letters of a name; longer ones are shortened in the middle."""


_HALF_MARK = 4.0
"""Half the side of the square around a mark in which no text stands."""


_GAPS = (8.0, 13.0)
"""Distances of a name from its point that are tried, in pixels."""


PanelPoint = tuple[float, float]
"""A position in pixels, from the left and from the top."""


def place_names(
    points: Mapping[str, PanelPoint],
    order: Iterable[str],
    lines: Sequence[PanelPoint],
    size: tuple[float, float],
    *,
    own: Mapping[str, PanelPoint] | None = None,
) -> dict[str, tuple[str, PanelPoint]]:
    """Return the names that fit into the panel and their centres; names are placed greedily in `order`.

    Parameters
    ----------
    points : Mapping of str to (float, float)
        The marks, in pixels.
    order : iterable of str
        Names, the most important first.
    lines : sequence of (float, float)
        Further places that names must not cover, such as points along a line.
    size : (float, float)
        Width and height of the panel.
    own : Mapping of str to (float, float)
        Points that already have names beside them.
    """
    taken = np.asfortranarray(np.array([*points.values(), *lines], float).reshape(-1, 2))
    boxes = [_beside_own(name, place, size) for name, place in (own or {}).items()]
    placed: dict[str, tuple[str, PanelPoint]] = {}
    for name in order:
        if len(placed) == MOST_NAMES:
            break
        text = shortened(name, _LONGEST)
        half = (0.5 * _wide(text), 0.62 * NAME_SIZE)
        for middle in _candidates(points[name], half):
            box = _box(middle, half)
            if _fits(box, size) and not _covers(box, taken) and not any(_overlap(box, b) for b in boxes):
                boxes.append(box)
                placed[name] = (text, middle)
                break
    return placed


def _wide(text: str, *, bold: bool = False) -> float:
    return width(text, NAME_SIZE, bold=bold) or _LETTER * len(text)


Box = tuple[float, float, float, float]
"""Left, top, right and bottom."""


def _candidates(point: PanelPoint, half: PanelPoint) -> Iterator[PanelPoint]:
    (x, y), (w, h) = point, half
    for gap in _GAPS:
        yield from ((x + gap + w, y), (x - gap - w, y), (x, y - gap - h), (x, y + gap + h))
        near = 0.7 * gap
        yield from ((x + a * (near + w), y + b * (near + h)) for a in (1, -1) for b in (1, -1))


def _box(middle: PanelPoint, half: PanelPoint) -> Box:
    (x, y), (w, h) = middle, half
    return x - w, y - h, x + w, y + h


def _beside_own(name: str, place: PanelPoint, size: tuple[float, float]) -> Box:
    wide = 12 / NAME_SIZE * _wide(name, bold=True) + 8
    right = place[0] <= size[0] / 2
    middle = place[0] + (wide / 2 if right else -wide / 2)
    return _box((middle, place[1]), (wide / 2, 8.0))


def _fits(box: Box, size: tuple[float, float]) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= size[0] and box[3] <= size[1]


def _covers(box: Box, marks: npt.NDArray[np.float64]) -> bool:
    # Comparisons of whole columns take a fifth of the time of reducing pairs of numbers.
    x, y = marks[:, 0], marks[:, 1]
    across = (x > box[0] - _HALF_MARK) & (x < box[2] + _HALF_MARK)
    return bool((across & (y > box[1] - _HALF_MARK) & (y < box[3] + _HALF_MARK)).any())


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
