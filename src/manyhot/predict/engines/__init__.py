"""What computes a network: PyTorch, ONNX Runtime, OpenVINO, or the model itself."""

from __future__ import annotations

from manyhot.predict.engines.base import ENGINES, Engine, EnginePrecision, build, installed, precision_of
from manyhot.predict.engines.choose import EngineChoice, Trial, choose_engine

__all__ = [
    "ENGINES",
    "Engine",
    "EngineChoice",
    "EnginePrecision",
    "Trial",
    "build",
    "choose_engine",
    "installed",
    "precision_of",
]
