"""MadryLab's annotations of 10,000 validation images: the number of objects, and the main one.

Read as images, they are columns to slice by; read as labels, the main object is the label set. The same
authors published superclasses: lists of classes that belong together.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError
from manyhot.formats.pandas_pickle import Frame, load_frame, load_groups
from manyhot.formats.reading import constant, cut_for_message, load_json, ragged
from manyhot.registry import register
from manyhot.tables import Images, Labels

ANNOTATIONS = ("fu", "easy", "mis", "amb")
"""Followed up in the CLASSIFY task; the original label alone is confident; never selected; ambiguous."""

_COUNTS = {
    "label": "imagenet_label",
    "n_objects": "num_objects",
    "main_label": "main_top",
    "n_raters": "num_workers",
}

_INFO, _CLASSIFY = "image_info.pkl", "annotations_classify_task.pkl"

_WHY = "a file too large for the archive that the catalogue was made from; no format reads it"


def _matches(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == b"\x80"


@register(
    "format",
    "tsipras",
    holds="images",
    suffixes=(".pkl",),
    matches=_matches,
    absent={"annotations_contains_task.pkl": _WHY, "model_predictions.pkl": _WHY},
)
def read_tsipras(path: Path, *, classes: ClassList | None) -> Images:
    """MadryLab's ``annotations_classify_task.pkl`` and ``image_info.pkl``: images with counts to slice by.

    The first gives 6,761 images with `label`, `n_objects`, `main_label` (the plurality of raters) and
    `n_raters`; where the second is in the same folder, all 10,000 with `annotation`, too, and the others
    null. The second alone gives 10,000 images with `annotation`, one of `ANNOTATIONS`.

    The tasks CONTAINS and the models' predictions of that repository are not read.

    References
    ----------
    Tsipras et al. 2020, arXiv 2005.11295; MadryLab/ImageNetMultiLabel.
    """
    classes = classes or class_list()
    frame = load_frame(path)
    if "annotation" in frame.columns:
        table = pa.table({"image_id": frame.index, "annotation": _annotations(frame, path)})
    else:
        table = _counts(
            frame,
            path,
            len(classes),
            allowed=f"the columns of {_CLASSIFY} or of {_INFO}",
            do="read these two: the CONTAINS task and the models' predictions are not read",
        )
        beside = path.with_name(_INFO)
        table = _joined(table, beside) if beside.is_file() else table
    return Images(table, name="Tsipras et al.")


@register("format", "tsipras-main", holds="labels", suffixes=(".pkl",), matches=_matches)
def read_tsipras_main(path: Path, *, classes: ClassList | None) -> Labels:
    """MadryLab's ``annotations_classify_task.pkl`` as labels: the set is the main object by most raters.

    6,761 images, each with its original label and one valid class. Raters chose among several confident
    labels; the file does not say which, so that other classes are unknown.

    References
    ----------
    Tsipras et al. 2020, arXiv 2005.11295; MadryLab/ImageNetMultiLabel.
    """
    classes = classes or class_list()
    table = _counts(
        load_frame(path), path, len(classes), allowed=f"the columns of {_CLASSIFY}", do="give that file"
    )
    n, one = len(table), np.ones(len(table), np.int64)
    table = pa.table(
        {
            "image_id": table["image_id"],
            "label": table["label"],
            "rated": constant(True, n, pa.bool_()),
            "usable": constant(True, n, pa.bool_()),
            "classes": ragged(one, table["main_label"].combine_chunks()),
            "state": ragged(one, constant("yes", n, pa.string())),
            "n_votes": ragged(one, table["n_raters"].combine_chunks()),
            "method": constant("main object by most raters", n, pa.string()),
        }
    )
    return Labels(table, len(classes), classes.hash, name="Tsipras et al., main object")


def _counts(frame: Frame, path: Path, n_classes: int, *, allowed: str, do: str) -> pa.Table:
    if not set(_COUNTS.values()) <= set(frame.columns):
        raise InputError(
            "The pickle holds another table.",
            where=path,
            got=", ".join(frame.columns) or "no columns",
            allowed=allowed,
            do=do,
        )
    columns = {name: _whole_numbers(frame, source, path) for name, source in _COUNTS.items()}
    for name in ("label", "main_label"):
        bad = columns[name][(columns[name] < 0) | (columns[name] >= n_classes)]
        if len(bad):
            raise InputError(
                "A class is out of range.",
                where=f"{path}, {name}",
                got=bad[0],
                allowed=f"0 to {n_classes - 1}",
            )
    return pa.table({"image_id": frame.index} | {n: v.astype(np.int32) for n, v in columns.items()})


def _joined(table: pa.Table, beside: Path) -> pa.Table:
    info = load_frame(beside)
    row_of = {name: i for i, name in enumerate(table["image_id"].to_pylist())}
    unknown = row_of.keys() - set(info.index)
    if "annotation" not in info.columns or unknown:
        raise InputError(
            "The images of the two pickles are from different releases.",
            where=beside,
            got=f"{len(unknown):,} images missing" if unknown else "no column annotation",
            allowed=f"the {len(row_of):,} images beside it, among others",
        )
    rows = pa.array([row_of.get(name) for name in info.index], pa.int32())
    joined = {n: table[n].combine_chunks().take(rows) for n in table.column_names if n != "image_id"}
    return pa.table({"image_id": info.index, "annotation": _annotations(info, beside), **joined})


def _whole_numbers(frame: Frame, column: str, path: Path) -> npt.NDArray[np.int64]:
    values = frame.columns[column]
    if values.dtype.kind != "i":
        raise InputError("A column is not of whole numbers.", where=path, got=f"{column}: {values.dtype}")
    return values


def _annotations(frame: Frame, path: Path) -> list[str]:
    values: list[str] = frame.columns["annotation"].tolist()
    strange = [value for value in values if not isinstance(value, str) or value not in ANNOTATIONS]
    if strange:
        # A value that is not a text may be nested too deep to be shown.
        got = repr(strange[0]) if isinstance(strange[0], str) else type(strange[0]).__name__
        raise InputError("This is not an annotation.", where=path, got=got, allowed=", ".join(ANNOTATIONS))
    return values


def read_superclasses(
    path: Path | str | Any, n_classes: int, classes: ClassList | None
) -> dict[str, list[int]]:
    """Return the class ids of each superclass.

    Parameters
    ----------
    path : path-like
        JSON, an object that names the classes of each superclass by id, key or name; or
        ``superclasses.npy`` of Tsipras et al., a pickle, which is read without running code.
    n_classes : int
        C.
    classes : ClassList, optional
        The class list in which keys and names are looked up.

    Raises
    ------
    InputError
        If the file is none of these, or a class is out of range or unknown.

    References
    ----------
    Tsipras et al. 2020, arXiv 2005.11295; MadryLab/ImageNetMultiLabel.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("The file does not exist.", where=path)
    found = load_groups(path) if path.suffix == ".npy" else load_json(path)
    if not isinstance(found, dict) or not found or not all(isinstance(v, list) for v in found.values()):
        raise InputError(
            "The file holds no superclasses.",
            where=path,
            got=cut_for_message(json.dumps(found)),
            allowed='an object such as {"dogs": [151, 152], "birds": [7, 8]}',
        )
    return {name: _ids(members, n_classes, classes, f"{path}, {name}") for name, members in found.items()}


def _ids(members: Sequence[Any], n_classes: int, classes: ClassList | None, where: str) -> list[int]:
    ids = []
    for member in members:
        if isinstance(member, str) and classes is not None:
            member = classes.index(member)
        if type(member) is not int or not 0 <= member < n_classes:
            raise InputError(
                "This is not a class.",
                where=where,
                got=cut_for_message(json.dumps(member)),
                allowed=f"0 to {n_classes - 1}" + (", or the key or name of a class" if classes else ""),
            )
        ids.append(member)
    return ids
