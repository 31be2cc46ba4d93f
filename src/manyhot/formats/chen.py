"""Chen et al.'s labels of ImageNet's training images, made by a model."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError
from manyhot.formats.columns import base_names, constant, ragged
from manyhot.formats.json_files import head
from manyhot.registry import register
from manyhot.tables import Labels

_COLUMNS = ("filename", "gt_index", "idx_list", "prob_list")


def _matches(path: Path) -> bool:
    first = head(path).partition("\n")[0].rstrip("\r")
    return re.fullmatch(r"[^\t]+\t\s*\d+\s*\t[\d,\s]*\t[\d.,eE\s+-]*|[^\t]+\t\s*\d+", first) is not None


@register("format", "chen", holds="labels", suffixes=(".tsv", ".txt"), matches=_matches)
def read_chen(path: Path, *, classes: ClassList | None, threshold: float = 0.5) -> Labels:
    """Chen et al.'s ``multilabel_annotations.tsv``: file name, original label, classes, probabilities.

    No header; the lists have commas between. A class that is not listed was not asked about. Nobody looked at
    the images: `rated` is false.

    Parameters
    ----------
    threshold : float
        A class with this probability or more has state *yes*, else *no*; 0.5 as in the authors' code.

    References
    ----------
    Chen, Harun & Kanan 2026, arXiv 2603.05729; jchen175/MultiLabel-ImageNet, ``multilabel/README.md``.
    """
    classes = classes or class_list()
    frame = _rows(path)
    lengths = _lengths(frame, path)
    indices = _flat(frame["idx_list"], pl.Int32, path)
    p = _flat(frame["prob_list"], pl.Float32, path)
    states = pa.DictionaryArray.from_arrays(
        (p.to_numpy() >= np.float32(threshold)).astype(np.int8), ["no", "yes"]
    )
    table = pa.table(
        {
            "image_id": base_names(frame["filename"].to_arrow()),
            "label": frame["gt_index"].to_arrow(),
            "rated": constant(False, len(frame), pa.bool_()),
            "usable": constant(True, len(frame), pa.bool_()),
            "classes": ragged(lengths, indices),
            "state": ragged(lengths, states.cast(pa.string())),
            "p": ragged(lengths, p),
            "method": constant("Chen et al.", len(frame), pa.string()),
        }
    )
    return Labels(table, len(classes), classes.hash, asked_known=True, name="Chen et al.")


def _rows(path: Path) -> pl.DataFrame:
    types = {"filename": pl.String, "gt_index": pl.Int32, "idx_list": pl.String, "prob_list": pl.String}
    try:
        frame = pl.read_csv(
            path, separator="\t", has_header=False, new_columns=list(_COLUMNS), quote_char=None, schema=types
        )
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise InputError(
            "The file is not a table of four columns with tabs between.",
            where=path,
            got=str(error).partition("\n")[0],
            allowed=", ".join(_COLUMNS),
        ) from error
    lists = [pl.col(c).fill_null("").str.strip_chars(" ,").str.split(",") for c in _COLUMNS[2:]]
    # Of an empty list, `split` makes a list of an empty text.
    return frame.with_columns(c.list.eval(pl.element().filter(pl.element() != "")) for c in lists)


def _lengths(frame: pl.DataFrame, path: Path) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    lengths, others = (frame[c].list.len().to_numpy().astype(np.int64) for c in _COLUMNS[2:])
    bad = np.flatnonzero(lengths != others)
    if len(bad):
        row = int(bad[0])
        raise InputError(
            "An image has another number of probabilities than classes.",
            where=f"{path}, image {frame['filename'][row]}",
            got=f"{others[row]} probabilities",
            allowed=str(lengths[row]),
        )
    return lengths


def _flat(lists: pl.Series, kind: type[pl.DataType], path: Path) -> pa.Array:
    text = lists.explode(empty_as_null=False).str.strip_chars()
    values = text.cast(kind, strict=False)
    bad = text.filter(values.is_null() | values.is_nan() if kind is pl.Float32 else values.is_null())
    if len(bad):
        raise InputError(
            "This is not a number." if kind is pl.Float32 else "This is not a class.",
            where=path,
            got=repr(bad[0]),
            allowed="a probability" if kind is pl.Float32 else "a class index",
        )
    return values.to_arrow()
