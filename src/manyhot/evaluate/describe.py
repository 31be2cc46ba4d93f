"""What a labels table holds: sizes of label sets, pairs of classes, rejected original labels, a data card.

Label files in, their sizes of label sets, pairs of classes and rejected labels out.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot.classes import ClassList, class_list, class_list_of
from manyhot.core.sets import UNCLEAR, YES, LabelSets, pairs_within
from manyhot.data import catalog
from manyhot.data.benchmarks import BENCHMARKS, Fetched
from manyhot.errors import InputError, MatchError
from manyhot.evaluate.outputs import save_label_figures, write_tables
from manyhot.files import sha256
from manyhot.formats import read_classes, read_images, read_labels
from manyhot.formats.writing import PathLike, Progress
from manyhot.tables import Labels, one_chunk, schema
from manyhot.tables.sets import label_sets

if TYPE_CHECKING:
    from manyhot.reassess.card import CardFacts


MOST_PAIRS = 200
"""Pairs of classes that are listed, the most frequent first."""


@dataclass(frozen=True, eq=False)
class Description:
    """A labels table in numbers.

    Attributes
    ----------
    datasets, set_sizes, class_pairs, rejected : pyarrow.Table
        The tables of these names; see `manyhot.tables.TABLES`.
    """

    datasets: pa.Table
    set_sizes: pa.Table
    class_pairs: pa.Table
    rejected: pa.Table

    @classmethod
    def concat(cls, parts: list[Description]) -> Description:
        """Join the descriptions of several data sets."""
        return cls(*(pa.concat_tables([p.tables[n] for p in parts]) for n in parts[0].tables))

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The tables by name."""
        return {
            "datasets": self.datasets,
            "set_sizes": self.set_sizes,
            "class_pairs": self.class_pairs,
            "rejected": self.rejected,
        }


def describe_tables(
    labels: Labels,
    *,
    classes: ClassList | None = None,
    dataset: str = "",
    licence: str | None = None,
    citation: str | None = None,
    home: str | None = None,
) -> Description:
    """Describe a labels table.

    Parameters
    ----------
    labels : Labels
    classes : ClassList, optional
        Gives names; by default the list that the labels name, and else class ids stand for names.
    dataset : str
        Its name; that of the labels by default.
    licence, citation, home : str, optional
        For the data card.

    Raises
    ------
    InputError
        If the labels have no name and none is given.
    """
    name = dataset or labels.name
    if not name:
        raise InputError("The labels have no name.", do="name the data set")
    known = classes or class_list_of(labels.class_hash)
    names = known.names if known else tuple(map(str, range(labels.n_classes)))
    sets = label_sets(labels)
    rejected = _rejected(name, labels, sets, names)
    card = _card(name, labels, sets) | {"licence": licence, "citation": citation, "home": home}
    return Description(
        pa.table({k: [v] for k, v in card.items()}, schema=schema("datasets")),
        _sizes(name, sets),
        _pairs(name, sets, names),
        rejected,
    )


def _card(name: str, labels: Labels, sets: LabelSets) -> dict[str, Any]:
    size = sets.size[sets.usable]
    asked = _asked(labels, sets)
    return {
        "dataset": name,
        "images": len(labels),
        "unusable": int(np.count_nonzero(~sets.usable)),
        "rated": _rated(labels),
        "asked": asked[0],
        "confirmed": asked[1],
        "unclear": asked[2],
        "labels": int(size.sum()),
        "empty": int(np.count_nonzero(size == 0)),
        "multi": int(np.count_nonzero(size > 1)),
        "labelled": int(np.count_nonzero(sets.labelled)),
        "rejected": int(np.count_nonzero(_lost(sets))),
        "method": _methods(labels),
    }


def _rated(labels: Labels) -> int | None:
    if "rated" not in labels.table.column_names or labels.table["rated"].null_count:
        return None
    return int(pc.sum(labels.table["rated"]).as_py() or 0)


def _asked(labels: Labels, sets: LabelSets) -> tuple[int | None, int | None, int | None]:
    """Return how many pairs people were asked about, found valid and could not tell.

    An image that nobody rated has its label unasked.
    """
    if not sets.asked_known:
        return None, None, None
    asked = np.ones(len(sets.classes), bool)
    if _rated(labels) is not None:
        asked = one_chunk(labels.table["rated"]).to_numpy(zero_copy_only=False)[sets.rows]
    there = asked & sets.usable[sets.rows]
    valid, unclear = (int(np.count_nonzero(there & (sets.state == s))) for s in (YES, UNCLEAR))
    return int(np.count_nonzero(asked)), valid, unclear


def _methods(labels: Labels) -> str | None:
    if "method" not in labels.table.column_names:
        return None
    return ", ".join(sorted(m for m in pc.unique(labels.table["method"]).to_pylist() if m)) or None


def _sizes(name: str, sets: LabelSets) -> pa.Table:
    images = np.bincount(sets.size[sets.usable])
    columns = {
        "dataset": [name] * len(images),
        "size": np.arange(len(images), dtype=np.int32),
        "images": images,
        "share": images / max(images.sum(), 1),
    }
    return pa.table(columns, schema=schema("set_sizes"))


def _pairs(name: str, sets: LabelSets, names: tuple[str, ...]) -> pa.Table:
    """Count classes that are valid on the same images, by way of a pair's number a * C + b with a < b."""
    valid = (sets.state == YES) & sets.usable[sets.rows]
    rows, classes = sets.rows[valid], sets.classes[valid].astype(np.int64)
    a, b = pairs_within(rows)
    low, high = np.minimum(classes[a], classes[b]), np.maximum(classes[a], classes[b])
    pair, count = np.unique(low * sets.n_classes + high, return_counts=True)
    # By count, and among equals by class: the order must not hang on the sort.
    best = np.lexsort((pair, -count))[:MOST_PAIRS]
    first, second = pair[best] // sets.n_classes, pair[best] % sets.n_classes
    of_class = np.bincount(classes, minlength=sets.n_classes)
    columns = {
        "dataset": [name] * len(best),
        "class_a": first.astype(np.int32),
        "class_b": second.astype(np.int32),
        "name_a": [names[c] for c in first],
        "name_b": [names[c] for c in second],
        "images": count[best],
        "images_a": of_class[first],
        "images_b": of_class[second],
    }
    return pa.table(columns, schema=schema("class_pairs"))


def _lost(sets: LabelSets) -> npt.NDArray[np.bool_]:
    """Return the usable images whose original label is known and not valid, empty sets included."""
    valid = sets.state == YES
    kept = np.zeros(len(sets), bool)
    kept[sets.rows[valid & (sets.classes == sets.label[sets.rows])]] = True
    return sets.labelled & ~kept


def _rejected(name: str, labels: Labels, sets: LabelSets, names: tuple[str, ...]) -> pa.Table:
    images = np.flatnonzero(_lost(sets))
    taken = sets.take(images)
    valid = taken.state == YES
    offsets = np.concatenate([[0], np.cumsum(taken.size)]).astype(np.int32)
    classes = taken.classes[valid]
    text = pa.array(names, pa.string())
    columns = {
        "dataset": pa.repeat(pa.scalar(name, pa.string()), len(images)),
        "image_id": one_chunk(labels.table["image_id"]).take(pa.array(images)),
        "label": taken.label,
        "label_name": text.take(pa.array(taken.label)),
        "classes": pa.ListArray.from_arrays(offsets, pa.array(classes)),
        "names": pa.ListArray.from_arrays(offsets, text.take(pa.array(classes))),
    }
    return pa.table(columns, schema=schema("rejected"))


def describe(
    labels: Labels | str | os.PathLike[str], *, classes: ClassList | None = None, dataset: str = "labels"
) -> Description:
    """Describe label sets: their sizes, which classes go together, which original labels are not in them.

    Parameters
    ----------
    labels : Labels or path-like
        In any format where it is a file.
    classes : ClassList, optional
        Gives names of classes.
    dataset : str
        The name of labels that have none.
    """
    if not isinstance(labels, Labels):
        from manyhot.formats import read_labels

        labels = read_labels(labels, classes=classes)
    return describe_tables(labels, classes=classes, dataset=labels.name or dataset)


def describe_files(
    labels: Sequence[PathLike] | PathLike,
    out: PathLike | None = None,
    *,
    rows: PathLike | None = None,
    classes: PathLike | None = None,
    card: PathLike | None = None,
    facts: CardFacts | None = None,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[Description, list[Path]]:
    """Describe label sets: how many labels images have, which classes go together, which labels fell.

    Parameters
    ----------
    labels : sequence of path-like
        Label files and folders in any format, and names of benchmarks such as ``imagenet``; a folder called
        like one is meant by ``./imagenet``.
    out : path-like, optional
        Folder for the tables ``datasets``, ``set_sizes``, ``class_pairs`` and ``rejected``, and for their
        figures, where the extra ``report`` is installed.
    rows : path-like, optional
        Original labels, where a file has none.
    classes : path-like, optional
        The class list; see `manyhot.formats.read_classes`.
    card : path-like, optional
        Markdown file for the data card of the one data set.
    facts : CardFacts, optional
        What the card tells beside the labels.

    Raises
    ------
    ManyhotError
        For each kind of bad input; nothing is written then.
    """
    from manyhot.reassess.card import CardFacts, check_facts, write_card

    check_facts(card, facts)
    known = read_classes(classes) if classes else None
    images = read_images(rows, classes=known) if rows else None
    parts: list[Description] = []
    inputs: dict[str, str] = {}
    for source in [labels] if isinstance(labels, str | os.PathLike) else labels:
        # A benchmark's name wins over a folder called like it, which `evaluate` leaves behind.
        if str(source) in BENCHMARKS:
            parts += _published(str(source), progress)
            continue
        _check_exists(source)
        read = read_labels(source, classes=known)
        read = read.with_labels(images) if images is not None else read
        parts.append(describe_tables(read, classes=known, dataset=_name(read.name, source)))
        inputs |= {Path(source).name: sha256(source)} if Path(source).is_file() else {}
    _check_names(parts)
    description = Description.concat(parts)
    written: list[Path] = []
    if card is not None:
        first = labels if isinstance(labels, str | os.PathLike) else labels[0]
        written.append(write_card(description, card, facts or CardFacts(), labels=first, classes=classes))
    if out is None:
        return description, written
    written += write_tables(description.tables, out, call=call, inputs=inputs)
    return description, [*written, *save_label_figures(description.tables, out, call)]


def _check_exists(source: PathLike) -> None:
    if not Path(source).exists():
        near = difflib.get_close_matches(str(source), BENCHMARKS, n=1, cutoff=0.5)
        raise InputError(
            "The file does not exist.",
            where=source,
            allowed=f"label sets as a file or folder, or {' or '.join(BENCHMARKS)}",
            do=f"did you mean {near[0]!r}?" if near else None,
        )


def _check_names(parts: Sequence[Description]) -> None:
    seen: set[str] = set()
    for part in parts:
        name = part.datasets["dataset"][0].as_py()
        if name in seen:
            raise MatchError(
                "Two label files have the same name.",
                got=name,
                do="describe them one at a time, or rename one",
            )
        seen.add(name)


def _name(name: str, source: PathLike) -> str:
    return name or Path(source).stem


def _published(name: str, progress: Progress | None) -> list[Description]:
    return [describe_fetched(d.fetch(progress)) for d in BENCHMARKS[name].datasets]


def describe_fetched(fetched: Fetched) -> Description:
    """Describe the labels of a published data set, with licence and citation from the catalogue."""
    entry = catalog.catalog_entry(fetched.about.labels[0])
    about = {"licence": entry.licence, "citation": entry.citation, "home": entry.home}
    return describe_tables(fetched.labels, classes=class_list(), dataset=fetched.name, **about)
