"""Losses of what is known: a single label, label sets, soft labels."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softplus

from manyhot.registry import register
from manyhot.train.losses import check_options, cross, full, mean, terms
from manyhot.train.targets import Targets


@register("loss", "softmax", ends="softmax")
def softmax(logits: Tensor, targets: Targets, *, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of the softmax with a single label, or with the shares of several classes.

    Parameters
    ----------
    logits : torch.Tensor, shape (n, C)
    targets : Targets
        An image whose shares are all 0 does not count.
    smoothing : float
        ε of label smoothing: the share that all classes divide between them (Szegedy et al. 2016, section 7).
    """
    check_options("softmax", smoothing=(smoothing, 0, 1))
    z = full(logits)
    p = targets.p.to(z.dtype) if targets.weight is None else (targets.p * targets.weight).to(z.dtype)
    if smoothing:
        p = (1 - smoothing) * p + smoothing * p.sum(1, keepdim=True) / p.shape[1]
    return -(p * log_softmax(z, 1)).sum() / len(z)


@register("loss", "bce", ends="sigmoid")
def bce(logits: Tensor, targets: Targets) -> Tensor:
    """Binary cross-entropy of each class with label sets; classes that are not known are left out."""
    z = full(logits)
    return mean(cross(z, targets.p.to(z.dtype)), targets)


@register("loss", "an", ends="sigmoid")
def assume_negative(logits: Tensor, targets: Targets, *, smoothing: float = 0.0) -> Tensor:
    """Assume negative: binary cross-entropy that takes each class that is not observed for absent.

    Parameters
    ----------
    logits : torch.Tensor, shape (n, C)
    targets : Targets
    smoothing : float
        ε of AN-LS: that share of each cell counts for the contrary. 0.1 in the paper.

    References
    ----------
    Cole et al. 2021, Multi-label learning from single positive labels, arXiv 2106.09708. ε counts in full at
    each cell, as in its code.
    """
    check_options("an", smoothing=(smoothing, 0, 1))
    z = full(logits)
    p = targets.p.to(z.dtype)
    return mean(cross(z, p + smoothing * (1 - 2 * p)), targets)


@register("loss", "wan", ends="sigmoid")
def weak_assume_negative(logits: Tensor, targets: Targets) -> Tensor:
    """Weak assume negative: absent classes weigh 1 / (C − 1), together as much as one that is there.

    References
    ----------
    Cole et al. 2021, arXiv 2106.09708.
    """
    there, absent = terms(logits)
    p = targets.p.to(there.dtype)
    return mean(p * there + (1 - p) * absent / max(p.shape[1] - 1, 1), targets)


@register("loss", "asl", ends="sigmoid")
def asymmetric(
    logits: Tensor,
    targets: Targets,
    *,
    gamma_neg: float = 4.0,
    gamma_pos: float = 0.0,
    shift: float = 0.05,
) -> Tensor:
    """Focal loss with an exponent each for classes that are there and absent; easy absent ones count nothing.

    Parameters
    ----------
    logits : torch.Tensor, shape (n, C)
    targets : Targets
    gamma_neg, gamma_pos : float
        Exponents of the probability of absent classes and of the contrary of those that are there.
    shift : float
        Taken off the probability of absent classes, which is 0 at least.

    References
    ----------
    Ridnik et al. 2021, Asymmetric loss for multi-label classification, arXiv 2009.14119.
    The mean over cells, not their sum. The gradient is that of the whole formula; its code for training takes
    the focal weights for constants.
    """
    check_options(
        "asl", gamma_neg=(gamma_neg, 0, math.inf), gamma_pos=(gamma_pos, 0, math.inf), shift=(shift, 0, 0.99)
    )
    z = full(logits)
    p = targets.p.to(z.dtype)
    q, contrary = z.sigmoid(), (-z).sigmoid()
    absent = -torch.log((contrary + shift).clamp(max=1)) if shift else softplus(z)
    # Away from 0, where the slope of a root has no end.
    there = softplus(-z) * contrary.clamp(min=1e-8) ** gamma_pos
    return mean(p * there + (1 - p) * absent * (q - shift).clamp(min=1e-8) ** gamma_neg, targets)
