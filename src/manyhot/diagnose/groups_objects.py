"""Boxes of frames, tags and bands that were found, and label sets with them, for further commands."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from manyhot.classes import ClassList, from_keys
from manyhot.core.sets import NO, LabelSets
from manyhot.diagnose.groups_attributes import Mark
from manyhot.diagnose.groups_findings import GroupFinding
from manyhot.run import Run
from manyhot.tables import STATES, Labels, Objects, Row, schema, write_labels
from manyhot.tables.arrays import label_sets
from manyhot.tables.labels import write_objects

OBJECTS, LABELS = "objects.parquet", "labels.parquet"
"""The files, in the folder of the output."""

_BOXES = pa.schema(
    [schema("objects").field(name) for name in ("image_id", "class_id", "x1", "y1", "x2", "y2", "ignore")]
)


@dataclass(frozen=True, eq=False)
class MarkedImages:
    """The marks that findings are about, as objects and as further classes of the label sets."""

    objects: Objects
    labels: Labels

    def write(self, folder: Path, run: Run) -> list[Path]:
        """Write both files."""
        objects = write_objects(self.objects, folder / OBJECTS, call=run.call)
        return [objects, write_labels(self.labels, folder / LABELS, call=run.call)]


def forget_marks(folder: Path) -> None:
    """Remove the files of an earlier run."""
    for name in (OBJECTS, LABELS):
        (folder / name).unlink(missing_ok=True)


def marked_images(
    findings: Sequence[GroupFinding], labels: Labels, classes: ClassList | None, measured: Sequence[bool]
) -> MarkedImages | None:
    """Return the frames, tags and bands of findings with the images that have them; None if there are none.

    Parameters
    ----------
    findings : sequence of GroupFinding
    labels : Labels
    classes : ClassList, optional
    measured : sequence of bool, length n
        Whether each photograph was measured; the marks of a photograph that was not measured are unknown.
    """
    marks = list({f.mark.name: f.mark for f in findings if f.mark is not None}.values())
    if not marks:
        return None
    own = classes or from_keys([str(i) for i in range(labels.n_classes)])
    both = from_keys([*own.keys, *(mark.name for mark in marks)], own.name)
    both = replace(both, names=(*own.names, *(mark.name for mark in marks)))
    mains = sorted({f.row["class_id"] for f in findings if f.mark and f.row["class_id"] is not None})
    sets = label_sets(labels)
    states = list(_states(sets, labels.are_original, mains, marks, measured))
    columns = {
        "image_id": labels.image_id,
        "label": pa.array(sets.label, pa.int32(), mask=sets.label < 0),
        "rated": [not labels.are_original] * len(sets),
        "usable": pa.array(sets.usable),
        "classes": pa.array([list(s) for s in states], pa.list_(pa.int32())),
        "state": pa.array([list(s.values()) for s in states], pa.list_(pa.string())),
    }
    found = Labels(pa.table(columns), len(both), both.hash, True, labels.name, both)
    ids = labels.image_id.to_pylist()
    rows = list(itertools.chain(*(_rows(mark, len(own) + i, ids) for i, mark in enumerate(marks))))
    table = pa.Table.from_pylist(rows).cast(_BOXES)
    objects = Objects(table, both.keys, both.hash, name=labels.name)
    return MarkedImages(objects, found)


def _rows(mark: Mark, class_id: int, ids: Sequence[str]) -> Iterator[Row]:
    for row in np.flatnonzero(mark.inside).tolist():
        for x1, y1, x2, y2 in mark.boxes(row).tolist():
            box = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
            yield {"image_id": ids[row], "class_id": class_id, **box, "ignore": False}


def _states(
    sets: LabelSets,
    are_original: bool,
    mains: Iterable[int],
    marks: Sequence[Mark],
    measured: Sequence[bool],
) -> Iterator[dict[int, str]]:
    """Yield the states of each image in the order of classes.

    An original label is the only valid one of the classes of findings; label sets stay as they are.
    """
    answers: list[dict[int, str]] = [{} for _ in range(len(sets))]
    for row, class_id, state in zip(sets.rows, sets.classes, sets.state, strict=True):
        answers[row][int(class_id)] = STATES[state - NO]
    for row, known in enumerate(answers):
        if are_original and sets.label[row] >= 0:
            known = dict.fromkeys(mains, "no") | {int(sets.label[row]): "yes"}
        if measured[row]:
            shown = ("yes" if mark.inside[row] else "no" for mark in marks)
            known |= dict(enumerate(shown, sets.n_classes))
        yield dict(sorted(known.items()))
