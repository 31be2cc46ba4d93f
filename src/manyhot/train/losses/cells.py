"""What losses have in common: numbers of cells, their mean, and what is remembered of images."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from manyhot.errors import InputError
from manyhot.train.wanted import Wanted


def check(name: str, **options: tuple[float, float, float]) -> None:
    """Raise an InputError if an option, a value with its least and its largest, is out of range."""
    for option, (value, low, high) in options.items():
        if not low <= value <= high:
            allowed = f"{low} to {high}" if math.isfinite(high) else f"{low} or more"
            raise InputError(
                f"The option {option!r} of the loss {name!r} is out of range.", got=value, allowed=allowed
            )


def full(logits: Tensor) -> Tensor:
    """Return logits in single precision at least: sums of a thousand classes are too coarse in less."""
    return logits if logits.dtype == torch.float64 else logits.float()


def mean(each: Tensor, wanted: Wanted) -> Tensor:
    """Return the mean over all cells, those of weight 0 as 0."""
    return (each if wanted.weight is None else each * wanted.weight).sum() / each.numel()


def terms(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the losses of each cell if its class is there and if it is not: −log σ and −log(1 − σ)."""
    z = full(logits)
    return softplus(-z), softplus(z)


def cross(z: Tensor, p: Tensor) -> Tensor:
    """Return the binary cross-entropy of each cell, logits with probabilities.

    PyTorch's own wakes all threads for a handful of cells: milliseconds, where others compute, too.
    """
    return p * softplus(-z) + (1 - p) * softplus(z)


def unobserved(wanted: Wanted) -> Tensor:
    """Return the cells of classes that were not observed, those of weight 0 aside."""
    none = wanted.p == 0
    return none if wanted.weight is None else none & (wanted.weight > 0)


def remembered(wanted: Wanted, name: str, like: Tensor) -> Tensor:
    """Return the memory of the images of a batch, on the device of a tensor."""
    memory = wanted.memory[name]
    return memory[wanted.rows.to(memory.device)].to(like.device)


def remember(wanted: Wanted, name: str, cells: Tensor, values: Tensor) -> None:
    """Write values of some cells, both of shape (n, C), into the memory."""
    memory = wanted.memory[name]
    image, c = cells.nonzero(as_tuple=True)
    rows = wanted.rows.to(image.device)[image]
    memory[rows.to(memory.device), c.to(memory.device)] = values[image, c].to(memory)
