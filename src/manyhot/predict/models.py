"""The models that can be predicted with: the function of ``manyhot models``."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from manyhot import registry
from manyhot.command import command
from manyhot.console import table_lines
from manyhot.extras import required
from manyhot.parameters import Positional
from manyhot.predict.adapters.timm import is_classifier
from manyhot.predict.find import families
from manyhot.result import Result


@dataclass(frozen=True)
class ListedModel:
    """A model that ``manyhot predict`` accepts.

    Attributes
    ----------
    name : str
        As for ``manyhot predict --model``.
    size : int, optional
        Height of its input, in pixels.
    classes : str
        The name of its class list, or the number of its classes.
    source : str
        The origin of its weights: package, hub or pytorch.org.
    """

    name: str
    size: int | None
    classes: str
    source: str


@dataclass(frozen=True, eq=False)
class ModelList(Result):
    """The models whose names match a pattern.

    Attributes
    ----------
    pattern : str
    models : tuple of ListedModel
    notes, metadata, inputs, written
        As in `Result`.
    """

    pattern: str
    models: tuple[ListedModel, ...]

    def lines(self) -> Iterator[str]:
        """Yield the models as a table, and the forms of names of other models."""
        if self.models:
            rows = [(m.name, str(m.size or ""), m.classes, m.source) for m in self.models]
            yield from table_lines(("name", "size", "classes", "from"), rows)
        n = len(self.models)
        matching = f"{n:,} model matches" if n == 1 else f"{n:,} models match"
        yield f"{matching} {self.pattern!r}. predict also accepts: {', '.join(families().values())}"

    def to_json(self) -> list[dict[str, Any]]:
        """Return the models, a mapping each."""
        return [asdict(model) for model in self.models]


@command("models", examples=("manyhot models 'eva02*'",))
def list_models(pattern: Annotated[str, Positional()] = "*") -> ModelList:
    """List the models that predict accepts.

    Parameters
    ----------
    pattern
        Pattern of names, such as 'eva02*' or 'torchvision/*', with or without their family; a pattern
        without wildcards is a part of the name.

    Returns
    -------
    ModelList

    Raises
    ------
    MissingExtraError
        If the extra ``models`` is not installed.
    """
    wildcards = pattern if any(c in pattern for c in "*?[") else f"*{pattern}*"
    every = [*_own(), *_timm(wildcards), *_torchvision()]
    return ModelList(pattern, tuple(m for m in every if _fits(m.name, wildcards)))


def _fits(name: str, pattern: str) -> bool:
    return any(
        fnmatch.fnmatchcase(n.lower(), pattern.lower()) for n in (name, name.partition("/")[2] or name)
    )


def _own() -> Iterator[ListedModel]:
    for name in registry.names("model"):
        entry = registry.get("model", name)
        if "form" not in entry.about:
            yield ListedModel(name, entry.about.get("size"), str(entry.about.get("classes", "")), "package")


def _timm(pattern: str) -> Iterator[ListedModel]:
    timm: Any = required("timm", "The list of models")
    for name in timm.list_pretrained():
        if not _fits(f"timm/{name}", pattern):
            continue  # before its configuration is copied
        config = timm.get_pretrained_cfg(name)
        if config is None or not is_classifier(config):
            continue
        yield ListedModel(f"timm/{name}", config.input_size[1], _classes(config.num_classes), "hub")


def _torchvision() -> Iterator[ListedModel]:
    models: Any = required("torchvision.models", "The list of models")
    for base in models.list_models(module=models):
        for weights in models.get_model_weights(base):
            categories = weights.meta.get("categories")
            if not categories:
                continue  # weights to start a training from
            size, classes = weights.transforms.keywords["crop_size"], _classes(len(categories))
            yield ListedModel(f"torchvision/{base}.{weights.name}", size, classes, "pytorch.org")


def _classes(n: int) -> str:
    return "imagenet1k" if n == 1000 else f"{n:,}"
