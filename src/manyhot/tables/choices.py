"""Votes in which a rater chose one class of all, as answers yes and no, and back.

A rater who chose a class answered yes to it, and no to every other class. The answers to classes that some
rater chose for the image are stored; all others are no.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import ClassList
from manyhot.core.answers import NO, YES
from manyhot.core.array_types import Bools, Ints, Ints8, Ints64
from manyhot.core.choices import Choices
from manyhot.core.distinct import distinct_keys
from manyhot.errors import InputError, MatchError, and_more, counted, first_names
from manyhot.tables.own_classes import are_numbers, own_list
from manyhot.tables.votes import COUNTED_CLASS, ONE_CLASS, Votes, numbered

UNDECIDED = -2
"""In `ChoiceColumns.class_id`, an answer that names no class because the rater could not decide."""


@dataclass(frozen=True, eq=False)
class ChoiceColumns:
    """One vote per row: an image, a rater and a class.

    Attributes
    ----------
    image_id, rater_id : pyarrow.ChunkedArray of string, shape (m,)
    class_id : ndarray of int, shape (m,)
    kind : str
        `ONE_CLASS`, or `COUNTED_CLASS` if it is unknown who gave the votes.
    left_out : tuple of str
        Other content of the file.
    order : ndarray of int, shape (m,), optional
        When each vote was given, as times or numbers. If a rater answered an image several times, the last
        answer counts.
    more : pyarrow.Table, optional
        The page and the times of each vote, as optional columns of the votes table, shape (m,).
    """

    image_id: pa.ChunkedArray
    rater_id: pa.ChunkedArray
    class_id: Ints
    classes: ClassList
    name: str
    kind: str = ONE_CLASS
    left_out: tuple[str, ...] = ()
    order: Ints | None = None
    more: pa.Table | None = None

    def last_answers(self) -> ChoiceColumns:
        """Return the choices without those that the same rater later replaced for the same image."""
        if self.order is None or not len(self.order):
            return self
        (_, image), (raters, rater) = numbered(self.image_id), numbered(self.rater_id)
        _, cell = np.unique(image * len(raters) + rater, return_inverse=True)
        last = np.full(cell.max() + 1, self.order.min())
        np.maximum.at(last, cell, self.order)
        is_last = self.order == last[cell]
        n = len(np.unique(np.stack([cell, self.order])[:, ~is_last], axis=1).T)
        repeated = f"{counted(n, 'answer')} that a rater gave again later"
        return replace(self._only(is_last, *([repeated] if n else [])), order=None)

    def decided(self, undecided: Collection[str]) -> ChoiceColumns:
        """Return the choices without answers that are `UNDECIDED`, which the texts `undecided` express.

        A rater's later answer counts even if it is undecided, so `last_answers` must come first.
        """
        has_class = self.class_id != UNDECIDED
        if has_class.all():
            return self
        lost = len(self.image_id.unique()) - len(self.image_id.filter(pa.array(has_class)).unique())
        return self._only(has_class, undecided_text(int(np.count_nonzero(~has_class)), undecided, lost))

    def _only(self, keep: Bools, *left_out: str) -> ChoiceColumns:
        """Return some of the choices, and what else is left out."""
        mask = pa.array(keep)
        return replace(
            self,
            image_id=self.image_id.filter(mask),
            rater_id=self.rater_id.filter(mask),
            class_id=self.class_id[keep],
            left_out=(*self.left_out, *left_out),
            order=None if self.order is None else self.order[keep],
            more=None if self.more is None else self.more.filter(mask),
        )

    def to_votes(self) -> Votes:
        """Return votes in which each rater chose one class per image.

        Raises
        ------
        InputError
            If a class is not in the list.
        MatchError
            If a rater chooses more than one class for an image.
        """
        (images, image), (raters, rater) = numbered(self.image_id), numbered(self.rater_id)
        self._check_once(images, image, raters, rater)
        pairs = distinct_keys(image * len(self.classes) + self.class_id)
        question, vote, answer = _answers(image, rater, self.class_id, pairs, len(self.classes))
        more = None if self.more is None else self.more.take(pa.array(vote))
        return self._votes(images, raters, question, rater[vote], answer, pairs, more)

    def to_sets(self, shown: str = "all", offered: Collection[int] = ()) -> Votes:
        """Return yes and no answers of raters who may choose several classes per image.

        Parameters
        ----------
        shown : {"all", "chosen"}
            The classes that raters were asked about: all classes, or the classes that some rater chose for
            the image.
        offered : collection of int
            Further classes that the file names: raters could choose them.

        Raises
        ------
        InputError
            If there are more than `MOST_SHEET_ANSWERS` answers.
        """
        (images, image), (raters, rater) = numbered(self.image_id), numbered(self.rater_id)
        k = len(self.classes)
        none = self.class_id < 0
        chosen = np.where(none, 0, self.class_id)
        yes = distinct_keys((image * len(raters) + rater)[~none] * k + chosen[~none])
        seen, at_cell = np.unique(image * len(raters) + rater, return_inverse=True)
        assumed = tuple[int, ...]()
        if shown == "all":
            named = {*chosen[~none].tolist(), *offered}
            assumed = tuple(c for c in range(k) if named and c not in named)
            pairs = (np.arange(len(images))[:, None] * k + np.arange(k)).ravel()
            _check_size(len(seen) * k)
        else:
            pairs = distinct_keys((image * k + chosen)[~none])
        seen_image, seen_rater = np.divmod(seen, len(raters))
        question, vote = _questions(seen_image, pairs, k)
        cell = seen[vote] * k + pairs[question] % k
        at = np.minimum(np.searchsorted(yes, cell), max(len(yes) - 1, 0))
        is_yes = yes[at] == cell if len(yes) else np.zeros(len(cell), bool)
        answer = np.where(is_yes, YES, NO).astype(np.int8)
        order = np.lexsort((seen_rater[vote], question))
        arrays = question[order], seen_rater[vote][order], answer[order]
        more = None if self.more is None else _of_sets(self.more, at_cell).take(pa.array(vote[order]))
        votes = self._votes(images, raters, *arrays, pairs, more)
        return replace(votes, kind="", assumed_classes=assumed)

    def _votes(
        self,
        images: pa.Array,
        raters: pa.Array,
        question: Ints,
        rater: Ints,
        answer: Ints8,
        pairs: Ints,
        more: pa.Table | None,
    ) -> Votes:
        image, class_id = np.divmod(pairs, len(self.classes))
        return Votes(
            images.take(pa.array(image)),
            class_id.astype(np.int32),
            raters,
            question.astype(np.int32),
            rater.astype(np.int32),
            answer,
            len(self.classes),
            self.classes.hash,
            self.name,
            more,
            left_out=self.left_out,
            class_list=own_list(self.classes),
            kind=self.kind,
        )

    def _check_once(self, images: pa.Array, image: Ints, raters: pa.Array, rater: Ints) -> None:
        cells = image * np.int64(len(raters)) + rater
        ordered = np.sort(cells)
        twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        if not len(twice):
            return
        at, who = divmod(int(twice[0]), len(raters))
        chosen = dict.fromkeys(self.classes.keys[c] for c in self.class_id[cells == twice[0]])
        same = len(chosen) == 1
        keep = "remove the other rows" if same else "keep one class"
        keep += ", or name the column with the times of the votes answered_at, so that the last one counts"
        sets = ", or, if raters chose sets of classes, use the format choices(several=True)"
        raise MatchError(
            f"A rater {'voted more than once' if same else 'chose more than one class'} for an image.",
            where=f"{self.name or 'votes'}, image {images[at]}{and_more(len(twice) - 1)}",
            got=f"rater {raters[who]}: {', '.join(list(chosen)[:5])}" + ", twice" * same,
            allowed="one class per rater and image",
            do=keep if same else keep + sets,
        )


def undecided_text(n: int, undecided: Collection[str], n_images: int = 0) -> str:
    """Return what is left out: n answers by which raters say that they cannot decide on a class.

    `n_images` is the number of images with no other answer.
    """
    alone = f", the only ones on {counted(n_images, 'image')}" if n_images else ""
    return (
        f"{counted(n, 'answer')} without a class ({first_names([*map(str.strip, undecided)])}){alone}; if a "
        "class is called so, pass the list of all classes as `classes`"
    )


def _of_sets(more: pa.Table, cell: Ints) -> pa.Table:
    """Return the page and the times of each set of classes, in the order of the sets.

    A set is shown when its first row is, and answered when its last row is.
    """
    ways = {"page_id": "first", "shown_at": "min", "answered_at": "max"}
    names = [name for name in ways if name in more.column_names]
    grouped = more.select(names).append_column("cell", pa.array(cell)).group_by("cell", use_threads=False)
    sets = grouped.aggregate([(name, ways[name]) for name in names]).sort_by("cell")
    return sets.select([f"{name}_{ways[name]}" for name in names]).rename_columns(names)


MOST_SHEET_ANSWERS = 50_000_000
"""Maximum number of answers to all classes; more need several GB."""


def _check_size(n: int) -> None:
    if n > MOST_SHEET_ANSWERS:
        raise InputError(
            "There are too many answers, because each rater was asked about all classes.",
            got=f"{n:,} answers",
            allowed=f"up to {MOST_SHEET_ANSWERS:,}",
            do="use choices(several=True, shown='chosen'), so that only classes that some rater chose for "
            "an image count as shown",
        )


def choices_of(votes: Votes) -> Choices:
    """Return raters' choices as arrays, with images and raters numbered as in `votes`."""
    yes = votes.answer == YES
    question = votes.question[yes]
    return Choices(
        votes.image[question],
        votes.rater[yes],
        votes.class_id[question],
        len(votes.images),
        votes.n_raters,
        votes.n_classes,
        votes.kind != COUNTED_CLASS,
    )


def golden_choices(votes: Votes, experts: Votes, truth: Bools) -> Ints64:
    """Return the rater, the valid class and the chosen class of choices, shape (3, m).

    Parameters
    ----------
    votes : Votes
        Votes in which each rater chose one class.
    experts : Votes
        The golden questions. Images without exactly one valid class are left out.
    truth : ndarray of bool, shape (G,)
        Whether the class of each golden question is valid.
    """
    image, size = experts.image[truth], len(experts.images) + 1  # the last is all other images
    n_valid, valid = np.bincount(image, minlength=size), np.zeros(size, np.int64)
    valid[image] = experts.class_id[truth]
    yes = votes.answer == YES
    question = votes.question[yes]
    at = pc.index_in(votes.images, experts.images).fill_null(-1).to_numpy()[votes.image[question]]
    choices = np.stack([votes.rater[yes], valid[at], votes.class_id[question]])
    return np.asarray(choices[:, n_valid[at] == 1], np.int64)


def note_on_numbers(votes: Votes) -> str:
    """Return a note if votes are for numbers without names, and none is for 0; empty for other votes."""
    own = votes.class_list
    listed = "pass the list of all classes as `classes`"
    if own is None or (own.is_complete and (votes.class_id[votes.question[votes.answer == YES]] == 0).any()):
        return ""
    if own.is_complete and are_numbers(own.keys):
        highest = len(own) - 1
        return f"no vote is for 0, but the classes are 0 to {highest}; if there is no class 0, {listed}"
    if not own.is_complete and are_numbers(("0", *own.keys)):
        return f"no vote is for 0, so the classes are 1 to {len(own)}; if there is a class 0, {listed}"
    return ""


def with_questions(votes: Votes, image: Ints, class_id: Ints) -> Votes:
    """Return the votes with additional classes, to which all raters of the image answered no.

    Parameters
    ----------
    votes : Votes
        Votes in which each rater chose one class.
    image, class_id : ndarray of int, shape (c,)
        Positions in `votes.images`, and the additional classes. They may include classes that raters chose.
    """
    k = np.int64(votes.n_classes)
    own = votes.image * k + votes.class_id
    pairs = distinct_keys(np.concatenate([own, image * k + class_id]))
    if len(pairs) == len(own):
        return votes
    choices = choices_of(votes)
    question, vote, answer = _answers(choices.image, choices.rater, choices.chosen, pairs, votes.n_classes)
    chosen = pa.array(np.flatnonzero(votes.answer == YES)[vote])
    at, classes = np.divmod(pairs, k)
    return replace(
        votes,
        image_id=votes.images.take(pa.array(at)),
        class_id=classes.astype(np.int32),
        question=question.astype(np.int32),
        rater=choices.rater[vote].astype(np.int32),
        answer=answer,
        more=None if votes.more is None else votes.more.take(chosen),
    )


def _answers(image: Ints, rater: Ints, chosen: Ints, pairs: Ints, n_classes: int) -> tuple[Ints, Ints, Ints8]:
    """Return the question, the vote and the answer of each rater of an image to each question, sorted."""
    question, vote = _questions(image, pairs, n_classes)
    is_yes = pairs[question] % n_classes == chosen[vote]
    order = np.lexsort((rater[vote], question))
    return question[order], vote[order], np.where(is_yes, YES, NO).astype(np.int8)[order]


def _questions(image: Ints, pairs: Ints, n_classes: int) -> tuple[Ints, Ints]:
    """Return each question of the image of each vote, and the vote."""
    starts = np.searchsorted(pairs, np.arange(int(image.max(initial=-1)) + 2) * np.int64(n_classes))
    n = np.diff(starts)[image]
    vote = np.repeat(np.arange(len(image)), n)
    return np.arange(len(vote)) + np.repeat(starts[image] - np.cumsum(n) + n, n), vote
