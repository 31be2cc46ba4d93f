"""Questions that are added while a campaign runs."""

import sqlalchemy as sa

from manyhot.reassess.app.store import Example, ImageQuestions, Store, fill, schema
from stores import NO, YES, answer, answers_by_question, filled, rater

MORE = (
    ImageQuestions("0.jpg", "/images/0.jpg", 0, (3, 4)),
    ImageQuestions("new.jpg", "/images/new.jpg", None, (0, 4), {0: True, 4: False}),
    ImageQuestions("last.jpg", "/images/last.jpg", None, (0, 1, 2, 3, 4)),
)


def questions(store):
    asked = store._database.read_together(fill.questions_asked)
    return {(row["image_id"], row["class_id"]) for row in asked.to_pylist()}


def test_what_is_there_stays_and_the_rest_is_asked_afterwards(url):
    store = filled(url, pages=2, classes=2, raters=2, per_page=4)
    ann = rater(store)
    while visits := store.queue(ann).visits:
        answer(store, ann, visits[0], value=YES)
    before = questions(store)
    assert store.votes().count(2, 0).progress.questions == 4
    other = Store(url)  # another server on the same database, which knows the first questions
    assert other.votes().count(2, 0).progress.questions == 4
    seen = []

    def choose(asked):
        seen.append(len(asked))
        return MORE, [Example(4, "a.jpg", "/a.jpg"), Example(4, "b.jpg", "/b.jpg")], "more"

    store.add(choose)
    assert (seen, store.source(), store.count_examples()) == ([4], "more", (5, 1))
    added = {("0.jpg", 3), ("0.jpg", 4), ("new.jpg", 0), ("new.jpg", 4)} | {("last.jpg", c) for c in range(5)}
    assert questions(store) == before | added
    for each in (store, other):  # without the two golden questions
        progress = each.votes().count(2, 0).progress
        assert (progress.images, progress.pages, progress.questions) == (3, 5, 11)
        assert (progress.answers, progress.missing) == (4, 18)
    names = []
    while visits := store.queue(ann).visits:
        names.append(visits[0].name)
        answer(store, ann, visits[0], value=NO)
    assert sorted(names) == ["0.jpg", "last.jpg", "last.jpg"]
    bob = rater(store, "bob")
    while visits := other.queue(bob).visits:
        answer(other, bob, visits[0])
    found = answers_by_question(store)
    assert set(found) == before | added - {("new.jpg", 0), ("new.jpg", 4)}
    assert {tuple(sorted(who)) for who in found.values()} == {("ann", "bob")}
    assert store.count_free() == 0
    other.close()
    store.close()


def test_pages_keep_their_numbers(url):
    store = filled(url, pages=3, classes=1, raters=1)
    read = sa.select(schema.pages.c.id, schema.pages.c.image_id, schema.pages.c.position)

    def pages():
        return [tuple(row) for row in store._database.read(lambda c: c.execute(read).all())]

    before = pages()
    store.add(lambda asked: (MORE, [], "more"))
    assert pages()[:3] == before
    assert [position for _, _, position in pages()] == list(range(1, 7))
    store.close()
