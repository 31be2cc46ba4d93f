"""What readers and writers of other packages must return."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa

from manyhot.classes import ClassList
from manyhot.formats.writing import Saved
from manyhot.plug_ins import ReturnError
from manyhot.registry import Entry
from manyhot.tables import Golden, Images, Labels, Objects, Predictions, Results, Votes

TYPES = {
    "labels": Labels,
    "predictions": Predictions,
    "images": Images,
    "classes": ClassList,
    "results": Results,
    "findings": pa.Table,
    "proposals": pa.Table,
    "votes": Votes,
    "golden": Golden,
    "objects": Objects,
}
"""What a reader returns, by what its format holds."""


def check_content(entry: Entry, content: Any, arguments: tuple[Any, ...]) -> Any:
    """Check what a reader returned, and record the file as the source of predictions.

    Raises
    ------
    ReturnError
    """
    expected = TYPES[entry.about["holds"]]
    if not isinstance(content, expected):
        raise ReturnError(
            type(content).__name__, f"{expected.__name__}, because it holds {entry.about['holds']}"
        )
    if isinstance(content, Predictions) and not content.source:
        return replace(content, source=str(arguments[0]))
    return content


def check_saved(entry: Entry, saved: Any, arguments: tuple[Any, ...]) -> Saved:
    """Check what a writer returned.

    Raises
    ------
    ReturnError
    """
    if not isinstance(saved, Saved):
        raise ReturnError(type(saved).__name__, "Saved((path,))")
    return saved
