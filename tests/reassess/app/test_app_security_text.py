"""What people write stays text: on every page, in queries, headers, files, logs and metadata."""

import io
import itertools
import logging
import os
import re
import stat
import sys
from html.parser import HTMLParser

import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from manyhot.classes import ClassList
from manyhot.cli.build import call
from manyhot.console import without_passwords
from manyhot.errors import InputError
from manyhot.reassess.app import AppCallbacks, CampaignSettings, Example, ImageQuestions, Store, create_app
from manyhot.reassess.app.picture_cache import PictureCache, read_picture

SCRIPT = "\"'><script>hit()</script><img src=x onerror=hit()>{{7*7}}</textarea></title>"
INJECTIONS = ("'; DROP TABLE votes; --", '" OR 1=1 --', "%' OR '1'='1", "\\'; SELECT pg_sleep(9); --", "$$;")
TEXTS = (*INJECTIONS, SCRIPT, "=HYPERLINK(1)", "a\0b", "\u202eevil", "x\r\nSet-Cookie: a=b", "ﷺ" * 2000)


class Elements(HTMLParser):
    """The elements of a page and all their attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}


@pytest.fixture
def store(url, tmp_path):
    path = tmp_path / f"{SCRIPT.replace('/', '_')[:60]}.png"
    Image.new("RGB", (8, 8)).save(path)
    store = Store(url)
    asked = [ImageQuestions(f"{SCRIPT}/../../{n}.jpg", str(path), 0, (0, 1)) for n in range(3)]
    examples = [Example(c, f"{SCRIPT}{c}", str(path)) for c in (0, 0, 1)]
    store.fill(asked, examples, CampaignSettings(raters=2, golden_every=0, show_label=True), "source")
    yield store
    store.close()


@pytest.fixture
def app(store, tmp_path):
    names = [SCRIPT, f"{SCRIPT} two"]
    classes = ClassList("x", [SCRIPT, "b"], names, [(SCRIPT,), ()], [SCRIPT, ""], [()] * 2)
    return create_app(store, classes, tmp_path / "cache", title=SCRIPT, callbacks=AppCallbacks(alone=True))


class Person:
    """Somebody's browser."""

    def __init__(self, app, store, name, **more):
        self.client = TestClient(app)
        self.client.post(f"/join/{store.invite(name, **more)}")
        self.csrf = re.search(r'name="csrf" content="(\w+)"', self.client.get("/").text)[1]

    def api(self, route, body):
        return self.client.post(f"/api/{route}", json=body, headers={"x-csrf": self.csrf}).json()


def test_whatever_is_written_is_kept_as_text_and_runs_nowhere(store, app):
    raters = [Person(app, store, name, refines=True) for name in (SCRIPT[:70], INJECTIONS[0])]
    for number, rater in enumerate(raters):
        while pages := rater.api("queue", {})["pages"]:
            page = pages[0]["page"]
            votes = [
                {"key": f"vote-{c}-{page}"[:60], "page": page, "class_id": c, "answer": ("yes", "no")[number]}
                for c in (0, 1)
            ]
            remarks = [
                {"key": f"remark-{n}-{page}"[:60], "page": page, "text": text[:2000], "missing_class_id": 1}
                for n, text in enumerate(TEXTS)
            ]
            assert rater.api("answers", {"items": remarks + votes})["refused"] == {}
    kept = {remark.text for remark in store.remarks()} | {r.text for r in store.remarks(before=20)}
    assert kept == {text[:2000].replace("\0", "\ufffd") for text in TEXTS}
    boss = Person(app, store, "boss", role="owner").client
    pages = [
        boss.get(address, headers={"accept": "text/html"}).text
        for address in ("/owner", "/owner/disagreements", "/owner/remarks", "/refine", "/refine?names", "/")
    ]
    pages.append(boss.get("/owner/remarks?missing=1").text)
    pages.append(raters[0].client.get("/refine").text)
    pages.append(TestClient(app).get(f"/join/{store.invite(SCRIPT[:60])}").text)
    pages.append(TestClient(app).get("/", headers={"accept": "text/html"}).text)
    assert all("hit()" in page for page in pages)
    for page in pages:
        found = Elements(page)
        assert not {name for name in found.attributes if name.startswith("on") or name == "style"}
        assert len(re.findall("<script", page)) == len(
            re.findall('<script type="module" src="/static/', page)
        )
        assert "{{7*7}}" in page  # and not 49
        assert "<img src=x" not in page


def test_what_is_searched_for_is_no_query(store, app):
    ann = Person(app, store, "ann")
    boss = Person(app, store, "boss", role="owner").client
    for text in TEXTS:
        assert ann.client.get("/api/classes", params={"q": text[:100]}).status_code == 200
        assert ann.client.get("/api/back", params={"before": text[:60]}).status_code == 422
        assert ann.client.get(f"/join/{text[:40].encode().hex()}").status_code == 404
        assert boss.get("/owner/remarks", params={"before": text[:100]}).status_code == 422
        assert boss.get("/refine", params={"last": text[:100]}).status_code == 422
        for refused in (
            TestClient(app).post("/owner/login", data={"name": text[:900], "password": text[:900]}),
            TestClient(app, follow_redirects=False).get(f"/refine?last={text[:9].encode().hex()}"),
        ):
            assert refused.status_code in (401, 403, 429)
            assert "a=b" not in refused.headers.get("set-cookie", "")
    assert [r.name for r in store.raters()] == ["ann", "boss"]


HALF = '{"items":[{"key":"key-of-half","page":"PAGE","text":"cut \\ud83d"}]}'


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (HALF, 200),
        ('{"items":[{"key":"key-of-one","page":"PAGE","\\ud800":1}]}', 422),
        ('{"items":[{"key":"key-of-one","page":"PAGE","class_id":0,"answer":"no","age_ms":NaN}]}', 422),
        ('{"items":[{"key":"key-of-one","page":"PAGE","class_id":"0","answer":"no"}]}', 422),
        ('{"items":[{"key":"key-of-one","page":"PAGE","class_id":0,"answer":"no","main":1}]}', 422),
        ('{"items":[{"key":"key-of-one","page":"PAGE","class_id":' + "9" * 5000 + ',"answer":"no"}]}', 400),
        ('{"items":' + "[" * 100_000 + "]" * 100_000 + "}", 400),
        ('{"items":[' + ",".join(["{}"] * 201) + "]}", 422),
        ("", 422),
        ("null", 422),
    ],
)
def test_json_that_is_no_answer(tmp_path, body, status):
    store = Store(f"sqlite:///{tmp_path}/a.sqlite")
    try:
        store.fill([ImageQuestions("a", "a", 0, (0,))], [], CampaignSettings(), "source")
        empty = [()]
        app = create_app(store, ClassList("x", ["a"], ["a"], empty, [""], empty), tmp_path, title="x")
        ann = Person(app, store, "ann")
        page = ann.api("queue", {})["pages"][0]["page"]
        sent = {"content-type": "application/json", "x-csrf": ann.csrf}
        answer = ann.client.post("/api/answers", content=body.replace("PAGE", page), headers=sent)
        assert answer.status_code == status
        assert [r.text for r in store.remarks()] == (["cut \ufffd"] if body == HALF else [])
    finally:
        store.close()


def test_settings_that_are_no_numbers(store, app):
    boss = Person(app, store, "boss", role="owner")
    fine = {"raters": "2", "qualify": "0", "golden_every": "0", "least_informedness": "0", "max_pages": "0"}
    fine |= {"lease_minutes": "60", "refine_from": "0", "csrf": boss.csrf}
    for name, value in (("raters", "9" * 400), ("lease_minutes", "nan"), ("lease_minutes", "1e999")):
        assert boss.client.post("/owner/settings", data=fine | {name: value}).status_code == 422
    assert store.settings().raters == 2


# Files.


@pytest.mark.parametrize(
    "address",
    [
        "/static/x/../app.py",
        "/static/x/..%2f..%2fapp.py",
        "/static/x/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/x//etc/passwd",
        "/static/",
        "/static",
        "/images/",
        "/images/ID/1/../../x",
        "/images/ID/1",
        "/images/ID/1/huge",
        "/images/ID/-1/small",
        "/images/ID/1%2f..%2f1/small",
        "/examples/ID/0/0/small",
        "/examples/ID/0/strip",
        "/examples/ID/0/strip/small",
        "/examples/ID/-1/strip",
        "/images/ID/٣/small",
        "/annotation.sqlite",
        "/.pictures/",
        "/owner/export/..%2fvotes.parquet",
    ],
)
def test_there_is_nothing_beside_what_there_is(tmp_path, address):
    store = Store(f"sqlite:///{tmp_path}/annotation.sqlite")
    try:
        store.fill([ImageQuestions("a", "/etc/passwd", 0, (0,))], [], CampaignSettings(), "source")
        empty = [()]
        app = create_app(
            store,
            ClassList("x", ["a"], ["a"], empty, [""], empty),
            tmp_path,
            title="x",
            callbacks=AppCallbacks(alone=True),
        )
        client = Person(app, store, "boss", role="owner").client
        found = client.get(address.replace("ID", store.campaign_id()))
        assert found.status_code in (404, 422)
        assert b"root:" not in found.content
        there = client.get(f"/images/{store.campaign_id()}/1/small")  # a file that is no image
        assert (there.status_code, there.json()) == (404, {"detail": "The image cannot be decoded."})
    finally:
        store.close()


@pytest.mark.parametrize(
    "uri",
    [
        "reference://x",
        "git://x",
        "ssh://me@host/x",
        "sftp://host/x",
        "local:///etc/passwd",
        "jupyter://x",
        "zip://a.png::http://evil/x.zip",
        "http://a/b::file:///etc/passwd",
        "simplecache::http://a/b",
        "dask://x",
    ],
)
def test_addresses_that_do_more_than_reading_are_refused(uri):
    with pytest.raises(InputError) as raised:
        read_picture(uri)
    assert raised.value.what in (
        "Images cannot be read from this kind of address.",
        "The image does not exist.",
    )


def test_what_only_the_owner_of_the_files_may_read(tmp_path):
    before = os.umask(0o022)
    try:
        store = Store(f"sqlite:///{tmp_path}/a.sqlite")
        store.fill([ImageQuestions("a", "a", 0, (0,))], [], CampaignSettings(), "source")
        Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
        PictureCache(tmp_path / "cache").read(str(tmp_path / "a.png"), "small")
        made = [*tmp_path.glob("a.sqlite*"), *(tmp_path / "cache").rglob("*.jpg")]
        assert len(made) >= 3
        assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}
        store.close()
    finally:
        os.umask(before)


def test_the_number_of_an_image_tells_nothing_of_its_label(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/a.sqlite")
    asked = [ImageQuestions(f"{n:03}.jpg", "a", n // 10, (0,)) for n in range(200)]  # sorted by class
    store.fill(asked, [], CampaignSettings(), "source")
    labels = store.read_all(
        lambda c: c.exec_driver_sql("SELECT label FROM images ORDER BY id").scalars().all()
    )
    store.close()
    near = sum(a == b for a, b in itertools.pairwise(labels))
    assert near < 40  # 180 where they are in order, 9 by chance


# Secrets.


def test_passwords_of_databases_are_told_nowhere(tmp_path, monkeypatch):
    address = "postgresql://me:s3cr3t:w/ith@it@host:54/name"
    assert without_passwords(f"--database={address}") == "--database=postgresql://me:***@host:54/name"
    assert without_passwords("--address=https://a.b:80/c") == "--address=https://a.b:80/c"
    monkeypatch.setattr(sys, "argv", ["manyhot", "export", "c", "--database", address])
    assert call() == "manyhot export c --database 'postgresql://me:***@host:54/name'"
    with pytest.raises(InputError) as raised:
        Store("postgresql://me:s3cr3t@host:port/name")
    assert str(raised.value) == (
        "This is not a valid address of a database.\n  got:     postgresql://me:***@host:port/name\n"
        "  allowed: sqlite:///PATH or postgresql://HOST/NAME"
    )
    assert raised.value.__suppress_context__


def test_logs_hold_no_secrets(store, app, monkeypatch, log_records):
    token = store.invite("ann")

    def fail(*_):
        raise RuntimeError("broken")

    client = TestClient(app, raise_server_exceptions=False)
    logging.getLogger().setLevel(logging.DEBUG)
    client.post(f"/join/{token}")
    session = next(iter(client.cookies.values()))
    monkeypatch.setattr(store, "begin_queue", fail)
    csrf = re.search(r'name="csrf" content="(\w+)"', client.get("/").text)[1]
    assert client.post("/api/queue", json={}, headers={"x-csrf": csrf}).status_code == 500
    client.post("/owner/login", data={"name": "boss", "password": "s3cr3t horse"})
    told = "\n".join(
        record.getMessage() + str(record.exc_info or "")
        for record in log_records
        if not record.name.startswith("httpx")  # of the client of this test
    )
    for secret in (token, session, csrf, "s3cr3t"):
        assert secret not in told


def test_what_is_downloaded_is_no_page(store, tmp_path):
    import pyarrow as pa

    def write(folder):
        pq.write_table(pa.table({"text": ["=1+1"]}), folder / "votes.parquet")
        return [folder / "votes.parquet"]

    empty = [()]
    callbacks = AppCallbacks(export=write, alone=True)
    known = ClassList("x", ["a", "b"], ["a", "b"], empty * 2, [""] * 2, empty * 2)
    client = Person(
        create_app(store, known, tmp_path, title="x", callbacks=callbacks), store, "me", role="owner"
    ).client
    got = client.get("/owner/export/votes.parquet")
    assert got.headers["content-disposition"] == 'attachment; filename="votes.parquet"'
    assert got.headers["cache-control"] == "no-store"
    assert pq.read_table(io.BytesIO(got.content))["text"].to_pylist() == ["=1+1"]
