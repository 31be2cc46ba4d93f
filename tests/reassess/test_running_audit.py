"""The intervals of an audit while answers come in, on the owner's page."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import manyhot as mh
from manyhot import tables, write_labels
from manyhot.core.audit_sequence import sequence_quantile
from manyhot.reassess.aggregate import aggregate
from manyhot.reassess.annotate import open_annotation
from manyhot.reassess.app import CampaignSettings
from manyhot.reassess.app.store import Vote
from manyhot.reassess.audit import audit
from manyhot.reassess.export_votes import export_votes

N, SIZE, CLASSES = 400, 120, 3
PASSWORD = "correct horse"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Go to a folder with a class list and one picture."""
    monkeypatch.chdir(tmp_path)
    Path("classes.txt").write_text("cat\ndog\ncow\n")
    Image.new("RGB", (8, 8)).save("picture.png")
    return tmp_path


def draw(folder, accuracies):
    """Draw an audit of models; return the drawn images, the truth and what the models predict."""
    names = [f"{n:03}.png" for n in range(N)]
    Path("predictions").mkdir()
    uris = [str(folder / "picture.png")] * N
    pq.write_table(pa.table({"image_id": names, "uri": uris}), "predictions/images.parquet")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, CLASSES, N)
    shape = N, len(accuracies)
    best = np.where(
        rng.random(shape) < list(accuracies.values()), truth[:, None], rng.integers(0, CLASSES, shape)
    )
    for name, top in zip(accuracies, best.T, strict=True):
        write_model(f"predictions/{name}.parquet", names, name, top)
    done = audit("predictions", classes="classes.txt", size=SIZE, out="audit", rule="union", seed=0)
    rows = np.array([int(i[:3]) for i in done.sample.drawn.to_pylist()])
    return rows, truth, best


def write_model(path, images, name, top):
    order = np.stack([top, (top + 1) % CLASSES], 1)
    tables.write_predictions(tables.Predictions(pa.array(images), name, order, n_classes=CLASSES), path)


@pytest.fixture
def drawn(folder):
    """Draw an audit of two models; return the drawn images, the truth and what the models predict."""
    return draw(folder, {"one": 0.6, "two": 0.0})


def answer(store, truth, n, name="ann", errors=0.0, seed=0):
    """Let a rater answer n pages truthfully, but for errors."""
    who, rng = store.invited(store.invite(name)), np.random.default_rng(seed)
    for given in range(n):
        visit = store.queue(who).visits[0]
        for c in visit.shown:
            yes = 2 * int((c == truth[int(visit.name[:3])]) ^ (rng.random() < errors))
            store.store(who, [Vote(f"{name}-{given:05d}-{c}", visit.key, c, yes)])


def state(annotation):
    return annotation.app.state.context.status.peek(60).audit


def proposed_by_others(best):
    """Return whether the other models propose the top class of each model, by counting them one by one."""
    proposed = np.zeros(best.shape)
    for image, row in enumerate(best.tolist()):
        for m, c in enumerate(row):
            others = Counter(row[:m] + row[m + 1 :])
            most = min(others, key=lambda k: (-others[k], k))
            proposed[image, m] = most == c or 2 * others[c] >= len(row) - 1 > 0
    return proposed


def expected(rows, truth, best, n, *, alone=False):
    """Return the value and the error of each model, and of each pair of the first four, after n images."""
    hits = (best == truth[:, None])[rows[:n]].astype(float)
    f, mean = np.zeros(hits.shape), np.zeros(hits.shape[1])
    if not alone:
        proposed = proposed_by_others(best)
        f, mean = proposed[rows[:n]], proposed.mean(0)
    # An image that no model gets right has no valid class among those asked about.
    scored = hits.any(axis=1)
    ratio, share = hits.sum(0) / scored.sum(), scored.mean()
    y, f, mean = (hits - ratio * scored[:, None]) / share, (f - ratio) / share, (mean - ratio) / share
    pairs = [(a, b) for a in range(4) for b in range(a + 1, 4) if b < len(ratio)]
    columns = [(y[:, m], f[:, m], mean[m], ratio[m]) for m in range(len(ratio))]
    columns += [
        (y[:, a] - y[:, b], f[:, a] - f[:, b], mean[a] - mean[b], ratio[a] - ratio[b]) for a, b in pairs
    ]
    for y, f, mean, ratio in columns:
        power = np.clip(np.cov(y, f)[0, 1] / f.var(ddof=1), 0, 1) if np.ptp(f) > 1e-12 else 0.0
        residual = y - power * f
        freedom = 1.0 if alone else (n - 1) / (n - 2)
        variance = (1 - n / N) * residual.var(ddof=1) / n * freedom
        yield ratio + power * mean + residual.mean(), np.sqrt(variance)


def check_rows(found, expected, n_models):
    """Compare rows of the page with values and errors: models by themselves, all pairs together."""
    expected = list(expected)
    assert len(found.intervals) == len(expected)
    for m, (row, (value, error)) in enumerate(zip(found.intervals, expected, strict=True)):
        assert row.value == pytest.approx(value)
        if m < n_models:
            half = sequence_quantile(found.n, SIZE) * error / (value * (1 - value))
            ends = 1 / (1 + np.exp(-(np.log(value / (1 - value)) + np.array([-half, half]))))
            assert not row.decided
        else:
            half = sequence_quantile(found.n, SIZE, len(expected) - n_models) * error
            ends = value - half, value + half
            assert row.decided == (ends[0] > 0 or ends[1] < 0)
        assert (row.lo, row.hi) == pytest.approx(tuple(ends))


def test_intervals_are_those_of_the_first_images_by_the_equations(drawn):
    with open_annotation("audit", settings=CampaignSettings(raters=1, least_seconds=0)) as annotation:
        answer(annotation.store, drawn[1], 80)
        found = state(annotation)
    assert (found.n, found.size, found.notes) == (80, SIZE, ())
    assert [r.name for r in found.intervals] == ["one", "two", "one − two"]
    assert found.intervals[2].decided
    check_rows(found, expected(*drawn, 80), 2)


def test_all_models_with_which_an_audit_was_drawn_propose_label_sets(folder):
    """Ten are shown. The means over all images are of thirteen, so the values on the sample must be, too."""
    many = draw(folder, {f"m{m:02}": 0.3 if m < 10 else 0.0 for m in range(13)})
    with open_annotation("audit", settings=CampaignSettings(raters=1, least_seconds=0)) as annotation:
        answer(annotation.store, many[1], 80)
        found = state(annotation)
    assert found.notes == ("The first 10 of 13 models by name are shown.",)
    pairs = [f"m{a:02} − m{b:02}" for a in range(4) for b in range(a + 1, 4)]
    assert [r.name for r in found.intervals] == [f"m{m:02}" for m in range(10)] + pairs
    rows = list(expected(*many, 80))
    check_rows(found, rows[:10] + rows[13:], 10)


def test_a_model_that_was_added_later_is_not_shown_and_changes_nothing(drawn):
    rows, truth, _ = drawn
    images = sorted(f"{n:03}.png" for n in rows.tolist())
    write_model("audit/predictions/new.parquet", images, "new", truth[np.sort(rows)])
    with open_annotation("audit", settings=CampaignSettings(raters=1, least_seconds=0)) as annotation:
        answer(annotation.store, truth, 80)
        found = state(annotation)
    assert found.notes == (
        "Not shown: new. The audit was drawn without these predictions, so people may not have been "
        "asked about the classes of these models.",
    )
    check_rows(found, expected(*drawn, 80), 2)


def test_missing_predictions_leave_peoples_answers_alone(drawn):
    rows, truth, best = drawn
    Path("audit/predictions/two.parquet").unlink()
    with open_annotation("audit", settings=CampaignSettings(raters=1, least_seconds=0)) as annotation:
        answer(annotation.store, truth, 80)
        found = state(annotation)
    assert found.notes == (
        "Predictions are missing: two. The intervals use only people's answers, without proposed label "
        "sets, and may be wider.",
    )
    # People are still asked about the classes of the missing model, so the same images have a valid class.
    both = list(expected(rows, truth, best, 80, alone=True))
    check_rows(found, both[:1], 1)


def test_a_value_without_an_interval_says_why(folder):
    """Two models that are nearly always right: few images make up the variance."""
    _, truth, _ = draw(folder, {"one": 0.97, "two": 0.97})
    with open_annotation("audit", settings=CampaignSettings(raters=1, least_seconds=0)) as annotation:
        answer(annotation.store, truth, 80)
        found = state(annotation)
    assert np.isnan(found.intervals[2].lo)
    assert not found.intervals[2].decided
    assert found.notes == (
        "There is no interval (–) while the variance comes from fewer than 10 images with answers, or a "
        "single image could double it.",
    )


def test_few_images_have_no_intervals(drawn):
    _, truth, _ = drawn
    with open_annotation("audit", settings=CampaignSettings(raters=1, least_seconds=0)) as annotation:
        answer(annotation.store, truth, 40)
        found = state(annotation)
    assert (found.n, found.intervals) == (40, ())


def test_an_image_counts_when_all_its_raters_have_answered(drawn):
    """Images after the first one that is open do not count: those answered early may be the easy ones."""
    _, truth, _ = drawn
    with open_annotation("audit", settings=CampaignSettings(raters=2, least_seconds=0)) as annotation:
        answer(annotation.store, truth, 100)
        answer(annotation.store, truth, 60, "bob")
        assert state(annotation).n == 60


def test_two_raters_who_differ_count_as_in_the_label_sets_that_are_evaluated(drawn):
    """A tie is no, on the page as in `manyhot aggregate --method majority --threshold 0.6`."""
    _, truth, _ = drawn
    Path("audit/predictions/two.parquet").unlink()  # so that both values are of people's answers alone
    with open_annotation("audit", settings=CampaignSettings(raters=2, least_seconds=0)) as annotation:
        answer(annotation.store, truth, SIZE, errors=0.2)
        answer(annotation.store, truth, SIZE, "bob", errors=0.2, seed=1)
        found = state(annotation)
    export_votes("audit")
    done = aggregate("audit", method="majority", threshold=0.6, resamples=0)
    assert np.count_nonzero(done.p == 0.5) > 20
    write_labels(done.labels, "audit/labels.parquet")
    same = mh.evaluate("predictions", classes="classes.txt", audited="audit", estimator="sample")
    assert found.n == SIZE
    assert found.intervals[0].value == pytest.approx(same.value("real1", model="one"))


def test_the_owners_page_shows_them(drawn):
    _, truth, _ = drawn
    settings = CampaignSettings(raters=1, least_seconds=0)
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
    assert "All questions about the first 80 of the 120 images in the sample have been answered." in text
    assert "narrow enough" not in text.partition("These intervals")[0]
    values = r"[\d.]+ % [\d.]+ % [\d.]+ % to [\d.]+ %"
    assert re.search(rf"Difference of two models so far .* one − two clear {values} Mark", text)
    narrow = [bool(re.search(f"one − two clear narrow enough {values}", other)) for other in marked]
    assert narrow == [False, True]


def text_of(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_a_campaign_that_is_no_audit_shows_none(drawn):
    _, truth, _ = drawn
    Path("audit/audit_sample.parquet").unlink()
    with open_annotation("audit", settings=CampaignSettings(raters=1, least_seconds=0)) as annotation:
        answer(annotation.store, truth, 2)
        assert state(annotation) is None
