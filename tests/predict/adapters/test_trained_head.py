"""Heads of one's own on a backbone: the file, and the network it becomes."""

import json
import shlex
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manyhot.classes import class_list, from_keys
from manyhot.errors import InputError
from manyhot.predict.in_memory import predict_in_memory
from manyhot.predict.models import find_model, is_published
from manyhot.predict.network import Preprocessing
from manyhot.predict.weights import Head, Trained, read_head, write_head, write_trained

timm = pytest.importorskip("timm")
torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

CLASSES = from_keys(("cat", "dog", "sofa"), "pets")

NET = "python:backbones:net(size=96)"

MINE = f"head:mine.safetensors(backbone='{NET}')"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Photographs, and backbones that a function makes: of 96 features, of maps, and unsuitable ones."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for name in "abcde":
        pixels = rng.integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{name}.png")
    (tmp_path / "backbones.py").write_text(
        "import timm, torch\n"
        "from torch import nn\n"
        "def net():\n    torch.manual_seed(0)\n    return timm.create_model('test_resnet', num_classes=7)\n"
        "def softened():\n    return nn.Sequential(nn.Flatten(), nn.Linear(192, 7), nn.Softmax(1))\n"
        "def callable():\n    return lambda x: x.reshape(len(x), -1)[:, :7].astype('float32')\n"
    )
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("backbones", None)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_a_head_on_a_network_trained_on_label_sets(place, loss):
    """The sigmoids of the network belong to its own classifier, which the head replaces."""
    torch.manual_seed(1)
    module = timm.create_model("test_resnet", num_classes=3).eval()
    preprocessing = Preprocessing((32, 32), (36, 36)).to_dict()
    trained = Trained("test_resnet", {}, CLASSES, "sigmoid", preprocessing, module.state_dict(), {})
    write_trained(trained, "model.safetensors")
    head = made("trained:model.safetensors", loss)
    write_head(head, "mine.safetensors")
    features = predict_in_memory("photos", head.backbone, embeddings=True, engine="torch").embeddings
    spec = 'head:mine.safetensors(backbone="trained:model.safetensors")'
    found = predict_in_memory("photos", spec, top=None, engine="torch", embeddings=True)
    expected = features.astype(np.float64) @ head.weight.T + head.bias
    if loss == "sigmoid":
        expected = 1 / (1 + np.exp(-expected))
    np.testing.assert_allclose(found.predictions.scores, expected, rtol=0, atol=5e-3)
    np.testing.assert_allclose(found.embeddings, features, rtol=0, atol=1e-2)


def made(backbone, loss="softmax", d=96, scale=0.1):
    rng = np.random.default_rng(1)
    weight = scale * rng.normal(size=(3, d)).astype(np.float32)
    return Head(backbone, CLASSES, loss, weight, np.float32([0.5, -1, 0]), 0.1, 600)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_predictions_are_those_of_features(place, loss, engine):
    head = made(NET, loss)
    write_head(head, "mine.safetensors")
    features = predict_in_memory("photos", head.backbone, embeddings=True, engine="torch").embeddings
    said = predict_in_memory("photos", MINE, top=None, engine=engine, embeddings=True)
    p = said.predictions
    assert (p.model, p.class_hash) == ("head/mine", CLASSES.hash)
    expected = features.astype(np.float64) @ head.weight.T + head.bias
    if loss == "sigmoid":
        expected = 1 / (1 + np.exp(-expected))
    assert (p.score_kind, p.link) == (("logit", "softmax") if loss == "softmax" else ("probability", ""))
    np.testing.assert_allclose(p.scores, expected, rtol=0, atol=5e-3)  # features are kept in half precision
    np.testing.assert_allclose(said.embeddings, features, rtol=0, atol=1e-2)


def test_the_classes_of_imagenet_keep_their_hierarchy(place):
    known = class_list()
    zeros = np.zeros((1000, 96), np.float32)
    write_head(Head("b", known, "softmax", zeros, zeros[:, 0], 1.0, 2), "in1k.safetensors")
    assert read_head("in1k.safetensors").classes is known


def test_other_weights_are_another_run(place):
    for name, scale in (("a", 0.1), ("b", 0.2)):
        write_head(made(NET, scale=scale), f"{name}.safetensors")
    weights = [find_model(f"head:{name}.safetensors(backbone='{NET}')").about["weights"] for name in "ab"]
    assert weights[0] != weights[1]


def hostile(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


ABOUT = {
    "backbone": "b",
    "loss": "softmax",
    "penalty": 0.1,
    "n": 3,
    "classes": {"name": "x", "keys": ["a", "b"], "names": ["a", "b"]},
}


def header(about=ABOUT, dtype="F32", shape=(2, 3), n=32):
    size = 2 * shape[1] * (4 if dtype == "F32" else 2)
    return {
        "__metadata__": {"manyhot.head": about if isinstance(about, str) else json.dumps(about)},
        "weight": {"dtype": dtype, "shape": list(shape), "data_offsets": [0, size]},
        "bias": {"dtype": "F32", "shape": [2], "data_offsets": [size, size + 8]},
    }


NOTHING = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}

BROKEN = {
    "text": (b"no head", None, "Error while deserializing header: header too small"),
    "no metadata": (
        {"weight": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}},
        b"",
        "no manyhot.head",
    ),
    "no bias": (
        {
            "__metadata__": {"manyhot.head": json.dumps(ABOUT)},
            "weight": NOTHING,
        },
        b"",
        "File does not contain tensor bias",
    ),
    "no json": (
        header("{"),
        bytes(32),
        "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
    ),
    "a list": (header("[]"), bytes(32), "its text is not an object"),
    "a number for the backbone": (
        header({**ABOUT, "backbone": 3}),
        bytes(32),
        "backbone has a wrong value",
    ),
    "half precision": (header(dtype="F16"), bytes(20), "weight has a wrong value"),
    "three classes": (
        header({**ABOUT, "classes": {"name": "x", "keys": list("abc"), "names": list("abc")}}),
        bytes(32),
        "The arrays of a head do not match its classes.",
    ),
    "a class twice": (
        header({**ABOUT, "classes": {"name": "x", "keys": list("aa"), "names": list("aa")}}),
        bytes(32),
        "The class list contains a key twice.",
    ),
    "no keys": (header({**ABOUT, "classes": {}}), bytes(32), "no keys"),
    "another loss": (header({**ABOUT, "loss": "hinge"}), bytes(32), "There is no such loss."),
    "nested deeply": (
        {"__metadata__": {"manyhot.head": "[" * 100_000}},
        b"",
        "maximum recursion depth exceeded while decoding a JSON array from a unicode string",
    ),
    "not finite": (
        header(),
        np.full(8, np.nan, "<f4").tobytes(),
        "A head contains values that are not finite.",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files(tmp_path, name):
    top, data, said = BROKEN[name]
    path = tmp_path / "broken.safetensors"
    path.write_bytes(top) if data is None else hostile(path, top, data)
    with pytest.raises(InputError) as error:
        find_model(f"head:{path}")
    assert str(error.value) == (
        f"The file is not a head written by manyhot.\n  where:   {path}\n  got:     {said}\n"
        "  do:      fit it again"
    )


def test_a_file_that_is_not_there():
    with pytest.raises(InputError) as error:
        find_model("head:none.safetensors")
    assert str(error.value) == "The file does not exist.\n  where:   none.safetensors"


def test_another_name(tmp_path):
    with pytest.raises(InputError) as error:
        write_head(made("b"), tmp_path / "mine.pt")
    assert str(error.value) == f"A head is written to a .safetensors file.\n  got:     {tmp_path / 'mine.pt'}"


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (
            "python:elsewhere:net",
            "The backbone of a head cannot be built.\n  where:   mine.safetensors\n"
            "  got:     python:elsewhere:net: There is no such module.\n"
            "  do:      your own file or function must be in the same location as when the head was fitted",
        ),
        (
            "head:mine.safetensors",
            "The backbone of a head is a head itself.\n  where:   mine.safetensors\n"
            "  got:     head:mine.safetensors",
        ),
        (
            "python:backbones:callable(size=8)",
            "A head cannot be put on this model, because the model's penultimate features are unknown.\n"
            "  where:   mine.safetensors\n  got:     python/backbones.callable",
        ),
        (
            NET,
            "The head was not fitted on the features of its backbone.\n"
            "  where:   mine.safetensors\n  got:     192 weights per class\n"
            "  allowed: 96, the number of features of python/backbones.net",
        ),
        (
            "python:backbones:softened(size=8)",
            "A head cannot be put on this model, because other layers follow the model's classifier.\n"
            "  where:   mine.safetensors\n  got:     python/backbones.softened",
        ),
        (3, "The option 'backbone' must be a string.\n  got:     3\n  allowed: backbone='NAME'"),
    ],
)
def test_backbones_that_take_no_head(place, backbone, message):
    write_head(made("efficientnet-lite0", d=192), "mine.safetensors")
    with pytest.raises(InputError) as error:
        find_model(f"head:mine.safetensors(backbone={backbone!r})")
    assert str(error.value) == message


PUBLISHED = (
    "efficientnet-lite0, efficientnet-lite1, efficientnet-lite2, squeezenet, timm/NAME, torchvision/NAME"
)


@pytest.mark.parametrize(
    "backbone",
    [
        "python:helper:run",
        " python:helper:run",
        "python:helper:run(size=96)",
        "python:os:getcwd",
        "onnx:helper.onnx",
        "openvino:helper.xml",
        "trained:helper.safetensors",
        "timm/local-dir:helper",
        "timm/hf-hub:owner/name",
        "timm/resnet50(checkpoint='helper.pth')",
        "torchvision/resnet50(checkpoint='helper.pth')",
        "torchvision/https://example.org/helper.pth",
        "open_clip/ViT-B-32/helper.pt",
        "open_clip/ViT-B-32/openai",
        "timm/" + 200 * "x",
    ],
)
def test_a_file_names_published_weights_alone(place, backbone):
    """Of a shared folder nothing beside a head's file is run or opened."""
    Path("helper.py").write_text("from pathlib import Path\nPath('ran').touch()\ndef run():\n    pass\n")
    write_head(made(backbone), "evil.safetensors")
    with pytest.raises(InputError) as error:
        find_model("head:evil.safetensors")
    quoted = backbone.replace("'", "'\"'\"'")
    assert str(error.value) == (
        "A head file may name only published weights as its backbone.\n  where:   evil.safetensors\n"
        f"  got:     {backbone}\n  allowed: {PUBLISHED}\n"
        "  do:      if you trust this backbone, pass it explicitly: "
        f"'head:evil.safetensors(backbone=\"{quoted}\")'"
    )
    assert not Path("ran").exists()
    assert "helper" not in sys.modules


def test_the_line_of_the_message_is_a_model(place):
    """As the shell passes it on, whatever the backbone's name holds."""
    for backbone in (NET, 'python:backbones:net(size=96, mode="squash", mean=(0.5, 0.5, 0.5))'):
        write_head(made(backbone), "heads (1).safetensors")
        with pytest.raises(InputError) as error:
            find_model("head:heads (1).safetensors")
        (spec,) = shlex.split(error.value.details["do"].partition(": ")[2])
        assert find_model(spec).name == "head/heads (1)"


@pytest.mark.parametrize(
    "spec",
    [
        "efficientnet-lite0",
        "squeezenet",
        "timm/resnet50.a1_in1k",
        "timm/vit_base_patch16_224(size=192, backbone=True)",
        "torchvision/resnet50",
        "torchvision/resnet50.IMAGENET1K_V1",
    ],
)
def test_published_weights(spec):
    assert is_published(spec)


@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        ("resnet50", "There is no model 'resnet50'."),
        ("python", "The name of the model is incomplete."),
        ("timm/none_such", "timm has no network 'none_such'."),
        ("efficientnet-lite0(size=3)", "The model 'efficientnet-lite0' has no option 'size'."),
        ("efficientnet-lite0(3)", "The options of the model cannot be read."),
    ],
)
def test_a_file_names_no_model(place, backbone, said):
    write_head(made(backbone), "mine.safetensors")
    with pytest.raises(InputError) as error:
        find_model("head:mine.safetensors")
    assert str(error.value) == (
        "The backbone of a head cannot be built.\n  where:   mine.safetensors\n"
        f"  got:     {backbone}: {said}\n"
        "  do:      pass its new name: head:mine.safetensors(backbone='NAME')"
    )
