"""Chen et al.'s labels of ImageNet's training images, which a model made."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError
from manyhot.formats.reading import base_names, check_threshold, cut_for_message, head, label_table
from manyhot.registry import register
from manyhot.tables import Labels

_COLUMNS = ("filename", "gt_index", "idx_list", "prob_list")

_LAST = 2**20
# Maximum length of the last line in bytes: a thousand classes with their probabilities take 12 KB.


def _matches(path: Path) -> bool:
    first = head(path).partition("\n")[0].rstrip("\r")
    return re.fullmatch(r"[^\t]+\t\s*\d+\s*\t[\d,\s]*\t[^\t]*|[^\t]+\t\s*\d+", first) is not None


@register("format", "chen", holds="labels", suffixes=(".tsv", ".txt"), matches=_matches)
def read_chen(path: Path, *, classes: ClassList | None, threshold: float = 0.5) -> Labels:
    """Chen et al.'s ``multilabel_annotations.tsv``: file name, original label, classes, probabilities.

    The file has no header. Lists are separated by commas. A class that is not listed was not asked about.
    `rated` is false, because no rater has seen the images.

    Parameters
    ----------
    threshold : float
        Minimum probability of a class with the state *yes*. Below it, the state is *no*. The default of 0.5
        is the same as in the authors' code.

    References
    ----------
    Chen, Harun & Kanan 2026, arXiv 2603.05729; jchen175/MultiLabel-ImageNet, ``multilabel/README.md``.
    """
    classes = classes or class_list()
    check_threshold(threshold, path)
    _check_last_line(path)
    frame = _rows(path)
    lengths = _lengths(frame, path)
    indices = _flat(frame["idx_list"], pl.Int32, path)
    p = _flat(frame["prob_list"], pl.Float32, path)
    states = pa.DictionaryArray.from_arrays(
        (p.to_numpy() >= np.float32(threshold)).astype(np.int8), ["no", "yes"]
    )
    ids, label = base_names(frame["filename"].to_arrow(), path), frame["gt_index"].to_arrow()
    state = states.cast(pa.string())
    table = label_table(ids, lengths, indices, "Chen et al.", rated=False, label=label, state=state, p=p)
    return Labels(table, len(classes), classes.hash, asked_known=True, name="Chen et al.")


def _check_last_line(path: Path) -> None:
    """Raise an error if the number of tabs shows that the last line is truncated."""
    with path.open("rb") as file:
        file.seek(-min(_LAST, path.stat().st_size), os.SEEK_END)
        last = file.read().rstrip(b"\r\n").rpartition(b"\n")[2]
    if last.count(b"\t") < len(_COLUMNS) - 1:
        raise InputError(
            "The last line of the file is not complete.",
            where=path,
            got=cut_for_message(repr(last.decode("utf-8", "replace"))),
            allowed=f"{', '.join(_COLUMNS)}, separated by tabs",
            do="create or download it again",
        )


def _rows(path: Path) -> pl.DataFrame:
    types = {"filename": pl.String, "gt_index": pl.Int32, "idx_list": pl.String, "prob_list": pl.String}
    try:
        frame = pl.read_csv(
            path, separator="\t", has_header=False, new_columns=list(_COLUMNS), quote_char=None, schema=types
        )
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise InputError(
            "The file is not a table of four columns separated by tabs.",
            where=path,
            got=str(error).partition("\n")[0],
            allowed=", ".join(_COLUMNS),
        ) from error
    unlabelled = frame["gt_index"].is_null().arg_true()
    if len(unlabelled):
        raise InputError(
            "An image has no original label.",
            where=f"{path}, row {unlabelled[0]}",
            allowed="a class index in each line",
        )
    lists = [pl.col(c).fill_null("").str.strip_chars(" ,").str.split(",") for c in _COLUMNS[2:]]
    # `split` turns an empty list into a list of an empty text.
    return frame.with_columns(c.list.eval(pl.element().filter(pl.element() != "")) for c in lists)


def _lengths(frame: pl.DataFrame, path: Path) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    lengths, others = (frame[c].list.len().to_numpy().astype(np.int64) for c in _COLUMNS[2:])
    bad = np.flatnonzero(lengths != others)
    if len(bad):
        row = int(bad[0])
        raise InputError(
            "An image has different numbers of probabilities and classes.",
            where=f"{path}, image {frame['filename'][row]}",
            got=f"{others[row]} probabilities",
            allowed=str(lengths[row]),
        )
    return lengths


def _flat(lists: pl.Series, kind: type[pl.DataType], path: Path) -> pa.Array:
    text = lists.explode(empty_as_null=False).str.strip_chars()
    values = text.cast(kind, strict=False)
    if kind is pl.Float32:
        _refuse(text.filter(values.is_null() | values.is_nan()), "number", "a probability", path)
        _refuse(text.filter(~values.is_between(0, 1)), "probability", "0 to 1", path)
    else:
        _refuse(text.filter(values.is_null()), "class", "a class index", path)
    return values.to_arrow()


def _refuse(bad: pl.Series, what: str, allowed: str, path: Path) -> None:
    if len(bad):
        raise InputError(
            f"This is not a {what}.", where=path, got=cut_for_message(repr(bad[0])), allowed=allowed
        )
