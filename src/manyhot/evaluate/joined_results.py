"""Results of several calls or tables joined into one, to compare models between them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from manyhot.errors import InputError, MatchError
from manyhot.evaluate.compared_pairs import joined_about
from manyhot.tables import End, Results, one_chunk


def join(results: Sequence[Results], *, several_models: bool = False) -> Results:
    """Join several results into one.

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
        If two of the results contain the same values.
    """
    if not results:
        raise InputError("There are no results to compare.", do="pass at least one result")
    _check_models_apart(results) if several_models else _check_apart(results)
    first = results[0]
    if len(results) == 1:
        return first
    models = pa.concat_tables([p.models for p in results], promote_options="default")
    # Results of an audit have more columns.
    together = partial(pa.concat_tables, promote_options="default")
    joined = {k: together([getattr(p, k) for p in results]) for k in ("pairs", "samples")}
    table = together([p.table.replace_schema_metadata() for p in results])
    about = {f"manyhot.{k}": v for k, v in (first.about | _joined_about(results, several_models)).items()}
    name = " and ".join(dict.fromkeys(p.name for p in results if p.name))
    return Results(table.replace_schema_metadata(about), models=_once(models), name=name, **joined)


def _joined_about(results: Sequence[Results], several_models: bool) -> dict[str, str]:
    """Return the metrics, notes and own models of all results, and which pairs are compared."""
    metrics = {k: v for p in reversed(results) for k, v in json.loads(p.about.get("metrics", "{}")).items()}
    notes, own = (
        [e for p in results for e in json.loads(p.about.get(kind, "[]"))] for kind in ("notes", "own")
    )
    about = {"metrics": metrics, "notes": notes, "own": list(dict.fromkeys(own))}
    return {name: json.dumps(value) for name, value in about.items()} | joined_about(
        ((p.about, p.datasets) for p in results), several_models=several_models
    )


def _check_apart(results: Sequence[Results]) -> None:
    seen: dict[End, Results] = {}
    for part in results:
        for end in part.values_at:
            if end in seen:
                again = _one_call(seen[end], part)
                raise MatchError(
                    "Two results contain values of the same data set, metric and slice.",
                    where=f"{seen[end].name} and {part.name}",
                    got=", ".join(end),
                    allowed="each value in only one of the results",
                    do=f"compare the models from their predictions: {again}"
                    if again
                    else "compare models from their predictions, with `labels`; or evaluate one "
                    "data set under another name with `dataset`",
                )
            seen[end] = part


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


_SHARED_OPTIONS = (
    *("--rows", "--images", "--classes", "--dataset", "--match", "--scores"),
    *("--metric", "--resamples", "--seed"),
)
"""Options with a value that evaluate and compare both have."""


def _one_call(one: Results, other: Results) -> str:
    """Return the command that compares models which were evaluated in two calls; empty if it is not known."""
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


def _once(models: pa.Table) -> pa.Table:
    """Return the first row of each model."""
    names = one_chunk(models["model"])
    return models.take(pa.array(np.sort(np.unique(np.asarray(names, str), return_index=True)[1])))
