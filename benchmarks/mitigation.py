"""Pairs of VOC whose shortcuts are treated: what heads are worth on held-out images, before and after.

First the features, a minute, as for heads.py::

    manyhot predict ../shared/data/voc/images.parquet --model efficientnet-lite0 --embeddings \
        --out features/voc

Then ``python benchmarks/mitigation.py features out`` runs ``manyhot mitigate`` on `PAIRS` and prints the
tables of mitigation.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import heads
import numpy as np

import manyhot

VOC = heads.DATA / "voc"
PAIRS = ("person:horse", "horse:person", "car:person", "bus:person", "sofa:dog", "chair:cat")
METRICS = ("lost", "recall_gap", "hallucination_gap", "ap_balanced", "top1", "real1", "map")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("features", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--uncapped", action="store_true")
    parser.add_argument("--fill", default="inpaint")
    given = parser.parse_args()
    data = heads.voc(given.features / "voc")
    given.out.mkdir(parents=True, exist_ok=True)
    labels = manyhot.write_labels(data.labels(np.arange(len(data.label))), given.out / "labels.parquet")
    (given.out / "classes.txt").write_text("\n".join(data.classes.keys) + "\n", encoding="utf-8")
    found = manyhot.mitigate(
        VOC / "images.parquet",
        VOC / "annotations.parquet",
        out=given.out,
        model=heads.MODEL,
        pairs=PAIRS,
        masks=VOC / "images.parquet",
        labels=labels,
        classes=given.out / "classes.txt",
        split=VOC / "images.parquet",
        fill=given.fill,
        uncapped=given.uncapped,
    )
    print("\n".join(found.notes))
    rows = found.mitigation.to_pylist()
    for pair in dict.fromkeys((r["main_name"], r["companion_name"]) for r in rows):
        show(pair, [r for r in rows if (r["main_name"], r["companion_name"]) == pair])


def show(pair: tuple[str, str], rows: Sequence[dict]) -> None:
    """Print a row a head: the numbers of untreated ones, and by how many points treatments change them."""
    print(f"\n{pair[0]} beside {pair[1]}\n\n| | {' | '.join(METRICS)} |\n|{' --- |' * (len(METRICS) + 1)}")
    kinds: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        kinds.setdefault((row["model"].partition(", ")[2], row["treatment"]), {})[row["metric"]] = told(row)
    for (model, treatment), cells in kinds.items():
        print(f"| {model}, {treatment} | {' | '.join(cells.get(m, '–') for m in METRICS)} |")


def told(row: dict) -> str:
    kind = "value" if row["change"] is None else "change"
    ends = ("lo", "hi") if kind == "value" else ("change_lo", "change_hi")
    value, lo, hi = (100 * row[k] for k in (kind, *ends))
    sign = "+" if kind == "change" or row["metric"].endswith("gap") else ""
    return f"{value:{sign}.1f} ({lo:{sign}.1f} to {hi:{sign}.1f})"


if __name__ == "__main__":
    main()
