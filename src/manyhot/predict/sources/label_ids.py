"""Label sets, objects and splits with the ids of the images of a source."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.errors import MatchError
from manyhot.formats.image_folder import are_splits
from manyhot.predict.sources.image_files import Files
from manyhot.predict.sources.source import ImageSource
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

    The folders are splits by the same rule by which a folder of splits is refused as a folder of classes.
    Folders above all images are ignored, such as ``images`` above ``images/train``.

    Returns
    -------
    dict of str to (str, bool)
        The split, and whether the image is directly in its folder, whose name is then no label. Empty if the
        folders are not splits.
    """
    parts = [part for part in source.parts if isinstance(part, Files) and part.root]
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


def ids_of_source(source: ImageSource, parts: int | None = None) -> pa.Array:
    """Return the ids of the images in the first parts of a source, or in all of them."""
    listed = (item.image_id for part in source.parts[:parts] for item, _ in part.items())
    return pa.array(listed, pa.string())
