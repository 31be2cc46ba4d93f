"""Invitation links for raters and owners: `manyhot invite`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from manyhot.command import command
from manyhot.parameters import Between, Shown
from manyhot.reassess.annotate import open_annotation
from manyhot.reassess.app.server import DatabaseAddress
from manyhot.reassess.status import CampaignFolder
from manyhot.result import Result


@dataclass(frozen=True, eq=False)
class Invitations(Result):
    """Invitation links.

    Attributes
    ----------
    links : Mapping of str to str
        The link of each name.
    """

    links: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the link of each name."""
        return {"links": dict(self.links)}

    def lines(self) -> Iterator[str]:
        """Yield each name with its link."""
        yield from (f"{name}  {link}" for name, link in self.links.items())


@command("invite", examples=("manyhot invite campaign ann bob --address https://rate.example.org",))
def invite_raters(
    campaign: CampaignFolder,
    names: Annotated[Sequence[str], Shown("NAME...")],
    *,
    refines: bool = False,
    max_pages: Annotated[int, Between(1, 10_000_000)] | None = None,
    owner: bool = False,
    database: DatabaseAddress = None,
    address: str = "http://127.0.0.1:8000",
) -> Invitations:
    """Print an invitation link for each rater, which replaces any earlier link of that rater.

    Parameters
    ----------
    campaign
        Folder of the campaign.
    names
        Names of the raters.
    refines
        Let these raters also decide where other raters disagree.
    max_pages
        Maximum number of pages per rater.
    owner
        Print one-time links with which owners set a new password.
    database
        Address of the database of answers, such as postgresql://HOST/NAME; by default, a file in the campaign
        folder.
    address
        Address at which raters reach the app.

    Returns
    -------
    Invitations

    Raises
    ------
    InputError
        If the campaign has no proposals, or the name belongs to an owner.
    """
    role: Literal["rater", "owner"] = "owner" if owner else "rater"
    with open_annotation(campaign, database=database) as annotation:
        tokens = {
            name: annotation.store.invite(name, role=role, refines=refines or None, max_pages=max_pages)
            for name in names
        }
    return Invitations({name: f"{address.rstrip('/')}/join/{token}" for name, token in tokens.items()})
