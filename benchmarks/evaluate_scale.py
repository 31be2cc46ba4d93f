"""`manyhot evaluate` at the size of a training set: CPU and wall seconds and peak memory of processes.

    python benchmarks/evaluate_scale.py [--images 128000 320000 1280000] [--models 20] [--classes 1000]
        [--only topk dense rankings pairs] [--compare-with MODEL]

topk: models with the top 5 of all classes and their scores, all metrics, 1,000 resamples, for each number of
images and each of models; ImageNet-21k has 10,450 classes. --compare-with is that of evaluate, and models are
model1, model2 and so on. dense: one model with float16 scores of 1,000 classes for 100,000 images. rankings:
one model that ranks all 1,000 classes of 50,000 images. Labels have 1.2 classes an image; a model's best
class is valid on 70 to 85 % of the images. Data are written first, outside of the measurement. pairs: all
pairs of 670 models by 1,000 resamples of eight metrics, in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from common import quiet

DEPTH = 5
BARS = {"topk": (60, 1.5), "dense": (10, 0.6), "rankings": (6, None)}
"""CPU seconds, and GB."""

DENSE = ["--metric", "top1", "--metric", "real1", "--metric", "map_macro", "--metric", "ece"]


class Size(NamedTuple):
    """Numbers of images, models and classes."""

    images: int
    models: int = 20
    classes: int = 1_000


def write_labels(path: Path, size: Size) -> np.ndarray:
    """Write label sets with original labels, and return the labels."""
    import manyhot

    rng, n = np.random.default_rng(0), size.images
    label = rng.integers(0, size.classes, n)
    second = np.where(rng.random(n) < 0.2, (label + rng.integers(1, size.classes, n)) % size.classes, -1)
    sets = np.stack([label, second], axis=1)
    table = pa.table(
        {
            "image_id": ids(n),
            "label": pa.array(label, pa.int32()),
            "usable": pa.array([True] * n),
            "classes": pa.array([[a] if b < 0 else [a, b] for a, b in sets.tolist()], pa.list_(pa.int32())),
        }
    )
    lengths = (second >= 0) + 1
    states = pa.array(["yes"] * int(lengths.sum()))
    offsets = pa.array(np.append(0, np.cumsum(lengths)), pa.int32())
    table = table.append_column("state", pa.ListArray.from_arrays(offsets, states))
    manyhot.write_labels(manyhot.Labels(table, size.classes), path)
    return label


def ids(n: int) -> pa.Array:
    """Return ids as those of ImageNet's training images."""
    return pa.array([f"n{i % 1_000:08d}_{i:07d}.JPEG" for i in range(n)])


def best_classes(label: np.ndarray, depth: int, seed: int, n_classes: int) -> np.ndarray:
    """Return distinct classes, best first, shape (n, depth), the label first on 70 to 85 %."""
    rng = np.random.default_rng(seed)
    first = np.where(rng.random(len(label)) < 0.7 + 0.15 * rng.random(), label, (label + 1) % n_classes)
    step = 1 + 2 * rng.integers(0, 100, len(label))  # odd, and no multiple of 5: all steps differ
    step += 2 * (step % 5 == 0)
    return (first[:, None] + step[:, None] * np.arange(depth)) % n_classes


def write_ranked(path: Path, label: np.ndarray, seed: int, n_classes: int) -> None:
    import manyhot

    rng = np.random.default_rng(seed)
    n = len(label)
    logits = np.sort(rng.normal(5, 2, (n, DEPTH)).astype(np.float32))[:, ::-1]
    total = np.logaddexp.reduce(logits, axis=1) + rng.exponential(0.1, n).astype(np.float32)
    predictions = manyhot.Predictions(
        ids(n),
        path.stem,
        classes=best_classes(label, DEPTH, seed, n_classes),
        scores=logits,
        logsumexp=total.astype(np.float32),
        score_kind="logit",
        n_classes=n_classes,
    )
    manyhot.write_predictions(predictions, path)


def make_topk(folder: Path, size: Size) -> list[str]:
    label = write_labels(folder / "labels.parquet", size)
    (folder / "predictions").mkdir()
    for seed in range(1, size.models + 1):
        write_ranked(folder / "predictions" / f"model{seed}.parquet", label, seed, size.classes)
    return ["labels.parquet", "--predictions", "predictions"]


def make_dense(folder: Path, size: Size) -> list[str]:
    import manyhot

    label = write_labels(folder / "labels.parquet", size)
    rng, n = np.random.default_rng(1), size.images
    scores = rng.standard_normal((n, size.classes), dtype=np.float32).astype(np.float16)
    scores[np.arange(n), label] += 4
    dense = manyhot.Predictions(ids(n), "dense", scores=scores, score_kind="logit", n_classes=size.classes)
    manyhot.write_predictions(dense, folder / "dense.parquet")
    return ["labels.parquet", "--predictions", "dense.parquet", *DENSE]


def make_rankings(folder: Path, size: Size) -> list[str]:
    label = write_labels(folder / "labels.parquet", size)
    ranked = best_classes(label, size.classes, 1, size.classes)
    np.save(folder / "ranked.npy", ranked.astype(np.int16))
    (folder / "rows.txt").write_text("\n".join(ids(size.images).to_pylist()))
    return ["labels.parquet", "--predictions", "ranked.npy", "--rows", "rows.txt"]


MAKERS = {"topk": make_topk, "dense": make_dense, "rankings": make_rankings}


CASES = [*MAKERS, "pairs"]


LAUNCHER = """
import json, os, sys
_, status, used = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss, os.waitstatus_to_exitcode(status)]))
"""
"""A small process that starts the command: its peak would otherwise count what this process uses."""


def run_command(folder: Path, arguments: list[str]) -> tuple[float, float, float]:
    """Return CPU seconds, wall seconds and peak GB of `manyhot` with these arguments."""
    command = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", "manyhot", *arguments]
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    cpu, kilobytes, code = json.loads(done.stdout.splitlines()[-1])
    if code:
        sys.exit(done.stderr)
    return cpu, time.perf_counter() - begun, kilobytes * 1024 / 1e9


def compare_all(n_models: int = 670, resamples: int = 1_000, n_metrics: int = 8) -> None:
    """Compare all pairs of models by resampled values, and print CPU and wall seconds."""
    from manyhot.core.model_pairs import compare_pairs

    rng = np.random.default_rng(0)
    values = rng.normal(0.7, 0.05, n_models)
    samples = (values[:, None] + rng.normal(0, 0.002, (n_models, resamples))).astype(np.float32)
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(n_metrics):
        compare_pairs(values, samples)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(f"pairs    {n_models:>10,} models {cpu:7.1f} s CPU {wall:7.1f} s wall   wanted: 8 s", flush=True)


def report(case: str, size: Size, compare_with: str | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = MAKERS[case](folder, size)
        if compare_with is not None and case == "topk":
            arguments += ["--compare-with", compare_with]
        cpu, wall, peak = run_command(folder, ["evaluate", *arguments, "--out", "results"])
    most_s, most_gb = BARS[case]
    wanted = f"   wanted: {most_s} s" + (f", {most_gb} GB" if most_gb else "")
    judged = "" if case == "topk" and size != Size(1_280_000) else wanted
    of = f"{size.images:>10,} images {size.models:>5,} models {size.classes:>6,} classes"
    print(f"{case:<9}{of} {cpu:7.1f} s CPU {wall:7.1f} s wall {peak:6.2f} GB{judged}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[128_000, 320_000, 1_280_000])
    parser.add_argument("--models", type=int, nargs="+", default=[20])
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--compare-with")
    parser.add_argument("--only", nargs="+", choices=CASES, default=CASES)
    given = parser.parse_args()
    topk = [Size(n, models, given.classes) for n in given.images for models in given.models]
    sizes = {"topk": topk, "dense": [Size(100_000, 1)], "rankings": [Size(50_000, 1)]}
    for case in given.only:
        for size in sizes.get(case, ()):
            report(case, size, given.compare_with)
    if "pairs" in given.only:
        compare_all()


if __name__ == "__main__":
    quiet(threads=os.cpu_count() or 1)
    main()
