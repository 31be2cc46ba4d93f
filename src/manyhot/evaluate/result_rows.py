"""The rows of an evaluation: values with their n, pairs of models, and notes on models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from manyhot.core.array_types import Ints
from manyhot.core.model_pairs import PairTable
from manyhot.tables import Alignment, schema


@dataclass(slots=True)
class Number:
    """A row of the results table. It is not frozen, because creating it would take three times as long."""

    dataset: str
    model: str
    metric: str
    slice: str
    value: float
    lo: float | None
    hi: float | None
    n: int
    n_skipped: int
    estimator: str | None = None
    n_audited: int | None = None
    alone: float | None = None


@dataclass(frozen=True)
class Note:
    """A note about the results of a model, such as the number of images without labels."""

    dataset: str
    model: str
    kind: str
    n: int
    text: str


def unmatched_note(dataset: str, model: str, kind: str, n: int, matched: int) -> Note:
    """Return the note on n images that only the predictions or only the labels contain."""
    what = {
        "predictions_unmatched": "predicted images have no labels",
        "labels_unmatched": "labelled images have no prediction",
    }[kind]
    return Note(dataset, model, kind, n, f"{n:,} of {n + matched:,} {what} and were left out")


def unmatched_notes(dataset: str, model: str, alignment: Alignment) -> Iterator[Note]:
    """Yield the notes on the images of a model that did not match."""
    counts = {"predictions_unmatched": alignment.right_only, "labels_unmatched": alignment.left_only}
    matched = len(alignment.right)
    yield from (unmatched_note(dataset, model, kind, n, matched) for kind, n in counts.items() if n)


def pairs_table(pairs: Sequence[Mapping[str, Any]], audited: bool) -> pa.Table:
    """Join blocks of the pairs table; the blocks of metrics that are not audited lack some columns."""
    columns = schema("pairs", audited=audited)
    blocks = [
        pa.table({f.name: p.get(f.name, pa.nulls(len(p["n"]), f.type)) for f in columns}, schema=columns)
        for p in pairs
    ]
    return pa.concat_tables(blocks) if blocks else columns.empty_table()


def pair_rows(
    dataset: str, metric: str, slice: str, models: Sequence[str], pairs: PairTable, n: Ints
) -> dict[str, Any]:
    """Return columns of the pairs table; `n` is the number of images of each pair."""
    names = pa.array(models, pa.string())
    m = len(pairs.a)
    return {
        "dataset": pa.repeat(pa.scalar(dataset, pa.string()), m),
        "metric": pa.repeat(pa.scalar(metric, pa.string()), m),
        "slice": pa.repeat(pa.scalar(slice, pa.string()), m),
        "model_a": names.take(pa.array(pairs.a)),
        "model_b": names.take(pa.array(pairs.b)),
        **{name: getattr(pairs, name) for name in ("difference", "lo", "hi", "p", "p_adjusted")},
        "n": n,
    }
