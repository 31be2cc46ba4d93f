"""A cross-fitted ensemble: what it says of an image comes from networks that were not trained on it.

It knows single labels only. All runs of a data set and network share it, whatever their seed.
"""

from __future__ import annotations

import json
import zlib
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt
from networks import engine_of, settings_of
from seeing import seen

from manyhot import Labels, Predictions, read_labels, write_labels, write_predictions
from manyhot.study import StudyRun
from manyhot.train.train import train

MEMBERS = 3
"""Pairs of networks: one is trained on a half of the images, the other on the other half."""

_SEED = 1000
"""Of the first member; seeds of runs are smaller."""


def out_of_fold(run: StudyRun) -> list[Path]:
    """Return a file of predictions of the training images for each member; train what is not there yet."""
    settings = {**settings_of(run), "teach": "label", "loss": "softmax"}
    told = sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    home = run.data / "ensembles" / f"{run.network}-{told}"
    members = range(2 if run.smoke else MEMBERS)
    return [_member(run, home / f"member-{m}", m, {**settings, "seed": _SEED + m}) for m in members]


def _member(run: StudyRun, home: Path, member: int, settings: dict[str, object]) -> Path:
    done = home / "out-of-fold.parquet"
    if done.exists():
        return done
    labels = read_labels(run.labels("train"))
    half = halves(labels.image_id.to_pylist(), member)
    parts = [_probabilities(run, home / f"half-{h}", labels, half == h, settings) for h in (0, 1)]
    scores = np.where((half == 0)[:, None], parts[1], parts[0])
    found = Predictions(
        labels.image_id,
        f"member-{member}",
        scores=scores,
        score_kind="probability",
        n_classes=labels.n_classes,
        class_hash=labels.class_hash,
    )
    return write_predictions(found, done)


def halves(image_ids: list[str], member: int) -> npt.NDArray[np.intp]:
    """Return which half of a member's each image is in, 0 or 1, by a hash of its id."""
    return np.array([zlib.crc32(f"{member} {name}".encode()) % 2 for name in image_ids])


def _probabilities(
    run: StudyRun, home: Path, labels: Labels, inside: npt.NDArray[np.bool_], settings: dict[str, object]
) -> npt.NDArray[np.float32]:
    """Train a network on some of the images; return its probabilities of all, shape (n, C)."""
    some = Labels(labels.table.filter(inside), labels.n_classes, labels.class_hash, name=home.name)
    home.mkdir(parents=True, exist_ok=True)
    file = write_labels(some, home / "labels.parquet")
    model = train(
        run.images("train"),
        file,
        out=home,
        classes=run.classes,
        settings=settings,
        features=run.folder.parents[4] / "features",
    ).network
    predicted = seen(model, run.images("train"), home / "seen", engine_of(run))
    assert predicted.image_id.equals(labels.image_id)
    return predicted.confidence()
