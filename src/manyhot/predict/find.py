"""Models by name: build the one that a command names."""

from __future__ import annotations

import ast
import contextlib
import difflib
import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from manyhot import registry
from manyhot.classes import ClassList
from manyhot.errors import InputError, UnknownNameError
from manyhot.files import sha256
from manyhot.predict.network import PREPROCESSING_OPTIONS, Network

_LONGEST = 200
"""Characters of a name that can be one of published weights; a longer one is not parsed."""


def find_model(spec: str, classes: ClassList | None = None, **more: Any) -> Network:
    """Build the network that a name refers to.

    Parameters
    ----------
    spec : str
        A registered name, such as ``efficientnet-lite0``; or the name of a family of models and what it
        takes: ``timm/resnet50.a1_in1k``, ``torchvision/resnet50``, ``open_clip/ViT-B-32/laion2b_s34b_b79k``,
        ``onnx:model.onnx``, ``openvino:model.xml``, ``python:package.module:function``,
        ``head:mine.safetensors``. Options follow in brackets:
        ``onnx:model.onnx(size=224, mean=0.5, std=0.5)``.
    classes : ClassList, optional
        The classes of the data set, for models that have none of their own.
    **more
        Options of those families that take them.

    Raises
    ------
    UnknownNameError
        There is no such model.
    InputError
        The model has no such option, or it cannot be built.
    MissingExtraError
        A package that it needs is not installed.
    """
    name, options = _split(spec)
    family, rest = _family(name)
    entry = _entry(family or name, spec)
    taken = registry.options_of(entry)
    if "preprocessing" in taken:
        options = _with_preprocessing(options)
    unknown = [option for option in options if option not in taken]
    if unknown:
        allowed = [o for o in taken if o not in ("classes", "preprocessing")]
        allowed += PREPROCESSING_OPTIONS if "preprocessing" in taken else ()
        raise InputError(
            f"The model {family or name!r} has no option {unknown[0]!r}.",
            got=spec,
            allowed=", ".join(allowed) or "no options",
        )
    if "classes" in taken:
        options["classes"] = classes
    options |= {name: value for name, value in more.items() if name in taken}
    network: Network = entry(rest, **options) if family else entry(**options)
    return _marked(network)


def find_backbone(spec: str) -> Network:
    """Build a network for its features: weights without classes are accepted, a linear head is not.

    Raises
    ------
    ManyhotError
        As in `find_model`.
    """
    if spec.strip().startswith("head:"):
        raise InputError(
            "A head is not a backbone.", got=spec, do="give the model whose features the head was fitted on"
        )
    return find_model(spec, backbone=True)


def is_published(spec: str) -> bool:
    """Return whether a name refers to published weights, so that building it runs and opens nothing else.

    It does if a package registers the name, or its family says so (`published`), with numbers as options.

    Raises
    ------
    UnknownNameError, InputError
        There is no such model, or its options cannot be read.
    """
    if len(spec) > _LONGEST:
        return False
    name, options = _split(spec)
    family, rest = _family(name)
    about = _entry(family or name, spec).about
    plain = re.fullmatch(about.get("published", ""), rest) is not None if family else "form" not in about
    return plain and all(isinstance(value, int | float) for value in options.values())


def published_names() -> list[str]:
    """Return the names of published weights, and the form of such names in each family."""
    entries = [registry.get("model", name) for name in registry.names("model")]
    return [
        str(e.about.get("form", e.name)) for e in entries if "published" in e.about or "form" not in e.about
    ]


def _with_preprocessing(options: dict[str, Any]) -> dict[str, Any]:
    """Gather the options of preprocessing, which several families take, in one."""
    own = {name: value for name, value in options.items() if name not in PREPROCESSING_OPTIONS}
    return own | {"preprocessing": {name: options[name] for name in PREPROCESSING_OPTIONS if name in options}}


def _marked(network: Network) -> Network:
    """Record a hash of the weights: other weights under the same name are another run.

    0.03 s for EfficientNet-Lite0, a second for a ViT-L/16.
    """
    digest = hashlib.sha256()
    if network.module is not None:
        _add_weights(digest, network.module)
    elif network.file:
        _add_file(digest, Path(network.file))
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


def _add_file(digest: Any, path: Path) -> None:
    for part in (path, path.with_suffix(".bin")):  # OpenVINO's weights are beside its graph
        if part.is_file():
            digest.update(sha256(part).encode())


def families() -> dict[str, str]:
    """Return the families of models by name, each with the form of the names of its models."""
    entries = (registry.get("model", name) for name in registry.names("model"))
    return {e.name: str(e.about["form"]) for e in entries if "form" in e.about}


def _entry(name: str, spec: str) -> registry.Entry:
    try:
        return registry.get("model", name)
    except UnknownNameError:
        known = [n for n in registry.names("model") if n not in families()]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
        do = f"did you mean {' or '.join(map(repr, near))}?" if near else None
        do = do or f"for a model of timm: timm/{spec}; manyhot models '*{spec}*' lists"
        raise UnknownNameError(
            f"There is no model {spec!r}.", allowed=", ".join([*known, *families().values()]), do=do
        ) from None


def _family(name: str) -> tuple[str, str]:
    """Return the family of a model and the rest of its name; empty for a model without a family."""
    for family, form in families().items():
        head = form[: len(family) + 1]
        if name == family or name.startswith(head):
            rest = name[len(head) :]
            if not rest:
                raise InputError("The name of the model is incomplete.", got=name, allowed=form)
            return family, rest
    return "", name


def _split(spec: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the options in brackets after it; the name of a file may also have brackets."""
    spec = spec.strip()
    if "(" not in spec or not spec.endswith(")"):
        return spec, {}
    for i in (i for i, character in enumerate(spec) if character == "("):
        with contextlib.suppress(SyntaxError, ValueError):
            return spec[:i], _options(spec[i:])
    raise InputError("The options of the model cannot be read.", got=spec, allowed="NAME(option=literal, …)")


def _options(brackets: str) -> dict[str, Any]:
    call = ast.parse(f"f{brackets}", mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
        raise SyntaxError
    if not all(k.arg for k in call.keywords):
        raise SyntaxError
    return {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
