"""Models of one's own: a function that returns one."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError
from manyhot.models.extras import required
from manyhot.models.network import Network
from manyhot.models.preprocessing import Preprocessing, from_timm
from manyhot.registry import register


@register("model", "python", form="python:MODULE:FUNCTION", classes="--classes, or ImageNet-1k for 1,000")
def python_network(
    name: str,
    *,
    classes: ClassList | None = None,
    size: Any = None,
    crop_pct: float | None = None,
    mode: str | None = None,
    interpolation: str | None = None,
    mean: Any = None,
    std: Any = None,
) -> Network:
    """What a function without arguments returns: a ``Network``, a ``torch.nn.Module``, or a callable.

    Parameters
    ----------
    name : str
        Module, importable from here or from the current folder, and function.
    classes : ClassList, optional
        Of a module or callable; ImageNet-1k where it has 1,000.
    size, crop_pct, mode, interpolation, mean, std
        Preprocessing. By default that of timm's networks, else 224, 0.875, bicubic, mean and std of ImageNet.

    Raises
    ------
    InputError
        There is no such function, or what it returns is no model.

    Notes
    -----
    A callable takes images as they were cropped, uint8 of shape (n, 3, height, width), and returns logits of
    shape (n, C).
    """
    made = _called(name)
    if isinstance(made, Network):
        return made
    given = {"size": size, "crop_pct": crop_pct, "mode": mode, "interpolation": interpolation}
    options = {k: v for k, v in (given | {"mean": mean, "std": std}).items() if v is not None}
    return as_network(made, f"python/{name.replace(':', '.')}", classes, options)


def as_network(
    model: Any, name: str, classes: ClassList | None = None, options: dict[str, Any] | None = None
) -> Network:
    """Return a module or a callable as a network.

    Raises
    ------
    InputError
        It is neither.
    """
    import torch

    if not callable(model):
        raise InputError(
            "This is no model.",
            where=name,
            got=type(model).__name__,
            allowed="a manyhot.models.Network, a torch.nn.Module or a callable",
        )
    base = Preprocessing()
    config = getattr(model, "pretrained_cfg", None)
    if config:
        timm = required("timm", f"The model {name!r}")
        base = from_timm(timm.data.resolve_data_config(model=model))
    preprocessing = base.with_options(options or {})
    if isinstance(model, torch.nn.Module):
        from manyhot.models.predict import default_classes

        n = _outputs(model, preprocessing)
        fits = classes if classes is not None and len(classes) == n else None
        return Network(name, default_classes(n, name, fits), preprocessing, model.eval(), _head(model))
    return Network(name, classes or class_list(), preprocessing, forward=model)


def _called(name: str) -> Any:
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
    except (ImportError, AttributeError) as error:
        raise InputError("There is no such function.", got=f"python:{name}", allowed=str(error)) from error
    return found()


def _outputs(model: Any, preprocessing: Preprocessing) -> int:
    import torch

    model.eval()
    with torch.inference_mode():
        out = model(
            torch.zeros(1, 3, *preprocessing.size, device=next(model.parameters(), torch.zeros(0)).device)
        )
    if not isinstance(out, torch.Tensor) or out.ndim != 2:
        raise InputError(
            "The network does not return logits.",
            got=f"shape {tuple(out.shape)}" if isinstance(out, torch.Tensor) else type(out).__name__,
            allowed="shape (n, C)",
        )
    return int(out.shape[1])


def _head(model: Any) -> str:
    return next(
        (n for n, m in reversed(list(model.named_modules())) if n and type(m).__name__ == "Linear"), ""
    )
