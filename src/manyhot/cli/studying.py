"""The command that answers questions by training: study."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manyhot.cli.options import OutOption, call
from manyhot.cli.printing import say
from manyhot.errors import ManyhotError

if TYPE_CHECKING:
    from manyhot.study.runner import StepEvent
    from manyhot.study.study import StudyAnswer


def study(
    files: Annotated[list[Path], typer.Argument(help="Python files, a study each.")],
    out: OutOption = Path("study"),
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Everything as small as it can be: to see that it runs.")
    ] = False,
    seeds: Annotated[
        int | None, typer.Option("--seeds", help="Seeds; by default as many as the study names.", min=2)
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="A data set, network or arm to run; repeat.", metavar="NAME"),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option("--answers", help="Copy tables as CSV and the page here, a folder each study."),
    ] = None,
    list_only: Annotated[
        bool, typer.Option("--list", help="Print what the files ask, and run nothing.")
    ] = False,
) -> None:
    """Answer a question by training: arms × networks × data sets × seeds, measured and compared.

    Studies of one grid share their runs. Stopped at any moment, the same command goes on where it was.

    Examples: manyhot study studies/transfer.py --out study ·
    manyhot study studies/transfer.py --list
    """
    from manyhot.study.study import keep_answer, run_study
    from manyhot.study.study_file import read_opening

    if list_only:
        for file in files:
            _print_opening(file, read_opening(file))
        return
    failed = 0
    for file in files:
        answer = run_study(file, out, smoke=smoke, seeds=seeds, only=only or (), call=call(), on_step=_tell)
        _print_answer(answer)
        failed += answer.failed
        for path in keep_answer(answer, out, answers) if answers is not None else []:
            say(f"wrote {path}")
    if failed:
        raise ManyhotError(
            "Not everything was run.",
            got=f"{failed:,} failed",
            do="see the lines above; run it again to go on",
        )


def _print_opening(file: Path, opening: object) -> None:
    say(str(file))
    for name, text in vars(opening).items():
        say(f"  {name + ':':<10}{text}")


def _tell(told: StepEvent) -> None:
    at = f"[{told.done}/{told.of}] {told.what}: " if told.of else f"{told.what}: "
    if told.kind == "failed":
        say(f"{at}{told.step} failed: {told.reason}", err=True)
        return
    if told.kind == "again":
        say(f"{at}{told.step} is made again, as it changed in: {told.reason}", err=True)
        return
    left = "" if told.left is None else f", {datetime.timedelta(seconds=round(told.left))} left"
    say(f"{at}{told.step} in {told.seconds:.1f} s{left}", err=True)


def _print_answer(answer: StudyAnswer) -> None:
    say(f"{answer.study.title}: {answer.study.question}")
    for text in answer.sentences:
        say(f"- {text}")
    if len(answer.study.grid.seeds) < 5:
        say(f"Intervals over {len(answer.study.grid.seeds)} seeds are rough.")
    for path in answer.written:
        say(f"wrote {path}")
