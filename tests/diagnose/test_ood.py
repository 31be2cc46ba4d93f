"""Out-of-distribution images with and without those that show a class of the model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from scipy.special import expit, softmax
from scipy.stats import entropy
from sklearn.metrics import roc_auc_score

from manyhot import Predictions, diagnose_ood, tables
from manyhot.core.uncertainty import Average, uncertainty_of
from manyhot.data.inputs import Reading
from manyhot.errors import InputError
from manyhot.tables import check
from manyhot.tables.array_inputs import as_labels
from manyhot.tables.labels import write_labels
from manyhot.tables.predictions_files import write_predictions

C = 5


def predictions(labels, logits, model="net"):
    return Predictions(labels.image_id, model, scores=logits, score_kind="logit", n_classes=C, link="softmax")


@pytest.fixture(scope="module")
def data():
    """Return images of classes, five of them without, and others, of which every third shows a class."""
    rng = np.random.default_rng(0)
    sets = [[] if i < 5 else [int(rng.integers(C))] for i in range(120)]
    logits = rng.normal(size=(120, C)) + 3 * np.eye(C)[[s[0] if s else 0 for s in sets]]
    others = [[int(rng.integers(C))] if i % 3 == 0 else [] for i in range(150)]
    theirs = rng.normal(size=(150, C)) + np.array([3 * np.eye(C)[s[0]] if s else np.zeros(C) for s in others])
    labels = as_labels(sets, n_classes=C)
    ood = as_labels(others, n_classes=C)
    return labels, logits.astype(np.float32), ood, theirs.astype(np.float32)


def value(table, **wanted):
    (row,) = [r for r in table.to_pylist() if all(r[k] == v for k, v in wanted.items())]
    return row


def test_values_are_those_of_scikit_learn(data, tmp_path):
    labels, logits, ood, theirs = data
    found = diagnose_ood(
        labels, [predictions(labels, logits)], ood=ood, ood_predictions=[predictions(ood, theirs)]
    )
    table = check(found.ood, "ood")
    assert table.num_rows == 3 * 3 * 2
    inside, shows = np.arange(120) >= 5, np.arange(150) % 3 == 0
    p, q = (softmax(a.astype(float), axis=1) for a in (logits, theirs))
    for score, ours, other in (
        ("confidence", p.max(1), q.max(1)),
        ("entropy", -entropy(p, axis=1), -entropy(q, axis=1)),
        ("energy", np.log(np.exp(logits).sum(1)), np.log(np.exp(theirs).sum(1))),
    ):
        for part, chosen in (("all", shows | True), ("no class", ~shows), ("some class", shows)):
            row = value(table, score=score, slice=part, measure="auroc")
            kind = np.repeat([1, 0], [115, chosen.sum()])
            expected = roc_auc_score(kind, np.concatenate([ours[inside], other[chosen]]))
            assert row["value"] == pytest.approx(expected, abs=1e-3)
            assert (row["n"], row["n_ood"]) == (115, chosen.sum())
            assert row["lo"] < row["value"] < row["hi"]
            fpr = value(table, score=score, slice=part, measure="fpr95")
            threshold = np.sort(ours[inside])[5]  # 110 of 115 are accepted
            assert fpr["value"] == pytest.approx((other[chosen] >= threshold).mean(), abs=0.021)
    auc = [value(table, score="energy", slice=s, measure="auroc")["value"] for s in ("all", "no class")]
    assert auc[0] < auc[1] - 0.1
    (line,) = [
        line for line in found.lines() if line.startswith("net") and "energy" in line and "all" in line
    ]
    assert line.split()[:4] == ["net", "energy", "all", f"{auc[0]:.3f}"]
    assert list(found.lines())[-1] == "in-distribution images: 115"
    assert tables.read(found.write(tmp_path / "ood")[0], "ood").equals(table)


def averaged(of, members, multilabel):
    """Return the average of members with the images in another order, and its scores by brute force."""
    p = expit(members) if multilabel else softmax(members, axis=2)
    both = np.stack([p, 1 - p]) if multilabel else p[None]
    mean = both.mean(1)
    total = -(mean * np.log(mean)).sum((0, 2))
    information = total + (both * np.log(both)).sum((0, 3)).mean(0)
    average = Average.of(p, multilabel=multilabel)
    rows = np.random.default_rng(1).permutation(len(of.image_id))
    uncertainty = uncertainty_of(average.mean, average.mutual_information, multilabel=multilabel).take(rows)
    whole = Predictions(
        of.image_id.take(pa.array(rows)),
        "five",
        scores=average.mean[rows].astype(np.float32),
        score_kind="probability",
        n_classes=C,
        uncertainty=uncertainty,
    )
    return whole, {"entropy": -total, "mutual_information": -information}


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("top", [0, 2])
def test_entropy_and_information_of_averages(data, multilabel, top, tmp_path):
    labels, logits, ood, theirs = data
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=(4, *scores.shape)) for scores in (logits, theirs)]
    ours, own = averaged(labels, logits + noise[0], multilabel)
    others, other = averaged(ood, theirs + 2 * noise[1], multilabel)
    if top:
        ours, others = (
            replace(
                p,
                classes=(best := np.argsort(-p.scores, axis=1)[:, :top]),
                scores=np.take_along_axis(p.scores, best, axis=1),
                uncertainty=p.uncertainty.of_classes(best),
            )
            for p in (ours, others)
        )
    paths = [write_predictions(p, tmp_path / f"{i}.parquet") for i, p in enumerate((ours, others))]
    found = diagnose_ood(labels, paths[0], ood=ood, ood_predictions=paths[1])
    inside, shows = np.arange(120) >= 5, np.arange(150) % 3 == 0
    assert set(found.ood["score"].to_pylist()) == {"confidence", "entropy", "mutual_information"}
    for score in own:
        for part, chosen in (("all", shows | True), ("no class", ~shows), ("some class", shows)):
            row = value(found.ood, score=score, slice=part, measure="auroc")
            kind = np.repeat([1, 0], [115, chosen.sum()])
            expected = roc_auc_score(kind, np.concatenate([own[score][inside], other[score][chosen]]))
            assert row["value"] == pytest.approx(expected, abs=1e-4)
            assert (row["n"], row["n_ood"]) == (115, chosen.sum())
    assert found.notes == ("five: no energy: it needs logits of all classes",)


def test_what_the_scores_do_not_allow(data):
    labels, logits, ood, theirs = data
    p, q = (
        replace(predictions(of, expit(scores)), score_kind="probability")
        for of, scores in ((labels, logits), (ood, theirs))
    )
    found = diagnose_ood(labels, [p], ood=ood, ood_predictions=[q])
    assert set(found.ood["score"].to_pylist()) == {"confidence"}
    assert found.notes == (
        "net: no entropy: the probabilities of an image do not add up to 1",
        "net: no energy: it needs logits of all classes",
    )


def test_unclear_images_and_classes_that_were_not_asked_about(data):
    labels, logits, _, _ = data
    table = pa.table(
        {
            "image_id": ["a", "b", "c"],
            "rated": [True] * 3,
            "usable": [True] * 3,
            "classes": pa.array([[0, 1], [1], []], pa.list_(pa.int32())),
            "state": [["no", "unclear"], ["yes"], []],
        }
    )
    ood = tables.Labels(table, C, asked_known=True)
    other = Predictions(pa.array(["a", "b", "c"]), "net", scores=logits[:3], score_kind="logit", n_classes=C)
    found = diagnose_ood(
        labels,
        [predictions(labels, logits)],
        ood=ood,
        ood_predictions=[other],
        reading=Reading(dataset="made up"),
    )
    sizes = {row["slice"]: row["n_ood"] for row in found.ood.to_pylist()}
    assert sizes == {"all": 3, "no class": 1, "some class": 1}
    assert np.isnan(found.ood["lo"].to_numpy()).all()
    assert found.notes == (
        "made up: 1 images show only unclear classes, so they are only in the slice all",
        "made up: for 1 images that show no class, raters were not asked about all classes",
    )


def test_models_must_predict_both(data):
    labels, logits, ood, theirs = data
    with pytest.raises(InputError) as error:
        diagnose_ood(
            labels,
            [predictions(labels, logits)],
            ood=ood,
            ood_predictions=[predictions(ood, theirs, "other")],
        )
    assert str(error.value) == (
        "No model with confidences has predictions for both kinds of images.\n"
        "  got:     net; out-of-distribution: other\n"
        "  allowed: the same models, with probabilities or logits\n"
        "  do:      if net and other are the same model, give their files the same name"
    )


def test_the_chapter_says_the_best_value_first(data, tmp_path):
    labels, logits, ood, theirs = data
    found = diagnose_ood(
        labels,
        [predictions(labels, logits)],
        ood=ood,
        ood_predictions=[predictions(ood, theirs)],
        reading=Reading(dataset="made up"),
    )
    assert [path.name for path in found.write(tmp_path)] == ["ood.parquet", "ood.csv", "index.html"]
    page = (tmp_path / "report" / "index.html").read_text()
    rows = [r for r in found.ood.to_pylist() if r["measure"] == "auroc"]
    best = max((r for r in rows if r["slice"] == "no class"), key=lambda r: r["value"])
    whole = value(found.ood, score=best["score"], slice="all", measure="auroc")
    shown, more = (f"{r['value']:.3f} ({r['lo']:.3f} to {r['hi']:.3f})" for r in (best, whole))
    assert (
        f"The highest AUROC is {shown}, by the {best['score']} of net, for 100 images of made up that show "
        f"no class of the model against 115 images of made up; for all 150 images, this AUROC is {more}."
    ) in page
    assert "How well scores separate out-of-distribution images" in page or "manyhot[report]" in page


def test_a_chapter_without_values(data, tmp_path):
    _, logits, _, _ = data
    none = as_labels([[0]], n_classes=C)
    other = Predictions(none.image_id, "net", scores=logits[:1], score_kind="logit", n_classes=C)
    empty = as_labels([[] for _ in range(120)], n_classes=C)
    found = diagnose_ood(empty, [predictions(empty, logits)], ood=none, ood_predictions=[other])
    found.write(tmp_path)
    page = (tmp_path / "report" / "index.html").read_text()
    assert "There are too few in-distribution or out-of-distribution images to compute the AUROC." in page


def test_images_without_labels_are_out_of_distribution_as_a_whole(data, tmp_path):
    labels, logits, ood, theirs = data
    folder = tmp_path / "photographs"
    folder.mkdir()
    tables.write(pa.table({"image_id": ood.image_id}), folder / "images.parquet", "images")
    write_predictions(predictions(ood, theirs), folder / "net.parquet")
    ours = write_predictions(predictions(labels, logits), tmp_path / "ours.parquet")
    known = write_labels(labels, tmp_path / "labels.parquet")

    found = diagnose_ood(known, ours, ood=folder)
    with_labels = diagnose_ood(
        labels, [predictions(labels, logits)], ood=ood, ood_predictions=folder / "net.parquet"
    )
    assert set(found.ood["slice"].to_pylist()) == {"all"}
    of_all = [r for r in with_labels.ood.to_pylist() if r["slice"] == "all"]
    names = ("score", "measure", "value", "lo", "hi", "n", "n_ood")
    assert [[r[n] for n in names] for r in found.ood.to_pylist()] == [[r[n] for n in names] for r in of_all]
    assert found.notes[-1] == (
        "photographs: without label sets, images that show a class of the model could not be left out; if "
        "there are some, pass them as `ood`"
    )
    found.write(tmp_path / "out")
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    assert "They could not be left out, because the images have no label sets." in page
    assert "no class" not in page


def test_in_distribution_images_need_labels(data, tmp_path):
    labels, logits, ood, theirs = data
    for name, of, scores in (("ours", labels, logits), ("theirs", ood, theirs)):
        (tmp_path / name).mkdir()
        tables.write(pa.table({"image_id": of.image_id}), tmp_path / name / "images.parquet", "images")
        write_predictions(predictions(of, scores), tmp_path / name / "net.parquet")
    with pytest.raises(InputError, match="no original labels"):
        diagnose_ood(tmp_path / "ours", ood=tmp_path / "theirs")


def test_a_declared_sigmoid_is_the_confidence_of_both_kinds_of_images(data):
    labels, logits, ood, theirs = data
    nets = [replace(predictions(*x), link="sigmoid") for x in ((labels, logits), (ood, theirs))]
    found = diagnose_ood(labels, nets[:1], ood=ood, ood_predictions=nets[1:])
    row = value(found.ood, score="confidence", slice="all", measure="auroc")
    top = np.concatenate([expit(logits.max(1))[5:], expit(theirs.max(1))])
    assert row["value"] == pytest.approx(roc_auc_score(np.repeat([1, 0], [115, 150]), top), abs=1e-6)
    assert "net: no entropy: the probabilities of an image do not add up to 1" in found.notes


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_folder_of_predictions_alone_has_out_of_distribution_images(data, tmp_path, suffix):
    labels, logits, ood, theirs = data
    folder = tmp_path / "others"
    folder.mkdir()
    if suffix == "parquet":
        write_predictions(predictions(ood, theirs), folder / "net.parquet")
    else:
        columns = {f"c{i}": theirs[:, i] for i in range(C)}
        pl.DataFrame({"image_id": ood.image_id.to_pylist(), **columns}).write_csv(folder / "net.csv")
    reading = Reading(classes=[f"c{i}" for i in range(C)], scores="logit")
    found = diagnose_ood(labels, [predictions(labels, logits)], ood=folder, reading=reading)
    row = value(found.ood, score="energy", measure="auroc")
    energies = [np.log(np.exp(a.astype(float)).sum(1)) for a in (logits[5:], theirs)]
    expected = roc_auc_score(np.repeat([1, 0], [115, 150]), np.concatenate(energies))
    assert row["value"] == pytest.approx(expected, abs=1e-3)
    assert (row["ood_dataset"], row["slice"], row["n"], row["n_ood"]) == ("others", "all", 115, 150)
    (file,) = folder.iterdir()
    for again in (
        {"ood": folder, "ood_predictions": [folder]},
        {"ood": file},
        {"ood": file, "ood_predictions": file},
    ):
        same = diagnose_ood(labels, [predictions(labels, logits)], **again, reading=reading).ood
        assert same.drop_columns("ood_dataset").equals(found.ood.drop_columns("ood_dataset"))
    files = {"ood": file, "ood_predictions": predictions(ood, theirs), "reading": reading}
    with pytest.raises(InputError, match="pass it as predictions"):
        diagnose_ood(labels, [predictions(labels, logits)], **files)


def test_undeclared_logits_have_the_link_of_in_distribution_labels_on_both_kinds_of_images():
    """The softmax was used for a network with sigmoids, without a note: an AUROC of 0.83, not 0.99."""
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(-1.5, 2, (400, C)), rng.normal(-3, 1, (300, C))
    y = (rng.random(ours.shape) < expit(ours)).astype(int)
    found = diagnose_ood(y, ours, ood=np.zeros((300, C), int), ood_predictions=theirs, scores="logit")
    (value,) = (
        r["value"]
        for r in found.ood.to_pylist()
        if (r["score"], r["slice"], r["measure"]) == ("confidence", "all", "auroc")
    )
    confidence = [expit(x).max(axis=1) for x in (ours[y.any(axis=1)], theirs)]
    inside = np.repeat([1, 0], [len(x) for x in confidence])
    assert value == pytest.approx(roc_auc_score(inside, np.concatenate(confidence)), abs=1e-6)
    assert "model: the probability of a class is the sigmoid of its logit" in found.notes


@pytest.mark.parametrize("listed", ["", "others.txt"])
def test_arrays_of_both_kinds_of_images(tmp_path, monkeypatch, listed):
    """The rows list the in-distribution images; the other array has as many rows as its own list, or none."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    labels = rng.integers(C, size=60)
    inside = (rng.normal(size=(60, C)) + 3 * np.eye(C)[labels]).astype(np.float32)
    others = rng.normal(size=(80, C)).astype(np.float32)
    for folder, array in (("in", inside), ("svhn", others)):
        Path(folder).mkdir()
        np.save(f"{folder}/net.npy", array)
    Path("in.csv").write_text("image_id,label\n" + "".join(f"i{i},{y}\n" for i, y in enumerate(labels)))
    Path("in.txt").write_text("".join(f"i{i}\n" for i in range(60)))
    Path("others.txt").write_text("".join(f"s{i}\n" for i in range(80)))
    found = diagnose_ood(
        "in.csv",
        ["in/net.npy"],
        ood=listed or "svhn/net.npy",
        ood_predictions=["svhn/net.npy"],
        reading=Reading(rows="in.txt", scores="logit"),
    )
    confidence = [softmax(a.astype(float), axis=1).max(1) for a in (inside, others)]
    expected = roc_auc_score(np.repeat([1, 0], [60, 80]), np.concatenate(confidence))
    row = value(found.ood, score="confidence", measure="auroc", slice="all")
    assert (row["n"], row["n_ood"]) == (60, 80)
    assert row["value"] == pytest.approx(expected, abs=1e-6)
