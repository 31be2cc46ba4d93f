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
from scipy.special import expit

from manyhot.core.array_types import AnyFloats, Bools, Floats, Floats32, Ints, Ints32, Ints64, Positions
from manyhot.core.calibration import Tail, calibrated
from manyhot.core.sets import NO_LABEL, LabelSets
from manyhot.core.top_classes import top_k
from manyhot.errors import InputError
from manyhot.parameters import check_one_of

_CELLS = 2**21
"""Cells of the dense table per block: 4 MB of counts, 16 MB of probabilities."""


@dataclass(frozen=True, eq=False)
class DenseScores:
    """The scores of a model for all classes.

    Probabilities are computed from them block by block, so that there is no second matrix of all classes.

    Parameters
    ----------
    scores : ndarray of float, shape (N, C)
    rows : ndarray of int, shape (n,)
        The row of `scores` of each image.
    link : {"softmax", "sigmoid", "probability", ""}
        How a score becomes a probability. ``probability``: it is one; empty: it cannot become one.
    totals : ndarray of float32, shape (N,), optional
        The logarithm of the summed exponentials of each row, for a softmax.
    """

    scores: AnyFloats
    rows: Ints
    link: str = ""
    totals: Floats32 | None = None

    def take(self, images: Ints) -> DenseScores:
        """Return the selected images, in that order, without copying scores."""
        return replace(self, rows=self.rows[images])

    def values(self, by: str, images: slice) -> AnyFloats:
        """Return the scores or probabilities of some images, shape (b, C)."""
        scores = self.scores[self.rows[images]]
        return scores if by == "score" else self.probability(scores, images)

    def top(self, k: int) -> tuple[Ints32, AnyFloats, AnyFloats | None]:
        """Return the top k classes of all images, their scores, and their probabilities if they are known."""
        n, n_classes = len(self.rows), self.scores.shape[1]
        best = np.empty((n, min(k, n_classes)), np.int32)
        scores = np.empty(best.shape, self.scores.dtype)
        for start, stop in _blocks(n, n_classes):
            block = self.scores[self.rows[start:stop]]
            best[start:stop] = top_k(block, best.shape[1])
            scores[start:stop] = np.take_along_axis(block, best[start:stop], axis=1)
        return best, scores, self.probability(scores, slice(None)) if self.link else None

    def probability(self, scores: AnyFloats, images: slice) -> Floats32:
        """Return the probabilities of some of the scores of these images."""
        if self.link == "sigmoid":
            return np.asarray(expit(scores, dtype=np.float32))
        scores = scores.astype(np.float32)
        if self.link == "probability":
            return scores
        assert self.totals is not None
        with np.errstate(invalid="ignore", over="ignore"):  # infinite logits give NaN
            return np.asarray(np.exp(scores - self.totals[self.rows[images]][:, None]))


@dataclass(frozen=True)
class Ensemble:
    """The top classes of M models on the same n images, row by row.

    A model may also have the scores of all classes. Then thresholds and probabilities are those of all
    classes, and `deeper` lists more of them.

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
    dense : tuple of DenseScores or None, length M or 0
        The scores of all classes; None for a model that only has lists, or lists all classes.
    """

    n_classes: int
    names: tuple[str, ...]
    top: tuple[Ints, ...]
    scores: tuple[AnyFloats | None, ...]
    probabilities: tuple[AnyFloats | None, ...]
    label: Ints32
    label_sets: LabelSets | None = None
    dense: tuple[DenseScores | None, ...] = ()

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
            dense=tuple(None if d is None else d.take(images) for d in self.dense),
        )

    def only(self, models: Sequence[int]) -> Ensemble:
        """Return the selected models, in that order."""
        return replace(
            self,
            names=tuple(self.names[m] for m in models),
            top=tuple(self.top[m] for m in models),
            scores=tuple(self.scores[m] for m in models),
            probabilities=tuple(self.probabilities[m] for m in models),
            dense=tuple(self.dense[m] for m in models) if self.dense else (),
        )

    def knowing(self, images: Ints) -> Ensemble:
        """Return the same ensemble, in which only the label sets of the selected images are known."""
        assert self.label_sets is not None
        usable = np.zeros(len(self), bool)
        usable[images] = True
        return replace(self, label_sets=replace(self.label_sets, usable=usable & self.label_sets.usable))

    def dense_of(self, m: int) -> DenseScores | None:
        """Return the scores of model m for all classes, or None if it only has lists."""
        return self.dense[m] if self.dense else None

    def depth(self, m: int) -> int:
        """Return the number of classes that the lists of model m can have."""
        return self.top[m].shape[1] if self.dense_of(m) is None else self.n_classes

    def deeper(self, m: int, k: int) -> Ensemble:
        """Return the ensemble in which model m lists its top k classes, if it has scores of so many."""
        dense = self.dense_of(m)
        if dense is None or k <= self.top[m].shape[1]:
            return self
        top, scores, probabilities = dense.top(k)
        return replace(
            self,
            top=_with(self.top, m, top),
            scores=_with(self.scores, m, scores),
            probabilities=_with(self.probabilities, m, probabilities),
        )

    def down_to(self, m: int, by: str, limit: float) -> Ensemble:
        """Return the ensemble in which model m lists all classes from a score or probability of `limit` up.

        Raises
        ------
        InputError
            As in `values`.
        """
        values, dense = self.values(by, m), self.dense_of(m)
        if dense is None or not (values[:, -1] >= limit).any():  # values descend
            return self
        width = 0
        for start, stop in _blocks(len(self), self.n_classes):
            block = dense.values(by, slice(start, stop))
            width = max(width, int(np.count_nonzero(block >= limit, axis=1).max()))
        return self.deeper(m, width)

    def tails(self, m: int) -> Iterator[tuple[slice, Ints, Tail]]:
        """Yield images, the classes that model m lists, and their probabilities with those of the others.

        All images of a model that only has lists are in one block. Scores of all classes leave no others.

        Raises
        ------
        InputError
            If the model has no probabilities.
        """
        values, dense = self.values("probability", m), self.dense_of(m)
        if dense is None:
            yield slice(0, len(self)), self.top[m], Tail.of(self.top[m], values, self.n_classes)
            return
        for start, stop in _blocks(len(self), self.n_classes):
            block = slice(start, stop)
            yield block, *_tail_of_all(dense.values("probability", block))


def _with(values: tuple[Any, ...], m: int, value: Any) -> tuple[Any, ...]:
    return (*values[:m], value, *values[m + 1 :])


def _tail_of_all(probability: AnyFloats) -> tuple[Ints, Tail]:
    """Return all classes for each image, and the tail of their probabilities."""
    every = np.broadcast_to(np.arange(probability.shape[1], dtype=np.int32), probability.shape)
    return every, Tail.of(every, probability, probability.shape[1])


def _calibrated_all(dense: DenseScores, images: slice, temperature: float) -> Floats:
    """Return the calibrated probabilities of all classes of a block of images, shape (b, C)."""
    p = dense.values("probability", images)
    if temperature == 1:
        return np.asarray(np.clip(p, 0, 1), np.float64)  # as `calibrated`, without its logarithms
    return calibrated(_tail_of_all(p)[1], temperature)[0]


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
        Mean probabilities. For a model that only has lists, the classes outside its list share the remaining
        probability equally.
    """
    listed_p = [ensemble.values("probability", m) for m in range(len(ensemble.names))]
    for start, stop in _blocks(len(ensemble), ensemble.n_classes):
        table = np.zeros((stop - start, ensemble.n_classes + 1))
        shares = np.zeros((stop - start, 1))
        for m, (top, probability, t) in enumerate(zip(ensemble.top, listed_p, temperatures, strict=True)):
            if (dense := ensemble.dense_of(m)) is not None:
                table[:, :-1] += _calibrated_all(dense, slice(start, stop), float(t))
                continue
            tail = Tail.of(top[start:stop], probability[start:stop], ensemble.n_classes)
            listed, share = calibrated(tail, float(t))
            table.ravel()[_cells(top[start:stop], ensemble.n_classes)] += listed - share
            shares += share
        yield start, (table[:, :-1] + shares) / len(listed_p)


def pair_probabilities(ensemble: Ensemble, pairs: Pairs) -> Floats | None:
    """Return the mean probability of each pair, shape (m,), or None if any model has no probabilities."""
    if not ensemble.names or any(p is None for p in ensemble.probabilities):
        return None
    at_one = np.ones(len(ensemble.names))
    return at_pairs(mean_probabilities(ensemble, at_one), pairs.image, pairs.class_id)


def at_pairs(blocks: Iterator[tuple[int, Floats]], image: Ints, class_id: Ints) -> Floats:
    """Return the values of pairs, shape (m,), from blocks of values of all classes; `image` ascends."""
    found = np.empty(len(image))
    for start, values in blocks:
        first, last = np.searchsorted(image, (start, start + len(values)))
        found[first:last] = values[image[first:last] - start, class_id[first:last]]
    return found


def listed_means(ensemble: Ensemble, temperatures: Floats) -> Iterator[tuple[int, Floats]]:
    """Yield the same as `mean_probabilities`, with -1 for classes that no model lists."""
    every = any(ensemble.dense)  # scores of all classes list them
    for start, mean in mean_probabilities(ensemble, temperatures):
        if not every:
            unlisted = np.ones((len(mean), ensemble.n_classes + 1), bool)
            for top in ensemble.top:
                unlisted.ravel()[_cells(top[start : start + len(mean)], ensemble.n_classes)] = False
            mean[unlisted[:, :-1]] = -1
        yield start, mean


def count_reaching(ensemble: Ensemble, temperatures: Floats, threshold: float, images: slice) -> Ints32:
    """Return how many models list each class of a block with a calibrated probability from a threshold up.

    Returns
    -------
    counts : ndarray of int32, shape (b, C)
    """
    counts = np.zeros((images.stop - images.start, ensemble.n_classes + 1), np.int32)
    for m, t in enumerate(temperatures):
        if (dense := ensemble.dense_of(m)) is not None:
            counts[:, :-1] += _calibrated_all(dense, images, float(t)) >= threshold
            continue
        top = ensemble.top[m][images]
        listed, _ = calibrated(
            Tail.of(top, ensemble.values("probability", m)[images], ensemble.n_classes), float(t)
        )
        counts.ravel()[_cells(top, ensemble.n_classes)] += listed >= threshold
    return counts[:, :-1]


def _counted(chosen: Sequence[Ints], n_classes: int) -> Iterator[tuple[Ints64, Ints32, Ints32]]:
    """Yield image, class and number of models for each pair that any model chooses, block by block."""
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
