"""How metrics are presented in a report: label, definition, direction, unit.

Registered metrics say so themselves. Others, which an outside tool or a package that is not installed may
have computed, are described by the metadata of the results. A metric that neither describes is shown by its
name, as a plain number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from manyhot.tables import metadata as metadata_of
from manyhot.tables.metrics import describe_metric, registered_metric


@dataclass(frozen=True)
class Metric:
    """How a metric is presented.

    Attributes
    ----------
    name : str
        As in the results table.
    label, definition : str
        For people.
    lower_is_better : bool
    percent : bool
        Whether it is a share, shown in percent; otherwise a plain number.
    short, axis : str
        The label in figures, where there is little room and beside an axis, without the unit.
    judged_on : str
        ``original labels`` or ``label sets`` for an accuracy; otherwise empty.
    """

    name: str
    label: str
    definition: str
    lower_is_better: bool = False
    percent: bool = True
    short: str = ""
    axis: str = ""
    judged_on: str = ""

    @property
    def unit(self) -> str:
        """What follows a number of this metric."""
        return " %" if self.percent else ""

    def draw(self, value: float) -> float:
        """Return the value in the unit it is drawn in."""
        return value * 100 if self.percent else value

    def text(self, value: float, decimals: int) -> str:
        """Return the value as text without its unit; an en dash where it is undefined."""
        return f"{self.draw(value):,.{decimals}f}" if math.isfinite(value) else "–"


Named = Callable[[str], Metric]
"""Presents a metric by its name."""


def metric(name: str, metadata: Mapping[str, Mapping[str, str]] | None = None) -> Metric:
    """Return how the metric of a results table is presented, ``precision@5`` and call strings included.

    Parameters
    ----------
    name : str
    metadata : Mapping, optional
        What the results' metadata say of each metric: ``label``, ``definition``, ``better`` and ``unit``; for
        those that are not registered.
    """
    about = describe_metric(name) or (metadata or {}).get(name, {})
    entry = registered_metric(name)
    in_figures = entry.about if entry is not None and entry.name == name else {}
    label = about.get("label", name)
    return Metric(
        name,
        label,
        about.get("definition", "Not described; see the package that registers it."),
        about.get("better") == "lower",
        about.get("unit") == "share",
        in_figures.get("short", label),
        in_figures.get("axis", label),
        in_figures.get("judged_on", ""),
    )


def metrics_of(results: pa.Table) -> Named:
    """Return a function that presents the metrics of a results table by their names."""
    return partial(metric, metadata=json.loads(metadata_of(results).get("metrics", "{}")))
