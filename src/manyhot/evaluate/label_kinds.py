"""Why images have several labels: several objects, one ambiguous object, or near-synonyms."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot import tables
from manyhot.classes import ClassList
from manyhot.command import command
from manyhot.console import fact_lines, table_lines
from manyhot.core.label_kinds import (
    LABEL_KINDS,
    UNKNOWN,
    ImageKinds,
    Rules,
    image_kinds,
    mutual_confusion,
    near_synonyms,
)
from manyhot.core.sets import NO_LABEL
from manyhot.core.top_classes import top_k
from manyhot.data.benchmarks import BENCHMARKS
from manyhot.data.data_sets import Source
from manyhot.data.inputs import READING, LabelsLike, PredictionsLike, Reading, open_inputs
from manyhot.errors import InputError
from manyhot.evaluate.slices import labels_of
from manyhot.formats.writing import PathLike, check_apart, check_place
from manyhot.parameters import PythonOnly
from manyhot.result import Result
from manyhot.run import QUIET, Run
from manyhot.tables import Images, Labels, Predictions, check_same_classes, one_chunk
from manyhot.tables.arrays import label_sets
from manyhot.tables.class_paths import class_paths
from manyhot.tables.skipped_files import SkippedFiles, fitting_models

COUNTED = "n_objects"
"""The column of an images table with the number of objects that raters counted."""

MOST_SHOWN = 10
"""Number of pairs of near-synonyms that a terminal shows."""


@dataclass(frozen=True, eq=False)
class LabelKinds(Result):
    """The reasons why images have several labels, as an images table to slice by.

    Attributes
    ----------
    table : pyarrow.Table
        An images table with the columns `label`, `n_labels`, `n_objects`, `n_apart`, `kind` and `counted`.
    counts : dict of str to int
        Number of images of each kind.
    annotated, several_counted : int
        Number of images in which raters counted objects, and number of these images with two or more objects;
        0 if no rater counted objects.
    synonyms : list of (str, str, int, int)
        For each pair of near-synonyms: the names of the two classes, the number of images with both, and the
        number of images with either. Only images on which raters were asked about both classes are counted.
        Pairs are sorted by the number of images with both, largest first.
    check : ndarray of int64, shape (2, 2)
        Number of images with two or more labels in which raters counted objects. Rows are one and several
        objects by the raters' count, and columns are one and several objects by the labels.
    notes, metadata, inputs
        As in `Result`.
    """

    NAMES = ("images",)
    TARGET: ClassVar[tuple[str, str]] = ("FILE", "Images table to write, as .parquet or .csv.")

    table: pa.Table
    counts: dict[str, int]
    annotated: int
    several_counted: int
    synonyms: list[tuple[str, str, int, int]]
    check: npt.NDArray[np.int64]

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The images table."""
        return {"images": self.table}

    def to_json(self) -> dict[str, Any]:
        """Return the counts of kinds and objects, the near-synonyms and the notes."""
        return {
            "kinds": self.counts,
            "annotated": self.annotated,
            "several": self.several_counted,
            "check": self.check.tolist(),
            "near_synonyms": self.synonyms,
            "notes": self.notes,
        }

    def lines(self) -> Iterator[str]:
        """Yield the number of images per kind, near-synonyms, and the agreement with raters' counts."""
        total = max(sum(self.counts.values()), 1)
        rows = [(kind, f"{n:,}", f"{n / total:.2%}") for kind, n in self.counts.items()]
        yield from table_lines(("kind", "images", "share"), rows)
        if self.synonyms:
            pairs = [(f"{a} + {b}", f"{both:,}", f"{n:,}") for a, b, both, n in self.synonyms[:MOST_SHOWN]]
            yield ""
            yield from table_lines((f"near-synonyms ({len(self.synonyms)} pairs)", "both", "either"), pairs)
            yield ""
        if self.annotated and self.check.sum():
            yield from self._counted_lines()

    def _counted_lines(self) -> Iterator[str]:
        several, n_counted = self.several_counted, self.annotated
        (one, more), (missed, right) = self.check.tolist()
        n = one + more + missed + right
        share = f"images, {several:,} ({several / n_counted:.1%}) with several objects"
        facts = [
            ("counted by raters", f"{n_counted:,}", share),
            ("with several labels", f"{n:,}", ""),
            ("  where the labels agree", f"{one + right:,}", f"({(one + right) / n:.1%})"),
            ("    several objects", f"{right:,}", f"of {missed + right:,}"),
            ("    one object", f"{one:,}", f"of {one + more:,}"),
        ]
        yield from fact_lines(facts)

    @classmethod
    def _paths(cls, out: PathLike, name: str) -> tuple[Path, ...]:
        is_folder = Path(out).is_dir() or not Path(out).suffix
        return (Path(out) / "kinds.parquet",) if is_folder else (Path(out),)

    @classmethod
    def check_out(cls, out: PathLike, sources: Iterable[object]) -> None:
        """Raise an error if the file type is wrong, or an input file or the images would be overwritten."""
        (path,) = cls._paths(out, "images")
        if path.suffix.lower() not in (".parquet", ".csv"):
            raise InputError("Cannot write this kind of file.", where=path, allowed=".parquet or .csv")
        check_apart(sources, path)
        if path.stem != "kinds" and path.stem in tables.TABLES:
            check_place(path, "kinds")  # which is an images table, but never the images themselves


@command(
    "kinds",
    out="kinds.parquet",
    examples=(
        "manyhot kinds tsipras",
        "manyhot kinds labels.parquet --predictions predictions --out kinds.parquet",
    ),
)
def find_label_kinds(
    labels: LabelsLike,
    predictions: PredictionsLike = (),
    *,
    rules: Annotated[Rules | None, PythonOnly()] = None,
    reading: Reading = READING,
    run: Run = QUIET,
) -> LabelKinds:
    """Find out why images have several labels: several objects, one ambiguous object, or near-synonyms.

    Parameters
    ----------
    labels
        Label sets in any format, a campaign, or tsipras, which stands for ReaL's label sets with the
        published models and the number of objects that raters counted. For other images, counts are read from
        the column n_objects of an images table.
    predictions
        Files or folders of predictions, from which the confusion of classes is measured.
    rules
        Thresholds of the kinds; see `manyhot.core.label_kinds.Rules`.
    reading
        How files are read. The class list provides the hierarchy. Without a hierarchy, labels are assumed to
        belong to one object only if models confuse them.

    Returns
    -------
    LabelKinds

    Raises
    ------
    InputError
        If there are no predictions, predictions have only one class per image, or the column n_objects does
        not contain counts.
    MatchError
        If labels and predictions have different class lists.
    """
    sources = list(open_inputs(labels, predictions, reading=reading, run=run))
    if len(sources) > 1:
        raise InputError(
            f"The benchmark {labels} has several data sets with labels that were made in different ways.",
            allowed=", ".join(n for n, b in BENCHMARKS.items() if len(b.datasets) == 1),
        )
    benchmark = BENCHMARKS.get(str(labels)) if sources[0].published else None
    return _kinds(sources[0], benchmark.without if benchmark else (), rules, run)


def _kinds(source: Source, without: Iterable[str], rules: Rules | None, run: Run) -> LabelKinds:
    """Return the kinds of one data set, by the models that match no pattern of `without`."""
    labels, images = labels_of(source), source.images
    sets, classes = label_sets(labels), source.classes or labels.known_classes
    is_counted = images is not None and COUNTED in images.table.column_names
    n_objects = _counted(labels, images) if is_counted and images else np.full(len(labels), UNKNOWN)
    models = (m for m in source.models() if not any(fnmatch.fnmatch(m.model, p) for p in without))
    tops = _tops(labels, _watched(models, source.n, run), source.misfits)
    confusion = mutual_confusion(tops, labels.n_classes)
    paths, note = _paths(classes, labels.n_classes)
    kinds = image_kinds(sets, confusion, paths, n_objects=n_objects, rules=rules)
    several = (sets.size > 1) & sets.usable & (n_objects != UNKNOWN)
    check = np.bincount((n_objects > 1)[several] * 2 + (kinds.apart > 1)[several], minlength=4)
    annotated = pc.sum(pc.is_in(images.image_id, labels.image_id)) if is_counted and images else None
    return LabelKinds(
        _table(labels, sets.label, sets.size, n_objects, kinds),
        {name: int(np.count_nonzero(kinds.kind == i)) for i, name in enumerate(LABEL_KINDS)},
        0 if annotated is None else int(annotated.as_py() or 0),
        int(np.count_nonzero(n_objects > 1)),
        _named(classes, sets.n_classes, near_synonyms(sets, confusion, rules)),
        check.reshape(2, 2),
        notes=(*source.misfits.notes(labels.name), *[note] * bool(note)),
        inputs=source.inputs,
    )


def _watched(models: Iterable[Predictions], n: int, run: Run) -> Iterator[Predictions]:
    for done, model in enumerate(models, 1):
        yield model
        if run.on_progress:
            run.on_progress("confused classes", done, n)


def _counted(labels: Labels, images: Images) -> npt.NDArray[np.int64]:
    column = one_chunk(images.table[COUNTED])
    if not pa.types.is_integer(column.type) or (len(column.drop_null()) and pc.min(column).as_py() < 0):
        raise InputError(
            f"The column {COUNTED!r} does not contain counts of objects.",
            where=images.name or None,
            got=column.type if not pa.types.is_integer(column.type) else pc.min(column).as_py(),
            allowed="integers from 0, or null if no rater counted",
        )
    rows = pc.index_in(labels.image_id, images.image_id)
    found = pc.fill_null(pc.take(column, rows), UNKNOWN)
    return np.asarray(found.to_numpy(zero_copy_only=False), np.int64)


def _named(
    classes: ClassList | None,
    n_classes: int,
    pairs: tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64]],
) -> list[tuple[str, str, int, int]]:
    names = classes.names if classes else [str(i) for i in range(n_classes)]
    pair, share, images = pairs
    both = np.rint(share * images).astype(int)
    order = np.lexsort((pair, -both))
    return [
        (names[pair[i] // n_classes], names[pair[i] % n_classes], int(both[i]), int(images[i])) for i in order
    ]


def _paths(classes: ClassList | None, n_classes: int) -> tuple[list[tuple[str, ...]], str]:
    return class_paths(classes) if classes else ([(str(i),) for i in range(n_classes)], "")


def _tops(
    labels: Labels, predictions: Iterable[Predictions], misfits: SkippedFiles
) -> Iterator[npt.NDArray[np.integer]]:
    models = 0
    for _, top in fitting_models(predictions, lambda model: _two_best(labels, model), misfits):
        models += 1
        yield top
    if not models:
        raise InputError(
            "Finding confused classes requires predictions, but there are none.",
            do=("pass predictions of at least one model"),
        )


def _two_best(labels: Labels, model: Predictions) -> npt.NDArray[np.integer]:
    """Return at least the top two classes of each image, best first."""
    check_same_classes(labels, model)
    top = model.classes
    if top is None:
        assert model.scores is not None
        top = top_k(model.scores, 2)
    if top.shape[1] < 2:
        raise InputError(
            "Confusion of classes is measured between a model's top two classes.",
            where=model.source or model.model,
            got="one class per image",
            allowed="at least the top two classes",
        )
    return top


def _table(
    labels: Labels,
    label: npt.NDArray[np.integer],
    size: npt.NDArray[np.integer],
    n_objects: npt.NDArray[np.integer],
    kinds: ImageKinds,
) -> pa.Table:
    names = pa.array([*LABEL_KINDS, None], pa.string())
    # The last name, that of what is not known, is what -1 takes.
    kind = names.take(pa.array(np.where(kinds.kind == UNKNOWN, len(LABEL_KINDS), kinds.kind)))
    return pa.table(
        {
            "image_id": labels.image_id,
            "label": pa.array(label, pa.int32(), mask=label == NO_LABEL),
            "n_labels": pa.array(size, pa.int32()),
            COUNTED: pa.array(n_objects, pa.int32(), mask=n_objects == UNKNOWN),
            "n_apart": pa.array(kinds.apart, pa.int32()),
            "kind": kind,
            "counted": pa.array(n_objects != UNKNOWN),
        }
    )
