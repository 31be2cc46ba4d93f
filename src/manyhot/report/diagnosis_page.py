"""From diagnoses to one HTML file that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from markupsafe import Markup

from manyhot import tables
from manyhot.files import write_text
from manyhot.report.chapters import build_chapters
from manyhot.report.diagnosis import Chapter, Diagnosis, read_diagnosis
from manyhot.report.prerender import DATA_ID, FigurePage, prepare
from manyhot.report.render import asset, environment, policy


def write_diagnosis(folder: Path) -> Path:
    """Write ``report/index.html`` of the diagnoses whose tables lie in a folder, and return its path.

    Pictures become part of the page. Without the extra ``report`` it has no figures, and says so.

    Raises
    ------
    InputError
        A file breaks its table.
    OutputError
        The file cannot be written.
    """
    found = read_diagnosis(folder)
    chapters, undrawn = _build(found, folder)
    figures = tuple(f for chapter in chapters for f in chapter.figures)
    page = prepare(figures) if figures else None
    about = [tables.metadata(table) for table in found.values()]
    diagnosis = Diagnosis(
        "Diagnosis",
        tuple(dict.fromkeys(a["call"] for a in about if a.get("call"))),
        next((a["version"] for a in about if a.get("version")), ""),
        chapters,
        tuple(dict.fromkeys(str(note) for a in about for note in json.loads(a.get("notes", "[]")))),
        undrawn,
    )
    path = folder / "report" / "index.html"
    write_text(path, render_diagnosis(diagnosis, page))
    return path


def _build(found: Mapping[str, pa.Table], folder: Path) -> tuple[tuple[Chapter, ...], str]:
    """Return the chapters, and why they have no figures where they have none."""
    try:
        import altair as alt
        import vl_convert  # noqa: F401
    except ImportError:
        return build_chapters(found, folder, draw=False), 'Figures need Altair: pip install "manyhot[report]"'
    with alt.utils.schemapi.debug_mode(False):
        return build_chapters(found, folder, draw=True), ""


def render_diagnosis(diagnosis: Diagnosis, figures: FigurePage | None = None) -> str:
    """Return the page as text; `figures` holds what `prepare` made of its figures."""
    return (
        environment()
        .get_template("diagnosis.html")
        .render(
            page=diagnosis,
            figures=figures,
            figures_id=DATA_ID,
            policy=policy(*([figures.script] if figures is not None else [])),
            css=Markup(asset("report.css") + asset("diagnosis.css")),  # noqa: S704  our own files
        )
    )
