"""Annotations as label sets: COCO's JSON, PASCAL VOC's folders, and Open Images' tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.classes import ClassList, from_keys
from manyhot.core.array_types import Bytes
from manyhot.core.sets import NO, NOT_ASKED, UNCLEAR, YES
from manyhot.errors import InputError
from manyhot.files import write_text
from manyhot.formats.class_names import ids_of_values
from manyhot.formats.headers import fold_name
from manyhot.formats.image_paths import located_ids
from manyhot.formats.images_table import images_of_frame
from manyhot.formats.object_files import (
    categories_of_coco,
    entries_of_coco,
    id_of_coco,
    image_of_coco,
    is_ignored_in_coco,
    load_coco,
    matches_coco,
    matches_voc,
    named_in_coco,
    numbers_of_coco,
    objects_of_coco,
    objects_of_voc,
    read_annotations,
)
from manyhot.formats.reading import (
    check_threshold,
    cut_for_message,
    image_ids,
    label_table,
    records_no,
    short_ids,
    state_columns,
)
from manyhot.formats.table_files import TABLE_SUFFIXES, column_names, read_frame
from manyhot.formats.writing import Saved, classes_of_table, lost_keys, unique_names
from manyhot.kinds import FOLDER
from manyhot.registry import register
from manyhot.tables import Images, Labels, Objects
from manyhot.tables.arrays import boxes_that_fit, states_of_labels, states_of_objects
from manyhot.tables.frames import check_unique
from manyhot.tables.labels import declaring

_NEGATIVE, _BOX = "neg_category_ids", "bbox"
_NAMES = ("id", "image_id", "file_name")


@register("format", "coco-labels", holds="labels", suffixes=(".json",), matches=matches_coco)
def read_coco_labels(path: Path, *, classes: ClassList | None, none: str = "") -> Labels:
    """COCO's ``instances_….json`` as label sets: the classes with an object in the image.

    In COCO, annotators looked for all categories, so a category without an object has the state *no*. If all
    objects of a category are crowds, are marked with ``"ignore": 1``, or have a box without area or outside
    the image, the category is *unclear*. Images without objects have empty label sets.
    The id of an image is its ``file_name`` with folders; absolute paths lose the folders that all of them
    share. In LVIS, only categories that an image lists under ``neg_category_ids`` have the state *no*. Class
    ids are in the order of the category ids.

    An annotation without a box, as in COCO Camera Traps, applies to the whole image.

    Parameters
    ----------
    none : str
        The category of images with none of the classes, as in ``coco-labels(none='empty')``. It is then not
        read as a class: its images have empty label sets, and images with neither annotations nor
        ``neg_category_ids`` are not rated.

    References
    ----------
    Lin et al. 2014, arXiv 1405.0312 (COCO); Gupta et al. 2019, arXiv 1908.03195 (LVIS); Beery, Van Horn and
    Perona 2018, arXiv 1807.04975 (Caltech Camera Traps).
    """
    content = load_coco(path)
    with entries_of_coco(path):
        annotated = {id_of_coco(a["image_id"]) for a in content["annotations"]} if none else None
        content = _without(content, none, path) if none else content
        own = classes or categories_of_coco(content, path)
        written = pa.array([image_of_coco(i) for i in content["images"]], pa.string())
        names = located_ids(written, path).to_pylist()
        content = content | {"annotations": _without_outlines(content)}
    check_unique(pa.array(names, pa.string()), str(path))
    with entries_of_coco(path):
        state = _states_of_images(content, own, path)
        if annotated is not None:
            unrated = [id_of_coco(i["id"]) not in annotated and _NEGATIVE not in i for i in content["images"]]
            state[unrated] = NOT_ASKED
    named = [i | {"file_name": name} for i, name in zip(content["images"], names, strict=True)]
    boxed = {"images": named, "annotations": [a for a in content["annotations"] if _BOX in a]}
    objects = objects_of_coco(content | boxed, own, path, ids=image_ids)
    usable = [not i.get("corrupt") for i in named]
    return _labels(objects, names, own, state, path.stem, is_own=classes is None, usable=usable)


def _without_outlines(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the annotations without outlines, which take most of the time, and boxes that are not known."""
    unsized = {id_of_coco(i["id"]) for i in content["images"] if None in (i.get("width"), i.get("height"))}
    left_out = "segmentation", _BOX
    return [
        {
            k: v
            for k, v in a.items()
            if k not in left_out[: 1 + (str(a.get("image_id")) in unsized or not a.get(_BOX))]
        }
        for a in content["annotations"]
    ]


def _without(content: dict[str, Any], none: str, path: Path) -> dict[str, Any]:
    """Return the content without the category of images that have no class."""
    ids = {id_of_coco(c["id"]) for c in content["categories"] if str(c["name"]) == none}
    if not ids:
        raise InputError(
            "The file has no such category.",
            where=path,
            got=f"none={none!r}",
            allowed=cut_for_message(", ".join(str(c["name"]) for c in content["categories"])),
        )
    categories = [c for c in content["categories"] if id_of_coco(c["id"]) not in ids]
    annotations = [a for a in content["annotations"] if id_of_coco(a["category_id"]) not in ids]
    images = [
        i | {_NEGATIVE: [c for c in i[_NEGATIVE] if id_of_coco(c) not in ids]} if _NEGATIVE in i else i
        for i in content["images"]
    ]
    return content | {"images": images, "categories": categories, "annotations": annotations}


def _states_of_images(content: dict[str, Any], classes: ClassList, path: Path) -> Bytes:
    """Return the states without objects, shape (n, C): verified absences, and classes without a box."""
    images, number = content["images"], numbers_of_coco(content, classes)
    is_partial = any(_NEGATIVE in image for image in images)
    state = np.full((len(images), len(classes)), NOT_ASKED if is_partial else NO, np.uint8)
    for row, image in enumerate(images if is_partial else ()):
        state[row, [number[id_of_coco(i)] for i in image.get(_NEGATIVE, ())]] = NO
    rows = {id_of_coco(image["id"]): row for row, image in enumerate(images)}
    for about in content["annotations"]:
        if _BOX not in about:
            at = (
                named_in_coco(about, "image_id", rows, path),
                named_in_coco(about, "category_id", number, path),
            )
            state[at] = YES if not is_ignored_in_coco(about) else state[at] if state[at] == YES else UNCLEAR
    return state


@register("format", "coco-images", holds="images", suffixes=(".json",), matches=matches_coco)
def read_coco_images(path: Path, *, classes: ClassList | None) -> Images:
    """The images in COCO JSON, with their other text and number fields, such as ``location``.

    The image ids are the same as in `read_coco_labels`.
    """
    content = load_coco(path)
    with entries_of_coco(path):
        images = content["images"]
        written = pa.array([image_of_coco(i) for i in images], pa.string())
        columns: dict[str, pl.Series] = {"image_id": pl.Series(located_ids(written, path).to_pylist())}
        for name in dict.fromkeys(key for image in images for key in image if key not in _NAMES):
            values = [image.get(name) for image in images]
            kinds = {type(v) for v in values if v is not None}
            if kinds <= {bool, int, float, str}:  # lists are left out, such as LVIS's of categories
                is_mixed = len(kinds) > 1 and not kinds <= {int, float}
                texts = [v if v is None else str(v) for v in values] if is_mixed else values
                columns[name] = pl.Series(texts, dtype=pl.Float64 if kinds == {int, float} else None)
    return images_of_frame(pl.DataFrame(columns), classes, path)


@register(
    "writer",
    "coco-labels",
    holds=("labels",),
    suffixes=(".json",),
    keeps=("classes answered no", "unclear classes"),
)
def write_coco_labels(labels: Labels, path: Path, classes: ClassList | None) -> Saved:
    """Write one annotation without a box for each valid class of each usable image.

    An unclear class is written as an annotation with ``iscrowd``. If raters were not asked about all classes
    of all images, the classes answered *no* are ``neg_category_ids``, as in LVIS. Labels hold neither the ids
    nor the boxes of the COCO file that they may come from, so images and categories get new numbers.
    """
    own = classes_of_table(labels, classes)
    names = unique_names(own)
    # Category 0 is `empty` in COCO Camera Traps, and the background for many tools.
    first = 0 if names[0] == "empty" else 1
    states = states_of_labels(labels, own)
    used = np.flatnonzero(labels.table["usable"].to_numpy())
    is_partial = not labels.asked_known or bool((states.state[used] == NOT_ASKED).any())
    images, annotations = [], list[dict[str, int]]()
    for number, row in enumerate(used.tolist(), 1):
        state = states.state[row]
        image = {"id": number, "file_name": labels.image_id[row].as_py()}
        absent = np.flatnonzero((state == NO) & labels.asked_known) + first
        images.append(image | ({_NEGATIVE: absent.tolist()} if is_partial else {}))
        for c in np.flatnonzero((state == YES) | (state == UNCLEAR)).tolist():
            about = {"id": len(annotations) + 1, "image_id": number, "category_id": c + first}
            annotations.append(about | ({"iscrowd": 1} if state[c] == UNCLEAR else {}))
    categories = [{"id": i, "name": name} for i, name in enumerate(names, first)]
    content = {"images": images, "categories": categories, "annotations": annotations}
    write_text(path, json.dumps(content, ensure_ascii=False, indent=1))
    note = (
        f"{path.name} has neither the boxes nor the ids of another COCO file: images are numbered from 1, "
        f"and categories from {first}, so join other files, such as detections, by file_name and by the "
        "name of the category"
    )
    return Saved((path,), lost_keys(own), (note,))


@register("format", "voc-labels", holds="labels", suffixes=(FOLDER,), matches=matches_voc)
def read_voc_labels(path: Path, *, classes: ClassList | None) -> Labels:
    """PASCAL VOC's folder with ``Annotations/*.xml`` as label sets: the classes with an object in the image.

    In VOC, annotators looked for all classes, so a class without an object has the state *no*. If all objects
    of a class are difficult, the class is *unclear*, because VOC excludes it from the evaluation. The class
    list is the same as in `read_voc`.

    References
    ----------
    Everingham et al. 2010, The PASCAL Visual Object Classes Challenge, IJCV 88.
    """
    annotations = read_annotations(path)
    objects = objects_of_voc([row for _, rows in annotations for row in rows], classes, path)
    own = classes or from_keys(objects.keys, path.resolve().name)
    names = [name for name, _ in annotations]
    check_unique(pa.array(names, pa.string()), str(path))
    verified = np.full((len(names), len(own)), NO, np.uint8)
    return _labels(objects, names, own, verified, path.resolve().name, is_own=classes is None)


def _labels(
    objects: Objects,
    names: Sequence[str],
    classes: ClassList,
    verified: Bytes,
    name: str,
    *,
    is_own: bool,
    usable: Sequence[bool] = (),
) -> Labels:
    """Return label sets of all images, also of those without objects.

    Parameters
    ----------
    names : sequence of str, length n
        The images.
    verified : ndarray of uint8, shape (n, C)
        The states of classes without objects.
    is_own : bool
        Whether `classes` is the class list of the file.
    usable : sequence of bool, length n, optional
        By default, all images are usable.
    """
    seen = states_of_objects(objects, classes)
    n_unfit = int(np.count_nonzero(~objects.ignore & ~boxes_that_fit(objects)))
    note = (
        f"{n_unfit:,} boxes have no area or are outside their image; a class with no other "
        "objects in an image is unclear there"
    )
    row = {image: i for i, image in enumerate(names)}
    rows = [row[image] for image in seen.image_id.to_pylist()]
    state = verified.copy()
    from_file = (seen.state == NO) | (state[rows] == YES)
    state[rows] = np.where(from_file, state[rows], seen.state)
    columns = {
        "image_id": pa.array(names, pa.string()),
        "usable": pa.array(list(usable) or [True] * len(names), pa.bool_()),
    }
    labels = Labels(
        pa.table(columns | state_columns(state)),
        len(classes),
        classes.hash,
        asked_known=records_no(verified),
        name=name,
        class_list=classes if is_own else None,
        positives_only=not records_no(verified),
        notes=(note,) if n_unfit else (),
    )
    # COCO and VOC number their classes themselves, so the order is not that of the sorted names.
    return declaring(labels, classes) if is_own else labels


_OPEN_IMAGES = {"imageid": "image_id", "labelname": "name", "confidence": "p", "source": "source"}

_MACHINE = "machine"


@register(
    "format",
    "open-images",
    holds="labels",
    suffixes=TABLE_SUFFIXES,
    matches=lambda path: {"imageid", "labelname"} <= {fold_name(name) for name in column_names(path)},
    needs="ImageID, LabelName and Confidence",
)
def read_open_images(
    path: Path, *, classes: ClassList | None, threshold: float = 0.5, suffix: str = ""
) -> Labels:
    """Open Images labels or boxes of images: one image and one class per row, with a confidence.

    A confidence of 1 from a human verification is *yes*, and 0 is *no*. If verifications differ, the class is
    *unclear*. A class that no rater verified is *yes* if its machine-generated confidence is at least
    `threshold`, and otherwise *not asked*. The confidence is read as `p`. In a table of boxes, each row is a
    *yes*. `rated` is false for an image with only machine-generated rows.

    Parameters
    ----------
    threshold : float
        Minimum confidence of a class with the state *yes*.
    suffix : str
        Suffix to add to the image ids, which have no suffix in the file, as in
        ``open-images(suffix='.jpg')``.

    References
    ----------
    Kuznetsova et al. 2020, arXiv 1811.00982.
    """
    check_threshold(threshold, path)
    pairs = _verifications(_open_images(path), threshold)
    found = ids_of_values(pairs["name"].unique().to_list(), classes, path)
    images = pairs.group_by("image_id", maintain_order=True).agg(
        n=pl.col("state").is_not_null().sum(), rated=pl.col("is_human").any()
    )
    pairs = pairs.filter(pl.col("state").is_not_null())
    lengths = images["n"].to_numpy().astype(np.int64)
    flat = pairs["name"].replace_strict(found.ids, return_dtype=pl.Int32)
    ids = short_ids(pl.Series(images["image_id"]).to_arrow(), path)
    table = label_table(
        *(pc.binary_join_element_wise(ids, suffix, ""), lengths, flat.to_arrow(), "Open Images"),
        rated=images["rated"].to_arrow(),
        state=pairs["state"].to_arrow().cast(pa.string()),
        p=pairs["p"].cast(pl.Float32).to_arrow(),
    )
    return Labels(
        table,
        found.n_classes,
        found.class_hash,
        asked_known=True,
        name=path.stem,
        class_list=found.class_list,
    )


def _open_images(path: Path) -> pl.DataFrame:
    """Return the columns ``image_id``, ``name``, ``p`` and ``source`` of a table."""
    columns = [name for name in column_names(path) if fold_name(name) in _OPEN_IMAGES]
    frame = read_frame(path, columns)
    frame = frame.select(pl.col(name).alias(_OPEN_IMAGES[fold_name(name)]) for name in columns)
    if "p" not in frame.columns:
        frame = frame.with_columns(p=pl.lit(1.0))
    if "source" not in frame.columns:
        frame = frame.with_columns(source=pl.lit(""))
    frame = frame.with_columns(
        pl.col("image_id", "name", "source").cast(pl.String), p=pl.col("p").cast(pl.Float64, strict=False)
    )
    for name in ("image_id", "name"):
        if frame[name].null_count():
            row = frame[name].is_null().arg_true()[0]
            what = "image" if name == "image_id" else "class"
            raise InputError(f"A row has no {what}.", where=f"{path}, row {row}")
    strange = frame.filter(~pl.col("p").is_between(0, 1) | pl.col("p").is_null() | pl.col("p").is_nan())
    if len(strange):
        raise InputError(
            "This is not a confidence.",
            where=f"{path}, image {cut_for_message(strange['image_id'][0])}",
            got=strange["p"][0],
            allowed="0 to 1",
        )
    return frame


def _verifications(frame: pl.DataFrame, threshold: float) -> pl.DataFrame:
    """Return one row per image and class, image by image, with ``state``, ``p`` and ``is_human``."""
    frame = frame.with_columns(is_human=pl.col("source").fill_null("") != _MACHINE)
    frame = frame.with_columns(has_human=pl.col("is_human").any().over("image_id", "name"))
    frame = frame.filter(pl.col("is_human") == pl.col("has_human"))
    pairs = frame.group_by("image_id", "name", maintain_order=True).agg(
        pl.col("is_human").first(),
        pl.col("p").mean(),
        low=pl.col("p").min() >= threshold,
        high=pl.col("p").max() >= threshold,
    )
    state = (
        pl.when("low")
        .then(pl.lit("yes"))
        .when("high")
        .then(pl.lit("unclear"))
        .when("is_human")
        .then(pl.lit("no"))
    )
    # The rows of an image may be anywhere in the file: human and machine labels are often concatenated.
    rows = pairs.with_columns(state=state).with_row_index("row")
    return rows.sort(pl.col("row").min().over("image_id"), maintain_order=True)
