"""Images that occur more than once: equal files and pixels, and near copies, within and between data sets."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa

from manyhot.classes import ClassList
from manyhot.command import command
from manyhot.core.array_types import Ints
from manyhot.core.duplicates import connected_groups, separating_similarity
from manyhot.core.nearest import NOBODY
from manyhot.core.sets import NO_LABEL, YES
from manyhot.data.inputs import LabelsLike, PredictionsLike, Reading, open_inputs, open_labels
from manyhot.data.reading_options import ModelPatterns
from manyhot.data.table_inputs import read_splits
from manyhot.diagnose.duplicate_images import (
    CACHE_FOLDER,
    DUPLICATE_KINDS,
    DuplicatePairs,
    ImageSignatures,
    SimilarImages,
    check_embedded,
    draw_pictures,
    embedded_images,
    find_duplicate_pairs,
    pairs_by_embedding,
    read_signatures,
)
from manyhot.diagnose.duplicates_result import (
    DUPLICATES_FOLDER,
    WITHOUT,
    Duplicates,
    accuracy_rows,
)
from manyhot.diagnose.page import check_outside, forget_pictures
from manyhot.errors import InputError, MatchError
from manyhot.evaluate.model_answers import ModelAnswers
from manyhot.evaluate.slices import labels_of
from manyhot.files import sha256
from manyhot.formats import ClassNamesLike, open_class_list
from manyhot.formats.writing import PathLike
from manyhot.parameters import Address, AtLeast, OptionName, Probability, Shown
from manyhot.predict.embeddings import read_embeddings
from manyhot.predict.sources import ImageSource, Item, open_source
from manyhot.predict.sources.image_files import folder_label
from manyhot.predict.sources.label_ids import FileSplits, ids_of_source, labels_of_source, split_folders
from manyhot.run import QUIET, Run
from manyhot.tables import Labels, Row, RowDict, count_shared, schema
from manyhot.tables.arrays import label_sets
from manyhot.tables.frames import examples
from manyhot.tables.image_ids import ids_like, without_option

MIN_SIMILARITY = 0.7
"""Minimum similarity of the details of near duplicates. Images of 32 × 32 pixels that were halved, or saved
at a JPEG quality of 40, have 0.7 or more, and different photographs at most 0.6."""

_PICTURES_OF_A_GROUP = 6


@command(
    "diagnose duplicates",
    examples=(
        "manyhot diagnose duplicates photos",
        "manyhot diagnose duplicates test --other train --labels test.csv --predictions predictions",
    ),
)
def diagnose_duplicates(
    images: Annotated[PathLike, Address(), Shown("IMAGES")],
    *,
    others: Annotated[Sequence[str], OptionName("--other"), Shown("IMAGES")] = (),
    out: Annotated[PathLike, Shown("FOLDER")] = "duplicates",
    splits: Annotated[PathLike | None, Shown("FILE")] = None,
    embeddings: Annotated[Sequence[str], Shown("FOLDER")] = (),
    embeddings_model: Annotated[str, Shown("NAME")] = "",
    labels: Annotated[LabelsLike | None, Shown("DATASET")] = None,
    predictions: PredictionsLike = (),
    models: ModelPatterns = (),
    classes: ClassNamesLike | None = None,
    min_similarity: Probability = MIN_SIMILARITY,
    pictures: Annotated[int, AtLeast(0)] = 24,
    run: Run = QUIET,
) -> Duplicates:
    """Find images that occur more than once, within and between data sets and splits.

    Identical files and identical pixels are found by hashes. Copies that were resized, saved again, cropped
    or mirrored are found by a perceptual hash, or by embeddings, and confirmed by their aligned pixels.
    Groups whose labels differ come first. A stopped run resumes when it is started again.

    Parameters
    ----------
    images
        Images to check, as for predict, such as those of a test set.
    others
        Further images in which to look for duplicates, such as those of the training set.
    out
        Folder to write to. It is created if it does not exist.
    splits
        Table with a column of image names and the column split, if the images belong to several splits. A
        note reports the number of images that it does not contain. By default, folders, Parquet files and
        archives named train, val or test are splits.
    embeddings
        Folders written by 'manyhot predict --embeddings': first the folder for `images`, then those for
        `others`, in the same order. If they are passed, only images with similar embeddings are read and
        compared.
    embeddings_model
        Name of the model that computed the embeddings, if a folder contains embeddings from several models.
    labels
        Label sets or original labels of the images. By default, the labels of the source, such as the names
        of folders.
    predictions
        Files or folders of predictions for the images, used to compute the accuracy without duplicates.
        Requires `labels`.
    models
        Patterns of names of models to include, such as 'resnet*'.
    classes
        Class list of the labels, for files that do not name one.
    min_similarity
        Minimum similarity of the details of near duplicates.
    pictures
        Number of groups whose pictures the page shows.

    Returns
    -------
    Duplicates

    Raises
    ------
    InputError
        If a source or a file cannot be read, or no image can be decoded.
    MatchError, OrderError
        As in `manyhot.evaluate`.
    """
    if predictions and labels is None:
        raise InputError(
            "Computing the accuracy requires labels.", got="predictions alone", do="pass `labels`, too"
        )
    out = Path(out)
    Duplicates.check_out(out, [images, *others, *embeddings])
    sources = [open_source(images), *map(open_source, others)]
    for source in sources:
        check_outside(source.uri, out)
    facts = read_facts(sources, splits, labels, predictions, Reading(models=models, classes=classes), run)
    found, listed, similar, notes = _read(sources, embeddings, embeddings_model, out, run)
    pairs = find_duplicate_pairs(
        found, None if similar is None else similar.rows_of(found), min_similarity, run
    )
    grouped = Grouped.of(found, pairs, facts)
    if splits is not None:
        read = pa.array([item.image_id for item in listed[0]], pa.string())
        notes += _check_splits(facts.split or {}, read, splits)
    forget_pictures(out, "duplicates", ("picture",), DUPLICATES_FOLDER)
    table = _image_rows(grouped, pictures)
    draw_pictures(sources, [(int(found.source[r["row"]]), r["image_id"], r["picture"]) for r in table], out)
    own = _own_images(listed[0], grouped, facts)
    accuracy = [] if facts.answers is None else list(accuracy_rows(*facts.answers, own))
    result = Duplicates(
        pa.Table.from_pylist(table, schema("duplicates")),
        pa.Table.from_pylist(list(_pair_rows(grouped, pairs)), schema("duplicate_pairs")),
        pa.Table.from_pylist(accuracy, schema("duplicate_accuracy")),
        own,
        sum(map(len, listed)),
        notes=(*facts.notes, *notes, *_notes(found), *_one_group_note(grouped.group, pairs)),
        metadata={
            "min_similarity": f"{min_similarity:g}",
            "images": str(sum(map(len, listed))),
            **({} if facts.has_several else {"splits": "unknown"}),
        },
        inputs=facts.inputs,
    )
    return replace(result, written=tuple(result.write(out, run=run)))


def _read(
    sources: Sequence[ImageSource], folders: Sequence[str], model: str, out: Path, run: Run
) -> tuple[ImageSignatures, list[list[Item]], SimilarImages | None, list[str]]:
    """Return signatures, all images of each source, the pairs with similar embeddings, and notes."""
    cache = out / CACHE_FOLDER
    if not folders:
        found = read_signatures(sources, cache, run)
        if not len(found):
            got = ": ".join(found.skipped[0]) if found.skipped else "no images"
            raise InputError("No image can be decoded.", where=sources[0].uri, got=got)
        own = [
            [item for item, s in zip(found.items, found.source, strict=True) if s == i]
            for i in range(len(sources))
        ]
        return found, own, None, []
    check_embedded(sources, folders)
    listed = [[item for part in source.parts for item, _ in part.items()] for source in sources]
    read = (read_embeddings(folder, model) for folder in folders)
    matched = [embedded_images(items, e) for items, e in zip(listed, read, strict=True)]
    embedded, missing = [e for e, _, _ in matched], sum(n for _, n, _ in matched)
    similar = pairs_by_embedding(embedded, run)
    found = read_signatures(sources, cache, run, chosen=similar.chosen(len(sources)))
    notes = [text for _, _, text in matched if text]
    notes += [f"{missing:,} images have no embedding and are not compared"] if missing else []
    name = embedded[0].predictions.model
    notes.append(f"only images whose {name} embeddings are similar were read: {len(found):,}")
    return found, listed, similar, notes


def _notes(images: ImageSignatures) -> Iterator[str]:
    if images.skipped:
        name, reason = images.skipped[0]
        yield f"{len(images.skipped):,} images cannot be read, such as {name}: {reason}"
    flat = int(np.count_nonzero(images.is_flat()))
    if flat:
        yield f"{flat:,} images have no contrast, so only copies with equal pixels are found"


_FEWEST_ALIKE = 10


def _one_group_note(group: Ints, pairs: DuplicatePairs) -> Iterator[str]:
    """Note that most images are in one group, as photographs of different objects in a fixed place are."""
    largest, n = int(np.bincount(group)[1:].max(initial=0)), len(group)
    if n < _FEWEST_ALIKE or 2 * largest <= n or not (pairs.similarity < 1).any():
        return
    alike = (
        f"{largest:,} of {n:,} images are in one group, as photographs of different objects in one place "
        "may be"
    )
    gap = separating_similarity(n, pairs.rows, pairs.similarity)
    if gap is None:
        yield f"{alike}; there is no gap in the similarities that separates copies from such photographs"
        return
    low, high = gap
    yield (
        f"{alike}; no pair has a similarity between {low:.3f} and {high:.3f}: to find only the more similar "
        f"pairs, pass `min_similarity` {(low + high) / 2:.2f}"
    )


@dataclass(frozen=True, eq=False)
class Grouped:
    """The groups of images, with properties of each image; arrays and lists have an entry for each signature.

    Attributes
    ----------
    names : list of str
        Names of the data sets.
    group : ndarray of int
        Number of the group, from 1; 0 for images without duplicates.
    repeated, between, conflict : list of bool or None
        As in the table ``duplicates``.
    """

    images: ImageSignatures
    names: list[str]
    group: Ints
    places: list[ImageSplit]
    label: list[str | None]
    repeated: list[bool | None]
    between: list[bool | None]
    conflict: list[bool]

    @classmethod
    def of(cls, images: ImageSignatures, pairs: DuplicatePairs, facts: Facts) -> Grouped:
        """Number the groups, first those whose labels differ, then those that span splits or data sets."""
        places, label = facts.of(images)
        group = connected_groups(len(images), pairs.rows)
        repeated, between = (list[bool | None]([False]) * len(images) for _ in range(2))
        conflict, order = [False] * len(images), []
        for number in range(group.max(initial=NOBODY) + 1):
            rows = np.flatnonzero(group == number).tolist()
            of = {places[row] for row in rows}
            spans = _any(a.differs(b) for a, b in itertools.combinations_with_replacement(of, 2))
            differ = len({label[row] for row in rows} - {None}) > 1
            earlier = set[ImageSplit]()
            for row in rows:
                repeated[row] = _any(map(places[row].equals, earlier))
                earlier.add(places[row])
                between[row], conflict[row] = spans, differ
            order.append((not differ, (True, None, False).index(spans), number))
        rank = np.zeros(len(order) + 1, np.int64)
        rank[[number for *_, number in sorted(order)]] = np.arange(1, len(order) + 1)
        return cls(images, facts.names, rank[group], places, label, repeated, between, conflict)

    def side(self, row: int) -> tuple[str, str, str | None, str | None]:
        """Return the data set of an image, its id, its split and its label."""
        place = self.places[row]
        return self.names[place.source], self.images.items[row].image_id, place.split, self.label[row]


class ImageSplit(NamedTuple):
    """The number of an image's data set, and its split; None if it has no split or the split is unknown."""

    source: int
    split: str | None
    is_known: bool

    def differs(self, other: ImageSplit) -> bool | None:
        """Return whether two images are in different data sets or splits, or None if this is unknown."""
        if self.source != other.source:
            return True
        return self.split != other.split if self.is_known and other.is_known else None

    def equals(self, other: ImageSplit) -> bool | None:
        """Return the opposite of `differs`."""
        differs = self.differs(other)
        return None if differs is None else not differs


def _any(values: Iterable[bool | None]) -> bool | None:
    """Return whether any value is True, or None if none is but some are unknown."""
    found = set(values)
    return True if True in found else None if None in found else False


def _image_rows(grouped: Grouped, pictures: int) -> list[RowDict]:
    """Return the rows of ``duplicates``, with the row of the signature and the path of the picture."""
    at = np.flatnonzero(grouped.group)
    rows = [_image_row(grouped, row) for row in at[np.argsort(grouped.group[at], kind="stable")].tolist()]
    for number, of in itertools.groupby(rows, key=lambda r: int(r["group"])):
        for i, image in enumerate(of, 1):
            is_shown = number <= pictures and i <= _PICTURES_OF_A_GROUP
            image["picture"] = f"{DUPLICATES_FOLDER}/{number:03}-{i}.jpg" if is_shown else None
    return rows


def _image_row(grouped: Grouped, row: int) -> RowDict:
    dataset, image_id, split, label = grouped.side(row)
    width, height = grouped.images.size[row].tolist()
    return {
        "row": row,
        "group": int(grouped.group[row]),
        "dataset": dataset,
        "image_id": image_id,
        "uri": grouped.images.items[row].uri,
        "split": split,
        "label": label,
        "width": width,
        "height": height,
        "repeated": grouped.repeated[row],
        "between": grouped.between[row],
        "conflict": None if label is None else grouped.conflict[row],
    }


def _pair_rows(grouped: Grouped, pairs: DuplicatePairs) -> Iterator[Row]:
    """Yield the rows of ``duplicate_pairs``, by group."""
    names = ("dataset", "image", "split", "label")
    group = grouped.group[pairs.first]
    for i in np.lexsort((pairs.second, pairs.first, group)).tolist():
        a, b = int(pairs.first[i]), int(pairs.second[i])
        sides = [grouped.side(row) for row in (a, b)]
        label_a, label_b = (label for *_, label in sides)
        known = label_a is not None and label_b is not None
        yield {
            "group": int(group[i]),
            "kind": DUPLICATE_KINDS[pairs.kind[i]],
            "mirrored": bool(pairs.mirrored[i]),
            "overlap": float(pairs.overlap[i]),
            "similarity": float(pairs.similarity[i]),
            "between": grouped.places[a].differs(grouped.places[b]),
            "conflict": label_a != label_b if known else None,
            **{
                f"{n}_{e}": v
                for e, side in zip("ab", sides, strict=True)
                for n, v in zip(names, side, strict=True)
            },
        }


def _own_images(items: Sequence[Item], grouped: Grouped, facts: Facts) -> pa.Table:
    """Return the images of the first data set, with flags for slices."""
    of = zip(grouped.images.items, grouped.images.source.tolist(), strict=True)
    row = {item.image_id: i for i, (item, source) in enumerate(of) if source == 0}
    at = [row.get(item.image_id) for item in items]
    known = {
        "split": pa.array([facts.place_of(item, 0).split for item in items], pa.string()),
        "label": pa.array([facts.class_id.get(item.image_id, _number(item)) for item in items], pa.int32()),
    }
    return pa.table(
        {
            "image_id": [item.image_id for item in items],
            "uri": [item.uri for item in items],
            **{name: column for name, column in known.items() if column.null_count < len(column)},
            # Images that were not read are in no group.
            **{name: [r is not None and getattr(grouped, name)[r] for r in at] for name in WITHOUT},
        }
    )


def _number(item: Item) -> int | None:
    """Return the label of an image that is a number, not a name."""
    return item.label if isinstance(item.label, int) else None


Names = Mapping[str, str]
Splits = Mapping[str, str | None]


@dataclass(frozen=True, eq=False)
class Facts:
    """Splits, labels and predictions of images.

    Attributes
    ----------
    names : list of str
        Names of the data sets.
    own_names : list of str or None
        The label of the images directly in each folder, which is the folder's own name: *test* and *train*
        are not labels unless a class list says so. None for other sources.
    folders : list of Mapping of str to (str, bool)
        The result of `split_folders` for each data set.
    files : list of FileSplits
        The splits of the files of each data set.
    split : Mapping of str to str or None, optional
        The split of each image of the first data set that is in the table of splits. If None, there is none.
    label : Mapping of str to str, optional
        The label of each image of the first data set. If None, the labels of the source are used.
    class_id : Mapping of str to int
        The class of the original label, for the images of the first data set whose original label is in a
        table.
    class_names : Mapping of str to str, optional
        Maps the number, the key and the name of each class to its name. None if the classes are unknown.
    answers : (str, ModelAnswers), optional
        The name of the data set, and whether models are right on images of it.
    inputs : Mapping of str to str
        As in `Result`.
    """

    names: list[str]
    own_names: list[str | None]
    folders: list[dict[str, tuple[str, bool]]]
    files: list[FileSplits]
    split: Splits | None
    label: Names | None
    class_id: Mapping[str, int]
    class_names: Names | None
    answers: tuple[str, ModelAnswers] | None
    notes: tuple[str, ...]
    inputs: Mapping[str, str]

    @property
    def has_several(self) -> bool:
        """Whether there are several data sets, or any split is known."""
        known = self.split is not None or self.folders[0] or self.files[0].files
        return len(self.names) > 1 or bool(known)

    def place_of(self, item: Item, source: int) -> ImageSplit:
        """Return the place of an image: its split is from the table, or else from its file or folder."""
        if source == 0 and self.split is not None:
            split = self.split.get(item.image_id)
        elif self.files[source].files:
            split = self.files[source].of(item.uri)
        elif folders := self.folders[source]:
            split = folders.get(item.image_id, (None, False))[0]
        else:
            return ImageSplit(source, None, is_known=True)
        return ImageSplit(source, split, is_known=split is not None)

    def of(self, images: ImageSignatures) -> tuple[list[ImageSplit], list[str | None]]:
        """Return the place and the label of each image.

        Labels of sources are keys, names or numbers in the class list. Without a class list, labels whose
        type differs from that of the first label are ignored, because a number is not a name.
        """
        places, label, kinds = list[ImageSplit](), list[str | None](), list[type]()
        for item, source in zip(images.items, images.source.tolist(), strict=True):
            places.append(self.place_of(item, source))
            if source == 0 and self.label is not None:
                label.append(self.label.get(item.image_id))
                continue
            is_own_name = "/" not in item.image_id and item.label == self.own_names[source]
            _, is_split = self.folders[source].get(item.image_id, ("", False))
            name = None if is_own_name or is_split else item.label
            if self.class_names is not None:
                name = self.class_names.get(str(item.label))
            kinds += [] if name is None or kinds else [type(name)]
            label.append(str(name) if name is not None and type(name) is kinds[0] else None)
        return places, label


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
    own_names = [folder_label("", s.uri) if Path(s.uri).is_dir() else None for s in sources]
    folders, files = list(map(split_folders, sources)), list(map(FileSplits, sources))
    split: Splits | None = None
    if splits is not None:
        split, notes = _splits(splits, sources[0])
        inputs[Path(splits).name] = sha256(splits)
    class_list = open_class_list(reading.classes)
    reading = replace(reading, classes=class_list)
    if labels is None:
        named = _class_names(class_list)
        return Facts(names, own_names, folders, files, split, None, {}, named, None, tuple(notes), inputs)
    is_file = isinstance(labels, str | Path) and Path(labels).is_file()
    if is_file and not predictions:
        (source,) = open_labels(labels, reading=reading, run=run)
        answers = None
    else:
        (source,) = open_inputs(labels, predictions, reading=reading, run=run)
        answers = (source.name, ModelAnswers.of(source, run=run))
    sets, class_list = labels_of(source), source.classes or class_list
    notes += source.misfits.notes(source.name)
    inputs |= source.inputs
    sets, like = labels_of_source(sets, sources[0])
    notes += [like.text] if like.n else []
    class_list = class_list or sets.known_classes
    label, class_id = _label_names(sets, class_list), _class_ids(sets)
    class_names = _class_names(class_list)
    return Facts(
        names, own_names, folders, files, split, label, class_id, class_names, answers, tuple(notes), inputs
    )


def _splits(path: PathLike, source: ImageSource) -> tuple[Splits, list[str]]:
    """Return the split of each image in a table, keyed by its id in a source, and how the ids were matched.

    The ids of streams, such as remote archives, are unknown before they are read, so those of the table
    must be equal to them.
    """
    split = read_splits(path)
    if source.n is None:
        return split, []
    own, ids = pa.array(split, pa.string()), ids_of_source(source)
    with without_option():
        like = ids_like(own, ids, name=str(path), other_name="the source")
    split = dict(zip(like.ids.to_pylist(), split.values(), strict=True))
    _check_splits(split, ids, path)  # before all images are read
    return split, [f"{Path(path).name}: {like.text}"] if like.n else []


def _check_splits(split: Splits, ids: pa.Array, path: PathLike) -> list[str]:
    """Return a note on images without a split, and raise an error if no image is in the table."""
    listed = pa.array(split, pa.string())
    if not count_shared(ids, listed) and len(ids):
        raise MatchError(
            "None of the images is in the table of splits.",
            where=path,
            got=f"splits of images such as {examples(listed)}",
            allowed=f"images such as {examples(ids)}",
            do="pass the table of these images, with their ids",
        )
    n = sum(split.get(image_id) is None for image_id in ids.to_pylist())
    if not n:
        return []
    return [
        f"{Path(path).name} has no split for {n:,} of {len(ids):,} images, so it is unknown whether their "
        "duplicates are in another split"
    ]


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
