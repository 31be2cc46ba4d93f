"""Find the model that a name refers to, and list the available models: the function of ``manyhot models``."""

from __future__ import annotations

import ast
import contextlib
import fnmatch
import hashlib
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from manyhot import registry
from manyhot.classes import ClassList
from manyhot.command import command
from manyhot.console import table_lines
from manyhot.errors import InputError, UnknownNameError, did_you_mean
from manyhot.extras import required
from manyhot.files import sha256
from manyhot.formats import open_class_list
from manyhot.parameters import Positional
from manyhot.plug_ins import innermost, is_own
from manyhot.predict.adapters.network_files import name_of_file, with_note
from manyhot.predict.adapters.timm import is_classifier
from manyhot.predict.model_code import code_hash, failures_of
from manyhot.predict.network import PREPROCESSING_OPTIONS, Network
from manyhot.predict.weights import with_backbone
from manyhot.result import Result
from manyhot.tables.own_classes import are_numbers

_LONGEST = 200
"""Characters of a name that can be one of published weights; a longer one is not parsed."""


def find_model(spec: str, classes: ClassList | None = None, **more: Any) -> Network:
    """Build the network that a name refers to.

    Parameters
    ----------
    spec : str
        The name of a registered model, such as ``efficientnet-lite0``, or the name of a family of models
        followed by its argument, such as ``timm/resnet50.a1_in1k``, ``torchvision/resnet50``,
        ``open_clip/ViT-B-32/laion2b_s34b_b79k``, ``onnx:model.onnx``, ``openvino:model.xml``,
        ``python:package.module:function`` or ``head:mine.safetensors``. Options follow in brackets, as in
        ``onnx:model.onnx(size=224, mean=0.5, std=0.5)``. The option ``classes`` of any model names its
        classes in the order of its outputs, as in ``onnx:model.onnx(classes='classes.txt')``. The option
        ``name`` of any model is its name in tables and files.
    classes : ClassList, optional
        The classes of the data set. A model with as many outputs, but without names for them, has these
        classes in this order.
    **more
        Further options of the family.

    Raises
    ------
    UnknownNameError
        If the model does not exist.
    InputError
        If the model does not have a given option or cannot be built, or if ``classes`` does not list all its
        outputs.
    MissingExtraError
        If a package that the model needs is not installed.
    """
    name, options = split_model(spec)
    family, rest = family_of_model(name)
    entry = _entry(family or name, spec)
    taken = registry.options_of(entry)
    if "preprocessing" in taken:
        shared = {o: options.pop(o) for o in PREPROCESSING_OPTIONS if o in options}
        options["preprocessing"] = shared
    title = "" if "name" in taken else _checked_name(options.pop("name", None), spec)
    own = open_class_list(options.pop("classes", None))
    unknown = [option for option in options if option not in taken]
    if unknown:
        allowed = [o for o in taken if o != "preprocessing"]
        allowed += PREPROCESSING_OPTIONS if "preprocessing" in taken else ()
        allowed += [option for option in ("classes", "name") if option not in taken]
        raise InputError(
            f"The model {family or name!r} has no option {unknown[0]!r}.",
            got=spec,
            allowed=", ".join(allowed) or "no options",
        )
    if "classes" in taken:
        options["classes"] = own or classes
    options |= {name: value for name, value in more.items() if name in taken}
    with failures_of(spec):
        network: Network = entry(rest, **options) if family else entry(**options)
        if not isinstance(network, Network):
            raise InputError(
                "A registered model is not a network.",
                where=spec,
                got=type(network).__name__,
                allowed="a manyhot.predict.network.Network",
            )
        network = _with_code(_marked(_named(network, own, classes)), entry)
    return with_note(replace(network, name=title or network.name), *split_model(spec))


def _with_code(network: Network, entry: registry.Entry) -> Network:
    """Record the code of a model of another package: changed code is another run."""
    if is_own(entry.function):
        return network
    function = innermost(entry.function)
    code = code_hash(function, network.module or network.forward)
    recorded = ", ".join(filter(None, (entry.version, network.about.get("code"), code)))
    return replace(network, about={**network.about, "code": recorded})


def _checked_name(name: Any, spec: str) -> str:
    if name is not None and not (isinstance(name, str) and name.strip() and name.isprintable()):
        raise InputError(
            "The name of a model is not one line of printable text.", got=spec, allowed="name='mine'"
        )
    return (name or "").strip()


def _named(network: Network, own: ClassList | None, classes: ClassList | None) -> Network:
    """Return a network with names for its outputs: its own if there are any, or those of the data set."""
    n = len(network.classes)
    if own is not None and len(own) != n:
        raise InputError(
            "The class list does not name all outputs of the model.",
            where=network.name,
            got=f"{len(own):,} classes in {own.name}",
            allowed=f"{n:,}, in the order of the outputs",
        )
    fits = classes is not None and len(classes) == n and are_numbers(network.classes.keys)
    named = own or (classes if fits else None)
    return network if named is None else replace(network, classes=named)


def find_backbone(spec: str) -> Network:
    """Build a network for its features. Weights without a classifier are accepted; a linear head is not.

    Raises
    ------
    ManyhotError
        As in `find_model`.
    """
    if spec.strip().startswith("head:"):
        raise InputError(
            "A head cannot be used as a backbone.",
            got=spec,
            do="pass the backbone on which the head was fitted",
        )
    return find_model(spec, backbone=True)


def is_published(spec: str) -> bool:
    """Return whether a name refers to published weights and therefore cannot run code or open files.

    A name refers to published weights if the model is registered under its full name, or if its family
    declares the form of published names (`published`). All options must be numbers.

    Raises
    ------
    UnknownNameError, InputError
        If the model does not exist, or if its options cannot be read.
    """
    if len(spec) > _LONGEST:
        return False
    name, options = split_model(spec)
    family, rest = family_of_model(name)
    about = _entry(family or name, spec).about
    plain = re.fullmatch(about.get("published", ""), rest) is not None if family else "form" not in about
    return plain and all(isinstance(value, int | float) for value in options.values())


def model_of_head(path: str | os.PathLike[str], backbone: str) -> str:
    """Return the model name of a head in a file, quoted for the shell, with its backbone if needed."""
    return shlex.quote(f"head:{path}") if is_published(backbone) else with_backbone(path, backbone)


def published_names() -> list[str]:
    """Return the names of published weights, and the form of such names in each family."""
    return [
        str(e.about.get("form", e.name))
        for e in registry.entries("model")
        if "published" in e.about or "form" not in e.about
    ]


def _marked(network: Network) -> Network:
    """Record a hash of the weights: others are another run. 0.03 s for Lite0, a second for a ViT-L/16."""
    digest = hashlib.sha256()
    if network.module is not None:
        _add_weights(digest, network.module)
    elif network.file:
        path = Path(network.file)
        for part in (path, path.with_suffix(".bin")):  # OpenVINO's weights are beside its graph
            if part.is_file():
                digest.update(sha256(part).encode())
    else:
        return network
    weights = f"{network.about.get('weights', '')} {digest.hexdigest()[:16]}".strip()
    return replace(network, about={**network.about, "weights": weights})


def _add_weights(digest: Any, module: Any) -> None:
    import torch

    for name, value in module.state_dict().items():
        if isinstance(value, torch.Tensor):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())


def families() -> dict[str, str]:
    """Return the families of models, each with the form of its names, such as ``timm/NAME``."""
    return {e.name: str(e.about["form"]) for e in registry.entries("model") if "form" in e.about}


def _entry(name: str, spec: str) -> registry.Entry:
    try:
        return registry.get("model", name)
    except UnknownNameError:
        known = [n for n in registry.names("model") if n not in families()]
        do = did_you_mean(name, known) or name_of_file(name)
        do = do or f"for a timm model, use timm/{spec}; to search for a name, run manyhot models '*{spec}*'"
        raise UnknownNameError(
            f"There is no model {spec!r}.", allowed=", ".join([*known, *families().values()]), do=do
        ) from None


def family_of_model(name: str) -> tuple[str, str]:
    """Return the family of a model and the rest of its name; empty for a model without a family."""
    for family, form in families().items():
        head = form[: len(family) + 1]
        if name == family or name.startswith(head):
            rest = name[len(head) :]
            if not rest:
                raise InputError("The name of the model is incomplete.", got=name, allowed=form)
            return family, rest
    return "", name


def split_model(spec: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the options in brackets after it; the name of a file may also have brackets."""
    spec = spec.strip()
    if "(" not in spec or not spec.endswith(")"):
        return spec, {}
    for i in (i for i, character in enumerate(spec) if character == "("):
        with contextlib.suppress(SyntaxError, ValueError):
            return spec[:i], _options(spec[i:])
    unquoted = _unquoted(spec)
    raise InputError(
        "The options of the model cannot be read.",
        got=f"{', '.join(unquoted)} in {spec}" if unquoted else spec,
        allowed="NAME(option=literal, …)",
        do="write strings in quotes, such as {}='{}'".format(*unquoted[0].split("=")) if unquoted else None,
    )


def _unquoted(spec: str) -> list[str]:
    """Return the options whose value is a bare word, such as ``mode=squash``."""
    words = re.findall(r"(\w+)\s*=\s*([A-Za-z_]\w*)(?=\s*[,)])", spec)
    return [f"{name}={word}" for name, word in words if word not in ("True", "False", "None")]


def _options(brackets: str) -> dict[str, Any]:
    call = ast.parse(f"f{brackets}", mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
        raise SyntaxError
    if not all(k.arg for k in call.keywords):
        raise SyntaxError
    return {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}


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
    """Models whose names match a pattern.

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
        """Yield the models as a table, and the forms of the names of other models."""
        if self.models:
            rows = [(m.name, str(m.size or ""), m.classes, m.source) for m in self.models]
            yield from table_lines(("name", "size", "classes", "from"), rows)
        n = len(self.models)
        matching = f"{n:,} model matches" if n == 1 else f"{n:,} models match"
        yield f"{matching} {self.pattern!r}. predict also accepts: {', '.join(families().values())}"

    def to_json(self) -> list[dict[str, Any]]:
        """Return the models as mappings."""
        return [asdict(model) for model in self.models]


@command("models", examples=("manyhot models 'eva02*'",))
def list_models(pattern: Annotated[str, Positional()] = "*") -> ModelList:
    """List the models accepted by predict.

    Parameters
    ----------
    pattern
        Pattern of model names, such as 'eva02*' or 'torchvision/*'. The family can be left out. A pattern
        without wildcards matches any part of a name.

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
