"""Evaluate models on label sets: from labels and predictions to results and a report."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa

from manyhot.classes import class_list, class_list_of
from manyhot.command import command
from manyhot.core.threads import one_blas_thread
from manyhot.data import catalog
from manyhot.data.benchmarks import (
    BENCHMARKS,
    Benchmark,
    BenchmarkData,
    Fetched,
    benchmark_named,
    data_set,
    same_name_note,
)
from manyhot.data.data_sets import Source
from manyhot.data.inputs import (
    READING,
    LabelsLike,
    PredictionsLike,
    Reading,
    open_inputs,
)
from manyhot.data.published_columns import with_published_columns
from manyhot.errors import MatchError, UnknownNameError, UsageError
from manyhot.evaluate.audited import NO_AUDIT, Audit, AuditedImages, open_audit
from manyhot.evaluate.chance import chance_notes
from manyhot.evaluate.compared_pairs import CompareWith, check_reference, reference_of
from manyhot.evaluate.describe import rights_of
from manyhot.evaluate.judge import JudgeOptions, Resampling, judge_models
from manyhot.evaluate.ranks import ANALYSED_METRICS
from manyhot.evaluate.results import Evaluation
from manyhot.evaluate.write import JudgedData, load_figures, prepare_renderer
from manyhot.files import sha256
from manyhot.formats import read_predictions
from manyhot.formats.prediction_folders import prediction_files, unread_notes
from manyhot.parameters import RESAMPLES, AtLeast, Between, OptionName, Resamples, Seed, Shown, Was
from manyhot.run import QUIET, Run
from manyhot.tables import Labels, Predictions
from manyhot.tables.arrays import at_threshold
from manyhot.tables.image_ids import AUTO, match_ids
from manyhot.tables.skipped_files import SkippedFiles, fitting_models


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
        near = difflib.get_close_matches(name, BENCHMARKS, n=1)
        do = f"did you mean {near[0]!r}?" if near else None
        if name.startswith("timm-results"):
            do = f"these are results already: manyhot compare {name}"
        raise UnknownNameError(f"There is no benchmark {name!r}.", allowed=", ".join(BENCHMARKS), do=do)
    return None


@dataclass(frozen=True, eq=False)
class Entrants:
    """The published models of a benchmark, and the user's own models.

    Attributes
    ----------
    benchmark : Benchmark
    fetch : callable
        Returns a data set with the models to evaluate. It is fetched and read on the first call.
    own : list of Predictions
        The user's own models with predictions for images of any of these data sets.
    misfits : SkippedFiles
        Skipped files of the user's own models.
    match : str
        How ids are matched.
    """

    benchmark: Benchmark
    fetch: Callable[[BenchmarkData], Fetched]
    own: list[Predictions]
    misfits: SkippedFiles
    match: str = AUTO

    @classmethod
    def open(cls, benchmark: Benchmark, predictions: Any, reading: Reading, run: Run) -> Entrants:
        """Read the user's own models. The data sets are fetched when they are needed.

        Raises
        ------
        MatchError
            If the user's own predictions are for none of the data sets.
        """
        listed = predictions if isinstance(predictions, list | tuple) else [predictions]
        _check_files(listed)
        tables = [p for p in listed if isinstance(p, Predictions)]
        paths = [p for p in listed if not isinstance(p, Predictions)]
        files = prediction_files(paths) if paths else []
        misfits = SkippedFiles(len(files))
        misfits.remarks += unread_notes(paths, files)
        read = partial(read_predictions, rows=reading.rows, scores=reading.scores)
        own = tables + list(misfits.reading(files, read))
        fetch = cache(partial(BenchmarkData.fetch, progress=run.on_progress))

        @cache
        def chosen(dataset: BenchmarkData) -> Fetched:
            fetched = fetch(dataset)
            return replace(fetched, files=tuple(p for p in fetched.files if reading.fits(p.stem)))

        entrants = cls(benchmark, chosen, own, misfits, reading.match)
        if not (own or reading.models):
            return entrants
        fitting = fitting_models(own, partial(_check_own, sets=entrants.sets, match=reading.match), misfits)
        own = [p for p, _ in fitting if reading.fits(p.model)]
        published = {path.stem for dataset in benchmark.datasets for path in fetch(dataset).files}
        # One's own resnet50 is another than the published one.
        own = [replace(p, model=f"own/{p.model}") if p.model in published else p for p in own]
        if reading.models:
            reading.check_some([*own, *(p for f in entrants.sets for p in f.files)], sorted(published))
        return replace(entrants, own=own)

    @property
    def sets(self) -> list[Fetched]:
        """The data sets of the benchmark."""
        return [self.fetch(dataset) for dataset in self.benchmark.datasets]

    def entering(self, fetched: Fetched) -> list[Predictions]:
        """Return the user's own models with predictions for images of a data set."""
        return self._covering(self.own, fetched)

    def _covering(self, models: Sequence[Predictions], fetched: Fetched) -> list[Predictions]:
        """Return the models with predictions for images of a data set, with its ids."""
        matching = self.misfits.matching(models, fetched.labels.image_id, fetched.name, self.match)
        return [p for p in matching if fetched.covers(p)]

    def judged_in(self, results: pa.Table) -> list[Predictions]:
        """Return the user's own models that have results.

        Raises
        ------
        InputError
            If none of the user's own models has results. The error is the first that was raised for one of
            them.
        """
        names = set(results["model"].to_pylist())
        judged = [p for p in self.own if p.model in names]
        self.misfits.check_left(len(judged))
        return judged

    def judged_again(self, dataset: BenchmarkData, own: Sequence[Predictions]) -> list[Predictions]:
        """Return the models of a data set that are also evaluated at other thresholds."""
        # One that is skipped on a data set may be judged on another.
        everywhere = [p for p in own if p.source not in self.misfits.errors]
        fetched = self.fetch(dataset)
        return [*fetched.published, *self._covering(everywhere, fetched)]

    def sources(self) -> list[dict[str, Any]]:
        """Return the titles, licences, citations and notes of the published data."""
        names = [n for d in self.benchmark.datasets for n in (d.labels[0], d.predictions, *d.images[:1])]
        entries = [catalog.catalog_entry(n) for n in dict.fromkeys(names)]
        return [
            {k: getattr(e, k) for k in ("title", "home", "licence", "citation", "notes")} for e in entries
        ]

    def hashes(self, own: Sequence[Predictions]) -> Mapping[str, str]:
        """Return the sha256 of the files of the user's own models, by name."""
        return {Path(p.source).name: sha256(p.source) for p in own if p.source}


def _check_files(predictions: Sequence[object]) -> None:
    """Raise an error for predictions of a benchmark whose images are not known."""
    for one in predictions:
        if not isinstance(one, Predictions | str | os.PathLike):
            raise UsageError(
                "Predictions for a benchmark must name their images, but arrays and frames do not.",
                where="`predictions`",
                got=type(one).__name__,
                allowed="paths of files, or tables: mh.Predictions(image_id, model, scores=scores)",
                do="pass the file, and the images of its rows with `rows`",
            )


def benchmark_source(entrants: Entrants, dataset: BenchmarkData) -> Source:
    """Return a data set of a benchmark with its published models and the user's own models for it."""
    fetched = entrants.fetch(dataset)
    own = entrants.entering(fetched)
    return Source(
        fetched.name,
        fetched.labels,
        fetched.images,
        class_list(),
        partial(fetched.models, own),
        len(fetched.files) + len(own),
        dict(fetched.inputs),
        entrants.misfits,
        fetched.about,
    )


def _check_own(predictions: Predictions, sets: Sequence[Fetched], match: str) -> None:
    ids, name = predictions.image_id, predictions.model
    matchings = (
        match_ids(f.labels.image_id, ids, left_name=f.name, right_name=name, match=match) for f in sets
    )
    if not any(map(len, matchings)):
        raise MatchError(
            f"{predictions.model} has no predictions for images of the benchmark's data sets.",
            where=predictions.source,
            got=f"ids such as {predictions.image_id[0]}",
            allowed=" or ".join(f"{f.labels.image_id[0]} ({f.name})" for f in sets),
            do="pass the row order with `rows`, or predict one of these data sets",
        )


MAX_MAP_RESAMPLES = 200
"""Bound on `map_resamples`: each sorts all scores again."""


@command(
    "evaluate",
    out="results",
    examples=(
        "manyhot evaluate imagenet",
        "manyhot evaluate real.json --predictions resnet50.npy --rows rows.json",
    ),
)
def evaluate(
    labels: Annotated[LabelsLike, Was("--labels")],
    predictions: PredictionsLike = (),
    *,
    metrics: Annotated[Sequence[str] | None, Shown("METRIC"), OptionName("--metric")] = None,
    slices: Annotated[Sequence[str], Shown("SLICE"), OptionName("--slice")] = (),
    resamples: Resamples = RESAMPLES,
    seed: Seed = 0,
    map_resamples: Annotated[int, Between(0, MAX_MAP_RESAMPLES)] = 0,
    posterior: Annotated[int, AtLeast(0)] = 0,
    compare_with: CompareWith = None,
    gallery: Annotated[int, AtLeast(0)] | None = None,
    audit: Audit = NO_AUDIT,
    reading: Reading = READING,
    run: Run = QUIET,
) -> Evaluation:
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
    metrics
        Name of a metric, or a call string such as 'jaccard(threshold=0.5)'. By default, rank metrics, and
        score metrics for models with scores of all classes; if there are no original labels, these models get
        only mAP and F1.
    slices
        Additional subsets of images to evaluate: by original label (class=KEY, or class for all classes), or
        by a column of the images table (COLUMN for all its values, COLUMN=VALUE, 'COLUMN>=NUMBER', or
        COLUMN=* for images with a value).
    resamples
        Number of bootstrap resamples; 0 for no intervals and no pairs, even for metrics that need no
        resamples.
    seed
        Seed for the bootstrap.
    map_resamples
        Number of bootstrap resamples, at most 200, for metrics that are computed again on each resample, such
        as mAP, AUROC and AURC. Their intervals then come from the bootstrap instead of the jackknife. 0 for
        none.
    posterior
        Number of draws of label sets from the probabilities of the labels, such as 200, for intervals over
        both raters and images. With `audited`, number of draws of people's label sets, such as 20. 0 for
        none.
    compare_with
        Name of the model that all others are compared with; all to compare all pairs of models, or none. By
        default, all pairs of up to 300 models are compared, and none of more models.
    gallery
        Maximum number of images in the gallery of the report, which needs photographs. The default is 1000,
        and with 0 there is no gallery.
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
    mapping of model names to tables, arrays or frames. Integers of shape (n, k) are classes with the best
    first, and floats of shape (n, C) are scores. The rows of frames are matched by their index or by a column
    of ids with the same name as in files, and their columns by name. A note counts the images that only the
    labels or only the predictions contain. Arrays are matched by position.

    Examples
    --------
    >>> from manyhot.data.inputs import Reading
    >>> found = evaluate([[0, 1], [2]], [[1, 0], [0, 2]], resamples=0, reading=Reading(n_classes=3))
    >>> found.value("real1")
    0.5
    """
    benchmark = benchmark_of(labels, predictions)
    if benchmark is not None and (reading.images or reading.classes or reading.dataset or gallery):
        raise UsageError(
            "A benchmark has its own labels, images and classes.",
            got=labels,
            do="leave out `images`, `classes`, `dataset` and `gallery`",
        )
    if audit.is_requested:
        _check_auditable(benchmark, labels, map_resamples)
    entrants = None if benchmark is None else Entrants.open(benchmark, predictions, reading, run)
    if isinstance(predictions, Iterator) and audit.is_requested:
        predictions = list(predictions)  # models that propose label sets for one another are read twice
    if entrants is not None and (note := same_name_note(labels)):
        entrants.misfits.remarks.append(note)
    options = JudgeOptions(
        metrics=benchmark.metrics if metrics is None and benchmark is not None else metrics,
        slices=(slices,) if isinstance(slices, str) else tuple(slices),
        resampling=Resampling(resamples, seed, map_resamples, posterior),
        trust_order=reading.trust_order,
        per_class=True,
        compare_with=compare_with,
    )
    opened = partial(open_audit, audit, reading=reading, run=run, draws=posterior, seed=seed)
    judged = partial(
        _judged, options=options, opened=opened if audit.is_requested else None, reading=reading, run=run
    )
    if run.on_event is not None:  # a command, which then writes a report
        prepare_renderer()
    own = () if entrants is None else tuple(p.model for p in entrants.own)
    shown = Shows(run, reference_of(compare_with), own)
    thresholds: list[Evaluation] = []
    if entrants is None:
        sources = open_inputs(labels, predictions, unlabelled=audit.is_requested, reading=reading, run=run)
        parts = [shown(judged(source)) for source in sources]
    else:
        parts, thresholds = _judged_benchmark(entrants, judged, shown, run)
    together = Evaluation.concat(parts) if len(parts) > 1 else parts[0]
    check_reference(compare_with, together.results["model"].unique().to_pylist())
    evaluation = replace(together, gallery=gallery, slices=options.slices)
    return evaluation if entrants is None else _among_published(evaluation, thresholds, entrants, run)


def _judged(
    source: Source,
    options: JudgeOptions,
    opened: Callable[[Source], tuple[Labels, AuditedImages]] | None,
    reading: Reading,
    run: Run,
) -> Evaluation:
    """Judge the models of one data set."""
    files = dict[str, Path]()
    labels, audited = (source.sets(), None) if opened is None else opened(source)
    source, slices = with_published_columns(source, options.slices, match=reading.match)
    published = source.published
    slices += [s for s in published.slices if s not in slices] if published else []
    options = replace(options, slices=tuple(slices), audit=audited)

    def models() -> Iterator[Predictions]:
        for model in source.models():
            if model.source and published is None:
                files[model.source] = Path(model.source)
            yield model

    evaluation = judge_models(replace(source, labels=labels, models=models), options, run=run)
    skipped = {Path(name).name for name in source.misfits.errors}
    judged = JudgedData(
        source.name,
        labels,
        images=None if published else source.images,
        rows=None if published else reading.rows,
        classes=source.classes or class_list_of(labels.class_hash),
        match=reading.match,
        files=tuple(path for name, path in files.items() if name not in source.misfits.errors),
        source=rights_of(published) if published else {},
        is_proposed=audited is not None,
    )
    inputs = {name: digest for name, digest in source.inputs.items() if name not in skipped}
    if published is None:
        evaluation = evaluation.with_notes([*chance_notes(evaluation, labels, source.name)])
    if audited is not None:
        evaluation, inputs = audited.described(evaluation, source.name), {**inputs, **audited.inputs}
    return replace(evaluation, judged=(judged,), inputs=inputs)


def _check_auditable(benchmark: Benchmark | None, labels: object, map_resamples: int) -> None:
    """Raise an error for options that an audit does not have."""
    if benchmark is not None:
        raise UsageError(
            "A benchmark already has people's label sets of all images.",
            got=f"{labels} with `audited`",
            do="pass proposed label sets of all images in a file, or leave out `audited` and `sample`",
        )
    if map_resamples:
        raise UsageError(
            "Intervals of an audit come from its design.",
            got="`map_resamples` with `audited`",
            do="leave out `map_resamples`",
        )


@dataclass
class Shows:
    """Shows the models of each data set as soon as it is judged; what draws is imported after the first.

    Attributes
    ----------
    run : Run
    reference : str
        The model that all others are compared with, which must be on one of the data sets.
    own : tuple of str
        The user's own models of a benchmark, of which one must be on one of the data sets.
    """

    run: Run
    reference: str
    own: tuple[str, ...]
    _are_sure: bool = True

    def __call__(self, part: Evaluation) -> Evaluation:
        """Show the models of a data set, unless an error may still take the place of all of them."""
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
    options = JudgeOptions(metrics=ANALYSED_METRICS, resampling=Resampling(0), trust_order=True)

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
