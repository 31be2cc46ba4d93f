"""MadryLab's annotations of 10,000 validation images: the number of objects, and the main object.

Read as images, they are columns to slice by; read as labels, the main object is the label set. Superclasses,
which are lists of related classes, are by the same authors.

Their annotations of 6,761 images as label sets are the classes that raters selected.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from manyhot.classes import ClassList, class_list
from manyhot.core.array_types import Ints64
from manyhot.errors import InputError
from manyhot.formats.pandas_pickle import Frame, load_frame, load_groups
from manyhot.formats.reading import class_index, cut_for_message, label_table, load_json, only_by_name
from manyhot.parameters import check_share
from manyhot.registry import register
from manyhot.tables import Images, Labels

ANNOTATIONS = ("fu", "easy", "mis", "amb")
"""Followed up in the CLASSIFY task; only the original label is confident; never selected; ambiguous."""

_COUNTS = {
    "label": "imagenet_label",
    "n_objects": "num_objects",
    "main_label": "main_top",
    "n_raters": "num_workers",
}

_INFO, _CLASSIFY = "image_info.pkl", "annotations_classify_task.pkl"

_WHY = "the file is too large for the archive of the catalogue; no format reads it"


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
    """MadryLab's ``annotations_classify_task.pkl`` and ``image_info.pkl``, as images with columns for slices.

    The first file contains 6,761 images with `label`, `n_objects`, `main_label` (the plurality of raters) and
    `n_raters`. The second file contains 10,000 images with `annotation`, one of `ANNOTATIONS`. If both files
    are in the same folder, the result contains all 10,000 images, and columns from the first file may contain
    nulls.

    The CONTAINS task and the models' predictions in MadryLab's repository are not read.

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
            do="read one of these two pickles; the CONTAINS task and the models' predictions are not "
            "supported",
        )
        beside = path.with_name(_INFO)
        table = _joined(table, beside) if beside.is_file() else table
    return Images(table, name="Tsipras et al.")


@register("format", "tsipras-main", holds="labels", suffixes=(".pkl",), matches=_matches)
def read_tsipras_main(path: Path, *, classes: ClassList | None) -> Labels:
    """MadryLab's ``annotations_classify_task.pkl`` as labels: the main object by plurality of the raters.

    Each of the 6,761 images has an original label and one valid class. Raters chose among several confident
    labels, which the file does not contain. The states of other classes are therefore unknown.

    References
    ----------
    Tsipras et al. 2020, arXiv 2005.11295; MadryLab/ImageNetMultiLabel.
    """
    classes = classes or class_list()
    table = _counts(
        load_frame(path), path, len(classes), allowed=f"the columns of {_CLASSIFY}", do="pass that file"
    )
    main, n_votes = (table[name].combine_chunks() for name in ("main_label", "n_raters"))
    table = label_table(
        *(table["image_id"], np.ones(len(table), np.int64), main, "main object by most raters"),
        rated=True,
        label=table["label"],
        n_votes=n_votes,
    )
    return Labels(table, len(classes), classes.hash, name="Tsipras et al., main object")


def _check_columns(frame: Frame, names: set[str], path: Path, allowed: str, do: str) -> None:
    if not names <= set(frame.columns):
        raise InputError(
            "The pickle contains a different table.",
            where=path,
            got=", ".join(frame.columns) or "no columns",
            allowed=allowed,
            do=do,
        )


def _counts(frame: Frame, path: Path, n_classes: int, *, allowed: str, do: str) -> pa.Table:
    _check_columns(frame, {*_COUNTS.values()}, path, allowed, do)
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
            allowed=f"at least the {len(row_of):,} images of {_CLASSIFY}",
        )
    rows = pa.array([row_of.get(name) for name in info.index], pa.int32())
    joined = {n: table[n].combine_chunks().take(rows) for n in table.column_names if n != "image_id"}
    return pa.table({"image_id": info.index, "annotation": _annotations(info, beside), **joined})


def _whole_numbers(frame: Frame, column: str, path: Path) -> Ints64:
    values = frame.columns[column]
    if values.dtype.kind != "i":
        raise InputError("A column does not contain integers.", where=path, got=f"{column}: {values.dtype}")
    return values


def _annotations(frame: Frame, path: Path) -> list[str]:
    values: list[str] = frame.columns["annotation"].tolist()
    strange = [value for value in values if not isinstance(value, str) or value not in ANNOTATIONS]
    if strange:
        # A value that is not a text may be nested too deeply to be shown.
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
        A JSON object with the classes of each superclass by id, key or name; ``clusters.json`` of *Flaws of
        ImageNet*; or ``superclasses.npy`` of Tsipras et al. This last file is a pickle, which is read without
        running its code.
    n_classes : int
        Number of classes.
    classes : ClassList, optional
        The class list of keys and names.

    Raises
    ------
    InputError
        If the file has a different format, or a class is out of range or unknown.

    References
    ----------
    Tsipras et al. 2020, arXiv 2005.11295; MadryLab/ImageNetMultiLabel. Kisel et al. 2025, Flaws of ImageNet,
    Computer Vision's Favorite Dataset, ICLR Blogposts; klarajanouskova/ImageNet, ``classes/problem_groups``.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("The file does not exist.", where=path)
    groups = load_groups(path) if path.suffix == ".npy" else _of_clusters(load_json(path))
    if not isinstance(groups, dict) or not groups or not all(isinstance(v, list) for v in groups.values()):
        raise InputError(
            "The file contains no superclasses.",
            where=path,
            got=cut_for_message(json.dumps(groups)),
            allowed='an object such as {"dogs": [151, 152], "birds": [7, 8]}',
        )
    return {name: _ids(members, n_classes, classes, f"{path}, {name}") for name, members in groups.items()}


def _of_clusters(groups: Any) -> Any:
    """Return clusters as superclasses, named after their classes; anything else unchanged."""
    fits = isinstance(groups, list) and all(
        isinstance(c, dict)
        and isinstance(named := c.get("classes"), dict)
        and all(key.isdigit() and isinstance(name, str) for key, name in named.items())
        for c in groups
    )
    if not fits:
        return groups
    return {
        " / ".join(name.partition(",")[0] for name in cluster["classes"].values()): list(
            map(int, cluster["classes"])
        )
        for cluster in groups
    }


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


@register("format", "tsipras-selected", holds="labels", suffixes=(".pkl",), matches=only_by_name)
def read_tsipras_selected(path: Path, *, classes: ClassList | None, share: float = 0.5) -> Labels:
    """MadryLab's ``annotations_classify_task.pkl`` as label sets: the classes that raters selected.

    Raters selected the classes of the objects in an image among classes that other raters had called valid. A
    class is valid if the share of the image's 6 to 9 raters who selected it is at least `share`. `p` is the
    share of raters who selected the class. Other classes that a rater selected have the state *no*. The file
    does not contain classes that no rater selected.

    Parameters
    ----------
    share : float
        Minimum share of the raters.

    References
    ----------
    Tsipras et al. 2020, arXiv 2005.11295; MadryLab/ImageNetMultiLabel.
    """
    check_share(share, "The share of raters is out of range.", where=path)
    classes = classes or class_list()
    frame = load_frame(path)
    names = {"selected", "imagenet_label"}
    _check_columns(frame, names, path, f"the columns of {_CLASSIFY}", "pass that file")
    n = len(classes)
    shares = [
        _shares(raters, n, f"{path}, image {image}")
        for image, raters in zip(frame.index, frame.columns["selected"], strict=True)
    ]
    lengths = [len(one) for one in shares]
    p = [value for one in shares for value in one.values()]
    states = np.where(np.array(p, np.float64) >= share - 1e-9, "yes", "no").astype(str)
    n_raters = [len(raters) for raters in frame.columns["selected"]]
    label = [class_index(int(one), n, f"{path}, imagenet_label") for one in frame.columns["imagenet_label"]]
    flat = pa.array([c for one in shares for c in one], pa.int32())
    table = label_table(
        *(frame.index, lengths, flat, "selected by raters"),
        rated=True,
        label=pa.array(label, pa.int32()),
        state=pa.array(states, pa.string()),
        p=pa.array(p, pa.float32()),
        n_votes=pa.array(np.repeat(n_raters, lengths), pa.int32()),
    )
    return Labels(table, n, classes.hash, name="Tsipras et al., selected classes")


def _shares(raters: Any, n_classes: int, where: str) -> dict[int, float]:
    """Return the share of raters who selected each class of an image, keyed by class."""
    if not isinstance(raters, list) or not raters or not all(isinstance(one, list) for one in raters):
        raise InputError("The selected classes are not one list per rater.", where=where)
    counts = Counter(c for one in raters for c in {class_index(c, n_classes, where) for c in one})
    return {c: counts[c] / len(raters) for c in sorted(counts)}
