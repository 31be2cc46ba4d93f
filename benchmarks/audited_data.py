"""Data sets on which audits are simulated: people answered all images, so the true values are known.

``real``: 50,000 validation images of ImageNet with ReaL's label sets, of which 3,163 have no valid class, and
the top 5 of 67 published models. ``multilabelfy``: ImageNetV2's 10,000 images with Multilabelfy's label
sets, of which 129 are empty, and the same 67 models. ``cifar10h``: CIFAR-10's 10,000 test images with the
answers of about 51 people an image; a class is in the label set if at least a tenth of them chose it. The one
model is the out-of-fold probabilities of cleanlab's label-errors. ``voc``: 5,479 photographs of PASCAL VOC
with all their classes; the single label is that of the largest object. The models are linear heads on
features, a softmax and a sigmoid on each network, that are fitted to one half of the photographs and predict
the other. The features are those of a folder::

    manyhot predict ../shared/data/voc/images.parquet --model efficientnet-lite0 --model squeezenet \
        --embeddings --out features/voc
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import common
import numpy as np
import pyarrow as pa

import manyhot
from manyhot.tables import Images, Labels, Predictions, align
from manyhot.tables.arrays import label_sets, single_labels

DATA = ("real", "multilabelfy", "cifar10h", "voc")
FEATURES = Path("features")
"""Where `--features` is by default; the folder holds voc, as predict wrote it."""

NETWORKS = ("efficientnet-lite0", "squeezenet")
STRENGTH = 3e-4
"""Of the heads' penalty; with 1e-3, their accuracies on label sets differ by less than a point."""


@dataclass(frozen=True, eq=False)
class DataSet:
    """People's label sets of all images, their original labels, and what models predict.

    Parameters
    ----------
    labels : Labels
        People's label sets, with original labels.
    single : Labels
        The original labels as label sets.
    models : list of Predictions
    """

    name: str
    labels: Labels
    single: Labels
    models: list[Predictions]

    @property
    def unlabelled(self) -> Images:
        """The images without labels, for which models propose all classes of at least one half."""
        return Images(pa.table({"image_id": self.labels.image_id}), name=self.name)


@dataclass(frozen=True, eq=False)
class Arrays:
    """The top classes of each model, shape (N, M, k), the label sets, shape (N, C), and original labels.

    `confidence` has the probability of the top class, shape (N, M), if models have probabilities.
    """

    top: np.ndarray
    sets: np.ndarray
    label: np.ndarray
    confidence: np.ndarray | None = None

    def take(self, rows):
        """Return some of the images."""
        p = None if self.confidence is None else self.confidence[rows]
        return Arrays(self.top[rows], self.sets[rows], self.label[rows], p)

    def of(self, models):
        """Return some of the models."""
        p = None if self.confidence is None else self.confidence[:, models]
        return Arrays(self.top[:, models], self.sets, self.label, p)


def open_data(name: str, features: Path = FEATURES) -> DataSet:
    """Return a data set by its name."""
    if name not in DATA:
        raise SystemExit(f"There is no data set {name}: choose of {', '.join(DATA)}.")
    return READERS[name](features)


def real(_: Path) -> DataSet:
    labels, rows = common.validation()
    single = single_labels(rows, labels.n_classes, labels.class_hash)
    return DataSet("real", labels, single, [p for _, p in common.models(rows)])


def multilabelfy(_: Path) -> DataSet:
    from manyhot.data.benchmarks import data_set

    about = data_set("imagenetv2-matched-frequency")
    assert about is not None
    found = about.fetch()
    single = single_labels(found.rows, found.labels.n_classes, found.labels.class_hash)
    return DataSet("multilabelfy", found.labels, single, list(found.published))


def cifar10h(_: Path) -> DataSet:
    import uncertain_labels as cifar

    from manyhot.classes import from_keys

    folder = f"{cifar.ERRORS}/cross_validated_predicted_probabilities"
    p = cifar.array(f"{folder}/cifar10_test_set_pyx.npy").astype(np.float32)
    label = cifar.array(f"{cifar.ERRORS}/original_test_labels/cifar10_test_set_original_labels.npy")
    counts = cifar.array(cifar.COUNTS)
    shares = counts / counts.sum(axis=1, keepdims=True)
    classes, ids = from_keys(cifar.CIFAR10.split(), "cifar10"), cifar.ids_of(len(p))
    states = np.where(shares >= cifar.LEAST, "yes", "no")
    labels = _labels(ids, label, states, classes, "cifar10h", shares)
    single = _labels(ids, label, _only(label, shares.shape), classes, "cifar10", np.eye(10)[label])
    return DataSet("cifar10h", labels, single, [_predictions(ids, "out of fold", p, classes)])


def voc(features: Path) -> DataSet:
    import heads

    models = []
    for heads.MODEL in NETWORKS:  # of whose features `heads.voc` reads
        data = heads.voc(features / "voc")
        ids, yes = data.images["image_id"].combine_chunks(), (data.state == heads.YES).astype(int)
        half = np.random.default_rng(0).permutation(len(ids)) % 2
        for head, targets in (("softmax", data.label), ("sigmoid", yes)):
            p = np.empty(yes.shape, np.float32)
            for fold in range(2):
                fit, predict = np.flatnonzero(half != fold), np.flatnonzero(half == fold)
                p[predict] = heads.probabilities(data, targets, fit, predict, (STRENGTH,))
            models.append(_predictions(ids, f"{heads.MODEL} {head}", p, data.classes))
    states = heads.NAMES[data.state]
    labels = _labels(ids, data.label, states, data.classes, "voc")
    single = _labels(ids, data.label, _only(data.label, yes.shape), data.classes, "voc")
    return DataSet("voc", labels, single, models)


READERS: dict[str, Callable[[Path], DataSet]] = {
    "real": real,
    "multilabelfy": multilabelfy,
    "cifar10h": cifar10h,
    "voc": voc,
}


def _only(label, shape):
    states = np.full(shape, "no", "<U7")
    states[np.arange(len(label)), label] = "yes"
    return states


def _labels(ids, label, states, classes, name, p=None) -> Labels:
    """Return a labels table in which people were asked about every class."""
    n, c = states.shape
    columns = {
        "image_id": ids,
        "label": pa.array(label, pa.int32()),
        "rated": [True] * n,
        "usable": [True] * n,
        "classes": pa.array([list(range(c))] * n, pa.list_(pa.int32())),
        "state": states.tolist(),
    }
    if p is not None:
        columns["p"] = pa.array(p.tolist(), pa.list_(pa.float32()))
    return Labels(pa.table(columns), c, classes.hash, asked_known=True, name=name)


def _predictions(ids, name, p, classes) -> Predictions:
    return manyhot.Predictions(
        ids, name, scores=p, score_kind="probability", n_classes=p.shape[1], class_hash=classes.hash
    )


def arrays(name: str, cache: Path | None = None, features: Path = FEATURES, k: int = 5) -> Arrays:
    """Return a data set as arrays; `cache` is a folder in which they are stored."""
    file = cache / f"{name}.npz" if cache else None
    if file and file.is_file():
        with np.load(file) as stored:
            sets = np.unpackbits(stored["sets"], axis=1)[:, : stored["n_classes"]].astype(bool)
            return Arrays(stored["top"], sets, stored["label"], stored.get("confidence"))
    found = as_arrays(open_data(name, features), k)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        more = {} if found.confidence is None else {"confidence": found.confidence}
        packed, n_classes = np.packbits(found.sets, axis=1), found.sets.shape[1]
        np.savez_compressed(file, top=found.top, sets=packed, label=found.label, n_classes=n_classes, **more)
    return found


def as_arrays(data: DataSet, k: int = 5) -> Arrays:
    """Return the arrays of a data set."""
    from manyhot.evaluate.slices import case_of

    sets, top, confidence = label_sets(data.labels), [], []
    for predictions in data.models:
        alignment = align(
            data.labels.image_id, predictions.image_id, left_name="labels", right_name=predictions.model
        )
        assert not alignment.left_only
        top.append(case_of(sets, predictions, alignment, k).top[:, :k].astype(np.int16))
        if predictions.score_kind == "probability":
            confidence.append(predictions.scores[alignment.right].max(axis=1))
    p = np.stack(confidence, axis=1) if confidence else None
    return Arrays(np.stack(top, axis=1), sets.yes_matrix(), sets.label, p)


def main() -> None:
    """Print what the data sets are: images, models, images without a valid class, and accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=DATA, default=DATA)
    parser.add_argument("--features", type=Path, default=FEATURES)
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    for name in options.data:
        data = arrays(name, options.cache, options.features)
        hits = np.take_along_axis(data.sets, data.top[:, :, 0].astype(int), 1)
        scored = data.sets.any(axis=1)
        real1 = 100 * hits[scored].mean(axis=0)
        print(
            f"{name}: {len(data.label):,} images, {(~scored).sum():,} without a valid class, "
            f"{data.sets.sum(1).mean():.2f} classes an image, {hits.shape[1]} models, "
            f"real1 {real1.min():.1f} to {real1.max():.1f} %"
        )


if __name__ == "__main__":
    common.quiet()
    main()
