"""Names that are suggested for a missing file, and temporary files that killed processes left."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from manyhot import files
from manyhot.files import local_path, near_paths, write_text

WRITE = """
import sys, time
from manyhot.files import atomic_write
with atomic_write("o.csv") as part:
    part.write_text("half")
    print(part.name, flush=True)
    sys.stdin.read()
"""


def present(folder):
    return {path.name for path in folder.iterdir()}


def test_what_a_killed_process_left_is_removed(tmp_path, monkeypatch):
    """And not what a living one is writing, nor files of other names."""
    monkeypatch.setattr(files, "_PARTS", {})
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": tmp_path}
    with subprocess.Popen([sys.executable, "-c", WRITE], **pipes) as writing:
        own = writing.stdout.readline().strip()
        with subprocess.Popen([sys.executable, "-c", WRITE], **pipes) as killed:
            left = killed.stdout.readline().strip()
            killed.send_signal(signal.SIGKILL)
        others = {".o.csv.part", ".p.csv.abcdefgh.part", ".o.csv.abcdefgh.parts"}
        for name in others:
            (tmp_path / name).touch()
        assert present(tmp_path) == {own, left, *others}
        write_text(tmp_path / "o.csv", "whole")
        assert present(tmp_path) == {own, "o.csv", *others}
    assert (tmp_path / "o.csv").read_text() == "half"
    assert present(tmp_path) == {"o.csv", *others}
    assert writing.returncode == 0


def test_a_file_that_another_process_removed_before_it_was_locked(tmp_path, monkeypatch):
    lock, names = files._lock, []

    def late(handle, wait=False):
        names.append(Path(f"/proc/self/fd/{handle}").readlink())
        if len(names) == 1:
            names[0].unlink()
        return lock(handle, wait)

    monkeypatch.setattr(files, "_lock", late)
    write_text(tmp_path / "o.csv", "whole")
    assert len(names) == 2
    assert present(tmp_path) == {"o.csv"}


@pytest.mark.parametrize(
    ("missing", "near"),
    [
        ("lables.csv", ["labels.csv"]),
        ("Labels.csv", ["labels.csv"]),
        ("labels.parquet", ["labels.csv"]),  # the same name with another suffix
        ("votes.tsv", ["votes.csv"]),
        ("vote.csv", ["votes.csv"]),
        ("prediction", ["predictions"]),
        ("nothere.csv", []),  # the same suffix is not likeness
        ("scores.csv", []),
        ("x.csv", []),
        ("none/labels.csv", []),
    ],
)
def test_only_similar_names_are_suggested(tmp_path, missing, near):
    for name in ("labels.csv", "labels.txt", "votes.csv", "predictions", "rows.csv", "notes.csv"):
        (tmp_path / name).touch()
    assert near_paths(tmp_path / missing) == [str(tmp_path / name) for name in near]


def test_the_most_similar_name_comes_first(tmp_path):
    for name in ("photos", "photos2", "photo-set", "phones.csv"):
        (tmp_path / name).touch()
    assert near_paths(tmp_path / "photo", n=2) == [str(tmp_path / "photos"), str(tmp_path / "photos2")]


@pytest.mark.parametrize("name", ["a b.jpg", "100%.jpg", "a%20b.jpg", "ä?.jpg"])
def test_the_path_of_a_url(tmp_path, name):
    path = tmp_path / name
    path.touch()
    assert local_path(path.as_uri()) == local_path(f"file://{path}") == local_path(str(path)) == path
    assert local_path("s3://photos/a%20b.jpg") is None
