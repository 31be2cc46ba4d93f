"""Which images a number is about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.classes import SUPERCLASSES, ClassList
from manyhot.core.sets import NO_LABEL, LabelSets
from manyhot.errors import InputError
from manyhot.tables import Images, Labels, one_chunk

ALL = "all"

_SIZES = (("n_labels=1", 1, 1), ("n_labels=2", 2, 2), ("n_labels=3", 3, 3), ("n_labels>=4", 4, None))

MAX_VALUES = 200
"""Values of a column of the images table above which it is no grouping but a measurement."""


@dataclass(frozen=True)
class Slices:
    """Named subsets of the images of a labels table.

    Attributes
    ----------
    names : tuple of str
    masks : ndarray of bool, shape (S, n)
    classes : tuple of int
        Classes of the original label that are slices of their own, ``class=KEY``; with up to thousands of
        them, no mask is kept.
    class_names : tuple of str
    """

    names: tuple[str, ...]
    masks: npt.NDArray[np.bool_]
    classes: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()


def make_slices(
    labels: Labels,
    sets: LabelSets,
    *,
    images: Images | None = None,
    classes: ClassList | None = None,
    requested: Iterable[str] = (),
) -> Slices:
    """Return the standing slices that the tables support, and the requested ones.

    Parameters
    ----------
    labels, sets : Labels, LabelSets
        The same images, row for row.
    images : Images, optional
        Where columns to slice by are found.
    classes : ClassList, optional
        Gives ``superclass=…`` and the keys of ``class=KEY``.
    requested : iterable of str
        ``class=KEY``, ``class`` for all classes, ``COLUMN`` or ``COLUMN=VALUE`` of the images table.

    Raises
    ------
    InputError
        If a requested slice cannot be made.
    """
    found = {ALL: np.ones(len(sets), bool)}
    for name, low, high in _SIZES:
        found[name] = (sets.size >= low) & (sets.size <= (high or sets.n_classes))
    found |= _rated(labels) | _superclasses(sets, classes)
    class_ids: list[int] = []
    for spec in requested:
        column, _, value = spec.partition("=")
        if spec in found:
            continue
        if column == "class":
            class_ids += _class_ids(value, sets, classes)
        else:
            found |= _column(spec, column, value, labels, images)
    ids = tuple(dict.fromkeys(class_ids))
    keys = classes.keys if classes else tuple(map(str, range(sets.n_classes)))
    return Slices(tuple(found), np.array(list(found.values())), ids, tuple(f"class={keys[c]}" for c in ids))


def _rated(labels: Labels) -> dict[str, npt.NDArray[np.bool_]]:
    if "rated" not in labels.table.column_names:
        return {}
    rated = one_chunk(labels.table["rated"])
    if rated.null_count == len(rated):
        return {}
    yes = pc.fill_null(rated, False).to_numpy(zero_copy_only=False)
    no = pc.fill_null(pc.invert(rated), False).to_numpy(zero_copy_only=False)
    return {"rated=true": yes, "rated=false": no}


def _superclasses(sets: LabelSets, classes: ClassList | None) -> dict[str, npt.NDArray[np.bool_]]:
    known = sets.label != NO_LABEL
    if classes is None or not any(classes.hypernyms) or not known.any():
        return {}
    superclass = np.where(known, classes.superclass[np.where(known, sets.label, 0)], -1)
    return {f"superclass={name}": superclass == i for i, name in enumerate(SUPERCLASSES)}


def _class_ids(value: str, sets: LabelSets, classes: ClassList | None) -> list[int]:
    if (sets.label == NO_LABEL).all():
        raise InputError(
            "Slices by class need original labels, and none are known.",
            do="give --rows or --images with labels",
        )
    if not value:
        return [int(c) for c in np.unique(sets.label[sets.label != NO_LABEL])]
    if classes is not None:
        return [classes.index(value)]
    if not value.isdigit() or int(value) >= sets.n_classes:
        raise InputError(
            "This is not a class.",
            got=value,
            allowed=f"0 to {sets.n_classes - 1}",
            do="to use keys and names, give the class list with --classes",
        )
    return [int(value)]


def _column(
    spec: str, column: str, value: str, labels: Labels, images: Images | None
) -> dict[str, npt.NDArray[np.bool_]]:
    names = (
        []
        if images is None
        else [c for c in images.table.column_names if c not in ("image_id", "uri", "label")]
    )
    if images is None or column not in names:
        raise InputError(
            f"There is no slice {spec!r}.",
            allowed=", ".join(["class", "class=KEY", *names]),
            do=None if images else f"give an images table with the column {column!r}: --images",
        )
    values = pc.take(images.table[column], pc.index_in(labels.image_id, images.image_id))
    text = one_chunk(
        pa.chunked_array(values).cast(pa.string())
        if isinstance(values, pa.Array)
        else values.cast(pa.string())
    )
    wanted = [value] if value else sorted(v for v in pc.unique(text).to_pylist() if v is not None)
    if len(wanted) > MAX_VALUES:
        raise InputError(
            f"The column {column!r} has too many values to slice by.",
            got=f"{len(wanted):,}",
            allowed=f"up to {MAX_VALUES}",
        )
    found = {
        f"{column}={v}": pc.fill_null(pc.equal(text, v), False).to_numpy(zero_copy_only=False) for v in wanted
    }
    empty = [name for name, mask in found.items() if not mask.any()]
    if empty:
        raise InputError(
            f"No image is in the slice {empty[0]!r}.",
            allowed=", ".join(map(str, pc.unique(text).to_pylist()[:10])),
        )
    return found
