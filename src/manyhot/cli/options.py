"""Options that several commands share."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manyhot.console import without_passwords

if TYPE_CHECKING:
    from manyhot.reassess.card import CardFacts

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text, for programs.")]
OutOption = Annotated[
    Path, typer.Option("--out", help="Folder to write to; made if absent.", file_okay=False)
]
RowsOption = Annotated[
    Path | None,
    typer.Option(
        "--rows", help="The image of each row of array files: data-set JSON, CSV, Parquet, or list of ids."
    ),
]

MetricOption = Annotated[
    list[str] | None,
    typer.Option(
        "--metric", help="A metric or call string, such as 'jaccard(threshold=0.5)'; repeat for more."
    ),
]

SliceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--slice",
        help="Also: class=KEY, class for all; of the images table COLUMN, COLUMN=VALUE, "
        "'COLUMN>=NUMBER', COLUMN=* for images with a value.",
    ),
]

ClassesOption = Annotated[
    Path | None,
    typer.Option(
        "--classes",
        help="Class list: one key a line, a table with key and name, or imagenet1k, imagenet-a, imagenet-r.",
    ),
]

CardOption = Annotated[
    Path | None,
    typer.Option(
        "--card", help="Data card of labels to write, Markdown: who, when, protocol, agreement, counts."
    ),
]

CardVotesOption = Annotated[
    str | None,
    typer.Option(
        "--votes",
        help="For the card: the votes that the labels rest on, as for agreement; by default those of "
        "the campaign that the labels lie in.",
    ),
]

CardAgreementOption = Annotated[
    Path | None,
    typer.Option(
        "--agreement",
        help="For the card: agreement.parquet of `manyhot agreement`; by default measured on the votes.",
    ),
]

LicenceOption = Annotated[
    str | None, typer.Option("--licence", help="For the card: of the labels, such as cc-by-4.0.")
]

NamedOption = Annotated[
    bool, typer.Option("--named", help="For the card: call raters by their ids, not by numbers.")
]


def card_facts(
    votes: str | None, agreement: Path | None, licence: str | None, named: bool
) -> CardFacts | None:
    """Return what these options tell a data card, or None where none of them is given."""
    from manyhot.reassess.card import CardFacts

    told = votes or agreement or licence or named
    return CardFacts(votes, agreement, licence, named) if told else None


def call() -> str:
    """Return the command line, for the metadata of what is written: without passwords of addresses in it."""
    return shlex.join(["manyhot", *map(without_passwords, sys.argv[1:])])
