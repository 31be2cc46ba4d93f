"""Your own models: functions that return them."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from manyhot.classes import ClassList, class_list, from_keys, of_outputs
from manyhot.errors import InputError, MissingExtraError
from manyhot.extras import missing_extra, required
from manyhot.predict.adapters.network_files import with_assumptions
from manyhot.predict.model_code import code_hash, failures_of, model_error
from manyhot.predict.network import CROP_PCT, Network, Preprocessing, as_scores, from_timm
from manyhot.predict.score_kinds import assumed_scores, checked_scores
from manyhot.predict.sources.image_columns import imagenet_keys
from manyhot.registry import register


@register(
    "model",
    "python",
    form="python:MODULE:FUNCTION",
    classes="the class list that is passed, or ImageNet-1k for 1,000 outputs",
)
def python_network(
    name: str, *, classes: ClassList | None = None, scores: str = "", preprocessing: Mapping[str, Any]
) -> Network:
    """Load the model that a function returns: a ``Network``, a ``torch.nn.Module`` or a callable.

    A callable takes cropped images, uint8 of shape (n, 3, height, width), and returns logits of shape (n, C).
    A network from transformers is also accepted: the logits of its output and the classes in its ``id2label``
    are read.

    Parameters
    ----------
    name : str
        The function, as ``MODULE:FUNCTION``. The module is also searched for in the current folder. The
        function takes no arguments.
    classes : ClassList, optional
        Class list of a module or callable. The default is ImageNet-1k if there are 1,000 outputs.
    scores : str
        Kind of the scores: ``logit``, or ``probability`` if the network ends in a softmax or in sigmoids. By
        default, logits are assumed.
    preprocessing : mapping
        Preprocessing options. A timm network has the preprocessing of its published weights by default. For
        all other models, the defaults are size 224, crop_pct 0.875, bicubic interpolation, and ImageNet's
        mean and std. A note lists the assumed values. For a timm network with a different number of classes
        than the published weights, a note also lists them, because others have trained it.

    Raises
    ------
    InputError
        If the function does not exist or fails, or its return value is not a model.
    """
    function = _function(name)
    with failures_of(f"python:{name}", what="The function fails."):
        made = function()
    if isinstance(made, Network):
        return _with_code(made, function, made.module or made.forward)
    network = as_network(made, f"python/{name.replace(':', '.')}", classes, scores, preprocessing)
    network = _with_code(network, function, made)
    config = _config(made) or {}
    if config and config.get("num_classes") == getattr(made, "num_classes", None):
        return network
    has_size = _transformers_config(made)[1] is not None
    crop_pct = config.get("crop_pct") or CROP_PCT
    return with_assumptions(network, preprocessing, crop_pct=crop_pct, fixed_size=has_size)


_LOADER = (
    "load them yourself, pass the loader to manyhot.predict_loader, and save its `predictions` with "
    "manyhot.write_predictions"
)


def as_network(
    model: Any, name: str, classes: ClassList | None, scores: str, options: Mapping[str, Any]
) -> Network:
    """Return a module or a callable as a network.

    Raises
    ------
    InputError
        If the value is not callable, fails on an image, or does not return logits.
    """
    import torch

    if not callable(model):
        raise InputError(
            "This is not a model.",
            where=name,
            got=type(model).__name__,
            allowed="a manyhot.predict.network.Network, a torch.nn.Module or a callable",
        )
    preprocessing = _preprocessing(model, name, options)
    kind, about = checked_scores(scores), assumed_scores(scores)
    if isinstance(model, torch.nn.Module):
        out = _logits(model.eval(), name, preprocessing)
        if hasattr(out, "logits"):
            model.register_forward_hook(_logits_of)
            out = out.logits
        known = _own_classes(model, name) or _classes(out, name, classes)
        modules = reversed(list(model.named_modules()))
        head = next((n for n, m in modules if n and type(m).__name__ == "Linear"), "")
        kinds = getattr(getattr(model, "config", None), "problem_type", None)
        several = kinds == "multi_label_classification"
        return Network(
            name, known, preprocessing, model, head, score_kind=kind, multilabel=several, about=about
        )
    forward = _guarded(model, name)
    known = _classes(forward(np.zeros((1, 3, *preprocessing.size), np.uint8)), name, classes)
    return Network(name, known, preprocessing, forward=forward, score_kind=kind, about=about)


def _classes(logits: Any, name: str, classes: ClassList | None) -> ClassList:
    """Return the class list of the logits of an image."""
    shape = getattr(logits, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != 1:
        raise InputError(
            "The network does not return logits.",
            where=name,
            got=type(logits).__name__ if shape is None else f"shape {tuple(shape)} for one image",
            allowed="shape (1, C)",
            do="return a module or a callable whose output is one tensor of logits, or has them as .logits",
        )
    return classes if classes is not None and len(classes) == shape[1] else of_outputs(shape[1], name)


def _own_classes(model: Any, name: str) -> ClassList | None:
    """Return the classes that a network of transformers names in the order of its outputs, or None."""
    labels = _transformers_config(model)[0]
    names = [str(labels.get(i, "")) for i in range(len(labels))]
    if not names or all(text in ("", f"LABEL_{i}") for i, text in enumerate(names)):
        return None
    keys = imagenet_keys(tuple(names))
    return of_outputs(len(keys), name) if keys == class_list().keys else from_keys(keys, f"classes of {name}")


def _transformers_config(model: Any) -> tuple[Mapping[int, str], Any]:
    """Return the names of the outputs of a network of transformers, and its image size if it is known."""
    config = getattr(model, "config", None)
    labels, size = getattr(config, "id2label", None), getattr(config, "image_size", None)
    if not isinstance(labels, Mapping):
        return {}, None
    return labels, size if isinstance(size, int | list | tuple) else None


def _logits_of(_module: Any, _arguments: Any, out: Any) -> Any:
    """Return the logits of the output of a network of transformers."""
    return getattr(out, "logits", out)


def _preprocessing(model: Any, name: str, options: Mapping[str, Any]) -> Preprocessing:
    if not _config(model):
        size = _transformers_config(model)[1]
        known = {} if size is None else {"size": size}
        return Preprocessing().with_options({**known, **options})
    timm = required("timm", f"The model {name!r}")
    return from_timm(timm.data.resolve_data_config(model=model), options)


def _config(model: Any) -> Any:
    """Return the configuration of a network of timm; None for others."""
    return getattr(model, "pretrained_cfg", None) or None


def _with_code(network: Network, function: Any, made: Any) -> Network:
    """Record the code, so that predictions of changed code count as another run."""
    return replace(network, about={**network.about, "code": code_hash(function, made)})


def _function(name: str) -> Any:
    """Import a function without arguments."""
    module, _, function = name.partition(":")
    if not function:
        raise InputError(
            "The name of the function is missing.", got=f"python:{name}", allowed="python:MODULE:FUNCTION"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), function)
    except MissingExtraError:
        raise
    except ModuleNotFoundError as error:
        raise (missing_extra(error) or _not_installed(name, module, error)) from error
    except (ImportError, AttributeError) as error:
        raise InputError("There is no such function.", got=f"python:{name}", allowed=str(error)) from error
    except (Exception, SystemExit) as error:
        raise model_error("The module fails.", f"python:{name}", error) from error
    _check_no_arguments(found, f"python:{name}")
    return found


def _not_installed(name: str, module: str, error: ModuleNotFoundError) -> InputError:
    """Return the error for a module that does not exist, or that needs a package that is not installed."""
    package = (error.name or "").partition(".")[0]
    if package == module.partition(".")[0]:
        return InputError(
            "There is no such module.",
            got=f"python:{name}",
            allowed=f"a file {module.replace('.', '/')}.py in this folder or a folder of PYTHONPATH, "
            "or an installed package",
        )
    return InputError(
        f"The module {module} needs {package}, which is not installed.",
        where=f"python:{name}",
        do=f"pip install {package}",
    )


def _check_no_arguments(function: Any, where: str) -> None:
    """Raise an error for a function that needs arguments, which no name of a model passes."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # not callable, or without a signature: the call will tell
        return
    needed = [
        p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if needed:
        raise InputError(
            "The function requires arguments, but is called without any.",
            where=where,
            got=", ".join(needed),
            do="name a function without arguments, such as def large(): return load('large')",
        )


def _guarded(model: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
    """Return a callable whose failures are reported as errors of the model."""

    def forward(images: Any) -> Any:
        with failures_of(name):
            return as_scores(model(images), name)

    return forward


def _logits(model: Any, name: str, preprocessing: Preprocessing) -> Any:
    """Return the output of a module for a black image."""
    import torch

    device = next(model.parameters(), torch.zeros(0)).device
    try:
        with torch.inference_mode():
            return model(torch.zeros(1, 3, *preprocessing.size, device=device))
    except Exception as error:
        height, width = preprocessing.size
        what = f"The network fails on a black image of {height} × {width} pixels."
        do = "if it takes images of a different size, pass this size, such as …(size=224)"
        first = next((m for m in model.modules() if isinstance(m, torch.nn.Conv2d)), None)
        if first is not None and first.in_channels != 3:
            do = f"its first convolution takes {first.in_channels} channels, but images are decoded to RGB: "
            do += _LOADER
        raise model_error(what, name, error, do=do) from error
