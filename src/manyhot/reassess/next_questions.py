"""Votes to the questions that are worth another answer: `manyhot next`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc
from scipy.special import logit

from manyhot import tables
from manyhot.classes import ClassList
from manyhot.command import command
from manyhot.console import fact_lines
from manyhot.core.array_types import Floats
from manyhot.core.next_questions import (
    MAX_AHEAD,
    RANKINGS,
    Ranking,
    average_rater,
    choose_questions,
    disagreement,
    entropy,
    expected_change,
    flip_probability,
)
from manyhot.core.next_questions import settled as _is_settled
from manyhot.errors import InputError, MatchError, UnknownNameError
from manyhot.files import sha256
from manyhot.formats import read_proposals
from manyhot.parameters import Between, Count, InCampaign, Probability
from manyhot.reassess.aggregate import METHOD, Aggregated, aggregate
from manyhot.reassess.answers import (
    ClassesLike,
    OriginalClasses,
    TableLike,
    VotesLike,
    answers_of,
    as_arrow,
    open_votes,
)
from manyhot.result import Result
from manyhot.run import QUIET, Run
from manyhot.tables import STATES, Votes, check, one_chunk, schema
from manyhot.tables.columns import INT, REAL, TEXT
from manyhot.tables.definitions import declare_table

WITH_GOLDEN = "golden-bayes"
"""The method by default if there are golden answers: it fits nothing, so that it takes no time."""

declare_table(
    "questions",
    (
        TEXT("image_id", "as in images"),
        INT("class_id", "as in classes"),
        REAL("score", "of the ranking; the highest is asked first"),
        REAL("p", "probability that the class is in the image, given the answers so far"),
        TEXT("state", "by that probability and the threshold", values=STATES),
        INT("n_votes", "answers so far"),
    ),
)


@dataclass(frozen=True, eq=False)
class NextQuestions(Result):
    """The questions to ask next, and how many need no further answer.

    Attributes
    ----------
    questions : pyarrow.Table
        The table ``questions``: those to ask, the first one first.
    n_questions : int
        All of them.
    n_full : int
        Those that get no more: they have as many answers as a question may have, or this rater answered them.
    n_settled : int
        Others whose state the answers that they may still get would hardly change.
    n_open : int
        The rest, from which those of the table are taken.
    changes : float
        Open questions whose state is expected to change with all the answers that they may still get.
    max_answers : int
        Answers that a question may have.
    notes, metadata, inputs
        As in `Result`.
    """

    NAMES = ("questions",)

    questions: pa.Table
    n_questions: int
    n_full: int
    n_settled: int
    n_open: int
    changes: float
    max_answers: int

    def to_json(self) -> dict[str, Any]:
        """Return how many questions are full, settled, open and asked next."""
        return {
            "questions": self.n_questions,
            "full": self.n_full,
            "settled": self.n_settled,
            "open": self.n_open,
            "asked": len(self.questions),
            "changes": self.changes,
        }

    def lines(self) -> Iterator[str]:
        """Yield how many questions are full, settled, open and asked next."""
        full = f"get no more answers: {self.max_answers} at most (--max-answers)"
        yield from fact_lines(
            [
                ("questions", f"{self.n_questions:,}", ""),
                ("full", f"{self.n_full:,}", full),
                ("settled", f"{self.n_settled:,}", "will hardly change any more (--settled)"),
                ("open", f"{self.n_open:,}", f"of which {self.changes:,.1f} are expected to change"),
                ("asked next", f"{len(self.questions):,}", "one answer each (--budget)"),
            ]
        )
        if not self.n_open:
            change = f"--max-answers {self.max_answers + 3}" if self.n_full else "a lower --settled"
            yield f"no question is open; to ask on: {change}"


@command(
    "next",
    examples=("manyhot next campaign --budget 1000",),
    out=InCampaign("votes", "next.csv"),
)
def next_questions(
    votes: VotesLike,
    *,
    budget: Count,
    by: Ranking = "expected-change",
    max_answers: Count = 5,
    settled: Annotated[float, Between(0, 1, ")")] = 0.01,
    rater: str = "",
    proposals: TableLike = None,
    golden: TableLike = None,
    images: TableLike = None,
    classes: ClassesLike = None,
    format: str | None = None,
    method: str = "",
    threshold: Probability | None = None,
    original_classes: OriginalClasses = None,
    run: Run = QUIET,
) -> NextQuestions:
    """Rank the questions that are worth another answer, and count those that are settled.

    Parameters
    ----------
    votes
        Votes in any format, a campaign, or imagenet-real, which is downloaded.
    budget
        Answers to ask for now, one a question; what is open or settled does not depend on it.
    by
        What ranks a question: how far further answers are expected to change its state, the entropy of its
        probability, or the disagreement of its answers.
    max_answers
        Answers that a question may have, those included that it has.
    settled
        A question is settled if all the answers that it may still get change its state with no more than this
        probability; with 0, if they cannot.
    rater
        Who will answer: questions that this rater answered are left out, and all further answers are taken
        to be as good as this rater's. By default they are as good as those of the mean rater, weighted by the
        number of answers.
    proposals
        Proposals table: questions that nobody answered are ranked, too; by default those of the campaign.
    golden
        Experts' answers; those of the campaign by default.
    images
        Images table with original labels, which count as a rater in golden-bayes; by default those of the
        campaign.
    classes
        Class list: one key a line, a table with key and name, or imagenet1k, imagenet-a, imagenet-r. By
        default that of the campaign.
    format
        Format of the votes, or a call string: "crowd-kit(separator='|')".
    method
        An aggregator that learns how raters answer: golden-bayes, dawid-skene or one-coin. By default
        golden-bayes if there are golden answers, otherwise dawid-skene.
    threshold
        Probability from which a class is valid; 0.8 by default.
    original_classes
        Classes for which the original label counts as a rater in golden-bayes, such as 0-397; all by default.
    run
        Its command line and its progress.

    Returns
    -------
    NextQuestions

    Raises
    ------
    InputError
        The method does not learn how raters answer, or a number is out of range.
    MatchError
        Proposals and votes are over different class lists.
    UnknownNameError
        There is no such ranking or rater.
    """
    if by not in RANKINGS:
        raise UnknownNameError(f"There is no ranking {by!r}.", allowed=", ".join(RANKINGS))
    source = open_votes(votes, golden, images, classes=classes, format=format, run=run)
    inputs, proposals = dict(source.inputs), source.proposals() if proposals is None else proposals
    asked = source.votes
    if proposals is not None:
        asked = _with_proposals(asked, _proposals(proposals, asked, source.classes))
        if isinstance(proposals, str | os.PathLike):
            inputs[Path(proposals).name] = sha256(proposals)
    aggregated = aggregate(
        asked,
        source.golden,
        source.images,
        method=method or (METHOD if source.golden is None else WITH_GOLDEN),
        threshold=threshold,
        original_classes=source.original_classes or None if original_classes is None else original_classes,
        resamples=0,
    )
    counts = answers_of(asked).counts()
    odds, matrix = logit(aggregated.p), _matrix(aggregated, rater)
    left = np.clip(max_answers - counts.sum(1), 0, MAX_AHEAD)
    free = (left > 0) & ~_answered(asked, rater)
    if asked.refined is not None:
        free[asked.refined.question] = False  # somebody decided
    is_settled = _is_settled(odds, matrix, left, threshold=aggregated.threshold, at_most=settled)
    unsettled = free & ~is_settled
    score = _scores(by, odds, matrix, left, aggregated.threshold, counts)
    chosen = choose_questions(score, budget, unsettled)
    return NextQuestions(
        _table(aggregated, chosen, score, counts.sum(1)),
        asked.n_questions,
        int(np.count_nonzero(~free)),
        int(np.count_nonzero(free & is_settled)),
        int(np.count_nonzero(unsettled)),
        _changes(odds[unsettled], matrix, left[unsettled], aggregated.threshold),
        max_answers,
        metadata={"method": aggregated.method, "by": by},
        inputs=inputs,
    )


def _with_proposals(votes: Votes, table: pa.Table) -> Votes:
    """Return votes with the proposals that nobody answered as further questions."""
    ids = pa.concat_arrays([votes.image_id.cast(pa.string()), one_chunk(table["image_id"])])
    classes = np.concatenate([votes.class_id, one_chunk(table["class_id"]).to_numpy()])
    code = pc.dictionary_encode(ids).indices.to_numpy().astype(np.int64)
    _, first = np.unique(code * (int(classes.max(initial=0)) + 1) + classes, return_index=True)
    kept = np.concatenate([np.arange(votes.n_questions), np.sort(first[first >= votes.n_questions])])
    return replace(votes, image_id=ids.take(pa.array(kept)), class_id=classes[kept].astype(np.int32))


def _scores(
    by: Ranking,
    odds: Floats,
    matrix: Floats,
    left: npt.NDArray[np.integer],
    threshold: float,
    counts: npt.NDArray[np.integer],
) -> Floats:
    if by == "entropy":
        return entropy(odds)
    if by == "disagreement":
        return disagreement(counts)
    return expected_change(odds, matrix, ahead=left, threshold=threshold)


def _matrix(aggregated: Aggregated, rater: str) -> Floats:
    """Return the quality of who answers next, shape (2, A)."""
    matrices = aggregated.result.matrices
    if matrices is None or matrices.shape[1] != 2:
        raise InputError(
            "This method does not estimate how raters answer if a class is present, and if it is absent.",
            got=aggregated.method,
            allowed="golden-bayes, dawid-skene, one-coin",
        )
    votes = aggregated.votes
    if rater:
        return np.asarray(matrices[_index(votes, rater)])
    return average_rater(matrices, np.bincount(votes.rater, minlength=votes.n_raters))


def _index(votes: Votes, rater: str) -> int:
    place = pc.index(votes.rater_id, rater).as_py()
    if place < 0:
        names = votes.rater_id.to_pylist()
        near = difflib.get_close_matches(rater, names, n=1)
        raise UnknownNameError(
            f"There are no answers of the rater {rater!r}.",
            where=votes.name or None,
            allowed=", ".join(names[:10]) + (", …" if len(names) > 10 else ""),
            do=f"did you mean {near[0]!r}?" if near else "leave the rater out for one of average quality",
        )
    return int(place)


def _answered(votes: Votes, rater: str) -> npt.NDArray[np.bool_]:
    answered = np.zeros(votes.n_questions, bool)
    if rater:
        answered[votes.question[votes.rater == _index(votes, rater)]] = True
    return answered


def _changes(odds: Floats, matrix: Floats, left: npt.NDArray[np.integer], threshold: float) -> float:
    total = 0.0
    for n in np.unique(left):
        total += float(flip_probability(odds[left == n], matrix, ahead=int(n), threshold=threshold).sum())
    return total


def _table(
    aggregated: Aggregated, chosen: npt.NDArray[np.intp], score: Floats, n_votes: npt.NDArray[np.integer]
) -> pa.Table:
    votes, p = aggregated.votes, aggregated.p[chosen]
    states = np.where(p >= aggregated.threshold, "yes", "no")
    return pa.table(
        {
            "image_id": votes.image_id.take(pa.array(chosen)),
            "class_id": pa.array(votes.class_id[chosen], pa.int32()),
            "score": pa.array(score[chosen]),
            "p": pa.array(p),
            "state": pa.array(states.astype(object), pa.string()),
            "n_votes": pa.array(n_votes[chosen], pa.int32()),
        },
        schema=schema("questions"),
    )


def _proposals(proposals: TableLike, votes: Votes, classes: ClassList | None) -> pa.Table:
    """Return proposals, and refuse those over another class list than the votes."""
    is_file = isinstance(proposals, str | os.PathLike)
    table = read_proposals(proposals, classes=classes) if is_file else as_arrow(proposals, "proposals")
    theirs = tables.metadata(table).get("classes", "")
    if theirs and votes.class_hash and theirs != votes.class_hash:
        raise MatchError(
            "The proposals are over another class list than the votes.",
            where=proposals if is_file else None,
            got=f"class list {theirs}",
            allowed=f"class list {votes.class_hash}",
            do="give the proposals that the votes answer",
        )
    return check(table, "proposals")
