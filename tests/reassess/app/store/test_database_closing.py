"""A database that is closed while somebody reads, as votes are counted while the app ends."""

import gc
import threading
import time

import pytest

from manyhot.errors import OutputError
from stores import filled


def test_who_reads_reads_to_the_end_and_nobody_begins_to(url):
    """A connection that was in use stayed open, until a later test was blamed for it."""
    store = filled(url)
    begun, go, came = threading.Event(), threading.Event(), []

    def slowly(connection):
        begun.set()
        assert go.wait(30)
        return connection.exec_driver_sql("SELECT 1").scalar()

    def hear(what):
        try:
            came.append(what())
        except Exception as error:
            came.append(error)

    readers = [
        threading.Thread(target=hear, args=(lambda read=read: read(slowly),))
        for read in (store._database.read, store._database.read_together)
    ]
    for reader in readers:
        reader.start()
        assert begun.wait(30)
        begun.clear()
    closing = threading.Thread(target=store.close)
    closing.start()
    while not store._database._closed:
        time.sleep(0.01)
    for late in (store.settings, lambda: store.read_all(lambda c: []), lambda: store.invite("ann")):
        with pytest.raises(OutputError) as raised:
            late()
        assert str(raised.value).startswith("The database is closed: the app is shutting down.\n  where:   ")
    assert closing.is_alive()
    go.set()
    for thread in (*readers, closing):
        thread.join(30)
    assert came == [1, 1]
    assert store._database._reads.pool.checkedout() == store._database._writes.pool.checkedout() == 0
    gc.collect()  # a socket that is open still is an error here
