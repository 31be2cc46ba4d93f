"""The models that enter a benchmark, published ones and the user's own, and published columns to slice by."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import pyarrow as pa

from manyhot.classes import class_list
from manyhot.data import catalog
from manyhot.data.benchmarks import BENCHMARKS, Benchmark, BenchmarkData, Fetched
from manyhot.data.data_sets import Source
from manyhot.data.inputs import Reading
from manyhot.data.named_files import named_files
from manyhot.errors import MatchError, UsageError
from manyhot.evaluate.options import EvaluateOptions
from manyhot.files import sha256
from manyhot.formats import read_predictions
from manyhot.formats.prediction_folders import prediction_files, unread_notes
from manyhot.run import Run
from manyhot.tables import Images, Predictions, one_chunk
from manyhot.tables.frames import count_shared, examples, rows_like
from manyhot.tables.image_ids import AUTO, match_ids
from manyhot.tables.labels import with_ids_like
from manyhot.tables.skipped_files import SkippedFiles, fitting_models


@dataclass(frozen=True, eq=False)
class Entrants:
    """The published models of a benchmark, and the user's own models.

    Attributes
    ----------
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
        named, names = named_files(predictions)
        listed = named or (predictions if isinstance(predictions, list | tuple) else [predictions])
        _check_files(listed)
        tables = [p for p in listed if isinstance(p, Predictions)]
        paths = [p for p in listed if not isinstance(p, Predictions)]
        files = prediction_files(paths) if paths else []
        misfits = SkippedFiles.among(files, strict=reading.strict)
        misfits.remarks += unread_notes(paths, files)
        read = partial(read_predictions, rows=reading.rows, scores=reading.scores)
        own = tables + list(misfits.reading(files, read))
        own = [replace(p, model=names.get(p.source, p.model)) for p in own]
        fetch, alone = cache(partial(BenchmarkData.fetch, progress=run.on_progress)), Lock()

        @cache
        def chosen(dataset: BenchmarkData) -> Fetched:
            fetched = fetch(dataset)
            return replace(fetched, files=tuple(p for p in fetched.files if reading.fits(p.stem)))

        def once(dataset: BenchmarkData) -> Fetched:
            with alone:  # two threads would read the files of one data set at the same time: 0.5 s
                return chosen(dataset)

        entrants = cls(benchmark, once, own, misfits, reading.match)
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

    def covering(self, models: Sequence[Predictions], fetched: Fetched) -> list[Predictions]:
        """Return the models with predictions for images of a data set, with its ids."""
        matching = self.misfits.matching(models, fetched.labels.image_id, fetched.name, self.match)
        return [p for p in matching if fetched.covers(p)]

    def judged_in(self, results: pa.Table) -> list[Predictions]:
        """Return the user's own models that have results.

        Raises
        ------
        InputError
            If none of the user's own models has results. The error is the first one that was raised for any
            of them.
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
        return [*fetched.published, *self.covering(everywhere, fetched)]

    def sources(self) -> list[dict[str, Any]]:
        """Return the titles, licences, citations and notes of the published data."""
        names = [n for d in self.benchmark.datasets for n in (d.labels[0], d.predictions, *d.images[:1])]
        entries = [catalog.catalog_entry(n) for n in dict.fromkeys(names)]
        return [
            {k: getattr(e, k) for k in ("title", "home", "licence", "citation", "notes")} for e in entries
        ]

    def hashes(self, own: Sequence[Predictions]) -> Mapping[str, str]:
        """Return the sha256 of the files of the user's own models, keyed by name."""
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
                do="pass the file, and the images of its rows as `rows`",
            )


def benchmark_source(entrants: Entrants, dataset: BenchmarkData) -> Source:
    """Return a data set of a benchmark with its published models and the user's own models for it."""
    fetched = entrants.fetch(dataset)
    own = entrants.covering(entrants.own, fetched)
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
            do="pass the row order as `rows`, or run predict on one of these data sets",
        )


PUBLISHED_COLUMNS: dict[str, BenchmarkData] = {"factor": BENCHMARKS["imagenet-x"].datasets[0]}
"""The data set whose images table has the column."""


Options = TypeVar("Options", bound=EvaluateOptions)


def with_published_columns(source: Source, options: Options, *, match: str = AUTO) -> tuple[Source, Options]:
    """Return a data set with the published columns that slices need, and options with only possible slices.

    Slices of a published data set whose images lack the columns are left out, and a remark lists them.

    Parameters
    ----------
    match : str
        How ids are matched; see `manyhot.tables.image_ids.match_ids`.

    Raises
    ------
    MatchError
        If the column belongs to images other than those of the user's own data set.
    MissingExtraError
        If the Python package that contains the column is not installed.
    """
    for name, data in PUBLISHED_COLUMNS.items():
        entry = catalog.catalog_entry(data.images[0])
        remark = f"the column {name!r} is that of {entry.name} (licence {entry.licence})"
        if source.published == data:
            source.misfits.remarks.append(remark)
        asked = [s for s in options.slices if re.search(rf"(^|,){name}([<>=,]|$)", s)]
        if not asked or (source.images is not None and name in source.images.table.column_names):
            continue
        table = source.images if source.labels is None else source.labels
        assert table is not None
        column, _ = with_ids_like(data.images_table(), table.image_id, other_name=source.name, match=match)
        if count_shared(table.image_id, column.image_id):
            source = _with_column(source, column, name)
            source.inputs.update({f"{entry.name}/{f}": entry.file(f).sha256 for f in data.images[1:]})
            source.misfits.remarks.append(remark)
        elif source.published is not None:
            options = replace(options, slices=[s for s in options.slices if s not in asked])
            remark = (
                f"{', '.join(asked)} left out: {entry.name} has the column {name!r}, but not for these images"
            )
            source.misfits.remarks.append(remark)
        else:
            raise MatchError(
                f"{entry.name} has the column {name!r}, but not for these images.",
                got=f"ids such as {examples(table.image_id)}",
                allowed=f"ids such as {examples(column.image_id)}",
                do=f"pass an images table that has the column {name!r} as `images`",
            )
    return source, options


def _with_column(source: Source, column: Images, name: str) -> Source:
    """Return a data set whose images table has a column of another table, null where that lacks the image."""
    if source.images is None:
        return replace(source, images=Images(column.table.select(["image_id", name]), column.name))
    images = source.images
    rows = rows_like(images.image_id, column.image_id, left_name=images.name, right_name=column.name)
    values = one_chunk(column.table[name]).take(rows)
    return replace(source, images=replace(images, table=images.table.append_column(name, values)))
