"""Read votes, golden answers and original labels from any kind of input."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import pyarrow as pa
from pyarrow import compute as pc

from manyhot import tables
from manyhot.classes import ClassList
from manyhot.core.answers import YES, Answers, GoldenAnswers
from manyhot.data import catalog
from manyhot.data.data_frames import table_with_ids
from manyhot.data.table_inputs import through_file
from manyhot.errors import InputError, MatchError, UsageError, first_names
from manyhot.files import sha256
from manyhot.formats import (
    ClassNamesLike,
    detect,
    open_class_list,
    read_golden,
    read_images,
    read_labels,
    read_votes,
)
from manyhot.formats.reading import declared
from manyhot.formats.table_files import column_names
from manyhot.formats.vote_files import other_columns, own_names
from manyhot.parameters import Flattened, Shown
from manyhot.reassess.answered_classes import check_number, class_count, numbered_classes, with_class_ids
from manyhot.reassess.arrow_tables import as_arrow
from manyhot.run import Progress as OnProgress
from manyhot.tables import Golden, Images, Labels, Votes, find_questions, golden_from_table, votes_from_table
from manyhot.tables.campaign_folder import campaign_file
from manyhot.tables.choices import golden_choices, note_on_numbers, with_questions
from manyhot.tables.image_ids import without_option
from manyhot.tables.label_values import are_capped
from manyhot.tables.labels import with_ids_like
from manyhot.tables.own_classes import note_on_spellings, selected_labels, shares_classes
from manyhot.tables.schemas import metadata_json
from manyhot.tables.unshared_classes import note_on_alike, note_on_raters_alike
from manyhot.tables.vote_labels import golden_of_labels, original_answers
from manyhot.tables.votes import COUNTED_CLASS, votes_with_ids_like

VotesLike = Annotated[Any, Shown("VOTES")]
"""Votes as a table or a frame, or their location: a file, a campaign, or ``imagenet-real``."""

TableLike = Annotated[Any, Shown("FILE")]
"""A table or a frame, or the file that holds it."""

ClassesLike = Annotated[ClassNamesLike | int | None, Shown("FILE")]
"""A class list, its file or name, or the number of classes."""


@dataclass(frozen=True, repr=False)
class VotesReading(Flattened):
    """How votes are read.

    Attributes
    ----------
    classes
        Class list: a file with one key per line, a table with the columns key and name, or imagenet1k,
        imagenet-a or imagenet-r. By default, that of the campaign.
    format
        Format of the votes: a name, or a call string such as "crowd-kit(separator='|')". By default, the
        format is detected.
    """

    classes: ClassesLike = None
    format: str | None = None


VOTES_READING = VotesReading()


@dataclass(frozen=True)
class PublishedVotes:
    """Published votes of the catalogue, and the files that belong to them.

    Attributes
    ----------
    votes, golden : str
        Files of the entry.
    beside : tuple of str
        Further files of the entry, which are needed to read `golden`.
    images : tuple of str, length 2
        Catalogue entry that contains the original labels, and their file.
    original_classes : str
        The classes for which the original label counts as a rater.
    title : str
        Name of the labels that are made from the votes.
    """

    votes: str
    golden: str
    beside: tuple[str, ...]
    images: tuple[str, str]
    original_classes: str
    title: str


PUBLISHED_VOTES: Mapping[str, PublishedVotes] = {
    "imagenet-real": PublishedVotes(
        "raters.npz",
        "golden.npz",
        ("raters_golden.npz",),
        ("imagenet-val-predictions", "imagenet-validation-original.json"),
        # The original label counts only in the scores of animals; the reason was not published.
        "0-397",
        "ReaL",
    )
}
"""Entries of the catalogue that hold votes and golden answers."""


@dataclass(frozen=True, eq=False)
class VotesSource:
    """Votes, and the other inputs read with them.

    Attributes
    ----------
    votes : Votes
    golden : Golden, optional
    images : Images, optional
        Original labels.
    classes : ClassList, optional
    inputs : dict of str to str
        The SHA-256 hash of each file that was read, by file name.
    folder : Path, optional
        The campaign, or another folder that holds the tables.
    name : str
        The name of the labels.
    original_classes : str
        The classes for which the original label counts as a rater; all classes if empty.
    notes : tuple of str
        Notes on how images were matched with votes, if the ids differ.
    of_sources : bool
        Whether the votes are the label sets of sources.
    """

    votes: Votes
    golden: Golden | None
    images: Images | None
    classes: ClassList | None = None
    inputs: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    name: str = ""
    original_classes: str = ""
    notes: tuple[str, ...] = ()
    of_sources: bool = False

    def proposals(self) -> Path | None:
        """Return the proposals of the campaign, if there are any."""
        path = None if self.folder is None else self.folder / "proposals.parquet"
        return path if path is not None and path.is_file() else None

    def proposer(self) -> str:
        """Return the rule of the campaign's proposals; empty if raters also answered other questions."""
        path = self.proposals()
        if path is None:
            return ""
        proposals, pairs = tables.read(path, "proposals"), ["image_id", "class_id"]
        proposed = [pl.DataFrame(proposals.select(pairs))]
        if self.golden is not None:
            proposed.append(pl.DataFrame(self.golden.to_table().select(pairs)))
        asked = pl.DataFrame({"image_id": self.votes.image_id, "class_id": self.votes.class_id})
        if len(asked.join(pl.concat(proposed), on=pairs, how="anti")):
            return ""
        rule = metadata_json(tables.metadata(proposals), "rule")
        return str(rule.get("rule", "")) if isinstance(rule, dict) else ""


def open_votes(
    votes: VotesLike,
    golden: TableLike = None,
    images: TableLike = None,
    *,
    reading: VotesReading = VOTES_READING,
    on_progress: OnProgress | None = None,
) -> VotesSource:
    """Return votes, golden answers and original labels.

    Parameters
    ----------
    votes
        A pyarrow, Polars or pandas table, a file in any format, a campaign or another folder that contains
        ``votes.parquet``, or a name in `PUBLISHED_VOTES`. For a folder with the name of a published set,
        write ``./imagenet-real``.
    golden, images
        Experts' answers and all images with their original labels; by default those of the campaign.
    reading
        How the votes are read.
    on_progress
        Receives the progress of downloads.

    Raises
    ------
    FormatError, InputError, MatchError
        If an input cannot be read, or a campaign has no votes yet.
    """
    classes = reading.classes
    check_number(classes)
    if isinstance(votes, str) and votes in PUBLISHED_VOTES:
        _check_no_format(reading.format, f"the published votes {votes}")
        return _published(votes, golden, images, on_progress)
    folder = Path(votes) if isinstance(votes, str | os.PathLike) and Path(votes).is_dir() else None
    if folder is not None:
        _check_campaign(folder)
        golden = _beside(folder, "golden") if golden is None else golden
        images = _beside(folder, "images") if images is None else images
        classes = _beside(folder, "classes") if classes is None else classes
    paths = (folder / "votes.parquet" if folder else votes, golden, images, classes)
    files = [Path(p) for p in paths if isinstance(p, str | os.PathLike)]
    listed = classes if isinstance(classes, int | np.integer) else open_class_list(classes)
    read, notes = _votes(votes, listed, reading.format), tuple[str, ...]()
    notes += _kind_notes(read)
    on_numbers = note_on_numbers(read) if listed is None else ""
    on_names = note_on_alike(read.image_id), note_on_raters_alike(read.rater_id)
    notes += (*filter(None, (on_numbers, note_on_spellings(read.class_list), *on_names)),)
    listed = read.class_list if listed is None else listed
    is_foreign = folder is None and isinstance(votes, str | os.PathLike) and not declared(Path(votes))
    if is_foreign and listed is None and not read.class_hash:
        text = "the names of the classes are unknown, and their number is assumed to be"
        notes += (f"{text} {read.n_classes:,}: pass their list as `classes`",)
    shown = None if images is None else images_like(images, listed)
    ids, name = read.images, read.name or "the votes"
    if shown is not None:
        ids, name = shown.image_id, shown.name or "the images"
        with without_option():
            read, like = votes_with_ids_like(read, ids, other_name=name)
        notes += (f"{read.name or 'votes'}: {like.text}",) if like.n else ()
    answered, more = _golden(golden, listed, read.images, ids, name)
    return VotesSource(
        read,
        answered,
        shown,
        listed if isinstance(listed, ClassList) else None,
        {file.name: sha256(file) for file in files if file.is_file()},
        folder,
        folder.resolve().name if folder and (folder / tables.DESCRIPTION).is_file() else "",
        notes=notes + more,
    )


def _golden(
    golden: TableLike, classes: ClassList | int | None, asked: pa.Array, ids: pa.Array, name: str
) -> tuple[Golden | None, tuple[str, ...]]:
    """Return golden answers with the ids of a table called `name`, and notes.

    Golden label sets are those of images that raters were asked about, `asked`.
    """
    if golden is None:
        return None, ()
    if (sets := _golden_labels(golden, classes)) is not None:
        with without_option():
            sets, like = with_ids_like(sets, ids, other_name=name)
        answers = golden_of_labels(replace(sets, table=sets.table.filter(pc.is_in(sets.image_id, asked))))
    else:
        answers = golden_like(golden, classes)
        raters = answers.raters
        with without_option():
            experts, like = votes_with_ids_like(answers.experts, ids, other_name=name)
            if raters is not None:
                raters, _ = votes_with_ids_like(raters, ids, other_name=name)
        answers = Golden(experts, raters)
    notes = (f"{answers.experts.name or 'golden'}: {like.text}",) if like.n else ()
    own = () if sets is None else (f"{sets.name or 'golden'}: {note}" for note in sets.notes)
    return answers, (*notes, *own, *(() if sets is None or sets.asked_known else (_UNLISTED_NOTE,)))


def _published(name: str, golden: TableLike, images: TableLike, report: OnProgress | None) -> VotesSource:
    entry = PUBLISHED_VOTES[name]
    progress = None if report is None else (lambda done, of: report(f"fetching {name}", done, of))
    files = catalog.fetch(name, only=[entry.votes, entry.golden, *entry.beside], progress=progress)
    golden = files[entry.golden] if golden is None else golden
    images = catalog.fetch_file(*entry.images, progress=progress) if images is None else images
    # Rows in the order of file names: the published list of original labels is sorted by class.
    ordered = Images(images_like(images, None).table.sort_by("image_id"), name)
    used = [*files.values(), *(Path(p) for p in (golden, images) if isinstance(p, str | os.PathLike))]
    return VotesSource(
        read_votes(files[entry.votes]),
        golden_like(golden, None),
        ordered,
        inputs={file.name: sha256(file) for file in used},
        name=entry.title,
        original_classes=entry.original_classes,
    )


def _check_campaign(folder: Path) -> None:
    """Raise an error if a campaign has lost its description, or has no votes."""
    if not (folder / tables.DESCRIPTION).is_file():
        return
    campaign = tables.Campaign.read(folder)
    for table in ("classes", "images"):
        if not campaign.path(table).exists():
            raise InputError(
                "The campaign is incomplete.",
                where=campaign.path(table),
                got="no such file",
                do="create the campaign again in another folder, and copy the votes of this campaign into it",
            )
    if not campaign.path("votes").exists():
        raise InputError(
            "The campaign has no votes yet.",
            where=folder,
            got="no votes.parquet in it",
            do=f"see the next step: manyhot status {shlex.quote(str(folder))}",
        )


def _beside(folder: Path, table: str) -> Path | None:
    path = campaign_file(folder, table)
    return path if path.exists() else None


# Tables of any library.


def _votes(votes: VotesLike, classes: ClassList | int | None, format: str | None) -> Votes:
    if isinstance(votes, Votes):
        _check_no_format(format, "votes that are already read")
        return votes
    if isinstance(votes, str | os.PathLike):
        return read_votes(votes, classes=numbered_classes(votes, "votes", classes), format=format)
    table = as_arrow(votes, "votes")
    names = table.column_names
    is_foreign = {*own_names(names)} != {*names} or other_columns(names)
    if format is None and {"image_id", "answer"} <= {*names} and not is_foreign:
        table = with_class_ids(table, "votes", classes)
        n, key = class_count(table, classes)
        return votes_from_table(table, name="votes", n_classes=n, class_hash=key)

    def read(path: Path) -> Votes:
        return read_votes(path, classes=numbered_classes(path, "votes", classes), format=format)

    return through_file(table, "votes", read)


def _check_no_format(format: str | None, what: str) -> None:
    if format is not None:
        raise UsageError(
            "`format` applies only to votes in a file or a frame.",
            got=f"format={format!r}, and {what}",
            do="leave out `format`",
        )


def _kind_notes(votes: Votes) -> tuple[str, ...]:
    """Return what kind of votes were read, if raters chose one class of all, and what was left out."""
    notes = tuple(f"left out of the votes: {what}" for what in votes.left_out)
    if not votes.kind:
        return notes
    who = "; it is unknown who gave a vote" if votes.kind == COUNTED_CLASS else ""
    notes = (f"these are choices: each vote is one of {votes.n_classes:,} classes{who}", *notes)
    return (*notes, *_note_on_capped(votes)) if who else notes


def _note_on_capped(votes: Votes) -> Iterator[str]:
    """Yield a note on counts that may be those of raters who answered yes or no to each class."""
    yes = np.bincount(votes.question[votes.answer == YES], minlength=votes.n_questions)
    total, highest = np.bincount(votes.image, yes), np.zeros(len(votes.images), np.int64)
    np.maximum.at(highest, votes.image, yes)
    if are_capped(highest, total):
        k = highest.max()
        yield (
            f"no class has more than {k:,} votes, which {np.count_nonzero(highest == k):,} of {len(total):,} "
            "images reach with different numbers of votes: if raters answered yes or no to each class, pass "
            f"the counts as labels with `label_values`=yes-of-{k}"
        )


_UNLISTED_NOTE = (
    "the golden answers are label sets that do not record which classes were asked about, so each class that "
    "they do not list counts as no"
)


def _golden_labels(golden: TableLike, classes: ClassList | int | None) -> Labels | None:
    """Return label sets that are passed as golden answers; None if these are anything else.

    A frame is read as a file is, unless it has the columns of a golden table.
    """
    if isinstance(golden, Labels):
        listed = classes if isinstance(classes, ClassList) and shares_classes(golden, classes) else None
        return selected_labels(golden, listed)
    if not isinstance(golden, str | os.PathLike):
        table = _foreign_golden(golden)
        return table and through_file(table, "golden", lambda path: _golden_labels(path, classes))
    if not Path(golden).exists() or detect(golden, ("golden",)) is not None:
        return None
    are_labels = detect(golden, ("labels",)) is not None
    if not are_labels and not _is_label_per_image(Path(golden)):
        return None
    listed = numbered_classes(golden, "golden", classes)
    return read_labels(golden, classes=listed, format=None if are_labels else "label-lists")


def _is_label_per_image(path: Path) -> bool:
    """Return whether a table has the columns image_id and label, which elsewhere is the original label."""
    is_table = (other := detect(path)) and other.name == "images-table" and path.suffix.lower() != ".txt"
    return bool(is_table and not declared(path) and "label" in column_names(path))


def _foreign_golden(golden: TableLike) -> pa.Table | None:
    """Return a frame that lacks the columns of a golden table, to be read as a file; None for others."""
    table = None if isinstance(golden, Golden) else table_with_ids(golden)
    return None if table is None or {"class_id", "answer"} <= {*table.column_names} else table


def golden_like(golden: TableLike, classes: ClassList | int | None) -> Golden:
    """Return golden answers, read from a file or converted from a table of another library."""
    if isinstance(golden, Golden):
        return golden
    if (sets := _golden_labels(golden, classes)) is not None:
        return golden_of_labels(sets)
    if isinstance(golden, str | os.PathLike):
        return read_golden(golden, classes=numbered_classes(golden, "golden", classes))
    if (foreign := _foreign_golden(golden)) is not None:
        return through_file(foreign, "golden", lambda path: golden_like(path, classes))
    table = with_class_ids(as_arrow(golden, "golden"), "golden", classes)
    n, key = class_count(table, classes)
    return golden_from_table(table, name="golden", n_classes=n, class_hash=key)


def images_like(images: TableLike, classes: ClassList | int | None) -> Images:
    """Return an images table, read from a file or converted from a table of another library."""
    if isinstance(images, Images):
        return images
    if isinstance(images, str | os.PathLike):
        return read_images(images, classes=classes if isinstance(classes, ClassList) else None)
    return Images(as_arrow(images, "images"), "images")


# Votes as arrays.


def golden_of(golden: Golden, votes: Votes, images: Images | None = None) -> GoldenAnswers:
    """Return golden questions as arrays, with the answers of the raters of `votes`.

    Answers of raters who have no votes, and answers to other questions, are left out.

    Raises
    ------
    MatchError
        If votes and golden answers have different class lists.
    """
    experts, raters = golden.experts, golden.raters or votes
    _check_same_classes(votes, experts)
    if raters.kind:  # raters were asked about all classes, also about those that nobody chose
        at = pc.fill_null(pc.index_in(experts.image_id, raters.images), -1).to_numpy()
        raters = with_questions(raters, at[at >= 0], experts.class_id[at >= 0])
    number = find_questions(raters, experts)
    place = pc.fill_null(pc.index_in(raters.rater_id, votes.rater_id), -1).to_numpy()
    kept = np.flatnonzero((number[raters.question] >= 0) & (place[raters.rater] >= 0))
    answers = Answers(
        number[raters.question[kept]],
        place[raters.rater[kept]],
        raters.answer[kept],
        experts.n_questions,
        votes.n_raters,
        None if images is None else original_answers(experts, images),
    )
    found = GoldenAnswers(
        answers,
        np.bincount(experts.question[experts.answer == YES], minlength=experts.n_questions),
        np.bincount(experts.question, minlength=experts.n_questions),
        find_questions(experts, votes),
        experts.image,
    )
    if not raters.kind:
        return found
    who, *classes = golden_choices(raters, experts, found.truth())
    of_votes = place[who] >= 0
    return replace(found, choices=np.stack([place[who], *classes])[:, of_votes])


def _check_same_classes(votes: Votes, experts: Votes) -> None:
    ours, theirs = votes.class_hash, experts.class_hash
    if ours and theirs and ours != theirs:
        own, more = votes.class_list, experts.class_list
        added = [] if own is None or more is None else [key for key in more.keys if own.find(key) is None]
        raise MatchError(
            "Votes and golden answers have different class lists.",
            where=f"{votes.name or 'votes'} and {experts.name or 'golden'}",
            got=f"{experts.n_classes:,} classes, list {theirs}"
            + f", with {first_names(added)}" * bool(added),
            allowed=f"{votes.n_classes:,} classes, list {ours}",
            do="read both with the same class list",
        )
