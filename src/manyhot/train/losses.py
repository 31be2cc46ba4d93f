"""Losses: from logits and what is wanted to one number.

A loss is a function ``(logits, wanted, *, options) -> Tensor``: logits of shape (n, C) and `Wanted`, to the
mean over images and, under a sigmoid, classes. The mean is over n C cells, whatever their weights: so the
loss of a batch is the mean of those of its halves, and several processes compute what one does.

``ends`` says what makes probabilities of the logits: ``softmax`` or ``sigmoid``. A loss that remembers
something of each image registers ``memory``, a function ``(n, C, generator) -> dict of tensors`` that makes
it, each with a row an image; the loop keeps it in the checkpoint, and gives tensors that require gradients
to the optimiser at ``memory_lr`` times the rate of the network.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from manyhot import registry
from manyhot.registry import Entry, register
from manyhot.train.wanted import Teacher, Wanted


@register("loss", "softmax", ends="softmax")
def softmax(logits: Tensor, wanted: Wanted, *, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of the softmax with a single label, or with the shares of several classes.

    Parameters
    ----------
    logits : torch.Tensor, shape (n, C)
    wanted : Wanted
        An image whose shares are all 0 does not count.
    smoothing : float
        ε of label smoothing: the share that all classes divide between them (Szegedy et al. 2016, section 7).
    """
    p = wanted.p
    if smoothing:
        p = (1 - smoothing) * p + smoothing * p.sum(1, keepdim=True) / p.shape[1]
    return -(p * F.log_softmax(logits, 1)).sum() / len(logits)


@register("loss", "bce", ends="sigmoid")
def bce(logits: Tensor, wanted: Wanted) -> Tensor:
    """Binary cross-entropy of each class, the mean over all cells; those of weight 0 add nothing."""
    return F.binary_cross_entropy_with_logits(logits, wanted.p.to(logits.dtype), wanted.weight)


def loss_of(spec: str) -> Entry:
    """Return a loss by its name or call string."""
    return registry.get("loss", spec)


def made_memory(loss: Entry, taught: Teacher, seed: int) -> dict[str, Tensor]:
    """Return what a loss remembers before the first step; empty for most."""
    make = loss.about.get("memory")
    return {} if make is None else make(taught, torch.Generator().manual_seed(seed))
