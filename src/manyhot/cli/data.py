"""The commands around files and names: convert, fetch, metrics, losses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from manyhot.cli.options import (
    ClassesOption,
    JsonOption,
    RowsOption,
    call,
)
from manyhot.cli.printing import (
    options_text,
    print_catalog,
    print_saved,
    print_table,
    print_written,
    show_progress,
)


def convert(
    source: Annotated[
        Path, typer.Argument(help="Labels, predictions, images, results, proposals or votes in any format.")
    ],
    target: Annotated[
        Path, typer.Argument(help="File to write: .parquet or .csv; with --to what that format is.")
    ],
    rows: RowsOption = None,
    classes: ClassesOption = None,
    scores: Annotated[
        str | None, typer.Option("--scores", help="What scores are: logit, probability or score.")
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="The format, or a call string: 'chen(threshold=0.9)'.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="Write another tool's format: real, multilabelfy, hf-labels, label-studio, "
            "label-studio-golden, fiftyone; or a call string: 'hf-labels(split=\"validation\")'.",
        ),
    ] = None,
    long: Annotated[
        bool, typer.Option("--long", help="CSV with one row for each (image, class) pair.")
    ] = False,
    card: Annotated[Path | None, typer.Option("--card", hidden=True)] = None,
    as_json: JsonOption = False,
) -> None:
    """Convert any file that manyhot reads to Parquet or CSV, or to another tool's format.

    What the new file cannot hold is said. Examples: manyhot convert real.json labels.parquet ·
    manyhot convert labels.parquet hub --to hf-labels ·
    manyhot convert votes.parquet export.json --to label-studio
    """
    from manyhot.data.convert import convert as convert_convert

    if card is not None:
        raise typer.BadParameter("--card is a command of its own now: manyhot card LABELS --out README.md")

    saved = convert_convert(
        source,
        target,
        rows=rows,
        classes=classes,
        scores=scores,
        format=format_,
        to=to,
        long=long,
        call=call(),
    )
    print_saved(saved, target, as_json)


def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Names of the catalogue.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List what can be fetched.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Download published data, verified, into the cache folder; without names, list what there is.

    MANYHOT_MIRROR names a folder or zip archive, laid out by address, to take the files from instead.
    Example: manyhot fetch imagenet-real
    """
    from manyhot.data import catalog

    if list_ or not names:
        print_catalog(as_json)
        return
    written: list[Path] = []
    for name in [catalog.catalog_entry(n).name for n in names]:
        with show_progress() as progress:
            told = (
                None if progress is None else (lambda done, of, n=name: progress(f"fetching {n}", done, of))
            )
            written += catalog.fetch(name, progress=told).values()
    print_written(written, as_json)


def metrics(as_json: JsonOption = False) -> None:
    """List the metrics, what each is, and its options."""
    _list("metric", "better", as_json)


def losses(as_json: JsonOption = False) -> None:
    """List the losses to train with, what each ends in and is, and its options."""
    _list("loss", "ends", as_json)


def _list(kind: str, told: str, as_json: bool) -> None:
    """List what is registered of a kind, and what was told of each at registration."""
    from manyhot import registry

    entries = [registry.get(kind, name) for name in registry.names(kind)]
    rows = [(e.name, e.about[told], options_text(e), e.summary) for e in entries]
    if as_json:
        keys = ("name", told, "options", "summary")
        typer.echo(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]))
        return
    print_table((kind, told, "options", "what it is"), rows)
