"""Where the app keeps answers: the database of a campaign, and the packages that it needs."""

from __future__ import annotations

import contextlib
import importlib
import os
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from manyhot.console import without_passwords
from manyhot.errors import InputError, MissingExtraError
from manyhot.parameters import FromEnvironment, Shown
from manyhot.tables import Campaign

if TYPE_CHECKING:
    from manyhot.reassess.app.store import Store

DATABASE = "annotation.sqlite"
"""The database of the annotation app, where it is a file in the folder of the campaign."""

_VARIABLE = "MANYHOT_DATABASE"

# Arguments of a command are seen by all who use the machine; its environment is not.
DatabaseAddress = Annotated[str | None, Shown("ADDRESS"), FromEnvironment(_VARIABLE)]


def database_option(database: str | None) -> str:
    """Return the option for a command to come; nothing where the environment gives the address."""
    if database is None or database == os.environ.get(_VARIABLE):
        return ""
    return f" --database {shlex.quote(without_passwords(database))}"


def web_extra() -> Any:
    """Return `manyhot.reassess.app`, whose packages are there.

    Raises
    ------
    MissingExtraError
        They are not.
    """
    try:
        from manyhot.reassess import app

        importlib.import_module("manyhot.reassess.app.app")
    except ImportError as error:
        raise MissingExtraError(
            "The annotation app needs packages that are not installed.",
            got=error,
            do='pip install "manyhot[web]"',
        ) from error
    return app


def address_of(campaign: Campaign, database: str | None) -> str:
    """Return the address of the database of a campaign."""
    return database or f"sqlite:///{campaign.folder / DATABASE}"


@contextlib.contextmanager
def open_store(campaign: Campaign, database: str | None) -> Iterator[Store]:
    """Open the database of a campaign that has one.

    Raises
    ------
    InputError
        It has none yet.
    """
    web = web_extra()
    nobody = InputError(
        "Nobody has answered questions of this campaign yet.",
        where=campaign.folder,
        got=f"no {DATABASE} in it" if database is None else "an empty database",
        do=f"ask: manyhot annotate {campaign.folder}",
    )
    if database is None and not (campaign.folder / DATABASE).is_file():
        raise nobody
    store = web.Store(address_of(campaign, database))
    try:
        if not store.is_filled():
            raise nobody
        yield store
    finally:
        store.close()
