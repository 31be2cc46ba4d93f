"""Visits of raters to pages: the classes shown, and the answers."""

from __future__ import annotations

import json
import random
import secrets
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from manyhot.reassess.app.store import schema
from manyhot.reassess.app.store.accounts import Rater
from manyhot.reassess.app.store.campaign_settings import CampaignSettings
from manyhot.reassess.app.store.database import MINUTE, now
from manyhot.reassess.app.store.engines import padded

_VISITS, _PAGES, _VOTES = schema.visits, schema.pages, schema.votes


# Built once: to put a statement together takes SQLAlchemy as long as to run it.
_SELECTED = (
    sa.select(_VISITS, _PAGES.c.image_id, schema.images.c.name, schema.images.c.uri, schema.images.c.label)
    .add_columns(schema.questions.c.class_id, _VOTES.c.answer, _VOTES.c.main)
    .join(_PAGES, _PAGES.c.id == _VISITS.c.page_id)
    .join(schema.images, schema.images.c.id == _PAGES.c.image_id)
    .outerjoin(_VOTES, _VOTES.c.visit_id == _VISITS.c.id)
    .outerjoin(schema.questions, schema.questions.c.id == _VOTES.c.question_id)
    .order_by(_VOTES.c.id)
)

_BY_ID = _SELECTED.where(_VISITS.c.id.in_(sa.bindparam("ids", expanding=True)))
_BY_KEY = _SELECTED.where(_VISITS.c.key.in_(sa.bindparam("keys", expanding=True)))


@dataclass(frozen=True)
class Visit:
    """A visit of a rater to a page.

    Attributes
    ----------
    key : str
        The page_id of the votes table.
    rater, page : int
    image, label : int
        The number of the image in the database, and its original label (None if unknown).
    name, uri : str
        The image_id, and its location.
    shown : tuple of int
        The classes in the order shown.
    answers : dict of int to (int, bool)
        The latest answer for each class, and whether the class is the main object.
    state : str
        open, done or returned.
    round : int
        0 for answers, and 1 for decisions on other raters' answers.
    shown_at : int
        Time at which the visit was opened or, after the first answer, at which the rater first saw the page.
    expires_at : int
        Time at which the page is given back unless an answer arrives earlier.
    slot : int, optional
        Slot of the page; None if the page is golden or the round is 1.
    partial : bool
        Whether the page has more classes than the visit shows.
    """

    id: int
    key: str
    rater: int
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
    expires_at: int
    slot: int | None
    partial: bool


@dataclass(frozen=True)
class NewVisit:
    """A visit that is to be opened.

    Attributes
    ----------
    rater : Rater
    page : int
    classes : sequence of int
        The classes to show, in any order.
    round, slot, partial
        As in `Visit`.
    """

    rater: Rater
    page: int
    classes: Sequence[int]
    round: int = 0
    slot: int | None = None
    partial: bool = False


def open_visits(
    connection: sa.Connection, settings: CampaignSettings, new: Sequence[NewVisit]
) -> Sequence[int]:
    """Open pages for raters, in one statement, and return the numbers of the visits."""
    return connection.scalars(_OPEN_VISITS, [_row(one, settings) for one in new]).all()


_OPEN_VISITS = _VISITS.insert().returning(_VISITS.c.id, sort_by_parameter_order=True)


def _row(new: NewVisit, settings: CampaignSettings) -> dict[str, object]:
    shown = list(new.classes)
    # The same order whenever a rater comes back to a page, and another for each rater.
    random.Random(f"{new.rater.seed}/{new.page}").shuffle(shown)  # noqa: S311
    return {
        "key": secrets.token_hex(8),
        "page_id": new.page,
        "rater_id": new.rater.id,
        "round": new.round,
        "slot_id": new.slot,
        "shown": json.dumps(shown),
        "partial": new.partial,
        "shown_at": now(),
        "expires_at": lease_end(settings),
        "state": "open",
    }


def lease_end(settings: CampaignSettings) -> int:
    """Return until when a page that is opened or answered now is kept for its rater."""
    return now() + int(settings.lease_minutes * MINUTE)


def find_visits(connection: sa.Connection, ids: Sequence[int]) -> dict[int, Visit]:
    """Return the visits with these numbers that exist, in the order of `ids`."""
    if not ids:
        return {}
    found = {visit.id: visit for visit in _find(connection, _BY_ID, {"ids": padded(ids)})}
    return {i: found[i] for i in ids if i in found}


def find_visit(connection: sa.Connection, rater: Rater, key: str) -> Visit | None:
    """Return a rater's own visit by its key; None if there is none."""
    found = find_by_keys(connection, [key]).get(key)
    return found if found is not None and found.rater == rater.id else None


def find_by_keys(connection: sa.Connection, keys: Collection[str]) -> dict[str, Visit]:
    """Return the visits with these keys that exist, of all raters."""
    return (
        {visit.key: visit for visit in _find(connection, _BY_KEY, {"keys": padded(sorted(keys))})}
        if keys
        else {}
    )


def _find(connection: sa.Connection, query: sa.Select[Any], values: dict[str, object]) -> list[Visit]:
    rows, answers = {}, defaultdict[int, dict[int, tuple[int, bool]]](dict)
    for row in connection.execute(query, values):
        rows[row.id] = row
        if row.answer is not None:  # a later one takes the place of an earlier
            answers[row.id][row.class_id] = (row.answer, row.main)
    return [
        Visit(
            row.id,
            row.key,
            row.rater_id,
            row.page_id,
            row.image_id,
            row.name,
            row.uri,
            row.label,
            tuple(json.loads(row.shown)),
            answers[row.id],
            row.state,
            row.round,
            row.shown_at,
            row.expires_at,
            row.slot_id,
            bool(row.partial),
        )
        for row in rows.values()
    ]


def image_name(connection: sa.Connection, rater: Rater, key: str) -> str | None:
    """Return the image_id of a rater's own visit; None if there is no such visit."""
    return connection.scalar(
        sa.select(schema.images.c.name)
        .join(_PAGES, _PAGES.c.image_id == schema.images.c.id)
        .join(_VISITS, _VISITS.c.page_id == _PAGES.c.id)
        .where(_VISITS.c.key == key, _VISITS.c.rater_id == rater.id)
    )


def last_done(connection: sa.Connection, rater: Rater, before: str | None = None) -> Visit | None:
    """Return the rater's latest finished visit, or the latest one before the visit `before`."""
    query = sa.select(_VISITS.c.id).where(
        _VISITS.c.rater_id == rater.id, _VISITS.c.state == "done", _VISITS.c.round == 0
    )
    if before is not None and (seen := find_visit(connection, rater, before)) is not None:
        query = query.where(_VISITS.c.id < seen.id)
    number = connection.scalar(query.order_by(_VISITS.c.id.desc()).limit(1))
    return None if number is None else find_visits(connection, [number])[number]


def count_visits(connection: sa.Connection, rater: Rater, *states: str) -> int:
    """Return the number of a rater's visits in these states, without decisions on disagreements."""
    return connection.execute(
        sa.select(sa.func.count()).where(
            _VISITS.c.rater_id == rater.id, _VISITS.c.state.in_(states), _VISITS.c.round == 0
        )
    ).scalar_one()


def count_pages(connection: sa.Connection) -> int:
    """Return the number of pages that a rater can be shown."""
    pages = sa.select(sa.func.count()).select_from(_PAGES).where(~_PAGES.c.golden)
    idle = pages.where(_PAGES.c.id.in_(schema.IDLE_PAGES))
    return connection.execute(pages).scalar_one() - connection.execute(idle).scalar_one()


def all_keys(connection: sa.Connection) -> Iterable[str]:
    """Return the keys of all visits, which are the page_ids of all votes ever given in this app."""
    return connection.scalars(sa.select(_VISITS.c.key))
