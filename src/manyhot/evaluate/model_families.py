"""What is known of the models of a comparison: their families, and names that a user's file gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import family_of
from manyhot.errors import InputError, MatchError
from manyhot.formats.writing import PathLike
from manyhot.tables import Results, one_chunk


def family_namer(results: Results, families: PathLike | Mapping[str, str] | None) -> Callable[[str], str]:
    """Return a function that finds a model's family: in `families`, the models table, or else its name."""
    own = families if isinstance(families, Mapping) else read_model_column(families, "family", "families")
    models = results.table["model"].unique().to_pylist()
    if own and not set(own) & set(models):
        raise MatchError(
            "None of the models is in the table of families.",
            got=f"models such as {next(iter(own))}",
            allowed=f"models such as {models[0]}",
        )
    table = results.models
    columns = (table[c].to_pylist() for c in ("model", "family") if "family" in table.column_names)
    listed_families = {model: family for model, family in zip(*columns, strict=True) if family}
    return lambda model: own.get(model) or listed_families.get(model) or family_of(model)


def read_model_column(path: PathLike | None, name: str, plural: str) -> dict[str, str]:
    """Return the values of a column of a CSV file, such as ``family``, by model.

    Raises
    ------
    InputError
        If the file does not exist or lacks a column, or a model is listed twice.
    """
    import polars as pl

    if path is None:
        return {}
    try:
        frame = pl.read_csv(Path(path), infer_schema=False).select("model", name)
    except FileNotFoundError as error:
        raise InputError(
            "The file does not exist.", where=path, allowed=f"a CSV file with the columns model and {name}"
        ) from error
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise InputError(
            f"The file is not a table of {plural}.",
            where=path,
            got=str(error).partition("\n")[0],
            allowed=f"a CSV file with the columns model and {name}",
        ) from error
    twice = frame["model"].filter(frame["model"].is_duplicated())
    if len(twice):
        raise InputError(
            f"A model is listed with two {plural}.", where=path, got=twice[0], allowed="one row per model"
        )
    return dict(frame.iter_rows())


def with_families(results: Results, family: Callable[[str], str]) -> pa.Table:
    """Return the models table with a row and a family for every model."""
    table, models = results.models, results.table["model"].unique().to_pylist()
    at = pc.index_in(pa.array(models, pa.string()), one_chunk(table["model"]))
    columns = {c: table[c].take(at) for c in table.column_names if c not in ("model", "family")}
    families = pa.array([family(m) for m in models], pa.string())
    return pa.table({"model": pa.array(models, pa.string()), "family": families, **columns})
