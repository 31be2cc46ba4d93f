"""The targets of logits: single labels, label sets or soft labels, as one pair of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy import typing as npt
from torch import Tensor

from manyhot.core.sets import NO_LABEL, UNCLEAR, YES, LabelSets
from manyhot.errors import InputError
from manyhot.train.devices import on_device
from manyhot.train.recipe import LISTED, NOT_ASKED


@dataclass(frozen=True, eq=False)
class Targets:
    """The targets of the logits of a batch of n images.

    Attributes
    ----------
    p : torch.Tensor of float32, shape (n, C)
        1 for a valid class and 0 for an absent class. Soft labels and mixed images have values in between.
        For a loss that ends in a softmax, each row sums to 1, or to 0 if no class is known.
    weight : torch.Tensor of float32, shape (n, C), optional
        Weight of each cell, which is 0 if the state of the class is unknown. None if all weights are 1.
    rows : torch.Tensor of int64, shape (n,)
        Rows of the images in the training set, for losses with a memory.
    epoch : int
        The epoch, from 0.
    memory : Mapping of str to torch.Tensor
        Values that the loss stores for each image of the training set; see `manyhot.train.losses`.
    """

    p: Tensor
    weight: Tensor | None
    rows: Tensor
    epoch: int = 0
    memory: Mapping[str, Tensor] = field(default_factory=dict)

    def mixed(self, order: Tensor, share: Tensor) -> Targets:
        """Return the targets of images that were mixed with other images of the batch.

        If both images have a class, its target is 1; if only one of them has it, the target is the share of
        that image. If a class is unknown for one of the images, the other image determines its target,
        weighted by its share. For each loss that is linear in `p`, the loss of a mixed image is therefore the
        weighted mean of the losses of both images.

        Parameters
        ----------
        order : torch.Tensor of int64, shape (n,)
            Index of the image with which each image was mixed.
        share : torch.Tensor of float32, shape (n,)
            Share of the image itself in the mixture.
        """
        own = share[:, None]
        if self.weight is None:
            return replace(self, p=own * self.p + (1 - own) * self.p[order])
        weight = own * self.weight + (1 - own) * self.weight[order]
        p = own * self.weight * self.p + (1 - own) * (self.weight * self.p)[order]
        return replace(self, p=p / weight.clamp(min=1e-12), weight=weight)

    def to(self, device: torch.device) -> Targets:
        """Return the targets on another device. The memory is not moved."""
        weight = None if self.weight is None else on_device(self.weight, device)
        return replace(self, p=on_device(self.p, device), rows=on_device(self.rows, device), weight=weight)


@dataclass(frozen=True, eq=False)
class Teacher:
    """The targets of a training set, stored as lists. Its batches are dense.

    As a list, the targets of an image take a few bytes. In a batch with 1,000 classes, they take 4 kB.

    Attributes
    ----------
    indptr : torch.Tensor of int64, shape (n + 1,)
        Image i has the entries ``indptr[i]`` to ``indptr[i + 1]``.
    classes : torch.Tensor of int64, shape (m,)
    p, weight : torch.Tensor of float32, shape (m,)
        Values of the entries, as in `Targets`.
    elsewhere : float
        The weight of classes without an entry, which have a `p` of 0.
    """

    n_classes: int
    indptr: Tensor
    classes: Tensor
    p: Tensor
    weight: Tensor
    elsewhere: float

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @cached_property
    def masks(self) -> bool:
        """Whether some cells have a weight below 1."""
        return self.elsewhere != 1 or bool((self.weight != 1).any())

    def batch(
        self,
        rows: Tensor,
        epoch: int = 0,
        memory: Mapping[str, Tensor] | None = None,
        *,
        boxes: Tensor | None = None,
        mirrored: Tensor | None = None,
    ) -> Targets:
        """Return the targets of the images in the given rows, a tensor of int64 of shape (n,).

        Crops and mirroring are ignored here; see `label_maps`.
        """
        # With NumPy: each call of PyTorch releases Python's lock to a thread that decodes, and waits for it.
        at, indptr = rows.numpy(), self.indptr.numpy()
        start, length = indptr[at], indptr[at + 1] - indptr[at]
        image = np.repeat(np.arange(len(at)), length)
        entry = np.arange(len(image)) + (start - (length.cumsum() - length))[image]
        cells, shape = (image, self.classes.numpy()[entry]), (len(at), self.n_classes)
        p = torch.zeros(shape)
        p.numpy()[cells] = self.p.numpy()[entry]
        weight = None
        if self.masks:
            weight = torch.full(shape, self.elsewhere)
            weight.numpy()[cells] = self.weight.numpy()[entry]
        return Targets(p, weight, rows, epoch, memory or {})


def teacher(labels: LabelSets, teach: str, *, ends: str = "sigmoid", not_asked: str = "no") -> Teacher:
    """Return the targets of a training set.

    Parameters
    ----------
    labels : LabelSets
        Labels of the training images, in the order of their rows.
    teach : str
        One of `LISTED`.
    ends : str
        The last function of the loss. If it is ``softmax``, the targets of an image sum to 1.
    not_asked : str
        One of `NOT_ASKED`, for label sets under a sigmoid.

    Raises
    ------
    InputError
        If the value of `teach` or `not_asked` does not exist, if the labels lack the data for it, or if no
        image would have an absent class.
    """
    for what, value, allowed in (("way to teach", teach, LISTED), ("not_asked", not_asked, NOT_ASKED)):
        if value not in allowed:
            raise InputError(f"There is no {what} {value!r}.", allowed=", ".join(allowed))
    if teach == "label":
        return _of_labels(labels)
    if teach == "soft":
        return _of_soft(labels, ends)
    return _of_sets(labels, ends, not_asked)


def _of_labels(labels: LabelSets) -> Teacher:
    there = labels.label != NO_LABEL
    if not there.any():
        raise InputError(
            "The labels contain no original label.", do="teach label sets: pass teach=sets as `settings`"
        )
    n = np.concatenate([[0], np.cumsum(there)])
    ones = np.ones(int(there.sum()), np.float32)
    return _teacher(labels.n_classes, n, labels.label[there], ones, ones, 1.0)


def _of_soft(labels: LabelSets, ends: str) -> Teacher:
    if labels.p is None or not np.isfinite(labels.p).all():
        raise InputError(
            "The labels have no probabilities of classes.",
            got="no p" if labels.p is None else "some p are missing",
            do="teach label sets: pass teach=sets as `settings`",
        )
    p = _shared(labels, labels.p) if ends == "softmax" else labels.p
    return _teacher(labels.n_classes, labels.indptr, labels.classes, p, np.ones_like(p), 1.0)


def _of_sets(labels: LabelSets, ends: str, not_asked: str) -> Teacher:
    yes = (labels.state == YES).astype(np.float32)
    if ends == "softmax":
        p = _shared(labels, yes)
        return _teacher(labels.n_classes, labels.indptr, labels.classes, p, np.ones_like(p), 1.0)
    known = (labels.state != UNCLEAR).astype(np.float32)
    if not_asked == "mask" and not labels.complete and not ((yes == 0) & (known == 1)).any():
        raise InputError(
            "If classes that were not asked about are masked, no image has an absent class.",
            got="label sets without a class in state no",
            do="count classes that were not asked about as absent: pass not_asked=no as `settings`",
        )
    return _teacher(
        labels.n_classes,
        labels.indptr,
        labels.classes,
        yes,
        known,
        1.0 if not_asked == "no" or labels.complete else 0.0,
    )


def _shared(labels: LabelSets, p: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the targets of the classes of an image, which sum to 1."""
    total = np.bincount(labels.rows, p, minlength=len(labels))
    shared: npt.NDArray[np.float32] = (p / np.maximum(total, 1e-12)[labels.rows]).astype(np.float32)
    return shared


def _teacher(n_classes: int, indptr: Any, classes: Any, p: Any, weight: Any, elsewhere: float) -> Teacher:
    entries = (torch.from_numpy(np.asarray(a).astype(np.float32)) for a in (p, weight))
    lists = (torch.from_numpy(np.asarray(a).astype(np.int64)) for a in (indptr, classes))
    return Teacher(n_classes, next(lists), next(lists), next(entries), next(entries), elsewhere)
