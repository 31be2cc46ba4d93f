"""`compare --error-consistency`: its tables against plain NumPy, its page, and the published models."""

import json

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import cohen_kappa_score

from manyhot import Labels, Reading, compare
from manyhot.errors import UsageError
from manyhot.evaluate.error_consistency import CONSISTENCY_TABLES
from manyhot.evaluate.write import write_page
from manyhot.tables.array_inputs import as_labels
from report_pages import parse

N, C = 600, 6
READING = Reading(n_classes=C, trust_order=True, dataset="mine")


@pytest.fixture(scope="module")
def labels():
    """Return label sets with an original label, which is not valid on every fifth image."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, C, N)
    sets = [[(y + 1) % C] if i % 5 == 0 else [y] for i, y in enumerate(label)]
    sets[3] = []
    found = as_labels(sets, n_classes=C)
    return Labels(found.table.append_column("label", [label.astype(np.int32)]), C, name="mine")


@pytest.fixture(scope="module")
def predictions(labels):
    rng = np.random.default_rng(1)
    label, hard = labels.table["label"].to_numpy(), rng.normal(size=N)
    models = {}
    for name, skill in {"vgg11": 0.2, "resnet18": 0.5, "resnet50": 0.9, "resnet101": 1.0}.items():
        right = hard + rng.normal(size=N) < skill
        best = np.where(right, label, (label + rng.integers(1, 3, N)) % C)
        models[name] = np.stack([best, (best + 1) % C], axis=1)
    return models


@pytest.fixture(scope="module")
def found(labels, predictions):
    return compare(predictions, labels=labels, reading=READING, error_consistency=True, resamples=200)


def answers(labels, predictions):
    """Return whether models are right by the label and by the label set, on images with both."""
    kept = np.arange(N) != 3
    label = labels.table["label"].to_numpy()
    valid = np.where(np.arange(N) % 5 == 0, (label + 1) % C, label)
    return {
        metric: {m: (p[:, 0] == truth)[kept] for m, p in predictions.items()}
        for metric, truth in (("top1", label), ("real1", valid))
    }


def test_each_pair_has_its_kappa_and_counts(found, labels, predictions):
    right = answers(labels, predictions)
    rows = found.consistency.error_consistency.to_pylist()
    assert len(rows) == 2 * 6
    for row in rows:
        a, b = (right[row["metric"]][row[m]] for m in ("model_a", "model_b"))
        assert row["kappa"] == pytest.approx(cohen_kappa_score(a, b))
        counts = [row[c] for c in ("both_right", "only_a", "only_b", "both_wrong", "n")]
        assert counts == [sum(a & b), sum(a & ~b), sum(~a & b), sum(~a & ~b), N - 1]
        assert row["kappa_lo"] < row["kappa"] < row["kappa_hi"]


def test_the_mean_and_its_difference_are_over_pairs(found, labels, predictions):
    right = answers(labels, predictions)
    pairs = pl.from_arrow(found.consistency.error_consistency)
    means = {row["metric"]: row for row in found.consistency.consistency_means.to_pylist()}
    for metric, row in means.items():
        every = np.stack(list(right[metric].values()))
        assert row["kappa"] == pytest.approx(pairs.filter(metric=metric)["kappa"].mean())
        assert (row["all_right"], row["none_right"]) == (every.all(0).sum(), (~every).all(0).sum())
        assert (row["models"], row["pairs"], row["n"]) == (4, 6, N - 1)
    assert means["top1"]["difference"] is None
    difference = means["real1"]["kappa"] - means["top1"]["kappa"]
    assert means["real1"]["difference"] == pytest.approx(difference)
    assert means["real1"]["difference_lo"] < difference < means["real1"]["difference_hi"]


def test_the_map_has_families_and_values(found, labels, predictions):
    right = answers(labels, predictions)
    rows = [r for r in found.consistency.model_map.to_pylist() if r["metric"] == "real1"]
    families = {row["model"]: row["family"] for row in rows}
    assert families["resnet18"] == families["resnet50"] != families["vgg11"]
    assert [row["value"] for row in rows] == pytest.approx([r.mean() for r in right["real1"].values()])


def test_the_terminal_answers_first_and_names_the_pairs(found):
    lines = str(found).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("Error consistency on mine by top1: "))
    assert lines[start + 1].startswith("Error consistency on mine by real1: ")
    assert " compared with top1 (n 599); all models are right on " in lines[start + 1]
    assert lines[start + 2] == "pairs by real1:"
    assert lines[start + 3].split() == [
        "model",
        "model",
        "kappa",
        "95",
        "%",
        "both",
        "wrong",
        "one",
        "wrong",
        "n",
    ]


def test_tables_are_written_and_drawn(found, tmp_path):
    found.write(tmp_path)
    for name in CONSISTENCY_TABLES:
        table = getattr(found.consistency, name)
        assert pl.read_parquet(tmp_path / f"{name}.parquet").height == table.num_rows
        assert found.to_json()[name] == table.to_pylist()
    page = parse(write_page(tmp_path, beside=False).read_text(encoding="utf-8"))
    section = page.one("section", id="consistency")
    assert "Error consistency on mine by ReaL: 0." in section.text
    assert section.all("figure")


def test_an_earlier_comparison_leaves_nothing(found, labels, predictions, tmp_path):
    found.write(tmp_path)
    compare(predictions, labels=labels, reading=READING, resamples=0).write(tmp_path)
    assert not [name for name in CONSISTENCY_TABLES if (tmp_path / f"{name}.parquet").exists()]


def test_without_labels_there_is_one_metric(predictions):
    sets = [[int(p)] for p in predictions["resnet50"][:, 0]]
    found = compare(predictions, labels=sets, reading=READING, error_consistency=True, resamples=0)
    (mean,) = found.consistency.consistency_means.to_pylist()
    assert (mean["metric"], mean["difference"]) == ("real1", None)
    assert found.consistency.error_consistency["kappa_lo"].null_count == 6


def test_models_that_never_differ_have_no_kappa(labels):
    label = labels.table["label"].to_numpy()
    same = {name: np.stack([label, (label + 1) % C], axis=1) for name in "ab"}
    sets = [[int(y)] for y in label]
    found = compare(same, labels=sets, reading=READING, error_consistency=True)
    assert "Error consistency on mine by real1 is not defined: no two models differ." in str(found)
    json.dumps(found.to_json())


def test_results_alone_are_not_enough(found):
    with pytest.raises(UsageError) as error:
        compare(found.results, error_consistency=True)
    assert str(error.value).splitlines()[:2] == [
        "Options for predictions can only be used with label sets.",
        "  got:     `error_consistency`",
    ]


@pytest.mark.slow
def test_the_published_models_fail_on_the_same_images(mirror, monkeypatch):
    """Recomputed outside manyhot: mean kappa .612 by label and .581 by ReaL of 64 networks, 2,050 images."""
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    found = compare(
        labels="imagenet-val", without=["fv_*"], metrics=["real1"], error_consistency=True, resamples=0
    )
    top1, real1 = found.consistency.consistency_means.to_pylist()
    assert (top1["models"], top1["pairs"], top1["n"], top1["none_right"]) == (64, 2016, 46_837, 2050)
    assert (round(top1["kappa"], 3), round(real1["kappa"], 3)) == (0.612, 0.581)
    assert real1["difference_hi"] < 0
