"""Which classes of a page are asked about and which are answered, for those who assign its slots."""

from __future__ import annotations

import json
from collections import Counter

import sqlalchemy as sa

from manyhot.reassess.app.store import schema
from manyhot.reassess.app.store.accounts import ANSWERS_LEFT_OUT
from manyhot.reassess.app.store.campaign_settings import CampaignSettings

_VISITS, _SLOTS = schema.visits, schema.slots
_VOTES, _QUESTIONS = schema.votes, schema.questions
COUNTS = _VOTES.c.rater_id.not_in(
    sa.select(schema.raters.c.id).where(schema.raters.c.state == ANSWERS_LEFT_OUT).scalar_subquery()
)
"""Votes of raters whose answers are not left out."""


PARKED = 0
"""Holds a slot that nobody is to get, until more raters are wanted or withdrawn questions come back."""


# Built once, because each page that is assigned needs them: to build one takes as long as to run it.
_PAGE: sa.BindParameter[int] = sa.bindparam("page")
_COUNT_SLOTS = sa.select(sa.func.count()).where(_SLOTS.c.page_id == _PAGE)
_ASKED = (
    sa.select(_QUESTIONS.c.class_id)
    .where(_QUESTIONS.c.page_id == _PAGE, schema.IS_ASKED)
    .order_by(_QUESTIONS.c.id)
)
_ANSWERED = (
    sa.select(_QUESTIONS.c.class_id)
    .join(_VOTES, _VOTES.c.question_id == _QUESTIONS.c.id)
    .join(_VISITS, _VISITS.c.id == _VOTES.c.visit_id)
)
_ANSWERED_IN_SLOT = _ANSWERED.where(
    _VISITS.c.page_id == _PAGE, _VISITS.c.slot_id == sa.bindparam("slot"), COUNTS
)


def enough_answers(connection: sa.Connection, page: int, settings: CampaignSettings) -> set[int]:
    """Return the classes of a page about which enough raters have answered or are being asked.

    Slots ensure this by themselves, except on pages with more slots than raters are now needed, because more
    raters were needed earlier or further answers were requested.
    """
    if connection.execute(_COUNT_SLOTS, {"page": page}).scalar_one() <= settings.raters:
        return set()
    here = (_VISITS.c.page_id == page) & (_VISITS.c.round == 0)
    answered = (
        sa.select(_VISITS.c.rater_id, _QUESTIONS.c.class_id)
        .join(_VOTES, _VOTES.c.visit_id == _VISITS.c.id)
        .join(_QUESTIONS, _QUESTIONS.c.id == _VOTES.c.question_id)
        .where(COUNTS)
    )
    pairs = {(who, class_id) for who, class_id in connection.execute(answered.where(here))}
    looking = sa.select(_VISITS.c.rater_id, _VISITS.c.shown).where(here, _VISITS.c.state == "open")
    for who, shown in connection.execute(looking):
        pairs |= {(who, class_id) for class_id in json.loads(shown)}
    counts = Counter(class_id for _, class_id in pairs)
    return {class_id for class_id, n in counts.items() if n >= settings.raters}


def asked_classes(connection: sa.Connection, page: int) -> list[int]:
    """Return the classes of a page that are asked about."""
    return list(connection.scalars(_ASKED, {"page": page}))


def classes_of_slot(connection: sa.Connection, slot: int) -> set[int] | None:
    """Return the classes that a slot asks about; None for all classes of its page."""
    return slot_classes(connection.scalar(sa.select(_SLOTS.c.classes).where(_SLOTS.c.id == slot)))


def slot_classes(text: str | None) -> set[int] | None:
    """Return the classes of a slot from their text; None if it asks about all classes of its page."""
    return None if text is None else set(json.loads(text))


def answered_classes(connection: sa.Connection, page: int, slot: int) -> set[int]:
    """Return the classes of a page that were answered in a slot, by any rater who held it."""
    return set(connection.scalars(_ANSWERED_IN_SLOT, {"page": page, "slot": slot}))


def classes_answered(connection: sa.Connection, which: sa.ColumnElement[bool]) -> set[int]:
    """Return the classes of some votes."""
    return set(connection.scalars(_ANSWERED.where(which)))


def park_idle(connection: sa.Connection, here: sa.ColumnElement[bool]) -> None:
    """Park the given slots that are free and have nothing to ask, since all questions are withdrawn."""
    asked = sa.exists().where(_QUESTIONS.c.page_id == _SLOTS.c.page_id, schema.IS_ASKED)
    idle = ~asked | (_SLOTS.c.classes == "[]")
    connection.execute(_SLOTS.update().where(_SLOTS.c.visit_id.is_(None), here, idle).values(visit_id=PARKED))
