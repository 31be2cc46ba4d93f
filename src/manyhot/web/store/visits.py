"""Which page a rater sees next, and what was shown and answered on it."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from manyhot.web.store import schema
from manyhot.web.store.clock import MINUTE, now
from manyhot.web.store.people import Rater
from manyhot.web.store.settings import Settings, read_settings

AHEAD = 4
"""Pages that a rater holds at once: the one that is looked at, and the next, which are loaded meanwhile.

Where the connection is lost, they are what can still be answered."""

_VISITS, _SLOTS, _PAGES, _VOTES = schema.visits, schema.slots, schema.pages, schema.votes


@dataclass(frozen=True)
class Visit:
    """A rater's look at a page.

    Attributes
    ----------
    key : str
        The page_id of the votes table.
    image, label : int
        The number of the image in the database; its original label, None if unknown.
    name, uri : str
        The image_id, and where it lies.
    shown : tuple of int
        The classes in the order shown.
    answers : dict of int to (int, bool)
        The answer to each class so far, and whether it is the main object.
    state : str
        open, done or returned.
    round : int
    shown_at : int
        When it was opened; once it has an answer, when the rater began to look at it.
    """

    id: int
    key: str
    page: int
    image: int
    name: str
    uri: str
    label: int | None
    shown: tuple[int, ...]
    answers: dict[int, tuple[int, bool]]
    state: str
    round: int
    shown_at: int


@dataclass(frozen=True)
class Queue:
    """What a rater has to do.

    Attributes
    ----------
    visits : list of Visit
        Open ones, the one to look at first.
    reason : str
        Why there are none: finished, paused, closed, stopped or limit; empty where there are some.
    done : int
        Pages that the rater has done.
    """

    visits: list[Visit]
    reason: str
    done: int


def fill_queue(connection: sa.Connection, rater: Rater) -> Queue:
    """Give a rater pages up to `AHEAD`, and return those that are open."""
    settings = read_settings(connection)
    give_back(connection)
    open_ids = _ids(connection, rater, "open")
    reason = _why_none(connection, rater, settings)
    while not reason and len(open_ids) < AHEAD:
        taken = _take(connection, rater, settings)
        if taken is None:
            reason = "finished"
        else:
            open_ids.append(taken)
    if settings.state != "running" or rater.state == "stopped":
        open_ids = []
    return Queue(find_visits(connection, open_ids), "" if open_ids else reason, count_done(connection, rater))


def give_back(connection: sa.Connection) -> None:
    """Free the slots of visits that were left open for too long; their answers stay."""
    late = connection.scalars(
        sa.select(_VISITS.c.id).where(_VISITS.c.state == "open", _VISITS.c.expires_at < now())
    ).all()
    if late:
        connection.execute(_VISITS.update().where(_VISITS.c.id.in_(late)).values(state="returned"))
        connection.execute(_SLOTS.update().where(_SLOTS.c.visit_id.in_(late)).values(visit_id=None))


def take_back(connection: sa.Connection, visit: Visit) -> bool:
    """Let a rater go on with a page that was given back; return False where somebody else has it."""
    slot = connection.scalar(sa.select(_VISITS.c.slot_id).where(_VISITS.c.id == visit.id))
    done = connection.execute(
        _SLOTS.update().where(_SLOTS.c.id == slot, _SLOTS.c.visit_id.is_(None)).values(visit_id=visit.id)
    )
    if done.rowcount:
        _renew(connection, visit.id, read_settings(connection))
    return bool(done.rowcount)


def find_visits(connection: sa.Connection, ids: Sequence[int]) -> list[Visit]:
    """Return visits by their numbers, in this order."""
    if not ids:
        return []
    answers = _answers(connection, ids)
    found = {
        row.id: Visit(
            row.id,
            row.key,
            row.page_id,
            row.image_id,
            row.name,
            row.uri,
            row.label,
            tuple(json.loads(row.shown)),
            answers.get(row.id, {}),
            row.state,
            row.round,
            row.shown_at,
        )
        for row in connection.execute(
            sa.select(
                _VISITS, _PAGES.c.image_id, schema.images.c.name, schema.images.c.uri, schema.images.c.label
            )
            .join(_PAGES, _PAGES.c.id == _VISITS.c.page_id)
            .join(schema.images, schema.images.c.id == _PAGES.c.image_id)
            .where(_VISITS.c.id.in_(ids))
        )
    }
    return [found[i] for i in ids if i in found]


def find_visit(connection: sa.Connection, rater: Rater, key: str) -> Visit | None:
    """Return a rater's own visit by its key; None where there is none."""
    number = connection.scalar(
        sa.select(_VISITS.c.id).where(_VISITS.c.key == key, _VISITS.c.rater_id == rater.id)
    )
    return None if number is None else find_visits(connection, [number])[0]


def last_done(connection: sa.Connection, rater: Rater, before: str | None = None) -> Visit | None:
    """Return the visit that a rater finished last, or last before another of the same rater's."""
    query = sa.select(_VISITS.c.id).where(_VISITS.c.rater_id == rater.id, _VISITS.c.state == "done")
    if before is not None and (seen := find_visit(connection, rater, before)) is not None:
        query = query.where(_VISITS.c.id < seen.id)
    number = connection.scalar(query.order_by(_VISITS.c.id.desc()).limit(1))
    return None if number is None else find_visits(connection, [number])[0]


def count_done(connection: sa.Connection, rater: Rater) -> int:
    """Return how many pages a rater has done."""
    return connection.execute(
        sa.select(sa.func.count()).where(_VISITS.c.rater_id == rater.id, _VISITS.c.state == "done")
    ).scalar_one()


def _why_none(connection: sa.Connection, rater: Rater, settings: Settings) -> str:
    if settings.state != "running":
        return settings.state
    if rater.state == "stopped":
        return "stopped"
    most = settings.max_pages if rater.max_pages is None else rater.max_pages
    if most and len(_ids(connection, rater, "open", "done")) >= most:
        return "limit"
    return ""


def _ids(connection: sa.Connection, rater: Rater, *states: str) -> list[int]:
    query = sa.select(_VISITS.c.id).where(_VISITS.c.rater_id == rater.id, _VISITS.c.state.in_(states))
    return list(connection.scalars(query.order_by(_VISITS.c.id)))


def _take(connection: sa.Connection, rater: Rater, settings: Settings) -> int | None:
    """Open the next page for a rater and return its visit; None where there is none left."""
    if _wants_golden(connection, rater, settings) and (page := _golden_page(connection, rater)) is not None:
        return _open(connection, rater, settings, page, None)
    while (found := _free_slot(connection, rater)) is not None:
        slot, page, position = found
        visit = _open(connection, rater, settings, page, slot)
        if visit is not None:
            connection.execute(
                schema.raters.update().where(schema.raters.c.id == rater.id).values(position=position)
            )
            return visit
    return None


def _wants_golden(connection: sa.Connection, rater: Rater, settings: Settings) -> bool:
    seen = connection.execute(
        sa.select(sa.func.count(), sa.func.count(_VISITS.c.slot_id)).where(_VISITS.c.rater_id == rater.id)
    ).one()
    golden = seen[0] - seen[1]
    if golden < settings.qualify:
        return True
    every = settings.golden_every
    return bool(every) and (golden - settings.qualify + 1) * every <= seen[1] + 1


def _golden_page(connection: sa.Connection, rater: Rater) -> int | None:
    return connection.scalar(
        sa.select(_PAGES.c.id)
        .where(_PAGES.c.golden, ~_seen(rater, _PAGES.c.id))
        .order_by(_PAGES.c.position)
        .limit(1)
    )


def _free_slot(connection: sa.Connection, rater: Rater) -> tuple[int, int, int] | None:
    """Return the next free slot of a page that the rater has not seen, and look at earlier ones last."""
    last = connection.scalar(sa.select(schema.raters.c.position).where(schema.raters.c.id == rater.id)) or 0
    free = (
        sa.select(_SLOTS.c.id, _SLOTS.c.page_id, _SLOTS.c.position)
        .where(_SLOTS.c.visit_id.is_(None), _SLOTS.c.round == 0, ~_seen(rater, _SLOTS.c.page_id))
        .order_by(_SLOTS.c.position)
        .limit(1)
    )
    for part in (_SLOTS.c.position > last, _SLOTS.c.position <= last):
        row = connection.execute(free.where(part)).first()
        if row is not None:
            return row.id, row.page_id, row.position
    return None


def _seen(rater: Rater, page: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    return sa.exists().where(_VISITS.c.page_id == page, _VISITS.c.rater_id == rater.id, _VISITS.c.round == 0)


def _open(
    connection: sa.Connection, rater: Rater, settings: Settings, page: int, slot: int | None
) -> int | None:
    classes = _still_asked(connection, page, slot)
    # The same order whenever a rater comes back to a page, and another for each rater.
    random.Random(f"{rater.seed}/{page}").shuffle(classes)  # noqa: S311
    number: int = connection.execute(
        _VISITS.insert()
        .values(
            key=secrets.token_hex(8),
            page_id=page,
            rater_id=rater.id,
            round=0,
            slot_id=slot,
            shown=json.dumps(classes),
            shown_at=now(),
            expires_at=now() + int(settings.lease_minutes * MINUTE),
            state="open",
        )
        .returning(_VISITS.c.id)
    ).scalar_one()
    if slot is None:
        return number
    taken = connection.execute(
        _SLOTS.update().where(_SLOTS.c.id == slot, _SLOTS.c.visit_id.is_(None)).values(visit_id=number)
    )
    if taken.rowcount:
        return number
    connection.execute(_VISITS.delete().where(_VISITS.c.id == number))  # another process was faster
    return None


def _still_asked(connection: sa.Connection, page: int, slot: int | None) -> list[int]:
    """Return the classes of a page that nobody answered who held this slot before."""
    questions = schema.questions
    answered = (
        sa.exists()
        .where(_VOTES.c.question_id == questions.c.id)
        .where(_VOTES.c.visit_id == _VISITS.c.id, _VISITS.c.slot_id == slot)
    )
    query = sa.select(questions.c.class_id).where(questions.c.page_id == page)
    return list(connection.scalars(query if slot is None else query.where(~answered)))


def _renew(connection: sa.Connection, visit: int, settings: Settings) -> None:
    until = now() + int(settings.lease_minutes * MINUTE)
    connection.execute(_VISITS.update().where(_VISITS.c.id == visit).values(state="open", expires_at=until))


def _answers(connection: sa.Connection, ids: Sequence[int]) -> dict[int, dict[int, tuple[int, bool]]]:
    """Return the last answer to each class of some visits."""
    found: dict[int, dict[int, tuple[int, bool]]] = {}
    for row in connection.execute(
        sa.select(_VOTES.c.visit_id, schema.questions.c.class_id, _VOTES.c.answer, _VOTES.c.main)
        .join(schema.questions, schema.questions.c.id == _VOTES.c.question_id)
        .where(_VOTES.c.visit_id.in_(ids))
        .order_by(_VOTES.c.id)
    ):
        found.setdefault(row.visit_id, {})[row.class_id] = (row.answer, row.main)
    return found


def count_free(connection: sa.Connection) -> int:
    """Return how many looks at pages are still wanted from anybody."""
    return connection.execute(
        sa.select(sa.func.count()).select_from(_SLOTS).where(_SLOTS.c.visit_id.is_(None), _SLOTS.c.round == 0)
    ).scalar_one()


def count_pages(connection: sa.Connection) -> int:
    """Return how many pages a rater can be asked about."""
    return connection.execute(
        sa.select(sa.func.count()).select_from(_PAGES).where(~_PAGES.c.golden)
    ).scalar_one()
