"""Results to a leaderboard: the models in their order, with what does not set them apart.

Results in, comparisons or a leaderboard out.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot import tables
from manyhot.data import catalog
from manyhot.data.benchmarks import BENCHMARKS
from manyhot.errors import InputError, MatchError
from manyhot.evaluate.compare import BEYOND_NOISE, Comparison, compare_tables, join
from manyhot.evaluate.outputs import clear_gallery, clear_report, write_tables, write_thresholds
from manyhot.files import sha256
from manyhot.formats import read_results
from manyhot.formats.tabular import write_csv
from manyhot.formats.timm_files import with_pretraining
from manyhot.formats.writing import PathLike, Progress, check_apart
from manyhot.report.metrics import metrics_of
from manyhot.tables import End, Results, one_chunk
from manyhot.tables.metrics import accuracies, headline


def rank_models(results: Results, *, by: str = "", dataset: str = "") -> pa.Table:
    """Rank models by a metric on a data set.

    Parameters
    ----------
    results : Results
    by : str
        The metric; by default ``real1``, or the first of the headline that the data set has.
    dataset : str
        The first by default.

    Returns
    -------
    pyarrow.Table
        A row a model, the best first: ``rank`` (equals share one), ``best_rank`` (1 and how many models are
        better beyond noise; null where no pairs were tested), ``model``, what is known about it, and value,
        ``lo``, ``hi`` and ``n`` of the metric, then its values under other metrics and on other data sets, as
        ``DATASET METRIC``; the schema's metadata tells the fewest and most images of each, as
        ``manyhot.images``. Models that were judged on other images than most come last and have no rank.

    Raises
    ------
    MatchError
        If there are no such numbers.
    """
    end = _end(results, by, dataset)
    at = {m: v for m, (v, *_) in results.values_at[end].items() if np.isfinite(v)}
    sign = 1 if metrics_of(results.table)(end[1]).lower_is_better else -1
    same = max(([m for m in group if m in at] for group in image_groups(results, end)), key=len, default=[])
    has_rank = set(same)
    models = sorted(at, key=lambda m: (m not in has_rank, sign * at[m], m))
    cost = np.array([sign * at[m] for m in models])
    none: list[int | None] = [None] * (len(models) - len(same))
    ranks = [int(np.searchsorted(cost[: len(same)], c)) + 1 for c in cost[: len(same)]]
    columns: dict[str, Any] = {
        "rank": pa.array(ranks + none, pa.int64()),
        "best_rank": _best_ranks(results, end, models[: len(same)], cost[: len(same)]) + none,
        "model": models,
    }
    columns |= _known(results, models) | _of_end(results, end, models)
    columns |= {
        f"{d} {m}": [numbers[model].value if model in numbers else None for model in models]
        for (d, m, s), numbers in results.values_at.items()
        if s == "all" and (d, m, s) != end and m in accuracies()
    }
    images = {
        " ".join(end[:2]): [min(of), max(of)]
        for end, numbers in results.values_at.items()
        if " ".join(end[:2]) in columns
        and end[2] == "all"
        and (of := [numbers[m].n for m in models if m in numbers])
    }
    return pa.table(columns).replace_schema_metadata({"manyhot.images": json.dumps(images)})


def image_groups(results: Results, end: End) -> list[list[str]]:
    """Return the models of a data set in groups, each of which was judged on the same images.

    Of the same images are models with as many of them, skipped ones included, unless they were resampled and
    could not be paired.

    Parameters
    ----------
    results : Results
    end : tuple of str
        Data set, metric and slice.

    Returns
    -------
    list of list of str
        The largest group first; of two as large the one with more images.
    """
    table = _at(results.table, end)
    images = pc.add(table["n"], pc.fill_null(table["n_skipped"], 0)).to_pylist()
    sampled = set(_at(results.samples, end)["model"].to_pylist())
    tested = _at(results.pairs, end)
    tested = tested.filter(pc.is_finite(tested["diff"]))
    paired = set(zip(tested["model_a"].to_pylist(), tested["model_b"].to_pylist(), strict=True))
    groups: list[tuple[int, list[str]]] = []
    for model, n in zip(table["model"].to_pylist(), images, strict=True):
        for of, group in groups:
            first = group[0]
            apart = {first, model} <= sampled and not paired & {(first, model), (model, first)}
            if of == n and not apart:
                group.append(model)
                break
        else:
            groups.append((n, [model]))
    return [group for _, group in sorted(groups, key=lambda g: (-len(g[1]), -g[0]))]


def narrow(ranked: pa.Table, *, others: int = 3) -> pa.Table:
    """Return a leaderboard as narrow as a page: the metric, top-1 beside it, and a few other data sets.

    Parameters
    ----------
    ranked : pyarrow.Table
        From `rank_models`.
    others : int
        Other data sets that are kept.
    """
    names = ranked.column_names
    value = names[names.index("lo") - 1]
    dataset, _, metric = value.rpartition(" ")
    beside = [f"{dataset} top1"] if metric != "top1" else [f"{dataset} real1"]
    elsewhere = {c.rpartition(" ")[0]: None for c in names if " " in c} if others else {}
    for other in [d for d in elsewhere if d != dataset and not d.endswith("-classes")][:others]:
        beside.append(next(c for c in (f"{other} {metric}", f"{other} top1", "") if c in names or not c))
    known = [c for c in ("best_rank",) if ranked[c].null_count < len(ranked)]
    kept = ["rank", *known, "model", "params", "pretraining", value, "lo", "hi", "n", *beside]
    return ranked.select([c for c in kept if c in names])


def _end(results: Results, by: str, dataset: str) -> End:
    dataset = dataset or results.datasets[0]
    if dataset not in results.datasets:
        raise MatchError(
            f"There is no data set {dataset!r} in the results.",
            where=results.name or None,
            allowed=", ".join(results.datasets),
        )
    metrics = {m: None for d, m, s in results.values_at if d == dataset and s == "all"}
    metric = by or next((m for m in ("real1", *headline()) if m in metrics), next(iter(metrics), ""))
    if metric not in metrics:
        raise MatchError(
            f"There are no numbers of {metric or 'any metric'} on {dataset}.",
            where=results.name or None,
            allowed="; ".join(
                f"{d}: {', '.join(m for e, m, s in results.values_at if e == d and s == 'all')}"
                for d in results.datasets
            ),
        )
    return dataset, metric, "all"


def _best_ranks(
    results: Results, end: End, models: list[str], cost: np.ndarray[Any, Any]
) -> list[int | None]:
    tested = _at(results.pairs, end)
    if not tested.num_rows:
        return [None] * len(models)
    names = pa.array(models, pa.string())
    a, b = (pc.fill_null(pc.index_in(tested[c], names), -1).to_numpy() for c in ("model_a", "model_b"))
    apart = pc.fill_null(pc.less(tested["p_adjusted"], BEYOND_NOISE), False).to_numpy()
    apart &= (a >= 0) & (b >= 0)
    a, b = a[apart], b[apart]
    worse = np.where(cost[a] > cost[b], a, b)
    return [1 + int(n) for n in np.bincount(worse, minlength=len(models))]


def _at(table: pa.Table, end: End) -> pa.Table:
    for column, name in zip(("dataset", "metric", "slice"), end, strict=True):
        table = table.filter(pc.equal(table[column], name))
    return table


def _known(results: Results, models: list[str]) -> dict[str, pa.Array]:
    table = results.models
    at = pc.index_in(pa.array(models, pa.string()), one_chunk(table["model"]))
    found = {c: one_chunk(table[c]).take(at) for c in table.column_names if c != "model"}
    return {c: values for c, values in found.items() if values.null_count < len(values)}


def _of_end(results: Results, end: End, models: list[str]) -> dict[str, list[Any]]:
    numbers = results.values_at[end]
    columns = zip(*(numbers[m] for m in models), strict=True)
    return dict(zip((" ".join(end[:2]), "lo", "hi", "n"), map(list, columns), strict=True))


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
        out where `without` names none. Else as in `manyhot.evaluate.compare.compare_tables`.
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
    comparison = compare_tables(
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
        The metric and the data set to rank by; see `manyhot.evaluate.leaderboard.rank_models`.

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
    run = {"results": tables.results_digest(results.table)}
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
