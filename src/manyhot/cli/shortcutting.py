"""Options of mitigate and transfer."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


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

EngineOption = Annotated[str, typer.Option("--engine", help="As for predict: auto, torch, openvino, onnx.")]
