"""What page and terminal show of calibration: what is left of the calibration error, and prediction sets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from manyhot.console import counts, table_lines
from manyhot.core.calibration import is_at_end
from manyhot.diagnose.calibration_classes import EACH_CLASS, class_listing, classes_answer
from manyhot.registry import register
from manyhot.report.chapter import Chapter, NextStep, Tables, listing, rows_of, with_ends
from manyhot.report.figure import Figure
from manyhot.report.listings import ColumnHead, Listing, heads_of, number_heads, text_heads
from manyhot.report.text import counted, title_of
from manyhot.tables import Row

CALIBRATION_ERRORS = {
    "ece_votes": "Confidence is compared with the share of votes for the top class.",
    "ece_set": "A prediction is right if its top class is in the label set.",
    "ece": "A prediction is right if its top class is the original label.",
}
"""The calibration errors, by what confidence is compared with; the first that there is decides."""

MOST_DRAWN = 3
"""Models that have a figure."""

HELD = {
    "label": "the original label",
    "one": "one class of the label set",
    "all": "all of the label set",
    "drawn": "a class drawn with p",
    "drawn_all": "all of a drawn label set",
}
"""What prediction sets contain."""


class Judged(NamedTuple):
    """The calibration error of a model before recalibration and after the best method."""

    metric: str
    before: Row
    best: Row
    n_methods: int


def judged_models(rows: Sequence[Row]) -> Iterator[Judged]:
    """Yield each model's calibration error under votes, label sets or original labels, the first there is."""
    models = dict.fromkeys((row["dataset"], row["model"]) for row in rows)
    for dataset, model in models:
        own = [r for r in rows if (r["dataset"], r["model"]) == (dataset, model) and r["value"] == r["value"]]
        by = {m: [r for r in own if r["metric"] == m] for m in CALIBRATION_ERRORS}
        values = {m: [r["value"] for r in rows if r["method"] == "none"] for m, rows in by.items()}
        # Label sets that are only original labels say nothing else.
        metric = "ece_set" if values["ece_set"] and values["ece_set"] != values["ece"] else "ece"
        metric = "ece_votes" if values["ece_votes"] else metric
        of = by[metric]
        before = next((r for r in of if r["method"] == "none"), None)
        if before is not None:
            yield Judged(metric, before, min(of, key=lambda r: float(r["value"])), len(of) - 1)


def judged_by_top_class(rows: Sequence[Row], classes: Sequence[Row]) -> list[Row]:
    """Return the rows of models whose calibration can be measured by their top class.

    Models of independent classes are judged class by class instead. If images without any valid class are
    left out, the top classes of the others are right more often than calibrated probabilities imply. For
    simulated sigmoids, with no valid class on a third of the images, the difference is 0.18.
    """
    each = {(r["dataset"], r["model"]) for r in classes}
    of_each = [r for r in rows if (r["dataset"], r["model"]) in each and r["metric"] == "ece_set"]
    partly = {(r["dataset"], r["model"]) for r in of_each if r["n_skipped"] or not r["n"]}
    return [r for r in rows if (r["dataset"], r["model"]) not in partly]


def _higher_likelihood_error(rows: Sequence[Row], metric: str, before: Row, best: Row) -> str:
    """Return that the method with the lowest ECE makes the negative log-likelihood worse, if it does."""
    nll = {"ece_votes": "kl_votes", "ece_set": "nll_mass", "ece": "nll"}[metric]
    old, new = (
        next((r["value"] for r in rows if all(r[k] == of[k] for k in _METHOD) and r["metric"] == nll), None)
        for of in (before, best)
    )
    if old is None or new is None or not new > old:
        return ""
    return f", but with a higher {'KL' if metric == 'ece_votes' else 'NLL'} ({new:.3f} instead of {old:.3f})"


_METHOD = ("dataset", "model", "method", "fitted_to")
_CALLED = {"ece_votes": "ECE against votes, ece_votes"}


def calibration_answer(
    every: Sequence[Row], bins: Sequence[Row] = (), classes: Sequence[Row] = ()
) -> Iterator[str]:
    """Yield the calibration error of each model before recalibration and after the best method."""
    metrics, by_chance = dict[str, None](), list[float]()
    yield from classes_answer(classes)
    rows = judged_by_top_class(every, classes)
    if len(rows) < len(every):
        yield (
            "Top classes are not judged here, because an image without a valid class has no right top class. "
            "Results for top classes on the other images, and for recalibration, are in the table "
            "calibration."
        )
    judged = list(judged_models(rows))
    if len(judged) > MOST_DRAWN:
        yield _overview(judged)
    at_end = {r["model"] for r in rows if (t := r.get("temperature")) is not None and is_at_end(t)}
    for metric, before, best, n_methods in judged:
        metrics[metric] = None
        none = "no method makes it smaller"
        if before["model"] in at_end:
            none = "no fit makes it smaller, but a temperature is at an end of the searched range"
        after = (
            none
            if best is before
            else f"{best['value']:.3f} after {called(best)}, the lowest ECE of {counted(n_methods, 'method')}"
            f"{_higher_likelihood_error(every, metric, before, best)}"
        )
        own = _bins_of(metric, before, bins)
        if len(judged) <= MOST_DRAWN:
            yield (
                f"The confidence of {before['model']} is wrong by {before['value']:.3f} on average"
                f"{_direction(before, own)} ({_CALLED.get(metric, 'ECE')}), measured on {before['n']:,} "
                f"held-out images of {title_of(before['dataset'])}; {after}."
            )
        if (chance := _by_chance(own)) > before["value"] / 2:
            by_chance.append(chance)
    if by_chance:
        yield (
            f"With so few images, even a calibrated model would have an error of about {max(by_chance):.2f}, "
            "so more images are needed."
        )
    yield from (CALIBRATION_ERRORS[metric] for metric in metrics)


def _overview(judged: Sequence[Judged]) -> str:
    """Return the smallest and the largest calibration error of several models, as a sentence."""
    low, *_, high = sorted((j.before for j in judged), key=lambda r: float(r["value"]))
    best = max(float(j.best["value"]) for j in judged)
    return (
        f"The confidence of {len(judged):,} models is wrong by {low['value']:.3f} ({low['model']}) to "
        f"{high['value']:.3f} ({high['model']}) on average (ECE), and by at most {best:.3f} after the best "
        "recalibration of each."
    )


BY_ERROR = ("model", "ECE (95 %)", "confidence", "after the best recalibration", "images", "data set")
"""The columns of `by_error`."""


def by_error(rows: Sequence[Row], bins: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the calibration error of each model, smallest first."""
    judged = sorted(judged_models(rows), key=lambda j: float(j.before["value"]))
    return [
        (
            before["model"],
            f"{before['value']:.3f}"
            + ("" if before["lo"] is None else f" ({before['lo']:.3f}–{before['hi']:.3f})"),
            _direction(before, _bins_of(metric, before, bins)).removeprefix(", ") or "–",
            "–" if best is before else f"{best['value']:.3f}, {called(best)}",
            f"{before['n']:,}",
            title_of(before["dataset"]),
        )
        for metric, before, best, _ in judged
    ]


def _bins_of(metric: str, before: Row, bins: Sequence[Row]) -> list[Row]:
    keys = ("dataset", "model", "method")
    event = {"ece_votes": "votes", "ece_set": "set", "ece": "label"}[metric]  # votes have no bins
    return [b for b in bins if b["event"] == event and all(b[key] == before[key] for key in keys)]


def _direction(before: Row, bins: Sequence[Row]) -> str:
    """Return whether a confidence is too high or too low, where most of its error is in one direction."""
    excess = sum(b["n"] * (b["confidence"] - b["right"]) for b in bins) / max(sum(b["n"] for b in bins), 1)
    if abs(excess) <= before["value"] / 2:
        return ""
    return ", mostly too high" if excess > 0 else ", mostly too low"


def _by_chance(bins: Sequence[Row]) -> float:
    """Return the ECE to expect of a model whose predictions are right as often as it is confident.

    The mean absolute deviation of a share p of n images is about sqrt(2 p (1 - p) / (pi n)).
    """
    filled = [(b["n"], min(b["confidence"], 1.0)) for b in bins if b["n"]]  # rounding may exceed 1
    spread = sum(math.sqrt(2 * p * (1 - p) * n / math.pi) for n, p in filled)
    return float(spread / max(sum(n for n, _ in filled), 1))


def called(row: Row) -> str:
    """Return the name of a recalibration method, and of the labels that it was fitted to."""
    return "as it is" if row["method"] == "none" else f"{row['method']} ({row['fitted_to']})"


@register(
    "chapter",
    "calibration",
    tables=("calibration", "prediction_sets", "calibration_bins", "class_calibration"),
    next=NextStep(
        "sort the errors that are made with a high confidence.",
        "manyhot diagnose errors DATASET --predictions FOLDER --min-confidence 0.9",
    ),
)
def calibration_chapter(named: Tables, folder: Path, draw: bool) -> Chapter | None:
    """Return the chapter about calibration, or None if there is no table ``calibration``."""
    rows = rows_of(named, "calibration")
    if not rows:
        return None
    bins = rows_of(named, "calibration_bins")
    classes = rows_of(named, "class_calibration")
    shown = judged_by_top_class(rows, classes)
    answer = list(calibration_answer(rows, bins, classes))
    first = 2 if classes else len(answer)  # of classes, there is more to be said than a first paragraph holds
    is_fitted = any(row["method"] != "none" for row in rows)
    fitted = "Methods are fitted on some of the images and evaluated on the others. " if is_fitted else ""
    lead = (
        *filter(None, (" ".join(answer[:first]), " ".join(answer[first:]))),
        f"{fitted}A small error alone does not make a good model: likelihood (NLL) and "
        "Brier score also measure how well right predictions are separated from wrong ones.",
    )
    sets = rows_of(named, "prediction_sets")
    models = by_error(shown, bins)
    by_model = [_by_model(models)] if len(models) > 1 else []
    of_classes = [class_listing(classes)] if classes else []
    tables = (*of_classes, *by_model, _measured(rows, is_fitted), *([_sets(sets)] if sets else []))
    figures = _draw(shown, bins) if draw else ()
    step = _CLASS_ERRORS if classes and not shown else None
    title = "Does confidence match accuracy?"
    return Chapter("calibration", "Calibration", title, lead, figures, tables, next=step)


_CLASS_ERRORS = NextStep(
    "list the false positives and misses of each class.",
    "manyhot diagnose errors DATASET --predictions FOLDER",
)


def _by_model(models: Sequence[tuple[str, ...]]) -> Listing:
    heads = heads_of(BY_ERROR, ("ECE (95 %)", "images"))
    rows = [dict(zip(BY_ERROR, cells, strict=True)) for cells in models]
    return listing(
        "calibration-models", "Models by calibration error", heads, rows, lambda r: tuple(r.values())
    )


def _draw(rows: Sequence[Row], bins: Sequence[Row]) -> tuple[Figure, ...]:
    from manyhot.diagnose.findings_figures import draw_class_reliability, draw_reliability

    models = [m for m in judged_models(rows) if m.metric != "ece_votes"][:MOST_DRAWN]
    each = [b for b in bins if b["event"] == EACH_CLASS]
    of_classes = list(dict.fromkeys((b["dataset"], b["model"]) for b in each))[:MOST_DRAWN]
    return (
        *(figure for m in of_classes for figure in draw_class_reliability(*m, each)),
        *(figure for m in models for figure in draw_reliability(m.before, m.best, bins)),
    )


def _measured(rows: Sequence[Row], is_fitted: bool) -> Listing:
    heads = (
        *text_heads("Model", "Recalibration", "Metric"),
        *number_heads("Value", "95 %", "Images"),
        ColumnHead("Data set", number=False),
    )
    defined = [row for row in rows if row["value"] == row["value"]]
    title = f"Confidence of the top class{', before and after recalibration' if is_fitted else ''}"
    return listing("calibration-methods", title, heads, defined, _cells)


def _cells(r: Row) -> tuple[str, ...]:
    ends = "" if r["lo"] is None else f"{r['lo']:.3f} to {r['hi']:.3f}"
    about = (r["model"], called(r), r["metric"], f"{r['value']:.3f}", ends, f"{r['n']:,}")
    return (*about, title_of(r["dataset"]))


def _sets(rows: Sequence[Row]) -> Listing:
    heads = (
        *text_heads("Model", "Sets that hold"),
        *number_heads("Target", "Measured", "Mean size", "Images"),
        ColumnHead("Data set", number=False),
    )
    return listing(
        "prediction-sets",
        "Prediction sets",
        heads,
        rows,
        lambda r: (
            r["model"],
            HELD[r["cover"]],
            f"{1 - r['alpha']:.0%}".replace("%", " %"),
            with_ends(r["coverage"], r["lo"], r["hi"]),
            f"{r['mean_size']:,.2f}",
            f"{r['n']:,}",
            title_of(r["dataset"]),
        ),
    )


MEASURES = {
    "votes": ("tv_votes", "ece_votes", "kl_votes", "brier_votes"),
    "label": ("top1", "ece", "nll", "brier"),
    "set": ("real1", "ece_set", "nll_mass", "brier_set"),
}
"""By the event that counts as right: accuracy, calibration error, likelihood, Brier score.

Against votes, the distance of the probabilities from their shares replaces accuracy.
"""

_RIGHT = {
    "votes": "probabilities against the shares of the votes",
    "label": "right if the top class is the original label",
    "set": "right if the top class is in the label set",
}


def same_for_sets(rows: Sequence[Row]) -> bool:
    """Return whether there are original labels and they give the same results as label sets."""
    value = {(r["method"], r["fitted_to"], r["metric"]): r["value"] for r in rows if r["value"] == r["value"]}
    sets_of = dict(zip(MEASURES["label"], MEASURES["set"], strict=True))
    by_label = {key: v for key, v in value.items() if key[2] in sets_of}
    others = (("labels", "sets"), ("sets", "labels"), (None, None))
    return bool(by_label) and all(
        v == value.get((method, fitted, sets_of[metric])) == value.get((method, dict(others)[fitted], metric))
        for (method, fitted, metric), v in by_label.items()
    )


def model_lines(dataset: str, model: str, rows: Sequence[Row], events: Sequence[str]) -> Iterator[str]:
    """Yield the terminal output for a model, with a table for each event that counts as right."""
    n, fitted = rows[0]["n"] + rows[0]["n_skipped"], max(r["n_fitted"] for r in rows)
    without = f"; {absent:,} without a prediction" if (absent := rows[0]["n_unmatched"]) else ""
    yield f"{dataset}, {model}: fitted on {fitted:,} images, evaluated on {n:,} others{without}"
    versions: dict[str, dict[str, Row]] = {}
    for row in rows:
        versions.setdefault(called(row), {})[row["metric"]] = row
    for event in events:
        metrics = MEASURES[event]
        own = {name: [of[m] for m in metrics if _cell(of.get(m)) != "–"] for name, of in versions.items()}
        if not any(own.values()):
            continue
        of_event = {row["n"] for of in own.values() for row in of}
        same = len(of_event) < 2
        images = f": {counts(of_event) or 0} of {n:,} images" if same else ""
        yield ""
        yield f"{_RIGHT[event]}{images}"
        cells = [
            (
                name,
                *(_cell(versions[name].get(m)) for m in metrics),
                *(() if same else (counts(r["n"] for r in of),)),
            )
            for name, of in own.items()
        ]
        heads = ("distance", "ECE", "KL", "Brier") if event == "votes" else ("right", "ECE", "NLL", "Brier")
        yield from table_lines(("", *heads, *(() if same else ("images",))), cells)
    yield ""
    fits = {r["fitted_to"]: r for r in rows if r["temperature"] is not None}
    if fits:
        texts = (f"{r['temperature']:.2f} ({to}, {r['n_fitted']:,} images)" for to, r in fits.items())
        yield f"temperatures: {', '.join(texts)}"
        yield ""


def _cell(row: Row | None) -> str:
    if row is None or row["value"] != row["value"]:
        return "–"
    if row["metric"] in ("top1", "real1", "tv_votes"):
        # Short, so that a row fits into 100 columns; the farther end, as an interval near 1 is longer below.
        ends = (row["value"] - row["lo"], row["hi"] - row["value"]) if row["lo"] is not None else ()
        return f"{row['value']:.1%}" + (f" ±{100 * max(ends):.1f}" if ends else "")
    value, lo, hi = (None if row[k] is None else _number(row[k]) for k in ("value", "lo", "hi"))
    return f"{value}" if lo is None else f"{value} ({lo}–{hi})"


def _number(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.4g}"


def set_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield what a terminal shows of prediction sets."""
    if not rows:
        return
    cells = [
        (
            HELD[r["cover"]],
            f"{1 - r['alpha']:.1%}",
            f"{r['coverage']:.1%} ({r['lo']:.1%} to {r['hi']:.1%})",
            _size(r),
            f"{r['share_empty']:.1%} ({100 * r['share_empty_lo']:.1f}–{100 * r['share_empty_hi']:.1f})",
            f"{r['n']:,}",
        )
        for r in rows
    ]
    yield from table_lines(("sets that hold", "target", "measured", "mean size", "empty", "images"), cells)
    if skipped := max(r["n_skipped"] for r in rows):
        yield f"up to {skipped:,} held-out images have no labels to cover"
    yield ""


def _size(row: Row) -> str:
    lo, hi = row["mean_size_lo"], row["mean_size_hi"]
    ends = "" if lo is None or lo != lo else f" ({lo:,.2f}–{hi:,.2f})"
    return f"{row['mean_size']:,.2f}{ends}"
