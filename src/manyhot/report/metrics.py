"""How metrics are presented in a report: label, definition, direction, unit.

Registered metrics declare this. Metrics that are not registered here, such as those of another tool or of a
package that is not installed, are described by the metadata of the results. Without either, a metric has its
name as its label and its values are plain numbers.
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
        The name in the results table.
    label, definition : str
    lower_is_better : bool
    percent : bool
        Whether the metric is a share, shown in percent; otherwise values are plain numbers.
    short, axis : str
        The label in figures: short, and beside an axis without the unit.
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
        """The text after a value."""
        return " %" if self.percent else ""

    def draw(self, value: float) -> float:
        """Return the value in the unit of figures and tables."""
        return value * 100 if self.percent else value

    def text(self, value: float, decimals: int) -> str:
        """Return the value as text without its unit; an en dash if it is undefined."""
        return f"{self.draw(value):,.{decimals}f}" if math.isfinite(value) else "–"


Named = Callable[[str], Metric]
"""Returns the presentation of a metric by its name."""


def metric(name: str, metadata: Mapping[str, Mapping[str, str]] | None = None) -> Metric:
    """Return the presentation of a metric of a results table, such as ``precision@5`` or a call string.

    Parameters
    ----------
    name : str
    metadata : Mapping, optional
        ``label``, ``definition``, ``better`` and ``unit`` of metrics that are not registered, from the
        results' metadata.
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
    """Return a function from the name of a metric of a results table to its presentation."""
    return partial(metric, metadata=json.loads(metadata_of(results).get("metrics", "{}")))
