"""Deep ensembles: the mean probabilities of several models, and how far the models disagree."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from manyhot.classes import ClassList
from manyhot.core.array_types import AnyFloats
from manyhot.core.uncertainty import Average, member_probabilities
from manyhot.errors import InputError
from manyhot.predict.engines import Engine, EngineOptions, build_engine, installed, score_images
from manyhot.predict.network import Bytes, Float32Array, Network
from manyhot.registry import register


@register("model", "ensemble", form="ensemble:MODEL,MODEL", classes="of the models")
def ensemble_network(
    names: str, *, classes: ClassList | None = None, name: str = "", multilabel: bool | None = None
) -> Network:
    """Average the probabilities of several models, such as one network trained with several seeds.

    Parameters
    ----------
    names : str
        The models, separated by commas. The options of a model follow its name in brackets. If the last model
        has options, add the brackets of the ensemble after them, even if they are empty:
        ``ensemble:onnx:a.onnx(size=96),onnx:b.onnx(size=96)()``. A file name may be a pattern that stands for
        all matching files, such as ``ensemble:trained:runs/*/model.safetensors``.
    classes : ClassList, optional
        As in `manyhot.predict.models.find_model`.
    name : str
        Name of the ensemble in tables, after ``ensemble/``. The default is the name of the first model and
        the number of other models.
    multilabel : bool, optional
        Whether several classes can be valid together, so that the probability of a class is the sigmoid of
        its logit. The default is the value that the files of the models record, or False if they record none.

    Raises
    ------
    InputError
        If there are fewer than two models, if they differ in their classes, in the size of their input or in
        whether several classes can be valid, or if one of them has no probabilities.
    ManyhotError
        As in `manyhot.predict.models.find_model`.

    References
    ----------
    Lakshminarayanan, Pritzel and Blundell 2017, doi 10.48550/arXiv.1612.01474.
    """
    from manyhot.predict.models import find_model

    specs = [spec for part in _separated(names) for spec in _matching(part)]
    if len(specs) < 2 or len(set(specs)) < len(specs):
        raise InputError(
            "An ensemble needs several models.",
            got=f"ensemble:{names}",
            allowed="two or more different models, such as ensemble:head:a.safetensors,head:b.safetensors",
        )
    networks = [find_model(spec, classes) for spec in specs]
    first = networks[0]
    for network in networks:
        check_member(network, "Models of an ensemble")
        _check_alike(network, first)
    is_multilabel = first.multilabel if multilabel is None else multilabel
    members = _members(networks, is_multilabel)
    weights = (f"{network.name} {network.about.get('weights', '')};" for network in networks)
    digest = hashlib.sha256("".join(weights).encode()).hexdigest()[:16]
    codes = dict.fromkeys(filter(None, (network.about.get("code") for network in networks)))
    about = {"weights": f"{len(networks)} models {digest}", "code": ", ".join(codes)}
    own = name or f"{first.name}+{len(networks) - 1}"
    average = average_network(f"ensemble/{own}", first, members, about, multilabel=is_multilabel)
    return replace(average, notes=(*dict.fromkeys(n for m in networks for n in m.notes), *_same(networks)))


def average_network(
    name: str,
    like: Network,
    members: Callable[[Bytes], Iterable[AnyFloats]],
    about: Mapping[str, str],
    *,
    multilabel: bool,
) -> Network:
    """Return a network that averages the probabilities of its members.

    Parameters
    ----------
    name : str
    like : Network
        A network with the same classes, preprocessing and notes.
    members : callable
        Yields the probabilities of each member for cropped images.
    about : Mapping of str to str
        Replaces or adds metadata.
    multilabel : bool
        Whether several classes can be valid together.
    """

    def mean(images: Bytes) -> Float32Array:
        return Average.of(members(images), multilabel=multilabel).mean.astype(np.float32)

    return Network(
        name,
        like.classes,
        like.preprocessing,
        forward=mean,
        members=members,
        score_kind="probability",
        multilabel=multilabel,
        about={**like.about, **about},
        notes=like.notes,
    )


def check_member(network: Network, what: str) -> None:
    """Check that a network has probabilities that can be averaged; `what` names the members in messages.

    Raises
    ------
    InputError
        If its scores are neither logits nor probabilities, or it is an average itself.
    """
    if network.score_kind not in ("logit", "probability"):
        raise InputError(
            f"{what} are averaged as probabilities, but this model has none.",
            where=network.name,
            got=f"scores of kind {network.score_kind}",
            allowed="logits or probabilities",
        )
    if network.members is not None:
        raise InputError(
            "An average cannot be averaged again.",
            where=network.name,
            allowed="single models, without ensemble: or dropout:",
        )


def _check_alike(network: Network, first: Network) -> None:
    """Raise an error unless the scores of two networks can be averaged on the same crops."""
    for what, got, allowed in (
        ("class lists", _listed(network), _listed(first)),
        ("sizes or crops of their input", _crop(network), _crop(first)),
        ("kinds of classes", _kind(network), _kind(first)),
    ):
        if got != allowed:
            raise InputError(
                f"Two models of an ensemble have different {what}.",
                where=network.name,
                got=got,
                allowed=f"{allowed}, as {first.name}",
            )


def _listed(network: Network) -> str:
    return f"{len(network.classes):,} classes, class list {network.classes.hash}"


def _crop(network: Network) -> str:
    """Return how images are cropped; models may differ in their mean and std, which follow."""
    p = network.preprocessing
    return f"{p.size[0]} × {p.size[1]} pixels of {p.scale[0]} × {p.scale[1]}, {p.mode}, {p.interpolation}"


def _kind(network: Network) -> str:
    return "several classes valid together" if network.multilabel else "one valid class"


def _members(networks: Sequence[Network], multilabel: bool) -> Callable[[Bytes], Iterator[AnyFloats]]:
    """Return a function that yields the probabilities of each network for cropped images."""
    scorers = [*_scorers(networks)]
    kinds = [(network.score_kind, network.name) for network in networks]

    def members(images: Bytes) -> Iterator[AnyFloats]:
        features: BackboneFeatures = {}
        for scorer, (kind, name) in zip(scorers, kinds, strict=True):
            yield member_probabilities(scorer(images, features), kind, multilabel=multilabel, name=name)

    return members


BackboneFeatures = dict[Hashable, list[Float32Array]]
"""The features of images by backbone, in the batches in which the backbone computed them."""


Scorer = Callable[[Bytes, BackboneFeatures], Float32Array]
"""Returns the scores of a member. BackboneFeatures that are missing are computed and added."""


def _scorers(networks: Sequence[Network]) -> Iterator[Scorer]:
    """Yield a function for each network; heads on the same backbone run it once for each image."""
    engines: dict[Hashable, Engine] = {}
    n_heads = Counter((network.backbone, network.preprocessing) for network in networks if network.backbone)
    for network in networks:
        key = network.backbone, network.preprocessing
        if n_heads[key] < 2:
            yield _alone(_engine(network))
            continue
        if key not in engines:
            engines[key] = _engine(network, features=True)
        yield _on_backbone(key, engines[key], network)


def _engine(network: Network, *, features: bool = False) -> Engine:
    """Return PyTorch, or an engine of files; models are called one after the other, with all cores."""
    engine = "torch" if not network.file else "openvino" if installed("openvino") else "onnx"
    return build_engine(engine, network, EngineOptions(features=features, workers=1))


def _alone(engine: Engine) -> Scorer:
    return lambda images, _: score_images(engine, images)


def _on_backbone(key: Hashable, engine: Engine, network: Network) -> Scorer:
    """Return the scores of a head on the features of a backbone that an engine computes."""
    import torch

    from manyhot.predict.engines.torch import device

    assert network.module is not None
    layer, on = network.module.get_submodule(network.head).to(device()), device()

    def scores(images: Bytes, features: BackboneFeatures) -> Float32Array:
        if key not in features:
            batches = (images[i : i + engine.batch] for i in range(0, len(images), engine.batch))
            parts = (engine(batch)[1] for batch in batches)
            features[key] = [part for part in parts if part is not None]
        with torch.inference_mode():
            return np.concatenate([layer(torch.from_numpy(x).to(on)).cpu().numpy() for x in features[key]])

    return scores


def _same(networks: Sequence[Network]) -> Iterator[str]:
    """Yield which models add nothing to the ensemble."""
    seen: dict[str, str] = {}
    for network in networks:
        weights = network.about.get("weights", "").rpartition(" ")[2]
        if weights in seen and weights:
            yield f"{network.name} and {seen[weights]} have the same weights"
        seen.setdefault(weights, network.name)


def _separated(names: str) -> list[str]:
    """Return the names between commas that are neither in brackets nor in quotes."""
    found = re.findall(r"""(?:\((?:'[^']*'|"[^"]*"|[^()'"]|\([^()]*\))*\)|[^,])+""", names)
    return [name.strip() for name in found if name.strip()]


def _matching(spec: str) -> list[str]:
    """Return the names of a model for all files that match its pattern, or the name itself."""
    plain, bracket, options = spec.partition("(")
    family, colon, pattern = plain.partition(":")
    place = Path(pattern)
    if not colon or not any(c in pattern for c in "*?[") or place.exists():
        return [spec]
    paths = sorted(Path(place.anchor or ".").glob(str(place.relative_to(place.anchor))))
    if not paths:
        raise InputError(
            "No model file matches the pattern.", got=spec, allowed="a pattern that matches files"
        )
    return [f"{family}:{path}{bracket}{options}" for path in paths]
