"""Optimisers of timm, the rate of each step, and the average of weights."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from manyhot.errors import UnknownNameError
from manyhot.extras import required
from manyhot.registry import Entry
from manyhot.train.recipe import Recipe


def optimiser_of(recipe: Recipe, module: Any, memory: Mapping[str, Tensor], loss: Entry) -> Any:
    """Return the optimiser of the trained weights, without weight decay of biases and norms.

    Raises
    ------
    UnknownNameError
        If timm has no such optimiser.
    """
    timm: Any = required("timm.optim", "Training", '"manyhot[train]"')
    known = timm.list_optimizers()
    if recipe.optimiser not in known:
        near = difflib.get_close_matches(recipe.optimiser, known, n=3)
        raise UnknownNameError(
            f"timm has no optimiser {recipe.optimiser!r}.",
            allowed=", ".join(known),
            do=f"did you mean {' or '.join(near)}?" if near else None,
        )
    optimiser = timm.create_optimizer_v2(
        module, recipe.optimiser, lr=recipe.lr, weight_decay=recipe.weight_decay, momentum=recipe.momentum
    )
    learned = [value for value in memory.values() if value.requires_grad]
    if learned:
        scale = loss.about.get("memory_lr", 1.0)
        optimiser.add_param_group({"params": learned, "weight_decay": 0.0, "lr_scale": scale})
    return optimiser


def rate(done: float, recipe: Recipe) -> float:
    """Return the learning rate after a number of epochs, as a share of its maximum.

    The cosine is that of Loshchilov & Hutter 2017 (https://doi.org/10.48550/arXiv.1608.03983), equation 5,
    without restarts. The warmup is linear, as in Goyal et al. 2017
    (https://doi.org/10.48550/arXiv.1706.02677).
    """
    if done < recipe.warmup:
        return max(done, 1e-3) / recipe.warmup
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "step":
        return float(0.1 ** min(int(3 * done / recipe.epochs), 2))
    share = (done - recipe.warmup) / max(recipe.epochs - recipe.warmup, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * share))


def averaged(module: Any, decay: float) -> Any:
    """Return the moving average of a module's weights, or None if the decay is 0.

    After n steps, the decay is at most (1 + n) / (10 + n), so that the average of a short run is not close to
    the initial weights.
    """
    if not decay:
        return None

    def move(averages: Any, values: Any, _: Any) -> None:
        n = int(average.n_averaged)  # on the CPU: the third argument would have to come from a GPU
        own = 1 - min(decay, (1 + n) / (10 + n))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, values, own)
        else:
            torch._foreach_copy_(averages, values)

    average = torch.optim.swa_utils.AveragedModel(
        module, multi_avg_fn=torch.no_grad()(move), use_buffers=True
    )
    return average
