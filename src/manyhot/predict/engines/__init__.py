"""Engines that run a network: PyTorch, ONNX Runtime, OpenVINO, or the model itself."""

from __future__ import annotations

from manyhot.predict.engines.choose import EngineChoice, Trial, choose_engine
from manyhot.predict.engines.engine import (
    ENGINES,
    Engine,
    EnginePrecision,
    build_engine,
    check_outputs,
    installed,
    precision_of,
)

__all__ = [
    "ENGINES",
    "Engine",
    "EngineChoice",
    "EnginePrecision",
    "Trial",
    "build_engine",
    "check_outputs",
    "choose_engine",
    "installed",
    "precision_of",
]
