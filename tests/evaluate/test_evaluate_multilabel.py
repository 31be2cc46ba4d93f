"""Shankar et al.'s labels of 20,000 validation images: what Peychev et al. published of the same networks."""

import csv
import io
import json
import zipfile

import numpy as np
import pytest

from manyhot import diagnose_errors, evaluate
from manyhot.errors import FetchError
from saved_by_hand import MULTILABEL, save_multilabel

NETWORKS = (
    *("densenet121", "densenet161", "densenet169", "densenet201", "resnet18", "resnet34"),
    *("squeezenet1_0", "squeezenet1_1", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn"),
    *("vgg19", "vgg19_bn"),
)
"""Of torchvision, by the same weights. alexnet is one image off, inception_v3 has other weights."""


@pytest.fixture(scope="module")
def peychev(mirror):
    """Peychev et al.'s counts: eth-sri/automated-error-analysis, ``stats-imagenet``."""
    with zipfile.ZipFile(mirror) as archive:
        (name,) = (
            n for n in archive.namelist() if n.endswith("stats-imagenet/non_problematic_stats_all.csv")
        )
        rows = csv.DictReader(io.StringIO(archive.read(name).decode()))
        return {r["model_dir_id"].removeprefix("torchvision--"): r for r in rows}


@pytest.fixture
def saved(mirror, require, monkeypatch):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    save_multilabel(require)


def test_multi_label_accuracies_of_networks(saved, peychev):
    found = evaluate("multilabel", models=[*NETWORKS, "alexnet"], resamples=0)
    for name in NETWORKS:
        published = float(peychev[name]["mla_all"])
        assert 100 * found.value("mla", model=name) == pytest.approx(published, abs=1e-6), name
    counted = (r for r in found.results.to_pylist() if (r["metric"], r["slice"]) == ("mla", "all"))
    assert {(r["n"], r["n_skipped"]) for r in counted} == {(18_692, 1_308)}
    # One image of 18,692: in a class of 18 or so, a thousandth of 6 points.
    alexnet = 100 * found.value("mla", model="alexnet")
    assert 0 < abs(alexnet - float(peychev["alexnet"]["mla_all"])) < 0.01


def test_errors_collapsed_pairs_and_valid_labels_of_networks(saved, peychev):
    rules = ["collapsed-pair(original=True)", "valid-label(unclear=True)", "model-failure"]
    found = diagnose_errors("imagenet-multilabel", models=[*NETWORKS, "alexnet"], rules=rules)
    counts = {m.model: (sum(m.counts.values()), *m.counts.values()) for m in found.models}
    columns = ("num_all_top1_errors", "num_collapsed_mappings", "num_ambiguous")
    for name in NETWORKS:
        assert counts[name][:3] == tuple(int(peychev[name][c]) for c in columns), name
    assert counts["alexnet"][:3] == (7_543, 84, 846)
    assert int(peychev["alexnet"]["num_all_top1_errors"]) == 7_542


def test_multi_label_accuracy_with_numpy_alone(saved, mirror):
    with zipfile.ZipFile(mirror) as archive:
        read = {n.rpartition("/")[2]: n for n in archive.namelist() if "validation-original" in n}
        names = json.loads(archive.read(read["imagenet-validation-original.json"]))["image_filenames"]
        top = np.load(io.BytesIO(archive.read(read["vgg16.npy"])))[:, 0]
    predicted = {name.rpartition("/")[2]: c for (name, _), c in zip(names, top.tolist(), strict=True)}
    right: dict[int, list[bool]] = {}
    for row in csv.DictReader(io.StringIO(MULTILABEL.read_text(encoding="utf-8"))):
        if row["is_problematic"] == "False":
            valid = f"{row['proposed_labels']},{row['unclear_multi_labels']}".split(",")
            own = {int(c) for c in valid if c.strip()}
            right.setdefault(int(row["original_label"]), []).append(predicted[row["id"]] in own)
    expected = np.mean([np.mean(of_class) for of_class in right.values()])
    found = evaluate("multilabel", models=["vgg16"], resamples=0)
    assert found.value("mla") == pytest.approx(expected)


def test_labels_that_are_not_saved(mirror, monkeypatch, tmp_path):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    monkeypatch.setenv("MANYHOT_CACHE", str(tmp_path))
    with pytest.raises(FetchError) as caught:
        evaluate("multilabel")
    path = tmp_path / "imagenet-multilabel" / "multilabel.csv"
    address = (
        "https://raw.githubusercontent.com/klarajanouskova/ImageNet/008f8fbb123d584ae2a3573bd5f982dc8f31ab23/"
        "eval_corrections/load_data/validation_correction/imagenet_multilabel/multilabel.csv"
    )
    assert str(caught.value) == (
        "multilabel.csv must be downloaded by hand.\n"
        f"  where:   {path}\n"
        "  got:     no file\n"
        "  allowed: the published file, which manyhot does not download (licence: none stated)\n"
        f"  do:      download {address} to {path}"
    )
