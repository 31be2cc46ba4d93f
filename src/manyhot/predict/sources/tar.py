"""Tar archives and WebDataset shards: indexed if random access is possible, else read as a stream."""

from __future__ import annotations

import bz2
import functools
import gzip
import itertools
import lzma
import os
import tarfile
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Self, cast

from manyhot.errors import InputError
from manyhot.predict.sources.image_files import folder_label
from manyhot.predict.sources.image_labels import base_name, with_labels
from manyhot.predict.sources.remote import (
    expand,
    first_line,
    is_hidden,
    is_remote,
    lost,
    open_stream,
    version_of,
    without_query,
)
from manyhot.predict.sources.source import (
    EXTENSIONS,
    ImageReader,
    ImageSource,
    Item,
    SourcePart,
    check_ids,
    failing_reader,
    part_names,
    part_ranges,
    reader_of,
    short_hash,
    too_large,
)
from manyhot.predict.sources.tar_labels import (
    Member,
    MembersBeside,
    class_of_archive,
    key_of_label_sets,
    label_beside,
    stem_of,
)
from manyhot.tables.image_ids import first_unique

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""Suffixes of archives."""


_LABEL_BYTES = 1 << 20
_MOST_HELD, _MEMBER_BYTES = 1 << 26, 1 << 12
"""Bytes of a stream that are held for one sample, and what a member takes beside its content."""

_HELD_OPEN = 32
"""Archives that are kept open. Each process of a training run reads half a dozen shards at a time."""

_LINK, _SPARSE = -1, -2

_UNREAD = {
    _LINK: "a link within the archive, which is not followed",
    _SPARSE: "a sparse file (tar --sparse), which is not read",
}

_CUT_OFF = ("unexpected end", "empty header", "truncated")
_BROKEN = (tarfile.TarError, EOFError, OSError, lzma.LZMAError, ValueError)


def is_tar(path: str) -> bool:
    """Return whether a file has the suffix of an archive."""
    return without_query(path).lower().endswith(ENDINGS)


@dataclass(frozen=True, slots=True)
class _Image:
    """An image in an archive, with the offset of its bytes, or the bytes if they were read."""

    path: str
    offset: int
    size: int
    data: bytes | None
    label: str | None
    labelled: bool


@dataclass(frozen=True)
class TarSlice:
    """A part: images of an archive, with random access.

    Attributes
    ----------
    name : str
    archive : str
        Path of the archive.
    paths : tuple of str
        Paths of the members.
    offsets, sizes : array of int
        Offset and size of each image in the archive, in bytes.
    labels : tuple of str or None
    ids : tuple of str, optional
        Id of each image; by default its base name.
    """

    name: str
    archive: str
    paths: tuple[str, ...]
    offsets: array[int]
    sizes: array[int]
    labels: tuple[str | None, ...]
    ids: tuple[str, ...] | None = None

    @property
    def n(self) -> int:
        """The number of images."""
        return len(self.paths)

    def items(self) -> Iterator[tuple[Item, ImageReader]]:
        """Yield each image with a function that reads it."""
        rows = zip(self.paths, self.labels, self.offsets, self.sizes, strict=True)
        for i, (path, label, offset, size) in enumerate(rows):
            image_id = self.ids[i] if self.ids else base_name(path)
            yield Item(image_id, f"{self.archive}/{path}", label), self._opener(offset, size)

    def _opener(self, offset: int, size: int) -> ImageReader:
        if reason := _unread(offset, size):
            return failing_reader(reason)
        return functools.partial(_read_at, self.archive, offset, size)

    def key(self) -> str:
        """Return a key that identifies the images of this part."""
        rows = zip(self.paths, self.offsets, self.sizes, self.labels, strict=True)
        return short_hash(f"{path} {offset} {size} {label}" for path, offset, size, label in rows)


@dataclass(frozen=True)
class TarStream:
    """A part: a whole archive, read from its start.

    Attributes
    ----------
    name : str
    archive : str
        Path or address.
    version : str
        Differs if its contents differ.
    """

    name: str
    archive: str
    version: str

    @property
    def n(self) -> None:
        """Unknown before reading."""
        return

    def items(self) -> Iterator[tuple[Item, ImageReader]]:
        """Yield each image with a function that reads it."""
        for image in _streamed(self.archive):
            reason = _unread(image.offset, image.size)
            data = image.data or b""
            yield (
                Item(base_name(image.path), f"{self.archive}/{image.path}", image.label),
                failing_reader(reason) if reason else reader_of(data),
            )

    def key(self) -> str:
        """Return a key that identifies the version of the archive."""
        return f"{without_query(self.archive).rpartition('/')[2]} {self.version}"


def open_tars(
    where: str, labels: Mapping[str, str] | None = None, shards: Sequence[str] | None = None
) -> ImageSource:
    """List the images of tar archives.

    Local uncompressed archives are indexed by their headers for random access. Other archives are read as
    streams, with one part per archive. The label of an image is in the ``.cls`` or ``.json`` file of its
    sample, as in WebDataset, or is the name of its folder.

    Parameters
    ----------
    where : str
        An archive, or a pattern such as ``shard-{000..127}.tar``.
    labels : Mapping of str to str, optional
        Label of each image by id.
    shards : sequence of str, optional
        The archives, if they are known.

    Raises
    ------
    InputError
        If an archive does not exist, is truncated or damaged, or contains no image.
    """
    found = expand(where) if shards is None else list(shards)
    if all(path.lower().endswith(".tar") and not is_remote(path) for path in found):
        return _indexed(where, found, labels)
    parts = tuple(
        TarStream(name, path, version_of(path))
        for name, path in zip(part_names(len(found)), found, strict=True)
    )
    first = next(_streamed(found[0]), None)
    if first is None:
        raise _no_images(found[0])
    return with_labels(ImageSource(where, parts, strict=first.labelled), labels)


def _indexed(where: str, shards: Sequence[str], labels: Mapping[str, str] | None) -> ImageSource:
    images = [(path, list(_index(path))) for path in shards]
    if not any(found for _, found in images):
        raise _no_images(where)
    places = [(path, image.path) for path, found in images for image in found]
    names = [base_name(inner) for _, inner in places]
    # Shards may name their images alike: 000.tar/1.jpg and 001.tar/1.jpg.
    in_shards = [f"{path.rpartition('/')[2]}/{inner}" for path, inner in places]
    every = first_unique(names, [inner for _, inner in places], in_shards)
    check_ids(every, where, lambda i: "/".join(places[i]))
    slices = [(path, found[a:b]) for path, found in images for _, a, b in part_ranges(len(found))]
    following = iter(every)
    ids = [list(itertools.islice(following, len(found))) for _, found in slices]
    parts: list[SourcePart] = [
        _slice(name, path, found, None if every is names else tuple(own))
        for name, (path, found), own in zip(part_names(len(slices)), slices, ids, strict=True)
    ]
    labelled = any(image.labelled for _, found in images for image in found)
    return with_labels(ImageSource(where, tuple(parts), strict=labelled), labels, ids)


def _slice(name: str, path: str, images: Sequence[_Image], ids: tuple[str, ...] | None) -> TarSlice:
    return TarSlice(
        name,
        path,
        tuple(image.path for image in images),
        array("q", [image.offset for image in images]),
        array("q", [image.size for image in images]),
        tuple(image.label for image in images),
        ids,
    )


def _unread(offset: int, size: int) -> str:
    return _UNREAD.get(offset) or too_large(size)


def _read_at(archive: str, offset: int, size: int) -> bytes:
    try:
        now = Path(archive).stat()
        opened = _Opened(archive, now.st_ino, now.st_mtime_ns, now.st_size)
        data = os.pread(opened.descriptor, size, offset)
    except FileNotFoundError as error:
        raise lost(archive, error) from error
    if len(data) < size:
        raise OSError("the archive has become shorter")
    return data


@functools.lru_cache(maxsize=_HELD_OPEN)
class _Opened:
    """An archive, opened once: images of shards are read in random order, one by one.

    `version` distinguishes it from a later file of the same name.
    """

    def __init__(self, archive: str, *version: int) -> None:
        self.descriptor = os.open(archive, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


def _index(path: str) -> Iterator[_Image]:
    try:
        file = Path(path).open("rb")  # noqa: SIM115
    except FileNotFoundError as error:
        raise InputError("The file does not exist.", where=path) from error
    except OSError as error:
        raise InputError(f"The file cannot be read: {first_line(error)}.", where=path) from error
    with file:
        yield from _images(path, file, "r:")


def _streamed(path: str) -> Iterator[_Image]:
    with open_stream(path) as raw, _decompressed(path, raw) as file:
        yield from _images(path, file, "r|")


def label_sets_beside(archive: str) -> str:
    """Return the key of (unread) label sets in the first JSON file of an archive; empty without any."""
    with (
        open_stream(archive) as raw,
        _decompressed(archive, raw) as file,
        tarfile.open(fileobj=file, mode="r|", encoding="utf-8", errors="replace") as tar,
    ):
        for member, data in _members(tar, with_data=False):
            if data is not None and member.name.lower().endswith(".json"):
                return key_of_label_sets(data)
    return ""


def _decompressed(path: str, raw: BinaryIO) -> IO[bytes]:
    ending = without_query(path).lower().rpartition(".")[2]
    if ending in ("gz", "tgz"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    if ending == "bz2":
        return bz2.BZ2File(raw)
    if ending == "xz":
        return lzma.LZMAFile(raw)
    if ending == "zst":
        import pyarrow as pa

        stream: IO[bytes] = pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")
        return stream
    return raw


class _Header(tarfile.TarInfo):
    """A header whose damage or truncation is an error: tarfile takes both for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if str(error) == "end of file header":
                raise
            raise tarfile.ReadError(str(error)) from error


def _images(path: str, file: IO[bytes], mode: str) -> Iterator[_Image]:
    """Yield the images of an archive in order; with their bytes if it is a stream."""
    count = 0
    last = ""
    try:
        # Bytes that are not UTF-8 are replaced: tables could not hold them.
        with tarfile.open(
            fileobj=file, mode=mode, tarinfo=_Header, encoding="utf-8", errors="replace"
        ) as tar:  # type: ignore[call-overload]
            most = _MOST_HELD if mode == "r|" else 0
            for name, members in itertools.groupby(
                _members(tar, mode == "r|"), key=lambda found: _sample(found[0].name)
            ):
                for image in _of_samples(path, name, _pieces(members, most)):
                    count, last = count + 1, image.path
                    yield image
            if mode == "r:":
                file.seek(tar.offset)
            _check_end(path, file)
    except _BROKEN as error:
        if isinstance(error, InputError):
            raise
        raise _damaged(path, error, count, last) from error


def _check_end(path: str, file: IO[bytes]) -> None:
    """Raise an error if archives are concatenated: readers silently stop at the end of the first."""
    if file.read(1 << 20).lstrip(b"\0")[257:262] == b"ustar":
        raise InputError(
            "The file contains several concatenated archives.",
            where=path,
            do="pass them one by one, or join them with tar --concatenate",
        )


def _members(tar: tarfile.TarFile, with_data: bool) -> Iterator[Member]:
    """Yield the relevant members, with their bytes if these are needed now or cannot be read later."""
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # it would come to hold all headers, 1 kB each
        name = member.name.removeprefix("./")
        if not (member.isreg() or member.islnk() or member.issym()) or is_hidden(name):
            continue
        member.name = name
        small = name.lower().endswith((".cls", ".json")) and member.size <= _LABEL_BYTES
        wanted = small or (with_data and name.lower().endswith(EXTENSIONS) and not too_large(member.size))
        data = tar.extractfile(member) if wanted and member.isreg() else None
        yield member, _whole(data.read(), member) if data else None


def _whole(data: bytes, member: tarfile.TarInfo) -> bytes:
    if len(data) < member.size:
        raise tarfile.ReadError("unexpected end of data")
    return data


def _sample(name: str) -> str:
    """Return the common name of the members of a sample: the path up to the first dot of the base name."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _pieces(members: Iterable[Member], most: int) -> Iterator[list[Member]]:
    """Yield the members of a sample in pieces, between names: whole, or at most about `most` bytes at once.

    The frames of a video, ``clip.000001.jpg`` and so on, have the name of one sample, and the bytes of a
    stream are held until the sample ends.
    """
    piece: list[Member] = []
    held = 0
    for member, data in members:
        if most and held > most and stem_of(piece[-1]) != stem_of((member, data)):
            yield piece
            piece, held = [], 0
        piece.append((member, data))
        held += len(data or b"") + _MEMBER_BYTES
    yield piece


def _of_samples(archive: str, name: str, pieces: Iterable[list[Member]]) -> Iterator[_Image]:
    """Yield the images in the pieces of a sample. A label of the whole sample is in the first."""
    shared: list[Member] = []
    plain = False
    for i, piece in enumerate(pieces):
        own = [m for m in piece if stem_of(m) == name and not _is_image(m)]
        here = [m for m in piece if not _is_image(m) or not plain or _is_plain(m)]
        has_images = any(map(_is_image, here))
        late: list[Member] = [] if not i else own if has_images else here
        if label_beside(archive, late) is not None:
            raise _alone(archive, late[0][0].name)
        if has_images or not i:
            yield from _of_sample(archive, shared + here)
        shared = shared or own
        plain = plain or any(_is_plain(m) for m in piece if _is_image(m) and shared)


def _is_image(member: Member) -> bool:
    return member[0].name.lower().endswith(EXTENSIONS)


def _is_plain(member: Member) -> bool:
    return member[0].name.rpartition("/")[2].count(".") == 1


def _alone(archive: str, label: str) -> InputError:
    return InputError(
        "A label in the archive has no image next to it.",
        where=archive,
        got=label,
        allowed="the members of each sample next to each other, such as 000.jpg and 000.cls",
        do="create the archive again with sorted names: tar --sort=name",
    )


def _of_sample(archive: str, members: Sequence[Member]) -> Iterator[_Image]:
    images = [m for m in members if _is_image(m)]
    others = MembersBeside(m for m in members if not _is_image(m))
    first = "" if images or not others.all else others.all[0][0].name
    if first.endswith(".cls") and label_beside(archive, others.all) is not None:
        raise _alone(archive, first)
    # Beside 7.jpg and 7.cls, 7.mask.png is not an image of its own; without them, photo.1.jpg is a name.
    plain = [m for m in images if _is_plain(m)] if others.all else []
    for member, data in plain or images:
        label = label_beside(archive, others.of(member.name))
        own = folder_label(member.name) or class_of_archive(archive)
        yield _Image(
            member.name,
            _offset(member),
            member.size,
            data,
            own if label is None else label,
            label is not None,
        )


def _offset(member: tarfile.TarInfo) -> int:
    if not member.isreg():
        return _LINK
    return _SPARSE if member.issparse() else member.offset_data


def _no_images(where: str) -> InputError:
    return InputError(
        "The archive contains no images.", where=where, allowed="files ending in " + ", ".join(EXTENSIONS)
    )


def _damaged(path: str, error: Exception, count: int, last: str) -> InputError:
    said = first_line(error)
    cut_off = isinstance(error, EOFError) or any(word in said.lower() for word in _CUT_OFF)
    if count == 0 and not cut_off:
        return InputError("The file is not a tar archive.", where=path, got=said, allowed=", ".join(ENDINGS))
    read = f"{count:,} images" + (f", the last of them {last}" if last else "")
    return InputError(
        "The archive is truncated." if cut_off else "The archive is damaged.",
        where=path,
        got=f"{said} after {read}",
        do="download or create it again",
    )
