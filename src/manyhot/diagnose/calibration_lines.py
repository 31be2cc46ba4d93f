"""What a terminal shows of the calibration of each model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from manyhot.console import counts, table_lines
from manyhot.diagnose.calibration_chapter import HELD, called
from manyhot.tables import Row

MEASURES = {
    "label": ("top1", "ece", "nll", "brier"),
    "set": ("real1", "ece_set", "nll_mass", "brier_set"),
}
"""By the event that counts as right: accuracy, calibration error, likelihood, Brier score."""


_RIGHT = {"label": "the original label", "set": "in the label set"}


def same_for_sets(rows: Sequence[Row]) -> bool:
    """Return whether all results by label sets are those by original labels, of which there are some."""
    value = {(r["method"], r["fitted_to"], r["metric"]): r["value"] for r in rows if r["value"] == r["value"]}
    sets_of = dict(zip(MEASURES["label"], MEASURES["set"], strict=True))
    by_label = {key: v for key, v in value.items() if key[2] in sets_of}
    others = (("labels", "sets"), ("sets", "labels"), (None, None))
    return bool(by_label) and all(
        v == value.get((method, fitted, sets_of[metric])) == value.get((method, dict(others)[fitted], metric))
        for (method, fitted, metric), v in by_label.items()
    )


def model_lines(dataset: str, model: str, rows: Sequence[Row], events: Sequence[str]) -> Iterator[str]:
    """Yield what a terminal shows of a model, by each event that counts as right."""
    n, fitted = rows[0]["n"] + rows[0]["n_skipped"], max(r["n_fitted"] for r in rows)
    without = f"; {absent:,} without a prediction" if (absent := rows[0]["n_unmatched"]) else ""
    yield f"{dataset}, {model}: fitted on {fitted:,} images, evaluated on {n:,} others{without}"
    versions: dict[str, dict[str, Row]] = {}
    for row in rows:
        versions.setdefault(called(row), {})[row["metric"]] = row
    for event in events:
        metrics = MEASURES[event]
        own = {name: [of[m] for m in metrics if _cell(of.get(m)) != "–"] for name, of in versions.items()}
        of_event = {row["n"] for of in own.values() for row in of}
        same = len(of_event) < 2
        images = f": {counts(of_event) or 0} of {n:,} images" if same else ""
        yield ""
        yield f"right if the top class is {_RIGHT[event]}{images}"
        cells = [
            (
                name,
                *(_cell(versions[name].get(m)) for m in metrics),
                *(() if same else (counts(r["n"] for r in of),)),
            )
            for name, of in own.items()
        ]
        yield from table_lines(("", "right", "ECE", "NLL", "Brier", *(() if same else ("images",))), cells)
    yield ""
    fits = {r["fitted_to"]: r for r in rows if r["temperature"] is not None}
    if fits:
        texts = (f"{r['temperature']:.2f} ({to}, {r['n_fitted']:,} images)" for to, r in fits.items())
        yield f"temperatures: {', '.join(texts)}"
        yield ""


def _cell(row: Row | None) -> str:
    if row is None or row["value"] != row["value"]:
        return "–"
    if row["metric"] in ("top1", "real1"):
        # Short, so that a row fits into 100 columns; the farther end, as an interval near 1 is longer below.
        ends = (row["value"] - row["lo"], row["hi"] - row["value"]) if row["lo"] is not None else ()
        return f"{row['value']:.1%}" + (f" ±{100 * max(ends):.1f}" if ends else "")
    value, lo, hi = (None if row[k] is None else _number(row[k]) for k in ("value", "lo", "hi"))
    return f"{value}" if lo is None else f"{value} ({lo}–{hi})"


def _number(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.4g}"


def set_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield what a terminal shows of prediction sets."""
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
