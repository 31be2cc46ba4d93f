"""The chapter about accuracy lost on other data and under corruption."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manyhot.diagnose.places import MODELS_COMPARED
from manyhot.registry import register
from manyhot.report.chapter import Chapter, NextStep, Tables, in_points, listing, rows_by, rows_of, with_ends
from manyhot.report.figure import Figure
from manyhot.report.listings import ColumnHead, Listing, text_heads
from manyhot.report.text import counted, listed, metric, title_of
from manyhot.tables import Row

_DESTINATION = ("base", "dataset", "kind")
"""Where accuracy is lost: the base, the data set and, if it is corrupted, the kind."""


@register(
    "chapter",
    "corruptions",
    tables=("robustness", "losses", "corruption_errors"),
    next=NextStep(
        "sort the errors that are not due to missing labels.", "manyhot diagnose errors DATASET --models NAME"
    ),
)
def robustness_chapter(named: Tables, folder: Path, draw: bool) -> Chapter | None:
    """Return the chapter about losses between data sets, or None if there is no table ``losses``."""
    losses = rows_of(named, "losses")
    if not losses:
        return None
    whole = [r for r in losses if r["severity"] is None]
    made = _losses(whole)
    errors = rows_of(named, "corruption_errors")
    if errors:
        made.append(_errors(errors))
    is_corrupted = any(r["kind"] is not None for r in losses)
    is_elsewhere = any(r["base"] != r["dataset"] for r in losses)
    places = (("on other data", is_elsewhere), ("under corruption", is_corrupted))
    where = [text for text, is_measured in places if is_measured]
    return Chapter(
        "corruptions",
        "Robustness",
        f"Accuracy lost {listed(where, 2)}".rstrip(),
        (*_answers(whole), _MEANING),
        tuple(_draw(named, losses)) if draw else (),
        tuple(made),
    )


_MEANING = (
    "If accuracy is lost only under original labels, models predict another valid class instead, and the "
    "loss is due to missing labels, provided that both label sets were made in the same way."
)

MOST_ANSWERS = 4
"""Destinations with a sentence; the others are in the table."""


def _answers(rows: Sequence[Row]) -> list[str]:
    """Return what is lost at each destination, in a sentence each."""
    answers = []
    for of_one in rows_by(_rows_to_describe(rows), *_DESTINATION, "model").values():
        first, *others = sorted(of_one, key=lambda r: r["metric"] != "top1")
        who = first["model"] or f"{counted(first['n_models'], 'model')} on average"
        text = f"{_way(first)}, {who} lost {_lost(first)}"
        known = [r for r in others if r["share"] is not None and r["share"] == r["share"]]
        if first["metric"] == "top1" and known:
            text += f", and {_lost(known[0])}: {_missing(known[0])}"
        answers.append(f"{text} ({first['n']:,} images).")
    return answers[:MOST_ANSWERS]


def _rows_to_describe(rows: Sequence[Row]) -> list[Row]:
    """Return the means over models; under corruption, each of a few models."""
    means, models = ([r for r in rows if (r["model"] is None) == is_mean] for is_mean in (True, False))
    if not means:
        return list(rows)
    few = len({r["model"] for r in models}) <= MODELS_COMPARED
    each = [r for r in models if r["base"] == r["dataset"] and r["kind"] is None] if few else []
    return each + [r for r in means if not each or r["base"] != r["dataset"] or r["kind"] is not None]


def _way(r: Row) -> str:
    if r["base"] != r["dataset"]:
        return f"From {title_of(r['base'])} to {_destination(r)}"
    kind = "all kinds of corruption" if r["kind"] is None else f"the corruption {r['kind'].replace('_', ' ')}"
    return f"On {title_of(r['dataset'])} under {kind}"


def _missing(r: Row) -> str:
    """Return how much of a loss missing labels explain; a share below 0 is none."""
    if r["share"] < 0:
        return "missing labels do not explain the loss"
    share = with_ends(r["share"], r["share_lo"], r["share_hi"])
    return f"{share} of the loss of {_label('top1')} is due to missing labels"


def _label(name: str) -> str:
    return metric(name).label


def _lost(r: Row) -> str:
    return f"{in_points(r['loss'], r['lo'], r['hi'], 1)} points by {_label(r['metric'])}"


def _losses(rows: Sequence[Row]) -> list[Listing]:
    """Return the losses: the means over models, and those of the models folded below them."""
    means = [r for r in rows if r["model"] is None]
    models = [r for r in rows if r["model"] is not None]
    if not means or not models:
        return [_wide("losses", "Losses", rows)] if rows else []
    by_model = _wide("losses-of-models", "Losses by model", models, folded=True)
    return [_wide("losses", "Losses", means), by_model]


def _wide(anchor: str, title: str, rows: Sequence[Row], *, folded: bool = False) -> Listing:
    """Return a table with one row for each destination and model, and columns for each metric."""
    metrics = sorted({r["metric"] for r in rows}, key=lambda m: (m != "top1", m != "real1", m))
    by_model = rows_by(rows, *_DESTINATION, "model").values()
    title_of_share = "1 minus the ratio of this loss to the loss of top-1"
    heads = (
        *text_heads("From", "To", "Model"),
        *(ColumnHead(f"Lost by {_label(m)}, points") for m in metrics),
        *(ColumnHead(f"Missing labels, {_label(m)}", title=title_of_share) for m in metrics if m != "top1"),
        ColumnHead("Images"),
    )

    def cells(own: Sequence[Row]) -> tuple[str, ...]:
        first, by_metric = own[0], {r["metric"]: r for r in own}
        counts = dict.fromkeys(f"{r['n']:,}" for r in own)
        shown = [by_metric.get(m) for m in metrics]
        return (
            title_of(first["base"]),
            _destination(first),
            first["model"] or f"mean of {first['n_models']:,}",
            *("" if r is None else in_points(r["loss"], r["lo"], r["hi"], 1) for r in shown),
            *(
                "" if r is None else with_ends(r["share"], r["share_lo"], r["share_hi"])
                for m, r in zip(metrics, shown, strict=True)
                if m != "top1"
            ),
            " and ".join(counts),
        )

    return listing(anchor, title, heads, list(by_model), cells, folded=folded)


def _destination(r: Row) -> str:
    name = title_of(r["dataset"])
    if r["kind"] is not None:
        return f"{name}, {r['kind'].replace('_', ' ')}"
    return f"{name}, all kinds" if r["base"] == r["dataset"] else name


def _errors(rows: Sequence[Row]) -> Listing:
    heads = (
        *text_heads("Kind", "Model", "Metric"),
        ColumnHead("Mean error"),
        ColumnHead(
            "Corruption error",
            title="Error divided by the error of the baseline; the mean over kinds is the mCE",
        ),
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


def _draw(named: Tables, losses: Sequence[Row]) -> list[Figure]:
    from manyhot.diagnose.figures import draw_corruptions, draw_losses

    return [*draw_losses([r for r in losses if r["severity"] is None]), *draw_corruptions(named["losses"])]
