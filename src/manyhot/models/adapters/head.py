"""A backbone with a linear head of one's own in the place of its classifier."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from manyhot.errors import InputError, UnknownNameError
from manyhot.extras import required
from manyhot.heads import Head, read_head
from manyhot.models.network import Network
from manyhot.registry import register


@register("model", "head", form="head:FILE", classes="of the file")
def head_network(path: str) -> Network:
    """A backbone whose classifier is a linear head that manyhot fitted.

    Parameters
    ----------
    path : str
        The ``.safetensors`` file, which names the backbone.

    Raises
    ------
    InputError
        The file is no head, or its backbone is not known or takes no head.
    MissingExtraError
        What the backbone needs is not installed.
    """
    from manyhot.models.find import find_model

    required("torch", "A head")
    head = read_head(path)
    if head.backbone.startswith("head:"):
        raise InputError("The backbone of a head is a head itself.", where=path, got=head.backbone)
    try:
        backbone = find_model(head.backbone)
    except (InputError, UnknownNameError) as error:
        raise InputError(
            "The backbone of a head cannot be built.",
            where=path,
            got=f"{head.backbone}: {error.what}",
            do="predict where it can be: a file or function of yours must be at the same place",
        ) from error
    return with_head(backbone, head, f"head/{Path(path).stem}", path)


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
