"""One link for many raters, who come from a crowd-working service with a number of their own."""

from __future__ import annotations

import re
import secrets
from typing import Literal

import sqlalchemy as sa

from manyhot.errors import InputError
from manyhot.reassess.app.store import accounts, schema
from manyhot.reassess.app.store.accounts import Rater
from manyhot.reassess.app.store.campaign_settings import get_value, put_value, read_settings

_KEY = "crowd_link"
_PARTICIPANT = re.compile(r"[A-Za-z0-9_-]{1,64}")
CROWD: Literal["crowd"] = "crowd"


def make_link(connection: sa.Connection) -> str:
    """Create a link and return its token; only the hash is stored. An earlier link becomes invalid."""
    token = secrets.token_urlsafe(32)
    put_value(connection, _KEY, accounts.hashed(token))
    return token


def is_link(connection: sa.Connection, token: str) -> bool:
    """Return whether the token of a link is valid."""
    return bool(get_value(connection, _KEY) == accounts.hashed(token))


def join_crowd(connection: sa.Connection, token: str, participant: str) -> Rater | None:
    """Return the rater of a participant, who is added if new; None if the link is not valid.

    Raises
    ------
    InputError
        If the participant's id is not valid, the participant was revoked, or all places are taken.
    """
    if not is_link(connection, token):
        return None
    if not _PARTICIPANT.fullmatch(participant):
        raise InputError(
            "The link lacks a valid participant id.",
            got=repr(participant[:100]),
            allowed="PROLIFIC_PID, workerId or participant, with 1 to 64 letters, digits, _ and -",
        )
    table, name = schema.raters, f"{CROWD} {participant}"
    query = sa.select(*accounts.RATER_COLUMNS).where(table.c.name == name)
    found = connection.execute(query).first()
    if found is None:
        places = read_settings(connection).places
        taken = sa.select(sa.func.count()).where(table.c.role == CROWD)
        if places and connection.execute(taken).scalar_one() >= places:
            raise InputError("All places are taken.", got=f"{places:,} raters")
        accounts.invite(connection, name, role=CROWD)
        found = connection.execute(query).one()
        accounts.change(connection, found.id, invitation=None)
    if found.role != CROWD or found.state == "revoked":
        raise InputError("This participant cannot take part.", got=participant)
    return Rater(*found)
