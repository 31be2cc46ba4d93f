"""What `manyhot mitigate` reads: objects, labels and their class list."""

from __future__ import annotations

from typing import Any

from manyhot.classes import ClassList, from_keys
from manyhot.data.reading_options import ObjectsLike
from manyhot.data.table_inputs import open_objects
from manyhot.errors import InputError
from manyhot.formats import read_labels_or_originals
from manyhot.formats.writing import PathLike
from manyhot.predict.sources import ImageSource
from manyhot.predict.sources.label_ids import labels_of_source, objects_of_source
from manyhot.tables import Labels, Objects, schema


def read_objects_and_classes(
    objects: ObjectsLike | None, masks: PathLike | None, labels: PathLike | None, classes: ClassList | None
) -> tuple[Objects, ClassList]:
    """Return the objects and the class list, which is that of the labels if there are no objects."""
    if objects is not None:
        found = open_objects(objects, classes, masks)
        return found, classes or from_keys(found.keys, found.name)
    if labels is None:
        raise InputError(
            "Neither objects nor labels were passed.",
            do="pass the boxes of the objects as `objects`, or label sets that contain both classes of each "
            "pair as `labels`",
        )
    own = classes or read_labels_or_originals(labels).class_list
    if own is None:
        raise InputError("The labels have no class list.", where=labels, do="pass it as `classes`")
    return Objects(schema("objects").empty_table(), tuple(own.keys), own.hash), own


def match_objects(objects: Objects, source: ImageSource) -> tuple[Any, ...]:
    """Return objects with the ids of a source, and a note if ids were matched."""
    if not len(objects):
        return (objects,)
    found, like = objects_of_source(objects, source)
    return found, *filter(None, [like.text])


def read_source_labels(
    labels: PathLike | None, classes: ClassList, source: ImageSource
) -> tuple[Labels | None, tuple[str, ...]]:
    """Return the labels of the images of a source, and a note if ids were matched."""
    if labels is None:
        return None, ()
    found, like = labels_of_source(read_labels_or_originals(labels, classes=classes), source)
    return found, (like.text,) if like.text else ()
