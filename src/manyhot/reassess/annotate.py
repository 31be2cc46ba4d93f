"""Raters answer the questions of a campaign in the browser: `manyhot annotate`."""

from __future__ import annotations

import ipaddress
import shlex
import socket
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from manyhot.command import command
from manyhot.console import say
from manyhot.formats.writing import PathLike
from manyhot.parameters import Between, Shown, Was
from manyhot.reassess.annotation import Annotation, open_annotation
from manyhot.reassess.app.address import DatabaseAddress, database_option, web_extra
from manyhot.reassess.app.server import serve
from manyhot.reassess.status import CampaignFolder
from manyhot.result import Result
from manyhot.tables import Campaign


@dataclass(frozen=True, eq=False)
class EndedAnnotation(Result):
    """Where the answers are, once the server has ended.

    Attributes
    ----------
    campaign : Campaign
    database : str, optional
        The address of the database; None for the file in the folder.
    """

    campaign: Campaign
    database: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the commands that use the answers."""
        return {"campaign": str(self.campaign.folder), "commands": self._commands()}

    def lines(self) -> Iterator[str]:
        """Yield how to go on."""
        yield "Ended; answers are stored. To continue, run the same command. To use them:"
        export, status = self._commands()
        yield f"  {export}"
        yield f"  {status}    # what comes next"

    def _commands(self) -> list[str]:
        folder = shlex.quote(str(self.campaign.folder)) + database_option(self.database)
        return [f"manyhot export {folder}", f"manyhot status {folder}"]


@command("annotate", examples=("manyhot annotate campaign --open", "manyhot annotate campaign --raters 3"))
def annotate(
    campaign: CampaignFolder,
    *,
    open_: bool = False,
    raters: Annotated[int, Between(1, 1000)] | None = None,
    per_page: Annotated[int, Between(1, 8)] | None = None,
    qualify: Annotated[int, Between(0, 10_000)] | None = None,
    examples: Annotated[PathLike | None, Shown("FILE")] = None,
    image_folder: Annotated[PathLike | None, Shown("FOLDER"), Was("--images")] = None,
    database: DatabaseAddress = None,
    host: str = "127.0.0.1",
    port: Annotated[int, Between(0, 65535)] = 8000,
    address: str = "",
    allow_host: Annotated[Sequence[str], Shown("NAME")] = (),
    proxy: Annotated[Sequence[str], Shown("ADDRESS")] = (),
) -> EndedAnnotation:
    """Ask people the questions of a campaign, in the browser.

    It serves until Ctrl-C. Given options also change a campaign that has begun; all others are on the owner's
    page.

    Parameters
    ----------
    campaign
        Folder of the campaign.
    open_
        For you alone: no accounts, one rater, and the browser opens.
    raters
        Raters of each question; 5 by default, 1 with --open.
    per_page
        Most classes on a page; cannot be changed after the start.
    qualify
        Golden pages that each rater answers first.
    examples
        Images table with labels, whose images are shown as examples; cannot be changed after the start.
    image_folder
        Folder or tar archive of the images, if they were moved.
    database
        Address of the database of answers, such as postgresql://HOST/NAME; by default a file in the campaign.
    host
        Address to listen on; by default only this machine can connect.
    port
        Port; 0 takes a free one.
    address
        Where people reach the app, such as https://rate.example.org.
    allow_host
        Another name of this machine that browsers use.
    proxy
        Address or network of a proxy that names the client. See the guide on hosting.

    Returns
    -------
    EndedAnnotation

    Raises
    ------
    InputError
        The campaign has no proposals, or the port cannot be listened on.
    MissingExtraError
        The extra ``web`` is not installed.
    """
    web_extra()
    from manyhot.reassess.app import CampaignSettings, Reach

    given = {"raters": raters, "per_page": per_page, "qualify": qualify}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    settings = replace(CampaignSettings(raters=1 if open_ else 5), **changes)
    reach = Reach.of(host, address or None, [*allow_host, *_own_names(host)], proxy)
    with open_annotation(
        campaign,
        database=database,
        examples=examples,
        image_folder=image_folder,
        settings=settings,
        alone=open_,
        reach=reach,
    ) as annotation:
        changes.pop("per_page", None)
        if changes:
            annotation.store.change_settings(**changes)

        def ready(at: str) -> None:
            reached = _reached(address or at).rstrip("/")
            for line in _ready_lines(annotation, host, reached, database):
                say(line)
            _invite_owner(annotation, reached, database, opens=open_)

        try:
            serve(annotation.app, host, port, ready)
        except KeyboardInterrupt:  # the way to end it
            say("")
        return EndedAnnotation(annotation.campaign, database)


def _ready_lines(annotation: Annotation, host: str, address: str, database: str | None) -> Iterator[str]:
    folder = shlex.quote(str(annotation.campaign.folder))
    yield f"Annotating {folder} at {address}. Ctrl-C ends it; answers are stored."
    yield from (f"Note: {note}." for note in annotation.notes)
    if not _is_loopback(host):
        yield (
            f"Note: it listens on {host}: everybody who can reach this machine can connect. Without https in "
            "front of it, links and passwords can be read on the way."
        )


def _invite_owner(annotation: Annotation, address: str, database: str | None, *, opens: bool) -> None:
    """Print the owner's link, or open it."""
    folder = shlex.quote(str(annotation.campaign.folder))
    if opens:
        link = f"{address}/join/{annotation.store.invite('me', role='owner', keep_sessions=True)}"
        say(f"  {link}")
        threading.Timer(0.5, webbrowser.open, [link]).start()
        return
    owners = annotation.store.owners()
    if any(has_password for _, has_password in owners):
        say(f"  owner's page: {address}/owner")
    else:
        name = owners[0][0] if owners else "owner"
        token = annotation.store.invite(name, role="owner", keep_sessions=True)
        say(f"  owner's page, a password first: {address}/join/{token}")
    again = f"{folder} NAME --address {address}{database_option(database)}"
    say(f"  invite raters there, or: manyhot invite {again}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _own_names(host: str) -> list[str]:
    """Return the names under which others find a machine that listens for others."""
    name = socket.gethostname()
    return [] if _is_loopback(host) else [name, f"{name}.local", socket.getfqdn()]


def _reached(address: str) -> str:
    """Return an address that others can use, where the app listens on all addresses of the machine."""
    for everywhere in ("//0.0.0.0:", "//[::]:"):
        address = address.replace(everywhere, f"//{socket.gethostname()}:")
    return address
