"""The commands around the annotation app: annotate, invite, export."""

from __future__ import annotations

import ipaddress
import os
import shlex
import socket
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manyhot.cli.options import call, without_passwords
from manyhot.cli.printing import print_written

if TYPE_CHECKING:
    from manyhot.reassess.annotate import Annotation

_VARIABLE = "MANYHOT_DATABASE"
CampaignArgument = Annotated[Path, typer.Argument(help="Folder of the campaign.", metavar="DIR")]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        envvar=_VARIABLE,  # arguments of a command are seen by all who use the machine
        help="postgresql://HOST/NAME; by default a file in the campaign.",
    ),
]


def annotate(
    campaign: CampaignArgument,
    open_: Annotated[
        bool, typer.Option("--open", help="For you alone: no accounts, one rater, and the browser opens.")
    ] = False,
    raters: Annotated[
        int | None,
        typer.Option("--raters", help="Raters of each question; 5, with --open 1.", min=1, max=1000),
    ] = None,
    per_page: Annotated[
        int | None,
        typer.Option("--per-page", help="Classes of a page at most; for good once it began.", min=1, max=8),
    ] = None,
    qualify: Annotated[
        int | None,
        typer.Option("--qualify", help="Golden pages that each rater answers first.", min=0, max=10_000),
    ] = None,
    examples: Annotated[
        Path | None,
        typer.Option("--examples", help="Table of images with labels, as examples; for good once it began."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="Folder or tar archive where the images lie now, if they were moved."),
    ] = None,
    database: DatabaseOption = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; by default this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port; 0 takes a free one.", min=0, max=65535)] = 8000,
    address: Annotated[
        str | None, typer.Option("--address", help="Where people reach it: https://rate.example.org.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="Another name of this machine that browsers use; repeat for more."),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            "--proxy", help="Address or network of a proxy that says who asks; repeat for more. See hosting."
        ),
    ] = None,
) -> None:
    """Ask people the questions of a campaign, in the browser.

    Options that are given hold for a campaign that runs already, too; all others are on the owner's page.
    """
    from manyhot.reassess.annotate import open_annotation, serve
    from manyhot.reassess.app import CampaignSettings, Reach

    given = {"raters": raters, "per_page": per_page, "qualify": qualify}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    settings = CampaignSettings(**({"raters": 1 if open_ else 5} | changes))
    reach = Reach.of(host, address, [*(allow_host or ()), *_own_names(host)], proxy or ())
    with open_annotation(
        campaign,
        database=database,
        examples=examples,
        images=images,
        settings=settings,
        alone=open_,
        reach=reach,
    ) as annotation:
        changes.pop("per_page", None)
        if changes:
            annotation.store.change_settings(**changes)

        def ready(at: str) -> None:
            _ready(annotation, host, address or at, open_, database)

        try:
            serve(annotation.app, host, port, ready)
        except KeyboardInterrupt:  # the way to end it
            typer.echo()
        _ended(annotation, database)


def invite(
    campaign: CampaignArgument,
    names: Annotated[list[str], typer.Argument(help="Of raters.", metavar="NAME...")],
    refines: Annotated[
        bool, typer.Option("--refines", help="They decide where others disagree, too.")
    ] = False,
    max_pages: Annotated[
        int | None, typer.Option("--max-pages", help="Pages of each at most.", min=1, max=10_000_000)
    ] = None,
    owner: Annotated[
        bool, typer.Option("--owner", help="One-time links by which owners set a new password.")
    ] = False,
    database: DatabaseOption = None,
    address: Annotated[
        str, typer.Option("--address", help="Where raters reach the app.")
    ] = "http://127.0.0.1:8000",
) -> None:
    """Print an invitation link for each rater; an older one of the same name ends."""
    from manyhot.reassess.annotate import open_annotation

    with open_annotation(campaign, database=database) as annotation:
        for name in names:
            token = annotation.store.invite(
                name,
                role="owner" if owner else "rater",
                refines=refines or None,
                max_pages=max_pages,
            )
            typer.echo(f"{name}  {address.rstrip('/')}/join/{token}")


def export(campaign: CampaignArgument, database: DatabaseOption = None) -> None:
    """Write the votes and remarks of the annotation app as tables of the campaign."""
    from manyhot.reassess.annotate import export_votes

    print_written(export_votes(campaign, database=database, call=call()), False)


def database_again(database: str | None) -> str:
    """Return the option for a command to come; nothing where the environment gives it."""
    if database is None or database == os.environ.get(_VARIABLE):
        return ""
    return f" --database {shlex.quote(without_passwords(database))}"


def _ready(annotation: Annotation, host: str, address: str, open_: bool, database: str | None) -> None:
    address, folder = _reached(address).rstrip("/"), shlex.quote(str(annotation.campaign.folder))
    typer.echo(f"Annotating {folder} at {address}. Ctrl-C ends it; answers are kept.")
    for note in annotation.notes:
        typer.echo(f"Note: {note}.")
    if not _is_loopback(host):
        typer.echo(
            f"Note: it listens on {host}, for all who can reach this machine. Without https in front of it, "
            "links and passwords can be read on the way."
        )
    if open_:
        link = f"{address}/join/{annotation.store.invite('me', role='owner', keep_sessions=True)}"
        typer.echo(f"  {link}")
        threading.Timer(0.5, webbrowser.open, [link]).start()
        return
    owners = annotation.store.owners()
    if any(has_password for _, has_password in owners):
        typer.echo(f"  owner's page: {address}/owner")
    else:
        name = owners[0][0] if owners else "owner"
        token = annotation.store.invite(name, role="owner", keep_sessions=True)
        typer.echo(f"  owner's page, a password first: {address}/join/{token}")
    again = f"{folder} NAME --address {address}{database_again(database)}"
    typer.echo(f"  invite raters there, or: manyhot invite {again}")


def _ended(annotation: Annotation, database: str | None) -> None:
    folder = shlex.quote(str(annotation.campaign.folder)) + database_again(database)
    typer.echo("Ended; answers are kept. To go on: the same command. To use them:")
    typer.echo(f"  manyhot export {folder}")
    typer.echo(f"  manyhot status {folder}    # what comes next")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _own_names(host: str) -> list[str]:
    """Return the names by which others find a machine that listens for others."""
    name = socket.gethostname()
    return [] if _is_loopback(host) else [name, f"{name}.local", socket.getfqdn()]


def _reached(address: str) -> str:
    """Return an address that others can use where it listens on all of the machine's."""
    for everywhere in ("//0.0.0.0:", "//[::]:"):
        address = address.replace(everywhere, f"//{socket.gethostname()}:")
    return address
