"""Judge the models of a published benchmark, with one's own among them, and compare them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from manyhot.classes import class_list
from manyhot.data import catalog
from manyhot.data.benchmarks import BENCHMARKS, Benchmark, Fetched
from manyhot.errors import MatchError, UnknownNameError
from manyhot.evaluate.compare import compare_tables
from manyhot.evaluate.describe import Description, describe_fetched
from manyhot.evaluate.evaluate import Options, Outcome, judge
from manyhot.evaluate.results import Evaluation
from manyhot.evaluate.sensitivity import METRICS as ANALYSED
from manyhot.evaluate.write import write_evaluation
from manyhot.files import sha256
from manyhot.formats import prediction_files, read_predictions
from manyhot.formats.writing import PathLike, Progress
from manyhot.tables import Predictions
from manyhot.tables.sets import at_threshold
from manyhot.tables.skipped_files import SkippedFiles, fitting_models


def evaluate_benchmark(
    name: str,
    out: PathLike,
    *,
    predictions: Sequence[PathLike] = (),
    rows: PathLike | None = None,
    options: Options | None = None,
    call: str = "",
    progress: Progress | None = None,
) -> Outcome:
    """Judge all published models of a benchmark, and one's own among them.

    Parameters
    ----------
    name : str
        One of `BENCHMARKS`.
    out : path-like
    predictions : sequence of path-like
        Own models; each is judged on the data sets whose images it predicts.
    rows, options, call, progress
        As in `evaluate_files`; `rows` is for the own predictions.

    Raises
    ------
    UnknownNameError
        If there is no such benchmark.
    MatchError
        If own predictions are of none of its data sets.
    """
    if name not in BENCHMARKS:
        raise _no_benchmark(name)
    files = prediction_files(predictions) if predictions else []
    misfits = SkippedFiles(len(files))
    own = list(misfits.reading(files, partial(read_predictions, rows=rows)))
    sets = [d.fetch(progress) for d in BENCHMARKS[name].datasets]
    own = [p for p, _ in fitting_models(own, partial(_check_own, sets=sets), misfits)]
    own, options = _set_apart(own, sets), options or Options()
    if options.metrics is None:
        options = replace(options, metrics=BENCHMARKS[name].metrics)
    evaluation = Evaluation.concat([_judge(f, own, options, progress, misfits) for f in sets])
    judged = set(evaluation.results["model"].to_pylist())
    own = [p for p in own if p.model in judged]
    misfits.check_left(len(own))
    # One that is skipped on a data set may be judged on another.
    everywhere = [p for p in own if p.source not in misfits.errors]
    again = [v for f in sets for v in _judge_at_thresholds(f, everywhere, progress)]
    thresholds = Evaluation.concat(again) if again else None
    inputs = {key: value for fetched in sets for key, value in fetched.inputs.items()}
    highlight = tuple(p.model for p in own)
    benchmark = BENCHMARKS[name]
    evaluation = replace(evaluation, about={**evaluation.about, "sources": json.dumps(_sources(benchmark))})
    if benchmark.ends:  # so that a later comparison makes them again
        told = json.dumps({"ends": benchmark.ends, "without": benchmark.without})
        evaluation = replace(evaluation, about={**evaluation.about, "compared": told})
    comparison = compare_tables(
        [evaluation.tables(name)],
        ends=benchmark.ends,
        without=benchmark.without,
        seed=options.seed,
        thresholds=None if thresholds is None else thresholds.tables(),
    )
    written = write_evaluation(
        evaluation,
        out,
        description=Description.concat([describe_fetched(f) for f in sets]),
        comparison=comparison,
        thresholds=thresholds,
        call=call,
        inputs=inputs | {Path(p.source).name: sha256(p.source) for p in own},
        highlight=highlight,
    )
    return Outcome(evaluation, comparison, tuple(written), highlight)


def _sources(benchmark: Benchmark) -> list[dict[str, Any]]:
    """Return what the published data are, with licence, citation and what must be known about them."""
    names = [n for d in benchmark.datasets for n in (d.labels[0], d.predictions, *d.images[:1])]
    entries = [catalog.catalog_entry(n) for n in dict.fromkeys(names)]
    return [{k: getattr(e, k) for k in ("title", "home", "licence", "citation", "notes")} for e in entries]


def _no_benchmark(name: str) -> UnknownNameError:
    near = difflib.get_close_matches(name, BENCHMARKS, n=1)
    do = f"did you mean {near[0]!r}?" if near else None
    if name.startswith("timm-results"):
        do = f"these are results already: manyhot compare {name}"
    return UnknownNameError(f"There is no benchmark {name!r}.", allowed=", ".join(BENCHMARKS), do=do)


def _judge(
    fetched: Fetched,
    own: Sequence[Predictions],
    options: Options,
    progress: Progress | None,
    misfits: SkippedFiles,
) -> Evaluation:
    """Judge the published models, and the own ones that predict its images."""
    mine = [p for p in own if fetched.covers(p)]
    n = len(fetched.files) + len(mine)
    slices = (*options.slices, *(s for s in fetched.about.slices if s not in options.slices))
    options = replace(options, slices=slices)
    models, images = fetched.models(mine), fetched.images
    return judge(fetched.labels, models, n, images, class_list(), fetched.name, options, progress, misfits)


def _judge_at_thresholds(
    fetched: Fetched, own: Sequence[Predictions], progress: Progress | None
) -> Iterator[Evaluation]:
    """Judge on the label sets at other thresholds: values for the sensitivity analysis, no intervals."""
    models = list(fetched.models([p for p in own if fetched.covers(p)])) if fetched.about.thresholds else []
    for threshold in fetched.about.thresholds:
        labels = at_threshold(fetched.labels, threshold)
        # Their order was checked on the published label sets.
        name = f"{fetched.name} p>={threshold:g}"
        options = Options(ANALYSED, resamples=0, trust_order=True)
        yield judge(labels, iter(models), len(models), None, None, name, options, progress)


def _set_apart(own: Sequence[Predictions], sets: Sequence[Fetched]) -> list[Predictions]:
    """Give own models a name of their own where a published one has it: one's own resnet50 is another."""
    published = {path.stem for fetched in sets for path in fetched.files}
    return [replace(p, model=f"own/{p.model}") if p.model in published else p for p in own]


def _check_own(predictions: Predictions, sets: Sequence[Fetched]) -> None:
    if not any(fetched.covers(predictions) for fetched in sets):
        raise MatchError(
            f"{predictions.model} predicts images of none of the benchmark's data sets.",
            where=predictions.source,
            got=f"ids such as {predictions.image_id[0]}",
            allowed=" or ".join(f"{f.labels.image_id[0]} ({f.name})" for f in sets),
            do="give the row order with --rows, or predict one of these data sets",
        )
