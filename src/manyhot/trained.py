"""The file of a network that manyhot trained: its weights, and all that it takes to build and feed it again.

The format is safetensors, which holds arrays and text and runs nothing when it is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manyhot._version import __version__
from manyhot.classes import ClassList, from_json, to_json
from manyhot.errors import InputError
from manyhot.extras import required
from manyhot.files import atomic_write

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
        How it wants its images; the fields of `manyhot.models.Preprocessing`.
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
