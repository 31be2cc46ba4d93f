"""The golden pages that come first are not got around by skipping them."""

from manyhot.reassess.app.store import NewRemark
from stores import NO, YES, answer, filled, key, rater


def skip(store, who, visit):
    store.store(who, [NewRemark(key(), visit.key, "The image cannot be shown.", skips=True)])


def qualified(store, name="ann"):
    return next(r.qualified for r in store.raters() if r.name == name)


def test_another_page_comes_for_one_that_was_skipped(url):
    store = filled(url, pages=2, golden=3, qualify=2, least_informedness=0.5)
    ann = rater(store, "ann")
    first, second = store.queue(ann).visits
    skip(store, ann, first)
    answer(store, ann, second, [0], YES)
    assert [v.name[:6] for v in store.queue(ann).visits] == ["golden", "golden"]
    for visit in store.queue(ann).visits:
        for c in visit.shown:
            answer(store, ann, visit, [c], YES if c == 0 else NO)
    assert store.queue(ann).reason == ""
    assert qualified(store)
    store.close()


def test_who_skips_in_part_does_not_get_around_it(url):
    """One answer, that the truth of which is no, and nobody can tell: the rater would go on."""
    store = filled(url, pages=2, golden=2, qualify=2, least_informedness=0.5)
    ann = rater(store, "ann")
    for visit in store.queue(ann).visits:
        answer(store, ann, visit, [1], NO)
        skip(store, ann, visit)
    assert store.queue(ann).reason == "stopped"
    assert qualified(store) is False
    store.close()


def test_who_skips_all_is_for_the_owner_to_look_at(url):
    store = filled(url, pages=2, golden=2, qualify=2, least_informedness=-1.0)
    ann = rater(store, "ann")
    for visit in store.queue(ann).visits:
        skip(store, ann, visit)
    assert store.queue(ann).reason == "stopped"
    store.let_go_on(ann.id)
    assert {v.name for v in store.queue(ann).visits} == {"0.jpg", "1.jpg"}
    store.close()
