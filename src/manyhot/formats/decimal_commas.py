"""Numbers with decimal commas in text tables, as spreadsheets write them in many languages."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import polars as pl

from manyhot.errors import InputError

_NUMBER = r"^\s*[+-]?\d+(,\d+)?([eE][+-]?\d+)?\s*$"
_GROUPED = r"^\s*[+-]?[1-9]\d{0,2}(,\d{3})+\s*$"
"""A number that may have commas between thousands, such as 1,234; 0,234 and 1,23 may not."""


def with_decimal_points(
    frame: pl.DataFrame, path: Path, skip: Collection[str], *, is_sample: bool = False
) -> pl.DataFrame:
    """Return the table with columns that use decimal commas converted to numbers.

    A column is converted if all its values are numbers. It is ambiguous if every comma could also separate
    thousands.

    Parameters
    ----------
    skip : collection of str
        Columns with texts, such as ids and lists of classes.
    is_sample : bool
        Whether the table contains only the first rows, from which the format is recognised. Ambiguous columns
        then raise no error.

    Raises
    ------
    InputError
        If a column is ambiguous.
    """
    texts = [c for c, kind in frame.schema.items() if kind == pl.String and c not in skip]
    return frame.with_columns(
        column.str.strip_chars().str.replace(",", ".", literal=True).cast(pl.Float64)
        for column in (frame[name] for name in texts)
        if _has_decimal_commas(column, path, is_sample=is_sample)
    )


def _has_decimal_commas(column: pl.Series, path: Path, *, is_sample: bool) -> bool:
    values = column.drop_nulls()
    with_comma = values.filter(values.str.contains(",", literal=True))
    if not len(with_comma) or not values.str.contains(_NUMBER).all():
        return False
    if not is_sample and with_comma.str.contains(_GROUPED).all():
        raise InputError(
            "The commas in a column may be decimal commas or thousands separators.",
            where=f"{path}, column {column.name.strip()}",
            got=with_comma[0],
            allowed="numbers with decimal points, such as 0.5, or with decimal commas and no thousands "
            "separators",
            do="write the numbers with decimal points",
        )
    return True
