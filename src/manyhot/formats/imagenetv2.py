"""ImageNetV2's data-set JSON: which image each row of its prediction arrays is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError
from manyhot.formats.json_files import head, load
from manyhot.registry import register
from manyhot.tables import Images


def _matches(path: Path) -> bool:
    return '"image_filenames"' in head(path)


@register("format", "imagenetv2", holds="images", suffixes=(".json",), matches=_matches)
def read_imagenetv2(path: Path, *, classes: ClassList | None) -> Images:
    """ImageNetV2's data-set JSON: ``image_filenames`` lists (name, WordNet id) in the order of rows.

    Bare names, as ImageNetV2's own images have them, get ``.jpeg``, as in Multilabelfy and in the released
    image folders.

    References
    ----------
    Recht et al. 2019, arXiv 1902.10811; modestyachts/ImageNetV2, ``data/datasets``.
    """
    content = load(path)
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
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)


def image_id(name: str) -> str:
    """Return the base name with extension; a bare name gets ``.jpeg``."""
    name = name.replace("\\", "/").rpartition("/")[2]
    return name if "." in name else f"{name}.jpeg"
