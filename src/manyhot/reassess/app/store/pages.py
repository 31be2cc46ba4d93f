"""Assignment of pages to raters, with a fixed number of raters per question; no answer is lost."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from manyhot.reassess.app.store import golden, schema
from manyhot.reassess.app.store.accounts import ANSWERS_LEFT_OUT, Rater
from manyhot.reassess.app.store.campaign_settings import CampaignSettings, read_with, read_with_all
from manyhot.reassess.app.store.database import MINUTE, now
from manyhot.reassess.app.store.engines import padded
from manyhot.reassess.app.store.page_classes import (
    PARKED,
    answered_classes,
    asked_classes,
    classes_answered,
    classes_of_slot,
    enough_answers,
    park_idle,
    slot_classes,
)
from manyhot.reassess.app.store.visits import Visit, count_visits, find_visits

PAGES_AHEAD = 4
"""Pages that a rater holds at once: the one that is looked at, and the next, which are loaded meanwhile.

Where the connection is lost, they are what can still be answered."""


FILLED_TOGETHER = 4
"""Raters who get pages in one transaction: with 50, after a restart, answers would wait for half a second."""


_VISITS, _SLOTS, _PAGES = schema.visits, schema.slots, schema.pages
_VOTES, _QUESTIONS = schema.votes, schema.questions


@dataclass(frozen=True)
class Queue:
    """The open pages of a rater.

    Attributes
    ----------
    visits : list of Visit
        Open visits, in the order in which to show them.
    reason : str
        Why there are no visits: finished, paused, closed, stopped or limit; empty otherwise.
    done : int
        Number of pages that the rater has finished.
    whole : int
        Number of these pages that showed all their classes, and will not be shown again.
    stopped_for : str
        Why the app stopped the rater: too fast, golden pages, or not qualified; empty if it did not.
    """

    visits: list[Visit]
    reason: str
    done: int
    whole: int
    stopped_for: str = ""


def fill_queues(connection: sa.Connection, raters: Sequence[Rater]) -> list[Queue]:
    """Assign pages to raters until each has `PAGES_AHEAD` open pages, and return the open pages."""
    known, settings = read_with_all(connection, raters)
    give_back(connection)
    values = {"raters": padded(known)}
    open_ids: dict[int, list[int]] = {number: [] for number in known}
    for who, visit in connection.execute(_OPEN, values):
        open_ids[who].append(visit)
    reasons = {
        number: _fill_queue(connection, rater, settings, open_ids[number]) for number, rater in known.items()
    }
    visits = find_visits(connection, [visit for ids in open_ids.values() for visit in ids])
    done = {who: (int(n), int(whole)) for who, n, whole in connection.execute(_COUNT_DONE, values)}
    why = _stopped_for(connection, [number for number, reason in reasons.items() if reason == "stopped"])
    queues = {
        number: Queue(
            [visits[i] for i in ids if i in visits],
            "" if ids else reasons[number],
            *done.get(number, (0, 0)),
            why.get(number, ""),
        )
        for number, ids in open_ids.items()
    }
    return [queues[rater.id] for rater in raters]


def _stopped_for(connection: sa.Connection, raters: Sequence[int]) -> dict[int, str]:
    """Return why the app stopped raters, as far as it did."""
    if not raters:
        return {}
    table = schema.raters
    query = sa.select(table.c.id, table.c.stopped_for, table.c.qualified).where(table.c.id.in_(raters))
    return {
        row.id: row.stopped_for or ("not qualified" if row.qualified is False else "")
        for row in connection.execute(query)
    }


_OF_RATERS = _VISITS.c.rater_id.in_(sa.bindparam("raters", expanding=True)) & (_VISITS.c.round == 0)
_OPEN = (
    sa.select(_VISITS.c.rater_id, _VISITS.c.id)
    .where(_OF_RATERS, _VISITS.c.state == "open")
    .order_by(_VISITS.c.id)
)
_COUNT_DONE = (
    sa.select(_VISITS.c.rater_id, sa.func.count(), sa.func.count().filter(~_VISITS.c.partial))
    .where(_OF_RATERS, _VISITS.c.state == "done")
    .group_by(_VISITS.c.rater_id)
)


def _fill_queue(
    connection: sa.Connection, rater: Rater, settings: CampaignSettings, open_ids: list[int]
) -> str:
    """Add pages to the open ones of a rater, or take all away; return why there are no more."""
    if len(open_ids) < PAGES_AHEAD:  # who has finished a page is judged before the next
        rater = _judged(connection, rater, settings)
    reason = "" if len(open_ids) >= PAGES_AHEAD else _why_none(connection, rater, settings)
    while not reason and len(open_ids) < PAGES_AHEAD:
        taken = _take(connection, rater, settings)
        if taken is None:
            reason = "finished"
        else:
            open_ids.append(taken)
            reason = _why_none(connection, rater, settings)
    if settings.state != "running" or rater.state != "active":
        open_ids.clear()
        reason = _why_none(connection, rater, settings)
    return reason


def _judged(connection: sa.Connection, rater: Rater, settings: CampaignSettings) -> Rater:
    """Return a rater as known after the latest golden pages, and stop who is not to go on."""
    if (passed := golden.judge_rater(connection, rater, settings)) is not None:
        if not passed:
            stop(connection, rater.id)
        rater, _ = read_with(connection, rater)
    if why := golden.why_to_stop(connection, rater, settings):
        stop(connection, rater.id, why)
        rater, _ = read_with(connection, rater)
    return rater


def give_back(connection: sa.Connection) -> None:
    """Free the slots of visits that were left open for too long; answers given in them are kept."""
    _return(connection, _VISITS.c.expires_at < now())


def stop(connection: sa.Connection, rater_id: int, why: str | None = None) -> None:
    """Stop a rater; open pages go to other raters immediately."""
    connection.execute(
        schema.raters.update()
        .where(schema.raters.c.id == rater_id, schema.raters.c.state == "active")
        .values(state="stopped", stopped_for=why)
    )
    give_back_of(connection, rater_id)


def leave_out(connection: sa.Connection, rater_id: int) -> None:
    """Stop a rater and ask other raters the same questions; the answers stay stored, but do not count."""
    table = schema.raters
    connection.execute(table.update().where(table.c.id == rater_id).values(state=ANSWERS_LEFT_OUT))
    give_back_of(connection, rater_id)
    mine = (_VISITS.c.rater_id == rater_id) & (_VISITS.c.round == 0)
    held, here = sa.select(_VISITS.c.slot_id).where(mine), sa.select(_VISITS.c.page_id).where(mine)
    others = sa.select(_VISITS.c.id).where(_VISITS.c.state == "open")
    # Of a slot that another rater finished, only what is missing is asked; a parked one may be needed again.
    of_mine = _SLOTS.c.id.in_(held) & _SLOTS.c.visit_id.not_in(others)
    parked = _SLOTS.c.page_id.in_(here) & (_SLOTS.c.visit_id == PARKED)
    connection.execute(_SLOTS.update().where(of_mine | parked).values(visit_id=None))
    park_idle(connection, _SLOTS.c.page_id.in_(here))


def give_back_of(connection: sa.Connection, rater_id: int) -> None:
    """Free the slots of all open visits of a rater."""
    _return(connection, _VISITS.c.rater_id == rater_id)


def is_to_renew(visit: Visit, settings: CampaignSettings) -> bool:
    """Return whether an answer should `renew` its page: the first does, and then one every few minutes."""
    return not visit.answers or visit.expires_at < _until(settings) - settings.lease_minutes * MINUTE / 20


def renew(connection: sa.Connection, rater_id: int, settings: CampaignSettings) -> None:
    """Extend the time limit of all open pages of a rater who answers."""
    connection.execute(
        _VISITS.update()
        .where(_VISITS.c.rater_id == rater_id, _VISITS.c.state == "open")
        .values(expires_at=_until(settings))
    )


def reopen_page(
    connection: sa.Connection, visit: Visit, settings: CampaignSettings, answering: int | None = None
) -> bool:
    """Let a rater continue a page that was given back; return False if others took over or finished it.

    A question is not asked again if another rater has since answered it in the same slot, or if this rater
    answered it in another slot. Withdrawn questions are left out, except if the rater has just answered about
    the class `answering`, because the rater's page still shows them.
    """
    on_page = set(asked_classes(connection, visit.page))
    there = [c for c in visit.shown if c in on_page or c in visit.answers or answering is not None]
    shown = there
    if visit.slot is None and set(shown) <= set(visit.answers):  # a golden page; the rest was withdrawn
        done = {"state": "done", "done_at": now()}
        connection.execute(_VISITS.update().where(_VISITS.c.id == visit.id).values(done))
        return False
    if visit.slot is not None:
        rater_id = sa.select(_VISITS.c.rater_id).where(_VISITS.c.id == visit.id).scalar_subquery()
        mine = _of(visit.page, rater_id)
        if connection.scalar(sa.select(_VISITS.c.id).where(*mine, _VISITS.c.state == "open")) is not None:
            return False
        answered = answered_classes(connection, visit.page, visit.slot)
        own = classes_of_slot(connection, visit.slot)
        taken = answered | classes_answered(connection, *mine)
        if own is None:
            taken |= enough_answers(connection, visit.page, settings)
        shown = [c for c in there if c in visit.answers or c not in taken]
        if set(shown) <= set(visit.answers):
            if answered.issuperset(on_page if own is None else on_page & own):  # the rest was withdrawn
                _hold(connection, visit.slot, visit.id)
            return False
        is_withdrawn = answering is not None and answering not in on_page
        if not _hold(connection, visit.slot, visit.id, also_ended=is_withdrawn):
            return False
    values = {"state": "open", "shown": json.dumps(shown), "expires_at": _until(settings)}
    if len(shown) < len(there):
        values["partial"] = True
    connection.execute(_VISITS.update().where(_VISITS.c.id == visit.id).values(**values))
    return True


def finish(connection: sa.Connection, visit: Visit) -> None:
    """Close a visit whose questions are answered.

    If the slot has more questions than this rater was shown, the remaining questions go to another rater.
    """
    connection.execute(_VISITS.update().where(_VISITS.c.id == visit.id).values(state="done", done_at=now()))
    if visit.slot is not None and visit.partial:
        own = classes_of_slot(connection, visit.slot)
        asked = set(asked_classes(connection, visit.page)).intersection(*[] if own is None else [own])
        # What was shown counts as done, also if the rater skipped the page: else it would come back at once.
        if asked - answered_classes(connection, visit.page, visit.slot) - set(visit.shown):
            held = (_SLOTS.c.id == visit.slot) & (_SLOTS.c.visit_id == visit.id)
            connection.execute(_SLOTS.update().where(held).values(visit_id=None))


def open_visit(
    connection: sa.Connection,
    rater: Rater,
    settings: CampaignSettings,
    page: int,
    classes: Sequence[int],
    *,
    round: int = 0,
    slot: int | None = None,
    partial: bool = False,
) -> int:
    """Open a page for a rater and return the number of the visit."""
    shown = list(classes)
    # The same order whenever a rater comes back to a page, and another for each rater.
    random.Random(f"{rater.seed}/{page}").shuffle(shown)  # noqa: S311
    values = {
        "key": secrets.token_hex(8),
        "page_id": page,
        "rater_id": rater.id,
        "round": round,
        "slot_id": slot,
        "shown": json.dumps(shown),
        "partial": partial,
        "shown_at": now(),
        "expires_at": _until(settings),
        "state": "open",
    }
    number: int = connection.execute(_OPEN_VISIT, values).scalar_one()
    return number


_OPEN_VISIT = _VISITS.insert().returning(_VISITS.c.id)


def _why_none(connection: sa.Connection, rater: Rater, settings: CampaignSettings) -> str:
    if settings.state != "running":
        return settings.state
    if rater.state != "active":
        return "stopped"
    most = settings.max_pages if rater.max_pages is None else rater.max_pages
    if most and count_visits(connection, rater, "open", "done") >= most:
        return "limit"
    return ""


_IS_OPEN = _VISITS.c.state == sa.literal_column("'open'")
"""Not a parameter: with one, the index of open visits is not used, and each look scans all visits so far."""


def _return(connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
    late = connection.scalars(sa.select(_VISITS.c.id).where(_IS_OPEN, which)).all()
    if late:
        connection.execute(_VISITS.update().where(_VISITS.c.id.in_(late)).values(state="returned"))
        connection.execute(_SLOTS.update().where(_SLOTS.c.visit_id.in_(late)).values(visit_id=None))


def _until(settings: CampaignSettings) -> int:
    return now() + int(settings.lease_minutes * MINUTE)


def _hold(connection: sa.Connection, slot: int, visit: int, *, also_ended: bool = False) -> bool:
    """Take a slot for a visit; return False if another visit holds it.

    With `also_ended`, the other one only counts while it is open: nobody else is asked a withdrawn question.
    """
    statement = _HOLD_IF_ENDED if also_ended else _HOLD_IF_FREE
    return bool(connection.execute(statement, {"slot": slot, "visit": visit}).rowcount)


_IS_FREE = _SLOTS.c.visit_id.is_(None)
_HOLD = _SLOTS.update().where(_SLOTS.c.id == sa.bindparam("slot")).values(visit_id=sa.bindparam("visit"))
_HOLD_IF_FREE = _HOLD.where(_IS_FREE)
_HOLD_IF_ENDED = _HOLD.where(_IS_FREE | _SLOTS.c.visit_id.not_in(sa.select(_VISITS.c.id).where(_IS_OPEN)))


def _take(connection: sa.Connection, rater: Rater, settings: CampaignSettings) -> int | None:
    """Open the next page for a rater and return its visit; None if none is left.

    First what the rater left, then a golden page where one is due, then pages that the rater has not seen,
    and at last other slots of pages of which the rater answered a part.
    """
    for visit in _left(connection, rater):
        if reopen_page(connection, visit, settings):
            return visit.id
    if golden.is_due(connection, rater, settings):
        page = golden.next_golden_page(connection, rater)
        if page is not None:
            return open_visit(connection, rater, settings, page, asked_classes(connection, page))
    if golden.is_pending(rater, settings):
        return None
    return _take_fresh(connection, rater, settings) or _take_rest(connection, rater, settings)


def _left(connection: sa.Connection, rater: Rater) -> list[Visit]:
    """Return the visits that a rater left, and that nobody has taken over."""
    ids = connection.scalars(_LEFT, {"rater": rater.id}).all()
    return list(find_visits(connection, ids).values())


# Built once: to build a statement takes as long as to run it.
_RATER: sa.BindParameter[int] = sa.bindparam("rater")
_LEFT = (
    sa.select(_VISITS.c.id)
    .outerjoin(_SLOTS, _SLOTS.c.id == _VISITS.c.slot_id)
    .where(_VISITS.c.rater_id == _RATER, _VISITS.c.state == "returned", _VISITS.c.round == 0)
    .where(_VISITS.c.slot_id.is_(None) | (_SLOTS.c.id.is_not(None) & _IS_FREE))
    .order_by(_VISITS.c.id)
)


def _take_fresh(connection: sa.Connection, rater: Rater, settings: CampaignSettings) -> int | None:
    while (slot := _free_slot(connection, rater)) is not None:
        visit = _take_slot(connection, rater, settings, slot, set())
        if visit is not None:
            connection.execute(_PUT_POSITION, {"rater": rater.id, "at": slot.position})
            return visit
    return None


_ROW = schema.raters.c.id == _RATER
_PUT_POSITION = schema.raters.update().where(_ROW).values(position=sa.bindparam("at"))
_POSITION = sa.select(schema.raters.c.position).where(_ROW).scalar_subquery()
_FREE = (
    sa.select(_SLOTS.c.id, _SLOTS.c.page_id, _SLOTS.c.position, _SLOTS.c.classes)
    .where(_IS_FREE)
    .order_by(_SLOTS.c.position, _SLOTS.c.id)
)
_UNSEEN = _FREE.where(
    ~sa.exists().where(
        _VISITS.c.page_id == _SLOTS.c.page_id, _VISITS.c.rater_id == _RATER, _VISITS.c.round == 0
    )
).limit(1)
_NEXT_UNSEEN = _UNSEEN.where(_SLOTS.c.position > _POSITION), _UNSEEN.where(_SLOTS.c.position <= _POSITION)


@dataclass(frozen=True)
class _FreeSlot:
    """A slot that nobody holds; `classes` are those that it asks about, None for all of its page."""

    id: int
    page: int
    position: int
    classes: set[int] | None

    @classmethod
    def of(cls, row: Any) -> _FreeSlot:
        """Return the slot of a row of `_FREE`."""
        return cls(row.id, row.page_id, row.position, slot_classes(row.classes))


def _free_slot(connection: sa.Connection, rater: Rater) -> _FreeSlot | None:
    """Return the next free slot of a page that the rater has not seen, and look at earlier ones last."""
    for part in _NEXT_UNSEEN:
        row = connection.execute(part, {"rater": rater.id}).first()
        if row is not None:
            return _FreeSlot.of(row)
    return None


def _take_rest(connection: sa.Connection, rater: Rater, settings: CampaignSettings) -> int | None:
    """Open a page again for what the rater has not answered on it, and another slot still asks."""
    part = _VISITS.c.partial | (_VISITS.c.state == "returned")
    seen = sa.select(_VISITS.c.page_id).where(_VISITS.c.rater_id == rater.id, _VISITS.c.round == 0, part)
    here = sa.exists().where(
        _VISITS.c.page_id == _SLOTS.c.page_id, _VISITS.c.rater_id == rater.id, _VISITS.c.state == "open"
    )
    free = [_FreeSlot.of(row) for row in connection.execute(_FREE.where(_SLOTS.c.page_id.in_(seen), ~here))]
    for start in range(0, len(free), _LOOKED_AT):
        some = free[start : start + _LOOKED_AT]
        own = _own_answers(connection, rater, {slot.page for slot in some})
        for slot in some:
            if own[slot.page].issuperset(slot.classes or asked_classes(connection, slot.page)):
                continue
            visit = _take_slot(connection, rater, settings, slot, own[slot.page])
            if visit is not None:
                return visit
    return None


_LOOKED_AT = 500
"""Slots whose pages are looked up together: with further answers, a rater may have seen part of thousands."""


def _own_answers(connection: sa.Connection, rater: Rater, pages: Collection[int]) -> dict[int, set[int]]:
    """Return the classes that a rater answered on each page."""
    own: dict[int, set[int]] = {page: set() for page in pages}
    answered = (
        sa.select(_VISITS.c.page_id, _QUESTIONS.c.class_id)
        .join(_VOTES, _VOTES.c.visit_id == _VISITS.c.id)
        .join(_QUESTIONS, _QUESTIONS.c.id == _VOTES.c.question_id)
        .where(_VISITS.c.page_id.in_(pages), _VISITS.c.rater_id == rater.id, _VISITS.c.round == 0)
    )
    for page, class_id in connection.execute(answered):
        own[page].add(class_id)
    return own


def _take_slot(
    connection: sa.Connection, rater: Rater, settings: CampaignSettings, slot: _FreeSlot, own: set[int]
) -> int | None:
    """Open a page in a slot, for what neither its earlier holders nor the rater answered."""
    page, only = slot.page, slot.classes
    on_page, answered = asked_classes(connection, page), answered_classes(connection, page, slot.id)
    asked = [c for c in on_page if only is None or c in only]
    enough = enough_answers(connection, page, settings) if only is None else set[int]()
    classes = [c for c in asked if c not in answered | enough and c not in own]
    if not classes:
        if enough and (answered | enough).issuperset(asked):
            _hold(connection, slot.id, PARKED)
        elif answered.issuperset(asked):  # nothing is left of it: it is free by mistake
            last = sa.select(sa.func.max(_VISITS.c.id)).where(
                _VISITS.c.page_id == page, _VISITS.c.slot_id == slot.id
            )
            _hold(connection, slot.id, connection.scalar(last) or PARKED)
        return None
    visit = open_visit(
        connection, rater, settings, page, classes, slot=slot.id, partial=len(classes) < len(on_page)
    )
    if _hold(connection, slot.id, visit):
        return visit
    connection.execute(_VISITS.delete().where(_VISITS.c.id == visit))
    return None


def _of(page: int, rater: Any) -> tuple[sa.ColumnElement[bool], ...]:
    return _VISITS.c.page_id == page, _VISITS.c.rater_id == rater, _VISITS.c.round == 0
