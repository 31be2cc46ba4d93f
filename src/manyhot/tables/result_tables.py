"""Results of models, with pairs, samples and models, for other stages."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manyhot import registry
from manyhot.errors import InputError
from manyhot.tables.schemas import check, metadata, read, schema

End = tuple[str, str, str]
"""One end of a comparison: data set, metric and slice."""

END = ("dataset", "metric", "slice")
"""The columns of an end."""


def at_end(table: pa.Table, end: End) -> pa.Table:
    """Return the rows of a table of values or pairs on a data set, under a metric and on a slice."""
    masks = (pc.equal(table[column], value) for column, value in zip(END, end, strict=True))
    return table.filter(reduce(pc.and_, masks))


class ModelValue(NamedTuple):
    """The value of a model, with its interval and number of images n."""

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
"""The columns with the names of models."""

_BESIDE = ("pairs", "samples", "models")


@dataclass(frozen=True, eq=False)
class Results:
    """Results of models on data sets, with related tables.

    Attributes
    ----------
    table : pyarrow.Table
        The results table.
    pairs : pyarrow.Table
        Compared pairs of models; empty if there are none.
    samples : pyarrow.Table
        Resampled values, for intervals of comparisons; empty if there are none.
    models : pyarrow.Table
        Properties of the models; empty if unknown.
    name : str
        The name of the results in messages.
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
                allowed="0 or more",
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
        """The names of the data sets, in the order in which they first occur."""
        names: list[str] = self.table["dataset"].unique().to_pylist()
        return names

    def without(self, patterns: Sequence[str], *, missing_ok: bool = False) -> Results:
        """Return the results without the models whose names match one of the patterns, such as ``fv_*``.

        Raises
        ------
        InputError
            If a pattern matches no model and `missing_ok` is false.
        """
        names = self.table["model"].unique().to_pylist()
        fitting = {
            p: fnmatch.filter(names, p) for p in ([patterns] if isinstance(patterns, str) else patterns)
        }
        for pattern, models in fitting.items():
            if not (models or missing_ok):
                raise InputError("A pattern matches no model.", where=self.name or None, got=pattern)
        if not any(fitting.values()):
            return self
        out = pa.array({m for models in fitting.values() for m in models}, pa.string())
        remaining = {}
        for kind, columns in _MODELS.items():
            table = getattr(self, kind)
            for column in columns:
                table = table.filter(pc.invert(pc.is_in(table[column], out)))
            remaining[kind] = table
        return replace(self, **remaining)

    @cached_property
    def values_at(self) -> dict[End, dict[str, ModelValue]]:
        """The value of each model, grouped by data set, metric and slice."""
        values: dict[End, dict[str, ModelValue]] = {}
        models = self.table["model"].to_pylist()
        rows = map(ModelValue, *_lists(self.table, ModelValue._fields))
        for end, model, number in zip(_ends(self.table), models, rows, strict=True):
            at = values.setdefault(end, {})
            if model in at:
                raise InputError(
                    "The results contain a value twice.",
                    where=self.name or None,
                    got=", ".join((*end, model)),
                    allowed="one row for each data set, model, metric and slice",
                )
            at[model] = number
        return values

    @cached_property
    def sample_rows(self) -> dict[End, dict[str, int]]:
        """The row of the resampled values of each model, grouped by data set, metric and slice."""
        rows: dict[End, dict[str, int]] = {}
        models, n_values = self.samples["model"].to_pylist(), pc.list_value_length(self.samples["values"])
        keys = zip(_ends(self.samples), models, n_values.to_pylist(), strict=True)
        for row, (end, model, n) in enumerate(keys):
            if n:
                rows.setdefault(end, {})[model] = row
        return rows

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
    """Read ``results.parquet`` and the tables in `beside` that the folder contains.

    Raises
    ------
    InputError
        If there is no ``results.parquet``, or a file does not have the schema of its table.
    """
    folder = Path(folder)
    if not (folder / "results.parquet").is_file():
        raise InputError(
            "The folder contains no results.",
            where=folder,
            allowed="a folder with results.parquet, written by manyhot evaluate or manyhot compare",
        )
    results = read(folder / "results.parquet", "results")
    related = {k: read(path, k) for k in beside if (path := folder / f"{k}.parquet").is_file()}
    run = results_digest(results)
    for name, table in related.items():
        if metadata(table).get("results", run) != run:
            raise InputError(
                "The folder contains tables of two runs: one was interrupted, or both ran at the same time.",
                where=folder / f"{name}.parquet",
                do="run the command again with another folder",
            )
    return results, related


def read_thresholds(folder: str | os.PathLike[str]) -> Results | None:
    """Read the results for label sets at other thresholds, if the folder contains any."""
    path = Path(folder) / "thresholds.parquet"
    return Results(read(path, "results"), name=str(folder)) if path.is_file() else None


def results_digest(results: pa.Table) -> str:
    """Return a hash of the values of a run: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for column in results.columns:
        if pa.types.is_string(column.type):
            digest.update("\n".join(pc.fill_null(column, "").to_pylist()).encode())
        else:
            values = pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy()
            # NaNs may differ in bits.
            digest.update(np.where(np.isnan(values), np.nan, values).tobytes())
    return digest.hexdigest()[:16]


def read_results_folder(folder: str | os.PathLike[str]) -> Results:
    """Read the results of a folder with pairs, samples and models; raise the errors of `read_folder`."""
    table, beside = read_folder(folder, _BESIDE)
    return Results(table, name=str(folder), **beside)


ORIGINAL_LABELS, LABEL_SETS = "original labels", "label sets"
"""The labels to which accuracies refer."""


INTERVALS = {
    "bootstrap": "percentiles of a bootstrap over images, with the same resamples for all models",
    "jackknife": "computed by the jackknife over images",
    "score": "Wilson's, because there are few images, or few of them are right or wrong",
    "resampled": "computed by a bootstrap over images around the value; any p-values are from the jackknife",
    "audit": "from the design of the audit, for the value that people's answers on all images would give",
    "wilson": "Wilson's intervals, without p-values",
    "cluster_bootstrap": "percentiles of a bootstrap over clusters of images, with the same resamples for "
    "all models; any p-values are from the jackknife over clusters",
    "cluster_jackknife": "computed by the jackknife over clusters of images",
    "cluster_score": "Wilson's, with counts divided by the design effect of clusters of images; any p-values "
    "are from the jackknife over clusters",
    "cluster_resampled": "computed by a bootstrap over clusters of images around the value; any p-values are "
    "from the jackknife over clusters",
    "cluster_wilson": "Wilson's, with counts divided by the design effect of clusters of images, without "
    "p-values",
}
"""How intervals over images are computed. The metadata of results name the method of each metric."""


def describe_metric(name: str) -> dict[str, str]:
    """Return ``label``, ``definition``, ``better`` and ``unit`` of a metric; empty if it is not registered.

    A metric of a plug-in also has ``package``, the distribution that registers it and its version.

    Parameters
    ----------
    name : str
        The name in results, such as ``real1``, ``precision@5`` or ``jaccard(threshold=0.5)``.
    """
    entry = registered_metric(name)
    if entry is None:
        return {}
    about, options = entry.about, _family(name)[1]
    label = about.get("label", entry.name)
    at_k = options.startswith("@") and "@k" in label
    return {
        "label": label.replace("@k", options) if at_k else f"{label} {options}".strip(),
        "definition": entry.definition,
        "better": about["better"],
        "unit": about.get("unit", "share"),
        **({"package": entry.version} if entry.version else {}),
    }


def is_over_classes(name: str) -> bool:
    """Return whether a metric in results is a mean over the classes of the images, such as ``f1_macro``."""
    entry = registered_metric(name)
    return entry is not None and "over_classes" in entry.about


def registered_metric(name: str) -> registry.Entry | None:
    """Return the metric for a name in results, without its options; None if it is not registered."""
    base = _family(name)[0]
    return registry.get("metric", base) if registry.is_registered("metric", base) else None


def default_metrics(*, dense: bool, labelled: bool = True) -> list[str]:
    """Return the metrics that are computed by default for ranks, or for scores over all classes.

    Parameters
    ----------
    dense : bool
        Whether to return the metrics of scores over all classes.
    labelled : bool
        Whether images have original labels. If not, the metrics of scores are those for multi-label
        classification.
    """
    if dense and not labelled:
        return [e.name for e in registry.entries("metric") if e.about.get("multi_label")]
    entries = (
        (e.about.get("default"), e)
        for e in registry.entries("metric")
        if (e.about.get("needs") == "scores") == dense
    )
    return [default if isinstance(default, str) else e.name for default, e in entries if default]


def vote_metrics() -> list[str]:
    """Return the metrics against shares of votes."""
    return [e.name for e in registry.entries("metric") if e.about.get("votes")]


def headline() -> list[str]:
    """Return the metrics that are shown first and by default."""
    return [e.name for e in registry.entries("metric") if e.about.get("headline")]


def first_columns() -> list[str]:
    """Return the metrics that the first tables of models show: the headline, and three against votes."""
    return [*headline(), "kl_votes", "tv_votes", "ece_votes"]


def accuracies(*judged_on: str) -> list[str]:
    """Return the accuracies for comparing data sets, under `judged_on` or, by default, under any labels."""
    allowed = judged_on or (ORIGINAL_LABELS, LABEL_SETS)
    names = (e.name for e in registry.entries("metric") if e.about.get("judged_on") in allowed)
    return sorted(names, key=reading_order)


def reading_order(name: str) -> tuple[bool, int, str]:
    """Return the sort key of a metric: headline metrics first, then in the order of registration and name."""
    places = {n: place for place, n in enumerate(registry.names("metric"))}
    entry = registered_metric(name)
    if entry is None:
        return True, len(places), name
    return not entry.about.get("headline"), places[entry.name], name


def _family(name: str) -> tuple[str, str]:
    at = re.fullmatch(r"(.+)@(\d+)", name)
    if at:
        return f"{at[1]}@k", f"@{at[2]}"
    base, _, options = name.partition("(")
    return base, f"({options}" if options else ""
