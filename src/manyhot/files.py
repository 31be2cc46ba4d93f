"""Atomic writing of files, the cache folder, and locks of output folders."""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote

from manyhot.errors import InputError, ManyhotError, OutputError

PathLike = str | os.PathLike[str]
"""The path of a file or folder."""


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path to write to, and move it to `path` if the block ends without an error.

    The temporary file is in the same folder, so that moving it is one rename. On any error, including Ctrl-C,
    it is removed and `path` is unchanged. Temporary files of processes that were killed are removed first.

    Raises
    ------
    OutputError
        If the file cannot be written, for example because the disk is full or permission is denied.
    """
    path = Path(path)
    check_output_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_parts(path)
        with _new_part(path) as part:
            yield part
            _settle(part, path)
    except ManyhotError:
        raise  # some are OSErrors, too, but not about this file
    except OSError as error:
        raise write_refused(path, error) from error


@contextlib.contextmanager
def _new_part(path: Path) -> Iterator[Path]:
    """Yield a new temporary file for a path, locked while this process uses it, and remove it at the end."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        _lock(handle, wait=True)
        if os.fstat(handle).st_nlink or sys.platform == "win32":
            break
        os.close(handle)  # another process removed it before it was locked
    if sys.platform == "win32":  # where an open file cannot be renamed, and is not locked
        os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
        if sys.platform != "win32":
            os.close(handle)


_PARTS: dict[Path, list[str]] = {}
"""Temporary files in each folder that this process wrote to, when it first did: listing 10,000 takes 5 ms."""


def _remove_parts(path: Path) -> None:
    """Remove temporary files for a path that belong to no process any more."""
    folder = path.parent.absolute()
    if folder not in _PARTS:
        _PARTS[folder] = [other.name for other in folder.glob(".*.part")]
    left = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}\.part")
    for name in filter(left.fullmatch, _PARTS[folder]):
        with contextlib.suppress(OSError):
            handle = os.open(folder / name, os.O_RDWR)
            try:
                if _lock(handle):
                    (folder / name).unlink()
            finally:
                os.close(handle)


def _lock(handle: int, wait: bool = False) -> bool:
    """Lock an open file until it is closed; return False if it is locked, or cannot be."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def check_output_name(path: Path) -> None:
    """Raise an error for a path that cannot be written or cannot be stored in tables.

    Raises
    ------
    OutputError
        If the path is not UTF-8, or contains a null character.
    """
    if "\0" in str(path):
        raise OutputError("The file name contains a null character.", where=path, do="choose another name")
    if not is_utf8(path.absolute()):
        raise OutputError(
            "The name of a file or folder is not UTF-8.",
            where=path,
            got=repr(os.fsencode(path.absolute())),
            do="choose another path for the output",
        )


def check_writable(path: Path) -> None:
    """Raise an error if a file or folder cannot be written, before it is computed. Nothing is created.

    Raises
    ------
    OutputError
        If no file can be created in the folder or, if it does not exist, in the nearest one above it.
    """
    try:
        folders = [path, *path.absolute().parents][path.is_file() :]
        with tempfile.TemporaryFile(dir=next(folder for folder in folders if folder.exists())):
            pass
    except OSError as error:
        raise write_refused(path, error) from error


def is_utf8(path: str | os.PathLike[str]) -> bool:
    """Return whether a path can be encoded as UTF-8, which tables require."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def check_has_end(path: Path) -> None:
    """Raise an error for a pipe, because opening it would block, and for a device.

    Raises
    ------
    InputError
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(
            "This is not a regular file.",
            where=path,
            got="a pipe, socket or device",
            do="write its content to a file",
        )


def near_paths(path: Path, n: int = 1) -> list[str]:
    """Return up to `n` paths in the folder of a missing path that have similar names, the most similar first.

    Suffixes and case are ignored, so names do not count as similar merely because they share ``.csv``.
    """
    try:
        names = [other.name for other in path.parent.iterdir() if is_utf8(other) and other.name != path.name]
    except OSError:
        return []
    names.sort(key=lambda name: (Path(name).suffix != path.suffix, name))
    stems: dict[str, str] = {}
    for name in names:
        stems.setdefault(Path(name).stem.lower(), name)
    near = difflib.get_close_matches(path.stem.lower(), stems, n=n, cutoff=_SIMILAR)
    return [str(path.parent / stems[stem]) for stem in near]


def path_meant(path: Path) -> str | None:
    """Return the question whether the most similar path was meant; None if none is similar."""
    return next((f"did you mean {near!r}?" for near in near_paths(path)), None)


_SIMILAR = 0.7
"""Minimum similarity of two names, by `difflib`: labels and lables have .83, nothere and votes .5."""


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text atomically, as UTF-8 and with Unix line endings."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def cache_folder() -> Path:
    """Return the folder in ``MANYHOT_CACHE``, by default the cache folder of the platform."""
    chosen = os.environ.get("MANYHOT_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs  # takes 20 ms

    return Path(platformdirs.user_cache_dir("manyhot"))


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 hash of a file as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def local_path(place: str) -> Path | None:
    """Return the path of a file, which may be a URL such as ``file:///a%20b.jpg``; None for other URLs."""
    path = place.removeprefix("file://")
    if "://" in path:
        return None
    # Many programs write these URLs without encoding special characters.
    return Path(path if path == place or os.path.lexists(path) else unquote(path))


def hashes_of(files: Iterable[object]) -> dict[str, str]:
    """Return the SHA-256 hash of each file, by file name. Objects that are not files are ignored."""
    paths = (Path(f) for f in files if isinstance(f, str | os.PathLike))
    return {path.name: sha256(path) for path in paths if path.is_file()}


def _settle(part: Path, path: Path) -> None:
    # mkstemp makes files private; results have the usual permissions of the user's files.
    umask = os.umask(0)
    os.umask(umask)
    part.chmod(0o666 & ~umask)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)


def write_refused(path: Path, error: OSError) -> OutputError:
    """Return the error for a file that cannot be written."""
    if is_full(error):
        what, do = "The disk is full; this file was not written.", "free some space or choose another `out`"
    elif error.errno in (errno.EMFILE, errno.ENFILE) or "Too many open files" in str(error):
        what = "Cannot write the file: Too many open files."
        do = "allow more open files, for example with: ulimit -n 256"
    else:
        what = f"Cannot write the file: {error.strerror or error}."
        do = "choose a folder with write permission"
    if error.errno == errno.EFBIG:
        do = "allow larger files, for example with: ulimit -f unlimited"
    return OutputError(what, where=path, do=do)


def is_full(error: OSError) -> bool:
    """Return whether the disk is full or the user's disk quota is used up."""
    # Libraries in other languages give the reason only as text.
    return error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)


@contextlib.contextmanager
def alone(out: Path, patience: float = 0) -> Iterator[None]:
    """Lock a folder for one run at a time, and remove incomplete files of a killed run.

    Parameters
    ----------
    out : Path
        The folder, which is created if it does not exist.
    patience : float
        Maximum time to wait for another run to end, in seconds.

    Raises
    ------
    OutputError
        If another run uses the folder.
    """
    from filelock import FileLock, Timeout

    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / ".lock", timeout=patience)
        with lock:
            for left in out.glob(".*.part"):  # of `atomic_write` in a process that was killed
                left.unlink(missing_ok=True)
            yield
    except Timeout:
        raise OutputError(
            "Another run is using this folder.",
            where=out,
            do="wait until it ends, or choose another `out`",
        ) from None
