"""A data set of a study from your own images and labels: class folders, or any files that ``train`` takes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from manyhot.classes import ClassList
from manyhot.data.inputs import Reading, open_labels
from manyhot.errors import InputError
from manyhot.files import write_text
from manyhot.formats import ClassNamesLike, open_class_list
from manyhot.formats.writing import PathLike
from manyhot.predict.sources import ImageSource, open_source
from manyhot.predict.sources.label_ids import labels_of_source
from manyhot.study.plan import StudyDataSet
from manyhot.tables import Labels, write_labels

Split = tuple[PathLike, PathLike] | PathLike
"""Images and their labels; a folder with one folder per class is both."""

_TOGETHER = 256
"""Images whose bytes are in memory at the same time."""

_SMOKE = 64
"""Images of each split in a smoke run."""


def own_data(
    name: str,
    about: str,
    *,
    train: Split,
    test: Split,
    val: Split | None = None,
    more_labels: Mapping[str, PathLike] | None = None,
    classes: ClassNamesLike | None = None,
    version: int = 1,
) -> StudyDataSet:
    """Return a data set of a study from your own images and labels.

    The images that have labels are copied to the folder of the study. If they are in class folders, their
    folders are the original labels. If an original label is needed only for some arms, label sets in a file
    and class folders can be combined: ``train=("photos/train", "sets.csv")``.

    Parameters
    ----------
    name, about : str
        As in `StudyDataSet`.
    train, test, val : path-like or (path-like, path-like)
        Images, and their label sets in any format; or class folders alone.
    more_labels : mapping of str to path-like, optional
        Other labels of the training images: ``{"soft": "soft.csv"}`` is ``run.labels("soft")``. Numbers in
        their columns are probabilities.
    classes : class list, optional
        By default, the classes of the labels of `train`.
    version : int
        Increase it if the files change.
    """
    splits = {"train": train, "test": test} | ({} if val is None else {"val": val})

    def make(folder: Path, smoke: bool) -> None:
        known = open_class_list(classes)
        sources: dict[str, ImageSource] = {}
        for split, given in splits.items():
            images, labels = (given, given) if isinstance(given, str | os.PathLike) else given
            sources[split] = open_source(images)
            found, known = _labels(labels, images, sources[split], known)
            if smoke:
                found = _fewer(found)
            _write_images(sources[split], found, folder / f"images-{split}.parquet")
            write_labels(found, folder / f"labels-{split}.parquet")
        assert known is not None
        write_text(folder / "classes.txt", "".join(f"{key}\n" for key in known.keys))
        for split, labels in (more_labels or {}).items():
            found, _ = _labels(labels, None, sources["train"], known)
            write_labels(found, folder / f"labels-{split}.parquet")

    return StudyDataSet(name, about, make, version=version)


def _labels(
    labels: PathLike, images: PathLike | None, source: ImageSource, classes: ClassList | None
) -> tuple[Labels, ClassList]:
    """Return the labels of the images of a source, with the ids of the source, and the class list."""
    is_both = images is not None and Path(images) == Path(labels)
    folder = images if images is not None and not is_both and Path(images).is_dir() else None
    reading = Reading(classes=classes, images=folder, label_values="p" if images is None else None)
    (opened,) = open_labels(labels, reading=reading)
    found, known = opened.sets(), classes or opened.classes
    if known is None:
        raise InputError("The classes have no names.", where=labels, do="pass `classes`")
    if folder is not None and opened.images is not None:
        found = found.with_labels(opened.images)
    found, _ = labels_of_source(found, source)
    return replace(found, n_classes=len(known), class_hash=known.hash, class_list=known), known


def _fewer(labels: Labels) -> Labels:
    order = sorted(range(len(labels)), key=lambda i: hashlib.sha256(str(i).encode()).digest())
    return replace(labels, table=labels.table.take(sorted(order[:_SMOKE])))


def _write_images(source: ImageSource, labels: Labels, path: Path) -> None:
    wanted = set(labels.image_id.to_pylist())
    schema = pa.schema([("image_id", pa.string()), ("image", pa.binary())])
    with pq.ParquetWriter(path, schema) as writer:
        rows: dict[str, bytes] = {}
        for part in source.parts:
            for item, read in part.items():
                if item.image_id in wanted:
                    rows[item.image_id] = _bytes(item.uri, read())
                    wanted.remove(item.image_id)
                if len(rows) >= _TOGETHER:
                    writer.write_table(_table(rows, schema))
                    rows = {}
        writer.write_table(_table(rows, schema))
    if wanted:
        raise InputError(
            "Labelled images are not in the source.",
            where=source.uri,
            got=f"{len(wanted):,} of {len(labels):,}, such as {min(wanted)}",
            do="remove their labels, or pass the folder that contains them",
        )


def _bytes(uri: str, read: object) -> bytes:
    if isinstance(read, bytes):
        return read
    raise InputError("An image cannot be read.", where=uri, got=str(read))


def _table(rows: Mapping[str, bytes], schema: pa.Schema) -> pa.Table:
    return pa.table({"image_id": [*rows], "image": [*rows.values()]}, schema=schema)
