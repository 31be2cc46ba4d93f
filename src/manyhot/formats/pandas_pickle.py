"""Tables in old pandas pickles, read without running code of pandas or NumPy.

A pickle is a program. This reader allows eleven names, each of which builds an inert object of this module;
any other name is an error. NumPy's own builders are not allowed, because with a forged dtype they read
foreign memory. The interpreter is the one in Python, whose memo is a dict; the one in C allocates an array as
long as the largest index in the stream.

References
----------
https://docs.python.org/3/library/pickle.html#restricting-globals
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy import typing as npt

from manyhot.errors import InputError

_T = TypeVar("_T")

MAX_PICKLE_BYTES = 8 * 2**20
"""Maximum size of a file; the largest published one has 3.4 MB."""

_NUMBERS = {"i8": "<i8", "i4": "<i4", "f8": "<f8", "f4": "<f4"}


class _Inert:
    """An object that a name of the stream builds: it stores its arguments and its state."""

    def __init__(self, *args: Any) -> None:
        self.args = args
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Frame(_Inert):
    pass


class _Blocks(_Inert):
    pass


class _Index(_Inert):
    pass


class _Array(_Inert):
    def values(self) -> npt.NDArray[Any]:
        """Return an array of numbers, or of the objects in the pickle."""
        _, shape, dtype, by_column, data = self.state
        if isinstance(data, list):
            flat: npt.NDArray[Any] = np.empty(len(data), object)
            # One by one: NumPy would descend into nested lists, which can double at each level.
            for i, item in enumerate(data):
                flat[i] = item
        else:
            flat = np.frombuffer(data, _NUMBERS[dtype.args[0]])
        return flat.reshape([int(n) for n in shape], order="F" if by_column else "C")


class _Dtype(_Inert):
    pass


class _Ordered(_Inert):
    """An ordered dict, as a list of its items."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.items: list[tuple[Any, Any]] = []

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))


class _Kind(_Inert):
    """A class that the stream names but does not build, such as ndarray."""


class _Dropped(_Inert):
    """An unused value: a scalar or a count inside a list."""


_ALLOWED: dict[tuple[str, str], type[Any]] = {
    ("pandas.core.frame", "DataFrame"): _Frame,
    ("pandas.core.internals.managers", "BlockManager"): _Blocks,
    ("pandas.core.indexes.base", "_new_Index"): _Index,
    ("pandas.core.indexes.base", "Index"): _Kind,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _Dropped,
    ("numpy", "ndarray"): _Kind,
    ("numpy", "dtype"): _Dtype,
    ("collections", "Counter"): _Dropped,
    ("collections", "OrderedDict"): _Ordered,
    ("builtins", "slice"): _Dropped,
}


@dataclass(frozen=True)
class Frame:
    """A table from a pickle: the names of its rows, and its columns as arrays of shape (n,)."""

    index: list[str]
    columns: dict[str, npt.NDArray[Any]]


_LATER = {
    ("pandas", "DataFrame"),
    ("pandas._libs.internals", "_unpickle_block"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
}
"""Names in tables of later releases of pandas and NumPy."""


class _RefusedError(Exception):
    """The stream contains a name that is not allowed."""


class _LaterError(_RefusedError):
    """The name belongs to tables of a later pandas or NumPy."""


class _Reader(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> type[Any]:
        if (module, name) not in _ALLOWED:
            raise (_LaterError if (module, name) in _LATER else _RefusedError)(f"{module}.{name}")
        return _ALLOWED[module, name]


def load_frame(path: Path) -> Frame:
    """Read a pandas.DataFrame from a pickle.

    Raises
    ------
    InputError
        If the pickle is truncated, is too large, or contains anything but a table of numbers and texts.
    """
    return _read(path, _frame, "a pandas.DataFrame of numbers and strings", "a table")


def load_groups(path: Path) -> dict[str, list[int]]:
    """Read named lists of integers from a NumPy file that contains an ordered dict.

    Raises
    ------
    InputError
        As in `load_frame`.
    """
    return _read(path, _groups, "an ordered dict of lists of whole numbers", "superclasses", _after_header)


def _read(
    path: Path,
    build: Callable[[Any], _T],
    allowed: str,
    what: str,
    skip: Callable[[bytes], bytes] = lambda content: content,
) -> _T:
    if path.stat().st_size > MAX_PICKLE_BYTES:
        raise InputError(
            "The pickle was not read, because it is larger than any published pickle.",
            where=path,
            got=f"{path.stat().st_size / 2**20:,.0f} MiB",
            allowed=f"up to {MAX_PICKLE_BYTES / 2**20:.0f} MiB",
        )
    try:
        return build(_Reader(io.BytesIO(skip(path.read_bytes()))).load())
    except _LaterError as later:
        raise InputError(
            "The pickle was not read, because its version of pandas or NumPy is later than in the published "
            "files.",
            where=path,
            got=f"{later}, which the published files do not contain",
            allowed=f"{allowed.partition(' of ')[0]} as it was written in 2020",
            do="use the published file, whose checksum is in the catalogue",
        ) from later
    except _RefusedError as refused:
        raise InputError(
            "The pickle was not read, because it contains a name that could run code.",
            where=path,
            got=refused,
            allowed=allowed,
            do="use the published file, whose checksum is in the catalogue",
        ) from refused
    except Exception as error:
        # A broken or forged stream can fail in any way that the interpreter can; no code of it was run.
        raise InputError(
            f"The file is not a complete pickle of {what}.",
            where=path,
            got=f"{type(error).__name__}: {error}".rstrip(": ").partition("\n")[0],
            do="fetch it again",
        ) from error


def _frame(pickled: Any) -> Frame:
    if not isinstance(pickled, _Frame):
        raise TypeError(f"a {type(pickled).__name__.strip('_')}, not a DataFrame")
    blocks = pickled.state["_data"].state
    axes, arrays, items = blocks[:3]
    index = _texts(axes[1])
    columns: dict[str, npt.NDArray[Any]] = {}
    for array, names in zip(arrays, items, strict=True):
        columns |= zip(_texts(names), array.values(), strict=True)
    if any(len(values) != len(index) for values in columns.values()):
        raise ValueError("columns of another length than the index")
    return Frame(index, columns)


def _after_header(content: bytes) -> bytes:
    """Return the pickle in a NumPy file of version 1, after the magic string, the version and the header."""
    if content[:8] != b"\x93NUMPY\x01\x00":
        raise ValueError("no NumPy file of version 1")
    return content[10 + int.from_bytes(content[8:10], "little") :]


def _groups(pickled: Any) -> dict[str, list[int]]:
    if not isinstance(pickled, _Array):
        raise TypeError(f"a {type(pickled).__name__.strip('_')}, not an array")
    # Not by values(): an array of no dimension holds one object.
    (content,) = pickled.state[4]
    if not isinstance(content, _Ordered):
        raise TypeError(f"a {type(content).__name__.strip('_')}, not an ordered dict")
    groups: dict[str, list[int]] = {}
    for name, members in content.items:
        if not isinstance(name, str) or not isinstance(members, list) or name in groups:
            raise TypeError("names that are not strings or occur twice, or values that are not lists")
        name.encode()
        if not all(type(member) is int for member in members):
            raise TypeError("classes that are not integers")
        groups[name] = list(members)
    return groups


def _texts(index: Any) -> list[str]:
    values: Sequence[Any] = index.args[1]["data"].values().tolist()
    if not all(isinstance(value, str) for value in values):
        raise TypeError("names that are not strings")
    for value in values:
        value.encode()  # Pickles allow lone surrogates, which tables do not.
    return list(values)
