"""The page in forced colours, at 200 %, on a phone on its side; and where the focus goes."""

import pytest

from raters_page import answer_all, make, served, visitors

DESK_AT_200 = {"viewport": {"width": 640, "height": 400}, "device_scale_factor": 2}
LYING_PHONE = {"viewport": {"width": 844, "height": 390}, "is_mobile": True, "has_touch": True}
FOCUS = "document.activeElement.id || document.activeElement.className"


@pytest.fixture
def visit(chromium):
    with visitors(chromium) as visit:
        yield visit


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    folder = tmp_path_factory.mktemp("campaign")
    with served(make(folder, pages=4, classes=range(8), examples=8, raters=20)) as campaign:
        yield campaign


@pytest.mark.parametrize("options", [DESK_AT_200, LYING_PHONE], ids=["200 %", "lying phone"])
def test_where_it_is_low_the_image_stands_beside_the_classes(campaign, visit, options):
    ann = visit(campaign.link(f"low {options['viewport']['width']}"), **options)
    ann.settle()
    ann.press("Enter")  # the hint is gone
    ann.settle()
    covered = """(selector) => [...document.querySelectorAll(selector)].filter((e) => {
        const box = e.getBoundingClientRect();
        return !e.parentElement.contains(document.elementFromPoint(box.left + box.width / 2, box.top + 4));
    }).length"""
    for index in range(8):
        ann.press("y")
        assert ann.page.evaluate(covered, "#frame > img, .marked .name") == 0, index
    image, row = (ann.page.locator(s).bounding_box() for s in ("#frame", ".marked .answers"))
    assert image["x"] + image["width"] <= row["x"]
    assert image["y"] + image["height"] <= ann.page.locator(".actions").bounding_box()["y"]
    assert ann.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_in_forced_colours_what_is_chosen_is_seen(campaign, visit):
    ann = visit(campaign.link("forced"), forced_colors="active")
    ann.settle()
    ann.press("1", "s", "ArrowDown")
    look = """(e) => {
        const style = getComputedStyle(e);
        return [style.backgroundColor, style.color, style.outlineStyle].join();
    }"""

    def looks(selector):
        found = ann.page.locator(selector)
        return found.evaluate_all(f"all => all.map({look})")

    yes, others = looks(".answers input:checked + span"), looks(".answers input:not(:checked) + span")
    assert not {*yes} & {*others}
    assert not {*looks(".main[aria-pressed=true]")} & {*looks(".main[aria-pressed=false]")}
    assert not {*looks("#classes > li.marked")} & {*looks("#classes > li:not(.marked)")}
    ann.press("a")
    ann.page.keyboard.type("fish")
    ann.page.get_by_role("option", name="goldfish").wait_for()
    assert not {*looks("[role=option][aria-selected=true]")} & {*looks("[role=option][aria-selected=false]")}


def test_the_focus_goes_to_the_examples_and_back(campaign, visit):
    ann = visit(campaign.link("focus"))
    ann.settle()
    first = ann.names[0]
    ann.press("e")
    assert ann.page.evaluate(FOCUS) == "enlarged"
    assert ann.page.get_by_role("region", name=f"1 {first}", exact=True).is_visible()
    # What is covered is reached neither by Tab nor by a screen reader.
    ann.page.keyboard.press("Tab")
    assert ann.page.evaluate(FOCUS) == "enlarged-close"
    tree = ann.page.context.new_cdp_session(ann.page).send("Accessibility.getFullAXTree")["nodes"]
    roles = [node["role"]["value"] for node in tree if not node["ignored"]]
    assert (roles.count("radio"), roles.count("image")) == (0, 1 + 8)
    ann.page.keyboard.press("Enter")
    assert not ann.page.locator("#enlarged").is_visible()
    assert ann.page.evaluate(FOCUS) == "questions"
    ann.press("e", "e")
    assert ann.page.evaluate(FOCUS) == "questions"
    ann.row(0).locator(".main").focus()
    ann.page.keyboard.press("Tab")
    assert ann.page.evaluate(FOCUS) == "examples"
    ann.page.keyboard.press("Enter")
    assert ann.page.evaluate(FOCUS) == "enlarged"
    ann.page.keyboard.press("Escape")
    assert ann.page.evaluate(FOCUS) == "examples"
    ann.page.locator("#questions").focus()
    ann.press("e", "Enter")  # the next image
    ann.settle()
    assert (ann.page.locator("#enlarged").is_visible(), ann.page.evaluate(FOCUS)) == (False, "questions")


def test_undoing_a_first_answer_says_what_becomes_of_it(campaign, visit):
    ann = visit(campaign.link("undo"))
    ann.settle()
    ann.press("1", "1", "u")
    assert ann.page.inner_text("#say") == "Undone."
    ann.press("u")
    assert ann.answers()[0] == ""
    assert ann.page.inner_text("#say") == "Undone. Classes without an answer count as no."
    ann.sent()
    ann.page.reload()  # it is what it counts as
    ann.settle()
    assert ann.answers()[0] == "no"


def test_the_focus_is_not_lost_with_a_notice(tmp_path, chromium):
    campaign = make(tmp_path, pages=2)
    with served(campaign), visitors(chromium) as visit:
        ann = visit(campaign.link())
        ann.settle()
        campaign.store.stop(next(r.id for r in campaign.store.raters() if r.name == "ann"))
        ann.press("1")
        ann.page.get_by_role("button", name="Dismiss").focus()
        ann.page.keyboard.press("Enter")
        assert ann.page.evaluate(FOCUS) == "questions"
        assert ann.page.inner_text("#refused") == ""


@pytest.mark.parametrize("width", [1280, 390])
def test_decisions_fit_the_page_with_their_examples(tmp_path, chromium, width):
    campaign = make(tmp_path, pages=1, classes=range(8), examples=8, raters=2)
    with served(campaign), visitors(chromium) as visit:
        for name, yes in (("ann", {0, 1}), ("bob", {2})):
            answer_all(campaign.store, name, yes)
        cem = visit(campaign.link("cem", refines=True), viewport={"width": width, "height": 844})
        cem.page.get_by_role("heading", name="All done").wait_for()
        cem.page.goto(campaign.address + "/refine")
        heights = cem.page.eval_on_selector_all(
            "fieldset", "all => all.map(e => e.getBoundingClientRect().height)"
        )
        assert len(heights) == 8
        assert max(heights) < 330
        assert cem.page.evaluate("document.documentElement.scrollWidth") <= width
        cem.page.keyboard.press("Numpad1")
        cem.page.keyboard.press("2")
        cem.page.keyboard.down("2")  # held: once
        assert cem.page.locator("input[value=yes]:checked").count() == 1


def test_keys_of_other_keyboards(campaign, visit):
    ann = visit(campaign.link("keys"))
    ann.settle()

    def press(key, code, **more):
        ann.page.evaluate(
            "([key, code, more]) => document.dispatchEvent("
            "new KeyboardEvent('keydown', { key, code, cancelable: true, ...more }))",
            [key, code, more],
        )

    press("&", "Digit1")  # French
    press("2", "Digit2", shiftKey=True)
    assert ann.answers()[:3] == ["yes", "maybe", ""]
    press("\u043d", "KeyY")  # Russian; the mark is on the class that was answered last
    assert ann.answers()[:3] == ["yes", "yes", ""]
    press("ArrowDown", "Numpad2")  # without NumLock
    press("ArrowUp", "Numpad8")
    press("n", "KeyN")
    assert ann.answers() == ["yes", "yes", "no"] + [""] * 5
    press("8", "Numpad8")
    assert ann.answers()[7] == "yes"
    image = ann.image
    ann.settle()
    press("\u00e0", "Digit0")  # French
    ann.until(f"document.querySelector('#frame > img').getAttribute('src') !== '{image}'")
