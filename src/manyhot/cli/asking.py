"""The command that says what to ask next."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manyhot.cli.aggregating import FormatOption, GoldenOption, VotesArgument
from manyhot.cli.options import ClassesOption, JsonOption, call
from manyhot.cli.printing import print_written, show_progress

if TYPE_CHECKING:
    from manyhot.pipeline import Next


class Ranking(StrEnum):
    """By what questions are ranked."""

    expected_change = "expected-change"
    entropy = "entropy"
    disagreement = "disagreement"


def next_questions(
    votes: VotesArgument,
    budget: Annotated[int, typer.Option("--budget", help="Answers to ask for, one a question.")],
    by: Annotated[Ranking, typer.Option("--by", help="What ranks a question.")] = Ranking.expected_change,
    out: Annotated[
        Path, typer.Option("--out", help="Questions to write: .csv or .parquet.", dir_okay=False)
    ] = Path("next.csv"),
    max_answers: Annotated[
        int, typer.Option("--max-answers", help="Answers that a question gets at most, in all.")
    ] = 5,
    settled: Annotated[
        float,
        typer.Option(
            "--settled",
            help="Probability of a change up to which a question is settled; 0 to ask while one can change.",
        ),
    ] = 0.01,
    rater: Annotated[
        str, typer.Option("--rater", help="Who will answer; by default a rater of average quality.")
    ] = "",
    proposals: Annotated[
        Path | None,
        typer.Option("--proposals", help="Proposals, to ask about those that nobody answered, too."),
    ] = None,
    golden: GoldenOption = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Original labels, which golden-bayes counts as a rater.")
    ] = None,
    classes: ClassesOption = None,
    format_: FormatOption = None,
    method: Annotated[
        str,
        typer.Option("--method", help="Aggregator; golden-bayes with golden answers, else dawid-skene."),
    ] = "",
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Probability from which a class counts; 0.8.")
    ] = None,
    original_classes: Annotated[
        str | None,
        typer.Option("--original-classes", help="Classes for which the original label counts: 0-397."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say which questions are worth another answer, and which are settled.

    Example: manyhot next campaign --budget 1000 --by expected-change --out next.csv
    """
    from manyhot import pipeline

    with show_progress() as progress:
        found, written = pipeline.next_files(
            votes,
            out,
            budget=budget,
            by=by.value,
            most=max_answers,
            at_most=settled,
            rater=rater,
            proposals=proposals,
            golden=golden,
            images=images,
            classes=classes,
            format=format_,
            method=method,
            threshold=threshold,
            original_classes=original_classes,
            call=call(),
            progress=progress,
        )
    _print_next(found, written, as_json)


def _print_next(found: Next, written: list[Path], as_json: bool) -> None:
    numbers = {
        "questions": found.n_questions,
        "full": found.n_full,
        "settled": found.n_settled,
        "open": found.n_open,
        "asked": len(found.table),
        "changes": found.changes,
    }
    if as_json:
        typer.echo(json.dumps(numbers | {"written": [str(p) for p in written]}))
        return
    typer.echo(
        f"{found.n_questions:,} questions: {found.n_full:,} get no more answers, {found.n_settled:,} are "
        f"settled, {found.n_open:,} are open"
    )
    typer.echo(f"all that may still be asked is expected to change {found.changes:,.1f} states")
    typer.echo(f"asked next: {len(found.table):,}")
    print_written(written, False)
