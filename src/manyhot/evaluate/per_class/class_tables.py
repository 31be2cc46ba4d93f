"""The tables of classes: from one model's scores to rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.classes import ClassList
from manyhot.core.array_types import Floats
from manyhot.core.class_counts import class_curves
from manyhot.core.clusters import Clusters, pooled_changes
from manyhot.core.confused_classes import NOTHING, confused_classes
from manyhot.core.estimates import Estimate, Pooled
from manyhot.core.jackknife import FEWEST_POSITIVES, UNVARYING, jackknife_interval
from manyhot.core.operating_points import (
    FOLDS,
    GOALS,
    REASONS,
    Goal,
    OperatingPoints,
    operating_points,
)
from manyhot.core.ranking import class_precision, curve_means
from manyhot.core.score_threshold import in_double_precision
from manyhot.core.sets import NOT_ASKED, YES, Case
from manyhot.report.chapter import rows_by
from manyhot.tables import Row, schema
from manyhot.tables.definitions import COUNT, FLAG, INT, ITS, REAL, TEXT, declare_table, interval
from manyhot.tables.frames import concat_by_name

CURVES = 4
"""Number of classes with curves, the first of `worst_first`."""

CLASS_MEANS = ("map_macro", "map_11point", "auroc_macro", "auroc_micro")
"""Metrics of rankings that are reported above the classes."""

CURVE_KINDS = ("precision-recall", "roc")

MASKED = (
    "whether (image, class) pairs that are unclear or without an answer are left out rather than counted "
    "as not valid"
)
"""The description of a column of the tables of classes."""

MASKED_ROWS = "masked (without unclear and unanswered pairs)"
"""How listings of classes say that they are masked."""

declare_table(
    "class_results",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        INT(
            "class_id",
            "the class: its position in the class list, whose order may differ from that of columns of "
            "labels",
        ),
        TEXT("key", "key of the class"),
        TEXT("name", "name of the class"),
        COUNT("n_positives", "number of images on which the class is valid"),
        COUNT("n_negatives", "number of images that count as images without the class"),
        COUNT.nullable(
            "n_unasked",
            "number of negatives for which no rater was asked about the class; null if the label sets do "
            "not record which classes were answered no",
        ),
        *interval("ap", "average precision; NaN if undefined", value=REAL),
        *interval("auroc", "area under the ROC curve; NaN if undefined", value=REAL),
        TEXT.nullable(
            "goal",
            "how the class is predicted: what its threshold is chosen for, or top if the top class of each "
            "image is predicted, which is the default if the probabilities of an image add up to 1; null "
            "if thresholds were passed",
            values=GOALS,
        ),
        REAL(
            "threshold",
            "lowest score at which the class is predicted, on the scale of the scores; NaN if there is none",
        ),
        *interval(
            "precision",
            "among images on which the class is predicted, the share that shows it, with the threshold of "
            "each fold chosen on the other folds",
            f"{ITS} (Wilson)",
            value=REAL,
        ),
        *interval(
            "recall",
            "among images with the class, the share on which it is predicted, at the same thresholds",
            f"{ITS} (Wilson)",
            value=REAL,
        ),
        *interval(
            "f1",
            "harmonic mean of precision and recall",
            f"{ITS} (Wilson's interval of F*, transformed)",
            value=REAL,
        ),
        COUNT("n_predicted", "number of images on which the class is predicted, at the same thresholds"),
        COUNT("n_right", "number of images on which the class is predicted and valid"),
        TEXT.nullable("reason", "why numbers are undefined; null if all are defined", values=REASONS),
        FLAG.optional("masked", MASKED),
    ),
)

declare_table(
    "class_confusions",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        INT.nullable("predicted", "a class that is predicted but not valid; null if there is none"),
        INT.nullable("present", "a class that is valid on the same image; null if there is none"),
        TEXT.nullable("predicted_name", "name of predicted"),
        TEXT.nullable("present_name", "name of present"),
        COUNT("n", "number of images with both"),
        COUNT("n_instead", "number of images with both classes on which present is not predicted"),
        COUNT.nullable("n_wrong", "number of images on which predicted is predicted but not valid"),
        COUNT.nullable("n_missed", "number of images on which present is valid but not predicted"),
    ),
)

declare_table(
    "class_curves",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        INT("class_id", "the class"),
        TEXT("name", "name of the class"),
        TEXT("curve", "the curve", values=CURVE_KINDS),
        REAL("x", "recall of a precision-recall curve, or false positive rate of a ROC curve"),
        REAL("y", "precision of a precision-recall curve, or recall of a ROC curve"),
        REAL.nullable("threshold", "the threshold of the point; null for points between thresholds"),
    ),
)

declare_table(
    "class_means",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        TEXT("metric", "a registered name", values=CLASS_MEANS),
        *interval("value", "the value; NaN if undefined", f"{ITS} (jackknife)", value=REAL),
        COUNT("n", "number of images that the metric counts"),
        COUNT("n_skipped", "number of images that do not count"),
        COUNT("n_unmatched", "number of images with labels for which the model has no prediction"),
        COUNT("n_classes", "number of classes in the mean, and in the ranking of all classes"),
        TEXT.nullable("no_interval", "why there is no interval; null if there is one"),
    ),
)

CLASS_TABLES = ("class_results", "class_confusions", "class_curves", "class_means")
"""The first has a row for each class, the last one for each metric over classes."""


@dataclass(frozen=True)
class PointSettings:
    """How operating points are chosen; see `manyhot.core.operating_points.operating_points`."""

    goal: Goal | None = None
    at: float | None = None
    n_folds: int = FOLDS
    seed: int = 0
    masked: bool = False


@dataclass
class ClassTables:
    """The tables of `CLASS_TABLES` of one data set, collected model by model.

    Parameters
    ----------
    classes : ClassList, optional
        Keys and names; by default, the class ids.
    curves : int
        Number of classes with curves.
    parts : list of dict
        The tables of each model, by name.
    """

    dataset: str
    n_classes: int
    classes: ClassList | None = None
    settings: PointSettings = field(default_factory=PointSettings)
    curves: int = CURVES
    parts: list[dict[str, pa.Table]] = field(default_factory=list)

    def __post_init__(self) -> None:
        ids = [str(c) for c in range(self.n_classes)]
        self._keys = np.array(self.classes.keys if self.classes else ids, object)
        self._names = np.array(self.classes.names if self.classes else ids, object)

    def add(self, model: str, case: Case, n_unmatched: int = 0, clusters: Clusters | None = None) -> bool:
        """Add a model that has no predictions for `n_unmatched` images; return whether it could be added.

        If the images of the case are in clusters, folds consist of whole clusters, the jackknife leaves out
        one cluster at a time, and design effects include those of clusters. Models without dense scores
        cannot be added. If the setting `masked` is true and the label sets do not record *no* answers, no
        model can be added.
        """
        s = self.settings
        rng = np.random.default_rng(s.seed)
        points = operating_points(
            case, goal=s.goal, at=s.at, n_folds=s.n_folds, rng=rng, masked=s.masked, clusters=clusters
        )
        if points is None:
            return False
        made = {
            "class_results": self._results(case, points, clusters),
            "class_confusions": self._confusions(case, points),
            "class_curves": self._curves(case, points),
            "class_means": self._means(case, points, n_unmatched, clusters),
        }
        of = {"dataset": self.dataset, "model": model}
        self.parts.append({name: _table(name, of | columns) for name, columns in made.items()})
        return True

    def tables(self) -> dict[str, pa.Table]:
        """Return the tables keyed by name; empty if no model was added."""
        return concat_by_name(self.parts)

    def _results(self, case: Case, points: OperatingPoints, clusters: Clusters | None) -> dict[str, Any]:
        precision = class_precision(case, masked=self.settings.masked, clusters=clusters)
        return {
            "class_id": np.arange(self.n_classes),
            "key": self._keys,
            "name": self._names,
            "n_positives": points.n_positives,
            "n_negatives": points.n_negatives,
            "n_unasked": _n_unasked(case, points) if case.labels.asked_known else None,
            **_with_ends("ap", (points.ap, precision.lo, precision.hi)),
            **_with_ends("auroc", (points.auroc, precision.auroc_lo, precision.auroc_hi)),
            "goal": np.full(self.n_classes, points.goal, object),
            "threshold": in_double_precision(points.threshold),
            **_with_ends("precision", points.precision()),
            **_with_ends("recall", points.recall()),
            **_with_ends("f1", points.f1()),
            "n_predicted": points.n_predicted,
            "n_right": points.n_right,
            "reason": [None if r < 0 else REASONS[r] for r in points.reason],
            "masked": np.full(self.n_classes, case.labels.leaves_out_cells(points.masked)),
        }

    def _means(
        self, case: Case, points: OperatingPoints, n_unmatched: int, clusters: Clusters | None
    ) -> dict[str, Any]:
        estimates = curve_means(case, masked=self.settings.masked)
        numbers = [_with_reason(estimates[name], clusters) for name in CLASS_MEANS]
        value, lo, hi, reason = zip(*numbers, strict=True)
        n = np.array([np.count_nonzero(estimates[name].scored) for name in CLASS_MEANS])
        has_ap, has_auroc = (int(np.count_nonzero(~np.isnan(v))) for v in (points.ap, points.auroc))
        n_ranked = int(np.count_nonzero(points.n_positives + points.n_negatives))
        return {
            "metric": list(CLASS_MEANS),
            **_with_ends("value", (np.array(value), np.array(lo), np.array(hi))),
            "n": n,
            "n_skipped": len(case.labels) - n,
            "n_unmatched": np.full(len(n), n_unmatched),
            "n_classes": [has_ap, has_ap, has_auroc, n_ranked],
            "no_interval": list(reason),
        }

    def _confusions(self, case: Case, points: OperatingPoints) -> dict[str, Any]:
        found = confused_classes(case, points)
        missed = np.where(points.is_fitted, points.n_positives - points.n_right, NOTHING)
        return {
            "predicted": _or_null(found.predicted),
            "present": _or_null(found.present),
            "predicted_name": [self._names[c] if c >= 0 else None for c in found.predicted],
            "present_name": [self._names[c] if c >= 0 else None for c in found.present],
            "n": found.n,
            "n_instead": found.n_instead,
            "n_wrong": _or_null(np.where(found.predicted < 0, NOTHING, found.n_wrong[found.predicted])),
            "n_missed": _or_null(np.where(found.present < 0, NOTHING, missed[found.present])),
        }

    def _curves(self, case: Case, points: OperatingPoints) -> dict[str, Any]:
        few = points.n_positives < FEWEST_POSITIVES
        worst = points.fitted[np.lexsort((points.ap[points.fitted], few[points.fitted]))][: self.curves]
        parts = [
            (class_id, kind, curve)
            for class_id, *curves in class_curves(case, worst, masked=self.settings.masked)
            for kind, curve in zip(CURVE_KINDS, curves, strict=True)
        ]
        lengths = [len(curve.x) for *_, curve in parts]
        class_id = np.repeat(np.array([c for c, *_ in parts], np.int32), lengths)
        threshold = np.concatenate([np.empty(0), *(curve.threshold for *_, curve in parts)])
        return {
            "class_id": class_id,
            "name": self._names[class_id],
            "curve": np.repeat(np.array([kind for _, kind, _ in parts], object), lengths),
            "x": np.concatenate([np.empty(0), *(curve.x for *_, curve in parts)]),
            "y": np.concatenate([np.empty(0), *(curve.y for *_, curve in parts)]),
            "threshold": pa.array(threshold, mask=np.isnan(threshold)),
        }


def _n_unasked(case: Case, points: OperatingPoints) -> npt.NDArray[np.int64]:
    """Return on how many images that count as negatives no rater was asked about each class."""
    if points.masked or case.labels.complete:
        return np.zeros_like(points.n_negatives)
    sets = case.labels
    other = sets.usable[sets.rows] & (sets.state != YES) & (sets.state != NOT_ASKED)
    return points.n_negatives - np.bincount(sets.classes[other], minlength=sets.n_classes)


def _with_ends(name: str, values: tuple[Floats, Floats, Floats]) -> dict[str, Any]:
    value, lo, hi = values
    return {
        name: value,
        f"{name}_lo": pa.array(lo, mask=np.isnan(lo)),
        f"{name}_hi": pa.array(hi, mask=np.isnan(hi)),
    }


def _with_reason(estimate: Estimate, clusters: Clusters | None) -> tuple[float, float, float, str | None]:
    """Return a value, both ends of its interval, and why it has none."""
    value = estimate.value(None)
    if not isinstance(estimate, Pooled) or estimate.left_out is None or math.isnan(value):
        return value, math.nan, math.nan, "undefined"
    reason = estimate.doubt(None)
    if reason:
        return value, math.nan, math.nan, reason
    changes = estimate.left_out(None)[estimate.scored]
    if clusters is not None:
        changes = pooled_changes(estimate, np.ones(len(estimate.scored), bool), value, changes, clusters)
    ends = jackknife_interval(value, changes)
    return value, *ends, UNVARYING if math.isnan(ends[0]) else None


def _or_null(ids: npt.NDArray[np.int64]) -> pa.Array:
    return pa.array(ids, mask=ids < 0)


def _table(name: str, columns: Mapping[str, Any]) -> pa.Table:
    n = len(next(v for v in columns.values() if v is not None and not isinstance(v, str)))

    def column(of: pa.Field) -> pa.Array:
        value = columns.get(of.name)
        alone = value is None or isinstance(value, str)
        return pa.repeat(pa.scalar(value, of.type), n) if alone else pa.array(value).cast(of.type)

    wanted = schema(name)
    return pa.table([column(of) for of in wanted], schema=wanted)


def of_models(table: pa.Table) -> dict[tuple[str, str], list[Row]]:
    """Return the rows keyed by data set and model, in the order of the table."""
    return rows_by(table.to_pylist(), "dataset", "model")


def worst_first(rows: Sequence[Row]) -> list[Row]:
    """Return classes sorted by average precision, lowest first, then rare ones, then those without positives.

    Rare classes are those with fewer than `FEWEST_POSITIVES` images. In a long tail, the lowest values would
    be those of classes with single images.
    """

    def place(r: Row) -> tuple[bool, bool, float, int]:
        is_known = r["ap"] == r["ap"]
        return not is_known, r["n_positives"] < FEWEST_POSITIVES, r["ap"] if is_known else 0.0, r["class_id"]

    return sorted(rows, key=place)


def first_of(rows: Sequence[Row]) -> str:
    """Return among which classes the first of `worst_first` has the lowest value; empty if among all."""
    n = [r["n_positives"] for r in rows if r["ap"] == r["ap"]]
    is_part = min(n) < FEWEST_POSITIVES <= max(n)
    return f" of classes with {FEWEST_POSITIVES} images or more" if is_part else ""


def mean_ap(rows: Sequence[Row]) -> tuple[float, int]:
    """Return mean average precision over the classes that have one, and the number of these classes."""
    values = [r["ap"] for r in rows if not math.isnan(r["ap"])]
    return (float(np.mean(values)) if values else float("nan")), len(values)


def best_first(models: Mapping[tuple[str, str], Sequence[Row]], dataset: str) -> Iterator[str]:
    """Yield the models of a data set by mean average precision, the highest first."""
    values = {model: mean_ap(rows)[0] for (name, model), rows in models.items() if name == dataset}
    yield from sorted(values, key=lambda model: (-np.nan_to_num(values[model], nan=-1.0), model))
