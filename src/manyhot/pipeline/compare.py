"""Results in, comparisons or a leaderboard out."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from manyhot import catalog, tables
from manyhot.errors import InputError
from manyhot.files import sha256
from manyhot.formats import read_results
from manyhot.formats.tabular import write_csv
from manyhot.formats.timm_results import with_pretraining
from manyhot.pipeline.benchmarks import BENCHMARKS
from manyhot.pipeline.common import PathLike, Progress, check_apart
from manyhot.pipeline.outputs import clear_gallery, clear_report, write_tables, write_thresholds
from manyhot.steps.compare import Comparison, compare
from manyhot.steps.joining import join
from manyhot.steps.leaderboard import narrow, rank_models
from manyhot.tables import End, Results

PUBLISHED = ("timm-results", "timm-results-2022-03")
"""Entries of the catalogue that hold results."""

_KEPT = ("metrics", "own", "notes", "classes", "resamples", "seed", "compared", "sources")
"""What the metadata of compared results keeps of theirs."""

_DESCRIBED = ("datasets", "set_sizes", "class_pairs", "rejected")


@dataclass(frozen=True)
class Compared:
    """A comparison and the files it was written to."""

    comparison: Comparison
    written: tuple[Path, ...]


def compare_files(
    results: Sequence[PathLike] | PathLike,
    out: PathLike,
    *,
    families: PathLike | None = None,
    without: Sequence[str] = (),
    best_from: float = 0.85,
    resamples: int = 2000,
    seed: int = 0,
    call: str = "",
    progress: Progress | None = None,
) -> Compared:
    """Compare results between data sets and metrics, and write tables into the folder `out`.

    `manyhot.report_folder` draws them.

    Parameters
    ----------
    results : sequence of path-like
        Folders that `evaluate_files` or `evaluate_benchmark` wrote, results tables as Parquet or CSV, timm's
        results CSVs, and names of published results such as ``timm-results``. The first data set is the one
        that others are compared with.
    out : path-like
    families : path-like, optional
        CSV with ``model`` and ``family``, for models whose names do not tell their family.
    without, best_from, resamples, seed
        Of a benchmark's folder its own comparisons are made again, and the models that it leaves out are left
        out where `without` names none. Else as in `manyhot.steps.compare.compare`.
    call : str
        The command, for the metadata.
    progress : callable, optional

    Raises
    ------
    InputError
        If there is nothing to compare; nothing is written then.
    ManyhotError
        For each kind of bad input.
    """
    results = _listed(results)
    read = [part for source in results for part in read_source(source, progress)]
    check_apart(results, out, ("results", "pairs", "samples", "thresholds"))
    thresholds = _thresholds(results)
    ends, left_out = _told(read)
    comparison = compare(
        read,
        ends=ends,
        families=_families(families),
        without=without or left_out,
        best_from=best_from,
        resamples=resamples,
        seed=seed,
        thresholds=thresholds,
    )
    if not comparison.ranks.num_rows:
        raise InputError(
            "There is nothing to compare.",
            where=comparison.results.name,
            got=f"data sets {', '.join(comparison.results.datasets)}",
            allowed="two data sets with a metric and at least two models in common, or top1 and a metric of "
            "label sets on one",
        )
    inputs = dict(_hash(p) for p in results if Path(p).exists())
    return Compared(comparison, tuple(_write(comparison, thresholds, results, out, call, inputs)))


def leaderboard(
    results: Sequence[PathLike | Results] | PathLike | Results = ("timm-results",),
    *,
    by: str = "",
    dataset: str = "",
    progress: Progress | None = None,
) -> pa.Table:
    """Return the models in their order, with their numbers on all data sets.

    Parameters
    ----------
    results : sequence of path-like or Results
        As in `compare_files`.
    by, dataset : str
        The metric and the data set to rank by; see `manyhot.steps.leaderboard.rank_models`.

    Raises
    ------
    ManyhotError
        For each kind of bad input.
    """
    given = [results] if isinstance(results, str | os.PathLike | Results) else results
    read = [part for source in given for part in read_source(source, progress)]
    return rank_models(join(read), by=by, dataset=dataset)


TEXTS = {".csv": "csv", ".json": "json", ".md": "markdown", ".tex": "latex"}
"""How a leaderboard is written, by the suffix of its file."""


def leaderboard_text(ranked: pa.Table, kind: str = "", path: Path | None = None) -> str:
    """Return a leaderboard as text, and write it to `path` if given.

    Parameters
    ----------
    ranked : pyarrow.Table
        From `leaderboard`.
    kind : {"csv", "json", "markdown", "latex"}
        By default what the suffix of `path` says. The latter two have the columns that fit on a page, and
        shares in percent.

    Raises
    ------
    InputError
        If there is no kind, and the suffix is none of `TEXTS`.
    """
    from manyhot.report.export import for_paper, write_text_table

    kind = kind or TEXTS.get(path.suffix.lower() if path else "", "")
    if not kind:
        raise InputError("Cannot write this kind of file.", where=path, allowed=", ".join(TEXTS))
    return write_text_table(ranked if kind in ("csv", "json") else for_paper(narrow(ranked)), kind, path)


def read_source(source: PathLike | Results, progress: Progress | None) -> list[Results]:
    """Return the results that a call names: a file, a folder, published ones, or some in memory.

    Raises
    ------
    ManyhotError
        There are none of that name, or they cannot be read.
    """
    if isinstance(source, Results):
        return [source]
    if str(source) not in PUBLISHED:
        _check_exists(source)
        return [read_results(source)]
    name = str(source)
    told = None if progress is None else (lambda done, of: progress(f"fetching {name}", done, of))
    files = [path for file, path in catalog.fetch(name, progress=told).items() if file.startswith("results")]
    first = ("results-imagenet", "results-imagenet-real", "results-imagenetv2-matched-frequency")
    ordered = sorted(files, key=lambda p: (first.index(p.stem) if p.stem in first else len(first), p.stem))
    metadata = catalog.fetch_file("timm-results", "model_metadata-in1k.csv")
    return [replace(with_pretraining(read_results(p), metadata), name=name) for p in ordered]


def _hash(source: PathLike) -> tuple[str, str]:
    path = Path(source)
    file = path / "results.parquet" if path.is_dir() else path
    return (f"{path.name}/{file.name}" if path.is_dir() else path.name), sha256(file)


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


def _told(read: Sequence[Results]) -> tuple[list[tuple[End, End]], list[str]]:
    """Return what a benchmark compares beside the usual, and which models it leaves out."""
    found = [json.loads(part.about["compared"]) for part in read if "compared" in part.about]
    ends = [(tuple(x), tuple(y)) for told in found for x, y in told["ends"]]
    return ends, [pattern for told in found for pattern in told["without"]]


def _thresholds(results: Sequence[PathLike]) -> Results | None:
    found = [t for source in results if (t := tables.read_thresholds(source)) is not None]
    return found[0] if found else None


def _listed(results: Sequence[PathLike] | PathLike) -> list[PathLike]:
    """Return several results as given; a single text is one of them, not its letters."""
    return [results] if isinstance(results, str | os.PathLike) else list(results)


def _families(path: PathLike | None) -> dict[str, str]:
    import polars as pl

    if path is None:
        return {}
    try:
        frame = pl.read_csv(Path(path), infer_schema=False)
        twice = frame["model"].filter(frame["model"].is_duplicated())
        if len(twice):
            raise InputError("A model has two families.", where=path, got=twice[0], allowed="one row a model")
        return dict(frame.select("model", "family").iter_rows())
    except FileNotFoundError as error:
        raise InputError("The file does not exist.", where=path) from error
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise InputError(
            "This is not a table of families.",
            where=path,
            got=str(error).partition("\n")[0],
            allowed="CSV with the columns model and family",
        ) from error


def _write(
    comparison: Comparison,
    thresholds: Results | None,
    sources: Sequence[PathLike],
    out: PathLike,
    call: str,
    inputs: dict[str, str],
) -> list[Path]:
    results = comparison.results
    about = {k: v for k, v in results.about.items() if k in _KEPT}
    path = Path(out) / "results.parquet"
    written = [tables.write(results.table, path, "results", call=call, inputs=inputs, about=about)]
    written.append(write_csv(results.table, path.with_suffix(".csv")))
    run = {"results": tables.digest(results.table)}
    for name, table in {"pairs": results.pairs, "samples": results.samples}.items():
        path = Path(out) / f"{name}.parquet"
        written.append(tables.write(table, path, name, call=call, inputs=inputs, about=run))
    written += write_thresholds(None if thresholds is None else thresholds.table, out, call, inputs)
    made = comparison.tables | {"models": results.models} | _described(sources)
    clear_report(out)
    clear_gallery(out)
    return [*written, *write_tables(made, out, call=call, inputs=inputs, results=results.table)]


def _described(sources: Sequence[PathLike]) -> dict[str, pa.Table]:
    """Return what the folders tell of their labels."""
    found = {
        name: [tables.read(p, name) for s in sources if (p := Path(s) / f"{name}.parquet").is_file()]
        for name in _DESCRIBED
    }
    return {
        name: pa.concat_tables([p.replace_schema_metadata() for p in parts])
        for name, parts in found.items()
        if parts
    }
