"""Error rates of models by value of each column of the metadata, whether or not a group is found."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.console import table_lines
from manyhot.core.array_types import Bools, Ints
from manyhot.core.operating_points import OperatingPoints
from manyhot.core.sets import Case
from manyhot.core.share_intervals import clustered_interval
from manyhot.diagnose.groups_attributes import has_values, is_measure, short_number
from manyhot.diagnose.groups_outcomes import absent_from, judged_by_top
from manyhot.report.chapter import listing, with_ends
from manyhot.report.listings import Listing, heads_of
from manyhot.report.text import counted, listed, title_of
from manyhot.tables import Row
from manyhot.tables.definitions import COUNT, FLAG, ITS, REAL, TEXT, bounds, declare_table
from manyhot.tables.frames import null_if_nan
from manyhot.tables.image_conditions import MAX_VALUES, natural_order

NOT_PROPERTIES = ("label", "labels", "split")
"""Columns that are no properties of images, and define no groups unless they have another name."""

_OUTCOMES = ("error", "called", "missed")
_PRINTED = 5
_NAMED = 10  # values of a note

declare_table(
    "group_rates",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        TEXT(
            "outcome",
            "what is counted: top classes that are not valid, or (image, class) pairs whose class is "
            "predicted but not valid, or valid but not predicted",
            values=_OUTCOMES,
        ),
        TEXT("column", "a column of the metadata or of the images table, with up to 200 values"),
        TEXT.nullable(
            "value",
            "a value of the column or, for a measurement, one of four ranges with about equally many images; "
            "null for images without a value",
        ),
        COUNT("n_images", "images with the value that count"),
        COUNT("n", "images or pairs that count"),
        COUNT("events", "errors among them"),
        REAL("share", "events divided by n"),
        *bounds(
            "lo",
            "hi",
            f"{ITS} (Wilson, with the design effect of images or of clusters)",
            column=REAL.nullable,
        ),
        FLAG.optional(
            "tested",
            "whether this outcome was tested for the value (for a measurement, for its lowest or highest "
            "values) and at least one class; false if too few "
            "images have the value, or too few have another value; for misses, if this is the case for every "
            "class",
        ),
    ),
)


def describing(images: pa.Table | None, own: pa.Table | None, clusters: str | None) -> pa.Table:
    """Return the columns of the images table and of the metadata that describe images, by name."""
    left_out = ("image_id", "uri", "width", "height", clusters, *NOT_PROPERTIES)
    tables = [table for table in (images, own) if table is not None]
    return pa.table(
        {n: _dated(table[n]) for table in tables for n in table.column_names if n not in left_out}
    )


def _dated(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the dates of times, because few images have exactly the same time."""
    if not pa.types.is_timestamp(column.type):
        return column
    return pc.utf8_slice_codeunits(column.cast(pa.string()), 0, len("2026-01-31"))


ErrorCounts = Mapping[str, tuple[Ints, Ints]]
"""For each outcome, the number of events and of cases of each image, shape (n,)."""


def error_counts(case: Case, points: OperatingPoints | None, *, masked: bool = False) -> ErrorCounts:
    """Return the errors of a model: of its top class, or of all classes at the thresholds of `points`."""
    sets = case.labels
    if points is None:
        judged = judged_by_top(case, masked=masked)
        return {"error": ((judged & ~case.hit[:, 0]).astype(np.int64), judged.astype(np.int64))}
    assert case.scores is not None  # for the type checker
    yes = sets.yes_matrix()
    called, others, missed, valid = np.zeros((4, len(sets)), np.int64)
    for c in points.fitted.tolist():
        predicted = points.predicts(case.scores[:, c].astype(np.float32), slice(None), c)
        negative, positive = absent_from(sets, c, masked=points.masked), yes[:, c] & sets.usable
        called, others = called + (predicted & negative), others + negative
        missed, valid = missed + (~predicted & positive), valid + positive
    return {"called": (called, others), "missed": (missed, valid)}


def rate_rows(
    of: Row,
    counts: ErrorCounts,
    rows: Ints,
    columns: pa.Table,
    cluster: Ints | None,
    tested: Mapping[str, Collection[str]],
) -> Iterator[Row]:
    """Yield the rows of ``group_rates`` of a model.

    Parameters
    ----------
    of : dict
        The data set and the model.
    counts : dict
        Errors of the images in the given `rows` of `columns`.
    columns : pyarrow.Table
        A row for each image of the data set.
    cluster : ndarray of int, optional
        The cluster of each image, if images depend on each other.
    tested : dict
        The names of the groups that were tested for each outcome.
    """
    unit = rows if cluster is None else cluster[rows]
    for name in columns.column_names:
        for value, inside in _values(columns[name]):
            here = inside[rows]
            for outcome, (events, cases) in counts.items():
                num, den = (np.bincount(unit[here], side[here]) for side in (events, cases))
                lo, hi = clustered_interval(num, den, lambda values: values.sum(axis=0))
                n, k = int(den.sum()), int(num.sum())
                if n:
                    yield {
                        **of,
                        **{"outcome": outcome, "column": name, "value": value},
                        **{"n_images": int((cases[here] > 0).sum()), "n": n, "events": k, "share": k / n},
                        **{"lo": null_if_nan(float(lo)), "hi": null_if_nan(float(hi))},
                        "tested": was_tested(name, value, columns[name], tested.get(outcome, ())),
                    }


def untested_misses(
    rows: Sequence[Row], columns: pa.Table, tested: Mapping[str, Counter[str]], n_classes: int, least: int
) -> tuple[set[str], str]:
    """Return the values whose misses were not tested for any class, and a note; misses are tested by class.

    Values that were not tested at all are left out. The note, which is empty if misses of all values were
    tested for at least half of the classes, names the others.

    Parameters
    ----------
    rows : sequence of Row
        The rows of ``group_rates`` of one model.
    columns, tested
        As in `rate_rows`, with the number of classes for which each group was tested.
    n_classes : int
        Number of classes of which misses are counted.
    least : int
        Minimum number of images with a class inside and outside a group.
    """
    few = dict[str, tuple[int, int]]()
    for row in rows:
        name, value, of = row["column"], row["value"], columns[row["column"]]
        if row["outcome"] == "missed" and any(was_tested(name, value, of, t) for t in tested.values()):
            times = tested.get("missed", Counter[str]())
            n = max((k for group, k in times.items() if was_tested(name, value, of, [group])), default=0)
            if 2 * n < n_classes:
                shown = f"images without {name}" if value is None else f"{name} {value}"
                few[shown] = (n, row["n"])
    if not few:
        return set(), ""
    named = (f"{value} ({n} of {n_classes}, {k:,} valid pairs)" for value, (n, k) in few.items())
    return {value for value, (n, _) in few.items() if not n}, (
        f"misses of {counted(len(few), 'value')} of the metadata could be tested for fewer than half of the "
        f"{n_classes} classes, because a test needs {least} images (`min_images`) of the class with the "
        f"value, and as many without it: {listed(list(named), _NAMED)}"
    )


def was_tested(name: str, value: str | None, column: pa.ChunkedArray, tested: Collection[str]) -> bool:
    """Return whether the group of a value, or a group of a measurement, is among the names of groups."""
    if value is None:
        return f"without {name}" in tested
    if is_measure(column):
        return any(group.startswith((f"{name} ≤ ", f"{name} ≥ ")) for group in tested)
    return f"{name} {value}" in tested


def untested_values(
    columns: pa.Table, tested: Collection[str], min_images: int, predicted: Bools
) -> tuple[int, list[str]]:
    """Return how many values of columns are not among the names of the groups that were tested, and notes.

    `predicted` is true for the images on which groups were tested.
    """
    few, notes = list[tuple[int, str]](), list[str]()
    for name in columns.column_names:
        column = columns[name]
        if pa.types.is_nested(column.type):
            continue
        has_value = has_values(column)
        n, n_without = int(has_value.sum()), int((~has_value).sum())
        if n_without and n:
            notes.append(
                f"{n_without:,} of {len(column):,} images have no value of {name}: images with a value are "
                "compared only with images that have another one"
            )
            if not was_tested(name, None, column, tested):
                few.append((int((~has_value & predicted).sum()), f"images without {name}"))
        if is_measure(column):
            if n and not was_tested(name, "", column, tested):
                few.append((int((has_value & predicted).sum()), name))
            continue
        counts = pc.value_counts(column.cast(pa.string()).drop_null()).to_pylist()
        if sum(c["counts"] > 1 for c in counts) > MAX_VALUES:
            notes.append(
                f"{name} defines no groups: more than {MAX_VALUES} of its {len(counts):,} values belong to "
                "several images"
            )
        else:
            # Of many values, such as names or times, those of one image identify it.
            least = 2 if len(counts) > max(n / 2, MAX_VALUES) else 1
            values = [c["values"] for c in counts if least <= c["counts"] < len(column)]
            n_used = Counter(column.cast(pa.string()).filter(pa.array(predicted)).to_pylist())
            few += [(n_used[v], f"{name} {v}") for v in values if not was_tested(name, v, column, tested)]
    if few:
        what = "images" if predicted.all() else "images with predictions"
        named = listed([f"{value} ({k:,})" for k, value in sorted(few, key=lambda f: -f[0])], _NAMED)
        notes.append(
            f"{counted(len(few), 'value')} of the metadata {'was' if len(few) == 1 else 'were'} not tested, "
            f"because fewer than {min_images} {what} (`min_images`) have the value, or have another value of "
            f"the same column: {named}"
        )
    return len(few), notes


def _values(column: pa.ChunkedArray) -> Iterator[tuple[str | None, Bools]]:
    """Yield the values of a column, or ranges of a measurement, and the images that have each.

    The last, None, stands for images without a value, if there are any.
    """
    if pa.types.is_nested(column.type):
        return
    has_value = has_values(column)
    if has_value.any():
        yield from _known_values(column)
        if not has_value.all():
            yield None, ~has_value


def _known_values(column: pa.ChunkedArray) -> Iterator[tuple[str, Bools]]:
    if is_measure(column):
        values = np.asarray(pc.fill_null(column.cast(pa.float64(), safe=False), float("nan")).to_numpy())
        edges = np.unique(np.nanquantile(values, [0, 0.25, 0.5, 0.75, 1]))
        for i, (low, high) in enumerate(itertools.pairwise(edges)):
            above = values >= low if i == 0 else values > low
            yield f"{short_number(low)} to {short_number(high)}", above & (values <= high)
        return
    texts = column.cast(pa.string()).combine_chunks()
    distinct = pc.unique(texts.drop_null()).to_pylist()
    for value in sorted(distinct, key=natural_order) if len(distinct) <= MAX_VALUES else ():
        yield value, pc.fill_null(pc.equal(texts, value), False).to_numpy(zero_copy_only=False)


def _largest_first(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda r: (_OUTCOMES.index(r["outcome"]), -r["share"], -r["n"]))


_HEADS = ("column", "value", "errors", "error rate", "images", "model")


def _cells(r: Row) -> tuple[str, ...]:
    what = {"error": "top class", "called": "false positives", "missed": "misses"}[r["outcome"]]
    size = r["share"] or r["hi"] or 1  # 0.77 % (0.61 to 0.96), but 31 % (24 to 40)
    decimals = 0 if size >= 0.1 else 1 if size >= 0.01 else 2
    rate = f"{with_ends(r['share'], r['lo'], r['hi'], decimals)} of {r['n']:,}"
    mark = ", not tested" if r.get("tested") is False else ""
    value = "(no value)" if r["value"] is None else r["value"]
    return r["column"], value, what, f"{rate}{mark}", f"{r['n_images']:,}", r["model"]


def rate_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the terminal output: the values with the highest error rates."""
    if not rows:
        return
    yield "error rates by value of each column, the highest of each kind:"
    by_kind = [[r for r in _largest_first(rows) if r["outcome"] == kind][:_PRINTED] for kind in _OUTCOMES]
    yield from table_lines(_HEADS, [_cells(r) for part in by_kind for r in part])
    yield (
        f"all {len(rows):,} rates are in group_rates.csv; the findings above are the differences of "
        "tested values that are beyond chance and at least as large as required"
    )


def rate_listing(rows: Sequence[Row]) -> Listing:
    """Return the page's table of error rates."""
    return listing(
        "group-rates",
        "Error rates by value of each column",
        heads_of((*_HEADS, "data set"), ("error rate", "images")),
        _largest_first(rows),
        lambda r: (*_cells(r), title_of(r["dataset"])),
        note="The highest rates come first, whether or not they differ by more than chance.",
    )
