"""Who may what: each route, for each role. A route that is not in the table fails the test."""

import re
import sqlite3
from contextlib import closing

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from starlette.routing import Mount

from manyhot.reassess.app import AppCallbacks, create_app
from raters_page import CLASSES, make

ROLES = ("nobody", "rater", "stopped", "refiner", "owner")
GUESTS, RATERS = set(ROLES), {"rater", "stopped", "refiner", "owner"}
REFINERS, OWNERS = {"refiner", "owner"}, {"owner"}
SETTINGS = {
    "raters": 4,
    "qualify": 0,
    "golden_every": 0,
    "least_informedness": 0,
    "lease_minutes": 60,
    "max_pages": 0,
    "refine_from": 0,
    "golden_latest": 0,
    "least_seconds": 0,
    "places": 0,
}
# Method and route to an address of it, who may, and the form or JSON that it takes.
TABLE = {
    ("GET", "/"): ("/", RATERS, None),
    ("GET", "/health"): ("/health", GUESTS, None),
    ("GET", "/health/ready"): ("/health/ready", GUESTS, None),
    ("GET", "/openapi.json"): ("/openapi.json", GUESTS, None),
    ("MOUNT", "/static"): ("/static/x/app.css", GUESTS, None),
    ("GET", "/join/{token}"): ("/join/TOKEN", GUESTS, None),
    ("POST", "/join/{token}"): ("/join/TOKEN", GUESTS, {}),
    ("GET", "/owner/login"): ("/owner/login", GUESTS, None),
    ("POST", "/owner/login"): ("/owner/login", GUESTS, {"name": "boss", "password": "correct horse"}),
    ("POST", "/leave"): ("/leave", RATERS, "json"),
    ("POST", "/owner/leave"): ("/owner/leave", RATERS, {}),
    ("POST", "/api/queue"): ("/api/queue", RATERS, "json"),
    ("GET", "/api/back"): ("/api/back", RATERS, None),
    ("POST", "/api/answers"): ("/api/answers", RATERS, {"items": []}),
    ("GET", "/api/classes"): ("/api/classes?q=cat", RATERS, None),
    ("IMAGES", "/images"): ("/images/ID/1/small", RATERS, None),
    ("IMAGES", "/examples"): ("/examples/ID/0/1/small", RATERS, None),
    ("IMAGES", "/examples strips"): ("/examples/ID/0/strip", RATERS, None),
    ("GET", "/refine"): ("/refine", REFINERS, None),
    ("GET", "/refine/page/{page}"): ("/refine/page/1", REFINERS, None),
    ("GET", "/refine/{key}"): ("/refine/a-key-of-nobody", REFINERS, None),
    ("POST", "/refine/{key}"): ("/refine/a-key-of-nobody", REFINERS, {"nonce": "0" * 16}),
    ("GET", "/owner"): ("/owner", OWNERS, None),
    ("GET", "/owner/disagreements"): ("/owner/disagreements", OWNERS, None),
    ("GET", "/owner/remarks"): ("/owner/remarks", OWNERS, None),
    ("POST", "/owner/remarks/remove"): ("/owner/remarks/remove", OWNERS, {"remark": 1}),
    ("GET", "/owner/export/{name}"): ("/owner/export/votes.parquet", OWNERS, None),
    ("POST", "/owner/state"): ("/owner/state", OWNERS, {"state": "running"}),
    ("POST", "/owner/settings"): ("/owner/settings", OWNERS, SETTINGS),
    ("GET", "/owner/invite"): ("/owner/invite", OWNERS, None),
    ("POST", "/owner/invite"): ("/owner/invite", OWNERS, {"names": "eve"}),
    ("POST", "/owner/raters"): ("/owner/raters", OWNERS, {"act": "go-on", "rater": 1}),
    ("POST", "/owner/crowd"): ("/owner/crowd", OWNERS, {}),
    ("GET", "/owner/payment.csv"): ("/owner/payment.csv", OWNERS, None),
    ("GET", "/offline.js"): ("/offline.js", GUESTS, None),
    ("GET", "/crowd/{token}"): ("/crowd/TOKEN", GUESTS, None),
    ("POST", "/crowd/{token}"): ("/crowd/TOKEN", GUESTS, {"participant": "p1"}),
    ("POST", "/owner/raters/{rater_id}"): ("/owner/raters/RATER", OWNERS, {"act": "go-on"}),
}
REFUSED = {401, 403}


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    campaign = make(tmp_path_factory.mktemp("campaign"), pages=12, classes=(0, 1), raters=4)
    campaign.store.set_password(campaign.store.invite("boss", role="owner"), "correct horse")
    yield campaign
    campaign.store.close()


@pytest.fixture(scope="module")
def app(campaign):
    return create_app(
        campaign.store,
        CLASSES,
        campaign.folder / "cache",
        title="A campaign",
        callbacks=AppCallbacks(alone=False),
    )


class Person:
    """Somebody's browser."""

    def __init__(self, app, store, role):
        self.client = TestClient(app, follow_redirects=False)
        self.store, self.csrf, self.id = store, "none", 0
        if role == "nobody":
            return
        name, owner = ("boss", True) if role == "owner" else (role, False)
        token = store.invite(name, role="owner" if owner else "rater", refines=role == "refiner")
        self.id = store.invited(token).id
        form = {"password": "correct horse", "again": "correct horse"} if owner else {}
        assert self.client.post(f"/join/{token}", data=form).status_code == 303
        self.csrf = re.search(r'name="csrf" content="(\w+)"', self.client.get("/").text)[1]
        if role == "stopped":
            store.stop(self.id)

    def send(self, method, address, what):
        """Send a request as a page of the app would."""
        if method not in ("POST",):
            return self.client.get(address)
        if what == "json" or address.startswith("/api/"):
            body = {} if what == "json" else what
            return self.client.post(address, json=body, headers={"x-csrf": self.csrf})
        return self.client.post(address, data={"csrf": self.csrf} | what)


def test_the_table_has_each_route(app):
    routes = {key for key in TABLE if key[0] == "IMAGES"}  # answered before there are routes
    for route in app.routes:
        if isinstance(route, Mount):
            routes.add(("MOUNT", route.path))
        elif isinstance(route, APIRoute) or hasattr(route, "methods"):
            routes |= {(method, route.path) for method in route.methods - {"HEAD"}}
    routes |= {
        (m, r.path)
        for included in app.routes
        for r in getattr(getattr(included, "original_router", None), "routes", ())
        for m in r.methods - {"HEAD"}
    }
    assert routes == set(TABLE)


@pytest.mark.parametrize("role", ROLES)
def test_each_route_is_for_whom_it_is(app, campaign, role):
    store = campaign.store
    for (method, route), (address, who, what) in TABLE.items():
        person = Person(app, store, role)
        token = store.invite("guest")
        address = address.replace("TOKEN", token).replace("ID", store.campaign_id())
        address = address.replace("RATER", str(store.invited(token).id))
        answer = person.send(method, address, what)
        led_away = answer.headers.get("location", "") == "/owner/login"
        refused = answer.status_code in REFUSED or led_away
        assert refused == (role not in who), (method, route, role, answer.status_code)
        assert answer.status_code < 500


@pytest.mark.parametrize("role", ROLES)
def test_a_change_without_the_token_of_the_session_is_refused(app, campaign, role):
    tokenless = {("POST", "/join/{token}"), ("POST", "/crowd/{token}"), ("POST", "/owner/login")}
    person = Person(app, campaign.store, role)
    other = Person(app, campaign.store, "refiner")
    for forged in ("", "0" * 64, other.csrf if role != "refiner" else ""):
        person.csrf = forged
        for (method, route), (address, _, what) in TABLE.items():
            if method == "POST" and (method, route) not in tokenless:
                answer = person.send(method, address.replace("RATER", "1"), what)
                assert answer.status_code in REFUSED, (route, forged)
    assert campaign.store.settings().state == "running"


def item(page, key="key-of-a-vote"):
    return {"key": key, "page": page, "class_id": 0, "answer": "yes"}


def test_another_raters_page_does_not_exist(app, campaign):
    ann, bob = Person(app, campaign.store, "rater"), Person(app, campaign.store, "refiner")
    page = ann.send("POST", "/api/queue", "json").json()["pages"][0]["page"]
    said = bob.send("POST", "/api/answers", {"items": [item(page)]}).json()
    assert said == {"kept": [], "refused": {"key-of-a-vote": "no such page"}}
    assert bob.send("GET", f"/refine/{page}", None).status_code == 404
    assert bob.send("POST", f"/refine/{page}", {"nonce": "0" * 16, "c0": "yes"}).status_code == 409
    assert bob.send("GET", f"/api/back?before={page}", None).status_code == 404
    # The same key sent by another is another's vote: it neither shows nor replaces the first.
    ours = ann.send("POST", "/api/answers", {"items": [item(page)]}).json()
    assert ours["kept"] == ["key-of-a-vote"]
    again = ann.send("POST", "/api/answers", {"items": [item(page) | {"answer": "no"}]}).json()
    assert again["kept"] == ["key-of-a-vote"]
    assert campaign.rows("SELECT answer FROM votes") == [(2,)]


def test_sessions_end(app, campaign):
    store = campaign.store
    for end in ("revoke", "leave", "expire", "invite"):
        ann = Person(app, store, "rater")
        cookies = dict(ann.client.cookies)
        assert ann.send("POST", "/api/queue", "json").status_code == 200
        if end == "revoke":
            store.revoke(ann.id)
            store.invite("rater", keep_sessions=True)  # not those that were ended
        elif end == "leave":
            assert ann.send("POST", "/leave", "json").status_code == 204
        elif end == "invite":
            store.invite("rater")
        else:
            with closing(sqlite3.connect(campaign.folder / "votes.sqlite")) as database:
                database.execute("UPDATE sessions SET expires_at = 1")
                database.commit()
            store._sessions.clear()  # what is remembered for two seconds
        ann.client.cookies.update(cookies)
        for method, address, what in (
            ("POST", "/api/queue", "json"),
            ("POST", "/api/answers", {"items": []}),
            ("GET", "/api/back", None),
            ("GET", "/", None),
        ):
            assert ann.send(method, address, what).status_code == 401, (end, address)


def test_what_a_stopped_rater_sends_is_not_stored(app, campaign):
    ann = Person(app, campaign.store, "rater")
    page = ann.send("POST", "/api/queue", "json").json()["pages"][0]["page"]
    campaign.store.stop(ann.id)
    said = ann.send("POST", "/api/answers", {"items": [item(page, "key-of-late")]}).json()
    assert (said["kept"], list(said["refused"])) == ([], ["key-of-late"])
    campaign.store.let_go_on(ann.id)


def test_the_cookie_of_another_campaign_is_of_no_use(app, campaign, tmp_path):
    other = make(tmp_path, pages=1)
    try:
        there = create_app(other.store, CLASSES, tmp_path / "cache", title="Another")
        ann = Person(app, campaign.store, "rater")
        value = next(iter(ann.client.cookies.values()))
        thief = TestClient(there, cookies={f"manyhot-{other.store.campaign_id()}": value})
        assert thief.get("/").status_code == 401
        assert thief.get(f"/images/{other.store.campaign_id()}/1/small").status_code == 401
        mine = f"/images/{other.store.campaign_id()}/1/small"
        assert ann.client.get(mine).status_code == 404
    finally:
        other.store.close()


def test_one_person_has_so_many_sessions(app, campaign):
    store = campaign.store
    rater = store.invited(store.invite("many"))
    tokens = [store.begin_session(rater) for _ in range(53)]
    alive = [store.of_session(token) is not None for token in tokens]
    assert alive == [False] * 3 + [True] * 50


def test_a_link_that_needs_no_password_works_once(campaign):
    app = create_app(
        campaign.store, CLASSES, campaign.folder / "cache", title="Alone", callbacks=AppCallbacks(alone=True)
    )
    token = campaign.store.invite("me", role="owner")
    client = TestClient(app)
    assert client.post(f"/join/{token}").status_code == 200
    assert client.get("/owner").status_code == 200
    assert TestClient(app).post(f"/join/{token}").status_code == 404
