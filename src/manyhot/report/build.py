"""From tables to what a report shows, top to bottom."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from manyhot.report.anchors import Anchors
from manyhot.report.datasets import DataSet, build_datasets
from manyhot.report.figure import Figure
from manyhot.report.gallery_link import GalleryLink
from manyhot.report.inputs import ReportTables
from manyhot.report.listings import Shared
from manyhot.report.metrics import metric
from manyhot.report.overview import Finding, findings
from manyhot.report.pictures import Pictures
from manyhot.report.sections import Section, build_sections
from manyhot.report.words import counted

RESERVED = (
    "overview",
    "labels",
    "models",
    "groups",
    "shift",
    "saturation",
    "ranks",
    "pictures",
    "made",
    "notes",
)
"""Anchors of the parts, which nothing else may take."""


@dataclass(frozen=True)
class NoteGroup:
    """A note and the models of a data set that it is about."""

    dataset: str
    text: str
    models: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Report:
    """What a report shows.

    Attributes
    ----------
    title, call, version, schema : str
    inputs : Mapping of str to str
        The hash of each input file.
    findings : tuple of Finding
    datasets : tuple of DataSet
    sections : tuple of Section
    notes : tuple of NoteGroup
    pictures : Pictures, optional
    gallery : GalleryLink, optional
        Beside the page.
    sources : sequence of Mapping
        Published data that were judged, each with title, citation, licence, home and notes.
    undrawn : str
        Why there are no figures, and what to do; empty where they were drawn.
    """

    title: str
    call: str
    version: str
    schema: str
    inputs: Mapping[str, str]
    findings: tuple[Finding, ...]
    datasets: tuple[DataSet, ...]
    sections: tuple[Section, ...]
    notes: tuple[NoteGroup, ...]
    pictures: Pictures | None
    gallery: GalleryLink | None
    sources: Sequence[Mapping[str, Any]]
    undrawn: str

    @property
    def rows(self) -> str:
        """How many models there are; one may be a model at an image size, as ``vit@224``."""
        largest = max(self.datasets, key=lambda d: len(d.models))
        names = [model.name for model in largest.models]
        if names and all(re.search(r"@\d+$", name) for name in names):
            models = {name.rpartition("@")[0] for name in names}
            return f"{counted(len(names), 'model')}, counted at each image size ({len(models):,} otherwise),"
        return counted(len(names), "model")

    @property
    def n_models(self) -> int:
        """How many models the data set with most of them has."""
        return max(len(dataset.models) for dataset in self.datasets)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All figures, in reading order."""
        return tuple(figure for section in self.sections for figure in section.figures)


def build_report(
    tables: ReportTables,
    *,
    notes: Sequence[Mapping[str, object]] = (),
    pictures: Pictures | None = None,
    gallery: GalleryLink | None = None,
    highlight: Collection[str] = (),
    title: str = "",
    call: str = "",
    figures: Sequence[Figure] = (),
    undrawn: str = "",
) -> Report:
    """Collect what a report shows; the parameters are those of `manyhot.report.write_report`.

    Raises
    ------
    InputError
        The tables hold nothing or a number twice, or a model to highlight is in none of them.
    """
    anchors = Anchors()
    for name in (*RESERVED, *(figure.name for figure in figures)):
        anchors(name)
    about = tables.about
    named = partial(metric, told=json.loads(about.get("metrics", "{}")))
    datasets = build_datasets(tables.results, tables["pairs"], highlight, anchors)
    shared = Shared(named, frozenset(highlight), anchors, gallery)
    return Report(
        title,
        call or about.get("call", ""),
        about.get("version", ""),
        about.get("schema", ""),
        json.loads(about.get("inputs", "{}")),
        findings(tables, datasets, named, gallery),
        datasets,
        build_sections(tables, datasets, figures, shared),
        _grouped(notes),
        pictures,
        gallery,
        json.loads(about.get("sources", "[]")),
        undrawn,
    )


def _grouped(notes: Iterable[Mapping[str, object]]) -> tuple[NoteGroup, ...]:
    models: dict[tuple[str, str], list[str]] = {}
    for note in notes:
        models.setdefault((str(note["dataset"]), str(note["text"])), []).append(str(note["model"]))
    return tuple(NoteGroup(dataset, text, tuple(who)) for (dataset, text), who in models.items())
