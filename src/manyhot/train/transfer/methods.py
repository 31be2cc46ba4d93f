"""The settings of each method of transfer, with their defaults."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from manyhot.errors import InputError, UnknownNameError


@dataclass(frozen=True)
class NeighbourSettings:
    """k-NN: the number of neighbours that vote, and the temperature of their weights."""

    k: int = 20
    temperature: float = 0.07


@dataclass(frozen=True)
class ProbeSettings:
    """Linear probes: the penalty on squared weights; 0 for the one with the highest held-out likelihood."""

    penalty: float = 0.0


@dataclass(frozen=True)
class ShotSettings:
    """Few-shot probes: images per class, the number of draws, and the penalty; 0 for 1 / images."""

    shots: tuple[int, ...] = (1, 2, 5, 10)
    draws: int = 10
    penalty: float = 0.0


@dataclass(frozen=True)
class DetectionSettings:
    """Settings of detectors.

    Attributes
    ----------
    detector : str
        One of `DETECTORS`.
    size : int
        Side of the square to which images are resized, in pixels; 0 for the network's own.
    channels, convs : int
        Channels of the feature pyramid, and layers of the heads (only `fcos`).
    epochs, batch : int
    lr, weight_decay : float
        Settings of AdamW; the learning rate rises for half an epoch, then follows a cosine.
    backbone_lr : float
        Factor of the learning rate for the backbone, if it is trained.
    """

    detector: str = "fcos"
    size: int = 0
    channels: int = 64
    convs: int = 1
    epochs: int = 12
    batch: int = 32
    lr: float = 2e-3
    weight_decay: float = 1e-4
    backbone_lr: float = 0.1


@dataclass(frozen=True)
class SegmentationSettings:
    """Settings of segmentation heads; see `DetectionSettings`."""

    size: int = 0
    channels: int = 64
    epochs: int = 12
    batch: int = 32
    lr: float = 2e-3
    weight_decay: float = 1e-4
    backbone_lr: float = 0.1


DETECTORS = ("fcos", "retinanet", "faster-rcnn")

TRANSFER_METHODS: Mapping[str, type] = {
    "knn": NeighbourSettings,
    "probe": ProbeSettings,
    "few-shot": ShotSettings,
    "fine-tune": dict,
    "multilabel": ProbeSettings,
    "detection": DetectionSettings,
    "segmentation": SegmentationSettings,
}
"""The settings of each; fine-tuning takes those of a recipe."""

MethodSettings = (
    NeighbourSettings
    | ProbeSettings
    | ShotSettings
    | DetectionSettings
    | SegmentationSettings
    | dict[str, Any]
)


def settings_of(method: str, settings: Mapping[str, Any]) -> MethodSettings:
    """Return the settings of a method; those of fine-tuning are checked by the recipe.

    Raises
    ------
    UnknownNameError
        There is no such method.
    InputError
        A setting does not exist, or its value is out of range.
    """
    if method not in TRANSFER_METHODS:
        near = difflib.get_close_matches(method, TRANSFER_METHODS, n=3)
        raise UnknownNameError(
            f"There is no method of transfer {method!r}.",
            allowed=", ".join(TRANSFER_METHODS),
            do=f"did you mean {' or '.join(near)}?" if near else None,
        )
    kind: Any = TRANSFER_METHODS[method]
    if kind is dict:
        return dict(settings)
    fields = {f.name: f.default for f in dataclasses.fields(kind)}
    made: MethodSettings = kind(
        **{name: _checked(method, name, value, fields) for name, value in settings.items()}
    )
    if isinstance(made, DetectionSettings) and made.detector not in DETECTORS:
        raise InputError("There is no such detector.", got=made.detector, allowed=", ".join(DETECTORS))
    return made


def _checked(method: str, name: str, value: Any, fields: Mapping[str, Any]) -> Any:
    if name not in fields:
        near = difflib.get_close_matches(name, fields, n=3)
        raise InputError(
            f"{method} has no setting {name!r}.",
            got=value,
            allowed=", ".join(fields),
            do=f"did you mean {' or '.join(near)}?" if near else None,
        )
    usual = fields[name]
    if isinstance(usual, tuple):
        value = tuple(value) if isinstance(value, list | tuple) else (value,)
    values, like = (value, usual[0]) if isinstance(usual, tuple) else ((value,), usual)
    if not values or not all(_fits(v, like, 0 if like == 0 else None) for v in values):
        kind = type(like).__name__
        least = "" if isinstance(like, str) else ", 0 or above" if like == 0 else ", above 0"
        raise InputError(
            f"The setting {name!r} of {method} cannot be this.", got=repr(value), allowed=f"{kind}{least}"
        )
    return value


def _fits(value: Any, like: Any, least: int | None) -> bool:
    if isinstance(like, str):
        return isinstance(value, str)
    kinds = (int, float) if isinstance(like, float) else (int,)
    if isinstance(value, bool) or not isinstance(value, kinds):
        return False
    return value > 0 if least is None else value >= least
