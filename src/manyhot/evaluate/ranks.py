"""Rankings of models, ties between them, and how drops depend on how label sets were made.

Label sets of two data sets are rarely made in the same way. ReaL rated half of the images of ImageNet's
validation set and keeps a class from a score of 0.8 on; Multilabelfy showed twenty classes for every image of
ImageNetV2. Their set sizes are not the same quantity, so each number here is a what-if analysis, not a
correction. Nor are rated images a random sample: ReaL asked about those on which models disagreed.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.core.array_types import Floats
from manyhot.core.comparison import Families
from manyhot.errors import MatchError
from manyhot.evaluate.compared_pairs import ComparedPairs
from manyhot.evaluate.drops import BEYOND_NOISE
from manyhot.evaluate.slices import BY_SIZE
from manyhot.report.text import metrics_of
from manyhot.tables import End, ModelValue, Results, one_chunk, schema
from manyhot.tables.definitions import COUNT, ITS, REAL, TEXT, bounds, declare_table
from manyhot.tables.result_tables import accuracies, at_end, first_columns, headline


def shown_metrics(results: Results, dataset: str = "", models: Collection[str] | None = None) -> list[str]:
    """Return the metrics that a terminal shows: all if there are at most seven, else the headline metrics.

    Parameters
    ----------
    models : collection of str, optional
        Models of the data set. Metrics for which none of them has a value are left out.
    """
    every = list(dict.fromkeys(results.table["metric"].to_pylist()))
    if models is not None:
        every = [m for m in every if any(x in results.values_at.get((dataset, m, "all"), {}) for x in models)]
    usual = [m for m in first_columns() if m in every]
    return every if len(every) <= 7 else usual if len(usual) > 1 else every[:7]


def leading_metric(results: Results, dataset: str, models: Collection[str] | None = None) -> str:
    """Return the metric by which models are ranked.

    Parameters
    ----------
    models : collection of str, optional
        Models of the data set; by default all. Without original labels, they may have different metrics.

    Returns
    -------
    str
        See `first_of_most`. ``real1`` comes first, and then the metrics that are shown.
    """
    among = dataset_models(results, dataset) if models is None else models
    values = {
        m: of for (name, m, slice), of in results.values_at.items() if (name, slice) == (dataset, "all")
    }
    shown = shown_metrics(results)
    order = [
        m for m in ("real1", *shown, *headline(), *values) if m in values and (m != "real1" or m in shown)
    ]
    return first_of_most({m: sum(model in values[m] for model in among) for m in order}, len(among))


def first_of_most(counts: Mapping[str, int], n_models: int) -> str:
    """Return the first metric that more than half of the models have or, if none, the one that most have."""
    usual = (metric for metric, n in counts.items() if 2 * n > n_models)
    return next(usual, max(counts, key=lambda metric: counts[metric], default=""))


def best_and_closest(results: Results, dataset: str, *, by_label: bool = False) -> tuple[str, ...]:
    """Return which model is ranked best and which is closest to the votes, as two clauses.

    There are none if these are the same, or do not differ beyond noise in `kl_votes`. Models that were
    evaluated on other images than most are left out.

    Parameters
    ----------
    by_label : bool
        Whether the clauses use the labels of the metrics, as a page does, instead of their names.
    """
    at = leading_metric(results, dataset)
    ranked, votes = (results.values_at.get((dataset, m, "all"), {}) for m in (at, "kl_votes"))
    by, kl = map(metrics_of(results.table), (at, "kl_votes"))
    sign = 1 if by.lower_is_better else -1
    models = image_groups(results, (dataset, at, "all"))[0] if votes else []
    distance = {m: votes[m].value for m in models if m in votes and np.isfinite(votes[m].value)}
    defined = [m for m in models if np.isfinite(ranked[m].value)]
    first = min(defined, key=lambda m: (sign * ranked[m].value, distance.get(m, np.inf)), default="")
    closest = min(distance, key=lambda m: distance[m], default=first)
    if first not in distance or distance[closest] == distance[first]:
        return ()
    pairs = at_end(results.pairs, (dataset, "kl_votes", "all")).to_pylist()
    of_both = [r["p_adjusted"] for r in pairs if {r["model_a"], r["model_b"]} == {first, closest}]
    if any(p is not None and p > BEYOND_NOISE for p in of_both):
        return ()
    name_by, name_kl = (by.label, kl.label) if by_label else (at, "kl_votes")
    numbers = f"{name_kl} is {distance[closest]:.3f} instead of {distance[first]:.3f}"
    return (
        f"{first} is best by {name_by}",
        f"the probabilities of {closest} are closest to the votes: {numbers}",
    )


def dataset_models(results: Results, dataset: str) -> list[str]:
    """Return the models that have a value on all images of a data set, in the order of the results."""
    ends = ((name, slice) == (dataset, "all") for name, _, slice in results.values_at)
    values = itertools.compress(results.values_at.values(), ends)
    return list(dict.fromkeys(model for of in values for model in of))


def rank_models(results: Results, *, by: str = "", dataset: str = "") -> pa.Table:
    """Rank models by a metric on a data set.

    Parameters
    ----------
    by : str
        Metric to rank by; by default ``real1`` or, if most models have no real1, the first metric that more
        than half of them have.
    dataset : str
        Name of the data set; by default the first.

    Returns
    -------
    pyarrow.Table
        One row per model, the best first. The columns are ``rank`` (ties share a rank), ``best_rank`` (1 plus
        the number of models that are better beyond noise; null unless the model was compared with every other
        model), ``model``, the columns of the models table, the value, ``lo``, ``hi`` and ``n`` of the metric,
        and the values under other metrics and on other data sets in columns named ``DATASET METRIC``. The
        schema's metadata contains, as JSON, the minimum and maximum number of images of each column
        (``manyhot.images``), the numbers of models, of those without a rank, and of tested pairs
        (``manyhot.models``, ``manyhot.unranked``, ``manyhot.pairs``), the models without a value
        (``manyhot.without``), and the models that were evaluated only on other data sets
        (``manyhot.elsewhere``). Models that were evaluated on different images than most models come last and
        have no rank.

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
        if s == "all" and (d, m, s) != end and (m == end[1] or m in accuracies())
    }
    images = {
        " ".join(end[:2]): [min(of), max(of)]
        for end, numbers in results.values_at.items()
        if " ".join(end[:2]) in columns
        and end[2] == "all"
        and (of := [numbers[m].n for m in models if m in numbers])
    }
    without = [m for m in dataset_models(results, end[0]) if m not in at]
    instead = leading_metric(results, end[0], without) if without else ""
    tested = at_end(results.pairs, end)["p_adjusted"]
    about = {
        "images": images,
        "models": len(models),
        "unranked": len(none),
        "pairs": len(tested) - tested.null_count,
        "without": {"models": without, "metric": instead if instead != end[1] else ""},
        "elsewhere": [m for m in results.table["model"].unique().to_pylist() if m not in {*at, *without}],
        "units": {end[1]: metrics_of(results.table)(end[1]).given_unit},
    }
    metadata = {f"manyhot.{key}": json.dumps(value) for key, value in about.items()}
    return pa.table(columns).replace_schema_metadata(metadata)


def image_groups(results: Results, end: End) -> list[list[str]]:
    """Return the models of a data set in groups that were evaluated on the same images.

    Resampled values come with a hash of the images that are counted. Models without resampled values are
    assumed to be evaluated on the same images if they have the same number of images, including skipped
    images. Results of earlier versions have no hashes. In such results, models with resampled values but
    without a pair were evaluated on different images.

    Parameters
    ----------
    end : tuple of str
        Data set, metric and slice.

    Returns
    -------
    list of list of str
        The groups, the largest first. If two groups have the same size, the one with more images comes first.
    """
    table = at_end(results.table, end)
    images = pc.add(table["n"], pc.fill_null(table["n_skipped"], 0)).to_pylist()
    are_apart = _different_images(results, end)
    groups: list[tuple[int, list[str]]] = []
    for model, n in zip(table["model"].to_pylist(), images, strict=True):
        for of, group in groups:
            if of == n and not are_apart(group[0], model):
                group.append(model)
                break
        else:
            groups.append((n, [model]))
    return [group for _, group in sorted(groups, key=lambda g: (-len(g[1]), -g[0]))]


def _different_images(results: Results, end: End) -> Callable[[str, str], bool]:
    """Return whether two models are known to count different images."""
    # Without the columns of lists: to copy their values for one metric takes 0.1 s with 67 models.
    slim = [f.name for f in results.samples.schema if pa.types.is_string(f.type)]
    samples = at_end(results.samples.select(slim), end)
    models = samples["model"].to_pylist()
    if "images" in samples.column_names:
        digests = dict(zip(models, samples["images"].to_pylist(), strict=True))
        if any(digests.values()):
            return lambda a, b: None not in (x := digests.get(a), y := digests.get(b)) and x != y
    sampled, pairs = set(models), at_end(results.pairs, end)
    tested = pairs.filter(pc.is_finite(pairs["difference"]))
    if not sampled and results.values_at:  # pages are drawn without samples; an undefined difference tells
        undefined = pairs.filter(pc.invert(pc.is_finite(pairs["difference"])))
        apart = set(zip(undefined["model_a"].to_pylist(), undefined["model_b"].to_pylist(), strict=True))
        return lambda a, b: bool(apart & {(a, b), (b, a)})
    paired = set(zip(tested["model_a"].to_pylist(), tested["model_b"].to_pylist(), strict=True))
    return lambda a, b: {a, b} <= sampled and not paired & {(a, b), (b, a)}


_OTHER_DATASETS = 3
"""Other data sets on a page with a leaderboard."""


def narrow(ranked: pa.Table) -> pa.Table:
    """Return a leaderboard narrow enough for a page: the metric, top-1 accuracy and a few other data sets.

    Parameters
    ----------
    ranked : pyarrow.Table
        From `rank_models`.
    """
    names = ranked.column_names
    value = names[names.index("lo") - 1]
    dataset, _, metric = value.rpartition(" ")
    beside = [f"{dataset} top1"] if metric != "top1" else [f"{dataset} real1"]
    elsewhere = {c.rpartition(" ")[0]: None for c in names if " " in c}
    for other in [d for d in elsewhere if d != dataset and not d.endswith("-classes")][:_OTHER_DATASETS]:
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
    metric = by or leading_metric(results, dataset)
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
    tested = at_end(results.pairs, end)
    if not tested.num_rows or not ComparedPairs.of(results.about, end[0]).are_all:
        return [None] * len(models)
    names = pa.array(models, pa.string())
    a, b = (pc.fill_null(pc.index_in(tested[c], names), -1).to_numpy() for c in ("model_a", "model_b"))
    apart = pc.fill_null(pc.less(tested["p_adjusted"], BEYOND_NOISE), False).to_numpy()
    among = (a >= 0) & (b >= 0)
    apart &= among
    n_compared = np.bincount(np.concatenate([a[among], b[among]]), minlength=len(models))
    a, b = a[apart], b[apart]
    n_better = np.bincount(np.where(cost[a] > cost[b], a, b), minlength=len(models))
    is_known = n_compared == len(models) - 1
    return [1 + int(n) if known else None for n, known in zip(n_better, is_known, strict=True)]


def _models_columns(results: Results, models: list[str]) -> dict[str, pa.Array]:
    table = results.models
    at = pc.index_in(pa.array(models, pa.string()), one_chunk(table["model"]))
    found = {c: one_chunk(table[c]).take(at) for c in table.column_names if c != "model"}
    return {c: values for c, values in found.items() if values.null_count < len(values)}


def _of_end(results: Results, end: End, models: list[str]) -> dict[str, list[Any]]:
    numbers = results.values_at[end]
    columns = zip(*(numbers[m] for m in models), strict=True)
    return dict(zip((" ".join(end[:2]), "lo", "hi", "n"), map(list, columns), strict=True))


ANALYSED_METRICS = ("top1", "real1", "variable_topk")
"""Whose drop is analysed."""


PROTOCOL_WARNING = (
    "Set sizes found under different protocols are not the same quantity. Re-weighting shows how much "
    "of the drop depends on the protocol, but does not remove the effect of the protocol. Rated images are "
    "those on which models disagreed."
)
"""Printed with every sensitivity table."""


FEWEST = 2
"""Models in common that it takes."""


RATED = "rated=true"

ANALYSES = (
    "as published",
    "not empty",
    "sizes of y",
    "sizes of x",
    "rated at x",
    "rated, sizes of y",
    "threshold at x",
)

declare_table(
    "sensitivity",
    (
        TEXT("dataset_x", "the data set on the x axis"),
        TEXT("dataset_y", "the data set on the y axis"),
        TEXT("metric", "a registered name, with its options"),
        TEXT("analysis", "how the data are changed; as published if they are unchanged", values=ANALYSES),
        REAL.nullable(
            "threshold", "threshold on the probability of the labels at x; null for the published threshold"
        ),
        REAL("value_x", "mean over models at x"),
        REAL("value_y", "mean over models at y"),
        REAL("drop", "value_x minus value_y"),
        *bounds("lo_models", "hi_models", f"{ITS} over families of models"),
        REAL("multi_x", "share of the label sets at x that have two or more labels"),
        REAL("multi_y", "share of the label sets at y that have two or more labels"),
        COUNT("n_x", "number of images counted at x, the minimum over models"),
        COUNT("n_y", "number of images counted at y, the minimum over models"),
        COUNT("n_models", "number of models averaged"),
    ),
)

_THRESHOLD = re.compile(r"(.+) p>=([\d.]+)")
_Values = dict[str, ModelValue]
_Case = tuple[str, float | None, _Values, _Values, Floats]
"""An analysis, its threshold, values at x and y, and shares of sizes at x."""


_Numbers = Mapping[End, _Values]


def sensitivity(results: Results, thresholds: Results | None, family: Callable[[str], str]) -> pa.Table:
    """Return the sensitivity table, which compares the first data set with every other data set.

    Parameters
    ----------
    results : Results
        Results with the slices `BY_SIZE` of both data sets. Without these slices, the table is empty.
    thresholds : Results, optional
        Results on the first data set under other thresholds, named ``NAME p>=THRESHOLD``.
    family : callable
        Returns the family of a model.

    Notes
    -----
    The analysis *as published* changes nothing. *not empty* leaves out images with an empty set. The analyses
    that weight set sizes also leave out these images, so compare them with *not empty*. *sizes of y* weights
    the values at x for each set size by the frequency of that size at y, and *sizes of x* does the reverse.
    *rated at x* uses only images that raters checked, and *rated, sizes of y* combines *rated at x* with
    *sizes of y*. *threshold at x* uses a different threshold for the probability in the labels. Metrics on
    label sets always leave out images with an empty set, so they have no row *not empty*.
    """
    values = results.values_at | (thresholds.values_at if thresholds is not None else {})
    first, *others = results.datasets
    rows: list[dict[str, Any]] = []
    for y in others:
        for metric in ANALYSED_METRICS:
            for row, models, drop in _analyses(values, first, y, metric):
                if len(models) < FEWEST:  # one model is no comparison
                    continue
                interval = Families.of([family(m) for m in models]).mean_interval(drop)
                ends = [float(e) if np.isfinite(e) else None for e in interval]
                rows.append(row | {"lo_models": ends[0], "hi_models": ends[1]})
    return pa.Table.from_pylist(rows, schema=schema("sensitivity"))


def _analyses(
    values: _Numbers, x: str, y: str, metric: str
) -> Iterator[tuple[dict[str, Any], Sequence[str], Floats]]:
    """Yield a row of the table for each analysis, with the models and their drops."""
    at_x, at_y = values.get((x, metric, "all")), values.get((y, metric, "all"))
    sizes_x, sizes_y = (_sizes(values, d, metric) for d in (x, y))
    if at_x is None or at_y is None or sizes_x is None or sizes_y is None:
        return
    share_x, share_y = _shares(sizes_x), _shares(sizes_y)
    cases: list[_Case] = [
        ("as published", None, at_x, at_y, share_x),
        ("not empty", None, _weighted(sizes_x, share_x), _weighted(sizes_y, share_y), share_x),
        ("sizes of y", None, _weighted(sizes_x, share_y), _weighted(sizes_y, share_y), share_y),
        ("sizes of x", None, _weighted(sizes_x, share_x), _weighted(sizes_y, share_x), share_x),
    ]
    rated, rated_sizes = values.get((x, metric, RATED)), _sizes(values, x, metric, f"{RATED},")
    if rated is not None and rated_sizes is not None:
        share = _shares(rated_sizes)
        cases.append(("rated at x", None, rated, at_y, share))
        as_y = _weighted(rated_sizes, share_y)
        cases.append(("rated, sizes of y", None, as_y, _weighted(sizes_y, share_y), share_y))
    for at, name in _thresholds(values, x) if metric != "top1" else []:
        other, sizes = values.get((name, metric, "all")), _sizes(values, name, metric)
        if other is not None and sizes is not None:
            cases.append(("threshold at x", at, other, at_y, _shares(sizes)))
    for analysis, threshold, values_x, values_y, share in cases:
        if analysis == "not empty" and metric != "top1":
            continue
        multi_y = share_x if analysis == "sizes of x" else share_y
        about: dict[str, Any] = {"dataset_x": x, "dataset_y": y, "metric": metric, "analysis": analysis}
        about |= {"threshold": threshold, "multi_x": 1 - share[0], "multi_y": 1 - multi_y[0]}
        yield _row(about, values_x, values_y)


def _row(about: dict[str, Any], x: _Values, y: _Values) -> tuple[dict[str, Any], Sequence[str], Floats]:
    models = [m for m in x if m in y and np.isfinite(x[m].value) and np.isfinite(y[m].value)]
    vx, vy = (np.array([v[m].value for m in models]) for v in (x, y))
    row = about | {
        "value_x": float(vx.mean()) if models else float("nan"),
        "value_y": float(vy.mean()) if models else float("nan"),
        "drop": float((vx - vy).mean()) if models else float("nan"),
        "n_x": min((x[m].n for m in models), default=0),
        "n_y": min((y[m].n for m in models), default=0),
        "n_models": len(models),
    }
    return row, models, vx - vy


def _sizes(values: _Numbers, dataset: str, metric: str, before: str = "") -> list[_Values] | None:
    found = [values.get((dataset, metric, f"{before}{size}")) for size in BY_SIZE]
    sizes = [f for f in found if f] if all(found) else []
    is_counted = any(number.n for values in sizes for number in values.values())
    return sizes if is_counted else None  # without original labels, top1 counts no image


def _shares(sizes: Sequence[_Values]) -> Floats:
    """Return how often each size of sets is among the images counted; models may differ in these a little."""
    counts = np.array([max(number.n for number in values.values()) for values in sizes], np.float64)
    return np.asarray(counts / counts.sum())


def _weighted(sizes: Sequence[_Values], shares: Floats) -> _Values:
    """Return each model's values within sizes of sets, weighted by other shares of these sizes."""
    models = [m for m in sizes[0] if all(m in values for values in sizes)]
    found: _Values = {}
    for m in models:
        value = sum(s * values[m].value for s, values in zip(shares, sizes, strict=True) if s)
        found[m] = ModelValue(float(value), None, None, sum(values[m].n for values in sizes))
    return found


def _thresholds(values: _Numbers, x: str) -> list[tuple[float, str]]:
    found = {d: m for d, _, _ in values if (m := _THRESHOLD.fullmatch(d)) and m[1] == x}
    return sorted((float(m[2]), d) for d, m in found.items())
