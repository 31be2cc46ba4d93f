"""Writing tables to foreign files, with a report of the content that a format cannot hold.

A writer is registered under the name of the format that reads its files, with three properties: the tables
that it `holds`, the `suffixes` of its files, and the keys of `LABEL_FACTS` that it `keeps`, the content of a
labels table apart from the label sets. It takes the table, the path and a class list or None, and returns a
`Saved`. If it has the property `addresses`, it also takes the address of each image. `check_apart` and
`check_place` check where a file may be written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot import registry, tables
from manyhot.classes import ClassList, class_list, class_list_of
from manyhot.core.array_types import Floats32, Ints32, Ints64
from manyhot.core.sets import NO
from manyhot.errors import InputError, MatchError
from manyhot.files import PathLike as PathLike
from manyhot.formats.image_paths import addresses
from manyhot.formats.reading import declared
from manyhot.kinds import FOLDER
from manyhot.tables import DESCRIPTION, STATES, Golden, Images, Labels, Votes
from manyhot.tables.arrays import label_sets
from manyhot.tables.labels import with_zeros

_T = TypeVar("_T")


@dataclass(frozen=True)
class Saved:
    """The written files.

    Attributes
    ----------
    files : tuple of Path
    left_out : tuple of str
        Content of the table that is missing from the written files.
    notes : tuple of str
        What else the user should know about the files.
    """

    files: tuple[Path, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def _holds(column: str) -> Callable[[Labels], bool]:
    def has_values(labels: Labels) -> bool:
        table = labels.table
        return column in table.column_names and table[column].null_count < len(table)

    return has_values


def _has_state(state: str) -> Callable[[Labels], bool]:
    return lambda labels: bool(pc.any(pc.equal(pc.list_flatten(labels.table["state"]), state)).as_py())


LABEL_FACTS: Mapping[str, Callable[[Labels], bool]] = {
    "original labels": _holds("label"),
    "which images were rated": _holds("rated"),
    "unusable images": lambda labels: not all(usable(labels)),
    "classes answered no": _has_state("no"),
    "unclear classes": _has_state("unclear"),
    "p": _holds("p"),
    "n_votes": _holds("n_votes"),
    "method": _holds("method"),
    "sources": _holds("sources"),
    "conflicts": _holds("conflicts"),
}
"""Content of a labels table apart from its label sets, with a function that returns whether a table has
it."""


def save(
    content: Labels | Votes | Golden | pa.Table,
    path: str | os.PathLike[str],
    to: str,
    *,
    holds: str = "labels",
    classes: ClassList | None = None,
    images: Images | None = None,
) -> Saved:
    """Write a table in a foreign format, atomically.

    Parameters
    ----------
    content : Labels, Votes, Golden or pyarrow.Table
    path : path-like
        The file or folder to write.
    to : str
        A registered writer, or a call string such as ``label-studio(prefix='https://example.org/')``.
    holds : str
        The table's name, such as ``labels``.
    classes : ClassList, optional
        The class list of `content`. By default, the built-in class list with the same hash.
    images : Images, optional
        Images with their addresses (``uri``), for formats that write the path of each image. By default, the
        path is the image's id.

    Raises
    ------
    UnknownNameError
        If there is no such writer.
    InputError
        If the format does not support such tables, uses a different suffix, or cannot represent this table.
    """
    path = Path(path)
    entry = registry.get("writer", to)
    if holds not in entry.about["holds"]:
        others = [e.name for e in registry.entries("writer") if holds in e.about["holds"]]
        raise InputError(
            f"The format {entry.name!r} does not contain {holds}.",
            where=path,
            allowed=f"{holds} as {', '.join(others) or '.parquet or .csv, without `to`'}",
        )
    _check_suffix(entry, path)
    content = with_zeros(content) if isinstance(content, Labels) else content
    more = (addresses(images, content),) if entry.about.get("addresses") else ()
    saved: Saved = entry(content, path, classes or getattr(content, "class_list", None), *more)
    if not isinstance(content, Labels):
        return saved
    lost = [
        fact
        for fact, there in LABEL_FACTS.items()
        if fact not in entry.about.get("keeps", ()) and there(content)
    ]
    return replace(saved, left_out=(*lost, *saved.left_out))


def _check_suffix(entry: registry.Entry, path: Path) -> None:
    suffixes = entry.about["suffixes"]
    if path.suffix.lower() in suffixes or (FOLDER in suffixes and not path.is_file()):
        return
    raise InputError(
        f"The format {entry.name!r} has a different suffix.",
        where=path,
        allowed=", ".join("a folder" if s == FOLDER else s for s in suffixes),
    )


def classes_of_table(content: Labels | Votes, classes: ClassList | None) -> ClassList:
    """Return the class list of labels or votes, for formats that write names.

    Raises
    ------
    InputError, MatchError
        As in `class_list_for`.
    """
    what = "labels" if isinstance(content, Labels) else "votes"
    return class_list_for(what, content.n_classes, content.class_hash, classes, content.name)


def class_list_for(what: str, n: int, key: str, classes: ClassList | None, name: str = "") -> ClassList:
    """Return the class list with n classes and this hash: `classes`, or a built-in list.

    Raises
    ------
    InputError
        If the class list is unknown.
    MatchError
        If `classes` has a different length or hash.
    """
    own = classes or class_list_of(key)
    where = name or what
    if own is None:
        raise InputError(
            "The names of the classes are unknown.",
            where=where,
            got=f"class list {key or 'unknown'} of {n:,} classes",
            do="pass the class list as `classes`",
        )
    if len(own) != n or key not in ("", own.hash):
        raise MatchError(
            f"The {what} have a different class list.",
            where=where,
            got=f"{own.name}: {len(own):,} classes, hash {own.hash}",
            allowed=f"{n:,} classes, hash {key or 'unknown'}",
            do=f"pass the class list of the {what} as `classes`",
        )
    return own


def unique_names(classes: ClassList) -> tuple[str, ...]:
    """Return the names of the classes if they are unique, otherwise their keys."""
    return classes.names if len(set(classes.names)) == len(classes) else classes.keys


def lost_keys(classes: ClassList) -> tuple[str, ...]:
    """Return the keys of classes as lost content, unless the written names identify the class list."""
    determined = classes.keys == unique_names(classes) or classes.hash == class_list().hash
    return () if determined else ("keys of classes",)


def with_state(labels: Labels, state: str = "yes") -> tuple[Ints64, Ints32, Floats32]:
    """Return the classes that have a state.

    Returns
    -------
    lengths : ndarray of int64, shape (n,)
        Number of classes with this state in each image.
    classes : ndarray of int32, shape (m,)
        The classes, image by image.
    p : ndarray of float32, shape (m,)
        Their probabilities; NaN if unknown.
    """
    sets = label_sets(labels)
    chosen = sets.state == NO + STATES.index(state)
    lengths = np.bincount(sets.rows[chosen], minlength=len(labels)).astype(np.int64)
    p = np.full(len(chosen), np.nan, np.float32) if sets.p is None else sets.p
    return lengths, sets.classes[chosen], p[chosen]


def lists_of(lengths: Ints64, values: list[_T]) -> list[list[_T]]:
    """Return values as one list per image."""
    ends = np.cumsum(lengths).tolist()
    return [values[end - n : end] for n, end in zip(lengths.tolist(), ends, strict=True)]


def valid_classes(labels: Labels, named: Callable[[int], _T], state: str = "yes") -> dict[str, list[_T]]:
    """Return the valid classes of each usable image, as `named` names them, by the id of the image."""
    lengths, flat, _ = with_state(labels, state)
    sets = lists_of(lengths, list(map(named, flat.tolist())))
    images = zip(labels.image_id.to_pylist(), sets, usable(labels), strict=True)
    return {image: valid for image, valid, is_usable in images if is_usable}


def usable(labels: Labels) -> list[bool]:
    """Return which images have a label set: they are usable, and their class is not undecided."""
    flags: list[bool] = label_sets(labels).usable.tolist()
    return flags


def check_apart(sources: Iterable[object], target: PathLike, names: Collection[str] = ()) -> None:
    """Check that no input is overwritten.

    Parameters
    ----------
    sources : iterable
        Files and folders that are read. Other objects are ignored.
    target : path-like
        The file or folder that is written.
    names : collection of str
        Stems of the files that are written into a folder.

    Raises
    ------
    InputError
        If a source is the target, or a file that is written into the target folder.
    """
    end = _resolved(target)
    for source in sources:
        if not isinstance(source, str | os.PathLike) or not Path(source).exists():
            continue
        path = _resolved(source)
        if path == end or (path.parent == end and path.stem in names):
            raise InputError(
                "The output would overwrite an input.",
                where=target,
                got=source,
                do="choose another path for the output",
            )


def images_file(path: PathLike) -> Path:
    """Return the path of an images table, which may be in a folder written by ``manyhot predict``."""
    inside = Path(path) / "images.parquet"
    return inside if inside.is_file() else Path(path)


def in_campaign(votes: PathLike, name: str) -> Path:
    """Return the default path of a file made from votes, in the campaign's folder or the current one."""
    folder = Path(votes)
    return folder / name if (folder / DESCRIPTION).is_file() else Path(name)


def check_place(target: PathLike, table: str) -> None:
    """Check that a table does not overwrite another table, such as votes, which cannot be recreated.

    Parameters
    ----------
    target : path-like
        The file that is written.
    table : str
        The name of the written table.

    Raises
    ------
    InputError
        If the file contains a different table, or has the name of a different table of a campaign.
    """
    path = Path(target)
    description = path.parent / tables.DESCRIPTION
    held = declared(path) if path.is_file() else ""
    # Names of tables are looked up only where they matter: that imports the features which declare them.
    if description.is_file() and path.suffix.lower() in (".parquet", ".json") and path.stem != table:
        held = path.stem if path.stem == description.stem or path.stem in tables.TABLES else held
    if held and held != table:
        raise InputError(
            f"This file is reserved for a table other than {table}.",
            where=path,
            got=held,
            do="choose another path for the output",
        )


def _resolved(path: PathLike) -> Path:
    try:
        return Path(path).resolve()
    except (RuntimeError, OSError) as error:  # links that lead to themselves
        raise InputError("The path cannot be resolved.", where=path, got=error) from error
