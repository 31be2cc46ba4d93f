"""Results that a call names: in memory, in files and folders, or published."""

from __future__ import annotations

import difflib
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

import pyarrow as pa

from manyhot.data import catalog
from manyhot.data.benchmarks import BENCHMARKS
from manyhot.errors import InputError
from manyhot.formats import read_results
from manyhot.formats.timm_files import with_pretraining
from manyhot.formats.writing import PathLike
from manyhot.parameters import Repeated, Shown
from manyhot.run import QUIET, Run
from manyhot.tables import Results, read_thresholds

PUBLISHED = ("timm-results", "timm-results-2022-03")
"""Entries of the catalogue that hold results."""


@runtime_checkable
class HasResults(Protocol):
    """What an evaluation is to a comparison."""

    @property
    def thresholds(self) -> HasResults | None:
        """Results on label sets at other thresholds."""

    def as_results(self) -> Results:
        """Return the results as comparisons read them."""


ResultsLike = Annotated[Any, Shown("RESULTS"), Repeated()]
"""Results as tables, evaluations, files, folders and published names; one of them, or a list."""


def listed(results: ResultsLike) -> list[Any]:
    """Return the results that a call names one by one; a text is one of them, not its letters."""
    if isinstance(results, list | tuple):
        return [one for several in results for one in listed(several)]
    return [results]


def open_results(results: ResultsLike, run: Run = QUIET) -> list[Results]:
    """Return the results that a call names, in its order.

    Parameters
    ----------
    results
        Evaluations, `Results` and results tables; folders that ``manyhot evaluate`` wrote, results as Parquet
        or CSV, timm's CSVs; names in `PUBLISHED`.
    run
        How far downloads are.

    Raises
    ------
    ManyhotError
        If there are no results of that name, or they cannot be read.
    """
    return [part for source in listed(results) for part in read_source(source, run)]


def open_thresholds(results: ResultsLike) -> Results | None:
    """Return the first results on label sets at other thresholds that evaluations or folders have."""
    for source in listed(results):
        if isinstance(source, HasResults) and source.thresholds is not None:
            return source.thresholds.as_results()
        if isinstance(source, str | os.PathLike) and (table := read_thresholds(source)) is not None:
            return table
    return None


def read_source(source: Any, run: Run = QUIET) -> list[Results]:
    """Return the results of one source; see `open_results`."""
    if isinstance(source, Results):
        return [source]
    if isinstance(source, HasResults):
        return [source.as_results()]
    if isinstance(source, pa.Table):
        return [Results(source)]
    if str(source) not in PUBLISHED:
        _check_exists(source)
        return [read_results(source)]
    name, on_progress = str(source), run.on_progress
    progress = None if on_progress is None else (lambda done, of: on_progress(f"fetching {name}", done, of))
    files = [p for file, p in catalog.fetch(name, progress=progress).items() if file.startswith("results")]
    first = ("results-imagenet", "results-imagenet-real", "results-imagenetv2-matched-frequency")
    ordered = sorted(files, key=lambda p: (first.index(p.stem) if p.stem in first else len(first), p.stem))
    metadata = catalog.fetch_file("timm-results", "model_metadata-in1k.csv")
    return [replace(with_pretraining(read_results(p), metadata), name=name) for p in ordered]


def _check_exists(source: PathLike) -> None:
    path = Path(source)
    if path.is_dir() and not (path / "results.parquet").exists() and (files := sorted(path.glob("*.csv"))):
        raise InputError(
            "The folder holds no results.parquet.",
            where=source,
            got=", ".join(f.name for f in files[:3]) + (", …" if files[3:] else ""),
            do=f"give its files: {path}/*.csv",
        )
    if path.exists():
        return
    name = str(source)
    near = difflib.get_close_matches(name, PUBLISHED, n=1)
    do = f"did you mean {near[0]!r}?" if near else None
    if name in BENCHMARKS:
        do = f"judge the benchmark first: manyhot evaluate {name} --out {name}"
    raise InputError(
        "The file does not exist.",
        where=source,
        allowed=f"results as a file or folder, or {' or '.join(PUBLISHED)}",
        do=do,
    )
