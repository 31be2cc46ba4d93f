"""On which classes is one of two models better? Paired differences of average precision, by class."""

from __future__ import annotations

from collections.abc import Iterator

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


def class_lines(table: pa.Table) -> Iterator[str]:
    """Yield the classes on which two models differ, and how many were not tested."""
    rows = [row for row in table.to_pylist() if row["n_positives"]]
    tested = sorted((r for r in rows if r["p"] == r["p"]), key=lambda r: (r["p"], -abs(r["difference"])))
    if not rows:
        return
    yield ""
    yield f"classes by p, of {len(tested):,} with an interval:" if tested else "no class was tested"
    head = ("class", "images", rows[0]["reference"], rows[0]["model"], "difference", "95 %", "p (Holm)")
    if tested:
        yield from table_lines(head, [_cells(row) for row in tested[:MOST_CLASSES]])
    yield from filter(None, (_verdict(tested), _untested(len(rows) - len(tested))))


def _cells(row: Row) -> tuple[str, ...]:
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
