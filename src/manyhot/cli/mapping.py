"""The command that makes label maps to teach crops with: label-maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from manyhot.cli.options import ClassesOption, JsonOption, call
from manyhot.cli.printing import print_written, say, show_progress


def label_maps(
    source: Annotated[str, typer.Argument(help="Images, as for predict.")],
    model: Annotated[str, typer.Option("--model", help="A network of timm that ends in the mean of a grid.")],
    k: Annotated[int, typer.Option("--k", help="Classes to keep of each place.", min=1)] = 5,
    size: Annotated[
        int | None, typer.Option("--size", help="Side of the images in pixels; by default the network's.")
    ] = None,
    classes: ClassesOption = None,
    out: Annotated[Path, typer.Option("--out", help="File to write.", dir_okay=False)] = Path("maps.arrow"),
    as_json: JsonOption = False,
) -> None:
    """Write what a network sees at each place of images, so that crops are taught what is in them.

    Train with it: manyhot train … --set teach=maps --set maps=maps.arrow. Example: manyhot label-maps
    photos --model timm/resnet50 --out maps.arrow
    """
    from manyhot.train.write_label_maps import label_map_files

    with show_progress() as progress:
        n, written = label_map_files(
            source, model, out, k=k, size=size, classes=classes, call=call(), progress=progress
        )
    if as_json:
        typer.echo(json.dumps({"images": n, "written": [str(p) for p in written]}))
        return
    say(f"{n:,} label map{'s' * (n != 1)}")
    print_written(written, False)
