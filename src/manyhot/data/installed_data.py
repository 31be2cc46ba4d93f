"""Published files that manyhot does not download: of an installed Python package, or saved by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from manyhot.data.download import Pinned
from manyhot.errors import ChecksumError, FetchError, MissingExtraError
from manyhot.files import sha256


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
        Its `url` is the path of the file, starting with the folder of the package.
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
