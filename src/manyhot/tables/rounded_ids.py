"""Ids that programs have rounded, because they read whole numbers as floats."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from manyhot.errors import InputError

_MOST_EXACT = 2**53
"""The number up to which a float represents each whole number."""

_NUMBER = r"^\s*\d+(\.\d*)?([eE][+-]?\d+)?\s*$"
_ROUNDED = r"^\s*(\d{16,}\.0*|\d(\.\d+)?[eE]\+\d+|\d\.\d+[eE]\d+)\s*$"
"""A long float, or one with an exponent, as programs write it. A code such as 12E0 is none."""


def check_not_rounded(ids: pa.Array | pa.ChunkedArray, where: str, whose: str = "Image") -> None:
    """Raise an error for ids that are floats above 2**53, or texts of such floats: several ids may be one.

    A join in pandas makes the whole numbers of a column floats. Texts with an exponent are refused whatever
    their size, as spreadsheets write few digits.
    """
    if pa.types.is_floating(ids.type):
        rounded = ids.filter(pc.greater(pc.abs(ids), _MOST_EXACT))
    elif pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type):
        rounded = ids.filter(pc.match_substring_regex(ids, _ROUNDED))
        if len(rounded) and pc.all(pc.match_substring_regex(ids, _NUMBER)).as_py():
            large = pc.greater(pc.utf8_trim_whitespace(rounded).cast(pa.float64()), _MOST_EXACT)
            rounded = rounded.filter(pc.or_(large, pc.match_substring(rounded, "e", ignore_case=True)))
        else:
            return
    else:
        return
    if len(rounded):
        raise InputError(
            f"{whose} ids are floats that may have been rounded.",
            where=where,
            got=str(rounded[0]),
            allowed=f"floats up to {_MOST_EXACT:,}, whole numbers or strings",
            do="where the table was made, read the column as strings or integers, such as Int64 in pandas",
        )


def check_no_decimals(image: Any, where: str) -> None:
    """Raise an error for the id of an image that is a number such as 1998.10, which JSON reads as 1998.1."""
    if isinstance(image, float):
        raise InputError(
            "The id of an image is a decimal number, which loses zeros at its end.",
            where=where,
            got=image,
            allowed="a string or a whole number",
            do='write ids in quotes, such as "1998.10"',
        )
