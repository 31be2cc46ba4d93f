"""Embeddings to similar images: for each image and class the nearest images of that class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.core.nearest import NOBODY, Neighbours, nearest, nearest_by_class
from manyhot.core.sets import NO_LABEL, top_k
from manyhot.errors import InputError, MatchError
from manyhot.tables import Images, Predictions, metadata

BY = ("predicted", "label", "any")
"""Whose images are searched for: of the classes predicted, of the original label, of any class."""

Classes = npt.NDArray[np.integer]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Embedded:
    """Images as one model sees them: its embeddings, with what is known about the images.

    Attributes
    ----------
    predictions : Predictions
    vectors : ndarray of float16 or float32, shape (n, D)
        Row i is the embedding of the image in row i of the predictions; may be mapped from a file.
    images : Images, optional
        Their original labels.
    name : str
        For messages.

    Raises
    ------
    InputError
        If there are not as many embeddings as predictions.
    """

    predictions: Predictions
    vectors: npt.NDArray[np.floating]
    images: Images | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self):
            raise InputError(
                "There are not as many embeddings as predictions.",
                where=self.name or None,
                got=f"{self.predictions.model}: {_shape(self.vectors)}",
                allowed=f"{len(self):,} rows: row i belongs to row i of the predictions",
                do="predict these images again, with --embeddings",
            )

    def __len__(self) -> int:
        return len(self.predictions)

    @property
    def image_id(self) -> pa.Array:
        """The ids, one an image."""
        return self.predictions.image_id

    def labels(self) -> npt.NDArray[np.int64]:
        """Return the original label of each image, shape (n,); -1 where there is none."""
        if self.images is None or self.images.label is None:
            return np.full(len(self), NO_LABEL, np.int64)
        at = pc.index_in(self.image_id, self.images.image_id)
        found: npt.NDArray[np.int64] = (
            pc.fill_null(self.images.label.take(at), NO_LABEL).to_numpy().astype(np.int64)
        )
        return found

    def best(self, top: int) -> Classes:
        """Return the best predicted classes, best first, shape (n, at most top); -1 fills short lists."""
        if self.predictions.classes is not None:
            return self.predictions.classes[:, :top]
        assert self.predictions.scores is not None
        return top_k(self.predictions.scores, top)


@dataclass(frozen=True, eq=False)
class Similar:
    """Similar images, and what the reader must know about them.

    Attributes
    ----------
    table : pyarrow.Table
        The table ``similar``; see `manyhot.tables.TABLES`.
    n_images : int
        Images that were asked about.
    n_empty : int
        Rows without any neighbour.
    notes : tuple of str
        What was left out, and why.
    """

    table: pa.Table
    n_images: int
    n_empty: int
    notes: tuple[str, ...]


def similar(
    index: Embedded,
    queries: Embedded | None = None,
    *,
    k: int = 10,
    classes: str = "predicted",
    top: int = 5,
    progress: Progress | None = None,
) -> Similar:
    """Find the nearest images by embedding: of each class that an image may show, or of any.

    An image of the index is of the class that is its original label. No image is its own neighbour.

    Parameters
    ----------
    index : Embedded
        Where to search.
    queries : Embedded, optional
        The images to find similar ones of; those of the index by default.
    k : int
        Neighbours for each image and class.
    classes : {"predicted", "label", "any"}
        A row for each of the `top` best predicted classes of an image, for its original label, or one for
        images of any class.
    top : int
        As many as predictions hold where these hold fewer.
    progress : callable, optional
        Called as ``progress(comparisons done, comparisons in all)``.

    Returns
    -------
    Similar
        By image in the order of the queries, then by class, the best predicted first.

    Raises
    ------
    InputError
        For a choice that does not exist, images without labels where a class needs them, and embeddings of
        different length.
    MatchError
        If queries and index come from different models or are over different class lists.
    """
    queries = index if queries is None else queries
    _check_choice(k, classes, top)
    _check_same_model(index, queries)
    own = pc.fill_null(pc.index_in(queries.image_id, index.image_id), NOBODY).to_numpy()
    if classes == "any":
        query, wanted = np.arange(len(queries)), None
        found = nearest(queries.vectors, index.vectors, k, own=own, progress=progress)
        notes: list[str] = []
    else:
        labels = index.labels()
        _check_labels(index, queries, labels, classes)
        pairs = _wanted(queries, classes, top)
        query, wanted = pairs[:, 0], pairs[:, 1]
        found = nearest_by_class(queries.vectors, pairs, index.vectors, labels, k, own=own, progress=progress)
        notes = _class_notes(queries, labels, pairs, own, found)
    table = _table(index, queries, query, wanted, found)
    n_empty = int(np.count_nonzero(found.rows[:, 0] == NOBODY))
    return Similar(table, len(queries), n_empty, (*notes, *_blank_notes(index, queries, found)))


def _wanted(queries: Embedded, classes: str, top: int) -> npt.NDArray[np.int64]:
    """Return the (query, class) pairs to search for, shape (p, 2)."""
    asked = queries.labels()[:, None] if classes == "label" else queries.best(top)
    query, place = np.nonzero(asked != NO_LABEL)
    return np.stack([query, asked[query, place].astype(np.int64)], axis=1)


def _table(
    index: Embedded, queries: Embedded, query: Classes, wanted: Classes | None, found: Neighbours
) -> pa.Table:
    there = found.rows != NOBODY
    ends = pa.array(np.append(0, np.cumsum(there.sum(axis=1))).astype(np.int32))
    class_id = pa.nulls(len(query), pa.int32()) if wanted is None else pa.array(wanted, pa.int32())
    neighbours = index.image_id.take(pa.array(found.rows[there]))
    return pa.table(
        {
            "image_id": queries.image_id.take(pa.array(query)),
            "class_id": class_id,
            "neighbours": pa.ListArray.from_arrays(ends, neighbours),
            "similarity": pa.ListArray.from_arrays(ends, pa.array(found.similarity[there])),
        }
    )


def _class_notes(
    queries: Embedded, labels: Classes, pairs: Classes, own: Classes, found: Neighbours
) -> list[str]:
    notes = []
    without = len(queries) - len(np.unique(pairs[:, 0]))
    if without:
        notes.append(f"{without:,} of {len(queries):,} images have no class to search for: no row")
    # What has no direction is told apart: its rows are empty whatever the index holds.
    empty = (found.rows[:, 0] == NOBODY) & ~np.isin(pairs[:, 0], found.blank_queries)
    if empty.any():
        missing = np.setdiff1d(pairs[empty, 1], labels)
        notes.append(
            f"{np.count_nonzero(empty):,} of {len(pairs):,} rows are empty: the index holds no other image "
            f"of the class{_named(missing)}"
        )
    unlabelled = int(np.count_nonzero(labels == NO_LABEL))
    if unlabelled:
        notes.append(f"{unlabelled:,} of {len(labels):,} images of the index have no label: not searched")
    return notes


def _named(missing: Classes, most: int = 3) -> str:
    if not len(missing):
        return ""
    shown = ", ".join(map(str, missing[:most])) + (", …" if len(missing) > most else "")
    return f"; none at all of {len(missing):,} classes ({shown})"


def _blank_notes(index: Embedded, queries: Embedded, found: Neighbours) -> list[str]:
    return [
        f"{len(rows):,} {what} have an embedding without direction, all zeros or not finite, such as "
        f"{side.image_id[int(rows[0])]}: {but}"
        for rows, side, what, but in (
            (found.blank_queries, queries, "images", "no neighbours"),
            (found.blank_index, index, "images of the index", "nobody's neighbour"),
        )
        if len(rows)
    ]


def _check_choice(k: int, classes: str, top: int) -> None:
    for name, count in (("k", k), ("top", top)):
        if count < 1:
            raise InputError(f"{name} must be at least 1.", got=count)
    if classes not in BY:
        raise InputError("There is no such choice of classes.", got=classes, allowed=", ".join(BY))


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
            got=f"{queries.vectors.shape[1]:,} numbers an image",
            allowed=f"{index.vectors.shape[1]:,}, as in {index.name or 'the index'}",
            do="predict both with the same weights of the model, with --embeddings",
        )


def _check_labels(index: Embedded, queries: Embedded, labels: Classes, classes: str) -> None:
    for side, what in ((index, "index"), *([(queries, "queries")] if classes == "label" else [])):
        if (side.labels() if side is queries else labels).max(initial=NO_LABEL) == NO_LABEL:
            raise InputError(
                f"The images of the {what} have no labels.",
                where=side.name or None,
                allowed="a column label in images.parquet",
                do="predict again with --labels, or search among all images with --classes any",
            )
    asked = queries.predictions.class_hash if classes == "predicted" else _label_hash(queries)
    told = _label_hash(index)
    if asked and told and asked != told:
        raise MatchError(
            "Queries and index are over different class lists.",
            where=queries.name or None,
            got=f"class list {asked}",
            allowed=f"class list {told}, as in {index.name or 'the index'}",
            do="predict both over the same class list, or search among all images with --classes any",
        )


def _label_hash(side: Embedded) -> str:
    """Return the hash of the class list that labels count in; by default the one predicted over."""
    told = {} if side.images is None else metadata(side.images.table)
    return told.get("classes") or side.predictions.class_hash


def _shape(vectors: npt.NDArray[np.floating]) -> str:
    return f"{len(vectors):,} rows" if vectors.ndim == 2 else f"an array of shape {vectors.shape}"
