"""PASCAL VOC's lists of the images with and without a class, ``ImageSets/Main/CLASS_val.txt``."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from manyhot.classes import ClassList
from manyhot.core.sets import NO, NOT_ASKED, UNCLEAR, YES
from manyhot.errors import InputError
from manyhot.formats.class_names import ids_of_columns, lookup_in
from manyhot.formats.reading import head, image_ids, stored_states
from manyhot.formats.spaced_text import spaced_frame
from manyhot.kinds import FOLDER
from manyhot.registry import register
from manyhot.tables import Labels

_SPLITS = ("train", "val", "trainval", "test")
_FILE = re.compile(rf"(.+)_({'|'.join(_SPLITS)})")
_LINES = re.compile(r"(?:\S+[ \t]+(?:-1|0|1)[ \t]*\r?\n)+")
_STATES = {1: YES, 0: UNCLEAR, -1: NO}


def _matches(path: Path) -> bool:
    if path.is_dir():
        return any(map(_matches, sorted(path.glob("*_*.txt"))[:1]))
    # Without -1, lines of a name and a number may be anything.
    lines = _LINES.match(head(path) + "\n") if _FILE.fullmatch(path.stem) else None
    return lines is not None and re.search(r"\s-1\s", lines[0]) is not None


@register(
    "format",
    "voc-image-sets",
    holds="labels",
    suffixes=(".txt", FOLDER),
    matches=_matches,
    needs="CLASS_val.txt",
)
def read_voc_image_sets(path: Path, *, classes: ClassList | None, split: str = "") -> Labels:
    """PASCAL VOC's ``ImageSets/Main``: for each class and split, the images with 1, -1 or 0.

    1 is *yes* and -1 is *no*. 0 is *unclear*: all objects of the class are difficult. A file contains one
    class, and the folder contains all classes, in the order of their names.

    Parameters
    ----------
    split : {"train", "val", "trainval", "test"}
        The split to read from a folder, as in ``voc-image-sets(split='val')``. By default, the only one.

    References
    ----------
    Everingham et al. 2010, The PASCAL Visual Object Classes Challenge, IJCV 88.
    """
    found = _FILE.fullmatch(path.stem)
    files = _files_of_split(path, split) if path.is_dir() else {found[1] if found else path.stem: path}
    own = ids_of_columns(list(files), path)
    lookup = own.ids.get if classes is None else lookup_in(classes)
    at = {name: i for name in files if (i := lookup(name)) is not None}
    if not at:
        raise InputError(
            "No file is named after a class of the class list.",
            where=path,
            got=", ".join(list(files)[:3]),
            allowed=f"the classes of {classes.name}" if classes else None,
        )
    frames = {
        i: spaced_frame(files[name].read_bytes(), ("image_id", "state"), files[name])
        for name, i in at.items()
    }
    images = pl.concat([frame["image_id"] for frame in frames.values()]).unique(maintain_order=True)
    row = dict(zip(images.to_list(), range(len(images)), strict=True))
    n_classes = own.n_classes if classes is None else len(classes)
    state = np.full((len(images), n_classes), NOT_ASKED, np.uint8)
    for i, frame in frames.items():
        values = frame["state"]
        if not values.is_in(list(_STATES)).all():
            strange = values.filter(~values.is_in(list(_STATES)))[0]
            raise InputError("This is not a state.", where=path, got=strange, allowed="1, 0 or -1")
        rows = frame["image_id"].replace_strict(row, return_dtype=pl.Int64).to_numpy()
        state[rows, i] = values.replace_strict(_STATES, return_dtype=pl.UInt8).to_numpy()
    content, asked_known, complete = stored_states(state)
    return Labels(
        pa.table(
            {"image_id": image_ids(images.to_arrow(), path), "usable": np.ones(len(images), bool), **content}
        ),
        n_classes,
        own.class_hash if classes is None else classes.hash,
        asked_known=asked_known,
        name=path.stem,
        class_list=own.class_list if classes is None else None,
        complete=complete,
        positives_only=not asked_known,
    )


def _files_of_split(path: Path, split: str) -> dict[str, Path]:
    """Return the file of each class, sorted by class."""
    files = {file: found for file in sorted(path.glob("*_*.txt")) if (found := _FILE.fullmatch(file.stem))}
    splits = [name for name in _SPLITS if any(found[2] == name for found in files.values())]
    if split not in splits and (split or len(splits) != 1):
        raise InputError(
            "The folder has no such split." if split else "The folder has several splits.",
            where=path,
            got=split or ", ".join(splits),
            allowed=", ".join(splits),
            do=f"pass the format voc-image-sets(split={splits[-1]!r}) to manyhot convert or read_labels"
            if splits and not split
            else None,
        )
    return {found[1]: file for file, found in files.items() if found[2] == (split or splits[0])}
