"""Label sets and states as arrays, from tables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import ClassList
from manyhot.core.array_types import Bools, Bytes, Floats32, Ints32, Ints64
from manyhot.core.sets import NO, NO_LABEL, NOT_ASKED, UNCLEAR, YES, LabelSets
from manyhot.errors import InputError
from manyhot.tables import (
    STATES,
    Images,
    Labels,
    Objects,
    one_chunk,
)
from manyhot.tables.frames import with_column
from manyhot.tables.state_lists import state_lists


def label_sets(labels: Labels) -> LabelSets:
    """Return the label sets of a labels table as arrays, row by row.

    If raters chose one class of each image, images without a valid class are undecided.
    """
    lists = one_chunk(labels.table["classes"])
    states = one_chunk(labels.table["state"]).flatten()
    # NOT_ASKED is 0, so the states no, unclear and yes start at 1.
    state = pc.index_in(states, pa.array(STATES)).to_numpy(zero_copy_only=False).astype(np.uint8) + 1
    sets = LabelSets(
        labels.n_classes,
        lists.offsets.to_numpy().astype(np.int64) - lists.offsets[0].as_py(),
        lists.flatten().to_numpy(),
        state.astype(np.uint8),
        original_labels(labels),
        labels.table["usable"].to_numpy(),
        labels.asked_known,
        probabilities(labels),
        labels.exclusive,
        labels.complete,
        _class_values(labels, "n_votes"),
    )
    if not labels.exclusive or labels.complete:
        return sets
    return replace(sets, usable=sets.scored, undecided=sets.usable & (sets.size == 0))


def probabilities(labels: Labels) -> Floats32 | None:
    """Return the probabilities of all classes of all images, shape (m,); None if there are none.

    The value is NaN if an image, or one of its classes, has no probability.
    """
    return _class_values(labels, "p")


def _class_values(labels: Labels, name: str) -> Floats32 | None:
    """Return a column with a number for each class of each image, shape (m,); None if it does not exist."""
    if name not in labels.table.column_names:
        return None
    column = one_chunk(labels.table[name])
    lengths = pc.list_value_length(labels.table["classes"]).to_numpy()
    there = np.repeat(column.is_valid().to_numpy(zero_copy_only=False), lengths)
    values = np.full(len(there), np.nan, np.float32)
    values[there] = column.flatten().to_numpy(zero_copy_only=False)
    return values


LABEL_A_SAMPLE = (
    "pass label sets, or original labels (manyhot predict --labels); "
    "or let people label a sample: manyhot audit"
)
"""What to do with images without labels."""


def original_labels(labels: Labels) -> Ints32:
    """Return the original label of each image, shape (n,); `NO_LABEL` if unknown."""
    if "label" not in labels.table.column_names:
        return np.full(len(labels), NO_LABEL, np.int32)
    filled = pc.fill_null(labels.table["label"], NO_LABEL)
    label: Ints32 = one_chunk(filled).to_numpy().astype(np.int32)
    return label


def single_labels(images: Images, n_classes: int, class_hash: str = "") -> Labels:
    """Return the original labels of images as label sets that are not rated.

    Raises
    ------
    InputError
        If no image has an original label, or a label is out of range.
    """
    if images.label is None or images.label.null_count == len(images.label):
        raise InputError(
            "The images have no original labels.",
            where=images.name or None,
            allowed="an images table with the column 'label', or label sets",
            do=LABEL_A_SAMPLE,
        )
    there = images.label.is_valid().to_numpy(zero_copy_only=False)
    valid = images.label.drop_null().to_numpy()
    columns = {
        "image_id": images.image_id,
        "label": images.label.cast(pa.int32()),
        "rated": pa.repeat(False, len(there)),
        "usable": pa.repeat(True, len(there)),
        **state_lists(there, valid, np.full(len(valid), STATES.index("yes"))),
    }
    return Labels(pa.table(columns), n_classes, class_hash, asked_known=False, name=images.name)


def unasked_labels(images: Images, n_classes: int, class_hash: str = "") -> Labels:
    """Return the label sets of images for which nobody was asked about any class."""
    n = len(images)
    columns = {
        "image_id": images.image_id,
        "rated": pa.repeat(False, n),
        "usable": pa.repeat(True, n),
        **state_lists(np.zeros(n), *np.empty((2, 0), np.int32)),
    }
    return Labels(pa.table(columns), n_classes, class_hash, asked_known=True, name=images.name)


def at_threshold(labels: Labels, threshold: float) -> Labels:
    """Return the labels with label sets that consist of the classes with at least this probability.

    The state of a class without a probability is unchanged.

    Raises
    ------
    InputError
        If the labels have no probabilities.
    """
    values = probabilities(labels)
    if values is None:
        raise InputError(
            "A threshold requires labels with probabilities, but these labels have none.",
            where=labels.name or None,
            allowed="a labels table with the column 'p'",
        )
    lists = one_chunk(labels.table["classes"])
    state = np.asarray(one_chunk(labels.table["state"]).flatten().to_pylist(), object)
    decided = ~np.isnan(values)
    state[decided] = np.where(values[decided] >= np.float32(threshold), "yes", "no")
    column = pa.ListArray.from_arrays(lists.offsets, pa.array(state, pa.string()))
    return replace(labels, table=with_column(labels.table, "state", column))


@dataclass(frozen=True, eq=False)
class States:
    """The states of classes on images.

    Attributes
    ----------
    image_id : pyarrow.Array of string, shape (n,)
    state : ndarray of uint8, shape (n, C)
        `YES`, `NO`, `UNCLEAR` or `NOT_ASKED`.
    """

    image_id: pa.Array
    state: Bytes
    classes: ClassList

    def of(self, images: pa.Array) -> States:
        """Return the states on the selected images."""
        there = pc.is_in(self.image_id, images)
        return replace(
            self,
            image_id=self.image_id.filter(there),
            state=self.state[there.to_numpy(zero_copy_only=False)],
        )

    @cached_property
    def splits(self) -> Ints64:
        """Number of images in each of the four splits, for each (main, companion) pair, shape (4, C, C)."""
        # BLAS multiplies floats, which are exact below 2^24 images.
        flags = [(self.state == value).astype(np.float32) for value in (YES, NO)]
        return np.rint([one.T @ other for one in flags for other in flags]).astype(np.int64)


def states_of_labels(labels: Labels, classes: ClassList) -> States:
    """Return the states by label sets.

    If the labels record *no* answers, the state of a class that was not asked about is unknown. Otherwise,
    its state is *no*. All states of unusable images are unknown.
    """
    return States(labels.image_id, state_matrix(labels, len(classes)), classes)


def state_matrix(labels: Labels, n_classes: int) -> Bytes:
    """Return the state of each class on each image, shape (n, C)."""
    sets = label_sets(labels)
    state = np.full((len(sets), n_classes), sets.unlisted, np.uint8)
    state[sets.rows, sets.classes] = sets.state
    state[~sets.usable] = NOT_ASKED
    return state


def states_of_objects(objects: Objects, classes: ClassList) -> States:
    """Return states derived from objects: a class has the state yes if the image contains an object of it.

    The state is unclear if all objects of the class are ignored or have no box within the image.
    """
    images = objects.images
    state = np.full((len(images), len(classes)), NO, np.uint8)
    row = np.empty(len(objects), np.int64)
    for i, rows in enumerate(images.values()):
        row[rows] = i
    state[row, objects.class_id] = UNCLEAR
    sure = ~objects.ignore & boxes_that_fit(objects)
    state[row[sure], objects.class_id[sure]] = YES
    return States(pa.array(list(images), pa.string()), state, classes)


def boxes_that_fit(objects: Objects) -> Bools:
    """Return whether any part of each box is in the image, shape (n,)."""
    boxes = np.clip(objects.boxes, 0, 1)  # comparisons with NaN are false
    return np.asarray((boxes[:, :2] < boxes[:, 2:]).all(1))
