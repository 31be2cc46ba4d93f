"""The file of a trained network, and the model it becomes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

timm = pytest.importorskip("timm")
torch = pytest.importorskip("torch")

import pandas as pd  # noqa: E402
from sklearn.metrics import f1_score  # noqa: E402

from manyhot import evaluate, predict, read_predictions  # noqa: E402
from manyhot.classes import class_list, from_keys  # noqa: E402
from manyhot.data.inputs import Reading  # noqa: E402
from manyhot.errors import InputError, OutputError  # noqa: E402
from manyhot.predict.in_memory import predict_in_memory  # noqa: E402
from manyhot.predict.models import find_model  # noqa: E402
from manyhot.predict.network import Preprocessing  # noqa: E402
from manyhot.predict.weights import Trained, read_trained, write_trained  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

CLASSES = from_keys(("cat", "dog", "sofa"), "pets")


@pytest.fixture
def module():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=3).eval()


def made(module, ends="softmax", **changed):
    preprocessing = Preprocessing((32, 32), (36, 36)).to_dict()
    whole = Trained("test_resnet", {}, CLASSES, ends, preprocessing, module.state_dict(), {"n": 7})
    return replace(whole, **changed)


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for name in "abc":
        pixels = rng.integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{name}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("ends", ["softmax", "sigmoid"])
def test_predictions_are_those_of_the_module(tmp_path, photos, module, ends):
    path = write_trained(made(module, ends), tmp_path / "run" / "model.safetensors")
    said = predict_in_memory(photos, f"trained:{path}", top=None, engine="torch", embeddings=True)
    p = said.predictions
    assert (p.model, p.class_hash) == ("trained/run", CLASSES.hash)
    assert (p.score_kind, p.link) == (("logit", "softmax") if ends == "softmax" else ("probability", ""))
    preprocessing = Preprocessing((32, 32), (36, 36))
    pixels = [
        preprocessing(torch.from_numpy(np.array(Image.open(photos / f"{n}.png"))).permute(2, 0, 1))
        for n in "abc"
    ]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    with torch.inference_mode():
        features = module.forward_head(
            module.forward_features((torch.stack(pixels) / 255 - mean) / std), pre_logits=True
        )
        logits = module.fc(features)
    expected = logits if ends == "softmax" else torch.sigmoid(logits)
    np.testing.assert_allclose(p.scores, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(said.embeddings, features, rtol=0, atol=1e-2)  # half precision


def test_predictions_declare_the_softmax_of_the_training(tmp_path, photos, module):
    """The F1 of label sets without original labels is that of the softmax; sigmoids would be the default."""
    path = write_trained(made(module), tmp_path / "run" / "model.safetensors")
    predict(photos, f"trained:{path}", out=tmp_path / "out", top=None, engine="torch")
    p = read_predictions(tmp_path / "out" / "trained--run.parquet")
    assert (p.score_kind, p.link) == ("logit", "softmax")
    y = np.array([[1, 1, 0], [0, 1, 1], [1, 1, 1]])
    labels = pd.DataFrame(y, [f"{n}.png" for n in "abc"], ["cat", "dog", "sofa"])
    found = evaluate(labels, p, metrics=["f1_micro(threshold=0.334)"], reading=Reading(classes=CLASSES))
    chosen = torch.softmax(torch.tensor(p.scores), dim=1).numpy() >= 0.334
    assert 0 < chosen.sum() < 9  # all would be chosen by sigmoids
    (row,) = (r for r in found.results.to_pylist() if r["slice"] == "all")
    assert row["value"] == pytest.approx(f1_score(y, chosen, average="micro"))


def test_the_same_network_gives_the_same_bytes(tmp_path, module):
    paths = [write_trained(made(module), tmp_path / f"{i}.safetensors") for i in "ab"]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_names_come_back_and_the_classes_of_imagenet_keep_their_hierarchy(tmp_path, module):
    named = replace(CLASSES, names=("Cat", "Dog", "Sofa"))
    path = write_trained(made(module, classes=named), tmp_path / "a.safetensors")
    again = read_trained(path)
    assert again.classes.names == ("Cat", "Dog", "Sofa")
    assert again.about == {"n": 7}
    write_trained(made(module, classes=class_list()), path)
    assert read_trained(path).classes is class_list()


def test_a_file_is_called_safetensors(tmp_path, module):
    with pytest.raises(InputError) as error:
        write_trained(made(module), tmp_path / "a.pt")
    assert str(error.value) == (
        f"A trained network is written to a .safetensors file.\n  got:     {tmp_path / 'a.pt'}"
    )


def test_nothing_is_written_where_nothing_can_be(tmp_path, module):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_trained(made(module), tmp_path / "file" / "a.safetensors")


def refused(path):
    with pytest.raises(InputError) as error:
        find_model(f"trained:{path}")
    return str(error.value)


def not_ours(path, got):
    return (
        f"The file is not a network trained by manyhot.\n  where:   {path}\n  got:     {got}\n"
        "  do:      use the model.safetensors of a finished run of manyhot train"
    )


def test_files_that_are_none(tmp_path, module):
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    assert refused(path) == f"The file does not exist.\n  where:   {path}"
    path.write_bytes(b"no network")
    assert refused(path).startswith(
        not_ours(path, "Error while deserializing header: ").partition("\n  do")[0]
    )
    save_file({"a": torch.zeros(1)}, path)
    assert refused(path) == not_ours(path, "no manyhot.trained")
    for told, got in (
        ("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ('{"classes": {"keys": ["a"], "names": ["a"], "name": "x"}, "ends": "relu"}', "it ends in relu"),
        ('{"classes": {"keys": ["a"], "names": ["a"], "name": "x"}}', "no ends"),
        ("[]", "list indices must be integers or slices, not str"),
    ):
        save_file({"a": torch.zeros(1)}, path, {"manyhot.trained": told})
        assert refused(path) == not_ours(path, got)


def test_a_file_that_was_cut_off(tmp_path, module):
    path = write_trained(made(module), tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:-1000])
    assert refused(path).startswith(f"The file is not a network trained by manyhot.\n  where:   {path}\n")


@pytest.mark.parametrize(
    ("changed", "got"),
    [
        ({"architecture": "hf-hub:owner/name"}, "hf-hub:owner/name"),
        ({"architecture": "local-dir:/tmp"}, "local-dir:/tmp"),
        ({"options": {"checkpoint_path": "evil.pth"}}, "test_resnet with checkpoint_path"),
    ],
)
def test_a_hostile_file_opens_no_other(tmp_path, module, changed, got):
    path = write_trained(made(module, **changed), tmp_path / "a.safetensors")
    assert refused(path) == (
        f"The architecture of a trained network is not in timm.\n  where:   {path}\n  got:     {got}\n"
        "  allowed: a name in timm, with the options img_size, drop_rate, drop_path_rate"
    )


def test_preprocessing_that_nobody_knows(tmp_path, module):
    path = write_trained(made(module, preprocessing={"sizes": 3}), tmp_path / "a.safetensors")
    assert refused(path) == (
        "The file of a trained network does not record the preprocessing.\n"
        f"  where:   {path}\n"
        "  got:     Preprocessing.__init__() got an unexpected keyword argument 'sizes'\n"
        "  do:      read it with the version of manyhot that wrote it"
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"size": "x"},
        {"size": [224, 0]},
        {"scale": [256]},
        {"mean": ["a"] * 3},
        {"mean": [0.5] * 2},
        {"std": [0] * 3},
    ],
)
def test_preprocessing_that_is_none(tmp_path, module, changed):
    path = write_trained(made(module, preprocessing=changed), tmp_path / "a.safetensors")
    (name,) = changed
    assert refused(path).startswith("`size` must be" if name in ("size", "scale") else f"`{name}` must be")


@pytest.mark.parametrize("option", [{"img_size": []}, {"img_size": -1}, {"drop_rate": 9}])
def test_options_that_the_architecture_refuses(tmp_path, module, option):
    path = write_trained(made(module, architecture="test_vit", options=option), tmp_path / "a.safetensors")
    assert refused(path).startswith("The weights of a trained network do not match its architecture.\n")


def test_weights_of_another_architecture(tmp_path, module):
    path = write_trained(made(module, architecture="test_vit"), tmp_path / "a.safetensors")
    message = refused(path)
    head, tail = message.partition("  got:     ")[0], message.rpartition("\n")[2]
    assert head == (f"The weights of a trained network do not match its architecture.\n  where:   {path}\n")
    assert tail == "  do:      read it with the version of timm that it was trained with"


def test_the_text_is_json(tmp_path, module):
    from safetensors import safe_open

    path = write_trained(made(module), tmp_path / "a.safetensors")
    with safe_open(path, framework="pt") as file:
        told = json.loads(file.metadata()["manyhot.trained"])
    assert told["architecture"] == "test_resnet"
    assert told["classes"]["keys"] == ["cat", "dog", "sofa"]
