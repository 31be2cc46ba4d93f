"""A disk that fills at any change of a file: the old or the new files stay, and nothing half-written."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from manyhot.files import write_refused

RAY = "predict ray"
TOOL = Path(__file__).resolve().parents[1] / "tools" / "kill.py"


def disturbed(*arguments):
    """Run the tool, which ends with 1 where a file is neither old nor new, or left, or differs afterwards."""
    pytest.importorskip("torch")
    found = subprocess.run(
        [sys.executable, str(TOOL), *arguments], capture_output=True, text=True, timeout=900
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_a_disk_that_fills():
    """At the first and the last change: files cannot be opened, or not be written."""
    printed = disturbed("--disk", "--times", "4", "convert")
    assert printed.splitlines()[-1].startswith("| convert | 4 | 0×2 6×2 | ")


@pytest.mark.slow
def test_a_disk_that_fills_in_every_command(monkeypatch):
    """Not below a study, whose four trainings take minutes, nor below clusters of Ray, which start slowly."""
    monkeypatch.syspath_prepend(TOOL.parent)
    from kill_inputs import CASES

    printed = disturbed("--disk", "--times", "4", *(name for name in CASES if name not in ("study", RAY)))
    assert len(printed.splitlines()) > 40


@pytest.mark.slow
def test_a_read_only_cache():
    """The files are those of a run that may write its cache; `fetch` ends with an error."""
    printed = disturbed("--cache", "predict", "evaluate", "fetch")
    assert len(printed.splitlines()) >= 4


@pytest.mark.slow
def test_killed_commands(monkeypatch):
    """Not Ray's clusters, which start slowly: `make kill` kills these, too."""
    monkeypatch.syspath_prepend(TOOL.parent)
    from kill import KILLED

    disturbed("--times", "4", *(name for name in KILLED if name != RAY))


def test_every_command_has_a_case(monkeypatch):
    monkeypatch.syspath_prepend(TOOL.parent)
    from kill_inputs import unlisted

    assert unlisted() == set(), "give new commands a case in tools/kill_inputs.py, or say why they have none"


@pytest.mark.parametrize(
    ("number", "what", "do"),
    [
        (
            errno.ENOSPC,
            "The disk is full; this file was not written.",
            "free some space or choose another `out`",
        ),
        (
            errno.EDQUOT,
            "The disk is full; this file was not written.",
            "free some space or choose another `out`",
        ),
        (
            errno.EROFS,
            "Cannot write the file: Read-only file system.",
            "choose a folder with write permission",
        ),
        (
            errno.EMFILE,
            "Cannot write the file: Too many open files.",
            "allow more open files, for example with: ulimit -n 256",
        ),
        (
            errno.EFBIG,
            "Cannot write the file: File too large.",
            "allow larger files, for example with: ulimit -f unlimited",
        ),
    ],
)
def test_what_to_do(number, what, do):
    error = write_refused(Path("o.csv"), OSError(number, os.strerror(number)))
    assert str(error) == f"{what}\n  where:   o.csv\n  do:      {do}"
