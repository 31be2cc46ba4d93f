"""Times of answers in tables of chosen classes, and the order of a rater's answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import polars as pl
import pyarrow as pa

from manyhot.errors import InputError
from manyhot.formats.reading import cut_for_message

WHEN = "answered_at"

_KEPT = {f"kept {name}": name for name in ("shown_at", WHEN)}
"""Columns of times, beside those that only order answers."""


def kept_times(frame: pl.DataFrame) -> Iterator[pl.Series]:
    """Yield when questions were shown and answered, if both columns contain times with a time zone."""
    found = []
    for kept, name in _KEPT.items():
        with suppress(pa.ArrowException):
            if name in frame.columns and not frame[name].dtype.is_numeric():
                times = frame[name].to_arrow().cast(pa.timestamp("us", "UTC"))
                found.append(pl.Series(kept, times))
    if len(found) == len(_KEPT):
        yield from found


def vote_times(frame: pl.DataFrame) -> pa.Table | None:
    """Return the times of votes as columns of the votes table."""
    kept = {name: frame[column].to_arrow() for column, name in _KEPT.items() if column in frame.columns}
    return pa.table(kept) if kept else None


def order_of(
    frame: pl.DataFrame, columns: tuple[str, str, str], when: str, page: str | None, path: Path
) -> pl.Series:
    """Return when each row was submitted, as a number; 0 if the rater answered the image only once."""
    image, rater, chosen = columns
    again = pl.col(chosen).count() > 1 if page is None else pl.col(page).n_unique() > 1
    rows = frame.select(again.over(image, rater)).to_series().arg_true()
    times = _times(frame[when].gather(rows), path)
    if page is not None:  # the rows of a page may have the time of each click
        parts = frame.select(pl.col(image, rater, page).gather(rows)).with_columns(times.alias(WHEN))
        times = parts.select(pl.col(WHEN).max().over(image, rater, page)).to_series()
    return pl.zeros(len(frame), times.dtype, eager=True).scatter(rows, times).alias(WHEN)


def _times(values: pl.Series, path: Path) -> pl.Series:
    """Return times as numbers."""
    values = values.fill_nan(None) if values.dtype.is_float() else values
    if values.null_count():
        raise InputError(
            f"The column {WHEN!r} contains an empty value.",
            where=path,
            got=f"{values.null_count():,} of {len(values):,} rows of raters who answered an image again",
            allowed="a time in each of these rows, or no such column",
        )
    if values.dtype.is_numeric() or values.dtype.is_temporal():
        return values.to_physical()
    for zone in ("UTC", None):
        with suppress(pa.ArrowException):
            return pl.Series(values.to_arrow().cast(pa.timestamp("ns", zone)).cast(pa.int64()))
    raise InputError(
        f"The column {WHEN!r} does not contain times.",
        where=path,
        got=cut_for_message(", ".join(map(str, values.head(8)))),
        allowed="times such as 2021-03-09T22:16:08Z, all with a time zone or all without, or numbers",
    )
