"""List the costliest tests in tests/slow.txt until the others take a number of CPU seconds.

    python tools/slow_tests.py [--seconds 400]

`make test` leaves the listed tests out, as it does those that are marked `slow`; `make test-all` runs all.
What the cases of a test function cost is their mean, so that many cheap cases stay. A fixture that is shared
counts for the test that makes it: run the tool again, until nothing is added. Tests that no longer exist are
removed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "tests" / "slow.txt"
_TO = "MANYHOT_CPU_SECONDS"
"""The environment variable with the folder to which each process of a run writes what its tests cost."""


def _cpu_seconds() -> float:
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Function) -> Iterator[None]:
    """Write what a test cost, of this process and of the children that it waited for."""
    before = _cpu_seconds()
    try:
        return (yield)
    finally:
        with Path(os.environ[_TO], str(os.getpid())).open("a") as file:
            file.write(json.dumps([name_of(item), _cpu_seconds() - before]) + "\n")


def name_of(item: pytest.Function) -> str:
    """Return the file and the function of a test, without the case."""
    return f"{item.path.relative_to(LIST.parent).as_posix()}::{item.originalname}"


def costliest(costs: Iterable[tuple[str, float]], seconds: float) -> list[str]:
    """Return the functions whose cases cost most, until the others take at most some seconds."""
    cases = defaultdict[str, list[float]](list)
    for name, cost in costs:
        cases[name].append(cost)
    left, found = sum(map(sum, cases.values())), list[str]()
    for name in sorted(cases, key=lambda n: (-sum(cases[n]) / len(cases[n]), n)):
        if left <= seconds:
            break
        left -= sum(cases[name])
        found.append(name)
    return found


def is_there(name: str) -> bool:
    """Return whether a listed test exists."""
    file, function = name.split("::")
    path = LIST.parent / file
    return path.is_file() and f"def {function}(" in path.read_text()


def main() -> int:
    """Run the tests of `make test` and write the list."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=400, help="CPU seconds of the tests that stay")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = os.pathsep.join(filter(None, [str(ROOT / "tools"), os.environ.get("PYTHONPATH")]))
        command = ["-m", "pytest", "-n", "2", "--dist", "loadfile", "-p", Path(__file__).stem]
        environment = os.environ | {_TO: folder, "PYTHONPATH": paths}
        done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=False)
        lines = [line for file in Path(folder).iterdir() for line in file.read_text().splitlines()]
    costs = [(name, cost) for name, cost in map(json.loads, lines)]
    added = costliest(costs, options.seconds)
    kept = [name for name in LIST.read_text().split() if is_there(name)] if LIST.exists() else []
    LIST.write_text("".join(f"{name}\n" for name in sorted({*kept, *added})))
    total = sum(cost for _, cost in costs)
    print(f"{len(costs):,} tests took {total:,.0f} CPU seconds; {len(added):,} functions were added")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
