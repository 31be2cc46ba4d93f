"""Losses: functions of logits and targets.

A loss is a function ``(logits, targets, *, options) -> Tensor``: logits of shape (n, C) and `Targets`,
returning the mean over images and, under a sigmoid, classes. The mean is computed over n C cells, whatever
their weights. The loss of a batch is therefore the mean of the losses of its halves, and several processes
compute the same as one.

A target `p` lies between 0 and 1: that share of a cell counts as a valid class, the rest as an absent or
unobserved one. Each loss therefore accepts soft labels and mixed images. Cells of weight 0 are ignored.
Everything is computed in single precision at least, from logits, without the 1e-5 that most published code
adds before it takes logarithms.

Options of ``register``:

``ends``
    How logits become probabilities: ``softmax`` or ``sigmoid``.
``memory``, ``memory_lr``
    For a loss that stores values of each image: a function ``(taught, generator) -> dict of tensors``, each
    with one row per image. The loop saves them in the checkpoint, and passes those that require gradients to
    the optimiser, with `memory_lr` times the learning rate of the network. As several processes would each
    have their own values, such a loss runs in one process, on images that are not mixed.
``whole_batch``
    The loss is defined on whole batches: the losses of halves do not average to it, and several processes
    compute a different loss than one.
``regularised``
    The loss includes more than the fit to `p`: it is not minimal at perfect logits.
``detached``
    Its gradient is, by design, not that of its value.

The functions below are shared by the losses: the mean over cells, their terms, and the memory of images.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import softplus

from manyhot.errors import InputError
from manyhot.registry import Entry, get, missing_options
from manyhot.tables.unpacked import free_memory
from manyhot.train.targets import Targets, Teacher


def loss_of(spec: str) -> Entry:
    """Look up a loss and check its options.

    Raises
    ------
    UnknownNameError
        If the loss does not exist.
    InputError
        If an option does not exist, if a required option is missing, or if a value is not allowed.
    """
    loss = get("loss", spec)
    missing = missing_options(loss)
    if missing:
        raise InputError(
            f"The loss {spec!r} lacks an option.", allowed=f"{spec.partition('(')[0]}({missing[0]}=…)"
        )
    two = Teacher(2, torch.arange(3), torch.arange(2), torch.ones(2), torch.ones(2), 1.0)
    loss(torch.zeros(2, 2), two.batch(torch.arange(2), 0, made_memory(loss, two, 0)))
    return loss


def made_memory(loss: Entry, taught: Teacher, seed: int) -> dict[str, Tensor]:
    """Return the initial memory of a loss, which is empty for most losses.

    Raises
    ------
    InputError
        If it needs more memory than is free.
    """
    make = loss.about.get("memory")
    if make is None:
        return {}
    generator, n = torch.Generator(), len(taught)
    none = {name: getattr(taught, name)[:0] for name in ("classes", "p", "weight")}
    one = replace(taught, indptr=torch.zeros(2, dtype=torch.int64), **none)
    size = n * sum(values.nbytes for values in make(one, generator.manual_seed(seed)).values())
    if size > (free := free_memory()):
        raise InputError(
            "The values that the loss keeps for each image need more memory than is free.",
            got=f"{n:,} images × {taught.n_classes:,} classes, {size / 1e9:,.1f} GB",
            allowed=f"at most {free / 1e9:,.1f} GB, which are free",
            do="use another loss, or fewer images or classes",
        )
    made: dict[str, Tensor] = make(taught, generator.manual_seed(seed))
    return made


def check_options(name: str, **options: tuple[float, float, float]) -> None:
    """Raise an InputError if an option is outside its minimum and maximum."""
    for option, (value, low, high) in options.items():
        if not low <= value <= high:
            allowed = f"{low} to {high}" if math.isfinite(high) else f"{low} or more"
            raise InputError(
                f"The option {option!r} of the loss {name!r} is out of range.", got=value, allowed=allowed
            )


def full(logits: Tensor) -> Tensor:
    """Return logits in at least single precision, because sums over 1,000 classes need it."""
    return logits if logits.dtype == torch.float64 else logits.float()


def mean(each: Tensor, targets: Targets) -> Tensor:
    """Return the mean over all cells. Cells of weight 0 count as 0."""
    return (each if targets.weight is None else each * targets.weight).sum() / each.numel()


def terms(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of each cell for a valid and for an absent class: −log σ and −log(1 − σ)."""
    z = full(logits)
    return softplus(-z), softplus(z)


def cross(z: Tensor, p: Tensor) -> Tensor:
    """Return the binary cross-entropy of each cell between logits and probabilities.

    PyTorch's own function wakes all threads even for a few cells, which takes milliseconds on busy cores.
    """
    return p * softplus(-z) + (1 - p) * softplus(z)


def unobserved(targets: Targets) -> Tensor:
    """Return the cells of unobserved classes, except cells of weight 0."""
    none = targets.p == 0
    return none if targets.weight is None else none & (targets.weight > 0)


def remembered(targets: Targets, name: str, like: Tensor) -> Tensor:
    """Return the memory of the images of a batch, on the device of a tensor."""
    memory = targets.memory[name]
    return memory[targets.rows.to(memory.device)].to(like.device)


def remember(targets: Targets, name: str, cells: Tensor, values: Tensor) -> None:
    """Write the values of the given cells into the memory. Both have the shape (n, C)."""
    memory = targets.memory[name]
    image, c = cells.nonzero(as_tuple=True)
    rows = targets.rows.to(image.device)[image]
    memory[rows.to(memory.device), c.to(memory.device)] = values[image, c].to(memory)
