"""A disk that fills at any change of a file: the old or the new files stay, and nothing half-written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HELPERS = Path(__file__).resolve().parent / "helpers"

COMMANDS = [
    "-- convert labels.csv labels.parquet",
    "aggregate votes.csv --method majority --out labels.parquet -- aggregate votes.csv --out labels.parquet",
    "-- diagnose errors labels.csv --predictions p.csv --out errors",
]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_disk_that_fills(tmp_path, command):
    """Each change fails once, and files may have 100 to 20,000 bytes; run again, all files are new."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "labels.csv").write_text("image_id,label,class_id,state\na,0,0,yes\nb,1,1,yes\nc,2,0,yes\n")
    (folder / "p.csv").write_text("image_id,class_id,score\na,0,0.9\nb,0,0.8\nc,2,0.7\n")
    rows = ("a,0,x,yes", "a,0,y,yes", "b,1,x,no", "b,1,y,yes", "c,2,x,yes")
    (folder / "votes.csv").write_text("image_id,class_id,rater_id,answer\n" + "\n".join(rows) + "\n")
    path = os.pathsep.join([str(HELPERS), os.environ.get("PYTHONPATH", "")])
    line = [sys.executable, str(HELPERS / "failing_writes.py"), str(folder), *f" {command}".split(" ")]
    env = os.environ | {"PYTHONPATH": path}
    found = subprocess.run(line, capture_output=True, text=True, env=env, timeout=300)
    assert found.returncode == 0, found.stdout + found.stderr
    result = json.loads(found.stdout)
    assert result["wrong"] == []
    assert result["tried"] >= 8
