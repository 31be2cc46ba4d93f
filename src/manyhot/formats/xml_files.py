"""XML of other tools, without document types and entities, which can grow without end."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from manyhot.errors import InputError

_LARGEST = 1 << 20


def parse_xml(path: Path, refused: str) -> Element:
    """Parse a small XML file.

    Parameters
    ----------
    path : Path
    refused : str
        The first sentence of the error.

    Raises
    ------
    InputError
        If the file is larger than 1 MB, is not XML, or contains a document type, an entity or CDATA.
    """
    try:
        if not path.is_file():  # a pipe never ends, and the size of a device is 0
            raise ValueError("not a regular file")
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"{path.stat().st_size:,} bytes")
        text = _without_comments(path.read_text(encoding="utf-8-sig"))
        if "<!" in text:
            raise ValueError("a declaration")
        return ElementTree.fromstring(text)  # noqa: S314
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(refused, where=path, got=error) from error


def _without_comments(text: str) -> str:
    first, *rest = text.split("<!--")
    parts = [part.partition("-->") for part in rest]
    return first + "".join(after if end else "<!" for _, end, after in parts)
