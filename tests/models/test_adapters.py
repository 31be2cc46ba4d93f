"""Networks by name: of libraries, of files, of functions."""

import sys

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from manyhot.classes import class_list, from_keys
from manyhot.errors import FetchError, InputError, UnknownNameError
from manyhot.models import find_model, predict
from manyhot.models.listing import list_models

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture
def photo(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for name in "abc":
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / "photos" / f"{name}.png")
    return tmp_path / "photos"


@pytest.fixture
def small():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=7).eval()


def logits_of(module, network, folder):
    """What the module says of the images, its crops taken as given."""
    from manyhot.models.decode import decode

    crops = torch.stack([network.preprocessing(decode(p.read_bytes())) for p in sorted(folder.iterdir())])
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in (network.preprocessing.mean, network.preprocessing.std)
    )
    with torch.no_grad():
        return module((crops / 255 - mean) / std).numpy()


# timm.


def test_a_folder_in_the_hubs_format(tmp_path, photo, small):
    names = [f"n0000000{i}" for i in range(7)]
    timm.models.save_for_hf(
        small,
        tmp_path / "hub",
        model_config={"num_classes": 7, "label_names": names},
        safe_serialization=True,
    )
    network = find_model(f"timm/local-dir:{tmp_path / 'hub'}")
    assert network.classes.keys == tuple(names)
    assert network.preprocessing.size == (160, 160)
    said = predict(photo, network, top=None, embeddings=True)
    # Not random weights: timm gives these in silence where pretrained is not asked for.
    np.testing.assert_allclose(said.predictions.scores, logits_of(small, network, photo), atol=1e-4)
    assert said.embeddings.shape == (3, 96)


def test_a_checkpoint(tmp_path, photo, small):
    torch.save(small.state_dict(), tmp_path / "small.pth")
    network = find_model(f"timm/test_resnet(checkpoint={str(tmp_path / 'small.pth')!r}, num_classes=7)")
    said = predict(photo, network, top=None)
    np.testing.assert_allclose(said.predictions.scores, logits_of(small, network, photo), atol=1e-4)
    assert network.classes.name == "7 classes of test_resnet"


def test_a_network_that_timm_has_not():
    with pytest.raises(UnknownNameError) as error:
        find_model("timm/resnet5000")
    assert str(error.value) == (
        "timm has no network 'resnet5000'.\n  allowed: what manyhot models 'timm/*' lists"
    )


def test_weights_that_cannot_be_fetched(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FetchError) as error:
        find_model("timm/resnet50.a1_in1k")
    assert str(error.value).startswith(
        "The weights cannot be fetched.\n  where:   resnet50.a1_in1k\n  got:     "
    )
    assert str(error.value).endswith("; HF_HOME is the cache; checkpoint='FILE' takes a local file")


def test_a_checkpoint_that_does_not_exist(tmp_path):
    with pytest.raises(InputError) as error:
        find_model(f"timm/test_resnet(checkpoint={str(tmp_path / 'no.pth')!r})")
    assert str(error.value) == f"The weights do not exist.\n  where:   {tmp_path / 'no.pth'}"


# torchvision.


def test_torchvision_with_a_checkpoint(tmp_path, photo):
    from torchvision import models

    torch.manual_seed(0)
    module = models.mobilenet_v3_small(num_classes=1000).eval()
    torch.save(module.state_dict(), tmp_path / "m.pth")
    network = find_model(f"torchvision/mobilenet_v3_small(checkpoint={str(tmp_path / 'm.pth')!r})")
    assert (network.name, network.classes.hash) == (
        "torchvision/mobilenet_v3_small.IMAGENET1K_V1",
        class_list().hash,
    )
    assert (network.preprocessing.size, network.preprocessing.scale) == ((224, 224), (256, 256))
    said = predict(photo, network, top=None, embeddings=True)
    np.testing.assert_allclose(said.predictions.scores, logits_of(module, network, photo), atol=1e-4)
    assert said.embeddings.shape == (3, 1024)


def test_torchvision_names(monkeypatch):
    with pytest.raises(UnknownNameError) as error:
        find_model("torchvision/resnet5")
    assert "do:      did you mean resnet50 or " in str(error.value)
    with pytest.raises(UnknownNameError) as error:
        find_model("torchvision/resnet50.V3")
    assert str(error.value) == (
        "torchvision has no weights 'V3' for resnet50.\n  allowed: IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT"
    )


# Files.


@pytest.fixture
def onnx_file(tmp_path, small, require):
    for name in ("onnx", "onnxruntime"):
        require(__import__("importlib").util.find_spec(name) is not None, name)
    path = tmp_path / "small.onnx"
    torch.onnx.export(
        small,
        (torch.zeros(1, 3, 64, 64),),
        path,
        dynamo=False,
        input_names=["x"],
        dynamic_axes={"x": {0: "n"}},
    )
    return path


@pytest.mark.parametrize("engine", ["onnx", "openvino", "auto"])
def test_an_onnx_file(onnx_file, photo, small, engine):
    network = find_model(f"onnx:{onnx_file}(mean=0.5, std=0.25, crop_pct=1.0)")
    assert (network.preprocessing.size, network.preprocessing.scale) == ((64, 64), (64, 64))
    said = predict(photo, network, top=None, engine=engine)
    np.testing.assert_allclose(said.predictions.scores, logits_of(small, network, photo), atol=2e-4)
    assert said.trials[0].difference is None


def test_an_openvino_file(tmp_path, photo, small, require):
    ov = pytest.importorskip("openvino")
    graph = ov.convert_model(small, example_input=torch.zeros(1, 3, 64, 64), input=[-1, 3, 64, 64])
    ov.save_model(graph, tmp_path / "small.xml", compress_to_fp16=False)
    classes = from_keys([f"class {i}" for i in range(7)], "seven")
    network = find_model(f"openvino:{tmp_path / 'small.xml'}(interpolation='bilinear')", classes)
    assert (network.classes, network.preprocessing.interpolation) == (classes, "bilinear")
    said = predict(photo, network, top=None)
    np.testing.assert_allclose(said.predictions.scores, logits_of(small, network, photo), atol=2e-4)


def test_files_that_are_none(tmp_path):
    for spec, message in {
        f"onnx:{tmp_path / 'no.onnx'}": f"The file does not exist.\n  where:   {tmp_path / 'no.onnx'}",
        f"openvino:{tmp_path / 'x.onnx'}": "The file is of another kind.\n"
        f"  where:   {tmp_path / 'x.onnx'}\n  allowed: a file ending in .xml",
    }.items():
        (tmp_path / "x.onnx").write_bytes(b"no network")
        with pytest.raises(InputError) as error:
            find_model(spec)
        assert str(error.value) == message
    with pytest.raises(InputError) as error:
        find_model(f"onnx:{tmp_path / 'x.onnx'}")
    assert str(error.value).startswith(f"The file is no ONNX network.\n  where:   {tmp_path / 'x.onnx'}\n")


# Functions.


@pytest.fixture
def module_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import timm, torch\n"
        "def net():\n    torch.manual_seed(0)\n    return timm.create_model('test_resnet', num_classes=7)\n"
        "def plain():\n    return lambda x: x.reshape(len(x), -1)[:, :1000].astype('float32')\n"
        "def nothing():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("mine", None)


@pytest.mark.usefixtures("module_of_ones_own")
def test_a_function_that_returns_a_module(photo, small):
    network = find_model("python:mine:net(size=96)")
    assert (network.name, network.preprocessing.size, network.head) == ("python/mine.net", (96, 96), "fc")
    said = predict(photo, network, top=None)
    np.testing.assert_allclose(said.predictions.scores, logits_of(small, network, photo), atol=1e-4)


@pytest.mark.usefixtures("module_of_ones_own")
def test_a_function_that_returns_a_callable(photo):
    said = predict(photo, "python:mine:plain", top=None).predictions
    assert (said.n_classes, said.scores.max() <= 255) == (1000, True)


@pytest.mark.usefixtures("module_of_ones_own")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "python:mine",
            "The name of the function is missing.\n  got:     python:mine\n  allowed: python:MODULE:FUNCTION",
        ),
        (
            "python:mine:no",
            "There is no such function.\n  got:     python:mine:no\n"
            "  allowed: module 'mine' has no attribute 'no'",
        ),
        (
            "python:mine:nothing",
            "This is no model.\n  where:   python/mine.nothing\n  got:     int\n"
            "  allowed: a manyhot.models.Network, a torch.nn.Module or a callable",
        ),
        (
            "python:mine:net(sise=96)",
            "The model 'python' has no option 'sise'.\n  got:     python:mine:net(sise=96)\n"
            "  allowed: size, crop_pct, mode, interpolation, mean, std",
        ),
        (
            "python:mine:net(size)",
            "The options of the model cannot be read.\n  got:     python:mine:net(size)\n"
            "  allowed: NAME(option=literal, …)",
        ),
        ("timm/", "The name of the model is not complete.\n  got:     timm/\n  allowed: timm/NAME"),
    ],
)
def test_names_that_cannot_be(spec, message):
    with pytest.raises(InputError) as error:
        find_model(spec)
    assert str(error.value) == message


def test_a_name_without_its_family():
    with pytest.raises(UnknownNameError) as error:
        find_model("resnet50")
    assert str(error.value) == (
        "There is no model 'resnet50'.\n"
        "  allowed: efficientnet-lite0, efficientnet-lite1, efficientnet-lite2, timm/NAME, torchvision/NAME, "
        "open_clip/ARCH/PRETRAINED, onnx:FILE, openvino:FILE, python:MODULE:FUNCTION\n"
        "  do:      for a model of timm: timm/resnet50; manyhot models '*resnet50*' lists"
    )


# open_clip.


def test_zero_shot_by_hand(tmp_path, photo, require):
    """Random weights: the answer is the cosine with the mean sentence of each class, by the formula."""
    clip = pytest.importorskip("open_clip")
    arch = "RN50-quickgelu" if "ViT-S-32-alt" not in clip.list_models() else "ViT-S-32-alt"
    torch.manual_seed(0)
    model = clip.create_model(arch, pretrained=None).eval()
    torch.save(model.state_dict(), tmp_path / "clip.pt")
    classes = from_keys(("cat", "dog", "tree"), "three")
    network = find_model(
        f"open_clip/{arch}/{tmp_path / 'clip.pt'}(templates=['a {{}}.', 'the {{}}.'])".replace("{{}}", "{}"),
        classes,
    )
    said = predict(photo, network, top=None, engine="torch").predictions
    tokens = clip.get_tokenizer(arch)
    from manyhot.models.decode import decode

    crops = torch.stack([network.preprocessing(decode(p.read_bytes())) for p in sorted(photo.iterdir())])
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in (network.preprocessing.mean, network.preprocessing.std)
    )
    with torch.no_grad():
        seen = model.encode_image((crops / 255 - mean) / std, normalize=True)
        rows = []
        for name in classes.names:
            texts = model.encode_text(tokens([f"a {name}.", f"the {name}."]), normalize=True).mean(0)
            rows.append(texts / texts.norm())
        wanted = model.logit_scale.exp() * seen @ torch.stack(rows).T
    np.testing.assert_allclose(said.scores, wanted.numpy(), atol=1e-3)
    assert (said.class_hash, said.score_kind) == (classes.hash, "logit")


# Lists.


def test_models_by_patterns():
    eva = list_models("eva02*")
    assert len(eva) > 5
    assert all(m.name.startswith("timm/eva02") for m in eva)
    assert [m.name for m in list_models("torchvision/resnet50.*")] == [
        "torchvision/resnet50.IMAGENET1K_V1",
        "torchvision/resnet50.IMAGENET1K_V2",
    ]
    assert [(m.name, m.size) for m in list_models("efficientnet-lite?")] == [
        ("efficientnet-lite0", 224),
        ("efficientnet-lite1", 240),
        ("efficientnet-lite2", 260),
    ]
