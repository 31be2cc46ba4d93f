"""The settings of each method of transfer, with their defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from manyhot.errors import InputError, UnknownNameError, did_you_mean


@dataclass(frozen=True)
class NeighbourSettings:
    """Settings of k-NN: the number of neighbours that vote, and the temperature of their weights."""

    k: int = 20
    temperature: float = 0.07


@dataclass(frozen=True)
class ProbeSettings:
    """Settings of linear probes: the penalty on squared weights. 0 selects it by held-out likelihood."""

    penalty: float = 0.0


@dataclass(frozen=True)
class ShotSettings:
    """Settings of few-shot probes: images per class, draws, and penalty (0 for 1 / number of images)."""

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
        Side of the square to which images are resized, in pixels, or 0 for the input size of the network.
    channels, convs : int
        Number of channels of the feature pyramid, and number of layers of the heads (only `fcos`).
    lr, weight_decay : float
        Settings of AdamW. The learning rate rises for half an epoch and then follows a cosine.
    backbone_lr : float
        Factor on the learning rate of the backbone, if it is trained.
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
"""The settings of each method; fine-tuning uses those of a recipe."""

MethodSettings = (
    NeighbourSettings
    | ProbeSettings
    | ShotSettings
    | DetectionSettings
    | SegmentationSettings
    | dict[str, Any]
)

_Settings = TypeVar("_Settings")


@dataclass(frozen=True)
class TransferMethod:
    """A method of transfer and its settings; for ``fine-tune``, those of a recipe."""

    name: str
    settings: MethodSettings
    train_backbone: bool

    @classmethod
    def of(cls, name: str, settings: Mapping[str, Any], train_backbone: bool) -> TransferMethod:
        """Return a method with checked settings.

        Raises
        ------
        UnknownNameError, InputError
            As in `settings_of`, or if the method has no backbone to train.
        """
        made = cls(name, settings_of(name, settings), train_backbone)
        if train_backbone and name not in ("detection", "segmentation"):
            raise InputError(
                f"`train_backbone` is not an option of the method {name}.",
                allowed="detection, segmentation",
                do="use the method fine-tune"
                if name != "fine-tune"
                else "remove it: fine-tune trains the backbone",
            )
        return made

    def settings_as(self, kind: type[_Settings]) -> _Settings:
        """Return the settings after checking their type."""
        assert isinstance(self.settings, kind)
        return self.settings


def settings_of(method: str, settings: Mapping[str, Any]) -> MethodSettings:
    """Return the settings of a method. Settings of fine-tuning are checked by the recipe.

    Raises
    ------
    UnknownNameError
        If the method does not exist.
    InputError
        If a setting does not exist, or if its value is out of range.
    """
    if method not in TRANSFER_METHODS:
        raise UnknownNameError(
            f"There is no method of transfer {method!r}.",
            allowed=", ".join(TRANSFER_METHODS),
            do=did_you_mean(method, TRANSFER_METHODS, show=str),
        )
    kind: Any = TRANSFER_METHODS[method]
    if kind is dict:
        return dict(settings)
    fields = {f.name: f.default for f in dataclasses.fields(kind)}
    made: MethodSettings = kind(
        **{name: _checked(method, name, value, fields) for name, value in settings.items()}
    )
    if isinstance(made, DetectionSettings) and made.detector not in DETECTORS:
        raise InputError("This detector does not exist.", got=made.detector, allowed=", ".join(DETECTORS))
    return made


def _checked(method: str, name: str, value: Any, fields: Mapping[str, Any]) -> Any:
    if name not in fields:
        raise InputError(
            f"{method} has no setting {name!r}.",
            got=value,
            allowed=", ".join(fields),
            do=did_you_mean(name, fields, show=str),
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


_ROWS = 1024


def knn_scores(
    features: npt.NDArray[np.floating],
    label: npt.NDArray[np.integer],
    queries: npt.NDArray[np.floating],
    n_classes: int,
    *,
    k: int = 20,
    temperature: float = 0.07,
) -> npt.NDArray[np.float32]:
    """Return the share of each class in the votes of the k nearest images.

    The nearest images are those with the largest cosine similarity. Each votes with the weight exp(cosine /
    temperature). The defaults of `k` and `temperature` are those of DINO (``eval_knn.py``).

    Parameters
    ----------
    features : ndarray of float, shape (n, D)
    label : ndarray of int, shape (n,)
    queries : ndarray of float, shape (m, D)

    Returns
    -------
    ndarray of float32, shape (m, C)

    Raises
    ------
    InputError
        If there are fewer than k images.

    References
    ----------
    Wu et al. 2018, Unsupervised feature learning via non-parametric instance discrimination,
    doi 10.1109/CVPR.2018.00393, section 3.4.
    Caron et al. 2021, DINO, arXiv 2104.14294.
    """
    if k > len(features):
        raise InputError(
            "There are fewer images to fit on than neighbours.",
            got=f"{len(features):,} images",
            allowed=f"at least k={k}",
            do="choose a smaller `k`",
        )
    known = _unit(features)
    scores = np.zeros((len(queries), n_classes), np.float32)
    for start in range(0, len(queries), _ROWS):
        cosine = _unit(queries[start : start + _ROWS]) @ known.T
        nearest = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        near = np.take_along_axis(cosine, nearest, axis=1)
        # Less the largest: e to 1 / 0.07 is 1.6 million, and with a smaller temperature no number.
        votes = np.exp((near - near.max(1, keepdims=True)) / temperature)
        rows = np.arange(start, start + len(cosine))[:, None]
        np.add.at(scores, (rows, label[nearest]), votes / votes.sum(1, keepdims=True))
    return scores


def _unit(features: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    x = features.astype(np.float32)
    unit: npt.NDArray[Any] = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return unit


def draw_shots(
    label: npt.NDArray[np.integer], classes: npt.NDArray[np.integer], shots: int, rng: np.random.Generator
) -> npt.NDArray[np.intp]:
    """Return the rows of a number of random images of each class, drawn without replacement.

    Parameters
    ----------
    label : ndarray of int, shape (n,)
    classes : ndarray of int, shape (c,)
        The classes. If a class has fewer than `shots` images, all of its images are returned.
    """
    rows = [rng.permutation(np.flatnonzero(label == c))[:shots] for c in classes]
    return np.concatenate([np.empty(0, np.intp), *rows])
