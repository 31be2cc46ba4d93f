"""A run that is killed at any moment ends with the weights of one that was not."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import trainings

SETTINGS = {
    **trainings.TINY,
    "accumulate": 2,
    "mixup": 0.4,
    "cutmix": 1.0,
    "drop": 0.2,
    "ema": 0.9,
    "clip": 1.0,
    "optimiser": "sgd",
    "lr": 0.1,
}


def killed(data, out, settings, kills):
    """Train, killed so often, and return how each process ended and what the last one told."""
    script = Path(__file__).with_name("killing.py")
    command = [sys.executable, script, *data, out, json.dumps(settings), json.dumps(kills)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    *told, ends = map(json.loads, done.stdout.splitlines())
    return ends, told[-1] if told else None


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return trainings.data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("order", ["all", "shards"])
def test_a_killed_run_ends_with_the_same_weights(data, tmp_path, order):
    settings = {**SETTINGS, "order": order, "lanes": 1, "buffer": 5}
    ends, _ = killed(data, tmp_path / "calm", settings, [0])
    assert ends == [0]
    # In the first step, before there is a checkpoint; in the middle of both epochs; and while it writes.
    kills = [1, 3, -14, -15, 3]
    ends, told = killed(data, tmp_path / "killed", settings, [*kills, 0])
    assert ends == [signal.SIGKILL] * len(kills) + [0]
    assert told[-1].startswith("going on from step ")
    for name in ("model.safetensors", "log.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "calm" / name).read_bytes()
