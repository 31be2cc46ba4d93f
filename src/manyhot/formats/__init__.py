"""Readers and writers of foreign files, one module a format.

A format is a registered reader with three facts about it: what it `holds` (one of `HOLDS`), the `suffixes` of
its files, of which `FOLDER` stands for folders, and whether a given file `matches`. A fourth is optional:
`absent`, the files of its kind that are not available, and why.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from manyhot import registry
from manyhot.classes import BUILT_IN_CLASSES, ClassList, class_list
from manyhot.errors import InputError
from manyhot.files import is_utf8
from manyhot.formats.reading import FOLDER, check_whole, reading
from manyhot.tables import Golden, Images, Labels, Objects, Predictions, Results, Votes

HOLDS = (
    "labels",
    "predictions",
    "images",
    "classes",
    "results",
    "findings",
    "proposals",
    "votes",
    "golden",
    "objects",
)

PathLike = str | os.PathLike[str]


def read_labels(path: PathLike, *, classes: ClassList | None = None, format: str | None = None) -> Labels:
    """Read label sets from any registered format.

    Parameters
    ----------
    path : path-like
        A file, or a folder for the formats that are folders: images in class folders, saved data sets.
    classes : ClassList, optional
        The class list that the file is over. By default that of the file; else ``imagenet1k`` is assumed for
        keys, names and the number of classes, without a claim about which list it is.
    format : str, optional
        A registered format, with options where it has any, as in ``chen(threshold=0.9)``; recognised from the
        file by default.

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
        What scores are, where the file does not say.
    format : str, optional
        A registered format; recognised from the file by default.

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


def read_results(path: PathLike, *, dataset: str | None = None, format: str | None = None) -> Results:
    """Read results of models: timm's tables, our results as Parquet or CSV, or a folder of an evaluation.

    Parameters
    ----------
    path : path-like
        A folder is read with its pairs, samples and models.
    dataset : str, optional
        The data set of the results, where neither the file nor its name says so; for a table that does, the
        rows to keep.
    format : str, optional
        A registered format; recognised from the file by default.

    Raises
    ------
    InputError
        As in `read_labels`; also if the data set of the results, or its number of images, is unknown.
    """
    results = _read(path, "results", format, dataset=dataset)
    assert isinstance(results, Results)
    return replace(results, name=str(path))


def read_findings(path: PathLike, *, format: str | None = None) -> pa.Table:
    """Read a findings table: published mistakes of models, or our own Parquet.

    Raises
    ------
    InputError
        As in `read_labels`.
    """
    return _read(path, "findings", format)


def read_votes(path: PathLike, *, classes: ClassList | None = None, format: str | None = None) -> Votes:
    """Read raters' answers from any registered format.

    Parameters
    ----------
    path : path-like
        A file, or a campaign folder with ``votes.parquet``.
    classes : ClassList, optional
        As in `read_labels`.
    format : str, optional
        A registered format, with options where it has any, as in ``crowd-kit(separator='|')``; recognised
        from the file by default.

    Raises
    ------
    InputError
        As in `read_labels`.
    MatchError
        A rater answers a question twice, and nothing says which answer is the later one.
    """
    votes = _read(path, "votes", format, classes=classes)
    assert isinstance(votes, Votes)
    return votes


def read_golden(path: PathLike, *, classes: ClassList | None = None, format: str | None = None) -> Golden:
    """Read experts' answers from any registered format, with those of raters where the file holds them.

    Raises
    ------
    InputError, MatchError
        As in `read_votes`.
    """
    golden = _read(path, "golden", format, classes=classes)
    assert isinstance(golden, Golden)
    return golden


def read_objects(
    path: PathLike,
    *,
    classes: ClassList | None = None,
    masks: PathLike | None = None,
    format: str | None = None,
) -> Objects:
    """Read the objects of images from any registered format.

    Parameters
    ----------
    path : path-like
        Our own table; a table with a box a row; COCO's instances as JSON; a folder of PASCAL VOC.
    classes : ClassList, optional
        The class list that ids refer to; by default that of the file.
    masks : path-like, optional
        Semantic masks: PNGs in a folder, named like the images, or a table with ``image_id`` and a column of
        bytes, ``mask_png`` or ``mask``. A pixel holds 0 for background, ``class_id + 1``, or 255 for unknown.
    format : str, optional
        A registered format; recognised from the file by default.

    Raises
    ------
    InputError
        As in `read_labels`; or a class is not in the list.
    """
    from manyhot.formats.objects import with_masks

    objects = _read(path, "objects", format, classes=classes)
    assert isinstance(objects, Objects)
    return objects if masks is None else with_masks(objects, Path(masks))


def read_masks(path: PathLike, images: Iterable[str]) -> dict[str, bytes | Path]:
    """Read the semantic masks of images; see `read_objects`.

    Parameters
    ----------
    path : path-like
    images : iterable of str
        Ids of the images whose masks are read.

    Raises
    ------
    InputError
        The path does not exist, or holds no masks.
    """
    from manyhot.formats.objects import masks_of

    return masks_of(Path(path), images)


def read_proposals(
    path: PathLike, *, classes: ClassList | None = None, format: str | None = None
) -> pa.Table:
    """Read a proposals table from any registered format.

    Raises
    ------
    InputError
        As in `read_labels`.
    """
    return _read(path, "proposals", format, classes=classes)


def read_classes(name_or_path: PathLike) -> ClassList:
    """Read a class list: a built-in one by name, or a file with one key a line, or with ``key`` and ``name``.

    Raises
    ------
    InputError
        As in `read_labels`; also if a key occurs twice.
    """
    if str(name_or_path) in BUILT_IN_CLASSES:
        return class_list(str(name_or_path))
    classes = _read(name_or_path, "classes", None)
    assert isinstance(classes, ClassList)
    return classes


def detect(path: PathLike, holds: Iterable[str] = HOLDS) -> registry.Entry | None:
    """Return the format of a file or folder among those that hold one of `holds`, or None."""
    path = Path(path)
    suffix = FOLDER if path.is_dir() else path.suffix.lower()
    for name in registry.names("format"):
        entry = registry.get("format", name)
        fits = entry.about["holds"] in holds and suffix in entry.about["suffixes"]
        if fits and entry.about["matches"](path):
            return entry
    return None


def prediction_files(paths: Iterable[PathLike]) -> list[Path]:
    """Return the predictions files among `paths`; folders are searched, and other files in them are ignored.

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
        with reading(path):
            inside = [p for p in sorted(path.iterdir()) if p.is_file() and detect(p, ("predictions",))]
        if not inside:
            raise InputError(
                "The folder holds no predictions.", where=path, allowed=", ".join(_suffixes("predictions"))
            )
        found += inside
    return list(dict.fromkeys(found))


def _read(path: PathLike, holds: str, format: str | None, **options: Any) -> Any:
    path = Path(path)
    with reading(path):
        _check_there(path, holds)
        entry = detect(path, (holds,)) if format is None else _asked_for(format, holds, path)
        if entry is None:
            if path.suffix.lower() in (".csv", ".tsv") and not path.stat().st_size:
                raise InputError("The file is empty.", where=path, do="make or fetch it again")
            check_whole(path)
            raise _unreadable(path, holds)
        found = entry(path, **options)
        _check_text(found)
    if not len(found):
        raise InputError("The file has no rows.", where=path)
    return found


def _check_text(content: Any) -> None:
    """Refuse text that is not UTF-8, which Parquet readers do not check."""
    if isinstance(content, Golden):
        return _check_text(content.experts)
    if isinstance(content, Votes):
        content.rater_id.validate(full=True)
    has_ids = isinstance(content, Predictions | Votes)
    columns = content.image_id if has_ids else getattr(content, "table", content)
    if not isinstance(columns, ClassList):
        columns.validate(full=True)
    return None


def _check_there(path: Path, holds: str) -> None:
    if not is_utf8(path):
        raise InputError(
            "The name of a file or folder is not UTF-8.",
            where=path,
            got=repr(os.fsencode(path)),
            do="rename it",
        )
    if path.is_dir() and FOLDER not in _suffixes(holds):
        raise InputError("This is a folder, not a file.", where=path)
    if path.exists():
        return
    entries = [registry.get("format", name) for name in registry.names("format")]
    why = [e.about["absent"][path.name] for e in entries if path.name in e.about.get("absent", ())]
    raise InputError("The file does not exist.", where=path, got=why[0] if why else None)


def _asked_for(format: str, holds: str, path: Path) -> registry.Entry:
    entry = registry.get("format", format)
    if entry.about["holds"] != holds:
        raise InputError(
            f"The format {format!r} does not hold {holds}.",
            where=path,
            got=f"{format}, which holds {entry.about['holds']}",
            allowed="; ".join(_described(holds)),
        )
    if not is_utf8(path):
        raise InputError(
            "The name of a file or folder is not UTF-8.",
            where=path,
            got=repr(os.fsencode(path)),
            do="rename it",
        )
    if path.is_dir() and FOLDER not in entry.about["suffixes"]:
        raise InputError("This is a folder, not a file.", where=path)
    return entry


def _columns(path: Path) -> str:
    """Return the columns of a table that is in no known format, for a message."""
    from manyhot.formats.tabular import column_names

    names = column_names(path) if path.suffix.lower() in (".csv", ".tsv", ".parquet") else []
    shown = [n if n.isprintable() else repr(n) for n in names[:8]]
    return f", and the columns {', '.join(shown)}{', …' if len(names) > 8 else ''}" if names else ""


def _unreadable(path: Path, holds: str) -> InputError:
    other = detect(path)
    if other:
        got, do = (
            f"{other.about['holds']} ({other.name})",
            f"give it where {other.about['holds']} are asked for",
        )
    elif path.is_dir():
        got, do = "a folder of no known format", None
    else:
        got, do = f"no known format with suffix {path.suffix or 'none'!r}{_columns(path)}", None
    return InputError(
        f"The {'folder' if path.is_dir() else 'file'} does not hold {holds}.",
        where=path,
        got=got,
        allowed="; ".join(_described(holds)),
        do=do,
    )


def _described(holds: str) -> list[str]:
    entries = [registry.get("format", name) for name in registry.names("format")]
    return sorted(f"{e.name} ({' '.join(e.about['suffixes'])})" for e in entries if e.about["holds"] == holds)


def _suffixes(holds: str) -> list[str]:
    entries = [registry.get("format", name) for name in registry.names("format")]
    return sorted({s for e in entries if e.about["holds"] == holds for s in e.about["suffixes"]})
