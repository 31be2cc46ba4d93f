"""Votes that are converted into a campaign."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from manyhot.errors import MatchError, first_names
from manyhot.formats import open_class_list
from manyhot.tables import DESCRIPTION, Campaign, Votes, votes_from_table
from manyhot.tables.class_list_unions import note_on_case
from manyhot.tables.own_classes import JoinedClasses


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
