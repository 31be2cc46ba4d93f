"""A folder of photographs without labels as the data set of a call."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

import manyhot as mh
from manyhot import cli, tables
from manyhot.data.inputs import open_inputs
from manyhot.data.reading_options import Reading
from manyhot.errors import InputError, UsageError
from manyhot.formats import detect, read_images, read_labels
from manyhot.predict.sources import open_source
from manyhot.reassess.audit import audit
from manyhot.reassess.init import init_campaign
from manyhot.reassess.propose import propose

NAMES = [f"img_{n:02}.JPG" for n in range(12)]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Write twelve photographs into one folder, and predictions of two models beside it."""
    monkeypatch.chdir(tmp_path)
    Path("classes.txt").write_text("cat\ndog\ncow\n")
    Path("photos").mkdir()
    Path("photos/notes.txt").write_text("from the holidays")
    Path("photos/._img_00.JPG").write_text("what macOS leaves")
    for name in NAMES:
        Image.new("RGB", (8, 6)).save(f"photos/{name}", format="JPEG")
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        top = np.stack([rng.permutation(3)[:2] for _ in NAMES])
        predictions = tables.Predictions(pa.array(NAMES), name, top, n_classes=3)
        tables.write_predictions(predictions, f"predictions/{name}.parquet")
    return tmp_path


def message(kind, function, *arguments, **more):
    with pytest.raises(kind) as error:
        function(*arguments, **more)
    return str(error.value)


@pytest.mark.parametrize("nested", [False, True])
def test_ids_and_addresses_are_those_of_predict(photos, nested):
    if nested:  # with the name of another image, so that ids are paths
        Path("photos/more").mkdir()
        Image.new("RGB", (8, 6)).save("photos/more/img_03.JPG")
    source = open_source("photos")
    listed = {(item.image_id, item.uri) for part in source.parts for item, _ in part.items()}
    table = read_images("photos", format="photographs").table
    assert set(zip(*(table[name].to_pylist() for name in ("image_id", "uri")), strict=True)) == listed
    assert len(listed) == 12 + nested
    assert table.column_names == ["image_id", "uri"]


def test_only_images_directly_in_a_folder_are_photographs(photos):
    assert detect("photos").name == "photographs"
    assert detect("predictions") is None
    Path("photos/cat").mkdir()
    Path("photos/img_00.JPG").rename("photos/cat/img_00.JPG")
    assert detect("photos").name == "image-folder"  # which has labels


def test_an_audit_is_drawn_from_photographs(photos):
    drawn = audit("photos", ["predictions"], size=6, seed=0, classes="classes.txt")
    assert drawn.notes[0] == "the 12 images of photos have no labels"
    table = tables.read("audit/images.parquet", "images")
    assert table["uri"].to_pylist() == [f"photos/{name}" for name in table["image_id"].to_pylist()]


def test_commands_that_need_no_labels(photos):
    made = propose("photos", ["predictions"], classes="classes.txt")
    assert set(made.table["image_id"].to_pylist()) == set(NAMES)
    assert made.notes[0] == "the 12 images of photos have no labels"
    init_campaign("campaign", images="photos", classes="classes.txt", predictions=["predictions"])
    assert tables.read("campaign/images.parquet", "images")["image_id"].to_pylist() == NAMES
    assert not init_campaign(
        "campaign", images="photos", classes="classes.txt", predictions=["predictions"]
    ).is_new
    Path("photos/img_00.JPG").unlink()
    assert "changed since: images/photos" in message(
        InputError,
        init_campaign,
        "campaign",
        images="photos",
        classes="classes.txt",
        predictions=["predictions"],
    )


def test_evaluation_says_that_there_are_no_labels(photos):
    whole = (
        "The folder contains images without labels.\n"
        "  where:   photos\n"
        "  allowed: folders of images, one per class; or label sets in a file\n"
        "  do:      pass label sets, or original labels (manyhot predict --labels); or let people label a "
        "sample: manyhot audit"
    )
    assert message(InputError, mh.evaluate, "photos", ["predictions"], classes="classes.txt") == whole
    assert message(InputError, read_labels, "photos") == whole
    assert message(UsageError, audit, "photos", size=6) == (
        "There are no predictions.\n"
        "  where:   photos\n"
        "  do:      pass them as `predictions`, or make them first: manyhot predict photos --model "
        "efficientnet-lite0"
    )


def test_predict_says_it_once(photos):
    Path("mine.py").write_text("def model():\n    return lambda images: images[:, :, 0, 0]\n")
    lines = (
        CliRunner()
        .invoke(cli.app, ["predict", "photos", "--model", "python:mine:model", "--out", "made"])
        .stdout.splitlines()
    )
    assert "the images have no labels; manyhot audit draws a sample of them for people to label" in lines


@pytest.mark.parametrize(("folders", "label"), [(("cam01", "cam02"), None), (("cat", "dog"), [0, 1])])
def test_subfolders_of_labelled_images_are_classes_only_if_the_labels_have_such_classes(
    photos, folders, label
):
    """diagnose labels asked a model for scores of the class cam01."""
    for name, folder in zip(NAMES, folders, strict=False):
        Path("shots", folder).mkdir(parents=True)
        Path("photos", name).rename(Path("shots", folder, name))
    labels = read_labels(_names(["cat", "dog"]))
    source = next(open_inputs("names.csv", "predictions", reading=Reading(images="shots", classes=None)))
    assert source.classes.keys == labels.class_list.keys == ("cat", "dog")
    found = source.images.table
    assert found["image_id"].to_pylist() == NAMES[:2]
    assert (found["label"].to_pylist() if "label" in found.column_names else None) == label


def _names(classes):
    rows = [f"{name},{c}" for name, c in zip(NAMES, classes, strict=False)]
    Path("names.csv").write_text("\n".join(["image,labels", *rows]))
    scores = [f"{name},0.9,0.1" for name in NAMES[:2]]
    for path in Path("predictions").iterdir():
        path.unlink()
    Path("predictions/m.csv").write_text("\n".join(["image," + ",".join(classes), *scores]))
    return "names.csv"
