"""Rankings of models, and which models cannot be told apart."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.errors import MatchError
from manyhot.evaluate.drops import BEYOND_NOISE
from manyhot.report.text import metrics_of
from manyhot.tables import End, Results, one_chunk
from manyhot.tables.result_tables import accuracies, headline


def rank_models(results: Results, *, by: str = "", dataset: str = "") -> pa.Table:
    """Rank models by a metric on a data set.

    Parameters
    ----------
    results : Results
    by : str
        The metric; by default ``real1``, or the first headline metric that the data set has.
    dataset : str
        The first by default.

    Returns
    -------
    pyarrow.Table
        One row per model, best first: ``rank`` (ties share one), ``best_rank`` (1 plus the number of models
        that are better beyond noise; null if no pairs were tested), ``model``, its columns of the models
        table, and value, ``lo``, ``hi`` and ``n`` of the metric, then its values under other metrics and on
        other data sets, as ``DATASET METRIC``; the schema's metadata gives the fewest and most images of
        each, as ``manyhot.images``. Models that were judged on other images than most come last and have no
        rank.

    Raises
    ------
    MatchError
        If there are no such results.
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
    columns |= _models_columns(results, models) | _of_end(results, end, models)
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

    Models with the same number of images, including skipped ones, count as judged on the same images, unless
    they were resampled and could not be paired.

    Parameters
    ----------
    results : Results
    end : tuple of str
        Data set, metric and slice.

    Returns
    -------
    list of list of str
        The largest group first; of two equally large groups, the one with more images.
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
    """Return a leaderboard that fits on a page: the metric, top-1, and a few other data sets.

    Parameters
    ----------
    ranked : pyarrow.Table
        From `rank_models`.
    others : int
        Number of other data sets to keep.
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
            f"There are no values of {metric or 'any metric'} on {dataset}.",
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


def _models_columns(results: Results, models: list[str]) -> dict[str, pa.Array]:
    table = results.models
    at = pc.index_in(pa.array(models, pa.string()), one_chunk(table["model"]))
    found = {c: one_chunk(table[c]).take(at) for c in table.column_names if c != "model"}
    return {c: values for c, values in found.items() if values.null_count < len(values)}


def _of_end(results: Results, end: End, models: list[str]) -> dict[str, list[Any]]:
    numbers = results.values_at[end]
    columns = zip(*(numbers[m] for m in models), strict=True)
    return dict(zip((" ".join(end[:2]), "lo", "hi", "n"), map(list, columns), strict=True))
