"""Whether whole numbers in the named columns of a frame are scores of classes or ranked classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from manyhot.classes import ClassList, folded_name, normal_name
from manyhot.errors import InputError, first_names
from manyhot.tables import FramePart
from manyhot.tables.class_values import has_texts, names_in


def with_scores(
    models: Sequence[FramePart], others: Iterable[FramePart] = (), lists: Iterable[ClassList | None] = ()
) -> list[FramePart]:
    """Return models in which columns named after classes contain scores, even if these are integers.

    In other columns, integers are ranked classes.

    Parameters
    ----------
    models : sequence of FramePart
    others : iterable of FramePart
        Label sets, whose classes may be named.
    lists : iterable of ClassList
        Class lists of labels and predictions.

    Raises
    ------
    InputError
        If it is unknown whether integers in named columns are scores or classes.
    """
    if not any(map(_is_open, models)):
        return list(models)
    class_names = {_folded(n) for c in lists if c is not None for n in (*c.keys, *c.names)}
    for part in (*others, *(m for m in models if not _is_open(m))):
        if part.names is not None or has_texts(part.values):
            own = names_in(part.values) if part.names is None else part.names
            class_names |= set(map(_folded, own))
    return [_read(model, class_names) if _is_open(model) else model for model in models]


def _is_open(part: FramePart) -> bool:
    values = part.values
    return part.names is not None and isinstance(values, np.ndarray) and values.dtype.kind in "biu"


def _read(part: FramePart, class_names: set[str]) -> FramePart:
    names = part.names or ()
    own, are_numbers = set(map(_folded, names)), all(name.isdecimal() for name in names)
    are_classes = class_names == own if are_numbers else bool(class_names & own)
    if part.values.dtype.kind == "b" or are_classes:
        return replace(part, values=part.values.astype(np.float64))
    if not class_names and not any(c.isdecimal() for name in names for c in name):
        raise InputError(
            "The whole numbers in named columns may be scores of these classes, or classes, best first.",
            where=part.where,
            got=f"the columns {first_names(names)}",
            do="if they are scores, pass `classes` or floats (frame.astype(float)); if they are classes, "
            "pass frame.to_numpy()",
        )
    return replace(part, names=None)


def _folded(name: str) -> str:
    return folded_name(normal_name(name))
