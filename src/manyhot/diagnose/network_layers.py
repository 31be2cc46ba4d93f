"""The layers of a network: those whose output is a grid over the image, and the last ones, randomised."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace
from typing import Any

from manyhot.predict.network import Network


def find_grids(network: Network) -> tuple[list[str], int]:
    """Return the layers whose output is a grid, in order, and how many layers with weights follow them."""
    module, size = network.module, network.preprocessing.size
    found: dict[str, int] = {}
    weights = 0

    def look(name: str, layer: Any, _: Any, out: Any) -> None:
        nonlocal weights
        weights += any(w.ndim > 1 for w in layer.parameters(recurse=False))
        if _is_grid(out, size):
            found.pop(name, None)
            found[name] = weights

    assert module is not None
    hooks = [
        m.register_forward_hook(functools.partial(look, name)) for name, m in module.named_modules() if name
    ]
    _black(module, network)
    for hook in hooks:
        hook.remove()
    return list(found), weights - max(found.values(), default=0)


def randomised(network: Network, share: float, seed: int) -> tuple[Network, int, int]:
    """Return a network with its last layers randomised, and the numbers of randomised and of all layers.

    The values of each weight array are shuffled, so that they keep the scale that the next layer expects. The
    cascading randomisation of Adebayo et al. (2018) draws new weights instead.

    Parameters
    ----------
    network : Network
    share : float
        Share of layers to randomise, among the layers with weights, counted from the output backwards. At
        least one layer is randomised.
    seed : int

    References
    ----------
    J. Adebayo et al. Sanity checks for saliency maps. arXiv 1810.03292, 2018.
    """
    import torch

    module = copy.deepcopy(network.module)
    layers = _layers(module, network)
    chosen = layers[-max(1, round(share * len(layers))) :]
    dice = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in chosen:
            for weights in layer.parameters(recurse=False):
                flat = weights.detach().flatten()
                weights.copy_(flat[torch.randperm(len(flat), generator=dice)].view_as(weights))
    return replace(network, module=module), len(chosen), len(layers)


def _layers(module: Any, network: Network) -> list[Any]:
    """Return the modules with weights of their own, in the order of computation."""
    seen: list[Any] = []
    own = [m for m in module.modules() if any(True for _ in m.parameters(recurse=False))]
    hooks = [m.register_forward_hook(lambda m, *_: seen.append(m)) for m in own]
    _black(module, network)
    for hook in hooks:
        hook.remove()
    return list(dict.fromkeys(seen))


def _black(module: Any, network: Network) -> None:
    import torch

    where = next(module.parameters(), torch.zeros(0)).device
    with torch.inference_mode():
        module(torch.zeros(1, 3, *network.preprocessing.size, device=where))


def _is_grid(out: Any, size: tuple[int, int]) -> bool:
    """Return whether an output is a grid of channels over the image, with more than one cell."""
    if getattr(out, "ndim", 0) != 4 or min(out.shape[2:]) < 2:
        return False
    high, wide = out.shape[2:]
    return bool(abs(high - wide * size[0] / size[1]) <= 1)
