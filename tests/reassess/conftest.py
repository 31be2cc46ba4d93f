"""Databases of both kinds for tests of the app."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import argon2
import pytest
import sqlalchemy as sa

from manyhot.reassess.app.store import accounts, database
from scripts import load
from skipping import missing

TOOL = Path(__file__).parents[2] / "tools" / "postgres.py"
_numbers = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def real_hashes():
    """Hash passwords at no cost: on purpose it takes 0.1 s and 64 MB. Yields what the app has, by name."""
    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    cheaply = {"_HASHER": cheap, "_NOBODY": cheap.hash("nobody's")}
    with pytest.MonkeyPatch.context() as patch:
        real = {name: getattr(accounts, name) for name in cheaply}
        for name, value in cheaply.items():
            patch.setattr(accounts, name, value)
        yield real


@pytest.fixture(scope="session")
def postgres():
    """Yield the address of a PostgreSQL server: the one that MANYHOT_POSTGRES names, or one of our own."""
    if address := os.environ.get("MANYHOT_POSTGRES"):
        yield address
        return
    tool = load(TOOL)
    if tool.programs() is None:
        missing("PostgreSQL: its programs, or MANYHOT_POSTGRES=postgresql://USER@HOST/NAME")
    with tool.running(*tool.VOLATILE) as server:
        yield server.url


@pytest.fixture(scope="session")
def administration(postgres):
    """Yield an engine that creates and drops databases; its connection serves all tests."""
    address = sa.make_url(postgres).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(address, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


@contextlib.contextmanager
def new_databases(engine):
    """Yield a function that makes a database, empty or like another, and returns its name; drop them all."""
    made = []

    def make(template="template1"):
        name = f"test_{os.getpid()}_{next(_numbers)}"
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        made.append(name)
        return name

    yield make
    with engine.connect() as connection:
        for name in made:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


def address(postgres, name):
    """Return the address of a database of a server."""
    return sa.make_url(postgres).set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def new_postgres(postgres, administration):
    """Yield a function that makes an empty database and returns its address."""
    with new_databases(administration) as make:
        yield lambda: address(postgres, make())


def create_tables(url):
    """Create the tables as the app does."""
    created = database.Database(url)
    created.upgrade()
    created.close()


@pytest.fixture(scope="session")
def postgres_with_tables(postgres, administration):
    """Yield the name of a database that has the tables and nothing else."""
    with new_databases(administration) as make:
        name = make()
        create_tables(address(postgres, name))
        yield name


@pytest.fixture(scope="session")
def sqlite_with_tables(tmp_path_factory):
    """Return the path of a database that has the tables and nothing else."""
    path = tmp_path_factory.mktemp("tables") / "annotation.sqlite"
    create_tables(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request, tmp_path):
    """Return the address of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'annotation.sqlite'}"
    return request.getfixturevalue("new_postgres")()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """Yield the address of a database of each kind that has the tables.

    To create them takes 110 ms in PostgreSQL and 30 ms in SQLite, which are copied here.
    """
    if request.param == "sqlite":
        path = shutil.copy(request.getfixturevalue("sqlite_with_tables"), tmp_path / "annotation.sqlite")
        yield f"sqlite:///{path}"
        return
    postgres, engine, template = map(
        request.getfixturevalue, ("postgres", "administration", "postgres_with_tables")
    )
    with new_databases(engine) as make:
        yield address(postgres, make(template))


@pytest.fixture
def pass_time(monkeypatch):
    """Return a function that lets minutes pass."""
    state = {"minutes": 0.0, "ticks": 0}

    def time_ns():
        state["ticks"] += 1
        return 1_700_000_000 * 10**9 + int(state["minutes"] * 60 * 10**9) + state["ticks"] * 1000

    monkeypatch.setattr(database, "time", SimpleNamespace(time_ns=time_ns))

    def jump(minutes=61.0):
        state["minutes"] += minutes

    return jump


@pytest.fixture(autouse=True)
def _counted(monkeypatch):
    """Let pages wait until votes are counted, however busy the machine is."""
    monkeypatch.setattr("manyhot.reassess.app.cached_value.WAIT", 30.0)
