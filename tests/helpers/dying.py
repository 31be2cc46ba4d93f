"""Dies at each step that a run takes in the file system, one after the other, and goes on each time.

Run as ``python dying.py IN OUT UNDISTURBED``; prints after which steps the folder was another.
"""

import importlib
import os
import shutil
import signal
import sys
from pathlib import Path

from manyhot.predict.network import Network
from manyhot.predict.run import PredictSettings, run
from manyhot.predict.sources import Files
from manyhot.predict.sources.source import ImageSource
from small_models import COLOURS, SMALL, mean_colour

STEPS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "shutil.rmtree"}

source, out, undisturbed = sys.argv[1:]
step, deadly = 0, 0  # how many there were, and which is the last; 0 for none


def die(event, args):
    global step
    if deadly and event in STEPS and str(args[0]).startswith(out):
        step += 1
        if step == deadly:
            os.kill(os.getpid(), signal.SIGKILL)


def go():
    names = sorted(path.name for path in Path(source).iterdir())
    parts = tuple(Files(f"{i:05}", source, tuple(names[4 * i :][:4])) for i in range(2))
    tint = Network("tint", COLOURS, SMALL, forward=mean_colour)
    run(ImageSource(source, parts), tint, Path(out), PredictSettings())


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def in_a_child(last):
    """Run in a process of its own, which dies at a step, and return its status."""
    global deadly
    pid = os.fork()
    if not pid:
        deadly = last
        go()
        os._exit(0)
    return os.waitpid(pid, 0)[1]


importlib.import_module("manyhot.predict.engines.choose").TRIAL_S = 0
go()  # imports what is needed once, not in each child
shutil.rmtree(out)
sys.addaudithook(die)
wrong, tried = [], 0
while in_a_child(tried + 1):
    tried += 1
    if in_a_child(0) or contents(out) != contents(undisturbed):
        wrong.append((tried, sorted(map(str, contents(out)))))
    shutil.rmtree(out)
print(tried, wrong)
