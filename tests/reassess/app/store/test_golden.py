"""The golden pages that come first are not got around by skipping them."""

from manyhot.reassess.app.store import CampaignSettings, ImageQuestions, NewRemark, Store
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
    queue = store.queue(ann)
    assert (queue.reason, queue.stopped_for) == ("stopped", "not qualified")
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


def test_each_rater_has_an_order_of_golden_pages(url):
    store = filled(url, pages=1, golden=12, qualify=3)
    first = [tuple(v.page for v in store.queue(rater(store, f"rater {n}")).visits) for n in range(6)]
    assert all(len(set(pages)) == 3 for pages in first)
    assert len(set(first)) > 3  # of 1,320 orders, six are hardly ever the same
    ann = rater(store, "ann")
    assert [v.page for v in store.queue(ann).visits] == [v.page for v in store.queue(ann).visits]
    store.close()


def test_who_always_says_no_does_not_qualify_on_pages_without_a_yes(url):
    """Of eight golden pages, one has a class that is there: two at random hardly ever include it."""
    store = Store(url)
    asked = [ImageQuestions(f"golden{n}", "", 0, (0,), {0: n == 0}) for n in range(8)]
    store.fill([*asked, ImageQuestions("a", "", 0, (0,))], [], CampaignSettings(raters=9, qualify=2), "x")
    for name in "abcdef":
        who = rater(store, name)
        visits = store.queue(who).visits
        assert "golden0" in [visit.name for visit in visits]
        assert len(visits) == 2
        for visit in visits:
            answer(store, who, visit, value=NO)
        assert store.queue(who).reason == "stopped"
        assert qualified(store, name) is False
    store.close()


def state(store, who):
    return next((r.state, r.stopped_for) for r in store.raters() if r.id == who.id)


def work(store, who, right, pages):
    """Answer some pages, golden questions right or wrong; return whether the rater may go on."""
    for _ in range(pages):
        visits = store.queue(who).visits
        if not visits:
            return False
        for c in visits[0].shown:
            is_golden = visits[0].name.startswith("golden")
            answer(store, who, visits[0], [c], YES if (c == 0) == (right or not is_golden) else NO)
    return bool(store.queue(who).visits)


def test_who_fails_golden_pages_later_is_stopped(url, pass_time):
    store = filled(url, pages=3, golden=40, qualify=2, golden_every=1, golden_latest=4)
    ann = rater(store)
    assert work(store, ann, True, 6)
    assert not work(store, ann, False, 6)
    assert state(store, ann) == ("stopped", "golden pages")
    store.let_go_on(ann.id)
    assert state(store, ann) == ("active", None)
    assert work(store, ann, True, 5)  # what was before does not count any more
    assert not work(store, ann, False, 6)
    store.close()


def test_who_answers_faster_than_people_is_stopped(url, pass_time):
    store = filled(url, pages=80, classes=1, least_seconds=2.0)
    fast, slow = rater(store, "fast"), rater(store, "slow")
    for _ in range(24):
        if visits := store.queue(slow).visits:
            pass_time(2.5 / 60)
            answer(store, slow, visits[0])
    assert state(store, slow) == ("active", None)
    done = 0
    while visits := store.queue(fast).visits:
        answer(store, fast, visits[0])
        done += 1
    assert done == 21
    assert state(store, fast) == ("stopped", "too fast")
    queue = store.queue(fast)
    assert (queue.reason, queue.stopped_for) == ("stopped", "too fast")
    store.let_go_on(fast.id)
    assert store.queue(fast).visits
    store.close()
