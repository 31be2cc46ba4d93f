"""The embeddings of images in a folder that ``manyhot predict --embeddings`` wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc
from pyarrow import parquet as pq

from manyhot import tables
from manyhot.core.sets import NO_LABEL
from manyhot.core.top_classes import top_k
from manyhot.errors import InputError, did_you_mean
from manyhot.files import sha256
from manyhot.formats.writing import PathLike
from manyhot.tables import Images, Predictions

ClassIds = npt.NDArray[np.integer]

EMBEDDINGS_FOLDER = "embeddings"
"""Beside the predictions; its files have the same names."""


@dataclass(frozen=True, eq=False)
class Embedded:
    """The embeddings of images by one model, with its predictions and the original labels.

    Attributes
    ----------
    predictions : Predictions
    vectors : ndarray of float16 or float32, shape (n, D)
        The embeddings. Row i belongs to row i of the predictions. The array can be memory-mapped.
    images : Images, optional
        Their original labels.
    name : str
        For messages.

    Raises
    ------
    InputError
        If the number of embeddings differs from the number of predictions.
    """

    predictions: Predictions
    vectors: npt.NDArray[np.floating]
    images: Images | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self):
            raise InputError(
                "The number of embeddings differs from the number of predictions.",
                where=self.name or None,
                got=f"{self.predictions.model}: {_shape(self.vectors)}",
                allowed=f"{len(self):,} rows, one per row of the predictions",
                do="run manyhot predict --embeddings on these images",
            )

    def __len__(self) -> int:
        return len(self.predictions)

    @property
    def image_id(self) -> pa.Array:
        """The ids of the images."""
        return self.predictions.image_id

    def labels(self) -> npt.NDArray[np.int64]:
        """Return the original label of each image, shape (n,); -1 if there is none."""
        if self.images is None or self.images.label is None:
            return np.full(len(self), NO_LABEL, np.int64)
        at = pc.index_in(self.image_id, self.images.image_id)
        found: npt.NDArray[np.int64] = (
            pc.fill_null(self.images.label.take(at), NO_LABEL).to_numpy().astype(np.int64)
        )
        return found

    def best(self, top: int) -> ClassIds:
        """Return the top predicted classes, best first, shape (n, at most top). -1 pads short lists."""
        if self.predictions.classes is not None:
            return self.predictions.classes[:, :top]
        assert self.predictions.scores is not None
        return top_k(self.predictions.scores, top)


@dataclass(frozen=True)
class EmbeddingFiles:
    """The files of one model in a folder."""

    model: str
    predictions: Path
    vectors: Path
    images: Path

    @classmethod
    def of(cls, folder: PathLike, model: str) -> EmbeddingFiles:
        """Return the files of a model. The name can be empty if the folder has files of one model only."""
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(
                "This is a file, not a folder." if folder.exists() else "The folder does not exist.",
                where=folder,
                allowed="a folder written by manyhot predict --embeddings",
            )
        return _chosen(folder, _with_embeddings(folder), model)

    def all(self) -> list[Path]:
        """Return the existing files."""
        return [f for f in (self.predictions, self.vectors, self.images) if f.exists()]

    def hashes(self, before: str = "") -> dict[str, str]:
        """Return the SHA-256 hash of each file, keyed by its name in the folder."""
        root = self.predictions.parent
        return {before + file.relative_to(root).as_posix(): sha256(file) for file in self.all()}

    def read(self) -> Embedded:
        """Read the predictions and the images, and memory-map the embeddings."""
        predictions = tables.predictions_from_table(
            tables.read(self.predictions, "predictions"), model=self.model, source=str(self.predictions)
        )
        images = None
        if self.images.exists():
            images = tables.Images(tables.read(self.images, "images"), str(self.images))
        return Embedded(predictions, _mapped(self.vectors), images, str(self.predictions.parent))


def _with_embeddings(folder: Path) -> list[EmbeddingFiles]:
    found = []
    for vectors in sorted((folder / EMBEDDINGS_FOLDER).glob("*.npy")):
        predictions = folder / f"{vectors.name.removesuffix('.npy')}.parquet"
        if predictions.exists():
            found.append(
                EmbeddingFiles(_model_of(predictions), predictions, vectors, folder / "images.parquet")
            )
    return found


def _model_of(predictions: Path) -> str:
    try:
        name = tables.metadata(pq.read_schema(predictions)).get("model")
    except (pa.ArrowInvalid, OSError):
        name = None  # reading it will say what is wrong, if it is the model that is asked for
    return name or predictions.stem.replace("--", "/")


def _chosen(folder: Path, files: list[EmbeddingFiles], model: str) -> EmbeddingFiles:
    names = [f.model for f in files]
    if not files:
        raise InputError(
            "The folder contains no embeddings.",
            where=folder,
            allowed=f"files in {EMBEDDINGS_FOLDER}/ with the names of the predictions",
            do="run manyhot predict --embeddings on these images",
        )
    if not model and len(files) > 1:
        raise InputError(
            "The folder contains embeddings of several models.",
            where=folder,
            got=", ".join(names),
            allowed="one of them",
            do=f"choose one, such as `embeddings_model`={names[0]}",
        )
    fitting = [f for f in files if model in ("", f.model, f.predictions.stem)]
    if not fitting:
        raise InputError(
            f"The folder contains no embeddings of {model!r}.",
            where=folder,
            allowed=", ".join(names),
            do=did_you_mean(model, names, 1)
            or "name one of these, or predict with this model: manyhot predict --embeddings",
        )
    return fitting[0]


def _shape(vectors: npt.NDArray[np.floating]) -> str:
    return f"{len(vectors):,} rows" if vectors.ndim == 2 else f"an array of shape {vectors.shape}"


def _mapped(path: Path) -> npt.NDArray[Any]:
    try:
        vectors: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(
            "The file is not a complete array of embeddings.",
            where=path,
            got=str(error).partition("\n")[0],
            do="run manyhot predict --embeddings on these images",
        ) from error
    return vectors


def is_array(path: PathLike) -> bool:
    """Return whether a path is that of an array of embeddings, not that of a folder."""
    return Path(path).suffix.lower() == ".npy" and not Path(path).is_dir()


def _embedded_rows(path: Path, rows: Images | None) -> Embedded:
    """Return the embeddings in an array, which has one row for each of the images `rows`."""
    if not path.is_file():
        raise InputError("The file does not exist.", where=path)
    if rows is None:
        raise InputError(
            "The rows of an array of embeddings have no image ids.",
            where=path,
            do="pass the images in the order of the rows as `rows`",
        )
    # Predictions only name the images: they list no class.
    none = np.full((len(rows), 1), NO_LABEL, np.int32)
    return Embedded(Predictions(rows.image_id, path.stem, classes=none), _mapped(path), None, str(path))


def embedded_in(folder: PathLike) -> Embedded | None:
    """Return the embeddings of the first model in a folder, or None if the folder contains none."""
    found = _with_embeddings(Path(folder))
    return found[0].read() if found else None


def read_embeddings(path: PathLike, model: str = "", rows: Images | None = None) -> Embedded:
    """Return the embeddings in a folder written by ``manyhot predict --embeddings``, or in a .npy file.

    Parameters
    ----------
    path : path-like
    model : str
        Name of the model that computed the embeddings, if the folder contains embeddings of several models.
    rows : Images, optional
        The images of the rows of an array.

    Raises
    ------
    InputError
        As in `similar`; for a .npy file, if it does not exist or is not an array of embeddings, or if its
        images are unknown.
    """
    return _embedded_rows(Path(path), rows) if is_array(path) else EmbeddingFiles.of(path, model).read()
