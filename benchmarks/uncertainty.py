"""Calibration of dense logits: manyhot beside torchmetrics and netcal, in one run.

    python benchmarks/uncertainty.py [--images 50000] [--classes 1000] [--repeat 5] [--netcal PYTHON]

Data: float32 logits with one label an image, so that all three mean the same. Each case runs in a fresh
process, with one thread and then with the default, on data read from disk; it starts from the logits: softmax
and the best class are part of what is timed. Seconds are medians of CPU seconds over all threads; MB is the
peak during the first call less what was resident before it: the logits (200 MB) do not count.

netcal brings gpytorch, pyro and tensorboard, so it is asked only where `--netcal` names the Python of an
environment that has it: python -m venv V; V/bin/pip install netcal; --netcal V/bin/python.

Bars: all metrics of `manyhot.core.confidence_metrics` and `classwise` in 1 s and 100 MB; ECE in a quarter of
torchmetrics' time and a tenth of netcal's memory; equal values.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from dense import measure

Call = Callable[[], float]


def make_data(folder: Path, n: int, n_classes: int) -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, n_classes, n)
    logits = rng.standard_normal((n, n_classes), dtype=np.float32) * 1.5
    logits[np.arange(n), label] += rng.uniform(0, 10, n).astype(np.float32)
    np.save(folder / "logits.npy", logits)
    np.save(folder / "label.npy", label)


def ours(folder: Path, every: bool) -> Call:
    from manyhot.core.sets import YES, Case, LabelSets
    from manyhot.registry import get, names

    logits, label = np.load(folder / "logits.npy"), np.load(folder / "label.npy").astype(np.int32)
    n, c = logits.shape
    known = [get("metric", name) for name in names("metric")]
    wanted = [m for m in known if m.about.get("needs") in ("confidence", "probabilities")] if every else []
    options = {"accuracy_at_coverage": {"coverage": 0.8}, "accuracy_at_coverage_set": {"coverage": 0.8}}

    def call() -> float:
        yes, usable = np.full(n, YES, np.uint8), np.ones(n, bool)
        labels = LabelSets(c, np.arange(n + 1), label, yes, label, usable)
        case = Case.from_scores(labels, logits, k=1, kind="logit")
        for metric in wanted:
            metric(case, **options.get(metric.name, {})).value(None)
        return get("metric", "ece")(case).value(None)

    return call


def torchmetrics(folder: Path) -> Call:
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error as error

    logits = torch.from_numpy(np.load(folder / "logits.npy"))
    label = torch.from_numpy(np.load(folder / "label.npy"))
    return lambda: float(error(logits, label, num_classes=logits.shape[1], n_bins=15, norm="l1"))


def netcal(folder: Path) -> Call:
    from netcal.metrics import ECE

    logits, label = np.load(folder / "logits.npy"), np.load(folder / "label.npy")

    def call() -> float:
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return float(ECE(15).measure(p, label))

    return call


TASKS: dict[str, Callable[[Path], Call]] = {
    "manyhot": lambda folder: ours(folder, every=False),
    "manyhot, all": lambda folder: ours(folder, every=True),
    "torchmetrics": torchmetrics,
    "netcal": netcal,
}


def run(task: str, folder: Path, repeat: int, threads: str, python: str = sys.executable) -> dict[str, Any]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_", "OMP_", "MKL_"))}
    if threads != "default":
        env |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
    command = [python, __file__, "--child", task, str(folder), str(repeat)]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def report(folder: Path, repeat: int, threads: str, netcal_python: str) -> None:
    print(f"\nthreads: {threads}\n{'':<22}{'CPU s':>8}{'wall s':>8}{'MB':>8}{'ECE':>12}")
    found = {}
    for task in TASKS:
        if task == "netcal" and not netcal_python:
            print(f"{task:<22}not asked: --netcal")
            continue
        python = netcal_python if task == "netcal" else sys.executable
        told = found[task] = run(task, folder, repeat, threads, python)
        print(f"{task:<22}{told['cpu']:8.3f}{told['wall']:8.3f}{told['mb']:8.0f}{told['value']:12.7f}")
    our, every, tm = found["manyhot"], found["manyhot, all"], found["torchmetrics"]
    bars = {
        f"all in 1 s and 100 MB: {every['cpu']:.2f} s, {every['mb']:.0f} MB": every["cpu"] < 1
        and every["mb"] < 100,
        f"ECE 4x torchmetrics: {tm['cpu'] / our['cpu']:.1f}x": tm["cpu"] >= 4 * our["cpu"],
        f"equal to torchmetrics: differs by {abs(tm['value'] - our['value']):.1e}": abs(
            tm["value"] - our["value"]
        )
        < 1e-6,
    }
    if "netcal" in found:
        nc = found["netcal"]
        bars[f"a tenth of netcal's memory: {our['mb']:.0f} of {nc['mb']:.0f} MB"] = our["mb"] <= nc["mb"] / 10
        differs = abs(nc["value"] - our["value"])
        bars[f"equal to netcal: differs by {differs:.1e}"] = differs < 1e-6
    for bar, met in bars.items():
        print(f"{'met' if met else 'MISSED':<7}{bar}")


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        task, name, repeat = sys.argv[2:]
        print(json.dumps(measure(TASKS[task](Path(name)), int(repeat))))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", nargs="+", default=["1", "default"], choices=["1", "default"])
    parser.add_argument("--netcal", default="", metavar="PYTHON", help="of an environment that has netcal")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        make_data(Path(name), options.images, options.classes)
        for threads in options.threads:
            report(Path(name), options.repeat, threads, options.netcal)


if __name__ == "__main__":
    main()
