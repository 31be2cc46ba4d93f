"""Results as other stages read them: values, and the tables that belong to them."""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.errors import InputError
from manyhot.tables.schemas import check, metadata, read, schema

End = tuple[str, str, str]
"""A place that models have values at: data set, metric and slice."""


class ModelValue(NamedTuple):
    """A number of a model, with its interval and its n."""

    value: float
    lo: float | None
    hi: float | None
    n: int


_MODELS = {
    "table": ("model",),
    "pairs": ("model_a", "model_b"),
    "samples": ("model",),
    "models": ("model",),
}
"""The columns that name models."""

_BESIDE = ("pairs", "samples", "models")


@dataclass(frozen=True, eq=False)
class Results:
    """Values of models on data sets, with pairs, samples and properties of the models.

    Attributes
    ----------
    table : pyarrow.Table
        The results table.
    pairs : pyarrow.Table
        Compared pairs of models; empty where none were.
    samples : pyarrow.Table
        Resampled values, from which intervals of comparisons are made; empty where there are none.
    models : pyarrow.Table
        Properties of the models; may be empty.
    name : str
        Their name in messages.
    """

    table: pa.Table
    pairs: pa.Table = field(default_factory=lambda: schema("pairs").empty_table())
    samples: pa.Table = field(default_factory=lambda: schema("samples").empty_table())
    models: pa.Table = field(default_factory=lambda: schema("models").empty_table())
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", check(self.table, "results", where=self.name or None))
        if self.table.num_rows and pc.min(self.table["n"]).as_py() < 0:
            raise InputError(
                "A number of images is negative.",
                where=self.name or None,
                got=pc.min(self.table["n"]).as_py(),
                allowed="0 and up",
            )
        for kind in _BESIDE:
            object.__setattr__(self, kind, check(getattr(self, kind), kind, where=self.name or None))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        counts = [len(self.table[c].unique()) for c in ("model", "dataset", "metric")]
        return "Results({!r}, {} models, {} data sets, {} metrics)".format(self.name, *counts)

    @property
    def datasets(self) -> list[str]:
        """The names of the data sets, in their order."""
        names: list[str] = self.table["dataset"].unique().to_pylist()
        return names

    def without(self, patterns: Sequence[str]) -> Results:
        """Return the results without the models whose names fit one of the patterns, such as ``fv_*``.

        Raises
        ------
        InputError
            If a pattern fits no model.
        """
        names = self.table["model"].unique().to_pylist()
        fitting = {
            p: fnmatch.filter(names, p) for p in ([patterns] if isinstance(patterns, str) else patterns)
        }
        for pattern, found in fitting.items():
            if not found:
                raise InputError("No model fits a pattern.", where=self.name or None, got=pattern)
        if not fitting:
            return self
        out = pa.array({m for found in fitting.values() for m in found}, pa.string())
        kept = {}
        for kind, columns in _MODELS.items():
            table = getattr(self, kind)
            for column in columns:
                table = table.filter(pc.invert(pc.is_in(table[column], out)))
            kept[kind] = table
        return replace(self, **kept)

    @cached_property
    def values_at(self) -> dict[End, dict[str, ModelValue]]:
        """The number of each model, by data set, metric and slice."""
        found: dict[End, dict[str, ModelValue]] = {}
        models = self.table["model"].to_pylist()
        rows = map(ModelValue, *_lists(self.table, ModelValue._fields))
        for end, model, number in zip(_ends(self.table), models, rows, strict=True):
            at = found.setdefault(end, {})
            if model in at:
                raise InputError(
                    "The results hold a number twice.",
                    where=self.name or None,
                    got=", ".join((*end, model)),
                    allowed="one row for each data set, model, metric and slice",
                )
            at[model] = number
        return found

    @cached_property
    def sample_rows(self) -> dict[End, dict[str, int]]:
        """The row of each model in the samples table, by data set, metric and slice."""
        found: dict[End, dict[str, int]] = {}
        models = self.samples["model"].to_pylist()
        for row, (end, model) in enumerate(zip(_ends(self.samples), models, strict=True)):
            found.setdefault(end, {})[model] = row
        return found

    @property
    def about(self) -> dict[str, str]:
        """The metadata of the results table."""
        return metadata(self.table)


def _ends(table: pa.Table) -> Iterator[End]:
    return zip(*_lists(table, ("dataset", "metric", "slice")), strict=True)


def _lists(table: pa.Table, columns: tuple[str, ...]) -> list[list[Any]]:
    return [table[c].to_pylist() for c in columns]


def read_folder(
    folder: str | os.PathLike[str], beside: Sequence[str]
) -> tuple[pa.Table, dict[str, pa.Table]]:
    """Read ``results.parquet`` of a folder, and those tables beside it that there are.

    Raises
    ------
    InputError
        If there is no ``results.parquet``, or a file breaks its table.
    """
    folder = Path(folder)
    if not (folder / "results.parquet").is_file():
        raise InputError(
            "The folder holds no results.",
            where=folder,
            allowed="a folder with results.parquet, as manyhot evaluate and manyhot compare write it",
        )
    results = read(folder / "results.parquet", "results")
    found = {k: read(path, k) for k in beside if (path := folder / f"{k}.parquet").is_file()}
    run = results_digest(results)
    for name, table in found.items():
        if metadata(table).get("results", run) != run:
            raise InputError(
                "The folder holds tables of two runs: one was interrupted, or two wrote at the same time.",
                where=folder / f"{name}.parquet",
                do="run it again, into a folder of its own",
            )
    return results, found


def read_thresholds(folder: str | os.PathLike[str]) -> Results | None:
    """Read the results on label sets at other thresholds, if the folder has any."""
    path = Path(folder) / "thresholds.parquet"
    return Results(read(path, "results"), name=str(folder)) if path.is_file() else None


def results_digest(results: pa.Table) -> str:
    """Return a digest that identifies the results of a run: 16 hexadecimal digits."""
    told = hashlib.sha256()
    for column in results.columns:
        if pa.types.is_string(column.type):
            told.update("\n".join(column.to_pylist()).encode())
        else:
            values = pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy()
            # NaNs may differ in bits; one stands for all.
            told.update(np.where(np.isnan(values), np.nan, values).tobytes())
    return told.hexdigest()[:16]


def read_results_folder(folder: str | os.PathLike[str]) -> Results:
    """Read the results of a folder, and pairs, samples and models beside them; raises as `read_folder`."""
    table, beside = read_folder(folder, _BESIDE)
    return Results(table, name=str(folder), **beside)
