"""Types of arrays by what they hold, for annotations; shapes are in the docstrings."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
AnyFloats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]
Ints64 = npt.NDArray[np.int64]
Ints32 = npt.NDArray[np.int32]
Ints8 = npt.NDArray[np.int8]
Positions = npt.NDArray[np.intp]
Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Mask = npt.NDArray[np.bool_]
"""The pixels of a region of an image, shape (h, w)."""
