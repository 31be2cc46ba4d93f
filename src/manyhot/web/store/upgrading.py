"""The tables of a new database, and those of an earlier version brought up to date."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from manyhot.errors import InputError, OutputError
from manyhot.web.store import engines, schema

_VERSION = "alembic_version"


def upgrade(engine: sa.Engine) -> None:
    """Make the tables of a database, or change those of an earlier version.

    All or nothing, and one process at a time.

    Raises
    ------
    InputError
        The database is of a later version, or holds something else.
    OutputError
        It cannot be opened.
    """
    config, where = _config(), engines.where(engine)
    try:
        with engine.connect() as reading:
            if version(reading) == ScriptDirectory.from_config(config).get_current_head():
                return
        with engine.connect().execution_options(begin="BEGIN IMMEDIATE") as connection, connection.begin():
            engines.lock(connection)
            _check(connection, config, where)  # another process may have been faster
            _go(connection, config, "head")
    except sa.exc.DBAPIError as error:
        raise OutputError(
            "The database cannot be opened.",
            where=where,
            got=engines.said(error),
            do="check the address and that the server runs",
        ) from error


def make(
    engine: sa.Engine, revision: str, fill: Callable[[sa.Connection], None], before_commit: Callable[[], None]
) -> None:
    """Make the tables of a revision in an empty database, fill them, bring them up to date; all or nothing.

    Raises
    ------
    InputError
        The database holds something, or there is no such revision.
    """
    config, where = _config(), engines.where(engine)
    _check_known(revision, config, "The backup")
    with engine.connect().execution_options(begin="BEGIN IMMEDIATE") as connection, connection.begin():
        engines.lock(connection)
        if standing := sa.inspect(connection).get_table_names():
            raise InputError(
                "The database is not empty.",
                where=where,
                got=", ".join(sorted(standing)),
                do="restore into a new one",
            )
        _go(connection, config, revision)
        fill(connection)
        _go(connection, config, "head")
        before_commit()


def version(connection: sa.Connection) -> str | None:
    """Return the revision of a database's tables; None where it has none."""
    if not sa.inspect(connection).has_table(_VERSION):
        return None
    found: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {_VERSION}"))  # noqa: S608
    return found


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _go(connection: sa.Connection, config: Config, revision: str) -> None:
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _check_known(revision: str, config: Config, what: str, where: str | None = None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision not in known:
        raise InputError(
            f"{what} was made by a later manyhot.",
            where=where,
            got=f"version {revision}",
            allowed=f"version {max(known)} and earlier",
            do="upgrade manyhot",
        )


def _check(connection: sa.Connection, config: Config, where: str) -> None:
    standing = version(connection)
    if standing is not None:
        _check_known(standing, config, "The database", where)
        return
    strange = sorted(set(sa.inspect(connection).get_table_names()) & set(schema.metadata.tables))
    if strange:
        raise InputError(
            "The database holds tables of something else.",
            where=where,
            got=", ".join(strange),
            do="make a database for this campaign alone",
        )
