"""The chapter of the report about robustness and corruptions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from manyhot.registry import register
from manyhot.report.chapter import Chapter, Tables, in_points, listing, rows_of, with_ends
from manyhot.report.figure import Figure
from manyhot.report.listings import ColumnHead, Listing
from manyhot.report.text import title_of
from manyhot.tables import Row


@register("chapter", "corruptions", tables=("robustness", "losses", "corruption_errors"))
def robustness_chapter(named: Tables, folder: Path, draw: bool) -> Chapter | None:
    """Return the chapter about losses on other data and to corruptions; None without the table ``losses``."""
    losses = rows_of(named, "losses")
    if not losses:
        return None
    whole = [r for r in losses if r["severity"] is None]
    heads = (
        ColumnHead("From", number=False),
        ColumnHead("To", number=False),
        ColumnHead("Model", number=False),
        ColumnHead("Metric", number=False),
        ColumnHead("Lost, points"),
        ColumnHead("Missing labels", title="1 less this loss over that of top-1"),
        ColumnHead("Images"),
    )
    lead = (
        "Accuracy lost from one set of images to another, under original labels and under label sets. If "
        "accuracy is lost only under the labels, another valid class is predicted instead: a missing label, "
        "provided that both label sets were made in the same way.",
    )
    made = [listing("losses", "Losses", heads, whole, _loss)] if whole else []
    errors = rows_of(named, "corruption_errors")
    if errors:
        made.append(_errors(errors))
    return Chapter(
        "corruptions",
        "Robustness",
        "Accuracy lost on other data, and to corruption",
        lead,
        tuple(_draw_losses(named["losses"])) if draw and "losses" in named else (),
        tuple(made),
    )


def _loss(r: Row) -> tuple[str, ...]:
    return (
        title_of(r["base"]),
        _destination(r),
        r["model"] or f"mean of {r['n_models']:,}",
        r["metric"],
        in_points(r["loss"], r["lo"], r["hi"], 1),
        with_ends(r["share"], r["share_lo"], r["share_hi"]),
        f"{r['n']:,}",
    )


def _destination(r: Row) -> str:
    name = title_of(r["dataset"])
    if r["kind"] is not None:
        return f"{name}, {r['kind'].replace('_', ' ')}"
    return f"{name}, all kinds" if r["base"] == r["dataset"] else name


def _errors(rows: Sequence[Row]) -> Listing:
    heads = (
        ColumnHead("Kind", number=False),
        ColumnHead("Model", number=False),
        ColumnHead("Metric", number=False),
        ColumnHead("Mean error"),
        ColumnHead("Corruption error", title="Divided by that of the baseline; mean over kinds: mCE"),
        ColumnHead("Relative"),
    )
    ordered = sorted(rows, key=lambda r: (r["kind"] is not None, r["kind"] or ""))
    return listing("corruption-errors", "Corruption errors", heads, ordered, _error)


def _error(r: Row) -> tuple[str, ...]:
    return (
        (r["kind"] or "mean of all").replace("_", " "),
        r["model"],
        r["metric"],
        with_ends(r["error"], r["error_lo"], r["error_hi"], 1),
        with_ends(r["ce"], r["ce_lo"], r["ce_hi"], 1),
        with_ends(r["relative"], r["relative_lo"], r["relative_hi"], 1),
    )


def _draw_losses(losses: pa.Table) -> list[Figure]:
    from manyhot.diagnose.figures import draw_corruptions

    return draw_corruptions(losses)
