"""Losses that take what is not observed for absent, but for the classes that speak loudest against it."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from manyhot.registry import register
from manyhot.train.losses.cells import check, cross, full, mean, remember, remembered, unobserved
from manyhot.train.wanted import Teacher, Wanted


@register("loss", "ll_r", ends="sigmoid", whole_batch=True)
def large_loss_rejected(logits: Tensor, wanted: Wanted, *, delta: float = 0.002) -> Tensor:
    """Assume negative without the classes that speak loudest against it: the largest losses are left out.

    Parameters
    ----------
    logits : torch.Tensor, shape (n, C)
    wanted : Wanted
        Classes with a `p` of 0 may be left out.
    delta : float
        Share of all cells of a batch by which those left out grow each epoch; none in the first. 0.001 to
        0.005 in the paper's code.

    References
    ----------
    Kim et al. 2022, Large loss matters, arXiv 2206.03740: LL-R.
    """
    return mean(_each(logits, wanted) * ~_large("ll_r", logits, wanted, delta, wanted.epoch), wanted)


@register("loss", "ll_ct", ends="sigmoid", whole_batch=True)
def large_loss_corrected(logits: Tensor, wanted: Wanted, *, delta: float = 0.002) -> Tensor:
    """Assume negative, but the classes with the largest losses count as there, for this step.

    Parameters
    ----------
    logits : torch.Tensor, shape (n, C)
    wanted : Wanted
        Classes with a `p` of 0 may be corrected.
    delta : float
        As in ``ll_r``.

    References
    ----------
    Kim et al. 2022, arXiv 2206.03740: LL-Ct.
    """
    large = _large("ll_ct", logits, wanted, delta, wanted.epoch)
    return mean(torch.where(large, softplus(-full(logits)), _each(logits, wanted)), wanted)


def _nothing_flipped(taught: Teacher, _: torch.Generator) -> dict[str, Tensor]:
    return {"flipped": torch.zeros(len(taught), taught.n_classes, dtype=torch.bool)}


@register("loss", "ll_cp", ends="sigmoid", memory=_nothing_flipped, whole_batch=True)
def large_loss_flipped(logits: Tensor, wanted: Wanted, *, delta: float = 0.002) -> Tensor:
    """Assume negative, but the classes with the largest losses count as there, from now on.

    The memory is a byte for each image and class: of ImageNet 1.3 GB.

    Parameters
    ----------
    logits : torch.Tensor, shape (n, C)
    wanted : Wanted
        Classes with a `p` of 0 may be corrected. Its memory `flipped` are those that are.
    delta : float
        Share of all cells of a batch that is corrected each epoch but the first.

    References
    ----------
    Kim et al. 2022, arXiv 2206.03740: LL-Cp. Its code compares with ``is 'LL-Cp'`` and keeps one
    cell of a batch less than it corrects; here both are the same cells.
    """
    flipped = remembered(wanted, "flipped", logits)
    now = Wanted(torch.where(flipped, 1.0, wanted.p), wanted.weight, wanted.rows)
    large = _large("ll_cp", logits, now, delta, min(wanted.epoch, 1))
    remember(wanted, "flipped", large, large)
    return mean(torch.where(large, softplus(-full(logits)), _each(logits, now)), wanted)


def _each(logits: Tensor, wanted: Wanted) -> Tensor:
    z = full(logits)
    return cross(z, wanted.p.to(z.dtype))


def _large(name: str, logits: Tensor, wanted: Wanted, delta: float, epoch: int) -> Tensor:
    """Return the cells not observed whose losses are the largest: `epoch` times `delta` of all cells."""
    check(name, delta=(delta, 0, 1))
    unseen = unobserved(wanted)
    count = min(math.ceil(min(epoch * delta, 1) * unseen.numel()), int(unseen.sum())) if epoch else 0
    chosen = torch.zeros_like(unseen)
    losses = full(logits.detach()).masked_fill(~unseen, -math.inf)  # the larger the logit, the larger
    chosen.view(-1)[losses.flatten().topk(count).indices] = True
    return chosen
