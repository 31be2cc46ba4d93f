"""Ready-made measures of a study: metrics of test images, of corrupted ones, and transfer of the features.

A run's predictions are put beside the label sets of its images; metrics of them have replicates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from manyhot.core.array_types import Bytes, Floats, Floats32
from manyhot.core.estimates import Estimate, Ratio
from manyhot.core.resampling import draw_counts
from manyhot.core.sets import Case, LabelSets
from manyhot.errors import InputError
from manyhot.formats import read_classes, read_labels
from manyhot.formats.writing import PathLike
from manyhot.predict.in_memory import predict_in_memory
from manyhot.predict.models import find_model
from manyhot.predict.sources import alter_images, open_source
from manyhot.registry import get
from manyhot.study.plan import ALL, Measurement, RunMeasure, StudyMetric, StudyRun
from manyhot.tables import Labels, Predictions
from manyhot.tables.arrays import label_sets
from manyhot.tables.frames import align
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
        Names or call strings, such as ``map_macro`` or ``map_macro(masked=True)``. By default, the accuracy
        by label and by label set, and mean average precision.
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
    """Return a measure of calibration: as `accuracy_measure`, with other metrics by default.

    Parameters
    ----------
    *metrics : str
        By default, the calibration error by label and by label set, and the Brier score.
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
    """Return a measure of what is lost on corrupted test images, on average over corruptions and severities.

    The metrics are called ``lost_top1`` and ``corrupted_top1``, for example. All copies of an image are drawn
    together. Images are cropped as in ``manyhot diagnose corruptions``.

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
    """Return a measure of a head that is fitted on the features of the network, for another data set.

    Parameters
    ----------
    images, labels, method, settings, engine
        As in `manyhot.transfer`.
    metric : str
        The metric of the method, such as ``top1``, or ``map_macro(masked=True)`` of ``multilabel``.
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
"""Resamples of the images. The standard deviation of so many values is known to 7 %."""


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
                "Labelled images were not predicted.",
                got=f"{at.left_only:,} of {len(found):,}",
                do="leave images that cannot be decoded out of the labels",
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
    if isinstance(estimate, Ratio) and estimate.stratum is None:
        with np.errstate(invalid="ignore", divide="ignore"):
            replicates = (drawn @ estimate.num) / (drawn @ estimate.den)
    else:
        replicates = np.array([estimate.value(row) for row in drawn])
    return Measurement(name, estimate.value(None), int(estimate.scored.sum()), where, replicates)
