"""Judge the models of a data set one by one: from labels and predictions to results, pairs and samples."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.core.array_types import Floats
from manyhot.core.estimates import Estimate, Pooled
from manyhot.core.sets import Case, LabelSets
from manyhot.core.threads import one_blas_thread
from manyhot.data.data_sets import Source
from manyhot.errors import InputError, PlugInError, first_names
from manyhot.evaluate.audited import MAP_MACRO
from manyhot.evaluate.audited_values import NO_SUMS, NOT_WHOLE, Auditor, unaudited
from manyhot.evaluate.class_thresholds import ClassThresholds
from manyhot.evaluate.clusters import cluster_text, confined_text
from manyhot.evaluate.columns import ImageValues, PooledValue, Sampler
from manyhot.evaluate.compared_pairs import NO_PAIRS, ComparedPairs, drawn_images, may_compare, reference_of
from manyhot.evaluate.judge_options import JudgeOptions
from manyhot.evaluate.judged_batches import JudgedBatch, JudgedModels, JudgedOn, has_own_metrics
from manyhot.evaluate.missing_numbers import (
    no_interval_text,
    not_a_number,
    own_classes_notes,
    why_no_interval,
)
from manyhot.evaluate.per_class.class_tables import ClassTables, PointSettings
from manyhot.evaluate.posterior import Posterior
from manyhot.evaluate.prediction_checks import check_order, score_doubts
from manyhot.evaluate.reliability import Pictured
from manyhot.evaluate.requirements import (
    by_class_thresholds,
    case_for,
    default_entries,
    depends_on_sets,
    depth_of,
    entries_of,
    masks_classes,
    metric_notes,
    scale_of,
    unmet,
    uses_top_class,
)
from manyhot.evaluate.result_rows import Note, Number, unmatched_notes
from manyhot.evaluate.results import Evaluation
from manyhot.evaluate.sampled_pairs import SampledPairs
from manyhot.evaluate.slices import (
    ALL,
    BY_SIZE,
    case_of,
    is_requested,
    labels_of,
    make_slices,
)
from manyhot.registry import Entry
from manyhot.tables import Alignment, Predictions, align, check_same_classes
from manyhot.tables.arrays import label_sets
from manyhot.tables.result_tables import is_over_classes


class Judge:
    """Judges the models of a data set one by one."""

    def __init__(self, source: Source, options: JudgeOptions, *, are_chosen: bool = True) -> None:
        labels, audit = labels_of(source), options.audit
        if audit is not None and "rated" in labels.table.column_names:
            labels = replace(labels, table=labels.table.drop(["rated"]))  # whoever rated the proposals
        sets, classes = label_sets(labels), source.classes or labels.known_classes
        slices = make_slices(
            labels,
            sets,
            images=source.images,
            classes=classes,
            requested=options.slices,
            misfits=source.misfits,
        )
        self._dataset, self._labels, self._sets, self._classes = source.name, labels, sets, classes
        own = options.thresholds
        self._thresholds = None if own is None else ClassThresholds.read(own)
        self._requested = None if options.metrics is None else entries_of(options.metrics)
        self._slices = slices if audit is None and options.clusters is None else slices.with_class_masks(sets)
        self._bootstrap = options.bootstrap(self._slices.masks, labels, source.images)
        self._auditor: Auditor | None = None
        if audit is not None:
            self._auditor = Auditor(audit, self._slices, labels.image_id, self._bootstrap)
            if not audit.audit.population:  # original labels are known for all of these images
                options = replace(options, resamples=0)
        self._pairs = SampledPairs(labels.image_id, reference_of(options.compare_with))
        self._sampler = Sampler(self._slices, self._bootstrap, self._pairs)
        self._pictured, self._options = Pictured(source.name), options
        draws = options.posterior if audit is None else 0  # the audit draws people's label sets
        resamples = max(options.resamples, draws)
        self._posterior = draws and Posterior(source.name, sets, draws, resamples, options.seed)
        by_class = options.per_class and audit is None
        points = PointSettings(masked=masks_classes(options.metrics))
        self._per_class = ClassTables(source.name, sets.n_classes, classes, points) if by_class else None
        self._judged, self._doubts, self._are_chosen = JudgedModels(), dict[str, list[str]](), are_chosen
        self._seen = np.zeros(len(sets), bool)
        self._last: tuple[pa.Array, Alignment, LabelSets] | None = None

    @property
    def has_default_metrics(self) -> bool:
        """Whether the default metrics of each model are computed, because none were selected."""
        return self._requested is None

    def fit(self, predictions: Predictions) -> tuple[Case, Alignment]:
        """Match a model to the labels.

        Raises
        ------
        MatchError, OrderError
            As in `judge_models`.
        """
        check_same_classes(self._labels, predictions)
        alignment, sets = self._align(predictions)
        if self._bootstrap.clusters is not None:
            seen = np.zeros_like(self._seen)
            seen[alignment.left] = True
            self._seen = self._seen | seen  # not in place: on Ray, workers get it read-only
        depth = max(depth_of(self._requested or ()), int(sets.size.max(initial=1)))
        depth = max(depth, self._posterior.depth) if self._posterior else depth
        audit = self._options.audit
        depth = depth if audit is None else max(depth, audit.depth)
        if audit is not None and audit.models is not None:
            sets = audit.models.without(predictions.model).take(alignment.left)
        case = case_of(sets, predictions, alignment, depth)
        if self._thresholds is not None:
            scored = predictions.model, self._classes, sets.n_classes, predictions.score_kind
            case = replace(case, thresholds=self._thresholds.of(*scored))
        if not self._options.trust_order:
            check_order(case, predictions, alignment)
        return case, alignment

    def add(self, predictions: Predictions, case: Case, alignment: Alignment) -> None:
        """Evaluate one model that was matched to the labels.

        BLAS uses one thread, because with several threads, the order of additions depends on the number of
        cores.
        """
        with one_blas_thread():
            self._add(predictions, case, alignment)
        if self._sampler.is_full:
            self.resample()

    def _add(self, predictions: Predictions, case: Case, alignment: Alignment) -> None:
        model, rows = predictions.model, alignment.left
        self._judged.notes += unmatched_notes(self._dataset, model, alignment)
        metrics = default_entries(case) if self._requested is None else self._requested
        if not self._options.trust_order:
            classes = self._labels.known_classes
            for text in score_doubts(case, classes, has_top=any(map(uses_top_class, metrics))):
                self._note(model, "scores", len(case.labels), text)
        metrics = self._without_unmet(metrics, case, predictions)
        if self._auditor is not None:
            metrics = self._audited(self._auditor, metrics, case, predictions, rows)
        for kind, text in metric_notes(metrics, case):
            self._note(model, kind, len(case.labels), text)
        if self._thresholds is not None:
            used = [metric.name for metric in by_class_thresholds(metrics, case)]
            self._note(
                model, "thresholds", len(used), self._thresholds.note(model, used, self._labels.image_id)
            )
        pooled, failed = dict[str, str](), set[str]()
        for metric in metrics:
            try:
                self._judged.rows += self._values(model, metric, case, rows, pooled)
            except InputError as error:
                if self._requested is None and not isinstance(error, PlugInError):
                    raise  # something is wrong with the data, and not with the choice of metrics
                failed.add(metric.name)
                self._judged.skipped.setdefault(metric.name, error)
                self._note(model, "failed", 1, f"{metric.name} left out: {error.in_a_line()}")
        metrics = [metric for metric in metrics if metric.name not in failed]
        self._leave_out(model, pooled)
        if self._posterior:
            self._posterior.add(model, case, metrics, rows)
        self._note_doubts(model, len(case.labels), self._judged.notes, case.labels)
        if self._per_class is not None and not self._sets.labelled.any():
            n_unmatched, clusters = len(self._sets) - len(case.labels), self._bootstrap.clusters_at(rows)
            self._per_class.add(model, case, n_unmatched, clusters)
        case.forget()
        auditor = self._auditor
        bins = None if auditor is None else partial(auditor.reliability, self._dataset, model, rows=rows)
        if wrong := self._pictured.add(model, case, bins):
            self._note(model, "confidence", len(case.labels), wrong)
        self._judged.models.append(model)
        if not may_compare(self._options.compare_with, len(self._judged.models)):
            self._pairs.stop()

    def _values(
        self, model: str, metric: Entry, case: Case, rows: npt.NDArray[np.int64], pooled: dict[str, str]
    ) -> list[Number]:
        """Return the values of a metric; `pooled` collects why there are none in an audit."""
        estimate = metric(case_for(metric, case))
        needs_answers = isinstance(estimate, Pooled) and depends_on_sets(metric)
        if self._auditor is None or not (needs_answers or metric.name == MAP_MACRO):
            return [*self._judge(model, metric, estimate, case, rows)]
        if metric.name != MAP_MACRO:
            pooled[metric.name] = NO_SUMS
        elif number := self._auditor.average_precision(self._dataset, model, case, rows):
            self._judged.intervals[MAP_MACRO] = "audit"
            return [number]
        else:
            pooled[metric.name] = NOT_WHOLE
        return []

    def resample(self) -> None:
        """Compute the intervals of the models added since the last call, which then form a batch."""
        self._add_intervals()
        self._judged.n_batched = len(self._judged.models)

    def draw(self) -> None:
        """Draw the resamples that all models and copies of this judge share, if they fit into memory."""
        self._bootstrap.draw_once()

    @property
    def can_be_kept(self) -> bool:
        """Whether batches can be kept: not with audits, drawn sets, tables by class or plug-in metrics."""
        by_class = self._per_class is not None and not self._sets.labelled.any()
        return not (self._auditor or self._posterior or by_class or has_own_metrics())

    @property
    def key(self) -> str:
        """A hash of the labels, the slices and the options."""
        return self._depends_on.key()

    @property
    def _depends_on(self) -> JudgedOn:
        data = (self._dataset, self._labels, self._sets, self._slices, self._requested)
        return JudgedOn(*data, self._options, self._bootstrap.clusters, self._thresholds)

    def batch(self) -> JudgedBatch | None:
        """Return the results of the last batch of models, for `restore`; None before it has intervals."""
        if not self._judged.is_batch:
            return None
        models = self._judged.unkept
        batch = self._judged.batch(self._pairs.of_models(models))
        batch.about["pictured"] = self._pictured.of_models(models)
        if self._bootstrap.clusters is not None:
            batch.arrays["seen"] = self._seen
        batch.tables = [] if self._per_class is None else self._per_class.parts
        batch.posterior = self._posterior.values if self._posterior else {}
        return batch

    def restore(self, batch: JudgedBatch) -> None:
        """Add the results of a batch of models from another process or an interrupted run."""
        self._judged.restore(batch)
        self._pictured.restore(batch.about["pictured"])
        self._pairs.restore(batch)
        if self._bootstrap.clusters is not None:
            self._seen = self._seen | batch.arrays["seen"]
        if self._per_class is not None:
            self._per_class.parts += batch.tables
        if self._posterior:
            self._posterior.values |= batch.posterior
        if not may_compare(self._options.compare_with, len(self._judged.models)):
            self._pairs.stop()

    def cluster_changes(self, metric: str) -> Floats | None:
        """Return the change in the difference of two models if each cluster is left out; None if unknown."""
        clusters = self._bootstrap.clusters
        return None if clusters is None else self._pairs.cluster_changes(metric, clusters)

    def finish(self) -> Evaluation:
        """Return the results of all added models, with intervals and pairs."""
        if not self._judged.rows and not self._judged.skipped:
            raise InputError(
                "There are no predictions to evaluate.", do="pass predictions of at least one model"
            )
        self._check_complete()
        self._last, self._sets = None, replace(self._sets)  # without what models left in them
        auditor, dataset, judged = self._auditor, self._dataset, self._judged
        if auditor is not None:
            auditor.asked.check(judged.rows)
            auditor.balance.check(dataset)
            judged.notes += [*auditor.asked.notes(dataset), *auditor.raters.notes(dataset)]
        self._add_intervals()
        judged.notes += [*own_classes_notes(dataset, judged.compared, self._class_names)]
        judged.notes += judged.interval_notes
        about = {
            "metrics": json.dumps(judged.described(by_clusters=self._bootstrap.clusters is not None)),
            "resamples": str(self._bootstrap.resamples),
            "seed": str(self._options.seed),
            "classes": self._labels.class_hash,
        }
        compared = self._compared()
        values = {(n.model, n.metric, n.slice): n.value for n in judged.rows}
        values |= {(model, metric, ALL): value for metric, model, value, _ in judged.compared}
        about |= judged.about_compared(dataset)
        self._pairs.sort(values)
        pairs = [*self._pairs.rows(dataset, values, compared)]
        samples = self._pairs.samples(dataset)
        if self._pairs.is_too_large:
            text = (
                "later calls cannot compare these models with others, because their values for each image "
                "take more than 64 MB and are not stored; if they should, evaluate fewer models at a time"
            )
            self._note("", "pairs", 0, text)
        if auditor is None:
            about |= drawn_images(dataset, self._labels.image_id, self._bootstrap)
            about |= self._depends_on.about()
        else:
            pairs += auditor.pairs.rows(dataset, list(dict.fromkeys(n.model for n in judged.rows)), compared)
            samples = pa.concat_tables([samples, auditor.pairs.samples(dataset, judged.rows)])
        about |= compared.about(dataset)
        if self._thresholds is not None:
            about |= {"thresholds": json.dumps(self._thresholds.by_model)}
        per_class = {} if self._per_class is None else self._per_class.tables()
        confidence = self._pictured.tables()
        judged.notes += self._cluster_notes(confidence)
        evaluation = Evaluation.of(judged.rows, pairs, samples, judged.notes, about)
        posterior = self._posterior.tables(evaluation.pairs, compared) if self._posterior else {}
        inputs = {} if self._thresholds is None else self._thresholds.inputs
        evaluation = replace(evaluation, per_class=per_class, inputs=inputs)
        return replace(evaluation, confidence=confidence, posterior=posterior)

    def _cluster_notes(self, confidence: Mapping[str, pa.Table]) -> Iterator[Note]:
        """Yield a note that says over how many clusters of the judged images intervals are computed."""
        clusters, options = self._bootstrap.clusters, self._options
        if clusters is None or not self._bootstrap.resamples:
            return
        has_bins = options.per_class and any(len(table) for table in confidence.values())
        by_image = ["bins of confidence"] * has_bins
        masks = zip(self._slices.names, self._slices.masks, strict=True)
        slices = {name: mask for name, mask in masks if is_requested(name, options.slices)}
        column = options.clusters if isinstance(options.clusters, str) else ""
        text = cluster_text(clusters, column, self._seen, slices, by_image)
        yield Note(self._dataset, "", "clusters", clusters.count(self._seen), text)
        has_macro = any(map(is_over_classes, {row.metric for row in self._judged.rows}))
        if has_macro and (text := confined_text(clusters, self._sets, self._seen, self._class_names)):
            yield Note(self._dataset, "", "clusters", 0, text)

    @property
    def _class_names(self) -> Sequence[str]:
        return self._classes.names if self._classes else tuple(map(str, range(self._sets.n_classes)))

    def _note(self, model: str, kind: str, n: int, text: str) -> None:
        self._judged.notes.append(Note(self._dataset, model, kind, n, text))

    def _compared(self) -> ComparedPairs:
        """Return which pairs of the models are compared, and note if some are not."""
        if not self._bootstrap.resamples and not self._posterior:
            return ComparedPairs(NO_PAIRS)
        compare_with = self._options.compare_with
        compared = ComparedPairs.choose(compare_with, self._judged.models)
        if text := compared.note(compare_with, len(self._judged.models)):
            self._note("", "pairs", 0, text)
        return compared

    def _without_unmet(self, metrics: Sequence[Entry], case: Case, predictions: Predictions) -> list[Entry]:
        """Return the metrics that can be computed for a model, and note the others."""
        skipped = set[str]()
        for lack in unmet(metrics, case, predictions):
            skipped.update(lack.names)
            text = lack.note(undefined=self._options.keep_undefined)
            self._note(predictions.model, lack.kind, len(lack.names), text)
            error = lack.error(predictions.source or predictions.model)
            self._judged.skipped |= {name: error for name in lack.names if name not in self._judged.skipped}
        if self._options.keep_undefined:
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
        self._judged.skipped |= {m.name: auditor.asked.error(m.name) for m in metrics if m not in judged}
        return judged

    def _leave_out(self, model: str, without: Mapping[str, str]) -> None:
        """Note which metrics are not audited, by their names, and why."""
        by_reason: dict[str, list[str]] = {}
        for name, reason in without.items():
            by_reason.setdefault(reason, []).append(name)
            error = InputError(f"{name} cannot be audited: {reason}.", do="leave it out of `metrics`")
            self._judged.skipped.setdefault(name, error)
        for reason, names in by_reason.items():
            text = f"{', '.join(names)} left out: {reason}"
            self._note(model, "not_audited", len(names), text)

    def _check_complete(self) -> None:
        """Raise an error if no model has a requested metric; leave out defaults that count no image.

        Without original labels, the metrics that need them count none, nor does top5 of two original labels.
        If there are values of other requested metrics, one that does not fit is only noted.
        """
        if self._requested and not self._judged.rows:
            raise self._judged.skipped[self._requested[0].name]
        counted = {row.metric for row in self._judged.rows if row.n}
        if (self._requested is None and not self._sets.labelled.any()) or (counted and not self._are_chosen):
            self._judged.rows = [row for row in self._judged.rows if row.metric in counted]

    def _align(self, predictions: Predictions) -> tuple[Alignment, LabelSets]:
        # Models of one data set usually list the same images in the same order.
        if self._last is not None and self._last[0].equals(predictions.image_id):
            return self._last[1:]
        name = self._labels.name or "the labels"
        alignment = align(
            self._labels.image_id, predictions.image_id, left_name=name, right_name=predictions.model
        )
        sets = self._sets if not alignment.left_only else self._sets.take(alignment.left)
        # The same ids are not kept twice: those of 1.28 million images are 41 MB.
        same = predictions.image_id.equals(self._labels.image_id)
        self._last = (self._labels.image_id if same else predictions.image_id, alignment, sets)
        return alignment, sets

    def _judge(
        self, model: str, metric: Entry, estimate: Estimate, case: Case, rows: npt.NDArray[np.int64]
    ) -> Iterable[Number]:
        if isinstance(estimate, Pooled):
            return self._pooled(model, metric, estimate, rows)
        by_wilson = bool(self._options.resamples) and metric.about.get("interval") == "wilson"
        scale = scale_of(metric, "log")
        n, text = not_a_number(metric.name, estimate, case)
        if n:
            self._note(model, "not_a_number", n, text)
        column = ImageValues.spread(model, metric.name, estimate, rows, len(self._sets), by_wilson, scale)
        numbers = column.in_slices(self._dataset, self._slices, self._bootstrap, self._sets, rows)
        if self._auditor is not None:
            numbers = self._auditor.estimates(column, metric, case, rows, numbers)
        if self._auditor is not None and depends_on_sets(metric):
            self._judged.intervals[metric.name] = "audit"
            return numbers
        if self._options.resamples:
            self._judged.intervals[metric.name] = self._sampler.add(column)
        return numbers

    def _pooled(
        self, model: str, metric: Entry, estimate: Pooled, rows: npt.NDArray[np.int64]
    ) -> Iterator[Number]:
        scale, own = scale_of(metric, "plain"), self._bootstrap.clusters_at(rows)
        on_slices = dict[str, list[str]]()
        of = partial(PooledValue.of, estimate, options=self._options, scale=scale, clusters=own)
        values = [  # all of them before one counts: a function of another package may fail on a slice
            (name, int(np.count_nonzero(mask[rows])), of(inside=mask[rows], may_draw=name == ALL))
            for name, mask in zip(self._slices.names, self._slices.masks, strict=True)
            if self._auditor is None or name not in BY_SIZE  # people decide which images are inside
        ]
        for name, n, found in values:
            if name == ALL and len(estimate.own_classes):
                own_classes = estimate.own_classes.tolist()
                self._judged.compared.append([metric.name, model, found.compared, own_classes])
            if name == ALL and len(found.changes):
                self._sampler.add_changes(model, metric.name, found.changes, rows[estimate.scored])
            for doubt in found.doubts if name == ALL else ():
                self._doubts.setdefault(doubt, []).append(metric.name)
            for doubt in found.doubts if is_requested(name, self._options.slices) else ():
                on_slices.setdefault(doubt, []).append(name)
            if found.interval == "resampled":
                self._judged.intervals[metric.name] = found.interval
            elif found.interval:
                self._judged.intervals.setdefault(metric.name, found.interval)
            ends = found.value, found.lo, found.hi
            yield Number(self._dataset, model, metric.name, name, *ends, found.n, n - found.n)
        for doubt, names in on_slices.items():
            where = f"{metric.name} on {first_names(names)}"
            self._doubts.setdefault(doubt, []).append(where)

    def _note_doubts(self, model: str, n: int, notes: list[Note], sets: LabelSets | None = None) -> None:
        """Note why metrics have no interval, and the rare classes of `sets` if these are the reason."""
        if self._auditor is not None:
            self._doubts |= self._auditor.pairs.doubts
            self._auditor.pairs.doubts.clear()
        for reason, metrics in self._doubts.items():
            text = no_interval_text(metrics, reason, self._class_names, sets)
            notes.append(Note(self._dataset, model, "no_interval", n, text))
        self._doubts.clear()

    def _add_intervals(self) -> None:
        """Draw the intervals of the models added since the last call."""
        intervals, without = self._sampler.intervals(), dict[str, dict[str, list[str]]]()
        for number in self._judged.rows:
            key = (number.model, number.metric, number.slice)
            ends = None if number.estimator else intervals.get(key)
            if ends and number.n and ends[0] <= ends[1]:  # neither is NaN
                number.lo, number.hi = ends
            elif ends and number.n and number.slice == ALL:
                reasons = without.setdefault(number.model, {})
                reasons.setdefault(why_no_interval(number), []).append(number.metric)
        for model, reasons in without.items():
            self._doubts |= reasons
            self._note_doubts(model, len(self._labels), self._judged.interval_notes)
