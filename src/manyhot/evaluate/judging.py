"""Judge all models of a data set, in turn or elsewhere, after those that an interrupted run has judged."""

from __future__ import annotations

import contextlib
import copy
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
import pyarrow as pa

from manyhot.core.array_types import Bools, Floats
from manyhot.core.clusters import Clusters
from manyhot.core.effects import clustered_q
from manyhot.core.sets import Case
from manyhot.data.data_sets import Source
from manyhot.evaluate.clusters import clusters_of
from manyhot.evaluate.columns import models_at_once
from manyhot.evaluate.compared_pairs import CLUSTERED, COMPARED_VALUES, DISJOINT
from manyhot.evaluate.judge import Judge
from manyhot.evaluate.judge_options import JudgeOptions
from manyhot.evaluate.judged_batches import KeptBatches, OtherModelsError
from manyhot.evaluate.requirements import what_differs
from manyhot.evaluate.result_rows import Note
from manyhot.evaluate.results import Evaluation
from manyhot.evaluate.slices import ALL, column_of, is_requested, labels_of, make_slices
from manyhot.run import QUIET, Run
from manyhot.tables import Alignment, Predictions
from manyhot.tables.arrays import label_sets
from manyhot.tables.frames import null_if_nan, with_column
from manyhot.tables.result_tables import ORIGINAL_LABELS, accuracies
from manyhot.tables.skipped_files import fitting_models


class Judging(Protocol):
    """Has models judged, here or elsewhere, and adds the results to a judge in the order of the models."""

    @property
    def n_waiting(self) -> int:
        """The number of models that were added but not judged."""

    def add(self, predictions: Predictions, fitted: tuple[Case, Alignment], hashed: list[str] | None) -> None:
        """Have a model judged; `hashed` is what `KeptBatches.hash_of` returned."""

    def finish(self) -> Iterator[None]:
        """Judge the waiting models, and yield each time some of them are done."""


OpenJudging = Callable[[Judge, JudgeOptions, Source, KeptBatches | None], AbstractContextManager[Judging]]
"""Opens a `Judging` for a judge. Batches of models are kept if there is a cache."""


@dataclass(frozen=True)
class InTurn:
    """Judges each model in this process as soon as it is added."""

    judge: Judge
    cache: KeptBatches | None
    n_waiting: int = 0

    @classmethod
    def open(
        cls, judge: Judge, _options: JudgeOptions, _source: Source, cache: KeptBatches | None
    ) -> AbstractContextManager[Judging]:
        """Return an instance in a context manager that does nothing on exit."""
        return contextlib.nullcontext(cls(judge, cache))

    def add(self, predictions: Predictions, fitted: tuple[Case, Alignment], hashed: list[str] | None) -> None:
        """Judge a model."""
        self.judge.add(predictions, *fitted)
        if self.cache and hashed:
            self.cache.add(hashed)
            if (batch := self.judge.batch()) is not None:
                self.cache.keep(batch)

    def finish(self) -> Iterator[None]:
        """Do nothing."""
        return iter(())


def judge_models(
    source: Source, options: JudgeOptions, *, run: Run = QUIET, opened: OpenJudging = InTurn.open
) -> Evaluation:
    """Evaluate models on the label sets of one data set.

    Predictions are read one model at a time and joined to the labels by image id.

    Parameters
    ----------
    source : Source
        The data set. Its images table can have original labels, if the label sets have none, and columns to
        slice by. Models that do not match are skipped with a note, and collected in `source.misfits`.
    run : Run
        Reports progress over models. The last step computes intervals and pairs.
    opened : callable
        Opens the `Judging` that judges the models; by default, they are judged one by one in this process.

    Raises
    ------
    MatchError
        If labels and a model share no image, or have different class lists.
    OrderError
        If rows or classes seem to be in a different order than declared.
    UnknownNameError
        If a metric is not registered.
    """
    if alone := options.metrics is None and options.audit is None and labels_of(source).are_original:
        # On original labels alone, metrics of label sets would say the same again.
        options = replace(options, metrics=accuracies(ORIGINAL_LABELS))
    judge = Judge(source, options, are_chosen=not alone)
    may_keep = run.call and source.n >= models_at_once() and judge.can_be_kept
    cache = KeptBatches(judge.key) if may_keep else None
    judged = partial(_judged, source=source, options=options, run=run, opened=opened)
    if cache is None:
        return judged(judge, None)
    misfits = copy.deepcopy(vars(source.misfits))
    while True:
        try:
            evaluation = judged(judge, cache)
        except OtherModelsError as error:
            vars(source.misfits).update({name: copy.copy(value) for name, value in misfits.items()})
            judge, cache = Judge(source, options, are_chosen=not alone), KeptBatches(judge.key)
            cache.cut(error.place)
        else:
            cache.remove()
            return evaluation


def _judged(
    judge: Judge,
    cache: KeptBatches | None,
    *,
    source: Source,
    options: JudgeOptions,
    run: Run,
    opened: OpenJudging,
) -> Evaluation:
    """Evaluate the models, except for those that an interrupted run has judged."""
    misfits, done = source.misfits, 0

    def progress(done: int) -> None:
        if run.on_progress:
            run.on_progress(f"evaluating on {source.name}", done, max(source.n + 1, done))

    for kept in cache.batches if cache else ():
        judge.restore(kept)
    with opened(judge, options, source, cache) as judging:
        for done, (model, fitted) in enumerate(fitting_models(source.models(), judge.fit, misfits), 1):
            hashed = cache.hash_of(model) if cache else None
            if not (cache and hashed and cache.check(done - 1, hashed)):
                judging.add(model, fitted, hashed)
            progress(done - judging.n_waiting)
            del model, fitted  # dense scores, which the resamples of all models do not need
            pa.default_memory_pool().release_unused()  # 0.3 GB of 1.28 million images, which a reader freed
        for _ in judging.finish():
            progress(done - judging.n_waiting)
    if cache:
        cache.check(done, None)
    evaluation = judge.finish()
    progress(done + 1)
    name = source.name
    remarks = [Note(name, "", "classes", 0, text) for text in misfits.new_remarks()]
    links = ((note.model, note.text) for note in evaluation.model_notes if note.kind in ("link", "zeros"))
    apart = what_differs(evaluation.results, links, is_default=judge.has_default_metrics)
    remarks += (Note(name, "", "models", 0, text) for text in apart)
    matched = [Note(name, model, "matched", n, text) for model, n, text in misfits.new_matched()]
    skipped = [Note(name, model, "skipped", 0, text) for model, text in misfits.new()]
    return evaluation.with_notes([*remarks, *matched, *skipped])


def with_slice_pairs(evaluation: Evaluation, source: Source, options: JudgeOptions) -> Evaluation:
    """Return an evaluation with the pairs of models on each requested slice.

    Parameters
    ----------
    evaluation : Evaluation
        The evaluation on all images of the source, with the requested slices.
    source : Source
        All models predict all labelled images.
    """
    if not options.slices:
        return evaluation
    labels, masks = labels_of(source), _masks(source, options.slices)
    metrics = evaluation.results["metric"].unique().to_pylist()
    # What a slice has too few images for is undefined there. The order of rows was checked on all images.
    options = replace(options, slices=(), metrics=metrics, keep_undefined=True, trust_order=True)
    judges = {
        name: Judge(
            replace(source, labels=replace(labels, table=labels.table.filter(pa.array(mask)))), options
        )
        for name, mask in masks.items()
    }
    for model in source.models():
        for judge in judges.values():
            judge.add(model, *judge.fit(model))
    pairs, values = [evaluation.pairs], json.loads(evaluation.metadata.get(COMPARED_VALUES, "[]"))
    for name, judge in judges.items():
        judged = judge.finish()
        table = judged.pairs
        own = json.loads(judged.metadata.get(COMPARED_VALUES, "[]"))
        values += [[dataset, metric, name, model, value] for dataset, metric, _, model, value in own]
        column = pa.repeat(pa.scalar(name, pa.string()), len(table))
        pairs.append(with_column(table, "slice", column))
    about = {**evaluation.metadata, DISJOINT: json.dumps({source.name: _disjoint(masks)})}
    about |= {COMPARED_VALUES: json.dumps(values)} if values else {}
    if options.clusters is not None:
        clusters = clusters_of(options.clusters, labels, source.images)
        by_column = {} if clusters is None else _by_clusters(judges, masks, pairs[1:], clusters)
        about |= {CLUSTERED: json.dumps({source.name: by_column})}
    return replace(evaluation, pairs=pa.concat_tables(pairs), metadata=about)


def _by_clusters(
    judges: Mapping[str, Judge], masks: Mapping[str, Bools], pairs: Sequence[pa.Table], clusters: Clusters
) -> dict[str, dict[str, list[float]]]:
    """Return Cochran's Q of two models' differences on the slices of each column, by column and metric.

    Each is a list of Q, its p and the number of slices. Slices share no image, but images of one cluster.
    """
    cells = defaultdict[tuple[str, str], list[tuple[float, Floats]]](list)
    columns = _disjoint(masks)
    for (name, judge), table in zip(judges.items(), pairs, strict=True):
        own = clusters.number[masks[name]]
        _, first = np.unique(own, return_index=True)
        at = own[np.sort(first)]  # clusters of the slice are numbered as they first occur
        for row in table.to_pylist() if column_of(name) in columns else ():
            changes = judge.cluster_changes(row["metric"])
            if changes is not None and null_if_nan(row["p"]) is not None:
                spread = np.zeros(clusters.n)
                spread[at] = changes
                cells[column_of(name), row["metric"]].append((row["difference"], spread))
    found: dict[str, dict[str, list[float]]] = {column: {} for column in columns}
    for (column, metric), values in cells.items():
        differences, every = np.array([d for d, _ in values]), np.stack([spread for _, spread in values])
        q = clustered_q(differences, every[:, np.any(every, axis=0)])
        if not np.isnan(q.p):
            found[column][metric] = [*q, len(values)]
    return found


def _masks(source: Source, requested: Sequence[str]) -> dict[str, Bools]:
    """Return the mask of each requested slice that contains images."""
    labels = labels_of(source)
    sets, classes = label_sets(labels), source.classes or labels.known_classes
    misfits = source.misfits
    made = make_slices(
        labels, sets, images=source.images, classes=classes, requested=requested, misfits=misfits
    )
    made = made.with_class_masks(sets)
    named = enumerate(zip(made.names, made.masks, strict=True))
    return {
        name: mask
        for i, (name, mask) in named
        if name != ALL and mask.any() and (i >= made.standing or is_requested(name, requested))
    }


def _disjoint(masks: Mapping[str, Bools]) -> list[str]:
    """Return the columns of which two slices or more share no image."""
    columns = defaultdict[str, list[Bools]](list)
    for name, mask in masks.items():
        columns[column_of(name)].append(mask)
    return [name for name, own in columns.items() if len(own) > 1 and np.sum(own, 0).max() == 1]
