"""Treat single-label image data sets as what they are: multi-label.

The public names are resolved on first use: importing manyhot imports neither torch nor NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from manyhot._version import __version__

if TYPE_CHECKING:
    from manyhot.api import Evaluator, compare, describe, evaluate
    from manyhot.catalog import fetch
    from manyhot.classes import ClassList, class_list
    from manyhot.errors import ManyhotError
    from manyhot.formats import read_findings, read_images, read_labels, read_predictions, read_results
    from manyhot.models.predict import predict
    from manyhot.pipeline import (
        compare_files,
        convert,
        describe_files,
        evaluate_benchmark,
        evaluate_files,
        leaderboard,
        predict_files,
        report_folder,
        similar_files,
    )
    from manyhot.registry import register
    from manyhot.steps.compare import Comparison
    from manyhot.steps.describe import Description
    from manyhot.steps.results import Evaluation
    from manyhot.tables import Images, Labels, Predictions, Results, write_labels, write_predictions

_HOME = {
    "ClassList": "classes",
    "Comparison": "steps.compare",
    "Description": "steps.describe",
    "Evaluation": "steps.results",
    "Evaluator": "api",
    "Images": "tables",
    "Labels": "tables",
    "ManyhotError": "errors",
    "Predictions": "tables",
    "Results": "tables",
    "class_list": "classes",
    "compare": "api",
    "compare_files": "pipeline",
    "convert": "pipeline",
    "describe": "api",
    "describe_files": "pipeline",
    "evaluate": "api",
    "evaluate_benchmark": "pipeline",
    "evaluate_files": "pipeline",
    "fetch": "catalog",
    "leaderboard": "pipeline",
    "predict": "models.predict",
    "predict_files": "pipeline",
    "read_findings": "formats",
    "read_images": "formats",
    "read_labels": "formats",
    "read_predictions": "formats",
    "read_results": "formats",
    "register": "registry",
    "report_folder": "pipeline",
    "similar_files": "pipeline",
    "write_labels": "tables",
    "write_predictions": "tables",
}

__all__ = [
    "ClassList",
    "Comparison",
    "Description",
    "Evaluation",
    "Evaluator",
    "Images",
    "Labels",
    "ManyhotError",
    "Predictions",
    "Results",
    "__version__",
    "class_list",
    "compare",
    "compare_files",
    "convert",
    "describe",
    "describe_files",
    "evaluate",
    "evaluate_benchmark",
    "evaluate_files",
    "fetch",
    "leaderboard",
    "predict",
    "predict_files",
    "read_findings",
    "read_images",
    "read_labels",
    "read_predictions",
    "read_results",
    "register",
    "report_folder",
    "similar_files",
    "write_labels",
    "write_predictions",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'manyhot' has no attribute {name!r}")
    return getattr(importlib.import_module(f"manyhot.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
