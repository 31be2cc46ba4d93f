"""Linear heads: what stands between a backbone's features and scores over classes, and the file of one.

A file is in the format safetensors, which holds arrays and text and runs nothing when it is read.

The file of a network that manyhot trained: its weights, and all that it takes to build and feed it again.

The format is safetensors, which holds arrays and text and runs nothing when it is read.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy import typing as npt

from manyhot._version import __version__
from manyhot.classes import ClassList, from_json, to_json
from manyhot.errors import InputError
from manyhot.extras import required
from manyhot.files import atomic_write

Floats = npt.NDArray[np.float32]


LOSSES = ("softmax", "sigmoid")
"""A probability over all classes together, or one for each class."""


_TEXTS = {"backbone": str, "loss": str, "penalty": float, "n": int, "classes": dict}


@dataclass(frozen=True, eq=False)
class Head:
    """A linear layer on the penultimate features of a backbone.

    Attributes
    ----------
    backbone : str
        As ``manyhot predict --model`` takes it. Of a file that is not your own, check it before you build it.
    classes : ClassList
    loss : str
        One of `LOSSES`.
    weight : ndarray of float32, shape (C, D)
    bias : ndarray of float32, shape (C,)
    penalty : float
        Of the weights, when it was fitted; see `manyhot.train.heads.fit_softmax`.
    n : int
        Images that it was fitted on.

    Raises
    ------
    InputError
        The arrays do not fit together, are not finite, or there is no such loss.
    """

    backbone: str
    classes: ClassList
    loss: str
    weight: Floats
    bias: Floats
    penalty: float
    n: int

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise InputError("There is no such loss.", got=self.loss, allowed=", ".join(LOSSES))
        c = len(self.classes)
        if self.weight.ndim != 2 or len(self.weight) != c or self.bias.shape != (c,):
            raise InputError(
                "The arrays of a head do not fit its classes.",
                got=f"weight of shape {self.weight.shape}, bias of shape {self.bias.shape}",
                allowed=f"({c}, D) and ({c},)",
            )
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            raise InputError("A head holds numbers that are not finite.")

    def __repr__(self) -> str:
        return f"<Head {self.loss} over {len(self.classes)} classes on {self.backbone}, {self.n:,} images>"

    def logits(self, features: npt.ArrayLike) -> Floats:
        """Return the logits of images by their features, shape (n, C) from shape (n, D)."""
        logits: Floats = np.asarray(features, np.float32) @ self.weight.T + self.bias
        return logits

    def probabilities(self, features: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the probabilities of classes: those of an image sum to 1 under a softmax only."""
        from scipy.special import expit, softmax

        logits = self.logits(features).astype(np.float64)
        p: npt.NDArray[np.float64] = softmax(logits, axis=1) if self.loss == "softmax" else expit(logits)
        return p


def write_head(head: Head, path: str | os.PathLike[str], *, call: str = "") -> Path:
    """Write a head to one ``.safetensors`` file; ``head:FILE`` is a model then.

    The same head gives the same bytes.

    Raises
    ------
    InputError
        The file is called otherwise.
    OutputError
        It cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError("A head is written to a .safetensors file.", got=path)
    about = {
        "backbone": head.backbone,
        "loss": head.loss,
        "penalty": head.penalty,
        "n": head.n,
        "classes": to_json(head.classes),
        "version": __version__,
        "call": call,
    }
    # One entry: safetensors writes several in an order that changes from run to run.
    told = {"manyhot.head": json.dumps(about, ensure_ascii=False)}
    arrays = {"weight": head.weight.astype("<f4"), "bias": head.bias.astype("<f4")}
    saved = _safetensors().numpy.save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, told)
    with atomic_write(path) as part:
        part.write_bytes(saved)
    return path


def read_head(path: str | os.PathLike[str]) -> Head:
    """Read a head.

    Raises
    ------
    InputError
        The file does not exist, or is none that `write_head` wrote.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("The file does not exist.", where=path)
    safetensors = _safetensors()
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {})["manyhot.head"])
            arrays = {name: file.get_tensor(name) for name in ("weight", "bias")}
        _check(about, arrays)
        return _head(about, arrays)
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise InputError(
            "The file is no head that manyhot wrote.", where=path, got=_said(error), do="fit it again"
        ) from error


def with_backbone(path: str | os.PathLike[str], backbone: str) -> str:
    """Return the name of a head as a model whose backbone is named beside it, in quotes for the shell."""
    return shlex.quote(f"head:{path}(backbone={json.dumps(backbone, ensure_ascii=False)})")


def _check(about: Any, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    if not isinstance(about, dict):
        raise TypeError("its text is no object")
    wrong = [n for n, kind in _TEXTS.items() if not isinstance(about.get(n), kind)]
    wrong += [n for n, array in arrays.items() if array.dtype != np.float32]
    if wrong:
        raise TypeError(f"{wrong[0]} is not what it should be")


def _head(about: Mapping[str, Any], arrays: Mapping[str, Floats]) -> Head:
    classes = from_json(about["classes"])
    return Head(about["backbone"], classes, about["loss"], **arrays, penalty=about["penalty"], n=about["n"])


def _said(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"no {error.args[0]}"
    return str(error).partition("\n")[0] or type(error).__name__


def _safetensors() -> Any:
    required("safetensors.numpy", "A head")
    return required("safetensors", "A head")


ENDS = ("softmax", "sigmoid")
"""What makes probabilities of the logits."""


_KEY = "manyhot.trained"


@dataclass(frozen=True, eq=False)
class Trained:
    """A network that manyhot trained.

    Attributes
    ----------
    architecture : str
        As timm knows it, such as ``resnet50``.
    options : Mapping of str to Any
        What ``timm.create_model`` takes beside the name and the number of classes.
    classes : ClassList
    ends : str
        One of `ENDS`.
    preprocessing : Mapping of str to Any
        How it wants its images; the fields of `manyhot.predict.network.Preprocessing`.
    weights : Mapping of str to torch.Tensor
        The state of the module.
    about : Mapping of str to Any
        How it was trained: the recipe, the data, the number of images.
    """

    architecture: str
    options: Mapping[str, Any]
    classes: ClassList
    ends: str
    preprocessing: Mapping[str, Any]
    weights: Mapping[str, Any]
    about: Mapping[str, Any] = field(default_factory=dict)


def write_trained(trained: Trained, path: str | os.PathLike[str]) -> Path:
    """Write a network to one ``.safetensors`` file; ``trained:FILE`` is a model then.

    Raises
    ------
    InputError
        The file is called otherwise.
    OutputError
        It cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError("A trained network is written to a .safetensors file.", got=path)
    told = {
        "architecture": trained.architecture,
        "options": dict(trained.options),
        "classes": to_json(trained.classes),
        "ends": trained.ends,
        "preprocessing": dict(trained.preprocessing),
        "about": dict(trained.about),
        "version": __version__,
    }
    # One entry: safetensors writes several in an order that changes from run to run.
    text = {_KEY: json.dumps(told, ensure_ascii=False)}
    arrays = {name: array.detach().cpu().contiguous() for name, array in trained.weights.items()}
    saved = required("safetensors.torch", "A trained network").save(arrays, text)
    with atomic_write(path) as part:
        part.write_bytes(saved)
    return path


def read_trained(path: str | os.PathLike[str]) -> Trained:
    """Read a network.

    Raises
    ------
    InputError
        The file does not exist, or is none that `write_trained` wrote.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("The file does not exist.", where=path)
    safetensors = required("safetensors", "A trained network")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {})[_KEY])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _trained(told, weights)
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        what = f"no {error.args[0]}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
        raise InputError(
            "The file is no network that manyhot trained.",
            where=path,
            got=what or type(error).__name__,
            do="take the model.safetensors of a finished run of manyhot train",
        ) from error


def _trained(told: Mapping[str, Any], weights: Mapping[str, Any]) -> Trained:
    if told["ends"] not in ENDS:
        raise ValueError(f"it ends in {told['ends']}")
    return Trained(
        str(told["architecture"]),
        dict(told["options"]),
        from_json(told["classes"]),
        told["ends"],
        dict(told["preprocessing"]),
        weights,
        dict(told["about"]),
    )
