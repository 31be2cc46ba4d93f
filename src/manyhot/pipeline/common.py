"""What all parts of the pipeline share."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from manyhot import tables
from manyhot.errors import InputError
from manyhot.tables import DESCRIPTION

if TYPE_CHECKING:
    from manyhot.steps.compare import Comparison
    from manyhot.steps.results import Evaluation

PathLike = str | os.PathLike[str]


def check_apart(sources: Iterable[object], target: PathLike, names: Collection[str] = ()) -> None:
    """Refuse to write over what is read.

    Parameters
    ----------
    sources : iterable
        Files and folders that are read; what is no path of one is passed over.
    target : path-like
        The file or folder that is written.
    names : collection of str
        Stems of the files that are written into a folder.

    Raises
    ------
    InputError
        A source is the target, or one of the files that are written into it.
    """
    end = _resolved(target)
    for source in sources:
        if not isinstance(source, str | os.PathLike) or not Path(source).exists():
            continue
        path = _resolved(source)
        if path == end or (path.parent == end and path.stem in names):
            raise InputError(
                "The output would be written over what is read.",
                where=target,
                got=source,
                do="choose another place to write to",
            )


def images_file(path: PathLike) -> Path:
    """Return the images table in a folder that ``manyhot predict`` wrote; another path is one already."""
    inside = Path(path) / "images.parquet"
    return inside if inside.is_file() else Path(path)


def in_campaign(votes: PathLike, name: str) -> Path:
    """Return where a file made of votes is written by default: into the folder of a campaign, else here."""
    folder = Path(votes)
    return folder / name if (folder / DESCRIPTION).is_file() else Path(name)


def check_place(target: PathLike, table: str) -> None:
    """Refuse to write a table over another one: votes are facts, and no other file holds them.

    Parameters
    ----------
    target : path-like
        The file that is written.
    table : str
        What is written into it.

    Raises
    ------
    InputError
        The file tells that it is another table, or has its name in a campaign's folder.
    """
    from manyhot.formats.tabular import declared  # brings polars, which predicting does not need

    path = Path(target)
    reserved = {*tables.TABLES, Path(tables.DESCRIPTION).stem} & {path.stem} - {table}
    in_campaign = (path.parent / tables.DESCRIPTION).is_file() and path.suffix.lower() in (
        ".parquet",
        ".json",
    )
    held = declared(path) if path.is_file() else ""
    held = path.stem if reserved and in_campaign else held
    if held and held != table:
        raise InputError(
            f"This file is the place of another table than {table}.",
            where=path,
            got=held,
            do="choose another place to write to",
        )


def _resolved(path: PathLike) -> Path:
    try:
        return Path(path).resolve()
    except (RuntimeError, OSError) as error:  # links that lead to themselves
        raise InputError("The place cannot be found.", where=path, got=error) from error


Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Options:
    """How to judge; see `manyhot.steps.evaluate.evaluate`."""

    metrics: tuple[str, ...] | None = None
    slices: tuple[str, ...] = ()
    resamples: int = 1000
    seed: int = 0
    map_resamples: int = 0
    trust_order: bool = False


@dataclass(frozen=True)
class Outcome:
    """An evaluation, what came of comparing its models, and the files they were written to.

    `no_gallery` says why the report has no gallery although photographs are at hand.
    """

    evaluation: Evaluation
    comparison: Comparison
    written: tuple[Path, ...]
    highlight: tuple[str, ...] = ()
    no_gallery: str = ""
