"""Outputs of timm's ``inference.py``: the best classes of each image, in any of its layouts."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError, ManyhotError
from manyhot.formats.broken import read_parquet
from manyhot.formats.columns import base_names, descriptions
from manyhot.formats.json_files import head, load, parse
from manyhot.formats.tabular import column_names
from manyhot.registry import register
from manyhot.tables import Images, Predictions

_KINDS = {"prob": "probability", "logit": "logit"}
_OUTPUT = re.compile(r"(prob|logit)(_\d+)?")
_BY_IMAGE = re.compile(r'\{\s*"[^"]*"\s*:\s*\{\s*"(index|label|prob|logit)(_\d+)?"\s*:')
_SPLIT = re.compile(r'\{\s*"columns"\s*:\s*\[\s*"filename"')
_LINES = re.compile(r'\{\s*"filename"\s*:')
_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""


def _matches(path: Path) -> bool:
    if path.suffix.lower() == ".json":
        start = head(path)
        return any(p.match(start) for p in (_BY_IMAGE, _SPLIT, _LINES)) or start.startswith("filename,")
    names = column_names(path)
    return "filename" in names and any(_OUTPUT.fullmatch(name) for name in names)


@register(
    "format", "timm-inference", holds="predictions", suffixes=(".csv", ".json", ".parquet"), matches=_matches
)
def read_timm_inference(
    path: Path, *, classes: ClassList | None, rows: Images | None, scores: str | None
) -> Predictions:
    """Outputs of timm's ``inference.py``: CSV, Parquet, and JSON by image, split or as lines.

    Classes are those of ``--include-index``; else the labels are looked up in the class list, which fails
    for the two classes of ImageNet-1k that are called *crane* and nothing more. ``--topk 0`` gives scores
    over all classes. Lists and separate columns are read alike. The model is called as the file.

    References
    ----------
    huggingface/pytorch-image-models, ``inference.py``.
    """
    frame = _frame(path)
    known = classes or class_list()
    families = _families(frame, path)
    outputs = [name for name in families if name not in ("filename", "index", "label")]
    if len(outputs) > 1:
        raise InputError("It is not clear which column holds the scores.", where=path, got=", ".join(outputs))
    values = _narrow(_numbers(frame, families[outputs[0]], path)) if outputs else None
    found = _classes(frame, families, known, path)
    if found is None:
        _check_dense(values, len(known), path)
    return Predictions(
        base_names(frame["filename"].to_arrow(), f"{path}, column filename"),
        path.stem,
        found,
        values,
        score_kind="none" if values is None else _KINDS.get(outputs[0], scores or "score"),
        n_classes=len(known),
        # Labels that were looked up in a list tell which list it is.
        class_hash=known.hash if classes or (found is not None and "index" not in families) else "",
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
                [parse(line, path) for line in lines if line.strip()], infer_schema_length=None
            )
        elif start.startswith("{"):
            frame = _of_json(load(path), path)
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
        return pl.DataFrame(
            content["data"], schema=content["columns"], orient="row", infer_schema_length=None
        )
    if not isinstance(content, dict) or not all(isinstance(row, dict) for row in content.values()):
        raise InputError("The file is not a table of images and their best classes.", where=path)
    return pl.DataFrame(
        [{"filename": name, **row} for name, row in content.items()], infer_schema_length=None
    )


def _families(frame: pl.DataFrame, path: Path) -> dict[str, list[str]]:
    """Return the columns of each kind, ``prob_0``, ``prob_1``, … being one kind."""
    families: dict[str, list[str]] = {}
    for column in frame.columns:
        families.setdefault(re.sub(r"_\d+$", "", column), []).append(column)
    for columns in families.values():
        columns.sort(key=lambda c: int(c.rpartition("_")[2]) if re.search(r"_\d+$", c) else 0)
    if not families.keys() - {"filename"}:
        raise InputError("The table holds no predictions.", where=path, got=", ".join(frame.columns))
    return families


def _classes(
    frame: pl.DataFrame, families: dict[str, list[str]], known: ClassList, path: Path
) -> npt.NDArray[np.int32] | None:
    if "index" in families:
        return _whole(_numbers(frame, families["index"], path), known, path)
    if "label" in families:
        return _looked_up(frame, families["label"], known, path)
    return None


def _numbers(frame: pl.DataFrame, columns: list[str], path: Path) -> npt.NDArray[np.float64]:
    lists = _lists(frame, columns, r"[^\s,\[\]]+")
    values = lists.explode(empty_as_null=True)
    if not (values.dtype.is_numeric() or values.dtype in (pl.String, pl.Null)):
        raise _strange(values, "numbers", columns, path)
    values = values.cast(pl.Float64, strict=False)
    return _square(values.is_null().any(), values.to_numpy(), lists, path)


def _narrow(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _whole(values: npt.NDArray[np.float64], known: ClassList, path: Path) -> npt.NDArray[np.int32]:
    # A NaN is not equal to itself. What is a number of 32 bits the predictions hold against the class list.
    bad = values[(values != np.rint(values)) | (np.abs(values) >= 2**31)]
    if len(bad):
        raise InputError(
            "This is not a class.",
            where=f"{path}, column index",
            got=repr(float(bad[0])).removesuffix(".0"),
            allowed=f"0 to {len(known) - 1}",
        )
    return values.astype(np.int32)


def _strange(values: pl.Series, allowed: str, columns: list[str], path: Path) -> InputError:
    return InputError(
        f"A column does not hold {allowed}.",
        where=f"{path}, column {columns[0]}",
        got=values.dtype,
        allowed=f"{allowed}, or one list of them an image",
    )


def _looked_up(
    frame: pl.DataFrame, columns: list[str], known: ClassList, path: Path
) -> npt.NDArray[np.int32]:
    lists = _lists(frame, columns, _QUOTED)
    texts = lists.explode(empty_as_null=True)
    if texts.dtype != pl.String:
        raise _strange(texts, "texts", columns, path)
    described = descriptions(known)
    table = {
        text: _index(text, known, described, path) for text in texts.unique().drop_nulls().sort().to_list()
    }
    values = texts.replace_strict(table, default=None, return_dtype=pl.Int32)
    return _square(values.is_null().any(), values.to_numpy(), lists, path).astype(np.int32)


def _index(text: str, known: ClassList, described: dict[str, set[int]], path: Path) -> int:
    found = described.get(text) or described.get(text.strip("'\""), set())
    if len(found) == 1:
        return min(found)
    try:
        return known.index(text.strip("'\"")) if not found else _ambiguous(text, found, known, path)
    except LookupError as error:
        raise InputError(
            "A label is not in the class list.",
            where=path,
            got=text,
            allowed=f"keys, names and descriptions of {known.name}",
            do="run inference.py with --include-index, or give the class list of the model",
        ) from error


def _ambiguous(text: str, found: set[int], known: ClassList, path: Path) -> int:
    raise InputError(
        "Several classes have this label.",
        where=path,
        got=text,
        allowed=", ".join(f"{known.names[i]} (class {i})" for i in sorted(found)),
        do="run inference.py with --include-index or --label-type name",
    )


def _lists(frame: pl.DataFrame, columns: list[str], item: str) -> pl.Series:
    """Return one list an image: of columns, of a list, of an array written as text, or of one value."""
    if len(columns) > 1:
        return frame.select(pl.concat_list(columns)).to_series()
    values = frame[columns[0]]
    if isinstance(values.dtype, pl.List):
        return values
    if values.dtype == pl.String and values.str.starts_with("[").all():
        found = values.str.extract_all(item)
        return found.list.eval(_unquoted(pl.element())) if item == _QUOTED else found
    return values.to_frame().select(pl.concat_list(columns)).to_series()


def _unquoted(text: pl.Expr) -> pl.Expr:
    # NumPy writes the texts of an array as Python does.
    bare = text.str.slice(1, text.str.len_chars() - 2)
    return bare.str.replace_all(r"\\(['\"\\])", "$1")


def _square(gaps: bool, values: npt.NDArray[Any], lists: pl.Series, path: Path) -> npt.NDArray[Any]:
    lengths = lists.list.len().unique().to_list()
    if gaps or len(lengths) != 1 or lengths[0] == 0:
        raise InputError(
            "The images do not have one number of classes each.",
            where=path,
            got="an empty or unreadable value" if gaps else f"{min(lengths)} to {max(lengths)} values",
            allowed="as many values for each image, as --topk says",
        )
    return values.reshape(len(lists), -1)


def _check_dense(values: npt.NDArray[np.float32] | None, n_classes: int, path: Path) -> None:
    if values is None:
        raise InputError("The file names no classes.", where=path, do="run inference.py with --include-index")
    best_first = values.shape[1] > 1 and bool((np.diff(values, axis=1) <= 0).all())
    if values.shape[1] != n_classes or best_first:
        raise InputError(
            "The file does not say which class a score belongs to.",
            where=path,
            got=f"{values.shape[1]} scores an image" + (", best first" if best_first else ""),
            allowed=f"scores over all {n_classes:,} classes in order (--topk 0), or scores with classes",
            do="run inference.py with --include-index",
        )
