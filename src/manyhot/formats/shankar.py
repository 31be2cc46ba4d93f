"""The multi-label annotations of Shankar et al., and the mistakes of two models by Vasudevan et al.

The annotations are read as released, as rows of TensorFlow Datasets, and as a table of these rows as CSV.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import parquet as pq

from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError
from manyhot.files import atomic_write, write_text
from manyhot.formats.class_names import indices_of
from manyhot.formats.imagenetv2 import image_id
from manyhot.formats.reading import (
    base_names,
    class_id_column,
    class_index,
    class_lists,
    constant,
    cut_for_message,
    head,
    label_table,
    load_json,
    only_by_name,
)
from manyhot.formats.table_files import column_names, with_small_offsets
from manyhot.formats.writing import LABEL_FACTS, Saved, classes_of_table, usable, with_state
from manyhot.parameters import check_one_of
from manyhot.registry import register
from manyhot.tables import Labels, one_chunk
from manyhot.tables.frames import check_unique
from manyhot.tables.state_lists import ragged

_STATES = {"correct": "yes", "unclear": "unclear", "wrong": "no"}

_COLUMNS = {f"{answer}_multi_labels": state for answer, state in _STATES.items()}

_IMAGES = ("validation", "v2")

_METHOD, _NAME = "Shankar et al.", "ImageNet multi-label"


def _matches_tfds_multilabel(path: Path) -> bool:
    if path.suffix.lower() == ".parquet":
        return {"file_name", *_COLUMNS} <= set(column_names(path))
    return any(key in head(path) for key in ('"initial_annots"', '"problematic_images"', '"imagenet_m"'))


@register(
    "format",
    "tfds-multilabel",
    holds="labels",
    suffixes=(".json", ".parquet"),
    matches=_matches_tfds_multilabel,
    needs="file_name and correct_multi_labels, wrong_multi_labels, unclear_multi_labels",
)
def read_tfds_multilabel(path: Path, *, classes: ClassList | None, images: str = "validation") -> Labels:
    """Shankar et al.'s ``human_accuracy_v3.0.0.json``, or rows of TFDS's ``imagenet2012_multilabel``.

    Correct classes have the state *yes*, wrong classes *no*, and unclear classes *unclear*. A class in
    several of these lists gets the state of the first list in the order correct, unclear, wrong. Problematic
    images are not usable. The rows of TFDS contain original labels, but the JSON does not.

    Parameters
    ----------
    images : {"validation", "v2"}
        The data set to read. The JSON contains 20,000 images of the validation set and 20,000 of ImageNetV2.
        TFDS contains only images of the validation set. ``tfds-multilabel(images='v2')`` reads the images of
        ImageNetV2 and adds the suffix ``.jpeg`` to their names.

    References
    ----------
    Shankar et al. 2020, Evaluating Machine Accuracy on ImageNet, PMLR 119; Vasudevan et al. 2022, arXiv
    2205.04596, for version 3; tensorflow/datasets, ``imagenet2012_multilabel``.
    """
    classes = classes or class_list()
    check_one_of(images, _IMAGES, "There are no such images.", where=path)
    table = (
        _table_of_rows(_rows_of_tfds(path), path, len(classes))
        if path.suffix.lower() == ".parquet"
        else _annotations(path, classes, images)
    )
    name = _NAME if images == "validation" else "ImageNetV2 multi-label"
    return Labels(table, len(classes), classes.hash, asked_known=True, name=name)


def _annotations(path: Path, classes: ClassList, images: str) -> pa.Table:
    content = load_json(path)
    annotated, problematic = _parts(path, content)
    prefix = "ILSVRC2012_val_"
    names = [n for n in annotated if n.startswith(prefix) == (images == "validation")]
    if not names:
        raise InputError(
            f"The file has no images of {'the validation set' if images == 'validation' else 'ImageNetV2'}.",
            where=path,
            do="read its other images with "
            f"format=\"tfds-multilabel(images='{_IMAGES[images == 'validation']}')\"",
        )
    per_image = [_states(annotated[n], f"{path}, image {n}") for n in names]
    keys = pa.array([key for states in per_image for key in states], pa.string())
    usable = pa.array([n not in problematic for n in names])
    return _table(pa.array(map(image_id, names)), per_image, indices_of(keys, classes, path), usable)


def _table(
    ids: pa.Array, per_image: Sequence[Mapping[Any, str]], flat: pa.Array, usable: pa.Array
) -> pa.Table:
    """Return the states of the classes of each image; `flat` contains the classes, image by image."""
    states = pa.array([state for states in per_image for state in states.values()], pa.string())
    lengths = list(map(len, per_image))
    return label_table(ids, lengths, flat, _METHOD, rated=True, usable=usable, state=states)


def _parts(path: Path, content: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    parts = content if isinstance(content, dict) else {}
    annotated, problematic = parts.get("initial_annots"), parts.get("problematic_images")
    if not isinstance(annotated, dict) or not isinstance(problematic, dict):
        raise InputError(
            "The file is not Shankar et al.'s table of annotations.",
            where=path,
            allowed="an object with `initial_annots` and `problematic_images`",
        )
    return annotated, problematic


def _states(annotation: Any, where: str) -> dict[str, str]:
    fits = isinstance(annotation, dict) and all(
        isinstance(keys, list) and all(isinstance(key, str) for key in keys) for keys in annotation.values()
    )
    strange = sorted(set(annotation) - set(_STATES)) if fits else [annotation]
    if strange:
        raise InputError(
            "An entry is not an annotation of an image.",
            where=where,
            got=strange[0],
            allowed="lists of WordNet ids under correct, unclear and wrong",
        )
    states: dict[str, str] = {}
    for answer, state in _STATES.items():
        for key in annotation.get(answer, ()):
            states.setdefault(key, state)
    return states


def _rows_of_tfds(path: Path) -> pa.Table:
    columns = ["file_name", *_COLUMNS, *({"original_label", "is_problematic"} & set(column_names(path)))]
    return pq.ParquetFile(path).read(columns=columns).combine_chunks()


_CSV_COLUMNS = {
    "id": "file_name",
    "original_label": "original_label",
    "proposed_labels": "correct_multi_labels",
    "unclear_multi_labels": "unclear_multi_labels",
    "wrong_multi_labels": "wrong_multi_labels",
    "is_problematic": "is_problematic",
}
"""Columns of the CSV file, and of TFDS's rows: lists are numbers with commas."""


@register(
    "format",
    "multilabel-csv",
    holds="labels",
    suffixes=(".csv",),
    matches=lambda path: set(_CSV_COLUMNS) <= set(column_names(path)),
    needs="id, original_label and proposed_labels",
)
def read_multilabel_csv(path: Path, *, classes: ClassList | None) -> Labels:
    """Shankar et al.'s annotations of the validation set in the CSV file of klarajanouskova/ImageNet.

    States, usable images and original labels are the same as in ``tfds-multilabel``.

    References
    ----------
    See `read_tfds_multilabel`; Kisel et al. 2025, Flaws of ImageNet, Computer Vision's Favorite Dataset.
    """
    classes = classes or class_list()
    table = _table_of_rows(_rows_of_csv(path), path, len(classes))
    return Labels(table, len(classes), classes.hash, asked_known=True, name=_NAME)


def _rows_of_csv(path: Path) -> pa.Table:
    frame = pl.read_csv(path, columns=list(_CSV_COLUMNS), infer_schema=False).rename(_CSV_COLUMNS)
    number = pl.element().cast(pl.Int64)
    lists = pl.col(*_COLUMNS).fill_null("").str.extract_all(r"[^,\s]+").list.eval(number)
    label = pl.col("original_label").str.strip_chars().cast(pl.Int64)
    problematic = pl.col("is_problematic").replace_strict({"True": True, "False": False})
    return with_small_offsets(frame.with_columns(lists, label, problematic).to_arrow())


def _table_of_rows(rows: pa.Table, path: Path, n_classes: int) -> pa.Table:
    per_image: list[dict[int, str]] = [{} for _ in range(len(rows))]
    for column, state in _COLUMNS.items():
        lengths, flat = class_lists(rows[column], f"{path}, column {column}", n_classes)
        ids = iter(flat.to_pylist())
        for states, length in zip(per_image, lengths, strict=True):
            for class_id in islice(ids, int(length)):
                states.setdefault(class_id, state)
    names = base_names(one_chunk(rows["file_name"]), f"{path}, column file_name")
    flat = pa.array([class_id for states in per_image for class_id in states], pa.int32())
    table = _table(names, per_image, flat, _usable(rows, path))
    if "original_label" in rows.column_names:
        original, where = one_chunk(rows["original_label"]), f"{path}, column original_label"
        table = table.append_column("label", class_id_column(original, where, n_classes, gaps=True))
    return table


def _usable(rows: pa.Table, path: Path) -> pa.Array:
    if "is_problematic" not in rows.column_names:
        return constant(True, len(rows), pa.bool_())
    problematic = rows["is_problematic"]
    if not pa.types.is_boolean(problematic.type):
        raise InputError(
            "A column does not contain only true and false.",
            where=f"{path}, column is_problematic",
            got=problematic.type,
            allowed="bool",
        )
    return pc.invert(problematic)


@register(
    "writer",
    "tfds-multilabel",
    holds=("labels",),
    suffixes=(".parquet", ".json"),
    keeps=("original labels", "unusable images", "classes answered no", "unclear classes"),
)
def write_tfds_multilabel(labels: Labels, path: Path, classes: ClassList | None) -> Saved:
    """Write label sets as rows of TFDS's ``imagenet2012_multilabel``, or as the JSON from which it is made.

    Images that are not usable are written as problematic. The JSON contains WordNet ids and no original
    labels.

    Raises
    ------
    InputError
        If the classes are not those of ImageNet-1k.
    """
    own = classes_of_table(labels, classes or class_list())
    if own.hash != class_list().hash:
        got = f"{labels.n_classes:,} classes"
        raise InputError("The layout supports only classes of ImageNet-1k.", where=path, got=got)
    lists = {}
    for column, state in _COLUMNS.items():
        lengths, flat, _ = with_state(labels, state)
        lists[column] = ragged(lengths, pa.array(flat, pa.int64()))
    if path.suffix.lower() == ".json":
        write_text(path, json.dumps(_json_of(labels, lists, own)))
        has_labels = LABEL_FACTS["original labels"](labels)
        return Saved((path,), ("original labels",) if has_labels else ())
    own_labels = {"original_label": labels.table["label"]} if "label" in labels.table.column_names else {}
    rows = pa.table(
        {
            "file_name": labels.image_id,
            **own_labels,
            **lists,
            "is_problematic": pc.invert(one_chunk(labels.table["usable"])),
        }
    )
    with atomic_write(path) as part:
        pq.write_table(rows, part, compression="zstd")
    return Saved((path,))


def _json_of(labels: Labels, lists: dict[str, pa.ListArray], classes: ClassList) -> dict[str, Any]:
    columns = [[[classes.keys[c] for c in one] for one in lists[c].to_pylist()] for c in _COLUMNS]
    ids, use = labels.image_id.to_pylist(), usable(labels)
    annotated = {
        image: {answer: keys for answer, keys in zip(_STATES, sets, strict=True) if keys}
        for image, *sets in zip(ids, *columns, strict=True)
    }
    problematic = {image: "not usable" for image, is_usable in zip(ids, use, strict=True) if not is_usable}
    return {"initial_annots": annotated, "problematic_images": problematic}


_KEYS = ("top_prediction", "failure category", "failure severity")

CATEGORIES = {
    "Fine-grained error": "fine-grained",
    "Fine-grained error with OOV": "fine-grained, out of vocabulary",
    "Fine-grained with OOV": "fine-grained, out of vocabulary",
    "Fine-grained with Multilabel Options": "fine-grained, several labels",
    "Spurious Correlation": "spurious correlation",
    "Non-prototypical": "non-prototypical",
}
"""Our names of the published categories; *out of vocabulary* is spelled in two ways."""

MISTAKE_SEVERITIES = ("Major", "Minor", "Borderline")


@register(
    "format",
    "imagenet-mistakes",
    holds="findings",
    suffixes=(".json",),
    matches=lambda path: '"top_prediction"' in head(path),
)
def read_imagenet_mistakes(path: Path) -> pa.Table:
    """Vasudevan et al.'s ``vit3b_mistakes.json`` and ``greedy_soups_mistakes.json`` as *mistake* findings.

    `class_b` is the predicted class, which experts judged to be wrong. The evidence contains `model` (the
    name of the file), `category` and `severity`. The correct classes are not in the file.

    References
    ----------
    Vasudevan et al. 2022, arXiv 2205.04596; google-research/imagenet-mistakes.
    """
    content = load_json(path)
    if not isinstance(content, dict):
        raise InputError("The file is not a mapping of images to mistakes.", where=path)
    rows = [_row(name, mistake, f"{path}, image {name}") for name, mistake in content.items()]
    columns = {c: [row[c] for row in rows] for c in ("image_id", "class_b", "category", "severity")}
    ids = pa.array(columns["image_id"], pa.string())
    check_unique(ids, str(path))
    return pa.table(
        {
            "kind": constant("mistake", len(rows), pa.string()),
            "image_id": ids,
            "class_b": pa.array(columns["class_b"], pa.int32()),
            "model": constant(path.stem.removesuffix("_mistakes"), len(rows), pa.string()),
            "category": pa.array(columns["category"], pa.string()),
            "severity": pa.array(columns["severity"], pa.string()),
        }
    )


@register("format", "imagenet-mistakes-labels", holds="labels", suffixes=(".json",), matches=only_by_name)
def read_imagenet_mistakes_labels(path: Path, *, classes: ClassList | None) -> Labels:
    """Vasudevan et al.'s mistakes as labels: the predicted class of each image has the state *no*.

    Mistakes of all severities are included, because the same experts marked these classes as wrong in version
    3 of the ``tfds-multilabel`` labels. The states of other classes are unknown.

    References
    ----------
    As of `read_imagenet_mistakes`.
    """
    classes = classes or class_list()
    findings = read_imagenet_mistakes(path)
    ids, wrong = findings["image_id"], one_chunk(findings["class_b"])
    one = np.ones(len(findings), np.int64)
    table = label_table(ids, one, wrong, "Vasudevan et al.", rated=True, state="no")
    name = f"mistakes of {path.stem.removesuffix('_mistakes')}"
    return Labels(table, len(classes), classes.hash, asked_known=True, name=name)


def _row(name: str, mistake: Any, where: str) -> dict[str, Any]:
    if not isinstance(mistake, dict) or set(mistake) != set(_KEYS):
        raise InputError(
            "This is not a mistake.", where=where, got=cut_for_message(str(mistake)), allowed=", ".join(_KEYS)
        )
    predicted, category, severity = (mistake[key] for key in _KEYS)
    # A list cannot be looked up in a dict.
    if not isinstance(category, str) or category not in CATEGORIES:
        raise InputError(
            "There is no such category.",
            where=where,
            got=cut_for_message(str(category)),
            allowed="; ".join(CATEGORIES),
        )
    if severity not in MISTAKE_SEVERITIES:
        raise InputError(
            "There is no such severity.",
            where=where,
            got=cut_for_message(str(severity)),
            allowed=", ".join(MISTAKE_SEVERITIES),
        )
    return {
        "image_id": name.rpartition("/")[2],
        "class_b": class_index(predicted, len(class_list()), where),
        "category": CATEGORIES[category],
        "severity": severity.lower(),
    }
