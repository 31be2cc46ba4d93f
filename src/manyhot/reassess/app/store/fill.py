"""Fill the database once from the tables of a campaign."""

from __future__ import annotations

import hashlib
import random
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from manyhot.reassess.app.store import engines, schema
from manyhot.reassess.app.store.campaign_settings import (
    CampaignSettings,
    change_settings,
    get_value,
    put_value,
)

_ROWS = 5_000


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
        For each class that experts were asked about, whether more than half of them said yes.
    place : int
        Images with a lower place are asked about first; those with the same place, in a random order.
    """

    image_id: str
    uri: str
    label: int | None
    classes: tuple[int, ...]
    golden: Mapping[int, bool] = field(default_factory=dict)
    place: int = 0


@dataclass(frozen=True)
class Example:
    """An example image of a class."""

    class_id: int
    name: str
    uri: str


def fill(
    connection: sa.Connection,
    asked: Sequence[ImageQuestions],
    examples: Iterable[Example],
    settings: CampaignSettings,
    source: str,
) -> bool:
    """Fill an empty database with a campaign; return False if it was filled already.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    asked : sequence of ImageQuestions
    examples : iterable of Example
        Best examples of each class first.
    settings : CampaignSettings
    source : str
        The SHA-256 hash of the proposals, which never changes.
    """
    if get_value(connection, "source") is not None:
        return False
    put_value(connection, "source", source)
    put_value(connection, "id", secrets.token_hex(8))
    change_settings(connection, **settings.__dict__)
    # Raters see the numbers: those of a table that is sorted by class would tell the original label.
    mixed = sorted(asked, key=lambda a: (a.place, _hashed(a.image_id)))
    images = {a.image_id: number for number, a in enumerate(mixed, start=1)}
    _insert(
        connection,
        schema.images,
        ({"id": images[a.image_id], "name": a.image_id, "uri": a.uri, "label": a.label} for a in mixed),
    )
    _insert(connection, schema.examples, _numbered(examples))
    _add_pages(connection, mixed, images, settings)
    engines.take_stock(connection)
    return True


def count_examples(connection: sa.Connection) -> tuple[int, int]:
    """Return the number of classes asked about, and how many of them have at least two example images."""
    asked, examples = schema.questions, schema.examples
    classes = sa.select(sa.func.count(sa.distinct(asked.c.class_id)))
    two = sa.exists().where(examples.c.class_id == asked.c.class_id, examples.c.position == 2)
    return connection.execute(classes).scalar_one(), connection.execute(classes.where(two)).scalar_one()


def image_places(connection: sa.Connection) -> list[str]:
    """Return the distinct locations of images and example images."""
    found = sa.union(sa.select(schema.images.c.uri), sa.select(schema.examples.c.uri)).subquery()
    return list(connection.scalars(sa.select(found.c.uri).order_by(found.c.uri)))


def move(connection: sa.Connection, places: Mapping[str, str]) -> None:
    """Update the locations of images."""
    for table in (schema.images, schema.examples):
        change = table.update().where(table.c.uri == sa.bindparam("old")).values(uri=sa.bindparam("new"))
        connection.execute(change, [{"old": old, "new": new} for old, new in places.items()])


def _add_pages(
    connection: sa.Connection,
    mixed: Sequence[ImageQuestions],
    images: Mapping[str, int],
    settings: CampaignSettings,
) -> None:
    pages: list[dict[str, object]] = []
    questions: list[dict[str, object]] = []
    golden: list[dict[str, object]] = []
    # In a fixed random order: a campaign that ends early has asked about a fair part of the images.
    for about in mixed:
        for classes in _pages_of(about, settings.per_page):
            page = len(pages) + 1
            pages.append(
                {
                    "id": page,
                    "image_id": images[about.image_id],
                    "position": page,
                    "golden": all(c in about.golden for c in classes),
                }
            )
            for class_id in classes:
                questions.append({"id": len(questions) + 1, "page_id": page, "class_id": class_id})
                if class_id in about.golden:
                    golden.append({"question_id": len(questions), "truth": about.golden[class_id]})
    _insert(connection, schema.pages, pages)
    _insert(connection, schema.questions, questions)
    _insert(connection, schema.golden, golden)
    _insert(
        connection,
        schema.slots,
        (
            {"page_id": page["id"], "position": page["position"]}
            for page in pages
            if not page["golden"]
            for _ in range(settings.raters)
        ),
    )


def _pages_of(about: ImageQuestions, most: int) -> Iterator[tuple[int, ...]]:
    """Split the classes of an image into pages of similar size; golden questions get their own pages."""
    for golden in (True, False):
        # In a random order: those of one page are no better or worse than those of the next.
        classes = [c for c in about.classes if (c in about.golden) is golden]
        random.Random(_hashed(about.image_id)).shuffle(classes)  # noqa: S311
        count = -(-len(classes) // most)
        for number in range(count):
            yield tuple(classes[number::count])


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _numbered(examples: Iterable[Example]) -> Iterator[dict[str, object]]:
    counts: dict[int, int] = {}
    for example in examples:
        counts[example.class_id] = position = counts.get(example.class_id, 0) + 1
        yield {"class_id": example.class_id, "position": position, "name": example.name, "uri": example.uri}


def _insert(connection: sa.Connection, table: sa.Table, rows: Iterable[dict[str, object]]) -> None:
    waiting: list[dict[str, object]] = []
    for row in rows:
        waiting.append(row)
        if len(waiting) == _ROWS:
            connection.execute(table.insert(), waiting)
            waiting = []
    if waiting:
        connection.execute(table.insert(), waiting)
