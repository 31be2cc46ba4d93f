"""Run tests in forks of a process that has imported other packages, but nothing of this one.

Reads a request per line, and prints for each the results as lines of JSON. `tools/mutate.py` runs mutants
with it: a new process for each would spend three seconds on imports, most of what a killed mutant takes.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import inspect
import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PACKAGES = (
    *("numpy.testing", "scipy.stats", "scipy.optimize", "scipy.sparse", "scipy.special", "pyarrow.parquet"),
    *(
        "pyarrow.dataset",
        "pyarrow.csv",
        "pandas",
        "polars",
        "PIL.Image",
        "hypothesis.strategies",
        "rich.table",
    ),
    *(
        "typer",
        "fastapi.testclient",
        "sqlalchemy.orm",
        "alembic.command",
        "jinja2",
        "altair",
        "sklearn.metrics",
    ),
    *("vl_convert", "torch", "torchvision", "timm"),
)
"""What most tests import; those that are not installed are left out."""

SILENCE = 240.0
"""Seconds after which a test hangs: the longest takes 60 on two busy cores."""


@dataclass(frozen=True)
class Outcome:
    """How a run of tests ended.

    Attributes
    ----------
    failed : str or None
        The first test that failed or hung, or a file that could not be imported.
    hung : bool
    ran : int
        How many tests were begun.
    all_ran : bool
        False if the time was over before the last test.
    """

    failed: str | None
    hung: bool
    ran: int
    all_ran: bool


class WarmTests:
    """Runs tests with a copy of the code."""

    def __init__(self, root: Path, code: Path) -> None:
        # Threads that this process had started would be absent from its forks; tests have one thread, too.
        one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
        env = {**os.environ, **one, "PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": ""}
        self._process = subprocess.Popen(
            [sys.executable, __file__, *PACKAGES],
            cwd=root,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._unread = b""

    def run(
        self,
        tests: Sequence[str],
        words: Mapping[str, float] | None = None,
        seconds: float = 1800,
        without: Sequence[str] = (),
    ) -> Outcome:
        """Run tests up to the first that fails.

        Parameters
        ----------
        tests
            Files or names of tests, in the order to run.
        words
            The weights of words; tests in which important words occur run first.
        seconds
            Start no further test when the tests have computed so long.
        without
            Names of tests to leave out.
        """
        request = {"tests": [*tests], "words": words or {}, "seconds": seconds, "without": [*without]}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        pid, current, hung, ran = int(self._line()), None, False, 0
        while True:
            line = self._line(SILENCE)
            if not line:
                hung = True
                self._stop(pid)
                continue
            event = json.loads(line)
            if "died" in event:
                failed = event["failed"] or (current or tests[0] if hung or event["died"] else None)
                return Outcome(failed, hung, ran, event["all_ran"])
            current = event["test"]
            ran += 1

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _stop(self, pid: int) -> None:
        for number in (signal.SIGINT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)
            if select.select([self._process.stdout], [], [], 10)[0]:
                return

    def _line(self, seconds: float | None = None) -> bytes:
        """Return the next line of the process; nothing if there is none for so long."""
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            if not select.select([pipe], [], [], seconds)[0]:
                return b""
            read = os.read(pipe, 4096)
            if not read:
                raise EOFError("the process that runs tests has ended")
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return line


class _Events:
    """A plug-in of pytest that orders tests, stops them, and reports what they do."""

    def __init__(self, pipe: int, files: Sequence[str], words: Mapping[str, float], seconds: float) -> None:
        self._pipe, self._words, self._until = pipe, words, _cpu_time() + seconds
        self._left = 0
        self._place = {file.partition("::")[0]: i for i, file in enumerate(files)}
        self.failed: str | None = None
        self.all_ran = True

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self._session = session

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Iterator[None]:
        yield
        items.sort(key=self._order)
        self._left = len(items)

    def _order(self, item: pytest.Item) -> tuple[bool, int, float]:
        file = item.path.relative_to(item.config.rootpath).as_posix()
        words = {*re.findall(r"\w+", item.name + _source(item))}
        value = sum(weight for word, weight in self._words.items() if word in words)
        return item.get_closest_marker("slow") is not None, self._place.get(file, 0), -value

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed and self.failed is None:
            self.failed = report.nodeid

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        os.write(self._pipe, json.dumps({"test": nodeid}).encode() + b"\n")

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and self.failed is None:
            self.failed = report.nodeid

    def pytest_runtest_logfinish(self) -> None:
        self._left -= 1
        if self._left and _cpu_time() > self._until:
            self.all_ran = False
            self._session.shouldstop = "the time is over"


def _cpu_time() -> float:
    """Return the seconds that this process and those that it waited for have computed."""
    return sum(os.times()[:4])


def _source(item: pytest.Item) -> str:
    with contextlib.suppress(OSError, TypeError):
        return inspect.getsource(item.function)  # type: ignore[attr-defined]
    return ""


def _serve() -> None:
    """Fork for each request, and report how it ended."""
    pipe = os.dup(1)
    for line in sys.stdin:
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.close(read)
            os.setsid()
            _run(pipe, write, **json.loads(line))
        os.close(write)
        os.write(pipe, f"{child}\n".encode())
        os.waitpid(child, 0)
        with contextlib.suppress(ProcessLookupError):  # servers that tests left
            os.killpg(child, signal.SIGKILL)
        with os.fdopen(read, "rb") as result:
            os.write(pipe, result.readline() or b'{"died": true, "failed": null, "all_ran": false}\n')


def _run(
    pipe: int,
    result: int,
    tests: Sequence[str],
    words: Mapping[str, float],
    seconds: float,
    without: Sequence[str],
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells ignore for what they run behind
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    events = _Events(pipe, tests, words, seconds)
    # The plug-in of Schemathesis takes each fork half a second to import.
    options = ["-x", "-m", "not gpu", "-p", "no:xdist", "-p", "no:cacheprovider", "-p", "no:schemathesis"]
    # Plug-ins that packages bring, whose assertions need no words.
    options += ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    code = 1
    try:
        code = pytest.main([*options, *(f"--deselect={test}" for test in without), *tests], plugins=[events])
    finally:
        if code not in (0, 1, 2, 5) and events.failed is None:
            events.failed = tests[0]
        os.write(
            result,
            json.dumps({"died": False, "failed": events.failed, "all_ran": events.all_ran}).encode() + b"\n",
        )
        atexit._run_exitfuncs()
        os._exit(0)


if __name__ == "__main__":
    gc.disable()
    for package in sys.argv[1:]:
        with contextlib.suppress(ImportError):
            importlib.import_module(package)
    gc.collect()
    gc.freeze()
    gc.enable()
    _serve()
