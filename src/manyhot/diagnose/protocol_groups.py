"""Label sets of several protocols, joined by image: for all of them, and for every two."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot.core.array_types import Bools
from manyhot.core.sets import NO_LABEL, LabelSets
from manyhot.data.benchmarks import is_published_name
from manyhot.data.data_sets import Source
from manyhot.data.inputs import PredictionsLike, Reading, open_inputs, open_labels
from manyhot.errors import InputError, MatchError, UsageError, counted
from manyhot.evaluate.slices import labels_of, model_cases
from manyhot.run import Run
from manyhot.tables import Labels, one_chunk
from manyhot.tables.arrays import label_sets, original_labels
from manyhot.tables.labels import with_ids_like
from manyhot.tables.own_classes import over_list_of

ALL_SETS = "all label sets"
"""The group of the images that all label sets have, if there are more than two."""

_BESIDE = ("image_id", "label", "rated", "usable", "classes", "state")

_ABSENT = np.iinfo(np.int32).min
"""Stands for the class of a model on an image that it does not predict."""


@dataclass(frozen=True, eq=False)
class LabelProtocol:
    """The label sets that one protocol made.

    Attributes
    ----------
    source : Source
        Where the label sets come from.
    """

    name: str
    labels: Labels
    source: Source

    @cached_property
    def sets(self) -> LabelSets:
        """The label sets as arrays."""
        return label_sets(self.labels)


@dataclass(frozen=True, eq=False)
class TopClasses:
    """The top class of M models on n images.

    Attributes
    ----------
    image_id : pyarrow.Array of string, shape (n,)
    top : ndarray of int32, shape (n, M)
    """

    models: tuple[str, ...]
    image_id: pa.Array
    top: npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class ProtocolGroup:
    """The images that several protocols labelled.

    Attributes
    ----------
    name : str
        `ALL_SETS`, or the names of two protocols.
    image_id : pyarrow.Array of string, shape (n,)
    rated : tuple of ndarray of bool, shape (n,)
    """

    name: str
    names: tuple[str, ...]
    image_id: pa.Array
    sets: tuple[LabelSets, ...]
    rated: tuple[Bools, ...]

    @classmethod
    def of(cls, name: str, protocols: Sequence[LabelProtocol]) -> ProtocolGroup | None:
        """Return the images that these protocols share, or None if they share none."""
        ids = [p.labels.image_id for p in protocols]
        shared = reduce(lambda a, b: a.filter(pc.is_in(a, b)), ids)
        if not len(shared):
            return None
        rows = [pc.index_in(shared, own).to_numpy() for own in ids]
        return cls(
            name,
            tuple(p.name for p in protocols),
            shared,
            tuple(p.sets.take(at) for p, at in zip(protocols, rows, strict=True)),
            tuple(p.labels.rated[at] for p, at in zip(protocols, rows, strict=True)),
        )

    @property
    def label(self) -> npt.NDArray[np.int32]:
        """The original label of each image, from the first protocol that has one, shape (n,)."""
        return reduce(lambda a, b: np.where(a == NO_LABEL, b, a), (s.label for s in self.sets))

    def take(self, chosen: Bools) -> ProtocolGroup:
        """Return the group of the selected images."""
        at = np.flatnonzero(chosen)
        sets = tuple(one.take(at) for one in self.sets)
        return replace(
            self, image_id=self.image_id.take(pa.array(at)), sets=sets, rated=tuple(r[at] for r in self.rated)
        )

    def slices(self) -> Iterator[tuple[str, ProtocolGroup]]:
        """Yield all usable images and, if raters saw only some in each protocol, the images they saw."""
        usable = self.take(np.logical_and.reduce([s.usable for s in self.sets]))
        yield "all", usable
        rated = np.logical_and.reduce(usable.rated)
        if rated.any() and not rated.all():
            yield "rated", usable.take(rated)


def open_protocols(labels: Any, reading: Reading, run: Run) -> list[LabelProtocol]:
    """Return the label sets that are passed, with image ids in the form of the first label sets.

    Raises
    ------
    UsageError
        If only one label set is passed, or the option for the name of a data set is used.
    MatchError
        If their class lists differ.
    InputError
        If label sets give an image different original labels.
    """
    if reading.dataset:
        raise UsageError(
            "The name of a data set has no effect, because tables contain the names of label sets.",
            got=f"`dataset` {reading.dataset}",
            do="leave it out; in Python, pass a mapping of names to label sets",
        )
    found = [
        _protocol(name, source)
        for name, one in _listed(labels)
        for source in open_labels(one, reading=reading, run=run)
    ]
    if len(found) < 2:
        raise UsageError(
            "Comparing protocols needs at least two label sets.",
            got=found[0].name if found else "none",
            do="pass label sets of the same images, such as imagenet-val and labels.csv",
        )
    protocols = _with_distinct_names(_with_one_list(found, reading.match))
    merged_labels(protocols)
    return protocols


def _listed(labels: Any) -> list[tuple[str, Any]]:
    """Return label sets with their names, which are empty if the call does not name them."""
    if isinstance(labels, Mapping):
        return list(labels.items())
    several = isinstance(labels, list | tuple)
    return [("", one) for one in (labels if several else [labels])]


def _protocol(name: str, source: Source) -> LabelProtocol:
    return LabelProtocol(name or source.name, labels_of(source), source)


def _with_distinct_names(protocols: Sequence[LabelProtocol]) -> list[LabelProtocol]:
    """Return the protocols with numbers behind names that several have."""
    names = [p.name for p in protocols]
    return [
        replace(p, name=f"{p.name} ({names[: i + 1].count(p.name)})" if names.count(p.name) > 1 else p.name)
        for i, p in enumerate(protocols)
    ]


def _with_one_list(protocols: Sequence[LabelProtocol], match: str) -> list[LabelProtocol]:
    """Return the protocols with the ids of the first, after a check of their class lists."""
    first, *others = protocols
    matched = [first]
    for other in others:
        other = replace(other, labels=over_list_of(other.labels, first.labels))
        _check_classes(first, other)
        labels, _ = with_ids_like(other.labels, first.labels.image_id, other_name=first.name, match=match)
        matched.append(replace(other, labels=labels))
    return matched


def _check_classes(first: LabelProtocol, other: LabelProtocol) -> None:
    a, b = first.labels, other.labels
    differ = a.class_hash and b.class_hash and a.class_hash != b.class_hash
    if a.n_classes == b.n_classes and not differ:
        return
    raise MatchError(
        f"{other.name} has a different class list from {first.name}.",
        got=f"{b.n_classes:,} classes{f', class list {b.class_hash}' if differ else ''}",
        allowed=f"{a.n_classes:,} classes{f', class list {a.class_hash}' if differ else ''}",
        do="pass label sets over the same classes, or the class list as `classes`",
    )


def merged_labels(protocols: Sequence[LabelProtocol]) -> Labels:
    """Return the labels of the images of all protocols, each from the first protocol that has the image.

    Raises
    ------
    InputError
        If two protocols give an image different original labels.
    """
    first, *others = protocols
    table = _beside(first.labels)
    for other in others:
        _check_labels(table, first.name, other)
        ids = one_chunk(table["image_id"])
        new = _beside(other.labels)
        table = pa.concat_tables([table, new.filter(pc.invert(pc.is_in(one_chunk(new["image_id"]), ids)))])
    return replace(first.labels, table=table, name=first.name, asked_known=False, complete=False)


def _beside(labels: Labels) -> pa.Table:
    """Return the columns of labels that all tables have."""
    table = labels.table
    if "label" not in table.column_names:
        table = table.append_column("label", pa.nulls(len(table), pa.int32()))
    if "rated" not in table.column_names:
        table = table.append_column("rated", pa.nulls(len(table), pa.bool_()))
    return table.select(_BESIDE)


def _check_labels(table: pa.Table, name: str, other: LabelProtocol) -> None:
    at = pc.index_in(one_chunk(table["image_id"]), other.labels.image_id)
    rows = np.flatnonzero(at.is_valid().to_numpy(zero_copy_only=False))
    theirs = original_labels(other.labels)[at.drop_null().to_numpy()]
    ours = pc.fill_null(one_chunk(table["label"]), NO_LABEL).to_numpy()[rows]
    differ = np.flatnonzero((ours != theirs) & (ours != NO_LABEL) & (theirs != NO_LABEL))
    if not len(differ):
        return
    one = differ[0]
    image = table["image_id"][int(rows[one])].as_py()
    raise InputError(
        "Two label sets give the same image different original labels.",
        where=f"{name} and {other.name}",
        got=f"{counted(len(differ), 'image')}, such as {image}: {ours[one]} and {theirs[one]}",
        allowed="the same original label, or none, in each",
        do="check that both are about the same images and that their classes are in the same order",
    )


def groups_of(protocols: Sequence[LabelProtocol]) -> tuple[list[ProtocolGroup], list[str]]:
    """Return the images shared by all protocols and by each pair, and notes on pairs that share none.

    Raises
    ------
    MatchError
        If no two protocols share an image.
    """
    pairs = list(itertools.combinations(protocols, 2))
    parts = [(f"{a.name}, {b.name}", [a, b]) for a, b in pairs]
    if len(protocols) > 2:
        parts.insert(0, (ALL_SETS, list(protocols)))
    made = [(name, ProtocolGroup.of(name, of)) for name, of in parts]
    groups = [group for _, group in made if group is not None]
    if not groups:
        a, b = pairs[0]
        raise MatchError(
            "No two of the label sets have an image in common.",
            got=f"ids such as {a.labels.image_id[0]} in {a.name} and {b.labels.image_id[0]} in {b.name}",
            do="pass label sets of the same images; `match` says how ids of files are compared",
        )
    absent = [f"no image is in {'all label sets' if n == ALL_SETS else n}" for n, g in made if g is None]
    return groups, absent


def top_classes(
    labels: Any,
    protocols: Sequence[LabelProtocol],
    predictions: PredictionsLike,
    reading: Reading,
    run: Run,
) -> tuple[TopClasses | None, Source | None]:
    """Return the top classes of the models on all images, and their source; None without models."""
    source = _predicted(labels, protocols, predictions, reading, run)
    if source is None:
        return None, None
    merged = merged_labels(protocols)
    cases = replace(source, labels=merged, images=None, campaign=None)
    names, tops = list[str](), list[npt.NDArray[np.int32]]()
    for model in model_cases(cases, trust_order=reading.trust_order, run=run):
        top = np.full(len(merged), _ABSENT, np.int32)
        top[model.rows] = model.case.top[:, 0]
        names.append(model.model)
        tops.append(top)
    return TopClasses(tuple(names), merged.image_id, np.stack(tops, axis=1)), source


def _predicted(
    labels: Any,
    protocols: Sequence[LabelProtocol],
    predictions: PredictionsLike,
    reading: Reading,
    run: Run,
) -> Source | None:
    """Return the data set whose models are judged: the user's predictions, or published ones."""
    passed = not isinstance(predictions, list | tuple) or len(predictions)
    published = [one for _, one in _listed(labels) if is_published_name(one)]
    if passed:
        merged = merged_labels(protocols)
        return next(open_inputs(merged, predictions, reading=reading, run=run))
    if published:
        return next(open_inputs(published[0], reading=reading, run=run))
    if reading.models:
        raise UsageError(
            "There are no predictions from which to choose models.",
            got=", ".join(reading.models),
            do="pass them as `predictions`",
        )
    return None


def predicted_in(group: ProtocolGroup, top: TopClasses) -> tuple[Bools, npt.NDArray[np.int32]]:
    """Return which images of a group are in all predictions, shape (n,), and top classes, shape (n, M)."""
    own = top.top[pc.index_in(group.image_id, top.image_id).to_numpy()]
    return (own != _ABSENT).all(axis=1), own
