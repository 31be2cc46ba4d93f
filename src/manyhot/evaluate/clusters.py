"""Clusters of images that depend on each other, such as those of a patient, from a column or an array."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.core.array_types import Bools
from manyhot.core.clusters import Clusters, LabelCorrelation, label_correlation
from manyhot.core.distinct import distinct_keys
from manyhot.core.ratio_intervals import FEWEST_CLUSTERS
from manyhot.core.sets import YES, LabelSets
from manyhot.errors import InputError, MatchError
from manyhot.evaluate.result_rows import Note
from manyhot.formats.files_read import add_column
from manyhot.parameters import Shown
from manyhot.report.text import listed
from manyhot.tables import Images, Labels
from manyhot.tables.arrays import label_sets
from manyhot.tables.frames import examples, read_frame_part, rows_like
from manyhot.tables.image_conditions import column_values, own_columns, pass_column
from manyhot.tables.image_ids import fold_name

ClustersLike = Annotated[Any, Shown("COLUMN")]
"""The cluster of each image: a column of the images table, several columns with commas in between, a series
or mapping by id, or an array."""

_ID = r"[ _-]?(id|key|nr|no|num|number|code|name)"
_LIKELY = re.compile(
    rf"(patient|subject|person|individual|identity|scene|site|location|video|sequence)s?({_ID})?",
    re.IGNORECASE,
)
"""Names of columns whose values are likely to be clusters."""

_NUMBERED = re.compile(rf".*{_ID}", re.IGNORECASE)
"""Names of columns whose whole numbers are ids, and not measurements or counts."""

_FEWEST_VALUES = 10
"""Values from which a column is a candidate by its label sets: a season or a split is not sampled."""

_WIDENING = 1.25
_P_VALUE = 0.001
"""Columns whose name says nothing are suggested if intervals are this many times wider, not by chance."""

_CONCENTRATED = 0.5
"""Share of labels in one cluster a class, above which a column contains classes rather than clusters."""

_SHOWN = 5
"""Slices or classes in a note."""

_DOMINANT = 0.25
"""Share of the images from which a note names the largest cluster."""


def clusters_of(clusters: ClustersLike | None, labels: Labels, images: Images | None) -> Clusters | None:
    """Return the clusters of the images of a labels table; None if `clusters` is None.

    Raises
    ------
    InputError
        If there is no such column, or if an image has no cluster.
    MatchError
        If an array does not have a value for each image, or if its order differs from that of the images.
    """
    if clusters is None:
        return None
    if isinstance(clusters, str):
        names = [clusters] if clusters in own_columns(images) else clusters.split(",")
        parts = [_clusters_in(name.strip(), labels, images) for name in names]
        if len(parts) == 1:
            return parts[0]
        together = np.stack([part.number for part in parts])
        return Clusters.of(np.unique(together, axis=1, return_inverse=True)[1].ravel())
    return number_clusters(_passed(clusters, labels), "`clusters`", labels.image_id)


def _clusters_in(column: str, labels: Labels, images: Images | None) -> Clusters:
    where, values = f"the column {column!r}", _column(column, labels, images)
    return number_clusters(values, where, labels.image_id, f"out with `where` {column}=*")


def number_clusters(
    values: pa.Array, where: str, image_id: pa.Array, out: str = "out of the labels"
) -> Clusters:
    """Return the clusters of images, given the value of each image; no value may be missing.

    `out` says in a message how to leave images out.
    """
    if pa.types.is_nested(values.type):
        raise InputError("Clusters are not single values.", where=where, got=f"values of type {values.type}")
    values = values.cast(pa.string())
    missing = pc.or_(values.is_null(), pc.is_in(values, pa.array(["", "nan"])))
    if n := pc.sum(missing).as_py():
        raise InputError(
            "Some images have no cluster.",
            where=where,
            got=f"{n:,} of {len(values):,} images, such as {examples(image_id.filter(missing))}",
            allowed="a value for each labelled image",
            do=f"add the missing values, or leave these images {out}",
        )
    return Clusters.of(values.dictionary_encode().indices.to_numpy(zero_copy_only=False))


def _column(column: str, labels: Labels, images: Images | None) -> pa.Array:
    columns = own_columns(images)
    if column not in columns:
        folded = [name for name in columns if fold_name(name) == fold_name(column)]
        column = folded[0] if len(folded) == 1 else column
    if images is None or column not in columns:
        raise InputError(
            f"There is no column {column!r} of clusters.",
            where="`clusters`",
            allowed=", ".join(columns) or "a column of the images table",
            do=None if images else pass_column(column),
        )
    values = column_values(column, labels.image_id, images, left_name=labels.name)
    add_column(images.name, column, values)
    return values


def _passed(clusters: Any, labels: Labels) -> pa.Array:
    """Return clusters that are passed in Python, one per image of the labels; null if an image has none."""
    if isinstance(clusters, Mapping):
        ids, values = pa.array(map(str, clusters), pa.string()), [*clusters.values()]
    else:
        part = read_frame_part(clusters, "`clusters`")
        ids, values = part.ids, list(part.values)
        if ids is None:
            ids = pa.array(map(str, range(len(values))), pa.string())  # as those of labels in arrays
            if set(ids.to_pylist()).isdisjoint(labels.image_id.to_pylist()):
                raise MatchError(
                    "An array of clusters has no image ids, but the labels do.",
                    where="`clusters`",
                    got=f"{len(values):,} values; ids such as {examples(labels.image_id)}",
                    do="pass a series with the ids as its index, or a mapping of ids to clusters",
                )
    rows = rows_like(labels.image_id, ids, left_name=labels.name or "the labels", right_name="`clusters`")
    flat = [None if v is None or v != v else str(v) for v in (np.asarray(v).item() for v in values)]
    return pa.array(flat, pa.string()).take(rows)


def cluster_text(
    clusters: Clusters, name: str, judged: Bools, slices: Mapping[str, Bools], by_image: Iterable[str] = ()
) -> str:
    """Return the text of a note that says over how many clusters intervals are computed.

    Parameters
    ----------
    clusters : Clusters
    name : str
        The column of the clusters; empty if there is none.
    judged : ndarray of bool, shape (n,)
        The images that a model predicts.
    slices : Mapping of str to ndarray of bool, shape (n,)
        The requested slices.
    by_image : iterable of str
        The values whose intervals do not account for clusters.
    """
    n, counts = clusters.count(judged), {s: clusters.count(judged & mask) for s, mask in slices.items()}
    of = f" of {name}" if name else ""
    text = (
        f"intervals and p-values are computed over {n:,} clusters{of} with {np.count_nonzero(judged):,} "
        "images"
    )
    few = [f"{s} with {k:,}" for s, k in counts.items() if k < min(n, FEWEST_CLUSTERS)]
    if n < FEWEST_CLUSTERS or few:
        where = f", such as {listed(few, _SHOWN)}" if few else ""
        text += f"; with fewer than {FEWEST_CLUSTERS} clusters{where}, intervals may be too narrow"
    sizes = clusters.sizes(judged)
    if n > 1 and sizes.max() > _DOMINANT * sizes.sum():
        share = 100 * sizes.max() / sizes.sum()
        text += (
            f"; one of them has {share:.0f} % of the images, so intervals may be far too narrow or too wide"
        )
    if exceptions := " and of ".join(by_image):
        text += f"; intervals of {exceptions} are still computed over images, and are too narrow"
    return text


def confined_text(clusters: Clusters, sets: LabelSets, judged: Bools, names: Sequence[str]) -> str:
    """Return the text of a note on classes that are valid in one cluster only; empty if there are none.

    Parameters
    ----------
    clusters : Clusters
    sets : LabelSets
    judged : ndarray of bool, shape (n,)
        The images that a model predicts.
    names : sequence of str, length C
    """
    valid = (sets.state == YES) & judged[sets.rows]
    cluster = clusters.number[sets.rows[valid]]
    pairs = distinct_keys(sets.classes[valid].astype(np.int64) * clusters.n + cluster)
    n = np.bincount(pairs // clusters.n, minlength=sets.n_classes)
    confined = np.flatnonzero(n == 1)
    if not len(confined):
        return ""
    return (
        f"{len(confined):,} of {np.count_nonzero(n):,} classes are valid in one cluster only, such as "
        f"{listed([names[i] for i in confined.tolist()], _SHOWN)}: how much their results vary between "
        "clusters is unknown, so intervals of macro averages may be too narrow"
    )


def cluster_notes(
    clusters: ClustersLike | None,
    dataset: str,
    labels: Labels,
    images: Images | None,
    seen: Bools,
    by_image: Iterable[str] = (),
) -> Iterator[Note]:
    """Yield a note on how many clusters of the predicted images `seen` the intervals are based on.

    Without clusters, yield a note on a column that may contain clusters.
    """
    found = clusters_of(clusters, labels, images)
    if found is None:
        yield from likely_cluster_notes(dataset, labels, images)
        return
    name = clusters if isinstance(clusters, str) else ""
    yield Note(dataset, "", "clusters", found.count(seen), cluster_text(found, name, seen, {}, by_image))


def likely_cluster_notes(dataset: str, labels: Labels, images: Images | None) -> Iterator[Note]:
    """Yield a note if a column of the images may contain clusters."""
    columns = ((name, _column(name, labels, images)) for name in own_columns(images))
    if found := likely_column(columns, labels):
        column, alike = found
        yield Note(
            dataset,
            "",
            "clusters",
            len(labels),
            f"intervals assume that images are independent, but some of them share a value of {column}{alike}"
            f": to resample these values instead of images, pass {column} as `clusters`",
        )


def likely_column(
    columns: Iterable[tuple[str, pa.Array | pa.ChunkedArray]], labels: Labels
) -> tuple[str, str] | None:
    """Return a column that may contain clusters, and how similar their label sets are; None if there is none.

    Columns are suggested if images that share a value have similar label sets, and those whose names suggest
    clusters come first. If there are none, a column with repeated values is suggested by its name alone.
    """
    found, by_name = dict[str, tuple[bool, LabelCorrelation]](), list[str]()
    for name, column in columns:
        is_named = _LIKELY.fullmatch(name) is not None
        if not is_named and not _may_be_ids(name, column.type):
            continue
        if pa.types.is_nested(column.type) or pc.count_distinct(column).as_py() == len(column.drop_null()):
            continue
        alike = _correlation(column, labels)
        if alike is not None:
            found[name] = is_named, alike
        elif is_named:
            by_name.append(name)
    if not found:
        return (max(by_name), "") if by_name else None
    chosen = max(found, key=lambda name: (found[name][0], found[name][1].widening, name))
    others = "".join(f"; {name}: {alike.icc:.2f}" for name, (_, alike) in found.items() if name != chosen)
    alike = found[chosen][1]
    return chosen, (
        f", and their label sets are similar (intraclass correlation {alike.icc:.2f}{others}), so intervals "
        f"may be too narrow by a factor of {alike.widening:.1f}"
    )


def _may_be_ids(name: str, kind: pa.DataType) -> bool:
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)
    return is_text or (pa.types.is_integer(kind) and _NUMBERED.fullmatch(name) is not None)


def _correlation(column: pa.Array | pa.ChunkedArray, labels: Labels) -> LabelCorrelation | None:
    """Return how similar the label sets of images that share a value are; None if they are not."""
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    has = values.is_valid().to_numpy(zero_copy_only=False)
    number = values.cast(pa.string()).dictionary_encode().indices.fill_null(0).to_numpy(zero_copy_only=False)
    clusters = Clusters(number.astype(np.intp), int(number.max(initial=0)) + 1)
    sizes = clusters.sizes(has)
    if np.count_nonzero(sizes) < _FEWEST_VALUES or sizes.max() > _DOMINANT * sizes.sum():
        return None
    alike = label_correlation(label_sets(labels), clusters, has)
    if alike is None or alike.widening < _WIDENING or alike.p_value > _P_VALUE:
        return None
    return None if alike.concentration > _CONCENTRATED else alike
