"""The database of a campaign that is being annotated: all SQL is here.

`Store` is the door: each of its methods is one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import sqlalchemy as sa

from manyhot.web.store import answers, filling, people, schema, settings, visits
from manyhot.web.store.answers import Remark, Stored, Vote
from manyhot.web.store.database import Database
from manyhot.web.store.filling import Asked, Example
from manyhot.web.store.people import Rater
from manyhot.web.store.settings import Settings, change_settings, read_settings
from manyhot.web.store.visits import Queue, Visit

__all__ = ["Asked", "Example", "Queue", "Rater", "Remark", "Settings", "Store", "Stored", "Visit", "Vote"]

T = TypeVar("T")


class Store:
    """What the app asks of its database.

    Parameters
    ----------
    url : str
        See `Database`.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._database.upgrade()

    def close(self) -> None:
        """Finish what is being written, and close."""
        self._database.close()

    def fill(
        self, asked: Sequence[Asked], examples: Iterable[Example], settings: Settings, source: str
    ) -> bool:
        """Put a campaign into an empty database; see `filling.fill`."""
        return self._database.write(lambda c: filling.fill(c, asked, examples, settings, source))

    def settings(self) -> Settings:
        """Return the settings as they are now."""
        return self._database.read(read_settings)

    def change_settings(self, **changes: object) -> Settings:
        """Change some settings and return all."""
        return self._database.write(lambda c: change_settings(c, **changes))

    def invite(self, name: str, *, role: str = "rater", max_pages: int | None = None) -> str:
        """Invite a rater and return the token; see `people.invite`."""
        return self._database.write(lambda c: people.invite(c, name, role=role, max_pages=max_pages))

    def revoke(self, rater_id: int) -> None:
        """End a rater's invitation and sessions; answers stay."""
        self._database.write(lambda c: people.revoke(c, rater_id))

    def invited(self, token: str) -> Rater | None:
        """Return whom an invitation is for."""
        return self._database.read(lambda c: people.invited(c, token))

    def begin_session(self, rater: Rater) -> str:
        """Begin a session and return its token."""
        return self._database.write(lambda c: people.begin_session(c, rater))

    def end_session(self, token: str) -> None:
        """End a session."""
        self._database.write(lambda c: people.end_session(c, token))

    def of_session(self, token: str) -> Rater | None:
        """Return whose session it is."""
        return self._database.read(lambda c: people.of_session(c, token))

    def raters(self) -> list[Rater]:
        """Return all raters, by name."""
        return self._database.read(people.all_raters)

    def queue(self, rater: Rater) -> Queue:
        """Give a rater pages and return those that are open; see `visits.fill_queue`."""
        return self._database.write(lambda c: visits.fill_queue(c, rater))

    def last_done(self, rater: Rater, before: str | None = None) -> Visit | None:
        """Return the visit that a rater finished last, or last before another of his visits."""
        return self._database.read(lambda c: visits.last_done(c, rater, before))

    def count_free(self) -> int:
        """Return how many looks at pages are still wanted from anybody."""
        return self._database.read(visits.count_free)

    def count_pages(self) -> int:
        """Return how many pages a rater can be asked about."""
        return self._database.read(visits.count_pages)

    def campaign_id(self) -> str:
        """Return what tells this campaign from any other at the same address."""
        return str(self._database.read(lambda c: settings.get(c, "id")))

    def store(self, rater: Rater, sent: Sequence[Vote | Remark]) -> Stored:
        """Store what a rater sent; see `answers.store`."""
        return self._database.write(lambda c: answers.store(c, rater, sent))

    def image(self, number: int) -> str | None:
        """Return where an image of the campaign lies."""
        query = sa.select(schema.images.c.uri).where(schema.images.c.id == number)
        return self._database.read(lambda c: c.scalar(query))

    def example(self, class_id: int, position: int) -> str | None:
        """Return where an example image of a class lies."""
        table = schema.examples
        query = sa.select(table.c.uri).where(table.c.class_id == class_id, table.c.position == position)
        return self._database.read(lambda c: c.scalar(query))

    def examples(self, class_ids: Sequence[int]) -> dict[int, list[tuple[int, str]]]:
        """Return position and image_id of the example images of some classes, the better ones first."""
        table, found = schema.examples, dict[int, list[tuple[int, str]]]()
        query = (
            sa.select(table.c.class_id, table.c.position, table.c.name)
            .where(table.c.class_id.in_(class_ids))
            .order_by(table.c.class_id, table.c.position)
        )
        for class_id, position, name in self._database.read(lambda c: c.execute(query).all()):
            found.setdefault(class_id, []).append((position, name))
        return found

    def read_all(self, query: Callable[[sa.Connection], Iterable[T]]) -> list[T]:
        """Return all rows of one of the queries of `answers`."""
        return self._database.read(lambda c: list(query(c)))
