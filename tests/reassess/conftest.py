"""Databases of both kinds for tests of the app."""

from __future__ import annotations

import itertools
import os
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
def real_hasher():
    """Hash passwords at no cost: on purpose it takes 0.1 s and 64 MB. Yields what the app has."""
    with pytest.MonkeyPatch.context() as patch:
        real = accounts._HASHER
        patch.setattr(accounts, "_HASHER", argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
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
    with tool.running("fsync=off") as server:
        yield server.url


@pytest.fixture
def new_postgres(postgres):
    """Yield a function that makes an empty database and returns its address."""
    engine = sa.create_engine(
        sa.make_url(postgres).set(drivername="postgresql+pg8000"), isolation_level="AUTOCOMMIT"
    )
    made = []

    def make():
        name = f"test_{os.getpid()}_{next(_numbers)}"
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        made.append(name)
        return sa.make_url(postgres).set(database=name).render_as_string(hide_password=False)

    yield make
    with engine.connect() as connection:
        for name in made:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """Return the address of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'annotation.sqlite'}"
    return request.getfixturevalue("new_postgres")()


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
    monkeypatch.setattr("manyhot.reassess.app.progress.WAIT", 30.0)
