"""The commands describe and kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manyhot.cli.options import (
    CardAgreementOption,
    CardOption,
    CardVotesOption,
    ClassesOption,
    JsonOption,
    LicenceOption,
    NamedOption,
    RowsOption,
    call,
    card_facts,
)
from manyhot.cli.printing import (
    print_description,
    print_kinds,
    say,
    show_progress,
)


def describe(
    labels: Annotated[
        list[str], typer.Argument(help="Label sets in any format, or a benchmark such as imagenet.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the tables; without it, print.")
    ] = None,
    rows: Annotated[
        Path | None, typer.Option("--rows", help="Original labels, where a file has none.")
    ] = None,
    classes: ClassesOption = None,
    card: CardOption = None,
    votes: CardVotesOption = None,
    agreement: CardAgreementOption = None,
    licence: LicenceOption = None,
    named: NamedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Count labels of images: sizes of label sets, pairs of classes, original labels that were rejected.

    Example: manyhot describe imagenet ·
    manyhot describe labels.parquet --card README.md --votes campaign --licence cc-by-4.0
    """
    from manyhot.evaluate.describe import describe_files

    with show_progress() as progress:
        description, written = describe_files(
            labels,
            out,
            rows=rows,
            classes=classes,
            card=card,
            facts=card_facts(votes, agreement, licence, named),
            call=call(),
            progress=progress,
        )
    print_description(description, written, as_json)


def kinds(
    labels: Annotated[
        str, typer.Argument(help="Label sets in any format; or tsipras: ReaL's, published models, counts.")
    ],
    predictions: Annotated[
        list[Path] | None,
        typer.Option("--predictions", help="Files and folders of predictions; takes several values."),
    ] = None,
    rows: RowsOption = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="Images table with n_objects, where raters counted objects."),
    ] = None,
    classes: ClassesOption = None,
    out: Annotated[
        Path, typer.Option("--out", help="Images table to write, to slice by.", dir_okay=False)
    ] = Path("kinds.parquet"),
    as_json: JsonOption = False,
) -> None:
    """Tell why images have several labels: several objects, one ambiguous object, or near-synonyms.

    Examples: manyhot kinds tsipras --out kinds.parquet ·
    manyhot kinds labels.parquet --predictions predictions --out kinds.parquet
    """
    from manyhot.evaluate.label_kinds import kinds_files

    with show_progress() as progress:
        found, written = kinds_files(
            labels,
            predictions or (),
            out,
            rows=rows,
            images=images,
            classes=classes,
            call=call(),
            progress=progress,
        )
    print_kinds(found, written, as_json)
    for note in found.notes:
        say(f"Note: {note}.", err=True)
