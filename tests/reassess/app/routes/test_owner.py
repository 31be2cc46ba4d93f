"""The owner's pages: who may see them, what they show, and what they change."""

import csv
import io
import re
from html.parser import HTMLParser

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from manyhot.reassess.app import AppCallbacks, CampaignSettings, ImageQuestions, Reach, Store, create_app
from manyhot.reassess.app.store import NewRemark, accounts
from stores import NO, YES, answer, classes, filled, key, rater

PASSWORD = "correct horse"


class Forms(HTMLParser):
    """The forms of a page: their addresses and fields."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        told = dict(attributes)
        if tag == "form":
            self.found.append((told.get("action"), {}))
        elif tag == "input" and self.found and told.get("type") != "checkbox":
            self.found[-1][1][told.get("name")] = told.get("value", "")


@pytest.fixture
def store(tmp_path):
    store = filled(f"sqlite:///{tmp_path}/db.sqlite", pages=4, raters=2, golden=2)
    yield store
    store.close()


@pytest.fixture
def client(store, tmp_path):
    app = create_app(store, classes(), tmp_path / "cache", title="fish <b>")
    with TestClient(app, follow_redirects=True) as client:
        yield client


@pytest.fixture
def owner(store, client):
    """Return the client of an owner who has set a password."""
    token = store.invite("owner", role="owner")
    done = client.post(f"/join/{token}", data={"password": PASSWORD, "again": PASSWORD})
    assert done.url.path == "/owner"
    return client


def csrf(page):
    return re.search(r'name="csrf" value="(\w+)"', page.text)[1]


def send(client, address, **fields):
    """Send a form as the owner's page does."""
    return client.post(address, data={"csrf": csrf(client.get("/owner"))} | fields)


def text_of(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page.text).split())


# Coming in.


def test_the_link_of_an_owner_sets_a_password_once(store, client):
    token = store.invite("owner", role="owner")
    asked = client.get(f"/join/{token}")
    assert "Choose a password" in asked.text
    for password, again, said in (
        ("short", "short", "The password is too short."),
        (PASSWORD, "another one", "The two passwords do not match."),
        ("x" * 201, "x" * 201, "The password is too long."),
    ):
        refused = client.post(f"/join/{token}", data={"password": password, "again": again})
        assert (refused.status_code, said in refused.text) == (422, True)
    assert client.post(f"/join/{token}", data={"password": PASSWORD, "again": PASSWORD}).url.path == "/owner"
    assert client.get(f"/join/{token}").status_code == 404
    assert client.post(f"/join/{token}", data={"password": PASSWORD, "again": PASSWORD}).status_code == 404


def test_log_in_and_out(store, owner):
    page = owner.get("/owner")
    assert owner.post("/owner/leave", data={"csrf": csrf(page)}).status_code == 401
    assert owner.get("/owner").url.path == "/owner/login"
    for name, password in (("owner", "wrong"), ("nobody", PASSWORD), ("", "")):
        refused = owner.post("/owner/login", data={"name": name, "password": password})
        assert refused.status_code in (403, 422)
        assert not owner.cookies
    assert owner.post("/owner/login", data={"name": "owner", "password": PASSWORD}).url.path == "/owner"


def test_the_database_keeps_no_password_and_no_token(store, client, tmp_path, real_hashes, monkeypatch):
    for name, value in real_hashes.items():
        monkeypatch.setattr(accounts, name, value)
    store.set_password(store.invite("owner", role="owner"), PASSWORD)
    store.invite("ann")
    for file in tmp_path.glob("db.sqlite*"):
        data = file.read_bytes()
        assert PASSWORD.encode() not in data
    kept = store._database.read(lambda c: c.exec_driver_sql("SELECT password FROM raters").scalars().all())
    # What RFC 9106 advises; a name that is unknown takes as long.
    assert [k[:30] for k in kept if k] == [accounts._NOBODY[:30]] == ["$argon2id$v=19$m=65536,t=3,p=4"]
    for password, status in ((PASSWORD + "!", 403), (PASSWORD, 200)):
        done = client.post("/owner/login", data={"name": "owner", "password": password})
        assert done.status_code == status


def test_a_new_password_ends_other_sessions(store, owner):
    token = store.invite("owner", role="owner", keep_sessions=True)
    other = TestClient(owner.app)
    other.post(f"/join/{token}", data={"password": "another horse", "again": "another horse"})
    assert owner.get("/owner").url.path == "/owner/login"
    assert owner.post("/owner/login", data={"name": "owner", "password": PASSWORD}).status_code == 403


def test_alone_there_is_no_password(store, tmp_path):
    app = create_app(store, classes(), tmp_path / "cache", title="fish", callbacks=AppCallbacks(alone=True))
    with TestClient(app) as client:
        token = store.invite("me", role="owner")
        said = client.get(f"/join/{token}").text
        assert "Hello. You will see" in said
        assert "This link works only once." in said
        assert client.post(f"/join/{token}").url.path == "/"
        assert client.get(f"/join/{token}").status_code == 404
        assert client.get("/owner").status_code == 200


def test_a_rater_keeps_the_link(store, client):
    token = store.invite("ann")
    client.post(f"/join/{token}")
    said = client.get(f"/join/{token}").text
    assert "Hello ann. You will see" in said
    assert "Keep the link, so that you can come back later" in said


@pytest.mark.parametrize(
    "address", ["/owner", "/owner/disagreements", "/owner/remarks", "/owner/export/votes.parquet"]
)
def test_only_the_owner_sees_it(store, client, address):
    assert client.get(address).url.path == "/owner/login"
    client.post(f"/join/{store.invite('ann')}")
    assert client.get(address).status_code == 403


@pytest.mark.parametrize(
    ("address", "fields"),
    [
        ("/owner/state", {"state": "closed"}),
        ("/owner/invite", {"names": "eve"}),
        ("/owner/raters/1", {"act": "stop"}),
    ],
)
def test_changes_need_the_owner_and_the_page(store, owner, address, fields):
    assert owner.post(address, data=fields).status_code == 403
    assert owner.post(address, data=fields | {"csrf": "0" * 64}).status_code == 403
    stranger = TestClient(owner.app, follow_redirects=False)
    assert stranger.post(address, data=fields).status_code in (401, 403)
    stranger.post(f"/join/{store.invite('ann')}")
    page = stranger.get("/").text
    token = re.search(r'name="csrf" content="(\w+)"', page)[1]
    assert stranger.post(address, data=fields | {"csrf": token}).status_code == 403
    assert store.settings().state == "running"
    assert [r.name for r in store.raters()] == ["ann", "owner"]


# What it shows.


def test_numbers_of_a_new_campaign(owner):
    said = text_of(owner.get("/owner"))
    assert "0 of 4 pages" in said
    assert "completed questions 0 of 12" in said
    assert "unknown: no answers in the last 24 hours" in said
    assert "No raters have been invited yet." in said


def test_numbers_while_it_runs(store, owner):
    ann, bob = rater(store, "ann"), rater(store, "bob")
    for who, value in ((ann, YES), (bob, NO)):
        for visit in store.queue(who).visits[:2]:
            answer(store, who, visit, value=value)
    visit = store.last_done(ann)
    answer(store, ann, visit, [visit.shown[0]], NO)
    owner.app.state.context.status.invalidate()
    said = text_of(owner.get("/owner"))
    assert "2 of 4 pages" in said
    assert "completed questions 6 of 12" in said
    assert "answers 12 changed answers 1" in said
    assert "12 answers by 2 raters in the last hour." in said
    assert (
        "2 pages to decide Raters disagree on 5 questions (only questions with at least 2 answers are "
        "considered). Disagreements decided so far: 0." in said
    )
    assert "about 1 min at the pace of the last 1 min (12 answers)" in said


def test_agreement_and_quality_are_what_is_judged(store, tmp_path):
    seen = {}

    class Judged:
        agreement = pa.table(
            {
                "measure": ["fleiss_kappa"],
                "value": [-0.25],
                "lo": [-0.5],
                "hi": [0.1],
                "n": [6],
                "n_skipped": [0],
            }
        )
        raters = pa.table(
            {
                "rater_id": ["ann"],
                "informedness": [0.5],
                "informedness_lo": [0.25],
                "informedness_hi": [0.75],
                "golden": [3],
                "golden_yes": [1],
                "golden_sensitivity": [1.0],
                "golden_specificity": [0.5],
                "golden_specificity_lo": [0.1],
                "golden_specificity_hi": [0.9],
                "agreement": [0.75],
                "others": [6],
                "seconds": [2.0],
                "pages": [2],
                "flags": [["spammer"]],
            }
        )

    def judge(votes, golden):
        seen["votes"], seen["golden"] = votes, golden
        return Judged

    app = create_app(
        store, classes(), tmp_path / "c", title="fish", callbacks=AppCallbacks(judge=judge, alone=True)
    )
    ann = rater(store, "ann")
    store.change_settings(qualify=1)
    golden = store.queue(ann).visits[0]
    for c in golden.shown:
        answer(store, ann, golden, [c], YES if c == 0 else NO)
    visit = store.queue(ann).visits[0]
    answer(store, ann, visit, [0, 1, 2], NO)
    answer(store, ann, visit, [1], YES)
    with TestClient(app) as client:
        client.post(f"/join/{store.invite('me', role='owner')}")
        said = text_of(client.get("/owner"))
    votes = seen["votes"]
    rows = {(r["image_id"], r["class_id"]): r["answer"] for r in votes.to_table().to_pylist()}
    name = visit.name
    assert rows == {
        (name, 0): "no",
        (name, 1): "yes",
        (name, 2): "no",
        (golden.name, 0): "yes",
        (golden.name, 1): "no",
        (golden.name, 2): "no",
    }
    assert sorted(seen["golden"].to_table()["answer"].to_pylist()) == ["no"] * 4 + ["yes"] * 2
    assert "Fleiss’ kappa −0.25 −0.50 to 0.10 n 6 questions" in said
    assert "1.00 n 1" in said
    assert "0.50 0.10 to 0.90 n 2" in said
    assert "0.50 0.25 to 0.75" in said
    assert "spammer" in said


def test_remarks_and_missing_classes(store, owner):
    ann, bob = rater(store, "ann"), rater(store, "bob")
    for who in (bob, ann):
        one, two = store.queue(who).visits[:2]
        store.store(
            who,
            [NewRemark(key(), one.key, missing_class_id=0), NewRemark(key(), one.key, "<script>x</script>")],
        )
    store.store(ann, [NewRemark(key(), two.key, missing_class_id=2)])
    page = owner.get("/owner/remarks")
    assert "<script>x" not in page.text
    assert "&lt;script&gt;x&lt;/script&gt;" in page.text
    assert "&lt;i&gt;tench&lt;/i&gt;" in page.text
    # Two raters missed class 0 on one image: that is one image.
    assert "&lt;i&gt;tench&lt;/i&gt; 1 shark 1" in text_of(page), text_of(page)
    only = owner.get("/owner/remarks?missing=2")
    assert "ann on" in text_of(only)
    assert "bob on" not in text_of(only)


# What it changes.


def test_pause_close_reopen(store, owner):
    for state, button in (("paused", "Resume"), ("closed", "Reopen"), ("running", "Pause")):
        page = send(owner, "/owner/state", state=state)
        assert page.url.path == "/owner"
        assert store.settings().state == state
        assert f">{button}</button>" in page.text
    assert send(owner, "/owner/state", state="asleep").status_code == 422


def test_invite_some_and_each_link_works_until_it_is_revoked(store, owner):
    page = send(owner, "/owner/invite", names="ann\n bob \n\nann\n", max_pages="7", refines="true")
    links = dict(
        re.findall(r'<th scope="row">(\w+)</th><td><code>http://testserver(/join/[\w-]+)</code>', page.text)
    )
    assert set(links) == {"ann", "bob"}
    guest = TestClient(owner.app)
    assert guest.post(links["ann"]).url.path == "/"
    people = {r.name: r for r in store.raters()}
    assert (people["ann"].max_pages, people["ann"].refines, people["ann"].may_refine) == (7, True, True)
    assert links["ann"] not in owner.get("/owner").text
    # A new link ends the old one, and its sessions.
    again = send(owner, f"/owner/raters/{people['ann'].id}", act="invite")
    new = re.search(r"http://testserver(/join/[\w-]+)", again.text)[1]
    assert guest.get("/").status_code == 401
    assert guest.get(links["ann"]).status_code == 404
    assert guest.post(new).status_code == 200
    send(owner, f"/owner/raters/{people['ann'].id}", act="revoke")
    assert guest.get("/").status_code == 401
    assert guest.post(new).status_code == 404
    assert "revoked" in owner.get("/owner").text


def test_links_are_for_where_people_reach_it(store, tmp_path):
    reach = Reach.of("127.0.0.1", "https://rate.example.org/")
    app = create_app(
        store, classes(), tmp_path / "c", title="fish", callbacks=AppCallbacks(alone=True), reach=reach
    )
    with TestClient(app, "https://rate.example.org") as client:
        client.post(f"/join/{store.invite('me', role='owner')}")
        page = send(client, "/owner/invite", names="ann")
    assert re.search(r"<code>https://rate\.example\.org/join/[\w-]{43}</code>", page.text)


def test_names_that_are_none_are_refused_by_name(store, owner):
    page = send(owner, "/owner/invite", names="owner\nann\n" + "x" * 81)
    assert page.status_code == 422
    assert re.search(
        r"This is not a valid name of a rater\. Got: &#39;x+&#39;\. Allowed: 1 to 80 printable characters",
        page.text,
    )
    assert [r.name for r in store.raters()] == ["ann", "owner"]
    page = send(owner, "/owner/invite", names="owner")
    assert (
        "The name is taken. Got: &#39;owner&#39;. Allowed: a name that does not belong to an owner."
        in page.text
    )


def test_stop_let_go_on_and_limits(store, owner):
    ann = rater(store, "ann")
    address = f"/owner/raters/{ann.id}"
    send(owner, address, act="stop")
    assert store.queue(ann).reason == "stopped"
    page = owner.get("/owner")
    assert "Reinstate" in page.text
    send(owner, address, act="go-on")
    assert store.queue(ann).visits
    send(owner, address, act="change", max_pages="1", refines="true")
    (found,) = [r for r in store.raters() if r.name == "ann"]
    assert (found.max_pages, found.refines, found.state, found.qualified) == (1, True, "active", True)
    send(owner, address, act="change", max_pages="")
    (found,) = [r for r in store.raters() if r.name == "ann"]
    assert (found.max_pages, found.refines) == (None, False)
    me = next(r for r in store.raters() if r.is_owner)
    assert send(owner, f"/owner/raters/{me.id}", act="revoke").status_code == 404


def test_settings_are_kept_or_refused_whole(store, owner):
    forms = dict(Forms(owner.get("/owner").text).found)
    fields = forms["/owner/settings"]
    assert fields["raters"] == "2"
    page = owner.post(
        "/owner/settings", data=fields | {"raters": "3", "show_label": "true", "refine_from": "2"}
    )
    assert page.url.path == "/owner"
    found = store.settings()
    assert (found.raters, found.show_label, found.refine_from) == (3, True, 2)
    assert store.count_free() == 12
    wrong = owner.post("/owner/settings", data=fields | {"least_informedness": "7"})
    assert wrong.status_code == 422
    assert "is out of range. Got: 7. Allowed: -1 to 1." in wrong.text.replace("&#39;", "'")
    assert store.settings() == found


def test_export(store, tmp_path):
    def write(folder):
        pq.write_table(pa.table({"answer": ["yes"]}), folder / "votes.parquet")
        return [folder / "votes.parquet"]

    app = create_app(
        store, classes(), tmp_path / "c", title="fish", callbacks=AppCallbacks(export=write, alone=True)
    )
    with TestClient(app) as client:
        client.post(f"/join/{store.invite('me', role='owner')}")
        got = client.get("/owner/export/votes.parquet")
        assert pq.read_table(io.BytesIO(got.content))["answer"].to_pylist() == ["yes"]
        assert got.headers["content-disposition"] == 'attachment; filename="votes.parquet"'
        assert client.get("/owner/export/remarks.parquet").status_code == 404
        assert client.get("/owner/export/..%2fdb.sqlite").status_code in (404, 422)


# Golden pages.


def test_who_does_not_qualify_is_stopped_and_may_be_let_go_on(store, owner):
    store.change_settings(qualify=2, least_informedness=0.5)
    good, bad = rater(store, "good"), rater(store, "bad")
    for who in (good, bad):
        pages = store.queue(who).visits
        # Nothing but golden pages before it is known.
        assert {v.name for v in pages} == {"golden0.jpg", "golden1.jpg"}
        for visit in pages:
            for c in visit.shown:
                answer(store, who, visit, [c], YES if (c == 0) == (who is good) else NO)
    assert store.queue(good).reason == ""
    stopped = store.queue(bad)
    assert (stopped.visits, stopped.reason) == ([], "stopped")
    assert {r.name: r.qualified for r in store.raters()} == {"good": True, "bad": False, "owner": None}
    # A new link does not help; the owner does.
    store.invite("bad")
    assert store.queue(bad).reason == "stopped"
    assert "not qualified" in owner.get("/owner").text
    store.let_go_on(bad.id)
    assert store.queue(bad).visits
    assert not {v.name for v in store.queue(bad).visits} & {"golden0.jpg", "golden1.jpg"}


def test_golden_pages_cannot_be_left_out_by_leaving(store):
    store.change_settings(qualify=2, lease_minutes=0.01)
    ann = rater(store, "ann")
    keys = {v.key for v in store.queue(ann).visits}
    store._database.write(lambda c: c.exec_driver_sql("UPDATE visits SET expires_at = 0"))
    assert {v.key for v in store.queue(ann).visits} == keys


def test_golden_pages_come_in_between_and_nothing_tells_them_apart(store, client):
    store.change_settings(golden_every=1)
    client.post(f"/join/{store.invite('ann')}")
    token = re.search(r'name="csrf" content="(\w+)"', client.get("/").text)[1]
    given = client.post("/api/queue", json={}, headers={"x-csrf": token}).json()
    assert {frozenset(p) for p in given["pages"]} == {frozenset(given["pages"][0])}
    visits = store.queue(next(r for r in store.raters())).visits
    assert sum(v.name.startswith("golden") for v in visits) == 2
    assert "golden" not in str(given)


def test_the_owner_removes_remarks(store, owner):
    ann = rater(store)
    visit = store.queue(ann).visits[0]
    store.store(ann, [NewRemark(key(), visit.key, text) for text in ("useful", "spam", "more spam")])
    spam = [remark.id for remark in store.remarks() if "spam" in remark.text]
    page = send(owner, "/owner/remarks/remove", remark=spam)
    assert page.url.path == "/owner/remarks"
    assert "useful" in page.text
    assert "spam" not in page.text
    assert send(owner, "/owner/remarks/remove").status_code == 422


def test_names_that_come_again_keep_their_links(store, owner):
    first = send(owner, "/owner/invite", names="ann\nbob")
    link = re.search(r"http://testserver(/join/[\w-]+)", first.text)[1]
    guest = TestClient(owner.app)
    guest.post(link)
    page = send(owner, "/owner/invite", names="ann\nbob\ncem")
    assert re.findall(r'<th scope="row">(\w+)</th><td><code>', page.text) == ["cem"]
    assert "These raters were invited before and keep their earlier links: ann, bob." in text_of(page)
    assert guest.get("/").status_code == 200
    assert guest.get(link).status_code == 200
    assert owner.get("/owner/invite").url.path == "/owner"


def test_links_as_a_file(store, owner):
    store.invite("ann")
    made = send(owner, "/owner/invite", names='ann\ncem\n"d", e', file="true")
    assert made.headers["content-type"] == "text/csv; charset=utf-8"
    assert made.headers["content-disposition"] == 'attachment; filename="links.csv"'
    rows = list(csv.DictReader(io.StringIO(made.text)))
    assert [row["rater"] for row in rows] == ["cem", '"d", e']  # ann keeps the one that she has
    assert TestClient(owner.app).get(rows[1]["link"]).status_code == 200
    none = send(owner, "/owner/invite", names="ann", file="true")
    assert "These raters were invited before and keep their earlier links: ann." in text_of(none)


def test_a_qualification_that_all_raters_pass_is_noted(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/other.sqlite")
    asked = [ImageQuestions(f"{n}.jpg", "", 0, (0, 1), {0: True, 1: True}) for n in range(3)]
    store.fill(asked, [], CampaignSettings(raters=1, qualify=2), "x")
    app = create_app(store, classes(), tmp_path / "cache", title="x", callbacks=AppCallbacks(alone=True))
    note = "Note: all raters qualify, because all golden questions have the same true answer."
    with TestClient(app) as client:
        client.post(f"/join/{store.invite('me', role='owner')}")
        assert note in client.get("/owner").text
        store.change_settings(qualify=0)
        assert "Note:" not in client.get("/owner").text
    store.close()


def test_a_campaign_has_a_title(store, owner):
    page = owner.get("/owner")
    fields = dict(re.findall(r'<input type="number" name="(\w+)" value="([^"]*)"', page.text))
    assert "<h1>fish &lt;b&gt;</h1>" in page.text  # its folder
    link = f"/join/{store.invite('ann')}"
    shown = send(owner, "/owner/settings", **fields | {"title": "Fish & <i>birds</i>"})
    for page in (shown, TestClient(owner.app).get(link), TestClient(owner.app).get("/")):
        assert "<h1>Fish &amp; &lt;i&gt;birds&lt;/i&gt;</h1>" in page.text
    assert "<title>Fish &amp;" in TestClient(owner.app).get(link).text
    send(owner, "/owner/settings", **fields | {"title": " "})
    assert "<h1>fish &lt;b&gt;</h1>" in TestClient(owner.app).get(link).text


def test_without_golden_questions_nobody_qualifies(tmp_path):
    store = filled(f"sqlite:///{tmp_path}/other.sqlite", pages=1)
    with TestClient(create_app(store, classes(), tmp_path / "cache", title="x")) as client:
        client.post(
            f"/join/{store.invite('me', role='owner')}", data={"password": PASSWORD, "again": PASSWORD}
        )
        page = client.get("/owner")
        fields = dict(re.findall(r'<input type="number" name="(\w+)" value="([^"]*)"', page.text))
        told = client.post("/owner/settings", data=fields | {"qualify": "3", "csrf": csrf(page)})
    assert told.status_code == 422
    assert "Raters cannot qualify: the campaign has no golden pages." in told.text
    assert store.settings().qualify == 0
    store.close()


def test_an_earlier_campaign_without_golden_questions_can_be_closed(tmp_path):
    """Before, it could begin with a qualification that let everybody pass."""
    store = filled(f"sqlite:///{tmp_path}/other.sqlite", pages=1)
    store._database.write(
        lambda c: c.exec_driver_sql("UPDATE settings SET value = '{\"qualify\": 3}' WHERE key = 'settings'")
    )
    store.change_settings(state="closed")
    assert (store.settings().state, store.settings().qualify) == ("closed", 3)
    store.close()
