"""The command that trains: train."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from manyhot.cli.events import show_events
from manyhot.cli.options import ClassesOption, JsonOption, OutOption, call
from manyhot.cli.printing import print_written


def train(
    source: Annotated[str, typer.Argument(help="Images, as for predict.")],
    labels: Annotated[Path, typer.Option("--labels", help="Label sets of the images to train on.")],
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="Settings in a TOML file; the usual ones by default.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting that counts instead: NAME=VALUE; repeat.", metavar="SETTING"),
    ] = None,
    val_labels: Annotated[
        Path | None, typer.Option("--val-labels", help="Label sets of images to judge by after each epoch.")
    ] = None,
    val: Annotated[
        str | None, typer.Option("--val", help="These images, as for predict; by default SOURCE.")
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            "--features",
            help="Folder in which runs with trained_from share what comes before.",
            file_okay=False,
        ),
    ] = None,
    save_every: Annotated[
        float, typer.Option("--save-every", help="Seconds between two checkpoints.", min=0)
    ] = 60.0,
    classes: ClassesOption = None,
    out: OutOption = Path("training"),
    as_json: JsonOption = False,
) -> None:
    """Train a network on label sets. Killed at any moment, the same command goes on where it was.

    Started by torchrun, several processes share each batch: one a GPU.

    Example: manyhot train photos --labels labels.parquet --set model=timm/resnet50 --set epochs=30
    """
    from manyhot.train.train import train_files

    with show_events(out, as_json) as notify:
        path = train_files(
            source,
            labels,
            out,
            recipe=recipe,
            classes=classes,
            settings=dict(map(setting, settings or [])),
            val=val,
            val_labels=val_labels,
            features=features,
            save_every=save_every,
            call=call(),
            notify=notify,
        )
    if os.environ.get("RANK", "0") == "0":
        print_written([path, path.with_name("log.csv")], as_json)


def setting(text: str) -> tuple[str, Any]:
    """Return name and value of a setting; what is no literal is a text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"--set is NAME=VALUE; got {text}")
    try:
        return name.strip(), ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name.strip(), value
