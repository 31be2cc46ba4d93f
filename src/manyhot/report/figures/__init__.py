"""All figures of a report, drawn with Vega-Altair from its tables."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from manyhot.errors import MissingExtraError
from manyhot.report.figure import Figure
from manyhot.report.inputs import ReportTables


def draw_figures(tables: ReportTables, *, own: Collection[str] = (), command: str = "") -> tuple[Figure, ...]:
    """Return every figure that the tables have numbers for, in reading order.

    Parameters
    ----------
    tables : ReportTables
    own : collection of str
        The user's own models, set off from the others.
    command : str
        What made the report, told beneath each figure.

    Raises
    ------
    MissingExtraError
        If Altair is not installed.
    """
    try:
        import altair as alt
    except ImportError as error:
        raise MissingExtraError("Figures need Altair.", do='pip install "manyhot[report]"') from error
    from manyhot.report.figures.groups import draw_groups
    from manyhot.report.figures.labels import draw_labels
    from manyhot.report.figures.models import draw_models
    from manyhot.report.figures.numbers import Numbers
    from manyhot.report.figures.ranks import draw_ranks
    from manyhot.report.figures.saturation import draw_saturation
    from manyhot.report.figures.shift import draw_shift
    from manyhot.report.figures.trust import draw_trust

    numbers = Numbers(tables, sorted(own))
    with alt.utils.schemapi.debug_mode(False):
        sections = (
            draw_labels,
            draw_models,
            draw_trust,
            draw_groups,
            draw_shift,
            draw_saturation,
            draw_ranks,
        )
        drawn = [figure for draw in sections for figure in draw(numbers)]
    return tuple(replace(figure, command=command) for figure in drawn)
