"""FiftyOne's ``FiftyOneImageClassificationDataset``: label sets as ``Classifications``."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError, MatchError
from manyhot.files import write_text
from manyhot.formats.class_names import classes_of_names
from manyhot.formats.image_paths import located_ids, paths_of
from manyhot.formats.reading import UNLISTED, constant, cut_for_message, head, load_json, with_unlisted
from manyhot.formats.writing import (
    Saved,
    classes_of_table,
    lists_of,
    lost_keys,
    unique_names,
    usable,
    with_state,
)
from manyhot.parameters import check_share, is_whole
from manyhot.registry import register
from manyhot.tables import Labels
from manyhot.tables.own_classes import own_list
from manyhot.tables.state_lists import ragged

_START = re.compile(r'\{\s*("classes"\s*:\s*(null\s*,\s*"labels"|\[\s*")|"labels"\s*:\s*\{)')


@register(
    "format", "fiftyone", holds="labels", suffixes=(".json",), matches=lambda p: bool(_START.match(head(p)))
)
def read_fiftyone(
    path: Path, *, classes: ClassList | None, suffix: str = "", unlisted: str = UNLISTED[0]
) -> Labels:
    """The ``labels.json`` of a FiftyOne classification data set: a label, a list of labels or null per image.

    `p` is the confidence. An image whose entry is null is not usable.

    Parameters
    ----------
    suffix : str
        Suffix to add to names that are not paths, as in ``fiftyone(suffix='.JPEG')``. FiftyOne drops the
        suffix of images in its folder ``data``.
    unlisted : {"not asked", "no"}
        The state of classes that an image does not list. ``unlisted='no'`` declares that each image lists all
        of its classes.

    Notes
    -----
    The file is read as the importer of fiftyone 1.22.1 (``fiftyone/utils/data``) reads it. Attributes of a
    label are ignored.

    References
    ----------
    https://docs.voxel51.com/user_guide/import_datasets.html#fiftyoneimageclassificationdataset
    """
    names, targets = _content(path)
    asked = [_targets(target, names, f"{path}, image {image}") for image, target in targets.items()]
    all_pairs = [pair for pairs in asked for pair in pairs or ()]
    texts = names or list(dict.fromkeys(text for text, _ in all_pairs))
    own, position = classes_of_names(texts, classes, path) if texts else (classes or class_list(), None)
    place = {text: i for i, text in enumerate(texts)}
    flat = [] if position is None else position[[place[text] for text, _ in all_pairs]].tolist()
    lengths = [len(pairs or ()) for pairs in asked]
    full = [key if Path(key).is_absolute() else f"{key}{suffix}" for key in targets]
    columns = {
        "image_id": located_ids(pa.array(full, pa.string()), path),
        "usable": pa.array([pairs is not None for pairs in asked]),
        "classes": ragged(lengths, pa.array(flat, pa.int32())),
        "state": ragged(lengths, constant("yes", len(flat), pa.string())),
        "method": constant("FiftyOne", len(asked), pa.string()),
    }
    p = [p for _, p in all_pairs]
    if not all(map(math.isnan, p)):
        columns["p"] = ragged(lengths, pa.array(p, pa.float32()))
    listed = None if classes is not None else own_list(replace(own, is_complete=bool(names)))
    labels = Labels(
        pa.table(columns), len(own), own.hash, asked_known=False, name=path.stem, class_list=listed
    )
    return with_unlisted(labels, unlisted, path)


def _content(path: Path) -> tuple[list[str], dict[str, Any]]:
    content = load_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        raise InputError(
            "The file is not a FiftyOne classification data set.",
            where=path,
            allowed="an object in which 'labels' is an object, and 'classes' a list of names or null",
        )
    names = content.get("classes") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError("The classes are not a list of names.", where=f"{path}, classes")
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise InputError(
            "A class is listed twice.", where=f"{path}, classes", got=cut_for_message(repr(twice))
        )
    return names, content["labels"]


def _targets(target: Any, names: list[str], where: str) -> list[tuple[str, float]] | None:
    """Return the name and the p of each label of an image; None for an image without a target."""
    if target is None:
        return None
    return [_target(one, names, where) for one in (target if isinstance(target, list) else [target])]


def _target(one: Any, names: list[str], where: str) -> tuple[str, float]:
    label, p = (one.get("label"), one.get("confidence")) if isinstance(one, dict) else (one, None)
    if is_whole(label) and 0 <= label < len(names):
        label = names[label]
    if not isinstance(label, str) or (names and label not in names):
        allowed = f"0 to {len(names) - 1}, or one of the names in 'classes'" if names else "a name"
        raise InputError(
            "This is not a class.", where=where, got=cut_for_message(repr(label)), allowed=allowed
        )
    if p is None:
        return label, math.nan
    got = cut_for_message(repr(p))
    check_share(p, "This is not a confidence.", zero=True, where=where, got=got, allowed="0 to 1")
    return label, float(p)


@register(
    "writer",
    "fiftyone",
    holds=("labels",),
    suffixes=(".json",),
    keeps=("unusable images", "p"),
    addresses=True,
)
def write_fiftyone(
    labels: Labels,
    path: Path,
    classes: ClassList | None,
    places: Mapping[str, str],
    *,
    folder: str = "",
) -> Saved:
    """Write label sets as ``labels.json`` of a FiftyOne classification data set.

    Each image has a list of labels, which FiftyOne imports as ``Classifications``. If `p` is known, it is
    written as `confidence`. For images that are not usable, null is written. To import the file::

        fo.Dataset.from_dir(
            data_path="/data/val",
            labels_path="labels.json",
            dataset_type=fo.types.FiftyOneImageClassificationDataset,
        )

    Parameters
    ----------
    folder : str
        Absolute path of the folder with the images, written before each image name. Without it, names are
        written without suffix, as FiftyOne requires.

    Raises
    ------
    InputError
        If the class list is unknown, or `folder` is not an absolute path.
    MatchError
        If the names of two images differ only in their suffix and `folder` is not set.
    """
    if folder and not Path(folder).is_absolute():
        raise InputError("The folder of the images is not an absolute path.", got=folder)
    own = classes_of_table(labels, classes)
    lengths, flat, p = with_state(labels)
    entries = [  # with the shortest decimals of 32-bit numbers: 0.9, not 0.8999999761581421
        {"label": c} if np.isnan(x) else {"label": c, "confidence": float(str(x))}
        for c, x in zip(flat.tolist(), p, strict=True)
    ]
    paths = paths_of(places)
    keys = _keys([paths.get(image, image) for image in labels.image_id.to_pylist()], folder, path)
    rows = zip(keys, lists_of(lengths, entries), usable(labels), strict=True)
    content = {"classes": list(unique_names(own)), "labels": {k: s if use else None for k, s, use in rows}}
    write_text(path, json.dumps(content, ensure_ascii=False))
    lost = () if folder else ("suffixes of image names",)
    return Saved((path,), (*lost, *lost_keys(own)))


def _keys(ids: list[str], folder: str, path: Path) -> list[str]:
    if folder:
        return [str(Path(folder) / image) for image in ids]
    first: dict[str, str] = {}
    for image in ids:
        key = str(PurePosixPath(image).with_suffix(""))  # paths are those in the folder of the images
        if key in first:
            raise MatchError(
                "Two images differ only in their suffix, which FiftyOne drops.",
                where=path,
                got=f"{first[key]} and {image}",
                do="pass their folder in `to`: \"fiftyone(folder='/data/images')\"",
            )
        first[key] = image
    return list(first)
