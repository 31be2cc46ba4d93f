"""From dataclasses to one HTML file that needs nothing else: no network, no second file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import chain
from pathlib import Path

import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from manyhot.files import write_text
from manyhot.report.build import TOLD, Column, DataSet, Model, Report, build_report
from manyhot.report.charts import (
    Cell,
    DrawnColumn,
    Panel,
    Scatter,
    count_range,
    draw_column,
    draw_panels,
    draw_scatter,
)
from manyhot.report.metrics import Metric, metric, reading_order
from manyhot.report.pictures import TOP, Pictures

TITLE = "Models judged on label sets"


def write_report(
    out: Path,
    results: pa.Table,
    pairs: pa.Table,
    *,
    notes: Sequence[Mapping[str, object]] = (),
    pictures: Pictures | None = None,
    highlight: Collection[str] = (),
    title: str = TITLE,
    call: str = "",
) -> Path:
    """Write ``index.html`` into the folder `out` and return its path.

    The same tables give the same bytes.

    Parameters
    ----------
    out : Path
    results, pairs : pyarrow.Table
        The tables of these names; versions and inputs are taken from the metadata of `results`.
    notes : sequence of Mapping
        Each with ``dataset``, ``model``, ``kind``, ``n`` and ``text``.
    pictures : Pictures, optional
        From `make_pictures`.
    highlight : collection of str
        The user's own models, set off from the others everywhere.
    title : str
    call : str
        The command to show; that of the metadata by default.

    Raises
    ------
    InputError
        The tables are not results and pairs, are empty or hold a number twice, or a model to highlight is in
        none of them.
    OutputError
        The file cannot be written.
    """
    report = build_report(
        results, pairs, notes=notes, pictures=pictures, highlight=highlight, title=title, call=call
    )
    path = Path(out) / "index.html"
    write_text(path, render(report))
    return path


def render(report: Report) -> str:
    """Return the page as text."""
    drawn = [_draw(i, dataset) for i, dataset in enumerate(report.datasets)]
    css, js = _asset("report.css"), _asset("report.js")
    return (
        _environment()
        .get_template("page.html")
        .render(
            report=report,
            sets=drawn,
            choices=_choices(report.datasets),
            metrics=_metrics(report.datasets),
            intervals=any(
                v and v.lo is not None for d in report.datasets for c in d.columns for v in c.values
            ),
            compare=[_comparable(dataset) for dataset in report.datasets],
            policy=_policy(js),
            css=Markup(css),  # noqa: S704  our own files, and no template
            js=Markup(js),  # noqa: S704
            top=TOP,
            most_told=TOLD,
        )
    )


@dataclass(frozen=True, eq=False)
class Drawn:
    """A data set with everything in its place.

    `hidden` is the attribute of each column's cells; `looks` are the models with a colour of their own.
    """

    data: DataSet
    anchor: str
    images: str
    skipped: tuple[tuple[str, tuple[str, ...]], ...]
    columns: tuple[DrawnColumn, ...]
    hidden: tuple[str, ...]
    rows: tuple[tuple[Model, str, tuple[Cell, ...]], ...]
    scatter: Scatter | None
    panels: tuple[Panel, ...]
    looks: tuple[Model, ...]


def _draw(i: int, data: DataSet) -> Drawn:
    columns = tuple(draw_column(c, data.models) for c in data.columns)
    cells = zip(*(c.cells for c in columns), strict=True) if columns else [()] * len(data.models)
    return Drawn(
        data,
        f"data-{i}",
        count_range(m.images for m in data.models),
        _skips(data),
        columns,
        tuple("" if c.column.shown else " hidden" for c in columns),
        tuple(zip(data.models, _places(data), cells, strict=True)),
        draw_scatter(data),
        draw_panels(data),
        tuple(m for m in data.models if m.look is not None),
    )


def _places(data: DataSet) -> list[str]:
    """Return each model's place by the primary metric; equals share one."""
    column = data.column(data.primary.name)
    values = [v.value if v and v.known else None for v in column.values] if column else []
    places: list[str] = []
    for i, value in enumerate(values):
        tied = i > 0 and value == values[i - 1]
        places.append("" if value is None else places[-1] if tied else str(i + 1))
    return places or [""] * len(data.models)


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
        found.setdefault(column.metric.name, column)
    return sorted(found.values(), key=lambda c: reading_order(c.metric.name))


def _metrics(datasets: Sequence[DataSet]) -> list[tuple[Metric, list[tuple[str, str, str]]]]:
    described = []
    for choice in _choices(datasets):
        own = [(d.name, c) for d in datasets if (c := d.column(choice.metric.name)) is not None]
        counts = [(name, count_range(v.n for v in c.values if v and v.known), _skipped(c)) for name, c in own]
        described.append((choice.metric, counts))
    return described


def _comparable(data: DataSet) -> dict[str, object]:
    return {
        name: {"label": metric(name).label, "order": c.order, "runs": c.runs()}
        for name, c in data.comparisons.items()
    }


def _policy(js: str) -> str:
    # The hash is of what stands between the tags, the line break after the first included.
    digest = base64.b64encode(hashlib.sha256(f"\n{js}".encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


@cache
def _asset(name: str) -> str:
    return (files("manyhot.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("manyhot.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"counted": _counted, "ordinal": _ordinal, "listed": _listed, "labels": _labels}
    return environment


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _ordinal(n: int) -> str:
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n:,}{ending}"


def _listed(names: Sequence[str], most: int) -> str:
    """Return names in a sentence, and how many more there are."""
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1:,} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _labels(names: Sequence[str]) -> str:
    return ", ".join(metric(name).label for name in names)
