"""Losses: from logits and what is wanted to one number.

A loss is a function ``(logits, wanted, *, options) -> Tensor``: logits of shape (n, C) and `Wanted`, to the
mean over images and, under a sigmoid, classes. The mean is over n C cells, whatever their weights: so the
loss of a batch is the mean of those of its halves, and several processes compute what one does.

What is wanted, `p`, lies between 0 and 1: that share of a cell counts as a class that is there, the rest as
one that is not, or that nobody observed. So each loss takes soft labels and mixed images. A cell of weight 0
counts for nothing. Everything is computed in single precision at least, from logits, without the 1e-5 that
most published code adds before it takes logarithms.

What is said at registration:

``ends``
    What makes probabilities of the logits: ``softmax`` or ``sigmoid``.
``memory``, ``memory_lr``
    Of a loss that remembers something of each image: a function ``(taught, generator) -> dict of tensors``,
    each with a row an image. The loop keeps them in the checkpoint and gives those that require gradients to
    the optimiser, at `memory_lr` times the rate of the network. Several processes would each remember
    something else: such a loss runs in one, and of images that are not mixed.
``whole_batch``
    It looks at the batch as a whole: its halves do not average to it, and several processes compute something
    else than one.
``regularised``
    It wants more than to fit `p`: perfect logits are not where it is least.
``detached``
    Its gradient is, by design, not that of its value.
"""

from __future__ import annotations

import torch
from torch import Tensor

from manyhot.errors import InputError
from manyhot.registry import Entry, get, missing_options
from manyhot.train.wanted import Teacher


def loss_of(spec: str) -> Entry:
    """Look up a loss and try its options, so that wrong ones are found before anything else begins.

    Raises
    ------
    UnknownNameError
        There is no such loss.
    InputError
        It has no such option, one is missing, or one has a value that it may not have.
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
    """Return what a loss remembers before the first step; empty for most."""
    make = loss.about.get("memory")
    return {} if make is None else make(taught, torch.Generator().manual_seed(seed))
