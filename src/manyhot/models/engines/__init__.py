"""What computes a network: PyTorch, ONNX Runtime, OpenVINO, or the model itself."""

from manyhot.models.engines.base import ENGINES, Engine, Precision, build, installed, precision_of
from manyhot.models.engines.choose import Choice, Trial, choose

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
