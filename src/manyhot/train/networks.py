"""Networks to train: timm's, with one output per class; whole, or from a named layer on (`Stages`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor, fx, nn

from manyhot.classes import ClassList
from manyhot.errors import InputError, did_you_mean
from manyhot.extras import required
from manyhot.predict.adapters.timm import RANDOM, check_network
from manyhot.predict.models import find_model
from manyhot.predict.network import Preprocessing, from_timm, scaled
from manyhot.predict.weights import Trained, error_line, hub_or_cache, is_trained, read_trained
from manyhot.train.recipe import Recipe

_TIMM = "timm/"


@dataclass(frozen=True, eq=False)
class Start:
    """A network before its first step.

    Attributes
    ----------
    architecture : str
        Name in timm.
    options : Mapping of str to Any
        Further arguments of ``timm.create_model``.
    notes : tuple of str
        Notes for the log.
    """

    module: Any
    architecture: str
    options: Mapping[str, Any]
    preprocessing: Preprocessing
    notes: tuple[str, ...] = ()


def recipe_from(spec: str) -> dict[str, Any]:
    """Return the settings of a recipe that starts from a model, named as in ``manyhot predict --model``."""
    family, _, file = spec.partition(":")
    if family != "trained":
        return {"model": spec}
    return {"model": f"{_TIMM}{read_trained(file).architecture}", "weights": file}


def start_of(recipe: Recipe, classes: ClassList) -> Start:
    """Build the network of a recipe.

    Raises
    ------
    InputError
        If the network is not one of timm's, or if its weights do not exist or do not match.
    UnknownNameError
        If the network does not exist.
    FetchError
        If the published weights cannot be fetched.
    """
    timm: Any = required("timm", "Training", '"manyhot[train]"')
    if recipe.model.startswith(_TIMM):
        start = _of_timm(timm, recipe, len(classes))
    else:
        start = _of_model(recipe, len(classes))
    if recipe.size:
        size = (recipe.size, recipe.size)
        start = replace(
            start, preprocessing=replace(start.preprocessing, size=size, scale=scaled(size, 0.875))
        )
    start.module.requires_grad_(True)
    if recipe.weights in ("published", "none"):
        return start
    if is_trained(recipe.weights):
        return _continued(start, read_trained(recipe.weights), recipe, classes)
    return _from_checkpoint(start, recipe, timm)


def _of_timm(timm: Any, recipe: Recipe, n: int) -> Start:
    """Build it with timm, which also accepts weights without a classifier."""
    name = recipe.model.removeprefix(_TIMM)
    published = recipe.weights == "published"
    local = ":" in name
    check_network(timm, name, "" if published else RANDOM, classifier=False)
    options = _options(timm, name, recipe)
    drops = {"drop_rate": recipe.drop, "drop_path_rate": recipe.drop_path}
    with hub_or_cache(recipe.model) if published and not local else contextlib.nullcontext():
        try:
            module = timm.create_model(
                name, pretrained=published, num_classes=n, **options, **{k: v for k, v in drops.items() if v}
            )
        except (TypeError, RuntimeError) as error:
            raise InputError(
                "The network cannot be built.", where=recipe.model, got=error_line(error)
            ) from error
    found = timm.data.resolve_data_config({}, model=module, use_test_size=False)
    return Start(module, str(module.pretrained_cfg["architecture"]), options, from_timm(found))


def _options(timm: Any, name: str, recipe: Recipe) -> dict[str, Any]:
    """Return the arguments for the size of images, which most networks do not need."""
    config = timm.get_pretrained_cfg(name) if ":" not in name else None
    fixed = recipe.size and config is not None and config.fixed_input_size
    return {"img_size": recipe.size} if fixed else {}


def _of_model(recipe: Recipe, n: int) -> Start:
    """Use a packaged model that is a network of timm."""
    network = find_model(recipe.model)
    module = cast("Any", network.module)
    if module is None or not hasattr(module, "reset_classifier"):
        raise InputError(
            "This is not a network of timm.",
            got=recipe.model,
            allowed="timm/NAME, or efficientnet-lite0 to efficientnet-lite2",
            do="list the names with manyhot models 'timm/*'",
        )
    module.reset_classifier(n)
    name = str(module.pretrained_cfg["architecture"])
    if recipe.weights == "none":
        module = required("timm", "Training").create_model(name, num_classes=n)
    return Start(module, name, {}, network.preprocessing)


def _continued(start: Start, trained: Trained, recipe: Recipe, classes: ClassList) -> Start:
    """Load the weights of an earlier run; a head over other classes is initialised again."""
    if trained.architecture != start.architecture:
        raise InputError(
            "The weights belong to another network.",
            where=recipe.weights,
            got=trained.architecture,
            allowed=start.architecture,
            do=f"set `model` to timm/{trained.architecture}",
        )
    weights, notes = dict(trained.weights), start.notes
    if trained.classes.hash != classes.hash:
        own = start.module.state_dict()
        head = _head_names(start.module)
        weights = {k: own[k] if k.startswith(head) else v for k, v in weights.items()}
        notes = (*notes, f"{Path(recipe.weights).name} has different classes, so the head is reinitialised")
    try:
        start.module.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            "The weights do not match the network.", where=recipe.weights, got=error_line(error)
        ) from error
    size: Any = {} if recipe.size else {k: tuple(trained.preprocessing[k]) for k in ("size", "scale")}
    return replace(start, preprocessing=replace(start.preprocessing, **size), notes=notes)


def _from_checkpoint(start: Start, recipe: Recipe, timm: Any) -> Start:
    """Load a checkpoint of timm or PyTorch; a head of another size is initialised again."""
    own, head, name = start.module.state_dict(), _head_names(start.module), Path(recipe.weights).name
    try:
        weights = timm.models.load_state_dict(recipe.weights, weights_only=True)
        other = [k for k, v in weights.items() if k.startswith(head) and v.shape != own[k].shape]
        start.module.load_state_dict({k: own[k] if k in other else v for k, v in weights.items()})
    except Exception as error:  # of pickle, safetensors, PyTorch or timm
        raise InputError(
            "The weights cannot be loaded into the network.",
            where=recipe.weights,
            got=error_line(error),
            allowed=f"a file of an earlier run, or a state dict of {start.architecture}",
        ) from error
    text = f"{name} has a different number of classes, so the head is reinitialised"
    return replace(start, notes=(*start.notes, text)) if other else start


def _head_names(module: Any) -> tuple[str, ...]:
    """Return the prefix of the names of the classifier's arrays."""
    config = module.pretrained_cfg.get("classifier") or ()
    names = (config,) if isinstance(config, str) else tuple(config)
    return tuple(f"{name}." for name in names)


class _Reached(Exception):
    """Raised when the layer is reached, so that later layers are not computed."""


@dataclass(frozen=True, eq=False)
class Stages:
    """The parts of a network.

    Attributes
    ----------
    module : torch.nn.Module
        The whole network.
    first : str
        Path of the first layer that is trained. Empty if all layers are trained.
    """

    module: Any
    first: str

    def freeze(self) -> None:
        """Freeze the weights of the layers before the first trained layer."""
        if self.first:
            trained = {id(p) for part in self._after() for p in part.parameters()}
            for parameter in self.module.parameters():
                parameter.requires_grad_(id(parameter) in trained)

    def train(self) -> None:
        """Set training mode for all layers except those before the first trained layer."""
        self.module.train()
        if self.first:
            after = {id(m) for part in self._after() for m in part.modules()}
            for name, part in self.module.named_modules():
                if id(part) not in after and not _is_above(name, self.first):
                    part.training = False

    def before(self) -> dict[str, Tensor]:
        """Return the arrays of the layers before the first trained layer."""
        after = {id(value) for part in self._after() for value in part.state_dict(keep_vars=True).values()}
        arrays = self.module.state_dict(keep_vars=True).items()
        return {name: value for name, value in arrays if id(value) not in after}

    def features(self, images: Tensor) -> Tensor:
        """Return the input of the first layer that is trained."""
        found: list[Tensor] = []

        def caught(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found.append(inputs[0])
            raise _Reached

        handle = self.module.get_submodule(self.first).register_forward_pre_hook(caught)
        try:
            self.module(images)
        except _Reached:
            pass
        finally:
            handle.remove()
        return found[0]

    def rest(self) -> nn.Module | None:
        """Return a module that maps the result of `features` to logits, in the mode of the network.

        The module shares the layers of the network. The result is None if the network cannot be cut at the
        first trained layer.
        """
        try:
            return _cut(self.module, self.first)
        except Exception:  # symbolic tracing fails in many ways on unsupported code
            return None

    def _after(self) -> Iterator[nn.Module]:
        """Yield the first layer that is trained and the later ones, in the order of the network."""
        reached = False
        for name, part in self.module.named_modules():
            reached = reached or name == self.first
            if reached:
                yield part


def stages_of(module: Any, first: str) -> Stages:
    """Return a network in two parts.

    Raises
    ------
    InputError
        If the layer does not exist.
    """
    names = [name for name, _ in module.named_modules() if name]
    if first and first not in names:
        raise InputError(
            "The network does not have this layer.",
            where="`trained_from` of the recipe",
            got=first,
            allowed=", ".join(dict.fromkeys(n.partition(".")[0] for n in names)) + ", and their layers",
            do=did_you_mean(first, names, show=str),
        )
    return Stages(module, first)


def _is_above(name: str, first: str) -> bool:
    return not name or first.startswith(f"{name}.")


class _Tracer(fx.Tracer):
    """Traces only the modules that contain the layer."""

    def __init__(self, first: str) -> None:
        super().__init__()
        self.first = first

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not _is_above(module_qualified_name, self.first)


def _cut(module: Any, first: str) -> nn.Module:
    graph = _Tracer(first).trace(module)
    nodes = list(graph.nodes)
    start = next(i for i, n in enumerate(nodes) if n.op == "call_module" and n.target == first)
    rest = fx.Graph()
    known: dict[fx.Node, Any] = {n: n.args[0] for n in nodes if n.op == "placeholder" and n.args}
    known[nodes[start].args[0]] = rest.placeholder("features")
    for node in nodes[start:]:
        # A later layer that needs an output from before the layer raises KeyError.
        if node.op == "output":
            rest.output(known[node.args[0]])
        else:
            known[node] = rest.node_copy(node, lambda source: known[source])
    return fx.GraphModule(module, rest)
