"""Files of weights: linear heads on a backbone, and trained networks.

Both use the format safetensors, which holds arrays and text and runs no code when it is read. Everything else
is one JSON text in the metadata.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy import typing as npt

from manyhot._version import __version__
from manyhot.classes import ClassList, from_json, to_json
from manyhot.errors import FetchError, InputError, ManyhotError
from manyhot.extras import required
from manyhot.files import atomic_write
from manyhot.predict.network import Float32Array

LOSSES = ("softmax", "sigmoid")
"""How logits become probabilities: over all classes together, or for each class."""

_HEAD, _TRAINED = "manyhot.head", "manyhot.trained"
"""Keys of the text in the metadata."""

_TYPES = {"backbone": str, "loss": str, "penalty": float, "n": int, "classes": dict}


@dataclass(frozen=True, eq=False)
class Head:
    """A linear layer on the penultimate features of a backbone.

    Attributes
    ----------
    backbone : str
        Name of the backbone, as in ``manyhot predict --model``. If the file is not your own, check the name
        before you build the backbone.
    classes : ClassList
    loss : str
        One of `LOSSES`.
    weight : ndarray of float32, shape (C, D)
    bias : ndarray of float32, shape (C,)
    penalty : float
        Penalty on the weights during fitting; see `manyhot.train.heads.fit_softmax`.
    n : int
        Number of images on which the head was fitted.
    dropout : float
        Dropout rate of the features during the fit.

    Raises
    ------
    InputError
        If the arrays do not match or are not finite, or if the loss does not exist.
    """

    backbone: str
    classes: ClassList
    loss: str
    weight: Float32Array
    bias: Float32Array
    penalty: float
    n: int
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise InputError("There is no such loss.", got=self.loss, allowed=", ".join(LOSSES))
        c = len(self.classes)
        if self.weight.ndim != 2 or len(self.weight) != c or self.bias.shape != (c,):
            raise InputError(
                "The arrays of a head do not match its classes.",
                got=f"weight of shape {self.weight.shape}, bias of shape {self.bias.shape}",
                allowed=f"({c}, D) and ({c},)",
            )
        if not 0 <= self.dropout < 1:
            raise InputError(
                "The dropout rate of the head is out of range.",
                got=self.dropout,
                allowed="0 or more, below 1",
            )
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            raise InputError("A head contains values that are not finite.")

    def __repr__(self) -> str:
        return f"<Head {self.loss} over {len(self.classes)} classes on {self.backbone}, {self.n:,} images>"

    def logits(self, features: npt.ArrayLike) -> Float32Array:
        """Return the logits of images, shape (n, C), from their features, shape (n, D)."""
        return np.asarray(features, np.float32) @ self.weight.T + self.bias

    def probabilities(self, features: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the probabilities of classes, which sum to 1 for each image only with a softmax."""
        from scipy.special import expit, softmax

        logits = self.logits(features).astype(np.float64)
        p: npt.NDArray[np.float64] = softmax(logits, axis=1) if self.loss == "softmax" else expit(logits)
        return p


def write_head(head: Head, path: str | os.PathLike[str], *, call: str = "") -> Path:
    """Write a head to one ``.safetensors`` file, which can be used as the model ``head:FILE``.

    Equal heads give equal bytes.

    Raises
    ------
    InputError
        If the name of the file does not end in ``.safetensors``.
    OutputError
        If the file cannot be written.
    """
    about = {
        "backbone": head.backbone,
        "loss": head.loss,
        "penalty": head.penalty,
        "n": head.n,
        **({"dropout": head.dropout} if head.dropout else {}),
        "classes": to_json(head.classes),
        "version": __version__,
        "call": call,
    }
    arrays = {"weight": head.weight.astype("<f4"), "bias": head.bias.astype("<f4")}
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return _write(path, "A head", "numpy", _HEAD, about, contiguous)


def read_head(path: str | os.PathLike[str]) -> Head:
    """Read a head.

    Raises
    ------
    InputError
        If the file does not exist, or was not written by `write_head`.
    """
    with _reading(path, "A head", "The file is not a head written by manyhot.", "fit it again"):
        about, arrays = _read(path, "A head", "numpy", _HEAD, ("weight", "bias"))
        _check(about, arrays)
        classes, penalty = from_json(about["classes"]), about["penalty"]
        more = {"penalty": penalty, "n": about["n"], "dropout": float(about.get("dropout", 0.0))}
        return Head(about["backbone"], classes, about["loss"], **arrays, **more)


def with_backbone(path: str | os.PathLike[str], backbone: str) -> str:
    """Return the model name of a head with its backbone as an option, quoted for the shell."""
    return shlex.quote(f"head:{path}(backbone={json.dumps(backbone, ensure_ascii=False)})")


def _check(about: Any, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    if not isinstance(about, dict):
        raise TypeError("its text is not an object")
    wrong = [n for n, kind in _TYPES.items() if not isinstance(about.get(n), kind)]
    wrong += [n for n, array in arrays.items() if array.dtype != np.float32]
    if wrong:
        raise TypeError(f"{wrong[0]} has a wrong value")


@dataclass(frozen=True, eq=False)
class Trained:
    """A network trained by manyhot.

    Attributes
    ----------
    architecture : str
        As in timm, such as ``resnet50``.
    options : Mapping of str to Any
        Arguments of ``timm.create_model`` besides the name and the number of classes.
    classes : ClassList
    ends : str
        One of `LOSSES`.
    preprocessing : Mapping of str to Any
        The fields of `manyhot.predict.network.Preprocessing`.
    weights : Mapping of str to torch.Tensor
        The state of the module.
    about : Mapping of str to Any
        Metadata of the training: the recipe, the data and the number of images.
    """

    architecture: str
    options: Mapping[str, Any]
    classes: ClassList
    ends: str
    preprocessing: Mapping[str, Any]
    weights: Mapping[str, Any]
    about: Mapping[str, Any] = field(default_factory=dict)


def write_trained(trained: Trained, path: str | os.PathLike[str]) -> Path:
    """Write a network to one ``.safetensors`` file, which can be used as the model ``trained:FILE``.

    Raises
    ------
    InputError
        If the name of the file does not end in ``.safetensors``.
    OutputError
        If the file cannot be written.
    """
    about = {
        "architecture": trained.architecture,
        "options": dict(trained.options),
        "classes": to_json(trained.classes),
        "ends": trained.ends,
        "preprocessing": dict(trained.preprocessing),
        "about": dict(trained.about),
        "version": __version__,
    }
    arrays = {name: array.detach().cpu().contiguous() for name, array in trained.weights.items()}
    return _write(path, "A trained network", "torch", _TRAINED, about, arrays)


def is_trained(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a network trained by manyhot; also true if it is missing or damaged."""
    if not Path(path).is_file():
        return True
    if Path(path).suffix != ".safetensors":
        return False
    safetensors = required("safetensors", "A trained network")
    try:
        with safetensors.safe_open(Path(path), framework="np") as file:
            return _TRAINED in (file.metadata() or {})
    except (OSError, safetensors.SafetensorError):
        return True


def read_trained(path: str | os.PathLike[str]) -> Trained:
    """Read a network.

    Raises
    ------
    InputError
        If the file does not exist, or was not written by `write_trained`.
    """
    do = "use the model.safetensors of a finished run of manyhot train"
    with _reading(path, "A trained network", "The file is not a network trained by manyhot.", do):
        about, weights = _read(path, "A trained network", "pt", _TRAINED)
        if about["ends"] not in LOSSES:
            raise ValueError(f"it ends in {about['ends']}")
        return Trained(
            str(about["architecture"]),
            dict(about["options"]),
            from_json(about["classes"]),
            about["ends"],
            dict(about["preprocessing"]),
            weights,
            dict(about["about"]),
        )


def _write(
    path: str | os.PathLike[str],
    what: str,
    arrays_of: str,
    key: str,
    about: Mapping[str, Any],
    arrays: Mapping[str, Any],
) -> Path:
    """Write arrays of NumPy or PyTorch, and the rest as one text: several texts have no fixed order."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"{what} is written to a .safetensors file.", got=path)
    save = required(f"safetensors.{arrays_of}", what).save
    content = save(arrays, {key: json.dumps(about, ensure_ascii=False)})
    with atomic_write(path) as part:
        part.write_bytes(content)
    return path


def _read(
    path: str | os.PathLike[str], what: str, framework: str, key: str, names: Sequence[str] = ()
) -> tuple[Any, dict[str, Any]]:
    """Return the text of a file, and some of its arrays or all."""
    with required("safetensors", what).safe_open(Path(path), framework=framework) as file:
        about = json.loads((file.metadata() or {})[key])
        return about, {name: file.get_tensor(name) for name in names or file.keys()}


@contextlib.contextmanager
def _reading(path: str | os.PathLike[str], what: str, message: str, do: str) -> Iterator[None]:
    """Convert the many errors of reading a file of another kind to one that says so."""
    if not Path(path).is_file():
        raise InputError("The file does not exist.", where=path)
    safetensors_error = required("safetensors", what).SafetensorError
    errors = (OSError, ValueError, KeyError, TypeError, RecursionError, safetensors_error)
    try:
        yield
    except errors as error:
        reason = f"no {error.args[0]}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
        raise InputError(message, where=path, got=reason or type(error).__name__, do=do) from error


WAIT_S = 5.0
"""Seconds to wait for a response of the hub."""


@contextlib.contextmanager
def hub_or_cache(model: str) -> Iterator[None]:
    """Load published weights, but only from the cache if the hub does not respond.

    By default, the client of the hub tries each file six times, for 23 s and with eleven lines of output,
    before it uses its cache.

    Raises
    ------
    FetchError
        If the weights cannot be fetched.
    """
    constants, utils = (
        required(f"huggingface_hub.{part}", f"The model {model!r}") for part in ("constants", "utils")
    )
    offline, why = constants.HF_HUB_OFFLINE, ""
    if not offline:
        try:
            utils.get_session().head(constants.ENDPOINT, timeout=WAIT_S)
        except Exception as error:  # of whichever HTTP library it uses
            why = f"{constants.ENDPOINT}: {error_line(error)}"
            constants.HF_HUB_OFFLINE = True
    logging.disable(logging.ERROR)  # what is logged is raised as well
    try:
        yield
    except ManyhotError:
        raise
    except Exception as error:
        if not why and isinstance(error, TypeError | RuntimeError):
            raise  # errors about the options and the weights
        # The client has many errors for what is one to a user.
        raise FetchError(
            "The weights cannot be fetched.",
            where=model,
            got=why or error_line(error),
            do="check the internet connection, the name and the cache folder HF_HOME, or use local weights",
        ) from error
    finally:
        logging.disable(logging.NOTSET)
        constants.HF_HUB_OFFLINE = offline


_PLACES = ("Check '", "Exception from ")
"""The start of OpenVINO's lines about places in its own code."""


_LONGEST = 200
"""Characters; PyTorch names every missing key of a network."""


def file_without_suffix(path: str) -> Path:
    """Return the absolute path of a file without its suffix; its last part is the name of the model."""
    file = Path(path).absolute()
    return file.parent / file.stem


def error_line(error: BaseException) -> str:
    """Return the most informative line of a message: neither a heading nor a location in a library's code."""
    # errors, threads, etc
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.endswith(":") and not line.startswith(_PLACES)]
    line = (telling or lines or [type(error).__name__])[0]
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"
