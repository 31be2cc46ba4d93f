"""How fast photographs become batches, against torchvision's classic pipeline.

    python benchmarks/loading.py [--size 224] [--runs 5]

Classic: a DataLoader with two processes; Pillow opens, RandomResizedCrop, mirror, ToTensor, Normalize. Ours:
two threads that decode and crop, and the loop that normalises. Both end with normalised float32 batches, and
take turns. Ours first as it is where nothing fits into memory, each image decoded in each epoch; then with
what it decoded before. ``../shared/data/samples`` has one photograph of each class of ImageNet.
"""

from __future__ import annotations

import argparse
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from common import REPO, quiet

BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--images", type=int, default=512)
    asked = parser.parse_args()
    quiet(2)
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(REPO.parent / "shared" / "data" / "samples" / "samples.tar") as archive:
            archive.extractall(folder, filter="data")
        paths = sorted(map(str, Path(folder).rglob("*.[jJ][pP]*[gG]")))[: asked.images]
        compare(paths, asked.size, asked.runs)


def compare(paths: list[str], size: int, runs: int) -> None:
    """Let both take turns, and print what they load."""
    loaders = {
        "classic": classic(paths, size),
        "ours": ours(paths, size, 0),
        "ours, decoded before": ours(paths, size, 16 << 30),
    }
    spent = {name: [] for name in loaders}
    for run in range(runs + 1):
        for name, epoch in loaders.items():
            begun = time.perf_counter()
            n = sum(len(batch) for batch in epoch(run))
            if run:  # the first starts processes and fills caches
                spent[name].append(n / (time.perf_counter() - begun))
    rates = {name: float(np.median(values)) for name, values in spent.items()}
    for name, rate in rates.items():
        print(f"{name}: {rate:,.0f} images/s, {rate / rates['classic']:.2f} times the classic pipeline")


def classic(paths: list[str], size: int):
    """Return what runs an epoch of the classic pipeline."""
    import torch
    from PIL import Image
    from torchvision import transforms as t

    chain = t.Compose(
        [
            t.RandomResizedCrop(size, (0.25, 1.0)),
            t.RandomHorizontalFlip(),
            t.ToTensor(),
            t.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )

    class Photographs(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, i: int) -> torch.Tensor:
            with Image.open(paths[i]) as image:
                return chain(image.convert("RGB"))

    loader = torch.utils.data.DataLoader(
        Photographs(), BATCH, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True
    )
    return lambda epoch: loader


def ours(paths: list[str], size: int, budget: int):
    """Return what runs an epoch of ours."""
    import torch

    from manyhot.predict.network import Preprocessing
    from manyhot.train.batches import Loader, Views
    from manyhot.train.devices import keep_memory
    from manyhot.train.feeds import Normalise
    from manyhot.train.order import Everything, plan_of
    from manyhot.train.recipe import Recipe

    keep_memory()  # as the loop does
    preprocessing = Preprocessing(size=(size, size))
    normalise = Normalise(preprocessing, torch.device("cpu"))
    order = Everything([Path(path).read_bytes for path in paths], range(len(paths)))
    views = Views(Recipe(), preprocessing, budget)
    loader = Loader(order, plan_of(BATCH, 8, 0, order.n), views)
    return lambda epoch: (normalise(batch.images) for batch in loader.epoch(epoch))


if __name__ == "__main__":
    main()
