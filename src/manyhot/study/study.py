"""Run studies and write their answers: the function of ``manyhot study``."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa

from manyhot import tables
from manyhot.command import command
from manyhot.files import alone, atomic_write, write_text
from manyhot.formats.writing import PathLike
from manyhot.parameters import AtLeast, OptionName, Positional, Repeated, Shown
from manyhot.result import Result
from manyhot.run import QUIET, Run
from manyhot.study.claims import differences_table, doubts, effects_table
from manyhot.study.plan import Study, StudyRun, chosen_runs, open_study_folder, runs_of, with_seeds
from manyhot.study.runner import Runner, StepEvent, Undone, run_name
from manyhot.study.study_file import Opening, read_opening, read_study
from manyhot.study.tables import collect_measurements, means_table, runs_table

_TABLES = ("runs", "means", "effects", "differences")


@dataclass(frozen=True, eq=False)
class StudyAnswer:
    """The answer of a study.

    Attributes
    ----------
    study : Study
        The study, with the seeds that were run.
    opening : Opening
    effects : pyarrow.Table
    undone : tuple of Undone
        Runs and measures that failed or were not chosen.
    failed : int
        Number of these that failed.
    page : Path
    written : tuple of Path
    doubts : tuple of str
        Metrics that are undefined, and metrics with intervals over seeds alone.
    """

    study: Study
    opening: Opening
    effects: pa.Table
    undone: tuple[Undone, ...]
    failed: int
    page: Path
    written: tuple[Path, ...]
    doubts: tuple[str, ...] = ()

    @property
    def sentences(self) -> list[str]:
        """The verdict on each claim."""
        return [text for text in self.effects["sentence"].to_pylist() if text is not None]

    def lines(self) -> Iterator[str]:
        """Yield the question and the verdicts."""
        yield f"{self.study.title}: {self.study.question}"
        yield from (f"- {text}" for text in self.sentences)
        if len(self.study.grid.seeds) < 5:
            yield f"Intervals over {len(self.study.grid.seeds)} seeds are rough."
        yield from (f"Note: {doubt}." for doubt in self.doubts)

    def to_json(self) -> dict[str, Any]:
        """Return the question, the verdicts, the number of failed steps and the files."""
        return {
            "study": self.study.name,
            "question": self.study.question,
            "verdicts": self.sentences,
            "failed": self.failed,
            "doubts": list(self.doubts),
            "written": [str(path) for path in self.written],
        }


@dataclass(frozen=True)
class StudyPlan:
    """The question and plan of a study file, read without running it."""

    file: Path
    opening: Opening

    def lines(self) -> Iterator[str]:
        """Yield the file and its opening paragraphs."""
        yield str(self.file)
        yield from (f"  {name + ':':<10}{text}" for name, text in vars(self.opening).items())

    def to_json(self) -> dict[str, Any]:
        """Return the file and its opening paragraphs."""
        return {"file": str(self.file), **vars(self.opening)}


@dataclass(frozen=True, eq=False)
class StudyAnswers(Result):
    """The answers of studies, or their plans if nothing was run.

    Attributes
    ----------
    answers : tuple of StudyAnswer
    plans : tuple of StudyPlan
    notes, metadata, inputs, written
        As in `Result`.
    """

    answers: tuple[StudyAnswer, ...] = ()
    plans: tuple[StudyPlan, ...] = ()

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """1 if a step of a study failed, else 0."""
        return int(any(answer.failed for answer in self.answers))

    def lines(self) -> Iterator[str]:
        """Yield the lines of each answer or plan."""
        for answer in self.answers:
            yield from answer.lines()
        for plan in self.plans:
            yield from plan.lines()

    def to_json(self) -> dict[str, Any]:
        """Return each answer or plan."""
        studies = [*(a.to_json() for a in self.answers), *(p.to_json() for p in self.plans)]
        return {"studies": studies, "notes": self.notes}


@command(
    "study",
    streams=True,
    examples=(
        "manyhot study studies/transfer.py --out study",
        "manyhot study studies/transfer.py --list",
    ),
)
def run_studies(
    files: Annotated[PathLike | Sequence[PathLike], Positional(), Repeated(), Shown("FILES")],
    *,
    out: Annotated[PathLike, Shown("FOLDER")] = "study",
    smoke: bool = False,
    seeds: Annotated[int, AtLeast(2)] | None = None,
    only: Annotated[Sequence[str], Shown("NAME")] = (),
    answers: Annotated[PathLike | None, Shown("FOLDER")] = None,
    list_only: Annotated[bool, OptionName("--list")] = False,
    run: Run = QUIET,
) -> StudyAnswers:
    """Run studies: train all combinations of arm, network, data set and seed, measure and compare them.

    Studies with the same grid share their runs. A stopped command resumes when it is started again. A failed
    run does not stop other runs.

    Parameters
    ----------
    files
        Python files, each defining a study.
    out
        Folder of all studies. It is created if it does not exist. OUT/results/NAME contains the tables, and
        OUT/report/NAME.html is the page.
    smoke
        Run a test with the smallest possible settings and two seeds.
    seeds
        Number of seeds. By default, the number that the study sets.
    only
        Data set, network or arm to run. By default, all are run.
    answers
        Folder for copies of the page and of the tables as CSV files, with one subfolder per study.
    list_only
        Print the questions and plans of the files, without running anything.

    Returns
    -------
    StudyAnswers

    Raises
    ------
    InputError
        If a file or its study cannot be used.
    MatchError
        If the folder belongs to other studies.
    OutputError
        If another command is using one of the data sets in the folder.
    """
    places = [Path(file) for file in ([files] if isinstance(files, str | os.PathLike) else files)]
    if list_only:
        plans = tuple(StudyPlan(file, read_opening(file)) for file in places)
        for plan in plans:
            run.event("done", {"done": plan})
        return StudyAnswers(plans=plans)
    made = []
    for file in places:
        study, opening = read_study(file)
        answer = _answered(with_seeds(study, seeds, smoke), opening, Path(out), smoke, only, run)
        if answers is not None:
            copies = keep_answer(answer, Path(out), Path(answers))
            answer = replace(answer, written=(*answer.written, *copies))
        run.event("done", {"done": answer})
        made.append(answer)
    failed = sum(answer.failed for answer in made)
    notes = (
        (
            f"the study is incomplete: {failed:,} failed (their folders contain failed.txt, with the whole "
            "error); run the same command again to repeat them",
        )
        if failed
        else ()
    )
    for note in notes:
        run.event("failures", {"text": f"Note: {note}."})
    return StudyAnswers(tuple(made), notes=notes, written=tuple(p for answer in made for p in answer.written))


def _answered(
    study: Study, opening: Opening, out: Path, smoke: bool, only: Iterable[str], run: Run
) -> StudyAnswer:
    """Run a study and write its tables and its page."""
    every = runs_of(study.grid, out, smoke)
    runs = chosen_runs(every, study.grid, only)
    open_study_folder(out, smoke)
    runner = Runner(study, lambda step: run.event("step", asdict(step)))
    with contextlib.ExitStack() as stack:
        for data_set in dict.fromkeys(run.data_set for run in runs):
            stack.enter_context(alone(out / "runs" / data_set))
        runner.do(runs)
    measurements, failed = collect_measurements(study, runs, runner.undone)
    for one in failed:
        runner.on_step(StepEvent("failed", one.what, one.step, reason=one.reason))
    failed = [*runner.undone, *failed]
    undone = [*failed, *_left_out(every, runs)]
    differences = differences_table(study, measurements)
    made = {
        "runs": runs_table(measurements),
        "means": means_table(study, measurements),
        "effects": effects_table(study, measurements, differences),
        "differences": differences,
    }
    written = _write(made, out / "results" / study.name, run.call)
    from manyhot.study.page import write_study_page

    found = tuple(doubts(study, measurements))
    shown = replace(study, limits=(*found, *study.limits))
    page = write_study_page(shown, opening, made, runs, undone, out, smoke=smoke, call=run.call)
    files = (*written, page)
    return StudyAnswer(study, opening, made["effects"], tuple(undone), len(failed), page, files, found)


def _left_out(every: Sequence[StudyRun], runs: Sequence[StudyRun]) -> list[Undone]:
    there = {run_name(run) for run in runs}
    return [Undone(run_name(run), "run", "not chosen") for run in every if run_name(run) not in there]


def _write(made: dict[str, pa.Table], folder: Path, call: str) -> list[Path]:
    from manyhot.report.export import to_csv

    written = []
    for name, table in made.items():
        written.append(tables.write(table, folder / f"{name}.parquet", name, call=call))
        written.append(folder / f"{name}.csv")
        write_text(written[-1], to_csv(table))
    return written


def keep_answer(answer: StudyAnswer, out: Path, folder: Path) -> list[Path]:
    """Copy the page of an answer, and its tables as CSV files, to ``FOLDER/NAME``.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    results, to = Path(out) / "results" / answer.study.name, Path(folder) / answer.study.name
    pairs = [(results / f"{name}.csv", to / f"{name}.csv") for name in _TABLES]
    pairs.append((answer.page, to / "index.html"))
    for source, target in pairs:
        with atomic_write(target) as part:
            shutil.copyfile(source, part)
    return [target for _, target in pairs]
