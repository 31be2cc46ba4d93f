"""The one door: arrays with what only Python can give, and folders with label sets."""

import json

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from manyhot.classes import from_keys
from manyhot.data import catalog
from manyhot.data.inputs import Reading, open_inputs
from manyhot.diagnose.classes import diagnose_classes
from manyhot.tables import Predictions, write, write_labels, write_predictions
from manyhot.tables.array_inputs import as_labels

SETS, LABEL = [[0, 1], [2]], [0, 2]


def test_arrays_with_labels_and_a_kind_of_scores():
    (source,) = open_inputs(SETS, np.eye(3)[:2], reading=Reading(label=LABEL, scores="probability"))
    assert source.sets().table["label"].to_pylist() == LABEL
    assert [m.score_kind for m in source.models()] == ["probability"]
    (source,) = open_inputs(SETS, np.array([[0], [1]]), reading=Reading(n_classes=7))
    assert source.sets().n_classes == 7


def test_a_folder_with_label_sets_gives_these_and_its_images(tmp_path):
    ids = ["0", "1"]
    write(
        pa.table({"image_id": ids, "label": pa.array(LABEL, pa.int32())}),
        tmp_path / "images.parquet",
        "images",
    )
    write_labels(as_labels(SETS, n_classes=3), tmp_path / "labels.parquet")
    write_predictions(
        Predictions(pa.array(ids), "net", np.array([[0], [1]]), n_classes=3), tmp_path / "net.parquet"
    )
    (source,) = open_inputs(tmp_path, reading=Reading(images=tmp_path))
    assert source.labels is not None
    assert source.images.label.to_pylist() == LABEL
    assert set(source.inputs) == {"labels.parquet", "images.parquet"}
    assert [m.model for m in source.models()] == ["net"]


def test_label_sets_in_memory_and_models_in_files(tmp_path):
    for name in ("net", "other"):
        model = Predictions(pa.array(["0", "1"]), name, np.array([[0], [1]]), n_classes=3)
        write_predictions(model, tmp_path / f"{name}.parquet")
    labels = as_labels(SETS, n_classes=3)
    (source,) = open_inputs(labels, tmp_path, reading=Reading(models=["n*"]))
    assert [m.model for m in source.models()] == ["net"]
    assert set(source.inputs) == {"net.parquet"}
    (source,) = open_inputs(labels, {"a": np.eye(3)[:2], "b": np.eye(3)[:2]}, reading=Reading(models=["b"]))
    assert [m.model for m in source.models()] == ["b"]


def test_published_models_on_label_sets_in_a_file(tmp_path, monkeypatch, mirror):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    files = catalog.fetch("imagenet-val-predictions")
    order = json.loads(files["imagenet-validation-original.json"].read_text())
    rows = [name for name, _ in order["image_filenames"]]
    top = np.load(files["resnet50.npy"])[:, 0].tolist()
    chosen = [7, 49_999, 3]
    lines = [f"{rows[i]},{top[i]},{'yes' if i == 7 else 'no'}" for i in chosen]
    (tmp_path / "ours.csv").write_text("\n".join(["image_id,class_id,state", *lines]))
    (tmp_path / "imagenet-val").mkdir()
    (source,) = open_inputs("ours.csv", "imagenet-val", reading=Reading(models=["resnet50"]))
    (model,) = source.models()
    assert model.model == "resnet50"
    best = dict(zip(model.image_id.to_pylist(), model.classes[:, 0].tolist(), strict=True))
    assert [best[rows[i]] for i in chosen] == [top[i] for i in chosen]
    assert set(source.inputs) > {"ours.csv", "imagenet-val/resnet50.npy"}
    assert "imagenet-val/real.json" not in source.inputs
    assert source.misfits.remarks == [
        "imagenet-val refers to the published data set; to read the file or folder of this name, pass "
        "./imagenet-val"
    ]


def test_the_kind_of_scores_of_a_file(tmp_path):
    np.save(tmp_path / "net.npy", np.eye(3, dtype=np.float32)[:2])
    (tmp_path / "rows.txt").write_text("0\n1\n")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    write_labels(as_labels(SETS, n_classes=3), tmp_path / "labels.parquet")
    files = {"rows": tmp_path / "rows.txt", "classes": tmp_path / "classes.txt"}
    for labels in (tmp_path / "labels.parquet", as_labels(SETS, n_classes=3)):
        for kind in ("cosine", "none", None):
            reading = Reading(**files, scores=kind)
            (source,) = open_inputs(labels, tmp_path / "net.npy", reading=reading)
            assert [m.score_kind for m in source.models()] == [kind or "score"]


def test_a_file_that_declares_another_kind_of_scores(tmp_path):
    scores = np.eye(3, dtype=np.float32)[:2]
    logits = Predictions(pa.array(["0", "1"]), "net", scores=scores, score_kind="logit", n_classes=3)
    write_predictions(logits, tmp_path / "net.parquet")
    labels = as_labels(SETS, n_classes=3)
    (source,) = open_inputs(labels, tmp_path / "net.parquet", reading=Reading(scores="logit"))
    assert [m.score_kind for m in source.models()] == ["logit"]


@pytest.mark.parametrize("form", ["rows", "npz", "lists", "parquet"])
def test_the_kind_that_a_file_declares_applies_to_this_file(tmp_path, form):
    """`scores` is one value for all models, so it cannot be wrong for a file that declares its kind."""
    p = np.array([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]], np.float32)
    net = tmp_path / ("net.csv" if form == "rows" else f"net.{'npz' if form == 'npz' else 'parquet'}")
    if form == "rows":
        cells = [(str(i), "abc"[c], p[i, c]) for i in range(2) for c in range(3)]
        pl.DataFrame(cells, ["image", "class", "probability"], orient="row").write_csv(net)
    elif form == "npz":
        np.savez(net, probabilities=p, ids=np.array(["0", "1"]), class_names=np.array(list("abc")))
    elif form == "lists":
        lists = {"image": ["0", "1"], "classes": [list("abc")] * 2, "probabilities": p.tolist()}
        pl.DataFrame(lists).write_parquet(net)
    else:
        own = from_keys(list("abc"))
        kind = {"score_kind": "probability", "link": "softmax", "class_list": own, "class_hash": own.hash}
        write_predictions(Predictions(pa.array(["0", "1"]), "net", scores=p, n_classes=3, **kind), net)
    pl.DataFrame({"id": ["0", "1"], **dict(zip("abc", p.T * 8, strict=True))}).write_csv(tmp_path / "a.csv")
    (tmp_path / "labels.csv").write_text("image_id,label\n0,a\n1,c\n")
    reading = Reading(scores="logit", links="sigmoid")
    (source,) = open_inputs(tmp_path / "labels.csv", [net, tmp_path / "a.csv"], reading=reading)
    models = {m.model: m for m in source.models()}
    assert {name: m.score_kind for name, m in models.items()} == {"net": "probability", "a": "logit"}
    links = {"parquet": "softmax"}
    assert models["net"].link == links.get(form, "sigmoid")
    notes = source.misfits.notes()
    told = "net: the predictions declare {} themselves, so {}, passed as `{}`, does not apply to them"
    assert notes.count(told.format("probability", "logit", "scores")) == 1
    assert notes.count(told.format("softmax", "sigmoid", "links")) == (form in links)


def test_the_former_name_of_the_kind_of_scores():
    with pytest.warns(FutureWarning, match="score_kind is called scores now"):
        assert Reading(score_kind="logit") == Reading(scores="logit")


def traps(tmp_path, known=("coyote", "deer", "empty"), column="label"):
    """Write 40 images of two species and 20 that show nothing, and a softmax that knows 'empty'."""
    rng, names = np.random.default_rng(0), ["coyote", "deer", "empty"]
    truth = np.repeat([0, 1, 2], 20)
    scores = rng.dirichlet(np.ones(3), 60) + np.eye(3)[truth]
    ids = [f"{i:02}.jpg" for i in range(60)]
    table = pl.DataFrame({"image_id": ids, **dict(zip(names, scores.T / 2, strict=True))})
    table.write_csv(tmp_path / "softmax.csv")
    labels = [names[t] if names[t] in known else "" for t in truth]
    pl.DataFrame({"filename": ids, column: labels}).write_csv(tmp_path / "labels.csv")
    return tmp_path / "labels.csv", tmp_path / "softmax.csv"


def remarks(files, **reading):
    """Return what is noted about the classes of a model; evaluate and the diagnoses note the same."""
    (source,) = open_inputs(*files, reading=Reading(scores="probability", **reading))
    assert len(list(source.models())) == 1
    return source.misfits.notes(source.name)


def test_a_class_for_nothing_that_no_label_names(tmp_path):
    # On a stranger's camera traps, mAP (micro) was 8 % instead of 43 %, without a word.
    files = traps(tmp_path, known=("coyote", "deer"), column="labels")
    (note,) = remarks(files)
    assert note == (
        "labels: no image has the label 'empty', which is a class of the predictions, but 20 of 60 images "
        "have an empty label set: metrics of the top class skip these images, and all other metrics count "
        "the prediction of 'empty' there as wrong; write 'empty' as the label of these images, "
        "or leave the class out of the predictions"
    )
    made = diagnose_classes(*files, reading=Reading(scores="probability"))
    assert made.notes.count(note) == 1
    # In a column of single labels, an empty cell may also stand for an image that nobody has labelled yet.
    (note,) = remarks(traps(tmp_path, known=("coyote", "deer")))
    assert note == (
        "labels: 20 of 60 images have an empty cell instead of a label and are left out; if these images "
        "have none of the classes, call the column 'labels', or write a class such as 'empty' into the cells"
    )
    # An images table is the same file with other names of columns.
    labels, softmax = traps(tmp_path, known=("coyote", "deer"))
    images = tmp_path / "labels.csv"
    images.write_text(labels.read_text().replace("filename,", "image_id,"), encoding="utf-8")
    assert remarks((images, softmax)) == [note]
    assert remarks(traps(tmp_path)) == []
