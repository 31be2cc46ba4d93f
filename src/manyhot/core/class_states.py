"""Label sets as arrays: the state of each (image, class) pair."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Bools, Bytes, Floats32, Ints, Ints32, Ints64, Positions
from manyhot.errors import InputError

AnyArray = TypeVar("AnyArray", bound="npt.NDArray[Any] | None")
_FirstAndOthers = tuple[npt.NDArray[Any], Ints64, list[npt.NDArray[Any]]]

NOT_ASKED, NO, UNCLEAR, YES = range(4)
"""States of an (image, class) pair. *Not asked is not no.*"""

NO_LABEL = -1
"""Code of a missing original label, and of an empty place of a ragged top-k list."""

NEVER_EQUAL = -2
"""Differs from all classes and from `NO_LABEL`."""

_MOST_CELLS = 2**28
"""Images × classes up to which all states are packed into an array, of 64 MB."""


def read_only(array: AnyArray) -> AnyArray:
    """Return a read-only view of an array: a change made by one metric would affect all others."""
    if array is None or not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True)
class LabelSets:
    """Label sets of n images over C classes.

    The label set of an image consists of its classes with the state `YES`.

    Parameters
    ----------
    n_classes : int
        Number of classes C.
    indptr : ndarray of int64, shape (n + 1,)
        Raters were asked about ``classes[indptr[i]:indptr[i + 1]]`` for image i.
    classes : ndarray of int32, shape (m,)
        All classes asked about.
    state : ndarray of uint8, shape (m,)
        `YES`, `UNCLEAR` or `NO` for each of `classes`.
    label : ndarray of int32, shape (n,)
        The original single label; `NO_LABEL` if there is none.
    usable : ndarray of bool, shape (n,)
        Whether metrics count the image. If false, the image is skipped.
    asked_known : bool
        Whether all classes that raters were asked about are recorded, including those with state no. False
        for sources such as ReaL's ``real.json``, which contain only the valid classes.
    p : ndarray of float32, shape (m,), optional
        Probability that each class is in the image; NaN if unknown.
    exclusive : bool
        Whether raters chose one class per image, so that `p` adds up to 1. `p` then contains shares of the
        votes, or estimates based on them.
    complete : bool
        Whether each class that is not listed has the state `NO`, and no class is unclear. Such label sets
        represent a full matrix of zeros and ones, whose zeros are not listed. `asked_known` is then also
        true.
    n_votes : ndarray of float32, shape (m,), optional
        Number of answers about each class; NaN if unknown.
    undecided : ndarray of bool, shape (n,), optional
        The images on which it is unknown which class is valid, although raters chose one class of each. They
        are not `usable`, because not decided is not no, but their original labels and their votes count.
    """

    n_classes: int
    indptr: Ints64
    classes: Ints32
    state: Bytes
    label: Ints32
    usable: Bools
    asked_known: bool = False
    p: Floats32 | None = None
    exclusive: bool = False
    complete: bool = False
    n_votes: Floats32 | None = None
    undecided: Bools | None = None
    _depths: dict[int, tuple[Bools, Bools]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _cast: dict[np.dtype[Any], _FirstAndOthers] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for name in ("indptr", "classes", "state", "label", "usable", "p", "n_votes", "undecided"):
            object.__setattr__(self, name, read_only(getattr(self, name)))

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def from_lists(
        cls,
        sets: Sequence[Iterable[int]],
        n_classes: int,
        *,
        label: npt.ArrayLike | None = None,
        usable: npt.ArrayLike | None = None,
    ) -> LabelSets:
        """Return label sets from one list of valid classes per image."""
        lists = [np.fromiter(s, np.int32) for s in sets]
        indptr = np.concatenate([[0], np.cumsum([len(s) for s in lists], dtype=np.int64)]).astype(np.int64)
        classes = np.concatenate([np.empty(0, np.int32), *lists])
        if classes.size and not (classes.min() >= 0 and classes.max() < n_classes):
            raise InputError(
                "A label set contains a class that does not exist.",
                got=int(classes.min() if classes.min() < 0 else classes.max()),
                allowed=f"0 to {n_classes - 1}",
            )
        return cls(
            n_classes,
            indptr,
            classes,
            np.full(len(classes), YES, np.uint8),
            np.full(len(lists), NO_LABEL, np.int32) if label is None else np.asarray(label, np.int32),
            np.ones(len(lists), bool) if usable is None else np.asarray(usable, bool),
        )

    @cached_property
    def rows(self) -> Ints64:
        """The image of each entry of `classes`, shape (m,)."""
        return read_only(np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.indptr)))

    @cached_property
    def size(self) -> Ints64:
        """The number of classes in each label set, shape (n,)."""
        return read_only(np.bincount(self.rows[self.state == YES], minlength=len(self)))

    @cached_property
    def accepted(self) -> Ints64:
        """The number of classes with state yes or unclear for each image, shape (n,)."""
        return read_only(np.bincount(self.rows[self.state >= UNCLEAR], minlength=len(self)))

    @cached_property
    def counted(self) -> Bools:
        """The images whose original labels and votes count: usable or undecided, shape (n,)."""
        return self.usable if self.undecided is None else read_only(self.usable | self.undecided)

    @cached_property
    def labelled(self) -> Bools:
        """Counted images with an original label, shape (n,)."""
        labelled: Bools = self.counted & (self.label != NO_LABEL)
        return read_only(labelled)

    @cached_property
    def voted(self) -> Bools:
        """Counted images with a distribution of the votes over exclusive classes, shape (n,)."""
        if self.p is None or not self.exclusive:
            return read_only(np.zeros(len(self), bool))
        return read_only(self.counted & (np.bincount(self.rows, np.nan_to_num(self.p), len(self)) > 0))

    @cached_property
    def scored(self) -> Bools:
        """Whether each image is usable and has a non-empty label set, shape (n,)."""
        return read_only(self.usable & (self.size > 0))

    @cached_property
    def empty(self) -> Bools:
        """Whether each image is usable and its label set is known to be empty, shape (n,).

        It is known if there are answers about all classes, none of them yes. If raters chose one class per
        image, they found one in each.
        """
        none = self.usable & (self.size == 0)
        if self.complete or self.exclusive:
            return read_only(none & self.complete)
        answered = self.rows if self.n_votes is None else self.rows[self.n_votes != 0]
        return read_only(none & (np.bincount(answered, minlength=len(self)) == self.n_classes))

    @cached_property
    def first(self) -> Ints32:
        """The first class of each label set, shape (n,); negative for empty sets."""
        yes = self.state == YES
        first = np.full(len(self), NEVER_EQUAL, np.int32)
        first[self.rows[yes][::-1]] = self.classes[yes][::-1]
        return read_only(first)

    @cached_property
    def _others(self) -> tuple[Ints64, list[Ints32]]:
        """Images with several classes, largest set first, and their second, third, … classes."""
        yes = self.state == YES
        rows = np.flatnonzero(self.size > 1)
        rows = rows[np.argsort(-self.size[rows], kind="stable")]
        start = (np.cumsum(self.size) - self.size)[rows]
        classes, size = self.classes[yes], self.size[rows]
        return rows, [classes[start[size > j] + j] for j in range(1, int(size.max(initial=1)))]

    @property
    def unlisted(self) -> int:
        """The state of unlisted classes: `NOT_ASKED` if `asked_known`, unless raters answered about all.

        They did if the sets are `complete`, or if raters chose one of all classes, and thus rejected the
        others.
        """
        return NOT_ASKED if self.asked_known and not (self.complete or self.exclusive) else NO

    def leaves_out_cells(self, masked: bool) -> bool:
        """Return whether a `masked` metric leaves out any cells; false if raters answered about all cells."""
        return masked and not self.complete

    def within_depth(self, k: int) -> tuple[Bools, Bools]:
        """Return which of k ranks are within the size of the label set, and which sets fit into k ranks.

        The first array is column-major, shape (n, k). The second marks scored images whose label set has at
        most k classes, shape (n,).
        """
        if k not in self._depths:
            within = np.asfortranarray(np.arange(k) < self.size[:, None])
            self._depths[k] = (within, self.scored & (self.size <= k))
        return self._depths[k]

    @cached_property
    def _packed(self) -> Bytes:
        # Two bits per pair: 12.5 MB for 50,000 × 1,000 fit the cache; a byte per pair, 50 MB, does not.
        packed = np.zeros((len(self), -(-self.n_classes // 4)), np.uint8)
        np.bitwise_or.at(
            packed, (self.rows, self.classes >> 2), self.state << ((self.classes & 3) << 1).astype(np.uint8)
        )
        return packed

    def hits(self, classes: Ints) -> Bools:
        """Return whether each of `classes`, shape (n, k), is in the label set of its image.

        Most label sets have one class. Comparing with the first class of each set, and then with the few
        others, takes a tenth of the time needed to look up each pair. Column-major order is fastest.
        """
        first, rows, others = self._comparable(classes.dtype)
        hits: Bools = classes == first[:, None]
        for place in range(classes.shape[1] if others else 0):
            column = classes[:, place].take(rows, mode="clip")
            right = column == others[0]
            for other in others[1:]:
                right[: len(other)] |= column[: len(other)] == other
            hits[rows[np.flatnonzero(right)], place] = True
        return hits

    def _comparable(self, dtype: np.dtype[Any]) -> _FirstAndOthers:
        """Return the first class of each set, and the others, in the type of the predictions."""
        if dtype not in self._cast:
            rows, others = self._others
            self._cast[dtype] = (self.first.astype(dtype), rows, [o.astype(dtype) for o in others])
        return self._cast[dtype]

    def state_of(self, classes: Ints) -> Bytes:
        """Return the state of `classes`, shape (n, k), on each image; negative entries are `NOT_ASKED`."""
        many = len(self) * self.n_classes > _MOST_CELLS
        state = self._compared_states(classes) if many else self._packed_states(classes)
        if self.complete or self.exclusive:
            np.maximum(state, NO, out=state)
        if classes.size and classes.min() < 0:
            state[classes < 0] = NOT_ASKED
        return state

    def _packed_states(self, classes: Ints) -> Bytes:
        width = self._packed.shape[1]
        index = classes.astype(np.int32) >> 2
        index += np.arange(len(self), dtype=np.int32)[:, None] * np.int32(width)
        # Column by column, as predictions are stored: sums over ranks then take a tenth of the time.
        state = self._packed.ravel().take(index.T, mode="clip").T
        state >>= ((classes & 3) << 1).astype(np.uint8)
        state &= 3
        return state

    def _compared_states(self, classes: Ints) -> Bytes:
        """Return the states by comparing `classes` with the first class of each image, then the second."""
        state, lengths, rows = np.zeros(classes.shape, np.uint8), np.diff(self.indptr), np.arange(len(self))
        for place in range(int(lengths.max(initial=0))):
            rows = rows[lengths[rows] > place]
            entries = self.indptr[rows] + place
            for column in range(classes.shape[1]):
                same = np.flatnonzero(classes[:, column].take(rows) == self.classes[entries])
                state[rows[same], column] |= self.state[entries[same]]
        return state

    def p_of(self, classes: Ints) -> Floats32:
        """Return the probability of one class for each image; NaN if it is unknown or no rater was asked."""
        return self.values_of(self.p, classes)

    def values_of(self, values: Floats32 | None, classes: Ints) -> Floats32:
        """Return the value of one class for each image, shape (n,), from `p` or `n_votes`; NaN if unknown."""
        found = np.full(len(self), np.nan, np.float32)
        if values is None or not len(values):
            return found
        pairs, entries = self._by_pair
        queries = np.arange(len(self)) * self.n_classes + classes
        at = np.searchsorted(pairs, queries)
        there = (pairs.take(at, mode="clip") == queries) & (classes >= 0)
        found[there] = values[entries[at[there]]]
        return found

    @cached_property
    def _by_pair(self) -> tuple[Ints64, Positions]:
        """Each (image, class) pair as one number, ascending, and its entry in `classes`."""
        pairs = self.rows * self.n_classes + self.classes
        entries = np.argsort(pairs, kind="stable")
        return pairs[entries], entries

    def take(self, images: Ints) -> LabelSets:
        """Return the label sets of the selected images, in the order of the selection."""
        lengths = np.diff(self.indptr)[images]
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        entries = np.arange(indptr[-1]) + np.repeat(self.indptr[images] - indptr[:-1], lengths)
        return LabelSets(
            self.n_classes,
            indptr,
            self.classes[entries],
            self.state[entries],
            self.label[images],
            self.usable[images],
            self.asked_known,
            None if self.p is None else self.p[entries],
            self.exclusive,
            self.complete,
            None if self.n_votes is None else self.n_votes[entries],
            None if self.undecided is None else self.undecided[images],
        )

    def yes_matrix(self) -> Bools:
        """Return the label sets as a dense matrix, shape (n, C)."""
        dense = np.zeros((len(self), self.n_classes), bool)
        yes = self.state == YES
        dense[self.rows[yes], self.classes[yes]] = True
        return dense
