"""Options that several commands share."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from manyhot.console import without_passwords

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text, for programs.")]
OutOption = Annotated[
    Path, typer.Option("--out", help="Folder to write to; made if absent.", file_okay=False)
]
RowsOption = Annotated[
    Path | None,
    typer.Option(
        "--rows", help="The image of each row of array files: data-set JSON, CSV, Parquet, or list of ids."
    ),
]

ClassesOption = Annotated[
    Path | None,
    typer.Option(
        "--classes",
        help="Class list: one key per line, a table with key and name, or imagenet1k, imagenet-a, "
        "imagenet-r.",
    ),
]


def call() -> str:
    """Return the command line for the metadata of output files, without passwords in addresses."""
    return shlex.join(["manyhot", *map(without_passwords, sys.argv[1:])])
