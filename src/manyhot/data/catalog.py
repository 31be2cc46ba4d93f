"""Published data: the catalogue with licences, and verified downloads.

::

    catalog.catalog_names()                            # what there is
    catalog.catalog_entry("imagenet-real").citation    # whom to cite
    catalog.fetch("imagenet-real")["real.json"]        # its path, downloaded if need be
    catalog.fetch_file("tsipras", "superclasses.npy")  # one file of several

Addresses are pinned to a commit and checksums to the bytes, in ``data/catalog.json``, which
``tools/build_catalog.py`` completes. Two environment variables matter: ``MANYHOT_CACHE`` is where the
files are kept, and ``MANYHOT_MIRROR`` a folder or zip archive to read instead of the network, in which the
entry ``<host>/<path>`` holds the bytes of ``https://<host>/<path>``.

Some published files are not downloaded, but found in an installed Python package, or saved by hand.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyhot.data.download import DownloadProgress, Pinned, bring, size_of
from manyhot.errors import ChecksumError, FetchError, MissingExtraError, UnknownNameError, did_you_mean
from manyhot.files import cache_folder, sha256

_DATA = Path(__file__).with_name("catalog.json")


@dataclass(frozen=True)
class File(Pinned):
    """A published file; `path` is its name within the entry.

    Attributes
    ----------
    flags : frozenset of str
        Properties of the file: ``reversed`` if it stores predictions worst first.
    note : str
        The flags in words, with numbers.
    """

    flags: frozenset[str] = frozenset()
    note: str = ""


@dataclass(frozen=True)
class CatalogEntry:
    """Published data with a name, a licence and a citation.

    `package` is the name for ``pip install`` if a Python package contains the files, and empty otherwise. If
    `by_hand` is true, users must download the files. In neither case does manyhot download them. If
    `elsewhere` is true, manyhot downloads the files, but they are not in the archive of published files that
    is used to test the catalogue.
    """

    name: str
    title: str
    home: str
    licence: str
    citation: str
    notes: tuple[str, ...]
    files: tuple[File, ...]
    package: str = ""
    by_hand: bool = False
    elsewhere: bool = False

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def file(self, path: str) -> File:
        """Return the file of that name.

        Raises
        ------
        UnknownNameError
            If the entry has no file with this name. The message lists similar names.
        """
        for file in self.files:
            if file.path == path:
                return file
        told = next((note for note in self.notes if path in note), None)
        raise _unknown(f"{self.name} has no file {path!r}.", path, [file.path for file in self.files], told)


def catalog_names() -> list[str]:
    """Return the names of the catalogue's entries."""
    return list(_entries())


def catalog_entry(name: str) -> CatalogEntry:
    """Return an entry of the catalogue.

    Raises
    ------
    UnknownNameError
        If there is no entry with this name. The message lists similar names.
    """
    if name not in _entries():
        raise _unknown(f"There is no {name!r} in the catalogue.", name, catalog_names())
    return _entries()[name]


def is_cached(name: str, file: str | None = None, *, cache: Path | None = None) -> bool:
    """Return whether an entry, or one of its files, is in the cache with its published size.

    Only `fetch` checks the bytes.
    """
    found = catalog_entry(name)
    folder = (cache or cache_folder()) / name
    files = found.files if file is None else (found.file(file),)
    if found.package:
        return all((path := installed_path(each.url)) and size_of(path) == each.size for each in files)
    return all(size_of(folder / each.path) == each.size for each in files)


def fetch(
    name: str,
    *,
    only: Collection[str] | None = None,
    cache: Path | None = None,
    mirror: str | os.PathLike[str] | None = None,
    progress: DownloadProgress | None = None,
) -> dict[str, Path]:
    """Return the verified files of an entry. Files that are not in the cache are downloaded.

    A cached file is used if its sha256 is the published one. Each call computes the hash, which takes less
    than 0.1 s for the 137 MB of the largest entry. Files of a Python package are read from the installed
    package.

    Parameters
    ----------
    name : str
        One of `names()`.
    only : collection of str, optional
        File names; all files by default.
    cache : Path, optional
        Folder to use instead of `cache_folder()`. Files are stored as ``<cache>/<name>/<file>``.
    mirror : str or path, optional
        Mirror to use instead of ``MANYHOT_MIRROR``: a folder or zip archive that stores each file under its
        address. With ``""``, files are downloaded.
    progress : callable, optional
        Called in the calling thread as ``progress(bytes_done, bytes_total)``.

    Returns
    -------
    dict of str to Path
        The path of each file by file name, in the catalogue's order.

    Raises
    ------
    UnknownNameError
        If there is no such entry or file.
    FetchError
        If the network or the mirror does not provide a file, or if users must download the file themselves
        and have not done so.
    ChecksumError
        If the bytes differ from the published ones.
    MissingExtraError
        If the Python package that contains the files is not installed.
    OutputError
        If the cache cannot be written.
    """
    found = catalog_entry(name)
    wanted = set(found.files if only is None else map(found.file, only))
    files = [file for file in found.files if file in wanted]
    if found.package:
        return {file.path: installed_file(file, found.package, found.licence) for file in files}
    folder = (cache or cache_folder()) / name
    if found.by_hand:
        return {file.path: saved_file(file, folder, found.licence) for file in files}
    place = os.environ.get("MANYHOT_MIRROR", "") if mirror is None else os.fspath(mirror)
    bring(files, folder, mirror=place, progress=progress)
    return {file.path: folder / file.path for file in files}


def fetch_file(
    name: str,
    file: str,
    *,
    cache: Path | None = None,
    mirror: str | os.PathLike[str] | None = None,
    progress: DownloadProgress | None = None,
) -> Path:
    """Return one verified file of an entry. See `fetch`."""
    return fetch(name, only=[file], cache=cache, mirror=mirror, progress=progress)[file]


@functools.cache
def _entries() -> Mapping[str, CatalogEntry]:
    entries = json.loads(_DATA.read_text(encoding="utf-8"))["entries"]
    return {fields["name"]: _read_entry(fields) for fields in entries}


def _read_entry(fields: dict[str, Any]) -> CatalogEntry:
    sources, notes = fields.pop("sources"), tuple(fields.pop("notes"))
    files = [_read_file(source["base"], *record) for source in sources for record in source["files"]]
    return CatalogEntry(**fields, notes=notes, files=tuple(files))


def _read_file(base: str, path: str, size: int, sha256: str, about: Mapping[str, Any] | None = None) -> File:
    flags = dict(about or {})
    note = flags.pop("note", "")
    return File(path, base + path, sha256, size, frozenset(flag for flag, on in flags.items() if on), note)


def _unknown(what: str, name: str, allowed: list[str], detail: str | None = None) -> UnknownNameError:
    return UnknownNameError(
        f"{what} {detail}" if detail else what,
        allowed=", ".join(allowed),
        do=None if detail else did_you_mean(name, allowed),
    )


def installed_path(address: str) -> Path | None:
    """Return the path of a file such as ``package/folder/file.csv``; None if it is not installed.

    The package is not imported.
    """
    package, _, path = address.partition("/")
    spec = importlib.util.find_spec(package)
    folders = () if spec is None else spec.submodule_search_locations or ()
    return next((file for folder in folders if (file := Path(folder) / path).is_file()), None)


def installed_file(file: Pinned, package: str, licence: str) -> Path:
    """Return the verified path of a published file.

    Parameters
    ----------
    file : Pinned
        A file whose `url` is its path, starting with the folder of the package.
    package : str
        What pip installs.
    licence : str

    Raises
    ------
    MissingExtraError
        If the package is not installed.
    ChecksumError
        If the installed file differs from the published file.
    """
    path = installed_path(file.url)
    do = f'pip install "{package}"'
    if path is None:
        name = package.partition("==")[0]
        raise MissingExtraError(
            f"The published data of {name} are not installed.",
            got=f"no {file.url}",
            allowed=f"the Python package {name} ({licence}), which manyhot neither contains nor downloads",
            do=do,
        )
    return _verified(path, file, do)


def saved_file(file: Pinned, folder: Path, licence: str) -> Path:
    """Return the verified path of a published file that a user has saved in a folder.

    Raises
    ------
    FetchError
        If the file is not there.
    ChecksumError
        If the saved file differs from the published file.
    """
    path, do = folder / file.path, f"download {file.url} to {folder / file.path}"
    if not path.is_file():
        raise FetchError(
            f"{file.path} must be downloaded by hand.",
            where=path,
            got="no file",
            allowed=f"the published file, which manyhot does not download (licence: {licence})",
            do=do,
        )
    return _verified(path, file, do)


def _verified(path: Path, file: Pinned, do: str) -> Path:
    if (found := sha256(path)) != file.sha256:
        raise ChecksumError(
            "A file differs from the published file.",
            where=path,
            got=f"sha256 {found}",
            allowed=f"sha256 {file.sha256}",
            do=do,
        )
    return path
