"""A run that is killed at any moment ends with the weights of one that was not."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import trainings
from manyhot.errors import OutputError
from manyhot.train.checkpoints import Logs

SETTINGS = {
    **trainings.TINY,
    "accumulate": 2,
    "mixup": 0.4,
    "cutmix": 1.0,
    "policy": "rand-augment",
    "jitter": 0.2,
    "drop": 0.2,
    "ema": 0.9,
    "clip": 1.0,
    "optimiser": "sgd",
    "lr": 0.1,
}


# In the first step, before there is a checkpoint; in the middle of both epochs; and while it writes.
KILLS = [1, 3, -14, -15, 3]


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_weights(tmp_path):
    data = trainings.data(tmp_path)
    jobs = []
    for order in ("all", "shards"):
        settings = {**SETTINGS, "order": order, "lanes": 1, "buffer": 5}
        jobs += [(f"{order}-calm", settings, [0]), (f"{order}-killed", settings, [*KILLS, 0])]
    done = subprocess.run(
        [
            sys.executable,
            Path(__file__).parents[1] / "helpers" / "killing_training.py",
            *data,
            json.dumps([(str(tmp_path / out), *rest) for out, *rest in jobs]),
        ],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    told = list(map(json.loads, done.stdout.splitlines()))
    deaths = [signal.SIGKILL] * len(KILLS) + [0]
    assert told[1::2] == [[0], deaths, [0], deaths]
    for kind, order in ((2, "all"), (6, "shards")):
        assert told[kind][-1].startswith("resuming from step ")
        for name in ("model.safetensors", "log.csv"):
            killed, calm = (tmp_path / f"{order}-{how}" / name for how in ("killed", "calm"))
            assert killed.read_bytes() == calm.read_bytes()


def test_curves_of_a_run_that_starts_again(tmp_path):
    """A run that resumes continues the curves in a file of its own; one without a checkpoint begins them."""
    for step, files in ((0, 1), (0, 1), (5, 2), (7, 3), (0, 1)):
        with Logs(tmp_path, "m", 1, step=step):
            pass
        assert len(list((tmp_path / "tensorboard").iterdir())) == files


def test_tensorboard_reads_one_curve_without_the_repeated_steps(tmp_path):
    """With its own reader: a run that stopped after step 60 and resumed from step 40."""
    for begun, steps in ((0, (20, 40, 60)), (40, (40, 60, 80))):
        with Logs(tmp_path, "m", 1, step=begun) as logs:
            for step in steps:
                logs.points(step, {"loss": step + begun / 4, "lr": 0.5})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Tags()["scalars"] == ["loss", "lr"]
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(20, 20), (40, 50), (60, 70), (80, 90)]
    assert [e.value for e in events.Scalars("lr")] == [0.5] * 4


def test_curves_on_a_full_disk(tmp_path, monkeypatch):
    """The run ends: a thread of TensorBoard's own writer printed its traceback, and the run went on."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    logs = Logs(tmp_path, "m", 1)
    monkeypatch.setattr(logs.curves.records, "write", full)
    with pytest.raises(OutputError) as error, logs:
        logs.points(20, {"loss": 1.0})
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert str(error.value) == (
        f"The disk is full; this file was not written.\n  where:   {file}\n"
        "  do:      free some space or choose another `out`"
    )
