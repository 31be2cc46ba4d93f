"""Votes and what they come to, to the questions that are worth another answer.

Votes in, the questions to ask next out.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc
from scipy.special import logit

from manyhot import tables
from manyhot.checks import is_number, is_whole
from manyhot.classes import ClassList
from manyhot.core.next_questions import (
    MAX_AHEAD,
    RANKINGS,
    average_rater,
    choose_questions,
    disagreement,
    entropy,
    expected_change,
    flip_probability,
    settled,
)
from manyhot.errors import InputError, MatchError, UnknownNameError
from manyhot.files import sha256
from manyhot.formats import read_proposals
from manyhot.formats.tabular import write_csv
from manyhot.formats.writing import PathLike, Progress, check_apart, check_place, in_campaign
from manyhot.reassess.aggregate import METHOD, Aggregated, aggregate_tables
from manyhot.reassess.answers import answers_of, class_ids, read_answers
from manyhot.tables import Votes, check, one_chunk, schema

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Next:
    """The questions to ask next, and how many need no further answer.

    Attributes
    ----------
    table : pyarrow.Table
        The table ``questions``: those to ask, the first one first.
    n_questions : int
        All of them.
    n_full : int
        Those that get no more: they have as many answers as a question may have, or this rater answered them.
    n_settled : int
        Others that the answers which they may still get would hardly change.
    n_open : int
        The rest, from which those of the table are taken.
    changes : float
        Open questions whose state all the answers that they may still get are expected to change.
    """

    table: pa.Table
    n_questions: int
    n_full: int
    n_settled: int
    n_open: int
    changes: float


def ask_next(
    aggregated: Aggregated,
    *,
    budget: int,
    by: str = "expected-change",
    most: int = 5,
    at_most: float = 0.01,
    rater: str = "",
) -> Next:
    """Rank the questions by what another answer is worth.

    Parameters
    ----------
    aggregated : Aggregated
        By a method that knows how raters answer: ``golden-bayes``, ``dawid-skene``, ``one-coin``.
    budget : int
        Answers that may be asked for now, one a question; what is open or settled does not depend on it.
    by : {"expected-change", "entropy", "disagreement"}
        See `manyhot.core.next_questions`.
    most : int
        Answers that a question gets at most, those it has included.
    at_most : float
        A question is settled if all the answers that it may still get change its state with no more than this
        probability; with 0, if they cannot.
    rater : str
        Who will answer: questions that this rater answered are left out, and the rater's own quality counts,
        as if all raters of further answers were as good.
        By default somebody, as good as the mean of the raters, each weighed by the answers given.

    Raises
    ------
    InputError
        If the method knows nothing about raters, or a number is out of range.
    UnknownNameError
        If there is no such ranking or rater.
    """
    _check(budget, by, most, at_most)
    votes = aggregated.votes
    counts = answers_of(votes).counts()
    n_votes = counts.sum(1)
    odds, matrix = logit(aggregated.p), _matrix(aggregated, rater)
    left = np.clip(most - n_votes, 0, MAX_AHEAD)
    free = (left > 0) & ~_answered(votes, rater)
    if votes.refined is not None:
        free[votes.refined.question] = False  # somebody decided
    done = settled(odds, matrix, left, threshold=aggregated.threshold, at_most=at_most)
    unsettled = free & ~done
    score = _scores(by, odds, matrix, left, aggregated.threshold, counts)
    chosen = choose_questions(score, budget, unsettled)
    return Next(
        _table(aggregated, chosen, score, n_votes),
        votes.n_questions,
        int(np.count_nonzero(~free)),
        int(np.count_nonzero(free & done)),
        int(np.count_nonzero(unsettled)),
        _changes(odds[unsettled], matrix, left[unsettled], aggregated.threshold),
    )


def with_proposals(votes: Votes, proposals: pa.Table) -> Votes:
    """Return votes with the proposals that nobody answered as further questions.

    Raises
    ------
    InputError
        If the proposals break their table.
    """
    table = check(proposals, "proposals")
    ids = pa.concat_arrays([votes.image_id.cast(pa.string()), one_chunk(table["image_id"])])
    classes = np.concatenate([votes.class_id, one_chunk(table["class_id"]).to_numpy()])
    code = pc.dictionary_encode(ids).indices.to_numpy().astype(np.int64)
    _, first = np.unique(code * (int(classes.max(initial=0)) + 1) + classes, return_index=True)
    kept = np.concatenate([np.arange(votes.n_questions), np.sort(first[first >= votes.n_questions])])
    return replace(votes, image_id=ids.take(pa.array(kept)), class_id=classes[kept].astype(np.int32))


def _scores(
    by: str,
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
            "This method does not tell how raters answer where a class is in the image and where it is not.",
            got=aggregated.method,
            allowed="golden-bayes, dawid-skene, one-coin",
        )
    votes = aggregated.votes
    if rater:
        return np.asarray(matrices[_index(votes, rater)])
    return average_rater(matrices, np.bincount(votes.rater, minlength=votes.n_raters))


def _index(votes: Votes, rater: str) -> int:
    found = pc.index(votes.rater_id, rater).as_py()
    if found < 0:
        names = votes.rater_id.to_pylist()
        near = difflib.get_close_matches(rater, names, n=1)
        raise UnknownNameError(
            f"There are no answers of the rater {rater!r}.",
            where=votes.name or None,
            allowed=", ".join(names[:10]) + (", …" if len(names) > 10 else ""),
            do=f"did you mean {near[0]!r}?" if near else "leave the rater out for one of average quality",
        )
    return int(found)


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


def _check(budget: int, by: str, most: int, at_most: float) -> None:
    if by not in RANKINGS:
        raise UnknownNameError(f"There is no ranking {by!r}.", allowed=", ".join(RANKINGS))
    if not is_whole(budget) or budget < 1:
        raise InputError("The budget buys no answer.", got=budget, allowed="1 and up")
    if not is_whole(most) or most < 1:
        raise InputError("A question gets at least one answer.", got=most, allowed="1 and up")
    if not is_number(at_most) or not 0 <= at_most < 1:
        raise InputError("The accepted chance of a change is no probability.", got=at_most, allowed="0 to 1")


WITH_GOLDEN = "golden-bayes"
"""The method by default where there are golden answers: it fits nothing, so that it takes no time."""


def next_files(
    votes: PathLike,
    out: PathLike | None = None,
    *,
    budget: int,
    by: str = "expected-change",
    most: int = 5,
    at_most: float = 0.01,
    rater: str = "",
    proposals: PathLike | None = None,
    golden: PathLike | None = None,
    images: PathLike | None = None,
    classes: PathLike | None = None,
    format: str | None = None,
    method: str = "",
    threshold: float | None = None,
    original_classes: str | None = None,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[Next, list[Path]]:
    """Rank the questions by what another answer is worth, and write those that a budget buys.

    Parameters
    ----------
    votes, golden, images, classes, format, threshold, original_classes
        As in `manyhot.aggregate_files`.
    out : path-like, optional
        The table ``questions``, as CSV or Parquet; by default ``next.csv``, of a campaign in its folder.
    budget, by, most, at_most, rater
        See `manyhot.reassess.next_questions.ask_next`.
    proposals : path-like, optional
        A proposals table, by default that of the campaign: questions that nobody answered are ranked, too.
    method : str
        An aggregator; ``golden-bayes`` where there are golden answers, else ``dawid-skene``.

    Raises
    ------
    ManyhotError
        For each kind of bad input; nothing is written then.
    """
    out = in_campaign(votes, "next.csv") if out is None else Path(out)
    if out.suffix.lower() not in (".csv", ".parquet"):
        raise InputError("Cannot write this kind of file.", where=out, allowed=".csv, .parquet")
    source = read_answers(votes, golden, images, classes, format, progress)
    beside = Path(votes) / "proposals.parquet"
    proposals = proposals or (beside if beside.is_file() else None)
    check_place(out, "questions")
    check_apart([*source.files, *([proposals] if proposals else [])], out)
    asked = source.votes
    if proposals:
        asked = with_proposals(asked, _proposals(proposals, asked, source.classes))
    named = source.original_classes if original_classes is None else original_classes
    aggregated = aggregate_tables(
        asked,
        source.golden,
        source.images,
        method=method or (METHOD if source.golden is None else WITH_GOLDEN),
        threshold=threshold,
        original_classes=class_ids(named, asked.n_classes) if named else None,
        resamples=0,
    )
    found = ask_next(aggregated, budget=budget, by=by, most=most, at_most=at_most, rater=rater)
    if out.suffix.lower() == ".csv":
        return found, [write_csv(found.table, out)]
    inputs = source.hashes() | ({Path(proposals).name: sha256(proposals)} if proposals else {})
    about = {"method": aggregated.method, "by": by}
    return found, [tables.write(found.table, out, "questions", call=call, inputs=inputs, about=about)]


def _proposals(path: PathLike, votes: Votes, classes: ClassList | None) -> pa.Table:
    """Read proposals, and refuse those over another class list than the votes."""
    table = read_proposals(path, classes=classes)
    theirs = tables.metadata(table).get("classes", "")
    if theirs and votes.class_hash and theirs != votes.class_hash:
        raise MatchError(
            "The proposals are over another class list than the votes.",
            where=path,
            got=f"class list {theirs}",
            allowed=f"class list {votes.class_hash}",
            do="give the proposals that the votes answer",
        )
    return table
