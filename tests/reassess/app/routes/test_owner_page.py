"""The owner's pages in a real browser: from the first link to a decision, and how they look and sound."""

from importlib.util import find_spec

import pytest

from raters_page import NAMES, answer_all, make, served, visitors

PASSWORD = "correct horse"
PAGES = ("/owner", "/owner/disagreements", "/owner/remarks", "/refine", "/owner/login")


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    with served(make(tmp_path_factory.mktemp("owner"), pages=3, classes=(0, 1, 6), raters=2)) as campaign:
        for name, yes in (("ann", {0, 6}), ("<b>bob</b>", {0})):
            answer_all(campaign.store, name, yes)
        yield campaign


@pytest.fixture(scope="module")
def owner(campaign, chromium):
    """Return a page of an owner's browser, after the password was chosen; what is hostile never runs."""
    with visitors(chromium) as visit:
        page = visit(campaign.link("owner", role="owner"), begin=False).page
        page.wait_for_selector("[name=password]:focus")  # browsers focus it a little after the page is there
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Tab")
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url("**/owner")
        yield page
        assert page.evaluate("window.hit") is None


def look(page, campaign, path):
    page.goto(campaign.address + path)
    return page


def test_what_the_owner_sees(owner, campaign):
    look(owner, campaign, "/owner")
    assert owner.inner_text(".big >> nth=0") == "3 of 3 pages"
    rows = owner.locator(".people tbody tr")
    assert [rows.nth(n).locator("th").inner_text().strip() for n in range(2)] == ["<b>bob</b>", "ann"]
    look(owner, campaign, "/owner/disagreements")
    assert owner.locator(".disputes li").count() == 3
    assert owner.inner_text(".disputes tbody tr >> nth=0").split("\t")[1:] == ["1", "0", "1"]


def test_a_decision_by_keys_and_what_became_of_it(owner, campaign):
    look(owner, campaign, "/refine")
    asked = owner.locator("fieldset.asked")
    assert asked.count() == 1
    assert NAMES[6] in asked.locator("legend").inner_text()
    assert asked.locator(".said-by").inner_text().split() == ["A", "yes", "B", "no"]
    owner.keyboard.press("1")
    owner.keyboard.press("1")  # again: no
    with owner.expect_navigation():
        owner.keyboard.press("Enter")
    assert owner.inner_text("header .muted") == "2 to decide"
    with owner.expect_navigation():
        owner.click("text=Change your last decision")
    assert owner.locator("input[value=no]").is_checked()
    owner.keyboard.press("Shift+1")
    with owner.expect_navigation():
        owner.keyboard.press("Enter")
    decided = campaign.rows(
        "SELECT v.answer FROM votes v JOIN visits s ON s.id = v.visit_id WHERE s.round = 1 ORDER BY v.id"
    )
    assert decided == [(0,), (1,)]


def test_a_decision_is_not_sent_without_an_answer(owner, campaign):
    before = campaign.rows("SELECT COUNT(*) FROM votes")
    look(owner, campaign, "/refine")
    owner.keyboard.press("Enter")
    owner.wait_for_timeout(200)
    assert owner.url.endswith("/refine")
    assert campaign.rows("SELECT COUNT(*) FROM votes") == before


def test_enter_makes_the_rest_no_and_zero_is_none(chromium, tmp_path):
    with served(make(tmp_path, pages=2, classes=(0, 1, 6), raters=2)) as campaign:
        for name, yes in (("ann", {0, 6}), ("bob", {1})):
            answer_all(campaign.store, name, yes)
        with visitors(chromium) as visit:
            cem = visit(campaign.link("cem", refines=True)).page
            look(cem, campaign, "/refine")
            legends = cem.locator("fieldset.asked legend").all_inner_texts()
            cem.keyboard.press("2")
            with cem.expect_navigation():
                cem.keyboard.press("Enter")
            with cem.expect_navigation():
                cem.keyboard.press("0")
            cem.get_by_text("There is nothing to decide now").wait_for()
        decided = campaign.rows(
            "SELECT q.class_id, v.answer FROM votes v JOIN questions q ON q.id = v.question_id"
            " JOIN visits s ON s.id = v.visit_id WHERE s.round = 1 ORDER BY v.id"
        )
    assert sorted(answer for _, answer in decided[:3]) == [0, 0, 2]
    assert [answer for _, answer in decided[3:]] == [0, 0, 0]
    (yes,) = [NAMES[class_id] for class_id, answer in decided if answer == 2]
    assert legends[1].startswith(f"2 {yes}")


def test_invite_pause_and_the_rater_sees_it(owner, campaign, chromium):
    look(owner, campaign, "/owner")
    owner.fill("textarea[name=names]", "cem")
    owner.get_by_role("button", name="Create links", exact=True).click()
    link = owner.inner_text(".links code")
    with visitors(chromium) as visit:
        guest = visit(link).page
        guest.wait_for_selector("#empty:visible")  # two raters have answered all
        look(owner, campaign, "/owner")
        owner.fill("input[name=raters]", "3")
        owner.get_by_role("button", name="Save").last.click()
        owner.get_by_role("button", name="Pause", exact=True).click()
        assert "paused" in owner.inner_text(".state")
        guest.reload()
        guest.wait_for_selector("text=paused")
        owner.get_by_role("button", name="Resume", exact=True).click()
        guest.reload()
        guest.wait_for_selector("#classes li")
        look(owner, campaign, "/owner")
        owner.click("tr:has-text('cem') summary")
        owner.click("tr:has-text('cem') >> text=Revoke link")
        assert "revoked" in owner.inner_text("tr:has-text('cem') th")


@pytest.mark.slow
def test_numbers_come_by_themselves(owner, campaign):
    campaign.store.change_settings(raters=4)
    look(owner, campaign, "/owner")
    before = owner.inner_text("#status")
    answer_all(campaign.store, "dan", {0})
    owner.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    owner.wait_for_function(
        "before => document.getElementById('status').innerText !== before", arg=before, timeout=15000
    )


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_no_barriers_and_nothing_beyond_the_edge(owner, campaign, require, path, scheme, width):
    package = "axe_playwright_python"
    require(find_spec(package), "axe, to look for barriers with (pip install axe-playwright-python)")
    from axe_playwright_python.sync_playwright import Axe

    owner.set_viewport_size({"width": width, "height": 844})
    owner.emulate_media(color_scheme=scheme)
    look(owner, campaign, path)
    found = [
        (v["id"], [n["html"][:150] for n in v["nodes"]]) for v in Axe().run(owner).response["violations"]
    ]
    assert found == []
    assert owner.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_everything_works(campaign, chromium):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(campaign.address + "/owner/login")
    page.fill("[name=name]", "owner")
    page.fill("[name=password]", PASSWORD)
    page.click("button")
    page.goto(campaign.address + "/refine")
    page.check("input[value=yes]")
    page.get_by_role("button", name="Decide", exact=True).click()
    page.get_by_role("link", name="Campaign").click()
    page.get_by_role("button", name="Pause", exact=True).click()
    page.get_by_role("button", name="Resume", exact=True).click()
    assert "running" in page.inner_text(".state")
    context.close()
