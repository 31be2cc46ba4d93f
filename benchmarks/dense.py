"""Metrics over dense scores: manyhot beside torchmetrics and scikit-learn, in one run.

    python benchmarks/dense.py [--images 50000] [--classes 1000] [--repeat 3] [--threads 1 default]

Data: 1.3 labels an image, normal scores with 3 added where the label is, squashed into (0, 1) because
torchmetrics guesses logits from the range; macro mAP is about 0.41. Each case runs in a fresh process, on
data read from disk. Seconds are medians of CPU seconds over all threads, of wall seconds in the columns "w":
on a shared machine the CPU seconds are to be trusted. MB is the peak during the first call less what was
resident before it, so that neither the scores (200 MB) count nor the form in which a library takes the
labels: an int64 matrix of 400 MB for torchmetrics, a uint8 matrix of 50 MB for scikit-learn, a `LabelSets`
of 1 MB here. torchmetrics adds up in float32, which shows in its LRAP.

Bars of intervals: macro mAP with its interval by the jackknife in 3 times the CPU seconds of its value alone,
and in 200 MB; all pairs of 20 models in 30 s.

Bound: every metric reads the scores once, and the last lines print how long that takes. Macro mAP must also
order the cells that are not below the lowest positive of their class, which is printed beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

THRESHOLD = 0.2
BARS = {
    ("map_macro", "torchmetrics"): 15,
    ("map_macro", "scikit-learn"): 12,
    ("ranking_loss", "torchmetrics"): 30,
    ("coverage", "torchmetrics"): 30,
}
METRICS = ("map_macro", "ranking_loss", "coverage", "lrap", "map_micro", "f1_micro", "f1_macro")
Call = Callable[[], float]


def make_data(folder: Path, n: int, n_classes: int) -> None:
    rng = np.random.default_rng(0)
    size = np.minimum(1 + rng.binomial(3, 0.1, n), n_classes)
    classes = np.concatenate([rng.choice(n_classes, k, replace=False) for k in size]).astype(np.int32)
    logits = rng.standard_normal((n, n_classes), dtype=np.float32) - 5
    logits[np.repeat(np.arange(n), size), classes] += 3
    np.save(folder / "scores.npy", 1 / (1 + np.exp(-logits)))
    np.save(folder / "classes.npy", classes)
    np.save(folder / "indptr.npy", np.append(0, np.cumsum(size)).astype(np.int64))


def load(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.load(folder / "scores.npy"), np.load(folder / "classes.npy"), np.load(folder / "indptr.npy")


def indicator(scores: np.ndarray, classes: np.ndarray, indptr: np.ndarray, dtype: type) -> np.ndarray:
    y = np.zeros(scores.shape, dtype)
    y[np.repeat(np.arange(len(scores)), np.diff(indptr)), classes] = 1
    return y


def case_of(folder: Path) -> Any:
    from manyhot.core.sets import YES, Case, LabelSets

    scores, classes, indptr = load(folder)
    n, n_classes = scores.shape
    state, label = np.full(len(classes), YES, np.uint8), np.full(n, -1, np.int32)
    labels = LabelSets(n_classes, indptr, classes, state, label, np.ones(n, bool))
    return Case(labels, np.zeros((n, 1), np.int32), scores)


def ours(folder: Path, name: str) -> Call:
    from manyhot.registry import get

    case, metric = case_of(folder), get("metric", name)
    options = {"threshold": THRESHOLD, "link": "identity"} if name.startswith("f1") else {}

    def call() -> float:
        fresh = dataclasses.replace(case, labels=dataclasses.replace(case.labels))  # nothing cached
        return metric(fresh, **options).value(None)

    return call


def torchmetrics(folder: Path, name: str) -> Call:
    import torch
    from torchmetrics.functional import classification as tm

    scores, classes, indptr = load(folder)
    y, s, c = (
        torch.from_numpy(indicator(scores, classes, indptr, np.int64)),
        torch.from_numpy(scores),
        scores.shape[1],
    )
    return {
        "map_macro": lambda: float(tm.multilabel_average_precision(s, y, c, average="macro")),
        "map_micro": lambda: float(tm.multilabel_average_precision(s, y, c, average="micro")),
        "lrap": lambda: float(tm.multilabel_ranking_average_precision(s, y, c)),
        "coverage": lambda: float(tm.multilabel_coverage_error(s, y, c)),
        "ranking_loss": lambda: float(tm.multilabel_ranking_loss(s, y, c)),
        "f1_micro": lambda: float(tm.multilabel_f1_score(s, y, c, threshold=THRESHOLD, average="micro")),
        "f1_macro": lambda: float(tm.multilabel_f1_score(s, y, c, threshold=THRESHOLD, average="macro")),
    }[name]


def scikit_learn(folder: Path, name: str) -> Call:
    from sklearn import metrics as sk

    scores, classes, indptr = load(folder)
    y = indicator(scores, classes, indptr, np.uint8)
    return {
        "map_macro": lambda: sk.average_precision_score(y, scores),
        "map_micro": lambda: sk.average_precision_score(y, scores, average="micro"),
        "lrap": lambda: sk.label_ranking_average_precision_score(y, scores),
        "coverage": lambda: sk.coverage_error(y, scores),
        "ranking_loss": lambda: sk.label_ranking_loss(y, scores),
        "f1_micro": lambda: sk.f1_score(y, scores >= THRESHOLD, average="micro"),
        "f1_macro": lambda: sk.f1_score(y, scores >= THRESHOLD, average="macro", zero_division=np.nan),
    }[name]


def with_interval(folder: Path, name: str) -> Call:
    """Return a call that computes the value and its interval by the jackknife."""
    from manyhot.core.jackknife import jackknife_interval
    from manyhot.registry import get

    case, metric = case_of(folder), get("metric", name)
    options = {"threshold": THRESHOLD, "link": "identity"} if name.startswith("f1") else {}

    def call() -> float:
        fresh = dataclasses.replace(case, labels=dataclasses.replace(case.labels))
        estimate = metric(fresh, **options)
        value = estimate.value(np.ones(len(case.labels)))
        lo, hi = jackknife_interval(value, estimate.left_out(None))
        return hi - lo

    return call


def pairs(folder: Path, name: str, models: int = 20) -> Call:
    """Return a call that compares all pairs of models, whose values and changes are there already."""
    from manyhot.core.model_pairs import compare_pairs, jackknife_errors, pairs_of
    from manyhot.registry import get

    changes = get("metric", name)(case_of(folder)).left_out(None)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, changes.std(), (models, len(changes)))
    every, values = (changes + noise).astype(np.float32), rng.normal(0.4, 0.01, models)
    both = pairs_of(models)
    return lambda: float(np.nanmin(compare_pairs(values, errors=jackknife_errors(every)[0][both]).p))


LIBRARIES = {
    "manyhot": ours,
    "interval": with_interval,
    "pairs": pairs,
    "torchmetrics": torchmetrics,
    "scikit-learn": scikit_learn,
}


def resident_mb(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split(field + ":")[1].split()[0]) / 1024


def measure(call: Call, repeat: int) -> dict[str, Any]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, cpu, wall = resident_mb("VmRSS"), [], []
    for _ in range(repeat):
        start = time.process_time(), time.perf_counter()
        value = call()
        cpu.append(time.process_time() - start[0])
        wall.append(time.perf_counter() - start[1])
        if len(cpu) == 1:
            added = resident_mb("VmHWM") - before
    return {"value": value, "cpu": statistics.median(cpu), "wall": statistics.median(wall), "mb": added}


def resamples(folder: Path, name: str, count: int = 200) -> dict[str, Any]:
    """Measure the first weighted evaluation, and `count` more under bootstrap weights."""
    from manyhot.registry import get

    case = case_of(folder)
    estimate, rng, n = get("metric", name)(case), np.random.default_rng(0), len(case.labels)

    def draw() -> np.ndarray:
        return np.bincount(rng.integers(0, n, n), minlength=n)

    weights = iter([draw() for _ in range(count + 1)])
    first = measure(lambda: estimate.value(next(weights)), 1)
    later = measure(lambda: estimate.value(next(weights)), count)
    return {"first": first["cpu"], "later": later["cpu"], "mb": first["mb"] + max(later["mb"], 0)}


def bounds(folder: Path) -> dict[str, Any]:
    scores, classes, indptr = load(folder)
    rows = np.repeat(np.arange(len(scores)), np.diff(indptr))
    lowest = np.full(scores.shape[1], np.inf, np.float32)
    np.minimum.at(lowest, classes, scores[rows, classes])
    left = [np.compress(column >= least, column) for column, least in zip(scores.T, lowest, strict=True)]
    read = measure(lambda: float(scores.max()), 5)
    order = measure(lambda: float(sum(np.sort(column)[0] for column in left if len(column))), 3)
    return {"read": read["cpu"], "sort": order["cpu"], "share": sum(map(len, left)) / scores.size}


def child(task: str, name: str, folder: Path, repeat: int) -> dict[str, Any]:
    if task == "resamples":
        return resamples(folder, name)
    return bounds(folder) if task == "bounds" else measure(LIBRARIES[task](folder, name), repeat)


def run(task: str, name: str, folder: Path, repeat: int, threads: str) -> dict[str, Any]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_", "OMP_", "MKL_"))}
    if threads != "default":
        env |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
    command = [sys.executable, __file__, "--child", task, name, str(folder), str(repeat)]
    result = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(result.stdout.splitlines()[-1])


def row(name: str, peer: str, theirs: dict[str, Any], our: dict[str, Any]) -> str:
    ratio, difference = theirs["cpu"] / our["cpu"], abs(theirs["value"] - our["value"])
    bar = BARS.get((name, peer))
    verdict = "" if bar is None else f"bar {bar}x: {'met' if ratio >= bar else 'MISSED'}"
    return (
        f"{name:<13}{peer:<13}{theirs['cpu']:9.2f}{our['cpu']:8.3f}{ratio:7.0f}x{theirs['mb']:8.0f}{our['mb']:6.0f}"
        f"{our['value']:12.7f}{difference:10.1e} {'yes' if difference <= 1e-6 else 'no':<5}"
        f"{theirs['wall']:8.2f}{our['wall']:8.3f}  {verdict}"
    )


def report(folder: Path, repeat: int, threads: str) -> None:
    print(f"\nthreads: {threads}")
    print(
        f"{'metric':<13}{'peer':<13}{'peer s':>9}{'ours s':>8}{'ratio':>8}{'peer MB':>8}{'ours':>6}"
        f"{'value':>12}{'differs':>10} {'equal':<5}{'peer w':>8}{'ours w':>8}"
    )
    for name in METRICS:
        our = run("manyhot", name, folder, max(repeat, 5), threads)
        for peer in ("torchmetrics", "scikit-learn"):
            print(row(name, peer, run(peer, name, folder, repeat, threads), our), flush=True)
    for name in ("map_macro", "map_11point", "auroc_macro", "f1_macro", "map_micro", "auroc_micro"):
        plain, done = (run(task, name, folder, repeat, threads) for task in ("manyhot", "interval"))
        ratio = done["cpu"] / plain["cpu"]
        bar = f", bar 3x: {'met' if ratio <= 3 else 'MISSED'}" if name == "map_macro" else ""
        print(
            f"{name}: value {plain['cpu']:.2f} s, with interval {done['cpu']:.2f} s ({ratio:.1f}x{bar}), "
            f"{done['mb']:.0f} MB",
            flush=True,
        )
    done = run("pairs", "map_macro", folder, repeat, threads)
    print(f"190 pairs of 20 models {done['cpu']:.2f} s, {done['mb']:.0f} MB")
    for name in ("map_macro", "map_micro"):
        done = run("resamples", name, folder, 1, threads)
        print(
            f"{name}, bootstrap: first resample {done['first']:.2f} s, "
            f"each of 200 more {done['later']:.3f} s, {done['mb']:.0f} MB"
        )


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        task, name, folder, repeat = sys.argv[2:]
        print(json.dumps(child(task, name, Path(folder), int(repeat))))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--repeat", type=int, default=3, help="calls of a peer; the median counts")
    parser.add_argument("--threads", nargs="+", default=["1", "default"], choices=["1", "default"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder, options.images, options.classes)
        for threads in options.threads:
            report(folder, options.repeat, threads)
        bound = run("bounds", "-", folder, 1, "1")
    print(f"\nbound: one read of the scores {bound['read']:.3f} s; sorting the {bound['share']:.0%} of cells")
    print(f"that are not below the lowest positive of their class {bound['sort']:.3f} s (one thread)")


if __name__ == "__main__":
    main()
