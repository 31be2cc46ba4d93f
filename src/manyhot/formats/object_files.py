"""Objects with their boxes and outlines: tables with one box per row, COCO's JSON, PASCAL VOC's folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pyarrow as pa
from pyarrow import parquet as pq

from manyhot.classes import ClassList, class_list_of, from_keys
from manyhot.errors import InputError, ManyhotError, first_names
from manyhot.formats.class_names import class_indices
from manyhot.formats.reading import (
    cut_for_message,
    declared,
    head,
    load_json,
    reading,
    short_ids,
    with_image_ids,
)
from manyhot.formats.table_files import TABLE_SUFFIXES, column_names, read_frame, with_small_offsets
from manyhot.formats.tabular import read_own
from manyhot.formats.xml_files import parse_xml
from manyhot.kinds import FOLDER
from manyhot.registry import register
from manyhot.tables import Objects, check, metadata
from manyhot.tables.image_ids import ids_like, without_option
from manyhot.tables.labels import class_list_from_metadata
from manyhot.tables.objects import BOX

_T = TypeVar("_T")

_IGNORE = ("ignore", "difficult", "crowd", "iscrowd")

_MASKS = ("mask_png", "mask")


@register(
    "format",
    "objects-table",
    holds="objects",
    suffixes=TABLE_SUFFIXES,
    matches=lambda path: declared(path) == "objects" or {"image_id", *BOX} <= set(column_names(path)),
    needs="image_id, class or class_id, x1, y1, x2 and y2",
)
def read_objects_table(path: Path, *, classes: ClassList | None) -> Objects:
    """A table with ``image_id``, ``class`` or ``class_id``, and a box in fractions of width and height.

    Objects marked by ``ignore``, ``difficult`` or ``crowd`` count neither as labels nor as errors. If
    present, ``polygons`` and ``mask`` describe the object more precisely than the box.
    """
    own = declared(path) == "objects"
    frame = pl.from_arrow(read_own(path, "objects")) if own else read_frame(path)
    assert isinstance(frame, pl.DataFrame)
    if not {"class", "class_id"} & set(frame.columns):
        raise InputError(
            "The objects have no classes.",
            where=path,
            got=", ".join(frame.columns),
            allowed="a column 'class' or 'class_id'",
        )
    own_classes = classes or (_stored_classes(path) if own else None) or _classes(frame, path)
    column = "class" if "class" in frame.columns else "class_id"
    ids = class_indices(frame[column].cast(pl.String), own_classes, path, ids=column == "class_id")
    names = [c for c in _IGNORE if c in frame.columns]
    marks = [pl.col(c).cast(pl.Boolean).fill_null(False) for c in names]
    frame = frame.with_columns(
        pl.col("image_id").cast(pl.String),
        class_id=ids,
        ignore=pl.any_horizontal(marks) if marks else pl.lit(False),
        **{c: pl.col(c).cast(pl.Float32) for c in BOX},
    )
    table = frame.to_arrow()
    # Objects are joined with the images of a source, which are named in the same way.
    table = table if own else with_image_ids(table, partial(short_ids, where=path))
    return objects_of_table(table, own_classes, path)


def _stored_classes(path: Path) -> ClassList | None:
    """Return the class list in the metadata of an objects table, which also has classes without objects."""
    about = metadata(pq.read_schema(path))
    return class_list_of(about.get("classes", "")) or class_list_from_metadata(about, path.stem)


def _classes(frame: pl.DataFrame, path: Path) -> ClassList:
    """Return the class list of a table: keys by number if it has both, otherwise sorted keys."""
    if "class" not in frame.columns:
        raise InputError(
            "The classes of the objects have no names.",
            where=path,
            got=", ".join(frame.columns),
            allowed="a column 'class', or a class list passed as `classes`",
        )
    keys = frame["class"].cast(pl.String)
    if "class_id" not in frame.columns:
        return from_keys(sorted(keys.drop_nulls().unique()), path.stem)
    pairs = frame.select(pl.col("class_id").cast(pl.Int64), keys).drop_nulls().unique().sort("class_id")
    by_number = dict(pairs.iter_rows())
    if len(by_number) < len(pairs) or pairs["class"].n_unique() < len(pairs):
        raise InputError("A class has two numbers, or a number has two classes.", where=path)
    if min(by_number, default=0) < 0 or max(by_number, default=0) > 10 * len(by_number) + 1000:
        raise InputError("The column 'class_id' does not number classes from 0.", where=path)
    numbers = range(max(by_number, default=-1) + 1)
    return from_keys([by_number.get(i, f"class {i}") for i in numbers], path.stem)


def objects_of_table(table: pa.Table, classes: ClassList, path: Path, **more: Any) -> Objects:
    """Return the objects of a table with at least the required columns."""
    names = ("image_id", "class_id", *BOX, "ignore", "score", "polygons", "mask")
    table = with_small_offsets(table.select([n for n in names if n in table.column_names]))
    checked = check(table, "objects", where=str(path))
    return Objects(checked, classes.keys, classes.hash, name=path.stem, **more)


def with_masks(objects: Objects, path: Path) -> Objects:
    """Return objects with the semantic masks of a folder of PNGs, or of a table.

    Raises
    ------
    InputError
        If there are no masks, or if no image with objects has a mask.
    """
    masks = masks_of(path, objects.images)
    if not masks.keys() & objects.images.keys():
        raise InputError(
            "None of the masks belongs to an image with objects.",
            where=path,
            got=f"masks of images such as {next(iter(masks))}" if masks else "no masks",
            allowed=f"masks of images such as {next(iter(objects.images))}"
            if objects.images
            else "none: there are no objects",
        )
    return replace(objects, semantic=masks)


def masks_of(path: Path, images: Iterable[str]) -> dict[str, bytes | Path]:
    """Return the masks of images from a table, or from a folder of PNGs that are named after the images.

    Raises
    ------
    InputError
        If the path does not exist or contains no masks.
    """
    with reading(path):
        if not path.exists():
            raise InputError("The file does not exist.", where=path)
        return _folder(path, images) if path.is_dir() else _matched(_table(path), list(images))


def _matched(masks: Mapping[str, bytes | Path], images: Sequence[str]) -> dict[str, bytes | Path]:
    """Return masks with the ids that images with objects have, if not even one is the same."""
    own, others = pa.array(masks, pa.string()), pa.array(images, pa.string())
    if not masks or masks.keys() & set(images):
        return dict(masks)
    with without_option():
        like = ids_like(own, others, name="the masks", other_name="the objects")
    return dict(zip(like.ids.to_pylist(), masks.values(), strict=True))


def _folder(path: Path, images: Iterable[str]) -> dict[str, bytes | Path]:
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() == ".png" and p.is_file())
    names = [p.relative_to(path).with_suffix("").as_posix() for p in found]
    files = dict(zip(names, found, strict=True))
    stems = {i: i.rpartition(".")[0] or i for i in images}
    same: dict[str, bytes | Path] = {i: files[stem] for i, stem in stems.items() if stem in files}
    return same or _matched(files, list(stems))


def _table(path: Path) -> dict[str, bytes | Path]:
    names = column_names(path) if path.suffix.lower() == ".parquet" else []
    column = next((c for c in _MASKS if c in names), None)
    if column is None or "image_id" not in names:
        raise InputError(
            "The file contains no masks.",
            where=path,
            got=", ".join(names) or None,
            allowed=f"a folder of PNGs; or Parquet with image_id and {' or '.join(_MASKS)}",
        )
    table = pq.read_table(path, columns=["image_id", column])
    pairs = zip(table["image_id"].to_pylist(), table[column].to_pylist(), strict=True)
    return {str(image): mask for image, mask in pairs if mask}


_PARTS = ("images", "annotations", "categories")


def matches_coco(path: Path) -> bool:
    """Return whether a JSON file begins like a COCO instances file, and not like MegaDetector's results."""
    start = head(path)
    # BDD100K's conversion begins with "type", and files of tracking with "videos".
    keys = r'info|licenses|images|annotations|categories|videos|type"\s*:\s*"instances'
    begins = re.match(rf'\{{\s*"({keys})"', start) is not None
    return begins and not re.search(r'"(detection_categories|detections)"\s*:', start)


@register("format", "coco-instances", holds="objects", suffixes=(".json",), matches=matches_coco)
def read_coco(path: Path, *, classes: ClassList | None) -> Objects:
    """COCO's ``instances_….json`` with boxes, polygons and crowds. A class is named after its category.

    Objects with ``"iscrowd": 1`` or ``"ignore": 1`` are ignored. In COCO, only crowds have masks in
    run-length encoding. For other objects with such masks, the box is used.
    """
    return objects_of_coco(load_coco(path), classes, path)


def load_coco(path: Path) -> dict[str, Any]:
    """Return the content of a file in COCO's format.

    Raises
    ------
    InputError
        If the file lacks the list of images, annotations or categories.
    """
    content = load_json(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(p), list) for p in _PARTS):
        raise InputError(
            "The file is not in COCO's format.",
            where=path,
            got=", ".join(content) if isinstance(content, dict) else type(content).__name__,
            allowed=f"an object with the lists {', '.join(_PARTS)}",
        )
    return content


def objects_of_coco(
    content: dict[str, Any],
    classes: ClassList | None,
    path: Path,
    *,
    ids: Callable[[pa.Array, object], pa.Array] = short_ids,
) -> Objects:
    """Return the objects in a file in COCO's format; `ids` makes the ids of images from their names.

    Raises
    ------
    InputError
        If an entry does not have COCO's format.
    """
    with entries_of_coco(path):
        own = classes or categories_of_coco(content, path)
        number = numbers_of_coco(content, own)
        names = ids(pa.array([image_of_coco(i) for i in content["images"]], pa.string()), path).to_pylist()
        pairs = zip(content["images"], names, strict=True)
        images = {id_of_coco(i["id"]): i | {"file_name": name} for i, name in pairs}
        rows = [_row(a, images, number, path) for a in content["annotations"]]
        types = (pa.string(), pa.int32(), *[pa.float32()] * 4, pa.bool_(), pa.list_(pa.list_(pa.float32())))
        columns = list(zip(*rows, strict=True)) or [()] * len(types)
        arrays = [pa.array(list(c), t) for c, t in zip(columns, types, strict=True)]
        table = pa.table(arrays, names=["image_id", "class_id", *BOX, "ignore", "polygons"])
        return objects_of_table(table, own, path)


@contextmanager
def entries_of_coco(path: Path) -> Iterator[None]:
    """Turn the exceptions for an entry that lacks a key or has the wrong type into an `InputError`."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        if isinstance(error, ManyhotError):
            raise
        raise InputError(
            "An entry is not in COCO's format.", where=path, got=f"{type(error).__name__}: {error}"
        ) from error


def id_of_coco(value: Any) -> str:
    """Return the id of an image or a category, which is a number in COCO, and may be a text elsewhere."""
    return value if isinstance(value, str) else str(int(value))


_RANKS = ("genus", "family", "order", "class", "phylum", "kingdom")


def categories_of_coco(content: dict[str, Any], path: Path) -> ClassList:
    """Return the categories in COCO's format as a class list, sorted by id if all ids are numbers.

    The taxonomic ranks of iNaturalist's categories are hypernyms.
    """
    categories = content["categories"]
    if all(id_of_coco(c["id"]).removeprefix("-").isdecimal() for c in categories):
        categories = sorted(categories, key=lambda c: int(c["id"]))
    hypernyms = tuple(tuple(str(c[rank]) for rank in _RANKS if c.get(rank)) for c in categories)
    return replace(from_keys([str(c["name"]) for c in categories], path.stem), hypernyms=hypernyms)


def numbers_of_coco(content: dict[str, Any], classes: ClassList) -> dict[str, int]:
    """Return the class of each category by its id."""
    return {id_of_coco(c["id"]): classes.index(str(c["name"])) for c in content["categories"]}


def named_in_coco(about: dict[str, Any], key: str, among: Mapping[str, _T], path: Path) -> _T:
    """Return the image or the category that an annotation names by its id.

    Raises
    ------
    InputError
        If there is no such image or category.
    """
    value, what = about.get(key), key.removesuffix("_id")
    if isinstance(value, int | float | str) and (found := among.get(id_of_coco(value))) is not None:
        return found
    some = f": {first_names(among)}" if among else ""
    raise InputError(
        f"An annotation has an unknown {what}." if key in about else f"An annotation has no {what}.",
        where=f"{path}, annotation {about.get('id', 'without an id')}",
        got=f"{key} {cut_for_message(repr(value))}" if key in about else ", ".join(about),
        allowed=f"{key} of one of the {len(among):,} entries{some}",
        do=f"remove the annotation, or add its {what} to the file",
    )


def _row(
    about: dict[str, Any], images: Mapping[str, dict[str, Any]], number: Mapping[str, int], path: Path
) -> tuple[Any, ...]:
    image = named_in_coco(about, "image_id", images, path)
    category = named_in_coco(about, "category_id", number, path)
    outlines = about.get("segmentation")
    points = [x for p in outlines for x in p] if isinstance(outlines, list) else []
    if not about.get("bbox") and not points:
        raise InputError(
            "An annotation has no box.",
            where=f"{path}, annotation {about.get('id', 'without an id')}",
            got=", ".join(about),
            allowed="bbox: [left, top, width, height] in pixels",
            do="if annotations name the classes of whole images, pass the file as labels",
        )
    size = np.array([image["width"], image["height"]], float)
    if not ((size > 0) & np.isfinite(size)).all():
        raise ValueError(f"an image of {image['width']} x {image['height']} pixels")
    if about.get("bbox"):
        left, top, width, height = map(float, about["bbox"])
        corners = np.array([left, top, left + width, top + height])
    else:
        at = np.reshape(np.asarray(points, float), (-1, 2))
        corners = np.concatenate([at.min(axis=0), at.max(axis=0)])
    box = (corners / np.tile(size, 2)).tolist()
    polygons = None
    if isinstance(outlines, list) and outlines:
        polygons = [(np.reshape(np.asarray(p, float), (-1, 2)) / size).ravel().tolist() for p in outlines]
    return (
        image["file_name"],
        category,
        *box,
        is_ignored_in_coco(about),
        polygons,
    )


def is_ignored_in_coco(about: dict[str, Any]) -> bool:
    """Return whether an annotation counts neither for a model nor against it: a crowd, or ``"ignore": 1``."""
    return bool(about.get("iscrowd") or about.get("ignore"))


def image_of_coco(image: dict[str, Any]) -> str:
    """Return the name of an image. In LVIS, the name is the end of an address."""
    return str(image["file_name"]) if "file_name" in image else PurePosixPath(str(image["coco_url"])).name


VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""The classes of PASCAL VOC, in the order of its masks."""

BoxRow = tuple[str, str, float, float, float, float, bool]


def matches_voc(path: Path) -> bool:
    """Return whether a folder contains a folder ``Annotations``, as in PASCAL VOC."""
    return (path / "Annotations").is_dir()


@register("format", "voc-folder", holds="objects", suffixes=(FOLDER,), matches=matches_voc)
def read_voc(path: Path, *, classes: ClassList | None) -> Objects:
    """A folder with ``Annotations/*.xml`` and optionally ``SegmentationClass/*.png``.

    Difficult objects are ignored. In VOC's boxes, pixels are counted from 1, and both ends are included.
    """
    return objects_of_voc([row for _, rows in read_annotations(path) for row in rows], classes, path)


def read_annotations(path: Path) -> list[tuple[str, list[BoxRow]]]:
    """Return the name of each image in a VOC folder, and its objects.

    Raises
    ------
    InputError
        If an annotation does not have VOC's format.
    """
    return [_read(file) for file in sorted((path / "Annotations").glob("*.xml"))]


def objects_of_voc(rows: list[BoxRow], classes: ClassList | None, path: Path) -> Objects:
    """Return VOC objects, by default with VOC's class list if it contains all their classes."""
    keys = {row[1] for row in rows}
    own = classes or from_keys(VOC if keys <= set(VOC) else sorted(keys), path.name)
    columns = list(zip(*rows, strict=True)) or [()] * 7
    arrays = {
        "image_id": pa.array(columns[0], pa.string()),
        "class_id": pa.array([own.index(key) for key in columns[1]], pa.int32()),
        **{n: pa.array(c, pa.float32()) for n, c in zip(("x1", "y1", "x2", "y2"), columns[2:6], strict=True)},
        "ignore": pa.array(columns[6], pa.bool_()),
    }
    masks = {p.stem: p for p in sorted((path / "SegmentationClass").glob("*.png")) if p.is_file()}
    # Pixels hold the numbers of VOC's own classes, so masks cannot be used with another list.
    semantic = {i: masks[Path(i).stem] for i in columns[0] if Path(i).stem in masks}
    return objects_of_table(pa.table(arrays), own, path, semantic=semantic if own.keys == VOC else {})


def _read(file: Path) -> tuple[str, list[BoxRow]]:
    refused = "The annotation is not in VOC's format."
    root = parse_xml(file, refused)
    try:
        width, height = (float(root.findtext(f"size/{side}", "")) for side in ("width", "height"))
        name = Path(root.findtext("filename", f"{file.stem}.jpg").replace("\\", "/")).name
        return name, [_voc_row(o, name, width, height) for o in root.iter("object")]
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(refused, where=file, got=error) from error


def _voc_row(element: ElementTree.Element, name: str, width: float, height: float) -> BoxRow:
    left, top, right, bottom = (
        float(element.findtext(f"bndbox/{end}", "")) for end in ("xmin", "ymin", "xmax", "ymax")
    )
    ignored = element.findtext("difficult", "0").strip() not in ("0", "")
    key = element.findtext("name", "").strip()
    return name, key, (left - 1) / width, (top - 1) / height, right / width, bottom / height, ignored
