"""Find similar images by embedding: the nearest images of each class for each image."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.command import command
from manyhot.core.nearest import NOBODY, Neighbours, nearest, nearest_by_class
from manyhot.core.sets import NO_LABEL
from manyhot.errors import InputError, MatchError, first_names
from manyhot.files import hashes_of
from manyhot.formats import RowsLike, read_rows
from manyhot.formats.writing import PathLike
from manyhot.parameters import AtLeast, Count, Shown, Was
from manyhot.predict.embeddings import ClassIds, Embedded, EmbeddingFiles, is_array, read_embeddings
from manyhot.result import Result
from manyhot.run import QUIET, Progress, Run
from manyhot.tables import Images, count_shared, metadata
from manyhot.tables.definitions import FLOATS32, INT, TEXT, TEXTS, declare_table
from manyhot.tables.labels import with_ids_like

CLASS_CHOICES = ("predicted", "label", "any")
"""Which images are searched: those of the predicted classes, of the original label, or of any class."""

declare_table(
    "similar",
    (
        TEXT("image_id", "as in images"),
        INT.nullable("class_id", "class of the neighbours; null if the search was not restricted to a class"),
        TEXTS("neighbours", "ids of the nearest images, nearest first; empty if there are none"),
        FLOATS32("similarity", "cosine similarity of the embeddings of the image and each neighbour"),
    ),
)


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
    rows: RowsLike | None = None,
    query_rows: RowsLike | None = None,
    run: Run = QUIET,
) -> Similar:
    """For each class that an image may show, find that class's images with the most similar embeddings.

    The class of an image in the index is its original label. An image is never its own neighbour.

    Parameters
    ----------
    index
        Folder to search, written by 'manyhot predict --embeddings', or a .npy file with one row for each
        image of `rows`. In Python, it can also be an `Embedded`.
    queries
        Folder or .npy file of the query images, of the same model. By default, the images of the index are
        the queries.
    embeddings_model
        Name of the model that computed the embeddings, if the folder contains embeddings of several models.
    among
        Classes whose images are searched: the top predicted classes, the original label, or any class.
    top
        Number of predicted classes to search per image. If fewer classes are stored, all are searched.
    neighbours
        Number of neighbours for each image and class.
    rows, query_rows
        Files that list the image of each row of the .npy files of the index and of the queries, and its label
        if it is known.

    Returns
    -------
    Similar

    Raises
    ------
    InputError
        If there are no embeddings, if there are embeddings of several models and `embeddings_model` is not
        one of them, if a file is damaged, or if the images have no labels and the search is by class.
    MatchError
        If the queries and the index were embedded with different models or have different class lists.
    """
    if among not in CLASS_CHOICES:
        raise InputError("This choice does not exist.", got=among, allowed=", ".join(CLASS_CHOICES))
    inputs = dict[str, str]()
    if not isinstance(index, Embedded):
        index, inputs = _opened(index, embeddings_model, rows)
    if queries is None:
        queries = index
    elif not isinstance(queries, Embedded):
        own = "" if is_array(index.name) else index.predictions.model
        queries, more = _opened(queries, embeddings_model or own, query_rows, "queries/")
        inputs = more | inputs
    found = _search(index, queries, among, top, neighbours, run.on_progress)
    return replace(found, metadata={"model": index.predictions.model}, inputs=inputs)


def _opened(
    path: PathLike, model: str, rows: RowsLike | None, before: str = ""
) -> tuple[Embedded, dict[str, str]]:
    """Return the embeddings in a folder or an array, and the hashes of the files keyed by name."""
    if not is_array(path):
        files = EmbeddingFiles.of(path, model)
        return files.read(), files.hashes(before)
    images = None if rows is None else read_rows(rows)
    found = replace(read_embeddings(path, rows=images), images=images)
    files_of_rows = [rows] if isinstance(rows, str | os.PathLike) else []
    return found, {before + name: digest for name, digest in hashes_of([path, *files_of_rows]).items()}


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
        asked = queries.labels()[:, None] if among == "label" else queries.best(top)
        query, place = np.nonzero(asked != NO_LABEL)
        class_ids = asked[query, place].astype(np.int64)
        pairs = np.stack([query, class_ids], axis=1)
        found = nearest_by_class(queries.vectors, pairs, index.vectors, labels, k, own=own, progress=progress)
        notes = _class_notes(queries, labels, pairs, found)
    table = _table(index, queries, query, class_ids, found)
    n_empty = int(np.count_nonzero(found.rows[:, 0] == NOBODY))
    return Similar(table, len(queries), n_empty, notes=(*notes, *_blank_notes(index, queries, found)))


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


def _class_notes(queries: Embedded, labels: ClassIds, pairs: ClassIds, neighbours: Neighbours) -> list[str]:
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
    return f", and no image at all of {len(missing):,} classes ({first_names(missing, most)})"


def _blank_notes(index: Embedded, queries: Embedded, neighbours: Neighbours) -> list[str]:
    return [
        f"{len(rows):,} {what}, such as {side.image_id[int(rows[0])]}, have an embedding that is zero or not "
        f"finite, and {but}"
        for rows, side, what, but in (
            (neighbours.blank_queries, queries, "images", "have no neighbours"),
            (neighbours.blank_index, index, "images of the index", "are no image's neighbour"),
        )
        if len(rows)
    ]


def _check_same_model(index: Embedded, queries: Embedded) -> None:
    ours, theirs = index.predictions.model, queries.predictions.model
    if ours != theirs and not (is_array(index.name) or is_array(queries.name)):  # whose models are unknown
        raise MatchError(
            "The queries and the index were embedded with different models.",
            where=queries.name or None,
            got=theirs,
            allowed=ours,
            do="run manyhot predict --embeddings on both with the same model",
        )
    if index.vectors.shape[1] != queries.vectors.shape[1]:
        raise MatchError(
            "The embeddings of the queries and of the index differ in length.",
            where=queries.name or None,
            got=f"{queries.vectors.shape[1]:,} numbers per image",
            allowed=f"{index.vectors.shape[1]:,}, as in {index.name or 'the index'}",
            do="run manyhot predict --embeddings on both with the same weights of the model",
        )


def _check_labels(index: Embedded, queries: Embedded, labels: ClassIds, classes: str) -> None:
    for side, what in ((index, "index"), *([(queries, "queries")] if classes == "label" else [])):
        if (side.labels() if side is queries else labels).max(initial=NO_LABEL) == NO_LABEL:
            raise InputError(
                f"The images of the {what} have no labels.",
                where=side.name or None,
                allowed="a column 'label' in images.parquet",
                do="predict again with manyhot predict --labels, or search among all images with `among`=any",
            )
    if classes == "predicted" and queries.best(1).max(initial=NO_LABEL) == NO_LABEL:
        raise InputError(
            "The embeddings have no predicted classes.",
            where=queries.name or None,
            do="search among images of the same label or all images: `among`=label or `among`=any",
        )
    asked = queries.predictions.class_hash if classes == "predicted" else _label_hash(queries)
    own = _label_hash(index)
    if asked and own and asked != own:
        raise MatchError(
            "The queries and the index have different class lists.",
            where=queries.name or None,
            got=f"class list {asked}",
            allowed=f"class list {own}, as in {index.name or 'the index'}",
            do="run manyhot predict on both with the same class list, or search among all images with "
            "`among`=any",
        )


def _label_hash(side: Embedded) -> str:
    """Return the hash of the class list of the labels; by default that of the predictions."""
    about = {} if side.images is None else metadata(side.images.table)
    return about.get("classes") or side.predictions.class_hash


def neighbours_of(
    queries: PathLike,
    index: PathLike | None,
    progress: Progress | None = None,
    *,
    model: str = "",
    rows: Images | None = None,
) -> tuple[pa.Table, Images | None]:
    """Return the ten nearest images in the index for each query image, and the images of the index.

    Parameters
    ----------
    queries, index : path-like
        Folders written by ``manyhot predict --embeddings`` with the same model. By default, the index is the
        folder of the queries. The queries can also be a .npy file.
    model : str
        Name of the model that computed the embeddings, if `queries` contains embeddings of several models.
    rows : Images, optional
        The images of the rows of a .npy file.

    Raises
    ------
    InputError
        As in `similar`.
    """
    asked = read_embeddings(queries, model, rows)
    own = model if is_array(queries) else asked.predictions.model
    searched = asked if index is None else read_embeddings(index, own, rows)
    return _search(searched, asked, "any", 1, 10, progress).table, searched.images


def labels_of_searched(images: Images | None, ids: pa.Array, class_hash: str) -> Images | None:
    """Return the searched images with labels, or None if the labels of the call must be used instead.

    Parameters
    ----------
    images : Images, optional
        The searched images. Their labels are not used if they are of another class list, such as that of the
        network that computed the embeddings.
    ids : pyarrow.Array of string
        The ids of the labelled images of the call.
    class_hash : str
        The hash of their class list; empty if unknown.

    Raises
    ------
    InputError
        If the searched images are different ones and have no labels of these classes.
    """
    if images is None:
        return None
    is_labelled = images.label is not None and images.label.null_count < len(images.label)
    own = metadata(images.table).get("classes", "")
    is_same = not own or not class_hash or own == class_hash
    if is_labelled and is_same:
        return images
    if count_shared(with_ids_like(images, ids, other_name="the labels")[0].image_id, ids):
        return None
    what = "no original labels" if not is_labelled else "labels of a different class list"
    raise InputError(f"The similar images have {what}.", where=images.name or None, allowed="a column label")


def similar_images(
    embeddings: PathLike | None,
    index: PathLike | None,
    model: str,
    progress: Progress | None,
    rows: Images | None = None,
) -> dict[str, Any]:
    """Return the most similar images, as the arguments `similar` and `neighbours` of other functions.

    Parameters
    ----------
    embeddings, index : path-like, optional
        As in `manyhot.diagnose_errors`.
    model : str
        Name of the model that computed the embeddings.
    rows : Images, optional
        The images of the rows of an array of embeddings.

    Raises
    ------
    InputError
        As in `similar`, or if an index or a model is passed without embeddings.
    """
    if embeddings is not None:
        table, images = neighbours_of(embeddings, index, progress, model=model, rows=rows)
        return {"similar": table, "neighbours": images}
    if index is not None or model:
        raise InputError(
            "Finding similar images requires embeddings.",
            got=f"index {index} alone" if index is not None else f"only the model {model}",
            do="pass embeddings of the images, too",
        )
    return {}
