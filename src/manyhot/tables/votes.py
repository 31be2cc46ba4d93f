"""Votes and golden answers as arrays: each text is stored once, and each vote as three numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manyhot.classes import ClassList
from manyhot.core.answers import ANSWERS, YES
from manyhot.core.array_types import Bools, Ints8, Ints32, Ints64, Positions
from manyhot.errors import MatchError, and_more
from manyhot.parameters import check_one_of
from manyhot.tables.class_list_unions import OverClasses
from manyhot.tables.frames import check_range, examples, one_chunk, with_column
from manyhot.tables.image_ids import Renamed, ids_like
from manyhot.tables.labels import Images, class_list_from_metadata, class_list_in_metadata, keys_in_metadata
from manyhot.tables.schemas import check, metadata, write

_REQUIRED = ("image_id", "class_id", "rater_id", "answer")

ONE_CLASS = "one class"
"""Each rater chose one class of all for an image: answers are one yes, and otherwise no."""

COUNTED_CLASS = "one class, counted"
"""The same, but it is unknown who gave a vote: the votes of each image are numbered in place of raters."""

_KINDS = ("", ONE_CLASS, COUNTED_CLASS)


@dataclass(frozen=True, eq=False)
class Refined:
    """Votes of later rounds (refinement), in which raters decide questions and see the other raters' answers.

    Attributes
    ----------
    question : ndarray of int32, shape (d,)
        The d questions that were decided.
    answer : ndarray of int8, shape (d,)
        The last decision on each question: 0 no, 1 maybe, 2 yes.
    rows : pyarrow.Table
        All decisions, as rows of the votes table.
    """

    question: Ints32
    answer: Ints8
    rows: pa.Table

    def __len__(self) -> int:
        return len(self.question)


@dataclass(frozen=True, eq=False)
class Votes(OverClasses):
    """The answers of R raters to Q questions; a question is an (image, class) pair.

    Attributes
    ----------
    image_id : pyarrow.Array of string, shape (Q,)
    class_id : ndarray of int32, shape (Q,)
        The image and the class of each question.
    rater_id : pyarrow.Array of string, shape (R,)
    question, rater : ndarray of int32, shape (m,)
        The question and the rater of each of m votes.
    answer : ndarray of int8, shape (m,)
        0 no, 1 maybe, 2 yes.
    n_classes : int
    class_hash : str
        The hash of the class list; empty if unknown.
    name : str
    more : pyarrow.Table, optional
        The optional columns of the votes table, one row per vote.
    left_out : tuple of str
        Other content of the file.
    refined : Refined, optional
        Decisions on questions with disagreement. They do not count as votes, because they were made with
        knowledge of the votes.
    class_list : ClassList, optional
        The classes that the file itself names, as in `Labels`.
    kind : str
        Empty if each question was asked by itself; `ONE_CLASS` or `COUNTED_CLASS` if each rater chose one
        class per image. In this case, *no* answers are not stored for classes that no rater chose for the
        image.
    assumed_classes : tuple of int
        The classes that count as asked about only because they are in the class list: no answer names them.
    """

    image_id: pa.Array
    class_id: Ints32
    rater_id: pa.Array
    question: Ints32
    rater: Ints32
    answer: Ints8
    n_classes: int
    class_hash: str = ""
    name: str = ""
    more: pa.Table | None = None
    left_out: tuple[str, ...] = ()
    refined: Refined | None = None
    class_list: ClassList | None = None
    kind: str = ""
    assumed_classes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        rows = np.arange(len(self.class_id))
        check_range(self.class_id, rows, self.image_id, self.n_classes, self.name or "votes")

    def __len__(self) -> int:
        return len(self.answer)

    def __repr__(self) -> str:
        sizes = f"{len(self):,} votes, {self.n_questions:,} questions, {self.n_raters:,} raters"
        return f"Votes({self.name!r}, {sizes})"

    @property
    def n_questions(self) -> int:
        """Number of questions Q."""
        return len(self.class_id)

    @property
    def n_raters(self) -> int:
        """Number of raters R."""
        return len(self.rater_id)

    @cached_property
    def cast(self) -> Positions:
        """The positions of the votes that raters gave: all, or, of one class per image, those for a class."""
        return np.flatnonzero(self.answer == YES) if self.kind else np.arange(len(self))

    @cached_property
    def images(self) -> pa.Array:
        """The ids of the images that raters were asked about, in the order of the questions."""
        return self._encoded.dictionary

    @cached_property
    def image(self) -> Ints32:
        """The position of each question's image in `images`, shape (Q,)."""
        return np.asarray(self._encoded.indices.to_numpy(), np.int32)

    @cached_property
    def _encoded(self) -> pa.DictionaryArray:
        return pc.dictionary_encode(self.image_id)

    def to_table(self) -> pa.Table:
        """Return the votes table, with decisions last."""
        columns = {
            "image_id": self.image_id.take(pa.array(self.question)),
            "class_id": pa.array(self.class_id[self.question]),
            "rater_id": self.rater_id.take(pa.array(self.rater)),
            "answer": pa.DictionaryArray.from_arrays(pa.array(self.answer), list(ANSWERS)).cast(pa.string()),
        }
        more = {} if self.more is None else {n: self.more[n] for n in self.more.column_names}
        table = check(pa.table(columns | more), "votes", where=self.name or None)
        if self.refined is None:
            return table
        return pa.concat_tables([table, self.refined.rows.select(table.column_names).cast(table.schema)])

    def with_refined(self) -> Votes:
        """Return the votes with decisions, as additional answers or in place of raters' earlier answers."""
        if self.refined is None:
            return self
        whole = _encode(self.to_table(), "rater_id", self.name, self.n_classes, self.class_hash)
        whole = replace(whole, left_out=self.left_out, class_list=self.class_list, kind=self.kind)
        return _last_answers(whole, "rater")

    def about(self) -> dict[str, str]:
        """Return the metadata of the file."""
        about = {"n_classes": str(self.n_classes), "classes": self.class_hash, "name": self.name}
        return about | keys_in_metadata(self.class_list) | ({"kind": self.kind} if self.kind else {})

    def check_known(self, images: Images) -> None:
        """Check that the images of votes are in an images table with the same class list.

        Raises
        ------
        MatchError
            If an image is missing, or the labels have a different class list.
        """
        theirs = metadata(images.table).get("classes", "")
        if images.label is not None and self.class_hash and theirs and theirs != self.class_hash:
            raise MatchError(
                "The images' labels and the votes have different class lists.",
                where=images.name or "images",
                got=f"class list {theirs}",
                allowed=f"class list {self.class_hash}",
                do="pass images and votes with the same class list",
            )
        strange = self.images.filter(pc.invert(pc.is_in(self.images, images.image_id)))
        if len(strange):
            raise MatchError(
                "Some votes are about images that are not in the images table.",
                where=self.name or "votes",
                got=f"{len(strange):,} of {len(self.images):,}, such as {examples(strange)}",
                allowed=f"ids such as {examples(images.image_id)}",
                do="pass the images of the votes, or remove these votes",
            )


@dataclass(frozen=True, eq=False)
class Golden:
    """Golden questions, whose truth are experts' answers.

    Attributes
    ----------
    experts : Votes
        The experts' answers. `rater_id` contains the ids of the experts.
    raters : Votes, optional
        Raters' answers to these questions, if they were collected separately. By default, the answers among
        the votes.
    """

    experts: Votes
    raters: Votes | None = None

    def __len__(self) -> int:
        return self.experts.n_questions

    def to_table(self) -> pa.Table:
        """Return the golden table: the experts' answers."""
        names = ["image_id", "class_id", "expert_id", "answer"]
        return check(self.experts.to_table().select(list(_REQUIRED)).rename_columns(names), "golden")


def votes_from_table(table: pa.Table, *, name: str, n_classes: int = 0, class_hash: str = "") -> Votes:
    """Return votes from a table and its metadata. Arguments are used if metadata are missing.

    If a rater answers a question again, the last answer by `round` and `answered_at` counts. If there are
    answers of round 0, answers of round 1 and later are decisions, which are stored in `Votes.refined`.

    Raises
    ------
    InputError
        If the table is not a votes table, or if a class is out of range.
    MatchError
        If a rater answers a question twice and it is unknown which answer is later, or if the hash of the
        table's class list differs from `class_hash`.
    """
    own_name = metadata(table).get("name") or name
    lists = class_list_in_metadata(table, n_classes, class_hash, name)
    votes = _encode(check(table, "votes", where=name), "rater_id", own_name, *lists)
    kind = metadata(table).get("kind", "")
    check_one_of(kind, _KINDS, "There is no such kind of votes.", where=name)
    votes = replace(votes, class_list=class_list_from_metadata(metadata(table), name), kind=kind)
    return _last_answers(_without_decisions(votes), "rater")


def golden_from_table(table: pa.Table, *, name: str, n_classes: int = 0, class_hash: str = "") -> Golden:
    """Return golden answers from a table and its metadata. Arguments are used if metadata are missing.

    Raises
    ------
    InputError, MatchError
        As in `votes_from_table`.
    """
    own_name = metadata(table).get("name") or name
    lists = class_list_in_metadata(table, n_classes, class_hash, name)
    answers = _encode(check(table, "golden", where=name), "expert_id", own_name, *lists)
    answers = replace(answers, class_list=class_list_from_metadata(metadata(table), name))
    return Golden(_last_answers(answers, "expert"))


def write_votes(
    votes: Votes, path: str | os.PathLike[str], *, call: str = "", inputs: Mapping[str, str] | None = None
) -> Path:
    """Write votes to a Parquet file."""
    return write(votes.to_table(), path, "votes", call=call, inputs=inputs, about=votes.about())


def write_golden(
    golden: Golden, path: str | os.PathLike[str], *, call: str = "", inputs: Mapping[str, str] | None = None
) -> Path:
    """Write experts' answers to a Parquet file."""
    return write(golden.to_table(), path, "golden", call=call, inputs=inputs, about=golden.experts.about())


def count_app_answers(path: Path) -> dict[str, int]:
    """Return the number of votes on each page, such as those of the app, in a Parquet file.

    A file that cannot be read has none.
    """
    try:
        with pq.ParquetFile(path) as file:
            if "page_id" not in file.schema_arrow.names:
                return {}
            pages = file.read(["page_id"])["page_id"]
    except (pa.ArrowException, OSError):
        return {}
    counts = pages.drop_null().value_counts().to_pylist()
    return {row["values"]: row["counts"] for row in counts}


def votes_with_ids_like(votes: Votes, ids: pa.Array, *, other_name: str) -> tuple[Votes, Renamed]:
    """Return votes with the ids that another table gives to the same images.

    Parameters
    ----------
    votes : Votes
    ids : pyarrow.Array of string
        The ids of the other table.
    other_name : str
        As in `manyhot.tables.image_ids.ids_like`.

    Raises
    ------
    MatchError
        As in `manyhot.tables.image_ids.match_ids`.
    """
    like = ids_like(votes.images, ids, name=votes.name or "the votes", other_name=other_name)
    if not like.n:
        return votes, like
    refined = votes.refined
    if refined is not None:
        at = pc.index_in(one_chunk(refined.rows["image_id"]), votes.images)
        refined = replace(refined, rows=with_column(refined.rows, "image_id", like.ids.take(at)))
    return replace(votes, image_id=like.ids.take(pa.array(votes.image)), refined=refined), like


def find_questions(asked: Votes, among: Votes) -> Ints64:
    """Return the position in `among` of each question of `asked`, shape (Q,); -1 if it is not in `among`."""
    image = pc.fill_null(pc.index_in(asked.images, among.images), -1).to_numpy().astype(np.int64)[asked.image]
    n = np.int64(max(asked.n_classes, among.n_classes, 1))
    queries, keys = image * n + asked.class_id, among.image.astype(np.int64) * n + among.class_id
    order = np.argsort(keys, kind="stable")
    at = np.searchsorted(keys, queries, sorter=order)
    at = order[np.minimum(at, len(order) - 1)] if len(order) else np.zeros(len(queries), np.int64)
    there = (image >= 0) & (len(order) > 0)
    there[there] = keys[at[there]] == queries[there]
    return np.where(there, at, -1)


def _encode(table: pa.Table, who: str, name: str, n_classes: int, class_hash: str) -> Votes:
    images, image = numbered(table["image_id"])
    raters, rater = numbered(table[who])
    class_id = one_chunk(table["class_id"]).to_numpy().astype(np.int64)
    check_range(class_id, np.arange(len(table)), one_chunk(table["image_id"]), n_classes, name)
    pairs = image * max(n_classes, 1) + class_id
    unique, question = np.unique(pairs, return_inverse=True)
    # One order whatever the order of the rows, because sums of floats and drawn samples depend on it.
    order = np.lexsort((np.arange(len(table)), rater, question))
    extra = [n for n in table.column_names if n not in (*_REQUIRED, who)]
    answer = pc.index_in(one_chunk(table["answer"]), pa.array(ANSWERS)).to_numpy().astype(np.int8)
    return Votes(
        images.take(pa.array(unique // max(n_classes, 1))),
        (unique % max(n_classes, 1)).astype(np.int32),
        raters,
        question[order].astype(np.int32),
        rater[order].astype(np.int32),
        answer[order],
        n_classes,
        class_hash,
        name,
        table.select(extra).take(pa.array(order)) if extra else None,
    )


def _without_decisions(votes: Votes) -> Votes:
    """Return the votes without answers of later rounds, which become decisions, if there are others."""
    if votes.more is None or "round" not in votes.more.column_names:
        return votes
    late = pc.fill_null(pc.greater(votes.more["round"], 0), False).to_numpy()
    if not late.any() or late.all():
        return votes
    rows = np.flatnonzero(late)
    keys = [when[rows] for when, _ in reversed(_times(votes))] + [votes.question[rows].astype(np.int64)]
    order = rows[np.lexsort(keys)]
    last = order[np.append(np.diff(votes.question[order]) > 0, True)]
    refined = Refined(votes.question[last], votes.answer[last], votes.to_table().take(pa.array(rows)))
    early = np.flatnonzero(~late)
    raters, rater = np.unique(votes.rater[early], return_inverse=True)
    return replace(
        votes,
        rater_id=votes.rater_id.take(pa.array(raters)),
        question=votes.question[early],
        rater=rater.astype(np.int32),
        answer=votes.answer[early],
        more=votes.more.take(pa.array(early)),
        refined=refined,
    )


def numbered(column: pa.ChunkedArray) -> tuple[pa.Array, Ints64]:
    """Return the sorted distinct texts of a column, and the position of each row's text among them."""
    encoded = pc.dictionary_encode(one_chunk(column))
    order = pc.sort_indices(encoded.dictionary)
    place = np.empty(len(order), np.int64)
    place[order.to_numpy()] = np.arange(len(order))
    return encoded.dictionary.take(order), place[encoded.indices.to_numpy()]


def _last_answers(votes: Votes, who: str) -> Votes:
    """Return the votes without those that their rater changed later."""
    cells = votes.question.astype(np.int64) * votes.n_raters + votes.rater
    ordered = np.sort(cells)
    if not (ordered[1:] == ordered[:-1]).any():
        return votes
    times = _times(votes)
    order = np.lexsort((*reversed([when for when, _ in times]), cells))
    same = cells[order][1:] == cells[order][:-1]
    unclear = same & ~_is_later(times, order)
    if unclear.any():
        raise _twice(votes, who, int(order[np.argmax(unclear)]), int(np.count_nonzero(unclear)), bool(times))
    last = np.sort(order[np.append(~same, True)])
    return replace(
        votes,
        question=votes.question[last],
        rater=votes.rater[last],
        answer=votes.answer[last],
        more=None if votes.more is None else votes.more.take(pa.array(last)),
    )


_Times = list[tuple[Ints64, Bools]]


def _times(votes: Votes) -> _Times:
    """Return the columns that order a rater's answers, each with its validity, the most important first."""
    if votes.more is None:
        return []
    columns = [one_chunk(votes.more[n]) for n in ("round", "answered_at") if n in votes.more.column_names]
    return [
        (pc.fill_null(c.cast(pa.int64()), 0).to_numpy(), c.is_valid().to_numpy(zero_copy_only=False))
        for c in columns
    ]


def _is_later(times: _Times, order: Positions) -> Bools:
    """Return whether each vote is known to be later than the one before it in `order`, shape (m - 1,).

    The first column in which two votes differ decides; an unknown time differs from all others.
    """
    later, decided = np.zeros(len(order) - 1, bool), np.zeros(len(order) - 1, bool)
    for when, valid in times:
        both = valid[order][1:] & valid[order][:-1]
        differ = (valid[order][1:] != valid[order][:-1]) | (both & (when[order][1:] != when[order][:-1]))
        later |= differ & both & ~decided
        decided |= differ
    return later


def _twice(votes: Votes, who: str, vote: int, n: int, timed: bool) -> MatchError:
    question = int(votes.question[vote])
    image, class_id = votes.image_id[question], votes.class_id[question]
    return MatchError(
        f"{'An expert' if who == 'expert' else 'A rater'} answered a question twice.",
        where=f"{votes.name or 'votes'}, image {image}, class {class_id}{and_more(n - 1)}",
        got=f"{who} {votes.rater_id[int(votes.rater[vote])]}" + (", with the same round and time" * timed),
        allowed=f"one answer per {who} and question, or a column `round` or `answered_at` that gives their "
        "order",
        do="remove one of the answers",
    )
