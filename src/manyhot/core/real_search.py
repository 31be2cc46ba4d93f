"""ReaL's search for the models and thresholds that propose the known labels with the fewest questions.

The proposals of a model at a threshold are a row of bits, one for each pair that any model may propose. The
proposals of several models are the union of their rows, and the number of valid proposals is a count of bits.
Adding a model to a set takes a pass over a few hundred words, so searching half a million sets takes seconds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Bools, Floats, Ints64
from manyhot.core.estimates import packed_bits

Bits = npt.NDArray[np.uint64]

Codes = npt.NDArray[np.int64]

BUDGET = 2**29
"""Maximum cost of an exhaustive search, as combinations times words.

19 models with 8 thresholds on 150 images cost 2**19 * 8 * 70."""

_OVERHEAD = 16
"""Cost of a combination in addition to its words."""

_TABLE = 2**18
"""Words of the stored unions of the first models; the others are added one combination at a time."""


@dataclass(frozen=True)
class Proposing:
    """The proposals of M models, each at L descending thresholds, as bits.

    Attributes
    ----------
    bits : ndarray of uint64, shape (M, L + 1, W)
        Level 0 has no proposals and stands for a model that is left out. Words ``[0, edges[0])`` are pairs of
        an image and a known label that is not the original one. Words up to ``edges[1]`` are images whose
        original label is valid. The rest are all other pairs and images. The bit of an image is set if the
        model proposes a class other than its original label, so that the image is asked about.
    n_labels : int
        Number of known labels of all images.
    n_given : int
        Number of known labels that are original labels. No model needs to propose them.
    """

    bits: Bits
    edges: tuple[int, int]
    n_labels: int
    n_given: int

    @classmethod
    def of(cls, models: Iterable[Sequence[Bools]], *, n_labels: int, n_given: int) -> Proposing:
        """Pack flags: valid pairs, images with a valid original label, invalid pairs, other images.

        Parameters
        ----------
        models : iterable of M sequences of 4 ndarray of bool, shapes (L, ·)
        """
        bits, edges = [], (0, 0)
        for parts in models:
            packed = [packed_bits(part) for part in parts]
            edges = (packed[0].shape[1], packed[0].shape[1] + packed[1].shape[1])
            words = np.concatenate(packed, axis=1)
            bits.append(np.concatenate([np.zeros_like(words[:1]), words]))
        return cls(np.stack(bits), edges, n_labels, n_given)

    def measure(self, unions: Bits, axis: int = 0) -> UnionCounts:
        """Count the proposals of N unions, with words along `axis`."""
        counts = np.bitwise_count(unions)
        first, second, third = np.split(counts, self.edges, axis=axis)
        right = first.sum(axis, dtype=np.int64)
        valid = right + second.sum(axis, dtype=np.int64)
        asked = valid + third.sum(axis, dtype=np.int64)
        return UnionCounts((right + self.n_given) / max(self.n_labels, 1), valid, asked)

    def loosest(self) -> UnionCounts:
        """Count the proposals of all models at their lowest thresholds, which gives N = 1."""
        return self.measure(_union(self.bits[:, -1])[:, None])


@dataclass(frozen=True)
class UnionCounts:
    """Recall, number of valid questions and number of questions, each of shape (N,)."""

    recall: Floats
    valid: Ints64
    asked: Ints64

    @property
    def precision(self) -> Floats:
        """The share of valid questions; 1 if there are no questions."""
        return np.where(self.asked > 0, self.valid / np.maximum(self.asked, 1), 1.0)


@dataclass(frozen=True)
class ModelChoice:
    """The level of each model's threshold, from 1; 0 for a model that is left out.

    Attributes
    ----------
    codes : ndarray of int, shape (M,)
    recall, precision : float
        Recall and precision on the searched images.
    how : str
        The choices that were searched. ``all``: every set of models with all thresholds of each model.
        ``sets``: every set of models with the same threshold level for all models, then changes of one model
        at a time. ``steps``: only changes of one model at a time.
    """

    codes: Codes
    recall: float
    precision: float
    how: str

    def better_than(self, other: ModelChoice | None) -> bool:
        """Whether the precision is higher, or equal with fewer models."""
        if other is None:
            return True
        mine, theirs = ((c.precision, -int((c.codes > 0).sum())) for c in (self, other))
        return mine > theirs


def search(p: Proposing, recall: float, *, budget: int = BUDGET) -> ModelChoice | None:
    """Find the models and thresholds with the highest precision at a recall of at least `recall`.

    Among equally good choices, the one with the fewest models is returned. Remaining ties go to the first
    choice. The result is None if even all models together, at their lowest thresholds, do not reach the
    recall.

    Parameters
    ----------
    budget : int
        Maximum cost of an exhaustive search.

    References
    ----------
    Beyer et al. 2020, arXiv 2006.07159. The exhaustive search over sets of 19 models and the choice of
    thresholds have not been verified against the paper.
    """
    n_models, levels, words = p.bits.shape
    levels -= 1
    if float(p.loosest().recall[0]) < recall:
        return None
    cost = words + _OVERHEAD
    if (levels + 1) ** n_models * cost <= budget:
        every = [np.arange(levels + 1)] * n_models
        return _exhaustive(p, every, recall, "all")
    if levels * 2**n_models * cost <= budget:
        best: ModelChoice | None = None
        for level in range(1, levels + 1):
            choice = _exhaustive(p, [np.array([0, level])] * n_models, recall, "sets")
            best = choice if choice is not None and choice.better_than(best) else best
        assert best is not None
        return _improved(p, best, recall)
    return _by_steps(p, recall)


def _by_steps(p: Proposing, recall: float) -> ModelChoice:
    """Improve the choices of all models at the highest and at the lowest level that reach the recall."""
    n_models, levels, _ = p.bits.shape
    starts = [_chosen(p, np.full(n_models, level), "steps") for level in range(1, levels)]
    fine = [c for c in starts if c.recall >= recall]
    best: ModelChoice | None = None
    for start in (fine[0], fine[-1]):
        choice = _improved(p, start, recall)
        best = choice if choice.better_than(best) else best
    assert best is not None
    return best


def _exhaustive(p: Proposing, codes: Sequence[Codes], recall: float, how: str) -> ModelChoice | None:
    best: ModelChoice | None = None
    for chosen, unions in _unions(p, codes):
        m = p.measure(unions)
        precision = np.where(m.recall >= recall, m.precision, -1)
        top = np.flatnonzero(precision == precision.max())
        if best is not None and precision[top[0]] < best.precision:
            continue
        fewest = top[np.argmin((chosen[top] > 0).sum(1))]
        choice = ModelChoice(chosen[fewest], float(m.recall[fewest]), float(precision[fewest]), how)
        best = choice if choice.better_than(best) else best
    return best


def _unions(p: Proposing, codes: Sequence[Codes]) -> Iterator[tuple[Codes, Bits]]:
    """Yield all combinations of codes in blocks, shapes (N, M) and (W, N)."""
    sizes = np.cumprod([len(c) for c in codes])
    first = max(int(np.searchsorted(sizes, _TABLE // p.bits.shape[2], side="right")), 1)
    rows = [p.bits[m, c] for m, c in enumerate(codes)]
    table = np.zeros((p.bits.shape[2], 1), np.uint64)
    for row in rows[:first]:
        table = (table[:, :, None] | row.T[:, None, :]).reshape(len(table), -1)
    inner = np.array(list(itertools.product(*codes[:first])), np.int64)
    for picks in itertools.product(*(range(len(c)) for c in codes[first:])):
        outer = [c[i] for c, i in zip(codes[first:], picks, strict=True)]
        base = _union(np.array([r[i] for r, i in zip(rows[first:], picks, strict=True)] or [table[:, 0] * 0]))
        yield np.hstack([inner, np.tile(np.array(outer, np.int64), (len(inner), 1))]), table | base[:, None]


def _improved(p: Proposing, start: ModelChoice, recall: float) -> ModelChoice:
    """Change one model, or remove one and change another, until there is no better choice."""
    best = start
    while True:
        # Changes are compared all at once; exchanges, of which there are many more, model by model.
        steps = itertools.chain([best.codes], _without_one(best.codes))
        choices = (_best_of(p, _changes(p, codes), recall, best.how) for codes in steps)
        better = next((c for c in choices if c is not None and c.better_than(best)), None)
        if better is None:
            return best
        best = better


def _without_one(codes: Codes) -> Iterator[Codes]:
    """Yield the codes without each of the chosen models."""
    for gone in np.flatnonzero(codes):
        without = codes.copy()
        without[gone] = 0
        yield without


def _best_of(
    p: Proposing, moves: Iterator[tuple[Codes, Bits]], recall: float, how: str
) -> ModelChoice | None:
    """Return the best of the choices in blocks, shapes (N, M) and (N, W)."""
    best: ModelChoice | None = None
    for codes, unions in moves:
        m = p.measure(unions, axis=1)
        precision = np.where(m.recall >= recall, m.precision, -1)
        for i in np.flatnonzero(precision >= (0 if best is None else best.precision)):
            choice = ModelChoice(codes[i], float(m.recall[i]), float(precision[i]), how)
            best = choice if choice.better_than(best) else best
    return best


def _changes(p: Proposing, codes: Codes) -> Iterator[tuple[Codes, Bits]]:
    """Yield, model by model, all its thresholds with the other models unchanged."""
    for m, others in enumerate(_without_each(p, codes)):
        changed = np.repeat(codes[None], p.bits.shape[1], axis=0)
        changed[:, m] = np.arange(p.bits.shape[1])
        yield changed, others | p.bits[m]


def _without_each(p: Proposing, codes: Codes) -> Iterator[Bits]:
    """Yield for each model the union of all others, from the unions of the models before and after it."""
    rows = p.bits[np.arange(len(codes)), codes]
    everything = _union(rows)
    inside = np.flatnonzero(codes).tolist()
    after = {m: _union(rows[inside[i + 1 :]]) for i, m in enumerate(inside)}
    before = np.zeros_like(everything)
    for m, row in enumerate(rows):
        if m not in after:
            yield everything
            continue
        yield before | after[m]
        before |= row


def _chosen(p: Proposing, codes: Codes, how: str) -> ModelChoice:
    m = p.measure(_union(p.bits[np.arange(len(codes)), codes])[:, None])
    return ModelChoice(codes, float(m.recall[0]), float(m.precision[0]), how)


def _union(rows: Bits) -> Bits:
    union: Bits = np.bitwise_or.reduce(rows, axis=0)
    return union
