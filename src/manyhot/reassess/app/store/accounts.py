"""Raters, the owner, their invitations and their sessions.

Tokens are 256 random bits. The database stores only their sha256: a reader of the database cannot log in with
it, and the duration of a look-up by hash reveals nothing. Owners' passwords are stored as Argon2 hashes.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from dataclasses import dataclass
from typing import Literal

import argon2
import sqlalchemy as sa

from manyhot.errors import InputError
from manyhot.reassess.app.store import schema
from manyhot.reassess.app.store.database import DAY, now

SESSION_DAYS = 30
MOST_SESSIONS = 50
"""Maximum number of sessions per person; further ones end the oldest."""


LEAST_PASSWORD, MOST_PASSWORD = 10, 200
ANSWERS_LEFT_OUT = "left out"
"""State of a rater who was stopped, and whose answers do not count."""


OWNER = "owner"
"""Default name of an owner."""


_MAX_NAME = 80
Role = Literal["rater", "owner", "crowd"]
_HASHER = argon2.PasswordHasher()
_HASHING = threading.Semaphore(1)
"""A hash takes 64 MB and 50 ms on purpose: many at once would overload the machine."""


_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$" + "A" * 22 + "$" + "A" * 43
"""Is checked where no such owner is, so that both take as long."""


@dataclass(frozen=True)
class Rater:
    """A rater or an owner.

    Attributes
    ----------
    id : int
    name : str
    role : str
        rater, owner, or crowd: a rater who joined through the link for a crowd.
    seed : int
        Seed for the order of classes.
    position : int
        Position of the last page taken.
    max_pages : int, optional
        Maximum number of pages for this rater; None for the campaign's setting.
    state : str
        active, stopped, revoked, or `ANSWERS_LEFT_OUT`.
    refines : bool
        Whether this rater decides where raters disagree.
    qualified : bool, optional
        Whether the rater answered the first golden pages well enough, or the owner let the rater continue;
        None if this is not known yet.
    stopped_for : str, optional
        Why the app stopped the rater.
    judged_from : int
        Number of a visit. Only later visits are checked for quality and speed while the rater works.
    """

    id: int
    name: str
    role: Role
    seed: int
    position: int
    max_pages: int | None
    state: str
    refines: bool
    qualified: bool | None
    stopped_for: str | None = None
    judged_from: int = 0

    @property
    def is_owner(self) -> bool:
        """Whether this is an owner of the campaign."""
        return self.role == "owner"

    @property
    def may_refine(self) -> bool:
        """Whether this rater may decide where raters disagree."""
        return self.state == "active" and (self.is_owner or self.refines)


RATER_COLUMNS = [schema.raters.c[name] for name in Rater.__dataclass_fields__]


def invite(
    connection: sa.Connection,
    name: str,
    *,
    role: Role = "rater",
    max_pages: int | None = None,
    refines: bool | None = None,
    keep_sessions: bool = False,
) -> str:
    """Add a rater, or replace a rater's invitation with a new one; return the token of the invitation.

    A new invitation ends the rater's old invitation and, unless `keep_sessions` is set, its sessions. A
    stopped rater remains stopped.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    name : str
    role : {"rater", "owner"}
    max_pages : int, optional
        Maximum number of pages for this rater, instead of the campaign's setting.
    refines : bool, optional
        Whether the rater decides where raters disagree. None keeps the current setting; for a new rater, it
        means no.
    keep_sessions : bool
        Whether the sessions of the old invitation remain valid.

    Raises
    ------
    InputError
        If the name is empty or too long, contains unprintable characters, or is already used in the other
        role (rater or owner).
    """
    name = name.strip()
    if not name or len(name) > _MAX_NAME or not name.isprintable():
        raise InputError(
            "This is not a valid name of a rater.",
            got=repr(name),
            allowed=f"1 to {_MAX_NAME} printable characters",
        )
    table, token = schema.raters, secrets.token_urlsafe(32)
    given = {"max_pages": max_pages, "refines": refines}
    values: dict[str, object] = {"invitation": hashed(token)} | {
        key: v for key, v in given.items() if v is not None
    }
    known = connection.execute(sa.select(*RATER_COLUMNS).where(table.c.name == name)).first()
    if known is None:
        values = {"max_pages": None, "refines": False} | values
        connection.execute(
            table.insert().values(
                name=name,
                role=role,
                seed=secrets.randbelow(1 << 31),
                position=0,
                state="active",
                made_at=now(),
                **values,
            )
        )
        return token
    if known.role != role:
        raise InputError(
            "The name is taken.",
            got=repr(name),
            allowed=f"a name that does not belong to {'an owner' if known.role == OWNER else 'a rater'}",
            do="choose another name",
        )
    if known.state == "revoked":
        values["state"] = "active" if known.qualified is not False else "stopped"
    connection.execute(table.update().where(table.c.id == known.id).values(**values))
    if not keep_sessions:
        end_sessions(connection, known.id)
    return token


def revoke(connection: sa.Connection, rater_id: int) -> None:
    """End a rater's invitation and sessions; answers stay."""
    change(connection, rater_id, invitation=None, state="revoked")
    end_sessions(connection, rater_id)


def let_go_on(connection: sa.Connection, rater_id: int) -> None:
    """Let a stopped rater continue, regardless of the results so far."""
    table, visits = schema.raters, schema.visits
    last = sa.select(sa.func.coalesce(sa.func.max(visits.c.id), 0)).where(visits.c.rater_id == rater_id)
    connection.execute(
        table.update()
        .where(table.c.id == rater_id, table.c.state == "stopped")
        .values(state="active", qualified=True, stopped_for=None, judged_from=last.scalar_subquery())
    )


def count_again(connection: sa.Connection, rater_id: int) -> None:
    """Let the answers of a rater count again; the rater remains stopped."""
    table = schema.raters
    left_out = (table.c.id == rater_id) & (table.c.state == ANSWERS_LEFT_OUT)
    connection.execute(table.update().where(left_out).values(state="stopped"))


def change(connection: sa.Connection, rater_id: int, **values: object) -> None:
    """Change the database entry of a rater."""
    connection.execute(schema.raters.update().where(schema.raters.c.id == rater_id).values(**values))


def invited(connection: sa.Connection, token: str) -> Rater | None:
    """Return the rater of an invitation; None if it is invalid."""
    return _rater(connection, schema.raters.c.invitation == hashed(token))


def hash_password(password: str) -> str:
    """Return the hash of a password, as stored in the database.

    Raises
    ------
    InputError
        If the password is too short or too long.
    """
    if not LEAST_PASSWORD <= len(password) <= MOST_PASSWORD:
        raise InputError(
            "The password is too short." if len(password) < LEAST_PASSWORD else "The password is too long.",
            allowed=f"{LEAST_PASSWORD} to {MOST_PASSWORD} characters",
        )
    with _HASHING:
        return _HASHER.hash(password.encode(errors="surrogatepass"))


def set_password(connection: sa.Connection, token: str, password_hash: str) -> Rater | None:
    """Set the password of an invited owner, and end the invitation and older sessions.

    Returns None if the token is not a valid invitation of an owner.
    """
    rater = invited(connection, token)
    if rater is None or not rater.is_owner:
        return None
    change(connection, rater.id, password=password_hash, invitation=None)
    end_sessions(connection, rater.id)
    return rater


def find_password(connection: sa.Connection, name: str) -> tuple[Rater, str] | None:
    """Return the owner with this name, and the hash of the owner's password; None if either is missing."""
    table = schema.raters
    rater = _rater(connection, table.c.name == name, table.c.role == "owner", table.c.password.is_not(None))
    if rater is None:
        return None
    return rater, connection.execute(sa.select(table.c.password).where(table.c.id == rater.id)).scalar_one()


def is_password(password: str, password_hash: str | None) -> bool:
    """Return whether a password matches a hash; without a hash, return False after the same time."""
    with _HASHING:
        try:
            _HASHER.verify(password_hash or _NOBODY, password.encode(errors="surrogatepass"))
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
    return password_hash is not None


def owners(connection: sa.Connection) -> list[tuple[str, bool]]:
    """Return the name of each owner, and whether the owner has a password."""
    table = schema.raters
    query = sa.select(table.c.name, table.c.password.is_not(None)).order_by(table.c.id)
    rows = connection.execute(query.where(table.c.role == "owner", table.c.state != "revoked"))
    return [(name, bool(has)) for name, has in rows]


def begin_session(connection: sa.Connection, rater: Rater) -> str:
    """Begin a session and return its token."""
    token = secrets.token_urlsafe(32)
    # Those that have ended stay: where the clock jumped ahead for a moment, they have not.
    connection.execute(
        schema.sessions.insert().values(
            token=hashed(token), rater_id=rater.id, expires_at=now() + SESSION_DAYS * DAY
        )
    )
    table = schema.sessions
    latest = sa.select(table.c.expires_at).where(table.c.rater_id == rater.id)
    oldest = latest.order_by(table.c.expires_at.desc()).offset(MOST_SESSIONS).limit(1).scalar_subquery()
    connection.execute(table.delete().where(table.c.rater_id == rater.id, table.c.expires_at <= oldest))
    return token


def end_session(connection: sa.Connection, token: str) -> None:
    """End a session."""
    connection.execute(schema.sessions.delete().where(schema.sessions.c.token == hashed(token)))


def end_sessions(connection: sa.Connection, rater_id: int) -> None:
    """End all sessions of a rater."""
    connection.execute(schema.sessions.delete().where(schema.sessions.c.rater_id == rater_id))


def of_session(connection: sa.Connection, token: str) -> Rater | None:
    """Return the rater of a session; None if it does not exist or has ended."""
    sessions = schema.sessions
    return _rater(
        connection,
        schema.raters.c.id == sessions.c.rater_id,
        sessions.c.token == hashed(token),
        sessions.c.expires_at >= now(),
    )


def all_raters(connection: sa.Connection) -> list[Rater]:
    """Return all raters, sorted by name."""
    rows = connection.execute(sa.select(*RATER_COLUMNS).order_by(schema.raters.c.name))
    return [Rater(*row) for row in rows]


def hashed(token: str) -> str:
    """Return the hash of a token, as stored in the database."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def _rater(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> Rater | None:
    row = connection.execute(
        sa.select(*RATER_COLUMNS).where(*where, schema.raters.c.state != "revoked")
    ).first()
    return None if row is None else Rater(*row)
