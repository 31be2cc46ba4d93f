"""Test the core with the oldest and the newest versions of its dependencies, on each Python.

    python tools/versions.py                         # what `make test-versions` runs
    python tools/versions.py 3.13 --pins oldest

The Pythons are those that pyproject.toml names, found on PATH as ``python3.11`` and so on. The wheel is
installed without extras into an environment of its own, beside pytest; then help, usage errors, missing
extras, tables and the arithmetic of the core are tested. A Python that is absent is named, and is a failure.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

REPO = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TESTS = ("tests/minimal", "tests/test_command.py", "tests/tables", "tests/core")
TOOLS = ("pytest", "pytest-xdist", "hypothesis")
REFERENCES = re.compile(
    r"^(from|import) (sklearn|skimage|krippendorff|faster_coco_eval|PIL)|^ +from cleanlab", re.M
)
"""What tests of the core compare with, and the core does not install: these files are left out."""


def oldest(python: str) -> list[str]:
    """Return ``name==version`` of each dependency of the core, as pyproject.toml allows on a Python."""
    pins: dict[str, Version] = {}
    for asked in map(Requirement, PROJECT["dependencies"]):
        if asked.marker is None or asked.marker.evaluate({"python_version": python}):
            (bound,) = (Version(s.version) for s in asked.specifier if s.operator == ">=")
            pins[asked.name] = max(pins.get(asked.name, bound), bound)
    return [f"{name}=={version}" for name, version in pins.items()]


PINS: dict[str, Callable[[str], list[str]]] = {"oldest": oldest, "newest": lambda python: []}
"""What is asked of pip beside the wheel, for a Python."""


class Failure(Exception):
    """What a combination failed with."""


def pythons() -> list[str]:
    """Return the versions of Python that pyproject.toml names."""
    return [
        found[1] for line in PROJECT["classifiers"] if (found := re.search(r":: Python :: (\d\.\d+)$", line))
    ]


def interpreter(version: str) -> str:
    """Return the first Python of this version on PATH that runs: those of pyenv may not."""
    asked = "import sys; print('%d.%d' % sys.version_info[:2])"
    found = (Path(folder) / f"python{version}" for folder in os.get_exec_path())
    for path in (*found, Path(sys.executable)):
        if path.is_file():
            ran = subprocess.run([path, "-c", asked], capture_output=True, text=True)
            if ran.stdout.strip() == version:
                return str(path)
    raise Failure(f"not tested: no python{version} on PATH")


def left_out() -> list[str]:
    """Return options that leave out the tests of the core that need packages which it does not install."""
    files = sorted((REPO / "tests" / "core").glob("*.py"))
    return [
        f"--ignore={path.relative_to(REPO)}" for path in files if REFERENCES.search(path.read_text("utf-8"))
    ]


def checked(command: Sequence[str | Path]) -> str:
    """Run a command without this code on the path of imports; return what it prints."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env["MANYHOT_MINIMAL"] = "1"
    ran = subprocess.run(
        command, cwd=REPO, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if ran.returncode:
        raise Failure(f"failed: {' '.join(map(str, command))}\n{ran.stdout}")
    return ran.stdout


def tested(version: str, pins: Sequence[str], wheel: Path, folder: Path, options: Sequence[str]) -> str:
    """Install the wheel and test it; return what was installed and the last line of pytest."""
    checked([interpreter(version), "-m", "venv", folder])
    python = folder / "bin" / "python"
    checked([python, "-m", "pip", "install", "--quiet", "--only-binary=:all:", wheel, *TOOLS, *pins])
    names = [pin.partition("==")[0] for pin in oldest(version)]
    said = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    installed = ", ".join(
        map(" ".join, zip(names, checked([python, "-c", said, *names]).split(), strict=True))
    )
    # Old versions warn of what newer Pythons will no longer have.
    lenient = ["-W", "ignore::DeprecationWarning"] if pins else []
    distribute = ["--dist", "loadfile", "--no-loadscope-reorder"]
    pytest = [python, "-m", "pytest", "-p", "no:cacheprovider", *distribute, *lenient, *left_out()]
    printed = checked([*pytest, *options])
    return f"{printed.strip().splitlines()[-1]}; {installed}"


def children_cpu() -> float:
    """Return the CPU seconds of all commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each combination; 1 if one fails or was not tested."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pythons", nargs="*", help=f"such as 3.12; {', '.join(pythons())} unless given")
    parser.add_argument("--pins", choices=[*PINS], help="both unless given")
    parser.add_argument("--tests", nargs="+", default=TESTS, help=f"{' '.join(TESTS)} unless given")
    parser.add_argument("--jobs", default="auto", help="processes of pytest")
    chosen = parser.parse_args(arguments)
    failures = 0
    with tempfile.TemporaryDirectory(prefix="versions-") as place:
        checked([sys.executable, "-m", "build", "--quiet", "--wheel", "--outdir", place])
        (wheel,) = Path(place).glob("*.whl")
        for version, pins in product(chosen.pythons or pythons(), [chosen.pins] if chosen.pins else PINS):
            begun, before = time.monotonic(), children_cpu()
            folder, options = Path(place) / f"{version}-{pins}", ["-n", chosen.jobs, *chosen.tests]
            try:
                ended = tested(version, PINS[pins](version), wheel, folder, options)
            except Failure as failure:
                ended, failures = str(failure), failures + 1
            took = f"{time.monotonic() - begun:.0f} s, {children_cpu() - before:.0f} CPU s"
            print(f"Python {version}, {pins} ({took}): {ended}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
