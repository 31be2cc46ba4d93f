"""ImageNetV2's data-set JSON, which lists the image of each row, and Multilabelfy's label sets for it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError
from manyhot.files import write_text
from manyhot.formats.reading import head, load_json
from manyhot.formats.real import labels_of_sets
from manyhot.formats.writing import Saved, valid_classes
from manyhot.registry import register
from manyhot.tables import Images, Labels


@register(
    "format",
    "imagenetv2",
    holds="images",
    suffixes=(".json",),
    matches=lambda path: '"image_filenames"' in head(path),
)
def read_imagenetv2(path: Path, *, classes: ClassList | None) -> Images:
    """ImageNetV2's data-set JSON. ``image_filenames`` lists (name, WordNet id) pairs in the order of rows.

    Names without suffix, such as the names of ImageNetV2's own images, get the suffix ``.jpeg``, as in
    Multilabelfy and in the released image folders.

    References
    ----------
    Recht et al. 2019, arXiv 1902.10811; modestyachts/ImageNetV2, ``data/datasets``.
    """
    content = load_json(path)
    pairs = content.get("image_filenames") if isinstance(content, dict) else None
    if not isinstance(pairs, list) or not all(map(_is_pair, pairs)):
        raise InputError("The file has no list `image_filenames` of names and WordNet ids.", where=path)
    classes = classes or class_list()
    index = {key: i for i, key in enumerate(classes.keys)}
    strange = [wnid for _, wnid in pairs if wnid not in index]
    if strange:
        raise InputError(
            "A WordNet id is not in the class list.",
            where=path,
            got=strange[0],
            allowed=f"the {len(classes):,} keys of {classes.name}",
        )
    table = {
        "image_id": pa.array([image_id(name) for name, _ in pairs], pa.string()),
        "label": pa.array([index[wnid] for _, wnid in pairs], pa.int32()),
    }
    return Images(pa.table(table), name=path.stem)


def _is_pair(pair: Any) -> bool:
    return type(pair) is list and len(pair) == 2 and type(pair[0]) is type(pair[1]) is str


def image_id(name: str) -> str:
    """Return the base name of an image; a name without suffix gets the suffix ``.jpeg``."""
    if "/" in name or "\\" in name:
        name = name.replace("\\", "/").rpartition("/")[2]
    return name if "." in name else f"{name}.jpeg"


def _matches_multilabelfy(path: Path) -> bool:
    # Lists of names have another format.
    image = r'"[^"]*\.\w+"\s*:\s*\[\s*'
    empty = rf"(?:{image}\]\s*(?:,\s*)?)"
    return re.match(rf'\{{\s*(?:{empty}*{image}"\d+(?:"|$)|{empty}+(?:\}}|$))', head(path)) is not None


@register("format", "multilabelfy", holds="labels", suffixes=(".json",), matches=_matches_multilabelfy)
def read_multilabelfy(path: Path, *, classes: ClassList | None) -> Labels:
    """Multilabelfy's JSON, which maps image names to lists of classes. Classes are written as strings.

    All images were shown to raters, so `rated` is true. The twenty classes shown for each image are not
    recorded.

    References
    ----------
    Anzaku et al. 2023, arXiv 2401.17736.
    """
    sets = load_json(path)
    if not isinstance(sets, dict) or not all(isinstance(s, list) for s in sets.values()):
        raise InputError("The file is not Multilabelfy's mapping of images to lists of classes.", where=path)
    ids = [Path(name).name if "/" in name or "\\" in name else name for name in sets]
    return labels_of_sets(
        ids, list(sets.values()), classes, path, rated=True, method="Multilabelfy", name="Multilabelfy"
    )


@register("writer", "multilabelfy", holds=("labels",), suffixes=(".json",), keeps=())
def write_multilabelfy(labels: Labels, path: Path, classes: ClassList | None) -> Saved:
    """Write the label sets of usable images as Multilabelfy's JSON.

    Classes are written as numbers, as in Multilabelfy. `classes` is not used.
    """
    write_text(path, json.dumps(valid_classes(labels, str), ensure_ascii=False))
    return Saved((path,))
