"""What is known of images that may be duplicates: data set, split, label, and answers of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from manyhot.classes import ClassList, class_list_of
from manyhot.core.sets import NO_LABEL, YES
from manyhot.data.data_sets import Source
from manyhot.data.inputs import LabelsLike, Reading, open_inputs, open_labels
from manyhot.data.table_inputs import read_splits
from manyhot.diagnose.duplicate_images import ImageSignatures
from manyhot.diagnose.duplicates_accuracy import RightAnswers
from manyhot.evaluate.model_answers import ModelAnswers
from manyhot.evaluate.slices import labels_of
from manyhot.files import sha256
from manyhot.formats import open_class_list
from manyhot.formats.writing import PathLike
from manyhot.predict.sources import ImageSource
from manyhot.predict.sources.label_ids import labels_of_source
from manyhot.run import Run
from manyhot.tables import Labels
from manyhot.tables.arrays import label_sets

Names = Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Facts:
    """Splits, labels and predictions of images.

    Attributes
    ----------
    names : list of str
        Names of the data sets.
    split : Mapping of str to str
        The split of each image of the first data set, for images that have one.
    label : Mapping of str to str, optional
        The label of each image of the first data set. If None, the labels of the source are used.
    class_id : Mapping of str to int
        The class of the original label, for the images of the first data set whose original label is in a
        table.
    class_names : Mapping of str to str, optional
        The name of each class. Its number, its key and its name are keys of this mapping. None if the classes
        are unknown.
    answers : RightAnswers, optional
        Whether models are right on images of the first data set.
    notes : tuple of str
    inputs : Mapping of str to str
        As in `Result`.
    """

    names: list[str]
    split: Names
    label: Names | None
    class_id: Mapping[str, int]
    class_names: Names | None
    answers: RightAnswers | None
    notes: tuple[str, ...]
    inputs: Mapping[str, str]

    def of(self, images: ImageSignatures) -> tuple[list[str | None], list[str | None]]:
        """Return the split and the label of each image.

        Labels of sources are keys, names or numbers of the class list. Without a class list, labels whose
        type differs from that of the first label are ignored, because a number is not a name.
        """
        split, label, kinds = list[str | None](), list[str | None](), list[type]()
        for item, source in zip(images.items, images.source.tolist(), strict=True):
            split.append(self.split.get(item.image_id) if source == 0 else None)
            if source == 0 and self.label is not None:
                label.append(self.label.get(item.image_id))
                continue
            name = item.label if self.class_names is None else self.class_names.get(str(item.label))
            kinds += [] if name is None or kinds else [type(name)]
            label.append(str(name) if name is not None and type(name) is kinds[0] else None)
        return split, label


def _class_names(classes: ClassList | None) -> Names | None:
    """Return the name of each class by its number, its key and its name; None without a class list."""
    if classes is None:
        return None
    by_number = zip(map(str, range(len(classes))), classes.names, strict=True)
    return {**dict(by_number), **dict(zip((*classes.keys, *classes.names), 2 * classes.names, strict=True))}


def read_facts(
    sources: Sequence[ImageSource],
    splits: PathLike | None,
    labels: LabelsLike | None,
    predictions: object,
    reading: Reading,
    run: Run,
) -> Facts:
    """Read splits, labels and predictions of the images of the first data set.

    Raises
    ------
    InputError
        If a file cannot be read, or predictions are passed without labels.
    """
    names, notes, inputs = _names(sources), list[str](), dict[str, str]()
    split = {} if splits is None else _splits(splits)
    if splits is not None:
        inputs[Path(splits).name] = sha256(splits)
    class_list = open_class_list(reading.classes)
    reading = replace(reading, classes=class_list)
    if labels is None:
        return Facts(names, split, None, {}, _class_names(class_list), None, (), inputs)
    is_file = isinstance(labels, str | Path) and Path(labels).is_file()
    if is_file and not predictions:
        (source,) = open_labels(labels, reading=reading, run=run)
        answers = None
    else:
        (source,) = open_inputs(labels, predictions, reading=reading, run=run)
        answers = _answers(source, run)
    sets, class_list = labels_of(source), source.classes or class_list
    notes += source.misfits.notes(source.name)
    inputs |= source.inputs
    sets, like = labels_of_source(sets, sources[0])
    notes += [like.text] if like.n else []
    class_list = class_list or sets.class_list or class_list_of(sets.class_hash)
    label, class_id = _label_names(sets, class_list), _class_ids(sets)
    class_names = _class_names(class_list)
    return Facts(names, split, label, class_id, class_names, answers, tuple(notes), inputs)


def _answers(source: Source, run: Run) -> RightAnswers:
    found = ModelAnswers.of(source, run=run)
    return RightAnswers(source.name, found.models, found.image_id, found.right)


def _splits(path: PathLike) -> Names:
    return {image_id: split for image_id, split in read_splits(path).items() if split is not None}


def _class_ids(labels: Labels) -> Mapping[str, int]:
    pairs = zip(labels.image_id.to_pylist(), label_sets(labels).label.tolist(), strict=True)
    return {image_id: class_id for image_id, class_id in pairs if class_id != NO_LABEL}


def _label_names(labels: Labels, classes: ClassList | None) -> Names:
    """Return the original label of each image, or its label set if there are no original labels."""
    sets = label_sets(labels)
    names = list(classes.names if classes else map(str, range(sets.n_classes)))
    ids = labels.image_id.to_pylist()
    if sets.labelled.any():
        return {ids[i]: names[c] for i, c in enumerate(sets.label.tolist()) if c != NO_LABEL}
    valid: dict[str, list[str]] = {ids[i]: [] for i, usable in enumerate(sets.usable) if usable}
    for row, class_id, state in zip(
        sets.rows.tolist(), sets.classes.tolist(), sets.state.tolist(), strict=True
    ):
        if state == YES and ids[row] in valid:
            valid[ids[row]].append(names[class_id])
    return {image_id: ", ".join(sorted(own)) for image_id, own in valid.items()}


def _names(sources: Sequence[ImageSource]) -> list[str]:
    """Return a name for each source: the last part of its address, or the address if two are equal."""
    short = [PurePosixPath(s.uri.rstrip("/")).name or s.uri for s in sources]
    short = short if len(set(short)) == len(short) else [s.uri for s in sources]
    return [name if short.count(name) == 1 else f"{name} {i}" for i, name in enumerate(short, 1)]
