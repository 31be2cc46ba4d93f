"""Sources of images: folders, lists, shards, tables and data sets, local or on remote storage."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Annotated

from manyhot.errors import InputError
from manyhot.files import check_has_end, near_paths
from manyhot.parameters import Address, Shown
from manyhot.predict.sources.decoding import DECODING as DECODING
from manyhot.predict.sources.decoding import Decoding as Decoding
from manyhot.predict.sources.hugging_face_hub import PREFIX, is_saved, open_hub, open_saved
from manyhot.predict.sources.image_files import Files as Files
from manyhot.predict.sources.image_files import list_files, open_image_folder, open_list
from manyhot.predict.sources.image_labels import LabelLookup as LabelLookup
from manyhot.predict.sources.image_labels import read_image_labels, read_table
from manyhot.predict.sources.label_ids import FileSplits
from manyhot.predict.sources.parquet import is_parquet, open_parquet
from manyhot.predict.sources.remote import SourceLostError as SourceLostError
from manyhot.predict.sources.remote import expand, is_pattern, is_remote, without_query
from manyhot.predict.sources.source import EXTENSIONS as EXTENSIONS
from manyhot.predict.sources.source import Alteration as Alteration
from manyhot.predict.sources.source import ImageReader as ImageReader
from manyhot.predict.sources.source import ImageSource as ImageSource
from manyhot.predict.sources.source import Item as Item
from manyhot.predict.sources.source import NoneLeftError as NoneLeftError
from manyhot.predict.sources.source import SourcePart as SourcePart
from manyhot.predict.sources.source import alter_images as alter_images
from manyhot.predict.sources.source import images_together as images_together
from manyhot.predict.sources.source import original_part as original_part
from manyhot.predict.sources.source import select_images as select_images
from manyhot.predict.sources.source import stored_part as stored_part
from manyhot.predict.sources.tar import is_tar, open_tars

ImagesLike = Annotated[str | os.PathLike[str], Address(), Shown("IMAGES")]
"""Location of images; see `open_source`."""

_LISTS = (".txt", ".lst", ".csv", ".tsv")

_KINDS = (
    "an image, a folder of images, a list (.txt, .csv), tar archives, Parquet files, "
    "or a Hugging Face data set (a folder or hf:NAME)"
)


def open_source(
    where: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    decoding: Decoding | None = None,
) -> ImageSource:
    """List the images of a source.

    Parameters
    ----------
    where : path-like
        An image, or a folder of images, tar archives or Parquet files. A list of images: text with one path
        per line, or CSV with a column of paths and a column of labels. A tar archive or a Parquet file with
        image bytes, or a pattern of several, such as ``shard-{000..127}.tar``. A Hugging Face data set, as
        ``hf:NAME`` or ``hf:NAME:SPLIT``, or a folder written by ``save_to_disk``. Paths can be local, or
        addresses that fsspec opens (``s3://``, ``gs://``, ``https://``).
    labels : path-like, optional
        CSV file with the label of each image. These labels replace the labels of the source.
    decoding : Decoding, optional
        How models see the images. By default, the levels of the images are not checked.

    Raises
    ------
    InputError
        If the source does not exist, contains no images, is damaged, or is of an unknown kind.
    MissingExtraError
        If a package that the source needs is not installed.
    """
    given = None if labels is None else read_image_labels(labels)
    source = _opened(os.fspath(where), given)
    source = source if labels is None else replace(source, labelled_by=os.fspath(labels))
    splits = FileSplits(source)
    if splits.names[1:]:
        text = (
            f"the files belong to several splits ({', '.join(splits.names)}), and all of them are read; to "
            f"read one split, pass its files, such as '{splits.example}'"
        )
        source = replace(source, notes=(*source.notes, text))
    return source if decoding is None else decoding.applied(source)


def _opened(place: str, labels: Mapping[str, str] | None) -> ImageSource:
    if place.startswith(PREFIX):
        return open_hub(place, labels)
    if is_pattern(place):
        return _open_files(place, expand(place), labels)
    if not is_remote(place):
        _check(Path(place))
    if _is_file(place):
        return _open_files(place, [place], labels)
    return _open_folder(place, labels)


def _open_files(where: str, paths: Sequence[str], labels: Mapping[str, str] | None) -> ImageSource:
    for path in paths:
        if not is_remote(path):
            check_has_end(Path(path))
    if all(map(is_tar, paths)):
        return open_tars(where, labels, paths)
    if all(map(is_parquet, paths)):
        return open_parquet(where, labels, paths)
    if len(paths) == 1 and _suffix(paths[0]) in _LISTS:
        return open_list(where, read_table(where), labels)
    if paths == [where]:
        return open_list(where, [(PurePosixPath(where).name, None)], labels)
    raise InputError(
        "The pattern matches files other than tar archives and Parquet files.",
        where=where,
        got=f"{len(paths):,} files, such as {paths[0]}",
        allowed=_KINDS,
        do="pass its folder, or a list of paths",
    )


def _open_folder(where: str, labels: Mapping[str, str] | None) -> ImageSource:
    found = list_files(where)
    if is_saved(found):
        return open_saved(where, labels)
    has_images = any(path.lower().endswith(EXTENSIONS) for path in found)
    for is_kind in () if has_images else (is_tar, is_parquet):
        if own := sorted(path for path in found if is_kind(path)):
            return _open_files(where, [f"{where.rstrip('/')}/{path}" for path in own], labels)
    return open_image_folder(where, labels, found)


def _suffix(path: str) -> str:
    return PurePosixPath(without_query(path)).suffix.lower()


def _is_file(path: str) -> bool:
    """Return whether a path has the suffix of a file that is read; a folder may have it, too."""
    named = is_tar(path) or is_parquet(path) or _suffix(path) in (*_LISTS, *EXTENSIONS)
    return named and (is_remote(path) or not Path(path).is_dir())


def is_one_image(where: str | os.PathLike[str]) -> bool:
    """Return whether a source is a single image file, judged by its name."""
    return os.fspath(where).lower().endswith(EXTENSIONS) and not is_pattern(os.fspath(where))


def _check(path: Path) -> None:
    """Raise an error if a path does not exist, or is a file of an unknown kind."""
    if not path.exists():
        near = near_paths(path, n=3)
        do = f"did you mean {' or '.join(near)}?" if near else None
        raise InputError("The source does not exist.", where=path, do=do)
    if not path.is_dir() and not _is_file(str(path)):
        do = "unpack it" if path.suffix.lower() in (".zip", ".7z", ".rar") else None
        raise InputError("This kind of source cannot be read.", where=path, allowed=_KINDS, do=do)
