import importlib

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from manyhot import tables
from manyhot.classes import from_keys
from manyhot.errors import InputError, UnknownNameError
from manyhot.models import Classifier, predict, write_skipped

# The package's attribute of this name is the function.
MODULE = importlib.import_module("manyhot.models.predict")
CLASSES = from_keys(("red", "green", "blue", "grey"))


def mean_colour(batch):
    red, green, blue = batch.mean(axis=(2, 3)).T
    return np.stack([red, green, blue, 0.5 * np.ones_like(red)], axis=1).astype(np.float32) * 10


@pytest.fixture(autouse=True)
def batches(monkeypatch):
    """The look-up gives a model whose classes are colours. Returns the sizes of its batches."""
    sizes = []

    def forward(batch):
        sizes.append(len(batch))
        return mean_colour(batch)

    def preprocess(image):
        return np.asarray(image.resize((4, 4)), np.float32).transpose(2, 0, 1) / 255

    model = Classifier("tint", CLASSES, preprocess, forward)
    monkeypatch.setattr(MODULE, "get", lambda kind, name: {("model", "tint"): lambda: model}[kind, name])
    return sizes


@pytest.fixture
def folder(tmp_path):
    for name, colour in {
        "blue/b.png": (0, 0, 255),
        "green/g.png": (0, 255, 0),
        "red/r.png": (255, 0, 0),
    }.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        Image.new("RGB", (6, 5), colour).save(tmp_path / "in" / name)
    (tmp_path / "in" / "e.jpg").touch()
    return tmp_path / "in"


def test_best_classes_first_with_logits(folder):
    said = predict(folder, "tint", top=2).predictions
    assert said.image_id.to_pylist() == ["b.png", "g.png", "r.png"]
    assert said.classes.tolist() == [[2, 3], [1, 3], [0, 3]]
    assert said.scores.tolist() == [[10, 5]] * 3
    assert (said.scores.dtype, said.logsumexp.dtype) == (np.float32, np.float32)
    assert (said.model, said.score_kind, said.n_classes, said.class_hash) == (
        "tint",
        "logit",
        4,
        CLASSES.hash,
    )


def test_all_scores_and_their_logsumexp(folder):
    dense, best = predict(folder, "tint", top=None).predictions, predict(folder, "tint", top=1).predictions
    assert dense.is_dense
    assert dense.scores.shape == (3, 4)
    np.testing.assert_allclose(best.logsumexp, np.log(np.exp(dense.scores.astype(float)).sum(1)), rtol=1e-6)
    assert np.array_equal(dense.logsumexp, best.logsumexp)


def test_large_logits_do_not_overflow():
    large = MODULE._logsumexp(np.array([[1000, 1000], [-1000, -2000]], np.float32))
    np.testing.assert_allclose(large, [1000 + np.log(2), -1000], rtol=1e-6)


def test_images_with_labels_and_sizes(folder):
    images = predict(folder, "tint").images
    assert images.label.to_pylist() == [2, 1, 0]
    assert images.table["uri"][0].as_py() == f"{folder.as_posix()}/blue/b.png"
    assert images.table["width"].to_pylist() == [6] * 3
    assert images.table["height"].to_pylist() == [5] * 3


def test_no_label_column_where_no_folder_is_a_class(folder):
    said = predict(folder / "blue", "tint")
    assert said.images.label.to_pylist() == [2]
    (folder / "blue").rename(folder / "sky")
    assert predict(folder / "sky", "tint").images.label is None


def test_what_cannot_be_decoded_is_listed(folder, tmp_path):
    said = predict(folder, "tint")
    assert [(s.image_id, s.reason) for s in said.skipped] == [("e.jpg", "the file is empty")]
    path = write_skipped(said.skipped, tmp_path / "skipped.csv")
    assert path.read_text() == f"image_id,uri,reason\ne.jpg,{folder.as_posix()}/e.jpg,the file is empty\n"


def test_nothing_skipped_is_a_header(tmp_path):
    assert write_skipped((), tmp_path / "s.csv").read_text() == "image_id,uri,reason\n"


def test_batches_and_progress(folder, batches):
    seen = []
    predict(folder, "tint", batch=3, progress=lambda done, total: seen.append((done, total)))
    assert batches == [2, 1]  # blue, the empty file and green; then red
    assert seen == [(3, 4), (4, 4)]


def test_a_batch_without_an_image(folder, batches):
    (folder / "blue" / "b.png").write_bytes(b"")
    assert len(predict(folder, "tint", batch=2).predictions) == 2
    assert batches == [2]


@pytest.mark.parametrize("top", [1, 3, 20, None])
def test_file_round_trip(folder, tmp_path, top):
    said = predict(folder, "tint", top=top).predictions
    path = tables.write_predictions(said, tmp_path / tables.predictions_file_name(said.model))
    read = tables.predictions_from_table(tables.read(path, "predictions"), model="?")
    assert path.name == "tint.parquet"
    assert read.about() == said.about()
    assert read.image_id.equals(said.image_id)
    for name in ("classes", "scores", "logsumexp"):
        assert np.array_equal(getattr(read, name), getattr(said, name))


def test_same_images_same_bytes(folder, tmp_path):
    a, b = (
        tables.write_predictions(predict(folder, "tint").predictions, tmp_path / name).read_bytes()
        for name in ("a", "b")
    )
    assert a == b


def test_readable_without_manyhot(folder, tmp_path):
    said = predict(folder, "tint", top=2)
    tables.write(said.images.table, tmp_path / "images.parquet", "images")
    path = tables.write_predictions(said.predictions, tmp_path / "p.parquet")
    assert pq.read_table(path).to_pylist()[0]["classes"] == [2, 3]
    assert pq.read_table(tmp_path / "images.parquet").to_pylist()[2]["label"] == 0


def test_nothing_can_be_decoded(folder):
    for path in folder.glob("*/*.png"):
        path.write_bytes(b"?")
    with pytest.raises(InputError) as error:
        predict(folder, "tint")
    assert str(error.value) == (
        "None of the images could be decoded.\n"
        f"  where:   {folder}\n"
        f"  got:     {folder.as_posix()}/blue/b.png: not an image of a known format; and 3 more"
    )


@pytest.mark.parametrize("option", ["top", "batch"])
def test_counts_from_one(folder, option):
    with pytest.raises(InputError) as error:
        predict(folder, "tint", **{option: 0})
    assert str(error.value) == f"{option} must be at least 1.\n  got:     0"


def test_an_unknown_model(folder, monkeypatch):
    monkeypatch.undo()
    with pytest.raises(UnknownNameError, match=r"did you mean 'efficientnet-lite"):
        predict(folder, "efficientnet-lite3")
