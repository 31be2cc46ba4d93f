"""Trains while it is killed again and again, and goes on each time.

Run as ``python killing.py IMAGES LABELS CLASSES JOBS``. A job of JOBS, a list in JSON, is a folder, settings
and kills. Each kill is a number: of steps, at which a run kills itself; or, below 0, of things that it does
in the file system. Prints how each process ended, and what the last of all told.
"""

import json
import os
import signal
import sys

import filelock
import lightning_fabric
import tensorboard.summary.writer.record_writer
import timm.optim
import torch

from manyhot.run import Run
from manyhot.train import loop
from manyhot.train.train import train

source, labels, classes, jobs = sys.argv[1:]
IMPORTED = (filelock, lightning_fabric, timm.optim, tensorboard)
"""Once, for all processes."""

FILES = {"open", "os.rename", "os.remove", "os.chmod", "shutil.rmtree"}


def run(out, settings, kill):
    """Train in a process of its own, and return how it ended."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    left = abs(kill)

    def die(*_):
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if kill > 0:
        step = loop._Run._step
        loop._Run._step = lambda self, fed, epoch: (step(self, fed, epoch), die())[0]
    elif kill < 0:
        sys.addaudithook(lambda event, args: event in FILES and str(args[0]).startswith(out) and die())
    told = []
    train(
        source, labels, out=out, classes=classes, settings=settings, save_every=0,
        run=Run(on_event=lambda kind, about: kind == "note" and told.append(about["text"])),
    )  # fmt: skip
    print(json.dumps(told), flush=True)
    os._exit(0)


torch.set_num_threads(1)
for out, settings, kills in json.loads(jobs):
    print(json.dumps([run(out, settings, kill) for kill in kills]), flush=True)
