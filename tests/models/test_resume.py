"""What a run that ended early left: found again, finished, and the same as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from manyhot.errors import InputError, MatchError, OutputError
from manyhot.models import Settings, open_source, run
from manyhot.models.parts import Parts

SLOW = """
import sys, time
import numpy as np
from manyhot.models import Network
sys.path.insert(0, {tests!r})
from small_models import COLOURS, SMALL, mean_colour

def model():
    def forward(images):
        time.sleep(0.004 * len(images))
        return mean_colour(images)
    return Network("tint", COLOURS, SMALL, forward=forward)
"""


def go(source, network, out, **settings):
    return run(open_source(str(source)), network, out, Settings(**settings))


def contents(out):
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


@pytest.fixture
def undisturbed(many, tint, tmp_path):
    go(many, tint, tmp_path / "undisturbed")
    return contents(tmp_path / "undisturbed")


def test_parts_that_are_there_are_not_made_again(many, tint, tmp_path, undisturbed):
    source = open_source(str(many))
    assert [part.n for part in source.parts] == [512, 512, 76]
    out = tmp_path / "out"
    run(source, tint, out, Settings(shard=(1, 3)))
    parts = Parts(out, "tint")
    before = {p: p.stat().st_mtime_ns for p in parts.folder.iterdir()}
    assert [p.name for p in before] == ["00001.parquet"]
    seen = []
    run(source, tint, out, Settings(), notify=lambda kind, told: seen.append((kind, told)))
    assert dict(seen)["model"]["left"] == 588
    assert contents(out) == undisturbed


def test_shards_in_any_order_are_one_run(many, tint, tmp_path, undisturbed):
    out = tmp_path / "out"
    left = [go(many, tint, out, shard=(i, 3)).missing for i in (2, 0, 1)]
    assert left == [2, 1, 0]
    assert contents(out) == undisturbed


def test_a_run_that_is_complete_does_nothing(many, tint, tmp_path, undisturbed):
    done = go(many, tint, tmp_path / "undisturbed")
    assert (done.merged, done.n, done.missing) == (None, 0, 0)
    assert contents(tmp_path / "undisturbed") == undisturbed


def test_killed_at_any_moment(many, tmp_path, undisturbed):
    """kill -9 twice on the way, then to the end: the rows of an undisturbed run."""
    out = tmp_path / "out"
    (tmp_path / "slow.py").write_text(SLOW.format(tests=os.path.dirname(__file__)))  # noqa: PTH120
    words = ["predict", str(many), "--model", "python:slow:model", "--out", str(out)]
    for i in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "manyhot", *words],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 60
        while len(list((out / ".parts").rglob("0*.parquet"))) <= i and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(0.1)  # somewhere within the next part
        process.kill()
        process.wait()
        assert not (out / "tint.parquet").exists()
    subprocess.run([sys.executable, "-m", "manyhot", *words], cwd=tmp_path, check=True, capture_output=True)
    assert set(contents(out)) == set(undisturbed)
    for name in ("tint.parquet", "images.parquet"):  # their metadata tell the call
        assert pq.read_table(out / name).equals(pq.read_table(tmp_path / "undisturbed" / name))
    ids = pq.read_table(out / "tint.parquet")["image_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 1100


def test_ctrl_c_stops_at_once(many, tmp_path):
    (tmp_path / "slow.py").write_text(SLOW.format(tests=os.path.dirname(__file__)).replace("0.004", "0.05"))  # noqa: PTH120
    process = subprocess.Popen(
        [sys.executable, "-m", "manyhot", "predict", str(many), "--model", "python:slow:model"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().startswith("tint: own f32 on cpu")
    time.sleep(0.5)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - begun < 2
    assert (process.returncode, errors) == (130, "Interrupted; no file was left half-written.\n")


@pytest.mark.parametrize(
    ("settings", "what", "got", "allowed"),
    [({"top": 3}, "top", 20, 3), ({"engine": "own", "top": None}, "top", 20, None)],
)
def test_a_folder_of_another_run(many, tint, tmp_path, settings, what, got, allowed):
    out = tmp_path / "out"
    go(many, tint, out, shard=(0, 3))
    with pytest.raises(MatchError) as error:
        go(many, tint, out, **settings)
    part = out / ".parts" / "tint" / "00000.parquet"
    assert str(error.value) == (
        f"The folder holds predictions of another run: its {what} differs.\n"
        f"  where:   {part}\n"
        f"  got:     {got}\n"
        + (f"  allowed: {allowed}\n" if allowed is not None else "")
        + "  do:      choose another --out, or delete these"
    )


def test_a_source_that_changed(many, tint, tmp_path):
    out = tmp_path / "out"
    go(many, tint, out)
    (many / "00000.jpg").unlink()
    with pytest.raises(MatchError) as error:
        go(many, tint, out)
    assert str(error.value).startswith("The folder holds predictions of another run: its source differs.\n")


def test_a_part_that_is_cut(many, tint, tmp_path):
    out = tmp_path / "out"
    go(many, tint, out, shard=(0, 3))
    part = out / ".parts" / "tint" / "00000.parquet"
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(InputError) as error:
        go(many, tint, out)
    assert str(error.value).startswith("A part of an earlier run cannot be read.\n")
    assert str(error.value).endswith("\n  do:      delete it")


def test_a_full_disk(many, tint, tmp_path, monkeypatch):
    """The part that does not fit is not there; those before it are, and the run goes on from them."""
    write, written = pq.write_table, []

    def full(table, where, **options):
        if len(written) == 1:
            raise OSError(28, "No space left on device")
        written.append(where)
        return write(table, where, **options)

    monkeypatch.setattr(pq, "write_table", full)
    out = tmp_path / "out"
    with pytest.raises(OutputError) as error:
        go(many, tint, out)
    assert str(error.value).startswith("The disk is full; this file was not written.\n")
    assert [p.name for p in (out / ".parts" / "tint").iterdir()] == ["00000.parquet"]
    monkeypatch.setattr(pq, "write_table", write)
    assert go(many, tint, out).merged.n == 1100


def test_two_of_one_name_are_found_in_the_end(many, tint, tmp_path):
    """Where a source cannot know in advance."""
    source = open_source(str(many))
    part = replace(source.parts[1], paths=(source.parts[0].paths[0], *source.parts[1].paths[1:]))
    with pytest.raises(InputError) as error:
        run(replace(source, parts=(source.parts[0], part)), tint, tmp_path / "out", Settings())
    assert str(error.value) == (
        "Two images have the same base name.\n"
        f"  where:   {many}\n"
        "  got:     00000.jpg\n"
        "  allowed: each base name once: it is the image's id in every table\n"
        "  do:      rename one of them, and predict them anew"
    )
