"""Names by which the models of one call differ."""

from pathlib import Path

import pytest

from manyhot.errors import InputError
from manyhot.predict.model_names import distinct_models
from manyhot.predict.models import find_model, split_model

MODULE = """
import numpy as np
from manyhot.classes import from_keys
from manyhot.predict.network import Network, Preprocessing

def net():
    return Network("net", from_keys(("a", "b")), Preprocessing(), forward=lambda x: np.zeros((len(x), 2)))
"""


def names(specs):
    return [split_model(spec)[1].get("name") for spec in distinct_models(specs)]


def test_files_of_one_name_are_named_with_their_folders():
    runs = [f"trained:runs/{arm}/seed-0/model.safetensors" for arm in ("label", "sets")]
    assert names([*runs, "timm/resnet10t"]) == ["trained/label/seed-0", "trained/sets/seed-0", None]
    assert distinct_models(runs[:1]) == runs[:1]
    assert names(["trained:a/one.safetensors", "trained:b/one.safetensors"]) == [
        "trained/a/one",
        "trained/b/one",
    ]


def test_options_stay_and_own_names_are_kept():
    specs = ["onnx:a/net.onnx(size=224)", "onnx:b/net.onnx", "onnx:c/net.onnx(name='c')", "head:a/net.onnx"]
    found = distinct_models(specs)
    assert found[0] == "onnx:a/net.onnx(size=224, name='onnx/a/net')"
    assert found[1:] == ["onnx:b/net.onnx(name='onnx/b/net')", *specs[2:]]


def test_checkpoints_of_one_architecture_are_named_with_their_files():
    seeds = [f"timm/resnet10t(checkpoint='runs/seed-{s}/last.pth', num_classes=3)" for s in (0, 1)]
    assert names(seeds) == ["timm/seed-0/last/resnet10t", "timm/seed-1/last/resnet10t"]
    epochs = [f"timm/resnet10t(checkpoint='run/e{e}.pth')" for e in (1, 2)]
    assert names([*epochs, "timm/resnet10t", "timm/resnet18(checkpoint='run/e1.pth')"]) == [
        *("timm/e1/resnet10t", "timm/e2/resnet10t"),
        *(None, None),
    ]
    hub = ["timm/hf-hub:one/net", "timm/hf-hub:two/net"]
    assert distinct_models(hub) == hub


def test_any_model_can_be_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    Path(tmp_path, "named_net.py").write_text(MODULE)
    assert find_model("python:named_net:net(name='mine')").name == "mine"
    with pytest.raises(InputError) as caught:
        find_model("python:named_net:net(name=3)")
    assert str(caught.value) == (
        "The name of a model is not one line of printable text.\n"
        "  got:     python:named_net:net(name=3)\n"
        "  allowed: name='mine'"
    )
