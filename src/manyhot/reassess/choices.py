"""Aggregate votes in which raters chose one class of all, with the choices of earlier campaigns."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot import registry, tables
from manyhot.classes import ClassList, class_list_of
from manyhot.core.aggregation import Aggregate
from manyhot.core.array_types import Floats
from manyhot.core.choices import ChosenClasses, History, expected_choices
from manyhot.errors import InputError
from manyhot.formats.reading import reading
from manyhot.reassess.answers import TableLike, as_arrow
from manyhot.tables import Votes, one_chunk, schema
from manyhot.tables.choices import choices_of, with_questions
from manyhot.tables.definitions import REAL, TEXT, declare_table

declare_table(
    "matrices",
    (
        TEXT("rater_id", "the rater"),
        TEXT("truth", "key of the right class"),
        TEXT("chosen", "key of the class that the rater chose"),
        REAL("n", "expected number of such choices, which is a sum of probabilities"),
    ),
)

SMALLEST_COUNT = 0.001
"""Smaller expected numbers of choices are not stored."""


@dataclass(frozen=True, eq=False)
class AggregatedChoices:
    """Votes with all listed classes as questions, and what an aggregator of choices returned for them.

    Attributes
    ----------
    votes : Votes
    result : Aggregate
        `p` of each question of `votes`. `matrices` holds the accuracy of each rater as the probability of a
        yes to the right class; all else in them is NaN.
    matrices : pyarrow.Table
        The table ``matrices``; empty if it is unknown who gave the votes.
    """

    votes: Votes
    result: Aggregate
    matrices: pa.Table


def aggregate_choices(
    votes: Votes, entry: registry.Entry, history: TableLike = None, start: TableLike = None
) -> AggregatedChoices:
    """Return the probability of each class that a rater chose for an image, and of others that are likely.

    Parameters
    ----------
    votes : Votes
        Votes in which raters chose one class of all.
    entry : Entry
        An aggregator of choices.
    history : table-like, optional
        The table ``matrices`` of an earlier campaign, which counts as earlier choices of the same raters.
    start : table-like, optional
        The table ``matrices`` of an earlier fit to some of these votes, from which the method starts.
    """
    choices = choices_of(votes)
    earlier = None if history is None else _history(history, votes, "history")
    aggregated = entry(choices, earlier, None if start is None else _history(start, votes, "start"))
    whole = with_questions(votes, aggregated.image, aggregated.class_id)
    cells = aggregated.image * np.int64(votes.n_classes) + aggregated.class_id
    asked = whole.image * np.int64(votes.n_classes) + whole.class_id
    result = Aggregate(
        aggregated.p[np.searchsorted(cells, asked)],
        _accuracies(aggregated),
        aggregated.prior,
        aggregated.iterations,
        aggregated.converged,
        aggregated.log_likelihood,
        weights=aggregated.weights,
    )
    table = schema("matrices").empty_table()
    if choices.are_raters_known:
        table = _table(_added(expected_choices(choices, aggregated), earlier), votes)
    return AggregatedChoices(whole, result, table)


def check_choices(votes: Votes, history: TableLike, start: TableLike) -> None:
    """Raise an error if raters' history is passed with votes that are no choices."""
    named = [n for n, value in (("history", history), ("start", start)) if value is not None]
    if named and not votes.kind:
        raise InputError(
            f"`{named[0]}` needs votes in which raters choose one class of all.",
            where=votes.name or "votes",
            got="answers yes, maybe and no",
            do=f"omit `{named[0]}`",
        )


def _accuracies(aggregated: ChosenClasses) -> Floats | None:
    if aggregated.accuracy is None:
        return None
    matrices = np.full((len(aggregated.accuracy), 2, 2), np.nan)
    matrices[:, 1, 1] = aggregated.accuracy
    return matrices


def _keys(votes: Votes) -> list[str]:
    listed: ClassList | None = votes.class_list or class_list_of(votes.class_hash)
    return [str(i) for i in range(votes.n_classes)] if listed is None else list(listed.keys)


def _table(counts: History, votes: Votes) -> pa.Table:
    keys = pa.array(_keys(votes), pa.string())
    enough = counts.n >= SMALLEST_COUNT
    columns = {
        "rater_id": votes.rater_id.take(pa.array(counts.rater[enough])),
        "truth": keys.take(pa.array(counts.truth[enough])),
        "chosen": keys.take(pa.array(counts.chosen[enough])),
        "n": counts.n[enough],
    }
    return pa.table(columns, schema=schema("matrices"))


def _added(counts: History, earlier: History | None) -> History:
    """Return the numbers of choices with earlier ones, so that a campaign passes on all that it knows."""
    if earlier is None:
        return counts
    parts = zip(
        (counts.rater, counts.truth, counts.chosen, counts.n),
        (earlier.rater, earlier.truth, earlier.chosen, earlier.n),
        strict=True,
    )
    rater, truth, chosen, n = (np.concatenate(pair) for pair in parts)
    cells, at = np.unique(np.stack([rater, truth, chosen]), axis=1, return_inverse=True)
    return History(cells[0], cells[1], cells[2], np.bincount(at.ravel(), n).astype(np.float64))


def _history(source: TableLike, votes: Votes, argument: str) -> History:
    """Return earlier choices of the raters of `votes`, and of its classes.

    Raises
    ------
    InputError
        If this is not the table ``matrices``, or has no rater in common with the votes.
    """
    table = _matrices(source, argument)
    keys = pa.array(_keys(votes), pa.string())
    columns = [
        _positions(table[name], among)
        for name, among in (("rater_id", votes.rater_id), ("truth", keys), ("chosen", keys))
    ]
    n = one_chunk(table["n"]).to_numpy()
    if (n < 0).any() or not np.isfinite(n).all():
        raise InputError(
            "A number of choices is negative or not a number.",
            where=f"`{argument}`",
            got=float(n[(n < 0) | ~np.isfinite(n)][0]),
            allowed="0 or more",
        )
    known = np.all([c >= 0 for c in columns], axis=0)
    if not known.any():
        raise InputError(
            "No rater and class of the earlier campaign occurs among the votes.",
            where=f"`{argument}`",
            got=f"raters such as {tables.frames.examples(one_chunk(table['rater_id']))}"
            if len(table)
            else "no rows",
            allowed=f"raters such as {tables.frames.examples(votes.rater_id)}",
            do=f"omit `{argument}`, or give raters and classes the same names",
        )
    rater, truth, chosen = (c[known] for c in columns)
    return History(rater, truth, chosen, n[known])


def _matrices(source: TableLike, argument: str) -> pa.Table:
    if not isinstance(source, str | os.PathLike):
        return tables.check(as_arrow(source, "matrices"), "matrices", where=f"`{argument}`")
    path = Path(source)
    if path.is_dir():
        path = path / "labels.parquet"
    beside = path.with_name(f"{path.stem}-matrices.parquet")
    path = beside if beside.exists() else path
    if not path.exists():
        raise InputError("The file does not exist.", where=path)
    with reading(path):
        return tables.read(path, "matrices")


def _positions(column: pa.ChunkedArray, among: pa.Array) -> npt.NDArray[np.int64]:
    at = pc.index_in(one_chunk(column), among)
    return np.asarray(pc.fill_null(at, -1).to_numpy(zero_copy_only=False), np.int64)
