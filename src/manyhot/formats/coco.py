"""COCO's instances: boxes and polygons in one JSON file."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from manyhot.classes import ClassList, from_keys
from manyhot.errors import InputError
from manyhot.formats.json_files import head, load
from manyhot.formats.objects import made
from manyhot.registry import register
from manyhot.tables import Objects

_PARTS = ("images", "annotations", "categories")


def _matches(path: Path) -> bool:
    start = head(path)
    return (
        start.startswith("{")
        and re.match(r'\{\s*"(info|licenses|images|annotations|categories)"', start) is not None
    )


@register("format", "coco-instances", holds="objects", suffixes=(".json",), matches=_matches)
def read_coco(path: Path, *, classes: ClassList | None) -> Objects:
    """COCO's ``instances_….json``: boxes, polygons and crowds. A class is the name of its category.

    Masks in run lengths are those of crowds, in COCO itself; of other objects with such masks the box counts.
    """
    content = load(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(p), list) for p in _PARTS):
        raise InputError(
            "The file holds no objects of COCO's form.",
            where=path,
            got=", ".join(content) if isinstance(content, dict) else type(content).__name__,
            allowed=f"an object with the lists {', '.join(_PARTS)}",
        )
    try:
        return _objects(content, classes, path)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            "An entry is not of COCO's form.", where=path, got=f"{type(error).__name__}: {error}"
        ) from error


def _objects(content: dict[str, Any], classes: ClassList | None, path: Path) -> Objects:
    categories = sorted(content["categories"], key=lambda c: int(c["id"]))
    known = classes or from_keys([str(c["name"]) for c in categories], path.stem)
    number = {int(c["id"]): known.index(str(c["name"])) for c in categories}
    images = {int(i["id"]): i for i in content["images"]}
    rows = [_row(a, images[int(a["image_id"])], number) for a in content["annotations"]]
    names = ("image_id", "class_id", "x1", "y1", "x2", "y2", "ignore", "polygons")
    types = (pa.string(), pa.int32(), *[pa.float32()] * 4, pa.bool_(), pa.list_(pa.list_(pa.float32())))
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    arrays = [pa.array(list(c), t) for c, t in zip(columns, types, strict=True)]
    return made(pa.table(arrays, names=list(names)), known, path)


def _row(about: dict[str, Any], image: dict[str, Any], number: dict[int, int]) -> tuple[Any, ...]:
    size = np.array([image["width"], image["height"]], float)
    left, top, width, height = map(float, about["bbox"])
    box = (np.array([left, top, left + width, top + height]) / np.tile(size, 2)).tolist()
    outlines = about.get("segmentation")
    polygons = [_fractions(p, size) for p in outlines] if isinstance(outlines, list) and outlines else None
    name = PurePosixPath(str(image["file_name"])).name
    return (name, number[int(about["category_id"])], *box, bool(about.get("iscrowd")), polygons)


def _fractions(outline: list[float], size: np.ndarray[Any, Any]) -> list[float]:
    flat: list[float] = (np.reshape(np.asarray(outline, float), (-1, 2)) / size).ravel().tolist()
    return flat
