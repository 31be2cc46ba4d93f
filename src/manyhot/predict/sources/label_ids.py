"""Label sets, objects and splits with the ids of the images of a source."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.errors import MatchError
from manyhot.formats.headers import class_name_column, is_plural, raw_header
from manyhot.formats.splits import are_splits, split_of_file
from manyhot.predict.sources.image_columns import Columns
from manyhot.predict.sources.image_files import Files
from manyhot.predict.sources.image_labels import Labelled
from manyhot.predict.sources.parquet import ParquetRows
from manyhot.predict.sources.remote import without_query
from manyhot.predict.sources.source import ImageSource, Item, SourcePart, stored_part
from manyhot.predict.sources.tar import TarSlice, TarStream, label_sets_beside
from manyhot.tables import Labels, Objects, count_shared
from manyhot.tables.frames import examples
from manyhot.tables.image_ids import EXACT_SHARE, Renamed, ids_like, without_option
from manyhot.tables.labels import with_ids_like


def labels_of_source(labels: Labels, source: ImageSource) -> tuple[Labels, Renamed]:
    """Return label sets with the image ids of a source, and how the ids were matched.

    The ids of streams, such as remote archives, are unknown before the streams are read, so the ids of the
    label sets must be equal to them.

    Raises
    ------
    MatchError
        If several images match one label set; see `manyhot.tables.image_ids.match_ids`.
    """
    if _is_exact(labels.image_id, source):
        return labels, Renamed(labels.image_id)
    with without_option():
        return with_ids_like(labels, ids_of_source(source), other_name="the source")


def objects_of_source(objects: Objects, source: ImageSource) -> tuple[Objects, Renamed]:
    """Return objects and masks with the image ids of a source, as `labels_of_source` does.

    Raises
    ------
    MatchError
        If no image of the source has objects, or several images match one image with objects.
    """
    own = pa.array({**objects.images, **objects.semantic}, pa.string())
    if _is_exact(own, source):
        return objects, Renamed(own)
    ids = ids_of_source(source)
    with without_option():
        like = ids_like(own, ids, name=objects.name or "the objects", other_name="the source")
    if not count_shared(like.ids, ids):
        raise MatchError(
            "None of the images has objects.",
            where=source.uri,
            got=f"images such as {examples(ids)}" if len(ids) else "no images",
            allowed=f"images with objects, such as {examples(own)}" if len(own) else "images with objects",
            do="check that both belong to the same data set",
        )
    column = objects.table.column_names.index("image_id")
    renamed = like.ids.take(pc.index_in(objects.table["image_id"].combine_chunks(), own))
    names = dict(zip(own.to_pylist(), like.ids.to_pylist(), strict=True))
    masks = {names[image]: mask for image, mask in objects.semantic.items()}
    table = objects.table.set_column(column, "image_id", renamed)
    return replace(objects, table=table, semantic=masks), like


def _is_exact(ids: pa.Array, source: ImageSource) -> bool:
    """Return whether ids need not be matched with those of a source: its first images have them."""
    if source.n is None:
        return True
    first = ids_of_source(source, 1)  # without listing a million images
    return count_shared(first, ids) >= EXACT_SHARE * max(len(first), 1)


def split_folders(source: ImageSource) -> dict[str, tuple[str, bool]]:
    """Return the split of each image of a folder that contains splits, such as *train* and *val*, by its id.

    The rule is the one by which a folder of splits is refused as a folder of classes. Folders above all
    images are ignored, such as ``images`` above ``images/train``. Folders in archives are treated like
    folders on disk.

    Returns
    -------
    dict of str to (str, bool)
        The split, and whether the image is directly in its folder, whose name is then no label. Empty if the
        folders are not splits.
    """
    parts = [p for p in source.parts if isinstance(p, TarSlice) or (isinstance(p, Files) and p.root)]
    folders = {path.rpartition("/")[0] for part in parts for path in part.paths}
    levels = zip(*(folder.split("/") for folder in folders), strict=False)
    level = next((i for i, names in enumerate(levels) if len({*names}) > 1), 0)
    below = {folder: folder.split("/")[level:] for folder in folders if folder}
    has_folders = dict(sorted((names[0], len(names) > 1) for names in below.values() if names))
    if not are_splits(has_folders):
        return {}
    images = (
        (item, path) for part in parts for path, (item, _) in zip(part.paths, part.items(), strict=True)
    )
    own = ((item.image_id, below.get(path.rpartition("/")[0])) for item, path in images)
    return {image_id: (names[0], len(names) == 1) for image_id, names in own if names}


class FileSplits:
    """The splits of the images of Parquet files or archives, if these belong to several splits.

    Attributes
    ----------
    files : dict of str to (str or None)
        The split of each file, by its path; None if its name and its folders name none. Empty if no two files
        differ, and for images in files of their own.
    """

    def __init__(self, source: ImageSource) -> None:
        self._parts = source.parts
        paths = dict.fromkeys(filter(None, map(_file_of, source.parts)))
        above = _common_start([*paths]).rfind("/") + 1  # folders above all files may have any name
        files = {path: split_of_file(without_query(path)[above:]) for path in paths}
        self.files = files if len(set(files.values())) > 1 else {}

    @property
    def names(self) -> list[str]:
        """The names of the splits, in the order of the files."""
        return list(dict.fromkeys(filter(None, self.files.values())))

    def of(self, uri: str) -> str | None:
        """Return the split of an image by its address, which begins with its file."""
        path = uri.rpartition("#")[0]
        while path not in self.files and uri:
            path = uri = uri.rpartition("/")[0]
        return self.files.get(path)

    def items_of(self, name: str) -> Iterator[Item]:
        """Yield the images of a split."""
        own = (part for part in self._parts if self.files.get(_file_of(part)) == name)
        return (item for part in own for item, _ in part.items())

    @property
    def example(self) -> str:
        """The only file of a split, or a pattern for its files: of the training split if there is one."""
        name = next((name for name in self.names if "train" in name.casefold()), self.names[0])
        paths = [path for path, split in self.files.items() if split == name]
        return f"{_common_start(paths)}*" if len(paths) > 1 else paths[0]


def with_splits(images: pa.Table, source: ImageSource) -> pa.Table:
    """Return a table of images with the column ``split`` if their files are of several splits."""
    splits = FileSplits(source)
    if not splits.names[1:]:
        return images
    return images.append_column("split", pa.array(map(splits.of, images["uri"].to_pylist()), pa.string()))


def _common_start(paths: list[str]) -> str:
    return os.path.commonprefix(paths)  # noqa: RUF071, for names and addresses, too


def _stored(part: SourcePart) -> SourcePart:
    """Return a part as it is stored, without the labels of a table."""
    stored = stored_part(part)
    return stored.part if isinstance(stored, Labelled) else stored


def _file_of(part: SourcePart) -> str:
    """Return the archive or the Parquet file of a part, or an empty text."""
    stored = _stored(part)
    if isinstance(stored, TarSlice | TarStream):
        return stored.archive
    return stored.place.file if isinstance(stored, ParquetRows) else ""


def label_sets_note(source: ImageSource) -> str:
    """Return a note on label sets in a source, which are not read with the images, or an empty text."""
    stored, path = next((_stored(part) for part in source.parts), None), Path(source.uri)
    local = source.uri if path.exists() else "a local file with this column"
    if isinstance(stored, ParquetRows) and path.is_dir() and not (path / "data").is_dir():
        local = stored.place.file  # a folder is read as labels only if it is in the layout of the hub
    place, do = "in the column", f"to evaluate on them, pass {local} to manyhot evaluate as labels"
    name, columns = "", getattr(stored, "columns", None)
    if isinstance(columns, Columns):
        name = columns.sets
    elif isinstance(stored, TarSlice | TarStream):
        name, place = label_sets_beside(stored.archive), "in the JSON files under"
        do = "to evaluate on them, write a table with the columns image_id and labels for manyhot evaluate"
    elif path.suffix.lower() in (".csv", ".tsv") and path.is_file():
        heads = [head for head in raw_header(path) if is_plural(head)]
        name = class_name_column(heads) or ""
    return f"the images have label sets, {place} {name}, which predict does not read; {do}" if name else ""


def ids_of_source(source: ImageSource, parts: int | None = None) -> pa.Array:
    """Return the ids of the images in the first parts of a source, or in all of them."""
    listed = (item.image_id for part in source.parts[:parts] for item, _ in part.items())
    return pa.array(listed, pa.string())
