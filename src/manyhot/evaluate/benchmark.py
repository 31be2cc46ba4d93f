"""Published benchmarks, with one's own models among the published ones."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from manyhot.classes import class_list
from manyhot.data import catalog
from manyhot.data.benchmarks import BENCHMARKS, Benchmark, Fetched, data_set
from manyhot.data.inputs import Asked, Reading, Source
from manyhot.errors import MatchError, UnknownNameError
from manyhot.files import sha256
from manyhot.formats import prediction_files, read_predictions
from manyhot.run import Run
from manyhot.tables import Predictions
from manyhot.tables.skipped_files import SkippedFiles, fitting_models


def benchmark_of(labels: object, predictions: object) -> Benchmark | None:
    """Return the benchmark, or the data set of one, that a call names; None where it names other labels.

    Raises
    ------
    UnknownNameError
        If there are neither such labels nor predictions for them.
    """
    if not isinstance(labels, str | os.PathLike):
        return None
    name = str(labels)
    if name in BENCHMARKS:  # which wins over a folder called like it: that is ./imagenet
        return BENCHMARKS[name]
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
    """The published models of a benchmark, and one's own among them.

    Attributes
    ----------
    benchmark : Benchmark
    sets : list of Fetched
        Its data sets.
    own : list of Predictions
        One's own models that predict images of any of them.
    misfits : SkippedFiles
        Files of one's own models that are skipped.
    """

    benchmark: Benchmark
    sets: list[Fetched]
    own: list[Predictions]
    misfits: SkippedFiles

    @classmethod
    def open(
        cls, benchmark: Benchmark, predictions: Any, models: Sequence[str], reading: Reading, run: Run
    ) -> Entrants:
        """Fetch the data sets, and read one's own models.

        Raises
        ------
        MatchError
            If the own predictions are of none of the data sets.
        """
        listed = predictions if isinstance(predictions, list | tuple) else [predictions]
        tables = [p for p in listed if isinstance(p, Predictions)]
        paths = [p for p in listed if not isinstance(p, Predictions)]
        files = prediction_files(paths) if paths else []
        misfits = SkippedFiles(len(files))
        own = tables + list(misfits.reading(files, partial(read_predictions, rows=reading.rows)))
        asked = Asked(models=models)
        sets = [d.fetch(run.on_progress) for d in benchmark.datasets]
        fitting = fitting_models(own, partial(_check_own, sets=sets), misfits)
        own = [p for p, _ in fitting if asked.fits(p.model)]
        published = {path.stem for fetched in sets for path in fetched.files}
        # One's own resnet50 is another than the published one.
        own = [replace(p, model=f"own/{p.model}") if p.model in published else p for p in own]
        chosen = [replace(f, files=tuple(p for p in f.files if asked.fits(p.stem))) for f in sets]
        if models:
            asked.check_some([*own, *(p for f in chosen for p in f.files)], sorted(published))
        return cls(benchmark, chosen, own, misfits)

    def entering(self, fetched: Fetched) -> list[Predictions]:
        """Return one's own models that predict images of a data set."""
        return [p for p in self.own if fetched.covers(p)]

    def judged_in(self, results: pa.Table) -> list[Predictions]:
        """Return one's own models that have results.

        Raises
        ------
        InputError
            If none has, the first error of one's own models.
        """
        names = set(results["model"].to_pylist())
        judged = [p for p in self.own if p.model in names]
        self.misfits.check_left(len(judged))
        return judged

    def to_judge_again(self, own: Sequence[Predictions]) -> Iterator[tuple[Fetched, list[Predictions]]]:
        """Yield data sets to judge at other thresholds, with their models."""
        # One that is skipped on a data set may be judged on another.
        everywhere = [p for p in own if p.source not in self.misfits.errors]
        for fetched in self.sets:
            if fetched.about.thresholds:
                yield fetched, [*fetched.published, *(p for p in everywhere if fetched.covers(p))]

    def sources(self) -> list[dict[str, Any]]:
        """Return title, licence, citation and notes of the published data."""
        names = [n for d in self.benchmark.datasets for n in (d.labels[0], d.predictions, *d.images[:1])]
        entries = [catalog.catalog_entry(n) for n in dict.fromkeys(names)]
        return [
            {k: getattr(e, k) for k in ("title", "home", "licence", "citation", "notes")} for e in entries
        ]

    def hashes(self, own: Sequence[Predictions]) -> Mapping[str, str]:
        """Return the sha256 of the files of one's own models, by name."""
        return {Path(p.source).name: sha256(p.source) for p in own if p.source}


def sources_of(entrants: Entrants) -> Iterator[Source]:
    """Yield the data sets of a benchmark, each with the published models and the own ones that predict it."""
    for fetched in entrants.sets:
        own = entrants.entering(fetched)
        yield Source(
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


def _check_own(predictions: Predictions, sets: Sequence[Fetched]) -> None:
    if not any(fetched.covers(predictions) for fetched in sets):
        raise MatchError(
            f"{predictions.model} predicts images of none of the benchmark's data sets.",
            where=predictions.source,
            got=f"ids such as {predictions.image_id[0]}",
            allowed=" or ".join(f"{f.labels.image_id[0]} ({f.name})" for f in sets),
            do="give the row order with --rows, or predict one of these data sets",
        )
