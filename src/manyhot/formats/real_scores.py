"""ReaL's ``scores.npz`` of google-research/reassessed-imagenet: every class that raters were asked about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError
from manyhot.formats.arrays import load, members
from manyhot.formats.columns import constant, ragged
from manyhot.formats.json_files import class_index
from manyhot.formats.real import N_IMAGES, read_real
from manyhot.registry import register
from manyhot.tables import Labels, one_chunk

THRESHOLD = 0.8
"""Scores from which on a class is in ``real.json``: the lowest kept is 0.80002, the next lower 0.79999."""

VOTES = 5
"""Answers that each question of ``raters.npz`` has."""

_PREFIX, _SUFFIX = "ILSVRC2012_val_", ".JPEG"


def _matches(path: Path) -> bool:
    return members(path) == {"tensor", "info"}


@register("format", "real-scores", holds="labels", suffixes=(".npz",), matches=_matches)
def read_real_scores(path: Path, *, classes: ClassList | None) -> Labels:
    """ReaL's ``scores.npz``: a score for each class that was asked about on the 24,889 rated images.

    `tensor` holds the scores, `info` the image and the class of each. The 25,111 images that nobody rated are
    not in it; their one label stands in ``real.json``, which must lie beside. Their `p` is 1, for the label
    stands at any threshold; that nobody answered is told by `rated` and by `n_votes` 0.

    References
    ----------
    Beyer et al. 2020, arXiv 2006.07159.
    """
    classes = classes or class_list()
    row, asked, score = _questions(path, len(classes))
    real_row, real_class = _released(path, classes)
    yes = score >= THRESHOLD
    rated = np.bincount(row, minlength=N_IMAGES) > 0
    unrated = ~rated[real_row]
    _check_released(path, (row[yes], asked[yes]), (real_row[~unrated], real_class[~unrated]))
    row = np.concatenate([row, real_row[unrated]])
    order = np.argsort(row, kind="stable")
    more = int(np.count_nonzero(unrated))
    columns = {
        "classes": np.concatenate([asked, real_class[unrated]]).astype(np.int32),
        "state": np.concatenate([yes, np.ones(more, bool)]),
        "p": np.concatenate([score, np.ones(more)]).astype(np.float32),
        "n_votes": np.repeat([VOTES, 0], [len(asked), more]).astype(np.int32),
    }
    lengths = np.bincount(row, minlength=N_IMAGES)
    table = _table(rated, lengths, {name: values[order] for name, values in columns.items()})
    return Labels(table, len(classes), classes.hash, asked_known=True, name="ReaL")


def _table(rated: npt.NDArray[np.bool_], lengths: npt.NDArray[Any], columns: dict[str, Any]) -> pa.Table:
    states = pa.DictionaryArray.from_arrays(pa.array(columns.pop("state").astype(np.int8)), ["no", "yes"])
    lists = {"state": states.cast(pa.string())} | {name: pa.array(v) for name, v in columns.items()}
    return pa.table(
        {
            "image_id": pa.array([f"{_PREFIX}{i:08d}{_SUFFIX}" for i in range(1, N_IMAGES + 1)]),
            "rated": pa.array(rated),
            "usable": constant(True, N_IMAGES, pa.bool_()),
            **{name: ragged(lengths, values) for name, values in lists.items()},
            "method": constant("ReaL", N_IMAGES, pa.string()),
        }
    )


def _questions(path: Path, n_classes: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return image (from 0), class and score of each question."""
    arrays = load(path)
    nothing = np.empty(0, bool)
    # A member of an archive may have any content, not only that of an array.
    score, info = arrays.get("tensor", nothing), arrays.get("info", nothing)
    fits = score.ndim == 1 and score.dtype.kind == "f" and info.shape == (len(score), 2)
    if not fits or info.dtype.kind != "U":
        raise InputError(
            "The file is not ReaL's table of scores.",
            where=path,
            got=f"tensor of {score.dtype} {score.shape}, info of {info.dtype} {info.shape}",
            allowed="tensor of float64 (n,), info of text (n, 2)",
        )
    if not len(score):
        raise InputError("The file has no rows.", where=path)
    if not np.isfinite(score).all() or score.min(initial=0) < 0 or score.max(initial=0) > 1:
        raise InputError("A score is no probability.", where=path, allowed="0 to 1")
    return image_rows(path, info[:, 0]), class_ids(path, info[:, 1], n_classes), score


def image_rows(path: Path, names: npt.NDArray[np.str_]) -> npt.NDArray[np.int64]:
    """Return the number, from 0, of each image of ImageNet's validation set.

    Raises
    ------
    InputError
        One is none of it.
    """
    # The digits as code points: parsing 184,962 strings would take longer than all the rest.
    wide = names.astype(f"U{len(_PREFIX) + 8 + len(_SUFFIX)}")
    points = wide.view(np.uint32).reshape(len(names), -1).astype(np.int64)
    start, stop = len(_PREFIX), len(_PREFIX) + 8
    digits = points[:, start:stop] - ord("0")
    row = digits @ 10 ** np.arange(7, -1, -1) - 1
    frame = np.array([ord(c) for c in _PREFIX + _SUFFIX])
    fits = (np.delete(points, np.s_[start:stop], axis=1) == frame).all(1)
    fits &= (digits >= 0).all(1) & (digits <= 9).all(1) & (row >= 0) & (row < N_IMAGES)
    if not fits.all() or names.dtype.itemsize > wide.dtype.itemsize:
        raise InputError(
            "This is not an image of ImageNet's validation set.",
            where=path,
            got=repr(str(names[np.argmin(fits)])),
            allowed=f"{_PREFIX}00000001{_SUFFIX} to {_PREFIX}{N_IMAGES:08d}{_SUFFIX}",
        )
    return row


def class_ids(path: Path, names: npt.NDArray[np.str_], n_classes: int) -> npt.NDArray[np.int64]:
    """Return classes given as digits.

    Raises
    ------
    InputError
        One is no class.
    """
    known, at = np.unique(names, return_inverse=True)
    ids = np.array([class_index(str(name), n_classes, str(path)) for name in known], np.int64)
    return ids[at]


def _released(path: Path, classes: ClassList) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return image (from 0) and class of each label in ``real.json``."""
    beside = path.with_name("real.json")
    if not beside.is_file():
        raise InputError(
            "The labels of the images that nobody rated are not in this file but in real.json.",
            where=path,
            got="no real.json beside it",
            do="put real.json of the same release into this folder, as in the catalogue's imagenet-real",
        )
    column = one_chunk(read_real(beside, classes=classes).table["classes"])
    lengths = pc.list_value_length(column).to_numpy()
    return np.repeat(np.arange(N_IMAGES), lengths), pc.list_flatten(column).to_numpy()


def _check_released(path: Path, ours: tuple[Any, Any], theirs: tuple[Any, Any]) -> None:
    # One number a pair; a class id has fewer than 20 bits.
    scored, kept = (np.sort(row.astype(np.int64) << 20 | class_id) for row, class_id in (ours, theirs))
    if not np.array_equal(scored, kept):
        raise InputError(
            "The scores and the real.json beside them are not of one release.",
            where=path,
            got=f"{len(np.setxor1d(scored, kept)):,} labels of rated images in one of them only",
            allowed=f"in real.json the classes with a score of {THRESHOLD} or more, and no others",
        )
