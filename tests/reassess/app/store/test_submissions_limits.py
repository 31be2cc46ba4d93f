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
