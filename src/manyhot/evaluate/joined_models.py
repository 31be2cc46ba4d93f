"""Results of different models on the same data set, joined as if one call had evaluated all the models."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.core.model_pairs import holm
from manyhot.errors import InputError, MatchError, first_names
from manyhot.evaluate.compared_pairs import (
    ALL_PAIRS,
    JUDGED_ON,
    KEY,
    NO_PAIRS,
    ComparedPairs,
    compared_values,
    joined_about,
)
from manyhot.evaluate.result_rows import Note, pairs_table
from manyhot.evaluate.sampled_pairs import SampledPairs
from manyhot.evaluate.slices import ALL
from manyhot.tables import End, ModelValue, Results, one_chunk
from manyhot.tables.frames import with_column
from manyhot.tables.result_tables import END

_SAME = 1e-6
"""Relative difference up to which two values are the same: intervals are computed from float32."""

_Values = dict[End, ModelValue]


def check_joinable(first: Results, second: Results, dataset: str) -> bool:
    """Check that the models in two results were evaluated on a data set in the same way.

    Returns
    -------
    bool
        False if the results do not say how their models were evaluated.

    Raises
    ------
    MatchError
        If labels, options or versions differ.
    """
    one, other = (json.loads(part.about.get(JUDGED_ON, "{}")).get(dataset) for part in (first, second))
    if not (one and other):
        return False
    apart = [
        f"{name} {one.get(name, 'none')} and {other.get(name, 'none')}"
        for name in {**one, **other}
        if one.get(name) != other.get(name)
    ]
    if apart:
        are_two = one.get("images") != other.get("images")
        same = "; pass the same `classes` to both" * (one.get("classes") != other.get("classes"))
        names = f"; if these are two data sets, name one: manyhot evaluate --dataset {dataset}-2" * are_two
        raise MatchError(
            f"Results on {dataset} cannot be joined, because models were evaluated in different ways.",
            where=_names(first, second),
            got="; ".join(apart),
            allowed="models evaluated on the same labels, with the same options and version",
            do="evaluate the models of one result again, with the labels and options of the other"
            f"{same}{names}",
        )
    return True


def each_model_once(results: Sequence[Results], datasets: Sequence[str]) -> list[Results]:
    """Return the results, each without the models that earlier results contain with the same values.

    Raises
    ------
    MatchError
        If a model has different values in an earlier result.
    """
    seen, left = dict[tuple[str, str], tuple[Results, _Values]](), list[Results]()
    for part in results:
        values = dict[tuple[str, str], _Values]()
        for end, models in part.values_at.items():
            for model, value in models.items() if end[0] in datasets else ():
                values.setdefault((end[0], model), {})[end] = value
        again = [key for key in values if key in seen]
        for key in again:
            earlier, own = seen[key]
            if not _are_same(own, values[key]):
                raise _two_versions(earlier, part, *key)
        seen = {key: (part, own) for key, own in values.items()} | seen
        left.append(_without(part, again) if again else part)
    return left


def join_thresholds(results: Sequence[Results]) -> Results | None:
    """Return results at other thresholds joined into one, with each model once; None if there are none."""
    if not results:
        return None
    parts = each_model_once(results, list(dict.fromkeys(d for part in results for d in part.datasets)))
    table = pa.concat_tables([part.table.replace_schema_metadata() for part in parts])
    return replace(parts[0], table=table.replace_schema_metadata(parts[0].table.schema.metadata))


def _names(*results: Results) -> str | None:
    """Return the names of results; None if they are in memory and have none."""
    return " and ".join(filter(None, (one.name for one in results))) or None


def _two_versions(earlier: Results, part: Results, dataset: str, model: str) -> MatchError:
    call = one_call(earlier, part)
    names = "; models have the names of their files and, in one call, of the folders of files of one name"
    return MatchError(
        "A model has different values in two of the results.",
        where=_names(earlier, part),
        got=f"{model} on {dataset}",
        allowed="one version of each model" + names * bool(call),
        do=f"compare the models from their predictions: {call}"
        if call
        else "leave out one of the results; to compare two versions, compare models from their predictions, "
        "with `labels`",
    )


_SHARED_OPTIONS = (
    *("--rows", "--images", "--classes", "--dataset", "--match", "--scores"),
    *("--metric", "--resamples", "--seed", "--clusters"),
)
"""Options with a value that evaluate and compare both have."""


def one_call(one: Results, other: Results) -> str:
    """Return the command that compares models evaluated in two calls; empty if it is not known."""
    first, second = (_read_call(part.about.get("call", "")) for part in (one, other))
    if first is None or second is None or first[1:] != second[1:] or first[0] == second[0]:
        return ""
    files, labels, options = [*first[0], *second[0]], first[1], first[2]
    return shlex.join(["manyhot", "compare", *files, "--labels", labels, *options])


def _read_call(call: str) -> tuple[list[str], str, list[str]] | None:
    """Return the predictions, the labels and the options of a call of evaluate that compare has, too."""
    tokens = shlex.split(call)
    pairs = list(zip(tokens[3::2], tokens[4::2], strict=False))
    known = {"--predictions", "--out", *_SHARED_OPTIONS}
    if tokens[:2] != ["manyhot", "evaluate"] or len(tokens) % 2 == 0 or {name for name, _ in pairs} - known:
        return None
    files = [value for name, value in pairs if name == "--predictions"]
    options = [text for pair in pairs if pair[0] in _SHARED_OPTIONS for text in pair]
    return (files, tokens[2], options) if files else None


def _are_same(one: _Values, other: _Values) -> bool:
    """Return whether a model has the same values, intervals and n at the same ends."""
    if one.keys() != other.keys():
        return False
    a, b = ([[math.nan if x is None else x for x in of[end]] for end in one] for of in (one, other))
    return np.allclose(a, b, rtol=_SAME, atol=0, equal_nan=True)


def _without(part: Results, models: Iterable[tuple[str, str]]) -> Results:
    """Return results without some (data set, model)."""

    def filtered(table: pa.Table) -> pa.Table:
        for dataset, model in models:
            is_one = pc.and_(pc.equal(table["dataset"], dataset), pc.equal(table["model"], model))
            table = table.filter(pc.invert(is_one))
        return table

    return replace(part, table=filtered(part.table), samples=filtered(part.samples))


def with_all_pairs(joined: Results, results: Sequence[Results], datasets: Sequence[str]) -> Results:
    """Return joined results with the pairs, notes and metadata that one call would give.

    Parameters
    ----------
    results : sequence of Results
        The results that were joined.
    datasets : sequence of str
        The data sets with models of several results.
    """
    about, pairs = dict(joined.about), _distinct(joined.pairs)
    every, notes = json.loads(about[KEY]), json.loads(about["notes"])
    for dataset in datasets:
        models = joined.table.filter(pc.equal(joined.table["dataset"], dataset))["model"].unique().to_pylist()
        earlier = [ComparedPairs.of(p.about, dataset) for p in results if dataset in p.datasets]
        requested = json.loads(about[JUDGED_ON])[dataset]["compare_with"]
        compared = _compared(earlier, requested, models)
        every[dataset] = asdict(compared)
        if compared.pairs == NO_PAIRS and any(of.pairs != NO_PAIRS for of in earlier):
            notes.append(asdict(Note(dataset, "", "pairs", 0, compared.note(None, len(models)))))
        is_here = pc.equal(pairs["dataset"], dataset)
        if compared.reference:
            again = adjusted(pairs.filter(is_here))
        elif compared.are_all:
            kept = pairs.filter(pc.and_(is_here, pc.not_equal(pairs["slice"], ALL)))
            again = pa.concat_tables([_all_pairs(joined, dataset, models), kept], promote_options="default")
        else:
            again = pairs.slice(0, 0)
        pairs = pa.concat_tables([pairs.filter(pc.invert(is_here)), again], promote_options="default")
    about |= {KEY: json.dumps(every), "notes": json.dumps(notes)}
    metadata = {f"manyhot.{name}": value for name, value in about.items()}
    return replace(joined, table=joined.table.replace_schema_metadata(metadata), pairs=pairs)


def _compared(earlier: Sequence[ComparedPairs], requested: str, models: Sequence[str]) -> ComparedPairs:
    """Return which pairs one call would compare."""
    if reference := next((of for of in earlier if of.reference), None):
        return reference
    if all(of.pairs == NO_PAIRS for of in earlier):
        return ComparedPairs(NO_PAIRS)
    return ComparedPairs.choose(ALL_PAIRS if requested == ALL_PAIRS else None, models)


def _all_pairs(joined: Results, dataset: str, models: Sequence[str]) -> pa.Table:
    """Return all pairs of the models of a data set on all images."""
    ends = {end: of for end, of in joined.values_at.items() if end[0] == dataset and end[2] == ALL}
    values = {(m, *end[1:]): of[m].value for m in models for end, of in ends.items() if m in of}
    for (own, metric, name, model), value in compared_values(joined.about).items():
        if own == dataset and (model, metric, name) in values:
            values[model, metric, name] = value
    samples = SampledPairs.of_samples(joined.samples.filter(pc.equal(joined.samples["dataset"], dataset)))
    return pairs_table([*samples.rows(dataset, values, ComparedPairs())], audited=False)


def _distinct(pairs: pa.Table) -> pa.Table:
    """Return the first row of each pair."""
    keys = zip(*(pairs[c].to_pylist() for c in (*END, "model_a", "model_b")), strict=True)
    first = dict[tuple[str, ...], int]()
    for row, key in enumerate(keys):
        first.setdefault(key, row)
    return pairs.take(pa.array(list(first.values()), pa.int64()))


def adjusted(pairs: pa.Table) -> pa.Table:
    """Return the pairs, with Holm's correction computed again over these pairs."""
    if not len(pairs):
        return pairs
    ends = [list(map(str, e)) for e in zip(*(pairs[c].to_pylist() for c in END), strict=True)]
    _, family = np.unique(np.array(ends), axis=0, return_inverse=True)
    p = pc.fill_null(pairs["p"], np.nan).to_numpy()
    adjusted = np.full(len(p), np.nan)
    for i in range(int(family.max()) + 1):
        adjusted[family.ravel() == i] = holm(p[family.ravel() == i])
    return with_column(pairs, "p_adjusted", pa.array(adjusted, pa.float64(), from_pandas=True))


def unstored_notes(results: Sequence[Results]) -> Iterator[str]:
    """Yield a note for each data set on results that lack the values by which models are compared."""
    every = [dataset for part in results for dataset in part.datasets]
    for dataset in dict.fromkeys(every) if len(results) > 1 else ():
        lacking = list[str]()
        for part in (part for part in results if dataset in part.datasets and every.count(dataset) > 1):
            stored = part.samples.filter(pc.equal(part.samples["dataset"], dataset))["counted"]
            is_joined = dataset in json.loads(part.about.get(JUDGED_ON, "{}"))
            is_compared = is_joined and ComparedPairs.of(part.about, dataset).pairs != NO_PAIRS
            lacking += [part.name or "results"] if is_compared and stored.null_count == len(stored) else []
        if lacking:
            yield (
                f"{dataset}: models in {first_names(lacking, 8)} are not compared with models of other "
                "results, because their values for each image are missing: samples.parquet is not in the "
                "folder, was not read because a file was passed, or lacks them because they take more than "
                "64 MB; evaluate these models again, fewer at a time, or compare models from their "
                "predictions: manyhot compare PREDICTIONS --labels DATASET"
            )


def join(results: Sequence[Results], *, several_models: bool = False) -> Results:
    """Join several results into one.

    Models that were evaluated on a data set in the same way are joined as if one call had evaluated them.

    Parameters
    ----------
    several_models : bool
        Whether several results may contain values of different models for the same data set, metric and
        slice.

    Raises
    ------
    InputError
        If there are none.
    MatchError
        If models of one data set were not evaluated in the same way, or a model has different values.
    """
    if not results:
        raise InputError("There are no results to compare.", do="pass at least one result")
    again = list[str]()
    if several_models:
        _check_models_apart(results)
    else:
        again = _datasets_again(results)
    first = results[0]
    if len(results) == 1:
        return first
    every, results = results, each_model_once(results, again) if again else results
    models = pa.concat_tables([p.models for p in results], promote_options="default")
    # Results of an audit have more columns.
    together = partial(pa.concat_tables, promote_options="default")
    joined = {k: together([getattr(p, k) for p in results]) for k in ("pairs", "samples")}
    table = together([p.table.replace_schema_metadata() for p in results])
    own = _joined_about(every, several_models)
    if any(of["pairs"] == "some" for of in json.loads(own[KEY]).values()):  # each part had its own correction
        joined["pairs"] = adjusted(joined["pairs"])
    about = {f"manyhot.{k}": v for k, v in (first.about | own).items()}
    name = " and ".join(dict.fromkeys(p.name for p in results if p.name))
    together_again = Results(table.replace_schema_metadata(about), models=_once(models), name=name, **joined)
    return with_all_pairs(together_again, every, again) if again else together_again


def _joined_about(results: Sequence[Results], several_models: bool) -> dict[str, str]:
    """Return the metrics, notes and own models of all results, and which pairs are compared."""
    metrics = {k: v for p in reversed(results) for k, v in json.loads(p.about.get("metrics", "{}")).items()}
    notes, own = (
        [e for p in results for e in json.loads(p.about.get(kind, "[]"))] for kind in ("notes", "own")
    )
    notes = list({json.dumps(note): note for note in notes}.values())  # those of models that two contain
    about = {"metrics": metrics, "notes": notes, "own": list(dict.fromkeys(own))}
    return {name: json.dumps(value) for name, value in about.items()} | joined_about(
        ((p.about, p.datasets) for p in results), several_models=several_models
    )


def _datasets_again(results: Sequence[Results]) -> list[str]:
    """Return the data sets of which several results have models, all evaluated in the same way.

    Raises
    ------
    MatchError
        If they were evaluated in different ways, or if it is not known how.
    """
    first, found = dict[End, Results](), dict[str, None]()
    for part in results:
        ends = {end[0]: end for end in reversed([*part.values_at]) if end in first}
        for dataset, end in ends.items():
            if not check_joinable(first[end], part, dataset):
                raise _apart(first[end], part, end)
            found[dataset] = None
        first = dict.fromkeys(part.values_at, part) | first
    return list(found)


def _apart(one: Results, other: Results, end: End) -> MatchError:
    again = one_call(one, other)
    return MatchError(
        "Two results contain values of the same data set, metric and slice.",
        where=_names(one, other),
        got=", ".join(end),
        allowed="each value in only one of the results",
        do=f"compare the models from their predictions: {again}"
        if again
        else "compare models from their predictions, with `labels`; or evaluate one "
        "data set under another name with `dataset`",
    )


def _check_models_apart(results: Sequence[Results]) -> None:
    seen: dict[tuple[End, str], Results] = {}
    for part in results:
        for end, models in part.values_at.items():
            for model in models:
                if (end, model) in seen:
                    raise MatchError(
                        "A model is in two of the results.",
                        where=_names(seen[end, model], part),
                        got=f"{model} on {end[0]}",
                        allowed="each model in only one of the results",
                        do="leave it out with `without`, or pass each table once",
                    )
        seen |= {(end, model): part for end, models in part.values_at.items() for model in models}


def _once(models: pa.Table) -> pa.Table:
    """Return the first row of each model."""
    names = one_chunk(models["model"])
    return models.take(pa.array(np.sort(np.unique(np.asarray(names, str), return_index=True)[1])))
