"""Files that are cut, damaged or may not be read: what libraries raise at them, in our words.

All readers run inside `reading`, so none of them needs to know which exception a library has for a damage.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from manyhot.errors import InputError, ManyhotError
from manyhot.formats.json_files import load

_KINDS = {".parquet": "Parquet", ".npy": "NumPy", ".npz": "NumPy"}


def broken() -> tuple[type[Exception], ...]:
    """Return what libraries raise at damaged bytes.

    Arrow an OSError, which is no matter of the disk; zipfile a NotImplementedError at versions to come; and a
    forged size ends in MemoryError.
    """
    # polars takes 90 ms and 60 MB, which predicting does not need; an ``except`` asks only when it must.
    import polars as pl

    return (
        OSError,
        EOFError,
        MemoryError,
        NotImplementedError,
        UnicodeDecodeError,
        zipfile.BadZipFile,
        zlib.error,
        pa.ArrowException,
        pl.exceptions.PolarsError,
    )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what libraries raise at a broken file or folder into an error that says so.

    Raises
    ------
    InputError
        Instead of any of `broken`; our own errors pass.
    """
    try:
        yield
    except ManyhotError:
        raise
    except broken() as error:
        raise incomplete(path, error) from error


def incomplete(path: Path, error: Exception) -> InputError:
    """Return the error for a file that `error` was raised at."""
    if isinstance(error, OSError) and error.strerror:
        what = f"The {'folder' if path.is_dir() else 'file'} cannot be read."
        return InputError(what, where=error.filename or path, got=error.strerror)
    if path.is_dir():
        what = "The data set is not complete."
    else:
        kind = _KINDS.get(path.suffix.lower())
        what = f"The file is not a complete {kind} file." if kind else "The file cannot be read."
    # Damaged bytes come back in the words of libraries.
    told = "".join(filter(str.isprintable, str(error).partition("\n")[0])).strip()
    got = told or type(error).__name__
    return InputError(what, where=path, got=got, do="make or fetch it again")


def read_parquet(path: Path) -> pa.Table:
    """Read a Parquet file that is not ours; texts and names are checked, for polars aborts at broken ones.

    Raises
    ------
    InputError
        If it is cut or damaged.
    """
    with reading(path):
        table = pq.ParquetFile(path).read()
        table.validate(full=True)
        for kind in table.schema.types:
            _check_names(kind)
        # Metadata, which may be as broken, stays behind.
        return pa.Table.from_arrays(table.columns, names=table.column_names)


def _check_names(kind: pa.DataType) -> None:
    for inner in (kind.field(i) for i in range(kind.num_fields)):
        inner.name.encode()  # Arrow decodes a name when it is asked for, not before.
        _check_names(inner.type)


def check_whole(path: Path) -> None:
    """Refuse a file that is not of the kind that its suffix promises; JSON, Parquet and ``.npz`` tell.

    Raises
    ------
    InputError
        If it is cut or damaged, so that nobody looks for another format for it.
    """
    suffix = path.suffix.lower()
    with reading(path):
        if path.is_dir():
            return
        if suffix == ".parquet":
            pq.read_schema(path)
        elif suffix == ".npz":
            zipfile.ZipFile(path).close()
        elif suffix == ".json":
            load(path)
