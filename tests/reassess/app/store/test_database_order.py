"""Parts of a long change give way to all other changes."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from manyhot.reassess.app.store.database import Database


def test_a_part_of_a_long_change_comes_after_all_that_wait(url, monkeypatch):
    database, holds, begins = Database(url), threading.Event(), threading.Event()
    batches, made = [], database._made
    monkeypatch.setattr(database, "_made", lambda batch: (batches.append(len(batch)), made(batch))[1])
    order = []
    database.begin(lambda _: (begins.set(), holds.wait(10)))
    assert begins.wait(10)

    def part(_, others_wait):
        order.append("part")
        assert not others_wait()
        waiting = database.begin(lambda _: order.append("later"))
        assert others_wait()
        return waiting

    with ThreadPoolExecutor(1) as pool:
        last = pool.submit(database.write_last, part)
        while database._queue.empty():
            time.sleep(0.001)
        others = [database.begin(lambda _, n=n: order.append(n)) for n in range(3)]
        holds.set()
        last.result(10).result(10)
    assert order == [0, 1, 2, "part", "later"]
    assert all(one.done() for one in others)
    assert batches == [1, 3, 1, 1]  # the part has a transaction of its own
    database.close()
