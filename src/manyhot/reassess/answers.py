"""Votes in files, campaigns and the catalogue; label sets, raters and agreement out.

Votes tables to arrays, with what the original labels and the experts say beside them.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot import tables
from manyhot.classes import ClassList
from manyhot.core.answers import SILENT, YES, Answers
from manyhot.core.answers import GoldenAnswers as GoldenAnswers
from manyhot.data import catalog
from manyhot.errors import InputError, MatchError
from manyhot.files import sha256
from manyhot.formats import read_classes, read_golden, read_images, read_votes
from manyhot.formats.writing import PathLike, Progress
from manyhot.tables import Golden, Images, Votes, find_questions


@dataclass(frozen=True)
class Published:
    """Votes of the catalogue, and what belongs to them.

    Attributes
    ----------
    votes, golden : str
        Files of the entry.
    beside : tuple of str
        Files of the entry that the reader of `golden` looks for.
    images : tuple of str, length 2
        Entry and file of the original labels.
    original_classes : str
        The classes for which the original label counts as a rater.
    title : str
        Of the labels made of them.
    """

    votes: str
    golden: str
    beside: tuple[str, ...]
    images: tuple[str, str]
    original_classes: str
    title: str


PUBLISHED: Mapping[str, Published] = {
    "imagenet-real": Published(
        "raters.npz",
        "golden.npz",
        ("raters_golden.npz",),
        ("imagenet-val-predictions", "imagenet-validation-original.json"),
        # Only in the scores of animals does the original label count; nobody has said why.
        "0-397",
        "ReaL",
    )
}
"""Entries of the catalogue that hold votes and golden answers."""


@dataclass(frozen=True, eq=False)
class _Source:
    """What was read, and from where."""

    votes: Votes
    golden: Golden | None
    images: Images | None
    files: tuple[Path, ...]
    original_classes: str = ""
    name: str = ""
    classes: ClassList | None = None

    def hashes(self) -> dict[str, str]:
        return {file.name: sha256(file) for file in self.files if file.is_file()}


def read_answers(
    votes: PathLike,
    golden: PathLike | None,
    images: PathLike | None,
    classes: PathLike | None,
    format: str | None,
    progress: Progress | None,
) -> _Source:
    """Return votes, golden answers and original labels, from files, a campaign or the catalogue.

    Raises
    ------
    FormatError, InputError, MatchError
        See `aggregate_files`.
    """
    if str(votes) in PUBLISHED:
        return _published(str(votes), golden, images, progress)
    folder = Path(votes)
    if folder.is_dir():
        _check_campaign(folder)
        golden = golden or _if_there(folder / "golden.parquet")
        images = images or _if_there(folder / "images.parquet")
        classes = classes or _if_there(folder / "classes.parquet")
    known = read_classes(classes) if classes else None
    return _Source(
        read_votes(votes, classes=known, format=format),
        read_golden(golden, classes=known) if golden else None,
        read_images(images, classes=known) if images else None,
        tuple(
            Path(f)
            for f in (folder / "votes.parquet" if folder.is_dir() else votes, golden, images, classes)
            if f
        ),
        name=folder.resolve().name if (folder / tables.DESCRIPTION).is_file() else "",
        classes=known,
    )


def _published(
    name: str, golden: PathLike | None, images: PathLike | None, progress: Progress | None
) -> _Source:
    entry = PUBLISHED[name]
    told = None if progress is None else (lambda done, of: progress(f"fetching {name}", done, of))
    files = catalog.fetch(name, only=[entry.votes, entry.golden, *entry.beside], progress=told)
    golden = golden or files[entry.golden]
    images = images or catalog.fetch_file(*entry.images, progress=told)
    # Rows in the order of file names: the published list of original labels is sorted by class.
    ordered = Images(read_images(images).table.sort_by("image_id"), name)
    return _Source(
        read_votes(files[entry.votes]),
        read_golden(golden),
        ordered,
        (*files.values(), Path(golden), Path(images)),
        entry.original_classes,
        entry.title,
    )


def _check_campaign(folder: Path) -> None:
    """Refuse a campaign without what it was made with, or without votes."""
    if not (folder / tables.DESCRIPTION).is_file():
        return
    campaign = tables.Campaign.read(folder)
    for table in ("classes", "images"):
        if not campaign.path(table).exists():
            raise InputError(
                "The campaign is not complete.",
                where=campaign.path(table),
                got="no such file",
                do="make the campaign anew in another folder, and put this one's votes into it",
            )
    if not campaign.path("votes").exists():
        raise InputError(
            "The campaign holds no votes yet.",
            where=folder,
            got="no votes.parquet in it",
            do=f"see what comes next: manyhot status {shlex.quote(str(folder))}",
        )


def _if_there(path: Path) -> Path | None:
    return path if path.exists() else None


def class_ids(text: str, n_classes: int) -> frozenset[int]:
    """Return the classes of a text such as ``0-397, 500``.

    Raises
    ------
    InputError
        It is none, or there are not so many classes.
    """
    found: set[int] = set()
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if not first <= last < n_classes:
            raise InputError(
                "This is no list of classes.",
                where="original classes",
                got=text,
                allowed=f"class ids and ranges from 0 to {n_classes - 1}, such as 0-397 or 0-9,20",
            )
        found.update(range(first, last + 1))
    return frozenset(found)


def proposer_of(path: Path, source: _Source) -> str:
    """Return the rule of a campaign's proposals; none where raters answered other questions than these."""
    if not path.is_file():
        return ""
    proposals = tables.read(path, "proposals")
    pairs = ["image_id", "class_id"]
    known = [pl.DataFrame(proposals.select(pairs))]
    if source.golden is not None:
        known.append(pl.DataFrame(source.golden.to_table().select(pairs)))
    asked = pl.DataFrame({"image_id": source.votes.image_id, "class_id": source.votes.class_id})
    if len(asked.join(pl.concat(known), on=pairs, how="anti")):
        return ""
    try:
        told = json.loads(tables.metadata(proposals).get("rule", "null"))
    except ValueError:
        return ""
    return str(told.get("rule", "")) if isinstance(told, dict) else ""


def answers_of(
    votes: Votes, images: Images | None = None, original_classes: Collection[int] | None = None
) -> Answers:
    """Return votes as arrays, numbered as in `votes`.

    Parameters
    ----------
    votes : Votes
    images : Images, optional
        Gives original labels.
    original_classes : collection of int, optional
        The classes about which the original label says something; all by default.
    """
    original = None if images is None else _original(votes, images, original_classes)
    return Answers(votes.question, votes.rater, votes.answer, votes.n_questions, votes.n_raters, original)


def golden_of(golden: Golden, votes: Votes, images: Images | None = None) -> GoldenAnswers:
    """Return golden questions as arrays, with the answers of the raters of `votes`.

    Answers of raters who have no votes, and those to other questions, are left out.

    Raises
    ------
    MatchError
        The two are over different class lists.
    """
    experts, raters = golden.experts, golden.raters or votes
    _check_same_classes(votes, experts)
    number = find_questions(raters, experts)
    known = pc.fill_null(pc.index_in(raters.rater_id, votes.rater_id), -1).to_numpy()
    kept = np.flatnonzero((number[raters.question] >= 0) & (known[raters.rater] >= 0))
    answers = Answers(
        number[raters.question[kept]],
        known[raters.rater[kept]],
        raters.answer[kept],
        experts.n_questions,
        votes.n_raters,
        None if images is None else _original(experts, images, None),
    )
    return GoldenAnswers(
        answers,
        np.bincount(experts.question[experts.answer == YES], minlength=experts.n_questions),
        np.bincount(experts.question, minlength=experts.n_questions),
        find_questions(experts, votes),
        experts.image,
    )


def _check_same_classes(votes: Votes, experts: Votes) -> None:
    ours, theirs = votes.class_hash, experts.class_hash
    if ours and theirs and ours != theirs:
        raise MatchError(
            "Votes and golden answers are over different class lists.",
            where=f"{votes.name or 'votes'} and {experts.name or 'golden'}",
            got=f"{experts.n_classes:,} classes, list {theirs}",
            allowed=f"{votes.n_classes:,} classes, list {ours}",
            do="read both with the same class list",
        )


def _original(votes: Votes, images: Images, classes: Collection[int] | None) -> npt.NDArray[np.int8] | None:
    """Return what the original label says about each question; None where none is known."""
    if images.label is None:
        return None
    at = pc.index_in(votes.images, images.image_id)
    label = pc.fill_null(pc.take(images.label, at), SILENT).to_numpy()[votes.image]
    original = np.where(label == SILENT, SILENT, label == votes.class_id).astype(np.int8)
    if classes is not None:
        original[~np.isin(votes.class_id, list(classes))] = SILENT
    return original if (original != SILENT).any() else None
