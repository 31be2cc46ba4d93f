"""What two processes of a training run agree on."""

import json
import math
import sys
from pathlib import Path

import pytest

import trainings

sys.path.insert(0, str(Path(__file__).parent))
from test_loop_two_processes import started

RATE = 0.001 * (1 + math.cos(math.pi / 8)) / 2
"""At the second of eight steps of a cosine from the default rate."""

SCRIPT = """
import json, os, sys
import numpy as np, torch
from manyhot.errors import InputError
from manyhot.train import devices, loop, trained_part
from manyhot.train.train import train

source, labels, classes, out = sys.argv[1:]
rank, seen = int(os.environ["RANK"]), {}
fabric = devices.started("32-true")

try:
    devices.check_same_step(fabric, 20 * rank, "out")
except InputError as error:
    seen["steps"] = str(error)
devices.check_same_step(fabric, 7, "out")

norm = torch.nn.BatchNorm1d(2)
norm.running_mean.fill_(rank + 1.0)
norm.num_batches_tracked.fill_(rank + 5)
devices.share_buffers(fabric, norm)
seen["mean"], seen["batches"] = norm.running_mean.tolist(), int(norm.num_batches_tracked)

trained_part._ROWS_SENT = 4
own = np.arange(11)[rank::2]
rows = torch.from_numpy(own)[:, None] * torch.tensor([1.0, 10.0])
seen["whole"] = trained_part._whole(fabric, own, rows, 11).tolist()

def step(self, fed, epoch):
    return torch.tensor(float("nan") if self.step == 1 and rank == 1 else 1.0)

loop._Run._step = step
settings = json.loads(os.environ["SETTINGS"])
try:
    train(source, labels, out=out, classes=classes, settings=settings)
except InputError as error:
    seen["loss"] = str(error)
with open(f"{out}-{rank}.json", "w") as file:
    json.dump(seen, file)
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What each process saw."""
    folder = tmp_path_factory.mktemp("two")
    source, labels, classes = trainings.data(folder)
    script = folder / "script.py"
    script.write_text(SCRIPT)
    out = folder / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SETTINGS", json.dumps({**trainings.NO_NORM, "lanes": 2}))
        going = started(2, script, source, labels, classes, out)
        _, told = going.communicate(timeout=120)
    assert going.returncode == 0, told
    return out, [json.loads(Path(f"{out}-{rank}.json").read_text()) for rank in (0, 1)]


pytestmark = pytest.mark.slow


def test_all_resume_from_the_same_step(seen):
    for one in seen[1]:
        assert one["steps"] == (
            "The processes find different checkpoints.\n"
            "  where:   out\n"
            "  got:     step 0 in the first process, step 20 in another\n"
            "  do:      put `out` on a disk that all machines share"
        )


def test_buffers_are_those_of_the_first(seen):
    assert [(one["mean"], one["batches"]) for one in seen[1]] == [([1.0, 1.0], 5)] * 2


def test_the_first_has_the_rows_of_all_in_their_order(seen):
    first, second = (one["whole"] for one in seen[1])
    assert first == [[i, 10 * i] for i in range(11)]
    assert second == []


def test_all_stop_if_the_loss_of_one_is_not_finite(seen):
    out, (first, second) = seen
    assert first["loss"] == (
        "The loss is not finite in another process.\n"
        f"  where:   step 1, learning rate {RATE:.3g}\n"
        f"  do:      see its message, and the batch that it saves in {out}"
    )
    assert second["loss"].startswith("The loss is not finite.\n  where:   step 1, learning rate")
    assert (out / "bad-batch-1.npz").is_file()
    assert not (out / "bad-batch.npz").exists()
