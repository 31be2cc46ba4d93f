"""The page of a study, as the results section of a paper: question, answer, method, results, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from markupsafe import Markup

from manyhot.files import write_text
from manyhot.report.figure import Figure
from manyhot.report.listings import Listing
from manyhot.report.metrics import Metric
from manyhot.report.prerender import draw_inline, style
from manyhot.report.render import asset, environment, policy


@dataclass(frozen=True)
class Verdict:
    """A verdict: its kind, the word for it, its sentence, and the numbers that chose it."""

    kind: str
    word: str
    sentence: str
    numbers: str


@dataclass(frozen=True)
class Term:
    """A name and what it is."""

    name: str
    text: str


@dataclass(frozen=True)
class Terms:
    """Names under a title, such as the arms."""

    title: str
    terms: tuple[Term, ...]


@dataclass(frozen=True, eq=False)
class StudyPage:
    """The page.

    Attributes
    ----------
    title, question : str
    warning : str
        What stands before everything; empty for nothing.
    verdicts, further : tuple of Verdict
        The short answer, and what else was claimed.
    rule : str
        How verdicts are made.
    about : tuple of str
        Paragraphs: what was done.
    setup : tuple of Terms
        Data sets, networks, arms, measures.
    effects : Listing
    results : tuple of Listing
        A table of arms × metrics for each data set and network.
    across : Listing, optional
        What was measured across runs.
    limits, not_run : tuple of str
    command, version : str
    """

    title: str
    question: str
    warning: str
    verdicts: tuple[Verdict, ...]
    further: tuple[Verdict, ...]
    rule: str
    about: tuple[str, ...]
    setup: tuple[Terms, ...]
    effects: Listing
    results: tuple[Listing, ...]
    across: Listing | None
    limits: tuple[str, ...]
    not_run: tuple[str, ...]
    command: str
    version: str


def write_study(
    page: StudyPage,
    path: Path,
    tables: Mapping[str, pa.Table],
    metrics: Mapping[str, Metric],
    shown: Sequence[str],
) -> Path:
    """Write the page of a study and return its path; without the extra ``report`` it has no figures.

    Parameters
    ----------
    page : StudyPage
    path : Path
    tables : Mapping of str to pyarrow.Table
        ``runs``, ``means`` and ``effects``, which figures draw.
    metrics : Mapping of str to Metric
    shown : sequence of str
        Metrics whose seeds are drawn.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    effects, seeds = _draw(tables, metrics, shown)
    write_text(path, render_study(page, effects, seeds))
    return path


def _draw(
    tables: Mapping[str, pa.Table], metrics: Mapping[str, Metric], shown: Sequence[str]
) -> tuple[list[Figure], list[Figure]]:
    try:
        import altair as alt
        import vl_convert  # noqa: F401
    except ImportError:
        return [], []
    from manyhot.report.figures.study import draw_effects, draw_seeds

    with alt.utils.schemapi.debug_mode(False):
        return draw_effects(tables["effects"], metrics), draw_seeds(
            tables["runs"], tables["means"], shown, metrics
        )


def render_study(page: StudyPage, effects: Sequence[Figure] = (), seeds: Sequence[Figure] = ()) -> str:
    """Return the page as text; it runs no script."""
    drawn = draw_inline([*effects, *seeds])
    css = asset("report.css") + asset("study.css") + (style() if drawn else "")
    return (
        environment()
        .get_template("study.html")
        .render(
            page=page,
            effects=effects,
            seeds=seeds,
            drawn=drawn,
            policy=policy(),
            css=Markup(css),  # noqa: S704  our own files
        )
    )
