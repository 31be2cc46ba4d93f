"""The commands around the annotation app: annotate, invite, export."""

from __future__ import annotations

import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manyhot.cli.options import call
from manyhot.cli.printing import print_written

if TYPE_CHECKING:
    from manyhot.pipeline import Annotation

CampaignArgument = Annotated[Path, typer.Argument(help="Folder of the campaign.", metavar="DIR")]
DatabaseOption = Annotated[
    str | None,
    typer.Option("--database", help="postgresql://HOST/NAME; by default a file in the campaign."),
]


def annotate(
    campaign: CampaignArgument,
    open_: Annotated[
        bool, typer.Option("--open", help="For you alone: no invitations, and the browser opens.")
    ] = False,
    raters: Annotated[
        int | None,
        typer.Option("--raters", help="Raters of each question; 5, with --open 1.", min=1, max=1000),
    ] = None,
    examples: Annotated[
        Path | None,
        typer.Option("--examples", help="Images table with labels: example images of the classes."),
    ] = None,
    database: DatabaseOption = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port; 0 takes a free one.", min=0, max=65535)] = 8000,
) -> None:
    """Ask people the questions of a campaign, in the browser."""
    from manyhot.pipeline import open_annotation, serve
    from manyhot.web import Settings

    settings = Settings(raters=raters or (1 if open_ else 5))
    with open_annotation(campaign, database=database, examples=examples, settings=settings) as annotation:
        serve(annotation.app, host, port, lambda address: _ready(annotation, address, open_))


def invite(
    campaign: CampaignArgument,
    names: Annotated[list[str], typer.Argument(help="Of raters.", metavar="NAME...")],
    database: DatabaseOption = None,
    address: Annotated[
        str, typer.Option("--address", help="Where raters reach the app.")
    ] = "http://127.0.0.1:8000",
) -> None:
    """Print an invitation link for each rater; an older one of the same name ends."""
    from manyhot.pipeline import open_annotation

    with open_annotation(campaign, database=database) as annotation:
        for name in names:
            typer.echo(f"{name}  {address.rstrip('/')}/join/{annotation.store.invite(name)}")


def export(campaign: CampaignArgument, database: DatabaseOption = None) -> None:
    """Write the votes and remarks of the annotation app as tables of the campaign."""
    from manyhot.pipeline import export_votes

    print_written(export_votes(campaign, database=database, call=call()), False)


def _ready(annotation: Annotation, address: str, open_: bool) -> None:
    typer.echo(f"Annotating {annotation.campaign.folder} at {address}. Ctrl-C ends it; answers are kept.")
    if open_:
        link = f"{address}/join/{annotation.store.invite('me', role='owner')}"
        typer.echo(f"  {link}")
        threading.Timer(0.5, webbrowser.open, [link]).start()
    else:
        typer.echo(f"  invite raters: manyhot invite {annotation.campaign.folder} NAME --address {address}")
