"""What waits in a browser for long: large batches, laptops that sleep, clocks that are set."""

import pytest

from manyhot.reassess.app.store import pages
from raters_page import make, served, until, visitors

# A laptop that sleeps: the page's clock stands still, that of the machine goes on.
ASLEEP = "{ const now = Date.now; Date.now = () => now() + (window.slept ?? 0); }"
HOUR = 3600e6


@pytest.fixture
def visit(chromium):
    with visitors(chromium, offline=True) as visit:
        yield visit


@pytest.fixture
def campaign(tmp_path):
    with served(make(tmp_path, pages=3)) as campaign:
        yield campaign


def test_much_that_was_written_offline_in_another_script_is_sent(campaign, visit):
    ann = visit(campaign.link())
    ann.settle()
    ann.page.context.set_offline(True)
    said = "猫" * 2000  # three bytes a letter: 14 are more than the 64 kB of a request that outlives its page
    for _ in range(14):
        ann.press("c")
        ann.page.locator("#comment-text").fill(said)
        ann.page.keyboard.press("Enter")
    ann.press("1")
    assert ann.page.inner_text("#saved") == "15 not sent yet"
    ann.page.context.set_offline(False)
    ann.sent()
    assert campaign.rows("SELECT DISTINCT text FROM remarks") == [(said,)]
    assert campaign.rows("SELECT COUNT(*) FROM remarks") == [(14,)]
    assert [*campaign.votes().values()] == [["yes"]]


def test_an_answer_bears_its_time_though_the_laptop_slept(campaign, visit):
    ann = visit(campaign.link(), script=ASLEEP)
    ann.settle()
    ann.press("1")
    ann.sent()
    # The page was opened long ago: nothing is older than that.
    campaign.store._database.write(
        lambda c: c.exec_driver_sql(f"UPDATE visits SET shown_at = shown_at - {5 * HOUR:.0f}")
    )
    ann.page.context.set_offline(True)
    # A request that is still under way when the connection is back would arrive.
    with ann.page.expect_event("requestfailed"):
        ann.press("2")
    ann.page.evaluate("window.slept = 3 * 3600e3")
    ann.press("3")
    ann.page.context.set_offline(False)
    ann.sent()
    first, second, third = (t for (t,) in campaign.rows("SELECT answered_at FROM votes ORDER BY id"))
    assert third - second == pytest.approx(3 * HOUR, abs=60e6)
    assert first - second == pytest.approx(3 * HOUR, abs=60e6)


def test_who_comes_back_to_a_laptop_that_slept_sees_what_was_decided_meanwhile(campaign, visit):
    ann = visit(campaign.link(), script=ASLEEP)
    ann.settle()
    ann.press("Enter")
    ann.sent()
    hide = """(hidden) => {
        Object.defineProperty(document, "hidden", { configurable: true, value: hidden });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    asked = []
    ann.page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    for slept, times in ((60e3, 0), (3600e3, 1)):
        asked.clear()
        ann.page.evaluate(hide, True)
        ann.page.evaluate(f"window.slept = (window.slept ?? 0) + {slept}")
        ann.page.evaluate(hide, False)
        ann.page.wait_for_timeout(400)
        assert asked.count("queue") == times


def test_a_clock_that_is_set_by_a_day_while_answers_wait(campaign, visit):
    ann = visit(campaign.link(), script=ASLEEP)
    ann.settle()
    for day in (86400e3, -86400e3):
        ann.page.context.set_offline(True)
        ann.press("1")
        ann.page.evaluate(f"window.slept = (window.slept ?? 0) + {day}")
        ann.press("1", "Shift+Digit1")
        ann.page.context.set_offline(False)
        ann.sent()
    assert [*campaign.votes().values()] == [["yes", "no", "maybe", "yes", "no", "maybe"]]
    # None was given before its page was opened, none after it came.
    assert campaign.rows(
        "SELECT COUNT(*) FROM votes v JOIN visits s ON s.id = v.visit_id WHERE v.answered_at < s.shown_at"
    ) == [(0,)]
    ann.press("Enter")
    ann.sent()
    until(lambda: len(campaign.votes()) == 3)


@pytest.mark.parametrize(
    ("stopped_for", "said"),
    [
        ("too fast", "You answered faster than this campaign allows."),
        ("golden pages", "Your answers to the latest test images differ too much from the experts' answers."),
        (None, "The owner of the campaign has ended your participation."),
    ],
)
def test_who_is_stopped_reads_why(campaign, visit, stopped_for, said):
    ann = visit(campaign.link())
    ann.settle()
    (rater,) = (r for r in campaign.store.raters() if not r.is_owner)
    campaign.store._database.write(lambda c: pages.stop(c, rater.id, stopped_for))
    ann.page.reload()
    until(lambda: ann.page.inner_text("#reason").startswith(said))
    assert "write to the person who sent you your link" in ann.page.inner_text("#reason")
    assert ann.page.inner_text("#empty-title") == "Stopped"
    assert ann.page.inner_text("#progress-text") == "0 of 0"
