"""Find similar images by embedding: the nearest images of each class for each image."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc
from pyarrow import parquet as pq

from manyhot import tables
from manyhot.command import command
from manyhot.core.nearest import NOBODY, Neighbours, nearest, nearest_by_class
from manyhot.core.sets import NO_LABEL, top_k
from manyhot.errors import InputError, MatchError
from manyhot.files import sha256
from manyhot.formats.writing import PathLike
from manyhot.parameters import AtLeast, Count, Shown, Was
from manyhot.result import Result
from manyhot.run import QUIET, Progress, Run
from manyhot.tables import Images, Predictions, metadata
from manyhot.tables.definitions import FLOATS32, INT, TEXT, TEXTS, declare_table

CLASS_CHOICES = ("predicted", "label", "any")
"""Which images are searched: those of the predicted classes, of the original label, or of any class."""

ClassIds = npt.NDArray[np.integer]

declare_table(
    "similar",
    (
        TEXT("image_id", "as in images"),
        INT.nullable("class_id", "class of the neighbours; null if neighbours of any class were searched"),
        TEXTS("neighbours", "ids of the nearest images, nearest first; empty if there are none"),
        FLOATS32("similarity", "cosine similarity of the embeddings of the image and each neighbour"),
    ),
)


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
                do="predict these images again with manyhot predict --embeddings",
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


@dataclass(frozen=True, eq=False)
class Similar(Result):
    """The most similar images to each query image, for each class that the query may show.

    Attributes
    ----------
    table : pyarrow.Table
        The table ``similar``, in the order of the query images and then of their classes, with the top class
        first; see `manyhot.tables.TABLES`.
    n_images : int
        Number of query images.
    n_empty : int
        Rows without any neighbour.
    notes, metadata, inputs, written
        As in `Result`.
    """

    NAMES = ("similar",)

    table: pa.Table
    n_images: int
    n_empty: int

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The table by its name."""
        return {"similar": self.table}

    def lines(self) -> Iterator[str]:
        """Yield the numbers of images, of rows, and of rows without neighbours."""
        yield f"{self.n_images:,} images, {len(self.table):,} rows, {self.n_empty:,} without neighbours"

    def to_json(self) -> dict[str, Any]:
        """Return the numbers of images, of rows and of empty rows, and the notes."""
        n_rows = len(self.table)
        return {"images": self.n_images, "rows": n_rows, "empty": self.n_empty, "notes": self.notes}


@command(
    "similar",
    out="similar.parquet",
    examples=("manyhot similar predictions --queries photos --out similar.parquet",),
)
def similar(
    index: Annotated[PathLike | Embedded, Shown("FOLDER")],
    queries: Annotated[PathLike | Embedded | None, Shown("FOLDER")] = None,
    *,
    embeddings_model: Annotated[str, Shown("NAME"), Was("--model")] = "",
    among: Annotated[Literal["predicted", "label", "any"], Was("--classes")] = "predicted",
    top: Count = 5,
    neighbours: Annotated[int, AtLeast(1), Was("-k")] = 10,
    run: Run = QUIET,
) -> Similar:
    """For each class that an image may show, find the images with the most similar embeddings.

    The class of an image in the index is its original label. An image is never its own neighbour.

    Parameters
    ----------
    index
        Folder to search, written by 'manyhot predict --embeddings'. In Python, it can also be an `Embedded`.
    queries
        Folder of the query images, written in the same way. By default, the images of the index are the
        queries.
    embeddings_model
        Name of the model that computed the embeddings, if the folder contains embeddings of several models.
    among
        Classes whose images are searched: the top predicted classes, the original label, or any class.
    top
        Number of predicted classes to search per image. If fewer classes are stored, all are searched.
    neighbours
        Number of neighbours for each image and class.

    Returns
    -------
    Similar

    Raises
    ------
    InputError
        If there are no embeddings, if there are embeddings of several models and `embeddings_model` is not
        one of them, if a file is damaged, or if the images have no labels and the search is by class.
    MatchError
        If queries and index are embedded by different models or have different class lists.
    """
    if among not in CLASS_CHOICES:
        raise InputError("This choice does not exist.", got=among, allowed=", ".join(CLASS_CHOICES))
    inputs = dict[str, str]()
    if not isinstance(index, Embedded):
        files = _Files.of(index, embeddings_model)
        inputs = files.hashes()
        index, embeddings_model = files.read(), files.model
    if queries is None:
        queries = index
    elif not isinstance(queries, Embedded):
        asked = _Files.of(queries, embeddings_model or index.predictions.model)
        inputs = asked.hashes("queries/") | inputs
        queries = asked.read()
    found = _search(index, queries, among, top, neighbours, run.on_progress)
    return replace(found, metadata={"model": index.predictions.model}, inputs=inputs)


def _search(
    index: Embedded, queries: Embedded, among: str, top: int, k: int, on_progress: Progress | None
) -> Similar:
    """Return the neighbours of the queries in the index."""
    progress = None if on_progress is None else partial(on_progress, "similar images")
    _check_same_model(index, queries)
    own = pc.fill_null(pc.index_in(queries.image_id, index.image_id), NOBODY).to_numpy()
    if among == "any":
        query, class_ids = np.arange(len(queries)), None
        found = nearest(queries.vectors, index.vectors, k, own=own, progress=progress)
        notes: list[str] = []
    else:
        labels = index.labels()
        _check_labels(index, queries, labels, among)
        pairs = _query_pairs(queries, among, top)
        query, class_ids = pairs[:, 0], pairs[:, 1]
        found = nearest_by_class(queries.vectors, pairs, index.vectors, labels, k, own=own, progress=progress)
        notes = _class_notes(queries, labels, pairs, own, found)
    table = _table(index, queries, query, class_ids, found)
    n_empty = int(np.count_nonzero(found.rows[:, 0] == NOBODY))
    return Similar(table, len(queries), n_empty, notes=(*notes, *_blank_notes(index, queries, found)))


def _query_pairs(queries: Embedded, classes: str, top: int) -> npt.NDArray[np.int64]:
    """Return the (query, class) pairs to search for, shape (p, 2)."""
    asked = queries.labels()[:, None] if classes == "label" else queries.best(top)
    query, place = np.nonzero(asked != NO_LABEL)
    return np.stack([query, asked[query, place].astype(np.int64)], axis=1)


def _table(
    index: Embedded, queries: Embedded, query: ClassIds, class_ids: ClassIds | None, neighbours: Neighbours
) -> pa.Table:
    there = neighbours.rows != NOBODY
    ends = pa.array(np.append(0, np.cumsum(there.sum(axis=1))).astype(np.int32))
    class_id = pa.nulls(len(query), pa.int32()) if class_ids is None else pa.array(class_ids, pa.int32())
    ids = index.image_id.take(pa.array(neighbours.rows[there]))
    return pa.table(
        {
            "image_id": queries.image_id.take(pa.array(query)),
            "class_id": class_id,
            "neighbours": pa.ListArray.from_arrays(ends, ids),
            "similarity": pa.ListArray.from_arrays(ends, pa.array(neighbours.similarity[there])),
        }
    )


def _class_notes(
    queries: Embedded, labels: ClassIds, pairs: ClassIds, own: ClassIds, neighbours: Neighbours
) -> list[str]:
    notes = []
    without = len(queries) - len(np.unique(pairs[:, 0]))
    if without:
        notes.append(
            f"{without:,} of {len(queries):,} images have no class to search for and therefore no row"
        )
    # An embedding without direction is counted apart: its rows are empty whatever the index holds.
    empty = (neighbours.rows[:, 0] == NOBODY) & ~np.isin(pairs[:, 0], neighbours.blank_queries)
    if empty.any():
        missing = np.setdiff1d(pairs[empty, 1], labels)
        notes.append(
            f"{np.count_nonzero(empty):,} of {len(pairs):,} rows are empty, because the index contains no "
            f"other image of the class{_named(missing)}"
        )
    unlabelled = int(np.count_nonzero(labels == NO_LABEL))
    if unlabelled:
        notes.append(
            f"{unlabelled:,} of {len(labels):,} images of the index have no label and are not searched"
        )
    return notes


def _named(missing: ClassIds, most: int = 3) -> str:
    if not len(missing):
        return ""
    shown = ", ".join(map(str, missing[:most])) + (", …" if len(missing) > most else "")
    return f", and no image at all of {len(missing):,} classes ({shown})"


def _blank_notes(index: Embedded, queries: Embedded, neighbours: Neighbours) -> list[str]:
    return [
        f"{len(rows):,} {what} have an embedding that is zero or not finite, such as "
        f"{side.image_id[int(rows[0])]}, and {but}"
        for rows, side, what, but in (
            (neighbours.blank_queries, queries, "images", "have no neighbours"),
            (neighbours.blank_index, index, "images of the index", "are no image's neighbour"),
        )
        if len(rows)
    ]


def _check_same_model(index: Embedded, queries: Embedded) -> None:
    ours, theirs = index.predictions.model, queries.predictions.model
    if ours != theirs:
        raise MatchError(
            "Queries and index are embedded by different models.",
            where=queries.name or None,
            got=theirs,
            allowed=ours,
            do="predict both with the same model",
        )
    if index.vectors.shape[1] != queries.vectors.shape[1]:
        raise MatchError(
            "The embeddings of queries and index differ in length.",
            where=queries.name or None,
            got=f"{queries.vectors.shape[1]:,} numbers per image",
            allowed=f"{index.vectors.shape[1]:,}, as in {index.name or 'the index'}",
            do="predict both with the same weights of the model, with manyhot predict --embeddings",
        )


def _check_labels(index: Embedded, queries: Embedded, labels: ClassIds, classes: str) -> None:
    for side, what in ((index, "index"), *([(queries, "queries")] if classes == "label" else [])):
        if (side.labels() if side is queries else labels).max(initial=NO_LABEL) == NO_LABEL:
            raise InputError(
                f"The images of the {what} have no labels.",
                where=side.name or None,
                allowed="a column label in images.parquet",
                do="predict again with manyhot predict --labels, or search among all images with `among`=any",
            )
    asked = queries.predictions.class_hash if classes == "predicted" else _label_hash(queries)
    own = _label_hash(index)
    if asked and own and asked != own:
        raise MatchError(
            "Queries and index have different class lists.",
            where=queries.name or None,
            got=f"class list {asked}",
            allowed=f"class list {own}, as in {index.name or 'the index'}",
            do="predict both with the same class list, or search among all images with `among`=any",
        )


def _label_hash(side: Embedded) -> str:
    """Return the hash of the class list of the labels; by default that of the predictions."""
    about = {} if side.images is None else metadata(side.images.table)
    return about.get("classes") or side.predictions.class_hash


def _shape(vectors: npt.NDArray[np.floating]) -> str:
    return f"{len(vectors):,} rows" if vectors.ndim == 2 else f"an array of shape {vectors.shape}"


EMBEDDINGS_FOLDER = "embeddings"
"""Beside the predictions; its files have the same names."""


def neighbours_of(
    queries: PathLike, index: PathLike | None, progress: Progress | None = None, *, model: str = ""
) -> tuple[pa.Table, Images | None]:
    """Return the ten nearest images in the index for each query image, and the images of the index.

    Parameters
    ----------
    queries, index : path-like
        Folders written by ``manyhot predict --embeddings`` with the same model. By default, the index is the
        folder of the queries.
    model : str
        Name of the model that computed the embeddings, if `queries` contains embeddings of several models.

    Raises
    ------
    InputError
        As in `similar`.
    """
    asked = _Files.of(queries, model).read()
    searched = asked if index is None else _Files.of(index, asked.predictions.model).read()
    return _search(searched, asked, "any", 1, 10, progress).table, searched.images


@dataclass(frozen=True)
class _Files:
    """The files of one model in a folder."""

    model: str
    predictions: Path
    vectors: Path
    images: Path

    @classmethod
    def of(cls, folder: PathLike, model: str) -> _Files:
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
        """Return the SHA-256 hash of each file by its name in the folder."""
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


def _with_embeddings(folder: Path) -> list[_Files]:
    found = []
    for vectors in sorted((folder / EMBEDDINGS_FOLDER).glob("*.npy")):
        predictions = folder / f"{vectors.name.removesuffix('.npy')}.parquet"
        if predictions.exists():
            found.append(_Files(_model_of(predictions), predictions, vectors, folder / "images.parquet"))
    return found


def _model_of(predictions: Path) -> str:
    try:
        name = tables.metadata(pq.read_schema(predictions)).get("model")
    except (pa.ArrowInvalid, OSError):
        name = None  # reading it will say what is wrong, if it is the model that is asked for
    return name or predictions.stem.replace("--", "/")


def _chosen(folder: Path, files: list[_Files], model: str) -> _Files:
    names = [f.model for f in files]
    if not files:
        raise InputError(
            "The folder contains no embeddings.",
            where=folder,
            allowed=f"files in {EMBEDDINGS_FOLDER}/ with the names of the predictions",
            do="predict these images again with manyhot predict --embeddings",
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
        near = difflib.get_close_matches(model, names, n=1)
        raise InputError(
            f"The folder contains no embeddings of {model!r}.",
            where=folder,
            allowed=", ".join(names),
            do=f"did you mean {near[0]!r}?"
            if near
            else "name one of these, or predict with this model: manyhot predict --embeddings",
        )
    return fitting[0]


def _mapped(path: Path) -> npt.NDArray[Any]:
    try:
        vectors: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(
            "The file is not a complete array of embeddings.",
            where=path,
            got=str(error).partition("\n")[0],
            do="predict these images again with manyhot predict --embeddings",
        ) from error
    return vectors


def embedded_in(folder: PathLike) -> Embedded | None:
    """Return the embeddings of the first model in a folder, or None if the folder contains none."""
    found = _with_embeddings(Path(folder))
    return found[0].read() if found else None


def similar_images(
    embeddings: PathLike | None, index: PathLike | None, model: str, progress: Progress | None
) -> dict[str, Any]:
    """Return the most similar images, as the arguments `similar` and `neighbours` of other functions.

    Parameters
    ----------
    embeddings, index : path-like, optional
        As in `manyhot.diagnose_errors`.
    model : str
        Name of the model that computed the embeddings.

    Raises
    ------
    InputError
        As in `similar`, and if an index or a model is given without embeddings.
    """
    if embeddings is not None:
        table, images = neighbours_of(embeddings, index, progress, model=model)
        return {"similar": table, "neighbours": images}
    if index is not None or model:
        raise InputError(
            "Similar images need embeddings.",
            got=f"index {index} alone" if index is not None else f"only the model {model}",
            do="pass embeddings of the images, too",
        )
    return {}


def read_embeddings(folder: PathLike, model: str = "") -> Embedded:
    """Return the embeddings in a folder written by ``manyhot predict --embeddings``.

    Parameters
    ----------
    folder : path-like
    model : str
        Name of the model that computed the embeddings, if the folder contains embeddings of several models.

    Raises
    ------
    InputError
        As in `similar`.
    """
    return _Files.of(folder, model).read()
