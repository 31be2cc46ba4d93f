"""The images of a campaign in another folder, or on another machine."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from manyhot.errors import InputError


def find_images(uris: Iterable[str], root: Path) -> dict[str, str]:
    """Return where images are now, by where they were.

    The longest end of the old path that exists under the new root is taken: for ``/old/val/n01440764/a.jpg``
    first ``val/n01440764/a.jpg``, then ``n01440764/a.jpg``, then ``a.jpg``.

    Parameters
    ----------
    uris : iterable of str
    root : Path
        A folder, or a tar archive.

    Raises
    ------
    InputError
        The root does not exist, or an image is not under it.
    """
    is_there = _looker(root)
    found: dict[str, str] = {}
    missing: list[str] = []
    cut = 0  # most images are as deep as the one before
    for uri in uris:
        parts = PurePosixPath(uri.replace("\\", "/").partition("://")[2] or uri.replace("\\", "/")).parts
        parts = tuple(part for part in parts if part not in ("/", ".", ".."))
        for start in (cut, *range(len(parts))):
            if parts[start:] and is_there("/".join(parts[start:])):
                found[uri], cut = str(root.resolve().joinpath(*parts[start:])), start
                break
        else:
            missing.append(uri)
    if missing:
        raise InputError(
            f"{len(missing):,} of {len(found) + len(missing):,} images are not under the new place.",
            where=root,
            got=f"no {PurePosixPath(missing[0]).name}, which was at {missing[0]}",
            do="give the folder or archive that holds them all",
        )
    return found


def _looker(root: Path) -> Callable[[str], bool]:
    if root.is_dir():
        return lambda name: (root / name).is_file()
    try:
        with tarfile.open(root, "r:") as tar:
            members = {member.name.removeprefix("./") for member in tar if member.isfile()}
    except (OSError, tarfile.TarError) as error:
        raise InputError(
            "Images cannot be read from here.",
            where=root,
            got="no such file or folder" if not root.exists() else "neither a folder nor a tar archive",
            allowed="a folder, or an uncompressed tar archive",
        ) from error
    return members.__contains__
