"""Further answers: one more rater each is asked single questions, once, whatever happens meanwhile."""

import random
import re
import threading
from collections import Counter

import pyarrow as pa
import pytest
import sqlalchemy as sa

from manyhot.reassess.app.store import NewRemark, Store, further
from stores import NO, YES, answer, answers_by_question, filled, key, rater


def wanted(*questions):
    """Return questions as `Store.ask_further` takes them: image, class, and the known number of answers."""
    names, classes, counts = zip(*questions, strict=True)
    return pa.table(
        {"image_id": list(names), "class_id": pa.array(classes, pa.int32()), "n_votes": list(counts)}
    )


def answer_all(store, *people, value=NO):
    """Let raters answer all that they are asked; return the classes of each visit, by image."""
    shown = []
    for who in people:
        while visits := store.queue(who).visits:
            shown.append((who.name, visits[0].name, set(visits[0].shown), visits[0].partial))
            assert not answer(store, who, visits[0], value=value).refused
    return shown


@pytest.fixture
def three(url):
    """Yield a store of three pages × three classes that ann and bob answered, and the raters."""
    store = filled(url, pages=3, classes=3, raters=2)
    people = [rater(store, name) for name in ("ann", "bob", "cem")]
    answer_all(store, *people[:2])
    yield store, people
    store.close()


def test_one_more_rater_is_asked_these_questions_and_no_others(three):
    store, (ann, bob, cem) = three
    asked = wanted(("0.jpg", 1, 2), ("0.jpg", 2, 2), ("2.jpg", 0, 2))
    found = store.ask_further(asked)
    assert (found.added, found.waiting, found.newer, found.golden, found.unknown) == (3, 0, 0, 0, 0)
    assert (found.alone, found.state) == (0, "running")
    before = store.votes().count(2, 0).progress
    assert (before.further, before.missing, before.pages_done, before.questions_done) == (3, 3, 3, 9)
    assert [store.queue(who).reason for who in (ann, bob)] == ["finished"] * 2
    assert sorted(answer_all(store, cem)) == [("cem", "0.jpg", {1, 2}, True), ("cem", "2.jpg", {0}, True)]
    dan = rater(store, "dan")
    assert [store.queue(who).reason for who in (ann, bob, cem, dan)] == ["finished"] * 4
    assert store.count_free() == 0
    after = store.votes().count(2, 0).progress
    assert (after.further, after.missing, after.by_answers) == (0, 0, ((2, 6), (3, 3)))
    by = answers_by_question(store)
    assert all(len(set(names)) == len(names) for names in by.values())
    assert {q for q, names in by.items() if "cem" in names} == {("0.jpg", 1), ("0.jpg", 2), ("2.jpg", 0)}
    assert {work.rater: work.pages for work in store.payment()} == {"ann": 3, "bob": 3, "cem": 2}


def test_the_same_questions_again_are_not_asked_twice_and_new_ones_are(three):
    store, (*_, cem) = three
    first = wanted(("0.jpg", 1, 2), ("1.jpg", 0, 2))
    assert store.ask_further(first).added == 2
    assert store.count_free() == 2
    again = store.ask_further(first)
    assert (again.added, again.waiting) == (0, 2)
    more = store.ask_further(wanted(("0.jpg", 1, 2), ("0.jpg", 0, 2)))  # one is new
    assert (more.added, more.waiting) == (1, 1)
    store.queue(cem)  # held now, which is no reason to ask another
    assert store.ask_further(first).waiting == 2
    answer_all(store, cem)
    answered = store.ask_further(first)  # the votes were not exported since
    assert (answered.added, answered.waiting, answered.newer) == (0, 0, 2)
    assert store.count_free() == 0
    assert store.ask_further(wanted(("0.jpg", 1, 3))).added == 1
    assert store.queue(cem).reason == "finished"  # who has answered it is not asked
    assert answer_all(store, rater(store, "dan")) == [("dan", "0.jpg", {1}, True)]


def test_questions_that_the_first_raters_have_not_answered_wait_already(url):
    store = filled(url, pages=2, classes=2, raters=2, golden=1)
    ann = rater(store, "ann")
    visit = store.queue(ann).visits[0]
    answer(store, ann, visit, [0])
    found = store.ask_further(
        wanted(
            (visit.name, 0, 1),
            (visit.name, 1, 0),
            ("golden0.jpg", 0, 0),
            ("no.jpg", 0, 0),
            (visit.name, 9, 0),
        )
    )
    assert (found.added, found.waiting, found.golden, found.unknown) == (0, 2, 1, 2)
    assert store.count_free() == 4 - 2
    store.close()


def test_a_page_that_is_left_keeps_its_classes_for_the_next_rater(three, pass_time):
    store, (_, _, cem) = three
    store.ask_further(wanted(("0.jpg", 0, 2), ("0.jpg", 2, 2)))
    (visit,) = store.queue(cem).visits
    answer(store, cem, visit, [2])
    assert store.votes().count(2, 0).progress.further == 1
    pass_time()
    dan, eve = rater(store, "dan"), rater(store, "eve")
    assert answer_all(store, dan) == [("dan", "0.jpg", {0}, True)]
    assert [store.queue(who).reason for who in (cem, eve)] == ["finished"] * 2
    late = answer(store, cem, visit, [0])
    assert list(late.refused.values()) == ["the page was open for too long and went to another rater"]
    assert store.votes().count(2, 0).progress.further == 0
    assert Counter(len(names) for names in answers_by_question(store).values()) == {2: 7, 3: 2}


def test_who_comes_back_in_time_goes_on(three, pass_time):
    store, (_, _, cem) = three
    store.ask_further(wanted(("0.jpg", 0, 2), ("0.jpg", 2, 2)))
    (visit,) = store.queue(cem).visits
    pass_time()
    assert not answer(store, cem, visit).refused
    assert store.queue(rater(store, "dan")).reason == "finished"
    assert store.count_free() == 0


def test_a_page_that_is_skipped_does_not_come_back(three):
    store, (_, _, cem) = three
    store.ask_further(wanted(("0.jpg", 0, 2)))
    (visit,) = store.queue(cem).visits
    store.store(cem, [NewRemark(key(), visit.key, "no image", skips=True)])
    assert [store.queue(who).reason for who in (cem, rater(store, "dan"))] == ["finished"] * 2
    assert store.votes().count(2, 0).progress.further == 0
    assert store.ask_further(wanted(("0.jpg", 0, 2))).added == 1  # as with an answer, it can be asked again


def test_neither_does_the_rest_of_a_page_of_all_its_classes(url, pass_time):
    store = filled(url, pages=1, classes=3, raters=1)
    ann, bob = rater(store, "ann"), rater(store, "bob")
    (visit,) = store.queue(ann).visits
    answer(store, ann, visit, visit.shown[:1])
    pass_time()  # she leaves, and he gets the rest
    (rest,) = store.queue(bob).visits
    store.store(bob, [NewRemark(key(), rest.key, "no image", skips=True)])
    assert store.queue(bob).reason == "finished"
    assert len(store.payment()) == 1
    store.close()


def test_more_raters_per_question_are_asked_what_has_too_few_answers(three):
    store, (_, _, cem) = three
    store.ask_further(wanted(("0.jpg", 0, 2), ("1.jpg", 0, 2), ("1.jpg", 1, 2), ("1.jpg", 2, 2)))
    answer_all(store, cem)
    store.change_settings(raters=3)
    dan, eve = rater(store, "dan"), rater(store, "eve")
    assert sorted(answer_all(store, dan)) == [
        ("dan", "0.jpg", {1, 2}, True),
        ("dan", "2.jpg", {0, 1, 2}, False),
    ]
    assert store.queue(eve).reason == "finished"
    assert {len(names) for names in answers_by_question(store).values()} == {3}
    assert store.count_free() == 0
    found = store.votes().count(3, 0).progress
    assert (found.missing, found.further, found.pages_done) == (0, 0, 3)
    store.change_settings(raters=1)
    assert store.ask_further(wanted(("0.jpg", 0, 3))).added == 1  # fewer raters change nothing about it
    store.change_settings(raters=2)
    assert answer_all(store, dan) == [("dan", "0.jpg", {0}, True)]
    assert store.queue(eve).reason == "finished"


def test_answers_that_are_left_out_are_asked_of_another(three):
    store, (ann, _, cem) = three
    store.ask_further(wanted(("0.jpg", 1, 2)))
    answer_all(store, cem, value=YES)
    store.leave_out(cem.id)
    assert store.votes().count(2, 0).progress.further == 1
    assert store.ask_further(wanted(("0.jpg", 1, 2))).waiting == 1
    store.leave_out(ann.id)
    dan, eve = rater(store, "dan"), rater(store, "eve")
    answer_all(store, dan, eve)
    counted = {q: sorted(set(names) - {"ann", "cem"}) for q, names in answers_by_question(store).items()}
    assert {len(names) for q, names in counted.items() if q != ("0.jpg", 1)} == {2}
    assert len(counted["0.jpg", 1]) >= 2
    assert store.votes().count(2, 0).progress.missing == 0


def test_it_says_whom_nobody_can_ask(three):
    store, (_, _, cem) = three
    store.stop(cem.id)
    store.change_settings(state="paused")
    found = store.ask_further(wanted(("0.jpg", 1, 2), ("1.jpg", 1, 2)))
    assert (found.added, found.alone, found.state) == (2, 2, "paused")
    assert store.ask_further(wanted(("2.jpg", 1, 2))).alone == 1


def test_all_or_nothing(three, monkeypatch):
    store, (*_, cem) = three

    def fail(connection, table, rows):
        insert(connection, table, rows)
        raise RuntimeError("killed")

    insert = further.engines.insert_rows
    with monkeypatch.context() as patch:
        patch.setattr(further.engines, "insert_rows", fail)
        with pytest.raises(RuntimeError, match="killed"):
            store.ask_further(wanted(("0.jpg", 1, 2), ("1.jpg", 1, 2)))
    assert store.count_free() == 0
    assert store.queue(cem).reason == "finished"
    assert store.ask_further(wanted(("0.jpg", 1, 2), ("1.jpg", 1, 2))).added == 2


def test_many_questions_come_in_parts(three, monkeypatch):
    store, (*_, cem) = three
    monkeypatch.setattr(further, "_AT_ONCE", 2)
    every = wanted(*((f"{n}.jpg", c, 2) for c in (2, 0, 1) for n in range(3)))
    assert store.ask_further(every).added == 9
    assert store.count_free() >= 3
    assert store.ask_further(every).waiting == 9
    answer_all(store, cem)
    assert {len(names) for names in answers_by_question(store).values()} == {3}


def test_no_questions(three):
    store, _ = three
    found = store.ask_further(wanted(("0.jpg", 0, 2)).slice(1))
    assert (found.added, found.unknown) == (0, 0)


def test_two_who_ask_at_once_beside_a_server_ask_once(three, url):
    store, (*_, cem) = three
    asked, found = wanted(*((f"{n}.jpg", c, 2) for n in range(3) for c in range(3))), []

    def ask():
        other = Store(url)
        found.append(other.ask_further(asked))
        other.close()

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.added for one in found) == [0, 0, 9]
    answer_all(store, cem)  # the server that was there before asks them
    assert {len(names) for names in answers_by_question(store).values()} == {3}


def test_the_slots_of_an_earlier_database_ask_all_as_before(url):
    from alembic import command

    from manyhot.reassess.app.store import engines, schema

    store = filled(url, pages=2, classes=2, raters=1)
    ann, bob = rater(store, "ann"), rater(store, "bob")
    answer_all(store, ann)
    store.ask_further(wanted(("0.jpg", 0, 1)))
    store.close()
    engine, config = engines.writer(url), schema._config()
    with engine.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.downgrade(config, "0002")
        assert "classes" not in {c["name"] for c in sa.inspect(connection).get_columns("slots")}
    engine.dispose()
    store = Store(url)
    assert store.count_free() == 0
    store.change_settings(raters=2)
    assert {frozenset(shown) for _, _, shown, _ in answer_all(store, bob)} == {frozenset({0, 1})}
    store.close()


def test_queries_use_the_index_of_what_is_free(url):
    """With a million pages, their slots are not scanned whenever progress is counted."""
    store = filled(url, pages=2000, classes=1, raters=1)
    store.ask_further(wanted(("0.jpg", 0, 0)))
    explain = "EXPLAIN " if url.startswith("postgresql") else "EXPLAIN QUERY PLAN "

    def plan(connection):
        connection.execute(sa.text("ANALYZE"))
        return " ".join(str(row) for row in connection.execute(sa.text(explain + further.FURTHER)))

    assert "slots_further" in store._database.write(plan)
    store.close()


@pytest.mark.parametrize("seed", range(10))
def test_whatever_happens_meanwhile(url, pass_time, seed):
    """As in `test_pages_changes`, with further answers every now and then."""
    rng = random.Random(seed)
    raters, classes = rng.choice((1, 2)), rng.choice((1, 3))
    store = filled(url, pages=3, classes=classes, raters=raters)
    people = [rater(store, f"rater {n}") for n in range(9)]
    questions = [(f"{n}.jpg", c) for n in range(3) for c in range(classes)]
    tabs, further = {who.id: [] for who in people}, Counter()

    def use(who):
        visits = store.queue(who).visits
        tabs[who.id] += visits
        return visits

    def count():
        return {where: len(names) for where, names in answers_by_question(store).items()}

    for _ in range(60):
        who, act = rng.choice(people), rng.random()
        if act < 0.45:
            for visit in use(who)[: rng.choice((1, 2))]:
                answer(store, who, visit, rng.sample(visit.shown, rng.randint(0, len(visit.shown))), YES)
        elif act < 0.55 and tabs[who.id]:
            visit = rng.choice(tabs[who.id])
            answer(store, who, visit, rng.sample(visit.shown, rng.randint(1, len(visit.shown))))
        elif act < 0.65:
            pass_time(rng.choice((10, 40, 70)))
        elif act < 0.75:
            store.stop(who.id)
        elif act < 0.85:
            store.let_go_on(who.id)
        else:
            n = count()
            some = [q for q in rng.sample(questions, rng.randint(1, len(questions))) if n.get(q, 0) < 5]
            for question in some:
                before = n.get(question, 0)
                further[question] += store.ask_further(wanted((*question, before))).added
        assert all(len(set(names)) == len(names) for names in answers_by_question(store).values())

    pass_time()
    for who in people:
        store.let_go_on(who.id)
    for _ in range(20):
        if not [answer(store, who, visit, value=NO) for who in people for visit in use(who)]:
            break  # nobody is asked any more
    assert count() == {question: raters + further[question] for question in questions}
    assert sum(further.values()) > 0
    assert store.count_free() == 0
    found = store.votes().count(raters, 0).progress
    assert (found.missing, found.further) == (0, 0)
    store.close()


def test_no_table_is_scanned_while_raters_are_asked_again(tmp_path):
    store = filled(f"sqlite:///{tmp_path}/scans.sqlite", pages=30, classes=3, raters=2)
    people, statements = [rater(store, name) for name in ("ann", "bob", "cem")], {}
    answer_all(store, *people[:2])
    engine = store._database._writes
    sa.event.listen(engine, "before_cursor_execute", lambda c, d, text, *_: statements.setdefault(text))
    for c in range(3):
        store.ask_further(wanted(*((f"{n}.jpg", c, 2) for n in range(30))))
        for who in people:
            store.queue(who)
    answer_all(store, people[2])
    assert {len(names) for names in answers_by_question(store).values()} == {3}
    assert len(statements) > 20
    with engine.connect() as connection:
        for text in [one for one in statements if one.startswith(("SELECT", "UPDATE", "INSERT", "DELETE"))]:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", (0,) * text.count("?")).all()
            for step in plan:
                assert not re.match(r"SCAN (pages|questions|slots|images|visits|votes)", step[3]), text
    store.close()
