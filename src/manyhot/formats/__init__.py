"""Foreign files to our tables and back, one file a format.

A format is a registered reader with three facts about it: what it `holds` (labels, predictions or images),
the `suffixes` of its files, and whether a given file `matches`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from manyhot import registry
from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError
from manyhot.tables import Images, Labels, Predictions

HOLDS = ("labels", "predictions", "images", "classes")

PathLike = str | os.PathLike[str]


def read_labels(path: PathLike, *, classes: ClassList | None = None, format: str | None = None) -> Labels:
    """Read label sets from any registered format.

    Parameters
    ----------
    path : path-like
    classes : ClassList, optional
        The class list that the file is over. By default what the file tells; else ``imagenet1k`` is assumed
        for keys, names and the number of classes, and nothing is claimed about which list it is.
    format : str, optional
        A registered format; found out from the file by default.

    Raises
    ------
    InputError
        If the file is absent, truncated, of no known format, or its content breaks the labels table.
    """
    labels = _read(path, "labels", format, classes=classes)
    assert isinstance(labels, Labels)
    return labels


def read_images(path: PathLike, *, classes: ClassList | None = None, format: str | None = None) -> Images:
    """Read an images table, or the row order of predictions: data-set JSON, CSV, Parquet or a list of ids.

    Raises
    ------
    InputError
        As in `read_labels`.
    """
    images = _read(path, "images", format, classes=classes)
    assert isinstance(images, Images)
    return images


def read_predictions(
    path: PathLike,
    *,
    rows: Images | PathLike | None = None,
    classes: ClassList | None = None,
    scores: str | None = None,
    format: str | None = None,
) -> Predictions:
    """Read one model's predictions from any registered format.

    Parameters
    ----------
    path : path-like
    rows : Images or path-like, optional
        The image of each row, for files that hold arrays alone.
    classes : ClassList, optional
        The class list that the predictions are over; by default as in `read_labels`.
    scores : {"logit", "probability", "score"}, optional
        What scores are, where the file does not tell.
    format : str, optional
        A registered format; found out from the file by default.

    Raises
    ------
    InputError
        As in `read_labels`; also if a file of arrays comes without `rows`.
    """
    if rows is not None and not isinstance(rows, Images):
        rows = read_images(rows, classes=classes)
    found = _read(path, "predictions", format, classes=classes, rows=rows, scores=scores)
    assert isinstance(found, Predictions)
    return found


def read_classes(name_or_path: PathLike) -> ClassList:
    """Read a class list: a built-in one by name, or a file with one key a line, or with ``key`` and ``name``.

    Raises
    ------
    InputError
        As in `read_labels`; also if a key occurs twice.
    """
    if str(name_or_path) == "imagenet1k":
        return class_list()
    classes = _read(name_or_path, "classes", None)
    assert isinstance(classes, ClassList)
    return classes


def detect(path: PathLike, holds: Iterable[str] = HOLDS) -> registry.Entry | None:
    """Return the format of a file among those that hold one of `holds`, or None."""
    path = Path(path)
    for name in registry.names("format"):
        entry = registry.get("format", name)
        fits = entry.about["holds"] in holds and path.suffix.lower() in entry.about["suffixes"]
        if fits and entry.about["matches"](path):
            return entry
    return None


def prediction_files(paths: Iterable[PathLike]) -> list[Path]:
    """Return the predictions files among `paths`; folders are searched, other files in them passed over.

    Raises
    ------
    InputError
        If a path does not exist or a folder holds no predictions.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise InputError("The file does not exist.", where=path)
        if not path.is_dir():
            found.append(path)
            continue
        inside = [p for p in sorted(path.iterdir()) if p.is_file() and detect(p, ("predictions",))]
        if not inside:
            raise InputError(
                "The folder holds no predictions.", where=path, allowed=", ".join(_suffixes("predictions"))
            )
        found += inside
    return list(dict.fromkeys(found))


def _read(path: PathLike, holds: str, format: str | None, **options: Any) -> Any:
    path = Path(path)
    if not path.is_file():
        raise InputError(
            "This is a folder, not a file." if path.is_dir() else "The file does not exist.", where=path
        )
    entry = registry.get("format", format) if format is not None else detect(path, (holds,))
    if entry is not None:
        found = entry(path, **options)
        if not len(found):
            raise InputError("The file has no rows.", where=path)
        return found
    other = detect(path)
    raise InputError(
        f"The file does not hold {holds}.",
        where=path,
        got=f"{other.about['holds']} ({other.name})"
        if other
        else f"no known format with suffix {path.suffix or 'none'!r}",
        allowed="; ".join(_described(holds)),
        do=f"give it where {other.about['holds']} are asked for" if other else None,
    )


def _described(holds: str) -> list[str]:
    entries = [registry.get("format", name) for name in registry.names("format")]
    return sorted(f"{e.name} ({' '.join(e.about['suffixes'])})" for e in entries if e.about["holds"] == holds)


def _suffixes(holds: str) -> list[str]:
    entries = [registry.get("format", name) for name in registry.names("format")]
    return sorted({s for e in entries if e.about["holds"] == holds for s in e.about["suffixes"]})
