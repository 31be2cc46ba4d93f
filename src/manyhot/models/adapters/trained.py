"""Networks that manyhot trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from manyhot.errors import InputError
from manyhot.extras import required
from manyhot.models.adapters.said import said
from manyhot.models.adapters.timm import head_of
from manyhot.models.network import Network
from manyhot.models.preprocessing import Preprocessing
from manyhot.registry import register
from manyhot.trained import Trained, read_trained


@register("model", "trained", form="trained:FILE", classes="of the file")
def trained_network(path: str) -> Network:
    """A network that ``manyhot train`` trained.

    Parameters
    ----------
    path : str
        Its ``model.safetensors``.

    Raises
    ------
    InputError
        The file is no such network, or its weights do not fit its architecture.
    MissingExtraError
        timm is not installed.
    """
    import torch

    found = read_trained(path)
    module = built(found, path)
    kind = "logit"
    if found.ends == "sigmoid":
        module, kind = torch.nn.Sequential(module, torch.nn.Sigmoid()), "probability"
    head = head_of(module[0] if kind == "probability" else module)
    return Network(
        _name(path),
        found.classes,
        Preprocessing(**_fields(found)),
        module.eval(),
        f"0.{head}" if head and kind == "probability" else head,
        score_kind=kind,
        about={"weights": Path(path).name},
    )


def _fields(trained: Trained) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in trained.preprocessing.items()}


def built(trained: Trained, where: object) -> Any:
    """Return the module of a trained network.

    Raises
    ------
    InputError
        The weights do not fit the architecture.
    """
    timm: Any = required("timm", "A trained network")
    try:
        module = timm.create_model(trained.architecture, num_classes=len(trained.classes), **trained.options)
        module.load_state_dict(dict(trained.weights))
    except (RuntimeError, TypeError) as error:
        raise InputError(
            "The weights of a trained network do not fit its architecture.",
            where=where,
            got=said(error),
            do="read it with the version of timm that it was trained with",
        ) from error
    return module.eval()


def _name(path: str) -> str:
    """Return what tells runs apart: the folder of the file, which each names ``model.safetensors``."""
    file = Path(path)
    return f"trained/{file.resolve().parent.name if file.stem == 'model' else file.stem}"
