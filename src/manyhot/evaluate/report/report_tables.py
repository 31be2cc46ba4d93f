"""The tables that a report is drawn from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
from pyarrow import compute as pc

from manyhot import tables
from manyhot.evaluate.compared_pairs import numbers_of_clusters
from manyhot.evaluate.error_consistency import CONSISTENCY_TABLES
from manyhot.evaluate.per_class.class_tables import CLASS_TABLES

MADE = (
    "drops",
    "fits",
    "ranks",
    "swaps",
    "sensitivity",
    "error_ratios",
    "worst_slices",
    "equal_accuracy",
    "datasets",
    "set_sizes",
    "class_pairs",
    "rejected",
    "reliability",
    "risk_coverage",
    "class_differences",
    "posterior",
    "posterior_pairs",
    *CONSISTENCY_TABLES,
    *CLASS_TABLES,
)
"""Further tables of a run besides the results; those of an earlier run in the same folder are removed."""


BESIDE = ("pairs", "models", *MADE)
"""Tables next to the results, each in a file of its name; missing tables are empty here."""


FEWEST_MODELS = 3
"""Minimum number of models for which lines through models, ranks and kinds of models are meaningful."""


@dataclass(frozen=True, eq=False)
class ReportTables:
    """All tables that a report can show.

    Attributes
    ----------
    beside : Mapping of str to pyarrow.Table
        Further tables by name, from `BESIDE`. If a table is missing, its part of the report is left out.
    """

    results: pa.Table
    beside: Mapping[str, pa.Table]

    def __post_init__(self) -> None:
        object.__setattr__(self, "results", tables.check(self.results, "results"))
        for name, table in self.beside.items():
            tables.check(table, name)

    def __getitem__(self, name: str) -> pa.Table:
        """Return a table, empty where it was not made."""
        if name == "results":
            return self.results
        return self.beside[name] if name in self.beside else tables.schema(name).empty_table()

    @cached_property
    def has_trends(self) -> bool:
        """Whether there are enough models to show fitted lines, ranks and kinds of models."""
        return len(pc.unique(self.results["model"])) >= FEWEST_MODELS

    @cached_property
    def is_by_class(self) -> bool:
        """Whether the page begins with results by class, for one or two models."""
        return not self.has_trends and self["class_results"].num_rows > 0

    @cached_property
    def about(self) -> dict[str, str]:
        """The metadata of the results table."""
        return tables.metadata(self.results)

    def over(self, *datasets: str) -> str:
        """Return over what intervals of changes of data sets are computed: images, or clusters of images."""
        clustered = numbers_of_clusters(self.about)
        return "over images" if clustered.keys().isdisjoint(datasets) else "over clusters of images"


def read_tables(folder: str | os.PathLike[str]) -> ReportTables:
    """Read the tables in a folder written by `manyhot evaluate` or `manyhot compare`.

    Raises
    ------
    InputError
        If there is no ``results.parquet``, or a file does not have the schema of its table.
    """
    return ReportTables(*tables.read_folder(folder, BESIDE))
