"""Statistics of photographs, read from each once, and kept beside the images table for other models."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc
from pyarrow import parquet as pq

from manyhot.core.image_statistics import find_frame, letter_density, light_and_colour
from manyhot.core.repeated_patterns import THUMBNAIL_SIDE
from manyhot.core.threads import cores
from manyhot.data.data_sets import Source
from manyhot.data.inputs import LabelsLike, Reading
from manyhot.errors import ManyhotError
from manyhot.evaluate.gallery import find_photographs
from manyhot.extras import required
from manyhot.files import atomic_write, local_path
from manyhot.formats.writing import images_file
from manyhot.report.pictures import Opener, decoded, load_pillow
from manyhot.run import QUIET, Run

LONGEST = 256
"""Pixels of the longer side at which photographs are measured; larger ones are reduced."""

STATISTICS_FOLDER = "statistics"
"""The folder beside the images table in which statistics are kept."""

_VERSION = "1"  # of what is measured
_PART = 2048  # images in a file, which is what an interrupted run loses
_CAMERA, _SOFTWARE = 0x0110, 0x0131  # tags of EXIF

STATISTICS = {
    "skipped": "the reason why the photograph was not measured; null if it was measured",
    "width": "width of the file's image, in pixels",
    "height": "height of the file's image, in pixels",
    "bytes_per_pixel": "size of the file divided by the number of pixels",
    "file_format": "format of the file, such as JPEG",
    "camera": "camera model by EXIF",
    "software": "software by EXIF",
    "brightness": "mean brightness (BT.601), from 0 to 1",
    "contrast": "standard deviation of the brightness, from 0 to 1",
    "saturation": "mean difference between a pixel's largest and smallest colour channel, from 0 to 1",
    "sharpness": "decimal logarithm of the Laplacian's variance divided by the variance of the brightness",
    "border_brightness": "mean brightness of the border, whose width is a tenth of the short side",
    "blue": "mean colour difference Cb: positive is blue, negative is yellow",
    "red": "mean colour difference Cr: positive is red, negative is green or cyan",
    "border_blue": "the same as blue, for the border",
    "border_red": "the same as red, for the border",
    "letters": "density of strong alternating steps between light and dark, in a window the size of a word",
    "frame": "how clear a frame of one colour is, from 0 to 1",
    "frame_width": "its width, relative to the short side",
    "frame_r": "its red, from 0 to 255",
    "frame_g": "its green, from 0 to 255",
    "frame_b": "its blue, from 0 to 255",
}
"""What is measured of each photograph: columns of the table ``images`` that `diagnose_groups` writes."""

_TYPES = {
    **dict.fromkeys(("width", "height"), pa.int32()),
    **dict.fromkeys(("skipped", "file_format", "camera", "software"), pa.string()),
}
_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("version", pa.string()),
        *((name, _TYPES.get(name, pa.float64())) for name in STATISTICS),
        ("thumbnail", pa.binary()),
    ]
)


@dataclass(frozen=True, eq=False)
class MeasuredImages:
    """The statistics of images, one row per image.

    Attributes
    ----------
    table : pyarrow.Table
        One row per image, in the order of the images.
    thumbnails : ndarray of uint8, shape (n, THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3)
        Square thumbnails; black if a photograph could not be read.
    """

    table: pa.Table
    thumbnails: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.table)

    def values(self, name: str) -> npt.NDArray[np.float64]:
        """Return a column of numbers, which are NaN for photographs that could not be read."""
        column = pc.fill_null(self.table[name].cast(pa.float64()), float("nan"))
        return np.asarray(column.to_numpy())

    @property
    def is_measured(self) -> npt.NDArray[np.bool_]:
        """Whether each photograph could be read."""
        return np.asarray(pc.is_null(self.table["skipped"]).to_numpy(zero_copy_only=False))


def measure_images(
    image_id: pa.Array, uris: Sequence[str | None], cache: Path | None, run: Run = QUIET
) -> MeasuredImages:
    """Return the statistics of photographs. Photographs that an earlier run measured are not read again.

    Parameters
    ----------
    uris : sequence of str or None
        Location of each photograph.
    cache : Path, optional
        Folder of the images table; statistics are stored in its subfolder ``statistics``. If None, they are
        not stored. An interrupted run loses the statistics of at most the last 2,048 images.

    Raises
    ------
    MissingExtraError
        If Pillow is not installed.
    OutputError
        If the folder cannot be written to.
    """
    folder = None if cache is None else cache / STATISTICS_FOLDER
    versions = _versions(uris)
    known = _read(folder)
    row, ids = _rows_by_version(known), image_id.to_pylist()
    left = [i for i, key in enumerate(zip(ids, versions, strict=True)) if key not in row]
    parts = [known]
    for part in _measured(ids, uris, versions, left, run):
        parts.append(part)
        if folder is not None:
            _keep(part, folder)
    table = pa.concat_tables(parts)
    row = _rows_by_version(table)
    table = table.take(pa.array([row[key] for key in zip(ids, versions, strict=True)], pa.int64()))
    return MeasuredImages(table, _thumbnails(table["thumbnail"]))


def _rows_by_version(table: pa.Table) -> dict[tuple[str, str], int]:
    keys = zip(table["image_id"].to_pylist(), table["version"].to_pylist(), strict=True)
    return {key: i for i, key in enumerate(keys)}


def _thumbnails(column: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    black = bytes(3 * THUMBNAIL_SIDE**2)
    found = b"".join(black if data is None else data for data in column.to_pylist())
    return np.frombuffer(found, np.uint8).reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3)


def _versions(uris: Sequence[str | None]) -> list[str]:
    """Return a text for each photograph that changes if its file does, or what is measured."""
    seen: dict[str, str] = {}
    return [_VERSION if uri is None else f"{_VERSION} {_file_version(uri, seen)}" for uri in uris]


def _file_version(uri: str, seen: dict[str, str]) -> str:
    path = local_path(uri.rpartition("#")[0] or uri)
    paths = () if path is None else (path, *path.parents)
    place = next((p for p in paths if str(p) in seen or p.is_file()), None)
    if place is None:
        return uri
    if str(place) not in seen:
        stat = place.stat()
        seen[str(place)] = f"{stat.st_size} {stat.st_mtime_ns}"
    return seen[str(place)]


def _read(folder: Path | None) -> pa.Table:
    """Return what earlier runs measured; a file that is broken or of another version is ignored."""
    parts = [_SCHEMA.empty_table()]
    for path in sorted(folder.glob("*.parquet")) if folder is not None and folder.is_dir() else ():
        try:
            table = pq.read_table(path)
        except (pa.ArrowInvalid, OSError):
            continue
        if table.schema.equals(_SCHEMA):
            parts.append(table)
    return pa.concat_tables(parts)


def _keep(part: pa.Table, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    number = next(i for i in itertools.count() if not (folder / f"{i:05}.parquet").exists())
    with atomic_write(folder / f"{number:05}.parquet") as path:
        pq.write_table(part, path)


def _measured(
    ids: Sequence[str], uris: Sequence[str | None], versions: Sequence[str], left: Sequence[int], run: Run
) -> Iterator[pa.Table]:
    """Yield the statistics of the images that are left, part by part."""
    if not left:
        return
    required("PIL.Image", "Measuring photographs", '"manyhot[report]"')
    pillow = load_pillow()
    photographs = find_photographs([uris[i] for i in left])
    done = 0
    with ThreadPoolExecutor(cores()) as pool:
        while batch := list(itertools.islice(photographs, _PART)):
            rows = pool.map(lambda found: measure_photograph(pillow, found[1]), batch)
            columns = [
                {"image_id": ids[left[at]], "version": versions[left[at]], **row}
                for (at, _), row in zip(batch, rows, strict=True)
            ]
            yield pa.Table.from_pylist(columns, _SCHEMA)
            done += len(batch)
            if run.on_progress:
                run.on_progress("measuring photographs", done, len(left))


def measure_photograph(pillow: Any, read: Opener) -> dict[str, Any]:
    """Return the statistics of a photograph, or the reason why there are none."""
    try:
        data = read()
    except OSError as error:
        return {"skipped": f"cannot be read: {error.strerror}" if error.strerror else str(error)}
    except ManyhotError as error:
        return {"skipped": error.what.rstrip(".")}
    small, reason = decoded(pillow, lambda: data, LONGEST, windowed=False)
    if small is None:
        return {"skipped": reason}
    pixels = np.asarray(small)
    if min(pixels.shape[:2]) < 8:
        return {"skipped": "less than 8 pixels high or wide"}
    frame = find_frame(pixels)
    return {
        **_header(pillow, data),
        **light_and_colour(pixels),
        "letters": letter_density(pixels),
        **{"frame": frame.score, "frame_width": frame.width},
        **dict(zip(("frame_r", "frame_g", "frame_b"), frame.colour, strict=True)),
        "thumbnail": small.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), pillow.Image.Resampling.BOX).tobytes(),
    }


def _header(pillow: Any, data: bytes) -> dict[str, Any]:
    """Return what the file says about itself."""
    with pillow.Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        exif = image.getexif()
        return {
            "width": width,
            "height": height,
            "bytes_per_pixel": len(data) / (width * height),
            "file_format": image.format,
            "camera": _text(exif.get(_CAMERA)),
            "software": _text(exif.get(_SOFTWARE)),
        }


def _text(value: object) -> str | None:
    return str(value).strip("\x00 ") or None if isinstance(value, str) else None


def statistics_place(labels: LabelsLike, source: Source, reading: Reading) -> Path | None:
    """Return the folder of the images table, in which statistics are kept; None if it is in memory."""
    if isinstance(reading.images, str | os.PathLike):
        return images_file(reading.images).parent
    if source.campaign is not None:
        return source.campaign.folder
    is_folder = isinstance(labels, str | os.PathLike) and (Path(labels) / "images.parquet").is_file()
    return Path(labels) if is_folder else None
