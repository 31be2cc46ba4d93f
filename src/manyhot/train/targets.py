"""What logits are compared with: single labels, label sets or soft labels, as one pair of arrays."""

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
from manyhot.train.recipe import LISTED, NOT_ASKED


@dataclass(frozen=True, eq=False)
class Targets:
    """What the logits of a batch of n images are compared with.

    Attributes
    ----------
    p : torch.Tensor of float32, shape (n, C)
        1 for a class that is there and 0 for one that is not; soft labels and mixed images lie between. For a
        loss that ends in a softmax each row sums to 1, or to 0 where nothing is known.
    weight : torch.Tensor of float32, shape (n, C), optional
        How much each cell counts: 0 where nothing is known. None stands for 1 everywhere.
    rows : torch.Tensor of int64, shape (n,)
        Of the images in the training set, for losses that remember.
    epoch : int
        From 0 on.
    memory : Mapping of str to torch.Tensor
        What the loss remembers of each image of the training set; see `manyhot.train.losses`.
    """

    p: Tensor
    weight: Tensor | None
    rows: Tensor
    epoch: int = 0
    memory: Mapping[str, Tensor] = field(default_factory=dict)

    def mixed(self, order: Tensor, share: Tensor) -> Targets:
        """Return the targets of images that were mixed with others of the batch.

        A class of both images is there; one of a single image is there to its share. Where one of two images
        does not know a class, the other's word counts, to its share: the loss of a mixed image is that of
        both images in their shares, for each loss that is linear in `p`.

        Parameters
        ----------
        order : torch.Tensor of int64, shape (n,)
            The image that each one was mixed with.
        share : torch.Tensor of float32, shape (n,)
            Of the image itself in the mixture.
        """
        own = share[:, None]
        if self.weight is None:
            return replace(self, p=own * self.p + (1 - own) * self.p[order])
        weight = own * self.weight + (1 - own) * self.weight[order]
        p = own * self.weight * self.p + (1 - own) * (self.weight * self.p)[order]
        return replace(self, p=p / weight.clamp(min=1e-12), weight=weight)

    def to(self, device: Any) -> Targets:
        """Return the same on another device; the memory stays where it is."""
        weight = None if self.weight is None else self.weight.to(device)
        return replace(self, p=self.p.to(device), rows=self.rows.to(device), weight=weight)


@dataclass(frozen=True, eq=False)
class Teacher:
    """What each image of a training set is taught, as lists; batches of it are dense.

    At 1,000 classes an image takes some bytes here, and 4 kB in a batch.

    Attributes
    ----------
    n_classes : int
    indptr : torch.Tensor of int64, shape (n + 1,)
        Image i has the entries ``indptr[i]`` to ``indptr[i + 1]``.
    classes : torch.Tensor of int64, shape (m,)
    p, weight : torch.Tensor of float32, shape (m,)
        Of the entries, as in `Targets`.
    elsewhere : float
        The weight of classes without an entry; their `p` is 0.
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
        """Whether there are cells that do not count fully."""
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
        """Return the targets of some images, by their rows, a tensor of int64 of shape (n,).

        Where they were cut, and whether they were mirrored, is the same to all; see `label_maps`.
        """
        # In NumPy: each call of PyTorch gives Python's lock to a thread that decodes, and waits for it.
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
    """Return what images are taught.

    Parameters
    ----------
    labels : LabelSets
        Of the training images, in the order of their rows.
    teach : str
        One of `LISTED`.
    ends : str
        What the loss ends in: under ``softmax`` the classes of an image share 1 between them.
    not_asked : str
        One of `NOT_ASKED`; it matters for label sets under a sigmoid.

    Raises
    ------
    InputError
        There is no such way to teach; the labels do not tell what it takes; or nothing that is known would
        speak against a class.
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
        raise InputError("The labels hold no original label.", do="teach label sets: --set teach=sets")
    n = np.concatenate([[0], np.cumsum(there)])
    ones = np.ones(int(there.sum()), np.float32)
    return _teacher(labels.n_classes, n, labels.label[there], ones, ones, 1.0)


def _of_soft(labels: LabelSets, ends: str) -> Teacher:
    if labels.p is None or not np.isfinite(labels.p).all():
        raise InputError(
            "The labels do not tell the probability of each class.",
            got="no p" if labels.p is None else "some p are missing",
            do="teach label sets: --set teach=sets",
        )
    p = _shared(labels, labels.p) if ends == "softmax" else labels.p
    return _teacher(labels.n_classes, labels.indptr, labels.classes, p, np.ones_like(p), 1.0)


def _of_sets(labels: LabelSets, ends: str, not_asked: str) -> Teacher:
    yes = (labels.state == YES).astype(np.float32)
    if ends == "softmax":
        p = _shared(labels, yes)
        return _teacher(labels.n_classes, labels.indptr, labels.classes, p, np.ones_like(p), 1.0)
    known = (labels.state != UNCLEAR).astype(np.float32)
    if not_asked == "mask" and not ((yes == 0) & (known == 1)).any():
        raise InputError(
            "With classes masked that nobody asked about, no class would be absent from any image.",
            got="label sets without a single no",
            do="count classes that nobody asked about as absent: --set not_asked=no",
        )
    return _teacher(
        labels.n_classes, labels.indptr, labels.classes, yes, known, 1.0 if not_asked == "no" else 0.0
    )


def _shared(labels: LabelSets, p: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return what each class has of the 1 that the classes of an image share."""
    total = np.bincount(labels.rows, p, minlength=len(labels))
    shared: npt.NDArray[np.float32] = (p / np.maximum(total, 1e-12)[labels.rows]).astype(np.float32)
    return shared


def _teacher(n_classes: int, indptr: Any, classes: Any, p: Any, weight: Any, elsewhere: float) -> Teacher:
    entries = (torch.from_numpy(np.asarray(a).astype(np.float32)) for a in (p, weight))
    lists = (torch.from_numpy(np.asarray(a).astype(np.int64)) for a in (indptr, classes))
    return Teacher(n_classes, next(lists), next(lists), next(entries), next(entries), elsewhere)
