"""From what predict wrote, a campaign, label sets or published data to a gallery."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from manyhot import build_gallery, cli, tables
from manyhot.data.inputs import Reading
from manyhot.errors import InputError, MatchError
from manyhot.predict.predict import predict
from manyhot.reassess.init import init_campaign

image = pytest.importorskip("PIL.Image")
SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "data" / "samples"
IDS = [f"{i}.jpg" for i in range(6)]
LABEL = [0, 0, 0, 1, 1, 2]


def predictions(name, classes, scores=None, n_classes=3, class_hash=""):
    kind = "none" if scores is None else "probability"
    return tables.Predictions(pa.array(IDS), name, classes, scores, None, kind, n_classes, class_hash)


def gallery_of(labels, out, *, images=None, **options):
    """Return what a gallery shows that is written into a folder."""
    return build_gallery(labels, out=out, reading=Reading(images=images), **options).gallery


@pytest.fixture
def predicted(tmp_path):
    """A folder as predict leaves it: two models, one of them with embeddings."""
    folder = tmp_path / "pred"
    (folder / "embeddings").mkdir(parents=True)
    for i, name in enumerate(IDS):
        image.new("RGB", (40, 30), (40 * i, 90, 90)).save(tmp_path / name)
    uris = [str(tmp_path / i) for i in IDS]
    table = pa.table({"image_id": IDS, "uri": uris, "label": pa.array(LABEL, pa.int32())})
    tables.write(table, folder / "images.parquet", "images")
    first = predictions("my/first", np.array([[0, 1]] * 6), np.array([[0.9, 0.1]] * 6, np.float32))
    second = predictions("second", np.array([[2, 0]] * 6))
    for model in (first, second):
        tables.write_predictions(model, folder / tables.predictions_file_name(model.model))
    # On a line of angles: the nearest of an image is beside it.
    angles = np.array([0.0, 0.1, 0.5, 0.6, 0.2, 1.0])
    np.save(
        folder / "embeddings" / "my--first.npy",
        np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32),
    )
    return folder


def write_sets(path, states=None):
    states = states or [{c: "yes"} for c in LABEL]
    table = pa.table(
        {
            "image_id": IDS,
            "label": pa.array(LABEL, pa.int32()),
            "usable": [True] * 6,
            "classes": pa.array([list(s) for s in states], pa.list_(pa.int32())),
            "state": [list(s.values()) for s in states],
        }
    )
    return tables.write_labels(tables.Labels(table, 3, asked_known=True, name="sets"), path)


def test_a_folder_that_predict_wrote(predicted, tmp_path):
    found = build_gallery(predicted, out=tmp_path / "out")
    made, written = found.gallery, found.written
    assert made.title == "pred"
    assert made.models == ("my/first", "second")
    assert made.similar_by == "my/first"
    # Class 0 has the images 0, 1, 2 at angles 0, 0.1, 0.5; class 1 has 3 and 4 at 0.6, 0.2.
    assert made.shots[0].similar == {0: (1, 2), 1: (4, 3), 2: (5,)}
    assert made.shots[2].similar[0] == (1, 0)
    assert made.shots[5].similar == {0: (2, 1, 0), 1: (3, 4), 2: ()}
    assert written[0] == tmp_path / "out" / "index.html"
    assert len(list((tmp_path / "out" / "photos").iterdir())) == 6


def test_label_sets_with_predictions_beside(predicted, tmp_path):
    sets = write_sets(tmp_path / "sets.parquet", [{0: "yes", 2: "yes"}] + [{c: "yes"} for c in LABEL[1:]])
    made = gallery_of(sets, tmp_path / "out", predictions=[predicted], images=predicted, models=["sec*"])
    assert made.title == "sets"
    assert made.models == ("second",)
    assert [s.verdicts[0] for s in made.shots] == ["valid", *["unasked"] * 4, "right"]
    assert made.similar_by == ""
    assert made.shots[0].similar[0] == (1, 2), "a fixed choice, without the image itself"
    made = gallery_of(sets, tmp_path / "out", predictions=[predicted], images=predicted, embeddings=predicted)
    assert made.similar_by == "my/first"


def test_a_folder_that_detect_wrote(predicted, tmp_path):
    """Predictions are in a folder of their own, beside the label sets and the images."""
    folder = tmp_path / "detected"
    (folder / "predictions").mkdir(parents=True)
    images = tables.read(predicted / "images.parquet", "images").drop_columns(["label"])
    tables.write(images, folder / "images.parquet", "images")
    boxes = {"image_id": IDS[:1], "class_id": pa.array([0], pa.int32())}
    corners = {name: pa.array([0.5], pa.float32()) for name in ("x1", "y1", "x2", "y2")}
    tables.write(pa.table({**boxes, **corners, "ignore": [False]}), folder / "objects.parquet", "objects")
    columns = {"image_id": IDS, "rated": [False] * 6, "usable": [True] * 6}
    sets = {"classes": [[0]] * 6, "state": [["yes"]] * 3 + [["no"]] * 3, "p": [[0.9]] * 3 + [[0.1]] * 3}
    table = pa.table({**columns, **sets})
    tables.write_labels(tables.Labels(table, 3, asked_known=True), folder / "labels.parquet")
    scores = np.array([[0.9, 0.2, 0.1]] * 3 + [[0.1, 0.05, 0.0]] * 3, np.float32)
    detector = tables.Predictions(pa.array(IDS), "detector", None, scores, None, "score", 3)
    tables.write_predictions(detector, folder / "predictions" / "detector.parquet")
    made = gallery_of(folder, tmp_path / "out")
    assert made.models == ("detector",)
    assert [s.verdicts for s in made.shots] == [("unknown",)] * 6
    assert len(gallery_of(folder, tmp_path / "out", predictions=predicted).models) == 2, (
        "those that are passed"
    )


def test_original_labels_that_only_the_label_sets_tell(predicted, tmp_path):
    sets = write_sets(tmp_path / "sets.parquet")
    bare = tables.read(predicted / "images.parquet", "images").drop_columns("label")
    images = tables.write(bare, tmp_path / "bare.parquet", "images")
    made = gallery_of(sets, tmp_path / "out", predictions=[predicted], images=images, embeddings=predicted)
    assert made.similar_by == "my/first"
    assert made.shots[2].similar[0] == (1, 0)


def test_a_campaign(predicted, tmp_path):
    classes = tmp_path / "classes.txt"
    classes.write_text("cat\ndog\ncup\n")
    home = tmp_path / "camp"
    init_campaign(home, images=predicted, predictions=[predicted], classes=classes)
    made = gallery_of(home, tmp_path / "out")
    assert (made.title, made.names) == ("camp", {0: "cat", 1: "dog", 2: "cup"})
    assert not any(s.is_rated for s in made.shots)


def test_findings(predicted, tmp_path):
    table = pa.table({"kind": ["fine-grained"], "image_id": [IDS[3]], "model": ["my/first"]})
    path = tables.write(table, tmp_path / "findings.parquet", "findings")
    made = gallery_of(predicted, tmp_path / "out", findings=path)
    assert [s.kinds[0] for s in made.shots] == ["", "", "", "fine-grained", "", ""]


def test_the_command(predicted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.app, ["gallery", "pred"])
    assert done.exit_code == 0
    assert done.output.startswith("6 images, 2 models\nwrote gallery/index.html\n")
    done = CliRunner().invoke(cli.app, ["gallery", "pred", "--json", "--models", "second"])
    told = json.loads(done.output)
    assert (told["images"], told["models"]) == (6, ["second"])
    assert "gallery/data/0.js" in told["written"]
    assert told["absent"] == 0
    (tmp_path / IDS[2]).write_bytes(b"broken")
    done = CliRunner().invoke(cli.app, ["gallery", "pred"])
    assert done.stderr == "Note: 1 photograph cannot be shown; the gallery shows the reason for each.\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"models": ["resnet*"]},
            "No model has such a name.\n  got:     resnet*\n  allowed: my/first, second",
        ),
        (
            {"embeddings": "."},
            "The folder contains no embeddings.\n  where:   .\n"
            "  allowed: a folder written by manyhot predict --embeddings",
        ),
    ],
)
def test_bad_input(predicted, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        gallery_of(predicted, tmp_path / "out", **options)
    assert str(error.value) == message
    assert not (tmp_path / "out").exists()


def test_no_such_source(tmp_path):
    with pytest.raises(InputError) as error:
        gallery_of(tmp_path / "none", tmp_path / "out")
    assert str(error.value).startswith(
        f"There is no such data set, campaign or file.\n  got:     {tmp_path / 'none'}\n  allowed: imagenet, "
    )
    assert str(error.value).endswith(
        "; the folder of a campaign or of predictions; label sets or images in a file"
    )


def test_label_sets_alone(predicted, tmp_path):
    sets = write_sets(tmp_path / "sets.parquet")
    with pytest.raises(InputError) as error:
        gallery_of(sets, tmp_path / "out")
    assert str(error.value) == (
        f"There are no predictions.\n  where:   {sets}\n  do:      pass them as `predictions`"
    )
    # Without the images table beside the predictions, which predict leaves there.
    alone = (predicted / "second.parquet").rename(tmp_path / "second.parquet")
    with pytest.raises(InputError) as error:
        gallery_of(sets, tmp_path / "out", predictions=[alone])
    assert str(error.value) == (
        f"The locations of the photographs are unknown.\n  where:   {sets}\n"
        "  allowed: an images table with the columns image_id and uri\n"
        "  do:      pass such a table as `images`"
    )


def test_no_images(predicted, tmp_path):
    empty = tables.read(predicted / "images.parquet", "images").slice(0, 0)
    images = tables.write(empty, tmp_path / "none.parquet", "images")
    with pytest.raises(InputError) as error:
        gallery_of(predicted, tmp_path / "out", images=images)
    assert str(error.value) == f"The file has no rows.\n  where:   {images}"
    assert not (tmp_path / "out").exists()


def test_a_model_that_predicts_none_of_the_images(predicted, tmp_path):
    table = tables.read(predicted / "images.parquet", "images")
    other = table.set_column(0, "image_id", pa.array([f"other{i}" for i in IDS]))
    images = tables.write(other, tmp_path / "other.parquet", "images")
    with pytest.raises(MatchError) as error:
        gallery_of(predicted, tmp_path / "out", images=images)
    assert str(error.value) == (
        "No images are in both the images and my/first.\n  got:     ids such as 0.jpg, 1.jpg\n"
        "  allowed: ids such as other0.jpg, other1.jpg\n"
        "  do:      pass the file with the images of each row, or labels of the same data set"
    )


def test_dense_scores_are_shown_as_their_best_classes(predicted, tmp_path):
    scores = np.log(np.array([[0.2, 0.7, 0.1]] * 6, np.float32)) + 3
    dense = tables.Predictions(pa.array(IDS), "dense", None, scores, None, "logit", 3)
    tables.write_predictions(dense, tmp_path / "dense.parquet")
    made = gallery_of(predicted, tmp_path / "out", predictions=[tmp_path / "dense.parquet"])
    seen = [s.seen[0] for s in made.shots]
    assert [c for c, _ in seen[0]] == [1, 0, 2]
    assert [p for _, p in seen[5]] == pytest.approx([0.7, 0.2, 0.1])


def test_other_class_lists_are_refused(predicted, tmp_path):
    tables.write_predictions(
        predictions("third", np.array([[0, 1]] * 6), n_classes=10), predicted / "third.parquet"
    )
    with pytest.raises(MatchError) as error:
        gallery_of(predicted, tmp_path / "out")
    assert str(error.value) == (
        "third has a different number of classes from my/first.\n"
        f"  where:   {predicted / 'third.parquet'}\n"
        "  got:     10 classes\n  allowed: 3 classes\n"
        "  do:      predict again with the same class list, or convert the file"
    )


def test_the_folder_is_not_what_is_read(predicted):
    with pytest.raises(InputError) as error:
        gallery_of(predicted, predicted)
    assert str(error.value) == (
        f"The output would overwrite an input.\n  where:   {predicted}\n  got:     {predicted}\n"
        "  do:      choose another path for the output"
    )


@pytest.mark.slow
def test_photographs_of_imagenet(require, tmp_path):
    """Sixty photographs, one a class, and a real network."""
    require((SAMPLES / "samples.tar").is_file(), f"{SAMPLES}, one image a class")
    from manyhot.predict.engines import installed

    require(installed("openvino"), "openvino")
    with tarfile.open(SAMPLES / "samples.tar") as tar:
        tar.extractall(tmp_path / "photos", tar.getmembers()[:60], filter="data")
    index = (SAMPLES / "index.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "index.csv").write_text("".join(index[:61]), encoding="utf-8")
    predict(
        tmp_path / "photos",
        "efficientnet-lite0",
        out=tmp_path / "pred",
        labels=tmp_path / "index.csv",
        embeddings=True,
        engine="openvino",
    )
    made = gallery_of(tmp_path / "pred", tmp_path / "out")
    told = [s.image_id.partition("_")[2].removesuffix(".JPEG").replace("_", " ") for s in made.shots]
    assert sum(made.names[s.label] == t for s, t in zip(made.shots, told, strict=True)) > 50
    assert {s.verdicts[0] for s in made.shots} == {"right", "wrong"}
    # 86.9 % of all thousand photographs.
    assert 45 <= sum(s.verdicts[0] == "right" for s in made.shots) < 60
    assert all(0 <= p <= 1 for s in made.shots for _, p in s.seen[0])
    for i, shot in enumerate(made.shots):
        for c, rows in shot.similar.items():
            assert list(rows) == [j for j, s in enumerate(made.shots) if s.label == c and j != i]
    size = sum(p.stat().st_size for p in (tmp_path / "out").rglob("*"))
    assert size < 60 * 60_000
