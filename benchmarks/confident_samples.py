"""How much overconfidence is missing labels? EfficientNet-Lite0 on 1,000 photographs, errors judged by eye.

The photographs are those of ``../shared/data/samples``, one of each class of ImageNet. First predict them::

    manyhot predict ../shared/data/samples/samples.tar --labels ../shared/data/samples/index.csv \
        --model efficientnet-lite0 --out samples

Then ``python benchmarks/confident_samples.py samples`` prints the numbers of calibration.md and writes
``samples/judged`` with its report. ``confident_samples.csv`` says of each error whether the predicted class
is in the photograph: yes, unclear or no.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import common

common.quiet()

import pyarrow as pa  # noqa: E402

import manyhot  # noqa: E402
from manyhot.classes import class_list  # noqa: E402

VERDICTS = Path(__file__).with_suffix(".csv")
METRICS = ("ece", "aurc", "accuracy_at_coverage(coverage=0.8)", "error_auroc", "brier")


def judged_labels(folder: Path) -> manyhot.Labels:
    """Return the original label of each image and the verdict on what was predicted in its place."""
    images = manyhot.read_images(folder / "images.parquet")
    classes = class_list()
    number = {name: c for c, name in enumerate(classes.names)}
    with VERDICTS.open(newline="", encoding="utf-8") as file:
        said = {r["image_id"]: (number[r["predicted"]], r["there"]) for r in csv.DictReader(file)}
    ids, label = images.image_id.to_pylist(), images.label.to_pylist()
    more = [[said[i]] if i in said else [] for i in ids]
    table = {
        "image_id": ids,
        "label": pa.array(label, pa.int32()),
        "usable": [True] * len(ids),
        "classes": pa.array([[y, *(c for c, _ in m)] for y, m in zip(label, more, strict=True)]),
        "state": [["yes", *(state for _, state in m)] for m in more],
    }
    return manyhot.Labels(pa.table(table), len(classes), classes.hash, name="samples")


def both(name: str) -> tuple[str, str]:
    base, _, options = name.partition("(")
    return name, f"{base}_set({options}" if options else f"{base}_set"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="what manyhot predict wrote")
    folder = parser.parse_args().folder
    model = manyhot.read_predictions(folder / "efficientnet-lite0.parquet")
    labels = judged_labels(folder)
    pairs = [("top1", "real1"), *map(both, METRICS)]
    result = manyhot.evaluate(labels, model, metrics=[m for p in pairs for m in p], map_resamples=200)
    rows = {r["metric"]: r for r in result.results.to_pylist() if r["slice"] == "all"}
    for pair in pairs:
        told = ["{value:.3f} ({lo:.3f} to {hi:.3f})".format(**rows[m]) for m in pair]
        print(f"{pair[0]:<36}{told[0]:<28}{told[1]}")
    wrong = verdicts()
    sure = dict(zip(model.image_id.to_pylist(), model.confidence()[:, 0].tolist(), strict=True))
    for least in (0.0, 0.5, 0.8):
        found = [there for i, there in wrong.items() if sure[i] > least]
        counts = {state: found.count(state) for state in ("yes", "unclear", "no")}
        print(f"{len(found)} errors above {least}: {counts}")
    manyhot.write_labels(labels, folder / "judged.parquet")
    judged = manyhot.evaluate(folder / "judged.parquet", [folder / "efficientnet-lite0.parquet"])
    judged.write(folder / "judged")


def verdicts() -> dict[str, str]:
    with VERDICTS.open(newline="", encoding="utf-8") as file:
        return {r["image_id"]: r["there"] for r in csv.DictReader(file)}


if __name__ == "__main__":
    main()
