"""What the owner's page says where there is little to say."""

from functools import partial

import pytest
from fastapi.testclient import TestClient

from manyhot.errors import OutputError
from manyhot.reassess.agreement import agreement
from manyhot.reassess.app import AppCallbacks, create_app
from manyhot.reassess.app.progress import duration, time_left
from stores import YES, answer, classes, filled, rater


@pytest.fixture
def store(tmp_path):
    store = filled(f"sqlite:///{tmp_path}/db.sqlite", pages=1, raters=2)
    yield store
    store.close()


@pytest.fixture
def look(store, tmp_path):
    callbacks = AppCallbacks(judge=partial(agreement, resamples=10), alone=True)
    app = create_app(store, classes(), tmp_path / "cache", title="fish", callbacks=callbacks)
    with TestClient(app) as client:
        client.post(f"/join/{store.invite('me', role='owner')}")

        def look():
            app.state.context.status.invalidate()
            return client.get("/owner").text

        yield look


def test_agreement_needs_two_raters_and_the_page_says_so(store, look):
    assert "No answers yet." in look()
    for name, said in (("ann", "3 answers by 1 rater in"), ("bob", "6 answers by 2 raters in")):
        who = rater(store, name)
        answer(store, who, store.queue(who).visits[0], value=YES)
        page = look()
        assert said in page
        assert ("Measuring agreement requires two raters per question." in page) == (name == "ann")
        assert ("agreeing answer pairs" in page) == (name == "bob")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (float("nan"), "unknown"),
        (59, "59 s"),
        (90, "2 min"),
        (3600, "1 h"),
        (3660, "1 h 1 min"),
        (36_000, "10 h"),
        (200_000, "2 days"),
    ],
)
def test_times_in_words(seconds, words):
    assert duration(seconds) == words


def test_an_export_that_fails_leaves_nothing_behind(store, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))

    def export(folder):
        (folder / "votes.parquet").write_bytes(b"who wrote what")
        raise OutputError("The disk is full.")

    app = create_app(
        store, classes(), tmp_path / "cache", title="fish", callbacks=AppCallbacks(export=export, alone=True)
    )
    with TestClient(app) as client:
        client.post(f"/join/{store.invite('me', role='owner')}")
        assert client.get("/owner/export/votes.parquet").status_code == 503
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    ("minutes", "said"),
    [
        (10, "about 10 min at the pace of the last 10 min (6 answers)"),
        (50, "about 50 min at the pace of the last 50 min (6 answers)"),
        (59, "about 59 min at the pace of the last 59 min (6 answers)"),
        (600, "about 10 h at the pace of the last 10 h (6 answers)"),
        (2000, "unknown: no answers in the last 24 hours"),
    ],
)
def test_pace_is_that_of_the_time_since_answering_began(url, pass_time, minutes, said):
    """Six of twelve answers at once, and golden ones, which bring the end no nearer; then nothing."""
    store = filled(url, pages=2, raters=2, golden=3, qualify=1, least_informedness=-1.0)
    ann = rater(store, "ann")
    while visits := store.queue(ann).visits:
        answer(store, ann, visits[0])
    pass_time(minutes)
    assert time_left(store.votes().count(2, 0).progress) == said
    store.close()


def test_pace_is_that_of_the_last_hour_where_it_went_on_for_longer(url, pass_time):
    store = filled(url, pages=3, raters=2)
    ann, bob = rater(store, "ann"), rater(store, "bob")
    answer(store, ann, store.queue(ann).visits[0])
    pass_time(300)
    answer(store, bob, store.queue(bob).visits[0])
    answer(store, bob, store.queue(bob).visits[0])
    pass_time(30)
    assert (
        time_left(store.votes().count(2, 0).progress)
        == "about 1 h 30 min at the pace of the last 1 h (6 answers)"
    )
    store.close()
