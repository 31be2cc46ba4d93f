"""How fast and how long networks should learn: two arms, judged on ``val``, which no study judges on.

    python studies/pilot.py FOLDER

makes the data sets in a folder and prints a row a setting. ``pilot.txt`` holds what it said; seconds of
EfficientNet-Lite0 are of a machine with much else to do, and it was not tried on cifar-sets. Chosen is the
best mean of `real1` and `map_macro` over both arms; test images have no part in it. Longer training of the
small network would have been better still: 32 epochs are what three hours allow.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

from arms import SETS, SINGLE
from grid import GRID
from measuring.judged import scores_of
from networks import engine_of
from seeing import seen

from manyhot import read_labels
from manyhot.study import Arm, JudgedRun, Net, StudyRun
from manyhot.tables.arrays import label_sets
from manyhot.train.train import train

TRIED = {
    "small": [{"lr": lr, "epochs": epochs} for lr, epochs in itertools.product((3e-3, 1e-2), (16, 32))],
    "lite0": [{"lr": lr, "epochs": epochs} for lr, epochs in itertools.product((3e-4, 1e-3, 3e-3), (4, 8))],
}

METRICS = ("top1", "real1", "map_macro")


def main(out: Path, only: list[str]) -> None:
    """Try all settings of each network, on both data sets."""
    print("data set    network arm     lr      epochs  seconds  " + "  ".join(METRICS))
    for data_set, net, arm in itertools.product(GRID.data_sets, GRID.networks, (SINGLE, SETS)):
        if only and not {data_set.name, net.name} >= set(only):
            continue
        data = out / "data" / data_set.name
        if not data.exists():
            data.mkdir(parents=True)
            data_set.make(data, False)
        for settings in TRIED[net.name]:
            folder = (
                out / "pilot" / data_set.name / net.name / arm.name / "-".join(map(str, settings.values()))
            )
            run = StudyRun(data, data_set.name, net.name, arm.name, 0, folder)
            began = time.perf_counter()
            values = " ".join(f"{100 * v:9.1f}" for v in _tried(run, net, arm, settings))
            spent = time.perf_counter() - began
            told = f"{data_set.name:11} {net.name:7} {arm.name:7} {settings['lr']:<7g} {settings['epochs']:6}"
            print(f"{told} {spent:8.0f} {values}", flush=True)


def _tried(run: StudyRun, net: Net, arm: Arm, settings: dict[str, float]) -> list[float]:
    """Return what a network is worth on ``val``."""
    run.folder.mkdir(parents=True, exist_ok=True)
    model = train(
        run.images("train"),
        arm.labels(run),
        out=run.folder,
        classes=run.classes,
        settings={**net.settings, **arm.settings, **settings},
        features=run.data.parents[1] / "features",
    ).network
    found = seen(model, run.images("val"), run.folder / "val", engine_of(run))
    judged = JudgedRun(label_sets(read_labels(run.labels("val"))), scores_of(found), found.score_kind)
    return [measured.value for measured in judged.measured(METRICS)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", action="append", default=[], help="a data set or a network")
    arguments = parser.parse_args()
    main(arguments.out, arguments.only)
