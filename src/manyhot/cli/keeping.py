"""The commands that keep campaigns safe: backup, restore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manyhot.cli.annotating import CampaignArgument, DatabaseOption
from manyhot.cli.options import without_passwords

_File = Annotated[Path, typer.Argument(help="The backup, a zip file.", metavar="FILE")]


def backup(campaign: CampaignArgument, file: _File, database: DatabaseOption = None) -> None:
    """Write a campaign with all answers to one file; the app may go on meanwhile."""
    from manyhot.reassess.backup import backup_campaign

    done = backup_campaign(campaign, file, database=database)
    typer.echo(f"Wrote {file}: {done.counts['votes']:,} votes and {len(done.files):,} files.")
    typer.echo("  Keep it to yourself: it holds what rater wrote what.")


def restore(
    file: _File,
    campaign: Annotated[Path, typer.Argument(help="Folder to make; new or empty.", metavar="DIR")],
    database: Annotated[
        str | None,
        typer.Option("--database", help="postgresql://HOST/NAME, empty; by default a file in the campaign."),
    ] = None,
) -> None:
    """Make a campaign from a backup; who had a session or an invitation goes on with it."""
    from manyhot.reassess.backup import restore_campaign

    restore_campaign(file, campaign, database=database)
    address = f" --database {without_passwords(database)}" if database else ""
    typer.echo(f"Made {campaign}. Go on: manyhot annotate {campaign}{address}")
    typer.echo("  Where the images lie elsewhere now, add --images FOLDER.")
