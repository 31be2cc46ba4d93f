"""All figures of a report, drawn with Vega-Altair from its tables."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from manyhot.errors import ManyhotError, MissingExtraError
from manyhot.evaluate.report.report_tables import ReportTables
from manyhot.report.figure import Figure


def draw_figures(tables: ReportTables, *, own: Collection[str] = ()) -> tuple[Figure, ...]:
    """Return every figure for which the tables have data, in reading order.

    Parameters
    ----------
    own : collection of str
        The user's own models, which are highlighted.

    Raises
    ------
    MissingExtraError
        If Altair is not installed.
    """
    try:
        import altair as alt
    except ImportError as error:
        raise MissingExtraError("Figures need Altair.", do='pip install "manyhot[report]"') from error
    from manyhot.evaluate.per_class.class_figures import draw_classes
    from manyhot.evaluate.report.figures.curves import draw_saturation, draw_trust
    from manyhot.evaluate.report.figures.intervals import (
        draw_class_differences,
        draw_error_ratios,
        draw_posterior,
    )
    from manyhot.evaluate.report.figures.label_sets import draw_groups, draw_labels
    from manyhot.evaluate.report.figures.model_groups import draw_consistency, draw_equal_accuracy
    from manyhot.evaluate.report.figures.panel import Frames
    from manyhot.evaluate.report.figures.rank_changes import draw_ranks
    from manyhot.evaluate.report.figures.scatter import draw_models
    from manyhot.evaluate.report.figures.shift import draw_shift

    frames = Frames(tables, sorted(own))
    of_many = (draw_saturation, draw_ranks) if tables.has_trends else ()
    with alt.utils.schemapi.debug_mode(False):
        sections = (
            draw_labels,
            draw_models,
            draw_consistency,
            lambda frames: draw_classes(frames.tables.beside),
            draw_class_differences,
            draw_trust,
            draw_posterior,
            draw_groups,
            draw_error_ratios,
            draw_equal_accuracy,
            draw_shift,
            *of_many,
        )
        found = (figure for draw in sections for figure in draw(frames))
        drawn = list(_started(figure for figure in found if figure is not None))
    secondary = _beside_many_shifts(drawn)
    return tuple(replace(f, folded=f.name in secondary or _is_secondary(f, tables)) for f in drawn)


def _started(figures: Iterable[Figure]) -> Iterator[Figure]:
    """Yield figures that are drawn while the next ones are composed."""
    from manyhot.report.prerender import start_drawing

    for figure in figures:
        with contextlib.suppress(ManyhotError):  # the drawing itself raises it
            start_drawing(figure)
        yield figure


MANY_SHIFTS = 2
"""Shifts between data sets up to which all figures are open."""


def _beside_many_shifts(drawn: Sequence[Figure]) -> set[str]:
    """Return the names of the figures that are folded if there are many shifts.

    Those of accuracy against accuracy, of saturation and of the similarity of orders remain open. If two
    groups of models are drawn, accuracy against accuracy is folded, too: it has the same points.
    """
    shifts = [f.name.removeprefix("shift-") for f in drawn if f.name.startswith("shift-")]
    if len(shifts) <= MANY_SHIFTS:
        return set()
    has_groups = any(f.name.startswith("equal-accuracy") for f in drawn)
    kinds = ("drops", "robustness", *(["shift"] if has_groups else []))
    details = {f"{kind}-{shift}" for kind in kinds for shift in shifts}
    return details | {f.name for f in drawn if f.name == "rank-changes" or f.name.startswith("kinds-")}


def _is_secondary(figure: Figure, tables: ReportTables) -> bool:
    """Return whether a figure is folded: curves of classes, and label sets where classes come first."""
    return figure.name.startswith("class-curves") or (tables.is_by_class and figure.section == "labels")
