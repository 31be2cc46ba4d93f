"""The tables of a new database, and those of an earlier version brought up to date."""

from __future__ import annotations

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
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    where = engine.url.render_as_string(hide_password=True)
    try:
        with engine.connect() as reading:
            if _version(reading) == ScriptDirectory.from_config(config).get_current_head():
                return
        with engine.connect().execution_options(begin="BEGIN IMMEDIATE") as connection, connection.begin():
            engines.lock(connection)
            _check(connection, config, where)  # another process may have been faster
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except sa.exc.DBAPIError as error:
        raise OutputError(
            "The database cannot be opened.",
            where=where,
            got=engines.said(error),
            do="check the address and that the server runs",
        ) from error


def _check(connection: sa.Connection, config: Config, where: str) -> None:
    version = _version(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if version is not None and version not in known:
        raise InputError(
            "The database was made by a later manyhot.",
            where=where,
            got=f"version {version}",
            allowed=f"version {max(known)} and earlier",
            do="upgrade manyhot",
        )
    strange = sorted(set(sa.inspect(connection).get_table_names()) & set(schema.metadata.tables))
    if version is None and strange:
        raise InputError(
            "The database holds tables of something else.",
            where=where,
            got=", ".join(strange),
            do="make a database for this campaign alone",
        )


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(_VERSION):
        return None
    version: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {_VERSION}"))  # noqa: S608
    return version
