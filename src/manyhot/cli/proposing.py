"""The commands around campaigns: init, status, propose, proposers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manyhot.cli.annotating import DatabaseOption, database_again
from manyhot.cli.options import JsonOption, RowsOption, call
from manyhot.cli.printing import options_text, print_table, print_written, say

if TYPE_CHECKING:
    from manyhot.reassess.campaign import Status

CampaignArgument = Annotated[Path, typer.Argument(help="Folder of the campaign.", metavar="DIR")]


def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the campaign; new or empty.", metavar="DIR")],
    images: Annotated[
        str,
        typer.Option(
            "--images",
            help="Images with original labels: a table in any format, a folder that predict wrote, or a data "
            "set of a benchmark, such as imagenet-val.",
        ),
    ],
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            help="Class list: a file, or imagenet1k, imagenet-a, imagenet-r; by default the one of these "
            "that images or predictions name.",
        ),
    ] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(
            "--predictions",
            help="Files and folders of predictions, or such a data set; takes several values.",
        ),
    ] = None,
    rows: RowsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a campaign: one folder with images, classes and predictions, for all that follows.

    The same command again changes nothing; another campaign is never written over.

    Examples: manyhot init campaign --images photos.csv --classes classes.txt --predictions predictions ·
    manyhot init real --images imagenet-val --predictions imagenet-val
    """
    from manyhot.reassess.campaign import campaign_status, init_campaign

    campaign, made = init_campaign(
        folder, images=images, classes=classes, predictions=predictions or (), rows=rows, call=call()
    )
    if as_json:
        print_written([campaign.folder] if made else [], True)
        return
    what = "made the campaign" if made else "nothing to do, this is the campaign"
    over = f"{campaign.n_classes:,} classes of {campaign.classes}"
    say(f"{what} {campaign.folder}, over the {over}")
    print_status(campaign_status(folder))


def status(folder: CampaignArgument, database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Say what of a campaign is done, with counts, and what comes next.

    Example: manyhot status campaign
    """
    from manyhot.reassess.campaign import campaign_status

    found = campaign_status(folder, database=database)
    if found.command.startswith(("manyhot annotate ", "manyhot export ")):
        found = dataclasses.replace(found, command=found.command + database_again(database))
    if not as_json:
        print_status(found)
        return
    stages = {s.name: {"done": s.done, "count": s.count, "what": s.what} for s in found.stages}
    told = {"campaign": str(found.campaign.folder), "stages": stages, "notes": found.notes}
    typer.echo(json.dumps(told | {"next": found.next, "command": found.command}))


def proposers(as_json: JsonOption = False) -> None:
    """List the rules that propose labels, what each is, and its options."""
    from manyhot import registry

    entries = [registry.get("proposer", name) for name in registry.names("proposer")]
    rows = [(e.name, options_text(e), e.summary) for e in entries]
    if as_json:
        typer.echo(json.dumps([dict(zip(("name", "options", "summary"), r, strict=True)) for r in rows]))
        return
    print_table(("name", "options", "what it proposes"), rows)


def print_status(found: Status) -> None:
    """Print what is done, what comes next, and the command for it."""
    rows = [
        (s.name, "done" if s.done else "–", f"{s.count:,} {s.what}" if s.count is not None else s.what)
        for s in found.stages
    ]
    print_table(("table", "", "what"), rows)
    for note in found.notes:
        say(f"Note: {note}.", err=True)
    say(f"next: {found.next}")
    for command in found.command.splitlines():
        say(f"  {command}")
