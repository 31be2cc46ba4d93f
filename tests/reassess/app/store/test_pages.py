"""Who is shown which page: as many raters on each question as are wanted, whoever leaves and comes back."""

import random
import re
import threading
from collections import Counter
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from manyhot.errors import InputError
from manyhot.reassess.app.store import NewRemark, Vote
from manyhot.reassess.app.store.pages import PAGES_AHEAD
from stores import NO, YES, answer, answers_by_question, filled, key, rater


def first(store, who):
    return store.queue(who).visits[0]


def test_each_question_gets_the_raters_that_are_wanted(url):
    store = filled(url, pages=3, raters=2)
    people = [rater(store, name) for name in ("ann", "bob", "cem")]
    for who in people:
        while visits := store.queue(who).visits:
            answer(store, who, visits[0])
    counts = answers_by_question(store)
    assert {where: len(names) for where, names in counts.items()} == {
        (f"{n}.jpg", c): 2 for n in range(3) for c in range(3)
    }
    assert [store.queue(who).reason for who in people] == ["finished"] * 3
    assert store.count_free() == 0
    store.close()


def test_fifty_at_once_never_more_than_wanted(url):
    store = filled(url, pages=4, classes=2, raters=3)
    people = [rater(store, f"rater {n}") for n in range(50)]
    ready = threading.Barrier(50)
    given = []

    def ask(who):
        ready.wait()
        given.append((who, store.queue(who).visits))

    threads = [threading.Thread(target=ask, args=(who,)) for who in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pages = Counter(v.page for _, visits in given for v in visits)
    assert set(pages.values()) == {3}
    assert all(len({v.page for v in visits}) == len(visits) for _, visits in given)
    for who, visits in given:
        for visit in visits:
            answer(store, who, visit)
    assert {len(set(names)) for names in answers_by_question(store).values()} == {3}
    store.close()


def test_what_a_rater_left_is_asked_of_the_next_but_for_what_was_answered(url, pass_time):
    store = filled(url, pages=1, classes=3, raters=1)
    ann, bob = rater(store, "ann"), rater(store, "bob")
    left = first(store, ann)
    done = left.shown[0]
    answer(store, ann, left, [done], YES)
    assert store.queue(bob).reason == "taken"
    pass_time()
    taken = first(store, bob)
    assert sorted(taken.shown) == sorted(set(left.shown) - {done})
    answer(store, bob, taken)
    assert [store.queue(who).reason for who in (ann, bob, rater(store, "cem"))] == ["finished"] * 3
    by = answers_by_question(store)
    assert by == {("0.jpg", c): ["ann" if c == done else "bob"] for c in range(3)}
    store.close()


def test_who_comes_back_first_goes_on(url, pass_time):
    store = filled(url, pages=1, raters=1)
    ann = rater(store, "ann")
    visit = first(store, ann)
    answer(store, ann, visit, visit.shown[:1])
    pass_time()
    rater(store, "bob")
    again = first(store, ann)
    assert (again.key, again.shown, again.state) == (visit.key, visit.shown, "open")
    assert set(again.answers) == {visit.shown[0]}
    store.close()


def test_an_open_tab_goes_on_where_nobody_took_the_page(url, pass_time):
    store = filled(url, pages=1, raters=1)
    ann, bob = rater(store, "ann"), rater(store, "bob")
    visit = first(store, ann)
    pass_time()
    other = store.queue(bob).visits  # gives the page back, and takes it
    pass_time()
    store.stop(bob.id)
    assert len(other) == 1
    assert not answer(store, ann, visit).refused
    assert {tuple(names) for names in answers_by_question(store).values()} == {("ann",)}
    store.close()


def test_an_open_tab_is_refused_where_somebody_took_the_page(url, pass_time):
    store = filled(url, pages=1, raters=1)
    ann, bob = rater(store, "ann"), rater(store, "bob")
    visit = first(store, ann)
    kept = visit.shown[0]
    answer(store, ann, visit, [kept], YES)
    pass_time()
    taken = first(store, bob)
    late = answer(store, ann, visit, visit.shown[1:])
    assert set(late.refused.values()) == {"the page was open for too long and went to another rater"}
    assert not late.stored
    # What one has answered one may still change, and remark upon.
    assert not answer(store, ann, visit, [kept], NO).refused
    assert not store.store(ann, [NewRemark(key(), visit.key, "a remark")]).refused
    answer(store, bob, taken)
    assert all(len(names) == 1 for names in answers_by_question(store).values())
    store.close()


def test_who_comes_back_after_two_others_left_is_asked_what_is_still_open(url, pass_time):
    store = filled(url, pages=1, classes=3, raters=1)
    ann, bob = rater(store, "ann"), rater(store, "bob")
    visit = first(store, ann)
    a, b, c = visit.shown
    answer(store, ann, visit, [a])
    pass_time()
    answer(store, bob, first(store, bob), [b])
    pass_time()
    store.queue(rater(store, "cem"))
    store.stop(next(r for r in store.raters() if r.name == "cem").id)
    late = answer(store, ann, visit, [b])
    assert list(late.refused.values()) == ["no such class on the page"]
    assert not answer(store, ann, visit, [c]).refused
    assert answers_by_question(store) == {("0.jpg", a): ["ann"], ("0.jpg", b): ["bob"], ("0.jpg", c): ["ann"]}
    assert store.queue(ann).reason == "finished"
    store.close()


def test_with_as_many_raters_as_are_wanted_nothing_stays_unasked(url, pass_time):
    """Bob takes over what Ann left; then each of them is asked in the other slot what is missing there."""
    store = filled(url, pages=1, classes=3, raters=2)
    ann, bob = rater(store, "ann"), rater(store, "bob")
    visit = first(store, ann)
    answer(store, ann, visit, visit.shown[:1])
    pass_time()
    taken = first(store, bob)
    answer(store, bob, taken)
    for _ in range(3):
        for who in (ann, bob):
            for visit in store.queue(who).visits:
                answer(store, who, visit)
    assert {tuple(sorted(names)) for names in answers_by_question(store).values()} == {("ann", "bob")}
    assert store.count_free() == 0
    store.close()


def test_nobody_is_asked_the_same_in_two_slots(url, pass_time):
    store = filled(url, pages=1, classes=2, raters=2)
    ann, bob = rater(store, "ann"), rater(store, "bob")
    visit = first(store, ann)
    a, b = visit.shown
    answer(store, ann, visit, [a])
    pass_time()
    assert first(store, bob).shown == (b,)
    assert first(store, ann).shown == (b,)  # in the other slot
    store.stop(bob.id)  # the slot that ann held first is free again
    assert [v.shown for v in store.queue(ann).visits] == [(b,)]
    answer(store, ann, first(store, ann))
    cem = rater(store, "cem")
    while visits := store.queue(cem).visits:
        answer(store, cem, visits[0])
    assert {len(names) for names in answers_by_question(store).values()} == {2}
    store.close()


def test_answers_keep_pages_open(url, pass_time):
    store = filled(url, pages=2, classes=3, raters=1)
    ann, bob = rater(store, "ann"), rater(store, "bob")
    one, two = store.queue(ann).visits
    pass_time(50)
    answer(store, ann, one, one.shown[:1])
    pass_time(50)
    assert store.queue(bob).visits == []
    assert not answer(store, ann, one, one.shown[1:]).refused
    assert not answer(store, ann, two).refused
    store.close()


@pytest.mark.parametrize("end", ["stop", "revoke"])
def test_pages_of_who_must_go_go_to_others_at_once(url, end):
    store = filled(url, pages=2, raters=1)
    ann, bob = rater(store, "ann"), rater(store, "bob")
    visit, _ = store.queue(ann).visits
    answer(store, ann, visit, visit.shown[:1])
    getattr(store, end)(ann.id)
    assert len(store.queue(bob).visits) == 2
    late = answer(store, ann, visit, visit.shown)
    assert set(late.refused.values()) == {"you were asked to stop"}
    queue = store.queue(ann)
    assert (queue.reason, queue.stopped_for) == ("stopped", "")  # by the owner
    store.close()


def test_what_was_kept_is_kept_when_sent_again_after_the_end(url):
    store = filled(url, pages=1, raters=1)
    ann = rater(store)
    visit = first(store, ann)
    vote = Vote(key(), visit.key, visit.shown[0], YES)
    assert store.store(ann, [vote]).stored == [vote.key]
    store.change_settings(state="closed")
    again = store.store(ann, [vote, Vote(key(), visit.key, visit.shown[1], YES)])
    assert again.stored == [vote.key]
    assert list(again.refused.values()) == ["the campaign is closed"]
    store.close()


def test_pause_close_and_reopen(url):
    store = filled(url, pages=3, raters=1)
    ann = rater(store)
    before = [v.key for v in store.queue(ann).visits]
    store.change_settings(state="paused")
    paused = store.queue(ann)
    assert (paused.visits, paused.reason) == ([], "paused")
    assert not answer(store, ann, SimpleNamespace(key=before[0], shown=(0,))).refused  # was on its way
    store.change_settings(state="closed")
    assert store.queue(ann).reason == "closed"
    store.change_settings(state="running")
    assert [v.key for v in store.queue(ann).visits] == before
    store.close()


def test_nobody_gets_more_pages_than_the_limit(url):
    store = filled(url, pages=9, raters=1, max_pages=3)
    ann, bob = rater(store, "ann"), rater(store, "bob", max_pages=5)
    for who, most in ((ann, 3), (bob, 5)):
        seen = set()
        while visits := store.queue(who).visits:
            seen |= {v.key for v in visits}
            answer(store, who, visits[0])
        assert len(seen) == most
        assert (store.queue(who).reason, store.queue(who).done) == ("limit", most)
    store.close()


def test_wanting_more_and_fewer_raters_while_it_runs(url):
    store = filled(url, pages=4, classes=2, raters=2)
    people = [rater(store, name) for name in ("ann", "bob", "cem", "dan")]
    answer(store, people[0], first(store, people[0]))
    store.change_settings(raters=3)
    assert store.count_free() == 4 * 3 - PAGES_AHEAD
    store.change_settings(raters=1)
    # One slot a page: those of ann, who holds or has done all four.
    assert store.count_free() == 0
    store.change_settings(raters=3)
    for who in people:
        while visits := store.queue(who).visits:
            answer(store, who, visits[0])
    assert {len(names) for names in answers_by_question(store).values()} == {3}
    store.close()


def test_fewer_raters_keep_the_slots_that_have_answers(url, pass_time):
    store = filled(url, pages=1, classes=2, raters=3)
    ann, bob = rater(store, "ann"), rater(store, "bob")
    visit = first(store, ann)
    answer(store, ann, visit, visit.shown[:1])
    pass_time()
    store.queue(bob)
    store.stop(bob.id)
    store.change_settings(raters=1)
    assert store.count_free() == 1
    answer(store, ann, first(store, ann))
    assert {len(names) for names in answers_by_question(store).values()} == {1}
    store.close()


def test_settings_out_of_range_are_refused(url):
    store = filled(url)
    with pytest.raises(InputError) as error:
        store.change_settings(state="asleep")
    assert str(error.value) == (
        "This is not a state of a campaign.\n  got:     'asleep'\n  allowed: running, paused, closed"
    )
    store.close()


@pytest.mark.parametrize("seed", range(6))
def test_whatever_raters_do_each_question_gets_exactly_the_wanted_number(url, pass_time, seed):
    """Random people who answer parts, leave, come back, use old tabs, are stopped and let go on again."""
    rng = random.Random(seed)
    wanted = rng.choice((1, 2, 3))
    store = filled(url, pages=rng.choice((2, 3, 7)), classes=rng.choice((1, 3, 4)), raters=wanted)
    people = [rater(store, f"rater {n}") for n in range(wanted + rng.choice((0, 1, 2)))]
    tabs = {who.id: [] for who in people}

    def use(who):
        visits = store.queue(who).visits
        tabs[who.id] += visits
        return visits

    for _ in range(60):
        who = rng.choice(people)
        act = rng.random()
        if act < 0.35:
            for visit in use(who)[: rng.choice((1, 2))]:
                answer(store, who, visit, rng.sample(visit.shown, rng.randint(0, len(visit.shown))), YES)
        elif act < 0.6 and tabs[who.id]:
            visit = rng.choice(tabs[who.id])  # an old tab, whatever has become of the page
            answer(store, who, visit, rng.sample(visit.shown, rng.randint(1, len(visit.shown))))
        elif act < 0.75:
            pass_time(rng.choice((10, 40, 70)))
        elif act < 0.85:
            store.stop(who.id)
        else:
            store.let_go_on(who.id)
        by = answers_by_question(store)
        assert all(len(set(names)) == len(names) <= wanted for names in by.values())

    pass_time()
    for who in people:
        store.let_go_on(who.id)
    for _ in range(40):
        if not [answer(store, who, visit) for who in people for visit in use(who)]:
            break  # nobody is asked any more
    by = answers_by_question(store)
    taken = store.votes()
    assert len(by) == taken.campaign.questions
    assert {len(names) for names in by.values()} == {wanted}
    assert store.count_free() == 0
    assert {store.queue(who).reason for who in people} == {"finished"}
    store.close()


def test_no_table_is_scanned_while_raters_ask_and_answer(tmp_path):
    """Of a million images, a scan of one table takes from 50 ms on, during which nobody else can write."""
    store = filled(
        f"sqlite:///{tmp_path}/scans.sqlite", pages=30, classes=2, raters=2, golden=2, golden_every=2
    )
    people, statements = [rater(store, name) for name in ("ann", "bob")], {}
    engine = store._database._writes
    sa.event.listen(engine, "before_cursor_execute", lambda c, d, text, *_: statements.setdefault(text))
    for _ in range(6):
        for who in people:
            answer(store, who, store.queue(who).visits[0])
    assert len(statements) >= 15  # they were recorded
    with engine.connect() as connection:
        for text in [
            text for text in statements if text.startswith(("SELECT", "UPDATE", "INSERT", "DELETE"))
        ]:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", (0,) * text.count("?")).all()
            for step in plan:
                assert not re.match(r"SCAN (pages|questions|slots|images|visits|votes)", step[3]), text
    store.close()
