"""Lists of a labels table: the classes of each image, with their states and other values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.core.array_types import Ints
from manyhot.tables.definitions import STATES


def ragged(lengths: npt.ArrayLike, values: pa.Array) -> pa.ListArray:
    """Return a column of lists. The first list contains the first ``lengths[0]`` values, and so on."""
    offsets = np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, values)


def state_lists(
    lengths: npt.ArrayLike, classes: Ints, state: npt.NDArray[Any], **more: npt.NDArray[Any]
) -> dict[str, pa.ListArray]:
    """Return the columns ``classes`` and ``state`` from the classes of all images, one image after another.

    Parameters
    ----------
    lengths : array-like of int, shape (n,)
        Number of classes per image.
    classes : ndarray of int, shape (m,)
    state : ndarray of int, shape (m,)
        The position of each class's state in `STATES`.
    more : ndarray, shape (m,)
        Other columns with a value for each class, such as `p`.
    """
    states = pa.DictionaryArray.from_arrays(pa.array(state, pa.int8()), list(STATES)).cast(pa.string())
    columns = {"classes": pa.array(classes, pa.int32()), "state": states}
    columns |= {name: pa.array(values) for name, values in more.items()}
    return {name: ragged(lengths, values) for name, values in columns.items()}
