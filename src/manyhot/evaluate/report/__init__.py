"""The report: its contents, from top to bottom, collected from tables.

It is rendered as one self-contained HTML file, which needs no network and no other file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from markupsafe import Markup

from manyhot.core.curve_metrics import CHANCE
from manyhot.errors import MissingExtraError
from manyhot.evaluate.compared_pairs import numbers_of_clusters
from manyhot.evaluate.report.datasets import DataSet, MetricColumn, Model, build_datasets
from manyhot.evaluate.report.drawn_columns import Cell, DrawnColumn, draw_column, first_rows, pack
from manyhot.evaluate.report.figures import draw_figures
from manyhot.evaluate.report.overview import TITLES, Finding, findings
from manyhot.evaluate.report.report_tables import ReportTables
from manyhot.evaluate.report.sections import Section, build_sections
from manyhot.evaluate.report.two_models import TwoModels, compare_two
from manyhot.files import write_text
from manyhot.report.chapter import Album, NextStep
from manyhot.report.export import save_figures
from manyhot.report.figure import Figure
from manyhot.report.gallery_files import GalleryLink, read_gallery_link
from manyhot.report.listings import Shared
from manyhot.report.page import Anchors, asset, environment, policy, script_json
from manyhot.report.pictures import TOP, Pictures
from manyhot.report.prerender import DATA_ID, FigurePage, prepare
from manyhot.report.text import Metric, count_range, counted, metrics_of
from manyhot.tables.result_tables import INTERVALS, reading_order

RESERVED = ("overview", *TITLES, "pictures", "made", "notes")
"""Anchors of the parts, which nothing else may take."""


MOST_OPEN = 4
"""Data sets up to which the models of all are shown; if there are more, those after the first are folded."""


@dataclass(frozen=True)
class NoteGroup:
    """A note, and the models of a data set to which it applies."""

    dataset: str
    text: str
    models: tuple[str, ...]
    kind: str = ""


@dataclass(frozen=True, eq=False)
class Report:
    """The contents of a report.

    Attributes
    ----------
    inputs : Mapping of str to str
        The hash of each input file.
    lead : str
        The first sentence, up to the names of the data sets.
    two_models : tuple of TwoModels
        Which of two models is better; empty if there are more models.
    gallery : GalleryLink, optional
        The gallery next to the page.
    sources : sequence of Mapping
        The published data that models were evaluated on, each with title, citation, licence, home and notes.
    undrawn : str
        The reason why there are no figures and what to do; empty if they were drawn.
    next : NextStep, optional
        What to do after an evaluation.
    """

    title: str
    call: str
    version: str
    schema: str
    inputs: Mapping[str, str]
    lead: str
    two_models: tuple[TwoModels, ...]
    findings: tuple[Finding, ...]
    datasets: tuple[DataSet, ...]
    sections: tuple[Section, ...]
    notes: tuple[NoteGroup, ...]
    pictures: Pictures | None
    gallery: GalleryLink | None
    sources: Sequence[Mapping[str, Any]]
    undrawn: str
    next: NextStep | None = None

    @property
    def audits(self) -> tuple[str, ...]:
        """Sentences on how an audit estimated values from people's label sets; empty if there is none."""
        return tuple(f"{n.text[0].upper()}{n.text[1:]}." for n in self.notes if n.kind in ("audit", "alone"))

    @property
    def n_models(self) -> int:
        """The largest number of models on a data set."""
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
    albums: Sequence[Album] = (),
    gallery: GalleryLink | None = None,
    highlight: Collection[str] = (),
    title: str = "",
    call: str = "",
    figures: Sequence[Figure] = (),
    undrawn: str = "",
) -> Report:
    """Collect the contents of a report; the parameters are as in `manyhot.evaluate.report.write_report`.

    Raises
    ------
    InputError
        If the tables are empty or contain a value twice, or a model to highlight is in none of them.
    """
    is_comparison = (call or tables.about.get("call", "")).startswith("manyhot compare")
    anchors = Anchors()
    for name in (*RESERVED, *(figure.name for figure in figures)):
        anchors(name)
    about = tables.about
    named = metrics_of(tables.results)
    datasets = build_datasets(tables.results, tables["pairs"], highlight, anchors)
    found = findings(tables, datasets, named, gallery)
    shared = Shared(named, frozenset(highlight), anchors, gallery, numbers_of_clusters(about))
    # The label sets of an audit are only proposed, and their errors are not those of the models.
    has_next = not (is_comparison or "audit" in about)
    two_models, models = compare_two(tables, datasets, anchors), _models(datasets)
    return Report(
        title or _title(tables, datasets, is_comparison=is_comparison),
        call or about.get("call", ""),
        about.get("version", ""),
        about.get("schema", ""),
        json.loads(about.get("inputs", "{}")),
        f"The results of {models} compared" if is_comparison else f"{models} evaluated",
        two_models,
        found,
        datasets,
        build_sections(
            tables,
            datasets,
            figures,
            shared,
            albums=albums,
            is_cautioned=any(f.caution for f in found),
            is_comparison=is_comparison,
        ),
        _grouped(note for note in notes if not (two_models and note["kind"] == CHANCE)),
        pictures,
        gallery,
        json.loads(about.get("sources", "[]")),
        undrawn,
        _ERRORS.after(call or about.get("call", "")) if has_next else None,
    )


_ERRORS = NextStep(
    "sort the errors by what they are.", "manyhot diagnose errors DATASET --predictions FOLDER"
)


def _title(tables: ReportTables, datasets: Sequence[DataSet], *, is_comparison: bool) -> str:
    """Return a title that says which page it is: of two models, of several data sets, or of many models."""
    names = tables.results["model"].unique().to_pylist()  # as passed, and not the best first
    if len(names) == 2:
        return " and ".join(names)
    if not is_comparison:
        return TITLE
    return "How accuracy changes between data sets" if len(datasets) > 1 else "How models rank"


def _models(datasets: Sequence[DataSet]) -> str:
    """Return the number of models. A model at an image size, such as ``vit@224``, counts as a model."""
    largest = max(datasets, key=lambda d: len(d.models))
    names = [model.name for model in largest.models]
    if names and all(re.search(r"@\d+$", name) for name in names):
        models = {name.rpartition("@")[0] for name in names}
        return f"{counted(len(names), 'model')}, counted at each image size ({len(models):,} otherwise),"
    return counted(len(names), "model")


def _grouped(notes: Iterable[Mapping[str, object]]) -> tuple[NoteGroup, ...]:
    models: dict[tuple[str, str, str], list[str]] = {}
    for note in notes:
        who = models.setdefault((str(note["dataset"]), str(note["text"]), str(note.get("kind", ""))), [])
        who += filter(None, [str(note["model"])])  # none if it concerns the labels
    return tuple(NoteGroup(dataset, text, tuple(who), kind) for (dataset, text, kind), who in models.items())


TITLE = "Models evaluated on label sets"


def write_report(
    out: Path,
    tables: ReportTables,
    *,
    notes: Sequence[Mapping[str, object]] = (),
    pictures: Pictures | None = None,
    albums: Sequence[Album] = (),
    highlight: Collection[str] = (),
    title: str = "",
    call: str = "",
    beside: bool = False,
) -> Path:
    """Write ``index.html`` into the folder `out`, with a link to a gallery in that folder; return its path.

    The same tables give the same bytes. If the extra ``report`` is not installed, the page has no figures and
    explains why.

    Parameters
    ----------
    tables : ReportTables
        The tables to show. Versions and inputs are read from the metadata of the results.
    notes : sequence of Mapping
        Notes on models, each with ``dataset``, ``model``, ``kind``, ``n`` and ``text``.
    pictures : Pictures, optional
        From `make_pictures`.
    albums : sequence of Album
        Photographs of the worst classes, from `class_albums`.
    highlight : collection of str
        The user's own models, which are highlighted everywhere.
    title : str
        Title of the page; by default, its subject.
    call : str
        The command to show; by default the command in the metadata.
    beside : bool
        Whether to save the figures in ``figures/`` next to the page, as `save_figures` does, and link to
        them.

    Raises
    ------
    InputError
        If the tables are empty or contain a value twice, or a model to highlight is in none of them.
    OutputError
        If the file cannot be written.
    """
    build = partial(
        build_report,
        tables,
        notes=notes,
        pictures=pictures,
        albums=albums,
        gallery=read_gallery_link(Path(out)),
        highlight=highlight,
        title=title,
        call=call,
    )
    figures: tuple[Figure, ...] = ()
    try:
        figures = draw_figures(tables, own=highlight)
        report = build(figures=figures)  # while the renderer draws: `prepare` waits for it
        page = prepare(figures)
    except MissingExtraError as error:
        figures, page = (), None
        report = build(undrawn=f"{error.what} {error.details['do']}")
    if beside:
        save_figures(figures, Path(out) / "figures")
    path = Path(out) / "index.html"
    write_text(path, render(report, page, beside=beside))
    return path


def render(report: Report, figures: FigurePage | None = None, *, beside: bool = False) -> str:
    """Return the page as text; `figures` is what `prepare` returned for the report's figures."""
    drawn = [_draw(dataset) for dataset in report.datasets]
    css, js = asset("report.css"), asset("report.js")
    alive = figures is not None and bool(report.figures)
    return (
        environment()
        .get_template("page.html")
        .render(
            page=report,
            report=report,
            sets=drawn,
            choices=_choices(report.datasets),
            metrics=_metrics(report.datasets),
            intervals=_intervals(report.datasets),
            data=_data(drawn),
            figures=figures if alive else None,
            figures_id=DATA_ID,
            beside=beside,
            policy=policy(js, *([figures.script] if figures is not None and alive else [])),
            css=Markup(css),  # noqa: S704  our own files, and no template
            js=Markup(js),  # noqa: S704
            top=TOP,
            most_open=MOST_OPEN,
        )
    )


@dataclass(frozen=True, eq=False)
class Drawn:
    """A data set, laid out for the page.

    `columns` are all columns, `shown` are the columns that are visible by default, and `rows` are the first
    models with their cells in the visible columns. `unranked` are the names of models without ranks.
    """

    data: DataSet
    images: str
    skipped: tuple[tuple[str, tuple[str, ...]], ...]
    columns: tuple[DrawnColumn, ...]
    shown: tuple[DrawnColumn, ...]
    rows: tuple[tuple[Model, str, tuple[Cell, ...]], ...]
    unranked: tuple[str, ...]


def _draw(data: DataSet) -> Drawn:
    columns = tuple(draw_column(c, data.models) for c in data.columns)
    shown = tuple(c for c in columns if c.column.shown)
    primary = data.column(data.primary.name)
    places = primary.places() if primary else (None,) * len(data.models)
    rows = tuple(
        (m, str(places[m.index] or ""), tuple(c.cell(m.index) for c in shown)) for m in first_rows(data)
    )
    unranked = tuple(m.name for m in data.models if not m.is_ranked)
    return Drawn(
        data, count_range(m.images for m in data.models), _skips(data), columns, shown, rows, unranked
    )


def _data(drawn: Sequence[Drawn]) -> Markup:
    """Return the numbers of all tables, from which further rows and columns are built."""
    names = {m.name: 0 for d in drawn for m in d.data.models}
    places = {name: place for place, name in enumerate(names)}
    return script_json({"names": list(names), "sets": [pack(d.data, d.columns, places) for d in drawn]})


def _skipped(column: MetricColumn) -> str:
    return count_range(v.n_skipped for v in column.values if v is not None and v.finite)


def _skips(data: DataSet) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return each count of skipped images above 0 with the shown metrics that skip so many."""
    found: dict[str, list[str]] = {}
    for column in data.columns:
        if column.shown and (n := _skipped(column)) != "0":
            found.setdefault(n, []).append(column.metric.label)
    return tuple((n, tuple(labels)) for n, labels in found.items())


def _choices(datasets: Sequence[DataSet]) -> list[MetricColumn]:
    """Return each metric once, for the menu of columns."""
    found: dict[str, MetricColumn] = {}
    for column in chain.from_iterable(d.columns for d in datasets):
        if column.metric.name not in found or column.shown:
            found[column.metric.name] = column
    return sorted(found.values(), key=lambda c: reading_order(c.metric.name))


def _intervals(datasets: Sequence[DataSet]) -> list[tuple[str, list[str]]]:
    """Return the methods of intervals with the metrics that have them, visible ones first."""
    found: dict[str, list[str]] = {}
    for choice in sorted(_choices(datasets), key=lambda c: not c.shown):
        if choice.metric.interval:
            found.setdefault(choice.metric.interval, []).append(choice.metric.label)
    return [(INTERVALS[method], labels) for method, labels in found.items()]


_Described = list[tuple[Metric, list[tuple[str, str, str]]]]


def _metrics(datasets: Sequence[DataSet]) -> dict[str, _Described]:
    """Return the definitions of the metrics that are visible by default, and of the others."""
    described: dict[str, _Described] = {"shown": [], "others": []}
    for choice in _choices(datasets):
        own = [(d.name, c) for d in datasets if (c := d.column(choice.metric.name)) is not None]
        counts = [
            (name, count_range(v.n for v in c.values if v and v.finite), _skipped(c)) for name, c in own
        ]
        described["shown" if choice.shown else "others"].append((choice.metric, counts))
    return described
