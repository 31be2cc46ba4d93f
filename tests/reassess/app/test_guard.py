"""What does not get in: foreign names and sites, too much, too slow, too often."""

import asyncio
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from manyhot.errors import InputError, OutputError
from manyhot.reassess.app import Reach, create_app
from manyhot.reassess.app.access import (
    GUESS_RATE,
    LOGIN_RATE,
    MAX_CONNECTIONS,
    STRANGER_RATE,
    Buckets,
    Limits,
)
from manyhot.reassess.app.server import configured
from raters_page import CLASSES, make
from stores import classes, filled, key

HTTPS = "https://rate.example.org"


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    campaign = make(tmp_path_factory.mktemp("campaign"), pages=3)
    campaign.store.set_password(campaign.store.invite("boss", role="owner"), "correct horse")
    yield campaign
    campaign.store.close()


@pytest.fixture
def app(campaign):
    return served(campaign, Reach.of("127.0.0.1"))


def served(campaign, reach):
    return create_app(campaign.store, CLASSES, campaign.folder / "cache", title="A campaign", reach=reach)


def local(app, **more):
    return TestClient(app, "http://127.0.0.1:8000", follow_redirects=False, **more)


# Names.


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "[::1]:8000", "192.168.1.5:80", "app.localhost:1"]
)
def test_own_names_are_answered(app, host):
    assert local(app).get("/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:8000",
        "",
        "a@localhost:b",
        "localhost@evil.example",
        "[::1",
        "localhost, evil.example",
    ],
)
def test_foreign_names_are_not(app, host):
    answer = local(app).get("/", headers={"host": host})
    assert answer.status_code == 421
    assert (
        answer.text == "Misdirected Request. The app is not served under this host name; allow it with "
        "manyhot annotate --allow-host NAME."
    )


def test_two_hosts_are_refused(app):
    answer = local(app).get("/", headers=[("host", "localhost"), ("host", "evil.example")])
    assert answer.status_code == 400


def test_names_that_are_given_are_answered(campaign):
    client = local(served(campaign, Reach.of("0.0.0.0", HTTPS, ["Lab-7"])))
    for host, status in (("rate.example.org", 200), ("lab-7:8000", 200), ("lab-8", 421)):
        assert client.get("/health", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    "address", ["rate.example.org", "ftp://a.b", "https://", "https://a.b/path", "javascript://a.b"]
)
def test_an_address_that_is_none(address):
    with pytest.raises(InputError) as raised:
        Reach.of("127.0.0.1", address)
    assert str(raised.value) == (
        f"This is not a valid address of the app.\n  got:     {address}\n"
        "  allowed: https://NAME or http://NAME, optionally with :PORT"
    )


def test_a_proxy_that_is_none():
    with pytest.raises(InputError) as raised:
        Reach.of("127.0.0.1", None, (), ["nginx"])
    assert str(raised.value) == (
        "This is not a valid address of a proxy.\n  got:     nginx\n"
        "  allowed: an IP address, or a network such as 10.0.0.0/8"
    )


# Other sites.


@pytest.mark.parametrize(
    "sent",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9000"},
        {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "cross-site"},
        {"origin": "chrome-extension://127.0.0.1:8000"},
    ],
)
@pytest.mark.parametrize("address", ["/join/TOKEN", "/owner/login", "/api/answers", "/leave"])
def test_what_another_site_sends_is_refused(app, campaign, address, sent):
    address = address.replace("TOKEN", campaign.store.invite("ann"))
    answer = local(app).post(address, data={"name": "boss", "password": "correct horse"}, headers=sent)
    assert (answer.status_code, answer.headers.get("set-cookie")) == (403, None)


def test_what_its_own_pages_send_is_not(app, campaign):
    for sent in ({}, {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}):
        token = campaign.store.invite("ann")
        assert local(app).post(f"/join/{token}", headers=sent).status_code == 303


# Cookies, links and proxies.


def cookie_of(app, campaign, base="http://127.0.0.1:8000", **headers):
    token = campaign.store.invite("ann")
    answer = TestClient(app, base, follow_redirects=False).post(f"/join/{token}", headers=headers)
    return answer.headers["set-cookie"]


def test_cookies_of_https_are_for_it_alone(campaign):
    plain = cookie_of(served(campaign, Reach.of("127.0.0.1")), campaign)
    assert "Secure" not in plain
    safe = cookie_of(served(campaign, Reach.of("127.0.0.1", HTTPS)), campaign, HTTPS)
    assert safe.startswith("__Host-manyhot-")
    for cookie in (plain, safe):
        assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
        assert "Domain" not in cookie
    assert "Secure" in safe


def test_who_is_no_proxy_says_nothing_about_others():
    alone = Reach.of("127.0.0.1")
    assert alone.client("127.0.0.1", "1.2.3.4") == "127.0.0.1"
    assert not alone.is_https("http", "127.0.0.1", "https")
    behind = Reach.of("127.0.0.1", HTTPS)
    assert behind.client("127.0.0.1", "6.6.6.6, 1.2.3.4") == "1.2.3.4"
    assert behind.client("9.9.9.9", "1.2.3.4") == "9.9.9.9"
    chain = Reach.of("0.0.0.0", None, (), ["10.0.0.0/8"])
    assert chain.client("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.1.1.1") == "1.2.3.4"
    assert chain.client("10.0.0.1", "1.2.3.4, nonsense") == "10.0.0.1"
    assert chain.is_https("http", "10.0.0.1", "https")
    assert not chain.is_https("http", "1.2.3.4", "https")
    assert chain.client("2001:db8:1:2:3:4:5:6", "") == "2001:db8:1:2::/64"
    assert chain.client("::ffff:1.2.3.4", "") == "1.2.3.4"


# What browsers are told.


@pytest.mark.parametrize(
    "address", ["/", "/nothing", "/owner/login", "/api/back", "/static/x/app.css", "/health"]
)
def test_every_answer_says_what_browsers_must_not_do(app, address):
    said = local(app).get(address).headers
    assert said["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert said["x-content-type-options"] == "nosniff"
    assert said["x-frame-options"] == "DENY"
    assert said["referrer-policy"] == "same-origin"
    assert said["cache-control"] == "no-store"
    assert "server" not in said


def test_an_error_of_ours_says_nothing(app, campaign, monkeypatch):
    def fail(*_):
        raise RuntimeError("secret of /home/me")

    monkeypatch.setattr(campaign.store, "invited", fail)
    client = local(app, raise_server_exceptions=False)
    answer = client.get("/join/some-token", headers={"accept": "text/html"})
    assert answer.status_code == 500
    assert "Something went wrong on the server. Please try again." in answer.text
    assert "secret" not in answer.text
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


def test_what_is_wrong_is_told_without_what_was_sent(app):
    answer = local(app).post("/owner/login", data={"name": "boss", "password": "sesame" * 200})
    assert answer.status_code == 422
    assert "password: String should have at most 1000 characters" in answer.text
    assert "sesame" not in answer.text


# Too much, too slow, too often.


def test_long_addresses_headers_and_bodies(app):
    client = local(app)
    assert client.get("/api/classes?q=" + "a" * 5000).status_code == 414
    assert client.get("/", headers={"x-long": "a" * 40_000}).status_code == 431
    assert client.post("/owner/login", content=b"x" * 300_000).status_code == 413
    parts = (b"x" * 100_000 for _ in range(4))  # no length is told
    answer = client.post("/api/answers", content=parts, headers={"content-type": "application/json"})
    assert answer.status_code in (401, 413)


def test_passwords_are_tried_so_often(app):
    client = local(app)
    wrong = {"name": "boss", "password": "wrong horse"}
    statuses = [client.post("/owner/login", data=wrong).status_code for _ in range(int(LOGIN_RATE[1]) + 1)]
    assert statuses == [403] * int(LOGIN_RATE[1]) + [429]
    refused = client.post("/owner/login", data={"name": "boss", "password": "correct horse"})
    assert (refused.status_code, 1 <= int(refused.headers["retry-after"]) <= 11) == (429, True)


def test_guesses_at_one_name_count_wherever_they_come_from():
    from fastapi import HTTPException

    limits = Limits()
    for n in range(int(GUESS_RATE[1])):
        limits.try_password(f"10.0.0.{n}", "boss")
    with pytest.raises(HTTPException) as raised:
        limits.try_password("10.0.1.1", "boss")
    assert raised.value.status_code == 429
    limits.try_password("10.0.1.1", "another")


def test_few_passwords_are_hashed_at_once():
    from contextlib import ExitStack

    from fastapi import HTTPException

    limits = Limits()
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(limits.hashing())
        with pytest.raises(HTTPException) as raised, limits.hashing():
            pass
    assert (raised.value.status_code, raised.value.headers) == (503, {"Retry-After": "2"})
    with limits.hashing():
        pass


def test_a_bucket():
    now = [0.0]
    buckets = Buckets((2.0, 3.0), most=2, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    buckets.give_back("a")
    assert (buckets.take("a"), buckets.take("b")) == (0.0, 0.0)
    now[0] = 0.5
    assert [buckets.take("a"), buckets.take("a")] == [0, 0.5]
    now[0] = 100.0
    assert [buckets.take("a", 3), buckets.take("a")] == [0, 0.5]
    buckets.take("b", 3)
    buckets.take("c")  # nothing is full: who asked least lately is forgotten
    assert buckets.take("b") > 0
    assert buckets.take("a") == 0


def test_strangers_are_limited_and_raters_beside_them_are_not(app, campaign):
    rate, full = STRANGER_RATE
    app.state.context.limits.strangers = Buckets((rate / 1000, full))  # machines of tests are slow
    ann, stranger = local(app), local(app, cookies={"x": "y"})
    ann.post(f"/join/{campaign.store.invite('ann')}")
    assert ann.get("/").status_code == 200
    statuses = {stranger.get("/join/guess").status_code for _ in range(int(full) + 1)}
    assert statuses == {404, 429}
    assert stranger.get("/join/guess").headers["retry-after"].isdigit()
    assert ann.get("/").status_code == 200
    assert local(app).get("/health").status_code == 200
    forged = local(app, cookies={f"manyhot-{campaign.store.campaign_id()}": "forged"})
    assert forged.get("/").status_code == 429


def test_a_fast_rater_meets_no_limit():
    """A page a second for an hour: 8 answers, a look at the queue, 65 images."""
    now = [0.0]
    from manyhot.reassess.app.access import IMAGE_RATE, SESSION_RATE

    requests, images = (Buckets(limit, clock=lambda: now[0]) for limit in (SESSION_RATE, IMAGE_RATE))
    for second in range(3600):
        now[0] = float(second)
        assert not any(requests.take("ann") for _ in range(9))
        assert not any(images.take("ann") for _ in range(65))


# On the wire.


@pytest.fixture(scope="module")
def wire(campaign):
    """Yield the address of a server as `manyhot annotate` starts it, whose patience is short."""
    import threading

    import uvicorn

    from manyhot.reassess.app import access
    from manyhot.reassess.app.server import _listen, configured

    patch = pytest.MonkeyPatch()
    patch.setattr(access, "HEAD_SECONDS", 0.5)
    patch.setattr("manyhot.reassess.app.guard.BODY_SECONDS", 0.5)
    app = served(campaign, Reach.of("127.0.0.1"))
    with _listen("127.0.0.1", 0) as listening:
        server = uvicorn.Server(configured(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield listening.getsockname()
        server.should_exit = True
        thread.join()
    patch.undo()


def said(address, *parts, pause=0.0):
    """Send parts and return what comes until the server ends the connection."""
    with socket.create_connection(address, timeout=5) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
            got = b""
            while data := connection.recv(65536):
                got += data
        except ConnectionError:
            return b"dropped"
        return got


def test_who_says_nothing_is_dropped(wire):
    began = time.monotonic()
    assert said(wire) in (b"", b"dropped")
    assert said(wire, *[b"GET / HTTP/1.1\r\n", *[b"a: b\r\n"] * 20], pause=0.1) in (b"", b"dropped")
    assert time.monotonic() - began < 5


def test_heads_that_do_not_end_are_dropped(wire):
    assert said(wire, b"GET / HTTP/1.1\r\n" + b"a: " + b"x" * 300_000) in (b"", b"dropped")
    assert said(wire, b"GET /" + b"x" * 300_000) in (b"", b"dropped")


def test_a_body_that_does_not_come_is_refused(wire):
    head = b"POST /owner/login HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n"
    got = said(wire, head + b"content-type: application/x-www-form-urlencoded\r\n\r\nname=a")
    assert got.startswith(b"HTTP/1.1 408 ")


def test_forwarded_headers_of_strangers_are_nothing(wire):
    got = said(
        wire,
        b"GET /join/x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        b"x-forwarded-proto: https\r\nx-forwarded-for: 1.2.3.4\r\nx-forwarded-host: evil.example\r\n\r\n",
    )
    assert got.startswith(b"HTTP/1.1 404 ")
    assert b"evil" not in got
    assert b"server:" not in got.lower()


# What browsers keep.


def test_a_strip_is_kept_for_good_once_it_is_whole(tmp_path):
    campaign = make(tmp_path, pages=1, examples=3)
    client = local(served(campaign, Reach.of("127.0.0.1")))
    client.post("/join/" + campaign.store.invite("ann"))
    address = f"/examples/{campaign.store.campaign_id()}/0/strip"
    away = (tmp_path / "e0-1.jpg").rename(tmp_path / "away")
    lacking = client.get(address)
    assert (lacking.status_code, lacking.headers["cache-control"]) == (200, "no-store")
    away.rename(tmp_path / "e0-1.jpg")
    whole = client.get(address)
    assert whole.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert whole.content != lacking.content
    again = client.get(address, headers={"if-none-match": whole.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(address).content == whole.content
    campaign.store.close()


def test_one_rater_sends_as_much_as_people_write(tmp_path):
    store = filled(f"sqlite:///{tmp_path}/db.sqlite", pages=1)
    app = create_app(store, classes(), tmp_path / "cache", title="fish")
    with TestClient(app, base_url="http://localhost") as client:
        statuses, bodies = [], 0
        for _ in range(3):  # a new session is no new rater
            client.cookies.clear()
            client.post(f"/join/{store.invite('ann')}")
            token = re.search(r'name="csrf" content="(\w+)"', client.get("/").text)[1]
            for _ in range(4):
                items = [{"key": key(), "page": "x" * 8, "text": "x" * 1900} for _ in range(60)]
                told = client.post("/api/answers", json={"items": items}, headers={"x-csrf": token})
                statuses.append(told.status_code)
                bodies += len(told.request.content) * (told.status_code == 200)
    store.close()
    assert statuses[0] == 200
    assert statuses[-1] == 429
    assert bodies < 1_000_000
    assert "You are sending too much text; try again in" in told.json()["detail"]
    assert int(told.headers["retry-after"]) >= 1


def test_strangers_who_come_at_once_do_not_all_pass(app, monkeypatch):
    limits = app.state.context.limits

    async def ask():
        statuses = []

        async def send(message):
            statuses.append(message.get("status"))

        async def receive():
            return {"type": "http.request", "body": b""}

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/owner/login",
            "query_string": b"",
            "scheme": "http",
        }
        scope |= {"headers": [(b"host", b"127.0.0.1:8000")], "client": ("10.1.1.1", 1), "root_path": ""}
        await app(scope | {"http_version": "1.1"}, receive, send)
        return statuses[0]

    async def burst(count):
        return await asyncio.gather(*(ask() for _ in range(count)))

    monkeypatch.setattr(limits, "strangers", Buckets((0.001, 30.0)))
    with ThreadPoolExecutor() as pool:  # this thread may have a loop: a browser's
        statuses = pool.submit(lambda: asyncio.run(burst(100))).result()
    assert statuses.count(200) == 30
    assert statuses.count(429) == 70


def test_who_has_a_session_is_no_stranger(campaign, app):
    limits = app.state.context.limits
    limits.strangers = Buckets((0.001, 3.0))
    with local(app) as client:
        assert client.post(f"/join/{campaign.store.invite('zoe')}").status_code == 303
        for _ in range(9):
            limits._tokens.clear()  # as after a restart
            assert client.get("/").status_code == 200


@pytest.mark.parametrize(("peer", "cut"), [("10.99.0.1", False), ("10.99.0.2", True), ("127.0.0.1", False)])
def test_a_named_proxy_has_any_number_of_connections(campaign, peer, cut):
    app = served(campaign, Reach.of("0.0.0.0", "https://rate.example.org", proxies=["10.99.0.1"]))
    kind = configured(app).http
    connection = kind.__new__(kind)
    connection.client = (peer, 1)
    connection.connections = [SimpleNamespace(client=(peer, n)) for n in range(MAX_CONNECTIONS + 1)]
    aborted = []
    transport = SimpleNamespace(abort=lambda: aborted.append(peer))
    connection._wait = lambda: None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HttpToolsProtocol, "connection_made", lambda self, transport: None)
        connection.connection_made(transport)
    assert bool(aborted) == cut


def test_readiness_is_whether_answers_can_be_stored(campaign, monkeypatch):
    app = served(campaign, Reach.of("127.0.0.1"))
    with local(app) as client:
        assert client.get("/health/ready").status_code == 200

        def full(change):
            raise OutputError("The database is not available.", got="database or disk is full")

        monkeypatch.setattr(campaign.store._database, "write", full)
        app.state.context.ready.invalidate()
        told = client.get("/health/ready")
        assert told.status_code == 503
        assert "disk" not in told.text
        assert client.get("/health").status_code == 200
