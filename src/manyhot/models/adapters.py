"""What a model looks like to the rest of manyhot."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from manyhot.classes import ClassList
from manyhot.errors import MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Classifier:
    """A model over a known class list: pictures in, logits out.

    NumPy on both sides, so that what runs the model is its own business.

    Attributes
    ----------
    name : str
        As in the tables, such as ``efficientnet-lite0``.
    classes : ClassList
        What the columns of the logits are.
    preprocess : callable
        An RGB `PIL.Image.Image` → ndarray of float32, shape (3, height, width).
    forward : callable
        A batch, ndarray of float32, shape (n, 3, height, width) → logits, ndarray of float32, shape (n, C).
    """

    name: str
    classes: ClassList
    preprocess: Callable[[Image], npt.NDArray[np.float32]]
    forward: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]


def required(module: str, what: str, install: str = '"manyhot[models]"') -> Any:
    """Import an optional dependency.

    Parameters
    ----------
    module : str
    what : str
        What needs it, as the subject of the message.
    install : str
        What to tell pip to install.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{what} needs {module.partition('.')[0]}, which cannot be imported.",
            got=error,
            do=f"pip install {install}",
        ) from error
