"""What one rater can store has an end."""

import pytest
import sqlalchemy as sa

from manyhot.reassess.app.store import NewRemark, Vote, schema
from manyhot.reassess.app.store.submissions import MOST_CHANGES, MOST_REMARKS
from stores import NO, YES, filled, key, rater


def count(store, table):
    return store._database.read(lambda c: c.scalar(sa.select(sa.func.count()).select_from(table)))


@pytest.mark.parametrize("at_once", [True, False])
def test_remarks_of_a_page_are_limited(url, at_once):
    store = filled(url, pages=2)
    ann = rater(store)
    one, other = (visit.key for visit in store.queue(ann).visits)
    items = [NewRemark(key(), one, "x") for _ in range(MOST_REMARKS + 5)]
    receipts = [store.store(ann, part) for part in ([items] if at_once else [[item] for item in items])]
    refused = {name: why for receipt in receipts for name, why in receipt.refused.items()}
    assert refused == {item.key: "a page takes at most 20 remarks" for item in items[MOST_REMARKS:]}
    assert count(store, schema.remarks) == MOST_REMARKS
    # What is stored is acknowledged again, the next page has its own, and an image can still be skipped.
    assert store.store(ann, items[:1]).stored == [items[0].key]
    assert not store.store(ann, [NewRemark(key(), other, "x")]).refused
    assert not store.store(ann, [NewRemark(key(), one, "no image", skips=True)]).refused
    assert store.store(ann, [NewRemark(key(), one, "no image", skips=True)]).refused
    store.close()


@pytest.mark.parametrize("at_once", [True, False])
def test_changes_of_an_answer_are_limited(url, at_once):
    store = filled(url, pages=1)
    ann = rater(store)
    visit = store.queue(ann).visits[0]
    items = [Vote(key(), visit.key, 0, YES if n % 2 else NO) for n in range(MOST_CHANGES + 5)]
    receipts = [store.store(ann, part) for part in ([items] if at_once else [[item] for item in items])]
    refused = {name: why for receipt in receipts for name, why in receipt.refused.items()}
    why = "an answer can be changed at most 49 times"
    assert refused == {item.key: why for item in items[MOST_CHANGES:]}
    assert count(store, schema.votes) == MOST_CHANGES
    assert store.store(ann, items[:1]).stored == [items[0].key]
    assert not store.store(ann, [Vote(key(), visit.key, 1, YES)]).refused
    store.close()


def test_remarks_can_be_removed_and_not_changed(url):
    store = filled(url, pages=1)
    ann = rater(store)
    visit = store.queue(ann).visits[0]
    store.store(ann, [NewRemark(key(), visit.key, text) for text in ("one", "two")])
    with pytest.raises(sa.exc.DatabaseError, match="remarks are only added"):
        store._database.write(lambda c: c.execute(schema.remarks.update().values(text="other")))
    two, one = store.remarks()
    store.remove_remarks([two.id])
    assert store.remarks() == [one]
    store.close()


def votes(store):
    return store._database.read(
        lambda c: c.execute(sa.select(schema.votes.c.answer).order_by("id")).scalars().all()
    )


def test_an_older_answer_of_another_device_is_not_the_last(url):
    store = filled(url, pages=1, lease_minutes=600)
    ann = rater(store)
    visit = store.queue(ann).visits[0].key
    store._database.write(lambda c: c.execute(sa.update(schema.visits).values(shown_at=0)))
    minute = 60_000_000
    assert not store.store(ann, [Vote("phone-000001", visit, 0, NO, age=5 * minute)]).refused
    assert not store.store(ann, [Vote("laptop-00001", visit, 0, YES)]).refused
    late = store.store(ann, [Vote("phone-000002", visit, 0, NO, age=4 * minute)])
    assert late.refused == {"phone-000002": "you gave a later answer on another device"}
    assert votes(store) == [NO, YES]
    # One browser sends in order, whatever its clock says; and a later answer counts from any device.
    assert not store.store(ann, [Vote("laptop-00002", visit, 0, NO, age=9 * minute)]).refused
    assert not store.store(ann, [Vote("phone-000003", visit, 0, YES)]).refused
    assert votes(store) == [NO, YES, NO, YES]
    store.close()


def test_a_clock_that_jumps_ends_no_sessions(url, pass_time):
    store = filled(url, pages=1)
    ann, bob = rater(store), rater(store, "bob")
    session = store.begin_session(ann)
    pass_time(40 * 24 * 60)
    assert store.of_session(session) is None
    store.begin_session(bob)
    pass_time(-40 * 24 * 60)
    assert store.of_session(session).name == "ann"
    store.close()
