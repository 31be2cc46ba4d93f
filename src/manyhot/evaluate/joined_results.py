"""Results of several calls or tables joined into one, to compare models between them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from manyhot.errors import InputError, MatchError
from manyhot.evaluate.compared_pairs import joined_about
from manyhot.evaluate.joined_models import check_joinable, each_model_once, one_call, with_all_pairs
from manyhot.tables import End, Results, one_chunk


def join(results: Sequence[Results], *, several_models: bool = False) -> Results:
    """Join several results into one.

    Models that were evaluated on a data set in the same way are joined as if one call had evaluated them.

    Parameters
    ----------
    results : sequence of Results
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
    about = {f"manyhot.{k}": v for k, v in (first.about | _joined_about(every, several_models)).items()}
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
        where=f"{one.name} and {other.name}",
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
                        where=f"{seen[end, model].name} and {part.name}",
                        got=f"{model} on {end[0]}",
                        allowed="each model in only one of the results",
                        do="leave it out with `without`, or pass each table once",
                    )
        seen |= {(end, model): part for end, models in part.values_at.items() for model in models}


def _once(models: pa.Table) -> pa.Table:
    """Return the first row of each model."""
    names = one_chunk(models["model"])
    return models.take(pa.array(np.sort(np.unique(np.asarray(names, str), return_index=True)[1])))
