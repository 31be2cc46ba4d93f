"""Run studies from their files to their answers: the function of ``manyhot study``."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from manyhot import tables
from manyhot.files import alone, atomic_write, write_text
from manyhot.study.plan import Study, StudyRun, chosen_runs, open_study_folder, runs_of, with_seeds
from manyhot.study.runner import OnStep, Runner, StepEvent, Undone, run_name
from manyhot.study.study_file import Opening, read_study
from manyhot.study.tables import collect_measurements, effects_table, means_table, runs_table

_TABLES = ("runs", "means", "effects")


@dataclass(frozen=True, eq=False)
class StudyAnswer:
    """What came of a study.

    Attributes
    ----------
    study : Study
        With the seeds that were run.
    opening : Opening
    effects : pyarrow.Table
    undone : tuple of Undone
        Runs, and measures of them, that failed or were not chosen.
    failed : int
        Of these, those that failed.
    page : Path
    written : tuple of Path
    """

    study: Study
    opening: Opening
    effects: pa.Table
    undone: tuple[Undone, ...]
    failed: int
    page: Path
    written: tuple[Path, ...]

    @property
    def sentences(self) -> list[str]:
        """The verdict on each claim."""
        return [text for text in self.effects["sentence"].to_pylist() if text is not None]


def run_study(
    file: Path,
    out: Path = Path("study"),
    *,
    smoke: bool = False,
    seeds: int | None = None,
    only: Iterable[str] = (),
    call: str = "",
    on_step: OnStep | None = None,
) -> StudyAnswer:
    """Run a study and write its tables and its page.

    Runs, measures and data sets that lie in the folder already are not made again: studies of one grid share
    it, and the same call goes on after a stop at any moment. A run that fails does not stop the others.

    Parameters
    ----------
    file : Path
        A Python file that defines ``study``.
    out : Path
        The folder of all studies. ``OUT/results/NAME`` holds the tables, ``OUT/report/NAME.html`` the page.
    smoke : bool
        Everything as small as it can be, with two seeds: to see that it runs.
    seeds : int, optional
        How many; by default as many as the study names.
    only : iterable of str
        Data sets, networks or arms to run; all by default.
    call : str
        The command, for the page.
    on_step : callable, optional
        Called after each step.

    Raises
    ------
    InputError
        The file or the study cannot be used.
    MatchError
        The folder is used otherwise.
    OutputError
        Another command is at work on one of the data sets in it.
    """
    study, opening = read_study(Path(file))
    study = with_seeds(study, seeds, smoke)
    out = Path(out)
    every = runs_of(study.grid, out, smoke)
    runs = chosen_runs(every, study.grid, only)
    open_study_folder(out, smoke)
    runner = Runner(study, on_step or (lambda _: None))
    with contextlib.ExitStack() as stack:
        for data_set in dict.fromkeys(run.data_set for run in runs):
            stack.enter_context(alone(out / "runs" / data_set))
        runner.do(runs)
    measurements, failed = collect_measurements(study, runs, runner.undone)
    for one in failed:
        runner.on_step(StepEvent("failed", one.what, one.step, reason=one.reason))
    failed = [*runner.undone, *failed]
    undone = [*failed, *_left_out(every, runs)]
    made = {
        "runs": runs_table(measurements),
        "means": means_table(study, measurements),
        "effects": effects_table(study, measurements),
    }
    written = _write(made, out / "results" / study.name, call)
    from manyhot.study.page import write_study_page

    page = write_study_page(study, opening, made, runs, undone, out, smoke=smoke, call=call)
    return StudyAnswer(study, opening, made["effects"], tuple(undone), len(failed), page, (*written, page))


def _left_out(every: Sequence[StudyRun], runs: Sequence[StudyRun]) -> list[Undone]:
    there = {run_name(run) for run in runs}
    return [
        Undone(run_name(run), "run", "not chosen (--only)") for run in every if run_name(run) not in there
    ]


def _write(made: dict[str, pa.Table], folder: Path, call: str) -> list[Path]:
    from manyhot.report.export import to_csv

    written = []
    for name, table in made.items():
        written.append(tables.write(table, folder / f"{name}.parquet", name, call=call))
        written.append(folder / f"{name}.csv")
        write_text(written[-1], to_csv(table))
    return written


def keep_answer(answer: StudyAnswer, out: Path, folder: Path) -> list[Path]:
    """Copy what is committed of an answer, its tables as CSV and its page, into ``FOLDER/NAME``.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    results, to = Path(out) / "results" / answer.study.name, Path(folder) / answer.study.name
    pairs = [(results / f"{name}.csv", to / f"{name}.csv") for name in _TABLES]
    pairs.append((answer.page, to / "index.html"))
    for source, target in pairs:
        with atomic_write(target) as part:
            shutil.copyfile(source, part)
    return [target for _, target in pairs]
