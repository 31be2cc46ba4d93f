"""The command that says whose recall hangs on what is beside it: diagnose companions."""

from __future__ import annotations

import json
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
from manyhot.cli.printing import print_table, print_written, say, show_progress

if TYPE_CHECKING:
    from manyhot.diagnose.companions import Companions

Row = dict[str, Any]

MOST = 10
"""Pairs that are printed of a data set."""

KOption = Annotated[int, typer.Option("--k", help="A class is found if it is among the best k.", min=1)]

ProbabilityOption = Annotated[
    float | None,
    typer.Option(
        "--probability", help="A class is found if it has this probability, as for sigmoids.", metavar="P"
    ),
]

LeastOption = Annotated[
    int, typer.Option("--least", help="Pairs are tested that are valid on so many images.", min=1)
]

LabelledOption = Annotated[
    bool,
    typer.Option("--labelled", help="Look for a class only in images whose original label it is."),
]

UnaskedOption = Annotated[
    bool,
    typer.Option("--unasked", help="Count an image as one without a companion that nobody was asked about."),
]


def companions(
    dataset: DataSetArgument,
    predictions: PredictionsOption = None,
    models: ModelsOption = None,
    k: KOption = 5,
    probability: ProbabilityOption = None,
    least: LeastOption = 25,
    labelled: LabelledOption = False,
    unasked: UnaskedOption = False,
    rows: RowsOption = None,
    images: ImagesOption = None,
    classes: ClassesOption = None,
    trust_order: TrustOrderOption = False,
    out: OutOption = Path("companions"),
    as_json: JsonOption = False,
) -> None:
    """Measure which classes are valid together, and whose recall hangs on a companion.

    A class that is found more often beside its companion may be found by it: a pair to test for a shortcut.

    Examples: manyhot diagnose companions imagenet ·
    manyhot diagnose companions campaign --least 50 --out diagnosis
    """
    from manyhot.diagnose.companions import diagnose_companions_files

    with show_progress() as progress:
        found, written = diagnose_companions_files(
            dataset,
            out,
            predictions=predictions or (),
            models=models or (),
            k=k,
            probability=probability,
            least=least,
            labelled=labelled,
            unasked=unasked,
            rows=rows,
            images=images,
            classes=classes,
            trust_order=trust_order,
            call=call(),
            progress=progress,
        )
    print_companions(found, written, as_json)


def print_companions(found: Companions, written: list[Path], as_json: bool) -> None:
    """Print how many pairs there are, those whose difference is surest, and what was written."""
    rows = [r for r in found.table.to_pylist() if r["model"] is None]
    if as_json:
        tested = [{k: None if v != v else v for k, v in r.items()} for r in rows if r["both"] >= found.least]
        told = {"tested": tested, "notes": found.notes, "written": [str(p) for p in written]}
        typer.echo(json.dumps(told))
        return
    for dataset in dict.fromkeys(r["dataset"] for r in rows):
        _print_set(dataset, [r for r in rows if r["dataset"] == dataset], found.least)
    for note in found.notes:
        say(f"Note: {note}.", err=True)
    print_written(written, False)


def _print_set(dataset: str, rows: list[Row], least: int) -> None:
    n_pairs, n_tested = len(rows) // 2, sum(r["both"] >= least for r in rows) // 2
    n_models, several = rows[0]["n_models"], "" if n_pairs == 1 else "s"
    judged = f"{dataset}, {n_models:,} model{'' if n_models == 1 else 's'}"
    say(f"{judged}: {n_pairs:,} pair{several} of classes, {n_tested:,} on {least:,} images or more")
    known = [r for r in rows if r["p_adjusted"] is not None]
    unknown = sum(r["both"] >= least for r in rows) - len(known)
    sure = [r["diff"] > 0 for r in known if r["p_adjusted"] < 0.05]
    if known:
        say(
            f"found more often beside the companion: {sum(sure):,}; less often: {len(sure) - sum(sure):,}; "
            f"of {len(known):,} tested, at an adjusted p below 0.05"
        )
    if n_models and unknown:
        say(f"not testable: {unknown:,}, for want of images with the companion, or without it")
    if not known:
        return
    typer.echo()
    head = ("class", "companion", "lift", "with", "without", "difference", "adjusted p", "images")
    order = sorted(known, key=lambda r: (r["p_adjusted"], -abs(r["diff"]), r["main"], r["companion"]))
    print_table(head, [_cells(r) for r in order[:MOST]])
    typer.echo()


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row["main_name"],
        row["companion_name"],
        # Short, so that a row fits into 100 columns; the farther end of the interval.
        f"{row['lift']:.3g} ±{round(max(row['lift'] - row['lift_lo'], row['lift_hi'] - row['lift']), 2):.3g}",
        f"{row['recall_with']:.0%}",
        f"{row['recall_without']:.0%}",
        f"{100 * row['diff']:+.0f} ({100 * row['lo']:+.0f} to {100 * row['hi']:+.0f})",
        f"{row['p_adjusted']:.2g}" if row["p_adjusted"] >= 1e-4 else "< 0.0001",
        f"{row['n_with']:,} and {row['n_without']:,}",
    )
