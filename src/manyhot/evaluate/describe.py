"""Statistics of a labels table: sizes of label sets, pairs of classes, rejected original labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot.classes import ClassList
from manyhot.command import command
from manyhot.console import table_lines
from manyhot.core.array_types import Bools
from manyhot.core.cooccurrence import pairs_within
from manyhot.core.sets import NOT_ASKED, UNCLEAR, YES, LabelSets
from manyhot.core.share_intervals import proportion_interval
from manyhot.data import catalog
from manyhot.data.benchmarks import BenchmarkData
from manyhot.data.data_sets import Source
from manyhot.data.inputs import LabelsLike, Reading, open_labels
from manyhot.errors import InputError, MatchError
from manyhot.evaluate.described_counts import card_lines
from manyhot.evaluate.outputs import save_label_figures, write_tables
from manyhot.evaluate.slices import labels_of
from manyhot.formats import ClassNamesLike
from manyhot.formats.writing import PathLike
from manyhot.parameters import Shown, Was
from manyhot.result import Result
from manyhot.run import QUIET, Run
from manyhot.tables import Images, Labels, one_chunk, schema
from manyhot.tables.arrays import label_sets
from manyhot.tables.definitions import COUNT, INT, INTS, ITS, REAL, TEXT, TEXTS, bounds, declare_table
from manyhot.tables.frames import concat_by_name
from manyhot.tables.label_values import LabelValues
from manyhot.tables.state_lists import ragged

LISTED_PAIRS = 200
"""Number of pairs of classes that are listed, the most frequent first."""


MOST_SHOWN = 10
"""Number of pairs of classes that a terminal shows for a data set."""

declare_table(
    "datasets",
    (
        TEXT("dataset", "the data set"),
        COUNT("images", "number of images in the labels table"),
        COUNT("unusable", "number of images that metrics of label sets do not count"),
        COUNT.optional(
            "undecided",
            "number of these images of which raters chose one class each, but no class reached the "
            "threshold; metrics of original labels and of votes count them",
        ),
        COUNT.nullable("rated", "number of images that raters checked; null if unknown"),
        COUNT.nullable(
            "asked",
            "number of (image, class) pairs that raters were asked about; null if only valid classes are "
            "recorded",
        ),
        COUNT.nullable(
            "confirmed",
            "number of pairs that raters were asked about and found valid; null if only valid classes are "
            "recorded",
        ),
        COUNT.optional(
            "unclear",
            "number of pairs that raters were asked about but disagreed on or could not decide; null if "
            "only valid classes are recorded",
        ),
        COUNT(
            "labels", "number of valid (image, class) pairs, including those of images that no rater has seen"
        ),
        COUNT("empty", "number of usable images with an empty label set"),
        COUNT.optional(
            "empty_unasked",
            "number of these images that may have a valid class, because raters were not asked about all "
            "classes; they are of size 0 in set_sizes",
        ),
        COUNT("multi", "number of usable images with two or more valid classes"),
        COUNT("labelled", "number of usable images with an original label"),
        COUNT(
            "rejected",
            "number of images whose original label is not valid, including images without any valid class "
            "and excluding images on which no rater was asked about the original label",
        ),
        COUNT.optional(
            "label_unasked",
            "number of usable images that raters have seen but that have no answer about the original label; "
            "they are excluded from the shares of valid and of invalid original labels",
        ),
        REAL.optional(
            "original_valid",
            "share of the original labels that are valid, among usable images with an original label and at "
            "least one valid class",
        ),
        *bounds("original_valid_lo", "original_valid_hi", f"{ITS} (Wilson)", column=REAL.optional),
        COUNT.optional("original_valid_n", "number of images over which original_valid is computed"),
        TEXT.nullable("method", "how the label sets were made"),
        TEXT.optional("licence", "licence of the labels, from the catalogue"),
        TEXT.optional("citation", "publication to cite, from the catalogue"),
        TEXT.optional("home", "where the labels were published"),
    ),
)

declare_table(
    "set_sizes",
    (
        TEXT("dataset", "the data set"),
        INT("size", "number of valid classes of an image"),
        COUNT("images", "number of usable images with this number of valid classes"),
        REAL("share", "share of all usable images"),
    ),
)

declare_table(
    "class_pairs",
    (
        TEXT("dataset", "the data set"),
        INT("class_a", "a class"),
        INT("class_b", "another class that is valid on the same images"),
        TEXT("name_a", "name of class_a"),
        TEXT("name_b", "name of class_b"),
        COUNT("images", "images on which both are valid"),
        COUNT("images_a", "number of images on which class_a is valid"),
        COUNT("images_b", "number of images on which class_b is valid"),
    ),
)

declare_table(
    "rejected",
    (
        TEXT("dataset", "the data set"),
        TEXT("image_id", "id of an image with an original label that is not in its label set"),
        INT("label", "the original label"),
        TEXT("label_name", "name of the original label"),
        INTS("classes", "the label set; empty if no class is valid"),
        TEXTS("names", "names of the classes"),
    ),
)


@dataclass(frozen=True, eq=False)
class Description(Result):
    """Statistics of a labels table.

    Attributes
    ----------
    datasets, set_sizes, class_pairs, rejected : pyarrow.Table
        The tables with these names; see `manyhot.tables.TABLES` for their columns.
    notes, metadata, inputs
        As in `Result`.
    """

    NAMES = ("datasets", "set_sizes", "class_pairs", "rejected")
    DRAWS: ClassVar[bool] = True

    datasets: pa.Table
    set_sizes: pa.Table
    class_pairs: pa.Table
    rejected: pa.Table

    @classmethod
    def concat(cls, parts: Sequence[Description], *, inputs: dict[str, str] | None = None) -> Description:
        """Join the descriptions of several data sets."""
        notes = tuple(note for part in parts for note in part.notes)
        return cls(**concat_by_name(part.tables for part in parts), notes=notes, inputs=inputs or {})

    def to_json(self) -> dict[str, Any]:
        """Return the rows of all tables except `rejected`, which has one row per image. NaN becomes null."""
        return {name: rows for name, rows in super().to_json().items() if name != "rejected"}

    def lines(self) -> Iterator[str]:
        """Yield the sizes of label sets and the most frequent pairs of classes of each data set."""
        for card in self.datasets.to_pylist():
            yield from card_lines(card)
            sizes, pairs = (
                [row for row in table.to_pylist() if row["dataset"] == card["dataset"]]
                for table in (self.set_sizes, self.class_pairs)
            )
            cells = [(str(r["size"]), f"{r['images']:,}", f"{r['share']:.2%}") for r in sizes]
            yield from table_lines(("labels", "images", "share"), cells)
            if pairs:
                yield ""
                shown = [(f"{r['name_a']} + {r['name_b']}", f"{r['images']:,}") for r in pairs[:MOST_SHOWN]]
                yield from table_lines(("most frequent pairs", "images"), shown)
            yield ""

    def write(self, out: PathLike, *, run: Run = QUIET) -> list[Path]:
        """Write the tables and, if the extra ``report`` is installed, their figures; see `Result.write`."""
        written = write_tables(self.tables, out, call=run.call, inputs=self.inputs)
        return [*written, *save_label_figures(self.tables, out)]


@command(
    "describe",
    examples=("manyhot describe imagenet", "manyhot describe labels.parquet --out description"),
    moved={"--card": "manyhot card LABELS --out README.md"},
)
def describe(
    *labels: LabelsLike,
    images: Annotated[PathLike | Images | None, Shown("FILE"), Was("--rows")] = None,
    classes: ClassNamesLike | None = None,
    dataset: str = "",
    label_values: LabelValues | None = None,
    run: Run = QUIET,
) -> Description:
    """Describe label sets: their sizes, frequent pairs of classes, and rejected original labels.

    Parameters
    ----------
    *labels
        Label sets in any format, a campaign, or the name of a benchmark, such as imagenet.
    images
        Images table with original labels, if the label sets have none.
    classes
        Class list: a file with one key per line, a table with the columns key and name, or imagenet1k,
        imagenet-a or imagenet-r.
    dataset
        Name of the data set; by default the name in the file.
    label_values
        Meaning of the numbers in labels with one column per class, if it is ambiguous: states (0, 1 and -1),
        counts of votes for one class per image, shares of these votes, p (probabilities of classes that can
        be valid together), or yes-of-5 (how many of 5 raters answered yes; any number of raters).

    Returns
    -------
    Description

    Raises
    ------
    InputError
        If a file cannot be read.
    MatchError
        If two data sets have the same name.
    """
    reading = Reading(images=images, classes=classes, dataset=dataset, label_values=label_values)
    parts: dict[str, Description] = {}
    inputs: dict[str, str] = {}
    for given in labels:
        for source in open_labels(given, reading=reading, run=run):
            if source.name in parts:
                raise MatchError(
                    "Two data sets have the same name.",
                    got=source.name,
                    do="describe them separately, or rename one",
                )
            parts[source.name] = describe_source(source)
            inputs |= source.inputs
    if not parts:
        raise InputError("There are no label sets to describe.", do="pass at least one data set")
    return Description.concat(list(parts.values()), inputs=inputs)


def describe_source(source: Source) -> Description:
    """Describe the label sets of one data set."""
    rights = rights_of(source.published) if source.published else {}
    found = describe_tables(labels_of(source), classes=source.classes, dataset=source.name, **rights)
    return replace(found, notes=tuple(source.misfits.notes(source.name)))


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
    classes : ClassList, optional
        Class list with names; by default the class list to which the labels refer. Without a class list,
        class ids are used as names.
    dataset : str
        Name of the data set; by default the name of the labels.
    licence, citation, home : str, optional
        Licence, citation and home page of the labels, for the table and the data card.

    Raises
    ------
    InputError
        If the labels have no name and `dataset` is not set.
    """
    name = dataset or labels.name
    if not name:
        raise InputError("The name of the data set is unknown.", do="pass a name as `dataset`")
    known = classes or labels.known_classes
    names = known.names if known else tuple(map(str, range(labels.n_classes)))
    sets = label_sets(labels)
    unasked = _label_unasked(labels, sets)
    rejected = _rejected(name, labels, sets, unasked, names)
    card = _card(name, labels, sets, unasked) | {"licence": licence, "citation": citation, "home": home}
    return Description(
        pa.table({k: [v] for k, v in card.items()}, schema=schema("datasets")),
        _sizes(name, sets),
        _pairs(name, sets, names),
        rejected,
    )


def _card(name: str, labels: Labels, sets: LabelSets, unasked: npt.NDArray[np.bool_]) -> dict[str, Any]:
    size = sets.size[sets.usable]
    asked, rated = _asked(labels, sets), _rated(labels, sets)
    return {
        "dataset": name,
        "images": len(labels),
        "unusable": int(np.count_nonzero(~sets.usable)),
        "undecided": int(np.count_nonzero(sets.counted & ~sets.usable)),
        "rated": None if rated is None else int(np.count_nonzero(rated)),
        "asked": asked[0],
        "confirmed": asked[1],
        "unclear": asked[2],
        "labels": int(size.sum()),
        "empty": int(np.count_nonzero(size == 0)),
        "empty_unasked": _empty_unasked(sets),
        "multi": int(np.count_nonzero(size > 1)),
        "labelled": int(np.count_nonzero(sets.labelled & sets.usable)),
        "rejected": int(np.count_nonzero(_lost(sets, unasked))),
        "label_unasked": int(np.count_nonzero(unasked)),
        **_original_valid(sets, unasked),
        "method": _methods(labels),
    }


def _original_valid(sets: LabelSets, unasked: npt.NDArray[np.bool_]) -> dict[str, float | int]:
    """Return the share of original labels that are valid, where any class is: ReaL's accuracy of the labels.

    References
    ----------
    Beyer et al. 2020, arXiv:2006.07159: images with an empty set are skipped.
    """
    judged = sets.labelled & (sets.size > 0) & ~unasked
    n, valid = int(np.count_nonzero(judged)), int(np.count_nonzero(judged & ~_lost(sets, unasked)))
    lo, hi = proportion_interval(valid, n)
    return {
        "original_valid": valid / n if n else float("nan"),
        "original_valid_lo": float(lo),
        "original_valid_hi": float(hi),
        "original_valid_n": n,
    }


def _rated(labels: Labels, sets: LabelSets) -> Bools | None:
    """Return the images that raters have seen; None if unknown.

    An image was not seen if none of its classes has an answer: corrected label sets of which it is unknown
    who made them count as rated, but only the corrected images were shown to raters.
    """
    if "rated" not in labels.table.column_names or labels.table["rated"].null_count:
        return None
    if sets.n_votes is None:
        return labels.rated
    unanswered = np.bincount(sets.rows[sets.n_votes == 0], minlength=len(sets))
    answered: Bools = (unanswered == 0) | (unanswered < np.diff(sets.indptr))
    return labels.rated & answered


def _asked(labels: Labels, sets: LabelSets) -> tuple[int | None, int | None, int | None]:
    """Return how many pairs people were asked about, found valid, and could not decide.

    The label of an image that no rater has seen was not asked about, nor was a class without votes.
    """
    if not sets.asked_known:
        return None, None, None
    if sets.complete:
        return sets.n_classes * len(sets), int(sets.size[sets.usable].sum()), 0
    asked = np.ones(len(sets.classes), bool)
    if (rated := _rated(labels, sets)) is not None:
        asked = rated[sets.rows]
    if sets.n_votes is not None:
        asked = asked & (sets.n_votes != 0)
    there = asked & sets.counted[sets.rows]
    valid, unclear = (int(np.count_nonzero(there & (sets.state == s))) for s in (YES, UNCLEAR))
    return int(np.count_nonzero(asked)), valid, unclear


def _empty_unasked(sets: LabelSets) -> int:
    """Return the number of images on which no class is valid among those that raters were asked about.

    Lists of the valid classes alone do not record these: an empty list says that no class is valid.
    """
    is_open = sets.usable & (sets.size == 0) & ~sets.empty
    return int(np.count_nonzero(is_open)) if sets.unlisted == NOT_ASKED else 0


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
    # By count, and among equals by class: the order must not depend on the sort.
    best = np.lexsort((pair, -count))[:LISTED_PAIRS]
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


def _label_unasked(labels: Labels, sets: LabelSets) -> npt.NDArray[np.bool_]:
    """Return the images that raters have seen, but without an answer about the original label.

    Raters have not seen the other images without such an answer, so that their label stands.
    """
    rated = _rated(labels, sets)
    if rated is None or sets.unlisted != NOT_ASKED:
        return np.zeros(len(sets), bool)
    state = sets.state_of(sets.label[:, None])[:, 0]
    silent = (state == NOT_ASKED) | (sets.values_of(sets.n_votes, sets.label) == 0)
    return np.asarray(sets.labelled & rated & silent, bool)


def _lost(sets: LabelSets, unasked: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the usable images whose original label is known and not valid, empty sets included."""
    valid = sets.state == YES
    kept = unasked.copy()
    kept[sets.rows[valid & (sets.classes == sets.label[sets.rows])]] = True
    return sets.labelled & sets.usable & ~kept


def _rejected(
    name: str, labels: Labels, sets: LabelSets, unasked: npt.NDArray[np.bool_], names: tuple[str, ...]
) -> pa.Table:
    images = np.flatnonzero(_lost(sets, unasked))
    taken = sets.take(images)
    valid = taken.state == YES
    classes = taken.classes[valid]
    text = pa.array(names, pa.string())
    columns = {
        "dataset": pa.repeat(pa.scalar(name, pa.string()), len(images)),
        "image_id": one_chunk(labels.table["image_id"]).take(pa.array(images)),
        "label": taken.label,
        "label_name": text.take(pa.array(taken.label)),
        "classes": ragged(taken.size, pa.array(classes)),
        "names": ragged(taken.size, text.take(pa.array(classes))),
    }
    return pa.table(columns, schema=schema("rejected"))


def rights_of(dataset: BenchmarkData) -> dict[str, str]:
    """Return the licence, citation and home page of the labels of a published data set."""
    entry = catalog.catalog_entry(dataset.labels[0])
    return {"licence": entry.licence, "citation": entry.citation, "home": entry.home}
