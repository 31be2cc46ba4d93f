"""Failures of the code of a model: they name the model, the images and the line, and stop no other model."""

import importlib
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import manyhot
from manyhot.errors import InputError, MatchError, UnknownNameError
from manyhot.files import sha256
from manyhot.predict.in_memory import predict_in_memory
from manyhot.predict.models import find_model

pytestmark = pytest.mark.usefixtures("quick_trials")

CODE = """import sys, torch

class Net(torch.nn.Module):
    def __init__(self, fails):
        super().__init__()
        self.head, self.n, self.fails = torch.nn.Linear(3, 4), 0, fails

    def forward(self, x):
        self.n += len(x)
        if self.n > 40:  # 17 before the run, and 24 images
            return self.fails(self.head(x.mean((2, 3))))
        return self.head(x.mean((2, 3)))

def late():
    def fails(scores):
        raise RuntimeError("illegal memory access")
    return Net(fails)

def full():
    def fails(scores):
        raise MemoryError
    return Net(fails)

def leaving():
    return Net(lambda scores: sys.exit('no licence'))

def narrow():
    return Net(lambda scores: scores[:, :2])

def short():
    return Net(lambda scores: scores[:-1])

def good():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 4))

def in_torch():
    return Net(lambda scores: torch.nn.functional.linear(scores, torch.zeros(2, 9)))

class Flips(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(24, 4)

    def features(self, x):
        return x.mean(2).flatten(1)

    def forward(self, x):
        return (self.head(self.features(x)) + self.head(self.features(x.flip(-1)))) / 2

def flips():
    return Flips()

def scripted():
    from small_models import COLOURS, SMALL
    from manyhot.predict.network import Network
    return Network("scripted", COLOURS, SMALL, torch.jit.trace(good(), torch.zeros(1, 3, 8, 8)), head="2")

def calling_exit():
    sys.exit(2)
"""
TEN = """
class Ten(torch.nn.Module):
    def forward(self, x):
        return 10 * x
"""
OPTIONS = "(size=8, crop_pct=1.0, mode='squash', interpolation='bilinear', mean=0.0, std=1.0)"


@pytest.fixture
def ours(tmp_path, monkeypatch):
    """A module whose functions return models that fail after some batches."""
    (tmp_path / "ours.py").write_text(CODE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "ours.py"
    for name in ("ours", "nets", "other"):
        sys.modules.pop(name, None)


@pytest.fixture
def some(tmp_path, monkeypatch):
    """64 images, in parts of 16."""
    (tmp_path / "some").mkdir()
    for i in range(64):
        Image.new("RGB", (8, 8), (i, 2 * i, 3 * i)).save(tmp_path / "some" / f"{i:02}.png")
    files = importlib.import_module("manyhot.predict.sources.image_files")
    ranges = [(f"{i:05}", 16 * i, 16 * i + 16) for i in range(4)]
    monkeypatch.setattr(files, "part_ranges", lambda _: ranges)
    return tmp_path / "some"


def model(name):
    return f"python:ours:{name}{OPTIONS}"


def line_of(text):
    return next(i for i, line in enumerate(CODE.splitlines(), 1) if text in line)


FAILURES = {
    "late": ("The model fails.", "RuntimeError: illegal memory access ({place of raise RuntimeError})"),
    "full": ("The model fails.", "MemoryError ({place of raise MemoryError})"),
    "leaving": ("The model fails.", "SystemExit: no licence ({place of sys.exit('no licence')})"),
    "narrow": ("The model does not return one score for each image and class.", "shape (4, 2)"),
    "short": ("The model does not return one score for each image and class.", "shape (3, 4)"),
    "in_torch": (
        "The model fails.",
        "RuntimeError: mat1 and mat2 shapes cannot be multiplied (4x4 and 9x2) ({place of functional})",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_late_failure_names_model_images_and_line_and_stops_no_other(ours, some, tmp_path, name):
    what, got = FAILURES[name]
    out = tmp_path / "out"
    found = manyhot.predict(some, [model(name), model("good")], out=out, engine="torch", workers=1)
    assert [one.model for one in found.models] == ["python/ours.good"]
    (error,) = found.failed.values()
    assert (error.what, found.exit_code) == (what, 3)
    assert error.details["where"].startswith(f"python/ours.{name}, 4 images from ")
    got, _, text = got.partition("{place of ")
    place = f"{ours}, line {line_of(text.removesuffix('})'))})" if text else ""
    assert error.details["got"] == got + place
    if name == "full":
        assert error.details["do"] == "free memory, or reduce `workers` or `batch`"
    parts = [part.name for part in (out / ".parts").rglob("*.parquet")]
    assert parts == ["00000.parquet"]  # from which it resumes


def test_a_function_that_exits_does_not_end_the_run(ours, folder, tmp_path):
    found = manyhot.predict(folder, [model("calling_exit"), model("good")], out=tmp_path / "out")
    assert [one.model for one in found.models] == ["python/ours.good"]
    (error,) = found.failed.values()
    assert str(error) == (
        f"The function fails.\n  where:   python:ours:calling_exit\n"
        f"  got:     SystemExit: 2 ({ours}, line {line_of('sys.exit(2)')})"
    )


def scored_shard(some, out, shard):
    return manyhot.predict(some, model("good"), out=out, engine="torch", shard=shard)


def test_shards_of_changed_code_are_not_combined(ours, some, tmp_path):
    """With the same weights, which the changed code multiplies by 10."""
    scored_shard(some, tmp_path / "out", "0/2")
    before = sha256(ours)[:16]
    sys.modules.pop("ours")
    ours.write_text(CODE.replace("(3, 4))\n", "(3, 4), Ten())\n") + TEN, encoding="utf-8")
    with pytest.raises(MatchError) as error:
        scored_shard(some, tmp_path / "out", "1/2")
    part = tmp_path / "out/.parts/python--ours.good/00000.parquet"
    assert str(error.value) == (
        "The folder contains predictions from another run, which differs in code.\n"
        f"  where:   {part}\n  got:     ours.py {before}\n  allowed: ours.py {sha256(ours)[:16]}\n"
        "  do:      choose another `out`, or delete these files"
    )
    sys.modules.pop("ours")
    ours.write_text(CODE, encoding="utf-8")
    (done,) = scored_shard(some, tmp_path / "out", "1/2").models
    assert done.missing == 0


def test_the_code_of_a_model_is_that_of_all_files_of_the_user(ours, tmp_path):
    """Of the function, and of the classes of its layers, but not of installed packages."""
    (tmp_path / "nets.py").write_text("from ours import good\n\ndef made():\n    return good()\n")
    (tmp_path / "other.py").write_text("from ours import late\n\ndef made():\n    return late()\n")
    assert find_model(f"python:nets:made{OPTIONS}").about["code"] == (
        f"nets.py {sha256(tmp_path / 'nets.py')[:16]}"  # its layers are PyTorch's
    )
    assert find_model(f"python:other:made{OPTIONS}").about["code"] == (
        f"other.py {sha256(tmp_path / 'other.py')[:16]}, ours.py {sha256(ours)[:16]}"
    )


@pytest.mark.parametrize(
    ("file", "do"),
    [
        ("net.onnx", "use onnx:{}"),
        ("net.xml", "use openvino:{}"),
        (
            "net.ts",
            "pass a function that loads it, as python:MODULE:FUNCTION, or for a timm checkpoint, "
            "timm/NAME(checkpoint='{}')",
        ),
    ],
)
def test_a_file_as_the_name_of_a_model_says_how_to_name_it(tmp_path, file, do):
    path = tmp_path / file
    path.touch()
    with pytest.raises(UnknownNameError) as error:
        find_model(str(path))
    assert error.value.details["do"] == do.format(path)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_embeddings_of_several_calls_of_the_last_layer_are_their_mean(ours, some, engine):
    """So that the last layer turns the embedding into the logits of the network."""
    network = find_model(model("flips"))
    found = predict_in_memory(some, network, top=None, engine=engine, embeddings=True)
    images = torch.from_numpy(np.stack([np.asarray(Image.open(p)) for p in sorted(some.iterdir())]))
    pixels = images.permute(0, 3, 1, 2) / 255
    both = network.module.features(pixels) + network.module.features(pixels.flip(-1))
    np.testing.assert_allclose(found.embeddings, both / 2, atol=1e-3)  # float16


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_model_without_embeddings_is_predicted_without_them_and_the_others_with(ours, some, tmp_path):
    specs = ["python:ours:scripted", model("good"), model("late")]
    found = manyhot.predict(some, specs, out=tmp_path / "out", engine="torch", workers=1, embeddings=True)
    assert {one.model for one in found.models} == {"scripted", "python/ours.good"}
    assert [path.name for path in (tmp_path / "out/embeddings").iterdir()] == ["python--ours.good.npy"]
    assert "scripted: no embeddings, because its penultimate features are unknown" in found.notes
    with pytest.raises(InputError, match="penultimate features of this model are unknown"):
        manyhot.predict(some, specs[0], out=tmp_path / "alone", engine="torch", embeddings=True)


def test_embeddings_are_not_added_to_predictions(ours, some, tmp_path):
    scored_shard(some, tmp_path / "out", "0/1")
    with pytest.raises(MatchError) as error:
        manyhot.predict(some, model("good"), out=tmp_path / "out", engine="torch", embeddings=True)
    assert str(error.value) == (
        "The predictions in the folder have no embeddings.\n"
        f"  where:   {tmp_path / 'out/python--ours.good.parquet'}\n"
        "  do:      choose another `out` to run predict on all images again, or run the command "
        "without `embeddings`"
    )
