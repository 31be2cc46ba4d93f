"""On which classes is one of two models better? Paired differences of average precision, by class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from manyhot.classes import ClassList
from manyhot.console import table_lines
from manyhot.core.clusters import Clusters
from manyhot.core.jackknife import FEWEST_POSITIVES
from manyhot.core.model_pairs import holm
from manyhot.core.ranking import class_differences
from manyhot.core.sets import Case
from manyhot.errors import first_names
from manyhot.evaluate.per_class.class_tables import MASKED, MASKED_ROWS
from manyhot.report.text import counted
from manyhot.tables import Row, schema
from manyhot.tables.definitions import COUNT, FLAG, INT, ITS, REAL, TEXT, declare_table, interval

MOST_IN_ALL = 20
"""Number of classes up to which all are on the terminal and on a page."""

MOST_CLASSES = 10
"""Otherwise, the number of tested classes there."""

MOST_UNTESTED = 5
"""The number of untested classes there, and of their names in a sentence."""

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
            "average precision of the second model minus average precision of the first model",
            f"{ITS} over images; null for classes that are valid on fewer than {FEWEST_POSITIVES} images",
            value=REAL,
        ),
        REAL("p", "two-sided p-value of the difference; NaN for classes without an interval"),
        REAL("p_adjusted", "p-value, corrected by Holm's method over the tested classes"),
        COUNT("n", "number of images"),
        FLAG.optional("masked", MASKED),
    ),
)


def difference_table(
    dataset: str,
    names: tuple[str, str],
    cases: tuple[Case, Case],
    classes: ClassList | None,
    clusters: Clusters | None = None,
    masked: bool = False,
) -> pa.Table:
    """Return the differences per class between two models with scores of all classes for the same images."""
    found = class_differences(*cases, clusters, masked=masked)
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
        "masked": [cases[0].labels.leaves_out_cells(masked)] * n,
    }
    return pa.table(columns).cast(schema("class_differences"))


@dataclass(frozen=True, eq=False)
class ClassVerdict:
    """The classes on which two models were compared, and what the comparison shows.

    Attributes
    ----------
    tested, untested : tuple of Row
        The classes with an interval, lowest p first, and the classes without an interval, most images first.
    sentences : tuple of str
        Sentences about the classes on which the models differ, about the tested classes, and about the number
        of classes on which each model has the higher average precision.
    """

    tested: tuple[Row, ...]
    untested: tuple[Row, ...]
    sentences: tuple[str, ...]

    @property
    def shown(self) -> tuple[Row, ...]:
        """The tested and untested classes to show: all, or the first of each if there are many."""
        if len(self.tested) + len(self.untested) <= MOST_IN_ALL:
            return (*self.tested, *self.untested)
        return (*self.tested[:MOST_CLASSES], *self.untested[:MOST_UNTESTED])

    @property
    def names(self) -> tuple[str, str]:
        """The first and the second model."""
        row = (*self.tested, *self.untested)[0]
        return row["reference"], row["model"]

    @property
    def title(self) -> str:
        """What the values are."""
        is_masked = (*self.tested, *self.untested)[0].get("masked")
        return f"average precision by class{f', {MASKED_ROWS}' if is_masked else ''}"

    @property
    def more(self) -> str:
        """A text that says where to find all classes; empty if all are shown."""
        n = len(self.tested) + len(self.untested)
        return f"All {n:,} classes are in class_differences.csv" if n > len(self.shown) else ""

    @property
    def method(self) -> str:
        """A text that says which values are corrected for the number of classes; empty if none was tested."""
        if not self.tested:
            return ""
        return f"intervals uncorrected, p corrected by Holm over {counted(len(self.tested), 'class')}"


def class_verdict(table: pa.Table) -> ClassVerdict | None:
    """Return the comparison of two models by class; None if no class is valid for any image.

    Parameters
    ----------
    table : pyarrow.Table
        The table ``class_differences`` of one data set.
    """
    rows = table.to_pylist()
    judged = [row for row in rows if row["n_positives"]]
    if not judged:
        return None
    tested = sorted((r for r in judged if is_tested(r)), key=lambda r: (r["p"], -abs(r["difference"])))
    untested = sorted((r for r in judged if not is_tested(r)), key=lambda r: -r["n_positives"])
    sentences = (_verdict(tested), *_coverage(untested, len(judged), len(rows) - len(judged)))
    return ClassVerdict(tuple(tested), tuple(untested), (*filter(None, sentences), _balance(judged)))


def is_tested(row: Row) -> bool:
    """Return whether a class has a p-value."""
    return bool(row["p"] == row["p"])


def is_unchanged(row: Row) -> bool:
    """Return whether a class has enough images for a test, but no image on which the models differ."""
    return not is_tested(row) and row["difference"] == 0 and row["n_positives"] >= FEWEST_POSITIVES


HEADS = ("difference", "95 %", "p (Holm)")
"""Columns after those of the class, its images and both models."""


def class_lines(table: pa.Table) -> Iterator[str]:
    """Yield a table of classes, and sentences about differences, untested classes and wins."""
    found = class_verdict(table)
    if found is None:
        return
    yield ""
    yield f"{found.title}{f': {found.method}' if found.method else ''}"
    head = ("class", "images", *found.names, *HEADS)
    yield from table_lines(head, [class_cells(row) for row in found.shown])
    yield from found.sentences
    yield from (f"{more}." for more in filter(None, (found.more,)))


def class_cells(row: Row) -> tuple[str, ...]:
    """Return the cells of a class."""
    values = (f"{row['ap_reference']:.2%}", f"{row['ap_model']:.2%}", f"{100 * row['difference']:+.2f}")
    cells = (row["key"], f"{row['n_positives']:,}", *values)
    if not is_tested(row):
        return (*cells, "not tested", "–")
    ends = f"{100 * row['difference_lo']:.2f} to {100 * row['difference_hi']:.2f}"
    return (*cells, ends, "<0.001" if row["p_adjusted"] < 0.001 else f"{row['p_adjusted']:.3f}")


def _verdict(tested: Sequence[Row]) -> str:
    """Return on which of the tested classes one model is better."""
    if not tested:
        return ""
    apart = [row for row in tested if row["p_adjusted"] < SIGNIFICANT]
    ahead = [row["key"] for row in apart if row["difference"] > 0]
    behind = [row["key"] for row in apart if row["difference"] < 0]
    model, reference = tested[0]["model"], tested[0]["reference"]
    each = ((model, ahead), (reference, behind))
    parts = [f"{name} is better on {first_names(keys, MOST_CLASSES)}" for name, keys in each if keys]
    if parts:
        return f"{'; '.join(parts)}."
    which = "the class" if len(tested) == 1 else f"any of the {len(tested):,} classes"
    return f"No difference can be shown on {which} tested."


def _coverage(untested: Sequence[Row], n: int, n_absent: int) -> Iterator[str]:
    """Yield how many classes were tested, and the others with the reason."""
    few = [row["key"] for row in untested if row["n_positives"] < FEWEST_POSITIVES]
    alike = [row for row in untested if row["n_positives"] >= FEWEST_POSITIVES]
    enough = n - len(few)
    if few:
        only = "Only " if 2 * enough < n else ""
        have = f"{only}{enough:,} of {counted(n, 'class')} {'has' if enough == 1 else 'have'}"
        have = have if enough else f"None of {counted(n, 'class')} has"
        yield (
            f"{have} the {FEWEST_POSITIVES} images that a test needs. Not tested: "
            f"{first_names(few, MOST_UNTESTED)}."
        )
    equal = [row["key"] for row in alike if row["difference"] == 0]
    confined = [row["key"] for row in alike if row["difference"] != 0]
    if equal:
        yield f"Not tested, because both models have the same value: {first_names(equal, MOST_UNTESTED)}."
    if confined:
        why = "all their images are in one cluster, or leaving out images does not change the difference"
        yield f"Not tested, because {why}: {first_names(confined, MOST_UNTESTED)}."
    if n_absent:
        yield f"{counted(n_absent, 'class')} {'is' if n_absent == 1 else 'are'} on no image."


def _balance(rows: Sequence[Row]) -> str:
    """Return on how many classes each model has the higher average precision."""
    ahead = sum(row["difference"] > 0 for row in rows)
    behind = sum(row["difference"] < 0 for row in rows)
    model, reference = rows[0]["model"], rows[0]["reference"]
    equal = len(rows) - ahead - behind
    included = "" if all(map(is_tested, rows)) else ", untested classes included"
    return (
        f"{model} has the higher AP on {ahead:,} of the {counted(len(rows), 'class')}, and {reference} on "
        f"{behind:,}{f'; the APs are equal on {equal:,}' if equal else ''} (a count{included}, not a test)."
    )
