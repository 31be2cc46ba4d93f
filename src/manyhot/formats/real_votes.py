"""ReaL's ``raters.npz``, ``golden.npz`` and ``raters_golden.npz``: who answered what to which question."""

from __future__ import annotations

import zipfile
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError, ManyhotError
from manyhot.formats.arrays import damages, is_text, members
from manyhot.formats.broken import incomplete
from manyhot.formats.real_scores import class_ids, image_rows
from manyhot.registry import register
from manyhot.tables import ANSWERS, Golden, Votes

_EXPERTS, _RATERS = "golden.npz", "raters_golden.npz"
_NAMES = {"tensor", "info", "ids"}


def _is_golden(path: Path) -> bool:
    # The three files are alike; the name alone tells experts from raters.
    return path.name == _EXPERTS and members(path) == _NAMES


def _is_votes(path: Path) -> bool:
    return path.name != _EXPERTS and members(path) == _NAMES


@register("format", "real-votes", holds="votes", suffixes=(".npz",), matches=_is_votes)
def read_real_votes(path: Path, *, classes: ClassList | None) -> Votes:
    """ReaL's ``raters.npz``: 924,810 answers of 85 raters; also its ``raters_golden.npz``.

    `tensor` has the shape (raters, questions, 3) and 377 MB: 1 where a rater answered no, maybe or yes. It is
    read one rater at a time. `info` holds image and class of each question, `ids` the raters.

    References
    ----------
    Beyer et al. 2020, arXiv 2006.07159.
    """
    classes = classes or class_list()
    try:
        with zipfile.ZipFile(path) as archive:
            info, ids = (_array(archive, name) for name in ("info", "ids"))
            _check_shapes(path, info, ids)
            question, rater, answer = _answers(archive, path, len(ids), len(info))
    except ManyhotError:
        raise
    except damages() as error:
        raise incomplete(path, error) from error
    image, class_id = image_rows(path, info[:, 0]), class_ids(path, info[:, 1], len(classes))
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
    """ReaL's ``golden.npz``: the answers of 5 experts to 1,135 questions.

    Those of 78 raters to the same questions are in ``raters_golden.npz``, which is read if it lies beside.
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
    known, first = np.unique(keys, return_index=True)
    if len(known) < len(keys):
        again = int(np.setdiff1d(np.arange(len(keys)), first)[0])
        raise InputError(
            f"A {what} is listed twice.",
            where=path,
            got=" ".join(map(str, np.atleast_1d(names[again]))),
            allowed=f"each {what} once",
        )


def _answers(
    archive: zipfile.ZipFile, path: Path, n_raters: int, n_questions: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int8]]:
    """Return question, rater and answer of each vote."""
    # Closed by hand: where a rater's answers are refused, the file would stay open with the generator.
    with closing(_rows(archive, path, (n_raters, n_questions, len(ANSWERS)))) as rows:
        parts = [_votes_of(row, path, rater) for rater, row in enumerate(rows)]
    rater = np.repeat(np.arange(n_raters, dtype=np.int32), [len(question) for question, _ in parts])
    nothing = (np.empty(0, np.int32), np.empty(0, np.int8))
    question, answer = (np.concatenate(column) for column in zip(nothing, *parts, strict=True))
    return question, rater, answer


def _rows(
    archive: zipfile.ZipFile, path: Path, shape: tuple[int, int, int]
) -> Generator[npt.NDArray[np.float64]]:
    """Yield what each rater answered, flat, so that 4.4 MB and not 377 are in memory."""
    with archive.open("tensor.npy") as file:
        found, fortran, dtype = _header(file)
        if found != shape or fortran or dtype != np.float64:
            raise InputError(
                "The file is not ReaL's table of answers.",
                where=path,
                got=f"tensor of {dtype} {found}{', the first index fastest' if fortran else ''}",
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


def _votes_of(
    row: npt.NDArray[np.float64], path: Path, rater: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int8]]:
    at = np.flatnonzero(row != 0)
    question, answer = np.divmod(at, len(ANSWERS))
    if (row[at] != 1).any() or (question[1:] == question[:-1]).any():
        raise InputError(
            "A rater's answer to a question is not one of three.",
            where=f"{path}, rater {rater}",
            allowed=f"1 for one of {', '.join(ANSWERS)} and 0 for the others; all 0 where there is no answer",
        )
    return question.astype(np.int32), answer.astype(np.int8)
