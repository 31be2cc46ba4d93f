"""What a figure of a report is, before anyone draws it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

SECTIONS = ("labels", "models", "trust", "groups", "shift", "saturation", "ranks")
"""Parts of a report that hold figures, in reading order."""

Spec = dict[str, Any]
"""A Vega-Lite specification."""


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure: what it shows, in words and as a specification with its data.

    Attributes
    ----------
    name : str
        Unique in a report; the name of its files and its anchor, such as ``shift-imagenetv2``.
    section : str
        One of `SECTIONS`.
    dataset : str
        The data set it is about; empty where there are several.
    title : str
        Short and plain.
    caption : str
        What a stranger must know to read it: the axes, what a mark is, what an interval is.
    alt : str
        The figure in words with its main numbers, for those who do not see it.
    spec : dict
        Vega-Lite: panels side by side in ``concat``, the data by name in ``datasets``. Colours are the CSS
        variables of `manyhot.report.theme`.
    data : pyarrow.Table
        The numbers that are drawn, in the units of the tables they are from.
    command : str
        The command that makes it again; empty if unknown.
    """

    name: str
    section: str
    dataset: str
    title: str
    caption: str
    alt: str
    spec: Mapping[str, Any]
    data: pa.Table
    command: str = ""

    @property
    def panels(self) -> tuple[Spec, ...]:
        """The panels, each a whole specification: what a page puts side by side, or one below the other."""
        shared = {key: self.spec[key] for key in ("$schema", "config", "params") if key in self.spec}
        return tuple({**shared, **panel, "datasets": self._used(panel)} for panel in self.spec["concat"])

    def _used(self, panel: Spec) -> Spec:
        names = set(_names(panel))
        return {name: rows for name, rows in self.spec["datasets"].items() if name in names}


def _names(node: object) -> list[str]:
    """Return the names of all data that a specification draws."""
    if isinstance(node, Mapping):
        data = node.get("data")
        own = [data["name"]] if isinstance(data, Mapping) and "name" in data else []
        return own + [name for value in node.values() for name in _names(value)]
    if isinstance(node, list):
        return [name for value in node for name in _names(value)]
    return []
