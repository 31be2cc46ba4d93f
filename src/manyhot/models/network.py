"""What a model is to the rest of manyhot: a network over a known class list, and how it wants its images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from manyhot.classes import ClassList
from manyhot.models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import nn

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Network:
    """A classifier, built and ready for an engine.

    One of `module`, `file` and `forward` says what computes it.

    Attributes
    ----------
    name : str
        As in the tables, such as ``timm/resnet50.a1_in1k``.
    classes : ClassList
        What the columns of its scores are.
    preprocessing : Preprocessing
    module : torch.nn.Module, optional
        Normalised images, float32 of shape (n, 3, height, width), to logits of shape (n, C).
    head : str
        The path of the layer of `module` whose input are the penultimate features; empty where nobody knows.
    file : str
        An ONNX or OpenVINO file that is run as it is.
    forward : callable, optional
        Images as they were cropped, uint8 of shape (n, 3, height, width), to logits: a model that brings its
        own way to run.
    score_kind : str
        ``logit``, or what else the scores are.
    about : Mapping of str to str
        What else the metadata of its predictions tells, such as where the weights are from.
    notes : tuple of str
        What who uses its predictions must know, such as that its preprocessing is assumed.
    """

    name: str
    classes: ClassList
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    module: nn.Module | None = None
    head: str = ""
    file: str = ""
    forward: Callable[[Bytes], npt.ArrayLike] | None = None
    score_kind: str = "logit"
    about: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def normalised(module: Any, preprocessing: Preprocessing, head: str = "") -> Any:
    """Return a module from bytes to logits, and to features where `head` names the layer after them.

    The normalisation is part of it, so that engines take bytes and fuse it with the first layer.
    """
    import threading

    import torch

    seen = threading.local()  # several threads may run one module

    class Normalised(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module
            scale = 1 / (255 * torch.tensor(preprocessing.std, dtype=torch.float64))
            shift = -torch.tensor(preprocessing.mean, dtype=torch.float64) / torch.tensor(
                preprocessing.std, dtype=torch.float64
            )
            self.register_buffer("scale", scale.float().view(1, 3, 1, 1))
            self.register_buffer("shift", shift.float().view(1, 3, 1, 1))
            if head:
                layer = self.module.get_submodule(head)
                layer.register_forward_pre_hook(lambda _, inputs: setattr(seen, "features", inputs[0]))

        def forward(self, images: Any) -> Any:
            logits = self.module(images.to(self.scale.dtype) * self.scale + self.shift)
            return (logits, seen.features) if head else logits

    return Normalised().eval().requires_grad_(False)
