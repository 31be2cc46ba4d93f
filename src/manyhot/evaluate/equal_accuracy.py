"""Two groups of models at equal accuracy on the first data set, compared on the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import family_of
from manyhot.console import table_lines
from manyhot.core.comparison import Families
from manyhot.core.equal_accuracy import (
    EQUAL_METHODS,
    GroupDifference,
    ModelGroup,
    at_equal_accuracy,
    count_swaps,
    shared_models,
)
from manyhot.errors import InputError, MatchError, UsageError, first_names
from manyhot.evaluate.drops import END_COLUMNS
from manyhot.formats.writing import PathLike
from manyhot.tables import End, Results, Row, one_chunk, schema
from manyhot.tables.definitions import COUNT, REAL, TEXT, declare_table, interval
from manyhot.tables.result_tables import END, accuracies

BY_ARGUMENT = "results"
"""The value of `groups` for which each of two arguments is a group."""

declare_table(
    "equal_accuracy",
    (
        *END_COLUMNS,
        TEXT("group_a", "the first group of models, with which the second group is compared"),
        TEXT("group_b", "the second group"),
        TEXT("method", "how the value of the first group at the same x is estimated", values=EQUAL_METHODS),
        REAL.nullable(
            "at", "value at x at which the groups are compared; null for the mean over models of group_b"
        ),
        REAL("value_x", "value at x; for the mean, the average over the models of group_b"),
        REAL("value_a", "value at y of the first group at the same values of x"),
        REAL("value_b", "value at y of the second group"),
        *interval(
            "difference", "value_b minus value_a", "its 95 % interval over families of models", value=REAL
        ),
        REAL("from_x", "lowest value at x at which both groups have models"),
        REAL("to_x", "highest value at x at which both groups have models"),
        COUNT("n_a", "number of models of the first group that are used"),
        COUNT("n_b", "number of models of the second group that are used"),
        COUNT("families_a", "number of families of the n_a models"),
        COUNT("families_b", "number of families of the n_b models"),
        COUNT("n_pairs", "number of pairs with one model from each group"),
        COUNT("n_swapped", "number of pairs in a different order at y than at x"),
    ),
)

Groups = PathLike | Mapping[str, str]


@dataclass(frozen=True, eq=False)
class EqualAccuracy:
    """Two groups of models at equal accuracy.

    Attributes
    ----------
    table : pyarrow.Table
        The table ``equal_accuracy``; see `manyhot.tables.TABLES` for its columns.
    groups : Mapping of str to str
        The group of each model that belongs to a group.
    notes : tuple of str
        What was left out.
    """

    table: pa.Table
    groups: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def with_groups(self, models: pa.Table) -> pa.Table:
        """Return the models table with the column `group` added or replaced."""
        names = [self.groups.get(model) for model in models["model"].to_pylist()]
        others = models.drop_columns(["group"] if "group" in models.column_names else [])
        return others.append_column("group", pa.array(names, pa.string()))

    @property
    def means(self) -> list[Row]:
        """The rows with means over the models of the second group."""
        return [row for row in self.table.to_pylist() if row["at"] is None]

    def lines(self) -> Iterator[str]:
        """Yield a table of the mean differences."""
        rows = self.means
        yield (
            f"{rows[0]['group_b']} (second) compared with {rows[0]['group_a']} (first) at equal "
            f"{rows[0]['metric_x']} on {rows[0]['dataset_x']}: points, means over models of the second group"
        )
        yield from table_lines(EQUAL_HEADS, [equal_cells(row) for row in rows])


EQUAL_HEADS = ("at y", "method", "first", "second", "difference", "95 % over families", "models", "from x")


def equal_cells(row: Row) -> tuple[str, ...]:
    """Return the cells of a mean difference."""
    lo, hi = row["difference_lo"], row["difference_hi"]
    return (
        f"{row['dataset_y']} {row['metric_y']}",
        row["method"],
        f"{100 * row['value_a']:.2f}",
        f"{100 * row['value_b']:.2f}",
        f"{100 * row['difference']:+.2f}",
        "–" if lo is None else f"{100 * lo:+.2f} to {100 * hi:+.2f}",
        f"{row['n_a']:,} and {row['n_b']:,}",
        f"{100 * row['from_x']:.1f} to {100 * row['to_x']:.1f} %",
    )


def group_names(groups: Groups, results: Results, arguments: Sequence[Sequence[Results]]) -> dict[str, str]:
    """Return the group of each model of joined results, with the models of the first group first.

    Raises
    ------
    InputError
        As in `_by_argument` and `_read_groups`.
    """
    is_by_argument = not isinstance(groups, Mapping) and os.fspath(groups) == BY_ARGUMENT
    names = _by_argument(arguments) if is_by_argument else _read_groups(groups, results)
    models = set(results.table["model"].unique().to_pylist())
    found = {model: group for model, group in names.items() if model in models}
    distinct = list(dict.fromkeys(found.values()))
    if len(distinct) != 2:
        raise InputError(
            "There must be two groups of models.",
            where=None if isinstance(groups, Mapping) else groups,
            got=first_names(distinct) or "no model of these results",
            allowed="two",
        )
    return found


def _by_argument(parts: Sequence[Sequence[Results]]) -> dict[str, str]:
    """Return the group of each model if each argument of a call is a group.

    Raises
    ------
    UsageError
        If there are not two arguments.
    MatchError
        If both contain the same model.
    """
    if len(parts) != 2:
        raise UsageError(
            "Each argument is a group of models, and there must be two groups.",
            got=f"{len(parts)} argument{'s' * (len(parts) != 1)}",
            allowed="two results",
            do="pass two results, or a file with the columns model and group as `groups`",
        )
    names = [results[0].name or letter for results, letter in zip(parts, "AB", strict=True)]
    names = names if names[0] != names[1] else ["A", "B"]
    first, second = (
        dict.fromkeys(m for part in results for m in part.table["model"].unique().to_pylist())
        for results in parts
    )
    if both := [model for model in first if model in second]:
        raise MatchError(
            "A model is in both groups.",
            where=" and ".join(names),
            got=both[0],
            allowed="each model in one of the groups",
            do="leave it out with `without`, or pass the groups as a file",
        )
    return {**dict.fromkeys(first, names[0]), **dict.fromkeys(second, names[1])}


def _read_groups(groups: Groups, results: Results) -> dict[str, str]:
    """Return the group of each model according to `groups`: a mapping, COLUMN=VALUE, or a CSV file.

    Raises
    ------
    InputError
        If the file or the column does not exist.
    """
    if isinstance(groups, Mapping):
        return dict(groups)
    if "=" in os.fspath(groups) and not Path(groups).exists():
        return _by_column(os.fspath(groups), results.models)
    return read_model_column(groups, "group", "groups")


def _by_column(spec: str, models: pa.Table) -> dict[str, str]:
    """Return in which models a column has a value: these are the second group."""
    column, _, value = spec.partition("=")
    filled = [c for c in models.column_names if c != "model" and models[c].null_count < len(models)]
    if column not in filled:
        what = f"The table of models has no column {column!r}."
        raise InputError(what, got=spec, allowed=", ".join(filled))
    values = {m: str(v) for m, v in zip(*(models[c].to_pylist() for c in ("model", column)), strict=True)}
    has = {model: v == value for model, v in values.items()}
    if not any(has.values()):
        known = sorted(set(values.values()) - {"None"})
        raise InputError(f"No model has this {column}.", got=value, allowed=first_names(known, 12))
    first = [(m, f"other {column}") for m, is_second in has.items() if not is_second]
    return dict([*first, *((m, value) for m, is_second in has.items() if is_second)])


def compare_groups(results: Results, groups: Mapping[str, str]) -> EqualAccuracy:
    """Compare two groups of models at equal accuracy on the first data set.

    Raises
    ------
    MatchError
        If there is no second data set with values of both groups, or if the accuracies of the groups do not
        overlap enough.
    """
    names = tuple(dict.fromkeys(groups.values()))
    rows, apart, notes = list[dict[str, Any]](), list[str](), list[str]()
    ends = list(_ends(results, groups))
    if not ends:
        raise MatchError(
            "The groups have no second data set in common.",
            where=results.name or None,
            got=", ".join(results.datasets),
            allowed="a metric on the first data set and on another, for models of both groups",
        )
    for x, y in ends:
        sides = [_side(results, x, y, [m for m in groups if groups[m] == name]) for name in names]
        found = list(at_equal_accuracy(sides[0], sides[1]))
        rows += _rows(x, y, names, sides, found)
        notes += _size_notes(results, x, y, groups)
        if not found:
            spans = " and ".join(
                f"{100 * side.x.min():.1f} to {100 * side.x.max():.1f} % for {name}"
                for side, name in zip(sides, names, strict=True)
            )
            apart.append(f"{x[1]} on {x[0]} is {spans}, among models with a value on {y[0]}")
    if not rows:
        raise MatchError(
            "The accuracies of the groups do not overlap enough.",
            where=results.name or None,
            got=apart[0],
            allowed="five models of each group within 5 points of accuracy",
            do="compare groups that overlap in accuracy",
        )
    notes += [f"accuracies do not overlap enough: {text}" for text in apart]
    left_out = len(results.table["model"].unique()) - len(groups)
    if left_out:
        notes.append(f"{left_out:,} models are in neither group")
    return EqualAccuracy(
        pa.Table.from_pylist(rows, schema("equal_accuracy")), groups, tuple(dict.fromkeys(notes))
    )


def _ends(results: Results, groups: Mapping[str, str]) -> Iterator[tuple[End, End]]:
    """Yield the places that both groups have a value at: the first data set, and each other one."""
    first, *others = results.datasets
    names = set(groups.values())
    for dataset, metric in product(others, accuracies()):
        x, y = (first, metric, "all"), (dataset, metric, "all")
        both = results.values_at.get(x, {}).keys() & results.values_at.get(y, {}).keys()
        if {groups[m] for m in both if m in groups} == names:
            yield x, y


def _side(results: Results, x: End, y: End, models: Sequence[str]) -> ModelGroup:
    at_x, at_y = results.values_at[x], results.values_at[y]
    both = [m for m in models if m in at_x and m in at_y]
    values = np.array([(at_x[m].value, at_y[m].value) for m in both])
    finite = np.isfinite(values).all(1)
    values_x, values_y = values[finite].T
    table = results.models
    families = dict(zip(*(table[c].to_pylist() for c in ("model", "family")), strict=True))
    names = [families[m] for m, is_finite in zip(both, finite, strict=True) if is_finite]
    return ModelGroup(values_x, values_y, Families.of(names))


def _rows(
    x: End, y: End, names: Sequence[str], sides: Sequence[ModelGroup], differences: Sequence[GroupDifference]
) -> Iterator[dict[str, Any]]:
    ends = {f"{c}_{side}": end[i] for side, end in (("x", x), ("y", y)) for i, c in enumerate(END)}
    first, second = sides
    if not differences:
        return
    shared = second.x[shared_models(first, second)]
    same = {
        **ends,
        **dict(zip(("group_a", "group_b"), names, strict=True)),
        **{"from_x": shared.min(), "to_x": shared.max()},
        **{"n_pairs": len(first.x) * len(second.x), "n_swapped": count_swaps(first, second)},
    }
    for d in differences:
        lo, hi = (v if np.isfinite(v) else None for v in d.interval)
        yield same | {
            **{"method": d.method, "at": d.at, "value_x": d.x, "value_a": d.a, "value_b": d.b},
            **{"difference": d.b - d.a, "difference_lo": lo, "difference_hi": hi},
            **{"n_a": d.n_a, "n_b": d.n_b, "families_a": d.families_a, "families_b": d.families_b},
        }


def _size_notes(results: Results, x: End, y: End, groups: Mapping[str, str]) -> Iterator[str]:
    """Yield a note if the groups were not evaluated on the same number of images."""
    for end in (x, y):
        sizes: dict[str, set[int]] = {}
        for model, value in results.values_at[end].items():
            if model in groups:
                sizes.setdefault(groups[model], set()).add(value.n)
        one, other = sizes.values()
        if one != other:
            counts = (f"{min(n):,} to {max(n):,} for {name}" for name, n in sizes.items())
            each = " and ".join(counts)
            yield f"the groups were evaluated on different numbers of images of {end[0]}: {each}"


def family_namer(results: Results, families: PathLike | Mapping[str, str] | None) -> Callable[[str], str]:
    """Return a function that finds a model's family in `families`, in the models table, or from its name."""
    own = families if isinstance(families, Mapping) else read_model_column(families, "family", "families")
    models = results.table["model"].unique().to_pylist()
    if own and not set(own) & set(models):
        raise MatchError(
            "None of the models is in the table of families.",
            got=f"models such as {next(iter(own))}",
            allowed=f"models such as {models[0]}",
        )
    table = results.models
    columns = (table[c].to_pylist() for c in ("model", "family") if "family" in table.column_names)
    listed_families = {model: family for model, family in zip(*columns, strict=True) if family}
    return lambda model: own.get(model) or listed_families.get(model) or family_of(model)


def read_model_column(path: PathLike | None, name: str, plural: str) -> dict[str, str]:
    """Return the values of a column of a CSV file, such as ``family``, by model.

    Raises
    ------
    InputError
        If the file does not exist or lacks a column, or a model is listed twice.
    """
    import polars as pl

    if path is None:
        return {}
    try:
        frame = pl.read_csv(Path(path), infer_schema=False).select("model", name)
    except FileNotFoundError as error:
        raise InputError(
            "The file does not exist.", where=path, allowed=f"a CSV file with the columns model and {name}"
        ) from error
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise InputError(
            f"The file is not a table of {plural}.",
            where=path,
            got=str(error).partition("\n")[0],
            allowed=f"a CSV file with the columns model and {name}",
        ) from error
    twice = frame["model"].filter(frame["model"].is_duplicated())
    if len(twice):
        raise InputError(
            f"A model is listed with two {plural}.", where=path, got=twice[0], allowed="one row per model"
        )
    return dict(frame.iter_rows())


def with_families(results: Results, family: Callable[[str], str]) -> pa.Table:
    """Return the models table with a row and a family for every model."""
    table, models = results.models, results.table["model"].unique().to_pylist()
    at = pc.index_in(pa.array(models, pa.string()), one_chunk(table["model"]))
    columns = {c: table[c].take(at) for c in table.column_names if c not in ("model", "family")}
    families = pa.array([family(m) for m in models], pa.string())
    return pa.table({"model": pa.array(models, pa.string()), "family": families, **columns})
