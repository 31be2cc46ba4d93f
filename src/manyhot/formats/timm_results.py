"""timm's tables of results: the accuracy of more than a thousand models on eight data sets."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from manyhot.core.resampling import wilson_interval
from manyhot.errors import InputError
from manyhot.families import family_of, pretraining_of
from manyhot.formats.tabular import column_names, read_frame
from manyhot.registry import get, register
from manyhot.tables import Results, schema


@dataclass(frozen=True)
class _Set:
    """A data set that timm judges on: what results call it, its images, and those without a label."""

    dataset: str
    n: int
    n_skipped: int = 0
    metrics: tuple[str, str] = ("top1", "top5")


SETS = {
    "imagenet": _Set("imagenet-val", 50_000),
    "imagenet-real": _Set("imagenet-val", 46_837, 3_163, ("real1", "real5")),
    "imagenetv2-matched-frequency": _Set("imagenetv2-matched-frequency", 10_000),
    "imagenet-a": _Set("imagenet-a", 7_500),
    "imagenet-a-clean": _Set("imagenet-val-a-classes", 10_000),
    "imagenet-r": _Set("imagenet-r", 30_000),
    "imagenet-r-clean": _Set("imagenet-val-r-classes", 10_000),
    "sketch": _Set("imagenet-sketch", 50_889),
}
"""By the file names of timm, which go before them: ``results-sketch.csv``."""

_NEEDED = ("model", "top1", "top5")


def _matches(path: Path) -> bool:
    return {"model", "top1", "top1_err"} <= set(column_names(path))


@register("format", "timm-results", holds="results", suffixes=(".csv",), matches=_matches)
def read_timm_results(path: Path, *, dataset: str | None = None) -> Results:
    """``results-*.csv`` of timm: top-1 and top-5 accuracy of a model at an image size, in percent.

    A row becomes the model ``name@img_size``. The file name tells the data set, `dataset` overrules it;
    it must be known how many images that has. Intervals are Wilson's. The tables of ImageNet-A and
    ImageNet-R, and the ``-clean`` ones of the validation images of the same 200 classes, judge among
    these classes only.

    References
    ----------
    huggingface/pytorch-image-models, ``results/README.md`` and ``validate.py``.
    """
    found = _set_of(path, dataset)
    frame = _checked(read_frame(path), path)
    sized = pl.concat_str(pl.col("model"), pl.col("img_size").cast(pl.String), separator="@")
    frame = frame.with_columns(row=sized if "img_size" in frame.columns else pl.col("model"))
    twice = frame["row"].filter(frame["row"].is_duplicated())
    if len(twice):
        raise InputError("A model stands in the table twice.", where=path, got=twice[0])
    _check_percent(frame, path)
    numbers = [
        _numbers(frame, column, metric, found)
        for column, metric in zip(_NEEDED[1:], found.metrics, strict=True)
    ]
    about = {m: get("metric", m) for m in found.metrics}
    told = {
        name: {"definition": m.summary, "better": m.about["better"], "unit": m.about.get("unit", "share")}
        for name, m in about.items()
    }
    table = pa.concat_tables(numbers).replace_schema_metadata({"manyhot.metrics": json.dumps(told)})
    return Results(table, models=_models(frame), name=path.stem)


def with_pretraining(results: Results, metadata: Path) -> Results:
    """Return the results with the pretraining of models whose names tell none, as before timm 0.9.

    Parameters
    ----------
    results : Results
    metadata : Path
        timm's ``model_metadata-in1k.csv``, with ``model`` and ``pretrain``.
    """
    rows = read_frame(metadata).select("model", "pretrain").iter_rows()
    known = {model: pretraining_of(f"{model}.{data}") for model, data in rows}
    models = results.models
    names, told = models["model"].to_pylist(), models["pretraining"].to_pylist()
    filled = [t or known.get(n.partition("@")[0]) for n, t in zip(names, told, strict=True)]
    at = models.column_names.index("pretraining")
    return replace(results, models=models.set_column(at, "pretraining", pa.array(filled, pa.string())))


def _set_of(path: Path, dataset: str | None) -> _Set:
    wanted = path.stem.rpartition("results-")[2] if dataset is None else dataset
    by_name = {s.dataset: s for s in reversed(SETS.values())} | SETS
    if wanted in by_name:
        return by_name[wanted]
    raise InputError(
        "The file name does not tell which data set these numbers are on."
        if dataset is None
        else "It is not known how many images this data set has.",
        where=path,
        got=path.name if dataset is None else dataset,
        allowed=", ".join(by_name),
        do="rename it to results-NAME.csv, or give dataset=NAME in Python; for another data set write the "
        "results table, which has a column n",
    )


def _checked(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    missing = [c for c in _NEEDED if c not in frame.columns]
    if missing:
        raise InputError(
            f"The table lacks the column {missing[0]!r}.", where=path, got=", ".join(frame.columns)
        )
    nameless = frame["model"].is_null() | (frame["model"] == "")
    if nameless.any():
        raise InputError(
            "A model has no name.", where=f"{path}, row {nameless.arg_true()[0]}", allowed="text in each row"
        )
    for column in _NEEDED[1:]:
        values = frame[column].cast(pl.Float64, strict=False)
        bad = frame.filter(~values.is_between(0, 100).fill_null(False))
        if len(bad):
            raise InputError(
                "This is not an accuracy in percent.",
                where=f"{path}, model {bad['model'][0]}",
                got=f"{column} {bad[column][0]}",
                allowed="0 to 100",
            )
        frame = frame.with_columns(values)
    return frame


def _check_percent(frame: pl.DataFrame, path: Path) -> None:
    """Refuse numbers that do not fit together: fractions above all, which can be read as percents."""
    for column in (c for c in _NEEDED[1:] if f"{c}_err" in frame.columns):
        whole = frame[column] + frame[f"{column}_err"].cast(pl.Float64, strict=False)
        near = _is_near(whole, 100)
        if not near.all():
            row = int(near.arg_min() or 0)
            fractions = bool(_is_near(whole, 1)[row])
            raise _not_percent(frame.row(row, named=True), column, path, fractions)
    bad = frame.filter(pl.col("top5") < pl.col("top1"))
    if len(bad):
        raise InputError(
            "The top-5 accuracy of a model is below its top-1 accuracy.",
            where=f"{path}, model {bad['row'][0]}",
            got=f"top5 {bad['top5'][0]}, top1 {bad['top1'][0]}",
            allowed="top5 from top1 on",
        )


def _is_near(values: pl.Series, whole: float) -> pl.Series:
    """Return whether each value is `whole`, but for rounding; a null is not."""
    # Accuracy and error are rounded one by one: published ones miss 100 by 0.001, two decimals by 0.01.
    return ((values - whole).abs() <= 1.1e-4 * whole).fill_null(False)


def _not_percent(row: dict[str, object], column: str, path: Path, fractions: bool) -> InputError:
    return InputError(
        "These look like fractions, not percents."
        if fractions
        else "The accuracy and the error of a model are not 100 percent together.",
        where=f"{path}, model {row['row']}",
        got=f"{column} {row[column]}, {column}_err {row[f'{column}_err']}",
        allowed=f"{column} and {column}_err that are 100 together",
        do="multiply accuracies and errors by 100" if fractions else "make or fetch it again",
    )


def _numbers(frame: pl.DataFrame, column: str, metric: str, of: _Set) -> pa.Table:
    value = np.round(frame[column].to_numpy() / 100, 6)
    # Three decimals of a percentage tell the count of up to 100,000 images.
    lo, hi = wilson_interval(np.rint(value * of.n), of.n)
    n = len(frame)
    columns = {
        "dataset": [of.dataset] * n,
        "model": frame["row"].to_list(),
        "metric": [metric] * n,
        "slice": ["all"] * n,
        "value": value,
        "lo": lo,
        "hi": hi,
        "n": [of.n] * n,
        "n_skipped": [of.n_skipped] * n,
    }
    return pa.table(columns, schema=schema("results"))


def _models(frame: pl.DataFrame) -> pa.Table:
    names = frame["model"].to_list()
    columns = {
        "model": frame["row"].to_list(),
        "family": [family_of(name) for name in names],
        "pretraining": [pretraining_of(name) or None for name in names],
    }
    if "param_count" in frame.columns:
        text = frame["param_count"].cast(pl.String).str.replace_all(",", "")
        columns["params"] = text.cast(pl.Float64, strict=False).to_list()
    if "img_size" in frame.columns:
        columns["img_size"] = frame["img_size"].cast(pl.Int32, strict=False).to_list()
    return pa.table(columns)
