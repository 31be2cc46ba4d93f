"""What models lose between data sets from files to files, and what the command prints of it."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from typer.testing import CliRunner

import manyhot as mh
from manyhot import Reading, cli, evaluate, tables
from manyhot.diagnose.robustness import Robustness, diagnose_robustness
from manyhot.errors import InputError, MatchError
from manyhot.run import Run

C = 5


def write(name, n, noise, seed, labelled=True):
    """Write label sets of a data set, and two models that see them through noise."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, C, n)
    sets = [sorted({int(y), int(y + 1) % C}) if i % 3 == 0 else [int(y)] for i, y in enumerate(label)]
    ids = pa.array([f"{name}{i}.jpg" for i in range(n)])
    if labelled:
        labels = mh.as_labels(sets, n_classes=C, label=label.tolist())
        named = labels.table.set_column(0, "image_id", ids)
        tables.write_labels(tables.Labels(named, C, name=name), f"{name}.parquet")
    else:
        images = pa.table({"image_id": ids, "label": pa.array(label, pa.int32())})
        tables.write(images, f"{name}.parquet", "images")
    Path("predictions").mkdir(exist_ok=True)
    for model in ("a", "b"):
        scores = rng.normal(size=(n, C)).astype(np.float32) * noise
        for i, found in enumerate(sets):
            scores[i, found] += 2
        given = tables.Predictions(ids, model, scores=scores, score_kind="logit", n_classes=C)
        tables.write_predictions(given, f"predictions/{name}-{model}.parquet")


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("mine", 200, 1.0, 0)
    write("other", 150, 2.0, 1)


def diagnose(*datasets, **options):
    datasets = datasets or ("mine.parquet", "other.parquet")
    Robustness.check_out("out", datasets)
    given = {"predictions": ["predictions"], "resamples": 100} | options
    call = given.pop("call", "")
    found = diagnose_robustness(datasets, given.pop("predictions"), **given)
    return found, found.write("out", run=Run(call))


def test_tables_are_written_twice():
    found, written = diagnose(seed=3, call="manyhot …")
    names = ("robustness", "losses")
    files = [Path("out") / f"{name}.{kind}" for name in names for kind in ("parquet", "csv")]
    assert written == [*files, Path("out/report/index.html")]
    for name, path in zip(names, files[::2], strict=True):
        table = tables.read(path, name)
        assert table.to_pylist() == found.tables[name].to_pylist()
        assert pl.read_csv(path.with_suffix(".csv")).height == table.num_rows
        about = tables.metadata(table)
        assert (about["call"], about["seed"]) == ("manyhot …", "3")
        assert json.loads(about["notes"]) == list(found.notes)
        sources = {"mine.parquet", "other.parquet"} | {
            f"{d}-{m}.parquet" for d in ("mine", "other") for m in "ab"
        }
        assert set(json.loads(about["inputs"])) == sources
    before = [p.read_bytes() for p in written]
    assert [p.read_bytes() for p in diagnose(seed=3, call="manyhot …")[1]] == before


def test_each_data_set_takes_the_predictions_of_its_images():
    found, _ = diagnose()
    rows = found.losses.to_pylist()
    assert {(r["base"], r["dataset"]) for r in rows} == {("mine", "other")}
    assert {(r["n_base"], r["n"]) for r in rows} == {(200, 150)}
    assert found.notes == (
        "shares over fewer than 500 images have no intervals, because intervals would be too narrow",
        "shares due to missing labels assume that the label sets of both data sets were made in the same way",
    )
    back, _ = diagnose(base="other")
    assert {(r["base"], r["dataset"]) for r in back.losses.to_pylist()} == {("other", "mine")}


def test_results_will_do_too():
    for name in ("mine", "other"):
        files = [f"predictions/{name}-{m}.parquet" for m in "ab"]
        evaluate(f"{name}.parquet", files, reading=Reading(dataset=name)).write(name)
    judged, _ = diagnose("mine.parquet", "other.parquet", predictions=["predictions"])
    read, _ = diagnose("mine", "other", predictions=())
    loss = {(r["model"], r["metric"]): r["loss"] for r in judged.losses.to_pylist()}
    assert {
        k: v for r in read.losses.to_pylist() for k, v in [((r["model"], r["metric"]), r["loss"])]
    } == loss


def test_a_data_set_without_label_sets():
    write("plain", 100, 2.0, 2, labelled=False)
    found, _ = diagnose("mine.parquet", "other.parquet", "plain.parquet")
    metrics = {
        d: {r["metric"] for r in found.losses.to_pylist() if r["dataset"] == d} for d in ("other", "plain")
    }
    assert metrics == {"other": {"top1", "real1", "mla", "map_macro"}, "plain": {"top1"}}
    assert found.notes[0] == "evaluated only under original labels, because there are no label sets: plain"


def test_published_sets_and_protocols(mirror, monkeypatch):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    found, _ = diagnose(
        "imagenet-val", "imagenetv2-matched-frequency", predictions=(), models=["resnet50", "alexnet"]
    )
    assert found.notes[-1].endswith(
        "the label sets of Multilabelfy (imagenetv2-matched-frequency) and ReaL (imagenet-val) were not, so "
        "part of each share is due to the protocol"
    )


def test_what_is_refused():
    write("third", 30, 1.0, 4)
    for m in "ab":
        Path(f"predictions/third-{m}.parquet").unlink()
    with pytest.raises(InputError) as error:
        diagnose("mine.parquet", "third.parquet")
    assert str(error.value) == (
        "There are no predictions for the images of third.\n"
        "  got:     images such as third0.jpg\n"
        "  do:      pass predictions for them as `predictions`"
    )
    with pytest.raises(MatchError) as error:
        diagnose(base="ours")
    assert str(error.value) == "There is no data set 'ours' in the results.\n  allowed: mine, other"
    assert not Path("out").exists()
    Path("out").mkdir()
    Path("mine.parquet").rename("out/losses.parquet")
    with pytest.raises(InputError) as error:
        diagnose("out/losses.parquet", "other.parquet")
    assert str(error.value) == (
        "The output would overwrite an input.\n"
        "  where:   out\n"
        "  got:     out/losses.parquet\n"
        "  do:      choose another path for the output"
    )


def run(*words):
    return CliRunner().invoke(cli.app, ["diagnose", "robustness", *words, "--resamples", "100"])


def test_the_command_prints_a_table_that_fits():
    done = run("mine.parquet", "other.parquet", "--predictions", "predictions")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0] == (
        "mine → other: points lost, and the share of the loss of top1 that is due to missing labels"
    )
    (row,) = [
        r
        for r in tables.read("robustness/losses.parquet", "losses").to_pylist()
        if r["model"] is None and r["metric"] == "real1"
    ]
    (line,) = [line for line in lines if line.startswith("mean of 2") and " real1 " in line]
    assert f"{100 * row['loss']:.1f} ({100 * row['lo']:.1f} to {100 * row['hi']:.1f})" in line
    assert f" {row['share']:.0%} " in line
    assert line.endswith("200 → 150")
    assert (
        done.stderr
        == "Note: shares over fewer than 500 images have no intervals, because intervals would be too "
        "narrow.\n"
        "Note: shares due to missing labels assume that the label sets of both data sets were made in "
        "the same way.\n"
    )


def test_json_and_options():
    words = ["mine.parquet", "other.parquet", "--predictions", "predictions", "--json"]
    done = run(*words, "--base", "other", "--without", "b", "--seed", "2", "--out", "told")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["written"][0] == "told/robustness.parquet"
    assert {r["model"] for r in told["losses"]} == {"a"}
    assert {r["base"] for r in told["losses"]} == {"other"}
