"""Multilabelfy's label sets of ImageNetV2."""

from __future__ import annotations

import json
import re
from pathlib import Path

from manyhot.classes import ClassList
from manyhot.errors import InputError
from manyhot.files import write_text
from manyhot.formats.json_files import head, load
from manyhot.formats.real import labels_of_sets
from manyhot.formats.writing import Saved, lists_of, usable, with_state
from manyhot.registry import register
from manyhot.tables import Labels


def _matches(path: Path) -> bool:
    return re.match(r'\{\s*"[^"]*\.\w+"\s*:\s*\[\s*("\d+("|$)|\])', head(path)) is not None


@register("format", "multilabelfy", holds="labels", suffixes=(".json",), matches=_matches)
def read_multilabelfy(path: Path, *, classes: ClassList | None) -> Labels:
    """Multilabelfy's JSON: image names to lists of classes written as strings.

    All images were shown to raters, so `rated` is true; the twenty classes shown to them are not recorded.

    References
    ----------
    Anzaku et al. 2023, arXiv 2401.17736.
    """
    sets = load(path)
    if not isinstance(sets, dict) or not all(isinstance(s, list) for s in sets.values()):
        raise InputError("The file is not Multilabelfy's table of images and lists of classes.", where=path)
    ids = [Path(name).name for name in sets]
    return labels_of_sets(
        ids, list(sets.values()), classes, path, rated=True, method="Multilabelfy", name="Multilabelfy"
    )


@register("writer", "multilabelfy", holds=("labels",), suffixes=(".json",), keeps=())
def write_multilabelfy(labels: Labels, path: Path, classes: ClassList | None) -> Saved:
    """Write label sets as Multilabelfy's JSON; images that are not usable are not in it.

    Classes are written as numbers, as there. `classes` is not needed.
    """
    lengths, flat, _ = with_state(labels)
    sets = lists_of(lengths, [str(c) for c in flat.tolist()])
    images = zip(labels.image_id.to_pylist(), sets, usable(labels), strict=True)
    write_text(path, json.dumps({image: s for image, s, use in images if use}, ensure_ascii=False))
    return Saved((path,))
