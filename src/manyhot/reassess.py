"""What a notebook calls about votes: label sets of raters' answers, and how far raters agree."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from manyhot.classes import ClassList, class_list, from_keys
from manyhot.errors import InputError
from manyhot.formats import read_golden, read_images, read_votes
from manyhot.formats.tabular import declared
from manyhot.steps.aggregate import METHOD, Aggregated
from manyhot.steps.aggregate import aggregate as aggregate_votes
from manyhot.steps.agreement import Agreement
from manyhot.steps.agreement import agreement as agreement_of_votes
from manyhot.tables import Golden, Images, Votes, golden_from_table, votes_from_table


def aggregate(
    votes: Any,
    golden: Any = None,
    images: Any = None,
    *,
    n_classes: int | None = None,
    method: str = METHOD,
    threshold: float | None = None,
    unclear_from: float | None = None,
    precision: float | None = None,
    recall: float | None = None,
    original_classes: Collection[int] | None = None,
    refined: str = "decides",
    resamples: int = 1000,
    seed: int = 0,
) -> Aggregated:
    """Make label sets of raters' answers.

    Parameters
    ----------
    votes : Votes, path-like or table
        A file in any format, or a pyarrow, Polars or pandas table with the columns of the votes table.
    golden : Golden, path-like or table, optional
        Experts' answers, likewise.
    images : Images, path-like or table, optional
        All images with their original labels.
    n_classes : int, optional
        Of a table that does not tell; by default one more than its highest class.
    method, threshold, unclear_from, precision, recall, original_classes, refined, resamples, seed
        As in `manyhot.steps.aggregate.aggregate`.

    Raises
    ------
    InputError, MatchError, UnknownNameError
        As in `manyhot.steps.aggregate.aggregate`.

    Examples
    --------
    >>> import pyarrow as pa
    >>> votes = pa.table({
    ...     "image_id": ["a.jpg"] * 3, "class_id": [0] * 3, "rater_id": ["x", "y", "z"],
    ...     "answer": ["yes", "yes", "no"],
    ... })
    >>> aggregate(votes, method="yes-share").p.round(2).tolist()
    [0.67]
    """
    return aggregate_votes(
        _votes(votes, n_classes),
        None if golden is None else _golden(golden, n_classes),
        None if images is None else _images(images),
        method=method,
        threshold=threshold,
        unclear_from=unclear_from,
        precision=precision,
        recall=recall,
        original_classes=original_classes,
        refined=refined,
        resamples=resamples,
        seed=seed,
    )


def agreement(
    votes: Any,
    golden: Any = None,
    *,
    n_classes: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Measure how far raters agree with each other and with experts.

    Parameters
    ----------
    votes, golden, n_classes
        As in `aggregate`.
    resamples, seed
        As in `manyhot.steps.agreement.agreement`.
    """
    return agreement_of_votes(
        _votes(votes, n_classes),
        None if golden is None else _golden(golden, n_classes),
        resamples=resamples,
        seed=seed,
    )


def _votes(given: Any, n_classes: int | None) -> Votes:
    _check_number(n_classes)
    if isinstance(given, Votes):
        return given
    if isinstance(given, str | os.PathLike):
        return read_votes(given, classes=_numbered(given, "votes", n_classes))
    table = _arrow(given, "votes")
    return votes_from_table(table, name="votes", n_classes=n_classes or _one_more(table))


def _golden(given: Any, n_classes: int | None) -> Golden:
    if isinstance(given, Golden):
        return given
    if isinstance(given, str | os.PathLike):
        return read_golden(given, classes=_numbered(given, "golden", n_classes))
    table = _arrow(given, "golden")
    return golden_from_table(table, name="golden", n_classes=n_classes or _one_more(table))


def _images(given: Any) -> Images:
    if isinstance(given, Images):
        return given
    if isinstance(given, str | os.PathLike):
        return read_images(given)
    return Images(_arrow(given, "images"), "images")


def _check_number(n_classes: int | None) -> None:
    if n_classes is not None and (type(n_classes) is not int or n_classes < 1):
        raise InputError(
            "This is not a number of classes.",
            where="n_classes",
            got=repr(n_classes),
            allowed="a whole number, 1 and up",
        )


def _numbered(path: str | os.PathLike[str], table: str, n_classes: int | None) -> ClassList | None:
    """Return a list of so many classes without names, where their number is given and the file tells none."""
    file = Path(path) / f"{table}.parquet" if Path(path).is_dir() else Path(path)
    if n_classes in (None, len(class_list())) or declared(file):
        return None
    assert n_classes is not None
    return from_keys([str(i) for i in range(n_classes)], "classes by number")


def _arrow(given: Any, name: str) -> pa.Table:
    """Return a table of pyarrow, Polars or pandas in types that the tables have."""
    try:
        table = _as_table(given)
    except (AttributeError, TypeError, ValueError, pa.ArrowException) as error:
        raise InputError(
            "This is not a table.",
            where=name,
            got=f"{type(given).__name__} ({str(error).partition(chr(10))[0]})",
            allowed="a table of pyarrow, Polars or pandas with the columns of the table "
            f"{name}, a file, or what manyhot.read_{name} gives",
        ) from error
    texts = [n for n in table.column_names if pa.types.is_large_string(table.schema.field(n).type)]
    for column in texts:
        at = table.column_names.index(column)
        table = table.set_column(at, column, table[column].cast(pa.string()))
    return table


def _as_table(given: Any) -> pa.Table:
    if isinstance(given, pa.Table):
        return given
    if isinstance(given, pa.RecordBatch):
        return pa.Table.from_batches([given])
    if hasattr(given, "collect"):  # a LazyFrame
        given = given.collect()
    if hasattr(given, "to_arrow"):
        table = given.to_arrow()
        if not isinstance(table, pa.Table):
            raise TypeError("one column alone")
        return table
    if not hasattr(given, "columns"):
        raise TypeError("no columns")
    return pa.Table.from_pandas(given, preserve_index=False)


def _one_more(table: pa.Table) -> int:
    known = "class_id" in table.column_names and pa.types.is_integer(table["class_id"].type)
    highest = pc.max(table["class_id"]).as_py() if known else None
    return 1 if highest is None else max(highest, 0) + 1
