"""Benchmarks that several files of tests look at: 15 s of CPU each, so one process evaluates them for all."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

import drawings


def evaluated(name: str, mirror: Path) -> Path:
    """Return the folder of an evaluated benchmark, to be read only; who comes second waits for the first."""
    from manyhot import evaluate

    folder = Path(os.environ[drawings.FOLDER]) / f"evaluated-{name}"
    done = folder.with_suffix(".done")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MANYHOT_MIRROR", str(mirror))
                evaluate(name).write(folder)
            done.touch()
    return folder
