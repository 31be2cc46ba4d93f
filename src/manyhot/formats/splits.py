"""Names of splits, such as train and val, in names of folders and files."""

from __future__ import annotations

import re
from collections.abc import Mapping

SPLITS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
"""Names of folders that are splits of a data set if a folder holds no others, in lower or upper case."""

SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.parquet")
"""Names of the files in ``data/`` on the hub: split, number, and the number of files."""

_LETTERS = re.compile(r"[^\W\d_]+")


def are_splits(has_folders: Mapping[str, bool]) -> bool:
    """Return whether the folders of a data set are splits, judging by their names and by folders in them.

    Beside splits with folders of their own, there may be other folders, such as those of masks in MVTec AD.
    """
    splits = [of_folders for name, of_folders in has_folders.items() if name.casefold() in SPLITS]
    n = len(has_folders)
    return len(splits) == n > 1 or (bool(splits) and all(splits) and (len(splits) > 1 or n == 1))


def split_of_file(path: str) -> str | None:
    """Return the split of a file of images from its path, such as ``data/train-00000-of-00002.parquet``.

    The split is the name of a file on the hub before its number, or else the one word of the file name that
    is the name of a split, as in ``coco-val-000.tar``, or else the nearest folder that is named like a split.

    Parameters
    ----------
    path : str
        Relative to the folder of the data set, because folders above it may have any name.
    """
    *folders, name = path.split("/")
    if (shard := SHARD.fullmatch(name)) and re.fullmatch(r"\w+", shard[1]):
        return str(shard[1])
    words: set[str] = {word for word in _LETTERS.findall(name) if word.casefold() in SPLITS}
    if len(words) == 1:
        return words.pop()
    return next((folder for folder in reversed(folders) if folder.casefold() in SPLITS), None)
