"""How CPU time and memory of the main commands grow, and what 1.28 million images and more would take.

    python benchmarks/growth.py OUT.csv [--only NAME …] [--quick]

Each command is run as a whole process at three sizes, each twice the one before, on synthetic data. The app
is started with an empty database, which it fills. A row is one run: the command, what is counted, how many,
CPU seconds and peak memory in MB. ``benchmarks/growth.csv`` is the committed result, from which the table in
scale.md is made. --quick divides all sizes by 16, to try the benchmark itself.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from aggregate import RATERS, simulated
from common import quiet
from evaluate_scale import Size, make_topk, run_command
from fake_imagenet import write as write_shards

SHARD = 128
HEAD = ("command", "of", "n", "cpu_s", "peak_mb")


@dataclass(frozen=True)
class Stage:
    """A command, what grows, the smallest size, and what writes its inputs and returns its arguments."""

    command: str
    of: str
    least: int
    prepare: Callable[[Path, int], list[str]]


def photographs(folder: Path, n: int) -> list[str]:
    write_shards(folder / "shards", max(n // SHARD, 1), min(n, SHARD))
    return [
        "predict",
        f"shards/train-{{000..{max(n // SHARD - 1, 0):03}}}.tar",
        "--model",
        "efficientnet-lite0",
    ]


def proposals(folder: Path, n: int) -> list[str]:
    make_topk(folder, Size(n))
    return ["propose", "labels.parquet", "--predictions", "predictions", "--rule", "union(k=5)"]


def votes(folder: Path, n: int) -> list[str]:
    from manyhot import tables

    question, rater, given = simulated(n / 1_000_000)
    images = pa.array([f"{i:08d}.jpg" for i in range(int(question[-1]) + 1)])
    raters = pa.array([f"rater{i}" for i in range(RATERS)])
    answers = pa.DictionaryArray.from_arrays(pa.array(given), pa.array(["no", "yes"]))
    table = {
        "image_id": images.take(pa.array(question)),
        "class_id": pa.array(question % 1000),
        "rater_id": raters.take(pa.array(rater)),
        "answer": answers.cast(pa.string()),
    }
    tables.write(pa.table(table), folder / "votes.parquet", "votes", about={"n_classes": "1000"})
    return ["aggregate", "votes.parquet", "--out", "labels.parquet"]


def many_images(folder: Path, n: int) -> list[str]:
    return ["evaluate", *make_topk(folder, Size(n)), "--out", "results"]


def many_models(folder: Path, n: int) -> list[str]:
    return ["evaluate", *make_topk(folder, Size(10_000, n)), "--out", "results"]


def issues(folder: Path, n: int) -> list[str]:
    return ["diagnose", "labels", *make_topk(folder, Size(n)), "--out", "issues"]


STAGES = (
    Stage("predict", "photographs", 256, photographs),
    Stage("propose", "images, 20 models", 16_000, proposals),
    Stage("annotate", "images, 4 classes, 3 raters", 32_000, lambda _, n: [str(n)]),
    Stage("aggregate", "votes of 300 raters", 2_000_000, votes),
    Stage("evaluate", "images, 20 models", 32_000, many_images),
    Stage("evaluate", "models, 10,000 images", 16, many_models),
    Stage("diagnose labels", "images, 20 models", 16_000, issues),
)


def fill(n: int) -> tuple[float, float]:
    """Return CPU seconds and peak MB of the first start of the app with `n` images."""
    script = Path(__file__).with_name("annotate_scale.py")
    printed = subprocess.run(
        [sys.executable, str(script), "--images", str(n), "--only"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = re.search(r"first start .*?([\d.]+) CPU s, peak ([\d,]+) MB", printed)
    assert found, printed
    return float(found[1]), float(found[2].replace(",", ""))


def measure(stage: Stage, n: int) -> tuple[float, float]:
    if stage.command == "annotate":
        return fill(n)
    with tempfile.TemporaryDirectory(prefix="manyhot-growth-") as name:
        arguments = stage.prepare(Path(name), n)
        cpu, _, gigabytes = run_command(Path(name), arguments)
        return cpu, 1024 * gigabytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", choices=sorted({s.command for s in STAGES}))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    rows = []
    for stage in STAGES:
        if options.only and stage.command not in options.only:
            continue
        for double in (1, 2, 4):
            n = stage.least * double // (16 if options.quick else 1)
            cpu, peak = measure(stage, n)
            rows.append((stage.command, stage.of, n, round(cpu, 1), round(peak)))
            print(*rows[-1], sep="\t", flush=True)
    with options.out.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEAD, *rows])


if __name__ == "__main__":
    quiet(threads=os.cpu_count() or 1)
    main()
