"""Pinned files: download an address, verify its checksum, and store it in a folder.

Nothing unverified ever stands under a file's final name. A file grows beside it as ``<name>.part`` and is
hashed on the way; a part that an interruption left is resumed. Processes that fill one folder take turns.
They come from the hosts that manyhot downloads from, and no others; a redirect fails.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import queue
import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from manyhot._version import __version__
from manyhot.errors import ChecksumError, FetchError, OutputError

if TYPE_CHECKING:
    from http.client import HTTPResponse
    from urllib.error import HTTPError
    from urllib.request import OpenerDirector


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

    def _unlock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)


_TRIES = 3

_PAUSE = 1.0

_THREADS = 4

_CHUNK = 1 << 18

_DIGITS = 20
"""A size with as many digits is none: Python does not read numbers of over 4,300 digits."""

DownloadProgress = Callable[[int, int], None]
"""Called with the bytes there so far and the bytes in all; a restarted file takes the first number back."""


@dataclass(frozen=True)
class Pinned:
    """A file with known bytes.

    Attributes
    ----------
    path : str
        The name of the file in its destination folder.
    url, sha256, size : str, str, int
        The address of the published file, and its expected hash and size.
    """

    path: str
    url: str
    sha256: str
    size: int

    @property
    def address(self) -> str:
        """The path of the file in a mirror."""
        return self.url.partition("://")[2]


def bring(
    files: Sequence[Pinned], folder: Path, *, mirror: str = "", progress: DownloadProgress | None = None
) -> None:
    """Download missing files to the folder and verify all files.

    Parameters
    ----------
    files : sequence of Pinned
        Files that the folder must contain. Existing files are hashed and left unchanged if the hash is right.
    folder : Path
        Destination folder, created if needed. It may be read-only if no file is missing.
    mirror : str
        Folder or zip archive to read instead of the network. It stores each file under its address. With
        ``""``, files are downloaded.
    progress : callable, optional
        Called in the calling thread as ``progress(bytes_done, bytes_total)``.

    Raises
    ------
    FetchError
        If the network or the mirror does not provide a file.
    ChecksumError
        If the bytes differ from the published ones.
    OutputError
        If the folder cannot be written.
    """
    transfer = _Transfer(files, folder, progress)
    missing = transfer.missing()
    if missing:
        with _locked(folder) as suffix, _source(mirror) as source:
            try:
                transfer.run(lambda file: _obtain(transfer, source, file, suffix), missing)
            except OutputError:
                # Usually a full disk, on which nothing should be left. No thread writes any more.
                for file in missing:
                    with contextlib.suppress(OSError):
                        transfer.part(file, suffix).unlink()
                raise


def size_of(path: Path) -> int | None:
    """Return the size of a file in bytes; None if it is unknown."""
    try:
        return path.stat().st_size
    except OSError:
        return None


class _StoppedError(Exception):
    """Ends a thread whose fetch is over: another file failed, or Ctrl-C."""


class _Transfer:
    """What the threads of one fetch share: where files go, how far they are, and whether to continue."""

    def __init__(self, files: Sequence[Pinned], folder: Path, progress: DownloadProgress | None) -> None:
        self.folder = folder
        self.files = files
        self.stopped = threading.Event()
        self._mutex = threading.Lock()
        self._news: queue.SimpleQueue[tuple[Pinned, int | BaseException | None]] = queue.SimpleQueue()
        self._done = {file.path: 0 for file in files}
        self._progress = progress

    def missing(self) -> list[Pinned]:
        """Return the files that are missing from the folder or differ from the published files."""
        with ThreadPoolExecutor(_THREADS) as pool:
            good = list(pool.map(lambda file: _verified(self.folder / file.path, file), self.files))
        for file, there in zip(self.files, good, strict=True):
            self._done[file.path] = file.size if there else 0
        self._report()
        return [file for file, there in zip(self.files, good, strict=True) if not there]

    def run(self, work: Callable[[Pinned], None], files: list[Pinned]) -> None:
        """Call `work` for each file, in several threads. The first error stops all threads.

        The threads are daemons, because a thread that waits for a silent server cannot be woken and would
        delay Ctrl-C by up to `_TIMEOUT`. Such a thread continues to run, but no longer changes files.
        """
        waiting = deque(files)
        unfinished = len(files)
        try:
            for _ in range(min(_THREADS, unfinished)):
                threading.Thread(target=self._work, args=(work, waiting), daemon=True).start()
            while unfinished:
                file, news = self._news.get()
                if isinstance(news, BaseException):
                    raise news
                if news is None:
                    unfinished -= 1
                else:
                    self._done[file.path] = news
                    self._report()
        finally:
            with self._mutex:
                self.stopped.set()

    def part(self, file: Pinned, suffix: str) -> Path:
        """Return the path of an unfinished file."""
        return self.folder / f"{file.path}{suffix}"

    def tell(self, file: Pinned, position: int) -> None:
        """Report how many bytes of a file are available."""
        self._news.put((file, position))

    @contextlib.contextmanager
    def alive(self) -> Iterator[None]:
        """Run the block unless the fetch has stopped. The fetch cannot stop during the block."""
        with self._mutex:
            if self.stopped.is_set():
                raise _StoppedError
            yield

    def _work(self, work: Callable[[Pinned], None], waiting: deque[Pinned]) -> None:
        while not self.stopped.is_set():
            try:
                file = waiting.popleft()
            except IndexError:
                return
            try:
                work(file)
            except BaseException as error:
                self._news.put((file, error))
                return
            self._news.put((file, None))

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(sum(self._done.values()), sum(file.size for file in self.files))


class _Network:
    """The published addresses. `cure` is what to do if the bytes are wrong."""

    cure = "try again; if this persists, a proxy or server alters the file: try another network or mirror"

    @contextlib.contextmanager
    def open(self, file: Pinned, begin: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Yield the position of the first byte (`begin` or 0), and the bytes."""
        with respond(file.url, begin) as response:
            yield begin if response.status == 206 else 0, body(response)

    def where(self, file: Pinned) -> str:
        return file.url

    def failed(self, file: Pinned, target: Path, reason: str) -> FetchError:
        return FetchError(
            f"{file.path} is not in the cache and could not be downloaded.",
            where=file.url,
            got=reason,
            do="connect to the network, or point MANYHOT_MIRROR at a folder or zip archive that stores "
            f"each file under its address, or put the file at {target}",
        )


class _Mirror:
    """A folder or a zip archive laid out by address. Only pinned names are ever looked up in it."""

    cure = "replace the file in the mirror, or unset MANYHOT_MIRROR to download it"

    def __init__(self, place: str, open_entry: Callable[[str], IO[bytes]]) -> None:
        self._place = place
        self._open_entry = open_entry

    @contextlib.contextmanager
    def open(self, file: Pinned, begin: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        try:
            stream = self._open_entry(file.address)
        except (KeyError, FileNotFoundError, NotADirectoryError) as error:
            raise FailureError(f"no entry {file.address}") from error
        except Exception as error:
            raise _unreadable(file, error) from error
        with stream:
            yield begin, _contents(file, stream, begin)

    def where(self, file: Pinned) -> str:
        return f"{self._place}, entry {file.address}"

    def failed(self, file: Pinned, target: Path, reason: str) -> FetchError:
        return FetchError(
            f"{file.path} is not in the cache and could not be read from the mirror.",
            where=self._place,
            got=reason,
            do=f"put {file.url} into the mirror, or unset MANYHOT_MIRROR to download the file",
        )


_Source = _Network | _Mirror


@contextlib.contextmanager
def _source(place: str) -> Iterator[_Source]:
    if not place:
        yield _Network()
        return
    import zipfile

    root = Path(place).expanduser()
    if root.is_dir():
        yield _Mirror(place, lambda address: (root / address).open("rb"))
    elif zipfile.is_zipfile(root):
        with zipfile.ZipFile(root) as archive:
            yield _Mirror(place, archive.open)
    else:
        raise FetchError(
            "The mirror is neither a folder nor a zip archive.",
            where=place,
            got="a file of another kind" if root.exists() else "nothing there",
            allowed="a folder or zip archive in which the entry <host>/<path> contains https://<host>/<path>",
            do="correct MANYHOT_MIRROR, or unset it to download",
        )


def _obtain(transfer: _Transfer, source: _Source, file: Pinned, suffix: str) -> None:
    target = transfer.folder / file.path
    # Another process may have fetched it while this one waited for the lock.
    if not _verified(target, file):
        part = transfer.part(file, suffix)
        _download(transfer, source, file, part)
        with transfer.alive(), _writing(target):
            part.replace(target)
    transfer.tell(file, file.size)


def _download(transfer: _Transfer, source: _Source, file: Pinned, part: Path) -> None:
    for tried in range(1, _TRIES + 1):
        try:
            begin, size, sha256 = _receive(transfer, source, file, part)
        except FailureError as failure:
            if not failure.passing or tried == _TRIES:
                reason = f"{failure} ({tried} tries)" if tried > 1 else str(failure)
                raise source.failed(file, part.with_name(file.path), reason) from failure
            transfer.stopped.wait(max(failure.pause, _PAUSE * 3 ** (tried - 1)))
            continue
        if sha256 == file.sha256:
            return
        with transfer.alive(), _writing(part):
            part.unlink()
        # A part that was resumed may have been bad before; only bytes of one piece condemn the source.
        if begin == 0 or tried == _TRIES:
            raise ChecksumError(
                f"{file.path} is not the published file.",
                where=source.where(file),
                got=f"sha256 {sha256}, {size} bytes" if size <= file.size else f"more than {file.size} bytes",
                allowed=f"sha256 {file.sha256}, {file.size} bytes",
                do=source.cure,
            )


def _receive(transfer: _Transfer, source: _Source, file: Pinned, part: Path) -> tuple[int, int, str]:
    """Complete the part; return where the received bytes began, its size and its sha256."""
    done, digest = _hash_part(part, file)
    if done == file.size:
        return done, done, digest.hexdigest()
    with source.open(file, done) as (begin, chunks):
        if begin == 0:
            done, digest = 0, hashlib.sha256()
        with transfer.alive(), _writing(part):
            out = part.open("ab" if begin else "wb", buffering=0)
        with out:
            for chunk in chunks:
                with transfer.alive(), _writing(part):
                    _write(out, chunk)
                digest.update(chunk)
                done += len(chunk)
                transfer.tell(file, min(done, file.size))
                if done > file.size:
                    break
            with _writing(part):
                os.fsync(out.fileno())
    return begin, done, digest.hexdigest()


def _hash_part(part: Path, file: Pinned) -> tuple[int, hashlib._Hash]:
    """Return how many bytes of a part can be kept, and their hash so far."""
    size = size_of(part)
    if not size or size > file.size:
        return 0, hashlib.sha256()
    with _writing(part), part.open("rb") as stream:
        return size, hashlib.file_digest(stream, "sha256")


def _write(out: IO[bytes], chunk: bytes) -> None:
    # A file without a buffer may take less than it was given, and says so.
    rest = memoryview(chunk)
    while rest:
        rest = rest[out.write(rest) :]


def _verified(path: Path, file: Pinned) -> bool:
    try:
        if size_of(path) != file.size:
            return False
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256
    except OSError:
        return False


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[str]:
    """Keep other fetches out of the folder; yield the suffix of part files.

    The system drops the lock when its holder dies. On a file system without locks (some clusters have such)
    each fetch writes parts of its own, which are not resumed.
    """
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("ab")
    with lock:
        held = _acquire(lock)
        try:
            yield ".part" if held else f".{secrets.token_hex(4)}.part"
        finally:
            # Closing alone would not do where another thread forked meanwhile: the child has it open too.
            if held:
                _unlock(lock.fileno())


def _acquire(lock: IO[bytes]) -> bool:
    """Wait for the lock; return False where there are no locks."""
    while True:
        try:
            _lock(lock.fileno())
        except (BlockingIOError, PermissionError):
            time.sleep(0.05)
        except OSError:
            return False
        else:
            return True


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise OutputError(
            f"The disk is full; {path.name} was not written."
            if full
            else f"Cannot write {path.name}: {error.strerror or error}.",
            where=path.parent,
            do="free some space, or point MANYHOT_CACHE at a folder on another disk"
            if full
            else "point MANYHOT_CACHE at a folder that you may write to",
        ) from error


def _contents(file: Pinned, stream: IO[bytes], begin: int) -> Iterator[bytes]:
    try:
        stream.seek(begin)
        while chunk := stream.read(_CHUNK):
            yield chunk
    except Exception as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Pinned, error: Exception) -> FailureError:
    # zipfile has no common base for the errors of a damaged, encrypted or oddly packed entry.
    return FailureError(f"{file.address} is unreadable: {str(error) or type(error).__name__}")


# Here and not in the data, so that no edit of the data alone reaches another host. Only the tests widen them.
_SCHEMES = ("https",)

_HOSTS = ("raw.githubusercontent.com", "registry.npmjs.org")

_TIMEOUT = 30.0

_LONGEST_PAUSE = 30.0

_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}


class FailureError(Exception):
    """A source did not provide the bytes. If `passing` is true, retry after at least `pause` seconds."""

    def __init__(self, reason: str, *, passing: bool = False, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.passing = passing
        self.pause = min(pause, _LONGEST_PAUSE)


def respond(url: str, begin: int) -> HTTPResponse:
    """Return the response with the bytes from `begin` on, or with all bytes if the server refuses."""
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError

    try:
        response = _request(url, begin)
    except HTTPError as error:
        with error:
            failure = _refusal(error)
        if error.code != 416 or begin == 0:
            raise failure from error
        return respond(url, 0)
    except URLError as error:
        raise FailureError(str(error.reason), passing=_is_passing(error.reason)) from error
    except (OSError, HTTPException) as error:
        raise FailureError(str(error) or type(error).__name__, passing=True) from error
    first = response.headers.get("Content-Range", "")
    if begin and response.status == 206 and not first.startswith(f"bytes {begin}-"):
        response.close()
        return respond(url, 0)
    return response


def _request(url: str, begin: int) -> HTTPResponse:
    from urllib.request import Request

    headers = {"User-Agent": f"manyhot/{__version__}"} | ({"Range": f"bytes={begin}-"} if begin else {})
    scheme, _, address = url.partition("://")
    if scheme not in _SCHEMES or address.partition("/")[0] not in _HOSTS:
        raise FailureError("not an address that manyhot downloads from")
    response: HTTPResponse = _opener().open(Request(url, headers=headers), timeout=_TIMEOUT)  # noqa: S310
    return response


@functools.cache
def _opener() -> OpenerDirector:
    from urllib.request import HTTPRedirectHandler, build_opener

    class StayHere(HTTPRedirectHandler):
        """Rejects redirects: pinned addresses do not move."""

        def redirect_request(self, *args: object, **options: object) -> None:
            return None

    return build_opener(StayHere)


def _refusal(error: HTTPError) -> FailureError:
    pause = error.headers.get("Retry-After", "")
    return FailureError(
        f"HTTP status {error.code} {error.reason}",
        passing=error.code in _PASSING_STATUS,
        pause=float(pause) if pause.isdecimal() else 0.0,
    )


def _is_passing(reason: object) -> bool:
    """Return whether a failed connection is worth another try: not when offline or distrusted."""
    import socket
    import ssl

    if isinstance(reason, socket.gaierror | ssl.SSLCertVerificationError):
        return False
    return isinstance(reason, OSError) and reason.errno != errno.ENETUNREACH


def body(response: HTTPResponse) -> Iterator[bytes]:
    """Yield the bytes of a response as they arrive."""
    from http.client import HTTPException

    length = response.headers.get("Content-Length", "")
    left = int(length) if length.isdecimal() and len(length) < _DIGITS else None
    while left != 0:
        try:
            # read1 gives what has arrived, which read would lose if the connection then broke.
            chunk = response.read1(_CHUNK if left is None else min(_CHUNK, left))
        except (OSError, HTTPException) as error:
            raise FailureError(str(error) or type(error).__name__, passing=True) from error
        if not chunk and left is not None:
            raise FailureError(f"the connection ended {left} bytes early", passing=True)
        if not chunk:
            return
        left = None if left is None else left - len(chunk)
        yield chunk
