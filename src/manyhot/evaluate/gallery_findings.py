"""Reading findings on images for a gallery: kinds of errors, groups, and findings in words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa

from manyhot.errors import InputError
from manyhot.formats import read_findings
from manyhot.formats.tabular import TABLE_SUFFIXES, column_names, declared, read_frame
from manyhot.parameters import Shown
from manyhot.report.gallery import FINDING_COLUMNS

FindingsLike = Annotated[Any, Shown("FILE")]
"""A file of findings on images, or their table."""


def read_image_findings(findings: FindingsLike) -> pa.Table:
    """Return findings on images, from ``diagnose errors`` or from a table with a column of findings.

    Raises
    ------
    InputError
        If the file is neither.
    """
    if not isinstance(findings, str | os.PathLike):
        return findings
    path = Path(findings)
    is_table = path.suffix.lower() in TABLE_SUFFIXES and path.is_file()
    names = column_names(path) if is_table else []
    found = [c for c in FINDING_COLUMNS if c in names]
    if "image_id" in names and found:
        return read_frame(path).select("image_id", found[0]).to_arrow()
    if names and declared(path) != "findings":
        raise InputError(
            "The table has no findings on images.",
            where=path,
            got=f"columns {', '.join(names)}",
            allowed="image_id, and finding or group; or findings.parquet of manyhot diagnose errors",
        )
    return read_findings(path)
