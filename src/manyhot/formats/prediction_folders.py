"""The prediction files of folders, and the reasons why their other files are not read."""

from __future__ import annotations

import contextlib
import glob
import itertools
import shlex
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from manyhot.errors import InputError, first_names
from manyhot.formats import PathLike, detect, no_such_file, suffixes_of
from manyhot.formats.format_detection import MAY_RUN, PICKLES, SAVE
from manyhot.formats.reading import declared, reading

SKIPPED = "skipped.csv"
"""The images that predict skipped, in a file beside the predictions."""

PARTS_FOLDER = ".parts"
"""The folder of the parts of each model, beside the predictions until these are complete."""

_OWN_FOLDERS = ("embeddings", "statistics")
"""The folders that predict and diagnose groups write beside predictions."""

_FOREIGN = frozenset(
    (
        *(".feather", ".arrow", ".ipc", ".h5", ".hdf5", ".mat", ".xlsx", ".xls", ".ods", ".safetensors"),
        *(".rds", ".rda", ".rdata", ".avro", ".orc", ".msgpack", ".pb", ".tfrecord", ".tfrecords"),
        *(".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".7z"),
    )
)
"""Suffixes of data that may be predictions, but of which no format is read."""

_MOST_NAMED = 20
"""Maximum number of names of files in a note."""

_UNKNOWN = (
    "are in no format that is read",
    "save them as Parquet, CSV or .npz",
)
_ONLY_STATES = (
    "contain only 0 and 1, as label sets do",
    "if these are predictions, pass the files themselves as `predictions`",
)
_ONLY_NAMES = (
    "name classes without scores, as label sets do",
    "if these are predictions, pass the files themselves as `predictions`",
)
_UNRECOGNISED = (
    "are not recognised as predictions",
    "write one row per image, with image_id and one column of scores per class; or one row per image and "
    "class, with image_id, class and score",
)
_FOLDERS = ("are folders, and subfolders are not searched", "pass the folders themselves as `predictions`")


def prediction_files(paths: Iterable[PathLike]) -> list[Path]:
    """Return the files in `paths`. A folder is replaced by the prediction files that it contains.

    A pattern such as ``runs/*/epoch_90.parquet`` stands for all files and folders that match it.

    Raises
    ------
    InputError
        If a path does not exist, if no path matches a pattern, or if a folder contains no predictions.
    """
    files: list[Path] = []
    for path in itertools.chain.from_iterable(map(_matching, map(Path, paths))):
        if not path.exists():
            raise no_such_file(path)
        if not path.is_dir():
            files.append(path)
            continue
        with reading(path):
            inside = [p for p in sorted(path.iterdir()) if p.is_file() and detect(p, ("predictions",))]
        if not inside:
            detected = path / "predictions"  # as manyhot detect writes them
            do = "make them with manyhot predict IMAGES --model NAME --out FOLDER"
            if suffixes := {p.suffix for p in path.iterdir() if _reason(p) in (_ONLY_NAMES, _ONLY_STATES)}:
                do = f"if the files are predictions, pass {shlex.quote(str(path / f'*{min(suffixes)}'))}"
            raise InputError(
                "The folder contains no predictions.",
                where=path,
                got="; ".join(_notes(path, inside)) or None,
                allowed=", ".join(suffixes_of("predictions")),
                do=f"pass {detected}" if detected.is_dir() else do,
            )
        files += inside
    return list(dict.fromkeys(files))


def _matching(path: Path) -> list[Path]:
    """Return the paths that match a pattern; a path that exists, or is no pattern, stands for itself."""
    if not glob.has_magic(str(path)) or path.exists():
        return [path]
    found = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    if not found:
        raise InputError("No file or folder matches the pattern.", where=path)
    return found


def unread_notes(
    paths: Iterable[PathLike], files: Collection[Path], others: Collection[str] = ()
) -> list[str]:
    """Return one note for each reason why files in the folders of `paths` are not read as predictions.

    Files that may be predictions are named, and others are counted. Files that manyhot writes beside
    predictions, and hidden files, are left out.

    Parameters
    ----------
    paths : iterable of path-like
    files : collection of Path
        The files that `prediction_files` returned for `paths`.
    others : collection of str
        Names of files that the call reads as something else.
    """
    folders, files = [path for path in map(Path, paths) if path.is_dir()], frozenset(files)
    return [f"{folder}: {note}" for folder in folders for note in _notes(folder, files, others)]


def _notes(folder: Path, inside: Collection[Path], others: Collection[str] = ()) -> list[str]:
    by_reason, plain = dict[tuple[str, str], list[str]](), list[str]()
    with reading(folder):
        left = [p for p in sorted(folder.iterdir()) if p not in inside and p.name not in others]
    for path in left:
        if path.name.startswith(".") or path.name == SKIPPED:
            continue
        if (reason := _reason(path)) is None:
            plain.append(path.suffix.lower() or "no suffix")
        elif reason[0]:
            by_reason.setdefault(reason, []).append(path.name)
    notes = [
        f"not read, because they {why}: {first_names(names, _MOST_NAMED)}; {do}"
        for (why, do), names in by_reason.items()
    ]
    with contextlib.suppress(OSError):
        if unfinished := sorted(path.name for path in (folder / PARTS_FOLDER).iterdir() if path.is_dir()):
            notes.append(
                f"the predictions of {first_names(unfinished, _MOST_NAMED)} are not complete, and not read: "
                "repeat manyhot predict, or its shards"
            )
    if plain:
        kinds = ", ".join(f"{n} {suffix}" for suffix, n in sorted(Counter(plain).items()))
        notes.append(f"not read, because they are neither tables nor arrays: {kinds}")
    return notes


_OWN = ("", "")


def _reason(path: Path) -> tuple[str, str] | None:
    """Return why a file is not read and what to do; no text for a file of manyhot, None for other files."""
    suffix = path.suffix.lower()
    if path.is_dir():
        return _FOLDERS if path.name not in _OWN_FOLDERS and _holds_any(path) else _OWN
    if suffix in PICKLES:
        return MAY_RUN, SAVE
    if suffix in _FOREIGN:
        return _UNKNOWN
    if suffix not in (".csv", ".tsv", ".parquet", ".json", ".jsonl", ".npz", ".npy"):
        return None
    if declared(path):
        return _OWN
    if (found := detect(path, ("predictions",), property="explicit")) is not None:
        return _ONLY_NAMES if found.name == "tag-lists" else _ONLY_STATES
    other = detect(path)
    if other is None:
        return _UNRECOGNISED
    holds = other.about["holds"]
    return f"contain {holds} ({other.name}), not predictions", _UNRECOGNISED[1]


def _holds_any(folder: Path) -> bool:
    """Return whether a folder itself contains predictions."""
    suffixes = suffixes_of("predictions")
    try:
        return any(
            p.suffix.lower() in suffixes and p.is_file() and detect(p, ("predictions",))
            for p in folder.iterdir()
        )
    except OSError:
        return False
