"""What ``manyhot calibrate`` gains for the sigmoids of a head, on photographs that nothing was fitted to.

With the features that ``heads.py`` describes: ``python benchmarks/recalibrated_voc.py features``. Sigmoids
are fitted to 2,000 photographs of VOC, with three penalties. Of the other photographs, a random half is
fitted on and the other half is recalibrated, six times. It takes 20 seconds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import heads
import numpy as np
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import manyhot
from manyhot.core.reliability import Bins, bin_of

BINS, HALVES = 15, 6
METHODS = ("temperature", "vector", "isotonic")


def values(p, state) -> np.ndarray:
    """Return the mean ECE, Brier score and log loss of all classes; unclear classes are left out."""
    found = []
    for c in range(state.shape[1]):
        known = state[:, c] != heads.UNCLEAR
        y, q = (state[known, c] == heads.YES).astype(float), p[known, c].astype(float)
        sure = np.clip(q, 1e-7, 1 - 1e-7)
        loss = -(y * np.log(sure) + (1 - y) * np.log(1 - sure)).mean()
        ece = Bins.of(bin_of(q, BINS), BINS, np.ones(len(q)), q, y).mean_gap()
        found.append((ece, ((q - y) ** 2).mean(), loss))
    return np.mean(found, axis=0)


def predictions(data, p, rows) -> manyhot.Predictions:
    about = {"n_classes": len(data.classes), "class_hash": data.classes.hash, "class_list": data.classes}
    ids, scores = data.images["image_id"].take(rows), p[rows].astype(np.float32)
    return manyhot.Predictions(ids, "head", scores=scores, score_kind="probability", **about)


def main() -> None:
    """Print a row for each penalty and method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("features", type=Path)
    data = heads.voc(parser.parse_args().features / "voc")
    order = np.random.default_rng(0).permutation(len(data.vectors))
    head, others = order[:2000], order[2000:]
    x = data.vectors.astype(np.float32)
    x = StandardScaler().fit(x[head]).transform(x)
    for strength in (1.0, 1e-2, 3e-4):
        models = [LogisticRegression(C=strength, max_iter=500) for _ in data.classes.keys]
        targets = (data.state[head] == heads.YES).T
        z = [model.fit(x[head], y).decision_function(x) for model, y in zip(models, targets, strict=True)]
        p = expit(np.column_stack(z))
        found: dict[str, list[np.ndarray]] = {name: [] for name in ("as it is", *METHODS)}
        for seed in range(HALVES):
            fitted, rest = np.array_split(np.random.default_rng(seed).permutation(others), 2)
            labels = data.labels(fitted)
            labels = manyhot.Labels(labels.table.drop_columns(["label"]), len(data.classes), asked_known=True)
            found["as it is"].append(values(p[rest], data.state[rest]))
            both = predictions(data, p, fitted), [predictions(data, p, rest)]
            for method in METHODS:
                result = manyhot.calibrate(labels, both[0], method=method, apply=both[1])
                found[method].append(values(result.predictions.scores, data.state[rest]))
        for name, rows in found.items():
            print(f"C={strength:g}, {name}: ECE, Brier, log loss", np.mean(rows, axis=0).round(4))


if __name__ == "__main__":
    main()
