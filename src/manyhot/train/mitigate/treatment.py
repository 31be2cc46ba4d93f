"""Labels of images to fit on and images held out, and of their altered copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy import typing as npt

from manyhot.classes import ClassList
from manyhot.core.companion_effects import (
    BOTH,
    MAIN_ONLY,
    NEITHER,
    BalancePlan,
    Resampled,
    plan,
    split_by_pair,
)
from manyhot.core.sets import NO, NO_LABEL, UNCLEAR, YES
from manyhot.errors import InputError, MatchError
from manyhot.tables import Labels, Objects
from manyhot.tables.sets import States, original_labels, states_of_labels, states_of_objects
from manyhot.train.mitigate.held_out import HeldOutImages
from manyhot.train.splits import SplitLabels

Pair = tuple[int, int]
"""A main class and its companion."""

Bools = npt.NDArray[np.bool_]
LabelArray = npt.NDArray[np.integer]


def states_and_labels(
    objects: Objects, labels: Labels | None, classes: ClassList
) -> tuple[States, LabelArray]:
    """Return label sets and original labels, from labels or else from objects.

    Raises
    ------
    MatchError
        Labels and objects have different class lists.
    """
    if labels is None:
        states = states_of_objects(objects, classes)
        return states, np.full(len(states.image_id), NO_LABEL)
    if labels.n_classes != len(classes) or labels.class_hash not in ("", classes.hash):
        raise MatchError(
            "Labels and objects have different class lists.",
            where=labels.name or None,
            got=f"{labels.n_classes:,} classes, class list {labels.class_hash or 'unknown'}",
            allowed=f"{len(classes):,} classes, class list {classes.hash}, as the objects",
            do="give the list of all classes with --classes, and label the images with it",
        )
    return states_of_labels(labels, classes), original_labels(labels)


@dataclass(frozen=True, eq=False)
class Added:
    """Altered images that a head is also fitted on.

    Attributes
    ----------
    rows : ndarray of int, shape (k,)
        The original images.
    features : ndarray of float, shape (k, D)
    weight : float
        Weight of each, relative to an image that was not altered.
    main : bool
        Whether the main class is valid.
    gone : int
        The class that was removed; `NO_LABEL` if none was.
    """

    rows: npt.NDArray[np.intp]
    features: Any
    weight: float
    main: bool
    gone: int = NO_LABEL


@dataclass(frozen=True, eq=False)
class MitigationLabels(SplitLabels):
    """Labels of images to fit on and images held out, and of their altered copies."""

    @cached_property
    def fitting(self) -> npt.NDArray[np.intp]:
        """The rows that are fitted on."""
        return np.flatnonzero(~self.held)

    @cached_property
    def labelled(self) -> bool:
        """Whether there are original labels to fit to."""
        return bool((self.label[self.fitting] != NO_LABEL).any())

    @cached_property
    def single(self) -> npt.NDArray[np.uint8]:
        """The original label as a label set of one class, shape (n, C)."""
        state = np.where(self.label[:, None] == np.arange(len(self.classes)), YES, NO)
        return np.where(self.label[:, None] == NO_LABEL, UNCLEAR, state).astype(np.uint8)

    def splits(self, pair: Pair) -> npt.NDArray[np.int8]:
        """Return the split of a pair that each image is in; see `manyhot.core.companion_effects.split`."""
        return split_by_pair(*self.state[:, list(pair)].T)

    def both(self, pair: Pair) -> Bools:
        """Return the images that show both."""
        return np.asarray(self.splits(pair) == BOTH)

    def alone(self, pair: Pair) -> Bools:
        """Return the images to fit on that show the main class without its companion."""
        return np.asarray((self.splits(pair) == MAIN_ONLY) & ~self.held)

    def neither(self, pair: Pair) -> Bools:
        """Return the images to fit on that show neither."""
        return np.asarray((self.splits(pair) == NEITHER) & ~self.held)

    def plan(self, pair: Pair, capped: bool) -> BalancePlan:
        """Return how many altered images are to be added to those that are fitted on."""
        splits = self.splits(pair)[self.fitting]
        return plan(*np.bincount(splits[splits >= 0], minlength=4).tolist(), capped=capped)

    def relabelled(self, added: Added, pair: Pair) -> LabelArray:
        """Return single labels of altered images: if a class was removed, the other one of the pair."""
        label = self.label[added.rows]
        other = pair[0] if added.gone == pair[1] else pair[1]
        return np.where((label == added.gone) & (label != NO_LABEL), other, label)

    def labels(self, added: Sequence[Added], pair: Pair) -> LabelArray:
        """Return the single labels that a softmax is fitted to, of images and of altered ones."""
        return np.concatenate([self.label[self.fitting], *(self.relabelled(a, pair) for a in added)])

    def states(self, added: Sequence[Added], pair: Pair, sets: bool) -> npt.NDArray[np.uint8]:
        """Return the states of the main class that a sigmoid is fitted to, by label sets or single labels."""
        main = pair[0]
        found = [(self.state if sets else self.single)[self.fitting, main]]
        for a in added:
            if sets:
                found.append(np.full(len(a.rows), YES if a.main else NO, np.uint8))
            else:
                there = np.where(self.relabelled(a, pair) == main, YES, NO)
                found.append(np.where(self.label[a.rows] == NO_LABEL, UNCLEAR, there).astype(np.uint8))
        return np.concatenate(found)

    def held_out(self, resamples: int, seed: int) -> HeldOutImages:
        """Return the images held out."""
        held = self.held
        return HeldOutImages(
            self.state[held], self.label[held], Resampled.of(int(held.sum()), resamples, seed)
        )

    def check_pairs(self, pairs: Sequence[Pair], min_images: int) -> None:
        """Refuse pairs that cannot be treated.

        Raises
        ------
        InputError
            A pair has fewer than `min_images` images with both classes to fit on, or none held out.
        """
        for pair in pairs:
            both = self.both(pair)
            fitted, judged = (int((both & h).sum()) for h in (~self.held, self.held))
            if fitted < min_images or not judged:
                raise InputError(
                    "There are too few images with both classes of a pair.",
                    where=":".join(self.classes.names[c] for c in pair),
                    got=f"{fitted:,} to fit on, {judged:,} held out",
                    allowed=f"at least {min_images:,}, and 1",
                    do="leave the pair out, or lower --min-images",
                )


def treatment_note(names: Sequence[str], todo: BalancePlan, added: Sequence[Added]) -> str:
    """Return a note on the images added for a pair, and the remaining difference."""
    start = f"{':'.join(names)}, {todo.before:+.3f} more often beside it than elsewhere"
    if not added:
        return f"{start}: nothing was added"
    counts = " and ".join(f"{len(a.rows):,}" for a in added)
    if len(added) < 2:
        return f"{start}; {counts} altered images count as {todo.amount:,.0f}; the other kind cannot be made"
    what = "with it" if todo.adds else "without it"
    return (
        f"{start}; {counts} altered images ({what} first) count as {todo.amount:,.0f} each, which leaves "
        f"{todo.after:+.3f}; {todo.uncapped:,.0f} would leave 0"
    )
