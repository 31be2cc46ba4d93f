"""The contract of an object detector, and how a detector is found by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import typing as npt

from manyhot import registry
from manyhot.classes import ClassList
from manyhot.core.array_types import Floats, Ints
from manyhot.extras import required

if TYPE_CHECKING:
    from torch import Tensor

MAX_BOXES = 100
"""Boxes that are kept of an image, as in COCO."""

LOWEST_SCORE = 0.01
"""Score below which a detector's boxes are dropped."""


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector says of one image.

    Attributes
    ----------
    boxes : ndarray of float, shape (n, 4)
        Left, top, right and bottom as fractions of width and height, by descending score.
    class_id : ndarray of int, shape (n,)
    score : ndarray of float, shape (n,)
        Between 0 and 1.
    presence : ndarray of float32, shape (C,)
        The highest score of each class anywhere in the image, including boxes that are not kept.
    """

    boxes: Floats
    class_id: Ints
    score: Floats
    presence: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ObjectDetector:
    """A detector, built and ready.

    Attributes
    ----------
    name : str
        Name of the model in tables.
    classes : ClassList
    detect : callable
        Maps an image, a torch.Tensor of uint8 of shape (3, height, width), to `Detections`. Up to `threads`
        threads call it at the same time.
    overlap : float
        Intersection over union above which only the higher-scoring of two boxes of a class is kept.
    threads : int
    about : Mapping of str to str
        Further metadata, such as the origin of the weights.
    notes : tuple of str
        Caveats, such as random weights.
    """

    name: str
    classes: ClassList
    detect: Callable[[Tensor], Detections]
    overlap: float = 0.5
    threads: int = 1
    about: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find_detector(spec: str) -> ObjectDetector:
    """Build the detector that a name refers to, such as ``objectron-ssd`` or ``objectron-ssd(overlap=0.6)``.

    Raises
    ------
    UnknownNameError
        If the detector does not exist.
    InputError
        If the detector does not have a given option, or cannot be built.
    MissingExtraError
        If a package that it needs is not installed.
    FetchError
        If its weights cannot be fetched.
    """
    detector: ObjectDetector = registry.get("detector", spec)()
    return detector


def best_boxes(boxes: Floats, class_id: Ints, score: Floats, overlap: float) -> Ints:
    """Return the boxes to keep after non-maximum suppression within each class, by descending score.

    Parameters
    ----------
    boxes : ndarray of float, shape (n, 4)
    class_id, score : ndarray, shape (n,)
    overlap : float
        Intersection over union above which only the higher-scoring of two boxes is kept.
    """
    torch: Any = required("torch", "A detector")
    ops: Any = required("torchvision.ops", "A detector")
    arrays = (np.ascontiguousarray(a) for a in (boxes.astype(np.float64), score.astype(np.float64), class_id))
    kept = ops.batched_nms(*map(torch.from_numpy, arrays), overlap)
    return np.asarray(kept.numpy()[:MAX_BOXES], np.int64)
