"""Assignment of pages to raters, with a fixed number of raters per question; no answer is lost."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from manyhot.reassess.app.store import golden, schema
from manyhot.reassess.app.store.accounts import ANSWERS_LEFT_OUT, Rater
from manyhot.reassess.app.store.campaign_settings import CampaignSettings, read_with, read_with_all
from manyhot.reassess.app.store.database import MINUTE, now
from manyhot.reassess.app.store.engines import padded
from manyhot.reassess.app.store.fresh_pages import FREE_SLOTS, IS_FREE, FreeSlot, FreshPages
from manyhot.reassess.app.store.page_classes import (
    PARKED,
    answered_classes,
    asked_classes,
    classes_answered,
    classes_of_slot,
    enough_answers,
    park_idle,
)
from manyhot.reassess.app.store.visits import (
    NewVisit,
    Visit,
    count_visits,
    find_visits,
    lease_end,
    open_visits,
)

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
        Why there are no visits: finished, taken (other raters have the remaining pages open), paused, closed,
        stopped or limit; empty otherwise.
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
    counts = {
        who: (int(n), int(whole), int(seen)) for who, n, whole, seen in connection.execute(_COUNT, values)
    }
    left = _left(connection, [number for number, ids in open_ids.items() if len(ids) < PAGES_AHEAD])
    filling = _Filling(connection, settings, left, {who: seen for who, (*_, seen) in counts.items()})
    reasons = {number: filling.fill(rater, open_ids[number]) for number, rater in known.items()}
    filling.fresh.open()
    visits = find_visits(connection, [visit for ids in open_ids.values() for visit in ids])
    why = _stopped_for(connection, [number for number, reason in reasons.items() if reason == "stopped"])
    queues = {
        number: Queue(
            [visits[i] for i in ids if i in visits],
            "" if ids else reasons[number],
            *counts.get(number, (0, 0, 0))[:2],
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
_IS_DONE = _VISITS.c.state == "done"
_COUNT = (
    sa.select(_VISITS.c.rater_id, sa.func.count().filter(_IS_DONE))
    .add_columns(sa.func.count().filter(_IS_DONE & ~_VISITS.c.partial), sa.func.count())
    .where(_OF_RATERS)
    .group_by(_VISITS.c.rater_id)
)
"""The finished visits of each rater, those of them that showed all classes of the page, and all visits."""


class _Filling:
    """Queues that are being filled in one go: pages that nobody has begun wait, to be opened together."""

    def __init__(
        self,
        connection: sa.Connection,
        settings: CampaignSettings,
        left: dict[int, list[Visit]],
        seen: dict[int, int],
    ) -> None:
        self._connection, self._settings, self._left, self._seen = connection, settings, left, seen
        self.fresh = FreshPages(connection, settings)

    def fill(self, rater: Rater, open_ids: list[int]) -> str:
        """Add pages to the open ones of a rater, or take all away; return why there are no more."""
        if len(open_ids) < PAGES_AHEAD:  # who has finished a page is judged before the next
            rater = _judged(self._connection, rater, self._settings)
        reason = "" if len(open_ids) >= PAGES_AHEAD else self._why_none(rater)
        while not reason and (more := PAGES_AHEAD - len(open_ids) - self.fresh.count(rater)) > 0:
            is_taken = self._take(rater, open_ids, more)
            reason = self._why_none(rater) if is_taken else "finished"
        if reason == "finished" and not (open_ids or self.fresh.count(rater)):
            others = self._connection.execute(_OPEN_TO_OTHERS, {"rater": rater.id, "now": now()}).first()
            reason = "taken" if others and not golden.is_pending(rater, self._settings) else reason
        if self._settings.state != "running" or rater.state != "active":
            open_ids.clear()
            reason = self._why_none(rater)
        return reason

    def _why_none(self, rater: Rater) -> str:
        settings = self._settings
        if settings.state != "running":
            return settings.state
        if rater.state != "active":
            return "stopped"
        most = settings.max_pages if rater.max_pages is None else rater.max_pages
        if most:
            self.fresh.open()
            if count_visits(self._connection, rater, "open", "done") >= most:
                return "limit"
        return ""

    def _take(self, rater: Rater, open_ids: list[int], most: int) -> bool:
        """Take the next page for a rater; return False if none is left.

        First what the rater left, then a golden page where one is due, then pages that the rater has not
        seen, and at last other slots of pages of which the rater answered a part.
        """
        left = self._left.get(rater.id, [])
        while left:
            self.fresh.open()
            visit = left.pop(0)
            if reopen_page(self._connection, visit, self._settings):
                open_ids.append(visit.id)
                return True
        is_due = golden.is_due(self._connection, rater, self._settings, self._seen.get(rater.id, 0))
        opened = self._open_golden(rater) if is_due else None
        if opened is None and golden.is_pending(rater, self._settings):
            return False
        if opened is None and self._take_fresh(rater, open_ids, most):
            return True
        if opened is None:
            self.fresh.open()
            opened = _take_rest(self._connection, rater, self._settings)
        if opened is not None:
            open_ids.append(opened)
            self._count(rater)
        return opened is not None

    def _open_golden(self, rater: Rater) -> int | None:
        self.fresh.open()
        page = golden.next_golden_page(self._connection, rater)
        if page is None:
            return None
        new = NewVisit(rater, page, asked_classes(self._connection, page))
        return open_visits(self._connection, self._settings, [new])[0]

    def _take_fresh(self, rater: Rater, open_ids: list[int], most: int) -> bool:
        while (slot := self.fresh.next(rater, most)) is not None:
            if slot.is_untouched(self._settings):
                self.fresh.take(rater, slot, open_ids)
                self._count(rater)
                return True
            self.fresh.open()
            visit = _take_slot(self._connection, rater, self._settings, slot, set())
            if visit is not None:
                self.fresh.move(rater, slot)
                open_ids.append(visit)
                self._count(rater)
                return True
        return False

    def _count(self, rater: Rater) -> None:
        self._seen[rater.id] = self._seen.get(rater.id, 0) + 1


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
    """Return whether an answer should `renew` its page; the first one does, then one every few minutes."""
    return not visit.answers or visit.expires_at < lease_end(settings) - settings.lease_minutes * MINUTE / 20


def renew(connection: sa.Connection, rater_id: int, settings: CampaignSettings) -> None:
    """Extend the time limit of all open pages of a rater who answers."""
    connection.execute(
        _VISITS.update()
        .where(_VISITS.c.rater_id == rater_id, _VISITS.c.state == "open")
        .values(expires_at=lease_end(settings))
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
        own_visits = (_VISITS.c.page_id == visit.page) & (_VISITS.c.rater_id == rater_id)
        mine = own_visits & (_VISITS.c.round == 0)
        if connection.scalar(sa.select(_VISITS.c.id).where(mine, _VISITS.c.state == "open")) is not None:
            return False
        answered = answered_classes(connection, visit.page, visit.slot)
        own = classes_of_slot(connection, visit.slot)
        taken = answered | classes_answered(connection, mine)
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
    values = {"state": "open", "shown": json.dumps(shown), "expires_at": lease_end(settings)}
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


_IS_OPEN = _VISITS.c.state == sa.literal_column("'open'")
"""Not a parameter: with one, the index of open visits is not used, and each look scans all visits so far."""

_MINE = _VISITS.alias("mine")
_OPEN_TO_OTHERS = (
    sa.select(_VISITS.c.id)
    .where(_IS_OPEN, _VISITS.c.expires_at >= sa.bindparam("now"))
    .where(_VISITS.c.slot_id.is_not(None), _VISITS.c.round == 0)
    .where(
        ~sa.exists().where(_MINE.c.page_id == _VISITS.c.page_id, _MINE.c.rater_id == sa.bindparam("rater"))
    )
    .limit(1)
)
"""A page that another rater has open, and that a rater has never seen."""


def _return(connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
    late = connection.scalars(sa.select(_VISITS.c.id).where(_IS_OPEN, which)).all()
    if late:
        connection.execute(_VISITS.update().where(_VISITS.c.id.in_(late)).values(state="returned"))
        connection.execute(_SLOTS.update().where(_SLOTS.c.visit_id.in_(late)).values(visit_id=None))


def _hold(connection: sa.Connection, slot: int, visit: int, *, also_ended: bool = False) -> bool:
    """Take a slot for a visit; return False if another visit holds it.

    With `also_ended`, the other one only counts while it is open: nobody else is asked a withdrawn question.
    """
    statement = _HOLD_IF_ENDED if also_ended else _HOLD_IF_FREE
    return bool(connection.execute(statement, {"slot": slot, "visit": visit}).rowcount)


_HOLD = _SLOTS.update().where(_SLOTS.c.id == sa.bindparam("slot")).values(visit_id=sa.bindparam("visit"))
_HOLD_IF_FREE = _HOLD.where(IS_FREE)
_HOLD_IF_ENDED = _HOLD.where(IS_FREE | _SLOTS.c.visit_id.not_in(sa.select(_VISITS.c.id).where(_IS_OPEN)))


def _left(connection: sa.Connection, raters: Collection[int]) -> dict[int, list[Visit]]:
    """Return the visits that each rater left, and that nobody has taken over."""
    left = defaultdict[int, list[Visit]](list)
    ids = connection.scalars(_LEFT, {"raters": padded(raters)}).all() if raters else ()
    for visit in find_visits(connection, ids).values():
        left[visit.rater].append(visit)
    return left


# Built once: to build a statement takes as long as to run it.
_LEFT = (
    sa.select(_VISITS.c.id)
    .outerjoin(_SLOTS, _SLOTS.c.id == _VISITS.c.slot_id)
    .where(_OF_RATERS, _VISITS.c.state == "returned")
    .where(_VISITS.c.slot_id.is_(None) | (_SLOTS.c.id.is_not(None) & IS_FREE))
    .order_by(_VISITS.c.id)
)


def _take_rest(connection: sa.Connection, rater: Rater, settings: CampaignSettings) -> int | None:
    """Open a page again for what the rater has not answered on it, and another slot still asks."""
    part = _VISITS.c.partial | (_VISITS.c.state == "returned")
    seen = sa.select(_VISITS.c.page_id).where(_VISITS.c.rater_id == rater.id, _VISITS.c.round == 0, part)
    here = sa.exists().where(
        _VISITS.c.page_id == _SLOTS.c.page_id, _VISITS.c.rater_id == rater.id, _VISITS.c.state == "open"
    )
    free = connection.execute(FREE_SLOTS.where(_SLOTS.c.page_id.in_(seen), ~here)).all()
    for start in range(0, len(free), _LOOKED_AT):
        some = free[start : start + _LOOKED_AT]
        own = _own_answers(connection, rater, {row.page_id for row in some})
        for slot in map(FreeSlot.of, some):
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
    connection: sa.Connection, rater: Rater, settings: CampaignSettings, slot: FreeSlot, own: set[int]
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
    new = NewVisit(rater, page, classes, slot=slot.id, partial=len(classes) < len(on_page))
    (visit,) = open_visits(connection, settings, [new])
    if _hold(connection, slot.id, visit):
        return visit
    connection.execute(_VISITS.delete().where(_VISITS.c.id == visit))
    return None
