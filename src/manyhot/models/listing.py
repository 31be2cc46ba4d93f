"""Which models there are, by patterns."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from manyhot import registry
from manyhot.extras import required
from manyhot.models.adapters.timm import is_classifier


@dataclass(frozen=True)
class Listed:
    """A model that can be predicted with.

    Attributes
    ----------
    name : str
        As ``manyhot predict --model`` takes it.
    size : int, optional
        Height of the images that it takes.
    classes : str
        What it predicts over: a class list by name, or how many classes.
    source : str
        Where its weights come from.
    """

    name: str
    size: int | None
    classes: str
    source: str


def list_models(pattern: str = "*") -> list[Listed]:
    """Return the models whose names fit a pattern with ``*`` and ``?``, with their family or without.

    A pattern without either is a part of the name.

    Raises
    ------
    MissingExtraError
        The extra ``models`` is not installed.
    """
    if not any(c in pattern for c in "*?["):
        pattern = f"*{pattern}*"
    every = [*_own(), *_timm(pattern), *_torchvision()]
    return [m for m in every if _fits(m.name, pattern)]


def _fits(name: str, pattern: str) -> bool:
    return any(
        fnmatch.fnmatchcase(n.lower(), pattern.lower()) for n in (name, name.partition("/")[2] or name)
    )


def _own() -> Iterator[Listed]:
    for name in registry.names("model"):
        entry = registry.get("model", name)
        if "form" not in entry.about:
            yield Listed(name, entry.about.get("size"), str(entry.about.get("classes", "")), "package")


def _timm(pattern: str) -> Iterator[Listed]:
    timm: Any = required("timm", "The list of models")
    for name in timm.list_pretrained():
        if not _fits(f"timm/{name}", pattern):
            continue  # before its configuration is copied
        config = timm.get_pretrained_cfg(name)
        if config is None or not is_classifier(config):
            continue
        yield Listed(f"timm/{name}", config.input_size[1], _classes(config.num_classes), "hub")


def _torchvision() -> Iterator[Listed]:
    models: Any = required("torchvision.models", "The list of models")
    for base in models.list_models(module=models):
        for weights in models.get_model_weights(base):
            categories = weights.meta.get("categories")
            if not categories:
                continue  # weights to go on training with
            size, classes = weights.transforms.keywords["crop_size"], _classes(len(categories))
            yield Listed(f"torchvision/{base}.{weights.name}", size, classes, "pytorch.org")


def _classes(n: int) -> str:
    return "imagenet1k" if n == 1000 else f"{n:,}"
