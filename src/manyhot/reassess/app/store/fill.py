"""Fill the database from the tables of a campaign, and add the questions that came to it later."""

from __future__ import annotations

import hashlib
import random
import secrets
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy import typing as npt

from manyhot.reassess.app.store import engines, schema, slots
from manyhot.reassess.app.store.campaign_settings import (
    CampaignSettings,
    change_settings,
    get_value,
    put_value,
    read_settings,
)
from manyhot.reassess.app.store.golden import check_golden

_CHUNK = 10_000
"""Images whose names and locations become Arrow columns at once: as Python strings, those of a training set
take a gigabyte."""


_NONE: Mapping[int, bool] = MappingProxyType({})


@dataclass(frozen=True)
class ImageQuestions:
    """An image and its questions.

    Attributes
    ----------
    image_id, uri : str
    label : int, optional
    classes : tuple of int
        The proposed classes.
    golden : Mapping of int to bool
        For each class that experts were asked about, whether more than half of the experts said yes.
    place : int
        Images with a lower place are asked about first; images with the same place are asked about in random
        order.
    """

    image_id: str
    uri: str
    label: int | None
    classes: tuple[int, ...]
    golden: Mapping[int, bool] = field(default_factory=lambda: _NONE)
    place: int = 0


@dataclass(frozen=True)
class Example:
    """An example image of a class."""

    class_id: int
    name: str
    uri: str


def fill(
    connection: sa.Connection,
    asked: Iterable[ImageQuestions],
    examples: Iterable[Example],
    settings: CampaignSettings,
    source: str,
) -> bool:
    """Fill an empty database with a campaign; return False if it had already been filled.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    asked : iterable of ImageQuestions
    examples : iterable of Example
        Best examples of each class first.
    settings : CampaignSettings
    source : str
        The SHA-256 hash of the proposals.
    """
    if get_value(connection, "source") is not None:
        return False
    put_value(connection, "id", secrets.token_hex(8))
    change_settings(connection, **settings.__dict__)
    add(connection, asked, examples, source)
    check_golden(connection, settings)
    return True


def add(
    connection: sa.Connection, asked: Iterable[ImageQuestions], examples: Iterable[Example], source: str
) -> None:
    """Add questions that the database does not contain yet, after the existing questions.

    Images that are already in the database get further pages, and classes without example images get example
    images.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    asked : iterable of ImageQuestions
        Images with questions about classes that have not been asked about before.
    examples, source
        As in `fill`.
    """
    settings = read_settings(connection)
    last = {table: connection.scalar(sa.select(sa.func.max(table.c.id))) or 0 for table in _NUMBERED}
    columns = _Columns(settings.per_page, last, partial(_image_numbers, connection))
    for about in asked:
        columns.add(about)
    for table, rows in columns.tables():
        engines.insert_rows(connection, table, rows)
        del rows  # before those of the next table are made
        pa.default_memory_pool().release_unused()
    shown = set(connection.scalars(sa.select(schema.examples.c.class_id).distinct()))
    fresh = (example for example in examples if example.class_id not in shown)
    engines.insert_rows(connection, schema.examples, _rows_of(fresh))
    for _ in range(settings.raters):
        slots.add_slots(connection, schema.pages.c.id > last[schema.pages])
    put_value(connection, "source", source)
    put_value(connection, "examples", _count_examples(connection))
    engines.take_stock(connection)


_NUMBERED = (schema.images, schema.pages, schema.questions)


def _image_numbers(connection: sa.Connection, names: Sequence[str]) -> dict[str, int]:
    """Return the numbers of the images that the database holds."""
    table = schema.images
    found = connection.execute(sa.select(table.c.name, table.c.id).where(table.c.name.in_(names)))
    return {row.name: row.id for row in found}


def questions_asked(connection: sa.Connection) -> pa.Table:
    """Return the columns ``image_id`` and ``class_id`` of all questions."""
    on_pages = schema.questions.join(schema.pages).join(schema.images)
    query = sa.select(schema.images.c.name, schema.questions.c.class_id).select_from(on_pages)
    return query_table(connection, query, pa.schema([("image_id", pa.string()), ("class_id", pa.int32())]))


def query_table(connection: sa.Connection, query: sa.Select[Any], columns: pa.Schema) -> pa.Table:
    """Return the rows of a query, of which only a part is held as Python objects at a time."""
    parts = [columns.empty_table()]
    for rows in connection.execute(query.execution_options(yield_per=_CHUNK)).partitions():
        arrays = [pa.array(c, field.type) for c, field in zip(zip(*rows, strict=True), columns, strict=True)]
        parts.append(pa.table(arrays, schema=columns))
    return pa.concat_tables(parts)


def count_examples(connection: sa.Connection) -> tuple[int, int]:
    """Return the number of classes asked about, and how many of them have at least two example images.

    Neither number changes unless questions are added or withdrawn. Counting millions of questions takes
    seconds.
    """
    known = get_value(connection, "examples")
    asked, with_two = _count_examples(connection) if known is None else known
    return asked, with_two


def _count_examples(connection: sa.Connection) -> tuple[int, int]:
    asked, examples = schema.questions, schema.examples
    classes = sa.select(sa.func.count(sa.distinct(asked.c.class_id))).where(schema.IS_ASKED)
    several = sa.select(examples.c.class_id).where(~examples.c.withdrawn).group_by(examples.c.class_id)
    with_two = asked.c.class_id.in_(several.having(sa.func.count() > 1))
    return connection.execute(classes).scalar_one(), connection.execute(classes.where(with_two)).scalar_one()


def examples_of(connection: sa.Connection, class_ids: Collection[int]) -> dict[int, list[tuple[int, str]]]:
    """Return the positions and image_ids of the example images of each class, in the order of positions.

    Images without any remaining questions are left out.
    """
    table = schema.examples
    query = sa.select(table.c.class_id, table.c.position, table.c.name).where(
        table.c.class_id.in_(class_ids), ~table.c.withdrawn
    )
    found: dict[int, list[tuple[int, str]]] = {class_id: [] for class_id in class_ids}
    for class_id, position, name in connection.execute(query.order_by(table.c.class_id, table.c.position)):
        found[class_id].append((position, name))
    return found


def image_places(connection: sa.Connection, most: int | None = None) -> list[str]:
    """Return the distinct locations of images, or of the first `most` images."""
    # The first by number: to find the first locations, PostgreSQL sorts a million of them at each start.
    some = sa.select(schema.images.c.uri).order_by(schema.images.c.id).limit(most).subquery()
    return list(connection.scalars(sa.select(some.c.uri).distinct().order_by(some.c.uri)))


def other_example_places(connection: sa.Connection) -> list[str]:
    """Return the distinct locations of example images that are not images of the campaign."""
    place = schema.examples.c.uri
    own = sa.exists().where(schema.images.c.uri == place)
    return list(connection.scalars(sa.select(place).distinct().where(~own).order_by(place)))


def move(connection: sa.Connection, places: Mapping[str, str]) -> None:
    """Update the locations of images."""
    for table in (schema.images, schema.examples):
        change = table.update().where(table.c.uri == sa.bindparam("old")).values(uri=sa.bindparam("new"))
        connection.execute(change, [{"old": old, "new": new} for old, new in places.items()])


class _Columns:
    """Columns of the tables of images, pages, questions and golden answers.

    Images come in an order of their own: raters see the numbers, and those of a table that is sorted by class
    would tell the original label. A campaign that ends early has so asked about a fair part of the images.
    """

    def __init__(
        self,
        per_page: int,
        last: Mapping[sa.Table, int],
        known_images: Callable[[Sequence[str]], Mapping[str, int]],
    ) -> None:
        """Continue after the last numbers of each table; `known_images` returns those of images."""
        self._last, self._known_images = last, known_images
        self._per_page = per_page
        self._images: list[pa.RecordBatch] = []
        self._waiting: list[tuple[str, str, int | None]] = []
        self._place, self._hash, self._pages = array("q"), array("Q"), array("i")  # of each image
        self._known = array("q")  # the number of each image; 0 if it is new
        self._size, self._golden = array("i"), array("b")  # of each page
        self._class, self._truth = array("i"), array("b")  # of each question; the truth is -1 if unknown

    def add(self, about: ImageQuestions) -> None:
        """Add an image and its questions."""
        self._waiting.append((about.image_id, about.uri, about.label))
        if len(self._waiting) == _CHUNK:
            self._flush()
        self._place.append(about.place)
        self._hash.append(int(_hashed(about.image_id)[:16], 16))
        count = 0
        for classes in _pages_of(about, self._per_page):
            count += 1
            self._size.append(len(classes))
            self._golden.append(all(c in about.golden for c in classes))
            self._class.extend(classes)
            self._truth.extend(int(about.golden.get(c, -1)) for c in classes)
        self._pages.append(count)

    def tables(self) -> Iterator[tuple[sa.Table, pa.Table]]:
        """Yield the rows of each table, after the rows of the tables that it refers to."""
        self._flush()
        per_image, size = np.array(self._pages, np.int64), np.array(self._size, np.int64)
        mixed = np.lexsort((np.array(self._hash, np.uint64), np.array(self._place, np.int64)))
        pages = _segments(per_image, mixed)
        questions = _segments(size, pages)
        known = np.array(self._known, np.int64)[mixed]
        new = known == 0
        fresh = self._count_up(schema.images, int(new.sum()))
        yield schema.images, pa.table({"id": fresh, **self._take_images(mixed[new])})
        known[new] = fresh
        numbers = self._count_up(schema.pages, len(pages))
        yield (
            schema.pages,
            pa.table(
                {
                    "id": numbers,
                    "image_id": np.repeat(known, per_image[mixed]),
                    "position": numbers,
                    "golden": np.array(self._golden, bool)[pages],
                }
            ),
        )
        of_page = np.repeat(numbers, size[pages])
        numbers = self._count_up(schema.questions, len(questions))
        classes = np.array(self._class, np.int32)[questions]
        yield schema.questions, pa.table({"id": numbers, "page_id": of_page, "class_id": classes})
        truth = np.array(self._truth, np.int8)[questions]
        rated = truth >= 0
        yield schema.golden, pa.table({"question_id": numbers[rated], "truth": truth[rated] == 1})

    def _take_images(self, rows: _Ints) -> dict[str, pa.ChunkedArray]:
        """Return the columns of some images, and forget those of all: of a training set, 150 MB."""
        images = pa.Table.from_batches(self._images, _IMAGES)
        self._images.clear()
        return {name: images[name].take(pa.array(rows)) for name in images.column_names}

    def _count_up(self, table: sa.Table, n: int) -> _Ints:
        """Return the next numbers of a table; pages are asked about in the order of their numbers."""
        return self._last[table] + np.arange(1, n + 1)

    def _flush(self) -> None:
        columns = list(zip(*self._waiting, strict=True)) or [(), (), ()]
        there = self._known_images(columns[0]) if self._last[schema.images] else {}
        self._known.extend(there.get(name, 0) for name in columns[0])
        arrays = [pa.array(column, field.type) for column, field in zip(columns, _IMAGES, strict=True)]
        self._images.append(pa.record_batch(arrays, schema=_IMAGES))
        self._waiting.clear()


_IMAGES = pa.schema([("name", pa.large_string()), ("uri", pa.large_string()), ("label", pa.int32())])
_Ints = npt.NDArray[np.int64]


def _segments(lengths: _Ints, order: _Ints) -> _Ints:
    """Return the positions of elements of consecutive segments, with the segments in an order."""
    starts = np.cumsum(lengths) - lengths
    chosen = lengths[order]
    shift = starts[order] - (np.cumsum(chosen) - chosen)
    return np.repeat(shift, chosen) + np.arange(chosen.sum())


def _pages_of(about: ImageQuestions, most: int) -> Iterator[Sequence[int]]:
    """Split the classes of an image into pages of similar size; golden questions get their own pages."""
    for golden in (True, False):
        classes = [c for c in about.classes if (c in about.golden) is golden]
        count = -(-len(classes) // most)
        if count > 1:  # in a random order: those of one page are no better or worse than those of the next
            random.Random(_hashed(about.image_id)).shuffle(classes)  # noqa: S311
        for number in range(count):
            yield classes[number::count]


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _rows_of(examples: Iterable[Example]) -> pa.Table:
    counts: dict[int, int] = {}
    rows = []
    for example in examples:
        counts[example.class_id] = position = counts.get(example.class_id, 0) + 1
        rows.append((example.class_id, position, example.name, example.uri))
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    kinds = (pa.int32(), pa.int32(), pa.string(), pa.string())
    return pa.table(
        [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)],
        names=["class_id", "position", "name", "uri"],
    )
