"""Raters, their invitations and their sessions.

Tokens are 256 random bits. The database keeps their sha256 alone: who reads it cannot come in with it, and a
look-up by hash tells nothing by the time it takes.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

import sqlalchemy as sa

from manyhot.errors import InputError
from manyhot.web.store import schema
from manyhot.web.store.clock import DAY, now

SESSION_DAYS = 30
_MAX_NAME = 80


@dataclass(frozen=True)
class Rater:
    """Who answers."""

    id: int
    name: str
    role: str
    seed: int
    position: int
    max_pages: int | None
    state: str

    @property
    def is_owner(self) -> bool:
        """Whether this is an owner of the campaign."""
        return self.role == "owner"


_COLUMNS = [schema.raters.c[name] for name in Rater.__dataclass_fields__]


def invite(connection: sa.Connection, name: str, *, role: str = "rater", max_pages: int | None = None) -> str:
    """Add a rater, or give one a new invitation in place of the old; return the token of it.

    Raises
    ------
    InputError
        The name is empty, too long, or has characters that cannot be printed.
    """
    name = name.strip()
    if not name or len(name) > _MAX_NAME or not name.isprintable():
        raise InputError(
            "This is no name of a rater.",
            got=repr(name),
            allowed=f"1 to {_MAX_NAME} characters that can be printed",
        )
    token = secrets.token_urlsafe(32)
    values = {"invitation": hashed(token), "state": "active"}
    table = schema.raters
    done = connection.execute(table.update().where(table.c.name == name).values(values))
    if not done.rowcount:
        connection.execute(
            table.insert().values(
                name=name,
                role=role,
                seed=secrets.randbelow(1 << 31),
                position=0,
                max_pages=max_pages,
                made_at=now(),
                **values,
            )
        )
    return token


def revoke(connection: sa.Connection, rater_id: int) -> None:
    """End a rater's invitation and sessions; answers stay."""
    table = schema.raters
    connection.execute(table.update().where(table.c.id == rater_id).values(invitation=None, state="revoked"))
    connection.execute(schema.sessions.delete().where(schema.sessions.c.rater_id == rater_id))


def invited(connection: sa.Connection, token: str) -> Rater | None:
    """Return whom an invitation is for; None where it is none."""
    return _rater(connection, schema.raters.c.invitation == hashed(token))


def begin_session(connection: sa.Connection, rater: Rater) -> str:
    """Begin a session and return its token."""
    token = secrets.token_urlsafe(32)
    connection.execute(schema.sessions.delete().where(schema.sessions.c.expires_at < now()))
    connection.execute(
        schema.sessions.insert().values(
            token=hashed(token), rater_id=rater.id, expires_at=now() + SESSION_DAYS * DAY
        )
    )
    return token


def end_session(connection: sa.Connection, token: str) -> None:
    """End a session."""
    connection.execute(schema.sessions.delete().where(schema.sessions.c.token == hashed(token)))


def of_session(connection: sa.Connection, token: str) -> Rater | None:
    """Return whose session it is; None where it is none, or has ended."""
    sessions = schema.sessions
    return _rater(
        connection,
        schema.raters.c.id == sessions.c.rater_id,
        sessions.c.token == hashed(token),
        sessions.c.expires_at >= now(),
    )


def all_raters(connection: sa.Connection) -> list[Rater]:
    """Return all raters, by name."""
    rows = connection.execute(sa.select(*_COLUMNS).order_by(schema.raters.c.name))
    return [Rater(*row) for row in rows]


def hashed(token: str) -> str:
    """Return what the database keeps of a token."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def _rater(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> Rater | None:
    row = connection.execute(sa.select(*_COLUMNS).where(*where, schema.raters.c.state != "revoked")).first()
    return None if row is None else Rater(*row)
