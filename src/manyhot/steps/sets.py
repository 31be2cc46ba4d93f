"""Labels tables to arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.core.sets import NO_LABEL, LabelSets
from manyhot.errors import InputError
from manyhot.tables import STATES, Images, Labels, one_chunk


def label_sets(labels: Labels) -> LabelSets:
    """Return the label sets of a labels table as arrays, row for row."""
    lists = one_chunk(labels.table["classes"])
    states = one_chunk(labels.table["state"]).flatten()
    # NOT_ASKED is 0, so the states no, unclear, yes count from 1.
    state = pc.index_in(states, pa.array(STATES)).to_numpy(zero_copy_only=False).astype(np.uint8) + 1
    return LabelSets(
        labels.n_classes,
        lists.offsets.to_numpy().astype(np.int64) - lists.offsets[0].as_py(),
        lists.flatten().to_numpy(),
        state.astype(np.uint8),
        original_labels(labels),
        labels.table["usable"].to_numpy(),
        labels.asked_known,
        probabilities(labels),
    )


def probabilities(labels: Labels) -> npt.NDArray[np.float32] | None:
    """Return the probability of each class of each image, one after another, shape (m,); None without any.

    NaN where an image, or a class of it, has none.
    """
    if "p" not in labels.table.column_names:
        return None
    p = one_chunk(labels.table["p"])
    lengths = pc.list_value_length(labels.table["classes"]).to_numpy()
    known = np.repeat(p.is_valid().to_numpy(zero_copy_only=False), lengths)
    values = np.full(len(known), np.nan, np.float32)
    values[known] = p.flatten().to_numpy(zero_copy_only=False)
    return values


def original_labels(labels: Labels) -> npt.NDArray[np.int32]:
    """Return the original label of each image, `NO_LABEL` where unknown, shape (n,)."""
    if "label" not in labels.table.column_names:
        return np.full(len(labels), NO_LABEL, np.int32)
    filled = pc.fill_null(labels.table["label"], NO_LABEL)
    label: npt.NDArray[np.int32] = one_chunk(filled).to_numpy().astype(np.int32)
    return label


def single_labels(images: Images, n_classes: int, class_hash: str = "") -> Labels:
    """Return the original labels of images alone, as label sets that nobody rated.

    Raises
    ------
    InputError
        If no image has an original label, or a label is out of range.
    """
    if images.label is None or images.label.null_count == len(images.label):
        raise InputError(
            "The images have no original labels.",
            where=images.name or None,
            allowed="an images table with the column 'label'",
            do="add the column, or predict with --labels",
        )
    there = images.label.is_valid().to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(there)]), pa.int32())
    valid = images.label.drop_null().cast(pa.int32())
    columns = {
        "image_id": images.image_id,
        "label": images.label.cast(pa.int32()),
        "rated": pa.repeat(False, len(there)),
        "usable": pa.repeat(True, len(there)),
        "classes": pa.ListArray.from_arrays(offsets, valid),
        "state": pa.ListArray.from_arrays(offsets, pa.repeat("yes", len(valid))),
    }
    return Labels(pa.table(columns), n_classes, class_hash, asked_known=True, name=images.name)


def at_threshold(labels: Labels, threshold: float) -> Labels:
    """Return the labels with the classes of at least this probability as their sets.

    A class without a probability keeps its state.

    Raises
    ------
    InputError
        If the labels have no probabilities.
    """
    values = probabilities(labels)
    if values is None:
        raise InputError(
            "These labels have no probabilities to take a threshold of.",
            where=labels.name or None,
            allowed="a labels table with the column 'p'",
        )
    lists = one_chunk(labels.table["classes"])
    state = np.asarray(one_chunk(labels.table["state"]).flatten().to_pylist(), object)
    decided = ~np.isnan(values)
    state[decided] = np.where(values[decided] >= np.float32(threshold), "yes", "no")
    column = pa.ListArray.from_arrays(lists.offsets, pa.array(state, pa.string()))
    table = labels.table.set_column(labels.table.column_names.index("state"), "state", column)
    return replace(labels, table=table)
