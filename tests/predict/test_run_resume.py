"""What a run that ended early left: found again, finished, and the same as if nothing had happened."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from forking import predictions
from manyhot.classes import from_keys
from manyhot.errors import InputError, MatchError, OutputError
from manyhot.predict.engines import EngineOptions
from manyhot.predict.parts import PartFiles
from manyhot.predict.run import PredictSettings, prepare_run, run
from manyhot.predict.scoring import score_parts
from manyhot.predict.sources import Files, SourceLostError, open_source
from manyhot.predict.sources.source import ImageSource
from small_models import COLOURS

HELPERS = str(Path(__file__).parents[1] / "helpers")

SLOW = """
import sys, time
from pathlib import Path
import numpy as np
from manyhot.predict.network import Network
sys.path.insert(0, {tests!r})
from small_models import COLOURS, SMALL, mean_colour

def model():
    most = int(Path("parts").read_text()) if Path("parts").exists() else 99
    def forward(images):
        Path("begun").touch()
        time.sleep(0.004 * len(images))
        while len(list(Path("out").rglob("0*.parquet"))) > most:
            time.sleep(0.01)
        return mean_colour(images)
    return Network("tint", COLOURS, SMALL, forward=forward)
"""


pytestmark = pytest.mark.usefixtures("quick_trials")


def opened(folder):
    """Return a source of 46 images, twenty a part."""
    names = sorted(path.name for path in Path(folder).iterdir())
    parts = tuple(Files(f"{i:05}", str(folder), tuple(names[20 * i :][:20])) for i in range(3))
    return ImageSource(str(folder), parts)


def go(folder, network, out, notify=None, **settings):
    return run(opened(folder), network, out, PredictSettings(**settings), "a call", notify)


def contents(out):
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


@pytest.fixture
def few(tmp_path):
    """46 noisy images, of which one is empty."""
    (tmp_path / "few").mkdir()
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (46, 16, 20, 3), np.uint8)):
        Image.fromarray(pixels).save(tmp_path / "few" / f"{i:05}.jpg")
    (tmp_path / "few" / "00003.jpg").write_bytes(b"")
    return tmp_path / "few"


@pytest.fixture
def undisturbed(few, tint, tmp_path):
    go(few, tint, tmp_path / "undisturbed")
    return contents(tmp_path / "undisturbed")


def test_parts_that_are_there_are_not_made_again(few, tint, tmp_path, undisturbed):
    out = tmp_path / "out"
    go(few, tint, out, shard=(1, 3))
    assert [p.name for p in PartFiles(out, "tint").folder.iterdir()] == ["00001.parquet"]
    seen = []
    done = go(few, tint, out, notify=lambda kind, told: seen.append((kind, told)))
    assert dict(seen)["model"]["left"] == done.n == 26
    assert contents(out) == undisturbed


def test_progress_and_rate_are_of_this_run(few, tint, tmp_path):
    """Images that were there already are not counted; the time left is that of the rest at this pace."""
    out, told = tmp_path / "out", []
    go(few, tint, out, shard=(1, 3))
    begun = time.perf_counter()
    done = go(
        few,
        tint,
        out,
        lambda kind, event: kind == "progress" and told.append(event),
        engine_options=EngineOptions(batch=5),
    )
    took = time.perf_counter() - begun
    assert [(t["images"], t["of"]) for t in told] == [(n, 26) for n in (5, 10, 15, 20, 25, 26)]
    for t in told:
        left = (26 - t["images"]) / t["images_per_second"]
        assert t["seconds_left"] == pytest.approx(left, rel=0.01, abs=0.1)  # both are rounded
    assert done.rate > done.n / took
    assert go(few, tint, out).rate == 0


def test_shards_in_any_order_are_one_run(few, tint, tmp_path, undisturbed):
    out = tmp_path / "out"
    left = [go(few, tint, out, shard=(i, 3)).missing for i in (2, 0, 1)]
    assert left == [2, 1, 0]
    assert contents(out) == undisturbed
    again = go(few, tint, out, shard=(0, 3))
    assert (again.merged, again.n, again.missing) == (None, 0, 0)


def test_more_shards_than_parts(few, tint, tmp_path, undisturbed):
    """Some have nothing to do, whenever they come."""
    out = tmp_path / "out"
    done = [go(few, tint, out, shard=(i, 5)) for i in (4, 0, 3, 1, 2)]
    assert [(d.n, d.missing) for d in done] == [(0, 3), (20, 2), (0, 2), (20, 1), (6, 0)]
    assert [d.missing_shards for d in done] == [(0, 1, 2), (1, 2), (1, 2), (2,), ()]
    assert contents(out) == undisturbed


def test_a_shard_without_images_that_ends_last(few, tint, tmp_path, undisturbed):
    out = tmp_path / "out"
    idle = prepare_run(opened(few), tint, out, PredictSettings(shard=(4, 5)))
    for i in range(3):
        job = prepare_run(opened(few), tint, out, PredictSettings(shard=(i, 5)))
        for (scored,) in score_parts([[(part, job.scorer)] for part in job.missing]):
            job.write(scored)
    done = idle.finish("a call")
    assert (done.merged.n, done.merged.n_skipped) == (45, 1)
    assert contents(out) == undisturbed  # the engine among it


@pytest.mark.parametrize("shards", [[(0, 1)] * 3, [(0, 3), (1, 3), (2, 3)], [(0, 2), (1, 2), (0, 1)]])
def test_processes_at_once(few, tint, tmp_path, undisturbed, shards):
    """The same command several times, and shards that end together: nobody takes away what another reads."""
    out = tmp_path / "out"
    for _ in range(5):
        with ThreadPoolExecutor(len(shards)) as pool:
            done = list(pool.map(lambda shard: go(few, tint, out, shard=shard), shards))
        assert contents(out) == undisturbed
        assert any(d.merged and (d.merged.n, d.merged.n_skipped) == (45, 1) for d in done)
        shutil.rmtree(out)


def test_two_models_at_once(few, tint, tmp_path):
    """Both write the images and what was skipped."""
    models = [replace(tint, name=name) for name in "abcd"]
    for model in models:
        go(few, model, tmp_path / "one")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda model: go(few, model, tmp_path / "out"), models))
    assert contents(tmp_path / "out") == contents(tmp_path / "one")


def test_a_run_that_is_complete_does_nothing(few, tint, tmp_path, undisturbed):
    done = go(few, tint, tmp_path / "undisturbed")
    assert (done.merged, done.n, done.missing) == (None, 0, 0)
    assert contents(tmp_path / "undisturbed") == undisturbed


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="absent: os.fork")
def test_killed_at_each_step(few, tint, tmp_path):
    """kill -9 at each step in the file system; the same command leaves what an undisturbed one does."""
    for path in sorted(few.iterdir())[8:]:
        path.unlink()
    names = sorted(path.name for path in few.iterdir())
    parts = tuple(Files(f"{i:05}", str(few), tuple(names[4 * i :][:4])) for i in range(2))
    run(ImageSource(str(few), parts), tint, tmp_path / "undisturbed", PredictSettings())
    here = HELPERS
    script = f"import runpy, sys; sys.path[0] = {here!r}; runpy.run_path({here + '/dying.py'!r})"
    told = predictions.run(few, tmp_path / "out", tmp_path / "undisturbed", script=script)
    steps, _, wrong = told.stdout.strip().partition(" ")
    assert wrong == "[]"
    assert int(steps) > 30


@pytest.mark.slow
def test_killed_at_any_moment(many, tint, tmp_path):
    """kill -9 twice on the way, then to the end: the rows of an undisturbed run."""
    out = tmp_path / "out"
    run(open_source(many), tint, tmp_path / "undisturbed", PredictSettings())
    (tmp_path / "slow.py").write_text(SLOW.format(tests=HELPERS))
    words = ["predict", str(many), "--model", "python:slow:model", "--out", str(out)]
    for i in range(2):
        (tmp_path / "parts").write_text(str(i))  # it comes no further than into the one after these
        process = predictions.start(*words, folder=tmp_path, cwd=tmp_path)
        until = time.monotonic() + 60
        while len(list((out / ".parts").rglob("0*.parquet"))) <= i and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(0.1)  # somewhere within the next part
        process.kill()
        process.wait()
        assert not (out / "tint.parquet").exists()
    (tmp_path / "parts").unlink()
    predictions.run(*words, cwd=tmp_path)
    assert set(contents(out)) == set(contents(tmp_path / "undisturbed"))
    for name in ("tint.parquet", "images.parquet"):  # their metadata tell the call
        assert pq.read_table(out / name).equals(pq.read_table(tmp_path / "undisturbed" / name))
    ids = pq.read_table(out / "tint.parquet")["image_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 1100


@pytest.mark.slow
def test_ctrl_c_stops_at_once(many, tmp_path):
    (tmp_path / "slow.py").write_text(SLOW.format(tests=HELPERS).replace("0.004", "0.05"))
    process = subprocess.Popen(
        [sys.executable, "-m", "manyhot", "predict", str(many), "--model", "python:slow:model"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().startswith("tint: own f32 on cpu")
    until = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)  # of the 55 that it would take
    assert (process.returncode, errors) == (130, "Interrupted; no file was left half-written.\n")


@pytest.mark.parametrize(
    ("settings", "what", "got", "allowed"),
    [({"top": 3}, "top", 20, 3), ({"engine": "own", "top": None}, "top", 20, None)],
)
@pytest.mark.parametrize("shard", [(0, 1), (1, 3)])
def test_a_folder_of_another_run(few, tint, tmp_path, settings, what, got, allowed, shard):
    out = tmp_path / "out"
    go(few, tint, out, shard=(0, 3))
    with pytest.raises(MatchError) as error:
        go(few, tint, out, shard=shard, **settings)
    part = out / ".parts" / "tint" / "00000.parquet"
    assert str(error.value) == (
        f"The folder contains predictions from another run, which differs in {what}.\n"
        f"  where:   {part}\n"
        f"  got:     {got}\n"
        + (f"  allowed: {allowed}\n" if allowed is not None else "")
        + "  do:      choose another `out`, or delete these files"
    )


def test_shards_of_other_settings_at_once(few, tint, tmp_path):
    """Begun when no part was there that could have told."""
    out = tmp_path / "out"
    job = prepare_run(opened(few), tint, out, PredictSettings(shard=(1, 3), top=3))
    go(few, tint, out, shard=(0, 3))
    go(few, tint, out, shard=(2, 3))
    for (scored,) in score_parts([[(part, job.scorer)] for part in job.missing]):
        job.write(scored)
    with pytest.raises(MatchError) as error:
        job.finish()
    assert str(error.value).startswith(
        "The folder contains predictions from another run, which differs in top.\n"
    )
    assert not (out / "tint.parquet").exists()


def test_a_source_that_changed(few, tint, tmp_path):
    out = tmp_path / "out"
    go(few, tint, out)
    (few / "00000.jpg").unlink()
    with pytest.raises(MatchError) as error:
        go(few, tint, out)
    assert str(error.value).startswith(
        "The folder contains predictions from another run, which differs in source.\n"
    )
    with pytest.raises(MatchError) as error:
        go(few, replace(tint, name="other"), out)
    assert str(error.value) == (
        "The folder contains a table of different images, or of the same images with different labels.\n"
        f"  where:   {out / 'images.parquet'}\n"
        "  do:      choose another `out`"
    )


def test_a_table_of_images_that_is_not_ours(few, tint, tmp_path):
    """It may hold the very images: it is not written over."""
    path = tmp_path / "images.parquet"
    pq.write_table(pa.table({"image_id": ["a"], "image": [b"of somebody"]}), path)
    before = path.read_bytes()
    with pytest.raises(MatchError, match="The folder contains a table of different images"):
        go(few, tint, tmp_path)
    path.write_bytes(b"cut")
    with pytest.raises(InputError, match="The file is not a complete Parquet file"):
        go(few, tint, tmp_path)
    path.unlink()
    (tmp_path / "skipped.csv").write_text("file,why\na,b\n")
    with pytest.raises(MatchError) as error:
        go(few, tint, tmp_path)
    assert str(error.value) == (
        "The folder contains a file that manyhot did not write.\n"
        f"  where:   {tmp_path / 'skipped.csv'}\n"
        "  do:      choose another `out`"
    )
    assert before


def test_labels_in_two_class_lists(folder, tint, tmp_path):
    """The images table has one column of labels."""
    other = replace(tint, name="other", classes=from_keys(("grey", "red", "green", "blue"), "turned"))
    run(open_source(folder), tint, tmp_path / "out", PredictSettings())
    with pytest.raises(MatchError) as error:
        run(open_source(folder), other, tmp_path / "out", PredictSettings())
    assert str(error.value) == (
        "The labels of the images in the folder use a different class list.\n"
        f"  where:   {tmp_path / 'out' / 'images.parquet'}\n"
        f"  got:     that of other: {other.classes.hash}\n"
        f"  allowed: {COLOURS.hash}\n"
        "  do:      pass the same `classes` for both models, or choose another `out`"
    )


def test_output_among_the_tables_of_the_source(few, tint, tmp_path):
    tables = tmp_path / "tables"
    tables.mkdir()
    images = [path.read_bytes() for path in sorted(few.iterdir())[:2]]
    pq.write_table(pa.table({"image": images, "image_id": ["a.jpg", "b.jpg"]}), tables / "a.parquet")
    for source, out in ((tables, tables / "out"), (tables, tables), (f"{tables}/*.parquet", tables)):
        with pytest.raises(InputError) as error:
            run(open_source(source), tint, out, PredictSettings())
        assert str(error.value) == (
            "The output folder is inside the folder of the image tables.\n"
            f"  where:   {out}\n"
            f"  got:     Parquet files in {source}, which are the source\n"
            "  do:      choose an `out` outside that folder"
        )
    run(open_source(tables / "a.parquet"), tint, tables, PredictSettings())  # which alone is read
    assert (tables / "tint.parquet").exists()


@pytest.mark.parametrize("content", [b"", b"PAR1 and nothing", None], ids=["empty", "garbage", "cut"])
def test_a_part_that_is_damaged(few, tint, tmp_path, undisturbed, content):
    """By a disk that lost power, or a copy that was broken off: it is made again, whoever made it."""
    out = tmp_path / "out"
    go(few, tint, out, shard=(0, 3))
    go(few, tint, out, shard=(1, 3))
    part = out / ".parts" / "tint" / "00000.parquet"
    part.write_bytes(part.read_bytes()[:-100] if content is None else content)
    assert go(few, tint, out, shard=(2, 3)).missing == 1
    assert go(few, tint, out).n == 20
    assert contents(out) == undisturbed


def test_a_part_that_is_damaged_within(few, tint, tmp_path):
    """Its end, which tells what it is, is whole."""
    out = tmp_path / "out"
    go(few, tint, out, shard=(0, 3))
    go(few, tint, out, shard=(1, 3))
    part = out / ".parts" / "tint" / "00000.parquet"
    content = part.read_bytes()
    part.write_bytes(b"\xff" * 400 + content[400:])
    with pytest.raises(InputError) as error:
        go(few, tint, out)
    lines = str(error.value).split("\n")
    assert lines[:2] == ["A part of an earlier run cannot be read.", f"  where:   {part}"]
    assert lines[2].startswith("  got:     ")
    assert lines[3:] == ["  do:      delete it, and run the same command again"]
    assert not (out / "tint.parquet").exists()


def test_what_a_killed_process_left_is_removed(few, tint, tmp_path, undisturbed):
    out = tmp_path / "undisturbed"
    (out / ".parts" / "tint").mkdir(parents=True)
    (out / ".parts" / "tint" / "00000.parquet").touch()
    (out / ".lock").touch()
    for name in ("tint.parquet", "images.parquet", "skipped.csv", "embeddings/tint.npy"):
        path = out / name
        path.parent.mkdir(exist_ok=True)
        (path.parent / f".{path.name}.k2j3.part").touch()
    go(few, tint, out)
    assert contents(out) == undisturbed


def test_a_folder_that_cannot_be_written_to(few, tint, tmp_path):
    """Said before the first image is scored."""
    (tmp_path / "out").touch()
    seen = []
    with pytest.raises(OutputError) as error:
        go(few, tint, tmp_path / "out" / "x", notify=lambda kind, told: seen.append(kind))
    assert str(error.value) == (
        "Cannot write the file: Not a directory.\n"
        f"  where:   {tmp_path / 'out' / 'x' / '.lock'}\n"
        "  do:      choose a folder with write permission"
    )
    assert not seen


def test_a_full_disk(few, tint, tmp_path, monkeypatch):
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
        go(few, tint, out)
    assert str(error.value) == (
        "The disk is full; this file was not written.\n"
        f"  where:   {out / '.parts' / 'tint' / '00001.parquet'}\n"
        "  do:      free some space or choose another `out`"
    )
    assert [p.name for p in out.rglob("*") if p.is_file()] == ["00000.parquet"]
    monkeypatch.setattr(pq, "write_table", write)
    assert go(few, tint, out).merged.n == 45


def shards(folder, name, ending, photos):
    """Write two archives with two images each; the second image of each has the same name."""
    kind = "w:gz" if ending == "tar.gz" else "w"
    for i in range(2):
        with tarfile.open(folder / f"{i}.{ending}", kind) as tar:
            tar.add(photos / f"{i + 1:05}.jpg", f"{i}/first-{i}.jpg")
            tar.add(photos / f"{i + 5:05}.jpg", name)
    return f"{folder}/{{0..1}}.{ending}"


@pytest.mark.parametrize("name", ["photo.jpg", "0/photo.jpg"])
def test_shards_of_a_stream_that_name_images_alike_have_the_ids_of_local_shards(few, tint, tmp_path, name):
    found = {}
    for ending in ("tar", "tar.gz"):
        source = open_source(shards(tmp_path, name, ending, few))
        run(source, tint, tmp_path / ending, PredictSettings())
        names = [pq.read_table(tmp_path / ending / file) for file in ("tint.parquet", "images.parquet")]
        assert names[0]["image_id"].to_pylist() == names[1]["image_id"].to_pylist()
        rows = zip(names[0]["image_id"].to_pylist(), names[0]["scores"].to_pylist(), strict=True)
        found[ending] = {image_id.replace("tar.gz", "tar"): scores for image_id, scores in rows}
    assert found["tar"] == found["tar.gz"]
    assert set(found["tar"]) == {
        f"0.tar/{name}",
        f"1.tar/{name}",
        "0.tar/0/first-0.jpg",
        "1.tar/1/first-1.jpg",
    }


def test_a_stream_with_one_path_twice_is_refused_and_so_are_labels_by_base_name(few, tint, tmp_path):
    with tarfile.open(tmp_path / "0.tar.gz", "w:gz") as tar:
        tar.add(few / "00001.jpg", "photo.jpg")
        tar.add(few / "00002.jpg", "photo.jpg")
    with pytest.raises(InputError) as error:
        run(open_source(tmp_path / "0.tar.gz"), tint, tmp_path / "out", PredictSettings())
    assert str(error.value) == (
        "Two images have the same name.\n"
        f"  where:   {tmp_path}/0.tar.gz\n"
        f"  got:     {tmp_path}/0.tar.gz/photo.jpg and {tmp_path}/0.tar.gz/photo.jpg\n"
        "  allowed: unique names, which are the ids of the images; those of labels in a file are base names\n"
        "  do:      run predict on each archive separately, with its own `out`"
    )
    (tmp_path / "labels.csv").write_text("image_id,label\nphoto.jpg,red\n")
    source = open_source(shards(tmp_path, "photo.jpg", "tar.gz", few), labels=tmp_path / "labels.csv")
    with pytest.raises(InputError, match="Two images have the same name"):
        run(source, tint, tmp_path / "labelled", PredictSettings())


def test_two_of_one_name_are_found_in_the_end(few, tint, tmp_path):
    """Where a source cannot know in advance."""
    source = opened(few)
    part = replace(source.parts[1], paths=(source.parts[0].paths[0], *source.parts[1].paths[1:]))
    with pytest.raises(InputError, match=f"{few}/00000.jpg and {few}/00000.jpg\n"):
        run(replace(source, parts=(source.parts[0], part)), tint, tmp_path / "out", PredictSettings())


def test_parts_of_another_user_that_may_not_be_read(few, tint, tmp_path, monkeypatch):
    """As with umask 077. Root may read everything, so the refusal of the system is made up."""

    def refused(self):
        raise PermissionError(13, "Permission denied", str(self.folder))

    monkeypatch.setattr("manyhot.predict.parts.PartFiles.first", refused)
    with pytest.raises(OutputError) as error:
        go(few, tint, tmp_path / "out")
    assert str(error.value) == (
        f"The parts of another user cannot be read.\n  where:   {tmp_path / 'out/.parts/tint'}\n"
        "  do:      let all users set umask 002, and give the folder a group to which all of them belong, "
        "with chmod g+rws"
    )


@pytest.mark.parametrize("lacking", [0, 1])
def test_all_scores_must_fit_on_the_disk(few, tint, tmp_path, monkeypatch, lacking):
    """The score of a class takes four bytes."""
    n, classes = len(list(few.iterdir())), len(tint.classes)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4 * n * classes - lacking))
    go(few, tint, tmp_path / "tops", top=2)
    if not lacking:
        go(few, tint, tmp_path / "out", top=None)
        return
    with pytest.raises(OutputError, match=f"got:     {n} images × {classes} classes, 0.0 GB"):
        go(few, tint, tmp_path / "out", top=None)


def _listed(tmp_path, names):
    """Return a list of images, ten in each of two folders, as one part each."""
    disks = []
    for disk in ("a", "b"):
        (tmp_path / disk).mkdir()
        for i, name in enumerate(names[disk]):
            Image.new("RGB", (8, 8), (10 * i, 0, 0)).save(tmp_path / disk / name)
        disks.append(tuple(f"{tmp_path}/{disk}/{name}" for name in names[disk]))
    return ImageSource("list.txt", tuple(Files(f"{i:05}", "", own) for i, own in enumerate(disks)))


@pytest.fixture
def listed(tmp_path):
    return _listed(tmp_path, {d: [f"{d}{i}.png" for i in range(10)] for d in "ab"})


def test_a_shard_without_its_disk_is_an_error_and_is_tried_again(listed, tint, tmp_path):
    (tmp_path / "b").rename(tmp_path / "elsewhere")
    with pytest.raises(SourceLostError) as error:
        run(listed, tint, tmp_path / "out", PredictSettings(shard=(1, 2)))
    assert str(error.value) == (
        "None of the 10 images can be read.\n"
        "  where:   list.txt\n"
        f"  got:     {tmp_path}/b/b0.png: the file no longer exists\n"
        "  do:      make them available again, and run the same command again to resume"
    )
    merged = run(listed, tint, tmp_path / "out", PredictSettings(shard=(0, 2)))
    assert [*merged.lines()][1::2] == [
        "  predicted 10, skipped 10",
        "  once the files are available, the same command tries them again",
    ]
    assert run(listed, tint, tmp_path / "out", PredictSettings()).n == 0  # they are still missing
    (tmp_path / "elsewhere").rename(tmp_path / "b")
    again = run(listed, tint, tmp_path / "out", PredictSettings(shard=(1, 2)))
    assert (again.n, again.merged.n, again.merged.n_skipped) == (10, 20, 0)
    run(listed, tint, tmp_path / "undisturbed", PredictSettings())
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOTCONN])
def test_files_without_access_are_counted_and_tried_again(listed, tint, tmp_path, monkeypatch, code):
    read = Path.read_bytes

    def refuse(path):
        if path.name == "b3.png":
            raise OSError(code, os.strerror(code), str(path))
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        done = run(listed, tint, tmp_path / "out", PredictSettings())
    assert (done.merged.n, done.merged.n_skipped, done.to_json()["unread"]) == (19, 1, 1)
    assert [*done.lines()][2:4] == [
        f"  1 image could not be read, such as {tmp_path}/b/b3.png: cannot be read: {os.strerror(code)}",
        "  once the files are available, the same command tries them again",
    ]
    again = run(listed, tint, tmp_path / "out", PredictSettings())
    assert (again.n, again.merged.n, again.merged.n_skipped) == (10, 20, 0)
    assert not (tmp_path / "out" / ".parts").exists()


def test_a_run_killed_while_it_tries_files_again_does_not_keep_the_old_predictions(listed, tint, tmp_path):
    (tmp_path / "b" / "b3.png").rename(tmp_path / "b3.png")
    run(listed, tint, tmp_path / "out", PredictSettings())
    (tmp_path / "b3.png").rename(tmp_path / "b" / "b3.png")
    job = prepare_run(listed, tint, tmp_path / "out", PredictSettings())
    for (scored,) in score_parts([[(part, job.scorer)] for part in job.missing]):
        job.write(scored)
    assert run(listed, tint, tmp_path / "out", PredictSettings()).merged.n == 20
