"""Similar images: manyhot beside faiss's flat index, from the same file of float16 embeddings, in one run.

    python benchmarks/similar.py [--images 1280000] [--queries 1000] [--size 512] [-k 10] [--repeat 3]

Data: random normal vectors, written block by block to a file under /tmp (1.3 GB), which is deleted. Random
vectors are the hardest case: nothing can be left out. Each run is a fresh process with one thread, which maps
the file. Seconds are medians of CPU seconds, those of the clock in the column "wall". faiss needs float32
vectors of norm 1 in its own memory, so that building its index is reading, converting and scaling (the column
"read") and adding (the column "add"); manyhot builds nothing.

MB is the peak of resident memory less what was there before, without the file: both let go of its pages after
each block. A recall of 1 says that both found the same images. "exact" compares manyhot with all similarities
in float64, rounded to float32, for some of the queries.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import quiet

BLOCK = 20_000
CLASSES = 1_000
CHECKED = 20
"""Queries whose similarities are all computed in float64."""


def make_data(folder: Path, n: int, n_queries: int, size: int) -> None:
    rng = np.random.default_rng(0)
    out = np.lib.format.open_memmap(folder / "index.npy", "w+", np.float16, (n, size))
    for start in range(0, n, BLOCK):
        shape = (min(BLOCK, n - start), size)
        out[start : start + BLOCK] = rng.standard_normal(shape, dtype=np.float32)
    out.flush()
    np.save(folder / "queries.npy", rng.standard_normal((n_queries, size)).astype(np.float16))


def load(folder: Path) -> tuple[np.ndarray, np.memmap]:
    return np.load(folder / "queries.npy"), np.load(folder / "index.npy", mmap_mode="r")


def directions(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float32)
    vectors /= np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    return vectors


def manyhot(folder: Path, k: int) -> tuple[np.ndarray, dict[str, float]]:
    from manyhot.core.nearest import nearest

    queries, index = load(folder)
    return nearest(queries, index, k).rows, {}


def by_class(folder: Path, k: int) -> tuple[np.ndarray, dict[str, float]]:
    """Search five classes of a thousand for each query; the images of a class lie together, as in folders."""
    from manyhot.core.nearest import nearest_by_class

    queries, index = load(folder)
    classes = np.arange(len(index)) * CLASSES // len(index)
    query = np.repeat(np.arange(len(queries)), 5)
    wanted = np.stack([query, np.random.default_rng(1).integers(0, CLASSES, len(query))], axis=1)
    return nearest_by_class(queries, wanted, index, classes, k).rows, {}


def faiss(folder: Path, k: int) -> tuple[np.ndarray, dict[str, float]]:
    import faiss as library

    from manyhot.core.nearest import _forget

    library.omp_set_num_threads(1)
    queries, stored = load(folder)
    index, spent = library.IndexFlatIP(stored.shape[1]), {"read": 0.0, "add": 0.0}
    for start in range(0, len(stored), BLOCK):
        begun = time.process_time()
        block = directions(stored[start : start + BLOCK])
        _forget(stored)
        spent["read"] += time.process_time() - begun
        begun = time.process_time()
        index.add(block)
        spent["add"] += time.process_time() - begun
    return index.search(directions(queries), k)[1], spent


CASES = {"manyhot": manyhot, "faiss": faiss, "by_class": by_class}


def resident_mb(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split(field + ":")[1].split()[0]) / 1024


def child(case: str, folder: Path, k: int) -> dict[str, float]:
    from threadpoolctl import threadpool_limits

    if case == "faiss":
        import faiss as _  # noqa: F401  # not counted: neither its import nor that of our own
    import manyhot.core.nearest  # noqa: F401

    with threadpool_limits(1):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before, cpu, wall = resident_mb("VmRSS"), time.process_time(), time.perf_counter()
        rows, spent = CASES[case](folder, k)
        spent |= {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    np.save(folder / f"{case}.npy", rows)
    return spent | {"mb": resident_mb("VmHWM") - before}


def run(case: str, folder: Path, k: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", case, str(folder), str(k)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def exact(folder: Path, k: int) -> np.ndarray:
    """Return the answer to the first queries, from all similarities in float64."""
    queries, index = load(folder)
    a = queries[:CHECKED].astype(np.float64)
    a /= np.sqrt((a * a).sum(axis=1))[:, None]
    found = np.empty((len(a), len(index)), np.float32)
    for start in range(0, len(index), BLOCK):
        b = index[start : start + BLOCK].astype(np.float64)
        b /= np.sqrt((b * b).sum(axis=1))[:, None]
        found[:, start : start + BLOCK] = a @ b.T
    return np.argsort(-found, axis=1, kind="stable")[:, :k]


def report(folder: Path, k: int, repeat: int) -> None:
    # In turn, so that what else runs on the machine falls on both.
    runs: dict[str, list[dict[str, Any]]] = {case: [] for case in CASES}
    for _ in range(repeat):
        for case, of_case in runs.items():
            of_case.append(run(case, folder, k))
    print(f"{'':<10}{'seconds':>9}{'wall':>8}{'read':>7}{'add':>7}{'MB':>8}")
    median = {}
    for case, of_case in runs.items():
        found = {key: statistics.median(r[key] for r in of_case) for key in of_case[0]}
        median[case] = found
        parts = "".join(f"{found[p]:7.2f}" if p in found else f"{'–':>7}" for p in ("read", "add"))
        print(f"{case:<10}{found['cpu']:9.2f}{found['wall']:8.2f}{parts}{found['mb']:8.0f}")
    verdict(folder, k, median["manyhot"], median["faiss"])


def verdict(folder: Path, k: int, ours: dict[str, float], theirs: dict[str, float]) -> None:
    rows, peer = np.load(folder / "manyhot.npy"), np.load(folder / "faiss.npy")
    recall = np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(rows, peer, strict=True)])
    same = bool(np.array_equal(exact(folder, k), rows[:CHECKED]))
    ratio, memory = theirs["cpu"] / ours["cpu"], ours["mb"] / theirs["mb"]
    print(f"recall against faiss {recall:.4f}; in the same order {np.mean((rows == peer).all(axis=1)):.1%}")
    print(f"exact for {CHECKED} queries: {'yes' if same else 'NO'}")
    print(f"speed {ratio:.2f}x faiss, bar 1x: {'met' if ratio >= 1 else 'MISSED'}")
    print(f"memory {memory:.3f} of faiss, bar 0.1: {'met' if memory < 0.1 else 'MISSED'}")


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        case, folder, k = sys.argv[2:]
        print(json.dumps(child(case, Path(folder), int(k))))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1_280_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    quiet()
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        make_data(Path(name), options.images, options.queries, options.size)
        shape = f"{options.images:,} × {options.size}"
        print(f"top {options.k} of {shape} for {options.queries:,} queries, one thread")
        report(Path(name), options.k, options.repeat)


if __name__ == "__main__":
    main()
