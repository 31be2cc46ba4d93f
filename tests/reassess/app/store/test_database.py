"""One writer: each change stands or falls alone, and nobody waits for ever."""

import json
import os
import signal
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from forking import Forks
from manyhot.errors import InputError, OutputError
from manyhot.reassess.app.store import Store, engines, schema
from manyhot.reassess.app.store.campaign_settings import get_value, put_value
from manyhot.reassess.app.store.database import Database
from stores import answer, filled, rater

processes = Forks(
    ("manyhot.reassess.app.store", "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql.psycopg")
)

SOME = """
import json, os, sys
script, n = sys.argv.pop(), int(sys.argv.pop())
children = []
while len(children) < n and (child := os.fork()):
    children.append(child)
if len(children) == n:
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]))
else:
    exec(script)
"""


def codes_at_once(n, script, url):
    """Run a script in n processes at once, and return their exit codes."""
    return json.loads(processes.run(url, n, script, script=SOME).stdout)


@pytest.fixture
def database(empty_url):
    opened = Database(empty_url)
    opened.upgrade()
    yield opened
    opened.close()


def keep(name, value=1):
    return lambda connection: put_value(connection, name, value)


def kept(database, *names):
    return [database.read(lambda c, name=name: get_value(c, name)) for name in names]


def at_once(database, *changes):
    """Make changes that wait for the same transaction; return what each returned or raised."""
    holds, begins = threading.Event(), threading.Event()

    def first(_):
        begins.set()
        holds.wait(10)

    def outcome(change):
        try:
            return database.write(change)
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(changes) + 1) as pool:
        holding = pool.submit(database.write, first)
        begins.wait(10)
        waiting = []
        for number, change in enumerate(changes, start=1):  # in this order
            waiting.append(pool.submit(outcome, change))
            while database._queue.qsize() < number:
                time.sleep(0.001)
        holds.set()
        holding.result(10)
        return [w.result(10) for w in waiting]


def held(database):
    """Keep the writer from working; return what lets it go on."""
    holds, begins = threading.Event(), threading.Event()
    database.begin(lambda _: (begins.set(), holds.wait(10)))
    begins.wait(10)
    return holds.set


def test_only_some_changes_are_made_together(database, monkeypatch):
    monkeypatch.setattr("manyhot.reassess.app.store.database.TOGETHER", 3)
    sizes = []

    def change(_, items):
        sizes.append(len(items))
        return items

    go_on = held(database)
    futures = [database.begin_with_others(change, number) for number in range(7)]
    go_on()
    assert [future.result(10) for future in futures] == [*range(7)]
    assert sizes == [3, 3, 1]


def test_long_changes_do_not_hold_up_others(database, monkeypatch):
    """Of five long changes, two are made per transaction; what came after them is made before them."""
    made, transactions = [], []
    together = database._together

    def noted(batch, apart):
        transactions.append(len(batch))
        return together(batch, apart)

    monkeypatch.setattr(database, "_together", noted)

    def long(_, items):
        made.extend(items)
        return items

    go_on = held(database)
    futures = [database.begin_with_others(long, number, most=2) for number in range(5)]
    other = database.begin(lambda _: made.append("other"))
    go_on()
    assert [future.result(10) for future in futures] == [*range(5)]
    other.result(10)
    assert made == ["other", 0, 1, 2, 3, 4]
    assert transactions[-4:] == [1, 2, 2, 1]


def test_what_many_want_is_done_once(database):
    calls = []

    def put_all(connection, items):
        calls.append(items)
        for item in items:
            put_value(connection, item, item)
        return [item.upper() for item in items]

    go_on = held(database)
    futures = [database.begin_with_others(put_all, name) for name in "abc"]
    other = database.begin(keep("other"))
    futures += [database.begin_with_others(put_all, name) for name in "de"]
    go_on()
    assert [future.result(10) for future in futures] == list("ABCDE")
    other.result(10)
    assert calls == [list("abcde")]
    assert kept(database, "a", "e", "other") == ["a", "e", 1]


def test_one_of_many_that_fails_falls_alone(database):
    def put_all(connection, items):
        for item in items:
            put_value(connection, item, 1)
            if item == "bad":
                raise ZeroDivisionError(item)
        return items

    go_on = held(database)
    futures = [database.begin_with_others(put_all, name) for name in ("a", "bad", "b")]
    go_on()
    assert [futures[0].result(10), futures[2].result(10)] == ["a", "b"]
    with pytest.raises(ZeroDivisionError, match="bad"):
        futures[1].result(10)
    assert kept(database, "a", "bad", "b") == [1, None, 1]


def test_who_waits_no_more_holds_up_nobody(database):
    go_on = held(database)
    gone, stays = database.begin(keep("gone")), database.begin(keep("stays"))
    assert gone.cancel()
    go_on()
    stays.result(10)
    assert kept(database, "gone", "stays") == [None, 1]
    assert not stays.cancel()


def test_a_change_that_raises_falls_alone(database):
    def fails(connection):
        put_value(connection, "half", 1)
        raise ZeroDivisionError

    def wrong(connection):
        put_value(connection, "wrong", 1)
        connection.execute(sa.text("SELECT * FROM nowhere"))

    found = at_once(database, keep("before"), fails, keep("between"), wrong, keep("after"))
    assert isinstance(found[1], ZeroDivisionError)
    assert isinstance(found[3], sa.exc.DBAPIError)
    assert found[0::2] == [None, None, None]
    assert kept(database, "before", "half", "between", "wrong", "after") == [1, None, 1, None, 1]


def test_a_change_alone_that_raises_leaves_nothing(database):
    def fails(connection):
        put_value(connection, "half", 1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        database.write(fails)
    assert kept(database, "half") == [None]
    database.write(keep("next"))
    assert kept(database, "next") == [1]


def test_what_ends_a_thread_ends_no_waiting(database):
    def leaves(_):
        raise SystemExit

    with pytest.raises(SystemExit):
        database.write(leaves)
    database.write(keep("next"))
    assert kept(database, "next") == [1]


def test_closing_makes_what_waits_and_refuses_more(database, empty_url):
    begun, going_on = threading.Event(), threading.Event()

    def change(connection):
        begun.set()
        assert going_on.wait(30)
        put_value(connection, "slow", 1)

    slow = threading.Thread(target=lambda: database.write(change))
    slow.start()
    assert begun.wait(30)
    closing = threading.Thread(target=database.close)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()  # it waits for what has begun
    going_on.set()
    closing.join(30)
    assert not closing.is_alive()
    slow.join(5)
    with pytest.raises(OutputError, match="The database is closed: the app is shutting down"):
        database.write(keep("late"))
    with pytest.raises(OutputError, match="The database is closed: the app is shutting down"):
        kept(database, "slow")
    again = Database(empty_url)
    assert kept(again, "slow", "late") == [1, None]
    again.close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_does_not_wait_for_a_writer_that_it_does_not_have(database):
    database.write(keep("here"))
    child = os.fork()
    if not child:
        try:
            database.write(keep("there"))
        except RuntimeError as error:
            os._exit(7 if str(error) == "A database can be used only in the process that opened it." else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_fifty_at_once_are_all_there(database):
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda n: database.write(keep(f"n{n}", n)), range(200)))
    assert kept(database, *(f"n{n}" for n in range(200))) == list(range(200))


def test_two_processes_lose_no_change(url):
    """Each counts to 100: read, add one, write. Without the lock, some would be lost."""
    count = """if True:
        import sys
        from manyhot.reassess.app.store.database import Database
        from manyhot.reassess.app.store.campaign_settings import get_value, put_value
        database = Database(sys.argv[1])
        for _ in range(100):
            database.write(lambda c: put_value(c, "n", get_value(c, "n") + 1))
        database.close()
    """
    database = Database(url)
    database.upgrade()
    database.write(keep("n", 0))
    assert codes_at_once(2, count, url) == [0, 0]
    assert kept(database, "n") == [200]
    database.close()


# SQLite's own troubles.


@pytest.fixture
def lite(tmp_path):
    opened = Database(f"sqlite:///{tmp_path / 'annotation.sqlite'}")
    opened.upgrade()
    yield opened
    opened.close()


def test_sqlite_is_sure_of_each_commit(lite):
    def pragmas(connection):
        return [connection.exec_driver_sql(f"PRAGMA {p}").scalar() for p in ("journal_mode", "synchronous")]

    assert lite.read(pragmas) == lite.write(lambda c: pragmas(c)) == ["wal", 2]


def test_locked_by_another_process_says_so_and_goes_on(lite, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "_BUSY_MS", 100)
    impatient = Database(f"sqlite:///{tmp_path / 'annotation.sqlite'}")
    other = sqlite3.connect(tmp_path / "annotation.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OutputError) as raised:
        impatient.write(keep("a"))
    assert str(raised.value) == (
        "The database is not available.\n"
        f"  where:   sqlite:///{tmp_path / 'annotation.sqlite'}\n"
        "  got:     database is locked\n"
        "  do:      check that the disk has free space and that the server is running"
    )
    assert kept(impatient, "a") == [None]
    other.execute("ROLLBACK")
    other.close()
    impatient.write(keep("a"))
    assert kept(impatient, "a") == [1]
    impatient.close()


def test_a_full_disk_loses_nothing_that_was_kept(tmp_path):
    """In a process of its own: a limit on the size of files is what a full disk is to SQLite."""
    script = """if True:
        import resource, signal, sys
        from manyhot.errors import OutputError
        from manyhot.reassess.app.store.database import Database
        from manyhot.reassess.app.store.campaign_settings import get_value, put_value
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        database = Database(sys.argv[1])
        database.upgrade()
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
        kept, refused = [], 0
        for n in range(200):
            try:
                database.write(lambda c: put_value(c, f"n{n}", "x" * 20_000))
                kept.append(n)
            except OutputError as error:
                refused += 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        database.write(lambda c: put_value(c, "after", 1))
        there = [n for n in range(200) if database.read(lambda c: get_value(c, f"n{n}")) is not None]
        assert there == kept, (there, kept)
        assert kept and refused, (len(kept), refused)
        database.close()
    """
    path = tmp_path / "annotation.sqlite"
    processes.run(f"sqlite:///{path}", script=script)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_a_transaction_that_sqlite_dropped_takes_all_of_its_changes_with_it(lite):
    def drops(connection):
        connection.exec_driver_sql("ROLLBACK")  # as SQLite does where it cannot write
        full = sqlite3.OperationalError("database or disk is full")
        full.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise sa.exc.OperationalError("", {}, full)

    found = at_once(lite, keep("before"), drops, keep("after"))
    assert [type(f) for f in found] == [OutputError] * 3
    assert kept(lite, "before", "after") == [None, None]
    lite.write(keep("next"))
    assert kept(lite, "next") == [1]


def test_killed_while_it_writes_what_was_acknowledged_is_there(tmp_path):
    script = """if True:
        import os, sys, threading
        from manyhot.reassess.app.store.database import Database
        from manyhot.reassess.app.store.campaign_settings import put_value
        database = Database(sys.argv[1])
        database.upgrade()
        def work(name):
            n = 0
            while True:
                database.write(lambda c: put_value(c, f"{name}-{n}", n))
                os.write(1, f"{name}-{n}\\n".encode())
                n += 1
        for name in "abcd":
            threading.Thread(target=work, args=(name,)).start()
    """
    path = tmp_path / "annotation.sqlite"
    for wait in (0.05, 0.3, 0.7):
        folder = tmp_path / str(wait)
        folder.mkdir()
        printed = folder / "stdout"
        printed.touch()  # the process makes it only when it has begun
        running = processes.start(f"sqlite:///{path}", folder=folder, script=script)
        try:
            while "\n" not in printed.read_text() and running.poll() is None:
                time.sleep(0.01)
            time.sleep(wait)
        finally:
            running.kill()
        ended = running.wait()
        told = set(ended.stdout.split("\n")[:-1])
        with sqlite3.connect(path) as connection:
            there = {key for (key,) in connection.execute("SELECT key FROM settings")}
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert told
        assert told <= there


# Tables.


def test_the_migrations_make_what_the_schema_says(database):
    def differences(connection):
        return compare_metadata(MigrationContext.configure(connection), schema.metadata)

    assert database.read(differences) == []


def test_the_check_of_migrations_can_fail(database):
    database.write(lambda c: c.execute(sa.text("ALTER TABLE settings ADD COLUMN more TEXT")))
    assert database.read(lambda c: compare_metadata(MigrationContext.configure(c), schema.metadata))


def test_going_back_leaves_nothing(empty_url):
    from alembic import command

    from manyhot.reassess.app.store import schema

    engine = engines.writer(empty_url)
    schema.upgrade_tables(engine)
    config = schema._config()
    with engine.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        assert set(sa.inspect(connection).get_table_names()) <= {"alembic_version"}
    schema.upgrade_tables(engine)
    engine.dispose()


def test_an_earlier_database_is_upgraded_with_what_it_holds(url):
    from alembic import command

    from manyhot.reassess.app.store import NewRemark, schema

    store = filled(url)
    ann = rater(store)
    store.store(ann, [NewRemark("remark-1", store.queue(ann).visits[0].key, "a remark")])
    store.close()
    engine, config = engines.writer(url), schema._config()
    with engine.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError, match="remarks are only added"):
        connection.execute(sa.text("DELETE FROM remarks"))
    engine.dispose()
    store = Store(url)
    (remark,) = store.remarks()
    store.remove_remarks([remark.id])
    assert store.remarks() == []
    store.close()


def test_a_database_of_a_later_version_is_refused(url):
    database = Database(url)
    database.upgrade()
    database.write(lambda c: c.execute(sa.text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(InputError) as raised:
        database.upgrade()
    assert str(raised.value) == (
        "The database was made by a later version of manyhot.\n"
        f"  where:   {url}\n"
        "  got:     version 9999\n"
        "  allowed: version 0004 and earlier\n"
        "  do:      upgrade manyhot"
    )
    database.close()


def test_a_database_of_something_else_is_left_alone(empty_url):
    engine = engines.writer(empty_url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE images (id INTEGER)"))
    with pytest.raises(InputError) as raised:
        Store(empty_url)
    assert str(raised.value) == (
        "The database contains tables of another program.\n"
        f"  where:   {empty_url}\n"
        "  got:     images\n"
        "  do:      use a separate database for this campaign"
    )
    assert sa.inspect(engine).get_table_names() == ["images"]
    engine.dispose()


def test_two_processes_that_start_at_once_migrate_once(empty_url):
    start = "import sys; from manyhot.reassess.app.store import Store; Store(sys.argv[1]).close()"
    assert codes_at_once(3, start, empty_url) == [0, 0, 0]
    database = Database(empty_url)
    assert database.read(lambda c: c.scalar(sa.text("SELECT version_num FROM alembic_version"))) == "0004"
    database.close()


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("nonsense", "This is not a valid address of a database."),
        ("sqlite://", "This kind of database is not supported."),
        ("mysql://host/name", "This kind of database is not supported."),
        ("postgresql://host:port/name", "This is not a valid address of a database."),
    ],
)
def test_addresses_that_are_none(address, what):
    with pytest.raises(InputError) as raised:
        Database(address)
    assert str(raised.value) == (
        f"{what}\n  got:     {address}\n  allowed: sqlite:///PATH or postgresql://HOST/NAME"
    )


def test_a_database_that_cannot_be_opened(tmp_path):
    where = f"sqlite:///{tmp_path / 'nowhere' / 'a.sqlite'}"
    with pytest.raises(OutputError) as raised:
        Store(where)
    assert str(raised.value) == (
        "The database cannot be opened.\n"
        f"  where:   {where}\n"
        "  got:     unable to open database file\n"
        "  do:      check the address and that the server is running"
    )


# Facts.


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("votes", "UPDATE {} SET key = 'other'"),
        ("votes", "DELETE FROM {}"),
        ("remarks", "UPDATE {} SET key = 'other'"),  # the owner may remove them
    ],
)
def test_the_database_itself_refuses_to_change_what_was_answered(url, table, statement):
    from manyhot.reassess.app.store import NewRemark

    store = filled(url)
    ann = rater(store)
    visit = store.queue(ann).visits[0]
    answer(store, ann, visit)
    store.store(ann, [NewRemark("remark-1", visit.key, "a remark")])
    with pytest.raises(sa.exc.DBAPIError, match=f"{table} are only added"):
        store._database.write(lambda c: c.execute(sa.text(statement.format(table))))
    store.close()


def test_errors_hold_nothing_that_raters_wrote(database):
    with pytest.raises(sa.exc.DBAPIError) as raised:
        database.write(lambda c: c.execute(sa.text("SELECT * FROM nowhere WHERE a = :a"), {"a": "my secret"}))
    assert "my secret" not in str(raised.value)
