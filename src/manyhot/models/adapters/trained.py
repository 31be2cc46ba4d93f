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

OPTIONS = ("img_size", "drop_rate", "drop_path_rate")
"""What a file may tell ``timm.create_model`` beside the name and the number of classes."""


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
        _preprocessing(found, path),
        module.eval(),
        f"0.{head}" if head and kind == "probability" else head,
        score_kind=kind,
        about={"weights": Path(path).name},
    )


def _preprocessing(trained: Trained, where: object) -> Preprocessing:
    listed = trained.preprocessing.items()
    told: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in listed}
    try:
        return Preprocessing(**told)
    except TypeError as error:
        raise InputError(
            "The file of a trained network does not tell how it wants its images.",
            where=where,
            got=said(error),
            do="read it with the version of manyhot that wrote it",
        ) from error


def built(trained: Trained, where: object) -> Any:
    """Return the module of a trained network.

    Raises
    ------
    InputError
        timm has no such architecture, or the weights do not fit it.
    """
    timm: Any = required("timm", "A trained network")
    _check(timm, trained, where)
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


def _check(timm: Any, trained: Trained, where: object) -> None:
    """Refuse what would make timm open other files: names of hubs and folders, and paths of checkpoints."""
    strange = [name for name in trained.options if name not in OPTIONS]
    if strange or not timm.is_model(trained.architecture):
        raise InputError(
            "The architecture of a trained network is none of timm's.",
            where=where,
            got=f"{trained.architecture} with {strange[0]}" if strange else trained.architecture,
            allowed=f"a name that timm knows, with {', '.join(OPTIONS)}",
        )


def _name(path: str) -> str:
    """Return what tells runs apart: the folder of the file, which each names ``model.safetensors``."""
    file = Path(path)
    return f"trained/{file.resolve().parent.name if file.stem == 'model' else file.stem}"
