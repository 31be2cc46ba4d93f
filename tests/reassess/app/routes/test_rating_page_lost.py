"""Nothing is lost between the rater and the database, whatever breaks on the way."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi import HTTPException

from raters_page import make, served, until, visitors

HERE = Path(__file__).parents[3] / "helpers"
FORBIDDEN = "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };"
# Each look at the clock is a minute before the last one.
BACKWARDS = "{ let t = Date.now(); Date.now = () => (t -= 60_000); }"


@pytest.fixture
def visit(chromium):
    with visitors(chromium, offline=True) as visit:
        yield visit


@pytest.fixture
def campaign(tmp_path):
    with served(make(tmp_path, pages=8)) as campaign:
        yield campaign


def finish(rater, campaign, pages=8):
    """Answer what is left, yes to the first class of each page."""
    for _ in range(pages + 1):
        rater.until(
            "!document.getElementById('page').hidden"
            " || document.getElementById('empty-title').textContent === 'All done'"
        )
        if rater.page.locator("#empty").is_visible():
            break
        rater.press("1", "Enter")
    rater.sent()
    votes = campaign.votes()
    assert len(votes) == 3 * pages
    assert {len(answers) for answers in votes.values()} == {1}  # none lost, none double
    assert sum(answers == ["yes"] for answers in votes.values()) == pages
    assert campaign.rows("SELECT count(*) FROM visits WHERE state != 'done'") == [(0,)]


def test_offline_in_the_middle(campaign, visit):
    ann = visit(campaign.link())
    ann.press("1", "Enter")
    ann.sent()
    ann.look_ahead()
    before = campaign.votes()
    ann.page.context.set_offline(True)
    for _ in range(3):
        ann.press("1", "Enter")
    ann.page.get_by_text("No connection.").first.wait_for()
    assert ann.page.inner_text("#saved") == "9 not sent yet"
    assert campaign.votes() == before
    ann.page.context.set_offline(False)
    finish(ann, campaign)
    assert not ann.page.locator("#trouble").is_visible()


def test_the_tab_is_closed_while_offline(campaign, visit):
    ann = visit(campaign.link())
    ann.look_ahead()
    context = ann.page.context
    context.set_offline(True)
    ann.press("1", "Enter", "1")
    ann.page.close()
    context.set_offline(False)
    again = visit(campaign.address, context=context, begin=False)
    again.settle()
    again.sent()
    assert sorted(v for [v] in campaign.votes().values()) == ["no", "no", "yes", "yes"]
    assert again.answers() == ["yes", "", ""]
    again.press("Enter")
    finish(again, campaign)


def test_two_tabs_of_one_rater(campaign, visit):
    ann = visit(campaign.link())
    ann.settle()
    other = visit(campaign.address, context=ann.page.context, begin=False)
    other.settle()
    assert other.image == ann.image
    # What is answered in one is seen in the other, and not asked again.
    ann.press("1")
    other.until("document.querySelector('#classes > li').dataset.answer === 'yes'")
    ann.press("Enter")
    for _ in range(7):
        for tab in (ann, other):
            tab.page.bring_to_front()
            if tab.page.locator("#page").is_visible():
                tab.settle()
                if tab.answers() == ["", "", ""]:
                    tab.press("1")
                tab.press("Enter")
    finish(ann, campaign)


@pytest.mark.slow
def test_kill_and_restart_in_the_middle(tmp_path, visit):
    campaign = make(tmp_path, pages=8)
    link = campaign.store.invite("ann")
    campaign.store.close()

    def serve(port):
        process = subprocess.Popen(
            [sys.executable, HERE / "raters_page.py", tmp_path, str(port)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
        )
        return process, process.stdout.readline().strip()

    server, campaign.address = serve(0)
    try:
        ann = visit(f"{campaign.address}/join/{link}")
        ann.look_ahead()
        ann.press("1", "Enter")
        for kills in range(2):
            ann.press("1")
            server.send_signal(signal.SIGKILL)
            ann.press("Enter")
            if kills:
                ann.press("1", "Enter")
            ann.page.get_by_text("kept in this browser").first.wait_for()
            server.communicate()
            server, again = serve(campaign.address.rpartition(":")[2])
            assert again == campaign.address
            ann.sent()
        finish(ann, campaign)
    finally:
        server.kill()
        server.communicate()


def failing(page, times, **answer):
    """Let the next requests with answers fail, after the server has stored them or before."""
    left = [times]

    def handle(route):
        if not left[0]:
            route.continue_()
            return
        left[0] -= 1
        if answer.pop("stored", False):
            route.fetch()
        route.fulfill(**answer) if answer else route.abort()

    page.route("**/api/answers", handle)


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 500, "body": "oh"},
        {"status": 502, "body": "<html>gateway</html>"},
        {"status": 200, "body": "<html>the hotel's login</html>", "content_type": "text/html"},
        {"status": 200, "body": "{}", "content_type": "application/json"},
        {"status": 429, "body": '{"detail": "slow"}', "headers": {"retry-after": "1"}},
        {"stored": True, "status": 504, "body": "too late"},
    ],
    ids=["500", "gateway", "portal", "empty", "busy", "answer lost"],
)
def test_the_server_fails_for_a_while(tmp_path, visit, answer):
    with served(make(tmp_path, pages=2)) as campaign:
        ann = visit(campaign.link())
        ann.settle()
        failing(ann.page, 2, **answer)
        ann.press("1")
        ann.page.get_by_text("kept in this browser").first.wait_for()
        assert ann.page.inner_text("#saved") == "1 not sent yet"
        ann.press("Enter")
        finish(ann, campaign, 2)
        assert not ann.page.locator("#trouble").is_visible()


def test_images_asked_for_while_the_server_was_away_come_when_it_is_back(campaign, visit):
    ann = visit(campaign.link(), begin=False)
    came = []

    def first_alone(route):
        route.abort() if came else route.continue_()
        came.append(route.request.url)

    ann.page.route("**/large*", first_alone)
    ann.page.get_by_role("button", name="Begin").click()
    ann.settle()
    # Handlers of routes run only while Playwright waits.
    until(lambda: ann.page.wait_for_timeout(20) or len(came) > 1)
    ann.page.route("**/api/*", lambda route: route.abort())
    ann.press("1", "Enter")
    ann.page.get_by_text("The image cannot be shown.").wait_for()
    ann.page.unroute_all()
    finish(ann, campaign)


def test_what_waits_is_laid_over_what_the_server_knows(campaign, visit, monkeypatch):
    ann = visit(campaign.link())
    ann.settle()
    works = campaign.store.begin_store

    def fails(*_):
        raise HTTPException(503, "no disk")

    monkeypatch.setattr(campaign.store, "begin_store", fails)
    done = ann.image
    ann.press("1", "Enter", "1")
    begun = ann.image
    ann.page.get_by_text("kept in this browser").first.wait_for()
    ann.page.reload()
    ann.settle()
    assert campaign.votes() == {}
    assert (ann.image, ann.answers()) == (begun, ["yes", "", ""])
    assert ann.image != done
    assert ann.page.inner_text("#saved") == "4 not sent yet"
    monkeypatch.setattr(campaign.store, "begin_store", works)
    ann.press("Enter")
    finish(ann, campaign)


@pytest.mark.parametrize("status", [409, 413, 422])
def test_one_answer_that_the_server_does_not_take_holds_up_no_other(tmp_path, visit, status):
    with served(make(tmp_path, pages=1)) as campaign:
        ann = visit(campaign.link())
        ann.settle()
        hated = ann.number(1)

        def handle(route):
            if '"class_id":1,' in route.request.post_data:
                route.fulfill(status=status, json={"detail": "not this one"})
            else:
                route.continue_()

        ann.page.route("**/api/answers", handle)
        ann.press(hated, "Enter")
        ann.page.get_by_text("An answer was not stored: not this one.").wait_for()
        ann.sent()
        until(lambda: len(campaign.votes()) == 2)
        assert all(class_id != 1 for _, class_id in campaign.votes())
        ann.page.get_by_role("button", name="Dismiss").click()
        assert ann.page.inner_text("#refused") == ""


def test_refused_answers_are_told_and_not_sent_for_ever(campaign, visit):
    ann = visit(campaign.link())
    ann.settle()
    asked = []
    ann.page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    (who,) = (r for r in campaign.store.raters() if r.name == "ann")
    campaign.store.stop(who.id)
    ann.press("1")
    ann.page.get_by_text("An answer was not stored: you were asked to stop.").wait_for()
    ann.sent()
    ann.press("Enter")
    ann.page.get_by_text("3 answers were not stored: you were asked to stop.").wait_for()
    ann.page.wait_for_timeout(500)
    assert asked.count("answers") <= 3
    assert campaign.votes() == {}


def test_closing_keeps_what_waits(campaign, visit):
    ann = visit(campaign.link())
    ann.look_ahead()
    ann.page.context.set_offline(True)
    ann.press("1", "Enter")
    ann.page.get_by_text("No connection.").first.wait_for()
    campaign.store.change_settings(state="closed")
    ann.page.context.set_offline(False)
    ann.page.get_by_text("Answers that have not been sent yet are kept in this browser").first.wait_for()
    assert ann.page.inner_text("#saved") == "3 not sent yet"
    assert campaign.votes() == {}
    campaign.store.change_settings(state="running")
    ann.page.evaluate("dispatchEvent(new Event('online'))")
    finish(ann, campaign)
    assert ann.page.inner_text("#refused") == ""


def test_each_browser_has_a_name_in_its_keys(campaign, visit):
    link = campaign.link()
    ann = visit(link)
    ann.press("1", "Enter", "2")
    ann.sent()
    other = visit(link)  # another browser
    other.settle()
    other.press("3")
    other.sent()
    keys = [key for (key,) in campaign.rows("SELECT key FROM votes ORDER BY id")]
    assert all(len(name) == 10 for name, _, _ in (key.partition("-") for key in keys))
    assert len({key.partition("-")[0] for key in keys}) == 2


def test_the_session_is_gone_and_comes_back_in_another_tab(campaign, visit):
    link = campaign.link()
    ann = visit(link)
    ann.look_ahead()
    ann.page.context.clear_cookies()
    ann.press("1", "Enter", "1")
    ann.page.get_by_text("Open your invitation link again in this browser").first.wait_for()
    assert ann.page.inner_text("#saved") == "4 not sent yet"
    assert campaign.votes() == {}
    other = visit(link, context=ann.page.context)
    other.settle()
    ann.sent()
    until(lambda: len(campaign.votes()) == 4)
    ann.until("document.getElementById('trouble').hidden")
    ann.page.bring_to_front()
    ann.press("Enter")
    finish(ann, campaign)


def test_another_rater_of_the_browser_sends_nothing_in_this_ones_name(campaign, visit):
    ann = visit(campaign.link("ann"))
    ann.settle()
    bob = visit(campaign.link("bob"), context=ann.page.context)
    bob.settle()
    ann.page.bring_to_front()
    ann.press("1")
    ann.page.get_by_text("opened in another tab").first.wait_for()
    assert campaign.votes() == {}
    back = visit(campaign.link("ann"), context=ann.page.context)
    back.settle()
    until(lambda: len(campaign.votes()) == 1)
    names = "SELECT r.name FROM votes v JOIN raters r ON r.id = v.rater_id"
    assert campaign.rows(names) == [("ann",)]


def test_storage_is_full_or_forbidden(campaign, visit):
    ann = visit(campaign.link(), script=FORBIDDEN)
    ann.look_ahead()
    ann.page.context.set_offline(True)
    ann.press("1", "Enter")
    ann.page.get_by_text("This browser cannot save answers that have not been sent yet").wait_for()
    assert ann.page.inner_text("#saved") == "3 not sent yet"
    ann.page.context.set_offline(False)
    finish(ann, campaign)


def test_a_clock_that_runs_backwards(campaign, visit):
    ann = visit(campaign.link(), script=BACKWARDS)
    ann.settle()
    ann.page.context.set_offline(True)
    ann.press("1", "1", "Shift+Digit1", "2", "2")
    ann.page.context.set_offline(False)
    ann.sent()
    assert sorted(campaign.votes().values()) == [["yes", "no"], ["yes", "no", "maybe"]]
    times = campaign.rows(
        "SELECT v.answered_at - s.shown_at, v.answered_at FROM votes v JOIN visits s ON s.id = v.visit_id"
    )
    assert all(0 <= after < 60e6 for after, _ in times)


def test_answers_from_before_the_connection_came_back_bear_their_own_times(campaign, visit):
    ann = visit(campaign.link())
    ann.settle()
    ann.page.context.set_offline(True)
    ann.press("1")
    ann.page.wait_for_timeout(1500)
    ann.press("2")
    ann.page.context.set_offline(False)
    ann.sent()
    ((first, shown), (second, _)) = campaign.rows(
        "SELECT v.answered_at, s.shown_at FROM votes v JOIN visits s ON s.id = v.visit_id ORDER BY v.id"
    )
    assert 1.4e6 < second - first < 5e6
    assert 0.2e6 < first - shown < 5e6


@pytest.mark.parametrize("comes_again", [False, True])
def test_a_reload_without_a_connection(campaign, visit, comes_again):
    ann = visit(campaign.link())
    ann.look_ahead()
    ann.page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    if comes_again:
        ann.page.reload()
        ann.look_ahead()
    ann.press("1", "Enter")
    ann.sent()
    ann.look_ahead()
    ann.page.context.set_offline(True)
    ann.press("1", "Enter", "2")
    ann.page.reload()
    ann.settle()
    assert ann.page.inner_text("#saved") == "4 not sent yet"
    assert ann.answers() == ["", "yes", ""]
    ann.press("1", "Enter")
    assert "No connection" in ann.page.inner_text("#trouble")
    ann.page.context.set_offline(False)
    ann.until("document.getElementById('saved').textContent === 'All sent'")
    votes = campaign.votes()
    assert len(votes) == 9
    ann.page.get_by_role("button", name="Help and shortcuts").click()
    ann.page.get_by_role("button", name="Log out").click()
    ann.page.get_by_text("Open your invitation link to continue.").wait_for()
    ann.page.context.set_offline(True)
    with pytest.raises(Exception, match="ERR_"):
        ann.page.reload()
