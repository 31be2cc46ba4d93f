"""Votes that are converted into a campaign."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import parquet as pq

from manyhot.errors import InputError, MatchError, first_names
from manyhot.formats import open_class_list
from manyhot.tables import DESCRIPTION, Campaign, Votes, metadata, one_chunk, votes_from_table
from manyhot.tables import read as read_table
from manyhot.tables.choices import ChoiceColumns
from manyhot.tables.class_list_unions import note_on_case
from manyhot.tables.frames import with_column
from manyhot.tables.image_ids import ids_like, without_option
from manyhot.tables.own_classes import JoinedClasses
from manyhot.tables.votes import COUNTED_CLASS, count_app_answers


def campaign_of_votes(target: Path) -> Campaign | None:
    """Return the campaign whose votes a file contains; None for any other file."""
    is_own = target.name == "votes.parquet" and (target.parent / DESCRIPTION).is_file()
    return Campaign.read(target.parent) if is_own else None


def without_assumed(votes: Votes, classes: Path) -> tuple[Votes, tuple[str, ...]]:
    """Return votes without answers to classes that only the campaign's class list names, and a note on them.

    The form may be older than these classes.
    """
    if not votes.assumed_classes or (listed := open_class_list(classes)) is None:
        return votes, ()
    table = votes.to_table()
    is_asked = ~np.isin(table["class_id"].to_numpy(), votes.assumed_classes)
    asked = votes_from_table(
        table.filter(pa.array(is_asked)), name=votes.name, n_classes=len(listed), class_hash=listed.hash
    )
    names = first_names([listed.keys[c] for c in votes.assumed_classes], 3)
    note = (
        f"classes that no rater chose, which count as not asked about: {names}; if raters could choose them, "
        f"pass the classes that raters could choose as `classes`, such as {classes}"
    )
    return replace(asked, class_list=votes.class_list, left_out=votes.left_out), (note,)


def over_classes_of(campaign: Campaign, votes: Votes) -> tuple[Votes, tuple[str, ...]]:
    """Return votes over the classes of a campaign, matched by name, and a note on names in another case.

    Raises
    ------
    MatchError
        If a class of the votes is not in the campaign, or their class list is unknown.
    """
    listed = open_class_list(campaign.path("classes"))
    if listed is None or votes.class_hash in ("", listed.hash):
        return votes, ()
    own = votes.known_classes
    if own is None:
        raise MatchError(
            "The votes have a different class list from the campaign, whose names are unknown.",
            where=votes.name or None,
            got=f"class list {votes.class_hash}",
            allowed=f"class list {campaign.class_hash}",
            do="pass the class list of the votes as `classes`",
        )
    moved = JoinedClasses(len(listed), listed).of_votes(votes)
    note = note_on_case(own, listed, votes.name or "votes")
    return moved, (note,) if note else ()


_ANSWER = ["image_id", "class_id", "rater_id"]
"""The columns that identify the answer of a rater to a question."""


def check_kept(target: Path, votes: Votes) -> None:
    """Raise an error if answers in a campaign would be lost; a file that cannot be read has none."""
    if n := sum(count_app_answers(target).values()):
        raise InputError(
            "The output would replace answers from the annotation app.",
            where=target,
            got=f"{n:,} answers",
            do="pass `add` to keep them and add the new ones",
        )
    try:
        standing = pl.DataFrame(pq.read_table(target, columns=[*_ANSWER, "answer"]))
    except (pa.ArrowException, OSError):
        return
    new, keys = pl.DataFrame(votes.to_table().select([*_ANSWER, "answer"])), _ANSWER
    if votes.kind:  # which classes are answered no depends on the other raters
        standing, new = (frame.filter(pl.col("answer") == "yes") for frame in (standing, new))
        keys = ["image_id", "rater_id"]
    if len(lost := standing.join(new, on=keys, how="anti")):
        image, _, rater, _ = lost.row(0)
        raise InputError(
            "The output would replace answers that are not among the new ones.",
            where=target,
            got=f"{len(lost):,} of {len(standing):,} answers, such as that of {rater} on {image}",
            do="pass `add` to keep them and add the new ones; to replace them, remove the file first",
        )


def beside_standing(campaign: Campaign, votes: Votes) -> tuple[pa.Table, dict[str, str], tuple[str, ...]]:
    """Return the votes of a campaign followed by new ones, the metadata of their file, and notes.

    Images get the ids of the campaign. Votes that the campaign already has are not added again.

    Raises
    ------
    InputError
        If the campaign has no votes, or votes of another kind.
    MatchError
        If a rater answered a question differently, and it is unknown which answer is later.
    """
    path = campaign.path("votes")
    if not path.is_file():
        raise InputError(
            "There are no votes to which new ones can be added.", where=path, do="leave out `add`"
        )
    standing = read_table(path, "votes")
    about = metadata(standing)
    if about.get("kind", "") != votes.kind or votes.kind == COUNTED_CLASS:
        raise InputError(
            "Votes of these kinds cannot be in one file.",
            where=path,
            got=" and ".join(kind or "yes and no answers" for kind in (about.get("kind", ""), votes.kind)),
            allowed="yes and no answers, or votes of known raters for one class per image",
        )
    images = pq.read_table(campaign.path("images"), columns=["image_id"])["image_id"].combine_chunks()
    standing, new = (_with_ids_like(table, images) for table in (standing, votes.to_table()))
    same = [*_ANSWER, "answer", *({"answered_at"} & {*standing.column_names} & {*new.column_names})]
    rows = pl.DataFrame(new.select(same)).with_row_index("row")
    rows = rows.join(pl.DataFrame(standing.select(same)), on=same, how="anti", nulls_equal=True)
    more = new.take(pa.array(rows["row"].sort().to_numpy()))
    table = pa.concat_tables([standing, more], promote_options="default")
    if votes.kind:
        listed = open_class_list(campaign.path("classes"))
        assert listed is not None
        yes = table.filter(pc.equal(table["answer"], "yes"))
        extra = yes.drop_columns([*_ANSWER, "answer"])
        chosen = yes["class_id"].to_numpy().astype(np.int64)
        columns = ChoiceColumns(yes["image_id"], yes["rater_id"], chosen, listed, path.stem, more=extra)
        table = columns.to_votes().to_table()
    votes_from_table(table, name=str(path), n_classes=campaign.n_classes)  # checks that answers have an order
    note = f"{len(more):,} answers were added to the {len(standing):,} of the campaign"
    if again := len(new) - len(more):
        note += f", which already contained {again:,} others"
    own = {key: about[key] for key in ("name", "protocol") if key in about}
    return table, votes.about() | own, (note,)


def _with_ids_like(table: pa.Table, images: pa.Array) -> pa.Table:
    """Return votes without metadata, with the ids that a campaign uses for their images."""
    encoded = one_chunk(table["image_id"]).dictionary_encode()
    with without_option():
        like = ids_like(encoded.dictionary, images, name="the votes", other_name="the campaign")
    renamed = with_column(table, "image_id", like.ids.take(encoded.indices))
    return renamed.replace_schema_metadata(None)
