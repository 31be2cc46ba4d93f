"""A campaign: a folder that holds the tables of a re-assessment under fixed names.

::

    campaign.json          the description of the campaign
    classes.parquet        the class list
    images.parquet         the images with their original labels
    predictions/           one table per model
    proposals.parquet      the questions
    votes.parquet          the raters' answers
    golden.parquet         the experts' answers; or golden.csv
    remarks.parquet        the raters' remarks
    labels.parquet         the label sets
    class_changes.parquet  names and definitions of classes that were changed
    audit_sample.parquet   of an audit: the probability of every image that could be drawn
    examples.parquet       of an audit: all images, from which raters see examples of classes
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from manyhot._version import __version__
from manyhot.errors import InputError, did_you_mean
from manyhot.files import write_text

DESCRIPTION = "campaign.json"
CAMPAIGN_VERSION = 1


@dataclass(frozen=True)
class Campaign:
    """The description of a campaign, from its ``campaign.json``.

    Attributes
    ----------
    folder : Path
    classes : str
        The name of the class list.
    class_hash : str
    n_classes, n_images : int
    call : str
        The command that made the campaign.
    inputs : Mapping of str to str
        The sha256 of each input file, by name.
    version : str
        The version of manyhot.
    campaign : int
        The version of the description.
    """

    folder: Path
    classes: str
    class_hash: str
    n_classes: int
    n_images: int
    call: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    version: str = __version__
    campaign: int = CAMPAIGN_VERSION

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Campaign:
        """Read the description of a campaign.

        Raises
        ------
        InputError
            If the folder is not a campaign, or if its description is broken, has an unknown key or lacks a
            key.
        """
        folder = Path(folder)
        path = folder / DESCRIPTION
        if not path.is_file():
            raise InputError(
                "The folder is not a campaign." if folder.is_dir() else "There is no such campaign.",
                where=folder,
                got=f"no {DESCRIPTION} in it" if folder.is_dir() else "no such folder",
                do="make one: manyhot init DIR --images FILE --classes LIST",
            )
        return cls(folder, **_described(path))

    def write(self) -> Path:
        """Write the description, atomically."""
        content = {k: v for k, v in asdict(self).items() if k != "folder"}
        path = self.folder / DESCRIPTION
        write_text(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
        return path

    def path(self, table: str) -> Path:
        """Return the path of a table. For predictions, this is a folder."""
        return campaign_file(self.folder, table)


def campaign_file(folder: Path, table: str) -> Path:
    """Return the path of a table of a campaign; golden answers may also be in a CSV file."""
    if table == "predictions":
        return folder / table
    path = folder / f"{table}.parquet"
    by_hand = path.with_suffix(".csv")
    return by_hand if table == "golden" and not path.is_file() and by_hand.is_file() else path


def is_campaign(path: Path) -> bool:
    """Return whether a folder is a campaign."""
    return (path / DESCRIPTION).is_file()


def no_label_sets(folder: Path) -> InputError:
    """Return the error for a campaign whose votes have not been aggregated yet."""
    return InputError(
        "The campaign has no label sets yet.",
        where=folder,
        do=f"make them from its votes: manyhot aggregate {folder}",
    )


def _described(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_each_once)
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(
            "The description of the campaign is broken.", where=path, got=str(error).partition("\n")[0]
        ) from error
    kinds = {f.name: str(f.type) for f in fields(Campaign) if f.name != "folder"}
    if not isinstance(content, dict):
        raise InputError(
            "The description of the campaign is not an object.", where=path, allowed=", ".join(kinds)
        )
    _check_version(content, path)
    _check_keys(content, kinds, path)
    for key, kind in kinds.items():
        if not _FITS[kind](content[key]):
            raise InputError(
                f"The key {key!r} of a campaign has the wrong type.",
                where=path,
                got=json.dumps(content[key]),
                allowed=_ALLOWED[kind],
            )
    return content


_FITS: Mapping[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "int": lambda value: type(value) is int and value >= 1,
    "Mapping[str, str]": lambda value: (
        isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
    ),
}
"""Functions that return whether a value has the type of an attribute of `Campaign`."""

_ALLOWED = {"str": "text", "int": "an integer of at least 1", "Mapping[str, str]": "an object of strings"}


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} occurs twice")
    return content


def _check_version(content: Mapping[str, Any], path: Path) -> None:
    """Raise an error for the description of a later manyhot, before its keys are checked."""
    number = content.get("campaign")
    if isinstance(number, int) and number > CAMPAIGN_VERSION:
        raise InputError(
            "The campaign was made by a later version of manyhot.",
            where=path,
            got=f"campaign {number} of manyhot {content.get('version', '?')}",
            allowed=f"campaign {CAMPAIGN_VERSION} and earlier",
            do="upgrade manyhot",
        )


def _check_keys(content: Mapping[str, Any], keys: Mapping[str, str], path: Path) -> None:
    unknown = sorted(set(content) - set(keys))
    if unknown:
        raise InputError(
            f"A campaign has no key {unknown[0]!r}.",
            where=path,
            allowed=", ".join(keys),
            do=did_you_mean(unknown[0], keys, n=1) or "drop it",
        )
    missing = [key for key in keys if key not in content]
    if missing:
        raise InputError(f"The campaign lacks the key {missing[0]!r}.", where=path, allowed=", ".join(keys))
