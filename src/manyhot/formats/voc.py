"""PASCAL VOC's folders: XML with boxes, and masks where there are some."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa

from manyhot.classes import ClassList, from_keys
from manyhot.errors import InputError
from manyhot.formats.columns import FOLDER
from manyhot.formats.objects import made
from manyhot.registry import register
from manyhot.tables import Objects

VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""The classes of PASCAL VOC, in the order of its masks."""

_LARGEST = 1 << 20
# Bytes of an annotation; VOC's largest has 20,000.

Row = tuple[str, str, float, float, float, float, bool]


def _matches(path: Path) -> bool:
    return path.is_dir() and (path / "Annotations").is_dir()


@register("format", "voc-folder", holds="objects", suffixes=(FOLDER,), matches=_matches)
def read_voc(path: Path, *, classes: ClassList | None) -> Objects:
    """A folder with ``Annotations/*.xml`` and, where there are any, ``SegmentationClass/*.png``.

    Difficult objects are ignored. VOC's boxes count pixels from 1 and hold both ends.
    """
    files = sorted((path / "Annotations").glob("*.xml"))
    rows = [row for file in files for row in _read(file)]
    found = list(dict.fromkeys(row[1] for row in rows))
    own = VOC if set(found) <= set(VOC) else tuple(sorted(found))
    known = classes or from_keys(own or VOC, path.name)
    columns = list(zip(*rows, strict=True)) or [()] * 7
    arrays = {
        "image_id": pa.array(columns[0], pa.string()),
        "class_id": pa.array([known.index(key) for key in columns[1]], pa.int32()),
        **{n: pa.array(c, pa.float32()) for n, c in zip(("x1", "y1", "x2", "y2"), columns[2:6], strict=True)},
        "ignore": pa.array(columns[6], pa.bool_()),
    }
    masks = {p.stem: p for p in sorted((path / "SegmentationClass").glob("*.png"))}
    # Pixels hold the numbers of VOC's own classes: of another list masks say nothing.
    semantic = {i: masks[Path(i).stem] for i in columns[0] if Path(i).stem in masks}
    return made(pa.table(arrays), known, path, semantic=semantic if known.keys == VOC else {})


def _read(file: Path) -> list[Row]:
    try:
        if file.stat().st_size > _LARGEST:
            raise ValueError(f"{file.stat().st_size:,} bytes")
        text = file.read_text(encoding="utf-8")
        if "<!" in text:  # entities can grow without end; VOC has none
            raise ValueError("a declaration")
        root = ElementTree.fromstring(text)  # noqa: S314
        width, height = (float(root.findtext(f"size/{side}", "")) for side in ("width", "height"))
        name = Path(root.findtext("filename", f"{file.stem}.jpg").replace("\\", "/")).name
        return [_row(o, name, width, height) for o in root.iter("object")]
    except (ElementTree.ParseError, ValueError, ZeroDivisionError) as error:
        raise InputError("The annotation is not of VOC's form.", where=file, got=error) from error


def _row(found: ElementTree.Element, name: str, width: float, height: float) -> Row:
    left, top, right, bottom = (
        float(found.findtext(f"bndbox/{end}", "")) for end in ("xmin", "ymin", "xmax", "ymax")
    )
    ignored = found.findtext("difficult", "0").strip() not in ("0", "")
    key = found.findtext("name", "").strip()
    return name, key, (left - 1) / width, (top - 1) / height, right / width, bottom / height, ignored
