"""What benchmarks share: the published files, one thread, and medians."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

REPO = Path(__file__).resolve().parent.parent
RUNS = 5


def quiet(threads: int = 1) -> None:
    """Start anew with one BLAS thread, and without overrides of BLAS kernels, which slow a current NumPy."""
    wanted = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    clean = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    if {**clean, **wanted} != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**clean, **wanted})
    mirror = REPO.parent / "shared" / "mirror.zip"
    if mirror.exists():
        os.environ.setdefault("MANYHOT_MIRROR", str(mirror))


def validation():
    """Return ReaL's labels with original labels, and the row order of the published predictions."""
    from manyhot import read_images, read_labels
    from manyhot.data import catalog

    rows = read_images(catalog.fetch_file("imagenet-val-predictions", "imagenet-validation-original.json"))
    return read_labels(catalog.fetch_file("imagenet-real", "real.json")).with_labels(rows), rows


def models(rows):
    """Yield the 67 published models by name, in the order of `rows`."""
    from manyhot import read_predictions
    from manyhot.data import catalog

    for name, path in catalog.fetch("imagenet-val-predictions").items():
        if name.endswith(".npy"):
            yield path.stem, read_predictions(path, rows=rows)


def cpu_median(work) -> float:
    """Return the median CPU seconds of `RUNS` runs after one that is not counted."""
    work()
    spent = []
    for _ in range(RUNS):
        begun = time.process_time()
        work()
        spent.append(time.process_time() - begun)
    return float(np.median(spent))
