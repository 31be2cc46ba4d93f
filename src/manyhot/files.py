"""Writing files so that nothing half-written ever stands under its final name, and where to keep some."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from manyhot.errors import ManyhotError, OutputError


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path to write to, moved to `path` when the block ends without an error.

    The temporary file lies beside `path`, so that the move is one rename. On any error, Ctrl-C included,
    it is removed and `path` is as it was.

    Raises
    ------
    OutputError
        If the system refuses: disk full, no permission, read-only.
    """
    path = Path(path)
    if "\0" in str(path):
        raise OutputError(
            "The name of the file holds a NUL.", where=path, do="choose a place that can be written to"
        )
    if not is_utf8(path.absolute()):
        raise OutputError(
            "The name of a file or folder is not UTF-8.",
            where=path,
            got=repr(os.fsencode(path.absolute())),
            do="choose another place to write to",
        )
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        part = Path(name)
        yield part
        _settle(part, path)
    except ManyhotError:
        raise  # some are OSErrors, too: about what is read, not about this file
    except OSError as error:
        raise write_refused(path, error) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def is_utf8(path: str | os.PathLike[str]) -> bool:
    """Return whether a name is text that tables can hold."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text with Unix line ends, all or nothing."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def cache_folder() -> Path:
    """Return ``MANYHOT_CACHE``, or else the platform's cache folder for manyhot."""
    chosen = os.environ.get("MANYHOT_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs  # 20 ms that nobody pays who keeps nothing

    return Path(platformdirs.user_cache_dir("manyhot"))


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the sha256 of a file's bytes as 64 hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _settle(part: Path, path: Path) -> None:
    # mkstemp makes files private; a result is as readable as any file its user makes.
    umask = os.umask(0)
    os.umask(umask)
    part.chmod(0o666 & ~umask)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)


def write_refused(path: Path, error: OSError) -> OutputError:
    """Return what to raise where the system refuses to write a file."""
    # Libraries in other languages tell the reason in words alone.
    full = error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
    return OutputError(
        "The disk is full; this file was not written."
        if full
        else f"Cannot write the file: {error.strerror or error}.",
        where=path,
        do="free some space or choose another --out" if full else "choose a place that you may write to",
    )


@contextlib.contextmanager
def alone(out: Path, patience: float = 0) -> Iterator[None]:
    """Refuse a second run in a folder while one is at work in it.

    Parameters
    ----------
    out : Path
        Made if absent.
    patience : float
        Seconds to wait for the end of the other.

    Raises
    ------
    OutputError
        One is.
    """
    from filelock import FileLock, Timeout

    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / ".lock", timeout=patience)
        with lock:
            yield
    except Timeout:
        raise OutputError(
            "Another run is at work in this folder.",
            where=out,
            do="wait for its end, or choose another --out",
        ) from None
