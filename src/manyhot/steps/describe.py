"""What a labels table holds: sizes of label sets, pairs of classes, rejected original labels, a data card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.classes import ClassList, class_list_of
from manyhot.core.sets import UNCLEAR, YES, LabelSets, pairs_within
from manyhot.errors import InputError
from manyhot.steps.sets import label_sets
from manyhot.tables import Labels, one_chunk, schema

MOST_PAIRS = 200
"""Pairs of classes that are listed, the most frequent first."""


@dataclass(frozen=True, eq=False)
class Description:
    """A labels table in numbers.

    Attributes
    ----------
    datasets, set_sizes, class_pairs, rejected : pyarrow.Table
        The tables of these names; see `manyhot.tables.TABLES`.
    """

    datasets: pa.Table
    set_sizes: pa.Table
    class_pairs: pa.Table
    rejected: pa.Table

    @classmethod
    def concat(cls, parts: list[Description]) -> Description:
        """Join the descriptions of several data sets."""
        return cls(*(pa.concat_tables([p.tables[n] for p in parts]) for n in parts[0].tables))

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The tables by name."""
        return {
            "datasets": self.datasets,
            "set_sizes": self.set_sizes,
            "class_pairs": self.class_pairs,
            "rejected": self.rejected,
        }


def describe(
    labels: Labels,
    *,
    classes: ClassList | None = None,
    dataset: str = "",
    licence: str | None = None,
    citation: str | None = None,
    home: str | None = None,
) -> Description:
    """Describe a labels table.

    Parameters
    ----------
    labels : Labels
    classes : ClassList, optional
        Gives names; by default the list that the labels name, and else class ids stand for names.
    dataset : str
        Its name; that of the labels by default.
    licence, citation, home : str, optional
        For the data card.

    Raises
    ------
    InputError
        If the labels have no name and none is given.
    """
    name = dataset or labels.name
    if not name:
        raise InputError("The labels have no name.", do="name the data set")
    known = classes or class_list_of(labels.class_hash)
    names = known.names if known else tuple(map(str, range(labels.n_classes)))
    sets = label_sets(labels)
    rejected = _rejected(name, labels, sets, names)
    card = _card(name, labels, sets) | {"licence": licence, "citation": citation, "home": home}
    return Description(
        pa.table({k: [v] for k, v in card.items()}, schema=schema("datasets")),
        _sizes(name, sets),
        _pairs(name, sets, names),
        rejected,
    )


def _card(name: str, labels: Labels, sets: LabelSets) -> dict[str, Any]:
    size = sets.size[sets.usable]
    asked = _asked(labels, sets)
    return {
        "dataset": name,
        "images": len(labels),
        "unusable": int(np.count_nonzero(~sets.usable)),
        "rated": _rated(labels),
        "asked": asked[0],
        "confirmed": asked[1],
        "unclear": asked[2],
        "labels": int(size.sum()),
        "empty": int(np.count_nonzero(size == 0)),
        "multi": int(np.count_nonzero(size > 1)),
        "labelled": int(np.count_nonzero(sets.labelled)),
        "rejected": int(np.count_nonzero(_lost(sets))),
        "method": _methods(labels),
    }


def _rated(labels: Labels) -> int | None:
    if "rated" not in labels.table.column_names or labels.table["rated"].null_count:
        return None
    return int(pc.sum(labels.table["rated"]).as_py() or 0)


def _asked(labels: Labels, sets: LabelSets) -> tuple[int | None, int | None, int | None]:
    """Return how many pairs people were asked about, found valid and could not tell.

    An image that nobody rated has its label unasked.
    """
    if not sets.asked_known:
        return None, None, None
    asked = np.ones(len(sets.classes), bool)
    if _rated(labels) is not None:
        asked = one_chunk(labels.table["rated"]).to_numpy(zero_copy_only=False)[sets.rows]
    there = asked & sets.usable[sets.rows]
    valid, unclear = (int(np.count_nonzero(there & (sets.state == s))) for s in (YES, UNCLEAR))
    return int(np.count_nonzero(asked)), valid, unclear


def _methods(labels: Labels) -> str | None:
    if "method" not in labels.table.column_names:
        return None
    return ", ".join(sorted(m for m in pc.unique(labels.table["method"]).to_pylist() if m)) or None


def _sizes(name: str, sets: LabelSets) -> pa.Table:
    images = np.bincount(sets.size[sets.usable])
    columns = {
        "dataset": [name] * len(images),
        "size": np.arange(len(images), dtype=np.int32),
        "images": images,
        "share": images / max(images.sum(), 1),
    }
    return pa.table(columns, schema=schema("set_sizes"))


def _pairs(name: str, sets: LabelSets, names: tuple[str, ...]) -> pa.Table:
    """Count classes that are valid on the same images, by way of a pair's number a * C + b with a < b."""
    valid = (sets.state == YES) & sets.usable[sets.rows]
    rows, classes = sets.rows[valid], sets.classes[valid].astype(np.int64)
    a, b = pairs_within(rows)
    low, high = np.minimum(classes[a], classes[b]), np.maximum(classes[a], classes[b])
    pair, count = np.unique(low * sets.n_classes + high, return_counts=True)
    # By count, and among equals by class: the order must not hang on the sort.
    best = np.lexsort((pair, -count))[:MOST_PAIRS]
    first, second = pair[best] // sets.n_classes, pair[best] % sets.n_classes
    of_class = np.bincount(classes, minlength=sets.n_classes)
    columns = {
        "dataset": [name] * len(best),
        "class_a": first.astype(np.int32),
        "class_b": second.astype(np.int32),
        "name_a": [names[c] for c in first],
        "name_b": [names[c] for c in second],
        "images": count[best],
        "images_a": of_class[first],
        "images_b": of_class[second],
    }
    return pa.table(columns, schema=schema("class_pairs"))


def _lost(sets: LabelSets) -> npt.NDArray[np.bool_]:
    """Return the usable images whose original label is known and not valid, empty sets included."""
    valid = sets.state == YES
    kept = np.zeros(len(sets), bool)
    kept[sets.rows[valid & (sets.classes == sets.label[sets.rows])]] = True
    return sets.labelled & ~kept


def _rejected(name: str, labels: Labels, sets: LabelSets, names: tuple[str, ...]) -> pa.Table:
    images = np.flatnonzero(_lost(sets))
    taken = sets.take(images)
    valid = taken.state == YES
    offsets = np.concatenate([[0], np.cumsum(taken.size)]).astype(np.int32)
    classes = taken.classes[valid]
    text = pa.array(names, pa.string())
    columns = {
        "dataset": pa.repeat(pa.scalar(name, pa.string()), len(images)),
        "image_id": one_chunk(labels.table["image_id"]).take(pa.array(images)),
        "label": taken.label,
        "label_name": text.take(pa.array(taken.label)),
        "classes": pa.ListArray.from_arrays(offsets, pa.array(classes)),
        "names": pa.ListArray.from_arrays(offsets, text.take(pa.array(classes))),
    }
    return pa.table(columns, schema=schema("rejected"))
