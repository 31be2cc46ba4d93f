"""Run a grid: data sets, labels, training, measures; each once, resumed after a stop at any moment.

A `BuildRecord` in each folder lists the inputs of its parts; a `Clock` estimates the remaining time.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from manyhot import tables
from manyhot.errors import InputError, ManyhotError, MissingExtraError
from manyhot.extras import missing_extra
from manyhot.files import sha256, write_text
from manyhot.run import Run
from manyhot.study.plan import Across, Arm, Measurement, RunMeasure, Study, StudyDataSet, StudyRun

TRAINING = "training"
_LABELS = "labels"
Dependencies = Mapping[str, Any]
"""The inputs of a part; it is made again when one of them changes."""


@dataclass
class BuildRecord:
    """A record of the parts of a folder and their inputs.

    Attributes
    ----------
    path : Path
        A JSON file.
    made : dict
        For each part, by name: its inputs, its time in seconds, and further values.
    """

    path: Path
    made: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> BuildRecord:
        """Return the record in a file; an empty one if the file is missing or damaged."""
        try:
            made = json.loads(path.read_text(encoding="utf-8"))
            return cls(path, {name: dict(entry) for name, entry in made.items()})
        except (OSError, ValueError, AttributeError, TypeError):
            return cls(path)

    def changed(self, name: str, parts: Dependencies) -> tuple[str, ...] | None:
        """Return the inputs of a part that changed since it was made; None if it was not made."""
        if name not in self.made:
            return None
        before = self.made[name]["parts"]
        now = json.loads(json.dumps(parts))
        return tuple(sorted(p for p in {*before, *now} if before.get(p) != now.get(p)))

    def note(self, name: str, parts: Dependencies, **about: Any) -> None:
        """Record that a part was made."""
        self.made[name] = {"parts": dict(parts), **about}
        self._write()

    def forget(self, *names: str) -> None:
        """Remove parts from the record."""
        for name in names:
            self.made.pop(name, None)
        self._write()

    def _write(self) -> None:
        write_text(self.path, json.dumps(self.made, indent=1, sort_keys=True) + "\n")


def folder_digest(folder: Path) -> str:
    """Return a hash of the names and the bytes of all files in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    text = "".join(f"{path.relative_to(folder).as_posix()} {sha256(path)}\n" for path in files)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class StepEvent:
    """The outcome of a step of a run.

    Attributes
    ----------
    kind : str
        ``done``, ``again`` (repeated because an input changed) or ``failed``.
    what : str
        Such as ``voc9/resnet10t/sets/seed-1``.
    step : str
        ``data set``, ``labels``, ``training`` or a measure.
    reason : str
        The reason for a failure, or the inputs that changed.
    done, of : int
        Number of this run, and total number of runs.
    left : float, optional
        Seconds that remain.
    """

    kind: Literal["done", "again", "failed"]
    what: str
    step: str
    seconds: float = 0.0
    reason: str = ""
    done: int = 0
    of: int = 0
    left: float | None = None


OnStep = Callable[[StepEvent], None]


@dataclass(frozen=True)
class Undone:
    """A missing run or measure, with its step and the reason."""

    what: str
    step: str
    reason: str


class _Failed(Exception):
    def __init__(self, step: str, reason: str) -> None:
        super().__init__(reason)
        self.step, self.reason = step, reason


@dataclass
class Runner:
    """Executes the runs of a study in order.

    Attributes
    ----------
    on_step : callable
        Called after each step.
    undone : list of Undone
        Runs that failed, so far.
    """

    study: Study
    on_step: OnStep
    undone: list[Undone] = field(default_factory=list)

    def __post_init__(self) -> None:
        grid = self.study.grid
        self._arms = {arm.name: arm for arm in grid.arms}
        self._data_sets = {one.name: one for one in grid.data_sets}
        self._networks = {one.name: one for one in grid.networks}
        self._measures = [m for m in self.study.measures if isinstance(m, RunMeasure)]
        self._digests: dict[str, str | _Failed] = {}
        self._clock = Clock()
        self._at = (0, 0)

    def do(self, runs: Sequence[StudyRun]) -> None:
        """Train and measure missing runs. A failed run is reported and does not stop other runs."""
        names = [TRAINING, *(m.name for m in self._measures)]
        self._clock.left.update((name, run.data_set, run.network) for run in runs for name in names)
        for i, run in enumerate(runs, 1):
            self._at = (i, len(runs))
            try:
                self._train(run)
            except _Failed as error:
                self._miss(run, error)
                for name in names:
                    self._clock.done((name, run.data_set, run.network), None)
                continue
            for measure in self._measures:
                try:
                    self._measure(run, measure)
                except _Failed as error:
                    self._miss(run, error)

    def _miss(self, run: StudyRun, error: _Failed) -> None:
        self.undone.append(Undone(run_name(run), error.step, error.reason))
        self._say("failed", run, error.step, reason=error.reason)

    def _say(self, kind: Any, run: StudyRun, step: str, seconds: float = 0.0, reason: str = "") -> None:
        self.on_step(
            StepEvent(kind, run_name(run), step, seconds, reason, *self._at, self._clock.seconds_left())
        )

    def _data(self, run: StudyRun) -> str:
        """Return the digest of a run's data set, which is made if it is missing."""
        name = run.data_set
        if name not in self._digests:
            try:
                self._digests[name] = self._made(self._data_sets[name], run)
            except _Failed as error:
                self._digests[name] = error
        digest = self._digests[name]
        if isinstance(digest, _Failed):
            raise digest
        return digest

    def _made(self, one: StudyDataSet, run: StudyRun) -> str:
        record = BuildRecord.read(run.data.parent / f"{one.name}.json")
        parts = {"version": one.version, "smoke": run.smoke}
        if run.data.is_dir() and self._same(record, "data set", parts, one.name):
            return str(record.made["data set"]["digest"])
        part = run.data.parent / f".{one.name}.part"
        _remove(record.path, run.data, part)
        part.mkdir(parents=True)
        began = time.perf_counter()
        _attempt("data set", part.parent / f"{one.name}.failed.txt", lambda: one.make(part, run.smoke))
        digest = folder_digest(part)
        part.rename(run.data)
        seconds = time.perf_counter() - began
        record.note("data set", parts, digest=digest, seconds=round(seconds, 1))
        self.on_step(StepEvent("done", one.name, "data set", seconds, "", *self._at))
        return digest

    def _train(self, run: StudyRun) -> None:
        """Train the network of a run, unless it exists, and record the time."""
        data, arm, record = self._data(run), self._arms[run.arm], BuildRecord.read(run.folder / "run.json")
        labels = self._labels(run, arm, data, record)
        parts = {"data": data, "labels": sha256(labels), "settings": self._settings(run)}
        work = (TRAINING, run.data_set, run.network)
        if run.model.is_file() and self._same(record, TRAINING, parts, run_name(run)):
            self._clock.done(work, record.made[TRAINING]["seconds"])
            return
        record.forget(TRAINING, *(m for m in record.made if m.startswith("measure ")))
        _remove(run.model, run.folder / "predictions", run.folder / "measures")
        if record.changed("started", parts) != ():
            _remove(run.folder / TRAINING)
            record.note("started", parts)
        began = time.perf_counter()
        _attempt(TRAINING, run.folder / "failed.txt", lambda: self._fit(run, labels))
        seconds = time.perf_counter() - began
        record.note(TRAINING, parts, network=sha256(run.model), seconds=round(seconds, 1), machine=machine())
        self._clock.done(work, seconds)
        self._say("done", run, TRAINING, seconds)

    def _fit(self, run: StudyRun, labels: Path) -> None:
        from manyhot.train.train import train

        trained = train(
            run.images("train"),
            labels,
            out=run.folder / TRAINING,
            classes=run.classes,
            settings=self._settings(run),
            features=_root(run) / "features",
            run=Run(f"manyhot study, {run_name(run)}"),
        )
        trained.network.replace(run.model)

    def _settings(self, run: StudyRun) -> dict[str, Any]:
        network = self._networks[run.network]
        return {
            **network.settings,
            **self._data_sets[run.data_set].settings,
            **self._arms[run.arm].settings,
            **(network.smoke if run.smoke else {}),
            "seed": run.seed,
        }

    def _labels(self, run: StudyRun, arm: Arm, data: str, record: BuildRecord) -> Path:
        """Return the labels that a run is trained on, which are made if they are missing."""
        parts = {
            "data": data,
            "version": arm.version,
            "smoke": run.smoke,
            "wants": self._network_hashes(run, arm),
        }
        there = record.made.get(_LABELS, {}).get("file")
        file = None if there is None else _root(run) / str(there)
        if file is not None and file.is_file() and self._same(record, _LABELS, parts, run_name(run)):
            return file
        if record.made:
            # The record is removed first, in case of a stop in between.
            _remove(record.path, run.folder)
            record.made.clear()
        run.folder.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        made = Path(_attempt(_LABELS, run.folder / "failed.txt", lambda: arm.labels(run)))
        if not made.is_file():
            raise _Failed(_LABELS, f"the labels file of the arm does not exist: {made.name}")
        seconds = time.perf_counter() - began
        record.note(_LABELS, parts, file=_relative(made, run), seconds=round(seconds, 1))
        if seconds > 1:
            self._say("done", run, _LABELS, seconds)
        return made

    def _network_hashes(self, run: StudyRun, arm: Arm) -> dict[str, str]:
        """Return the hash of each network that an arm depends on."""
        hashes = {}
        for name in arm.wants:
            for seed in self.study.grid.seeds:
                trained = BuildRecord.read(run.of(name, seed).folder / "run.json").made.get(TRAINING)
                if trained is None:
                    raise _Failed(_LABELS, f"the arm {name} was not trained with seed {seed}")
                hashes[f"{name}/seed-{seed}"] = trained["network"]
        return hashes

    def _measure(self, run: StudyRun, measure: RunMeasure) -> None:
        record, work = BuildRecord.read(run.folder / "run.json"), (measure.name, run.data_set, run.network)
        path, name = measurement_file(run, measure), f"measure {measure.name}"
        parts = {"network": record.made[TRAINING]["network"], "version": measure.version}
        if path.is_file() and self._same(record, name, parts, run_name(run)):
            self._clock.done(work, record.made[name]["seconds"])
            return
        began = time.perf_counter()
        try:
            _attempt(measure.name, run.folder / "failed.txt", lambda: _write(measure, run, path))
        except _Failed:
            self._clock.done(work, None)
            _remove(path)
            raise
        seconds = time.perf_counter() - began
        record = BuildRecord.read(record.path)
        record.note(name, parts, seconds=round(seconds, 1))
        self._clock.done(work, seconds)
        self._say("done", run, measure.name, seconds)

    def _same(self, record: BuildRecord, name: str, parts: Dependencies, what: str) -> bool:
        """Return whether a part was made from the same inputs; if not, report what changed."""
        changed = record.changed(name, parts)
        if changed:
            step = name.removeprefix("measure ")
            self.on_step(StepEvent("again", what, step, 0.0, ", ".join(changed), *self._at))
        return changed == ()


def run_name(run: StudyRun) -> str:
    """Return the displayed name of a run."""
    return f"{run.data_set}/{run.network}/{run.arm}/seed-{run.seed}"


def measurement_file(run: StudyRun, measure: RunMeasure) -> Path:
    """Return the file of the values of a measure."""
    return run.folder / "measures" / f"{measure.name}.parquet"


def machine() -> str:
    """Return the device of a run: the GPU, or the processor with its number of cores."""
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    from manyhot.core.threads import cores

    return f"{_processor()}, {cores()} cores"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _write(measure: RunMeasure, run: StudyRun, path: Path) -> None:
    """Take a measure and write its values."""
    import pyarrow as pa

    measurements = list(measure.take(run))
    check_measurements(measure, measurements)
    rows = [
        {
            "metric": m.metric,
            "slice": m.slice,
            "value": float(m.value),
            "n": int(m.n),
            "replicates": None if m.replicates is None else [float(v) for v in m.replicates],
        }
        for m in measurements
    ]
    tables.write(pa.Table.from_pylist(rows, tables.schema("measured")), path, "measured")


def check_measurements(measure: RunMeasure | Across, measurements: Iterable[Measurement]) -> None:
    """Raise an error for duplicate values, and for values of metrics that a measure does not declare.

    Raises
    ------
    InputError
        If there are undeclared metrics or duplicates.
    """
    names, seen = {metric.name for metric in measure.metrics}, set()
    for one in measurements:
        if one.metric not in names:
            raise InputError(
                f"The measure {measure.name!r} returns a metric that it does not declare.",
                got=one.metric,
                allowed=", ".join(sorted(names)),
            )
        if (one.metric, one.slice) in seen:
            raise InputError(
                f"The measure {measure.name!r} returns a value twice.", got=f"{one.metric}, {one.slice}"
            )
        seen.add((one.metric, one.slice))


def _attempt(step: str, trace: Path, act: Callable[[], Any]) -> Any:
    """Return the result of a function; if it fails, its traceback is kept and the reason is short.

    A missing extra ends the study: it would fail each run.
    """
    try:
        result = act()
    except MissingExtraError:
        raise
    except Exception as error:
        if (extra := missing_extra(error)) is not None:
            raise extra from error
        write_text(trace, traceback.format_exc())
        raise _Failed(step, reason(error)) from error
    trace.unlink(missing_ok=True)
    return result


def reason(error: Exception) -> str:
    """Return an error in one line, without paths, which differ between machines."""
    if isinstance(error, ManyhotError):
        got = error.details["got"]
        return error.what if got is None else f"{error.what} Got {got}."
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _remove(*paths: Path) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _root(run: StudyRun) -> Path:
    """Return the folder of all studies."""
    return run.data.parent.parent


def _relative(path: Path, run: StudyRun) -> str:
    """Return a path relative to the folder of studies, which may be moved."""
    try:
        return str(path.resolve().relative_to(_root(run).resolve()))
    except ValueError:
        return str(path)


Work = tuple[str, str, str]
"""A step (a measure's name, or ``training``), the data set and the network."""


class Clock:
    """Estimates the remaining time from the time that each kind of work took so far."""

    def __init__(self) -> None:
        self.left: Counter[Work] = Counter()
        self.took: dict[Work, list[float]] = {}

    def done(self, work: Work, seconds: float | None) -> None:
        """Count one piece of work as done, whether now or in an earlier run."""
        self.left[work] -= 1
        if seconds is not None:
            self.took.setdefault(work, []).append(seconds)

    def seconds_left(self) -> float | None:
        """Return an estimate; None before any work is done.

        For a new kind of work, the estimate is the time of the same step on other data sets or networks or,
        failing that, the average time of all work.
        """
        everything = [s for seconds in self.took.values() for s in seconds]
        if not everything:
            return None
        return sum(n * self._estimate(work, everything) for work, n in self.left.items() if n > 0)

    def _estimate(self, work: Work, everything: list[float]) -> float:
        what, _, network = work
        for alike in (
            self.took.get(work),
            [s for (w, _, n), seconds in self.took.items() if (w, n) == (what, network) for s in seconds],
            [s for (w, _, _), seconds in self.took.items() if w == what for s in seconds],
        ):
            if alike:
                return fmean(alike)
        return fmean(everything)
