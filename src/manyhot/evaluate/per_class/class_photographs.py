"""Photographs of the classes with the lowest average precision: predicted wrongly, and missed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.core.array_types import Ints
from manyhot.core.difficulty import extreme_images
from manyhot.core.sets import Case
from manyhot.errors import InputError
from manyhot.evaluate.gallery import find_photographs
from manyhot.evaluate.per_class.class_tables import worst_first
from manyhot.files import write_text
from manyhot.report.chapter import Album, Strip, StripPicture, percent
from manyhot.report.page import Anchors
from manyhot.report.pictures import load_pillow, thumbnail
from manyhot.report.text import counted
from manyhot.tables import Images, Row

PHOTOGRAPHED_CLASSES = 3
"""Number of classes with photographs."""

PHOTOGRAPHS = 4
"""Maximum number of photographs in a row."""

_SIDE = 192
"""Pixels of the long side of a photograph, which a page shows half as large: about 7 kB as JPEG."""

_ROWS = ("Not in the label set, highest scores", "In the label set, lowest scores")


def class_albums(images: Images, case: Case, image_id: Sequence[str], rows: Sequence[Row]) -> list[Album]:
    """Return an album of each of the worst classes of a model.

    Parameters
    ----------
    images : Images
        Table with the locations of photographs.
    case : Case
        The scores of the model.
    image_id : sequence of str
        The images of the case.
    rows : sequence of Row
        The rows of ``class_results`` of the model.

    Raises
    ------
    MissingExtraError
        If Pillow is not installed.
    """
    worst = [r for r in worst_first(rows) if r["ap"] == r["ap"]][:PHOTOGRAPHED_CLASSES]
    chosen = [extreme_images(case, r["class_id"], PHOTOGRAPHS) for r in worst]
    small = _thumbnails(images, {image_id[i] for of in chosen for ids in of for i in ids})
    anchors = Anchors()
    albums = []
    for r, of in zip(worst, chosen, strict=True):
        strips = tuple(
            Strip(title, tuple(_pictures(case, r["class_id"], ids, image_id, small)))
            for title, ids in zip(_ROWS, of, strict=True)
            if len(ids)
        )
        text = f"{counted(r['n_positives'], 'image')}, AP {percent(r['ap'], 1)}"
        albums.append(Album(anchors("photographs", r["key"]), r["name"], text, strips))
    return [album for album in albums if any(p.uri for s in album.strips for p in s.pictures)]


def _pictures(
    case: Case, class_id: int, rows: Ints, image_id: Sequence[str], small: dict[str, str]
) -> Iterator[StripPicture]:
    assert case.scores is not None
    for i in rows:
        yield StripPicture(small.get(image_id[i], ""), image_id[i], f"{case.scores[i, class_id]:.3g}")


def _thumbnails(images: Images, ids: set[str]) -> dict[str, str]:
    """Return small photographs as data URIs, by image; those that cannot be read are left out."""
    pillow = load_pillow()
    table = images.table.filter(pc.is_in(images.image_id, pa.array(sorted(ids), pa.string())))
    names, found = table["image_id"].to_pylist(), dict[str, str]()
    for i, read in find_photographs(table["uri"].to_pylist()):
        small, _ = thumbnail(pillow, read, _SIDE)
        found |= {names[i]: small.uri} if small is not None else {}
    return found


def write_albums(albums: Sequence[Album], path: Path) -> list[Path]:
    """Write albums to a JSON file, if there are any."""
    if not albums:
        return []
    write_text(path, json.dumps([asdict(album) for album in albums], ensure_ascii=False))
    return [path]


def read_albums(path: Path) -> tuple[Album, ...]:
    """Read the albums that `write_albums` wrote; empty if there is no file.

    Raises
    ------
    InputError
        If the file is broken.
    """
    if not path.is_file():
        return ()
    try:
        return tuple(_read_album(fields) for fields in json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            "The file does not contain the photographs of classes.",
            where=path,
            got=str(error).partition("\n")[0],
            do="run manyhot evaluate again, or delete the file to get a report without them",
        ) from error


def _read_album(fields: dict[str, Any]) -> Album:
    strips = ((s["title"], tuple(StripPicture(**p) for p in s["pictures"])) for s in fields["strips"])
    return Album(**fields | {"strips": tuple(Strip(title, pictures) for title, pictures in strips)})
