"""Two processes that share each batch train as one does.

The network has no batch norms: these would take mean and variance over the images of one process. The loss
is the mean over cells, and gradients are averaged, so that nothing but rounding may differ.
"""

import csv
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from manyhot import pipeline

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

SETTINGS = {
    "model": "timm/test_vit",
    "weights": "none",
    "size": 32,
    "batch": 8,
    "lanes": 4,
    "epochs": 2,
    "lr": 1e-3,
    "mixup": 0.2,
    "accumulate": 2,
    "ema": 0.9,
}


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    lines = ["image_id,label,usable,classes,state"]
    for i in range(24):
        colour = np.eye(3, dtype=np.uint8)[i % 3] * 200
        pixels = rng.integers(0, 56, (48, 40, 3), dtype=np.uint8) + colour
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i:02}.png")
        lines.append(f"{i:02}.png,{i % 3},true,{i % 3} {(i + 1) % 3},yes {'yes' if i % 2 else 'no'}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "classes.txt").write_text("red\ngreen\nblue\n")
    return tmp_path


def curve(out):
    with (out / "log.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def weights(out):
    from safetensors.torch import load_file

    return load_file(out / "model.safetensors")


def start_two(folder, out):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = [f"--set={name}={value}" for name, value in SETTINGS.items()]
    where = ("photos", "--labels", "labels.csv", "--classes", "classes.txt", "--out", str(out))
    torchrun = ("torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port))
    command = [sys.executable, "-m", *torchrun, "-m", "manyhot", "train", *where, *settings]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def test_two_processes_train_as_one(folder):
    one = folder / "one"
    pipeline.train_files(
        folder / "photos",
        folder / "labels.csv",
        one,
        classes=folder / "classes.txt",
        settings=SETTINGS,
    )
    start_two(folder, folder / "two")
    assert curve(folder / "two") == pytest.approx(curve(one), rel=1e-5)
    assert curve(one)[1] < curve(one)[0]
    own, others = weights(one), weights(folder / "two")
    for name in own:
        assert torch.allclose(own[name], others[name], atol=1e-4), name
