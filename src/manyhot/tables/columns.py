"""Columns of tables: names, types and descriptions, with short forms to declare them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name, doc : str
    type : pyarrow.DataType
    required : bool
        Whether the table must have the column.
    nullable : bool
        Whether values may be null.
    values : tuple of str
        The allowed values; empty for any.
    """

    name: str
    type: pa.DataType
    doc: str
    required: bool = True
    nullable: bool = False
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class ColumnType:
    """A type of columns; calling it with a name and a description returns a column."""

    type: pa.DataType

    def __call__(self, name: str, doc: str, *, values: tuple[str, ...] = ()) -> Column:
        """Return a column without nulls."""
        return Column(name, self.type, doc, values=values)

    def nullable(self, name: str, doc: str, *, values: tuple[str, ...] = ()) -> Column:
        """Return a column whose values may be null."""
        return Column(name, self.type, doc, nullable=True, values=values)

    def optional(self, name: str, doc: str, *, values: tuple[str, ...] = ()) -> Column:
        """Return a column that may be missing, and whose values may be null."""
        return Column(name, self.type, doc, required=False, nullable=True, values=values)


TEXT, TEXTS = ColumnType(pa.string()), ColumnType(pa.list_(pa.string()))
INT, INTS = ColumnType(pa.int32()), ColumnType(pa.list_(pa.int32()))
REAL, REALS = ColumnType(pa.float64()), ColumnType(pa.list_(pa.float64()))
FLOAT32, FLOATS32 = ColumnType(pa.float32()), ColumnType(pa.list_(pa.float32()))
COUNT, FLAG, TIME = ColumnType(pa.int64()), ColumnType(pa.bool_()), ColumnType(pa.timestamp("us", "UTC"))
OUTLINES, BYTES = ColumnType(pa.list_(pa.list_(pa.float32()))), ColumnType(pa.binary())

ITS = "its 95 % interval"


def bounds(
    lo: str, hi: str, of: str = ITS, *, column: Callable[[str, str], Column] = REAL.nullable
) -> tuple[Column, Column]:
    """Return the columns of both ends of an interval."""
    return column(lo, f"lower end of {of}"), column(hi, f"upper end of {of}")


def interval(
    name: str,
    doc: str,
    of: str = ITS,
    *,
    value: Callable[[str, str], Column] = REAL.nullable,
    ends: Callable[[str, str], Column] = REAL.nullable,
) -> tuple[Column, Column, Column]:
    """Return the columns of a value and of both ends of its interval, ``…_lo`` and ``…_hi``."""
    return value(name, doc), *bounds(f"{name}_lo", f"{name}_hi", of, column=ends)
