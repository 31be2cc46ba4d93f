"""By how much the scores of engines differ, and those of one engine in two runs.

``python benchmarks/engine_differences.py IMAGES --model efficientnet-lite0``, where IMAGES is as for predict.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

import manyhot as mh
from manyhot.formats import read_predictions


def scores(images: str, model: str, engine: str) -> np.ndarray:
    """Return the logits of all classes by an engine."""
    with tempfile.TemporaryDirectory() as folder:
        mh.predict(images, model, engine=engine, dense=True, out=folder)
        return np.array(read_predictions(Path(folder) / f"{model}.parquet").scores)


def main() -> None:
    """Print the largest differences from PyTorch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images")
    parser.add_argument("--model", default="efficientnet-lite0")
    asked = parser.parse_args()
    first = scores(asked.images, asked.model, "torch")
    five = np.argsort(-first, axis=1, kind="stable")[:, :5]
    for engine in ("torch", "openvino", "onnx"):
        one, again = (scores(asked.images, asked.model, engine) for _ in range(2))
        same = (np.argsort(-one, axis=1, kind="stable")[:, :5] == five).all(axis=1).mean()
        largest = np.abs(one - first).max()
        print(
            f"{engine}: two runs {'equal' if np.array_equal(one, again) else 'differ'}; from PyTorch at most "
            f"{largest:.1e}, {largest / np.abs(first).max():.1e} of the largest logit; the five best "
            f"classes are the same for {same:.1%} of {len(one):,} images"
        )


if __name__ == "__main__":
    main()
