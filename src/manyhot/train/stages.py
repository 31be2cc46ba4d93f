"""A network in two parts: what keeps its weights, and what is trained from a named layer on."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from manyhot.errors import InputError


class _Reached(Exception):
    """The layer was reached: what comes after is not computed."""


@dataclass(frozen=True, eq=False)
class Stages:
    """The parts of a network.

    Attributes
    ----------
    module : torch.nn.Module
        The whole.
    first : str
        The path of the first layer that is trained; empty where all are.
    """

    module: Any
    first: str

    def freeze(self) -> None:
        """Keep the weights of what comes before."""
        if self.first:
            trained = {id(p) for part in self._after() for p in part.parameters()}
            for parameter in self.module.parameters():
                parameter.requires_grad_(id(parameter) in trained)

    def train(self) -> None:
        """Put the network into training mode, all but what comes before."""
        self.module.train()
        if self.first:
            after = {id(m) for part in self._after() for m in part.modules()}
            for name, part in self.module.named_modules():
                if id(part) not in after and not _is_above(name, self.first):
                    part.training = False

    def before(self) -> dict[str, Tensor]:
        """Return the arrays of what comes before."""
        after = {id(value) for part in self._after() for value in part.state_dict(keep_vars=True).values()}
        arrays = self.module.state_dict(keep_vars=True).items()
        return {name: value for name, value in arrays if id(value) not in after}

    def features(self, images: Tensor) -> Tensor:
        """Return what reaches the first layer that is trained."""
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
        """Return a module from these features to logits, in the mode that the network is in.

        Its layers are the network's own. None where the network cannot be cut there.
        """
        try:
            return _cut(self.module, self.first)
        except Exception:  # what symbolic tracing meets in code that it was not made for
            return None

    def _after(self) -> Iterator[nn.Module]:
        """Yield the first layer that is trained and what comes after, as networks list their layers."""
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
        It has no such layer.
    """
    names = [name for name, _ in module.named_modules() if name]
    if first and first not in names:
        near = difflib.get_close_matches(first, names, n=3)
        raise InputError(
            "The network has no such layer.",
            where="trained_from of the recipe",
            got=first,
            allowed=", ".join(dict.fromkeys(n.partition(".")[0] for n in names)) + ", and what is in them",
            do=f"did you mean {' or '.join(near)}?" if near else None,
        )
    return Stages(module, first)


def _is_above(name: str, first: str) -> bool:
    return not name or first.startswith(f"{name}.")


class _Tracer(fx.Tracer):
    """Looks into what the layer lies in, and nowhere else."""

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
        # What still needs something from before the layer is not known: KeyError.
        if node.op == "output":
            rest.output(known[node.args[0]])
        else:
            known[node] = rest.node_copy(node, lambda source: known[source])
    return fx.GraphModule(module, rest)
