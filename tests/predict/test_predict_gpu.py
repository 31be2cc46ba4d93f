"""Predictions of a GPU are those of the CPU."""

import dataclasses

import numpy as np
import pytest
import torch

import gpus
from manyhot import Evaluator
from manyhot.classes import from_keys
from manyhot.predict.engines import EngineOptions, build_engine
from manyhot.predict.engines.engine import EnginePrecision
from manyhot.predict.network import Network, Preprocessing

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def gpu():
    return gpus.the_gpu()


@pytest.fixture
def network():
    torch.manual_seed(0)
    timm = pytest.importorskip("timm")
    module = timm.create_model("test_resnet", num_classes=10).eval()
    preprocessing = Preprocessing((64, 64), (64, 64), mean=(0.5,) * 3, std=(0.25,) * 3)
    return Network("small", from_keys([str(i) for i in range(10)]), preprocessing, module, "fc")


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (96, 3, 64, 64), dtype=np.uint8)


def outputs(name, network, images, **options):
    engine = build_engine(name, network, EngineOptions(features=True, workers=2, **options))
    return [np.concatenate(parts) for parts in zip(*map(engine, np.split(images, 3)), strict=True)]


def on_the_cpu(network, images):
    with gpus.on_the_cpu():
        return outputs("torch", network, images)


def test_logits_and_features_in_full_precision(network, images):
    before = torch.backends.cudnn.allow_tf32
    found = outputs("torch", network, images)
    assert torch.backends.cudnn.allow_tf32 == before
    for one, other in zip(found, on_the_cpu(network, images), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", [EnginePrecision.bf16, EnginePrecision.f16])
def test_half_precision_is_close(precision, network, images, gpu):
    if gpu.type == "cpu" and precision is EnginePrecision.f16:
        pytest.skip("CPUs do not support it")
    (logits, _), (own, _) = (
        outputs("torch", network, images, precision=precision),
        on_the_cpu(network, images),
    )
    assert np.abs(logits - own).max() < 0.05 * max(1, np.abs(own).max())


@pytest.mark.filterwarnings("ignore")
def test_compiled(network, images):
    for one, other in zip(outputs("compile", network, images), on_the_cpu(network, images), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_a_batch_that_does_not_fit_is_halved(network, images, gpu):
    if gpu.type == "cpu":
        pytest.skip("the memory of a CPU is not limited")
    seen = Preprocessing((512, 512), (512, 512), mean=(0.5,) * 3, std=(0.25,) * 3)
    network = dataclasses.replace(network, preprocessing=seen)
    large = np.repeat(images, 8, axis=0).repeat(8, axis=2).repeat(8, axis=3)
    total = torch.cuda.get_device_properties(gpu).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(2e9 / total)
    try:
        engine = build_engine("torch", network, EngineOptions(workers=1, batch=768))
        logits, _ = engine(large)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert engine.fits[0] < 768
    with gpus.on_the_cpu():
        own, _ = build_engine("torch", network, EngineOptions(workers=1, batch=8))(large[::96])
    np.testing.assert_allclose(logits[::96], own, rtol=1e-3, atol=1e-3)


def test_a_metric_of_torchmetrics(gpu):
    pytest.importorskip("torchmetrics")
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.normal(size=(64, 5)).astype(np.float32))
    target = torch.from_numpy(rng.random((64, 5)) < 0.4)
    values = []
    for device in (gpu, torch.device("cpu")):
        evaluator = Evaluator(n_classes=5, metrics=["map_macro"], scores="logit")
        metric = evaluator.as_torch_metric("map_macro").to(device)
        metric.update(scores.to(device), target.int().to(device))
        values.append(float(metric.compute()))
    assert values[0] == pytest.approx(values[1], rel=1e-6)
