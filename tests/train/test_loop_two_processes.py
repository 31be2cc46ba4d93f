"""Two processes give the losses of one: each batch is the same, dealt out.

In a network without batch norm: each process would norm by its own half, and PyTorch's SyncBatchNorm does not
run on CPUs.
"""

import csv
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

import trainings
from manyhot.errors import InputError
from manyhot.train.order import plan_of

SETTINGS = {
    **trainings.NO_NORM,
    "mixup": 0.4,
    "cutmix": 1.0,
    "optimiser": "sgd",
    "lr": 0.01,
    "lanes": 2,
    "ema": 0.9,
}

SCRIPT = """
import json, sys
from manyhot.train.train import train
labels, classes, val, runs = sys.argv[1:]
for source, settings, out in json.loads(runs):
    train(source, labels, out=out, classes=classes, val_labels=val, settings=settings)
"""


def losses(path):
    with (path / "log.csv").open() as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def started(processes, *arguments):
    """Run the script in so many processes, or in this way of starting them alone."""
    torchrun = [] if processes == 1 else ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    where = [] if processes == 1 else ["--master-addr", "127.0.0.1", "--master-port", free_port()]
    return subprocess.Popen(
        [sys.executable, *torchrun, *where, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(tmp_path):
    source, labels, classes = trainings.data(tmp_path)
    tars = trainings.shards(tmp_path / "tars", source, 3)
    val = trainings.labels(tmp_path / "val.parquet", 32, 20)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    kinds = {"all": (source, {}), "shards": (tars, {"buffer": 5, "accumulate": 2})}
    for n in (1, 2):
        runs = [
            (str(where), {**SETTINGS, "order": order, **more}, str(tmp_path / f"{order}{n}"))
            for order, (where, more) in kinds.items()
        ]
        going = started(n, script, labels, classes, val, json.dumps(runs))
        _, told = going.communicate(timeout=120)
        assert going.returncode == 0, told
    for order in kinds:
        own, other = (load_file(tmp_path / f"{order}{n}" / "model.safetensors") for n in (1, 2))
        for name in own:
            np.testing.assert_allclose(own[name], other[name], atol=1e-4, err_msg=name)
        one, two = losses(tmp_path / f"{order}1"), losses(tmp_path / f"{order}2")
        assert len(one) == len(two) == 2
        for a, b in zip(one, two, strict=True):
            assert a.keys() == b.keys()
            np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-4)


def test_processes_that_do_not_divide_the_lanes():
    with pytest.raises(InputError) as error:
        plan_of(64, 8, 0, 1000, 0, 3)
    assert str(error.value) == (
        "The batch cannot be divided evenly among the processes.\n"
        "  got:     3 processes, batch 64, lanes 8\n"
        "  allowed: 1, 2, 4, 8 processes\n"
        "  do:      start a different number of processes, or set `batch` and `lanes` to multiples of that "
        "number"
    )
