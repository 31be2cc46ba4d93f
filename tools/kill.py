"""Kill commands at random moments or fill their disk, run them again, and compare with an undisturbed run.

``python tools/kill.py --times 20 --seed 0`` kills each of `KILLED` twenty times with SIGKILL, at a random
time or at a random change of a file. ``--disk`` fills the disk instead, for every command: from a random
change on, files can be neither opened nor renamed, or opened but not written. ``--cache`` makes the folder
of downloads and caches read-only instead: commands then give the same files, and `fetch` says what is wrong.
Names of cases of ``kill_inputs.py`` choose among them.

Afterwards each file is the old or the new one, or a finished part of a command that resumes. The command is
then run again, and its files must be those of the undisturbed run, byte by byte. Commands run in forks of
one process.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import math
import os
import random
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

from kill_inputs import CASES, SHARED, Case, register_detector, write_inputs

from manyhot.commands import COMMANDS

KILLED = (
    "predict",
    "predict tar",
    "predict tar.gz",
    "predict parquet",
    "predict ray",
    "evaluate",
    "aggregate",
    "train",
    "study",
    "diagnose shortcuts",
    "diagnose corruptions",
    "fetch",
)
"""What is killed unless other cases are named: the commands that run for long."""

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "shutil.copyfile"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
NEEDS_SPACE = CHANGES - {"os.remove", "os.rmdir"}


_PATHS = (str, bytes, os.PathLike)

FAULTS = {"kill": ("time", "kill"), "disk": ("open", "write"), "cache": ("cache",)}

CACHE = "work/cache"
"""The folder of caches, in that of a run and its temporary files."""


@dataclass
class Fault:
    """What disturbs a run: from change `at` on, or after `at` seconds.

    Attributes
    ----------
    kind : {"", "kill", "time", "open", "write", "cache"}
    at : float
    """

    kind: str = ""
    at: float = 0
    place: str = ""
    changes: int = 0

    def __str__(self) -> str:
        """Return what is done and when."""
        return f"{self.kind} at {self.at:.3g}" if self.kind else "undisturbed"

    def __call__(self, event: str, arguments: Sequence[Any]) -> None:
        """Count a change of a file, and disturb it."""
        opened = event == "open" and arguments[2] & WRITES
        if not (opened or event in CHANGES) or not self.is_ours(arguments[0]):
            return
        self.changes += 1
        if self.kind == "cache":
            if self.is_ours(arguments[0], CACHE):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(arguments[0]))
            return
        if not self.kind or self.kind == "time" or self.changes < self.at:
            return
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.kind == "write":
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        elif opened or event in NEEDS_SPACE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))

    def is_ours(self, path: object, below: str = "") -> bool:
        """Return whether a path is in the folder, in which temporary files are, too, or below one of it."""
        whole = str(Path.cwd() / os.fsdecode(path)) if isinstance(path, _PATHS) else ""
        return whole.startswith(str(Path(self.place, below)))


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code, below 0 for a signal; what it printed; seconds, of CPU too; changes."""

    code: int
    printed: str
    seconds: float
    cpu: float
    changes: int


HOOKS: list[Fault] = []
"""The fault of this process."""


def become(line: str, folder: Path, pipe: int, fault: Fault) -> None:
    """Run a command line in this fork, and end it."""
    null = os.open(os.devnull, os.O_RDONLY)
    for number, descriptor in enumerate((null, pipe, pipe)):
        os.dup2(descriptor, number)
    os.chdir(folder)
    sys.path[0] = str(folder)
    sys.argv = ["manyhot", *line.split()]
    os.environ["MANYHOT_CACHE"] = str(folder / "cache")
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder.parent / "tmp")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    code: object = 0
    HOOKS[:] = [fault]
    try:
        if line.startswith("begin "):
            with importlib.import_module("manyhot.reassess.annotate").open_annotation(sys.argv[2]):
                pass
        else:
            importlib.import_module("manyhot.cli").main()
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        HOOKS.clear()
        traceback.print_exc()
        code = 1
    HOOKS.clear()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    print(f"\n{fault.changes} changes", file=sys.stderr, flush=True)
    os._exit(code if isinstance(code, int) else 1)


def run(line: str, folder: Path, fault: Fault | None = None) -> Ended:
    """Run a command line in a fork of this process."""
    fault = fault or Fault()
    fault.place = str(folder.parent)
    reader, writer = os.pipe()
    start = time.monotonic()
    child = os.fork()
    if not child:
        become(line, folder, writer, fault)
    os.close(writer)
    printed = b""
    until = start + (fault.at if fault.kind == "time" else LONGEST_S)
    while True:
        ready = select.select([reader], [], [], max(0.0, min(0.05, until - time.monotonic())))[0]
        printed += (piece := os.read(reader, 1 << 16) if ready else b"")
        if time.monotonic() >= until:
            os.kill(child, signal.SIGKILL)
            until = math.inf
        if not piece and (ended := os.wait4(child, os.WNOHANG))[0]:  # a process of its own may keep the pipe
            _, status, usage = ended
            break
    os.close(reader)
    text = printed.decode(errors="replace")
    counted = re.search(r"\n(\d+) changes\n$", text)
    code = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime
    return Ended(code, text, time.monotonic() - start, cpu, int(counted[1]) if counted else 0)


LONGEST_S = 1_800
"""A command that runs for longer hangs, and is killed. Under load, a training of a second took 115."""

VARIES = re.compile(r"tfevents|\.lock$|\.sqlite(-wal|-shm)?$")
"""Names of files that differ between two undisturbed runs."""


TIMES = re.compile(rb'"seconds": [\d.e-]+|took \d+ s\b|took \d+ min\b')
"""Times that a study records."""


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of each file, without what differs between any two runs."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not VARIES.search(path.name))
    return {str(path.relative_to(folder)): plain(path) for path in files}


def plain(path: Path) -> bytes:
    """Return the bytes of a file; of a backup, which contains a time and a database, the names in it."""
    if path.suffix == ".zip" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return repr(sorted(archive.namelist())).encode()
    return TIMES.sub(b"", path.read_bytes())


@dataclass
class World:
    """The folder in which commands run, and what was in it before."""

    folder: Path
    inputs: Path
    before: Path = field(init=False)

    def __post_init__(self) -> None:
        """Choose where the files before the command are kept."""
        self.before = self.inputs.with_name("before")

    def make(self) -> None:
        """Write the inputs, in a fork: threads that began here would be missing in later forks."""
        self.inputs.mkdir()
        self.inputs.with_name("tmp").mkdir()
        if not os.fork():
            write_inputs(self.inputs)
            os._exit(0)
        if os.wait()[1]:
            raise SystemExit("the inputs could not be written")

    def reset(self, to: Path) -> None:
        """Put the folder back to what it was."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(to, self.folder, symlinks=True)

    def prepare(self, case: Case) -> tuple[dict[str, bytes], dict[str, bytes], Ended]:
        """Run a case undisturbed; return the files before and after it, and how it ended."""
        self.reset(self.inputs)
        for line in case.before:
            if (ended := run(line, self.folder)).code:
                raise SystemExit(f"{line}: {ended.printed}")
        shutil.rmtree(self.before, ignore_errors=True)
        shutil.copytree(self.folder, self.before, symlinks=True)
        old, ended = contents(self.folder), run(case.line, self.folder)
        if ended.code:
            raise SystemExit(f"{case.line}: exit code {ended.code}: {ended.printed}")
        return old, contents(self.folder), ended


@dataclass(frozen=True)
class Trial:
    """What a disturbed run did, and what is wrong with it."""

    fault: Fault
    code: int
    wrong: tuple[str, ...]
    printed: str


def judge(
    world: World, case: Case, fault: Fault, old: Mapping[str, bytes], new: Mapping[str, bytes]
) -> Trial:
    """Run a case with a fault, look at its files, and run it again."""
    world.reset(world.before)
    ended = run(case.line, world.folder, fault)
    wrong = list(faults_of(case, ended, fault, old, new, contents(world.folder)))
    again = Ended(0, "", 0, 0, 0) if case.once and ended.code == 0 else run(case.line, world.folder)
    if again.code:
        wrong.append(f"run again: exit code {again.code}: {again.printed[-600:]}")
    wrong += (f"run again: {name}" for name in differing(contents(world.folder), new))
    return Trial(fault, ended.code, tuple(wrong), ended.printed)


def faults_of(
    case: Case,
    ended: Ended,
    fault: Fault,
    old: Mapping[str, bytes],
    new: Mapping[str, bytes],
    left: Mapping[str, bytes],
) -> Iterator[str]:
    """Yield what is wrong after a disturbed run."""
    gone = (name for name in old if name not in left and name in new and not name.startswith(case.clears))
    yield from (f"gone: {name}" for name in gone)
    for name, content in left.items():
        own = [files[name] for files in (old, new) if name in files]
        if own and content not in own and not case.resumes:
            yield f"neither old nor new: {name}"
        if fault.kind not in ("kill", "time") and Path(name).name.endswith(".part"):
            yield f"left: {name}"
        if not own and not case.resumes and not Path(name).name.endswith(".part"):
            yield f"left: {name}"
    if fault.kind in ("open", "write") and (ended.code not in (0, 6) or "Traceback" in ended.printed):
        yield f"exit code {ended.code}"
    if fault.kind == "cache":
        if ended.code != (6 if case.command == "fetch" else 0) or "Traceback" in ended.printed:
            yield f"exit code {ended.code}"
        elif not ended.code:
            yield from (f"not as before: {n}" for n in differing(left, new) if not n.startswith("cache/"))


def differing(found: Mapping[str, bytes], expected: Mapping[str, bytes]) -> Iterator[str]:
    """Yield the names of files that differ."""
    yield from (n for n in sorted({*found, *expected}) if found.get(n) != expected.get(n))


def moments(kinds: Sequence[str], ended: Ended, times: int, rng: random.Random) -> list[Fault]:
    """Return random moments; of a disk that fills, the first and the last change, too."""
    if kinds == ("cache",):
        return [Fault("cache")]
    faults = []
    for i in range(times):
        kind = kinds[i % len(kinds)]
        at = rng.uniform(0, ended.seconds) if kind == "time" else rng.randint(1, ended.changes)
        if kind in ("open", "write") and i < 2 * len(kinds):
            at = 1 if i < len(kinds) else ended.changes
        faults.append(Fault(kind, at))
    return faults


def start(cases: Sequence[str]) -> None:
    """Import what the commands of cases need, once for all runs."""
    from manyhot.registry import BUILT_IN

    words = {
        word for name in cases for line in (CASES[name].line, *CASES[name].before) for word in line.split()
    }
    addresses = [command.address for name, command in COMMANDS.items() if words >= set(name.split())]
    kinds = (
        "metric",
        "format",
        *(["model"] if any(word.startswith(("photos", "toys")) for word in words) else []),
    )
    registered = (module for kind in kinds for module in BUILT_IN[kind])
    networks = ["torch", "timm"] if "model" in kinds else []
    for module in (*networks, "pandas", "altair", "typer._adapters", "filelock", *registered, *addresses):
        importlib.import_module(module.partition(":")[0])
    register_detector()
    draw_once()
    for module, name, value in (
        ("cli.events", "LINE_EVERY_S", math.inf),
        ("predict.engines.choose", "TRIAL_S", 0.01),
    ):
        setattr(importlib.import_module(f"manyhot.{module}"), name, value)
    os.environ["MANYHOT_MIRROR"] = str(SHARED / "mirror.zip")
    sys.addaudithook(lambda event, arguments: HOOKS[0](event, arguments) if HOOKS else None)


def draw_once() -> None:
    """Draw each figure once for all runs, as tests do."""
    import vl_convert

    import drawings

    os.environ.setdefault(drawings.FOLDER, tempfile.mkdtemp(prefix="drawn-"))
    for name in drawings.DRAWERS:
        setattr(vl_convert, name, drawings.kept(getattr(vl_convert, name)))


def report(name: str, trials: Sequence[Trial]) -> None:
    """Print a row of the table, and below it what was wrong."""
    codes = Counter(trial.code for trial in trials)
    ended = " ".join(f"{code}×{n}" for code, n in sorted(codes.items()))
    wrong = [trial for trial in trials if trial.wrong]
    print(f"| {name} | {len(trials)} | {ended} | {len(trials) - len(wrong)} | {len(wrong)} |", flush=True)
    for trial in wrong:
        print(f"    {trial.fault}, exit code {trial.code}: {'; '.join(trial.wrong[:6])}", flush=True)
        if "exit code" in trial.wrong[0]:
            print("      " + trial.printed[-1500:].replace("\n", "\n      "), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}")
    parser.add_argument("--times", type=int, default=20, help="disturbed runs of each case")
    parser.add_argument("--seed", type=int, default=0)
    faults = parser.add_mutually_exclusive_group()
    faults.add_argument("--disk", action="store_true", help="fill the disk in place of a kill")
    faults.add_argument("--cache", action="store_true", help="make the cache read-only in place of a kill")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    names = chosen.cases or list(CASES if chosen.disk or chosen.cache else KILLED)
    if not (SHARED / "mirror.zip").is_file():
        names = [name for name in names if name != "fetch"]
        print("left out: fetch, for which published files are absent")
    start(names)
    failures, kinds = 0, FAULTS["disk" if chosen.disk else "cache" if chosen.cache else "kill"]
    print(
        "| command | disturbed | exit codes | right | wrong |\n| --- | ---: | --- | ---: | ---: |", flush=True
    )
    with tempfile.TemporaryDirectory(prefix="kill-") as place:
        world = World(Path(place) / "work", Path(place) / "inputs")
        world.make()
        for name in names:
            old, new, ended = world.prepare(CASES[name])
            faults = moments(kinds, ended, chosen.times, random.Random(f"{chosen.seed} {name}"))
            trials = [judge(world, CASES[name], fault, old, new) for fault in faults]
            report(name, trials)
            failures += sum(bool(trial.wrong) for trial in trials)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
