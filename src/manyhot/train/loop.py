"""The one loop: batches, loss, step; checkpoints that a killed run goes on from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from manyhot.classes import ClassList
from manyhot.core.sets import LabelSets
from manyhot.train.loading import Loader
from manyhot.train.losses import loss_of, made_memory
from manyhot.train.networks import start_of
from manyhot.train.recipe import Recipe
from manyhot.train.wanted import teacher
from manyhot.trained import Trained, write_trained

Notify = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class Curve:
    """The mean loss of each epoch, and how long the run took in seconds."""

    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0


def fit(
    data: list[bytes],
    labels: LabelSets,
    classes: ClassList,
    recipe: Recipe,
    out: Path,
    *,
    call: str = "",
    notify: Notify | None = None,
) -> tuple[Trained, Curve]:
    """Train a network on images and what they are taught, row by row."""
    from lightning_fabric import Fabric

    torch.manual_seed(recipe.seed)
    fabric = Fabric(accelerator="auto", devices=1, precision=recipe.precision)  # type: ignore[arg-type]
    start = start_of(recipe, classes)
    loss = loss_of(recipe.named_loss)
    taught = teacher(labels, recipe.teach, ends=loss.about["ends"], not_asked=recipe.not_asked)
    memory = made_memory(loss, taught, recipe.seed)
    loader = Loader(data, recipe, start.preprocessing)
    optimiser = torch.optim.AdamW(start.module.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    module, optimiser = fabric.setup(start.module.to(memory_format=torch.channels_last), optimiser)
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) * 255 for v in (start.preprocessing.mean, start.preprocessing.std)
    )
    curve, began = [], time.perf_counter()
    module.train()
    for epoch in range(recipe.epochs):
        total = 0.0
        for step, (images, rows) in enumerate(loader.epoch(epoch)):
            done = epoch + step / loader.steps
            for group in optimiser.param_groups:
                group["lr"] = recipe.lr * _rate(done, recipe)
            wanted = taught.batch(rows, epoch, memory).to(fabric.device)
            x = (images.to(fabric.device).float() - mean) / std
            value = loss(module(x.to(memory_format=torch.channels_last)), wanted)
            optimiser.zero_grad()
            fabric.backward(value)
            optimiser.step()
            total += value.item()
        curve.append(total / loader.steps)
        if notify:
            notify("epoch", {"epoch": epoch + 1, "of": recipe.epochs, "loss": curve[-1]})
    trained = Trained(
        start.architecture,
        start.options,
        classes,
        loss.about["ends"],
        start.preprocessing.to_dict(),
        start.module.state_dict(),
        {"recipe": recipe.told(), "n": len(data), "call": call},
    )
    write_trained(trained, out / "model.safetensors")
    return trained, Curve(curve, time.perf_counter() - began)


def _rate(done: float, recipe: Recipe) -> float:
    if done < recipe.warmup:
        return max(done, 1e-3) / recipe.warmup
    if recipe.schedule == "constant":
        return 1.0
    share = (done - recipe.warmup) / max(recipe.epochs - recipe.warmup, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * share))
