"""CelebA's text files: attributes of faces, and the partition into training, validation and test images."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from manyhot.classes import ClassList
from manyhot.core.sets import NO, NOT_ASKED
from manyhot.errors import InputError
from manyhot.formats.indicator import labels_of_columns
from manyhot.formats.number_columns import NumberColumn
from manyhot.formats.reading import head, image_ids
from manyhot.formats.spaced_text import spaced_frame
from manyhot.formats.table_files import with_small_offsets
from manyhot.registry import register
from manyhot.tables import Images, Labels

_NUMBER = r"(?:-1|0|1)"
_ATTRIBUTES = re.compile(rf"\s*\d+[ \t]*\r?\n[^\n]*\S[^\n]*\n[^\s]+(?:[ \t]+{_NUMBER})+[ \t]*(?:\r?\n|$)")
_PARTITION = re.compile(r"\S+[ \t]+[012][ \t]*\r?\n")

_PARTS = ("train", "val", "test")
"""The parts of CelebA by their numbers."""


def _matches_attributes(path: Path) -> bool:
    if (begin := _ATTRIBUTES.match(start := head(path) + "\n")) is None:
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
    needs="CelebA's list_attr_celeba.txt",
)
def read_celeba_attributes(path: Path, *, classes: ClassList | None) -> Labels:
    """CelebA's ``list_attr_celeba.txt``: the number of images, the attributes, and -1 or 1 for each.

    In CelebA, -1 means that the attribute is absent, so all classes have the state *yes* or *no*.

    References
    ----------
    Liu et al. 2015, Deep Learning Face Attributes in the Wild, ICCV, arXiv 1411.7766.
    """
    count, _, rest = path.read_bytes().partition(b"\n")
    names, _, rows = rest.partition(b"\n")
    attributes = names.decode("utf-8").split()
    frame = spaced_frame(rows, ("image_id", *attributes), path)
    if count.strip() != str(len(frame)).encode():
        raise InputError(
            "The number of images differs from the number in the first line.",
            where=path,
            got=f"{len(frame):,} images",
            allowed=count.decode("utf-8", "replace").strip(),
            do="create or download it again",
        )
    values = frame.drop("image_id").cast(pl.Float64)
    columns = [NumberColumn(column.name, column.to_numpy()) for column in values]
    ids = image_ids(frame["image_id"].to_arrow(), path)
    return labels_of_columns(columns, ids, classes, path, (NO, NOT_ASKED))


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
    frame = frame.with_columns(
        image_id=pl.Series(image_ids(frame["image_id"].to_arrow(), path)),
        split=pl.col("partition").replace_strict(parts, return_dtype=pl.String),
    )
    return Images(with_small_offsets(frame.to_arrow()), path.stem)
