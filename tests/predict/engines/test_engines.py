"""Every engine gives the answers of PyTorch; the fastest that does is taken."""

import functools
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from manyhot.classes import from_keys
from manyhot.errors import InputError, MissingExtraError, UnknownNameError
from manyhot.predict.engines import (
    ENGINES,
    EngineOptions,
    EnginePrecision,
    build_engine,
    choose_engine,
    installed,
)
from manyhot.predict.engines import choose_engine as _choose  # noqa: F401
from manyhot.predict.engines import engine as engine_module
from manyhot.predict.engines import torch as torch_engine
from manyhot.predict.in_memory import predict_in_memory
from manyhot.predict.network import Network, Preprocessing

CLASSES = from_keys([f"class {i}" for i in range(10)], "ten")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    module = timm.create_model("test_resnet", num_classes=10).eval()
    return Network("small", CLASSES, Preprocessing((32, 32), (32, 32)), module, "fc")


@pytest.fixture(scope="module")
def built(network):
    """Return `build_engine` for the network of this file, which builds each engine once: a second of CPU."""

    @functools.cache
    def build(name, options):
        return build_engine(name, network, options)

    return lambda name, _, options=engine_module.ENGINE_OPTIONS: build(name, options)


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch):
    """Let PyTorch compile to itself: what it traces is tested, and no C++ compiler is needed."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (11, 3, 32, 32), np.uint8)


def by_hand(network, images):
    """Normalise and run, written out."""
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in (network.preprocessing.mean, network.preprocessing.std)
    )
    seen = []
    with torch.no_grad(), network.module.fc.register_forward_pre_hook(lambda _, x: seen.append(x[0])):
        logits = network.module((torch.from_numpy(images) / 255 - mean) / std)
    return logits.numpy(), seen[0].numpy()


def parts(engine, images):
    out = [engine(images[i : i + engine.batch]) for i in range(0, len(images), engine.batch)]
    return [np.concatenate(x) for x in zip(*out, strict=True)]


@pytest.mark.parametrize("name", ENGINES)
def test_gives_the_logits_and_features_of_torch(name, network, images, built, require):
    require(installed(name), ENGINES[name].module)
    logits, features = by_hand(network, images)
    engine = built(name, network, EngineOptions(features=True))
    got = parts(engine, images)
    assert [g.dtype for g in got] == [np.float32, np.float32]
    np.testing.assert_allclose(got[0], logits, atol=2e-4)
    np.testing.assert_allclose(got[1], features, atol=2e-4)
    alone = built(name, network)(images[:1])
    assert alone[1] is None
    np.testing.assert_allclose(alone[0], logits[:1], atol=2e-4)


@pytest.mark.parametrize("name", ENGINES)
def test_rows_do_not_hang_on_their_batch(name, network, images, built, require):
    """Openvino and onnx to the last bit; torch chooses its sums by the size of a batch."""
    require(installed(name), ENGINES[name].module)
    engine = built(name, network)
    together = np.concatenate([engine(images[i : i + 2])[0] for i in (0, 2)])
    single = np.concatenate([engine(images[i : i + 1])[0] for i in range(4)])
    np.testing.assert_allclose(together, single, atol=0 if name == "openvino" else 1e-5)


def test_half_precision_only_on_request(network, images, require):
    require(installed("openvino"), "openvino")
    exact = choose_engine("openvino", network, images, 11)
    assert exact.trial.difference < 1e-3
    assert exact.engine.precision is EnginePrecision.f32
    coarse = choose_engine("openvino", network, images, 11, EngineOptions(precision=EnginePrecision.bf16))
    assert coarse.engine.precision is EnginePrecision.bf16
    # Where the processor cannot, OpenVINO computes in f32; nothing is worse than bf16's 8 bits.
    assert coarse.trial.difference < 0.05 * np.abs(by_hand(network, images)[0]).max() + 0.05


def test_few_images_stay_with_torch(network, images):
    choice = choose_engine("auto", network, images, 100)
    assert choice.engine.name == "torch"
    others = sum(map(installed, ("openvino", "onnx")))
    assert [t.why_not for t in choice.trials[1:]] == [
        "too few images to make up for its start-up time"
    ] * others


def test_auto_takes_engines_with_the_same_answers(network, images, monkeypatch, built):
    module = __import__("manyhot.predict.engines.choose", fromlist=["build_engine"])
    monkeypatch.setattr(module, "build_engine", built)
    choice = choose_engine("auto", network, images, 10_000_000)
    assert choice.engine.name in [t.engine for t in choice.trials if not t.why_not]
    assert all(t.disagreement == 0 and t.difference < 1e-3 for t in choice.trials if not t.why_not)


@pytest.mark.parametrize(
    ("rates", "taken"),
    [
        ({"torch": 10, "openvino": 20, "onnx": 21}, "openvino"),  # as good as equal: a stopwatch would toss
        ({"torch": 14, "openvino": 10, "onnx": 9}, "openvino"),
        ({"torch": 16, "openvino": 10, "onnx": 9}, "torch"),
        ({"torch": 10, "openvino": 20, "onnx": 31}, "onnx"),
    ],
)
def test_only_an_engine_that_is_clearly_faster_replaces_a_preferred_one(
    network, images, monkeypatch, built, rates, taken
):
    module = __import__("manyhot.predict.engines.choose", fromlist=["_rate"])
    monkeypatch.setattr(module, "build_engine", built)
    monkeypatch.setattr(module, "_rate", lambda engine, images: float(rates[engine.name]))
    monkeypatch.setattr(module, "installed", lambda name: name in rates)
    assert choose_engine("auto", network, images, 10_000_000).engine.name == taken


def test_how_few_images_stay_with_torch_does_not_depend_on_the_machine(network, images, monkeypatch):
    module = __import__("manyhot.predict.engines.choose", fromlist=["time"])
    operations = module._operations(network, images)
    assert operations > 0
    border = module.PAYS_S["openvino"] * module.SPEED / operations
    monkeypatch.setattr(module, "installed", lambda name: name in ("torch", "openvino"))
    slow = iter(range(0, 1_000_000, 1_000))  # each look at the clock is a thousand seconds later
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(slow)))
    few = choose_engine("auto", network, images, int(border * 0.9))
    assert [t.why_not for t in few.trials] == ["", module.TOO_FEW]


def test_pytorch_keeps_the_threads_that_it_had(network, images, tmp_path):
    """A training after a prediction has all cores: here, in threads that begin later, and in MKL."""
    for i, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"{i}.png")

    def told():
        found = re.findall(r"(?:get_num|max)_threads\(\) : (\d+)", torch.__config__.parallel_info())
        return {int(threads) for threads in found}

    own = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        predict_in_memory(tmp_path, network, engine="torch", workers=2)
        with ThreadPoolExecutor(1) as later:
            assert (told(), later.submit(told).result()) == ({3}, {3})
    finally:
        torch.set_num_threads(own)


def test_an_engine_with_other_answers_is_not_taken(network, images, monkeypatch):
    """However fast it is."""

    class Wrong:
        name, device, precision, workers, batch = "onnx", "cpu", EnginePrecision.f32, 2, 4

        def __call__(self, given):
            return by_hand(network, given)[0] + np.float32(0.5) * np.eye(10, dtype=np.float32)[3], None

    real = engine_module.build_engine

    def fake(name, *given, **options):
        return Wrong() if name == "onnx" else real(name, *given, **options)

    module = __import__("manyhot.predict.engines.choose", fromlist=["build_engine"])
    monkeypatch.setattr(module, "build_engine", fake)
    monkeypatch.setattr(module, "installed", lambda name: name in ("torch", "onnx"))
    choice = choose_engine("auto", network, images, 10_000_000)
    assert choice.engine.name == "torch"
    (wrong,) = [t for t in choice.trials if t.engine == "onnx"]
    assert (wrong.why_not, round(wrong.difference, 3)) == ("other answers", 0.5)


def test_an_engine_that_cannot_is_passed_over(network, images, monkeypatch):
    module = __import__("manyhot.predict.engines.choose", fromlist=["build_engine"])
    real = engine_module.build_engine

    def fake(name, *given, **options):
        if name == "openvino":
            raise RuntimeError("cannot convert: aten::strange\nmore")
        return real(name, *given, **options)

    monkeypatch.setattr(module, "build_engine", fake)
    monkeypatch.setattr(module, "installed", lambda name: name in ("torch", "openvino"))
    choice = choose_engine("auto", network, images, None)
    assert [(t.engine, t.why_not) for t in choice.trials] == [
        ("torch", ""),
        ("openvino", "cannot convert: aten::strange"),
    ]


def test_an_unknown_engine(network):
    with pytest.raises(UnknownNameError) as error:
        build_engine("tensorrt", network)
    assert str(error.value) == (
        "There is no engine 'tensorrt'.\n  allowed: auto, torch, compile, openvino, onnx, ray"
    )


def test_an_engine_that_is_not_installed(network, monkeypatch):
    monkeypatch.setattr(engine_module, "installed", lambda name: False)
    with pytest.raises(MissingExtraError) as error:
        build_engine("onnx", network)
    assert str(error.value) == (
        "The engine 'onnx' is not installed.\n"
        "  got:     no module onnxruntime\n"
        '  do:      pip install "manyhot[onnx]"'
    )


def test_features_that_nobody_knows(images):
    network = Network("own", CLASSES, Preprocessing((32, 32), (32, 32)), torch.nn.Flatten())
    with pytest.raises(InputError) as error:
        build_engine("torch", network, EngineOptions(features=True))
    assert str(error.value) == (
        "The penultimate features of this model are unknown.\n"
        "  where:   own\n"
        "  do:      predict without `embeddings`, or pass the network as a python:… function that returns a "
        "torch.nn.Module, or a Network with a head"
    )


def patched(monkeypatch, engines):
    """Let `choose_engine` build these engines and no others; an exception is raised."""

    def made(name, *_, **__):
        if isinstance(engines[name], Exception):
            raise engines[name]
        return engines[name]

    module = __import__("manyhot.predict.engines.choose", fromlist=["build_engine"])
    monkeypatch.setattr(module, "build_engine", made)
    monkeypatch.setattr(module, "installed", engines.__contains__)
    monkeypatch.setattr(module, "TRIAL_S", 0.1)
    monkeypatch.setattr(module, "time", clock)


clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
"""Goes on where a `Slow` is at work: how busy the machine is does not count."""


class Slow:
    """Says the same as all others, at a rate of its own."""

    device, precision, workers, batch = "cpu", EnginePrecision.f32, 1, 1

    def __init__(self, name, rate):
        self.name, self.rate = name, rate

    def __call__(self, images):
        clock.now += len(images) / self.rate
        return np.ones((len(images), 10), np.float32), None


@pytest.mark.parametrize(
    ("n", "tried"),
    [(400, ["torch"]), (800, ["torch", "openvino"]), (30_000, ["torch", "openvino", "onnx"])],
)
def test_an_engine_is_tried_where_it_pays(n, tried, network, images, monkeypatch):
    """By what is left to do at the rate of the best so far: torch needs 4, 8 and 300 s here."""
    rates = {"torch": 100, "openvino": 400, "onnx": 150}
    patched(monkeypatch, {name: Slow(name, rate) for name, rate in rates.items()})
    module = __import__("manyhot.predict.engines.choose", fromlist=["_operations"])
    monkeypatch.setattr(module, "_operations", lambda *_: 0.0)  # as for a network that PyTorch cannot count
    choice = choose_engine("auto", network, images, n)
    assert [t.engine for t in choice.trials if not t.why_not] == tried
    assert choice.engine.name == ("torch" if len(tried) == 1 else "openvino")


def test_pytorch_is_not_timed_where_no_other_engine_pays(network, images, monkeypatch):
    """One batch says how long all take: 4 s are not worth a second of timing."""
    torch_only = Slow("torch", 100)
    patched(monkeypatch, {"torch": torch_only, "openvino": Slow("openvino", 400)})
    begun = clock.now
    choice = choose_engine("auto", network, images, 400)
    assert clock.now - begun == pytest.approx(torch_only.batch / 100)
    assert choice.trial.rate == pytest.approx(100)
    assert (choice.trial.difference, choice.trial.disagreement) == (0.0, 0.0)
    assert choice.trials[1].why_not == "too few images to make up for its start-up time"


def test_a_file_that_one_engine_cannot_run_goes_to_the_other(images, monkeypatch):
    network = Network("file", CLASSES, Preprocessing((32, 32), (32, 32)), file="net.onnx")
    patched(monkeypatch, {"openvino": RuntimeError("no such operation"), "onnx": Slow("onnx", 1000)})
    choice = choose_engine("auto", network, images, 100)
    assert [(t.engine, t.why_not) for t in choice.trials] == [("openvino", "no such operation"), ("onnx", "")]
    patched(monkeypatch, {"openvino": RuntimeError("no such operation"), "onnx": RuntimeError("nor here")})
    with pytest.raises(InputError, match=r"got:     RuntimeError: nor here \("):
        choose_engine("auto", network, images, 100)


@pytest.mark.parametrize(("n", "taken"), [(50_000, "torch"), (70_000, "compile")])
def test_on_a_gpu_pytorch_is_compiled_where_it_pays(n, taken, network, images, monkeypatch):
    monkeypatch.setattr(torch_engine, "device", lambda: "cuda")
    patched(monkeypatch, {"torch": Slow("torch", 100), "compile": Slow("compile", 200)})
    choice = choose_engine("auto", network, images, n)
    assert [t.engine for t in choice.trials] == ["torch", "compile"]
    assert choice.engine.name == taken


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_an_onnx_file_of_one_batch(kind, network, images, tmp_path, require):
    """Fixed to two images, in either precision."""
    require(installed("onnx"), "onnxruntime")
    module = network.module.half() if kind == "float16" else network.module
    path = tmp_path / "two.onnx"
    torch.onnx.export(module, (torch.zeros(2, 3, 32, 32, dtype=getattr(torch, kind)),), path, dynamo=False)
    network.module.float()
    file = Network("file", CLASSES, network.preprocessing, file=str(path))
    engine = build_engine("onnx", file)
    assert engine.batch == 2
    got = np.concatenate([engine(images[i : i + 2])[0] for i in range(0, 11, 2)])
    np.testing.assert_allclose(got, by_hand(network, images)[0], atol=2e-4 if kind == "float32" else 0.05)


@pytest.mark.filterwarnings("ignore")
def test_an_onnx_file_that_cannot_run(images, tmp_path, require):
    require(installed("onnx"), "onnxruntime")
    path = tmp_path / "net.onnx"
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 10))
    torch.onnx.export(
        module,
        (torch.zeros(1, 3, 16, 16),),
        path,
        dynamo=False,
        input_names=["x"],
        dynamic_axes={"x": {0: "n", 2: "h", 3: "w"}},
    )
    engine = build_engine(
        "onnx", Network("onnx/net", CLASSES, Preprocessing((32, 32), (32, 32)), file=str(path))
    )
    with pytest.raises(InputError) as error:
        engine(images[:2])
    assert error.value.what == "ONNX Runtime cannot run the network."
    assert error.value.details["where"] == "onnx/net"
    assert "768" in error.value.details["got"]


def test_onnx_runtime_reports_nothing():
    """Wheels such as 1.32 report from their import on, and warn if they cannot store who they are."""
    code = (
        "import os; from manyhot.extras import required; required('onnxruntime', 'The engine', 'x'); "
        "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    nowhere = {**os.environ, "HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none"}
    nowhere.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=nowhere, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("1\n", "")
