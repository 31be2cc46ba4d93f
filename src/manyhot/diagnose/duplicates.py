"""Images that occur more than once: equal files and pixels, and near copies, within and between data sets."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa

from manyhot.command import command
from manyhot.core.array_types import Bools, Ints
from manyhot.core.duplicates import connected_groups
from manyhot.core.nearest import NOBODY
from manyhot.data.data_sets import ModelPatterns, Reading
from manyhot.data.inputs import LabelsLike, PredictionsLike
from manyhot.diagnose.duplicate_images import CACHE_FOLDER, ImageSignatures, draw_pictures, read_signatures
from manyhot.diagnose.duplicate_labels import Facts, read_facts
from manyhot.diagnose.duplicate_pairs import (
    DUPLICATE_KINDS,
    DuplicatePairs,
    SimilarImages,
    check_embedded,
    find_duplicate_pairs,
    not_embedded,
    pairs_by_embedding,
)
from manyhot.diagnose.duplicates_accuracy import WITHOUT, accuracy_without_duplicates
from manyhot.diagnose.duplicates_result import DUPLICATES_FOLDER, Duplicates
from manyhot.diagnose.page import forget_pictures
from manyhot.errors import InputError
from manyhot.formats import ClassNamesLike
from manyhot.formats.writing import PathLike
from manyhot.parameters import Address, AtLeast, OptionName, Probability, Shown
from manyhot.predict.embeddings import read_embeddings
from manyhot.predict.sources import ImageSource, Item, open_source
from manyhot.run import QUIET, Run
from manyhot.tables import Row, RowDict, schema

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

    Equal files and equal pixels are found by hashes. Copies that were resized, saved again, cropped or
    mirrored are found by a perceptual hash, or by embeddings, and confirmed by their aligned pixels. Groups
    whose labels differ come first. A stopped run resumes when it is started again.

    Parameters
    ----------
    images
        Images to check, as for predict, such as those of a test set.
    others
        Further images in which to look for duplicates, such as those of the training set.
    out
        Folder to write to. It is created if it does not exist.
    splits
        Table with a column of image names and the column split, if the images belong to several splits.
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
        Files or folders of predictions for the images, to compute the accuracy without duplicates. Requires
        `labels`.
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
        raise InputError("Accuracy needs labels.", got="predictions alone", do="pass `labels`, too")
    out = Path(out)
    Duplicates.check_out(out, [images, *others, *embeddings])
    sources = [open_source(images), *map(open_source, others)]
    _check_outside(sources, out)
    facts = read_facts(sources, splits, labels, predictions, Reading(models=models, classes=classes), run)
    found, listed, similar, notes = _read(sources, embeddings, embeddings_model, out, run)
    pairs = find_duplicate_pairs(
        found, None if similar is None else similar.rows_of(found), min_similarity, run
    )
    grouped = Grouped.of(found, pairs, facts)
    forget_pictures(out, "duplicates", ("picture",), DUPLICATES_FOLDER)
    table = _image_rows(grouped, pictures)
    draw_pictures(sources, [(int(found.source[r["row"]]), r["image_id"], r["picture"]) for r in table], out)
    own = _own_images(listed[0], grouped, facts)
    result = Duplicates(
        pa.Table.from_pylist(table, schema("duplicates")),
        pa.Table.from_pylist(list(_pair_rows(grouped, pairs)), schema("duplicate_pairs")),
        accuracy_without_duplicates(facts.answers, own),
        own,
        sum(map(len, listed)),
        notes=(*facts.notes, *notes, *_notes(found)),
        metadata={"min_similarity": f"{min_similarity:g}", "images": str(sum(map(len, listed)))},
        inputs=facts.inputs,
    )
    return replace(result, written=tuple(result.write(out, run=run)))


def _check_outside(sources: Sequence[ImageSource], out: Path) -> None:
    """Raise an error if pictures would be written among the images: the next run would read them."""
    for source in sources:
        if Path(source.uri).is_dir() and out.resolve().is_relative_to(Path(source.uri).resolve()):
            raise InputError(
                "The output folder is inside the folder of images.",
                where=out,
                got=f"images in {source.uri}",
                do="choose an `out` outside this folder",
            )


def _read(
    sources: Sequence[ImageSource], folders: Sequence[str], model: str, out: Path, run: Run
) -> tuple[ImageSignatures, list[list[Item]], SimilarImages | None, list[str]]:
    """Return signatures, all images of each source, the pairs with similar embeddings, and notes."""
    cache = out / CACHE_FOLDER
    if not folders:
        found = read_signatures(sources, cache, run)
        if not len(found):
            raise InputError("No image can be decoded.", where=sources[0].uri, got=_first_reason(found))
        own = [
            [item for item, s in zip(found.items, found.source, strict=True) if s == i]
            for i in range(len(sources))
        ]
        return found, own, None, []
    check_embedded(sources, folders)
    embedded = [read_embeddings(folder, model) for folder in folders]
    listed = [[item for part in source.parts for item, _ in part.items()] for source in sources]
    missing = sum(not_embedded(items, e) for items, e in zip(listed, embedded, strict=True))
    similar = pairs_by_embedding(embedded, run)
    found = read_signatures(sources, cache, run, chosen=similar.chosen(len(sources)))
    notes = [f"{missing:,} images have no embedding and are not compared"] if missing else []
    name = embedded[0].predictions.model
    notes.append(f"only images whose {name} embeddings are similar were read: {len(found):,}")
    return found, listed, similar, notes


def _first_reason(images: ImageSignatures) -> str:
    return ": ".join(images.skipped[0]) if images.skipped else "no images"


def _notes(images: ImageSignatures) -> Iterator[str]:
    if images.skipped:
        name, reason = images.skipped[0]
        yield f"{len(images.skipped):,} images cannot be read, such as {name}: {reason}"
    flat = int(np.count_nonzero(images.is_flat()))
    if flat:
        yield f"{flat:,} images have no contrast, so only copies with equal pixels are found"


@dataclass(frozen=True, eq=False)
class Grouped:
    """The groups of images, with properties of each image; arrays and lists have an entry for each signature.

    Attributes
    ----------
    images : ImageSignatures
    names : list of str
        Names of the data sets.
    group : ndarray of int
        Number of the group, from 1; 0 for images without duplicates.
    split, label : list of str or None
    repeated, between, conflict : ndarray of bool
        As in the table ``duplicates``.
    """

    images: ImageSignatures
    names: list[str]
    group: Ints
    split: list[str | None]
    label: list[str | None]
    repeated: Bools
    between: Bools
    conflict: Bools

    @classmethod
    def of(cls, images: ImageSignatures, pairs: DuplicatePairs, facts: Facts) -> Grouped:
        """Number the groups: those with different labels first, then those between splits or data sets."""
        split, label = facts.of(images)
        group = connected_groups(len(images), pairs.rows)
        sets = _codes(list(zip(images.source.tolist(), split, strict=True)))
        named = _codes(label, none=NOBODY)
        repeated, between, conflict = (np.zeros(len(images), bool) for _ in range(3))
        order = []
        for number in range(group.max(initial=NOBODY) + 1):
            rows = np.flatnonzero(group == number)
            repeated[rows] = [s in sets[rows[:i]] for i, s in enumerate(sets[rows])]
            between[rows] = len(set(sets[rows])) > 1
            conflict[rows] = len(set(named[rows]) - {NOBODY}) > 1
            order.append((not conflict[rows[0]], not between[rows[0]], number))
        rank = np.zeros(len(order) + 1, np.int64)
        rank[[number for *_, number in sorted(order)]] = np.arange(1, len(order) + 1)
        return cls(images, facts.names, rank[group], split, label, repeated, between, conflict)

    def side(self, row: int) -> tuple[str, str, str | None, str | None]:
        """Return the data set of an image, its id, its split and its label."""
        item = self.images.items[row]
        return self.names[int(self.images.source[row])], item.image_id, self.split[row], self.label[row]


def _codes(values: Sequence[object], none: int = 0) -> Ints:
    """Return a number for each value; that of None is `none`."""
    codes: dict[object, int] = {}
    return np.array([none if v is None else codes.setdefault(v, len(codes)) for v in values], np.int64)


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
        "repeated": bool(grouped.repeated[row]),
        "between": bool(grouped.between[row]),
        "conflict": None if label is None else bool(grouped.conflict[row]),
    }


def _pair_rows(grouped: Grouped, pairs: DuplicatePairs) -> Iterator[Row]:
    """Yield the rows of ``duplicate_pairs``, by group."""
    names = ("dataset", "image", "split", "label")
    group = grouped.group[pairs.first]
    for i in np.lexsort((pairs.second, pairs.first, group)).tolist():
        sides = [grouped.side(int(end[i])) for end in (pairs.first, pairs.second)]
        (set_a, _, split_a, label_a), (set_b, _, split_b, label_b) = sides
        known = label_a is not None and label_b is not None
        yield {
            "group": int(group[i]),
            "kind": DUPLICATE_KINDS[pairs.kind[i]],
            "mirrored": bool(pairs.mirrored[i]),
            "overlap": float(pairs.overlap[i]),
            "similarity": float(pairs.similarity[i]),
            "between": (set_a, split_a) != (set_b, split_b),
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
    at = np.array([row.get(item.image_id, NOBODY) for item in items], np.int64)
    known = {
        "split": pa.array([facts.split.get(item.image_id) for item in items], pa.string()),
        "label": pa.array([facts.class_id.get(item.image_id, _number(item)) for item in items], pa.int32()),
    }
    return pa.table(
        {
            "image_id": [item.image_id for item in items],
            "uri": [item.uri for item in items],
            **{name: column for name, column in known.items() if column.null_count < len(column)},
            # Images that were not read are in no group.
            **{name: (at != NOBODY) & getattr(grouped, name)[at] for name in WITHOUT},
        }
    )


def _number(item: Item) -> int | None:
    """Return the label of an image that is a number, not a name."""
    return item.label if isinstance(item.label, int) else None
