"""Questions that are not asked any more, and that are asked again."""

import random

import pyarrow as pa
import pytest

from manyhot.reassess.app.store import Example, ImageQuestions, Store, Vote
from stores import NO, YES, answer, answers_by_question, filled, key, rater


def table(pairs):
    """Return (image, class) pairs as a table of proposals."""
    rows = sorted(pairs)
    return pa.table(
        {"image_id": [i for i, _ in rows], "class_id": pa.array([c for _, c in rows], pa.int32())}
    )


def every(pages=3, classes=3):
    return {(f"{n}.jpg", c) for n in range(pages) for c in range(classes)}


def answer_all(store, who, value=NO):
    """Answer all pages, and return the questions."""
    seen = []
    while visits := store.queue(who).visits:
        seen += [(visits[0].name, c) for c in visits[0].shown]
        assert not answer(store, who, visits[0], value=value).refused
    return seen


def progress(store, raters=2):
    return store.votes().count(raters, 0).progress


def test_a_class_and_an_image_are_not_asked_any_more(url):
    store = filled(url, raters=2)
    ann, bob = rater(store), rater(store, "bob")
    assert len(answer_all(store, ann, YES)) == 9
    other = Store(url)  # another server
    assert progress(other).questions == 9
    left = {(i, c) for i, c in every() if c != 1 and i != "2.jpg"}
    found = store.ask_only(table(left))
    assert (found.withdrawn, found.images, found.answers, found.back) == (5, 3, 5, 0)
    for each in (store, other):
        p = progress(each)
        assert (p.images, p.pages, p.questions, p.answers, p.missing) == (2, 2, 4, 4, 4)
        assert (p.withdrawn, p.withdrawn_answers, p.by_answers) == (5, 5, ((1, 4),))
    assert (store.count_pages(), store.count_free()) == (2, 2)
    assert set(answer_all(store, bob)) == left
    p = progress(store)
    assert (p.pages_done, p.questions_done, p.missing, p.answers, p.differing) == (2, 4, 0, 8, 4)
    assert store.count_free() == 0
    # What was answered is exported.
    votes, _ = store.votes().to_votes(3, "")
    assert len(votes) == 13
    assert store.ask_only(table(left)) == type(found)(0, 0, 0, 0)
    other.close()
    store.close()


def test_no_decision_is_wanted_on_withdrawn_questions(url):
    store = filled(url, pages=1, raters=2)
    ann, bob = rater(store), rater(store, "bob")
    answer_all(store, ann, YES)
    answer_all(store, bob, NO)
    store.ask_only(table({("0.jpg", 0)}))
    counts = store.votes().count(2, 0)
    assert [n for _, n in counts.disputes] == [1]
    (page, _), *_ = counts.disputes
    assert store.dispute(page).undecided == [0]
    store.close()


@pytest.mark.parametrize("begun", [False, True])
def test_questions_that_come_back_are_asked_as_often_as_wanted(url, begun):
    """Of raters who saw their page without them, too: there may be no others."""
    store = filled(url, raters=2)
    people = [rater(store, name) for name in ("ann", "bob")]
    if begun:
        answer_all(store, people[0])
    left = {(i, c) for i, c in every() if c != 1 and i != "2.jpg"}
    store.ask_only(table(left))
    for who in people:
        answer_all(store, who)
    assert progress(store).missing == 0
    found = store.ask_only(table(every()))
    assert (found.withdrawn, found.back) == (0, 5)
    p = progress(store)
    assert (p.images, p.pages, p.questions, p.withdrawn) == (3, 3, 9, 0)
    assert p.missing == (5 if begun else 10)
    for who in people:
        answer_all(store, who)
    assert progress(store).missing == store.count_free() == 0
    who = answers_by_question(store)
    assert set(who) == every()
    assert {tuple(sorted(names)) for names in who.values()} == {("ann", "bob")}
    store.close()


def test_open_pages_go_on(url):
    """The browser shows what it was given, and each answer that it sends is stored."""
    store = filled(url, pages=2, raters=1)
    ann = rater(store)
    first, second = store.queue(ann).visits
    answer(store, ann, first, [0])
    store.ask_only(table({(first.name, 0), (first.name, 2)}))
    assert [v.shown for v in store.queue(ann).visits] == [first.shown, second.shown]
    for visit in (first, second):
        assert not answer(store, ann, visit, value=YES).refused
    p = progress(store, 1)
    assert (p.missing, p.answers, p.withdrawn_answers) == (0, 2, 4)
    assert (store.queue(ann).reason, store.count_free()) == ("finished", 0)
    store.close()


def test_an_answer_comes_after_its_page_was_given_back(url, pass_time):
    """Without a connection, it was given in time: nobody else is asked, so it is stored."""
    store = filled(url, pages=2, raters=1)
    ann, bob = rater(store), rater(store, "bob")
    first, second = store.queue(ann).visits
    answer(store, ann, first, [0])
    pass_time(100)
    store.queue(bob)  # takes both pages
    taken = store.ask_only(table({(first.name, 0)}))
    assert taken.withdrawn == 5
    pass_time(100)
    assert store.queue(rater(store, "eve")).reason == "finished"
    assert store.queue(ann).visits == []
    for visit, class_id in ((first, 1), (second, 2), (second, 0)):
        assert not answer(store, ann, visit, [class_id], YES).refused
    # Bob's copies of the pages ended, too: nothing gets more answers than wanted.
    refused = answer(store, bob, _visit_of(store, bob, second), [0, 2]).refused
    assert len(refused) == 2
    assert {len(names) for names in answers_by_question(store).values()} == {1}
    store.close()


def _visit_of(store, who, like):
    from manyhot.reassess.app.store import schema, visits

    def find(connection):
        ids = connection.scalars(
            schema.visits.select()
            .where(schema.visits.c.rater_id == who.id, schema.visits.c.page_id == like.page)
            .with_only_columns(schema.visits.c.id)
        ).all()
        return visits.find_visits(connection, ids)[ids[0]]

    return store._database.read(find)


def test_withdrawn_golden_pages_are_not_shown(url, pass_time):
    store = filled(url, pages=1, golden=3, classes=2, qualify=2, raters=1)
    ann = rater(store)
    first = store.queue(ann).visits[0]
    assert first.name.startswith("golden")
    left = {("0.jpg", 0), ("0.jpg", 1)} | {
        (f"golden{n}.jpg", c) for n in range(3) for c in range(2) if f"golden{n}.jpg" != first.name
    }
    pass_time(100)  # the page is given back
    store.ask_only(table(left))
    assert store.count_golden_pages() == (2, 2)
    store.ask_only(table({(name, c) for name, c in left if (name, c) == ("0.jpg", 0) or c == 1}))
    assert store.count_golden_pages() == (2, 1)  # what is no longer asked has no truth to tell
    store.ask_only(table(left))
    names = set()
    while visits := store.queue(ann).visits:  # as the experts
        names.add(visits[0].name)
        for c in visits[0].shown:
            answer(store, ann, visits[0], [c], YES if c == 0 else NO)
    assert "0.jpg" in names
    assert first.name not in names
    store.close()


def test_further_answers_to_withdrawn_questions_are_not_waited_for(url):
    store = filled(url, pages=1, raters=1)
    ann, bob = rater(store), rater(store, "bob")
    answer_all(store, ann)
    asked = pa.table({"image_id": ["0.jpg"] * 2, "class_id": [0, 1], "n_votes": [1, 1]})
    assert store.ask_further(asked).added == 2
    store.ask_only(table({("0.jpg", 1), ("0.jpg", 2)}))
    assert (progress(store, 1).further, progress(store, 1).missing) == (1, 1)
    assert store.ask_further(asked).unknown == 1
    assert answer_all(store, bob) == [("0.jpg", 1)]
    assert (progress(store, 1).missing, store.count_free()) == (0, 0)
    store.close()


def test_images_that_are_not_asked_about_are_no_examples(url):
    store = Store(url)
    asked = [ImageQuestions(f"{n}.jpg", f"/{n}.jpg", 0, (0, 1)) for n in range(4)]
    examples = [Example(0, f"{n}.jpg", f"/{n}.jpg") for n in (0, 1, 2)]
    from manyhot.reassess.app.store import CampaignSettings

    store.fill(asked, examples, CampaignSettings(), "source")
    assert [position for position, _ in store.examples([0])[0]] == [1, 2, 3]
    store.ask_only(table({("0.jpg", 0), ("2.jpg", 1), ("3.jpg", 1)}))
    assert store.examples([0]) == {0: [(1, "0.jpg"), (3, "2.jpg")]}
    assert (store.example(0, 2), store.example(0, 3)) == (None, "/2.jpg")
    assert store.strip_places(0, (1, 2, 3)) == ["/0.jpg", "/2.jpg"]
    assert store.which_are_examples(["0.jpg", "1.jpg"]) == {"0.jpg"}
    store.ask_only(table({(f"{n}.jpg", c) for n in range(4) for c in (0, 1)}))
    assert [position for position, _ in store.examples([0])[0]] == [1, 2, 3]
    store.close()


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_no_question_gets_too_many_answers(url, seed, pass_time):
    """Raters answer, leave and come back, numbers of raters and questions change; then all finish."""
    rng = random.Random(seed)
    store = filled(url, pages=4, raters=2, per_page=2)
    names = ["ann", "bob", "cem", "dan"]
    people = {name: rater(store, name) for name in names}
    sent = {}
    wanted = every(4)
    for _ in range(60):
        who = people[rng.choice(names)]
        match rng.randrange(8):
            case 0:
                wanted = {pair for pair in every(4) if rng.random() < 0.6}
                store.ask_only(table(wanted))
            case 1:
                pass_time(rng.choice([10, 100]))
            case 2:
                store.change_settings(raters=rng.choice([1, 2]))
            case _:
                for visit in store.queue(who).visits[: rng.randrange(3)]:
                    for c in visit.shown[: rng.randrange(1, 3)]:
                        if c not in visit.answers:
                            vote = Vote(key(), visit.key, c, rng.choice([NO, YES]))
                            assert store.store(who, [vote]).stored == [vote.key]
                            sent[who.name, visit.name, c] = vote
    store.change_settings(raters=2)
    store.ask_only(table(wanted))
    pass_time(100)
    for name in names * 2:
        answer_all(store, people[name])
    who = answers_by_question(store)
    assert {len(who.get(pair, [])) for pair in wanted} == {2}
    assert max(map(len, who.values())) == 2
    assert all(name in who[image, c] for name, image, c in sent)
    p = progress(store)
    assert (p.missing, p.questions, p.withdrawn) == (0, len(wanted), 12 - len(wanted))
    assert p.withdrawn_answers == sum(len(who.get(pair, [])) for pair in every(4) - wanted)
    assert store.count_free() == 0
    store.close()
