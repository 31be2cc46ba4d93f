"""Validation in several processes gives the numbers of one, to the last digit."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from manyhot import Evaluator, evaluate

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "distributed_validation.py"

SCRIPT = """
import json, sys
import torch.distributed as dist, torch.multiprocessing as processes
import numpy as np
from manyhot import Evaluator

def work(rank, port, data):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=3)
    scores, hot = (np.load(data)[name] for name in ("scores", "hot"))
    padded, idle = [range(20), range(15, 48), range(5)], [range(1, 48, 2), [], range(0, 48, 2)]
    for shares, ids in ((padded, True), (idle, False)):
        metric = Evaluator(n_classes=6, metrics=["real1", "f1@3", "map_macro"]).as_torch_metric()
        for at in range(0, len(shares[rank]), 10):
            rows = list(shares[rank][at : at + 10])
            metric.update(scores[rows], hot[rows], ids=[f"{i}.jpg" for i in rows] if ids else None)
        values = {name: value.item() for name, value in metric.compute().items()}
        if rank == 1:
            print(json.dumps(values), flush=True)
    dist.destroy_process_group()

if __name__ == "__main__":
    processes.spawn(work, sys.argv[1:], 3)
"""


def lines(*arguments):
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.mark.slow
def test_the_example_prints_the_same_in_two_processes():
    pytest.importorskip("torch")
    alone = lines(EXAMPLE)
    where = ["--master-addr", "127.0.0.1", "--master-port", free_port()]
    together = lines("-m", "torch.distributed.run", "--nproc-per-node", "2", *where, EXAMPLE)
    assert together == [
        *alone,
        "labels, model: 1 of 302 rows repeat an id, as in padded data, and were left out",
    ]
    assert len(alone) == 4
    assert alone[3].startswith("labels: a ranking at random has ")
    assert alone[0].startswith('{"metric": "real1", "value": 0.')


@pytest.mark.slow
def test_a_metric_of_torchmetrics_gathers_padded_and_idle_processes(tmp_path):
    pytest.importorskip("torchmetrics")
    rng = np.random.default_rng(5)
    hot = rng.random((48, 6)) < 0.3
    scores = (hot + rng.normal(size=(48, 6))).astype(np.float32)
    np.savez(tmp_path / "data.npz", scores=scores, hot=hot)
    (tmp_path / "script.py").write_text(SCRIPT)
    found = map(json.loads, lines(tmp_path / "script.py", free_port(), tmp_path / "data.npz"))
    whole = evaluate(hot, scores, metrics=["real1", "f1@3", "map_macro"], resamples=0)
    for values, ids in zip(found, ([f"{i}.jpg" for i in range(48)], None), strict=True):
        alone = Evaluator(n_classes=6, metrics=["real1", "f1@3", "map_macro"]).as_torch_metric()
        alone.update(scores, hot, ids=ids)
        assert values == {name: value.item() for name, value in alone.compute().items()}
        assert values == {name: pytest.approx(whole.value(name), abs=1e-12) for name in values}
