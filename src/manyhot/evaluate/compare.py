"""Compare models: two or more on label sets, or results between data sets and metrics."""

from __future__ import annotations

import json
import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import ClassList
from manyhot.command import command
from manyhot.data.benchmarks import HasResults, ResultsLike, flattened
from manyhot.data.data_sets import Source
from manyhot.data.inputs import READING, LabelsLike, Reading, open_inputs
from manyhot.errors import InputError, MatchError, UsageError
from manyhot.evaluate.class_differences import difference_table
from manyhot.evaluate.class_thresholds import ThresholdsLike
from manyhot.evaluate.clusters import ClustersLike, clusters_of, likely_cluster_notes
from manyhot.evaluate.compared_pairs import CompareWith, check_reference
from manyhot.evaluate.compared_results import BEST_FROM, Comparison, compare_results, join_results
from manyhot.evaluate.entrants import with_published_columns
from manyhot.evaluate.error_consistency import ConsistencyTables, judge_consistency
from manyhot.evaluate.gate import Gate, Verdict
from manyhot.evaluate.judge_options import JudgeOptions
from manyhot.evaluate.judging import judge_models, with_slice_pairs
from manyhot.evaluate.label_notes import (
    answer_notes,
    chance_notes,
    slice_class_notes,
    table_notes,
    unmasked_metrics,
)
from manyhot.evaluate.requirements import masks_classes
from manyhot.evaluate.result_rows import Note, unmatched_note
from manyhot.evaluate.results import Evaluation
from manyhot.evaluate.slice_differences import markdown
from manyhot.evaluate.slices import model_cases
from manyhot.files import write_text
from manyhot.formats import detect
from manyhot.formats.writing import PathLike, check_apart
from manyhot.parameters import RESAMPLES, AtLeast, Between, OptionName, PythonOnly, Resamples, Seed, Shown
from manyhot.run import QUIET, Run
from manyhot.tables import End, Labels, Predictions, Results
from manyhot.tables.predictions import distinct_names


@command(
    "compare",
    out="comparison",
    examples=(
        "manyhot compare old.npy new.npy --labels labels.csv --rows rows.txt",
        "manyhot compare timm-results --out timm",
        "manyhot compare results-a results-b",
        "manyhot compare timm-results openclip-results --groups results",
        "manyhot compare --labels imagenet-val --error-consistency",
    ),
)
def compare(
    *results: ResultsLike,
    labels: Annotated[LabelsLike | None, Shown("DATASET")] = None,
    metrics: Annotated[Sequence[str] | None, Shown("METRIC"), OptionName("--metric")] = None,
    thresholds: ThresholdsLike | None = None,
    slices: Annotated[Sequence[str], Shown("SLICE"), OptionName("--slice")] = (),
    fail_if_worse: Annotated[float, AtLeast(0)] | None = None,
    non_inferior: bool = False,
    fail_on: Annotated[Sequence[str], Shown("PART")] = (),
    summary: Annotated[PathLike | None, Shown("FILE")] = None,
    without: Annotated[Sequence[str], Shown("NAME")] = (),
    families: Annotated[PathLike | Mapping[str, str] | None, Shown("FILE")] = None,
    groups: Annotated[PathLike | Mapping[str, str] | None, Shown("GROUPS")] = None,
    best_from: Annotated[float, Between(0, 1, "()")] = BEST_FROM,
    resamples: Resamples = RESAMPLES,
    seed: Seed = 0,
    clusters: ClustersLike | None = None,
    compare_with: CompareWith = None,
    error_consistency: bool = False,
    ends: Annotated[Sequence[tuple[End, End]], PythonOnly()] = (),
    reading: Reading = READING,
    run: Run = QUIET,
) -> Comparison:
    """Compare models on the same images, or results between data sets and metrics.

    With `labels`, the arguments are predictions. For two models, the difference in each metric (second model
    minus first) is shown with its interval and p. With more models, the models within noise of the best are
    listed. Only images that all models predict are used.

    Without `labels`, the arguments are results. Different models that were evaluated on the same labels with
    the same options are compared as if one call had evaluated them. The first data set is the reference. The
    drop to every other data set is shown for each accuracy that was computed on both data sets. Without
    original labels, it is also shown for other shares of which higher is better, such as map_macro, f1_macro
    and recall_micro. Within each data set, top1 is compared with the headline metrics on label sets, and
    models are compared if pairs of them were tested. To draw figures of the tables, use manyhot report.

    Parameters
    ----------
    *results
        Results to compare: folders written by manyhot evaluate, results as Parquet or CSV, CSV files of timm,
        or timm-results. In Python, tables and evaluations are also accepted. With `labels`, pass predictions
        instead: files or folders. In Python, tables, arrays, or a mapping of names to tables or arrays are
        also accepted. If `labels` is a benchmark, the default is its published predictions.
    labels
        Label sets to evaluate the models on, in any form that evaluate takes.
    metrics
        Name of a metric, as for evaluate. If real1 is among the metrics, it decides which model is
        better; otherwise, the first metric decides.
    thresholds
        With `labels`, thresholds of the classes for metrics that need one, as for evaluate.
    slices
        With `labels`, subsets of the images on which models are also compared, as for evaluate, such as
        n_labels, class=KEY, or a column of the images table.
    fail_if_worse
        Exit with code 7 if the second of two models is worse than the first by more than this margin, that
        is, if the whole 95 % interval of its loss is above the margin. Exit with code 3 if this cannot be
        decided, because the loss has no interval or the second model has no predictions for some of the
        images, and otherwise with code 0. The margin is in points if the deciding metric is a share, and
        otherwise in the metric's unit.
    non_inferior
        With `fail_if_worse`, exit with code 7 unless a loss of more than the margin is excluded, that is,
        unless the whole interval of the loss is at most the margin.
    fail_on
        With `fail_if_worse`, also exit with code 7 if the second model is worse on any slice (slices, those
        of `slices`) or class (classes, in points of average precision) or, with `non_inferior`, may be worse.
        Intervals are widened for the number of slices or classes.
    summary
        File to write with the comparison of the models as Markdown, for a pull request.
    without
        Patterns that match the names of models to leave out, such as 'fv_*'. The default is the list of
        models that the benchmark leaves out.
    families
        CSV file with the columns model and family, for models whose names do not imply the family. In Python,
        also a mapping.
    groups
        Two groups of models to compare at equal accuracy on the first data set: 'results' if each of the two
        arguments is a group; COLUMN=VALUE, such as family=vit, to compare the models that have this value in
        the table models with all others; or a CSV file with the columns model and group. In Python, also a
        mapping. With groups, several of the results may contain the same data set, with values of different
        models.
    best_from
        Within each data set, also fit a line to the best models only: those with at least this value of the
        first of the two compared metrics, such as top1.
    resamples
        With `labels`, number of bootstrap resamples of the images; 0 for no intervals over images.
    seed
        Seed for the bootstrap.
    clusters
        With `labels`, a column of the images table that says which images depend on each other, as for
        evaluate.
    compare_with
        With `labels`, name of the model that all others are compared with; all to compare all pairs of
        models, or none. By default, all pairs of up to 300 models are compared, and none of more models.
    error_consistency
        With `labels`, also show how often models fail on the same images: the error consistency of each pair
        of models by original labels and by label sets, a map of the models, and the gain of a majority vote
        of three models. The report shows these results, too.
    ends
        Further pairs of places to compare, each place as (dataset, metric, slice).

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        If there are no results, a pattern matches no model, or an option is out of range. With `labels`, also
        as in `manyhot.evaluate`, or if there are fewer than two models.
    UsageError
        If predictions are passed without `labels`, or if `fail_if_worse` is set and the number of models is
        not two, or if `non_inferior` or `fail_on` is set without it.
    MatchError
        If two of the results contain models of one data set that were not evaluated in the same way, or
        contain a model with different values, if a place in `ends` is in none of the results, if `families`
        contains none of the models, or if no image is predicted by all models.
    ManyhotError
        If results cannot be read or downloaded.

    Notes
    -----
    For results of a benchmark, the comparisons that the benchmark defines are added. A comparison needs at
    least two models with a value at both places. imagenet-a and imagenet-r are compared with ImageNet's
    images of the same classes, if models were evaluated on these images.

    Examples
    --------
    >>> labels = [[0], [1, 2], [2], [1]] * 25
    >>> old, new = [[0, 1], [0, 1], [2, 0], [0, 1]] * 25, [[0, 1], [2, 1], [2, 0], [0, 1]] * 25
    >>> found = compare({"old": old, "new": new}, labels=labels, reading=Reading(n_classes=3))
    >>> print(found.answers[0])
    new is better than old by 25.00 points of real1 (95 % interval 15.73 to 33.29, p < 0.001, n 100).
    """
    evaluation, shared = None, list[SharedImages]()
    if error_consistency and clusters is not None:
        raise UsageError(
            "Intervals of error consistency do not allow for clusters of images.",
            got="`clusters` with `error_consistency`",
            do="leave out `error_consistency` or `clusters`",
        )
    if fail_if_worse is None and (non_inferior or fail_on):
        raise UsageError(
            "The margin of the loss is missing.",
            got="`non_inferior`" if non_inferior else "`fail_on`",
            do="pass the margin as `fail_if_worse`",
        )
    options = JudgeOptions(
        metrics=metrics,
        thresholds=thresholds,
        slices=slices,
        resamples=resamples,
        seed=seed,
        clusters=clusters,
        trust_order=reading.trust_order,
        compare_with=compare_with,
    )
    if labels is None:
        _check_results(results, options, reading, error_consistency)
    else:
        evaluation, shared = _evaluated(labels, results, options, reading, run)
        check_reference(compare_with, evaluation.results["model"].unique().to_pylist())
    passed, several = results if evaluation is None else evaluation, groups is not None
    joined = join_results(passed, without=without, several_models=several, run=run)
    found = compare_results(joined, families=families, best_from=best_from, ends=ends, groups=groups)
    if evaluation is not None:
        found = replace(
            found,
            notes=(*evaluation.notes, *found.notes),
            inputs=evaluation.inputs,
            classes=evaluation.per_class.get("class_differences"),
            sources=tuple(Path(p) for p in _listed(results) if isinstance(p, str | os.PathLike)),
        )
        if error_consistency:
            found = replace(found, consistency=_consistency(shared, found, options))
    if fail_if_worse is not None:
        gate = Gate(fail_if_worse, non_inferior, (fail_on,) if isinstance(fail_on, str) else fail_on)
        found = _judged(found, gate, shared)
    return found if summary is None else _with_summary(found, Path(summary))


def _judged(comparison: Comparison, gate: Gate, shared: Iterable[SharedImages]) -> Comparison:
    """Add the verdicts of a gate to a comparison."""
    found = list(gate.verdicts(comparison.results, comparison.classes, comparison.notes))
    found += [verdict for images in shared for verdict in images.verdicts()]
    fails = [verdict.fails for verdict in found]
    undecided = None in fails and True not in fails
    lines = tuple((verdict.dataset, verdict.line) for verdict in found)
    is_worse = None if undecided else any(fails)
    return replace(comparison, margin=gate.margin, is_worse=is_worse, verdicts=lines)


def _with_summary(comparison: Comparison, path: Path) -> Comparison:
    """Write the Markdown of a comparison."""
    check_apart(comparison.sources, path)
    write_text(path, markdown(comparison.results, comparison.verdicts, comparison.notes))
    return replace(comparison, written=(path,))


def _check_results(
    results: Sequence[Any], options: JudgeOptions, reading: Reading, error_consistency: bool
) -> None:
    """Raise an error for predictions, or for options of predictions, without labels to evaluate them on."""
    for passed in flattened(results):
        if not _holds_results(passed):
            where = passed if isinstance(passed, str | os.PathLike) else type(passed).__name__
            do = "pass label sets for them as `labels`"
            raise UsageError("These are predictions, not results.", where=where, do=do)
    passed_options = {
        "`metrics`": options.metrics is not None,
        "`thresholds`": options.thresholds is not None,
        "`slices`": bool(options.slices),
        "`clusters`": options.clusters is not None,
        "`compare_with`": options.compare_with is not None,
        "`error_consistency`": error_consistency,
        "how files are read": reading != READING,
    }
    if any(passed_options.values()):
        raise UsageError(
            "Options for predictions can only be used with label sets.",
            got=next(name for name, passed in passed_options.items() if passed),
            do="pass `labels`, or leave the options out",
        )


def _holds_results(passed: object) -> bool:
    """Return whether an argument may be results: neither a file of predictions nor arrays."""
    if not isinstance(passed, str | os.PathLike):
        return isinstance(passed, Results | HasResults | pa.Table)
    is_predictions = Path(passed).is_file() and detect(passed, ("predictions",)) is not None
    return not is_predictions or detect(passed, ("results",)) is not None


def _listed(predictions: Sequence[Any]) -> Sequence[Any]:
    """Return the arguments of a call; a single list is its items."""
    alone = predictions[0] if len(predictions) == 1 else None
    return alone if isinstance(alone, list | tuple) else predictions


def _as_predictions(predictions: Sequence[Any]) -> Any:
    """Return predictions in a form that `open_inputs` takes; the names of arrays are A, B and so on."""
    listed = _listed(predictions)
    if len(listed) == 1 and not isinstance(listed[0], str | os.PathLike):
        return listed[0]
    if all(isinstance(p, str | os.PathLike) for p in listed) or any(
        isinstance(p, Predictions) for p in listed
    ):
        return list(listed)
    return dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", listed, strict=False))


def _evaluated(
    labels: LabelsLike, predictions: Sequence[Any], options: JudgeOptions, reading: Reading, run: Run
) -> tuple[Evaluation, list[SharedImages]]:
    """Evaluate models on the images that all of them predict, and return these, too."""
    parts, errors, compared = list[Evaluation](), list[MatchError](), list[SharedImages]()
    for source in open_inputs(labels, _as_predictions(predictions), reading=reading, run=run):
        source.misfits.n_files = 1  # one that cannot be read is an error: it was named to be compared
        source, sliced = with_published_columns(source, options, match=reading.match)
        try:
            shared = SharedImages.of(source)
        except MatchError as error:  # of a benchmark's data sets, models may predict only one
            errors.append(error)
            continue
        judged = replace(source, labels=shared.labels, models=shared.models)
        evaluation = with_slice_pairs(judge_models(judged, sliced), judged, sliced)
        chance = chance_notes(evaluation, shared.labels, source.name)
        counted = shared.counted(evaluation.model_notes)
        is_open = options.resamples and options.clusters is None
        dependent = likely_cluster_notes(source.name, shared.labels, source.images) if is_open else ()
        metrics = unmasked_metrics(evaluation) if source.published is None else []
        unanswered = answer_notes(source.name, shared.labels, metrics, unlabelled=source.unlabelled)
        notes = [*counted, *chance, *unanswered, *dependent]
        classes = source.classes or shared.labels.known_classes
        by_class = _by_class(shared, classes, options)
        notes += table_notes(source.name, shared.labels, classes, options.metrics, by_class)
        if source.published is None:
            computed = evaluation.results["metric"].unique().to_pylist()
            notes += slice_class_notes(source, shared.labels, computed, options.slices)
        evaluation = replace(evaluation, model_notes=(), per_class=by_class).with_notes(notes)
        remarks = (*shared.notes(), *evaluation.notes)
        stored = {**evaluation.metadata, "notes": json.dumps([asdict(n) for n in evaluation.model_notes])}
        parts.append(
            replace(evaluation, notes=remarks, inputs={**evaluation.inputs, **source.inputs}, metadata=stored)
        )
        compared.append(shared)
    if not parts:
        raise errors[0]
    if len(parts) == 1:
        return parts[0], compared
    together = replace(Evaluation.concat(parts), notes=tuple(n for part in parts for n in part.notes))
    return together, compared


def _consistency(
    shared: Sequence[SharedImages], comparison: Comparison, options: JudgeOptions
) -> ConsistencyTables:
    """Return how consistent the errors of the compared models are."""
    families = dict(
        zip(*(comparison.results.models[c].to_pylist() for c in ("model", "family")), strict=True)
    )
    return ConsistencyTables.concat(
        [
            judge_consistency(
                replace(images.source, labels=images.labels, models=partial(images.only, families)),
                resamples=options.resamples,
                seed=options.seed,
                families=families,
                trust_order=options.trust_order,
            )
            for images in shared
        ]
    )


def _by_class(shared: SharedImages, classes: ClassList | None, options: JudgeOptions) -> dict[str, pa.Table]:
    """Return the differences of two models per class; nothing for other numbers of models, or for ranks."""
    if len(shared.names) != 2:
        return {}
    source = replace(shared.source, labels=shared.labels, images=None, models=shared.models)
    first, second = model_cases(source, trust_order=True)
    cases, names = (first.case, second.case), (shared.names[0], shared.names[1])
    if any(case.scores is None for case in cases):
        return {}
    masked = masks_classes(options.metrics)
    clusters = clusters_of(options.clusters, shared.labels, shared.source.images)
    own = clusters and clusters.take(first.rows)
    return {"class_differences": difference_table(source.name, names, cases, classes, own, masked)}


@dataclass(frozen=True, eq=False)
class SharedImages:
    """Models, and the label sets of the images that all of them predict.

    Attributes
    ----------
    names : tuple of str
        Names of the models. If files have the same name, the names of their models include the folder.
    counts : tuple of int
        How many of the labelled images each model predicts.
    """

    source: Source
    labels: Labels
    names: tuple[str, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, source: Source) -> SharedImages:
        """Find the images that all models predict.

        Raises
        ------
        InputError
            If there are fewer than two models.
        MatchError
            If no labelled image is predicted by all models.
        """
        labels, models = source.sets(), list[tuple[str, str]]()
        shared, counts = pa.array([True] * len(labels), pa.bool_()), []
        for model in source.models():
            predicted = pc.is_in(labels.image_id, value_set=model.image_id)
            models.append((model.model, model.source))
            counts.append(pc.sum(predicted).as_py() or 0)
            shared = pc.and_(shared, predicted)
        names = distinct_names(models)
        if len(models) < 2:
            raise InputError(
                "A comparison needs two models or more.",
                where=source.name,
                got=", ".join(names) or "none",
                do="pass another model; to compare one model on two versions of labels, run manyhot evaluate "
                "on each, and pass both results without `labels`",
            )
        if not pc.any(shared).as_py():
            raise MatchError(
                "No labelled image has predictions from all models.",
                where=source.name,
                got=", ".join(f"{m}: {n:,} of {len(labels):,}" for m, n in zip(names, counts, strict=True)),
                do="if each model predicted images of its own, as in an A/B test, give their files the same "
                "name, evaluate each on its images, and compare the results: manyhot compare RESULTS RESULTS",
            )
        # A model that lacks the same images as all others is told by the notes of the evaluation.
        same = len(set(counts)) == 1 and pc.sum(shared).as_py() == counts[0]
        chosen = labels if same else replace(labels, table=labels.table.filter(shared))
        return cls(source, chosen, tuple(names), tuple(counts))

    def models(self) -> Iterator[Predictions]:
        """Yield the models under distinct names."""
        for name, model in zip(self.names, self.source.models(), strict=True):
            yield replace(model, model=name)

    def only(self, names: Container[str]) -> Iterator[Predictions]:
        """Yield the models with these names."""
        return (model for model in self.models() if model.model in names)

    def notes(self) -> Iterator[str]:
        """Yield a note if some models predict images that other models do not."""
        n, n_labelled = len(self.labels), len(self.source.sets())
        if n != n_labelled:
            lacking = [
                (m, n_labelled - c) for m, c in zip(self.names, self.counts, strict=True) if c < n_labelled
            ]
            each = ", ".join(f"{k:,} have no prediction by {m}" for m, k in lacking[:5])
            more = f", and others lack one by {len(lacking) - 5} more models" if len(lacking) > 5 else ""
            yield (
                f"{self.source.name}: {n:,} of {n_labelled:,} labelled images are compared: those with "
                f"predictions from all models ({each}{more})"
            )

    def verdicts(self) -> Iterator[Verdict]:
        """Yield that nothing is decided if the second of two models lacks images that the first predicts."""
        (first, n_first), (model, _) = zip(self.names[:2], self.counts[:2], strict=True)
        if n_lacking := n_first - len(self.labels):
            line = (
                f"Not decided: {model} has no prediction for {n_lacking:,} of the {n_first:,} images that "
                f"{first} predicts; if this is intended, pass a list of the other images as `images`."
            )
            yield Verdict(self.source.name, None, line)

    def counted(self, notes: Iterable[Note]) -> Iterator[Note]:
        """Yield the notes, but count as unlabelled only the images that the data set has no labels for.

        Labels of images that some models do not predict were left out before the evaluation.
        """
        n, counts = len(self.labels), dict(zip(self.names, self.counts, strict=True))
        for note in notes:
            if note.kind != "predictions_unmatched":
                yield note
            elif unlabelled := note.n - (counts[note.model] - n):
                yield unmatched_note(note.dataset, note.model, note.kind, unlabelled, counts[note.model])
