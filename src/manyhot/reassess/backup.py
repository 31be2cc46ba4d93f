"""A campaign with its database as one file, and back."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from manyhot._version import __version__
from manyhot.command import command
from manyhot.console import without_passwords
from manyhot.errors import InputError, OutputError
from manyhot.files import atomic_write, is_utf8, write_refused
from manyhot.formats.writing import PathLike
from manyhot.parameters import Shown
from manyhot.reassess.app.server import DATABASE, DatabaseAddress, open_store, web_extra
from manyhot.reassess.status import CampaignFolder
from manyhot.result import Result
from manyhot.tables import Campaign

BACKUP_VERSION = 1
_ABOUT = "backup.json"
_TABLE = re.compile(r"database/[a-z]+\.parquet")
_PART = re.compile(r"[^/\\\0:]+")
_MOST_ABOUT = 64 << 20
_SWELLS = 200
"""Times that a packed file may grow: text grows twenty times, bombs a thousand times."""


@dataclass(frozen=True)
class Manifest:
    """The contents of a backup, as listed in its ``backup.json``.

    Attributes
    ----------
    revision : str
        The revision of the database's tables.
    counts : dict of str to int
        Number of rows in each table.
    files : dict of str to str
        The SHA-256 hash of each file, by name.
    version : str
        The version of manyhot.
    backup : int
        The version of the backup itself.
    """

    revision: str
    counts: dict[str, int]
    files: dict[str, str]
    version: str = __version__
    backup: int = BACKUP_VERSION


@dataclass(frozen=True, eq=False)
class Backup(Result):
    """A backup that was written.

    Attributes
    ----------
    manifest : Manifest
    written
        The file.
    """

    manifest: Manifest

    def to_json(self) -> dict[str, Any]:
        """Return the contents of the backup."""
        return asdict(self.manifest)

    def lines(self) -> Iterator[str]:
        """Yield the size of the backup."""
        yield f"{self.manifest.counts['votes']:,} votes and {len(self.manifest.files):,} files"
        yield "Keep the backup private: it contains the answers and remarks of each rater."


@command("backup", examples=("manyhot backup campaign campaign.zip",))
def backup_campaign(
    campaign: CampaignFolder,
    file: Annotated[PathLike, Shown("FILE")],
    *,
    database: DatabaseAddress = None,
) -> Backup:
    """Write a campaign with all its answers to one file; the app can keep running.

    The file is written completely or not at all. It does not contain the images themselves.

    Parameters
    ----------
    campaign
        Folder of the campaign.
    file
        The backup, a zip file, which replaces an earlier backup of the same name.
    database
        Address of the database of answers, such as postgresql://HOST/NAME; by default, a file in the campaign
        folder.

    Returns
    -------
    Backup

    Raises
    ------
    InputError
        If the campaign does not exist or has no database yet, if a file in it has a name that could not be
        restored, or if `file` exists and is not an earlier backup.
    OutputError
        If the file cannot be written.
    """
    home, target = Campaign.read(campaign), Path(file)
    _check_replaceable(target)
    with open_store(home, database) as store, tempfile.TemporaryDirectory() as made:
        revision, counts = store.backup(Path(made))
        sources = {f"database/{name}.parquet": Path(made, f"{name}.parquet") for name in counts}
        sources |= {f"campaign/{name}": path for name, path in _files(home.folder, target)}
        with atomic_write(target) as part, zipfile.ZipFile(part, "w") as archive:
            # Hashed while they are read: an export may replace one meanwhile.
            files = {name: _add(archive, name, path) for name, path in sources.items()}
            manifest = Manifest(revision, counts, files)
            text = json.dumps(asdict(manifest), indent=1, sort_keys=True)
            archive.writestr(_ABOUT, text, zipfile.ZIP_DEFLATED)
        target.chmod(0o600)  # it holds the hashes of passwords and sessions
    return Backup(manifest, written=(target,))


@dataclass(frozen=True, eq=False)
class RestoredCampaign(Result):
    """A campaign that was made from a backup.

    Attributes
    ----------
    campaign : Campaign
    database : str, optional
        The address of the campaign's database; None for a file in the folder.
    written
        The folder.
    """

    campaign: Campaign
    database: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the folder."""
        return {"campaign": str(self.campaign.folder)}

    def lines(self) -> Iterator[str]:
        """Yield the next commands."""
        folder = shlex.quote(str(self.campaign.folder))
        address = f" --database {shlex.quote(without_passwords(self.database))}" if self.database else ""
        yield f"To continue: manyhot annotate {folder}{address}"
        yield "  If the images were moved, add --image-folder FOLDER."


@command("restore", examples=("manyhot restore campaign.zip campaign",))
def restore_campaign(
    file: Annotated[PathLike, Shown("FILE")],
    campaign: Annotated[PathLike, Shown("DIR")],
    *,
    database: Annotated[str | None, Shown("ADDRESS")] = None,
) -> RestoredCampaign:
    """Restore a campaign from a backup; sessions and invitations stay valid.

    The campaign and its database are restored completely or not at all.

    Parameters
    ----------
    file
        The backup, a zip file.
    campaign
        Folder of the restored campaign, which must be new or empty.
    database
        Address of an empty database, such as postgresql://HOST/NAME; by default, a file in the campaign
        folder.

    Returns
    -------
    RestoredCampaign

    Raises
    ------
    InputError
        If the file is not a backup, is damaged or malicious, or comes from a later version of manyhot, or if
        the folder or the database is not empty.
    OutputError
        If the folder or database cannot be written.
    """
    web_extra()
    from manyhot.reassess.app.store.database import restore_database

    folder = Path(campaign)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("The folder is not empty.", where=folder, do="restore into a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise write_refused(folder, error) from error
    try:
        about = _unpack(Path(file), made)
        Campaign.read(made / "campaign")
        ready = made / "campaign"
        address = database or f"sqlite:///{made / 'database' / DATABASE}"
        move = (lambda: _appear(ready, folder)) if database else (lambda: None)
        restore_database(address, made / "database", about.revision, about.counts, move)
        if database is None:
            (made / "database" / DATABASE).replace(ready / DATABASE)
            _appear(ready, folder)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise write_refused(folder, error) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return RestoredCampaign(Campaign.read(folder), database, written=(folder,))


def _appear(ready: Path, folder: Path) -> None:
    ready.chmod(0o755)
    ready.replace(folder)  # an empty folder may stand there


def _check_replaceable(target: Path) -> None:
    """Raise an error where something other than a backup would be overwritten."""
    if not target.is_file():
        return
    try:
        with zipfile.ZipFile(target) as archive:
            is_backup = _ABOUT in archive.NameToInfo
    except (zipfile.BadZipFile, OSError):
        is_backup = False
    if not is_backup:
        raise InputError(
            "The file exists and is not a backup of a campaign.",
            where=target,
            allowed="a new file, or an earlier backup",
            do="choose another name",
        )


def _files(folder: Path, target: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a campaign: neither its database nor what begins with a dot."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        itself = target.exists() and path.samefile(target)
        if path.is_file() and not hidden and not itself and not name.name.startswith(DATABASE):
            # To be refused now is better than when it is needed.
            if not (is_utf8(path) and _is_of_campaign(f"campaign/{name.as_posix()}")):
                raise InputError(
                    "A file has a name that cannot be stored in a backup.",
                    where=folder,
                    got=repr(name.as_posix()),
                    allowed="a UTF-8 name without : and \\",
                    do="rename or move the file",
                )
            yield name.as_posix(), path


def _add(archive: zipfile.ZipFile, name: str, path: Path) -> str:
    """Add a file and return its sha256."""
    entry = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)  # zip files begin in 1980
    entry.compress_type = zipfile.ZIP_STORED if _stays(path) else zipfile.ZIP_DEFLATED
    hashed = hashlib.sha256()
    with path.open("rb") as source, archive.open(entry, "w") as to:
        while part := source.read(1 << 20):
            hashed.update(part)
            to.write(part)
    return hashed.hexdigest()


def _stays(path: Path) -> bool:
    """Return whether a file is stored uncompressed: it is compressed already, or expands like a zip bomb."""
    if path.suffix in (".parquet", ".npy"):
        return True
    packer, came, packed = zlib.compressobj(), 0, 0
    with path.open("rb") as source:
        while part := source.read(1 << 20):
            came += len(part)
            packed += len(packer.compress(part))
    return came > _SWELLS // 2 * (packed + len(packer.flush()))


def _unpack(file: Path, made: Path) -> Manifest:
    try:
        with zipfile.ZipFile(file) as archive:
            about = _about(archive, file)
            entries = _entries(archive, about, file)
            free = shutil.disk_usage(made).free
            if (wanted := sum(entry.file_size for entry in entries)) > free:
                raise OutputError(
                    "The disk does not have enough space for the backup.",
                    where=made.parent,
                    got=f"{free:,} bytes free",
                    allowed=f"{wanted:,} bytes or more",
                )
            for entry in entries:
                _extract(archive, entry, made, about.files[entry.filename], file)
    except FileNotFoundError as error:
        if error.filename is not None and Path(error.filename) == file:
            raise InputError("The file does not exist.", where=file) from error
        raise
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, KeyError) as error:
        raise _broken(file, error) from error
    return about


def _about(archive: zipfile.ZipFile, file: Path) -> Manifest:
    entry = archive.NameToInfo.get(_ABOUT)
    if entry is None or entry.file_size > _MOST_ABOUT:
        raise InputError(
            "The file is not a backup of a campaign.", where=file, got=f"a zip file without {_ABOUT}"
        )
    try:
        content: dict[str, Any] = json.loads(archive.read(entry))
        later = content["backup"] > BACKUP_VERSION
        if not later:
            about = Manifest(**content)
            fine = all(type(n) is int for n in about.counts.values()) and isinstance(about.revision, str)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _broken(file, error) from error
    if later:
        raise InputError(
            "The backup was made by a later version of manyhot.",
            where=file,
            got=f"backup format {content['backup']}, written by manyhot {content.get('version')}",
            allowed=f"backup format {BACKUP_VERSION} or earlier",
            do="upgrade manyhot",
        )
    if not fine:
        raise _broken(file, f"{_ABOUT} was not written by manyhot")
    return about


def _entries(archive: zipfile.ZipFile, about: Manifest, file: Path) -> list[zipfile.ZipInfo]:
    """Return the entries to unpack, after checking that there are no others."""
    entries = [entry for entry in archive.infolist() if entry.filename != _ABOUT]
    names = [entry.filename for entry in entries]
    tables = {f"database/{name}.parquet" for name in about.counts}
    if sorted(names) != sorted(about.files) or not tables <= set(names):
        raise _broken(file, f"the files differ from those listed in {_ABOUT}")
    for entry in entries:
        if not (_TABLE.fullmatch(entry.filename) or _is_of_campaign(entry.filename)):
            raise _broken(file, f"a file {entry.filename!r}, which would be written outside the campaign")
        if entry.file_size > _SWELLS * entry.compress_size + 1024:
            raise _broken(
                file, f"{entry.filename!r} expands from {entry.compress_size:,} to {entry.file_size:,} bytes"
            )
    return entries


def _is_of_campaign(name: str) -> bool:
    parts = name.split("/")
    return (
        len(parts) > 1
        and parts[0] == "campaign"
        and all(_PART.fullmatch(part) and not part.startswith(".") for part in parts)
        and not parts[1].startswith(DATABASE)
        and PurePosixPath(name).parts == tuple(parts)
    )


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, made: Path, digest: str, file: Path) -> None:
    # Links are never made: what the archive calls one becomes a file with its bytes.
    target = made / entry.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    hashed = hashlib.sha256()
    with archive.open(entry) as source, target.open("xb") as to:
        while part := source.read(1 << 20):
            hashed.update(part)
            to.write(part)
        to.flush()
        os.fsync(to.fileno())
    if hashed.hexdigest() != digest:
        raise _broken(file, f"{entry.filename!r} has changed since the backup")


def _broken(file: Path, why: object) -> InputError:
    return InputError(
        "The backup is broken.", where=file, got=str(why).partition("\n")[0], do="use an earlier backup"
    )
