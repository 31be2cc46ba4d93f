"""CelebA's text files of attributes and of the partition into splits, and DeepFashion's attributes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from manyhot.classes import ClassList, from_keys
from manyhot.core.sets import NO, NOT_ASKED
from manyhot.errors import InputError
from manyhot.formats.indicator import labels_of_columns
from manyhot.formats.number_columns import NumberColumn
from manyhot.formats.reading import head, image_ids
from manyhot.formats.spaced_text import spaced_frame
from manyhot.formats.table_files import with_small_offsets
from manyhot.registry import register
from manyhot.tables import Images, Labels
from manyhot.tables.own_classes import own_list

_NUMBER = r"(?:-1|0|1)"
_ATTRIBUTES = re.compile(rf"\s*\d+[ \t]*\r?\n[^\n]*\S[^\n]*\n[^\s]+(?:[ \t]+{_NUMBER})+[ \t]*(?:\r?\n|$)")
_DEEPFASHION = re.compile(r"\s*\d+[ \t]*\r?\n[ \t]*image_name[ \t]+attribute_labels[ \t]*\r?\n")
_PARTITION = re.compile(r"\S+[ \t]+[012][ \t]*\r?\n")

_PARTS = ("train", "val", "test")
"""The parts of CelebA by their numbers."""


_NAMES_OF_DEEPFASHION = "list_attr_cloth.txt"


def _matches_attributes(path: Path) -> bool:
    if _DEEPFASHION.match(start := head(path) + "\n"):
        return True
    if (begin := _ATTRIBUTES.match(start)) is None:
        return False
    _, names, row, *_ = start[: begin.end()].splitlines()
    return len(row.split()) == len(names.split()) + 1


def _matches_partition(path: Path) -> bool:
    # Lines of a name and 0, 1 or 2 may also be labels.
    return "partition" in path.stem.lower() and _PARTITION.match(head(path) + "\n") is not None


@register(
    "format",
    "celeba-attributes",
    holds="labels",
    suffixes=(".txt",),
    matches=_matches_attributes,
    needs="CelebA's list_attr_celeba.txt or DeepFashion's list_attr_img.txt",
)
def read_celeba_attributes(path: Path, *, classes: ClassList | None) -> Labels:
    """CelebA's ``list_attr_celeba.txt``: the number of images, the attributes, and -1 or 1 for each.

    In CelebA, -1 means that the attribute is absent, so all classes have the state *yes* or *no*.
    DeepFashion's ``list_attr_img.txt`` is alike, but ``list_attr_cloth.txt`` names its attributes. There, 0
    means unknown: in a file that also contains -1, it is *not asked*.

    References
    ----------
    Liu et al. 2015, Deep Learning Face Attributes in the Wild, ICCV, arXiv 1411.7766.
    Liu et al. 2016, DeepFashion: Powering Robust Clothes Recognition and Retrieval, CVPR.
    """
    frame = _attribute_frame(path)
    values = frame.drop("image_id")
    notes: tuple[str, ...] = ()
    if any((column == -1).any() for column in values):
        n_unknown = sum(int((column == 0).sum()) for column in values)
        if n_unknown:
            values = values.select(pl.all().replace(0, None))
            notes = (f"{n_unknown:,} zeros of the labels are read as not asked, because -1 means no",)
    columns = [NumberColumn(c.name, c.cast(pl.Float64).fill_null(np.nan).to_numpy()) for c in values]
    ids = image_ids(frame["image_id"].to_arrow(), path)
    # All columns are classes, also those whose names, such as split, are metadata in other tables.
    own = from_keys(values.columns, path.stem) if classes is None else None
    labels = labels_of_columns(columns, ids, own or classes, path, (NO, NOT_ASKED))
    return replace(labels, class_list=own and own_list(own), notes=(*labels.notes, *notes))


@register(
    "format",
    "celeba-columns",
    holds="images",
    suffixes=(".txt",),
    matches=_matches_attributes,
    needs="CelebA's list_attr_celeba.txt or DeepFashion's list_attr_img.txt",
)
def read_celeba_columns(path: Path, *, classes: ClassList | None) -> Images:
    """The files of `read_celeba_attributes` as images, with a column of -1, 0 and 1 for each attribute."""
    return _images_of_frame(_attribute_frame(path), path)


def _attribute_frame(path: Path) -> pl.DataFrame:
    """Return the names of the images and one column for each attribute.

    Raises
    ------
    InputError
        If the file has more or fewer images than its first line says.
    """
    count, _, rest = path.read_bytes().partition(b"\n")
    names, _, rows = rest.partition(b"\n")
    attributes = names.decode("utf-8").split()
    if _DEEPFASHION.match(head(path) + "\n"):
        attributes = _attributes_of_deepfashion(path, len(rows.partition(b"\n")[0].split()) - 1)
    frame = spaced_frame(rows, ("image_id", *attributes), path)
    if count.strip() != str(len(frame)).encode():
        raise InputError(
            "The number of images differs from the number in the first line.",
            where=path,
            got=f"{len(frame):,} images",
            allowed=count.decode("utf-8", "replace").strip(),
            do="create or download it again",
        )
    return frame


def _attributes_of_deepfashion(path: Path, n: int) -> list[str]:
    """Return the names of DeepFashion's attributes, which may contain spaces, from their own file.

    Raises
    ------
    InputError
        If there is no such file, or if it does not contain `n` names.
    """
    places = (path.parent, path.parent.parent / "Anno")
    file = next((f for place in places if (f := place / _NAMES_OF_DEEPFASHION).is_file()), None)
    if file is None:
        raise InputError(
            "The file does not contain the names of its attributes.",
            where=path,
            got=f"{n:,} attributes per image, and no {_NAMES_OF_DEEPFASHION}",
            allowed=f"DeepFashion's {_NAMES_OF_DEEPFASHION} beside this file, or in ../Anno",
            do=f"copy {_NAMES_OF_DEEPFASHION} from the same download into the folder of this file",
        )
    lines = [line for line in file.read_text(encoding="utf-8-sig").splitlines()[2:] if line.strip()]
    names = [line.strip().rsplit(None, 1)[0] for line in lines]  # a number, the type, follows each name
    if len(names) != n:
        raise InputError(
            "The attributes of the images are not those of the list of their names.",
            where=path,
            got=f"{n:,} attributes per image, and {len(names):,} names in {file}",
            do=f"use the {_NAMES_OF_DEEPFASHION} from the same download, coarse or fine",
        )
    return names


@register(
    "format",
    "celeba-partition",
    holds="images",
    suffixes=(".txt",),
    matches=_matches_partition,
    needs="CelebA's list_eval_partition.txt",
)
def read_celeba_partition(path: Path, *, classes: ClassList | None) -> Images:
    """CelebA's ``list_eval_partition.txt``: one image and its partition per line, separated by a space.

    The images table has the columns ``partition`` with the number, as in Kaggle's CSV file, and ``split``
    with *train* (0), *val* (1) or *test* (2).

    References
    ----------
    See `read_celeba_attributes`.
    """
    frame = spaced_frame(path.read_bytes(), ("image_id", "partition"), path)
    strange = frame.filter(~pl.col("partition").is_between(0, 2))
    if len(strange):
        raise InputError(
            "This is not the number of a CelebA partition.",
            where=f"{path}, image {strange['image_id'][0]}",
            got=strange["partition"][0],
            allowed="0, 1 or 2",
        )
    parts = dict(enumerate(_PARTS))
    split = pl.col("partition").replace_strict(parts, return_dtype=pl.String)
    return _images_of_frame(frame.with_columns(split=split), path)


def _images_of_frame(frame: pl.DataFrame, path: Path) -> Images:
    ids = pl.Series("image_id", image_ids(frame["image_id"].to_arrow(), path))
    return Images(with_small_offsets(frame.with_columns(ids).to_arrow()), path.stem)
