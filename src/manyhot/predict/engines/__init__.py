"""Engines that run a network: PyTorch, ONNX Runtime, OpenVINO, or the model itself."""

from __future__ import annotations

from manyhot.predict.engines.choose import EngineChoice, Trial, choose_engine
from manyhot.predict.engines.engine import (
    ENGINE_OPTIONS,
    ENGINES,
    Engine,
    EngineOptions,
    EnginePrecision,
    build_engine,
    installed,
    precision_of,
)

__all__ = [
    "ENGINES",
    "ENGINE_OPTIONS",
    "Engine",
    "EngineChoice",
    "EngineOptions",
    "EnginePrecision",
    "Trial",
    "build_engine",
    "choose_engine",
    "installed",
    "precision_of",
]
