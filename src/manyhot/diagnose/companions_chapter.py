"""The chapter about companions: how much recall depends on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from manyhot import tables
from manyhot.diagnose.companions import ONE_FOUND, FoundIf
from manyhot.evaluate.drops import BEYOND_NOISE
from manyhot.registry import register
from manyhot.report.chapter import Chapter, NextStep, Tables, in_points, listing, percent, rows_of, with_ends
from manyhot.report.figure import Figure
from manyhot.report.listings import ColumnHead, number_heads, text_heads
from manyhot.report.text import counted, title_of
from manyhot.tables import Row


@register(
    "chapter",
    "companions",
    next=NextStep(
        "remove the companion from images, and count how many predictions change.",
        "manyhot diagnose shortcuts IMAGES --objects FILE --model NAME",
    ),
)
def companions_chapter(named: Tables, folder: Path, draw: bool) -> Chapter | None:
    """Return the chapter about recall with companions, or None if there is no table ``companions``."""
    rows = rows_of(named, "companions")
    if not rows:
        return None
    tested = [r for r in rows if r["model"] is None and r["p_adjusted"] is not None]
    means = sorted(tested, key=lambda r: (r["p_adjusted"], -abs(r["difference"])))
    heads = (
        *text_heads("Class", "Companion", "Data set"),
        ColumnHead("Images with both"),
        ColumnHead(
            "Lift", title="Number of images with both classes, divided by the number expected by chance"
        ),
        *number_heads("Recall with", "Recall without", "Difference, points", "p adjusted"),
    )
    lead = (
        *_companion_answers(means),
        f"{_definition(named['companions'])}A difference does not prove that a model uses the companion, "
        "because images with the companion also differ in other ways. The difference shows which pairs to "
        "test.",
        *_without_comparison(named["companions"], len(tested)),
    )
    table = listing("recall-by-companion", "Recall by companion", heads, means, _companion)
    figures = tuple(_draw_companions(means)) if draw else ()
    return Chapter("companions", "Companions", _TITLE, lead, figures, (table,))


def _definition(table: pa.Table) -> str:
    """Return when a class counts as found, and what this means for images of several classes."""
    found = tables.metadata(table).get("found", "")
    if found == str(FoundIf(1, None)):
        return f"A class is found if it is the top class: {ONE_FOUND}. "
    return f"A class is found if it is {found}. " if found.startswith("among") else ""


_TITLE = "Recall of classes with and without a companion"


def _companion_answers(means: Sequence[Row]) -> list[str]:
    """Return in how many pairs recall depends on the companion, and in which most."""
    if not means:
        return []
    signs = [r["difference"] > 0 for r in means if r["p_adjusted"] < BEYOND_NOISE]
    first = means[0]
    return [
        f"Tested pairs of classes: {len(means):,}. With its companion, the class is found more often in "
        f"{sum(signs):,} and less often in {len(signs) - sum(signs):,} of these pairs (adjusted p below "
        f"{BEYOND_NOISE}). "
        f"The clearest difference is on {title_of(first['dataset'])}: {first['main_name']} is found in "
        f"{percent(first['recall_with'])} of {first['n_with']:,} images with {first['companion_name']}, and "
        f"in {percent(first['recall_without'])} of {first['n_without']:,} images without it "
        f"({counted(first['n_models'], 'model')})."
    ]


def _draw_companions(means: Sequence[Row]) -> list[Figure]:
    from manyhot.diagnose.figures import draw_companions

    return draw_companions(means)


def _without_comparison(table: pa.Table, n_tested: int) -> tuple[str, ...]:
    """Return how many pairs on enough images could not be tested."""
    least = int(tables.metadata(table).get("least", 0))
    rows = (r for r in table.to_pylist() if r["model"] is None and r["n_models"])
    n = sum(r["both"] >= least for r in rows) - n_tested if least else 0
    if not n:
        return ()
    return (
        f"{counted(n, 'pair')} could not be tested, because there are no images with the companion or none "
        "without it.",
    )


def _companion(r: Row) -> tuple[str, ...]:
    p = r["p_adjusted"]
    return (
        r["main_name"],
        r["companion_name"],
        title_of(r["dataset"]),
        f"{r['both']:,}",
        f"{r['lift']:,.1f}",
        *(with_ends(r[s], r.get(f"{s}_lo"), r.get(f"{s}_hi")) for s in ("recall_with", "recall_without")),
        in_points(r["difference"], r["lo"], r["hi"]),
        "" if p is None or p != p else ("<0.001" if p < 0.001 else f"{p:.3f}"),
    )
