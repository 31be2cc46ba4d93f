"""Published results of many models: open_clip's, imagenet-testbed's, Peychev et al.'s and CLIP_benchmark's.

The first three have a column for each data set, the last a row for each model and data set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from manyhot.classes import family_of, pretraining_of
from manyhot.core.share_intervals import proportion_interval
from manyhot.errors import InputError
from manyhot.formats.tabular import column_names, read_frame
from manyhot.registry import register
from manyhot.tables import Results, schema
from manyhot.tables.result_tables import describe_metric


@dataclass(frozen=True)
class _Column:
    """What a column holds: a metric on a data set of n images."""

    dataset: str
    n: int
    metric: str = "top1"
    is_share: bool = True


_VAL, _V2 = _Column("imagenet-val", 50_000), _Column("imagenetv2-matched-frequency", 10_000)
_A, _R = _Column("imagenet-a", 7_500), _Column("imagenet-r", 30_000)
_SKETCH, _OBJECTNET = _Column("imagenet-sketch", 50_889), _Column("objectnet", 18_574)
_CIFAR10, _CIFAR100 = _Column("cifar-10", 10_000), _Column("cifar-100", 10_000)
_MNIST, _STL10 = _Column("mnist", 10_000), _Column("stl-10", 8_000)

OPENCLIP = {
    "ImageNet 1k": _VAL,
    "ImageNet v2": _V2,
    "ImageNet-A": _A,
    "ImageNet-R": _R,
    "ImageNet Sketch": _SKETCH,
    "ObjectNet": _OBJECTNET,
    "CIFAR-10": _CIFAR10,
    "CIFAR-100": _CIFAR100,
    "MNIST": _MNIST,
    "STL-10": _STL10,
}
"""Columns of open_clip's tables whose metric is top-1 accuracy, and whose number of images is known."""

TESTBED = {
    "val": _VAL,
    "imagenetv2-matched-frequency": _V2,
    "imagenet-a": _A,
    "imagenet-r": _R,
    "imagenet-sketch": _SKETCH,
    "val-on-imagenet-a-classes": _Column("imagenet-val-a-classes", 10_000),
    "val-on-imagenet-r-classes": _Column("imagenet-val-r-classes", 10_000),
}
"""Columns of imagenet-testbed's table of top-1 accuracies."""

PEYCHEV = {
    "imagenet_top1_val_acc": _VAL,
    # A mean over classes, whose interval does not follow from its value.
    "imagenet_mla_val_acc": _Column("imagenet-multilabel", 18_692, "mla", is_share=False),
}
"""Columns of the tables of Peychev et al."""

CLIP_BENCHMARK = {
    "imagenet1k": _VAL,
    "imagenetv2": _V2,
    "imagenet-a": _A,
    "imagenet-r": _R,
    "imagenet_sketch": _SKETCH,
    "objectnet": _OBJECTNET,
    "vtab/cifar10": _CIFAR10,
    "vtab/cifar100": _CIFAR100,
    "mnist": _MNIST,
    "stl10": _STL10,
}
"""Data sets of CLIP_benchmark whose number of images is known."""


def _matches(*names: str) -> object:
    return lambda path: set(names) <= set(column_names(path))


@register(
    "format",
    "openclip-results",
    holds="results",
    suffixes=(".csv",),
    matches=_matches("name", "pretrained", "ImageNet 1k"),
    needs="name, pretrained and ImageNet 1k",
)
def read_openclip_results(path: Path, *, dataset: str | None = None) -> Results:
    """Zero-shot accuracies of open_clip, a column for each data set, as shares.

    A model is its name and its pretraining, such as ``ViT-B-32/openai``. The columns whose metric is top-1
    accuracy and whose number of images is known are read.

    References
    ----------
    mlfoundations/open_clip, ``docs/openclip_results.csv``.
    """
    frame = _named(path, "name", "pretrained")
    return _results(_wide(frame, OPENCLIP, 1.0, path), frame, path, dataset)


@register(
    "format",
    "testbed-results",
    holds="results",
    suffixes=(".csv",),
    matches=_matches("model", "val", "imagenetv2-matched-frequency"),
    needs="model, val and imagenetv2-matched-frequency",
)
def read_testbed_results(path: Path, *, dataset: str | None = None) -> Results:
    """Top-1 accuracies of imagenet-testbed, a column for each setting, in percent.

    Settings that are empty were not evaluated. Corruptions, attacks and video are not read.

    References
    ----------
    modestyachts/imagenet-testbed, ``robustness_top1s.csv``. Taori et al. 2020, Measuring robustness to
    natural distribution shifts in image classification, https://arxiv.org/abs/2007.00644.
    """
    frame = _named(path, "model")
    return _results(_wide(frame, TESTBED, 100.0, path), frame, path, dataset)


@register(
    "format",
    "peychev-results",
    holds="results",
    suffixes=(".csv",),
    matches=_matches("model_dir_id", "imagenet_top1_val_acc", "imagenet_mla_val_acc"),
    needs="model_dir_id, imagenet_top1_val_acc and imagenet_mla_val_acc",
)
def read_peychev_results(path: Path, *, dataset: str | None = None) -> Results:
    """Top-1 and multi-label accuracy of 962 networks by Peychev et al., in percent.

    Multi-label accuracy is on the 18,692 validation images of Shankar et al. that are not problematic, which
    are the data set ``imagenet-multilabel`` here. A comparison compares the two.

    References
    ----------
    Peychev, Müller, Fischer & Vechev 2023, Automated classification of model errors on ImageNet,
    https://arxiv.org/abs/2401.02430; eth-sri/automated-error-analysis.
    """
    frame = _named(path, "model_dir_id")
    found = _results(_wide(frame, PEYCHEV, 100.0, path), frame, path, dataset)
    ends = [(of.dataset, of.metric, "all") for of in PEYCHEV.values()]
    compared = {"manyhot.compared": json.dumps({"ends": [ends], "without": []})}
    table = found.table.replace_schema_metadata({**(found.table.schema.metadata or {}), **compared})
    return replace(found, table=table)


@register(
    "format",
    "clip-benchmark",
    holds="results",
    suffixes=(".csv",),
    matches=_matches("dataset", "model", "pretrained", "acc1", "acc5"),
    needs="dataset, model, pretrained, acc1 and acc5",
)
def read_clip_benchmark(path: Path, *, dataset: str | None = None) -> Results:
    """Zero-shot results of CLIP_benchmark: top-1 and top-5 accuracy as shares.

    A row is a model and a data set. Data sets whose number of images is known are read.

    References
    ----------
    LAION-AI/CLIP_benchmark, ``benchmark/benchmark.csv``.
    """
    frame, parts = _named(path, "model", "pretrained"), list[pa.Table]()
    for name, column in CLIP_BENCHMARK.items():
        own = frame.filter(pl.col("dataset") == name)
        for metric, values in (("top1", "acc1"), ("top5", "acc5")):
            parts.append(_part(own, values, _Column(column.dataset, column.n, metric), 1.0, path))
    return _results(parts, frame.unique("model", maintain_order=True), path, dataset)


def _named(path: Path, *columns: str) -> pl.DataFrame:
    """Return the table with the column `model`, joined from the columns that make the name of a model."""
    frame = read_frame(path)
    parts = [pl.col(column).cast(pl.String) for column in columns]
    frame = frame.with_columns(model=pl.concat_str(*parts, separator="/"))
    nameless = frame["model"].is_null()
    if nameless.any():
        where = f"{path}, row {nameless.arg_true()[0]}"
        raise InputError("A model has no name.", where=where, allowed=f"{' and '.join(columns)} in each row")
    return frame


def _wide(frame: pl.DataFrame, columns: Mapping[str, _Column], whole: float, path: Path) -> list[pa.Table]:
    """Return the results of each known column."""
    return [_part(frame, name, of, whole, path) for name, of in columns.items() if name in frame.columns]


def _part(frame: pl.DataFrame, name: str, of: _Column, whole: float, path: Path) -> pa.Table:
    """Return the results of one column; empty cells are models that were not evaluated."""
    filled = frame.filter(pl.col(name).cast(pl.String).str.strip_chars().fill_null("") != "")
    values = filled[name].cast(pl.Float64, strict=False)
    bad = filled.filter(~values.is_between(0, whole).fill_null(False))
    if len(bad):
        raise InputError(
            "This is not an accuracy.",
            where=f"{path}, model {bad['model'][0]}",
            got=f"{name} {bad[name][0]}",
            allowed=f"0 to {whole:g}, or nothing if the model was not evaluated",
        )
    twice = filled["model"].filter(filled["model"].is_duplicated())
    if len(twice):
        raise InputError("A model occurs twice in the table.", where=path, got=twice[0])
    value, n = np.round(values.to_numpy() / whole, 6), len(filled)
    lo, hi = proportion_interval(np.rint(value * of.n), of.n) if of.is_share else (np.full(n, np.nan),) * 2
    columns = {
        "dataset": [of.dataset] * n,
        "model": filled["model"].to_list(),
        "metric": [of.metric] * n,
        "slice": ["all"] * n,
        "value": value,
        "lo": pa.array(lo, pa.float64(), from_pandas=True),
        "hi": pa.array(hi, pa.float64(), from_pandas=True),
        "n": [of.n] * n,
        "n_skipped": [0] * n,
    }
    return pa.table(columns, schema=schema("results"))


def _results(parts: Sequence[pa.Table], models: pl.DataFrame, path: Path, dataset: str | None) -> Results:
    """Return the parts as one table of results, with the models' families and pretraining."""
    together = pa.concat_tables(parts)
    known = together["dataset"].unique().to_pylist()
    if dataset is not None:
        together = together.filter(pa.compute.equal(together["dataset"], dataset))
    if not together.num_rows:
        raise InputError(
            "The table holds no results of this data set." if dataset else "The table holds no results.",
            where=path,
            got=dataset,
            allowed=", ".join(known) or None,
        )
    metrics = {name: describe_metric(name) for name in together["metric"].unique().to_pylist()}
    names = models["model"].to_list()
    about = {
        "model": names,
        "family": [family_of(name.rpartition("--")[2]) for name in names],
        "pretraining": [pretraining_of(name) or None for name in names],
    }
    return Results(
        together.replace_schema_metadata({"manyhot.metrics": json.dumps(metrics)}),
        models=pa.table(about),
        name=path.stem,
    )
