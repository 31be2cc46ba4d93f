"""A PostgreSQL server that goes down and comes back."""

import gc
import re
import socket
import struct
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from manyhot.errors import OutputError
from manyhot.reassess.app.store import Store, Vote
from manyhot.reassess.app.store.campaign_settings import get_value, put_value
from manyhot.reassess.app.store.database import Database
from scripts import load
from skipping import missing
from stores import NO, answer, filled, key, rater

TOOL = Path(__file__).parents[4] / "tools" / "postgres.py"


@pytest.fixture
def server():
    """Yield a server that a test may stop."""
    tool = load(TOOL)
    if tool.programs() is None:
        missing("PostgreSQL's programs")
    with tool.running() as started:
        yield started
    gc.collect()  # a socket that is still open fails the test that left it


def reset(sock):
    """Close a connection as a server does that was killed: what is on its way is lost."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def received(sock):
    """Read a message and its length, as the first two messages have them."""
    (size,) = struct.unpack("!i", sock.recv(4, socket.MSG_WAITALL))
    return sock.recv(size - 4, socket.MSG_WAITALL)


@pytest.fixture(params=["before it says whether it has TLS", "at the greeting", "at the first statement"])
def goes(request):
    """Yield the address of a server that accepts connections and resets each at some point."""
    messages = ["before it says whether it has TLS", "at the greeting", "at the first statement"]
    lasts = messages.index(request.param)

    def serve():
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            received(sock)
            if lasts > 0:
                sock.sendall(b"N")
                received(sock)
            if lasts > 1:
                sock.sendall(b"R" + struct.pack("!ii", 8, 0) + b"Z" + struct.pack("!i", 5) + b"I")
                sock.recv(1)
            reset(sock)

    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve)
    thread.start()
    yield f"postgresql://ann@127.0.0.1:{listening.getsockname()[1]}/campaign"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join(10)
    gc.collect()


def test_a_reset_is_told_as_the_databases_trouble(goes, log_records):
    database = Database(goes)
    for use in (database.write, database.read, database.read_together):
        with pytest.raises(OutputError, match="The database is not available") as raised:
            use(lambda c: get_value(c, "n"))
        # libpq's words, which depend on whether it has sent anything that was not answered.
        assert re.search("closed the connection unexpectedly|Connection reset by peer", str(raised.value))
    with pytest.raises(OutputError, match="The database cannot be opened"):
        database.upgrade()
    database.close()
    assert not log_records  # no traceback on the owner's terminal


def test_started_anew_between_two_changes_nobody_notices(server):
    database = Database(server.url)
    database.upgrade()
    database.write(lambda c: put_value(c, "before", 1))
    assert database.read(lambda c: get_value(c, "before")) == 1
    server.stop()
    server.start()
    database.write(lambda c: put_value(c, "after", 1))
    server.stop()
    server.start()
    assert database.read(lambda c: get_value(c, "after")) == 1
    database.close()


def test_while_it_is_down_we_say_so_and_afterwards_go_on(server):
    database = Database(server.url)
    database.upgrade()
    database.write(lambda c: put_value(c, "n", 1))
    server.stop()
    for use in (database.write, database.read):
        with pytest.raises(OutputError, match="The database is not available") as raised:
            use(lambda c: get_value(c, "n"))
        assert server.url in str(raised.value)
    with pytest.raises(OutputError, match="The database cannot be opened"):
        Store(server.url)
    server.start()
    assert database.write(lambda c: get_value(c, "n")) == 1
    assert database.read(lambda c: get_value(c, "n")) == 1
    database.close()


def test_lost_in_the_middle_of_a_change_it_is_made_once(server):
    database = Database(server.url)
    database.upgrade()
    database.write(lambda c: put_value(c, "count", 0))
    turns = []

    def add(connection):
        turns.append(1)
        put_value(connection, "count", get_value(connection, "count") + 1)
        if len(turns) == 1:
            server.stop()
            server.start()
        get_value(connection, "count")

    database.write(add)
    assert len(turns) == 2
    assert database.read(lambda c: get_value(c, "count")) == 1
    database.close()


@pytest.mark.slow
def test_answers_sent_again_through_restarts_are_there_once(server):
    store = filled(server.url, pages=40, classes=5)
    people = [rater(store, f"rater{n}") for n in range(4)]
    ended = threading.Event()
    acknowledged, raised = {}, []

    def send(who, vote):
        while True:
            try:
                stored = store.store(who, [vote])
            except OutputError:
                time.sleep(0.05)
            else:
                assert stored.stored == [vote.key]
                acknowledged[vote.key] = (who.id, vote.class_id)
                return

    def work(who):
        while not ended.is_set():
            try:
                queue = store.queue(who)
            except OutputError:
                time.sleep(0.05)
                continue
            if not queue.visits:
                return
            for c in queue.visits[0].shown:
                send(who, Vote(key(), queue.visits[0].key, c, NO))

    def run(who):
        try:
            work(who)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(who,)) for who in people]
    for thread in threads:
        thread.start()
    for _ in range(3):
        time.sleep(0.15)
        server.stop()
        time.sleep(0.1)
        server.start()
    until = time.monotonic() + 60
    while len(acknowledged) < 30 and time.monotonic() < until and not raised:
        time.sleep(0.05)
    ended.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    store.close()
    assert not raised
    import psycopg

    with psycopg.connect(server.url) as own:
        rows = own.execute(
            "SELECT v.key, v.rater_id, q.class_id FROM votes v JOIN questions q ON q.id = v.question_id"
        ).fetchall()
    assert sorted((k, *rest) for k, rest in acknowledged.items()) == sorted(rows)
    assert len(rows) >= 30


def test_what_a_campaign_is_filled_with_is_counted_for_the_planner(new_postgres):
    store = filled(new_postgres(), pages=7, classes=3)
    assert rows_by_table(store)["questions"] == 21
    store.close()


def rows_by_table(store):
    """Return how many rows PostgreSQL believes that tables have; -1 where it never counted."""
    query = sa.text("SELECT relname, reltuples FROM pg_class WHERE relkind = 'r'")
    return dict(store._database.read(lambda c: c.execute(query).all()))


def test_two_stores_at_once_give_no_slot_twice(new_postgres):
    url = new_postgres()
    first = filled(url, pages=30)
    second = Store(url)
    people = [rater(first, f"rater{n}") for n in range(8)]

    def work(store, who):
        while visits := store.queue(who).visits:
            answer(store, who, visits[0])

    threads = [
        threading.Thread(target=work, args=((first, second)[n % 2], who)) for n, who in enumerate(people)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    from stores import answers_by_question

    assert {len(names) for names in answers_by_question(first).values()} == {1}
    assert len(answers_by_question(first)) == 90
    first.close()
    second.close()


def test_a_new_database_has_no_statistics_of_empty_tables(server):
    """With them, PostgreSQL plans for tables without rows, and compares each answer with each visit."""
    store = filled(server.url, pages=3, classes=2)
    query = "SELECT relname, reltuples FROM pg_class WHERE relname IN ('questions', 'visits', 'votes')"
    with store._database._reads.connect() as connection:
        counted = dict(connection.exec_driver_sql(query).all())
    store.close()
    assert counted == {"questions": 6, "visits": -1, "votes": -1}  # -1: never counted
