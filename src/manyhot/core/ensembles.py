"""Several models on the same images, the input of rules that propose labels, and sums over the models.

Sums are computed for blocks of images in a dense table of images and classes that fits the processor's cache.
For 67 models with five classes on each of 50,000 images, this takes 17 million additions; sorting as many
pairs would take ten times as long.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from manyhot.core.array_types import AnyFloats, Bools, Floats, Ints, Ints32, Ints64, Positions
from manyhot.core.calibration import Tail, calibrated
from manyhot.core.sets import NO_LABEL, LabelSets
from manyhot.errors import InputError
from manyhot.parameters import check_one_of

_CELLS = 2**21
"""Cells of the dense table per block: 4 MB of counts, 16 MB of probabilities."""


@dataclass(frozen=True)
class Ensemble:
    """The top classes of M models on the same n images, row by row.

    Parameters
    ----------
    n_classes : int
        Number of classes C.
    names : tuple of str, length M
        Names of the models.
    top : tuple of ndarray of int, shapes (n, k)
        Top classes, best first. Shorter lists are padded with `NO_LABEL`. Each model has its own k.
    scores, probabilities : tuple of ndarray of float32 or None, shapes (n, k)
        The score of each entry of `top`, and its probability: the softmax over all C classes, or a sigmoid.
        None for a model without scores or probabilities.
    label : ndarray of int32, shape (n,)
        The original single label; `NO_LABEL` if there is none.
    label_sets : LabelSets, optional
        Known label sets of the same n images. For images that are not `usable`, the label set is unknown.
    """

    n_classes: int
    names: tuple[str, ...]
    top: tuple[Ints, ...]
    scores: tuple[AnyFloats | None, ...]
    probabilities: tuple[AnyFloats | None, ...]
    label: Ints32
    label_sets: LabelSets | None = None

    def __len__(self) -> int:
        return len(self.label)

    @property
    def known_images(self) -> Positions:
        """The images whose label sets are known, in ascending order."""
        return np.empty(0, np.intp) if self.label_sets is None else np.flatnonzero(self.label_sets.usable)

    def values(self, by: str, m: int) -> AnyFloats:
        """Return the scores or probabilities of model m, shape (n, k).

        Raises
        ------
        InputError
            If the model does not have the quantity, or if `by` is neither ``probability`` nor ``score``.
        """
        check_one_of(by, ("probability", "score"), "A threshold cannot be applied to this.")
        values = self.probabilities[m] if by == "probability" else self.scores[m]
        if values is None:
            kind = {"probability": "probabilities", "score": "scores"}[by]
            has_scores = self.scores[m] is not None
            raise InputError(
                f"The predictions of {self.names[m]} have no {kind}.",
                got="scores without their sum over all classes" if has_scores else "only ranks",
                allowed=f"predictions with {kind}, such as those of manyhot predict",
                do="use a rule that needs only ranks, such as union(k=5)",
            )
        return values

    def take(self, images: Ints) -> Ensemble:
        """Return the selected images, in that order."""
        return replace(
            self,
            top=tuple(t[images] for t in self.top),
            scores=tuple(None if s is None else s[images] for s in self.scores),
            probabilities=tuple(None if p is None else p[images] for p in self.probabilities),
            label=self.label[images],
            label_sets=None if self.label_sets is None else self.label_sets.take(images),
        )

    def only(self, models: Sequence[int]) -> Ensemble:
        """Return the selected models, in that order."""
        return replace(
            self,
            names=tuple(self.names[m] for m in models),
            top=tuple(self.top[m] for m in models),
            scores=tuple(self.scores[m] for m in models),
            probabilities=tuple(self.probabilities[m] for m in models),
        )

    def knowing(self, images: Ints) -> Ensemble:
        """Return the same ensemble, in which only the label sets of the selected images are known."""
        assert self.label_sets is not None
        usable = np.zeros(len(self), bool)
        usable[images] = True
        return replace(self, label_sets=replace(self.label_sets, usable=usable & self.label_sets.usable))

    def tail(self, m: int) -> Tail:
        """Return the probabilities of model m, and the remaining probability of the unlisted classes.

        Raises
        ------
        InputError
            If the model has no probabilities.
        """
        return Tail.of(self.top[m], self.values("probability", m), self.n_classes)


@dataclass(frozen=True)
class Pairs:
    """Distinct (image, class) pairs, sorted by image and class.

    Attributes
    ----------
    image, class_id : ndarray of int, shape (m,)
    score : ndarray of float64, shape (m,)
        The score assigned by the rule. Raters are asked about pairs with high scores first.
    n_models : ndarray of int32, shape (m,)
        Number of models that propose the pair.
    about : Mapping
        Metadata of the rule, such as the models and thresholds that it chose.
    """

    image: Ints64
    class_id: Ints32
    score: Floats
    n_models: Ints32
    about: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.image)

    def keys(self, n_classes: int) -> Ints64:
        """Return one ascending number per pair, shape (m,)."""
        return self.image * n_classes + self.class_id

    def where(self, keep: Bools) -> Pairs:
        """Return the pairs that a mask selects."""
        return replace(
            self,
            image=self.image[keep],
            class_id=self.class_id[keep],
            score=self.score[keep],
            n_models=self.n_models[keep],
        )


def count_models(chosen: Sequence[Ints], n_classes: int) -> Pairs:
    """Return the union of the classes that models choose, scored by the share of models that choose them.

    Parameters
    ----------
    chosen : sequence of M ndarray of int, shapes (n, k)
        The classes that each model chooses, without duplicates within a row. `NO_LABEL` means no choice.
    """
    blocks = [*_counted(chosen, n_classes)]
    image, class_id, counts = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return Pairs(image, class_id, counts / len(chosen), counts)


def mean_probabilities(ensemble: Ensemble, temperatures: Floats) -> Iterator[tuple[int, Floats]]:
    """Yield the mean of the models' calibrated probabilities over all classes, block by block.

    Yields
    ------
    start : int
        The first image of the block.
    mean : ndarray of float64, shape (b, C)
        Mean probabilities. For each model, the classes outside its list share the remaining probability
        equally.
    """
    listed_p = [ensemble.values("probability", m) for m in range(len(ensemble.names))]
    for start, stop in _blocks(len(ensemble), ensemble.n_classes):
        table = np.zeros((stop - start, ensemble.n_classes + 1))
        shares = np.zeros((stop - start, 1))
        for top, probability, t in zip(ensemble.top, listed_p, temperatures, strict=True):
            tail = Tail.of(top[start:stop], probability[start:stop], ensemble.n_classes)
            listed, share = calibrated(tail, float(t))
            table.ravel()[_cells(top[start:stop], ensemble.n_classes)] += listed - share
            shares += share
        yield start, (table[:, :-1] + shares) / len(listed_p)


def pair_probabilities(ensemble: Ensemble, pairs: Pairs) -> Floats | None:
    """Return the mean probability of each pair, shape (m,), or None if any model has no probabilities."""
    if not ensemble.names or any(p is None for p in ensemble.probabilities):
        return None
    found = np.empty(len(pairs))
    for start, mean in mean_probabilities(ensemble, np.ones(len(ensemble.names))):
        first, last = np.searchsorted(pairs.image, (start, start + len(mean)))
        found[first:last] = mean[pairs.image[first:last] - start, pairs.class_id[first:last]]
    return found


def _counted(chosen: Sequence[Ints], n_classes: int) -> Iterator[tuple[Ints64, Ints32, Ints32]]:
    """Yield image, class and number of models of each pair that any model chooses, block by block."""
    for start, stop in _blocks(len(chosen[0]), n_classes):
        table = np.zeros((stop - start, n_classes + 1), np.uint16)
        flat = table.ravel()
        for classes in chosen:
            flat[_cells(classes[start:stop], n_classes)] += 1
        table[:, n_classes] = 0  # the column of `NO_LABEL`
        cells = np.flatnonzero(flat != 0)
        rows, columns = np.divmod(cells, n_classes + 1)
        yield start + rows, columns.astype(np.int32), flat[cells].astype(np.int32)


def _blocks(n: int, n_classes: int) -> Iterator[tuple[int, int]]:
    size = max(_CELLS // (n_classes + 1), 1)
    for start in range(0, n, size):
        yield start, min(start + size, n)


def _cells(top: Ints, n_classes: int) -> Ints64:
    """Return the position of each entry in a flat table of C + 1 columns, with `NO_LABEL` in the last."""
    columns = np.where(top == NO_LABEL, n_classes, top).astype(np.int64)
    columns += np.arange(len(top), dtype=np.int64)[:, None] * (n_classes + 1)
    return columns
