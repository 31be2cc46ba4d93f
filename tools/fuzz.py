"""Break files of every kind that manyhot reads, and see that each is read or refused with a reason.

``python tools/fuzz.py --cases 100000`` or ``--minutes 1``. A case is made from a seed and its number alone:
``--case N`` repeats it. It fails if reading raises anything but a ManyhotError, takes over 20 s of processor
time, needs over 3 GB, ends the process, starts a program, writes a file or opens a connection; or if a change
that does not matter, such as another compression, changes what is read. Each kind of failure is printed once.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

SECONDS, BYTES = 20, 3 << 30
"""Limits of a case."""

FORBIDDEN = (
    "socket.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.remove",
    "os.rename",
)
"""Audit events that reading a file never raises."""


class Watch:
    """What a case did that reading may not do."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.active, self.seen = str(folder), False, list[str]()
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        """Note an event."""
        if not self.active:
            return
        if event.startswith(FORBIDDEN):
            self.seen.append(event)
        elif event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self.seen.append(f"{args[0]} opened for writing")


def worker(seed: int) -> None:
    """Run the cases whose numbers arrive on standard input, each answered by a line of JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries print what they think of a file
    os.dup2(1, 2)
    from fuzz_corpus import corpus

    seeds = corpus()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    originals = [_original(each, folder / "case") for each in seeds]
    watch = Watch(folder)
    resource.setrlimit(resource.RLIMIT_AS, (BYTES + (4 << 30), resource.RLIM_INFINITY))
    print(json.dumps([each.name for each in seeds]), file=answers, flush=True)
    for line in sys.stdin:
        number = int(line)
        answer = run_case(seeds, originals, folder / "case", watch, seed, number)
        print(json.dumps(answer), file=answers, flush=True)
    shutil.rmtree(folder)


def _original(seed: Any, folder: Path) -> tuple[bytes, Any]:
    from fuzz_mutations import write_beside

    path = folder / seed.name
    path.parent.mkdir(parents=True, exist_ok=True)
    seed.make(path)
    write_beside(folder, seed.beside)
    try:
        value = seed.read(path)
    except Exception as error:
        value = type(error).__name__
    content = path.read_bytes()
    shutil.rmtree(folder)
    return content, value


def run_case(
    seeds: list[Any], originals: list[Any], folder: Path, watch: Watch, seed: int, number: int
) -> dict[str, str]:
    """Return what became of a case: ``read``, ``refused``, or what went wrong."""
    from fuzz_mutations import mutate, write_beside

    rng = random.Random(f"{seed} {number}")
    at = rng.randrange(len(seeds))
    content, before = originals[at]
    broken, same = mutate(seeds[at].kind, content, rng)
    path = folder / seeds[at].name
    path.parent.mkdir(parents=True)
    path.write_bytes(broken)
    write_beside(folder, seeds[at].beside)
    os.environ["FUZZ_FILE"] = str(path)
    watch.seen, watch.active = [], True
    try:
        outcome = _outcome(seeds[at], path, before if same and seeds[at].exact else None)
    finally:
        watch.active = False
    if watch.seen:
        outcome = {"outcome": "forbidden", "detail": watch.seen[0]}
    if not os.environ.get("FUZZ_KEEP"):
        shutil.rmtree(folder)
    return outcome | {"seed": seeds[at].name}


def _outcome(seed: Any, path: Path, before: Any) -> dict[str, str]:
    from manyhot.errors import ManyhotError

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            value = seed.read(path)
        except ManyhotError as error:
            str(error).encode()
            if before is not None:
                return {"outcome": "differs", "detail": f"refused: {str(error).splitlines()[0]}"}
            return {"outcome": "refused", "detail": ""}
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)
            own = next((frame for frame in reversed(last) if "/manyhot/" in frame.filename), last[-1])
            place = f"{Path(own.filename).name}:{own.lineno} {own.name}"
            return {
                "outcome": "traceback",
                "detail": f"{type(error).__name__} in {place}: {str(error)[:150]}",
            }
    if before is not None and value != before:
        return {"outcome": "differs", "detail": f"{str(before)[:150]} became {str(value)[:150]}"}
    return {"outcome": "read", "detail": ""}


class Worker:
    """A process that runs cases, and is started again after one that it did not survive."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.start()

    def start(self) -> None:
        """Start the process."""
        command = [sys.executable, __file__, "--worker", "--seed", str(self.seed)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.names = json.loads(self._line(120) or "[]")

    def run(self, number: int) -> dict[str, str]:
        """Run a case."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"%d\n" % number)
        self.process.stdin.flush()
        line = self._line(SECONDS)
        if line:
            return json.loads(line)  # type: ignore[no-any-return]
        code = self.process.poll()
        self.stop()
        self.start()
        what = f"took over {SECONDS} s" if code is None else f"ended the process with {code}"
        return {
            "outcome": "died",
            "detail": what,
            "seed": self.names[_seed_of(self.seed, number, self.names)],
        }

    def _line(self, seconds: float) -> bytes:
        """Return the answer of the process, unless it ends or computes for longer."""
        assert self.process.stdout is not None
        begin = _cpu_seconds(self.process.pid)
        while self.process.poll() is None:
            if select.select([self.process.stdout], [], [], 1.0)[0]:
                return self.process.stdout.readline()
            waited = _cpu_seconds(self.process.pid)
            begin -= 0.05  # a process that sleeps does not wait for ever
            if waited - begin > seconds:
                return b""
        return b""

    def stop(self) -> None:
        """End the process."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def _seed_of(seed: int, number: int, names: list[str]) -> int:
    return random.Random(f"{seed} {number}").randrange(len(names))


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run cases, and print the failures of each kind once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000, help="number of cases")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--case", type=int, help="repeat one case, and keep its file")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        worker(asked.seed)
        return
    if asked.case is not None:
        os.environ["FUZZ_KEEP"] = "1"
    failures = run(asked)
    sys.exit(1 if failures else 0)


def run(asked: argparse.Namespace) -> int:
    """Run the cases that were asked for, and return how many failed."""
    runner = Worker(asked.seed)
    end = time.monotonic() + 60 * asked.minutes
    counts: collections.Counter[str] = collections.Counter()
    kinds: collections.Counter[tuple[str, str, str]] = collections.Counter()
    numbers = [asked.case] if asked.case is not None else range(asked.first, asked.first + asked.cases)
    for number in numbers:
        if time.monotonic() > end:
            break
        found = runner.run(number)
        counts[found["outcome"]] += 1
        if found["outcome"] in ("read", "refused"):
            continue
        kind = (found["seed"], found["outcome"], found["detail"].partition(": ")[0])
        kinds[kind] += 1
        if kinds[kind] == 1:
            print(f"case {number}, {found['seed']}: {found['outcome']}: {found['detail']}", flush=True)
    runner.stop()
    failed = sum(counts.values()) - counts["read"] - counts["refused"]
    print(f"{sum(counts.values()):,} cases of seed {asked.seed}: {dict(counts)}")
    return failed


if __name__ == "__main__":
    main()
