"""Labels tables to arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.core.sets import NO_LABEL, LabelSets
from manyhot.tables import STATES, Labels, one_chunk


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
    )


def original_labels(labels: Labels) -> npt.NDArray[np.int32]:
    """Return the original label of each image, `NO_LABEL` where unknown, shape (n,)."""
    if "label" not in labels.table.column_names:
        return np.full(len(labels), NO_LABEL, np.int32)
    filled = pc.fill_null(labels.table["label"], NO_LABEL)
    label: npt.NDArray[np.int32] = one_chunk(filled).to_numpy().astype(np.int32)
    return label
