"""The command that judges backbones on other data: transfer."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manyhot.cli.events import show_events
from manyhot.cli.mitigating import HeldOutOption, ResamplesOption
from manyhot.cli.options import ClassesOption, JsonOption, OutOption, call
from manyhot.cli.printing import print_table, print_written, say
from manyhot.cli.shortcutting import EngineOption, MasksOption, SourceArgument
from manyhot.cli.training import setting

if TYPE_CHECKING:
    from manyhot.evaluate.results import Evaluation

Row = dict[str, Any]


def transfer(
    source: SourceArgument,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="knn, probe, few-shot, fine-tune, multilabel, detection or segmentation.",
        ),
    ],
    model: Annotated[
        list[str], typer.Option("--model", help="A backbone, as for predict; also without classes. Repeat.")
    ],
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Label sets and original labels of the images.")
    ] = None,
    objects: Annotated[
        Path | None, typer.Option("--objects", help="Boxes, for detection; also tell label sets.")
    ] = None,
    masks: MasksOption = None,
    classes: ClassesOption = None,
    split: Annotated[
        Path | None,
        typer.Option("--split", help="Table with image_id and split; the split test is judged."),
    ] = None,
    held_out: HeldOutOption = 0.3,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the method: NAME=VALUE; repeat.", metavar="SETTING"),
    ] = None,
    train_backbone: Annotated[
        bool,
        typer.Option("--train-backbone", help="Train it under a detector or segmentation head, too."),
    ] = False,
    seed: Annotated[
        int, typer.Option("--seed", help="Of images held out, weights, draws and the bootstrap.", min=0)
    ] = 0,
    resamples: ResamplesOption = 1000,
    engine: EngineOption = "auto",
    out: OutOption = Path("transfer"),
    as_json: JsonOption = False,
) -> None:
    """Judge backbones by how well they serve another data set.

    Heads on features that stay as they are: by nearest neighbours, linear, on few images, or for each class;
    detectors and segmentation heads on feature maps; or the backbone is fine-tuned. Several models are judged
    on the same images and resamples.

    Example: manyhot transfer photos --labels labels.parquet --method knn --model timm/resnet50
    """
    from manyhot.train.transfer.transfer import transfer_files

    with nullcontext() if as_json else show_events(out, False) as notify:
        found, written = transfer_files(
            source,
            out,
            models=model,
            method=method,
            labels=labels,
            objects=objects,
            masks=masks,
            classes=classes,
            split=split,
            held_out=held_out,
            settings=dict(map(setting, settings or [])),
            train_backbone=train_backbone,
            seed=seed,
            resamples=resamples,
            engine=engine,
            call=call(),
            notify=notify,
        )
    _print(found, written, as_json)


def _print(found: Evaluation, written: list[Path], as_json: bool) -> None:
    """Print a column a model, pairs of models, what the reader must know, and what was written."""
    rows = found.results.to_pylist()
    notes = [f"{n.model}: {n.text}" if n.model else n.text for n in found.model_notes]
    if as_json:
        told = {"results": rows, "pairs": found.pairs.to_pylist(), "notes": notes}
        typer.echo(json.dumps(told | {"written": [str(p) for p in written]}))
        return
    models = list(dict.fromkeys(row["model"] for row in rows))
    cells = {(_what(row), row["model"]): _cell(row) for row in rows}
    n = {_what(row): f"{row['n']:,}" for row in rows}
    lines = [(what, *(cells.get((what, m), "–") for m in models), n[what]) for what in n]
    print_table(("", *models, "images"), lines)
    for pair in found.pairs.to_pylist():
        diff = f"{100 * pair['diff']:+.1f} ({100 * pair['lo']:+.1f} to {100 * pair['hi']:+.1f})"
        say(f"{pair['metric']}: {pair['model_a']} less {pair['model_b']}: {diff} points")
    for note in notes:
        say(f"Note: {note}.", err=True)
    print_written(written, False)


def _what(row: Row) -> str:
    metric = str(row["metric"]).partition("/")[2]
    return metric if row["slice"] == "all" else f"{metric}, {row['slice'].partition('=')[2]}"


def _cell(row: Row) -> str:
    if row["value"] != row["value"]:
        return "–"
    ends = "" if row["lo"] is None else f" ({100 * row['lo']:.1f} to {100 * row['hi']:.1f})"
    return f"{100 * row['value']:.1f}%{ends}"
