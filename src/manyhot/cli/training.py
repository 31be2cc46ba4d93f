"""The command that trains: train."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Annotated, Any

import typer

from manyhot.cli.events import show_events
from manyhot.cli.options import ClassesOption, OutOption, call


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
    classes: ClassesOption = None,
    out: OutOption = Path("training"),
) -> None:
    """Train a network on label sets. Stopped at any moment, the same command goes on where it was.

    Example: manyhot train photos --labels labels.parquet --set model=timm/resnet50 --set epochs=30
    """
    from manyhot import pipeline

    with show_events(out, False) as notify:
        path = pipeline.train_files(
            source,
            labels,
            out,
            recipe=recipe,
            classes=classes,
            settings=dict(map(_setting, settings or [])),
            call=call(),
            notify=notify,
        )
    typer.echo(path)


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"--set is NAME=VALUE; got {text}")
    try:
        return name.strip(), ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name.strip(), value
