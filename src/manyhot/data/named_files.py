"""Files of predictions under names that the caller gives to the models."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manyhot.errors import InputError
from manyhot.files import path_meant
from manyhot.formats.prediction_folders import prediction_files
from manyhot.formats.writing import PathLike


def named_files(predictions: Any) -> tuple[list[Path], dict[str, str]]:
    """Return the files in a mapping of model names to paths, and the names by path; empty for anything else.

    Raises
    ------
    InputError
        If a path does not exist, is a folder of several models, or has two names.
    """
    is_mapping = isinstance(predictions, Mapping) and predictions
    if not is_mapping or not all(isinstance(p, str | os.PathLike) for p in predictions.values()):
        return [], {}
    names: dict[str, str] = {}
    for name, path in predictions.items():
        file = file_of_model(name, path)
        if str(file) in names:
            raise InputError(
                "Two models are in the same file.", where=file, got=f"{names[str(file)]} and {name}"
            )
        names[str(file)] = str(name)
    return [Path(file) for file in names], names


def file_of_model(name: object, path: PathLike) -> Path:
    """Return the predictions file of one model, given its path or that of a folder with no other model."""
    if not Path(path).exists():
        raise InputError(
            "There is no such predictions file.",
            where=f"model {name}",
            got=path,
            allowed="the path of a file or folder; or a list of classes, one for each image",
            do=path_meant(Path(path)),
        )
    files = prediction_files([path])
    if len(files) > 1:
        raise InputError(
            "A name refers to one model, but the folder contains several.",
            where=f"model {name}",
            got=f"{len(files):,} files in {path}",
            do="pass the folder without a name, in a list",
        )
    return files[0]
