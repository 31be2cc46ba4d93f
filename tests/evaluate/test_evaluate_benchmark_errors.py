"""What raters say about the errors of published models, recomputed from the published files alone."""

import json
import threading

import numpy as np
import polars as pl
import pytest

from manyhot import evaluate, read_images, read_labels, read_predictions
from manyhot.classes import class_list
from manyhot.data.benchmarks import BENCHMARKS
from manyhot.evaluate.evaluate import _together
from manyhot.evaluate.label_kinds import find_label_kinds

MODELS = ("alexnet", "resnet50", "pnasnet_large_tf")
METRICS = ("errors_asked", "accepted_errors", "preferred_errors")


@pytest.fixture(scope="module")
def files(mirror):
    """Return a function that fetches files of an entry of the catalogue."""
    from manyhot.data import catalog

    return lambda entry, *names: catalog.fetch(entry, only=names or None, mirror=mirror)


@pytest.fixture(scope="module")
def raw(files):
    """Return original labels and scores by image, without our readers."""
    real = files("imagenet-real", "scores.npz", "real.json")
    order = files("imagenet-val-predictions", "imagenet-validation-original.json")
    listed = json.loads(order["imagenet-validation-original.json"].read_text())["image_filenames"]
    keys = sorted({key for _, key in listed})
    label = {name: keys.index(key) for name, key in listed}
    scores = {}
    with np.load(real["scores.npz"]) as archive:
        for (name, class_id), score in zip(archive["info"].tolist(), archive["tensor"].tolist(), strict=True):
            scores.setdefault(name, {})[int(class_id)] = score
    return label, scores


def judged_by_hand(raw, predictions):
    """Count errors: all, asked about, accepted, with the original label asked about too, and preferred."""
    label, scores = raw
    n = dict.fromkeys(("errors", "asked", "accepted", "both", "preferred"), 0)
    for name, best in zip(label, predictions[:, 0].tolist(), strict=True):
        if best == label[name]:
            continue
        known = scores.get(name, {})
        n["errors"] += 1
        n["asked"] += best in known
        n["accepted"] += known.get(best, 0) >= 0.8
        n["both"] += best in known and label[name] in known
        n["preferred"] += best in known and label[name] in known and known[best] > known[label[name]]
    return n


@pytest.mark.parametrize("model", MODELS)
def test_errors_of_published_models(model, files, raw):
    real = files("imagenet-real", "scores.npz", "real.json")
    given = files("imagenet-val-predictions", "imagenet-validation-original.json", f"{model}.npy")
    rows = read_images(given["imagenet-validation-original.json"])
    labels = read_labels(real["scores.npz"]).with_labels(rows)
    predictions = read_predictions(given[f"{model}.npy"], rows=rows)
    results = evaluate(labels, [predictions], metrics=METRICS, resamples=100)
    found = {r["metric"]: r for r in results.results.to_pylist() if r["slice"] == "all"}
    n = judged_by_hand(raw, np.load(given[f"{model}.npy"]))
    expected = {
        "errors_asked": (n["asked"], n["errors"]),
        "accepted_errors": (n["accepted"], n["asked"]),
        "preferred_errors": (n["preferred"], n["both"]),
    }
    for metric, (k, of) in expected.items():
        row = found[metric]
        assert (round(row["value"] * row["n"]), row["n"], row["n_skipped"]) == (k, of, 50_000 - of)
        # Wilson's interval, written out.
        z, p = 1.959963984540054, k / of
        centre, half = (p + z**2 / (2 * of)), z * np.sqrt(p * (1 - p) / of + z**2 / (4 * of**2))
        ends = [(centre - half) / (1 + z**2 / of), (centre + half) / (1 + z**2 / of)]
        assert [row["lo"], row["hi"]] == pytest.approx(ends)


@pytest.mark.slow
def test_benchmark_of_errors(files, raw, mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    evaluate("errors").write(tmp_path / "errors")
    results = pl.read_parquet(tmp_path / "errors" / "results.parquet").filter(slice="all")
    assert set(results["metric"]) == set(BENCHMARKS["errors"].metrics)
    assert results["model"].n_unique() == 67
    real, main = (results.filter(dataset=d) for d in ("imagenet-val", "imagenet-val-main"))
    # Of the main objects nothing is known but which class they are.
    assert main.filter(pl.col("metric").is_in(METRICS))["n"].sum() == 0
    assert real.filter(metric="accepted_errors")["value"].is_between(0, 1).all()
    # The main object of each image and the model's class, without the labels that were judged on.
    given = files("imagenet-val-predictions", "imagenet-validation-original.json", "resnet50.npy")
    counts = pl.from_arrow(read_images(files("tsipras")["annotations_classify_task.pkl"]).table).drop_nulls(
        "main_label"
    )
    best = dict(zip(raw[0], np.load(given["resnet50.npy"])[:, 0].tolist(), strict=True))
    rows = counts.select("image_id", "label", "main_label").iter_rows()
    wrong = [best[name] == named for name, label, named in rows if best[name] != label]
    row = main.filter(model="resnet50", metric="valid_errors").to_dicts()[0]
    assert (round(row["value"] * row["n"]), row["n"], row["n_skipped"]) == (
        sum(wrong),
        len(wrong),
        6_761 - len(wrong),
    )


def test_kinds_of_imagenet(mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    found = find_label_kinds("tsipras")
    (written,) = found.write(tmp_path / "kinds.parquet")
    table = pl.read_parquet(written)
    # Tsipras et al. count two or more objects in 2,156 of their 10,000 images, 21.6 %.
    assert (found.annotated, found.several_counted) == (10_000, 2_156)
    counted = table.filter("counted")
    assert dict(counted["n_objects"].value_counts().rows()) == {
        1: 4605, 2: 1562, 3: 451, 4: 99, 5: 27, 6: 17
    }  # fmt: skip
    assert (counted.filter(pl.col("n_objects") > 1)["kind"] == "several-objects").all()
    assert found.check.sum() == counted.filter(pl.col("n_labels") > 1).height
    # Counted again in loops over real.json's sets, the 64 networks' two best classes and WordNet's paths.
    assert found.check.tolist() == [[259, 214], [172, 705]]
    assert found.counts == {"one": 38_169, "several-objects": 6_314, "ambiguous": 1_976, "near-synonyms": 432}
    assert found.synonyms[0][2:] == (153, 161)
    assert len(found.synonyms) == 13
    # ReaL has two or more labels on 7,443 images, none on 3,163, and one on 39,394.
    assert table.filter(pl.col("n_labels") > 1)["kind"].null_count() == 0
    assert table.filter(n_labels=1)["kind"].is_in(["one", "several-objects"]).all()
    assert sum(found.counts.values()) + table["kind"].null_count() == 50_000


def test_after_a_failure_no_further_data_set_is_judged():
    begun, go, others = [], threading.Event(), set(threading.enumerate())

    def fails():
        raise ZeroDivisionError

    def waits():
        go.wait(60)

    with pytest.raises(ZeroDivisionError):
        _together([fails, waits, waits, lambda: begun.append(True)])
    go.set()
    for thread in set(threading.enumerate()) - others:
        thread.join(5)
    assert not begun


def test_labels_of_which_one_name_is_not_imagenets(mirror, raw, files, tmp_path, monkeypatch):
    """The numbers of published predictions are ImageNet's, not positions among the names of the labels."""
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    given = files("imagenet-val-predictions", "imagenet-validation-original.json", "resnet50.npy")
    best = dict(zip(raw[0], np.load(given["resnet50.npy"])[:, 0].tolist(), strict=True))
    some = list(raw[0])[:3000]
    label = {name: [class_list().names[raw[0][name]]] for name in some} | {some[0]: ["sunny day"]}
    (tmp_path / "l.json").write_text(json.dumps(label))
    options = {"models": ["resnet50"], "metrics": ["real1"], "resamples": 0}
    found = evaluate(tmp_path / "l.json", "imagenet-val", **options)
    assert found.value("real1") == pytest.approx(
        np.mean([best[name] == raw[0][name] for name in some[1:]] + [0])
    )
