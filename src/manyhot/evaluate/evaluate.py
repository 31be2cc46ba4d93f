"""Judge models on label sets: labels and predictions in, results and a report out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from manyhot.classes import class_list_of
from manyhot.command import command
from manyhot.data.inputs import (
    READING,
    LabelsLike,
    ModelPatterns,
    PredictionsLike,
    Reading,
    Source,
    open_inputs,
)
from manyhot.errors import InputError
from manyhot.evaluate.benchmark import Entrants, benchmark_of, sources_of
from manyhot.evaluate.describe import rights_of
from manyhot.evaluate.judge import Resampling, judge_models
from manyhot.evaluate.results import Evaluation
from manyhot.evaluate.sensitivity import ANALYSED_METRICS
from manyhot.evaluate.write import JudgedData
from manyhot.parameters import RESAMPLES, AtLeast, Between, OptionName, Resamples, Seed, Shown, Was
from manyhot.run import QUIET, Run
from manyhot.tables import Predictions
from manyhot.tables.metrics import ORIGINAL_LABELS, accuracies
from manyhot.tables.sets import at_threshold

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
    models: ModelPatterns = (),
    metrics: Annotated[Sequence[str] | None, Shown("METRIC"), OptionName("--metric")] = None,
    slices: Annotated[Sequence[str], Shown("SLICE"), OptionName("--slice")] = (),
    resamples: Resamples = RESAMPLES,
    seed: Seed = 0,
    map_resamples: Annotated[int, Between(0, MAX_MAP_RESAMPLES)] = 0,
    gallery: Annotated[int, AtLeast(0)] | None = None,
    reading: Reading = READING,
    run: Run = QUIET,
) -> Evaluation:
    """Judge models on label sets: results, pairs of models and a report.

    On a benchmark, your own models are judged among the published ones, each on the data sets whose images it
    predicts.

    Parameters
    ----------
    labels
        A benchmark such as imagenet, or one of its data sets; label sets in any format; a campaign; an images
        table or a folder that predict wrote, for the original labels alone. In Python also tables, lists of
        classes, a multi-hot matrix or frame of shape (n, C), or one class per image of shape (n,).
    predictions
        Files and folders of predictions. In Python also tables, and arrays or frames, or a mapping of model
        names to them: integers of shape (n, k) are classes, best first; floats of shape (n, C) are scores.
        Frames are matched by their index, or a column image_id, and by the names of their columns; arrays by
        position.
    models
        Models whose names fit, such as 'resnet*'.
    metrics
        A metric or call string, such as 'jaccard(threshold=0.5)'; by default all metrics of ranks, and those
        of scores for models that have scores of all classes.
    slices
        Further subsets of images: class=KEY, or class for all; of the images table COLUMN, COLUMN=VALUE,
        'COLUMN>=NUMBER', or COLUMN=* for images with a value.
    resamples
        Bootstrap resamples; 0 for no intervals and no pairs.
    seed
        Seed of the bootstrap.
    map_resamples
        Bootstrap resamples for mAP, macro F1 and calibration, which are not means over images; 0 for no
        intervals of these.
    gallery
        Images up to which the report has a gallery, where photographs are available; 0 for none. By default
        1000.
    reading
        How files are read.
    run
        Progress, and the command line for the metadata.

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        If there are no predictions, a file cannot be read, or an option is out of range.
    MatchError
        If labels and a model share no image, or are over different class lists; if frames are not of the same
        images or classes; if own models predict images of none of the benchmark's data sets.
    OrderError
        If rows or classes look to be in another order than claimed.
    UnknownNameError
        If there is no such metric or benchmark.

    Examples
    --------
    >>> from manyhot.data.inputs import Reading
    >>> found = evaluate([[0, 1], [2]], [[1, 0], [0, 2]], resamples=0, reading=Reading(n_classes=3))
    >>> found.value("real1")
    0.5
    """
    benchmark = benchmark_of(labels, predictions)
    if benchmark is not None and (reading.images or reading.classes or reading.dataset or gallery):
        raise InputError(
            "A benchmark brings its own labels, images and classes.",
            got=labels,
            do="leave out images, classes, dataset and gallery",
        )
    entrants = None if benchmark is None else Entrants.open(benchmark, predictions, models, reading, run)
    sources = (
        open_inputs(labels, predictions, models=models, reading=reading, run=run)
        if entrants is None
        else sources_of(entrants)
    )
    resampling = Resampling(resamples, seed, map_resamples)
    metrics = benchmark.metrics if metrics is None and benchmark is not None else metrics
    parts = [_judged(source, metrics, slices, resampling, reading, run) for source in sources]
    evaluation = replace(Evaluation.concat(parts) if len(parts) > 1 else parts[0], gallery=gallery)
    return evaluation if entrants is None else _among_published(evaluation, entrants, run)


def _judged(
    source: Source,
    metrics: Sequence[str] | None,
    slices: Sequence[str],
    resampling: Resampling,
    reading: Reading,
    run: Run,
) -> Evaluation:
    """Judge the models of one data set."""
    labels, files = source.sets(), dict[str, Path]()
    if source.labels is None and metrics is None:
        # On original labels alone, metrics of label sets would say the same again.
        metrics = accuracies(ORIGINAL_LABELS)
    classes = source.classes or class_list_of(labels.class_hash)
    slices = [slices] if isinstance(slices, str) else slices
    published = source.published

    def models() -> Iterator[Predictions]:
        for model in source.models():
            if model.source and published is None:
                files[model.source] = Path(model.source)
            yield model

    evaluation = judge_models(
        labels,
        models(),
        metrics=metrics,
        slices=(*slices, *(s for s in published.slices if s not in slices)) if published else slices,
        images=source.images,
        classes=classes,
        resampling=resampling,
        trust_order=reading.trust_order,
        dataset=source.name,
        misfits=source.misfits,
        progress=_progress(source.name, source.n, run),
    )
    skipped = {Path(name).name for name in source.misfits.errors}
    judged = JudgedData(
        source.name,
        labels,
        images=None if published else source.images,
        rows=None if published else reading.rows,
        classes=classes,
        files=tuple(path for name, path in files.items() if name not in source.misfits.errors),
        source=rights_of(published) if published else {},
    )
    inputs = {name: digest for name, digest in source.inputs.items() if name not in skipped}
    return replace(evaluation, judged=(judged,), inputs=inputs)


def _progress(name: str, n: int, run: Run) -> Callable[[int, str], None] | None:
    on_progress = run.on_progress
    # One step more than models: intervals and pairs.
    return on_progress and (lambda done, _: on_progress(f"judging on {name}", done, max(n + 1, done)))


def _among_published(evaluation: Evaluation, entrants: Entrants, run: Run) -> Evaluation:
    """Return the evaluation of a benchmark with what belongs to all its data sets."""
    own = entrants.judged_in(evaluation.results)
    thresholds = [
        judge_models(
            at_threshold(fetched.labels, threshold),
            models,
            metrics=ANALYSED_METRICS,
            resampling=Resampling(0),
            # Their order was checked on the published label sets.
            trust_order=True,
            dataset=f"{fetched.name} p>={threshold:g}",
            progress=_progress(f"{fetched.name} p>={threshold:g}", len(models), run),
        )
        for fetched, models in entrants.to_judge_again(own)
        for threshold in fetched.about.thresholds
    ]
    benchmark = entrants.benchmark
    metadata = {**evaluation.metadata, "sources": json.dumps(entrants.sources())}
    if benchmark.ends:  # so that a later comparison makes them again
        metadata["compared"] = json.dumps({"ends": benchmark.ends, "without": benchmark.without})
    return replace(
        evaluation,
        thresholds=Evaluation.concat(thresholds) if thresholds else None,
        own=tuple(p.model for p in own),
        metadata=metadata,
        inputs={**evaluation.inputs, **entrants.hashes(own)},
    )
