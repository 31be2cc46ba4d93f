"""Slots: each page has as many as raters are wanted, also after the owner has changed that number.

Slots that ask about some classes of their page only (`further`) are not counted and not changed.
"""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from manyhot.reassess.app.store import schema
from manyhot.reassess.app.store.campaign_settings import drop_value, get_value, put_value, read_settings
from manyhot.reassess.app.store.page_classes import PARKED, park_idle

_VISITS, _SLOTS, _PAGES = schema.visits, schema.slots, schema.pages
_FIT = "fit_slots"
"""Setting: the first page whose slots are not yet as many as raters are wanted."""


HAS_FURTHER = "has_further_slots"
"""Setting: whether there are slots with classes of their own. To look at each takes a sixth more time."""


HAS_WITHDRAWN = "withdrawals"
"""Setting: how often questions were withdrawn, or came back."""


_PARAMETERS = 10_000
"""Most parameters of one statement; databases take 32,000."""


def add_slots(connection: sa.Connection, *which: sa.ColumnElement[bool]) -> int:
    """Add a slot to each page, or to those that meet conditions; return the number of these pages."""
    pages = sa.select(_PAGES.c.id, _PAGES.c.position).where(~_PAGES.c.golden, *which)
    insert = _SLOTS.insert().from_select(["page_id", "position"], pages)
    return connection.execute(insert, execution_options={"preserve_rowcount": True}).rowcount


def count_free(connection: sa.Connection) -> int:
    """Return the number of free slots."""
    return connection.execute(
        sa.select(sa.func.count()).select_from(_SLOTS).where(_SLOTS.c.visit_id.is_(None))
    ).scalar_one()


def want_slots(connection: sa.Connection) -> None:
    """Record that the number of raters per page has changed, so that `fit_slots` adjusts the slots."""
    put_value(connection, _FIT, 1)


def is_to_fit(connection: sa.Connection) -> bool:
    """Return whether `fit_slots` has slots to change."""
    return get_value(connection, _FIT) is not None


_FIT_PAGES = 50
"""Pages that get their slots before it is asked whether that is enough for now: 2 ms of a processor."""


def fit_slots(connection: sa.Connection, is_enough: Callable[[], bool]) -> bool:
    """Fit the slots of the next pages to the number of raters, and return whether pages remain.

    Slots with answers are kept. With a million images, changing all pages at once would delay answers by half
    a minute. `is_enough` returns whether to pause, so that other changes can be made first.
    """
    first = get_value(connection, _FIT)
    if first is None:
        return False
    count, last = read_settings(connection).raters, connection.execute(_LAST_PAGE).scalar_one()
    whole = _SLOTS.c.classes.is_(None) if get_value(connection, HAS_FURTHER) else sa.true()
    while first <= last:
        _fit_some(connection, count, first, whole)
        first += _FIT_PAGES
        if is_enough():
            break
    if first <= last:
        put_value(connection, _FIT, first)
    else:
        drop_value(connection, _FIT)
    return bool(first <= last)


_LAST_PAGE = sa.select(sa.func.max(_PAGES.c.id))


def _fit_some(connection: sa.Connection, count: int, first: int, whole: sa.ColumnElement[bool]) -> None:
    last = first + _FIT_PAGES - 1
    here = _SLOTS.c.page_id.between(first, last)
    connection.execute(_SLOTS.update().where(_SLOTS.c.visit_id == PARKED, here).values(visit_id=None))
    slots = sa.select(sa.func.count()).where(_SLOTS.c.page_id == _PAGES.c.id, whole).scalar_subquery()
    while add_slots(connection, _PAGES.c.id.between(first, last), slots < count):
        pass
    _drop_slots(connection, count, here & whole)
    if get_value(connection, HAS_WITHDRAWN):
        park_idle(connection, here)


def _drop_slots(connection: sa.Connection, count: int, here: sa.ColumnElement[bool]) -> None:
    """Drop the free slots of pages that have too many; those with answers are parked."""
    n = sa.func.count()
    per_page = sa.select(_SLOTS.c.page_id, n).where(here).group_by(_SLOTS.c.page_id).having(n > count)
    fewer = {page: n - count for page, n in connection.execute(per_page)}
    # A slot that is dropped would take its answers out of the count, and SQLite gives its number to another.
    dropped: list[int] = []
    parked: list[int] = []
    for slot, page, held in _free_by_answers(connection, here) if fewer else ():
        if fewer.get(page):
            fewer[page] -= 1
            (parked if held else dropped).append(slot)
    for start in range(0, max(len(dropped), len(parked)), _PARAMETERS):
        some = slice(start, start + _PARAMETERS)
        connection.execute(_SLOTS.delete().where(_SLOTS.c.id.in_(dropped[some])))
        connection.execute(_SLOTS.update().where(_SLOTS.c.id.in_(parked[some])).values(visit_id=PARKED))


def _free_by_answers(connection: sa.Connection, here: sa.ColumnElement[bool]) -> list[tuple[int, int, bool]]:
    """Return free slots, their pages, and whether anybody ever held them: those first that nobody did."""
    held = sa.exists().where(_VISITS.c.page_id == _SLOTS.c.page_id, _VISITS.c.slot_id == _SLOTS.c.id)
    query = sa.select(_SLOTS.c.id, _SLOTS.c.page_id, held).where(_SLOTS.c.visit_id.is_(None), here)
    rows = connection.execute(query.order_by(_SLOTS.c.id)).all()
    return sorted(((slot, page, bool(held)) for slot, page, held in rows), key=lambda row: row[2])
