"""Evaluate models on label sets: from labels and predictions to results and a report."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Literal

from manyhot.command import called_with, command
from manyhot.core.threads import one_blas_thread
from manyhot.data import catalog
from manyhot.data.benchmarks import (
    BENCHMARKS,
    Benchmark,
    BenchmarkData,
    benchmark_named,
    data_set,
    same_name_note,
)
from manyhot.data.data_sets import Source
from manyhot.data.inputs import READING, LabelsLike, PredictionsLike, Reading, open_inputs
from manyhot.errors import UnknownNameError, UsageError, did_you_mean
from manyhot.evaluate.audited import NO_AUDIT, Audit, AuditedImages, open_audit
from manyhot.evaluate.clusters import likely_cluster_notes
from manyhot.evaluate.compared_pairs import check_reference, reference_of
from manyhot.evaluate.describe import rights_of
from manyhot.evaluate.entrants import Entrants, benchmark_source, with_published_columns
from manyhot.evaluate.judge_options import JudgeOptions
from manyhot.evaluate.judging import InTurn, OpenJudging, judge_models
from manyhot.evaluate.label_notes import (
    PredictedImages,
    answer_notes,
    best_classes_notes,
    chance_notes,
    slice_class_notes,
    table_notes,
    unmasked_metrics,
    vote_notes,
)
from manyhot.evaluate.options import EvaluateOptions
from manyhot.evaluate.ranks import ANALYSED_METRICS
from manyhot.evaluate.results import Evaluation
from manyhot.evaluate.write import JudgedData, load_figures, prepare_renderer
from manyhot.parameters import Was
from manyhot.run import QUIET, Run
from manyhot.tables import Labels, Predictions
from manyhot.tables.arrays import at_threshold

JudgeEngine = Literal["threads", "ray"]
"""What evaluates models."""


def benchmark_of(labels: object, predictions: object) -> Benchmark | None:
    """Return the benchmark or the data set of a benchmark that `labels` names; None for other labels.

    Raises
    ------
    UnknownNameError
        If `labels` is neither a benchmark nor a file, and there are no predictions.
    """
    if not isinstance(labels, str | os.PathLike):
        return None
    name = str(labels)
    if (benchmark := benchmark_named(labels)) is not None:
        return benchmark
    published = data_set(labels)
    if published is not None:
        return Benchmark((published,))
    if not (Path(labels).exists() or predictions or Path(labels).suffix):
        do = did_you_mean(name, BENCHMARKS, n=1)
        if name.startswith("timm-results"):
            do = f"these are results already: manyhot compare {name}"
        raise UnknownNameError(f"There is no benchmark {name!r}.", allowed=", ".join(BENCHMARKS), do=do)
    return None


@dataclass(frozen=True, eq=False)
class EvaluateCall(EvaluateOptions):
    """A call of `evaluate`: its options, the data, how these are read, and how the call runs."""

    labels: Annotated[LabelsLike, Was("--labels")]
    predictions: PredictionsLike = ()
    engine: JudgeEngine = field(default="threads", kw_only=True)
    audit: Audit = field(default=NO_AUDIT, kw_only=True)
    reading: Reading = field(default=READING, kw_only=True)
    run: Run = field(default=QUIET, kw_only=True)


@command(
    "evaluate",
    out="results",
    examples=(
        "manyhot evaluate imagenet",
        "manyhot evaluate real.json --predictions resnet50.npy --rows rows.json",
    ),
)
@called_with(EvaluateCall)
def evaluate(call: EvaluateCall) -> Evaluation:
    """Evaluate models on label sets and compare pairs of models, with a report.

    On a benchmark, your own models are evaluated together with the published models. Each model is evaluated
    on the data sets for which it has predictions.

    Parameters
    ----------
    labels
        Name of a benchmark, such as imagenet, or of one of its data sets; or label sets in any format, a
        campaign, or, to use only original labels, an images table or a folder written by predict.
    predictions
        Files and folders of predictions; or the name of one data set, such as imagenet-val, to evaluate its
        published models on label sets in a file.
    engine
        threads evaluates models in this process, one after another, and ray evaluates them at the same time
        on a cluster, with the same results.
    audit
        People's label sets of a random sample of the images.

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        If there are no predictions, a file cannot be read, or an option is out of range.
    MatchError
        If labels and a model share no image or have different class lists, if frames have different classes,
        or if your own models have no predictions for any data set of the benchmark.
    OrderError
        If rows or classes seem to be in a different order than declared.
    UnknownNameError
        If there is no such metric or benchmark, or no model to compare with.

    Notes
    -----
    In Python, `labels` can also be a table, a list of classes per image, a multi-hot matrix or frame of shape
    (n, C), or one class per image, of shape (n,). `predictions` can also be tables, arrays or frames, or a
    mapping of model names to tables, arrays, frames or paths. Integers of shape (n, k) are classes, best
    first, and floats of shape (n, C) are scores. The rows of frames are matched by their index or by a column
    of ids with the same name as in files, and their columns by name. A note reports how many images only
    the labels or only the predictions contain. Arrays are matched by position.

    Examples
    --------
    >>> from manyhot.data.inputs import Reading
    >>> found = evaluate([[0, 1], [2]], [[1, 0], [0, 2]], resamples=0, reading=Reading(n_classes=3))
    >>> found.value("real1")
    0.5
    """
    labels, predictions, reading, run = call.labels, call.predictions, call.reading, call.run
    benchmark = benchmark_of(labels, predictions)
    of_own_data = (reading.images is not None, reading.classes, reading.dataset, reading.where, call.gallery)
    if benchmark is not None and any(of_own_data):
        raise UsageError(
            "A benchmark has its own labels, images and classes.",
            got=labels,
            do="leave out `images`, `classes`, `dataset`, `where` and `gallery`",
        )
    if call.audit.is_requested:
        _check_auditable(benchmark, call)
    entrants = None if benchmark is None else Entrants.open(benchmark, predictions, reading, run)
    if isinstance(predictions, Iterator) and call.audit.is_requested:
        predictions = list(predictions)  # models that propose label sets for one another are read twice
    if entrants is not None and (note := same_name_note(labels)):
        entrants.misfits.remarks.append(note)
    options = replace(JudgeOptions.of(call), trust_order=reading.trust_order, per_class=True)
    if benchmark is not None and call.metrics is None:
        options = replace(options, metrics=benchmark.metrics)
    if run.on_event is not None:  # a command, which then writes a report
        prepare_renderer()
    own = () if entrants is None else tuple(p.model for p in entrants.own)
    shown = Shows(run, reference_of(call.compare_with), own)
    thresholds: list[Evaluation] = []
    with _opener(call.engine) as opened:
        judged = partial(_judged, call=call, options=options, opened=opened)
        if entrants is None:
            asked = call.audit.is_requested
            sources = open_inputs(labels, predictions, unlabelled=asked, reading=reading, run=run)
            parts = [shown(judged(source)) for source in sources]
        else:
            parts, thresholds = _judged_benchmark(entrants, judged, shown, run)
    together = Evaluation.concat(parts) if len(parts) > 1 else parts[0]
    check_reference(call.compare_with, together.results["model"].unique().to_pylist())
    evaluation = replace(together, options=EvaluateOptions.of(call))
    return evaluation if entrants is None else _among_published(evaluation, thresholds, entrants, run)


def _opener(engine: JudgeEngine) -> AbstractContextManager[OpenJudging]:
    """Return what opens the judging of each data set."""
    if engine != "ray":
        return contextlib.nullcontext(InTurn.open)
    from manyhot.evaluate.ray import on_ray  # which needs what predicts

    return on_ray()


def _judged(source: Source, call: EvaluateCall, options: JudgeOptions, opened: OpenJudging) -> Evaluation:
    """Judge the models of one data set."""
    files, reading = dict[str, Path](), call.reading
    labels, audited = _opened(source, call)
    source, options = with_published_columns(source, options, match=reading.match)
    published = source.published
    more = [s for s in published.slices if s not in options.slices] if published else []
    options = replace(options, slices=[*options.slices, *more], audit=audited)

    predicted = PredictedImages(labels)

    def models() -> Iterator[Predictions]:
        for model in source.models():
            if model.source and published is None:
                files[model.source] = Path(model.source)
            if published is None:
                predicted.add(model)
            yield model

    read = replace(source, labels=labels, models=models)
    evaluation = judge_models(read, options, run=call.run, opened=opened)
    skipped = {Path(name).name for name in source.misfits.errors}
    judged = JudgedData(
        source.name,
        labels,
        images=None if published else source.images,
        classes=source.classes or labels.known_classes,
        reading=Reading(match=reading.match) if published else reading,
        files=tuple(path for name, path in files.items() if name not in source.misfits.errors),
        source=rights_of(published) if published else {},
        is_proposed=audited is not None,
    )
    inputs = {name: digest for name, digest in source.inputs.items() if name not in skipped}
    if published is None:
        about = (evaluation, labels, source.name)
        notes = [*vote_notes(*about), *chance_notes(*about)]
        metrics, only = unmasked_metrics(evaluation), source.unlabelled
        notes += answer_notes(source.name, predicted.labels, metrics, unlabelled=only)
        of_classes = (source.classes or labels.known_classes, call.metrics)
        notes += table_notes(source.name, predicted.labels, *of_classes, evaluation.per_class)
        computed = evaluation.results["metric"].unique().to_pylist()
        notes += slice_class_notes(source, predicted.labels, computed, call.slices)
        notes += best_classes_notes(*about) if options.metrics is None else []
        evaluation = evaluation.with_notes(notes)
    if call.resamples and audited is None and call.clusters is None:
        evaluation = evaluation.with_notes([*likely_cluster_notes(source.name, labels, source.images)])
    if audited is not None:
        evaluation, inputs = audited.described(evaluation, source.name), {**inputs, **audited.inputs}
    return replace(evaluation, judged=(judged,), inputs={**evaluation.inputs, **inputs})


def _opened(source: Source, call: EvaluateCall) -> tuple[Labels, AuditedImages | None]:
    """Return the label sets to judge on, and the audit of a data set, if one is requested."""
    if not call.audit.is_requested:
        return source.sets(), None
    return open_audit(call.audit, source, call.reading, call.run, draws=call.posterior, seed=call.seed)


def _check_auditable(benchmark: Benchmark | None, call: EvaluateCall) -> None:
    """Raise an error for options that an audit does not have."""
    if benchmark is not None:
        raise UsageError(
            "A benchmark already has people's label sets of all images.",
            got=f"{call.labels} with `audited`",
            do="pass proposed label sets of all images in a file, or leave out `audited` and `sample`",
        )
    if call.engine == "ray":
        raise UsageError(
            "An audit is evaluated in one process.",
            got="`engine` ray with `audited`",
            do="leave out `engine`",
        )
    sizes = [s for s in call.slices if "," in s and re.search(r"(^|,)n_labels\b", s)]
    if sizes:
        raise UsageError(
            "In an audit, slices by the size of the label set cannot be crossed with other slices.",
            got=", ".join(sizes),
            do="leave out n_labels: these slices are always computed, on their own",
        )
    requested = {"map_resamples": call.map_resamples > 0, "clusters": call.clusters is not None}
    for name, is_requested in requested.items():
        if is_requested:
            raise UsageError(
                "Intervals of an audit come from its design.",
                got=f"`{name}` with `audited`",
                do=f"leave out `{name}`",
            )


@dataclass
class Shows:
    """Shows the models of each data set once it is judged, and imports the drawing code after the first one.

    Attributes
    ----------
    reference : str
        The model that all others are compared with. It must be evaluated on at least one of the data sets.
    own : tuple of str
        The user's own models of a benchmark. At least one must be evaluated on one of the data sets.
    """

    run: Run
    reference: str
    own: tuple[str, ...]
    _are_sure: bool = True

    def __call__(self, part: Evaluation) -> Evaluation:
        """Show the models of a data set, unless the whole call may still end in an error."""
        if self.run.on_event is None:
            return part
        models = set(part.results["model"].unique().to_pylist())
        self._are_sure &= {self.reference} <= {*models, ""} and (
            not self.own or not models.isdisjoint(self.own)
        )
        with contextlib.suppress(OSError):  # nobody reads on: files come first
            part = replace(part, own=self.own).show_models(self.run) if self._are_sure else part
        load_figures()
        return part


def _judged_benchmark(
    entrants: Entrants, judged: Callable[[Source], Evaluation], shown: Shows, run: Run
) -> tuple[list[Evaluation], list[Evaluation]]:
    """Judge the data sets of a benchmark, and those that are judged again at other thresholds."""
    datasets = entrants.benchmark.datasets
    if entrants.own or entrants.misfits.remarks:
        # One by one as they are read: notes on the user's own files belong to the data set at hand.
        return [shown(judged(benchmark_source(entrants, dataset))) for dataset in datasets], []
    # The smallest first and alone, so that its models are shown after two seconds and not after five.
    first, *others = sorted(datasets, key=lambda d: catalog.catalog_entry(d.predictions).size)
    judging = [partial(lambda d: judged(benchmark_source(entrants, d)), dataset) for dataset in others]
    with one_blas_thread():
        parts = {first: shown(judged(benchmark_source(entrants, first)))}
        found = _together([*judging, *_at_thresholds(entrants, (), run)], [shown] * len(others))
    parts |= zip(others, found, strict=False)
    return [parts[dataset] for dataset in datasets], found[len(others) :]


def _together(
    judging: Sequence[Callable[[], Evaluation]], shown: Sequence[Callable[[Evaluation], Evaluation]] = ()
) -> list[Evaluation]:
    """Judge data sets, two at a time, and show the first of them, each as soon as those before it are."""
    pool = ThreadPoolExecutor(2)
    try:
        with one_blas_thread():
            found = pool.map(lambda judge: judge(), judging)  # after an error, no further one begins
            return [*(show(next(found)) for show in shown), *found]
    finally:
        pool.shutdown(wait=False)


def _at_thresholds(
    entrants: Entrants, own: Sequence[Predictions], run: Run
) -> Iterator[Callable[[], Evaluation]]:
    """Yield what judges the models of a benchmark again, on label sets at other thresholds."""
    # The order of the models was checked on the published label sets.
    options = JudgeOptions(metrics=ANALYSED_METRICS, resamples=0, trust_order=True)

    models_of = cache(partial(entrants.judged_again, own=own))

    def judge(dataset: BenchmarkData, threshold: float) -> Evaluation:
        labels, models = entrants.fetch(dataset).labels, models_of(dataset)
        name = f"{dataset.name} p>={threshold:g}"
        source = Source(name, at_threshold(labels, threshold), models=partial(iter, models), n=len(models))
        return judge_models(source, options, run=run)

    for dataset in entrants.benchmark.datasets:
        for threshold in dataset.thresholds:
            yield partial(judge, dataset, threshold)


def _among_published(
    evaluation: Evaluation, thresholds: Sequence[Evaluation], entrants: Entrants, run: Run
) -> Evaluation:
    """Return the evaluation of a benchmark with what belongs to all its data sets."""
    own = entrants.judged_in(evaluation.results)
    thresholds = thresholds or [judge() for judge in _at_thresholds(entrants, own, run)]
    benchmark = entrants.benchmark
    metadata = {**evaluation.metadata, "sources": json.dumps(entrants.sources())}
    if benchmark.ends or benchmark.without:  # so that a later comparison makes them again
        metadata["compared"] = json.dumps({"ends": benchmark.ends, "without": benchmark.without})
    if benchmark.whole:
        metadata["whole"] = benchmark.whole
    return replace(
        evaluation,
        thresholds=Evaluation.concat(thresholds) if thresholds else None,
        own=tuple(p.model for p in own),
        metadata=metadata,
        inputs={**evaluation.inputs, **entrants.hashes(own)},
    )
