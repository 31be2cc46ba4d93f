"""The command that fits heads with less of a shortcut: mitigate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manyhot.cli.events import show_events
from manyhot.cli.options import ClassesOption, JsonOption, OutOption, call
from manyhot.cli.printing import counts, print_table, print_written, say
from manyhot.cli.shortcutting import EngineOption, Fill, MasksOption, ObjectsOption, SourceArgument

if TYPE_CHECKING:
    from manyhot.train.mitigate.held_out import Mitigation

Row = dict[str, Any]


class Loss(StrEnum):
    """What heads end in."""

    softmax = "softmax"
    sigmoid = "sigmoid"


BackboneOption = Annotated[
    str, typer.Option("--model", help="The backbone, as for predict; its last layer is fitted anew.")
]

PairsOption = Annotated[
    list[str], typer.Option("--pair", help="MAIN:COMPANION, such as horse:person; repeat.", metavar="PAIR")
]

LabelsOption = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        help="Label sets and original labels; by default the classes of the objects, and no labels.",
    ),
]

SplitOption = Annotated[
    Path | None,
    typer.Option("--split", help="Table with image_id and split; the split test is held out."),
]

HeldOutOption = Annotated[
    float, typer.Option("--held-out", help="Without --split: the share of images held out.", metavar="P")
]

LossOption = Annotated[list[Loss] | None, typer.Option("--loss", help="What heads end in; by default both.")]

UncappedOption = Annotated[
    bool,
    typer.Option(
        "--uncapped", help="Add as many altered images as independence takes, more than there are to alter."
    ),
]

LeastOption = Annotated[
    int, typer.Option("--least", help="Images with both classes that are needed to fit on.", min=1)
]

SeedOption = Annotated[
    int, typer.Option("--seed", help="Seed of images held out or pasted on, and of the bootstrap.", min=0)
]

ResamplesOption = Annotated[
    int, typer.Option("--resamples", help="Bootstrap resamples; 0 for no intervals.", min=0)
]


def mitigate(
    source: SourceArgument,
    objects: ObjectsOption,
    model: BackboneOption,
    pair: PairsOption,
    masks: MasksOption = None,
    labels: LabelsOption = None,
    classes: ClassesOption = None,
    split: SplitOption = None,
    held_out: HeldOutOption = 0.3,
    loss: LossOption = None,
    fill: Annotated[Fill, typer.Option("--fill", help="What to put in the place of objects.")] = Fill.grey,
    uncapped: UncappedOption = False,
    least: LeastOption = 25,
    seed: SeedOption = 0,
    resamples: ResamplesOption = 1000,
    engine: EngineOption = "auto",
    out: OutOption = Path("mitigation"),
    as_json: JsonOption = False,
) -> None:
    """Fit the last layer with and without treatment of a shortcut, and judge both on images held out.

    Treated by altered images, from which the companion or the class was taken out (SPIRE), and by label sets
    in place of single labels. The heads are models then: head:FILE. Stopped at any moment, the same command
    goes on where it was.

    Example: manyhot mitigate photos --objects boxes.parquet --labels labels.parquet
    --model efficientnet-lite0 --pair horse:person
    """
    from manyhot.train.mitigate import mitigate_files

    with nullcontext() if as_json else show_events(out, False) as notify:
        found, written = mitigate_files(
            source,
            objects,
            out,
            model=model,
            pairs=pair,
            masks=masks,
            labels=labels,
            classes=classes,
            split=split,
            held_out=held_out,
            losses=[one.value for one in loss or Loss],
            fill=fill.value,
            capped=not uncapped,
            least=least,
            seed=seed,
            resamples=resamples,
            engine=engine,
            call=call(),
            notify=notify,
        )
    print_mitigation(found, written, as_json)


_METRICS = {
    "lost": "lost without the companion",
    "flips": "flips without the companion",
    "recall_gap": "recall gap",
    "hallucination_gap": "hallucination gap",
    "ap": "average precision",
    "ap_balanced": "the same, balanced",
    "top1": "right by the label",
    "real1": "right by the label set",
    "map": "mean average precision",
}


def print_mitigation(found: Mitigation, written: list[Path], as_json: bool) -> None:
    """Print what each head is worth, what was added, and what was written."""
    rows = found.mitigation.to_pylist()
    if as_json:
        told = {"mitigation": rows, "notes": found.notes, "written": [str(p) for p in written]}
        typer.echo(json.dumps(told))
        return
    models: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        models.setdefault((row["main_name"], row["companion_name"], row["model"]), []).append(row)
    for (main, companion, model), of in models.items():
        say(
            f"{main}, beside {companion} or not; {model}; {of[0]['n'] + of[0]['n_skipped']:,} images held out"
        )
        _print_model(of)
        typer.echo()
    for note in found.notes:
        say(f"Note: {note}.", err=True)
    print_written(written, False)


def _print_model(rows: Sequence[Row]) -> None:
    treatments = list(dict.fromkeys(row["treatment"] for row in rows))
    of = {(row["metric"], row["treatment"]): row for row in rows}
    lines = []
    for metric, words in _METRICS.items():
        own = [of[metric, t] for t in treatments if (metric, t) in of]
        if own:
            cells = (_cell(of[metric, t]) if (metric, t) in of else "–" for t in treatments)
            lines.append((words, *cells, counts(row["n"] for row in own)))
    print_table(("", *treatments, "images"), lines)


def _cell(row: Row) -> str:
    gap = row["metric"].endswith("_gap")
    value, lo, hi = (
        None if row[k] is None else f"{100 * row[k]:{'+' if gap else ''}.1f}" for k in ("value", "lo", "hi")
    )
    return f"{value}{'' if gap else '%'}" + ("" if lo is None else f" ({lo} to {hi})")
