"""The files of ReaL, from google-research/reassessed-imagenet.

``real.json`` holds the label sets; ``scores.npz`` every class that raters were asked about, with a score;
``raters.npz``, ``golden.npz`` and ``raters_golden.npz`` the answers of raters and experts.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.classes import ClassList, class_list
from manyhot.core.array_types import Floats, Ints8, Ints32, Ints64
from manyhot.errors import InputError, ManyhotError
from manyhot.files import write_text
from manyhot.formats.array_files import damages, is_text, load_array, members
from manyhot.formats.reading import class_index, head, incomplete, label_table, load_json
from manyhot.formats.writing import Saved, classes_of_table, valid_classes
from manyhot.registry import register
from manyhot.tables import ANSWERS, Golden, Labels, Votes
from manyhot.tables.arrays import label_sets
from manyhot.tables.unpacked import check_archive

N_IMAGES = 50_000


def _ids() -> list[str]:
    return [f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(1, N_IMAGES + 1)]


@register(
    "format",
    "real",
    holds="labels",
    suffixes=(".json",),
    matches=lambda path: re.match(r"\[\s*\[\s*[^{\s]", head(path)) is not None,
)
def read_real(path: Path, *, classes: ClassList | None) -> Labels:
    """ReaL's ``real.json``, with 50,000 lists of classes in the order of ImageNet's validation files.

    Entry i belongs to ``ILSVRC2012_val_{i + 1:08d}.JPEG``. The file does not record the original labels, the
    rated images, or the classes that were asked about. Use ``scores.npz`` to read the rated images and the
    classes that were asked about.

    References
    ----------
    Beyer et al. 2020, arXiv 2006.07159.
    """
    lists = load_json(path)
    if not isinstance(lists, list) or not all(isinstance(s, list) for s in lists):
        raise InputError("The file is not a list of lists of classes.", where=path)
    if len(lists) != N_IMAGES:
        raise InputError(
            "The file is not ReaL's list of ImageNet's validation images.",
            where=path,
            got=f"{len(lists):,} entries",
            allowed=f"{N_IMAGES:,}",
            do="for another data set, use a table of image_id and classes",
        )
    return labels_of_sets(_ids(), lists, classes, path, rated=None, method="ReaL", name="ReaL")


def labels_of_sets(
    ids: list[str],
    sets: list[Any],
    classes: ClassList | None,
    path: Path,
    *,
    rated: bool | None,
    method: str,
    name: str,
) -> Labels:
    """Return labels from one list of valid classes per image. The default class list is ``imagenet1k``."""
    classes = classes or class_list()
    n = len(classes)
    index = {str(c): c for c in range(n)}
    checked = [
        # To check each class by itself takes 0.3 s for ReaL.
        s if all(type(c) is int and 0 <= c < n for c in s) else _indices(s, index, f"{path}, image {i}")
        for i, s in zip(ids, sets, strict=True)
    ]
    lengths = list(map(len, checked))
    flat = pa.array([c for s in checked for c in s], pa.int32())
    table = label_table(pa.array(ids, pa.string()), lengths, flat, method, rated=rated)
    return Labels(table, n, classes.hash, asked_known=False, name=name)


def _indices(values: list[Any], index: dict[str, int], where: str) -> list[int]:
    """Return classes, given as numbers or texts; `index` contains the usual texts."""
    return [
        index[value] if type(value) is str and value in index else class_index(value, len(index), where)
        for value in values
    ]


@register("writer", "real", holds=("labels",), suffixes=(".json",), keeps=())
def write_real(labels: Labels, path: Path, classes: ClassList | None) -> Saved:
    """Write the label sets of ImageNet's 50,000 validation images as ``real.json``.

    An image that is not usable gets an empty list, because the lists are identified only by position.

    Raises
    ------
    InputError
        If the labels do not cover exactly the 50,000 images, or if the classes are not those of ImageNet-1k.
    """
    if classes_of_table(labels, classes or class_list()).hash != class_list().hash:
        raise InputError(
            "real.json can contain only classes of ImageNet-1k.",
            where=path,
            got=f"{labels.n_classes:,} classes",
        )
    nothing: dict[str, list[int]] = {image: [] for image in labels.image_id.to_pylist()}
    of_image = nothing | valid_classes(labels, int)
    ids = _ids()
    if len(of_image) != len(ids) or not of_image.keys() >= set(ids):
        raise _other_images(of_image, ids, path)
    write_text(path, json.dumps([of_image[image] for image in ids]))
    return Saved((path,))


def _other_images(of_image: dict[str, Any], ids: list[str], path: Path) -> InputError:
    absent = [image for image in ids if image not in of_image]
    got = f"{len(absent):,} are missing, such as {absent[0]}" if absent else f"{len(of_image):,} images"
    return InputError(
        "real.json must contain all of ImageNet's validation images and no others.",
        where=path,
        got=got,
        allowed=f"{N_IMAGES:,} images, {ids[0]} to {ids[-1]}",
        do="write another format, such as hf-labels or multilabelfy",
    )


REAL_THRESHOLD = 0.8
"""Minimum score of a class in ``real.json``: the lowest score in it is 0.80002, the next lower one
0.79999."""

VOTES = 5
"""Number of answers to each question of ``raters.npz``."""

_PREFIX, _SUFFIX = "ILSVRC2012_val_", ".JPEG"


@register(
    "format",
    "real-scores",
    holds="labels",
    suffixes=(".npz",),
    matches=lambda path: members(path) == {"tensor", "info"},
)
def read_real_scores(path: Path, *, classes: ClassList | None) -> Labels:
    """ReaL's ``scores.npz``, with the score of each class that was asked about, for 24,889 rated images.

    `tensor` contains the scores, and `info` the image and the class of each score. The file does not contain
    the 25,111 images that were not rated. Their labels are read from ``real.json``, which must be in the same
    folder. For these images, `p` is 1 (the label is valid at any threshold), `rated` is false, and `n_votes`
    is 0.

    References
    ----------
    Beyer et al. 2020, arXiv 2006.07159.
    """
    classes = classes or class_list()
    row, asked, score = _questions(path, len(classes))
    real_row, real_class = _released(path, classes)
    yes = score >= REAL_THRESHOLD
    rated = np.bincount(row, minlength=N_IMAGES) > 0
    unrated = ~rated[real_row]
    _check_released(path, (row[yes], asked[yes]), (real_row[~unrated], real_class[~unrated]))
    row = np.concatenate([row, real_row[unrated]])
    order = np.argsort(row, kind="stable")
    more = int(np.count_nonzero(unrated))
    columns: dict[str, npt.NDArray[Any]] = {
        "classes": np.concatenate([asked, real_class[unrated]]).astype(np.int32),
        "state": np.concatenate([yes, np.ones(more, bool)]).astype(np.int8),
        "p": np.concatenate([score, np.ones(more)]).astype(np.float32),
        "n_votes": np.repeat([VOTES, 0], [len(asked), more]).astype(np.int32),
    }
    lengths = np.bincount(row, minlength=N_IMAGES)
    listed = {name: pa.array(values[order]) for name, values in columns.items()}
    listed["state"] = pa.DictionaryArray.from_arrays(listed["state"], ["no", "yes"]).cast(pa.string())
    table = label_table(pa.array(_ids()), lengths, method="ReaL", rated=pa.array(rated), **listed)
    return Labels(table, len(classes), classes.hash, asked_known=True, name="ReaL")


def _questions(path: Path, n_classes: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return image (from 0), class and score of each question."""
    arrays = load_array(path)
    nothing = np.empty(0, bool)
    # A member of an archive may have any content, not only an array.
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
        raise InputError("A score is not a probability.", where=path, allowed="0 to 1")
    return image_rows(path, info[:, 0]), classes_of_digits(path, info[:, 1], n_classes), score


def image_rows(path: Path, names: npt.NDArray[np.str_]) -> Ints64:
    """Return the number (from 0) of each image of ImageNet's validation set.

    Raises
    ------
    InputError
        If a name is not the name of an image of ImageNet's validation set.
    """
    # The digits as code points: parsing 184,962 strings would take longer than the rest.
    wide = np.ascontiguousarray(names).astype(f"U{len(_PREFIX) + 8 + len(_SUFFIX)}", copy=False)
    points = wide.view(np.uint32).reshape(len(names), -1)
    start, stop = len(_PREFIX), len(_PREFIX) + 8
    digits = points[:, start:stop].astype(np.int64) - ord("0")
    row = digits @ 10 ** np.arange(7, -1, -1) - 1
    before, after = (np.array([ord(c) for c in text], np.uint32) for text in (_PREFIX, _SUFFIX))
    fits = (points[:, :start] == before).all(1) & (points[:, stop:] == after).all(1)
    fits &= (digits >= 0).all(1) & (digits <= 9).all(1) & (row >= 0) & (row < N_IMAGES)
    if not fits.all() or names.dtype.itemsize > wide.dtype.itemsize:
        raise InputError(
            "This is not an image of ImageNet's validation set.",
            where=path,
            got=repr(str(names[np.argmin(fits)])),
            allowed=f"{_PREFIX}00000001{_SUFFIX} to {_PREFIX}{N_IMAGES:08d}{_SUFFIX}",
        )
    return row


def classes_of_digits(path: Path, names: npt.NDArray[np.str_], n_classes: int) -> Ints64:
    """Return class ids from texts of digits.

    Raises
    ------
    InputError
        If a text is not a class.
    """
    if (numbers := _whole_numbers(names)) is not None and (numbers < n_classes).all():
        return numbers
    unique, at = np.unique(names, return_inverse=True)
    ids = np.array([class_index(str(name), n_classes, str(path)) for name in unique], np.int64)
    return ids[at]


def _whole_numbers(names: npt.NDArray[np.str_]) -> Ints64 | None:
    """Return numbers from texts of up to nine digits, in a tenth of the time of sorting; None for others."""
    points = np.ascontiguousarray(names).view(np.uint32).reshape(len(names), -1)
    points = points[:, : int(np.flatnonzero(points.any(0)).max(initial=-1)) + 1]
    if not 0 < points.shape[1] <= 9:
        return None
    numbers, ended = np.zeros(len(names), np.int64), np.zeros(len(names), bool)
    for place, column in enumerate(points.T):
        ended |= column == 0
        is_digit = (column >= ord("0")) & (column <= ord("9"))
        if not (is_digit | ended if place else is_digit).all() or (ended & (column != 0)).any():
            return None
        numbers = np.where(ended, numbers, numbers * 10 + column.astype(np.int64) - ord("0"))
    return numbers


def _released(path: Path, classes: ClassList) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return image (from 0) and class of each label in ``real.json``."""
    beside = path.with_name("real.json")
    if not beside.is_file():
        raise InputError(
            "The file has no labels of unrated images, which are in real.json.",
            where=path,
            got="no real.json in this folder",
            do="put this release's real.json into this folder, as in the catalogue's imagenet-real",
        )
    released = label_sets(read_real(beside, classes=classes))
    return released.rows, released.classes


def _check_released(path: Path, ours: tuple[Any, Any], theirs: tuple[Any, Any]) -> None:
    # One number per pair; a class id has fewer than 20 bits.
    scored, listed = (np.sort(row.astype(np.int64) << 20 | class_id) for row, class_id in (ours, theirs))
    if not np.array_equal(scored, listed):
        raise InputError(
            "The scores and the real.json in the same folder are from different releases.",
            where=path,
            got=f"{len(np.setxor1d(scored, listed)):,} labels of rated images in only one of them",
            allowed=f"a real.json with the classes whose score is {REAL_THRESHOLD} or more, and no others",
        )


_EXPERTS, _RATERS = "golden.npz", "raters_golden.npz"

_NAMES = {"tensor", "info", "ids"}


def _is_golden(path: Path) -> bool:
    # The three files have one format; only the name distinguishes experts from raters.
    return path.name == _EXPERTS and members(path) == _NAMES


@register(
    "format",
    "real-votes",
    holds="votes",
    suffixes=(".npz",),
    matches=lambda path: path.name != _EXPERTS and members(path) == _NAMES,
)
def read_real_votes(path: Path, *, classes: ClassList | None) -> Votes:
    """ReaL's ``raters.npz``, with 924,810 answers of 85 raters, or ReaL's ``raters_golden.npz``.

    `tensor` has the shape (raters, questions, 3) and takes 377 MB. It is read one rater at a time. For each
    rater and question, a 1 marks the answer: *no*, *maybe* or *yes*. `info` contains the image and the class
    of each question, and `ids` contains the raters.

    References
    ----------
    Beyer et al. 2020, arXiv 2006.07159.
    """
    classes = classes or class_list()
    try:
        with zipfile.ZipFile(path) as archive:
            check_archive(path, archive)
            info, ids = (_array(archive, name) for name in ("info", "ids"))
            _check_shapes(path, info, ids)
            question, rater, answer = _answers(archive, path, len(ids), len(info))
    except ManyhotError:
        raise
    except damages() as error:
        raise incomplete(path, error) from error
    image, class_id = image_rows(path, info[:, 0]), classes_of_digits(path, info[:, 1], len(classes))
    _check_once(path, "question", image * len(classes) + class_id, info)
    return Votes(
        pa.array(info[:, 0], pa.string()),
        class_id.astype(np.int32),
        pa.array([str(i) for i in ids.tolist()], pa.string()),
        question,
        rater,
        answer,
        len(classes),
        classes.hash,
        path.stem,
    )


@register("format", "real-golden", holds="golden", suffixes=(".npz",), matches=_is_golden)
def read_real_golden(path: Path, *, classes: ClassList | None) -> Golden:
    """ReaL's ``golden.npz``, with the answers of 5 experts to 1,135 questions.

    The answers of 78 raters to the same questions are read from ``raters_golden.npz`` if it is in the same
    folder.
    """
    beside = path.with_name(_RATERS)
    raters = read_real_votes(beside, classes=classes) if beside.is_file() else None
    return Golden(read_real_votes(path, classes=classes), raters)


def _array(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    with archive.open(f"{name}.npy") as file:
        array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    if array.dtype.kind == "U" and not is_text(array):
        raise ValueError(f"characters in {name!r} that do not exist")
    return array


def _check_shapes(path: Path, info: npt.NDArray[Any], ids: npt.NDArray[Any]) -> None:
    fits = info.ndim == 2 and info.shape[1:] == (2,) and info.dtype.kind == "U"
    if not fits or ids.ndim != 1 or ids.dtype.kind not in "iuU":
        raise InputError(
            "The file is not ReaL's table of answers.",
            where=path,
            got=f"info of {info.dtype} {info.shape}, ids of {ids.dtype} {ids.shape}",
            allowed="info of text (n, 2), ids of int64 (r,)",
        )
    if not len(info):
        raise InputError("The file has no rows.", where=path)
    _check_once(path, "rater", ids, ids)


def _check_once(path: Path, what: str, keys: npt.NDArray[Any], names: npt.NDArray[Any]) -> None:
    unique, first = np.unique(keys, return_index=True)
    if len(unique) < len(keys):
        again = int(np.setdiff1d(np.arange(len(keys)), first)[0])
        raise InputError(
            f"A {what} is listed twice.",
            where=path,
            got=" ".join(map(str, np.atleast_1d(names[again]))),
            allowed=f"each {what} once",
        )


def _answers(
    archive: zipfile.ZipFile, path: Path, n_raters: int, n_questions: int
) -> tuple[Ints32, Ints32, Ints8]:
    """Return the question, the rater and the answer of each vote."""
    # Closed explicitly: after an error, the generator would keep the file open.
    with closing(_rows(archive, path, (n_raters, n_questions, len(ANSWERS)))) as rows:
        parts = [_votes_of(row, path, rater) for rater, row in enumerate(rows)]
    rater = np.repeat(np.arange(n_raters, dtype=np.int32), [len(question) for question, _ in parts])
    nothing = (np.empty(0, np.int32), np.empty(0, np.int8))
    question, answer = (np.concatenate(column) for column in zip(nothing, *parts, strict=True))
    return question, rater, answer


def _rows(archive: zipfile.ZipFile, path: Path, shape: tuple[int, int, int]) -> Generator[Floats]:
    """Yield the answers of each rater, flat, so that 4.4 MB and not 377 MB are in memory."""
    with archive.open("tensor.npy") as file:
        stored, fortran, dtype = _header(file)
        if stored != shape or fortran or dtype != np.float64:
            raise InputError(
                "The file is not ReaL's table of answers.",
                where=path,
                got=f"tensor of {dtype} {stored}{', the first index fastest' if fortran else ''}",
                allowed=f"tensor of float64 {shape}: raters, questions and the answers {', '.join(ANSWERS)}",
            )
        size = shape[1] * shape[2] * dtype.itemsize
        for _ in range(shape[0]):
            row = file.read(size)
            if len(row) < size:
                raise EOFError("the tensor ends before its last rater")
            yield np.frombuffer(row, np.float64)


def _header(file: IO[bytes]) -> tuple[Any, bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return shape, bool(fortran), dtype


def _votes_of(row: Floats, path: Path, rater: int) -> tuple[Ints32, Ints8]:
    at = np.flatnonzero(row != 0)
    question, answer = np.divmod(at, len(ANSWERS))
    if (row[at] != 1).any() or (question[1:] == question[:-1]).any():
        raise InputError(
            "A rater's answer to a question is not one of the three answers.",
            where=f"{path}, rater {rater}",
            allowed=f"1 for one of {', '.join(ANSWERS)} and 0 for the others; all 0 for no answer",
        )
    return question.astype(np.int32), answer.astype(np.int8)
