"""What an evaluation returns: numbers with their n, comparisons of pairs, and notes on what did not match."""

from __future__ import annotations

import dataclasses
import html
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.core.model_pairs import PairTable
from manyhot.errors import InputError, MissingExtraError
from manyhot.files import atomic_write
from manyhot.tables import Results, results_digest, schema, write


@dataclass(frozen=True, slots=True)
class Number:
    """A row of the results table."""

    dataset: str
    model: str
    metric: str
    slice: str
    value: float
    lo: float | None
    hi: float | None
    n: int
    n_skipped: int


@dataclass(frozen=True)
class Note:
    """What the reader of the numbers must know, such as images without labels."""

    dataset: str
    model: str
    kind: str
    n: int
    text: str


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Results of judging models on label sets.

    Attributes
    ----------
    results, pairs, samples : pyarrow.Table
        The tables of these names; see `manyhot.tables.TABLES`.
    notes : tuple of Note
    about : Mapping of str to str
        For the metadata: ``metrics`` (what each is, as JSON), ``resamples`` and ``seed``.
    confidence : Mapping of str to pyarrow.Table
        The tables ``reliability`` and ``risk_coverage`` of models with confidences; empty if there are none.
    """

    results: pa.Table
    pairs: pa.Table
    samples: pa.Table
    notes: tuple[Note, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    confidence: Mapping[str, pa.Table] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        numbers: Sequence[Number],
        pairs: Sequence[Mapping[str, Any]],
        samples: pa.Table,
        notes: Sequence[Note],
        about: Mapping[str, str],
    ) -> Evaluation:
        """Build the tables from rows."""
        columns = {f.name: [getattr(n, f.name) for n in numbers] for f in dataclasses.fields(Number)}
        blocks = [pa.table(dict(p), schema=schema("pairs")) for p in pairs]
        return cls(
            pa.table(columns, schema=schema("results")),
            pa.concat_tables(blocks) if blocks else schema("pairs").empty_table(),
            samples.cast(schema("samples")),
            tuple(notes),
            about,
        )

    @classmethod
    def concat(cls, parts: Sequence[Evaluation]) -> Evaluation:
        """Join the evaluations of several data sets."""
        return cls(
            pa.concat_tables([p.results for p in parts]),
            pa.concat_tables([p.pairs for p in parts]),
            pa.concat_tables([p.samples for p in parts]),
            tuple(note for p in parts for note in p.notes),
            {**parts[0].about, "metrics": json.dumps(_metrics_of(parts))},
            {
                name: pa.concat_tables([p.confidence[name] for p in parts if name in p.confidence])
                for name in dict.fromkeys(name for p in parts for name in p.confidence)
            },
        )

    def __len__(self) -> int:
        return int(self.results.num_rows)

    def __repr__(self) -> str:
        counts = [len(self.results[c].unique()) for c in ("model", "dataset", "metric")]
        return "Evaluation({} models, {} data sets, {} metrics: {:,} numbers)".format(*counts, len(self))

    def to_polars(self) -> Any:
        """Return the results as a polars.DataFrame."""
        import polars as pl

        return pl.from_arrow(self.results)

    def to_pandas(self) -> Any:
        """Return the results as a pandas.DataFrame.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        try:
            return self.results.to_pandas()
        except ImportError as error:
            raise MissingExtraError("This needs pandas.", do='pip install "manyhot[pandas]"') from error

    def value(
        self, metric: str, *, model: str | None = None, dataset: str | None = None, slice: str = "all"
    ) -> float:
        """Return one number.

        Raises
        ------
        InputError
            If none or several rows match.
        """
        import polars as pl

        wanted = {"metric": metric, "slice": slice, "model": model, "dataset": dataset}
        found = self.to_polars().filter(pl.col(c) == v for c, v in wanted.items() if v is not None)
        if len(found) != 1:
            known = {
                c: ", ".join(self.results[c].unique().to_pylist()) for c in ("metric", "model", "dataset")
            }
            raise InputError(
                f"{len(found) or 'No'} numbers match.",
                got=", ".join(f"{c}={v}" for c, v in wanted.items() if v is not None),
                allowed="; ".join(f"{c}: {names}" for c, names in known.items()),
                do="name the model and the data set" if len(found) else None,
            )
        return float(found["value"][0])

    def write(
        self, out: str | os.PathLike[str], *, call: str = "", inputs: Mapping[str, str] | None = None
    ) -> list[Path]:
        """Write the results as Parquet and CSV, the pairs and the samples into the folder `out`."""
        out = Path(out)
        notes = {**self.about, "notes": json.dumps([dataclasses.asdict(n) for n in self.notes])}
        written = [
            write(self.results, out / "results.parquet", "results", call=call, inputs=inputs, about=notes)
        ]
        with atomic_write(out / "results.csv") as part:
            self.to_polars().write_csv(part)
        written.append(out / "results.csv")
        run = {"results": results_digest(self.results)}
        for name, table in (("pairs", self.pairs), ("samples", self.samples)):
            path = out / f"{name}.parquet"
            written.append(write(table, path, name, call=call, inputs=inputs, about=run))
        return written

    def tables(self, name: str = "") -> Results:
        """Return the results as comparisons read them."""
        about = {f"manyhot.{key}": value for key, value in self.about.items()}
        return Results(self.results.replace_schema_metadata(about), self.pairs, self.samples, name=name)

    def summary(self) -> Any:
        """Return one row a data set and model with the values over all images, as a polars.DataFrame."""
        import polars as pl

        wide = self.to_polars().filter(pl.col("slice") == "all")
        return wide.pivot(on="metric", index=["dataset", "model"], values="value", maintain_order=True)

    def _repr_html_(self) -> str:
        notes = "".join(
            f"<li>{html.escape(f'{n.dataset}, {n.model}: {n.text}')}</li>" for n in self.notes[:10]
        )
        return f"{self.summary()._repr_html_()}<ul>{notes}</ul>"


def _metrics_of(parts: Sequence[Evaluation]) -> dict[str, Any]:
    return {name: told for p in parts for name, told in json.loads(p.about.get("metrics", "{}")).items()}


def pair_rows(
    dataset: str,
    metric: str,
    slice: str,
    models: Sequence[str],
    pairs: PairTable,
    shared: npt.NDArray[np.int64],
) -> dict[str, Any]:
    """Return columns of the pairs table."""
    names = pa.array(models, pa.string())
    m = len(pairs.a)
    return {
        "dataset": pa.repeat(pa.scalar(dataset, pa.string()), m),
        "metric": pa.repeat(pa.scalar(metric, pa.string()), m),
        "slice": pa.repeat(pa.scalar(slice, pa.string()), m),
        "model_a": names.take(pa.array(pairs.a)),
        "model_b": names.take(pa.array(pairs.b)),
        **{name: getattr(pairs, name) for name in ("diff", "lo", "hi", "p", "p_adjusted")},
        "n": shared[pairs.a, pairs.b],
    }
