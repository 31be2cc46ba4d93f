"""A folder that predict wrote names its classes: later commands are not told them."""

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import manyhot
from manyhot.classes import class_list, from_keys
from manyhot.data.inputs import Reading, open_inputs, open_labels
from manyhot.errors import InputError, MatchError
from manyhot.formats import read_predictions
from manyhot.predict.network import Preprocessing
from manyhot.predict.predict import predict
from manyhot.predict.weights import Head, Trained, write_head, write_trained

timm = pytest.importorskip("timm")

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

NAMES = ("tabby cat", "dog", "sofa")
CLASSES = replace(from_keys(("k3", "k1", "k2"), "pets"), names=NAMES)
FILE = "timm--test_resnet.parquet"
SEEN = Preprocessing((32, 32), (32, 32), mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Photographs with labels, a class list with names, and a backbone that a function makes."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(9):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / f"photos/{i}.png")
    rows = (f"{i}.png,{CLASSES.keys[i % 3]}\n" for i in range(9))
    (tmp_path / "labels.csv").write_text("image_id,label\n" + "".join(rows))
    rows = (f"{key},{name}\n" for key, name in zip(CLASSES.keys, NAMES, strict=True))
    (tmp_path / "classes.csv").write_text("key,name\n" + "".join(rows))
    (tmp_path / "backbones_of_pets.py").write_text(
        "import timm, torch\n"
        "def net():\n    torch.manual_seed(0)\n    return timm.create_model('test_resnet', num_classes=3)\n"
    )
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("backbones_of_pets", None)


def head():
    weight = np.random.default_rng(1).normal(size=(3, 96)).astype(np.float32)
    net = "python:backbones_of_pets:net(size=32)"
    write_head(Head(net, CLASSES, "softmax", weight, np.zeros(3, np.float32), 0.1, 9), "own.safetensors")
    return f"head:own.safetensors(backbone='{net}')", {"engine": "torch"}


def trained():
    weights = timm.create_model("test_resnet", num_classes=3).state_dict()
    about = {"backbone": "none"}
    write_trained(
        Trained("test_resnet", {}, CLASSES, "softmax", SEEN.to_dict(), weights, about), "own.safetensors"
    )
    return "trained:own.safetensors", {"engine": "torch"}


def onnx():
    import torch

    module, example = timm.create_model("test_resnet", num_classes=3).eval(), torch.zeros(1, 3, 32, 32)
    torch.onnx.export(
        module, (example,), "own.onnx", dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "n"}}
    )
    return "onnx:own.onnx", {"classes": "classes.csv", "engine": "onnx"}


def without_class_list(path):
    """Rewrite an images table as before the class list was kept in it."""
    table = pq.read_table(path)
    about = {k: v for k, v in table.schema.metadata.items() if k not in (b"manyhot.keys", b"manyhot.names")}
    pq.write_table(table.replace_schema_metadata(about), path)


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("model", [head, trained, onnx])
def test_the_folder_of_predict_names_its_classes(place, model, earlier, require):
    if model is onnx:
        for name in ("onnx", "onnxruntime"):
            require(__import__("importlib").util.find_spec(name) is not None, name)
    spec, options = model()
    predict("photos", spec, labels="labels.csv", out="predictions", **options)
    if earlier:
        without_class_list(place / "predictions/images.parquet")
    (source,) = open_inputs("predictions")
    assert (source.classes.keys, source.classes.names) == (CLASSES.keys, NAMES)
    (predicted,) = source.models()
    assert predicted.n_classes == 3
    assert source.images.label.to_pylist() == [0, 1, 2] * 3

    written = manyhot.build_gallery("predictions", out="gallery")
    shown = (place / "gallery/data/index.js").read_text(encoding="utf-8")
    names = json.loads(shown[shown.index("(") + 1 : shown.rindex(")")])["names"]
    assert (len(written.gallery), set(names.values())) == (9, set(NAMES))


def test_the_labels_of_the_folder_name_their_classes_without_predictions(place):
    spec, options = trained()
    predict("photos", spec, labels="labels.csv", out="predictions", **options)
    (source,) = open_labels("predictions/images.parquet")
    assert source.classes.names == NAMES


def test_images_without_labels_take_the_classes_of_their_first_model(place):
    spec, options = trained()
    predict("photos", spec, out="predictions", **options)
    assert b"manyhot.keys" not in pq.read_schema("predictions/images.parquet").metadata
    (source,) = open_inputs("predictions", unlabelled=True)
    assert source.classes.names == NAMES


def test_a_gallery_of_a_file_of_labels_has_the_photographs_beside_the_predictions(place):
    spec, options = trained()
    predict("photos", spec, out="predictions", **options)
    written = manyhot.build_gallery("labels.csv", "predictions", out="gallery")
    shown = (place / "gallery/data/index.js").read_text(encoding="utf-8")
    names = json.loads(shown[shown.index("(") + 1 : shown.rindex(")")])["names"]
    assert [names[str(shot.label)] for shot in written.gallery.shots][:3] == ["tabby cat", "dog", "sofa"]
    assert len([*(place / "gallery/photos").iterdir()]) == 9


def test_the_labels_of_the_data_set_count_and_not_those_of_another_images_table(place):
    spec, options = trained()
    predict("photos", spec, labels="labels.csv", out="predictions", **options)
    few = (place / "labels.csv").read_text().splitlines()[:4]
    (place / "few.csv").write_text("\n".join([few[0], *(line.replace("k3", "k1") for line in few[1:])]))
    (source,) = open_inputs("few.csv", "predictions", reading=Reading(images="predictions"))
    labelled = source.images.table.filter(source.images.label.is_valid())
    names = [source.classes.keys[c] for c in labelled["label"].to_pylist()]
    assert dict(zip(labelled["image_id"].to_pylist(), names, strict=True)) == {
        "0.png": "k1",
        "1.png": "k1",
        "2.png": "k2",
    }
    assert "uri" in labelled.column_names


def test_labels_that_are_no_classes_of_the_model_are_noted(place):
    (place / "folders/wolf").mkdir(parents=True)
    (place / "photos/0.png").rename(place / "folders/wolf/0.png")
    spec, options = trained()
    assert predict("folders", spec, out="predictions", **options).notes == (
        "the images have labels, such as wolf, but these are not classes of the model and are not written; "
        "manyhot transfer --method probe fits a model of these classes",
    )


def test_labels_of_other_classes_in_a_table_are_noted(place):
    """The run was refused, so that own images could not even get embeddings."""
    rows = "".join(f"{i}.png,{'wolf' if i % 2 else 'lynx'}\n" for i in range(1, 9))  # 0.png has no label
    (place / "labels.csv").write_text("image_id,label\n" + rows)
    spec, options = trained()
    assert predict("photos", spec, labels="labels.csv", out="predictions", **options).notes == (
        "the images have labels, such as wolf, but these are not classes of the model and are not written; "
        "manyhot transfer --method probe fits a model of these classes",
    )
    assert "label" not in pq.read_schema("predictions/images.parquet").names


@pytest.fixture
def unnamed(place):
    """A checkpoint of timm, which contains no class names, and class folders of what it predicts."""
    import torch

    torch.manual_seed(3)
    net = timm.create_model("test_resnet", num_classes=3)
    torch.save({"state_dict": net.state_dict()}, place / "own.pth.tar")
    for i, key in enumerate(("cat", "cow", "dog")):
        (place / "val" / key).mkdir(parents=True)
        (place / f"photos/{i}.png").rename(place / f"val/{key}/{i}.png")
    (place / "names.txt").write_text("cat\ncow\ndog\n")
    return "timm/test_resnet(checkpoint='own.pth.tar', num_classes=3)"


@pytest.mark.parametrize("within", [True, False])
def test_the_outputs_of_an_own_checkpoint_are_named(unnamed, place, within):
    if within:
        spec, classes = unnamed.replace(")", ", classes='names.txt')"), None
    else:
        spec, classes = unnamed, "names.txt"
    predict("val", spec, out="named", classes=classes, engine="torch", dense=True)
    predict("val", unnamed, out="numbered", engine="torch", dense=True)
    named, numbered = (read_predictions(f"{path}/{FILE}") for path in ("named", "numbered"))
    assert named.class_list.keys == ("cat", "cow", "dog")
    assert numbered.class_list.keys == ("0", "1", "2")
    np.testing.assert_array_equal(named.scores, numbered.scores)  # the order of the outputs is kept
    assert len(manyhot.evaluate("val", "named", metrics=["top1"])) > 0


def test_an_own_checkpoint_without_names_asks_for_them(unnamed, place):
    noted = predict("val", unnamed, out="numbered", engine="torch").notes
    assert any("if the model predicts these classes, name them with `classes`" in note for note in noted)
    with pytest.raises(MatchError, match="no class in common"):
        manyhot.evaluate("val", "numbered")


def test_a_list_of_other_outputs_is_refused(unnamed, place):
    (place / "two.txt").write_text("cat\ndog\n")
    with pytest.raises(InputError, match=r"does not name all outputs[^$]*2 classes in two"):
        predict("val", unnamed.replace(")", ", classes='two.txt')"), out="named")
    with pytest.raises(MatchError, match="its 3 outputs have no names: pass as many classes, in their order"):
        predict("val", unnamed, out="named", classes="two.txt")


def test_the_option_also_names_the_outputs_that_imagenet_would(place):
    (place / "thousand.txt").write_text("".join(f"thing {i}\n" for i in range(1000)))
    spec = "timm/test_resnet(checkpoint='none', classes='thousand.txt')"
    predict("photos", spec, out="named", engine="torch")
    found = read_predictions(f"named/{FILE}")
    assert found.class_list.keys[:2] == ("thing 0", "thing 1")


@pytest.mark.parametrize(
    ("folders", "options", "noted"),
    [
        (("0", "1", "11"), {}, True),
        (("0", "1", "150"), {}, False),
        (("0", "1", "11"), {"classes": "imagenet-r"}, False),
        (("n01443537", "n01484850"), {}, False),
    ],
)
def test_labels_that_are_numbers_of_other_classes_get_a_note(place, folders, options, noted):
    """Labels of 12 classes are read as the first 12 of the model's 200, unless a class list is passed."""
    for name in folders:
        (place / "val" / name).mkdir(parents=True)
        shutil.copy(place / "photos/0.png", place / "val" / name / f"of-{name}.png")
    (place / "backbones_of_pets.py").write_text(
        "import numpy as np\n"
        "from manyhot.classes import class_list\n"
        "from manyhot.predict.network import Network, Preprocessing\n"
        "SEEN = Preprocessing((8, 8), (8, 8), mean=(0.0,) * 3, std=(1.0,) * 3)\n"
        "def net():\n"
        "    forward = lambda images: np.zeros((len(images), 200), np.float32)\n"
        "    return Network('r', class_list('imagenet-r'), SEEN, forward=forward)\n"
    )
    found = predict("val", "python:backbones_of_pets:net", engine="own", **options)
    names = class_list("imagenet-r").names
    note = (
        "the labels are numbers from 0 to 11, which are read as numbers of the 200 classes of imagenet-r, "
        f"such as 0 for {names[0]}; if they number other classes, pass the list of these as `classes`"
    )
    assert [text for text in found.notes if "numbers" in text] == [note] * noted
