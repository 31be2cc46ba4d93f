"""From dataclasses to one HTML file that needs nothing else: no network, no second file."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import chain
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from manyhot.errors import MissingExtraError
from manyhot.files import write_text
from manyhot.report.build import Report, build_report
from manyhot.report.charts import Cell, DrawnColumn, draw_column, first_rows, pack
from manyhot.report.datasets import Column, DataSet, Model
from manyhot.report.figure import Figure
from manyhot.report.figures import draw_figures
from manyhot.report.gallery_link import read_gallery_link
from manyhot.report.inputs import ReportTables
from manyhot.report.metrics import Metric, metric, reading_order
from manyhot.report.pictures import TOP, Pictures
from manyhot.report.prerender import DATA_ID, FigurePage, prepare
from manyhot.report.save import save_figures
from manyhot.report.words import called, count_range, counted, listed, ordinal

TITLE = "Models judged on label sets"


def write_report(
    out: Path,
    tables: ReportTables,
    *,
    notes: Sequence[Mapping[str, object]] = (),
    pictures: Pictures | None = None,
    highlight: Collection[str] = (),
    title: str = TITLE,
    call: str = "",
    beside: bool = False,
) -> Path:
    """Write ``index.html`` into the folder `out` and return its path; a gallery that lies there is linked.

    The same tables give the same bytes. Without the extra ``report`` the page has no figures, and says so.

    Parameters
    ----------
    out : Path
    tables : ReportTables
        Versions and inputs are taken from the metadata of its results.
    notes : sequence of Mapping
        Each with ``dataset``, ``model``, ``kind``, ``n`` and ``text``.
    pictures : Pictures, optional
        From `make_pictures`.
    highlight : collection of str
        The user's own models, set off from the others everywhere.
    title : str
    call : str
        The command to show; that of the metadata by default.
    beside : bool
        Whether to save the figures in ``figures/`` beside the page, as `save_figures` does, and link them.

    Raises
    ------
    InputError
        The tables hold nothing or a number twice, or a model to highlight is in none of them.
    OutputError
        The file cannot be written.
    """
    figures, page, undrawn = _figures(tables, highlight, call or tables.about.get("call", ""))
    report = build_report(
        tables,
        notes=notes,
        pictures=pictures,
        gallery=read_gallery_link(Path(out)),
        highlight=highlight,
        title=title,
        call=call,
        figures=figures,
        undrawn=undrawn,
    )
    if beside:
        save_figures(figures, Path(out) / "figures")
    path = Path(out) / "index.html"
    write_text(path, render(report, page, beside=beside))
    return path


def _figures(
    tables: ReportTables, own: Collection[str], command: str
) -> tuple[tuple[Figure, ...], FigurePage | None, str]:
    """Return the figures, what the page needs for them, or why there are none."""
    try:
        figures = draw_figures(tables, own=own, command=command)
        return figures, prepare(figures), ""
    except MissingExtraError as error:
        return (), None, f"{error.what} {error.details['do']}"


def render(report: Report, figures: FigurePage | None = None, *, beside: bool = False) -> str:
    """Return the page as text; `figures` holds what `prepare` made of the report's figures."""
    drawn = [_draw(dataset) for dataset in report.datasets]
    css, js = asset("report.css"), asset("report.js")
    alive = figures is not None and bool(report.figures)
    return (
        environment()
        .get_template("page.html")
        .render(
            report=report,
            sets=drawn,
            choices=_choices(report.datasets),
            metrics=_metrics(report.datasets),
            data=_data(drawn),
            figures=figures if alive else None,
            figures_id=DATA_ID,
            beside=beside,
            policy=policy(js, *([figures.script] if figures is not None and alive else [])),
            css=Markup(css),  # noqa: S704  our own files, and no template
            js=Markup(js),  # noqa: S704
            top=TOP,
        )
    )


@dataclass(frozen=True, eq=False)
class Drawn:
    """A data set with everything in its place.

    `columns` are all; `shown` are those whose cells are in `rows`, which are the first of the models.
    """

    data: DataSet
    images: str
    skipped: tuple[tuple[str, tuple[str, ...]], ...]
    columns: tuple[DrawnColumn, ...]
    shown: tuple[DrawnColumn, ...]
    rows: tuple[tuple[Model, str, tuple[Cell, ...]], ...]


def _draw(data: DataSet) -> Drawn:
    columns = tuple(draw_column(c, data.models) for c in data.columns)
    shown = tuple(c for c in columns if c.column.shown)
    primary = data.column(data.primary.name)
    places = primary.places() if primary else (None,) * len(data.models)
    rows = tuple(
        (m, str(places[m.index] or ""), tuple(c.cell(m.index) for c in shown)) for m in first_rows(data)
    )
    return Drawn(data, count_range(m.images for m in data.models), _skips(data), columns, shown, rows)


def _data(drawn: Sequence[Drawn]) -> Markup:
    """Return the numbers of all tables, from which further rows and columns are built."""
    names = {m.name: 0 for d in drawn for m in d.data.models}
    places = {name: place for place, name in enumerate(names)}
    packed = {"names": list(names), "sets": [pack(d.data, d.columns, places) for d in drawn]}
    text = json.dumps(packed, ensure_ascii=False, separators=(",", ":"))
    # Inside a script element only "</" and "<!--" could end or bend it.
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704  JSON, with "<" escaped


def _skipped(column: Column) -> str:
    return count_range(v.n_skipped for v in column.values if v is not None and v.known)


def _skips(data: DataSet) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return each count of skipped images above 0 with the shown metrics that skip so many."""
    found: dict[str, list[str]] = {}
    for column in data.columns:
        if column.shown and (n := _skipped(column)) != "0":
            found.setdefault(n, []).append(column.metric.label)
    return tuple((n, tuple(labels)) for n, labels in found.items())


def _choices(datasets: Sequence[DataSet]) -> list[Column]:
    """Return each metric once, for the menu of columns."""
    found: dict[str, Column] = {}
    for column in chain.from_iterable(d.columns for d in datasets):
        if column.metric.name not in found or column.shown:
            found[column.metric.name] = column
    return sorted(found.values(), key=lambda c: reading_order(c.metric.name))


def _metrics(datasets: Sequence[DataSet]) -> list[tuple[Metric, list[tuple[str, str, str]]]]:
    described = []
    for choice in _choices(datasets):
        own = [(d.name, c) for d in datasets if (c := d.column(choice.metric.name)) is not None]
        counts = [(name, count_range(v.n for v in c.values if v and v.known), _skipped(c)) for name, c in own]
        described.append((choice.metric, counts))
    return described


def policy(*scripts: str) -> str:
    """Return what a page may load: itself, and scripts that are these."""
    # A hash is of what stands between the tags, the line break after the first included.
    digests = (base64.b64encode(hashlib.sha256(f"\n{s}".encode()).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src {allowed}; base-uri 'none'; form-action 'none'"
    )


@cache
def asset(name: str) -> str:
    """Return a style or script of ours."""
    return (files("manyhot.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def environment() -> Environment:
    """Return what fills templates."""
    environment = Environment(
        loader=PackageLoader("manyhot.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "counted": counted,
        "ordinal": ordinal,
        "listed": listed,
        "labels": _labels,
        "unbroken": _unbroken,
        "intervals": _intervals,
        "called": called,
    }
    return environment


def _labels(names: Sequence[str]) -> str:
    return ", ".join(metric(name).label for name in names)


def _unbroken(text: str) -> Markup:
    """Return text in which no line ends within the name of a metric."""
    return Markup(re.sub(r"\b(Top-[15])\b", r'<span class="nb">\1</span>', str(escape(text))))  # noqa: S704


def _intervals(text: str) -> Markup:
    """Return text in which intervals step back, so that the sentence is read without them."""
    told = r"\((?:95 % interval|no interval)[^()]*\)"
    marked = re.sub(told, r'<span class="ci">\g<0></span>', str(_unbroken(text)))
    return Markup(marked)  # noqa: S704  escaped by _unbroken
