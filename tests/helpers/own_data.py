"""One small data set in all forms in which callers have label sets and scores, for tests of the door."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import torch
from PIL import Image
from scipy import sparse
from sklearn.preprocessing import MultiLabelBinarizer


class Exported:
    """An array that has nothing but DLPack, as some frameworks give it."""

    def __init__(self, array):
        self.array = array
        self.shape, self.ndim, self.dtype = array.shape, array.ndim, array.dtype

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __len__(self):
        return len(self.array)

    def __getitem__(self, index):
        return self.array[index]


@dataclass(frozen=True)
class OwnData:
    """Images with label sets, and the scores of a model.

    `hot` has 1 for a valid class, 0 for another, -1 for an unclear one, and NaN for one not asked about.
    """

    ids: list[str]
    classes: list[str]
    hot: np.ndarray
    scores: np.ndarray

    @property
    def names(self) -> list[list[str]]:
        return [[self.classes[c] for c in np.flatnonzero(row == 1)] for row in self.hot]

    @property
    def first(self) -> list[str | None]:
        """One valid class of each image, the first by name; None if there is none."""
        return [min(names, default=None) for names in self.names]

    @property
    def labels(self) -> pd.DataFrame:
        return pd.DataFrame(self.hot, self.ids, self.classes)

    @property
    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.scores, self.ids, self.classes)

    def shuffled(self, *, columns: bool = True) -> OwnData:
        """Return the same data with rows, and columns if `columns` is set, in another order."""
        rng = np.random.default_rng(1)
        rows = rng.permutation(len(self.ids))
        order = rng.permutation(len(self.classes)) if columns else np.arange(len(self.classes))
        return OwnData(
            [self.ids[row] for row in rows],
            [self.classes[column] for column in order],
            self.hot[rows][:, order],
            self.scores[rows][:, order],
        )

    def labelled(self) -> OwnData:
        """Return the images that have a valid class, with the first ids."""
        rows = (self.hot == 1).any(axis=1)
        ids = self.ids[: int(rows.sum())]
        return replace(self, ids=ids, hot=self.hot[rows], scores=self.scores[rows])


def own_data(n: int = 40, *, numbered: bool = False) -> OwnData:
    """Return a data set; with `numbered`, its ids are those of rows without ids."""
    rng = np.random.default_rng(3)
    hot = rng.random((n, 5)) < 0.4
    scores = (hot * 0.3 + rng.random((n, 5)) * 0.7).astype(np.float32)
    ids = [str(i) if numbered else f"{i:02d}.jpg" for i in range(n)]
    return OwnData(ids, ["boat", "car", "cat", "cow", "dog"], hot.astype(float), scores)


def with_unasked(data: OwnData) -> OwnData:
    """Return the data with unclear classes and classes that nobody was asked about."""
    hot = data.hot.copy()
    hot[::7, 1], hot[1::5, 3] = -1, np.nan
    return replace(data, hot=hot)


def _column(frame: pd.DataFrame, name: str = "image_id") -> pd.DataFrame:
    return frame.reset_index(names=name)


def _long(data: OwnData) -> pd.DataFrame:
    pairs = [(i, name) for i, row in zip(data.ids, data.names, strict=True) for name in row or [None]]
    return pd.DataFrame(pairs, columns=["image_id", "label"])


def _hugging_face(data: OwnData) -> datasets.Dataset:
    feature = datasets.Sequence(datasets.ClassLabel(names=data.classes))
    features = datasets.Features({"image_id": datasets.Value("string"), "labels": feature})
    numbers = [[data.classes.index(name) for name in row] for row in data.names]
    return datasets.Dataset.from_dict({"image_id": data.ids, "labels": numbers}, features=features)


Form = Callable[[OwnData], Any]

LABELS_WITH_IDS: dict[str, Form] = {
    "bool": lambda d: d.labels.astype(bool),
    "0 and 1": lambda d: d.labels.astype(int),
    "nullable": lambda d: d.labels.astype("boolean"),
    "a column of ids": lambda d: _column(d.labels),
    "a column of file names": lambda d: _column(d.labels.astype(int), "file_name"),
    "polars": lambda d: pl.from_pandas(_column(d.labels.astype(bool))),
    "polars with file names": lambda d: pl.from_pandas(_column(d.labels.astype(int), "filename")),
    "arrow": lambda d: pa.Table.from_pandas(_column(d.labels), preserve_index=False),
    "a series of names": lambda d: pd.Series(d.names, d.ids),
    "a wide table": lambda d: pd.DataFrame({"image_id": d.ids, "labels": d.names}),
    "a wide table of texts": lambda d: pd.DataFrame(
        {"filename": d.ids, "tags": list(map(";".join, d.names))}
    ),
    "a long table": _long,
    "a long table of polars": lambda d: pl.from_pandas(_long(d)),
    "Hugging Face": _hugging_face,
}
"""Label sets without unclear classes."""

LABELS: dict[str, Form] = {
    "bool": lambda d: d.hot.astype(bool),
    "int": lambda d: d.hot.astype(int),
    "float": lambda d: d.hot,
    "torch": lambda d: torch.from_numpy(d.hot.astype(bool)),
    "csr": lambda d: sparse.csr_matrix(d.hot),
    "coo array": lambda d: sparse.coo_array(d.hot.astype(np.int8)),
    "dlpack": lambda d: Exported(d.hot.astype(np.int8)),
    "lists of numbers": lambda d: [np.flatnonzero(row).tolist() for row in d.hot],
    "lists of arrays": lambda d: [np.flatnonzero(row) for row in d.hot],
    "lists of names": lambda d: d.names,
    "sets of names": lambda d: [set(row) for row in d.names],
    "binarised": lambda d: MultiLabelBinarizer(classes=d.classes, sparse_output=True).fit_transform(d.names),
}
"""The same without ids, row by row."""

SAY_NO = {"bool", "0 and 1", "nullable", "a column of ids", "polars", "arrow"} | {
    *("a column of file names", "polars with file names"),
    *("int", "float", "torch", "csr", "coo array", "dlpack", "binarised"),
}
"""Forms in which a 0 is the answer no; the others contain only the valid classes."""

ASKED: dict[str, Form] = {
    "pandas": lambda d: d.labels,
    "nullable": lambda d: d.labels.astype("Int64"),
    "polars": lambda d: pl.from_pandas(_column(d.labels.astype("Int64"))),
    "arrow": lambda d: pa.Table.from_pandas(_column(d.labels), preserve_index=False),
}
"""Label sets with unclear classes and classes not asked about."""

SINGLE: dict[str, Form] = {
    "a series": lambda d: pd.Series(d.first, d.ids),
    "a table": lambda d: pd.DataFrame({"filename": d.ids, "label": d.first}),
    "a table of polars": lambda d: pl.DataFrame({"filename": d.ids, "label": d.first}),
}
"""One class per image."""

IMAGES: dict[str, Form] = {
    "pandas": lambda d: pd.DataFrame({"image_id": d.ids, "label": d.first}),
    "polars": lambda d: pl.DataFrame({"image_id": d.ids, "label": d.first}),
    "arrow": lambda d: pa.table({"image_id": d.ids, "label": d.first}),
}
"""Images tables with original labels."""


SCORES_WITH_IDS: dict[str, Form] = {
    "pandas": lambda d: d.frame,
    "double": lambda d: d.frame.astype(float),
    "a column of ids": lambda d: _column(d.frame),
    "a column of file names": lambda d: _column(d.frame, "Image"),
    "polars": lambda d: pl.from_pandas(_column(d.frame)),
    "polars with file names": lambda d: pl.from_pandas(_column(d.frame, "filename")),
    "arrow": lambda d: pa.Table.from_pandas(_column(d.frame), preserve_index=False),
}

SCORES: dict[str, Form] = {
    "numpy": lambda d: d.scores,
    "double": lambda d: d.scores.astype(np.float64),
    "torch": lambda d: torch.from_numpy(d.scores),
    "dlpack": lambda d: Exported(d.scores),
    "rows": lambda d: [list(map(float, row)) for row in d.scores],
    "frame": lambda d: pd.DataFrame(d.scores, columns=d.classes),
}


def write_files(data: OwnData, folder: Path, *, labels: str = "lists") -> Path:
    """Write labels.csv (lists, one 0/1 column a class, or one class per image), model.csv and images.csv."""
    folder.mkdir()
    tables = {
        "lists": lambda: pd.DataFrame({"image_id": data.ids, "labels": list(map(";".join, data.names))}),
        "indicators": lambda: _column(data.labels.astype("Int64")),
        "one each": lambda: pd.DataFrame({"filename": data.ids, "label": data.first}),
        "images": lambda: pd.DataFrame({"image_id": data.ids, "label": data.first}),
    }
    tables[labels]().to_csv(folder / "labels.csv", index=False)
    for model in ("model", "other"):
        _column(data.frame).to_csv(folder / f"{model}.csv", index=False)
    photograph = folder / "photograph.png"
    Image.new("RGB", (2, 2)).save(photograph)
    images = {"image_id": data.ids, "uri": str(photograph), "label": data.first}
    pd.DataFrame(images).to_csv(folder / "images.csv", index=False)
    return folder
