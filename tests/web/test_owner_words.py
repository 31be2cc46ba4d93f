"""What the owner's page says where there is little to say."""

from functools import partial

import pytest
from fastapi.testclient import TestClient
from stores import YES, answer, filled, rater
from test_owner import classes

from manyhot.errors import OutputError
from manyhot.pipeline.annotate import agreement
from manyhot.web import Outside, create_app
from manyhot.web.numbers import duration


@pytest.fixture
def store(tmp_path):
    store = filled(f"sqlite:///{tmp_path}/db.sqlite", pages=1, raters=2)
    yield store
    store.close()


@pytest.fixture
def look(store, tmp_path):
    outside = Outside(judge=partial(agreement, resamples=10), alone=True)
    app = create_app(store, classes(), tmp_path / "cache", title="fish", outside=outside)
    with TestClient(app) as client:
        client.post(f"/join/{store.invite('me', role='owner')}")

        def look():
            app.state.context.numbers.forget()
            return client.get("/owner").text

        yield look


def test_agreement_needs_two_raters_and_the_page_says_so(store, look):
    assert "No answers yet." in look()
    for name, said in (("ann", "3 answers by 1 rater in"), ("bob", "6 answers by 2 raters in")):
        who = rater(store, name)
        answer(store, who, store.queue(who).visits[0], value=YES)
        page = look()
        assert said in page
        assert ("Two raters of a question are needed to say." in page) == (name == "ann")
        assert ("pairs of answers alike" in page) == (name == "bob")


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
        store, classes(), tmp_path / "cache", title="fish", outside=Outside(export=export, alone=True)
    )
    with TestClient(app) as client:
        client.post(f"/join/{store.invite('me', role='owner')}")
        assert client.get("/owner/export/votes.parquet").status_code == 503
    assert list((tmp_path / "temporary").iterdir()) == []
