"""What computes a network: PyTorch, ONNX Runtime, OpenVINO, or the model itself."""

from __future__ import annotations

from manyhot.predict.engines.base import ENGINES, Engine, Precision, build, installed, precision_of
from manyhot.predict.engines.choose import Choice, Trial, choose

__all__ = [
    "ENGINES",
    "Choice",
    "Engine",
    "Precision",
    "Trial",
    "build",
    "choose",
    "installed",
    "precision_of",
]
