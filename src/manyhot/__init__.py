"""Treat single-label image data sets as what they are: multi-label.

The public names are resolved on first use: importing manyhot imports neither torch nor NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from manyhot._version import __version__

if TYPE_CHECKING:
    from manyhot.api import Evaluator, evaluate
    from manyhot.catalog import fetch
    from manyhot.classes import ClassList, class_list
    from manyhot.errors import ManyhotError
    from manyhot.formats import read_images, read_labels, read_predictions
    from manyhot.models.predict import predict
    from manyhot.pipeline import convert, evaluate_benchmark, evaluate_files
    from manyhot.registry import register
    from manyhot.steps.results import Evaluation
    from manyhot.tables import Images, Labels, Predictions, write_labels, write_predictions

_HOME = {
    "ClassList": "classes",
    "Evaluation": "steps.results",
    "Evaluator": "api",
    "Images": "tables",
    "Labels": "tables",
    "ManyhotError": "errors",
    "Predictions": "tables",
    "class_list": "classes",
    "convert": "pipeline",
    "evaluate": "api",
    "evaluate_benchmark": "pipeline",
    "evaluate_files": "pipeline",
    "fetch": "catalog",
    "predict": "models.predict",
    "read_images": "formats",
    "read_labels": "formats",
    "read_predictions": "formats",
    "register": "registry",
    "write_labels": "tables",
    "write_predictions": "tables",
}

__all__ = [
    "ClassList",
    "Evaluation",
    "Evaluator",
    "Images",
    "Labels",
    "ManyhotError",
    "Predictions",
    "__version__",
    "class_list",
    "convert",
    "evaluate",
    "evaluate_benchmark",
    "evaluate_files",
    "fetch",
    "predict",
    "read_images",
    "read_labels",
    "read_predictions",
    "register",
    "write_labels",
    "write_predictions",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'manyhot' has no attribute {name!r}")
    return getattr(importlib.import_module(f"manyhot.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
