"""Several results as one, for what is compared between them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from manyhot.errors import InputError, MatchError
from manyhot.tables import End, Results, one_chunk


def join(results: Sequence[Results]) -> Results:
    """Return several results as one.

    Raises
    ------
    InputError
        If there are none.
    MatchError
        If two of them hold the same numbers.
    """
    if not results:
        raise InputError("There are no results to compare.", do="give at least one")
    _check_apart(results)
    first = results[0]
    if len(results) == 1:
        return first
    models = pa.concat_tables([p.models for p in results], promote_options="default")
    joined = {k: pa.concat_tables([getattr(p, k) for p in results]) for k in ("pairs", "samples")}
    table = pa.concat_tables([p.table.replace_schema_metadata() for p in results])
    about = {f"manyhot.{k}": v for k, v in (first.about | _joined_about(results)).items()}
    name = " and ".join(dict.fromkeys(p.name for p in results if p.name))
    return Results(table.replace_schema_metadata(about), models=_once(models), name=name, **joined)


def _joined_about(results: Sequence[Results]) -> dict[str, str]:
    """Return what all results tell of their metrics, their notes and the user's own models."""
    metrics = {k: v for p in reversed(results) for k, v in json.loads(p.about.get("metrics", "{}")).items()}
    notes, own = (
        [e for p in results for e in json.loads(p.about.get(kind, "[]"))] for kind in ("notes", "own")
    )
    told = {"metrics": metrics, "notes": notes, "own": list(dict.fromkeys(own))}
    return {name: json.dumps(value) for name, value in told.items()}


def _check_apart(results: Sequence[Results]) -> None:
    seen: dict[End, str] = {}
    for part in results:
        for end in part.numbers:
            if end in seen:
                raise MatchError(
                    "Two results hold numbers of the same data set, metric and images.",
                    where=f"{seen[end]} and {part.name}",
                    got=", ".join(end),
                    allowed="each in one of the results",
                    do="compare them one at a time, or judge one under another name: --dataset NAME",
                )
            seen[end] = part.name


def _once(models: pa.Table) -> pa.Table:
    """Return the first row of each model."""
    names = one_chunk(models["model"])
    return models.take(pa.array(np.sort(np.unique(np.asarray(names, str), return_index=True)[1])))
