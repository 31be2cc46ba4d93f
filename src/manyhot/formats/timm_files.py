"""Files of timm: outputs of its ``inference.py`` in any layout, and its published results.

The outputs hold the top classes of each image; the results, the accuracy of more than a thousand models on
eight data sets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy import typing as npt

from manyhot.classes import ClassList, class_list, family_of, pretraining_of
from manyhot.core.array_types import Floats, Floats32, Ints32
from manyhot.errors import InputError, ManyhotError
from manyhot.formats.reading import cut_for_message, head, load_json, parse_json, read_parquet, short_ids
from manyhot.formats.table_files import column_names, read_frame
from manyhot.formats.wide_results import ValueColumn, check_models_once, results_of_column
from manyhot.registry import register
from manyhot.tables import Images, Predictions, Results
from manyhot.tables.result_tables import describe_metric

_KINDS = {"prob": "probability", "logit": "logit"}

_OUTPUT = re.compile(r"(prob|logit)(_\d+)?")

_BY_IMAGE = re.compile(r'\{\s*"[^"]*"\s*:\s*\{\s*"(index|label|prob|logit)(_\d+)?"\s*:')

_SPLIT = re.compile(r'\{\s*"columns"\s*:\s*\[\s*"filename"')

_LINES = re.compile(r'\{\s*"filename"\s*:')

_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""


def _matches_timm_inference(path: Path) -> bool:
    if path.suffix.lower() == ".json":
        start = head(path)
        return any(p.match(start) for p in (_BY_IMAGE, _SPLIT, _LINES)) or start.startswith("filename,")
    names = column_names(path)
    return "filename" in names and any(_OUTPUT.fullmatch(name) for name in names)


@register(
    "format",
    "timm-inference",
    holds="predictions",
    suffixes=(".csv", ".json", ".parquet"),
    matches=_matches_timm_inference,
    needs="filename and prob or logit",
)
def read_timm_inference(
    path: Path, *, classes: ClassList | None, rows: Images | None, scores: str | None
) -> Predictions:
    """Output of timm's ``inference.py`` in CSV, Parquet or JSON (by image, in split form, or as JSON lines).

    Classes are read from the column that ``--include-index`` adds. Without this column, labels are looked up
    in the class list. This fails for the two classes of ImageNet-1k named *crane*. With ``--topk 0``, the
    file contains scores over all classes. Lists and separate columns are both supported. The name of the
    model is the name of the file.

    References
    ----------
    huggingface/pytorch-image-models, ``inference.py``.
    """
    frame = _frame(path)
    own = classes or class_list()
    families = _families(frame, path)
    outputs = [name for name in families if name not in ("filename", "index", "label")]
    if len(outputs) > 1:
        raise InputError("The column of scores is ambiguous.", where=path, got=", ".join(outputs))
    values = _narrow(_float_matrix(frame, families[outputs[0]], path)) if outputs else None
    ids = _classes(frame, families, own, path)
    if ids is None:
        _check_dense(values, len(own), path)
    return Predictions(
        short_ids(frame["filename"].to_arrow(), f"{path}, column filename"),
        path.stem,
        ids,
        values,
        score_kind="none" if values is None else _KINDS.get(outputs[0], scores or "score"),
        n_classes=len(own),
        # Labels that are looked up in a list determine the list.
        class_hash=own.hash if classes or (ids is not None and "index" not in families) else "",
        source=str(path),
    )


def _frame(path: Path) -> pl.DataFrame:
    start = head(path) if path.suffix.lower() == ".json" else ""
    try:
        if path.suffix.lower() == ".parquet":
            frame = pl.from_arrow(read_parquet(path))
        elif _LINES.match(start):
            lines = path.read_text(encoding="utf-8").splitlines()
            frame = pl.DataFrame(
                [parse_json(line, path) for line in lines if line.strip()], infer_schema_length=None
            )
        elif start.startswith("{"):
            frame = _of_json(load_json(path), path)
        else:
            # With --results-format json-record, timm writes CSV into a .json file.
            frame = pl.read_csv(
                BytesIO(path.read_bytes()), infer_schema_length=None, schema_overrides={"filename": pl.String}
            )
    except (pl.exceptions.PolarsError, pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        if isinstance(error, ManyhotError):
            raise
        raise InputError(
            "The file cannot be read as a table.", where=path, got=str(error).partition("\n")[0]
        ) from error
    assert isinstance(frame, pl.DataFrame)
    if not len(frame):
        raise InputError("The file has no rows.", where=path)
    if "filename" not in frame.columns:
        raise InputError("The table lacks the column 'filename'.", where=path, got=", ".join(frame.columns))
    return frame


def _of_json(content: Any, path: Path) -> pl.DataFrame:
    if isinstance(content, dict) and set(content) == {"columns", "data"}:
        columns = content["columns"]
        if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
            raise InputError(
                "The columns of the table do not contain text.",
                where=path,
                got=cut_for_message(repr(columns)),
                do="create or download it again",
            )
        return pl.DataFrame(content["data"], schema=columns, orient="row", infer_schema_length=None)
    if not isinstance(content, dict) or not all(isinstance(row, dict) for row in content.values()):
        raise InputError("The file is not a table of images and their top classes.", where=path)
    return pl.DataFrame(
        [{"filename": name, **row} for name, row in content.items()], infer_schema_length=None
    )


def _families(frame: pl.DataFrame, path: Path) -> dict[str, list[str]]:
    """Return the columns of each kind; ``prob_0``, ``prob_1``, … are one kind."""
    families: dict[str, list[str]] = {}
    for column in frame.columns:
        families.setdefault(re.sub(r"_\d+$", "", column), []).append(column)
    for columns in families.values():
        columns.sort(key=lambda c: int(c.rpartition("_")[2]) if re.search(r"_\d+$", c) else 0)
    if not families.keys() - {"filename"}:
        raise InputError("The table contains no predictions.", where=path, got=", ".join(frame.columns))
    return families


def _classes(
    frame: pl.DataFrame, families: dict[str, list[str]], class_list: ClassList, path: Path
) -> Ints32 | None:
    if "index" in families:
        return _whole(_float_matrix(frame, families["index"], path), class_list, path)
    if "label" in families:
        return _looked_up(frame, families["label"], class_list, path)
    return None


def _float_matrix(frame: pl.DataFrame, columns: list[str], path: Path) -> Floats:
    lists = _lists(frame, columns, r"[^\s,\[\]]+")
    values = lists.explode(empty_as_null=True)
    if not (values.dtype.is_numeric() or values.dtype in (pl.String, pl.Null)):
        raise _strange(values, "numbers", columns, path)
    values = values.cast(pl.Float64, strict=False)
    return _square(values.is_null().any(), values.to_numpy(), lists, path)


def _narrow(values: Floats) -> Floats32:
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _whole(values: Floats, class_list: ClassList, path: Path) -> Ints32:
    # A NaN is not equal to itself. `Predictions` checks 32-bit numbers against the class list.
    bad = values[(values != np.rint(values)) | (np.abs(values) >= 2**31)]
    if len(bad):
        raise InputError(
            "This is not a class.",
            where=f"{path}, column index",
            got=repr(float(bad[0])).removesuffix(".0"),
            allowed=f"0 to {len(class_list) - 1}",
        )
    return values.astype(np.int32)


def _strange(values: pl.Series, allowed: str, columns: list[str], path: Path) -> InputError:
    return InputError(
        f"A column does not contain {allowed}.",
        where=f"{path}, column {columns[0]}",
        got=values.dtype,
        allowed=f"{allowed}, or one list of them per image",
    )


def _looked_up(frame: pl.DataFrame, columns: list[str], class_list: ClassList, path: Path) -> Ints32:
    lists = _lists(frame, columns, _QUOTED)
    texts = lists.explode(empty_as_null=True)
    if texts.dtype != pl.String:
        raise _strange(texts, "texts", columns, path)
    described = class_list.descriptions
    table = {
        text: _index(text, class_list, described, path)
        for text in texts.unique().drop_nulls().sort().to_list()
    }
    values = texts.replace_strict(table, default=None, return_dtype=pl.Int32)
    return _square(values.is_null().any(), values.to_numpy(), lists, path).astype(np.int32)


def _index(text: str, class_list: ClassList, described: Mapping[str, Collection[int]], path: Path) -> int:
    ids = described.get(text) or described.get(text.strip("'\""), ())
    if len(ids) == 1:
        return min(ids)
    if ids:
        raise InputError(
            "Several classes have this label.",
            where=path,
            got=text,
            allowed=", ".join(f"{class_list.names[i]} (class {i})" for i in sorted(ids)),
            do="run inference.py with --include-index or --label-type name",
        )
    try:
        return class_list.index(text.strip("'\""))
    except LookupError as error:
        raise InputError(
            "A label is not in the class list.",
            where=path,
            got=text,
            allowed=f"keys, names and descriptions of {class_list.name}",
            do="run inference.py with --include-index, or pass the class list of the model",
        ) from error


def _lists(frame: pl.DataFrame, columns: list[str], item: str) -> pl.Series:
    """Return one list per image, from columns, a list, an array written as text, or a single value."""
    if len(columns) > 1:
        return frame.select(pl.concat_list(columns)).to_series()
    values = frame[columns[0]]
    if isinstance(values.dtype, pl.List):
        return values
    if values.dtype == pl.String and values.str.starts_with("[").all():
        items = values.str.extract_all(item)
        return items.list.eval(_unquoted(pl.element())) if item == _QUOTED else items
    return values.to_frame().select(pl.concat_list(columns)).to_series()


def _unquoted(text: pl.Expr) -> pl.Expr:
    # NumPy quotes the texts of an array like Python.
    bare = text.str.slice(1, text.str.len_chars() - 2)
    return bare.str.replace_all(r"\\(['\"\\])", "$1")


def _square(gaps: bool, values: npt.NDArray[Any], lists: pl.Series, path: Path) -> npt.NDArray[Any]:
    lengths = lists.list.len().unique().to_list()
    if gaps or len(lengths) != 1 or lengths[0] == 0:
        raise InputError(
            "The images have different numbers of classes.",
            where=path,
            got="an empty or unreadable value" if gaps else f"{min(lengths)} to {max(lengths)} values",
            allowed="the same number of values for each image, as set by --topk of inference.py",
        )
    return values.reshape(len(lists), -1)


def _check_dense(values: Floats32 | None, n_classes: int, path: Path) -> None:
    if values is None:
        raise InputError(
            "The file contains no classes.", where=path, do="run inference.py with --include-index"
        )
    best_first = values.shape[1] > 1 and bool((np.diff(values, axis=1) <= 0).all())
    if values.shape[1] != n_classes or best_first:
        raise InputError(
            "The classes of the scores are unknown.",
            where=path,
            got=f"{values.shape[1]} scores per image" + (", best first" if best_first else ""),
            allowed=f"scores over all {n_classes:,} classes in order (--topk 0), or scores with classes",
            do="run inference.py with --include-index",
        )


@dataclass(frozen=True)
class _Set:
    """A data set of timm's results: its name in results, its images, and those without labels."""

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
"""Data sets by their names in timm's files, such as ``results-sketch.csv``."""

_NEEDED = ("model", "top1", "top5")


@register(
    "format",
    "timm-results",
    holds="results",
    suffixes=(".csv",),
    matches=lambda path: {"model", "top1", "top1_err"} <= set(column_names(path)),
    needs="model, top1 and top1_err",
)
def read_timm_results(path: Path, *, dataset: str | None = None) -> Results:
    """Results of timm (``results-*.csv``): top-1 and top-5 accuracy of models at an image size, in percent.

    Each row becomes the model ``name@img_size``. The data set is `dataset` or the data set in the file name,
    and its number of images must be known. Intervals are Wilson intervals. For ImageNet-A and ImageNet-R,
    predictions are restricted to their 200 classes. The same holds for the ``-clean`` tables, which contain
    the validation images of these classes.

    References
    ----------
    huggingface/pytorch-image-models, ``results/README.md`` and ``validate.py``.
    """
    data = _set_of(path, dataset)
    frame = _checked(read_frame(path), path)
    sized = pl.concat_str(pl.col("model"), pl.col("img_size").cast(pl.String), separator="@")
    frame = frame.with_columns(row=sized if "img_size" in frame.columns else pl.col("model"))
    check_models_once(frame["row"], path)
    _check_percent(frame, path)
    columns = [ValueColumn(*of) for of in zip(_NEEDED[1:], [data.dataset] * 2, data.metrics, strict=True)]
    parts = [
        results_of_column(frame["row"], frame[of.name], of, 100, data.n, data.n_skipped) for of in columns
    ]
    metrics = {name: describe_metric(name) for name in data.metrics}
    table = pa.concat_tables(parts).replace_schema_metadata({"manyhot.metrics": json.dumps(metrics)})
    return Results(table, models=_models(frame), name=path.stem)


def with_pretraining(results: Results, metadata: Path) -> Results:
    """Return the results with the pretraining filled in for models whose names do not state it.

    Parameters
    ----------
    metadata : Path
        timm's ``model_metadata-in1k.csv``, with the columns ``model`` and ``pretrain``. Names of models in
        timm before 0.9 do not state the pretraining.
    """
    rows = read_frame(metadata).select("model", "pretrain").iter_rows()
    of_model = {model: pretraining_of(f"{model}.{data}") for model, data in rows}
    models = results.models
    names, stated = models["model"].to_pylist(), models["pretraining"].to_pylist()
    filled = [s or of_model.get(n.partition("@")[0]) for n, s in zip(names, stated, strict=True)]
    at = models.column_names.index("pretraining")
    return replace(results, models=models.set_column(at, "pretraining", pa.array(filled, pa.string())))


def _set_of(path: Path, dataset: str | None) -> _Set:
    name = path.stem.rpartition("results-")[2] if dataset is None else dataset
    by_name = {s.dataset: s for s in reversed(SETS.values())} | SETS
    if name in by_name:
        return by_name[name]
    raise InputError(
        "The file name does not contain the data set of these results."
        if dataset is None
        else "The number of images of this data set is unknown.",
        where=path,
        got=path.name if dataset is None else dataset,
        allowed=", ".join(by_name),
        do="rename it to results-NAME.csv, or pass dataset=NAME in Python; for another data set, write a "
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
    """Raise an error for inconsistent numbers, in particular for fractions that look like percents."""
    for column in (c for c in _NEEDED[1:] if f"{c}_err" in frame.columns):
        whole = frame[column] + frame[f"{column}_err"].cast(pl.Float64, strict=False)
        near = _is_near(whole, 100)
        if not near.all():
            at = int(near.arg_min() or 0)
            row, fractions = frame.row(at, named=True), _is_near(whole, 1)[at]
            raise InputError(
                "These look like fractions, not percents."
                if fractions
                else "The accuracy and the error of a model do not add up to 100 percent.",
                where=f"{path}, model {row['row']}",
                got=f"{column} {row[column]}, {column}_err {row[f'{column}_err']}",
                allowed=f"{column} and {column}_err that add up to 100",
                do="multiply accuracies and errors by 100" if fractions else "create or download it again",
            )
    bad = frame.filter(pl.col("top5") < pl.col("top1"))
    if len(bad):
        raise InputError(
            "The top-5 accuracy of a model is below its top-1 accuracy.",
            where=f"{path}, model {bad['row'][0]}",
            got=f"top5 {bad['top5'][0]}, top1 {bad['top1'][0]}",
            allowed="top5 of at least top1",
        )


def _is_near(values: pl.Series, whole: float) -> pl.Series:
    """Return whether each value is `whole` up to rounding; a null is not."""
    # Accuracy and error are rounded separately: published ones miss 100 by 0.001, two decimals by 0.01.
    return ((values - whole).abs() <= 1.1e-4 * whole).fill_null(False)


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
