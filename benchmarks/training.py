"""What the loop adds to a bare PyTorch loop with the same network, batches, loss and optimiser.

    python benchmarks/training.py [--model timm/resnet18] [--size 64] [--runs 3] [--pairs 6]

Both take the same batches of the same loader: images of CIFAR-10 in memory, cropped and mirrored. The loop
also draws a curve, tells progress, looks at each loss, and could be killed at any moment. After each of its
epochs the bare one takes its turn, so that both see the same moods of a shared machine; a run is a new
network of each, and its first epochs are not counted.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from common import REPO, quiet

BATCH = 64

Spent = tuple[float, float]
"""Wall and CPU seconds."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="timm/resnet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="32-true")
    asked = parser.parse_args()
    quiet(asked.threads)
    with tempfile.TemporaryDirectory() as folder:
        tables = data(Path(folder), asked.steps * BATCH)
        settings = {
            "model": asked.model, "weights": "none", "size": asked.size, "batch": BATCH,
            "epochs": asked.pairs + 1, "precision": asked.precision,
        }  # fmt: skip
        spent = np.array([both(*tables, Path(folder) / str(run), settings) for run in range(asked.runs)])
    n = asked.steps * BATCH
    for name, (wall, cpu) in zip(("bare", "ours"), np.median(spent, (0, 1)), strict=True):
        print(f"{name}: {n / wall:,.0f} images/s, {cpu / n * 1e3:.2f} CPU ms an image")
    ratios = spent[:, :, 1] / spent[:, :, 0] - 1
    for i, what in enumerate(("wall", "CPU")):
        runs = ", ".join(f"{value:+.1%}" for value in np.median(ratios[:, :, i], 1))
        print(f"{what}: the loop takes {np.median(ratios[:, :, i]):+.1%}; run by run {runs}")


def data(folder: Path, n: int) -> tuple[Path, Path, Path]:
    """Write label sets of images of CIFAR-10."""
    from manyhot.classes import from_keys
    from manyhot.tables import Labels, write_labels

    source = REPO.parent / "shared" / "data" / "cifar10" / "cifar10_subset.parquet"
    rows = pl.read_parquet(source, columns=["image_id", "label"]).head(n)
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


def both(source: Path, labels: Path, classes: Path, out: Path, settings: dict) -> list[tuple[Spent, Spent]]:
    """Return what epochs of the bare loop and of ours took, pair by pair."""
    from manyhot.run import Run
    from manyhot.train.train import train

    turns, pairs, begun = bare(source, labels, settings), [], None

    def on_event(kind: str, told: dict) -> None:
        nonlocal begun
        if kind == "epoch":
            own, other = begun and since(begun), next(turns)
            if own:
                pairs.append((other, own))
            begun = since((0, 0))

    run = Run(on_event=on_event)
    train(source, labels, out=out, classes=classes, settings=settings, run=run)
    return pairs


def since(begun: Spent) -> Spent:
    """Return wall and CPU seconds."""
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def bare(source: Path, labels: Path, settings: dict) -> Iterator[Spent]:
    """Yield what each epoch took of a loop of fifteen lines."""
    import timm
    import torch
    from torch.nn import functional as F

    from manyhot.predict.network import Preprocessing
    from manyhot.predict.sources import open_source
    from manyhot.train.batches import Loader, Views, collect_images, memory_share
    from manyhot.train.feeds import Normalise
    from manyhot.train.order import plan_of
    from manyhot.train.recipe import recipe_of

    recipe = recipe_of(settings)
    ids = pl.read_parquet(labels)["image_id"].to_list()
    y = F.one_hot(torch.tensor(pl.read_parquet(labels)["label"].to_list()), 10).float()
    order = collect_images(
        open_source(source), {name: i for i, name in enumerate(ids)}, "all", 1, memory_share()
    )
    size = (recipe.size, recipe.size)
    loader = Loader(
        order, plan_of(BATCH, 8, 0, order.n), Views(recipe, Preprocessing(size=size), memory_share())
    )
    torch.manual_seed(0)
    model = timm.create_model(recipe.model.removeprefix("timm/"), num_classes=10)
    model = model.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(model.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    normalise = Normalise(Preprocessing(size=size), torch.device("cpu"))
    for epoch in range(recipe.epochs):
        begun = since((0, 0))
        for batch in loader.epoch(epoch):
            x = normalise(batch.images)
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16-mixed"):
                logits = model(x)
            loss = F.binary_cross_entropy_with_logits(logits.float(), y[batch.rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss.item()
        yield since(begun)


if __name__ == "__main__":
    main()
