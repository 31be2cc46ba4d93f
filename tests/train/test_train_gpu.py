"""Training on a GPU gives what it gives on the CPU, and never waits in a step."""

import csv
import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import gpus
import trainings
from manyhot.train import loop
from manyhot.train.augment import drawn
from manyhot.train.batches import Batch
from manyhot.train.feeds import copied
from manyhot.train.order import plan_of
from manyhot.train.recipe import Recipe
from manyhot.train.train import train

pytestmark = pytest.mark.gpu

STEADY = {**trainings.NO_NORM, "optimiser": "sgd", "lr": 0.01}
"""Settings with which two devices give the same weights up to rounding."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("colours")
    trainings.data(found, 32)
    trainings.labels(found / "val.parquet", 32, 20)
    return found


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return gpus.the_gpu()


@pytest.fixture
def run(folder, tmp_path):
    """Train with some settings; return the rows of the log and the weights."""

    def run(name, save_every=60.0, **settings):
        out = tmp_path / name
        train(
            folder / "images",
            folder / "labels.parquet",
            out=out,
            classes=folder / "classes.txt",
            val_labels=folder / "val.parquet",
            settings={**STEADY, **settings},
            save_every=save_every,
        )
        with (out / "log.csv").open(newline="") as file:
            return list(csv.DictReader(file)), load_file(out / "model.safetensors")

    return run


def same_as_on_the_cpu(run, tolerance=2e-3, **settings):
    rows, weights = run("gpu", **settings)
    with gpus.on_the_cpu():
        own_rows, own = run("cpu", **settings)
    assert len(rows) == len(own_rows) == 2
    for row, other in zip(rows, own_rows, strict=True):
        for name in ("loss", "val_top1", "val_real1"):
            assert float(row[name]) == pytest.approx(float(other[name]), rel=tolerance, abs=tolerance)
    for name, value in weights.items():
        torch.testing.assert_close(value, own[name], rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mixup": 0.4, "cutmix": 1.0},
        {"ema": 0.9},
        {"accumulate": 2, "clip": 1.0},
        {"loss": "softmax", "teach": "label"},
        {"loss": "role"},
        {"loss": "ll_cp"},
        {"trained_from": "head", "augment": "mirror"},
    ],
    ids=str,
)
def test_the_same_as_on_the_cpu(settings, run):
    same_as_on_the_cpu(run, **settings)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_half_precision(precision, run, gpu):
    if gpu.type == "cpu" and precision == "16-mixed":
        pytest.skip("CPUs do not support it")
    exact, _ = run("exact")
    rows, _ = run("half", precision=precision)
    for row, other in zip(rows, exact, strict=True):
        assert float(row["loss"]) == pytest.approx(float(other["loss"]), rel=0.03)


def test_a_stopped_run_resumes(run, monkeypatch):
    whole, weights = run("whole", ema=0.9, mixup=0.4)
    step, count = loop._Run._step, 0

    def stopping(self, fed, epoch):
        nonlocal count
        count += 1
        if count == 6:
            raise KeyboardInterrupt
        return step(self, fed, epoch)

    monkeypatch.setattr(loop._Run, "_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        run("stopped", save_every=0.0, ema=0.9, mixup=0.4)
    rows, resumed = run("stopped", ema=0.9, mixup=0.4)
    assert [row["loss"] for row in rows][1] == pytest.approx(whole[1]["loss"])
    for name, value in resumed.items():
        torch.testing.assert_close(value, weights[name], rtol=1e-4, atol=1e-5, msg=name)


def test_no_step_waits_for_the_gpu(run, gpu, monkeypatch):
    """After the first, in which libraries start."""
    step, read, seen = loop._Run._step, loop._Run._read_loss, []

    def watched(self, fed, epoch):
        if self.step == 0:
            return step(self, fed, epoch)
        with gpus.no_waiting(gpu):
            seen.append(self.step)
            return step(self, fed, epoch)

    def late(self):
        """The loss that is read is that of an earlier step, or of the last of an epoch."""
        if self.unread is not None:
            assert self.unread.step <= self.step
        return read(self)

    monkeypatch.setattr(loop._Run, "_step", watched)
    monkeypatch.setattr(loop._Run, "_read_loss", late)
    run("watched", mixup=0.4, cutmix=1.0, ema=0.9, precision="bf16-mixed")
    assert seen == list(range(1, 8))


def test_batches_are_copied_whole_and_in_order(gpu):
    pinned = gpu.type == "cuda"
    rng = np.random.default_rng(0)
    sent = [rng.integers(0, 256, (16, 3, 64, 64), dtype=np.uint8) for _ in range(20)]

    def batches():
        for pixels in sent:
            batch = Batch.empty(16, (64, 64), pinned)
            batch.images.copy_(torch.from_numpy(pixels))
            yield batch

    seen = []
    for _, images in copied(batches(), gpu):
        busy = torch.randn(512, 512, device=gpu)
        seen.append(images.float().mul(1.0) + (busy @ busy).sum() * 0)
    for pixels, images in zip(sent, seen, strict=True):
        np.testing.assert_array_equal(images.cpu().numpy(), pixels)


def test_mixed_images_are_those_of_the_cpu(gpu):
    recipe = dataclasses.replace(Recipe(), mixup=0.4, cutmix=1.0, batch=32)
    mix = drawn(recipe, plan_of(32, 4, 0, 64), 0, 0, (32, 40))
    images = torch.randn(32, 3, 32, 40)
    torch.testing.assert_close(mix(images.to(gpu)).cpu(), mix(images), rtol=1e-6, atol=1e-6)


def test_the_device_is_the_gpu(run, gpu, monkeypatch):
    devices = set()
    step = loop._Run._step

    def seen(self, fed, epoch):
        devices.add((fed.x.device.type, next(self.start.module.parameters()).device.type))
        return step(self, fed, epoch)

    monkeypatch.setattr(loop._Run, "_step", seen)
    run("where")
    assert devices == {(gpu.type, gpu.type)}
