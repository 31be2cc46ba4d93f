"""Options of diagnose calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataSetArgument = Annotated[
    str,
    typer.Argument(
        help="A benchmark such as imagenet, or one of its data sets; a campaign; a folder that predict "
        "wrote; label sets or images."
    ),
]

PredictionsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--predictions",
        help="File or folder of predictions, in place of the published ones or those of the campaign; "
        "repeat for more.",
    ),
]

ModelsOption = Annotated[
    list[str] | None,
    typer.Option("--models", help="Models whose names fit, such as 'resnet*'; repeat for more."),
]

ImagesOption = Annotated[Path | None, typer.Option("--images", help="Images table with original labels.")]

TrustOrderOption = Annotated[
    bool,
    typer.Option("--trust-order", help="Take rows and classes in the order they have, without checking it."),
]
