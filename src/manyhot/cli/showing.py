"""The command that shows images: gallery."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from manyhot.cli.options import ClassesOption, JsonOption, RowsOption, call
from manyhot.cli.printing import say, show_progress


def gallery(
    source: Annotated[
        str,
        typer.Argument(
            help="A data set such as imagenet-val, a campaign, a folder that predict wrote, or label sets."
        ),
    ],
    predictions: Annotated[
        list[Path] | None,
        typer.Option(
            "--predictions",
            help="File or folder of predictions, in place of those of the source; repeat for more.",
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--models", help="Models whose names fit, such as 'resnet*'; repeat for more."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            help="Images table with the column uri, or a folder that predict wrote: the photographs to show.",
        ),
    ] = None,
    rows: RowsOption = None,
    classes: ClassesOption = None,
    embeddings: Annotated[
        Path | None,
        typer.Option(
            "--embeddings",
            help="Folder that predict --embeddings wrote, to find similar images; by default that of the "
            "predictions.",
        ),
    ] = None,
    findings: Annotated[
        Path | None,
        typer.Option("--findings", help="Findings with kinds of errors, to filter by."),
    ] = None,
    title: Annotated[str, typer.Option("--title", help="In place of the name of the data set.")] = "",
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.", file_okay=False)] = Path(
        "gallery"
    ),
    as_json: JsonOption = False,
) -> None:
    """Show images, label sets, what models see, and similar images beside it: a folder for any browser.

    Examples: manyhot gallery predictions --out gallery ·
    manyhot gallery imagenet-val --models 'resnet50' --images val/images.parquet
    """
    from manyhot.evaluate.gallery import gallery_files

    with show_progress() as progress:
        made, written = gallery_files(
            source,
            out,
            predictions=predictions or (),
            models=models or (),
            images=images,
            rows=rows,
            classes=classes,
            embeddings=embeddings,
            findings=findings,
            title=title,
            call=call(),
            progress=progress,
        )
    absent = len(made) - sum(1 for _ in (written[0].parent / "photos").iterdir())
    if as_json:
        told = {"images": len(made), "absent": absent, "models": made.models, "notes": made.notes}
        told["written"] = [str(p) for p in written]
        typer.echo(json.dumps(told))
        return
    say(f"{len(made):,} images, {len(made.models)} model{'s' * (len(made.models) != 1)}")
    say(f"gallery: {written[0]}")
    if absent:
        many = "s" * (absent != 1)
        say(
            f"Note: {absent:,} photograph{many} cannot be shown; the gallery says why in their place.",
            err=True,
        )
    for note in made.notes:
        say(f"Note: {note}.", err=True)
