"""The held-out images, and the labels of both parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from numpy import typing as npt

from manyhot.classes import ClassList
from manyhot.errors import InputError
from manyhot.formats.writing import PathLike
from manyhot.parameters import Between, Shown

HeldOutShare = Annotated[float, Between(0, 1, "()"), Shown("SHARE")]


class HeldOut(NamedTuple):
    """Held-out images: those of a table, or a random share."""

    test: Mapping[str, bool] | None
    share: float
    seed: int

    def of(self, ids: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return which of some images are held out."""
        if self.test is not None:
            return np.array([self.test.get(i, False) for i in ids], bool)
        return np.random.default_rng([self.seed, len(ids)]).random(len(ids)) < self.share


def held_out_of(path: PathLike | None, share: float, seed: int) -> HeldOut:
    """Return the images that a table of splits holds out, or else a random share.

    Raises
    ------
    InputError
        The table does not exist, has no column split, or holds out no image.
    """
    if path is None:
        return HeldOut(None, share, seed)
    import polars as pl

    file = Path(path)
    if not file.is_file():
        raise InputError("The file does not exist.", where=path)
    table = pl.scan_parquet(file) if file.suffix == ".parquet" else pl.scan_csv(file)
    names = table.collect_schema().names()
    if not {"image_id", "split"} <= set(names):
        raise InputError(
            "The table has no split.",
            where=path,
            got=", ".join(names),
            allowed="a table with image_id and split",
        )
    rows = table.select("image_id", "split").collect()
    test = {str(i): s == "test" for i, s in rows.iter_rows()}
    if not any(test.values()):
        raise InputError(
            "No image is held out.",
            where=path,
            got=", ".join(sorted({str(s) for s in rows["split"].unique()})),
            allowed="a split named test",
        )
    return HeldOut(test, share, seed)


@dataclass(frozen=True, eq=False)
class SplitLabels:
    """Label sets and original labels of images to fit on and of images held out.

    Attributes
    ----------
    names : sequence of str, length n
        The ids of the images.
    state : ndarray of uint8, shape (n, C)
    label : ndarray of int, shape (n,)
        The original label, or `NO_LABEL`.
    held : ndarray of bool, shape (n,)
        Which images are held out.
    classes : ClassList
    """

    names: Sequence[str]
    state: npt.NDArray[np.uint8]
    label: npt.NDArray[np.integer]
    held: npt.NDArray[np.bool_]
    classes: ClassList
