"""Time, memory and recall of `manyhot diagnose duplicates` among 100,000 images whose embeddings are stored.

    python benchmarks/duplicates_scale.py FOLDER [--seed 2025]

The images are real: CIFAR-10's 12,000 pictures, 6,715 photographs (VOC's, COCO's and ImageNet's samples), and
76,423 parts of these photographs that do not overlap (ninths, and of ImageNet's samples twenty-fifths). 4,862
copies of 13 kinds are planted as in duplicates.py. EfficientNet-Lite0 embeds all of them, 1,280 numbers each,
at 96 × 96 pixels (five CPU minutes, once; FOLDER keeps them).

Real embeddings matter: those of random vectors are similar to no other, so no image would have to be read.
Parts of a photograph are more similar to each other than photographs are, so more pairs than usual have to be
compared.

Seconds are CPU seconds of all threads, those of the clock in brackets. Memory is the peak of the process.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from duplicates import ASKED, DATA, FURTHER, opened, photographs, pictures, plant, print_recall, saved

IMAGES, BAR_S = 100_000, 600


def parts_of(data: bytes, sides: int) -> list[bytes]:
    """Cut an image into parts that do not overlap, as JPEG files."""
    image = opened(data)
    across, down = (np.linspace(0, end, sides + 1).astype(int).tolist() for end in image.size)
    boxes = [
        (left, top, right, bottom)
        for top, bottom in itertools.pairwise(down)
        for left, right in itertools.pairwise(across)
    ]
    return [saved(image.crop(box)) for box in boxes]


def originals() -> tuple[dict[str, bytes], list[str]]:
    """Return all images by id, and the ids of those that may be copied."""
    files, fresh = pictures()
    photos, more = photographs()
    rows = pq.read_table(DATA / "coco" / "images.parquet", columns=["image_id", "jpeg"]).to_pylist()
    whole = photos | {row["image_id"]: row["jpeg"] for row in rows}
    for name, data in whole.items():
        cut = parts_of(data, 5 if name.startswith("n") else 3)
        files |= {f"{name}-part-{i:02}": part for i, part in enumerate(cut)}
    return files | whole, fresh + more


def prepare(folder: Path, seed: int) -> dict[str, tuple[str, str]]:
    """Write the images and their embeddings, unless they are there; return kind and original of each copy."""
    kept = folder / "planted.json"
    if not kept.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        files, fresh = originals()
        copies = -(-(IMAGES - len(files)) // len(ASKED | FURTHER))
        planted = plant(files, fresh, copies, seed)
        surplus = len(files) - IMAGES
        for name in [name for name in files if "-part-" in name][:surplus]:
            del files[name]
        order = np.random.default_rng(seed).permutation(sorted(files)).tolist()
        table = pa.table({"image_id": order, "jpeg": [files[name] for name in order]})
        pq.write_table(table, folder / "images.parquet", row_group_size=1_000)
        kept.write_text(json.dumps(planted))
    source, out = folder / "images.parquet", folder / "embedded"
    manyhot("predict", source, "--model", "python:duplicates_scale:small", "--embeddings", "--out", out)
    return json.loads(kept.read_text())


def small():
    """Return EfficientNet-Lite0 for whole images of 96 × 96 pixels."""
    from manyhot.predict.models import find_model

    network, side = find_model("efficientnet-lite0"), (96, 96)
    seen = replace(network.preprocessing, mode="squash", size=side, scale=side)
    return replace(network, name="small", preprocessing=seen)


def manyhot(*line: object) -> tuple[float, float, float]:
    """Run a command; return its CPU seconds, those of the clock, and its peak of memory in GB."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "manyhot", *map(str, line)], cwd=Path(__file__).parent)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(os.waitstatus_to_exitcode(status))
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - begun, usage.ru_maxrss * 1024 / 1e9


def search(folder: Path, sizes: tuple[int, ...] = (12_500, 25_000, 50_000)) -> None:
    """Print the time of the search for similar embeddings among the first images, and how it grows."""
    from manyhot.core.duplicates import candidates_by_embedding

    vectors, times = np.load(folder / "embedded" / "embeddings" / "small.npy", mmap_mode="r"), []
    for n in sizes:
        cpu = time.process_time()
        pairs = candidates_by_embedding(vectors[:n])
        times.append(time.process_time() - cpu)
        print(f"search among {n:>7,}: {times[-1]:6.1f} CPU seconds, {len(pairs):,} pairs", flush=True)
    print(f"CPU time of the search grows as n^{np.polyfit(np.log(sizes), np.log(times), 1)[0]:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=2025)
    options = parser.parse_args()
    folder = options.folder.resolve()
    planted, out = prepare(folder, options.seed), folder / "found"
    shutil.rmtree(out, ignore_errors=True)  # signatures of an earlier run
    cpu, wall, memory = manyhot(
        "diagnose", "duplicates", folder / "images.parquet",
        "--embeddings", folder / "embedded", "--out", out,
    )  # fmt: skip
    print(f"{IMAGES:,} images: {cpu:.0f} CPU seconds ({wall:.0f}), {memory:.2f} GB at most")
    print(f"bar {BAR_S} s of the clock: {'met' if wall <= BAR_S else 'MISSED'}")
    print_recall(pq.read_table(out / "duplicates.parquet"), planted)
    search(folder)


if __name__ == "__main__":
    main()
