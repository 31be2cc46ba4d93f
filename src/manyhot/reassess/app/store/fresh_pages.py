"""Pages that raters have not seen: the next ones are looked up, and opened, with few statements for many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from manyhot.reassess.app.store import schema
from manyhot.reassess.app.store.accounts import Rater
from manyhot.reassess.app.store.campaign_settings import CampaignSettings
from manyhot.reassess.app.store.engines import padded
from manyhot.reassess.app.store.page_classes import slot_classes
from manyhot.reassess.app.store.visits import NewVisit, open_visits

_VISITS, _SLOTS, _QUESTIONS = schema.visits, schema.slots, schema.questions


IS_FREE = _SLOTS.c.visit_id.is_(None)
FREE_SLOTS = (
    sa.select(_SLOTS.c.id, _SLOTS.c.page_id, _SLOTS.c.position, _SLOTS.c.classes)
    .where(IS_FREE)
    .order_by(_SLOTS.c.position, _SLOTS.c.id)
)


@dataclass(frozen=True)
class FreeSlot:
    """A slot that nobody holds.

    Attributes
    ----------
    id, page, position : int
    classes : set of int, optional
        The classes that the slot asks about; None for all of its page.
    asked : tuple of int
        The classes of its page that are asked about, if they were looked up.
    n_slots : int
        Number of slots of its page, if it was looked up.
    was_held : bool
        Whether a rater held it before.
    """

    id: int
    page: int
    position: int
    classes: set[int] | None
    asked: tuple[int, ...] = ()
    n_slots: int = 0
    was_held: bool = True

    @classmethod
    def of(cls, row: Any) -> FreeSlot:
        """Return the slot of a row of `FREE_SLOTS`."""
        return cls(row.id, row.page_id, row.position, slot_classes(row.classes))

    def is_untouched(self, settings: CampaignSettings) -> bool:
        """Return whether whoever takes the slot is asked about all classes of its page."""
        whole = self.classes is None and bool(self.asked)
        return whole and not self.was_held and self.n_slots <= settings.raters


class FreshPages:
    """The next pages for raters; those that are taken are opened together.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        With a transaction of the only writer.
    settings : CampaignSettings
    """

    def __init__(self, connection: sa.Connection, settings: CampaignSettings) -> None:
        self._connection, self._settings = connection, settings
        self._taken: list[tuple[NewVisit, list[int]]] = []
        self._positions: dict[int, int] = {}
        self._rater, self._slots, self._may_be_more = 0, list[FreeSlot](), False

    def count(self, rater: Rater) -> int:
        """Return the number of pages that a rater has taken, and that are not open yet."""
        return sum(new.rater.id == rater.id for new, _ in self._taken)

    def next(self, rater: Rater, most: int) -> FreeSlot | None:
        """Return the next free slot of a page that the rater has not seen; earlier pages come last.

        `most` is the number of pages that the rater is to take.
        """
        if rater.id != self._rater:
            self._rater, self._slots = rater.id, self._look(rater, most)
        elif not self._slots and self._may_be_more:
            self.open()
            self._slots = self._look(rater, most)
        return self._slots.pop(0) if self._slots else None

    def take(self, rater: Rater, slot: FreeSlot, open_ids: list[int]) -> None:
        """Take an untouched slot; `open_ids` gets the number of the visit when it is opened."""
        self._taken.append((NewVisit(rater, slot.page, slot.asked, slot=slot.id), open_ids))
        self.move(rater, slot)

    def move(self, rater: Rater, slot: FreeSlot) -> None:
        """Let the rater continue after the page of a slot."""
        self._positions[rater.id] = slot.position

    def open(self) -> None:
        """Open the pages that were taken. Everything else that looks at open pages comes afterwards."""
        if self._taken:
            new = [one for one, _ in self._taken]
            numbers = open_visits(self._connection, self._settings, new)
            held = self._connection.execute(_HOLD_OPENED, {"slots": padded(one.slot for one in new)}).rowcount
            if held != len(new):
                raise RuntimeError("A slot was taken without holding the lock for changes.")
            for (_, open_ids), number in zip(self._taken, numbers, strict=True):
                open_ids.append(number)
            self._taken.clear()
        if self._positions:
            moved = [{"rater": who, "at": at} for who, at in self._positions.items()]
            self._connection.execute(_PUT_POSITION, moved)

    def _look(self, rater: Rater, most: int) -> list[FreeSlot]:
        """Return the next slots, one of each page, without those that were taken."""
        taken = {new.slot for new, _ in self._taken}
        # All slots of a page come together; those of the last one need not be looked at.
        limit = (most - 1) * min(self._settings.raters, _SLOTS_LOOKED_AT) + len(taken) + 1
        at = self._positions.get(rater.id, rater.position)
        for part in _NEXT_UNSEEN:
            rows = self._connection.execute(part, {"rater": rater.id, "at": at, "limit": limit}).all()
            slots = [_slot_of(list(of_slot)) for _, of_slot in groupby(rows, lambda row: row.id)]
            self._may_be_more = len(slots) >= limit
            if free := list(_first_of_pages(slot for slot in slots if slot.id not in taken)):
                return free
        return []


_SLOTS_LOOKED_AT = 5
"""Slots of a page that are looked at together; if a page has more, pages are looked up in more parts."""


def _first_of_pages(slots: Iterable[FreeSlot]) -> Iterable[FreeSlot]:
    return {slot.page: slot for slot in reversed(list(slots))}.values().__reversed__()


def _slot_of(rows: list[Any]) -> FreeSlot:
    row = rows[0]
    asked = tuple(one.class_id for one in rows if one.class_id is not None)
    classes = slot_classes(row.classes)
    return FreeSlot(row.id, row.page_id, row.position, classes, asked, row.n_slots, bool(row.was_held))


_RATER: sa.BindParameter[int] = sa.bindparam("rater")
_PUT_POSITION = schema.raters.update().where(schema.raters.c.id == _RATER).values(position=sa.bindparam("at"))
_SEEN = sa.exists().where(
    _VISITS.c.page_id == _SLOTS.c.page_id, _VISITS.c.rater_id == _RATER, _VISITS.c.round == 0
)
_OF_SLOT = (_VISITS.c.page_id == _SLOTS.c.page_id) & (_VISITS.c.slot_id == _SLOTS.c.id)


def _unseen(which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Return a query for the next free slots of pages that a rater has not seen, with their classes."""
    free = FREE_SLOTS.where(~_SEEN, which).limit(sa.bindparam("limit")).subquery()
    of_page, visits = _SLOTS.alias(), _VISITS.alias()
    asked = (_QUESTIONS.c.page_id == free.c.page_id) & schema.IS_ASKED
    n_slots = sa.select(sa.func.count()).where(of_page.c.page_id == free.c.page_id).scalar_subquery()
    was_held = sa.exists().where(visits.c.page_id == free.c.page_id, visits.c.slot_id == free.c.id)
    return (
        sa.select(free, n_slots.label("n_slots"), was_held.label("was_held"), _QUESTIONS.c.class_id)
        .outerjoin_from(free, _QUESTIONS, asked)
        .order_by(free.c.position, free.c.id, _QUESTIONS.c.id)
    )


_AT: sa.BindParameter[int] = sa.bindparam("at")
_NEXT_UNSEEN = _unseen(_SLOTS.c.position > _AT), _unseen(_SLOTS.c.position <= _AT)
_OPENED = sa.select(_VISITS.c.id).where(_OF_SLOT, _VISITS.c.state == "open").scalar_subquery()
_HOLD_OPENED = (
    _SLOTS.update()
    .where(_SLOTS.c.id.in_(sa.bindparam("slots", expanding=True)), IS_FREE)
    .values(visit_id=_OPENED)
)
