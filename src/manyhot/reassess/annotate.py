"""Raters answer the questions of a campaign in the browser: `manyhot annotate`."""

from __future__ import annotations

import contextlib
import shlex
import socket
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq

from manyhot.command import command
from manyhot.console import say
from manyhot.files import local_path
from manyhot.formats import read_classes, read_images
from manyhot.formats.writing import PathLike
from manyhot.parameters import Between, Shown, Was
from manyhot.reassess.agreement import agreement
from manyhot.reassess.app.server import (
    DATABASE,
    DatabaseAddress,
    address_of,
    database_option,
    serve,
    web_extra,
)
from manyhot.reassess.begin_annotation import (
    begin_annotation,
    differ,
    example_images,
    follow_proposals,
    unused_golden_notes,
)
from manyhot.reassess.export_votes import write_answers
from manyhot.reassess.init import find_images
from manyhot.reassess.running_audit import AuditInProgress
from manyhot.reassess.shown_images import unshown_notes
from manyhot.reassess.status import CampaignFolder
from manyhot.result import Result
from manyhot.tables import Campaign

if TYPE_CHECKING:
    from fastapi import FastAPI

    from manyhot.reassess.app.access import Reach
    from manyhot.reassess.app.store import CampaignSettings, Store

CACHE = ".pictures"
_RESAMPLES_OF_PAGE = 100
"""For the intervals on the owner's page, which are computed every few minutes, over up to a million votes."""


@dataclass(frozen=True, eq=False)
class Annotation:
    """A campaign whose questions can be answered.

    Attributes
    ----------
    campaign : Campaign
    store : Store
        The database of the campaign.
    app : FastAPI
    notes : tuple of str
        Notes for the owner.
    """

    campaign: Campaign
    store: Store
    app: FastAPI
    notes: tuple[str, ...] = ()


@contextlib.contextmanager
def open_annotation(
    folder: PathLike,
    *,
    database: str | None = None,
    examples: PathLike | None = None,
    image_folder: PathLike | None = None,
    settings: CampaignSettings | None = None,
    alone: bool = False,
    reach: Reach | None = None,
) -> Iterator[Annotation]:
    """Open the database of a campaign, fill it from the tables if it is new, and create the app.

    Parameters
    ----------
    folder : path-like
        A campaign with proposals.
    database : str, optional
        Address of the database; by default, a SQLite file in the folder.
    examples : path-like, optional
        Images table with labels, from which the example images of each class are taken; by default, that of
        the campaign. Used only if the database is new.
    image_folder : path-like, optional
        Folder or tar archive of the images, if they were moved. The database stores the new location.
    settings : CampaignSettings, optional
        Initial settings. Used only if the database is new.
    alone : bool
        Whether the app serves a single user on a laptop: the owner's link then needs no password.
    reach : Reach, optional
        Host names and proxies through which users reach the app; by default any name.

    Raises
    ------
    InputError
        If the campaign has no proposals, or its images table has no paths.
    MissingExtraError
        If the extra ``web`` is not installed.
    """
    web = web_extra()
    campaign = Campaign.read(folder)
    classes = read_classes(campaign.path("classes"))
    store = web.Store(address_of(campaign, database))
    try:
        notes, too_late = list[str](), False
        if not store.is_filled():
            by_id = image_folder is not None
            initial = settings or web.CampaignSettings()
            begin_annotation(web, store, campaign, classes, examples, initial, by_id=by_id)
            notes += _on_earlier_votes(campaign)
        else:
            notes += follow_proposals(web, store, campaign, classes, by_id=image_folder is not None)
            if examples is not None:
                too_late = differ(store, example_images(web, read_images(examples, classes=classes)))
        if image_folder is not None:
            others = store.other_example_places()
            there = find_images(others, Path(image_folder), all_there=False)
            store.move_images(find_images(store.places(), Path(image_folder)) | there)
            if left := len(others) - len(there):
                notes.append(
                    f"{left:,} example images are not in the image folder; their locations are unchanged"
                )
        notes += unused_golden_notes(store, campaign, classes)
        notes += _on_moved(store)
        notes += unshown_notes(pa.table({"uri": pa.array(store.places(_LOOKED_AT), pa.string())}))
        store.fit_slots()  # if the app ended before all pages had as many as raters are wanted
        audit = AuditInProgress.read(campaign, classes)
        yield Annotation(
            campaign,
            store,
            web.create_app(
                store,
                classes,
                campaign.folder / CACHE,
                title=campaign.folder.resolve().name,
                callbacks=web.AppCallbacks(
                    judge=partial(agreement, resamples=_RESAMPLES_OF_PAGE),
                    # Read again: a class may have been added since.
                    export=lambda folder: write_answers(store, Campaign.read(campaign.folder), folder)[0],
                    audit=None if audit is None else audit.intervals,
                    alone=alone,
                ),
                reach=reach,
            ),
            (*notes, *_notes(store, too_late=too_late)),
        )
    finally:
        store.close()


def _on_earlier_votes(campaign: Campaign) -> Iterator[str]:
    """Yield a note if raters answered before annotation began, as in another tool."""
    path = campaign.path("votes")
    if path.is_file():
        n = pq.read_metadata(path).num_rows
        yield (
            f"{path.name} contains {n:,} earlier votes, which `manyhot export` keeps. The app still asks "
            f"all questions, because it does not know these votes"
        )


_LOOKED_AT = 50
"""Images whose files are looked for at the start."""


def _on_moved(store: Store) -> Iterator[str]:
    """Yield a note if files of images do not exist; those at addresses are not looked for."""
    places = [path for place in store.places(_LOOKED_AT) if (path := local_path(place)) is not None]
    # In an archive, the path goes on behind the file.
    gone = [p for p in places if not p.exists() and not any(parent.is_file() for parent in p.parents)]
    if gone:
        yield (
            f"{len(gone):,} of {len(places):,} images that were checked do not exist, such as {gone[0]}. "
            "If images were moved, pass `image_folder`"
        )


def _notes(store: Store, *, too_late: bool) -> Iterator[str]:
    again = f"move {DATABASE} away and start again"
    if too_late:
        yield (
            "the examples that were passed have no effect, because annotation began with different examples. "
            f"To use the new examples, export the votes, {again}"
        )
    asked, with_examples = store.count_examples()
    if with_examples * 2 < asked:
        yield (
            f"{asked - with_examples:,} of {asked:,} classes asked about have fewer than two example images: "
            f"raters see at most one and depend on names and definitions. To show more, {again} with "
            "manyhot annotate --examples TABLE, a table of other images with labels"
        )


@dataclass(frozen=True, eq=False)
class EndedAnnotation(Result):
    """The place where the answers are stored, returned once the server has stopped.

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
        """Yield the next commands."""
        yield "Stopped; all answers are stored. To continue, run the same command again. To use the answers:"
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
    """Let raters answer the questions of a campaign in the browser.

    The server runs until Ctrl-C. Options also change a campaign whose annotation has already begun, unless
    stated otherwise. All other settings are on the owner's page.

    Parameters
    ----------
    campaign
        Folder of the campaign.
    open_
        Run in single-user mode, without accounts and with one rater, and open the browser.
    raters
        Number of raters per question; 5 by default, 1 with `open_`.
    per_page
        Maximum number of classes per page, which cannot be changed once annotation has begun.
    qualify
        Number of golden pages that each rater answers first.
    examples
        Images table with labels, from which the example images are taken. It cannot be changed once
        annotation has begun.
    image_folder
        Folder or tar archive of the images, if they were moved.
    database
        Address of the database of answers, such as postgresql://HOST/NAME; by default, a file in the campaign
        folder.
    host
        Address to listen on; by default only this machine can connect.
    port
        Port to listen on; 0 chooses a free port.
    address
        Address at which users reach the app, such as https://rate.example.org.
    allow_host
        Additional host name under which browsers reach this machine.
    proxy
        Address or network of a trusted proxy, whose headers contain the client's address. See the guide on
        hosting.

    Returns
    -------
    EndedAnnotation

    Raises
    ------
    InputError
        If the campaign has no proposals, or the server cannot listen on the port.
    MissingExtraError
        If the extra ``web`` is not installed.
    """
    web_extra()
    from manyhot.reassess.app import CampaignSettings, Reach
    from manyhot.reassess.app.access import is_loopback

    given = {"raters": raters, "per_page": per_page, "qualify": qualify}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    settings = replace(CampaignSettings(raters=1 if open_ else 5), **changes)
    name = socket.gethostname()
    own_names = () if is_loopback(host) else (name, f"{name}.local", socket.getfqdn())
    reach = Reach.of(host, address or None, [*allow_host, *own_names], proxy)
    with open_annotation(
        campaign,
        database=database,
        examples=examples,
        image_folder=image_folder,
        settings=settings,
        alone=open_,
        reach=reach,
    ) as annotation:
        notes = [*annotation.notes, *_too_late(annotation.store, changes.pop("per_page", None))]
        if changes:
            annotation.store.change_settings(**changes)
        notes += annotation.store.qualification_notes()
        annotation.app.state.context.prepare()

        def ready(at: str) -> None:
            reached = annotation.store.address = _reached(address or at).rstrip("/")
            for line in _ready_lines(annotation.campaign, notes, "" if is_loopback(host) else host, reached):
                say(line)
            _invite_owner(annotation, reached, database, opens=open_)

        try:
            serve(annotation.app, host, port, ready)
        except KeyboardInterrupt:  # the way to end it
            say("")
        return EndedAnnotation(annotation.campaign, database)


def _too_late(store: Store, per_page: int | None) -> Iterator[str]:
    """Yield a note if the number of classes per page cannot be changed any more."""
    fixed = store.settings().per_page
    if per_page not in (None, fixed):
        yield (
            f"the number of classes per page is still {fixed}, because it was set when annotation began. To "
            f"change it, export the votes, move {DATABASE} away and start again"
        )


def _ready_lines(campaign: Campaign, notes: Sequence[str], host: str, address: str) -> Iterator[str]:
    """Yield the address, the notes, and a warning if the server listens on a `host` that others can reach."""
    folder = shlex.quote(str(campaign.folder))
    yield f"Annotating {folder} at {address}. Press Ctrl-C to stop; answers are stored."
    yield from (f"Note: {note}." for note in notes)
    if host:
        yield (
            f"Note: the server listens on {host}, so everyone who can reach this machine can connect. "
            "Without HTTPS, other people on the network can read links and passwords."
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
        say(f"  owner's page (asks for a password first): {address}/join/{token}")
    again = f"{folder} NAME --address {address}{database_option(database)}"
    say(f"  invite raters there, or: manyhot invite {again}")


def _reached(address: str) -> str:
    """Return an address that others can use, where the app listens on all addresses of the machine."""
    for everywhere in ("//0.0.0.0:", "//[::]:"):
        address = address.replace(everywhere, f"//{socket.gethostname()}:")
    return address
