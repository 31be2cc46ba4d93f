"""Text files whose lines are a name and numbers, separated by runs of spaces."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import polars as pl

from manyhot.errors import InputError


def spaced_frame(rows: bytes, columns: tuple[str, ...], path: Path) -> pl.DataFrame:
    """Return lines that contain a name and whole numbers, separated by any number of spaces.

    Raises
    ------
    InputError
        If a line has the wrong number of values, or a value that is not a whole number.
    """
    bare = re.sub(rb"[ \t]*\r?\n\s*", b"\n", re.sub(rb"[ \t]+", b" ", rows).strip())
    kinds = {c: pl.String if c == "image_id" else pl.Int8 for c in columns}
    try:
        frame = pl.read_csv(BytesIO(bare), separator=" ", has_header=False, quote_char=None, schema=kinds)
        gaps = frame.select(pl.any_horizontal(pl.all().is_null())).to_series()
        got = next((f"{frame['image_id'][i]} …" for i in gaps.arg_true()), "")
    except pl.exceptions.PolarsError as error:
        frame, got = pl.DataFrame(), str(error).partition("\n")[0]
    if got:
        raise InputError(
            "A line does not contain a name and a number for each column.",
            where=path,
            got=got,
            allowed=f"a name and {len(columns) - 1:,} whole numbers",
            do="create or download it again",
        )
    return frame
