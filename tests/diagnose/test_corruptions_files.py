"""Corrupted copies from images to files: predicted, resumed after a kill, judged, and told."""

import dataclasses
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image
from scipy.stats import binomtest
from typer.testing import CliRunner

import manyhot as mh
from manyhot import cli, evaluate, tables
from manyhot.classes import from_keys
from manyhot.diagnose.corruptions import diagnose_corruptions
from manyhot.diagnose.pixels.corruptions import KINDS, chosen, crop
from manyhot.errors import InputError, MatchError, UnknownNameError
from manyhot.run import Run

pytest.importorskip("imagecorruptions")

COLOURS = ("red", "green", "blue")
N = 12

MODEL = """
import time
from dataclasses import replace
from pathlib import Path
import numpy as np
from manyhot.classes import from_keys
from manyhot.predict.network import Network, Preprocessing

def seen(weight):
    def forward(images):
        Path("seen").write_text(repr(images.shape))
        if Path("slow").exists():
            time.sleep(0.02 * len(images))
        return 10 * images.reshape(len(images), 3, -1).mean(2).astype(np.float32) / 255 * weight
    return forward

def tint():
    small = Preprocessing((40, 40), (60, 60))
    return Network("tint", from_keys(("red", "green", "blue")), small, forward=seen(1))

def assuming():
    return replace(tint(), notes=("tint: preprocessing assumed",))

def blind():
    weight = np.array([1, 1, 0.5], np.float32)
    return Network("blind", from_keys(("red", "green", "blue")), Preprocessing(), forward=seen(weight))
"""


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """Write images of one colour or two, their label sets, and models that tell colours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("seeing", None)
    Path("seeing.py").write_text(MODEL)
    Path("images").mkdir()
    rng = np.random.default_rng(0)
    for i in range(N):
        pixels = np.full((48, 60, 3), 40, np.uint8)
        pixels[..., i % 3] = 200
        if i % 4 == 0:
            pixels[:, :26, i % 3], pixels[:, :26, (i + 1) % 3] = 40, 200
        pixels += rng.integers(0, 20, pixels.shape).astype(np.uint8)
        Image.fromarray(pixels).save(f"images/{i:02}.png")
    write_labels(range(N))


def write_labels(images, path="labels.parquet"):
    sets = [sorted({i % 3, (i + 1) % 3}) if i % 4 == 0 else [i % 3] for i in images]
    labels = mh.as_labels(sets, n_classes=3, label=[i % 3 for i in images])
    ids = pa.array([f"{i:02}.png" for i in images])
    classes = from_keys(COLOURS)
    labels = dataclasses.replace(
        labels, table=labels.table.set_column(0, "image_id", ids), class_hash=classes.hash, name="tints"
    )
    tables.write_labels(labels, path)
    return labels


TINT, BLIND = "python:seeing:tint", "python:seeing:blind"


def diagnose(models=(TINT,), out="out", **options):
    given = {"labels": "labels.parquet", "corruption": ["fog", "pixelate"], "severity": [1, 4]}
    given |= {"resamples": 50, "run": Run(options.pop("call", "")), **options}
    found = diagnose_corruptions("images", model=list(models), out=out, **given)
    return found, list(found.written)


def test_what_is_assumed_of_a_model_is_a_note():
    found, _ = diagnose(("python:seeing:assuming",), corruption=["fog"], severity=[1])
    assert found.notes[0] == "tint: preprocessing assumed"


def test_models_of_one_name():
    same = "python:seeing:assuming"
    with pytest.raises(InputError, match=r"Two models have the same name\.\n  got:     tint"):
        diagnose((TINT, same))
    assert not Path("out").exists()
    found, _ = diagnose((TINT, f"{same}(name='mine/2')"), corruption=["fog"], severity=[1])
    assert set(found.robustness["model"].to_pylist()) == {"tint", "mine/2"}
    assert Path("out/fog-1/mine--2.parquet").is_file()


def test_folders_and_tables():
    found, written = diagnose((TINT, BLIND), baseline="tint", call="manyhot …")
    folders = ("clean", "fog-1", "fog-4", "pixelate-1", "pixelate-4", "report")
    assert sorted(p.name for p in Path("out").iterdir() if p.is_dir()) == sorted(folders)
    for folder in folders[:-1]:
        files = {"tint.parquet", "blind.parquet", "images.parquet", "skipped.csv"}
        assert {p.name for p in Path("out", folder).iterdir()} == files
    names = ("robustness", "losses", "corruption_errors")
    files = [Path("out") / f"{name}.{kind}" for name in names for kind in ("parquet", "csv")]
    assert written == [*files, Path("out/report/index.html")]
    for name, path in zip(names, files[::2], strict=True):
        table = tables.read(path, name)
        assert table.to_pylist() == found.tables[name].to_pylist()
        assert pl.read_csv(path.with_suffix(".csv")).height == table.num_rows
        about = tables.metadata(table)
        assert (about["call"], about["seed"]) == ("manyhot …", "0")
        assert set(json.loads(about["inputs"])) == {"labels.parquet"}
        assert json.loads(about["notes"]) == list(found.notes)
    (of_blue,) = [
        r
        for r in found.robustness.to_pylist()
        if r["model"] == "tint" and r["kind"] == "clean" and r["metric"] == "top1"
    ]
    assert (of_blue["value"], of_blue["n"], of_blue["severity"], of_blue["dataset"]) == (1.0, N, 0, "tints")


def test_models_see_the_cut_picture_whole():
    diagnose(corruption=["pixelate"], severity=[1])
    assert Path("seen").read_text().endswith("3, 40, 40)")
    image = np.asarray(Image.open("images/04.png"))
    small = np.asarray(Image.fromarray(crop(image)).resize((40, 40), Image.Resampling.BICUBIC))
    table = tables.read("out/clean/tint.parquet", "predictions").to_pylist()
    (row,) = [r for r in table if r["image_id"] == "04.png"]
    scores = dict(zip(row["classes"], row["scores"], strict=True))
    expected = small.reshape(-1, 3).mean(0) / 25.5
    assert [scores[c] for c in range(3)] == pytest.approx(expected, abs=0.02)


def test_a_folder_is_judged_by_evaluate_too():
    found, _ = diagnose(resamples=0)
    judged = evaluate("labels.parquet", ["out/fog-4"])
    (row,) = [
        r
        for r in found.robustness.to_pylist()
        if (r["kind"], r["severity"], r["metric"]) == ("fog", 4, "real1")
    ]
    assert judged.value("real1") == row["value"]


def test_dense_scores_have_precision():
    found, _ = diagnose(dense=True)
    assert "map_macro" in found.robustness["metric"].to_pylist()
    # The default keeps the scores of 20 classes, which are all of these.
    assert "map_macro" in diagnose(out="listed")[0].robustness["metric"].to_pylist()


def contents(out):
    return {p.relative_to(out): p.read_bytes() for p in sorted(Path(out).rglob("*")) if p.is_file()}


def test_nothing_is_predicted_twice():
    told = []
    diagnose()
    before = contents("out")
    Path("seen").unlink()
    diagnose(run=Run(on_progress=lambda *a: told.append(a)))
    assert contents("out") == before
    assert not Path("seen").exists()
    assert {activity for activity, *_ in told} == {"evaluating on tints"}


def test_more_kinds_go_on_from_what_is_there():
    diagnose(corruption=["fog"])
    diagnose()
    diagnose(out="at once")
    assert contents("out") == contents("at once")


@pytest.mark.slow
def test_a_kill_loses_nothing():
    words = [sys.executable, "-m", "manyhot", "diagnose", "corruptions", "images", "--labels"]
    words += [
        "labels.parquet",
        "--model",
        TINT,
        "--corruption",
        "fog",
        "--corruption",
        "snow",
        "--resamples",
        "50",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
    Path("slow").touch()
    running = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while not Path("corruptions/fog-2/tint.parquet").exists():
            assert running.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert not Path("corruptions/losses.parquet").exists()
    Path("slow").unlink()
    subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL)
    killed = contents("corruptions")
    Path("corruptions").rename("killed")
    subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL)
    assert killed == contents("corruptions")


def test_images_are_chosen_by_their_ids():
    found, _ = diagnose(limit=5)
    ids = [f"{i:02}.png" for i in range(N)]
    taken = tables.read("out/fog-1/images.parquet", "images")["image_id"].to_pylist()
    assert set(taken) == chosen(ids, 5) == chosen(ids[::-1], 5)
    assert chosen(ids, 5, seed=1) != chosen(ids, 5)
    assert set(found.robustness["n"].to_pylist()) == {5}
    with pytest.raises(MatchError) as error:
        diagnose(limit=6)
    assert error.value.what == "The folder contains predictions from another run, which differs in source."


def test_original_labels_alone():
    images = {
        "image_id": [f"{i:02}.png" for i in range(N)],
        "label": pa.array([i % 3 for i in range(N)], pa.int32()),
    }
    tables.write(pa.table(images), "images.parquet", "images")
    found, _ = diagnose(labels="images.parquet")
    assert set(found.losses["metric"].to_pylist()) == {"top1"}
    assert set(found.losses["share"].to_pylist()) == {None}
    Path("labels.csv").write_text(
        "file,class\n" + "".join(f"{i:02}.png,{COLOURS[i % 3]}\n" for i in range(N))
    )
    again, _ = diagnose(labels="labels.csv", out="by CSV")
    assert again.losses.drop_columns(["base", "dataset"]) == found.losses.drop_columns(["base", "dataset"])
    assert set(again.losses["dataset"].to_pylist()) == {"labels"}


def test_labels_as_the_source_tells_them():
    for i in range(N):
        Path("folders", COLOURS[i % 3]).mkdir(parents=True, exist_ok=True)
        Path("images", f"{i:02}.png").rename(Path("folders", COLOURS[i % 3], f"{i:02}.png"))
    found = diagnose_corruptions(
        "folders", model=[TINT], out="out", corruption=["fog"], severity=[1], limit=7, resamples=0
    )
    assert set(found.robustness["n"].to_pylist()) == {7}
    assert set(found.robustness["dataset"].to_pylist()) == {"folders"}


def test_small_images_and_others_are_told():
    Image.new("RGB", (20, 50)).save("images/small.png")
    Path("images/00.png").unlink()
    labels = write_labels(range(N))
    rows = labels.table.to_pylist()
    rows[1]["image_id"] = "small.png"
    table = pa.Table.from_pylist(rows, schema=labels.table.schema)
    tables.write_labels(dataclasses.replace(labels, table=table), "labels.parquet")
    found, _ = diagnose(baseline="tint")
    assert found.notes == (
        "1 of 12 labelled images are not in the source",
        "skipped images: 1, such as small.png (20 x 50 pixels: corruptions need at least 32 pixels per "
        "side); "
        "out/clean/skipped.csv lists them",
        "tint: 1 of 11 labelled images have no prediction and were left out",
        "the means are computed over 2 of the 15 kinds of corruption",
    )
    assert set(found.robustness["n"].to_pylist()) == {10}


def test_a_wrong_class_list_is_told_before_corruptions():
    labels = write_labels(range(N))
    other = dataclasses.replace(labels, class_hash=from_keys(("cyan", "teal", "plum")).hash)
    tables.write_labels(other, "labels.parquet")
    with pytest.raises(MatchError):
        diagnose()
    assert not Path("out/fog-1").exists()


def refused(error, **options):
    with pytest.raises(error) as found:
        diagnose(**options)
    assert not Path("out").exists()
    return str(found.value)


def test_what_is_refused():
    assert refused(UnknownNameError, corruption=["frog"]) == (
        f"There is no corruption 'frog'.\n  allowed: {', '.join(KINDS)}\n  do:      did you mean 'fog'?"
    )
    assert refused(InputError, severity=[0]) == (
        "`severity` is out of range.\n  got:     0\n  allowed: 1 to 5"
    )
    assert refused(InputError, limit=0) == ("`limit` is out of range.\n  got:     0\n  allowed: 1 or more")
    assert refused(MatchError, baseline="tinted") == (
        "The baseline is not one of the models.\n  got:     tinted\n  allowed: tint"
    )
    labels = write_labels(range(20, 30))
    assert labels.image_id[0].as_py() == "20.png"
    assert refused(MatchError) == (
        "The labels are for different images.\n"
        "  where:   tints\n"
        "  got:     labels of 20.png\n"
        "  allowed: images such as 00.png"
    )
    Path("losses").mkdir()
    tables.write_labels(labels, "losses/robustness.parquet")
    assert refused(InputError, out="losses") == (
        "This file is reserved for a table other than robustness.\n"
        "  where:   losses/robustness.parquet\n"
        "  got:     labels\n"
        "  do:      choose another path for the output"
    )


def run(*words):
    given = ["diagnose", "corruptions", "images", "--labels", "labels.parquet", "--model", TINT]
    return CliRunner().invoke(cli.app, [*given, "--severity", "4", "--resamples", "50", *words])


def test_the_command_prints_a_table_that_fits():
    done = run("--corruption", "fog", "--corruption", "pixelate", "--model", BLIND, "--baseline", "tint")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0] == "tints, tint: 12 original images"
    low = round(100 * binomtest(12, 12).proportion_ci(method="wilson").low, 1)
    assert lines[1].startswith(f"top1 100.0% ({low} to 100.0), real1 100.0% ({low} to 100.0), mla 100.0%")
    assert lines[3].split()[-1] == "images"
    assert {line.split()[-1] for line in lines if line.startswith(("fog", "all"))} == {"12"}
    firsts = [line.split("  ")[0] for line in lines]
    assert firsts.count("fog") == firsts.count("pixelate") == firsts.count("all") == 2
    assert "mean errors on corrupted images, divided by those of tint" in lines
    assert lines[-1] == "wrote corruptions/report/index.html"
    first, second = done.stderr.splitlines()
    assert first.startswith(
        "Note: points that blind loses beyond tint, on average over corruptions of the same "
    )
    assert second == "Note: the means are computed over 2 of the 15 kinds of corruption."


def test_json():
    done = run("--corruption", "fog", "--json", "--out", "told", "--limit", "9", "--dense", "--seed", "4")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["written"][0] == "told/robustness.parquet"
    assert {r["kind"] for r in told["losses"]} == {"fog", None}
    assert {r["ce"] for r in told["corruption_errors"]} == {None}
    assert told["notes"][-1] == "the means are computed over 1 of the 15 kinds of corruption"


def test_progress_is_a_line_where_nobody_watches(monkeypatch):
    monkeypatch.setattr(importlib.import_module("manyhot.cli.events"), "LINE_EVERY_S", 0.0)
    done = run("--kind", "fog")
    told = [line for line in done.stderr.splitlines() if line.startswith("tint: ")]
    assert re.fullmatch(r"tint: 24 of 24 images, [\d,]+/s, 0:00:00 left", told[-1])
