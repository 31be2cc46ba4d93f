"""How published numbers are computed again: one function for each quantity.

A measure takes the `Published` data, a subject and its options, and returns a `Measured`. Shares are from 0
to 1, although publications print percent.
"""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from manyhot.core.corruption_errors import ALEXNET, corruption_errors
from manyhot.core.share_intervals import wilson_interval
from manyhot.data import catalog
from manyhot.data.benchmarks import BENCHMARKS
from manyhot.diagnose.errors import diagnose_errors
from manyhot.errors import InputError, ManyhotError
from manyhot.evaluate.describe import describe
from manyhot.evaluate.evaluate import evaluate
from manyhot.run import Run
from manyhot.tables import Row

Load = Callable[["Published"], Any]
"""Reads or computes what measures share, and adds the files to the inputs."""

V1, V2 = "imagenet-val", "imagenetv2-matched-frequency"


@dataclass(frozen=True)
class Measured:
    """A number and the n it is based on; `lo` and `hi` are NaN if it has no interval."""

    value: float
    n: int
    lo: float = np.nan
    hi: float = np.nan

    def scaled(self, by: float) -> Measured:
        """Return the number in another unit."""
        return replace(self, value=self.value * by, lo=self.lo * by, hi=self.hi * by)

    @property
    def complement(self) -> Measured:
        """The share of the remaining cases, such as the error for an accuracy."""
        return Measured(1 - self.value, self.n, 1 - self.hi, 1 - self.lo)


def share(k: float, n: int) -> Measured:
    """Return a share of n cases with Wilson's interval."""
    lo, hi = wilson_interval(k, n)
    return Measured(k / n, n, float(lo), float(hi))


class Published:
    """Data that several measures use. Each data set is loaded only once; failed loads are not retried.

    Attributes
    ----------
    run : Run
    inputs : dict of str to str
        SHA-256 hashes of the files that were read, by file name.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.inputs: dict[str, str] = {}
        self._loaded: dict[Load, Any] = {}

    def __call__(self, load: Load) -> Any:
        """Return what a loader returns; raise what it raised before."""
        if load not in self._loaded:
            try:
                self._loaded[load] = load(self)
            except ManyhotError as error:
                self._loaded[load] = error
        if isinstance(found := self._loaded[load], ManyhotError):
            raise found
        return found


_Rows = dict[tuple[str, str, str, str], Row]
"""Rows of results by data set, metric, model and slice."""


def _evaluated(published: Published, name: str, *metrics: str) -> _Rows:
    found = evaluate(name, metrics=metrics, resamples=0, run=published.run)
    published.inputs |= found.inputs
    return {(r["dataset"], r["metric"], r["model"], r["slice"]): r for r in found.results.to_pylist()}


def imagenet(published: Published) -> _Rows:
    """Evaluate the published predictions on ImageNet and ImageNetV2."""
    return _evaluated(published, "imagenet", "top1", "top5", "real1")


def imagenet_x(published: Published) -> _Rows:
    """Evaluate the published predictions on images of each factor."""
    return _evaluated(published, "imagenet-x", "top1")


def multilabel(published: Published) -> _Rows:
    """Evaluate the published predictions on the labels of Shankar et al."""
    return _evaluated(published, "multilabel", "mla")


_PEYCHEV = {
    "collapsed": "collapsed-pair(original=True)",
    "several-labels": "valid-label(unclear=True)",
    "rest": "model-failure",
}
"""The kinds of errors, in the order in which the rules are tried."""


def sorted_errors(published: Published) -> dict[str, dict[str, int]]:
    """Count the kinds of errors of each model on the labels of Shankar et al."""
    found = diagnose_errors("imagenet-multilabel", rules=list(_PEYCHEV.values()), run=published.run)
    published.inputs |= found.inputs
    return {m.model: dict(zip(_PEYCHEV, m.counts.values(), strict=True)) for m in found.models}


def cards(published: Published) -> dict[str, Row]:
    """Return the data cards of the label sets."""
    found = describe("imagenet", run=published.run)
    published.inputs |= found.inputs
    return {row["dataset"]: row for row in found.datasets.to_pylist()}


def objects(published: Published) -> Sequence[Row]:
    """Read the number of objects in each image of Tsipras et al."""
    images = BENCHMARKS["tsipras"].datasets[0].images_table()
    files = {file.path: file.sha256 for file in catalog.catalog_entry("tsipras").files}
    read = ("annotations_classify_task.pkl", "image_info.pkl")
    published.inputs |= {f"tsipras/{name}": files[name] for name in read}
    rows: Sequence[Row] = images.table.select(["annotation", "n_objects"]).to_pylist()
    return rows


Read = Callable[[Path], Any]
"""Reads a file."""


@functools.cache
def _file(name: str, file: str, read: Read) -> Load:
    """Return a loader of a file in the catalogue."""

    def load(published: Published) -> Any:
        path = catalog.fetch_file(name, file)
        published.inputs[f"{name}/{file}"] = catalog.catalog_entry(name).file(file).sha256
        return read(path)

    return load


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _json(path: Path) -> Any:
    return json.loads(_text(path))


def _csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(_text(path).splitlines()))


def _accuracy(row: Row | None, subject: str) -> Measured:
    if row is None:
        raise InputError("There are no predictions of this model.", got=subject)
    return share(round(row["value"] * row["n"]), row["n"])


# Accuracies from published predictions.


def imagenet_top1(published: Published, subject: str) -> Measured:
    """Top-1 accuracy on ImageNet's validation set."""
    return _accuracy(published(imagenet).get((V1, "top1", subject, "all")), subject)


def imagenet_top5(published: Published, subject: str) -> Measured:
    """Top-5 accuracy on ImageNet's validation set."""
    return _accuracy(published(imagenet).get((V1, "top5", subject, "all")), subject)


def imagenet_real1(published: Published, subject: str) -> Measured:
    """Accuracy by ReaL."""
    return _accuracy(published(imagenet).get((V1, "real1", subject, "all")), subject)


def imagenetv2_top1(published: Published, subject: str) -> Measured:
    """Top-1 accuracy on ImageNetV2."""
    return _accuracy(published(imagenet).get((V2, "top1", subject, "all")), subject)


def imagenet_top1_error(published: Published, subject: str) -> Measured:
    """Top-1 error on ImageNet's validation set."""
    return imagenet_top1(published, subject).complement


def imagenetv2_loss(published: Published, subject: str) -> Measured:
    """Smallest or largest drop in top-1 accuracy from ImageNet to ImageNetV2 over all networks."""
    rows = published(imagenet)
    names = {m for _, _, m, _ in rows if not m.startswith("fv_")}  # Fisher vectors are not networks
    losses = [rows[V1, "top1", m, "all"]["value"] - rows[V2, "top1", m, "all"]["value"] for m in names]
    return Measured(min(losses) if subject == "smallest" else max(losses), len(losses))


def multilabel_accuracy(published: Published, subject: str) -> Measured:
    """Multi-label accuracy, a mean over classes."""
    row = published(multilabel)["imagenet-multilabel", "mla", subject, "all"]
    return Measured(row["value"], row["n"])


def multilabel_images(published: Published, subject: str) -> Measured:
    """Images that are not problematic."""
    n = max(row["n"] for row in published(multilabel).values())
    return Measured(n, n)


def peychev_errors(published: Published, subject: str, *, kind: str) -> Measured:
    """Number of errors of a model, of one kind or of all kinds."""
    counts = published(sorted_errors)[subject]
    n = multilabel_images(published, subject).n
    return Measured(sum(counts.values()) if kind == "errors" else counts[kind], n)


def factor_top1(published: Published, subject: str, *, model: str = "") -> Measured:
    """Top-1 accuracy on images of a factor or, if the subject is a model, on all annotated images."""
    name, factor = (model, subject) if model else (subject, "average")
    return _accuracy(published(imagenet_x).get((V1, "top1", name, f"factor={factor}")), name)


def factor_ratio(published: Published, subject: str, *, model: str) -> Measured:
    """Error on images of a factor, divided by the error on all annotated images."""
    part = factor_top1(published, subject, model=model)
    return Measured((1 - part.value) / (1 - factor_top1(published, model).value), part.n)


# Label sets.


def real_share(published: Published, subject: str) -> Measured:
    """Share of ReaL's images that have several labels, have no label, or were not rated."""
    card = published(cards)[V1]
    k = {"several": card["multi"], "none": card["empty"], "unrated": card["images"] - card["rated"]}
    return share(k[subject], card["images"])


def multilabelfy_share(published: Published, subject: str) -> Measured:
    """Share of Multilabelfy's images with several labels."""
    card = published(cards)[V2]
    return share(card["multi"], card["images"])


def several_of_labelled(published: Published, subject: str) -> Measured:
    """Share of images with several labels among the images with at least one label."""
    card = published(cards)[subject]
    return share(card["multi"], card["images"] - card["empty"])


def several_objects(published: Published, subject: str) -> Measured:
    """Share of Tsipras et al.'s images with two or more objects."""
    counts = [row["n_objects"] for row in published(objects) if row["annotation"]]
    return share(sum((n or 0) >= 2 for n in counts), len(counts))


def major_mistakes(published: Published, subject: str) -> Measured:
    """Share of reviewed mistakes whose severity is major."""
    mistakes = published(_file("imagenet-mistakes", f"{subject}_mistakes.json", _json))
    return share(sum(m["failure severity"] == "Major" for m in mistakes.values()), len(mistakes))


def imagenet_m(published: Published, subject: str) -> Measured:
    """Raise an error: no file of the catalogue lists these images."""
    raise InputError("No file of the catalogue lists the images of ImageNet-M.")


# Answers of people.


def confirmed_errors(published: Published, subject: str) -> Measured:
    """Number of candidates for which fewer than three of five people chose the given label."""
    rows = published(_file("label-errors", f"{subject}_mturk.json", _json))
    return Measured(sum(row["mturk"].get("given", 0) < 3 for row in rows), len(rows))


def people_right(published: Published, subject: str) -> Measured:
    """Share of CIFAR-10H's answers that agree with the label."""
    counts = published(_file("cifar-10h", "cifar10h-counts.npy", np.load))
    labels = "cifar10_test_set_original_labels.npy"
    label = published(_file("label-errors", labels, np.load)).astype(np.int64)
    return share(float(counts[np.arange(len(counts)), label].sum()), int(counts.sum()))


# Other published tables of the same models.


def _testbed(published: Published, model: str, setting: str) -> float:
    rows = [
        row
        for row in published(_file("testbed-results", "robustness_top1s.csv", _csv))
        if row["model"] == model
    ]
    if not rows or not rows[0][setting]:
        raise InputError("imagenet-testbed has no value.", got=f"{model}, {setting}")
    return float(rows[0][setting]) / 100


def testbed_top1(published: Published, subject: str) -> Measured:
    """Top-1 accuracy on ImageNet's validation set, as published by imagenet-testbed."""
    return share(_testbed(published, subject, "val") * 50_000, 50_000)


def testbed_error(published: Published, subject: str) -> Measured:
    """Top-1 error, as published by imagenet-testbed."""
    return testbed_top1(published, subject).complement


def corruption_error(published: Published, subject: str) -> Measured:
    """Mean corruption error, computed from imagenet-testbed's accuracies on ImageNet-C's files."""
    settings = [[f"imagenet-c.{c}.{s}_on-disk" for s in range(1, 6)] for c in ALEXNET]
    errors = np.array([[1 - _testbed(published, subject, s) for s in row] for row in settings])
    return Measured(float(corruption_errors(errors, np.array(list(ALEXNET.values()))).mean()), 50_000)


def _openclip(published: Published, subject: str) -> dict[str, str]:
    for row in published(_file("openclip-results", "openclip_results.csv", _csv)):
        if f"{row['name']}/{row['pretrained']}" == subject:
            return dict(row)
    raise InputError("The results of open_clip do not contain this model.", got=subject)


def openclip_top1(published: Published, subject: str) -> Measured:
    """Zero-shot top-1 accuracy on ImageNet's validation set, as published by open_clip."""
    return share(float(_openclip(published, subject)["ImageNet 1k"]) * 50_000, 50_000)


def openclip_average(published: Published, subject: str) -> Measured:
    """Mean of open_clip's values over its 38 data sets, which are in the columns after the first five."""
    values = [float(value) for value in list(_openclip(published, subject).values())[5:]]
    return Measured(float(np.mean(values)), len(values))


PUBLISHED_MEASURES: Mapping[str, Callable[..., Measured]] = {
    measure.__name__: measure
    for measure in (
        *(
            imagenet_top1,
            imagenet_top5,
            imagenet_real1,
            imagenetv2_top1,
            imagenet_top1_error,
            imagenetv2_loss,
        ),
        *(multilabel_accuracy, multilabel_images, peychev_errors, factor_top1, factor_ratio),
        *(real_share, multilabelfy_share, several_of_labelled, several_objects, major_mistakes, imagenet_m),
        *(confirmed_errors, people_right),
        *(testbed_top1, testbed_error, corruption_error, openclip_top1, openclip_average),
    )
}
"""The measures by name."""
