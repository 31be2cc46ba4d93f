"""Invitation links for raters and owners: `manyhot invite`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from manyhot.command import command
from manyhot.parameters import Between, Shown
from manyhot.reassess.app.server import DatabaseAddress, open_store
from manyhot.reassess.status import CampaignFolder
from manyhot.result import Result
from manyhot.tables import Campaign


@dataclass(frozen=True, eq=False)
class Invitations(Result):
    """Invitation links.

    Attributes
    ----------
    links : Mapping of str to str
        The link of each name.
    already_invited : tuple of str
        Names of raters who keep an earlier link.
    """

    links: Mapping[str, str]
    already_invited: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the link of each new name, and the names that keep their links."""
        return {"links": dict(self.links), "already_invited": list(self.already_invited)}

    def lines(self) -> Iterator[str]:
        """Yield each name with its link."""
        yield from (f"{name}  {link}" for name, link in self.links.items())
        if self.already_invited:
            yield (
                f"Note: no new link for {', '.join(self.already_invited)}: links of earlier invitations stay "
                "valid. To replace them: manyhot invite --renew."
            )


@command("invite", examples=("manyhot invite campaign ann bob --address https://rate.example.org",))
def invite_raters(
    campaign: CampaignFolder,
    names: Annotated[Sequence[str], Shown("NAME...")],
    *,
    refines: bool = False,
    max_pages: Annotated[int, Between(1, 10_000_000)] | None = None,
    owner: bool = False,
    renew: bool = False,
    database: DatabaseAddress = None,
    address: str = "",
) -> Invitations:
    """Print an invitation link for each new rater.

    Raters who were invited before keep their links. These cannot be printed again, because only their hashes
    are stored.

    Parameters
    ----------
    campaign
        Folder of the campaign.
    names
        Names of the raters.
    refines
        Let these raters also resolve disagreements between other raters.
    max_pages
        Maximum number of pages per rater.
    owner
        Print one-time links with which owners set a new password.
    renew
        Replace the links of raters who were invited before; their sessions end.
    database
        Address of the database of answers, such as postgresql://HOST/NAME; by default, a file in the campaign
        folder.
    address
        Address at which raters reach the app; by default, the one at which manyhot annotate last served it.

    Returns
    -------
    Invitations

    Raises
    ------
    InputError
        If annotation has not begun, or a name is already used in the other role (rater or owner).
    """
    role: Literal["rater", "owner"] = "owner" if owner else "rater"
    with open_store(Campaign.read(campaign), database) as store:
        known = set[str]() if owner or renew else store.names_with_links()
        tokens = {
            name: store.invite(name, role=role, refines=refines or None, max_pages=max_pages)
            for name in dict.fromkeys(names)
            if name not in known
        }
        address = address.rstrip("/") or store.address or "http://127.0.0.1:8000"
    links = {name: f"{address}/join/{token}" for name, token in tokens.items()}
    return Invitations(links, tuple(name for name in dict.fromkeys(names) if name in known))
