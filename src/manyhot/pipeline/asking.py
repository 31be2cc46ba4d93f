"""Votes in, the questions to ask next out."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from manyhot import tables
from manyhot.classes import ClassList
from manyhot.errors import InputError, MatchError
from manyhot.files import sha256
from manyhot.formats import read_proposals
from manyhot.formats.tabular import write_csv
from manyhot.pipeline.aggregate import class_ids, read_answers
from manyhot.pipeline.common import PathLike, Progress, check_apart, check_place, in_campaign
from manyhot.steps.aggregate import METHOD, aggregate
from manyhot.steps.asking import Next, ask_next, with_proposals
from manyhot.tables import Votes

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
        See `manyhot.steps.asking.ask_next`.
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
    aggregated = aggregate(
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
