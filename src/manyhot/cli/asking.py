"""The command that says what to ask next."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manyhot.cli.aggregating import FormatOption, GoldenOption, VotesArgument
from manyhot.cli.options import ClassesOption, JsonOption, call
from manyhot.cli.printing import print_facts, print_written, say, show_progress

if TYPE_CHECKING:
    from manyhot.reassess.next_questions import Next


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
        Path | None,
        typer.Option(
            "--out",
            help="Questions to write, .csv or .parquet; by default next.csv, of a campaign in its folder.",
            dir_okay=False,
        ),
    ] = None,
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

    Example: manyhot next campaign --budget 1000
    """
    from manyhot.reassess.next_questions import next_files

    with show_progress() as progress:
        found, written = next_files(
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
    _print_next(found, written, as_json, max_answers)


def _print_next(found: Next, written: list[Path], as_json: bool, most: int) -> None:
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
    print_facts(
        [
            ("questions", f"{found.n_questions:,}", ""),
            ("full", f"{found.n_full:,}", f"get no more answers: {most} at most (--max-answers)"),
            ("settled", f"{found.n_settled:,}", "will hardly change any more (--settled)"),
            ("open", f"{found.n_open:,}", f"of which {found.changes:,.1f} are expected to change"),
            ("asked next", f"{len(found.table):,}", "one answer each (--budget)"),
        ]
    )
    if not found.n_open:
        what = f"--max-answers {most + 3}" if found.n_full else "a lower --settled"
        say(f"Note: nothing is open; to ask on: {what}.", err=True)
    print_written(written, False)
