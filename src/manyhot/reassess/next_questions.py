"""Rank the questions that most need another answer: `manyhot next`."""

from __future__ import annotations

import math
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
from manyhot.core.raters import SPAMMER, informedness_of
from manyhot.errors import InputError, MatchError, UnknownNameError, did_you_mean, first_names
from manyhot.files import sha256
from manyhot.formats import read_proposals
from manyhot.parameters import Between, Count, InCampaign, Probability
from manyhot.reassess.aggregate import aggregate
from manyhot.reassess.aggregated import Aggregated
from manyhot.reassess.aggregators import OriginalClasses
from manyhot.reassess.answers import (
    VOTES_READING,
    TableLike,
    VotesLike,
    VotesReading,
    VotesSource,
    golden_of,
    open_votes,
)
from manyhot.reassess.app.server import DatabaseAddress
from manyhot.reassess.arrow_tables import as_arrow
from manyhot.reassess.first_questions import FirstQuestions, first_questions, with_proposals
from manyhot.reassess.further_answers import annotated_campaign, ask_in_app, check_can_ask
from manyhot.result import Result
from manyhot.run import QUIET, Run
from manyhot.tables import STATES, Campaign, Golden, Votes, check, find_questions, one_chunk, schema
from manyhot.tables.definitions import INT, REAL, TEXT, declare_table
from manyhot.tables.frames import with_column
from manyhot.tables.image_ids import ids_like, without_option
from manyhot.tables.vote_labels import METHOD, answers_of

WITH_GOLDEN = "golden-bayes"
"""The default method if there are golden answers: it fits nothing, and so takes no time."""

declare_table(
    "questions",
    (
        TEXT("image_id", "as in images"),
        INT("class_id", "as in classes"),
        REAL(
            "score", "score by which questions are ranked; the question with the highest score is asked first"
        ),
        REAL("p", "probability that the class is in the image, given the answers so far"),
        TEXT("state", "state at this probability and the threshold", values=STATES),
        INT("n_votes", "answers so far"),
        TEXT.optional("class_name", "name of the class, if it is known"),
    ),
)


@dataclass(frozen=True, eq=False)
class NextQuestions(Result):
    """The questions to ask next, and the numbers of questions that need or do not need further answers.

    Attributes
    ----------
    questions : pyarrow.Table
        The table ``questions``, with the questions to ask in order.
    n_questions : int
        Number of questions.
    n_full : int
        Number of questions that get no more answers, because they have the maximum number of answers, are
        decided, or were answered by this rater.
    n_settled : int
        Number of questions that are not full, but whose state is unlikely to change with further answers.
    n_uncertain : int
        Number of questions whose state is just as unlikely to change, although their probability is between 1
        - threshold and the threshold. They are not settled, but further answers of this quality would be
        unlikely to decide them.
    n_open : int
        Number of remaining questions, from which those in the table are taken.
    changes : float
        Expected number of open questions whose state would change if they got all remaining answers. NaN if
        there are no votes.
    max_answers : int
        Maximum number of answers per question.
    fewest : int
        Minimum number of answers among the questions that are not asked again.
    added : int, optional
        Number of these questions that were added to the pages of raters; None if raters are not asked.
    can_ask : bool
        Whether the campaign has an app that can ask the questions.
    notes, metadata, inputs
        As in `Result`.
    """

    NAMES = ("questions",)

    questions: pa.Table
    n_questions: int
    n_full: int
    n_settled: int
    n_uncertain: int
    n_open: int
    changes: float
    max_answers: int
    fewest: int = 0
    added: int | None = None
    can_ask: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the numbers of questions that are full, settled, open and asked next, and the notes."""
        return {
            "questions": self.n_questions,
            "full": self.n_full,
            "settled": self.n_settled,
            "uncertain": self.n_uncertain,
            "open": self.n_open,
            "asked": len(self.questions),
            "changes": None if math.isnan(self.changes) else self.changes,
            "added": self.added,
            "notes": self.notes,
        }

    def lines(self) -> Iterator[str]:
        """Yield the numbers of questions that are full, settled, open and asked next."""
        full = f"are not asked again, for example after {self.max_answers} answers (`max_answers`)"
        undecided = (
            "have a probability between 1 - threshold and the threshold, and more answers of this quality "
            "would hardly change it"
        )
        changes = "" if math.isnan(self.changes) else f"of which {self.changes:,.1f} are expected to change"
        yield from fact_lines(
            [
                ("questions", f"{self.n_questions:,}", ""),
                ("full", f"{self.n_full:,}", full),
                ("settled", f"{self.n_settled:,}", "are unlikely to change (`settled`)"),
                *([("undecided", f"{self.n_uncertain:,}", undecided)] if self.n_uncertain else []),
                ("open", f"{self.n_open:,}", changes),
                ("asked next", f"{len(self.questions):,}", "one answer each (`budget`)"),
                *([] if self.added is None else [("added", f"{self.added:,}", _ADDED)]),
            ]
        )
        if self.can_ask and self.added is None and len(self.questions):
            yield "next: have the app ask these questions, with `ask`"
        if not self.n_open:
            more = max(self.max_answers, self.fewest) + 3
            change = f"`max_answers`={more}" if self.n_full else "a lower `settled`"
            yield f"no question is open; to ask further questions, set {change}"


_ADDED = "each goes to one more rater, who has not answered it"


@command(
    "next",
    examples=("manyhot next campaign --budget 1000", "manyhot next campaign --budget 1000 --ask"),
    out=InCampaign("votes", "next.csv"),
)
def next_questions(
    votes: VotesLike,
    *,
    budget: Count,
    ask: bool = False,
    by: Ranking = "expected-change",
    max_answers: Count = 5,
    settled: Annotated[float, Between(0, 1, ")")] = 0.01,
    rater: str = "",
    proposals: TableLike = None,
    golden: TableLike = None,
    images: TableLike = None,
    method: str = "",
    threshold: Probability | None = None,
    original_classes: OriginalClasses = None,
    database: DatabaseAddress = None,
    reading: VotesReading = VOTES_READING,
    run: Run = QUIET,
) -> NextQuestions:
    """Rank the questions that most need another answer, and count the settled questions.

    Parameters
    ----------
    votes
        Answers to questions about single classes, in any format of votes; the folder of a campaign, whose
        proposals are ranked by the entropy of their probability if it has no votes yet; or
        imagenet-real for published votes, which are downloaded. Votes for one class per image are refused.
    budget
        Number of answers to ask for now, one per question. It does not affect which questions are open or
        settled.
    ask
        Have one more rater answer each of these questions in the annotation app, which can keep running.
        Export the answers first. Questions that are still waiting for an answer are not asked twice.
    by
        Ranking of the questions: expected change of the state by further answers, entropy of the probability,
        or disagreement of the answers.
    max_answers
        Maximum number of answers per question, including existing ones.
    settled
        A question is settled if further answers change its state with at most this probability; with 0, only
        if they cannot change it.
    rater
        Id of the rater who will answer. Questions that this rater has already answered are left out, and
        further answers are assumed to be as good as this rater's. By default, they are assumed to be as good
        as those of the average rater, with raters weighted by their numbers of answers.
    proposals
        Proposals table, needed to also rank unanswered questions; by default, the table of the campaign.
    golden
        Experts' answers; by default, those of the campaign.
    images
        Images table with original labels, which golden-bayes counts as a rater; by default, the table of the
        campaign.
    method
        An aggregator that learns how raters answer: golden-bayes, auto, dawid-skene or one-coin. The default
        is golden-bayes if there are golden answers, and otherwise auto.
    threshold
        Minimum probability of a valid class; 0.8 by default.
    original_classes
        Classes for which golden-bayes counts the original label as a rater, such as 0-397. By default, all
        classes.
    database
        Address of the database of answers, such as postgresql://HOST/NAME; by default, a file in the campaign
        folder. Used only with `ask`.

    Returns
    -------
    NextQuestions

    Raises
    ------
    InputError
        If the method does not learn how raters answer, a number is out of range, or the questions cannot be
        asked in the app.
    MatchError
        If proposals and votes have different class lists.
    MissingExtraError
        If raters are to be asked, but the extra ``web`` is not installed.
    OutputError
        If raters are to be asked, but the database cannot be used.
    UnknownNameError
        If the ranking or the rater does not exist.
    """
    if by not in RANKINGS:
        raise UnknownNameError(f"There is no ranking {by!r}.", allowed=", ".join(RANKINGS))
    home = annotated_campaign(votes, database)
    if ask:
        check_can_ask(votes, rater, database)
    if not rater and (first := first_questions(votes, proposals)) is not None:
        found, chosen = _found_first(first, budget, max_answers, 0.8 if threshold is None else threshold)
        return _asked(found, home if ask else None, database, first.votes, chosen)
    source = open_votes(votes, golden, images, reading=reading, on_progress=run.on_progress)
    inputs, proposals = dict(source.inputs), source.proposals() if proposals is None else proposals
    asked, matched = source.votes, tuple[str, ...]()
    _check_about_questions(asked, source.name)
    if proposals is not None:
        proposed, matched = _proposals(proposals, source)
        asked = with_proposals(asked, proposed)
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
    if home is not None and source.golden is not None:
        golden_rows = find_questions(source.golden.experts, asked)
        free[golden_rows[golden_rows >= 0]] = False  # experts answered them

    is_settled = _is_settled(odds, matrix, left, threshold=aggregated.threshold, at_most=settled)
    unsettled = free & ~is_settled
    uncertain = is_settled & (np.abs(aggregated.p - 0.5) < abs(aggregated.threshold - 0.5))
    score = _scores(by, odds, matrix, left, aggregated.threshold, counts)
    chosen = choose_questions(score, budget, unsettled)
    found = NextQuestions(
        _table(asked, aggregated.p, aggregated.threshold, chosen, score, counts.sum(1)),
        asked.n_questions,
        int(np.count_nonzero(~free)),
        int(np.count_nonzero(free & is_settled & ~uncertain)),
        int(np.count_nonzero(free & uncertain)),
        int(np.count_nonzero(unsettled)),
        _changes(odds[unsettled], matrix, left[unsettled], aggregated.threshold),
        max_answers,
        0 if free.all() else int(counts.sum(1)[~free].min()),
        can_ask=home is not None,
        notes=(*matched, *_notes(matrix, rater, aggregated.method, source.golden, asked)),
        metadata={"method": aggregated.method, "by": by},
        inputs=inputs,
    )
    return _asked(found, home if ask else None, database, asked, chosen)


def _found_first(
    first: FirstQuestions, budget: int, max_answers: int, threshold: float
) -> tuple[NextQuestions, npt.NDArray[np.intp]]:
    """Return the questions to ask first, and their positions; without votes, all of them are open."""
    votes, n_open = first.votes, int(np.count_nonzero(first.free))
    with np.errstate(divide="ignore"):  # 0 and 1 are infinite log odds, which have no entropy
        score = entropy(logit(first.p))
    chosen = choose_questions(score, budget, first.free)
    table = _table(votes, first.p, threshold, chosen, score, np.zeros(len(score), np.int32))
    n, about = votes.n_questions, {"by": "entropy"}
    found = NextQuestions(table, n, n - n_open, 0, 0, n_open, math.nan, max_answers)
    return replace(found, notes=first.notes, metadata=about, inputs=first.inputs), chosen


def _asked(
    ranked: NextQuestions,
    home: Campaign | None,
    database: str | None,
    votes: Votes,
    chosen: npt.NDArray[np.intp],
) -> NextQuestions:
    """Return the next questions after the app of a campaign was told to ask them; None asks nobody."""
    if home is None:
        return ranked
    added, notes = ask_in_app(home, database, votes, chosen)
    return replace(ranked, added=added, notes=(*ranked.notes, *notes))


def _notes(matrix: Floats, rater: str, method: str, golden: Golden | None, asked: Votes) -> Iterator[str]:
    """Yield that answers carry no information. Then no question is open, and few are settled."""
    informedness = float(informedness_of(matrix[None])[0])
    if informedness >= SPAMMER:
        return
    source = ""
    if method == WITH_GOLDEN and golden is not None:
        source = f", estimated from {len(golden_of(golden, asked).answers):,} answers to golden questions"
    yield (
        f"{f'an answer of {rater}' if rater else 'an average answer'} hardly depends on whether the class is "
        f"present (informedness {informedness:.2f}{source}), so more answers of this quality would be of "
        "little use, and settled states may be wrong; see manyhot agreement"
    )


def _check_about_questions(votes: Votes, name: str) -> None:
    """Raise an error if each vote chooses one class of all: there are then no questions to rank."""
    if votes.kind:
        raise InputError(
            "Votes in which raters choose one of all classes have no questions to rank.",
            where=name or votes.name or None,
            allowed="answers (yes, no or maybe) to questions about single classes",
            do="to choose images, run manyhot aggregate VOTES --out labels.parquet, and take those whose "
            'highest p is lowest: python -c "import polars as pl; '
            "print(pl.read_parquet('labels.parquet').sort(pl.col('p').list.max()))\"",
        )


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
            "This method does not estimate how raters answer when a class is present and when it is absent.",
            got=aggregated.method,
            allowed="golden-bayes, auto, dawid-skene, one-coin",
        )
    votes = aggregated.votes
    if rater:
        return np.asarray(matrices[_index(votes, rater)])
    return average_rater(matrices, np.bincount(votes.rater, minlength=votes.n_raters))


def _index(votes: Votes, rater: str) -> int:
    place = pc.index(votes.rater_id, rater).as_py()
    if place < 0:
        names = votes.rater_id.to_pylist()
        raise UnknownNameError(
            f"There are no answers of the rater {rater!r}.",
            where=votes.name or None,
            allowed=first_names(names, 10),
            do=did_you_mean(rater, names, 1) or "leave the rater out for one of average quality",
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
    votes: Votes,
    probabilities: Floats,
    threshold: float,
    chosen: npt.NDArray[np.intp],
    score: Floats,
    n_votes: npt.NDArray[np.integer],
) -> pa.Table:
    p = probabilities[chosen]
    states = np.where(p >= threshold, "yes", "no")
    own = votes.known_classes
    names = pa.nulls(len(chosen), pa.string())
    if own is not None:
        names = pa.array(own.names).take(pa.array(votes.class_id[chosen]))
    return pa.table(
        {
            "image_id": votes.image_id.take(pa.array(chosen)),
            "class_id": pa.array(votes.class_id[chosen], pa.int32()),
            "score": pa.array(score[chosen]),
            "p": pa.array(p),
            "state": pa.array(states.astype(object), pa.string()),
            "n_votes": pa.array(n_votes[chosen], pa.int32()),
            "class_name": names,
        },
        schema=schema("questions"),
    )


def _proposals(proposals: TableLike, source: VotesSource) -> tuple[pa.Table, tuple[str, ...]]:
    """Return proposals with the ids of the images, or of the votes, and a note if their ids differ.

    Raises
    ------
    MatchError
        If their class list differs from that of the votes.
    """
    votes, images = source.votes, source.images
    is_file = isinstance(proposals, str | os.PathLike)
    table = read_proposals(proposals, classes=source.classes) if is_file else as_arrow(proposals, "proposals")
    theirs = tables.metadata(table).get("classes", "")
    if theirs and votes.class_hash and theirs != votes.class_hash:
        raise MatchError(
            "The proposals and the votes have different class lists.",
            where=proposals if is_file else None,
            got=f"class list {theirs}",
            allowed=f"class list {votes.class_hash}",
            do="pass the proposals that the votes answer",
        )
    table = check(table, "proposals")
    encoded = pc.dictionary_encode(one_chunk(table["image_id"]))  # several questions an image
    with without_option():
        like = ids_like(
            encoded.dictionary,
            votes.images if images is None else images.image_id,
            name="the proposals",
            other_name=votes.name or "the votes" if images is None else images.name or "the images",
        )
    table = with_column(table, "image_id", like.ids.take(encoded.indices))
    return table, (f"the proposals: {like.text}",) if like.n else ()
