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
from manyhot.report.diagnosis import Diagnosis, read_diagnosis
from manyhot.report.figure import Figure
from manyhot.report.prerender import DATA_ID, FigurePage, prepare
from manyhot.report.render import asset, environment, policy

THRESHOLD = 0.4
"""Of flips, where the table does not tell it."""


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
    drawn, undrawn = _draw(found)
    figures = tuple(f for own in drawn.values() for f in own)
    page = prepare(figures) if figures else None
    about = [tables.metadata(table) for table in found.values()]
    diagnosis = Diagnosis(
        "Diagnosis",
        tuple(dict.fromkeys(a["call"] for a in about if a.get("call"))),
        next((a["version"] for a in about if a.get("version")), ""),
        build_chapters(found, folder, drawn),
        tuple(dict.fromkeys(str(note) for a in about for note in json.loads(a.get("notes", "[]")))),
        undrawn,
    )
    path = folder / "report" / "index.html"
    write_text(path, render_diagnosis(diagnosis, page))
    return path


def _draw(found: Mapping[str, pa.Table]) -> tuple[dict[str, list[Figure]], str]:
    """Return the figures of each part, or why there are none."""
    try:
        import altair as alt
        import vl_convert  # noqa: F401
    except ImportError:
        return {}, 'Figures need Altair: pip install "manyhot[report]"'
    from manyhot.report.figures.diagnosis import draw_corruptions, draw_shortcuts

    drawn: dict[str, list[Figure]] = {}
    with alt.utils.schemapi.debug_mode(False):
        if "shortcuts" in found:
            told = tables.metadata(found["shortcuts"]).get("threshold", THRESHOLD)
            drawn["shortcuts"] = draw_shortcuts(found["shortcuts"], float(told))
        if "losses" in found:
            drawn["corruptions"] = draw_corruptions(found["losses"])
    return drawn, ""


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
