"""On which classes is one of two models better? Paired differences of average precision, by class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from manyhot.classes import ClassList
from manyhot.console import table_lines
from manyhot.core.comparison import holm
from manyhot.core.jackknife import FEWEST_POSITIVES
from manyhot.core.ranking import class_differences
from manyhot.core.sets import Case
from manyhot.tables import Row, schema
from manyhot.tables.definitions import COUNT, INT, ITS, REAL, TEXT, declare_table, interval

MOST_CLASSES = 10
"""Classes on the terminal."""

SIGNIFICANT = 0.05
"""Adjusted p below which the models differ on a class."""

declare_table(
    "class_differences",
    (
        TEXT("dataset", "the data set"),
        TEXT("reference", "the first model"),
        TEXT("model", "the second model"),
        INT("class_id", "the class"),
        TEXT("key", "key of the class"),
        COUNT("n_positives", "number of images on which the class is valid"),
        REAL("ap_reference", "average precision of the first model; NaN without positives"),
        REAL("ap_model", "average precision of the second model"),
        *interval(
            "difference",
            "average precision of the second model minus that of the first",
            f"{ITS} over images; null for classes on fewer than {FEWEST_POSITIVES} images",
            value=REAL,
        ),
        REAL("p", "two-sided p of the difference; NaN for the same classes"),
        REAL("p_adjusted", "p by Holm's method over the classes that were tested"),
        COUNT("n", "number of images"),
    ),
)


def difference_table(
    dataset: str, names: tuple[str, str], cases: tuple[Case, Case], classes: ClassList | None
) -> pa.Table:
    """Return the differences of two models with scores over all classes, on the same images."""
    found = class_differences(*cases)
    n = len(found.p)
    keys = classes.keys if classes is not None and len(classes) == n else [str(i) for i in range(n)]
    first, second = found.values
    columns = {
        "dataset": [dataset] * n,
        "reference": [names[0]] * n,
        "model": [names[1]] * n,
        "class_id": np.arange(n, dtype=np.int32),
        "key": list(keys),
        "n_positives": found.n_positives,
        "ap_reference": first,
        "ap_model": second,
        "difference": second - first,
        "difference_lo": pa.array(found.lo, pa.float64(), from_pandas=True),
        "difference_hi": pa.array(found.hi, pa.float64(), from_pandas=True),
        "p": found.p,
        "p_adjusted": holm(found.p),
        "n": [int(cases[0].labels.usable.sum())] * n,
    }
    return pa.table(columns).cast(schema("class_differences"))


@dataclass(frozen=True, eq=False)
class ClassVerdict:
    """On which classes one of two models is better.

    Attributes
    ----------
    tested : tuple of Row
        The classes with an interval, lowest p first.
    sentence, untested : str
        The classes on which the models differ, and how many were not tested; empty for none.
    """

    tested: tuple[Row, ...]
    sentence: str
    untested: str


def class_verdict(table: pa.Table, reference: str = "") -> ClassVerdict | None:
    """Return on which classes two models differ; None if no class is on any image.

    Parameters
    ----------
    table : pyarrow.Table
        The table ``class_differences`` of one data set.
    reference : str
        The model to which the other is compared; by default that of the table.
    """
    rows = [row for row in table.to_pylist() if row["n_positives"]]
    if not rows:
        return None
    if reference and rows[0]["reference"] != reference:
        rows = [_swapped(row) for row in rows]
    tested = sorted((r for r in rows if r["p"] == r["p"]), key=lambda r: (r["p"], -abs(r["difference"])))
    return ClassVerdict(tuple(tested), _verdict(tested), _untested(len(rows) - len(tested)))


def _swapped(row: Row) -> Row:
    names = {"reference": row["model"], "model": row["reference"]}
    values = {"ap_reference": row["ap_model"], "ap_model": row["ap_reference"]}
    lo, hi = (None if row[f"difference_{e}"] is None else -row[f"difference_{e}"] for e in ("hi", "lo"))
    return {
        **row,
        **names,
        **values,
        "difference": -row["difference"],
        "difference_lo": lo,
        "difference_hi": hi,
    }


HEADS = ("difference", "95 %", "p (Holm)")
"""Columns after those of the class, its images and both models."""


def class_lines(table: pa.Table) -> Iterator[str]:
    """Yield the classes on which two models differ, and how many were not tested."""
    found = class_verdict(table)
    if found is None:
        return
    yield ""
    n = len(found.tested)
    yield f"classes by p, of {n:,} with an interval:" if n else "no class was tested"
    if n:
        head = ("class", "images", found.tested[0]["reference"], found.tested[0]["model"], *HEADS)
        yield from table_lines(head, [class_cells(row) for row in found.tested[:MOST_CLASSES]])
    yield from filter(None, (found.sentence, found.untested))


def class_cells(row: Row) -> tuple[str, ...]:
    """Return the cells of a class that was tested."""
    return (
        row["key"],
        f"{row['n_positives']:,}",
        f"{row['ap_reference']:.1%}",
        f"{row['ap_model']:.1%}",
        f"{100 * row['difference']:+.2f}",
        f"{100 * row['difference_lo']:.2f} to {100 * row['difference_hi']:.2f}",
        "<0.001" if row["p_adjusted"] < 0.001 else f"{row['p_adjusted']:.3f}",
    )


def _verdict(tested: list[Row]) -> str:
    """Return on which of the tested classes one model is better."""
    if not tested:
        return ""
    apart = [row for row in tested if row["p_adjusted"] < SIGNIFICANT]
    better = [row["key"] for row in apart if row["difference"] > 0]
    worse = [row["key"] for row in apart if row["difference"] < 0]
    model, reference = tested[0]["model"], tested[0]["reference"]
    parts = [f"{m} is better on {_named(k)}" for m, k in ((model, better), (reference, worse)) if k]
    return f"{'; '.join(parts) or f'no difference can be shown on any of {len(tested):,} classes'}."


def _named(keys: list[str]) -> str:
    shown = ", ".join(keys[:MOST_CLASSES])
    return shown if len(keys) <= MOST_CLASSES else f"{shown} and {len(keys) - MOST_CLASSES:,} more"


def _untested(n: int) -> str:
    fewer = f"fewer than {FEWEST_POSITIVES} images, or no difference"
    return f"{n:,} {'class was' if n == 1 else 'classes were'} not tested ({fewer})." if n else ""
