"""Losses for images with one or some observed classes.

Other classes are unknown (`epr`, `role`, `em`, `em_apl`), or absent except those with the largest losses
(`ll_r`, `ll_ct`, `ll_cp`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softplus

from manyhot.registry import register
from manyhot.train.losses import check_options, cross, full, mean, remember, remembered, terms, unobserved
from manyhot.train.targets import Targets, Teacher

OBSERVED, ABSENT, UNKNOWN = 0.995, 0.005, 0.6
"""Initial estimates of ROLE for observed classes, for absent ones, and the maximum for all others."""


@register("loss", "epr", ends="sigmoid", whole_batch=True, regularised=True)
def expected_positives(logits: Tensor, targets: Targets, *, k: float = 1.5) -> Tensor:
    """Expected positive regularisation: fit observed classes and the expected number of classes per image.

    The squared deviation from the expected number is divided by C², as in the code of the paper.

    Parameters
    ----------
    logits : torch.Tensor, shape (n, C)
    targets : Targets
        Cells of weight 0 are left out of the sum of probabilities.
    k : float
        Expected number of classes per image. In the paper's code, it is 1.5 of 20 classes for VOC and 2.5 of
        80 for COCO.

    References
    ----------
    Cole et al. 2021, arXiv 2106.09708.
    """
    check_options("epr", k=(k, 0, math.inf))
    z = full(logits)
    return mean(targets.p * softplus(-z), targets) + _surplus(z, targets, k)


def _estimates(taught: Teacher, generator: torch.Generator) -> dict[str, Tensor]:
    """Return ROLE's initial logits of the estimated labels of all images."""
    n, c = len(taught), taught.n_classes
    estimates = (2 * torch.rand(n, c, generator=generator) - 1) * _logit(UNKNOWN)
    image = torch.repeat_interleave(taught.indptr.diff())
    known = taught.weight > 0
    value = torch.where(taught.p > 0.5, _logit(OBSERVED), _logit(ABSENT))
    estimates[image[known], taught.classes[known]] = value[known]
    return {"estimates": estimates.requires_grad_()}


@register(
    "loss",
    "role",
    ends="sigmoid",
    memory=_estimates,
    memory_lr=10.0,
    whole_batch=True,
    regularised=True,
    detached=True,
)
def role(logits: Tensor, targets: Targets, *, k: float = 1.5) -> Tensor:
    """Train the network jointly with estimated labels, both regularised to k classes per image.

    The memory, one value per image and class, is learnt. It takes 5.1 GB for ImageNet, and as much again for
    each moving average of the optimiser. Initial estimates are those of the paper's code: `OBSERVED`,
    `ABSENT`, and random values up to `UNKNOWN`.

    Parameters
    ----------
    logits : torch.Tensor, shape (n, C)
    targets : Targets
        The memory `estimates` holds the logits of estimated labels.
    k : float
        As in ``epr``.

    References
    ----------
    Cole et al. 2021, Regularised online label estimation, arXiv 2106.09708.
    """
    check_options("role", k=(k, 0, math.inf))
    z = full(logits)
    e = remembered(targets, "estimates", z).to(z.dtype)
    seen = targets.p * (softplus(-z) + softplus(-e))
    each_other = cross(z, e.detach().sigmoid()) + cross(e, z.detach().sigmoid())
    return (mean(seen + each_other, targets) + _surplus(z, targets, k) + _surplus(e, targets, k)) / 2


@register("loss", "em", ends="sigmoid", regularised=True)
def entropy_maximisation(logits: Tensor, targets: Targets, *, alpha: float = 0.1) -> Tensor:
    """Cross-entropy of observed classes, and entropy maximisation for all other classes.

    Parameters
    ----------
    logits : torch.Tensor, shape (n, C)
    targets : Targets
    alpha : float
        Weight of the entropy. In the paper's code, it is 0.2 for VOC, 0.1 for COCO and NUS-WIDE, and 0.01 for
        CUB.

    References
    ----------
    Zhou et al. 2022, Acknowledging the unknown, arXiv 2203.16219.
    """
    check_options("em", alpha=(alpha, 0, math.inf))
    there, _ = terms(logits)
    p = targets.p.to(there.dtype)
    return mean(p * there - alpha * (1 - p) * _entropy(logits), targets)


def _no_pseudo_labels(taught: Teacher, _: torch.Generator) -> dict[str, Tensor]:
    return {"pseudo": torch.full((len(taught), taught.n_classes), -1, dtype=torch.float16)}


@register("loss", "em_apl", ends="sigmoid", memory=_no_pseudo_labels, regularised=True)
def entropy_and_pseudo_labels(
    logits: Tensor,
    targets: Targets,
    *,
    alpha: float = 0.1,
    beta: float = 0.2,
    rate: float = 0.18,
    most: float = 0.9,
    start: int = 4,
) -> Tensor:
    """Entropy maximisation with asymmetric pseudo-labels: improbable classes get permanent soft labels.

    From epoch `start` on, an unobserved class of an image can get a pseudo-label, which is its predicted
    probability. For each class, the least probable images get one. The memory takes two bytes per image and
    class, which is 2.6 GB for ImageNet. To rank the images, the paper computes predictions for all of them
    after each epoch. Here, the images of a batch are ranked during training, at no extra cost.

    Parameters
    ----------
    logits : torch.Tensor, shape (n, C)
    targets : Targets
        The memory `pseudo` holds probabilities, or −1 without a pseudo-label.
    alpha, beta : float
        Weights of the entropy and of the pseudo-labels. In the paper's code, they are 0.2 and 0.02 for VOC,
        and 0.1 and 0.9 for COCO.
    rate : float
        For each class, the share of the images where it is unobserved that get a pseudo-label per epoch.
    most : float
        For each class, the maximum share of the images where it is unobserved that have a pseudo-label.
    start : int
        First epoch, counted from 0, in which pseudo-labels are created. Later epochs use them.

    References
    ----------
    Zhou et al. 2022, arXiv 2203.16219.
    """
    check_options(
        "em_apl", alpha=(alpha, 0, math.inf), beta=(beta, 0, math.inf), rate=(rate, 0, 1), most=(most, 0, 1)
    )
    z = full(logits)
    p = targets.p.to(z.dtype)
    pseudo = remembered(targets, "pseudo", z).to(z.dtype)
    labelled = pseudo >= 0
    otherwise = torch.where(labelled, beta * cross(z, pseudo), -alpha * _entropy(z))
    value = mean(p * softplus(-z) + (1 - p) * otherwise, targets)
    if targets.epoch >= start:
        share = min(most, rate * (targets.epoch - start + 1))
        remember(
            targets, "pseudo", _least(z.detach(), unobserved(targets), labelled, share), z.detach().sigmoid()
        )
    return value


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def _entropy(logits: Tensor) -> Tensor:
    """Return the entropy of each cell's probability, in nats."""
    there, absent = terms(logits)
    q = full(logits).sigmoid()
    return q * there + (1 - q) * absent


def _surplus(z: Tensor, targets: Targets, k: float) -> Tensor:
    """Return ((mean number of classes of an image − k) / C)²."""
    q = z.sigmoid() if targets.weight is None else z.sigmoid() * targets.weight
    return ((q.sum(1).mean() - k) / z.shape[1]) ** 2


def _least(z: Tensor, unseen: Tensor, labelled: Tensor, share: float) -> Tensor:
    """Return the least probable images of each class, up to a share of the unobserved ones."""
    count = (share * unseen.sum(0)).floor() - (labelled & unseen).sum(0)
    free = unseen & ~labelled
    ranked = z.masked_fill(~free, math.inf).sort(0).values
    last = ranked.gather(0, (count - 1).clamp(min=0).long()[None])
    return free & (count > 0) & (z <= last)


@register("loss", "ll_r", ends="sigmoid", whole_batch=True)
def large_loss_rejected(logits: Tensor, targets: Targets, *, delta: float = 0.002) -> Tensor:
    """Assume negative with large-loss rejection: unobserved classes with the largest losses are ignored.

    Parameters
    ----------
    logits : torch.Tensor, shape (n, C)
    targets : Targets
        Classes with a `p` of 0 can be ignored.
    delta : float
        Increase per epoch, starting from 0, of the share of a batch's cells that is ignored. In the paper's
        code, it is 0.001 to 0.005.

    References
    ----------
    Kim et al. 2022, Large loss matters, arXiv 2206.03740: LL-R.
    """
    return mean(_each(logits, targets) * ~_large("ll_r", logits, targets, delta, targets.epoch), targets)


@register("loss", "ll_ct", ends="sigmoid", whole_batch=True)
def large_loss_corrected(logits: Tensor, targets: Targets, *, delta: float = 0.002) -> Tensor:
    """Assume negative with temporary correction: classes with the largest losses count as valid in this step.

    Parameters
    ----------
    logits : torch.Tensor, shape (n, C)
    targets : Targets
        Classes with a `p` of 0 can be corrected.
    delta : float
        As in ``ll_r``.

    References
    ----------
    Kim et al. 2022, arXiv 2206.03740: LL-Ct.
    """
    large = _large("ll_ct", logits, targets, delta, targets.epoch)
    return mean(torch.where(large, softplus(-full(logits)), _each(logits, targets)), targets)


def _nothing_flipped(taught: Teacher, _: torch.Generator) -> dict[str, Tensor]:
    return {"flipped": torch.zeros(len(taught), taught.n_classes, dtype=torch.bool)}


@register("loss", "ll_cp", ends="sigmoid", memory=_nothing_flipped, whole_batch=True)
def large_loss_flipped(logits: Tensor, targets: Targets, *, delta: float = 0.002) -> Tensor:
    """Assume negative with permanent correction: classes with the largest losses count as valid from then on.

    The memory takes one byte per image and class, which is 1.3 GB for ImageNet. The paper's code compares the
    name of the method by ``is 'LL-Cp'``, and stores one cell per batch fewer than it corrects. Here, all
    corrected cells are stored.

    Parameters
    ----------
    logits : torch.Tensor, shape (n, C)
    targets : Targets
        Classes with a `p` of 0 can be corrected. The memory `flipped` marks corrected classes.
    delta : float
        Share of all cells of a batch that is corrected in each epoch except the first.

    References
    ----------
    Kim et al. 2022, arXiv 2206.03740: LL-Cp.
    """
    flipped = remembered(targets, "flipped", logits)
    now = Targets(torch.where(flipped, 1.0, targets.p), targets.weight, targets.rows)
    large = _large("ll_cp", logits, now, delta, min(targets.epoch, 1))
    remember(targets, "flipped", large, large)
    return mean(torch.where(large, softplus(-full(logits)), _each(logits, now)), targets)


def _each(logits: Tensor, targets: Targets) -> Tensor:
    z = full(logits)
    return cross(z, targets.p.to(z.dtype))


def _large(name: str, logits: Tensor, targets: Targets, delta: float, epoch: int) -> Tensor:
    """Return the unobserved cells with the largest losses: a share `epoch` times `delta` of all cells."""
    check_options(name, delta=(delta, 0, 1))
    unseen = unobserved(targets)
    count = min(math.ceil(min(epoch * delta, 1) * unseen.numel()), int(unseen.sum())) if epoch else 0
    chosen = torch.zeros_like(unseen)
    losses = full(logits.detach()).masked_fill(~unseen, -math.inf)  # the larger the logit, the larger
    chosen.view(-1)[losses.flatten().topk(count).indices] = True
    return chosen


@register("loss", "softmax", ends="softmax")
def softmax(logits: Tensor, targets: Targets, *, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of the softmax with a single label, or with the shares of several classes.

    Parameters
    ----------
    logits : torch.Tensor, shape (n, C)
    targets : Targets
        Images with a share of 0 for every class are ignored.
    smoothing : float
        The ε of label smoothing, which is the share that is distributed over all classes (Szegedy et al.
        2016, section 7).
    """
    check_options("softmax", smoothing=(smoothing, 0, 1))
    z = full(logits)
    p = targets.p.to(z.dtype) if targets.weight is None else (targets.p * targets.weight).to(z.dtype)
    if smoothing:
        p = (1 - smoothing) * p + smoothing * p.sum(1, keepdim=True) / p.shape[1]
    return -(p * log_softmax(z, 1)).sum() / len(z)


@register("loss", "bce", ends="sigmoid")
def bce(logits: Tensor, targets: Targets) -> Tensor:
    """Binary cross-entropy of each class with label sets; unknown classes are ignored."""
    z = full(logits)
    return mean(cross(z, targets.p.to(z.dtype)), targets)


@register("loss", "an", ends="sigmoid")
def assume_negative(logits: Tensor, targets: Targets, *, smoothing: float = 0.0) -> Tensor:
    """Assume negative: binary cross-entropy in which all unobserved classes count as absent.

    Parameters
    ----------
    logits : torch.Tensor, shape (n, C)
    targets : Targets
    smoothing : float
        The ε of AN-LS, which is the share of each cell that counts as the opposite. It is 0.1 in the paper.
        As in the paper's code, the full ε applies to each cell.

    References
    ----------
    Cole et al. 2021, Multi-label learning from single positive labels, arXiv 2106.09708.
    """
    check_options("an", smoothing=(smoothing, 0, 1))
    z = full(logits)
    p = targets.p.to(z.dtype)
    return mean(cross(z, p + smoothing * (1 - 2 * p)), targets)


@register("loss", "wan", ends="sigmoid")
def weak_assume_negative(logits: Tensor, targets: Targets) -> Tensor:
    """Weak assume negative: absent classes have weight 1 / (C − 1), together as much as one valid class.

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
    """Focal loss with separate exponents for valid and absent classes; easy absent classes are ignored.

    The loss is the mean over cells and not their sum, and its gradient is the gradient of the whole
    formula. In contrast, the training code of the paper treats the focal weights as constants.

    Parameters
    ----------
    logits : torch.Tensor, shape (n, C)
    targets : Targets
    gamma_neg, gamma_pos : float
        Exponents of p for absent classes, and of 1 − p for valid classes.
    shift : float
        Value that is subtracted from the probability of absent classes. The result is at least 0.

    References
    ----------
    Ridnik et al. 2021, Asymmetric loss for multi-label classification, arXiv 2009.14119.
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
