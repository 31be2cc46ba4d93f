"""Findings on images, as a gallery shows them and filters by them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from manyhot.errors import MatchError

FINDING_COLUMNS = ("finding", "group")
"""Columns that say in words, or by the number of a group, what was found on an image."""


def kinds_of_errors(
    tables: Sequence[pa.Table], models: Sequence[str], ids: Sequence[str]
) -> dict[tuple[str, str], str]:
    """Return the kinds of errors by model and image; errors without a model apply to all models."""
    shown, kinds = set(ids), dict[tuple[str, str], str]()
    for table in tables:
        columns = [c for c in ("kind", "image_id", "model") if c in table.column_names]
        if finding_column(table) or not {"kind", "image_id"} <= {*columns}:
            continue
        for row in table.select(columns).to_pylist():
            if row["image_id"] in shown:
                own = row.get("model")
                kinds |= {(m, row["image_id"]): row["kind"] for m in models if own is None or own == m}
    return kinds


def findings_on(tables: Sequence[pa.Table], ids: Sequence[str]) -> dict[str, list[str]]:
    """Return the findings on each image as text, without duplicates."""
    found: dict[str, list[str]] = {image_id: [] for image_id in ids}
    for table in tables:
        if (column := finding_column(table)) is None:
            continue
        for image_id, value in zip(table["image_id"].to_pylist(), table[column].to_pylist(), strict=True):
            words = value if column == "finding" or value is None else f"group {value}"
            if image_id in found and words and words not in found[image_id]:
                found[image_id].append(str(words))
    return {image_id: words for image_id, words in found.items() if words}


def finding_column(table: pa.Table) -> str | None:
    """Return the column with findings on images other than kinds of errors; None if there is none."""
    names = table.column_names
    return next((c for c in FINDING_COLUMNS if c in names), None) if "image_id" in names else None


def check_shared(shared: bool, what: str, table: pa.Table, ids: Sequence[str]) -> None:
    """Raise an error if findings share no image or model with the gallery."""
    if not shared:
        named = "image_id" in table.column_names and table.num_rows
        raise MatchError(
            f"The {what} share no image or model with the gallery.",
            got=f"{what} on {table['image_id'][0].as_py()}" if named else f"{table.num_rows:,} rows",
            allowed=f"images such as {ids[0]}" if ids else None,
            do=f"pass {what} of the same images and models",
        )
