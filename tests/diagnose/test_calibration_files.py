"""Recalibration from files to files, and what the command prints of it."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from scipy.special import softmax
from typer.testing import CliRunner

from manyhot import cli, diagnose_calibration, tables
from manyhot.core.clusters import Clusters
from manyhot.diagnose.calibration import Calibration
from manyhot.diagnose.calibration_chapter import calibration_answer
from manyhot.errors import InputError
from manyhot.evaluate.confidence import Division, split
from manyhot.formats import read_predictions
from manyhot.reassess.init import init_campaign
from manyhot.run import Run
from manyhot.tables import schema
from manyhot.tables.array_inputs import as_labels

N, C = 200, 4


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """Write labels, and logits of a model that is twice too sure."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(N, C)).astype(np.float32) * 2
    label = [int(rng.choice(C, p=row / row.sum())) for row in softmax(logits.astype(float), axis=1)]
    sets = [sorted({y, (y + 1) % C}) if i % 4 == 0 else [y] for i, y in enumerate(label)]
    labels = as_labels(sets, n_classes=C, label=label)
    tables.write_labels(labels, "labels.parquet")
    given = tables.Predictions(labels.image_id, "net", scores=2 * logits, score_kind="logit", n_classes=C)
    tables.write_predictions(given, "net.parquet")
    return labels


def refused(*given, out="calibration", **options):
    with pytest.raises(InputError) as error:
        written(*given, out=out, **options)
    return str(error.value)


def written(*given, out, **options):
    """Judge and write as the command does, which looks first where it may write."""
    Calibration.check_out(out, options.get("predictions", ()))
    return diagnose_calibration(*given, **options).write(out)


def test_tables_are_written_twice():
    found = diagnose_calibration("labels.parquet", "net.parquet", resamples=20, seed=2)
    written = found.write("out", run=Run("manyhot …"))
    names = ("calibration", "prediction_sets", "calibration_bins")
    tables_written = [Path("out") / f"{name}.{kind}" for name in names for kind in ("parquet", "csv")]
    assert written == [*tables_written, Path("out/report/index.html")]
    for name, path in zip(names, tables_written[::2], strict=True):
        table = tables.read(path, name)
        assert table.to_pylist()[0] == found.tables[name].to_pylist()[0]
        assert pl.read_csv(path.with_suffix(".csv")).height == table.num_rows
        about = tables.metadata(table)
        assert (about["call"], about["fit"], about["seed"]) == ("manyhot …", "0.5", "2")
        assert json.loads(about["notes"]) == list(found.notes)
        assert set(json.loads(about["inputs"])) == {"labels.parquet", "net.parquet"}
    again = diagnose_calibration("labels.parquet", "net.parquet", resamples=20, seed=2)
    again = again.write("again", run=Run("manyhot …"))
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in written]


def test_clusters_are_the_cases_of_intervals_and_are_not_divided(own):
    camera = np.arange(N) // 10
    ids = own.image_id.to_pylist()
    pl.DataFrame({"image_id": ids, "camera": camera}).write_csv("images.csv")
    words = [
        "diagnose",
        "calibration",
        "labels.parquet",
        "--predictions",
        "net.parquet",
        "--methods",
        "temperature",
    ]
    options = ["--images", "images.csv", "--clusters", "camera", "--out", "out"]
    done = CliRunner().invoke(cli.app, [*words, *options])
    assert done.exit_code == 0, done.output
    note = (
        "labels: intervals and p-values are computed over 20 clusters of camera with 200 images; with "
        "fewer than"
    )
    assert note in done.output
    given = read_predictions("net.parquet")
    clusters = Clusters.of(camera)
    parts = split(own, given, Division(0.5, 0, clusters))
    held_out = set(parts.predictions.image_id.to_pylist())
    rest = {int(c) for c, image in zip(camera, ids, strict=True) if image in held_out}
    assert len(held_out) == len(parts.rest.labels) == 10 * len(rest)
    assert 90 <= len(held_out) <= 110
    results = pl.read_parquet("out/calibration.parquet")
    assert set(results["n"]) == {len(held_out)}


def test_a_campaign_and_a_folder_of_predictions(own):
    Path("classes.txt").write_text("pug\nhusky\neskimo\ntabby")
    images = pa.table({"image_id": own.image_id, "label": own.table["label"]})
    tables.write(images, "images.parquet", "images")
    campaign = init_campaign(
        "pets", images="images.parquet", classes="classes.txt", predictions=["net.parquet"]
    ).campaign
    labels = tables.Labels(own.table.drop_columns(["label"]), C, campaign.class_hash)
    tables.write_labels(labels, "pets/labels.parquet")
    found = diagnose_calibration("pets", methods=["isotonic"], resamples=0)
    assert found.calibration["dataset"].unique().to_pylist() == ["pets"]
    assert set(found.calibration["n"].to_pylist()) == {0, N // 2}  # isotonic has no likelihood
    Path("run").mkdir()
    for name in ("images.parquet", "net.parquet"):
        Path(name).rename(Path("run") / name)
    found = diagnose_calibration("run", methods=["temperature"], resamples=0)
    assert found.notes == (
        "run: every label set contains only the original label, so the results for label sets and for "
        "original labels are the same",
    )


def test_what_is_not_overwritten_and_not_found(own):
    assert refused("labels.parquet") == (
        "There are no predictions.\n  where:   labels.parquet\n  do:      pass them as `predictions`"
    )
    Path("net.parquet").rename("calibration.parquet")
    assert refused("labels.parquet", out=".", predictions=["calibration.parquet"]) == (
        "The output would overwrite an input.\n"
        "  where:   .\n"
        "  got:     calibration.parquet\n"
        "  do:      choose another path for the output"
    )
    Path("other").mkdir()
    tables.write_labels(own, "other/prediction_sets.parquet")
    assert refused("labels.parquet", out="other", predictions=["calibration.parquet"]) == (
        "This file is reserved for a table other than prediction_sets.\n"
        "  where:   other/prediction_sets.parquet\n"
        "  got:     labels\n"
        "  do:      choose another path for the output"
    )


def test_published_ranks_have_no_confidence(mirror, monkeypatch):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    assert refused("imagenet-val", models=["resnet5*"]) == (
        "No model has confidences to calibrate.\n"
        "  got:     resnet50\n"
        "  allowed: probabilities, logits of all classes, or lists of logits with logsumexp\n"
        "  do:      declare the kind of the scores with `scores`; pass cosines, such as those of CLIP, "
        "multiplied by 100 as logits, with `links` softmax"
    )
    assert not Path("calibration").exists()


def run(*words):
    return CliRunner().invoke(cli.app, ["diagnose", "calibration", *words])


def test_the_command_prints_a_table_that_fits():
    done = run("labels.parquet", "--predictions", "net.parquet", "--resamples", "50")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith("The confidence of net is wrong by ")  # as on the page
    lines = lines[2:]
    assert max(map(len, lines)) <= 100
    assert lines[0] == "labels, net: fitted on 100 images, evaluated on 100 others"
    assert "right if the top class is the original label: 100 of 100 images" in lines
    assert "right if the top class is in the label set: 100 of 100 images" in lines
    firsts = [line.split("  ")[0] for line in lines]
    for method in ("temperature (labels)", "vector (labels)", "isotonic (sets)", "as it is"):
        assert firsts.count(method) == 2
    table = tables.read("calibration/calibration.parquet", "calibration").to_pylist()
    by = {r["fitted_to"]: r["temperature"] for r in table if r["method"] == "temperature"}
    assert (
        f"temperatures: {by['labels']:.2f} (labels, 100 images), {by['sets']:.2f} (sets, 100 images)" in lines
    )
    row = next(r for r in table if r["metric"] == "ece" and r["method"] == "none")
    assert (row["lo"], row["hi"]) == (None, None)
    assert f"{row['value']:.3f}" in done.stdout
    row = next(r for r in table if r["metric"] == "real1" and r["method"] == "none")
    half = 100 * max(row["value"] - row["lo"], row["hi"] - row["value"])
    assert f"  {row['value']:.1%} ±{half:.1f}  " in done.stdout
    held = next(line for line in lines if line.startswith("one class of the label set"))
    (of,) = [
        r
        for r in tables.read("calibration/prediction_sets.parquet", "prediction_sets").to_pylist()
        if r["cover"] == "one"
    ]
    assert held.split()[6:8] == ["90.0%", f"{of['coverage']:.1%}"]
    assert lines[-2:] == ["wrote calibration/calibration_bins.csv", "wrote calibration/report/index.html"]


def test_options_and_json():
    words = ["labels.parquet", "--predictions", "net.parquet", "--methods", "isotonic", "--resamples", "0"]
    done = run(*words, "--alpha", "0.2", "--fit", "0.25", "--seed", "5", "--json", "--out", "told")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["written"][0] == "told/calibration.parquet"
    methods = {r["method"] for r in told["calibration"]}
    assert methods == {"none", "isotonic"}
    (nll,) = [r for r in told["calibration"] if r["metric"] == "nll" and r["fitted_to"] == "sets"]
    assert (nll["value"], nll["n"], nll["n_skipped"]) == (None, 0, 150)
    assert {(r["alpha"], r["n_fitted"], r["n"]) for r in told["prediction_sets"]} == {(0.2, 50, 150)}


def test_notes_are_told_and_errors_too():
    given = tables.predictions_from_table(tables.read("net.parquet", "predictions"), model="net")
    top = np.argsort(-given.scores, axis=1)[:, :2]
    listed = np.take_along_axis(softmax(given.scores.astype(float), axis=1), top, 1).astype(np.float32)
    lists = tables.Predictions(given.image_id, "lists", top, listed, score_kind="probability", n_classes=C)
    tables.write_predictions(lists, "lists.parquet")
    done = run("labels.parquet", "--predictions", "lists.parquet", "--method", "vector", "--resamples", "0")
    assert done.exit_code == 0, done.output
    assert (
        "Note: lists: no vector (labels), no vector (sets): scaling needs logits or probabilities of all "
        "classes (lists of top classes).\n"
    ) in done.stderr
    done = run("labels.parquet", "--predictions", "net.parquet", "--fit", "1")
    assert done.exit_code == 1
    assert str(done.exception).startswith("The share of images to fit on is out of range.")


def test_the_page_opens_with_the_errors_of_the_tables(tmp_path):
    """By hand from the rows: before, after the best method, and on how many images."""

    def row(method, fitted, metric, value, n=400):
        fit = {"method": method, "fitted_to": fitted, "temperature": None, "n_fitted": 50}
        about = {"lo": value - 0.01, "hi": value + 0.01, "n": n, "n_skipped": 0, "n_unmatched": 0}
        return {"dataset": "pets", "model": "net", "metric": metric, "value": value, **fit, **about}

    def bin_row(confidence, right, n):
        key = {"dataset": "pets", "model": "net", "method": "none", "fitted_to": None, "event": "set"}
        return key | {"confidence": confidence, "right": right, "n": n}

    rows = [
        row("none", None, "ece", 0.5),
        row("none", None, "ece_set", 0.123),
        row("temperature", "labels", "ece_set", 0.2),
        row("isotonic", "sets", "ece_set", 0.021),
        row("isotonic", "sets", "nll_mass", float("nan")),
    ]
    table = pa.Table.from_pylist(rows, schema("calibration"))
    page = Calibration(table, schema("prediction_sets").empty_table()).write(tmp_path)[-1].read_text()
    text = " ".join(page.split())
    first = text.index("<p ", text.index("<main"))
    assert text[first:].startswith(
        '<p class="answer">The confidence of net is wrong by 0.123 on average (ECE), measured on 400 '
        "held-out images of pets; 0.021 after isotonic (sets), the lowest ECE of 2 methods. A prediction is "
        "right if its top class is in the label set.</p>"
    )
    assert first < text.index('class="next"') < text.index("<table")
    assert "nan" not in text[first : text.index("</main>")].lower()
    worse = [*rows[:-1], row("none", None, "nll_mass", 0.467), row("isotonic", "sets", "nll_mass", 0.581)]
    assert "; 0.021 after isotonic (sets), the lowest ECE of 2 methods, but with a higher NLL (0.581 " in (
        next(iter(calibration_answer(worse)))
    )
    same = [row("none", None, "ece", 0.25), row("none", None, "ece_set", 0.25)]
    assert [*calibration_answer(same)][1] == "A prediction is right if its top class is the original label."
    bins = [bin_row(0.9, 0.7, 300), bin_row(0.5, 0.6, 100)]
    assert " by 0.123 on average, mostly too high (ECE" in next(calibration_answer(rows, bins))
    bins = [bin_row(0.7, 0.9, 300), bin_row(0.6, 0.5, 100)]
    assert " by 0.123 on average, mostly too low (ECE" in next(calibration_answer(rows, bins))
    bins = [bin_row(0.9, 0.7, 200), bin_row(0.5, 0.7, 200)]
    assert " by 0.123 on average (ECE" in next(calibration_answer(rows, bins))
    rows[3]["value"] = rows[2]["value"] = 0.3
    assert list(calibration_answer(rows)) == [
        "The confidence of net is wrong by 0.123 on average (ECE), measured on 400 held-out images of pets; "
        "no method makes it smaller.",
        "A prediction is right if its top class is in the label set.",
    ]


def test_an_error_that_chance_explains_needs_more_images():
    """Four right of ten at a confidence of 0.5: a fair coin deviates by 0.123 on average."""
    about = {"dataset": "pets", "model": "net", "method": "none", "fitted_to": None}
    row = {**about, "metric": "ece_set", "value": 0.1, "n": 10}
    bins = [{**about, "event": "set", "confidence": 0.5, "right": 0.4, "n": 10}]
    coins = np.random.default_rng(0).binomial(10, 0.5, 10_000) / 10
    assert np.abs(coins - 0.5).mean() == pytest.approx(0.125, abs=0.005)
    assert [*calibration_answer([row], bins)][1] == (
        "With so few images, even a calibrated model would have an error of about 0.13, so more images are "
        "needed."
    )
    rounded = [bins[0] | {"confidence": 1 + 1e-7}, bins[0] | {"n": 0, "confidence": float("nan")}]
    assert len([*calibration_answer([row], rounded)]) == 2
    many = [bins[0] | {"n": 1000}]
    assert len([*calibration_answer([row | {"n": 1000}], many)]) == 2
