"""Engines that run a network: PyTorch, ONNX Runtime, OpenVINO, or the model itself."""

from __future__ import annotations

from manyhot.predict.engines.choose import EngineChoice as EngineChoice
from manyhot.predict.engines.choose import Trial as Trial
from manyhot.predict.engines.choose import choose_engine as choose_engine
from manyhot.predict.engines.engine import ENGINE_OPTIONS as ENGINE_OPTIONS
from manyhot.predict.engines.engine import ENGINES as ENGINES
from manyhot.predict.engines.engine import Engine as Engine
from manyhot.predict.engines.engine import EngineOptions as EngineOptions
from manyhot.predict.engines.engine import EnginePrecision as EnginePrecision
from manyhot.predict.engines.engine import build_engine as build_engine
from manyhot.predict.engines.engine import check_outputs as check_outputs
from manyhot.predict.engines.engine import installed as installed
from manyhot.predict.engines.engine import precision_of as precision_of
from manyhot.predict.engines.engine import score_images as score_images
