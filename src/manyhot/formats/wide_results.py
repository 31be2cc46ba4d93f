"""Published results of many models: open_clip's, imagenet-testbed's, Peychev et al.'s and CLIP_benchmark's.

One reader reads all four. `WideTable` declares what differs: the columns that name a model, the unit, and
what each column of values holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from manyhot.classes import family_of, pretraining_of
from manyhot.core.share_intervals import proportion_interval
from manyhot.errors import InputError
from manyhot.formats.table_files import column_names, read_frame
from manyhot.registry import register
from manyhot.tables import Results, schema
from manyhot.tables.result_tables import describe_metric

_ZERO_SHOT_DATA = (
    ("datacomp", r"datacomp|commonpool"),
    ("laion", r"laion"),
    ("dfn", r"dfn"),
    ("metaclip", r"metaclip"),
    ("merged-2b", r"merged2b"),
    ("webli", r"webli"),
    ("openai", r"openai"),
    ("yfcc-15m", r"yfcc15m"),
    ("cc-12m", r"cc12m"),
)
"""Training data of zero-shot models by patterns of their pretraining; the first match counts."""


def zero_shot_data(model: str) -> str:
    """Return the training data of a zero-shot model, such as ``ViT-B-32/laion2b_e16``; empty if unknown."""
    pretraining = model.partition("/")[2].lower()
    return next((data for data, pattern in _ZERO_SHOT_DATA if re.search(pattern, pretraining)), "")


def zero_shot_family(model: str) -> str:
    """Return the family of a zero-shot model: its training data or, if unknown, its architecture.

    Training data are used because 85 of open_clip's 121 models are vision transformers, and because models
    trained on the same data have more in common than models with the same architecture (Fang et al. 2022,
    arXiv 2205.01397: data determine the robustness of CLIP).
    """
    return zero_shot_data(model) or family_of(model)


_SIZES = {
    "imagenet-val": 50_000,
    "imagenetv2-matched-frequency": 10_000,
    "imagenet-a": 7_500,
    "imagenet-r": 30_000,
    "imagenet-sketch": 50_889,
    "objectnet": 18_574,
    "cifar-10": 10_000,
    "cifar-100": 10_000,
    "mnist": 10_000,
    "stl-10": 8_000,
    "imagenet-val-a-classes": 10_000,
    "imagenet-val-r-classes": 10_000,
    "imagenet-multilabel": 18_692,
}
"""Number of images of the data sets that are read. A column of another data set has no known n."""


@dataclass(frozen=True)
class ValueColumn:
    """A column with the values of a metric on a data set.

    In a table with several rows per model, `rows` is the value of the column ``dataset`` for this data set.
    """

    name: str
    dataset: str
    metric: str = "top1"
    is_share: bool = True
    rows: str | None = None


@dataclass(frozen=True)
class WideTable:
    """The form of a published table.

    Attributes
    ----------
    model : tuple of str
        Columns that form the name of a model.
    columns : tuple of ValueColumn
        The columns to read. Other columns are ignored.
    recognised_by : tuple of str
        Columns whose presence identifies a file of this kind.
    whole : float
        The value of a perfect model: 1 for shares, 100 for percent.
    are_compared : bool
        Whether `manyhot compare` compares the columns with each other.
    family, pretraining : callable
        Functions that return the family and the pretraining data of a model from its name.
    """

    model: tuple[str, ...]
    columns: tuple[ValueColumn, ...]
    recognised_by: tuple[str, ...]
    whole: float
    are_compared: bool = False
    family: Callable[[str], str] = lambda model: family_of(model.rpartition("--")[2])
    pretraining: Callable[[str], str] = pretraining_of


_OPENCLIP = {
    "ImageNet 1k": "imagenet-val",
    "ImageNet v2": "imagenetv2-matched-frequency",
    "ImageNet-A": "imagenet-a",
    "ImageNet-R": "imagenet-r",
    "ImageNet Sketch": "imagenet-sketch",
    "ObjectNet": "objectnet",
    "CIFAR-10": "cifar-10",
    "CIFAR-100": "cifar-100",
    "MNIST": "mnist",
    "STL-10": "stl-10",
}
_TESTBED = {
    "val": "imagenet-val",
    "imagenetv2-matched-frequency": "imagenetv2-matched-frequency",
    "imagenet-a": "imagenet-a",
    "imagenet-r": "imagenet-r",
    "imagenet-sketch": "imagenet-sketch",
    "val-on-imagenet-a-classes": "imagenet-val-a-classes",
    "val-on-imagenet-r-classes": "imagenet-val-r-classes",
}
_CLIP_BENCHMARK = {
    "imagenet1k": "imagenet-val",
    "imagenetv2": "imagenetv2-matched-frequency",
    "imagenet-a": "imagenet-a",
    "imagenet-r": "imagenet-r",
    "imagenet_sketch": "imagenet-sketch",
    "objectnet": "objectnet",
    "vtab/cifar10": "cifar-10",
    "vtab/cifar100": "cifar-100",
    "mnist": "mnist",
    "stl10": "stl-10",
}

OPENCLIP_TABLE = WideTable(
    model=("name", "pretrained"),
    columns=tuple(ValueColumn(*item) for item in _OPENCLIP.items()),
    recognised_by=("name", "pretrained", "ImageNet 1k"),
    whole=1.0,
    family=zero_shot_family,
    pretraining=zero_shot_data,
)
TESTBED_TABLE = WideTable(
    model=("model",),
    columns=tuple(ValueColumn(*item) for item in _TESTBED.items()),
    recognised_by=("model", "val", "imagenetv2-matched-frequency"),
    whole=100.0,
)
PEYCHEV_TABLE = WideTable(
    model=("model_dir_id",),
    columns=(
        ValueColumn("imagenet_top1_val_acc", "imagenet-val"),
        # A mean over classes, whose interval does not follow from its value.
        ValueColumn("imagenet_mla_val_acc", "imagenet-multilabel", "mla", is_share=False),
    ),
    recognised_by=("model_dir_id", "imagenet_top1_val_acc", "imagenet_mla_val_acc"),
    whole=100.0,
    are_compared=True,
)
CLIP_BENCHMARK_TABLE = WideTable(
    model=("model", "pretrained"),
    columns=tuple(
        ValueColumn(values, dataset, metric, rows=name)
        for name, dataset in _CLIP_BENCHMARK.items()
        for metric, values in (("top1", "acc1"), ("top5", "acc5"))
    ),
    recognised_by=("dataset", "model", "pretrained", "acc1", "acc5"),
    whole=1.0,
    family=zero_shot_family,
    pretraining=zero_shot_data,
)


def _table_format(name: str, form: WideTable) -> Callable[..., Callable[..., Results]]:
    """Return the decorator that registers the reader of a table."""
    listed = f"{', '.join(form.recognised_by[:-1])} and {form.recognised_by[-1]}"
    return register(
        "format",
        name,
        holds="results",
        suffixes=(".csv",),
        matches=lambda path: set(form.recognised_by) <= set(column_names(path)),
        needs=listed,
    )


@_table_format("openclip-results", OPENCLIP_TABLE)
def read_openclip_results(path: Path, *, dataset: str | None = None) -> Results:
    """open_clip's zero-shot accuracies as shares, one column per data set.

    The name of a model includes its pretraining, as in ``ViT-B-32/openai``. Only columns of top-1 accuracy
    with a known number of images are read.

    References
    ----------
    mlfoundations/open_clip, ``docs/openclip_results.csv``.
    """
    return _read(path, OPENCLIP_TABLE, dataset)


@_table_format("testbed-results", TESTBED_TABLE)
def read_testbed_results(path: Path, *, dataset: str | None = None) -> Results:
    """Top-1 accuracies of imagenet-testbed in percent, one column per setting.

    Empty settings were not evaluated. Columns of corruptions, attacks and video are not read.

    References
    ----------
    modestyachts/imagenet-testbed, ``robustness_top1s.csv``. Taori et al. 2020, Measuring robustness to
    natural distribution shifts in image classification, https://arxiv.org/abs/2007.00644.
    """
    return _read(path, TESTBED_TABLE, dataset)


@_table_format("peychev-results", PEYCHEV_TABLE)
def read_peychev_results(path: Path, *, dataset: str | None = None) -> Results:
    """Top-1 and multi-label accuracy of 962 networks by Peychev et al., in percent.

    Multi-label accuracy is computed on the 18,692 validation images of Shankar et al. that are not
    problematic. These images form the data set ``imagenet-multilabel``. `manyhot compare` compares the two
    accuracies.

    References
    ----------
    Peychev, Müller, Fischer & Vechev 2023, Automated classification of model errors on ImageNet,
    https://arxiv.org/abs/2401.02430; eth-sri/automated-error-analysis.
    """
    return _read(path, PEYCHEV_TABLE, dataset)


@_table_format("clip-benchmark", CLIP_BENCHMARK_TABLE)
def read_clip_benchmark(path: Path, *, dataset: str | None = None) -> Results:
    """Zero-shot results of CLIP_benchmark: top-1 and top-5 accuracy as shares.

    Each row contains a model's results on a data set. Only data sets with a known number of images are read.

    References
    ----------
    LAION-AI/CLIP_benchmark, ``benchmark/benchmark.csv``.
    """
    return _read(path, CLIP_BENCHMARK_TABLE, dataset)


def _read(path: Path, form: WideTable, dataset: str | None) -> Results:
    """Return the results in a table of this form, of one data set if it is given."""
    frame = _named(path, form)
    together = pa.concat_tables(
        _part(frame, of, form.whole, path) for of in form.columns if of.name in frame.columns
    )
    known = together["dataset"].unique().to_pylist()
    if dataset is not None:
        together = together.filter(pa.compute.equal(together["dataset"], dataset))
    if not together.num_rows:
        raise InputError(
            "The table contains no results of this data set."
            if dataset
            else "The table contains no results.",
            where=path,
            got=dataset,
            allowed=", ".join(known) or None,
        )
    metrics = {name: describe_metric(name) for name in together["metric"].unique().to_pylist()}
    about = {"manyhot.metrics": json.dumps(metrics)}
    if form.are_compared:
        ends = [(of.dataset, of.metric, "all") for of in form.columns]
        about["manyhot.compared"] = json.dumps({"ends": [ends], "without": []})
    names = frame["model"].unique(maintain_order=True).to_list()
    return Results(together.replace_schema_metadata(about), models=_models(names, form), name=path.stem)


def _named(path: Path, form: WideTable) -> pl.DataFrame:
    """Return the table with the column `model`, joined from the columns that make the name of a model."""
    frame = read_frame(path)
    parts = [pl.col(column).cast(pl.String) for column in form.model]
    frame = frame.with_columns(model=pl.concat_str(*parts, separator="/"))
    nameless = frame["model"].is_null()
    if nameless.any():
        where = f"{path}, row {nameless.arg_true()[0]}"
        allowed = f"{' and '.join(form.model)} in each row"
        raise InputError("A model has no name.", where=where, allowed=allowed)
    return frame


def _part(frame: pl.DataFrame, of: ValueColumn, whole: float, path: Path) -> pa.Table:
    """Return the results of one column; empty cells are models that were not evaluated."""
    own = frame if of.rows is None else frame.filter(pl.col("dataset") == of.rows)
    filled = own.filter(pl.col(of.name).cast(pl.String).str.strip_chars().fill_null("") != "")
    values = filled[of.name].cast(pl.Float64, strict=False)
    bad = filled.filter(~values.is_between(0, whole).fill_null(False))
    if len(bad):
        raise InputError(
            "This is not an accuracy.",
            where=f"{path}, model {bad['model'][0]}",
            got=f"{of.name} {bad[of.name][0]}",
            allowed=f"0 to {whole:g}, or nothing if the model was not evaluated",
        )
    check_models_once(filled["model"], path)
    return results_of_column(filled["model"], values, of, whole, _SIZES[of.dataset])


def check_models_once(models: pl.Series, path: Path) -> None:
    """Raise an error for a model that occurs twice in a table."""
    twice = models.filter(models.is_duplicated())
    if len(twice):
        raise InputError("A model occurs twice in the table.", where=path, got=twice[0])


def results_of_column(
    models: pl.Series, values: pl.Series, of: ValueColumn, whole: float, n: int, n_skipped: int = 0
) -> pa.Table:
    """Return the results of models on a data set, with Wilson intervals of shares."""
    value, rows = np.round(values.to_numpy() / whole, 6), len(models)
    # Three decimals of a percentage determine the count of up to 100,000 images.
    lo, hi = proportion_interval(np.rint(value * n), n) if of.is_share else (np.full(rows, np.nan),) * 2
    columns = {
        "dataset": [of.dataset] * rows,
        "model": models.to_list(),
        "metric": [of.metric] * rows,
        "slice": ["all"] * rows,
        "value": value,
        "lo": pa.array(lo, pa.float64(), from_pandas=True),
        "hi": pa.array(hi, pa.float64(), from_pandas=True),
        "n": [n] * rows,
        "n_skipped": [n_skipped] * rows,
    }
    return pa.table(columns, schema=schema("results"))


def _models(names: list[str], form: WideTable) -> pa.Table:
    """Return the models with their families and pretraining."""
    about = {
        "model": names,
        "family": [form.family(name) for name in names],
        "pretraining": [form.pretraining(name) or None for name in names],
    }
    return pa.table(about)
