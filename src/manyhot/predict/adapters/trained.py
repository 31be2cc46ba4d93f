"""Networks in files written by manyhot: heads on a published backbone, and trained networks."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from manyhot.errors import InputError, UnknownNameError
from manyhot.extras import required
from manyhot.predict.adapters.timm import head_of
from manyhot.predict.network import Network, Preprocessing, channels, sides
from manyhot.predict.weights import (
    Head,
    Trained,
    error_line,
    file_without_suffix,
    read_head,
    read_trained,
    with_backbone,
)
from manyhot.registry import register

TIMM_OPTIONS = ("img_size", "drop_rate", "drop_path_rate")
"""Arguments of ``timm.create_model`` that a file may give, besides the name and the number of classes."""


@register("model", "head", form="head:FILE", classes="of the file", place=file_without_suffix)
def head_network(path: str, *, backbone: str = "") -> Network:
    """Load a backbone with a linear head, fitted by manyhot, as its classifier.

    Parameters
    ----------
    path : str
        The ``.safetensors`` file, which names the backbone.
    backbone : str
        The name of the backbone. It is required if the head was fitted on your own code or file, because a
        downloaded head must not run code or open files.

    Raises
    ------
    InputError
        If the file is not a head, or if its backbone is unknown, cannot take a head or must be passed as
        `backbone`.
    MissingExtraError
        If a package that the backbone needs is not installed.
    """
    from manyhot.predict.models import find_model, is_published, published_names

    required("torch", "A head")
    head = read_head(path)
    if not isinstance(backbone, str):
        raise InputError("The option 'backbone' must be a string.", got=backbone, allowed="backbone='NAME'")
    name = backbone or head.backbone
    if name.strip().startswith("head:"):
        raise InputError("The backbone of a head is a head itself.", where=path, got=name)
    try:
        network = find_model(name) if backbone or is_published(name) else None
    except (InputError, UnknownNameError) as error:
        raise InputError(
            "The backbone of a head cannot be built.",
            where=path,
            got=f"{name}: {error.what}",
            do="your own file or function must be in the same location as when the head was fitted"
            if backbone
            else f"pass its new name: head:{path}(backbone='NAME')",
        ) from error
    if network is None:
        raise InputError(
            "A head file may name only published weights as its backbone.",
            where=path,
            got=name,
            allowed=", ".join(published_names()),
            do=f"if you trust this backbone, pass it explicitly: {with_backbone(path, name)}",
        )
    made = with_head(network, head, f"head/{file_without_suffix(path).name}", path)
    return replace(made, backbone=f"{name} {network.about['weights']}")


def with_head(backbone: Network, head: Head, name: str, where: object = None) -> Network:
    """Return a copy of a network that has a head as its classifier.

    Raises
    ------
    InputError
        If the features of the backbone are unknown or have a different length, or if other layers follow its
        classifier.
    """
    import torch

    if backbone.module is None or not backbone.head:
        raise InputError(
            "A head cannot be put on this model, because the model's penultimate features are unknown.",
            where=where or name,
            got=backbone.name,
        )
    module, path = copy.deepcopy(backbone.module), backbone.head
    parts = [*module.children()] if isinstance(module, torch.nn.Sequential) else []
    if path.startswith("0.") and [type(after) for after in parts[1:]] == [torch.nn.Sigmoid]:
        # The sigmoids belong to the classifier that is replaced, as in networks for label sets.
        module, path = parts[0], path.removeprefix("0.")
    layer = head_layer(head)
    parent, _, last = path.rpartition(".")
    setattr(module.get_submodule(parent), last, layer)
    seen: list[Any] = []

    def look(_: Any, inputs: Any) -> None:
        _check(inputs[0], head, backbone, where or name)
        seen.append(inputs[0])

    with torch.inference_mode():
        with layer.register_forward_pre_hook(look):
            out = module(torch.zeros(1, 3, *backbone.preprocessing.size))
        if not torch.equal(out, layer(seen[0])):
            raise InputError(
                "A head cannot be put on this model, because other layers follow the model's classifier.",
                where=where or name,
                got=backbone.name,
            )
    kind = "logit" if head.loss == "softmax" else "probability"
    return Network(
        name,
        head.classes,
        backbone.preprocessing,
        module.eval(),
        path,
        score_kind=kind,
        multilabel=kind == "probability",
        about={key: backbone.about.get(key, "") for key in ("weights", "code")} | _link(head.loss),
    )


def head_layer(head: Head) -> Any:
    """Return a head as a module that computes scores from features, or from feature maps with one cell."""
    import torch

    linear = torch.nn.Linear(head.weight.shape[1], len(head.classes))
    linear.load_state_dict({"weight": torch.from_numpy(head.weight), "bias": torch.from_numpy(head.bias)})
    last = [torch.nn.Sigmoid()] if head.loss == "sigmoid" else []
    drops = [torch.nn.Dropout(head.dropout)] if head.dropout else []
    return torch.nn.Sequential(torch.nn.Flatten(1), *drops, linear, *last).eval()  # features may be maps


def _check(features: Any, head: Head, backbone: Network, where: object) -> None:
    n, wanted = features.flatten(1).shape[1], head.weight.shape[1]
    if n != wanted:
        raise InputError(
            "The head was not fitted on the features of its backbone.",
            where=where,
            got=f"{wanted:,} weights per class",
            allowed=f"{n:,}, the number of features of {backbone.name}",
        )


def place_of_trained(path: str) -> Path:
    """Return a path whose last part identifies the run: the folder, if the file is ``model.safetensors``."""
    file = file_without_suffix(path)
    return Path(path).resolve().parent if file.name == "model" else file


@register("model", "trained", form="trained:FILE", classes="of the file", place=place_of_trained)
def trained_network(path: str) -> Network:
    """Load a network that was trained by ``manyhot train``.

    Parameters
    ----------
    path : str
        Its ``model.safetensors``.

    Raises
    ------
    InputError
        If the file is not a trained network, or if its weights do not match its architecture.
    MissingExtraError
        If timm is not installed.
    """
    import torch

    found = read_trained(path)
    module = built(found, path)
    kind = "logit"
    if found.ends == "sigmoid":
        module, kind = torch.nn.Sequential(module, torch.nn.Sigmoid()), "probability"
    head = head_of(module[0] if kind == "probability" else module)
    return Network(
        f"trained/{place_of_trained(path).name}",
        found.classes,
        _preprocessing(found, path),
        module.eval(),
        f"0.{head}" if head and kind == "probability" else head,
        score_kind=kind,
        multilabel=kind == "probability",
        about={"weights": Path(path).name} | _link(found.ends),
    )


def _link(ends: str) -> dict[str, str]:
    """Return the metadata that declare how logits become probabilities; sigmoids are part of the network."""
    return {"link": "softmax"} if ends == "softmax" else {}


def _preprocessing(trained: Trained, where: object) -> Preprocessing:
    listed = trained.preprocessing.items()
    told: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in listed}
    try:
        found = Preprocessing(**told)
    except TypeError as error:
        raise InputError(
            "The file of a trained network does not record the preprocessing.",
            where=where,
            got=error_line(error),
            do="read it with the version of manyhot that wrote it",
        ) from error
    return replace(
        found,
        size=sides(found.size),
        scale=sides(found.scale),
        mean=channels("mean", found.mean),
        std=channels("std", found.std),
    )


def built(trained: Trained, where: object) -> Any:
    """Return the module of a trained network.

    Raises
    ------
    InputError
        If timm does not have the architecture, or if the weights do not match it.
    """
    timm: Any = required("timm", "A trained network")
    _check_trained(timm, trained, where)
    try:
        module = timm.create_model(trained.architecture, num_classes=len(trained.classes), **trained.options)
        module.load_state_dict(dict(trained.weights))
    except (RuntimeError, TypeError, ValueError, LookupError) as error:
        raise InputError(
            "The weights of a trained network do not match its architecture.",
            where=where,
            got=error_line(error),
            do="read it with the version of timm that it was trained with",
        ) from error
    return module.eval()


def _check_trained(timm: Any, trained: Trained, where: object) -> None:
    """Raise an error for names of hubs or folders and paths of checkpoints: timm would open other files."""
    strange = [name for name in trained.options if name not in TIMM_OPTIONS]
    if strange or not timm.is_model(trained.architecture):
        raise InputError(
            "The architecture of a trained network is not in timm.",
            where=where,
            got=f"{trained.architecture} with {strange[0]}" if strange else trained.architecture,
            allowed=f"a name in timm, with the options {', '.join(TIMM_OPTIONS)}",
        )
