"""NumPy files of predictions and labels: ``.npy`` and ``.npz``. Pickles inside are never executed."""

from __future__ import annotations

import tokenize
import warnings
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from manyhot.classes import ClassList, class_list, from_keys
from manyhot.core.array_types import Ints64
from manyhot.errors import InputError, ManyhotError
from manyhot.formats.reading import broken, incomplete
from manyhot.registry import register
from manyhot.tables import Images, Predictions
from manyhot.tables.frames import are_unique, check_unique
from manyhot.tables.image_ids import normal_ids
from manyhot.tables.label_arrays import in_32_bits
from manyhot.tables.unpacked import check_archive, check_dense

RANKS = ("classes", "indices", "topk", "top_k", "preds", "predictions")
SCORES = {
    "logits": "logit",
    "probabilities": "probability",
    "probs": "probability",
    "softmax": "probability",
    "scores": "score",
}
ID_ARRAYS = (
    *("image_id", "image_ids", "ids", "filenames", "file_names", "files", "names"),
    *("images", "paths", "image_paths", "filepaths", "filename", "file_name", "patch_id", "patch_ids"),
)
LABEL_ARRAYS = ("labels", "y", "y_true", "label")
CLASS_ARRAYS = ("classes", "class_names", "classes_")
"""Names of arrays in an ``.npz`` file and their meaning."""

_PREDICTED = {*RANKS, *SCORES} - {*CLASS_ARRAYS}
"""Arrays that only predictions have, also beside labels."""


def damages() -> tuple[type[Exception], ...]:
    """Return the exceptions that reading a damaged file of arrays can raise."""
    # RuntimeError for a member that is encrypted or compressed in an unknown way; the others for headers of
    # arrays, which are Python literals.
    more = (ValueError, TypeError, KeyError, SyntaxError, tokenize.TokenError, RuntimeError, OverflowError)
    return (*broken(), *more)


def always(_: Path) -> bool:
    """Return True, for suffixes that need no look into the file."""
    return True


def members(path: Path) -> frozenset[str]:
    """Return the names of the arrays in an ``.npz`` file; empty if it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return frozenset(name.removesuffix(".npy") for name in archive.namelist())
    except damages():
        return frozenset()


def _npz_matches(path: Path) -> bool:
    # ReaL's files of raters' answers and scores are also archives of a tensor.
    names = members(path)
    return not names >= {"tensor", "info"} and not (names & set(LABEL_ARRAYS) and not names & _PREDICTED)


@register("format", "npy", holds="predictions", suffixes=(".npy",), matches=always)
def read_npy(
    path: Path, *, classes: ClassList | None, rows: Images | None, scores: str | None
) -> Predictions:
    """A single array of top-k class indices (integers, best first) or of scores over all classes (floats).

    The shape is (n, k) or (n, C). Row i belongs to the image in row i of `rows`.
    """
    size = path.stat().st_size
    check_dense(path, f"an array of {size / 1e9:,.1f} GB", size)
    return _predictions(path, load_array(path), classes, rows, scores)


@register("format", "npz", holds="predictions", suffixes=(".npz",), matches=_npz_matches)
def read_npz(
    path: Path, *, classes: ClassList | None, rows: Images | None, scores: str | None
) -> Predictions:
    """Named arrays: ``classes``, ``logits``, ``probabilities`` or ``scores``, and ``image_id`` of the rows.

    A single array may have any name. `rows` can be passed instead of ``image_id``.
    """
    return _predictions(path, load_array(path), classes, rows, scores)


def column_classes(
    path: Path,
    arrays: Mapping[str, npt.NDArray[Any]],
    n: int,
    classes: ClassList | None,
    *,
    of_model: bool = False,
) -> tuple[ClassList | None, Ints64]:
    """Return the classes of the columns of a matrix, and the column of each class.

    The class list is `classes`, otherwise that of the file, in the order of its columns. The scores of a
    model may also be of some of the classes, such as those of an older model.
    """
    names = class_names_of(arrays)
    if names is None:
        _check_number(path, n, classes)
        return classes, np.arange(n)
    if len(names) != n:
        raise InputError(
            "The numbers of class names and of columns differ.",
            where=path,
            got=f"{len(names):,} names",
            allowed=f"{n:,}",
        )
    if classes is None:
        return from_keys(names, path.name), np.arange(n)
    column = {classes.find(name): i for i, name in enumerate(names)}
    absent = [key for i, key in enumerate(classes.keys) if i not in column]
    known = sorted(i for i in column if i is not None)
    if of_model and absent and len(known) == len(names):
        return from_keys([classes.keys[i] for i in known], path.name), np.array([column[i] for i in known])
    if absent or len(names) != len(classes):
        raise InputError(
            "The columns are not the classes of the class list.",
            where=path,
            got=f"no column {absent[0]!r}" if absent else f"{len(names):,} columns",
            allowed=f"one column for each of the {len(classes):,} classes",
        )
    return classes, np.array([column[i] for i in range(len(classes))])


def class_names_of(arrays: Mapping[str, npt.NDArray[Any]]) -> list[str] | None:
    """Return the names of the classes that a file contains, or None."""
    found = (a.ravel().tolist() for m, a in arrays.items() if m in CLASS_ARRAYS and a.dtype.kind == "U")
    return next(found, None)


def _check_number(path: Path, n: int, classes: ClassList | None) -> None:
    if classes is not None and n != len(classes):
        raise InputError(
            "The matrix and the class list have different numbers of classes.",
            where=path,
            got=f"{n:,} columns",
            allowed=f"{len(classes):,}",
        )


def load_array(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an ``.npz`` file by name. The array of an ``.npy`` file has the name ``""``.

    Raises
    ------
    InputError
        If the file is truncated, or contains Python objects, which are not loaded.
    """
    named: dict[str, Any] = {}
    name = ""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            # NumPy warns about headers that Python 2 wrote, but reads them.
            warnings.simplefilter("ignore", UserWarning)
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.lib.npyio.NpzFile) and loaded.zip is not None:
                check_archive(path, loaded.zip)
            if isinstance(loaded, np.ndarray):
                named[name] = loaded
            else:
                for name in loaded.files:
                    named[name] = loaded[name]
    except ManyhotError:
        raise
    except damages() as error:
        if isinstance(error, ValueError) and "pickle" in str(error).lower():
            if not name and not _starts_like_pickle(path):
                raise InputError(
                    "The file has no NPY header.",
                    where=path,
                    allowed="a file that numpy.save or numpy.lib.format.open_memmap wrote",
                    do="if it is a raw numpy.memmap, save it as another file with numpy.save('NEW.npy', "
                    "numpy.memmap(FILE, mode='r', dtype=DTYPE, shape=SHAPE))",
                ) from error
            dtype = "str" if name in (*ID_ARRAYS, *CLASS_ARRAYS) else "float"
            raise InputError(
                "The file was not read, because it contains Python objects (a pickle), which can run code.",
                where=f"{path}, array {name}" if name else path,
                allowed="arrays of numbers, and of text for ids",
                do=f"save it again with numpy.savez(FILE, {name}=numpy.array({name}, dtype={dtype}), …)"
                if name
                else "save it again with numpy.save(…, allow_pickle=False)",
            ) from error
        raise incomplete(path, error) from error
    arrays = {name: array for name, array in named.items() if isinstance(array, np.ndarray)}
    for name, array in arrays.items():
        if array.dtype.kind == "U" and not is_text(array):
            raise incomplete(path, ValueError(f"characters in {name!r} that do not exist"))
    return arrays


def _starts_like_pickle(path: Path) -> bool:
    """Return whether a file begins as a pickle or as an NPY file, which may contain a pickle."""
    with path.open("rb") as file:
        start = file.read(6)
    protocols = (b"\x02", b"\x03", b"\x04", b"\x05")
    return b"\x93NUMPY".startswith(start) or (start[:1] == b"\x80" and start[1:2] in protocols)


def is_text(array: npt.NDArray[np.str_]) -> bool:
    """Return whether all characters are valid: NumPy accepts any 32 bits as a character."""
    points = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).ravel().view(np.uint32)
    if points.max(initial=0) < 0xD800:  # nearly all texts
        return True
    return not ((points > 0x10FFFF) | ((points >= 0xD800) & (points < 0xE000))).any()


def _predictions(
    path: Path,
    arrays: Mapping[str, npt.NDArray[Any]],
    classes: ClassList | None,
    rows: Images | None,
    scores: str | None,
) -> Predictions:
    ids = ids_of_rows(path, arrays, rows)
    name, array = _main_array(path, arrays)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.dtype.kind not in "iuf":
        raise InputError(
            "The array does not have one row of numbers per image.",
            where=path,
            got=f"shape {array.shape} of {array.dtype}",
            allowed="(n, k) integers: classes, best first; or (n, C) floats: scores over all classes",
        )
    check_row_count(path, len(array), len(ids))
    ids, array, notes = first_of_equal_rows(ids, array, path)
    if array.dtype.kind == "f":
        kind = SCORES.get(name, "score")
        kind = (scores or kind) if kind == "score" else kind
        if class_names_of(arrays) is not None:
            own, at = column_classes(path, arrays, array.shape[1], classes, of_model=True)
            found = dense_predictions(path, ids, array[:, at], kind, own)
            return replace(found, class_list=None if own is classes else own, by_name=True, notes=notes)
        return replace(dense_predictions(path, ids, array, kind, classes), notes=notes)
    return Predictions(
        ids,
        path.stem,
        in_32_bits(array),
        score_kind="none",
        n_classes=len(classes or class_list()),
        class_hash=classes.hash if classes else "",
        source=str(path),
        assumed=classes is None,
        notes=notes,
    )


def dense_predictions(
    path: Path, ids: pa.Array, array: npt.NDArray[Any], kind: str, classes: ClassList | None
) -> Predictions:
    """Return predictions with scores of all classes, shape (n, C), in 32 bits."""
    if array.dtype.itemsize > 4:
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
    return Predictions(
        ids,
        path.stem,
        scores=array,
        score_kind=kind,
        n_classes=len(classes) if classes else array.shape[1],
        class_hash=classes.hash if classes else "",
        source=str(path),
    )


def _main_array(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[str, npt.NDArray[Any]]:
    numeric = {name: a for name, a in arrays.items() if a.dtype.kind in "iuf"}
    names = [n for n in numeric if n in SCORES] or [n for n in numeric if n in RANKS] or list(numeric)
    if len(names) != 1:
        raise InputError(
            "The array of predictions is ambiguous." if names else "The file contains no array of numbers.",
            where=path,
            got=", ".join(arrays) or "no arrays",
            allowed=f"one of {', '.join([*RANKS, *SCORES])}",
        )
    return names[0], numeric[names[0]]


def ids_of_rows(path: Path, arrays: Mapping[str, npt.NDArray[Any]], rows: Images | None) -> pa.Array:
    """Return the ids that a file contains, otherwise those of `rows`.

    Raises
    ------
    InputError
        If there are neither, or if an id is not UTF-8.
    """
    own = _own_ids(arrays)
    if own is not None:
        return normal_ids(pa.array([_text(path, name) for name in own.ravel().tolist()], pa.string()))
    if rows is None:
        raise _no_rows(path, arrays)
    return rows.image_id


def _own_ids(arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any] | None:
    return next((a for name, a in arrays.items() if name in ID_ARRAYS and a.dtype.kind in "USiu"), None)


def n_rows_without_ids(path: Path) -> int | None:
    """Return the number of rows of a file of arrays without ids; None for other files.

    Raises
    ------
    InputError
        If the file cannot be read, or if it is unclear which array contains the predictions.
    """
    if path.suffix.lower() not in (".npy", ".npz"):
        return None
    arrays = load_array(path)
    return None if _own_ids(arrays) is not None else len(_main_array(path, arrays)[1])


def _no_rows(path: Path, arrays: Collection[str] = ()) -> InputError:
    return InputError(
        "The file does not contain the image of each row.",
        where=path,
        got=f"the arrays {', '.join(arrays)}" if any(arrays) else None,
        allowed=f"an array {', '.join(ID_ARRAYS)}" if any(arrays) else None,
        do="pass the row order as `rows`: ids (in a file: one per line), a CSV with image_id, the "
        "label sets if they are in the same order, or a data-set JSON",
    )


def _text(path: Path, name: str | bytes | int) -> str:
    try:
        return name.decode("utf-8") if isinstance(name, bytes) else str(name)
    except UnicodeDecodeError as error:
        raise InputError("An image id is not UTF-8.", where=path, got=repr(name)) from error


DIFFERING_ROWS = "retain one row per image: repeated rows are left out only if their values are the same"


def first_of_equal_rows(
    ids: pa.Array, values: npt.NDArray[Any], where: object
) -> tuple[pa.Array, npt.NDArray[Any], tuple[str, ...]]:
    """Return ids and values without repeated rows of an image with the same values, and a note on them.

    The samplers of distributed training repeat images, so that all processes have equally many.

    Raises
    ------
    MatchError
        If the values of an image differ.
    """
    if are_unique(ids):
        return ids, values, ()
    codes = ids.dictionary_encode().indices.to_numpy()
    _, first, at = np.unique(codes, return_index=True, return_inverse=True)
    if not np.array_equal(values, values[first[at]]):
        check_unique(ids, str(where), DIFFERING_ROWS)
    rows = np.sort(first)
    note = note_on_repeats(len(ids) - len(rows), len(ids))
    return ids.take(pa.array(rows)), values[rows], (note,)


def note_on_repeats(n: int, of: int, what: str = "rows", such_as: str = "padded data") -> str:
    """Return a note on rows or entries that were left out because they repeat others."""
    return f"{n:,} of {of:,} {what} repeat an image with the same values, as in {such_as}, and were left out"


def check_row_order(path: Path, n_rows: int, rows: Images | None) -> None:
    """Raise an error if the image of each row is unknown.

    Raises
    ------
    InputError
        If `rows` is missing or has a different number of images.
    """
    if rows is None:
        raise _no_rows(path)
    check_row_count(path, n_rows, len(rows))


def check_row_count(path: Path | str, n_rows: int, n_ids: int, what: str = "predictions") -> None:
    """Raise an error if the number of rows differs from the number of ids."""
    if n_rows != n_ids:
        raise InputError(
            f"The {what} and the row order have different numbers of rows.",
            where=path,
            got=f"{n_rows:,} rows",
            allowed=f"{n_ids:,}",
            do="pass the row order of this file",
        )
