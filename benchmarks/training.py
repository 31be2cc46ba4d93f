"""What the loop adds to a bare PyTorch loop with the same network, batches, loss and optimiser.

    python benchmarks/training.py [--model timm/resnet18] [--size 64] [--runs 5]

Both take the same batches of the same loader: images of CIFAR-10 in memory, cropped and mirrored. Bare and
ours take turns; each run has one epoch that is not counted and one that is. The loop also draws a curve,
tells progress, looks at each loss, and could be killed at any moment.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from common import REPO, quiet

STEPS, BATCH = 16, 64


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="timm/resnet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--precision", default="32-true")
    asked = parser.parse_args()
    quiet(2)
    with tempfile.TemporaryDirectory() as folder:
        source, labels, classes = data(Path(folder))
        settings = {
            "model": asked.model, "weights": "none", "size": asked.size, "batch": BATCH, "epochs": 2,
            "precision": asked.precision,
        }  # fmt: skip
        ours(source, labels, classes, Path(folder) / "first", settings)
        spent: dict[str, list[tuple[float, float]]] = {"bare": [], "ours": []}
        for run in range(asked.runs):
            spent["bare"].append(bare(source, labels, classes, settings))
            spent["ours"].append(ours(source, labels, classes, Path(folder) / str(run), settings))
    n = STEPS * BATCH
    for name, pairs in spent.items():
        wall, cpu = np.median(np.array(pairs), 0)
        print(f"{name}: {n / wall:,.0f} images/s, {cpu / n * 1e3:.2f} CPU ms an image")
    for i, what in enumerate(("wall", "CPU")):
        ratio = np.median([p[i] for p in spent["ours"]]) / np.median([p[i] for p in spent["bare"]])
        print(f"{what}: the loop takes {ratio - 1:+.1%}")


def data(folder: Path) -> tuple[Path, Path, Path]:
    """Write label sets of images of CIFAR-10."""
    from manyhot.classes import from_keys
    from manyhot.tables import Labels, write_labels

    source = REPO.parent / "shared" / "data" / "cifar10" / "cifar10_subset.parquet"
    rows = pl.read_parquet(source, columns=["image_id", "label"]).head(STEPS * BATCH)
    table = pa.table(
        {
            "image_id": rows["image_id"].to_list(),
            "label": rows["label"].to_arrow(),
            "rated": [True] * len(rows),
            "usable": [True] * len(rows),
            "classes": [[label] for label in rows["label"]],
            "state": [["yes"]] * len(rows),
        }
    )
    names = [f"class{i}" for i in range(10)]
    classes = folder / "classes.txt"
    classes.write_text("\n".join(names) + "\n")
    write_labels(Labels(table, 10, from_keys(names, "cifar10").hash, True), folder / "labels.parquet")
    return source, folder / "labels.parquet", classes


def ours(source: Path, labels: Path, classes: Path, out: Path, settings: dict) -> tuple[float, float]:
    """Return the wall and CPU seconds of the second epoch of the loop."""
    from manyhot import pipeline

    times = []

    def notify(kind: str, told: dict) -> None:
        if kind == "epoch":
            times.append((time.perf_counter(), time.process_time()))

    pipeline.train_files(source, labels, out, classes=classes, settings=settings, notify=notify)
    (wall, cpu), (wall_end, cpu_end) = times
    return wall_end - wall, cpu_end - cpu


def bare(source: Path, labels: Path, classes: Path, settings: dict) -> tuple[float, float]:
    """Return the same of a loop of fifteen lines."""
    import timm
    import torch
    from torch.nn import functional as F

    from manyhot.models import open_source
    from manyhot.models.preprocessing import Preprocessing
    from manyhot.train.collecting import collect, memory_share
    from manyhot.train.feeding import Normalise
    from manyhot.train.loading import Loader, Views
    from manyhot.train.orders import plan_of
    from manyhot.train.recipe import recipe_of

    recipe = recipe_of(settings)
    ids = pl.read_parquet(labels)["image_id"].to_list()
    y = F.one_hot(torch.tensor(pl.read_parquet(labels)["label"].to_list()), 10).float()
    order = collect(open_source(source), {name: i for i, name in enumerate(ids)}, "all", 1, memory_share())
    size = (recipe.size, recipe.size)
    loader = Loader(
        order, plan_of(BATCH, 8, 0, order.n), Views(recipe, Preprocessing(size=size), memory_share())
    )
    torch.manual_seed(0)
    model = timm.create_model(recipe.model.removeprefix("timm/"), num_classes=10)
    model = model.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(model.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    normalise = Normalise(Preprocessing(size=size), torch.device("cpu"))
    times = []
    for epoch in range(2):
        begun = time.perf_counter(), time.process_time()
        for batch in loader.epoch(epoch):
            x = normalise(batch.images)
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16-mixed"):
                logits = model(x)
            loss = F.binary_cross_entropy_with_logits(logits.float(), y[batch.rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss.item()
        times.append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
    return times[1]


if __name__ == "__main__":
    main()
