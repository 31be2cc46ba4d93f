"""Questions that the annotation app asks one more rater each: `manyhot next --ask`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot.errors import InputError
from manyhot.reassess.answers import PUBLISHED_VOTES, VotesLike
from manyhot.reassess.app.server import DATABASE, open_store
from manyhot.tables import Campaign, Votes
from manyhot.tables.campaign_folder import is_campaign

if TYPE_CHECKING:
    from manyhot.reassess.app.store import FurtherAnswers


def annotated_campaign(votes: VotesLike, database: str | None) -> Campaign | None:
    """Return the campaign of votes if it has an app; None for other votes."""
    folder = _folder(votes)
    if folder is None or not (database or (folder / DATABASE).is_file()):
        return None
    return Campaign.read(folder)


def _folder(votes: VotesLike) -> Path | None:
    """Return the folder of a campaign; None for votes from elsewhere."""
    if not isinstance(votes, str | os.PathLike) or votes in PUBLISHED_VOTES:
        return None
    return Path(votes) if is_campaign(Path(votes)) else None


def check_can_ask(votes: VotesLike, rater: str, database: str | None) -> None:
    """Check that questions can be asked in an app, before they are ranked.

    Raises
    ------
    InputError
        If the questions are for one rater, the votes are not those of a campaign, or the campaign's
        annotation has not begun.
    """
    if rater:
        raise InputError(
            "Questions cannot be reserved for one rater.",
            got=f"`ask` together with `rater` {rater!r}",
            allowed="one of the two",
        )
    folder = _folder(votes)
    if folder is None:
        raise InputError(
            "Only the app of a campaign can ask raters.",
            where=votes if isinstance(votes, str | os.PathLike) else None,
            got="votes that are not the folder of a campaign",
            do="pass the folder of a campaign, or leave out `ask`",
        )
    with open_store(Campaign.read(folder), database):
        pass


def ask_in_app(
    home: Campaign, database: str | None, votes: Votes, chosen: npt.NDArray[np.intp]
) -> tuple[int, tuple[str, ...]]:
    """Ask for one more answer to each of the chosen questions; return how many were added, and notes.

    Only answers of raters of the app count as known, because its database does not contain those of other
    tools.
    """
    with open_store(home, database) as store:
        names = pa.array([rater.name for rater in store.raters()], pa.string())
        of_app = pc.is_in(votes.rater_id, names).to_numpy(zero_copy_only=False)
        n = np.bincount(votes.question[of_app[votes.rater]], minlength=votes.n_questions)[chosen]
        further = store.ask_further(
            pa.table(
                {
                    "image_id": votes.image_id.take(pa.array(chosen)),
                    "class_id": votes.class_id[chosen],
                    "n_votes": n,
                }
            )
        )
    return further.added, tuple(_notes(further, shlex.quote(str(home.folder))))


def _notes(further: FurtherAnswers, folder: str) -> Iterator[str]:
    """Yield why questions were not added, and why raters may not get them."""
    for n, why in (
        (further.waiting, "are already waiting for an answer"),
        (further.newer, f"have newer answers in the app (first run manyhot export {folder})"),
        (further.golden, "are golden questions in the app"),
        (further.unknown, "are not in the app, which adds new proposals when it starts"),
    ):
        if n:
            yield f"questions that were not added because they {why}: {n:,}"
    if further.alone:
        yield (
            f"added questions that all raters have already answered: {further.alone:,}; to get answers, "
            f"invite other raters: manyhot invite {folder} NAME"
        )
    if further.added and further.state != "running":
        yield f"the campaign is {further.state}: raters get the questions when it is resumed"
