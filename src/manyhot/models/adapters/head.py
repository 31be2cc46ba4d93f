"""A backbone with a linear head of one's own in the place of its classifier."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from manyhot.errors import InputError, UnknownNameError
from manyhot.extras import required
from manyhot.heads import Head, read_head, with_backbone
from manyhot.models.network import Network
from manyhot.registry import register


@register("model", "head", form="head:FILE", classes="of the file")
def head_network(path: str, *, backbone: str = "") -> Network:
    """A backbone whose classifier is a linear head that manyhot fitted.

    Parameters
    ----------
    path : str
        The ``.safetensors`` file, which names the backbone.
    backbone : str
        The backbone, where the file names code or a file: a file from elsewhere shall not have these run.

    Raises
    ------
    InputError
        The file is no head, or its backbone is not known, takes no head or must be named by the caller.
    MissingExtraError
        What the backbone needs is not installed.
    """
    from manyhot.models.find import find_model, is_published, published_names

    required("torch", "A head")
    head = read_head(path)
    if not isinstance(backbone, str):
        raise InputError("The option 'backbone' is a text.", got=backbone, allowed="backbone='NAME'")
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
            do="predict where it can be: a file or function of yours must be at the same place"
            if backbone
            else f"name it otherwise: head:{path}(backbone='NAME')",
        ) from error
    if network is None:
        raise InputError(
            "The file of a head may name published weights alone as its backbone.",
            where=path,
            got=name,
            allowed=", ".join(published_names()),
            do=f"if you trust it, name it yourself: {with_backbone(path, name)}",
        )
    return with_head(network, head, f"head/{Path(path).stem}", path)


def with_head(backbone: Network, head: Head, name: str, where: object = None) -> Network:
    """Return a network whose classifier is a head; the backbone stays as it was.

    Raises
    ------
    InputError
        Nobody knows where the features of the backbone are, there are more or fewer, or something else comes
        after its classifier.
    """
    import torch

    if backbone.module is None or not backbone.head:
        raise InputError(
            "A head cannot be put on this model: nobody knows where its penultimate features are.",
            where=where or name,
            got=backbone.name,
        )
    module = copy.deepcopy(backbone.module)
    layer = _layer(head)
    parent, _, last = backbone.head.rpartition(".")
    setattr(module.get_submodule(parent), last, layer)
    seen: list[Any] = []

    def look(_: Any, inputs: Any) -> None:
        _check(inputs[0], head, backbone, where or name)
        seen.append(inputs[0])

    hook = layer.register_forward_pre_hook(look)
    with torch.inference_mode():
        out = module(torch.zeros(1, 3, *backbone.preprocessing.size))
        hook.remove()
        if not torch.equal(out, layer(seen[0])):
            raise InputError(
                "A head cannot be put on this model: something comes after its classifier.",
                where=where or name,
                got=backbone.name,
            )
    kind = "logit" if head.loss == "softmax" else "probability"
    return Network(
        name,
        head.classes,
        backbone.preprocessing,
        module.eval(),
        backbone.head,
        score_kind=kind,
        about={"weights": backbone.about.get("weights", "")},
    )


def _layer(head: Head) -> Any:
    import torch

    linear = torch.nn.Linear(head.weight.shape[1], len(head.classes))
    linear.load_state_dict({"weight": torch.from_numpy(head.weight), "bias": torch.from_numpy(head.bias)})
    last = [torch.nn.Sigmoid()] if head.loss == "sigmoid" else []
    return torch.nn.Sequential(torch.nn.Flatten(1), linear, *last).eval()  # features may be maps


def _check(features: Any, head: Head, backbone: Network, where: object) -> None:
    n, wanted = features.flatten(1).shape[1], head.weight.shape[1]
    if n != wanted:
        raise InputError(
            "The head was fitted on other features than those of its backbone.",
            where=where,
            got=f"{wanted:,} weights a class",
            allowed=f"{n:,} features of {backbone.name}",
        )
