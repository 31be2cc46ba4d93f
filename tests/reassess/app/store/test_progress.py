"""Progress is counted from the pages that have votes; the others are counted by the database."""

from manyhot.reassess.app.store import progress
from stores import NO, YES, answer, filled, rater


def test_of_a_million_images_only_those_with_votes_are_read(url):
    store = filled(url, pages=50, classes=3, raters=2)
    ann, bob = rater(store, "ann"), rater(store, "bob")
    assert len(store.votes().questions.id) == 0
    for who in (ann, bob):
        first, second, *_ = store.queue(who).visits
        answer(store, who, first, value=YES if who is ann else NO)
        answer(store, who, second, second.shown[:1])
    votes = store.votes()
    pages = {first.page, second.page}
    assert set(votes.questions.page.tolist()) == pages
    assert len(votes.questions.id) == 3 * len(pages)
    found = votes.count(raters=2, refine_from=0).progress
    assert (found.images, found.pages, found.questions) == (50, 50, 150)
    assert sum(n for _, n in found.by_answers) == 150
    assert sum(k * n for k, n in found.by_answers) == found.answers == 8
    assert found.missing == 2 * 150 - 8
    assert (found.pages_done, found.questions_done) == (1, sum(n for k, n in found.by_answers if k == 2))
    store.close()


def test_votes_that_come_in_parts_are_counted_as_those_that_come_at_once(url, monkeypatch):
    store = filled(url, pages=7, classes=2, raters=3, golden=3)
    for name in ("ann", "bob", "cem"):
        who = rater(store, name)
        while visits := store.queue(who).visits:
            answer(store, who, visits[0])
            store.votes()  # new ones only
    parts = store.votes()
    store._tally = progress.VoteTally()
    whole = store.votes()
    store._tally = progress.VoteTally()
    monkeypatch.setattr(progress, "_READ", 3)
    monkeypatch.setattr(progress, "_READ_PAGES", 2)
    for found in (parts, store.votes()):
        assert found.questions.id.tolist() == whole.questions.id.tolist()
        assert found.questions.name.to_pylist() == whole.questions.name.to_pylist()
        assert (found.votes == whole.votes).all()
        assert found.count(3, 0).progress == whole.count(3, 0).progress
        assert found.to_votes(3, "")[0].image_id == whole.to_votes(3, "")[0].image_id
    assert whole.count(3, 0).progress.missing == 0
    store.close()
