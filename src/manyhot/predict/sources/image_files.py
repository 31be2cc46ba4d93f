"""Folders and lists of image files, local or on remote storage."""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import pyarrow as pa

from manyhot.errors import InputError, first_names
from manyhot.files import is_utf8
from manyhot.predict.decode import pages_note
from manyhot.predict.sources.image_labels import ListedImage, base_name, with_labels
from manyhot.predict.sources.remote import fetch_bytes, is_remote, unquoted, walk_remote
from manyhot.predict.sources.source import (
    EXTENSIONS,
    ImageReader,
    ImageSource,
    Item,
    check_ids,
    part_ranges,
    short_hash,
)
from manyhot.tables.image_ids import first_unique, normal_ids


@dataclass(frozen=True)
class Files:
    """A part: image files below a root.

    Attributes
    ----------
    name : str
    root : str
        A folder or an address. Empty if the paths include it.
    paths : tuple of str
        Relative to the root, with slashes.
    labels : tuple of str or None, optional
        Label of each image; by default the name of its folder.
    mark : str
        A text that differs if the known sizes of the files differ.
    ids : tuple of str, optional
        Id of each image; by default its base name.
    """

    name: str
    root: str
    paths: tuple[str, ...]
    labels: tuple[str | None, ...] | None = None
    mark: str = ""
    ids: tuple[str, ...] | None = None

    @property
    def n(self) -> int:
        """The number of images."""
        return len(self.paths)

    def items(self) -> Iterator[tuple[Item, ImageReader]]:
        """Yield each image with a function that reads it."""
        for i, path in enumerate(self.paths):
            uri = f"{self.root.rstrip('/')}/{path}" if self.root else path
            label = self.labels[i] if self.labels else folder_label(path, self.root)
            image_id = self.ids[i] if self.ids else base_name(uri)
            yield Item(image_id, uri, label), functools.partial(fetch_bytes, uri, self.root)

    def key(self) -> str:
        """Return a key that identifies the images of this part."""
        return short_hash([*self.paths, *map(str, self.labels or ()), self.mark])


def folder_label(path: str, root: str = "") -> str | None:
    """Return the label of an image: the name of its folder.

    If the names of this folder and of its parent are both numbers, they are assumed to denote a day or a
    batch rather than a label.

    Parameters
    ----------
    path : str
        Path relative to the root.
    root : str
        The root folder. Its name is the label of the images directly in it, unless it is a number.
    """
    folders = [name for name in unquoted(path, root or path).split("/")[:-1] if name]
    above = [name for name in root.split("/") if name][-1:]
    if not folders:
        return above[0] if above and not above[0].isdigit() else None
    if folders[-1].isdigit() and any(name.isdigit() for name in folders[-2:-1]):
        return None
    return folders[-1]


def open_image_folder(
    folder: str, labels: Mapping[str, str] | None = None, files: Mapping[str, int] | None = None
) -> ImageSource:
    """List the images in a folder and below it.

    Images are sorted by path. If all folders of a level have numbers as names, they are sorted numerically.
    Hidden files and folders are ignored, and links to folders are followed unless they lead in a circle.

    Parameters
    ----------
    folder : str
        A path, or an address such as ``s3://bucket/photos``.
    labels : Mapping of str to str, optional
        Label of each image by id. By default, the label is the name of the image's folder.
    files : Mapping of str to int, optional
        Sizes of all files below the folder by path, if they are known.

    Raises
    ------
    InputError
        If the folder does not exist or contains no image, if a name is not UTF-8, or if none of the labels
        belongs to an image.
    """
    root = folder.rstrip("/") or "/"
    found = list_files(folder) if files is None else files
    images = [path for path in found if path.lower().endswith(EXTENSIONS)]
    if not images:
        raise _no_images(folder, found)
    images.sort(key=_order(images))
    _check_text(images, folder)
    names = [base_name(unquoted(path, root)) for path in images]
    ids = first_unique(names, [unquoted(path, root) for path in images])
    check_ids(ids, folder, images.__getitem__)
    here = "" if root == "." else root
    cuts = list(part_ranges(len(images)))
    parts = tuple(
        Files(
            name,
            here,
            own := tuple(images[start:end]),
            mark=short_hash(str(found[path]) for path in own),
            ids=None if ids is names else tuple(ids[start:end]),
        )
        for name, start, end in cuts
    )
    pages = "" if is_remote(root) else pages_note(_some_tiffs(root, images))
    # A link to an image becomes a skipped image. The size of remote files may be unknown.
    others = [path for path in found if not path.lower().endswith(EXTENSIONS)]
    dead = [] if is_remote(root) else sorted(path for path in others if found[path] < 0)
    notes = _links_note(dead), other_files_note({*others} - {*dead}), pages
    source = ImageSource(folder, parts, notes=tuple(filter(None, notes)))
    return with_labels(source, labels, [ids[start:end] for _, start, end in cuts])


_SIDE_FILES = re.compile(
    r"\.(csv|tsv|txt|lst|jsonl?|xml|ya?ml|toml|ini|md|rst|html|log|db|parquet|arrow|np[yz]|mat|xlsx|py"
    r"|ipynb|sh|md5|sha256)$"
)
"""Suffixes of tables, texts and programs that lie beside images."""

_SIDE_NAMES = ("readme", "licen", "copying", "changelog", "checksum", "version", "makefile")
"""Beginnings of the names of texts without a suffix; scanners write DICOM files without one."""

_DICOM = frozenset((".dcm", ".dicom"))
_CONVERT_DICOM = "convert DICOM files to PNG or TIFF"


_HEADERS = 1_000
"""Maximum number of TIFF files whose headers are read."""


def _some_tiffs(root: str, images: Sequence[str]) -> list[Path]:
    """Return at most `_HEADERS` TIFF files, evenly spread: opening a million takes minutes."""
    tiffs = [path for path in images if path.lower().endswith((".tif", ".tiff"))]
    return [Path(root, path) for path in tiffs[:: -(-len(tiffs) // _HEADERS) or 1]]


def _links_note(links: Sequence[str]) -> str:
    """Return a note on links that lead nowhere and may have been folders."""
    lead = "link leads" if len(links) == 1 else "links lead"
    note = f"{len(links):,} {lead} nowhere, so images below are missing: {first_names(links)}"
    return note if links else ""


def other_files_note(files: Collection[str]) -> str:
    """Return a note on the files that are not read as images, without those that lie beside images."""
    kinds: Counter[str] = Counter()
    for path in files:
        name = path.rpartition("/")[2].lower()
        if name.endswith(EXTENSIONS) or _SIDE_FILES.search(name):
            continue
        suffix = os.path.splitext(name)[1]  # noqa: PTH122  # of hundreds of thousands of names
        if suffix or not name.startswith(_SIDE_NAMES):
            kinds[suffix if suffix[1:].isalnum() and len(suffix) <= 10 else "without a suffix"] += 1
    if not kinds:
        return ""
    n, most = kinds.total(), sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))[:4]
    more = n - sum(own for _, own in most)
    listed = [f"{own:,} {kind}" for kind, own in most] + [f"{more:,} of other kinds"] * (more > 0)
    are = "files are not read as images" if n > 1 else "file is not read as an image"
    do = f"; {_CONVERT_DICOM}" if _DICOM & {*kinds} else ""
    return f"{n:,} {are}: {', '.join(listed)}{do}"


def open_list(
    where: str, entries: Sequence[ListedImage], labels: Mapping[str, str] | None = None
) -> ImageSource:
    """Return the images of a list, in its order.

    Parameters
    ----------
    where : str
        The file of the list. Paths in the list are relative to its folder.
    entries : sequence of (str, str or None)
        Path or address of each image, and its label.
    labels : Mapping of str to str, optional
        Labels that replace the labels in the list.

    Raises
    ------
    InputError
        If the list is empty, if it names an image twice, or if none of the labels belongs to an image.
    """
    if not entries:
        raise InputError("The list names no images.", where=where)
    base = where.replace(os.sep, "/").rpartition("/")
    paths = [_whole(path, base[0] + base[1]) for path, _ in entries]
    names = [base_name(path) for path in paths]
    ids = first_unique(names, normal_ids(pa.array([path for path, _ in entries], pa.string())).to_pylist())
    check_ids(ids, where, paths.__getitem__)
    given = [label for _, label in entries]
    labelled = any(label is not None for label in given)
    cuts = list(part_ranges(len(paths)))
    parts = tuple(
        Files(name, "", tuple(paths[a:b]), tuple(given[a:b]), ids=None if ids is names else tuple(ids[a:b]))
        for name, a, b in cuts
    )
    pages = "" if any(map(is_remote, paths)) else pages_note(_some_tiffs("", paths))
    source = ImageSource(where, parts, strict=labelled, notes=(pages,) if pages else ())
    return with_labels(source, labels, [ids[a:b] for _, a, b in cuts])


def list_files(folder: str) -> dict[str, int]:
    """Return the sizes of all files below a folder, keyed by path. Hidden files are ignored.

    The fingerprint of a source includes the sizes, so that a run does not count as complete after broken
    images were repaired. Modification times would be stricter, but they differ between copies. Reading 1.28
    million sizes from a disk takes 5 s, in addition to 1 s for the names. Network disks and buckets send the
    sizes with the names.

    Returns
    -------
    dict of str to int
        Size in bytes of each file by its path relative to the folder; -1 if unknown.

    Raises
    ------
    InputError
        If the folder does not exist, if a folder in it cannot be read, or if links lead in a circle.
    """
    return walk_remote(folder.rstrip("/")) if is_remote(folder) else _walk(Path(folder))


def _walk(root: Path) -> dict[str, int]:
    if not root.exists():
        raise InputError("The folder does not exist.", where=root)
    if not root.is_dir():
        raise InputError("This is not a folder.", where=root, allowed="a folder of images, flat or nested")
    found: dict[str, int] = {}
    folders: list[tuple[str, tuple[_RealFolder, ...]]] = [("", ())]
    walked: Counter[_RealFolder] = Counter()
    while folders:
        below, above = folders.pop()
        entries, here = _entries(root / below)
        _check_links(root / below, here, above, walked)
        for entry in entries:
            # "._x.jpg" beside "x.jpg" is what macOS leaves on foreign disks, and no image.
            if entry.name.startswith("."):
                continue
            if not _is_folder(entry):
                found[below + entry.name] = _size(entry)
            elif not _is_circle(entry):
                folders.append((f"{below}{entry.name}/", (*above, here)))
    return found


_RealFolder = tuple[int, int]
"""The device and the number of a folder, whichever links lead to it."""

_WAYS = 100
"""How often a folder may be walked: 20 folders, each with two links to the next, would be a million."""


def _check_links(
    folder: Path, here: _RealFolder, above: tuple[_RealFolder, ...], walked: Counter[_RealFolder]
) -> None:
    """Raise an error for folders that link to one another: six links would be walked 2^40 times over."""
    walked[here] += 1
    if here in above or walked[here] > _WAYS:
        raise InputError(
            "Folders link to one another in a circle."
            if here in above
            else f"Links lead to a folder in more than {_WAYS} ways.",
            where=folder,
            got=f"a link to {folder.resolve()}",
            do="remove the links",
        )


def _entries(folder: Path) -> tuple[list[os.DirEntry[str]], _RealFolder]:
    try:
        about = folder.stat()
        with os.scandir(folder) as entries:
            return list(entries), (about.st_dev, about.st_ino)
    except OSError as error:
        raise InputError(
            f"A folder cannot be read: {error.strerror or error}.", where=folder, do="allow reading it"
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:  # a link to nowhere
        return -1


def _is_circle(entry: os.DirEntry[str]) -> bool:
    """Return whether a folder links to one of its parents: it would be walked 40 times."""
    path = Path(entry.path)
    return entry.is_symlink() and path.parent.resolve().is_relative_to(path.resolve())


def _no_images(folder: str, files: Collection[str]) -> InputError:
    shards = sorted(
        {ending for ending in (".tar", ".parquet", ".zip", ".tgz") for p in files if p.endswith(ending)}
    )
    do = f"pass the files themselves, as in {folder.rstrip('/')}/*{shards[0]}" if shards else None
    if ".zip" in shards:
        do = "unpack the .zip files"
    if any(path.lower().endswith(tuple(_DICOM)) for path in files):
        do = _CONVERT_DICOM
    return InputError(
        "The folder contains no images.",
        where=folder,
        got=f"{len(files):,} other files, such as {min(files)}" if files else None,
        allowed="files ending in " + ", ".join(EXTENSIONS),
        do=do,
    )


def _order(paths: Sequence[str]) -> Callable[[str], str]:
    """Return the sort key of paths: by folder, and numerically if all folders of a level are numbers."""
    # Computed for each set of folder names, not for each image.
    folders = {path.rpartition("/")[0] for path in paths}
    levels = zip_longest(*(folder.split("/") for folder in folders if folder), fillvalue="0")
    by_number = [all(name.isascii() and name.isdigit() for name in level) for level in levels]
    keys = {folder: _key(folder, by_number) for folder in folders}
    # No name holds "\0", and it sorts before all other characters.
    return lambda path: keys[path.rpartition("/")[0]] + path.rpartition("/")[2]


def _key(folder: str, by_number: Sequence[bool]) -> str:
    names = folder.split("/") if folder else []
    padded = (name.zfill(20) if number else name for name, number in zip(names, by_number, strict=False))
    return "".join(f"{name}\0" for name in padded)


def _check_text(paths: Sequence[str], where: object) -> None:
    # Tables hold UTF-8: a name in another encoding would end the run when it is written.
    if not is_utf8("\n".join(paths)):
        bad = next(path for path in paths if not is_utf8(path))
        raise InputError(
            "The name of a file is not UTF-8.",
            where=where,
            got=ascii(bad)[1:-1],
            allowed="UTF-8",
            do="rename it",
        )


def _whole(path: str, base: str) -> str:
    return path if is_remote(path) or os.path.isabs(path) else f"{base}{path}"  # noqa: PTH117
