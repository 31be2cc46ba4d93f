"""The command that says how sure models are, how right, and what recalibration does: diagnose calibration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manyhot.cli.diagnosing import (
    DataSetArgument,
    ImagesOption,
    ModelsOption,
    PredictionsOption,
    TrustOrderOption,
)
from manyhot.cli.options import ClassesOption, JsonOption, OutOption, RowsOption, call
from manyhot.cli.printing import counts, print_table, print_written, say, show_progress

if TYPE_CHECKING:
    from manyhot.evaluate.calibrate import Calibration

Row = dict[str, Any]


class Method(StrEnum):
    """How to recalibrate."""

    temperature = "temperature"
    vector = "vector"
    isotonic = "isotonic"


MethodOption = Annotated[
    list[Method] | None,
    typer.Option("--method", help="How to recalibrate; repeat for more. By default all."),
]

AlphaOption = Annotated[
    float, typer.Option("--alpha", help="The share of images that prediction sets may miss.", metavar="P")
]

FitOption = Annotated[
    float, typer.Option("--fit", help="The share of images to fit on; the others are judged.", metavar="P")
]

SeedOption = Annotated[int, typer.Option("--seed", help="Seed of their choice, and of the bootstrap.", min=0)]

ResamplesOption = Annotated[
    int,
    typer.Option("--resamples", help="Bootstrap resamples, of ECE at most 200; 0 for no intervals.", min=0),
]


def calibration(
    dataset: DataSetArgument,
    predictions: PredictionsOption = None,
    models: ModelsOption = None,
    method: MethodOption = None,
    alpha: AlphaOption = 0.1,
    fit: FitOption = 0.5,
    seed: SeedOption = 0,
    resamples: ResamplesOption = 1000,
    rows: RowsOption = None,
    images: ImagesOption = None,
    classes: ClassesOption = None,
    trust_order: TrustOrderOption = False,
    out: OutOption = Path("calibration"),
    as_json: JsonOption = False,
) -> None:
    """Measure how sure models are against how right, before and after recalibration.

    Fitted on some images to original labels and to label sets, judged on the others against both; and
    prediction sets that cover the original label, one class of the label set, or all of it. The models must
    not have been trained on these images.

    Examples: manyhot diagnose calibration campaign ·
    manyhot diagnose calibration labels.parquet --predictions predictions --method temperature
    """
    from manyhot.evaluate.calibrate import diagnose_calibration_files

    with show_progress() as progress:
        found, written = diagnose_calibration_files(
            dataset,
            out,
            predictions=predictions or (),
            models=models or (),
            methods=[m.value for m in method or Method],
            alpha=alpha,
            fit=fit,
            seed=seed,
            resamples=resamples,
            rows=rows,
            images=images,
            classes=classes,
            trust_order=trust_order,
            call=call(),
            progress=progress,
        )
    print_calibration(found, written, as_json)


_RIGHT = {"label": "the original label", "set": "in the label set"}
_HELD = {"label": "the original label", "one": "one class of the label set", "all": "all of the label set"}


def print_calibration(found: Calibration, written: list[Path], as_json: bool) -> None:
    """Print what recalibration does to each model, its prediction sets, and what was written."""
    if as_json:
        told: dict[str, Any] = {name: _plain(t.to_pylist()) for name, t in found.tables.items()}
        typer.echo(json.dumps(told | {"notes": found.notes, "written": [str(p) for p in written]}))
        return
    sets = found.prediction_sets.to_pylist()
    parts: dict[tuple[str, str], list[Row]] = {}
    for row in found.calibration.to_pylist():
        parts.setdefault((row["dataset"], row["model"]), []).append(row)
    for (dataset, model), rows in parts.items():
        _print_model(dataset, model, rows)
        _print_sets([r for r in sets if (r["dataset"], r["model"]) == (dataset, model)])
    for note in found.notes:
        say(f"Note: {note}.", err=True)
    print_written(written, False)


def _plain(rows: Sequence[Row]) -> list[Row]:
    return [{k: None if v != v else v for k, v in r.items()} for r in rows]


def _print_model(dataset: str, model: str, rows: Sequence[Row]) -> None:
    from manyhot.evaluate.calibrate import MEASURES

    n, fitted = rows[0]["n"] + rows[0]["n_skipped"], max(r["n_fitted"] for r in rows)
    say(f"{dataset}, {model}: fitted on {fitted:,} images, judged on {n:,} others")
    versions: dict[str, dict[str, Row]] = {}
    for row in rows:
        versions.setdefault(_called(row), {})[row["metric"]] = row
    for event, metrics in MEASURES.items():
        own = {name: [of[m] for m in metrics if _cell(of.get(m)) != "–"] for name, of in versions.items()}
        of_event = {row["n"] for of in own.values() for row in of}
        same = len(of_event) < 2
        images = f": {counts(of_event) or 0} images" if same else ""
        typer.echo()
        say(f"right if the best class is {_RIGHT[event]}{images}")
        cells = [
            (
                name,
                *(_cell(versions[name].get(m)) for m in metrics),
                *(() if same else (counts(r["n"] for r in of),)),
            )
            for name, of in own.items()
        ]
        print_table(("", "right", "ECE", "NLL", "Brier", *(() if same else ("images",))), cells)
    typer.echo()
    told = {r["fitted_to"]: r["temperature"] for r in rows if r["temperature"] is not None}
    if told:
        say(f"temperatures: {', '.join(f'{value:.2f} ({to})' for to, value in told.items())}")
        typer.echo()


def _called(row: Row) -> str:
    return "as it is" if row["method"] == "none" else f"{row['method']} ({row['fitted_to']})"


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


def _print_sets(rows: Sequence[Row]) -> None:
    if not rows:
        return
    cells = [
        (
            _HELD[r["cover"]],
            f"{1 - r['alpha']:.1%}",
            f"{r['coverage']:.1%} ({r['lo']:.1%} to {r['hi']:.1%})",
            f"{r['mean_size']:,.2f}",
            f"{r['share_empty']:.1%}",
            f"{r['n']:,}",
        )
        for r in rows
    ]
    print_table(("sets that hold", "target", "measured", "mean size", "empty", "images"), cells)
    typer.echo()
