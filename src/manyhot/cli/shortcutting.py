"""The command that takes objects out of images: diagnose shortcuts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manyhot.cli.events import show_events
from manyhot.cli.options import ClassesOption, JsonOption, OutOption, call
from manyhot.cli.printing import print_table, print_written, say

if TYPE_CHECKING:
    from manyhot.diagnose.shortcuts import Shortcuts

Row = dict[str, Any]

SHOWN = 12
"""Pairs that are printed."""


class Fill(StrEnum):
    """What to put in the place of an object."""

    grey = "grey"
    inpaint = "inpaint"


SourceArgument = Annotated[str, typer.Argument(help="Images: all that predict reads.", metavar="IMAGES")]

ObjectsOption = Annotated[
    Path,
    typer.Option(
        "--objects", help="Where objects are: a table with a box a row, COCO's JSON, or a folder of VOC."
    ),
]

MasksOption = Annotated[
    Path | None,
    typer.Option("--masks", help="Semantic masks: a folder of PNGs, or Parquet with them."),
]

LabelsOption = Annotated[
    Path | None, typer.Option("--labels", help="Label sets; by default the classes of the objects.")
]

ModelOption = Annotated[str, typer.Option("--model", help="A model, as for predict.")]

PairOption = Annotated[
    list[str] | None,
    typer.Option(
        "--pair",
        help="MAIN:COMPANION, such as horse:person; repeat for more. By default all.",
        metavar="PAIR",
    ),
]

FillOption = Annotated[
    list[Fill] | None,
    typer.Option("--fill", help="What to put in the companion's place; repeat for both. [default: grey]"),
]

LeastOption = Annotated[
    int, typer.Option("--least", help="Images with both classes that a pair needs.", min=1)
]

ThresholdOption = Annotated[
    float,
    typer.Option(
        "--threshold", help="Share of images that is lost from which on a pair is a shortcut.", metavar="P"
    ),
]

AtOption = Annotated[
    float,
    typer.Option(
        "--at", help="Probability from which a class is predicted; of logits the best class is.", metavar="P"
    ),
]

SeedOption = Annotated[
    int, typer.Option("--seed", help="Seed of the places of controls, and of the bootstrap.", min=0)
]

ResamplesOption = Annotated[
    int, typer.Option("--resamples", help="Bootstrap resamples of average precisions; 0 for none.", min=0)
]

EngineOption = Annotated[str, typer.Option("--engine", help="As for predict: auto, torch, openvino, onnx.")]


def shortcuts(
    source: SourceArgument,
    objects: ObjectsOption,
    model: ModelOption,
    masks: MasksOption = None,
    labels: LabelsOption = None,
    classes: ClassesOption = None,
    pair: PairOption = None,
    fill: FillOption = None,
    least: LeastOption = 25,
    threshold: ThresholdOption = 0.4,
    at: AtOption = 0.5,
    seed: SeedOption = 0,
    resamples: ResamplesOption = 1000,
    engine: EngineOption = "auto",
    out: OutOption = Path("shortcuts"),
    as_json: JsonOption = False,
) -> None:
    """Take objects out of images, and count how many predictions of what is beside them change.

    Each pair of classes is tested on the images that show both, against a control: as much is taken out
    elsewhere. Stopped at any moment, the same command goes on where it was.

    Examples: manyhot diagnose shortcuts photos --objects boxes.parquet --model efficientnet-lite0 ·
    manyhot diagnose shortcuts photos --objects instances.json --model head:head.safetensors
    --pair horse:person --fill grey --fill inpaint
    """
    from manyhot.diagnose.shortcuts import diagnose_shortcuts_files

    with nullcontext() if as_json else show_events(out, False) as notify:
        found, written = diagnose_shortcuts_files(
            source,
            objects,
            out,
            model=model,
            masks=masks,
            labels=labels,
            classes=classes,
            pairs=pair or (),
            fills=[f.value for f in fill or [Fill.grey]],
            least=least,
            threshold=threshold,
            at=at,
            seed=seed,
            resamples=resamples,
            engine=engine,
            call=call(),
            notify=notify,
        )
    print_shortcuts(found, written, threshold, as_json)


def print_shortcuts(found: Shortcuts, written: list[Path], threshold: float, as_json: bool) -> None:
    """Print the first pairs, what all come to, what was passed over, and what was written."""
    rows = found.shortcuts.to_pylist()
    if as_json:
        told = {"shortcuts": rows, "summary": found.summary, "notes": found.notes}
        typer.echo(json.dumps(told | {"written": [str(p) for p in written]}))
        return
    tested = [r for r in rows if r["skipped"] is None]
    if tested:
        say(f"{tested[0]['model']}; predicted: {tested[0]['decision']}")
        for one in found.summary:
            say(_summed(one, threshold))
            if one["not_testable"]:
                say(f"{one['fill']}: {_untestable(one)}")
        typer.echo()
        _print_pairs(tested)
        typer.echo()
    fills = max(len({r["fill"] for r in rows}), 1)
    for why, n in Counter(r["skipped"] for r in rows if r["skipped"]).most_common():
        say(f"not tested: {n // fills:,} pairs, {why}")
    for note in found.notes:
        say(f"Note: {note}.", err=True)
    print_written(written, False)


def _summed(one: Row, threshold: float) -> str:
    flips = f"flips {one['mean']:.3f} (median {one['median']:.3f}, controls {_mean(one['mean_control'])})"
    lost = f"lost {one['mean_lost']:.3f} (controls {_mean(one['mean_control_lost'])})"
    of = f" of {one['pairs'] - one['not_testable']:,}" if one["not_testable"] else ""
    marked = f"{one['shortcuts']:,}{of} from {threshold:g} on"
    return f"{one['fill']}: {one['pairs']:,} pairs, {flips}, {lost}; {marked}"


def _untestable(one: Row) -> str:
    """Return what was lost where nothing tells whether any hole would have done the same."""
    n, lost = one["not_testable"], f"{one['not_testable_lost']:.1%}"
    if n == 1:
        return f"1 pair lost {lost} but has no controls to go by: not testable"
    return f"{n:,} pairs lost up to {lost} but have no controls to go by: not testable"


def _mean(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _print_pairs(tested: Sequence[Row]) -> None:
    head = ("main", "without", "fill", "images", "flips", "lost", "control", "difference in points", "")
    print_table(head, [_cells(row) for row in tested[:SHOWN]])
    if len(tested) > SHOWN:
        say(f"… and {len(tested) - SHOWN:,} more rows in the table")


def _cells(row: Row) -> tuple[str, ...]:
    lo, lost, hi = (100 * row[k] for k in ("lost_lo", "lost", "lost_hi"))
    control, more = "–", "–"
    if row["control_lost"] is not None:
        control = f"{row['control_lost']:.1%}"
        more = f"{100 * row['more']:+.1f} ({100 * row['lo']:+.1f} to {100 * row['hi']:+.1f})"
    names = (row["main_name"], row["companion_name"], row["fill"], f"{row['n']:,}")
    marked = {True: "shortcut", False: "", None: "not testable"}[row["shortcut"]]
    return (*names, f"{row['flips']:.1%}", f"{lost:.1f}% ({lo:.1f} to {hi:.1f})", control, more, marked)
