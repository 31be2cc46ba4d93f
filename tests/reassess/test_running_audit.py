"""The intervals of an audit while answers come in, on the owner's page."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from manyhot import tables
from manyhot.core.audit_sequence import sequence_quantile
from manyhot.reassess.annotate import open_annotation
from manyhot.reassess.app import CampaignSettings
from manyhot.reassess.app.store import Vote
from manyhot.reassess.audit import audit

N, SIZE, CLASSES = 400, 120, 3
PASSWORD = "correct horse"


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draw an audit of two models; return the drawn images, the truth and what the models predict."""
    monkeypatch.chdir(tmp_path)
    Path("classes.txt").write_text("cat\ndog\ncow\n")
    Image.new("RGB", (8, 8)).save("picture.png")
    names = [f"{n:03}.png" for n in range(N)]
    Path("predictions").mkdir()
    uris = [str(tmp_path / "picture.png")] * N
    pq.write_table(pa.table({"image_id": names, "uri": uris}), "predictions/images.parquet")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, CLASSES, N)
    best = np.where(rng.random((N, 2)) < [0.45, 0.0], truth[:, None], rng.integers(0, CLASSES, (N, 2)))
    for name, top in zip(("one", "two"), best.T, strict=True):
        order = np.stack([top, (top + 1) % CLASSES], 1)
        predictions = tables.Predictions(pa.array(names), name, order, n_classes=CLASSES)
        tables.write_predictions(predictions, f"predictions/{name}.parquet")
    done = audit("predictions", classes="classes.txt", size=SIZE, out="audit")
    rows = np.array([int(i[:3]) for i in done.sample.drawn.to_pylist()])
    return rows, truth, best


def answer(store, truth, n, name="ann"):
    """Let a rater answer n pages truthfully."""
    who = store.invited(store.invite(name))
    for given in range(n):
        visit = store.queue(who).visits[0]
        for c in visit.shown:
            yes = 2 * int(c == truth[int(visit.name[:3])])
            store.store(who, [Vote(f"{name}-{given:05d}-{c}", visit.key, c, yes)])


def state(annotation):
    return annotation.app.state.context.status.peek(60).audit


def test_intervals_are_those_of_the_first_images_by_the_equations(drawn):
    rows, truth, best = drawn
    with open_annotation("audit", settings=CampaignSettings(raters=1)) as annotation:
        answer(annotation.store, truth, 80)
        found = state(annotation)
    assert (found.n, found.size) == (80, SIZE)
    assert [r.name for r in found.intervals] == ["one", "two", "one − two"]
    hits = (best == truth[:, None])[rows[:80]].astype(float)
    # The other model proposes the label set: both are right or wrong together.
    same = (best[:, :1] == best[:, 1:]).astype(float)
    for m, row in enumerate(found.intervals[:2]):
        y, f = hits[:, m], same[rows[:80], 0]
        # An image that neither model gets right has no valid class among those asked about.
        scored = hits.any(axis=1)
        ratio, share = y.sum() / scored.sum(), scored.mean()
        y, own = (y - ratio * scored) / share, (f - ratio) / share
        power = np.clip(np.cov(y, own)[0, 1] / own.var(ddof=1), 0, 1)
        residual = y - power * own
        value = ratio + power * (same.mean() - ratio) / share + residual.mean()
        error = np.sqrt((1 - 80 / N) * residual.var(ddof=1) / 80 * 79 / 78)
        half = sequence_quantile(80, SIZE) * error
        logits = np.log(value / (1 - value)) + np.array([-1, 1]) * half / (value * (1 - value))
        assert row.value == pytest.approx(value)
        assert (row.lo, row.hi) == pytest.approx(tuple(1 / (1 + np.exp(-logits))))
    pair = found.intervals[2]
    assert pair.decided
    assert pair.lo > 0
    assert pair.value == pytest.approx((hits[:, 0] - hits[:, 1]).sum() / hits.any(axis=1).sum())


def test_few_images_have_no_intervals(drawn):
    _, truth, _ = drawn
    with open_annotation("audit", settings=CampaignSettings(raters=1)) as annotation:
        answer(annotation.store, truth, 40)
        found = state(annotation)
    assert (found.n, found.intervals) == (40, ())


def test_an_image_counts_when_all_its_raters_have_answered(drawn):
    """Images after the first one that is open do not count: those answered early may be the easy ones."""
    _, truth, _ = drawn
    with open_annotation("audit", settings=CampaignSettings(raters=2)) as annotation:
        answer(annotation.store, truth, 100)
        answer(annotation.store, truth, 60, "bob")
        assert state(annotation).n == 60


def test_the_owners_page_shows_them(drawn):
    _, truth, _ = drawn
    settings = CampaignSettings(raters=1)
    with open_annotation("audit", settings=settings) as annotation, TestClient(annotation.app) as client:
        answer(annotation.store, truth, 80)
        state(annotation)
        row = next(r for r in state(annotation).intervals if r.is_pair)
        token = annotation.store.invite("owner", role="owner")
        page = client.post(f"/join/{token}", data={"password": PASSWORD, "again": PASSWORD}).text
        width = 100 * max(row.hi - row.value, row.value - row.lo)
        assert row.decided == (row.lo > 0)
        marked = [text_of(client.get("/owner", params={"width": w}).text) for w in (width - 0.1, width + 0.1)]
        assert client.get("/owner", params={"width": "0"}).status_code == 422
    text = text_of(page)
    assert "80 of 120 images of the sample are answered." in text
    assert "narrow enough" not in text.partition("These intervals")[0]
    values = r"[\d.]+ % [\d.]+ % [\d.]+ % to [\d.]+ %"
    assert re.search(rf"Difference of two models so far .* one − two decided {values} Mark", text)
    narrow = [bool(re.search(f"one − two decided narrow enough {values}", other)) for other in marked]
    assert narrow == [False, True]


def text_of(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_a_campaign_that_is_no_audit_shows_none(drawn):
    _, truth, _ = drawn
    Path("audit/audit_sample.parquet").unlink()
    with open_annotation("audit", settings=CampaignSettings(raters=1)) as annotation:
        answer(annotation.store, truth, 2)
        assert state(annotation) is None
