"""Votes in files, campaigns and the catalogue; label sets, raters and agreement out."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

from manyhot import catalog, tables
from manyhot.classes import ClassList
from manyhot.errors import InputError
from manyhot.files import sha256
from manyhot.formats import read_classes, read_golden, read_images, read_votes
from manyhot.formats.tabular import write_csv
from manyhot.pipeline.common import PathLike, Progress, check_apart, check_place, in_campaign
from manyhot.steps.aggregate import METHOD, Aggregated, aggregate
from manyhot.steps.agreement import Agreement, agreement
from manyhot.tables import Golden, Images, Votes


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


def aggregate_files(
    votes: PathLike,
    out: PathLike | None = None,
    *,
    golden: PathLike | None = None,
    images: PathLike | None = None,
    classes: PathLike | None = None,
    format: str | None = None,
    method: str = METHOD,
    threshold: float | None = None,
    unclear_from: float | None = None,
    precision: float | None = None,
    recall: float | None = None,
    original_classes: str | None = None,
    refined: str = "decides",
    resamples: int = 1000,
    seed: int = 0,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[Aggregated, list[Path]]:
    """Make label sets of votes and write them, with what was found out about raters.

    Parameters
    ----------
    votes : path-like
        Votes in any format, a campaign folder, or a name of `PUBLISHED`; a folder called like one is meant by
        ``./imagenet-real``.
    out : path-like, optional
        The labels, a Parquet file; by default ``labels.parquet``, of a campaign in its folder. Beside it
        ``…-raters.parquet`` and ``.csv`` are written, and with golden answers ``…-curve.csv``.
    golden, images : path-like, optional
        Experts' answers, and all images with their original labels; by default those of the campaign.
    classes : path-like, optional
        The class list, by default that of the campaign; see `manyhot.formats.read_classes`.
    format : str, optional
        Of the votes: a registered format or call string.
    original_classes : str, optional
        Class ids and ranges, such as ``0-397,500``: those for which the original label counts as a rater.
    method, threshold, unclear_from, precision, recall, refined, resamples, seed
        As in `manyhot.steps.aggregate.aggregate`.

    Raises
    ------
    ManyhotError
        For each kind of bad input; nothing is written then.
    OutputError
        If a file cannot be written.
    """
    out = in_campaign(votes, "labels.parquet") if out is None else Path(out)
    if out.suffix.lower() != ".parquet":
        raise InputError("Cannot write this kind of file.", where=out, allowed=".parquet")
    source = read_answers(votes, golden, images, classes, format, progress)
    for path in (out, *_beside(out).values()):
        check_apart(source.files, path)
    check_place(out, "labels")
    named = source.original_classes if original_classes is None else original_classes
    done = aggregate(
        source.votes,
        source.golden,
        source.images,
        method=method,
        threshold=threshold,
        unclear_from=unclear_from,
        precision=precision,
        recall=recall,
        original_classes=class_ids(named, source.votes.n_classes) if named else None,
        refined=refined,
        resamples=resamples,
        seed=seed,
        name=source.name,
    )
    inputs, proposer = source.hashes(), _proposer(Path(votes) / "proposals.parquet", source)
    return done, _write(done, out, inputs, call, {"proposer": proposer} if proposer else {})


def agreement_files(
    votes: PathLike,
    out: PathLike | None = None,
    *,
    golden: PathLike | None = None,
    classes: PathLike | None = None,
    format: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[Agreement, list[Path]]:
    """Measure how far raters agree, and write it.

    Parameters
    ----------
    votes, golden, classes, format
        As in `aggregate_files`.
    out : path-like, optional
        Folder for the tables ``agreement``, ``raters``, ``rater_pairs`` and ``confusion``.
    resamples, seed
        As in `manyhot.steps.agreement.agreement`.

    Raises
    ------
    ManyhotError
        As in `aggregate_files`.
    """
    source = read_answers(votes, golden, None, classes, format, progress)
    found = agreement(source.votes, source.golden, resamples=resamples, seed=seed)
    if out is None:
        return found, []
    check_apart(source.files, out, found.tables)
    written = []
    for name, table in found.tables.items():
        path = Path(out) / f"{name}.parquet"
        written.append(tables.write(table, path, name, call=call, inputs=source.hashes()))
        written.append(write_csv(table, path.with_suffix(".csv")))
    return found, written


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


def _proposer(path: Path, source: _Source) -> str:
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


def _write(
    done: Aggregated, out: Path, inputs: Mapping[str, str], call: str, more: Mapping[str, str]
) -> list[Path]:
    about = {**done.labels.about(), **done.about(), **more}
    written = [tables.write(done.labels.table, out, "labels", call=call, inputs=inputs, about=about)]
    beside = _beside(out)
    written.append(tables.write(done.raters, beside["raters"], "raters", call=call, inputs=inputs))
    written.append(write_csv(done.raters, beside["raters.csv"]))
    if len(done.curve):
        written.append(write_csv(pa.table(done.curve), beside["curve"]))
    else:
        beside["curve"].unlink(missing_ok=True)  # of an earlier run, with other labels
    return written


def _beside(out: Path) -> dict[str, Path]:
    """Return the files that are written beside the labels."""
    return {
        "raters": out.with_name(f"{out.stem}-raters.parquet"),
        "raters.csv": out.with_name(f"{out.stem}-raters.csv"),
        "curve": out.with_name(f"{out.stem}-curve.csv"),
    }
