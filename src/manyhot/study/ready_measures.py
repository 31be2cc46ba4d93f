"""Ready-made measures of a study, and data sets from your own images and labels.

A run's predictions are put beside the label sets of its images; metrics of them have replicates.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from manyhot.classes import ClassList
from manyhot.core.array_types import Bytes, Floats, Floats32
from manyhot.core.estimates import Estimate
from manyhot.core.posterior import weighted_values
from manyhot.core.resampling import draw_counts
from manyhot.core.sets import Case, LabelSets
from manyhot.data.inputs import Reading, open_labels
from manyhot.errors import InputError
from manyhot.files import write_text
from manyhot.formats import ClassNamesLike, detect, open_class_list, read_classes, read_labels
from manyhot.formats.writing import PathLike
from manyhot.predict.in_memory import predict_in_memory
from manyhot.predict.models import find_model
from manyhot.predict.sources import ImageSource, alter_images, open_source
from manyhot.predict.sources.label_ids import labels_of_source
from manyhot.registry import get, options_of
from manyhot.study.plan import ALL, Measurement, RunMeasure, StudyDataSet, StudyMetric, StudyRun
from manyhot.tables import Labels, Predictions, write_labels
from manyhot.tables.arrays import label_sets
from manyhot.tables.frames import align
from manyhot.tables.label_values import LabelValues
from manyhot.tables.result_tables import describe_metric

DEFAULT_METRICS = ("top1", "real1", "map_macro")
CALIBRATION_METRICS = ("ece", "ece_set", "brier_set")


def accuracy_measure(
    *metrics: str, name: str = "accuracy", split: str = "test", engine: str = "torch", version: int = 1
) -> RunMeasure:
    """Return a measure of registered metrics on the images of a split, each with replicates.

    Parameters
    ----------
    *metrics : str
        Names or call strings, such as ``map_macro`` or ``map_macro(masked=True)``. By default, accuracy on
        original labels and on label sets, and mean average precision.
    name : str
    split : str
        ``test`` or ``val``.
    engine : str
        As in `manyhot.predict`.
    version : int
        As in `RunMeasure`.
    """
    names = metrics or DEFAULT_METRICS

    def take(run: StudyRun) -> Iterator[Measurement]:
        yield from JudgedRun.of(run, split, engine).measured(names)

    about = f"Metrics of the {split} images."
    return RunMeasure(name, about, take, tuple(map(study_metric, names)), version)


def calibration_measure(
    *metrics: str, name: str = "calibration", split: str = "test", engine: str = "torch", version: int = 1
) -> RunMeasure:
    """Return a measure of calibration; it differs from `accuracy_measure` only in its default metrics.

    Parameters
    ----------
    *metrics : str
        By default, the calibration error on original labels and on label sets, and the Brier score.
    name, split, engine, version
        As in `accuracy_measure`.
    """
    names = metrics or CALIBRATION_METRICS
    return accuracy_measure(*names, name=name, split=split, engine=engine, version=version)


def corruption_measure(
    *metrics: str,
    corruptions: Sequence[str] = ("gaussian_noise", "motion_blur", "fog", "jpeg_compression"),
    severities: Sequence[int] = (1, 3, 5),
    name: str = "corruptions",
    engine: str = "torch",
    version: int = 1,
) -> RunMeasure:
    """Return a measure of the mean drop of metrics over corruptions and severities of the test images.

    The metrics are called ``lost_top1`` and ``corrupted_top1``, for example. All copies of an image are
    resampled together. Images are cropped as in ``manyhot diagnose corruptions``.

    Parameters
    ----------
    *metrics : str
        As in `accuracy_measure`.
    corruptions, severities
        As in ``manyhot diagnose corruptions``.
    name, engine, version
        As in `accuracy_measure`.
    """
    from manyhot.diagnose.pixels.corruptions import CLEAN, corruption

    names = metrics or DEFAULT_METRICS
    copies = [corruption(CLEAN, 0), *(corruption(kind, s) for kind in corruptions for s in severities)]

    def take(run: StudyRun) -> Iterator[Measurement]:
        classes, labels, source = (
            read_classes(run.classes),
            read_labels(run.labels("test")),
            open_source(run.images("test")),
        )
        network = find_model(f"trained:{run.model}", classes)
        size = network.preprocessing.size
        network = replace(network, preprocessing=replace(network.preprocessing, scale=size))
        each = []
        for copy in copies[: 2 if run.smoke else None]:
            altered = alter_images(source, copy)
            found = predict_in_memory(altered, network, top=None, classes=classes, engine=engine)
            each.append([*JudgedRun.matched(labels, found.predictions).measured(names)])
        yield from _losses(each[0], each[1:])

    shown = tuple(map(study_metric, names))
    lost = (replace(m, name=f"lost_{m.name}", label=f"{m.label}, loss", better=_other(m)) for m in shown)
    left = (replace(m, name=f"corrupted_{m.name}", label=f"{m.label}, corrupted") for m in shown)
    about = f"Test images with {len(corruptions)} corruptions at {len(severities)} severities."
    return RunMeasure(name, about, take, (*left, *lost), version)


def _losses(clean: Sequence[Measurement], copies: Sequence[Sequence[Measurement]]) -> Iterator[Measurement]:
    for one, corrupted in zip(clean, zip(*copies, strict=True), strict=True):
        value = float(np.mean([m.value for m in corrupted]))
        replicates = np.mean([m.replicates for m in corrupted], axis=0)
        assert one.replicates is not None
        yield replace(one, metric=f"corrupted_{one.metric}", value=value, replicates=replicates)
        lost = one.replicates - replicates
        yield replace(one, metric=f"lost_{one.metric}", value=one.value - value, replicates=lost)


def transfer_measure(
    images: PathLike,
    labels: PathLike,
    *,
    method: str = "probe",
    metric: str = "top1",
    settings: Mapping[str, Any] | None = None,
    name: str = "transfer",
    engine: str = "torch",
    version: int = 1,
    **options: Any,
) -> RunMeasure:
    """Return a measure of a head that is fitted to another data set, on the features of the network.

    Parameters
    ----------
    images, labels, method, settings, engine
        As in `manyhot.transfer`.
    metric : str
        The metric of the method, such as ``top1``, or ``map_macro(masked=True)`` for the method
        ``multilabel``.
    name : str
        The name of the measure. Its metric is called ``transfer_top1``, for example.
    version : int
        As in `RunMeasure`.
    **options
        Other options of `manyhot.transfer`, such as ``classes`` and ``split``.
    """
    shown = study_metric(metric)
    shown = replace(shown, name=f"{name}_{shown.name}", label=f"{shown.label}, {method}")

    def take(run: StudyRun) -> Iterator[Measurement]:
        from manyhot.train.transfer.transfer import transfer

        found = transfer(
            images,
            {run.arm: f"trained:{run.model}"},
            out=run.folder / name,
            labels=labels,
            method=method,
            settings=dict(settings or {}),
            resamples=REPLICATES,
            engine=engine,
            **options,
        )
        wanted = f"{method}/{metric}"
        rows, samples = (
            [r for r in table.to_pylist() if (r["metric"], r["slice"]) == (wanted, "all")]
            for table in (found.results, found.samples)
        )
        replicates = np.array(samples[0]["values"]) if samples else None
        yield Measurement(shown.name, rows[0]["value"], rows[0]["n"], replicates=replicates)

    return RunMeasure(name, f"A head on the features, by {method}.", take, (shown,), version)


def study_metric(metric: str) -> StudyMetric:
    """Return a registered metric as a metric of a study."""
    get("metric", metric)  # raises an error with similar names
    about = describe_metric(metric)
    better: Any = "lower" if about["better"] == "lower" else "higher"
    return StudyMetric(metric, about["label"], better, percent=about["unit"] == "share")


def _other(metric: StudyMetric) -> Any:
    return "higher" if metric.better == "lower" else "lower"


REPLICATES = 100
"""Number of resamples of the images. The standard deviation of this many values is known to 7 %."""


@dataclass(frozen=True, eq=False)
class JudgedRun:
    """Scores of n images over C classes, and their label sets.

    Attributes
    ----------
    labels : LabelSets
    scores : numpy.ndarray of float32, shape (n, C)
    kind : str
        ``logit`` of a softmax, or ``probability`` of sigmoids.
    """

    labels: LabelSets
    scores: Floats32
    kind: str

    @classmethod
    def of(cls, run: StudyRun, split: str = "test", engine: str = "torch") -> JudgedRun:
        """Predict the images of a split with the network of a run."""
        found = predict_in_memory(
            run.images(split),
            f"trained:{run.model}",
            top=None,
            classes=read_classes(run.classes),
            engine=engine,
        )
        return cls.matched(run.labels(split), found.predictions)

    @classmethod
    def matched(cls, labels: Path | Labels, predictions: Predictions) -> JudgedRun:
        """Join dense predictions with label sets, in the order of the labels.

        Raises
        ------
        InputError
            If the predictions have only the scores of top classes, or if an image was not predicted.
        """
        found = labels if isinstance(labels, Labels) else read_labels(labels)
        if predictions.scores is None or not predictions.is_dense:
            raise InputError("The predictions lack scores of all classes.", where=predictions.model)
        at = align(found.image_id, predictions.image_id, left_name="the labels", right_name="the images")
        if at.left_only:
            raise InputError(
                "Some labelled images have no prediction.",
                got=f"{at.left_only:,} of {len(found):,}",
                do="remove images that cannot be decoded from the labels",
            )
        scores = predictions.scores.astype(np.float32)[at.right]
        return cls(label_sets(found).take(at.left), scores, predictions.score_kind)

    @cached_property
    def case(self) -> Case:
        """The predictions and label sets as metrics take them."""
        return Case.from_scores(self.labels, self.scores, k=self.scores.shape[1], kind=self.kind)

    def measured(self, metrics: Iterable[str], where: str = ALL) -> Iterator[Measurement]:
        """Yield the values of registered metrics, with replicates."""
        for name in metrics:
            yield estimated(name, get("metric", name)(self.case), where)


def replicate_counts(n: int) -> Bytes:
    """Return how often each of n images is drawn in each replicate, shape (R, n).

    The counts depend on n alone, so all runs of a data set and all metrics have the same resamples.
    """
    return draw_counts(n, REPLICATES, np.random.default_rng([0, n]))


def estimated(name: str, estimate: Estimate, where: str = ALL) -> Measurement:
    """Return the value of an estimate, and its values on resamples of the images."""
    drawn: Floats = replicate_counts(len(estimate.scored)).astype(np.float64)
    replicates = weighted_values(estimate, drawn)
    return Measurement(name, estimate.value(None), int(estimate.scored.sum()), where, replicates)


Split = tuple[PathLike, PathLike] | PathLike
"""Images and their labels; a folder with one folder per class is both."""

_TOGETHER = 256
"""Images whose bytes are in memory at the same time."""

_SMOKE = 64
"""Images of each split in a smoke run."""


def own_data(
    name: str,
    about: str,
    *,
    train: Split,
    test: Split,
    val: Split | None = None,
    more_labels: Mapping[str, PathLike] | None = None,
    classes: ClassNamesLike | None = None,
    version: int = 1,
) -> StudyDataSet:
    """Return a data set of a study from your own images and labels.

    The images that have labels are copied to the folder of the study. If they are in class folders, their
    folders are the original labels. If an original label is needed only for some arms, label sets in a file
    and class folders can be combined: ``train=("photos/train", "sets.csv")``.

    Parameters
    ----------
    name, about : str
        As in `StudyDataSet`.
    train, test, val : path-like or (path-like, path-like)
        Images, and their label sets in any format; or class folders alone.
    more_labels : mapping of str to path-like, optional
        Other labels of the training images: ``{"soft": "soft.csv"}`` makes them available as
        ``run.labels("soft")``. Files are in any format of labels. Numbers in columns are counts of votes if
        they are whole numbers that can only be counts, and otherwise probabilities.
    classes : class list, optional
        By default, the classes of the labels of `train`.
    version : int
        Increase it if the files change.
    """
    splits = {"train": train, "test": test} | ({} if val is None else {"val": val})

    def make(folder: Path, smoke: bool) -> None:
        known = open_class_list(classes)
        sources: dict[str, ImageSource] = {}
        for split, given in splits.items():
            images, labels = (given, given) if isinstance(given, str | os.PathLike) else given
            sources[split] = open_source(images)
            found, known = _labels(labels, images, sources[split], known)
            if smoke:
                found = _fewer(found)
            _write_images(sources[split], found, folder / f"images-{split}.parquet")
            write_labels(found, folder / f"labels-{split}.parquet")
        assert known is not None
        write_text(folder / "classes.txt", "".join(f"{key}\n" for key in known.keys))
        for split, labels in (more_labels or {}).items():
            found, _ = _labels(labels, None, sources["train"], known)
            write_labels(found, folder / f"labels-{split}.parquet")

    return StudyDataSet(name, about, make, version=version)


def _labels(
    labels: PathLike, images: PathLike | None, source: ImageSource, classes: ClassList | None
) -> tuple[Labels, ClassList]:
    """Return the labels of the images of a source, with the ids of the source, and the class list."""
    is_both = images is not None and Path(images) == Path(labels)
    folder = images if images is not None and not is_both and Path(images).is_dir() else None
    reading = Reading(
        classes=classes, images=folder, label_values=_values(labels) if images is None else None
    )
    (opened,) = open_labels(labels, reading=reading)
    found, known = opened.sets(), classes or opened.classes
    if known is None:
        raise InputError("The classes have no names.", where=labels, do="pass `classes`")
    if folder is not None and opened.images is not None:
        found = found.with_labels(opened.images)
    found, _ = labels_of_source(found, source)
    return replace(found, n_classes=len(known), class_hash=known.hash, class_list=known), known


def _values(labels: PathLike) -> LabelValues | None:
    """Return that numbers in columns are probabilities, unless a file is in another format or has counts."""
    entry = detect(labels, ("labels",))
    if entry is None or "label_values" in options_of(entry):
        with suppress(InputError):
            return None if read_labels(labels).exclusive else "p"
        return "p"
    return None


def _fewer(labels: Labels) -> Labels:
    order = sorted(range(len(labels)), key=lambda i: hashlib.sha256(str(i).encode()).digest())
    return replace(labels, table=labels.table.take(sorted(order[:_SMOKE])))


def _write_images(source: ImageSource, labels: Labels, path: Path) -> None:
    wanted = set(labels.image_id.to_pylist())
    schema = pa.schema([("image_id", pa.string()), ("image", pa.binary())])
    with pq.ParquetWriter(path, schema) as writer:
        rows: dict[str, bytes] = {}
        for part in source.parts:
            for item, read in part.items():
                if item.image_id in wanted:
                    rows[item.image_id] = _bytes(item.uri, read())
                    wanted.remove(item.image_id)
                if len(rows) >= _TOGETHER:
                    writer.write_table(_table(rows, schema))
                    rows = {}
        writer.write_table(_table(rows, schema))
    if wanted:
        raise InputError(
            "Some labelled images are not in the source.",
            where=source.uri,
            got=f"{len(wanted):,} of {len(labels):,}, such as {min(wanted)}",
            do="remove their labels, or pass the folder that contains them",
        )


def _bytes(uri: str, read: object) -> bytes:
    if isinstance(read, bytes):
        return read
    raise InputError("An image cannot be read.", where=uri, got=str(read))


def _table(rows: Mapping[str, bytes], schema: pa.Schema) -> pa.Table:
    return pa.table({"image_id": [*rows], "image": [*rows.values()]}, schema=schema)
