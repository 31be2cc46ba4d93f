"""Runs a toy study that is killed again and again, and goes on each time.

Run as ``python killing_studies.py OUT``, for one that is not killed with a second argument. Each process ends
after some dozens of changes that it makes in the file system, until one comes to the end.
"""

import json
import os
import signal
import sys

import pyarrow.parquet as pq

import toys
from manyhot.study import page, run_studies, runner, tables
from manyhot.study import study as study_module
from manyhot.study.study_file import Opening
from manyhot.train import train as train_module

out = sys.argv[1]
FILES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "shutil.rmtree"}
IMPORTED = (pq, page, runner, tables)
"""Once, for all processes."""


def run(events):
    """Run the study in a process of its own, killed after so many events; return how it ended."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]

    def die(event, args):
        nonlocal events
        reads = event == "open" and not args[2] & os.O_CREAT
        if event in FILES and not reads and str(args[0]).startswith(out):
            events -= 1
            if events == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(die)
    run_studies("toy.py", out=out)
    os._exit(0)


setattr(train_module, "train", toys.Trainer())  # noqa: B010
toy = toys.study(data_sets=toys.study().grid.data_sets[:1], seeds=(0, 1))
setattr(study_module, "read_study", lambda _: (toy, Opening("", "", "", "")))  # noqa: B010
runner.machine = lambda: "a machine"
page._write = lambda page, path, *_: path  # drawn by other tests
os.fsync = lambda _: None
kills = 0
while kills < 200 and run(0 if len(sys.argv) > 2 else 30 + 13 * kills % 31):
    kills += 1
print(json.dumps(kills))
