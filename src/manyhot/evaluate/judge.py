"""Judge models on label sets: from labels and predictions to results, pairs and samples."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.classes import ClassList, class_list_of
from manyhot.core.estimates import Estimate, Pooled
from manyhot.core.jackknife import UNVARYING, Scale, jackknife_interval, resampled_interval
from manyhot.core.ratio_intervals import FEW_IMAGES, FEWEST_CASES
from manyhot.core.resampling import Bootstrap, draw_counts
from manyhot.core.sets import Case, LabelSets
from manyhot.errors import InputError
from manyhot.evaluate.audited import MAP_MACRO, AuditedImages
from manyhot.evaluate.audited_values import (
    NO_SUMS,
    NOT_WHOLE,
    Auditor,
    unaudited,
    with_class_masks,
)
from manyhot.evaluate.columns import ImageValues, Sampler
from manyhot.evaluate.confidence import Pictured, Row
from manyhot.evaluate.per_class.class_tables import ClassTables
from manyhot.evaluate.posterior import Posterior
from manyhot.evaluate.requirements import (
    case_for,
    default_entries,
    depends_on_sets,
    depth_of,
    entries_of,
    link_notes,
    unmet,
)
from manyhot.evaluate.results import Evaluation, Note, Number
from manyhot.evaluate.slices import ALL, BY_SIZE, Slices, case_of, check_order, make_slices, score_doubts
from manyhot.parameters import RESAMPLES, check_draws
from manyhot.registry import Entry
from manyhot.tables import Alignment, Images, Labels, Predictions, align, check_same_classes
from manyhot.tables.arrays import label_sets
from manyhot.tables.result_tables import describe_metric
from manyhot.tables.skipped_files import SkippedFiles, fitting_models


@dataclass(frozen=True)
class Resampling:
    """Options of the bootstrap, which are parameters of `manyhot.evaluate`."""

    resamples: int = RESAMPLES
    seed: int = 0
    map_resamples: int = 0
    posterior: int = 0

    def __post_init__(self) -> None:
        check_draws(self.resamples, self.seed)


DEFAULT = Resampling()


def judge_models(
    labels: Labels,
    predictions: Iterable[Predictions],
    *,
    metrics: Sequence[str] | None = None,
    slices: Sequence[str] = (),
    images: Images | None = None,
    classes: ClassList | None = None,
    resampling: Resampling = DEFAULT,
    trust_order: bool = False,
    dataset: str = "",
    misfits: SkippedFiles | None = None,
    per_class: bool = False,
    keep_undefined: bool = False,
    audit: AuditedImages | None = None,
    progress: Callable[[int, str], None] | None = None,
) -> Evaluation:
    """Evaluate models on the label sets of one data set.

    Predictions are read one model at a time and joined to the labels by image id.

    Parameters
    ----------
    labels : Labels
    predictions : iterable of Predictions
    metrics, slices
        As in `manyhot.evaluate`.
    images : Images, optional
        Images table with original labels, if `labels` has none, and with columns to slice by.
    classes : ClassList, optional
        Class list with superclasses and keys; by default ``imagenet1k`` if this is the class list of the
        labels.
    resampling : Resampling
    trust_order : bool
        Whether to evaluate predictions even if their rows or classes seem to be in a different order than
        declared.
    dataset : str
        Name of the data set in the results; by default the name of the labels.
    misfits : SkippedFiles, optional
        Collects models that do not match, which are skipped with a note. If None, the first such model raises
        an error.
    per_class : bool
        Whether to evaluate each class of models with scores of all classes, if there are no original labels.
    keep_undefined : bool
        Whether a metric that cannot be computed for a model has an undefined value instead of no value.
    audit : AuditedImages, optional
        People's label sets of a random sample of the images, which correct values on `labels`.
    progress : callable, optional
        Function that is called with the number of completed models and the name of the last, and once more at
        the end.

    Raises
    ------
    MatchError
        If labels and a model share no image, or are over different class lists.
    OrderError
        If rows or classes seem to be in a different order than declared.
    UnknownNameError
        If a metric is not registered.
    """
    labels = labels if images is None else labels.with_labels(images)
    if audit is not None and "rated" in labels.table.column_names:
        labels = replace(labels, table=labels.table.drop(["rated"]))  # whoever rated the proposals
    sets = label_sets(labels)
    dataset, classes = dataset or labels.name, classes or class_list_of(labels.class_hash)
    judge = Judge(
        labels,
        sets,
        dataset,
        make_slices(
            labels,
            sets,
            images=images,
            classes=classes,
            requested=[slices] if isinstance(slices, str) else slices,
        ),
        requested=None if metrics is None else entries_of(metrics),
        resampling=resampling,
        trust_order=trust_order,
        keep_undefined=keep_undefined,
        per_class=ClassTables(dataset, sets.n_classes, classes) if per_class and audit is None else None,
        audit=audit,
    )
    misfits, n = misfits or SkippedFiles(), 0
    for n, (model, fitted) in enumerate(fitting_models(predictions, judge.fit, misfits), 1):
        judge.add(model, *fitted)
        if progress:
            progress(n, model.model)
    evaluation = judge.finish()
    if progress:
        progress(n + 1, "intervals and pairs")
    remarks = [Note(judge.dataset, "", "classes", 0, text) for text in misfits.new_remarks()]
    matched = [Note(judge.dataset, name, "matched", n, text) for name, n, text in misfits.new_matched()]
    skipped = [Note(judge.dataset, name, "skipped", 0, text) for name, text in misfits.new()]
    return evaluation.with_notes([*remarks, *matched, *skipped])


def unmatched_note(dataset: str, model: str, kind: str, n: int, matched: int) -> Note:
    """Return the note on n images that only the predictions, or only the labels have."""
    what = {
        "predictions_unmatched": "predicted images have no labels",
        "labels_unmatched": "labelled images have no prediction",
    }[kind]
    return Note(dataset, model, kind, n, f"{n:,} of {n + matched:,} {what} and were left out")


@dataclass
class Judge:
    """Judges models one by one.

    Parameters
    ----------
    labels, sets : Labels, LabelSets
        The labels and the label sets of the same images, row for row.
    dataset : str
    slices : Slices
    requested : list of Entry, optional
        Metrics of all models; by default, those of `default_entries` for each model.
    resampling : Resampling
    trust_order : bool
    keep_undefined : bool
    per_class : ClassTables, optional
        Collects the results of each class, if there are no original labels.
    audit : AuditedImages, optional
        As in `judge_models`.
    """

    labels: Labels
    sets: LabelSets
    dataset: str
    slices: Slices
    requested: list[Entry] | None
    resampling: Resampling
    trust_order: bool
    keep_undefined: bool = False
    per_class: ClassTables | None = None
    audit: AuditedImages | None = None
    _rows: list[Number] = field(default_factory=list)
    _notes: list[Note] = field(default_factory=list)
    _doubts: dict[str, list[str]] = field(default_factory=dict)
    _last: tuple[pa.Array, Alignment, LabelSets] | None = None
    _skipped: dict[str, InputError] = field(default_factory=dict)
    _intervals: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.audit is not None:
            self.slices = with_class_masks(self.slices, self.sets)
        self._bootstrap = Bootstrap(self.slices.masks, self.resampling.resamples, self.resampling.seed)
        self._auditor: Auditor | None = None
        if self.audit is not None:
            options = self.resampling
            cells = self._bootstrap.cells
            self._auditor = Auditor(self.audit, self.slices, cells, options.resamples, options.seed)
            if not self.audit.audit.population:  # original labels are known for all of these images
                self.resampling = replace(options, resamples=0)
        self._sampler = Sampler(self.slices, self._bootstrap)
        self._pictured = Pictured(self.dataset)
        options = self.resampling
        draws, resamples = options.posterior, max(options.resamples, options.posterior)
        draws = draws if self.audit is None else 0  # the audit draws people's label sets
        self._posterior = draws and Posterior(self.dataset, self.sets, draws, resamples, options.seed)

    def fit(self, predictions: Predictions) -> tuple[Case, Alignment]:
        """Match a model to the labels.

        Raises
        ------
        MatchError, OrderError
            As in `judge_models`.
        """
        check_same_classes(self.labels, predictions)
        alignment, sets = self._align(predictions)
        depth = max(depth_of(self.requested or ()), int(sets.size.max(initial=1)))
        depth = max(depth, self._posterior.depth) if self._posterior else depth
        depth = depth if self.audit is None else max(depth, self.audit.depth)
        if self.audit is not None and self.audit.models is not None:
            sets = self.audit.models.without(predictions.model).take(alignment.left)
        case = case_of(sets, predictions, alignment, depth)
        if not self.trust_order:
            check_order(case, predictions, alignment)
        return case, alignment

    def add(self, predictions: Predictions, case: Case, alignment: Alignment) -> None:
        """Evaluate one model that was matched to the labels."""
        self._note_unmatched(predictions.model, alignment)
        if not self.trust_order:
            for text in score_doubts(case, self.labels.class_list or class_list_of(self.labels.class_hash)):
                self._notes.append(Note(self.dataset, predictions.model, "scores", len(case.labels), text))
        metrics = default_entries(case) if self.requested is None else self.requested
        metrics = self._without_unmet(metrics, case, predictions)
        if self._auditor is not None:
            metrics = self._audited(self._auditor, metrics, case, predictions, alignment.left)
        for text in link_notes(metrics, case):
            self._notes.append(Note(self.dataset, predictions.model, "link", len(case.labels), text))
        pooled = dict[str, str]()
        for metric in metrics:
            estimate = metric(case_for(metric, case))
            needs_answers = isinstance(estimate, Pooled) and depends_on_sets(metric)
            if self._auditor is None or not (needs_answers or metric.name == MAP_MACRO):
                self._rows += self._judge(predictions.model, metric, estimate, case, alignment.left)
            elif metric.name != MAP_MACRO:
                pooled[metric.name] = NO_SUMS
            elif number := self._average_precision(self._auditor, predictions.model, case, alignment.left):
                self._rows.append(number)
            else:
                pooled[metric.name] = NOT_WHOLE
        self._leave_out(predictions.model, pooled)
        if self._posterior:
            self._posterior.add(predictions.model, case, metrics, alignment.left)
        self._note_doubts(predictions.model, len(case.labels))
        if self.per_class is not None and not self.sets.labelled.any():
            self.per_class.add(predictions.model, case, len(self.sets) - len(case.labels))
        wrong = self._pictured.add(
            predictions.model, case, self._audited_bins(predictions.model, alignment.left)
        )
        if wrong:
            self._notes.append(Note(self.dataset, predictions.model, "confidence", len(case.labels), wrong))
        if self._sampler.is_full:
            self._add_intervals()

    def finish(self) -> Evaluation:
        """Return the results of all added models, with intervals and pairs."""
        if not self._rows and not self._skipped:
            raise InputError(
                "There are no predictions to evaluate.", do="pass predictions of at least one model"
            )
        self._check_complete()
        if self._auditor is not None:
            self._auditor.asked.check(self._rows)
            self._auditor.balance.check(self.dataset)
            self._notes += self._auditor.asked.notes(self.dataset)
            self._notes += self._auditor.raters.notes(self.dataset)
        self._add_intervals()
        values = {(n.model, n.metric, n.slice): n.value for n in self._rows}
        metrics = {
            name: describe_metric(name)
            | ({"interval": method} if (method := self._intervals.get(name)) else {})
            for name in dict.fromkeys(r.metric for r in self._rows)
        }
        about = {
            "metrics": json.dumps(metrics),
            "resamples": str(self._bootstrap.resamples),
            "seed": str(self.resampling.seed),
            "classes": self.labels.class_hash,
        }
        pairs = [*self._sampler.pairs(self.dataset, values)]
        samples = self._sampler.samples(self.dataset)
        if self._auditor is not None:
            audited = self._auditor.pairs
            pairs += audited.rows(self.dataset, list(dict.fromkeys(n.model for n in self._rows)))
            samples = pa.concat_tables([samples, audited.samples(self.dataset, self._rows)])
        evaluation = Evaluation.of(self._rows, pairs, samples, self._notes, about)
        per_class = {} if self.per_class is None else self.per_class.tables()
        posterior = self._posterior.tables(evaluation.pairs) if self._posterior else {}
        confidence = self._pictured.tables()
        return replace(evaluation, confidence=confidence, per_class=per_class, posterior=posterior)

    def _without_unmet(self, metrics: Sequence[Entry], case: Case, predictions: Predictions) -> list[Entry]:
        """Return the metrics that can be computed for a model, and note the others."""
        skipped = set[str]()
        for lack in unmet(metrics, case, predictions):
            skipped.update(lack.names)
            text = lack.note(undefined=self.keep_undefined)
            note = Note(self.dataset, predictions.model, lack.kind, len(lack.names), text)
            self._notes.append(note)
            error = lack.error(predictions.source or predictions.model)
            self._skipped |= {name: error for name in lack.names if name not in self._skipped}
        if self.keep_undefined:
            return list(metrics)
        return [metric for metric in metrics if metric.name not in skipped]

    def _audited(
        self,
        auditor: Auditor,
        metrics: Sequence[Entry],
        case: Case,
        predictions: Predictions,
        rows: npt.NDArray[np.int64],
    ) -> list[Entry]:
        """Return the metrics that can be estimated from an audit, and note the others."""
        metrics = self._without_unmet(metrics, auditor.case(case, rows), predictions)
        without = {m.name: reason for m in metrics if (reason := unaudited(m, auditor.images))}
        self._leave_out(predictions.model, without)
        metrics = [metric for metric in metrics if metric.name not in without]
        judged = auditor.judged(predictions.model, metrics, case, rows)
        self._skipped |= {m.name: auditor.asked.error(m.name) for m in metrics if m not in judged}
        return judged

    def _audited_bins(
        self, model: str, rows: npt.NDArray[np.int64]
    ) -> Callable[[Case], tuple[list[Row], str]] | None:
        """Return what estimates the reliability table of a model; None without an audit."""
        auditor = self._auditor
        return None if auditor is None else lambda case: auditor.reliability(self.dataset, model, case, rows)

    def _average_precision(
        self, auditor: Auditor, model: str, case: Case, rows: npt.NDArray[np.int64]
    ) -> Number | None:
        n = int(np.count_nonzero(case.labels.usable))
        empty = Number(self.dataset, model, MAP_MACRO, ALL, float("nan"), None, None, n, len(rows) - n)
        number = auditor.average_precision(empty, case, rows)
        if number is not None:
            self._intervals[MAP_MACRO] = "audit"
        return number

    def _leave_out(self, model: str, without: Mapping[str, str]) -> None:
        """Note which metrics are not audited, by their names, and why."""
        by_reason: dict[str, list[str]] = {}
        for name, reason in without.items():
            by_reason.setdefault(reason, []).append(name)
            error = InputError(f"{name} cannot be audited: {reason}.", do="leave it out of `metrics`")
            self._skipped.setdefault(name, error)
        for reason, names in by_reason.items():
            text = f"{', '.join(names)} left out: {reason}"
            self._notes.append(Note(self.dataset, model, "not_audited", len(names), text))

    def _check_complete(self) -> None:
        """Raise an error if no model has a requested metric; leave out defaults that count no image.

        Without original labels, the metrics that need them count none.
        """
        if self.requested is not None:
            found = {row.metric for row in self._rows}
            for metric in self.requested:
                if metric.name not in found:
                    raise self._skipped[metric.name]
        elif not self.sets.labelled.any():
            counted = {row.metric for row in self._rows if row.n}
            self._rows = [row for row in self._rows if row.metric in counted]

    def _align(self, predictions: Predictions) -> tuple[Alignment, LabelSets]:
        # Models of one data set usually list the same images in the same order.
        if self._last is not None and self._last[0].equals(predictions.image_id):
            return self._last[1:]
        name = self.labels.name or "the labels"
        alignment = align(
            self.labels.image_id, predictions.image_id, left_name=name, right_name=predictions.model
        )
        sets = self.sets if not alignment.left_only else self.sets.take(alignment.left)
        self._last = (predictions.image_id, alignment, sets)
        return alignment, sets

    def _note_unmatched(self, model: str, alignment: Alignment) -> None:
        matched = len(alignment.right)
        counts = {"predictions_unmatched": alignment.right_only, "labels_unmatched": alignment.left_only}
        self._notes += [
            unmatched_note(self.dataset, model, kind, n, matched) for kind, n in counts.items() if n
        ]

    def _judge(
        self, model: str, metric: Entry, estimate: Estimate, case: Case, rows: npt.NDArray[np.int64]
    ) -> Iterable[Number]:
        if isinstance(estimate, Pooled):
            return self._pooled(model, metric, estimate, rows)
        by_wilson = bool(self.resampling.resamples) and metric.about.get("interval") == "wilson"
        scale = _scale(metric, "log")
        column = ImageValues.spread(model, metric.name, estimate, rows, len(self.sets), by_wilson, scale)
        numbers = column.in_slices(self.dataset, self.slices, self._bootstrap.cells, self.sets, rows)
        if self._auditor is not None:
            numbers = self._auditor.estimates(column, metric, case, rows, numbers)
        if self._auditor is not None and depends_on_sets(metric):
            self._intervals[metric.name] = "audit"
            return numbers
        if self.resampling.resamples:
            self._intervals[metric.name] = self._sampler.add(column)
        return numbers

    def _pooled(
        self, model: str, metric: Entry, estimate: Pooled, rows: npt.NDArray[np.int64]
    ) -> Iterator[Number]:
        r, scale = self.resampling.map_resamples, _scale(metric, "plain")
        for name, mask in zip(self.slices.names, self.slices.masks, strict=True):
            if self._auditor is not None and name in BY_SIZE:
                continue  # people decide which images are inside
            inside = mask[rows]
            scored = estimate.scored & inside
            n = int(np.count_nonzero(scored))
            value = estimate.value(inside) if n else float("nan")
            changes, reason = self._left_out(estimate, inside, value)
            ends = jackknife_interval(value, changes, scale=scale)
            if name == ALL and len(changes):
                self._sampler.add_changes(model, metric.name, changes, rows[scored])
                if np.isnan(ends[0]):
                    self._doubts.setdefault(reason or UNVARYING, []).append(metric.name)
            if name == ALL and r and estimate.biased:
                self._doubts.setdefault(estimate.biased, []).append(metric.name)
            elif name == ALL and r:
                counts = draw_counts(len(rows), r, np.random.default_rng(self.resampling.seed))
                drawn = np.array([estimate.value(c) for c in counts])
                ends = resampled_interval(value, drawn, n=n, scale=scale)
                self._intervals[metric.name] = "resampled"
                if n and np.isnan(ends[0]) and not len(changes):
                    self._doubts.setdefault(UNVARYING, []).append(metric.name)
            elif not np.isnan(ends[0]):
                self._intervals.setdefault(metric.name, "jackknife")
            lo, hi = (None, None) if np.isnan(ends[0]) else ends
            skipped = int(np.count_nonzero(inside)) - n
            yield Number(self.dataset, model, metric.name, name, value, lo, hi, n, skipped)

    def _left_out(
        self, estimate: Pooled, inside: npt.NDArray[np.bool_], value: float
    ) -> tuple[npt.NDArray[np.float64], str]:
        """Return what leaving out each scored image changes; NaN and why, or empty, without interval."""
        if not self.resampling.resamples or estimate.left_out is None or np.isnan(value):
            return np.empty(0), ""
        scored, reason = estimate.scored & inside, estimate.doubt(inside)
        if reason:
            return np.full(np.count_nonzero(scored), np.nan), reason
        return estimate.left_out(inside)[scored], ""

    def _note_doubts(self, model: str, n: int) -> None:
        """Note why metrics have no interval."""
        if self._auditor is not None:
            self._doubts |= self._auditor.pairs.doubts
            self._auditor.pairs.doubts.clear()
        for reason, metrics in self._doubts.items():
            text = f"no interval of {', '.join(metrics)}: {reason}"
            self._notes.append(Note(self.dataset, model, "no_interval", n, text))
        self._doubts.clear()

    def _add_intervals(self) -> None:
        """Draw the intervals of the models added since the last time."""
        intervals, without = self._sampler.intervals(), dict[str, dict[str, list[str]]]()
        for i, number in enumerate(self._rows):
            ends = (
                intervals.get((number.model, number.metric, number.slice)) if not number.estimator else None
            )
            if ends and number.n and not np.isnan(ends).any():
                self._rows[i] = replace(number, lo=ends[0], hi=ends[1])
            elif ends and number.n and number.slice == ALL:
                skewed = number.n < FEWEST_CASES and describe_metric(number.metric).get("unit") != "share"
                reasons = without.setdefault(number.model, {})
                reasons.setdefault(FEW_IMAGES if skewed else UNVARYING, []).append(number.metric)
        for model, reasons in without.items():
            self._doubts |= reasons
            self._note_doubts(model, len(self.labels))


def _scale(metric: Entry, other: Scale) -> Scale:
    """Return the scale of the intervals of a metric: logit of a share."""
    if metric.about.get("interval") == "correlation":
        return "correlation"
    return "logit" if metric.about.get("unit", "share") == "share" else other
