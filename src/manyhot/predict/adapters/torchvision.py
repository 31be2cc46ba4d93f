"""Networks of torchvision with its published weights, or a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manyhot.classes import class_list, from_keys
from manyhot.errors import FetchError, InputError, UnknownNameError, did_you_mean
from manyhot.extras import required
from manyhot.predict.adapters.network_files import with_assumptions
from manyhot.predict.network import Network, Preprocessing
from manyhot.predict.weights import error_line
from manyhot.registry import register


@register("model", "torchvision", form="torchvision/NAME", classes="of the weights", published=r"[\w.-]+")
def torchvision_network(name: str, *, checkpoint: str = "", preprocessing: Mapping[str, Any]) -> Network:
    """Load a torchvision classifier with the preprocessing of its published weights.

    Parameters
    ----------
    name : str
        Name of the network in torchvision, such as ``resnet50`` for its best weights, or
        ``resnet50.IMAGENET1K_V1`` for particular weights.
    checkpoint : str
        A local file with a state dict that replaces the published weights.
    preprocessing : mapping
        Options of preprocessing, as for timm.

    Raises
    ------
    UnknownNameError
        If torchvision does not have the network or the weights.
    FetchError
        If the weights cannot be fetched.
    InputError
        If the checkpoint does not exist or does not match the network.
    """
    torchvision: Any = required("torchvision", f"The model 'torchvision/{name}'")
    models = torchvision.models
    base, _, tag = name.partition(".")
    known = models.list_models(module=models)
    if base not in known:
        raise UnknownNameError(
            f"torchvision has no classifier {base!r}.",
            allowed="a name listed by manyhot models 'torchvision/*'",
            do=did_you_mean(base, known, show=str),
        )
    weights = _weights(models, base, tag or "DEFAULT")
    module = _loaded(models, base, weights, checkpoint)
    categories = weights.meta["categories"]
    classes = class_list() if len(categories) == len(class_list()) else from_keys(categories, name)
    head = next((n for n, m in reversed(list(module.named_modules())) if type(m).__name__ == "Linear"), "")
    own = _preprocessing(weights.transforms())
    about = {"weights": checkpoint or weights.url}
    wanted = own.with_options(preprocessing)
    network = Network(f"torchvision/{base}.{weights.name}", classes, wanted, module.eval(), head, about=about)
    if not checkpoint:
        return network
    return with_assumptions(network, preprocessing, crop_pct=own.size[0] / own.scale[0])


def _weights(models: Any, base: str, tag: str) -> Any:
    kinds = models.get_model_weights(base)
    try:
        return kinds[tag]
    except KeyError as error:
        raise UnknownNameError(
            f"torchvision has no weights {tag!r} for {base}.", allowed=", ".join(kinds.__members__)
        ) from error


def _loaded(models: Any, base: str, weights: Any, checkpoint: str) -> Any:
    if not checkpoint:
        return with_fetched(models, base, weights)
    module = models.get_model(base, weights=None, num_classes=len(weights.meta["categories"]))
    return with_checkpoint(module, checkpoint, "network", f"a state dict of torchvision's {base}")


def with_fetched(models: Any, name: str, weights: Any, **options: Any) -> Any:
    """Build a module, such as a detector, with published weights."""
    try:
        return models.get_model(name, weights=weights, **options)
    except Exception as error:
        raise FetchError(
            "The weights cannot be fetched.",
            where=weights.url,
            got=error_line(error),
            do="check the internet connection and the cache folder TORCH_HOME, or pass checkpoint='FILE'",
        ) from error


def with_checkpoint(module: Any, checkpoint: str, kind: str, allowed: str) -> Any:
    """Build a module, such as a detector, with the weights in a file.

    Raises
    ------
    InputError
        If the file does not exist, or does not fit the module. `allowed` describes valid files.
    """
    import torch

    if not Path(checkpoint).is_file():
        raise InputError("The checkpoint does not exist.", where=checkpoint)
    try:
        module.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    except Exception as error:
        raise InputError(
            f"The checkpoint cannot be loaded into the {kind}.",
            where=checkpoint,
            got=error_line(error),
            allowed=allowed,
        ) from error
    return module


def _preprocessing(preset: Any) -> Preprocessing:
    crop, resize = preset.crop_size[0], preset.resize_size[0]
    return Preprocessing(
        (crop, crop),
        (resize, resize),
        "center",
        preset.interpolation.value,
        tuple(preset.mean),
        tuple(preset.std),
    )
