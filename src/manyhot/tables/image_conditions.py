"""Conditions on the columns of an images table, such as ``split=test``: which images they select."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.core.array_types import Bools
from manyhot.errors import InputError
from manyhot.tables.frames import one_chunk, rows_like
from manyhot.tables.labels import Images

MAX_VALUES = 200
"""Values of a column of the images table above which it is no grouping but a measurement."""

_FEWEST_ALIKE, _ALIKE, _DISTINCT = 5, 0.01, 10
"""Minimum number and share of images with a number that may mean *no value*, and of other numbers."""

FORMS = "COLUMN=VALUE, COLUMN=*, COLUMN=, COLUMN>=VALUE or COLUMN<=VALUE"
"""How a condition is written; compared values are numbers, or dates, months or times, such as 2026-11-08."""


def parse_condition(spec: str) -> tuple[str, str, str]:
    """Return column, sign and value of a condition; sign and value are empty for a column alone."""
    found = re.fullmatch(r"([^<>=]+)(?:(>=|<=|=)(.*))?", spec)
    return (found[1], found[2] or "", found[3] or "") if found else (spec, "", "")


def crossed_conditions(spec: str, columns: Collection[str] = ()) -> list[str]:
    """Return the conditions of a cross such as ``camera=cam1,shift=night``; one condition is returned alone.

    A comma separates conditions only if one of `columns` follows, because values may contain commas. Without
    `columns`, the text is the name of a slice: a comma separates what is written as conditions.
    """
    known = "|".join(map(re.escape, columns))
    after = f"(?:{known})(?:[<>]?=|,|$)" if columns else "[^\\s,<>=][^,<>=]*[<>]?="
    return re.split(f",(?={after})", spec)


def own_columns(images: Images | None) -> list[str]:
    """Return the columns of an images table that conditions can use."""
    known = [] if images is None else images.table.column_names
    return [c for c in known if c not in ("image_id", "uri", "label")]


def column_values(column: str, ids: pa.Array, images: Images, *, left_name: str) -> pa.Array:
    """Return the values of a column of an images table for some images."""
    names = left_name or "the labels", images.name or "the images table"
    rows = rows_like(ids, images.image_id, left_name=names[0], right_name=names[1])
    return one_chunk(pa.chunked_array([pc.take(one_chunk(images.table[column]), rows)]))


def images_with(spec: str, values: pa.Array, *, what: str = "condition") -> dict[str, Bools]:
    """Return the images that meet each condition, by its text: one condition, or one per value of a column.

    `values` are those of the column, and `what` is the name of the condition in messages.

    Raises
    ------
    InputError
        If a compared value is neither a number nor a date, or if the column has too many values.
    """
    column, sign, value = parse_condition(spec)
    if pa.types.is_boolean(values.type):
        value = value.lower()  # as Python and CSV files of pandas write it: True
    if sign in (">=", "<="):
        return {spec: _compared(spec, values, what)}
    if sign and value in ("*", ""):
        return {spec: _lack_value(values) != (value == "*")}
    return _equal(column, value, values)


def _lack_value(values: pa.Array) -> Bools:
    """Return whether each value is missing: null, NaN, an empty text or an empty list."""
    missing: Bools = values.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    size = pc.list_value_length(values) if _is_list(values) else pc.utf8_length(_texts(values))
    is_empty = pc.equal(size, 0)
    return np.asarray(missing | pc.fill_null(is_empty, False).to_numpy(zero_copy_only=False))


def some_values(values: pa.Array) -> str:
    """Return some values of a column for messages, as conditions write them."""
    return ", ".join([v for v in pc.unique(_texts(values)).to_pylist() if v][:20])


def selected_images(conditions: Sequence[str], ids: pa.Array, images: Images | None, name: str) -> Bools:
    """Return the images that meet all conditions, shape (n,). Several values of a column are alternatives.

    Parameters
    ----------
    conditions : sequence of str
        As in `FORMS`.
    ids : pyarrow.Array of string, shape (n,)
    images : Images, optional
        The table with the columns.
    name : str
        The name of the data set, for messages.

    Raises
    ------
    InputError
        If there is no such column, or if no image meets a condition.
    """
    columns = own_columns(images)
    by_column: dict[tuple[str, str], list[Bools]] = {}
    for spec in conditions:
        column, sign, value = parse_condition(spec)
        if (
            images is None
            or column not in columns
            or not sign
            or (sign != "=" and not re.fullmatch("[^<>]+", value))
        ):
            raise InputError(
                f"There is no condition {spec!r} on images.",
                where="`where`",
                got="no images table" if images is None else f"the columns {', '.join(columns)}",
                allowed=FORMS,
                do=_how_to_write(spec, columns),
            )
        values = column_values(column, ids, images, left_name=name)
        (mask,) = images_with(spec, values).values()
        if not mask.any():
            raise InputError(f"No image has {spec}.", where="`where`", allowed=some_values(values))
        by_column.setdefault((column, "=" if sign == "=" else spec), []).append(mask)
    chosen = np.logical_and.reduce([np.logical_or.reduce(masks) for masks in by_column.values()])
    if not chosen.any():
        raise InputError("No image meets all conditions.", where="`where`", got=conditions_text(conditions))
    return np.asarray(chosen)


def conditions_text(conditions: Sequence[str]) -> str:
    """Return conditions as text: alternatives are joined by or, all others by and."""
    by_column: dict[str, list[str]] = {}
    for spec in conditions:
        column, sign, _ = parse_condition(spec)
        by_column.setdefault(column if sign == "=" else spec, []).append(spec)
    both = ", and " if any(len(specs) > 1 for specs in by_column.values()) else " and "
    return both.join(" or ".join(specs) for specs in by_column.values())


def _how_to_write(spec: str, columns: Sequence[str]) -> str:
    column, sign, value = re.fullmatch(r"([^<>=]*)([<>]?)(.*)", spec, re.DOTALL).groups()  # type: ignore[union-attr]
    if re.search("[<>]", value):
        return "pass the ends of a range as two conditions, COLUMN>=LOW and COLUMN<=HIGH"
    if column in columns:
        return f"write {column}{sign}={value}" if sign and value else f"write {column}=VALUE or {column}=*"
    return pass_column(column)


def pass_column(column: str) -> str:
    """Return what to do if there is no images table with a column."""
    return f"pass a table with the column {column!r} as `images`; it can be the file of label sets"


def _compared(spec: str, values: pa.Array, what: str) -> Bools:
    _, sign, value = parse_condition(spec)
    try:
        bound, compared = _as_times(spec, value, values) if _TIME.match(value) else _as_numbers(value, values)
    except InputError:
        raise
    except (ValueError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        first = some_values(values).partition(", ")[0]
        is_date = any(re.fullmatch(r"\d{1,2}([./-])\d{1,2}\1\d{4}", text) for text in (value, first))
        raise InputError(
            f"The {what} {spec!r} compares values that are neither numbers nor dates.",
            got=f"a column of {values.type}, such as {first}",
            allowed="a column of numbers and a number, or a column of dates or times and a date such as "
            "2026-11-08",
            do="write dates as year-month-day, in the column and in the condition" if is_date else None,
        ) from error
    compare = pc.greater_equal if sign == ">=" else pc.less_equal
    mask: Bools = pc.fill_null(compare(compared, bound), False).to_numpy(zero_copy_only=False)
    return mask


def note_on_placeholder(spec: str, values: pa.Array, selected: Bools) -> str:
    """Return a note if a number such as -999, which may mean *no value*, meets a comparison; else empty.

    Such a number is shared by many images, and is farther from all others than these are from one another.
    `selected` are the images that all conditions together select.
    """
    column, sign, value = parse_condition(spec)
    if sign not in (">=", "<=") or _TIME.match(value):
        return ""
    of_image = _as_numbers(value, values)[1].to_numpy(zero_copy_only=False)
    distinct, n = np.unique(of_image[np.isfinite(of_image)], return_counts=True)
    if len(distinct) <= _DISTINCT:
        return ""
    lowest = sign == "<="  # only numbers at this end meet the comparison whatever its bound
    odd, n_alike = (distinct[0], n[0]) if lowest else (distinct[-1], n[-1])
    low, high = (distinct[1], distinct[-1]) if lowest else (distinct[0], distinct[-2])
    is_far = (low - odd if lowest else odd - high) > high - low
    met = np.count_nonzero(selected & (of_image == odd))
    if not is_far or not met or n_alike < max(_FEWEST_ALIKE, _ALIKE * n.sum()):
        return ""
    share = n_alike / len(values)
    other = f"{column}>={low}" if lowest else f"{column}<={high}"
    return (
        f"{spec} includes {met:,} images whose {column} is {odd:g} ({share:.1%} of all images; "
        f"the others have {low:g} to {high:g}): if it means that there is no value, leave these cells empty, "
        f"or also require {other}"
    )


_TIME = re.compile(r"\d{4}-\d{2}(-\d{2}([T ]\d{2}:.*)?)?$")
_ZONE = r"\d{2}:?\d{2}.*(?P<zone>Z|[+-]\d{2}:?\d{2})$"


def _as_numbers(value: str, values: pa.Array) -> tuple[float, pa.Array]:
    # Floats cannot tell whole numbers above 2**53 apart.
    if pa.types.is_signed_integer(values.type) and re.fullmatch(r"-?\d{1,18}", value):
        return int(value), values
    return float(value), values.cast(pa.float64(), safe=False)


def _as_times(spec: str, value: str, values: pa.Array) -> tuple[pa.Scalar, pa.Array]:
    """Return a month, day or time, and those of a column.

    Months and days are those of the times as they are written: a day ends at its midnight, in the time zone
    of the column. Times with a time zone are compared as points in time.
    """
    if _is_list(values):
        raise ValueError(values.type)
    text = _texts(values)
    text = pc.if_else(pc.equal(text, ""), None, text)
    if len(value) > len("2026-11-08"):
        times = [None if t is None else _point_in_time(t) for t in [value, *text.to_pylist()]]
        if len({t.tzinfo is None for t in times if t}) > 1:
            raise InputError(
                "Times with and without a time zone cannot be compared.",
                where=spec,
                got=f"a column of times such as {some_values(values).partition(', ')[0]}",
                do="write a time zone, such as Z for UTC, after all times or after none",
            )
        column = pa.array(times, pa.timestamp("us"))
        return column[0], column[1:]
    zones = pc.struct_field(pc.extract_regex(pc.utf8_slice_codeunits(text, 10), _ZONE), "zone")
    offsets = {
        zone.replace("Z", "+0000").replace(":", "") for zone in pc.unique(zones.drop_null()).to_pylist()
    }
    if len(offsets) > 1 and not pa.types.is_temporal(values.type):  # a type has one zone, with summer time
        raise InputError(
            f"A date is ambiguous for {spec.partition(value)[0].rstrip('<>=')!r}, whose times have several "
            f"time zones.",
            where=spec,
            got=f"times in the time zones {', '.join(sorted(offsets)[:5])}",
            allowed="one time zone, or a time with a time zone",
            do=f"pass a time, such as {spec.partition(value)[0]}2026-11-08T00:00:00Z, or write the column in "
            "one time zone",
        )
    rest = "-01"[len(value) - 7 :]
    column = pc.binary_join_element_wise(pc.utf8_slice_codeunits(text, 0, len(value)), rest, "")
    return pa.scalar(value + rest).cast(pa.date32()), column.cast(pa.date32())


def _point_in_time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo is None else time.astimezone(UTC)


def _is_list(values: pa.Array) -> bool:
    return bool(pa.types.is_list(values.type) or pa.types.is_large_list(values.type))


def _texts(values: pa.Array) -> pa.Array:
    flat = pc.list_flatten(values) if _is_list(values) else values
    return flat.cast(pa.string())


def natural_order(value: str) -> tuple[tuple[str, float], ...]:
    """Return the sort key of a value: numbers in it are ordered by size, so that 2 comes before 10."""
    parts = re.split(r"(\d+(?:\.\d+)?)", value)
    return tuple((text, float(number)) for text, number in zip(parts[::2], [*parts[1::2], "-1"], strict=True))


_DECIMAL = re.compile(r"-?(0|[1-9]\d*)\.\d+")


def _are(value: str, text: pa.Array, values: pa.Array) -> pa.Array:
    """Return where a column contains a value. A decimal such as 24.10 is also found as the number 24.1."""
    found = pc.equal(text, value)
    is_number = pa.types.is_floating(values.type) or pa.types.is_integer(values.type)
    if is_number and _DECIMAL.fullmatch(value) and not pc.any(found).as_py():
        return pc.equal(values.cast(pa.float64(), safe=False), float(value))
    return found


def _equal(column: str, value: str, values: pa.Array) -> dict[str, Bools]:
    text = _texts(values)
    wanted = [value] if value else sorted(filter(None, pc.unique(text).to_pylist()), key=natural_order)
    if len(wanted) > MAX_VALUES:
        raise InputError(
            f"The column {column!r} has too many values for slices.",
            got=f"{len(wanted):,}",
            allowed=f"up to {MAX_VALUES}",
        )
    masks: Mapping[str, Bools] = {
        v: pc.fill_null(_are(v, text, values), False).to_numpy(zero_copy_only=False) for v in wanted
    }
    if _is_list(values):  # an image is in the slice of each value that its list contains
        parents = pc.list_parent_indices(values).to_numpy()
        masks = {v: np.bincount(parents[mask], minlength=len(values)) > 0 for v, mask in masks.items()}
    return {f"{column}={v}": mask for v, mask in masks.items()}
