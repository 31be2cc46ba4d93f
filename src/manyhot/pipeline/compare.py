"""Results in, comparisons and a report, or a leaderboard, out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from manyhot import catalog, tables
from manyhot.errors import InputError
from manyhot.files import sha256
from manyhot.formats import read_results
from manyhot.formats.timm_results import with_pretraining
from manyhot.pipeline.common import PathLike, Progress
from manyhot.pipeline.outputs import report_folder, write_tables
from manyhot.steps.compare import Comparison, compare, join
from manyhot.steps.leaderboard import narrow, rank_models
from manyhot.tables import Results

PUBLISHED = ("timm-results", "timm-results-2022-03")
"""Entries of the catalogue that hold results."""

_DESCRIBED = ("datasets", "set_sizes", "class_pairs", "rejected")


@dataclass(frozen=True)
class Compared:
    """A comparison and the files it was written to."""

    comparison: Comparison
    written: tuple[Path, ...]


def compare_files(
    results: Sequence[PathLike],
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
    """Compare results between data sets and metrics, and write tables and a report into the folder `out`.

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
        As in `manyhot.steps.compare.compare`.
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
    read = [part for source in results for part in _read(source, progress)]
    comparison = compare(
        read,
        families=_families(families),
        without=without,
        best_from=best_from,
        resamples=resamples,
        seed=seed,
        thresholds=_thresholds(results),
    )
    if not comparison.ranks.num_rows:
        raise InputError(
            "There is nothing to compare.",
            where=comparison.results.name,
            got=f"data sets {', '.join(comparison.results.datasets)}",
            allowed="two data sets with a metric and at least two models in common, or top1 and a metric of "
            "label sets on one",
        )
    inputs = {Path(p).name: sha256(p) for p in results if Path(p).is_file()}
    return Compared(comparison, tuple(_write(comparison, results, out, call, inputs)))


def leaderboard(
    results: Sequence[PathLike] = ("timm-results",),
    *,
    by: str = "",
    dataset: str = "",
    progress: Progress | None = None,
) -> pa.Table:
    """Return the models in their order, with their numbers on all data sets.

    Parameters
    ----------
    results : sequence of path-like
        As in `compare_files`.
    by, dataset : str
        The metric and the data set to rank by; see `manyhot.steps.leaderboard.rank_models`.

    Raises
    ------
    ManyhotError
        For each kind of bad input.
    """
    read = [part for source in results for part in _read(source, progress)]
    return rank_models(join(read), by=by, dataset=dataset)


def leaderboard_text(ranked: pa.Table, kind: str, path: Path | None = None) -> str:
    """Return a leaderboard as text, and write it to `path` if given.

    Parameters
    ----------
    ranked : pyarrow.Table
        From `leaderboard`.
    kind : {"csv", "json", "markdown", "latex"}
        The latter two have the columns that fit on a page.
    """
    from manyhot.report.export import write_text_table

    return write_text_table(ranked if kind in ("csv", "json") else narrow(ranked), kind, path)


def _read(source: PathLike, progress: Progress | None) -> list[Results]:
    if str(source) not in PUBLISHED or Path(source).exists():
        return [read_results(source)]
    name = str(source)
    told = None if progress is None else (lambda done, of: progress(f"fetching {name}", done, of))
    files = [path for file, path in catalog.fetch(name, progress=told).items() if file.startswith("results")]
    first = ("results-imagenet", "results-imagenet-real", "results-imagenetv2-matched-frequency")
    ordered = sorted(files, key=lambda p: (first.index(p.stem) if p.stem in first else len(first), p.stem))
    metadata = catalog.fetch_file("timm-results", "model_metadata-in1k.csv")
    return [with_pretraining(read_results(path), metadata) for path in ordered]


def _thresholds(results: Sequence[PathLike]) -> Results | None:
    found = [p for source in results if (p := Path(source) / "thresholds.parquet").is_file()]
    return Results(tables.read(found[0], "results")) if found else None


def _families(path: PathLike | None) -> dict[str, str]:
    import polars as pl

    if path is None:
        return {}
    try:
        frame = pl.read_csv(Path(path), infer_schema=False)
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
    comparison: Comparison, sources: Sequence[PathLike], out: PathLike, call: str, inputs: dict[str, str]
) -> list[Path]:
    results = comparison.results
    about = {k: v for k, v in results.about.items() if k in ("metrics", "own", "notes", "classes")}
    made = comparison.tables | {"models": results.models} | _described(sources)
    written = [
        tables.write(
            results.table, Path(out) / "results.parquet", "results", call=call, inputs=inputs, about=about
        )
    ]
    written.append(
        tables.write(results.pairs, Path(out) / "pairs.parquet", "pairs", call=call, inputs=inputs)
    )
    written += write_tables(made, out, call=call, inputs=inputs)
    return [*written, *report_folder(out)]


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
