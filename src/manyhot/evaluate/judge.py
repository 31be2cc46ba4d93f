"""Judge models on label sets: from labels and predictions to results, pairs and samples."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.classes import class_list_of
from manyhot.core.estimates import Estimate, Pooled
from manyhot.core.jackknife import UNVARYING, Scale, jackknife_interval, resampled_interval
from manyhot.core.ratio_intervals import FEW_IMAGES, FEWEST_CASES
from manyhot.core.resampling import Bootstrap, draw_counts
from manyhot.core.sets import Case, LabelSets
from manyhot.data.data_sets import Source
from manyhot.errors import InputError
from manyhot.evaluate.audited import MAP_MACRO, AuditedImages
from manyhot.evaluate.audited_values import NO_SUMS, NOT_WHOLE, Auditor, unaudited
from manyhot.evaluate.columns import ImageValues, Sampler, models_at_once
from manyhot.evaluate.compared_pairs import (
    NO_PAIRS,
    ComparedPairs,
    drawn_images,
    may_compare,
    reference_of,
)
from manyhot.evaluate.confidence import Pictured, Row
from manyhot.evaluate.judged_batches import (
    JudgedBatch,
    KeptBatches,
    OtherModelsError,
    error_from_json,
    error_to_json,
    has_own_metrics,
    run_key,
)
from manyhot.evaluate.judged_on import judged_on
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
    what_differs,
)
from manyhot.evaluate.result_rows import Note, Number
from manyhot.evaluate.results import Evaluation
from manyhot.evaluate.sampled_pairs import SampledPairs
from manyhot.evaluate.slices import (
    ALL,
    BY_SIZE,
    Slices,
    case_of,
    check_order,
    labels_of,
    make_slices,
    score_doubts,
)
from manyhot.parameters import RESAMPLES, check_draws
from manyhot.registry import Entry
from manyhot.run import QUIET, Run
from manyhot.tables import Alignment, Predictions, align, check_same_classes
from manyhot.tables.arrays import label_sets
from manyhot.tables.result_tables import ORIGINAL_LABELS, accuracies, describe_metric
from manyhot.tables.skipped_files import fitting_models


@dataclass(frozen=True)
class Resampling:
    """Options of the bootstrap and of draws; they are parameters of `manyhot.evaluate`."""

    resamples: int = RESAMPLES
    seed: int = 0
    map_resamples: int = 0
    posterior: int = 0

    def __post_init__(self) -> None:
        check_draws(self.resamples, self.seed)


DEFAULT = Resampling()


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """Options for evaluating models, which are the same for all data sets.

    Attributes
    ----------
    metrics, slices
        As in `manyhot.evaluate`.
    resampling : Resampling
    trust_order : bool
        Whether to evaluate predictions even if their rows or classes seem to be in a different order than
        declared.
    per_class : bool
        Whether to evaluate each class separately, for models with scores of all classes, if there are no
        original labels.
    keep_undefined : bool
        Whether a metric that cannot be computed for a model has an undefined value instead of no value.
    audit : AuditedImages, optional
        People's label sets of a random sample of the images, which correct values on the label sets of the
        data set.
    compare_with
        As in `manyhot.evaluate`.
    """

    metrics: Sequence[str] | None = None
    slices: tuple[str, ...] = ()
    resampling: Resampling = DEFAULT
    trust_order: bool = False
    per_class: bool = False
    keep_undefined: bool = False
    audit: AuditedImages | None = None
    compare_with: str | None = None


def judge_models(source: Source, options: JudgeOptions, *, run: Run = QUIET) -> Evaluation:
    """Evaluate models on the label sets of one data set.

    Predictions are read one model at a time and joined to the labels by image id.

    Parameters
    ----------
    source : Source
        The data set. Its images table can have original labels, if the label sets have none, and columns to
        slice by. Models that do not match are skipped with a note, and collected in `source.misfits`.
    options : JudgeOptions
    run : Run
        Reports progress over models. The last step computes intervals and pairs.

    Raises
    ------
    MatchError
        If labels and a model share no image, or have different class lists.
    OrderError
        If rows or classes seem to be in a different order than declared.
    UnknownNameError
        If a metric is not registered.
    """
    if options.metrics is None and options.audit is None and labels_of(source).are_original:
        # On original labels alone, metrics of label sets would say the same again.
        options = replace(options, metrics=accuracies(ORIGINAL_LABELS))
    judge = Judge(source, options)
    cache = (
        KeptBatches(judge.key) if run.call and source.n >= models_at_once() and judge.can_be_kept else None
    )
    if cache is None:
        return _judged(judge, source, run)
    misfits = copy.deepcopy(vars(source.misfits))
    while True:
        try:
            evaluation = _judged(judge, source, run, cache)
        except OtherModelsError as error:
            vars(source.misfits).update({name: copy.copy(value) for name, value in misfits.items()})
            judge, cache = Judge(source, options), KeptBatches(judge.key)
            cache.cut(error.place)
        else:
            cache.remove()
            return evaluation


def _judged(judge: Judge, source: Source, run: Run, cache: KeptBatches | None = None) -> Evaluation:
    """Evaluate the models, except for those that an interrupted run has judged."""
    misfits, done = source.misfits, 0

    def progress(done: int) -> None:
        if run.on_progress:
            run.on_progress(f"evaluating on {source.name}", done, max(source.n + 1, done))

    for batch in cache.batches if cache else ():
        judge.restore(batch)
    for done, (model, fitted) in enumerate(fitting_models(source.models(), judge.fit, misfits), 1):
        known = cache and cache.hash_of(model)
        if not (cache and known and cache.check(done - 1, known)):
            judge.add(model, *fitted)
            if cache and known:
                cache.add(known)
                if judge.is_batch:
                    cache.keep(judge.batch())
        progress(done)
        del model, fitted  # dense scores, which the resamples of all models do not need
    if cache:
        cache.check(done, None)
    evaluation = judge.finish()
    progress(done + 1)
    name = source.name
    remarks = [Note(name, "", "classes", 0, text) for text in misfits.new_remarks()]
    links = ((note.model, note.text) for note in evaluation.model_notes if note.kind == "link")
    apart = what_differs(evaluation.results, links, is_default=judge.has_default_metrics)
    remarks += (Note(name, "", "models", 0, text) for text in apart)
    matched = [Note(name, model, "matched", n, text) for model, n, text in misfits.new_matched()]
    skipped = [Note(name, model, "skipped", 0, text) for model, text in misfits.new()]
    return evaluation.with_notes([*remarks, *matched, *skipped])


def unmatched_note(dataset: str, model: str, kind: str, n: int, matched: int) -> Note:
    """Return the note on n images that only the predictions or only the labels contain."""
    what = {
        "predictions_unmatched": "predicted images have no labels",
        "labels_unmatched": "labelled images have no prediction",
    }[kind]
    return Note(dataset, model, kind, n, f"{n:,} of {n + matched:,} {what} and were left out")


class Judge:
    """Judges models one by one.

    Parameters
    ----------
    source : Source
    options : JudgeOptions
    slices : Slices, optional
        By default, those of `make_slices`.
    """

    def __init__(self, source: Source, options: JudgeOptions, slices: Slices | None = None) -> None:
        labels, audit, resampling = labels_of(source), options.audit, options.resampling
        if audit is not None and "rated" in labels.table.column_names:
            labels = replace(labels, table=labels.table.drop(["rated"]))  # whoever rated the proposals
        sets, classes = label_sets(labels), source.classes or class_list_of(labels.class_hash)
        if slices is None:
            slices = make_slices(
                labels, sets, images=source.images, classes=classes, requested=options.slices
            )
        self._dataset, self._labels, self._sets, self._options = source.name, labels, sets, options
        self._requested = None if options.metrics is None else entries_of(options.metrics)
        self._slices = slices if audit is None else slices.with_class_masks(sets)
        self._bootstrap = Bootstrap(self._slices.masks, resampling.resamples, resampling.seed)
        self._auditor: Auditor | None = None
        if audit is not None:
            self._auditor = Auditor(audit, self._slices, labels.image_id, self._bootstrap)
            if not audit.audit.population:  # original labels are known for all of these images
                resampling = replace(resampling, resamples=0)
        reference = reference_of(options.compare_with)
        self._pairs = SampledPairs(labels.image_id, reference)
        self._sampler = Sampler(self._slices, self._bootstrap, self._pairs)
        self._pictured, self._resampling = Pictured(source.name), resampling
        draws = resampling.posterior if audit is None else 0  # the audit draws people's label sets
        resamples = max(resampling.resamples, draws)
        self._posterior = draws and Posterior(source.name, sets, draws, resamples, resampling.seed)
        by_class = options.per_class and audit is None
        self._per_class = ClassTables(source.name, sets.n_classes, classes) if by_class else None
        self._rows, self._notes, self._models = list[Number](), list[Note](), list[str]()
        self._doubts, self._intervals = dict[str, list[str]](), dict[str, str]()
        self._skipped = dict[str, InputError]()
        self._n_batched, self._kept = 0, (0, 0, 0)
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
        depth = max(depth_of(self._requested or ()), int(sets.size.max(initial=1)))
        depth = max(depth, self._posterior.depth) if self._posterior else depth
        audit = self._options.audit
        depth = depth if audit is None else max(depth, audit.depth)
        if audit is not None and audit.models is not None:
            sets = audit.models.without(predictions.model).take(alignment.left)
        case = case_of(sets, predictions, alignment, depth)
        if not self._options.trust_order:
            check_order(case, predictions, alignment)
        return case, alignment

    def add(self, predictions: Predictions, case: Case, alignment: Alignment) -> None:
        """Evaluate one model that was matched to the labels."""
        self._note_unmatched(predictions.model, alignment)
        if not self._options.trust_order:
            for text in score_doubts(case, self._labels.class_list or class_list_of(self._labels.class_hash)):
                self._notes.append(Note(self._dataset, predictions.model, "scores", len(case.labels), text))
        metrics = default_entries(case) if self._requested is None else self._requested
        metrics = self._without_unmet(metrics, case, predictions)
        if self._auditor is not None:
            metrics = self._audited(self._auditor, metrics, case, predictions, alignment.left)
        for text in link_notes(metrics, case):
            self._notes.append(Note(self._dataset, predictions.model, "link", len(case.labels), text))
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
        if self._per_class is not None and not self._sets.labelled.any():
            self._per_class.add(predictions.model, case, len(self._sets) - len(case.labels))
        wrong = self._pictured.add(
            predictions.model, case, self._audited_bins(predictions.model, alignment.left)
        )
        if wrong:
            self._notes.append(Note(self._dataset, predictions.model, "confidence", len(case.labels), wrong))
        self._models.append(predictions.model)
        if not may_compare(self._options.compare_with, len(self._models)):
            self._pairs.stop()
        if self._sampler.is_full:
            self._add_intervals()
            self._n_batched = len(self._models)

    @property
    def can_be_kept(self) -> bool:
        """Whether batches of models can be cache: not with draws of label sets, nor results of each class."""
        by_class = self._per_class is not None and not self._sets.labelled.any()
        return not (self._auditor or self._posterior or by_class or has_own_metrics())

    @property
    def key(self) -> str:
        """A hash of the labels, the slices and the options."""
        sets, slices, options, labels = self._sets, self._slices, self._options, self._labels
        about = {
            "dataset": self._dataset,
            "classes": (sets.n_classes, labels.class_hash, getattr(labels.class_list, "hash", "")),
            "flags": (sets.asked_known, sets.exclusive, sets.complete),
            "slices": (slices.names, slices.standing, slices.class_names, options.slices),
            "metrics": None if self._requested is None else [metric.name for metric in self._requested],
            "options": (options.trust_order, options.keep_undefined, options.per_class),
            "pairs": options.compare_with,
            "resampling": asdict(self._resampling),
        }
        arrays = (sets.indptr, sets.classes, sets.state, sets.label, sets.usable, sets.p, sets.n_votes)
        masks = (np.packbits(slices.masks), np.asarray(slices.classes))
        return run_key(about, (*arrays, *masks), labels.image_id)

    @property
    def is_batch(self) -> bool:
        """Whether the intervals of all models are there, because a batch of them was just resampled."""
        return self._n_batched == len(self._models) > 0

    def batch(self) -> JudgedBatch:
        """Return what the last batch of models gave, for `restore`."""
        rows, notes, models = self._kept
        self._kept = (len(self._rows), len(self._notes), len(self._models))
        names = self._models[models:]
        batch = self._pairs.of_models(frozenset(names))
        batch.about |= {
            "notes": [astuple(note) for note in self._notes[notes:]],
            "judged": names,
            "intervals": self._intervals,
            "lacking": {name: error_to_json(error) for name, error in self._skipped.items()},
            "pictured": self._pictured.of_models(frozenset(names)),
        }
        batch.add_rows(self._rows[rows:])
        return batch

    def restore(self, batch: JudgedBatch) -> None:
        """Add what a batch of models gave in an interrupted run."""
        about = batch.about
        self._rows += batch.restored_rows(Number)
        self._notes += [Note(*note) for note in about["notes"]]
        self._models += about["judged"]
        self._intervals |= about["intervals"]
        self._skipped |= {name: error_from_json(error) for name, error in about["lacking"].items()}
        self._pictured.restore(about["pictured"])
        self._pairs.restore(batch)
        if not may_compare(self._options.compare_with, len(self._models)):
            self._pairs.stop()
        self._kept, self._n_batched = (
            (len(self._rows), len(self._notes), len(self._models)),
            len(self._models),
        )

    def finish(self) -> Evaluation:
        """Return the results of all added models, with intervals and pairs."""
        if not self._rows and not self._skipped:
            raise InputError(
                "There are no predictions to evaluate.", do="pass predictions of at least one model"
            )
        self._check_complete()
        if self._auditor is not None:
            self._auditor.asked.check(self._rows)
            self._auditor.balance.check(self._dataset)
            self._notes += self._auditor.asked.notes(self._dataset)
            self._notes += self._auditor.raters.notes(self._dataset)
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
            "seed": str(self._resampling.seed),
            "classes": self._labels.class_hash,
        }
        compared = self._compared()
        pairs = [*self._pairs.rows(self._dataset, values, compared)]
        samples = self._pairs.samples(self._dataset)
        if self._auditor is None:
            ids, seed = self._labels.image_id, self._resampling.seed
            about |= drawn_images(self._dataset, ids, self._bootstrap.resamples, seed)
            judged = (self._labels, self._sets, self._slices, self._requested)
            options = asdict(self._resampling) | {"compare_with": self._options.compare_with}
            about |= judged_on(self._dataset, *judged, options)
        else:
            audited = self._auditor.pairs
            pairs += audited.rows(self._dataset, list(dict.fromkeys(n.model for n in self._rows)), compared)
            samples = pa.concat_tables([samples, audited.samples(self._dataset, self._rows)])
        about |= compared.about(self._dataset)
        evaluation = Evaluation.of(self._rows, pairs, samples, self._notes, about)
        per_class = {} if self._per_class is None else self._per_class.tables()
        posterior = self._posterior.tables(evaluation.pairs, compared) if self._posterior else {}
        confidence = self._pictured.tables()
        return replace(evaluation, confidence=confidence, per_class=per_class, posterior=posterior)

    def _compared(self) -> ComparedPairs:
        """Return which pairs of the models are compared, and note if some are not."""
        if not self._bootstrap.resamples and not self._posterior:
            return ComparedPairs(NO_PAIRS)
        compare_with = self._options.compare_with
        compared = ComparedPairs.choose(compare_with, self._models)
        if text := compared.note(compare_with, len(self._models)):
            self._notes.append(Note(self._dataset, "", "pairs", 0, text))
        return compared

    def _without_unmet(self, metrics: Sequence[Entry], case: Case, predictions: Predictions) -> list[Entry]:
        """Return the metrics that can be computed for a model, and note the others."""
        skipped = set[str]()
        for lack in unmet(metrics, case, predictions):
            skipped.update(lack.names)
            text = lack.note(undefined=self._options.keep_undefined)
            note = Note(self._dataset, predictions.model, lack.kind, len(lack.names), text)
            self._notes.append(note)
            error = lack.error(predictions.source or predictions.model)
            self._skipped |= {name: error for name in lack.names if name not in self._skipped}
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
        self._skipped |= {m.name: auditor.asked.error(m.name) for m in metrics if m not in judged}
        return judged

    def _audited_bins(
        self, model: str, rows: npt.NDArray[np.int64]
    ) -> Callable[[Case], tuple[list[Row], str]] | None:
        """Return what estimates the reliability table of a model; None without an audit."""
        auditor = self._auditor
        return None if auditor is None else lambda case: auditor.reliability(self._dataset, model, case, rows)

    def _average_precision(
        self, auditor: Auditor, model: str, case: Case, rows: npt.NDArray[np.int64]
    ) -> Number | None:
        n = int(np.count_nonzero(case.labels.usable))
        empty = Number(self._dataset, model, MAP_MACRO, ALL, float("nan"), None, None, n, len(rows) - n)
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
            self._notes.append(Note(self._dataset, model, "not_audited", len(names), text))

    def _check_complete(self) -> None:
        """Raise an error if no model has a requested metric; leave out defaults that count no image.

        Without original labels, the metrics that need them count none.
        """
        if self._requested is not None:
            found = {row.metric for row in self._rows}
            for metric in self._requested:
                if metric.name not in found:
                    raise self._skipped[metric.name]
        elif not self._sets.labelled.any():
            counted = {row.metric for row in self._rows if row.n}
            self._rows = [row for row in self._rows if row.metric in counted]

    def _align(self, predictions: Predictions) -> tuple[Alignment, LabelSets]:
        # Models of one data set usually list the same images in the same order.
        if self._last is not None and self._last[0].equals(predictions.image_id):
            return self._last[1:]
        name = self._labels.name or "the labels"
        alignment = align(
            self._labels.image_id, predictions.image_id, left_name=name, right_name=predictions.model
        )
        sets = self._sets if not alignment.left_only else self._sets.take(alignment.left)
        self._last = (predictions.image_id, alignment, sets)
        return alignment, sets

    def _note_unmatched(self, model: str, alignment: Alignment) -> None:
        matched = len(alignment.right)
        counts = {"predictions_unmatched": alignment.right_only, "labels_unmatched": alignment.left_only}
        self._notes += [
            unmatched_note(self._dataset, model, kind, n, matched) for kind, n in counts.items() if n
        ]

    def _judge(
        self, model: str, metric: Entry, estimate: Estimate, case: Case, rows: npt.NDArray[np.int64]
    ) -> Iterable[Number]:
        if isinstance(estimate, Pooled):
            return self._pooled(model, metric, estimate, rows)
        by_wilson = bool(self._resampling.resamples) and metric.about.get("interval") == "wilson"
        scale = _scale(metric, "log")
        column = ImageValues.spread(model, metric.name, estimate, rows, len(self._sets), by_wilson, scale)
        numbers = column.in_slices(self._dataset, self._slices, self._bootstrap.cells, self._sets, rows)
        if self._auditor is not None:
            numbers = self._auditor.estimates(column, metric, case, rows, numbers)
        if self._auditor is not None and depends_on_sets(metric):
            self._intervals[metric.name] = "audit"
            return numbers
        if self._resampling.resamples:
            self._intervals[metric.name] = self._sampler.add(column)
        return numbers

    def _pooled(
        self, model: str, metric: Entry, estimate: Pooled, rows: npt.NDArray[np.int64]
    ) -> Iterator[Number]:
        r, scale = self._resampling.map_resamples, _scale(metric, "plain")
        for name, mask in zip(self._slices.names, self._slices.masks, strict=True):
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
                counts = draw_counts(len(rows), r, np.random.default_rng(self._resampling.seed))
                drawn = np.array([estimate.value(c) for c in counts])
                ends = resampled_interval(value, drawn, n=n, scale=scale)
                self._intervals[metric.name] = "resampled"
                if n and np.isnan(ends[0]) and not len(changes):
                    self._doubts.setdefault(UNVARYING, []).append(metric.name)
            elif not np.isnan(ends[0]):
                self._intervals.setdefault(metric.name, "jackknife")
            lo, hi = (None, None) if np.isnan(ends[0]) else ends
            skipped = int(np.count_nonzero(inside)) - n
            yield Number(self._dataset, model, metric.name, name, value, lo, hi, n, skipped)

    def _left_out(
        self, estimate: Pooled, inside: npt.NDArray[np.bool_], value: float
    ) -> tuple[npt.NDArray[np.float64], str]:
        """Return what leaving out each scored image changes; NaN and why, or empty, without interval."""
        if not self._resampling.resamples or estimate.left_out is None or np.isnan(value):
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
            self._notes.append(Note(self._dataset, model, "no_interval", n, text))
        self._doubts.clear()

    def _add_intervals(self) -> None:
        """Draw the intervals of the models added since the last time."""
        intervals, without = self._sampler.intervals(), dict[str, dict[str, list[str]]]()
        for number in self._rows:
            ends = (
                intervals.get((number.model, number.metric, number.slice)) if not number.estimator else None
            )
            if ends and number.n and ends[0] <= ends[1]:  # neither is NaN
                number.lo, number.hi = ends
            elif ends and number.n and number.slice == ALL:
                skewed = number.n < FEWEST_CASES and describe_metric(number.metric).get("unit") != "share"
                reasons = without.setdefault(number.model, {})
                reasons.setdefault(FEW_IMAGES if skewed else UNVARYING, []).append(number.metric)
        for model, reasons in without.items():
            self._doubts |= reasons
            self._note_doubts(model, len(self._labels))


def _scale(metric: Entry, other: Scale) -> Scale:
    """Return the scale of the intervals of a metric: logit of a share."""
    if metric.about.get("interval") == "correlation":
        return "correlation"
    return "logit" if metric.about.get("unit", "share") == "share" else other
