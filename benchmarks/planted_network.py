"""A whole network without a planted shortcut: trained as it is, and on the altered images of ``mitigate``.

``python benchmarks/planted_network.py out`` plants a frame on CIFAR-10, as `planted_cases.py` does in the
same folder, writes the altered images (``manyhot mitigate --training-set``), and trains EfficientNet-Lite0 at
64 pixels on both sets. It prints how often held-out images of other classes are called the class, with the
companion and without it, and the accuracy. Images are mirrored but not cropped, or frames would be lost.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import common

common.quiet()

import numpy as np  # noqa: E402
import planted_backbone  # noqa: E402
import planted_data  # noqa: E402

import manyhot  # noqa: E402

SETTINGS = {"model": "efficientnet-lite0", "size": 64, "augment": "mirror", "warmup": 0.5, "lr": 3e-4}
SETTINGS |= {"teach": "sets", "not_asked": "mask", "empty": "no"}
STEPS = 100
"""Steps of 32 images, the same for both networks."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--class", dest="main", default="dog")
    parser.add_argument("--kind", choices=planted_data.KINDS, default="frame")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.environ.setdefault("PLANTED_CACHE", str(given.out / "features.sqlite"))
    folder = given.out / f"cifar10-{given.main}-{given.kind}-{given.seed}"
    photos = planted_data.cifar10(given.main, given.seed)
    planted = planted_data.plant(folder, photos, given.main, given.kind, given.seed)
    print("| trained on | images | with the companion | without it | accuracy |\n|" + " --- |" * 5)
    for name, source, labels in training_sets(planted):
        n = len(manyhot.read_labels(labels))
        trained = manyhot.train(
            source,
            labels,
            out=folder / f"network-{name}",
            settings={**SETTINGS, "batch": 32, "epochs": max(round(STEPS * 32 / n), 1)},
        )
        print(f"| {name} | {n:,} | {' | '.join(judged(planted, trained.network))} |", flush=True)


def training_sets(planted):
    """Yield a name, images and labels: as planted, and with the altered images of ``mitigate``."""
    folder, keys, photos = planted.folder, planted.classes.keys, planted.photos
    labels = manyhot.read_labels(folder / "labels.parquet")
    train = labels.table.filter(photos.part[: len(labels)] == "train")
    fitted = manyhot.Labels(train, len(keys), planted.classes.hash, True, class_list=planted.classes)
    yield "planted", folder / "images.parquet", manyhot.write_labels(fitted, folder / "fitted.parquet")
    manyhot.mitigate(
        folder / "images.parquet",
        folder / "objects.parquet",
        out=folder / "mitigation",
        model=planted_backbone.SPEC,
        pairs=[f"{keys[planted.main]}:{keys[planted.companion]}"],
        labels=folder / "labels.parquet",
        classes=folder / "classes.txt",
        split=folder / "images.parquet",
        losses=("softmax",),
        engine="torch",
        resamples=0,
        training_set=folder / "altered",
    )
    yield "altered", folder / "altered" / "images.parquet", folder / "altered" / "labels.parquet"


def judged(planted, network: Path) -> list[str]:
    """Return both rates of other images, and the accuracy on held-out images."""
    row = {name: i for i, name in enumerate(planted.photos.ids)}
    made = manyhot.predict_in_memory(planted.folder / "held-out.parquet", f"trained:{network}", top=None)
    rows = np.array([row[image_id] for image_id in made.predictions.image_id.to_pylist()])
    best = made.predictions.scores[:, : len(planted.photos.keys)].argmax(1)
    other, called = ~planted.photos.state[rows, planted.main], best == planted.main
    with_it, without = (called[other & (planted.chosen[rows] == there)] for there in (True, False))
    right = planted.photos.state[rows, best]
    return [f"{100 * np.mean(values):.1f} %" for values in (with_it, without, right)]


if __name__ == "__main__":
    main()
