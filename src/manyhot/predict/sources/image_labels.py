"""The labels of a source, as classes."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import pyarrow as pa

from manyhot.classes import ClassList
from manyhot.errors import InputError
from manyhot.predict.sources.remote import fetch_bytes, first_line, is_remote, unquoted, without_query
from manyhot.predict.sources.source import EXTENSIONS, ImageReader, ImageSource, Item, SourcePart, short_hash
from manyhot.tables.image_ids import (
    IMAGE_NAME_COLUMNS,
    check_columns_once,
    first_column,
    fold_name,
    ids_like,
    normal_ids,
    without_option,
)
from manyhot.tables.own_classes import is_class_number

_ID_COLUMNS = (*IMAGE_NAME_COLUMNS[: IMAGE_NAME_COLUMNS.index("id")], "uri", "url", "id", "__key__")
_LABEL_COLUMNS = ("wnid", "label", "class", "cls", "fine_label", "key", "class_id", "target")
"""Names of columns, by preference. A WordNet id is safer than a number, which may index another list."""


ListedImage = tuple[str, str | None]
_UNLABELLED = "-1"
_WITH_ID = re.compile(r"(ILSVRC2012_val_\d{8}|n\d{8}_\d+)_n\d{8}(\.\w+)")


def base_name(path: str) -> str:
    """Return the id of an image: the last part of its path, with extension.

    Hugging Face appends the WordNet id to the names of ImageNet's images. This suffix is removed, so that ids
    are the original names.
    """
    name = path.rpartition("/")[2]
    if is_remote(path):
        plain = without_query(path)
        name = unquoted((plain if plain.lower().endswith(EXTENSIONS) else path).rpartition("/")[2], path)
    with_id = _WITH_ID.fullmatch(name)
    return with_id[1] + with_id[2] if with_id else name


def read_table(where: str | os.PathLike[str]) -> list[ListedImage]:
    """Return path and label of each image from a CSV file with a header, or from text with one path per line.

    In a text file, a label can follow the path after a space.

    Parameters
    ----------
    where : path-like
        A path or an address.

    Raises
    ------
    InputError
        If the file cannot be read, or if a CSV file has no column with the names of images.
    """
    return _table(where)[0]


def read_image_labels(where: str | os.PathLike[str]) -> dict[str, str]:
    """Return the labels in a table, keyed by image id.

    The ids are in the column ``image_id``. If there is none, they are the base names of the paths in another
    column, or the paths if two of them have the same base name.

    Raises
    ------
    InputError
        As in `read_table`, or if the table has no labels or two different labels for an image.
    """
    rows, are_ids = _table(where)
    listed = [path for path, _ in rows]
    paths: list[str] = listed if are_ids else normal_ids(pa.array(listed, pa.string())).to_pylist()
    names = {path: path if are_ids else base_name(path) for path in paths}
    is_unique = len(set(names.values())) == len(names)
    found: dict[str, str] = {}
    for path, (_, label) in zip(paths, rows, strict=True):
        name = names[path] if is_unique else path
        if label is not None and found.setdefault(name, label) != label:
            raise InputError(
                "An image has two labels.",
                where=where,
                got=f"{name}: {found[name]} and {label}",
                allowed="one label for each image",
            )
    if not found:
        is_json = PurePosixPath(without_query(os.fspath(where))).suffix.lower() == ".json"
        raise InputError(
            "The table has no labels.",
            where=where,
            allowed="a column " + ", ".join(_LABEL_COLUMNS),
            do="pass one label for each image; label sets, such as COCO's, are for manyhot evaluate, and "
            "their categories can be passed as `classes`"
            if is_json
            else None,
        )
    return found


@dataclass(frozen=True)
class Labelled:
    """A part with labels from a table.

    Attributes
    ----------
    part : SourcePart
    labels : Mapping of str to str
        Labels by image id, at least for the images of the part.
    mark : str
        Differs if the labels differ.
    """

    part: SourcePart
    labels: Mapping[str, str]
    mark: str

    @property
    def name(self) -> str:
        """A valid file name."""
        return self.part.name

    @property
    def n(self) -> int | None:
        """The number of images."""
        return self.part.n

    def items(self) -> Iterator[tuple[Item, ImageReader]]:
        """Yield each image with a function that reads it."""
        for item, read in self.part.items():
            yield replace(item, label=self.labels.get(item.image_id)), read

    def key(self) -> str:
        """Return a key that identifies the images of this part and their labels."""
        return f"{self.part.key()} {self.mark}"


def with_labels(
    source: ImageSource, labels: Mapping[str, str] | None, ids: Sequence[Sequence[str]] | None = None
) -> ImageSource:
    """Return a source with its labels replaced by the labels in a table, if there is one.

    Parameters
    ----------
    source : ImageSource
    labels : Mapping of str to str, optional
    ids : sequence of sequence of str, optional
        Ids of the images of each part, if they are known. Each part then has only the labels of its own
        images.

    Raises
    ------
    InputError
        If none of the labels belongs to an image of the source.
    """
    if labels is None:
        return source
    if ids is None:
        mark = short_hash(f"{image} {label}" for image, label in sorted(labels.items()))
        return replace(source, parts=tuple(Labelled(p, labels, mark) for p in source.parts), strict=True)
    if not any(name in labels for names in ids for name in names):
        labels = _by_path(labels, ids)
    own = [{name: labels[name] for name in names if name in labels} for names in ids]
    if not any(own):
        raise _none_of(labels, ids, source.uri)
    parts = tuple(
        Labelled(part, found, short_hash(f"{image} {label}" for image, label in found.items()))
        for part, found in zip(source.parts, own, strict=True)
    )
    return replace(source, parts=parts, strict=True)


def _by_path(labels: Mapping[str, str], ids: Sequence[Sequence[str]]) -> Mapping[str, str]:
    """Return the labels by the ids of a source whose folders begin elsewhere."""
    theirs = pa.array([name for names in ids for name in names], pa.string())
    own = pa.array(labels, pa.string())
    with without_option():
        like = ids_like(own, theirs, name="the labels", other_name="the source", match="path")
    return dict(zip(like.ids.to_pylist(), labels.values(), strict=True))


def _none_of(labels: Mapping[str, str], ids: Sequence[Sequence[str]], where: str) -> InputError:
    stems = {name.rpartition(".")[0] for names in ids for name in names}
    return InputError(
        "None of the labels belongs to an image of the source.",
        where=where,
        got=f"labels of images such as {next(iter(labels))}",
        allowed=f"images such as {next(name for names in ids for name in names)}",
        do="write the names with their extensions" if any(name in stems for name in labels) else None,
    )


def _text(where: str) -> str:
    try:
        return fetch_bytes(where).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError("The file does not exist.", where=where) from error
    except OSError as error:
        raise InputError(f"The file cannot be read: {first_line(error)}.", where=where) from error
    except UnicodeDecodeError as error:
        raise InputError("The file is not text.", where=where, got=str(error), allowed="UTF-8") from error


def _table(where: str | os.PathLike[str]) -> tuple[list[ListedImage], bool]:
    """Return the rows of a table, and whether it names images by id."""
    lines = io.StringIO(_text(os.fspath(where)), newline=None)
    suffix = PurePosixPath(without_query(os.fspath(where))).suffix.lower()
    if suffix not in (".csv", ".tsv"):
        found = (line.strip() for line in lines)
        return [_line(line) for line in found if line and not line.startswith("#")], False
    try:
        return _columns(csv.reader(lines, delimiter="\t" if suffix == ".tsv" else ","), where)
    except csv.Error as error:
        raise InputError("The file is not CSV.", where=where, got=error) from error


def _columns(rows: Iterator[list[str]], where: object) -> tuple[list[ListedImage], bool]:
    heads = [head.strip() for head in next(rows, [])]
    check_columns_once(filter(None, heads), where)
    found = first_column(heads, _ID_COLUMNS)
    if found is None:
        raise InputError(
            "No column names the images.",
            where=where,
            got=", ".join(heads) or "nothing",
            allowed=", ".join(_ID_COLUMNS),
        )
    return list(_rows(rows, heads, heads.index(found), where)), fold_name(found) == _ID_COLUMNS[0]


def _line(line: str) -> ListedImage:
    path, _, label = line.rpartition(" ") if " " in line else line.rpartition("\t")
    named = path.strip().lower().endswith(EXTENSIONS) and not line.lower().endswith(EXTENSIONS)
    return (_slashes(path.strip()), label) if named else (_slashes(line), None)


def _slashes(path: str) -> str:
    return path if is_remote(path) else path.replace("\\", "/")


def _rows(rows: Iterable[list[str]], heads: list[str], name: int, where: object) -> Iterator[ListedImage]:
    label = _first(_LABEL_COLUMNS, heads)
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        if len(row) != len(heads) or not row[name].strip():
            raise InputError(
                "A row has no image." if len(row) == len(heads) else "A row is not as long as the header.",
                where=f"{where}, row {number}",
                got=",".join(row)[:200],  # the rest of the file, if a quote is not closed
                allowed=",".join(heads),
            )
        yield _slashes(row[name].strip()), (row[label].strip() or None) if label is not None else None


def _first(names: Sequence[str], heads: Sequence[str]) -> int | None:
    """Return the index of the first of some columns, ignoring case."""
    lower = [head.lower() for head in heads]
    return next((lower.index(head) for head in names if head in lower), None)


class LabelLookup:
    """Converts labels to class ids. A label is a key, a name or a number.

    Parameters
    ----------
    classes : ClassList
    strict : bool
        Whether a label that is not a class is an error. If no name is a class, there is no error: the names
        are then those of another data set, and the images have no label, as in folders.
    where : object
        For messages.
    """

    def __init__(self, classes: ClassList, strict: bool, where: object) -> None:
        self._classes, self._strict, self._where = classes, strict, where
        self._names_class = False
        self._other: str | None = None
        self._keys = {key: i for i, key in enumerate(classes.keys)}
        self._classes_of: dict[str | int, int | None] = {}

    def __call__(self, label: str | int | None) -> int | None:
        """Return the class of a label, or None.

        Raises
        ------
        InputError
            If the labels are strict, and some but not all of them are classes, or this number is not.
        """
        if label is None:
            return None
        if label not in self._classes_of:
            self._classes_of[label] = self._class_of(label)
        return self._classes_of[label]

    def all(self, labels: Iterable[str | int | None]) -> list[int | None]:
        """Return the classes of labels."""
        return [self(label) for label in labels]

    def _class_of(self, label: str | int) -> int | None:
        number = _number(label)
        found = self._keys.get(str(label)) if isinstance(label, str) else None
        if found is None:
            found = self._classes.find(str(label)) if number is None else number
        if found is not None and found >= len(self._classes):
            found = None
        if found is not None:
            self._names_class = True
        elif str(label) != _UNLABELLED:
            self._other = self._other or str(label)
        is_number = self._other is not None and self._other.lstrip("-").isdigit()
        if self._strict and self._other is not None and (self._names_class or is_number):
            raise InputError(
                "A label is not in the class list.",
                where=self._where,
                got=self._other,
                allowed=f"keys, names and numbers of the {len(self._classes):,} classes"
                f" of {self._classes.name}",
                do="pass the class list of these labels as `classes`",
            )
        return found


def _number(label: str | int) -> int | None:
    if isinstance(label, int):
        return label if label >= 0 else None
    return int(label) if is_class_number(label) and len(label) < 10 else None
