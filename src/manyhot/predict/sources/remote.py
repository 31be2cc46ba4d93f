"""Remote files through fsspec: s3://, gs://, https:// and others. Local paths do not need it."""

from __future__ import annotations

import functools
import glob
import hashlib
import io
import os
import re
import stat
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from manyhot.errors import InputError
from manyhot.extras import required
from manyhot.predict.sources.source import too_large

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_INSTALL = '"manyhot[remote]"'
_HTTP = ("http", "https")
_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "sftp": "paramiko"}
_PAUSES = (0.25, 0.5, 1.0)
"""Seconds between attempts over http: a list may name many servers that no longer exist."""


_LONG_PAUSES = (1.0, 4.0)
"""Seconds between attempts at a bucket, which may throttle; each is several attempts of s3fs, 5 s in all."""


_OPTIONS: dict[str, dict[str, Any]] = {"s3": {"max_concurrency": 1}}
_GOOD: dict[str, str] = {}


class SourceLostError(InputError):
    """The storage can no longer be reached, so all images are missing, not only one."""


def is_remote(path: str) -> bool:
    """Return whether a path is an address that fsspec opens."""
    return "://" in path and _SCHEME.match(path) is not None


def without_query(path: str) -> str:
    """Return an address without the query after ``?``, which signed addresses have."""
    return re.split(r"[?#]", path, maxsplit=1)[0] if _scheme(path) in _HTTP else path


def fetch_bytes(path: str, root: str = "") -> bytes:
    """Return the bytes of a file.

    Parameters
    ----------
    path : str
    root : str
        The folder of the source. If it no longer exists either, a `SourceLostError` is raised.

    Raises
    ------
    OSError
        If this file cannot be read; FileNotFoundError if it does not exist.
    SourceLostError
        If the storage does not respond, denies access, or no longer exists.
    """
    return _fetched(path, root) if is_remote(path) else _local(path, root)


def walk_remote(root: str) -> dict[str, int]:
    """Return the sizes of all files below an address, keyed by path. Hidden files are ignored.

    Returns
    -------
    dict of str to int
        Size in bytes of each file by its path relative to the address; -1 if unknown.

    Raises
    ------
    InputError
        If the address cannot be listed.
    """
    filesystem = filesystem_of(root)
    base = filesystem._strip_protocol(root).rstrip("/") + "/"
    walk = _s3_keys if _scheme(root) == "s3" else _walked
    try:
        return {
            name: -1 if size is None else size
            for path, size in walk(filesystem, base)
            if (name := path.removeprefix(base)) and not name.endswith("/") and not is_hidden(name)
        }
    except Exception as error:
        raise InputError(
            "The address cannot be listed.",
            where=root,
            got=first_line(error),
            do="check the address and your credentials; for https, pass a list of images instead of a folder",
        ) from error


def open_stream(path: str) -> BinaryIO:
    """Open a file to read it once from start to end.

    Raises
    ------
    SourceLostError
        If the file cannot be opened or, later, cannot be read.
    """
    # Buffered by 1 MB: readers of archives ask for 512 bytes at a time.
    return io.BufferedReader(_Guarded(path), 1 << 20)


def open_random(path: str) -> Any:
    """Open a remote file for random access."""
    return filesystem_of(path).open(path, "rb", cache_type="readahead", block_size=4 << 20)


def version_of(path: str) -> str:
    """Return a text that differs between versions of a file, without reading the whole file.

    Raises
    ------
    InputError
        If the file does not exist.
    """
    try:
        if not is_remote(path):
            return _ending(path)
        info = filesystem_of(path).info(path)
    except InputError:
        raise
    except Exception as error:
        raise InputError("The file cannot be opened.", where=path, got=first_line(error)) from error
    marks = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "Last-Modified", "mtime")
    return f"{info.get('size')} {next((info[mark] for mark in marks if info.get(mark)), '')}"


def _ending(path: str) -> str:
    """Return size and hash of the end of a file, which holds checksums of archives and the index of Parquet.

    Unlike the modification time, they are equal for the copies on the machines that share a run.
    """
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - (1 << 16)))
        return f"{size} {hashlib.sha256(file.read()).hexdigest()[:16]}"


def unquoted(path: str, root: str) -> str:
    """Return a path with URL escapes such as ``%20`` decoded, if `root` is a web address."""
    return urllib.parse.unquote(path) if _scheme(root) in _HTTP else path


def is_pattern(where: str) -> bool:
    """Return whether a path is a pattern: with ``{000..127}``, ``*`` or ``?``."""
    if not is_remote(where) and Path(where).exists():
        return False
    return bool(_RANGE.search(where) or "*" in where or ("?" in where and _scheme(where) not in _HTTP))


def expand(pattern: str) -> list[str]:
    """Return the paths that match a pattern, in order.

    Raises
    ------
    InputError
        If no file matches.
    """
    found = list(_expanded(pattern)) if is_pattern(pattern) else [pattern]
    if not found:
        raise InputError(
            "The pattern matches no file.", where=pattern, allowed="ranges such as {000..127}, and * and ?"
        )
    return found


def first_line(error: BaseException) -> str:
    """Return the message of an error in one line."""
    said = getattr(error, "strerror", None) or str(error)
    return str(said).strip().partition("\n")[0] or type(error).__name__


def filesystem_of(path: str) -> Any:
    """Return the file system that opens an address.

    Raises
    ------
    MissingExtraError, InputError
        If a package is not installed, or if this kind of address is not supported.
    """
    return _filesystem(_scheme(path))


def lost(path: str, error: BaseException) -> SourceLostError:
    """Return the error for a lost storage."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, OSError):
        error = cause  # fsspec reports a file on a server that does not answer as missing
    what = "The storage does not respond."
    if isinstance(error, FileNotFoundError):
        what = "The storage of the images no longer exists."
    elif isinstance(error, PermissionError):
        what = "The storage denies access to its images."
    do = (
        "make it available again"
        if not is_remote(path)
        else "check the internet connection and your credentials"
    )
    return SourceLostError(
        what, where=path, got=first_line(error), do=f"{do}, and run the same command again to resume"
    )


@functools.cache
def _filesystem(scheme: str) -> Any:
    fsspec = required("fsspec", f"Reading {scheme}://", _INSTALL)
    try:
        return fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as error:
        package = _INSTALL if scheme in ("s3", *_HTTP) else _PACKAGES.get(scheme)
        raise InputError(
            f"Reading {scheme}:// needs another package.",
            got=error,
            do=f"pip install {package}" if package else "install it",
        ) from error
    except ValueError as error:
        raise InputError(
            "This kind of address is not supported.", got=f"{scheme}://", allowed="s3://, gs://, https://, …"
        ) from error
    except Exception as error:  # such as hdfs:// without the libraries of Hadoop
        raise InputError(f"{scheme}:// cannot be opened here.", got=first_line(error)) from error


def _scheme(path: str) -> str:
    return path.partition("://")[0].lower() if is_remote(path) else ""


def _storage(path: str) -> str:
    """Return the storage that is lost as a whole: a bucket; or all servers, if a list names many."""
    scheme = _scheme(path)
    return scheme if scheme in _HTTP else "/".join(path.split("/")[:3])


def is_hidden(name: str) -> bool:
    """Return whether a file or a folder above it has a name that begins with a dot."""
    return name.startswith(".") or "/." in name


def _local(path: str, root: str) -> bytes:
    try:
        about = Path(path).stat()
        # Reading a pipe that is called x.jpg would never end.
        if not stat.S_ISREG(about.st_mode):
            raise OSError("not a regular file")
        if reason := too_large(about.st_size):
            raise OSError(reason)
        content = Path(path).read_bytes()
    except ValueError as error:  # a null character in the path
        raise OSError(first_line(error)) from error
    except OSError as error:
        if _is_lost(path, root):
            raise lost(root or path, error) from error
        raise
    _GOOD[""] = path
    return content


def _is_lost(path: str, root: str) -> bool:
    """Return whether the disk or folder of a file is missing, not only the file."""
    # os.path.exists, unlike Path.exists, is also False if a network disk raises.
    if root:
        return not os.path.exists(root)  # noqa: PTH110
    good = _GOOD.get("")
    folders = (os.path.dirname(path), os.path.dirname(good or ""))  # noqa: PTH120
    return good is not None and not any(os.path.isdir(folder or ".") for folder in folders)  # noqa: PTH112


def _fetched(path: str, root: str) -> bytes:
    scheme = _scheme(path)
    pauses: tuple[float | None, ...] = (*(_PAUSES if scheme in _HTTP else _LONG_PAUSES), None)
    for pause in pauses:
        try:
            content: bytes = filesystem_of(path).cat_file(path, **_OPTIONS.get(scheme, {}))
        except InputError:
            raise
        except Exception as error:
            single = _of_one(error)
            if single is None and pause is not None:
                time.sleep(pause)
                continue
            if _is_alive(path, root, single):
                raise single or OSError(first_line(error)) from error
            raise lost(path, single or error) from error
        if content:
            _GOOD[_storage(path)] = path
        return content
    raise AssertionError("unreachable")


def _of_one(error: Exception) -> OSError | None:
    """Return an error about this file only; None if another attempt may help."""
    if isinstance(error, FileNotFoundError | PermissionError):
        return error
    status = getattr(error, "status", None)
    if not isinstance(status, int) or status >= 500 or status in (408, 425, 429):
        return None
    if status in (404, 410):
        return FileNotFoundError(first_line(error))
    return PermissionError(f"the server responds with {status}")


def _is_alive(path: str, root: str, answer: OSError | None) -> bool:
    """Return whether other images can be read."""
    good = _GOOD.get(_storage(path))
    if good is not None and good != path and _can_read(good):
        return True
    if _scheme(path) in _HTTP:  # it has no folders
        return good is None and answer is not None
    # s3fs reports a missing bucket as a missing file.
    return answer is not None and _is_there(root or _storage(path))


def _can_read(path: str) -> bool:
    try:
        filesystem_of(path).cat_file(path, start=0, end=1)
    except Exception:
        return False
    return True


def _is_there(root: str) -> bool:
    try:
        filesystem_of(root).info(root)
    except Exception:
        return False
    return True


def _s3_keys(filesystem: Any, base: str) -> Iterator[tuple[str, int]]:
    """Yield keys and sizes page by page: s3fs makes a dictionary of 1.5 kB per object, 2 GB for ImageNet."""
    bucket, _, prefix = base.partition("/")
    more: dict[str, str] = {}
    while True:
        page = filesystem.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
        yield from ((f"{bucket}/{found['Key']}", found["Size"]) for found in page.get("Contents", ()))
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def _walked(filesystem: Any, base: str) -> Iterator[tuple[str, int | None]]:
    # Folder by folder, so that details of all files are never in memory together. Unless it is told to raise,
    # fsspec ignores folders that it may not read, and finds nothing on a server that does not answer.
    for parent, _, files in filesystem.walk(base, detail=True, on_error="raise"):
        yield from ((f"{parent.rstrip('/')}/{name}", about.get("size")) for name, about in files.items())


def _expanded(pattern: str) -> Iterator[str]:
    ranges = _RANGE.search(pattern)
    if ranges:
        first, last = ranges[1], ranges[2]
        for i in range(int(first), int(last) + 1):
            number = f"{i:0{len(first)}}"
            yield from _expanded(pattern[: ranges.start()] + number + pattern[ranges.end() :])
    elif is_pattern(pattern):
        yield from sorted(_globbed(pattern))
    else:
        yield pattern


def _globbed(pattern: str) -> Sequence[str]:
    pattern = pattern.replace("[", "[[]")  # which is not a wildcard here
    if not is_remote(pattern):
        return glob.glob(pattern)  # noqa: PTH207
    scheme = _scheme(pattern)
    found = filesystem_of(pattern).glob(pattern)
    return [p if is_remote(p) else f"{scheme}://{p}" for p in found]


def _opened(path: str) -> Any:
    if not is_remote(path):
        return Path(path).open("rb")
    # http files are read as a whole: fsspec's requests fail on servers without ranges.
    options = {"block_size": 0} if _scheme(path) in _HTTP else {"block_size": 8 << 20}
    return filesystem_of(path).open(path, "rb", cache_type="readahead", **options)


class _Guarded(io.RawIOBase):
    """A file whose read errors mean that the storage is lost."""

    def __init__(self, path: str) -> None:
        self._path, self._at_end = path, False
        try:
            self._file = _opened(path)
        except InputError:
            raise
        except Exception as error:
            raise lost(path, error) from error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = b"" if self._at_end else self._file.read(len(buffer))
        except Exception as error:
            raise lost(self._path, error) from error
        # aiohttp warns about reads beyond the end, which readers of archives try.
        self._at_end = not data
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed and hasattr(self, "_file"):
            self._file.close()
        super().close()
