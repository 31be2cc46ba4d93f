"""What an aggregation teaches about its raters: the table ``matrices``, written and read again as history."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot import registry, tables
from manyhot.classes import ClassList
from manyhot.core.answers import ANSWERS, History
from manyhot.errors import InputError
from manyhot.files import sha256
from manyhot.formats import detect
from manyhot.formats.reading import declared, reading
from manyhot.reassess.answers import TableLike
from manyhot.reassess.arrow_tables import as_arrow
from manyhot.tables import Votes, one_chunk, schema
from manyhot.tables.definitions import REAL, TEXT, declare_table

declare_table(
    "matrices",
    (
        TEXT("rater_id", "the rater"),
        TEXT("truth", "key of the right class; no or yes for answers about a class"),
        TEXT("chosen", "key of the class that the rater chose; no, maybe or yes for answers about a class"),
        REAL("n", "expected number of such answers, which is a sum of probabilities"),
    ),
)

SMALLEST_COUNT = 0.001
"""Smaller expected numbers of answers are not stored."""

_KINDS = ("answers yes, maybe and no", "choices of one class of all")


def check_history(votes: Votes, entry: registry.Entry, history: TableLike, start: TableLike) -> None:
    """Raise an error if the method or kind of votes cannot be combined with earlier answers."""
    if start is not None and not votes.kind:
        raise InputError(
            "`start` needs votes in which raters choose one of all classes.",
            where=votes.name or "votes",
            got=_KINDS[0],
            do="omit `start`",
        )
    named = [name for name, value in (("history", history), ("start", start)) if value is not None]
    if named and not entry.about.get("history"):
        kind = "choice-aggregator" if votes.kind else "aggregator"
        able = [entry.name for entry in registry.entries(kind) if entry.about.get("history")]
        raise InputError(
            f"This method does not use `{named[0]}`, because it does not learn how good raters are.",
            where="`method`",
            got=entry.name,
            allowed=", ".join(able),
            do=f"choose one of these methods, or omit `{named[0]}`",
        )


def history_table(counts: History, votes: Votes) -> pa.Table:
    """Return the table ``matrices`` for the raters of the votes."""
    keys = pa.array(_keys(votes), pa.string())
    enough = counts.n >= SMALLEST_COUNT
    columns = {
        "rater_id": votes.rater_id.take(pa.array(counts.rater[enough])),
        "truth": keys.take(pa.array(counts.truth[enough])),
        "chosen": keys.take(pa.array(counts.chosen[enough])),
        "n": counts.n[enough],
    }
    return pa.table(columns, schema=schema("matrices"))


def with_earlier(counts: History, earlier: History | None) -> History:
    """Return the numbers of answers, including earlier ones, so that a later campaign can use them all."""
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


def history_of(source: TableLike, votes: Votes, argument: str) -> History | None:
    """Return earlier answers of the raters of `votes`, or None if there is no source.

    Raises
    ------
    InputError
        If the source is not the table ``matrices``, contains a different kind of votes, or has no rater in
        common with `votes`.
    """
    if source is None:
        return None
    table = _matrices(source, argument)
    _check_kind(table, votes, argument)
    keys = pa.array(_keys(votes), pa.string())
    columns = [
        _positions(table[name], among)
        for name, among in (("rater_id", votes.rater_id), ("truth", keys), ("chosen", keys))
    ]
    n = one_chunk(table["n"]).to_numpy()
    if (n < 0).any() or not np.isfinite(n).all():
        raise InputError(
            "A number of answers is negative, infinite or NaN.",
            where=f"`{argument}`",
            got=float(n[(n < 0) | ~np.isfinite(n)][0]),
            allowed="0 or more",
        )
    known = np.all([c >= 0 for c in columns], axis=0)
    if not known.any():
        what = "rater and class" if votes.kind else "rater"
        raise InputError(
            f"No {what} of the earlier campaign occurs among the votes.",
            where=f"`{argument}`",
            got=f"raters such as {tables.frames.examples(one_chunk(table['rater_id']))}"
            if len(table)
            else "no rows",
            allowed=f"raters such as {tables.frames.examples(votes.rater_id)}",
            do=f"omit `{argument}`, or give raters {'and classes ' * bool(votes.kind)}the same names",
        )
    rater, truth, chosen = (c[known] for c in columns)
    return History(rater, truth, chosen, n[known])


def _keys(votes: Votes) -> list[str]:
    """Return what raters may answer: the keys of all classes, or no, maybe and yes."""
    if not votes.kind:
        return list(ANSWERS)
    listed: ClassList | None = votes.known_classes
    return [str(i) for i in range(votes.n_classes)] if listed is None else list(listed.keys)


def _check_kind(table: pa.Table, votes: Votes, argument: str) -> None:
    """Raise an error if the table is of answers and the votes are choices, or the other way round."""
    values = {str(v) for name in ("truth", "chosen") for v in pc.unique(table[name]).to_pylist()}
    if not values or values & set(_keys(votes)):
        return
    of_answers = values <= set(ANSWERS)
    if of_answers or not votes.kind:
        raise InputError(
            "The earlier campaign has a different kind of votes.",
            where=f"`{argument}`",
            got=_KINDS[0] if of_answers else f"{_KINDS[1]}, such as {min(values)}",
            allowed=_KINDS[bool(votes.kind)],
            do=f"omit `{argument}`, or pass a campaign with the same kind of votes",
        )


def history_files(*sources: TableLike) -> dict[str, str]:
    """Return the SHA-256 hash of each source that is a file, by file name."""
    files = [_file(source) for source in sources if isinstance(source, str | os.PathLike)]
    return {file.name: sha256(file) for file in files if file.is_file()}


def _file(source: str | os.PathLike[str]) -> Path:
    """Return the table of a campaign, of its labels, or the file itself."""
    path = Path(source)
    path = path / "labels.parquet" if path.is_dir() else path
    beside = path.with_name(f"{path.stem}-matrices.parquet")
    return beside if beside.exists() else path


def _matrices(source: TableLike, argument: str) -> pa.Table:
    if not isinstance(source, str | os.PathLike):
        return tables.check(as_arrow(source, "matrices"), "matrices", where=f"`{argument}`")
    path = _file(source)
    if not path.exists():
        raise InputError("The file does not exist.", where=path)
    with reading(path):
        if declared(path) == "labels":
            raise InputError(
                "The table `matrices` that belongs to these labels is missing.",
                where=path,
                got=f"no {path.stem}-matrices.parquet next to it",
                do="aggregate the votes of this campaign again",
            )
        if path.is_file() and declared(path) != "matrices" and (entry := detect(path)) is not None:
            raise _no_matrices(path, entry, argument)
        return tables.read(path, "matrices")


def _no_matrices(path: Path, entry: registry.Entry, argument: str) -> InputError:
    """Return the error for a file that holds something else, such as the votes of the earlier campaign."""
    holds, folder = entry.about["holds"], shlex.quote(f"{path.stem}-aggregated")
    line = f"manyhot aggregate {shlex.quote(str(path))} --out {folder}"
    return InputError(
        "The file does not contain the result of an earlier aggregation.",
        where=path,
        got=f"{holds} ({entry.name})",
        allowed="the folder or labels that manyhot aggregate wrote, or the table matrices next to them",
        do=f"aggregate these votes first, and pass the folder as `{argument}`: {line}"
        if holds == "votes"
        else None,
    )


def _positions(column: pa.ChunkedArray, among: pa.Array) -> npt.NDArray[np.int64]:
    at = pc.index_in(one_chunk(column), among)
    return np.asarray(pc.fill_null(at, -1).to_numpy(zero_copy_only=False), np.int64)
